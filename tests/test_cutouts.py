"Cutouts without a registry: the pixels of the files, and a reason for whatever is not there."

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.coordinates.name_resolve import NameResolveError
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.ingest.found import places_of


def image_at(path, ra=150.0, dec=2.0, shape=(80, 100), **planes):
    "An image around a position, 0.5″ a pixel, and its pixels"
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval, wcs.wcs.crpix = (ra, dec), (shape[1] / 2 + 0.5, shape[0] / 2 + 0.5)
    wcs.wcs.cdelt = -0.5 / 3600, 0.5 / 3600
    pixels = np.random.default_rng(len(str(path))).normal(100, 5, shape).astype('f4')
    fits.writeto(path, pixels, wcs.to_header())
    return pixels


@pytest.mark.parametrize(
    'positions',
    [
        SkyCoord(150.0, 2.0, unit='deg'),
        [(150.0, 2.0)],
        np.array([[150, 2]]),
        pd.DataFrame(dict(ra=[150.0], dec=[2.0])),
        dict(ra=['10:00:00'], dec=['+02:00:00']),
        Table(dict(ra=[10.0], dec=[2.0]), units=dict(ra='hourangle', dec='deg')),
    ],
    ids=['SkyCoord', 'pairs', 'array', 'DataFrame', 'sexagesimal', 'hours'],
)
def test_positions_come_in_every_dress(tmp_path, positions):
    pixels = image_at(tmp_path / 'a.fits')
    found = ad.cutouts(positions, tmp_path / 'a.fits', size=10)
    one = found.table.iloc[0]
    x0, y0 = int(one['x0']), int(one['y0'])
    assert abs(x0 + 5 - 49.5) <= 1 and abs(y0 + 5 - 39.5) <= 1
    assert np.array_equal(found.data[0], pixels[y0 : y0 + 10, x0 : x0 + 10])
    assert found.lost.empty


def test_each_image_gives_its_own_and_nothing_is_lost_silently(tmp_path):
    for name in ('a.fits', 'b.fits'):
        image_at(tmp_path / name)
    image_at(tmp_path / 'far.fits', ra=10.0)
    (tmp_path / 'broken.fits').write_bytes(b'SIMPLE  =')
    whole = ad.cutouts([(200.0, 0.0)], tmp_path / 'a.fits', size=8)
    assert whole.lost['reason'].tolist() == ['outside']
    places = pd.DataFrame(dict(ra=[150.0, 10.0, 200.0, np.nan], dec=[2.0, 2.0, 0.0, 0.0]))
    found = ad.cutouts(places, str(tmp_path / '*.fits'), size=8)
    pairs = [
        (row, Path(image).name) for row, image in zip(found.table['row'], found.table['image'])
    ]
    assert sorted(pairs) == [(0, 'a.fits'), (0, 'b.fits'), (1, 'far.fits')]
    lost = dict(zip(found.lost['uri'], found.lost['reason']))
    assert lost['positions[2]'] == 'unknown' and lost['positions[3]'] == 'bad_position'
    assert lost[str(tmp_path / 'broken.fits')] not in ('', 'outside')
    assert len(lost) == 3


def test_a_mask_beside_an_image_is_used_and_is_no_image(tmp_path):
    image_at(tmp_path / 'n_sci.fits')
    mask = np.zeros((80, 100), 'i2')
    mask[38:42] = 1
    fits.writeto(tmp_path / 'n_mask.fits', mask, fits.getheader(tmp_path / 'n_sci.fits'))
    found = ad.cutouts([(150.0, 2.0)], tmp_path, size=20)
    assert len(found) == 1 and 0 < (~found.valid).sum() < 400
    y0 = int(found.table['y0'][0])
    assert not found.valid[0, 38 - y0 : 42 - y0].any() and found.valid[0, : 38 - y0].all()


def test_written_patches_keep_their_place_on_the_sky(tmp_path):
    image_at(tmp_path / 'a.fits')
    offsets = np.linspace(-0.004, 0.004, 5)
    found = ad.cutouts(
        SkyCoord(150 + offsets, 2 - offsets, unit='deg'), tmp_path / 'a.fits', size=12
    )
    paths = found.to_fits(tmp_path / 'stamps')
    for k, path in enumerate(paths):
        with fits.open(path) as hdul:
            one = found.table.iloc[k]
            x, y = WCS(hdul['SCI'].header).all_world2pix(one['ra'], one['dec'], 0)
            assert np.allclose([x - one['offset_x'], y - one['offset_y']], 6, atol=1e-6)
            assert np.array_equal(hdul['SCI'].data, found.data[k], equal_nan=True)
            assert np.array_equal(hdul['VALID'].data.astype(bool), found.valid[k])
    with pytest.raises(BadInput, match='is there already'):
        found.to_fits(tmp_path / 'stamps')
    assert found.to_fits(tmp_path / 'stamps', overwrite=True) == paths


def test_files_of_one_name_in_two_folders_keep_both_patches(tmp_path):
    for folder in ('n1', 'n2'):
        (tmp_path / folder).mkdir()
        image_at(tmp_path / folder / 'a.fits')
    found = ad.cutouts([(150.0, 2.0)], tmp_path, size=10)
    paths = found.to_fits(tmp_path / 'stamps')
    assert len(set(paths)) == 2 and all(path.exists() for path in paths)
    assert len(set(found.to_fits(tmp_path / 'stamps', overwrite=True))) == 2


def test_positions_of_any_shape_and_none(tmp_path):
    image_at(tmp_path / 'a.fits')
    grid = SkyCoord([[150.0, 150.001], [150.0, 150.001]], [[2.0, 2.0], [2.001, 2.001]], unit='deg')
    assert len(ad.cutouts(grid, tmp_path / 'a.fits', size=4)) == 4
    assert len(ad.cutouts([], tmp_path / 'a.fits', size=4)) == 0


def test_what_cannot_be_meant_is_said(tmp_path):
    image_at(tmp_path / 'a.fits')
    with pytest.raises(NotFound, match='no file'):
        ad.cutouts('nowhere.csv', tmp_path / 'a.fits')
    with pytest.raises(BadInput, match='names no file'):
        ad.cutouts([(1.0, 2.0)], [])
    with pytest.raises(BadInput, match="ra='RAJ2000'"):
        ad.cutouts(pd.DataFrame(dict(RAJ2000=[1.0], DEJ2000=[2.0])), tmp_path / 'a.fits')
    for size in (0, -3, 2.5):
        with pytest.raises(BadInput, match=f'size {size} is not a number of pixels'):
            ad.cutouts([(150.0, 2.0)], tmp_path / 'a.fits', size=size)
    nothing = ad.cutouts([(1.0, 2.0)], tmp_path / 'a.fits')
    assert len(nothing) == 0 and '1 outside' in repr(nothing)
    with pytest.raises(BadInput, match='nothing to show'):
        nothing.show()


def test_the_pixels_are_those_of_real_files(shared_data):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = ad.cutouts([(202.4696, 47.1952)], shared_data / 'skyview', size=32)
    for k, one in enumerate(found.table.itertuples()):
        whole = fits.getdata(one.image, one.hdu if one.hdu != 'PRIMARY' else 0)
        y, x = np.nonzero(found.valid[k])
        assert np.array_equal(whole[y + one.y0, x + one.x0].astype('f4'), found.data[k][y, x])


@pytest.mark.parametrize('text', ['x' * 300, 'x' * 5000, 'a\0b'])
def test_a_text_that_can_be_no_path_is_refused(tmp_path, monkeypatch, text):
    image_at(tmp_path / 'a.fits')

    def unknown(name):
        raise NameResolveError('no such name')

    monkeypatch.setattr(SkyCoord, 'from_name', unknown)
    with pytest.raises((BadInput, NotFound)):
        ad.cutouts(text, tmp_path / 'a.fits')
    with pytest.raises(BadInput, match='neither a position nor a name'):
        places_of(text)
