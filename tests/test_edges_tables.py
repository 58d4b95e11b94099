"""Empty cells of FITS tables stay empty, in every kind of column; what is no table is said to be none."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from astrid_data.core import BadInput
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.tables import open_table, read_table
from astrid_data.ingest.values import read_times
from astrid_data.registry.words import is_missing

pytestmark = pytest.mark.filterwarnings('ignore')


def written(path, *columns, **cards):
    "A file with one table, and cards that astropy would not write"
    table = fits.BinTableHDU.from_columns(list(columns))
    table.header.update(cards)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path


def empties(cells):
    return [bool(is_missing(cell)) for cell in cells]


def with_raw(path, name, row, stored):
    "The file of a table with other bytes in one cell"
    with fits.open(path, mode='update') as hdus:
        rec = hdus[1].data
        rec.view(np.ndarray)[name][row] = stored
    return path


def ascii_table(path, formats, nulls, rows):
    "A table of text, written by hand: astropy writes none with cells that are no numbers"
    width = 10
    cards = [('XTENSION', 'TABLE   '), ('BITPIX', 8), ('NAXIS', 2)]
    cards += [('NAXIS1', width * len(formats)), ('NAXIS2', len(rows)), ('PCOUNT', 0)]
    cards += [('GCOUNT', 1), ('TFIELDS', len(formats))]
    for n, (form, null) in enumerate(zip(formats, nulls), 1):
        cards += [(f'TTYPE{n}', f'c{n}'), (f'TFORM{n}', form), (f'TBCOL{n}', width * (n - 1) + 1)]
        cards += [(f'TNULL{n}', null)] if null is not None else []
    header = ''.join(fits.Card(*card).image for card in cards) + 'END'.ljust(80)
    text = ''.join(cell.ljust(width) for row in rows for cell in row)
    primary = fits.PrimaryHDU().header.tostring()
    blocks = [header.ljust(-(-len(header) // 2880) * 2880), text.ljust(2880)]
    path.write_bytes((primary + ''.join(blocks)).encode())
    return path


# Logicals and bits


def test_a_logical_that_is_neither_t_nor_f_is_empty(tmp_path):
    path = written(tmp_path / 'a.fits', fits.Column('ok', 'L', array=[True, False, True]))
    cells = read_table(with_raw(path, 'ok', 2, 0))['ok']
    assert cells[:2].tolist() == [True, False] and is_missing(cells[2])


@pytest.mark.parametrize('stored', [b'1', b'?', b't', b'\x01', b'\x02'])
def test_a_logical_that_breaks_the_standard_is_no_verdict(tmp_path, stored):
    path = written(tmp_path / 'a.fits', fits.Column('ok', 'L', array=[True, False, True]))
    path.write_bytes(path.read_bytes().replace(b'TFT' + bytes(9), b'TF' + stored + bytes(9)))
    cells = read_table(path)['ok']
    assert cells[:2].tolist() == [True, False] and is_missing(cells[2])


def test_several_logicals_of_which_one_is_empty_are_empty(tmp_path):
    bits = np.array([[True, False], [True, True], [False, False]])
    path = written(tmp_path / 'a.fits', fits.Column('ok', '2L', array=bits))
    cells = read_table(with_raw(path, 'ok', 1, [ord('T'), 0]))['ok']
    assert cells.iloc[[0, 2]].tolist() == ['10', '00'] and is_missing(cells[1])


def test_bits_that_are_masked_are_empty_in_memory_too():
    mask = [[False, True], [False, False]]
    table = Table(dict(flags=MaskedColumn([[True, True], [False, True]], mask=mask)))
    cells = read_table(table)['flags']
    assert is_missing(cells[0]) and cells[1] == '01'


@pytest.mark.parametrize('form', ['L', '2L', '1X', '11X', 'X'])
def test_a_table_without_rows_is_read(tmp_path, form):
    table = fits.BinTableHDU.from_columns([fits.Column('b', form), fits.Column('i', 'J')], nrows=0)
    table.writeto(tmp_path / 'a.fits')
    for given in (table, tmp_path / 'a.fits'):
        assert read_table(given).shape == (0, 2)


def test_logicals_of_width_0_and_lists_per_row_stop_nothing(tmp_path):
    lists = np.array([[1, 2], [3]], dtype=object)
    path = written(
        tmp_path / 'a.fits',
        fits.Column('none', '0L'),
        fits.Column('lists', 'PJ()', array=lists, null=1),
        fits.Column('pairs', '2J', array=[[1, 2], [3, 4]], null=1),
        fits.Column('i', 'J', array=[1, 2]),
    )
    source = open_table(path)
    assert source.columns['i'].tolist() == [1, 2] and 'pairs' in source.left_out


# TNULL


SCALED = {
    'J': dict(format='J', array=np.array([7, 1], 'i4'), null=7),
    'B': dict(format='B', array=np.array([255, 1], 'u1'), null=255),
    'K': dict(format='K', array=np.array([2**62 + 1, 2**62 + 2]), null=2**62 + 1),
    'u2': dict(format='I', array=np.array([3, 40000], 'u2'), bzero=2**15, null=3 - 2**15),
    'u8': dict(format='K', array=np.array([5, 2**63 + 5], 'u8'), bzero=2**63, null=5 - 2**63),
    'i1': dict(format='B', array=np.array([-128, 1], 'i1'), bzero=-128, null=0),
}


@pytest.mark.parametrize('kind', SCALED)
def test_whole_numbers_that_stand_for_none(tmp_path, kind):
    words = SCALED[kind]
    path = written(tmp_path / 'a.fits', fits.Column('n', **words))
    in_memory = fits.BinTableHDU.from_columns([fits.Column('n', **words)])
    for given in (path, in_memory)[: 1 if kind == 'i1' else 2]:  # Where astropy has other numbers
        cells = read_table(given)['n']
        assert empties(cells) == [True, False] and int(cells[1]) == int(words['array'][1])


def test_the_number_for_none_is_that_before_scaling(tmp_path):
    path = written(
        tmp_path / 'a.fits',
        fits.Column('mag', 'I', array=np.array([-999, 1500, 7], 'i2'), null=-999),
        TSCAL1=0.01,
        TZERO1=5.0,
    )
    cells = read_table(path)['mag']
    assert empties(cells) == [True, False, False]
    np.testing.assert_allclose(cells[1:].astype(float), [20.0, 5.07])
    path = written(
        tmp_path / 'b.fits',
        fits.Column('mag', 'I', array=np.array([-999, -400, 7], 'i2'), null=-999),
        TSCAL1=0.5,
        TZERO1=-799.0,  # The second value is -999 when it is scaled
    )
    assert empties(read_table(path)['mag']) == [True, False, False]


def test_what_the_header_says_of_empty_cells_is_put_back():
    columns = [
        fits.Column('i', 'J', array=[1, 2], null=2),
        fits.Column('u', 'K', array=np.array([0, 1], 'u8'), bzero=2**63, null=-(2**63)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    for _ in range(2):
        assert empties(read_table(hdu)['i']) == [False, True]
        assert empties(read_table(hdu)['u']) == [True, False]
    assert [column.null for column in hdu.columns] == [2, -(2**63)]
    assert (hdu.header['TNULL1'], hdu.header['TNULL2']) == (2, -(2**63))


def test_it_is_put_back_where_reading_fails(monkeypatch):
    hdu = fits.BinTableHDU.from_columns([fits.Column('i', 'J', array=[1, 2], null=2)])

    def stumble(*args, **kwargs):
        raise ValueError('a broken table')

    monkeypatch.setattr('astropy.table.Table.read', stumble)
    with pytest.raises(BadInput, match='a broken table'):
        open_table(hdu)
    assert hdu.columns['i'].null == 2


@pytest.mark.parametrize('null', ['T', True, 84, 70, 0, 1, 1.5, 'x'])
@pytest.mark.parametrize('n', [1, 2, 3])
def test_tnull_of_other_columns_means_nothing(tmp_path, null, n):
    path = written(
        tmp_path / 'a.fits',
        fits.Column('ok', 'L', array=[True, False]),
        fits.Column('f', 'E', array=[1.0, 84.0]),
        fits.Column('s', '3A', array=['T', 'x']),
        **{f'TNULL{n}': null},
    )
    found = read_table(path)
    assert found['ok'].tolist() == [True, False]
    assert found['f'].tolist() == [1, 84] and found['s'].tolist() == ['T', 'x']


def test_a_logical_value_is_no_number_for_none(tmp_path):
    path = written(tmp_path / 'a.fits', fits.Column('i', 'J', array=[1, 2]), TNULL1=True)
    assert read_table(path)['i'].tolist() == [1, 2]


# Tables of text


@pytest.mark.parametrize('null', ['*****', 'NULL', '-99.999', '0.000', 'NaN', ''])
def test_a_text_that_stands_for_none(tmp_path, null):
    rows = [('7', '1.500', 'x'), ('-9', null, 'NA'), ('12', ' 0.250', '')]
    path = ascii_table(tmp_path / 'a.fits', ('I5', 'F8.3', 'A3'), ('-9', null, 'NA'), rows)
    source = open_table(path)
    assert source.columns['c1'].tolist()[::2] == [7, 12]
    assert [empties(source.columns[name])[:2] for name in source.columns] == [[False, True]] * 3
    np.testing.assert_allclose(source.columns['c2'].astype(float)[[0, 2]], [1.5, 0.25])


def test_blank_numbers_are_empty_without_a_word_for_it(tmp_path):
    rows = [('7', '1.500', 'x'), ('', '', 'NA')]
    path = ascii_table(tmp_path / 'a.fits', ('I5', 'F8.3', 'A3'), (None,) * 3, rows)
    found = read_table(path)
    assert empties(found['c1']) == empties(found['c2']) == [False, True]
    assert found['c3'].tolist() == ['x', 'NA']


def test_stars_in_a_column_that_does_not_name_them_are_an_error_with_the_file(tmp_path):
    path = ascii_table(tmp_path / 'a.fits', ('F8.3',), (None,), [('1.5',), ('****',)])
    with pytest.raises(BadInput, match='a.fits.*TNULL1'):
        open_table(path)


# What is no table


@pytest.mark.parametrize(
    'thing',
    [
        fits.ImageHDU(np.zeros((3, 3))),
        fits.PrimaryHDU(np.zeros((3, 3))),
        fits.PrimaryHDU(),
        fits.CompImageHDU(np.zeros((30, 30), 'i2')),
        fits.HDUList([fits.PrimaryHDU()]),
        fits.GroupsHDU(),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_an_image_is_said_to_be_no_table(tmp_path, thing):
    with pytest.raises(BadInput, match='not a table') as caught:
        open_table(thing)
    assert 'Error' not in str(caught.value)


def test_a_file_of_images_given_as_a_catalogue_is_named(tmp_path):
    path = tmp_path / 'image.fits'
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(path)
    with pytest.raises(BadInput, match='image.fits.*not a table'):
        open_archive(tmp_path / 'home').add_catalogue(path, name='y')


def test_of_an_open_file_the_one_table_is_taken():
    tables = [
        fits.BinTableHDU.from_columns([fits.Column(name, 'J', array=[1, 2])]) for name in 'ab'
    ]
    image = fits.ImageHDU(np.zeros((3, 3)))
    one = fits.HDUList([fits.PrimaryHDU(), image, tables[0]])
    assert read_table(one)['a'].tolist() == [1, 2]
    with pytest.raises(BadInput, match='2 tables'):
        open_table(fits.HDUList([fits.PrimaryHDU(), *tables]))


def test_who_asks_for_a_column_of_lists_is_told(tmp_path):
    table = Table(dict(ra=[1.0, 2.0], dec=[1.0, 2.0], id=[[1, 2], [3, 4]]))
    with pytest.raises(BadInput, match=r'id.*array of \(2,\) per row'):
        open_archive(tmp_path / 'home').add_catalogue(table, name='y', object_id='id')


# Dates beyond the calendar


def test_dates_of_a_catalogue_are_those_of_the_calendar():
    texts = ['0000-01-01', '9999-366', '0001-01-01T00:00:00+05:00', '-0044-01-01', '12345-01-01']
    mjd, is_odd = read_times(pd.Series([*texts, '2020-01-01'], dtype=object))
    assert np.isnan(mjd).tolist() == is_odd.tolist() == [True] * 5 + [False]
    stamps = np.array(['20000-01-01', '2020-01-01', 'NaT'], 'datetime64[s]')
    mjd, is_odd = read_times(pd.Series(stamps))
    assert is_odd.tolist() == [True, False, False] and mjd[1] == 58849


@pytest.mark.parametrize(
    'ra, dec',
    [('RAJ2000', 'DEJ2000'), ('_RA', '_DE'), ('ra_deg', 'dec_deg'), ('RA_ICRS', 'DE_ICRS')],
)
def test_both_halves_of_a_place_are_suggested_as_they_are_given(ra, dec, tmp_path):
    archive = open_archive(tmp_path)
    table = pd.DataFrame({dec: [2.0], 'mag': 18.0, ra: 150.0})
    with pytest.raises(BadInput, match=f"no column 'ra'.*say ra='{ra}', dec='{dec}'"):
        archive.add_catalogue(table, name='y')
    archive.add_catalogue(table, name='y', ra=ra, dec=dec)


@pytest.mark.parametrize(
    'ra, dec, is_said',
    [
        ([2.0, -5.0], [150.0, 210.0], True),
        ([2.0, -5.0], [150.0, 80.0], False),  # The second is a place
        ([150.0, 210.0], [99.0, 99.0], False),  # No halves of a place either way
        ([10.0, 20.0], [-99.0, -99.0], False),  # Unknown
        ([], [], False),
    ],
)
def test_coordinates_that_are_swapped_are_asked_about(ra, dec, is_said, tmp_path):
    table = pd.DataFrame(dict(ra=np.array(ra), dec=np.array(dec)))
    report = open_archive(tmp_path).add_catalogue(table, name='y')
    assert any('swapped?' in note for note in report.notes) == is_said
    assert (report.ledger.reason == 'bad_position').sum() == sum(abs(d) > 90 for d in dec)
