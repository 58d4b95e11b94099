"The disk cache is deleted under whoever reads from it: what is read is fetched again, or its loss is said; no pixel is another"

import json
import multiprocessing
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from test_far_images import SIDE, bucket, build  # noqa: F401 (a fixture)
from test_loader import bucket as version_in_bucket  # noqa: F401 (a fixture)

from astrid_data.core import BadImage, Conflict, NotFound, Secret, Settings
from astrid_data.images.opener import ImageOpener
from astrid_data.loading.loader import PatchLoader
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.folder import FolderStore
from astrid_data.storage.keys import CacheGone
from astrid_data.storage.losses import loss_of


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
                return path.with_name('deleted')  # Another thread could bring back the file itself
            return path

        monkeypatch.setattr(S3Store, 'local_path', local_path)
        monkeypatch.setattr(S3Store, 'is_cached', lambda *a: True)  # Else rows come in its place
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
        with pytest.raises(Conflict, match='was replaced in its bucket since it was opened'):
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


def test_looks_at_the_test_outlive_the_cache(version_in_bucket, tmp_path):  # noqa: F811
    "Also those that an earlier release wrote into the cache, and those of workers"
    _, opened = version_in_bucket
    far = opened()
    line = '{"created_at":"2026-01-01T00:00:00+00:00","purpose":"long ago","who":"ann"}\n'
    (far.place / 'openings.jsonl').write_text(line)
    opened().open_test('now')
    next(iter(PatchLoader(PatchDataset(far, 'test', mode='stream'), 16, workers=1, start='spawn')))
    shutil.rmtree(tmp_path / 'cache')
    wanted = ['long ago', 'now', 'batches of the test split']
    assert far.test_openings['purpose'].tolist() == wanted
    assert opened().test_openings['purpose'].tolist() == wanted


def test_a_plane_that_is_deleted_from_the_cache_comes_again(s3, tmp_path, monkeypatch):
    for name in ('a', 'a_weight'):
        fits.PrimaryHDU(np.ones((9, 9), 'f4')).writeto(tmp_path / f'{name}.fits')
    settings = Settings(
        s3_endpoint=s3.endpoint, s3_key_id=Secret(s3.key), s3_secret=Secret(s3.secret)
    )
    store = S3Store('test', 'open/planes', settings, DiskCache(tmp_path / 'cache'))
    for name in ('a', 'a_weight'):
        store.put(f'{name}.fits', tmp_path / f'{name}.fits')
    opener, asked, plain = ImageOpener(store), [], S3Store.local_path
    opener.images.known['a.fits', None, None] = dict(beside=dict(weight='a_weight.fits'))

    def local_path(store, key, sha256=None):
        path = plain(store, key, sha256)
        asked.append(key)
        if key == 'a_weight.fits' and asked.count(key) == 2:  # Just before it is opened
            path.unlink()
        return path

    monkeypatch.setattr(S3Store, 'local_path', local_path)
    with opener('a.fits') as image:
        assert image.shape == (9, 9) and set(image.planes) == {'image', 'weight'}
    assert asked.count('a_weight.fits') == 4


@pytest.fixture
def deleted_by_workers(monkeypatch, tmp_path):
    "Lets whoever fetches a shard, in any process, delete the cache before it is opened; so many times"
    left = multiprocessing.get_context('fork').Value('i', 0)
    plain = S3Store.local_path

    def local_path(store, key, sha256=None):
        path = plain(store, key, sha256)
        with left.get_lock():
            if left.value:
                left.value -= 1
                bin = tmp_path / f'bin-{left.value}'
                (tmp_path / 'cache').rename(bin)  # At once, also on a machine that is busy
                shutil.rmtree(bin, ignore_errors=True)
        return path

    monkeypatch.setattr(S3Store, 'local_path', local_path)
    return left


def test_a_cache_that_is_deleted_under_workers(version_in_bucket, deleted_by_workers):  # noqa: F811
    "Five times, which is as often as a file is fetched again: all is served, and right"
    d, opened = version_in_bucket
    far = PatchDataset(opened(), 'train', valid=False, mode='stream')
    deleted_by_workers.value = 5
    here = PatchDataset(d, 'train', valid=False)
    assert served(far, here) == d.split_rows('train').tolist()
    assert deleted_by_workers.value == 0


def test_a_cache_that_lasts_for_no_shard_of_a_worker_is_said(version_in_bucket, deleted_by_workers):  # noqa: F811
    d, opened = version_in_bucket
    far = PatchDataset(opened(), 'train', valid=False, mode='stream')
    deleted_by_workers.value = 10_000
    with pytest.raises(CacheGone, match='as often as it was fetched, 6 times'):
        served(far, PatchDataset(d, 'train', valid=False))


def test_a_file_that_is_missing_elsewhere_is_none_of_the_cache(tmp_path):
    "It is said at once, as what it is: a plane beside an image, the image, what a file is filled from"
    for name in ('a', 'a_weight'):
        fits.PrimaryHDU(np.ones((9, 9), 'f4')).writeto(tmp_path / f'{name}.fits')
    opener, where = ImageOpener(FolderStore(tmp_path / 'store')), (f'{tmp_path}/a.fits', None, None)
    opener.images.known[where] = dict(beside=dict(weight=f'{tmp_path}/a_weight.fits'))
    plain, begun = opener.images, time.monotonic()

    def deleting(*names):
        def images(*args, **kw):
            for name in names:
                (tmp_path / name).unlink()
            return plain(*args, **kw)

        images.known = plain.known
        return images

    opener.images = deleting('a_weight.fits')  # When it was found already
    with pytest.raises(
        BadImage, match='a_weight.fits, the weight of .*a.fits, was deleted'
    ) as found:
        opener(where[0])
    assert loss_of(found.value)[0] == 'missing_plane'
    with pytest.raises(BadImage, match='the weight plane of .*a.fits: .*no file') as found:
        opener(where[0])
    assert loss_of(found.value)[0] == 'missing_plane'
    plain.known.clear()
    opener.images = deleting('a.fits')
    with pytest.raises(BadImage, match='a.fits, the image of .*, was deleted') as found:
        opener(where[0])
    assert loss_of(found.value)[0] == 'missing_file'
    with pytest.raises(FileNotFoundError, match='nowhere'):
        DiskCache(tmp_path / 'cache').fetch('x', lambda f: (tmp_path / 'nowhere').read_bytes())
    assert time.monotonic() - begun < 1  # The pauses between tries are longer
