"""Feather files and Arrow streams are tables like Parquet; columns that were interchanged are seen by where the images are."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import QTable
from pyarrow import feather
from test_datasets import write_images

import astrid_data as ad
from astrid_data.core import BadInput

pytestmark = pytest.mark.filterwarnings('ignore')
IDS = [4611686018427387905 + n for n in range(5)]


@pytest.fixture
def archive(tmp_path):
    archive = ad.open_archive(tmp_path / 'home')
    images = [str(path) for path in write_images(tmp_path / 'sky', n=3, side=100)]
    archive.add_fits(images, survey='s', show=False, detect=False)
    return archive


def rows():
    places = np.random.default_rng(1).uniform(-25, 25, (6, 2)) / 3600
    table = pd.DataFrame(dict(ra=40 + places[:, 0], dec=5 + places[:, 1]))
    return table.assign(verdict=['t', 'f'] * 3, object_id=pd.array([*IDS, None], 'Int64'))


def as_stream(table, path):
    with pa.OSFile(str(path), 'wb') as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


WRITERS = {
    'lz4.feather': lambda table, path: feather.write_feather(table, path),
    'plain.arrow': lambda table, path: feather.write_feather(
        table, path, compression='uncompressed'
    ),
    'old.feather': lambda table, path: feather.write_feather(table, path, version=1),
    'stream.arrow': as_stream,
}


@pytest.mark.parametrize('name', WRITERS)
def test_a_table_of_arrow_is_read_in_each_of_its_forms(archive, tmp_path, name):
    WRITERS[name](pa.Table.from_pandas(rows(), preserve_index=False), tmp_path / name)
    report = archive.add_catalogue(
        tmp_path / name, is_real='verdict', object_id='object_id', name='c'
    )
    found = archive.detections()
    assert len(found) == 6 and not len(report.ledger)
    assert found.status.value_counts().to_dict() == {'confirmed': 3, 'rejected': 3}
    plan = ad.TrainingDataCollector(archive).plan(confidence_threshold=None, negatives={})
    known = {str(one).rpartition(':')[2] for one in plan.samples.object_id.dropna()}
    assert known == {str(one) for one in IDS[::2]}


@pytest.mark.parametrize('name', WRITERS)
def test_a_table_of_arrow_that_was_cut_off_is_named(archive, tmp_path, name):
    path = tmp_path / name
    WRITERS[name](pa.Table.from_pandas(rows(), preserve_index=False), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=name):
        archive.add_catalogue(path, is_real='verdict', name='c')
    assert not len(archive.detections())


@pytest.mark.parametrize('with_units', [False, True])
def test_interchanged_columns_are_seen_by_the_images(archive, with_units):
    table = rows().rename(columns=dict(ra='dec', dec='ra')).drop(columns='object_id')
    if with_units:
        table = QTable.from_pandas(table)
        table['ra'].unit = table['dec'].unit = 'deg'
    report = archive.add_catalogue(table, is_real='verdict', name='c')
    assert set(report.ledger.reason) == {'no_image'} and len(report.ledger) == 6
    said = ' '.join(report.notes)
    assert 'ra and dec interchanged 6 of 6' in said and '(ra=, dec=)' in said
