"A table and stamps: each stamp has the row that is called like it, however both are kept and written"

import os

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from stamping import cards, facts, fits_bytes, pixels, places_of_pixels, reasons, write_tar

from astrid_data.ingest.archive import open_archive


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


NAMES = 'abc'
RA = dict(zip(NAMES, (10.0, 20.0, 30.0)))
#: In another order than the stamps
TABLE = pd.DataFrame(dict(id=['c', 'a', 'b'], ra=[30.0, 10.0, 20.0], dec=0.0, label=[0, 1, 1]))


def stack(names=NAMES):
    return np.stack([pixels(ord(name)) for name in names])


def assert_right(archive, names=NAMES):
    "Each stamp has its own place, by its pixels"
    found = places_of_pixels(archive)
    assert found == {pixels(ord(name)).tobytes(): RA[name] for name in names}


def as_npz(folder):
    np.savez(folder / 's.npz', images=stack(), id=[*NAMES])
    return folder / 's.npz'


def as_arrays(folder):
    return dict(images=stack(), id=np.array([*NAMES]))


def as_records(folder):
    return [dict(image=pixels(ord(name)), id=name) for name in NAMES]


def as_folder_of_fits(folder):
    (folder / 'fits').mkdir()
    for name in NAMES:
        fits.PrimaryHDU(pixels(ord(name))).writeto(folder / 'fits' / f'{name}.fits')
    return folder / 'fits'


def as_list_of_fits(folder):
    return sorted(as_folder_of_fits(folder).iterdir())


def as_folder_of_npy(folder):
    (folder / 'npy').mkdir()
    for name in NAMES:
        np.save(folder / 'npy' / f'{name}.npy', pixels(ord(name)))
    return folder / 'npy'


def as_two_npz(folder):
    (folder / 'two').mkdir()
    np.savez(folder / 'two' / 'x.npz', images=stack('ab'), id=['a', 'b'])
    np.savez(folder / 'two' / 'y.npz', images=stack('c'), id=['c'])
    return folder / 'two'


def as_hdf5(folder):
    h5py = pytest.importorskip('h5py')
    with h5py.File(folder / 's.h5', 'w') as file:
        for name in NAMES:
            file.create_group(name)['image'] = pixels(ord(name))
    return folder / 's.h5'


def as_tar(folder):
    hdus = [(f'{name}.fits', fits.PrimaryHDU(pixels(ord(name)))) for name in NAMES]
    write_tar(folder / 's.tar', [(name, fits_bytes(hdu)) for name, hdu in hdus])
    return folder / 's.tar'


def as_extensions(folder):
    hdus = [fits.ImageHDU(pixels(ord(name)), name=f'src_{name}') for name in NAMES]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / 's.fits')
    return folder / 's.fits'


SOURCES = [as_npz, as_arrays, as_records, as_folder_of_fits, as_list_of_fits, as_folder_of_npy]
SOURCES += [as_two_npz, as_hdf5, as_tar]


@pytest.mark.parametrize('source', SOURCES)
def test_rows_are_found_by_id(archive, tmp_path, source):
    report = archive.add_stamps(source(tmp_path), 'a', table=TABLE, is_real='label', show=False)
    assert (report.added, report.lost) == (3, [])
    assert_right(archive)
    assert sum(report.verdicts.values()) == 3


@pytest.mark.parametrize('source', SOURCES)
def test_a_stamp_without_a_row_and_a_row_without_a_stamp_are_told(archive, tmp_path, source):
    table = TABLE.assign(id=['c', 'a', 'x'])
    report = archive.add_stamps(source(tmp_path), 'a', table=table, show=False)
    assert report.added == 2 and sorted(report.ledger['reason']) == ['no_row', 'no_stamp']
    assert_right(archive, 'ac')


def test_names_of_extensions_count_in_upper_case(archive, tmp_path):
    table = TABLE.assign(id=['SRC_C', 'SRC_A', 'SRC_B'])
    report = archive.add_stamps(as_extensions(tmp_path), 'a', table=table, show=False)
    assert (report.added, report.lost) == (3, [])
    assert_right(archive)


def test_without_ids_the_order_counts(archive):
    table = TABLE.sort_values('id').drop(columns='id')
    report = archive.add_stamps(stack(), 'a', table=table, show=False)
    assert (report.added, report.lost) == (3, [])
    assert_right(archive)
    short = archive.add_stamps(stack(), 'b', table=table[:2], show=False)
    assert (short.added, short.ledger['reason'].tolist()) == (0, ['table_length'])


@pytest.mark.parametrize('source', [as_folder_of_fits, as_folder_of_npy, as_two_npz])
def test_a_folder_has_no_order(archive, tmp_path, source):
    path = source(tmp_path)
    report = archive.add_stamps(path, 'a', table=TABLE.drop(columns='id'), show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['conflicting_ids'])
    other = TABLE.assign(id=['u', 'v', 'w'])
    if source is not as_two_npz:
        report = archive.add_stamps(path, 'b', table=other, show=False)
        assert (report.added, report.ledger['reason'].tolist()) == (0, ['conflicting_ids'])
    ordered = archive.add_stamps(
        sorted(path.iterdir()),
        'c',
        table=other.sort_values('ra'),
        columns=dict(id=None),
        show=False,
    )
    assert (ordered.added, ordered.lost) == (3, [])
    assert_right(archive)


def test_two_rows_of_one_id_are_told(archive):
    table = TABLE.assign(id=['c', 'a', 'a'])
    report = archive.add_stamps(as_records(None), 'a', table=table, show=False)
    assert report.added == 1 and sorted(report.ledger['reason']) == ['conflicting_ids', 'no_row']


def test_rows_that_contradict_are_refused(archive):
    arrays = as_arrays(None) | dict(ra=np.array([10.0, 20.0, 40.0]), dec=np.zeros(3))
    report = archive.add_stamps(arrays, 'a', table=TABLE, show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (2, ['conflicting_places'])
    named = dict(images=stack(), object_id=np.array(['o1', 'o2', 'o3']))
    table = TABLE.drop(columns='id').assign(object_id=['o1', 'o3', 'o2'])
    report = archive.add_stamps(named, 'b', table=table, show=False)
    assert (report.added, {*report.ledger['reason']}) == (1, {'conflicting_ids'})


def test_empty_cells_take_nothing_away(archive):
    records = [one | dict(band='g') for one in as_records(None)]
    table = TABLE.assign(band=[None, 'r', ''])
    archive.add_stamps(records, 'a', table=table, show=False)
    assert {name: row[0].filter_band for name, row in facts(archive).items()} == dict(
        a='r', b='g', c='g'
    )


def test_names_of_files_in_a_column(archive, tmp_path):
    table = TABLE.assign(filename=[f'set/{name}.npy' for name in TABLE['id']], id=[7, 8, 9])
    report = archive.add_stamps(as_folder_of_npy(tmp_path), 'a', table=table, show=False)
    assert (report.added, report.lost) == (3, [])
    assert {*facts(archive)} == {'7', '8', '9'}
    assert_right(archive)


def addresses(path):
    "The same path as people write it"
    return [
        path,
        str(path),
        f'{path}/',
        path.as_uri(),
        os.path.relpath(path),
        f'./{os.path.relpath(path)}//',
    ]


@pytest.mark.parametrize('how', range(6))
@pytest.mark.parametrize('where', ['inside', 'metadata', 'beside'])
def test_a_table_beside_a_folder_is_found(archive, tmp_path, monkeypatch, how, where):
    monkeypatch.chdir(tmp_path)
    path = as_folder_of_npy(tmp_path)
    beside = dict(
        inside=path / 'stars.csv', metadata=path / 'metadata.csv', beside=tmp_path / 'npy.csv'
    )
    TABLE.to_csv(beside[where], index=False)
    report = archive.add_stamps(addresses(path)[how], 'a', show=False)
    assert (report.added, report.lost) == (3, [])
    assert_right(archive)


@pytest.mark.parametrize('how', [0, 1, 3, 4])
@pytest.mark.parametrize('source', [as_npz, as_hdf5, as_tar])
def test_a_table_beside_a_file_is_found(archive, tmp_path, monkeypatch, how, source):
    monkeypatch.chdir(tmp_path)
    path = source(tmp_path)
    TABLE.to_csv(path.with_suffix('.csv'), index=False)
    report = archive.add_stamps(addresses(path)[how], 'a', show=False)
    assert (report.added, report.lost) == (3, [])
    assert_right(archive)


def test_home_and_a_table_beside_a_fits_file(archive, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    as_extensions(tmp_path)
    table = TABLE.assign(id=['SRC_C', 'SRC_A', 'SRC_B'])
    table.to_csv(tmp_path / 's.csv', index=False)
    assert archive.add_stamps('~/s.fits', 'a', show=False).added == 3
    assert_right(archive)


def test_a_table_of_something_else_stops_no_folder(archive, tmp_path):
    path = tmp_path / 'set'
    path.mkdir()
    fits.PrimaryHDU(pixels(1), cards()).writeto(path / 'm31.fits')
    (path / 'weather.csv').write_text('hour,wind\n1,3\n')
    report = archive.add_stamps(path, 'a', show=False)
    assert (report.added, reasons(report)) == (1, {'weather.csv': 'unreadable'})
    (path / 'm31.csv').write_bytes(b'PK\x03\x04 no table')
    report = archive.add_stamps(path / 'm31.fits', 'b', show=False)
    assert (report.added, reasons(report)) == (1, {'m31.csv': 'bad_table'})


def test_a_missing_column_is_told_with_those_there_are(archive):
    for how in (dict(is_real='labell'), dict(class_name='klass'), dict(score='drb')):
        report = archive.add_stamps(as_records(None), 'a', table=TABLE, show=False, **how)
        assert report.added == 0
        assert report.ledger['detail'].str.contains('it has dec, id, image, label, ra').all()


def test_a_stamp_of_channels_in_a_folder_of_npy(archive, tmp_path):
    names = ['template', 'science', 'difference']
    (tmp_path / 'set').mkdir()
    for name in NAMES:
        triplet = np.stack([pixels(ord(name) + k) for k in (10, 0, 20)])
        np.save(tmp_path / 'set' / f'{name}.npy', triplet)
    report = archive.add_stamps(tmp_path / 'set', 'a', table=TABLE, channels=names, show=False)
    assert (report.added, report.lost) == (3, [])
    assert {*facts(archive)} == {*NAMES}


def test_a_cube_and_a_table_are_a_set(archive, tmp_path):
    fits.PrimaryHDU(stack()).writeto(tmp_path / 's.fits')
    table = TABLE.sort_values('id').drop(columns='id')
    report = archive.add_stamps(tmp_path / 's.fits', 'a', table=table, show=False)
    assert (report.added, report.lost) == (3, [])
    assert_right(archive)


TEXT_IDS = ['1e5', '100000', '1E2', '100', '7.0', '12e3', '☄', 'é', '007']


def test_an_id_that_is_text_stays_as_it_is_written(archive):
    "As in a catalogue: two spellings are two names, and only a number is written as a whole one"
    ids = [*TEXT_IDS, np.str_('5e2'), b'6.0', 7.0, np.float32(8), np.int64(9)]
    records = [dict(image=pixels(i), id=one, ra=1.0 + i, dec=0.0) for i, one in enumerate(ids)]
    report = archive.add_stamps(records, 'a', show=False)
    assert not reasons(report)
    said = set(archive.detections()['observation_key'])
    assert said == {*TEXT_IDS, '5e2', '6.0', '7', '8', '9'}


@pytest.mark.parametrize('kind', [list, lambda ids: np.array(ids, object), np.array])
def test_ids_of_stamps_are_those_of_the_rows_of_a_table(archive, kind):
    "`text_ids` reads both"
    table = pd.DataFrame(dict(id=TEXT_IDS, ra=np.arange(len(TEXT_IDS)) + 1.0, dec=0.0))
    stamps = dict(images=np.stack([pixels(i) for i in range(len(TEXT_IDS))]), id=kind(TEXT_IDS))
    report = archive.add_stamps(stamps, 'a', table=table[::-1], show=False)
    assert not reasons(report)
    found = places_of_pixels(archive)
    assert found == {pixels(i).tobytes(): 1.0 + i for i in range(len(TEXT_IDS))}


def test_a_sign_as_an_id_names_no_stamp_and_that_is_said(archive):
    records = [dict(image=pixels(i), id=one, ra=1.0, dec=0.0) for i, one in enumerate('.-–')]
    report = archive.add_stamps(records, 'a', show=False)
    assert report.added == 3
    assert [row[3][:9] for row in report.lacks if row[2] == 'id'] == [
        "id is '.'",
        "id is '-'",
        "id is '–'",
    ]


@pytest.mark.parametrize('lost', ['1.26e18', 1.26e18, np.float32(2.0**25)])
def test_an_id_with_lost_digits_is_refused(archive, lost):
    report = archive.add_stamps([dict(image=pixels(1), id=lost)], 'a', show=False)
    assert reasons(report) == {'record[0]': 'inexact_id'}
