"What is damaged, full of links, named too long, or gone while it is in use"

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from every_byte import change_bytes, signed_version
from test_archives import fits_of

import astrid_data as ad
from astrid_data.concurrency import file_lock
from astrid_data.core import BadInput, write_atomic
from astrid_data.datasets.curve_table import _rows_within
from astrid_data.ingest.tables import read_table
from astrid_data.storage.cache import DiskCache

FORK = multiprocessing.get_context('fork')


@pytest.fixture(scope='module')
def signed(tmp_path_factory):
    return signed_version(tmp_path_factory.mktemp('signed'))


def test_a_byte_of_any_file_of_a_whole_version_is_found(signed, tmp_path):
    "Light curves, quality and signature too; `python tests/every_byte.py` changes each byte"
    copy = Path(shutil.copytree(signed, tmp_path / 'copy'))
    found = change_bytes(copy, most=8)
    assert not found.faults and found.counts.total() == 8 * len(list(copy.iterdir()))


FOOTERS = """
import sys
from pathlib import Path
from astrid_data.datasets.curve_table import _rows_within
path = Path(sys.argv[1])
whole = path.read_bytes()
begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], 'little')
refused = 0
for k in range(begin, len(whole), 5):
    path.write_bytes(whole[:k] + bytes([whole[k] ^ 64]) + whole[k + 1 :])
    try:
        _rows_within(path, 0, 1)
    except Exception:
        refused += 1
print(refused)
"""


def test_a_damaged_footer_of_light_curves_ends_no_process_and_holds_none(signed, tmp_path):
    "pyarrow's filter waited for ever, and its statistics ended the process"
    path = shutil.copy(signed / 'light_curves.parquet', tmp_path)
    command = [sys.executable, '-W', 'ignore', '-c', FOOTERS, path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0 and int(ended.stdout) > 100, ended.stderr[-1000:]


def test_what_is_no_text_in_light_curves_is_said(signed, tmp_path):
    path = Path(shutil.copy(signed / 'light_curves.parquet', tmp_path))
    whole = path.read_bytes()
    place = whole.index(b'forced')  # In the dictionary of the kinds
    path.write_bytes(whole[:place] + b'\xff' + whole[place + 1 :])
    with pytest.raises(pa.ArrowInvalid, match='UTF8'):
        _rows_within(path, 0, 12)


@pytest.mark.parametrize('start', [b'<', b'<?xm', b'PAR', b'SIMPLE', b'# %EC'])
def test_a_table_cut_within_its_first_word_is_no_empty_table(start, tmp_path):
    (tmp_path / 'x.vot').write_bytes(start)
    with pytest.raises(BadInput, match='something that begins with'):
        read_table(tmp_path / 'x.vot')


@pytest.mark.parametrize('length', [1, 200, 250, 255])
def test_a_file_may_have_the_longest_name_that_there_is(length, tmp_path):
    path = tmp_path / ('n' * length)
    for content in (b'first', b'second'):
        assert write_atomic(path, content).read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    with pytest.raises(BadInput, match='name too long'):
        write_atomic(tmp_path / ('n' * 256), b'lost')


def test_a_child_may_leave_its_parents_lock(tmp_path):
    held = file_lock(tmp_path / 'lock')
    held.__enter__()
    child = FORK.Process(target=held.__exit__, args=(None, None, None))
    child.start()
    child.join()
    assert child.exitcode == 0
    with pytest.raises(BlockingIOError), file_lock(tmp_path / 'lock', wait=False):
        pass
    held.__exit__(None, None, None)


def test_links_in_a_circle_stop_no_ingest(tmp_path):
    images = tmp_path / 'images'
    (images / 'deep').mkdir(parents=True)
    (images / 'one.fits').write_bytes(fits_of(1))
    os.symlink('..', images / 'deep' / 'up')
    os.symlink('loop', images / 'loop')
    os.symlink('nowhere', images / 'gone.fits')
    os.symlink('self.fits', images / 'self.fits')
    archive = ad.open_archive(home=tmp_path / 'home')
    report = archive.add_fits(images, survey='x', show=False, detect=False)
    assert report.added == 1
    assert {Path(uri).name for uri in report.ledger['uri']} <= {'gone.fits', 'self.fits', 'loop'}


def test_files_of_a_clock_that_was_set_back_are_taken_in(tmp_path):
    path, future = tmp_path / 'one.fits', time.time() + 10 * 365 * 86400
    path.write_bytes(fits_of(1))
    os.utime(path, (future, future))
    archive = ad.open_archive(home=tmp_path / 'home')
    assert archive.add_fits(path, survey='x', show=False, detect=False).added == 1
    again = archive.add_fits(path, survey='x', show=False, detect=False)
    assert (again.added, again.skipped, len(again.ledger)) == (0, 1, 0)


def test_what_a_cache_got_while_the_clock_was_ahead_goes_first(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=250)
    ahead, *others = (cache.fetch(name, lambda f: f.write(b'1' * 100)) for name in 'ab')
    future = time.time() + 10 * 365 * 86400
    os.utime(ahead, (future, future))
    cache.fetch('c', lambda f: f.write(b'1' * 100))
    assert not ahead.exists() and all(one.exists() for one in others)


def test_a_cache_that_is_deleted_while_it_is_used_is_made_again(tmp_path):
    root, calls = tmp_path / 'cache', []
    cache = DiskCache(root, max_bytes=10_000)

    def fill(file):
        calls.append(file)
        if len(calls) == 1:  # At the worst moment
            shutil.rmtree(root)
        file.write(b'1' * 100)

    for _ in range(2):
        assert cache.fetch('a', fill).read_bytes() == b'1' * 100
        shutil.rmtree(root)
    assert len(calls) == 3

    def missing(file):
        raise FileNotFoundError('what it is filled from')

    with pytest.raises(FileNotFoundError, match='filled from'):  # Not asked twice
        cache.fetch('b', missing)
