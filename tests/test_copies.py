"Transformed copies: found, kept in one split, refused across splits; and none where there is none"

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, shift
from test_datasets import plan_of, toy

import astrid_data as ad
from astrid_data.core import Conflict
from astrid_data.quality import duplicates as duplicates_page
from astrid_data.quality.background import example_patches
from astrid_data.quality.duplicates import can_compare, check_duplicates, find_duplicates
from astrid_data.quality.fingerprints import noise_pattern
from astrid_data.quality.same_noise import (
    LEAST_SIGMA,
    _coarse,
    clearly_different,
    compare,
    same_noise,
)
from astrid_data.splits.audit import LeakageAudit, audit_splits
from benchmarks.copies import (
    A_DRESS,
    _zoomed,
    centred,
    crowded,
    dresses,
    plant,
    planted,
    tiles,
    with_pattern,
)

# What a copy in this dress has lost: its noise, under as much or more of another; or half of its fingerprint
HARD = (
    'JPEG 75',
    'peak at S/N 20',
    'moved by half',
    'noise added, 1.0',
    'noise added, turned',
    'noise added, 1.5',
    'noise added, 2.0',
    'larger by 1.3',
    'larger by 1.1, by 15',
)
# Of a patch of 32 pixels too little coarse noise is left to name the pair
HARD_FOR_SMALL = (
    'blurred, 1.5',
    'blurred, noise',
    'blurred, moved by 4',
    'binned',
    'binned, turned',
    'smaller, 0.9',
    'larger by 1.1',
    'larger by 1.1, cubic',
    'larger by 1.1, turned',
)


def lonely(n, **columns):
    "Samples far apart on the sky"
    return pd.DataFrame(
        dict(
            sample_key=[f'{i:06d}' for i in range(n)],
            ra=np.arange(n) * 0.5 % 360,
            dec=np.arange(n) * 0.1 % 60,
            label=np.arange(n) % 2,
        )
        | columns
    )


kinds_that_are_found = {
    'larger by 1.1',
    'larger by 1.1, cubic',
    'larger by 1.07',
    'smaller, 0.9',
    'larger by 1.1, turned',
}


@pytest.mark.parametrize('side', [32, 63, 64, 128])
@pytest.mark.parametrize('seed', [0, 1])
def test_copies_are_found_in_every_dress_and_nothing_else(side, seed):
    data = example_patches(120, side, seed)[0]
    found, false, _, _ = planted(data, seed)
    hard = HARD + HARD_FOR_SMALL if side == 32 else HARD
    lost = {d: k for d, k in found.items() if k < A_DRESS and d not in hard}
    assert false == 0
    assert sum(A_DRESS - k for d, k in lost.items() if 'er by' not in d and 'smaller' not in d) <= 4
    turned = {'by 15 degrees', 'by 15, brighter', 'by -40, mirrored'}
    zoomed = {name for name in found if name.startswith(('larger', 'smaller'))}
    others = {'blurred, mirrored', 'moved by 7, -5', '0.3 of a pixel, noise'}
    assert not lost.keys() - turned - zoomed - others
    if side > 32:
        assert sum(found[d] for d in zoomed & kinds_that_are_found) >= 16  # Of 25


@pytest.mark.parametrize('side', [32, 64])
def test_what_is_told_at_once_to_be_no_copy_is_none(side):
    "Pairs together or one by one: nothing that is a copy is passed over, and most others are"
    data = example_patches(60, side, 3)[0]
    data[30:36] = np.rot90(data[:6], axes=(2, 3))
    data[36:42] = shift(data[6:12], (0, 0, 0.5, 0.5), order=3, mode='nearest')
    noise = noise_pattern(data, np.ones(data.shape, bool))[:, 0]
    first, second = noise[:30], noise[30:]
    turn = dict(angle=np.linspace(0, np.pi, 30), mirrored=np.arange(30) % 2 == 1)
    different = clearly_different(first, second, **turn)
    each = [
        same_noise(*pair, angle, bool(m)) for *pair, angle, m in zip(first, second, *turn.values())
    ]
    is_copy = np.array([found.is_copy(0.8) for found in each])
    assert is_copy[:6].all() and not (is_copy & different).any()
    assert different[12:].mean() > 0.9


def test_copies_just_above_the_limit_are_not_told_to_be_different():
    "Patches so small that their copies reach 6 to 8 standard deviations of chance, and no more"
    rng = np.random.default_rng(0)
    first = rng.normal(100, 5, (300, 1, 8, 8)).astype('f4')
    second = (first + rng.normal(0, 2, first.shape)).astype('f4')
    pairs = np.concatenate([first, second])
    noise = noise_pattern(pairs, np.ones(pairs.shape, bool))[:, 0]
    first, second = noise[:300], noise[300:]
    found = [same_noise(*pair) for pair in zip(first, second)]
    is_copy = np.array([one.is_copy(0.8) for one in found])
    sigma = np.array([one.sigma for one in found])
    assert ((sigma < LEAST_SIGMA + 0.5) & is_copy).sum() > 10
    different = clearly_different(first, second, np.zeros(300), np.zeros(300, bool))
    assert not (is_copy & different).any()
    assert different[sigma < LEAST_SIGMA - 0.5].all()


def test_pairs_are_judged_together_as_one_by_one(monkeypatch):
    data = plant(example_patches(120, 64, 5)[0], 5)[0]
    together = find_duplicates(data, np.isfinite(data))
    monkeypatch.setattr(duplicates_page, '_TOGETHER', 1)
    none = lambda first, *rest: np.zeros(len(first), bool)  # noqa: E731
    monkeypatch.setattr(duplicates_page, 'clearly_different', none)
    alone = find_duplicates(data, np.isfinite(data))
    assert len(alone) > 10
    pd.testing.assert_frame_equal(together, alone, check_exact=True)


def test_one_shared_channel_is_a_part_and_two_of_three_are_a_copy():
    data = np.concatenate([example_patches(60, 32, seed)[0] for seed in (1, 2, 3)], axis=1)
    rng = np.random.default_rng(0)
    copies = data[:4].copy()
    copies[0, 0] = rng.normal(100, 5, (32, 32))  # Another template
    copies[1, 1:] = rng.normal(100, 5, (2, 32, 32))  # The same template at another time
    copies[2, :2] = np.nan  # The only channel there is
    copies[3] = 7 * np.rot90(copies[3], axes=(1, 2))
    whole = np.concatenate([data, copies])
    pairs = find_duplicates(whole, np.isfinite(whole))
    assert pairs[['i', 'j', 'kind']].to_numpy().tolist() == [
        [0, 60, 'near'],
        [1, 61, 'part'],
        [2, 62, 'near'],
        [3, 63, 'near'],
    ]
    samples = lonely(64, split=['train'] * 60 + ['test'] * 4)
    samples.loc[61, 'label'] = 1 - samples.loc[1, 'label']
    unique, facts, issues = check_duplicates(samples, pairs)
    assert unique == 61 / 64 and (facts['near'], facts['part']) == (3, 1)
    across = {i.code: i.n for i in issues}['duplicates_across_splits']
    assert across == 8  # A shared template is no other label, but a leak all the same
    assert 'duplicates_of_other_label' not in {issue.code for issue in issues}


def test_what_all_patches_share_is_no_copy():
    "A channel that is the same for all, a detector's grid, one bright common shape"
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(1, 1, 32, 32)).repeat(400, axis=0)
    data = np.concatenate([example_patches(400, 32, 5)[0], plane], axis=1).astype('f4')
    assert len(find_duplicates(data, np.isfinite(data), np.arange(400))) == 0
    y, x = np.indices((32, 32)) - 16
    star = np.exp(-(x**2 + y**2) / 60) + 0.1 * np.exp(-abs(x * y) / 10)
    bright = 1e4 * star * rng.uniform(1, 3, (300, 1, 1, 1)) + rng.normal(size=(300, 1, 32, 32))
    assert len(find_duplicates(bright.astype('f4'), np.isfinite(bright))) == 0
    patterns = noise_pattern(bright[:20], np.isfinite(bright[:20]))[:, 0]
    coarse = [_coarse(pattern) for pattern in patterns]
    assert all(compare(coarse[0], other).correlation < 0.6 for other in coarse[1:])


def crowded_image(seed, side):
    "So many stars that they touch: neighbouring pixels are alike"
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side))
    image[tuple(rng.integers(0, side, (2, 300)))] = 3000 * rng.pareto(1.2, 300)
    return gaussian_filter(image, 2.5) + rng.normal(100, 5, image.shape)


@pytest.mark.parametrize('apart, is_copy', [(0.5, True), (2, True), (3, False)])
def test_windows_of_a_crowded_image_are_copies_to_two_pixels(apart, is_copy):
    images = [crowded_image(seed, 72) for seed in range(40)]
    moved = [shift(image, (0, -apart), order=1, mode='nearest') for image in images]
    data = np.array([image[None, :64, :64] for image in images + moved], 'f4')
    pairs = find_duplicates(data, np.isfinite(data))
    assert (pairs['j'] - pairs['i'] == 40).all()  # A few are not named by their fingerprints
    assert len(pairs) >= 30 if is_copy else len(pairs) == 0


def test_windows_at_the_edge_of_an_image_are_no_copies():
    "Where the image ends, a window shows nothing; a patch that was moved and filled up is a copy"
    images = np.random.default_rng(0).normal(100, 5, (30, 1, 64, 76)).astype('f4')
    data = images[..., :64]
    slid = np.full_like(data, np.nan)
    slid[..., :54] = images[..., 10:64]
    whole = np.concatenate([data, slid])
    assert not len(find_duplicates(whole, np.isfinite(whole)))
    filled = np.nan_to_num(whole, nan=0)
    pairs = find_duplicates(filled, np.isfinite(filled))
    assert (pairs['j'] - pairs['i'] == 30).all() and len(pairs) >= 25


@pytest.mark.parametrize('crowded', [0.5, 1, 2])
def test_the_same_crowded_field_at_another_time_is_no_copy(crowded):
    "Stars that nobody resolves are the same in both, up to twice the noise; the noise is not"
    rng = np.random.default_rng(0)
    places = [
        np.where(rng.random((64, 64)) < 0.07, rng.pareto(1.2, (64, 64)), 0) for _ in range(30)
    ]
    fields = np.array([gaussian_filter(place, 1.5) for place in places])
    low, high = np.quantile(fields, [0.25, 0.75], axis=(1, 2), keepdims=True)
    fields *= crowded * 5 * 1.349 / (high - low)
    data = np.concatenate([fields, fields]) + rng.normal(100, 5, (60, 64, 64))
    pairs = find_duplicates(data[:, None].astype('f4'), np.ones((60, 1, 64, 64), bool))
    assert not len(pairs)


def test_no_noise_no_fingerprint_and_no_warning(recwarn):
    data = example_patches(40, 32, 1)[0]
    data[0] = 0  # Empty
    data[1], data[2, ..., :20, :], data[3] = np.nan, 7, np.round(data[3] / 1e3)
    data[4, 0, 3, 3], data[5, 0, 3, 3] = 3e38, np.inf
    y, x = np.indices((32, 32)) - 16
    data[6], data[7] = (np.exp(-(x**2 + y**2) / width) for width in (20, 25))  # No noise
    assert len(find_duplicates(data, np.isfinite(data), np.arange(40))) == 0
    assert not [w for w in recwarn if 'astrid' in w.filename]
    pattern = noise_pattern(data, np.isfinite(data))
    assert np.isfinite(pattern).all() and not pattern[[0, 1, 3]].any()
    hot = np.concatenate([data, data[8:9]])
    hot[-1, 0, 5, 5] = 1e20  # One hot pixel does not hide the copy
    pairs = find_duplicates(hot, np.isfinite(hot), np.arange(41))
    assert pairs[['i', 'j']].to_numpy().tolist() == [[8, 40]]
    assert compare(pattern[0, 0], pattern[8, 0]).sigma == 0


def test_small_and_oblong_patches_are_not_compared():
    for shape in ((5, 1, 7, 7), (5, 1, 16, 17)):
        data = np.random.default_rng(0).normal(size=shape).astype('f4')
        data[4] = data[0] * 2
        assert not can_compare(shape) and not len(find_duplicates(data, np.isfinite(data)))
        audit = audit_splits(lonely(5, split=['train'] * 4 + ['test']), data, patch_size=7)
        assert audit.near_duplicates is None and 'square' in audit.unknown['near_duplicates']


def test_large_sets_are_searched_in_cells():
    data = np.random.default_rng(0).normal(size=(6000, 1, 24, 24)).astype('f4')
    data[5900:] = np.rot90(data[:100, ..., ::-1], axes=(2, 3)) * 2 + 5
    pairs = find_duplicates(data, np.ones(data.shape, bool), np.arange(6000))
    assert (pairs['j'] - pairs['i'] == 5900).all() and len(pairs) >= 98


@pytest.mark.slow
@pytest.mark.parametrize('side, threshold', [(21, 8), (63, 8)])
def test_real_stars_are_not_copies_of_each_other(shared_data, side, threshold):
    data = centred(side, threshold)
    assert len(data) > 400 and len(find_duplicates(data, np.isfinite(data))) == 0


def test_pieces_of_real_images_are_found_turned_and_not_mistaken(shared_data):
    data = tiles(48, most=20)
    kinds = dresses(np.random.default_rng(0))
    noise = np.ones((1, 1, 1))
    names = ('turned, brighter', 'moved by 1', 'mirrored')
    copies = [kinds[n](data[k * 40 + i], noise) for k, n in enumerate(names) for i in range(20)]
    whole = np.concatenate([data, np.array(copies, 'f4')])
    pairs = find_duplicates(whole, np.isfinite(whole))
    true = dict(
        zip(range(len(data), len(whole)), [k * 40 + i for k in range(3) for i in range(20)])
    )
    assert all(true.get(j) == i for i, j in pairs[['i', 'j']].to_numpy())
    assert len(pairs) >= 50  # Some pieces are nearly empty


# In a build


def with_planted(monkeypatch, rows, dress):
    "Builds whose patches show some rows twice, once transformed"
    from astrid_data.datasets import build as page

    found = page.write_patches

    def planted_patches(samples, work, *args, **options):
        samples, lost, shards = found(samples, work, *args, **options)
        file = work / 'version' / shards[0]['file']
        patches = np.lib.format.open_memmap(file, mode='r+')
        for source, copy in rows:
            patches[copy] = dress(patches[source])
        patches.flush()
        return samples, lost, shards

    monkeypatch.setattr(page, 'write_patches', planted_patches)


def brighter_mirror(patch):
    return 1.2 * patch[..., ::-1]


HOW = dict(patch_size=24, progress=False, probe=False, split_by='group')


def far_pairs(dataset, n=12):
    "Rows of different groups in different splits"
    samples = dataset.samples
    train, test = (np.flatnonzero(samples['split'] == name) for name in ('train', 'test'))
    return list(zip(train[:n].tolist(), test[:n].tolist()))


def test_a_build_keeps_copies_in_one_split(tmp_path, monkeypatch):
    archive = toy(tmp_path)
    clean = plan_of(archive).build('clean', **HOW)
    rows = far_pairs(clean)
    with_planted(monkeypatch, rows, brighter_mirror)
    dirty = plan_of(archive).build('dirty', **HOW)
    samples = dirty.samples
    groups = samples['group_id'].to_numpy()
    together = sum(groups[i] == groups[j] for i, j in rows)
    assert len(rows) == 12 and together >= 10
    assert dirty.audit.near_duplicates == 0
    assert dirty.quality.duplicates['near'] >= together


def test_a_loader_refuses_copies_across_splits(tmp_path, monkeypatch):
    archive = toy(tmp_path)
    clean = plan_of(archive).build('clean', **HOW)
    table = clean.samples[['sample_key', 'split']]
    rows = far_pairs(clean)
    with_planted(monkeypatch, rows, brighter_mirror)
    dirty = plan_of(archive).build('dirty', **HOW | dict(split_by=table))
    assert dirty.audit.near_duplicates >= 10 and dirty.audit.verdict == 'fail'
    with pytest.raises(Conflict, match='transformed copies'):
        ad.RealDataLoader(dirty).loaders(batch_size=8)
    with pytest.warns(UserWarning, match='transformed copies'):
        assert dirty.check_leaks(allow=True) == 'fail'
    with pytest.raises(Conflict, match='transformed copies'):
        plan_of(archive).build('strict', gate='error', **HOW | dict(split_by=table))


def test_an_audit_that_only_warned_of_copies_is_read_as_a_leak():
    audit = audit_splits(lonely(4, split=['train', 'train', 'val', 'test']))
    text = json.dumps(json.loads(audit.to_json()) | dict(near_duplicates=3, verdict='warn'))
    assert LeakageAudit.from_json(text).verdict == 'fail'
    assert LeakageAudit.from_json(audit.to_json()) == audit


@pytest.mark.parametrize('n', [2, 3, 5])
def test_a_pair_is_found_in_the_smallest_sets(n):
    for seed in range(10):
        data = np.random.default_rng(seed).normal(size=(n, 1, 32, 32)).astype('f4')
        data[1] = 2 * data[0, :, :, ::-1]
        pairs = find_duplicates(data, np.ones(data.shape, bool))
        assert pairs[['i', 'j']].to_numpy().tolist() == [[0, 1]]


@pytest.mark.parametrize('mean', [0.005, 0.01, 0.02, 0.05])
def test_few_photons_are_no_noise_to_be_known_by(mean):
    data = np.random.default_rng(0).poisson(mean, (400, 1, 32, 32)).astype('f4')
    pairs = find_duplicates(data, np.ones(data.shape, bool))
    assert not (pairs['kind'] == 'near').any()


# What a detector adds to all


@pytest.mark.parametrize('side', [16, 32, 64])
@pytest.mark.parametrize(
    'how',
    [
        dict(times=4),
        dict(times=1),
        dict(times=10),
        dict(detectors=4),
        dict(share=0.3),
        dict(kind='columns'),
    ],
)
def test_what_a_detector_adds_makes_no_copies(side, how):
    "Stamps of one detector, or of four, whose bias nobody took off"
    data = with_pattern(example_patches(200, side, 7)[0], 7, **how)
    assert not len(find_duplicates(data, np.isfinite(data)))


def test_copies_are_found_under_what_a_detector_adds():
    data = with_pattern(example_patches(200, 64, 3)[0], 3)
    copies = data[:40].copy()
    copies[:10] *= 1.2
    copies[10:20] = copies[10:20, ..., ::-1] + 30
    copies[20:30] = np.rot90(copies[20:30], axes=(2, 3))
    copies[30:40] = np.round(copies[30:40])
    whole = np.concatenate([data, copies])
    pairs = find_duplicates(whole, np.isfinite(whole))
    assert (pairs['j'] - pairs['i'] == 200).all() and len(pairs) >= 36


def test_processes_take_off_the_same_pattern():
    data = with_pattern(example_patches(60, 64, 3)[0], 3)
    whole = np.concatenate([data, 1.2 * data[:5, ..., ::-1]])
    here = find_duplicates(whole, np.isfinite(whole))
    with ThreadPoolExecutor(1) as elsewhere:
        there = find_duplicates(whole, np.isfinite(whole), executor=elsewhere)
    assert len(here) == 5
    pd.testing.assert_frame_equal(here, there)


def test_many_copies_of_one_patch_are_no_detector():
    "Brighter and fainter ones of one patch, on other skies: they have no noise of their own"
    rng = np.random.default_rng(0)
    data = example_patches(80, 32, 5)[0]
    clones = data[3] * rng.uniform(0.5, 2, (20, 1, 1, 1)) + rng.uniform(0, 50, (20, 1, 1, 1))
    whole = np.concatenate([data, clones]).astype('f4')
    pairs = find_duplicates(whole, np.isfinite(whole))
    assert set(pairs[['i', 'j']].to_numpy().ravel()) == {3, *range(80, 100)}


def test_patterns_of_several_channels_are_taken_off_each():
    data = np.concatenate([example_patches(60, 32, seed)[0] for seed in (1, 2)], axis=1)
    with_one = data.copy()
    with_one[:, 1:] = with_pattern(data[:, 1:], 1)
    whole = np.concatenate([with_one, 1.2 * with_one[:4]])
    pairs = find_duplicates(whole, np.isfinite(whole))
    assert pairs[['i', 'j']].to_numpy().tolist() == [[k, 60 + k] for k in range(4)]
    assert set(pairs['kind']) == {'near'}  # In both channels


# Larger, smaller, and under other noise


@pytest.mark.parametrize('side', [32, 64])
def test_half_of_the_copies_under_as_much_noise_again_are_found(side):
    data = example_patches(120, side, 0)[0]
    noise = np.random.default_rng(9).normal(0, 5, (40, 1, side, side))
    whole = np.concatenate([data, data[:40] + noise]).astype('f4')
    pairs = find_duplicates(whole, np.isfinite(whole))
    assert (pairs['j'] - pairs['i'] == 120).all() and len(pairs) >= 15


@pytest.mark.parametrize('zoom', [1.05, 1.1, 1.14, 0.9])
@pytest.mark.parametrize('order', [1, 3])
def test_a_pair_is_known_at_any_zoom_up_to_a_seventh(zoom, order):
    data = example_patches(20, 64, 2)[0]
    again = np.array([_zoomed(patch, zoom, order) for patch in data])
    noise = noise_pattern(np.concatenate([data, again]), np.ones((40, 1, 64, 64), bool))[:, 0]
    none = np.zeros(20), np.zeros(20, bool)
    assert not clearly_different(noise[:20], noise[20:], *none).any()
    assert all(same_noise(*pair).is_copy(0.8) for pair in zip(noise[:20], noise[20:]))
    turned = np.rot90(noise[20:], axes=(1, 2))[:, :, ::-1]
    assert all(same_noise(*pair).is_copy(0.8) for pair in zip(noise[:20], turned))
    others = np.roll(noise[20:], 1, axis=0)
    assert clearly_different(noise[:20], others, *none).mean() > 0.9
    assert not any(same_noise(*pair).is_copy(0.8) for pair in zip(noise[:20], others))


@pytest.mark.parametrize('width', [1.0, 1.5])
def test_a_crowded_field_at_another_time_is_no_noisy_or_larger_copy(width):
    data = crowded(0, 2.0, width, n=20)
    noise = noise_pattern(data, np.isfinite(data))[:, 0]
    pairs = list(zip(noise[:20], noise[20:]))
    assert all(compare(*pair).sigma > LEAST_SIGMA for pair in pairs)  # Light is alike
    assert not any(same_noise(*pair).is_copy(0.8) for pair in pairs)


def test_noise_on_top_is_told_by_the_finest_noise():
    "As much again, and half as much more; a sky that was there twice is not enough"
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (10, 1, 64, 64))
    for times, least in ((1.0, 10), (1.3, 10), (4.0, 0)):
        second = first + times * rng.normal(0, 1, first.shape)
        both = np.concatenate([first, second]).astype('f4')
        noise = noise_pattern(both, np.isfinite(both))[:, 0]
        found = [same_noise(*pair) for pair in zip(noise[:10], noise[10:])]
        assert sum(one.is_copy(0.8) for one in found) == least
