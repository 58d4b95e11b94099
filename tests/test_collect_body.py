"""The body of a collection over HTTP has the fields that Python has, and refuses what Python refuses"""

import pytest
from fastapi.testclient import TestClient

import astrid_data as ad


@pytest.fixture(scope='module')
def client(tmp_path_factory):
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('body'), seed=3)
    key = ad.api.create_api_key(archive, 'me', ['training:data_collection', 'read:data'])
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    client.headers['X-API-Key'] = key
    return client


BODY = dict(name='body', max_samples=40, patch_size=16, quality_score_threshold=0, allow_empty=True)


def collect(client, **more):
    return client.post('/training/datasets/collect', json=BODY | more)


@pytest.mark.filterwarnings('ignore')
def test_fields_reach_the_version(client):
    asked = dict(
        confidence_threshold=None, seed=7, negatives=dict(random_sky=0.5), check_pixels=False
    )
    answer = collect(client, **asked)
    assert answer.status_code == 200, answer.text
    params = answer.json()['data']['collection_params']['collection']
    assert {name: params[name] for name in asked} == asked


@pytest.mark.filterwarnings('ignore')
def test_the_answer_counts_labels_in_all_and_in_each_split(client):
    answer = collect(client, name='counted', seed=3).json()['data']
    read = client.get(
        f'/training/datasets/{answer["dataset_id"]}/samples', params=dict(limit=100)
    ).json()['data']
    counts = answer['counts']
    assert counts['positives'] > 0 and counts['negatives'] > 0
    assert counts['positives'] + counts['negatives'] == answer['total_samples'] == len(read)
    names = dict(validation='val')
    for split, numbers in counts['by_split'].items():
        rows = [row for row in read if row['split'] == names.get(split, split)]
        assert numbers['positives'] + numbers['negatives'] == len(rows)
        if split in ('train', 'validation'):
            assert numbers['positives'] == sum(row['label'] == 1 for row in rows)
    assert {'train', 'validation', 'test'} <= set(counts['by_split'])


@pytest.mark.parametrize(
    'wrong',
    [
        dict(confidence_threshold=1.5),
        dict(cone=[10, 20]),
        dict(cone=[10, 20, 'wide']),
        dict(box=[1, 2, 3]),
        dict(polygon=[[1, 2]]),
        dict(negatives=dict(random_sky=-1)),
        dict(negatives=dict(no_such_kind=1)),
        dict(channels=[]),
        dict(max_samples=0),
        dict(seed='x'),
        dict(band='g'),
    ],
)
def test_what_is_wrong_is_refused_in_words(client, wrong):
    answer = collect(client, **wrong)
    assert answer.status_code == 422, answer.text
    assert answer.json()['error']['message']


def test_the_root_says_what_this_is(client):
    answer = client.get('/')
    assert answer.status_code == 200
    assert answer.json() == dict(name='astrid_data', version=ad.__version__, docs='/docs')
