"A real small disk that fills up: the build says so in words, leaves nothing half, and goes on after."

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


@pytest.mark.parametrize('left', [0, 100_000, 800_000])
def test_a_build_is_lost_in_words_and_whole_after(with_mount, tmp_path, left):
    mount = f'mount -t tmpfs -o size=40m none {tmp_path}'
    ended = with_mount(mount, sys.executable, '-W', 'ignore', '-c', BUILD, tmp_path, left)
    assert ended.returncode == 0, ended.stderr[-2000:]
