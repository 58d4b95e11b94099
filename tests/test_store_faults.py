"Faults of disks, buckets and credentials: noticed, said in words, mended where they can be"

import errno
import gzip
import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
import time
import warnings
from io import BytesIO
from pathlib import Path

import pytest
from copying import copy_registry
from sqlalchemy import select, text
from test_storage import settings_of

import astrid_data as ad
from astrid_data.core import (
    AstridError,
    BadInput,
    DiskFull,
    NotWritable,
    Settings,
    load_settings,
    number_of_bytes,
    write_atomic,
)
from astrid_data.images import opener
from astrid_data.images.far_rows import _checksums
from astrid_data.ingest.archive import IngestReport, ItemGuard
from astrid_data.registry.tables import Image
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.folder import FolderStore, sweep
from astrid_data.storage.keys import BLOCK_BYTES, ObjectChanged, block_checksums
from astrid_data.storage.resolve import open_store
from astrid_data.storage.service import StoreDenied, StoreUnreachable


@pytest.fixture
def bucket(s3, tmp_path, request):
    "A prefix of its own in the test bucket"
    prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    return S3Store('test', prefix, settings_of(s3), DiskCache(tmp_path / 'cache'))


def foreign(bucket, key, data):
    "An object as others write it, without a hash beside it"
    bucket.client.put_object(**bucket._at(key), Body=data)


def before(bucket, operation, call):
    "Call a function before each request of one kind is sent"
    bucket.client.meta.events.register(f'before-send.s3.{operation}', call)


def answer(status, code, message=''):
    "What a service says, as botocore's hook wants it"
    from botocore.awsrequest import AWSResponse
    from urllib3 import HTTPResponse

    body = f'<Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    headers = {'Content-Type': 'application/xml'}
    return AWSResponse(
        'http://s3', status, headers, HTTPResponse(BytesIO(body), preload_content=False)
    )


def without_pauses(monkeypatch):
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)


# One version of an object ---------------------------------------------------------------------------------------------


def test_every_range_is_bound_to_the_version_of_the_first(bucket):
    data = bytes(range(256)) * 40
    foreign(bucket, 'a', data)
    sent = []
    before(bucket, 'GetObject', lambda request, **kw: sent.append(request.headers.get('If-Match')))
    assert bucket.get_range('a', 10, 20) == data[10:20]
    assert bucket.get_range('a', 20, 30) == data[20:30]
    mark = bucket.head('a').etag
    assert bucket.get_ranges('a', [(0, 5), (4000, 4005), (9000, 9005)], gap=0)[2] == data[9000:9005]
    assert sent[0] is None  # The first read: nothing is known yet
    assert [value.decode().strip('"') for value in sent[1:]] == [mark] * 4
    foreign(bucket, 'a', data[::-1])
    with pytest.raises(ObjectChanged, match='was replaced'):
        bucket.get_range('a', 10, 20)
    assert bucket.get_range('a', 10, 20) == data[::-1][10:20]  # A first read again
    with pytest.raises(ObjectChanged):
        bucket.get_range('a', 10, 20, etag=mark)


def test_our_own_writes_change_nothing_unseen(bucket):
    bucket.put('a', b'0123456789')
    assert bucket.get_range('a', 0, 3) == b'012'
    bucket.put('a', b'abcdefghij')
    assert bucket.get_range('a', 0, 3) == b'abc'


@pytest.mark.parametrize('kind', ['folder', 'bucket'])
def test_ranges_of_two_versions_are_never_mixed(kind, tmp_path, request):
    store = FolderStore(tmp_path / 's') if kind == 'folder' else request.getfixturevalue('bucket')
    store.put('a', bytes(4_000_000))
    real, asked = store.get_range, []

    def get_range(*args, **kw):
        with threading.Lock():
            asked.append(args)
            if len(asked) == 2:
                if kind == 'folder':
                    store.put('a', b'\1' * 4_000_000)
                else:
                    foreign(store, 'a', b'\1' * 4_000_000)
        return real(*args, **kw)

    store.get_range = get_range
    with pytest.raises(ObjectChanged):
        store.get_ranges('a', [(n * 500_000, n * 500_000 + 9) for n in range(8)])


def test_a_service_that_does_not_know_the_condition_is_still_seen_through(bucket):
    foreign(bucket, 'a', b'0123456789')
    bucket.get_range('a', 0, 3)
    foreign(bucket, 'a', b'abcdefghij')

    def without(params, **kw):
        params['headers'].pop('If-Match', None)

    bucket.client.meta.events.register('before-call.s3.GetObject', without)
    with pytest.raises(ObjectChanged):
        bucket.get_range('a', 0, 3)


def test_a_copy_is_of_the_version_that_its_name_says(bucket):
    "Replaced between the look at the head and the read"
    foreign(bucket, 'a', b'old')
    other = pickle.loads(pickle.dumps(bucket))
    replacements = [b'new!']

    def replace(**kw):
        if replacements:
            foreign(other, 'a', replacements.pop())

    before(bucket, 'GetObject', replace)
    path = bucket.local_path('a')
    assert path.read_bytes() == b'new!'
    assert path == bucket.cache.path_of(f'{bucket.head("a").etag} {bucket.uri("a")}')


# Files that rot -------------------------------------------------------------------------------------------------------


def flip(path, bit):
    "Flip one bit and leave no trace of it"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize('known', [True, False], ids=['hash known', 'hash unknown'])
def test_any_flipped_bit_in_the_cache_is_found_and_fetched_again(bucket, known):
    data = random.Random(3).randbytes(2 * BLOCK_BYTES + 1234)
    foreign(bucket, 'a', data)
    sha256 = hashlib.sha256(data).hexdigest() if known else None
    path = bucket.local_path('a', sha256)
    for bit in [0, 8 * len(data) - 1, *random.Random(4).sample(range(8 * len(data)), 30)]:
        flip(path, bit)
        another_process = pickle.loads(pickle.dumps(bucket))
        assert another_process.local_path('a', sha256).read_bytes() == data
        assert (another_process.cache.hits, another_process.cache.misses)[
            1
        ] == bucket.cache.misses + 1


def test_a_shortened_file_in_the_cache_is_fetched_again(bucket):
    foreign(bucket, 'a', bytes(1000))
    bucket.local_path('a').write_bytes(bytes(500))
    assert (
        bucket.local_path('a').stat().st_size == 1000
    )  # Another file: seen also by who checked it


def test_checksums_go_with_their_file_and_old_caches_serve(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for name in 'abcdefgh':
        cache.fetch(name, lambda f: f.write(bytes(300)))
    there = [p for p in tmp_path.glob('*/*') if not p.name.startswith('.')]
    beside = list(tmp_path.glob('*/.*.crc'))
    assert len(there) == len(beside) == 3 and cache.used() == 900
    for path in beside:
        path.unlink()
    assert DiskCache(tmp_path, 1000).fetch('h', lambda f: 1 / 0).stat().st_size == 300


def test_the_size_of_the_cache_is_set_where_it_is_opened(tmp_path, monkeypatch):
    where = dict(storage='s3://b', home=tmp_path / 'home', database='sqlite://')
    assert ad.open_archive(**where, settings=Settings()).store.cache.max_bytes == 20 * 10**9
    monkeypatch.setenv('ASTRID_CACHE_BYTES', '3 GB')
    assert ad.open_archive(**where).store.cache.max_bytes == 3 * 10**9
    assert ad.open_archive(**where, cache_bytes='1.5GiB').store.cache.max_bytes == 3 * 2**29
    assert open_store('s3://b', cache_bytes=7).cache.max_bytes == 7
    assert S3Store('b').cache.max_bytes == 3 * 10**9
    for bad in ('much', '-1', '1 XB', '1e', '..'):
        with pytest.raises(BadInput, match='is not a size'):
            number_of_bytes(bad)
    monkeypatch.setenv('ASTRID_CACHE_BYTES', 'much')
    with pytest.raises(BadInput, match='is not a size'):
        ad.open_archive(**where)


# What a service says --------------------------------------------------------------------------------------------------

CREDENTIALS = {
    'ExpiredToken': (400, 'The provided token has expired.', 'get new credentials'),
    'TokenRefreshRequired': (400, 'The provided token must be refreshed.', 'get new credentials'),
    'InvalidToken': (400, 'The provided token is malformed.', 'get new credentials'),
    'RequestExpired': (400, 'Request has expired.', 'get new credentials'),
    'InvalidArgument': (400, 'Credential access key has length 20, should be 32', 'check the key'),
    'AuthorizationHeaderMalformed': (400, 'The header is malformed', 'check the key'),
    'RequestTimeTooSkewed': (403, 'The difference is too large', 'set the clock'),
    'SignatureDoesNotMatch': (403, 'Does not match', 'check the key'),
    'Unauthorized': (401, 'Unauthorized', 'check the key'),
}


@pytest.mark.parametrize('code', CREDENTIALS)
def test_a_matter_of_credentials_says_so(bucket, code, tmp_path):
    status, message, advice = CREDENTIALS[code]
    for operation in ('GetObject', 'PutObject', 'DeleteObject', 'ListObjectsV2'):
        before(bucket, operation, lambda **kw: answer(status, code, message))
    before(bucket, 'HeadObject', lambda **kw: answer(status, ''))  # Heads have no body
    for ask in (
        lambda: bucket.get('k'),
        lambda: bucket.get_range('k', 0, 9),
        lambda: bucket.head('k'),
        lambda: bucket.has('k'),
        lambda: bucket.local_path('k'),
        lambda: bucket.put('k', b'1'),
        lambda: bucket.put('k', b'1', if_absent=True),
        lambda: bucket.delete('k'),
        lambda: list(bucket.list()),
    ):
        with pytest.raises(StoreDenied, match=advice) as e:
            ask()
        assert code in str(e.value) and not isinstance(e.value, ConnectionError)


def test_other_bad_requests_are_no_matter_of_credentials(bucket):
    before(bucket, 'PutObject', lambda **kw: answer(400, 'EntityTooSmall', 'Too small'))
    with pytest.raises(StoreUnreachable):
        bucket.put('k', b'1')


@pytest.mark.parametrize('code', ['ConditionalRequestConflict', 'OperationAborted'])
def test_a_service_that_has_not_made_up_its_mind_is_asked_again(
    bucket, code, monkeypatch, tmp_path
):
    without_pauses(monkeypatch)
    left = [1, 1]
    before(bucket, 'PutObject', lambda **kw: left and (left.pop(), answer(409, code))[1] or None)
    (tmp_path / 'file').write_bytes(b'from a file')
    assert bucket.put('k', tmp_path / 'file', if_absent=True) is True and not left
    assert bucket.get('k') == b'from a file'  # From its beginning
    left += [1, 1]
    assert bucket.put('k', b'other', if_absent=True) is False
    left += [1] * 99
    with pytest.raises(StoreUnreachable, match=f'failed 5 times.*{code}'):
        bucket.put('k', b'other')


def test_a_service_without_conditions_is_asked_before(bucket):
    def refuse(request, **kw):
        sent.append('If-None-Match' in request.headers)
        return answer(501, 'NotImplemented', 'A header you provided') if sent[-1] else None

    sent = []
    before(bucket, 'PutObject', refuse)
    assert bucket.put('k', b'first', if_absent=True) is True
    assert bucket.put('k', b'second', if_absent=True) is False
    assert bucket.put_content(b'x') == bucket.put_content(b'x')
    assert bucket.get('k') == b'first' and sent == [True, False, False]


# Disks ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch):
    "From now on temporary files have no room; the device says so, as a full disk does"
    import builtins
    import tempfile

    real_open, real_file = builtins.open, tempfile.NamedTemporaryFile

    class OnFullDevice:
        def __init__(self, *args, **kw):
            self.name = real_file(*args, **kw).name
            self.file = real_open('/dev/full', 'wb', buffering=0)

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    def open_full(path, mode='r', *args, **kw):
        temporary = 'w' in mode and str(path).rpartition('/')[2].startswith('.tmp-')
        return real_open('/dev/full' if temporary else path, mode, *args, **kw)

    if not Path('/dev/full').exists():
        pytest.skip('no device that is full here')
    monkeypatch.setattr(tempfile, 'NamedTemporaryFile', OnFullDevice)
    monkeypatch.setattr(builtins, 'open', open_full)


def test_a_full_disk_is_said_in_our_words(tmp_path, full, request):
    store = FolderStore(tmp_path / 'store')
    cache = DiskCache(tmp_path / 'cache')
    for write in (
        lambda: store.put('a/b', b'1' * 9999),
        lambda: cache.fetch('x', lambda f: f.write(b'1' * 9999)),
        lambda: write_atomic(tmp_path / 'note', '1' * 9999),
    ):
        with pytest.raises(DiskFull, match='no room for .* make room') as e:
            write()
        assert e.value.errno == errno.ENOSPC and isinstance(e.value, AstridError)
        with pytest.raises(DiskFull), ItemGuard(IngestReport())('a'):  # No fault of the item
            write()
    assert not store.has('a/b') and not [*tmp_path.rglob('*.tmp'), *tmp_path.rglob('.tmp-*')]
    copy = pickle.loads(pickle.dumps(e.value))
    assert (str(copy), copy.errno) == (str(e.value), errno.ENOSPC)


def test_a_real_full_disk(tmp_path, with_mount):
    "A whole archive on a disk of 3 MB, where one can be mounted"
    code = """if True:
        import sys
        import astrid_data as ad
        from astrid_data.core import DiskFull
        archive = ad.open_archive(sys.argv[1])
        try:
            archive.add_sample(show=False)
            archive.store.put('large', bytes(9_000_000))
        except DiskFull as error:
            print('said:', error)
        print('stored', len(list(archive.store.list('large'))))
    """
    (tmp_path / 'disk').mkdir()
    mount = f'mount -t tmpfs -o size=3m none {tmp_path}/disk'
    (tmp_path / 'run.py').write_text(code)
    done = with_mount(mount, sys.executable, tmp_path / 'run.py', tmp_path / 'disk' / 'home')
    assert 'said: no room for' in done.stdout and 'stored 0' in done.stdout, done.stderr[-900:]


def test_what_killed_writers_left_is_swept_when_old(tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path / 'home'))
    archive = ad.open_archive(tmp_path / 'home')
    archive.store.put('observations/1/a.fits', b'1')
    (tmp_path / 'home' / 'datasets' / 'x').mkdir(parents=True)
    places = ['store/observations/1', 'datasets/x', 'store']
    left = [tmp_path / 'home' / place / '.tmp-abc' for place in places]
    young = left[0].with_name('.tmp-young')
    for path in (*left, young):
        path.write_bytes(b'half')
    for path in left:
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    ad.open_archive(tmp_path / 'home')
    assert sum(path.exists() for path in left[:1]) == 1  # Looked at a moment ago
    for mark in (tmp_path / 'home').rglob('.tmp-last-sweep'):
        os.utime(mark, (time.time() - 2 * 86400,) * 2)
    archive = ad.open_archive(tmp_path / 'home')
    assert not any(path.exists() for path in left) and young.exists()
    assert list(archive.store.list()) == ['observations/1/a.fits']
    assert sweep(tmp_path / 'nowhere') == 0
    cache = tmp_path / 'home' / 'cache' / 'ab'
    cache.mkdir(parents=True)
    (cache / '.tmp-dead').touch()
    os.utime(cache / '.tmp-dead', (time.time() - 2 * 86400,) * 2)
    open_store('s3://b', Settings())
    assert not (cache / '.tmp-dead').exists()


READS = """if True:
    import sys
    import astrid_data as ad
    from astrid_data.core import AstridError
    from astrid_data.registry.tables import get_or_create_survey
    archive = ad.open_archive(sys.argv[1])
    print('opened', archive)
    row = archive.observations().iloc[0]
    with archive.open(row.uri) as image:
        print('pixels', image.read_all()[0].shape)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams())
    print('planned', len(plan.samples))
    dataset = ad.open_dataset(archive, 'small')
    print('version', len(dataset), dataset.verify())
    next(iter(ad.RealDataLoader(dataset).loaders(batch_size=4)[0]))
    print('loaded')
    def new_survey():
        with archive.session() as session:
            get_or_create_survey(session, 'another')
    for write in (
        lambda: archive.store.put('x', b'1'),
        new_survey,
        lambda: plan.build('other', patch_size=16),
    ):
        try:
            write()
            print('WRITTEN')
        except PermissionError as error:
            print('refused', isinstance(error, AstridError), error)
"""


@pytest.fixture(scope='module')
def small_home(tmp_path_factory, sample_home):
    "An archive of the sample with a small version"
    home = tmp_path_factory.mktemp('small') / 'home'
    copy_registry(sample_home, home)
    archive = ad.open_archive(home)
    built(archive, 'small')
    archive.registry.close()
    return home


def run_reader(tmp_path, home, before, python=None):
    (tmp_path / 'read.py').write_text(READS)
    command = f'{before} && exec {python or sys.executable} {tmp_path}/read.py {home}'
    env = os.environ | dict(PYTHONDONTWRITEBYTECODE='1', ASTRID_DATA_QUIET='1')
    return subprocess.run(
        ['unshare', '-m', 'sh', '-c', command] if 'mount' in before else ['sh', '-c', command],
        capture_output=True,
        text=True,
        timeout=300,
        env=env,
    )


def check_reader(done):
    words = done.stdout
    for step in ('opened Archive', 'pixels (', 'planned ', 'version ', 'loaded'):
        assert step in words, (words, done.stderr[-1500:])
    assert 'WRITTEN' not in words and words.count('refused True') == 3, words


def test_a_read_only_disk_can_be_read(small_home, tmp_path):
    home = tmp_path / 'home'
    shutil.copytree(small_home, home)
    mount = f'mount --bind {home} {home} && mount -o remount,ro,bind {home}'
    if subprocess.run(['unshare', '-m', 'sh', '-c', mount], capture_output=True).returncode:
        pytest.skip('nothing can be mounted here')
    check_reader(run_reader(tmp_path, home, mount))


def test_an_archive_of_others_can_be_read(small_home, tmp_path):
    "Its files and folders belong to who does not let us write"
    home = tmp_path / 'home'
    shutil.copytree(small_home, home)
    subprocess.run(['chmod', '-R', 'a-w', str(home)], check=True)
    python = sys.executable
    if os.geteuid() == 0:  # Who may do everything is not root of that kind
        if not shutil.which('setpriv'):
            pytest.skip('root may write everywhere, and there is no setpriv')
        python = f'setpriv --bounding-set=-dac_override,-dac_read_search,-fowner {python}'
    try:
        check_reader(run_reader(tmp_path, home, 'true', python))
    finally:
        subprocess.run(['chmod', '-R', 'u+w', str(home)], check=True)


def test_a_writer_at_work_does_not_keep_a_reader_out(small_home, tmp_path):
    "The log of a writer lies beside the database, and the folder is closed to us"
    import sqlite3

    home = tmp_path / 'home'
    shutil.copytree(small_home, home)
    writer = sqlite3.connect(home / 'registry.db')
    writer.execute('PRAGMA journal_mode=WAL')
    writer.execute("UPDATE surveys SET description = 'changed a moment ago'")
    writer.commit()
    assert (home / 'registry.db-wal').stat().st_size
    mount = f'mount --bind {home} {home} && mount -o remount,ro,bind {home}'
    if subprocess.run(['unshare', '-m', 'sh', '-c', mount], capture_output=True).returncode:
        pytest.skip('nothing can be mounted here')
    check_reader(run_reader(tmp_path, home, mount))
    writer.close()


READS_TWICE = """if True:
    import sqlite3, sys
    import astrid_data as ad
    from sqlalchemy import text
    archive = ad.open_archive(sys.argv[1])
    writer = sqlite3.connect(sys.argv[2])
    for word in ('before', 'meanwhile', 'after'):
        writer.execute('UPDATE surveys SET description = ?', [word])
        writer.commit()
        if word == 'after':
            writer.close()  # What was in its log is in the file now
        with archive.session() as session:
            print('read', set(session.scalars(text('SELECT description FROM surveys'))))
"""


def test_a_reader_sees_what_a_writer_does_later(small_home, tmp_path, with_mount):
    "The folder is closed to the reader alone, as that of an archive of others"
    home, window = tmp_path / 'home', tmp_path / 'window'
    shutil.copytree(small_home, home)
    window.mkdir()
    mount = f'mount --bind {home} {window} && mount -o remount,ro,bind {window}'
    (tmp_path / 'read.py').write_text(READS_TWICE)
    done = with_mount(mount, sys.executable, tmp_path / 'read.py', window, home / 'registry.db')
    found = [line for line in done.stdout.splitlines() if line.startswith('read')]
    expected = [f"read {{'{word}'}}" for word in ('before', 'meanwhile', 'after')]
    assert found == expected, done.stderr[-900:]


def test_changes_that_cannot_be_read_are_not_left_out(small_home, tmp_path):
    "The log of a killed writer without its index, in a folder that is closed"
    home = tmp_path / 'home'
    shutil.copytree(small_home, home)
    kill = """if True:
        import os, sqlite3, sys
        writer = sqlite3.connect(sys.argv[1])
        writer.execute("UPDATE surveys SET description = 'changed'")
        writer.commit()
        os._exit(0)
    """
    subprocess.run([sys.executable, '-c', kill, str(home / 'registry.db')], check=True)
    (home / 'registry.db-shm').unlink()
    mount = f'mount --bind {home} {home} && mount -o remount,ro,bind {home}'
    if subprocess.run(['unshare', '-m', 'sh', '-c', mount], capture_output=True).returncode:
        pytest.skip('nothing can be mounted here')
    done = run_reader(tmp_path, home, mount)
    assert 'have its owner open the archive once' in done.stderr, done.stderr[-900:]
    mine = tmp_path / 'mine'  # As the error says
    mine.mkdir()
    for name in ('registry.db', 'registry.db-wal'):
        shutil.copy(home / name, mine)
    with ad.open_archive(mine).session() as session:
        words = set(session.scalars(text('SELECT description FROM surveys')))
    assert words == {'changed'}


def test_a_closed_place_is_said_in_our_words(tmp_path):
    for problem in (errno.EROFS, errno.EACCES, errno.EPERM):
        with pytest.raises(NotWritable, match='can only be read here'):
            from astrid_data.core import writing

            with writing(tmp_path / 'a'):
                raise OSError(problem, 'closed')


# The file .env --------------------------------------------------------------------------------------------------------


def test_a_dotenv_of_any_encoding_lets_an_archive_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = 'CLOUDFLARE_R2_SECRET_ACCESS_KEY=pässwörd\nMLFLOW_EXPERIMENT_NAME=süß\n'
    for encoding in ('latin-1', 'cp1252', 'utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le'):
        mark = b'\xff\xfe' if encoding == 'utf-16-le' else b''
        (tmp_path / '.env').write_bytes(mark + words.encode(encoding))
        ad.open_archive(tmp_path / 'home')
        settings = load_settings({})
        assert settings.s3_secret.reveal() == 'pässwörd' and settings.mlflow_experiment == 'süß'


def test_no_dotenv_whatever_stops_the_settings(tmp_path):
    draw = random.Random(5)
    start = b'MLFLOW_EXPERIMENT_NAME=a\nASTRID_STORAGE_URL="x y"\n'
    for n in range(1500):
        data = bytearray(start if n % 2 else draw.randbytes(draw.randrange(200)))
        for _ in range(draw.randrange(6)):
            data.insert(draw.randrange(len(data) + 1), draw.randrange(256))
        (tmp_path / '.env').write_bytes(data)
        load_settings({}, tmp_path / '.env')
    with pytest.raises(BadInput, match='cannot be read'):
        from astrid_data.core import _dotenv_text

        _dotenv_text(tmp_path)  # A folder


def test_errors_of_a_bucket_cross_processes():
    for error in (ObjectChanged('a'), StoreDenied('b')):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


# Files that change after they were taken in -----------------------------------------------------------------------------


def put_image(archive, tmp_path, place):
    "One real image in an archive: its address there, and a function that changes its bytes"
    sample = Path(ad.__file__).parent / 'sample' / '47tuc_acs_hrc_f606w.fits.gz'
    data = gzip.decompress(sample.read_bytes())
    if place == 'bucket':
        key = 'raw/a.fits'
        archive.store.client.put_object(**archive.store._at(key), Body=data)
        uri = archive.store.uri(key)

        def write(data, keep_time=False):
            archive.store.client.put_object(**archive.store._at(key), Body=data)
            forget(archive.store)

        return uri, data, write
    path = tmp_path / 'a.fits'
    path.write_bytes(data)

    def write(data, keep_time=False):
        status = path.stat()
        path.write_bytes(data)
        if keep_time:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return str(path), data, write


def forget(store):
    "As a new process would"
    for one in (store, *vars(store).get('_buckets', {}).values()):
        one._heads.clear()


def archive_for(place, tmp_path, request, **kw):
    if place != 'bucket':
        return ad.open_archive(tmp_path / 'home', **kw)
    s3 = request.getfixturevalue('s3')
    prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    home = tmp_path / 'home'
    where = dict(database=f'sqlite:///{home}/r.db', storage=f's3://test/{prefix}', home=home)
    return ad.open_archive(**where, settings=settings_of(s3), **kw)


def flipped(data):
    "The last pixels with one bit flipped"
    data = bytearray(data)
    data[len(data) // 2] ^= 1
    return bytes(data)


def some_samples(archive):
    "A plan of a few samples, as their number is not the point here"
    return ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=120))


def built(archive, name):
    return some_samples(archive).build(name, patch_size=16, progress=False, probe=False)


@pytest.mark.parametrize('place', ['folder', 'bucket'])
def test_a_changed_file_is_noticed_and_may_be_taken_in_anew(place, tmp_path, request):
    archive = archive_for(place, tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, place)
    assert archive.add_fits(uri, show=False).added >= 1
    first = built(archive, 'first')
    archive.open(uri).close()
    write(flipped(data))
    with pytest.raises(ad.core.BadImage, match='has other bytes') as e:
        archive.open(uri)
    assert e.value.reason == 'changed'
    archive.open(uri, changed='open').close()
    with pytest.raises(AstridError, match='changed'):  # All of them are lost
        built(archive, 'second')
    again = archive.add_fits(uri, show=False)
    assert set(again.ledger.reason) == {'changed'} and again.added == 0
    again = archive.add_fits(uri, show=False, changed='anew')
    assert again.added == 0 and 'taken in anew' in repr(again), again
    archive.open(uri).close()
    second = built(archive, 'third')
    assert len(second) == len(first)
    assert set(second.samples.image_sha256).isdisjoint(first.samples.image_sha256)
    rebuilt = first.rebuild(progress=False)
    assert len(rebuilt.files) == 1  # Said by a rebuild


def test_a_file_that_is_only_touched_is_the_same(tmp_path, request):
    archive = archive_for('folder', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'folder')
    archive.add_fits(uri, show=False)
    first = built(archive, 'first')
    write(data)
    archive.open(uri).close()
    assert built(archive, 'second').content_hash == first.content_hash


ELSEWHERE = """
import sys
import astrid_data as ad
archive = ad.open_archive(sys.argv[1])
try:
    archive.open(sys.argv[2])
except ad.core.BadImage as problem:
    print(problem.reason)
"""


def test_a_change_whose_time_was_set_back_is_noticed(tmp_path, request):
    archive = archive_for('folder', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'folder')
    archive.add_fits(uri, show=False)
    write(flipped(data), keep_time=True)
    with pytest.raises(ad.core.BadImage, match='has other bytes'):
        archive.open(uri)
    with pytest.raises(AstridError, match='changed'):
        built(archive, 'second')
    command = [sys.executable, '-c', ELSEWHERE, str(archive.home), uri]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == 'changed\n'


def hashes_of(monkeypatch):
    "What is hashed to know whether it is the same"
    read, real = [], opener.sha256_file
    opener._hash_in_state.cache_clear()
    monkeypatch.setattr(opener, 'sha256_file', lambda path: read.append(path) or real(path))
    return read


def test_another_entry_with_the_same_bytes_costs_a_hash_once(tmp_path, request, monkeypatch):
    "As after a copy to another disk"
    archive = archive_for('folder', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'folder')
    archive.add_fits(uri, show=False)
    first, read = built(archive, 'first'), hashes_of(monkeypatch)
    archive.open(uri).close()
    assert not read
    write(data, keep_time=True)
    assert built(archive, 'second').content_hash == first.content_hash
    archive.open(uri).close()
    assert len(read) == 1
    assert archive.add_fits(uri, show=False).skipped == 1  # The mark of now is noted
    opener._hash_in_state.cache_clear()
    read.clear()
    assert built(archive, 'third').content_hash == first.content_hash
    archive.open(uri).close()
    assert not read


def test_an_archive_of_before_knows_size_and_time_alone(tmp_path, request, monkeypatch):
    archive = archive_for('folder', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'folder')
    archive.add_fits(uri, show=False)
    with archive.session() as session:
        for row in session.scalars(select(Image)):
            row.etag = row.etag.rpartition('-')[0]
            index = {k: v for k, v in row.facts['index'].items() if k != 'etag'}
            row.facts = row.facts | dict(index=index)
    read = hashes_of(monkeypatch)
    write(flipped(data), keep_time=True)
    archive.open(uri).close()
    assert not read
    asked = archive_for('folder', tmp_path, request, always_hash=True)
    with pytest.raises(ad.core.BadImage, match='has other bytes'):
        asked.open(uri)
    with pytest.raises(AstridError, match='changed'):
        built(asked, 'second')


def test_a_change_while_a_file_is_taken_in_shows_later(tmp_path, request, monkeypatch):
    "The mark is of before the file was read"
    from astrid_data.ingest import fits as page

    archive = archive_for('folder', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'folder')
    real = page.observation_rows

    def changed_meanwhile(*args):
        write(flipped(data), keep_time=True)
        return real(*args)

    monkeypatch.setattr(page, 'observation_rows', changed_meanwhile)
    archive.add_fits(uri, show=False, detect=False)
    with pytest.raises(ad.core.BadImage, match='has other bytes'):
        archive.open(uri)


def test_a_damaged_object_costs_its_own_samples_only(tmp_path, request):
    archive = archive_for('bucket', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'bucket')
    sample = Path(ad.__file__).parent / 'sample' / 'm13_skyview.fits.gz'
    archive.store.client.put_object(**archive.store._at('raw/b.fits'), Body=sample.read_bytes())
    archive.add_fits([uri, archive.store.uri('raw/b.fits')], show=False)
    params = ad.TrainingDataCollectionParams(
        negatives={'random_sky': 1}, max_samples=400, quality_score_threshold=None
    )
    plan = ad.TrainingDataCollector(archive).plan(params)
    assert plan.samples.image_uri.nunique() == 2
    promised = dict(sha256=hashlib.sha256(data).hexdigest())
    at = archive.store._at('raw/a.fits')
    archive.store.client.put_object(**at, Body=flipped(data), Metadata=promised)
    shutil.rmtree(archive.store.cache.root)  # As on another machine
    forget(archive.store)
    dataset = plan.build('one-left', patch_size=16, progress=False, probe=False)
    lost = dataset.ledger[dataset.ledger.reason == 'damaged']
    assert len(lost) == (plan.samples.image_uri == uri).sum() and len(dataset) > 0


def test_blocks_of_an_image_in_a_bucket_are_checked(tmp_path, request):
    archive = archive_for('bucket', tmp_path, request)
    uri, data, write = put_image(archive, tmp_path, 'bucket')
    archive.add_fits(uri, show=False)
    from sqlalchemy import select

    from astrid_data.registry.tables import Image

    with archive.session() as session:
        facts = session.scalar(select(Image.facts))
    n_bytes, checksums = _checksums(facts['index'])
    assert len(checksums) == -(-len(data) // n_bytes) and n_bytes < BLOCK_BYTES
    assert checksums.tolist() == block_checksums(BytesIO(data), n_bytes)


def test_a_build_that_nobody_went_on_with_is_swept_after_a_week(tmp_path):
    ad.open_archive(tmp_path)
    places = {days: tmp_path / 'datasets' / 'x' / f'.building-{days}' for days in (0, 2, 8, 9)}
    for days, folder in places.items():
        (folder / 'version').mkdir(parents=True)
        (folder / 'version' / 'patches.npy').write_bytes(b'half')
        for path in (folder / 'version' / 'patches.npy', folder / 'version', folder):
            os.utime(path, (time.time() - days * 86400,) * 2)
    os.utime(places[9] / 'version' / 'patches.npy')  # Somebody writes
    sweep(tmp_path / 'datasets', every_s=0)
    assert [days for days, folder in places.items() if folder.exists()] == [0, 2, 9]


@pytest.mark.parametrize(
    'said', [dict(ContentRange='bytes 0-6/*'), {}, dict(ContentRange='bytes 0-6/4000')]
)
def test_a_part_that_was_not_asked_for_is_not_taken(bucket, said):
    "Least of all for the whole object"
    bucket.put('a', b'0123456789' * 400)
    plain, status = bucket.client.get_object, dict(HTTPStatusCode=206)

    def get_object(**asked):
        answer = plain(**asked)
        answer.pop('ContentRange', None)
        meta = answer['ResponseMetadata'] | status
        return (
            answer
            | dict(Body=plain(**asked | dict(Range='bytes=0-6'))['Body'])
            | said
            | dict(ResponseMetadata=meta)
        )

    bucket.client.get_object = get_object
    with pytest.raises(StoreUnreachable, match='does not say which|came unasked'):
        bucket.get_range('a', 10, 17)
    if said.get('ContentRange') != 'bytes 0-6/4000':
        with pytest.raises(StoreUnreachable, match='does not say which'):
            bucket.local_path('a')


def test_many_change_an_object_and_nothing_is_lost(bucket):
    from threading import Barrier, Thread

    stores = [S3Store(bucket.bucket, bucket.prefix, bucket.settings) for _ in range(4)]
    begin = Barrier(len(stores))

    def add(k):
        begin.wait()
        for n in range(3):
            stores[k].update('list', lambda old, line=f'{k}-{n}\n': old + line.encode())

    threads = [Thread(target=add, args=(k,)) for k in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = bucket.get('list').decode().split()
    assert sorted(lines) == sorted(f'{k}-{n}' for k in range(len(stores)) for n in range(3))


def test_an_object_is_changed_also_where_no_conditions_are_known(bucket):
    def refuse(request, **kw):
        sent.append('If-Match' in request.headers)
        return answer(501, 'NotImplemented', 'A header you provided') if sent[-1] else None

    sent = []
    bucket.put('list', b'one\n')
    before(bucket, 'PutObject', refuse)
    with pytest.warns(UserWarning, match='list was written without a condition'):
        bucket.update('list', lambda old: old + b'two\n')
    assert bucket.get('list') == b'one\ntwo\n' and sent == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        bucket.update('list', lambda old: old + b'three\n')  # Said once


def test_a_first_object_is_warned_of_where_no_conditions_are_known(bucket):
    def refuse(request, **kw):
        has_condition = 'If-None-Match' in request.headers
        return answer(501, 'NotImplemented', 'A header you provided') if has_condition else None

    before(bucket, 'PutObject', refuse)
    with pytest.warns(UserWarning, match='Let one machine at a time'):
        bucket.update('list', lambda old: old + b'one\n')
    assert bucket.get('list') == b'one\n'
