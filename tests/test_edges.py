"""Finds of users at the edges: what is said when nothing is done, and what a file is that is no image or table.

Where the shared data is absent its tests are skipped, and say so.
"""

import io
import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.images.hdus import role_of
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.tables import open_table
from astrid_data.registry.tables import Image

pytestmark = pytest.mark.filterwarnings('ignore')


# What an image is


@pytest.mark.parametrize(
    'cards',
    [
        dict(FILTER='G141'),
        dict(FILTER='GR150R', PUPIL='F115W'),
        dict(FILTER='F322W2', PUPIL='GRISMC'),
        dict(FILTER1='G800L', FILTER2='CLEAR2L'),
        dict(FILTER='CLEAR', GRATING='PRISM'),
        dict(OPT_ELEM='G140L'),
        dict(EXP_TYPE='NRC_WFSS'),
        dict(OBSTYPE='SPECTROSCOPIC'),
        {'HIERARCH ESO DPR TECH': 'SPECTRUM'},
    ],
)
def test_what_a_disperser_made_is_no_image(cards):
    assert role_of(fits.Header(cards))[0] == 'spectrum'


@pytest.mark.parametrize(
    'cards',
    [
        dict(FILTER='g'),
        dict(FILTER='GG495'),
        dict(FILTER='F115W', PUPIL='CLEAR'),
        dict(OPT_ELEM='MIRVIS'),
        dict(EXP_TYPE='NRS_TACQ'),
        dict(EXP_TYPE='NRC_IMAGE', FILTER='F200W'),
        dict(OBSTYPE='IMAGING'),
        {'HIERARCH ESO DPR TECH': 'IMAGE'},
    ],
)
def test_what_a_filter_passed_is_one(cards):
    assert role_of(fits.Header(cards))[0] == 'image'


SHARED = {
    # file: survey, band, first moment (MJD) or None, zero point or None, exposure (s) or None
    'hst/cosmos_acs_f814w_100610.fits': ('hst', 'F814W', 53125.44718478, 25.9365, 4056.0),
    'hst/goodss_wfc3ir_f160w_738x480.fits.gz': ('unknown', 'unknown', 55816.7655, None, None),
    'jwst/a2744_nircam_f200w_epoch1_jw01324.fits': ('jwst', 'F200W', None, 28.0292, 44579.056),
    'skyview/2mass_k_galcentre.fits.gz': ('2mass', 'K', None, 19.9757, None),
    'skyview/dss_acen_100.fits.gz': ('dss', 'J', 42848.7347, None, 4200.0),
    'skyview/dss_hd219829.fits': ('dss', 'E', None, None, 3000.0),
    'skyview/sdss_r_reprojected.fits.bz2': ('sdss', 'g', 51814.1182, 22.5, 53.9075),
    'skyview/wise_w3_w5.fits.gz': ('wise', 'W3', None, None, None),
    'ground/snhost_ps1_g.fits': ('ps1', 'g', 56102.194197, 32.3362, 860.0),
    # MJy/sr by the solid angle of the pixels, 1.2233 arcsec: 8.9 - 2.5 log10(1e6 * 3.517e-11)
    'ground/spitzer_irac_m51_sn2005cs_sip.fits': ('spitzer', 'I1', 54280.1358, 20.035, 10.4),
    'ground/snhost_des_g.fits.gz': ('des', 'g', 56545.378198, 30.0, 450.0),
    'ground/ukidss_k_crab.fits': ('ukidss', 'K', 54384.55006, None, 10.0),
}


@pytest.fixture(scope='module')
def shared_archive(shared_data, tmp_path_factory):
    archive = open_archive(tmp_path_factory.mktemp('shared'))
    report = archive.add_fits([shared_data / name for name in SHARED], detect=False, show=False)
    assert report.added == len(SHARED) and not len(report.ledger)
    archive.first_report = report
    return archive


@pytest.mark.parametrize('name', SHARED)
def test_shared_images_are_what_their_headers_say(shared_archive, name):
    survey, band, mjd, zero_point, exposure_s = SHARED[name]
    seen = shared_archive.first_report.images.set_index(
        shared_archive.first_report.images.uri.str.rpartition('/shared/data/')[2]
    )
    row = seen[seen.index.str.endswith(name)].iloc[0]
    assert (row.survey, row.band) == (survey, band)
    with shared_archive.session() as session:
        image = next(i for i in session.query(Image) if i.uri.endswith(name))
        found = image.mjd, image.zero_point, image.facts.get('exposure_s')
        ends = image.facts.get('mjd_end')
    for value, expected in zip(found, (mjd, zero_point, exposure_s)):
        assert value == (expected and pytest.approx(expected, abs=2e-3))
    assert mjd is not None or ends is None


def test_a_band_in_the_name_of_a_file_is_told(shared_archive):
    notes = shared_archive.first_report.notes
    assert len(notes) == 1 and 'header says g, its name r' in notes[0]


def test_spectra_and_differences_of_the_shared_folder_are_no_sky(shared_data, tmp_path):
    archive = open_archive(tmp_path)
    beams = shared_data / 'jwst/a2744_niriss_f115w_grizli_beams.fits.gz'
    report = archive.add_fits(beams, detect=False, show=False)
    assert {int(hdu) for hdu in report.images.hdu} == {1, 8}  # REF; SCI is dispersed
    report = archive.add_fits(shared_data / 'ground/decam_transient', detect=False, show=False)
    assert report.ledger.reason.tolist() == ['helper_file']
    assert 'FinalDifference' in report.ledger.uri[0] and report.added == 6
    report = archive.add_fits(shared_data / 'answers', show=False)
    assert report.ledger.reason.tolist() == ['no_fits_file']


# What a table is


@pytest.mark.parametrize(
    'start, words',
    [
        (b'\x89PNG\r\n\x1a\n', 'a PNG picture'),
        (b'\xff\xd8\xff\xe0', 'a JPEG picture'),
        (b'%PDF-1.7\nra,dec\n1,2', 'a PDF document'),
        (b'PK\x03\x04', 'a ZIP archive'),
        (b'\n<!DOCTYPE html>\n<html>ra,dec', 'a web page'),
        (b'Obj\x01', 'add_alerts'),
        (bytes(range(32)), 'something that begins with'),
    ],
)
@pytest.mark.parametrize('ending', ['png', 'csv'])
def test_another_kind_of_file_is_named(tmp_path, start, words, ending):
    path = tmp_path / f'stars.{ending}'
    path.write_bytes(start + bytes(80))
    with pytest.raises(BadInput, match=words) as problem:
        open_table(path)
    assert str(path) in str(problem.value)


@pytest.fixture
def sky(tmp_path):
    archive = open_archive(tmp_path / 'sky')
    archive.add_fits('package://sample/m13_skyview.fits.gz', detect=False, show=False)
    return archive


def csv_of(tmp_path, ra, dec):
    path = tmp_path / 'mine.csv'
    pd.DataFrame(dict(ra=np.atleast_1d(ra), dec=np.atleast_1d(dec))).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda ra, dec: (ra / 15, dec), 'ra in hours 3 of 3'),
        (lambda ra, dec: (np.radians(ra), np.radians(dec)), 'in radians 3 of 3'),
        (lambda ra, dec: (dec, ra - 360), None),  # No declination: a row of the ledger each
        (lambda ra, dec: (ra + 40, dec), None),
    ],
)
def test_another_unit_is_hinted_at_only_where_it_would_help(sky, tmp_path, change, words):
    centre = sky.observations().iloc[0]
    ra, dec = change(centre.ra + np.array([0, 0.01, -0.01]), centre.dec + np.zeros(3))
    report = sky.add_catalogue(csv_of(tmp_path, ra, dec), 'mine')
    hints = [note for note in report.notes if 'no row lies on an image' in note]
    assert report.detections == 0 and len(report.ledger) == 3
    assert [words in hint for hint in hints] == ([True] if words else [])


@pytest.mark.parametrize('name', ['', '   ', None, 7, 'a\nb', 'x' * 91])
def test_a_catalogue_needs_a_name(sky, tmp_path, name):
    with pytest.raises(BadInput, match='name'):
        sky.add_catalogue(csv_of(tmp_path, 1.0, 2.0), name)
    assert not len(sky.detections())


def test_a_column_by_another_name_is_proposed(sky):
    with pytest.raises(BadInput, match="say ra='RAJ2000', dec='DEJ2000'"):
        sky.add_catalogue(dict(RAJ2000=[1.0], DEJ2000=[2.0]), 'mine')


def test_what_else_changed_is_in_the_report(sky):
    centre = sky.observations().iloc[0]
    rows = pd.DataFrame(dict(ra=[centre.ra, centre.ra], dec=[centre.dec, centre.dec + 0.01]))
    rows['id'], rows['mag'], rows['p'] = ['a', 'b'], [20.0, 21.0], [0.5, 0.6]
    named = dict(object_id='id', mag='mag', score='p')
    assert sky.add_catalogue(rows, 'mine', **named).changed == {}
    rows['mag'], rows['p'] = [20.5, 21.0], [0.7, 0.8]
    report = sky.add_catalogue(rows, 'mine', **named)
    assert report.changed == dict(magnitude=1, score=2)
    assert '1 with another magnitude than before' in repr(report)
    assert sky.add_catalogue(rows, 'mine', **named).changed == {}


# What is said


def test_a_nightly_job_logs_what_it_came_to(tmp_path):
    archive = ad.synthetic_archive(str(tmp_path), n_observations=2, n_sources=12)
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 1})
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    dataset = plan.build('watch', patch_size=16, progress=False, probe=False)
    heard = io.StringIO()
    ad.log_to(heard, json=True)
    with pytest.raises(NotFound, match='no version was made'):
        ad.datasets.collect_since(dataset, progress=False)
    ad.stop_logging(heard)
    lines = [json.loads(line) for line in heard.getvalue().splitlines()]
    (line,) = [line for line in lines if line.get('event') == 'up_to_date']
    assert line['since'] == 'watch@v1'


@pytest.mark.parametrize('wrong', ['1', '0.01', 1.5, 0, -1, True, float('nan')])
def test_a_share_is_a_number_between_0_and_1(wrong):
    from astrid_data.evaluation.report import operating_points

    scores = pd.DataFrame(dict(label=[0, 1], score=[0.2, 0.8], group=['a', 'b']))
    for argument in ('survey_prior', 'rate'):
        with pytest.raises(BadInput, match=f"{argument}=.* above 0 and below 1, as 0.01 or '1%'"):
            operating_points(scores, n_boot=5, **{argument: wrong})


def test_a_name_that_is_gone_is_not_there():
    from importlib import import_module

    import astrid_data.compat

    try:
        api = import_module('src.domains.ml.training_data.api')
        assert hasattr(api, 'create_app') and not hasattr(api, 'router')
        assert getattr(api, 'router', 7) == 7
        with pytest.raises(ImportError, match='serve create_app'):
            exec('from src.domains.ml.training_data.api import router')
        with pytest.raises(ImportError):
            exec('from src.domains.ml.training_data.api import nothing_of_the_kind')
    finally:
        astrid_data.compat.remove()
        astrid_data.compat.install()


def test_an_alert_that_comes_again_with_other_numbers_is_told(shared_data, tmp_path):
    archive = open_archive(tmp_path)
    alerts = pd.read_parquet(shared_data / 'alerts/ztf_dev.parquet').iloc[:6]
    archive.add_alerts(alerts, show=False)
    (note,) = archive.add_alerts(alerts, show=False).notes
    assert note.startswith('fields of the packets that are not kept: ')
    assert archive.add_alerts(alerts.assign(magpsf=alerts.magpsf + 1e-5), show=False).skipped == 6
    told = alerts.assign(magpsf=alerts.magpsf + 0.5)
    told.loc[told.index[0], ['objectId', 'rb']] = ['ZTF99zzzzzzz', 0.123]
    told.loc[told.index[1], 'label_proxy'] = (
        'real' if alerts.label_proxy.iloc[1] != 'real' else 'bogus'
    )
    for chunk in (2, 500):
        report = archive.add_alerts(told, show=False, chunk=chunk)
        assert (report.added, report.skipped) == (0, 0)
        assert list(report.ledger.reason) == ['other_values'] * 6
        first, second, third, *_ = report.ledger.detail
        was = f'magpsf {alerts.magpsf.iloc[2]} there, {told.magpsf.iloc[2]} here'
        assert was in third and third.endswith('the first stays')
        assert f'objectId {alerts.objectId.iloc[0]} there, ZTF99zzzzzzz here' in first
        assert 'rb ' in first and 'label_proxy' in second
    stored = archive.detections().mag
    assert sorted(stored.round(4)) == sorted(alerts.magpsf.round(4))
