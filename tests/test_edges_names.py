"A name of a catalogue is of one object: running numbers that begin anew elsewhere are others"

import pandas as pd
import pytest
from astropy.io import fits
from awkward import header, sky

import astrid_data as ad


@pytest.fixture
def fields(tmp_path):
    "Two images ten degrees apart, and one of the first place a year later"
    archive = ad.open_archive(tmp_path / 'home')
    for i, (ra, mjd) in enumerate(((150.0, 59000.1), (160.0, 59000.2), (150.0, 59365.1))):
        cards = header(FILTER='r', TELESCOP='T', CRVAL1=ra, CRVAL2=2.0, EXPTIME=30.0)
        cards['MJD-OBS'] = mjd
        fits.PrimaryHDU(sky(i), cards).writeto(tmp_path / f'{i}.fits')
        archive.add_fits(tmp_path / f'{i}.fits', survey='s', detect=False, show=False)
    return archive


def table(*rows):
    return pd.DataFrame(rows, columns=['n', 'ra', 'dec'])


def reasons(report):
    return dict(zip(report.ledger.uri, report.ledger.reason))


HERE, THERE, NOWHERE = (7, 150.0, 2.0), (7, 160.0, 2.0), (7, 40.0, 2.0)


def test_a_running_number_in_two_fields_is_one_object_in_the_first(fields):
    report = fields.add_catalogue(table(HERE, THERE, (8, 160.0, 2.001)), 'c', object_id='n')
    assert reasons(report) == {'c[1]': 'other_place'} and report.rows == 2
    assert 'row 0' in report.ledger.detail[0] and '0.5 deg' in report.ledger.detail[0]
    assert sorted(fields.detections().object_id) == ['7', '7', '8']  # Two images of the first place


@pytest.mark.parametrize('first,second', [(HERE, THERE), (THERE, HERE)])
def test_a_table_in_two_parts_is_as_one(fields, first, second):
    assert fields.add_catalogue(table(first), 'c', object_id='n').rows == 1
    for rows in (table(second), table(second, first), table(first, second)):
        report = fields.add_catalogue(rows, 'c', object_id='n')
        assert list(reasons(report).values()) == ['other_place']
        assert 'stored' in report.ledger.detail[0]
        assert fields.detections().ra.round(3).unique().tolist() == [first[1]]
    assert fields.add_catalogue(table(second), 'another', object_id='n').rows == 1


def test_a_row_on_no_image_takes_no_name(fields):
    report = fields.add_catalogue(table(NOWHERE, THERE), 'c', object_id='n')
    assert reasons(report) == {'c[0]': 'no_image'} and report.detections == 1


def test_a_row_on_an_image_that_is_not_asked_takes_no_name(fields):
    seen = fields.observations()
    there = seen[seen.ra.round() == 160].observation_id.tolist()
    report = fields.add_catalogue(table(HERE, THERE), 'c', object_id='n', observations=there)
    assert reasons(report) == {'c[0]': 'no_image'} and report.detections == 1


def test_names_that_are_corrected_are_not_lost(fields):
    first = table((1, 150.0, 2.0), (2, 160.0, 2.0))
    fields.add_catalogue(first, 'c', object_id='n')
    report = fields.add_catalogue(first.assign(n=[2, 1]), 'c', object_id='n')
    assert (reasons(report), report.changed['object id']) == ({}, 3)


def test_stars_that_move_and_rows_without_a_name_stay(fields):
    near = table((7, 150.0, 2.0), (7, 150.0, 2.003), (None, 150.001, 2.0), (None, 160.0, 2.0))
    assert fields.add_catalogue(near, 'c', object_id='n').rows == 4


def test_what_wanders_is_one_object_and_cannot_be_in_two_places_at_once(fields):
    rows = table(HERE, THERE).assign(at=[59365.1, 59000.2])
    ask = dict(object_id='n', when='at', days=(0.01, 0.01))
    assert fields.add_catalogue(rows, 'asteroid', **ask).rows == 2
    report = fields.add_catalogue(
        rows.assign(at=[59000.2, 59000.2]), 'both', **ask | dict(days=(1, 1))
    )
    assert reasons(report) == {'both[1]': 'other_place'}


def test_a_second_call_says_the_same(fields):
    both = table(HERE, THERE)
    first, second = (fields.add_catalogue(both, 'c', object_id='n') for _ in range(2))
    assert reasons(first) == reasons(second) == {'c[1]': 'other_place'}
    assert (first.detections, second.detections) == (2, 0)


def events(*rows):
    return table(*(row[:3] for row in rows)).assign(
        t0=[r[3] for r in rows], t1=[r[4] for r in rows]
    )


LISTED = dict(object_id='n', when=('t0', 't1'))


def test_a_second_list_of_events_with_the_same_running_numbers_is_of_others(fields):
    "What was seen at one place while a row of its name holds at another"
    assert fields.add_catalogue(events((*HERE, 59000, 59001)), 'c', **LISTED).rows == 1
    report = fields.add_catalogue(events((*THERE, 58990, 59010)), 'c', **LISTED)
    assert list(reasons(report).values()) == ['other_place'] and not report.rows
    again = fields.add_catalogue(events((*HERE, 59000, 59001)), 'c', **LISTED)
    assert (again.rows, again.notes) == (1, [])


@pytest.mark.parametrize('parts', [1, 2])
def test_numbers_far_away_at_other_times_are_one_object_and_said_to_be(fields, parts):
    rows = events((*HERE, 59365, 59366), (*THERE, 59000, 59001))
    for part in [rows] if parts == 1 else [rows[:1], rows[1:].reset_index(drop=True)]:
        report = fields.add_catalogue(part, 'c', **LISTED)
    assert not len(report.ledger) and report.rows == len(part)
    assert 'taken for objects that wander' in ''.join(report.notes)


def test_each_row_is_asked_not_the_first_of_its_name_alone(fields):
    "The second and the third hold at one time, the first at another"
    rows = events((*HERE, 59365, 59366), (*HERE, 59000, 59001), (*THERE, 59000, 59001))
    report = fields.add_catalogue(rows, 'c', **LISTED)
    assert reasons(report) == {'c[2]': 'other_place'} and 'row 1 as well' in report.ledger.detail[0]
