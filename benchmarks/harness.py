"""Tables that compare ways to do the same work.

A table is prepared once, then every row waits in a process of its own, stopped while another has its turn: some read ahead all the
time. The rows run in turn, again and again, so that a slow moment of the machine meets all of them; the figure is the median, and
the ratio is taken turn by turn against the reference.
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

root = Path(__file__).resolve().parents[1]
peers_python = root / '.peers' / 'bin' / 'python'
results = root / 'benchmarks' / 'results'
QUICK = bool(os.environ.get('BENCH_QUICK'))  # As `python -m benchmarks --quick` sets it


def sized(full, quick):
    "How much of something a table has: all of it, or so much that all tables take ten minutes"
    return quick if QUICK else full


@dataclass
class Row:
    "One way to do the work"

    start: object  # Callable (folder) -> callable () -> how many things were done, or that and a dict of further figures; called in the row's own process
    peer: bool = False  # Run by the peers' Python, which has no astrid_data


@dataclass
class Table:
    "The same work, done in several ways"

    reference: str  # Name of the row that the others are compared with
    unit: str  # What is counted, such as 'patches/s'
    rows: dict  # Name -> `Row`
    prepare: object = (
        None  # Callable (folder): makes what all rows read; None where there is nothing to make
    )
    repeats: int = 5
    fresh_mb: int = 0  # New memory that a turn needs, pages of written files included: see `settle`
    about: str = ''  # One line for the reader


def private_mb():
    "Memory that belongs to this process alone: mapped files do not count"
    with open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('RssAnon')) / 1024


class Peak:
    "The largest private memory while something runs"

    def __enter__(self):
        self.mb, self.done = private_mb(), threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.01):
            self.mb = max(self.mb, private_mb())

    def __exit__(self, *exc):
        self.done.set()
        self.thread.join()
        self.mb = max(self.mb, private_mb())


def serve(start, folder):
    "Inside a row's process: run at every line that comes in, and say how it went"
    out = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)  # What libraries print goes to stderr
    once = start(Path(folder))
    print(json.dumps('ready'), file=out)
    for _ in sys.stdin:
        with Peak() as peak:
            t = time.perf_counter()
            got = once()
            s = time.perf_counter() - t
        n, more = got if isinstance(got, tuple) else (got, {})
        print(json.dumps(dict(more, n=n, seconds=s, peak_mb=peak.mb)), file=out)


def settle(fresh_mb):
    "Let the disk finish what the last turn wrote, and have memory at hand: a virtual machine gets it from its host at first touch, slower than a disk writes"
    os.sync()
    b'.' * (fresh_mb << 20)


KEEP = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == '+' else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class Keeper:
    "A process that ends rows, and what they started, when this one is killed: they wait stopped, and see nothing"

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, '-c', KEEP], text=True, stdin=subprocess.PIPE, start_new_session=True
        )

    def note(self, group, there=True):
        "A process group is there, or has ended"
        print(f'{"+" if there else "-"}{group}', file=self.process.stdin, flush=True)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Worker:
    "A row in a process of its own"

    def __init__(self, module, table, name, row, folder, keeper):
        python = peers_python if row.peer else sys.executable
        self.name, self.turns, self.why, self.process = name, [], None, None
        if not Path(python).exists():
            self.why = 'the environment of the peers is not there: make .peers/ready'
            return
        self.keeper = keeper
        self.log = open(folder / f'{name}.log', 'w')
        self.process = subprocess.Popen(
            [python, '-m', 'benchmarks.row', module, table, name, folder],
            cwd=root,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
        )
        keeper.note(self.process.pid)
        self.answer()
        self.send(signal.SIGSTOP)

    def send(self, what):
        "A signal to the row and what it started"
        try:
            os.killpg(self.process.pid, what)
        except ProcessLookupError:
            pass  # It has ended

    def answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.log.flush()
        self.why = (
            Path(self.log.name).read_text().strip().splitlines() or ['it ended without a word']
        )[-1]

    def turn(self):
        if self.why:
            return
        self.send(signal.SIGCONT)
        try:
            print('go', file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        if got := self.answer():
            self.turns.append(got)
        self.send(signal.SIGSTOP)

    def close(self):
        if self.process is None:
            return
        self.send(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()
        self.keeper.note(self.process.pid, there=False)
        self.log.close()


def machine():
    "What the figures were measured on, in general words"
    with open('/proc/meminfo') as f:
        gib = int(f.readline().split()[1]) / 2**20
    with open('/proc/cpuinfo') as f:
        words = set(f.read().split())
    vectors = next(
        (
            f' with {name}'
            for flag, name in (('avx512f', 'AVX-512'), ('avx2', 'AVX2'))
            if flag in words
        ),
        '',
    )
    return f'{len(os.sched_getaffinity(0))} cores{vectors}, {gib:.0f} GiB, {platform.machine()}, Python {platform.python_version()}'


def moment():
    "When, and of which commit, figures are; a tree with edits says so"
    asked = ['git', 'describe', '--always', '--dirty', '--exclude=*']
    commit = subprocess.run(asked, cwd=root, capture_output=True, text=True).stdout.strip()
    return dict(date=date.today().isoformat(), commit=commit or 'unknown')


def measure(module, name, table, folder, warm=True):
    "Run a table; its figures as a dict"
    if table.prepare:
        table.prepare(folder)
    repeats = min(table.repeats, sized(table.repeats, 2))
    keeper = Keeper()
    workers = []
    try:
        for r, row in table.rows.items():
            workers.append(Worker(module, name, r, row, folder, keeper))
        for k in range(repeats + warm):
            for w in workers:
                settle(table.fresh_mb)
                w.turn()
            if warm and k == 0:
                for w in workers:
                    w.turns.clear()  # The first turn fills caches
    finally:
        for w in workers:
            w.close()
        keeper.close()
    rate = {w.name: [t['n'] / t['seconds'] for t in w.turns] for w in workers}
    rows = []
    for w in workers:
        if w.why:
            rows.append(dict(name=w.name, rate=None, ratio=None, peak_mb=None, why=w.why))
            continue
        against = [a / b for a, b in zip(rate[w.name], rate[table.reference])]
        rows.append(
            dict(
                name=w.name,
                rate=statistics.median(rate[w.name]),
                ratio=statistics.median(against) if against else None,
                peak_mb=max(t['peak_mb'] for t in w.turns),
                **{
                    k: statistics.median(t[k] for t in w.turns)
                    for k in w.turns[0]
                    if k not in ('n', 'seconds', 'peak_mb')
                },
            )
        )
    return dict(
        table=name,
        reference=table.reference,
        unit=table.unit,
        about=table.about,
        machine=machine(),
        **moment(),
        repeats=repeats,
        rows=rows,
    )


def show(result):
    "The figures as text"
    small = 'SMALL, of ' if QUICK else ''
    yield f'{result["table"]}: {small}{result["about"]} ({result["unit"]}, median of {result["repeats"]} interleaved runs; {result["machine"]})'
    for r in sorted(result['rows'], key=lambda r: -(r['rate'] or 0)):
        if r['rate'] is None:
            yield f'  {r["name"]:28} not measured: {r["why"]}'
            continue
        ratio = '' if r['ratio'] is None else f'{r["ratio"]:10.3g}'
        more = ''.join(
            f'   {k} {v:.3g}' for k, v in r.items() if k not in ('name', 'rate', 'ratio', 'peak_mb')
        )
        yield f'  {r["name"]:28}{r["rate"]:12,.0f}{ratio:>12} x {result["reference"]}{r["peak_mb"]:10,.0f} MB{more}'


def keep(result):
    "Keep what was measured in full; a quick look is only printed"
    if QUICK:
        return
    results.mkdir(exist_ok=True)
    (results / f'{result["table"]}.json').write_text(json.dumps(result, indent=1) + '\n')
