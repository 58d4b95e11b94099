"Every fact known with the observation is a suspect of the probe; the cause is named, clean sets are let pass."

import warnings

import numpy as np
import pandas as pd
import pytest
from test_loader import made

from astrid_data.core import BadInput
from astrid_data.evaluation.repeat import repeat
from astrid_data.evaluation.report import operating_points
from astrid_data.images.conditions import read_conditions
from astrid_data.loading.batches import PatchLoader
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.quality.report import check_quality
from astrid_data.quality.shortcuts import certain_auc, check_shortcuts, probe_shortcuts
from astrid_data.training.baseline import evaluate_baseline
from astrid_data.training.models import SmallCNN
from astrid_data.training.predict import evaluate
from benchmarks.shortcuts import FILES, pool

N = 600


def facts(seed, n=N):
    "Sixty files of twenty nights; what a file has all its samples share"
    return pool(np.random.default_rng(seed), n)


def tilted(samples, lean, seed):
    "The samples with a label that leans by some fact"
    lean = (lean - lean.mean()) / lean.std()
    real = np.random.default_rng(seed).uniform(size=len(samples)) < 1 / (1 + np.exp(-2 * lean))
    return samples.assign(label=real.astype(int))


PLANTS = dict(
    rcid=lambda t, rng: rng.permutation(np.arange(64) % 2)[t['rcid']],
    fwhm=lambda t, rng: t['fwhm'],
    airmass=lambda t, rng: t['airmass'],
    xpos=lambda t, rng: abs(t['xpos'] - 1536) > 1000,
    ra=lambda t, rng: t['ra'],
    mjd=lambda t, rng: abs(t['mjd'] - 60160) < 35,
    image_uri=lambda t, rng: rng.normal(size=FILES)[pd.factorize(t['image_uri'])[0]],
)


@pytest.mark.parametrize('name', PLANTS)
def test_a_planted_fact_is_named(name):
    named = 0
    for seed in range(4):
        samples = facts(seed)
        lean = np.asarray(PLANTS[name](samples, np.random.default_rng(seed + 99)), float)
        samples = tilted(samples, lean, seed)
        probe = probe_shortcuts(samples)
        issues = check_shortcuts(samples, probe)
        named += bool(issues) and name in probe['causes'][0]['names'] and name in issues[0].message
    assert named >= 3


def test_clean_sets_raise_no_alarm():
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        samples = facts(seed, n=200).assign(label=rng.permutation(200) % 2)
        alarms += bool(check_shortcuts(samples, probe_shortcuts(samples)))
    assert alarms <= 1


def test_groups_are_kept_together_where_some_have_no_object():
    "Ten alerts of one object share a sky level; drawn sky has no object"
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 10)
    samples = pd.DataFrame(
        dict(
            label=(rng.permutation(60) % 2)[group],
            image_background=rng.normal(size=60)[group],
            object_id=[f'o{g}' for g in group],
        )
    )
    samples.loc[samples.index % 100 == 99, 'object_id'] = None
    probe = probe_shortcuts(samples)
    assert not check_shortcuts(samples, probe)


def test_causes_that_are_the_same_are_named_together():
    samples = facts(0)
    samples = samples.assign(image_sha256=samples['image_uri'] + '#', telescope=samples['band'])
    samples['label'] = (samples['band'] == 'g') ^ (np.arange(N) % 6 == 0)
    names = probe_shortcuts(samples.assign(label=samples['label'].astype(int)))['causes'][0]
    assert set(names['names']) == {'band', 'telescope'}


def test_what_the_label_made_and_undeclared_columns_are_no_causes():
    samples = facts(0).assign(label=np.arange(N) % 2)
    samples = samples.assign(score=samples['label'] * 1.0, peakmag=samples['label'] * 1.0)
    assert not check_shortcuts(samples, probe_shortcuts(samples))
    found = probe_shortcuts(samples, facts=('peakmag',))
    assert found['causes'][0]['names'] == ['peakmag']


def test_few_samples_tell_nothing_and_the_gate_says_so():
    samples = facts(0, n=30).assign(label=np.arange(30) % 2, valid_fraction=1.0)
    probe = probe_shortcuts(samples)
    assert probe['sees'] is None or probe['sees'] > 0.9
    assert certain_auc(probe) is None
    gate = next(g for g in check_quality(samples).gates if g.name == 'shortcut_auc')
    assert gate.outcome == 'unknown' and gate.reason


def test_the_probe_does_not_depend_on_the_order_of_calls_and_is_bounded():
    rng = np.random.default_rng(0)
    samples = facts(0, n=30_000).assign(label=np.arange(30_000) % 2)
    valid = np.ones((30_000, 1, 4, 4), bool)
    one, two = probe_shortcuts(samples, valid), probe_shortcuts(samples, valid)
    assert one == two and one['n'] == 8000
    rare = samples.assign(label=(rng.uniform(size=30_000) < 0.01).astype(int))
    assert probe_shortcuts(rare)['n'] == 8000


def test_conditions_of_a_header():
    from astropy.io import fits

    header = fits.Header(dict(AIRMASS='1.4', CCDNAME='S3'))
    expected = dict(airmass=1.4, seeing=None, chip='S3', exposure_names=None)
    assert read_conditions(header) == expected


def test_a_fact_that_is_not_there_and_pixels_of_others_are_refused():
    table = pd.DataFrame(dict(label=np.arange(60) % 2, object_id=np.arange(60).astype(str)))
    with pytest.raises(BadInput, match='no such column'):
        probe_shortcuts(table, facts=('nope',))
    with pytest.raises(BadInput, match='of 50 patches'):
        probe_shortcuts(table, np.ones((50, 1, 8, 8), bool))


def test_lists_in_a_column_are_compared_as_text():
    label = np.arange(60) % 2
    table = pd.DataFrame(dict(label=label, object_id=np.arange(60).astype(str)))
    table['extra'] = [[int(k)] for k in label]
    assert probe_shortcuts(table, facts=('extra',))['auc'] > 0.9


def with_a_shortcut(folder):
    "A version whose label can be told by its band, and its quality report"
    version = made(folder, s=16)
    assert version.shortcut is None and 'without looking' not in repr(version)
    samples = facts(0)
    label = (samples['band'] == 'g') ^ (np.arange(N) % 20 == 0)
    samples = samples.assign(label=label.astype(int))
    probe = probe_shortcuts(samples)
    report = check_quality(samples, probe=False)
    report.shortcuts, report.issues = probe, check_shortcuts(samples, probe)
    (version.folder / 'quality.json').write_text(report.to_json())
    return version, report


def test_a_shortcut_that_was_found_is_said_with_the_version_and_with_each_score(tmp_path):
    version, report = with_a_shortcut(tmp_path / 'v')
    test = PatchLoader(PatchDataset(version, 'test'), 8)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        points = evaluate(SmallCNN(), test, n_boot=5)
    assert points.shortcut['auc'] == report.shortcuts['auc'] > 0.9
    for shown in (repr(version), repr(points), points._repr_html_()):
        assert 'AUC' in shown and 'without looking at the source, by' in shown


def test_a_baseline_and_a_repetition_say_and_note_what_one_score_does(tmp_path):
    "Both left no trace on test, and had no line of the shortcut"
    version, report = with_a_shortcut(tmp_path / 'v')
    train, test = (PatchLoader(PatchDataset(version, name), 8) for name in ('train', 'test'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        first = evaluate_baseline(train, test)
        again = evaluate_baseline(train, test)
        spread = repeat(lambda seed: evaluate(SmallCNN(seed=seed), test), seeds=2)
    words = version.test_scores['model'].tolist()
    assert words[0] == words[1] and words[0].startswith('logistic regression ')
    assert len(set(words)) == 3 and len(words) == 4
    assert [first.scored_before['times'], again.scored_before['times']] == [0, 1]
    assert again.scored_before['others'] == 0 and spread.scored_before['others'] == 1
    for points in (first, spread):
        assert points.shortcut['auc'] == report.shortcuts['auc']
        assert 'without looking at the source, by' in repr(points)


def test_a_repetition_says_the_strongest_shortcut_and_all_leaks():
    "Each seed may deal a version of its own"
    table = pd.DataFrame(dict(label=[0, 1] * 20, score=np.arange(40) / 40, group=np.arange(40)))

    def once(seed):
        points = operating_points(table)
        points.shortcut = dict(auc=0.7 + seed / 10, words='by field') if seed else None
        points.leaks = f'{seed} objects' if seed != 1 else ''
        return points

    points = repeat(once, seeds=3)
    assert points.shortcut['auc'] == pytest.approx(0.9) and points.leaks == '0 objects; 2 objects'
