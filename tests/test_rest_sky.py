"Surveys, observations, detections and verdicts over HTTP: by place, time and survey, page by page, and no way around the lock on test"

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect as sa_inspect
from sqlalchemy import select

import astrid_data as ad
from astrid_data import sky_rows, web_sky
from astrid_data.core import BadInput
from astrid_data.keys import create_api_key
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    Model,
    ModelRun,
    ModelType,
    Observation,
    ObservationIndex,
    Survey,
    ValidationEvent,
    bulk_insert,
    index_sky,
)
from astrid_data.sky import sky_separation_arcsec

NOBODY = '00000000-0000-0000-0000-000000000000'
LABELS = 'object_id mag snr score detection_type status is_validated human_label'.split()


@pytest.fixture(scope='module')
def house(tmp_path_factory):
    "A served archive with a version that has a test split"
    archive = ad.synthetic_archive(home=tmp_path_factory.mktemp('sky'), seed=5)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=80))
    how = dict(patch_size=16, probe=False, allow_empty=True, progress=False)
    dataset = plan.build('look', **how)
    permissions = dict(reader=['read:data'], all=['manage:operations', 'read:data'])
    keys = {name: create_api_key(archive, name, may) for name, may in permissions.items()}
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    return SimpleNamespace(archive=archive, dataset=dataset, keys=keys, client=client)


@pytest.fixture
def ask(house):
    def ask(path, method='GET', key='reader', **kw):
        return house.client.request(method, path, headers={'X-API-Key': house.keys[key]}, **kw)

    return ask


def everything(ask, path, **params):
    "All rows of a list, page by page"
    rows, after = [], None
    while True:
        more = dict(after=after) if after else {}
        answer = ask(path, params=params | more).json()
        assert answer['status'] == 'success', answer
        rows += answer['data']
        after = answer['meta']['next']
        if after is None:
            return rows


def rows_of_test(house):
    samples = house.dataset.samples
    return samples.iloc[house.dataset.split_rows('test')]


# In a registry where places are known -----------------------------------------------------------------------------


def filled(url, folder, ra, dec, radius_deg, at=None):
    "An archive with an observation and a detection at each place"
    archive = ad.open_archive(url, storage=folder / 's', home=folder / 'h')
    n, survey, model, run = len(ra), *(uuid.uuid4() for _ in range(3))
    observations = [uuid.UUID(int=i + 1) for i in range(n)]
    at = at or [datetime(2024, 1, 1, tzinfo=UTC)] * n
    with archive.session() as session:
        session.add(Survey(id=survey, name='x'))
        session.add(Model(id=model, name='m', version='1', model_type=ModelType.CLASSIFIER))
        session.flush()
        session.add(ModelRun(id=run, model_id=model))
        session.flush()
        seen = dict(survey_id=survey, filter_band='r', exposure_time=1.0, fits_url='a.fits')
        rows = [
            dict(id=id, observation_id=str(i), ra=ra[i], dec=dec[i], observation_time=at[i], **seen)
            for i, id in enumerate(observations)
        ]
        bulk_insert(session, Observation, rows)
        found = dict(model_run_id=run, pixel_x=0, pixel_y=0, confidence_score=0.5)
        found |= dict(detection_type='transient', model_version='1')
        rows = [
            dict(id=uuid.UUID(int=i + 1), observation_id=id, ra=ra[i], dec=dec[i], **found)
            for i, id in enumerate(observations)
        ]
        bulk_insert(session, Detection, rows)
        index_sky(session)
        for one in session.scalars(select(ObservationIndex)):
            one.radius_deg = radius_deg
    return archive


PLACES = [(0.0, 0.0), (359.9, 0.05), (180.0, 89.95), (10.0, -89.99), (45.0, 30.0)]


@pytest.fixture(scope='module')
def sphere(tmp_path_factory):
    "3000 places, some of them at the poles and at RA 0"
    rng = np.random.default_rng(0)
    near = [rng.normal(place, 0.1, (300, 2)) for place in PLACES]
    ra, dec = np.concatenate([*near, rng.uniform((0, -90), (360, 90), (1500, 2))]).T
    ra, dec = np.round(ra % 360, 7), np.round(np.clip(dec, -90, 90), 7)
    folder = tmp_path_factory.mktemp('sphere')
    return filled(None, folder, ra, dec, 0.02), ra, dec


@settings(max_examples=40)
@given(
    st.sampled_from(PLACES) | st.tuples(st.floats(0, 360), st.floats(-90, 90)),
    st.sampled_from([1e-6, 1e-3, 0.1, 1, 20, 180]),
    st.sampled_from([7, 1000]),
)
def test_a_cone_finds_what_the_sphere_has(sphere, place, radius, limit):
    archive, ra, dec = sphere
    apart = sky_separation_arcsec(ra, dec, *place) / 3600
    for read, own in ((sky_rows.detection_rows, 0), (sky_rows.observation_rows, 0.02)):
        ids, after, pages = [], None, 0
        while pages < 5:
            cone = dict(ra=place[0], dec=place[1], radius=radius)
            rows, after = read(archive, limit, after and uuid.UUID(after), **cone)
            ids += [uuid.UUID(row['id']).int - 1 for row in rows]
            pages += 1
            if after is None:
                break
        wanted = np.flatnonzero(apart <= (radius + own) * (1 + 1e-12))
        doubtful = np.flatnonzero(np.abs(apart - radius - own) < 1e-9)
        if after is not None:
            wanted = wanted[: len(ids)]
        assert set(ids) ^ set(wanted.tolist()) <= set(doubtful.tolist())
        assert ids == sorted(ids)


def test_a_detection_without_an_index_row_is_found(registry_url, tmp_path):
    archive = filled(registry_url, tmp_path, np.array([0.001, 120.0]), np.array([0.0, 0.0]), 0.1)
    with archive.session() as session:
        for row in session.scalars(select(DetectionIndex)):
            session.delete(row)
    rows, more = sky_rows.detection_rows(archive, ra=359.999, dec=0.0, radius=0.01)
    assert [uuid.UUID(row['id']).int for row in rows] == [1] and more is None
    with_next, more = sky_rows.detection_rows(archive, 1)
    assert uuid.UUID(more).int == 1 and len(with_next) == 1
    assert sky_rows.detection_rows(archive, 1, uuid.UUID(more))[1] is None


def test_times_begin_and_end(tmp_path):
    day = datetime(2024, 3, 1, tzinfo=UTC)
    times = [day + timedelta(days=n) for n in range(4)] + [datetime(1970, 1, 1, tzinfo=UTC)]
    times[-1] = sky_rows.UNKNOWN_TIME
    archive = filled(None, tmp_path, np.arange(5.0), np.zeros(5), 0.1, times)
    for read in (sky_rows.observation_rows, sky_rows.detection_rows):
        seen = [uuid.UUID(row['id']).int for row in read(archive, start=times[1], end=times[3])[0]]
        assert seen == [2, 3]
        assert len(read(archive)[0]) == 5
        assert [uuid.UUID(row['id']).int for row in read(archive, end=times[1])[0]] == [1]
        assert read(archive)[0][-1]['observation_time'] is None


# Over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', ['/observations', '/detections'])
def test_pages_are_the_list(house, ask, path):
    whole = everything(ask, path, limit=1000)
    assert len(whole) > 4 and everything(ask, path, limit=4) == whole
    assert [row['id'] for row in whole] == sorted(row['id'] for row in whole)
    for row in whole[:3]:
        assert ask(f'{path}/{row["id"]}').json()['data'] == row
    name = whole[0]['survey']
    assert everything(ask, path, survey=name) == [row for row in whole if row['survey'] == name]
    assert everything(ask, path, end='1900-01-01') == []


@pytest.mark.parametrize(
    'query, status',
    [
        ('?ra=1&dec=2', 422),
        ('?ra=361&dec=2&radius=1', 422),
        ('?ra=nan&dec=2&radius=1', 422),
        ('?ra=1&dec=2&radius=inf', 422),
        ('?ra=1&dec=2&radius=0', 422),
        ('?cone=1', 422),
        ('?limit=0', 422),
        ('?after=x', 422),
        ('?start=yesterday', 422),
        ('?start=0001-01-01T00:00:00%2B14:00', 422),
        ('?end=9999-12-31T23:59:59-14:00', 422),
        ('?survey=nowhere', 404),
        ('?band=nothing', 404),
    ],
)
@pytest.mark.parametrize('path', ['/observations', '/detections'])
def test_what_is_odd_is_said(ask, path, query, status):
    answer = ask(path + query)
    assert answer.status_code == status, answer.text
    assert answer.json()['error']['message']


def test_a_list_tells_nothing_of_test(house, ask):
    ids = set(rows_of_test(house)['detection_id'].dropna())
    assert ids
    looks = len(house.dataset.test_openings)
    answer = ask('/detections', params=dict(limit=1000))
    assert not ids & {row['id'] for row in answer.json()['data']}
    assert 'purpose' in answer.json()['meta']['note']
    for id in ids:
        row = ask(f'/detections/{id}').json()['data']
        assert all(row[name] is None for name in LABELS) and row['ra'] is not None
        assert ask(f'/detections/{id}/events').status_code == 422
    places = rows_of_test(house)[['ra', 'dec']].to_numpy()
    for ra, dec in places[:5]:  # Whether there is a detection would tell drawn sky from the rest
        cone = dict(ra=ra, dec=dec, radius=1e-5)
        assert ask('/detections', params=cone).json()['data'] == []
    assert len(house.dataset.test_openings) == looks


def test_a_purpose_opens_and_leaves_a_mark(house, ask):
    ids = set(rows_of_test(house)['detection_id'].dropna())
    before = len(house.dataset.test_openings)
    rows = ask('/detections', params=dict(limit=1000, purpose='to learn')).json()['data']
    assert ids <= {row['id'] for row in rows}
    for path in (f'/detections/{min(ids)}', f'/detections/{min(ids)}/events'):
        assert ask(path, params=dict(purpose='to learn')).status_code == 200
    looks = house.dataset.test_openings.iloc[before:]
    assert len(looks) == 3 and set(looks['who']) == {'reader'}
    open_one = ask('/detections').json()['data'][0]
    ask(f'/detections/{open_one["id"]}', params=dict(purpose='to learn'))
    assert len(house.dataset.test_openings) == before + 3


@pytest.fixture
def siblings(house):
    "A detection that is no sample, of an object of test; and one of that name in another survey"
    tested = uuid.UUID(rows_of_test(house)['detection_id'].dropna().iloc[0])
    made = []
    with house.archive.session() as session:
        d, index = session.get(Detection, tested), session.get(DetectionIndex, tested)
        index.object_id = index.object_id or 'one of test'
        image = session.get(Observation, d.observation_id)
        elsewhere = Survey(id=uuid.uuid4(), name=f'elsewhere {uuid.uuid4()}')
        session.add(elsewhere)
        session.flush()
        for survey_id in (image.survey_id, elsewhere.id):
            copies = [
                {c.key: getattr(row, c.key) for c in sa_inspect(type(row)).column_attrs}
                for row in (image, d, index)
            ]
            ids = dict(observation_id=uuid.uuid4(), detection_id=uuid.uuid4())
            copies[0] |= dict(id=ids['observation_id'], survey_id=survey_id)
            copies[0] |= dict(observation_id=f'later {ids["observation_id"]}')
            copies[1] |= dict(id=ids['detection_id'], observation_id=ids['observation_id'])
            copies[1] |= dict(human_label='supernova', status='confirmed')
            copies[2] |= dict(detection_id=ids['detection_id'])
            for kind, copy in zip((Observation, Detection, DetectionIndex), copies):
                session.add(kind(**copy))
                session.flush()
            made.append((str(ids['observation_id']), str(ids['detection_id'])))
    yield [id for _, id in made]
    with house.archive.session() as session:
        for image_id, id in made:
            for kind, own in ((DetectionIndex, id), (Detection, id), (Observation, image_id)):
                session.delete(session.get(kind, uuid.UUID(own)))
                session.flush()


def test_an_object_of_test_is_locked_at_all_times(house, ask, siblings):
    later, other = siblings
    before = len(house.dataset.test_openings)
    shown = {row['id'] for row in everything(ask, '/detections', limit=1000)}
    assert later not in shown and other in shown
    row = ask(f'/detections/{later}').json()['data']
    assert all(row[name] is None for name in LABELS) and row['ra'] is not None
    assert ask(f'/detections/{other}').json()['data']['human_label'] == 'supernova'
    assert ask(f'/detections/{later}/events').status_code == 422
    assert ask(f'/detections/{other}/events').status_code == 200
    assert len(house.dataset.test_openings) == before
    why = dict(params=dict(purpose=' to learn '))
    assert ask(f'/detections/{later}', **why).json()['data']['human_label'] == 'supernova'
    assert ask(f'/detections/{later}/events', **why).status_code == 200
    assert ask(f'/detections/{other}', **why).status_code == 200
    looks = house.dataset.test_openings.iloc[before:]
    assert looks['purpose'].tolist() == ['to learn'] * 2


@pytest.mark.parametrize('purpose', ['', ' ', '\t\n'])
def test_a_blank_purpose_opens_nothing(house, ask, purpose):
    before = len(house.dataset.test_openings)
    id = rows_of_test(house)['detection_id'].dropna().iloc[0]
    samples = f'/training/datasets/{house.dataset.id}/samples'
    for path in ('/detections', f'/detections/{id}', f'/detections/{id}/events', samples):
        assert ask(path, params=dict(purpose=purpose)).status_code == 422
    if purpose:
        for read in (sky_rows.detection_row, sky_rows.event_rows):
            with pytest.raises(BadInput, match='blank'):
                read(house.archive, id, purpose, 'me')
        with pytest.raises(BadInput, match='blank'):
            sky_rows.detection_rows(house.archive, 1000, purpose=purpose)
    assert len(house.dataset.test_openings) == before


def test_the_address_of_a_survey_says_no_secret(house, ask):
    address = 'https://me:hunter22@x.org/a?token=abcdef123456'
    with house.archive.session() as session:
        session.add(Survey(id=uuid.uuid4(), name='guarded', base_url=address))
    text = ask('/surveys').text
    assert 'x.org' in text and 'hunter22' not in text and 'abcdef123456' not in text


def test_head_with_a_purpose_is_refused(house, ask):
    before = len(house.dataset.test_openings)
    assert ask('/detections', 'HEAD', params=dict(purpose='to learn')).status_code == 405
    assert len(house.dataset.test_openings) == before


def test_a_verdict_is_that_of_the_key(house, ask):
    [row] = ask('/detections', params=dict(limit=1)).json()['data']
    path = f'/detections/{row["id"]}/events'
    said = dict(is_valid='bogus', label='glitch', confidence_level='expert', tags=['edge'])
    made = ask(path, 'POST', 'all', json=said)
    assert made.status_code == 201 and made.json()['data'][0]['validator_id'] == 'all'
    last = ask(path).json()['data'][-1]
    assert (last['validator_id'], last['is_valid'], last['tags']) == ('all', False, ['edge'])
    assert last['id'] == made.json()['data'][0]['id']
    for more in (dict(validator_id='ana'), dict(created_at='2020-01-01'), dict(human=True)):
        assert ask(path, 'POST', 'all', json=said | more).status_code == 422
    assert ask(path, 'POST', 'reader', json=said).status_code == 403
    assert ask(f'/detections/{row["id"]}').json()['data']['status'] == 'rejected'


@pytest.mark.parametrize(
    'change, status',
    [
        (dict(is_valid='perhaps'), 422),
        (dict(is_valid=None), 422),
        (dict(confidence_level='sure'), 422),
        (dict(label='x' * 51), 422),
        (dict(label='\0'), 422),
        (dict(detection_id='x'), 422),
        (dict(detection_id=NOBODY), 404),
    ],
)
def test_one_wrong_verdict_and_none_is_written(house, ask, change, status):
    [row] = ask('/detections', params=dict(limit=1)).json()['data']
    said = dict(detection_id=row['id'], is_valid=True)

    def number():
        with house.archive.session() as session:
            return len(session.scalars(select(ValidationEvent.id)).all())

    before = number()
    answer = ask('/events', 'POST', 'all', json=dict(events=[said, said | change]))
    assert answer.status_code == status, answer.text
    assert number() == before
    assert ask('/events', 'POST', 'all', json=dict(events=[said] * 2)).status_code == 201
    assert number() == before + 2


def test_a_name_that_does_not_fit_is_said(house):
    key = create_api_key(house.archive, 'n' * 101, ['manage:operations'])
    body = dict(events=[dict(detection_id=NOBODY, is_valid=True)])
    answer = house.client.post('/events', json=body, headers={'X-API-Key': key})
    assert answer.status_code == 409 and 'shorter' in answer.json()['error']['message']


def test_no_detection_and_no_verdicts_are_two_things(ask):
    assert ask(f'/detections/{NOBODY}/events').status_code == 404
    assert ask(f'/surveys/{NOBODY}').status_code == 404
    names = [row['name'] for row in ask('/surveys').json()['data']]
    assert names == sorted(names) and names


def test_answers_are_as_described(house, ask):
    kinds = dict(
        surveys='SurveyFacts', observations='ObservationFacts', detections='DetectionFacts'
    )
    for path, kind in kinds.items():
        model = getattr(web_sky, kind)
        model.model_validate(model.model_json_schema()['examples'][0])
        for row in ask(f'/{path}').json()['data']:
            assert set(row) == set(model.model_fields)
            model.model_validate(row, strict=True)
