"When to train again: counts, drift and quality, and a next version whose old samples stay in their splits"

import uuid
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.datasets.diff import ks_distance
from astrid_data.datasets.growth import (
    as_of,
    chance_gap,
    collect_since,
    identity,
    new_labels,
    nuisance_gaps,
    should_retrain,
)
from astrid_data.registry.tables import LabelEvent, add_validation_event

pytestmark = pytest.mark.filterwarnings('ignore')


def first_version(home):
    "An archive of two pretend fields and a version of it"
    archive = ad.synthetic_archive(home, n_observations=4, n_sources=20)
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 1})
    return archive, ad.TrainingDataCollector(archive).plan(params, progress=False).build(
        'watch', patch_size=16, progress=False, probe=False
    )


@pytest.fixture(scope='module')
def quiet(tmp_path_factory):
    return first_version(tmp_path_factory.mktemp('quiet'))[1]  # Nothing is added to this one


@pytest.fixture
def growing(tmp_path):
    return first_version(tmp_path)


def signal(advice, name):
    return advice.signals.set_index('signal').loc[name]


def fresh(dataset, quality=1.0, **columns):
    "What a later version would hold: the old samples, and as many of new detections, with some columns changed"
    new = dataset.samples.assign(
        sample_key=[uuid.uuid4().hex for _ in range(len(dataset))],
        detection_id=[str(uuid.uuid4()) for _ in range(len(dataset))],
        **columns,
    )
    return SimpleNamespace(
        samples=pd.concat([dataset.samples, new], ignore_index=True),
        manifest=dict(quality_score=quality),
    )


# --- the numbers

numbers = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@given(numbers, numbers)
def test_the_gap_is_that_of_kolmogorov_and_smirnov(a, b):
    assert ks_distance(a, b) == pytest.approx(ks_2samp(a, b).statistic)


def test_what_is_not_finite_has_no_place_in_a_gap():
    assert (
        ks_distance([1, 2, np.nan], [np.inf, 1, 2]) == 0
        and np.isnan(ks_distance([np.nan], [1]))
        and np.isnan(chance_gap(0, 3))
    )


def test_chance_alone_rarely_exceeds_its_gap_in_many_comparisons():
    rng, k = np.random.default_rng(0), 8
    alarms = [
        max(ks_distance(*rng.normal(size=(2, 100))) for _ in range(k)) > chance_gap(100, 100, k)
        for _ in range(300)
    ]
    assert np.mean(alarms) < 0.03 and chance_gap(100, 100, k) > chance_gap(100, 100)


# --- the advice


def test_nothing_new_is_no_reason_and_what_was_not_measured_says_so(quiet):
    advice = should_retrain(quiet)
    assert not advice.retrain and advice.signals['says'].tolist() == [
        'no',
        'no',
        'not measured',
        'not measured',
        'not measured',
    ]
    assert (
        advice.signals['value'].tolist()[2:] == [None] * 3
        and all(advice.signals['reason'])
        and 'do not train again' in repr(advice)
    )


def test_new_verdicts_are_counted_wherever_they_are_given(growing):
    archive, dataset = growing
    assert new_labels(dataset) == 0
    with archive.session() as s:
        for d in dataset.samples['detection_id'].dropna().unique()[:4]:
            add_validation_event(s, d, 'vera', is_valid=True)
        s.add(
            LabelEvent(
                dataset_id=uuid.UUID(dataset.id),
                sample_key=dataset.samples['sample_key'][0],
                labeller='vera',
                is_real=True,
            )
        )
    assert new_labels(dataset) == 5 and new_labels(dataset, as_of(dataset) + timedelta(days=1)) == 0
    share = 5 / len(dataset)
    s = signal(should_retrain(dataset, more_labels=share * 0.99), 'new labels')
    assert (
        s['value'] == pytest.approx(share)
        and s['says'] == 'yes'
        and s['reason'].startswith('5 verdicts')
    )
    assert (
        signal(should_retrain(dataset, more_labels=share), 'new labels')['says'] == 'no'
    )  # Not more than asked for


def test_changed_labels_are_counted_by_detection(growing):
    archive, dataset = growing
    real = dataset.samples[dataset.samples['kind'] == 'positive']['detection_id'].to_numpy()
    with archive.session() as s:
        for d in real[:3]:
            add_validation_event(s, d, 'vera', is_valid=False, confidence_level='expert')
        for d in real[3:6]:
            add_validation_event(
                s, d, 'vera', is_valid=True, confidence_level='expert'
            )  # They say what was known
    advice = should_retrain(dataset, more_labels=1.0)
    s = signal(advice, 'changed labels')
    assert s['reason'].startswith('3 of ') and s['says'] == 'yes' and advice.retrain
    assert not should_retrain(dataset, more_labels=1.0, changed=0.5).retrain


def test_a_nuisance_that_has_moved_is_named(quiet):
    still = should_retrain(quiet, newer=fresh(quiet))
    assert signal(still, 'nuisances')['says'] == 'no' and not still.retrain
    moved = should_retrain(
        quiet, newer=fresh(quiet, image_background=quiet.samples['image_background'] + 1000)
    )
    s = signal(moved, 'nuisances')
    assert (
        moved.retrain
        and s['says'] == 'yes'
        and s['value'] == 1
        and s['reason'].startswith('image_background has moved by a gap of 1.00')
    )


def test_a_drift_within_chance_does_not_count(quiet):
    few = fresh(quiet, image_background=quiet.samples['image_background'] + 1000)
    few.samples = few.samples.iloc[: len(quiet) + 2]  # Two new samples prove nothing
    s = signal(should_retrain(quiet, newer=few), 'nuisances')
    assert s['value'] == 1 and s['threshold'] > 1 and s['says'] == 'no'


def test_time_is_no_drift(quiet):
    late = fresh(quiet, mjd=quiet.samples['mjd'] + 500).samples.iloc[len(quiet) :]
    assert not [
        k for k in nuisance_gaps(quiet.samples, late).index if k == 'mjd' or 'observation_key' in k
    ]


def test_scores_drift_or_are_not_measured(quiet):
    rng = np.random.default_rng(0)
    then, same, other = rng.beta(2, 2, 400), rng.beta(2, 2, 300), rng.beta(2, 5, 300)
    assert [
        signal(should_retrain(quiet, scores=then, recent_scores=r), 'scores')['says']
        for r in (same, other, None, [])
    ] == ['no', 'yes', 'not measured', 'not measured']
    assert should_retrain(quiet, scores=then, recent_scores=other).retrain


def test_poor_quality_is_a_brake(quiet):
    rng = np.random.default_rng(0)
    drifted = dict(scores=rng.beta(2, 2, 400), recent_scores=rng.beta(2, 5, 400))
    good, poor = (
        should_retrain(quiet, newer=fresh(quiet, quality=q), quality=0.8, **drifted)
        for q in (0.8, 0.79)
    )
    assert (
        (good.retrain, poor.retrain) == (True, False)
        and signal(poor, 'quality')['says'] == 'stop'
        and '0.790, asked for is 0.800' in signal(poor, 'quality')['reason']
    )
    assert (
        signal(should_retrain(quiet, newer=fresh(quiet, quality=None), **drifted), 'quality')[
            'says'
        ]
        == 'not measured'
    )


def test_without_a_wanted_quality_there_is_no_brake(quiet):
    with_none = fresh(quiet, quality=0.1)
    wish = quiet.manifest['params']['collection']
    before = wish['quality_score_threshold']
    try:
        wish['quality_score_threshold'] = None
        row = signal(should_retrain(quiet, newer=with_none), 'quality')
        assert row['says'] == 'not measured' and 'asks for no quality' in row['reason']
        unknown = fresh(quiet, quality=None)
        row = signal(should_retrain(quiet, newer=unknown, quality=0.8), 'quality')
        assert row['says'] == 'not measured' and 'has no quality score' in row['reason']
    finally:
        wish['quality_score_threshold'] = before


# --- the next version


def test_the_sky_grows_and_every_old_sample_keeps_its_split(growing, tmp_path):
    archive, dataset = growing
    with pytest.raises(NotFound, match='watch@v1 is up to date'):
        collect_since(dataset, progress=False)
    ad.synthetic_archive(
        tmp_path, n_observations=10, n_sources=20
    )  # Three more fields in the same archive
    later = collect_since(dataset, progress=False, probe=False)
    before, after = (d.samples.set_index('sample_key') for d in (dataset, later))
    kept = before.index.intersection(after.index)
    assert (later.version, len(kept)) == (2, len(before)) and len(after) > 1.5 * len(before)
    assert (before['split'][kept] == after['split'][kept]).all() and (
        before['label'][kept] == after['label'][kept]
    ).all()
    new = after.drop(kept)
    assert set(new['split']) >= {'train', 'test'}  # The new ones are dealt out, too
    assert (
        after[after['split'].isin(['train', 'val', 'test'])]
        .groupby('group_id')['split']
        .nunique()
        .max()
        == 1
        and later.audit.objects_shared == 0
    )
    with pytest.raises(NotFound, match='watch@v2 is up to date'):
        collect_since(later, progress=False)


def test_a_changed_label_does_not_move_its_sample(growing):
    archive, dataset = growing
    real = dataset.samples[dataset.samples['kind'] == 'positive']
    with archive.session() as s:
        for d in real['detection_id'][:5]:
            add_validation_event(s, d, 'vera', is_valid=False, confidence_level='expert')
    later = collect_since(dataset, progress=False, probe=False)
    old, new = (
        pd.DataFrame(
            dict(split=d.samples['split'].to_numpy(), label=d.samples['label'].to_numpy()),
            index=identity(d.samples),
        )
        for d in (dataset, later)
    )
    both = old.join(new.add_suffix('_new'), how='inner')
    assert (both['label'] != both['label_new']).sum() == 5 and (
        both['split'] == both['split_new']
    ).all()


def test_a_version_without_an_archive_says_where_to_open_it(quiet):
    from astrid_data.datasets.build import Dataset

    with pytest.raises(BadInput, match='open_dataset'):
        should_retrain(Dataset(quiet.folder))
