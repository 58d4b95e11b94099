"One night of alerts in every container gives one registry, and what is broken costs itself alone"

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
from datetime import UTC, datetime
from itertools import count

import pandas as pd
import pytest
from killing import differences, registry_state

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.ingest.alert_files import read_alerts
from astrid_data.ingest.wire import Schemas
from benchmarks.alerts import STAMPS, made_up, schema

fastavro = pytest.importorskip('fastavro')
N = 12


@pytest.fixture(scope='module')
def packets():
    return list(made_up(N))


@pytest.fixture(scope='module')
def parsed():
    return fastavro.parse_schema(schema())


def avro(parsed, packets):
    out = io.BytesIO()
    fastavro.writer(out, parsed, packets)
    return out.getvalue()


def message(parsed, packet, number=900):
    out = io.BytesIO(b'\0' + number.to_bytes(4, 'big'))
    out.seek(5)
    fastavro.schemaless_writer(out, parsed, packet)
    return out.getvalue()


def tar(path, files, mode):
    with tarfile.open(path, mode) as out:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


class Kafka:
    "A message as confluent-kafka hands it over"

    def __init__(self, data, problem=None):
        self.data, self.problem = data, problem

    def value(self):
        return self.data

    def error(self):
        return self.problem


class Model:
    "An alert as babamul hands it over"

    def __init__(self, packet):
        self.packet = packet

    def model_dump(self):
        return self.packet


def as_avro(folder, packets, parsed):
    (folder / 'night.avro').write_bytes(avro(parsed, packets))
    return folder / 'night.avro'


def as_packed_avro(folder, packets, parsed):
    (folder / 'night.avro.gz').write_bytes(gzip.compress(avro(parsed, packets)))
    return folder


def as_parquet(folder, packets, parsed):
    pd.DataFrame(packets).to_parquet(folder / 'night.parquet')
    return folder


def as_tar(folder, packets, parsed, mode='w', ending='tar'):
    files = [(f'{i:04d}.avro', avro(parsed, [packet])) for i, packet in enumerate(packets)]
    return tar(folder / f'night.{ending}', files, mode)


def as_packed_tar(folder, packets, parsed):
    return as_tar(folder, packets, parsed, 'w:gz', 'tar.gz')


def as_dicts(folder, packets, parsed):
    return (packet for packet in packets)


def as_files_in_memory(folder, packets, parsed):
    return (avro(parsed, [packet]) for packet in packets)


def as_messages(folder, packets, parsed):
    return (message(parsed, packet) for packet in packets)


def as_kafka(folder, packets, parsed):
    return (Kafka(message(parsed, packet)) for packet in packets)


def as_fink(folder, packets, parsed):
    return (('fink_topic', packet, 'key') for packet in packets)


def as_babamul(folder, packets, parsed):
    return map(Model, packets)


WAYS = [
    as_packed_avro,
    as_parquet,
    as_tar,
    as_packed_tar,
    as_dicts,
    as_files_in_memory,
    as_messages,
    as_kafka,
    as_fink,
    as_babamul,
]


def taken_in(folder, source, schemas=None):
    archive = ad.open_archive(folder / 'archive')
    report = archive.add_alerts(source, show=False, schemas=schemas)
    return report, registry_state(archive), sorted(archive.store.list(''))


@pytest.fixture(scope='module')
def wanted(tmp_path_factory, packets, parsed):
    folder = tmp_path_factory.mktemp('avro')
    report, *found = taken_in(folder, as_avro(folder, packets, parsed))
    assert report.added == N and not report.lost and report.surveys == {'ztf': N}
    assert f'{N} alerts of ztf' in repr(report)
    return found


@pytest.mark.parametrize('way', WAYS, ids=lambda way: way.__name__)
def test_the_same_night(way, tmp_path, packets, parsed, wanted):
    report, state, keys = taken_in(tmp_path, way(tmp_path, packets, parsed), {900: schema()})
    assert report.added == N and not report.lost
    assert not list(differences(state, wanted[0]))
    assert keys == wanted[1]
    assert len(state['ad_epochs']) > N


def test_a_damaged_packet_costs_itself(tmp_path, packets, parsed):
    "In a tar, among messages, and among files in memory"
    good = [avro(parsed, [one]) for one in packets]
    files = [(f'{i}.avro', one[:-300] if i == 3 else one) for i, one in enumerate(good)]
    report, *_ = taken_in(tmp_path / 'tar', tar(tmp_path / 'night.tgz', files, 'w:gz'))
    assert (report.added, report.ledger['reason'].tolist()) == (N - 1, ['unreadable'])
    assert report.ledger['uri'][0] == 'night.tgz/3.avro'
    some = [message(parsed, one) for one in packets]
    some[3], some[5] = some[3][:-300], Kafka(None, 'partition is gone')
    some[7] = message(parsed, packets[7], 901)
    report, *_ = taken_in(tmp_path / 'wire', iter(some), {900: schema()})
    assert report.added == N - 3
    assert dict(report.ledger['reason'].value_counts()) == {'unreadable': 2, 'no_schema': 1}
    assert set(report.ledger['uri']) == {'packet[3]', 'packet[5]', 'packet[7]'}


def test_a_tar_that_was_cut_gives_what_it_has(tmp_path, packets, parsed):
    whole = as_packed_tar(tmp_path, packets, parsed)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    report, *_ = taken_in(tmp_path, whole)
    assert 0 < report.added < N and len(report.lost) == 1
    assert report.ledger['uri'][0].startswith('night.tar.gz')


def test_a_stream_is_read_one_by_one(packets, parsed):
    "A consumer that never ends gives its first packets at once"
    endless = (message(parsed, packets[0]) for _ in count())
    for _, (_, packet) in zip(range(3), read_alerts(endless, {900: schema()})):
        assert packet['candid'] == packets[0]['candid']


def test_schemas_are_found(tmp_path, packets, parsed):
    "In a folder by version or number, by a function, each asked for once"
    (tmp_path / 'lsst.v9_0.alert.avsc').write_text(json.dumps(schema()))
    asked = []

    def ask(number):
        asked.append(number)
        return json.dumps(dict(schema=json.dumps(schema())))

    for schemas in (tmp_path, str(tmp_path), ask):
        some = [message(parsed, one) for one in packets[:3]]
        found = [packet for _, packet in read_alerts(some, schemas)]
        assert [one['candid'] for one in found] == [one['candid'] for one in packets[:3]]
    assert asked == [900]
    with pytest.raises(BadInput, match='neither an https address'):
        list(read_alerts([b''], 'nowhere'))


def test_times_in_32_bits_are_refused_from_avro_as_from_parquet(tmp_path, packets):
    "A float keeps no minutes of a date"
    short = schema()
    for one in short['fields'][2]['type']['fields']:
        if one['name'] in ('jd', 'ra'):
            one['type'] = 'float'
    data = avro(fastavro.parse_schema(short), packets[:2])
    report, *_ = taken_in(tmp_path, [data])
    assert report.added == 0 and set(report.ledger['reason']) == {'short_time'}


#: Name of a file of raw_avro -> what becomes of its packet
FATES = {
    'Ampel-ZTF__err_IndexError_121540793515135009': 'unreadable',  # A byte is missing
    'Ampel-ZTF__ok_3p3_ZTF20abyfpze': 'no_stamps',
    'ztf-avro-alert__ok_None_1726958725155000': 'no_object',  # Of 2017: a schema before objects
    'ztf-avro-alert__err_UnicodeDecodeError_87704463155000': 'unreadable',  # No schema anywhere
}
SURVEYS = {
    'DC21baaa': 'decat',
    'boom__err': 'lsst',
    'sample_v9': 'lsst',
    'kowalski__err': 'turbo',  # Given: nothing in the packet tells it
    'kowalski__ok_0p1_3608694': 'winter',
    'boom__ok_0p1': 'winter',
    'kowalski__ok_0p1_114297926': 'pgir',
    'boom__ok_None_alert': 'desirt',
}


def test_every_raw_packet_is_read_or_refused_for_a_true_reason(shared_data, tmp_path):
    folder = shared_data / 'alerts' / 'raw_avro'
    for path in sorted(folder.glob('*.avro')):
        archive = ad.open_archive(tmp_path / path.stem[:40].replace('.', '_'))
        survey = 'turbo' if path.name.startswith('kowalski__err') else None
        schemas = shared_data / 'alerts' / 'lsst_schemas'
        report = archive.add_alerts(path, survey=survey, show=False, schemas=schemas)
        if path.stem in FATES:
            assert report.ledger['reason'].tolist() == [FATES[path.stem]], path.name
            continue
        assert report.added == 1 and not report.lost, (path.name, report.ledger)
        wanted = next((s for part, s in SURVEYS.items() if part in path.name), 'ztf')
        assert report.surveys == {wanted: 1}, path.name


def test_every_made_up_rubin_alert_is_refused_for_a_true_reason(shared_data, tmp_path):
    "Their two ids differ, or their time is one of 1970; none has a stamp"
    for path in sorted((shared_data / 'alerts' / 'lsst_schemas').glob('*.avro')):
        with open(path, 'rb') as file:
            [packet] = fastavro.reader(file)
        assert not any(packet.get(name) for name in STAMPS)
        report = ad.open_archive(tmp_path / path.stem).add_alerts(path, show=False)
        (reason,), (detail,) = report.ledger['reason'], report.ledger['detail']
        if 'diaSourceId' in packet:
            assert packet['diaSourceId'] != packet['diaSource']['diaSourceId']
            assert reason == 'conflicting_ids'
        else:
            assert reason == 'unknown_schema' and '1480360995.0, which is no day' in detail
            assert not {'_blank', '_unkept'} & set(detail.replace(',', '').split())


def test_decat_has_its_time_from_the_name_of_the_exposure(shared_data, tmp_path):
    from sqlalchemy import select

    from astrid_data.registry.tables import EpochRow, Observation

    archive = ad.open_archive(tmp_path)
    archive.add_alerts(next((shared_data / 'alerts' / 'raw_avro').glob('*DC21*')), show=False)
    with archive.session() as s:
        [one] = s.scalars(select(Observation)).all()
        epochs = s.scalars(select(EpochRow)).all()
        days = sorted(row.mjd for row in epochs)
    start = datetime(2021, 4, 15, 1, 8, 45, tzinfo=UTC)
    assert abs((one.observation_time - start).total_seconds()) < 1e-3
    assert (one.observation_id, one.filter_band, one.image_width) == ('570349', 'g', 51)
    assert abs(float(one.ra) - 150.3213653564453) < 1e-6  # Of the alert, and not of its object
    assert len(days) > 5 and max(days) < 59319.048
    assert not any(day * 256 == int(day * 256) for day in days)  # As 32-bit floats would be


# One message, one file or one number that is wrong costs itself


def no_such_number(number):
    if number != 900:
        raise KeyError(number)
    return schema()


def a_registry(url, answer, most_bytes):
    if not url.endswith('/900'):
        raise NotFound(f'{url} is not there (404)')
    answer.write(json.dumps(dict(schema=json.dumps(schema()))).encode())


@pytest.mark.parametrize('kind', ['function', 'folder', 'registry'])
def test_a_number_that_cannot_be_found_costs_its_message(
    kind, tmp_path, packets, parsed, monkeypatch
):
    (tmp_path / '900.avsc').write_text(json.dumps(schema()))
    (tmp_path / '7.avsc').write_text('{"type": "rec')
    monkeypatch.setattr('astrid_data.storage.web.download', a_registry)
    ways = dict(function=no_such_number, folder=tmp_path, registry='https://registry.example')
    some = [
        message(parsed, packets[0]),
        message(parsed, packets[1], 7),
        message(parsed, packets[2]),
    ]
    first, lost, last = (packet for _, packet in read_alerts(some, ways[kind]))
    assert lost.reason == 'no_schema' and '7' in lost.detail
    assert [first['candid'], last['candid']] == [packets[0]['candid'], packets[2]['candid']]
    report, *_ = taken_in(tmp_path / 'archive', iter(some), ways[kind])
    assert (report.detections, report.ledger['reason'].tolist()) == (2, ['no_schema'])


def test_a_registry_that_is_away_ends_the_stream(packets, parsed):
    def away(number):
        raise ConnectionError('no answer')

    with pytest.raises(ConnectionError):
        list(read_alerts([message(parsed, packets[0])], away))


class Raising(Kafka):
    def value(self):
        raise ValueError('a payload that no one can decode')


def test_a_message_whose_value_raises_costs_itself(tmp_path, packets):
    some = [packets[0], Raising(b''), packets[1]]
    report, *_ = taken_in(tmp_path, iter(some))
    assert (report.detections, report.ledger['reason'].tolist()) == (2, ['unreadable'])
    assert 'no one can decode' in report.ledger['detail'].iloc[0]


def test_pairs_of_topic_and_packet_are_many_alerts(packets):
    pairs = [('topic', packet) for packet in packets[:3]]
    for source in (pairs, tuple(pairs), (pair for pair in pairs)):
        assert [packet['candid'] for _, packet in read_alerts(source)] == [
            packet['candid'] for packet in packets[:3]
        ]


def test_schemas_show_no_password():
    address = 'https://astronomer:swordfish99@registry.example'
    schemas = Schemas(address)
    assert 'swordfish99' not in f'{schemas} {schemas!r} {vars(schemas)}'
    with pytest.raises(BadInput) as caught:
        Schemas(address.replace('https', 'http'))
    assert 'swordfish99' not in str(caught.value)


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize('within', ['message', 'avro', 'parquet'])
def test_what_unpacks_to_too_much_is_refused_early(pack, within, tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_MAX_FREE_BYTES', '8 MB')
    path = tmp_path / 'night.avro.gz'
    zeros = bytes(64 * 2**20)
    plain = dict(type='record', name='a', fields=[dict(name='stamp', type='bytes')])
    ways = dict(message=lambda: zeros, parquet=lambda: b'PAR1' + zeros)
    ways['avro'] = lambda: avro(plain, [dict(stamp=zeros)])
    path.write_bytes(pack(ways[within]()))
    tracemalloc.start()
    [(_, problem)] = read_alerts(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problem.reason == 'too_large' and 'ASTRID_MAX_RATIO' in problem.detail
    assert peak < 40 * 2**20 or within != 'parquet'  # Others set aside what a record says it has


def test_a_packed_tar_may_be_larger_than_a_file_but_no_bomb(tmp_path, packets, parsed, monkeypatch):
    monkeypatch.setenv('ASTRID_MAX_UNPACKED_BYTES', '200 kB')
    files = [(f'{n}.avro', avro(parsed, [packets[0]])) for n in range(12)]
    whole = sum(len(data) for _, data in files)
    assert whole > 200_000 > len(files[0][1])
    path = tar(tmp_path / 'night.tar.gz', files, 'w:gz')
    assert len(list(read_alerts(path))) == 12
    monkeypatch.setenv('ASTRID_MAX_UNPACKED_BYTES', '1 GB')
    monkeypatch.setenv('ASTRID_MAX_FREE_BYTES', '1 MB')
    path = tar(tmp_path / 'bomb.tar.gz', [('0.bin', bytes(2**24))], 'w:gz')
    assert [problem.reason for _, problem in read_alerts(path)] == ['too_large']
