"A night of alerts in a packed tar: what is damaged is found before any of it counts, and what only breaks off is sound up to there"

import bz2
import gzip
import io
import lzma
import random
import tarfile

import fastavro
import pytest
from sqlalchemy import select
from test_ingest import packet
from test_isolated_tables import flat

import astrid_data as ad
from astrid_data.registry.tables import DetectionIndex, Observation

N = 6
KINDS = {int: 'long', float: 'double', str: 'string', bytes: 'bytes'}
PACKERS = dict(gz=gzip.compress, bz2=bz2.compress, xz=lzma.compress)


def avro(alert):
    "A packet as a file that nothing is packed in, so that no checksum but the tar's sees its fields"
    fields = [dict(name=name, type=KINDS[type(value)]) for name, value in alert.items()]
    out = io.BytesIO()
    fastavro.writer(out, dict(type='record', name='alert', fields=fields), [alert])
    return out.getvalue()


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope='module')
def night():
    return tar_of((f'{k}.avro', avro(flat(k))) for k in range(N))


def rows_of(archive):
    "What is stored of each alert, by its name"
    with archive.session() as s:
        columns = Observation.observation_id, Observation.ra, Observation.dec
        seen = s.execute(select(*columns, Observation.observation_time)).all()
        facts = s.scalars(select(DetectionIndex.facts)).all()
    return {row[0]: row for row in seen}, sorted(map(str, facts))


@pytest.fixture(scope='module')
def whole(night, tmp_path_factory):
    "The rows of the night as it was sent"
    folder = tmp_path_factory.mktemp('whole')
    (folder / 'night.tar').write_bytes(night)
    archive = ad.open_archive(folder / 'home')
    assert archive.add_alerts(folder / 'night.tar', show=False).added == N
    return rows_of(archive)


@pytest.mark.parametrize('ending', PACKERS)
def test_a_flipped_bit_is_found_before_a_row_is_stored(night, whole, tmp_path, ending):
    packed, rng = PACKERS[ending](night), random.Random(ending)
    path = tmp_path / f'night.tar.{ending}'
    archive = ad.open_archive(tmp_path / 'home')
    for at in [len(packed) - 6, *(rng.randrange(20, len(packed)) for _ in range(12))]:
        path.write_bytes(
            packed[:at] + bytes([packed[at] ^ 1 << rng.randrange(8)]) + packed[at + 1 :]
        )
        report = archive.add_alerts(path, show=False)
        if report.added:  # A bit of the head of a packer, which changes nothing
            assert rows_of(archive) == whole and not len(report.ledger), at
            archive = ad.open_archive(tmp_path / f'home{at}')
            continue
        assert report.ledger['reason'].tolist() == ['unreadable'], (at, report.ledger)
        assert f'night.tar.{ending} cannot be read' in report.ledger['detail'][0]


def test_a_changed_field_is_not_another_alert(night, whole, tmp_path):
    "All is readable, and one number is another one: only the checksum of the file knows"
    name = repr(packet(3)['objectId'])[1:-1].encode()
    other = night.replace(name, name[:-1] + b'z')
    sound, changed = gzip.compress(night, mtime=0), gzip.compress(other, mtime=0)
    path = tmp_path / 'night.tar.gz'
    path.write_bytes(changed[:-8] + sound[-8:])
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_alerts([path], show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['unreadable'])
    assert 'CRC check failed' in report.ledger['detail'][0]


@pytest.mark.parametrize('ending', PACKERS)
def test_one_that_breaks_off_is_sound_up_to_there(night, whole, tmp_path, ending):
    packed = PACKERS[ending](night)
    path = tmp_path / f'night.tar.{ending}'
    archive = ad.open_archive(tmp_path / 'home')
    path.write_bytes(packed[: len(packed) - 300])
    report = archive.add_alerts(path, show=False)
    assert len(report.ledger), ending
    seen, _ = rows_of(archive)
    assert seen.items() <= whole[0].items()
    assert report.added or ending == 'bz2'  # Which gives a block whole or not at all


def test_what_is_damaged_costs_itself_beside_others(night, tmp_path):
    nights = tmp_path / 'nights'
    nights.mkdir()
    bad = bytearray(gzip.compress(avro(flat(1))))
    bad[-6] ^= 1
    (nights / '1.tar').write_bytes(tar_of([('1.avro.gz', bytes(bad)), ('2.avro', avro(flat(2)))]))
    (nights / '3.avro.gz').write_bytes(bytes(bad))
    (nights / '4.avro.gz').write_bytes(gzip.compress(avro(flat(4))))
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_alerts(nights, show=False)
    assert report.added == 2 and report.ledger['reason'].tolist() == ['unreadable'] * 2
    assert [uri.rpartition('/')[2] for uri in report.ledger['uri']] == ['1.avro.gz', '3.avro.gz']
