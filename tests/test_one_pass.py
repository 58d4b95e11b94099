"Compiled loops over pixels say the same as numpy, to the last bit"

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import astrid_data
from astrid_data import concurrency
from astrid_data.core import BadImage, sha256_file
from astrid_data.datasets import staging
from astrid_data.datasets.shards import ShardWriter
from astrid_data.images import sources as sources_page
from astrid_data.images.image import open_image
from astrid_data.quality import all_pixels
from astrid_data.quality import background as background_page
from astrid_data.quality import fingerprints as fingerprints_page
from astrid_data.quality import flags as flags_page
from astrid_data.quality import same_noise as same_noise_page
from astrid_data.quality.background import clipped_stats, local_background
from astrid_data.quality.flags import image_flags, measure_patches

SAMPLE = Path(astrid_data.__file__).parent / 'sample'
SHARED = Path(__file__).parents[2] / 'shared' / 'data'
pytest.importorskip('numba')


def damaged(a, valid, rng):
    "Patches with what real images have: holes, rims, plateaus, lines, few values, nothing"
    n, _, side, _ = a.shape
    for k in range(n):
        kind = k % 14
        if kind == 0:
            valid[k] = rng.random(valid[k].shape) < 0.5
        elif kind == 1:
            a[k, :, :, : side // 3] = np.nan
        elif kind == 2:
            a[k, :, : side // 4] = 0
        elif kind == 3:
            a[k] = np.round(a[k] / 10) * 10
        elif kind == 4:
            a[k] = np.minimum(a[k], 130)
        elif kind == 5:
            a[k, :, side // 2] += 400
        elif kind == 6:
            a[k] = a[k, 0, 0, 0]
        elif kind == 7:
            valid[k] = False
        elif kind == 8:
            a[k, -1, rng.integers(side), rng.integers(side)] = rng.choice([-1e9, np.inf, 1e30])
        elif kind == 9:
            a[k, :, np.arange(side), np.arange(side)] += 90
        elif kind == 10:
            a[k, 0] = 7
        elif kind == 11:
            a[k] *= 1e-18
        elif kind == 12:
            valid[k, :, 1:-1, 1:-1] &= rng.random(side - 2 if side > 2 else side) < 0.9
    return a.astype('f4'), valid


def pretend(side, channels, n=84):
    "Noise with a few stars, damaged"
    rng = np.random.default_rng([side, channels])
    y, x = np.indices((side, side))
    a = rng.normal(100, 5, (n, channels, side, side))
    for k in range(n):
        for at in np.vstack([[side // 2] * 2, rng.uniform(0, side, (3, 2))]):
            flux = np.exp(rng.uniform(2, 9))
            a[k] += flux * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / rng.uniform(2, 20))
    return damaged(a, np.ones(a.shape, bool), rng)


def real(path, hdu=None, side=48, n=84):
    "Patches of a real image as it is"
    with open_image(path, hdu) as image:
        pixels, bad = image.read_all()
    corner = np.random.default_rng(3).integers(0, np.array(pixels.shape) - side, (n, 2))
    cut = [np.s_[y : y + side, x : x + side] for y, x in corner]
    data = np.array([pixels[piece] for piece in cut], 'f4')[:, None]
    valid = np.array([~bad[piece] for piece in cut])[:, None]
    return data, valid


def measured(data, valid):
    "Everything that is measured, by name"
    with np.errstate(all='ignore'):
        sky, noise = local_background(data, valid)
        channels = ('science', 'template')[: data.shape[1]]
        found = measure_patches(data, valid, sky, noise, 120.0, channels)
        bits = image_flags(data, valid, sky, noise, None, channels)
    return found | dict(sky=sky, noise=noise, bits=bits)


def assert_same(data, valid, monkeypatch):
    fast = measured(data, valid)
    for page in (background_page, flags_page):
        monkeypatch.setattr(page, 'compiled_loops', lambda: None)
    plain = measured(data, valid)
    for name, values in plain.items():
        assert_array_equal(fast[name], values, err_msg=name, strict=True)
    return plain


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('side', [4, 5, 8, 9, 16, 33, 63, 64])
@pytest.mark.parametrize('channels', [1, 2])
def test_pretend_patches(side, channels, monkeypatch):
    data, valid = pretend(side, channels)
    found = assert_same(data, valid, monkeypatch)
    assert side < 16 or {k for k, v in found.items() if np.any(v > 0)} >= {'streak', 'filled'}


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('side', [1, 2, 3])
def test_tiny_patches(side, monkeypatch):
    "What is too small to be measured fails alike, and what is not is the same"
    data, valid = np.ones((5, 1, side, side), 'f4'), np.ones((5, 1, side, side), bool)
    data[1:] += np.random.default_rng(0).normal(size=data[1:].shape)
    fast = local_background(data, valid)
    monkeypatch.setattr(background_page, 'compiled_loops', lambda: None)
    assert_array_equal(fast, local_background(data, valid))


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('noise', [0.0, -1.0, 1e-46, 1e-44, 1e-39, np.nan, np.inf, 1e300])
def test_any_noise_is_as_with_numpy(noise, monkeypatch):
    "1e-46 is 0 in float32, by which Python's rule of division raises"
    data, valid = pretend(16, 2, 42)
    found = []
    for page in (None, flags_page):
        if page:
            monkeypatch.setattr(page, 'compiled_loops', lambda: None)
        with np.errstate(all='ignore'):
            sky, usual = local_background(data, valid)
            mixed = np.where(np.arange(42)[:, None] % 3, noise, usual)
            bits = image_flags(data, valid, sky, mixed, None, ('science', 'template'))
            found.append(measure_patches(data, valid, sky, mixed, 120.0) | dict(bits=bits))
    assert found[0].keys() == found[1].keys()
    for name, values in found[1].items():
        assert_array_equal(found[0][name], values, err_msg=name, strict=True)


def test_the_compiled_loops_divide_as_numpy():
    loops = all_pixels.compiled_loops()
    pixels = np.array([[100, 101, 140, 90]], 'f4')
    good, above = np.empty((1, 4), bool), np.empty((1, 4), 'f4')
    n_top, n_bright = np.empty(1, int), np.empty((1, 3), int)
    levels = np.float32([100]), np.float32([1e-46]), np.array([True])
    room = good, above, n_top, n_bright
    loops.measure_heights(pixels, np.ones((1, 4), bool), *levels, *room)
    assert_array_equal(above, [[np.nan, np.inf, np.inf, -np.inf]])
    assert_array_equal(n_bright, [[2, 2, 2]])
    lines = np.array([[0], [0], [1], [1]]), np.zeros(2, 'f4'), np.arange(2), np.array([[1, 0]] * 2)
    with np.errstate(all='ignore'):
        assert_array_equal(
            loops.line_shares(above[0], 3, *lines),
            all_pixels._line_shares(above[0], 3, *lines),
        )


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('path', sorted(SAMPLE.glob('*.fits.gz')), ids=lambda path: path.name)
def test_real_patches(path, monkeypatch):
    data, valid = real(path, 3 if path.name.startswith('goodsn') else None)
    assert_same(data, valid, monkeypatch)


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('file', ['skyview', 'ground'])
def test_shared_patches(file, monkeypatch):
    "Whole folders of real images beside the repository"
    paths = [path for path in sorted((SHARED / file).rglob('*.fits')) if path.stat().st_size < 3e7]
    if not paths:
        pytest.skip('no folder of shared data beside the repository')
    done = 0
    for path in paths[:6]:
        try:
            data, valid = real(path, side=64, n=40)
        except (BadImage, ValueError):  # Tables, and images that are too small
            continue
        with monkeypatch.context() as here:
            assert_same(data, valid, here)
        done += 1
    assert done


@pytest.mark.parametrize('kind', ['f4', 'f8'])
@pytest.mark.parametrize('clips', [0, 1, 3])
def test_clipped_rows(kind, clips, monkeypatch):
    "Rows with ties, NaN, infinities, one number and none"
    rng = np.random.default_rng(4)
    rows = rng.normal(100, 5, (60, 41))
    rows[::7] = np.round(rows[::7] / 8)
    rows[1::7, 20:] = np.nan
    rows[2::14] = np.nan
    rows[3::14, 1:] = np.nan
    rows[4::14, :3] = [np.inf, -np.inf, np.nan]
    rows[5::7, :4] += 1e4
    rows = rows.astype(kind)
    with np.errstate(all='ignore'):
        fast = clipped_stats(rows.copy(), clips)
        monkeypatch.setattr(background_page, 'compiled_loops', lambda: None)
        plain = clipped_stats(rows.copy(), clips)
    assert_array_equal(fast, plain, strict=True)
    assert np.isfinite(plain).mean() > 0.5


@pytest.mark.parametrize('expected', [None, 20, 23, 31, 100])
@pytest.mark.parametrize('stop', [0, 5, 14])
def test_checksums_of_files_that_are_as_long_as_expected_or_not(
    tmp_path, expected, stop, monkeypatch
):
    "Twenty rows in files of nine, perhaps by a second writer who goes on after some of them"
    values = np.arange(60, dtype='f4').reshape(20, 3)
    if stop:
        writer = ShardWriter(tmp_path, dict(a=('f4', (3,))), 9, expected=expected)
        writer.append(a=values[:stop])
    writer = ShardWriter(tmp_path, dict(a=('f4', (3,))), 9, stop, expected)
    for start in range(stop, 20, 4):
        writer.append(a=values[start : start + 4])
    shards = writer.close()
    assert [shard['rows'] for shard in shards] == [9, 9, 2]
    for shard in shards:
        assert shard['sha256'] == sha256_file(tmp_path / shard['file'])
    assert_array_equal(
        np.concatenate([np.load(tmp_path / shard['file']) for shard in shards]), values
    )
    if expected == 20 and not stop:  # Nothing was read again
        monkeypatch.setattr(
            'astrid_data.datasets.shards.sha256_file', lambda path: pytest.fail('read')
        )
        assert writer.close() == shards


@pytest.mark.parametrize('at, lost, read', [(9, 1, []), (9, 3, []), (10, 3, [1]), (19, 1, [2])])
def test_only_files_that_became_shorter_are_read_again(tmp_path, monkeypatch, at, lost, read):
    "Rows are lost before a file is begun, in its midst, or where only the last one is wrong"
    values = np.arange(60, dtype='f4').reshape(20, 3)
    writer = ShardWriter(tmp_path, dict(a=('f4', (3,))), 9, expected=20)
    writer.append(a=values[:at])
    writer.expect_fewer(lost)
    if at < 20 - lost:
        writer.append(a=values[at : 20 - lost])
    seen = []

    def watched(path):
        seen.append(int(path.stem[-1]))
        return sha256_file(path)

    monkeypatch.setattr('astrid_data.datasets.shards.sha256_file', watched)
    shards = writer.close()
    assert seen == read
    assert [s['sha256'] for s in shards] == [sha256_file(tmp_path / s['file']) for s in shards]
    assert sum(len(np.load(tmp_path / shard['file'])) for shard in shards) == 20 - lost


def test_threads_measure_the_same(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    data, valid = pretend(32, 2, 150)
    request = (data, valid, np.full((150, 2), 120.0), np.arange(150) % 2)
    settings = staging.CutSettings(32, ('science', 'template'))
    with np.errstate(all='ignore'), ThreadPoolExecutor(3) as threads:
        shared = staging._measure_pixels(*request, settings, threads)
        alone = staging._measure_pixels(*request, settings)
        monkeypatch.setattr(staging, '_PIECE_ROWS', 1000)
        whole = staging._measure_pixels(*request, settings)
    assert set(whole) == set(alone) == set(shared) >= {'flags', 'targets', 'target_sha256', 'noise'}
    for name, values in whole.items():
        assert_array_equal(alone[name], values)
        assert_array_equal(shared[name], values)


@pytest.mark.parametrize('cores', [1, 2, 3, 7])
@pytest.mark.parametrize('quota', [None, 'max 100000', '150000 50000', '20000 100000'])
def test_a_build_has_a_thread_for_each_core_that_it_may_use(cores, quota, monkeypatch, tmp_path):
    "A machine of 64 cores, of which this process has some, or the time of three or of a fifth of one"
    monkeypatch.setattr('os.cpu_count', lambda: 64)
    monkeypatch.setattr('os.sched_getaffinity', lambda pid: set(range(cores)), raising=False)
    file = tmp_path / 'cpu.max'
    if quota:
        file.write_text(f'{quota}\n')
    monkeypatch.setattr(concurrency, '_QUOTA', file)
    least = {'150000 50000': 3, '20000 100000': 1}.get(quota, 64)
    expected = min(cores, least)
    assert concurrency.cpu_limit() == expected
    threads = staging._threads()
    assert (threads._max_workers if threads else 1) == expected
    assert (threads is None) == (expected == 1)


def test_where_nobody_says_which_cores_all_count(monkeypatch, tmp_path):
    monkeypatch.delattr('os.sched_getaffinity', raising=False)
    monkeypatch.setattr('os.cpu_count', lambda: 5)
    monkeypatch.setattr(concurrency, '_QUOTA', tmp_path / 'none')
    assert concurrency.cpu_limit() == 5 == staging._threads()._max_workers
    monkeypatch.setattr('os.cpu_count', lambda: None)
    assert concurrency.cpu_limit() == 1 and staging._threads() is None


@pytest.mark.filterwarnings('ignore')
def test_a_build_uses_its_threads(monkeypatch, tmp_path):
    "All measuring of a build is handed to as many threads as there are cores"
    seen = []
    monkeypatch.setattr(staging, 'cpu_limit', lambda: 3)
    measure = staging._measure_pixels

    def watched(*args):
        seen.extend(arg._max_workers for arg in args if hasattr(arg, '_max_workers'))
        return measure(*args)

    monkeypatch.setattr(staging, '_measure_pixels', watched)
    archive = astrid_data.synthetic_archive(tmp_path / 'home', n_observations=1, n_sources=9)
    plan = astrid_data.TrainingDataCollector(archive).plan(confidence_threshold=0.5)
    plan.build('a')
    assert seen and set(seen) == {3}


@pytest.mark.parametrize('side, channels', [(9, 1), (33, 2), (63, 1), (64, 1), (64, 3), (128, 1)])
def test_noise_patterns_are_the_same_with_numpy(side, channels, monkeypatch):
    "Clean images apart from the others, and one pass over the pixels: the same patterns"
    data, valid = pretend(side, channels)
    data[::3], valid[::3] = np.nan_to_num(data[::3], posinf=1.0), True  # Clean, and among others
    pattern_of = fingerprints_page._small_pattern
    together = pattern_of(data, valid)
    alone = [pattern_of(data[[i]], valid[[i]]) for i in range(len(data))]
    assert_array_equal(together, np.concatenate(alone))
    plain = fingerprints_page.noise_pattern(data, valid)
    assert_array_equal(fingerprints_page.whole_pattern(data, valid), plain)
    kept = fingerprints_page._kept(data, valid)
    for one, other in zip(kept, fingerprints_page._kept_with_numpy(data, valid)):
        assert_array_equal(one, other)
    monkeypatch.setattr(fingerprints_page, 'compiled_loops', lambda: None)
    assert_array_equal(together, pattern_of(data, valid))


@pytest.mark.parametrize('side', [8, 29, 30, 64])
def test_images_are_turned_as_by_scipy(side, monkeypatch):
    "Any angle, mirrored and zoomed, and quarters, whose places fall on pixels but for rounding"
    rng = np.random.default_rng(side)
    images = rng.normal(size=(40, side, side)).astype('f4')
    angles = np.where(np.arange(40) < 12, np.arange(40) * np.pi / 2, rng.uniform(-4, 4, 40))
    zooms = rng.choice([1, 1.05, 1 / 1.15], 40)
    how = list(zip(images, angles, np.arange(40) % 2 == 1, zooms))
    found = [same_noise_page._turned(*one) for one in how]
    monkeypatch.setattr(same_noise_page, 'compiled_loops', lambda: None)
    assert_array_equal(found, [same_noise_page._turned(*one) for one in how])


@pytest.mark.parametrize(
    'shape, box', [((61, 87), 8), ((200, 133), 24), ((96, 96), 24), ((50, 400), 24)]
)
@pytest.mark.parametrize('kind', ['f4', 'f8'])
def test_the_sky_of_each_pixel_is_as_photutils_spreads_it(shape, box, kind, monkeypatch):
    "Boxes that fill the image or reach beyond it, some without a pixel, and too few for a spline"
    rng = np.random.default_rng(box)
    pixels = (rng.normal(100, 3, shape) + np.arange(shape[1]) / 9).astype(kind)
    pixels[20:45, 30:70] = np.nan
    sky = sources_page.background_of(pixels, box)
    monkeypatch.setattr(sources_page, '_compiled_spread', lambda: None)
    plain = sources_page.background_of(pixels, box)
    assert [one.dtype for one in sky] == [one.dtype for one in plain]
    assert_array_equal(sky, plain)


def test_peaks_and_sums_by_order_are_as_with_numpy(monkeypatch):
    "What only chooses the pairs to look at is the same but for rounding"
    rng = np.random.default_rng(0)
    surfaces = rng.normal(size=(5, 8, 30, 30)).astype('f4')
    first, second = rng.normal(size=(2, 50, 36)).astype('f4').view('c8').reshape(2, 50, 18)
    order = rng.integers(1, 9, 18)
    peaks = same_noise_page._peaks(surfaces)
    sums = fingerprints_page._sums_by_order(first, second, order, 9)
    for page in (same_noise_page, fingerprints_page):
        monkeypatch.setattr(page, 'compiled_loops', lambda: None)
    plain = same_noise_page._peaks(surfaces)
    assert_array_equal(peaks[0], plain[0])
    assert_allclose(peaks[1], plain[1], rtol=1e-5)
    assert_allclose(sums, fingerprints_page._sums_by_order(first, second, order, 9), atol=1e-5)


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('side', [8, 9, 33, 64])
def test_uneven_sky_is_flagged_as_when_every_side_is_measured(side):
    "Level sides are told by counting; slopes around the threshold, holes, stars and odd levels too"
    rng = np.random.default_rng(side)
    slope = np.repeat([0, 0.2, 3.5, 4, 4.5, 5, 5.5, 9], 40)[:, None, None, None] / (
        side - side // 8
    )
    data = rng.normal(0, 1, (320, 1, side, side)) + slope * np.arange(side)
    data = (
        data * rng.choice([1, 30], (320, 1, 1, 1)) + rng.choice([0, 1e3, 1e7], (320, 1, 1, 1))
    ).astype('f4')
    data[::7, :, : side // 2, :2] += 50
    data[::11, :, 2:] = data[::11, :, 2:3]  # No pixel noise along the columns
    good = rng.random(data.shape) > np.repeat([0, 0.4, 0, 0.97], 80)[:, None, None, None]
    sky, _ = local_background(data, good)
    exact = flags_page.side_difference(data, good)
    short = flags_page.side_difference(data, good, sky, 5)
    assert_array_equal(short > 5, exact > 5)
    assert ((short == exact) | (short == 0)).all()
    assert (exact > 5).sum() > 20 and ((short == 0) & (exact > 0)).sum() > 20


def test_many_rows_are_standardised_as_few(monkeypatch):
    "Blocks of rows change nothing"
    rng = np.random.default_rng(0)
    prints = (rng.normal(size=(300, 198)) + 1j * rng.normal(size=(300, 198))).astype('c8')
    prints[7] = 0
    standard = fingerprints_page.standardised(prints, 32)
    pointing = fingerprints_page.directions(standard)
    monkeypatch.setattr(fingerprints_page, '_BLOCK', 64)
    assert_array_equal(fingerprints_page.standardised(prints, 32), standard)
    assert_array_equal(fingerprints_page.directions(standard), pointing)
    assert not standard[7].any() and not pointing[7].any()


def test_cells_of_many_rows_take_no_room_for_all_cells():
    "What is kept of each block of rows is its nearest cells, not the order of all of them"
    pointing = np.random.default_rng(0).normal(size=(40_000, 4)).astype('f4')
    tracemalloc.start()
    try:
        fingerprints_page._cells(pointing)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6  # The order of all 625 cells is 200 MB


def test_large_fingerprints_in_files_are_the_same(tmp_path, monkeypatch):
    "Where memory would do, rows that show nothing among them; the files have no names"
    rng = np.random.default_rng(0)
    data = rng.normal(size=(9000, 1, 8, 8)).astype('f4')
    data[::50] = 0
    data[-1] = np.rot90(data[7], axes=(1, 2))
    valid = np.ones(data.shape, bool)
    prints = fingerprints_page.fingerprints(data, valid)
    hints = fingerprints_page.likely_copies(prints.copy(), 8)
    size = np.abs(fingerprints_page.standardised(prints[:, 0], 8))
    known = size.any(axis=1)
    assert 8000 < known.sum() < 9000
    mean = size[known].mean(axis=0)
    assert_array_equal(fingerprints_page._mean_of_rows(size, known), mean, strict=True)
    monkeypatch.setattr(fingerprints_page, '_IN_MEMORY', 1)
    mapped = fingerprints_page.fingerprints(data, valid, folder=tmp_path)
    assert isinstance(mapped.base, np.memmap) and not list(tmp_path.iterdir())
    assert_array_equal(mapped, prints)
    again = fingerprints_page.likely_copies(mapped, 8, overwrite=True, folder=tmp_path)
    assert_array_equal(again, hints)


def test_fingerprints_are_in_memory_where_the_disk_is_full(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(fingerprints_page.os, 'posix_fallocate', full)
    room = fingerprints_page._room((2**23,), 'f4', tmp_path)
    assert room.shape == (2**23,) and room.base is None
