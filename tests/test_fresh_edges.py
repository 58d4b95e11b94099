"""Situations of public reports that no page had named: a small file for each, and what the library makes of it"""

import gzip
import io
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from awkward import header, sky

import astrid_data as ad
from astrid_data.images.exposures import detector_doubt, independent_sources, read_exposure
from astrid_data.images.headers import read_header_facts
from astrid_data.images.image import open_image
from astrid_data.ingest.files import sort_delivery

pytestmark = pytest.mark.filterwarnings('ignore')
SIDE = 96
BAD = slice(0, 12)  # Rows that a mask marks
SIP = dict(A_ORDER=2, B_ORDER=2, A_0_2=2e-4, A_2_0=1e-4, B_0_2=1e-4, B_2_0=-2e-4)
SCAMP = dict(PV1_0=0.0, PV1_1=1.0, PV1_4=0.1, PV2_0=0.0, PV2_1=1.0, PV2_4=0.1)
TPV = dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV')
TAN_SIP = dict(CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP')
STEPS = dict(CDELT1=-0.5 / 3600, CDELT2=0.5 / 3600)


def plain(seed=1):
    "Bytes of a FITS file"
    file = io.BytesIO()
    fits.PrimaryHDU(sky(seed), header()).writeto(file)
    return file.getvalue()


def zipped(method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method) as inside:
        inside.writestr('a.fits', plain())
    return file.getvalue()


# How a file is packed and called


def pixels_of(tmp_path, name, data):
    "Whether the pixels are read as they were written"
    path = tmp_path / name
    path.write_bytes(data)
    with open_image(path) as image:
        return np.array_equal(image.read_all()[0], sky(1))


def folder_of(tmp_path, *names):
    "What comes of a folder: names that came in or stand in the ledger, and the reasons there"
    for k, name in enumerate(names):
        data = plain(k + 2)
        packers = {'.xz': lzma.compress, '.gz': gzip.compress, '.Z': lambda d: b'\x1f\x9d\x90' + d}
        pack = next((pack for end, pack in packers.items() if name.endswith(end)), bytes)
        (tmp_path / name).write_bytes(pack(data))
    archive = ad.open_archive(tmp_path / 'archive')
    report = archive.add_fits(str(tmp_path), survey='s', detect=False, show=False)
    uris = [*archive.observations()['uri'], *report.ledger['uri']]
    told = {uri.rpartition('/')[2].partition('[')[0] for uri in uris}
    return sorted(told), sorted(report.ledger['reason'])


PACKED = {
    # astropy#10714: observatories keep raw files in `compress`; astropy raised ModuleNotFoundError
    'compress': (
        lambda t: folder_of(t, 'a.fits.Z', 'b.fits'),
        (['a.fits.Z', 'b.fits'], ['unreadable']),
    ),
    # astropy#9714
    'xz': (lambda t: pixels_of(t, 'a.fits.xz', lzma.compress(plain())), True),
    # FITSIO.jl#135: a zip without compression was mapped, and its directory taken for pixels
    'stored zip': (lambda t: pixels_of(t, 'a.fits.zip', zipped(zipfile.ZIP_STORED)), True),
    'deflated zip': (lambda t: pixels_of(t, 'a.zip', zipped(zipfile.ZIP_DEFLATED)), True),
    # MaxIm DL, XMM-Newton and fpack name their files so
    'endings': (
        lambda t: folder_of(t, 'a.fts', 'b.FTS', 'c.ftz', 'd.fz', 'e.fits'),
        (['a.fts', 'b.FTS', 'c.ftz', 'd.fz', 'e.fits'], []),
    ),
}


# Where the pixels lie


def corner(tmp_path, primary=None, **cards):
    "Where the first pixel of an image lies (deg)"
    own = header(SIDE, **cards)
    if 'CDELT1' in cards:
        for name in ('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'):
            own.remove(name)
    image = fits.ImageHDU(sky(1), own, name='SCI')
    fits.HDUList([fits.PrimaryHDU(None, primary), image]).writeto(tmp_path / 'a.fits')
    with open_image(tmp_path / 'a.fits') as opened:
        if opened.wcs is None:
            return opened.missing['wcs']
        return np.round(np.ravel(opened.pixel_to_world(0.0, 0.0)), 7).tolist()


def by_astropy(**cards):
    own = header(SIDE, **cards)
    if 'CDELT1' in cards:
        for name in ('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'):
            own.remove(name)
    return np.round(WCS(own).all_pix2world([[0, 0]], 0)[0], 7).tolist()


DRIZZLED = fits.Header(dict(D001VER='WDRIZZLE Version 3.4.2', NDRIZIM=8))
PLACES = {
    # astropy#4761, drizzlepac#862: an arcminute off
    'terms left in a drizzled mosaic': (
        lambda t: corner(t, D001VER='WDRIZZLE Version 3.4.2', **SIP),
        by_astropy(),
    ),
    'the first header says drizzled': (lambda t: corner(t, DRIZZLED, **SIP), by_astropy()),
    'an exposure without the word': (lambda t: corner(t, **SIP), by_astropy(**SIP, **TAN_SIP)),
    # astropy#14255, #299: files of the Palomar Transient Factory
    'TPV beside SIP': (lambda t: corner(t, **TPV, **SCAMP, **SIP), by_astropy(**TPV, **SCAMP)),
    'SIP beside polynomials of SCAMP': (
        lambda t: corner(t, **TAN_SIP, **SIP, **SCAMP),
        by_astropy(**TAN_SIP, **SIP),
    ),
    # ds9 and wcstools read it so
    'CROTA1 alone': (
        lambda t: corner(t, CROTA1=30.0, **STEPS),
        by_astropy(CROTA2=30.0, **STEPS),
    ),
    # punchbowl#639
    'a place under another letter': (
        lambda t: corner(t, CTYPE1='LINEAR', CTYPE2='LINEAR', CTYPE1A='RA---TAN'),
        'a WCS without celestial axes (its WCS A has one: not read)',
    ),
}


# What masks say


def masked(tmp_path, name, value=1, kind='i4', image='IMAGE', policy='auto', **cards):
    "Share of the pixels that a mask makes bad, and why it is not used"
    mask = np.zeros((SIDE, SIDE), kind)
    mask[BAD] = value
    plane = fits.ImageHDU(mask, name=name)
    plane.header.update({f'HIERARCH {k}' if len(k) > 8 else k: v for k, v in cards.items()})
    pixels = fits.ImageHDU(sky(1), header(), name=image)
    fits.HDUList([fits.PrimaryHDU(), pixels, plane]).writeto(tmp_path / 'a.fits')
    with open_image(tmp_path / 'a.fits', dq_policy=policy) as opened:
        return opened.read_all()[1].mean(), opened.missing.get('dq', '')[:20]


SPHEREX = dict(MP_TRANSIENT=0, MP_OVERFLOW=1, MP_NONFUNC=6, MP_MISSING_DATA=9, MP_SOURCE=21)
LEGACY = dict(MBIT_0='NPRIMARY', MBIT_1='BRIGHT', MBIT_10='BAILOUT')
MASKS = {
    # SPHEREx quick release
    'SPHEREx': (lambda t: masked(t, 'FLAGS', 1 << 6, **SPHEREX), (0.125, '')),
    # legacypipe#565, #735
    'Legacy Surveys, asked for': (
        lambda t: masked(t, 'MASKBITS', 1024, policy='cards:BAILOUT', **LEGACY),
        (0.125, ''),
    ),
    'Legacy Surveys, values': (
        lambda t: masked(t, 'MASKBITS', 1024, policy='cards:BAIL', MB_NPRIM=1, MB_BAIL=1024),
        (0.125, ''),
    ),
    'Legacy Surveys, not asked for': (
        lambda t: masked(t, 'MASKBITS', 1024, **LEGACY),
        (0, 'none of its flags is'),
    ),
    # PypeIt#1034
    'bits with numbers': (
        lambda t: masked(t, 'FULLMASK', 1, image='SCI', BIT0='BPM', BIT1='CR'),
        (0.125, ''),
    ),
    # The convention of ESO and of MaNGA: zero is good
    'MASKZERO': (
        lambda t: masked(t, 'QUAL', image='DATA', HDUCLAS2='QUALITY', HDUCLAS3='MASKZERO'),
        (0.125, ''),
    ),
    'MASKONE': (
        lambda t: masked(t, 'QUAL', image='DATA', HDUCLAS2='QUALITY', HDUCLAS3='MASKONE'),
        (0, 'nobody knows here wh'),
    ),
}


# What names of files say


def helpers(*names):
    return {one.address: one.helps or one.helper_word for one in sort_delivery(list(names))}


NAMES = {
    # Background models of HSC's pipeline lie beside its images
    'bkgd': (
        lambda t: helpers('calexp-HSC-R-9813-4,4.fits', 'bkgd-HSC-R-9813-4,4.fits'),
        {'calexp-HSC-R-9813-4,4.fits': None, 'bkgd-HSC-R-9813-4,4.fits': 'bkgd'},
    ),
    # A mask was given to the uncertainty beside it
    'three helpers of one image': (
        lambda t: helpers('a.fits', 'a.uncertainty.fits', 'a.bitmask.fits', 'a.nimg.fits'),
        {'a.fits': None} | {f'a.{w}.fits': 'a.fits' for w in ('uncertainty', 'bitmask', 'nimg')},
    ),
    # AKARI's numbers of samples and scans
    'nsamp': (
        lambda t: helpers('c_WideS.fits', 'c_WideS_nsamp.fits', 'c_WideS_nscan.fits'),
        {'c_WideS.fits': None} | {f'c_WideS_{w}.fits': 'c_WideS.fits' for w in ('nsamp', 'nscan')},
    ),
}


# What cards say


def facts(*names, **cards):
    found = read_header_facts(header(**cards))
    return tuple(found[name] for name in names)


def missing(fact, word, **cards):
    return word in read_header_facts(header(**cards))['missing'].get(fact, '')


ESO = {'ESO DET EXP NAME': 'VIRCAM_IMG_OBS308_0199', 'FILTER': 'H', 'TELESCOP': ''}
ACS = dict(PHOTMODE='ACS WFC1 F606W MJD#52599.0', FILTER='', TELESCOP='')
MARCH = {'DATE-OBS': '2023-03-14T22:13:20 GMT'}
CARDS_READ = {
    'a zone with a T at its end': (lambda t: facts('mjd_meaning', **MARCH), ('start',)),
    # AstroImageJ
    'JD_UTC': (lambda t: facts('mjd', 'mjd_meaning', JD_UTC=2460262.75), (60262.25, 'mid')),
    'a decimal comma': (
        lambda t: missing('mjd', 'MJD-OBS = 60262,2117 may', **{'MJD-OBS': '60262,2117'}),
        True,
    ),
    'seconds of Unix': (lambda t: missing('mjd', 'UNIXTIME = 17', UNIXTIME=1.7e9), True),
    # sunpy#4479
    'a unit on another card': (
        lambda t: facts('unit', 'zero_point', PIXLUNIT='nJy'),
        ('nJy', 31.4),
    ),
    # What an exposure of the HST still says where its wheels are gone
    'PHOTMODE': (lambda t: facts('survey', 'band', **ACS), ('hst', 'F606W')),
    # A file of VISTA without INSTRUME
    'the name of an exposure of ESO': (lambda t: facts('survey', 'band', **ESO), ('vista', 'H')),
    'SkyMapper': (
        lambda t: facts('survey', 'band', INSTRUME='SkyMapper', FILTNAME='r', FILTER=''),
        ('skymapper', 'r'),
    ),
    'Rubin, the band alone': (
        lambda t: facts('survey', 'band', INSTRUME='LSSTComCam', FILTBAND='g', FILTER=''),
        ('lsst', 'g'),
    ),
    'Rubin, two wheels': (lambda t: facts('band', FILTER='SDSSr_65mm~empty'), ('r',)),
}


# The same pixel of a detector


def windows_moved(tmp_path, card):
    "Whether a hot pixel in two windows of one detector can be told from a star"
    images = []
    for k, (first, text) in enumerate(((0, '1,96,96,1'), (20, '21,116,96,1'))):
        cards = {
            card: text,
            'INSTRUME': 'iXon',
            'EXPTIME': 30.0,
            'DATE-OBS': f'2020-01-0{k + 1}T01:00:00',
        }
        own = header(SIDE, **cards)
        own['CRPIX1'] += 0.31 * k - first  # The pointing is the same, the solution another
        images.append(read_exposure(own, None, read_header_facts(own), (SIDE, SIDE)))
    a, b = images
    if doubt := detector_doubt(a, b):
        return doubt
    hot = dict(y=[50.0], fwhm_px=[1.2], ellipticity=[0.0], n_pixels=[4])
    on = (pd.DataFrame(dict(x=[x], **hot)) for x in (60.0, 40.0))
    return bool(independent_sources(a, b, *on)[0])


WINDOWS = {
    card: (lambda t, card=card: windows_moved(t, card), 'the place on the detector is unknown')
    for card in ('SUBRECT', 'ROI')
}

SITUATIONS = {
    f'{kind}: {name}': situation
    for kind, some in dict(
        packed=PACKED,
        place=PLACES,
        mask=MASKS,
        name=NAMES,
        cards=CARDS_READ,
        window=WINDOWS,
    ).items()
    for name, situation in some.items()
}


def same(said, right):
    "Whether two answers agree, numbers to a thousandth of an arcsecond"
    if isinstance(right, (list, tuple)):
        return len(said) == len(right) and all(map(same, said, right))
    return abs(said - right) < 3e-7 if isinstance(right, float) else said == right


@pytest.mark.parametrize('name', SITUATIONS)
def test_what_comes_in_keeps_its_meaning(name, tmp_path):
    look, right = SITUATIONS[name]
    said = look(tmp_path)
    assert same(said, right), f'{said} is not {right}'
