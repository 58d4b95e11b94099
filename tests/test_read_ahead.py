"A night that worker processes read is the night that one process reads, ledger and all"

from concurrent.futures import Future

import pytest
from killing import digest, registry_state
from test_isolated_tables import flat
from test_packed_nights import avro, tar_of

import astrid_data as ad
from astrid_data.concurrency import WorkerProcesses, worker_died
from astrid_data.ingest import alerts

N = 30


@pytest.fixture(scope='module')
def night(tmp_path_factory):
    "A tar of packets, of which one is broken, one comes twice, and one has lost digits of its name"
    packets = [avro(flat(k)) for k in range(N)]
    packets[7] = packets[7][:-40]
    packets[9] = packets[8]
    packets[20] = avro(flat(20) | dict(candid=1.1e18))
    path = tmp_path_factory.mktemp('night') / 'night.tar'
    path.write_bytes(tar_of((f'{k}.avro', data) for k, data in enumerate(packets)))
    return path


def taken(night, home):
    "The report of a night, and what the registry holds then"
    archive = ad.open_archive(home)
    report = archive.add_alerts(night, show=False)
    return report, digest(registry_state(archive))


@pytest.fixture
def soon(monkeypatch):
    "Workers are asked from the fourth packet on, two of them, four packets at a time"
    monkeypatch.setattr(alerts, '_WORTH_WORKERS', 3)
    monkeypatch.setattr(alerts, '_AT_ONCE', 4)
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 2)


def same(one, other):
    "Whether two reports say the same"
    (report, state), (again, also) = one, other
    assert state == also
    assert (report.added, report.skipped) == (again.added, again.skipped) and report.added == N - 3
    assert report.ledger.equals(again.ledger) and len(report.lost) == 2


def test_workers_read_what_one_process_reads(night, tmp_path, soon, monkeypatch):
    "The registry, the counts and the ledger in its order"
    asked = []
    submit = WorkerProcesses.submit

    def counted(self, function, *args):
        asked.append(len(args[0]))
        return submit(self, function, *args)

    monkeypatch.setattr(WorkerProcesses, 'submit', counted)
    by_workers = taken(night, tmp_path / 'workers')
    assert sum(asked) == N - 3
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 1)
    asked.clear()
    same(by_workers, taken(night, tmp_path / 'alone'))
    assert not asked


def test_what_a_lost_worker_was_given_is_read_here(night, tmp_path, soon, monkeypatch):
    "Nothing is lost with it, and no other is started for the rest"
    asked = []

    def dies(self, function, *args):
        asked.append(function)
        job = Future()
        job.set_exception(worker_died())
        return job

    monkeypatch.setattr(WorkerProcesses, 'submit', dies)
    without = taken(night, tmp_path / 'lost')
    assert len(asked) == 5  # One more than may wait
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 1)
    same(without, taken(night, tmp_path / 'alone'))


def test_packets_of_a_program_stay_in_its_process(tmp_path, soon, monkeypatch):
    "Dicts may be of any library, and need not be fit to be sent"
    monkeypatch.setattr(WorkerProcesses, 'submit', None)
    report = ad.open_archive(tmp_path).add_alerts([flat(k) for k in range(8)], show=False)
    assert report.added == 8
