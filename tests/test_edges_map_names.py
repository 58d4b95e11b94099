"Maps whose names say so without that of an image beside them to differ from"

import pytest

from astrid_data.ingest.files import sort_delivery

MAPS = {
    'P0109990201PNS003EXPMAP4000.FIT': 'P0109990201PNS003IMAGE_4000.FIT',
    'P0109990201PNS003BKGMAP4000.FIT': 'P0109990201PNS003IMAGE_4000.FIT',
    'check_background.fits': 'im.fits',
    'im_minus_objects.fits': 'im.fits',
    'frame-r-1.sky.fits': 'frame-r-1.fits',
    'unwise-0000p000-w1-std-u.fits': 'unwise-0000p000-w1-img-m.fits',
    'ztf_2018_zg_c01_o_q1_diffimgpsf.fits': 'ztf_2018_zg_c01_o_q1_sciimg.fits',
    'ztf_2018_zg_c01_o_q1_sciimgdaopsfcent.fits': 'ztf_2018_zg_c02_o_q1_sciimg.fits',
}


@pytest.mark.parametrize('name, image', MAPS.items())
def test_a_map_is_no_image_of_the_sky(name, image):
    one, other = sort_delivery([name, image])
    assert one.helper_word and not other.helper_word


@pytest.mark.parametrize(
    'name', ['sky.fits', 'm31_sky.fits', 'run3-u.fits', 'bkg_sub.fits', 'psfmatched_r.fits']
)
def test_an_image_with_such_a_word_stays_one(name):
    assert not sort_delivery([name])[0].helper_word


LIKE_A_SURVEY = 'field_n_u m31_n_u m31_n_m field-std-u std_star_n_u n4258_nopsf'.split()


@pytest.mark.parametrize('stem', LIKE_A_SURVEY)
def test_words_of_a_survey_speak_only_in_its_own_names(stem):
    assert not sort_delivery([f'{stem}.fits'])[0].helper_word


def test_a_psf_is_never_the_image_of_a_difference():
    names = [f'ztf_2018_zg_c01_o_q1_{word}.fits' for word in ('scimrefdiffimg', 'diffimgpsf')]
    difference, psf = sort_delivery(names)
    assert psf.helper_word and difference.helps != psf.address
