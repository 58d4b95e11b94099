"What a quality check cannot know it calls unknown, with a reason: never another number, never a silent pass."

import numpy as np
import pandas as pd
import pytest

from astrid_data.core import BadInput
from astrid_data.quality import report as q
from astrid_data.quality.background import local_background
from astrid_data.quality.checks import known_mean
from astrid_data.quality.coverage import check_coverage, check_times, sky_cells
from astrid_data.quality.flags import image_flags, numbers
from astrid_data.quality.shortcuts import probe_shortcuts

N, SIDE = 240, 32
COMPONENTS = ('images', 'labels', 'balance', 'positions', 'unique')


def sky():
    "Half stars, half empty sky; ten of the stars are not there, ten of the empty ones hold a star"
    rng = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    data = rng.normal(100, 5, (N, 1, SIDE, SIDE))
    has_star = np.arange(N) < N // 2
    has_star[:10] = False
    has_star[-10:] = True
    data[has_star] += 250 * np.exp(-(x**2 + y**2) / 2 / 1.1**2)
    data[20:40, :, :7] = np.nan
    return data.astype('f4'), np.isfinite(data)


def table(data, valid):
    "A version's table: all that was measured when the patches were cut, in a crowded field"
    background, noise = local_background(data, valid)
    rng = np.random.default_rng(1)
    real = np.arange(N) < N // 2
    return pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(N)],
            label=real.astype('i1'),
            kind=np.where(real, 'positive', 'random_sky'),
            class_name=np.where(real, 'source', 'sky'),
            ra=150 + np.arange(N) % 16 / 3600,  # An arcsecond apart, which is 20 pixels
            dec=2 + np.arange(N) // 16 / 3600,
            half_width_arcsec=SIDE / 2 * 0.05,
            pixel_scale_arcsec=0.05,
            survey='hst',
            band='F606W',
            origin='survey',
            mjd=rng.uniform(58000, 58400, N),
            registry_x=500.0,
            registry_y=600.0,
            x0=500 - SIDE // 2,
            y0=600 - SIDE // 2,
            offset_x=rng.uniform(-0.5, 0.5, N),
            offset_y=rng.uniform(-0.5, 0.5, N),
            image_background=background[:, 0],
            image_noise=noise[:, 0],
            valid_fraction=valid.mean((1, 2, 3)),
            quality_flags=image_flags(data, valid, background, noise),
            split=np.where(np.arange(N) % 3, 'train', 'test'),
        )
    )


@pytest.fixture(scope='module')
def version():
    data, valid = sky()
    samples = table(data, valid)
    return samples, data, valid, q.check_quality(samples, data, valid)


def gate_of(report, name):
    return next(gate for gate in report.gates if gate.name == name)


def same_or_unknown(report, full):
    "Names of the numbers that are unknown; every other one must be that of the whole"
    found = {name: (report.components[name], full.components[name]) for name in COMPONENTS}
    found['ratio'] = report.anomaly_ratio, full.anomaly_ratio
    found['images_score'] = report.image_quality_score, full.image_quality_score
    found['consistency'] = report.label_consistency, full.label_consistency
    found['score'] = report.quality_score, full.quality_score
    found['shortcut'] = report.shortcuts['auc'], full.shortcuts['auc']
    for name, (now, whole) in found.items():
        assert now is None or now == pytest.approx(whole, abs=1e-9), name
    return {name for name, (now, _) in found.items() if now is None}


def test_the_whole_is_known(version):
    samples, _, _, full = version
    assert full.label_consistency == pytest.approx(1 - 20 / N)
    assert same_or_unknown(full, full) == set() and 0 < full.quality_score < 1


def test_a_table_without_its_pixels_says_the_same_or_nothing(version):
    samples, _, _, full = version
    report = q.check_quality(samples)
    assert same_or_unknown(report, full) == {'unique', 'score', 'shortcut'}
    assert report.label_consistency == full.label_consistency
    assert gate_of(report, 'unique').outcome == 'unknown'


LOSSES = {
    'scale': (['pixel_scale_arcsec', 'half_width_arcsec'], 'labels', 'pixel_scale'),
    'flags': (['quality_flags'], 'images', 'quality_flags'),
    'flags_for_labels': (['quality_flags'], 'labels', 'quality_flags'),
    'validity': (['valid_fraction'], 'images', 'valid_fraction'),
    'position': (['ra', 'dec'], 'positions', 'position'),
    'position_for_labels': (['dec'], 'labels', 'position'),
    'corner': (['x0'], 'positions', 'patch_corner'),
}


@pytest.mark.parametrize('how', ['absent', 'nan', 'half'])
@pytest.mark.parametrize('what', LOSSES)
def test_a_lost_column_makes_unknown_what_needs_it(version, what, how):
    samples, _, _, full = version
    columns, component, fact = LOSSES[what]
    if how == 'absent':
        less = samples.drop(columns=columns)
    else:
        gone = np.arange(N) % 2 == 0 if how == 'half' else np.ones(N, bool)
        less = samples.assign(**{c: samples[c].astype('f8').mask(gone) for c in columns})
    report = q.check_quality(less, gates=dict(quality_score=0.5))
    if how == 'half' and 'position' in what:  # Some that are missing among others are faults
        assert report.components['positions'] == 0.5 and report.label_consistency is None
        return
    same_or_unknown(report, full)
    assert report.components[component] is None and report.quality_score is None
    assert fact in report.unmeasured[component]
    for gate in (gate_of(report, component), gate_of(report, 'quality_score')):
        assert (gate.outcome, gate.value) == ('unknown', None) and gate.reason
    assert f'{component} unknown' in repr(report) and 'all passed' not in repr(report)
    assert 'unknown' in report.html(whole=False)
    assert q.DataQualityReport.from_json(report.to_json()).to_json() == report.to_json()


def test_pixels_give_back_what_the_table_lost(version):
    samples, data, valid, full = version
    lost = ['quality_flags', 'valid_fraction', 'image_background', 'image_noise']
    half = samples.assign(**{c: samples[c].astype('f8').mask(np.arange(N) < 90) for c in lost})
    for less in (samples.drop(columns=lost[:2]), half):
        report = q.check_quality(less, data, valid)
        assert same_or_unknown(report, full) == set() and report.flags == full.flags


def test_a_few_unknown_ones_are_left_out_and_many_are_not(version):
    samples, _, _, full = version
    few = samples.assign(
        quality_flags=samples['quality_flags'].astype('f8').mask(np.arange(N) == 50)
    )
    many = samples.assign(
        quality_flags=samples['quality_flags'].astype('f8').mask(np.arange(N) < 9)
    )
    assert q.check_quality(few).components['labels'] == pytest.approx(1 - 20 / (N - 1))
    assert q.check_quality(many).components['labels'] is None
    assert known_mean(np.r_[np.zeros(99), np.nan]) == 0
    assert known_mean(np.r_[np.zeros(98), np.nan, np.nan]) is None


def test_places_far_apart_need_no_scale(version):
    samples, _, _, full = version
    rng = np.random.default_rng(2)
    apart = samples.assign(ra=rng.uniform(0, 360, N), dec=rng.uniform(-60, 60, N))
    apart = apart.drop(columns=['half_width_arcsec', 'pixel_scale_arcsec', 'registry_x'])
    assert q.check_quality(apart).label_consistency == full.label_consistency
    same = apart.assign(ra=150.0, dec=2.0)  # The very same place is within any pixel
    assert q.check_quality(same).labels['two_labels_one_place'] == N
    assert q.check_quality(same).label_consistency == 0


def test_patches_of_nothing_are_unknown_not_wrong(version):
    samples, data, _, _ = version
    nothing = np.full_like(data, np.nan)
    measured = ['quality_flags', 'valid_fraction', 'image_background', 'image_noise']
    report = q.check_quality(samples.drop(columns=measured), nothing)
    assert report.components['images'] == 0  # It was looked, and there is nothing
    assert report.label_consistency is None and report.components['unique'] is None
    assert 'nothing_there' not in report.labels and report.duplicates['exact'] == 0
    assert report.unmeasured['unique'] == 'not known: patches without a valid pixel'


@pytest.mark.parametrize('missing', [None, np.nan, -1, pd.NA], ids=str)
def test_labels_that_nobody_gave_are_neither(version, missing):
    samples, _, _, full = version
    label = samples['label'].astype(object).where(np.arange(N) % 4 > 0, missing)
    report = q.check_quality(samples.assign(label=label))
    assert same_or_unknown(report, full) >= {'ratio', 'labels', 'balance'}
    assert report.anomaly_ratio is None and gate_of(report, 'rarer_label').outcome == 'unknown'
    assert 'label_unknown' in {issue.code for issue in report.issues}
    assert sum(row['samples'] for row in report.classes) == N
    assert 'an unknown share real' in repr(report)
    none = q.check_quality(samples.assign(label=missing))
    assert none.anomaly_ratio is None and none.components['balance'] is None
    assert none.shortcuts['auc'] is None and none.quality_score is None


def test_labels_in_words_are_refused(version):
    samples = version[0]
    with pytest.raises(BadInput, match="label 'real' is neither 1 for real nor 0 for bogus"):
        q.check_quality(samples.assign(label='real'))


def test_one_label_one_row_no_rows(version):
    samples, data, valid, _ = version
    real = q.check_quality(samples[:120], data[:120], valid[:120])
    assert real.components['balance'] == 0 and real.quality_score == 0
    assert 'needs nuisances' in real.shortcuts['reason']
    one = q.check_quality(samples[:1], data[:1], valid[:1])
    assert one.components['unique'] == 1 and one.components['balance'] == 0 == one.quality_score
    bare = q.check_quality(pd.DataFrame(dict(label=[1])))
    assert bare.label_consistency is None and bare.image_quality_score is None
    assert bare.survey_coverage == bare.temporal_distribution == {'unknown': 1}
    assert bare.origin == 'unknown' and 'OF UNKNOWN ORIGIN' in bare.html()
    with pytest.raises(BadInput, match='no samples'):
        q.check_quality(samples[:0])
    for check in (q.check_images, q.check_labels, q.check_classes, q.check_positions):
        assert check(samples[:0])[0] is None
    assert probe_shortcuts(samples[:0])['auc'] is None


TIMES = [None, np.nan, pd.NA, np.inf, -np.inf, 2_458_000.5, 'tomorrow', pd.Timestamp('2020-01-01')]


@pytest.mark.parametrize('mjd', TIMES, ids=str)
def test_times_that_tell_no_month_are_unknown(version, mjd):
    samples = version[0]
    column = samples['mjd'].astype(object).where(np.arange(N) >= 10, mjd)
    months, _ = check_times(samples.assign(mjd=column))
    assert months['unknown'] == 10 and sum(months.values()) == N
    assert check_times(samples.assign(mjd=mjd))[0] == {'unknown': N}
    report = q.check_quality(samples.assign(mjd=column))
    assert report.temporal_distribution == months


@pytest.mark.parametrize('name', ['survey', 'band', 'class_name', 'split', 'origin', 'kind'])
def test_words_that_are_missing_are_counted(version, name):
    samples, _, _, full = version
    word = samples[name].astype(object).where(np.arange(N) >= 10, None)
    some = samples.assign(**{name: word})
    surveys, bands, _ = check_coverage(some)
    assert sum(surveys.values()) == sum(bands.values()) == N
    report = q.check_quality(some)
    same_or_unknown(report, full)
    assert sum(row['samples'] for row in report.classes) == N
    assert report.origin == ('mixed' if name == 'origin' else 'survey')


def test_the_probe_needs_validity_unless_all_is_valid(version):
    samples = version[0]
    assert q.check_quality(samples).shortcuts['auc'] is None
    assert 'needs pixels' in gate_of(q.check_quality(samples), 'shortcut_auc').reason
    whole = q.check_quality(samples.assign(valid_fraction=1.0))
    assert whole.shortcuts['auc'] == probe_shortcuts(samples.assign(valid_fraction=1.0))['auc']


def test_an_unknown_score_passes_no_gate(version):
    samples, _, _, full = version
    for limit in (0.0, 0.5, 1.0):
        report = q.check_quality(samples, gates=dict(quality_score=limit))
        assert gate_of(report, 'quality_score').outcome == 'unknown'
    assert gate_of(full, 'images').outcome != 'unknown'
    plot = report.plot()
    assert 'the score unknown' in plot.axes[0].get_title(loc='left')


def test_reports_of_older_versions_are_read_as_unknown(version):
    old = version[3].to_dict()
    old['gates'][0] = dict(name='images', threshold=0.8, value=None, outcome='not measured')
    report = q.DataQualityReport.from_json(old)
    assert report.gates[0].outcome == 'unknown' and 'unknown' in report.html(whole=False)


def test_numbers_in_any_dress():
    column = pd.Series([1, None, 'x', True, np.inf], dtype=object)
    found = numbers(pd.DataFrame(dict(a=column)), 'a')
    assert np.isnan(found[[1, 2]]).all() and found[[0, 3, 4]].tolist() == [1, 1, np.inf]
    no_place = pd.DataFrame(dict(ra=pd.array([None, 10], 'Float64'), dec=[1.0, 2]))
    assert sky_cells(no_place).sum() == 1
