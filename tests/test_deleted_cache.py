"The disk cache is deleted under whoever reads from it: what is read is fetched again, or its loss is said; no pixel is another"

import json
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from test_far_images import SIDE, bucket, build  # noqa: F401 (a fixture)
from test_loader import bucket as version_in_bucket  # noqa: F401 (a fixture)

from astrid_data.core import Conflict, NotFound
from astrid_data.loading.loader import PatchLoader
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.keys import CacheGone


@pytest.fixture
def deleted(monkeypatch):
    "Deletes a cache right after each file that was asked for, or each second one, before it is opened"
    count = []

    def delete(root, every):
        plain = S3Store.local_path

        def local_path(store, key, sha256=None):
            path = plain(store, key, sha256)
            count.append(key)
            if len(count) % every == 0:
                shutil.rmtree(root, ignore_errors=True)
            return path

        monkeypatch.setattr(S3Store, 'local_path', local_path)
        return count

    return delete


def filled(bucket):  # noqa: F811
    "Three images in a bucket, and sources on them"
    there = bucket('plain', n=3)
    rng = np.random.default_rng(5)
    places = dict(ra=20.0 + np.arange(30) % 3 + rng.uniform(-0.03, 0.03, 30))
    places |= dict(dec=3 + rng.uniform(-0.06, 0.06, 30), label='star', good=np.arange(30) < 15)
    truth = pd.DataFrame(places)
    there.archive.add_catalogue(truth, 'truth', class_name='label', is_real='good')
    return there


def test_a_cache_that_is_deleted_under_a_build(bucket, deleted):  # noqa: F811
    there = filled(bucket)
    whole = build(there, 'first', 'whole')
    asked = deleted(there.tmp_path / 'first' / 'cache', 2)
    again = build(there, 'first', 'again')
    assert len(asked) >= 3
    assert again.content_hash == whole.content_hash and len(again) == len(whole) > 20


def test_a_cache_that_lasts_for_no_file_costs_a_build_in_words(bucket, deleted, monkeypatch):  # noqa: F811
    "When nobody deletes any more, the same call builds what it should"
    there, plain = filled(bucket), S3Store.local_path
    deleted(there.tmp_path / 'first' / 'cache', 1)
    with pytest.raises(NotFound, match='30 unreadable.* as often as it was fetched, 6 times: end'):
        build(there, 'first', 'again')
    monkeypatch.setattr(S3Store, 'local_path', plain)
    again = build(there, 'first', 'again')
    assert len(again) > 20 and again.content_hash == build(there, 'other', 'far').content_hash


@pytest.mark.parametrize('mode', ['stream', 'mapped'])
def test_a_cache_that_is_deleted_under_a_loader(version_in_bucket, deleted, tmp_path, mode):  # noqa: F811
    "Each second shard is gone before it is opened, and all are between two batches"
    d, opened = version_in_bucket
    here = PatchDataset(d, 'train', valid=False)
    asked = deleted(tmp_path / 'cache', 2)
    far = PatchDataset(opened(), 'train', valid=False, mode=mode)
    seen = []
    for batch in PatchLoader(far, 16, shuffle=True):
        rows = batch['index'].numpy()
        assert torch.equal(batch['image'], here.read(rows)['image'])
        seen += rows.tolist()
        shutil.rmtree(tmp_path / 'cache', ignore_errors=True)
    assert sorted(seen) == d.split_rows('train').tolist() and asked


def test_a_cache_that_lasts_for_no_shard_ends_a_loader_in_words(
    version_in_bucket,  # noqa: F811
    deleted,
    tmp_path,
):
    _, opened = version_in_bucket
    asked = deleted(tmp_path / 'cache', 1)
    far = PatchDataset(opened(), 'train', valid=False, mode='stream')
    with pytest.raises(CacheGone, match='npy was deleted from the cache in .* 6 times: end what'):
        next(iter(PatchLoader(far, 16)))
    assert len(asked) >= 6


@pytest.mark.parametrize('lost', ['all', 'seal.json', 'samples.parquet', 'quality.json'])
def test_small_files_that_are_deleted_are_fetched_again(version_in_bucket, tmp_path, lost):  # noqa: F811
    d, opened = version_in_bucket
    far = opened()
    names = sorted(path.name for path in far.folder.iterdir())
    if lost == 'all':
        shutil.rmtree(tmp_path / 'cache')
    else:
        (far.place / lost).unlink(missing_ok=lost not in names)
    pd.testing.assert_frame_equal(far.samples, d.samples)
    assert sorted(path.name for path in far.folder.iterdir()) == names
    if lost in names:
        (far.place / lost).unlink()
    assert opened().verify().content_hash == d.content_hash


def test_small_files_of_another_version_do_not_take_their_place(version_in_bucket, tmp_path):  # noqa: F811
    _, opened = version_in_bucket
    far = opened()
    key = f'{far.prefix}/manifest.json'
    text = far.store.get(key)
    other = json.loads(text) | dict(n_samples=len(far) + 1)
    try:
        far.store.put(key, json.dumps(other).encode())
        shutil.rmtree(tmp_path / 'cache')
        with pytest.raises(
            Conflict, match='was replaced in its bucket|manifest.json is not what was frozen'
        ):
            _ = far.samples
    finally:
        far.store.put(key, text)


def served(far, here, **how):
    "The rows of all batches of a loader with workers, whose pixels are right"
    seen = []
    for batch in PatchLoader(far, 16, shuffle=True, workers=2, start='fork', **how):
        rows = batch['index'].numpy()
        assert torch.equal(batch['image'], here.read(rows)['image'])
        seen += rows.tolist()
    return sorted(seen)


def test_a_cache_that_is_deleted_before_workers_begin(version_in_bucket, tmp_path):  # noqa: F811
    d, opened = version_in_bucket
    far = PatchDataset(opened(), 'train', valid=False, mode='stream')
    shutil.rmtree(tmp_path / 'cache')
    here = PatchDataset(d, 'train', valid=False)
    assert served(far, here) == d.split_rows('train').tolist()


def test_a_cache_that_somebody_deletes_all_the_time_under_workers(version_in_bucket, tmp_path):  # noqa: F811
    "All is served and right; or, on a machine that is too slow for that, the reason is said"
    d, opened = version_in_bucket
    here, ended = PatchDataset(d, 'train', valid=False), threading.Event()

    def delete():
        while not ended.wait(0.05):
            shutil.rmtree(tmp_path / 'cache', ignore_errors=True)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        far = PatchDataset(opened(), 'train', valid=False, mode='stream')
        assert served(far, here) == d.split_rows('train').tolist()
    except CacheGone as error:
        assert 'as often as it was fetched' in str(error)
    finally:
        ended.set()
        thread.join()
