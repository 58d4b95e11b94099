"Splits at the corners: few groups, giants, rare classes, nothing known; never an empty split without a refusal"

import functools

import numpy as np
import pandas as pd
import pytest

import astrid_data as ad
from astrid_data.core import SPLITS, AstridError, BadInput
from astrid_data.splits.assign import check_split, split_samples
from astrid_data.splits.audit import LeakageAudit, audit_splits
from astrid_data.splits.report import EmptySplit
from benchmarks.splits import KINDS, behind, gap, one_registry, registry, summed

QUIET = dict(patch_size=16, progress=False, probe=False)


def groups_of(sizes, label=None, **columns):
    "Groups of these sizes, far from each other"
    group = np.arange(len(sizes)).repeat(sizes)
    n = len(group)
    label = np.arange(n) % 2 if label is None else np.asarray(label)[group]
    basic = dict(
        sample_key=[f'{k:05x}' for k in range(n)],
        ra=group * 360.0 / len(sizes),
        dec=np.linspace(-60, 60, len(sizes))[group],
        object_id=[f'o{k}' for k in group],
        label=label,
        survey='ztf',
        half_width_arcsec=15.0,
        pixel_pa_deg=0.0,
    )
    return pd.DataFrame(basic | columns)


def rare(n_groups, n_rare, size=1):
    "Groups of which a few have the label 1, far from each other; and the rows of these"
    label = np.zeros(n_groups, int)
    label[np.arange(n_rare) * (n_groups // n_rare)] = 1
    table = groups_of([size] * n_groups, label=label)
    return table, np.flatnonzero(table['label'])


def sizes_of(split, rows=slice(None)):
    return [int((split[rows] == name).sum()) for name in SPLITS]


# Few groups, large groups, rare classes


@pytest.mark.parametrize('seed', range(10))
def test_giants_and_equal_groups_fill_every_split(seed):
    "One object of 80 %, four equal groups, and as many groups as splits"
    giant = groups_of([160] + [1] * 40)
    assert sizes_of(split_samples(giant, seed=seed).split) == [160, 20, 20]
    four = groups_of([50] * 4, label=[0, 1, 0, 1])
    assert sizes_of(split_samples(four, seed=seed).split) == [100, 50, 50]
    three = groups_of([1, 90, 3])
    assert sizes_of(split_samples(three, seed=seed).split)[0] == 90
    two = groups_of([7, 3])
    split = split_samples(two, seed=seed, fractions=(0.7, 0, 0.3)).split
    assert sizes_of(split) == [7, 0, 3]


def test_a_rare_class_is_in_every_split():
    "Twelve of 400 miss the test in 0 of 100 seeds, and three positives never fall 2/1/0"
    table, rows = rare(400, 12)
    for seed in range(100):
        assert min(sizes_of(split_samples(table, seed=seed).split, rows)) > 0
    for many, n_seeds, size in [(400, 15, 1), (30, 5, 2)]:  # Light units, and heavy ones
        table, rows = rare(many, 3, size)
        for seed in range(n_seeds):
            assert sizes_of(split_samples(table, seed=seed).split, rows) == [size] * 3


@pytest.mark.parametrize('fractions', [(0.98, 0.01, 0.01), (0.96, 0.02, 0.02)])
def test_a_rare_class_is_in_splits_of_one_per_cent(fractions):
    "Also beside a giant, where a group of two is as large as the test: 4 of 40 lacked a class"
    for n_rare in (3, 12):
        table, rows = rare(400, n_rare)
        assert min(sizes_of(split_samples(table, fractions=fractions).split, rows)) > 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sizes = np.append(200, rng.integers(1, 4, 20))
        table = groups_of(sizes, label=np.arange(21) % 3 > 0)
        given = split_samples(table, fractions=fractions, seed=seed)
        assert given.report['missing_classes'] == {}
        assert sizes_of(given.split)[0] > 200


def test_a_class_is_not_taken_from_a_split_to_fill_another():
    "The only two of a class are one in val and one in train; the test must do without"
    fixed = groups_of([1] * 40, label=[1, 1] + [0] * 38)
    split = np.array(['val', 'train'] + ['train'] * 30 + ['val'] * 4 + ['test'] * 4, object)
    previous = fixed.assign(split=split)
    more = pd.concat([fixed, groups_of([1] * 3, label=[0] * 3).assign(ra=[3.0, 5, 7], dec=80.0)])
    more['sample_key'] = [f'{k:05x}' for k in range(len(more))]
    more['object_id'] = more['sample_key']
    grown = split_samples(
        more.reset_index(drop=True), previous=previous.assign(object_id=more['object_id'][:40])
    )
    assert (grown.split[:40] == split).all()
    assert 'none in test' in repr(grown)


def test_a_class_that_cannot_be_everywhere_is_told(caplog):
    "Two positives for three splits are warned of, and so is a class of large groups"
    two = split_samples(rare(400, 2)[0])
    missing = two.report['missing_classes'].values()
    assert {number for classes in missing for number in classes.values()} == {2}
    for text in (caplog.text, repr(two)):
        assert "too few groups to be in every split: class '1' (2 groups, none in" in text
        assert 'It takes 3: bring others of that class, or ask for fewer splits' in text
    assert 'split has no sample of class' not in caplog.text
    large = groups_of([50] * 6, label=[0, 1] * 3)  # Of each class three, larger than a val of 45
    said = split_samples(large)
    assert 'split has no sample of class' in caplog.text and 'no sample of class' in repr(said)


# Refused


@pytest.mark.parametrize(
    'table, how, empty, words',
    [
        (groups_of([5]), {}, ['val', 'test'], '5 samples are 1 independent pieces of sky or obj'),
        (groups_of([5, 5]), {}, None, 'the (val|test) split would be empty'),
        (groups_of([9, 9]), dict(by='group'), None, '2 independent objects'),
        (groups_of([9] * 4, mjd=59000.3), dict(by='night'), None, '1 independent nights'),
        (groups_of([9] * 4, mjd=59000.3), dict(by='time'), None, '1 independent times'),
        (groups_of([9] * 4), dict(by='survey'), None, '1 independent surveys'),
        (groups_of([9] * 4, band='r'), dict(by='band', fractions=(0.8, 0.2, 0)), ['val'], 'bands'),
        (groups_of([9, 9]), dict(hold=dict(test=dict(object_id='o1'))), None, '1 independent'),
        (groups_of([9, 9]), dict(hold=dict(test=dict(survey='ztf'))), ['train', 'val'], '0 indep'),
        (groups_of([9] * 4, mjd=59000.3), dict(by='time', cuts=(1, 2)), None, 'move the cuts'),
    ],
)
def test_what_would_be_empty_is_refused_in_words(table, how, empty, words):
    with pytest.raises(EmptySplit, match=words) as caught:
        split_samples(table, **how)
    error = caught.value
    assert isinstance(error, (BadInput, AstridError, ValueError))
    assert empty is None or error.details['empty'] == empty
    assert 'allow_empty=True' in str(error) and 'To mend it' in str(error)
    taken = split_samples(table, allow_empty=True, **how)
    assert taken.report['allow_empty'] and set(error.details['empty']).isdisjoint(taken.split)


def test_what_nobody_asked_for_may_be_empty():
    "A share of 0, equal cuts, no samples, and splits made elsewhere"
    table = groups_of([9, 9, 9], mjd=np.repeat([59000.3, 59001.3, 59002.3], 9))
    assert sizes_of(split_samples(table, fractions=(1, 0, 0)).split) == [27, 0, 0]
    cut = split_samples(table, by='time', cuts=(59001, 59001))
    assert sizes_of(cut.split) == [9, 0, 18] and 'allow_empty' not in cut.report
    assert len(split_samples(table[:0]).split) == 0
    made = ad.splits.import_splits(table, dict.fromkeys(table['sample_key'], 'train'))
    assert sizes_of(made.split) == [27, 0, 0]


def test_few_times_are_divided():
    "A night with most of the samples, and three times"
    for times in ([1, 2, 3], [1] * 50 + [2, 3], [1, 2] + [3] * 50, [1] + [2] * 50 + [3]):
        table = groups_of([1] * len(times), mjd=np.array(times, 'f8') + 59000)
        split = split_samples(table, by='time').split
        rank = pd.Series(split).map({name: k for k, name in enumerate(SPLITS)}).to_numpy()
        assert min(sizes_of(split)) > 0 and (np.diff(rank) >= 0).all()
    plain = split_samples(table, by='time', even_out_far=False, allow_empty=True)
    assert min(sizes_of(plain.split)) == 0  # As older versions were


def test_check_split_refuses_no_more_than_the_split():
    "Before a pixel is cut: what surely cannot be, and nothing else"
    near = groups_of([1, 1, 1]).assign(ra=[10, 10.0001, 50], dec=0.0, object_id=None)
    for table, how in [(groups_of([9, 9]), {}), (groups_of([9] * 4), dict(by='survey'))]:
        with pytest.raises(EmptySplit):
            check_split(table, how)
        check_split(table, how, allow_empty=True)
        before = dict(zip(table['sample_key'], np.resize(SPLITS, len(table))))
        check_split(table, how, previous=before)  # Filled by what was there before
    check_split(near, {})  # 0.36 arcsec apart: patches may turn out narrow
    for seed in range(18):
        table, _, how = registry(seed)
        try:
            check_split(table, how)
        except EmptySplit:
            with pytest.raises(EmptySplit):
                split_samples(table, **how)


# Unknown


@pytest.mark.parametrize('lost', [200, 199, 17, 1])
@pytest.mark.parametrize('named', [True, False])
def test_samples_without_a_position_are_unknown(lost, named):
    table = groups_of([1] * 200)
    table.loc[: lost - 1, ['ra', 'dec']] = np.nan
    if not named:
        table['object_id'] = None
    result = split_samples(table)
    nobody = 0 if named else lost
    unnamed = 0 if named else 200
    assert result.report['unknown'] == dict(position=lost, object_id=unnamed, identity=nobody)
    audit = audit_splits(table.assign(split=result.split))
    assert (audit.verdict, audit.no_position, audit.unidentified) == ('unknown', lost, nobody)
    assert f'unknown whether {lost} samples' in repr(audit)
    assert (audit.places_shared is None) == (lost == 200)
    assert (audit.objects_shared is None) == (lost == 200 and not named)
    assert set(audit.unknown) >= {'places_shared'} if lost == 200 else True
    assert LeakageAudit.from_json(audit.to_json()) == audit
    leaky = table.assign(split=np.resize(SPLITS, 200), object_id='one')
    assert audit_splits(leaky).verdict == 'fail'  # What is known to leak fails
    placed = groups_of([1] * 200)
    assert audit_splits(placed.assign(split=split_samples(placed).split)).verdict == 'pass'


def test_no_position_in_any_spelling():
    "NaN, infinity, impossible declinations, None; and columns that are not there"
    table = groups_of([1] * 9)
    wrong = [np.nan, np.inf, -np.inf, None, 91, -91, 1e9]
    table['dec'] = pd.Series([*wrong, 0, 1], dtype=object)
    assert split_samples(table).report['unknown']['position'] == 7
    assert split_samples(table.drop(columns=['ra', 'dec'])).report['unknown']['position'] == 9
    audit = audit_splits(table.assign(split=split_samples(table).split))
    assert audit.no_position == 7 and audit.verdict == 'unknown'


# Against chance and against all assignments; the long form is benchmarks/splits.py


def test_small_registries_at_random():
    "No leak, no silent empty split, no needless refusal, nothing moved by growth"
    rows = [one_registry(1_000_000 + seed) for seed in range(2 * len(KINDS))]
    everything = summed(rows)[-1]
    assert everything['refused'] < len(rows) / 3
    wrong = ('needless', 'silent', 'leaks', 'moved', 'lacking', 'passed_unknown')
    assert {name: everything[name] for name in wrong} == dict.fromkeys(wrong, 0)


def test_small_cases_against_every_assignment():
    for row in behind([gap(5000 + seed) for seed in range(12)]):
        assert row['more_empty'] == row['more_lacking'] == 0
        assert row['behind_largest'] < 0.06


# Builds, the REST API and the shell


@functools.cache
def tiny_plan(home, n):
    archive = ad.synthetic_archive(home, n_observations=1, n_sources=12)
    params = dict(confidence_threshold=0.5, max_samples=n, negatives={})
    params = ad.TrainingDataCollectionParams(quality_score_threshold=None, **params)
    return ad.TrainingDataCollector(archive).plan(params, progress=False)


@pytest.fixture(scope='module')
def plan(tmp_path_factory):
    return tiny_plan(str(tmp_path_factory.mktemp('tiny')), 2)


def test_a_build_refuses_before_a_pixel_is_cut(plan, monkeypatch):
    def never(*args, **kw):
        raise AssertionError('cut')

    monkeypatch.setattr('astrid_data.datasets.build.write_patches', never)
    with pytest.raises(EmptySplit, match='split would be empty: 2 samples are 2 independent'):
        plan.build('early', **QUIET)


def test_a_refusal_says_how_large_the_groups_are():
    samples = pd.DataFrame(dict(object_id=['a'] * 9 + ['b'] * 3, ra=[10.0] * 9 + [80.0] * 3))
    samples['sample_key'] = [f'{i:032x}' for i in range(12)]
    with pytest.raises(
        EmptySplit, match='largest has 9 of 12 .* least 0.75.* below 0.25'
    ) as caught:
        split_samples(samples.assign(dec=0.0, label=[0, 1] * 6), by='group')
    assert (caught.value.details['largest'], caught.value.details['smallest']) == (9, 3)


@pytest.mark.parametrize('by', ['group', 'object', 'survey', 'time'])
def test_an_early_refusal_says_it_too(by):
    "Nothing is cut yet, and what is found then can only make a group larger"
    of = np.repeat([0, 1], [9, 3])
    samples = pd.DataFrame(dict(object_id=np.array(['a', 'b'])[of], ra=10.0 + 70 * of, dec=0.0))
    samples['sample_key'] = [f'{i:032x}' for i in range(12)]
    samples = samples.assign(label=[0, 1] * 6, survey=samples['object_id'], mjd=58000.0 + of)
    with pytest.raises(EmptySplit, match='largest has 9 of 12 .* least 0.75.* below 0.25'):
        check_split(samples, dict(by=by))


def test_a_build_may_be_allowed_and_its_hash_is_as_ever(plan):
    "What is allowed is in the manifest, not in what the hashes are of"
    with pytest.warns(UserWarning, match='split is empty'):
        one = plan.build('tiny', allow_empty=True, **QUIET)
    assert one.manifest['split']['allow_empty'] and 'allow_empty' not in str(one.manifest['params'])
    with pytest.warns(UserWarning, match='frozen already: .* split is empty'):
        assert plan.build('tiny', **QUIET).id == one.id
    assert plan.build('tiny', split_by=dict(allow_empty=True), **QUIET).id == one.id
    again = ad.rebuild_version(one, progress=False) if hasattr(ad, 'rebuild_version') else None
    assert again is None or again.same
    two = plan.build('pairs', fractions=(0.5, 0, 0.5), **QUIET)
    assert 'allow_empty' not in str(two.manifest)


def test_a_build_refuses_when_copies_leave_too_few_groups(plan, monkeypatch):
    "What only the pixels tell is refused before it is frozen, and what was cut stays"
    from astrid_data.datasets import build

    def copies(folder, samples, shards):
        return pd.DataFrame(dict(i=[0], j=[1], kind='exact'))

    monkeypatch.setattr(build, 'find_copies', copies)
    with pytest.raises(EmptySplit, match='2 samples are 1 independent'):
        plan.build('late', fractions=(0.5, 0, 0.5), **QUIET)
    folder = plan.archive.datasets_dir / 'late'
    assert list(folder.glob('.building-*/version/patches-*.npy')) and not list(folder.glob('v*'))


def test_http_and_shell_say_it(plan, capsys):
    from fastapi.testclient import TestClient

    from astrid_data.cli import main

    archive = plan.archive
    key = ad.api.create_api_key(archive, 'me', ['manage:operations'])
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    body = dict(name='over-http', max_samples=1, confidence_threshold=0.5, patch_size=16)
    body |= dict(quality_score_threshold=0)

    def collect(**more):
        path, headers = '/training/datasets/collect', {'X-API-Key': key}
        return client.post(path, headers=headers, json=body | more)

    answer = collect()
    error = answer.json()['error']
    assert answer.status_code == 422 and error['error_code'] == 'bad_input', answer.text
    assert 'would be empty' in error['message'] and error['details']['independent'] <= 2
    assert collect(allow_empty=True).status_code == 200
    argv = ['collect', '--home', str(archive.home), '--name', 'in-shell', '--max-samples', '1']
    argv += ['--patch-size', '16', '--confidence', '0.5', '--quality-score-threshold', '0']
    assert main(argv) == 1 and 'would be empty' in capsys.readouterr().err
    assert main([*argv, '--allow-empty']) == 0
