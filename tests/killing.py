"""Kill what changes an archive at any moment, do it again, and compare the end with an undisturbed one.

`python tests/killing.py 60` kills 60 times at random moments; `aimed` instead of a number kills once
before each change of a file, each statement, each commit and each request that stores something.
"""

import copy
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

FORK = multiprocessing.get_context('fork')
PATIENCE_S = float(os.environ.get('PATIENCE', 120))  # More on a busy machine


@dataclass(frozen=True)
class Place:
    "Where an archive is"

    home: Path
    url: str
    storage: str | None = None  # None: a folder in `home`
    data: Path | None = None  # Files that are taken in; nobody changes them

    def open(self):
        import astrid_data as ad

        return ad.open_archive(self.url, storage=self.storage, home=self.home)

    @property
    def in_bucket(self):
        return bool(self.storage and self.storage.startswith('s3://'))


# What a child passes on its way -----------------------------------------------------------------


class Points:
    "Counts what changes something outside this process, and kills somebody before number `kill_at` of it"

    def __init__(self, home, kill_at=None, log=None, whom='us'):
        self.home = str(home)
        self.kill_at = kill_at
        self.whom = whom  # 'us', 'worker' (those that read for us), or 'both'
        self.workers = []
        self.passed = []
        self.lock = threading.Lock()
        self.on = False
        self.log = log and os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def at(self, what):
        if not self.on:
            return
        with self.lock:
            self.passed.append(what)
            if len(self.passed) == self.kill_at:
                self.kill()

    def kill(self, *_):
        for worker in self.workers if self.whom != 'us' else ():
            worker.process.kill()
        if self.whom != 'worker':
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(PATIENCE_S)

    def note(self, line):
        if self.log:
            os.write(self.log, line.encode() + b'\n')

    def install(self):
        sys.addaudithook(self._audit)
        self._watch_fsync()
        self._watch_database()
        self._watch_bucket()
        self._watch_workers()

    def _audit(self, event, args):
        if not self.on or event not in _CHANGES:
            return
        if event == 'open':
            path, _, flags = args
            if not (isinstance(flags, int) and flags & _WRITING):
                return
            here = isinstance(path, str) and path.startswith(self.home)
        else:
            names = [str(arg) for arg in args if isinstance(arg, (str, Path))]
            by_descriptor = event in ('os.remove', 'os.rmdir') and args[1] != -1
            here = by_descriptor or any(name.startswith(self.home) for name in names)
        if here:
            self.at(event)

    def _watch_fsync(self):
        plain = os.fsync

        def fsync(descriptor):
            self.at('fsync')
            plain(descriptor)
            state = os.fstat(descriptor)
            self.note(f'{state.st_ino} {state.st_size}')

        os.fsync = fsync

    def _watch_database(self):
        from sqlalchemy import event
        from sqlalchemy.engine import Engine
        from sqlalchemy.engine.default import DefaultDialect

        plain = DefaultDialect.do_commit

        def do_commit(dialect, connection):
            self.at('commit')
            plain(dialect, connection)

        DefaultDialect.do_commit = do_commit

        @event.listens_for(Engine, 'before_cursor_execute')
        def execute(connection, cursor, statement, *rest):
            if re.match(r'\s*(INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)', statement, re.I):
                self.at('statement')

    def _watch_bucket(self):
        from botocore.httpsession import URLLib3Session

        plain = URLLib3Session.send

        def send(session, request):
            if request.method in ('GET', 'HEAD'):
                return plain(session, request)
            self.at('request')
            answer = plain(session, request)
            self.at('answer')
            return answer

        URLLib3Session.send = send

    def _watch_workers(self):
        from astrid_data.images import isolation
        from astrid_data.images.isolation import _Worker

        begin, answered = _Worker._wait_until_ready, _Worker._answer
        isolation.subprocess = Forked

        def _wait_until_ready(worker):
            self.workers.append(worker)
            with open(_pids_of(self.home), 'a') as file:
                print(worker.process.pid, file=file)
            self.at('worker')
            begin(worker)

        def _answer(worker, seconds):
            self.at('worker answers')
            return answered(worker, seconds)

        _Worker._wait_until_ready, _Worker._answer = _wait_until_ready, _answer


class Forked:
    "Stands for `subprocess`: workers are copies of this process, which has all libraries loaded"

    PIPE = DEVNULL = None

    class Popen:
        def __init__(self, command, **how):
            (theirs, ask), (answers, ours) = os.pipe(), os.pipe()
            self.pid, self.returncode = os.fork(), None
            if not self.pid:
                os.setsid()
                os.dup2(theirs, 0)
                os.dup2(ours, 1)
                os.closerange(3, 4096)
                sys.stdin = os.fdopen(0)
                text = command.index('-c') + 1
                sys.argv = ['-c', *command[text + 1 :]]
                exec(command[text])
                os._exit(0)
            os.close(theirs)
            os.close(ours)
            self.stdin, self.stdout = os.fdopen(ask, 'wb'), os.fdopen(answers, 'rb')

        def poll(self):
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

        def kill(self):
            if self.poll() is None:
                os.kill(self.pid, signal.SIGKILL)

        def wait(self):
            while self.poll() is None:
                time.sleep(0.001)
            return self.returncode


_CHANGES = {f'os.{name}' for name in 'rename remove link truncate mkdir rmdir'.split()} | {'open'}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


# Children ---------------------------------------------------------------------------------------


@dataclass
class Ended:
    "What became of a child"

    code: int | None  # 0, or minus the signal
    seconds: float
    result: object = None  # What the function returned, or the text of its error
    passed: list = field(default_factory=list)  # Names of the points
    pid: int = 0

    @property
    def killed(self):
        return self.code != 0


def _child(pipe, function, place, kill_at, log, whom):
    "Run a function, say when it begins, and send what it returned"
    os.setpgid(0, 0)  # Its own children are ended with it, later
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stderr = open(os.devnull, 'w')
    points = Points(place.home, kill_at, log, whom)
    points.install()
    signal.signal(signal.SIGUSR1, points.kill)
    pipe.send('ready')
    pipe.recv()
    points.on = True
    try:
        result, code = function(place), 0
    except BaseException:  # noqa: BLE001 (also what a signal raises)
        result, code = traceback.format_exc(), 1
    points.on = False
    pipe.send((result, points.passed))
    os._exit(code)


class Child:
    "A function in a process of its own"

    def __init__(self, function, place, kill_at=None, log=None, whom='us'):
        self.pipe, other = FORK.Pipe()
        args = other, function, place, kill_at, log, whom
        self.process = FORK.Process(target=_child, args=args)
        self.process.start()
        other.close()
        self.pipe.recv()

    def go(self):
        self.begun = time.monotonic()
        self.pipe.send('go')
        return self

    def kill_after(self, seconds, how=signal.SIGKILL):
        if not self.pipe.poll(max(0, self.begun + seconds - time.monotonic())):
            os.kill(self.process.pid, how)
        return self

    def end(self):
        result, passed = None, []
        while time.monotonic() < self.begun + PATIENCE_S:
            alive = self.process.is_alive()  # Workers that outlive it keep the pipe open
            if self.pipe.poll(0.01):
                try:
                    result, passed = self.pipe.recv()
                except (EOFError, ConnectionResetError):
                    pass
                break
            if not alive:
                break
        else:
            self.process.kill()
            result = 'it hangs'
        seconds = time.monotonic() - self.begun
        self.process.join()
        return Ended(self.process.exitcode, seconds, result, passed, self.process.pid)


def is_running(pid):
    "Whether a process is there, and no corpse"
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def left_behind(place, seconds=10):
    "Processes that read for a killed one and are there after so many seconds, in words"
    noted = _pids_of(place.home)
    pids = noted.read_text().split() if noted.exists() else ()
    end = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return [f'process {pid} was left behind' for pid in pids if is_running(pid)]


def _pids_of(home):
    return Path(f'{home}.workers')


def end_workers(ended):
    "End what a child that was killed has left running"
    for one in ended:
        try:
            os.killpg(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run(function, place, **how):
    return Child(function, place, **how).go().end()


# The state of an archive ------------------------------------------------------------------------

#: Times of the call and what follows from them
_VOLATILE = set(
    'created_at updated_at frozen_at started_at last_used_at usage_count inference_time_ms '
    'mtime_ns etag seal labels_as_of read_at at dateCreated datePublished '
    'starts log message progress'.split()  # Of a job, which may have begun twice
)
_TIME = re.compile(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:?00)?( UTC)?')


def _without_times(value):
    "JSON without what differs from call to call"
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in _VOLATILE}
    if isinstance(value, list):
        return [_without_times(v) for v in value]
    if isinstance(value, str):
        return _TIME.sub('*', value)
    return value


def _cell(name, value):
    if name == 'completed_at':
        return value is not None
    if isinstance(value, uuid.UUID):
        return '*' if value.version == 4 else str(value)
    return _without_times(value) if isinstance(value, (dict, list)) else value


#: What an answer counts is of what was new: a job that was begun twice finds it there
_OF_WHAT_IS_NEW = set('added skipped detections rows verdicts notes missing'.split())


def _job(row):
    "A job's row, apart from whether its first or its second start did the work"
    result = row['result'] or {}
    data = (result.get('answer') or {}).get('data')
    if row['kind'].startswith('ingest') and isinstance(data, dict):
        plain = {k: v for k, v in data.items() if k not in _OF_WHAT_IS_NEW}
        there = data['added'] + data['skipped']
        row['result'] = result | dict(answer=plain | dict(there=there))
    return row


def registry_state(archive):
    "Table -> its rows as text, in order"
    from sqlalchemy import inspect, select

    from astrid_data.registry.tables import Base, schema_version

    state = {}
    with archive.registry.engine.connect() as c:
        state['schema'] = schema_version(c)
        there = set(inspect(c).get_table_names())
        for table in Base.metadata.sorted_tables:
            if table.name == 'ad_files':  # Remembers what need not be read again; no content
                continue
            if table.name not in there:
                state[table.name] = 'missing'
                continue
            rows = c.execute(select(table)).mappings().all()
            plain = [{k: _cell(k, v) for k, v in row.items() if k not in _VOLATILE} for row in rows]
            if table.name == 'ad_ingest_jobs':
                plain = map(_job, plain)
            state[table.name] = sorted(json.dumps(p, sort_keys=True, default=str) for p in plain)
    return state


def _file_state(name, data):
    "What is in a file, apart from times"
    base = name.rpartition('/')[2]
    if base == 'seal.json':
        return sorted(json.loads(data)['files'])
    if base.endswith('.pt'):
        return 'weights'
    if base == 'real_data_manifest.json':  # One object a line
        return [_without_times(json.loads(line)) for line in data.splitlines()]
    if base.endswith('.json'):
        plain = _without_times(json.loads(data))
        if base == 'croissant.json':  # Has checksums of files that have times in them
            plain.pop('distribution', None)
        return json.dumps(plain, sort_keys=True)
    if base.endswith('.md'):
        data = _TIME.sub('*', data.decode()).encode()
        data = re.sub(rb'\d{4}-\d\d-\d\d', b'*', data)
    return hashlib.sha256(data).hexdigest()


#: A run that was killed stays at MLflow beside the one after it, as a run without a decision
_NOT_COUNTED = ('registry.db', 'mlflow', 'tracking/', 'cache/', '.tmp-last-sweep', '.lock')


def _files(place):
    "Name -> content of all files of a home, and of the objects of its bucket"
    for path in sorted(place.home.rglob('*')):
        name = path.relative_to(place.home).as_posix()
        if any(name.startswith(w) or path.name.startswith(w) for w in _NOT_COUNTED):
            continue
        if path.is_file():
            yield name, path.read_bytes()
        elif path.is_dir() and not any(path.iterdir()):
            yield name + '/', b''
    if place.in_bucket:
        store = place.open().store
        for key in store.list(''):
            yield f's3:{key}', store.get(key)


def sweep_all(place):
    "What opening an archive sweeps, as if a day had passed"
    from astrid_data.storage.folder import sweep

    for root in (place.home / name for name in ('datasets', 'store', 'cache', 'downloads')):
        if root.is_dir():
            sweep(root, every_s=0, old_s=-1)


def state_of(place):
    "The registry and the store, and whether versions are whole"
    import astrid_data as ad

    sweep_all(place)
    archive = place.open()
    state = registry_state(archive)
    for name, data in _files(place):
        state[name] = _file_state(name, data)
    if isinstance(state.get('ad_dataset_versions'), list):
        for address in ad.list_datasets(archive)['address']:
            state[f'{address} verified'] = bool(ad.open_dataset(archive, address).verify())
    return state


def by_content(state, place):
    "A state in which stamps are told by their bytes, in whatever packs they lie"
    from astrid_data.storage.packs import stored_bytes

    store = place.open().store

    def hash_of(found):
        return hashlib.sha256(stored_bytes(store, found[0])).hexdigest()

    lists = {name: rows for name, rows in state.items() if isinstance(rows, list)}
    plain = {name: sorted(_stamp.sub(hash_of, row) for row in rows) for name, rows in lists.items()}
    others = {name: one for name, one in state.items() if 'store/cas/' not in name + '/'}
    return others | plain


_stamp = re.compile(r'cas/\w\w/\w{64}/\d+-\d+')


def digest(state):
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()


def differences(found, wanted):
    "Where two states differ, in lines"
    for name in sorted({*found, *wanted}):
        here, there = found.get(name), wanted.get(name)
        if here == there:
            continue
        if isinstance(here, list) and isinstance(there, list):
            more, less = Counter(here) - Counter(there), Counter(there) - Counter(here)
            yield f'{name}: {sum(more.values())} more, {sum(less.values())} fewer'
            yield from (f'  + {one:.300}' for one in list(more)[:1])
            yield from (f'  - {one:.300}' for one in list(less)[:1])
        else:
            yield f'{name}: {str(here):.300} instead of {str(there):.300}'


# What is killed ---------------------------------------------------------------------------------


class Verb:
    "Something that changes an archive"

    wheres = ('sqlite',)  # 'sqlite', 'postgresql', 's3', 'postgresql+s3'
    needs_web = False  # A server of files, beside
    not_compared = ()  # Tables in which a call that was killed rightly leaves its own rows

    def prepare(self, place):
        "What is there before"
        place.open()

    def act(self, place):
        "What is killed; its result counts too"
        raise NotImplementedError

    def state(self, place):
        "What is there after"
        return state_of(place)

    def again(self, place):
        "After a kill: the same, and the state it leads to"
        result = self.act(place)
        return result, self.state(place)


def _told(report):
    "What a report says that does not depend on what was there before"
    return sorted(report.ledger['reason'])


def write_images(folder):
    "Images of one sky by three exposures, and a file with two detectors"
    from astropy.io import fits
    from test_boundaries_confirm import SIDE, Shot, write

    folder.mkdir(parents=True)
    second = Shot(band='r', hours=4.0, shift=(9.3, -7.4), seed=2, name='e2')
    for shot in (Shot(), second):
        write(folder, shot)
    other_camera = dict(INSTRUME='MOS', TELESCOP='T2')
    shot = Shot('z', 6.0, shift=(-11.2, 12.6), seed=4, name='e4', cards=other_camera)
    header, pixels = shot.header(), shot.image()
    half = SIDE // 2
    parts = [fits.PrimaryHDU()]
    for i, part in enumerate((pixels[:half], pixels[half:])):
        h = header.copy()
        h['CRPIX2'] -= i * half
        parts.append(fits.ImageHDU(part, h, name=f'CCD{i + 1}'))
    fits.HDUList(parts).writeto(folder / 'e4.fits')


def write_catalogue():
    "Where the stars are, half of them called good"
    import pandas as pd
    from test_boundaries_confirm import STARS

    ra, dec = STARS
    return pd.DataFrame(
        dict(ra=ra, dec=dec, kind='star', good=np.arange(len(ra)) % 2 == 0, mag=20.0)
    )


class AddFits(Verb):
    wheres = ('sqlite', 'postgresql')
    options = {}

    def act(self, place):
        return _told(place.open().add_fits(place.data, survey='toy', show=False, **self.options))


class AddFitsCopied(AddFits):
    wheres = ('sqlite', 's3')
    options = dict(copy=True)


class AddFitsWithWorkers(AddFits):
    "Files are searched by processes that may outlive the call"

    def act(self, place):
        from astrid_data.concurrency import WorkerProcesses

        with WorkerProcesses(2) as executor:
            options = dict(survey='toy', show=False, executor=executor)
            return _told(place.open().add_fits(place.data, **options))


class AddFound(Verb):
    "Files of others, over TLS: four of an archive, and two that are listed as references"

    wheres = ('sqlite', 'postgresql', 's3')
    needs_web = True

    def found(self):
        from astrid_data.ingest.found import found_table

        size = len(_sky_file('0.fits'))
        files = [
            dict(uri=f'mast:X/{k}.fits', obs_id=f'o{k}', product=f'{k}.fits', size_bytes=size)
            for k in range(4)
        ]
        request = 'skyview:DSS?ra=150.1&dec=2.2&fov_deg=0.1&pixels='
        files += [dict(uri=f'{request}{n}', obs_id=f's{n}', product=f's{n}.fits') for n in (50, 60)]
        return found_table([one | dict(survey='toy') for one in files])

    def act(self, place):
        from astrid_data.ingest import fetch

        url = os.environ['KILLING_WEB']
        name = dict(mast=lambda uri: uri[5:], skyview=lambda uri: uri.rpartition('=')[2] + '.fits')
        fetch._ADDRESS_OF = {
            scheme: lambda uri, f=f: f'{url}/{f(uri)}' for scheme, f in name.items()
        }
        return _told(place.open().add(self.found(), show=False))


def _sky_file(name):
    "What the web has under a name"
    from test_archives import fits_of

    return fits_of(sum(name.encode()))


@contextmanager
def web_of_files(folder):
    "Files over TLS in pieces, which go on where they were cut; its address is in the environment"
    import http.server

    from servers import https_server

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = _sky_file(self.path)
            start = int(self.headers.get('Range', 'bytes=0-')[6:-1])
            self.send_response(206 if start else 200)
            self.send_header('ETag', '"same"')
            if start:
                self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
            self.send_header('Content-Length', str(len(body) - start))
            self.end_headers()
            with suppress(OSError):  # Who asked was killed
                for at in range(start, len(body), 4096):
                    self.wfile.write(body[at : at + 4096])

        def log_message(self, *args):
            pass

    with https_server(Files, folder) as (url, certificate):
        os.environ |= dict(KILLING_WEB=url, SSL_CERT_FILE=str(certificate))
        yield url


class Detect(Verb):
    def prepare(self, place):
        place.open().add_fits(place.data, survey='toy', show=False, detect=False)

    def act(self, place):
        return _told(place.open().detect(show=False))


class JudgeAgain(Verb):
    def prepare(self, place):
        place.open().add_fits(place.data, survey='toy', show=False, apply_rules=False)

    def act(self, place):
        from astrid_data.ingest.labels import judge_again

        return _told(judge_again(place.open()))


class AddCatalogue(Verb):
    wheres = ('sqlite', 'postgresql')

    def prepare(self, place):
        place.open().add_fits(place.data, survey='toy', show=False, detect=False)

    def table(self):
        return write_catalogue()

    def act(self, place):
        names = dict(class_name='kind', is_real='good', mag='mag')
        return _told(place.open().add_catalogue(self.table(), 'truth', **names))


class CorrectCatalogue(AddCatalogue):
    def prepare(self, place):
        super().prepare(place)
        AddCatalogue.act(AddCatalogue(), place)

    def table(self):
        return write_catalogue().assign(mag=21.0).assign(good=lambda t: ~t['good'])


class AddAlerts(Verb):
    wheres = ('sqlite', 'postgresql', 's3')

    def packets(self):
        from test_ingest import packet

        more = [dict(label_proxy=word, label_basis='scores') for word in ('real', 'bogus')]
        return [packet(k) | more[k % 2] for k in range(14)] + [dict(alertId=7)]

    def act(self, place):
        report = place.open().add_alerts(self.packets(), chunk=4, show=False)
        return _told(report)


class AddStamps(Verb):
    "A set of three packs, with verdicts, one stamp that is none, one twice and a table beside"

    wheres = ('sqlite', 'postgresql', 's3')

    def arrays(self):
        rng = np.random.default_rng(3)
        pixels = rng.normal(100, 9, (14, 3, 15, 15)).astype('f4')
        pixels[5], pixels[9] = 0, pixels[2]
        where = dict(ra=10.0 + np.arange(14), dec=np.zeros(14), label=np.arange(14) % 2)
        return dict(images=pixels, object_id=[f'T_{i}' for i in range(14)], **where)

    def prepare(self, place):
        place.open()
        np.savez(place.home.parent / 'set.npz', **self.arrays())

    def act(self, place):
        how = dict(channels=['template', 'science', 'difference'], is_real='label', chunk=4)
        path = place.home.parent / 'set.npz'
        report = place.open().add_stamps(path, 'set', show=False, **how)
        return _told(report), report.added + report.skipped


class AddStampsApart(AddStamps):
    "Three files, read by a process of their own, which may die as well"

    wheres = ('sqlite',)

    def prepare(self, place):
        import h5py
        import pandas as pd

        place.open()
        folder = place.home.parent / 'sets'
        folder.mkdir()
        arrays = self.arrays()
        some = [{name: value[k : k + 4] for name, value in arrays.items()} for k in (0, 4, 8)]
        np.savez(folder / 'a.npz', **some[0])
        with h5py.File(folder / 'b.h5', 'w') as file:
            for name, value in some[1].items():
                file[name] = value
        rows = some[2] | dict(images=[one.tolist() for one in some[2]['images']])
        pd.DataFrame(rows).to_parquet(folder / 'c.parquet')

    def act(self, place):
        how = dict(channels=['template', 'science', 'difference'], is_real='label', chunk=3)
        sets = place.home.parent / 'sets'
        report = place.open().add_stamps(sets, 'set', show=False, isolate=True, **how)
        return _told(report), report.added + report.skipped

    def state(self, place):
        "Where a worker was killed, what it read comes by the next call, and into other packs"
        return by_content(super().state(place), place)


def plan_of(archive, most=None):
    import astrid_data as ad

    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0.0,
        negatives={'rejected': 1.0, 'random_sky': 1.0},
        quality_score_threshold=None,
        **(dict(max_samples=most) if most else {}),
    )
    return ad.TrainingDataCollector(archive).plan(params, progress=False)


def build(archive, most=None, executor=None):
    from astrid_data.datasets import staging

    staging.CHUNK_ROWS = 8  # Many chunks of few rows
    plan = plan_of(archive, most)
    how = dict(patch_size=9, shard_rows=11, progress=False, probe=False, created_by='us')
    dataset = plan.build('sky', executor=executor, **how)
    return dataset.address, dataset.content_hash


class Build(Verb):
    wheres = ('sqlite', 'postgresql', 's3')

    def prepare(self, place):
        archive = place.open()
        archive.add_fits(place.data, survey='toy', show=False, detect=False)
        archive.add_catalogue(write_catalogue(), 'truth', class_name='kind', is_real='good')
        build(archive, 24)

    def act(self, place):
        return build(place.open())


class BuildWithWorkers(Build):
    "Workers are forked while the build holds its lock, and may outlive it"

    wheres = ('sqlite',)

    def act(self, place):
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2, mp_context=FORK) as executor:
            return build(place.open(), executor=executor)


class Publish(Build):
    "A version that was built where the registry does not know it"

    def prepare(self, place):
        from astrid_data.core import NotFound
        from astrid_data.datasets import build as page

        archive = place.open()
        archive.add_fits(place.data, survey='toy', show=False, detect=False)
        archive.add_catalogue(write_catalogue(), 'truth', class_name='kind', is_real='good')
        plain = page.publish_version
        page.publish_version = lambda *a: None
        try:
            build(archive)
        except NotFound:  # The registry does not know it
            page.publish_version = plain

    def act(self, place):
        from astrid_data.datasets.publish import publish_version

        publish_version(place.open(), place.home / 'datasets' / 'sky' / 'v1')


class Pull(Build):
    "A version that is in the bucket comes to a machine that has nothing of it"

    wheres = ('s3',)

    def prepare(self, place):
        super().prepare(place)
        shutil.rmtree(place.home / 'datasets')

    def act(self, place):
        import astrid_data as ad

        return ad.open_dataset(place.open(), 'sky@v1').content_hash


class Delete(Build):
    wheres = ('sqlite', 's3')

    def act(self, place):
        import astrid_data as ad

        ad.delete_dataset(place.open(), 'sky@v1', 'not good', by='us')


class Fit(Build):
    wheres = ('sqlite',)

    def act(self, place):
        import torch

        from astrid_data.datasets.catalog import open_dataset
        from astrid_data.loading.loader import RealDataLoader
        from astrid_data.training.fit import fit
        from astrid_data.training.models import SmallCNN

        torch.set_num_threads(1)
        torch.manual_seed(0)
        dataset = open_dataset(place.open(), 'sky@v1')
        train, *_ = RealDataLoader(dataset).loaders(batch_size=4, allow_leaks=True)
        model = SmallCNN(channels=1)
        how = dict(checkpoint=place.home / 'fit.pt', resume=True, show=False, device='cpu')
        history = fit(model, train, epochs=4, **how)
        weights = hashlib.sha256()
        for name, value in sorted(model.state_dict().items()):
            weights.update(name.encode() + value.numpy().tobytes())
        return weights.hexdigest(), history.epochs['train_loss'].tolist()


class Retrain(Verb):
    "The night after new exposures came: a version, a training, a comparison and a decision"

    wheres = ('sqlite', 'postgresql', 's3')
    not_compared = ('models', 'training_runs', 'ad_split_openings')  # `act` gives the candidates

    def _grown(self, place, n_observations):
        from astrid_data.simulate import synthetic

        plain = synthetic.open_archive
        synthetic.open_archive = lambda _: place.open()
        try:
            return synthetic.synthetic_archive(place.home, n_observations, n_sources=20)
        finally:
            synthetic.open_archive = plain

    def _night(self, place):
        import torch

        from astrid_data.automation.next_model import retrain
        from astrid_data.datasets.catalog import open_dataset
        from astrid_data.training.models import SmallCNN

        torch.set_num_threads(1)
        dataset = open_dataset(place.open(), 'sky')
        how = dict(fit=dict(epochs=2, device='cpu'), track=dict(monitor=False), progress=False)
        return retrain(dataset, network=lambda n: SmallCNN(n, width=4), **how)

    def prepare(self, place):
        build(self._grown(place, 3))
        self._night(place)
        self._grown(place, 5)

    def act(self, place):
        self._night(place)
        return sorted(list_models(place))


def list_models(place):
    "What became of each candidate, without when"
    from astrid_data.automation.promoted import list_candidates

    table = list_candidates(place.open(), 'sky')
    return [(row.dataset, row.version, bool(row.in_use)) for row in table.itertuples()]


class Score(Build):
    "A model over all detections, in pieces"

    wheres = ('sqlite', 'postgresql')

    def prepare(self, place):
        import torch

        from astrid_data.datasets.catalog import open_dataset
        from astrid_data.inference.classifier import classifier_of
        from astrid_data.loading.loader import RealDataLoader
        from astrid_data.training.models import SmallCNN

        super().prepare(place)
        torch.set_num_threads(1)
        torch.manual_seed(0)
        dataset = open_dataset(place.open(), 'sky@v1')
        train, val, _ = RealDataLoader(dataset).loaders(batch_size=4, allow_leaks=True)
        classifier_of(SmallCNN(channels=1, width=4), train, val).save(place.home / 'model')

    def act(self, place):
        import torch

        from astrid_data.inference.load import load_classifier

        torch.set_num_threads(1)
        model = load_classifier(place.home / 'model')
        run = place.open().score(model, chunk=5, show=False)
        return str(run.id), run.scored, run.unscored, run.called_real


class SaveClassifier(Score):
    "A model takes the place of an older one in its folder"

    wheres = ('sqlite',)

    def prepare(self, place):
        from astrid_data.inference.load import load_classifier

        super().prepare(place)
        model = load_classifier(place.home / 'model')
        with_other_weights(model).save(place.home / 'newer')

    def act(self, place):
        from astrid_data.inference.load import load_classifier

        load_classifier(place.home / 'newer').save(place.home / 'model')
        return load_classifier(place.home / 'model').version


def with_other_weights(classifier):
    "A classifier that answers otherwise"
    from copy import deepcopy

    import torch

    from astrid_data.inference.classifier import Classifier

    model = deepcopy(classifier.model)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    return Classifier(model, classifier.facts, classifier.reference)


class Export(Build):
    "A version in the formats of others; each look at test is noted, also of a call that was killed"

    wheres = ('sqlite', 's3')
    not_compared = ('ad_split_openings',)

    def act(self, place):
        import astrid_data as ad

        dataset = ad.open_dataset(place.open(), 'sky@v1')
        for kind in ('parquet', 'webdataset'):
            folder = place.home / kind
            if not folder.exists():  # Else it is there, and whole
                dataset.export(folder, kind)
        return sorted(path.name for path in place.home.glob('*/*') if 'data' in path.name)


def call_command(place, *words):
    "The code that a command ends with"
    import io
    from contextlib import redirect_stdout

    from astrid_data.cli import main

    with redirect_stdout(io.StringIO()):
        return main([*map(str, words), '--home', str(place.home), '--database', place.url])


class Watch(Build):
    "Numbers into a file that another program reads at any moment, and a page beside it"

    wheres = ('sqlite', 'postgresql')

    def act(self, place):
        import astrid_data as ad

        numbers, page = (place.home / 'cache' / name for name in ('watch.prom', 'sky.html'))
        code = call_command(place, 'watch', 'sky', '--prometheus', numbers)
        ad.open_dataset(place.open(), 'sky').report(page)
        lines = numbers.read_text().splitlines()
        assert page.read_text().rstrip().endswith('</html>')
        return code, sorted(line for line in lines if line.startswith('# HELP'))


class Label(Verb):
    "A person's verdicts by the command, each once: who was interrupted looks what is there"

    wheres = ('sqlite', 'postgresql')

    def prepare(self, place):
        AddCatalogue().prepare(place)
        AddCatalogue().act(place)

    def act(self, place):
        from sqlalchemy import select

        from astrid_data.registry.tables import Detection, ValidationEvent

        with place.open().session() as session:
            by_us = ValidationEvent.validator_id == 'us'
            done = set(session.scalars(select(ValidationEvent.detection_id).where(by_us)))
            ids = session.scalars(select(Detection.id).order_by(Detection.ra).limit(6)).all()
        codes = [
            0 if one in done else call_command(place, 'label', one, 'bogus', '--by', 'us')
            for one in ids
        ]
        return codes


class Migrate(Verb):
    "Tables of the release before this one, with something in them"

    wheres = ('sqlite', 'postgresql')

    def prepare(self, place):
        archive = place.open()
        archive.add_alerts(AddAlerts().packets(), show=False)
        with archive.registry.engine.begin() as c:
            c.exec_driver_sql('DROP TABLE ad_split_openings')
            for name in ('ad_version_heads', 'ad_files'):
                c.exec_driver_sql(f'DROP TABLE {name}')
            for name in ('uri', 'sha256'):
                c.exec_driver_sql(f'DROP INDEX ix_ad_images_{name}')
            c.exec_driver_sql("UPDATE ad_alembic_version SET version_num = '0001'")

    def act(self, place):
        from astrid_data.registry.tables import Registry

        Registry(place.url).upgrade()


class MakeTables(Migrate):
    "Tables where there are none, or those of an older system"

    def prepare(self, place):
        from astrid_data.registry.tables import Registry

        if not place.url.startswith('sqlite'):
            old = (Path(__file__).parent / 'old_astrid.sql').read_text()
            with Registry(place.url).engine.begin() as c:
                c.exec_driver_sql(old)


class Serve(Build):
    "A collection over HTTP: the server is killed, and the next one ends the job"

    wheres = ('sqlite', 'postgresql', 'postgresql+s3')

    def prepare(self, place):
        super().prepare(place)
        self.make_key(place)

    def make_key(self, place):
        from astrid_data.api import create_api_key

        key = create_api_key(place.open(), 'us', ['read:data', 'manage:operations'])
        (place.home / 'cache').mkdir(exist_ok=True)
        (place.home / 'cache' / 'key').write_text(key)

    def act(self, place):
        import uvicorn
        from servers import free_port

        from astrid_data.api import create_app
        from astrid_data.datasets import staging

        staging.CHUNK_ROWS = 8
        port = free_port()
        app = create_app(place.open(), allowed=self.allowed(place), beat_s=0.05)
        options = dict(host='127.0.0.1', port=port, log_level='critical')
        server = uvicorn.Server(uvicorn.Config(app, **options))
        serving = threading.Thread(target=server.run)
        serving.start()
        while not server.started:
            time.sleep(0.01)
        answer = self.ask(place, port)
        server.should_exit = True
        serving.join()
        return answer

    def allowed(self, place):
        return [str(place.data)]

    def ask(self, place, port):
        return _post(place, port)


class ServeExport(Serve):
    "A version is fetched over HTTP, test and all: the look at test is noted, each time it is asked"

    wheres = ('sqlite', 'postgresql')
    not_compared = ('ad_split_openings',)

    def ask(self, place, port):
        import io
        import zipfile

        import astrid_data as ad

        id = ad.open_dataset(place.open(), 'sky@v1').id
        path = f'training/datasets/{id}/export?kind=parquet&purpose=paper'
        with zipfile.ZipFile(io.BytesIO(_get(place, port, path))) as came:
            members = {name: came.read(name) for name in sorted(came.namelist())}
        return {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}


class ServeKeys(Serve):
    "Somebody's key is ended over HTTP"

    wheres = ('sqlite', 'postgresql')

    def prepare(self, place):
        from astrid_data.api import create_api_key

        super().prepare(place)
        archive = place.open()
        create_api_key(archive, 'left', ['read:data'])
        (place.home / 'cache' / 'key').write_text(create_api_key(archive, 'we', ['manage:keys']))

    def ask(self, place, port):
        keys = json.loads(_get(place, port, 'keys'))['data']
        id = next(one['id'] for one in keys if one['name'] == 'left')
        return json.loads(_get(place, port, f'keys/{id}', 'DELETE'))['data']['is_active']


class ServeVerdicts(Serve):
    "Verdicts over HTTP, one and many: who was interrupted looks what is there, and it is all or none"

    wheres = ('sqlite', 'postgresql', 'postgresql+s3')

    def prepare(self, place):
        AddCatalogue().prepare(place)
        AddCatalogue().act(place)
        self.make_key(place)

    def ask(self, place, port):
        rows = json.loads(_get(place, port, 'detections?limit=1000'))['data']
        ids = [row['id'] for row in sorted(rows, key=lambda row: (row['ra'], row['dec']))[:8]]
        for id in ids[:3]:
            if not self._ours(place, port, id):
                _send(place, port, f'detections/{id}/events', dict(is_valid='bogus', notes='x'))
        there = [self._ours(place, port, id) for id in ids[3:]]
        assert len(set(there)) == 1, f'some of many are there: {there}'
        if not there[0]:
            events = [dict(detection_id=id, is_valid='real', label='star') for id in ids[3:]]
            _send(place, port, 'events', dict(events=events))
        return [self._ours(place, port, id) for id in ids]

    def _ours(self, place, port, id):
        events = json.loads(_get(place, port, f'detections/{id}/events'))['data']
        return sum(event['validator_id'] == 'us' for event in events)


class ServeIngest(Serve):
    "An image around a place, one at an address and one in the body: three jobs at once"

    wheres = ('sqlite', 'postgresql', 'postgresql+s3')
    needs_web = True

    def prepare(self, place):
        place.open()
        self.make_key(place)

    def act(self, place):
        from astrid_data.ingest import fetch

        url = os.environ['KILLING_WEB']
        fetch._ADDRESS_OF = {'skyview': lambda uri: f'{url}/50.fits'}
        return super().act(place)

    def allowed(self, place):
        return [*super().allowed(place), os.environ['KILLING_WEB']]

    def ask(self, place, port):
        first, second = sorted(place.data.glob('*.fits'))[:2]
        around = dict(ra=150.1, dec=2.2, survey='DSS', fov_deg=0.1, pixels=50)
        named = dict(address=str(first), survey='toy')
        asked = [
            ('position', json.dumps(around).encode(), {}),
            ('address', json.dumps(named).encode(), {'Idempotency-Key': 'one'}),
            (f'upload?name={second.name}', second.read_bytes(), {'Idempotency-Key': 'two'}),
        ]
        answers = []
        for path, body, more in asked:
            more = more | {'Prefer': 'respond-async'}
            answers.append(_send(place, port, f'observations/ingest/{path}', body, more))
        return [self._told(place, port, one) for one in answers]

    def _told(self, place, port, data):
        "What came of one, begun just now or long done; it may have been there when it began again"
        if 'job_id' in data:
            data = _ended(place, port, data['job_id'])['answer']['data']
        return data['ledger'], data['added'] + data['skipped']


class ServeScore(Serve):
    "A model scores a version over HTTP, as a job; one whose server was killed is done as well"

    wheres = ('sqlite', 'postgresql')

    def prepare(self, place):
        import astrid_data as ad
        from astrid_data.automation.promoted import Decision, record_candidate
        from astrid_data.inference.load import load_classifier

        Score().prepare(place)
        archive = place.open()
        model = load_classifier(place.home / 'model')
        record_candidate(archive, model, ad.open_dataset(archive, 'sky@v1'), Decision(True, 'x'))
        self.make_key(place)

    def ask(self, place, port):
        models = json.loads(_get(place, port, 'models'))['data']
        id = next(one['id'] for one in models if one['training_dataset'])
        wanted = {'Prefer': 'respond-async', 'Idempotency-Key': 'three'}
        data = _send(place, port, f'models/{id}/score', dict(dataset='sky@v1'), wanted)
        if 'job_id' in data:  # Else it was done before
            data = _ended(place, port, data['job_id'])['answer']['data']
        return [row['score'] for row in data]


def _send(place, port, path, body, more=()):
    "The data of an answer to a POST; a dict is sent as JSON"
    import urllib.request

    headers = {'X-API-Key': (place.home / 'cache' / 'key').read_text(), **dict(more)}
    is_raw = isinstance(body, bytes) and 'upload' in path
    headers['Content-Type'] = 'application/octet-stream' if is_raw else 'application/json'
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f'http://127.0.0.1:{port}/{path}', data, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())['data']


def _ended(place, port, id):
    "A job when it has ended"
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        job = json.loads(_get(place, port, f'jobs/{id}'))['data']
        if job['status'] not in ('queued', 'running'):
            return job
        time.sleep(0.05)
    raise TimeoutError(id)


def _get(place, port, path, method='GET'):
    "The body of an answer"
    import urllib.request

    key = (place.home / 'cache' / 'key').read_text()
    address = f'http://127.0.0.1:{port}/{path}'
    request = urllib.request.Request(address, headers={'X-API-Key': key}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read()


def _post(place, port):
    import urllib.request

    body = dict(name='sky', survey_ids=['toy'], confidence_threshold=0, patch_size=9)
    body |= dict(quality_score_threshold=0, max_samples=10, allow_empty=True)
    request = urllib.request.Request(
        f'http://127.0.0.1:{port}/training/datasets/collect',
        json.dumps(body).encode(),
        {
            'X-API-Key': (place.home / 'cache' / 'key').read_text(),
            'Idempotency-Key': 'the same',  # What a killed server left is asked for again
        },
    )
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            data = json.loads(answer.read())['data']
        if answer.status == 200:
            return data['dataset_id'], data['total_samples']
        time.sleep(0.05)
    return data


VERBS = {
    'add_fits': AddFits(),
    'add_fits copy=True': AddFitsCopied(),
    'add_fits, workers': AddFitsWithWorkers(),
    'archive.add(found)': AddFound(),
    'detect': Detect(),
    'judge_again': JudgeAgain(),
    'add_catalogue': AddCatalogue(),
    'add_catalogue, corrected': CorrectCatalogue(),
    'add_alerts': AddAlerts(),
    'add_stamps': AddStamps(),
    'add_stamps, isolated': AddStampsApart(),
    'plan.build': Build(),
    'plan.build, workers': BuildWithWorkers(),
    'publish': Publish(),
    'open from a bucket': Pull(),
    'delete_dataset': Delete(),
    'fit(resume=True)': Fit(),
    'retrain': Retrain(),
    'archive.score': Score(),
    'classifier.save': SaveClassifier(),
    'export': Export(),
    'watch': Watch(),
    'label': Label(),
    'upgrade': Migrate(),
    'create': MakeTables(),
    'REST collect': Serve(),
    'REST export': ServeExport(),
    'REST keys': ServeKeys(),
    'REST verdicts': ServeVerdicts(),
    'REST ingest': ServeIngest(),
    'REST score': ServeScore(),
}


# Undisturbed, and disturbed ---------------------------------------------------------------------


def _and_close(function, place):
    "Call, and write what SQLite keeps in its log into the database"
    import sqlite3

    function(place)
    if (place.home / 'registry.db').exists():
        with sqlite3.connect(place.home / 'registry.db') as c:
            c.execute('PRAGMA wal_checkpoint(TRUNCATE)')


class Case:
    "A verb at a place: what is there before, and what it comes to when nobody disturbs it"

    def __init__(self, name, where, folder, servers=None, check_again=True):
        self.name, self.where, self.servers = name, where, servers
        self.verb = VERBS[name]
        self.folder = folder / re.sub(r'\W+', '-', f'{name}-{where}')
        self.folder.mkdir(parents=True)
        self.n = 0
        self.data = folder / 'images'
        self.origin = self._place('origin')
        if not self.data.exists():
            self._must(run(lambda place: write_images(self.data), self.origin))
        self._make_database(self.origin)
        self._must(run(lambda place: _and_close(self.verb.prepare, place), self.origin))
        place = self.fresh()
        ended = self._must(run(self.verb.act, place))
        self.seconds, self.points, self.result = ended.seconds, ended.passed, ended.result
        self.wanted = self._compared(self._must(run(self.verb.state, place)).result)
        faults = self.faults(place) if check_again else []
        assert not faults, ('a second call, after none was killed', faults)

    def __repr__(self):
        return f'{self.name} ({self.where}): {self.seconds:.2f} s, {len(self.points)} points'

    def _compared(self, state):
        return {name: one for name, one in state.items() if name not in self.verb.not_compared}

    def _must(self, ended):
        assert not ended.killed, f'{self.name}: {ended.result}'
        return ended

    def _place(self, name):
        home = self.folder / name
        url = f'sqlite:///{home / "registry.db"}'
        if 'postgresql' in self.where:
            url = self.servers.postgres.url(self._database(name))
        storage = f's3://test/open/{self.folder.name}/{name}' if 's3' in self.where else None
        return Place(home, url, storage, self.data)

    def _database(self, name):
        "Other test modules, with folders of their own, share the server"
        whose = f'{crc32(str(self.folder).encode()):08x}'
        return re.sub(r'\W', '_', f'k_{whose}_{self.folder.name}_{name}').lower()

    def _make_database(self, place, template='template0'):
        if 'postgresql' in self.where:
            with self.servers.postgres.connect() as c:
                name = self._database(place.home.name)
                c.execute(f'CREATE DATABASE {name} TEMPLATE {template}')

    def fresh(self):
        "A copy of what was there before"
        self.n += 1
        place = self._place(f'n{self.n}')
        if self.origin.home.exists():
            shutil.copytree(self.origin.home, place.home)
        else:
            place.home.mkdir()
        self._make_database(place, self._database('origin'))
        if 's3' in self.where:
            self._copy_bucket(place)
        return place

    def _copy_bucket(self, place):
        client = self.servers.s3.client()
        start = f'open/{self.folder.name}/origin/'
        listed = client.list_objects_v2(Bucket='test', Prefix=start).get('Contents', [])
        for one in listed:
            source = dict(Bucket='test', Key=one['Key'])
            key = f'open/{self.folder.name}/{place.home.name}/' + one['Key'][len(start) :]
            client.copy_object(Bucket='test', Key=key, CopySource=source)

    def drop(self, place):
        shutil.rmtree(place.home, ignore_errors=True)
        if 'postgresql' in self.where:
            with self.servers.postgres.connect() as c:
                c.execute(f'DROP DATABASE {self._database(place.home.name)} WITH (FORCE)')

    def with_verb(self, name):
        "The same case, come to by another verb that ends alike"
        other = copy.copy(self)
        other.verb = VERBS[name]
        return other

    def faults(self, place):
        "Call the verb once more; how the result and the state then differ from undisturbed ones"
        ended = run(self.verb.again, place)
        if ended.killed:
            return [f'the call after it failed: {str(ended.result)[-1500:]}']
        result, state = ended.result
        state = self._compared(state)
        found = list(differences(state, self.wanted))
        if result != self.result:
            found.append(f'the result is {result!r:.300} instead of {self.result!r:.300}')
        if not found:
            assert digest(state) == digest(self.wanted)
            self.drop(place)
        return found

    def killed_at(self, *points, whom='us'):
        "Kill one call after the other, each before a point of its way; then faults as above"
        place = self.fresh()
        ended = [run(self.verb.act, place, kill_at=k, whom=whom) for k in points]
        faults = self.faults(place)
        end_workers(ended)
        return faults + left_behind(place)

    def killed_after(self, *moments, how=signal.SIGKILL, whom='us'):
        "The same by seconds; SIGUSR1 kills whom it is told to"
        place = self.fresh()
        ended = []
        for seconds in moments:
            child = Child(self.verb.act, place, whom=whom).go()
            ended.append(child.kill_after(seconds, how).end())
        faults = self.faults(place)
        return [one.code for one in ended], faults + left_behind(place)

    def power_cut(self, k, database_too):
        "Kill before a point, and lose what was not waited for until it was on the disk"
        place = self.fresh()
        log = self.folder / f'{place.home.name}.log'
        before = {p: p.stat().st_ino for p in place.home.rglob('*') if p.is_file()}
        run(self.verb.act, place, kill_at=k, log=log)
        lose_unsynced(place, set(before.values()), log)
        if database_too:
            for name in ('registry.db-wal', 'registry.db-shm'):
                (place.home / name).unlink(missing_ok=True)
        return self.faults(place)

    def two_at_once(self, k=None):
        "Two processes do the same at the same time; one is killed before a point, or none"
        place = self.fresh()
        both = [Child(self.verb.act, place, kill_at=k), Child(self.verb.act, place)]
        for one in both:
            one.go()
        ended = [one.end() for one in both]
        problems = [
            f'beside another: {str(one.result)[-1500:]}'
            for one in ended[k is not None :]
            if one.code == 1 and 'Conflict' not in str(one.result)
        ]
        for one in ended[k is not None :]:
            if one.code == 0 and one.result != self.result:
                problems.append(f'beside another the result is {one.result!r:.300}')
        return problems + self.faults(place)


def lose_unsynced(place, known, log):
    "Cut files to what was synchronised of them; known ones and databases are left alone"
    synced = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        inode, size = map(int, line.split())
        synced[inode] = size
    for path in place.home.rglob('*'):
        if not path.is_file() or path.name.startswith(('registry.db', '.lock', 'mlflow.db')):
            continue
        state = path.stat()
        if state.st_ino in known and state.st_ino not in synced:
            continue
        if synced.get(state.st_ino, 0) < state.st_size:
            os.truncate(path, synced.get(state.st_ino, 0))


# From a shell -----------------------------------------------------------------------------------


def load_all():
    "Import here what children would each import for themselves"
    import importlib

    names = 'alembic.command boto3 mlflow photutils torch torch._dynamo uvicorn'
    names += ' test_boundaries_confirm test_ingest'
    ours = 'api datasets.build datasets.publish training.fit training.models loading.loader'
    for name in [*names.split(), *(f'astrid_data.{one}' for one in ours.split())]:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:  # Libraries import more when they are first used
        home = Path(folder) / 'home'
        place = Place(home, f'sqlite:///{home / "registry.db"}', data=Path(folder) / 'images')
        write_images(place.data)
        for name in ('add_alerts', 'add_fits', 'add_catalogue', 'plan.build'):
            VERBS[name].act(place)
        state_of(place)
        place.open().registry.close()


def load_tracking():
    "The same for what tracks runs, which takes long"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / 'home'
        place = Place(home, f'sqlite:///{home / "registry.db"}')
        VERBS['retrain'].prepare(place)
        place.open().registry.close()


@dataclass
class Servers:
    "The servers that a run of all needs"

    postgres: object = None
    s3: object = None
    web: str | None = None  # Address of `web_of_files`


def cases(folder, servers, names=None):
    "Every verb at every place whose server is there"
    for name, verb in VERBS.items():
        for where in verb.wheres:
            lacks = (
                ('postgresql' in where and not servers.postgres)
                or ('s3' in where and not servers.s3)
                or (verb.needs_web and not servers.web)
            )
            if not lacks and (names is None or name in names):
                yield Case(name, where, folder, servers)


class Tally:
    "How many kills came out how"

    def __init__(self):
        self.kills, self.faults = Counter(), []

    def add(self, case, what, faults, where=''):
        self.kills[case.name, case.where, what] += 1
        if faults:
            faults = [where, *faults]
            self.faults.append((case.name, case.where, what, faults))
            print(
                f'  FAULT {case.name} ({case.where}), {what}:',
                *faults[:6],
                sep='\n    ',
                flush=True,
            )

    def table(self):
        for key, n in sorted(self.kills.items()):
            bad = sum(fault[:3] == key for fault in self.faults)
            print(f'{n:5d} {", ".join(key)}: {bad or "no"} faults')
        print(f'{self.kills.total()} in all, {len(self.faults)} with another end')


def random_kill(case, rng, tally):
    "A kill at a moment that is drawn from the time that the verb takes, sometimes two; how many"
    how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    moments = rng.uniform(0, case.seconds, 1 + int(rng.random() < 0.3))
    codes, faults = case.killed_after(*moments, how=signal.Signals(how))
    words = signal.Signals(how).name + (', and the rerun' if len(codes) > 1 else '')
    if not any(codes):  # The machine is faster than it was
        case.seconds *= 0.8
        words = 'too late to be killed'
    tally.add(case, words, faults)
    return sum(map(bool, codes))


def every_kill(case, tally, step=1, kinds=('kill', 'cut', 'two')):
    "A kill before each point, or each `step`-th"
    for k in range(1, len(case.points) + 1, step):
        point = f'before {case.points[k - 1]}, point {k}'
        if 'kill' in kinds:
            tally.add(case, 'each point', case.killed_at(k), point)
        if 'cut' in kinds and 'postgresql' not in case.where:
            tally.add(case, 'power cut', case.power_cut(k, database_too=k % 2 == 0), point)
        if 'two' in kinds and k % 5 == 1:
            tally.add(case, 'two at once', case.two_at_once(k if k % 10 == 1 else None), point)
    if 'cut' in kinds and 'postgresql' not in case.where:
        tally.add(case, 'power cut', case.power_cut(None, database_too=True), 'at the end')


def main(what='60', *names):
    import warnings

    from servers import NoServer, postgres_server, s3_server

    warnings.filterwarnings('ignore')
    load_all()
    seed = int(os.environ.get('SEED', 20261128))
    rng, tally, servers = np.random.default_rng(seed), Tally(), Servers()
    step = int(os.environ.get('STEP', 1))
    kinds = os.environ.get('KINDS', 'kill cut two').split()
    wheres = os.environ.get('WHERE', 'sqlite postgresql s3 postgresql+s3').split()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='killing-')))
        for where, field_name, server in (
            ('postgresql', 'postgres', postgres_server),
            ('s3', 's3', s3_server),
        ):
            try:
                if where in ' '.join(wheres):
                    setattr(servers, field_name, stack.enter_context(server()))
            except NoServer as e:
                print(e)
        (folder / 'tls').mkdir()
        try:
            servers.web = stack.enter_context(web_of_files(folder / 'tls'))
        except NoServer as e:
            print(e)
        if servers.s3:
            key = dict(ID=servers.s3.key, ACCESS=servers.s3.secret)
            os.environ |= dict(AWS_ACCESS_KEY_ID=key['ID'], AWS_SECRET_ACCESS_KEY=key['ACCESS'])
            os.environ['AWS_ENDPOINT_URL_S3'] = servers.s3.endpoint
        found = []
        if not names or 'retrain' in names:
            load_tracking()
        for case in cases(folder, servers, names or None):
            if case.where not in wheres:
                continue
            print(case, flush=True)
            found.append(case)
            if what == 'aimed':
                every_kill(case, tally, step, kinds)
        if what != 'aimed':
            kills = 0
            for case in itertools.cycle(found):
                kills += random_kill(case, rng, tally)
                if kills >= int(what):
                    break
            print(f'{kills} calls were killed')
        tally.table()
    return len(tally.faults)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parent))
    sys.modules['killing'] = sys.modules['__main__']
    sys.exit(min(main(*sys.argv[1:]), 1))
