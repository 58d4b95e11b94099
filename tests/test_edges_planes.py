"""Pixels that are no measurement: by an error map (0 or less, out of scale), by a weight, outside the data section."""

import json

import numpy as np
import pytest
from astropy.io import fits
from awkward import header, sky

from astrid_data.images.header_cache import image_index, open_indexed
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


@pytest.mark.parametrize('kind', ['f4', 'tiled'])
@pytest.mark.parametrize('name, mark', [('RMS', 1e10), ('SIGMA', 1e20), ('VARIANCE', 1e30)])
@pytest.mark.parametrize('compiled', [True, False])
def test_a_large_error_is_no_data(tmp_path, name, mark, kind, compiled):
    path = with_error(tmp_path / 'a.fits', some_error(mark), name, kind)
    with open_image(path, 'SCI') as image:
        assert 'no data' in image.notes['error']
        _, bad = image.read_all()
        cut = cut_patches(
            image, np.array([28.0, 60.0]), np.array([19.0, 60.0]), 9, compiled=compiled
        )
    assert bad[:20, :30].all() and bad.sum() == 600
    assert not cut.valid[0].all() and cut.valid[0].any() and cut.valid[1].all()


def test_a_mark_in_most_pixels_is_no_data_too(tmp_path):
    error = np.full(sky(3).shape, 1e10)
    error[:20, :30] = np.linspace(2, 3, 600).reshape(20, 30)
    with open_image(with_error(tmp_path / 'a.fits', error, 'RMS'), 'SCI') as image:
        assert not image.read_all()[1][:20, :30].any() and image.read_all()[1][20:].all()


def test_a_mark_in_nearly_all_pixels_is_asked(tmp_path):
    error = np.full(sky(3).shape, 1e10)
    error[0, :3] = 2
    with open_image(with_error(tmp_path / 'a.fits', error, 'RMS'), 'SCI') as image:
        assert 'no data?' in image.missing['error']


@pytest.mark.parametrize('mark, n_bad', [(1e-30, 600), (1e-7, 0)])
def test_a_tiny_weight_is_no_data(tmp_path, mark, n_bad):
    with open_image(with_error(tmp_path / 'a.fits', some_error(mark), 'WHT'), 'SCI') as image:
        assert image.read_all()[1].sum() == n_bad
        assert ('have no data' in image.notes.get('weight', '')) == bool(n_bad)


def test_errors_of_any_scale_are_kept(tmp_path):
    error = np.geomspace(1e-3, 1e5, sky(3).size).reshape(sky(3).shape)
    with open_image(with_error(tmp_path / 'a.fits', error, 'RMS'), 'SCI') as image:
        assert not image.read_all()[1].any()
        assert 'have no data' not in image.notes.get('error', '')


def test_a_mark_in_rows_that_were_not_looked_at_is_said(tmp_path):
    error = np.random.default_rng(0).uniform(2, 4, (1000, 1000))
    error[[3, 700]] = 1e10
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((1000, 1000), 'f4'), name='SCI')]
    hdus.append(fits.ImageHDU(error.astype('f4'), name='RMS'))
    fits.HDUList(hdus).writeto(tmp_path / 'a.fits')
    with open_image(tmp_path / 'a.fits', 'SCI') as image:
        assert image.read_all()[1].sum() == 2000
        assert 'error 3e+09 or more would count as no data' in image.notes['error']


def with_cards(path, tiled=False, **cards):
    "A frame that is only an image of the sky"
    image = fits.CompImageHDU if tiled else fits.ImageHDU
    words = dict(compression_type='GZIP_1', quantize_level=0) if tiled else {}
    hdus = [fits.PrimaryHDU(), image(sky(3), header(**cards), **words)]
    fits.HDUList(hdus).writeto(path)
    return path


ny, nx = sky(3).shape
IN_FRAME = [f'[11:{nx},1:{ny}]', f'[{nx}:11,{ny}:1]', f'[ 11 : {nx} , * ]', f'11:{nx},1:{ny}']


@pytest.mark.parametrize('tiled', [False, True])
@pytest.mark.parametrize('card', ['DATASEC', 'TRIMSEC'])
@pytest.mark.parametrize('text', IN_FRAME)
def test_pixels_outside_the_data_section_are_no_data(tmp_path, card, text, tiled):
    with open_image(with_cards(tmp_path / 'a.fits', tiled, **{card: text})) as image:
        pixels, bad = image.read_all()
        part = image.read(3, 9, 5, 25)[1]
        cut = cut_patches(image, np.array([12.0, 60.0]), np.array([30.0, 60.0]), 9)
        whole = np.isnan(image.pixels)
    assert bad[:, :10].all() and not bad[:, 10:].any() and (np.isnan(pixels) == bad).all()
    assert (part == bad[3:9, 5:25]).all() and (whole == bad).all()
    assert not cut.valid[0, :, :2].any() and cut.valid[0, :, 2:].all() and cut.valid[1].all()


def test_the_section_is_kept_in_an_archive(tmp_path):
    path = with_cards(tmp_path / 'a.fits', DATASEC=IN_FRAME[0])
    archive = open_archive(tmp_path / 'archive')
    assert archive.add_fits(path, survey='s', show=False, detect=False).added == 1
    with open_image(path) as image:
        entry = json.loads(json.dumps(image_index(image)))
    with open_indexed(path, entry) as again:
        assert again.read_all()[1].sum() == 10 * ny


TRIMMED = [f'[51:{nx + 50},1:{ny}]', f'[33:{nx + 100},1:{ny + 9}]', f'[1:{nx},1:{ny}]', '[0:0,0:0]']


@pytest.mark.parametrize('text', [*TRIMMED, 'UNKNOWN', ''])
def test_the_section_of_a_frame_before_it_was_trimmed_says_nothing(tmp_path, text):
    cards = dict(DATASEC=text)
    with open_image(with_cards(tmp_path / 'a.fits', **cards)) as image:
        assert not image.read_all()[1].any() and 'data_section' not in image.missing
        assert ('data_section' in image.notes) == (text == TRIMMED[1])


@pytest.mark.parametrize(
    'card, text', [('DATASEC', '[1:9'), ('DATASEC', '[1:20,1:20]'), ('BIASSEC', f'[1:9,1:{ny}]')]
)
def test_a_section_that_cannot_be_used_is_said(tmp_path, card, text):
    with open_image(with_cards(tmp_path / 'a.fits', **{card: text})) as image:
        assert not image.read_all()[1].any() and card in image.missing['data_section']


def test_a_garbled_section_is_missing_beside_one_of_another_frame(tmp_path):
    cards = dict(DATASEC='[1:9', TRIMSEC=TRIMMED[1])
    with open_image(with_cards(tmp_path / 'a.fits', **cards)) as image:
        assert 'DATASEC' in image.missing['data_section']
        assert 'TRIMSEC' in image.notes['data_section']
        assert 'TRIMSEC' not in image.missing['data_section']
