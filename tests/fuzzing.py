"""Seeded fuzzing in a process that may die: `python tests/fuzzing.py fuzz_files:fits --seed 1 --only 17`.

A target is a function of a `random.Random` and a folder that makes one input and tries it. It returns a word
for what became of the input ('accepted', 'refused', …). Our own errors count as 'refused', other exceptions as
'foreign', `Wrong` as 'wrong'. A worker process that dies counts as 'crash', one that is silent as 'hang', one
that takes too much memory as 'memory'; the next input goes on in a new one. Silence is measured by the computing
time of the worker, as others may use the machine; a worker that waits for ever is found by the clock. Input `number` of a target is made
from `seed` and `number` alone, so each can be tried again by itself."""

import argparse
import faulthandler
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from mmap import mmap
from pathlib import Path
from time import monotonic

SECONDS = 10  # Of computing that one input may take
IDLE_SHARE = 12  # One that computes nothing is given so many times the seconds
MOST_BYTES = 10**9  # One input may take
BAD = ('foreign', 'crash', 'hang', 'memory', 'wrong')

# Numbers and words that nobody expects, as text
HUGE = (
    '99999999999999999999 9999999999 2147483648 -2147483649 9223372036854775808 1E308 1E999'.split()
)
ODD = [
    *HUGE,
    '-1',
    '0',
    '1',
    '-99999999999999999999',
    '1E-320',
    'NaN',
    'Infinity',
    '1000000',
    '65536',
]
ODD += ['', 'T', 'F', "''", 'null', '1.5', '0x10', '١٢', '\x00', 'é', '\ud800', 'a' * 3000]


class Wrong(Exception):
    "An input was accepted that must not be, or changed on its way"


# ---------------------------------------------------------------- bytes


def flip_bits(data, rng):
    "A few bits of bytes, flipped"
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def set_bytes(data, rng):
    "A few bytes, set to those that often matter"
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        out[rng.randrange(len(out))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x22, 0x0A))
    return bytes(out)


def truncate(data, rng):
    "The beginning of bytes"
    return data[: rng.randrange(len(data))]


def cut_out(data, rng):
    "Bytes without a part of them"
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 4, 80, 2880, len(data) // 2)) :]


def repeat_part(data, rng):
    "Bytes with a part of them twice"
    start = rng.randrange(len(data))
    length = rng.choice((1, 8, 80, 2880, 5000))
    return data[: start + length] + data[start:]


def fill_part(data, rng):
    "Bytes with a part of them overwritten by one value"
    start = rng.randrange(len(data))
    length = min(rng.choice((2, 4, 8, 80, 500)), len(data) - start)
    return (
        data[:start] + bytes([rng.choice((0, 0xFF, 0x20, 0x7F))]) * length + data[start + length :]
    )


def splice(data, rng, others=()):
    "The beginning of bytes and the end of others"
    other = rng.choice(list(others) or [data])
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


BYTE_CHANGES = (flip_bits, set_bytes, truncate, cut_out, repeat_part, fill_part)


def mutate_bytes(
    data,  # Bytes
    rng,  # A `random.Random`
    others=(),  # Bytes of other inputs, to splice with
):  # Bytes and the name of what was done
    "Bytes as a bad disk, a broken line or an enemy leaves them"
    data = data or b'x'  # Text that was cut to nothing
    change = rng.choice((*BYTE_CHANGES, splice) if others else BYTE_CHANGES)
    made = change(data, rng, others) if change is splice else change(data, rng)
    return made, change.__name__


# ---------------------------------------------------------------- text and values


def mutate_text(
    text,  # Text, at least one character
    rng,  # A `random.Random`
):  # Text
    "Text with words exchanged, lost, doubled, or too long"
    kind = rng.randrange(7)
    if kind == 0:
        start = rng.randrange(len(text))
        return text[:start] + rng.choice(ODD) + text[start + rng.randrange(20) :]
    if kind == 1:
        return text[: rng.randrange(len(text))]
    if kind == 2:
        lines = text.split('\n')
        rng.shuffle(lines)
        return '\n'.join(lines)
    if kind == 3:
        sign = rng.choice('"\',;=\t{}[]<>()#\\\x00\r\n:')
        start = rng.randrange(len(text))
        return text[:start] + sign * rng.choice((1, 2, 50, 5000)) + text[start:]
    words = text.split(' ' if kind < 5 else rng.choice((',', '=', '"', '>')))
    words[rng.randrange(len(words))] = rng.choice(ODD)
    return (' ' if kind < 5 else ',').join(words)


def nested(depth, kind=list):
    "Lists in lists, or dicts in dicts"
    value = 1
    for _ in range(depth):
        value = [value] if kind is list else {'a': value}
    return value


def odd_value(rng):
    "A JSON value that nobody expects"
    makers = (
        lambda: None,
        lambda: rng.choice((True, False)),
        lambda: rng.choice((0, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, 5e-324)),
        lambda: rng.choice((float('nan'), float('inf'))),
        lambda: rng.choice(ODD),
        lambda: nested(rng.choice((1, 50, 900)), rng.choice((list, dict))),
        lambda: [],
        lambda: {},
        lambda: [rng.choice(ODD) for _ in range(rng.choice((1, 100)))],
        lambda: {rng.choice(ODD): rng.choice(ODD)},
    )
    return rng.choice(makers)()


def _children(value):
    "The keys or indexes of a value that holds others"
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def mutate_value(
    value,  # A JSON value: dicts, lists, text, numbers; it is copied, not changed
    rng,  # A `random.Random`
):  # A JSON value with something else at one place
    "A value with a member exchanged, lost, renamed, doubled or nested"
    keys = _children(value)
    if not keys or rng.random() < 0.08:
        return odd_value(rng)
    made = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(keys)
    kind = rng.randrange(8)
    if kind == 0:
        del made[key]
    elif kind == 1 and isinstance(made, dict):
        made[rng.choice(ODD) or str(key) + 'x'] = made.pop(key)
    elif kind == 2:
        made[key] = made[rng.choice(keys)]
    elif kind == 3 and isinstance(made[key], (str, int, float)):
        made[key] = str(made[key]) if rng.random() < 0.5 else [made[key]]
    elif kind <= 4:
        made[key] = odd_value(rng)
    else:
        made[key] = mutate_value(made[key], rng)
    return made


# ---------------------------------------------------------------- the runner


@dataclass
class Findings:
    "What became of many inputs"

    counts: Counter = field(default_factory=Counter)  # By outcome
    examples: list = field(default_factory=list)  # (target, number, outcome, detail) of bad ones
    kinds: Counter = field(default_factory=Counter)  # Bad ones by target, outcome and exception
    by_target: dict = field(default_factory=dict)  # Counter of outcomes by target

    def add(self, target, number, outcome, detail):
        "Count one input"
        self.counts[outcome] += 1
        self.by_target.setdefault(target, Counter())[outcome] += 1
        if outcome in BAD:
            kind = target, outcome, detail.split('\n')[0].partition(':')[0]
            self.kinds[kind] += 1
            if self.kinds[kind] <= 3:
                self.examples.append((target, number, outcome, detail))

    @property
    def bad(self):  # int
        "How many inputs went badly"
        return sum(self.counts[word] for word in BAD)

    def __str__(self):
        lines = []
        for target, counts in sorted(self.by_target.items()):
            words = ', '.join(f'{word} {n:,}' for word, n in sorted(counts.items()))
            lines.append(f'{target}: {sum(counts.values()):,} inputs: {words}')
        lines += [f'  {" ".join(kind)}: {n:,}' for kind, n in self.kinds.most_common(40)]
        lines += [f'  {t} --only {i}: {w}: {d}' for t, i, w, d in self.examples[:60]]
        return '\n'.join(lines)


def _cpu_seconds(process):
    "Seconds that a process has computed; 0 where there is none"
    try:
        words = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')


class Worker:
    "A process that tries inputs, one after the other"

    def __init__(self, targets, seed, numbers, seconds, most_bytes):
        command = [sys.executable, __file__, ','.join(targets), '--seed', str(seed), '--worker']
        command += ['--numbers', f'{numbers.start}:{numbers.stop}', '--most-bytes', str(most_bytes)]
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'ASTRID_DATA_QUIET': '1'}
        here = str(Path(__file__).parent)
        env['PYTHONPATH'] = os.pathsep.join([here, *filter(None, [env.get('PYTHONPATH')])])
        self.errors = tempfile.TemporaryFile('w+')
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, env=env
        )
        self.seconds, self.buffer = seconds, b''
        self.first = True

    def line(self, child=None):
        "The next line as a list; None where the process is dead; 'hang' where it is silent"
        seconds = 180 if self.first else self.seconds
        computed = _cpu_seconds(child)
        end = monotonic() + seconds * IDLE_SHARE
        while b'\n' not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if not ready:
                if monotonic() > end or _cpu_seconds(child) - computed > seconds:
                    return 'hang'
                continue
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                return None
            self.buffer += got
        line, _, self.buffer = self.buffer.partition(b'\n')
        return json.loads(line)

    def last_words(self, status='?'):
        "What the process wrote before it died"
        self.errors.seek(0)
        words = self.errors.read()
        self.errors.seek(0, 2)
        crash = words.rfind('Fatal Python')
        return f'status {status}\n{words[crash:][:700] if crash >= 0 else words[-700:]}'

    def close(self):
        "End the process"
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def fuzz(
    targets,  # Such as ['fuzz_files:fits']: modules of tests/ and functions; they take turns
    n,  # Inputs in all
    seed=0,  # Of all inputs
    seconds=SECONDS,  # One input may take so long
    most_bytes=MOST_BYTES,  # One input may take so much memory beyond what was taken before
    start=0,  # Number of the first input
    budget=None,  # Seconds from the first answer, after which no further input is tried; None = all are
):  # Findings
    "Try many inputs in processes that may die"
    found, number, stop = Findings(), start, start + n
    end = float('inf')
    worker = Worker(targets, seed, range(start, stop), seconds, most_bytes)
    child = None
    try:
        while number < stop and monotonic() < end:
            line, target = worker.line(child), targets[number % len(targets)]
            if line is None:
                raise RuntimeError(worker.last_words())
            if line == 'hang':
                if child is None:
                    raise RuntimeError('the worker does not begin')
                found.add(target, number, 'hang', f'no answer in {seconds} s of computing')
                os.kill(child, signal.SIGKILL)
                child, worker.first, number = None, True, number + 1
            elif line[0] == 'child':
                child, worker.first = line[1], True  # Its first input loads libraries as well
            elif line[0] == 'dead':
                if line[1] == number:  # Else it was killed for its silence
                    found.add(target, number, 'crash', worker.last_words(line[2]))
                    number += 1
            else:
                found.add(target, *line)
                if budget and found.counts.total() == 1:  # All libraries are loaded
                    end = monotonic() + budget
                worker.first = False
                number += 1
    finally:
        if child is not None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        worker.close()
    return found


def _peak_bytes():
    "Most memory that this process had since the last reset"
    with open('/proc/self/status') as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith('VmHWM'))


def _reset_peak():
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass


def try_one(
    function,  # A target
    seed,  # Of all inputs
    number,  # Of this one
    folder,  # An empty folder to work in
):  # Outcome and detail
    "Make one input and try it"
    from astrid_data.core import AstridError

    try:
        return function(random.Random(f'{seed}/{number}'), Path(folder)) or 'accepted', ''
    except AstridError as error:
        return 'refused', str(error)[:200]
    except Wrong as error:
        return 'wrong', str(error)[:500]
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if 'astrid_data' in f.filename] or frames
        place = f'{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}'
        deepest = f'{Path(frames[-1].filename).name}:{frames[-1].lineno}'
        return 'foreign', f'{type(error).__name__} at {place} ({deepest}): {str(error)[:200]}'


def _function(target):
    module, _, name = target.partition(':')
    return getattr(import_module(module), name)


def _work(targets, seed, numbers, most_bytes):
    "What a worker process does: it imports all once, and tries inputs in a fork that may die"
    functions = [_function(target) for target in targets]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    say = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)  # What libraries print is no answer
    progress = mmap(-1, 8)
    progress[:] = numbers.start.to_bytes(8, 'little')
    with tempfile.TemporaryDirectory() as folder:
        for function in functions:
            try_one(function, 'warm-up', 0, folder)  # What is loaded at first use
        faulthandler.enable()
        while (at := int.from_bytes(progress[:], 'little')) < numbers.stop:
            child = os.fork()
            if not child:
                _try_all(
                    functions, seed, range(at, numbers.stop), most_bytes, folder, say, progress
                )
                os._exit(0)
            _, status = os.waitpid(child, 0)
            at = int.from_bytes(progress[:], 'little')
            if at < numbers.stop:
                progress[:] = (at + 1).to_bytes(8, 'little')
                say.write(json.dumps(['dead', at, os.waitstatus_to_exitcode(status)]) + '\n')


def _try_all(functions, seed, numbers, most_bytes, folder, say, progress):
    "Try inputs until all are tried, or one of them kills this process"
    with open('/proc/self/statm') as f:
        virtual = int(f.read().split()[0]) * resource.getpagesize()
    limit = virtual + 3 * most_bytes  # So that the machine survives
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    say.write(json.dumps(['child', os.getpid()]) + '\n')
    for number in numbers:
        _reset_peak()
        before = _peak_bytes()
        outcome, detail = try_one(functions[number % len(functions)], seed, number, folder)
        taken = _peak_bytes() - before
        if taken > most_bytes:
            outcome, detail = 'memory', f'{taken / 1e6:.0f} MB, then {outcome} {detail}'
        progress[:] = (number + 1).to_bytes(8, 'little')
        say.write(json.dumps([number, outcome, detail]) + '\n')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('targets')
    parser.add_argument('--seed', default='0')
    parser.add_argument('--only', type=int)
    parser.add_argument('--numbers', default='0:1000')
    parser.add_argument('--most-bytes', type=int, default=MOST_BYTES)
    parser.add_argument('--worker', action='store_true')
    args = parser.parse_args()
    targets = args.targets.split(',')
    if args.worker:
        _work(targets, args.seed, range(*map(int, args.numbers.split(':'))), args.most_bytes)
    elif args.only is not None:
        target = targets[args.only % len(targets)]
        rng = random.Random(f'{args.seed}/{args.only}')
        with tempfile.TemporaryDirectory() as folder:
            print(_function(target)(rng, Path(folder)))
    else:
        numbers = range(*map(int, args.numbers.split(':')))
        print(fuzz(targets, len(numbers), args.seed, start=numbers.start))


if __name__ == '__main__':
    main()
