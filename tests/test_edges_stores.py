"""One object of a bucket that a service answers badly for costs its own samples, through every verb; a service that is
away for all stops, says so, and the same call goes on."""

import hashlib
import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from test_datasets import write_images
from test_edges_items import PARAMS, QUIET, people
from test_storage import settings_of

import astrid_data as ad
from astrid_data.core import AstridError
from astrid_data.datasets.diff import rebuild_version
from astrid_data.datasets.exports import export_version

pytestmark = pytest.mark.filterwarnings('ignore')


class Between(BaseHTTPRequestHandler):
    "Hands requests on to the service; answers itself where a trick is on for the object"

    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _answer(self):
        said = self.server.trick
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        is_asked = self.command in ('GET', 'HEAD') and self.server.victim in self.path
        if said and (is_asked or self.server.victim == ''):
            return self._spoil(said, body)
        self._send(*self._pass_on(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _pass_on(self, body):
        link = http.client.HTTPConnection(self.server.behind, timeout=30)
        try:
            link.request(self.command, self.path, body or None, dict(self.headers))
            answer = link.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            link.close()

    def _send(self, status, headers, body, promised=None):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in (
                'content-length',
                'connection',
                'transfer-encoding',
                'date',
                'server',
            ):
                self.send_header(name, value)
        length = dict((name.lower(), value) for name, value in headers).get('content-length')
        if self.command == 'HEAD' and promised is None:
            promised = length
        self.send_header('Content-Length', str(len(body) if promised is None else promised))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def _spoil(self, said, body):
        if said == 'cut off':  # The connection ends without an answer
            self.close_connection = True
            return
        if said == 'half' and self.command == 'GET':
            status, headers, data = self._pass_on(body)
            self._send(status, headers, data[: len(data) // 2], promised=len(data))
            self.close_connection = True
            return
        if said == 'half':
            return self._send(*self._pass_on(body))
        code = CODES[said]
        error = f'<Error><Code>{code}</Code><Message>no</Message></Error>'.encode()
        self._send(said, [('Content-Type', 'application/xml')], error)


CODES = {
    403: 'AccessDenied',
    404: 'NoSuchKey',
    416: 'InvalidRange',
    500: 'InternalError',
    503: 'SlowDown',
}
REASONS = {
    403: {'denied'},
    404: {'missing_file'},
    416: {'truncated', 'changed', 'unreachable', 'damaged'},
    500: {'unreachable'},
    503: {'unreachable'},
    'cut off': {'unreachable'},
    'half': {'unreachable', 'truncated'},
}


@pytest.fixture(scope='module')
def between(s3):
    "The service behind a door that can be told to spoil answers"
    with ThreadingHTTPServer(('127.0.0.1', 0), Between) as server:
        server.behind = s3.endpoint.removeprefix('http://')
        server.trick, server.victim, server.daemon_threads = None, 'field1', True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)
    monkeypatch.setattr('botocore.endpoint.time', SimpleNamespace(sleep=lambda s: None))


class Sky:
    "Three images in a bucket, and archives that know them"

    def __init__(self, s3, between, folder):
        self.between, self.folder = between, folder
        self.settings = settings_of(s3, s3_endpoint=f'http://127.0.0.1:{between.server_port}')
        self.prefix = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self.client, self.n = s3.client(), 0
        for path in write_images(folder / 'sky', n=3, side=100):
            self.put(path.name, path.read_bytes())
        self.uris = [f's3://test/{self.prefix}-sky/field{n}.fits' for n in range(3)]

    def put(self, name, data):
        self.client.put_object(Bucket='test', Key=f'{self.prefix}-sky/{name}', Body=data)

    def archive(self, name=None):
        "An archive with a store of its own and an empty cache"
        self.n += 1
        home = self.folder / (name or f'home{self.n}')
        where = dict(
            database=f'sqlite:///{home}/r.db', storage=f's3://test/{self.prefix}-{home.name}'
        )
        return ad.open_archive(**where, home=home, settings=self.settings)

    @contextmanager
    def bad(self, trick, victim='field1'):
        self.between.trick, self.between.victim = trick, victim
        try:
            yield
        finally:
            self.between.trick = None


@pytest.fixture(scope='module')
def sky(s3, between, tmp_path_factory):
    return Sky(s3, between, tmp_path_factory.mktemp('bucket'))


def fresh(archive):
    "As another process on another machine would see it: nothing is cached"
    import shutil

    stores = [archive.store, *vars(archive.store).get('_buckets', {}).values()]
    for store in stores:
        store._heads.clear()
    shutil.rmtree(archive.store.cache.root, ignore_errors=True)
    return archive


def lost_on(uris, ledger):
    assert len(ledger) and ledger.uri.str.contains('field1').all(), ledger.to_string()
    assert (ledger.detail.str.len() > 10).all()
    return set(ledger.reason)


@pytest.mark.parametrize('trick', REASONS)
def test_one_object_costs_itself_when_it_is_taken_in(sky, trick):
    archive = sky.archive()
    with sky.bad(trick):
        report = archive.add_fits(sky.uris, survey='s', show=False, detect=False)
    assert report.added == 2
    assert lost_on(sky.uris, report.ledger) <= REASONS[trick]
    again = archive.add_fits(sky.uris, survey='s', show=False, detect=False)
    assert (again.added, again.skipped, len(again.ledger)) == (1, 2, 0)


@pytest.fixture(scope='module')
def planned(sky):
    archive = sky.archive('planned')
    archive.add_fits(sky.uris, survey='s', show=False, detect=False)
    archive.add_catalogue(people(), is_real='verdict', name='people')
    plan = ad.TrainingDataCollector(archive).plan(**PARAMS, progress=False)
    whole = plan.build('whole', patch_size=16, **QUIET)
    assert whole.samples.image_uri.nunique() == 3
    return archive, plan, whole


@pytest.mark.parametrize('trick', REASONS)
def test_one_object_costs_its_samples_through_every_verb(sky, planned, trick):
    archive, plan, whole = planned
    with sky.bad(trick):
        fresh(archive)
        rebuilt = rebuild_version(whole, progress=False, unreachable='ledger')
        beside = ad.TrainingDataCollector(fresh(archive)).plan(**PARAMS, progress=False)
        fresh(archive)
        name = f'beside-{trick}'.replace(' ', '-')
        dataset = plan.build(name, patch_size=16, unreachable='ledger', **QUIET)
        opened = ad.open_dataset(archive, dataset.address)
        batch = next(iter(ad.RealDataLoader(opened).loaders(batch_size=8)[0]))
        table = export_version(opened, sky.folder / f'out-{trick}')
        searched = fresh(archive).detect(show=False, nsigma=6.0)
    assert lost_on(sky.uris, searched.ledger) <= REASONS[trick]
    drawn = beside.samples[beside.samples.kind == 'random_sky']
    assert len(drawn) and not drawn.image_uri.str.contains('field1').any()
    assert any(reason in str(beside.shortfall) for reason in REASONS[trick])
    cut = dataset.ledger[dataset.ledger.step == 'cut'].query('reason != "too_little_valid"')
    on_it = whole.samples.image_uri.str.contains('field1')
    assert lost_on(sky.uris, cut.rename(columns={'image_uri': 'uri'})) <= REASONS[trick]
    assert set(dataset.samples.sample_key) == set(whole.samples[~on_it].sample_key)
    removed = set(rebuilt.diff.removed.sample_key)
    assert set(whole.samples.sample_key[on_it]) <= removed and not rebuilt.same
    assert len(batch) and table


@pytest.mark.parametrize('trick', [403, 503, 'cut off'])
def test_a_service_that_is_away_for_all_stops_and_goes_on(sky, planned, trick):
    archive, plan, whole = planned
    name = f'away-{trick}'.replace(' ', '-')
    with sky.bad(trick, victim=''):
        fresh(archive)
        with pytest.raises(AstridError) as problem:
            plan.build(name, patch_size=16, **QUIET)
    said = str(problem.value)
    assert any(word in said for word in ('reach', 'den', 'away')), said
    dataset = plan.build(name, patch_size=16, **QUIET)
    assert set(dataset.samples.sample_key) == set(whole.samples.sample_key)
    assert len(dataset.ledger) == len(whole.ledger)
