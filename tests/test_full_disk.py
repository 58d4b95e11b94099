"A real small disk that fills up: the build says so in words, leaves nothing half, and goes on after."

import os
import shutil
import subprocess
import sys

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


@pytest.fixture(scope='module')
def on_small_disk(tmp_path_factory):
    "Run Python with a disk of 40 MB as its first argument"
    disk = tmp_path_factory.mktemp('disk')
    mount = f'mount -t tmpfs -o size=40m none {disk}'
    may_mount = shutil.which('unshare') and not subprocess.call(
        ['unshare', '-m', 'sh', '-c', mount], stderr=subprocess.DEVNULL
    )
    if not may_mount:
        pytest.skip('no disk of its own can be mounted here: that takes unshare and its rights')

    def run(code, *arguments):
        inside = f'{mount} && exec "$@"'
        command = [sys.executable, '-W', 'ignore', '-c', code, str(disk), *map(str, arguments)]
        return subprocess.run(
            ['unshare', '-m', 'sh', '-c', inside, 'sh', *command],
            capture_output=True,
            text=True,
            env=os.environ | dict(ASTRID_DATA_QUIET='1'),
        )

    return run


@pytest.mark.parametrize('left', [0, 100_000, 800_000])
def test_a_build_is_lost_in_words_and_whole_after(on_small_disk, left):
    ended = on_small_disk(BUILD, left)
    assert ended.returncode == 0, ended.stderr[-2000:]
