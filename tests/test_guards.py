"Each guard by itself: what it must refuse is refused, and without it this test fails"

import hmac
import json
import os
import signal
import uuid
from datetime import UTC, datetime, timedelta
from io import BytesIO
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from fastapi.testclient import TestClient

import astrid_data as ad
from astrid_data import keys
from astrid_data.concurrency import file_lock
from astrid_data.core import BadImage, Conflict, Secret, Settings, current_limits, hide_known
from astrid_data.datasets.catalog import BeingBuilt, dataset_lock
from astrid_data.datasets.seal import (
    check_seal,
    check_signature,
    has_changed,
    read_seal,
    sign_folder,
    write_seal,
)
from astrid_data.images.image import open_image
from astrid_data.images.sanity import refuse_bomb
from astrid_data.keys import change_key, create_api_key, key_of_id, known_key, list_keys
from astrid_data.storage.addresses import read_reach
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.folder import file_state, is_same_state
from astrid_data.storage.keys import ObjectChanged, block_checksums, damaged_block


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    return ad.open_archive(home=tmp_path_factory.mktemp('home'))


def is_known(archive, key):
    with archive.session() as session:
        return known_key(session, key) is not None


def is_known_by_id(archive, id):
    with archive.session() as session:
        return key_of_id(session, id) is not None


def id_of(archive, name):
    [row] = [one for one in list_keys(archive) if one['name'] == name]
    return uuid.UUID(row['id'])


def test_a_key_is_known_whole_and_compared_in_constant_time(archive, monkeypatch):
    key, compared = create_api_key(archive, 'whole', ['read:data']), []

    def compare(a, b):
        compared.append((a, b))
        return plain(a, b)

    plain = hmac.compare_digest
    monkeypatch.setattr(keys.hmac, 'compare_digest', compare)
    assert is_known(archive, key)
    others = [key[:8], key[:-1], key + 'x', key[:8] + 'x' * len(key[8:]), key.swapcase(), '']
    assert not any(is_known(archive, other) for other in others)
    assert compared and all(len(a) == len(b) == 64 for a, b in compared)  # Hashes, never keys


@pytest.mark.parametrize('change', [dict(is_active=False), dict(expires_at='past')])
def test_a_key_that_ended_is_known_no_longer(archive, change):
    name = f'ends {change}'
    key = create_api_key(archive, name, ['read:data'])
    id = id_of(archive, name)
    assert is_known(archive, key) and is_known_by_id(archive, id)
    if 'expires_at' in change:
        change = dict(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    change_key(archive, id, **change)
    assert not is_known(archive, key) and not is_known_by_id(archive, id)


def test_each_list_over_http_has_a_largest_page(archive):
    paths = ad.create_app(archive).openapi()['paths']
    told = {
        (path, one['name']): one['schema'].get('anyOf', [one['schema']])[0]
        for path, ways in paths.items()
        for one in ways.get('get', {}).get('parameters', ())
        if one['name'] in ('limit', 'offset')
    }
    limits = {path: schema for (path, name), schema in told.items() if name == 'limit'}
    assert len(limits) >= 7
    assert all(schema['minimum'] == 1 for schema in limits.values())
    assert all(schema['maximum'] <= 1000 for schema in limits.values()), limits
    assert all('maximum' in schema for schema in told.values())


def hold(path, pipe):
    with file_lock(path):
        pipe.send('mine')
        signal.pause()


def test_a_lock_holds_other_processes_off_until_its_holder_dies(tmp_path):
    fork = get_context('fork')
    here, there = fork.Pipe()
    holder = fork.Process(target=hold, args=(tmp_path / 'lock', there))
    holder.start()
    assert here.recv() == 'mine'
    with pytest.raises(BlockingIOError), file_lock(tmp_path / 'lock', wait=False):
        pass
    holder.kill()
    holder.join()
    with file_lock(tmp_path / 'lock', wait=False):
        pass


@pytest.mark.parametrize('other', ['st_size', 'st_mtime_ns', 'st_ctime_ns'])
def test_a_file_has_another_state_by_size_time_or_entry(other):
    status = dict(st_size=1, st_mtime_ns=2, st_ctime_ns=3)
    same = file_state(SimpleNamespace(**status))
    now = file_state(SimpleNamespace(**status | {other: 4}))
    assert is_same_state(same, same) and not is_same_state(same, now)


def test_little_does_not_become_much():
    limits = current_limits()
    more = limits.free_bytes + 1
    fair = -(-more // limits.ratio)
    refuse_bomb(fair, more, 'a')
    for packed, unpacked, why in (
        (fair - 1, more, 'ASTRID_MAX_RATIO'),
        (limits.unpacked_bytes, limits.unpacked_bytes + 1, 'ASTRID_MAX_UNPACKED_BYTES'),
    ):
        with pytest.raises(BadImage, match=why) as found:
            refuse_bomb(packed, unpacked, 'a')
        assert found.value.reason == 'too_large'


@pytest.mark.parametrize('address', ['127.0.0.1', '10.0.0.1', '169.254.169.254', '::1'])
def test_a_server_reaches_no_private_machine_and_no_file_but_what_is_allowed(address, tmp_path):
    (tmp_path / 'open').mkdir()
    reach = read_reach([str(tmp_path / 'open')], anywhere=False)
    assert not reach.allows_machine('a.org', 443, address)
    assert reach.allows_machine('a.org', 443, '93.184.216.34')
    assert read_reach(['https://a.org'], anywhere=False).allows_machine('a.org', 443, address)
    assert reach.allows_file(tmp_path / 'open' / 'a') and not reach.allows_file('/etc/passwd')
    assert not reach.allows_file(tmp_path / 'open' / '..' / 'a')


def test_what_is_secret_is_taken_out_of_texts():
    assert 'horse' not in hide_known('no answer from horse', {'horse'})
    assert 'staple' not in hide_known('https://ann:staple@a.org/b', set())
    assert 'battery' not in hide_known('https://a.org/b?token=battery', set())


@pytest.mark.parametrize('knows_conditions', [True, False])
def test_a_part_is_bound_to_a_version_by_the_request_and_by_the_answer(
    s3, tmp_path, knows_conditions
):
    "The one is enough where the service knows conditions, the other where it does not"
    settings = Settings(
        s3_endpoint=s3.endpoint, s3_key_id=Secret(s3.key), s3_secret=Secret(s3.secret)
    )
    mine, other = (
        S3Store('test', 'open/guards', settings, DiskCache(tmp_path / str(n))) for n in range(2)
    )
    key, asked = f'{knows_conditions}', []
    other.put(key, b'older' * 9)
    assert mine.get_range(key, 0, 5) == b'older'

    def note(request, **_):
        asked.append(request.headers.get('If-Match'))
        if not knows_conditions:
            del request.headers['If-Match']

    mine.client.meta.events.register('before-sign.s3.GetObject', note)
    assert mine.get_range(key, 5, 10) == b'older'
    other.put(key, b'newer' * 9)
    with pytest.raises(ObjectChanged, match='was replaced since it was first read'):
        mine.get_range(key, 10, 15)
    assert len(asked) == 2 and None not in asked


def test_each_bit_of_a_block_counts():
    data = bytes(range(256)) * 40
    kept = block_checksums(BytesIO(data), 1024)
    assert damaged_block(data, 0, kept, 1024) is None
    for at in (0, 1023, 1024, 5000, len(data) - 1):
        flipped = bytearray(data)
        flipped[at] ^= 4
        assert damaged_block(bytes(flipped), 0, kept, 1024) == at // 1024
        assert damaged_block(bytes(flipped[1024:]), 1, kept, 1024) == (at // 1024 or None)


def test_a_card_that_no_file_can_have_is_refused_before_a_library_sees_it(tmp_path):
    fits.PrimaryHDU(np.ones((9, 9), 'f4')).writeto(tmp_path / 'a.fits')
    data = (tmp_path / 'a.fits').read_bytes()
    for name, value in (('NAXIS', 33), ('NAXIS', 9_999_999_999), ('NAXIS1', -1), ('BITPIX', 7)):
        before = data.index(f'{name:<8}='.encode())
        card = f'{name:<8}= {value:>20}'.ljust(80).encode()
        with pytest.raises(BadImage, match='is not possible in a FITS file') as found:
            open_image(data[:before] + card + data[before + 80 :])
        assert found.value.reason == 'bad_header'


@pytest.mark.parametrize('n, status', [(190, 200), (201, 431)])
def test_few_lines_of_headers_are_looked_at(archive, n, status):
    client = TestClient(ad.create_app(archive))
    assert client.get('/', headers={f'x-{k}': '' for k in range(n)}).status_code == status


@pytest.fixture
def sealed(tmp_path):
    "A folder as a version has it, sealed, its manifest and its root"
    folder, manifest = tmp_path / 'v1', dict(name='sky', version=1, sealed=True)
    folder.mkdir()
    (folder / 'samples.parquet').write_bytes(b'rows' * 9)
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    return folder, manifest, write_seal(folder, json.dumps(manifest))


def test_a_signature_is_of_one_key_and_one_content(sealed):
    folder, manifest, _ = sealed
    sign_folder(folder, 'a key of the house')
    check_signature(folder, 'a key of the house')
    with pytest.raises(Conflict, match='was not signed with this key'):
        check_signature(folder, 'a key of another')
    (folder / 'samples.parquet').write_bytes(b'more' * 9)
    write_seal(folder, json.dumps(manifest))  # Whoever can write can seal, but not sign
    with pytest.raises(Conflict, match='was not signed with this key'):
        check_signature(folder, 'a key of the house')


def test_a_seal_that_was_made_anew_is_not_the_one_that_is_remembered(sealed):
    folder, manifest, root = sealed
    check_seal(folder, manifest, root)
    (folder / 'samples.parquet').write_bytes(b'more' * 9)
    assert write_seal(folder, json.dumps(manifest)) != root
    check_seal(folder, manifest)  # Nobody remembers another
    with pytest.raises(Conflict, match='seal.json is not what was frozen'):
        check_seal(folder, manifest, root)


@pytest.mark.parametrize('old, new', [(b'{', b'{ '), (b'"root":"', b'"root":"0'), (b'}', b'} ')])
def test_each_byte_of_a_seal_counts(sealed, old, new):
    folder, *_ = sealed
    path = folder / 'seal.json'
    assert read_seal(folder)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(Conflict, match='its bytes have changed'):
        read_seal(folder)


def test_a_file_whose_time_was_set_back_is_read_again(sealed):
    path = sealed[0] / 'samples.parquet'
    sha256, was = read_seal(sealed[0])['samples.parquet'], path.stat()
    assert not has_changed(path, sha256)
    with path.open('r+b') as file:
        file.write(b'Rows')
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size and path.stat().st_ino == was.st_ino
    assert has_changed(path, sha256)


def hold_dataset(folder, pipe):
    with dataset_lock(folder):
        pipe.send('mine')
        signal.pause()


def test_one_builder_at_a_time_in_the_folder_of_a_dataset(tmp_path):
    fork = get_context('fork')
    here, there = fork.Pipe()
    holder = fork.Process(target=hold_dataset, args=(tmp_path / 'sky', there))
    holder.start()
    assert here.recv() == 'mine'
    try:
        with pytest.raises(BeingBuilt), dataset_lock(tmp_path / 'sky'):
            pass
    finally:
        holder.kill()
        holder.join()
    with dataset_lock(tmp_path / 'sky'):
        pass
