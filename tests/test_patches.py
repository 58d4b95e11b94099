"Patches against slow and simple ways to the same pixels: `Cutout2D`, stars planted at awkward places, distortion of every kind"

import io
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D, NoOverlapError
from astropy.wcs import WCS, DistortionLookupTable
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import astrid_data
from astrid_data.core import BadImage, BadInput, NotFound, Secret, Settings
from astrid_data.images import image as images
from astrid_data.images.hdus import list_images
from astrid_data.images.header_cache import HeaderCache, image_index
from astrid_data.images.image import open_image
from astrid_data.images.opener import ImageOpener
from astrid_data.patches import extract as extract_page
from astrid_data.patches.extract import (
    STATUS,
    corners,
    cut_patches,
    extract_patches,
    locate,
    patch_wcs,
)
from astrid_data.patches.gather import compiled_loop, gather, gather_fast
from astrid_data.patches.map_loops import target_maps
from astrid_data.patches.target_maps import target_map
from astrid_data.sky import sky_separation_arcsec
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.service import StoreDenied, StoreUnreachable

SAMPLE = Path(astrid_data.__file__).parent / 'sample'
SHARED = Path(__file__).parents[2] / 'shared' / 'data'


def header(ny, nx, ra=150.0, dec=2.0, scale=1.0, **cards):
    h = fits.Header(
        dict(
            CTYPE1='RA---TAN',
            CTYPE2='DEC--TAN',
            CRVAL1=ra,
            CRVAL2=dec,
            CRPIX1=nx / 2 + 0.5,
            CRPIX2=ny / 2 + 0.5,
            CD1_1=-scale / 3600,
            CD1_2=0.0,
            CD2_1=0.0,
            CD2_2=scale / 3600,
            TELESCOP='Pretend',
            RADESYS='ICRS',
        )
    )
    h.update(cards)
    return h


def as_fits(*hdus):
    f = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(f)
    return f.getvalue()


def image_of(data, h=None):
    return open_image(as_fits(fits.PrimaryHDU(data, h)))


def oracle(a, x, y, size):
    "What `Cutout2D` gives, asked by the centre of the same square"
    mx, my = np.floor(x + 0.5), np.floor(y + 0.5)
    at = mx - size // 2 + (size - 1) / 2, my - size // 2 + (size - 1) / 2
    try:
        return Cutout2D(a, at, size, mode='partial', fill_value=np.nan).data
    except NoOverlapError:
        return np.full((size, size), np.nan, 'f4')


halves = st.integers(-60, 160).map(lambda k: k / 2)
NUMBERS = np.random.default_rng(0).normal(size=(31, 47)).astype('f4')
NUMBERS[20:23, 5:9], NUMBERS[3, 40] = np.nan, np.inf
IMAGE = image_of(NUMBERS)
CLEAN = np.where(np.isfinite(NUMBERS), NUMBERS, np.float32(np.nan))


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(halves | st.floats(-30, 80), halves | st.floats(-30, 80)), min_size=1, max_size=40
    ),
    st.integers(1, 40),
)
def test_same_pixels_as_cutout2d(at, size):
    x, y = np.array(at, float).T
    p = cut_patches(IMAGE, x, y, size)
    for k in range(len(x)):
        assert_array_equal(p.data[k], oracle(CLEAN, x[k], y[k], size))
    assert_array_equal(p.valid, np.isfinite(p.data))
    assert_allclose(p.valid_fraction, p.valid.mean((1, 2)))
    inside = (x >= -0.5) & (x < 46.5) & (y >= -0.5) & (y < 30.5)
    assert_array_equal(p.status & STATUS['off_image'] == 0, inside)


@pytest.mark.parametrize('size', [4, 5])
def test_every_place_along_the_edges(size):
    x = np.concatenate([np.arange(-6, 54), np.full(43, 20)]).astype(float)
    y = np.concatenate([np.full(60, 15), np.arange(-6, 37)]).astype(float)
    p = cut_patches(IMAGE, x, y, size)
    for k in range(len(x)):
        assert_array_equal(p.data[k], oracle(CLEAN, x[k], y[k], size))
    assert_array_equal(
        p.status & STATUS['off_image'] == 0, (x >= 0) & (x < 47) & (y >= 0) & (y < 31)
    )
    whole = (p.x0 >= 0) & (p.y0 >= 0) & (p.x0 + size <= 47) & (p.y0 + size <= 31)
    assert_array_equal(p.status & STATUS['edge'] == 0, whole)


@settings(max_examples=300)
@given(st.floats(-1e8, 1e8) | halves, st.integers(1, 101))
def test_the_middle_holds_the_position(x, size):
    x0, off = corners([x], size)
    assert -0.5 <= off[0] < 0.5
    assert_allclose(x0[0] + size // 2 + off[0], x, rtol=0, atol=1e-7)


def test_half_pixels_go_one_way():
    assert corners([-0.5, 0.5, 1.5, 2.5, np.nextafter(10.5, 0)], 3)[0].tolist() == [-1, 0, 1, 2, 9]


@pytest.mark.parametrize('kind', ['>f4', '>f8', '>i2', 'u2', 'u4', 'u1', 'i1', '>i4'])
def test_every_kind_of_number(kind):
    a = np.random.default_rng(1).integers(0, 100, (40, 50)).astype(kind)
    if kind == 'u2':
        a[5, 5] = 65535
    p = cut_patches(image_of(a), [10.2, 0, 49], [10, 0, 39.4], 9)
    assert p.data.dtype == np.float32 and p.data.dtype.isnative
    for k, (x, y) in enumerate([(10.2, 10), (0, 0), (49, 39.4)]):
        assert_array_equal(p.data[k], oracle(a.astype('f4'), x, y, 9))


def test_scaled_integers_with_blank():
    hdu = fits.PrimaryHDU(np.arange(400, dtype='i2').reshape(20, 20))
    hdu.header.update(BSCALE=0.5, BZERO=7.0, BLANK=42)
    raw = as_fits(hdu)
    truth = (np.arange(400) * 0.5 + 7).astype('f4').reshape(20, 20)
    truth[2, 2] = np.nan
    for n in (1, 30):  # Patch by patch, and from the decoded image
        p = cut_patches(open_image(raw), np.full(n, 2.0), np.full(n, 3.0), 8)
        assert_array_equal(p.data[-1], oracle(truth, 2, 3, 8))


def test_quality_plane_counts_whole_or_piecewise():
    sci = np.random.default_rng(2).normal(size=(64, 64)).astype('f4')
    dq = np.zeros((64, 64), 'i2')
    dq[30, 30:34], dq[10, 10] = (
        4,
        4096,
    )  # A bad detector pixel; a cosmic ray, which is no reason to distrust a pixel's neighbours
    top = fits.PrimaryHDU(header=fits.Header(dict(TELESCOP='HST', INSTRUME='ACS')))
    raw = as_fits(top, fits.ImageHDU(sci, header(64, 64), name='SCI'), fits.ImageHDU(dq, name='DQ'))
    few, many = (
        cut_patches(open_image(raw), np.full(n, 31.0), np.full(n, 30.0), 16) for n in (2, 60)
    )
    assert_array_equal(few.data[0], many.data[-1])
    assert_array_equal(few.valid[0], many.valid[-1])
    assert (
        (~few.valid[0]).sum() == 4
        and not few.valid[0][8, 7]
        and few.valid_fraction[0] == many.valid_fraction[0] == 252 / 256
    )


def test_positions_that_are_none_cost_nothing_else():
    p = cut_patches(IMAGE, [5, np.nan, np.inf, 1e300, -1e300, 6], [5, 1, 1, 1, 1, 6], 3)
    bad, off, edge = STATUS['bad_position'], STATUS['off_image'], STATUS['edge']
    assert p.status.tolist() == [0, bad, bad, off + edge, off + edge, 0]
    assert np.isnan(p.data[1:5]).all() and p.valid[[0, 5]].all()


@pytest.mark.parametrize('size', [0, -3, 2.5])
def test_a_size_must_be_one(size):
    with pytest.raises(BadInput, match='size'):
        cut_patches(IMAGE, [1], [1], size)


def test_writes_where_it_is_told():
    out, valid = np.zeros((3, 2, 5, 5), 'f4'), np.zeros((3, 2, 5, 5), bool)
    p = cut_patches(IMAGE, [5, 6, 7], [5, 6, 7], 5, out[:, 1], valid[:, 1])
    assert np.shares_memory(p.data, out) and np.shares_memory(p.valid, valid)
    assert_array_equal(out[:, 1], cut_patches(IMAGE, [5, 6, 7], [5, 6, 7], 5).data)
    assert not out[:, 0].any()


# The compiled loop, with the simple one as its oracle ----------------------------------------------------------------

compiled = pytest.mark.skipif(
    compiled_loop() is None, reason="numba, of the extra 'fast', is not installed"
)
positions = st.lists(
    st.tuples(
        halves | st.floats(-90, 150) | st.sampled_from([np.nan, np.inf, -1e300]),
        halves | st.floats(-90, 150),
    ),
    min_size=1,
    max_size=30,
)
odd_numbers = [
    np.nan,
    -np.nan,
    np.inf,
    -np.inf,
    images.no_value,
    -images.no_value,
    np.nextafter(images.no_value, np.float32(0)),
    -0.0,
    1e-42,
]


@st.composite
def stored_images(draw):
    "An image as it lies in a file, and what its quality plane calls bad"
    shape, kind = (
        draw(st.tuples(st.integers(1, 60), st.integers(1, 60))),
        draw(st.sampled_from(['>f4', '<f4', '>f8', '>i2', '>i4', 'u1', 'turned', 'strided'])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    a = rng.normal(scale=1000, size=shape).astype(kind if kind[-2] in 'fiu' else '>f4')
    if a.dtype.kind == 'f' and draw(st.booleans()):
        a[rng.random(shape) < 0.01] = rng.choice(np.array(odd_numbers, 'f4'))
    a = dict(turned=a.T, strided=np.repeat(a, 2, 1)[:, ::2]).get(kind, a)
    return a, draw(
        st.none() | st.sampled_from([0, 0.05, 1]).map(lambda share: rng.random(a.shape) < share)
    )


@compiled
@settings(max_examples=300)
@given(
    stored_images(),
    st.lists(st.tuples(st.integers(-80, 80), st.integers(-80, 80)), max_size=30),
    st.integers(1, 41),
    st.booleans(),
)
def test_compiled_loop_gives_the_same_bits(image, at, size, apart):
    (pixels, bad), n = image, len(at)
    x0, y0 = np.array(at, 'i8').reshape(-1, 2).T
    outs = []
    for f in (gather, gather_fast):
        out, valid = np.full((n, 3, size, size), 7, 'f4'), np.zeros((n, 3, size, size), bool)
        if not apart:
            out, valid = out[:, :1].copy(), valid[:, :1].copy()
        share = f(
            pixels, bad, x0, y0, size, out[:, -1], valid[:, -1]
        )  # With `apart`, into one channel of several
        outs.append((out.tobytes(), valid.tobytes(), share.tobytes()))
    assert outs[0] == outs[1]


@compiled
@settings(max_examples=100)
@given(
    st.sampled_from(['f4', 'f8', 'u2', 'u4', 'i1', 'i2', 'scaled', 'dq']),
    positions,
    st.integers(1, 33),
    st.integers(0, 9),
)
def test_compiled_or_not_patches_are_the_same(kind, at, size, seed):
    "From files: big-endian, unsigned integers by BZERO, BSCALE and BLANK, a quality plane; positions anywhere or nowhere"
    rng, (x, y) = np.random.default_rng(seed), np.array(at, float).T
    a = rng.integers(0, 120, (31, 47)).astype(
        kind if kind not in ('scaled', 'dq') else 'i2' if kind == 'scaled' else 'f4'
    )
    hdus = [fits.PrimaryHDU(a)]
    if kind == 'scaled':
        hdus[0].header.update(BSCALE=0.5, BZERO=3.0, BLANK=int(a[0, 0]))
    if kind == 'dq':
        top = fits.PrimaryHDU(header=fits.Header(dict(TELESCOP='HST', INSTRUME='ACS')))
        hdus = [
            top,
            fits.ImageHDU(a, name='SCI'),
            fits.ImageHDU(rng.choice([0, 0, 4, 256], a.shape).astype('i2'), name='DQ'),
        ]
    with open_image(as_fits(*hdus)) as image:
        one, other = (cut_patches(image, x, y, size, compiled=c) for c in (False, True))
    for k in ('data', 'valid', 'x0', 'y0', 'offset_x', 'offset_y', 'status', 'valid_fraction'):
        assert_array_equal(getattr(one, k), getattr(other, k), err_msg=k)
    assert_array_equal(one.valid.mean((1, 2)), one.valid_fraction)


# Planted stars -------------------------------------------------------------------------------------------------------


def sip_header(**kw):
    h = header(200, 240, scale=0.5, **kw)
    h.update(
        CTYPE1='RA---TAN-SIP',
        CTYPE2='DEC--TAN-SIP',
        A_ORDER=2,
        B_ORDER=2,
        A_2_0=8e-5,
        A_1_1=-3e-5,
        B_0_2=-6e-5,
        B_2_0=5e-5,
    )
    return h


def tpv_header():
    h = header(200, 240, scale=0.5)
    h.update(
        CTYPE1='RA---TPV',
        CTYPE2='DEC--TPV',
        PV1_0=0.0,
        PV1_1=1.0,
        PV1_2=0.001,
        PV1_4=0.6,
        PV2_0=0.0,
        PV2_1=1.0,
        PV2_2=-0.001,
        PV2_4=0.3,
    )
    return h


def pc_header():
    h = header(200, 240)
    for k in ('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'):
        del h[k]
    c, s = np.cos(0.6), np.sin(0.6)
    h.update(CDELT1=-0.5 / 3600, CDELT2=0.5 / 3600, PC1_1=c, PC1_2=-s, PC2_1=s, PC2_2=c)
    return h


SKIES = dict(
    tan=header(200, 240),
    wrap=header(200, 240, ra=0.0, dec=1.0),
    pole=header(200, 240, ra=10.0, dec=89.99, scale=2.0),
    south_pole=header(200, 240, ra=200.0, dec=-89.98, scale=2.0),
    flipped=header(200, 240, CD1_1=1 / 3600),
    north_down=header(200, 240, CD2_2=-1 / 3600),
    sip=sip_header(),
    sip_wrap=sip_header(ra=0.0),
    tpv=tpv_header(),
    pc=pc_header(),
    fk5=header(200, 240, RADESYS='FK5', EQUINOX=2000.0),
    galactic=header(200, 240, CTYPE1='GLON-TAN', CTYPE2='GLAT-TAN', RADESYS=''),
)
AWKWARD = [
    (100.49, 80),
    (100, 79.5),
    (100.5, 80.5),
    (0, 100),
    (239.4, 100),
    (100, -0.49),
    (0, 0),
    (239.4, 199.4),
    (-0.4, 199),
    (120.2, 100.3),
]


@pytest.mark.parametrize('size', [32, 33])
@pytest.mark.parametrize('name', SKIES)
def test_planted_star(name, size):
    x, y = np.array(AWKWARD).T
    yy, xx = np.mgrid[:200, :240]
    sky = sum(
        1000 * np.exp(-((xx - a) ** 2 + (yy - b) ** 2) / 6) for a, b in AWKWARD[:1] + AWKWARD[3:]
    ).astype('f4')
    raw = as_fits(fits.PrimaryHDU(sky, SKIES[name]))
    image = open_image(raw)
    ra, dec = image.pixel_to_world(x, y)
    t = pd.DataFrame(
        dict(sample_key=[str(i) for i in range(len(x))], ra=ra, dec=dec, image_uri='sky')
    )
    got = extract_patches(t, size, open=lambda *a: open_image(raw), min_valid_fraction=0)
    assert got.kept.all()
    for k, (a, b) in enumerate(AWKWARD):
        x0, y0 = int(got.info['x0'][k]), int(got.info['y0'][k])
        assert (
            abs(got.info['offset_x'][k] + x0 + size // 2 - a) < 0.01
            and abs(got.info['offset_y'][k] + y0 + size // 2 - b) < 0.01
        )
        # The full WCS, moved: the star is where the offset says, by the route from pixels to the sky, which needs no inversion
        u, v = size // 2 + got.info['offset_x'][k], size // 2 + got.info['offset_y'][k]
        back = images.pixel_to_sky(patch_wcs(image, x0, y0), u, v)
        scale = image.pixel_scale_arcsec
        assert sky_separation_arcsec(*back, ra[k], dec[k]) < 0.05 * scale
        d = got.data[k, 0]
        outside = np.fromfunction(
            lambda j, i: (i + x0 < 0) | (i + x0 > 239) | (j + y0 < 0) | (j + y0 > 199), (size, size)
        )
        assert_array_equal(np.isnan(d), outside)
        assert_array_equal(
            d[~outside],
            np.array(
                [sky[j + y0, i + x0] for j in range(size) for i in range(size) if not outside[j, i]]
            ),
        )
        if k not in (1, 2):
            near = np.nan_to_num(d)[size // 2 - 1 : size // 2 + 2, size // 2 - 1 : size // 2 + 2]
            assert (
                near.max()
                == np.nan_to_num(d)[
                    size // 2 - 4 : size // 2 + 5, size // 2 - 4 : size // 2 + 5
                ].max()
            )


def lookup_image():
    "An image whose x is off by up to 4 pixels, told by a coarse table"
    table = (np.add.outer(np.linspace(0, 2, 12), np.linspace(-2, 2, 15) ** 2 / 2)).astype('f4')
    w = WCS(header(200, 240, scale=0.5), naxis=2)
    w.cpdis1 = DistortionLookupTable(table, (1.0, 1.0), (3.0, 5.0), (17.0, 18.0))
    w.cpdis2 = DistortionLookupTable(-table / 2, (2.0, 1.0), (20.0, 5.0), (17.0, 18.0))
    hdul = w.to_fits()
    hdul[0] = fits.PrimaryHDU(
        np.random.default_rng(3).normal(size=(200, 240)).astype('f4'), hdul[0].header
    )
    hdul[0].header.update(TELESCOP='Pretend', EXTEND=True)
    f = io.BytesIO()
    hdul.writeto(f)
    return f.getvalue()


def test_lookup_tables_move_along():
    image = open_image(lookup_image())
    assert image.wcs.cpdis1 is not None
    x, y = np.random.default_rng(4).uniform([[0], [0]], [[239], [199]], (2, 40))
    ra, dec = image.pixel_to_world(x, y)
    assert (
        np.abs(
            np.subtract(
                image.wcs.wcs_world2pix(np.column_stack([ra, dec]), 0), np.column_stack([x, y])
            )
        ).max()
        > 1
    )  # There is something to get wrong
    fx, fy, why = locate(image, ra, dec)
    assert (why == '').all() and np.hypot(fx - x, fy - y).max() < 0.05
    for a, b, r, d in zip(fx, fy, ra, dec):
        x0, y0 = corners([a], 21)[0][0], corners([b], 21)[0][0]
        assert (
            sky_separation_arcsec(
                *images.pixel_to_sky(patch_wcs(image, x0, y0), a - x0, b - y0), r, d
            )
            < 0.05 * 0.5
        )


def test_a_distortion_that_cannot_be_undone():
    "Far from the field the polynomial turns back on itself: such positions are lost with that reason, and no error"
    h = sip_header()
    h.update(A_2_0=6e-3, B_0_2=6e-3)
    image = image_of(np.zeros((200, 240), 'f4'), h)
    ra, dec = image.pixel_to_world(np.array([100.0, 120]), np.array([100.0, 90]))
    flat = WCS(h, naxis=2).wcs_pix2world([[-30, 20], [10, 190], [220, 10]], 0)
    x, y, why = locate(image, [*ra, *flat[:, 0], 330], [*dec, *flat[:, 1], -2])
    assert why[:2].tolist() == ['', ''] and why[-1] == 'off_image'
    assert 'wcs_no_convergence' in why[2:5].tolist()
    assert np.isnan(x[why != '']).all()


# Many images ---------------------------------------------------------------------------------------------------------


def tiles(folder, n=4, ny=80, nx=100):
    "Files, and a table of samples in mixed order"
    rng, rows = np.random.default_rng(5), []
    for i in range(n):
        h = header(ny, nx, ra=20.0 + i)
        fits.PrimaryHDU(rng.normal(size=(ny, nx)).astype('f4'), h).writeto(folder / f't{i}.fits')
        ra, dec = WCS(h).all_pix2world(rng.uniform(-3, 103, 40), rng.uniform(-3, 83, 40), 0)
        rows.append(pd.DataFrame(dict(ra=ra, dec=dec, image_uri=str(folder / f't{i}.fits'))))
    t = pd.concat(rows).sample(frac=1, random_state=0).reset_index(drop=True)
    return t.assign(sample_key=[f'{i:03d}' for i in range(len(t))])


def test_executors_and_outputs_agree(tmp_path):
    t = tiles(tmp_path)
    plain = extract_patches(t, 16)
    assert np.isnan(plain.data[~plain.kept]).all() and not plain.valid[~plain.kept].any()
    assert set(plain.ledger['reason']) == {'off_image', 'too_little_valid'}
    assert len(plain.ledger) == (~plain.kept).sum() and len(t) == plain.kept.sum() + len(
        plain.ledger
    )
    seen, out, valid = (
        [],
        np.full((len(t), 1, 16, 16), 7, 'f4'),
        np.zeros((len(t), 1, 16, 16), bool),
    )
    extract_patches(t, 16, data_out=out, valid_out=valid, on_image=seen.append)
    assert sum(seen) == len(t) and len(seen) == 4
    assert_array_equal(out, plain.data)
    ordered = t.sort_values(
        'image_uri', kind='stable'
    )  # Images in a row are cut straight into the output
    assert_array_equal(extract_patches(ordered, 16).data, plain.data[ordered.index])
    for pool in (ThreadPoolExecutor(2), ProcessPoolExecutor(2, mp_context=get_context('spawn'))):
        with pool:
            again = extract_patches(t, 16, executor=pool)
        assert_array_equal(again.data, plain.data)
        pd.testing.assert_frame_equal(again.info, plain.info)
        pd.testing.assert_frame_equal(again.ledger, plain.ledger)


def test_processes_decompress_the_same(tmp_path):
    t, open = (
        tiles(tmp_path).sort_values('image_uri', ignore_index=True),
        HeaderCache(),
    )  # In a row, as threads cut them straight into the output
    for path in t['image_uri'].unique():
        with fits.open(path) as f:
            packed = fits.CompImageHDU(
                f[0].data,
                f[0].header,
                compression_type='RICE_1',
                tile_shape=(1, f[0].data.shape[1]),
            )
        packed.writeto(path, overwrite=True)
    plain = extract_patches(t, 16, open=open)
    with ProcessPoolExecutor(2, mp_context=get_context('spawn')) as pool:
        again = extract_patches(t, 16, open=open, executor=pool)
    assert plain.kept.sum() > 100 and np.isfinite(plain.data[plain.kept]).mean() > 0.9
    assert_array_equal(again.data, plain.data)
    assert_array_equal(again.valid, plain.valid)
    pd.testing.assert_frame_equal(again.info, plain.info)


def test_one_call_an_image(tmp_path, monkeypatch):
    t, opened, asked = tiles(tmp_path), [], []

    def opener(uri, hdu, extver):
        opened.append(uri)
        return open_image(uri, hdu, extver)

    real = images.sky_to_pixel
    monkeypatch.setattr(images, 'sky_to_pixel', lambda *a, **k: asked.append(1) or real(*a, **k))
    extract_patches(t, 16, open=opener)
    assert len(opened) == len(asked) == 4


def test_a_bad_image_costs_its_own_samples_only(tmp_path):
    t = tiles(tmp_path)
    whole = extract_patches(t, 16)
    raw = (tmp_path / 't1.fits').read_bytes()
    (tmp_path / 't1.fits').write_bytes(raw[: len(raw) // 3])
    (tmp_path / 't2.fits').unlink()
    got = extract_patches(t, 16)
    hurt = t['image_uri'].str.contains('t1|t2').to_numpy()
    assert not got.kept[hurt].any()
    assert_array_equal(got.kept[~hurt], whole.kept[~hurt])
    assert_array_equal(got.data[~hurt], whole.data[~hurt])
    reason = got.ledger.set_index('sample_key')['reason'][t['sample_key'][hurt]]
    assert set(reason) == {'truncated', 'missing_file'}
    assert set(got.ledger) == {'sample_key', 'uri', 'reason', 'detail'}


@pytest.mark.parametrize(
    'error, reason',
    [
        (NotFound('no key'), 'missing_file'),
        (BadImage('bad_wcs', 'x'), 'bad_wcs'),
        (OSError('disk'), 'unreadable'),
        (StoreDenied('no right'), 'denied'),
        (StoreUnreachable('no answer'), 'unreachable'),
    ],
)
def test_errors_of_openers_become_reasons(error, reason):
    def opener(*a):
        raise error

    t = pd.DataFrame(dict(sample_key=['a'], ra=[1.0], dec=[1.0], image_uri=['x']))
    assert extract_patches(t, 8, open=opener).ledger['reason'].tolist() == [reason]


def test_mistakes_in_code_are_not_swallowed():
    def opener(*a):
        raise TypeError('a mistake')

    t = pd.DataFrame(dict(sample_key=['a'], ra=[1.0], dec=[1.0], image_uri=['x']))
    with pytest.raises(TypeError):
        extract_patches(t, 8, open=opener)


def test_triplets_of_stamps_and_edge_stamps():
    rng = np.random.default_rng(6)
    shapes = dict(template=(63, 63), science=(63, 63), difference=(63, 50))
    stamp = {k: rng.normal(size=s).astype('f4') for k, s in shapes.items()}
    stamp['science'][:, 60:] = np.nan
    t = pd.DataFrame(
        dict(sample_key=['a', 'b'], ra=1.0, dec=2.0, pixel_x=[31.0, np.nan], pixel_y=31.0)
        | {f'{k}_{c}': v for k in shapes for c, v in dict(uri=k, wcs_state='stamp').items()}
    )
    got = extract_patches(t, 63, tuple(shapes), open=lambda uri, *a: image_of(stamp[uri]))
    assert got.kept.tolist() == [True, False] and got.ledger['reason'].tolist() == ['bad_position']
    for c, k in enumerate(shapes):
        assert_array_equal(got.data[0, c, :, : shapes[k][1]], stamp[k])
    assert np.isnan(got.data[0, 2, :, 50:]).all() and got.info['valid_fraction'][0] == 50 / 63
    assert np.isnan(got.info['pixel_scale_arcsec']).all()


def test_bands_on_one_grid_and_on_two():
    rng = np.random.default_rng(7)
    skies = dict(
        g=(rng.normal(size=(90, 90)), header(90, 90)),
        r=(rng.normal(size=(80, 100)), header(80, 100, CRPIX1=47.8, CRPIX2=43.0)),
        coarse=(rng.normal(size=(90, 90)), header(90, 90, scale=2.0)),
        turned=(rng.normal(size=(90, 90)), header(90, 90, CD1_1=1 / 3600)),
    )

    def t(b):
        return pd.DataFrame(dict(sample_key=['a'], ra=150.0, dec=2.0, g_uri='g', other_uri=b))

    def opener(uri, *a):
        return image_of(skies[uri][0].astype('f4'), skies[uri][1])

    good = extract_patches(t('r'), 21, ('g', 'other'), open=opener)
    assert good.kept[0] and good.info['other_x0'][0] != good.info['g_x0'][0]
    for b in ('coarse', 'turned'):
        assert extract_patches(t(b), 21, ('g', 'other'), open=opener).ledger['reason'].tolist() == [
            'grids_differ'
        ]


@pytest.mark.parametrize(
    'turn, flip, dec', [(0, 1, 2), (30, 1, -40), (200, -1, 89.5), (-75, 1, 60)]
)
def test_how_large_and_which_way_up(turn, flip, dec):
    c, s = 0.4 / 3600 * np.cos(np.radians(turn)), 0.4 / 3600 * np.sin(np.radians(turn))
    h = header(90, 90, dec=dec, CD1_1=-flip * c, CD1_2=s, CD2_1=flip * s, CD2_2=c)
    got = extract_patches(
        pd.DataFrame(dict(sample_key=['a'], ra=150.0, dec=dec, image_uri='x')),
        20,
        open=lambda *a: image_of(np.zeros((90, 90), 'f4'), h),
    ).info
    assert_allclose(got['pixel_scale_arcsec'], 0.4, rtol=1e-3)
    assert abs((got['pixel_pa_deg'][0] - turn + 180) % 360 - 180) < 0.1


def test_no_samples_and_no_channel():
    t = pd.DataFrame(dict(sample_key=[], ra=[], dec=[], image_uri=[]))
    got = extract_patches(t, 8)
    assert got.data.shape == (0, 1, 8, 8) and len(got.info) == len(got.ledger) == 0
    with pytest.raises(BadInput, match='science'):
        extract_patches(t, 8, ('science',))


# Real images ---------------------------------------------------------------------------------------------------------


def grid_of_positions(image, size):
    ny, nx = image.shape
    x, y = np.meshgrid(
        [-size, -3, 0, nx * 0.31, nx * 0.5 + 0.5, nx - 1, nx + size],
        [-size, -1.5, 0, ny * 0.27, ny * 0.5, ny - 1, ny + size],
    )
    return x.ravel(), y.ravel()


def compare(image, size):
    "Patches on a grid that reaches outside, against `Cutout2D`; then by their place on the sky"
    pixels, _ = image.read_all()
    x, y = grid_of_positions(image, size)
    p = cut_patches(image, x, y, size)
    for k in range(len(x)):
        assert_array_equal(p.data[k], oracle(pixels, x[k], y[k], size))
    if image.wcs is None:
        return 0
    at = np.flatnonzero(p.status & STATUS['off_image'] == 0)
    ra, dec = image.pixel_to_world(x[at], y[at])
    fx, fy, why = locate(image, ra, dec)
    ok = why == ''
    back = images.pixel_to_sky
    for a, b, r, d in zip(fx[ok], fy[ok], ra[ok], dec[ok]):
        x0, y0 = corners([a], size)[0][0], corners([b], size)[0][0]
        assert (
            sky_separation_arcsec(*back(patch_wcs(image, x0, y0), a - x0, b - y0), r, d)
            < 0.05 * image.pixel_scale_arcsec
        )
    assert np.hypot(fx[ok] - x[at][ok], fy[ok] - y[at][ok]).max() < 0.05
    return ok.mean()


@pytest.mark.parametrize('path', sorted(SAMPLE.glob('*.fits*')), ids=lambda p: p.name)
def test_sample_images(path):
    for info in [i for i in list_images(path) if not i.support and len(i.shape) == 2]:
        with open_image(path, info.hdu_name, info.ver) as image:
            assert compare(image, 33) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason='no folder of shared data beside the repository')
@pytest.mark.parametrize('folder', ['hst', 'jwst', 'skyview', 'ground'])
def test_shared_images(folder):
    done = 0
    for path in sorted((SHARED / folder).rglob('*.fit*')):
        try:
            found = [
                i
                for i in list_images(path)
                if not i.support and len(i.shape) == 2 and min(i.shape) > 40
            ]
        except BadImage:
            continue
        for info in found[:2]:
            try:
                image = open_image(path, info.hdu_name, info.ver)
            except BadImage:
                continue
            with image:
                compare(image, 32)
            done += 1
    assert done


# Images in a bucket --------------------------------------------------------------------------------------------------


def test_few_patches_of_an_image_in_a_bucket_need_few_of_its_rows(s3, tmp_path, monkeypatch):
    "The same patches and hashes as from the whole file, for a tenth of its bytes; the whole where that is cheaper, cached, or another file than the one that was marked"
    rng, n = np.random.default_rng(9), 4000
    sci, dq = rng.normal(size=(n, 300)).astype('f4'), (rng.random((n, 300)) < 0.01).astype('i2') * 4
    top = fits.PrimaryHDU(header=fits.Header(dict(TELESCOP='HST', INSTRUME='ACS')))
    raw = as_fits(top, fits.ImageHDU(sci, header(n, 300), name='SCI'), fits.ImageHDU(dq, name='DQ'))
    (tmp_path / 'a.fits').write_bytes(raw)
    with open_image(tmp_path / 'a.fits') as image:
        image.sha256
        mark, (ra, dec) = (
            image_index(image),
            image.pixel_to_world(
                np.array([100.0, 290, 5, 40, 150]), np.array([60.0, 2500, 3999, 2510, 4300])
            ),
        )
    settings = Settings(
        s3_endpoint=s3.endpoint, s3_key_id=Secret(s3.key), s3_secret=Secret(s3.secret)
    )
    store, read = S3Store('test', 'rows', settings, DiskCache(tmp_path / 'cache')), []
    real_into, real_fill = S3Store.read_into, S3Store._fill
    monkeypatch.setattr(
        S3Store,
        'read_into',
        lambda self, key, start, out, etag: (
            read.append(len(out)) or real_into(self, key, start, out, etag)
        ),
    )
    monkeypatch.setattr(
        S3Store, '_fill', lambda self, *a: read.append('whole') or real_fill(self, *a)
    )
    store.put('a.fits', raw)
    t = pd.DataFrame(
        dict(
            sample_key=[*'abcde'],
            ra=ra,
            dec=dec,
            image_uri='s3://test/rows/a.fits',
            image_hdu='SCI',
            image_extver=1,
        )
    )

    def cut(t, mark=mark):
        opener = ImageOpener(store)
        opener.images.known = {('s3://test/rows/a.fits', 'SCI', 1): mark} if mark else {}
        read.clear()
        return extract_patches(t, 32, open=opener, min_valid_fraction=0)

    got = cut(t)
    assert 'whole' not in read and len(read) <= 6 and sum(read) < len(raw) / 4
    many = pd.concat([t] * 30, ignore_index=True)
    many['dec'] = np.linspace(dec[2], dec[0], len(many))
    for again, here in [(t, None), (many, mark)]:
        assert len(cut(again, here).kept) == len(again) and read[0] == 'whole'
        for f in (tmp_path / 'cache').glob('*/*'):
            f.unlink()
    whole = cut(t, None)
    assert_array_equal(got.data, whole.data)
    assert_array_equal(got.valid, whole.valid)
    pd.testing.assert_frame_equal(got.info, whole.info)
    assert got.kept.tolist() == [True] * 4 + [False] and not got.valid[1].all()
    cut(t)
    assert read == []  # It is in the cache now
    other = as_fits(
        top, fits.ImageHDU(sci + 1, header(n, 300), name='SCI'), fits.ImageHDU(dq, name='DQ')
    )
    store.put('a.fits', other)
    store._heads.clear()
    store._buckets['test']._heads.clear()
    assert_array_equal(cut(t).data, whole.data + 1)  # Same headers, other pixels
    assert read[0] == 'whole'


@pytest.mark.parametrize('compiled', [True, False])
@pytest.mark.parametrize('kind', ['>f4', '>f8'])
def test_an_error_map_is_gathered_as_it_is_read(kind, compiled, monkeypatch):
    "Missing pixels and errors, edges, and positions far outside"
    rng = np.random.default_rng(2)
    sci, error = rng.normal(50, 3, (2, 90, 80)).astype(kind)
    sci[10:20, 30:40] = np.nan
    error[15:30, 35:60] = np.nan
    error[50, :] = 3.4e38
    error[60:70, :20] = np.inf
    top = fits.PrimaryHDU()
    raw = as_fits(
        top, fits.ImageHDU(sci, header(80, 90), name='SCI'), fits.ImageHDU(error, name='ERR')
    )
    x, y = rng.uniform(-15, 100, (2, 300))
    with open_image(raw) as image:
        assert extract_page._has_plain_error(image)
        fast = cut_patches(image, x, y, 17, compiled=compiled)
        monkeypatch.setattr(extract_page, '_has_plain_error', lambda image: False)
        monkeypatch.setattr(extract_page, '_decode_whole', lambda *asked: False)
        plain = cut_patches(image, x, y, 17)
    for name in ('data', 'valid', 'valid_fraction', 'status'):
        assert_array_equal(getattr(fast, name), getattr(plain, name), strict=True)
    assert 0 < plain.valid.mean() < 0.9


# Target maps ---------------------------------------------------------------------------------------------------------


def star_field(stars, s=41, noise=1.0, sky=50.0, seed=8):
    y, x = np.mgrid[:s, :s]
    a = np.random.default_rng(seed).normal(sky, noise, (s, s)) + sum(
        f * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 5) for u, v, f in stars
    )
    return a.astype('f4')


def test_map_grows_with_the_source_and_follows_it():
    areas = [
        target_map(a, np.ones_like(a, bool), (0, 0), 1).sum()
        for a in (star_field([(20, 20, f)]) for f in (10, 100, 1000))
    ]
    assert 0 < areas[0] < areas[1] < areas[2]
    y, x = np.mgrid[:41, :41]
    long = (star_field([]) + 80 * np.exp(-((x - 20) ** 2 / 120 + (y - 20) ** 2 / 6))).astype(
        'f4'
    )  # A galaxy seen from the side: no disc fits
    ys, xs = np.nonzero(target_map(long, np.ones_like(long, bool), (0, 0), 1))
    assert np.ptp(xs) > 2.5 * np.ptp(ys)


def test_map_leaves_neighbours_out():
    for dx in (6, 8, 12):
        a = star_field([(20, 20, 200), (20 + dx, 22, 600)])
        t = target_map(a, np.ones_like(a, bool), (0, 0), 1)
        assert t[20, 20] == 1 and t[22, 20 + dx] == 0 and t.sum() > 9


def test_map_is_empty_where_nothing_is():
    a = star_field([(5, 5, 900)])
    assert target_map(a, np.ones_like(a, bool), (0, 0), 1).sum() == 0
    for bad in (np.full((41, 41), np.nan, 'f4'), np.ones((41, 41), 'f4')):
        assert target_map(bad, np.isfinite(bad), (0, 0), 1).sum() == 0
    assert target_map(star_field([(20, 20, 500)]), np.ones((41, 41), bool), (0, 0), 0).sum() == 0


def test_map_of_a_hole_and_of_missing_pixels():
    a = star_field([(20, 20, 300)])
    assert_array_equal(
        target_map(-a, np.ones_like(a, bool), (0, 0), 1),
        target_map(a, np.ones_like(a, bool), (0, 0), 1),
    )
    valid = np.ones_like(a, bool)
    valid[:, 22:] = False
    t = target_map(np.where(valid, a, np.nan), valid, (0, 0), 1)
    assert t[20, 20] and not t[~valid].any()


@pytest.mark.parametrize('s', [1, 2, 3, 5])
def test_map_of_tiny_patches(s):
    assert target_map(np.ones((s, s), 'f4'), np.ones((s, s), bool), (0, 0), 1).shape == (s, s)


def crowded(seed, side):
    "A patch with a source near its middle, others beside it, and one of many kinds of damage"
    rng = np.random.default_rng(seed)
    y, x = np.indices((side, side))
    a = rng.normal(100, rng.choice([0, 1, 5]), (side, side))
    for k in range(rng.integers(1, 12)):
        near = rng.normal(side // 2, 1 if k == 0 else 5, 2)
        at = near if k == 0 or rng.random() < 0.5 else rng.uniform(0, side, 2)
        flux = np.exp(rng.uniform(1.5, np.log(rng.choice([30, 300, 1e4, 1e6]))))
        a += flux * np.exp(-((x - at[1]) ** 2 + (y - at[0]) ** 2) / 2 / rng.uniform(0.7, 4) ** 2)
    valid = np.ones(a.shape, bool)
    kind = seed % 9
    if kind == 0:
        valid[rng.random(a.shape) < 0.3] = False
    elif kind == 1:
        valid[:, : side // 3] = False
    elif kind == 2:
        a = 200 - a
    elif kind == 3:
        a = np.round(a / 20) * 20
    elif kind == 4:
        a = np.minimum(a, 150)
    elif kind == 5:
        valid[:] = rng.random() < 0.5
    elif kind == 6:
        a[rng.random(a.shape) < 0.02] = np.nan  # Valid, but not finite
    elif kind == 7:
        a[:] = a.flat[0]
    a = np.where(valid, a, np.nan) if seed % 2 else a
    return a.astype('f4'), valid


def assert_same_maps(patches, valid, labels):
    pytest.importorskip('numba')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        plain = target_maps(patches, valid, labels, compiled=False)
        assert_array_equal(target_maps(patches, valid, labels), plain)
    return plain


@pytest.mark.parametrize('side', [1, 2, 3, 5, 8, 9, 16, 31, 32, 63, 64])
def test_compiled_maps_are_the_same_in_every_pixel(side):
    patches, valid = map(np.array, zip(*(crowded(side + 100 * k, side) for k in range(90))))
    maps = assert_same_maps(patches, valid, np.arange(90) % 5)
    assert side < 16 or maps.any((1, 2)).sum() > 15


@pytest.mark.parametrize('at', [0, 63, 64, 70, 79])
def test_a_pixel_that_is_not_finite_moves_no_other_map(at):
    "Patches are drawn 64 at a time; one that the loops leave out is found again among all"
    patches, valid = map(np.array, zip(*(crowded(4 + 9 * k, 32) for k in range(80))))
    patches, valid = np.nan_to_num(patches, nan=100), np.ones(valid.shape, bool)
    usual = target_maps(patches, valid, np.ones(80))
    patches[at, 2, 3] = np.inf
    maps = assert_same_maps(patches, valid, np.ones(80))
    others = np.arange(80) != at
    assert_array_equal(maps[others], usual[others])
    assert len(np.unique(usual, axis=0)) > 40


def answer(function, *args, **options):
    "What a function gives, or the kind and the words of its error"
    try:
        return function(*args, **options)
    except Exception as error:  # noqa: BLE001 (whatever it is, both say it)
        return type(error), str(error)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'options',
    [
        *(dict(nsigma=nsigma) for nsigma in (0, -1, -1e9, 1e-50, np.nan, np.inf)),
        *(dict(npixels=npixels) for npixels in (0, -3, 2.5, np.int16(3), np.nan)),
        dict(nsigma=0, npixels=0),
    ],
    ids=str,
)
def test_thresholds_that_make_no_sense_have_one_answer(options):
    pytest.importorskip('numba')
    patches, valid = map(np.array, zip(*(crowded(k, 16) for k in range(30))))
    patches = np.nan_to_num(patches, nan=100)  # What is not finite goes the plain way anyhow,
    valid[:] = True  # and so does what is not there
    fast, plain = (
        answer(target_maps, patches, valid, np.arange(30) % 3, compiled=compiled, **options)
        for compiled in (True, False)
    )
    assert type(fast) is type(plain)
    assert_array_equal(fast, plain)


@pytest.mark.parametrize('file', ['47tuc_acs_hrc_f606w', 'm13_skyview', 'crab_ukidss_k'])
def test_compiled_maps_of_real_images_are_the_same(file):
    "Crowded fields, resampled sky and a nebula; of each two channels, one a hole"
    with open_image(SAMPLE / f'{file}.fits.gz') as image:
        pixels, bad = image.read_all()
    rng = np.random.default_rng(5)
    inner = np.nan_to_num(pixels)[24:-24, 24:-24]
    bright = np.argwhere(inner > np.quantile(inner, 0.98))
    corner = rng.permutation(bright)[:150]
    cut = [np.s_[y : y + 48, x : x + 48] for y, x in corner]
    patches = np.array([pixels[piece] for piece in cut], 'f4')
    patches[::5] *= -1
    maps = assert_same_maps(patches, np.array([~bad[piece] for piece in cut]), np.ones(len(cut)))
    assert maps.any((1, 2)).sum() > 10


@pytest.mark.parametrize('n, whole', [(1, False), (6, True)])
def test_a_compressed_image_is_read_whole_where_its_tiles_are_most_of_it(n, whole, monkeypatch):
    "Tiles are rows here: a patch of 20 needs 20 of 100 rows"
    from astrid_data.images.planes import Plane

    raw, read = io.BytesIO(), []
    px = np.random.default_rng(0).normal(100, 5, (100, 300)).astype('f4')
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU(
                px, name='SCI', compression_type='GZIP_1', quantize_level=0, tile_shape=(1, 300)
            ),
        ]
    ).writeto(raw)
    cut = Plane.cut
    monkeypatch.setattr(Plane, 'cut', lambda self, *a: (read.append(a), cut(self, *a))[1])
    with open_image(raw.getvalue(), 'SCI') as image:
        read.clear()
        got = cut_patches(image, np.linspace(30, 250, n), np.linspace(15, 80, n), 20)
    assert (len(read) == 0) == whole
    for k in range(n):
        np.testing.assert_array_equal(
            got.data[k], px[got.y0[k] : got.y0[k] + 20, got.x0[k] : got.x0[k] + 20]
        )
