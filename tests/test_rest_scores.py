"Models over HTTP: packets, places and versions score as in Python, locked rows tell no names, files stay within what is open"

import base64
import json
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from test_isolated_tables import DEADLY, fragile, with_comment  # noqa: F401 (a fixture)
from test_scoring import classifier, new_alerts, trained  # noqa: F401 (fixtures)

import astrid_data as ad
from astrid_data import web_models
from astrid_data.automation.promoted import Decision, record_candidate
from astrid_data.inference.score import score
from astrid_data.keys import create_api_key
from astrid_data.registry.tables import Model

NOBODY = '00000000-0000-0000-0000-000000000000'


@pytest.fixture(scope='module')
def house(trained, classifier):  # noqa: F811
    archive, _, dataset, _ = trained
    decision = Decision(True, 'the first')
    record_candidate(archive, classifier, dataset, decision)
    with archive.session() as session:
        [id] = [m.id for m in session.query(Model) if m.version == classifier.version]
        others = [m.id for m in session.query(Model) if m.version != classifier.version]
    key = create_api_key(archive, 'reader', ['read:data'])
    with TestClient(ad.create_app(archive), headers={'X-API-Key': key}) as client:
        yield SimpleNamespace(
            client=client, id=id, others=others, dataset=dataset, model=classifier, archive=archive
        )


def as_json(packet):
    "A packet with stamps in base 64"

    def plain(value):
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list) else value

    return plain(packet)


def ask(house, id=None, **body):
    return house.client.post(f'/models/{id or house.id}/score', json=body)


def same(rows, table):
    for name in ('score', 'probability', 'distance'):
        ours = np.array([np.nan if row[name] is None else row[name] for row in rows], float)
        np.testing.assert_allclose(ours, table[name].to_numpy(float), rtol=1e-6)
    assert [row['reason'] for row in rows] == table['reason'].tolist()


def test_packets_score_as_in_python(house):
    packets = list(new_alerts(5))
    packets[2] = packets[2] | dict(cutoutScience=b'broken')
    answer = ask(house, packets=[as_json(one) for one in packets], prior=0.1)
    assert answer.status_code == 200, answer.text
    rows = answer.json()['data']
    same(rows, score(house.model, packets, prior=0.1))
    assert sum(row['reason'] != '' for row in rows) == 1
    for row in rows:
        web_models.ScoreFacts.model_validate(row)


def test_a_packet_that_ends_its_reader_costs_itself(house, fragile):  # noqa: F811
    packets = list(new_alerts(3))
    deadly = with_comment(packets[1]['cutoutScience'], DEADLY)
    packets[1] = packets[1] | dict(cutoutScience=deadly)
    answer = ask(house, packets=[as_json(one) for one in packets])
    assert [row['reason'] for row in answer.json()['data']] == ['', 'crashed', '']


def test_a_version_scores_as_in_python_and_its_test_has_no_names(house):
    answer = ask(house, dataset=house.dataset.address)
    assert answer.status_code == 200, answer.text
    rows = answer.json()['data']
    same(rows, score(house.model, house.dataset))
    tested = [row for row in rows if row['split'] == 'test']
    assert tested and all(row.get('object_id') is None for row in tested)
    assert all(row.get('detection_id') is None for row in tested)
    assert any(row['name'] for row in rows if row['split'] != 'test')


def test_places_stay_within_what_is_open(house):
    channels = house.model.input['channels']
    closed = {f'{channel}_uri': '/etc/passwd' for channel in channels}
    answer = ask(house, places=[closed | dict(ra=1.0, dec=2.0)])
    assert answer.status_code == 200, answer.text
    [row] = answer.json()['data']
    assert row['score'] is None and row['reason'] == 'denied', row
    assert 'root:' not in answer.text


@pytest.mark.parametrize(
    'body, status',
    [
        ({}, 422),
        (dict(dataset='a@v1', packets=[{}]), 422),
        (dict(places=[dict(x=1)]), 422),
        (dict(packets=[]), 422),
        (dict(packets=[dict(cutoutScience='?')]), 422),
        (dict(dataset='nothing@v1'), 404),
        (dict(dataset='a', prior=2), 422),
        (dict(dataset='a', what=2), 422),
    ],
)
def test_what_is_odd_is_said(house, body, status):
    answer = ask(house, **body)
    assert answer.status_code == status, answer.text


def test_models_are_listed_and_those_without_weights_say_so(house):
    rows = house.client.get('/models').json()['data']
    [mine] = [row for row in rows if row['id'] == str(house.id)]
    assert mine['is_active'] and house.client.get(f'/models/{house.id}').json()['data'] == mine
    for row in rows:
        web_models.ModelFacts.model_validate(row)
    packets = [as_json(one) for one in new_alerts(1)]
    assert ask(house, uuid.UUID(NOBODY), packets=packets).status_code == 404
    for other in house.others[:1]:
        assert ask(house, other, packets=packets).status_code == 409


def test_the_answer_is_json_in_full(house):
    packets = [as_json(one) for one in new_alerts(1)]
    json.loads(ask(house, packets=packets).text, parse_constant=lambda word: pytest.fail(word))
