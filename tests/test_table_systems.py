"What tables say of the systems of their positions and times, wherever they say it"

import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table

from astrid_data.core import BadInput
from astrid_data.ingest.catalogue_columns import read_catalogue
from astrid_data.ingest.tables import open_table
from astrid_data.ingest.when import read_windows

PLACE = SkyCoord(150.0, 2.0, unit='deg')
NOTHING = dict(object_id=None, class_name=None, is_real=None, mag=None, snr=None, score=1.0)
FK4 = dict(RADESYS='FK4', EQUINOX=1950.0)


def away_from_place(table, ra='ra', dec='dec'):
    "How far (arcsec) the first row of a table is from where it was put"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        catalogue = read_catalogue(open_table(table), 'list', ra, dec, **NOTHING)
    row = catalogue.rows.iloc[0]
    return SkyCoord(row.ra, row.dec, unit='deg').separation(PLACE).arcsec


def halves(frame):
    "The place as two numbers of degrees in another system"
    place = PLACE.transform_to(frame).spherical
    return place.lon.deg, place.lat.deg


def votable(path, fields, cells, before='', within=''):
    "Write a VOTable of one row: fields as dicts, with what stands before the table or in it"
    written = ''.join(
        f'<FIELD {" ".join(f"{k}={v!r}" for k, v in (dict(datatype="double") | field).items())}/>'
        for field in fields
    )
    row = ''.join(f'<TD>{cell}</TD>' for cell in cells)
    path.write_text(f"""<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
{before}<TABLE>{within}{written}
<DATA><TABLEDATA><TR>{row}</TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>""")
    return path


OLD = '<COOSYS ID="s" system="eq_FK4" equinox="B1950"/>'
NEW = '<COOSYS ID="n" system="ICRS"/>'
GROUP = '<GROUP ref="s"><FIELDref ref="c1"/><FIELDref ref="c2"/></GROUP>'
PARAM = '<PARAM name="RADESYS" datatype="char" arraysize="*" value="FK4"/>'
INFO = '<INFO name="RADESYS" value="FK4"/>'


@pytest.mark.parametrize(
    'more, before, within',
    [
        (dict(ref='s'), OLD, ''),
        (dict(ref='s'), OLD + NEW, ''),
        (dict(), OLD + NEW, GROUP),
        (dict(), OLD, ''),
        (dict(), '', PARAM),
        (dict(), PARAM, ''),
        (dict(), INFO, ''),
    ],
)
@pytest.mark.parametrize('order', [('ra', 'dec'), ('dec', 'ra')])
def test_a_votable_says_the_system_of_fields_by_id(tmp_path, more, before, within, order):
    "Columns were c1 and c2, their systems ra and dec: 2479 arcsec off"
    cells = dict(zip(('ra', 'dec'), halves('fk4')))
    fields = [dict(ID=f'c{k}', name=name, unit='deg', **more) for k, name in enumerate(order, 1)]
    path = votable(tmp_path / 'a.vot', fields, [cells[name] for name in order], before, within)
    assert away_from_place(path) < 1e-3


def test_fields_of_one_name_are_called_by_id_and_keep_their_system(tmp_path):
    fields = [dict(ID=ID, name='x', unit='deg', ref='s') for ID in ('ra', 'dec')]
    path = votable(tmp_path / 'a.vot', fields, halves('fk4'), OLD + NEW)
    assert away_from_place(path) < 1e-3


def test_several_systems_that_no_column_refers_to_are_in_the_report(tmp_path):
    fields = [dict(name='ra', unit='deg'), dict(name='dec', unit='deg')]
    source = open_table(votable(tmp_path / 'a.vot', fields, [1, 2], OLD + NEW))
    assert any('2 systems of positions' in note for note in source.notes)


@pytest.mark.parametrize(
    'ucds, frame',
    [
        (('pos.galactic.lon', 'pos.galactic.lat'), 'galactic'),
        (('pos.galactic.lon;meta.main', 'pos.galactic.lat;meta.main'), 'galactic'),
        (('POS_GAL_LON', 'POS_GAL_LAT'), 'galactic'),
        (('pos.supergalactic.lon', 'pos.supergalactic.lat'), 'supergalactic'),
        (('pos.eq.ra', 'pos.eq.dec'), 'icrs'),
    ],
)
@pytest.mark.parametrize('before', ['', NEW])
def test_a_ucd_says_the_system(tmp_path, ucds, frame, before):
    "86 degrees off"
    fields = [dict(name=name, unit='deg', ucd=ucd) for name, ucd in zip(('x', 'y'), ucds)]
    path = votable(tmp_path / 'a.vot', fields, halves(frame), before)
    assert away_from_place(path, 'x', 'y') < 1e-3


def test_a_ucd_of_a_system_that_nobody_knows_is_refused(tmp_path):
    fields = [dict(name='x', ucd='pos.ecliptic.lon'), dict(name='y', ucd='pos.ecliptic.lat')]
    with pytest.raises(BadInput, match='ecliptic'):
        away_from_place(votable(tmp_path / 'a.vot', fields, [1, 2]), 'x', 'y')


# Times

AHEAD_D = 69.184 / 86400  # TDB of UTC, in 2020


@pytest.mark.parametrize(
    'origin, cell, unit',
    [
        ('2400000', 59000.8, 'd'),
        ('MJD-origin', 59000.3, 'd'),
        ('JD-origin', 2459000.8, 'd'),
        ('2455197.5', 59000.3 - 55197.0, 'd'),
        ('2455197.5', (59000.3 - 55197.0) * 86400, 's'),
        ('2455197.5', (59000.3 - 55197.0) / 365.25, 'a'),
    ],
)
@pytest.mark.parametrize('by_group', [False, True])
def test_times_count_from_the_origin_that_a_votable_names(tmp_path, origin, cell, unit, by_group):
    system = f'<TIMESYS ID="t" timescale="TDB" timeorigin="{origin}" refposition="BARYCENTER"/>'
    group = '<GROUP ref="t"><FIELDref ref="c1"/></GROUP>' if by_group else ''
    field = dict(ID='c1', name='at', unit=unit) | ({} if by_group else dict(ref='t'))
    source = open_table(votable(tmp_path / 'a.vot', [field], [repr(cell)], system, group))
    start = read_windows(source, when='at', days=1).start
    assert start[0] == pytest.approx(59000.3 - AHEAD_D, abs=1e-7)


@pytest.mark.parametrize('origin, unit', [('breakfast', 'd'), ('2400000', 'm')])
def test_a_count_of_nobody_knows_what_is_left_out_and_refused_as_a_time(tmp_path, origin, unit):
    system = f'<TIMESYS ID="t" timescale="TDB" timeorigin="{origin}" refposition="BARYCENTER"/>'
    field = dict(name='at', unit=unit, ref='t')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        source = open_table(votable(tmp_path / 'a.vot', [field], [1.0], system))
    with pytest.raises(BadInput, match='not understood'):
        read_windows(source, when='at', days=1)


# Cards in files


def rows_of(frame, **meta):
    "An astropy Table of the place in a system"
    lon, lat = halves(frame)
    return Table(dict(ra=[lon], dec=[lat]), meta=meta)


def write_pandas(path, frame):
    frame = rows_of('fk4').to_pandas()
    frame.attrs |= FK4
    frame.to_parquet(path)


def write_schema(path, frame):
    table = pyarrow.Table.from_pandas(rows_of('fk4').to_pandas())
    said = {key: str(value) for key, value in FK4.items()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(said), path)


def write_comments(path, form):
    comments = ''.join(form.format(key, value) for key, value in FK4.items())
    path.write_text(comments + rows_of('fk4').to_pandas().to_csv(index=False))


def write_ipac(path, _):
    cells = ''.join(f'{cell:22.15f}' for cell in halves('fk4'))
    names = f'|{"ra":>21s}|{"dec":>21s}|\n|{"double":>21s}|{"double":>21s}|\n'
    path.write_text(f"\\RADESYS = 'FK4'\n\\EQUINOX = 1950.0\n{names}{cells}\n")


def write_primary(path, _):
    primary = fits.PrimaryHDU(header=fits.Header(FK4))
    fits.HDUList([primary, fits.BinTableHDU(rows_of('fk4'))]).writeto(path)


WRITERS = {
    'a.parquet': (write_pandas, None),
    'b.parquet': (lambda path, _: rows_of('fk4', **FK4).write(path), None),
    'c.parquet': (write_schema, None),
    'a.csv': (write_comments, '# {} = {}\n'),
    'b.csv': (write_comments, "#{}: '{}'\n"),
    'a.ecsv': (lambda path, _: rows_of('fk4', **FK4).write(path), None),
    'b.ecsv': (lambda path, _: rows_of('fk4', keywords=FK4).write(path), None),
    'c.ecsv': (lambda path, _: rows_of('fk4', comments=['RADESYS = FK4']).write(path), None),
    'a.tbl': (write_ipac, None),
    'a.fits': (write_primary, None),
    'b.fits': (lambda path, _: rows_of('fk4', **FK4).write(path), None),
}


@pytest.mark.parametrize('name', WRITERS)
def test_a_file_says_the_system_as_its_table_did_in_memory(tmp_path, name):
    write, form = WRITERS[name]
    write(tmp_path / name, form)
    assert away_from_place(tmp_path / name) < 1e-3


def with_ucds(names=('x', 'y')):
    "A table of the place in the galactic system, which only UCDs say"
    table = Table(dict(zip(names, ([half] for half in halves('galactic')))))
    for name, half in zip(names, ('lon', 'lat')):
        table[name].meta['ucd'] = f'pos.galactic.{half}'
    return table


@pytest.mark.parametrize('name', ['memory', 'a.parquet', 'a.ecsv', 'a.vot', 'a.fits'])
def test_ucds_of_a_file_say_the_system(tmp_path, name):
    table, path = with_ucds(), tmp_path / name
    if name == 'a.fits':
        hdu = fits.BinTableHDU(table)
        hdu.header.update(TUCD1='pos.galactic.lon', TUCD2='pos.galactic.lat')
        hdu.writeto(path)
    elif name != 'memory':
        table.write(path, **(dict(format='votable') if name == 'a.vot' else {}))
    assert away_from_place(table if name == 'memory' else path, 'x', 'y') < 1e-3


@pytest.mark.parametrize('cards', [dict(EQUINOX=1950.0), {}])
def test_a_primary_header_that_speaks_of_a_pointing_says_nothing_of_a_table(tmp_path, cards):
    image = np.zeros((2, 2)) if not cards else None
    primary = fits.PrimaryHDU(image, fits.Header(cards or FK4))
    fits.HDUList([primary, fits.BinTableHDU(rows_of('icrs'))]).writeto(tmp_path / 'a.fits')
    assert away_from_place(tmp_path / 'a.fits') < 1e-3


@pytest.mark.parametrize('as_result', [False, True])
def test_an_open_votable_and_an_answer_of_pyvo_say_their_systems(tmp_path, as_result):
    fields = [dict(ID=f'c{k}', name=name, unit='deg') for k, name in enumerate(('ra', 'dec'), 1)]
    whole = parse(votable(tmp_path / 'a.vot', fields, halves('fk4'), OLD + NEW, GROUP))
    if as_result:
        whole = pytest.importorskip('pyvo').dal.DALResults(whole)
    assert away_from_place(whole) < 1e-3


def csv(path, comment, **columns):
    "Write a table of one row with a line before it"
    names, cells = ','.join(columns), ','.join(map(str, columns.values()))
    path.write_text(f'# {comment}\n{names}\n{cells}\n')
    return path


@pytest.mark.parametrize('column', ['equinox', 'Coord_Equinox', 'eqx'])
@pytest.mark.parametrize('head, cell', [('EQUINOX J2000', 'B1950'), ('EQUINOX = 1950', '2000')])
def test_a_head_and_a_column_that_contradict_are_asked(tmp_path, head, cell, column):
    ra, dec = halves('icrs')
    path = csv(tmp_path / 'a.csv', head, ra=ra, dec=dec, **{column: cell})
    with pytest.raises(BadInput, match='head of the table says .* a column of it .* frame='):
        away_from_place(path)


@pytest.mark.parametrize('cell', ['J2000', '2000', '2000.0', ''])
def test_a_head_and_a_column_that_agree_are_one(tmp_path, cell):
    ra, dec = halves('icrs')
    path = csv(tmp_path / 'a.csv', 'EQUINOX J2000', ra=ra, dec=dec, equinox=cell)
    assert away_from_place(path) < 0.1


def test_a_field_of_a_system_and_a_column_of_another_are_asked(tmp_path):
    fields = [dict(name='ra', ref='s'), dict(name='dec', ref='s'), dict(name='radesys')]
    fields[2] |= dict(datatype='char', arraysize='*')
    path = votable(tmp_path / 'a.xml', fields, (*halves('fk4'), 'ICRS'), before=OLD)
    with pytest.raises(BadInput, match='head of the table says'):
        away_from_place(path)


def test_a_column_says_the_equinox_of_a_system_in_the_head(tmp_path):
    ra, dec = halves('fk4')
    path = csv(tmp_path / 'a.csv', 'RADESYS FK4', ra=ra, dec=dec, equinox='B1950')
    assert away_from_place(path) < 0.1


@pytest.mark.parametrize(
    'words', ['Coordinates are B1950', 'positions in the FK4', 'l,b: Galactic']
)
def test_a_comment_in_prose_is_noted(tmp_path, words):
    "It may be a history of the table as well, so it is no refusal"
    source = open_table(csv(tmp_path / 'a.csv', words, ra=1, dec=2))
    assert 'if they are in it, say frame=' in source.notes[0] and words in source.notes[0]
    assert not open_table(csv(tmp_path / 'b.csv', 'EQUINOX B1950', ra=1, dec=2)).notes
    assert not open_table(csv(tmp_path / 'c.csv', 'extragalactic, J2000', ra=1, dec=2)).notes


@pytest.mark.parametrize('frame', ['icrs', 'galactic', 'fk4'])
@pytest.mark.parametrize('column', ['ra', 'coord'])
def test_a_place_in_each_row_of_a_dataframe_keeps_its_system(frame, column):
    rows = pd.DataFrame(dict(coord=[PLACE.transform_to(frame), None], name=['a', 'b']))
    assert away_from_place(rows, column, 'dec' if column == 'ra' else column) < 0.001


def test_a_column_of_places_and_of_others_is_none():
    with pytest.raises(BadInput, match="no column 'ra'"):
        away_from_place(pd.DataFrame(dict(coord=[PLACE, 'here'])))


def test_a_verdict_that_is_unsure_is_noted():
    rows = dict(ra=[1, 2, 3], dec=[1, 2, 3], is_real=['real', 'unsure', ''])
    asked = NOTHING | dict(is_real='is_real')
    catalogue = read_catalogue(open_table(pd.DataFrame(rows)), 'list', 'ra', 'dec', **asked)
    assert catalogue.notes == ['1 row: is_real says unsure, so that these have no verdict']
