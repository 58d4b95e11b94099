"""Neighbours of the situations at the edges: what comes in keeps its meaning, in other spellings too."""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from test_boundaries_confirm import RULE, Shot, confirmed, outcome, tables

from astrid_data.images.hdus import list_images
from astrid_data.images.headers import read_header_facts
from astrid_data.images.image import open_image
from astrid_data.images.noise_ranks import noise_likeness, noise_ranks
from astrid_data.images.sources import detect_sources
from astrid_data.ingest.archive import open_archive
from astrid_data.quality.background import excess, local_background
from astrid_data.quality.flags import fill_pixels
from astrid_data.sky import sky_separation_arcsec

pytestmark = pytest.mark.filterwarnings('ignore')


# Copies of an exposure that were changed


def cut(pixels, header):
    "Cut, and referred to another pixel of the sky, as by a tool that fits the WCS anew"
    header['CRPIX1'] -= 9
    header['CRPIX2'] -= 5
    ra, dec = WCS(header).pixel_to_world_values(70, 80)
    header.update(CRVAL1=float(ra), CRVAL2=float(dec), CRPIX1=71.0, CRPIX2=81.0)
    return pixels[5:-7, 9:-4], header


def rescaled(pixels, header):
    header['BUNIT'] = 'Jy'
    return pixels * np.float32(3.1e-7), header


def both(pixels, header):
    pixels, header = cut(pixels, header)
    return pixels * np.float32(0.02) + np.float32(55), header


def whole_numbers(pixels, header):
    pixels, header = cut(pixels, header)
    return np.round(pixels / 3).astype('>i2'), header


def double(pixels, header):
    pixels, header = cut(pixels, header)
    return (pixels.astype('f8') - 100) / 0.37, header


def stretched(pixels, header):
    pixels, header = cut(pixels, header)
    return np.arcsinh((pixels - 100) / 9), header


def turned(pixels, header):
    pixels, header = both(pixels, header)
    header['CRPIX1'] = pixels.shape[1] + 1 - header['CRPIX1']
    header['CD1_1'] *= -1
    header['CD2_1'] *= -1
    return np.ascontiguousarray(pixels[:, ::-1]), header


def compressed(level):
    def change(pixels, header):
        pixels, header = cut(pixels, header)
        return pixels, header, dict(compression_type='RICE_1', quantize_level=level)

    return change


CHANGES = {
    'cut': cut,
    'rescaled': rescaled,
    'both and another sky': both,
    'whole numbers': whole_numbers,
    'double': double,
    'stretched': stretched,
    'mirrored': turned,
    'RICE 16': compressed(16),
    'RICE 4': compressed(4),
    'RICE 1': compressed(1),
}


def copy_of(shot, change, folder):
    "A file of the exposure of a shot, changed, with cards of another exposure"
    pixels, header, *storage = change(shot.image(), shot.header())
    header.update(
        {'DATE-OBS': '2024-06-09T02:00:00', 'EXPNUM': '777777', 'FILTER': 'r', 'INSTRUME': 'OTHER'}
    )
    header['TELESCOP'] = 'T2'
    path = folder / 'copy.fits'
    if storage:
        fits.CompImageHDU(pixels, header, **storage[0]).writeto(path)
    else:
        fits.PrimaryHDU(pixels, header).writeto(path)
    return path


def write(folder, shot):
    path = folder / f'{shot.name}.fits'
    fits.PrimaryHDU(shot.image(), shot.header()).writeto(path)
    return path


@pytest.mark.parametrize('how', CHANGES)
def test_a_changed_copy_with_another_time_confirms_nothing(tmp_path, how):
    archive = open_archive(tmp_path / 'home')
    shot = Shot(name='a', height=200.0)
    files = write(tmp_path, shot), copy_of(shot, CHANGES[how], tmp_path)
    report = archive.add_fits(files, show=False)
    assert outcome(archive, shot) == (0, 0)
    assert dict(report.doubts) == {'the same noise around their sources': 1}


def test_another_exposure_with_the_same_cards_confirms(tmp_path):
    archive = open_archive(tmp_path / 'home')
    shot = Shot(name='a', height=200.0)
    other = Shot(name='b', height=200.0, seed=2, shift=(7.3, 4.1))
    files = write(tmp_path, shot), copy_of(other, both, tmp_path)
    report = archive.add_fits(files, show=False)
    assert outcome(archive, shot)[0] == 7 and not report.doubts
    assert report.verdicts[RULE]


def test_copies_in_any_order_and_number_of_calls_come_to_the_same(tmp_path):
    shot = Shot(name='a', height=200.0)
    other = Shot(name='b', height=200.0, band='i', hours=5.0, seed=2, shift=(7.3, 4.1))
    files = write(tmp_path, shot), copy_of(shot, both, tmp_path), write(tmp_path, other)
    ends = []
    for n, order in enumerate(itertools.permutations(files)):
        archive = open_archive(tmp_path / f'home{n}')
        for call in [order] if n % 2 else [[path] for path in order]:
            archive.add_fits(call, show=False)
        ends.append(tables(archive))
    assert len(confirmed(archive)) >= 20  # The third image confirms the stars of both
    assert ends[0][0] and all(end == ends[0] for end in ends)


REAL = (
    'hst/xdf_hudf_wfc3ir_f105w_sci.fits hst/xdf_hudf_wfc3ir_f160w_sci.fits '
    'hst/aegis_12016058_acs_f606w.fits hst/aegis_12016058_acs_f814w.fits '
    'ground/snhost_ps1_g.fits ground/snhost_ps1_r.fits ground/snhost_ps1_i.fits '
    'ground/snhost_ps1_z.fits ground/snhost_des_g.fits.gz ground/snhost_des_r.fits.gz '
    'ground/decam_transient/DEC-OBS04a.fits.gz ground/decam_transient/DEC-OBS18b.fits.gz '
    'skyview/sdss_g_reprojected.fits.bz2 skyview/sdss_r_reprojected.fits.bz2 '
    'jwst/a2744_nircam_f200w_epoch1_jw01324.fits jwst/a2744_nircam_f200w_epoch2_jw02561.fits'
).split()


def noise_of(path):
    "Positions of the sources of an image, and the ranks around each"
    first = list_images(path)[0]
    with open_image(path, first.name, first.ver) as image:
        sources = detect_sources(image)
        pixels, bad = image.read_all()
    ranks = noise_ranks(np.where(bad, np.nan, pixels), sources.row, sources.col)
    return sources.ra.to_numpy(), sources.dec.to_numpy(), ranks


def test_real_exposures_of_one_field_have_noises_of_their_own(shared_data):
    found = [noise_of(shared_data / name) for name in REAL]
    compared = 0
    for (ra, dec, own), (its_ra, its_dec, its) in itertools.combinations(found, 2):
        pairs = []
        for one, (x, y) in enumerate(zip(ra, dec)):
            apart = sky_separation_arcsec(x, y, its_ra, its_dec)
            if apart.min() < 0.3:
                pairs.append((own[one], its[int(apart.argmin())]))
        likeness = noise_likeness(*zip(*pairs)) if pairs else None
        compared += likeness is not None
        assert likeness is None or likeness < 0.5
    assert compared >= 15


# One pixel that was not measured


def filled_alone(pixels):
    "How many single pixels of some patches (n, s, s) are flagged as fill"
    data = np.asarray(pixels, 'f4')[:, None]
    good = np.isfinite(data)
    sky, noise = local_background(data, good)
    filled = fill_pixels(data, good, excess(data, good, sky, noise))
    return 0 if filled is None else int((filled.sum((1, 2, 3)) == 1).sum())


@pytest.mark.parametrize('value', [-999.0, -32768.0, -1e20, -9999.0])
def test_one_pixel_of_fill_is_flagged(value):
    patches = np.random.default_rng(1).normal(100, 3, (6, 40, 40))
    assert filled_alone(patches) == 0
    patches[2, 7, 9] = value
    patches[4, 30, 2] = value
    assert filled_alone(patches) == 2


def test_deep_residuals_are_measured():
    "A star that was taken away too much, and a cosmic ray of the template over several pixels"
    y, x = np.indices((40, 40))
    patches = np.random.default_rng(1).normal(0, 3, (3, 40, 40))
    patches[0] -= 4000 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / 2 / 0.9**2)
    patches[1, 10, 12:15] -= [900, 4000, 700]
    patches[2, 10, 12] -= 150  # 50 sigma: real detectors do that
    assert filled_alone(patches) == 0


def test_no_real_pixel_is_taken_for_fill(shared_data):
    for name in [
        *REAL,
        'ground/spitzer_irac_m51_sn2005cs_sip.fits',
        'ground/cfht_megacam_g_101.fits',
    ]:
        first = list_images(shared_data / name)[0]
        with open_image(shared_data / name, first.name, first.ver) as image:
            pixels, bad = image.read_all()
        pixels = np.where(bad, np.nan, pixels)
        ny, nx = pixels.shape
        corners = itertools.product(range(0, ny - 40, 41), range(0, nx - 40, 41))
        patches = [pixels[y : y + 41, x : x + 41] for y, x in corners]
        assert filled_alone([patch for patch in patches if np.isfinite(patch).mean() > 0.5]) == 0


# Planes by names that nobody listed


PLANES = {  # EXTNAME: value where bad, elsewhere, type, and whether its zeros or ones are known as bad
    'BADPIX': (1, 0, 'u1', True),
    'BAD_PIXELS': (1, 0, 'i2', True),
    'CONFIDENCE': (0, 100, 'f4', True),
    'WEIGHT_IMAGE': (0, 3, 'f4', True),
    'NOISE': (np.inf, 3, 'f4', True),
    'GOODPIX': (0, 1, 'u1', False),
    'PIXMASK': (1, 0, 'u1', False),
    'CRMASK': (1, 0, 'u1', False),
    'OBJMASK': (7, 0, 'i4', False),
    'FLAG': (2, 0, 'i2', False),
}


@pytest.mark.parametrize('named', ['SCI', ''])
@pytest.mark.parametrize('name', PLANES)
def test_a_plane_of_another_name_is_used_or_said_to_be_unused(tmp_path, name, named):
    bad, good, kind, is_known = PLANES[name]
    plane = np.full((260, 260), good, kind)
    plane[30:40, 60:70] = bad
    shot = Shot()
    path = tmp_path / 'x.fits'
    science = fits.ImageHDU(shot.image(), shot.header(), name=named or None)
    fits.HDUList([fits.PrimaryHDU(), science, fits.ImageHDU(plane, name=name)]).writeto(path)
    archive = open_archive(tmp_path / 'home')
    archive.add_fits(path, show=False, detect=False)
    assert len(archive.observations()) == 1
    with open_image(path) as image:
        _, invalid = image.read_all()
        missing = image.missing.get('dq', '')
    assert int(invalid.sum()) == int(invalid[30:40, 60:70].sum()) == (100 if is_known else 0)
    assert (name in missing) != is_known


def test_the_names_of_chips_are_no_planes(tmp_path):
    shot = Shot()
    names = 'N4', 'ccd10', 'FLAT', 'IMAGE2', 'im1'
    for name in names:
        path = tmp_path / f'{name}.fits'
        science = fits.ImageHDU(shot.image(), shot.header(), name=name)
        fits.HDUList([fits.PrimaryHDU(), science]).writeto(path)
    archive = open_archive(tmp_path / 'home')
    assert archive.add_fits(tmp_path, show=False, detect=False).added == len(names)


# Bands from wheels


@pytest.mark.parametrize(
    'cards, band',
    [
        (dict(FILTER1='CLEAR1L', FILTER2='V'), 'V'),
        (dict(FILTER1='r', FILTER2='Open'), 'r'),
        (dict(FILTER='EMPTY', FILTER2='Ha6563'), 'Ha6563'),
        (dict(FILTER1='none', FILTER3='SDSS i'), 'i'),
        (dict(FILTER='OPEN'), None),
        (dict(FILTER='HSC-I2'), 'i2'),
        (dict(FILTER='HSC-Y'), 'y'),
    ],
)
def test_a_wheel_without_a_filter_names_no_band_where_another_has_one(cards, band):
    assert read_header_facts(fits.Header(cards))['band'] == band
