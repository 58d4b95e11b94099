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
    "Another process reads from the seventh packet on, four packets at a time"
    monkeypatch.setattr(alerts, '_WORTH_A_READER', 3)
    monkeypatch.setattr(alerts, '_READER_BEGINS', 6)
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 2)
    monkeypatch.setattr(alerts, '_AT_ONCE', 4)
    monkeypatch.setattr(alerts, '_AHEAD', 2)


def same(one, other):
    "Whether two reports say the same"
    (report, state), (again, also) = one, other
    assert state == also
    assert (report.added, report.skipped) == (again.added, again.skipped) and report.added == N - 3
    assert report.ledger.equals(again.ledger) and len(report.lost) == 2


class Sent:
    "Notes what the process that reads ahead has sent; it is lost after `most` answers"

    def __init__(self, monkeypatch, most=1000):
        self.results, self.most = [], most
        self.submit = WorkerProcesses.submit
        monkeypatch.setattr(WorkerProcesses, 'submit', lambda *asked: self.asked(*asked))

    def asked(self, workers, function, *args):
        if function is not alerts._next_results:
            return self.submit(workers, function, *args)
        if len(self.results) == self.most:
            job = Future()
            job.set_exception(worker_died())
            return job
        job = self.submit(workers, function, *args)
        self.results.append(job)
        return job

    def number(self):
        return sum(len(job.result()) for job in self.results)


def test_another_process_reads_what_one_process_reads(night, tmp_path, soon, monkeypatch):
    "The registry, the counts and the ledger in its order"
    sent = Sent(monkeypatch)
    by_two = taken(night, tmp_path / 'two')
    assert sent.number() == N - 6
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 1)
    sent.results.clear()
    same(by_two, taken(night, tmp_path / 'alone'))
    assert not sent.results


@pytest.mark.parametrize('most', [0, 3])
def test_where_the_reader_is_lost_this_process_reads_on(night, tmp_path, soon, monkeypatch, most):
    "Nothing is lost with it and nothing comes twice, and no other is started"
    sent = Sent(monkeypatch, most)
    without = taken(night, tmp_path / 'lost')
    assert len(sent.results) == most
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 1)
    same(without, taken(night, tmp_path / 'alone'))


def test_a_night_that_ends_early_starts_no_process(night, tmp_path, monkeypatch):
    monkeypatch.setattr(alerts, '_WORTH_A_READER', N)
    monkeypatch.setattr(alerts, 'cpu_limit', lambda: 2)
    monkeypatch.setattr(WorkerProcesses, 'submit', None)
    assert taken(night, tmp_path / 'home')[0].added == N - 3


def test_packets_of_a_program_stay_in_its_process(tmp_path, soon, monkeypatch):
    "Dicts may be of any library, and need not be fit to be sent"
    monkeypatch.setattr(WorkerProcesses, 'submit', None)
    report = ad.open_archive(tmp_path).add_alerts([flat(k) for k in range(8)], show=False)
    assert report.added == 8
