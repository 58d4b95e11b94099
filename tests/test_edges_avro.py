"AVRO files and messages that ask for more than their bytes can hold: each costs itself, in words"

import io
import json
import subprocess
import sys
import zlib

import fastavro
import numpy as np
import pandas as pd
import pytest
from test_ingest import packet

import astrid_data as ad
from astrid_data.ingest.alert_files import read_alerts
from astrid_data.ingest.wire import Schemas, read_message

MARK = b'S' * 16


def number(value):
    "A number as AVRO writes it"
    value, out = (value << 1) ^ (value >> 63), b''
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def record(name, **fields):
    return dict(type='record', name=name, fields=[dict(name=n, type=t) for n, t in fields.items()])


def array(items):
    return dict(type='array', items=items)


def file_of(schema, data, n=1, codec=b'null', size=None):
    "An AVRO file of one block"
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    head = b'Obj\x01' + number(2)
    for name, value in ((b'avro.schema', text), (b'avro.codec', codec)):
        head += number(len(name)) + name + number(len(value)) + value
    size = len(data) if size is None else size
    return head + number(0) + MARK + number(n) + number(size) + data + MARK


def packed(n):
    "So many zeros as a raw stream of deflate"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(n)) + packer.flush()


NODE = record('node', next=['null', 'node'])
BY_MAP = record('node', inner=dict(type='map', values=['null', array('node')]))
CHAIN = [record('r0', x='int'), *(record(f'r{i}', x=f'r{i - 1}') for i in range(1, 10_001))]
PAIRS = (record(f'r{i}', x=f'r{i - 1}', y=f'r{i - 1}') for i in range(1, 40))
DOUBLED = [record('r0', x='null'), *PAIRS]
MANY = number(50_000_000) + b'\0'
ITEM = record('e', x='int', **{f'n{i}': 'null' for i in range(2000)})
X = record('a', x='int')

#: What a file is -> its bytes and the reason of its row in the ledger
BOMBS = dict(
    holds_itself=(lambda: file_of(NODE, b'\x02' * 3_000_000 + b'\0'), 'bad_schema'),
    holds_itself_by_map=(lambda: file_of(BY_MAP, b'\x02\x02a' * 10**6), 'bad_schema'),
    chain_of_names=(lambda: file_of(CHAIN, number(10_000) + b'\0'), 'bad_schema'),
    doubled_names=(lambda: file_of(array(DOUBLED), number(9) + b'\0'), 'bad_schema'),
    nulls=(lambda: file_of(record('a', x=array('null')), MANY), 'bad_schema'),
    negative_nulls=(
        lambda: file_of(record('a', x=array('null')), number(-50_000_000) + b'\0\0'),
        'bad_schema',
    ),
    no_bytes=(
        lambda: file_of(record('a', x=array(dict(type='fixed', name='f', size=0))), MANY),
        'bad_schema',
    ),
    no_fields=(lambda: file_of(record('a', x=array(record('e'))), MANY), 'bad_schema'),
    empty_records=(lambda: file_of(record('a'), b'', n=10**9), 'bad_schema'),
    mostly_nulls=(lambda: file_of(record('a', x=array(ITEM)), number(10**6)), 'bad_schema'),
    deep=(lambda: file_of(b'{"type":"array","items":' * 10_000, b'\0'), 'unreadable'),
    long_schema=(
        lambda: file_of(record('a', **{f'f{i}': 'int' for i in range(400_000)}), b''),
        'too_large',
    ),
    count=(lambda: file_of(record('a', x=array('int')), number(2**60) + b'\x02'), 'unreadable'),
    least_count=(
        lambda: file_of(record('a', x=array('int')), b'\xff' * 9 + b'\x01\x02\x02\0'),
        'unreadable',
    ),
    length=(lambda: file_of(record('a', x='string'), number(2**40) + b'ab'), 'unreadable'),
    records=(lambda: file_of(X, b'\x02', n=2**50), 'unreadable'),
    negative_records=(lambda: file_of(X, b'\x02', n=-3), 'unreadable'),
    block=(lambda: file_of(X, b'\x02', size=2**40), 'too_large'),
    negative_block=(lambda: file_of(X, b'\x02', size=-5), 'unreadable'),
    endless_number=(lambda: file_of(X, b'')[:-18] + b'\xff' * 99, 'unreadable'),
    behind_records=(lambda: file_of(X, b'\x02' * 9), 'unreadable'),
    bomb=(lambda: file_of(record('a', x='bytes'), packed(2**28), codec=b'deflate'), 'too_large'),
    lz4=(lambda: file_of(X, b'\xff' * 4 + b'\x02', codec=b'lz4'), 'too_large'),
    two_names=(lambda: file_of(b'{"type": "int", "type": "null"}', b''), 'unreadable'),
)
READ = """
import json, resource, sys
from astrid_data.ingest.alert_files import read_alerts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = [(p if isinstance(p, dict) else p.reason) for _, p in read_alerts(sys.argv[1:])]
used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000
print(json.dumps([used, found]))
"""


def test_what_asks_for_too_much_costs_itself(tmp_path):
    "In a process of their own, which some of them ended, and others made grow for minutes"
    for name, (made, _) in BOMBS.items():
        (tmp_path / f'{name}.avro').write_bytes(made())
    (tmp_path / 'sound.avro').write_bytes(file_of(X, b'\x02'))
    names = [tmp_path / f'{name}.avro' for name in (*BOMBS, 'sound')]
    done = subprocess.run(
        [sys.executable, '-c', READ, *map(str, names)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-500:]
    used, found = json.loads(done.stdout)
    expected = [(name, reason) for name, (_, reason) in BOMBS.items()]
    found = [one for one in found if one != dict(x=1)] + [one for one in found if one == dict(x=1)]
    assert list(zip(BOMBS, found)) == expected
    assert found[len(BOMBS) :] == [dict(x=1)] * 3  # The sound one, and two before the damage
    assert used < 600, f'{used} MB more than before'


def message(schema, value, n=7):
    out = io.BytesIO(b'\0' + n.to_bytes(4, 'big'))
    out.seek(5)
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


@pytest.mark.parametrize('schema', [NODE, record('a', x=array('null')), CHAIN, '{"type": "rec'])
def test_a_schema_that_asks_for_too_much_costs_its_messages(schema):
    known = {7: schema, 8: X}
    sound = message(X, dict(x=1), 8)
    bad = b'\0\0\0\0\x07' + b'\x02' * 3_000_000
    _, (_, problem), (_, last) = read_alerts([sound, bad, sound], known)
    assert problem.reason in ('bad_schema', 'no_schema') and last == dict(x=1)


@pytest.mark.parametrize('codec', ['null', 'deflate', 'bzip2', 'xz'])
@pytest.mark.parametrize('n', [0, 1, 700])
def test_sound_files_are_read_as_fastavro_reads_them(codec, n):
    fields = dict(x='long', y=['null', 'string'], z=array(record('e', w='double')))
    rows = [dict(x=i, y=f'{i}' * (i % 3) or None, z=[dict(w=0.5 * i)] * (i % 5)) for i in range(n)]
    out = io.BytesIO()
    fastavro.writer(out, record('a', **fields), rows, codec=codec, sync_interval=500)
    assert [one for _, one in read_alerts(out.getvalue())] == rows


def test_times_of_32_bits_are_seen_in_every_container(tmp_path):
    "In a message as in a file, also where they are in the past of an object"
    epoch = record('c', jd='float', ra='double', dec='double', fid='int', magpsf='float')
    schema = record('alert', candid='long', candidate=epoch, prv_candidates=array('c'))
    row = dict(jd=2459000.7, ra=150.0, dec=2.0, fid=1, magpsf=18.0)
    alert = dict(candid=7, candidate=row, prv_candidates=[row])
    out = io.BytesIO()
    fastavro.writer(out, schema, [alert])
    pd.DataFrame([dict(candid=7, jd=np.float32(2459000.7))]).to_parquet(tmp_path / 'a.parquet')
    for source in (out.getvalue(), message(schema, alert)):
        [(_, read)] = read_alerts(source, {7: schema})
        for part in (read['candidate'], read['prv_candidates'][0]):
            assert type(part['jd']) is np.float32 and type(part['ra']) is float


def test_a_short_time_of_a_message_is_refused_as_that_of_a_file(tmp_path):
    "A date in 32 bits has lost the hour; before, a message kept it without a word"
    plain = packet(1)
    fields = {k: 'float' if k == 'jd' else 'double' for k in ('jd', 'ra', 'dec')}
    schema = record(
        'alert',
        objectId='string',
        candid='long',
        candidate=record('c', **fields),
        **{name: record(name, stampData='bytes') for name in plain if name.startswith('cutout')},
    )
    archive = ad.open_archive(tmp_path / 'home')
    out = io.BytesIO()
    fastavro.writer(out, schema, [plain])
    for source in (out.getvalue(), message(schema, plain)):
        report = archive.add_alerts([source], schemas={7: schema}, show=False)
        assert (report.added, report.ledger.reason.tolist()) == (0, ['short_time'])


def test_a_number_is_asked_for_once_in_its_registry_and_not_beyond():
    asked = []

    def registry(name, schema):
        return Schemas(lambda number: asked.append((name, number)) or schema)

    one, other = registry('one', X), registry('other', record('a', y='int'))
    for _ in range(3):
        assert read_message(message(X, dict(x=1)), one) == dict(x=1)
        assert read_message(message(X, dict(x=1)), other) == dict(y=1)
    assert asked == [('one', 7), ('other', 7)]


def test_a_number_that_is_not_there_is_asked_for_once():
    asked = []
    stream = [message(X, dict(x=1))] * 5
    reasons = [problem.reason for _, problem in read_alerts(stream, asked.append)]
    assert (reasons, asked) == (['no_schema'] * 5, [7])


def test_a_list_without_an_end_costs_its_packet(tmp_path):
    from itertools import count

    def breaks_off():
        yield dict(candid=1)
        raise OSError('the connection is gone')

    bad = [packet(k) | dict(prv_candidates=many) for k, many in ((1, count()), (2, breaks_off()))]
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_alerts([packet(0), *bad, packet(3)], show=False)
    assert report.added == 2
    assert report.ledger.reason.tolist() == ['too_large', 'unreadable']
