"""Who shares sky with whom is found without asking everybody, and it is the same."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from astrid_data.splits.even_out import _gains, _Light, _polish
from astrid_data.splits.footprints import _share_sky, find_footprints, overlaps_any
from astrid_data.splits.yielding import reach_of_units

PLACES = {'field': (150, 2), 'across RA 0': (0, -30), 'the pole': (40, 89.995)}


def scene(place, seed, n=160):
    "Patches of several sizes around a place, some in the pixels of one image, some of unknown extent"
    rng = np.random.default_rng(seed)
    ra, dec = PLACES[place]
    spread = 0.02
    half = rng.choice([0.5, 5.0, 20.0, 60.0], n, p=[0.3, 0.4, 0.2, 0.1])
    half[rng.random(n) < 0.1] = np.nan
    table = pd.DataFrame(
        dict(
            ra=(ra + rng.uniform(-1, 1, n) * spread / np.cos(np.radians(dec))) % 360,
            dec=np.clip(dec + rng.uniform(-1, 1, n) * spread, -90, 90),
            half_width_arcsec=half,
            pixel_pa_deg=rng.uniform(0, 360, n),
        )
    )
    table.loc[rng.random(n) < 0.05, 'ra'] = np.nan
    return find_footprints(table, patch_size=40), rng


def shared_by_all_pairs(sky, rows, others):
    i, j = (part.ravel() for part in np.meshgrid(rows, others, indexing='ij'))
    known = np.isin(i, sky.on_sky(rows)) & np.isin(j, sky.on_sky(others))
    hit = known & _share_sky(sky, i, j)
    return hit.reshape(len(rows), len(others)).any(axis=1)


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('seed', range(4))
def test_bounded_questions_find_what_all_pairs_find(place, seed):
    sky, rng = scene(place, seed)
    part = rng.random(len(sky.half)) < 0.3
    rows, others = np.flatnonzero(~part), np.flatnonzero(part)
    expected = shared_by_all_pairs(sky, rows, others)
    assert 5 < expected.sum() < len(rows)
    assert (overlaps_any(sky, rows, others) == expected).all()


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('seed', range(4))
def test_only_rows_in_cubes_around_a_unit_are_asked(place, seed):
    sky, rng = scene(place, seed)
    unit, group = rng.integers(0, 12, len(sky.half)), rng.integers(0, 40, len(sky.half))
    reach = reach_of_units(sky, group, unit, np.array([3, 7]))
    for k, number in enumerate((3, 7)):
        inside = unit == number
        shares = np.zeros(len(unit), bool)
        beside = np.flatnonzero(~inside)
        shares[beside] = shared_by_all_pairs(sky, beside, np.flatnonzero(inside))
        shares |= np.isin(group, group[inside])
        assert (reach[:, k] == (shares & ~inside)).all()


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('half', [2.0, 60.0, 1800.0])
def test_a_unit_is_found_as_far_as_corners_reach(place, half):
    "Pairs of squares on their corners, which meet by a fiftieth, wherever borders of cubes are"
    rng = np.random.default_rng(0)
    ra, dec = PLACES[place]
    ra, dec = ra + rng.uniform(0, 60, 200), np.clip(dec - rng.uniform(0, 40, 200), -90, 89)
    known = find_footprints(pd.DataFrame(dict(ra=ra, dec=dec, half_width_arcsec=half)), 40)
    step = 0.98 * np.sqrt(2) * 2 * known.half[0] / 3600
    along_ra = rng.random(200) < 0.5
    other_ra = ra + along_ra * step / np.cos(np.radians(dec))
    other_dec = dec - ~along_ra * step
    both = dict(ra=np.append(ra, other_ra) % 360, dec=np.append(dec, other_dec))
    sky = find_footprints(pd.DataFrame(both).assign(half_width_arcsec=half, pixel_pa_deg=45), 40)
    meet = _share_sky(sky, np.arange(200), np.arange(200, 400))
    assert meet.mean() > 0.5
    unit = np.repeat([0, 1], 200)
    reach = reach_of_units(sky, np.arange(400), unit, np.array([0, 1]))
    assert reach[200:, 0][meet].all() and reach[:200, 1][meet].all()


def polished_one_by_one(light, split, base, requested):
    "Each unit by itself, as long as a move helps"
    split = split.copy()
    while True:
        kept = base + np.eye(3)[split].T @ light.counts
        gains = _gains(light, split, kept, requested)
        gains[np.arange(len(split)), split] = 0
        unit, new = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[unit, new] < 1e-9:
            return split
        split[unit] = new


@pytest.mark.parametrize('seed', range(12))
def test_units_that_are_alike_are_moved_as_if_each_were_asked(seed):
    rng = np.random.default_rng(seed)
    n, strata = rng.integers(5, 60), rng.integers(1, 6)
    counts = rng.integers(0, 3, (n, strata)) * (rng.random((n, strata)) < 0.6)
    counts[counts.sum(1) == 0, 0] = 1
    light = _Light(csr_matrix(counts.astype('f8')), rng.random(n))
    base = rng.integers(0, 10, (3, strata)).astype('f8')
    requested = np.outer([0.7, 0.15, 0.15], base.sum(0) + counts.sum(0)) + 1e-9
    start = rng.integers(0, 3, n)
    found = _polish(light, start, base, requested)
    assert (found == polished_one_by_one(light, start, base, requested)).all()
    assert (found != start).any()


@pytest.mark.parametrize('seed', range(12))
def test_of_kinds_that_gain_the_same_the_first_unit_moves(seed):
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.repeat([0, 1, 2], 5))
    light = _Light(csr_matrix(np.eye(3)[kind]), rng.random(15))
    base = np.zeros((3, 3))
    requested = np.outer([0.7, 0.15, 0.15], np.full(3, 5.0))
    start = np.zeros(15, int)
    start[rng.permutation(15)[:4]] = 1
    found = _polish(light, start, base, requested)
    assert (found == polished_one_by_one(light, start, base, requested)).all()
