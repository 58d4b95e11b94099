"A version does not change unseen: every byte of every file, the registry's memory, and signatures"

import json
import os
import random

import every_byte
import numpy as np
import pandas as pd
import pytest

from astrid_data.core import Conflict, NotFound
from astrid_data.datasets.catalog import open_dataset
from astrid_data.datasets.dataset import Dataset, write_dataset
from astrid_data.datasets.seal import (
    SEAL,
    _state_of,
    checked_files,
    read_manifest,
    read_seal,
    root_of,
    write_seal,
)
from astrid_data.loading.loader import RealDataLoader
from astrid_data.registry.tables import VersionRow
from astrid_data.simulate.synthetic import synthetic_archive


def small(folder, n=6):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            origin='synthetic',
            split=['train', 'train', 'val', 'val', 'test', 'test'][:n],
        )
    )
    return write_dataset(folder, table, rng.standard_normal((n, 1, 4, 4), 'f4'), name='small')


def read_all(folder):
    "Open a version and read everything that a loader reads"
    checked_files.clear()
    ds = Dataset(folder)
    np.array(ds.patches()[:]), np.array(ds.valid()[:])
    assert len(ds.samples) == len(ds) and len(ds.ledger) == 0
    return ds.verify()


def test_every_file_is_covered(tmp_path):
    folder = small(tmp_path / 'v1').folder
    files = set(json.loads((folder / SEAL).read_text())['files'])
    shards = {s['file'] for s in Dataset(folder).manifest['shards']}
    assert files | shards | {SEAL} == {path.name for path in folder.iterdir()}


def test_a_changed_byte_is_found_in_words(tmp_path):
    "Some hundred bytes, spread over every file of a version; `every_byte.py` changes each one"
    folder = small(tmp_path / 'v1').folder
    read_all(folder)
    random.seed(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        places = random.sample(range(len(whole)), min(40, len(whole)))
        for k in places:
            path.write_bytes(
                whole[:k] + bytes([whole[k] ^ 1 << random.randrange(8)]) + whole[k + 1 :]
            )
            with pytest.raises(Conflict) as error:
                read_all(folder)
            assert path.name in str(error.value) or 'manifest.json' in str(error.value)
        path.write_bytes(whole)
    read_all(folder)


def test_two_bytes_of_each_file_by_the_tool_that_changes_all(tmp_path, monkeypatch):
    "It has files of every kind, a signature as well; `make every_byte` changes each byte"
    folder = every_byte.signed_version(tmp_path)
    found = every_byte.change_bytes(folder, most=2)
    assert found.counts.total() == 2 * len(list(folder.iterdir())) and not found.faults, found
    monkeypatch.setattr(every_byte, 'STAGES', {})  # Nobody looks
    assert len(every_byte.change_bytes(folder, most=1).faults) == len(list(folder.iterdir()))


@pytest.mark.parametrize('name', ['manifest.json', SEAL, 'samples.parquet', 'datasheet.md'])
def test_a_file_that_is_cut_or_lost_is_found(tmp_path, name):
    folder = small(tmp_path / 'v1').folder
    path = folder / name
    whole = path.read_bytes()
    for changed in (b'', whole[: len(whole) // 2], whole + b'\n', b'[]', b'null', b'\xff\xfe'):
        path.write_bytes(changed)
        with pytest.raises(Conflict):
            read_all(folder)
    path.unlink()
    with pytest.raises((Conflict, NotFound)):
        read_all(folder)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=1))


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    archive = synthetic_archive(tmp_path_factory.mktemp('sealed') / 'a')
    from astrid_data.collect.collector import TrainingDataCollector

    plan = TrainingDataCollector(archive).plan(progress=False)
    plan.build('sky', progress=False, probe=False)
    return archive


@pytest.fixture
def folder(archive):
    folder = archive.datasets_dir / 'sky' / 'v1'
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    yield folder
    for path, content in whole.items():
        path.write_bytes(content)
    checked_files.clear()


@pytest.mark.parametrize(
    'changes',
    [
        dict(content_hash='0' * 64),
        dict(splits=dict(train=1, val=1, test=1, buffer=0)),
        dict(audit=dict(verdict='pass')),
        dict(quality_score=1.0),
    ],
)
def test_a_manifest_is_not_believed_blindly(archive, folder, changes):
    change(folder / 'manifest.json', **changes)
    with pytest.raises(Conflict, match='manifest.json is not what was frozen'):
        open_dataset(archive, 'sky')


def test_a_manifest_without_end_is_no_manifest(folder):
    (folder / 'manifest.json').write_text('[' * 200_000)
    with pytest.raises(Conflict, match='is not the manifest of a version'):
        read_manifest(folder / 'manifest.json')


def test_a_folder_that_was_sealed_anew_is_not_the_registered_one(archive, folder):
    path = folder / 'manifest.json'
    change(path, quality_score=1.0)
    write_seal(folder, path.read_text())
    assert Dataset(folder).manifest['quality_score'] == 1.0  # Whole in itself
    with pytest.raises(Conflict, match='seal.json is not what was frozen'):
        open_dataset(archive, 'sky')


def test_a_version_from_before_seals_is_compared_with_the_registry(archive, folder):
    manifest = json.loads((folder / 'manifest.json').read_text())
    manifest.pop('sealed')
    (folder / SEAL).unlink()
    (folder / 'manifest.json').write_text(json.dumps(manifest, indent=1))
    with archive.session() as session:
        row = session.query(VersionRow).one()
        sealed = row.manifest
        row.manifest = manifest
    try:
        assert open_dataset(archive, 'sky').verify()
        change(folder / 'manifest.json', quality_score=1.0)
        with pytest.raises(Conflict, match='not what the registry remembers'):
            open_dataset(archive, 'sky')
    finally:
        with archive.session() as session:
            session.query(VersionRow).one().manifest = sealed


def test_flipped_labels_reach_no_loader(archive, folder):
    ds = open_dataset(archive, 'sky')  # Opened before the labels are flipped
    path = folder / 'samples.parquet'
    table = pd.read_parquet(path)
    table.assign(label=1 - table['label']).to_parquet(path, index=False)
    with pytest.raises(Conflict, match='samples.parquet is not what was frozen'):
        RealDataLoader(ds).loaders(batch_size=4)
    assert len(Dataset(folder, verify=False).samples) == len(table)  # Who insists reads on


def test_a_signature_is_of_one_key_and_one_content(tmp_path):
    ds = small(tmp_path / 'v1')
    with pytest.raises(NotFound, match='not signed'):
        ds.verify('a key of the makers alone')
    with pytest.raises(ValueError, match='at least 16'):
        ds.sign('short')
    ds.sign('a key of the makers alone')
    assert ds.verify('a key of the makers alone') is ds
    with pytest.raises(Conflict, match='not signed with this key'):
        ds.verify('a key of somebody else')
    path = ds.folder / 'manifest.json'
    change(path, description='other')
    root = write_seal(ds.folder, path.read_text())
    assert root == root_of(json.loads((ds.folder / SEAL).read_text())['files'])
    with pytest.raises(Conflict, match='not signed with this key, or has changed'):
        Dataset(ds.folder).verify('a key of the makers alone')


def change_unseen(path):
    "Change one byte in place, and set the time of writing back"
    before, whole = path.stat(), path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    while (
        path.stat().st_ctime_ns == before.st_ctime_ns
        or path.stat().st_mtime_ns != before.st_mtime_ns
    ):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # Until the clock ticks
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def read_batches(dataset):
    "What loaders hand out, and the target maps"
    train, *_ = RealDataLoader(dataset).loaders(batch_size=4, allow_leaks=True)
    return list(train), np.array(dataset.targets()[:])  # Training asks for no target maps


SEALED = ['datasheet.md', 'ledger.parquet', 'manifest.json', 'quality.json', 'samples.parquet']
SHARDS = ['patches-00000.npy', 'targets-00000.npy', 'valid-00000.npy']


@pytest.mark.parametrize('name', SEALED + SHARDS)
def test_a_time_that_was_set_back_hides_no_change(archive, folder, name):
    dataset = open_dataset(archive, 'sky').verify()
    read_batches(dataset)
    change_unseen(folder / name)
    if name in SEALED:
        with pytest.raises(Conflict, match='changed'):
            open_dataset(archive, 'sky')
    with pytest.raises(Conflict, match='changed'):
        read_batches(open_dataset(archive, 'sky'))
    with pytest.raises(Conflict, match=name):
        dataset.verify()


def test_light_curves_are_covered_too(tmp_path):
    folder = small(tmp_path / 'v1').folder
    (folder / 'light_curves.parquet').write_bytes(bytes(1000))
    write_seal(folder, (folder / 'manifest.json').read_text())
    Dataset(folder).verify()
    change_unseen(folder / 'light_curves.parquet')
    with pytest.raises(Conflict, match='light_curves.parquet is not what was frozen'):
        Dataset(folder)
    with pytest.raises(Conflict, match='light_curves.parquet is not what was frozen'):
        Dataset(folder, verify=False).verify()


def test_verify_believes_no_memory(tmp_path):
    "Even where the memory of the process calls a changed file good, and opening believes it"
    folder = small(tmp_path / 'v1').folder
    dataset = Dataset(folder)
    path = folder / 'samples.parquet'
    change_unseen(path)
    checked_files.add(_state_of(path, read_seal(folder)[path.name]))
    Dataset(folder)
    with pytest.raises(Conflict, match='samples.parquet'):
        dataset.verify()
    with pytest.raises(Conflict, match='samples.parquet'):
        Dataset(folder)  # What was found out is not forgotten
