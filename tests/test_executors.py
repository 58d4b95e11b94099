"The same work by other processes, or by Dask's workers, gives the same rows and the same hash"

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

import astrid_data as ad
from astrid_data import concurrency
from astrid_data.concurrency import WorkerProcesses
from astrid_data.ingest import fits, known_files
from astrid_data.quality.background import example_patches
from astrid_data.quality.duplicates import find_duplicates
from astrid_data.quality.report import check_quality
from astrid_data.simulate.synthetic import synthetic_image
from astrid_data.splits.audit import audit_splits

pytestmark = pytest.mark.filterwarnings('ignore')
N_FILES = 5


@pytest.fixture(scope='module')
def night(tmp_path_factory):
    "Pretend exposures, and one that ends early"
    folder = tmp_path_factory.mktemp('night')
    for number in range(N_FILES):
        hdus, _ = synthetic_image(seed=number, shape=(96, 96), n_stars=5, n_cosmic=3, ra=9 + number)
        hdus.writeto(folder / f'{number}.fits')
    cut = folder / '2.fits'
    cut.write_bytes(cut.read_bytes()[:30_000])
    return folder


def taken_in(home, folder, **how):
    "The rows that a call makes: ids and positions of detections, and the reasons of the ledger"
    archive = ad.open_archive(home)
    report = archive.add_fits(folder, show=False, survey='synthetic-toy', **how)
    with archive.session() as session:
        query = 'SELECT id, ra, dec, confidence_score FROM detections ORDER BY id'
        rows = pd.read_sql(query, session.connection())
    return rows.to_csv(), report.added, report.ledger['reason'].tolist()


@pytest.fixture(scope='module')
def in_turn(night, tmp_path_factory):
    "What one process makes of the night"
    result = taken_in(tmp_path_factory.mktemp('alone'), night)
    assert result[1] == N_FILES - 1 and result[0].count('\n') > 10
    return result


def test_workers_that_search_change_nothing(night, in_turn, tmp_path):
    with WorkerProcesses(2) as processes:
        assert taken_in(tmp_path, night, executor=processes) == in_turn
        assert processes.started


class Counted:
    "An executor of processes that says how often it was asked"

    def __init__(self, pool):
        self.pool, self.n = pool, 0

    def submit(self, *args):
        self.n += 1
        return self.pool.submit(*args)


@pytest.fixture
def processes():
    with ProcessPoolExecutor(2, get_context('spawn')) as pool:
        yield Counted(pool)


def searched(home, folder, executor):
    "The archive, and the rows that searching its images makes"
    archive = ad.open_archive(home)
    archive.add_fits(folder, show=False, survey='synthetic-toy', detect=False)
    report = archive.detect(show=False, executor=executor, nsigma=6.0)
    return archive, archive.detections().to_csv(), report.ledger['reason'].tolist()


def test_detection_by_processes_changes_nothing(night, processes, tmp_path):
    _, *alone = searched(tmp_path / 'alone', night, None)
    archive, *there = searched(tmp_path / 'there', night, processes)
    assert there == alone and there[0].count('\n') > 10
    assert processes.n == N_FILES - 1
    again = archive.detect(show=False, executor=processes, nsigma=6.0)
    assert again.skipped == processes.n == N_FILES - 1  # Nobody was asked again


def test_detection_goes_on_where_no_worker_brings_anything_back(night, tmp_path):
    class Failing:
        def submit(self, function, *args):
            return concurrency.ThreadPoolExecutor(1).submit(int, 'no number')

    _, *alone = searched(tmp_path / 'alone', night, None)
    _, *there = searched(tmp_path / 'there', night, Failing())
    assert there == alone


def test_pixels_measured_by_processes_are_the_same(processes):
    data, valid = example_patches(1100, 16)
    data[:4] = 1.2 * np.rot90(data[-4:], axes=(2, 3))
    samples = pd.DataFrame(
        dict(
            sample_key=[f'{i:04d}' for i in range(len(data))],
            split=np.resize(['train', 'val', 'test'], len(data)),
            label=np.arange(len(data)) % 2,
            ra=np.arange(len(data)) * 0.3,
            dec=0.0,
        )
    )
    asked = []
    for executor in (None, processes):
        pairs = find_duplicates(data, valid, executor=executor)
        audit = audit_splits(samples, data, executor=executor)
        report = check_quality(samples, data, valid, probe=False, executor=executor)
        asked.append((pairs.to_csv(), audit.to_json(), report.to_json()))
    assert asked[0] == asked[1]
    assert processes.n == 10  # Two pieces: three times for copies, once each for sky and flags


def test_a_worker_that_dies_costs_nothing(night, in_turn, tmp_path):
    class Deadly(WorkerProcesses):
        "Every second call ends its process"

        n = 0

        def submit(self, function, /, *args, **kwargs):
            self.n += 1
            if self.n % 2:
                return super().submit(os._exit, 1)
            return super().submit(function, *args, **kwargs)

    with Deadly(2) as processes:
        assert taken_in(tmp_path, night, executor=processes) == in_turn
        assert len(processes.started) > 1


def test_many_files_are_searched_by_all_cores(night, in_turn, tmp_path, monkeypatch):
    used = []

    class Noted(WorkerProcesses):
        def submit(self, *args, **kwargs):
            used.append(args[1].address)
            return super().submit(*args, **kwargs)

    monkeypatch.setattr(fits, 'WorkerProcesses', Noted)
    monkeypatch.setattr(fits, '_WORTH_PROCESSES', N_FILES)
    monkeypatch.setattr(fits, 'cpu_limit', lambda: 2)
    assert taken_in(tmp_path, night) == in_turn
    assert len(used) == N_FILES
    used.clear()
    assert taken_in(tmp_path, night)[1] == 0


def test_what_was_looked_up_for_a_file_is_still_known_when_its_turn_comes(
    night, tmp_path, monkeypatch
):
    "Files are looked up a few at a time, and searched further ahead"
    monkeypatch.setattr(known_files, '_AT_ONCE', 2)
    monkeypatch.setattr(fits, 'cpu_limit', lambda: 1)
    for path in night.iterdir():
        os.utime(path, (1e9, 1e9))
    asked = []

    class Noted(WorkerProcesses):
        def submit(self, *args, **kwargs):
            asked.append(args[1].address)
            return super().submit(*args, **kwargs)

    for n_asked in (N_FILES, 1):  # The second time only the one that is broken
        asked.clear()
        with Noted(2) as processes:
            taken_in(tmp_path, night, executor=processes)
        assert len(asked) == n_asked


def test_workers_do_not_run_the_script_of_their_caller():
    with WorkerProcesses(1) as processes:
        assert processes.submit(concurrency.cpu_limit).result() >= 1
        pid = processes.submit(os.getpid).result()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.fixture(scope='module')
def cluster():
    "Two worker processes of Dask"
    distributed = pytest.importorskip('distributed')
    how = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with (
        distributed.LocalCluster(**how, silence_logs=50) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    home = tmp_path_factory.mktemp('home')
    return ad.synthetic_archive(home, n_observations=6, n_sources=12, shape=(200, 200))


def version(archive, name, executor=None):
    "Hashes of a plan with drawn sky and of what is built of it"
    asked = ad.TrainingDataCollectionParams(
        confidence_threshold=None, negatives=dict(rejected=1.0, random_sky=1.0)
    )
    plan = ad.TrainingDataCollector(archive).plan(asked, progress=False, executor=executor)
    how = dict(patch_size=16, progress=False, allow_empty=True, executor=executor)
    return plan.plan_hash, plan.build(name, **how).content_hash


def test_dask_gives_the_same_version(cluster, archive, night, in_turn, tmp_path):
    executor = cluster.get_executor()
    assert version(archive, 'by-dask', executor) == version(archive, 'alone')
    assert taken_in(tmp_path, night, executor=executor) == in_turn


def test_dask_gives_the_same_version_when_a_worker_is_killed(cluster, archive):
    class Killing:
        "Dask's executor, which loses a worker at its third call"

        def __init__(self):
            self.executor, self.n = cluster.get_executor(), 0

        def submit(self, *args):
            self.n += 1
            if self.n == 3:
                workers = list(cluster.scheduler_info(n_workers=-1)['workers'])
                pid = cluster.submit(os.getpid, workers=workers[:1], pure=False).result()
                os.kill(pid, signal.SIGKILL)
            return self.executor.submit(*args)

    executor = Killing()
    assert version(archive, 'killed', executor) == version(archive, 'alone')
    assert executor.n >= 3


def test_a_worker_that_died_idle_stops_nothing():
    "What it was not told yet is lost with it, and the end is quiet"
    with WorkerProcesses(1) as processes:
        assert processes.submit(abs, -1).result() == 1
        (process,) = processes.started
        process.kill()
        process.wait()
        with pytest.raises(concurrency.BrokenExecutor):
            processes.submit(abs, -2).result()


def test_a_pool_that_is_broken_is_done_without(night, in_turn, tmp_path):
    class Broken(WorkerProcesses):
        def submit(self, function, /, *args, **kwargs):
            raise concurrency.BrokenExecutor('a worker died')

    with Broken(2) as processes:
        assert taken_in(tmp_path, night, executor=processes) == in_turn
