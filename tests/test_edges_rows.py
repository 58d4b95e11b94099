"""Tables as people export them, and rows that contradict each other in one exposure."""

import json

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from test_boundaries_tables import nights, places, sky  # noqa: F401

from astrid_data.core import BadInput
from astrid_data.ingest.tables import open_table

IDS = ['Müller 1', '0042', 'NA']
OK = [True, False, True]
RA, DEC = places(3)
ROWS = pd.DataFrame(dict(id=IDS, ra=RA, dec=DEC, ok=OK))


def all_there(archive, table, **asked):
    "Whether the three rows came in with their names and verdicts; the report"
    asked = dict(object_id='id', is_real='ok') | asked
    report = archive.add_catalogue(table, 'c', **asked)
    assert report.ledger.empty, report.ledger.to_dict('records')
    found = archive.detections().set_index('object_id').status.to_dict()
    assert found == dict(zip(IDS, ('confirmed', 'rejected', 'confirmed')))
    return report


# Text


def text_of(separator=',', comma=False):
    lines = [separator.join(ROWS.columns)]
    for row in ROWS.itertuples(index=False):
        cells = [str(cell) for cell in row]
        lines.append(separator.join(c.replace('.', ',') if comma else c for c in cells))
    return '\n'.join(lines) + '\n'


TEXTS = {
    'decimal commas, semicolons': text_of(';', comma=True).encode(),
    'decimal commas, tabs': text_of('\t', comma=True).encode(),
    'the separator named first': ('sep=;\r\n' + text_of(';')).encode(),
    'UTF-16, as a spreadsheet writes it': text_of('\t').encode('utf-16'),
    'UTF-16, the other end first': b'\xfe\xff' + text_of().encode('utf-16-be'),
    'Latin-1': text_of().encode('latin-1'),
}


@pytest.mark.parametrize('kind', TEXTS)
def test_text_as_spreadsheets_write_it(sky, tmp_path, kind):  # noqa: F811
    (tmp_path / 't.csv').write_bytes(TEXTS[kind])
    report = all_there(sky, tmp_path / 't.csv')
    assert any('UTF-8' in note for note in report.notes) == (kind == 'Latin-1')


@pytest.mark.parametrize('cells', [['1,234', '5,678'], ['1.5', '2,5'], ['1,2,3', '4']])
def test_commas_that_may_mean_thousands_are_no_numbers(sky, cells):  # noqa: F811
    table = dict(ra=cells, dec=['2.0'] * 2)
    report = sky.add_catalogue(table, 'c')
    n_odd = sum(',' in cell for cell in cells)
    assert list(report.ledger.reason).count('bad_position') == n_odd


# JSON, records, VOTables


@pytest.mark.parametrize('orient', ['records', 'columns', 'split', 'table'])
def test_json_in_each_form_of_pandas(sky, tmp_path, orient):  # noqa: F811
    kept_whole = dict(double_precision=15)
    ROWS.to_json(tmp_path / 't.json', orient=orient, **kept_whole)
    all_there(sky, tmp_path / 't.json')


def test_json_of_which_no_line_can_be_read_says_why(tmp_path):
    line = '{"id": 1, "ra": 1.5, "ra": 2.5}\n'
    (tmp_path / 't.jsonl').write_text(line * 2)
    with pytest.raises(BadInput, match="'ra' stands there twice"):
        open_table(tmp_path / 't.jsonl')


def test_parts_of_records_are_columns(sky, tmp_path):  # noqa: F811
    nested = [
        dict(id=i, ok=ok, pos=dict(ra=ra, dec=dec)) for i, ra, dec, ok in zip(IDS, RA, DEC, OK)
    ]
    (tmp_path / 't.jsonl').write_text('\n'.join(map(json.dumps, nested)))
    pd.DataFrame(nested).to_parquet(tmp_path / 't.parquet')
    for table in ('t.jsonl', 't.parquet'):
        report = all_there(sky, tmp_path / table, ra='pos.ra', dec='pos.dec')
    assert report.skipped == 3


def test_a_votable_says_what_its_service_says(sky, tmp_path):  # noqa: F811
    path = tmp_path / 't.vot'
    Table.from_pandas(ROWS).write(path, format='votable')
    whole = path.read_text()
    path.write_text(whole.replace('</TABLE>', '<INFO name="QUERY_STATUS" value="OK"/></TABLE>'))
    assert not any('the service' in note for note in all_there(sky, path).notes)
    path.write_text(
        whole.replace('</TABLE>', '<INFO name="QUERY_STATUS" value="OVERFLOW"/></TABLE>')
    )
    assert any('may lack rows' in note for note in all_there(sky, path).notes)
    path.write_text(whole.replace('<TABLE', '<INFO name="QUERY_STATUS" value="ERROR"/><TABLE', 1))
    with pytest.raises(BadInput, match='answered with an error'):
        sky.add_catalogue(path, 'c')


def test_a_votable_may_begin_with_a_remark(sky, tmp_path):  # noqa: F811
    path = tmp_path / 't.xml'
    Table.from_pandas(ROWS).write(path, format='votable')
    path.write_text('<!-- made by hand -->\n' + path.read_text().partition('?>')[2].lstrip())
    all_there(sky, path)


def test_a_folder_is_said_to_be_one(sky, tmp_path):  # noqa: F811
    with pytest.raises(BadInput, match='is a folder'):
        sky.add_catalogue(tmp_path, 'c')


# Units and mixed columns

SPELLINGS = {
    'RA(h)': (RA / 15, 'dec', DEC),
    'ra_hours': (RA / 15, 'dec_deg', DEC),
    'ra_rad': (np.radians(RA), 'dec_rad', np.radians(DEC)),
}


@pytest.mark.parametrize('name', SPELLINGS)
def test_the_name_of_a_column_may_say_its_unit(sky, name):  # noqa: F811
    ra, name_dec, dec = SPELLINGS[name]
    all_there(sky, {'id': IDS, 'ok': OK, name: ra, name_dec: dec}, ra=name, dec=name_dec)


def test_of_two_columns_of_positions_none_is_taken_in_silence(sky):  # noqa: F811
    table = Table(dict(id=IDS, ok=OK))
    table['at'] = SkyCoord(RA, DEC, unit='deg').galactic
    all_there(sky, table)
    table['host'] = SkyCoord(RA + 1, DEC, unit='deg')
    with pytest.raises(BadInput, match=r'at\.ra'):
        sky.add_catalogue(table, 'c')
    all_there(sky, table, ra='at', dec='at')
    assert (
        list(sky.add_catalogue(table, 'd', ra='host', dec='host').ledger.reason) == ['no_image'] * 3
    )


def test_a_time_of_astropy_comes_back_from_fits(nights, tmp_path):  # noqa: F811
    table = Table(dict(ra=[150.0], dec=[2.0]))
    table['seen'] = Time([59000.0], format='mjd', scale='tai')
    table.write(tmp_path / 't.fits')
    report = nights.add_catalogue(tmp_path / 't.fits', 'c', when='seen', days=100)
    assert report.detections == 2
    [seen] = open_table(tmp_path / 't.fits').columns['seen']
    assert seen == pytest.approx(59000 - 37 / 86400, abs=1e-9)
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, 'D', array=[1.0]) for name in ('ra', 'dec')]
        + [fits.Column('pair', '2D', array=[[1.0, 2.0]])]
    )
    table.writeto(tmp_path / 'pair.fits')
    with pytest.raises(BadInput, match='an array of'):
        nights.add_catalogue(tmp_path / 'pair.fits', 'c', when='pair', days=1)


# Rows against each other

PLACE = dict(ra=150.0, dec=2.0)
NIGHT = 59000.1  # An exposure of 30 s begins


def row(start, end, **more):
    return PLACE | dict(start=start, end=end) | more


def states(archive):
    return sorted(archive.detections().status)


@pytest.mark.parametrize('offset', [0.0, 1e-5])
def test_two_windows_may_meet_in_one_exposure(nights, offset):  # noqa: F811
    rows = [
        row(58990, NIGHT + 0.0001, ok='real'),
        row(NIGHT + 0.0002, 59030, ok='bogus') | dict(ra=150.0 + offset),
    ]
    report = nights.add_catalogue(rows, 'c', is_real='ok', when=('start', 'end'))
    assert (report.detections, states(nights)) == (1, ['rejected'])
    assert list(report.ledger.reason) == ['contradiction']
    assert any('not placed on exposures' in note for note in report.notes)


def test_the_newest_of_two_windows_counts_in_one_exposure(nights):  # noqa: F811
    rows = [
        row(58990, NIGHT + 0.0001, ok='real', judged='2022-01-01'),
        row(NIGHT + 0.0002, 59030, ok='bogus', judged='2021-01-01'),
    ]
    asked = dict(is_real='ok', when=('start', 'end'), verdict_time='judged')
    report = nights.add_catalogue(rows, 'c', **asked)
    assert (report.detections, states(nights)) == (2, ['confirmed', 'rejected'])
    assert report.ledger.empty


def test_two_windows_of_one_mind_make_one_detection_of_an_exposure(nights):  # noqa: F811
    rows = [row(58990, NIGHT + 0.0001, mag=18.0), row(NIGHT + 0.0002, 59030, mag=20.0)]
    report = nights.add_catalogue(rows, 'c', is_real=True, when=('start', 'end'), mag='mag')
    assert (report.detections, report.corrected, report.changed) == (2, 0, {})
    assert sorted(nights.detections().mag) == [18.0, 20.0]


def test_two_classes_of_one_place_and_time_contradict_each_other(nights):  # noqa: F811
    rows = [row(58990, 59020, type='SN Ia'), row(59005, 59030, type='AGN')]
    asked = dict(class_name='type', is_real=True, when=('start', 'end'))
    report = nights.add_catalogue(rows, 'c', **asked)
    assert list(report.ledger.reason) == ['contradiction'] * 2
    rows[1]['start'] = 59020.5
    assert nights.add_catalogue(rows[:1], 'd', **asked).rows == 1
    assert set(nights.add_catalogue(rows, 'e', **asked).ledger.reason) == {'other_time'}


@pytest.mark.parametrize(
    'first, second, state',
    [
        (('real', '2020-01-01'), ('unsure', '2021-01-01'), 'pending'),
        (('real', '2022-01-01'), ('unsure', '2021-01-01'), 'confirmed'),
        (('real', '2020-01-01'), ('', '2021-01-01'), 'confirmed'),
        (('real', '2020-01-01'), ('unsure', 'soon'), 'confirmed'),
        (('bogus', '2020-01-01'), ('real', '2021-01-01'), 'confirmed'),
    ],
)
def test_who_is_newly_unsure_takes_his_verdict_back(sky, first, second, state):  # noqa: F811
    rows = [PLACE | dict(ok=ok, judged=judged) for ok, judged in (first, second)]
    report = sky.add_catalogue(rows, 'c', is_real='ok', verdict_time='judged')
    assert (report.rows, states(sky)) == (1, [state])


def test_an_age_that_cannot_be_read_is_not_an_old_one(sky):  # noqa: F811
    rows = [PLACE | dict(mag=20.0, judged='soon'), PLACE | dict(mag=18.0, judged='2020-01-01')]
    report = sky.add_catalogue(rows, 'c', is_real=True, mag='mag', verdict_time='judged')
    assert list(sky.detections().mag) == [20.0]
    assert 'which of them is newer is not known' in report.ledger.detail[0]


# Calls


def test_a_misspelt_argument_is_answered_with_the_right_one(sky):  # noqa: F811
    for name, right in (('isreal', 'is_real'), ('objectid', 'object_id'), ('RA', 'ra')):
        with pytest.raises(TypeError, match=f"is '{right}' meant"):
            sky.add_catalogue([PLACE], 'c', **{name: 'x'})
    with pytest.raises(TypeError, match="is 'survey' meant"):
        sky.add_fits('a.fits', surveys='x')


def test_nothing_given_is_said(sky):  # noqa: F811
    for report in (sky.add_fits([], show=False), sky.add_alerts([], show=False)):
        assert 'nothing was given' in report.notes[0]
    for verb in (sky.add_fits, sky.add_alerts):
        with pytest.raises(BadInput):
            verb(' ')
