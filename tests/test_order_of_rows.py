"""Rows, columns and cells in another order: every number and every list is the same, also where many are equal."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid_data.datasets.diff import moved_columns
from astrid_data.evaluation.breakdown import worst
from astrid_data.evaluation.report import calibration
from astrid_data.images.noise_ranks import _levels
from astrid_data.quality.same_noise import compare
from astrid_data.quality.shortcuts import nuisances
from astrid_data.sky_regions import moc_cells, moc_ranges
from astrid_data.splits.search import filled_up

seeds = st.integers(0, 2**32 - 1)


def shuffled(table, seed):
    return table.sample(frac=1, random_state=seed)


def scores(seed, n=60):
    "Few different scores, so many are equal"
    rng = np.random.default_rng(seed)
    columns = dict(index=np.arange(n), label=rng.integers(0, 2, n), score=rng.integers(0, 4, n) / 4)
    return pd.DataFrame(columns | dict(group=[f'g{k}' for k in rng.integers(0, 20, n)]))


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_calibration_and_the_worst(seed):
    table = scores(seed)
    mixed = shuffled(table, seed)
    pd.testing.assert_frame_equal(calibration(table), calibration(mixed))
    assert calibration(table)['n'].sum() == len(table)
    assert worst(table)['index'].tolist() == worst(mixed)['index'].tolist()


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_columns_that_a_model_may_cheat_by(seed):
    "More words than are kept, each as often as the others"
    words = [f'w{k}' for k in range(20)] * 2
    table = pd.DataFrame(dict(survey='s', band=words, observation_key=words, ra=1.0, dec=2.0))
    mixed = shuffled(table, seed)
    told = nuisances(table)
    assert 'band=w0' in told and 'band=w9' not in told  # The first by alphabet
    pd.testing.assert_frame_equal(told, nuisances(mixed).sort_index())


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_columns_that_moved_alike(seed):
    numbers = 'mjd mag snr ra x_noise y_noise'.split()
    old = pd.DataFrame({name: np.arange(12.0) for name in numbers}).assign(band='g', kind='a')
    new = (old[numbers] + 12).assign(band='r', kind='b')
    columns = np.random.default_rng(seed).permutation(list(old))
    table, _ = moved_columns(old, new)
    again, _ = moved_columns(shuffled(old[columns], seed), shuffled(new[columns], seed))
    assert table['column'].tolist() == sorted(table['column'])  # All moved as far
    pd.testing.assert_frame_equal(table, again)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_cells_of_the_sky(seed):
    rng = np.random.default_rng(seed)
    moc = {order: rng.integers(0, 12 * 4**order, 20) for order in (3, 1, 2)}
    mixed = {order: rng.permutation(moc[order]) for order in rng.permutation(list(moc)).tolist()}
    ranges = moc_ranges(moc)
    np.testing.assert_array_equal(ranges, moc_ranges(mixed))
    cells, again = moc_cells(ranges), moc_cells(moc_ranges(mixed))
    assert cells == again and all(found == sorted(found) for found in cells.values())
    np.testing.assert_array_equal(moc_ranges(cells), ranges)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_ranks_of_noise_in_whole_numbers(seed):
    "Squares that are turned over have the same pixels in another order, many of them equal"
    squares = np.random.default_rng(seed).integers(0, 80, (5, 13, 13)).astype('f8')
    squares[:, 5:8, 5:8] = np.nan
    levels = _levels(squares).reshape(squares.shape)
    turned = _levels(squares[:, ::-1, ::-1]).reshape(squares.shape)
    assert levels.any()
    np.testing.assert_array_equal(turned[:, ::-1, ::-1], levels)


@given(seeds, st.integers(0, 3), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_pattern_that_looks_alike_in_two_orientations(seed, turns, flipped):
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(24, 24))
    same_both_ways = (half + half[::-1, ::-1]) / 2
    turned = np.rot90(same_both_ways, turns)
    turned = turned[::-1] if flipped else turned
    first, second = compare(same_both_ways, same_both_ways), compare(same_both_ways, turned)
    assert first.correlation == pytest.approx(second.correlation, abs=1e-6)


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_what_is_missing_is_filled_alike(seed):
    "Splits that are equally short, and strata, in another order"
    rng = np.random.default_rng(seed)
    requested = rng.integers(1, 4, (3, 5)).astype('f8')
    kept = requested * rng.integers(0, 3, (1, 5))
    filling = rng.integers(0, 5, 5).astype('f8')
    splits, strata = rng.permutation(3), rng.permutation(5)
    filled = filled_up(kept, requested, filling)
    mixed = filled_up(kept[splits][:, strata], requested[splits][:, strata], filling[strata])
    np.testing.assert_array_equal(filled[splits][:, strata], mixed)
