"What stands where there is no name makes no object, and numbers that were cut are no names"

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from test_ingest import packet

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.ingest.packets import exact_id
from astrid_data.ingest.tables import open_table
from astrid_data.ingest.values import text_ids

LARGE = 2584290278794471936


def ids_of(table):
    source = open_table(table)
    return text_ids(source.columns['i'], 'i').tolist()


def indexed():
    table = Table(dict(i=[10, 11, 12]), masked=True)
    table['i'].mask = [0, 1, 0]
    table.add_index('i')
    return table


REFUSED = 'refused'
#: A column of ids -> what they are, or that the column is refused; each from a public report
COLUMNS = dict(
    kic_of_vizier_in_16_bits=(dict(i=np.array([32767, 32767, 5], 'i2')), REFUSED),
    cntr_of_2mass_in_16_bits=(Table(dict(i=np.array([32767, 32767], 'i2'))), REFUSED),
    cut_to_32_bits=(dict(i=np.array([2147483647] * 2, 'i4')), REFUSED),
    cut_without_a_sign=(dict(i=np.array([65535, 65535], 'u2')), REFUSED),
    cut_with_a_gap=(pd.DataFrame(dict(i=pd.array([32767, None, 32767], 'Int16'))), REFUSED),
    the_last_one_alone=(dict(i=np.array([32766, 32767], 'i2')), ['32766', '32767']),
    euclid_ids_of_a_qtable=(QTable(dict(i=np.array([LARGE] * 2) * u.one)), REFUSED),
    null_of_votable=(dict(i=np.array([np.iinfo('i8').min, 5])), [None, '5']),
    unnumbered_asteroids=(dict(i=['-', '-', '4']), [None, None, '4']),
    dashes=(dict(i=['\u2014', '\u2014', '?', '?', '...', '4']), [None] * 4 + ['...', '4']),
    blanks_that_do_not_break=(dict(i=['a\u00a0', 'a']), ['a', 'a']),
    masked_of_another_order=(
        Table(dict(i=MaskedColumn(np.array([5, 6], '>i4'), mask=[False, True]))),
        ['5', None],
    ),
    masked_with_an_index=(indexed(), ['10', None, '12']),
    nulls_of_arrow=(
        pd.DataFrame(dict(i=pd.array([LARGE + 1, None], 'int64[pyarrow]'))),
        [str(LARGE + 1), None],
    ),
    words_in_categories=(pd.DataFrame(dict(i=pd.Categorical(['007', '7']))), ['007', '7']),
)


@pytest.mark.parametrize('what', COLUMNS)
def test_a_column_of_ids_has_names_and_nothing_else(what):
    table, expected = COLUMNS[what]
    if expected is REFUSED:
        with pytest.raises(BadInput, match='different objects'):
            ids_of(table)
    else:
        assert ids_of(table) == expected


@pytest.mark.parametrize('word', ['-', '--', '...', '?', '\u2014', -1, -99, '-1', b'-', 'nan'])
def test_an_alert_without_a_name_makes_no_object(word, tmp_path):
    assert exact_id(word, 'objectId') is None
    if isinstance(word, int):
        archive = ad.open_archive(tmp_path / 'home')
        report = archive.add_alerts([packet(0) | dict(objectId=word)], show=False)
        assert (report.added, len(report.ledger)) == (0, 1)
