"What surrounds every answer: a name for the request, gzip, pace, when to come again, other origins, tags of what does not change"

import json
import logging
import re

import pytest
from fastapi.testclient import TestClient

import astrid_data as ad
from astrid_data import api
from astrid_data.keys import create_api_key
from astrid_data.logs import log_to, stop_logging
from astrid_data.registry.tables import DatabaseAway

LIST = '/training/datasets'


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    "An archive with a version"
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('manners'), seed=3)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=40))
    how = dict(patch_size=16, probe=False, allow_empty=True, progress=False)
    for seed in (0, 1):
        plan.build('look', seed=seed, **how)
    archive.key = create_api_key(archive, 'reader', ['read:data'])
    return archive


def client_of(archive, **how):
    headers = {'X-API-Key': archive.key}
    return TestClient(ad.create_app(archive, **how), headers=headers, raise_server_exceptions=False)


@pytest.fixture(scope='module')
def client(archive):
    return client_of(archive)


def test_a_request_has_a_name_in_answer_and_log(client, tmp_path):
    log_to(tmp_path / 'log', json=True)
    try:
        named = client.get(LIST, headers={'X-Request-ID': 'night-7'})
        made = client.get(f'{LIST}/x')
        odd = client.get('/health', headers={'X-Request-ID': 'a b"'})
    finally:
        stop_logging(tmp_path / 'log')
    assert named.headers['x-request-id'] == 'night-7'
    assert re.fullmatch('[0-9a-f]{32}', made.headers['x-request-id']) and made.status_code == 422
    assert re.fullmatch('[0-9a-f]{32}', odd.headers['x-request-id'])
    lines = [json.loads(line) for line in (tmp_path / 'log').read_text().splitlines()]
    ends = {line['request']: line['status'] for line in lines if line.get('event') == 'request'}
    assert ends['night-7'] == 200 and ends[made.headers['x-request-id']] == 422


def test_what_fails_is_logged_under_its_name(archive, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError('inside')

    monkeypatch.setattr(api, '_total', fail)
    log_to(tmp_path / 'log', json=True, level=logging.ERROR)
    try:
        answer = client_of(archive).get(LIST, headers={'X-Request-ID': 'broken-1'})
    finally:
        stop_logging(tmp_path / 'log')
    assert answer.status_code == 500 and 'inside' not in answer.text
    [line] = [json.loads(line) for line in (tmp_path / 'log').read_text().splitlines()]
    assert line['request'] == 'broken-1' and 'inside' in line['exception']


def test_text_is_packed_for_who_unpacks(client):
    plain = client.get('/openapi.json', headers={'Accept-Encoding': 'identity'})
    packed = client.get('/openapi.json', headers={'Accept-Encoding': 'gzip'})
    assert 'content-encoding' not in plain.headers
    assert packed.headers['content-encoding'] == 'gzip' and packed.content == plain.content
    assert int(packed.headers['content-length']) < len(plain.content) / 3


def test_a_key_that_asks_too_often_waits_alone(archive):
    other = create_api_key(archive, 'other', ['read:data'])
    client = client_of(archive, per_second=0.01)
    statuses = [client.get(LIST).status_code for _ in range(203)]
    assert statuses.count(429) >= 1 and set(statuses) == {200, 429}
    refused = client.get(LIST)
    assert refused.status_code == 429 and 1 <= int(refused.headers['retry-after']) <= 100
    assert refused.json()['error']['error_code'] == 'too_often'
    assert client.get(LIST, headers={'X-API-Key': other}).status_code == 200
    assert client.get('/health').status_code == 200


def test_what_is_away_says_when_to_come_again(archive, monkeypatch):
    def away(*_):
        raise DatabaseAway('the database is away')

    monkeypatch.setattr(api, '_total', away)
    answer = client_of(archive).get(LIST)
    assert answer.status_code == 503 and int(answer.headers['retry-after']) > 0


def test_other_origins_are_let_in_only_where_they_are_named(archive, client):
    asked = {'Origin': 'https://dash.example.org'}
    before = {'Access-Control-Request-Method': 'GET', 'Access-Control-Request-Headers': 'x-api-key'}
    assert not any('access-control' in name for name in client.get(LIST, headers=asked).headers)
    assert client.options(LIST, headers=asked | before).status_code == 405
    named = client_of(archive, origins=['https://dash.example.org'])
    told = named.get(LIST, headers=asked).headers
    assert told['access-control-allow-origin'] == 'https://dash.example.org'
    assert 'access-control-allow-credentials' not in told
    assert named.options(LIST, headers=asked | before).status_code == 200
    elsewhere = {'Origin': 'https://other.example.org'}
    assert 'access-control-allow-origin' not in named.get(LIST, headers=elsewhere).headers


@pytest.mark.parametrize(
    'end', ['audit', 'datasheet', 'datasheet?form=croissant', 'diff?old=look@v1']
)
def test_who_has_what_does_not_change_gets_none(client, end):
    path = f'{LIST}/look@v2/{end}'
    first = client.get(path)
    tag = first.headers['etag']
    again = client.get(path, headers={'If-None-Match': tag})
    assert first.status_code == 200 and again.status_code == 304 and not again.content
    assert again.headers['etag'] == tag
    other = path.replace('v2', 'v1')
    assert client.get(other, headers={'If-None-Match': tag}).status_code == 200
