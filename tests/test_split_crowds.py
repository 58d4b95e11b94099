"""Thousands of samples at one place are joined and audited as every pair would say, without listing every pair."""

import numpy as np
import pandas as pd
import pytest

from astrid_data.sky import unit_vectors
from astrid_data.splits import footprints
from astrid_data.splits.exposures import connected
from astrid_data.splits.footprints import (
    _halves,
    _misses,
    _share_sky,
    find_footprints,
    overlaps_any,
)
from astrid_data.splits.groups import group_detections
from astrid_data.splits.same_place import pairs_within
from astrid_data.splits.shared_sky import _count_pixels, _pixel_places
from astrid_data.splits.shared_stamps import _count_turned

PLACES = {'field': (150, 2), 'across RA 0': (0, -30), 'the pole': (40, 90), 'south': (10, -90)}


def crowd(place, seed, n=400):
    "Clumps of several widths about a radius apart, some rows at exactly one position, some nowhere"
    rng = np.random.default_rng(seed)
    ra, dec = PLACES[place]
    clump = rng.integers(0, 6, n)
    centre = rng.uniform(-6, 6, (6, 2))
    width = rng.choice([0, 0.05, 0.3, 2.0], 6)
    x, y = centre[clump].T + width[clump] * rng.normal(0, 1, (2, n))
    dec = dec + y / 3600
    over = np.abs(dec) > 90  # On the other side of a pole
    ra = ra + x / 3600 / np.maximum(np.cos(np.radians(dec)), 1e-6) + 180 * over
    dec = np.where(over, np.sign(dec) * 180 - dec, dec)
    half = rng.choice([4.0, 4.1, 10.0, 40.0, np.nan], n, p=[0.3, 0.3, 0.2, 0.1, 0.1])
    keys = [f'{k:04d}' for k in rng.permutation(n)]
    table = pd.DataFrame(dict(sample_key=keys, ra=ra % 360, dec=dec, half_width_arcsec=half))
    table['pixel_pa_deg'] = np.where(rng.random(n) < 0.1, np.nan, rng.normal(20, 0.5, n))
    table.loc[rng.random(n) < 0.03, 'ra'] = np.nan
    return table, rng


def components_of_all_pairs(vectors, chord):
    distance = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    return connected([np.array(np.nonzero(distance <= chord[:, None]))], len(vectors))


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('seed', range(12))
def test_crowds_hang_together_as_all_pairs_say(place, seed):
    table, rng = crowd(place, seed)
    table = table[table['ra'].notna()]
    vectors = unit_vectors(table['ra'], table['dec'])
    chord = np.radians(rng.choice([0.0, 0.1, 0.11, 0.3, 0.8], len(table)) / 3600)
    if seed % 3 == 0:
        chord[:] = np.radians(0.4 / 3600)
    pairs = pairs_within(vectors, chord)
    own = connected([pairs], len(vectors))
    expected = components_of_all_pairs(vectors, chord)
    assert len(pd.DataFrame([own, expected]).T.drop_duplicates()) == own.max() + 1
    assert own.max() == expected.max() > 0
    assert pairs.shape[1] < 40 * len(vectors)


@pytest.mark.parametrize('scatter', [0.0, 0.1, 3.0])
def test_a_crowd_needs_few_pairs(scatter):
    rng = np.random.default_rng(0)
    ra, dec = 150 + rng.normal(0, scatter / 3600, (2, 20_000))
    vectors = unit_vectors(ra, dec - 150)
    pairs = pairs_within(vectors, np.full(20_000, np.radians(1 / 3600)))
    assert pairs.shape[1] < 40 * 20_000  # Every pair would be 400 million
    assert connected([pairs], 20_000).max() <= 50  # And a few outliers


def test_rows_without_a_position_are_at_no_place():
    table, _ = crowd('field', 0)
    group = group_detections(table.assign(object_id=None))
    lost = table['ra'].isna().to_numpy()
    assert lost.any()
    assert (group[lost] == table['sample_key'][lost]).all()


def clumps(step, seed, n=300):
    "Stamps of two stars `step` arcsec apart, a little turned; of other sizes, and of unknown angle"
    rng = np.random.default_rng(seed)
    second = rng.random(n) < 0.5
    angle = rng.uniform(0, 2 * np.pi)
    x, y = rng.normal(0, 0.1, (2, n)) + step * second * [[np.cos(angle)], [np.sin(angle)]]
    half = rng.choice([30.0, 31.0, 12.0], n, p=[0.5, 0.3, 0.2])
    turn = np.where(rng.random(n) < 0.1, np.nan, rng.normal(seed * 10, 0.3, n))
    table = pd.DataFrame(dict(ra=150 + x / 3600, dec=y / 3600, half_width_arcsec=half))
    return find_footprints(table.assign(pixel_pa_deg=turn), 63), second


def by_pairs(sky, rows, others):
    i, j = (part.ravel() for part in np.meshgrid(rows, others, indexing='ij'))
    return _share_sky(sky, i, j).reshape(len(rows), len(others))


@pytest.mark.parametrize('step', [55, 62, 66, 70, 75, 80, 85, 95])
def test_one_star_beside_another_is_what_pairs_say(step):
    for seed in range(4):
        sky, second = clumps(step, seed)
        rows, others = np.flatnonzero(~second), np.flatnonzero(second)
        expected = by_pairs(sky, rows, others)
        assert (overlaps_any(sky, rows, others) == expected.any(axis=1)).all()


def edge(kind, seed, n=500):
    "Two crowds whose edges just touch, on the sky or in the pixels of one image"
    rng = np.random.default_rng(seed)
    second = rng.random(n) < 0.5
    x, y = rng.normal(0, 0.1, (2, n))
    table = pd.DataFrame(dict(half_width_arcsec=np.full(n, 31.8)))
    table['pixel_pa_deg'] = dict(upright=0.0, turned=rng.uniform(0, 360, n))[kind.split()[0]]
    step = 72.3 if kind.startswith('upright') else 96.0
    table['ra'] = 10 + (x + step * second) / 3600
    table['dec'] = y / 3600
    if 'pixels' in kind:
        table['image_uri'] = rng.choice(['a', 'b'], n)
        table['x0'] = np.round(x * 10) + 66 * second
        table['y0'] = np.round(y * 10)
    return find_footprints(table, 63), np.flatnonzero(~second), np.flatnonzero(second)


EDGES = ['upright', 'turned', 'upright pixels', 'turned pixels']


@pytest.mark.parametrize('kind', EDGES)
@pytest.mark.parametrize('seed', range(3))
def test_a_bundle_that_is_missed_has_no_pair(kind, seed):
    "Bundles alike and mixed, asked from every side"
    sky, rows, others = edge(kind, seed)
    expected = by_pairs(sky, rows, others)
    alike = [others]
    while len(alike) < 32:
        alike = [half for part in alike for half in _halves(sky, part)]
    mixed = np.array_split(np.random.default_rng(seed).permutation(others), 40)
    missed = {}
    for name, parts in dict(alike=alike, mixed=mixed).items():
        missed[name] = np.array([_misses(sky, rows, part, np.ones(len(rows))) for part in parts])
        pairs = [expected[:, np.isin(others, part)].any(axis=1) for part in parts]
        assert not (missed[name] & np.array(pairs)).any()
    assert missed['alike'].mean() > 0.02


@pytest.mark.parametrize('kind', EDGES)
@pytest.mark.parametrize('seed', range(3))
def test_crowds_that_just_touch_are_what_pairs_say(kind, seed, monkeypatch):
    sky, rows, others = edge(kind, seed)
    expected = by_pairs(sky, rows, others).any(axis=1)
    assert expected.any() and not expected.all()
    asked = []

    def counting(sky, i, j):
        asked.append(len(i))
        return _share_sky(sky, i, j)

    monkeypatch.setattr(footprints, '_share_sky', counting)
    assert (overlaps_any(sky, rows, others) == expected).all()
    assert sum(asked) < len(others) / 2 * len(rows)  # And not each of the others


def pixels_by_each_pair(sky, rows, others, grid):
    "Pixels of patches on any other, one pair at a time"
    half = np.radians(sky.nominal / 3600)
    total = 0.0
    for row in rows:
        step = _pixel_places(sky, row, grid)[:, None] - sky.vectors[others]
        along, beside = ((step * axis[others]).sum(axis=2) for axis in (sky.up, sky.across))
        on_it = (np.abs(along) <= half[others]) & (np.abs(beside) <= half[others])
        total += on_it.any(axis=1).mean() * sky.side[row] ** 2
    return round(total)


@pytest.mark.parametrize('seed', range(4))
def test_pixels_shared_in_a_crowd_are_what_pairs_say(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, [[0.2], [8]], (2, 200))
    table = pd.DataFrame(dict(ra=80 + x / 3600, dec=y / 3600, half_width_arcsec=10.0))
    sky = find_footprints(table.assign(pixel_pa_deg=rng.normal(0, 9, 200)), 20)
    split = rng.choice(['train', 'val', 'test'], 200, p=[0.2, 0.1, 0.7]).astype(object)
    train, val, test = (np.flatnonzero(split == name) for name in ('train', 'val', 'test'))
    expected = pixels_by_each_pair(sky, val, train, 20)
    expected += pixels_by_each_pair(sky, test, np.concatenate([train, val]), 20)
    assert expected > 0
    assert abs(_count_pixels(sky, split) - expected) <= 1


def test_turned_copies_of_many_kinds_with_one_sum():
    "One bright pixel somewhere: all patches have equal sums, and few are turned copies"
    patches = np.zeros((64, 1, 8, 8), 'f4')
    patches[np.arange(64), 0, np.arange(64) // 8, np.arange(64) % 8] = 1.0
    split = np.array(['train', 'test'] * 32, object)
    orbits = {}
    for k in range(64):
        y, x = sorted([min(k // 8, 7 - k // 8), min(k % 8, 7 - k % 8)])
        orbits.setdefault((y, x), set()).add(k)
    late = sum(
        any(j % 2 == 0 for j in orbit - {k}) for orbit in orbits.values() for k in orbit if k % 2
    )
    assert _count_turned(split, patches) == late == 32
    patches[:, 0, 0, 0] = np.nan
    assert _count_turned(split, patches) < 32


def test_equal_patches_are_no_turned_copies_of_each_other():
    patches = np.zeros((3, 1, 8, 8), 'f4')
    patches[:2, 0, 1, 2] = 1.0
    patches[2, 0, 1, 5] = 1.0
    assert _count_turned(np.array(['train', 'test', 'buffer'], object), patches) == 0
    assert _count_turned(np.array(['test', 'test', 'train'], object), patches) == 2


def corners(seed, n=600):
    "Large stamps of one star that are turned a little, and small ones where some of their corners reach"
    rng = np.random.default_rng(seed)
    small = np.arange(n) < n // 2
    angle = rng.uniform(0, 2 * np.pi, n)
    x, y = rng.normal(0, 0.1, (2, n))
    away = small * rng.uniform(30, 50, n)
    table = pd.DataFrame(
        dict(
            ra=150 + (x + away * np.cos(angle)) / 3600,
            dec=(y + away * np.sin(angle)) / 3600,
            half_width_arcsec=np.where(small, 0.5, 30.0),
            pixel_pa_deg=np.where(small, 0.0, rng.normal(0, 8, n)),
        )
    )
    return find_footprints(table, 63), np.flatnonzero(small), np.flatnonzero(~small)


@pytest.mark.parametrize('seed', range(4))
def test_a_corner_of_a_turned_stamp_is_not_missed(seed):
    "The bundle's own side separates what the corner of a member turned against it still reaches"
    sky, rows, others = corners(seed)
    expected = by_pairs(sky, rows, others)
    beyond = np.abs(sky.vectors[rows] - sky.vectors[others[0]]).max(axis=1) > np.radians(34 / 3600)
    assert 5 < (beyond & expected.any(axis=1)).sum() < beyond.sum()
    assert not (expected.any(axis=1) & _misses(sky, rows, others, np.ones(len(rows)))).any()
    assert (overlaps_any(sky, rows, others) == expected.any(axis=1)).all()
