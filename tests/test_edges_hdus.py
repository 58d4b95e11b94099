"Planes by the words of their names, and images of a file that say nothing of their own"

import numpy as np
import pytest
from astropy.io import fits

from astrid_data.images.hdus import role_of
from astrid_data.images.image import open_image
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.files import science_images

pytestmark = pytest.mark.filterwarnings('ignore')


def wcs_cards(**cards):
    step = 0.5 / 3600
    place = dict(CRVAL1=150.0, CRVAL2=2.0, CRPIX1=20.0, CRPIX2=20.0, CDELT1=-step, CDELT2=step)
    return fits.Header(dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', **place) | cards)


SIDE = 40
BAD = np.zeros((SIDE, SIDE), bool)
BAD[10:14, 10:14] = True


def sky(name='', seed=1, **cards):
    pixels = np.random.default_rng(seed).normal(100, 3, (SIDE, SIDE)).astype('f4')
    return fits.ImageHDU(pixels, wcs_cards(**cards), name=name or None)


def plane(name, values, kind='f4', **cards):
    return fits.ImageHDU(np.asarray(values).astype(kind), fits.Header(cards), name=name)


def written(tmp_path, *hdus, **first):
    path = tmp_path / 'a.fits'
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(first)), *hdus]).writeto(path)
    return path


def bad_in(path, hdu, **asked):
    with open_image(path, *hdu, **asked) as image:
        return image.read_all()[1], dict(image.missing)


WEIGHTS = 'WT VARINV XIVAR INVERSE_VARIANCE INVERSEVAR NOBS CONF IMAGE_WEIGHT COV'.split()
ERRORS = 'STD UNC ERRMAP RMSMAP VARMAP SIG NOISE_MAP PIXEL_ERR'.split()


@pytest.mark.parametrize('name', WEIGHTS + ERRORS)
def test_a_word_of_the_name_says_the_role(tmp_path, name):
    values = np.where(BAD, 0, 50) if name in WEIGHTS else np.where(BAD, np.inf, 3)
    path = written(tmp_path, sky('SCI'), plane(name, values))
    with open_image(path) as image:
        assert (image.read_all()[1] == BAD).all()
        assert ('weight' if name in WEIGHTS else 'error') in image.planes


@pytest.mark.parametrize(
    'image, helper',
    [('SCI{}', 'WHT{}'), ('S{}', 'S{}_WEIGHT'), ('CCD_{}.SCI', 'CCD_{}.WGT'), ('IM_{}', 'IVAR_{}')],
)
def test_a_plane_goes_with_the_image_of_its_number(tmp_path, image, helper):
    hdus = [sky(image.format(i), seed=i, CRVAL1=150.0 + i) for i in (1, 2)]
    hdus += [plane(helper.format(i), np.where(BAD == (i == 1), 0, 9)) for i in (1, 2)]
    path = written(tmp_path, *hdus)
    images = science_images(path)
    assert [hdu for hdu, _ in images] == [image.format(i) for i in (1, 2)]
    assert (bad_in(path, images[0])[0] == BAD).all()
    assert (bad_in(path, images[1])[0] == ~BAD).all()


@pytest.mark.parametrize('name', 'SKYSUB EXPCTS GALDEPTH SCORE REFERENCE X CHI2 CONTEXT'.split())
@pytest.mark.parametrize('has_place', [True, False])
def test_what_lies_on_the_grid_of_an_image_is_no_second_one(tmp_path, name, has_place):
    other = sky(name, 2) if has_place else plane(name, np.random.default_rng(2).random(BAD.shape))
    path = written(tmp_path, sky('IMAGE'), other)
    assert science_images(path) == [('IMAGE', 1)]
    with open_image(path) as image:
        assert image.hdu_name == 'IMAGE'
    with open_image(path, name) as asked:
        assert asked.hdu_name == name
    assert science_images(path, hdu=name) == [(name, 1)]


@pytest.mark.parametrize(
    'first, second',
    [
        (sky('G'), sky('R')),
        (sky('IMAGE_G'), sky('IMAGE_R')),
        (sky('F606W_SCI'), sky('F814W_SCI')),
        (sky('CHIP1'), sky('CHIP2')),
        (sky('A', FILTER='g'), sky('B', FILTER='r')),
        (sky('A', **{'MJD-OBS': 58000.0}), sky('B', **{'MJD-OBS': 58001.0})),
        (sky('A'), sky('B', EXPNAME='exp2')),
        (sky('A'), sky('B', CRPIX1=21.0)),
        (sky(''), sky('')),
    ],
    ids=lambda hdu: hdu.name or 'unnamed',
)
def test_an_image_that_says_what_it_is_stays_one(tmp_path, first, second):
    assert len(science_images(written(tmp_path, first, second))) == 2


def test_a_plane_of_unknown_meaning_is_said(tmp_path):
    path = written(tmp_path, sky('IMAGE'), sky('SKYSUB', 2))
    assert 'SKYSUB' in bad_in(path, ('IMAGE', 1))[1]['dq']


@pytest.mark.parametrize('name', ['MASK', 'BPM'])
def test_a_mask_of_good_pixels_is_not_taken_for_one_of_bad(tmp_path, name):
    path = written(tmp_path, sky('SCI'), plane(name, ~BAD, 'u1'))
    bad, missing = bad_in(path, ('SCI',))
    assert not bad.any() and 'may be the good ones' in missing['dq']
    assert (bad_in(path, ('SCI',), dq_policy='nonzero')[0] == ~BAD).all()


def test_a_mask_of_the_empty_part_of_a_mosaic_is_used(tmp_path):
    image = sky('SCI')
    image.data[:, 12:] = 0
    path = written(tmp_path, image, plane('MASK', image.data == 0, 'u1'))
    bad, missing = bad_in(path, ('SCI',))
    assert (bad == (np.arange(SIDE) >= 12)).all() and 'dq' not in missing


@pytest.mark.parametrize('name, role', [('WHT', 'weight'), ('ERR', 'error'), ('MASK', 'dq')])
def test_a_plane_that_is_one_number_is_said(tmp_path, name, role):
    one = fits.ImageHDU(name=name)
    one.header['PIXVALUE'] = 1 if role == 'dq' else 0
    path = written(tmp_path, sky('SCI'), one)
    bad, missing = bad_in(path, ('SCI',))
    assert role in missing and not bad.any()


@pytest.mark.parametrize(
    'card, value, role',
    [
        ('IMAGETYP', 'superbias', 'calibration'),
        ('IMAGETYP', 'Master Dark', 'calibration'),
        ('OBSTYPE', 'fringecor', 'calibration'),
        ('OBSTYPE', 'pupil', 'calibration'),
        ('IMAGETYP', 'psfsize', 'other'),
        ('IMAGETYP', 'chi2', 'other'),
        ('PRODTYPE', 'residual', 'other'),
        ('DATAMODL', 'PsfModel', 'other'),
        ('CONTENT', 'EXPOSURE MAP', 'weight'),
        ('CONTENT', 'IMAGE', 'image'),
        ('DATAMODL', 'ImageModel', 'image'),
        ('DATAMODL', 'DrizProductModel', 'image'),
        ('IMAGETYP', 'standard', 'image'),
        ('CONTENT', 'EPIC EXPOSURE MAP', 'weight'),
        ('CONTENT', 'EPIC BACKGROUND MAP', 'other'),
        ('CONTENT', 'EPIC SENSITIVITY MAP', 'other'),
        ('CONTENT', 'EPIC IMAGE', 'image'),
        *(
            ('KOAIMTYP', word, 'calibration')
            for word in 'flatlamp arclamp bias dark domeflat twiflat fpc trace flatlampoff'.split()
        ),
        ('KOAIMTYP', 'object', 'image'),
        *(('IMGTYPE', word, 'calibration') for word in 'CBP BIAS DARK FLAT PTC SPOT'.split()),
        ('IMGTYPE', 'OBJECT', 'image'),
        ('PRODCATG', 'ANCILLARY.MASKMAP', 'mask'),
        ('PRODCATG', 'ANCILLARY.RMSMAP', 'error'),
        ('PRODCATG', 'ANCILLARY.IMAGE.WHATEVER', 'other'),
        ('PRODCATG', 'SCIENCE.IMAGE', 'image'),
        ('CREATOR', 'uvotexpmap 1.2', 'weight'),
        ('CREATOR', 'uvotskylss', 'weight'),
        ('CREATOR', 'xrtexpomap-0.2', 'weight'),
        ('CREATOR', 'uvotimsum', 'image'),
    ],
)
def test_a_card_says_what_a_frame_is(card, value, role):
    assert role_of(fits.Header({card: value}))[0] == role


@pytest.mark.parametrize(
    'cards, asks', [(dict(IMGTYPE='ENGTEST'), True), (dict(IMGTYPE='sky'), False)]
)
@pytest.mark.parametrize('extension', [False, True])
def test_a_type_in_no_list_is_sky_and_asked(tmp_path, cards, asks, extension):
    image = fits.ImageHDU if extension else fits.PrimaryHDU
    first = [fits.PrimaryHDU()] if extension else []
    pixels = np.random.default_rng(0).normal(9, 1, (60, 60))
    fits.HDUList([*first, image(pixels, fits.Header(cards))]).writeto(tmp_path / 'a.fits')
    with open_image(tmp_path / 'a.fits') as opened:
        assert ('is it sky?' in opened.notes.get('frame_type', '')) == asks


@pytest.mark.parametrize('word', 'TARGET TARG ALLSKY tile deep snapshot calexp ACQ EXPOSE'.split())
def test_words_of_archives_and_surveys_ask_nothing(word):
    for card in ('OBSTYPE', 'IMGTYPE', 'IMAGETYP'):
        assert role_of(fits.Header({card: word})) == ('image', '')


def test_an_unknown_word_is_asked_once_in_a_delivery(tmp_path):
    folder = tmp_path / 'delivery'
    folder.mkdir()
    for i, word in enumerate(['ENGTEST', 'ENGTEST', 'CWFS', 'ENGTEST']):
        pixels = np.random.default_rng(i).normal(9, 1, (60, 60))
        header = wcs_cards(IMGTYPE=word)
        fits.PrimaryHDU(pixels, header).writeto(folder / f'{"abcd"[i]}.fits')
    archive = open_archive(tmp_path / 'archive')
    report = archive.add_fits(folder, survey='s', show=False, detect=False)
    asked = sorted(note for note in report.notes if 'is it sky?' in note)
    assert report.added == 4 and len(asked) == 2
    assert 'CWFS' in asked[0] and 'ENGTEST' in asked[1]
