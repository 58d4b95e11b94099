"""A machine of the web that is away costs its own files: the others come in, are searched, cut and linked, and the call
does not wait for it again; where nothing else answers, the call stops, and the same call goes on later."""

import http.server
from contextlib import ExitStack
from types import SimpleNamespace

import pandas as pd
import pytest
from servers import NoServer, free_ports, https_server
from test_datasets import write_images

import astrid_data as ad
from astrid_data.storage import web
from astrid_data.storage.service import StoreUnreachable

pytestmark = pytest.mark.filterwarnings('ignore')
PARAMS = dict(validation_status='any', confidence_threshold=None, quality_score_threshold=None)
PARAMS |= dict(max_samples=None, negatives=dict(random_sky=1.0))
QUIET = dict(progress=False, probe=False)


class Files(http.server.BaseHTTPRequestHandler):
    "Gives files of a folder out; answers 503 to all while it is down"

    folder = is_down = None
    asked = []

    def do_GET(self):
        here = type(self)
        here.asked.append(self.path)
        path = here.folder / self.path.strip('/')
        found = path.is_file() and not here.is_down
        data = path.read_bytes() if found else b'no'
        self.send_response(503 if here.is_down else 200 if found else 404)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def machines(tmp_path_factory):
    "Three machines with two images each, whose certificates are trusted"
    folder = tmp_path_factory.mktemp('machines')
    paths = write_images(folder / 'sky', n=6, side=100)
    found, trusted = [], b''
    with ExitStack() as stack:
        for k in range(3):
            handler = type('Here', (Files,), dict(folder=folder / 'sky', asked=[], is_down=False))
            (folder / f'tls{k}').mkdir()
            try:
                url, certificate = stack.enter_context(https_server(handler, folder / f'tls{k}'))
            except NoServer as reason:
                pytest.skip(str(reason))
            trusted += certificate.read_bytes()
            uris = [f'{url}/{path.name}' for path in paths[2 * k : 2 * k + 2]]
            found.append(SimpleNamespace(url=url, handler=handler, uris=uris))
        (folder / 'all.crt').write_bytes(trusted)
        yield SimpleNamespace(
            folder=folder, certificate=folder / 'all.crt', each=found, paths=paths
        )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path / 'own'))


@pytest.fixture
def sky(machines, tmp_path, monkeypatch):
    "Archives of a test, and machines that are all up"
    monkeypatch.setenv('SSL_CERT_FILE', str(machines.certificate))
    pauses = []
    monkeypatch.setattr('astrid_data.storage.service._pause', pauses.append)
    tries = []
    asking = web._answer

    def counted(url, reach, headers):
        tries.append(url)
        return asking(url, reach, headers)

    monkeypatch.setattr(web, '_answer', counted)
    for machine in machines.each:
        machine.handler.is_down = False
    homes = iter(range(100))

    def archive():
        return ad.open_archive(tmp_path / f'home{next(homes)}')

    yield SimpleNamespace(
        each=machines.each, paths=machines.paths, archive=archive, tries=tries, pauses=pauses
    )
    for machine in machines.each:
        machine.handler.is_down = False


def dead_uris(n, files=2):
    "Addresses on ports of this machine that nobody listens on"
    return [
        [f'https://127.0.0.1:{port}/dead{k}.fits' for k in range(files)] for port in free_ports(n)
    ]


def taken_in(archive, uris, **more):
    return archive.add_fits(uris, survey='s', show=False, detect=False, **more)


@pytest.mark.parametrize('place', [0, 1, 2], ids=['first', 'in the middle', 'last'])
def test_one_dead_of_three_costs_its_own_files(sky, place):
    (dead,) = dead_uris(1, files=5)
    lists = [sky.each[0].uris, sky.each[1].uris]
    lists.insert(place, dead)
    archive = sky.archive()
    report = taken_in(archive, sum(lists, []))
    assert report.added == 4
    assert sorted(report.ledger.uri) == sorted(dead)
    assert set(report.ledger.reason) == {'unreachable'} and (report.ledger.detail != '').all()
    assert sum(uri in dead for uri in sky.tries) < 4 + 5 + 8  # Tried in full once, not five times
    assert len(sky.pauses) == 3


def test_a_dead_machine_is_asked_for_again_by_the_next_call(sky):
    down, archive = sky.each[1], sky.archive()
    down.handler.is_down = True
    uris = [uri for machine in sky.each for uri in machine.uris]
    first = taken_in(archive, uris)
    assert (first.added, len(first.ledger)) == (4, 2)
    assert sorted(first.ledger.uri) == sorted(down.uris)
    down.handler.is_down = False
    again = taken_in(archive, uris)
    assert (again.added, again.skipped, len(again.ledger)) == (2, 4, 0)


def test_all_dead_stop_the_call_and_it_goes_on(sky):
    archive, uris = sky.archive(), [uri for machine in sky.each for uri in machine.uris]
    for machine in sky.each:
        machine.handler.is_down = True
    with pytest.raises(ConnectionError):
        taken_in(archive, uris)
    with pytest.raises(ConnectionError):
        taken_in(archive, sum(dead_uris(3), []))
    for machine in sky.each:
        machine.handler.is_down = False
    assert taken_in(archive, uris).added == 6


def test_what_dies_in_the_middle(sky, monkeypatch):
    "First one machine of three, then all that is left"
    archive, uris = sky.archive(), [uri for machine in sky.each for uri in machine.uris]
    done = []

    def facts(uri):
        done.append(uri)
        if len(done) == 2:
            sky.each[1].handler.is_down = True
        if len(done) == 5:
            sky.each[0].handler.is_down = sky.each[2].handler.is_down = True
        return {}

    with pytest.raises(ConnectionError):
        taken_in(archive, uris, facts=facts)
    with archive.session() as session:
        from astrid_data.registry.tables import Image

        assert {row.uri for row in session.query(Image)} == set(sky.each[0].uris)
    for machine in sky.each:
        machine.handler.is_down = False
    assert taken_in(archive, uris).added == 4


def test_one_item_alone_stops(sky):
    ((uri,),) = dead_uris(1, files=1)
    with pytest.raises(ConnectionError, match='failed 4 times'):
        taken_in(sky.archive(), uri)


def test_files_of_this_machine_come_in_beside_a_dead_one(sky):
    ((uri,),) = dead_uris(1, files=1)
    report = taken_in(sky.archive(), [str(sky.paths[0]), uri, str(sky.paths[1])])
    assert report.added == 2
    assert report.ledger.values.tolist()[0][:2] == [uri, 'unreachable']


def test_one_file_of_a_machine_that_answers_costs_itself(sky):
    machine = sky.each[0]
    report = taken_in(sky.archive(), [*machine.uris, f'{machine.url}/none.fits'])
    assert report.added == 2 and set(report.ledger.reason) == {'missing_file'}


def test_a_mask_on_a_dead_machine_costs_its_image_and_is_remembered(sky):
    ((mask,),) = dead_uris(1, files=1)
    uris = [uri for machine in sky.each for uri in machine.uris]
    report = taken_in(sky.archive(), uris, dq=lambda uri: mask if uri in uris[:3] else None)
    assert report.added == 3
    assert sorted(report.ledger.uri) == sorted(uris[:3]) and set(report.ledger.reason) == {
        'unreachable'
    }
    assert len(sky.pauses) == 3


# Through the verbs that open what was taken in


@pytest.fixture
def known(sky):
    "An archive that knows six images of three machines, and a plan on them"
    archive = sky.archive()
    uris = [uri for machine in sky.each for uri in machine.uris]
    assert taken_in(archive, uris).added == 6
    rows = [dict(ra=40 + k + d / 3600, dec=5, verdict='real') for k in range(6) for d in (-9, 9)]
    archive.add_catalogue(pd.DataFrame(rows), is_real='verdict', name='people')
    forget(archive)
    return archive


def forget(archive):
    "As on another machine: nothing of the web is cached"
    import shutil

    from astrid_data.core import default_home

    cache = getattr(archive.store, 'cache', None)
    shutil.rmtree(cache.root if cache else default_home() / 'cache', ignore_errors=True)


def test_a_dead_machine_costs_its_samples_and_the_next_build_has_them(sky, known):
    collector = ad.TrainingDataCollector(known)
    plan = collector.plan(**PARAMS, progress=False)
    whole = plan.build('whole', patch_size=16, **QUIET)
    assert whole.samples.image_uri.nunique() == 6
    forget(known)
    down = sky.each[1]
    down.handler.is_down = True
    sky.pauses.clear()
    less = plan.build('less', patch_size=16, **QUIET)
    lost = less.ledger[less.ledger.reason == 'unreachable']
    on_it = whole.samples.image_uri.isin(down.uris)
    assert set(lost.sample_key) == set(whole.samples.sample_key[on_it]) and len(lost) == 8
    assert set(less.samples.image_uri) == {uri for m in sky.each for uri in m.uris} - set(down.uris)
    assert len(sky.pauses) <= 9  # Tried in full by the threads that began on it, not for each image
    forget(known)
    same = plan.build('less', patch_size=16, **QUIET)
    assert same.address == less.address == 'less@v1'
    assert any('8 samples lack since their files' in note for note in less.manifest['warnings'])
    down.handler.is_down = False
    again = plan.build('less', patch_size=16, **QUIET)
    assert again.address == 'less@v2' and not set(again.manifest['dropped']) & {'unreachable'}
    assert set(again.samples.pixel_sha256) == set(whole.samples.pixel_sha256)
    assert plan.build('less', patch_size=16, **QUIET).address == 'less@v2'


def test_a_dead_machine_is_left_out_of_a_plan_and_a_search(sky, known):
    down = sky.each[2]
    down.handler.is_down = True
    plan = ad.TrainingDataCollector(known).plan(**PARAMS, progress=False)
    drawn = plan.samples[plan.samples.kind == 'random_sky']
    assert drawn.image_uri.nunique() == 4 and not drawn.image_uri.isin(down.uris).any()
    assert 'unreachable' in str(plan.shortfall)
    forget(known)
    report = known.detect(show=False, nsigma=6.0)
    assert sorted(report.ledger.uri) == sorted(down.uris)


def test_all_dead_stop_every_verb(sky, known):
    collector = ad.TrainingDataCollector(known)
    plan = collector.plan(**PARAMS, progress=False)
    forget(known)
    for machine in sky.each:
        machine.handler.is_down = True
    with pytest.raises(StoreUnreachable, match='nothing was frozen'):
        plan.build('none', patch_size=16, **QUIET)
    with pytest.raises(StoreUnreachable, match='Plan again'):
        collector.plan(**PARAMS, progress=False)
    with pytest.raises(StoreUnreachable):
        known.detect(show=False, nsigma=7.0)
