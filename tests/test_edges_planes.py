"""Error maps that hold 0 or less: such pixels are no measurement, and a map of nothing else is not used."""

import numpy as np
import pytest
from astropy.io import fits
from awkward import header, sky

from astrid_data.images.image import open_image
from astrid_data.ingest.archive import open_archive
from astrid_data.patches.extract import cut_patches

pytestmark = pytest.mark.filterwarnings('ignore')
NAMES = ['ERR', 'SIGMA', 'RMS', 'VARIANCE', 'UNCERT', 'NOISE']
KINDS = dict(f4=fits.ImageHDU, f8=fits.ImageHDU, i4=fits.ImageHDU, tiled=fits.CompImageHDU)


def with_error(path, error, name='SIGMA', kind='f4', **cards):
    "A file with an image of the sky and an error map"
    image = fits.ImageHDU(sky(3), header(**cards), name='SCI')
    words = dict(compression_type='GZIP_1', quantize_level=0) if kind == 'tiled' else {}
    beside = KINDS[kind](error.astype('f4' if kind == 'tiled' else kind), name=name, **words)
    fits.HDUList([fits.PrimaryHDU(), image, beside]).writeto(path, overwrite=True)
    return path


def some_error(value):
    "An error map of 2 with one corner of another value"
    error = np.full(sky(3).shape, 2.0)
    error[:20, :30] = value
    return error


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('value', [0, -1, -2.5])
def test_a_pixel_without_a_positive_error_is_bad(tmp_path, name, value):
    with open_image(with_error(tmp_path / 'a.fits', some_error(value), name), 'SCI') as image:
        assert 'error' in image.planes and 'error' not in image.missing
        pixels, bad = image.read_all()
    assert bad[:20, :30].all() and bad.sum() == 600
    assert np.isnan(pixels[:20, :30]).all() and np.isfinite(pixels[~bad]).all()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('compiled', [True, False])
def test_patches_agree_with_the_whole_image(tmp_path, kind, compiled):
    path = with_error(tmp_path / 'a.fits', some_error(0), kind=kind)
    x, y = np.array([28.0, 60.0, 29.6]), np.array([19.0, 60.0, 8.0])
    with open_image(path, 'SCI') as image:
        cut = cut_patches(image, x, y, 9, compiled=compiled)
        pixels, bad = image.read_all()
    for k in range(3):
        square = np.s_[cut.y0[k] : cut.y0[k] + 9, cut.x0[k] : cut.x0[k] + 9]
        np.testing.assert_array_equal(cut.valid[k], ~bad[square])
        np.testing.assert_array_equal(cut.data[k], pixels[square])
    assert not cut.valid[0].all() and cut.valid[1].all() and cut.valid[0].any()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('value', [0, -1])
def test_an_error_map_of_nothing_above_0_is_said_to_be_unused(tmp_path, kind, value):
    error = np.full(sky(3).shape, value)
    path = with_error(tmp_path / 'a.fits', error, 'VARIANCE', kind)
    with open_image(path, 'SCI') as image:
        assert 'error' not in image.planes and 'above 0' in image.missing['error']
        assert image.dq_policy is None and not image.read_all()[1].any()
    archive = open_archive(tmp_path / 'home')
    assert archive.add_fits(path, show=False).added == 1


def test_one_row_above_0_makes_it_a_map(tmp_path):
    error = np.zeros(sky(3).shape)
    error[77] = 1
    with open_image(with_error(tmp_path / 'a.fits', error), 'SCI') as image:
        bad = image.read_all()[1]
    assert not bad[77].any() and bad[:77].all() and bad[78:].all()


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_maps_without_a_number_make_all_pixels_bad_as_before(tmp_path, value):
    path = with_error(tmp_path / 'a.fits', np.full(sky(3).shape, value))
    with open_image(path, 'SCI') as image:
        assert 'error' in image.planes and image.read_all()[1].all()


def test_a_map_in_a_file_of_its_own(tmp_path):
    fits.PrimaryHDU(sky(3), header()).writeto(tmp_path / 'a.fits')
    for name, error in (('some', some_error(-1)), ('none', np.zeros(sky(3).shape))):
        fits.PrimaryHDU(error.astype('f4')).writeto(tmp_path / f'{name}.fits')
    with open_image(tmp_path / 'a.fits', error=tmp_path / 'some.fits') as image:
        assert image.read_all()[1].sum() == 600
    with open_image(tmp_path / 'a.fits', error=tmp_path / 'none.fits') as image:
        assert not image.read_all()[1].any() and 'error' in image.missing


def test_it_is_the_same_when_it_is_opened_by_what_is_known_of_it(tmp_path):
    archive = open_archive(tmp_path / 'home')
    for name, error in (('some', some_error(0)), ('none', np.zeros(sky(3).shape))):
        path = with_error(tmp_path / f'{name}.fits', error)
        archive.add_fits(path, show=False, detect=False)
        with archive.open(path.as_uri(), 'SCI', 1) as image:
            assert image.read_all()[1].sum() == dict(some=600, none=0)[name]
            assert ('error' in image.missing) is (name == 'none')
