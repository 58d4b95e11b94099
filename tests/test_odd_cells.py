"Rows of a table that say systems of their own, odd cells among them, and first rows that are objects"

import warnings

import numpy as np
import pandas as pd
import pytest
from stamping import pixels

from astrid_data.core import BadInput
from astrid_data.inference.pieces import _in_degrees
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.found import places_of
from astrid_data.ingest.tables import open_table
from astrid_data.ingest.where import read_places


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


# One odd cell, and empty ones


def read_rows(n=3, **said):
    return read_places(
        open_table(pd.DataFrame(dict(ra=[150.0] * n, dec=[2.0] * n, **said))), 'ra', 'dec'
    )


MIXED = [dict(frame=['galactic', 'icrs', 'unknown']), dict(radesys=['galactic', 'icrs', 'unknown'])]


@pytest.mark.parametrize('said', MIXED)
def test_one_odd_system_costs_its_own_row_alone(said):
    places = read_rows(**said)
    assert [*places.problems] == [2] and "'unknown'" in places.problems[2]
    assert abs(places.ra[0] - 150) > 1 and places.ra[1] == 150 and np.isnan(places.ra[2])
    assert any(note.startswith('1 row:') for note in places.notes)


def test_a_column_in_which_nothing_is_known_says_nothing():
    for cells in (['a', 'b', 'c'], [7, 8, 9], ['x', '', 'y']):  # Exposures
        places = read_rows(frame=cells)
        assert places.ra.tolist() == [150] * 3 and not places.problems and not places.notes


BLANK = [
    dict(radesys=['fk4', '', '']),
    dict(frame=['fk4', None, '']),
    dict(equinox=['B1950', '', '']),
]


@pytest.mark.parametrize('said', BLANK)
def test_an_empty_cell_takes_the_default_and_is_noted(said):
    places = read_rows(**said)
    assert places.ra[0] != 150 and places.ra[1:].tolist() == [150] * 2
    assert any('2 rows say no system' in note and 'icrs' in note for note in places.notes)
    filled = read_rows(**{name: [cells[0]] * 3 for name, cells in said.items()})
    assert (filled.ra != 150).all() and not any('no system' in note for note in filled.notes)


def test_the_systems_of_a_table_are_a_list():
    places = read_rows(radesys=['galactic', 'icrs', ''])
    assert (places.systems, places.is_converted) == (('galactic', 'icrs'), True)
    assert places.ra[1:].tolist() == [150] * 2
    plain = read_rows()
    assert (plain.systems, plain.is_converted, plain.notes) == (('icrs',), False, [])


# Stamps and their table

NAMES = 'abc'


def with_stamps(archive, **said):
    stamps = [dict(image=pixels(ord(name)), id=name) for name in NAMES]
    table = pd.DataFrame(dict(id=[*NAMES], ra=[10.0, 20.0, 30.0], dec=0.0, **said))
    return archive.add_stamps(stamps, 'a', table=table, show=False)


def test_a_stamp_is_lost_for_the_system_of_its_own_row(archive):
    report = with_stamps(archive, radesys=['icrs', 'B19zz', 'icrs'])
    assert (report.added, len(report.lost)) == (2, 1)
    assert report.lost[0][1] == 'bad_position' and "'B19zz'" in report.lost[0][2]
    of_table = [note for note in report.notes if 'B19zz' in note]
    assert len(of_table) == 1 and of_table[0].startswith('1 row:')
    assert 'stamps)' not in of_table[0]


def test_what_holds_for_a_table_is_told_once_and_without_a_count(archive):
    report = with_stamps(archive, radesys=['fk4', 'fk4', ''])
    assert report.added == 3
    silent, brought = sorted(note for note in report.notes if 'icrs' in note.lower())
    assert silent.startswith('1 row says no system') and silent.endswith('icrs')
    assert brought.endswith('brought to ICRS')


def test_places_to_ask_for_quote_what_is_wrong_with_a_row():
    table = dict(ra=[10.0, 20.0], dec=[0.0, 0.0], radesys=['icrs', 'B19zz'])
    with pytest.raises(BadInput, match="(?s)'B19zz'.*rows 1"):
        places_of(table)


def test_searches_and_scoring_warn_of_how_places_were_read():
    table = pd.DataFrame(dict(ra=[10.0, 20.0], dec=0.0, radesys=['fk4', '']))
    for read in (places_of, _in_degrees):
        with pytest.warns(UserWarning, match='1 row says no system.*brought to ICRS') as warned:
            read(table)
        assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for read in (places_of, _in_degrees):
            read(table[['ra', 'dec']])


# First rows that are objects

OBJECTS = [
    {'id': ['a', '1', '2'], 'x': ['b', '3', '4']},
    {'star': ['A', '12', '13'], 'planet': ['b', '1', '2']},
    {'type': ['s', '1', '2']},
    {'id': ['m', '1', '2'], 'n': ['h', '3', '4']},
    {'class': ['G', '1', '2'], 'kind': ['K', '3', '4']},
    {'ra': ['A', '1', '2'], 'dec': ['b', '3', '4']},
    {'mag': ['b', '1', '2'], 'n': ['h', '3', '4']},
    {'flag': ['d', '1', '2'], 'epoch_name': ['m', '1', '2']},
]


@pytest.mark.parametrize('table', OBJECTS)
def test_a_first_row_of_letters_is_an_object(table):
    source = open_table(pd.DataFrame(table))
    assert (len(source.columns), source.n_units, source.units) == (3, 0, {})


UNITS = [
    {'ra': ['h', '1', '2'], 'dec': ['deg', '3', '4']},
    {'mjd': ['d', '1', '2'], 'x': ['b', '3', '4']},
    {'gmag': ['mag', '1', '2'], 'n': ['', '3', '4']},
    {'a': ['km', '1', '2'], 'b': ['kpc', '3', '4']},
    {'flux': ['Jy', '1', '2'], 'id': ['', '3', '4']},
]


@pytest.mark.parametrize('table', UNITS)
def test_a_first_row_of_units_of_its_columns_is_none(table):
    assert open_table(pd.DataFrame(table)).n_units == 1
