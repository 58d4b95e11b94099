"Folders as surveys deliver them: which files are images, and which describe one of the others"

import numpy as np
import pytest
from astropy.io import fits
from awkward import header, sky

from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.files import sort_delivery

pytestmark = pytest.mark.filterwarnings('ignore')

#: What stands for the word that differs -> images, and helpers with what they are beside the image
DELIVERIES = {
    '1234a001-w1-{}-3': ('int', dict(unc='error', cov='weight')),
    'unwise-1497p015-w1-{}-m': ('img', dict(invvar='weight', std='error')),
    'legacysurvey-1500p020-{}-r': (
        'image',
        dict(invvar='weight', chi2=None, model=None, depth=None, galdepth=None, psfsize=None),
    ),
    'ztf_000737_zr_c01_q1_{}': ('refimg', dict(refcov='weight', refunc='error')),
    'A-nd-{}': ('int', dict(skybg=None, rrhr=None, exp=None, flags='dq')),
    'sw00012345001uw1_{}': ('sk', dict(ex=None, lss=None)),
    'r150_{}_mosaic': ('maic', dict(munc='error', mcov='weight')),
    'KiDS_150_2_r_{}': ('sci', dict(wei='weight', msk='dq')),
    'c4d_1_{}_g_v1': ('osi', dict(osd='dq', osw='weight')),
    'acisf0001_full_{}': ('img2', dict(emap=None, psfmap=None)),
    'field_{}': ('drz', dict(wht='weight', rms='error', ctx=None, seg=None, bkg=None, psf=None)),
}


@pytest.mark.parametrize('name', DELIVERIES)
@pytest.mark.parametrize('turned', [False, True])
def test_helpers_are_known_beside_their_image(name, turned):
    image, helpers = DELIVERIES[name]
    words = [image, *helpers][:: -1 if turned else 1]
    found = {one.address: one for one in sort_delivery([f'd/{name.format(w)}.fits' for w in words])}
    of_image = f'd/{name.format(image)}.fits'
    assert found[of_image].helps is found[of_image].helper_word is None
    for word in helpers:
        assert found[f'd/{name.format(word)}.fits'].helps == of_image, word
    beside = {r: a for r, a in found[of_image].beside.items()}
    assert set(beside.values()) <= {
        f'd/{name.format(word)}.fits' for word, role in helpers.items() if role
    }
    assert all(role in beside for role in filter(None, helpers.values()))


@pytest.mark.parametrize('word', ['psf', 'bkg', 'model', 'mask', 'weight'])
def test_a_word_before_the_name_of_an_image_makes_a_helper(word):
    image, helper = sort_delivery(['d/m31.fits', f'd/{word}_m31.fits'])
    assert (image.helps, helper.helps) == (None, 'd/m31.fits')


@pytest.mark.parametrize(
    'names',
    [
        ['m31_g', 'm31_r'],
        ['m31_exp_1', 'm31_exp_2'],
        ['m31_exp_1', 'm31_ref_1'],
        ['m31_int', 'm31_cnt'],
        ['DES0001_r', 'DES0001_r_nobkg'],
        ['field_longexp', 'field_shortexp'],
        ['a_discovery', 'a_recovery'],
        ['x_var_1'],
        ['jw01_cal', 'jw01_i2d', 'jw01_rate'],
        ['c4d_1_ooi_g', 'c4d_1_osi_g'],
    ],
    ids=str,
)
def test_what_is_no_helper_stays_an_image(names):
    found = sort_delivery([f'd/{name}.fits' for name in names])
    assert [one.helps or one.helper_word for one in found] == [None] * len(names)


def test_smooth_helpers_become_no_observations(tmp_path):
    "Coverage, depth and a model are smooth and bright: no look at the pixels finds them out"
    cards = header(FILTER='r', TELESCOP='T')
    smooth = np.add.outer(np.linspace(50, 90, 96), np.linspace(0, 40, 96)).astype('f4')
    noise = np.random.default_rng(1).normal(0, 0.5, smooth.shape).astype('f4')
    for word in ('int', 'cov', 'unc'):
        pixels = sky(3) if word == 'int' else smooth[: sky(3).shape[0], : sky(3).shape[1]]
        if word != 'int':
            pixels = pixels + noise[: pixels.shape[0], : pixels.shape[1]]
        fits.PrimaryHDU(pixels, cards).writeto(tmp_path / f'a-w1-{word}-3.fits')
    archive = open_archive(tmp_path / 'archive')
    report = archive.add_fits(tmp_path, survey='s', detect=False, show=False)
    assert (report.added, report.helpers, len(report.ledger)) == (1, 2, 0)
    assert archive.observations().uri.iloc[0].endswith('a-w1-int-3.fits')
