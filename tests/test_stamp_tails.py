"What comes in by stamps and lists keeps its meaning: columns as a whole, units, facts of files, odd ids"

import gc
import threading
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select
from stamping import pixels

from astrid_data.core import BadInput
from astrid_data.ingest import stamp_files, stamp_sets
from astrid_data.ingest.archive import open_archive
from astrid_data.registry.tables import Observation, ValidationEvent


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


def rows(values, name='kind', **more):
    "A record for each value of a column"
    return [
        dict(image=pixels(k), id=f's{k}', ra=10.0 + k, dec=0.0, **{name: one}) | more
        for k, one in enumerate(values)
    ]


def as_source(how, records, tmp_path):
    "Records as an iterator, a list, arrays in memory, NPZ, or NPZ with a table"
    if how in ('iterator', 'list'):
        return iter(records) if how == 'iterator' else records, None
    arrays = {name: np.array([one[name] for one in records]) for name in records[0]}
    if how == 'arrays':
        return arrays, None
    images = arrays.pop('image')
    if how == 'npz':
        np.savez(tmp_path / 'set.npz', images=images, **arrays)
        return tmp_path / 'set.npz', None
    np.savez(tmp_path / 'set.npz', images=images, id=arrays['id'])
    return tmp_path / 'set.npz', pd.DataFrame(arrays)


HOW = ['iterator', 'list', 'arrays', 'npz', 'table']


@pytest.mark.parametrize('how', HOW)
@pytest.mark.parametrize('codes', [[0, 1, 2, 3], [1, 2, 3, 4, 5], [*range(10)], [0.1, 0.9, 1.0]])
def test_a_column_of_codes_holds_no_verdict(archive, tmp_path, how, codes):
    source, table = as_source(how, rows(codes), tmp_path)
    with pytest.raises(BadInput, match='kind holds'):
        archive.add_stamps(source, 'made', table, is_real='kind', show=False)
    assert not len(archive.observations())


@pytest.mark.parametrize('how', HOW)
@pytest.mark.parametrize(
    'words', [[0, 1, 1], [-1, 1, 1], ['bogus', 'real', 'Y'], [False, True, True]]
)
def test_a_column_of_verdicts_is_one(archive, tmp_path, how, words):
    source, table = as_source(how, rows(words), tmp_path)
    report = archive.add_stamps(source, 'made', table, is_real='kind', show=False)
    assert (report.added, report.lost) == (3, [])
    with archive.session() as s:
        assert sorted(s.scalars(select(ValidationEvent.is_valid))) == [False, True, True]


def test_an_empty_cell_is_no_verdict(archive):
    report = archive.add_stamps(
        rows(['real', '', None, 'perhaps']), 'a', is_real='kind', show=False
    )
    assert (report.added, sum(report.verdicts.values())) == (3, 1)
    assert report.ledger['reason'].tolist() == ['bad_verdict']


@pytest.mark.parametrize('odd', [0.93, 2, 'maybe?'])
def test_an_odd_cell_between_words_costs_its_row(archive, odd):
    report = archive.add_stamps(rows(['real', 'bogus', odd]), 'a', is_real='kind', show=False)
    assert (report.added, sum(report.verdicts.values())) == (2, 2)
    assert report.ledger['reason'].tolist() == ['bad_verdict']
    assert str(odd) in report.ledger.to_string()


@pytest.mark.parametrize('codes', [[0, 1, 2, 'broken'], [0.0, 0.4, 1.0, 'broken']])
def test_a_word_between_codes_makes_no_verdicts(archive, codes):
    with pytest.raises(BadInput, match='kind holds'):
        archive.add_stamps(rows(codes), 'a', is_real='kind', show=False)


class Cursor:
    "Gives its rows once, though each `iter` of it is another iterator, and says how many there are"

    def __init__(self, records):
        self.records, self.length = iter(records), len(records)

    def __iter__(self):
        yield from self.records

    def __len__(self):
        return self.length


class Once(Cursor):
    "Is its own iterator in all but name"

    def __iter__(self):
        return self.records


@pytest.mark.parametrize('how', [Cursor, Once, iter])
@pytest.mark.parametrize('has_table', [False, True])
def test_what_can_be_read_once_is_taken(archive, how, has_table):
    records = rows([1, 0, 1])
    table = pd.DataFrame(records).drop(columns='image') if has_table else None
    if has_table:
        records = [dict(image=one['image'], id=one['id']) for one in records]
    report = archive.add_stamps(how(records), 'made', table, is_real='kind', show=False)
    assert (report.added, report.lost) == (3, []) and sum(report.verdicts.values()) == 3


def test_records_with_handles_are_taken_in_their_order(archive):
    "A handle can't be written to a file"
    records = rows([1, 0, 1, 0])
    records[1]['lock'] = threading.Lock()
    archive.add_stamps(iter(records), 'made', is_real='kind', show=False)
    with archive.session() as s:
        query = select(Observation.ra, Observation.observation_id)
        assert sorted(map(tuple, s.execute(query))) == [(10.0 + k, f's{k}') for k in range(4)]


def peak_bytes(archive, survey, source, expected, **how):
    "Memory at most while stamps come in"
    gc.collect()
    tracemalloc.start()
    try:
        report = archive.add_stamps(source, survey, show=False, chunk=10, **how)
        assert report.added == expected
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('has_table', [False, True])
def test_an_iterator_is_not_held(archive, has_table):
    "60 stamps of 128 kB are 8 MB"

    def made(n):
        for k in range(n):
            image = np.random.default_rng(k).normal(size=(128, 128))
            yield dict(image=image, id=f's{k}', ra=k / 2, dec=0.0, kind=k % 2)

    table = pd.DataFrame(dict(id=[f's{k}' for k in range(60)])) if has_table else None
    how = dict(table=table, is_real='kind')
    peak_bytes(archive, 'first', made(10), 10)  # What is imported and made once
    assert peak_bytes(archive, 'other', made(60), 60, **how) < 6e6


@pytest.mark.parametrize('broken', ['codes', 'source', 'none'])
def test_no_temporary_file_stays(archive, monkeypatch, broken):
    files, make = [], stamp_files.TemporaryFile

    def noted():
        files.append(make())
        return files[-1]

    def source():
        yield from rows([1, 0, 2] if broken == 'codes' else [1, 0, 1])
        if broken == 'source':
            raise ConnectionError('gone')

    monkeypatch.setattr(stamp_files, 'TemporaryFile', noted)
    try:
        archive.add_stamps(source(), 'made', is_real='kind', show=False)
    except (BadInput, ConnectionError):
        assert broken != 'none' and not len(archive.observations())
    assert [one.closed for one in files] == [True]


def test_a_column_of_pictures_is_not_held():
    pairs = ((f'{k}', dict(image=np.full((64, 64), k))) for k in range(3))
    cells = stamp_sets._cells_of(pairs, 'image')
    assert len(cells) == 3 and all(isinstance(one, str) for one in cells.values())


@pytest.mark.parametrize('codes', [[0, 1, 2, 3], [*range(10)], [0, 1, 0.5]])
def test_lists_and_votes_take_no_codes(archive, codes):
    records = rows(codes)
    archive.add_stamps(records, 'made', show=False)
    table = pd.DataFrame(records).drop(columns='image')
    with pytest.raises(BadInput, match='kind holds'):
        archive.match_labels(table, 'list', is_real='kind', show=False)
    votes = table.rename(columns=dict(id='detection_id')).assign(voter='a')
    with pytest.raises(BadInput, match='kind holds'):
        archive.add_votes(votes, 'zoo', vote='kind', show=False)


def test_a_column_of_codes_is_no_hint(archive):
    report = archive.add_stamps(rows([0, 1, 2, 3], 'label'), 'made', show=False)
    assert not any('takes it' in note for note in report.notes)


@pytest.mark.parametrize('theirs', [0, 1])
def test_what_another_process_stored_is_not_counted(archive, monkeypatch, theirs):
    "Both look before either writes"
    records = rows([1, 0, 1])
    first = records[0] | dict(image=records[0]['image'] + theirs)
    archive.add_stamps([first, records[1]], 'made', is_real='kind', show=False)
    look, looks = stamp_sets._known_stamps, []

    def too_early(*where):
        looks.append(where)
        return {} if len(looks) == 1 else look(*where)

    monkeypatch.setattr(stamp_sets, '_known_stamps', too_early)
    report = archive.add_stamps(records, 'made', is_real='kind', show=False)
    assert (report.added, report.detections, sum(report.verdicts.values())) == (1, 1, 1)
    assert (report.skipped, len(report.lost)) == (2 - theirs, theirs)
    assert report.ledger['reason'].tolist() == ['same_id_other_pixels'] * theirs


def hdf5_set(path, attrs=None, of=None, group=None):
    "Three stamps in HDF5 with attributes of the root and of arrays"
    h5py = pytest.importorskip('h5py')
    with h5py.File(path, 'w') as file:
        place = file if group is None else file.create_group(group)
        place['images'] = np.stack([pixels(k) for k in range(3)])
        place['id'], place['dec'] = np.array([b'a', b'b', b'c']), np.zeros(3)
        place['ra'] = np.array([1.0, 2.0, 3.0])
        file.attrs.update(attrs or {})
        for name, more in (of or {}).items():
            place[name].attrs.update(more)
    return path


def zarr_set(path, attrs=None, of=None, group=None):
    "The same in zarr"
    zarr = pytest.importorskip('zarr')
    root = zarr.open_group(str(path), mode='w')
    place = root if group is None else root.create_group(group)
    place.create_array('images', data=np.stack([pixels(k) for k in range(3)]))
    place.create_array('dec', data=np.zeros(3))
    place.create_array('ra', data=np.array([1.0, 2.0, 3.0]))
    place.create_array('id', data=np.array([1, 2, 3]))
    root.attrs.update(attrs or {})
    for name, more in (of or {}).items():
        place[name].attrs.update(more)
    return path


def parquet_set(path, attrs=None, of=None, group=None):
    "The same in Parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict(id=['a', 'b', 'c'], ra=[1.0, 2.0, 3.0], dec=[0.0] * 3)
    columns['images'] = [pixels(k).tolist() for k in range(3)]
    table = pa.table(columns)
    fields = [one.with_metadata((of or {}).get(one.name)) for one in table.schema]
    attrs = {key: str(one) for key, one in (attrs or {}).items()}
    pq.write_table(table.cast(pa.schema(fields, attrs or None)), path)
    return path


def npz_set(path, attrs=None, of=None, group=None):
    "The same in NPZ, where a unit is a value beside"
    columns = dict(id=np.array(['a', 'b', 'c']), ra=np.array([1.0, 2, 3]), dec=np.zeros(3))
    images = np.stack([pixels(k) for k in range(3)])
    units = {f'{name}_unit': more['unit'] for name, more in (of or {}).items()}
    np.savez(path, images=images, **columns, **units, **(attrs or {}))
    return path


SETS = {'s.h5': hdf5_set, 's.zarr': zarr_set, 's.parquet': parquet_set, 's.npz': npz_set}


@pytest.mark.parametrize('name', SETS)
def test_units_beside_are_used(archive, tmp_path, name):
    source = SETS[name](tmp_path / name, of=dict(ra=dict(unit='hourangle'), dec=dict(unit='rad')))
    report = archive.add_stamps(source, 'made', show=False)
    assert (report.added, report.lost) == (3, [])
    np.testing.assert_allclose(sorted(archive.observations()['ra']), [15.0, 30.0, 45.0])


@pytest.mark.parametrize('name', SETS)
def test_a_unit_that_is_none_of_its_fact_is_told(archive, tmp_path, name):
    source = SETS[name](tmp_path / name, of=dict(ra=dict(unit='Jy')))
    report = archive.add_stamps(source, 'made', show=False)
    assert report.added == 0 and report.ledger['reason'].tolist() == ['bad_unit'] * 3


@pytest.mark.parametrize('group', [None, 'tile'])
@pytest.mark.parametrize('name', ['s.h5', 's.zarr', 's.parquet'])
def test_facts_of_a_file_are_used_or_named(archive, tmp_path, name, group):
    said = dict(survey='kids', band='r', pixel_scale=0.4, instrument='OmegaCAM')
    said |= dict(creation_date='2021-03-04', date='2021-03-05')
    report = archive.add_stamps(SETS[name](tmp_path / name, said, None, group), 'made', show=False)
    rows = archive.observations()
    assert (report.added, report.lost) == (3, [])
    assert {*rows['band']} == {'r'} and {*facts_of(archive)} == {0.4}
    assert rows['observation_time'].isna().all()
    for unused in ('survey', 'instrument', 'creation_date', 'date'):
        assert sum(f'the attribute {unused} ' in note for note in report.notes) == 1


def facts_of(archive):
    "Pixel scale of each stamp"
    with archive.session() as s:
        return s.scalars(select(Observation.pixel_scale)).all()


def test_a_column_is_before_the_attribute(archive, tmp_path):
    h5py = pytest.importorskip('h5py')
    path = hdf5_set(tmp_path / 's.h5', dict(band='r', pixscale=9.0))
    with h5py.File(path, 'a') as file:
        file['filter'], file['pixel_scale'] = np.array([b'g', b'i', b'z']), [0.1, 0.2, 0.3]
    archive.add_stamps(path, 'made', show=False)
    assert {*archive.observations()['band']} == {'g', 'i', 'z'}
    assert sorted(facts_of(archive)) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize('named', ['id', 'object_id'])
def test_odd_names_cost_nothing_or_themselves(archive, named):
    names = ['a\ud800', 'b\0c', 'x' * 10_000, 'caf\u00e9', 'cafe\u0301', 'plain']
    records = [
        dict(image=pixels(k), ra=1.0 + k, dec=0.0, **{named: n}) for k, n in enumerate(names)
    ]
    report = archive.add_stamps(records, 'made', show=False)
    lost = ['bad_id', 'same_id_other_pixels'][: 2 if named == 'id' else 1]
    assert report.ledger['reason'].tolist() == lost and report.added == len(names) - len(lost)
    if named == 'id':
        kept = {*archive.observations()['observation_key']}
        assert kept == {r'a\ud800', r'b\x00c', 'caf\u00e9', 'plain'}


def test_a_name_joins_its_row_in_either_spelling(archive, tmp_path):
    "Some file systems take the letters of a name apart"
    for k, name in enumerate(['cafe\u0301', 'a']):
        np.save(tmp_path / f'{name}.npy', pixels(k))
    table = pd.DataFrame(dict(id=['caf\u00e9', 'a'], ra=[3.0, 4.0], dec=[0.0, 0.0]))
    report = archive.add_stamps([*tmp_path.glob('*.npy')], 'made', table, show=False)
    assert (report.added, report.lost) == (2, [])
    rows = archive.observations().set_index('observation_key')
    assert rows['ra'].to_dict() == {'caf\u00e9': 3.0, 'a': 4.0}


def test_arrays_called_metadata_are_in_the_ledger(tmp_path):
    "They were dropped without a word"
    pictures = np.random.default_rng(1).normal(100, 3, (4, 16, 16)).astype('f4')
    np.savez(tmp_path / 'set.npz', image=pictures, ra=np.arange(4.0), dec=np.arange(4.0))
    np.savez(tmp_path / 'set_metadata.npz', seeing=np.ones(4))
    report = open_archive(tmp_path / 'home').add_stamps(tmp_path / 'set.npz', 's', show=False)
    assert report.added == 4 and not len(report.ledger)
    (tmp_path / 'folder').mkdir()
    for name in ('set.npz', 'set_metadata.npz'):
        (tmp_path / name).rename(tmp_path / 'folder' / name)
    archive = open_archive(tmp_path / 'other')
    report = archive.add_stamps(tmp_path / 'folder', 's', show=False)
    assert report.added == 4
    assert report.ledger['uri'].str.endswith('set_metadata.npz').any(), report.ledger
