"What surveys and observatories write: cards, names of files, planes, bands, units and times of many"

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

import astrid_data as ad
from astrid_data.images.cards import filter_word
from astrid_data.images.hdus import role_of
from astrid_data.images.headers import read_header_facts
from astrid_data.images.image import open_image
from astrid_data.images.units import kind_of_unit, parse_unit
from astrid_data.ingest.files import sort_delivery

pytestmark = pytest.mark.filterwarnings('ignore')
SIDE = 96
BAD = np.zeros((SIDE, SIDE), bool)
BAD[40:60, 30:50] = True


def header_of(cards):
    "A header with these cards; a value may be a pair of value and comment"
    header = fits.Header()
    for name, value in cards.items():
        header[f'HIERARCH {name}' if len(name) > 8 else name] = value
    return header


def placed(**cards):
    "The header of an image on the sky"
    step = 0.5 / 3600
    place = dict(CRVAL1=150.0, CRVAL2=2.0, CRPIX1=48.5, CRPIX2=48.5, CDELT1=-step, CDELT2=step)
    return fits.Header(dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', **place) | cards)


def sky(seed=0):
    return np.random.default_rng(seed).normal(100, 3, (SIDE, SIDE)).astype('f4')


def plane(values, name=None, ver=1, **cards):
    hdu = fits.ImageHDU(np.asarray(values), fits.Header(cards), name=name)
    hdu.ver = ver
    return hdu


def written(path, *hdus, **first):
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(first)), *hdus]).writeto(path)
    return path


ROLES = [
    ('DATA-TYP', 'DOMEFLAT', 'calibration'),  # Subaru
    ('DATA-TYP', 'STANDARD_STAR', 'image'),
    ('IMGTYPE', 'bias', 'calibration'),
    ('VIMTYPE', 'SCIENCE', 'image'),
    ('OBS-TYPE', 'DARK', 'calibration'),
    ('CCDTYPE', 'ZERO', 'calibration'),
    ('DATATYPE', 'INTEGER*2', 'image'),
    ('PRODTYPE', 'dqmask1', 'mask'),  # NOIRLab numbers them
    ('PRODTYPE', 'image1', 'image'),
    ('ESO PRO CATG', 'MASTER_SKY_FLAT_R', 'calibration'),
    ('ESO PRO CATG', 'CONFIDENCE_MAP_JITTERED', 'weight'),
    ('ESO PRO CATG', 'BP_MAP_NP', 'mask'),
    ('ESO PRO CATG', 'BACKGROUND_MAP', 'other'),
    ('ESO PRO CATG', 'JITTERED_IMAGE_SCI', 'image'),
    ('ESO PRO CATG', 'SKY_TILE_IMAGE', 'image'),
    ('PRODCATG', 'ANCILLARY.WEIGHTMAP', 'weight'),
    ('PRODCATG', 'ANCILLARY.RMSMAP', 'error'),
    ('PRODCATG', 'SCIENCE.MEFIMAGE', 'image'),
    ('FILETYPE', 'SDQ', 'mask'),  # WFPC2
    ('FILETYPE', 'SCI', 'image'),
    ('EXP_TYPE', 'NRC_DARK', 'calibration'),  # JWST
    ('EXP_TYPE', 'MIR_FLATIMAGE', 'calibration'),
    ('EXP_TYPE', 'NRC_IMAGE', 'image'),
    ('PUPIL', 'GR700XD', 'spectrum'),
    ('DATAMODL', 'WfssBkgModel', 'calibration'),
    ('CONTENT', 'EXPOSURE', 'weight'),  # XMM
    ('HDUCLAS2', 'EXPOSURE', 'weight'),
    ('HDUCLAS2', 'BKG', 'other'),
    ('IMAGETYP', 'EXPOSURE', 'image'),
    ('BUNIT', 's', 'weight'),
    ('BUNIT', 'nJy**2', 'error'),
    ('BUNIT', '(electron/s)**2', 'error'),
    ('BUNIT', '(10**(-20)*erg/s/cm**2/Angstrom)**2', 'error'),
    ('BUNIT', 'nanomaggy^-2', 'weight'),
    ('BUNIT', '10**(-20)*erg/s/cm**2/Angstrom', 'image'),
    ('BUNIT', 'electron/s', 'image'),
    ('BUNIT', 'K', 'image'),
    ('IMAGETYP', 'mask clean', 'mask'),
    ('OBSTYPE', 'sky background', 'image'),
    ('HIERARCH ESO PRO CATG', 'BP_MAP_NL', 'mask'),
    ('OBJECT', 'dark', 'calibration'),
    ('IMAGETYP', 'dark subarray', 'calibration'),
    ('IMAGETYP', 'dark subtracted', 'image'),
    ('OBJECT', 'Sky Flat', 'calibration'),
    ('OBJECT', 'Dark Horse nebula', 'image'),
]


@pytest.mark.parametrize('card, value, role', ROLES)
def test_a_card_of_any_observatory_says_what_a_frame_is(card, value, role):
    assert role_of(header_of({card: value}))[0] == role


def test_the_type_of_a_frame_is_asked_before_the_name_of_its_object():
    assert role_of(header_of(dict(OBJECT='dark', IMAGETYP='Light Frame')))[0] == 'image'


NAMES = {
    'MASK1': 'mask',
    'SkyChip.mask': 'mask',
    'ERRS': 'error',
    'STAT': 'error',  # MUSE
    'stDev': 'error',
    'covMap': 'weight',
    'BKG_SUB': 'image',
    'PSF_MATCHED': 'image',
    'ERR_CORR': 'error',
    'IVAR_CORR': 'weight',
    'DQ_CLEAN': 'mask',
    'WHT_MATCHED': 'weight',
    'BP': 'image',  # Gaia's band
    'SCI_BP': 'image',
    'BP_SCI': 'image',
    'BP_MAP': 'mask',
    'SKY_BACKGROUND': 'other',
    '3-4-F.SCI': 'image',
}


@pytest.mark.parametrize('name', NAMES)
def test_the_name_of_an_extension_says_its_role(name):
    assert role_of(fits.Header(), name)[0] == NAMES[name]


@pytest.mark.parametrize(
    'image, helper, values',
    [
        ('SCI1', 'MASK1', BAD.astype('u1')),
        ('IM', 'IM.MASK', BAD.astype('u1')),
        ('DATA', 'STAT', np.where(BAD, np.nan, 9).astype('f4')),
        ('FLUX', 'ERRS', np.where(BAD, np.inf, 3).astype('f4')),
        ('image', 'covMap', np.where(BAD, 0, 3).astype('f4')),
    ],
)
def test_the_plane_is_used(tmp_path, image, helper, values):
    hdu = fits.ImageHDU(sky(), placed(), name=image)
    with open_image(written(tmp_path / 'a.fits', hdu, plane(values, helper))) as opened:
        assert opened.hdu_name == image.upper()
        assert (opened.read_all()[1] == BAD).all()


def test_each_chip_has_the_mask_of_its_number(tmp_path):
    chips = [fits.ImageHDU(sky(i), placed(CRVAL1=150.0 + i), name=f'SCI{i}') for i in (1, 2)]
    masks = [plane((BAD if i == 1 else BAD.T).astype('u1'), f'MASK{i}') for i in (1, 2)]
    path = written(tmp_path / 'a.fits', *chips, *masks)
    for i, bad in ((1, BAD), (2, BAD.T)):
        with open_image(path, f'SCI{i}') as opened:
            assert (opened.read_all()[1] == bad).all()


def test_flags_of_which_none_is_known_to_be_bad_are_said_and_can_be_named(tmp_path):
    flags = plane((BAD * 128).astype('i4'), 'FLAGS', MP_OVERFLOW=1, MP_DICHROIC=7)
    path = written(tmp_path / 'a.fits', fits.ImageHDU(sky(), placed(), name='IMAGE'), flags)
    with open_image(path) as opened:
        assert 'DICHROIC' in opened.missing['dq'] and not opened.read_all()[1].any()
        assert (opened.flag('DICHROIC') == BAD).all()
    with open_image(path, dq_policy='cards:DICHROIC') as opened:
        assert 'dq' not in opened.missing and (opened.read_all()[1] == BAD).all()


DELIVERIES = {  # Name of the files, the image, and its helpers with what they are used for
    's.stk.g.unconv{}': ('', {'.wt': 'weight', '.mask': 'dq', '.exp': None, '.num': None}),
    'c4d_1_{}_g_v1': ('osi', dict(osd='dq', osw='weight', ose=None)),
    'w-w1-{}-m': ('img', dict(invvar='weight', std='error', n=None)),
    'j_drz_{}': ('sci', dict(ivm='weight')),
    'hst_x_f606w_drz{}': ('', dict(_ivm='weight')),
    'stk-r{}': ('', {'-nobs': 'weight'}),
    'im_{}': ('sci', dict(nobs='weight', err='error')),
    'A-nd-{}': ('int', dict(flags='dq', wt='weight', rr=None, skybg=None)),
    'z_q2_{}': ('sciimg', dict(mskimg='dq', scimrefdiffimg=None)),
    'u2x01_{}': ('c0m', dict(c1m='dq')),
    'KiDS_r_{}': ('sci', dict(wei='weight', msk='dq')),
    'em01_{}_c010': ('Image', dict(ExposureMap='weight', DetectionMask='dq', BackgrImage=None)),
    'HATLAS_{}250': ('RAW', dict(SIGMA='error', MASK='dq')),
    'mosaic_{}': ('sci', dict(error='error', depth_map=None)),
    'deepCoadd_{}_14_r': ('calexp', dict(nImage='weight')),
}


@pytest.mark.parametrize('name', DELIVERIES)
@pytest.mark.parametrize('turned', [False, True])
def test_the_files_of_a_survey_go_with_their_image(name, turned):
    image, helpers = DELIVERIES[name]
    words = [image, *helpers][:: -1 if turned else 1]
    found = {one.address: one for one in sort_delivery([f'd/{name.format(w)}.fits' for w in words])}
    of_image = found.pop(f'd/{name.format(image)}.fits')
    assert of_image.helps is of_image.helper_word is None
    assert {one.helps for one in found.values()} == {of_image.address}
    used = {role: f'd/{name.format(word)}.fits' for word, role in helpers.items() if role}
    assert used.items() <= of_image.beside.items()


def test_of_two_images_each_has_the_helper_that_begins_like_it():
    words = 'bcd cbcd bunc cbunc bimsk'.split()
    found = {one.address[4:-5]: one for one in sort_delivery([f'd/x_{w}.fits' for w in words])}
    assert found['bcd'].beside == dict(error='d/x_bunc.fits', dq='d/x_bimsk.fits')
    assert found['cbcd'].beside == dict(error='d/x_cbunc.fits')


def test_a_catalogue_beside_an_image_takes_no_plane_from_it():
    words = 'refimg refcov refsexcat'.split()
    image, *_ = sort_delivery([f'd/z_{word}.fits' for word in words])
    assert image.beside == dict(weight='d/z_refcov.fits')


ALONE = [
    'EUC_MER_MOSAIC-VIS-FLAG_TILE1_00.00',
    'EUC_MER_BGMOD-VIS_TILE1_00.00',
    'EUC_MER_GRID-PSF-VIS_TILE1_00.00',
    'legacysurvey-0001m002-maskbits',
    'ceers_f115w_v0.5_err',
    'z_q2_scimrefdiffimg',
    'UVISTA_Ks_flag',
    'v2012_st_conf',
    'x_dq',
    'x_rms_corr',
    'f160w_rms_corrected',
    'f160w_wht_matched',
    'a_mask_clean',
    *'x_ivm x.wt x_cov x-cov-3 x_ctx x_exp x_nobs x-depth x-depth-r x_sens x_maskim x_std'.split(),
    *'x_stdev x_sigma x_noise x_photflat x_chi2 x_galmodel x_resid x_residual x_bkgd'.split(),
    *'x_skymap dark_0001 dark_300s bias_003 flat-r master_flat_V wtint nexp sigma chi2'.split(),
]
IMAGES = [
    *'exposure_12 noise-free covington_field sky_field deep-exp1_sci dark_energy_field_sci'.split(),
    *'flatiron dark_sky_1 m31_bias-corrected bias-corrected_m31 dark_cloud_b68 depth_field_r std_r'.split(),
    *'sigma_orionis flat_fielded_r noise_free_2 x_dark_subtracted exp_12 x_bkgd_sub'.split(),
    'f160w_psf_matched',
    'ceers_sci_bkgsub',
    'jades_bkg_sub',
    'm31_exp_1',
    'psw_map',
    'x_var_1',
]


@pytest.mark.parametrize('name', ALONE)
def test_a_helper_is_known_without_its_image(name):
    assert sort_delivery([f'd/{name}.fits.fz'])[0].helper_word


@pytest.mark.parametrize('name', IMAGES)
def test_what_was_done_to_an_image_makes_no_helper(name):
    alone, beside = sort_delivery([f'd/{name}.fits', 'd/other.fits'])
    assert alone.helper_word is beside.helps is None


def test_what_others_describe_is_an_image_whatever_its_name_ends_with():
    image, mask = sort_delivery(['d/deep_exp.fits', 'd/deep_exp_mask.fits'])
    assert image.helper_word is None and mask.helps == image.address


def test_a_helper_without_its_image_can_be_taken_for_sky(tmp_path):
    archive, report = taken_in(tmp_path, tile_ivm=[fits.PrimaryHDU(sky(), placed())])
    assert report.ledger.reason.tolist() == ['helper_file']
    assert "role='image'" in report.ledger.detail[0]
    file = tmp_path / 'delivery' / 'tile_ivm.fits'
    taken = archive.add_fits(file, survey='s', role='image', detect=False, show=False)
    assert taken.added == 1


def test_a_weight_that_was_corrected_goes_with_its_image():
    image, weight = sort_delivery(['d/m_sci.fits', 'd/m_weight_corr.fits'])
    assert image.helper_word is None and weight.helper_word


def taken_in(tmp_path, **files):
    "An archive with a folder of files, and the report"
    folder = tmp_path / 'delivery'
    folder.mkdir()
    for name, hdus in files.items():
        fits.HDUList(hdus).writeto(folder / f'{name}.fits')
    archive = ad.open_archive(tmp_path / 'archive')
    return archive, archive.add_fits(folder, survey='s', detect=False, show=False)


def missing_of(archive):
    "What is missing of each image, by the name of its file"
    from sqlalchemy import select

    from astrid_data.registry.tables import Image

    with archive.session() as session:
        rows = session.execute(select(Image.uri, Image.facts)).all()
    return {uri.rpartition('/')[2]: facts['missing'] for uri, facts in rows}


def test_flags_in_larger_pixels_cost_no_image(tmp_path):
    image = fits.PrimaryHDU(sky(), placed())
    small = fits.PrimaryHDU(np.zeros((SIDE // 2, SIDE // 2), 'u1'))
    archive, report = taken_in(tmp_path, **{'A-nd-int': [image], 'A-nd-flags': [small]})
    assert (report.added, len(report.ledger)) == (1, 0)
    assert 'A-nd-flags.fits' in missing_of(archive)['A-nd-int.fits']['dq']


def test_a_plane_that_the_caller_named_must_fit(tmp_path):
    fits.PrimaryHDU(sky(), placed()).writeto(tmp_path / 'a.fits')
    fits.PrimaryHDU(np.zeros((9, 9), 'u1')).writeto(tmp_path / 'b.fits')
    archive = ad.open_archive(tmp_path / 'archive')
    report = archive.add_fits(
        tmp_path / 'a.fits', survey='s', dq=tmp_path / 'b.fits', detect=False, show=False
    )
    assert (report.added, report.ledger.reason.tolist()) == (0, ['plane_unfit'])


def test_a_mask_of_floats_holds_nan_where_nothing_is_bad(tmp_path):
    mask = fits.PrimaryHDU(np.where(BAD, 1, np.nan).astype('f4'), placed())
    archive, report = taken_in(tmp_path, m=[fits.PrimaryHDU(sky(), placed())], m_mask=[mask])
    assert (report.added, len(report.ledger)) == (1, 0)
    folder = tmp_path / 'delivery'
    with archive.open(folder / 'm.fits', dq=folder / 'm_mask.fits') as image:
        assert (image.read_all()[1] == BAD).all()


def test_the_quality_of_wfpc2_has_extensions_called_sci(tmp_path):
    first = dict(TELESCOP='HST', INSTRUME='WFPC2')
    chips = [fits.ImageHDU(sky(i), placed(CRVAL1=150.0 + i), name='SCI') for i in (1, 2)]
    for chip, ver in zip(chips, (1, 2)):
        chip.ver = ver
    flags = [plane(bad.astype('i2') * 2, 'SCI', ver) for ver, bad in ((1, BAD), (2, BAD.T))]
    primary = [
        fits.PrimaryHDU(header=fits.Header(first | more)) for more in ({}, dict(FILETYPE='SDQ'))
    ]
    files = dict(u_c0m=[primary[0], *chips], u_c1m=[primary[1], *flags])
    archive, report = taken_in(tmp_path, **files)
    assert (report.added, report.helpers, len(report.ledger)) == (2, 1, 0)
    folder = tmp_path / 'delivery'
    for ver, bad in ((1, BAD), (2, BAD.T)):
        with archive.open(folder / 'u_c0m.fits', 'SCI', ver, dq=folder / 'u_c1m.fits') as image:
            assert (image.read_all()[1] == bad).all()
    alone = archive.add_fits(folder / 'u_c1m.fits', survey='s', detect=False, show=False)
    assert alone.ledger.reason.tolist() == ['helper_file']


BANDS = {
    'H alpha': 'Halpha',
    'H-alpha 658nm': 'Halpha',
    'Ha 7nm': 'Halpha',
    'Halpha': 'Halpha',
    'Halpha off': 'Halpha off',
    'Ha-off': 'Halpha off',
    'Ha_cont': 'Halpha cont',
    'H-alpha continuum': 'Halpha cont',
    '[OIII]_off': 'OIII off',
    'O III 5007': 'OIII',
    '[OIII]': 'OIII',
    'S II': 'SII',
    'K short': 'Ks',
    'Kshort': 'Ks',
    'K prime': 'Kp',
    'rp': 'r',
    'ip': 'i',
    'r prime': 'r',
    'gprime': 'g',
    'r_G0303': 'r',
    'Mould-R': 'R',
    'g_PTF': 'g',
    'I_BESS': 'I',
    'H': 'H',
    'H_wide': 'H_wide',
    'CV': 'CV',
    'zs': 'zs',
}


@pytest.mark.parametrize('text', BANDS)
def test_a_filter_has_one_name(text):
    assert filter_word(text) == BANDS[text]


@pytest.mark.parametrize('card', ['FILTER', 'BAND', 'FILTER1'])
@pytest.mark.parametrize('value', [True, False])
def test_a_logical_is_no_band(card, value):
    assert read_header_facts(header_of({card: value}))['band'] is None
    assert read_header_facts(header_of({card: value, 'FILTNAM': 'g'}))['band'] == 'g'


def test_a_mosaic_of_colours_has_no_band():
    found = read_header_facts(header_of(dict(BAYERPAT='RGGB', FILTER='L')))
    assert found['band'] is None and 'BAYERPAT' in found['missing']['band']


UNITS = {
    'E-/S': 'rate',
    'ELECTRONS PER SECOND': 'rate',
    'photoelectrons': 'counts',
    'photoelectrons/s': 'rate',
    '1.E-17 erg/s/cm2/A': 'other',
    '1.E-20 W/m2/Hz': 'flux density',
}


@pytest.mark.parametrize('text', UNITS)
def test_a_unit_in_capitals_is_that_unit(text):
    assert kind_of_unit(parse_unit(text)) == UNITS[text]


MID = '[day] MJD at obs. midpoint'
TIMES = [
    (dict(ORIGIN='2MASS', UT_DATE='990615', UT='06:07:08'), '1999-06-15T06:07:08.000', 'start'),
    (dict(ORIGIN='2MASS', UT_DATE='000615', UT='06:07:08'), '2000-06-15T06:07:08.000', 'start'),
    ({'DATE-OBS': ('010203', 'UT date (yymmdd)')}, '2001-02-03T00:00:00.000', None),
    ({'DATE-OBS': '010203'}, None, None),
    (
        dict(DATE_OBS='2010-01-15T00:50:33.000', MJD_OBS=(55211.0351041667, MID)),
        '2010-01-15T00:50:33.000',
        'mid',
    ),
    (
        {'DATE-OBS': '2010-01-15T00:50:29.000', 'MJD_OBS': (55211.0351041667, MID)},
        '2010-01-15T00:50:29.000',
        'start',
    ),
    (
        {'MJD-BEG': 59894.25, 'MJD-AVG': 59900.25, 'MJD-END': 59910.5, 'DATE-OBS': '2022-11-11'},
        '2022-11-11T06:00:00.000',
        'start',
    ),
    (
        {'MJD-BEG': 59894.25, 'MJD-AVG': 59900.25, 'MJD-END': 59910.5, 'EXPTIME': 9000.0},
        '2022-11-11T06:00:00.000',
        'start',
    ),
    ({'MJD-BEG': 59894.25, 'MJD-END': 59810.5, 'EXPTIME': 9000.0}, None, None),
    ({'MJD-BEG': 50000.0, 'MJD-END': 60000.0, 'EXPTIME': 30.0}, None, None),
    ({'MJD-OBS': 59759.25, 'MJD-BEG': 59894.25, 'MJD-END': 59910.5}, None, None),
    ({'MJD-OBS': 56000.25, 'MJD-END': 56400.5, 'EXPTIME': 60.0}, None, None),
]


@pytest.mark.parametrize('cards, as_iso, meaning', TIMES)
def test_a_time_means_what_its_survey_means(cards, as_iso, meaning):
    found = read_header_facts(header_of(cards))
    mjd = found['mjd']
    assert (None if mjd is None else Time(round(mjd, 8), format='mjd').isot) == as_iso
    assert found['mjd_meaning'] == meaning
    assert (mjd is None) == ('mjd' in found['missing'])


@pytest.mark.parametrize(
    'comment, seconds',
    [
        ('exposure in ms', 0.5),
        ('exposure time, in min', 30000.0),
        ('in hr', 1800000.0),
        ('minimum of the frames', 500.0),
        ('taken in d4 mode', 500.0),
    ],
)
def test_an_exposure_is_in_the_unit_of_its_comment(comment, seconds):
    found = read_header_facts(header_of(dict(EXPTIME=(500.0, comment))))
    assert found['exposure_s'] == pytest.approx(seconds)


@pytest.fixture(scope='module')
def field(tmp_path_factory):
    "An archive with one image, and three places on it"
    home = tmp_path_factory.mktemp('field')
    fits.PrimaryHDU(sky(), placed(FILTER='r', TELESCOP='T')).writeto(home / 'a.fits')
    archive = ad.open_archive(home / 'archive')
    archive.add_fits(home / 'a.fits', survey='s', detect=False, show=False)
    with open_image(home / 'a.fits') as image:
        ra, dec = image.pixel_to_world(np.array([20.0, 50.0, 80.0]), np.array([30.0, 60.0, 40.0]))
    return archive, ra.tolist(), dec.tolist()


SEXTRACTOR = """#   1 NUMBER                 Running object number
#   2 MAG_APER               Fixed aperture magnitude vector              [mag]
#   4 ALPHA_J2000            Right ascension of barycenter (J2000)        [deg]
#   5 DELTA_J2000            Declination of barycenter (J2000)            [deg]
"""
IPAC = r"""\fixlen = T
\ a remark
|     ra        |     dec      | designation         |
|     double    |     double   | char                |
|     deg       |     deg      |                     |
"""
TNS = """"2024-01-01 00:00:00 - 23:59:59"
"objid","name","ra","declination"
"""
TEXTS = {
    'sextractor.cat': (SEXTRACTOR, '{i} 18.5 18.4 {ra} {dec}', 'ALPHA_J2000 DELTA_J2000 NUMBER'),
    'ipac.tbl': (IPAC, '  {ra:13.9f}   {dec:12.9f}   {i:<20}', 'ra dec designation'),
    'tns.csv': (TNS, '"17","{i}","{ra}","{dec}"', 'ra declination name'),
}


@pytest.mark.parametrize('name', TEXTS)
def test_a_table_in_the_form_of_its_program(field, tmp_path, name):
    archive, ra, dec = field
    head, line, columns = TEXTS[name]
    ra_name, dec_name, id_name = columns.split()
    ids = [str(1234567890123456781 + i) for i in range(3)]
    rows = [line.format(i=i, ra=a, dec=d) for i, a, d in zip(ids, ra, dec)]
    (tmp_path / name).write_text(head + '\n'.join(rows) + '\n')
    columns = dict(ra=ra_name, dec=dec_name, object_id=id_name)
    from sqlalchemy import select

    from astrid_data.registry.tables import Detection

    with archive.session() as session:
        before = set(session.scalars(select(Detection.id)))
        report = archive.add_catalogue(tmp_path / name, name, is_real=True, **columns)
        assert (report.detections, len(report.ledger)) == (3, 0)
    with archive.session() as session:
        found = session.execute(select(Detection.ra, Detection.dec, Detection.id)).all()
    places = [(one.ra, one.dec) for one in found if one.id not in before]
    assert np.allclose(sorted(places), sorted(zip(ra, dec)), atol=1e-7)


def test_the_epoch_of_a_long_stack_is_said_to_be_a_span():
    found = read_header_facts(header_of({'MJD-BEG': 59894.25, 'MJD-END': 59910.5, 'EXPTIME': 30.0}))
    assert found['notes']['mjd'] == 'the epoch is a span of 16.2 days, from MJD-BEG to MJD-END'
    short = read_header_facts(header_of({'MJD-BEG': 59894.25, 'MJD-END': 59894.26}))
    assert 'mjd' not in short['notes']


LOST_FACTS = [
    ({'MJD-OBS': 56000.25, 'MJD-END': 56400.5}, 'time', 'cards contradict each other'),
    ({'MJD-BEG': 59894.25, 'MJD-END': 59910.5}, 'time', 'the epoch is a span of 16.2 days'),
    ({'DATE-OBS': '2020-01-02'}, 'time', 'DATE-OBS gives the day only'),
    ({'DATE-OBS': '2020-01-02T09:60:00'}, 'time', '09:60:00'),
    (dict(MAGZP=0.0), 'zero point', 'MAGZP = 0 may stand for an unknown one'),
]


@pytest.mark.parametrize('cards, fact, why', LOST_FACTS)
def test_a_report_says_which_facts_of_an_image_are_unknown(tmp_path, cards, fact, why):
    _, report = taken_in(tmp_path, a=[fits.PrimaryHDU(sky(), placed(**cards))])
    assert report.added == 1
    missing = report.missing
    [said] = missing[missing.fact == fact]['why']
    assert why in said
    assert missing.uri.str.endswith('a.fits').all()
    assert f'{fact} of 1 image (' in repr(report)


def test_a_report_has_no_line_for_an_image_that_gives_all(tmp_path):
    cards = {'DATE-OBS': '2020-01-02T09:50:00', 'MAGZERO': 25.0, 'BUNIT': 'adu', 'FILTER': 'r'}
    _, report = taken_in(tmp_path, a=[fits.PrimaryHDU(sky(), placed(**cards))])
    assert not len(report.missing) and 'unknown:' not in repr(report)
