"What headers of many observatories say of band, survey, unit, exposure and zero point"

import pytest
from astropy.io import fits

from astrid_data.images.headers import read_header_facts
from astrid_data.images.units import kind_of_unit, parse_unit, zero_point_of_unit


def facts_of(**cards):
    "The facts of a header with these cards and a pixel of 0.5 arcsec; '__' stands for a blank"
    step = 0.5 / 3600
    header = fits.Header(dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CDELT1=-step, CDELT2=step))
    for name, value in cards.items():
        name = name.replace('__', ' ')
        header[f'HIERARCH {name}' if len(name) > 8 else name] = value
    return read_header_facts(header)


BANDS = {
    'OCAM_r_SDSS': 'r',
    'Harris V': 'V',
    'Euclid VIS': 'VIS',
    'WISE W1': 'W1',
    'MegaCam r': 'r',
    'Pan-STARRS1 r': 'r',
    'SDSSg': 'g',
    'gSDSS': 'g',
    "SDSS g'": 'g',
    "z'": 'z',
    'G.MP9401': 'g',
    'r_57': 'r',
    'K_s': 'Ks',
    'KS': 'Ks',
    'OPEN r': 'r',
    'bessell V': 'V',
    'SLOAN-R': 'r',
    'g DECam SDSS c0001 4720.0 1520.0': 'g',
    'N501 DECam c0010 5012 82': 'N501',
    'IRAC 3.6': 'IRAC 3.6',
    'IRAC 4.5': 'IRAC 4.5',
    'R_SPECIAL': 'R_SPECIAL',
    '6563': '6563',
}


@pytest.mark.parametrize('text', BANDS)
def test_one_band_has_one_name(text):
    assert facts_of(FILTER=text)['band'] == BANDS[text]


@pytest.mark.parametrize('text', ['N/A', 'unknown', 'UNDEFINED', 'NONE', 'null', 'INDEF', '--'])
def test_a_card_that_says_nothing_is_no_band_and_no_unit(text):
    found = facts_of(FILTER=text, BUNIT=text)
    assert found['band'] is found['unit'] is found['zero_point'] is None
    assert {'band', 'unit', 'zero_point'} <= set(found['missing'])


@pytest.mark.parametrize('code', [1, 3, '05', '#5', 'Filter 3'])
def test_a_place_in_a_wheel_is_no_band(code):
    found = facts_of(FILTER=code)
    assert found['band'] is None and 'whose meaning no card gives' in found['missing']['band']


@pytest.mark.parametrize(
    'cards, survey, band',
    [
        (dict(TELESCOP='WISE', BAND=2), 'wise', 'W2'),
        (dict(TELESCOP='GALEX', BAND=1), 'galex', 'NUV'),
        (dict(INSTRUME='ZTF/MOSAIC', FILTER=2), 'ztf', 'r'),
        (dict(INSTRUME='Hyper Suprime-Cam', FILTER01='HSC-G'), 'hsc', 'g'),
        (dict(INSTRUME='LSSTComCam', FILTER='i_06'), 'lsst', 'i'),
        (dict(INSTRUME='OMEGACAM', FILTER='r_SDSS'), 'vst', 'r'),
        (dict(INSTRUME='VIRCAM', ESO__INS__FILT1__NAME='Ks'), 'vista', 'Ks'),
        (dict(TELESCOP='EUCLID', FILTER='NIR_H'), 'euclid', 'NIR_H'),
        (dict(TELESCOP='SWIFT', FILTER='UVW1'), 'swift', 'UVW1'),
        (dict(TELESCOP='Spitzer', INSTRUME='IRAC', CHNLNUM=2), 'spitzer', 'I2'),
        (dict(TELESCOP='Spitzer', INSTRUME='MIPS', CHNLNUM=1), 'spitzer', None),
        (dict(TELESCOP='HST', INSTRUME='ACS', FILTER='F814W;CLEAR2L'), 'hst', 'F814W'),
        (dict(TELESCOP='HST', INSTRUME='ACS', FILTER='CLEAR1L;F814W'), 'hst', 'F814W'),
        (dict(TELESCOP='HST', INSTRUME='WFC3/UVIS', FILTER='F606W'), 'hst', 'F606W'),
        (dict(TELESCOP='JWST', FILTER='CLEAR;F444W'), 'jwst', 'F444W'),
    ],
)
def test_a_mission_is_known_by_its_cards(cards, survey, band):
    found = facts_of(**cards)
    assert (found['survey'], found['band']) == (survey, band)


UNITS = [
    ('ELECTRON', 'counts', None),
    ('ELECTRON/S', 'rate', None),
    ('e-/pix/s', 'rate', None),
    ('counts/sec/pixel', 'rate', None),
    ('Jy/pixel', 'flux density', 8.9),
    ('uJy/pix', 'flux density', 23.9),
    ('UJY', 'flux density', 23.9),
    ('NJY', 'flux density', 31.4),
    ('milliJy', 'flux density', 16.4),
    ('nanomaggies/pixel', 'flux density', 22.5),
    ('nanomaggy/arcsec^2', 'surface brightness', 24.005),
    ('1.E-20 W/m2/Hz', 'flux density', -6.1),
    ('ergs/s/cm^2/A', 'other', None),
    ('mJy/beam', 'other', None),
    ('N/A', None, None),
    ('MJY', None, None),
    ('MJY/SR', None, None),
]


@pytest.mark.parametrize('text, kind, zero_point', UNITS)
def test_a_unit_means_what_its_parts_say(text, kind, zero_point):
    unit = parse_unit(text)
    found = zero_point_of_unit(unit, (0.5 / 206264.806) ** 2)
    assert kind_of_unit(unit) == kind
    assert found == (None if zero_point is None else pytest.approx(zero_point, abs=1e-3))


@pytest.mark.parametrize(
    'cards, seconds',
    [
        (dict(EXPOSURE=(0.02, '[d] time on source')), 1728.0),
        (dict(EXPTIME=(500.0, '[ms] exposure')), 0.5),
        (dict(EXPTIME=(30.0, 'exposure time (min)')), 1800.0),
        (dict(EXPTIME=(2.0, 'in hours')), 7200.0),
        (dict(EXPTIME=(10.0, "telescope's total in minutes")), 600.0),
        (dict(XPOSURE=0.02, TIMEUNIT='d'), 1728.0),
        (dict(XPOSURE=(30.0, '[s] effective exposure'), TIMEUNIT='d'), 30.0),
        (dict(EXPTIME=30.0, TIMEUNIT='d'), 30.0),
        (dict(EXPTIME=(30.0, 'seconds, of 3 days')), 30.0),
        (dict(EXPTIME=(30.0, 'minimum of the frames')), 30.0),
        (dict(EXPTIME=('10,5', '[min]')), 630.0),
        (dict(EXPTIME=('2 min', 'exposure time in seconds')), 120.0),
        (dict(XPOSURE='0,02', TIMEUNIT='d'), 1728.0),
        (dict(EXPOSURE='65,0', PLATEID='A0'), 3900.0),
    ],
)
def test_an_exposure_counts_in_its_own_unit(cards, seconds):
    assert facts_of(**cards)['exposure_s'] == pytest.approx(seconds)


@pytest.mark.parametrize(
    'cards, zero_point, system',
    [
        (dict(PHOTZP=24.5, PHOTSYS='VEGA'), 24.5, 'Vega'),
        (dict(PHOTZP=30.0, PHOTSYS='AB'), 30.0, 'AB'),
        (dict(MAGZP=25.0, MAGSYS='AB'), 25.0, 'AB'),
        (dict(MAGZERO=(25.0, 'Vega mag of one ADU')), 25.0, 'Vega'),
        (dict(MAGZP=26.2), 26.2, 'system not stated'),
        (dict(FLUXMAG0=63095734448.0194), 27.0, 'AB'),
        (dict(BUNIT='nJy', MAGZERO=31.4), 31.4, 'AB'),
        (dict(BUNIT='nJy', MAGZERO=27.0), 31.4, 'AB, by the unit; a card says 27'),
    ],
)
def test_a_zero_point_and_its_system(cards, zero_point, system):
    found = facts_of(**cards)
    assert found['zero_point'] == pytest.approx(zero_point)
    assert found['notes']['zero_point'] == system


@pytest.mark.parametrize(
    'cards, word',
    [(dict(MAGZERO=number), 'MAGZERO') for number in (0.0, 99.0, 99.99, -99.0, -999.0)]
    + [(dict(ABMAGZP=25.3), 'ABMAGZP = 25.3'), (dict(ZPAB=18.95), 'ZPAB'), (dict(PHOT_C=26.4), 'C')]
    + [(dict(MAGZPT=23.5, MAGZRR=0.1), 'MAGZPT needs the gain')],
)
def test_a_zero_point_of_unknown_meaning_is_unknown_and_named(cards, word):
    found = facts_of(**cards)
    assert found['zero_point'] is None and word in found['missing']['zero_point']
    assert 'MAGZRR' not in found['missing']['zero_point']


@pytest.mark.parametrize(
    'filters, band',
    [
        (('u-Mean',), 'u'),
        (('r_mean',), 'r'),
        (('F115W|CLEAR',), 'F115W'),
        (('F115W/CLEAR',), 'F115W'),
        (('CLEAR;F115W',), 'F115W'),
        (('NONE|r',), 'r'),
        (('OPEN', 'g'), 'g'),
        (('Empty', 'CLEAR1L', 'F814W'), 'F814W'),
        (('CLEAR',), None),
        (('OPEN',), None),
        (('Clear|Open',), None),
        (('white light',), None),
        (('no filter',), None),
        (('CLEAR', 'OPEN'), None),
        (('F444W|F470N',), 'F444W+F470N'),
    ],
)
def test_a_wheel_without_a_filter_is_no_band(filters, band):
    facts = facts_of(**{f'FILTER{k or ""}': name for k, name in enumerate(filters)})
    assert facts['band'] == band
    if band is None:
        assert (
            'no filter' in facts['missing']['band'] and filters[0][:4] in facts['missing']['band']
        )


@pytest.mark.parametrize('cards', [dict(MAGZERO=25.0), dict(PHOTZP=22.5), {}])
@pytest.mark.parametrize(
    'unit', 'mag MAG mmag mag/arcsec2 mag(AB) ABmag magnitudes dex dB log10(adu)'.split()
)
def test_a_pixel_that_is_a_magnitude_has_no_zero_point(unit, cards):
    facts = facts_of(BUNIT=unit, **cards)
    assert facts['zero_point'] is None and facts['unit'] == unit
    assert 'logarithm' in facts['missing']['zero_point'] and unit in facts['missing']['zero_point']


@pytest.mark.parametrize('unit', ['adu', 'ct/s', 'image units', ''])
def test_any_other_pixel_keeps_the_zero_point_of_its_card(unit):
    assert facts_of(BUNIT=unit, MAGZERO=25.0)['zero_point'] == 25.0
