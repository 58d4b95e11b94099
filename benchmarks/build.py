"""`python -m benchmarks.build [N [REPEATS]]`: a whole build with everything on, beside bare hashing and writing of the same bytes.

An archive of pretend exposures holds N samples (20,000; 106,000 is the full form), half of them stars and half cosmic rays. Every
row runs in a process of its own: `plan.build` as a user gets it, the same on one core with a clock in each part, and the bare work,
which is to write all the arrays of the version to new files and take the SHA-256 of each, on two threads, with no check at all.
Kept in benchmarks/results.

`python -m benchmarks.build --growth [N ...]`: builds of 10,000, 25,000 and 50,000 samples, or others, for how time and memory grow.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from benchmarks.harness import keep, machine, moment, root
from benchmarks.words import Words, whole_number

SIDE, EACH, PATCH = 2048, 1000, 64
FULL = 20_000  # Samples of the table that is kept as `build`

# What is timed: the part, and the functions that belong to it, as module and name; a part inside another is taken off it
PARTS = {
    'target maps': ['datasets.staging._targets'],
    'background': ['datasets.staging.local_background'],
    'flags': ['datasets.staging.image_flags'],
    'hashes': ['datasets.staging.pixel_hashes'],
    'cutting': ['datasets.staging._cut_pixels'],
    'writing': ['datasets.shards.ShardWriter.append', 'datasets.shards.ShardWriter.close'],
    'journal': ['datasets.staging.Staging.finish_chunk', 'datasets.staging.Staging.table'],
    'chunks': ['datasets.staging.chunks_of', 'datasets.build.image_order'],
    'headers': ['datasets.staging.header_indexes'],
    'other of cutting': ['datasets.build.write_patches', 'datasets.staging.cut_chunk'],
    'duplicates': ['datasets.build.find_duplicates'],
    'splits': ['datasets.build.assign_splits', 'datasets.build.check_split'],
    'audit': ['datasets.build.audit_splits'],
    'quality': ['datasets.build.check_quality'],
    'normalisation': ['datasets.build.fit_normalisation'],
    'content hash': ['datasets.build.content_hash'],
    'manifest': ['datasets.build.finish_version'],
    'registry': ['datasets.build.publish_version'],
}


# What the archive holds


def exposure(number):
    "One image as an HDU list, and what is on it"
    from astrid_data.simulate.synthetic import synthetic_image

    place = dict(ra=(10 + 2.0 * number) % 360, dec=-60 + number % 120, shape=(SIDE, SIDE))
    name = f'build-{number:04d}'
    return synthetic_image(seed=number, n_stars=EACH // 2, n_cosmic=EACH // 2, name=name, **place)


def write_exposure(number, folder):
    "One image as a file: its path and its truth"
    hdus, truth = exposure(number)
    path = folder / f'{number:04d}.fits'
    hdus.writeto(path)
    return path, truth


def add_exposure(archive, path, truth):
    "Take one image and its truth in"
    asked = dict(detect=False, origin='synthetic', show=False, survey='synthetic-skyview')
    report = archive.add_fits(path, **asked)
    columns = dict(object_id='object_id', class_name='kind', is_real='star', score='score')
    archive.add_catalogue(
        truth.assign(star=truth.kind == 'star', score=0.9),
        'synthetic-truth',
        observations=[report.images.observation_id[0]],
        **columns,
    )


def prepare(folder, n):
    "An archive with at least `n` detections; the cores make images while this process takes them in"
    import astrid_data as ad
    from astrid_data.concurrency import cpu_limit, map_ordered

    archive = ad.open_archive(str(folder / 'archive'))
    images = folder / 'images'
    images.mkdir()
    make = partial(write_exposure, folder=images)
    with ProcessPoolExecutor(cpu_limit(), get_context('spawn')) as pool:
        for path, truth in map_ordered(make, range(-(-n // EACH)), pool):
            add_exposure(archive, path, truth)


def plan_of(folder, n=None):
    "All that the archive holds, or so many samples of it"
    import astrid_data as ad

    archive = ad.open_archive(str(folder / 'archive'))
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=None, max_samples=n, negatives={'rejected': 1.0}
    )
    return ad.TrainingDataCollector(archive).plan(params, progress=False)


# Measuring


def private_of_tree(pid):
    "Memory (MB) that belongs to a process and its children alone"
    total = 0
    try:
        with open(f'/proc/{pid}/status') as file:
            lines = [line.split() for line in file if line.startswith('RssAnon')]
        total += sum(int(words[1]) for words in lines) / 1024
        for task in os.listdir(f'/proc/{pid}/task'):
            with open(f'/proc/{pid}/task/{task}/children') as file:
                total += sum(private_of_tree(int(child)) for child in file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # It has just ended
    return total


class TreePeak:
    "The largest private memory of this process and its children while something runs"

    def __enter__(self):
        self.start = self.mb = private_of_tree(os.getpid())
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.02):
            self.mb = max(self.mb, private_of_tree(os.getpid()))
        self.cpu = time.thread_time()  # Of watching; it is no work of what is watched

    def __exit__(self, *exc):
        self.done.set()
        self.thread.join()


class Clock:
    "Processor seconds of functions by part, those of a part inside another taken off"

    def __init__(self):
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.inside = threading.local()
        for part, places in PARTS.items():
            for place in places:
                self.wrap(part, place)

    def wrap(self, part, place):
        "Replace a function by one that is timed"
        names = place.split('.')
        owner = import_module(f'astrid_data.{names[0]}.{names[1]}')
        for name in names[2:-1]:
            owner = getattr(owner, name)
        function = getattr(owner, names[-1], None)
        if function is not None:  # Later versions may have no such step
            setattr(owner, names[-1], self.timed(part, function))

    def timed(self, part, function):
        def call(*args, **kwargs):
            before = getattr(self.inside, 'seconds', 0.0)
            self.inside.seconds = 0.0
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.thread_time() - start
                self.seconds[part] += took - self.inside.seconds
                self.inside.seconds = before + took

        return call


def cpu_seconds():
    "Of this process and the children that have ended"
    times = os.times()
    return sum(times[:4])


@contextmanager
def one_core(clock):
    "With a clock everything happens here, so that it sees all"
    cores = os.sched_getaffinity(0)
    if clock:
        os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


def built(folder, clock=None, n=None):
    "One build of all, or of `n` samples: its figures"
    plan = plan_of(folder, n)
    how = dict(patch_size=PATCH, progress=False, allow_empty=True)
    with one_core(clock), TreePeak() as peak, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        start, cpu = time.perf_counter(), cpu_seconds()
        dataset = plan.build('whole', **how)
        figures = dict(seconds=time.perf_counter() - start, cpu=cpu_seconds() - cpu)
    figures['cpu'] -= peak.cpu
    table = dataset.samples
    figures |= dict(n=len(table), peak_mb=peak.mb, before_mb=peak.start)
    figures['table_mb'] = float(table.memory_usage(deep=True).sum() / 2**20)
    figures['content_hash'] = dataset.content_hash
    return figures


def bare(folder):
    "Write the arrays of the version that was built to new files, and take their checksums"
    import hashlib
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    files = sorted((folder / 'archive' / 'datasets' / 'whole' / 'v1').glob('*.npy'))
    arrays = [np.load(file, mmap_mode='r').reshape(-1).view('u1') for file in files]
    for array in arrays:
        array.max()  # In memory
    out = folder / 'bare'
    out.mkdir()

    def write(array, path):
        with open(path, 'wb') as file:
            file.write(array.data)
            os.fsync(file.fileno())

    start, cpu = time.perf_counter(), cpu_seconds()
    with ThreadPoolExecutor(2) as pool:
        written = [pool.submit(write, a, out / f.name) for a, f in zip(arrays, files)]
        summed = [pool.submit(lambda a: hashlib.sha256(a).hexdigest(), a) for a in arrays]
        for future in (*written, *summed):
            future.result()
    took = dict(seconds=time.perf_counter() - start, cpu=cpu_seconds() - cpu)
    shutil.rmtree(out)
    return took | dict(bytes=sum(a.nbytes for a in arrays))


# In processes of their own


def in_row(folder, what):
    "One turn of a row: its figures"
    clock = Clock() if what == 'parts' else None
    if what.isdigit():
        return built(folder, n=int(what))
    figures = built(folder, clock)
    if clock:
        rest = figures['cpu'] - sum(clock.seconds.values())
        return figures | dict(parts=clock.seconds | dict(rest=rest))
    return figures | dict(bare=bare(folder))


def turn(folder, what):
    "The same in a new process, on a fresh copy of the registry"
    shutil.rmtree(folder / 'archive', ignore_errors=True)
    shutil.copytree(folder / 'before', folder / 'archive')
    os.sync()
    command = [sys.executable, '-m', 'benchmarks.build', '--row', what, str(folder)]
    answer = subprocess.run(command, cwd=root, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def measured(n, repeats):
    "Figures of all rows"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, n)
        (folder / 'archive').rename(folder / 'before')
        turns = [turn(folder, 'build') for _ in range(repeats)]
        parts = turn(folder, 'parts')
    best = min(turns, key=lambda one: one['seconds'])
    count, per_10k = best['n'], 1e4 / best['n']
    seconds = statistics.median(one['seconds'] for one in turns)
    bare_seconds = statistics.median(one['bare']['seconds'] for one in turns)
    whole = dict(
        name='`plan.build`, everything on',
        rate=count / seconds,
        ratio=statistics.median(one['bare']['seconds'] / one['seconds'] for one in turns),
        peak_mb=best['peak_mb'] - best['before_mb'],
        cpu_s_per_10k=per_10k * statistics.median(one['cpu'] for one in turns),
    )
    bare_work = dict(
        name='writing and hashing the same bytes',
        rate=count / bare_seconds,
        ratio=1.0,
        peak_mb=0.0,
        cpu_s_per_10k=per_10k * best['bare']['cpu'],
    )
    return dict(
        table='build' if n == FULL else f'build_{n}',
        about=f'{count:,} patches of 64 x 64 with flags, target maps, split, audit, duplicates, '
        'quality and registry, beside the same bytes written and hashed by two threads',
        machine=machine(),
        **moment(),
        unit='patches/s',
        repeats=repeats,
        reference=bare_work['name'],
        rows=[whole, bare_work],
        samples_table_mb=best['table_mb'],
        content_hash=best['content_hash'],
        parts_cpu_s_per_10k={k: per_10k * s for k, s in parts['parts'].items()},
    )


GROWTH = 10_000, 25_000, 50_000  # Samples of the builds that are kept as `build_growth`


def grown(sizes):
    "Builds of some sizes from one archive, each in a process of its own"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, max(sizes))
        (folder / 'archive').rename(folder / 'before')
        for size in sizes:
            one = turn(folder, str(size))
            row = dict(name=f'{one["n"]:,} patches', rate=one['n'] / one['seconds'], ratio=None)
            row |= dict(peak_mb=one['peak_mb'] - one['before_mb'], table_mb=one['table_mb'])
            rows.append(row | dict(cpu_s_per_10k=1e4 * one['cpu'] / one['n']))
    return dict(
        table='build_growth',
        about='whole builds of 64 x 64 patches with everything on, of growing size; the table of '
        'samples is part of the memory, and its size stands beside it',
        machine=machine(),
        **moment(),
        unit='patches/s',
        repeats=1,
        reference='',
        rows=rows,
    )


def show(result):
    "The figures as text"
    for name, value in result.items():
        if name == 'parts_cpu_s_per_10k':
            yield 'processor seconds per 10,000 patches, one core:'
            yield from (f'  {part:20}{seconds:8.2f}' for part, seconds in value.items())
        else:
            yield f'{name:24}{value:,.2f}' if isinstance(value, float) else f'{name:24}{value}'


def arguments(words):
    "What is asked for, as it was given after the name"
    asked = Words('benchmarks.build', __doc__)
    asked.add_argument('n', nargs='?', type=whole_number, default=FULL, help='samples')
    asked.add_argument('repeats', nargs='?', type=whole_number, default=1, help='of every row')
    asked.add_argument(
        '--growth', nargs='*', type=whole_number, metavar='N', help='builds of so many'
    )
    asked.add_argument('--row', nargs=2, metavar=('WAY', 'FOLDER'), help=argparse.SUPPRESS)
    return asked.parse_args(words)


def main(words=None):
    asked = arguments(words)
    if asked.row:
        way, folder = asked.row
        print(json.dumps(in_row(Path(folder), way)))
        return
    if asked.growth is not None:
        result = grown(asked.growth or GROWTH)
        is_kept = tuple(asked.growth or GROWTH) == GROWTH
    else:
        result = measured(asked.n, asked.repeats)
        is_kept = asked.n in (FULL, 106_000)
    print(*show(result), sep='\n')
    if is_kept:
        keep(result)


if __name__ == '__main__':
    main()
