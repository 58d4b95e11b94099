"A process of any pool is killed, as the kernel does where memory runs out: its work is done all the same, or our error says so"

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dying
import numpy as np
import pytest
from test_datasets import toy
from test_executors import in_turn, night, searched, taken_in  # noqa: F401 (fixtures)
from test_loader import made

import astrid_data as ad
from astrid_data.concurrency import WorkerDied, WorkerProcesses
from astrid_data.core import BadImage
from astrid_data.images import isolation
from astrid_data.images.image import open_image
from astrid_data.images.isolation import isolating, try_first
from astrid_data.loading.loader import PatchLoader
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.quality.background import example_patches
from astrid_data.quality.duplicates import find_duplicates

pytestmark = pytest.mark.filterwarnings('ignore')


class Deadly:
    "An executor one of whose processes is killed at a call"

    def __init__(self, pool, at=2):
        self.pool, self.at, self.n = pool, at, 0

    def submit(self, function, /, *args, **kwargs):
        self.n += 1
        return self.pool.submit(dying.call, self.n == self.at, function, args, kwargs)


@pytest.fixture(params=['ours', 'of the standard library'])
def deadly(request):
    "A pool of two processes, one of which is killed"
    spawned = dict(max_workers=2, mp_context=get_context('spawn'))
    with WorkerProcesses(2) if request.param == 'ours' else ProcessPoolExecutor(**spawned) as pool:
        yield Deadly(pool)


def test_a_searching_process_that_is_killed_costs_nothing(night, in_turn, deadly, tmp_path):  # noqa: F811
    assert taken_in(tmp_path / 'add', night, executor=deadly) == in_turn
    assert deadly.n >= deadly.at


def test_so_is_one_that_searches_again(night, deadly, tmp_path):  # noqa: F811
    _, *alone = searched(tmp_path / 'alone', night, None)
    _, *there = searched(tmp_path / 'there', night, deadly)
    assert there == alone and there[0].count('\n') > 10 and deadly.n >= deadly.at


def test_a_cutting_process_that_is_killed_is_said_and_the_same_call_goes_on(deadly, tmp_path):
    archive = toy(tmp_path)
    asked = ad.TrainingDataCollectionParams(survey_ids=['toy'], confidence_threshold=0)

    def build(name, executor=None):
        plan = ad.TrainingDataCollector(archive).plan(asked, progress=False)
        how = dict(patch_size=16, progress=False, allow_empty=True, executor=executor)
        return plan.build(name, **how)

    whole = build('whole')
    deadly.at = 1
    with pytest.raises(WorkerDied, match='perhaps as memory ran out: call again with fewer'):
        build('killed', deadly)
    assert ad.list_datasets(archive)['address'].tolist() == ['whole@v1']
    again = build('killed')
    assert again.content_hash == whole.content_hash and len(again) == len(whole) > 10


def test_a_measuring_process_that_is_killed_is_said(deadly):
    data, valid = example_patches(1100, 16)
    with pytest.raises(WorkerDied, match='a worker process died while it was at work'):
        find_duplicates(data, valid, executor=deadly)


def test_an_answer_that_breaks_off_is_a_death(tmp_path):
    "The process is killed while it sends"
    with WorkerProcesses(1) as pool:
        with pytest.raises(WorkerDied):
            pool.submit(dying.send_half).result()
        assert pool.submit(abs, -1).result() == 1


def test_an_isolated_process_that_is_killed_costs_its_file(night):  # noqa: F811
    with pytest.raises(BadImage, match='the process that read it died') as found:
        try_first(dying.die, 'a.fits')
    assert found.value.reason == 'crashed'
    with isolating():
        open_image(night / '0.fits').close()
        assert isolation._free
        for worker in isolation._free:  # While it waits
            worker.process.kill()
        open_image(night / '0.fits').close()


@pytest.mark.parametrize('at', [0, 3])
def test_a_loader_whose_worker_is_killed_says_so_and_goes_on_where_it_was(
    tmp_path, monkeypatch, at
):
    version = made(tmp_path / 'v1', n=200)
    data, plain = PatchDataset(version, 'train', valid=False), PatchDataset.read
    marker, us = tmp_path / 'died', os.getpid()
    loader = PatchLoader(data, 16, shuffle=True, workers=2, start='fork')
    wanted = [rows.tolist() for rows in (batch['index'] for batch in loader)]
    loader.set_epoch(0)

    def read(self, rows, *args, **kw):
        if os.getpid() != us and sorted(rows) == sorted(wanted[at]) and not marker.exists():
            marker.touch()
            dying.die()
        return plain(self, rows, *args, **kw)

    monkeypatch.setattr(PatchDataset, 'read', read)
    seen = []
    with pytest.raises(WorkerDied, match='a worker process of a loader died, perhaps as memory'):
        for batch in loader:
            seen.append(batch['index'].tolist())
    assert marker.exists() and len(seen) <= at
    again = PatchLoader(data, 16, shuffle=True, workers=2, start='fork')
    again.load_state_dict(loader.state_dict())
    assert seen + [batch['index'].tolist() for batch in again] == wanted
    np.testing.assert_array_equal(np.sort(np.concatenate(wanted)), np.sort(data.rows))


def _runs(pid):
    "Whether a process is there and no corpse"
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


APART = {
    'isolated': "try_first(dying.hang, 'a.fits', {0!r})",
    'of a pool': 'WorkerProcesses(1).submit(dying.hang, {0!r}).result()',
}


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='no /proc to look for processes')
@pytest.mark.parametrize('call', APART.values(), ids=APART)
def test_a_worker_whose_caller_is_killed_ends_whatever_it_is_at(tmp_path, call):
    marker = tmp_path / 'pid'
    lines = 'import dying', 'from astrid_data.concurrency import WorkerProcesses'
    lines += 'from astrid_data.images.isolation import try_first', call.format(str(marker))
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    env = {**os.environ, 'PYTHONPATH': path}
    caller = subprocess.Popen([sys.executable, '-c', '\n'.join(lines)], env=env)
    end = time.monotonic() + 120
    while not (marker.exists() and marker.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    worker = int(marker.read_text())
    assert _runs(worker)
    caller.kill()
    caller.wait()
    end = time.monotonic() + 10
    while _runs(worker) and time.monotonic() < end:
        time.sleep(0.05)
    left = _runs(worker)
    if left:
        os.kill(worker, signal.SIGKILL)
    assert not left
