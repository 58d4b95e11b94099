"Benchmarks leave nothing behind, and say what they take"

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from benchmarks.harness import Keeper, Row, Worker

root = Path(__file__).resolve().parents[1]


def is_running(pid):
    "Is it there, and no zombie?"
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid, within_s=60):
    "Wait until a process has ended"
    until = time.monotonic() + within_s
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_running(pid)


def stopped_sleeper():
    process = subprocess.Popen(['sleep', '1000'], start_new_session=True)
    os.kill(process.pid, signal.SIGSTOP)
    return process


def test_a_killed_harness_leaves_no_stopped_process():
    code = """
        import sys
        sys.path.insert(0, 'tests')
        from test_harness import Keeper, stopped_sleeper
        keeper, row = Keeper(), stopped_sleeper()
        keeper.note(row.pid)
        print(row.pid, flush=True)
        sys.stdin.read()
    """
    pipe = subprocess.PIPE
    harness = subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(code)], cwd=root, stdin=pipe, stdout=pipe, text=True
    )
    row = int(harness.stdout.readline())
    try:
        assert is_running(row)
        harness.kill()
        harness.wait()
        assert ends(row)
    finally:
        if is_running(row):
            os.kill(row, signal.SIGKILL)


def test_rows_that_ended_are_nobodys_business():
    keeper, gone, there = Keeper(), stopped_sleeper(), stopped_sleeper()
    for process in (gone, there):
        keeper.note(process.pid)
    keeper.note(gone.pid, there=False)
    keeper.close()
    try:
        assert ends(there.pid) and is_running(gone.pid)
    finally:
        gone.kill()
        gone.wait()
        there.wait()


def test_a_peer_without_its_environment_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr('benchmarks.harness.peers_python', tmp_path / 'python')
    worker = Worker('feed', 'feed_ram', 'x', Row(None, peer=True), tmp_path, None)
    worker.turn()
    worker.close()
    assert 'peers' in worker.why and worker.turns == []


@pytest.mark.parametrize('quick', [False, True])
def test_tables_know_their_size(quick):
    code = 'from benchmarks import extract, feed, plan; print(feed.N, plan.N_OBSERVATIONS, extract.TILES)'
    env = dict(os.environ, BENCH_QUICK='1' if quick else '')
    env.pop('FEED_PATCHES', None)
    said = subprocess.run([sys.executable, '-c', code], cwd=root, env=env, capture_output=True)
    wanted = [5000, 1000, 3] if quick else [100_000, 50_000, 20]
    assert list(map(int, said.stdout.split())) == wanted


SCRIPTS = [
    page.stem for page in (root / 'benchmarks').glob('*.py') if '__main__' in page.read_text()
]


@pytest.mark.parametrize('name', sorted(SCRIPTS))
def test_every_benchmark_says_what_it_takes_and_refuses_the_rest(name, capsys):
    main = import_module(f'benchmarks.{name}').main
    with pytest.raises(SystemExit) as ended:
        main(['--help'])
    told = capsys.readouterr().out
    assert ended.value.code in (0, None) and 'python -m benchmarks' in told.splitlines()[0]
    assert len(told.splitlines()) > 4
    for slip in (['--no-such-option'], ['x' * 9] * 9):
        with pytest.raises(SystemExit) as ended:
            main(slip)
        said = capsys.readouterr()
        assert ended.value.code == 2 and len(said.err.splitlines()) == 1 and not said.out


@pytest.mark.parametrize(
    ('words', 'wrong'),
    [('build 0', "'0'"), ('build --growth x', "'x'"), ('copies 3 moons', "'moons'")],
)
def test_a_wrong_word_is_named(words, wrong, capsys):
    name, *words = words.split()
    with pytest.raises(SystemExit):
        import_module(f'benchmarks.{name}').main(words)
    assert wrong in capsys.readouterr().err
