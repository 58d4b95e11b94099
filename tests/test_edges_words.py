"What an error offers is what is accepted, and what is missing is named beside what is there"

import re

import pandas as pd
import pytest
from sqlalchemy import select
from test_datasets import write_images

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.ingest.alerts import alert_problem, flat_alert
from astrid_data.registry.tables import Detection, add_validation_event
from astrid_data.registry.words import UNSURE_WORDS, read_verdict

pytestmark = pytest.mark.filterwarnings('ignore')


def offered(problem):
    "The words after 'give', without 'or one of'"
    said = str(problem.value).partition('give ')[2].split(';')[0]
    return [word for word in re.split(r', or one of |, | or ', said) if word]


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp('words')
    archive = ad.open_archive(folder / 'home')
    archive.add_fits(write_images(folder, n=1, side=100), survey='s', show=False)
    return archive


def event_on(archive, verdict):
    with archive.session() as session:
        detection = session.scalar(select(Detection.id))
        return add_validation_event(session, detection, 'vera', verdict).is_valid


@pytest.mark.parametrize('word', ['maybe', 'unsure', '?', None, 5])
def test_an_event_takes_every_word_that_its_error_offers(archive, word):
    with pytest.raises(BadInput) as problem:
        event_on(archive, word)
    words = offered(problem)
    assert {'True', 'False', 'real', 'bogus'} <= set(words) and 'unsure' not in words
    assert [event_on(archive, text) for text in words] == [w in ('True', 'real') for w in words]


def test_a_reader_of_verdicts_takes_every_word_that_its_error_offers():
    with pytest.raises(BadInput) as problem:
        read_verdict('maybe')
    words = offered(problem)
    meanings = [read_verdict(text) for text in words]
    assert set(words) & UNSURE_WORDS and set(meanings) == {True, False, None}


def rows(**columns):
    return pd.DataFrame(dict(ra=[40.0], dec=[5.0]) | columns)


def test_a_catalogue_offers_no_word_that_it_would_take_for_a_column(archive):
    with pytest.raises(BadInput, match='True or False') as problem:
        archive.add_catalogue(rows(), 'c', is_real=5)
    assert 'unsure' not in str(problem.value) and 'real, bogus' not in str(problem.value)


def test_a_column_of_verdicts_takes_every_word_that_the_ledger_offers(archive):
    ledger = archive.add_catalogue(
        pd.concat([rows(v='maybe'), rows(v='real')], ignore_index=True), 'c', is_real='v'
    ).ledger
    [said] = ledger[ledger.reason == 'bad_verdict'].detail
    words = re.split(r', | or |; | for neither', said.partition('give ')[2])
    words = [word for word in words if word]
    assert len(words) == 9
    table = pd.concat([rows(v=word) for word in words], ignore_index=True)
    report = archive.add_catalogue(table, 'd', is_real='v')
    assert 'bad_verdict' not in set(report.ledger.reason)


@pytest.mark.parametrize(
    'fields, absent, alike',
    [
        (dict(raa=10.0, dec=1.0, jd=2458900.5), ['ra'], ['raa']),
        (dict(ra=10.0, dec=1.0, jdd=2458900.5), ['jd'], ['jdd']),
        (dict(raa=10.0, dekc=1.0, jd=2458900.5), ['ra', 'dec'], ['raa', 'dekc']),
        (dict(x=10.0, y=1.0, jd=2458900.5), ['ra', 'dec'], []),
    ],
)
def test_an_alert_without_a_field_says_which_and_what_is_there(fields, absent, alike):
    reason, detail = alert_problem(flat_alert(dict(objectId='ZTF1', candid=1) | fields))
    assert reason == 'unknown_schema'
    assert f'no {", ".join(absent)}' in detail
    has = detail.partition('it has ')[2].partition(';')[0].split(', ')
    assert {'objectId', 'candid', *fields} == set(has)
    assert re.findall("is '(\\w+)' meant", detail) == alike


def test_an_alert_of_many_fields_names_some():
    _, detail = alert_problem(flat_alert(dict(candid=1) | {f'f{k:02d}': k for k in range(40)}))
    assert 'and 29 more' in detail and len(detail) < 300


@pytest.mark.parametrize('name', ['midPointTai', 'midpointMjdTai'])
def test_an_alert_whose_time_is_no_day_says_so_and_not_that_it_is_of_no_survey(name):
    source = dict(diaSourceId=45, ra=150.0, dec=2.0) | {name: 1480360995.0}
    reason, detail = alert_problem(flat_alert(dict(diaSource=source, diaSourceId=45)))
    assert reason == 'unknown_schema'
    assert f'no time: {name} is 1480360995.0, which is no day' in detail
    assert 'neither ZTF' not in detail
