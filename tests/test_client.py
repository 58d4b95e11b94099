"A client that openapi-python-client makes from the description of the server, and what it is answered"

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

import astrid_data as ad
from astrid_data.keys import PERMISSIONS, create_api_key

_beside = Path(sys.executable).with_name('openapi-python-client')
GENERATOR = shutil.which('openapi-python-client') or shutil.which(str(_beside))
if GENERATOR is None:
    pytest.skip('no openapi-python-client: pip install it', allow_module_level=True)

NOT_IN_IT = {'application/zip', 'application/fits'}  # Bodies that the generator does not know


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "The package of the client, what its generator warned of, a version and what may be read"
    folder = tmp_path_factory.mktemp('client')
    archive = ad.synthetic_archive(home=folder / 'home', seed=3)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=40))
    version = plan.build('look', patch_size=16, probe=False, allow_empty=True, progress=False)
    key = create_api_key(archive, 'all', list(PERMISSIONS))
    app = ad.create_app(archive, [folder])
    (folder / 'openapi.json').write_text(json.dumps(app.openapi()))
    words = ['generate', '--path', 'openapi.json', '--meta', 'none', '--output-path', 'asked']
    path = f'{Path(GENERATOR).parent}:{os.environ["PATH"]}'  # It calls ruff
    how = dict(cwd=folder, capture_output=True, text=True, env=os.environ | dict(PATH=path))
    done = subprocess.run([GENERATOR, *words], **how)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patched, TestClient(app) as server:
        patched.syspath_prepend(folder)
        server.headers['X-API-Key'] = key
        client = importlib.import_module('asked').Client(base_url='http://testserver')
        yield client.set_httpx_client(server), done.stdout + done.stderr, version, folder


def call(name):
    "A function of the client"
    return importlib.import_module(f'asked.api.default.{name}').sync_detailed


def test_the_generator_omits_only_files(made):
    _, said, *_ = made
    omitted = [line for line in said.splitlines() if 'nsupported content' in line]
    assert said.count('WARNING') == len(omitted) == 3  # FITS goes in at two places
    assert all(any(kind in line for kind in NOT_IN_IT) for line in omitted)


def test_the_client_lists_and_gets_what_python_has(made):
    client, _, version, _ = made
    listed = call('list_training_sets_training_datasets_get')(client=client)
    assert listed.status_code == 200
    assert [one['id'] for one in listed.parsed.to_dict()['data']] == [version.id]
    got = call('get_training_set_training_datasets_id_get')(version.id, client=client)
    assert got.parsed.to_dict()['data']['content_hash'] == version.content_hash


def test_an_error_is_answered_in_its_envelope(made):
    client, *_ = made
    got = call('get_training_set_training_datasets_id_get')('none@v9', client=client)
    assert got.status_code == 404 and got.parsed.to_dict()['error']['message']


def test_stamps_go_in_by_name_and_odd_ones_are_refused(made):
    client, _, _, folder = made
    add = call('ingest_stamps_stamps_ingest_address_post')
    body = importlib.import_module('asked.models').StampsBody
    places = dict(ra=[1.0, 1.1, 1.2], dec=[2.0, 2.0, 2.0])
    stamps = np.random.default_rng(1).normal(size=(3, 15, 15)).astype('f4')
    np.savez(folder / 'set.npz', images=stamps, rb=[0.9, 0.2, 0.8], **places)
    named = dict(address=str(folder / 'set.npz'), survey='made')
    refused = add(client=client, body=body(score='1_000', **named))
    assert refused.status_code == 422
    assert 'plain number' in refused.parsed.to_dict()['error']['message']
    taken = add(client=client, body=body(score='rb', **named))
    assert taken.status_code == 200, taken.content
    assert taken.parsed.to_dict()['data']['added'] == 3
