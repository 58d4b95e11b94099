"Callers that exist already: their words over HTTP, in a shell and in Python work as they are printed."

import json
import logging
import shutil
import socket
import subprocess
import threading
import time
import warnings
from contextlib import contextmanager

import pytest

import astrid_data as ad
from astrid_data.core import NotFound
from astrid_data.simulate.synthetic import synthetic_archive

COLLECT = '/training/datasets/collect'


@pytest.fixture(scope='module')
def pretend(tmp_path_factory):
    "A small archive whose only survey is synthetic-skyview"
    return synthetic_archive(tmp_path_factory.mktemp('pretend'), n_observations=2, n_sources=15)


@contextmanager
def served(archive):
    "The API of an archive on a port of its own"
    import uvicorn

    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(ad.create_app(archive), port=port, log_level='critical')
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f'http://127.0.0.1:{port}'
    server.should_exit = True
    thread.join()


@pytest.fixture(scope='module')
def curl(pretend):
    "Run the real curl against a real server; gives the status and the envelope"
    if not shutil.which('curl'):
        pytest.skip('there is no curl on this machine')
    key = ad.api.create_api_key(pretend, 'me', ['read:data', 'manage:operations'])

    def run(*arguments, path=COLLECT, key=key):
        command = ['curl', '-sS', '-w', '\n%{http_code}', '-X', 'POST', url + path]
        if key:
            command += ['-H', f'X-API-Key: {key}']
        out = subprocess.run([*command, *arguments], capture_output=True, check=True).stdout
        answer, _, status = out.decode().rpartition('\n')
        return int(status), json.loads(answer)

    with served(pretend) as url:
        yield run


# A body is JSON, whatever its content type says ----------------------------------------------------

ASKED = {'survey_ids': ['synthetic-skyview', 'jwst'], 'max_samples': 12, 'name': 'asked'}
BODY = json.dumps(ASKED)


@pytest.mark.parametrize(
    'header',
    [
        None,  # As the seed prints it: curl says application/x-www-form-urlencoded
        'Content-Type:',  # None at all
        'Content-Type: text/plain',
        'Content-Type: application/x-www-form-urlencoded; charset=UTF-8',
        'Content-Type: application/json',
        'Content-Type: application/json; charset=utf-8',
        'Content-Type: Application/JSON;charset="UTF-8"',
        'Content-Type: application/vnd.api+json',
        'Content-Type: text/json',
        'Content-Type: multipart/form-data',
        'Content-Type: no content type at all',
    ],
)
def test_a_body_that_is_json_is_taken_as_json(curl, header):
    status, answer = curl(*(['-H', header] if header else []), '-d', BODY)
    assert status == 200, answer
    assert answer['data']['name'] == 'asked' and answer['data']['total_samples'] > 0
    assert answer['meta']['unknown'] == {'survey_ids': ['jwst']}


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
def test_a_body_may_say_its_encoding_itself(curl, tmp_path, encoding):
    body = tmp_path / 'body.json'
    text = json.dumps({**ASKED, 'description': 'Überriese α'}, ensure_ascii=False)
    body.write_bytes(text.encode(encoding))
    status, answer = curl('--data-binary', f'@{body}')
    assert status == 200 and answer['data']['description'] == 'Überriese α'


def test_a_named_charset_is_listened_to(curl, tmp_path):
    body = tmp_path / 'body.json'
    text = json.dumps({**ASKED, 'description': 'Überriese'}, ensure_ascii=False)
    body.write_bytes(text.encode('latin-1'))
    header = 'Content-Type: application/json; charset=iso-8859-1'
    status, answer = curl('-H', header, '--data-binary', f'@{body}')
    assert status == 200 and answer['data']['description'] == 'Überriese'
    status, answer = curl('--data-binary', f'@{body}')  # Not UTF-8, and nothing says what it is
    assert status == 422 and 'cannot be read as JSON' in answer['error']['message']


@pytest.mark.parametrize(
    'body, says',
    [
        ('name=first-look&survey_ids=hst', 'cannot be read as JSON'),
        ('%7B%22name%22%3A%22x%22%7D', 'cannot be read as JSON'),
        ("{'name': 'x'}", 'cannot be read as JSON'),
        (BODY[:-1], 'cannot be read as JSON'),
        ('[' * 100_000, 'cannot be read as JSON'),
        ('{"name": "x", "description": "\\ud800"}', 'cannot be read as JSON'),
        ('{"name": "x", "description": "\\u0000"}', 'NUL'),
        (' ', 'cannot be read as JSON'),
        ('', 'body: Field required'),
        ('[1, 2]', 'body: Input should be a valid dictionary'),
        ('"name"', 'body: Input should be a valid dictionary'),
        ('null', 'body: '),
        ('{}', 'name: Field required'),
        ('{"name": "x", "max_samples": NaN}', 'max_samples'),
        ('{"name": "x", "survey_ids": [5]}', 'survey_ids.0'),
        ('{"name": "x", "survey_ids": []}', 'empty list'),
        ('{"name": "x", "validation_status": "vetted"}', 'choose from'),
        ('{"name": "x", "anomaly_types": []}', 'empty list'),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_the_envelope(curl, body, says):
    status, answer = curl('--data-binary', body)
    assert status == 422 and answer['status'] == 'error' and answer['data'] is None
    assert says in answer['error']['message'], answer


def test_who_has_no_key_hears_of_that_first(curl):
    for body in (BODY, 'name=x'):
        status, answer = curl('-d', body, key=None)
        assert (status, answer['error']['error_code']) == (401, 'unauthorized')


def test_an_endpoint_without_a_body_takes_any(curl):
    _, made = curl('-d', BODY)
    path = f'/training/datasets/{made["data"]["dataset_id"]}/load'
    for body in ('{}', 'x=1', ''):
        status, answer = curl('-d', body, path=path)
        assert status == 200 and answer['data']['ready_for_training']


def test_what_nobody_expected_leaves_in_the_envelope_too(pretend, monkeypatch):
    from fastapi.testclient import TestClient

    def fail(*args, **kwargs):
        raise RuntimeError('a secret')

    monkeypatch.setattr('astrid_data.api.build_dataset', fail)
    key = ad.api.create_api_key(pretend, 'me', ['manage:operations'])
    client = TestClient(ad.create_app(pretend), raise_server_exceptions=False)
    answer = client.post(COLLECT, content=BODY, headers={'X-API-Key': key})
    assert answer.status_code == 500 and answer.json()['status'] == 'error'
    assert 'secret' not in answer.text


# Names that are not there --------------------------------------------------------------------------


def quiet_plan(archive, **fields):
    "A plan, and what was warned of"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        plan = ad.TrainingDataCollector(archive).plan(progress=False, **fields)
    return plan, [str(w.message) for w in heard if 'asked without' in str(w.message)]


KNOWN = 'synthetic-skyview'


@pytest.mark.parametrize(
    'fields, unknown',
    [
        (dict(survey_ids=[KNOWN, 'jwst']), {'survey_ids': ['jwst']}),
        (dict(survey_ids=['JWST', 'Hubble', KNOWN.upper()]), {'survey_ids': ['JWST', 'Hubble']}),
        (dict(survey_ids=['jwst', 'jwst', KNOWN, KNOWN]), {'survey_ids': ['jwst']}),
        (dict(survey_ids=KNOWN), {}),
        (dict(survey_ids=[KNOWN, KNOWN.upper()]), {}),
        (dict(bands=['r', 'K']), {'bands': ['K']}),
        (dict(bands='R'), {}),
        (dict(anomaly_types=['Star', 'kilonova']), {'anomaly_types': ['kilonova']}),
        (
            dict(survey_ids=[KNOWN, 'jwst'], bands=['r', 'K']),
            {'survey_ids': ['jwst'], 'bands': ['K']},
        ),
    ],
)
def test_known_names_are_asked_and_the_others_are_named(pretend, caplog, fields, unknown):
    caplog.set_level(logging.WARNING, 'astrid_data')
    plan, heard = quiet_plan(pretend, **fields)
    assert plan.unknown == unknown and len(plan) > 0
    logged = [record for record in caplog.records if record.name.startswith('astrid_data.')]
    assert len(heard) == len(logged) == bool(unknown)
    for name in (name for names in unknown.values() for name in names):
        assert repr(name) in repr(plan) and repr(name) in heard[0]
        assert repr(name) in logged[0].getMessage()
    assert ('not here' in repr(plan)) == ('not here' in plan._repr_html_()) == bool(unknown)


def test_the_known_part_is_answered_as_if_asked_alone(pretend):
    alone, _ = quiet_plan(pretend, survey_ids=[KNOWN])
    partly, _ = quiet_plan(pretend, survey_ids=['jwst', KNOWN])
    assert alone.samples.equals(partly.samples) and alone.ledger.equals(partly.ledger)
    assert partly.params.survey_ids == ['jwst', KNOWN]  # The question stays as it was asked


@pytest.mark.parametrize(
    'fields, says',
    [
        (dict(survey_ids=['jwst', 'roman']), "no survey 'jwst', 'roman': the registry knows synth"),
        (dict(survey_ids='hubble'), "no survey 'hubble'"),
        (dict(bands=['K', 'H']), "no observation in band 'K', 'H'; there are: r"),
        (dict(anomaly_types=['kilonova']), 'no positive sample'),
        (dict(object_ids=['SN 1'], validation_status='any'), 'no positive sample'),
        (dict(observation_status=['odd']), 'no positive sample'),
    ],
)
def test_an_error_only_where_nothing_is_known(pretend, fields, says):
    with pytest.raises(NotFound, match=says):
        quiet_plan(pretend, **fields)


def test_the_version_says_what_was_not_there(pretend):
    plan, _ = quiet_plan(pretend, survey_ids=[KNOWN, 'jwst'], max_samples=12)
    dataset = plan.build('partly', probe=False, progress=False)
    assert dataset.manifest['unknown'] == {'survey_ids': ['jwst']}
    whole, _ = quiet_plan(pretend, survey_ids=[KNOWN], max_samples=12)
    assert 'unknown' not in whole.build('whole', probe=False, progress=False).manifest


def test_names_match_the_same_on_both_databases(registry_url, tmp_path):
    from astrid_data.collect.queries import unknown_names
    from astrid_data.registry import get_or_create_survey

    archive = ad.open_archive(registry_url, home=tmp_path)
    params = ad.TrainingDataCollectionParams(
        survey_ids=['jwst', 'Hst'], object_ids=[f'SN {n}' for n in range(6000)], bands='K'
    )
    with archive.session() as session:
        get_or_create_survey(session, 'hst')
        found = unknown_names(session, params)
    assert (found['survey_ids'], found['bands']) == (['jwst'], ['K'])
    assert len(found['object_ids']) == 6000
