"Patches against an independent oracle: every way to store an image, every kind of WCS, every place in it and outside"

import bz2
import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable, Sip
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from oracle import Oracle, arcsec, as_fits, centroid

import astrid_data as ad

pytestmark = pytest.mark.filterwarnings('ignore')
NY, NX = 160, 200


def header(**cards):
    h = fits.Header(
        dict(
            CTYPE1='RA---TAN',
            CTYPE2='DEC--TAN',
            CRVAL1=150.0,
            CRVAL2=2.0,
            CRPIX1=97.3,
            CRPIX2=81.8,
            CD1_1=-1.3e-4,
            CD1_2=2e-5,
            CD2_1=2e-5,
            CD2_2=1.3e-4,
            TELESCOP='Pretend',
            RADESYS='ICRS',
        )
    )
    for k, v in cards.items():
        if v is None:
            del h[k]
        else:
            h[k] = v
    return h


def table_of(ra, dec, uri='one', **more):
    return pd.DataFrame(
        dict(sample_key=[f'{i:03d}' for i in range(len(ra))], ra=ra, dec=dec, image_uri=uri) | more
    )


def same_patch(data, valid, want, what=''):
    assert_array_equal(data, want, err_msg=str(what))
    assert_array_equal(valid, np.isfinite(want), err_msg=str(what))


# Skies: each returns the HDUs of a file whose first holds the image --------------------------------------------------

CD = dict.fromkeys(('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'))
SIP = dict(
    CTYPE1='RA---TAN-SIP',
    CTYPE2='DEC--TAN-SIP',
    A_ORDER=3,
    B_ORDER=3,
    A_2_0=9e-5,
    A_1_1=-4e-5,
    A_0_3=2e-7,
    B_0_2=-7e-5,
    B_2_0=5e-5,
    B_3_0=-1e-7,
)
HEADERS = dict(
    tan=header(),
    ra_0=header(CRVAL1=0.0),
    ra_360=header(CRVAL1=359.99999),
    north=header(CRVAL2=89.9),
    south=header(CRVAL2=-89.9),
    on_the_pole=header(CRVAL2=90.0),
    flipped=header(CD1_1=1.3e-4),
    north_down=header(CD2_2=-1.3e-4),
    turned=header(CD1_1=0.0, CD1_2=1.3e-4, CD2_1=1.3e-4, CD2_2=0.0),
    pc=header(**CD, CDELT1=-1.3e-4, CDELT2=1.3e-4, PC1_1=0.8, PC1_2=-0.6, PC2_1=0.6, PC2_2=0.8),
    crota=header(**CD, CDELT1=-1.3e-4, CDELT2=1.3e-4, CROTA2=33.0),
    uneven=header(**CD, CDELT1=-1.1e-4, CDELT2=1.6e-4),
    swapped=header(CTYPE1='DEC--TAN', CTYPE2='RA---TAN', CRVAL1=2.0, CRVAL2=150.0),
    galactic=header(
        CTYPE1='GLON-TAN', CTYPE2='GLAT-TAN', CRVAL1=359.999, CRVAL2=30.0, RADESYS=None
    ),
    fk4=header(RADESYS='FK4', EQUINOX=1950.0),
    fk5=header(RADESYS='FK5', EQUINOX=2000.0),
    sin=header(CTYPE1='RA---SIN', CTYPE2='DEC--SIN'),
    zpn=header(CTYPE1='RA---ZPN', CTYPE2='DEC--ZPN', PV2_1=1.0, PV2_3=42.0),
    sip=header(**SIP),
    sip_ra_0=header(**SIP, CRVAL1=0.0),
    sip_north=header(**SIP, CRVAL2=89.9),
    sip_south_flipped=header(**SIP, CRVAL2=-89.9, CD1_1=1.3e-4),
    tpv=header(
        CTYPE1='RA---TPV',
        CTYPE2='DEC--TPV',
        PV1_0=0.0,
        PV1_1=1.0,
        PV1_2=0.001,
        PV1_4=0.9,
        PV1_5=0.2,
        PV2_0=0.0,
        PV2_1=1.0,
        PV2_2=-0.001,
        PV2_4=-0.5,
        PV2_6=0.4,
    ),
)
LOOKUPS = dict(
    cpdis=('cpdis1', 'cpdis2'),
    d2im=('det2im1', 'det2im2'),
    all=('cpdis1', 'cpdis2', 'det2im1', 'det2im2'),
)


def lookup_hdus(name):
    "A file with tables of distortion up to three pixels, and for `all` with SIP too, as ACS has them"
    w, (v, u) = WCS(header(), naxis=2), np.mgrid[:11, :14]

    def bend(k):
        return DistortionLookupTable(
            (2.5 * np.sin(u / 4 + k) + 0.05 * k * v).astype('f4'),
            (1.0 + k, 2.0),
            (5.0, 9.0),
            (17.0, 15.0),
        )

    for k, slot in enumerate(LOOKUPS[name]):
        setattr(w, slot, bend(k))
    if name == 'all':
        w.wcs.ctype, w.sip = (
            ['RA---TAN-SIP', 'DEC--TAN-SIP'],
            Sip(
                np.diag([0, 0, 5e-5])[::-1].copy(),
                np.diag([0, 0, 4e-5])[::-1].copy(),
                None,
                None,
                w.wcs.crpix,
            ),
        )
    hdul = w.to_fits(relax=True)
    hdul[0].header['TELESCOP'] = 'Pretend'
    return hdul


def sky_file(name, pixels):
    hdul = lookup_hdus(name) if name in LOOKUPS else [fits.PrimaryHDU(header=HEADERS[name])]
    return as_fits(fits.PrimaryHDU(pixels, hdul[0].header), *hdul[1:])


# Planted stars -------------------------------------------------------------------------------------------------------

PHASES = [
    (40.0, 40.0),
    (80.49, 40.499),
    (120.51, 40.0),
    (160.25, 39.51),
    (40.9, 80.123),
    (80.0, 80.49),
    (120.49, 80.49),
    (160.75, 80.25),
    (100.33, 110.67),
]
RIM = [
    (0.2, 60.4),
    (199.4, 60.6),
    (60.3, -0.4),
    (140.2, 159.3),
    (0.0, 0.0),
    (199.49, 0.3),
    (-0.49, 159.2),
    (198.6, 159.4),
    (15.2, 119.7),
    (184.4, 100.1),
]


@pytest.mark.parametrize('size', [25, 26])
@pytest.mark.parametrize('name', [*HEADERS, *LOOKUPS])
def test_planted_stars(name, size):
    "Each star, told by its place on the sky alone, lies in the middle of its patch; the patch's WCS returns it; the pixels are the file's"
    (x, y), (v, u) = np.array(PHASES + RIM).T, np.mgrid[:NY, :NX]
    stars = sum(1e4 * np.exp(-((u - a) ** 2 + (v - b) ** 2) / (2 * 1.7**2)) for a, b in zip(x, y))
    raw = sky_file(
        name, (stars + np.random.default_rng(1).normal(0, 0.5, stars.shape)).astype('f4')
    )
    truth = Oracle(raw)
    if name in LOOKUPS or 'sip' in name:
        assert (
            np.hypot(
                *np.subtract(truth.wcs.wcs_world2pix(*truth.wcs.all_pix2world(x, y, 0), 0), (x, y))
            ).max()
            > 0.5
        )  # There is something to get wrong
    ra, dec = truth.sky(x, y)
    got = ad.patches.extract_patches(
        table_of(ra, dec), size, open=lambda *a: ad.images.open_image(raw), min_valid_fraction=0
    )
    assert (
        got.kept.all()
        and not len(got.ledger)
        and got.data.dtype == np.float32
        and got.data.dtype.isnative
    )
    image, half = ad.images.open_image(raw), size // 2
    for k in range(len(x)):
        info, patch = got.info.iloc[k], got.data[k, 0]
        middle = np.array([half + info['offset_x'], half + info['offset_y']])
        assert np.hypot(*(middle + [info['x0'], info['y0']] - [x[k], y[k]])) < 0.01
        same_patch(patch, got.valid[k, 0], truth.square(x[k], y[k], size), (name, k))
        if size % 2:
            same_patch(patch, got.valid[k, 0], truth.around(ra[k], dec[k], size), (name, k))
        star = centroid(
            np.where(
                np.hypot(*np.mgrid[-half : size - half, -half : size - half]) < 6, patch, np.nan
            )
        )
        assert np.hypot(*(middle - star)) < 0.05, (name, k, middle, star)
        w = ad.patches.patch_wcs(image, int(info['x0']), int(info['y0']))
        back = w.pixel_to_world(*star).icrs
        assert arcsec(back.ra.deg, back.dec.deg, ra[k], dec[k]) < 0.05 * truth.scale, (name, k)
        for i, j in ((0, 0), (size - 1, 3)):  # And the corners, whatever lies there
            a, b = (
                w.pixel_to_world(i, j).icrs,
                truth.wcs.pixel_to_world(i + info['x0'], j + info['y0']).icrs,
            )
            assert a.separation(b).arcsec < 1e-3 * truth.scale, (name, k)


# Ways to store an image ----------------------------------------------------------------------------------------------


def numbers(kind, seed=0, shape=(NY, NX)):
    "Pixels with a gradient, so that no two regions look alike"
    rng = np.random.default_rng(seed)
    a = rng.normal(100, 20, shape) + np.arange(shape[-1])
    return (
        np.clip(np.round(a), 0, 120).astype(kind)
        if np.dtype(kind).itemsize == 1
        else a.astype(kind)
    )


def holed(a):
    a = a.copy()
    a[..., 50:53, 70:90], a[..., 100, 100] = np.nan, np.inf
    return a


def comp(a, kind='RICE_1', h=None, **kw):
    return fits.CompImageHDU(a, h or header(), compression_type=kind, **kw)


def with_cards(a, **cards):
    "An integer image whose scaling is told by its header only"
    hdu = fits.PrimaryHDU(a, header())
    hdu.header.update(cards)
    return hdu


EMPTY = fits.PrimaryHDU


def SCI(a, v=1, name='SCI'):
    return fits.ImageHDU(a, header(), name=name, ver=v)


F4, I2 = holed(numbers('f4')), numbers('i2')
WAYS = {
    k: (lambda k=k: as_fits(fits.PrimaryHDU(numbers(k), header())), 0, None, {})
    for k in ('f4', 'f8', 'u1', 'i1', 'i2', 'i4', 'i8', 'u2', 'u4', '>f4', '<f4')
} | {  # File, HDU and plane for the oracle, how to ask for it
    'nan and inf': (lambda: as_fits(fits.PrimaryHDU(F4, header())), 0, None, {}),
    'uint16 over 32768': (
        lambda: as_fits(fits.PrimaryHDU(numbers('u2') + 50000, header())),
        0,
        None,
        {},
    ),
    'i2 scaled with blanks': (
        lambda: as_fits(with_cards(I2, BSCALE=0.37, BZERO=1200.0, BLANK=int(I2[60, 60]))),
        0,
        None,
        {},
    ),
    'i4 blank 0': (
        lambda: as_fits(with_cards(np.where(numbers('i4') > 250, 0, numbers('i4')), BLANK=0)),
        0,
        None,
        {},
    ),
    'i4 scaled': (
        lambda: as_fits(with_cards(numbers('i4') * 9_999_991, BSCALE=1e-7, BZERO=-3.0)),
        0,
        None,
        {},
    ),
    'f4 scaled': (lambda: as_fits(with_cards(F4, BSCALE=2.5, BZERO=7.0)), 0, None, {}),
    'second version of SCI': (
        lambda: as_fits(
            EMPTY(), SCI(numbers('f4', 1)), SCI(numbers('f4', 2), 2), SCI(numbers('f4', 3), 3)
        ),
        2,
        None,
        dict(hdu='SCI', extver=2),
    ),
    'by name': (
        lambda: as_fits(
            EMPTY(), SCI(numbers('f4', 1), name='F475W'), SCI(numbers('i2', 2), name='F814W')
        ),
        2,
        None,
        dict(hdu='F814W'),
    ),
    'by number': (
        lambda: as_fits(
            fits.PrimaryHDU(numbers('f4', 1), header()), SCI(numbers('f4', 2), name='')
        ),
        1,
        None,
        dict(hdu='1'),
    ),
    'behind ERR': (
        lambda: as_fits(EMPTY(), fits.ImageHDU(numbers('f4', 3), header(), name='ERR'), SCI(F4)),
        2,
        None,
        {},
    ),
    'plane of a cube': (
        lambda: as_fits(fits.PrimaryHDU(numbers('f4', 0, (4, NY, NX)), header())),
        0,
        2,
        dict(hdu='PRIMARY[2]'),
    ),
    'plane of integers': (
        lambda: as_fits(EMPTY(), SCI(numbers('u2', 0, (3, NY, NX)))),
        1,
        1,
        dict(hdu='SCI[1]'),
    ),
    'plane of four axes': (
        lambda: as_fits(fits.PrimaryHDU(numbers('f4', 0, (2, 3, NY, NX)), header())),
        0,
        4,
        dict(hdu='0[4]'),
    ),
    'gz': (lambda: gzip.compress(as_fits(fits.PrimaryHDU(F4, header()))), 0, None, {}),
    'bz2': (lambda: bz2.compress(as_fits(fits.PrimaryHDU(I2, header()))), 0, None, {}),
    'extensions in gz': (
        lambda: gzip.compress(as_fits(EMPTY(), SCI(numbers('f4', 1)), SCI(numbers('u2', 2), 2))),
        2,
        None,
        dict(extver=2),
    ),
    'RICE of integers': (lambda: as_fits(EMPTY(), comp(I2)), 1, None, {}),
    'RICE of uint16': (lambda: as_fits(EMPTY(), comp(numbers('u2') + 40000)), 1, None, {}),
    'RICE of bytes': (lambda: as_fits(EMPTY(), comp(numbers('u1'))), 1, None, {}),
    'RICE of floats': (lambda: as_fits(EMPTY(), comp(holed(numbers('f4')))), 1, None, {}),
    'RICE with dither': (
        lambda: as_fits(EMPTY(), comp(numbers('f4'), quantize_method=2, dither_seed=7)),
        1,
        None,
        {},
    ),
    'RICE in squares': (lambda: as_fits(EMPTY(), comp(I2, tile_shape=(33, 47))), 1, None, {}),
    'RICE cube': (
        lambda: as_fits(EMPTY(), comp(numbers('i2', 0, (3, NY, NX)), name='SCI')),
        1,
        2,
        dict(hdu='SCI[2]'),
    ),
    'RICE versions': (
        lambda: as_fits(
            EMPTY(), *(comp(numbers('i2', v), name='SCI', h=header(EXTVER=v)) for v in (1, 2))
        ),
        2,
        None,
        dict(hdu='SCI', extver=2),
    ),
    'lossless GZIP_2': (
        lambda: as_fits(EMPTY(), comp(F4, 'GZIP_2', quantize_level=0)),
        1,
        None,
        {},
    ),
    'GZIP_1': (lambda: as_fits(EMPTY(), comp(numbers('i4'), 'GZIP_1')), 1, None, {}),
    'GZIP_1 lossless squares': (
        lambda: as_fits(EMPTY(), comp(F4, 'GZIP_1', quantize_level=0, tile_shape=(50, 60))),
        1,
        None,
        {},
    ),
    'HCOMPRESS': (
        lambda: as_fits(EMPTY(), comp(numbers('i4'), 'HCOMPRESS_1', tile_shape=(40, 50))),
        1,
        None,
        {},
    ),
    'PLIO': (lambda: as_fits(EMPTY(), comp(I2, 'PLIO_1')), 1, None, {}),
}


@pytest.mark.parametrize('n', [3, 150])  # Few are decoded one by one, many from the whole image
@pytest.mark.parametrize('way', WAYS)
def test_ways_to_store_an_image(way, n, tmp_path):
    make, hdu, plane, ask = WAYS[way]
    raw, rng = make(), np.random.default_rng(2)
    (tmp_path / 'x.fits').write_bytes(raw)
    truth = Oracle(tmp_path / 'x.fits', hdu, plane)
    x, y = (
        np.concatenate([[-3.2, 199.3, 60.1], rng.uniform(-25, 225, n - 3)]),
        np.concatenate([[70.4, 159.2, 60.3], rng.uniform(-25, 185, n - 3)]),
    )
    for source in (tmp_path / 'x.fits', raw):
        with ad.images.open_image(source, **ask) as image:
            p = ad.patches.cut_patches(image, x, y, 24)
        for k in range(n):
            same_patch(p.data[k], p.valid[k], truth.square(x[k], y[k], 24), (way, k))
        assert np.allclose(p.valid_fraction, p.valid.mean((1, 2)))
    ra, dec = truth.sky(x, y)
    t = table_of(
        ra, dec, str(tmp_path / 'x.fits'), image_hdu=ask.get('hdu'), image_extver=ask.get('extver')
    )
    got, inside = (
        ad.patches.extract_patches(t, 24, min_valid_fraction=0),
        (np.abs(x - 99.5) < 100) & (np.abs(y - 79.5) < 80),
    )
    assert_array_equal(got.kept, inside)
    assert set(got.ledger['reason']) <= {'off_image'} and len(got.ledger) == (~inside).sum()
    assert_array_equal(got.data[inside, 0], p.data[inside])


FLAGS = {  # Header; type of the plane; what each mission's handbook calls unusable, as the numbers that are written there; all else is usable
    'jwst': (dict(TELESCOP='JWST', INSTRUME='NIRCAM'), 'u4', [1, 512, 1 << 31], None),
    'acs': (dict(TELESCOP='HST', INSTRUME='ACS'), 'i2', [1, 2, 4, 8, 32, 128, 512], None),
    'wfc3': (dict(TELESCOP='HST', INSTRUME='WFC3'), 'i2', [1, 2, 4, 8, 32, 128, 512], None),
    'wfpc2': (dict(TELESCOP='HST', INSTRUME='WFPC2'), 'i2', [1, 2, 4, 16, 32, 2048], None),
    'decam': (dict(INSTRUME='DECam', PLVER='V4.8.2'), 'i4', None, [1, 2, 6]),
    'old decam': (dict(INSTRUME='DECam', PLVER='V3.1'), 'i2', [1, 256, 512], None),
}


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('mission', FLAGS)
def test_quality_planes(mission, packed):
    "A pixel is lost where a flag says that it was not measured, and only there; (SCI,2) goes with (DQ,2)"
    cards, kind, bits, codes = FLAGS[mission]
    rng, sci = np.random.default_rng(3), [numbers('f4', s) for s in (1, 2)]
    values = np.array(
        [0] * 20
        + ([1 << b for b in range(32 if kind == 'u4' else 15)] if bits else list(range(1, 9)))
    )
    dq = [rng.choice(values, (NY, NX)) for _ in sci]
    if bits:
        dq = [a | rng.choice(values, a.shape) for a in dq]

    def plane(a, v):
        return (
            fits.CompImageHDU(a.astype(kind), fits.Header(dict(EXTVER=v)), name='DQ')
            if packed
            else fits.ImageHDU(a.astype(kind), name='DQ', ver=v)
        )

    raw = as_fits(
        fits.PrimaryHDU(header=fits.Header(cards)),
        *(h for v, (s, d) in enumerate(zip(sci, dq), 1) for h in (SCI(s, v), plane(d, v))),
    )
    for v in (1, 2):
        bad = (dq[v - 1] & sum(bits)) != 0 if bits else np.isin(dq[v - 1], codes)
        truth = Oracle(raw, 2 * v - 1, bad=bad)
        assert 0.02 < bad.mean() < 0.6
        for n in (2, 120):
            x, y = np.linspace(-4.3, 203.2, n), np.linspace(30.2, 161.4, n)
            p = ad.patches.cut_patches(ad.images.open_image(raw, extver=v), x, y, 17)
            for k in range(n):
                same_patch(p.data[k], p.valid[k], truth.square(x[k], y[k], 17), (mission, v, k))


@pytest.mark.parametrize('order', ['in turn', 'planes last', 'planes first', 'one missing'])
@pytest.mark.parametrize('name', ['DQ', 'WHT'])
def test_names_given_twice_go_by_their_order(name, order):
    "Files put together from several others repeat (SCI,1) and (DQ,1): the second image has the second plane; where one has none, a plane belongs to the image before it"
    rng, n, top = (
        np.random.default_rng(5),
        3,
        fits.PrimaryHDU(header=fits.Header(dict(TELESCOP='HST', INSTRUME='ACS'))),
    )
    sci, values = (
        [SCI(numbers('f4', s)) for s in range(n)],
        [rng.choice([0, 4], (NY, NX)) for _ in range(n)],
    )
    side = [
        fits.ImageHDU(v.astype('i2' if name == 'DQ' else 'f4'), name=name, ver=1) for v in values
    ]
    hdus = {
        'in turn': [h for pair in zip(sci, side) for h in pair],
        'planes last': sci + side,
        'planes first': side + sci,
        'one missing': [sci[0], side[0], sci[1], sci[2], side[2]],
    }[order]
    raw = as_fits(top, *hdus)
    for k in range(n):
        index, none = (
            1 + next(i for i, h in enumerate(hdus) if h is sci[k]),
            order == 'one missing' and k == 1,
        )
        truth = Oracle(
            raw,
            index,
            bad=np.zeros((NY, NX), bool) if none else values[k] == (4 if name == 'DQ' else 0),
        )
        with ad.images.open_image(raw, hdu=index) as image:
            p = ad.patches.cut_patches(image, [60.2], [70.4], 20)
            assert (image.dq_policy is None) == none
        same_patch(p.data[0], p.valid[0], truth.square(60.2, 70.4, 20), k)


# Any file, any position, any size ------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(st.data())
def test_any_shape_any_position_any_size(data):
    ny, nx, size = (data.draw(st.integers(1, 70), label=k) for k in ('ny', 'nx', 'size'))
    kind = data.draw(
        st.sampled_from(['f4', 'f8', 'i2', 'u2', 'u1', 'rice', 'scaled', 'dq']), label='kind'
    )
    at = data.draw(
        st.lists(st.tuples(st.floats(-80, 150), st.floats(-80, 150)), min_size=1, max_size=30),
        label='positions',
    )
    a, bad, hdu = (
        numbers(
            'i2' if kind in ('rice', 'scaled') else 'f4' if kind == 'dq' else kind, ny, (ny, nx)
        ),
        None,
        0,
    )
    if a.dtype.kind == 'f':
        a[ny // 2, nx // 3 : nx // 2 + 1] = np.nan
    if kind == 'rice':
        hdus, hdu = [EMPTY(), comp(a, tile_shape=(min(ny, 16), min(nx, 20)))], 1
    elif kind == 'scaled':
        hdus = [with_cards(a, BSCALE=0.5, BZERO=3.0, BLANK=int(a[0, 0]))]
    elif kind == 'dq':
        dq = np.where(np.random.default_rng(nx).random(a.shape) < 0.1, 4, 256).astype('i2')
        hdus, hdu, bad = (
            [
                fits.PrimaryHDU(header=fits.Header(dict(TELESCOP='HST', INSTRUME='ACS'))),
                SCI(a),
                fits.ImageHDU(dq, name='DQ'),
            ],
            1,
            dq == 4,
        )
    else:
        hdus = [fits.PrimaryHDU(a, header())]
    raw = as_fits(*hdus)
    truth, (x, y), n = Oracle(raw, hdu, bad=bad), np.array(at).T, len(at)
    out, valid = np.full((n, 3, size, size), 5, 'f4'), np.ones((n, 3, size, size), bool)
    with ad.images.open_image(raw) as image:
        p = ad.patches.cut_patches(
            image, x, y, size, out[:, 1], valid[:, 1]
        )  # Into a part of a larger array
    for k in range(n):
        same_patch(out[k, 1], valid[k, 1], truth.square(x[k], y[k], size), k)
    assert (out[:, ::2] == 5).all() and valid[:, ::2].all()  # And nowhere else
    assert_array_equal(p.x0 + size // 2 + p.offset_x, x)
    assert ((-0.5 <= p.offset_x) & (p.offset_x < 0.5)).all()


# Positions that are none ---------------------------------------------------------------------------------------------


def test_positions_that_cannot_be_cost_no_other_sample(tmp_path):
    "On the far side of the sky, not numbers, past the pole, where the distortion cannot be undone, on images without WCS or none at all"
    plain, warped, blind = (
        tmp_path / 'plain.fits',
        tmp_path / 'warped.fits',
        tmp_path / 'blind.fits',
    )
    plain.write_bytes(sky_file('tan', F4))
    warped.write_bytes(as_fits(fits.PrimaryHDU(F4, header(**SIP | dict(A_2_0=6e-3, B_0_2=6e-3)))))
    blind.write_bytes(as_fits(fits.PrimaryHDU(F4)))
    truth = Oracle(warped)
    x, y = np.array([97.2, 120.4, 90.1]), np.array([81.3, 90.2, 100.4])
    good = {p: Oracle(p).sky(x, y) for p in (plain, warped)}
    folds = [truth.wcs.wcs_pix2world([[-30, 20], [10, 150]], 0)[i] for i in (0, 1)]
    none = {
        plain: [
            (330.0, -2.0, 'off_image'),
            (150.0, -88.0, 'off_image'),
            (np.nan, 2.0, 'bad_position'),
            (150.0, np.inf, 'bad_position'),
            (150.0, 90.001, 'bad_position'),
            (-np.inf, np.nan, 'bad_position'),
            (150.3, 2.0, 'off_image'),
            (61.0, 89.0, 'off_image'),
        ],
        warped: [
            (330.0, -2.0, 'off_image'),
            (np.nan, np.nan, 'bad_position'),
            *((*f, 'wcs_no_convergence') for f in folds),
        ],
    }
    rows = [(*p, '', u) for u in (plain, warped) for p in zip(*good[u])] + [
        (*n, u) for u in none for n in none[u]
    ]
    rows += [
        (150.0, 2.0, 'no_wcs', blind),
        (150.0, 2.0, 'missing_file', tmp_path / 'gone.fits'),
        (150.0, 2.0, 'missing_file', None),
    ]
    t = pd.DataFrame(rows, columns=['ra', 'dec', 'why', 'image_uri']).assign(
        image_uri=lambda t: [u and str(u) for u in t['image_uri']]
    )
    t = t.assign(sample_key=[f'{i:03d}' for i in range(len(t))]).sample(
        frac=1, random_state=4, ignore_index=True
    )
    got = ad.patches.extract_patches(t, 21, min_valid_fraction=0.1)
    assert_array_equal(got.kept, t['why'] == '')
    want = t[t['why'] != ''].set_index('sample_key')
    assert got.ledger.set_index('sample_key')['reason'].to_dict() == want['why'].to_dict()
    assert (
        len(t) == got.kept.sum() + len(got.ledger)
        and np.isnan(got.data[~got.kept]).all()
        and not got.valid[~got.kept].any()
    )
    for i in np.flatnonzero(got.kept):
        same_patch(
            got.data[i, 0],
            got.valid[i, 0],
            Oracle(t['image_uri'][i]).around(t['ra'][i], t['dec'][i], 21),
            i,
        )


# The tensor that a model gets ----------------------------------------------------------------------------------------


def check_tensors(archive, truth, t, name, size=21):
    "From a hand-made catalogue with verdicts to the tensors of the loader: asinh((x - background)/(a noise))/scale of exactly the file's pixels, 0 where there are none"
    archive.add_catalogue(t, 'by hand', class_name='label', is_real='good')
    plan = ad.TrainingDataCollector(archive).plan(
        ad.TrainingDataCollectionParams(
            confidence_threshold=0.0, quality_score_threshold=None, negatives={'rejected': 9.0}
        ),
        progress=False,
    )
    ds = plan.build(name, patch_size=size, progress=False, probe=False, min_valid_fraction=0.2)
    assert len(ds) == len(t) and not len(ds.ledger)
    p, rows, edges = ds.manifest['normalisation']['params'], {}, 0
    for batch in ad.PatchLoader(ad.PatchDataset(ds, 'all'), 4):
        rows |= {
            int(i): (x, v, y)
            for i, x, v, y in zip(batch['index'], batch['image'], batch['valid'], batch['label'])
        }
    for i, r in ds.samples.iterrows():
        at = int(np.argmin(arcsec(t['ra'], t['dec'], r['ra'], r['dec'])))
        want = truth.around(t['ra'][at], t['dec'][at], size)
        x, v, label = rows[i][0][0].numpy(), rows[i][1][0].numpy(), int(rows[i][2])
        assert label == t['good'][at] and x.dtype == np.float32
        assert_array_equal(v, np.isfinite(want))
        z = (
            np.arcsinh((want.astype('f8') - r['image_background']) / (p['a'] * r['image_noise']))
            / p['scale'][0]
        )
        rounding = (
            4 * 2**-24 * abs(r['image_background']) / (p['a'] * r['image_noise']) / p['scale'][0]
        )  # Of a sky in float32, in units of the tensor
        np.testing.assert_allclose(x, np.where(v, z, 0), rtol=1e-6, atol=1e-5 + rounding)
        assert rounding < 2e-3
        assert np.ptp(x[v]) > 0.1  # A picture, and no constant
        edges += not v.all()
    assert 0 < edges < len(ds)


@pytest.mark.parametrize('kind', ['lookup tables', 'uint16', 'uint16 in an extension'])
def test_tensors_are_the_transform_of_exactly_those_pixels(kind, tmp_path):
    "The sample's own ACS/WFC image, whose D2IM and CPDIS tables and SIP move stars; big-endian integers with BZERO; inside and across edges"
    from importlib.resources import files

    archive, ask = ad.open_archive(tmp_path / 'home'), {}
    if kind == 'lookup tables':
        uri = 'package://sample/47tuc_acs_wfc_f606w_lookup.fits.gz'
        truth, ask = (
            Oracle(str(files('astrid_data') / 'sample' / uri.rsplit('/', 1)[1]), 1),
            dict(facts=dict(band='F606W', mjd=52377.9, mjd_scale='utc', exposure_s=10.0)),
        )
        assert (
            truth.wcs.cpdis1 is not None
            and truth.wcs.det2im1 is not None
            and truth.wcs.sip is not None
        )
    else:
        a, uri = (
            numbers('u2') + 40000,
            str(tmp_path / 'u2.fits'),
        )  # Only an unsigned reading gets these right
        hdus, hdu = (
            ([fits.PrimaryHDU(a, header())], 0) if kind == 'uint16' else ([EMPTY(), SCI(a)], 1)
        )
        for h in hdus:
            h.header.update({'MJD-AVG': 58000.5, 'EXPTIME': 60.0, 'FILTER': 'r'})
        (tmp_path / 'u2.fits').write_bytes(as_fits(*hdus))
        assert fits.getheader(uri, hdu)['BZERO'] == 32768
        truth = Oracle(uri, hdu)
    report = archive.add_fits(uri, survey='toy', detect=False, show=False, **ask)
    assert report.added == 1 and not len(report.ledger)
    ny, nx = truth.shape
    x, y = np.array(
        [
            [nx * 0.5 + 0.2, ny * 0.5 - 0.3],
            [30.4, 31.7],
            [nx - 31.2, 40.1],
            [2.3, ny * 0.4],
            [nx - 1.4, ny * 0.6 + 0.1],
            [nx * 0.3, 0.2],
            [nx * 0.7, ny - 0.8],
            [0.3, 0.2],
            [nx - 0.7, ny - 0.6],
            [45.6, 60.2],
        ]
    ).T
    ra, dec = truth.sky(x, y)
    check_tensors(
        archive,
        truth,
        pd.DataFrame(dict(ra=ra, dec=dec, label='star', good=np.arange(len(x)) % 2 == 0)),
        'by-hand',
    )
