"Maps whose names say so without that of an image beside them to differ from"

import pytest
from test_names_of_files import write_image

import astrid_data as ad
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


LONE = (
    'm31_background m31_variance m31_uncertainty m31_rmsMap m31_errorMap m31_flagMap m31_exposure_map '
    'm31_segmentation_map m31_psfmap m31_quality m31_badpix m31_exptime m31_sensitivity m31_snrmap '
    'm31.I.pb m31.pb.tt0 m31_primary_beam A1_mcov A1_munc r_fringe '
    'em01_150090_023_ExposureMap_c010'
).split()


@pytest.mark.parametrize('stem', LONE)
def test_a_map_says_so_without_an_image_beside_it(stem):
    assert sort_delivery([f'{stem}.fits'])[0].helper_word
    assert sort_delivery([f'{stem}.img'])[0].helper_word


@pytest.mark.parametrize('stem', 'm31_var m31_diff m31_exposure w51_snr m31_sky pb1 npb'.split())
def test_what_may_be_a_thing_of_the_sky_is_one(stem):
    assert not sort_delivery([f'{stem}.fits'])[0].helper_word


@pytest.mark.parametrize(
    'name, words',
    {'m31_flat.fits': 1, 'm31_dark_3.fits': 1, 'darkcloud1.fits': 0, 'm31.fits': 0}.items(),
)
def test_a_name_that_may_be_of_a_lamp_is_asked(tmp_path, name, words):
    write_image(tmp_path / name)
    report = ad.open_archive(tmp_path / 'home').add_fits(tmp_path / name, survey='x', show=False)
    assert report.added == 1
    assert len([note for note in report.notes if 'may be of no sky' in note]) == words


def test_images_of_swift_and_chandra_are_found(tmp_path):
    "They are FITS that is called img"
    write_image(tmp_path / 'sw00012345001uw1_sk.img')
    report = ad.open_archive(tmp_path / 'home').add_fits(tmp_path, survey='swift', show=False)
    assert report.added == 1
