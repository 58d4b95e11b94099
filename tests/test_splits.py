"Splits against brute force: over many seeds no object, no place and no pixel of sky is in two of them"

import json

import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid_data.core import SPLITS, BadInput
from astrid_data.sky import sky_separation_arcsec
from astrid_data.splits.assign import import_splits, split_samples
from astrid_data.splits.audit import LeakageAudit, audit_splits
from astrid_data.splits.blocks import sky_blocks
from astrid_data.splits.exposures import exposures
from astrid_data.splits.footprints import find_footprints, overlaps_any
from astrid_data.splits.groups import group_detections
from astrid_data.splits.report import EmptySplit

SIZE = 24


def tan(ra, dec, scale, turn=0.0, flip=1):
    "A tangent-plane WCS, its +y turned from north by `turn` degrees"
    w, t = WCS(naxis=2), np.radians(turn)
    w.wcs.ctype, w.wcs.crval, w.wcs.crpix = ['RA---TAN', 'DEC--TAN'], [ra, dec], [100, 100]
    w.wcs.cd = (
        scale / 3600 * np.array([[-flip * np.cos(t), np.sin(t)], [flip * np.sin(t), np.cos(t)]])
    )
    return w


def exposure(name, w, x, y, scale, turn, rng, objects=None, **kw):
    "Samples of one image"
    ra, dec = w.all_pix2world(x, y, 0)
    mx, my = np.floor(x + 0.5), np.floor(y + 0.5)
    label = rng.integers(0, 2, len(x))
    return pd.DataFrame(
        dict(
            ra=ra % 360,
            dec=dec,
            object_id=np.full(len(x), None, object) if objects is None else objects,
            label=label,
            class_name=np.where(label == 1, 'star', 'sky'),
            survey='s',
            image_uri=name,
            image_hdu='SCI',
            image_extver=1,
            observation_id=name,
            observation_key=name,
            x0=mx - SIZE // 2,
            y0=my - SIZE // 2,
            half_width_arcsec=scale * SIZE / 2,
            pixel_scale_arcsec=scale,
            pixel_pa_deg=turn,
            mjd=59000.0,
            **kw,
        )
    )


def keyed(parts, seed=0):
    t = pd.concat(parts, ignore_index=True)
    keys = np.random.default_rng(seed).permutation(len(t))
    return t.assign(sample_key=[f'{k:06x}' for k in keys])


def mixed_sky(seed=0, n=150):
    "A crowded field in two exposures turned against each other, a coarser image over its edge, lonely small images, alerts without a WCS"
    rng = np.random.default_rng(seed)
    w = {
        'a': tan(359.999, 1, 0.1),
        'b': tan(0.0, 1.001, 0.1, 30),
        'c': tan(0.003, 1.0, 0.3, -20, flip=-1),
    }
    x, y = rng.uniform(0, 200, (2, n))
    bx, by = w['b'].all_world2pix(*w['a'].all_pix2world(x, y, 0), 0)
    ids = [f'o{i}' if i % 3 else None for i in range(n)]
    parts = [
        exposure('a', w['a'], x, y, 0.1, 0, rng, ids),
        exposure(
            'b',
            w['b'],
            bx,
            by,
            0.1,
            30,
            rng,
            [f'o{i}' if i % 5 else f'renamed{i}' for i in range(n)],
        ),
        exposure('c', w['c'], *rng.uniform(20, 180, (2, 30)), 0.3, -20, rng),
    ]
    for k in range(4):
        w[f'small{k}'] = tan(40 + 30 * k, 89.9 if k == 0 else -30, 0.5)
        parts.append(
            exposure(f'small{k}', w[f'small{k}'], *rng.uniform(0, 60, (2, 12)), 0.5, 0, rng)
        )
    obj = rng.integers(0, 25, 100)
    alerts = pd.DataFrame(
        dict(
            ra=100 + obj * 0.5 + rng.normal(0, 2e-5, 100),
            dec=rng.normal(10, 2e-5, 100),
            object_id=[f'ZTF{o}' for o in obj],
            label=obj % 2,
            class_name='alert',
            survey='ztf',
            image_uri=[f'cas/{i}' for i in range(100)],
            observation_id=[f'z{i}' for i in range(100)],
            observation_key='z',
            x0=0.0,
            y0=0.0,
            half_width_arcsec=np.nan,
            pixel_scale_arcsec=np.nan,
            pixel_pa_deg=np.nan,
            mjd=58000.0 + rng.integers(0, 40, 100),
        )
    )
    return keyed(parts + [alerts], seed), w


def shares_pixel(t, w, i, j):
    "Whether a pixel centre or corner of patch i lies inside patch j, asked through the two WCS"
    g = np.linspace(-0.499, SIZE - 0.501, 2 * SIZE + 1)
    gx, gy = (a.ravel() for a in np.meshgrid(g, g))
    at = w[t['image_uri'][j]].all_world2pix(
        *w[t['image_uri'][i]].all_pix2world(gx + t['x0'][i], gy + t['y0'][i], 0), 0
    )

    def inside(p, x0):
        return (p > x0 - 0.5) & (p < x0 + SIZE - 0.5)

    with np.errstate(invalid='ignore'):
        return bool((inside(at[0], t['x0'][j]) & inside(at[1], t['y0'][j])).any())


def painted(t, split):
    "For each image the pixels of every split, painted on a canvas: how many are painted twice"
    twice = 0
    for _uri, g in t[t['half_width_arcsec'].notna()].groupby('image_uri'):
        x0, y0 = g['x0'].astype(int), g['y0'].astype(int)
        canvas = np.zeros((3, int(np.ptp(y0)) + SIZE, int(np.ptp(x0)) + SIZE), bool)
        for a, b, s in zip(x0 - x0.min(), y0 - y0.min(), split[g.index]):
            if s in SPLITS:
                canvas[SPLITS.index(s), b : b + SIZE, a : a + SIZE] = True
        twice += int((canvas.sum(0) > 1).sum())
    return twice


def things_in_two(t, split):
    "Objects, and pairs at one place, that are in two splits: by all pairs"
    rows = np.flatnonzero(np.isin(split, SPLITS))
    names = (
        pd.DataFrame(dict(o=t['object_id'].to_numpy()[rows], s=split[rows]))
        .dropna()
        .drop_duplicates()['o']
    )
    ra, dec = t['ra'].to_numpy()[rows], t['dec'].to_numpy()[rows]
    half = np.nan_to_num(t['half_width_arcsec'].to_numpy()[rows] / 10, nan=np.inf)
    near = sky_separation_arcsec(ra[:, None], dec[:, None], ra, dec) < np.fmin(
        1, np.fmax(half[:, None], half)
    ) * (1 - 1e-9)
    return int(names.duplicated().sum()) + int((near & (split[rows][:, None] != split[rows])).sum())


SKY, WCSES = mixed_sky()


@pytest.mark.parametrize('seed', range(50))
def test_no_object_and_no_pixel_in_two_splits(seed):
    r = split_samples(SKY, seed=seed)
    assert things_in_two(SKY, r.split) == 0 and painted(SKY, r.split) == 0
    audit = audit_splits(SKY.assign(split=r.split))
    assert audit.verdict == 'pass', audit
    n = r.report['counts']
    assert (
        n['buffer'] < 0.3 * len(SKY)
        and min(n['val'], n['test']) > 0.07 * len(SKY)
        and n['train'] > 0.45 * len(SKY)
    ), n
    for k in SPLITS:
        assert set(SKY['label'][r.split == k]) == {0, 1}


@pytest.mark.parametrize('seed', range(4))
def test_no_sky_shared_across_images(seed):
    "The slow way: every pair of patches of different splits, through both WCS"
    r = split_samples(SKY, seed=seed)
    rows = np.flatnonzero(np.isin(r.split, SPLITS) & SKY['half_width_arcsec'].notna())
    sep = sky_separation_arcsec(
        SKY['ra'].to_numpy()[rows][:, None],
        SKY['dec'].to_numpy()[rows][:, None],
        SKY['ra'].to_numpy()[rows],
        SKY['dec'].to_numpy()[rows],
    )
    h = SKY['half_width_arcsec'].to_numpy()[rows]
    pairs = np.argwhere((sep < 1.6 * (h[:, None] + h)) & (r.split[rows][:, None] != r.split[rows]))
    assert len(pairs)
    assert not [p for p in pairs if shares_pixel(SKY, WCSES, rows[p[0]], rows[p[1]])]


@settings(max_examples=150)
@given(
    st.floats(-89.99, 89.99),
    st.floats(0, 359.99),
    st.floats(0, 360),
    st.floats(0, 360),
    st.floats(-1.3, 1.3),
    st.floats(-1.3, 1.3),
    st.sampled_from([0.3, 1.0, 2.7]),
)
def test_overlap_misses_nothing(dec, ra, turn1, turn2, dx, dy, ratio):
    rng = np.random.default_rng(0)
    w = {'a': tan(ra, dec, 0.2, turn1), 'b': tan(ra, dec, 0.2 * ratio, turn2)}
    bx, by = w['b'].all_world2pix(*w['a'].all_pix2world(100 + dx * SIZE, 100 + dy * SIZE, 0), 0)
    t = keyed(
        [
            exposure('a', w['a'], np.array([100.0]), np.array([100.0]), 0.2, turn1, rng),
            exposure('b', w['b'], np.array([bx]), np.array([by]), 0.2 * ratio, turn2, rng),
        ]
    )
    one = np.arange(2)
    got = overlaps_any(find_footprints(t), one[:1], one[1:])[0]
    assert got == overlaps_any(find_footprints(t), one[1:], one[:1])[0]
    if shares_pixel(t, w, 0, 1) or shares_pixel(t, w, 1, 0):
        assert got
    h, sep = (
        t['half_width_arcsec'],
        sky_separation_arcsec(t['ra'][0], t['dec'][0], t['ra'][1], t['dec'][1]),
    )
    if sep > 1.1 * np.sqrt(2) * h.sum() + 1:
        assert not got


@pytest.mark.parametrize(
    'turn, angle, hits', [(30, 75, True), (30, 15, False), (-30, 15, True), (-30, 75, False)]
)
def test_squares_turn_the_right_way(turn, angle, hits):
    "A small patch beyond the side, but inside the corner, of a turned one: directions from north to east"
    r, a = 1.3 * 10 / 3600, np.radians(angle)
    t = pd.DataFrame(
        dict(
            ra=[10, 10 + r * np.sin(a)],
            dec=[0, r * np.cos(a)],
            half_width_arcsec=[10, 0.1],
            pixel_scale_arcsec=[0.01, 0.01],
            pixel_pa_deg=[turn, 0.0],
            sample_key=['a', 'b'],
        )
    )
    assert overlaps_any(find_footprints(t), np.array([0]), np.array([1]))[0] == hits


def test_overlaps_any_is_what_pairs_say():
    "The shortcut by nearest neighbours against asking every pair"
    from astrid_data.splits.footprints import _share_sky

    t, _ = mixed_sky(3)
    sky, rows = find_footprints(t), np.random.default_rng(1).permutation(len(t))
    mine, others = rows[:300], rows[300:]
    i, j = (a.ravel() for a in np.meshgrid(mine, others, indexing='ij'))
    slow = _share_sky(sky, i, j).reshape(len(mine), -1).any(1)
    assert slow.any() and not slow.all()
    np.testing.assert_array_equal(overlaps_any(sky, mine, others), slow)


def test_the_order_of_rows_does_not_matter():
    r = split_samples(SKY, seed=3)
    order = np.random.default_rng(0).permutation(len(SKY))
    again = split_samples(SKY.iloc[order].reset_index(drop=True), seed=3)
    np.testing.assert_array_equal(again.split, r.split[order])
    np.testing.assert_array_equal(again.group_id, r.group_id[order])
    assert json.loads(json.dumps(r.report)) == again.report == r.report


def test_seeds_differ_and_repeat():
    splits = [tuple(split_samples(SKY, seed=s).split) for s in (0, 1, 2, 0)]
    assert splits[0] == splits[3] and len(set(splits)) == 3


# Groups --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 3.0]))
def test_groups_are_connected_components(seed, radius):
    rng = np.random.default_rng(seed)
    n = 40
    t = pd.DataFrame(
        dict(
            sample_key=[f'{k:03d}' for k in rng.permutation(n)],
            ra=(rng.normal(0, 3 / 3600, n)) % 360,
            dec=rng.normal(0, 3 / 3600, n) + rng.choice([0, 89.9]),
            object_id=rng.choice(['a', 'b', '', None, 'c', 'd', 'e'], n),
        )
    )
    near = (
        sky_separation_arcsec(
            t['ra'].to_numpy()[:, None],
            t['dec'].to_numpy()[:, None],
            t['ra'].to_numpy(),
            t['dec'].to_numpy(),
        )
        <= radius
    )
    o = t['object_id'].to_numpy(object)
    link = near | np.array([[a == b and bool(a) for b in o] for a in o])
    for _ in range(n):
        link = link @ link
    slow = [min(t['sample_key'][link[i]]) for i in range(n)]
    assert group_detections(t, radius).tolist() == slow


def test_missing_positions_and_ids_group_by_what_there_is():
    t = pd.DataFrame(
        dict(
            sample_key=list('abcde'),
            ra=[1, np.nan, np.nan, 1, 200.0],
            dec=[1, np.nan, 5, 1, np.nan],
            object_id=['x', 'x', None, None, None],
            label=0,
        )
    )
    assert group_detections(t).tolist() == ['a', 'a', 'c', 'a', 'e']
    assert set(split_samples(t).split) <= {*SPLITS, 'buffer'}
    assert len(group_detections(t[:0])) == 0 and len(split_samples(t[:0]).split) == 0


@pytest.mark.parametrize('by', ['object', 'night'])
def test_what_is_said_to_belong_together_does(by):
    "Pairs from elsewhere, such as copies of one stamp, join groups, also beside what is held"
    t = lonely(300).assign(survey='s', mjd=59000.0 + np.arange(300) % 9)
    pairs = np.stack([np.arange(100), np.arange(200, 300)])
    group = group_detections(t, together=pairs)
    assert (group[:100] == group[200:]).all() and len(set(group)) == 200
    for hold in (None, dict(test=dict(object_id=['0-5', '0-150']))):
        r = split_samples(t, by=by, hold=hold, together=pairs)
        first, second = r.split[pairs]
        assert ((first == second) | (first == 'buffer') | (second == 'buffer')).all()
        assert r.report['groups'] == 200
    with pytest.raises(BadInput, match='names row 300'):
        split_samples(t, together=[[0], [300]])


# Assigning -----------------------------------------------------------------------------------------------------------


def lonely(n, seed=0, start=0):
    rng = np.random.default_rng([seed, start])
    return pd.DataFrame(
        dict(
            sample_key=[f'{k:08x}' for k in rng.permutation(10**6)[:n] + start * 10**6],
            ra=rng.uniform(0, 360, n),
            dec=np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
            object_id=[f'{start}-{i}' for i in range(n)],
            label=rng.integers(0, 2, n),
            half_width_arcsec=30.0,
        )
    )


def test_many_blocks_go_by_hash_and_stay():
    old, new = lonely(3000), lonely(300, start=1)
    r = split_samples(old, seed=5)
    grown = split_samples(pd.concat([new, old], ignore_index=True), seed=5)
    assert r.report['dealt_by_need'] == 0
    np.testing.assert_array_equal(grown.split[300:], r.split)
    for k, f in zip(SPLITS, (0.7, 0.15, 0.15)):
        assert abs(r.report['counts'][k] / 3000 - f) < 0.03


@pytest.mark.parametrize('seed', range(50))
def test_growth_with_the_older_version_at_hand_moves_nothing(seed):
    rng = np.random.default_rng(seed)
    was = np.sort(rng.permutation(len(SKY))[: int(len(SKY) / 1.1)])
    old = SKY.iloc[was].reset_index(drop=True)
    first = split_samples(old, seed=seed)
    grown = split_samples(SKY, seed=seed, previous=old.assign(split=first.split))
    np.testing.assert_array_equal(grown.split[was], first.split)
    assert things_in_two(SKY, grown.split) == 0 and painted(SKY, grown.split) == 0
    assert audit_splits(SKY.assign(split=grown.split)).verdict == 'pass'
    assert grown.report['kept_from_before'] == len(was)


def sizes_of(split):
    return [int((split == name).sum()) for name in SPLITS]


@pytest.mark.parametrize('seed', range(5))
def test_corners_come_as_near_as_they_can(seed):
    "A giant, four equal groups of one class each, four nights, and a rare class"
    t = lonely(200, seed)
    giant = np.where(np.arange(200) < 160, 0, np.arange(200))
    big = t.assign(object_id=[f'o{k}' for k in giant], ra=giant * 1.7, dec=0.0)
    assert sizes_of(split_samples(big, seed=seed).split) == [160, 20, 20]
    four = np.arange(200) // 50
    pure = t.assign(object_id=[f'o{k}' for k in four], ra=four * 50.0, dec=0.0, label=four % 2)
    assert sizes_of(split_samples(pure, seed=seed).split) == [100, 50, 50]
    nights = t.assign(mjd=59000.3 + four, survey='ztf')
    assert sizes_of(split_samples(nights, by='night', seed=seed).split) == [100, 50, 50]
    rare = lonely(400, seed).assign(label=(np.arange(400) < 12).astype(int))
    split = split_samples(rare, seed=seed).split
    assert all((rare['label'][split == name] == 1).any() for name in SPLITS)


def test_the_plain_draw_can_be_had():
    "Versions that were made before are split again as they were"
    t = lonely(200)
    giant = np.where(np.arange(200) < 160, 0, np.arange(200))
    big = t.assign(object_id=[f'o{k}' for k in giant], ra=giant * 1.7, dec=0.0)
    plain, evened = split_samples(big, even_out_far=False), split_samples(big)
    assert plain.report['evened_out'] == 0 < evened.report['evened_out']
    assert sizes_of(plain.split) != [160, 20, 20]


def test_fractions_and_their_mistakes():
    t = lonely(400)
    r = split_samples(t, fractions=(0.5, 0, 0.5))
    assert r.report['counts']['val'] == 0 and abs(r.report['counts']['test'] - 200) < 60
    for f in [(0.7, 0.2), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (np.nan, 0.5, 0.5)]:
        with pytest.raises(BadInput, match='fractions'):
            split_samples(t, fractions=f)
    with pytest.raises(BadInput, match='choose object'):
        split_samples(t, by='moon')
    with pytest.raises(BadInput, match='no time'):
        split_samples(t.assign(mjd=np.nan), by='time')
    with pytest.raises(BadInput, match='earlier splits'):
        split_samples(t, previous={t['sample_key'][0]: 'quiz'})


def test_few_heavy_blocks_are_shared_out_with_both_classes():
    "Ten lonely fields; label 1 lives in three of them only"
    rng = np.random.default_rng(0)
    t = keyed(
        [
            exposure(
                f'f{k}', tan(30 * k, 0, 0.5), *rng.uniform(0, 60, (2, 40)), 0.5, 0, rng
            ).assign(label=int(k < 3) * (np.arange(40) % 2))
            for k in range(10)
        ]
    )
    for seed in range(10):
        r = split_samples(t, seed=seed)
        for k in SPLITS:
            assert set(t['label'][r.split == k]) == {0, 1}


def crowded(n=1500, side=512, scale=0.025, seed=0):
    "One Hubble frame with 64-pixel patches all over each other, and small images beside it"
    global SIZE
    SIZE = 64
    try:
        rng = np.random.default_rng(seed)
        parts = [
            exposure(
                'hrc', tan(6.0, -72.1, scale, 40), *rng.uniform(0, side, (2, n)), scale, 40, rng
            )
        ]
        parts += [
            exposure(f's{k}', tan(250.0 - k, 36, 1.0), *rng.uniform(0, 300, (2, 60)), 1.0, 0, rng)
            for k in range(3)
        ]
        return keyed(parts)
    finally:
        SIZE = 24


@pytest.mark.parametrize('seed', range(3))
def test_a_crowded_frame_still_gives_useful_sizes(seed):
    t = crowded()
    r = split_samples(t, 64, seed=seed)
    n = {k: v / len(t) for k, v in r.report['counts'].items()}
    assert n['train'] > 0.5 and n['val'] > 0.08 and n['test'] > 0.08 and n['buffer'] < 0.25, n
    assert (
        r.report['largest_group_share'] < 0.02
    )  # A radius of an arcsecond would have made one thing of the frame
    assert audit_splits(t.assign(split=r.split), patch_size=64).verdict == 'pass'


def test_other_ways_to_split():
    t = SKY.assign(
        survey=np.where(
            SKY['image_uri'].str.startswith('cas'),
            'ztf',
            np.where(SKY['image_uri'] == 'a', 'hst', 'other'),
        )
    )
    for by in ('group', 'sky', 'observation', 'survey'):
        r = split_samples(t, by=by)
        assert things_in_two(t, r.split) == 0 and painted(t, r.split) == 0, by
        if by == 'survey':
            assert (
                pd.DataFrame(dict(s=t['survey'], k=r.split))
                .query("k != 'buffer'")
                .groupby('s')['k']
                .nunique()
                .max()
                == 1
            )
    z = (
        t[t['survey'] == 'ztf']
        .reset_index(drop=True)
        .assign(object_id=[f'only{i}' for i in range(100)], ra=np.arange(100.0))
    )
    night = split_samples(z, by='night')
    assert (
        pd.DataFrame(dict(n=np.floor(z['mjd'] - 17 / 24), k=night.split))
        .groupby('n')['k']
        .nunique()
        .max()
        == 1
    )
    old_to_new = split_samples(z, by='time')
    late = {k: z['mjd'][old_to_new.split == k] for k in SPLITS}
    assert (
        late['train'].max() <= late['val'].min()
        and late['val'].max() <= late['test'].min()
        and len(late['test'])
    )


def stamps(n=120, seed=0):
    "Alerts of a camera: 20 exposures in two bands, each alert an observation by itself"
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 20, n)
    return pd.DataFrame(
        dict(
            sample_key=[f'{i:05d}' for i in range(n)],
            ra=rng.uniform(0, 360, n),
            dec=rng.uniform(-50, 50, n),
            object_id=[f'ZTF{i}' for i in range(n)],
            label=rng.integers(0, 2, n),
            class_name='x',
            survey=np.where(np.arange(n) % 3, 'ztf', 'atlas'),
            band=np.where(k % 2, 'g', 'r'),
            mjd=59000 + k / 100,
            observation_key=[f'c{i}' for i in range(n)],
            science_wcs_state='stamp',
            kind='positive',
        )
    )


def test_alerts_of_one_moment_are_one_exposure():
    t = stamps()
    assert (
        len(set(exposures(t)))
        <= 40
        < len(t)
        == len(set(exposures(t.assign(science_wcs_state='celestial'))))
        == len(set(exposures(t.assign(mjd=np.nan))))
    )
    r = split_samples(t, by='observation')
    assert (
        pd.DataFrame(dict(m=t['mjd'], s=t['survey'], k=r.split))
        .groupby(['m', 's'])['k']
        .nunique()
        .max()
        == 1
    )
    mixed, apart = (
        audit_splits(t.assign(split=split_samples(t).split)),
        audit_splits(t.assign(split=r.split)),
    )
    assert (
        mixed.same_exposure_test > 0 == apart.same_exposure_test
        and mixed.artefacts_of_seen_exposures > 0 == apart.artefacts_of_seen_exposures
    )
    assert (
        audit_splits(
            t.assign(split=split_samples(t).split, kind='random_sky')
        ).artefacts_of_seen_exposures
        == 0
    )  # Sky is no artefact
    assert (
        mixed.artefacts_of_seen_exposures
        <= (t['label'][split_samples(t).split == 'test'] == 0).sum()
        and mixed.verdict == 'unknown'
        and 'their extent is not known'
        in mixed.reasons[0]  # How large pixels of 'atlas' patches are
    )


def test_what_is_held_out_is_all_of_the_test():
    t = stamps()
    for hold, there in [
        (dict(test=dict(survey='atlas')), t['survey'] == 'atlas'),
        (dict(test=dict(band=['r'])), t['band'] == 'r'),
        (dict(test=dict(object_id=['ZTF3', 'ZTF4'])), t['object_id'].isin(['ZTF3', 'ZTF4'])),
        (dict(test=dict(night=58999)), np.floor(t['mjd'] - 17 / 24) == 58999),
    ]:
        r = split_samples(t, hold=hold, allow_empty=there.all())  # One night is the whole set
        np.testing.assert_array_equal(r.split == 'test', there)
        if not there.all():
            assert (r.split == 'train').sum() > 2 * (r.split == 'val').sum() > 0 and r.report[
                'hold'
            ] == hold
    both = split_samples(t, hold=dict(test=dict(survey='atlas'), val=dict(object_id='ZTF1')))
    assert (both.split == 'val').sum() == 1 and t['object_id'][both.split == 'val'].item() == 'ZTF1'
    g = t['object_id'][t['band'] == 'g'].tolist()
    for hold, words in [
        (dict(test=dict(survey='hst')), 'there are atlas, ztf'),
        (dict(exam=dict(survey='ztf')), 'exam'),
        (dict(test=dict(survey='ztf'), val=dict(band='r')), 'two splits'),
        (
            dict(train=dict(band='r'), val=dict(object_id=g[0]), test=dict(object_id=g[1])),
            'every split',
        ),
    ]:
        with pytest.raises(BadInput, match=words):
            split_samples(t, hold=hold)
    objects = np.arange(len(t)) // 6 * 6  # An object is at one place, whoever sees it
    seen = t.assign(object_id=[f'ZTF{i}' for i in objects])
    seen = seen.assign(ra=t['ra'].to_numpy()[objects], dec=t['dec'].to_numpy()[objects])
    with pytest.raises(EmptySplit, match='80 samples share sky or an object'):
        split_samples(seen, hold=dict(test=dict(survey='atlas')))
    r = split_samples(seen, hold=dict(test=dict(survey='atlas')), allow_empty=True)
    assert (
        things_in_two(seen.assign(half_width_arcsec=np.nan), r.split) == 0
        and r.report['buffer_share'] > 0.5
    )  # Every object was seen by both
    with pytest.raises(BadInput, match='split anew'):
        split_samples(t, hold=dict(test=dict(survey='atlas')), previous=t.assign(split='train'))


def test_a_cut_in_time_is_where_it_was_said():
    t = stamps()
    r = split_samples(t, by='time', cuts=(59000.1, 59000.15))
    np.testing.assert_array_equal(
        r.split, np.select([t['mjd'] < 59000.1, t['mjd'] < 59000.15], ['train', 'val'], 'test')
    )
    with pytest.raises(BadInput, match='two times'):
        split_samples(t, by='time', cuts=(59001, 59000))
    with pytest.raises(BadInput, match="belong to by='time'"):
        split_samples(t, cuts=(59000, 59001))


def test_a_history_joins_what_name_and_place_do_not():
    t = stamps(40).assign(survey='ztf')
    t['lineage'] = [f'{i} {i - 20}' if i >= 20 else None if i == 19 else str(i) for i in range(40)]
    group = group_detections(t)
    assert (
        all((group[i] == group[i - 20]) == (i != 39) for i in range(20, 40))
        and len(set(group)) == 21
    )
    assert (
        len(set(group_detections(t.assign(survey=['ztf'] * 20 + ['lsst'] * 20)))) == 40
    )  # Numbers of different surveys mean different things
    for seed in range(50):
        assert (
            pd.DataFrame(dict(g=group, s=split_samples(t, seed=seed).split))
            .query("s != 'buffer'")
            .groupby('g')['s']
            .nunique()
            .max()
            == 1
        )
    a = audit_splits(t.assign(split=['train'] * 20 + ['test'] * 20))
    assert (a.objects_shared, a.places_shared, a.lineages_shared, a.verdict) == (
        0,
        0,
        19,
        'fail',
    ) and 'histories' in a.reasons[0]


def test_augmenting_before_the_split_is_found():
    "As it was done once: each stamp eight times, and only then shuffled"
    rng = np.random.default_rng(0)
    n = 15  # Stamps of one pass
    noise = rng.normal(size=(n, 2, 11, 11)).astype('f4')
    noise[:, :, 0, 0] = np.nan
    eight = np.concatenate(
        [np.rot90(m, q, axes=(-2, -1)) for m in (noise, noise[..., ::-1]) for q in range(4)]
    )
    t = lonely(8 * n).assign(split=rng.choice(SPLITS, 8 * n, p=[0.7, 0.15, 0.15]))
    rank = t['split'].map({k: i for i, k in enumerate(SPLITS)}).to_numpy().reshape(8, n)
    want = int((rank > rank.min(0)).sum())
    a = audit_splits(t, eight)
    assert a.turned_stamps == want > 2 * n and a.verdict == 'fail'
    before = split_samples(t[:n])
    assert audit_splits(t[:n].assign(split=before.split), noise).turned_stamps == 0
    together = t.assign(split=np.tile(before.split, 8))
    assert audit_splits(together, eight).turned_stamps == 0  # Siblings on one side do no harm
    twice = audit_splits(
        t[:3].assign(split=['train', 'test', 'val']),
        np.stack([noise[0], noise[0], noise[0, ..., ::-1]]),
    )
    assert twice.turned_stamps == 2  # The first of a family is the original
    shuffled = rng.permuted(noise.reshape(n, 2, -1), axis=-1).reshape(noise.shape)
    assert (
        audit_splits(
            t[: 2 * n].assign(split=['train'] * n + ['test'] * n), np.concatenate([noise, shuffled])
        ).turned_stamps
        == 0
    )  # The same numbers in another order are another stamp


def test_objects_yield_where_something_else_is_held_out():
    t = (
        alerts(30)
        .drop(columns='split')
        .assign(
            half_width_arcsec=np.nan,
            mjd=lambda t: (
                58000
                + np.random.default_rng(0).integers(0, 3, len(t))
                + 3 * (np.arange(len(t)) % 7 == 0)
            ),
            survey='ztf',
            observation_key='z',
        )
    )
    for by in ('night', 'time'):
        r = split_samples(t, by=by, fractions=(0.6, 0.2, 0.2), allow_empty=True)
        assert things_in_two(t, r.split) == 0
        assert audit_splits(t.assign(split=r.split)).verdict in ('pass', 'warn')
        with pytest.raises(EmptySplit, match='1200 samples .* share sky or an object'):
            split_samples(t, by=by, fractions=(0.6, 0.2, 0.2))
        assert (r.split == 'test').any() and r.report[
            'buffer_share'
        ] > 0.2  # The price of holding out nights of objects seen again and again


def test_new_alerts_follow_their_objects():
    t = alerts(40)
    was = np.arange(len(t)) % 2 == 0
    first = split_samples(t[was], seed=1)
    grown = split_samples(
        t, seed=2, previous=t[was].assign(split=first.split)
    )  # Even under another seed
    np.testing.assert_array_equal(grown.split[was], first.split)
    np.testing.assert_array_equal(grown.split[~was], first.split)


def test_an_older_version_stays_even_where_it_leaks():
    bad = SKY.assign(split=np.random.default_rng(0).choice(SPLITS, len(SKY)))
    np.testing.assert_array_equal(split_samples(SKY, previous=bad).split, bad['split'])


def test_test_is_never_thinned():
    with_buffer, without = split_samples(SKY, seed=1), split_samples(SKY, seed=1, buffer=False)
    np.testing.assert_array_equal(with_buffer.split == 'test', without.split == 'test')
    assert set(without.split[with_buffer.split == 'buffer']) == {'train', 'val'}


def test_blocks_hold_whole_groups():
    group = group_detections(SKY)
    block = sky_blocks(SKY, group)
    assert pd.DataFrame(dict(g=group, b=block)).groupby('g')['b'].nunique().max() == 1
    far = SKY.assign(
        object_id=[
            'moved' if i in (3, len(SKY) - 103) else o for i, o in enumerate(SKY['object_id'])
        ]
    )
    block = sky_blocks(far, group_detections(far))
    assert block[3] == block[len(SKY) - 103]
    wide = sky_blocks(SKY, group, block_arcsec=3600)
    assert len(set(wide)) < len(set(block))


# Imported splits and the audit ---------------------------------------------------------------------------------------


def alerts(n_objects=200, seed=0):
    "Forty alerts each: 8,000"
    rng = np.random.default_rng(seed)
    ra, dec = (
        rng.uniform(0, 360, n_objects).repeat(40),
        np.degrees(np.arcsin(rng.uniform(-1, 1, n_objects))).repeat(40),
    )
    n = len(ra)
    return pd.DataFrame(
        dict(
            sample_key=[f'{i:05d}' for i in range(n)],
            ra=ra + rng.normal(0, 2e-5, n) / np.cos(np.radians(dec)),
            dec=dec + rng.normal(0, 2e-5, n),
            object_id=[f'ZTF{i}' for i in range(n_objects) for _ in range(40)],
            label=0,
            split=rng.choice(SPLITS, n, p=[0.7, 0.15, 0.15]),
        )
    )


def test_alert_by_alert_fails_by_object_passes_and_a_new_name_does_not_help():
    t = alerts()
    naive, renamed = (
        audit_splits(t),
        audit_splits(t.assign(object_id=[f'candid{i}' for i in range(len(t))])),
    )
    assert naive.verdict == 'fail' and naive.objects_shared > 190 and naive.places_shared > 190
    assert renamed.verdict == 'fail' and renamed.objects_shared == 0 and renamed.places_shared > 190
    honest = split_samples(t)
    assert (
        audit_splits(t.assign(split=honest.split, half_width_arcsec=30.0)).verdict == 'pass'
        and audit_splits(t.assign(split=honest.split)).verdict == 'unknown'  # Extent unknown
        and honest.report['buffer_share'] == 0
    )


def test_blocks_without_buffer_warn_with_the_share():
    t = SKY[SKY['image_uri'] == 'a'].reset_index(drop=True).assign(object_id=None)
    a = audit_splits(t.assign(split=split_samples(t, buffer=False).split))
    assert (
        a.verdict == 'warn'
        and 0 < a.overlapping_share < 0.9
        and f'{a.overlapping_share:.0%}' in a.reasons[0]
    )
    b = audit_splits(t.assign(split=split_samples(t, by='group', buffer=False).split))
    assert b.verdict == 'fail' and b.overlapping_share > 0.9


def test_overlap_counts_are_exact():
    t = (
        SKY[SKY['image_uri'] == 'a']
        .reset_index(drop=True)
        .assign(split=np.random.default_rng(0).choice([*SPLITS, 'buffer'], 150))
    )
    a = audit_splits(t)

    def at(*k):
        return t.loc[t['split'].isin(k), ['x0', 'y0']].to_numpy()

    def count(p, q):
        return int((np.abs(p[:, None] - q) < SIZE).all(-1).any(1).sum())

    assert (a.overlapping_test, a.overlapping_val) == (
        count(at('test'), at('train', 'val')),
        count(at('val'), at('train')),
    )
    i, j = (t[t['split'] == k] for k in ('test', 'train'))
    assert (
        abs(
            a.nearest_train_arcsec
            - sky_separation_arcsec(
                i['ra'].to_numpy()[:, None],
                i['dec'].to_numpy()[:, None],
                j['ra'].to_numpy(),
                j['dec'].to_numpy(),
            ).min()
        )
        < 1e-4
    )
    assert a.same_exposure_test == a.test_samples == (t['split'] == 'test').sum()


def test_copies_of_stamps():
    rng = np.random.default_rng(0)
    n = 60
    data = rng.normal(100, 5, (n, 1, 32, 32)).astype('f4')
    data[50] = data[3]
    data[51] = data[4] + 1  # The same noise on a brighter sky
    t = lonely(n).assign(
        split=['train'] * 40 + ['test'] * 20, image_background=100.0, image_noise=5.0
    )
    t.loc[51, 'image_background'] = 101.0
    import hashlib

    t['pixel_sha256'] = [hashlib.sha256(d.tobytes()).hexdigest() for d in data]
    a = audit_splits(t, data)
    assert (a.identical_stamps, a.near_duplicates, a.verdict) == (1, 1, 'fail')
    b = audit_splits(
        t.drop(index=[50, 51]).reset_index(drop=True), np.delete(data, [50, 51], axis=0)
    )
    assert (b.identical_stamps, b.near_duplicates, b.verdict) == (0, 0, 'pass')
    c = audit_splits(t.drop(columns=['image_noise', 'pixel_sha256']), data)
    assert (
        c.near_duplicates == 1
        and c.identical_stamps is None
        and c.unknown == dict(identical_stamps='the samples have no column pixel_sha256')
    )
    assert LeakageAudit.from_json(c.to_json()) == c and not a.unknown.keys() & {
        'near_duplicates',
        'identical_stamps',
        'turned_stamps',
    }
    assert (
        audit_splits(t).unknown['turned_stamps']
        == audit_splits(t).unknown['near_duplicates']
        == 'patches were not given'
    )


def test_imported_splits():
    t = alerts(20)
    by_object = {
        f'ZTF{i}': 'training' if i < 12 else 'Validation' if i < 16 else 'test' for i in range(18)
    }
    r = import_splits(t, by_object, on='object_id')
    assert (
        r.report['counts'] == dict(train=480, val=160, test=80, buffer=80)
        and r.report['not_mentioned'] == 80
    )
    assert audit_splits(t.assign(split=r.split, half_width_arcsec=30.0)).verdict == 'pass'
    r = import_splits(t, t[['sample_key', 'split']])
    assert audit_splits(t.assign(split=r.split)).verdict == 'fail'
    for bad, on, words in [
        ({'ZTF1': 'exam'}, 'object_id', 'no splits'),
        ({'nobody': 'train'}, 'object_id', 'none of the 800'),
        ({}, 'shoe_size', 'no column'),
    ]:
        with pytest.raises(BadInput, match=words):
            import_splits(t, bad, on=on)


def test_audits_survive_json_and_are_drawn():
    import matplotlib

    matplotlib.use('Agg')
    for t in (
        SKY.assign(split=split_samples(SKY).split),
        alerts(5),
        lonely(3).assign(split='train'),
    ):
        a = audit_splits(t)
        assert LeakageAudit.from_json(a.to_json()) == a and a.verdict in repr(a)
        assert len(a.plot().axes) == 2
    assert 'empty' in a.reasons[0]

    def words(t):
        return [w.get_text().strip() for w in audit_splits(t).plot().axes[0].texts]

    assert words(alerts(5)).count('not known') == 5 and words(
        SKY.assign(split=split_samples(SKY).split)
    )[2:4] == ['0', '0']  # What was not measured is not nought


# Cards that name a run or a group are no names of exposures


def burst(n, step_s, **columns):
    "Images of one chip, one soon after the other"
    row = np.arange(n)
    t = pd.DataFrame(dict(sample_key=[f'{k:04d}' for k in row], mjd=59000.3 + row * step_s / 86400))
    t = t.assign(observation_key=[f'obs{k}' for k in row], survey='mine', band='g')
    return t.assign(mjd_meaning='start', **columns)


@pytest.mark.parametrize('card', ['RUN', 'GROUPID', 'SHOT', 'EXPID'])
@pytest.mark.parametrize('day_only', [False, True])
def test_exposures_of_one_group_are_many(card, day_only):
    if card == 'EXPID' and day_only:
        return  # It names one exposure, and nothing says otherwise
    t = burst(200, 5.0, exposure_names=f'{card}=night7')
    t = t.assign(mjd=59000.0) if day_only else t
    assert len(set(exposures(t))) == 200
    both = pd.concat([t, t.assign(observation_key='b' + t['observation_key'], band='r')])
    assert len(set(exposures(both.reset_index(drop=True)))) == 400


@pytest.mark.parametrize('card', ['RUN', 'GROUPID', 'SHOT', 'EXPID'])
@pytest.mark.parametrize('day_only', [False, True])
def test_chips_of_one_group_word_are_one_exposure(card, day_only):
    t = burst(4, 1.0, exposure_names=f'{card}=77', chip=['1', '2', '3', '4'])
    later = burst(4, 1.0, exposure_names=f'{card}=78', chip=['1', '2', '3', '4'])
    later = later.assign(mjd=later['mjd'] + 0.01, observation_key='b' + later['observation_key'])
    t = pd.concat([t, later.assign(sample_key='b' + later['sample_key'])], ignore_index=True)
    t = t.assign(mjd=59000.0) if day_only else t
    name = exposures(t)
    assert len(set(name[:4])) == len(set(name[4:])) == 1 and name[0] != name[4]


def test_two_chips_read_three_seconds_apart_are_one_exposure():
    t = burst(2, 3.0, exposure_names='RUN=1234', chip=['1', '2'])
    assert len(set(exposures(t))) == 1
