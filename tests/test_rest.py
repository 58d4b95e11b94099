"""What a client may do over HTTP beyond collecting: keys, locked labels, exports, names, HEAD, and pages in a browser"""

import io
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

import astrid_data as ad
from astrid_data import api, views
from astrid_data.keys import PERMISSIONS, change_key, create_api_key, list_keys
from astrid_data.registry.tables import TrainingDataset

BASE = '/training/datasets'
ADMIN, MAKER, READER = ['manage:keys'], ['training:data_collection'], ['read:data']
NOBODY = '00000000-0000-0000-0000-000000000000'


@pytest.fixture(scope='module')
def house(tmp_path_factory):
    "A served archive with two versions of one set"
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('rest'), seed=3)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=60))
    how = dict(patch_size=16, probe=False, allow_empty=True, progress=False)
    versions = [plan.build('look', seed=seed, **how) for seed in (0, 1)]
    keys = {
        name: create_api_key(archive, name, permissions)
        for name, permissions in dict(admin=ADMIN, maker=MAKER, reader=READER).items()
    }
    keys['all'] = create_api_key(archive, 'all', ['manage:operations'])
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    return SimpleNamespace(archive=archive, versions=versions, keys=keys, client=client)


@pytest.fixture
def get(house):
    def ask(path, key='reader', **kw):
        return house.client.get(path, headers={'X-API-Key': house.keys[key]}, **kw)

    return ask


def openings(house, version=0):
    return len(house.versions[version].test_openings)


# Who may do what --------------------------------------------------------------------------------------------------


def operations(client):
    described = client.get('/openapi.json').json()
    for path, methods in described['paths'].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


MAY = {
    ('GET', '/keys'): {'admin'},
    ('POST', '/keys'): {'admin'},
    ('PATCH', '/keys/{id}'): {'admin'},
    ('DELETE', '/keys/{id}'): {'admin'},
    ('POST', f'{BASE}/collect'): {'maker', 'all'},
    ('DELETE', '/jobs/{id}'): {'maker', 'all'},
    ('POST', '/events'): {'all'},
    **{
        ('POST', f'/observations/ingest/{way}'): {'all'}
        for way in ('position', 'address', 'upload')
    },
    **{('POST', f'/stamps/ingest/{way}'): {'all'} for way in ('address', 'upload')},
    ('POST', '/detections/{id}/events'): {'all'},
}


def test_every_endpoint_asks_for_a_key_and_a_permission(house):
    seen = set()
    for method, path, _ in operations(house.client):
        address = path.replace('{id}', NOBODY).replace('{row}', '0')
        may = MAY.get((method, path), {'reader'})
        seen.add((method, path))
        for key in (None, 'astrid_guess', *house.keys):
            headers = {'X-API-Key': house.keys.get(key, key)} if key else {}
            status = house.client.request(method, address, headers=headers, json={}).status_code
            if key not in house.keys:
                assert status == 401, (method, path, key, status)
            elif key in may:
                assert status not in (401, 403), (method, path, key, status)
            else:
                assert status == 403, (method, path, key, status)
    assert set(MAY) < seen and len(seen) == 37


def test_the_description_has_examples_and_a_key_for_each(house):
    for method, path, operation in operations(house.client):
        assert operation['security'] == [{'APIKeyHeader': []}], (method, path)
        assert {'401', '403', '404', '422', '429', '503'} <= set(operation['responses'])
        for one in operation.get('parameters', []):
            if one['name'] == 'id' and path.startswith(BASE):
                assert one['examples'], path
    schemas = house.client.get('/openapi.json').json()['components']['schemas']
    for body in ('CollectBody', 'KeyBody', 'KeyChange'):
        example = schemas[body]['examples'][0]
        getattr(api, body).model_validate(example)


# Keys -------------------------------------------------------------------------------------------------------------


def as_admin(house, method, path, **kw):
    headers = {'X-API-Key': house.keys['admin']}
    return house.client.request(method, path, headers=headers, **kw)


def test_a_key_lives_its_life_over_http(house):
    made = as_admin(house, 'POST', '/keys', json=dict(name='guest', permissions=READER))
    assert made.status_code == 201
    key = {'X-API-Key': made.json()['data']['key']}
    assert house.client.get(BASE, headers=key).status_code == 200
    (row,) = [
        one for one in as_admin(house, 'GET', '/keys').json()['data'] if one['name'] == 'guest'
    ]
    assert row['created_by'] == 'admin' and row['is_active']
    path = f'/keys/{row["id"]}'
    as_admin(house, 'PATCH', path, json=dict(permissions=MAKER))
    assert house.client.get(BASE, headers=key).status_code == 403
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    as_admin(house, 'PATCH', path, json=dict(permissions=READER, expires_at=past))
    assert house.client.get(BASE, headers=key).status_code == 401
    as_admin(house, 'PATCH', path, json=dict(expires_at=None))
    assert house.client.get(BASE, headers=key).status_code == 200
    ended = as_admin(house, 'DELETE', path).json()['data']
    assert not ended['is_active'] and ended['name'] == 'guest'
    assert house.client.get(BASE, headers=key).status_code == 401


def test_no_answer_tells_a_key_or_its_hash(house):
    said = as_admin(house, 'GET', '/keys').text + str(list_keys(house.archive))
    assert 'hash' not in said and not any(key in said for key in house.keys.values())


@pytest.mark.parametrize(
    'method, end, body, status',
    [
        ('POST', '', dict(name='x', permissions=[]), 422),
        ('POST', '', dict(name='x', permissions=['read:everything']), 422),
        ('POST', '', dict(name='x\0', permissions=READER), 422),
        ('POST', '', dict(name='x', permissions=READER, is_active=False), 422),
        ('POST', '', dict(name='x', permissions=READER, expires_at='soon'), 422),
        ('PATCH', f'/{NOBODY}', dict(is_active=False), 404),
        ('PATCH', f'/{NOBODY}', dict(key_hash='0'), 422),
        ('PATCH', f'/{NOBODY}', dict(permissions=None), 422),
        ('DELETE', f'/{NOBODY}', None, 404),
        ('DELETE', '/x', None, 422),
    ],
)
def test_what_is_no_key_is_refused(house, method, end, body, status):
    before = list_keys(house.archive)
    assert as_admin(house, method, f'/keys{end}', json=body).status_code == status
    names = [one['name'] for one in list_keys(house.archive)]
    assert names == [one['name'] for one in before]


def test_who_guesses_waits_and_his_neighbour_works_on(house):
    client = TestClient(ad.create_app(house.archive))
    good = {'X-API-Key': house.keys['reader']}
    assert client.get(BASE, headers=good).status_code == 200
    tried = [client.get(BASE, headers={'X-API-Key': f'astrid_{n}'}) for n in range(70)]
    assert {one.status_code for one in tried[:60]} == {401}
    assert {one.status_code for one in tried[60:]} == {429}
    assert client.get(BASE, headers=good).status_code == 200
    late = {'X-API-Key': create_api_key(house.archive, 'late', READER)}  # Never seen from there
    assert client.get(BASE, headers=late).status_code == 200
    assert client.get(BASE).status_code == 401  # Who shows no key has guessed nothing
    assert client.get('/pages').status_code == 401
    new = client.post('/pages/login', data=dict(key=create_api_key(house.archive, 'new', READER)))
    assert new.status_code == 200
    assert client.get(BASE, headers={'X-API-Key': 'astrid_again'}).status_code == 429


def test_a_change_of_a_key_has_no_defaults(house):
    described = house.client.get('/openapi.json').json()['components']['schemas']['KeyChange']
    assert not described.get('required')
    assert [name for name, one in described['properties'].items() if 'default' in one] == []
    made = as_admin(house, 'POST', '/keys', json=dict(name='kept', permissions=MAKER)).json()
    (row,) = [one for one in list_keys(house.archive) if one['name'] == made['data']['name']]
    changed = as_admin(house, 'PATCH', f'/keys/{row["id"]}', json=dict(description='x')).json()
    assert changed['data'] == row | dict(description='x')


def test_the_permissions_are_those_of_the_deployment():
    assert {'read:data', 'training:data_collection', 'manage:operations'} < set(PERMISSIONS)


# What is locked ---------------------------------------------------------------------------------------------------


def test_labels_of_test_come_with_a_purpose_and_leave_a_mark(house, get):
    dataset = house.versions[0]
    before, path = openings(house), f'{BASE}/{dataset.id}/samples?split=test&limit=1000'
    rows = get(path).json()['data']
    telling = 'label class_name kind label_source detection_id score snr mag object_id'.split()
    assert rows and {row[name] for row in rows for name in telling if name in row} == {None}
    assert openings(house) == before
    rows = get(path + '&purpose=the final score').json()['data']
    wanted = dataset.samples['label'].to_numpy()[dataset.split_rows('test')]
    assert [row['label'] for row in rows] == wanted.tolist()
    last = dataset.test_openings.iloc[-1]
    assert openings(house) == before + 1
    assert (last['who'], last['purpose']) == ('reader', 'the final score')


@pytest.mark.parametrize('query', ['class_name=star', 'kind=random_sky&split=test'])
def test_no_filter_tells_labels_of_test(house, get, query):
    answer = get(f'{BASE}/{house.versions[0].id}/samples?{query}')
    assert answer.status_code == 422 and 'purpose=' in answer.json()['error']['message']


def test_the_other_splits_are_as_they_were(house, get):
    dataset = house.versions[0]
    rows = get(f'{BASE}/{dataset.id}/samples?limit=1000').json()['data']
    for row in rows:
        known = dataset.samples.iloc[row['row']]
        assert row['label'] == (None if row['split'] == 'test' else known['label'])


def test_no_patch_of_test_says_its_label(house, get):
    from astropy.io import fits

    for split, is_said in (('test', False), ('train', True)):
        row = int(house.versions[0].split_rows(split)[0])
        answer = get(f'{BASE}/{house.versions[0].id}/samples/{row}/patch?form=fits')
        header = fits.open(io.BytesIO(answer.content))[0].header
        assert ('LABEL' in header, 'CLASS' in header) == (is_said, is_said)


def test_no_light_curve_tells_a_label_of_test(house, get):
    dataset = house.versions[0]
    before = openings(house)
    for row in dataset.split_rows('test'):
        answer = get(f'{BASE}/{dataset.id}/samples/{row}/light_curve')
        assert answer.status_code == 422 and 'purpose=' in answer.json()['error']['message']
    assert openings(house) == before
    row = int(dataset.split_rows('test')[0])
    answer = get(f'{BASE}/{dataset.id}/samples/{row}/light_curve?purpose=variable')
    assert answer.json()['data']['name'] == dataset.light_curve(row).name
    last = dataset.test_openings.iloc[-1]
    assert openings(house) == before + 1
    assert (last['who'], last['purpose']) == ('reader', 'variable')


def test_a_curve_of_another_split_leaves_no_mark(house, get):
    dataset, before = house.versions[0], openings(house)
    row = int(dataset.split_rows('train')[0])
    for end in ('', '?purpose=variable'):
        assert get(f'{BASE}/{dataset.id}/samples/{row}/light_curve{end}').status_code == 200
    assert openings(house) == before


def test_no_difference_tells_what_follows_from_a_label_of_test(house):
    dataset = house.versions[0]
    keys = [dataset.samples['sample_key'][dataset.split_rows(one)[0]] for one in ('test', 'train')]
    telling, open_to_all = ['target map', 'light curve', 'label'], ['pixels', 'group']
    rows = [(key, what, 'a', 'b') for key in keys for what in telling + open_to_all]
    changed = pd.DataFrame(rows, columns=['sample_key', 'what', 'was', 'now'])
    for row in views._changes(dataset, dataset, changed, 100):
        is_locked = row['sample_key'] == keys[0] and row['what'] in telling
        assert (row['was'], row['now']) == ((None, None) if is_locked else ('a', 'b'))


def test_an_export_has_test_only_for_a_purpose(house, get):
    before, path = openings(house, 1), f'{BASE}/look@v2/export'
    answer = get(path)
    assert answer.headers['content-type'] == 'application/zip'
    assert int(answer.headers['content-length']) == len(answer.content)
    assert 'look-v2-parquet.zip' in answer.headers['content-disposition']
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert names and not any('test' in name for name in names) and openings(house, 1) == before
    opened = zipfile.ZipFile(io.BytesIO(get(path + '?purpose=a paper').content))
    (name,) = [name for name in opened.namelist() if '/test-' in name]
    table = pq.read_table(io.BytesIO(opened.read(name)))
    assert table.num_rows == len(house.versions[1].split_rows('test'))
    last = house.versions[1].test_openings.iloc[-1]
    assert openings(house, 1) == before + 1
    assert last['who'] == 'reader' and last['purpose'].startswith('a paper')


def test_an_export_that_is_too_large_says_where_to_make_it(house, get, monkeypatch):
    monkeypatch.setattr(api, '_MOST_EXPORT_BYTES', 1000)
    answer = get(f'{BASE}/look@v2/export')
    assert answer.status_code == 422 and 'astrid-data export look@v2' in answer.text


def test_a_difference_does_not_tell_labels_of_test(house, get):
    data = get(f'{BASE}/look@v2/diff?old=look@v1&limit=1000').json()['data']
    found = house.versions[1].diff(house.versions[0])
    assert data['totals']['changed'] == len(found.changed) > 0
    assert [row['what'] for row in data['changed']] == found.changed['what'].tolist()
    for row in data['changed']:
        assert row['what'] not in ('label', 'class', 'label source') or row['now'] is None
    assert {row['old'] for row in data['counts']} and data['settings']
    assert get(f'{BASE}/look@v2/diff').status_code == 422
    assert get(f'{BASE}/look@v2/diff?old=no@v1').status_code == 404


# Names, sheets, curves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize('end', ['', '/quality', '/samples', '/ledger', '/audit', '/datasheet'])
def test_a_name_is_as_good_as_an_id(house, get, end):
    by_id = get(f'{BASE}/{house.versions[1].id}{end}')
    assert by_id.status_code == 200
    for name in ('look@v2', 'look@2', 'look@latest'):
        assert get(f'{BASE}/{name}{end}').content == by_id.content
    assert get(f'{BASE}/look@v3{end}').status_code == 404
    assert get(f'{BASE}/look{end}').status_code == 422


@pytest.mark.parametrize('id', ['look', 'look@', 'look@x', 'look@2@2', '2', 'look@v1' + 30 * '0'])
def test_an_id_that_is_none_is_refused_with_what_to_write(get, id):
    error = get(f'{BASE}/{id}').json()['error']
    assert 'write name@v1' in error['message'] and 'pattern' not in error['message']
    assert repr(id) in error['details'][0]['what']
    error = get(f'{BASE}/look@v2/diff?old={id}').json()['error']
    assert 'old: ' in error['message'] and 'write name@v1' in error['message']


def test_an_answer_says_which_version_it_is_of(house, get):
    item = get(f'{BASE}/look@v1').json()['data']
    one = house.versions[0]
    assert (item['address'], item['version'], item['origin']) == ('look@v1', 1, 'synthetic')
    assert item['content_hash'] == one.content_hash and item['splits'] == one.manifest['splits']
    listed = get(f'{BASE}?name=look').json()
    assert [line['address'] for line in listed['data']] == ['look@v2', 'look@v1']
    assert get(f'{BASE}?name=loo').json()['meta']['total'] == 0


def test_sheets_are_for_people_and_machines(house, get):
    text = get(f'{BASE}/look@v1/datasheet')
    assert text.headers['content-type'].startswith('text/markdown') and 'look' in text.text
    sheet = get(f'{BASE}/look@v1/datasheet?form=croissant').json()
    assert sheet['@type'] == 'sc:Dataset'
    assert get(f'{BASE}/look@v1/datasheet?form=pdf').status_code == 422


def test_a_curve_is_that_of_the_sample(house, get):
    row = int(house.versions[0].split_rows('train')[0])
    data = get(f'{BASE}/look@v1/samples/{row}/light_curve').json()['data']
    assert data['epochs'] == [] and data['units']['mjd'].startswith('day')
    assert get(f'{BASE}/look@v1/samples/999999/light_curve').status_code == 404


# HEAD -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'path',
    [BASE, f'{BASE}/look@v1', f'{BASE}/look@v1/samples/0/patch', '/jobs', '/health', '/pages'],
)
def test_head_is_get_without_a_body(house, path):
    headers = {'X-API-Key': house.keys['reader']}
    head, full = (house.client.request(how, path, headers=headers) for how in ('HEAD', 'GET'))
    assert head.status_code == full.status_code and head.content == b'' != full.content
    assert head.headers['content-type'] == full.headers['content-type']
    assert head.headers.get('content-length') == full.headers.get('content-length')


def test_no_server_has_to_drop_the_body_of_head():
    import asyncio

    async def app(scope, receive, send):
        await send(dict(type='http.response.start', status=200, headers=[]))
        await send(dict(type='http.response.body', body=scope['method'].encode()))

    async def ask(method):
        sent = []

        async def send(message):
            sent.append(message)

        await api._HeadAsGet(app)(dict(type='http', method=method), None, send)
        return sent[-1]['body']

    assert [asyncio.run(ask(method)) for method in ('HEAD', 'GET', 'POST')] == [
        b'',
        b'GET',
        b'POST',
    ]


def test_head_changes_nothing(house):
    headers = {'X-API-Key': house.keys['reader']}
    assert house.client.head(f'{BASE}/collect', headers=headers).status_code == 422  # No id


def test_head_leaves_no_mark_and_packs_nothing(house, monkeypatch):
    monkeypatch.setattr(api, 'export_zip', lambda *_: pytest.fail('a ZIP was packed'))
    headers = {'X-API-Key': house.keys['reader']}
    row = int(house.versions[0].split_rows('test')[0])
    marking = [
        path
        for method, path, operation in operations(house.client)
        if any(one['name'] == 'purpose' for one in operation.get('parameters', []))
    ]
    assert {path.rpartition('/')[2] for path in marking} == {
        'samples',
        'light_curve',
        'export',
        'ledger',
        'detections',
        '{id}',  # Of a detection
        'events',
    }
    before = openings(house)
    for path in marking:
        path = path.format(id='look@v1', row=row)
        for end in ('', '?purpose=x'):
            head = house.client.head(path + end, headers=headers)
            assert (head.status_code, head.headers['allow'], head.content) == (405, 'GET', b'')
        assert house.client.head(path).status_code == 401
    assert openings(house) == before


def test_no_get_without_a_purpose_leaves_a_mark(house, get):
    row, before = int(house.versions[0].split_rows('test')[0]), openings(house)
    for method, path, _ in operations(house.client):
        if method == 'GET' and '{id}' in path and path.startswith(BASE):
            path = path.format(id='look@v1', row=row)
            get(path)
            house.client.head(path, headers={'X-API-Key': house.keys['reader']})
    assert openings(house) == before


# Pages in a browser -----------------------------------------------------------------------------------------------


@pytest.fixture
def browser(house):
    client = TestClient(ad.create_app(house.archive), raise_server_exceptions=False)
    client.post('/pages/login', data=dict(key=house.keys['reader']))
    return client


def test_who_has_no_key_is_asked_for_it_and_led_back(house):
    client = TestClient(ad.create_app(house.archive))
    asked = client.get('/pages/look@v1?split=val')
    assert asked.status_code == 401 and 'look@v1' not in asked.text.replace('/pages/look@v1?', '')
    to = re.search('name="to" value="([^"]*)"', asked.text)[1]
    shown = client.post('/pages/login', data=dict(key=house.keys['reader'], to=to))
    assert shown.status_code == 200 and '<h1>look@v1</h1>' in shown.text
    assert shown.url.path == '/pages/look@v1'


def test_the_cookie_is_for_pages_alone(house):
    client = TestClient(ad.create_app(house.archive), base_url='https://testserver')
    key = dict(key=house.keys['reader'])
    made = client.post('/pages/login', data=key, follow_redirects=False)
    assert made.status_code == 303
    said = {part.strip().lower() for part in made.headers['set-cookie'].split(';')}
    assert {'httponly', 'samesite=lax', 'path=/pages', 'secure'} <= said
    client.cookies.clear()
    client.cookies.set('astrid_visit', house.keys['reader'], path='/')  # Even if one sent it
    assert client.get(BASE).status_code == 401


@pytest.mark.parametrize('to', ['/pages/日@v1', '/pages/%E6%97%A5@v1'])
def test_a_name_in_any_letters_is_led_back_to(house, to):
    client = TestClient(ad.create_app(house.archive), raise_server_exceptions=False)
    asked = client.get(to)
    (kept,) = re.findall('name="to" value="([^"]*)"', asked.text)
    for sent in (to, kept):
        given = dict(key=house.keys['reader'], to=sent)
        made = client.post('/pages/login', data=given, follow_redirects=False)
        assert (made.status_code, made.headers['location']) == (303, '/pages/%E6%97%A5@v1')


@pytest.mark.parametrize(
    'to', ['https://evil.example', '//evil.example', '/pages//evil', '/training']
)
def test_nobody_is_led_elsewhere(house, to):
    client = TestClient(ad.create_app(house.archive))
    given = dict(key=house.keys['reader'], to=to)
    made = client.post('/pages/login', data=given, follow_redirects=False)
    assert made.headers['location'] == '/pages'


@pytest.mark.parametrize('key', ['admin', 'maker'])
def test_a_key_that_may_not_read_sees_no_page(house, key):
    client = TestClient(ad.create_app(house.archive))
    assert client.post('/pages/login', data=dict(key=house.keys[key])).status_code == 403
    assert client.get('/pages').status_code == 401


def test_an_ended_key_sees_no_page_any_more(house):
    key = create_api_key(house.archive, 'brief', READER)
    client = TestClient(ad.create_app(house.archive))
    assert client.post('/pages/login', data=dict(key=key)).status_code == 200
    id = next(one['id'] for one in list_keys(house.archive) if one['name'] == 'brief')
    change_key(house.archive, id, is_active=False)
    assert client.get('/pages').status_code == 401


def test_a_page_shows_what_is_there(house, browser):
    assert 'look@v1' in browser.get('/pages').text
    page = browser.get('/pages/look@v1')
    for words in ('Quality', 'Splits', 'Coverage', 'Samples', 'Ledger', 'Synthetic: no pixel'):
        assert words in page.text
    links = re.findall(r'src="(/pages/[^"]+\.png)"', page.text)
    assert len(links) == min(48, len(house.versions[0]))
    picture = browser.get(links[0])
    assert picture.content.startswith(b'\x89PNG') and picture.headers['content-type'] == 'image/png'
    assert browser.get(links[0].replace('.png', '.fits')).content.startswith(b'SIMPLE')
    npy = np.load(io.BytesIO(browser.get(links[0].replace('.png', '.npy')).content))
    row = int(links[0].rpartition('/')[2].split('.')[0])
    np.testing.assert_array_equal(npy, np.asarray(house.versions[0].patches([row]))[0])


def test_a_page_keeps_test_locked(house, browser):
    before = openings(house)
    page = browser.get('/pages/look@v1?split=test').text
    tiles = re.findall('<figcaption>(.*?)</figcaption>', page, re.S)
    assert tiles and all('label locked' in tile for tile in tiles) and openings(house) == before
    assert 'label locked' not in browser.get('/pages/look@v1?split=train').text.split('<section')[4]


@pytest.mark.parametrize(
    'path, status',
    [
        ('/pages/look', 404),
        ('/pages/no@v1', 404),
        (f'/pages/{NOBODY}', 404),
        ('/pages/look@v1?split=nonsense', 422),
        ('/pages/look@v1?offset=-1', 422),
        ('/pages?offset=x', 422),
        ('/pages/look@v1?offset=999999', 200),
        ('/pages/%00@v1', 404),
        ('/pages/look@v1/samples/999999.png', 404),
        ('/pages/look@v1/samples/0.exe', 422),
        ('/pages/look@v1/samples/x.png', 404),
    ],
)
def test_an_odd_page_is_answered_in_words(browser, path, status):
    answer = browser.get(path)
    assert answer.status_code == status and len(answer.text) > 20


def test_names_of_others_are_text(house):
    evil = '<script>alert(1)</script>"\'><img src=x>'
    with house.archive.session() as session:
        session.execute(update(TrainingDataset).values(created_by=evil, description=evil))
    client = TestClient(ad.create_app(house.archive))
    page = client.post('/pages/login', data=dict(key=house.keys['reader'])).text
    assert 'alert(1)' in page and '<script' not in page and '<img src=x' not in page
    assert client.get('/pages').headers['content-security-policy'].startswith("default-src 'none'")


def test_a_form_that_is_no_form_is_no_failure(house):
    client = TestClient(ad.create_app(house.archive), raise_server_exceptions=False)
    for body in (b'\xff\xfe', b'key', b'key=%ff%00', json.dumps(dict(key=1)).encode()):
        assert client.post('/pages/login', content=body).status_code in (401, 303)
    assert client.post('/pages/login', content=b'x' * 10_000).status_code == 413
