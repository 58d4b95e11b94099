"What pixels say for themselves: fill, rims, masks without a name, and the top of the scale"

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from oracle import Oracle

from astrid_data.images.contents import content_of, fill_values
from astrid_data.images.flags import saturation_of
from astrid_data.images.hdus import list_images
from astrid_data.images.image import content_of_image, open_image
from astrid_data.ingest.archive import open_archive
from astrid_data.quality.background import local_background
from astrid_data.quality.flags import decode_flags, image_flags

SHARED = Path(__file__).parents[2] / 'shared' / 'data'
SHARED = SHARED if SHARED.exists() else Path(__file__).parents[3] / 'shared' / 'data'
WCS_CARDS = dict(
    CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=150.1, CRVAL2=2.2, CRPIX1=64.0, CRPIX2=64.0
) | dict(CD1_1=-1e-5, CD1_2=0.0, CD2_1=0.0, CD2_2=1e-5)


def sky(side=128, seed=0, level=100.0):
    return np.random.default_rng(seed).normal(level, 3, (side, side)).astype('f4')


def file_of(pixels, **cards):
    out = io.BytesIO()
    fits.PrimaryHDU(pixels, fits.Header({**WCS_CARDS, **cards})).writeto(out)
    return out.getvalue()


def shapes(side):
    "Where a mosaic may be empty, by name"
    y, x = np.mgrid[:side, :side]
    tilted = x * np.cos(0.4) + y * np.sin(0.4)
    return dict(
        left=x < 12,
        thin=x < 3,
        top=y >= side - 2,
        four=(x < 9) | (x > side - 12) | (y < 10) | (y > side - 9),
        corner=x + y < 40,
        turned=(tilted < 20) | (tilted > 130) | (y - x > 90),
        gap=abs(x - side // 2) < 6,
        slanted_gap=abs(tilted - 70) < 8,
    )


@pytest.mark.parametrize('value', [0, -99, -999, -9999, -32768, 65535, 1e20, -1e30, 1e-30, 97.25])
@pytest.mark.parametrize('shape', shapes(8))
def test_rims_and_gaps_of_any_value_are_invalid_and_nothing_else(shape, value):
    pixels = sky()
    empty = shapes(128)[shape]
    pixels[empty] = value
    source = file_of(pixels)
    with open_image(source) as image:
        read, bad = image.read_all()
        np.testing.assert_array_equal(bad, empty)
        np.testing.assert_array_equal(image.bad, empty)
        np.testing.assert_array_equal(read, Oracle(source, fills=[np.float32(value)]).pixels)


@pytest.mark.parametrize('value', [-999, -9999, -32768, -1e30, 1e30])
def test_single_fills_in_the_middle_are_invalid(value):
    pixels = sky()
    holes = np.zeros(pixels.shape, bool)
    holes[tuple(np.random.default_rng(1).integers(0, 128, (2, 60)))] = True
    pixels[holes] = value
    with open_image(file_of(pixels)) as image:
        np.testing.assert_array_equal(image.read_all()[1], holes)


def test_what_is_measured_stays():
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:128, :128]
    star = np.minimum(sky() + 9000 * np.exp(-((x - 0.0) ** 2 + (y - 64) ** 2) / 300), 4000)
    for name, pixels in dict(
        photons=rng.poisson(0.02, (128, 128)),
        counts=rng.poisson(3, (128, 128)),
        star_at_border=star,
        integers=np.round(sky()),
        enlarged=sky(16).repeat(8, 0).repeat(8, 1),
        rim_of_a_number_of_the_sky=np.where(x < 5, 100, np.round(sky())),
    ).items():
        assert fill_values(pixels.astype('f4')) == [], name


def test_a_declared_fill_is_one_and_a_count_of_it_is_not():
    pixels = sky()
    pixels[5, 7] = -100
    with open_image(file_of(pixels, FILLVAL=-100.0)) as image:
        assert image.read_all()[1].sum() == 1
    pixels[5, 7] = 103
    with open_image(file_of(np.round(pixels), FILLCNT=103)) as image:
        assert not image.read_all()[1].any()


CARDS = [
    (dict(SATURATE=60000), None, 60000),
    (dict(SATLEVEL=60000.0), None, 60000),
    (dict(SATURAT='60000'), None, 60000),
    (dict(SATURATE='60000 ADU'), None, 60000),
    (dict(SATURATE='6.0D4'), None, 60000),
    (dict(SATURATE='60000 ADU', GAIN=2.0), 'electron', 120000),
    (dict(SATURATE='60000 e-', GAIN=2.0), 'electron', 60000),
    (dict(SATURATE='51000,52000'), None, None),
    (dict(SATURATE='NaN'), None, None),
    (dict(SATURATE=True), None, None),
    (dict(SATURATA=-1, SATURATB='52000'), None, 52000),
    (dict(SATURATA=51000, SATURATB=52000, SATURATE=52000), None, 51000),
    ({'HIERARCH CELL.SATURATION': 6e4}, None, 6e4),
    ({'HIERARCH ESO DET SATUR LEVEL': 6e4}, None, 6e4),
    (dict(SATURATE=60000, ESATUR=59000), None, 59000),
    (dict(SATURATE=60000, MAXLIN=55000, NSATPIX=7), None, 60000),
    (dict(MAXLINA=55000, MAXLINB=56000), None, 55000),
    (dict(DATAMAX=12345.0), None, None),
    (dict(DATAMAX=(12345.0, 'maximum good data value')), None, 12345),
    (dict(SATURATE=0), None, None),
    (dict(SATURATE=-1), None, None),
    (dict(SATURATE=60000, EXPTIME=100.0), 'electron/s', 600),
    (dict(SATURATE=(60000, '[ADU]'), EXPTIME=100.0, GAIN=2.0), 'electron/s', 1200),
    (dict(SATURATE=(600, '[electron/s]'), EXPTIME=100.0), 'electron/s', 600),
    (dict(SATURATE=(60000, '[ADU]'), GAIN=2.0), 'electron', 120000),
    (dict(SATURATE=(60000, '[electron]'), GAIN=2.0), 'electron', 60000),
    (dict(SATURATE=(60000, '(ADU)')), 'MJy/sr', None),
    (dict(SATURATE=60000), 'electron/s', None),
]


@pytest.mark.parametrize('cards,unit,level', CARDS)
def test_the_saturation_level_in_any_spelling_and_unit(cards, unit, level):
    header = fits.Header()
    for name, card in cards.items():
        header[name] = card
    found = saturation_of(header, unit=unit, exposure_s=cards.get('EXPTIME'))
    assert found.level == (None if level is None else pytest.approx(level)) and found.words


@pytest.mark.parametrize('value', ['N/A', 'nan', '51000,52000', -1, -60000.0])
def test_a_card_that_gives_no_level_is_said(value):
    with open_image(file_of(sky(), SATURATE=value)) as image:
        assert image.saturation is None and 'SATURATE = ' in image.missing['saturation']
    with open_image(file_of(sky(), SATURATE=0, NSATPIX=7)) as image:
        assert 'saturation' not in image.missing


def test_the_level_is_asked_of_the_image_first_and_of_its_file_then():
    def level(first, own):
        out = io.BytesIO()
        own = fits.ImageHDU(sky(), fits.Header({**WCS_CARDS, **own}), name='SCI')
        fits.HDUList([fits.PrimaryHDU(header=fits.Header(first)), own]).writeto(out)
        with open_image(out.getvalue()) as image:
            return image.saturation

    assert level(dict(SATURATE=60000), {}) == 60000
    assert level(dict(SATURATE=60000), dict(SATURATE=50000)) == 50000
    assert level(dict(SATURATE=60000), dict(SATURATE=-1)) == 60000


@pytest.mark.parametrize('spelled', [b'saturate', b'Saturate'])
def test_a_card_in_small_letters_counts(spelled):
    with open_image(file_of(sky(), SATURATE=60000).replace(b'SATURATE', spelled)) as image:
        assert image.saturation == 60000


def test_the_level_is_one_of_the_pixels_as_they_are_read():
    scaled = fits.PrimaryHDU(sky().astype('f8'), fits.Header(WCS_CARDS | dict(SATURATE=60000)))
    scaled.scale('int16', bscale=2.0, bzero=30000)
    out = io.BytesIO()
    scaled.writeto(out)
    whole = file_of(sky().astype('u2'), SATURATE=65535)
    for source, level in ((out.getvalue(), 60000), (whole, 65535)):
        with open_image(source) as image:
            assert image.saturation == level and abs(np.median(image.read_all()[0]) - 100) < 2


def test_a_level_that_most_pixels_exceed_is_of_another_unit():
    with open_image(file_of(sky(), SATURATE=60)) as image:
        assert image.saturation is None and 'saturated' in image.missing['saturation']


def test_the_level_of_the_header_reaches_the_flags_of_a_build(tmp_path):
    pixels = sky()
    y, x = np.mgrid[:128, :128]
    pixels += 5000 * np.exp(-((x - 64) ** 2 + (y - 64) ** 2) / 12)
    flat = np.random.default_rng(3).normal(1, 0.01, pixels.shape)
    pixels = (np.minimum(pixels, 3000) * flat).astype('f4')  # A plateau that does not tie
    rows = {}
    for name, cards in dict(known=dict(SATURATE=2950), unknown={}).items():
        with open_image(file_of(pixels, **cards)) as image:
            level = image.facts['saturation']
        patch = pixels[None, None, 32:96, 32:96]
        levels = local_background(patch)
        top = [[np.nan if level is None else level]]
        rows[name] = decode_flags(image_flags(patch, np.isfinite(patch), *levels, top)[0])
    assert 'saturated' in rows['known'] and 'saturated' not in rows['unknown']


@pytest.mark.parametrize('value', [0, -999, 250, 97.25])
@pytest.mark.parametrize('shape', shapes(8))
def test_the_sky_level_does_not_see_a_rim(shape, value):
    patches = np.stack([sky(64, seed) for seed in range(8)])[:, None]
    empty = shapes(64)[shape]
    patches[:, :, empty] = value
    level, noise = local_background(patches)
    assert abs(np.median(level) - 100) < 0.5 and abs(np.median(noise) - 3) < 0.4


def stamps(side=63):
    y, x = np.mgrid[:side, :side] - side // 2
    source = 100 * np.exp(-(x**2 + y**2) / 6)
    triplets = [np.stack([sky(side, 3 * k + c) + source for c in range(3)]) for k in range(8)]
    return np.stack(triplets).astype('f4')


def flags_of(patches):
    words = image_flags(patches, np.isfinite(patches), *local_background(patches))
    return [decode_flags(word) for word in words]


@pytest.mark.parametrize('value', [0, -999, -32768, 1e30, -1e30])
@pytest.mark.parametrize('channels', [slice(None), [1], [2]])
@pytest.mark.parametrize('width', [1, 2, 5, 20])
def test_rims_of_stamps_are_flagged_in_any_channel(value, channels, width):
    x = np.arange(63)
    left, all_sides = x < width, (x < width) | (x >= 63 - width)
    for empty in (left[None] & (x[:, None] >= 0), all_sides[None] | all_sides[:, None]):
        patches = stamps()
        patches[:, channels] = np.where(empty, value, patches[:, channels])
        assert all('filled' in names for names in flags_of(patches))


@pytest.mark.parametrize('value', [-999, -32768, 1e30, -1e30])
@pytest.mark.parametrize('side', [1, 3, 9])
def test_a_block_of_a_fill_in_a_stamp_is_flagged(value, side):
    patches = stamps()
    patches[:, 1, 4 : 4 + side, 6 : 6 + side] = value
    assert all('filled' in names for names in flags_of(patches))


def test_bright_stamps_and_clean_ones_are_not_filled():
    patches = stamps()
    patches[1:, 1, 4, 6] = 65535
    patches[2:, :, 30:33, 30:33] = 60000
    patches[4:, 2, 30, 30] = -150  # A residue of a subtraction
    assert not any('filled' in names for names in flags_of(patches))


def no_sky(side=128):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:side, :side]
    dead, blobs, bits, labels = (np.zeros((side, side)) for _ in range(4))
    dead[tuple(rng.integers(0, side, (2, 12)))] = rng.uniform(50, 5000, 12)
    blobs[30:50, 60:90], bits[:, 40:44], bits[10, 20:50] = 1, 4, 256
    for k in range(40):
        labels[tuple(slice(a, a + 9) for a in rng.integers(0, side, 2))] = k + 1
    return dict(
        zero_one=blobs,
        inverted=1 - blobs,
        checkerboard=(x + y) % 2,
        columns=bits,
        labels=labels,
        salt=rng.random((side, side)) < 0.1,
        sparse_255=255 * (rng.random((side, side)) < 0.003),
        sparse_bit=4096 * (rng.random((side, side)) < 0.02),
        constant=np.full((side, side), 7),
        hot=dead,
        hot_on_bias=dead + 300,
        nan=np.full((side, side), np.nan),
    )


@pytest.mark.parametrize('name', no_sky())
def test_what_is_no_sky_is_asked_about_and_can_be_told(name, tmp_path):
    path = tmp_path / f'picture_{name}.fits'
    path.write_bytes(file_of(no_sky()[name].astype('f4')))
    archive = open_archive(tmp_path / 'archive')
    report = archive.add_fits([path], show=False, detect=False)
    row = report.ledger.iloc[0]
    assert report.added == 0 and row.reason in ('helper_file', 'no_sky', 'all_bad')
    assert "role='image'" in str(row.to_dict())
    assert archive.add_fits([path], show=False, detect=False, role='image').added == 1


def test_few_photons_and_few_levels_are_images():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:256, :256]
    source = 3 * np.exp(-((x - 128) ** 2 + (y - 100) ** 2) / 50)
    field = (x - 128) ** 2 + (y - 128) ** 2 < 100**2
    for name, pixels in dict(
        sparse=rng.poisson(0.003, x.shape),
        photons=rng.poisson(0.05, x.shape),
        with_source=rng.poisson(0.01 + source),
        round_field=rng.poisson(0.4 * field),
        rates=rng.poisson(0.02, x.shape) / 137.0,
        dim=rng.poisson(0.0005, x.shape),  # Nothing or one photon, like a sparse mask of 0 and 1
        coarse=np.round(rng.normal(10, 0.4, x.shape)),
        ramp=np.round(x / 20 + rng.normal(0, 0.2, x.shape)),
    ).items():
        assert content_of(pixels.astype('f4'))[0] == 'image', name


def shared_images():
    if not (SHARED / 'manifest.csv').exists():
        return
    with open(SHARED / 'manifest.csv', newline='') as table:
        for row in csv.DictReader(table):
            if row['role'] in ('image', 'stack', 'difference') and '.fit' in row['file']:
                yield row['file']


def test_real_images_are_images_and_keep_their_pixels():
    files = list(shared_images())
    if not files:
        pytest.skip('no shared data here')
    for file in files:
        for info in list_images(SHARED / file):
            if info.role != 'image' or len(info.shape) > 2:
                continue
            with open_image(SHARED / file, hdu=info.index, dq_policy='none') as image:
                assert content_of_image(image)[0] == 'image', file
                fills = image.facts['fill_values']
                assert not fills or file.endswith('n5419_wfpc2_pc_f555w.fits'), (file, fills)


@pytest.mark.parametrize('value', [16, 255, 4096, 32767, 65535, 2**31 - 1, 2**32 - 1])
def test_a_few_pixels_of_a_flag_are_a_mask_however_few(value):
    for share in (1e-4, 0.003, 0.04):
        plane = np.where(np.random.default_rng(1).random((200, 200)) < share, value, 0)
        assert content_of(plane.astype('f4'))[0] == 'mask'
        if share < 0.01:  # It could be photons
            assert content_of((plane > 0).astype('f4'))[0] == 'image'


@pytest.mark.parametrize('slope', [1 / 20, 1 / 40, 1 / 80])
@pytest.mark.parametrize('noise', [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize('step', [1, 4])
def test_whole_numbers_of_a_quiet_sky_with_a_gradient_are_no_fill(slope, noise, step):
    y, x = np.indices((256, 256))
    level = 20 + x * slope + y / 120 + np.random.default_rng(5).normal(0, noise, x.shape)
    with open_image(file_of((np.round(level) * step).astype('i2'))) as image:
        assert not image.fill_values and not np.isnan(image.read_all()[0]).any()


@pytest.mark.parametrize('mean', [0.002, 0.01, 0.03])
def test_photons_over_an_uneven_exposure_are_an_image(mean):
    y, x = np.indices((256, 256))
    exposure = 1000 * (1 - ((x - 128) ** 2 + (y - 128) ** 2) / 60000)
    rate = np.random.default_rng(5).poisson(mean, x.shape) / exposure
    assert content_of(rate.astype('f4'))[0] == 'image'


def test_the_two_numbers_of_a_mask_are_both_kept():
    mask = np.zeros((200, 150), 'i4')
    mask[:20] = 1
    with open_image(file_of(mask)) as image:
        assert not image.fill_values
