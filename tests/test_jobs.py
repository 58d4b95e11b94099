"""Jobs over HTTP and in the registry: answered at once or later, asked twice, cancelled, and taken up after a kill"""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.testclient import TestClient

import astrid_data as ad
from astrid_data import api
from astrid_data.core import Conflict, progress
from astrid_data.jobs import Jobs, TooBusy, _new_row, _store_row, list_jobs
from astrid_data.registry.tables import DatabaseAway, IngestJob

COLLECT = '/training/datasets/collect'
BODY = dict(name='body', max_samples=40, patch_size=16, quality_score_threshold=0, allow_empty=True)
ASYNC = {'Prefer': 'respond-async'}


def until(ask, seconds=120):
    "What `ask` returns when that is true at last"
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.05)
    return answer


# Over HTTP


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('jobs'), seed=3)
    archive.maker = api.create_api_key(archive, 'me', ['training:data_collection', 'read:data'])
    archive.reader = api.create_api_key(archive, 'you', ['read:data'])
    return archive


@pytest.fixture
def client(home):
    with TestClient(ad.create_app(home, beat_s=0.1), raise_server_exceptions=False) as client:
        client.headers['X-API-Key'] = home.maker
        yield client


def ended(client, address):
    def look():
        job = client.get(address).json()['data']
        return job if job['status'] in ('done', 'failed', 'cancelled') else None

    return until(look)


@pytest.mark.filterwarnings('ignore')
def test_who_does_not_wait_gets_the_same_later(client):
    later = client.post(COLLECT, json=BODY, headers=ASYNC)
    assert later.status_code == 202 and later.headers['retry-after']
    assert later.json()['data']['status'] in ('queued', 'running', 'done')
    job = ended(client, later.headers['location'])
    now = client.post(COLLECT, json=BODY)
    assert job['status'] == 'done' and now.status_code == 200
    assert job['answer']['data'] == now.json()['data']
    assert job['answer']['meta'] == now.json()['meta']
    assert job['who'] == 'me' and job['asked'].items() >= BODY.items()
    steps = [line['what'] for line in job['log']]
    assert steps[0] == 'begins' and steps[-1] == 'done' and 'cutting patches' in steps


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'wrong, status',
    [(dict(survey_ids=['nowhere']), 404), (dict(max_samples=0), 422), (dict(nonsense=1), 422)],
)
def test_what_is_wrong_has_one_status_whichever_way(client, wrong, status):
    before = len(client.get('/jobs').json()['data'])
    now = client.post(COLLECT, json=BODY | wrong)
    assert now.status_code == status
    later = client.post(COLLECT, json=BODY | wrong, headers=ASYNC)
    if status == 422:  # Nothing is begun
        assert later.status_code == 422
        assert len(client.get('/jobs').json()['data']) == before
    else:
        job = ended(client, later.headers['location'])
        error = now.json()['error']
        assert job['status'] == 'failed'
        assert {**error, 'status': status} == job['error']


@pytest.mark.filterwarnings('ignore')
def test_a_question_without_an_answer_is_no_address_that_is_missing(client):
    "A 404 looks as if the path were wrong, and says nothing of where the samples went"
    asked = BODY | dict(name='none', start='1990-01-01', end='1991-01-01')
    now = client.post(COLLECT, json=asked)
    error = now.json()['error']
    assert (now.status_code, error['error_code']) == (422, 'nothing_left')
    assert [row['left'] for row in error['details']['ledger']][-1] == 0
    job = ended(client, client.post(COLLECT, json=asked, headers=ASYNC).headers['location'])
    assert job['error'] == {**error, 'status': 422}


@pytest.mark.filterwarnings('ignore')
def test_one_key_is_one_job(client):
    headers = ASYNC | {'Idempotency-Key': 'tonight'}

    def ask(_):
        return client.post(COLLECT, json=BODY | dict(name='keyed'), headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    listed = client.get('/jobs').json()['data']
    assert not {'asked', 'log', 'answer'} & set(listed[0])  # A list is short
    full = [client.get(f'/jobs/{one["job_id"]}').json()['data'] for one in listed]
    jobs = [one for one in full if one['asked']['name'] == 'keyed']
    assert len(jobs) == 1
    other = client.post(COLLECT, json=BODY | dict(name='other'), headers=headers)
    assert other.status_code == 409 and 'its own' in other.json()['error']['message']
    assert ended(client, f'/jobs/{jobs[0]["job_id"]}')['status'] == 'done'


@pytest.mark.filterwarnings('ignore')
def test_one_name_at_once_is_built_in_turn(client):
    def ask(seed):
        return client.post(COLLECT, json=BODY | dict(name='same', seed=seed))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sorted(answer.json()['meta']['version'] for answer in answers) == [1, 2, 3, 4]


def test_a_job_is_cancelled_by_its_own_key_alone(home, client):
    twin = {'X-API-Key': api.create_api_key(home, 'me', ['training:data_collection'])}
    master = {'X-API-Key': api.create_api_key(home, 'chief', ['manage:operations'])}
    where = client.post(COLLECT, json=BODY | dict(name='mine'), headers=ASYNC).headers['location']
    answer = client.delete(where, headers=twin)  # Has the same name
    assert answer.status_code == 403 and 'another key' in answer.json()['error']['message']
    ended(client, where)
    assert client.delete(where, headers=master).status_code == 409  # It may, and it is too late


def test_a_cancelled_job_is_not_promised_again(home):
    with TestClient(ad.create_app(home, beat_s=0.1), raise_server_exceptions=False) as client:
        client.headers['X-API-Key'] = home.maker
        with home.registry.session() as session:
            for row in session.query(IngestJob).filter(IngestJob.status == 'done'):
                row.status = 'cancelled'
        headers = {'Idempotency-Key': 'tonight'}
        again = client.post(COLLECT, json=BODY | dict(name='keyed'), headers=headers)
    assert again.status_code == 409 and again.json()['error']['error_code'] == 'cancelled'


@pytest.mark.parametrize('path', ['/jobs?limt=1', '/training/datasets?nme=x', '/jobs?limit=1&x='])
def test_a_parameter_that_nobody_knows_is_refused(client, path):
    answer = client.get(path)
    assert answer.status_code == 422 and 'unknown parameter' in answer.json()['error']['message']


def test_who_may_only_read_may_look_and_not_cancel(home, client):
    look = {'X-API-Key': home.reader}
    assert client.get('/jobs?status=done&limit=2', headers=look).status_code == 200
    nobody = f'/jobs/{uuid.uuid4()}'
    assert client.get(nobody, headers=look).status_code == 404
    assert client.delete(nobody, headers=look).status_code == 403
    assert client.delete(nobody).status_code == 404
    assert client.get('/jobs?status=asleep').status_code == 422
    assert client.get('/jobs/17').status_code == 422
    del client.headers['X-API-Key']
    assert client.get('/jobs').status_code == 401
    assert client.get('/health').status_code == client.get('/ready').status_code == 200


def test_a_thousand_questions_cost_one_look(home, monkeypatch):
    looks, clock = [], [0.0]
    monkeypatch.setattr(api, '_away', lambda archive: looks.append(1) or ['store'])
    monkeypatch.setattr(api, 'monotonic', lambda: clock[0])
    with TestClient(ad.create_app(home)) as client, ThreadPoolExecutor(8) as many:
        asked = [many.submit(client.get, '/ready') for _ in range(1000)]
        assert {one.result().status_code for one in asked} == {503}
        assert len(looks) == 1
        clock[0] += 2.5
        client.get('/ready')
        assert len(looks) == 2


SERVE = """
import sys
import astrid_data as ad
from astrid_data.serve import serve
archive = ad.open_archive(sys.argv[1])
serve(ad.create_app(archive, beat_s=0.2), port=int(sys.argv[2]), log_level='critical')
"""


@contextmanager
def serving(home, end_with):
    "A server in a process of its own, and a client of it"
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', SERVE, str(home), str(port)])
    with httpx.Client(base_url=f'http://127.0.0.1:{port}', timeout=60) as client:

        def answers():
            try:
                return client.get('/health').status_code == 200
            except httpx.TransportError:
                assert process.poll() is None

        try:
            until(answers)
            yield client
        finally:
            process.send_signal(end_with)
            process.wait(60)


@pytest.mark.parametrize('end_with', [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_in_the_middle_finishes_later(tmp_path, end_with):
    archive = ad.synthetic_archive(home=tmp_path, seed=4, n_observations=12)
    key = api.create_api_key(archive, 'me', ['manage:operations', 'read:data'])
    body = BODY | dict(name='long', max_samples=None, patch_size=64)
    with serving(tmp_path, end_with) as client:
        client.headers['X-API-Key'] = key
        where = client.post(COLLECT, json=body, headers=ASYNC).headers['location']
        until(lambda: client.get(where).json()['data']['status'] == 'running')
    with serving(tmp_path, signal.SIGTERM) as client:
        client.headers['X-API-Key'] = key
        job = ended(client, where)
        listed = client.get('/training/datasets').json()['data']
    assert job['status'] == 'done', job
    assert [one['id'] for one in listed] == [job['answer']['data']['dataset_id']]
    assert job['starts'] == (2 if end_with == signal.SIGKILL else 1)


# In a registry, SQLite or PostgreSQL, with work that is as long as the test wants


def count_to(asked, who):
    return dict(counted=sum(1 for _ in progress(range(asked['n']), 'numbers')))


ENDLESS = dict(n=10**12)


@pytest.fixture
def registry(registry_url, tmp_path):
    return ad.open_archive(registry_url, home=tmp_path).registry


@contextmanager
def working(registry, serving=True, **kw):
    jobs = Jobs(registry, dict(count=count_to), **dict(beat_s=0.05) | kw)
    try:
        if serving:
            jobs.start()
        yield jobs
    finally:
        jobs.stop()


def test_two_servers_do_a_job_once(registry):
    begun = []

    def note(asked, who):
        begun.append(asked['n'])
        return {}

    with working(registry, serving=False) as first, working(registry, serving=False) as second:
        for jobs in (first, second):
            jobs.kinds['count'] = note
        ids = [first.submit('count', dict(n=n), 'me') for n in range(20)]
        second.start()
        for id in ids:
            until(lambda id=id: first.get(id)['status'] == 'done')
    assert sorted(begun) == list(range(20))


@pytest.mark.parametrize('beats', [True, False])
def test_a_server_that_slept_changes_nothing(registry, beats):
    """Another works on its job when it wakes: neither its beat nor its answer counts"""

    def slow(name):
        begun, go_on = threading.Event(), threading.Event()

        def work(asked, who):
            begun.set()
            go_on.wait(60)
            return dict(by=name)

        return work, begun, go_on

    with working(registry, serving=False, beat_s=999) as sleeper:
        with working(registry, serving=False, beat_s=999) as other:
            sleeper.kinds['count'], sleeping, wake = slow('the sleeper')
            other.kinds['count'], at_work, finish = slow('the other')
            id = sleeper.submit('count', dict(n=1), 'me')
            assert sleeping.wait(60)
            with registry.session() as session:
                session.get(IngestJob, id).updated_at = datetime.now(UTC) - timedelta(days=1)
            other.recover()
            assert at_work.wait(60)
            if beats:
                sleeper._beat()
                assert sleeper.courses[id].stop == 'another server has it'
            wake.set()
            sleeper.wait(id, 60)
            assert (other.get(id)['status'], other.get(id)['answer']) == ('running', None)
            finish.set()
            job = other.wait(id, 60)
    assert (job['status'], job['answer'], job['starts']) == ('done', dict(by='the other'), 2)


def test_a_job_that_ends_slowly_after_its_cancelling_keeps_its_server(registry):
    go_on = threading.Event()

    def slow(asked, who):
        go_on.wait(60)
        return dict(late=True)

    with working(registry) as jobs:
        jobs.kinds['count'] = slow
        id = jobs.submit('count', dict(n=1), 'me')
        until(lambda: jobs.get(id)['status'] == 'running')
        jobs.cancel(id)
        before = jobs.get(id)['updated_at']
        until(lambda: jobs.get(id)['updated_at'] > before)  # The heart beats for it
        assert jobs.get(id)['status'] == 'cancelling'
        go_on.set()
        assert jobs.wait(id, 60)['answer'] == dict(late=True)


def test_an_end_that_cannot_be_written_now_is_written_later(registry, monkeypatch):
    from astrid_data import jobs as module

    with working(registry, serving=False, beat_s=999) as jobs:
        write, away = jobs._write, [True]

        def fail_once(id, course, **values):
            if values.get('status') == 'done' and away:
                away.pop()
                raise DatabaseAway('away for a moment')
            return write(id, course, **values)

        monkeypatch.setattr(module, '_PAUSES_S', (0, 0, 0))
        monkeypatch.setattr(jobs, '_write', fail_once)
        job = jobs.wait(jobs.submit('count', dict(n=3), 'me'), 60)
    assert (job['status'], job['answer'], away) == ('done', dict(counted=3), [])


def test_rows_of_others_are_left_alone_and_break_nothing(registry):
    with registry.session() as session:
        for status in ('queued', 'running', 'done'):
            old = datetime.now(UTC) - timedelta(days=99)
            session.add(IngestJob(kind='fetch', params={}, status=status, updated_at=old))
    with working(registry) as jobs:
        job = jobs.wait(jobs.submit('count', dict(n=1), 'me'), 60)
        assert jobs.heart.is_alive() and job['status'] == 'done'
        jobs.recover()
    assert sorted(one['status'] for one in list_jobs(registry, kind='fetch')) == [
        'done',
        'queued',
        'running',
    ]


def test_a_heart_survives_what_nobody_foresaw(registry, monkeypatch):
    with working(registry) as jobs:
        beats = []
        with monkeypatch.context() as broken:
            broken.setattr(jobs, '_beat', lambda: beats.append(1) or 1 / 0)
            until(lambda: len(beats) > 2)
            assert jobs.heart.is_alive()


def test_one_key_that_two_servers_store_at_once_is_one_row(registry):
    """Both looked and saw nothing; the second to write finds what the first wrote"""

    def row(**asked):
        return _new_row('count', asked, 'me', 'a-key')

    assert _store_row(registry, row(n=1), 'a-key') is True
    assert _store_row(registry, row(n=1), 'a-key') is False
    with pytest.raises(Conflict, match='used for another request'):
        _store_row(registry, row(n=2), 'a-key')


def test_a_known_key_is_answered_when_the_queue_is_full(registry):
    with working(registry, workers=1, most_waiting=2) as jobs:
        ids = [jobs.submit('count', ENDLESS, 'me', key=f'k{n}') for n in range(2)]
        assert jobs.submit('count', ENDLESS, 'me', key='k1') == ids[1]
        jobs.cancel(ids[1])  # It waited: there is room for another
        jobs.submit('count', ENDLESS, 'me')


def test_a_job_is_cancelled_from_another_server(registry):
    with working(registry) as works, working(registry) as other:
        id = works.submit('count', ENDLESS, 'me')
        until(lambda: other.get(id)['progress'] is not None and other.get(id)['message'])
        other.cancel(id)
        until(lambda: other.get(id)['status'] == 'cancelled')
        with pytest.raises(Conflict, match='it is cancelled'):
            works.cancel(id)


def test_what_waits_is_cancelled_at_once_and_never_begun(registry):
    with working(registry, workers=1) as jobs:
        at_work = jobs.submit('count', ENDLESS, 'me')
        until(lambda: jobs.get(at_work)['status'] == 'running')
        waits = jobs.submit('count', dict(n=1), 'me')
        assert jobs.cancel(waits)['status'] == 'cancelled'
        jobs.cancel(at_work)
        until(lambda: jobs.get(at_work)['status'] == 'cancelled')
    assert jobs.get(waits)['starts'] == 0


def test_too_many_are_refused_and_not_written(registry):
    with working(registry, workers=1, most_waiting=3) as jobs:
        for _ in range(3):
            jobs.submit('count', ENDLESS, 'me')
        with pytest.raises(TooBusy, match='ask again later'):
            jobs.submit('count', ENDLESS, 'me')
        assert len(list_jobs(registry)) == 3


def test_who_asks_too_often_leaves_room_for_others(registry):
    with working(registry, workers=1, most_waiting=5, most_each=3) as jobs:
        for _ in range(3):
            jobs.submit('count', ENDLESS, 'Ann', asker='key of Ann')
        for _ in range(10):
            with pytest.raises(TooBusy, match='3 jobs of yours'):
                jobs.submit('count', ENDLESS, 'Ann', asker='key of Ann')
        waits = jobs.submit('count', ENDLESS, 'Bob', asker='key of Bob')
        assert len(list_jobs(registry)) == 4
        jobs.submit('count', ENDLESS, 'Bob', asker='key of Bob')
        with pytest.raises(TooBusy, match='5 jobs waiting'):  # Of all
            jobs.submit('count', ENDLESS, 'Bob', asker='key of Bob')
        jobs.cancel(waits)
        jobs.submit('count', ENDLESS, 'Bob', asker='key of Bob')


def test_a_job_that_kills_its_server_does_so_three_times(registry):
    with working(registry, serving=False) as jobs:
        id = jobs.submit('count', dict(n=1), 'me')
        jobs.wait(id, 60)
    with registry.session() as session:
        row = session.get(IngestJob, id)
        row.status, row.params = 'running', row.params | dict(starts=3)
    with working(registry) as jobs:
        job = until(lambda: jobs.get(id)['status'] == 'failed' and jobs.get(id))
    assert 'ended 3 times' in job['error']['message']


def test_the_log_of_a_job_is_its_own(registry):
    import logging

    from astrid_data.logs import get_log

    def warn(asked, who):
        get_log('jobs').warning('about %s', asked['n'])
        return {}

    with working(registry) as jobs:
        jobs.kinds['count'] = warn
        ids = [jobs.submit('count', dict(n=n), 'me') for n in range(8)]
        found = [jobs.wait(id, 60)['log'] for id in ids]
    told = [[line['what'] for line in log if line['what'].startswith('about')] for log in found]
    assert told == [[f'about {n}'] for n in range(8)]
    assert not [one for one in logging.getLogger('astrid_data').handlers if 'Into' in repr(one)]


def test_old_jobs_are_forgotten(registry):
    with working(registry, serving=False) as jobs:
        jobs.wait(jobs.submit('count', dict(n=1), 'me'), 60)
    with working(registry, keep_days=0):
        until(lambda: list_jobs(registry) == [])


def test_a_shell_sees_jobs_and_ends_them(tmp_path, capsys):
    from astrid_data.cli import main

    def shell(*words):
        status = main(['jobs', '--home', str(tmp_path), '--json', *words])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out.strip() else err

    with working(ad.open_archive(tmp_path).registry) as jobs:
        id = str(jobs.submit('count', ENDLESS, 'me'))
        until(lambda: jobs.get(id_of(id))['status'] == 'running')
        status, listed = shell('--status', 'running')
        assert status == 0 and [one['job_id'] for one in listed] == [id]
        assert shell('--cancel', id)[0] == 0
        until(lambda: jobs.get(id_of(id))['status'] == 'cancelled')
        status, words = shell('--cancel', id)
        assert status == 1 and 'it is cancelled' in str(words)
        with pytest.raises(SystemExit) as wrong:
            shell('--status', 'asleep')
        assert wrong.value.code == 2 and 'queued' in capsys.readouterr().err


def id_of(text):
    return uuid.UUID(text)
