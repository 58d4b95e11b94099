"Stamps that a program sends or names: what `add_stamps` does, with its options and its ledger, within what is allowed"

import inspect
import io

import numpy as np
import pytest
from test_jobs import ended
from test_rest_ingest import house as served_house
from test_rest_ingest import kept

import astrid_data as ad
from astrid_data import web_ingest
from astrid_data.deliveries import report_facts
from astrid_data.ingest.stamp_sets import add_stamps
from astrid_data.web_stamps import StampsBody, stamp_options

UPLOAD = '/stamps/ingest/upload'
ADDRESS = '/stamps/ingest/address'
house = served_house
HOW = dict(survey='made', is_real='kind', class_name='type', score='rb', pixel_scale_arcsec=1.0)
COLUMNS = dict(ra='RAJ2000', object_id='star')


@pytest.fixture(scope='module')
def content():
    "Three stamps, one without a place"
    file = io.BytesIO()
    stamps = np.random.default_rng(1).normal(size=(3, 15, 15)).astype('f4')
    said = dict(kind=['real', 'bogus', 'real'], type=['SN', '', 'SN'], rb=[0.9, 0.2, 0.8])
    at = dict(RAJ2000=[1.0, 1.1, np.nan], dec=[2.0, 2.0, 2.0], star=['a', 'b', 'c'])
    np.savez(file, images=stamps, **said, **at)
    return file.getvalue()


def query(**more):
    pairs = [f'{ours}={theirs}' for ours, theirs in COLUMNS.items()]
    return dict(name='set.npz', columns=pairs) | HOW | more


def detections(archive):
    table = archive.detections().sort_values('ra')
    return table[['detection_id', 'ra', 'dec', 'object_id']].to_dict('list')


def test_all_three_ways_give_the_same(house, content, tmp_path):
    "Sent, named and in Python: one report and the same detections"
    (tmp_path / 'set.npz').write_bytes(content)
    there = ad.open_archive(home=tmp_path / 'other')
    report = there.add_stamps(tmp_path / 'set.npz', columns=COLUMNS, show=False, **HOW)
    sent = house.client.post(UPLOAD, params=query(), content=content)
    assert sent.status_code == 200, sent.text
    web_ingest.Taken.model_validate(sent.json()['data'])
    assert sent.json()['data'] == report_facts(report)
    assert (report.added, len(report.ledger)) == (2, 1)
    assert repr(detections(house.archive)) == repr(detections(there))
    (house.at / 'open' / 'set.npz').write_bytes(content)
    body = dict(address=str(house.at / 'open' / 'set.npz'), columns=COLUMNS, **HOW)
    named = house.client.post(ADDRESS, json=body).json()['data']
    assert (named['added'], named['skipped'], len(named['ledger'])) == (0, 2, 1)
    assert kept(house) == []


def test_every_option_is_offered_and_described(house):
    own = {'archive', 'source', 'show', 'chunk', 'isolate'}
    options = {*inspect.signature(add_stamps).parameters} - own
    assert options == {*stamp_options()} == {*StampsBody.model_fields} - {'address'}
    paths = house.client.get('/openapi.json').json()['paths']
    asked = {one['name']: one for one in paths[UPLOAD]['post']['parameters']}
    assert options <= {*asked} and all(
        one['description'] for n, one in asked.items() if n in options
    )
    assert asked['survey']['required'] and not asked['score']['required']


def test_a_job_goes_on_and_leaves_no_file(house, content):
    later = {'Prefer': 'respond-async', 'Idempotency-Key': 'one'}
    answer = house.client.post(UPLOAD, params=query(), content=content, headers=later)
    assert answer.status_code == 202, answer.text
    job = ended(house.client, answer.headers['location'])
    assert job['status'] == 'done' and job['answer']['data']['added'] == 2, job
    assert job['kind'] == 'ingest_stamps_upload' and kept(house) == []


def test_what_is_no_stamps_is_in_the_ledger(house):
    answer = house.client.post(UPLOAD, params=query(), content=b'words')
    data = answer.json()['data']
    assert answer.status_code == 200 and data['added'] == 0 and data['ledger'][0]['reason']
    assert kept(house) == []


def test_addresses_stay_within_what_is_allowed(house, content):
    for folder in ('open', 'closed'):
        (house.at / folder / 'set.npz').write_bytes(content)
    (house.at / 'closed' / 'set.csv').write_text('RAJ2000,dec\n7,7\n7,8\n7,9\n')
    (house.at / 'open' / 'link.npz').symlink_to(house.at / 'closed' / 'set.npz')
    here, there = str(house.at / 'open' / 'set.npz'), str(house.at / 'closed' / 'set.npz')
    for odd in (there, str(house.at / 'open' / 'link.npz'), f'file://{there}', '/etc/passwd'):
        answer = house.client.post(ADDRESS, json=dict(address=odd, survey='made'))
        assert answer.status_code == 422 and 'outside' in answer.json()['error']['message']
    body = dict(address=here, survey='made', table=str(house.at / 'closed' / 'set.csv'))
    answer = house.client.post(ADDRESS, json=body)
    assert answer.status_code == 422 and 'outside' in answer.json()['error']['message']
    assert house.client.post(ADDRESS, json=dict(address=f'{here}x', survey='a')).status_code == 404
    assert len(house.archive.detections()) == 0


def test_a_table_is_named_and_never_found(house, content):
    "What lies beside a file may be a link to what nobody may read"
    file = io.BytesIO()
    np.savez(file, images=np.random.default_rng(2).normal(size=(2, 15, 15)))
    (house.at / 'open' / 'bare.npz').write_bytes(file.getvalue())
    (house.at / 'closed' / 'secret.csv').write_text('ra,dec\n7,7\n7,8\n')
    (house.at / 'open' / 'bare.csv').symlink_to(house.at / 'closed' / 'secret.csv')
    (house.at / 'open' / 'rows.csv').write_text('ra,dec\n3,3\n3,4\n')
    body = dict(address=str(house.at / 'open' / 'bare.npz'), survey='made')
    alone = house.client.post(ADDRESS, json=body).json()['data']
    assert (alone['added'], len(alone['ledger'])) == (0, 2), alone
    body['table'] = str(house.at / 'open' / 'rows.csv')
    assert house.client.post(ADDRESS, json=body).json()['data']['added'] == 2


ODD = [
    dict(survey=''),
    dict(score='2'),
    dict(origin='moon'),
    dict(columns='ra'),
    dict(columns=['ra=RAJ2000', 'ra=dec']),
    dict(mask='odd'),
    dict(pixel_scale_arcsec='nan'),
    dict(scores='rb'),
    dict(name='a.exe'),
    dict(name='../set.npz'),
]


@pytest.mark.parametrize('odd', ODD, ids=str)
def test_odd_options_are_refused_in_words(house, content, odd):
    answer = house.client.post(UPLOAD, params=query(**odd), content=content)
    assert answer.status_code == 422, answer.text
    assert next(iter(odd)).split('_')[0][:5] in answer.json()['error']['message'], answer.text
    assert kept(house) == [] and len(house.archive.detections()) == 0


@pytest.mark.parametrize(
    'odd',
    [
        dict(scores=1),
        dict(address=''),
        dict(is_real=2),
        dict(survey=1),
        dict(score='1_000'),
        dict(score='nan'),
    ],
)
def test_odd_bodies_are_refused(house, odd):
    body = dict(address='a.npz', survey='made') | odd
    assert house.client.post(ADDRESS, json=body).status_code == 422


def test_an_address_holds_no_password(house, content):
    secret = 'https://ann:horse@a.org/t.csv'
    for how in (dict(address=secret), dict(address='a.npz', table=secret)):
        answer = house.client.post(ADDRESS, json=how | dict(survey='made'))
        assert answer.status_code == 422 and 'password' in answer.json()['error']['message']
    sent = house.client.post(UPLOAD, params=query(table=secret), content=content)
    assert sent.status_code == 422 and 'horse' not in sent.text


def test_who_may_not_change_sends_nothing(house, content, monkeypatch):
    async def never(*_):
        pytest.fail('the body was read')

    monkeypatch.setattr(web_ingest, '_spool', never)
    for key, status in ((house.keys['reader'], 403), ({'X-API-Key': 'x'}, 401)):
        sent = house.client.post(UPLOAD, params=query(), content=content, headers=key)
        body = dict(address='a.npz', survey='made')
        named = house.client.post(ADDRESS, json=body, headers=key)
        assert (sent.status_code, named.status_code) == (status, status)


def test_a_body_that_is_too_large_is_stopped(house):
    answer = house.client.post(UPLOAD, params=query(), content=house.content + b'xx')
    assert answer.status_code == 413 and kept(house) == []
