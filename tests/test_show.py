"A client in another process: collect, quality, samples as pictures, load and train, with PostgreSQL and an S3 server behind, and the server killed in the middle"

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx

import astrid_data as ad
from astrid_data.keys import create_api_key

SERVE = """
import os, sys
import astrid_data as ad
from astrid_data.serve import serve
archive = ad.open_archive(os.environ['SHOW_DATABASE'], storage='s3://test/show', home=sys.argv[1])
serve(ad.create_app(archive, beat_s=0.2), port=int(sys.argv[2]), log_level='critical')
"""
CLIENT = """
import sys, time
import httpx
base, key, step = sys.argv[1:4]
client = httpx.Client(base_url=base, headers={'X-API-Key': key}, timeout=60)
def data(answer, *fine):
    assert answer.status_code in (fine or (200,)), answer.text
    return answer.json()['data']
if step == 'begin':
    body = dict(name='show', patch_size=64, max_samples=None, quality_score_threshold=None, allow_empty=True)
    data(client.post('/training/datasets/collect', json=body, headers={'Prefer': 'respond-async', 'Idempotency-Key': 'show'}), 202)
    while True:
        [job] = data(client.get('/jobs'))
        if job['status'] == 'running':
            sys.exit()
        assert job['status'] == 'queued', job
        time.sleep(0.02)
[job] = data(client.get('/jobs'))
while job['status'] in ('queued', 'running'):
    time.sleep(0.2)
    job = data(client.get('/jobs/' + job['job_id']))
job = data(client.get('/jobs/' + job['job_id']))
assert job['status'] == 'done', job
id = job['answer']['data']['dataset_id']
[listed] = data(client.get('/training/datasets'))
assert listed['id'] == id and listed['version'] == 1
base = '/training/datasets/' + id
assert data(client.get(base + '/quality'))['quality_report']['quality_score'] is not None
for row in data(client.get(base + '/samples', params=dict(limit=3))):
    picture = client.get(f"{base}/samples/{row['row']}/patch", params=dict(form='png'))
    assert picture.content.startswith(b'\\x89PNG'), picture.text
loaded = data(client.post(base + '/load'))
assert loaded['ready_for_training'] and loaded['total_samples'] == listed['total_samples']
print(job['starts'], listed['address'], listed['content_hash'])
"""


@contextmanager
def serving(home, env):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, '-W', 'ignore', '-c', SERVE, str(home), str(port)]
    process, base = subprocess.Popen(command, env=env), f'http://127.0.0.1:{port}'
    try:
        end = time.monotonic() + 180
        while True:
            try:
                httpx.get(f'{base}/health')
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.1)
        yield process, base
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def ask(base, key, step, env):
    done = subprocess.run(
        [sys.executable, '-c', CLIENT, base, key, step], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_whole_way_over_http_with_a_server_that_dies(pg_url, s3, tmp_path, monkeypatch):
    names = dict(
        AWS_ENDPOINT_URL_S3=s3.endpoint,
        AWS_ACCESS_KEY_ID=s3.key,
        AWS_SECRET_ACCESS_KEY=s3.secret,
        SHOW_DATABASE=pg_url,
    )
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    archive = ad.open_archive(pg_url, storage='s3://test/show', home=tmp_path / 'a')
    archive.add_sample(copy=True, show=False)
    key = create_api_key(archive, 'me', ['manage:operations', 'read:data'])
    env = dict(os.environ)
    with serving(tmp_path / 'server', env) as (process, base):
        ask(base, key, 'begin', env)
        process.kill()
        process.wait(60)
    with serving(tmp_path / 'server', env) as (_, base):
        starts, address, content_hash = ask(base, key, 'end', env)
    assert int(starts) >= 2
    dataset = ad.open_dataset(archive, address)
    assert dataset.content_hash == content_hash
    train, val, _ = ad.RealDataLoader(dataset).loaders(batch_size=32)
    ad.fit(ad.SmallCNN(channels=1), train, val, epochs=1, show=False)
