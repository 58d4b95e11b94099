"Images: every oddity of real files reads rightly or raises with the true reason"

import bz2
import gzip
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from astrid_data.core import BadImage, BadInput
from astrid_data.images.flags import DQ_FLAGS, bad_bits
from astrid_data.images.hdus import list_images
from astrid_data.images.headers import read_header_facts
from astrid_data.images.image import open_image
from astrid_data.images.times import end_of_exposure
from astrid_data.images.units import kind_of_unit, parse_unit

pytestmark = pytest.mark.filterwarnings('ignore')
WCS_CARDS = dict(
    CTYPE1='RA---TAN',
    CTYPE2='DEC--TAN',
    CRVAL1=150.1,
    CRVAL2=2.2,
    CRPIX1=10.0,
    CRPIX2=12.0,
    CD1_1=-1e-4,
    CD1_2=0.0,
    CD2_1=0.0,
    CD2_2=1e-4,
    RADESYS='ICRS',
)


def fits_bytes(*hdus):
    out = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(out)
    return out.getvalue()


def header(**kw):
    h = fits.Header()
    for k, v in (WCS_CARDS | kw).items():
        if v is not None:
            h[k.replace('__', '-')] = v
    return h


def astropy_says(source, index):
    "The simple version as oracle: the whole image through astropy"
    with fits.open(io.BytesIO(source) if isinstance(source, bytes) else source) as h:
        return np.asarray(h[index].data).astype('f8')


def same(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-7, equal_nan=True)


# --- every file of the shared folder ---

AMBIGUOUS = {
    'hst/goodsn_acs_3band_mef.fits': ['1', '2', '3'],
    'jwst/a2744_niriss_f115w_grizli_beams.fits.gz': ['1', '3', '8', '10'],
    'ground/cosmos_hsc_grizy_a.fits': [f'PRIMARY[{i}]' for i in range(5)],
    'ground/pysersic_decals_grz.fits.gz': ['1', '3', '5'],
}
NO_WCS = {
    'traps/ccd_raw_no_wcs_a8280271.fits.gz': 'no_wcs',
    'ground/kids_r_G278109_segim.fits.gz': 'no_wcs',
    'traps/jwst_star_dummy_wcs.fits': 'bad_wcs',
    'traps/sdss_stale_wcs_r.fits.gz': 'bad_wcs',
}
NO_TIME = {
    'jwst/a2744_nircam_f200w_epoch1_jw01324.fits': 'contradict',
    'jwst/a2744_nircam_f200w_epoch2_jw02561.fits': 'contradict',
    'traps/hst_wfpc2_m51_decra_swapped.fits.gz': 'contradict',
    'skyview/dss_hd219829.fits': 'not a time',
    'ground/cosmos_hsc_grizy_a.fits': 'placeholder',
}
BANDS = {
    'hst/47tuc_acs_hrc_f606w_j8bt06nyq_flt_crop512.fits.gz': 'F606W',
    'hst/n5419_wfpc2_pc_f555w.fits': 'F555W',
    'hst/xdf_hudf_wfc3ir_f105w_sci.fits': 'F105W',
    'hst/cosmos_acs_f814w_100610.fits': 'F814W',
    'jwst/a2744_nircam_f200w_epoch1_jw01324.fits': 'F200W',
    'skyview/wise_w3_w5.fits.gz': 'W3',
    'skyview/2mass_k_galcentre.fits.gz': 'K',
    'skyview/dss_m1_poss.fits': 'E',
    'skyview/dss_acen_100.fits.gz': 'J',
    'ground/snhost_ps1_z.fits': 'z',
    'ground/snhost_des_r.fits.gz': 'r',
    'ground/decam_tc4/tc4_c4d_180212_083009_ooi_z_ls9.N3.fits': 'z',
    'ground/cfht_megacam_g_101.fits': 'g',
    'ground/ukidss_k_crab.fits': 'K',
    'ground/vista_h_epoch1.fits': 'H',
    'ground/spitzer_irac_m51_sn2005cs_sip.fits': 'I1',
    'skyview/sdss_r_frame_crop100.fits.bz2': 'r',
    'ground/ctio_mosaic2_I_tpv.fits.gz': 'I',
    'hst/aegis_11051203_acs_f606w.fits': None,
    'skyview/galex_nuv_g202627.fits': None,
    'skyview/m13_skyview_2mass.fits': None,
}


def image_files(shared_data):
    import pandas as pd

    m = pd.read_csv(shared_data / 'manifest.csv')
    return m[~m.file.str.startswith(('alerts/', 'answers/', 'catalogs/'))]


def test_every_shared_file_reads_rightly_or_says_why(shared_data):
    table = image_files(shared_data)
    assert len(table) > 80
    for row in table.itertuples():
        path, name = shared_data / row.file, row.file
        if name == 'traps/truncated_header_m51hst.fits.gz':
            with pytest.raises(BadImage, match='END card') as e:
                open_image(path)
            assert e.value.reason == 'truncated'
            continue
        if name in AMBIGUOUS:
            with pytest.raises(BadImage) as e:
                open_image(path)
            assert e.value.reason == 'ambiguous_hdu', name
        for hdu in AMBIGUOUS.get(name, [None]):
            with open_image(path, hdu=hdu) as im:
                check_against_astropy(path, im, name)
                assert im.hdu_name == (hdu or im.hdu_name) and im.sha256 == row.sha256
                with open_image(path, hdu=im.hdu_name, extver=im.hdu_ver) as again:
                    assert repr(again) == repr(im), name  # The name finds it again
                if row.dtype.startswith(('>', 'f', 'u')) and hdu is None:
                    assert im.shape == tuple(int(n) for n in row.shape.split('x')), name
                assert im.wcs_reason == NO_WCS.get(name), (name, im.wcs_reason)
                assert (
                    (im.wcs is None) == ('wcs' in im.missing)
                    and (im.mjd is None) == ('mjd' in im.missing)
                    and (im.band is None) == ('band' in im.missing)
                )
                if name in NO_TIME:
                    assert NO_TIME[name] in im.missing['mjd'], name
                elif (
                    isinstance(row.date_obs, str)
                    and (m := re.search(r'MJD=([\d.]+)', row.date_obs))
                    and im.mjd
                ):
                    assert abs(im.mjd - float(m[1])) < 1, name
                if name in BANDS:
                    assert im.band == BANDS[name], name
                check_positions(im, row, name)


# Columns that saw the sky, by TRIMSEC [17:528,1:520] of a frame as it was read
SEEN = {'traps/ccd_raw_no_wcs_a8280271.fits.gz': np.s_[:, 16:528]}


def check_against_astropy(path, im, name):
    with fits.open(path) as h:
        index = next(i.index for i in list_images(path) if i.hdu_name == im.hdu_name.split('[')[0])
        data = np.asarray(h[index].data).astype('f8')
    if '[' in im.hdu_name:
        data = data[int(im.hdu_name.split('[')[1][:-1])]
    if name in SEEN:
        seen = np.full(data.shape, np.nan)
        seen[SEEN[name]] = data[SEEN[name]]
        data = seen
    px, bad = im.read_all()
    assert px.dtype == np.dtype('f4') and px.dtype.isnative and bad.dtype == bool
    known = im.bad if im.bad is not None else np.zeros(px.shape, bool)
    np.testing.assert_array_equal(bad, ~np.isfinite(data.astype('f4')) | known, err_msg=name)
    np.testing.assert_array_equal(np.isnan(px), bad)
    same(px[~bad], data[~bad])
    ny, nx = im.shape
    part, part_bad = im.read(ny // 3, ny // 3 + 7, nx // 2, nx // 2 + 5)
    np.testing.assert_array_equal(part, px[ny // 3 : ny // 3 + 7, nx // 2 : nx // 2 + 5])
    np.testing.assert_array_equal(part_bad, bad[ny // 3 : ny // 3 + 7, nx // 2 : nx // 2 + 5])
    same(np.asarray(im.pixels)[~bad], data[~bad])


def check_positions(im, row, name):
    if im.wcs is None:
        with pytest.raises(BadImage) as e:
            im.world_to_pixel(1.0, 1.0)
        assert e.value.reason == im.wcs_reason
        return
    ny, nx = im.shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, 7), np.linspace(0, ny - 1, 7))
    ra, dec = im.pixel_to_world(x, y)
    x2, y2 = im.world_to_pixel(ra, dec)
    assert np.hypot(x2 - x, y2 - y).max() < 0.01, (name, np.hypot(x2 - x, y2 - y).max())
    sky = im.wcs.pixel_to_world(x, y).icrs  # Astropy's high-level call
    assert SkyCoord(ra, dec, unit='deg').separation(sky).arcsec.max() < 1e-5, name
    if np.isfinite(row.ra) and np.isfinite(row.dec):
        cx, cy = im.world_to_pixel(row.ra, row.dec)
        assert abs(cx - (nx - 1) / 2) < nx and abs(cy - (ny - 1) / 2) < ny, (name, cx, cy)
    if np.isfinite(row.pixscale_arcsec) and '[' not in im.hdu_name and not im.hdu_name.isdigit():
        assert abs(im.pixel_scale_arcsec / row.pixscale_arcsec - 1) < 0.02, (
            name,
            im.pixel_scale_arcsec,
        )
    foot = im.footprint()
    fx, fy = im.world_to_pixel(*foot.T)
    np.testing.assert_allclose(
        np.column_stack([fx, fy]),
        [[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]],
        atol=0.05,
        err_msg=name,
    )


def test_every_image_that_ships_with_the_package():
    from importlib.resources import files

    sample = sorted(Path(str(files('astrid_data') / 'sample')).glob('*.fits*'))
    assert sample
    for path in sample:
        for info in list_images(path):
            if info.support:
                continue
            with open_image(path, info.hdu_name, info.ver) as im:
                check_against_astropy(path, im, path.name)
                assert im.wcs is not None, (path.name, im.missing)
                ny, nx = im.shape
                x, y = im.world_to_pixel(
                    *im.pixel_to_world(np.array([0, nx - 1]), np.array([0, ny - 1]))
                )
                np.testing.assert_allclose((x, y), [[0, nx - 1], [0, ny - 1]], atol=0.01)


def test_dq_and_weight_of_another_file(shared_data):
    d = shared_data / 'ground/decam_tc4'
    for sci in sorted(d.glob('*_ooi_*')):
        dq_file, w_file = (sci.with_name(sci.name.replace('_ooi_', k)) for k in ('_ood_', '_oow_'))
        with open_image(sci, dq=dq_file, weight=w_file) as im:
            codes = fits.getdata(dq_file, 1)
            np.testing.assert_array_equal(
                im.bad, np.isin(codes, [1, 2, 6]) | ~(fits.getdata(w_file, 1) > 0)
            )
            np.testing.assert_array_equal(im.flag('COSMIC_RAY'), codes == 5)
            np.testing.assert_array_equal(im.flag('SATURATED,BLEED'), np.isin(codes, [3, 4]))
            assert im.dq_policy == 'decam+weight'


def test_hrc_quality_by_name_and_never_by_nonzero(shared_data):
    path = shared_data / 'hst/47tuc_acs_hrc_f606w_j8bt06nyq_flt_crop512.fits.gz'
    dq = fits.getdata(path, 'DQ')
    with open_image(path) as im:
        _, bad = im.read_all()
        np.testing.assert_array_equal(bad, (dq & (1 | 2 | 4 | 8 | 32 | 128 | 512)) != 0)
        assert 0 < bad.sum() < (dq != 0).sum() / 2
        np.testing.assert_array_equal(im.flag('HOT'), (dq & 16) != 0)
        assert im.dq_policy == 'hst/acs' and im.mjd_meaning == 'start'
    with open_image(path, dq_policy='none') as im:
        assert im.bad is None and not im.read_all()[1].any()
    with open_image(path, dq_policy='hst/acs:*') as im:
        np.testing.assert_array_equal(im.bad, (dq & 0x7FFF) != 0)
    with pytest.raises(BadInput, match='no flag'):
        open_image(path, dq_policy='hst/acs:COSMIC')


def test_tnx_is_the_polynomial_of_its_wat_cards(shared_data):
    "wcslib's answer against the polynomial evaluated here (IRAF's TNX: cross-terms 'half', order 4); a plain TAN is 3 arcsec off"
    path = shared_data / 'traps/tnx_wcs_unsupported.fits.gz'
    h = fits.getheader(path)

    def correction(axis, xi, eta):
        c = [
            float(v)
            for v in re.search(
                r'cor = "([^"]*)"', ''.join(h[k].ljust(68) for k in sorted(h[f'WAT{axis}_*']))
            )[1].split()
        ]
        (kind, nx, ny, cross), (x0, x1, y0, y1), c = (int(v) for v in c[:4]), c[4:8], iter(c[8:])
        assert (kind, cross) == (1, 2)

        def cheb(n, v):
            return np.polynomial.chebyshev.chebval(v, [0] * n + [1])

        u, v = (2 * xi - x1 - x0) / (x1 - x0), (2 * eta - y1 - y0) / (y1 - y0)
        return sum(
            next(c) * cheb(m, u) * cheb(n, v)
            for n in range(ny)
            for m in range(max(0, min(nx, max(nx, ny) - n)))
        )

    x, y = np.array([0.0, 399, 200]), np.array([0.0, 399, 20])
    xi, eta = np.array([[h['CD1_1'], h['CD1_2']], [h['CD2_1'], h['CD2_2']]]) @ [
        x + 1 - h['CRPIX1'],
        y + 1 - h['CRPIX2'],
    ]
    t = WCS(naxis=2)
    t.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    t.wcs.crval = [h['CRVAL1'], h['CRVAL2']]
    t.wcs.crpix = [1, 1]
    t.wcs.cdelt = [1, 1]
    t.wcs.radesys = 'FK5'
    want = t.pixel_to_world(xi + correction(1, xi, eta), eta + correction(2, xi, eta)).icrs
    with open_image(path) as im:
        assert SkyCoord(*im.pixel_to_world(x, y), unit='deg').separation(want).arcsec.max() < 1e-6
        assert (
            SkyCoord(*im.pixel_to_world(x, y), unit='deg')
            .separation(t.pixel_to_world(xi, eta).icrs)
            .arcsec.min()
            > 1
        )
    with fits.open(path) as f:
        for k in list(f[0].header['WAT*']):
            del f[0].header[k]
        out = io.BytesIO()
        f.writeto(out, output_verify='fix')
    with open_image(out.getvalue()) as im:
        assert im.wcs_reason == 'unsupported_wcs' and 'WAT' in im.missing['wcs']


def test_lookup_tables_and_sip_matter(shared_data):
    "Pixels off by what the distortion is, when the whole file is not given to the WCS"
    path = shared_data / 'hst/47tuc_acs_distortion_lookup.fits.gz'
    with open_image(path) as im, warnings.catch_warnings():
        ra, dec = im.pixel_to_world(np.array([0.0, 99]), np.array([0.0, 99]))
        with fits.open(path) as h:
            whole, bare = WCS(h['SCI'].header, h), h['SCI'].header.copy()
            for k in list(bare['CPDIS*']) + list(bare['DP*']) + list(bare['D2IM*']):
                del bare[k]
        plain = WCS(bare)
        assert plain.cpdis1 is None and whole.cpdis1 is not None and im.wcs.cpdis1 is not None
        sep = (
            SkyCoord(ra, dec, unit='deg')
            .separation(plain.pixel_to_world([0, 99], [0, 99]).icrs)
            .arcsec
        )
        assert 0.001 < sep.max() < 5
    with open_image(shared_data / 'ground/spitzer_irac_m51_sn2005cs_sip.fits') as im:
        ra, dec = im.pixel_to_world(np.array([0.0, 255]), np.array([0.0, 255]))
        off = im.wcs.wcs_world2pix(ra, dec, 0)
        assert np.hypot(off[0] - [0, 255], off[1] - [0, 255]).max() > 0.5


def test_alert_stamps(shared_data):
    "Each ZTF and Rubin alert in eight: its stamps read, without a sky position"
    pq = pytest.importorskip('pyarrow.parquet')
    n = 0
    for name in ('ztf_dev', 'lsst_dev'):
        table = pq.read_table(shared_data / f'alerts/{name}.parquet')
        table = table.take(list(range(0, len(table), 8)))
        for col in [c for c in table.column_names if c.startswith('cutout')]:
            for blob in table[col].to_pylist():
                if blob is None:
                    continue
                with open_image(blob) as im:
                    px, bad = im.read_all()
                    assert (
                        px.dtype == np.float32
                        and (~bad).any()
                        and im.wcs_state == 'none'
                        and im.wcs_reason == 'no_wcs'
                    )
                    n += 1
    assert n > 125


# --- numbers as FITS stores them ---


@st.composite
def stored(draw):
    "An array as FITS may hold it: any BITPIX, scaling, BLANK, NaN"
    kind = draw(st.sampled_from(['u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'f4', 'f8']))
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    a = (
        rng.normal(50, 30, shape).astype(kind)
        if kind[0] == 'f'
        else rng.integers(0, 200, shape).astype(kind)
    )
    cards = {}
    if kind[0] == 'f' and draw(st.booleans()):
        a[0, 0] = np.nan
    if kind in ('u1', 'i2', 'i4', 'i8'):
        if draw(st.booleans()):
            cards |= dict(
                BSCALE=draw(st.sampled_from([0.5, 2.5, 1e-3])),
                BZERO=draw(st.sampled_from([0.0, 10.5, -3.0])),
            )
        if draw(st.booleans()):
            cards['BLANK'] = int(a[-1, -1])
    return a, cards


@given(stored(), st.sampled_from([bytes, gzip.compress, bz2.compress]), st.booleans())
@example(  # A zero in an image of one column is a number
    (np.array([[94], [6], [151]], 'u1'), {'BSCALE': 0.5, 'BZERO': -3.0}), bytes, False
)
@example((np.array([[17, 154, 130, 87, 86, 171, 17]], 'u1'), {}), bytes, False)  # No two fills
@settings(max_examples=120)
def test_any_stored_number_decodes_as_astropy_says(case, pack, extension):
    a, cards = case
    hdu = fits.ImageHDU(a) if extension else fits.PrimaryHDU(a)
    raw = bytearray(fits_bytes(*([fits.PrimaryHDU(), hdu] if extension else [hdu])))
    at = bytes(raw).rindex(
        b'END' + b' ' * 77
    )  # The scaling is written into the header as stored, since astropy would apply it
    for k, v in cards.items():
        raw[at : at + 80] = f'{k:<8}= {v!r:>20}'.ljust(80).encode()
        at += 80
    raw[at : at + 80] = b'END'.ljust(80)
    want = astropy_says(bytes(raw), int(extension))
    if 'BLANK' in cards:
        want[a == cards['BLANK']] = np.nan  # Astropy overlooks BLANK = 0
    with open_image(pack(bytes(raw))) as im:
        np.testing.assert_allclose(
            np.asarray(im.pixels), want, rtol=3e-7, atol=1e-6, equal_nan=True
        )
        assert im.pixels.dtype.kind == 'f'
        px, bad = im.read_all()
        np.testing.assert_allclose(px, want.astype('f4'), rtol=3e-7, atol=1e-6, equal_nan=True)
        np.testing.assert_array_equal(bad, np.isnan(want))


@pytest.mark.parametrize('kind', ['RICE_1', 'GZIP_1', 'GZIP_2', 'HCOMPRESS_1'])
@pytest.mark.parametrize('dtype', ['i2', 'u2', 'f4'])
def test_tile_compression(kind, dtype, tmp_path):
    a = np.random.default_rng(0).normal(500, 30, (90, 70)).astype(dtype)
    if dtype == 'f4':
        a[3, 4] = np.nan
    path = tmp_path / 'x.fits.fz'
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU(a, header(), compression_type=kind, tile_shape=(30, 35), name='SCI'),
        ]
    ).writeto(path)
    want = astropy_says(path, 1)
    with open_image(path) as im:
        for i in range(50):  # Parts first, the whole later
            px, bad = im.read(i, i + 20, 5, 40)
            np.testing.assert_array_equal(px, want[i : i + 20, 5:40].astype('f4'))
            px[:] = -1  # A copy, early and late: what one reader does to it no other sees
        same(im.read_all()[0], want)
        assert abs(im.wcs.wcs.crval[0] - 150.1) < 1e-9
        assert im.pixels.dtype.isnative


def test_files_are_mapped_and_cut_before_conversion(tmp_path):
    a = np.arange(300 * 200, dtype='f4').reshape(300, 200)
    fits.PrimaryHDU(a, header()).writeto(tmp_path / 'x.fits')
    with open_image(tmp_path / 'x.fits') as im:
        assert (
            im.pixels.dtype == np.dtype('>f4')
            and not im.pixels.flags.owndata
            and not im.pixels.flags.writeable
        )
        px, _ = im.read(10, 20, 30, 50)
        assert (
            px.flags.owndata and px.base is None
        )  # A copy: the big array is not kept alive by a patch
        np.testing.assert_array_equal(px, a[10:20, 30:50])
        for box in ((-1, 5, 0, 5), (0, 301, 0, 5), (0, 5, 190, 201), (9, 3, 0, 5)):
            with pytest.raises(BadInput):
                im.read(*box)
    with pytest.raises(BadInput, match='closed'):
        im.read(0, 1, 0, 1)


def test_uint32_dq_and_the_highest_bit(tmp_path):
    "JWST stores its unsigned flags with an offset of 2^31"
    dq = np.array([[0, 1, 2], [1 << 31, 512, 3]], 'u4')
    first = fits.PrimaryHDU()
    first.header['TELESCOP'] = 'JWST'
    raw = fits_bytes(
        first,
        fits.ImageHDU(np.ones((2, 3), 'f4'), header(), name='SCI'),
        fits.ImageHDU(dq, name='DQ'),
    )
    with open_image(raw) as im:
        np.testing.assert_array_equal(im.bad, [[False, True, False], [True, True, True]])
        np.testing.assert_array_equal(
            im.flag('SATURATED'), [[False, False, True], [False, False, True]]
        )


def test_versions_pair_with_versions():
    "(SCI,2) goes with (DQ,2), and several (SCI) must be chosen from"
    first = fits.PrimaryHDU()
    first.header.update(TELESCOP='HST', INSTRUME='ACS')
    hdus = [first]
    for v in (1, 2):
        hdus += [
            fits.ImageHDU(np.full((4, 4), v, 'f4'), header(), name='SCI', ver=v),
            fits.ImageHDU(np.full((4, 4), 4 * (v - 1), 'i2'), name='DQ', ver=v),
        ]
    raw = fits_bytes(*hdus)
    with pytest.raises(BadImage) as e:
        open_image(raw)
    assert e.value.reason == 'ambiguous_hdu' and 'extver 2' in str(e.value)
    with open_image(raw, 'SCI', 1) as im:
        assert not im.bad.any() and (im.hdu_name, im.hdu_ver) == ('SCI', 1)
    with open_image(raw, 'SCI', 2) as im:
        assert im.bad.all()
    with open_image(raw, extver=2, dq_policy='none') as im:
        assert im.read_all()[0].max() == 2
    for ask in (('ERR', None), ('SCI', 3), (9, None)):
        with pytest.raises(BadImage) as e:
            open_image(raw, *ask)
        assert e.value.reason == 'no_image_hdu'
    table = fits_bytes(
        fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column('a', 'E', array=[1.0])])
    )
    with pytest.raises(BadImage) as e:
        open_image(table)
    assert e.value.reason == 'no_image_hdu'


def test_cubes_need_a_plane():
    cube = np.arange(24.0).reshape(2, 3, 4)
    raw = fits_bytes(fits.PrimaryHDU(cube, header()))
    with pytest.raises(BadImage) as e:
        open_image(raw)
    assert e.value.reason == 'ambiguous_hdu' and 'PRIMARY[0]' in str(e.value)
    with open_image(raw, 'PRIMARY[1]') as im:
        np.testing.assert_array_equal(im.read_all()[0], cube[1])
        assert im.hdu_name == 'PRIMARY[1]'
    with pytest.raises(BadImage):
        open_image(raw, 'PRIMARY[2]')
    with open_image(fits_bytes(fits.PrimaryHDU(cube[:1], header()))) as im:
        np.testing.assert_array_equal(im.read_all()[0], cube[0])  # A plane of one is no cube
    comp = fits_bytes(
        fits.PrimaryHDU(),
        fits.CompImageHDU(cube.astype('i2').repeat(9, 1).repeat(9, 2), header(), name='SCI'),
    )
    with open_image(comp, 'SCI[1]') as im:
        np.testing.assert_array_equal(im.read(0, 2, 0, 2)[0], np.full((2, 2), 12))
        np.testing.assert_array_equal(im.read_all()[0], cube[1].repeat(9, 0).repeat(9, 1))


WHOLE = fits_bytes(
    fits.PrimaryHDU(),
    fits.ImageHDU(np.ones((50, 60), 'f4'), header(), name='SCI'),
    fits.ImageHDU(np.zeros((10, 11), 'i2'), name='DQ'),
)


@given(st.integers(1, len(WHOLE) - 1))
@example(2881)  # A byte into a header …
@example(4000)  # … well into it …
@example(15000)  # … in the data …
@example(19000)  # … in the padding behind them …
@example(21000)  # … in the last header …
@example(24000)  # … and in the last padding
@settings(max_examples=80)
def test_a_cut_file_is_never_read_in_silence(n):
    "Between two extensions nothing tells that a third was there; anywhere else a cut is seen"
    try:
        with open_image(WHOLE[:n]) as im:
            px = im.read_all()[0]
    except BadImage as e:
        assert e.reason in ('truncated', 'unreadable') or (e.reason == 'no_image_hdu' and n == 2880)
    else:
        with fits.open(io.BytesIO(WHOLE)) as h:
            ends = [x.fileinfo() for x in h]
        assert (
            n
            in {i['datLoc'] + i['datSpan'] for i in ends}
            | {i['datLoc'] + s for i, s in zip(ends, (0, 12000, 220))}
            and (px == 1).all()
        )


@pytest.mark.parametrize('kind', ['gz', 'bz2', 'fz'])
def test_cut_compressed_files(kind, tmp_path):
    a = np.random.default_rng(0).normal(size=(200, 200)).astype('f4')
    if kind == 'fz':
        raw = fits_bytes(fits.PrimaryHDU(), fits.CompImageHDU(a, header(), name='SCI'))
    else:
        raw = {'gz': gzip.compress, 'bz2': bz2.compress}[kind](
            fits_bytes(fits.PrimaryHDU(a, header()))
        )
    for share in (0.3, 0.6, 0.9, 0.97):
        (tmp_path / 'cut').write_bytes(raw[: int(len(raw) * share)])
        with pytest.raises(BadImage) as e:
            open_image(tmp_path / 'cut').read_all()
        assert e.value.reason == 'truncated' or (kind, e.value.reason) == ('fz', 'unreadable'), (
            kind,
            share,
            e.value,
        )


def test_things_that_are_no_image(tmp_path):
    for what, reason in (
        (b'', 'truncated'),
        (b'hello world', 'unreadable'),
        (b'\x1f\x8b\x08' + bytes(range(200)), 'unreadable'),
        (gzip.compress(b'<html>404</html>'), 'unreadable'),
    ):
        (tmp_path / 'x.fits').write_bytes(what)
        with pytest.raises(BadImage) as e:
            open_image(tmp_path / 'x.fits')
        assert e.value.reason == reason, (what, e.value)
    with pytest.raises(BadImage) as e:
        open_image(tmp_path / 'none.fits')
    assert e.value.reason == 'missing_file'
    with pytest.raises(BadImage) as e:
        open_image(tmp_path)
    assert e.value.reason == 'missing_file'


# --- the sky ---


def image_of(**cards):
    return open_image(fits_bytes(fits.PrimaryHDU(np.zeros((100, 120), 'f4'), header(**cards))))


@pytest.mark.parametrize(
    'cards',
    [
        {},
        dict(CRVAL1=0.0),
        dict(CRVAL1=359.999),
        dict(CRVAL2=89.9),
        dict(CRVAL2=-89.99),
        dict(CD1_1=1e-4),
        dict(CD1_1=0.0, CD1_2=1e-4, CD2_1=1e-4, CD2_2=0.0),
        dict(CTYPE1='DEC--TAN', CTYPE2='RA---TAN', CRVAL1=47.2, CRVAL2=202.4),
        dict(CTYPE1='GLON-TAN', CTYPE2='GLAT-TAN', CRVAL1=120.0, CRVAL2=30.0, RADESYS=None),
        dict(RADESYS='FK4', EQUINOX=1950.0),
        dict(RADESYS='FK5', EQUINOX=2000.0),
        dict(
            CD1_1=None,
            CD1_2=None,
            CD2_1=None,
            CD2_2=None,
            PC1_1=0.8,
            PC1_2=0.6,
            PC2_1=-0.6,
            PC2_2=0.8,
            CDELT1=-1e-4,
            CDELT2=1e-4,
        ),
        dict(CTYPE1='RA---ZEA', CTYPE2='DEC--ZEA'),
        dict(
            CTYPE1='RA---TAN-SIP',
            CTYPE2='DEC--TAN-SIP',
            A_ORDER=2,
            A_2_0=3e-5,
            A_0_2=-2e-5,
            B_ORDER=2,
            B_1_1=4e-5,
        ),
    ],
)
def test_positions_agree_with_astropy_and_return(cards):
    with image_of(**cards) as im:
        x, y = np.meshgrid([-0.5, 0, 57.49, 119, 119.5], [-0.5, 0, 50.5, 99.5])
        ra, dec = im.pixel_to_world(x, y)
        want = im.wcs.pixel_to_world(x, y).icrs
        assert SkyCoord(ra, dec, unit='deg').separation(want).arcsec.max() < 1e-5
        assert ((0 <= ra) & (ra < 360)).all()
        back = im.world_to_pixel(ra, dec)
        assert np.abs(np.subtract(back, (x, y))).max() < 1e-3
        one = im.world_to_pixel(float(ra[1, 1]), float(dec[1, 1]))
        assert np.shape(one[0]) == () and abs(one[0] - x[1, 1]) < 1e-3


def test_the_other_side_of_the_sky_and_far_away():
    with image_of() as im:
        x, y = im.world_to_pixel([330.1, 150.1, np.nan, 150.1], [-2.2, 95.0, 0.0, 12.0])
        assert np.isnan(x[:3]).all() and np.isnan(y[:3]).all()
        assert y[3] > 1e4  # Far outside, and known to be


def test_a_polynomial_that_folds_back_is_not_believed():
    "SIP fitted for a chip, asked about a place degrees away: never inside the image"
    with image_of(
        CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_ORDER=3, A_3_0=-4e-7, B_ORDER=3, B_0_3=-4e-7
    ) as im:
        ra, dec = 150.1 + np.linspace(-3, 3, 301), np.full(301, 2.2)
        x, y = im.world_to_pixel(ra, dec)
        inside = (x > -0.5) & (x < 119.5) & (y > -0.5) & (y < 99.5)
        r2, d2 = im.pixel_to_world(x[inside], y[inside])
        assert inside.any() and np.abs(r2 - ra[inside]).max() < 1e-6


def test_a_wrong_root_is_not_believed(monkeypatch):
    "Whatever the inversion returns must lead back to the position"
    from astrid_data.images import wcs as positions

    with image_of(
        CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_ORDER=2, A_2_0=1e-5, B_ORDER=2, B_0_2=1e-5
    ) as im:
        right = positions._invert
        monkeypatch.setattr(
            positions, '_invert', lambda w, world: right(w, world) + [[0, 0], [0.2, 0]]
        )
        x, y = im.world_to_pixel([150.1, 150.101], [2.2, 2.2])
        assert np.isfinite(x[0]) and np.isnan(x[1]) and np.isnan(y[1])


@pytest.mark.parametrize(
    'cards,reason',
    [
        (dict(CTYPE1=None, CTYPE2=None, CRVAL1=None, CRVAL2=None), 'no_wcs'),
        (dict(CTYPE1='', CTYPE2=''), 'no_wcs'),
        (dict(CTYPE1='LINEAR', CTYPE2='LINEAR'), 'no_wcs'),
        (dict(CTYPE1='RA---XXX', CTYPE2='DEC--XXX'), 'unsupported_wcs'),
        (dict(CTYPE1='RA---TNX', CTYPE2='DEC--TNX'), 'unsupported_wcs'),
        (dict(CTYPE1='RA---TAN', CTYPE2='DEC--SIN'), 'bad_wcs'),
        (dict(CD1_1=0.0, CD2_2=0.0), 'bad_wcs'),
        (dict(CD1_1=1e-4, CD1_2=1e-4, CD2_1=1e-4, CD2_2=1e-4), 'bad_wcs'),
        (dict(CRVAL2=95.0), 'bad_wcs'),
        (dict(CRVAL1=1.0012, CRVAL2=1.0012), 'bad_wcs'),
        (dict(CRVAL1=0.0, CRVAL2=0.0, CD1_1=1.0, CD2_2=1.0), 'bad_wcs'),
    ],
)
def test_a_wrong_wcs_is_named(cards, reason):
    with image_of(**cards) as im:
        assert im.wcs is None and im.wcs_reason == reason and im.missing['wcs'], im.wcs_reason
        with pytest.raises(BadImage) as e:
            im.world_to_pixel(1, 1)
        assert e.value.reason == reason
        im.read_all()  # The pixels are still there


@pytest.mark.parametrize('vector,stale', [(2048, True), (240, False)])
def test_a_reference_pixel_left_behind(vector, stale):
    "An SDSS cut-out of 240 columns whose CRPIX is that of the frame of 2048, told by the length of its calibration vector"
    raw = fits_bytes(
        fits.PrimaryHDU(
            np.zeros((100, 240), 'f4'), header(CRPIX1=1025.0, CRPIX2=745.0, ORIGIN='SDSS')
        ),
        fits.ImageHDU(np.ones(vector, 'f4')),
    )
    with open_image(raw) as im:
        assert im.wcs_reason == ('bad_wcs' if stale else None)
        assert not stale or 'stale' in im.missing['wcs']


def test_real_fields_are_not_taken_for_dummies():
    with image_of(CRVAL1=1.0, CRVAL2=1.0, OBJECT='PSZ2') as im:
        assert im.wcs is not None
    with image_of(CRVAL1=0.0, CRVAL2=0.0) as im:
        assert im.wcs is not None


def test_frames_differ_by_what_they_differ():
    "FK5 is about 0.02 arcsec from ICRS: most of an ACS pixel"
    with image_of(RADESYS='FK5', EQUINOX=2000.0) as a, image_of() as b:
        sep = (
            SkyCoord(*a.pixel_to_world(9, 11), unit='deg')
            .separation(SkyCoord(*b.pixel_to_world(9, 11), unit='deg'))
            .arcsec
        )
        assert 0.005 < sep < 0.05


# --- the header ---


def facts(**cards):
    return read_header_facts(fits.Header({k.replace('__', '-'): v for k, v in cards.items()}))


@pytest.mark.parametrize(
    'cards,band',
    [
        (dict(TELESCOP='HST', INSTRUME='ACS', FILTER1='CLEAR1L', FILTER2='F814W'), 'F814W'),
        (dict(TELESCOP='HST', INSTRUME='ACS', FILTER1='F606W', FILTER2='POL0V'), 'F606W+POL0V'),
        (dict(TELESCOP='HST', INSTRUME='WFC3', FILTER='f105w'), 'F105W'),
        (dict(INSTRUME='WFPC2', FILTNAM1='F555W', FILTNAM2='', FILTER1=25, FILTER2=0), 'F555W'),
        (dict(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F200W', PUPIL='CLEAR'), 'F200W'),
        (dict(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F150W2', PUPIL='F162M'), 'F150W2+F162M'),
        (dict(TELESCOP='JWST', INSTRUME='NIRISS', FILTER='CLEAR', PUPIL='F115W'), 'F115W'),
        (dict(INSTRUME='DECam', FILTER='z DECam SDSS c0004 9260.0 1520.0'), 'z'),
        (dict(FILTER='g.MP9401', INSTRUME='MegaPrime'), 'g'),
        (dict(FILTER='SDSS g'), 'g'),
        (dict(FILTER='SDSS r'), 'r'),
        (dict(FILTER='Sloan i'), 'i'),
        (dict(FILTER='HSC-G'), 'g'),
        (dict(FILTER='Pan-STARRS g'), 'g'),
        (dict(FILTER='Pan-STARRS r'), 'r'),
        (dict(FILTER='r_SDSS'), 'r'),
        (dict(FILTER='g-band'), 'g'),
        (dict(FILTER='ztf_r'), 'r'),
        (dict(FILTER='Bessell V'), 'V'),
        (dict(FILTER='SDSS'), 'SDSS'),
        (dict(ORIGIN='2MASS', FILTER='k'), 'K'),
        (dict(ORIGIN='2MASS', FILTER='J'), 'J'),
        (dict(SURVEY='WISE 12 micron allsky release'), 'W3'),
        (dict(SURVEY='WISE 22 micron'), 'W4'),
        (dict(TELESCOP='HST', INSTRUME='ACS', FILTER1='CLEAR1L', FILTER2='CLEAR2L'), None),
        (dict(OBJECT='g', FILENAME='stk.r.fits'), None),
    ],
)
def test_bands_come_from_cards(cards, band):
    assert facts(**cards)['band'] == band


@pytest.mark.parametrize(
    'cards,mjd,scale,meaning',
    [
        (dict(MJD__OBS=58000.25), 58000.25, 'utc', 'start'),
        (dict(MJD__AVG=58000.25, TIMESYS='TDB'), 58000.25 - 69.184 / 86400, 'utc', 'mid'),
        (dict(MJD__END=58000.25), 58000.25, 'utc', 'end'),
        (dict(MJD__END=58000.26, MJD__OBS=58000.25), 58000.25, 'utc', 'start'),
        (dict(DATE__OBS='2018-02-25T07:41:06.100848'), 58174.32020950, 'utc', 'start'),
        (dict(DATE__OBS='2002-04-13', TIME__OBS='20:40:22'), 52377.86136574, 'utc', 'start'),
        (dict(DATE__OBS='2004-03-13'), 53077.0, 'utc', None),
        (dict(MJD__OBS=53077.0), 53077.0, 'utc', None),
        (dict(DATE__OBS='11/03/76'), 42848.0, 'utc', None),
        (
            dict(TAI=4476739845.01, DATE__OBS='2000-09-27', TIMESYS='TAI'),
            51814.11857651 - 32 / 86400,
            'utc',
            'start',
        ),
        (dict(MJD__OBS=0.0, DATE__OBS='2004-03-13T12:00:00'), 53077.5, 'utc', 'start'),
    ],
)
def test_times(cards, mjd, scale, meaning):
    f = facts(**cards)
    assert (
        abs(f['mjd'] - mjd) < 1e-7
        and (f['mjd_scale'], f['mjd_meaning']) == (scale, meaning)
        and 'mjd' not in f['missing']
    )


@pytest.mark.parametrize(
    'cards,why',
    [
        ({}, 'no card'),
        (dict(DATE__OBS='1951-08-09T09:60:00'), 'not a time'),
        (dict(DATE__OBS='27-04-95'), 'not a time'),
        (dict(DATE__OBS='2018-02-30'), 'not a time'),
        (dict(DATE__OBS='2018-02-25T07:41:60.5'), 'not a time'),
        (dict(MJD__OBS=59759.4, MJD__BEG=59894.1), 'contradict'),
        (dict(MJD__OBS=51544.499257131), 'placeholder'),
        (dict(MJD__OBS=58000.2, DATE__OBS='2018-02-25T07:41:06'), 'contradict'),
    ],
)
def test_times_that_are_not_known(cards, why):
    f = facts(**cards)
    assert f['mjd'] is None and f['mjd_scale'] is None and why in f['missing']['mjd']


SPELLINGS = [
    dict(DATE__OBS='2021-09-12T20:55:58.5'),
    dict(DATE__OBS='2021-09-12T20:55:58.5Z'),
    dict(DATE__OBS='2021-09-12 20:55:58.5'),
    dict(DATE__OBS='2021-09-12T20:55:58.5+00:00'),
    dict(DATE__OBS='2021-09-12T18:55:58.5-0200'),
    dict(DATE__OBS='2021-09-12T20:55:58.5(UTC)'),
    dict(DATE__OBS='2021-09-12T20:55:58.5 UTC'),
    dict(DATE__OBS='2021-09-12T20:56:35.5 TAI'),
    dict(DATE__OBS='20210912T20:55:58.5'),
    dict(DATE__OBS='2021/09/12', TIME__OBS='20:55:58.5'),
    dict(DATE__OBS='2021/9/12', UT='20:55:58.5'),
    dict(DATE__BEG='2021-09-12 20:55:58.500'),
    dict(DATE__OBS='2021-09-12', UTSTART='20:55:58.5'),
    dict(DATE__OBS='2021-09-12', UTCSTART='20:55:58.5Z'),
    dict(UT_DATE='20210912', UT='20:55:58.5'),
    dict(DATE__OBS='2021-09-12', UTC__OBS='20:55:58.5', TIMESYS='TAI'),
    dict(OBSMJD=59469.87220486),
    dict(MJD=59469.87220486),
    dict(OBSJD=2459470.37220486),
    dict(JD=2459470.37220486),
    dict(JD__OBS='2459470.37220486'),
    dict(DATE__OBS='2021-09-12T20:56:35.5', TIMESYS='TAI'),
    dict(DATE__OBS='2021-09-12T20:57:07.684', TIMESYS='TT'),
    dict(DATE__OBS='2021-09-12T20:57:07.684', TIMESYS='TDT'),
    dict(DATE__OBS='2021-09-12', TIME__OBS='20:57:07.684', TIMESYS='TT'),
    dict(DATE__OBS='2021-09-12', UT=5.25, UTSTART='20:55:58.5'),
    dict(DATE__OBS='2021-09-12T20:56:16.5', TIMESYS='GPS'),
    dict(DATE__OBS='2021-09-12T20:55:58.5', TIMESYS='UTC(NIST)'),
]


@pytest.mark.parametrize('cards', SPELLINGS, ids=str)
def test_one_moment_in_many_spellings(cards):
    f = facts(**cards)
    assert abs(f['mjd'] - 59469.87220486) < 1e-7
    assert (f['mjd_scale'], f['mjd_meaning']) == ('utc', 'start')


UNCLEAR = [
    dict(DATE__OBS='09/12/2021'),  # September or December
    dict(DATE__OBS='2021-09-12T20:55:58 CEST'),
    dict(DATE__OBS='1970-01-01T00:00:00'),
    dict(DATE__OBS='2021-09-12T20:55:58', TIMESYS='LOCAL'),
    dict(JD=0.0, MJD=0.0),
    dict(MJD__OBS='nan'),
]


@pytest.mark.parametrize('cards', UNCLEAR, ids=str)
def test_a_moment_that_nobody_can_know(cards):
    f = facts(**cards)
    assert f['mjd'] is None and f['missing']['mjd']


ENDS = [
    (dict(MJD__OBS=58000.25, EXPTIME=8640.0), 58000.35),
    (dict(MJD__OBS=58000.25, MJD__END=58000.5, TIMESYS='TAI'), 58000.5 - 37 / 86400),
    (dict(MJD__AVG=58000.25, EXPTIME=8640.0), 58000.30),
    (dict(MJD__END=58000.25, EXPTIME=8640.0), 58000.25),
    (dict(MJD__END=58000.25), 58000.25),
    (dict(EXPSTART=58000.25, EXPEND=58012.75, EXPTIME=8640.0), 58012.75),  # A stack
    (
        dict(EXPSTART=58000.25, EXPEND=58000.26, EXPTIME=8640.0),
        58000.35,
    ),  # The end of its first part
    (dict(MJD__OBS=58000.25, DATE__END='2017-09-04T08:24:00'), 58000.35),
    (dict(DATE__OBS='2017-09-04', DATE__END='2017-09-04T08:24:00'), 58000.35),
    (dict(MJD__OBS=58000.25), 'exposure time'),
    (dict(MJD__AVG=58000.25), 'exposure time'),
    (dict(MJD__OBS=58000.0, EXPTIME=8640.0), 'the day only'),
    (dict(EXPTIME=8640.0), 'no card gives the time'),
    (dict(MJD__OBS=58000.25, DATE__END='2017-09-04'), 'exposure time'),
    (dict(MJD__OBS=58000.25, DATE__END='soon'), 'exposure time'),
    (dict(MJD__OBS=58000.25, EXPEND=57999.5), 'before it began'),
]


@pytest.mark.parametrize('cards, end', ENDS)
def test_the_end_of_an_exposure(cards, end):
    f = facts(**cards)
    day, why = end_of_exposure(f['mjd'], f['mjd_meaning'], f['exposure_s'], f['mjd_end'])
    if isinstance(end, str):
        assert day is None and end in why
    else:
        assert abs(day - end) < 1e-7 and why == ''


def test_zero_points():
    jwst = facts(TELESCOP='JWST', BUNIT='MJy/sr', PIXAR_SR=2.23e-14)['zero_point']
    assert abs(jwst - (-2.5 * np.log10(1e6 * 2.23e-14 / 3631))) < 0.001  # AB: 3631 Jy
    assert facts(BUNIT='nanomaggy')['zero_point'] == 22.5
    cards = dict(
        TELESCOP='HST', INSTRUME='ACS', PHOTFLAM=7.07236e-20, PHOTPLAM=8059.7598, EXPTIME=4056.0
    )
    rate, total = (
        facts(BUNIT='ELECTRONS/S', **cards)['zero_point'],
        facts(BUNIT='ELECTRONS', **cards)['zero_point'],
    )
    assert abs(total - rate - 2.5 * np.log10(4056)) < 1e-9 and abs(rate - 25.937) < 0.005
    assert (
        facts(**cards)['zero_point'] is None and 'unit' in facts(**cards)['missing']['zero_point']
    )


RATE = -2.5 * np.log10(7.0e-20) - 5 * np.log10(8045.0) - 2.408
COUNTS = RATE + 2.5 * np.log10(2028.0)
UNITS = {
    'ELECTRONS/S': RATE,
    'electron s**-1': RATE,
    'electron s^-1': RATE,
    'ct.s**(-1)': RATE,
    'CPS': RATE,
    'cps': RATE,
    'electron/second': RATE,
    'electrons per second': RATE,
    'COUNTS/SEC': RATE,
    'e-/s': RATE,
    'e/s': RATE,
    'DN/S': RATE,
    'count s-1': RATE,
    'ELECTRONS': COUNTS,
    'electrons': COUNTS,
    'COUNTS': COUNTS,
    'DN': COUNTS,
    'ADU': COUNTS,
    'nJy': 31.4,
    'uJy': 23.9,
    'Jy': 8.9,
    'mJy': 16.4,
    '10.0*nanoJansky': 28.9,
    '1e-9 Jy': 31.4,
    '1.0E-06 Jy': 23.9,
    'nanomaggies': 22.5,
    'MJy/sr': None,  # Without the solid angle of a pixel
    'erg/s/cm2/Angstrom': None,
    'erg s-1 cm-2 A-1': None,
    'MJY': None,  # Milli or mega
    'electron s': None,
    'electron2': None,
    'magnitudes': None,
    'mag(AB)': None,
    'mag(ct/s)': None,
    'flux': None,
    '': None,
}


@pytest.mark.parametrize('unit', UNITS)
def test_a_zero_point_in_every_spelling_of_a_unit(unit):
    cards = dict(TELESCOP='HST', INSTRUME='ACS', PHOTFLAM=7.0e-20, PHOTPLAM=8045.0, EXPTIME=2028.0)
    found = facts(BUNIT=unit, **cards)
    if UNITS[unit] is None:
        assert found['zero_point'] is None and found['missing']['zero_point']
    else:
        assert abs(found['zero_point'] - UNITS[unit]) < 0.002


def test_a_mosaic_says_what_its_own_pixels_are():
    cards = dict(TELESCOP='HST', INSTRUME='ACS', PHOTFLAM=7.0e-20, PHOTPLAM=8045.0, EXPTIME=2028.0)
    for stated, own, zero_point in (
        ('ELECTRONS', 'cps', RATE),
        ('ELECTRONS/S', 'counts', COUNTS),
        ('ELECTRONS/S', 'cps', RATE),
    ):
        found = facts(BUNIT=stated, D001OUUN=own, **cards)
        assert abs(found['zero_point'] - zero_point) < 1e-9
        assert ('unit' in found['notes']) == (kind_of_unit(parse_unit(stated)) != kind_of(own))


def kind_of(own):
    return dict(cps='rate', counts='counts')[own]


def test_exposures():
    assert facts(BUNIT='ELECTRONS/S', EXPTIME=1.0, TEXPTIME=342278.28)['exposure_s'] == 342278.28
    assert facts(EXPTIME='53.907456')['exposure_s'] == 53.907456
    assert facts(INSTRUME='Photographic Plate', EXPOSURE=65.0)['exposure_s'] == 3900
    assert facts(EXPTIME=0.0)['exposure_s'] is None


def test_what_the_caller_knows_wins():
    with open_image(
        fits_bytes(fits.PrimaryHDU(np.zeros((3, 3), 'f4'), header())),
        facts=dict(band='F606W', mjd=53000.5, mjd_scale='utc'),
    ) as im:
        assert (im.band, im.mjd) == ('F606W', 53000.5) and not {'band', 'mjd'} & set(im.missing)


# --- flags ---


def test_flags_are_powers_of_two_and_named_once():
    for mission, flags in DQ_FLAGS.items():
        assert all(v & (v - 1) == 0 and v > 0 for v in flags.values()) and len(
            set(flags.values())
        ) == len(flags), mission
        assert bad_bits(mission) and not bad_bits(mission) & ~bad_bits(mission + ':*')
    assert (
        DQ_FLAGS['jwst']['OUTLIER'] == 16
        and DQ_FLAGS['jwst']['REFERENCE_PIXEL'] == 1 << 31
        and DQ_FLAGS['jwst']['HOT'] == 2048
    )
    assert (
        DQ_FLAGS['hst/acs']['CRDRIZ'] == 4096
        and DQ_FLAGS['hst/acs']['SATURATED'] == 256
        and DQ_FLAGS['hst/wfpc2']['CHIP_MASKED'] == 2048
    )


def test_codes_are_not_bits():
    "DECam's 3 is 'saturated', not 'bad pixel and no value'"
    dq = np.array([[0, 1, 2, 3, 5, 6, 8]], 'i4')
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones(dq.shape, 'f4'), header(), name='SCI'),
        fits.ImageHDU(dq, name='DQ'),
    ]
    hdus[0].header.update(INSTRUME='DECam', PLVER='V4.8.2')
    with open_image(fits_bytes(*hdus)) as im:
        assert im.bad.astype(int).tolist() == [[0, 1, 1, 0, 0, 1, 0]]
        assert im.flag('STREAK').astype(int).tolist() == [[0, 0, 0, 0, 0, 0, 1]] and im.flag(
            'SATURATED'
        ).astype(int).tolist() == [[0, 0, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize('name', ['WHT', 'WGT', 'IVAR'])
def test_zero_weight_is_no_measurement(name):
    w = np.array([[0, 1, np.nan, -1]], 'f4')
    raw = fits_bytes(
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((1, 4), 'f4'), header(), name='SCI'),
        fits.ImageHDU(w, name=name),
    )
    with open_image(raw) as im:
        assert im.read_all()[1].tolist() == [[True, False, True, True]] and im.dq_policy == 'weight'
    with open_image(raw, dq_policy='none') as im:
        assert not im.read_all()[1].any()


def test_dq_of_an_unknown_mission_is_reported_not_guessed():
    raw = fits_bytes(
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((3, 3), 'f4'), header(), name='SCI'),
        fits.ImageHDU(np.ones((3, 3), 'i2'), name='DQ'),
    )
    with open_image(raw) as im:
        assert im.bad is None and 'dq_policy' in im.missing['dq']
    with open_image(raw, dq_policy='hst/acs') as im:
        assert im.bad.all()
    with pytest.raises(BadInput):
        open_image(raw, dq_policy='hubble')


def test_old_decam_masks_are_bits():
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((1, 3), 'f4'), header(), name='SCI'),
        fits.ImageHDU(np.array([[1, 16, 256]], 'i2'), name='DQ'),
    ]
    hdus[0].header.update(INSTRUME='DECam', PLVER='V2.1.0')
    with open_image(fits_bytes(*hdus)) as im:
        assert im.bad.tolist() == [[True, False, True]] and im.flag('COSMIC_RAY').tolist() == [
            [False, True, False]
        ]


def test_reading_from_an_open_file_and_bytes_is_the_same(tmp_path):
    raw = fits_bytes(fits.PrimaryHDU(np.arange(12, dtype='f4').reshape(3, 4), header()))
    (tmp_path / 'x').write_bytes(raw)
    with (
        open(tmp_path / 'x', 'rb') as f,
        open_image(f) as a,
        open_image(raw) as b,
        open_image(str(tmp_path / 'x')) as c,
    ):
        for im in (a, b, c):
            np.testing.assert_array_equal(im.read_all()[0], np.arange(12).reshape(3, 4))
        assert a.sha256 == b.sha256 == c.sha256
