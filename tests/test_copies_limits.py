"Limits of what counts as a copy, each from both sides"

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from astrid_data.quality import duplicates, same_noise
from astrid_data.quality.background import example_patches
from astrid_data.quality.common_patterns import _mean_of
from astrid_data.quality.fingerprints import _usable, noise_pattern
from astrid_data.quality.same_noise import (
    Resemblance,
    _are_same,
    _compare_finest,
    _compare_turned,
    _compare_zoomed,
    _correlation_of,
    _finest,
    _fit,
    _fits_finely,
    _is_filled,
    _is_known,
    _is_moved,
    _turned,
    clearly_different,
)
from benchmarks.copies import _zoomed


def white(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype('f4')


def test_a_negative_is_told_from_what_it_is_the_negative_of():
    strip = white(0, 8, 64)
    assert _correlation_of(strip, -strip) == pytest.approx(-1, abs=1e-5)
    assert _are_same(strip, strip, 0.5) and not _are_same(strip, -strip, 0.5)


@pytest.mark.parametrize('by, is_copy', [(14, True), (18, False)])
def test_half_of_a_copy_that_was_filled_up_must_be_there(by, is_copy):
    first = white(0, 32, 32)
    filled = np.pad(first[by:], ((0, by), (0, 0)))
    assert _is_moved(first, filled, by, 0) == is_copy
    assert _is_moved(first, np.roll(first, -by, 0), by, 0)  # All of it is there


@pytest.mark.parametrize('side, speaks', [(30, True), (29, False)])
def test_the_middle_of_a_small_patch_does_not_speak_for_it(side, speaks):
    first = white(0, side, side)
    padded = np.pad(first[3:-3, 3:-3], 3, 'reflect')
    assert (_fit(first, padded, 0, 0) > 0.99) == speaks


@pytest.mark.parametrize('n_tied, counts', [(9, True), (12, False)])
def test_one_pixel_in_a_hundred_like_the_next_is_a_flat_area(n_tied, counts):
    "Pairs in a block of three or four rows, of 992"
    pixels = white(0, 1, 1, 32, 32)
    pixels[..., 5 : 5 + n_tied // 3, 5:9] = 7
    good = _usable(pixels, np.ones(pixels.shape, bool))[1]
    assert good.all() == counts


@pytest.mark.parametrize('alike, is_known', [(0.8, True), (0.35, False)])
def test_what_came_round_is_known_by_half_its_noise(alike, is_known):
    "Large strips are alike beyond chance long before they are the same"
    first, new = white(0, 64, 64), white(1, 64, 64)
    second = alike * np.roll(first, -12, 0) + np.sqrt(1 - alike**2) * new
    assert _is_known(first, second, 12, False, False) == is_known


def test_smooth_noise_that_was_filled_up_is_known():
    "Its rows are alike by themselves, though not as alike as repeated ones"
    rows = white(0, 36, 64)
    smooth = rows[1:] + 0.8 * rows[:-1]
    beside = _correlation_of(smooth[1:], smooth[:-1])
    assert 0.3 < beside < 0.7
    assert _is_filled(np.pad(smooth[6:], ((6, 0), (0, 0)), 'edge'), 6)
    assert not _is_filled(smooth, 6)


@pytest.mark.parametrize(
    'kind, least', [({}, 0.8), (dict(coarse=True), 0.7), (dict(fine=True), 0.45)]
)
def test_each_kind_of_noise_has_its_limit(kind, least):
    assert Resemblance(least + 0.01, 10, **kind).is_copy(0.8)
    assert not Resemblance(least - 0.01, 10, **kind).is_copy(0.8)
    assert not Resemblance(1.0, 5.9, **kind).is_copy(0.8)


def test_angles_beside_that_of_the_fingerprint_are_tried():
    first = white(0, 256, 256)
    again = _turned(first, -0.5, False)
    for off in (-0.025, 0.0, 0.025):
        assert _compare_turned(first, again, 0.5 + off, False, 0.8).is_copy(0.8)


def test_the_finest_noise_must_be_as_alike_as_all_of_it():
    first = white(0, 64, 64)
    second = first + white(1, 64, 64)
    assert _compare_finest(first, second, Resemblance(0.7, 30)).is_copy(0.8)
    assert not _compare_finest(first, second, Resemblance(0.95, 30)).is_copy(0.8)


def test_the_finest_noise_has_nothing_coarser():
    power = np.abs(np.fft.rfft2(_finest(white(0, 64, 64)))) ** 2
    radius = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64))
    assert power[radius < 0.3].sum() < 0.001 * power.sum()


def test_where_there_is_no_noise_nothing_stands_out_of_chance(recwarn):
    nothing = np.zeros((2, 32, 32), 'f4')
    assert clearly_different(nothing, nothing, np.zeros(2), np.zeros(2, bool)).all()
    assert not recwarn.list


@pytest.mark.parametrize('zoom', [1.03, 1.17, 0.97])
def test_zooms_lie_so_close_that_none_falls_between_them(zoom):
    data = example_patches(4, 64, 2)[0]
    both = np.concatenate([data, [_zoomed(patch, zoom) for patch in data]])
    noise = noise_pattern(both, np.ones(both.shape, bool))[:, 0]
    found = [_compare_zoomed(*pair, 0.0, False, 0.8) for pair in zip(noise[:4], noise[4:])]
    assert all(one.is_copy(0.8) for one in found)


def test_what_patches_have_in_common_is_a_mean_of_those_that_show_it():
    "With the sign of the first; 0 is a pixel without noise"
    members = np.array([[1.0, 0, 3], [1, 2, 0], [-1, -2, -3]])
    assert _mean_of(members).tolist() == [1, 2, 3]


@pytest.mark.parametrize('off, fits', [(0.98, True), (1.0, True), (1.02, True), (1.05, False)])
def test_the_finest_noise_fits_at_a_zoom_near_the_one_that_was_found(off, fits):
    data = example_patches(1, 64, 2)[0]
    both = np.stack([data[0], _zoomed(data[0], 0.9, 3)])
    noise = noise_pattern(both, np.ones(both.shape, bool))[:, 0]
    assert _fits_finely(*noise, 0.0, False, 1 / 0.9 / off, 0.8) == fits


def test_a_crowded_field_at_another_scale_and_time_is_no_larger_copy():
    "Its coarse light fits at that zoom; its finest noise does not"
    rng = np.random.default_rng(0)
    stars = np.where(rng.random((20, 96, 96)) < 0.07, rng.pareto(1.2, (20, 96, 96)), 0)
    fields = np.array([gaussian_filter(one, 1.5) for one in stars])
    low, high = np.quantile(fields, [0.25, 0.75], axis=(1, 2), keepdims=True)
    fields *= 10 * 1.349 / (high - low)
    larger = np.array([_zoomed(field[None], 1.1, 3)[0] for field in fields])
    both = np.concatenate([fields, larger])[:, None, 16:-16, 16:-16]
    data = (both + rng.normal(100, 5, both.shape)).astype('f4')
    noise = noise_pattern(data, np.ones(data.shape, bool))[:, 0]
    pairs = list(zip(noise[:20], noise[20:]))
    found = [_compare_zoomed(*pair, 0.0, False, 0.8) for pair in pairs]
    assert not any(one.is_copy(0.8) for one in found)
    assert sum(one.sigma > same_noise.LEAST_SIGMA for one in found) > 10


@pytest.mark.parametrize('before, is_found', [(300, True), (450, False)])
def test_hundreds_of_pairs_in_vain_are_not_the_end(before, is_found):
    "Copies come first as a rule; four hundred in vain end the search"
    data = example_patches(40, 16, 0)[0]
    data[39] = 1.2 * data[0, :, ::-1]
    i, j = np.triu_indices(38, 1)
    hints = np.zeros(
        before + 1, [(k, 'f8') for k in ('i', 'j', 'angle', 'mirrored')] + [('channel', 'i4')]
    )
    hints['i'][:-1], hints['j'][:-1] = i[:before] + 1, j[:before] + 1
    hints[-1] = (0, 39, 0, 0, 0)
    pairs = duplicates._near_copies(data, np.ones(data.shape, bool), hints, 0.8)
    assert len(pairs) == is_found


def test_a_patch_of_few_photons_has_no_noise_to_compare():
    "Where most pixels equal their neighbours, what is left is no noise"
    rng = np.random.default_rng(0)
    few = (rng.random((20, 1, 32, 32)) < 0.08).astype('f4')
    assert not noise_pattern(few, np.ones(few.shape, bool)).any()


@pytest.mark.parametrize('n, is_said', [(7, False), (8, True)])
def test_noisy_copies_that_hide_each_other_are_said_to_be_there(n, is_said):
    "From eight on they look like a pattern of the detector, which is taken off"
    patch = white(1, 63, 63)
    copies = [patch + 0.3 * white(10 + k, 63, 63) for k in range(n)]
    data = np.array([*copies, *white(2, 60, 63, 63)])[:, None]
    pairs = duplicates.find_duplicates(data, np.ones(data.shape, bool))
    samples = pd.DataFrame(dict(sample_key=[f'k{i}' for i in range(len(data))], label=1))
    _, _, issues = duplicates.check_duplicates(samples, pairs)
    assert (len(pairs) > 0) != is_said
    assert [issue.n for issue in issues if issue.code == 'common_pattern'] == [n] * is_said
