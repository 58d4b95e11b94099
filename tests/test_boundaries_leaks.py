"Nothing is on both sides of a split unseen: histories, names, extents, nights and exposures of samples"

import csv
import gzip
import io
import json
from collections import deque

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from sqlalchemy import select

import astrid_data as ad
from astrid_data.core import BadImage
from astrid_data.images.cards import Cards
from astrid_data.images.sites import SPACE, site_longitude, site_of_name
from astrid_data.ingest.alerts import STAMPS, flat_alert, read_alerts
from astrid_data.ingest.stamps import stamp_geometry
from astrid_data.registry.tables import DetectionIndex, Image, Observation, RowRefused
from astrid_data.splits.assign import split_samples
from astrid_data.splits.audit import audit_splits
from astrid_data.splits.exposures import exposures, nights
from astrid_data.splits.groups import group_detections
from astrid_data.splits.report import EmptySplit

pa = pytest.importorskip('pyarrow')
pytest.importorskip('pyarrow.parquet')
BASE = 1105522281015015000  # One quadrant of ZTF: its names differ in the last digits


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(str(tmp_path / 'archive'))


def stamp(seed=0, ny=63, nx=63, **cards):
    "Bytes of a gzipped stamp of noise"
    pixels = np.random.default_rng(seed).normal(100, 3, (ny, nx)).astype('f4')
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update(cards)
    out = io.BytesIO()
    hdu.writeto(out)
    return gzip.compress(out.getvalue(), mtime=0)


def flat_row(i=0, **fields):
    "An alert as a row of a table"
    row = dict(objectId=f'ZTF20aaaa{i:03d}', candid=BASE + i, jd=2458900.5, fid=1, drb=0.9)
    row |= dict(ra=150 + 0.01 * i, dec=2.0, magpsf=18.0, sigmapsf=0.1)
    row |= {name: stamp(10 * i + k) for k, name in enumerate(STAMPS.values())}
    return row | fields


def nested(i=0, history=(), **fields):
    "The same alert as a packet"
    row = flat_row(i)
    own = {name: row.pop(name) for name in ('jd', 'fid', 'drb', 'ra', 'dec', 'magpsf', 'sigmapsf')}
    cutouts = {name: dict(fileName='x', stampData=row[name]) for name in STAMPS.values()}
    own['candid'] = row['candid']
    return row | cutouts | dict(candidate=own, prv_candidates=list(history)) | fields


# Histories

HISTORY = [dict(candid=BASE - 7, jd=1.0), dict(candid=None, jd=2.0), dict(candid=BASE - 9, jd=3.0)]
NAMES = f'{BASE - 9} {BASE - 7}'
TWO = HISTORY[::2]
CONTAINERS = dict(
    list=HISTORY,
    tuple=tuple(HISTORY),
    numpy=np.array(HISTORY),
    numpy_rows=np.array([(BASE - 7, 1.0), (BASE - 9, 3.0)], [('candid', 'i8'), ('jd', 'f8')]),
    arrow_scalar=pa.scalar(HISTORY),
    arrow_array=pa.array(HISTORY),
    arrow_table=pa.Table.from_pylist(HISTORY),
    frame=pd.DataFrame(TWO),
    astropy=Table(TWO),
    record_of_lists=dict(candid=[BASE - 7, BASE - 9], jd=[1.0, 3.0]),
    record_of_arrays=dict(candid=np.array([BASE - 7, BASE - 9])),
    json_text=json.dumps(HISTORY),
    json_bytes=json.dumps(HISTORY).encode(),
    printed=str(HISTORY),
    printed_numpy=repr(np.array(HISTORY, object)),
    texts=[json.dumps(one) for one in HISTORY],
    names_as_text=[dict(candid=str(BASE - 7)), dict(candid=str(BASE - 9))],
    pairs=[list(one.items()) for one in HISTORY],
    pairs_of_texts=json.dumps([list(one.items()) for one in TWO]),
    pairs_of_several=[('candid', BASE - 7), ('candid', BASE - 9)],
    arrow_map=pa.array(
        [[('candid', BASE - 7)], [('candid', BASE - 9)]], pa.map_(pa.string(), pa.int64())
    ),
    arrow_struct_of_lists=pa.scalar(dict(candid=[BASE - 7, BASE - 9])),
    json_in_json=json.dumps(json.dumps(HISTORY)),
    json_in_json_in_json=json.dumps(json.dumps(json.dumps(HISTORY))),
    json_in_json_bytes=json.dumps(json.dumps(HISTORY)).encode(),
    texts_in_texts=json.dumps([json.dumps(json.dumps(one)) for one in HISTORY]),
    printed_text=repr(json.dumps(HISTORY)),
    printed_tuple=str(tuple(HISTORY)),
    deque=deque(HISTORY),
    values_of_dict=dict(a=HISTORY[0], b=HISTORY[2]).values(),
    frame_cells=pd.DataFrame(dict(prv=[pd.DataFrame(TWO)])).iloc[0, 0],
    frames=[pd.DataFrame(TWO[:1]), pd.DataFrame(TWO[1:])],
    by_night=dict(first=HISTORY[:1], second=HISTORY[1:]),
    masked_rows=np.ma.array(
        [(BASE - 7, 1.0), (BASE - 9, 3.0)], dtype=[('candid', 'i8'), ('jd', 'f8')]
    ),
    nested_rows=np.array([((BASE - 7,),), ((BASE - 9,),)], [('past', [('candid', 'i8')])])['past'],
    bare_names=[BASE - 7, BASE - 9],
    bare_texts=[str(BASE - 7), str(BASE - 9)],
    bare_array=np.array([BASE - 7, BASE - 9]),
)
STREAMS = dict(
    generator=lambda: (one for one in HISTORY),
    map=lambda: map(dict, HISTORY),
    zip=lambda: zip(['candid', 'candid'], [BASE - 7, BASE - 9]),
    generators_in_generator=lambda: (iter(one.items()) for one in HISTORY),
    generator_of_texts=lambda: (json.dumps(one) for one in HISTORY),
    in_a_list=lambda: [iter(HISTORY)],
    reader=lambda: csv.DictReader(['candid,jd', f'{BASE - 7},1.0', f'{BASE - 9},3.0']),
)


@pytest.mark.parametrize('container', CONTAINERS)
def test_a_history_is_read_from_any_container(container):
    assert flat_alert(nested(history=()) | dict(prv_candidates=CONTAINERS[container]))[
        'lineage'
    ] == ' '.join(sorted(NAMES.split()))


@pytest.mark.parametrize('stream', STREAMS)
def test_a_history_that_can_be_read_once_is_stored_with_its_epochs(archive, stream):
    report = archive.add_alerts([nested() | dict(prv_candidates=STREAMS[stream]())], show=False)
    assert (report.added, len(report.ledger)) == (1, 0)
    with archive.session() as s:
        [facts] = s.execute(select(DetectionIndex.facts)).scalars()
    assert set(facts['lineage'].split()) == {*NAMES.split(), str(BASE)}


UNREAD = dict(
    numbers=[3.5, 4.5],
    an_object=object(),
    too_deep=[[[[[[HISTORY]]]]]],
    words='candid 7 and candid 9',
    cut_json_in_json=json.dumps(json.dumps(HISTORY)[:-9]),
    pairs_of_numbers=[(1, 2.0), (3, 4.0)],
    one_of_two=[HISTORY[1], 'what is this'],
    pickled=b'\x80\x04abc',
)


@pytest.mark.parametrize('value', UNREAD)
@pytest.mark.parametrize('field', ['prv_candidates', 'prvDiaSources', 'previous_detections'])
def test_a_history_that_nobody_can_read_is_a_row_of_the_ledger(archive, value, field):
    packet = nested() | {'prv_candidates': None, field: UNREAD[value]}
    report = archive.add_alerts([packet, nested(1)], show=False)
    assert report.added == 1 and report.ledger['reason'].tolist() == ['unreadable_history']


@pytest.mark.parametrize(
    'field, record',
    [
        ('prv_candidates', 'candid'),  # ZTF, Fink
        ('prvDiaSources', 'diaSourceId'),  # Rubin
        ('candidates', 'candid'),  # Lasair
        ('detections', 'candid'),  # ALeRCE
        ('previous_detections', 'measurement_id'),  # ALeRCE for Rubin
        ('i:prv_candidates', 'i:candid'),  # Fink's service
    ],
)
def test_a_history_is_known_by_what_it_holds(field, record):
    packet = nested()
    del packet['prv_candidates']
    packet[field] = [{record: BASE - 7}, {record: None}, {record: BASE - 9}]
    assert flat_alert(packet)['lineage'] == ' '.join(sorted(NAMES.split()))


SOURCES = dict(
    parquet=lambda packets, path: path,
    arrow=lambda packets, path: pa.Table.from_pylist(packets),
    dicts=lambda packets, path: iter(packets),
    frame=lambda packets, path: pd.DataFrame(packets),
    frame_arrow=lambda packets, path: pd.read_parquet(path, dtype_backend='pyarrow'),
    text=lambda packets, path: pd.DataFrame(packets).assign(
        prv_candidates=[json.dumps(packet['prv_candidates']) for packet in packets]
    ),
    avro=lambda packets, path: write_avro(path.with_suffix('.avro'), packets),
)


@pytest.mark.parametrize('how', SOURCES)
def test_two_names_of_one_event_stay_together(archive, tmp_path, how):
    packets = [nested(i, [dict(candid=BASE - 100 - i // 2), dict(candid=None)]) for i in range(6)]
    for i, packet in enumerate(packets):
        packet['candidate']['ra'] = 150 + 0.01 * (i // 2) + 1.6 / 3600 * (i % 2)
    path = tmp_path / 'x.parquet'
    pd.DataFrame(packets).to_parquet(path)
    report = archive.add_alerts(SOURCES[how](packets, path), show=False)
    assert (report.added, len(report.ledger)) == (6, 0)
    with archive.session() as s:
        rows = s.execute(select(DetectionIndex.object_id, DetectionIndex.facts)).all()
    rows = sorted((name, facts['lineage']) for name, facts in rows)
    samples = pd.DataFrame(rows, columns=['object_id', 'lineage'])
    samples = samples.assign(sample_key=samples['object_id'], survey='ztf', dec=2.0)
    samples['ra'] = [packet['candidate']['ra'] for packet in packets]
    group = group_detections(samples)
    assert group[::2].tolist() == group[1::2].tolist() and len(set(group)) == 3


def test_pandas_makes_floats_of_a_history_and_that_is_said(archive, tmp_path):
    packets = [nested(i, [dict(candid=BASE - i), dict(candid=None)]) for i in range(3)]
    pd.DataFrame(packets).to_parquet(tmp_path / 'x.parquet')
    report = archive.add_alerts(pd.read_parquet(tmp_path / 'x.parquet'), show=False)
    assert report.added == 0 and set(report.ledger['reason']) == {'inexact_id'}
    assert 'give the path of the file' in report.ledger['detail'][0]


def write_avro(path, packets):
    fastavro = pytest.importorskip('fastavro')
    history = dict(type='record', name='prv', fields=[dict(name='candid', type=['null', 'long'])])
    own = [dict(name=name, type='double') for name in ('jd', 'ra', 'dec', 'drb', 'magpsf')]
    own += [dict(name=name, type='long') for name in ('candid', 'fid')]
    cutout = dict(type='record', name='cut', fields=[dict(name='stampData', type='bytes')])
    fields = [
        dict(name='objectId', type='string'),
        dict(name='candid', type='long'),
        dict(name='candidate', type=dict(type='record', name='own', fields=own)),
        dict(name='prv_candidates', type=dict(type='array', items=history)),
    ]
    for name, kind in zip(STAMPS.values(), [cutout, 'cut', 'cut']):
        fields.append(dict(name=name, type=kind))
    with open(path, 'wb') as f:
        fastavro.writer(f, dict(type='record', name='alert', fields=fields), packets)
    return path


def test_a_history_that_cannot_be_read_is_not_an_empty_one(archive):
    cut = nested(0, prv_candidates=str(HISTORY)[:40])
    lossy = nested(1, [dict(candid=float(BASE))])
    report = archive.add_alerts([cut, lossy, nested(2)], show=False)
    assert report.added == 1
    assert report.ledger['reason'].tolist() == ['unreadable_history', 'inexact_id']


def test_real_histories_are_the_same_in_avro_and_parquet(shared_data, tmp_path):
    folder = shared_data / 'alerts' / 'raw_avro'
    packets = [p for _, p in read_alerts(sorted(folder.glob('*ok_*'))) if isinstance(p, dict)]
    compared = 0
    for i, packet in enumerate(packets):
        history = packet.get('prv_candidates') or packet.get('prvDiaSources')
        if not history:
            continue
        path = tmp_path / f'{i}.parquet'
        pa.parquet.write_table(pa.Table.from_pylist([packet]), path)
        want = {one.get('candid') or one.get('diaSourceId') for one in history} - {None, 0}
        for copy in (packet, next(read_alerts(path))[1], pa.Table.from_pylist([packet])[:1]):
            copy = copy.to_pylist()[0] if isinstance(copy, pa.Table) else copy
            assert set(flat_alert(copy).get('lineage', '').split()) == set(map(str, want))
        compared += 1
    assert compared >= 9


# Names


TWELVE = pd.DataFrame([flat_row(i) for i in range(12)])


def lossy_tables(table):
    "The same twelve alerts where names went through a float"
    yield 'float64', table.assign(candid=table['candid'].astype('f8'))
    yield 'a join with a gap', table.assign(candid=[float(v) for v in table['candid']])
    yield 'text of a float', table.assign(candid=table['candid'].astype('f8').astype(str))
    yield 'text with .0', table.assign(candid=[f'{float(v):.1f}' for v in table['candid']])
    yield 'float32', table.assign(candid=table['candid'].astype('f4'))
    yield 'extension float', table.assign(candid=table['candid'].astype('Float64'))
    yield 'cast back', table.assign(candid=table['candid'].astype('f8').astype('i8'))


@pytest.mark.parametrize('how, table', list(lossy_tables(TWELVE)))
def test_names_that_lost_digits_are_refused_and_never_known(archive, how, table):
    report = archive.add_alerts(table, show=False)
    assert report.skipped == 0 and report.added + len(report.ledger) == 12
    assert set(report.ledger['reason']) == {
        'same_id_elsewhere' if how == 'cast back' else 'inexact_id'
    }
    assert report.added == (1 if how == 'cast back' else 0)
    assert 'text' in report.ledger['detail'][0] or 'digits' in report.ledger['detail'][0]


def test_whole_names_come_in_whole(archive, tmp_path):
    table = pd.DataFrame([flat_row(i) for i in range(12)])
    tables = [
        table,
        table.assign(candid=table['candid'].astype(str)),
        table.assign(candid=pd.array([*table['candid'][:11], None], 'Int64')),
        table.assign(candid=table['candid'].astype('f8'), candid_str=table['candid'].astype(str)),
        table.assign(candid=table['candid'].astype('f8'), alertId=table['candid']),
    ]
    for k, one in enumerate(tables):
        report = archive.add_alerts(one, show=False)
        assert (report.added, report.skipped, len(report.ledger)) == [
            (12, 0, 0),
            (0, 12, 0),
            (0, 11, 1),
            (0, 12, 0),
            (0, 12, 0),
        ][k]
    path = tmp_path / 'gap.parquet'  # An integer with a gap is a float in pandas, not in the file
    tables[2].assign(candid=tables[2]['candid']).to_parquet(path)
    assert archive.add_alerts(path, show=False).skipped == 11
    with archive.session() as s:
        names = set(s.scalars(select(Observation.observation_id)))
    assert names == {str(BASE + i) for i in range(12)}


def test_every_alert_is_stored_known_or_in_the_ledger(archive, tmp_path):
    good = [flat_row(i) for i in range(4)]
    bad = [
        good[0],  # Known
        flat_row(5, candid=None),
        flat_row(6, candid=True),
        flat_row(7, ra='east'),
        flat_row(8, ra=400.0),
        flat_row(9, objectId=None),
        flat_row(10, cutoutScience='no base64!'),
        flat_row(11, cutoutScience=np.zeros((63, 63))),
        flat_row(12, cutoutScience=stamp()[:200]),
        flat_row(1, ra=10.0),  # The name of another
        flat_row(13, objectId='ATLAS1'),
        flat_row(14, label_proxy='real', label_basis=7),
        flat_row(15) | dict(candidate=dict(candid=3)),  # Names itself twice
        BadImage('unreadable', 'x'),
        7,
        None,
    ]
    late = flat_row(12)  # A whole copy after a broken one
    (tmp_path / 'broken.parquet').write_bytes(b'PAR1 no')
    source = [*good, *bad, late, tmp_path / 'broken.parquet', tmp_path / 'nowhere.avro']
    report = archive.add_alerts(source, show=False)
    assert report.added + report.skipped + len(report.ledger) == len(source)
    assert (report.added, report.skipped) == (6, 1)
    assert report.ledger['detail'].str.len().min() > 0
    with archive.session() as s:
        assert len(s.scalars(select(Observation.id)).all()) == 6


def test_one_value_that_the_database_refuses_costs_one_alert(archive, monkeypatch):
    import astrid_data.ingest.alerts as page

    plain = page.bulk_insert

    def insert(session, table, rows):
        if table is Observation and any(row['observation_id'] == str(BASE + 2) for row in rows):
            raise RowRefused('value out of range')
        return plain(session, table, rows)

    monkeypatch.setattr(page, 'bulk_insert', insert)
    report = archive.add_alerts([flat_row(i) for i in range(5)], show=False)
    assert (report.added, len(report.ledger)) == (4, 1)


# Stamps


def test_real_stamps_of_rubin_have_a_scale_and_the_candidate_in_the_middle(archive, shared_data):
    path = shared_data / 'alerts' / 'lsst_dev.parquet'
    report = archive.add_alerts(path, survey='lsst', show=False)
    table = pd.read_parquet(path)
    assert (report.added, len(report.ledger)) == (len(table), 0)
    with archive.session() as s:
        rows = s.execute(
            select(Observation, Image).join(Image, Image.observation_id == Observation.id)
        ).all()
    bands = dict(zip(table['diaSourceId'].astype(str), table['band']))
    assert all(row[0].filter_band == bands[row[0].observation_id] for row in rows)
    scales = np.array([row[0].pixel_scale for row in rows])
    assert (np.abs(scales - 0.2) < 0.0005).mean() > 0.8  # The others are of Hyper Suprime-Cam
    assert ((scales > 0.15) & (scales < 0.21)).all()
    assert {row[1].facts['stamp_scale_from'] for row in rows} == {'header'}
    tai = dict(zip(table['diaSourceId'].astype(str), table['midpointMjdTai']))
    science = [row for row in rows if row[1].role == 'science']
    for observation, image in science:
        utc = Time(tai[observation.observation_id], format='mjd', scale='tai').utc.mjd
        assert abs(utc - image.mjd) < 1e-8  # 36 s in 2016, 37 s since 2017
        assert image.mjd_meaning == 'mid'


def pairs_20_arcsec_apart(n=40, survey='ztf'):
    ra = 10 + np.arange(n) // 2 * 2 + np.arange(n) % 2 * 20 / 3600
    keys = [f'{i:04d}' for i in range(n)]
    return pd.DataFrame(
        dict(sample_key=keys, object_id=keys, ra=ra, dec=0.0, survey=survey, label=np.arange(n) % 2)
    )


@pytest.mark.parametrize('survey, scale', [('ztf', None), ('mine', 1.01), ('ZTF_public', None)])
def test_stamps_that_share_pixels_are_not_split(survey, scale):
    t = pairs_20_arcsec_apart(survey=survey)
    t = t if scale is None else t.assign(stamp_scale_arcsec=scale)
    for seed in range(10):
        split = split_samples(t, patch_size=63, seed=seed).split
        audit = audit_splits(t.assign(split=split), patch_size=63)
        assert (audit.pixels_shared, audit.overlapping_test, audit.verdict) == (0, 0, 'pass')
    apart = t.assign(split=np.where(np.arange(len(t)) % 2, 'train', 'test'))
    audit = audit_splits(apart, patch_size=63)
    assert abs(audit.pixels_shared / (len(t) / 2 * 63**2) - 0.686) < 0.01
    assert audit.verdict == 'fail'


def test_an_unknown_extent_does_not_pass():
    t = pairs_20_arcsec_apart(survey='mine')
    audit = audit_splits(t.assign(split=split_samples(t, patch_size=63).split), patch_size=63)
    assert (audit.verdict, audit.pixels_shared) == ('unknown', None)
    assert audit.unknown_extent == len(t) and 'unknown' in audit.reasons[0]


@pytest.mark.parametrize(
    'site, hours, n',
    [
        (dict(telescope='UK 48-inch Schmidt'), [9, 16.9, 17.1, 19], 1),
        (dict(site_longitude=149.07), [9, 16.9, 17.1, 19], 1),
        (dict(survey='ztf'), [3, 8, 13], 1),
        (dict(telescope='CTIO 4.0-m telescope'), [23.5, 28, 33], 1),
        (dict(site_longitude=179.9), [7, 12, 17], 1),
        (dict(site_longitude=-179.9), [7, 12, 17], 1),
        (dict(survey='hst'), [23, 25], 2),
        (dict(telescope='JWST', survey='x'), [16, 18], 1),
    ],
)
def test_a_night_ends_at_noon_of_its_site(site, hours, n):
    t = pd.DataFrame(dict(mjd=59000 + np.array(hours) / 24, **site))
    number, known = nights(t)
    assert len(set(number)) == n and known.all()


def test_an_unknown_site_is_said():
    t = pairs_20_arcsec_apart(survey='mine').assign(mjd=59000.0 + np.arange(40))
    report = split_samples(t, by='night', patch_size=63).report
    assert report['nights_of_unknown_site'] == 40


def test_chips_of_one_exposure_are_one():
    keys = ['7[N1,1]', '7[S1,1]', '7~0123abcd', '8', 'file_ccd1', 'file_ccd2']
    t = pd.DataFrame(dict(observation_key=keys, survey='decam', band='g', mjd_meaning='start'))
    t['mjd'] = [59000.2] * 3 + [59000.3, 59000.4, 59000.4]
    assert len(set(exposures(t))) == 3
    assert len(set(exposures(t.assign(mjd_meaning=None)))) == 3  # Without a moment: by name
    plain = t.replace('file_ccd(.)', r'file_\1', regex=True)
    assert len(set(exposures(plain.assign(mjd_meaning=None)))) == 4
    two = t.assign(survey=['a', 'b'] * 3)
    assert len(set(exposures(two)[:3])) == 1  # One exposure under two surveys


def test_numbers_of_two_catalogues_are_two_objects():
    t = pd.DataFrame(dict(sample_key=list('abcd'), object_id='17', dec=0.0))
    t['ra'] = [10, 202, 359.9999, 0.0001]
    sources = [f'catalogue:{i}' for i in range(4)]
    for two in (t.assign(object_source=sources), t.assign(survey=['s', 't', 'u', 'v'])):
        assert len(set(group_detections(two))) == 3  # The last two are at one place
    assert len(set(group_detections(t.assign(object_source='one')))) == 1
    split = audit_splits(t[:2].assign(survey=['s', 't'], split=['train', 'test']))
    assert split.objects_shared == 0


def test_samples_without_an_observation_are_not_one_exposure():
    t = pd.DataFrame(dict(survey='a', observation_key=['', '', None, 'x', 'x'], band='g'))
    assert len(set(exposures(t))) == 4
    keyed = t.assign(sample_key=list('abcde'))
    assert sorted(set(exposures(keyed))) == sorted(set(exposures(keyed[::-1])))
    assert audit_splits(
        keyed.assign(
            ra=np.arange(5.0), dec=0.0, label=0, split=['train', 'test', 'val', 'test', 'test']
        )
    )


@pytest.mark.parametrize(
    'name, site',
    [
        ('Winter Park', None),
        ('Swift Current', None),
        ('Salt Lake City Observatory', None),
        ('WINTER', -116.86),
        ('Neil Gehrels Swift Observatory', SPACE),
        ('SALT', 20.81),
        ('WISE-W1', SPACE),
        ('KiDS DR4', -70.40),
    ],
)
def test_everyday_words_are_no_telescopes(name, site):
    assert site_of_name(name) == site


@pytest.mark.parametrize(
    'stated, longitude',
    [(-105.76, -105.76), (116.86, -116.86), (243.1, -116.86), (0.0, -116.86), (None, -116.86)],
)
def test_a_stated_longitude_far_from_the_named_site_is_believed(stated, longitude):
    header = fits.Header(dict(TELESCOP='Palomar'))
    if stated is not None:
        header['SITELONG'] = stated
    assert abs(site_longitude(Cards(header)) - longitude) < 1e-6


@pytest.mark.parametrize('survey', ['lsst', 'mine'])
def test_other_surveys_are_not_measured_with_ztfs_stamps(survey):
    for detector in ((500.0, 500.0), (None, None)):
        small = dict(science=stamp(ny=30, nx=30))
        assert stamp_geometry(small, detector=detector, survey=survey).pixel == (15, 15)
    with pytest.raises(BadImage):
        stamp_geometry(dict(science=stamp(ny=30, nx=30)), survey='ZTF_public')


def test_odd_scores_and_long_names_of_alerts_go_to_the_ledger(archive):
    long_names = [flat_row(i, objectId='ZTF' + 'x' * 300 + str(i)) for i in (1, 2)]
    odd = [flat_row(3, drb=7.3), flat_row(4, drb=-0.5)]
    report = archive.add_alerts([flat_row(0), *long_names, *odd], show=False)
    assert report.added == 1
    assert report.ledger['reason'].tolist() == ['bad_object_id'] * 2 + ['bad_score'] * 2


def test_the_older_score_of_ztf_is_in_the_packet(archive):
    alert = {name: value for name, value in flat_row(0).items() if name != 'drb'} | dict(rb=0.4)
    archive.add_alerts([alert], show=False)
    with archive.session() as s:
        facts = s.scalars(select(Image.facts)).all()
    assert all('score' not in one['missing'] for one in facts)


# Chips of one exposure by other cards, and stamps of unknown scale


def one_chip(folder, name, seed, **cards):
    "A small image of some stars, in a file of its own"
    from test_boundaries import CARDS, sky

    header = fits.Header(CARDS | dict(CRVAL1=150.0 + 0.05 * seed) | cards)
    path = folder / f'{name}.fits'
    fits.PrimaryHDU(sky(seed), header).writeto(path)
    return str(path)


NAME_CARDS = (
    'EXPNUM EXPID OBSID VISIT ROOTNAME FRAMEID EXP-ID OBSNUM RUN FRAMENUM IMGID EXPNO SEQNUM'
).split()


def exposures_of_files(archive, paths):
    "Names of the exposures of some files, in the order of the files"
    archive.add_fits(paths, survey='mine', detect=False, show=False)
    table = pd.DataFrame(dict(ra=150.0 + 0.05 * np.arange(len(paths)), dec=2.0, v='real'))
    archive.add_catalogue(table, 'people', is_real='v')
    params = dict(validation_status='any', confidence_threshold=None, negatives={})
    samples = ad.TrainingDataCollector(archive).plan(**params, progress=False).samples
    samples = samples.sort_values('ra', ignore_index=True)
    assert len(samples) == len(paths)
    return exposures(samples), samples


@pytest.mark.parametrize(
    'card, when',
    [(card, '2020-01-01') for card in NAME_CARDS]
    + [('EXPID', '2020-01-01T03:00:00'), ('EXPID', None)],
)
def test_chips_are_one_exposure_by_any_card_that_numbers_it(archive, tmp_path, card, when):
    date = {} if when is None else {'DATE-OBS': when}
    two = [
        one_chip(tmp_path, f'{part}_{k}', k, **{card: 14, 'CCDNUM': k}, **date)
        for k, part in enumerate(['north', 'south'])
    ]
    later = {'DATE-OBS': '2020-01-02' + when[10:]} if when else {}
    five_later = {'DATE-OBS': when.replace(':00:', ':05:')} if when else {}
    other = one_chip(tmp_path, 'west_2', 2, **{card: 15}, **five_later)
    again = one_chip(tmp_path, 'east_3', 3, **{card: 14}, **later)
    name, samples = exposures_of_files(archive, [*two, other, again])
    assert name[0] == name[1] != name[2]
    if when:  # The number begins anew each night
        assert name[3] not in (name[0], name[2])
    split = split_samples(samples, by='observation', allow_empty=True).split
    assert split[0] == split[1]


def test_chips_of_one_name_are_read_out_one_after_the_other(archive, tmp_path):
    seconds = [0.0, 0.4, 3.1, 500.0]
    files = [
        one_chip(
            tmp_path,
            f'c{k}',
            k,
            **{'EXPID': 77, 'DATE-OBS': Time(59000.2 + s / 86400, format='mjd').isot},
        )
        for k, s in enumerate(seconds)
    ]
    name, _ = exposures_of_files(archive, files)
    assert len(set(name[:3])) == 1 and name[3] != name[0]


def unscaled_stamps(n=12, each=6, **columns):
    "Stamps of some exposures, 20 arcsec from one to the next, of a survey that nobody knows"
    row = np.arange(n * each)
    ra = 150 + (row // each) * 0.5 + (row % each) * 20 / 3600
    t = pd.DataFrame(dict(sample_key=[f'{i:04d}' for i in row], ra=ra, dec=0.0, label=row % 2))
    t = t.assign(object_id=[f'o{i}' for i in row], survey='mine', band='g', mjd_meaning='start')
    return t.assign(mjd=59000.2 + row // each, image_wcs_state='stamp', **columns)


def of_one_exposure_apart(t, split):
    "How many exposures have stamps in two splits"
    return int((pd.Series(split).groupby(t['mjd']).nunique() > 1).sum())


@pytest.mark.parametrize('by', ['object', 'sky'])
def test_stamps_of_unknown_scale_stay_with_their_exposure(by):
    t = unscaled_stamps()
    for seed in range(5):
        split = split_samples(t, patch_size=63, by=by, seed=seed).split
        assert of_one_exposure_apart(t, split) == 0
        audit = audit_splits(t.assign(split=split), patch_size=63)
        assert audit.verdict == 'unknown' and audit.pixels_shared is None
    scaled = t.assign(stamp_scale_arcsec=0.1)  # 6 arcsec wide, so they share nothing
    assert of_one_exposure_apart(scaled, split_samples(scaled, patch_size=63, by='group').split)
    split = split_samples(scaled, patch_size=63).split
    assert audit_splits(scaled.assign(split=split), patch_size=63).verdict == 'pass'


def test_stamps_of_one_exposure_of_unknown_scale_cannot_be_split():
    t = unscaled_stamps(n=1, each=20)
    with pytest.raises(EmptySplit, match='1 independent'):
        split_samples(t, patch_size=63)
    apart = t.assign(split=np.where(np.arange(20) % 2, 'train', 'test'))
    assert audit_splits(apart, patch_size=63).verdict != 'pass'


def test_stamps_of_one_exposure_stay_together_from_ingest_to_version(tmp_path):
    rng = np.random.default_rng(0)
    sky = rng.normal(100, 5, (8, 60, 60)).astype('f4')
    rows = [
        dict(image=sky[e, :15, x : x + 15], ra=10 + e + x * 20 / 3600, dec=0.0, mjd=59000.5 + e)
        for e in range(8)
        for x in range(0, 40, 4)
    ]
    rows = [dict(row, id=k, object_id=f'o{k}', label=k % 2, band='r') for k, row in enumerate(rows)]
    archive = ad.open_archive(tmp_path / 'home')
    archive.add_stamps(rows, 'mine', is_real='label', show=False)
    params = ad.TrainingDataCollectionParams(confidence_threshold=None, survey_ids=['mine'])
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    samples = plan.build('stamps', patch_size=15, progress=False, probe=False).samples
    assert len(samples) == len(rows)
    assert set(samples.groupby(samples['mjd'].round(3))['split'].nunique()) == {1}
    assert samples['split'].nunique() > 1
