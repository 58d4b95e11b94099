"Flags, checks and the report: planted faults are found, clean data stay clean, simple versions agree."

import json
import warnings
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid_data.core import BadInput
from astrid_data.quality import report as q
from astrid_data.quality.background import local_background
from astrid_data.quality.checks import check_images, check_pixels, issue_of, other_label_near
from astrid_data.quality.columns import check_columns, known_at
from astrid_data.quality.coverage import coverage_moc, sky_cells, split_drift
from astrid_data.quality.flags import (
    FLAGS,
    MEASURED_COLUMNS,
    column_flags,
    decode_flags,
    image_flags,
    line_places,
    measure_columns,
    measure_patches,
)
from astrid_data.quality.gates import combine
from astrid_data.quality.label_issues import rank_label_issues
from astrid_data.quality.shortcuts import probe_shortcuts
from astrid_data.quality.views import _finding_lines
from astrid_data.sky import healpix_index, sky_separation_arcsec


def sky(n, s=32, seed=0, channels=1, stars=True, level=100, noise=5, flux=250):
    rng = np.random.default_rng(seed)
    y, x = np.indices((s, s)) - s // 2
    data = rng.normal(level, noise, (n, channels, s, s))
    if stars:
        data += flux * np.exp(-(x**2 + y**2) / 2 / 1.1**2)
    return data.astype('f4'), np.ones(data.shape, bool)


def table(n, positives, **kw):
    rng = np.random.default_rng(1)
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=(np.arange(n) < positives).astype('i1'),
            kind=np.where(np.arange(n) < positives, 'positive', 'random_sky'),
            class_name=np.where(np.arange(n) < positives, 'source', 'sky'),
            ra=rng.uniform(0, 360, n),
            dec=rng.uniform(-80, 80, n),
            survey='ztf',
            band='r',
            origin='survey',
            mjd=rng.uniform(58000, 58400, n),
        )
    )
    return t.assign(**kw)


def both(n=120, seed=0):
    "Half stars, half empty sky, and their table"
    (a, v), (b, w) = sky(n // 2, seed=seed), sky(n // 2, seed=seed + 99, stars=False)
    return table(n, n // 2), np.concatenate([a, b]), np.concatenate([v, w])


def flags_of(data, valid, **kw):
    return decode_flags(image_flags(data, valid, *local_background(data, valid), **kw))


# The patch


def plant(fault, d, v, rng):
    "Damage the patches `d`, `v` in place"
    n, _, s, _ = d.shape
    y, x = np.indices((s, s))
    for k in range(n):
        a, b, t = rng.uniform(4, s - 5, 2).astype(int), rng.integers(5, 12), rng.uniform(0, np.pi)
        if fault == 'invalid':
            d[k, 0, : 5 + b % 3] = np.nan
        elif fault == 'edge':
            [
                d[k, 0, : b // 3 + 1],
                d[k, 0, -b // 3 :],
                d[k, 0, :, : b // 3 + 1],
                d[k, 0, :, -b // 3 :],
            ][k % 4][:] = np.nan
        elif fault == 'centre_invalid':
            v[k, 0, s // 2 + rng.integers(-1, 2), s // 2 + rng.integers(-1, 2)] = False
        elif fault == 'constant':
            d[k] = rng.normal(100, 5)
        elif fault == 'saturated':
            d[k] = np.minimum(d[k], rng.uniform(170, 220))
        elif fault == 'faint':
            d[k, 0] = rng.normal(100, 5, (s, s))
        elif fault == 'off_centre':
            d[k] = np.roll(
                d[k], (3, rng.integers(-1, 2)) if k % 2 else (rng.integers(-1, 2), -3), (1, 2)
            )
        elif fault == 'gradient':
            d[k, 0] += rng.uniform(1.5, 3) * (x if k % 2 else s - y)
        elif fault == 'streak':
            d[k, 0][
                abs((x - s / 2) * np.cos(t) + (y - s / 2) * np.sin(t) - rng.uniform(-4, 4)) < 1.5
            ] += rng.uniform(40, 200)
        elif fault == 'cosmic_ray':
            d[k, 0, *(a if max(abs(a - s // 2)) > 4 else (5, 5))] += rng.uniform(200, 900)
        elif fault == 'elongated':
            d[k, 0] += rng.uniform(300, 900) * np.exp(
                -((x - s // 2) ** 2 / rng.uniform(2.2, 4) ** 2 + (y - s // 2) ** 2) / 2 / 1.1**2
            )
        elif fault == 'template_missing':
            v[k, 0, s // 2 - 4 + rng.integers(0, 3) :, :] = False
        elif fault == 'mask':
            d[k, 0] = np.hypot(*(np.indices((s, s)) - s // 2)) < rng.uniform(5, 0.45 * s)
        elif fault == 'filled':
            where = np.zeros((s, s), bool)
            if k % 2:
                where[tuple(rng.integers(0, s, (2, 5)))] = True
            else:
                where[np.rot90(x + y < rng.integers(8, s), k)] = True
            d[k, 0][where] = rng.choice([-999, -9999, -32768, -1e30] if k % 2 else [0, -99, 65535])
        elif fault == 'sharp':
            d[k, 0] = rng.normal(100, 5, (s, s))
            d[k, 0, s // 2, s // 2] += rng.uniform(200, 900)


@pytest.mark.parametrize(
    'fault', [f.name for f in FLAGS if f.name != 'bright' and f.of == 'pixels']
)
def test_planted_faults_are_found_and_clean_patches_are_not(fault):
    rng = np.random.default_rng(7)
    d, v = sky(1000, seed=3)
    bad = np.arange(1000) < 200
    plant(fault, d[:200], v[:200], rng)
    f = flags_of(d, v, channels=('template',))[fault].to_numpy()
    recall, precision = f[bad].mean(), bad[f].mean()
    assert recall >= 0.97 and precision >= 0.97, (fault, recall, precision)


def test_bright_tells_stars_from_sky():
    t, d, v = both(400)
    f = flags_of(d, v)['bright'].to_numpy()
    assert f[:200].mean() > 0.99 and f[200:].mean() < 0.01


def test_a_known_saturation_level_is_asked_directly():
    d, v = sky(4)
    d[1, 0, 3, 3:7] = 900
    assert flags_of(d, v, saturation=900)['saturated'].tolist() == [False, True, False, False]


def test_flags_do_not_depend_on_the_company():
    d, v = sky(150, channels=3)
    plant('streak', d[::2], v[::2], np.random.default_rng(0))
    whole, (b, s) = flags_of(d, v), local_background(d, v)
    for i in (0, 63, 64, 149):
        assert (
            decode_flags(image_flags(d[i : i + 1], v[i : i + 1], b[i : i + 1], s[i : i + 1]))
            .iloc[0]
            .equals(whole.iloc[i])
        )


@pytest.mark.parametrize('s', [1, 2, 3, 5, 8, 21, 63, 64])
def test_any_size_and_worthless_patches(s):
    d, v = sky(6, s=s, channels=2)
    d[0], d[1], v[2], d[3, 0], d[4] = np.nan, 7, False, np.inf, 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        f = flags_of(d, v)
    assert f['constant'].tolist()[:5] == [True] * 5
    assert f['centre_invalid'].tolist()[:3] == [True, False, True]


def test_background_agrees_with_astropy():
    from astropy.stats import sigma_clipped_stats

    d, v = sky(20, s=64, seed=5)
    d[:, :, :4, :4] += 4000  # A neighbour at the corner
    b, n = local_background(d, v)
    for k in range(20):
        ring = np.concatenate(
            [
                d[k, 0, :8].ravel(),
                d[k, 0, -8:].ravel(),
                d[k, 0, 8:-8, :8].ravel(),
                d[k, 0, 8:-8, -8:].ravel(),
            ]
        )
        _, med, std = sigma_clipped_stats(ring, sigma=3)
        assert abs(b[k, 0] - med) < 0.3 and abs(n[k, 0] / std - 1) < 0.08


def test_background_of_coarse_integers_and_of_nothing():
    d = np.zeros((2, 1, 32, 32), 'f4')
    d[0, 0, ::7, ::5] = 1
    d[1] = np.nan
    b, n = local_background(d)
    assert b[0, 0] == 0 and 0 < n[0, 0] < 1 and np.isnan([b[1, 0], n[1, 0]]).all()


def test_every_pixel_is_on_one_line_in_each_direction():
    lines, length, long, near = line_places(32)
    assert (
        (np.diff(lines, axis=1) > 0).all()
        and length.sum() >= 48 * 32 * 32
        and near.shape == (2, len(long))
        and len(long) > 48 * 20
    )
    diagonal = lines[
        np.arange(32) * 33
    ]  # A line at 45 degrees meets one place in the direction across it
    assert min(len(np.unique(c)) for c in diagonal.T) == 1


def test_one_list_drives_everything():
    d, v = sky(2)
    assert set(measure_patches(d, v, *local_background(d, v))) == {
        f.name for f in FLAGS if f.of == 'pixels'
    }
    assert set(measure_columns(pd.DataFrame(index=range(2)))) == {
        f.name for f in FLAGS if f.of == 'column'
    }
    asked = []
    has_none = dict(__contains__=lambda _, name: asked.append(name), __len__=lambda _: 2)
    measure_columns(type('Table', (), has_none)())
    assert set(asked) == set(MEASURED_COLUMNS)
    assert [f.bit for f in FLAGS] == sorted({f.bit for f in FLAGS}) and all(
        0 <= f.harm <= 1 for f in FLAGS
    )
    for f in FLAGS:
        assert decode_flags(1 << f.bit) == [f.name]
    assert decode_flags(0) == []


def test_a_badly_subtracted_star_is_no_cosmic_ray_but_a_hot_pixel_beside_it_is():
    d, v = sky(40, stars=False, level=0)
    y, x = np.indices((32, 32)) - 10

    def star(dx):
        return np.exp(-((x - dx) ** 2 + y**2) / 2 / 0.8**2)

    d += 900 * (star(0) - star(1)).astype('f4')  # One pixel is far above, and the next far below
    assert not flags_of(d, v)['cosmic_ray'].any()
    d[:20, 0, 25, 20] += 300
    assert flags_of(d, v)['cosmic_ray'].tolist() == [True] * 20 + [False] * 20


def test_columns_tell_what_pixels_cannot_and_unknown_sets_nothing():
    t = pd.DataFrame(
        dict(
            mjd=[59000.0, 59000, 59000, 59000],
            first_seen_mjd=[58000, np.nan, np.nan, 58990],
            template_end_mjd=[58500, 59001, np.nan, 58989],
            registration_error_pix=[0.1, 0.3, np.nan, 0.25],
        )
    )
    assert decode_flags(column_flags(t))[
        ['template_contaminated', 'misregistered']
    ].to_numpy().tolist() == [[True, False], [True, True], [False, False], [False, False]]
    assert column_flags(pd.DataFrame(index=range(3))).tolist() == [0, 0, 0]
    r = q.check_quality(table(40, 20, **{k: None for k in ('template_end_mjd',)}), probe=False)
    flags = {f.name for f in FLAGS}
    assert set(r.unmeasured) & flags == {
        'template_contaminated',
        'misregistered',
    } and 'misregistered (no column' in repr(r)
    with_columns = table(
        40,
        20,
        template_end_mjd=60000.0,
        registration_error_pix=0.5,
        quality_flags=np.uint32(0),
        valid_fraction=1.0,
    )
    d, v = sky(40)
    assert q.check_quality(with_columns, d, v, probe=False).flags == dict(
        template_contaminated=20, misregistered=40
    )


def test_a_warning_costs_what_it_says():
    t = table(
        1000,
        500,
        quality_flags=np.where(np.arange(1000) < 450, np.uint32(1 << 10), np.uint32(0)),
        valid_fraction=1.0,
    )
    score, counts, issues = check_images(t)
    assert (
        score == pytest.approx(1 - 0.045)
        and [i.severity for i in issues] == ['info']
        and '0.045' in issues[0].message
    )
    score, _, (issue,) = check_images(
        t.assign(quality_flags=np.uint32(1 << 4) * (np.arange(1000) < 600).astype('u4'))
    )
    assert score == pytest.approx(0.7) and issue.severity == 'error'


def test_what_speaks_against_a_label_is_said_once():
    bits = np.zeros(100, np.uint32)
    bits[:10], bits[50:70] = 1 << 5, 1 << 6
    t = table(100, 50, quality_flags=bits, valid_fraction=1.0)
    _, counts, of_images = check_images(t)
    _, _, of_labels = q.check_labels(t)
    assert counts == dict(faint=10, bright=20)
    assert of_images == []
    told = {issue.code: issue.n for issue in of_labels}
    assert told['nothing_there'] == 10 and told['source_in_drawn_sky'] == 20


def test_the_line_on_the_findings_promises_what_they_name():
    issues = issue_of('odd', 'info', '{n} odd', pd.DataFrame(index=range(80)), np.ones(80, bool))
    ((_, line),) = _finding_lines(issues)
    assert len(issues[0].sample_keys) == 50 and 'the first 50 samples of each' in line


# Labels and positions


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 359.9999, 120.0, 120.0002]),
            st.sampled_from([0.0, 89.9999, -90.0, 10.0]),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(0.01, 3),
)
def test_other_label_near_is_what_brute_force_says(rows, radius):
    ra, dec, label = map(np.array, zip(*rows))
    apart = sky_separation_arcsec(ra[:, None], dec[:, None], ra, dec)
    assert (
        other_label_near(ra, dec, label, radius)
        == ((apart <= radius) & (label[:, None] != label)).any(1)
    ).all()


def test_the_same_place_is_a_pixel_where_the_scale_is_known():
    t = table(4, 2, ra=[10, 10.0001, 10.0001, 10], dec=0.0)  # 0.36 arcsec apart
    assert q.check_labels(t)[1]['two_labels_one_place'] == 4
    fine = t.assign(
        half_width_arcsec=32 * 0.025,
        label=[1, 1, 0, 1],
        kind=['positive', 'positive', 'rejected', 'positive'],
    )
    assert q.check_labels(fine, 64)[1] == {
        'two_labels_one_place': 2
    }  # Two on one pixel; the others are 14 pixels away


def test_positions_that_cannot_be():
    t = table(5, 2)
    t.loc[0, 'ra'], t.loc[1, 'dec'], t.loc[2, 'ra'] = 400, -91, np.nan
    t.loc[3, ['ra', 'dec']] = 0
    score, counts, issues = q.check_positions(t)
    assert score == pytest.approx(0.2) and counts == dict(missing=1, off_sphere=2, zero=1, narrow=0)
    assert 'position_float32' in {i.code for i in q.check_positions(t.astype({'ra': 'f4'}))[2]}


def test_labels_at_missing_positions_do_not_disturb_the_others():
    t = table(600, 300, quality_flags=np.uint32(0))
    t.loc[[0, 4], 'ra'] = np.nan
    assert q.check_labels(t)[0] == 1
    assert q.check_labels(t[:6])[0] is None  # Two of six are too many


def test_disagreement_between_judges_counts():
    score, why, issues = q.check_labels(
        table(10, 5, label_disagreement=[True] + [False] * 9, quality_flags=np.uint32(0))
    )
    assert score == 0.9 and why == {'disagreement': 1} and issues[0].sample_keys == [f'{0:032x}']


def test_pixels_that_count_from_one_or_lie_elsewhere():
    t = table(30, 15, registry_x=50.0, registry_y=60.0, x0=34, y0=44, offset_x=0.0, offset_y=0.0)
    assert check_pixels(t, 32)[1] == [] and not check_pixels(t, None)[0].any()
    assert [i.code for i in check_pixels(t.assign(registry_x=51.0, registry_y=61.0), 32)[1]] == [
        'pixels_from_one'
    ]
    t.loc[3, 'registry_y'] = 90
    assert q.check_positions(t, 32)[:2] == (
        1 - 1 / 30,
        dict(missing=0, off_sphere=0, zero=0, narrow=0, off_pixel=1),
    )


# Coverage and columns


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 3000), st.integers(0, 5))
def test_a_moc_holds_the_cells_and_no_others(seed, n, order):
    rng = np.random.default_rng(seed)
    t = pd.DataFrame(
        dict(ra=rng.uniform(0, 360, n), dec=np.degrees(np.arcsin(rng.uniform(-1, 1, n))))
    )
    moc = coverage_moc(t, order)
    flat = sorted(
        c * 4 ** (order - int(k)) + j
        for k, cells in moc.items()
        for c in cells
        for j in range(4 ** (order - int(k)))
    )
    assert (
        flat
        == sorted(set(healpix_index(t['ra'].to_numpy(), t['dec'].to_numpy(), order).tolist()))
        == sky_cells(t, order).index.tolist()
    )
    for k, cells in moc.items():
        assert (
            k == '0'
            or max(np.bincount(np.unique(np.array(cells) // 4, return_inverse=True)[1])) < 4
        )  # Nothing left to merge


def test_drift_counts_groups_not_rows():
    rng = np.random.default_rng(0)
    t = table(
        400,
        200,
        split=np.where(np.arange(400) < 300, 'train', 'test'),
        mjd=58000 + rng.uniform(0, 100, 400) + 25 * (np.arange(400) >= 300),
    )
    assert [i.code for i in split_drift(t)[1]] == ['drift'] and split_drift(t)[0]['test'][
        'mjd'
    ] > 0.2
    assert (
        split_drift(t.assign(group_id=(np.arange(400) // 40).astype(str)))[1] == []
    )  # Ten groups could differ so much by chance
    assert split_drift(t.assign(split='train')) == ({}, [])


def test_every_column_of_a_version_is_declared(tmp_path):
    import astrid_data as ad

    archive = ad.synthetic_archive(tmp_path, n_observations=2, n_sources=12)
    d = (
        ad.TrainingDataCollector(archive)
        .plan(
            ad.TrainingDataCollectionParams(confidence_threshold=0, quality_score_threshold=None),
            progress=False,
        )
        .build('declared', patch_size=24, progress=False, probe=False)
    )
    when = known_at(d.samples)
    assert [c for c, w in when.items() if w is None] == []
    assert known_at(pd.DataFrame(dict(lineage=['1 2'])))['lineage'] == 'later'  # Of alerts
    assert {
        when[c] for c in ('label', 'score', 'mag', 'snr', 'detection_id', 'first_seen_mjd')
    } == {'label-derived'}


def test_a_column_that_knows_the_label_is_named():
    t = table(80, 40, exposure_s=np.where(np.arange(80) < 40, 30.0, 31.0), peakmag=19.0)
    assert {i.code: i.severity for i in check_columns(t)} == dict(
        column_undeclared='info', column_tells_label='warning'
    )
    assert check_columns(t.assign(exposure_s=30.0).drop(columns='peakmag')) == []


# Doubts


def planted(n=1000, seed=0):
    "Stars; and hot pixels, pairs of dark and bright, trails and nothing"
    rng = np.random.default_rng(seed)
    d, v = sky(n, seed=seed, flux=0)
    y, x = np.indices((32, 32)) - 16

    def psf(dx, dy):
        return np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / 2 / 1.1**2)

    for k in range(n):
        flux = rng.uniform(40, 300)
        if k < n // 2:
            d[k, 0] += flux * psf(*rng.uniform(-0.5, 0.5, 2))
        elif k % 4 == 0:
            d[k, 0, 16, 16] += 2 * flux
        elif k % 4 == 1:
            d[k, 0] += flux * (psf(-1, 0) - psf(1, 0))
        elif k % 4 == 2:
            d[k, 0] += flux * (abs(x * np.cos(k) + y * np.sin(k)) < 1)
    return d, v, (np.arange(n) < n // 2).astype(int), rng


def test_flipped_labels_are_at_the_top_of_the_queue():
    d, v, truth, rng = planted()
    wrong = rng.permutation(1000)[:50]
    label = np.where(np.isin(np.arange(1000), wrong), 1 - truth, truth)
    queue = rank_label_issues(table(1000, 500).assign(label=label), d, v)
    assert np.isin(wrong, queue['row'][:100]).mean() > 0.6
    assert sorted(queue['row']) == list(range(1000)) and (np.diff(queue['doubt']) <= 0).all()
    hits = np.isin(queue['row'][queue['is_label_issue']], wrong)
    assert hits.mean() > 0.6


def test_siblings_do_not_vouch_for_each_other():
    "Ten alerts of one object look alike and share a label that was tossed: only by group does no model know it"
    rng = np.random.default_rng(0)
    d, v = sky(400, seed=3, flux=0)
    y, x = np.indices((32, 32)) - 16
    for g in range(40):
        d[10 * g : 10 * g + 10, 0] += rng.uniform(50, 900) * np.exp(
            -((x / rng.uniform(1, 2)) ** 2 + y**2) / 2 / 1.1**2
        )
    t = table(400, 200).assign(label=np.repeat(rng.permutation(40) % 2, 10))
    grouped = rank_label_issues(t.assign(group_id=[f'g{i // 10}' for i in range(400)]), d, v)[
        'doubt'
    ].mean()
    alone = rank_label_issues(t, d, v)['doubt'].mean()
    assert alone < 0.3 < 0.4 < grouped, (alone, grouped)


def test_too_few_to_doubt_says_so():
    d, v = sky(12)
    with pytest.raises(
        BadInput, match='at least 10 groups of each label; there are 6 real and 6 other'
    ):
        rank_label_issues(table(12, 6), d, v)
    with pytest.raises(BadInput, match='12 patches do not fit 11 rows'):
        rank_label_issues(table(11, 6), d, v)


# Copies


def test_copies_are_found_among_many_and_nothing_else():
    d, v = sky(1200, s=24, seed=2, flux=3000)
    rng = np.random.default_rng(0)
    src, dst = np.arange(0, 300, 3), np.arange(1000, 1100)
    d[dst] = d[src] * rng.uniform(0.5, 3, (100, 1, 1, 1)).astype('f4') + 7
    d[dst[:50]] = np.round(d[dst[:50]])
    pairs = q.find_duplicates(d, v)
    found, true = set(zip(pairs['i'], pairs['j'])), set(zip(src.tolist(), dst.tolist()))
    assert len(found & true) >= 98 and not found - true


def test_copies_across_splits_and_of_other_label_are_errors():
    t, d, v = both()
    d[119], d[1] = d[0], d[2]
    t['split'] = np.where(np.arange(120) == 1, 'test', 'train')
    r = q.check_quality(t, d, v, probe=False)
    errors = {i.code: i.n for i in r.issues if i.severity == 'error'}
    assert errors == dict(duplicates_across_splits=2, duplicates_of_other_label=2)
    assert r.duplicates['exact'] == 2 and r.components['unique'] == 1 - 2 / 120


def test_one_patch_or_empty_patches_have_no_copies():
    d, v = sky(3)
    d[:] = np.nan
    d[1] = 1
    assert len(q.find_duplicates(d[1:2], v[1:2])) == 0
    assert q.find_duplicates(d, v)[['i', 'j', 'kind']].to_numpy().tolist() == [[0, 2, 'exact']]


# Shortcuts


@pytest.mark.parametrize('plant', ['sky', 'padding', 'band', 'phase'])
def test_a_planted_shortcut_is_named(plant):
    t, d, v = both(300)
    rng, zero = np.random.default_rng(0), np.arange(300) >= 150
    t['image_background'], t['image_noise'] = (
        100 + rng.normal(0, 3, 300) + 3 * zero * (plant == 'sky'),
        5.0,
    )
    t['offset_x'] = rng.uniform(-0.5, 0.5, 300) * np.where(zero & (plant == 'phase'), 0.1, 1)
    if plant == 'band':
        t['band'] = np.where(zero ^ (rng.uniform(size=300) < 0.2), 'i', 'r')
    if plant == 'padding':
        v[zero, :, :, :4], v[~zero, :, :, -4:] = False, False
    p = probe_shortcuts(t, v)
    name = dict(sky='image_background', padding='missing_left', band='band=i', phase='offset_x')[
        plant
    ]
    assert (
        p['auc'] > 0.65
        and [i.code for i in q.check_shortcuts(t, p)] == ['shortcut']
        and (name in list(p['single'])[:3] or plant == 'phase')
    )


def test_the_probe_is_silent_where_there_is_no_shortcut():
    loud = 0
    for seed in range(6):
        rng, t = np.random.default_rng(seed), table(200, 100)
        t = t.assign(
            image_background=rng.normal(100, 3, 200),
            image_noise=rng.normal(5, 0.2, 200),
            offset_x=rng.uniform(-0.5, 0.5, 200),
            mjd=rng.uniform(58000, 58400, 200),
        )
        loud += bool(q.check_shortcuts(t, probe_shortcuts(t)))
    assert loud <= 1


def test_siblings_do_not_tell_on_each_other():
    "Ten alerts of one object share sky and label: by group the sky says nothing, one by one it says all"
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 10)
    label, level = rng.permutation(60) % 2, rng.normal(100, 5, 60)
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(600)],
            label=label[group],
            image_background=level[group] + rng.normal(0, 0.01, 600),
            group_id=[f'g{g}' for g in group],
        )
    )
    assert (
        probe_shortcuts(t)['auc'] < 0.65 < 0.85 < probe_shortcuts(t.drop(columns='group_id'))['auc']
    )


def test_the_probe_says_why_it_is_silent():
    assert 'there are' in probe_shortcuts(table(12, 6))['reason']


# The score


def score(t, d, v, **kw):
    return q.check_quality(t, d, v, probe=False, **kw).quality_score


@pytest.mark.parametrize('seed', range(2))
def test_the_score_falls_with_every_kind_of_harm(seed):
    t, d, v = both(seed=seed)
    rng = np.random.default_rng(seed)
    order, last = rng.permutation(120), {}
    for k in (0, 10, 30):
        hit = order[:k]
        hurt, _lost = d.copy(), v.copy()
        hurt[hit, :, :6] = np.nan
        flip = t.assign(label=np.where(np.isin(np.arange(120), hit), 1 - t['label'], t['label']))
        keep = np.r_[:60, 60 : 120 - k]
        now = dict(
            pixels=score(t, hurt, None),
            mask=score(
                t,
                d,
                np.where(
                    np.isin(np.arange(120), hit)[:, None, None, None] & (np.arange(32) > 20),
                    False,
                    v,
                ),
            ),
            labels=score(flip, d, v),
            balance=score(t.iloc[keep], d[keep], v[keep]),
            losses=score(
                t, d, v, requested=120 + k, ledger=pd.DataFrame(dict(reason=['off_image'] * k, n=1))
            ),
        )
        assert all(now[h] < last.get(h, 2) for h in now), (k, now, last)
        last = now
    assert score(t[:60], d[:60], v[:60]) == 0 and score(t[60:], d[60:], v[60:]) == 0


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=6), st.data())
def test_the_score_rises_with_each_component(parts, data):
    c = {f'c{i}': v for i, v in enumerate(parts)}
    k = data.draw(st.sampled_from(list(c)))
    up = data.draw(st.floats(c[k], 1)) if c[k] is not None else None
    assert combine({**c, k: up}) >= combine(c) - 1e-12
    assert 0 <= combine(c) <= 1 + 1e-12


def test_nothing_is_added_that_was_not_measured():
    r = q.check_quality(table(10, 5))
    assert (
        r.components['images'] is None
        and r.components['unique'] is None
        and r.image_quality_score is None
        and 'images unknown' in repr(r)
    )


# The report


def test_json_keeps_everything_even_nan():
    t, d, v = both()
    t.loc[3, ['ra', 'mjd']] = np.nan
    r = q.check_quality(
        t,
        d,
        v,
        ledger=pd.DataFrame(dict(reason=['off_image', 'no_wcs', 'off_image'])),
        requested=123,
    )
    text = r.to_json()
    assert q.DataQualityReport.from_json(text).to_json() == text and 'NaN' not in text
    assert r.losses == dict(requested=123, kept=120, lost=dict(no_wcs=1, off_image=2))
    again = q.DataQualityReport.from_json(json.dumps({**json.loads(text), 'of_a_newer_version': 1}))
    assert again.issues[0].code and again.total_samples == 120 and repr(again) == repr(r)


def test_a_report_that_is_read_back_names_the_strongest_shortcut_first():
    t, d, v = both(300)
    zero = np.arange(300) >= 150
    t['image_background'], t['image_noise'] = (
        100.0,
        5 + np.random.default_rng(0).normal(0, 0.1, 300) + zero,
    )
    t['survey'] = t['band'] = np.where(
        zero ^ (np.arange(300) % 7 == 0), 'b', 'a'
    )  # Both tell equally much
    r = q.check_quality(t, d, v)
    again = q.DataQualityReport.from_json(r.to_json())
    single = list(again.shortcuts['single'].items())
    assert (
        single == list(r.shortcuts['single'].items())
        and single[0][0] == 'image_noise'
        and single[1][1] == single[4][1]
        and single != sorted(single)
    )
    assert again.to_json() == r.to_json()


def test_the_report_does_not_depend_on_the_order_of_rows():
    t, d, v = both()
    o = np.random.default_rng(0).permutation(120)
    a, b = (
        q.check_quality(t, d, v, probe=False).to_dict(),
        q.check_quality(t.iloc[o], d[o], v[o], probe=False).to_dict(),
    )
    assert (
        a['components'] == pytest.approx(b['components'])
        and a['issues'] == b['issues']
        and a['flags'] == b['flags']
    )


class Tags(HTMLParser):
    void = {'meta', 'img', 'br'}

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize('origin', ['survey', 'synthetic', 'mixed'])
def test_pictures_and_html(origin):
    t, d, v = both(60)
    t['origin'] = (
        origin if origin != 'mixed' else np.where(np.arange(60) % 2, 'survey', 'synthetic')
    )
    t.loc[0, 'class_name'] = '<script>'
    r = q.check_quality(t, d, v)
    for whole in (True, False):
        p = Tags()
        p.feed(r.html(whole))
        assert (
            not p.open
            and any(k == 'img' for k, _ in p.seen)
            and not any(k in ('script', 'link') for k, _ in p.seen)
        )
        assert not any(a.get('src', 'data:').startswith('http') for _, a in p.seen)
    assert ('SYNTHETIC' in r._repr_html_()) == (origin != 'survey') == ('SYNTHETIC' in repr(r))
    assert r.plot()._repr_png_()[:4] == b'\x89PNG' and any(
        getattr(a, 'get_hatch', lambda: None)() for a in r.plot().artists + r.plot().patches
    ) == (origin != 'survey')


def test_an_empty_plot_is_a_plot():
    r = q.check_quality(pd.DataFrame(dict(sample_key=['a'], label=[1])))
    assert len(r.plot()._repr_png_()) > 1000 and r.quality_score == 0


def test_gates_by_name():
    t, d, v = both()
    r = q.check_quality(t, d, v, gates=dict(quality_score=(1.1, 1.05), images=None))
    names = {g.name: g for g in r.gates}
    assert (
        names['quality_score'].outcome == 'fail'
        and names['quality_score'].threshold == 1.05
        and 'images' not in names
    )
    assert q.check_quality(t[:80], d[:80], v[:80], probe=False).weakest == 'balance'
    with pytest.raises(BadInput, match='there are: quality_score'):
        q.check_quality(t, gates=dict(imgaes=0.5))


def test_bad_input_is_named():
    t, d, v = both()
    with pytest.raises(BadInput, match='no samples'):
        q.check_quality(t[:0])
    with pytest.raises(BadInput, match='119 patches do not fit 120 rows'):
        q.check_quality(t, d[:119])
    r = q.check_quality(t, d, v, requested=500, probe=False)
    assert 'ledger_does_not_add_up' in {i.code for i in r.issues}


def test_flags_of_a_version_are_used_and_pixels_read_in_pieces():
    "A mapped version is never read whole"
    t, d, v = both()

    class Mapped:
        shape, dtype, ndim, most = d.shape, d.dtype, 4, 0

        def __len__(self):
            return len(d)

        def __getitem__(self, rows):
            got = d[rows]
            Mapped.most = max(Mapped.most, len(got))
            return got

    b, n = local_background(d, v)
    t = t.assign(
        image_background=b[:, 0],
        image_noise=n[:, 0],
        quality_flags=image_flags(d, v, b, n),
        valid_fraction=1.0,
        pixel_sha256=[str(i) for i in range(120)],
    )
    r = q.check_quality(
        pd.concat([t] * 20, ignore_index=True).assign(
            sample_key=[f'{i:032x}' for i in range(2400)],
            pixel_sha256=[str(i) for i in range(2400)],
        ),
        type(
            'M',
            (Mapped,),
            dict(
                shape=(2400, *d.shape[1:]),
                __len__=lambda s: 2400,
                __getitem__=lambda s, r: Mapped.__getitem__(s, np.arange(2400)[r] % 120),
            ),
        )(),
        type(
            'V',
            (),
            dict(
                shape=(2400, *d.shape[1:]),
                __len__=lambda s: 2400,
                __getitem__=lambda s, r: v[np.arange(2400)[r] % 120],
            ),
        )(),
        probe=True,
    )
    assert Mapped.most <= 1024 and r.duplicates['near'] > 1000


@pytest.mark.parametrize('flag', FLAGS, ids=lambda f: f.name)
def test_each_flag_takes_its_harm_where_it_counts(flag):
    t = table(10, 5, quality_flags=np.uint32(1 << flag.bit), valid_fraction=1.0)
    share = dict(all=1, source=0.5, sky=0.5)[flag.on]
    assert q.check_images(t)[0] == pytest.approx(1 - share * flag.harm)


@pytest.mark.parametrize('turn', range(4))
@pytest.mark.parametrize('side', [2, 3, 5, 7])
def test_a_small_corner_of_zeros_is_fill_also_at_level_0(side, turn):
    data, valid = sky(20, seed=side, level=0)
    y, x = np.indices((32, 32))
    corner = np.rot90(x + y < side, turn)
    cut = np.where(corner, np.float32(0), data)
    level, noise = local_background(cut, valid)
    filled = measure_patches(cut, valid, level, noise)['filled']
    assert (filled == corner.sum()).all()
    assert not measure_patches(data, valid, *local_background(data, valid))['filled'].any()


def test_equal_numbers_in_a_corner_may_be_chance():
    data, valid = sky(50, seed=3, level=0, noise=1)
    whole = data.round()
    whole[:, :, :2, :2] = 0
    fours = data[..., ::2, ::2].repeat(2, -1).repeat(2, -2)
    photons = np.random.default_rng(0).poisson(0.05, data.shape).astype('f4')
    for pixels in (whole, fours, photons):
        levels = local_background(pixels, valid)
        assert not measure_patches(pixels, valid, *levels)['filled'].any()


def test_masks_are_no_images():
    y, x = np.indices((32, 32)) - 16
    discs = [(np.hypot(x - k, y) < 3 + k).astype('f4') for k in range(8)]
    three = [disc + (x > k) for k, disc in enumerate(discs)]
    good_pixels = [1 - disc for disc in discs]
    masks = np.stack([*discs, *three, *good_pixels])[:, None]
    valid = np.ones(masks.shape, bool)
    found = decode_flags(image_flags(masks, valid, *local_background(masks, valid)))
    assert found['mask'].all()
    rng = np.random.default_rng(0)
    star = 3 * np.exp(-(x**2 + y**2) / 2 / 1.5**2)
    images = np.concatenate(
        [rng.poisson(mean, (50, 1, 32, 32)) for mean in (0.05, 0.3, 0.02 + star)]
    )
    images = np.concatenate([images, rng.normal(0, 0.4, (50, 1, 32, 32)).round()]).astype('f4')
    valid = np.ones(images.shape, bool)
    found = decode_flags(image_flags(images, valid, *local_background(images, valid)))
    assert not found['mask'].any()
    images[0, 0, :, :] = np.nan
    nothing = np.isfinite(images[:1])
    assert not measure_patches(images[:1], nothing, *local_background(images[:1]))['mask'].any()
