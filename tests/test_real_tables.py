"""What real alerts and catalogues beside the project become: each fact as pandas, fastavro and astropy alone read it.
The files are not part of the repository; where they are missing the tests are skipped."""

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from sqlalchemy import func, select

import astrid_data as ad
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    EpochRow,
    Image,
    Observation,
    Survey,
)

pytestmark = pytest.mark.filterwarnings('ignore')
PACKETS = {  # Beginning of a name -> survey and band, or the reason why nothing of it is stored
    'Ampel-ZTF__err_IndexError': 'unreadable',
    'Ampel-ZTF__ok_3p3': 'no_stamps',
    'Ampel-ZTF__ok_None': ('ztf', 'r'),
    'Pitt-Google-Broker__ok_3p3': ('ztf', 'r'),
    'Pitt-Google-Broker__ok_None': ('decat', 'g'),
    'boom__err_ValueError': 'no_schema',
    'boom__ok_0p1': ('winter', 'H'),
    'boom__ok_4p02': ('ztf', 'r'),
    'boom__ok_None': ('desirt', 'g'),
    'fink-broker__ok_3p3': ('ztf', 'r'),
    'fink-broker__ok_4p02': ('ztf', 'r'),
    'kowalski__err_SchemaParse': 'unknown_stream',
    'kowalski__ok_0p1_114': ('pgir', 'unknown'),  # Its packets name no band
    'kowalski__ok_0p1_360': ('winter', 'H'),  # The same alert as that of boom
    'kowalski__ok_3p3': ('ztf', 'g'),
    'pipeline__ok_3p2': ('ztf', 'r'),
    'pipeline__ok_4p01': ('ztf', 'g'),
    'pipeline__ok_None': ('lsst', 'i'),
    'ztf-avro-alert__err_Unicode': 'unreadable',
    'ztf-avro-alert__ok_3p2': ('ztf', 'r'),
    'ztf-avro-alert__ok_3p5': ('ztf', 'r'),
    'ztf-avro-alert__ok_None': 'no_object',
}
MADE_UP = {  # Rubin schema -> why the made-up alert is refused: a day in seconds, or two ids
    **dict.fromkeys('3_0 4_0 5_0 6_0 6_1 7_0 7_1 7_2 7_3 7_4'.split(), 'unknown_schema'),
    **dict.fromkeys('8_0 9_0 10_0 11_0'.split(), 'conflicting_ids'),
}


def images_of(archive):
    "A row for each image: its own, its observation's and its survey's"
    query = select(Image, Observation, Survey.name).join(
        Observation, Observation.id == Image.observation_id
    )
    with archive.session() as session:
        rows = session.execute(query.join(Survey, Survey.id == Observation.survey_id)).all()
        session.expunge_all()
    return rows


@pytest.fixture(scope='module', params=['ztf_dev', 'lsst_dev'])
def taken(shared_data, tmp_path_factory, request):
    "The rows of one table of alerts as pandas reads them, and what the registry holds of them"
    path = shared_data / 'alerts' / f'{request.param}.parquet'
    archive = ad.open_archive(tmp_path_factory.mktemp(request.param))
    report = archive.add_alerts(path, show=False)
    rows = pd.read_parquet(path)
    is_ztf = request.param == 'ztf_dev'
    rows['id'] = rows.candid.astype(str) if is_ztf else rows.diaSourceId.astype(str)
    with archive.session() as session:
        query = select(Observation.observation_id, Detection.ra, Detection.dec)
        query = query.add_columns(Detection.confidence_score, Detection.status)
        found = session.execute(query.join(Detection, Detection.observation_id == Observation.id))
        places = pd.DataFrame(found.all(), columns=['id', 'ra', 'dec', 'score', 'status'])
    return is_ztf, report, rows, images_of(archive), places


def test_every_row_of_a_table_of_alerts_is_stored(taken):
    _, report, rows, images, places = taken
    assert report.added == len(rows) and report.ledger.empty
    assert sorted(places['id']) == sorted(rows['id']) and len(images) == 3 * len(rows)


def test_times_are_utc_and_say_of_which_moment(taken):
    is_ztf, _, rows, images, _ = taken
    mjd = rows.jd - 2400000.5 if is_ztf else rows.get('midpointMjdTai')
    right = Time(mjd.to_numpy(), format='mjd', scale='utc' if is_ztf else 'tai').utc.mjd
    right = dict(zip(rows['id'], right))
    for image, seen, _ in images:
        if image.role == 'template':
            assert image.mjd is None and image.facts['missing']['mjd']
            continue
        assert abs(image.mjd - right[seen.observation_id]) * 86400 < 1e-3
        assert (image.mjd_scale, image.mjd_meaning) == ('utc', 'start' if is_ztf else 'mid')


def test_places_scores_and_verdicts_are_those_of_the_rows(taken):
    is_ztf, _, rows, _, places = taken
    one = rows.merge(places, on='id', suffixes=('', '_here'))
    assert np.abs(one.ra - one.ra_here.astype(float)).max() < 1e-7
    assert np.abs(one.dec - one.dec_here.astype(float)).max() < 1e-7
    score = one.drb.fillna(one.rb) if is_ztf else one.reliability
    assert np.abs(score - one.score.astype(float)).max() < 1e-4
    words = dict(real='confirmed', bogus='rejected', unsure='pending')
    right = one.label_proxy.map(words) if is_ztf else 'pending'
    assert (one.status == right).all()


def test_unit_and_zero_point_are_known_or_have_a_reason(taken):
    "Rubin's stamps are in nJy; those of ZTF in DN, and this table has no `magzpsci`"
    is_ztf, _, rows, images, _ = taken
    bands = rows.fid.map({1: 'g', 2: 'r'}) if is_ztf else rows.band
    bands = dict(zip(rows['id'], bands))
    for image, seen, _ in images:
        assert seen.filter_band == bands[seen.observation_id]
        if is_ztf:
            assert image.unit in ('DN', None) and image.zero_point is None
        else:
            assert image.unit == 'nJy' and abs(image.zero_point - 31.4) < 1e-3
        for fact in ('unit', 'zero_point', 'mjd'):
            assert getattr(image, fact) is not None or image.facts['missing'][fact], fact


@pytest.fixture(scope='module')
def packets(shared_data, tmp_path_factory):
    "What each file of packets became, and the archive"
    archive = ad.open_archive(tmp_path_factory.mktemp('packets'))
    files = sorted((shared_data / 'alerts' / 'raw_avro').iterdir())
    return {f: archive.add_alerts(f, show=False) for f in files}, archive


def beginning_of(path, table):
    return next(table[name] for name in table if path.name.startswith(name))


def test_each_packet_is_stored_or_named(packets):
    "Two are one alert, so the second adds nothing"
    reports, archive = packets
    for path, report in reports.items():
        right = beginning_of(path, PACKETS)
        if isinstance(right, str):
            assert report.ledger['reason'].tolist() == [right], path.name
        else:
            assert list(report.surveys) == [right[0]] and report.ledger.empty, path.name
    wanted = sorted({right for right in PACKETS.values() if not isinstance(right, str)})
    assert sum(report.added for report in reports.values()) == 15
    assert sum(report.skipped for report in reports.values()) == 1
    found = {(survey, seen.filter_band) for _, seen, survey in images_of(archive)}
    assert sorted(found) == wanted


def test_packets_of_ztf_say_what_fastavro_reads(packets):
    reports, archive = packets
    science = {
        seen.observation_id: (image, seen)
        for image, seen, survey in images_of(archive)
        if survey == 'ztf' and image.role == 'science'
    }
    for path in reports:
        if beginning_of(path, PACKETS)[0] != 'ztf':
            continue
        with path.open('rb') as file:
            candidate = next(fastavro.reader(file))['candidate']
        image, seen = science.pop(str(candidate['candid']))
        assert abs(image.mjd + 2400000.5 - candidate['jd']) * 86400 < 1e-3
        assert image.zero_point == candidate.get('magzpsci') or not candidate.get('magzpsci')
        exposure = candidate.get('exptime')
        assert exposure is None or float(seen.exposure_time) == exposure
    assert not science


def test_a_packet_brings_the_history_that_a_table_had_not(shared_data, tmp_path):
    "The table says less of an alert than its packet; what was unknown does not contradict"
    archive = ad.open_archive(tmp_path)
    archive.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)
    path = next((shared_data / 'alerts' / 'raw_avro').glob('Ampel-ZTF__ok_None*'))
    with archive.session() as session:
        before = session.scalar(select(func.count()).where(EpochRow.object_id == 'ZTF18aaxlzgi'))
    report = archive.add_alerts(path, show=False)
    with path.open('rb') as file:
        past = next(fastavro.reader(file))['prv_candidates']
    with archive.session() as session:
        after = session.scalar(select(func.count()).where(EpochRow.object_id == 'ZTF18aaxlzgi'))
    assert (before, after) == (1, 1 + len(past)) and report.epochs == len(past)


def test_made_up_alerts_of_rubin_are_refused_with_a_reason(shared_data, tmp_path):
    archive = ad.open_archive(tmp_path)
    for schema, reason in MADE_UP.items():
        path = shared_data / 'alerts' / 'lsst_schemas' / f'fakeAlert_v{schema}.avro'
        report = archive.add_alerts(path, show=False)
        assert report.ledger['reason'].tolist() == [reason] and not report.added


CATALOGUES = {  # File -> columns, and the images of the folder on which its rows may fall
    'w5_psc.csv.gz': (
        dict(ra='RAJ2000', dec='DEJ2000', object_id='ID', class_name='Type', is_real=True),
        ['skyview/wise_w3_w5.fits.gz'],
    ),
    'sdss_photoObj_001000_1_0100.fits': (
        dict(ra='RA', dec='DEC', object_id='OBJID'),
        ['skyview/sdss_r_frame_crop100.fits.bz2'],
    ),
    'cdfs_chandra_obs_sources.fits.gz': (
        dict(ra='ra_b', dec='dec_b', object_id='msid'),
        ['hst/goodss_wfc3ir_f160w_738x480.fits.gz', 'hst/xdf_hudf_wfc3ir_f160w_sci.fits'],
    ),
}


def rows_on(table, ra, dec, path):
    "Which rows of a table fall on an image, by astropy alone"
    with fits.open(path) as file:
        hdu = next(one for one in file if one.data is not None)
        wcs, (ny, nx) = WCS(hdu.header, file), hdu.data.shape[-2:]
        x, y = wcs.all_world2pix(table[ra], table[dec], 0, quiet=True)
    return (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)


@pytest.mark.parametrize('name', CATALOGUES)
def test_rows_of_a_catalogue_fall_where_astropy_places_them(shared_data, tmp_path, name):
    "Each row is on an image or in the ledger; a second look at the same place is a duplicate"
    columns, images = CATALOGUES[name]
    archive = ad.open_archive(tmp_path)
    archive.add_fits([shared_data / one for one in images], show=False, detect=False)
    path = shared_data / 'catalogs' / name
    report = archive.add_catalogue(path, 'theirs', **columns)
    if '.fit' in name:
        with fits.open(path) as file:
            table = {one: np.asarray(file[1].data[one]) for one in (columns['ra'], columns['dec'])}
        if table[columns['ra']].dtype.kind == 'S' or table[columns['ra']].dtype.kind == 'U':
            places = SkyCoord(
                table[columns['ra']], table[columns['dec']], unit=('hourangle', 'deg')
            )
            table = {columns['ra']: places.ra.deg, columns['dec']: places.dec.deg}
    else:
        table = pd.read_csv(path)
    inside = [rows_on(table, columns['ra'], columns['dec'], shared_data / one) for one in images]
    reasons = report.ledger['reason'].value_counts().to_dict()
    assert reasons.get('no_image', 0) + reasons.get('duplicate', 0) == len(report.ledger)
    twice = report.ledger.loc[report.ledger['reason'] == 'duplicate', 'uri']
    twice = [int(uri.rpartition('[')[2].rstrip(']')) for uri in twice]
    once = ~np.isin(np.arange(len(inside[0])), twice)
    assert report.rows == np.sum(np.any(inside, axis=0) & once)
    assert report.detections == sum(np.sum(one & once) for one in inside)
    assert report.rows + len(report.ledger) == len(inside[0])


def test_gaia_stars_are_moved_to_the_time_of_each_image(shared_data, tmp_path):
    "Three stars of Gaia are on five exposures of DECam, as astropy moves them"
    archive = ad.open_archive(tmp_path)
    archive.add_fits(shared_data / 'ground' / 'decam_tc4', show=False, detect=False)
    path = shared_data / 'catalogs' / 'gaia_tc4_chunk-03586.fits'
    report = archive.add_catalogue(path, 'gaia', object_id='source_id', is_real=True)
    with fits.open(path) as file:
        stars = Table(file[1].data)
    with archive.session() as session:
        query = select(Detection.ra, Detection.dec, Observation.observation_time)
        query = query.add_columns(DetectionIndex.object_id)
        query = query.join(Observation, Observation.id == Detection.observation_id)
        found = session.execute(
            query.join(DetectionIndex, DetectionIndex.detection_id == Detection.id)
        ).all()
    assert (report.rows, report.detections, len(found)) == (3, 15, 15)
    assert len(report.ledger) + report.rows == len(stars) == 148
    for ra, dec, time, name in found:
        star = stars[stars['source_id'] == int(name)][0]
        years = Time(time).jyear - star['ref_epoch']
        there = SkyCoord(star['ra'], star['dec'], unit='deg').spherical_offsets_by(
            years * star['pmra'] * u.mas, years * star['pmdec'] * u.mas
        )
        assert there.separation(SkyCoord(float(ra), float(dec), unit='deg')).mas < 2


def test_tables_without_places_or_in_pixels_are_refused(shared_data, tmp_path):
    archive = ad.open_archive(tmp_path)
    catalogues = shared_data / 'catalogs'
    with pytest.raises(ad.BadInput, match="no column 'ra'"):
        archive.add_catalogue(catalogues / 'alerce_2000_labels.csv', 'alerce')
    report = archive.add_catalogue(catalogues / 'eyuma_source_list.fit', 'pixels', ra='X', dec='Y')
    assert not report.rows and len(report.ledger) == 1000
    assert report.ledger['reason'].value_counts().to_dict() == {'bad_position': 999, 'no_image': 1}


def test_an_empty_catalogue_says_that_nothing_was_given(shared_data, tmp_path):
    "This one of Gaia has its columns and no row"
    archive = ad.open_archive(tmp_path)
    path = shared_data / 'catalogs' / 'gaia_tc4_chunk-03459.fits'
    report = archive.add_catalogue(path, 'gaia', object_id='source_id')
    assert report.ledger.empty and any('nothing' in note for note in report.notes)
