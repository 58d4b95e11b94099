"""One object of a bucket that a service answers badly for costs its own samples, through every verb, without a word
from the caller; a service that is away for all stops, says so, and the same call goes on."""

import hashlib
import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pandas as pd
import pytest
from test_datasets import write_images
from test_edges_items import PARAMS, QUIET, people
from test_storage import settings_of

import astrid_data as ad
from astrid_data.core import AstridError
from astrid_data.datasets.diff import rebuild_version
from astrid_data.datasets.exports import export_version
from astrid_data.storage.service import StoreUnreachable

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
        said, victims = self.server.trick, self.server.victims
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        is_asked = self.command in ('GET', 'HEAD') and any(v in self.path for v in victims)
        if said and (is_asked or victims == ('',)) and self._is_time():
            return self._spoil(said, body)
        self._send(*self._pass_on(body))

    def _is_time(self):
        "After so many answers that are right, and for so many that are spoilt"
        with self.server.lock:
            if self.server.right_first > 0:
                self.server.right_first -= 1
                return False
            self.server.spoilt_left -= 1
            return self.server.spoilt_left >= 0

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
        server.trick, server.victims, server.daemon_threads = None, ('field1',), True
        server.lock = threading.Lock()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)
    monkeypatch.setattr('botocore.endpoint.time', SimpleNamespace(sleep=lambda s: None))


class Sky:
    "Images in a bucket, and archives that know them"

    def __init__(self, s3, between, folder, n_images=3):
        self.between, self.folder = between, folder
        self.settings = settings_of(s3, s3_endpoint=f'http://127.0.0.1:{between.server_port}')
        self.prefix = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self.client, self.n = s3.client(), 0
        for path in write_images(folder / 'sky', n=n_images, side=100):
            self.put(path.name, path.read_bytes())
        self.uris = [f's3://test/{self.prefix}-sky/field{n}.fits' for n in range(n_images)]

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
    def bad(self, trick, *victims, right_first=0, spoilt=10**9):
        self.between.right_first, self.between.spoilt_left = right_first, spoilt
        self.between.trick, self.between.victims = trick, victims or ('field1',)
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
        store._clients.clear()  # One that was refused often repeats its questions no longer
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
        rebuilt = rebuild_version(whole, progress=False)
        beside = ad.TrainingDataCollector(fresh(archive)).plan(**PARAMS, progress=False)
        fresh(archive)
        name = f'beside-{trick}'.replace(' ', '-')
        dataset = plan.build(name, patch_size=16, **QUIET)
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
    with sky.bad(trick, ''):
        fresh(archive)
        with pytest.raises(AstridError) as problem:
            plan.build(name, patch_size=16, **QUIET)
    said = str(problem.value)
    assert any(word in said for word in ('reach', 'den', 'away')), said
    dataset = plan.build(name, patch_size=16, **QUIET)
    assert set(dataset.samples.sample_key) == set(whole.samples.sample_key)
    assert len(dataset.ledger) == len(whole.ledger)


# One of ten, two, all, and the middle ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def ten(s3, between, tmp_path_factory):
    "Ten images, their archive, a plan, and the version of all that anybody should get"
    sky = Sky(s3, between, tmp_path_factory.mktemp('ten'), n_images=10)
    archive = sky.archive('planned')
    archive.add_fits(sky.uris, survey='s', show=False, detect=False)
    rows = [dict(ra=40 + k + d / 3600, dec=5, verdict='real') for k in range(10) for d in (-9, 9)]
    archive.add_catalogue(pd.DataFrame(rows), is_real='verdict', name='people')
    asked = PARAMS | dict(negatives=dict(random_sky=1.0))
    plan = ad.TrainingDataCollector(archive).plan(**asked, progress=False)
    whole = plan.build('whole', patch_size=16, **QUIET)
    assert whole.samples.image_uri.nunique() == 10
    return SimpleNamespace(sky=sky, archive=archive, plan=plan, whole=whole, asked=asked)


def on_images(table, names):
    return table.image_uri.str.contains('|'.join(names))


@pytest.mark.parametrize(
    'names', [['field4'], ['field0', 'field1'], ['field8', 'field9']], ids='-'.join
)
@pytest.mark.parametrize('trick', [500, 'half'])
def test_silent_objects_of_ten_cost_their_samples_alone(ten, trick, names):
    fresh(ten.archive)
    name = f'of-ten-{trick}-{len(names)}-{names[0][-1]}'
    with ten.sky.bad(trick, *names):
        dataset = ten.plan.build(name, patch_size=16, **QUIET)
    lost = on_images(ten.whole.samples, names)
    cut = dataset.ledger[dataset.ledger.reason == 'unreachable']
    assert set(cut.sample_key) == set(ten.whole.samples.sample_key[lost])
    assert cut.detail.str.contains('field').all()
    assert set(dataset.samples.sample_key) == set(ten.whole.samples.sample_key[~lost])
    assert dataset.manifest['requested'] == len(dataset) + sum(dataset.manifest['dropped'].values())


def test_silent_objects_of_ten_are_left_out_of_a_plan_and_a_search(ten):
    names = ['field2', 'field3', 'field4']  # Three in a row
    with ten.sky.bad(500, *names):
        plan = ad.TrainingDataCollector(fresh(ten.archive)).plan(**ten.asked, progress=False)
        again = ten.sky.archive('three-in-a-row')
        report = again.add_fits(ten.sky.uris, survey='s', show=False, detect=False)
    drawn = plan.samples[plan.samples.kind == 'random_sky']
    assert drawn.image_uri.nunique() == 7 and not on_images(drawn, names).any()
    assert 'unreachable' in plan.shortfall['random_sky']['reason']
    assert report.added == 7 and len(report.ledger) == 3
    assert set(report.ledger.reason) == {'unreachable'}


@pytest.mark.parametrize('victims', [['field'], ['']], ids=['all images', 'everything'])
def test_all_of_ten_stop_every_verb_and_the_same_call_goes_on(ten, victims):
    name = f'all-{len(victims[0])}'
    collector = ad.TrainingDataCollector(fresh(ten.archive))
    other = ten.sky.archive(f'none-{len(victims[0])}')
    with ten.sky.bad(500, *victims):
        with pytest.raises(StoreUnreachable, match='nothing was frozen'):
            ten.plan.build(name, patch_size=16, **QUIET)
        with pytest.raises(StoreUnreachable, match='Plan again'):
            collector.plan(**ten.asked, progress=False)
        with pytest.raises(StoreUnreachable):
            rebuild_version(ten.whole, progress=False)
        with pytest.raises(StoreUnreachable):
            fresh(ten.archive).detect(show=False, nsigma=7.0)
        with pytest.raises(StoreUnreachable):
            other.add_fits(ten.sky.uris, survey='s', show=False, detect=False)
    dataset = ten.plan.build(name, patch_size=16, **QUIET)
    assert dataset.content_hash == ten.whole.content_hash
    assert 'unreachable' not in dataset.manifest['dropped']
    assert other.add_fits(ten.sky.uris, survey='s', show=False, detect=False).added == 10


def test_a_store_that_goes_in_the_middle_stops_and_the_rest_is_cut_later(ten, monkeypatch):
    monkeypatch.setattr('astrid_data.datasets.staging.CHUNK_ROWS', 4)
    fresh(ten.archive)
    with ten.sky.bad(503, '', right_first=8), pytest.raises(StoreUnreachable) as problem:
        ten.plan.build('middle', patch_size=16, **QUIET)
    n_cut = int(str(problem.value).split()[2].replace(',', ''))
    assert 0 < n_cut < len(ten.plan), str(problem.value)
    dataset = ten.plan.build('middle', patch_size=16, **QUIET)
    assert dataset.content_hash == ten.whole.content_hash


def test_what_was_silent_for_a_while_is_not_lost(ten):
    "As often as the service is asked again of itself, so that the first question fails"
    fresh(ten.archive)
    with ten.sky.bad(500, 'field4', spoilt=4):
        dataset = ten.plan.build('a-while', patch_size=16, **QUIET)
        assert ten.sky.between.spoilt_left <= 0
    assert dataset.content_hash == ten.whole.content_hash
