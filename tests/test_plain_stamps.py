"Stamps that are unpacked straight into place give what each file gives when it is opened alone"

import gzip
import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from astrid_data.images.opener import ImageOpener, KnownFile
from astrid_data.patches import stamps
from astrid_data.patches.extract import extract_patches


def stamp_file(pixels, planes=(), **cards):
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update(cards)
    out = io.BytesIO()
    fits.HDUList([hdu, *(fits.ImageHDU(plane, name='ERR') for plane in planes)]).writeto(out)
    return out.getvalue()


def skies(seed):
    "Pixels of all sorts: plain, cut, beyond an edge, with gaps, saturated, quantised, constant"
    rng = np.random.default_rng(seed)

    def sky(ny=63, nx=63):
        return rng.normal(100, 5, (ny, nx)).astype('f4')

    edge, gaps, top, flat = sky(), sky(), sky(), sky(40, 63)
    edge[:, -12:] = 0
    gaps[:20] = np.nan
    gaps[30, 30] = np.inf
    top[20:30, 20:30] = 6e4
    flat[:, :9] = -3.5
    steps, low = np.round(sky()), sky()
    low[4, 4:6] = -9999
    return [
        sky(),
        sky(45, 63),
        sky(63, 20),
        edge,
        gaps,
        top,
        flat,
        steps,
        low,
        sky(70, 70),
        sky(5, 5),
    ]


def files(seed):
    named = {f's{k}': stamp_file(pixels) for k, pixels in enumerate(skies(seed))}
    sky = skies(seed)[0]
    named |= dict(
        scaled=stamp_file(sky, BSCALE=2.0, BZERO=5.0),
        full=stamp_file(sky, SATURATE=110.0),
        fill=stamp_file(np.round(sky), FILLVAL=100.0),
        whole=stamp_file(sky.astype('i2')),
        double=stamp_file(sky.astype('f8')),
        error=stamp_file(sky, [np.maximum(sky - 100, 0)]),
        half=stamp_file(sky)[:9000],
        broken=b'no FITS at all',
    )
    return named


class Alone(ImageOpener):
    "Opens each file alone"

    stored = property(lambda self: (_ for _ in ()).throw(AttributeError('stored')))


def compare(paths, x, y, size):
    roles = ('template', 'science')
    both = {
        f'{role}_{name}': value
        for role in roles
        for name, value in dict(uri=paths, hdu='PRIMARY', extver=1, wcs_state='stamp').items()
    }
    rows = pd.DataFrame(both | dict(ra=1.0, dec=2.0, pixel_x=x, pixel_y=y))
    rows['sample_key'] = np.arange(len(rows)).astype(str)
    straight, alone = ImageOpener(None), Alone(None)
    fast = extract_patches(rows, size, roles, open=straight, min_valid_fraction=0.2)
    slow = extract_patches(rows, size, roles, open=alone, min_valid_fraction=0.2)
    levels = {key: level for key, level in alone.saturation.items() if np.isfinite(level)}
    assert levels.items() <= straight.saturation.items()
    assert fast.data.tobytes() == slow.data.tobytes()
    assert_array_equal(fast.valid, slow.valid)
    pd.testing.assert_frame_equal(fast.info, slow.info)
    pd.testing.assert_frame_equal(fast.ledger, slow.ledger)
    return fast


@pytest.mark.parametrize('size', [63, 64, 31, 80])
def test_stamps_of_all_sorts_have_the_pixels_that_each_gives_alone(tmp_path, size):
    paths, x, y = [], [], []
    for name, data in files(size).items():
        for packed in (False, True):
            path = tmp_path / f'{name}-{packed}'
            path.write_bytes(gzip.compress(data, 1) if packed else data)
            for place in ((31, 31), (2.4, 40.6), (np.nan, 31), (500, 31)):
                paths.append(str(path))
                x.append(place[0])
                y.append(place[1])
    got = compare(paths, x, y, size)
    assert {'bad_position', 'off_image', 'truncated'} <= set(got.ledger['reason'])


def test_plain_stamps_are_not_opened_one_by_one(tmp_path, monkeypatch):
    path = tmp_path / 'a.fits'
    path.write_bytes(stamp_file(skies(1)[0]))
    rows = pd.DataFrame(dict(sample_key=['a'], ra=1.0, dec=2.0, pixel_x=31.0, pixel_y=31.0,
        image_uri=str(path), image_wcs_state='stamp'))  # fmt: skip
    stamps.stamp_layout.cache_clear()
    opener = ImageOpener(None)
    assert extract_patches(rows, 63, open=opener).kept.all()
    monkeypatch.setattr(ImageOpener, '__call__', None)
    assert extract_patches(rows, 63, open=opener).kept.all()


def test_a_stamp_that_was_replaced_is_lost_and_said_so(tmp_path):
    path = tmp_path / 'a.fits'
    path.write_bytes(stamp_file(skies(1)[0]))
    rows = pd.DataFrame(dict(sample_key=['a'], ra=1.0, dec=2.0, pixel_x=31.0, pixel_y=31.0,
        image_uri=str(path), image_wcs_state='stamp'))  # fmt: skip
    opener = ImageOpener(None)
    opener.files[str(path)] = {KnownFile('0' * 64)}
    assert extract_patches(rows, 63, open=opener).ledger['reason'].tolist() == ['changed']


def test_real_alerts_have_the_pixels_that_each_gives_alone(shared_data, tmp_path):
    for name in ('ztf_dev', 'lsst_dev'):
        table = pd.read_parquet(shared_data / 'alerts' / f'{name}.parquet')
        for column in ('cutoutScience', 'cutoutTemplate', 'cutoutDifference'):
            paths = [str(tmp_path / f'{name}-{column}-{k}') for k in range(len(table))]
            for path, data in zip(paths, table[column]):
                with open(path, 'wb') as file:
                    file.write(data)
            assert compare(paths, 31.0, 25.0, 63).kept.any()
