"Parquet files whose foot contradicts itself; pyarrow ended the process at the first look at one"

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrid_data.core import BadImage
from astrid_data.images.sanity import check_foot
from astrid_data.ingest.alert_files import _parquet_packets
from astrid_data.ingest.stamp_files import _parquet_records
from astrid_data.ingest.tables import read_table

OPTIONAL, REQUIRED = b'\x25\x02\x18\x02ra', b'\x25\x00\x18\x02ra'
COLUMNS = dict(candid=[1, 2], name=['a', 'b'], ra=[1.0, 2.0], dec=[0.0, 1.0], mjd=[6e4, 6e4])


def whole(**options):
    made = io.BytesIO()
    pq.write_table(pa.table(COLUMNS | dict(lists=[[1], [2]])), made, **options)
    return made.getvalue()


@pytest.fixture
def broken(tmp_path):
    made = whole()
    assert made.count(OPTIONAL) == 1
    path = tmp_path / 'x.parquet'
    path.write_bytes(made.replace(OPTIONAL, REQUIRED))
    return path


def test_a_catalogue_is_refused(broken):
    with pytest.raises(BadImage, match='row group 0 of its foot: .*histogram'):
        read_table(broken)


def test_an_alert_file_and_a_set_of_stamps_are_refused(broken):
    [(_, problem)] = _parquet_packets(broken, 'x.parquet', None)
    assert 'of its foot' in str(problem)
    with pytest.raises(BadImage, match='of its foot'):
        list(_parquet_records(broken))


@pytest.mark.parametrize(
    'options',
    [{}, dict(row_group_size=1), dict(compression='gzip'), dict(write_page_index=True)],
)
def test_whole_files_pass(options, tmp_path):
    made = io.BytesIO(whole(**options))
    check_foot(made, pq.ParquetFile(made).metadata, 'x.parquet')
    path = tmp_path / 'x.parquet'
    path.write_bytes(made.getvalue())
    assert list(read_table(path)['ra']) == [1.0, 2.0]
    assert len(list(_parquet_packets(path, 'x.parquet', None))) == 2
