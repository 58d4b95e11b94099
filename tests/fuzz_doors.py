"Targets of `fuzzing`: what comes in by HTTP, and the manifest of a version."

import json
import os
from functools import cache
from tempfile import mkdtemp

from fuzzing import ODD, Wrong, mutate_bytes, mutate_text, mutate_value, odd_value
from sqlalchemy import select

import astrid_data as ad
from astrid_data import deliveries
from astrid_data.registry.tables import Detection, Model
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
TARGETS = tuple(f'fuzz_doors:{name}' for name in 'bodies manifests verbs'.split())
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


def _body(rng, value=BODY):
    "Bytes that somebody may send"
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


# ---------------------------------------------------------------- verdicts, files, scores, keys


def _nobody_answers(*args, **how):
    "What a search says where the network is away"
    raise ad.storage.service.StoreUnreachable('nobody answers')


def _small_packet():
    "A packet as JSON has it"
    stamp = 'U0lNUExF'
    stamps = dict(cutoutScience=stamp, cutoutTemplate=stamp, cutoutDifference=stamp)
    return dict(candid=5, objectId='ZTF1', jd=2460000.5, ra=150.1, dec=2.2, fid=1) | stamps


@cache
def _house(process):
    "A client of an archive with detections and a model, of this process alone; its verbs"
    from fastapi.testclient import TestClient

    archive = synthetic_archive(mkdtemp(), n_observations=2, n_sources=8)
    with archive.session() as session:
        ids = [str(id) for id in session.scalars(select(Detection.id).order_by(Detection.ra))]
        model = session.scalar(select(Model.id).limit(1))
    deliveries.search_skyview = _nobody_answers
    rights = ['read:data', 'manage:operations', 'manage:keys']
    key = ad.api.create_api_key(archive, 'fuzz', rights)
    app = ad.create_app(archive, wait_s=5, beat_s=0.2)
    client = TestClient(app, raise_server_exceptions=False, headers={'X-API-Key': key})
    client.__enter__()
    event = dict(is_valid='real', label='SN Ia', confidence_level='high', notes='x', tags=['a'])
    many = [event | dict(detection_id=id) for id in ids[:3]]
    address = dict(address='observations/a.fits', survey='hst', hdu=1, role='image', detect=False)
    stamps = dict(address='observations/a.npz', survey='btsbot', score=0.5, columns=dict(id=None))
    place = dict(uri='observations/a.fits', ra=150.1, dec=2.2, pixel_x=3, pixel_y=4)
    scored = dict(packets=[_small_packet()], survey='ztf', prior=0.1)
    verbs = {
        f'detections/{ids[0]}/events': event,
        'events': dict(events=many),
        'observations/ingest/position': ad.web_ingest.PositionBody._example.default,
        'observations/ingest/address': address,
        'stamps/ingest/address': stamps | dict(channels=['science'], is_real='label', mask='bad'),
        f'models/{model}/score': scored,
        f'models/{ID}/score': dict(places=[place], prior=None),
        'keys': dict(name='x', permissions=['read:data'], expires_at='2030-01-01T00:00:00Z'),
    }
    return client, verbs


_LISTS = {
    'surveys': [],
    'observations': 'ra dec radius survey band start end limit after'.split(),
    'detections': 'ra dec radius survey band start end min_score purpose limit after'.split(),
    f'detections/{ID}': ['purpose'],
    f'detections/{ID}/events': ['purpose'],
    'jobs': 'status kind limit'.split(),
    'models': [],
    'observations/ingest/upload': 'name survey hdu role detect'.split(),
    'stamps/ingest/upload': 'name survey channels columns is_real score mask table'.split(),
}


def _odd_query(rng, names):
    "Some parameters with values that nobody expects"
    some = {name: rng.choice((str(odd_value(rng))[:2000], *ODD)) for name in names}
    kept = {name: value for name, value in some.items() if rng.random() < 0.5}
    return {name: value.encode('utf-8', 'replace').decode() for name, value in kept.items()}


def verbs(rng, folder):
    "One request to what was added later, odd in some way"
    client, known = _house(os.getpid())
    if rng.random() < 0.65:
        method, (path, body) = 'POST', rng.choice(list(known.items()))
        how = dict(content=_body(rng, body))
        how['headers'] = {'Content-Type': rng.choice(TYPES[:1] * 4 + TYPES).encode()}
    else:
        path, names = rng.choice(list(_LISTS.items()))
        method = 'POST' if path.endswith('upload') else rng.choice(('GET', 'GET', 'GET', 'DELETE'))
        how = dict(params=_odd_query(rng, names))
        if method == 'POST':
            how['content'] = mutate_bytes(b'SIMPLE  =                    T' * 100, rng)[0]
            how['params'].setdefault('name', rng.choice(('a.fits', 'b.npz', '../a.fits')))
    if rng.random() < 0.2:
        how.setdefault('headers', {})['Prefer'] = rng.choice(('respond-async', 'wait=0', 'wait=é'))
    if rng.random() < 0.1:
        how.setdefault('headers', {})['Idempotency-Key'] = rng.choice(('a', 'b', 'x' * 300))
    if 'headers' in how:
        how['headers'] = {
            k: v if isinstance(v, bytes) else v.encode() for k, v in how['headers'].items()
        }
    answer = client.request(method, f'/{path}', **how)
    if answer.status_code >= 500 and answer.status_code != 503 or not _is_envelope(answer):
        raise Wrong(f'{method} {path}: {answer.status_code} {answer.text[:300]}')
    return 'accepted' if answer.status_code < 400 else 'refused'


# ---------------------------------------------------------------- manifests


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
