"A real small disk that fills up: the build says so in words, leaves nothing half, and goes on after."

import sys
from pathlib import Path

import pytest

BUILD = """
import shutil, sys
from pathlib import Path
import astrid_data as ad
from astrid_data.core import DiskFull
from astrid_data.datasets import build
from astrid_data.simulate.synthetic import synthetic_archive

disk, left = Path(sys.argv[1]), int(sys.argv[2])
build._check_space = lambda *asked: None  # The disk fills while the build writes, not before
archive = synthetic_archive(disk / 'home', 12)
plan = ad.TrainingDataCollector(archive).plan(progress=False)
whole = plan.build('whole', patch_size=32, progress=False)
ballast = disk / 'ballast'
ballast.write_bytes(bytes(shutil.disk_usage(disk).free - left))
try:
    plan.build('again', patch_size=32, progress=False)
except DiskFull as problem:
    assert 'no room' in str(problem), problem
else:
    raise SystemExit('the disk was never full')
assert list(ad.list_datasets(archive)['name']) == ['whole']
ballast.unlink()
again = plan.build('again', patch_size=32, progress=False)
assert again.content_hash == whole.content_hash and again.verify()
"""


@pytest.mark.parametrize('left', [0, 100_000, 800_000])
def test_a_build_is_lost_in_words_and_whole_after(with_mount, tmp_path, left):
    mount = f'mount -t tmpfs -o size=40m none {tmp_path}'
    ended = with_mount(mount, sys.executable, '-W', 'ignore', '-c', BUILD, tmp_path, left)
    assert ended.returncode == 0, ended.stderr[-2000:]


VERBS = """
import gc, shutil, sys
from pathlib import Path
import killing
from astrid_data.core import Conflict, DiskFull

disk, verb = Path(sys.argv[1]), killing.VERBS[sys.argv[2]]
killing.write_images(disk / 'images')

def fresh():
    shutil.rmtree(disk / 'home', ignore_errors=True)
    (disk / 'home').mkdir()
    place = killing.Place(disk / 'home', f'sqlite:///{disk}/home/registry.db', None, disk / 'images')
    verb.prepare(place)
    gc.collect()
    return place

place = fresh()
verb.act(place)
wanted = killing.state_of(place)
said = 0
for left in map(int, sys.argv[3:]):
    place = fresh()
    (disk / 'ballast').write_bytes(bytes(shutil.disk_usage(disk).free - left))
    try:
        verb.act(place)
    except (DiskFull, Conflict) as problem:  # A build asks for room before it begins
        said += 1
        assert 'make room' in str(problem), problem
    (disk / 'ballast').unlink()
    verb.act(place)
    assert killing.state_of(place) == wanted, f'another end after {left} bytes'
assert said, 'the disk was never full'
"""


@pytest.mark.parametrize(
    'verb', ['add_fits', 'add_alerts', 'add_catalogue', 'judge_again', 'plan.build', 'publish']
)
def test_a_call_on_a_full_disk_is_lost_in_words_and_done_after(verb, with_mount, tmp_path):
    mount = f'mount -t tmpfs -o size=60m none {tmp_path}'
    paths = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})'
    command = [sys.executable, '-W', 'ignore', '-c', f'{paths}\n{VERBS}']
    ended = with_mount(mount, *command, tmp_path, verb, 0, 40_000)
    assert ended.returncode == 0, ended.stderr[-2000:]


EXPORTS = """
import hashlib, shutil, sys
from pathlib import Path
import astrid_data as ad
from astrid_data.core import DiskFull
from astrid_data.simulate.synthetic import synthetic_archive
from astrid_data.storage.cache import DiskCache

disk, other = Path(sys.argv[1]), Path(sys.argv[2])
archive = synthetic_archive(other / 'home', 12)
version = ad.TrainingDataCollector(archive).plan(progress=False).build(
    'sky', patch_size=32, progress=False
)
ballast = disk / 'ballast'

def digests(folder):
    files = [p for p in sorted(folder.rglob('*')) if p.is_file()]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.suffix != '.npz'}

def fill(left):
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - left))

def refused(write, left):
    fill(left)
    try:
        write()
    except DiskFull as problem:
        assert 'make room' in str(problem), problem
    else:
        raise SystemExit(f'{left} bytes were enough')
    left_over = [p for p in disk.rglob('*') if p.is_file() and not p.name.startswith('.lock')]
    assert left_over == [ballast], left_over
    ballast.unlink()

for kind in ('parquet', 'webdataset', 'npz'):
    version.export(other / kind, kind)
    for left in (0, 20_000, 60_000):
        refused(lambda: version.export(disk / kind, kind), left)
    version.export(disk / kind, kind)
    assert digests(disk / kind) == digests(other / kind) and list((disk / kind).iterdir())
    shutil.rmtree(disk / kind)

cache = DiskCache(disk / 'cache')
fetch = lambda: cache.fetch('s3://bucket/a.fits', lambda file: file.write(b'1' * 300_000))
for left in (0, 100_000):
    refused(fetch, left)
    (disk / 'cache').exists() and shutil.rmtree(disk / 'cache')
assert fetch().read_bytes() == b'1' * 300_000
"""


def test_exports_and_the_cache_on_a_full_disk(with_mount, tmp_path):
    (tmp_path / 'disk').mkdir()
    mount = f'mount -t tmpfs -o size=30m none {tmp_path}/disk'
    command = [sys.executable, '-W', 'ignore', '-c', EXPORTS, tmp_path / 'disk', tmp_path]
    ended = with_mount(mount, *command)
    assert ended.returncode == 0, ended.stderr[-2000:]


NO_MORE_FILES = """
import sys
from pathlib import Path
import astrid_data as ad
from astrid_data.core import DiskFull, write_atomic
from astrid_data.simulate.synthetic import synthetic_archive

disk = Path(sys.argv[1])
archive = synthetic_archive(disk / 'home', 6)
plan = ad.TrainingDataCollector(archive).plan(progress=False)
whole = plan.build('whole', patch_size=32, progress=False)
many = disk / 'many'
many.mkdir()
try:
    for n in range(10**6):
        (many / str(n)).touch()
except OSError:
    pass
for write in (
    lambda: write_atomic(disk / 'a', b'x'),
    lambda: archive.store.put('a', b'x'),
    lambda: plan.build('again', patch_size=32, progress=False),
    lambda: whole.export(disk / 'export', 'npz'),
):
    try:
        write()
    except DiskFull as problem:
        assert 'as many files as it can' in str(problem), problem
    else:
        raise SystemExit('there was a file to spare')
for path in many.iterdir():
    path.unlink()
again = plan.build('again', patch_size=32, progress=False)
assert again.content_hash == whole.content_hash and again.verify()
"""


def test_a_disk_that_holds_no_more_files(with_mount, tmp_path):
    mount = f'mount -t tmpfs -o size=60m,nr_inodes=400 none {tmp_path}'
    ended = with_mount(mount, sys.executable, '-W', 'ignore', '-c', NO_MORE_FILES, tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_a_quota_that_is_used_up_is_said(tmp_path, monkeypatch):
    "No kernel here keeps quotas of users, so the error of one is put where the kernel gives it"
    import errno
    import os

    from astrid_data.core import DiskFull, write_atomic
    from astrid_data.storage.folder import FolderStore

    def used_up(descriptor):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    store = FolderStore(tmp_path / 'store')
    store.put('a', b'before')
    write_atomic(tmp_path / 'b', b'before')
    monkeypatch.setattr(os, 'fsync', used_up)
    for write in (
        lambda: store.put('a', b'after'),
        lambda: write_atomic(tmp_path / 'b', b'after'),
    ):
        with pytest.raises(DiskFull, match='your quota is used up') as caught:
            write()
        assert 'make room' in str(caught.value)
    assert store.get('a') == (tmp_path / 'b').read_bytes() == b'before'
    assert [*store.list()] == ['a']
