"Targets of `fuzzing`: what comes in by HTTP, and the manifest of a version."

import json
import os
from functools import cache
from tempfile import mkdtemp

from fuzzing import ODD, Wrong, mutate_bytes, mutate_text, mutate_value, odd_value

import astrid_data as ad
from astrid_data.simulate.synthetic import synthetic_archive

BODY = {
    'name': 'first-look',
    'survey_ids': ['hst', 'skyview'],
    'start': '2024-01-01T00:00:00+00:00',
    'end': '2024-12-31',
    'confidence_threshold': 0.7,
    'quality_score_threshold': 0.8,
    'anomaly_types': ['supernova'],
    'validation_status': 'validated',
    'max_samples': 100,
    'patch_size': 32,
    'description': 'of the sky',
}
ID = '00000000-0000-0000-0000-000000000001'
PATHS = ['collect', '', ID, f'{ID}/quality', f'{ID}/load', '5', '%00/load', '../x']
FIELDS = ['status', 'created_by', 'min_quality_score', 'limit', 'offset', 'after', 'other']
TYPES = ['application/json', 'text/plain; charset=utf-16', 'text/plain; charset=odd', '', 'é']


@cache
def _client(process):
    "A client of an empty archive's API, of this process alone as it has a thread, and a key"
    from fastapi.testclient import TestClient

    archive = ad.open_archive(mkdtemp())
    key = ad.api.create_api_key(archive, 'fuzz', ['read:data', 'manage:operations'])
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    client.__enter__()
    return client, key


def _body(rng):
    "Bytes that somebody may send"
    value = BODY
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        value = mutate_value(value, rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.3:
        text = mutate_text(text, rng)
    data = text.encode(rng.choice(('utf-8', 'utf-8', 'utf-16', 'utf-32')), 'surrogatepass')
    return mutate_bytes(data, rng)[0] if data and rng.random() < 0.3 else data


def _is_envelope(answer):
    "Whether an answer has the form that all answers have"
    try:
        body = answer.json()
    except ValueError:
        return False
    good = answer.status_code < 400
    if set(body) != {'status', 'data', 'meta', 'error'} or (body['error'] is None) != good:
        return False
    return good or bool(body['error']['message'] and body['error']['error_code'])


def bodies(rng, folder):
    "One request, odd in some way"
    client, key = _client(os.getpid())
    method, path = rng.choice(('POST', 'POST', 'POST', 'GET', 'PUT')), rng.choice(PATHS[:5] + PATHS)
    if method == 'POST' and rng.random() < 0.7:
        path = 'collect'
    query = {
        rng.choice(FIELDS): rng.choice((str(odd_value(rng))[:4000], rng.choice(ODD)))
        for _ in range(rng.choice((0, 0, 1, 3)))
    }
    query = {k: v.encode('utf-8', 'replace').decode() for k, v in query.items()}
    headers = {'X-API-Key': key if rng.random() < 0.95 else 'astrid_guess'}
    headers['Content-Type'] = rng.choice(TYPES).encode()
    answer = client.request(
        method,
        f'/training/datasets/{path}'.rstrip('/'),
        params=query,
        headers=headers,
        content=_body(rng),
    )
    if answer.status_code >= 500 or not _is_envelope(answer):
        raise Wrong(f'{method} {path}: {answer.status_code} {answer.text[:300]}')
    return 'accepted' if answer.status_code < 400 else 'refused'


@cache
def _version():
    "A small version in an archive of its own"
    archive = synthetic_archive(mkdtemp(), n_observations=2, n_sources=10)
    plan = ad.TrainingDataCollector(archive).plan(validation_status='any', progress=False)
    return archive, plan.build('small', patch_size=16, probe=False, progress=False).address


def _changed_manifest(data, rng):
    "A manifest as somebody may leave it"
    kind = rng.random()
    if kind < 0.2:
        return mutate_bytes(data, rng)[0]
    if kind < 0.4:
        return mutate_text(data.decode(), rng).encode('utf-8', 'surrogatepass')
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutate_value(value, rng)
    return json.dumps(value).encode()


def manifests(rng, folder):
    "A version with another manifest; every change must be found, in words"
    archive, address = _version()
    name, _, number = address.partition('@')
    path = archive.datasets_dir / name / number / 'manifest.json'
    before = path.read_bytes()
    after = _changed_manifest(before, rng)
    if after == before:
        return 'unchanged'
    status = path.stat()
    path.chmod(0o644)
    try:
        path.write_bytes(after)
        ad.open_dataset(archive, address).verify()
    finally:
        path.write_bytes(before)
        path.chmod(status.st_mode)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    raise Wrong('a changed manifest was accepted')
