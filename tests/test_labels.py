"Labels: verdicts are added and never changed, blind queues tell nothing, late corrections show."

import uuid
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.quality.report import keep_report, report_history
from astrid_data.registry.tables import ValidationEvent, add_validation_event
from astrid_data.registry.verdicts import cohen_kappa
from astrid_data.search.labelling import (
    agreement,
    blind_samples,
    label_events,
    label_queue,
    labels_now,
    late_corrections,
    recheck,
)

PARAMS = dict(confidence_threshold=0, quality_score_threshold=None)


def build(archive, name, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return (
            ad.TrainingDataCollector(archive)
            .plan(ad.TrainingDataCollectionParams(**PARAMS, **kw), progress=False)
            .build(name, patch_size=24, progress=False, probe=False)
        )


@pytest.fixture
def archive(tmp_path):
    return ad.synthetic_archive(tmp_path, n_observations=2, n_sources=20)


def detections(dataset, label=None):
    s = dataset.samples
    return [
        i
        for i, k in enumerate(s['detection_id'])
        if isinstance(k, str) and label in (None, s['label'][i])
    ]


def say(dataset, row, who, real, **kw):
    with dataset.archive.session() as session:
        add_validation_event(session, dataset.samples['detection_id'][row], who, real, **kw)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60))
def test_kappa_is_what_scikit_learn_says(pairs):
    from sklearn.metrics import cohen_kappa_score

    a, b = np.array(pairs).T
    k, error = cohen_kappa(a, b)
    if len(set(a) | set(b)) == 1:
        assert np.isnan(k)
    else:
        assert k == pytest.approx(cohen_kappa_score(a, b)) and error >= 0


def test_a_late_correction_is_a_difference_between_versions_never_a_silent_change(archive):
    first = build(archive, 'stars')
    rows = detections(first, label=1)
    assert len(late_corrections(first)) == 0
    before = first.content_hash
    moment = label_events(first)['created_at'].max()
    say(
        first,
        rows[0],
        'eve',
        False,
        label='cosmic ray',
        confidence_level='expert',
        notes='one pixel wide',
    )
    now = late_corrections(first)
    assert now[['row', 'was', 'now', 'source']].to_numpy().tolist() == [
        [rows[0], 1, 0, 'event:eve']
    ]
    again = ad.open_dataset(archive, first.address).verify()
    assert again.content_hash == before and again.samples['label'][rows[0]] == 1
    second = build(archive, 'stars')
    d = second.diff(first)
    turned = second.samples.set_index('detection_id')['sample_key']
    assert second.version == 2
    assert turned[first.samples['detection_id'][rows[0]]] in d.of('label')['sample_key'].tolist()
    assert (
        second.samples.set_index('detection_id')['label'][first.samples['detection_id'][rows[0]]]
        == 0
    )
    assert labels_now(first, as_of=moment)['label'].to_numpy()[rows[0]] == 1


def test_a_piece_of_sky_that_a_person_calls_real_is_late_too(archive):
    from astrid_data.widgets.verdicts import write_verdict

    d = build(archive, 'stars')
    moment = label_events(d)['created_at'].max()
    row = next(i for i, kind in enumerate(d.samples['kind']) if kind == 'random_sky')
    write_verdict(d, row, 'real', 'ann', note='a faint galaxy')
    assert late_corrections(d)[['row', 'was', 'now', 'source']].to_numpy().tolist() == [
        [row, 0, 1, 'event:ann']
    ]
    assert late_corrections(d, as_of=moment).empty
    assert label_events(d)['note'].iloc[-1] == 'a faint galaxy'


def test_verdicts_are_added_and_none_is_changed(archive):
    d = build(archive, 'stars')
    row = detections(d, label=1)[0]
    n = len(label_events(d))
    for k, real in enumerate([False, True, False]):
        say(d, row, 'ann', real, confidence_level='expert', notes=f'look {k}')
    e = label_events(d)
    assert len(e) == n + 3
    assert e['note'].tolist()[-3:] == ['look 0', 'look 1', 'look 2']
    assert e['row'].tolist()[-3:] == [row] * 3
    assert labels_now(d)['label'].to_numpy()[row] == 0


def test_a_blind_labeller_learns_nothing_from_others(archive):
    d = build(archive, 'stars')
    rows = [r for r in detections(d) if d.samples['split'][r] != 'buffer']
    for r in rows[:6]:
        say(d, r, 'ann', r % 2 == 0)
    before = label_queue(d, 'bob')
    for r in rows[:6]:
        say(d, r, 'ann', r % 2 == 1)
    assert label_queue(d, 'bob').equals(before) and list(before) == ['row', 'sample_key']
    assert set(label_queue(d, 'bob', order='second')['row']) == set(rows[:6])
    assert not set(label_queue(d, 'ann')['row']) & set(rows[:6])
    seen = label_queue(d, 'bob', blind=False)
    assert set(seen) >= {'label', 'class_name', 'label_source', 'people'}
    assert seen.set_index('row')['people'].loc[rows[:6]].eq(1).all()
    assert not {
        'label',
        'class_name',
        'kind',
        'label_source',
        'score',
        'detection_id',
        'split',
    } & set(blind_samples(d.samples))


def test_doubts_of_the_test_split_are_not_offered(archive):
    d = build(archive, 'stars')
    q = label_queue(d, 'ann', order='doubtful', blind=False)
    assert 'test' not in set(d.samples['split'].to_numpy()[q['row']])
    assert q['doubt'].is_monotonic_decreasing


def test_two_who_toss_coins_do_not_agree_and_the_report_says_so(archive):
    d = build(archive, 'stars')
    rng = np.random.default_rng(0)
    for r in detections(d)[:30]:
        for who in ('ann', 'bob'):
            say(d, r, who, bool(rng.integers(2)))
    t = agreement(d)
    assert t['n'][0] == 30
    assert abs(t['kappa'][0]) < 3 * t['error'][0]
    assert agreement(archive).equals(t)
    first = len(report_history(archive, d.id))
    r = recheck(d, probe=False)
    assert 'labellers_disagree' in {i.code for i in r.issues} and r.agreement
    h = report_history(archive, d.id)
    assert len(h) == first + 1
    assert h['report'].iloc[-1].to_json() == r.to_json()
    assert h['labels'].iloc[-1] < h['labels'].iloc[0]


def test_an_event_for_a_missing_detection_is_refused_and_leaves_nothing(archive):
    d = build(archive, 'stars')
    n = len(label_events(d))
    with pytest.raises(NotFound, match='no detection has the id'):
        with archive.session() as session:
            add_validation_event(session, uuid.uuid4(), 'ann', True)
    with archive.session() as session:
        assert session.query(ValidationEvent).filter_by(validator_id='ann').count() == 0
    assert len(label_events(d)) == n
    with pytest.raises(NotFound, match='no dataset has the id'):
        keep_report(archive, uuid.uuid4(), d.quality)


def test_bad_questions_are_named(archive):
    d = build(archive, 'stars')
    with pytest.raises(BadInput, match='there are: doubtful, second, random'):
        label_queue(d, 'ann', order='best')
    with pytest.raises(BadInput, match='needs a labeller'):
        label_queue(d, ' ')
    with pytest.raises(BadInput, match='opened from a folder'):
        label_events(ad.Dataset(d.folder))
