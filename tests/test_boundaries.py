"What comes in keeps its meaning: files that describe others, planes by role, losses one by one"

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import astrid_data as ad
from astrid_data.core import BadImage, BadInput
from astrid_data.images.hdus import role_of
from astrid_data.images.image import open_image
from astrid_data.ingest.archive import IngestReport, ItemGuard
from astrid_data.ingest.files import sort_delivery
from astrid_data.storage.service import StoreUnreachable

pytestmark = pytest.mark.filterwarnings('ignore')
SHAPE = 120, 120
CARDS = dict(
    CTYPE1='RA---TAN',
    CTYPE2='DEC--TAN',
    CRVAL1=150.0,
    CRVAL2=2.0,
    CRPIX1=60.5,
    CRPIX2=60.5,
    CDELT1=-1e-4,
    CDELT2=1e-4,
    TELESCOP='T',
    FILTER='r',
)


def sky(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(100, 3, shape).astype('f4')


def write(path, array=None, **cards):
    header = fits.Header(CARDS | {k.replace('__', '-'): v for k, v in cards.items()})
    array = sky() if array is None else array
    fits.PrimaryHDU(array, header).writeto(path)
    return path


def opened(*hdus, **first):
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(first)), *hdus]).writeto(out)
    return open_image(out.getvalue())


def plane(array, name, **cards):
    return fits.ImageHDU(array, fits.Header(cards), name=name)


SCI = plane(sky(), 'SCI', **CARDS)
BAD = np.zeros(SHAPE, bool)
BAD[40:60, 30:50] = True


@pytest.fixture
def home(tmp_path):
    return ad.open_archive(str(tmp_path / 'home'))


# --- planes in the same file


@pytest.mark.parametrize('name', ['MASK', 'MSK', 'BPM'])
def test_a_mask_of_bytes_is_yes_or_no(name):
    with opened(SCI, plane(BAD.astype('u1'), name)) as image:
        assert image.dq_policy == 'nonzero'
        assert (image.bad == BAD).all()


@pytest.mark.parametrize('bad', [0, 5, 33])
def test_a_mask_that_names_its_bits(bad):
    numbers = dict(BAD=bad, SAT=1, NO_DATA=8, DETECTED=6)
    bits = np.where(BAD, np.int64(1) << bad, 0) | np.int64(1) << 6
    mask = plane(bits, 'MASK', **{f'MP_{name}': n for name, n in numbers.items()})
    with opened(plane(sky(), 'IMAGE', **CARDS), mask) as image:
        assert image.dq_policy == 'cards'
        assert (image.bad == BAD).all()
        assert image.flag('DETECTED').all()


@pytest.mark.parametrize('name', ['DQ', 'MASK', 'MASKBITS', 'FLAGS'])
def test_bits_without_names_are_not_used_and_that_is_said(name):
    with opened(SCI, plane(np.where(BAD, 64, 0).astype('i4'), name)) as image:
        assert image.bad is None
        assert name in image.missing['dq'] and 'not used' in image.missing['dq']


@pytest.mark.parametrize(
    'name', 'WHT WGT WEIGHT WEIGHT_MAP IVAR INVVAR CONF EXPMAP COVERAGE NIMAGE NEXP'.split()
)
def test_zero_weight_is_bad(name):
    with opened(SCI, plane(np.where(BAD, 0, 7).astype('f4'), name)) as image:
        assert (image.bad == BAD).all()


@pytest.mark.parametrize('name', ['RMS', 'VARIANCE', 'VAR', 'UNCERT'])
@pytest.mark.parametrize('value', [np.inf, np.nan])
def test_an_infinite_error_is_bad(name, value):
    with opened(SCI, plane(np.where(BAD, value, 7).astype('f4'), name)) as image:
        assert (image.bad == BAD).all()


ACS = dict(TELESCOP='HST', INSTRUME='ACS')


def test_a_mask_of_another_shape_is_said():
    with opened(SCI, plane(np.zeros((60, 60), 'i2'), 'DQ'), **ACS) as image:
        assert '60 x 60' in image.missing['dq'] and image.bad is None


@pytest.mark.parametrize('value, bad', [(0, 0), (4, 1)])
def test_a_mask_of_one_value(value, bad):
    empty = fits.ImageHDU(name='DQ')
    empty.header.update(NPIX1=120, NPIX2=120, PIXVALUE=value)
    with opened(SCI, empty, **ACS) as image:
        assert image.bad.mean() == bad


@pytest.mark.parametrize('kind', ['u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8'])
def test_flags_of_every_integer_type(kind):
    with opened(SCI, plane(np.where(BAD, 4, 0).astype(kind), 'DQ'), **ACS) as image:
        assert (image.bad == BAD).all()


def test_what_is_told_reaches_what_follows_from_it(tmp_path):
    photometry = dict(PHOTFLAM=7e-20, PHOTPLAM=8000.0, EXPTIME=1.0, BUNIT='ELECTRONS')
    path = write(tmp_path / 'x.fits', MJD__OBS=53000.25, **ACS, **photometry)

    def told(**facts):
        with open_image(path, facts=facts) as image:
            return image

    by_header = told().zero_point
    assert told(exposure_s=100.0).zero_point == pytest.approx(by_header + 5)
    assert told(unit='ELECTRONS/S', exposure_s=100.0).zero_point == pytest.approx(by_header)
    assert (told(mjd=60000.5).mjd_meaning, told(mjd=60000.5).mjd_end) == (None, None)
    assert told(mjd=60000.5, mjd_meaning='mid').mjd_meaning == 'mid'


def test_a_closed_image_says_so(tmp_path):
    image = open_image(write(tmp_path / 'x.fits'))
    image.close()
    for ask in (lambda: image.pixels, lambda: image.bad, lambda: image.sha256, image.read_all):
        with pytest.raises(BadInput, match='closed'):
            ask()
    with pytest.raises(BadInput, match='nonsense'):
        open_image(tmp_path / 'x.fits', role='nonsense')
    with pytest.raises(BadInput, match='nan'):
        open_image(tmp_path / 'x.fits', hdu=float('nan'))


# --- zeros


@pytest.mark.parametrize('kind', ['f4', 'f8', 'i2', 'i4'])
def test_solid_zeros_of_a_mosaic_are_no_data(kind):
    mosaic = sky()
    mosaic[:, :40] = 0
    mosaic[90:, :] = 0
    with opened(plane(mosaic.astype(kind), 'SCI', **CARDS)) as image:
        assert (np.isnan(image.read_all()[0]) == (mosaic == 0)).all()
        assert (image.bad == (mosaic == 0)).all()
        assert 'zeros' in image.notes


@pytest.mark.parametrize('rate', [0.001, 0.1, 0.5, 3])
def test_zeros_of_counts_are_data(rate):
    counts = np.random.default_rng(1).poisson(rate, SHAPE).astype('f4')
    with opened(plane(counts, 'SCI', **CARDS)) as image:
        assert np.isfinite(image.read_all()[0]).all()


def test_random_sky_is_not_drawn_from_zeros(home, tmp_path):
    mosaic = sky(shape=(300, 300))
    mosaic[:, :150] = 0
    home.add_fits(write(tmp_path / 'm.fits', mosaic), survey='s', detect=False, show=False)
    params = ad.TrainingDataCollectionParams(confidence_threshold=0, negatives={'random_sky': 1.0})
    with open_image(tmp_path / 'm.fits') as image:
        ra, dec = image.pixel_to_world(np.linspace(160, 290, 12), np.linspace(10, 290, 12))
    place = pd.DataFrame(dict(ra=ra, dec=dec))
    home.add_catalogue(place, 'known', is_real=True)
    plan = ad.TrainingDataCollector(home).plan(params, progress=False)
    negatives = plan.samples[plan.samples.label == 0]
    with open_image(tmp_path / 'm.fits') as image:
        x, _ = image.world_to_pixel(negatives.ra.values, negatives.dec.values)
    assert len(x) and (x > 150).all()


# --- what a file is


@pytest.mark.parametrize(
    'cards, role',
    [
        (dict(IMAGETYP='FLAT'), 'calibration'),
        (dict(IMAGETYP='Bias Frame'), 'calibration'),
        (dict(OBSTYPE='dark'), 'calibration'),
        (dict(OBSTYPE='zero'), 'calibration'),
        (dict(IMAGETYP='twilight flat'), 'calibration'),
        (dict(PRODTYPE='dqmask'), 'mask'),
        (dict(PRODTYPE='wtmap'), 'weight'),
        (dict(PRODTYPE='expmap'), 'weight'),
        (dict(HDUCLAS2='ERROR'), 'error'),
        ({'HIERARCH ESO DPR CATG': 'CALIB'}, 'calibration'),
        ({'HIERARCH ESO DPR CATG': 'SCIENCE'}, 'image'),
        (dict(DATAMODL='SegmentationMapModel'), 'segmentation'),
        (dict(IMAGETYP='object'), 'image'),
        (dict(IMAGETYP='EXT'), 'image'),
        (dict(IMAGETYP='Light Frame'), 'image'),
        (dict(OBSTYPE='science', PRODTYPE='image'), 'image'),
        ({}, 'image'),
    ],
    ids=str,
)
def test_a_header_says_what_its_file_is(home, tmp_path, cards, role):
    assert role_of(fits.Header(cards))[0] == role
    report = home.add_fits(write(tmp_path / 'x.fits', **cards), 's', detect=False, show=False)
    assert report.added == (role == 'image') and len(report.ledger) == (role != 'image')
    again = home.add_fits(tmp_path / 'x.fits', 's', detect=False, show=False, role='image')
    assert again.added + again.skipped == 1


NAMES = [
    ('c4d_170329_ooi_g_v1.fits.fz', 'c4d_170329_ood_g_v1.fits.fz', 'dq'),
    ('c4d_170329_ooi_g_v1.fits.fz', 'c4d_170329_oow_g_v1.fits.fz', 'weight'),
    ('hlsp_xdf_f105w_v1_sci.fits', 'hlsp_xdf_f105w_v1_rms.fits', 'error'),
    ('hlsp_xdf_f105w_v1_drz.fits', 'hlsp_xdf_f105w_v1_wht.fits', 'weight'),
    ('ztf_2018_zr_c01_q1_sciimg.fits', 'ztf_2018_zr_c01_q1_mskimg.fits', 'dq'),
    ('m51.fits', 'm51_mask.fits', 'dq'),
    ('M51.FITS', 'M51.weight.FITS', 'weight'),
    ('field-img.fits.gz', 'field-bpm.fits.gz', 'dq'),
]


@pytest.mark.parametrize('image, helper, role', NAMES)
@pytest.mark.parametrize('folder', ['', 'a/', 's3://bucket/x/', 'C:\\data\\'])
def test_a_helper_is_known_beside_its_image(image, helper, role, folder):
    for order in ((image, helper), (helper, image)):
        found = {one.address: one for one in sort_delivery([folder + name for name in order])}
        assert found[folder + image].beside == {role: folder + helper}
        assert found[folder + helper].helps == folder + image


def test_a_helper_word_without_its_image_counts_only_where_it_is_plain():
    words = {one.address: one.helper_word for one in sort_delivery(['a_var.fits', 'b_ood_x.fits'])}
    assert words == {'a_var.fits': None, 'b_ood_x.fits': 'ood'}


def test_helpers_are_used_and_stay_with_their_image(home, tmp_path):
    folder = tmp_path / 'delivery'
    folder.mkdir()
    write(folder / 'f_ooi_g.fits', sky())
    write(folder / 'f_ood_g.fits', BAD.astype('u1'))
    write(folder / 'f_oow_g.fits', np.where(BAD.T, 0, 1).astype('f4'))
    report = home.add_fits(folder, survey='s', detect=False, show=False)
    assert (report.added, report.helpers, len(report.ledger)) == (1, 2, 0)
    y, x = 50.0, 40.0
    with open_image(folder / 'f_ooi_g.fits') as image:
        ra, dec = image.pixel_to_world(np.array([x]), np.array([y]))
    home.add_catalogue(pd.DataFrame(dict(ra=ra, dec=dec)), 'known', is_real=True)
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0, negatives={'random_sky': 1.0}, quality_score_threshold=None
    )
    plan = ad.TrainingDataCollector(home).plan(params, progress=False)
    built = plan.build(
        'masked', 31, progress=False, probe=False, allow_empty=True, min_valid_fraction=0.1
    )
    good = ~(BAD | BAD.T)
    with open_image(folder / 'f_ooi_g.fits') as image:
        places = np.array(image.world_to_pixel(built.samples.ra.values, built.samples.dec.values)).T
    for valid, (x, y) in zip(built.valid(), places):
        y0, x0 = (int(np.floor(v + 0.5)) - 15 for v in (y, x))
        inside = np.zeros((31, 31), bool)
        part = good[max(y0, 0) : y0 + 31, max(x0, 0) : x0 + 31]
        top, left = max(-y0, 0), max(-x0, 0)
        inside[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert (valid[0] == inside).all()


def test_a_helper_alone_is_lost_with_its_reason(home, tmp_path):
    report = home.add_fits(write(tmp_path / 'f_wht.fits'), 's', detect=False, show=False)
    assert report.ledger.reason.tolist() == ['helper_file']
    assert "role='image'" in report.ledger.detail[0]


def test_the_mask_of_the_right_chip(home, tmp_path):
    image, mask = fits.HDUList([fits.PrimaryHDU()]), fits.HDUList([fits.PrimaryHDU()])
    for chip in (1, 2, 3):
        place = CARDS | dict(CRVAL1=150.0 + chip, CCDNUM=chip)
        image.append(fits.ImageHDU(sky(chip), fits.Header(place), name=f'N{chip}'))
        bad = np.full(SHAPE, chip == 2, 'u1')
        mask.append(fits.ImageHDU(bad, fits.Header(place), name=f'X{chip}'))
    image.writeto(tmp_path / 'a.fits')
    mask.writeto(tmp_path / 'a_mask.fits')
    for chip in (1, 2, 3):
        with open_image(tmp_path / 'a.fits', f'N{chip}', dq=tmp_path / 'a_mask.fits') as one:
            assert one.bad.all() == (chip == 2)


def test_a_misspelt_fact_is_refused(home, tmp_path):
    path = write(tmp_path / 'x.fits')
    for call in (
        lambda: open_image(path, facts=dict(bnad='g')),
        lambda: home.add_fits(path, facts=dict(bnad='g')),
    ):
        with pytest.raises(BadInput, match='bnad'):
            call()
    with pytest.raises(TypeError, match='nsgima'):
        home.add_fits(path, nsgima=4)


# --- one bad thing


def test_a_store_that_is_silent_for_all_stops():
    guard = ItemGuard(IngestReport())
    with pytest.raises(StoreUnreachable):
        for name in 'abcd':
            with guard(name):
                raise StoreUnreachable('no answer')
    assert guard.report.ledger.uri.tolist() == ['a', 'b']


def test_a_full_disk_stops():
    guard = ItemGuard(IngestReport())
    with pytest.raises(OSError, match='space'), guard('a'):
        raise OSError(28, 'No space left on device')


def test_a_value_that_the_registry_cannot_hold_costs_one_item():
    from sqlalchemy.exc import DataError, OperationalError

    guard = ItemGuard(IngestReport())
    with guard('a'):
        raise DataError('insert', {}, ValueError('too long'))
    assert guard.report.ledger.uri.tolist() == ['a']
    with pytest.raises(OperationalError), guard('b'):
        raise OperationalError('insert', {}, OSError('gone'))


def test_role_image_takes_no_mask_where_there_is_sky(tmp_path):
    from astrid_data.ingest.files import science_images

    path = tmp_path / 'x.fits'
    mask = plane(BAD.astype('u1'), 'MASK')
    fits.HDUList([fits.PrimaryHDU(), plane(sky(), 'IMAGE', **CARDS), mask]).writeto(path)
    assert science_images(path, role='image') == [('IMAGE', 1)]


def test_a_foreign_exception_costs_one_image(home, tmp_path, monkeypatch):
    import astrid_data.ingest.rows as rows

    find = rows.detect_sources

    def breaks(image, **settings):
        if 'b.fits' in image.name:
            raise ZeroDivisionError('deep below')
        return find(image, **settings)

    monkeypatch.setattr(rows, 'detect_sources', breaks)
    for seed, name in enumerate('abc'):
        write(tmp_path / f'{name}.fits', sky(seed))
    report = home.add_fits(str(tmp_path / '?.fits'), survey='s', show=False)
    assert report.added == 2 and report.ledger.reason.tolist() == ['unexpected']
    assert 'ZeroDivisionError' in report.ledger.detail[0]


def test_a_damaged_tile_is_our_error(tmp_path):
    path = tmp_path / 'x.fits'
    fits.CompImageHDU(np.clip(sky(), 0, 2000).astype('i4'), fits.Header(CARDS)).writeto(path)
    with fits.open(path, disable_image_compression=True) as f:
        heap = f[1].fileinfo()['datLoc'] + f[1].header['NAXIS1'] * f[1].header['NAXIS2']
    data = bytearray(path.read_bytes())
    data[heap + 300 : heap + 900] = bytes([171]) * 600
    path.write_bytes(data)
    with pytest.raises(BadImage, match='tile'), open_image(path) as image:
        image.read_all()


# --- the sky


@pytest.mark.parametrize('width, height', [(300, 20), (350, 60), (180, 170), (60, 178), (1, 1)])
def test_a_map_of_any_width_holds_its_own_positions(home, tmp_path, width, height):
    nx, ny = 120, 60
    header = fits.Header(dict(CTYPE1='RA---CAR', CTYPE2='DEC--CAR', CRVAL1=150.0, CRVAL2=0.0))
    header.update(CRPIX1=60.5, CRPIX2=30.5, CDELT1=-width / nx, CDELT2=height / ny)
    path = tmp_path / 'map.fits'
    fits.PrimaryHDU(sky(shape=(ny, nx)), header).writeto(path)
    assert home.add_fits(path, survey='s', detect=False, show=False).added == 1
    rng = np.random.default_rng(0)
    with open_image(path) as image:
        ra, dec = image.pixel_to_world(rng.uniform(0, nx - 1, 40), rng.uniform(0, ny - 1, 40))
    found = home.add_catalogue(pd.DataFrame(dict(ra=ra, dec=dec)), 'known')
    assert found.detections == 40


def test_shared_deliveries(shared_data, home, tmp_path):
    "Real folders as archives deliver them: image, mask and weight; image and rms"
    for folder, names in (('ground/decam_tc4', '*'), ('hst', 'xdf_*')):
        target = tmp_path / folder.replace('/', '_')
        target.mkdir()
        for path in (shared_data / folder).glob(names):
            shutil.copy(path, target)
    report = home.add_fits(tmp_path, detect=False, show=False)
    assert report.added == 7 and len(report.ledger) == 0 and report.helpers == 12


# --- verdicts


@pytest.mark.parametrize('program', ['rule:x', 'proxy:x', 'catalogue:x', 'model:x'])
def test_no_program_overrules_a_person(home, tmp_path, program):
    from astrid_data.registry.tables import Detection, add_validation_event

    path = write(tmp_path / 'x.fits')
    home.add_fits(path, survey='s', detect=False, show=False)
    home.add_catalogue(pd.DataFrame(dict(ra=[150.0], dec=[2.0])), 'known')
    with home.session() as session:
        one = session.query(Detection).one()
        add_validation_event(session, one.id, 'ann', True, 'nova')
        add_validation_event(session, one.id, program, False, 'artefact')
        assert (one.status, one.human_label) == ('confirmed', 'nova')
        for text in ('perhaps', '', b'x', 0.5, -1, None, 'unsure'):
            with pytest.raises(BadInput, match='verdict'):
                add_validation_event(session, one.id, 'ann', text)


def test_collect_takes_the_fields_of_a_collection(tmp_path):
    from astrid_data.simulate.synthetic import synthetic_archive

    archive = synthetic_archive(tmp_path / 'sky')
    collector = ad.TrainingDataCollector(archive)
    made = collector.collect(
        'few',
        max_samples=8,
        quality_score_threshold=None,
        patch_size=12,
        progress=False,
        probe=False,
    )
    assert 0 < len(made) <= 8


ENDINGS = dict(
    dq='-badpix _satmask mask _bad_pixel_map _dq_1 .mk _dqm _quality _MASK2',
    weight='.wei _invar _exptime_map wht .wt _wtmap2 _inv_var _nimages _exposure-map',
    error='_noise _uncertainty -rms_1 .err',
)


@pytest.mark.parametrize(
    ('role', 'ending'), [(role, word) for role, words in ENDINGS.items() for word in words.split()]
)
def test_a_file_named_after_an_image_is_no_image(role, ending):
    image, helper, other = sort_delivery(['f/img.fits', f'f/img{ending}.fits', 'f/img2.fits'])
    assert (helper.helps, image.beside) == ('f/img.fits', {role: f'f/img{ending}.fits'})
    assert other.helps is None


def test_another_exposure_band_or_star_stays_an_image():
    names = ['img', 'img_exposure2', 'img_w', 'img_weighted', 'img_r', 'imgmaskelyne', 'image']
    assert not any(one.helps for one in sort_delivery([f'f/{name}.fits' for name in names]))
