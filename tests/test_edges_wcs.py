"Cards of a WCS as programs write them: each is read as it is meant, or costs the image its place, in words."

import io

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from astrid_data.images.headers import read_header_facts
from astrid_data.images.wcs import pixel_to_sky, read_wcs
from astrid_data.ingest.stamps import stamp_wcs

STEP = 0.5 / 3600
PLAIN = dict(
    NAXIS=2,
    NAXIS1=96,
    NAXIS2=96,
    CTYPE1='RA---TAN',
    CTYPE2='DEC--TAN',
    CRVAL1=150.0,
    CRVAL2=2.0,
    CRPIX1=48.0,
    CRPIX2=48.0,
    CD1_1=-STEP,
    CD1_2=0.0,
    CD2_1=0.0,
    CD2_2=STEP,
    RADESYS='ICRS',
)


def header(**cards):
    "A header with some cards changed, left out (`...`), or written letter by letter (bytes)"
    made = fits.Header()
    for name, value in (PLAIN | cards).items():
        if isinstance(value, bytes):
            made.append(fits.Card.fromstring(f'{name:8}= {value.decode():>20}'.ljust(80)))
        elif value is not ...:
            made[name] = value
    return made


def place(**cards):
    "Where the pixel in the middle lies"
    wcs, reason, detail = read_wcs(header(**cards))
    assert wcs is not None, (reason, detail)
    return pixel_to_sky(wcs, np.array([47.0, 57.0]), np.array([47.0, 47.0]))


AS_MEANT = {
    'Fortran D': dict(CD1_1=b'-1.388888888888889D-4', CD2_2=b'1.388888888888889D-4'),
    'small d': dict(CD1_1=b'-1.388888888888889d-4'),
    'D at the left': dict(CRVAL1=b'1.5D+02'.ljust(20)),
    'D in all': dict(CRVAL1=b'0.15D+03', CRVAL2=b'0.2D+01', CRPIX1=b'0.48D+02', CRPIX2=b'4.8D1'),
    'in quotes': dict(CRVAL1='150.0', CRPIX1=' 48', CD1_1=f'{-STEP:.18f}'),
    'quotes and D': dict(CD1_1=f"'{-STEP:.15e}'".replace('e', 'E').encode()),
    'no LONPOLE': dict(LONPOLE=None, LATPOLE=None),
    'ICRS needs no equinox': dict(EQUINOX=0.0),
    'J2000': dict(EQUINOX='J2000'),
    'longitude 510': dict(CRVAL1=510.0),
    'PC and CDELT': dict(
        **dict.fromkeys(('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'), ...), CDELT1=-STEP, CDELT2=STEP
    ),
    'TPV': dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV', PV1_1=1.0, PV2_1=b'1.0D0'),
    'a broken second WCS': dict(CRPIX1A='none', CRVAL1A=b'NaN'),
}


@pytest.mark.parametrize('cards', AS_MEANT.values(), ids=AS_MEANT)
def test_a_number_is_read_as_it_is_meant(cards):
    np.testing.assert_allclose(place(**cards), place(), rtol=0, atol=1e-9)


def test_an_equinox_in_letters_is_an_equinox():
    old = dict(RADESYS=...)
    in_letters = place(**old, EQUINOX='B1950')
    np.testing.assert_allclose(in_letters, place(**old, EQUINOX=1950.0), atol=1e-9)
    assert abs(in_letters[0][0] - place()[0][0]) > 0.5


NO_PLACE = {
    'CRPIX1 = NaN': (dict(CRPIX1=b'NaN'), 'CRPIX1'),
    'CRPIX1 in words': (dict(CRPIX1='centre'), 'CRPIX1'),
    'CRPIX1 is true': (dict(CRPIX1=True), 'CRPIX1'),
    'CRPIX1 blank': (dict(CRPIX1=None), 'no CRPIX1'),
    'no CRPIX2': (dict(CRPIX2=...), 'no CRPIX2'),
    'no CRVAL': (dict(CRVAL1=..., CRVAL2=...), 'no CRVAL1 and no CRVAL2'),
    'CRVAL sexagesimal': (dict(CRVAL1='10:00:00', CRVAL2='+02:00:00'), 'CRVAL1'),
    'CRVAL absurd': (dict(CRVAL1=1e30), 'not a position'),
    'CD1_1 infinite': (dict(CD1_1=b'Inf'), 'CD1_1'),
    'no scale': (dict.fromkeys(('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'), ...), 'no CDELT1'),
    'CD singular': (dict(CD1_1=STEP, CD1_2=STEP, CD2_1=STEP, CD2_2=STEP), 'singular'),
    'CROTA2 in words': (dict(CROTA2='north up'), 'CROTA2'),
    'CTYPE a number': (dict(CTYPE1=5), 'CTYPE1 = 5 is no word'),
    'CUNIT a number': (dict(CUNIT1=3), 'CUNIT1 = 3 is no word'),
    'equinox 0': (dict(RADESYS='FK5', EQUINOX=0.0), 'EQUINOX 0'),
    'equinox -5': (dict(RADESYS='FK4', EQUINOX=-5.0), 'EQUINOX'),
    'TPV without terms': (dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV'), 'middle pixel'),
    'TPV half': (dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV', PV1_1=1.0), 'middle pixel'),
    'TPV not linear': (
        dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV', PV1_3=1.0, PV2_3=1.0),
        'middle pixel',
    ),
    'PV in words': (dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV', PV1_1='one', PV2_1=1.0), 'PV1_1'),
    'SIP without order': (
        dict(CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_0_2=1e-5, B_0_2=1e-5),
        'A_ORDER',
    ),
    'SIP order -1': (
        dict(CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_ORDER=-1, B_ORDER=-1),
        'A_ORDER = -1',
    ),
    'projection unknown': (dict(CTYPE1='RA---QQQ', CTYPE2='DEC--QQQ'), 'QQQ'),
    'projections mixed': (dict(CTYPE2='DEC--SIN'), 'CTYPE2'),
}


@pytest.mark.parametrize('cards, word', NO_PLACE.values(), ids=NO_PLACE)
def test_what_has_no_place_says_which_card(cards, word):
    wcs, reason, detail = read_wcs(header(**cards))
    assert wcs is None and reason in ('bad_wcs', 'unsupported_wcs')
    assert word in detail


@pytest.mark.parametrize('scale', [dict(CD1_1=b'-1.388888888888889D-4'), dict(CD1_1=str(-STEP))])
def test_the_zero_point_of_a_brightness_takes_the_same_scale(scale):
    bright = dict(BUNIT='MJy/sr')
    wanted = read_header_facts(header(**bright))['zero_point']
    assert read_header_facts(header(**bright, **scale))['zero_point'] == pytest.approx(
        wanted, abs=1e-9
    )


def test_no_scale_is_no_zero_point_of_a_brightness():
    none = dict.fromkeys(('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'), ...)
    assert read_header_facts(header(BUNIT='MJy/sr', **none))['zero_point'] is None


GALACTIC = dict(CTYPE1='GLON-TAN', CTYPE2='GLAT-TAN', CRVAL1=120.0, CRVAL2=30.0)
FRAMES = {
    'galactic': GALACTIC | dict(RADESYS=...),
    'galactic, with a RADESYS that is not about it': GALACTIC | dict(RADESYS='FK5', EQUINOX=2000.0),
    'galactic, latitude first': dict(
        CTYPE1='GLAT-TAN',
        CTYPE2='GLON-TAN',
        CRVAL1=30.0,
        CRVAL2=120.0,
        RADESYS='FK5',
    ),
    'ecliptic': dict(CTYPE1='ELON-TAN', CTYPE2='ELAT-TAN', CRVAL1=120.0, CRVAL2=30.0),
    'supergalactic': dict(CTYPE1='SLON-TAN', CTYPE2='SLAT-TAN', CRVAL1=120.0, CRVAL2=30.0),
}
ON_SPHERE = dict(galactic='galactic', ecliptic='barycentricmeanecliptic', super='supergalactic')


@pytest.mark.parametrize('name', FRAMES)
def test_the_words_of_the_axes_say_which_sphere_it_is(name):
    "astropy asks RADESYS first, and takes galactic longitude for right ascension"
    frame = next(frame for word, frame in ON_SPHERE.items() if name.startswith(word))
    right = SkyCoord(120.0, 30.0, unit='deg', frame=frame)
    ra, dec = place(**FRAMES[name])
    assert SkyCoord(ra[0], dec[0], unit='deg').separation(right).arcsec < 0.1


NO_CD = dict.fromkeys(('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'), ...)
SAME_PLACE = {
    'words in small letters': dict(CTYPE1='ra---tan', CTYPE2='dec--tan', RADESYS='icrs'),
    'another name of a frame': dict(RADESYS='ICRF'),
    'degrees': dict(CUNIT1='degrees', CUNIT2='DEG'),
    'a unit matrix of another program': dict(PC1_1=1.0, PC2_2=1.0),
    'the same matrix twice': dict(PC1_1=-1.0, PC2_2=1.0, CDELT1=STEP, CDELT2=STEP),
    'polynomials of SCAMP': dict(PV1_0=0.0, PV1_1=1.0, PV1_2=0.0, PV2_0=0.0, PV2_1=1.0, PV2_2=0.0),
    'steps in a PC matrix': NO_CD | dict(PC1_1=-STEP, PC2_2=STEP),
}


@pytest.mark.parametrize('name', SAME_PLACE)
def test_it_is_the_same_place_in_other_words(name):
    np.testing.assert_allclose(place(**SAME_PLACE[name]), place(), rtol=0, atol=1e-8)


NOWHERE = {
    'one step only': (NO_CD | dict(CDELT1=-STEP), 'no CDELT2'),
    'a turn without steps': (NO_CD | dict(PC1_1=1.0, PC2_2=1.0), 'no CDELT1 and no CDELT2'),
    'two matrices': (dict(PC1_1=1.0, PC2_2=1.0, CDELT1=-2 * STEP, CDELT2=STEP), 'CD and PC'),
    'a third axis': (dict(CD1_3=0.1, CRPIX3=3.0, CTYPE3='WAVE'), 'CD1_3'),
    'longitude on the Sun': (dict(CTYPE1='HPLN-TAN', CTYPE2='HPLT-TAN'), 'no longitude of the sky'),
    'longitude on the Earth': (dict(CTYPE1='TLON-TAN', CTYPE2='TLAT-TAN', RADESYS=...), 'TLON'),
}


@pytest.mark.parametrize('name', NOWHERE)
def test_what_leaves_the_place_open_says_so(name):
    cards, word = NOWHERE[name]
    wcs, reason, detail = read_wcs(header(**cards))
    assert (wcs, reason) == (None, 'bad_wcs') and word in detail


@pytest.mark.parametrize('card', ['CRPIX1', 'CRPIX2', 'CRVAL2', 'CDELT2'])
def test_a_stamp_needs_the_cards_that_an_image_needs(card):
    cards = NO_CD | dict(CDELT1=-STEP, CDELT2=STEP)
    hdu = fits.PrimaryHDU(np.zeros((96, 96), 'f4'), header(**cards))
    whole, without = io.BytesIO(), io.BytesIO()
    hdu.writeto(whole)
    del hdu.header[card]
    hdu.writeto(without)
    assert stamp_wcs(whole.getvalue()) is not None
    assert stamp_wcs(without.getvalue()) is None
