"Storage: folder and bucket answer alike, nothing is half written, nothing leaves the store"

import hashlib
import http.server
import multiprocessing
import os
import pickle
import ssl
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid_data.core import AstridError, BadInput, NotFound, Secret, Settings, merge_ranges
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.folder import FolderStore
from astrid_data.storage.resolve import open_store, resolve_uri
from astrid_data.storage.service import StoreDenied, StoreUnreachable, retry
from astrid_data.storage.trees import pull_tree, push_tree


def settings_of(s3, **kw):
    return Settings(
        **dict(s3_endpoint=s3.endpoint, s3_key_id=Secret(s3.key), s3_secret=Secret(s3.secret)) | kw
    )


@pytest.fixture
def bucket(s3, tmp_path, request):
    "A prefix of its own in the test bucket"
    return S3Store(
        'test',
        f'p-{abs(hash(request.node.nodeid))}',
        settings_of(s3),
        DiskCache(tmp_path / 'cache'),
        fresh_s=0,
    )


@pytest.fixture(params=['folder', 'bucket'])
def store(request, tmp_path):
    return (
        FolderStore(tmp_path / 'store')
        if request.param == 'folder'
        else request.getfixturevalue('bucket')
    )


def test_both_kinds_answer_alike(store, tmp_path):
    data = bytes(range(256)) * 40
    assert store.put('a/b/image.fits', data) is True
    assert store.get('a/b/image.fits') == data
    assert store.get_range('a/b/image.fits', 10, 20) == data[10:20]
    assert store.get_range('a/b/image.fits', len(data) - 3, len(data) + 9) == data[-3:]
    assert store.get_range('a/b/image.fits', len(data) + 5, len(data) + 9) == b''
    assert store.get_range('a/b/image.fits', 5, 5) == b''
    assert (
        store.head('a/b/image.fits').size == len(data)
        and store.head('a/b/image.fits').mtime > 1.7e9
    )
    assert store.has('a/b/image.fits') and not store.has('a/b')
    assert (
        store.put('a/b/image.fits', b'later', if_absent=True) is False
        and store.get('a/b/image.fits') == data
    )
    (tmp_path / 'f.bin').write_bytes(b'from a file')
    assert store.put('a/c.bin', tmp_path / 'f.bin') and store.get('a/c.bin') == b'from a file'
    assert store.put('new', tmp_path / 'f.bin', if_absent=True) is True
    assert list(store.list('a/')) == ['a/b/image.fits', 'a/c.bin'] and list(
        store.list('a/b/im')
    ) == ['a/b/image.fits']
    assert store.local_path('a/c.bin').read_bytes() == b'from a file'
    store.delete('a/c.bin')
    store.delete('a/c.bin')
    for ask in (store.get, store.head, store.local_path, lambda k: store.get_range(k, 0, 1)):
        with pytest.raises(NotFound):
            ask('a/c.bin')


def test_etag_changes_with_the_object(store):
    store.put('x', b'one')
    a = store.head('x').etag
    store.put('x', b'two!')
    assert store.head('x').etag != a
    assert store.local_path('x').read_bytes() == b'two!'


@pytest.mark.parametrize(
    'key', ['../x', '/x', 'a/../x', 'a//b', '', '.', 'a/./b', 'a\\b', 'C:/x', 'a/']
)
def test_keys_stay_inside(store, key):
    for ask in (
        store.get,
        store.head,
        store.delete,
        store.uri,
        store.local_path,
        lambda k: store.put(k, b''),
        lambda k: store.get_range(k, 0, 1),
    ):
        with pytest.raises(BadInput):
            ask(key)


def test_a_link_does_not_lead_out(tmp_path):
    (tmp_path / 'secret').write_text('s')
    store = FolderStore(tmp_path / 'store')
    (store.root / 'out').symlink_to(tmp_path)
    with pytest.raises(BadInput):
        store.get('out/secret')


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), min_size=1, max_size=12),
    st.integers(0, 50),
)
def test_ranges_match_slices(tmp_path_factory, spans, gap):
    data = hashlib.sha256(b'x').digest() * 20
    store = FolderStore(tmp_path_factory.mktemp('r'))
    store.put('k', data)
    ranges = [(a, a + n) for a, n in spans]
    assert store.get_ranges('k', ranges, gap=gap) == [data[a:b] for a, b in ranges]
    merged = merge_ranges(ranges, gap)
    assert all(a2 > b1 + gap for (_, b1), (a2, _) in zip(merged, merged[1:]))


def test_content_is_checked(store):
    key = store.put_content(b'bytes of an image')
    assert (
        key
        == 'cas/'
        + hashlib.sha256(b'bytes of an image').hexdigest()[:2]
        + '/'
        + hashlib.sha256(b'bytes of an image').hexdigest()
    )
    assert store.get(key) == b'bytes of an image'
    store.put(key, b'bytes of an imagf')
    with pytest.raises(AstridError, match='damaged'):
        store.get(key)
    with pytest.raises(AstridError, match='damaged'):
        store.local_path(key, sha256=key[-64:])


def test_a_failed_write_leaves_nothing(tmp_path):
    store = FolderStore(tmp_path / 's')
    store.put('k', b'old')
    with pytest.raises(FileNotFoundError):
        store.put('k', tmp_path / 'absent')
    with pytest.raises(TypeError):
        store.put('k', object())
    assert (
        store.get('k') == b'old'
        and list(store.list()) == ['k']
        and len(list(store.root.iterdir())) == 1
    )


def test_one_of_many_writers_wins(store):
    won = []
    threads = [
        threading.Thread(
            target=lambda i=i: won.append(store.put('claim', str(i).encode(), if_absent=True))
        )
        for i in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(won) == 1


# --- the bucket ---


def test_wrong_secret_is_denied(s3, tmp_path):
    store = S3Store('test', '', settings_of(s3, s3_secret=Secret('wrong')), DiskCache(tmp_path))
    for ask in (
        lambda: store.get('k'),
        lambda: store.head('k'),
        lambda: store.put('k', b''),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreDenied) as e:
            ask()
        assert 'wrong' not in str(e.value)


def test_no_bucket_and_nobody_home(s3, tmp_path):
    with pytest.raises(NotFound):
        S3Store('no-such-bucket', '', settings_of(s3), DiskCache(tmp_path)).get('k')
    with pytest.raises(StoreUnreachable):
        S3Store(
            'test', '', settings_of(s3, s3_endpoint='http://127.0.0.1:9'), DiskCache(tmp_path)
        ).get('k')


def test_a_broken_body_is_read_again(bucket, monkeypatch):
    from botocore.response import StreamingBody
    from urllib3.exceptions import ProtocolError

    bucket.put('k', b'x' * 5000)
    real, fails = StreamingBody.read, [1, 1]

    def read(self, *a, **kw):
        if fails:
            fails.pop()
            raise ProtocolError('Connection broken')
        return real(self, *a, **kw)

    monkeypatch.setattr(StreamingBody, 'read', read)
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)
    assert bucket.get('k') == b'x' * 5000 and not fails
    fails += [1] * 9
    with pytest.raises(StoreUnreachable, match='failed 5 times'):
        bucket.get('k')


def test_damage_in_the_bucket_is_seen(bucket, s3):
    "An object whose bytes no longer match the hash written beside it"
    bucket.client.put_object(
        **bucket._at('k'), Body=b'other', Metadata={'sha256': hashlib.sha256(b'right').hexdigest()}
    )
    with pytest.raises(AstridError, match='damaged'):
        bucket.get('k')
    with pytest.raises(AstridError, match='damaged'):
        bucket.local_path('k')
    assert bucket.cache.used() == 0


def test_paging(bucket):
    from concurrent.futures import ThreadPoolExecutor

    names = [f'many/{i:04d}' for i in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: bucket.put(n, b''), names))
    assert list(bucket.list('many/')) == names


def test_cached_objects_are_fetched_once(bucket, tmp_path):
    bucket.put('a.fits', b'1' * 1000)
    p = bucket.local_path('a.fits')
    assert bucket.local_path('a.fits') == p and (bucket.cache.hits, bucket.cache.misses) == (1, 1)
    assert p.name.endswith('a.fits')
    with pytest.raises(AstridError, match='damaged'):
        bucket.local_path('a.fits', sha256='0' * 64)
    key = bucket.put_content(b'fixed')
    q = bucket.local_path(key)
    fresh = pickle.loads(
        pickle.dumps(bucket)
    )  # As in another process: the copy on disk is checked again
    q.write_bytes(b'fixee')
    assert fresh.local_path(key).read_bytes() == b'fixed'


def _child(store, key, q):
    q.put((os.getpid(), store.get(key), list(store._clients)))


@pytest.mark.parametrize('how', ['fork', 'spawn', 'forkserver'])
def test_clients_are_made_per_process(bucket, how):
    bucket.put('k', b'abc')
    bucket.get('k')
    ctx = multiprocessing.get_context(how)
    q = ctx.Queue()
    ps = [ctx.Process(target=_child, args=(bucket, 'k', q)) for _ in range(2)]
    for p in ps:
        p.start()
    got = [q.get(timeout=60) for _ in ps]
    for p in ps:
        p.join(20)
    assert [d for _, d, _ in got] == [b'abc'] * 2 and all(
        clients == [pid] for pid, _, clients in got
    )


def test_secrets_stay_out_of_sight(bucket, s3):
    assert s3.secret not in repr(bucket) + repr(vars(bucket)) + str(bucket)


def test_client_asks_for_no_new_checksums(bucket):
    sent = {}
    bucket.client.meta.events.register(
        'before-send.s3.PutObject', lambda request, **kw: sent.update(request.headers)
    )
    bucket.put('k', b'x')
    assert not [
        h
        for h in sent
        if h.lower().startswith(('x-amz-checksum', 'x-amz-sdk-checksum', 'x-amz-trailer'))
    ]


# --- cache ---


def test_cache_stays_within_its_bytes(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for i in range(20):
        cache.fetch(f'f{i}', lambda f: f.write(bytes(300)))
        assert cache.used() <= 1000
    assert cache.fetch('f19', lambda f: 1 / 0).stat().st_size == 300
    with pytest.raises(ZeroDivisionError):
        cache.fetch('f0', lambda f: 1 / 0)
    assert not list(tmp_path.glob('*/.tmp-*'))
    big = cache.fetch(
        'big', lambda f: f.write(bytes(5000))
    )  # Larger than the whole cache: kept while it is used, alone
    assert big.exists() and cache.used() == 5000
    cache.fetch('small', lambda f: f.write(b'1'))
    assert not big.exists()


def _fetch(root, i, q):
    cache, made = DiskCache(root, 10_000), []
    for k in range(30):
        assert (
            cache.fetch(
                f'k{k}', lambda f: (made.append(k), time.sleep(0.01), f.write(f'{k}'.encode() * 10))
            ).read_bytes()
            == f'{k}'.encode() * 10
        )
    q.put(len(made))


def test_processes_share_the_cache(tmp_path):
    ctx = multiprocessing.get_context('spawn')
    q = ctx.Queue()
    ps = [ctx.Process(target=_fetch, args=(tmp_path, i, q)) for i in range(3)]
    for p in ps:
        p.start()
    made = [q.get(timeout=60) for _ in ps]
    for p in ps:
        p.join(20)
        assert p.exitcode == 0
    assert sum(made) == 30


# --- addresses ---


def test_every_address_of_a_deployment(bucket, s3, tmp_path):
    bucket.put('observations/1/a.fits', b'sky')
    local = tmp_path / 'a b.fits'
    local.write_bytes(b'local')
    for uri, want in [
        ('observations/1/a.fits', b'sky'),
        (bucket.uri('observations/1/a.fits'), b'sky'),
        (str(local), b'local'),
        (local.as_uri(), b'local'),
    ]:
        assert resolve_uri(uri, bucket).read_bytes() == want
    for uri in (
        'observations/2/a.fits',
        's3://test/none',
        '/no/such/file',
        'file:///no/such/file',
        'package://sample/none.fits',
        None,
        '',
    ):
        with pytest.raises(NotFound):
            resolve_uri(uri, bucket)
    for uri in ('ftp://x/y', 'http://x/y', 'package://../../etc/passwd'):
        with pytest.raises(BadInput):
            resolve_uri(uri, bucket)


def test_relative_paths_and_hashes(bucket, tmp_path, monkeypatch):
    (tmp_path / 'here').mkdir()
    (tmp_path / 'x.fits').write_bytes(b'sky')
    monkeypatch.chdir(tmp_path / 'here')
    assert resolve_uri('../x.fits', bucket).read_bytes() == b'sky'
    with pytest.raises(BadInput):
        resolve_uri('../x.fits', bucket, local=False)
    bucket.put('k', b'sky')
    for uri in (str(tmp_path / 'x.fits'), '../x.fits', 'k', bucket.uri('k')):
        assert (
            resolve_uri(uri, bucket, sha256=hashlib.sha256(b'sky').hexdigest()).read_bytes()
            == b'sky'
        )
        with pytest.raises(AstridError, match='damaged'):
            resolve_uri(uri, bucket, sha256='0' * 64)


def test_one_client_for_many_addresses(bucket):
    bucket.put('k', b'sky')
    for _ in range(3):
        resolve_uri(bucket.uri('k'), bucket)
    (other,) = vars(bucket)['_buckets'].values()
    assert len(other._clients) == 1 and other.cache is bucket.cache


def test_a_server_reads_only_its_store(tmp_path):
    store = FolderStore(tmp_path / 'store')
    store.put('a', b'1')
    (tmp_path / 'b').write_bytes(b'2')
    assert resolve_uri(store.uri('a'), store, local=False).read_bytes() == b'1'
    for uri in (
        str(tmp_path / 'b'),
        (tmp_path / 'b').as_uri(),
        str(tmp_path / 'store' / '..' / 'b'),
    ):
        with pytest.raises(BadInput):
            resolve_uri(uri, store, local=False)
    with pytest.raises((BadInput, NotFound)):
        resolve_uri('../b', store, local=False)


def test_open_store(tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path / 'home'))
    assert open_store(tmp_path / 'x').root == (tmp_path / 'x').resolve()
    assert open_store((tmp_path / 'y').as_uri()).root == (tmp_path / 'y').resolve()
    assert open_store(settings=Settings()).root == (tmp_path / 'home' / 'store').resolve()
    s = open_store('s3://b/some/prefix', settings=Settings())
    assert (s.bucket, s.prefix, s.cache.root) == ('b', 'some/prefix', tmp_path / 'home' / 'cache')
    with pytest.raises(BadInput):
        open_store('gs://b', settings=Settings())


@pytest.fixture
def https(tmp_path):
    "A server with a certificate of its own making"
    crt, key = tmp_path / 'crt.pem', tmp_path / 'key.pem'
    subprocess.run(
        [
            'openssl',
            'req',
            '-x509',
            '-newkey',
            'rsa:2048',
            '-nodes',
            '-keyout',
            key,
            '-out',
            crt,
            '-days',
            '2',
            '-subj',
            '/CN=localhost',
            '-addext',
            'subjectAltName=DNS:localhost,IP:127.0.0.1',
        ],
        check=True,
        capture_output=True,
    )
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *a):
            pass

        def do_GET(self):
            seen.append(self.path)
            if self.path == '/none':
                return self.send_error(404)
            flaky = self.path == '/flaky' and seen.count('/flaky') < 3
            self.send_response(200)
            self.send_header('Content-Length', '1000')
            self.end_headers()
            self.wfile.write(b'x' * (400 if flaky else 1000))

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(crt, key)
    server.socket = ctx.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'https://127.0.0.1:{server.server_port}', crt, seen
    server.shutdown()
    server.server_close()


def test_https(https, bucket, monkeypatch):
    url, crt, seen = https
    with pytest.raises(StoreDenied, match='certificate'):
        resolve_uri(url + '/a.fits', bucket)  # Nobody vouches for it
    monkeypatch.setenv('SSL_CERT_FILE', str(crt))
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)
    assert resolve_uri(url + '/a.fits', bucket).read_bytes() == b'x' * 1000
    resolve_uri(url + '/a.fits', bucket)
    assert seen.count('/a.fits') == 1
    assert (
        resolve_uri(url + '/flaky', bucket).read_bytes() == b'x' * 1000
        and seen.count('/flaky') == 3
    )  # Two came short
    with pytest.raises(NotFound):
        resolve_uri(url + '/none', bucket)
    with pytest.raises(AstridError, match='damaged'):
        resolve_uri(url + '/b.fits', bucket, sha256='0' * 64)
    assert (
        resolve_uri(url + '/b.fits', bucket, sha256=hashlib.sha256(b'x' * 1000).hexdigest())
        .stat()
        .st_size
        == 1000
        and seen.count('/b.fits') == 2
    )


# --- trees ---


def test_trees_travel_with_the_manifest_last(store, tmp_path):
    src = tmp_path / 'v1'
    (src / 'sub').mkdir(parents=True)
    for n in ('manifest.json', 'a.npy', 'sub/b.npy'):
        (src / n).write_bytes(n.encode() * 1000)
    order, put = [], store.put
    store.put = lambda key, *a, **kw: (order.append(key), put(key, *a, **kw))[1]
    keys = push_tree(src, store, 'datasets/x/v1')
    assert order[-1] == keys[-1] == 'datasets/x/v1/manifest.json' and len(order) == 3
    push_tree(src, store, 'datasets/x/v1')
    assert len(order) == 3  # The same bytes are not sent again
    (src / 'a.npy').write_bytes(b'changed')
    push_tree(src, store, 'datasets/x/v1')
    assert len(order) == 4
    back = pull_tree(store, 'datasets/x/v1', tmp_path / 'back')
    assert {
        p.relative_to(back).as_posix(): p.read_bytes() for p in back.rglob('*') if p.is_file()
    } == {p.relative_to(src).as_posix(): p.read_bytes() for p in src.rglob('*') if p.is_file()}
    with pytest.raises(NotFound):
        pull_tree(store, 'datasets/none', tmp_path / 'n')


def test_retry_gives_up_and_does_not_hide_other_errors():
    n = []

    def call():
        n.append(1)
        raise KeyError('no')

    with pytest.raises(KeyError):
        retry(call, (TimeoutError,))
    assert len(n) == 1
