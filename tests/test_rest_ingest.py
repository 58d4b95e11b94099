"What a program asks a server to take in: by place, by address within what is allowed, by a body that goes to the disk as it comes"

import asyncio
import io
import os
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from fastapi.testclient import TestClient
from sqlalchemy import select
from test_jobs import ended

import astrid_data as ad
from astrid_data import api, deliveries, web_ingest
from astrid_data.answers import ApiError
from astrid_data.core import BadInput, Conflict
from astrid_data.ingest import fetch
from astrid_data.ingest.archive import IngestReport
from astrid_data.ingest.fits import sample_files
from astrid_data.jobs import Jobs, TooBusy
from astrid_data.keys import create_api_key
from astrid_data.registry.tables import IngestJob
from astrid_data.storage.folder import FolderStore
from astrid_data.storage.resolve import resolve_uri
from astrid_data.storage.service import StoreUnreachable

UPLOAD = '/observations/ingest/upload'
ADDRESS = '/observations/ingest/address'
POSITION = '/observations/ingest/position'


@pytest.fixture
def house(tmp_path, monkeypatch):
    "A served archive, a folder that is allowed, and one that is not"
    archive = ad.open_archive(home=tmp_path / 'home')
    may = dict(reader=['read:data'], all=['manage:operations', 'read:data'])
    keys = {name: {'X-API-Key': create_api_key(archive, name, one)} for name, one in may.items()}
    for name in ('open', 'closed'):
        (tmp_path / name).mkdir()
    name = sample_files().file.iloc[0]
    content = resolve_uri(f'package://sample/{name}').read_bytes()
    for folder in ('open', 'closed'):
        (tmp_path / folder / name).write_bytes(content)
    how = dict(most_upload_bytes=len(content) + 1, beat_s=0.2)
    swept = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(api, 'sweep_uploads', lambda archive: swept.set())
        app = ad.create_app(archive, [tmp_path / 'open'], **how)
    with TestClient(app) as client:
        assert swept.wait(60)  # And not again for a day: what a test leaves there stays
        client.headers.update(keys['all'])
        yield SimpleNamespace(
            archive=archive, client=client, keys=keys, name=name, content=content, at=tmp_path
        )


def downloads(house):
    folder = house.archive.home / 'downloads'
    return list(folder.iterdir()) if folder.exists() else []


def test_a_file_that_is_sent_is_there(house):
    where = dict(name=house.name, detect=False)
    answer = house.client.post(UPLOAD, params=where, content=house.content)
    assert answer.status_code == 200, answer.text
    web_ingest.Taken.model_validate(answer.json()['data'])
    assert answer.json()['data']['added'] == 1 and answer.json()['data']['ledger'] == []
    [row] = house.client.get('/observations').json()['data']
    assert row['uri'].startswith('observations/upload-')
    assert house.archive.store.get(row['uri']) == house.content
    again = house.client.post(UPLOAD, params=where, content=house.content).json()['data']
    assert (again['added'], again['skipped']) == (0, 1)
    assert house.archive.store.has(row['uri']) and downloads(house) == []


def test_a_body_in_pieces_is_stopped_where_it_is_too_large(house):
    sent = []

    def pieces():
        for _ in range(100):
            sent.append(1)
            yield bytes(len(house.content) // 10)

    many = house.client.post(UPLOAD, params=dict(name='a.fits'), content=pieces())
    assert many.status_code == 413 and 'larger' in many.json()['error']['message']
    more = house.client.post(UPLOAD, params=dict(name='a.fits'), content=house.content + b'xx')
    assert more.status_code == 413
    assert downloads(house) == [] and list(house.archive.store.list('observations/')) == []


def test_what_holds_no_image_is_in_the_ledger_and_not_kept(house):
    table = io.BytesIO()
    rows = fits.BinTableHDU.from_columns([fits.Column('a', 'E', array=np.ones(3))])
    fits.HDUList([fits.PrimaryHDU(), rows]).writeto(table)
    for content in (b'words', table.getvalue()):
        answer = house.client.post(UPLOAD, params=dict(name='x.fits'), content=content)
        assert answer.status_code == 200, answer.text
        data = answer.json()['data']
        assert data['added'] == 0 and len(data['ledger']) == 1 and data['ledger'][0]['reason']
    assert list(house.archive.store.list('observations/')) == []


@pytest.mark.parametrize(
    'name', ['../a.fits', 'a/b.fits', '.fits', 'a.exe', 'a.fits\n', '', 'ä.fits']
)
def test_an_odd_name_is_refused_before_the_body_comes(house, name, monkeypatch):
    async def never(*_):
        pytest.fail('the body was read')

    monkeypatch.setattr(web_ingest, '_spool', never)
    answer = house.client.post(UPLOAD, params=dict(name=name), content=b'x')
    assert answer.status_code == 422, answer.text


def test_who_may_not_change_sends_nothing(house, monkeypatch):
    async def never(*_):
        pytest.fail('the body was read')

    monkeypatch.setattr(web_ingest, '_spool', never)
    for key, status in ((house.keys['reader'], 403), ({'X-API-Key': 'x'}, 401)):
        asked = dict(params=dict(name='a.fits'), content=b'x', headers=key)
        assert house.client.post(UPLOAD, **asked).status_code == status


def test_addresses_stay_within_what_is_allowed(house):
    inside = house.client.post(
        ADDRESS, json=dict(address=str(house.at / 'open' / house.name), detect=False)
    )
    assert inside.status_code == 200 and inside.json()['data']['added'] == 1, inside.text
    link = house.at / 'open' / 'link.fits'
    link.symlink_to(house.at / 'closed' / house.name)
    closed = [
        house.at / 'closed' / house.name,
        house.at / 'closed',
        house.at / 'closed' / '*',
        link,
    ]
    closed += [f'file://{closed[0]}', f'{house.at}/open/../closed/{house.name}', '/etc/passwd']
    for address in map(str, closed):
        answer = house.client.post(ADDRESS, json=dict(address=address))
        assert answer.status_code == 422, (address, answer.text)
        assert 'outside' in answer.json()['error']['message']
        told = house.name in answer.text
        assert told == (house.name in address)  # What lies there is not told
    for address in ('nothing.fits', str(house.at / 'open' / '*')):
        assert house.client.post(ADDRESS, json=dict(address=address)).status_code == 404
    for odd in (dict(address=''), dict(address='\0'), dict(address='a', paths=['b']), {}):
        assert house.client.post(ADDRESS, json=odd).status_code == 422


def test_a_place_is_asked_for_once(house, monkeypatch):
    asked = []

    def fetch(archive, ra, dec, survey, **size):
        asked.append((ra, dec, survey, size))
        if len(asked) == 1:
            raise StoreUnreachable('SkyView gave no answer')
        return archive.add_fits(str(house.at / 'open' / house.name), detect=False, show=False)

    monkeypatch.setattr(web_ingest, 'add_position', fetch)
    app = ad.create_app(house.archive, [house.at / 'open'], beat_s=0.2)
    body = dict(ra=150.1, dec=2.2, survey='DSS2 Red', fov_deg=0.1, pixels=64)
    with TestClient(app, headers=house.keys['all']) as client:

        def begin(**change):
            answer = client.post(POSITION, json=body | change)
            assert answer.status_code == 202, answer.text
            data = answer.json()['data']
            assert data['accepted'] and answer.headers['location'] == f'/jobs/{data["job_id"]}'
            return data['job_id'], ended(client, answer.headers['location'])

        first, job = begin()
        assert job['status'] == 'failed' and job['error']['status'] == 503
        second, job = begin()
        assert second != first and job['status'] == 'done', job
        assert job['answer']['data']['added'] == 1
        assert begin()[0] == second and begin(pixels=65)[0] != second
        assert begin(fov_deg=0.2)[0] != second
    assert len(asked) == 4 and asked[1][3] == dict(fov_deg=0.1, pixels=64)


def test_ledger_and_shell_say_the_same():
    report = deliveries.report_facts(IngestReport())
    assert set(report) == set(web_ingest.Taken.model_fields)


def test_a_pattern_is_one_name(house):
    with pytest.raises((BadInput, ad.core.NotFound)):
        deliveries.add_address(house.archive, str(house.at / 'closed' / '*.fits'))


def test_two_that_send_the_same_delete_nothing_of_each_other(house, monkeypatch):
    delete, deleted = FolderStore.delete, []
    good, bad = dict(name=house.name, detect=False), dict(name=house.name, hdu='NONE')

    def late(store, key):  # Between asking and deleting, another sends the same
        deleted.append(key)
        if len(deleted) == 1:
            house.client.post(UPLOAD, params=good, content=house.content)
        delete(store, key)

    monkeypatch.setattr(FolderStore, 'delete', late)
    house.client.post(UPLOAD, params=bad, content=house.content)
    [row] = house.client.get('/observations').json()['data']
    assert deleted and row['uri'] not in deleted
    assert house.archive.store.get(row['uri']) == house.content


def kept(house):
    return list(house.archive.store.list('observations/'))


def test_a_refused_body_is_neither_read_nor_kept(house, monkeypatch):
    def full(*_):
        raise TooBusy('no room')

    async def never(*_):
        pytest.fail('the body was read')

    with monkeypatch.context() as m:
        m.setattr(Jobs, 'check_room', full)
        m.setattr(web_ingest, '_spool', never)
        answer = house.client.post(UPLOAD, params=dict(name='a.fits'), content=b'words')
    assert answer.status_code == 429 and kept(house) == []
    with monkeypatch.context() as m:  # Room goes while the body comes
        m.setattr(Jobs, 'submit', full)
        answer = house.client.post(UPLOAD, params=dict(name='a.fits'), content=b'words')
    assert answer.status_code == 429 and kept(house) == []
    monkeypatch.setattr(web_ingest, '_MOST_UPLOADS', 0)
    assert house.client.post(UPLOAD, params=dict(name='a.fits'), content=b'x').status_code == 429


def test_a_request_that_is_known_leaves_no_file(house):
    how = dict(params=dict(name='a.fits'), headers={'Idempotency-Key': 'one'})
    for content, status in ((b'words', 200), (b'words', 200), (b'others', 409)):
        answer = house.client.post(UPLOAD, content=content, **how)
        assert answer.status_code == status, answer.text
        assert kept(house) == []


def test_a_job_that_fails_or_is_cancelled_leaves_no_file(house, monkeypatch):
    def broken(*_, **__):
        raise OSError('the disk is gone')

    monkeypatch.setattr(deliveries, 'add_address', broken)
    answer = house.client.post(UPLOAD, params=dict(name='a.fits'), content=b'words')
    assert answer.status_code == 500 and kept(house) == []
    monkeypatch.setattr(Jobs, '_begin', lambda *_: None)  # It waits
    how = dict(params=dict(name='a.fits'), headers={'Prefer': 'respond-async'})
    later = house.client.post(UPLOAD, content=b'words', **how)
    assert later.status_code == 202 and len(kept(house)) == 1
    monkeypatch.undo()
    house.client.delete(later.headers['location'])
    assert kept(house) == []


def leave(house, name, days):
    "A file that was sent, some days ago; its key"
    key = deliveries.upload_key(name, name.encode().hex().ljust(16, '0'), 'first')
    house.archive.store.put(key, b'words')
    path = house.archive.store.local_path(key)
    os.utime(path, (time.time() - days * 86400,) * 2)
    return key


def wait_until(is_so):
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_killed_servers_left_is_swept(house):
    "A server that was killed after a body came, or a request that was cancelled: no job knows the file"
    old, young, awaited = (leave(house, f'{n}.fits', n) for n in (2, 0, 3))
    sent = house.client.post(
        UPLOAD, params=dict(name=house.name, detect=False), content=house.content
    )
    [used] = {row['uri'] for row in house.client.get('/observations').json()['data']}
    os.utime(house.archive.store.local_path(used), (0, 0))
    params = dict(asked=dict(key=awaited), who='ann', asker='ann', starts=0)
    with house.archive.session() as session:
        session.add(IngestJob(kind='ingest_upload', params=params, status='cancelling', progress=0))
    assert sent.status_code == 200 and house.archive.store.has(old)
    with TestClient(ad.create_app(house.archive)):
        wait_until(lambda: not house.archive.store.has(old))
    assert kept(house) == sorted([young, awaited, used])


def test_a_sweep_that_failed_is_tried_again_soon(house, monkeypatch):
    old, tries, plain = leave(house, '2.fits', 2), [], api.sweep_uploads

    def sweep(archive):
        tries.append(archive)
        if len(tries) < 3:
            raise Conflict('the database is locked')
        return plain(archive)

    monkeypatch.setattr(api, 'sweep_uploads', sweep)
    with TestClient(ad.create_app(house.archive, beat_s=0.01)):
        wait_until(lambda: not house.archive.store.has(old))
    assert len(tries) == 3


@pytest.mark.parametrize('status, starts', [('running', 3), ('cancelling', 1)])
def test_a_job_whose_server_ended_leaves_neither_file_nor_secret(house, status, starts):
    key = leave(house, 'a.fits', 0)
    asked = dict(key=key, survey='https://ann:horse-staple@a.org')
    long_ago = datetime.now(UTC) - timedelta(days=1)
    row = IngestJob(kind='ingest_upload', status=status, progress=0.5, updated_at=long_ago)
    row.params = dict(asked=asked, who='ann', asker='ann', starts=starts)
    with house.archive.session() as session:
        session.add(row)
    with TestClient(ad.create_app(house.archive, beat_s=0.2)):
        wait_until(lambda: not house.archive.store.has(key))
    with house.archive.session() as session:
        [job] = session.scalars(select(IngestJob))
    assert job.status in ('failed', 'cancelled') and 'horse-staple' not in repr(job.params)


def test_the_answer_of_a_job_tells_no_secret(house, monkeypatch):
    secret = 'https://hc-ping.com/0a1b2c3d-1111-2222-3333-c0ffee123456'

    def told(archive, address, **_):
        report = IngestReport()
        report.notes.append(f'{secret} was told, password=horse-staple')
        report.lose('a.fits', 'unreachable', f'no answer from {secret}?token=horse-staple')
        return report

    monkeypatch.setattr(deliveries, 'add_address', told)
    monkeypatch.setattr(web_ingest, 'add_address', told)
    with TestClient(ad.create_app(house.archive), headers=house.keys['all']) as client:
        answer = client.post(ADDRESS, json=dict(address='observations/a.fits'))
        [job] = client.get('/jobs').json()['data']
        again = client.get(f'/jobs/{job["job_id"]}', headers=house.keys['reader'])
    with house.archive.session() as session:
        [row] = session.scalars(select(IngestJob))
    for words in (answer.text, again.text, repr(row.result)):
        assert 'a.fits' in words and 'c0ffee' not in words and 'horse-staple' not in words, words


def test_a_job_tells_no_reader_a_secret(house):
    signed = f'https://127.0.0.1:9/a.fits?X-Amz-Signature={"c0ffee12" * 8}&token=horse-staple'
    answer = house.client.post(ADDRESS, json=dict(address=signed))
    [job] = house.client.get('/jobs').json()['data']
    texts = [
        answer.text,
        house.client.get(f'/jobs/{job["job_id"]}', headers=house.keys['reader']).text,
    ]
    with house.archive.session() as session:
        [row] = session.scalars(select(IngestJob))
        texts.append(repr((row.params, row.result)))
    for text in texts:
        assert 'c0ffee12' not in text and 'horse-staple' not in text, text
    secret = house.client.post(ADDRESS, json=dict(address='https://ann:horse@a.org/a.fits'))
    assert secret.status_code == 422 and 'horse' not in secret.text
    assert len(house.client.get('/jobs').json()['data']) == 1


def test_a_place_is_asked_again_when_skyview_was_away(house, monkeypatch):
    def away(*_):
        raise StoreUnreachable('SkyView gave no answer')

    monkeypatch.setattr(fetch, '_fetch', away)
    body, ids = dict(ra=150.1, dec=2.2, survey='DSS2 Red', fov_deg=0.1, pixels=64), set()
    for _ in range(2):
        at = house.client.post(POSITION, json=body).headers['location']
        job = ended(house.client, at)
        assert job['status'] == 'failed' and job['error']['status'] == 503, job
        ids.add(at)
    assert len(ids) == 2


def test_a_weight_is_taken_for_sky_where_that_is_said(house):
    where = house.at / 'open' / 'a_wht.fits'
    where.write_bytes(house.content)
    asked = dict(address=str(where), detect=False)
    assert house.client.post(ADDRESS, json=asked).json()['data']['added'] == 0
    taken = house.client.post(ADDRESS, json=asked | dict(role='image'))
    assert taken.json()['data']['added'] == 1, taken.text
    sent = dict(name='b_wht.fits', detect=False, role='image')
    again = house.client.post(UPLOAD, params=sent, content=house.content).json()['data']
    assert (again['skipped'], again['ledger']) == (1, [])
    assert house.client.post(ADDRESS, json=asked | dict(role='dq')).status_code == 422


def test_a_body_that_is_held_back_ends(monkeypatch):
    times = iter(range(0, 1000, 20))
    monkeypatch.setattr(web_ingest, 'monotonic', lambda: next(times))
    request = SimpleNamespace(headers={}, stream=None)

    async def stream():
        while True:
            yield b'x'

    request.stream = stream
    with tempfile.NamedTemporaryFile() as file, pytest.raises(ApiError) as caught:
        asyncio.run(web_ingest._spool(request, file, 100))
    assert caught.value.status == 408
