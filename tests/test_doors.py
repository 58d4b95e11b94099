"""Every door of the server, taken from the server itself, so that none can be forgotten: who may come in, what it tells of
labels that are locked, what odd addresses and odd requests come to"""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from test_rest import MAKER, READER, house  # noqa: F401 (a fixture)

import astrid_data as ad
from astrid_data import api
from astrid_data.keys import PERMISSIONS, change_key, create_api_key, list_keys

OPEN = {  # Tell nothing of the archive
    '/',
    '/health',
    '/ready',
    '/openapi.json',
    '/docs',
    '/docs/oauth2-redirect',
    '/redoc',
    '/pages/login',
    '/pages/logout',
}


def doors(app):
    "Method, address and permissions of each route; None where it is no endpoint of the description"
    for route in app.routes:
        permissions = api._permissions_of(route) if isinstance(route, APIRoute) else None
        for method in sorted(route.methods - {'HEAD'}):
            yield method, route.path, permissions


def address_of(path, id):
    for name, value in {'{id}': id, '{row}': '0', '{row:int}': '0', '{form}': 'png'}.items():
        path = path.replace(name, value)
    return path.replace('{rest:path}', 'no/such/page')


@pytest.fixture(scope='module')
def keys(house):  # noqa: F811
    "State of a key -> the key"
    made = {name: create_api_key(house.archive, name, [name]) for name in PERMISSIONS}
    everything = list(PERMISSIONS)
    made['expired'] = create_api_key(house.archive, 'expired', everything)
    made['revoked'] = create_api_key(house.archive, 'revoked', everything)
    (row,) = [one for one in list_keys(house.archive) if one['name'] == 'revoked']
    change_key(house.archive, row['id'], is_active=False)
    (row,) = [one for one in list_keys(house.archive) if one['name'] == 'expired']
    over = datetime.now(UTC) - timedelta(seconds=1)
    change_key(house.archive, row['id'], expires_at=over)
    made |= dict(none=None, wrong='astrid_' + 'x' * 43, cut=made['read:data'][:-1], empty='')
    return made


def test_every_door_asks_for_a_key_that_holds_and_may(house, keys, monkeypatch):  # noqa: F811
    app, closed = house.client.app, 0
    monkeypatch.setattr(
        api._Guesses, 'left_s', lambda *_: 0
    )  # So many wrong keys would have to wait
    client = TestClient(ad.create_app(house.archive), raise_server_exceptions=False)
    for method, path, permissions in doors(app):
        if path in OPEN:
            continue
        closed += 1
        assert permissions is None or permissions, f'{method} {path} is open to all'
        assert permissions is not None or path.startswith('/pages'), f'{method} {path} is unknown'
        address = address_of(path, '00000000-0000-0000-0000-000000000000')
        for state, key in keys.items():
            headers = {} if key is None else {'X-API-Key': key}
            status = client.request(method, address, headers=headers, json={}).status_code
            if permissions is None or state not in PERMISSIONS:  # Pages know no header
                assert status == 401, (method, path, state, status)
            elif state in permissions:
                assert status not in (401, 403), (method, path, state, status)
            else:
                assert status == 403, (method, path, state, status)
    assert closed >= 24


def test_no_door_tells_a_locked_label(house, keys):  # noqa: F811
    "Each GET about a version, with each sample of test, and without a purpose"
    dataset = house.versions[0]
    rows = dataset.split_rows('test')
    table = dataset.samples.iloc[rows]
    told = {str(value) for value in table['class_name']} - {'', 'None', 'nan'}
    before, seen = len(dataset.test_openings), 0
    client = TestClient(ad.create_app(house.archive), raise_server_exceptions=False)
    client.post('/pages/login', data=dict(key=keys['read:data']))
    assert told and len(rows)
    for method, path, _ in doors(house.client.app):
        if method != 'GET' or '{id}' not in path or path.startswith(('/jobs', '/keys')):
            continue
        seen += 1
        address = address_of(path, dataset.address).replace('/0', f'/{rows[0]}')
        for query in ('', '?split=test'):
            answer = client.get(address + query, headers={'X-API-Key': keys['read:data']})
            if answer.status_code == 422 or answer.headers['content-type'] in api.FORMS.values():
                continue
            if path.endswith(('/samples', '/ledger')):
                locked = [one for one in answer.json()['data'] if one.get('split') == 'test']
                telling = ('label', 'class_name', 'kind', 'label_source', 'score')
                assert {one.get(name) for one in locked for name in telling} <= {None}, path
            if path == '/pages/{id}' and query:
                tiles = answer.text.split('<figcaption>')[1:]
                assert tiles and all('label locked' in tile for tile in tiles)
    assert seen >= 10 and len(dataset.test_openings) == before


ODD = [
    *(
        '..',
        '../..',
        '%2e%2e',
        '..%2f..%2fetc%2fpasswd',
        '....//',
        '%2fetc%2fpasswd',
        'a%00b',
        '%00',
    ),
    *(
        '%',
        '%zz',
        '%ff%fe',
        '%C0%AE%C0%AE',
        '日@v1',
        '%E2%80%AE@v1',
        'look@v1%0d%0aX: y',
        'x' * 5000,
    ),
    *(
        'look@v-1',
        'look@v1/..',
        '-1',
        '1e9',
        '9' * 30,
        'NaN',
        '*',
        '%27%20or%201=1',
        '{id}',
        '${x}',
    ),
]


@pytest.mark.parametrize('odd', ODD)
def test_odd_places_are_refused_in_words(house, keys, odd):  # noqa: F811
    client = house.client
    client.post('/pages/login', data=dict(key=keys['read:data']))
    headers = {'X-API-Key': keys['read:data']}
    for method, path, _ in doors(client.app):
        if '{' not in path or method != 'GET':
            continue
        for name in ('{id}', '{row}', '{row:int}', '{form}', '{rest:path}'):
            if name not in path:
                continue
            address = address_of(path.replace(name, odd, 1), 'look@v1')
            answer = client.get(address, headers=headers, follow_redirects=False)
            assert answer.status_code in (200, 307, 401, 403, 404, 405, 422), (address, answer)
            assert b'root:' not in answer.content and b'Traceback' not in answer.content
            if answer.status_code == 200:  # Led back to what there is
                assert 'x: y' not in str(answer.headers).lower()
            if (
                path.startswith('/pages')
                and answer.url.path.startswith('/pages/')
                and '%0d' not in odd
            ):
                assert answer.headers['content-type'].startswith(('text/html', 'image/')), address
    client.cookies.clear()


@pytest.mark.parametrize(
    'path, status',
    [
        ('/pages?page=abc', 422),
        ('/pages/look@v1?page=2', 422),
        ('/pages/look@v1/samples/0.png?x=1', 422),
        ('/pages/look@v1/samples/99999.png', 404),
        ('/pages/look@v1/samples/first.png', 404),
        ('/pages/look@v1/nothing', 404),
        ('/pages/', 404),
    ],
)
def test_what_is_missing_is_a_page_in_words(house, keys, path, status):  # noqa: F811
    client = TestClient(ad.create_app(house.archive), raise_server_exceptions=False)
    client.post('/pages/login', data=dict(key=keys['read:data']))
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code == status, answer.text[:200]
    assert answer.headers['content-type'].startswith('text/html') and '<h1>' in answer.text


def test_no_cookie_holds_a_key_and_each_ends(house, monkeypatch):  # noqa: F811
    key = create_api_key(house.archive, 'visitor', READER)
    (row,) = [one for one in list_keys(house.archive) if one['name'] == 'visitor']
    app = ad.create_app(house.archive)
    one, other = TestClient(app), TestClient(app)
    for client in (one, other):
        assert client.post('/pages/login', data=dict(key=key)).status_code == 200
    words = [client.cookies['astrid_visit'] for client in (one, other)]
    assert words[0] != words[1] and not any(key[7:] in word or word in key for word in words)
    elsewhere = TestClient(ad.create_app(house.archive), cookies=dict(astrid_visit=words[0]))
    assert elsewhere.get('/pages').status_code == 401
    assert TestClient(app, cookies=dict(astrid_visit=key)).get('/pages').status_code == 401
    one.post('/pages/logout')
    stolen = TestClient(app, cookies=dict(astrid_visit=words[0]))
    assert stolen.get('/pages').status_code == 401 and other.get('/pages').status_code == 200
    now = api.monotonic()
    monkeypatch.setattr(api, 'monotonic', lambda: now + api._VISIT_S + 1)
    assert other.get('/pages').status_code == 401
    monkeypatch.undo()
    assert other.get('/pages').status_code == 200
    change_key(house.archive, row['id'], permissions=MAKER)
    assert other.get('/pages').status_code == 403
    change_key(house.archive, row['id'], permissions=READER, is_active=False)
    answer = other.get('/pages')
    assert answer.status_code == 401 and 'has ended' in answer.text
