"""`python -m benchmarks.copies`: transformed copies, planted and looked for; and clean sets, in which none must be found. Kept in benchmarks/results.

Each of ten seeds takes a set, plants five copies in each dress, and looks for them: simulated stars of 32 pixels, the simulator of
`ad.synthetic_archive` of 64, ZTF alerts of three channels, and cutouts of real images, those beside the repository. A pair that was found is false if
the two do not come from one patch. `python -m benchmarks.copies 10 alerts clean` does some of the sets only, beside those kept of the same commit.
"""

import gzip
import io
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.harness import keep, machine, moment, results
from benchmarks.words import Words, one_of, whole_number

shared = Path(__file__).resolve().parents[2] / 'shared' / 'data'
A_DRESS = 5  # Copies of each


# What is planted


def _rim(patch, value):
    patch = patch.copy()
    width = patch.shape[-1] // 8
    inside = slice(width, -width)
    framed = np.full_like(patch, value)
    framed[..., inside, inside] = patch[..., inside, inside]
    return framed


def _rotated(patch, degrees, order=1):
    from scipy.ndimage import rotate

    filled = np.nan_to_num(patch, nan=np.nanmedian(patch))
    return rotate(filled, degrees, (-2, -1), reshape=False, order=order, mode='nearest')


def _one_pixel(patch):
    patch = patch.copy()
    patch[..., 7, 9] += 100 * np.nanstd(patch)
    return patch


def _jpeg(patch, quality):
    from PIL import Image

    channels = []
    for channel in patch:
        low, high = np.nanpercentile(channel, [0.5, 99.5])
        bytes_ = np.clip((np.nan_to_num(channel) - low) / (high - low + 1e-30) * 255, 0, 255)
        file = io.BytesIO()
        Image.fromarray(bytes_.astype('u1')).save(file, 'JPEG', quality=quality)
        channels.append(np.asarray(Image.open(file), 'f4') * (high - low) / 255 + low)
    return np.array(channels)


def _moved(patch, down, right):
    return np.roll(patch, (down, right), axis=(-2, -1))


def _shifted(patch, by, order=1):
    from scipy.ndimage import shift

    filled = np.nan_to_num(patch, nan=np.nanmedian(patch))
    return shift(filled, (0, by, by), order=order, mode='nearest')


def _asinh(patch, noise):
    "As pictures for people are stretched"
    return np.arcsinh((patch - np.nanmedian(patch, axis=(1, 2), keepdims=True)) / (3 * noise))


def _square_root(patch):
    "A gamma of 0.5"
    low, high = (of(patch, axis=(1, 2), keepdims=True) for of in (np.nanmin, np.nanmax))
    return np.sqrt((patch - low) / (high - low + 1e-30))


def _cropped(patch):
    "Four rows and columns are gone; the rest stands in the middle, among zeros"
    padded = np.zeros_like(patch)
    padded[..., 2:-2, 2:-2] = patch[..., 4:, 4:]
    return padded


def _peak_over(patch):
    "The brightest pixel of each channel over its median"
    return (np.nanmax(patch, axis=(1, 2)) - np.nanmedian(patch, axis=(1, 2)))[:, None, None]


def dresses(rng):
    "Name -> function of a patch (C, s, s) and the noise of its channels (C, 1, 1)"

    def noisy(share):
        return lambda p, noise: p + share * noise * rng.normal(size=p.shape)

    def mixed(channel, p):
        return np.roll(rng.permutation(p[channel].ravel()).reshape(p[channel].shape), 3)

    def other_template(p, noise):
        new = p.copy()
        new[0] = mixed(0, p)
        return new

    def science_only(p, noise):
        return np.array([p[c] if c == 1 else mixed(c, p) for c in range(len(p))])

    found = {
        'brighter': lambda p, noise: 1.2 * p,
        'other sky and unit': lambda p, noise: 0.003 * (p - 70 * noise),
        'mirrored': lambda p, noise: p[..., ::-1],
        'turned, digits lost': lambda p, noise: np.rot90(p, 1, (-2, -1)) + 1e-6 * noise,
        'turned, brighter': lambda p, noise: 1.2 * np.rot90(p, 3, (-2, -1)),
        'one pixel': lambda p, noise: _one_pixel(p),
        'rounded to noise': lambda p, noise: np.round(p / noise) * noise,
        'rim masked': lambda p, noise: _rim(p, np.nan),
        'rim of zeros': lambda p, noise: _rim(p, 0.0),
        'moved by 1': lambda p, noise: _moved(p, 0, 1),
        'moved by 2, 2': lambda p, noise: _moved(p, 2, -2),
        'moved, turned': lambda p, noise: _moved(np.rot90(p, 2, (-2, -1)), -1, 1),
        'by 15 degrees': lambda p, noise: _rotated(p, 15),
        'by 15, brighter': lambda p, noise: 1.2 * _rotated(p, 15),
        'by -40, mirrored': lambda p, noise: _rotated(p[..., ::-1], -40),
        'noise added, 0.5': noisy(0.5),
        'JPEG 95': lambda p, noise: _jpeg(p, 95),
        'JPEG 75': lambda p, noise: _jpeg(p, 75),
        'half a pixel': lambda p, noise: _shifted(p, 0.5),
        'noise added, 1.0': noisy(1.0),
        'peak at S/N 20': lambda p, noise: p + _peak_over(p) / 20 * rng.normal(size=p.shape),
        'constant added': lambda p, noise: p + 100 * noise,
        'asinh': _asinh,
        'square root': lambda p, noise: _square_root(p),
        'half precision': lambda p, noise: p.astype('f2'),
        'half a pixel, cubic': lambda p, noise: _shifted(p, 0.5, order=3),
        'half a pixel, turned': lambda p, noise: 1.2 * np.rot90(_shifted(p, 0.5), 1, (-2, -1)),
        'cropped, padded': lambda p, noise: _cropped(p),
    }
    return (
        found
        | more_dresses(rng)
        | {
            'other template': other_template,
            'science only': science_only,
            'channels in turn': lambda p, noise: p[[1, 2, 0]],
            'channels 0 and 1 swapped': lambda p, noise: p[[1, 0, 2]],
        }
    )


def _blurred(patch, sigma):
    from scipy.ndimage import gaussian_filter

    filled = np.nan_to_num(patch, nan=np.nanmedian(patch))
    return gaussian_filter(filled, (0, sigma, sigma), mode='nearest')


def _zoomed(patch, zoom, order=1):
    "Larger about its middle, and cut to its side"
    from scipy.ndimage import affine_transform

    filled = np.nan_to_num(patch, nan=np.nanmedian(patch))
    middle = (patch.shape[-1] - 1) / 2 * (1 - 1 / zoom)
    how = dict(offset=middle, order=order, mode='nearest')
    return np.array([affine_transform(c, np.eye(2) / zoom, **how) for c in filled])


def _binned(patch):
    "The mean of two by two pixels, in each of them"
    even = patch.shape[-1] // 2 * 2
    parts = patch[:, :even, :even].reshape(len(patch), even // 2, 2, even // 2, 2)
    large = parts.mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)
    rest = patch.shape[-1] - even
    return np.pad(large, ((0, 0), (0, rest), (0, rest)), 'edge')


def _quantised(patch, level):
    "As a FITS file with RICE compression gives it back"
    from astropy.io import fits

    channels = []
    for channel in np.ascontiguousarray(patch, 'f4'):
        how = dict(compression_type='RICE_1', quantize_level=level)
        file = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(channel, **how)]).writeto(file)
        channels.append(fits.open(io.BytesIO(file.getvalue()))[1].data)
    return np.array(channels)


def _padded(patch, mode):
    "The inner four fifths, as 51 of 63 pixels, with a new rim"
    side = patch.shape[-1]
    rim = round(side * 6 / 63)
    filled = np.nan_to_num(patch, nan=np.nanmedian(patch))[:, rim:-rim, rim:-rim]
    return np.pad(filled, ((0, 0), (rim, rim), (rim, rim)), mode)


def _slid(patch, down, right, mode):
    from scipy.ndimage import shift

    filled = np.nan_to_num(patch, nan=np.nanmedian(patch))
    return shift(filled, (0, down, right), order=0, mode=mode)


def more_dresses(rng):
    "Those of people who augment before they split, and of files that lose something; and two at once"

    def measured(patch, noise, share=0.3):
        "Another gain and offset, and noise on top"
        return 1.7 * patch + 30 * noise + 1.7 * share * noise * rng.normal(size=patch.shape)

    return {
        'moved by 3': lambda p, noise: _moved(p, 3, 0),
        'moved by 7, -5': lambda p, noise: _moved(p, 7, -5),
        'moved by half': lambda p, noise: _moved(p, 0, p.shape[-1] // 2),
        'slid by 4, zeros': lambda p, noise: _slid(p, 0, 4, 'constant'),
        'slid by 4, repeated': lambda p, noise: _slid(p, -4, 0, 'nearest'),
        'slid by 4, reflected': lambda p, noise: _slid(p, 0, -4, 'mirror'),
        'blurred, 0.5': lambda p, noise: _blurred(p, 0.5),
        'blurred, 1': lambda p, noise: _blurred(p, 1.0),
        'blurred, 1.5': lambda p, noise: _blurred(p, 1.5),
        'binned': lambda p, noise: _binned(p),
        '0.3 of a pixel': lambda p, noise: _shifted(p, 0.3, order=3),
        'negative': lambda p, noise: -p,
        'padded, zeros': lambda p, noise: _padded(p, 'constant'),
        'padded, repeated': lambda p, noise: _padded(p, 'edge'),
        'padded, reflected': lambda p, noise: _padded(p, 'reflect'),
        'gain, offset, noise': measured,
        'RICE 4': lambda p, noise: _quantised(p, 4.0),
        'RICE 1': lambda p, noise: _quantised(p, 1.0),
        'negative, turned': lambda p, noise: -np.rot90(p, 1, (-2, -1)),
        'negative, moved': lambda p, noise: -_moved(p, 5, 2),
        'moved by 6, turned': lambda p, noise: np.rot90(_moved(p, 6, 0), 1, (-2, -1)),
        'moved by 5, noise': lambda p, noise: measured(_moved(p, 0, 5), noise),
        'blurred, mirrored': lambda p, noise: _blurred(p, 1.0)[..., ::-1],
        'blurred, moved by 4': lambda p, noise: _moved(_blurred(p, 1.0), 4, 0),
        'blurred, noise': lambda p, noise: measured(_blurred(p, 1.0), noise),
        'binned, turned': lambda p, noise: np.rot90(_binned(p), 3, (-2, -1)),
        'padded, turned': lambda p, noise: np.rot90(_padded(p, 'constant'), 1, (-2, -1)),
        '0.3 of a pixel, noise': lambda p, noise: measured(_shifted(p, 0.3, order=3), noise),
        'RICE 4, mirrored': lambda p, noise: _quantised(p, 4.0)[..., ::-1],
        'JPEG 95, moved by 3': lambda p, noise: _moved(_jpeg(p, 95), 3, 3),
        'larger by 1.1': lambda p, noise: _zoomed(p, 1.1),
        'larger by 1.1, cubic': lambda p, noise: _zoomed(p, 1.1, order=3),
        'larger by 1.07': lambda p, noise: _zoomed(p, 1.07),
        'smaller, 0.9': lambda p, noise: _zoomed(p, 0.9),
        'larger by 1.1, turned': lambda p, noise: 1.2 * np.rot90(_zoomed(p, 1.1), 1, (-2, -1)),
        'larger by 1.1, by 15': lambda p, noise: _rotated(_zoomed(p, 1.1), 15),
        'larger by 1.3': lambda p, noise: _zoomed(p, 1.3),
        'noise added, 1.5': lambda p, noise: p + 1.5 * noise * rng.normal(size=p.shape),
        'noise added, 2.0': lambda p, noise: p + 2.0 * noise * rng.normal(size=p.shape),
        'noise added, turned': lambda p, noise: np.rot90(measured(p, noise, 1.0), 1, (-2, -1)),
    }


OF_CHANNELS = 'other template', 'science only', 'channels in turn', 'channels 0 and 1 swapped'


# Where it is planted


def stars(seed):
    from astrid_data.quality.background import example_patches

    return example_patches(400, 32, seed)[0]


def with_pattern(data, seed, times=4.0, detectors=1, kind='pixels', share=1.0):
    "Patches with what a detector adds to the same pixels of all of them, so many times their noise"
    from astrid_data.quality.background import local_background

    rng = np.random.default_rng([seed, 2])
    side = data.shape[-1]
    shape = dict(pixels=(side, side), columns=(1, side), rows=(side, 1))[kind]
    pattern = rng.normal(size=(detectors, 1, *shape))[rng.integers(0, detectors, len(data))]
    has = rng.random((len(data), 1, 1, 1)) < share
    noise = np.nanmedian(local_background(data)[1], axis=0)[:, None, None]
    return (data + times * noise * pattern * has).astype('f4')


def detector(seed):
    "Stars of which no one took the bias off: a pattern four times stronger than the noise"
    return with_pattern(stars(seed), seed)


def crowded(seed, times=2.0, width=1.5, n=60):
    "Fields of stars that nobody resolves, up to so many times the noise, each at two times"
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([seed, 3])
    bright = rng.pareto(1.2, (n, 64, 64))
    fields = np.where(rng.random(bright.shape) < 0.07, bright, 0)
    fields = np.array([gaussian_filter(field, width) for field in fields])
    low, high = np.quantile(fields, [0.25, 0.75], axis=(1, 2), keepdims=True)
    fields *= times * 1.349 / (high - low)
    both = np.concatenate([fields, fields])
    return (both + rng.normal(20, 1, both.shape))[:, None].astype('f4')


def simulated(seed):
    import astrid_data as ad

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        archive = ad.synthetic_archive(folder, n_observations=2, n_sources=120, seed=seed)
        params = ad.TrainingDataCollectionParams(confidence_threshold=0.5)
        plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
        how = dict(patch_size=64, progress=False, probe=False, split_by='group', allow_empty=True)
        dataset = plan.build('pretend', **how)
        return _apart(np.array(dataset.patches()[:]), dataset.samples)


def _apart(data, samples):
    "One patch of those that share sky at less than three pixels"
    from astrid_data.splits.groups import group_detections

    group = group_detections(samples.assign(object_id=None, half_width_arcsec=np.nan), 3.0)
    return data[np.unique(group, return_index=True)[1]]


def _stamp(raw):
    from astropy.io import fits

    raw = gzip.decompress(raw) if raw[:2] == b'\x1f\x8b' else raw
    with fits.open(io.BytesIO(raw), ignore_missing_simple=True) as hdus:
        return np.asarray(hdus[0].data, 'f4')


def alerts(seed=None):
    "Alerts of different objects: those of one object share their template"
    import pandas as pd

    table = pd.read_parquet(shared / 'alerts' / 'ztf_dev.parquet').drop_duplicates('objectId')
    names = ('cutoutTemplate', 'cutoutScience', 'cutoutDifference')
    stamps = [[_stamp(row[name]) for name in names] for _, row in table.iterrows()]
    return np.array([three for three in stamps if all(x.shape == (63, 63) for x in three)])


# The same sky in another filter or at another time, and the same file twice
_AGAIN = 'rice f814w f160w f125w ps1_r ps1_i ps1_z des_r epoch2 sdss_r_repr 150411 180128 180212 180225 04b 18a 18b spitzer'.split()


# Images of the same sky on the same pixels, in several filters or at several times
_ONE_SKY = (
    *[f'hst/aegis_{k}_acs_f*.fits' for k in ('11051203', '12004455', '12004808', '12008179')],
    *[f'hst/aegis_{k}_acs_f*.fits' for k in ('12008349', '12011504', '12012573', '12016058')],
    'hst/egs_*.fits',
    'hst/xdf_*_sci.fits',
    'ground/snhost_ps1_?.fits',
    'ground/snhost_des_?.fits.gz',
    'ground/decam_transient/DEC-OBS*.fits.gz',
    'jwst/a2744_nircam_*.fits',
    'skyview/sdss_?_reprojected.fits.bz2',
)


def one_sky(side, most=40):
    "Pieces of the same sky in other filters and at other times, whose noise is not the same"
    from astropy.io import fits

    found = []
    for pattern in _ONE_SKY:
        for file in sorted(shared.glob(pattern)):
            with warnings.catch_warnings(), fits.open(file) as hdus:
                warnings.simplefilter('ignore')
                image = next(h.data for h in hdus if h.data is not None and h.data.ndim == 2)
            found.append(_pieces(np.asarray(image, 'f4'), side)[:most])
    return _filled(np.concatenate(found))


def _pieces(image, side):
    "Pieces of an image that share no pixel"
    height, width = (n // side * side for n in image.shape)
    pieces = image[:height, :width].reshape(height // side, side, width // side, side)
    return pieces.swapaxes(1, 2).reshape(-1, side, side)


def _real_images():
    "Images of different sky"
    import pandas as pd
    from astropy.io import fits

    files = pd.read_csv(shared / 'manifest.csv').query('role == "image"')['file']
    for file in files[~files.str.contains('|'.join(_AGAIN))]:
        with warnings.catch_warnings(), fits.open(shared / file) as hdus:
            warnings.simplefilter('ignore')
            images = [h.data for h in hdus if h.data is not None and h.data.dtype.kind in 'fiu']
        image = np.asarray(images[0], 'f4') if images else np.zeros((1, 1), 'f4')
        image = image[0] if image.ndim == 3 else image
        if image.ndim == 2 and min(image.shape) >= 64:
            yield image


def tiles(side, most=60):
    "Pieces of real images that share no pixel"
    found = []
    for image in _real_images():
        found.append(_pieces(image, side)[:most])
    return _filled(np.concatenate(found))


def _filled(patches):
    "Patches with something on them: empty ones are equal, and no copies"
    empty = np.nanmin(patches, axis=(1, 2)) == np.nanmax(patches, axis=(1, 2))
    known = np.isfinite(patches).any(axis=(1, 2))
    return patches[known & ~empty][:, None]


def _first_here(places, apart):
    "Whether no brighter point is near: a saturated star has a plateau of equal pixels"
    from scipy.spatial import cKDTree

    pairs = cKDTree(places).query_pairs(apart, p=np.inf, output_type='ndarray')
    first = np.ones(len(places), bool)
    first[pairs[:, 1]] = False
    return first


def centred(side, threshold, apart=8, most=80):
    "Patches centred on the brightest points of real images, which all look alike"
    from scipy.ndimage import maximum_filter

    found = []
    for image in _real_images():
        filled = np.nan_to_num(image, nan=np.nanmedian(image))
        low, middle, high = np.nanpercentile(filled, [25, 50, 75])
        peaks = filled == maximum_filter(filled, 2 * apart + 1)
        peaks &= filled > middle + threshold * (high - low) / 1.349
        places = np.argwhere(peaks)
        places = places[np.argsort(-filled[tuple(places.T)], kind='stable')]
        places = places[_first_here(places, apart)]
        half = side // 2
        for y, x in places[:most]:
            patch = image[max(y - half, 0) : y - half + side, max(x - half, 0) : x - half + side]
            if patch.shape == (side, side) and y >= half and x >= half:
                found.append(patch)
    return _filled(np.array(found))


# Looking


def search(data):
    "Pairs found, and processor seconds"
    from astrid_data.quality.duplicates import find_duplicates

    start = time.process_time()
    pairs = find_duplicates(data, np.isfinite(data))
    return pairs, time.process_time() - start


def plant(data, seed):
    "A set with copies; which patch each row comes from; the dress of each copy"
    from astrid_data.quality.background import local_background

    rng = np.random.default_rng([seed, 1])  # Noise that no pretend sky has
    kinds = dresses(rng)
    if data.shape[1] == 1:
        kinds = {name: dress for name, dress in kinds.items() if name not in OF_CHANNELS}
    noise = np.nan_to_num(local_background(data)[1], nan=1)
    sources = rng.choice(len(data), A_DRESS * len(kinds), replace=A_DRESS * len(kinds) > len(data))
    names = np.repeat(list(kinds), A_DRESS)
    with np.errstate(all='ignore'):
        copies = [
            kinds[name](data[row], np.maximum(noise[row], 1e-30)[:, None, None])
            for name, row in zip(names, sources)
        ]
    whole = np.concatenate([data, np.array(copies).astype(data.dtype)])
    return whole, np.concatenate([np.arange(len(data)), sources]), names


def planted(data, seed):
    "By dress how many were found, how many false pairs there were, seconds, patches"
    whole, source, names = plant(data, seed)
    pairs, seconds = search(whole)
    true = source[pairs['i']] == source[pairs['j']]
    found = np.isin(np.arange(len(data), len(whole)), pairs.loc[true, ['i', 'j']].to_numpy())
    by_dress = {name: int(found[names == name].sum()) for name in dict.fromkeys(names)}
    false = ~true & (
        pairs['kind'] != 'part'
    )  # Windows at an edge share pixels once they are filled up
    return by_dress, int(false.sum()), seconds, len(whole)


def plant_all(seeds, names=()):
    "Found of planted, by set and dress; names of sets, or all"
    sets = dict(stars=stars, detector=detector, simulated=simulated)
    if shared.is_dir():
        pool = tiles(32)
        real = alerts()
        sets |= dict(alerts=lambda seed: real, images=lambda seed: pool)
    rows = []
    for name, draw in sets.items():
        if names and name not in names:
            continue
        total, false, seconds, n = {}, 0, 0.0, 0
        for seed in range(seeds):
            by_dress, wrong, took, size = planted(draw(seed), seed)
            total = {dress: total.get(dress, 0) + k for dress, k in by_dress.items()}
            false, seconds, n = false + wrong, seconds + took, n + size
        asked = seeds * A_DRESS
        rows.append(dict(set=name, planted=asked, found=total, false=false, patches=n // seeds))
        rows[-1]['ms_per_patch'] = round(1000 * seconds / n, 3)
        print(name, f'{n // seeds} patches, {false} false,', rows[-1]['ms_per_patch'], 'ms a patch')
        for dress, k in total.items():
            print(f'  {dress:20} {k}/{asked}', flush=True)
    return rows


def clean_sets():
    "Name -> a function that makes a set without a copy"
    sets = {f'stars {seed}': lambda seed=seed: stars(100 + seed) for seed in range(4)}
    sets |= {f'simulated {seed}': lambda seed=seed: simulated(100 + seed) for seed in range(4)}
    if shared.is_dir():
        sets |= {f'tiles of {side}': lambda side=side: tiles(side) for side in (16, 24, 32, 48, 64)}
        for side, threshold in ((21, 8), (32, 5), (32, 20), (48, 8), (63, 8), (64, 30)):
            sets[f'bright points, {side} pixels, above {threshold}'] = lambda s=side, t=threshold: (
                centred(s, t)
            )
        sets['alerts'] = alerts
        sets |= {
            f'one sky, {side} pixels': lambda side=side: one_sky(side) for side in (24, 32, 63)
        }
        sets['alerts with a pattern'] = lambda: with_pattern(alerts(), 0)
    return sets | pattern_sets() | crowded_sets()


def pattern_sets():
    "Clean sets with what a detector adds"
    from astrid_data.quality.background import example_patches

    sets = {}
    for side in (16, 32, 64):
        for times, detectors, kind, share in (
            (4, 1, 'pixels', 1.0),
            (1, 1, 'pixels', 1.0),
            (10, 1, 'pixels', 1.0),
            (4, 4, 'pixels', 1.0),
            (4, 1, 'pixels', 0.3),
            (4, 1, 'columns', 1.0),
        ):
            how = dict(times=times, detectors=detectors, kind=kind, share=share)
            name = f'{side} pixels, {kind} of {detectors} detectors, {times} times, in {share:.0%}'
            sets[name] = lambda side=side, how=how: with_pattern(
                example_patches(400, side, 7)[0], 7, **how
            )
    return sets


def crowded_sets():
    "Crowded fields at two times, of which only the light is the same"
    return {
        f'crowded, {times} times the noise, PSF {width}': lambda t=times, w=width: crowded(0, t, w)
        for times in (1, 2)
        for width in (0.7, 1.0, 1.5)
    }


def look_at_clean(sets):
    "Pairs found where there are none"
    rows = []
    for name, make in sets.items():
        data = make()
        pairs, seconds = search(data)
        kinds = pairs['kind'].value_counts().to_dict()
        rows.append(dict(set=name, patches=len(data), false=len(pairs), kinds=kinds))
        print(
            f'clean: {name:40} {len(data)} patches, {len(pairs)} false, {seconds:.1f} s', flush=True
        )
    return rows


SETS = 'stars detector simulated alerts images clean'.split()


def main(words=None):
    "All sets, or those named ('clean' for those without a copy) beside what was kept of the same commit"
    asked = Words('benchmarks.copies', __doc__)
    asked.add_argument('seeds', nargs='?', type=whole_number, default=10, help='fewer are not kept')
    asked.add_argument('names', nargs='*', type=one_of(*SETS), metavar='set', help=', '.join(SETS))
    asked = asked.parse_args(words)
    seeds, names = asked.seeds, asked.names
    about = 'transformed copies planted and found, by set; pairs found in clean sets'
    result = dict(table='copies', about=about, machine=machine(), **moment(), seeds=seeds)
    kept = json.loads(file.read_text()) if (file := results / 'copies.json').exists() else {}
    is_beside = names and all(kept.get(k) == result[k] for k in ('commit', 'seeds', 'machine'))
    rows = {row['set']: row for row in kept['planted']} if is_beside else {}
    rows |= {row['set']: row for row in plant_all(seeds, names)}
    result['planted'] = list(rows.values())
    result['clean'] = kept['clean'] if is_beside else []
    if not names or 'clean' in names:
        result['clean'] = look_at_clean(clean_sets())
    if seeds >= 10:
        keep(result)


if __name__ == '__main__':
    main()
