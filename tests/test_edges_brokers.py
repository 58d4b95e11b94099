"""Alerts in the words of brokers: fields under other names, bands, times and numbers that are none."""

import re

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select
from test_boundaries_leaks import BASE, flat_row

import astrid_data as ad
from astrid_data.ingest.alerts import STAMPS
from astrid_data.registry.tables import Detection, DetectionIndex, Image, Observation

pytest.importorskip('pyarrow')

SCORES = dict(rb=0.8, drb=0.9, drbversion='d6')
ZTF = flat_row(0, fid=2, magpsf=18.5, sigmapsf=0.1, exptime=30.0, isdiffpos='t', **SCORES)
FIELDS = {name: value for name, value in ZTF.items() if name not in STAMPS.values()}
CUTOUTS = {name: ZTF[name] for name in STAMPS.values()}
LSST = dict(
    diaSourceId=600000000000000001,
    diaObjectId=123456789012345678,
    ra=150.0,
    dec=2.0,
    midpointMjdTai=60900.0,
    band='r',
    psfFlux=1000.0,
    psfFluxErr=10.0,
    reliability=0.8,
)


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(str(tmp_path / 'archive'))


def taken(archive, packet, survey=None):
    "What the registry holds of one alert"
    report = archive.add_alerts([packet], survey=survey, show=False)
    assert (report.added, len(report.ledger)) == (1, 0), report.ledger.to_dict('records')
    with archive.session() as session:
        observation = session.scalars(select(Observation)).one()
        detection = session.scalars(select(Detection)).one()
        index = session.scalars(select(DetectionIndex)).one()
        image = session.scalars(select(Image).where(Image.role == 'science')).one()
        return dict(
            candid=observation.observation_id,
            object_id=index.object_id,
            band=observation.filter_band,
            mjd=round(image.mjd, 6),
            score=float(detection.confidence_score),
            mag=index.mag and round(index.mag, 3),
            snr=index.snr and round(index.snr, 2),
            exposure_s=float(observation.exposure_time),
            missing=image.facts['missing'],
        )


def refused(archive, packet, survey=None):
    "The reason for which an alert did not come in"
    report = archive.add_alerts([packet], survey=survey, show=False)
    assert (report.added, report.skipped) == (0, 0)
    (row,) = report.ledger.itertuples()
    return row.reason


def renamed(how, fields=FIELDS, cutouts=CUTOUTS):
    return {how(name): value for name, value in (fields | cutouts).items()}


def snake(name):
    return re.sub('([A-Z])', lambda letter: '_' + letter[0].lower(), name)


def without(*names, **more):
    return {name: value for name, value in ZTF.items() if name not in names} | more


INNER = {name: value for name, value in FIELDS.items() if name not in ('objectId', 'candid')}
WORDS = {
    'ZTF, flat': ZTF,
    'Fink': renamed('i:{}'.format, cutouts={})
    | {f'b:{name}_stampData': stamp for name, stamp in CUTOUTS.items()},
    'flattened': renamed('candidate_{}'.format, cutouts={}) | CUTOUTS,
    'a database in capitals': renamed(str.upper),
    'a database in small letters': renamed(str.lower),
    'with underscores': renamed(snake),
    'AMPEL': dict(id=7, stock=5, body=FIELDS, **CUTOUTS),
    'BOOM': dict(objectId=ZTF['objectId'], candid=BASE, candidate=INNER, cutouts=CUTOUTS),
    'ANTARES': dict(
        locus_id='ANT2020abc',
        properties={f'ztf_{snake(name)}': value for name, value in FIELDS.items()}
        | dict(ant_mjd=FIELDS['jd'] - 2400000.5, ant_passband='R', ant_mag=18.5),
        **CUTOUTS,
    ),
    'time as text': ZTF | dict(jd=str(FIELDS['jd'])),
    'numbers as text': ZTF | dict(magpsf='18.5', drb='0.9', exptime='30', fid='2'),
}


@pytest.mark.parametrize('broker', WORDS)
def test_an_alert_means_the_same_in_the_words_of_every_broker(archive, broker):
    assert taken(archive, WORDS[broker]) == dict(
        candid=str(BASE),
        object_id=ZTF['objectId'],
        band='r',
        mjd=FIELDS['jd'] - 2400000.5,
        score=0.9,
        mag=18.5,
        snr=10.86,
        exposure_s=30.0,
        missing=dict(
            unit='no card of the stamp gives it',
            zero_point='neither the unit of the stamp nor its record gives one in AB',
        ),
    )


def test_alerce_says_mag_where_ztf_says_magpsf(archive):
    named = dict(oid='ZTF20aaaaaaa', mjd=58900.001, mag=18.5, e_mag=0.1)
    found = taken(archive, without('objectId', 'jd', 'magpsf', 'sigmapsf', **named))
    assert (found['mag'], found['snr'], found['mjd']) == (18.5, 10.86, 58900.001)


def test_a_column_called_mag_is_no_magnitude_of_an_alert(archive):
    assert taken(archive, without('magpsf', mag=11.0))['mag'] is None


@pytest.mark.parametrize('spelling', ['lower', 'upper', 'snake', 'nested in capitals'])
def test_rubin_is_known_in_any_spelling(archive, spelling):
    how = dict(lower=str.lower, upper=str.upper, snake=snake).get(spelling, str)
    packet = renamed(how, LSST)
    if spelling.startswith('nested'):
        packet = dict(DIASOURCE=renamed(str.upper, LSST, {}), **CUTOUTS)
    found = taken(archive, packet)
    assert (found['band'], found['mag'], found['snr'], found['score']) == ('r', 23.9, 100.0, 0.8)
    assert found['mjd'] == pytest.approx(60900 - 37 / 86400, abs=1e-6)


BANDS = [
    (dict(fid='r'), 'r'),
    (dict(fid='ztfr'), 'r'),
    (dict(fid='zr'), 'r'),
    (dict(FILTER='ZTF_g'), 'g'),
    (dict(filterid=3), 'i'),
    (dict(passband='R'), 'r'),
    (dict(fid=2, passband='R', filter='zr'), 'r'),
    (dict(fid=2, filter='my filter'), 'r'),
]


@pytest.mark.parametrize('said, band', BANDS)
def test_the_band_is_known_in_any_field_and_spelling(archive, said, band):
    assert taken(archive, without('fid', **said))['band'] == band


@pytest.mark.parametrize('said', [dict(fid=4), dict(fid=0), dict(filter='my filter'), {}])
def test_a_band_that_nobody_knows_is_missing(archive, said):
    found = taken(archive, without('fid', **said))
    assert found['band'] == 'unknown' and 'band' in found['missing']


def test_the_numbers_of_ztf_are_no_bands_of_others(archive):
    found = taken(archive, ZTF | dict(objectId='PGIR24aaaaa', fid=1))
    assert found['band'] == 'unknown' and 'fid = 1' in found['missing']['band']


def test_winter_has_numbers_of_its_own(archive):
    assert taken(archive, ZTF | dict(objectId='WNTR24aaaaa', fid=1))['band'] == 'J'


TIMES = [
    dict(mjd=58900.25),
    dict(mjd=2458900.75),
    dict(jd='2020-02-21T06:00:00Z'),
    dict(mjd=pd.Timestamp('2020-02-21T08:00:00', tz='Europe/Athens')),
    dict(jd=2458900.75, mjd=58900.25),
    dict(jd=2458900.75, midpointMjdTai=58900.26),  # The middle of a long exposure
]


@pytest.mark.parametrize('said', TIMES)
def test_a_time_is_known_by_its_size(archive, said):
    assert taken(archive, without('jd', **said))['mjd'] == 58900.25


REFUSED = [
    (dict(jd=2458900.75, mjd=58950.25), 'conflicting_times'),
    (dict(jd=2458900.75, midpointMjdTai=58900.29), 'conflicting_times'),
    (dict(jd=np.float32(2458900.75)), 'short_time'),
    (dict(jd=1582243200000), 'unknown_schema'),
    (dict(jd='last night'), 'bad_value'),
    (dict(jd=58900.25), 'unclear_time'),
    (dict(fid=1, band='r'), 'conflicting_bands'),
    (dict(ra=True), 'bad_value'),
    (dict(objectId='None'), 'no_object'),
    (dict(drb=90.0), 'bad_score'),
]


@pytest.mark.parametrize('said, reason', REFUSED)
def test_what_cannot_be_told_is_refused_with_its_reason(archive, said, reason):
    assert refused(archive, ZTF | said) == reason


LAYERS = [
    (dict(ra=10.0, dec=5.0), 'conflicting_places'),
    (dict(dec=ZTF['dec'] + 0.01), 'conflicting_places'),
    (dict(jd=ZTF['jd'] + 100), 'conflicting_times'),
    (dict(mjd=ZTF['jd'] - 2400000.5 + 1), 'conflicting_times'),
    (dict(candid=BASE + 1), 'conflicting_ids'),
]


@pytest.mark.parametrize('form', ['nested', 'flat'])
@pytest.mark.parametrize('outer, reason', LAYERS)
def test_a_packet_that_contradicts_its_record_is_refused(archive, form, outer, reason):
    inner = dict(INNER, candid=BASE)
    if form == 'flat':
        inner = {f'candidate.{name}': value for name, value in inner.items()}
    names = dict(objectId=ZTF['objectId'], candid=BASE)
    nested = names | (dict(candidate=inner) if form == 'nested' else inner) | CUTOUTS
    assert refused(archive, nested | outer) == reason
    near = dict(ra=ZTF['ra'] + 1e-4, dec=np.float32(ZTF['dec']), jd=ZTF['jd'] + 1e-5)
    assert taken(archive, nested | near)['candid'] == str(BASE)


def test_numbers_that_are_none_are_unknown(archive):
    found = taken(archive, ZTF | dict(drb=-999, magpsf=99.0, sigmapsf=-0.1, exptime='30 s'))
    assert (found['score'], found['mag'], found['snr']) == (0.8, None, None)
    assert 'exposure_s' in found['missing']


def test_short_floats_of_a_table_are_seen(archive, tmp_path):
    frame = pd.DataFrame([ZTF])
    frame.astype(dict(jd='f4')).to_parquet(tmp_path / 'time.parquet')
    report = archive.add_alerts(tmp_path / 'time.parquet', show=False)
    assert list(report.ledger.reason) == ['short_time']
    frame.astype(dict(ra='f4')).to_parquet(tmp_path / 'place.parquet')
    report = archive.add_alerts(tmp_path / 'place.parquet', show=False)
    assert report.added == 1 and 'rounded to 0.05 arcsec' in report.notes[0]
