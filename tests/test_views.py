"""What a client gets of a version over HTTP: rows, patches, losses, and nothing where it should get nothing"""

import io

import numpy as np
import pytest
from astropy.io import fits
from fastapi.testclient import TestClient

import astrid_data as ad
from astrid_data import api


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('views'), seed=3)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=60))
    dataset = plan.build('views', patch_size=16, probe=False, allow_empty=True, progress=False)
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    client.headers['X-API-Key'] = api.create_api_key(archive, 'me', ['read:data'])
    return dataset, client, f'/training/datasets/{dataset.id}'


def get(served, path, **kw):
    _, client, base = served
    return client.get(base + path, **kw)


def test_pages_are_the_table(served):
    dataset, _, _ = served
    rows = []
    while len(rows) < len(dataset):
        answer = get(served, f'/samples?limit=7&offset={len(rows)}').json()
        rows += answer['data']
        assert answer['meta']['total'] == len(dataset)
    assert [row['row'] for row in rows] == list(range(len(dataset)))
    assert [row['sample_key'] for row in rows] == dataset.samples['sample_key'].tolist()
    np.testing.assert_array_equal([row['ra'] for row in rows], dataset.samples['ra'])


def test_filters_are_those_of_the_table(served):
    samples = served[0].samples
    in_train = samples['split'] == 'train'
    for name, value in dict(split='train', class_name='star', kind='random_sky').items():
        answer = get(
            served, '/samples', params={'split': 'train', name: value, 'limit': 1000}
        ).json()
        wanted = np.flatnonzero((samples[name] == value) & in_train)
        assert [row['row'] for row in answer['data']] == wanted.tolist()
        assert answer['meta']['total'] == len(wanted)


def test_a_patch_is_the_patch_in_each_form(served):
    pixels = np.asarray(served[0].patches([5]))[0]
    npy = np.load(io.BytesIO(get(served, '/samples/5/patch?form=npy').content))
    np.testing.assert_array_equal(npy, pixels)
    answer = get(served, '/samples/5/patch?form=fits')
    assert answer.headers['content-type'] == 'application/fits'
    with fits.open(io.BytesIO(answer.content), checksum=True) as opened:
        np.testing.assert_array_equal(opened['image'].data, pixels[0])
        assert opened[0].header['HASH'] == served[0].content_hash
    assert get(served, '/samples/5/patch').content.startswith(b'\x89PNG')


def test_who_has_a_patch_gets_none_and_who_has_another_gets_it(served):
    tags = {
        get(served, f'/samples/{row}/patch?form={form}').headers['etag']
        for row in (0, 1)
        for form in ('png', 'npy')
    }
    assert len(tags) == 4
    tag = get(served, '/samples/0/patch').headers['etag']
    known = get(served, '/samples/0/patch', headers={'If-None-Match': f'"other", {tag}'})
    assert known.status_code == 304 and known.content == b''
    assert get(served, '/samples/1/patch', headers={'If-None-Match': tag}).status_code == 200


@pytest.mark.parametrize('path', ['/samples?split=train&limit=3', '/ledger?limit=3'])
def test_who_has_a_page_gets_none_and_another_page_is_sent(served, path):
    first = get(served, path)
    had = {'If-None-Match': first.headers['etag']}
    again = get(served, path, headers=had)
    assert (again.status_code, again.content) == (304, b'')
    assert get(served, path + '&offset=1', headers=had).status_code == 200


def test_a_page_with_labels_of_test_is_recorded_when_it_is_sent(served):
    before = len(served[0].test_openings)
    path = '/samples?split=test&purpose=a+page'
    tag = get(served, path).headers['etag']
    assert len(served[0].test_openings) == before + 1
    assert get(served, path, headers={'If-None-Match': tag}).status_code == 304
    assert len(served[0].test_openings) == before + 1


@pytest.mark.parametrize(
    'path, status',
    [
        ('/samples/999999/patch', 404),
        ('/samples/-1/patch', 404),
        (f'/samples/{10**30}/patch', 404),
        ('/samples/x/patch', 422),
        ('/samples/0/patch?form=exe', 422),
        ('/samples/0/patch?channel=../../x', 422),
        ('/samples?split=validation', 422),
        ('/samples?limit=0', 422),
        ('/samples?limit=100000', 422),
        ('/samples?offset=-1', 422),
        ('/samples?class_name=%F0%9F%92%A5', 422),
        ('/samples?class_name=%F0%9F%92%A5&split=val', 200),
        ('/ledger?limit=5', 200),
        ('/audit', 200),
    ],
)
def test_what_is_odd_is_answered_in_words(served, path, status):
    answer = get(served, path)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()['error']['message']


def test_the_ledger_adds_up(served):
    answer = get(served, '/ledger?limit=1000').json()
    assert answer['meta']['samples'] == int(served[0].ledger['n'].sum())
    assert sum(row['n'] for row in answer['data']) == answer['meta']['samples']


def test_a_key_is_needed(served):
    _, client, base = served
    for path in ('/samples', '/samples/0/patch', '/ledger', '/audit'):
        assert client.get(base + path, headers={'X-API-Key': 'astrid_guess'}).status_code == 401


def test_the_description_says_key_envelope_and_every_status(served):
    described = served[1].get('/openapi.json').json()
    assert described['components']['securitySchemes']['APIKeyHeader']['name'] == 'X-API-Key'
    operations = [one for path in described['paths'].values() for one in path.values()]
    routes = [one for one in served[1].app.routes if getattr(one, 'include_in_schema', False)]
    assert len(operations) == sum(len(one.methods - {'HEAD'}) for one in routes) == 37
    for operation in operations:
        assert operation['security'] == [{'APIKeyHeader': []}]
        assert {'200', '201', '202'} & set(operation['responses'])
        assert {'401', '403', '404', '422', '503'} <= set(operation['responses'])
        for status in ('401', '422'):
            content = operation['responses'][status]['content']['application/json']
            assert content['schema']['$ref'].endswith('ErrorAnswer')


def test_a_wrong_method_says_which_is_right(served):
    answer = get(served, '/samples')
    assert answer.status_code == 200
    wrong = served[1].put(served[2] + '/samples')
    assert wrong.status_code == 405 and wrong.headers['allow'] == 'GET'


def test_the_ledger_tells_no_label_without_a_purpose(served):
    dataset = served[0]
    before = len(dataset.test_openings)
    for row in get(served, '/ledger?limit=1000').json()['data']:
        assert {row[name] for name in ('label', 'class_name', 'kind', 'detection_id')} == {None}
        assert row['reason']
    assert len(dataset.test_openings) == before
    told = get(served, '/ledger?limit=1000&purpose=looking').json()['data']
    assert [row['label'] for row in told] == dataset.ledger['label'].tolist()
    assert len(dataset.test_openings) == before + bool(told)
