"Files of a version that go, or become others, while a server runs"

import shutil

import pytest
from fastapi.testclient import TestClient

import astrid_data as ad
from astrid_data.api import create_api_key, create_app

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def served(tmp_path):
    "A version, and a function that asks for one of its patches"
    archive = ad.synthetic_archive(tmp_path, n_observations=2, n_sources=10)
    plan = ad.TrainingDataCollector(archive).plan(validation_status='any', progress=False)
    dataset = plan.build('small', patch_size=16, probe=False, progress=False)
    key = create_api_key(archive, 'us', ['read:data'])
    client = TestClient(create_app(archive), raise_server_exceptions=False)

    def get(query='', **headers):
        path = f'/training/datasets/{dataset.id}/samples/0/patch{query}'
        return client.get(path, headers={'X-API-Key': key, **headers})

    return dataset, get


def test_a_folder_that_is_deleted_is_served_no_longer(served):
    dataset, get = served
    assert get().status_code == 200
    shutil.rmtree(dataset.folder)
    answer = get()
    assert answer.status_code in (404, 409) and 'small@v1' in answer.text


def test_a_folder_that_is_another_is_read_anew(served):
    dataset, get = served
    before = get('?form=npy').content
    moved = dataset.folder.with_name('moved')
    shutil.copytree(dataset.folder, moved)
    shard = next(moved.glob('patches*.npy'))
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    dataset.folder.rename(dataset.folder.with_name('before'))
    moved.rename(dataset.folder)
    answer = get('?form=npy')
    assert answer.status_code == 409 and 'not what was frozen' in answer.text
    shutil.rmtree(dataset.folder)
    dataset.folder.with_name('before').rename(dataset.folder)
    assert get('?form=npy').content == before


@pytest.mark.parametrize('had', ['*', '"0123"'])
def test_no_tag_makes_a_channel(served, had):
    _, get = served
    for headers in ({}, {'If-None-Match': had}):
        answer = get('?channel=nope', **headers)
        assert answer.status_code == 422 and 'no channel' in answer.text
    assert get(**{'If-None-Match': get().headers['etag']}).status_code == 304
