"""Every image of the shared folder against the oracle, on positions that reach over its edges; every trap read rightly or in the ledger.

The files are not part of the repository; where they are missing the tests are skipped, and say so.
"""

import csv

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal
from oracle import Oracle, arcsec

import astrid_data as ad

pytestmark = pytest.mark.filterwarnings('ignore')
SIZE = 32
ACS, JWST = (
    1 + 2 + 4 + 8 + 32 + 128 + 512,
    1 + 512 + (1 << 31),
)  # What their handbooks call unusable

# What a weight or quality plane says, for the files that have one: HDU of the image -> its bad pixels
BAD = {
    'hst/47tuc_acs_hrc_f606w_j8bt06nyq_flt_crop512.fits.gz': {
        k: lambda f: f[3].data & ACS != 0 for k in (1, 2, 3)
    },
    'jwst/a2744_niriss_f115w_grizli_beams.fits.gz': {
        k: lambda f, d=d: f[d].data.view('>u2').astype('i8') & JWST != 0
        for d in (5, 12)
        for k in range(d - 2, d + 2)
    },
    'ground/pysersic_decals_grz.fits.gz': {
        k: lambda f, k=k: ~(f[k + 1].data > 0) for k in (1, 3, 5)
    },
    'ground/snhost_des_g.fits.gz': {k: lambda f: ~(f[1].data > 0) for k in (0, 1)},
    'ground/snhost_des_r.fits.gz': {k: lambda f: ~(f[1].data > 0) for k in (0, 1)},
}
NO_WCS = {
    'ground/kids_r_G278109_segim.fits.gz',
    *(f'hst/47tuc_acs_distortion_lookup.fits.gz[{k}]' for k in (2, 3, 4)),
}


# Mosaics whose corners no exposure reached, filled with zeros; seen by eye
BLANK_CORNERS = {
    'hst/aegis_12011504_acs_f606w.fits',
    'hst/aegis_12011504_acs_f814w.fits',
    'skyview/rosat_pspc_skyview.fits.gz',
    'skyview/sdss_r_reprojected.fits.bz2',
    'traps/hst_wfpc2_m51_decra_swapped.fits.gz',
}


def rows_of(shared_data, folder):
    with open(shared_data / 'manifest.csv', newline='') as f:
        return [r for r in csv.DictReader(f) if r['file'].startswith(folder + '/')]


def images_in(path):
    "(HDU, plane) of every array of two or more axes in a file"
    with fits.open(path) as f:
        return [
            (i, None if h.header['NAXIS'] == 2 else k)
            for i, h in enumerate(f)
            if h.is_image and h.header['NAXIS'] >= 2
            for k in range(int(np.prod(h.shape[:-2])))
        ]


def grid(shape):
    "Inside, across each edge and corner, and outside; never half-way between two pixels"
    ny, nx = shape
    x, y = (
        [-SIZE * 0.8, -0.4, 3.3, 0.31 * n + 0.2, 0.5 * n + 0.3, n - 2.3, n - 0.7, n + SIZE * 0.3]
        for n in (nx, ny)
    )
    return (g.ravel() for g in np.meshgrid(x, y))


def compare(image, truth, path, ask, what):
    "Pixel by pixel from pixel positions; then by the sky alone, placed by the oracle's WCS, with each patch's own WCS"
    ny, nx = truth.shape
    x, y = grid(truth.shape)
    assert image.shape == truth.shape
    same = (
        assert_array_equal
        if 'BSOFTEN' not in image.header
        else lambda a, b, err_msg: assert_allclose(a, b, rtol=1e-5, err_msg=err_msg)
    )
    p = ad.patches.cut_patches(image, x, y, SIZE)
    want = np.stack([truth.square(a, b, SIZE) for a, b in zip(x, y)])
    same(p.data, want, err_msg=what)
    assert_array_equal(p.valid, np.isfinite(want), err_msg=what)
    if image.wcs is None:
        return len(x)
    ra, dec = truth.sky(x, y)
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:03d}' for i in range(len(x))],
            ra=ra,
            dec=dec,
            image_uri=str(path),
            image_hdu=ask,
        )
    )
    got = ad.patches.extract_patches(
        t, SIZE, open=lambda *a: image, min_valid_fraction=0, hash_files=False
    )
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    assert_array_equal(got.kept, inside, err_msg=what)
    assert (got.ledger['reason'] == 'off_image').all() and len(got.ledger) == (~inside).sum()
    assert_array_equal(got.data[inside, 0], p.data[inside], err_msg=what)
    assert (
        np.hypot(
            got.info['x0'] + SIZE // 2 + got.info['offset_x'] - x,
            got.info['y0'] + SIZE // 2 + got.info['offset_y'] - y,
        )[inside].max()
        < 0.01
    ), what
    for i in np.flatnonzero(inside)[::3]:
        w, info = (
            ad.patches.patch_wcs(image, int(got.info['x0'][i]), int(got.info['y0'][i])),
            got.info.iloc[i],
        )
        back, there = (
            w.all_pix2world([[SIZE // 2 + info['offset_x'], SIZE // 2 + info['offset_y']]], 0)[0],
            truth.wcs.all_pix2world([[x[i], y[i]]], 0)[0],
        )
        if w.wcs.lng:
            back, there = back[::-1], there[::-1]
        assert arcsec(*back, *there) < 0.05 * truth.scale, (what, i)
    return len(x)


class Kept:
    "An image that stays open, so that `extract_patches` may close it as often as it likes"

    def __init__(self, image):
        self.__dict__['image'] = image

    def __getattr__(self, k):
        return getattr(self.image, k)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass


@pytest.mark.parametrize(
    'folder, least', [('hst', 41), ('jwst', 14), ('skyview', 13), ('ground', 50)]
)
def test_every_image(shared_data, folder, least):
    done, patches = 0, 0
    for row in rows_of(shared_data, folder):
        name, path = row['file'], shared_data / row['file']
        for hdu, plane in images_in(path):
            what = name if hdu == 0 else f'{name}[{hdu}]'
            with fits.open(path) as f:
                bad = BAD[name][hdu](f) if hdu in BAD.get(name, {}) else None
            ask = hdu if plane is None else f'{hdu}[{plane}]'
            with ad.images.open_image(path, ask) as image:
                assert (image.wcs is None) == (what in NO_WCS), (what, image.wcs_reason)
                truth = Oracle(path, hdu, plane, bad, name in BLANK_CORNERS)
                patches += compare(Kept(image), truth, path, ask, what)
                done += 1
    assert done >= least and patches == 64 * done


def test_quality_and_weight_in_files_of_their_own(shared_data):
    rows = [r for r in rows_of(shared_data, 'ground') if r['role'] == 'dq']
    assert len(rows) == 5
    for r in rows:
        dq, (sci, weight) = (
            shared_data / r['file'],
            (shared_data / r['file'].replace('_ood_', k) for k in ('_ooi_', '_oow_')),
        )
        bad = np.isin(fits.getdata(dq, 1), [1, 2, 6]) | ~(
            fits.getdata(weight, 1) > 0
        )  # DECam: bad pixel, no value, low weight
        with ad.images.open_image(sci, dq=dq, weight=weight) as image:
            compare(Kept(image), Oracle(sci, 1, bad=bad), sci, None, r['file'])


# Traps: what the ledger says, or the HDU that is read rightly
TRAPS = {
    'sdss_stale_wcs_r.fits.gz': 'bad_wcs',
    'hst_wfpc2_m51_decra_swapped.fits.gz': 0,
    'truncated_header_m51hst.fits.gz': 'truncated',
    'tnx_wcs_unsupported.fits.gz': 0,
    'ccd_raw_no_wcs_a8280271.fits.gz': 'no_wcs',
    'jwst_star_dummy_wcs.fits': 'bad_wcs',
}


def test_each_trap_is_read_rightly_or_lost_for_its_true_reason(shared_data):
    assert {r['file'].removeprefix('traps/') for r in rows_of(shared_data, 'traps')} == set(TRAPS)
    rows, right = [], {}
    for name, fate in TRAPS.items():
        path = shared_data / 'traps' / name
        if isinstance(fate, str):
            rows += [(name, str(path), 27.9, 0.25, fate)] * 3
            continue  # Wherever it claims to point
        truth = Oracle(path, fate, zeros_are_blank=f'traps/{name}' in BLANK_CORNERS)
        right[name] = truth
        with ad.images.open_image(path) as image:
            compare(Kept(image), truth, path, None, name)
        x, y = np.array(truth.shape)[::-1, None] * [0.3, 0.5, 0.7] + 0.2
        rows += [(name, str(path), r, d, '') for r, d in zip(*truth.sky(x, y))]
    t = pd.DataFrame(rows, columns=['name', 'image_uri', 'ra', 'dec', 'why']).assign(
        sample_key=[f'{i:02d}' for i in range(len(rows))]
    )
    got = ad.patches.extract_patches(t, 33, min_valid_fraction=0)
    assert_array_equal(got.kept, t['why'] == '')
    assert (
        got.ledger.set_index('sample_key')['reason'].to_dict()
        == t[t['why'] != ''].set_index('sample_key')['why'].to_dict()
    )
    assert len(got.ledger) + got.kept.sum() == len(t) and np.isnan(got.data[~got.kept]).all()
    for i in np.flatnonzero(got.kept):
        assert_array_equal(
            got.data[i, 0],
            right[t['name'][i]].square(*right[t['name'][i]].place(t['ra'][i], t['dec'][i]), 33),
        )
