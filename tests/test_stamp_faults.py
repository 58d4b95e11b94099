"Faults in the middle of taking sets in: a disk that fills, a file that becomes another, a folder that grows, a database that restarts"

import errno
import os
import signal
import time

import numpy as np
import pytest
from killing import Case, Servers, load_all
from sqlalchemy import event
from sqlalchemy.engine import Engine

import astrid_data as ad
from astrid_data.core import AstridError, BadInput, DiskFull
from astrid_data.ingest import stamp_files, stamp_sets

N = 8


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(tmp_path / 'home')


def arrays(n=N, seed=0):
    pixels = np.random.default_rng(seed).normal(100, 9, (n, 15, 15)).astype('f4')
    words = np.array(['real', 'bogus'] * (n // 2))
    return dict(images=pixels, ra=np.arange(n) + 20.0 * seed, dec=np.zeros(n), kind=words)


def records():
    every = arrays()
    for i, image in enumerate(every['images']):
        yield dict(id=f'a{i}', image=image, ra=float(i), dec=0.0, kind=every['kind'][i])


def at_stamp(k, monkeypatch, do):
    "Do something while stamp `k` of a call is looked at"
    plain, seen = stamp_sets._entry_of, []

    def entry_of(*args):
        seen.append(args[0])
        if len(seen) == k:
            do()
        return plain(*args)

    monkeypatch.setattr(stamp_sets, '_entry_of', entry_of)


ODD = (2, -1, 0.5, b'kind', ['real'], np.array([True]), float('nan'))


@pytest.mark.parametrize('is_real', ODD, ids=repr)
def test_a_verdict_that_is_none_is_refused_in_words(archive, is_real):
    with pytest.raises(BadInput, match='is_real=.*: True or False for all, or the name of a field'):
        archive.add_stamps([*records()], 'mailed', is_real=is_real, show=False)


@pytest.mark.parametrize('how', [dict(class_name=b'kind'), dict(score=2), dict(score=None)])
def test_so_are_classes_and_scores(archive, how):
    with pytest.raises(BadInput, match='the name of a field'):
        archive.add_stamps([*records()], 'mailed', show=False, **how)


def test_one_and_zero_are_verdicts(archive):
    report = archive.add_stamps([*records()], 'mailed', is_real=np.int64(1), show=False)
    assert report.added == N and not len(report.ledger)


class FullFile:
    "A temporary file whose disk is full"

    def write(self, data):
        raise OSError(errno.ENOSPC, 'No space left on device')

    def __enter__(self):
        return self

    def __exit__(self, *why):
        return False


def test_a_full_disk_of_temporary_files_is_said(archive, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(stamp_files, 'TemporaryFile', FullFile)
        with pytest.raises(DiskFull, match='no room for a copy of what can be read only once'):
            archive.add_stamps(records(), 'mailed', is_real='kind', show=False)
    report = archive.add_stamps(records(), 'mailed', is_real='kind', show=False)
    assert report.added == N and not len(report.ledger)


@pytest.mark.parametrize('table', [None, 'ids.csv'])
def test_a_file_that_becomes_another_is_said(archive, tmp_path, monkeypatch, table):
    path, other = tmp_path / 'set.npz', tmp_path / 'other.npz'
    np.savez(path, **arrays())
    np.savez(other, **arrays(seed=1))
    if table:
        table = tmp_path / 'ids.csv'
        table.write_text('\n'.join(['id', *(f'n{i}' for i in range(N))]))
    with monkeypatch.context() as changed:
        at_stamp(3, changed, lambda: os.replace(other, path))
        report = archive.add_stamps(path, 'mailed', table, is_real='kind', show=False, chunk=2)
    assert report.ledger['reason'].tolist() == ['changed'], report.ledger
    assert 'became another file while it was read' in report.ledger['detail'][0]
    again = archive.add_stamps(path, 'again', table, is_real='kind', show=False)
    assert again.added == N and not len(again.ledger)


def test_a_folder_that_grows_is_gone_on_with(archive, tmp_path, monkeypatch):
    sets = tmp_path / 'sets'
    sets.mkdir()
    for k in (0, 2):
        np.savez(sets / f'{k}.npz', **arrays(seed=k))
    with monkeypatch.context() as changed:
        at_stamp(1, changed, lambda: np.savez(sets / '1.npz', **arrays(seed=1)))
        first = archive.add_stamps(sets, 'mailed', show=False)
    assert (first.added, len(first.ledger)) == (2 * N, 0)
    second = archive.add_stamps(sets, 'mailed', show=False)
    assert (second.added, second.skipped, len(second.ledger)) == (N, 2 * N, 0)


def test_a_file_from_the_future_is_taken_in_once(archive, tmp_path):
    path = tmp_path / 'set.npz'
    np.savez(path, **arrays())
    os.utime(path, (time.time() + 1e7,) * 2)
    assert archive.add_stamps(path, 'mailed', show=False).added == N
    again = archive.add_stamps(path, 'mailed', show=False)
    assert (again.added, again.skipped, len(again.ledger)) == (0, N, 0)


def crash(postgres):
    "Kill one process of the server: it ends all connections and starts again"
    with postgres.connect() as c:
        others = 'SELECT pid FROM pg_stat_activity WHERE backend_type = %s AND pid <> %s'
        own = c.info.backend_pid
        pids = [pid for (pid,) in c.execute(others, ('client backend', own)).fetchall()]
    os.kill(pids[0], signal.SIGKILL)
    wait_for(postgres)


def wait_for(postgres):
    "Wait until a server that starts again answers"
    import psycopg

    time.sleep(0.3)
    for _ in range(300):
        try:
            return postgres.connect().close()
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise TimeoutError('PostgreSQL does not start again')


@pytest.mark.parametrize('name', ['add_alerts', 'plan.build'])
def test_a_database_that_restarts_is_gone_on_with(postgres, tmp_path, name):
    "The call goes on or ends in words, and the same call comes to the end of an undisturbed one"
    load_all()
    case = Case(name, 'postgresql', tmp_path, Servers(postgres), check_again=False)
    place, statements = case.fresh(), [k for k in case.points if k == 'statement']
    seen = []

    def execute(connection, cursor, statement, *rest):
        if statement.lstrip()[:6].upper() in ('INSERT', 'UPDATE', 'DELETE'):
            seen.append(statement)
            if len(seen) == max(2, len(statements) // 2):
                crash(postgres)

    event.listen(Engine, 'before_cursor_execute', execute)
    try:
        case.verb.act(place)
        said = None
    except AstridError as problem:
        said = str(problem)
    finally:
        event.remove(Engine, 'before_cursor_execute', execute)
    assert len(seen) >= 2 and said is not None and 'database' in said, said
    assert case.faults(place) == []
