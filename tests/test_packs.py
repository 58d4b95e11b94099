"Small files in packs: read back as they were, from a folder and from afar, and never mixed up"

import pickle
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid_data.collect.collector import TrainingDataCollector
from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.core import BadImage
from astrid_data.images.opener import ImageOpener
from astrid_data.ingest.archive import open_archive
from astrid_data.storage.folder import FolderStore
from astrid_data.storage.keys import Damaged
from astrid_data.storage.packs import Pack, PackReader, packed_part, put_pack, stored_bytes
from astrid_data.storage.resolve import resolve_uri


def packed(store, files):
    pack = Pack()
    hashes = {name: pack.add(name, data) for name, data in files.items()}
    addresses = put_pack(store, pack)
    return {name: addresses[sha256] for name, sha256 in hashes.items()}


@given(files=st.dictionaries(st.text('abc/é', min_size=1), st.binary(max_size=2000), min_size=1))
def test_each_file_comes_back_and_tar_lists_it(tmp_path_factory, files):
    store = FolderStore(tmp_path_factory.mktemp('store'))
    addresses = packed(store, files)
    read = PackReader(store)
    assert {name: read(address) for name, address in addresses.items()} == files
    assert packed(store, files) == addresses and len(list(store.list())) == 1
    key = packed_part(next(iter(addresses.values())))[0]
    with tarfile.open(store.local_path(key)) as tar:
        assert [tar.extractfile(m).read() for m in tar] == list(dict.fromkeys(files.values()))


class FarStore(FolderStore):
    "A folder that behaves as a bucket: what is read of it is counted"

    def __init__(self, root):
        super().__init__(root)
        self.ranges, self.whole = [], []

    def is_cached(self, key):
        return key in self.whole

    def get_range(self, key, *span, **kw):
        self.ranges.append(span)
        return super().get_range(key, *span, **kw)

    def local_path(self, key, sha256=None):
        if len(self.ranges) >= 8:
            self.whole.append(key)
        return super().local_path(key, sha256)


def test_few_files_are_fetched_alone_and_many_with_their_pack(tmp_path):
    store = FarStore(tmp_path)
    files = {f'{k}': bytes([k]) * 100 for k in range(50)}
    addresses = packed(store, files)
    read = PackReader(store)
    assert [read(addresses[name]) for name in files] == list(files.values())
    assert len(store.ranges) == 8 and len(set(store.whole)) == 1


def test_a_pack_that_was_cut_short_loses_only_what_is_gone(tmp_path):
    store = FolderStore(tmp_path)
    addresses = packed(store, dict(first=b'1' * 600, last=b'2' * 600))
    path = store.local_path(packed_part(addresses['last'])[0])
    path.write_bytes(path.read_bytes()[:2000])
    read = PackReader(store)
    assert read(addresses['first']) == b'1' * 600
    with pytest.raises(BadImage, match='truncated'):
        read(addresses['last'])


def test_readers_travel_to_other_processes(tmp_path):
    store = FolderStore(tmp_path)
    [address] = packed(store, dict(a=b'pixels')).values()
    opener = ImageOpener(store)
    assert opener.stored(address)[0] == b'pixels'
    assert pickle.loads(pickle.dumps(opener)).stored(address)[0] == b'pixels'
    assert opener.stored(address.replace('cas/', 'cas/0')) is None


def test_a_file_in_a_pack_is_a_file_where_one_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_HOME', str(tmp_path / 'home'))
    store = FolderStore(tmp_path / 'store')
    [address] = packed(store, dict(a=b'pixels')).values()
    assert resolve_uri(address, store).read_bytes() == stored_bytes(store, address) == b'pixels'


def test_triplets_from_a_bucket_are_those_from_a_folder(s3, shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', s3.key)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', s3.secret)
    monkeypatch.setenv('AWS_ENDPOINT_URL_S3', s3.endpoint)
    hashes, roles = set(), ('template', 'science', 'difference')
    for place in (str(tmp_path / 'store'), 's3://test/packs'):
        home = tmp_path / place[:2].strip('/')
        archive = open_archive(f'sqlite:///{tmp_path}/{len(hashes)}.db', storage=place, home=home)
        archive.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)
        assert len(list(archive.store.list())) == 1
        params = TrainingDataCollectionParams(
            survey_ids=['ztf'], confidence_threshold=0, channels=roles, quality_score_threshold=None
        )
        plan = TrainingDataCollector(archive).plan(params, progress=False)
        built = plan.build('triplets', patch_size=63, progress=False, probe=False)
        assert len(built) == 289
        hashes.add(built.content_hash)
    assert len(hashes) == 1


@pytest.mark.parametrize('name', ['../../etc/x', '/etc/passwd', '..', 'a/../../b', 'c:\\x', ''])
def test_nobody_who_unpacks_a_pack_is_led_out(name, tmp_path):
    store = FolderStore(tmp_path / 'store')
    (address,) = packed(store, {name: b'some bytes'}).values()
    with tarfile.open(store.local_path(packed_part(address)[0])) as tar:
        (member,) = tar.getnames()
    assert not member.startswith('/') and '..' not in member.split('/') and '\\' not in member


def test_a_rotten_stamp_is_left_to_who_opens_it(tmp_path, monkeypatch):
    store = FolderStore(tmp_path / 'store')
    (address,) = packed(store, {'a': b'some bytes'}).values()
    opener = ImageOpener(store)
    assert opener.stored(address)[0] == b'some bytes'

    def rotten(self, address):
        raise Damaged('other bytes than were kept')

    monkeypatch.setattr(PackReader, '__call__', rotten)
    assert ImageOpener(store).stored(address) is None


def test_an_empty_pack_is_damaged(tmp_path):
    store = FolderStore(tmp_path / 'store')
    (address,) = packed(store, {'a': b'some bytes'}).values()
    path = store.local_path(packed_part(address)[0])
    path.chmod(0o644)
    path.write_bytes(b'')
    with pytest.raises(Damaged, match='is empty'):
        PackReader(store)(address)
