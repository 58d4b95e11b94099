"Sources that become others while they are read: the old content or an error in words, never a mix in silence"

import io
import os
import shutil
import tarfile

import fastavro
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from stamping import SIDE, cards, npy_bytes, places_of_pixels
from test_stamp_faults import at_stamp

import astrid_data as ad
from astrid_data.core import BadImage, BadInput
from astrid_data.images.header_cache import image_index, open_indexed
from astrid_data.images.image import open_image
from astrid_data.ingest import rows, stamp_arrays, tables
from astrid_data.ingest.alert_files import read_alerts
from astrid_data.ingest.tables import open_table
from astrid_data.patches.extract import extract_patches

N = 12


def pixels(seed):
    return np.random.default_rng(seed).normal(100, 9, (N, SIDE, SIDE)).astype('f4')


def columns(seed):
    return dict(ra=np.arange(N) + 20.0 * seed, dec=np.zeros(N))


def write_npz(path, seed):
    with open(path, 'wb') as file:
        np.savez(file, images=pixels(seed), **columns(seed))


def write_npy(path, seed):
    np.save(path, pixels(seed))
    pd.DataFrame(columns(0)).to_csv(path.with_suffix('.csv'), index=False)


def write_h5(path, seed):
    with h5py.File(path, 'w') as file:
        file.create_dataset('images', data=pixels(seed), chunks=(1, SIDE, SIDE))
        for name, values in columns(seed).items():
            file[name] = values


def write_parquet(path, seed):
    table = dict(columns(seed), image=pa.array(pixels(seed).tolist()))
    pq.write_table(pa.table(table), path, row_group_size=2)


def write_tar(path, seed):
    with tarfile.open(path, 'w') as tar:
        for k, one in enumerate(pixels(seed)):
            facts = f'{{"ra": {k + 20.0 * seed}, "dec": 0.0}}'.encode()
            for name, data in ((f's{k}.json', facts), (f's{k}.image.npy', npy_bytes(one))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def write_zarr(path, seed):
    zarr = pytest.importorskip('zarr')
    group = zarr.open_group(str(path), mode='w')
    group.create_array('images', data=pixels(seed), chunks=(1, SIDE, SIDE))
    for name, values in columns(seed).items():
        group.create_array(name, data=values)


WRITERS = dict(
    npz=write_npz, npy=write_npy, h5=write_h5, parquet=write_parquet, tar=write_tar, zarr=write_zarr
)


def replaced(path, other):
    "Renamed into the place of the old one"
    if path.is_dir():
        path.rename(path.with_name('old'))
    os.replace(other, path)


def turned(path, other):
    "The link leads elsewhere"
    link = path.with_name('link')
    link.symlink_to(other)
    os.replace(link, path)


def overwritten(path, other):
    "The bytes of another in place, as `cp` does"
    if path.is_dir():
        shutil.copytree(other, path, dirs_exist_ok=True)
        return
    with open(path, 'r+b') as file:
        file.write(other.read_bytes())
        file.truncate()


def cut(path, other):
    "Only a beginning is left"
    for one in [*path.rglob('*')] if path.is_dir() else [path]:
        if one.is_file():
            os.truncate(one, one.stat().st_size // 3)


def grown(path, other):
    "More bytes at the end"
    for one in [*path.rglob('*')] if path.is_dir() else [path]:
        if one.is_file():
            with open(one, 'ab') as file:
                file.write(b'\0' * 5000)


CHANGES = (replaced, turned, overwritten, cut, grown)


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(tmp_path / 'home')


def made(tmp_path, ending, write, change):
    "A source and another one; the first is a link where that is to be turned"
    (tmp_path / 'theirs').mkdir()
    path, other = tmp_path / f'x.{ending}', tmp_path / 'theirs' / f'other.{ending}'
    write(path, 0)
    write(other, 1)
    if change is turned:
        path.rename(tmp_path / 'theirs' / f'first.{ending}')
        path.symlink_to(tmp_path / 'theirs' / f'first.{ending}')
    return path, other


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('ending', WRITERS)
def test_a_set_of_stamps_that_becomes_another(archive, tmp_path, monkeypatch, ending, change):
    path, other = made(tmp_path, ending, WRITERS[ending], change)
    monkeypatch.setattr(stamp_arrays, '_BLOCK_BYTES', 2 * SIDE * SIDE * 4)
    with monkeypatch.context() as changed:
        at_stamp(3, changed, lambda: change(path, other))
        report = archive.add_stamps(path, 'mailed', show=False, chunk=2)
    old = {one.tobytes() for one in pixels(0)}
    strange = set(places_of_pixels(archive)) - old
    is_said = 'changed' in list(report.ledger['reason'])
    assert is_said or (report.added == N and not strange)


def write_csv(path, seed):
    pd.DataFrame(columns(seed)).to_csv(path, index=False)


def write_fits_table(path, seed):
    Table(columns(seed)).write(path, format='fits')


def write_plain_parquet(path, seed):
    pd.DataFrame(columns(seed)).to_parquet(path)


TABLES = dict(csv=write_csv, parquet=write_plain_parquet, fits=write_fits_table)


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('ending', TABLES)
def test_a_table_that_becomes_another(tmp_path, monkeypatch, ending, change):
    path, other = made(tmp_path, ending, TABLES[ending], change)
    plain = tables._kind_of_file

    def kind_of_file(path):
        kind = plain(path)
        change(path, other)
        return kind

    monkeypatch.setattr(tables, '_kind_of_file', kind_of_file)
    with pytest.raises(BadInput, match=rf'x\.{ending}'):
        open_table(path)


def write_alerts(path, seed):
    fields = [dict(name='alertId', type='long'), dict(name='note', type='string')]
    rows = [dict(alertId=1000 * seed + k, note='x' * 40_000) for k in range(N)]
    with open(path, 'wb') as file:
        schema = dict(type='record', name='alert', fields=fields)
        fastavro.writer(file, schema, rows, sync_interval=1)


def write_alert_rows(path, seed):
    rows = dict(alertId=[1000 * seed + k for k in range(2000)], note=['x'] * 2000)
    pq.write_table(pa.table(rows), path, row_group_size=100)


ALERTS = dict(avro=write_alerts, parquet=write_alert_rows)


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('ending', ALERTS)
def test_a_file_of_alerts_that_becomes_another(tmp_path, ending, change):
    path, other = made(tmp_path, ending, ALERTS[ending], change)
    packets = read_alerts(path)
    found = [next(packets)]
    change(path, other)
    found += packets
    said = [one.reason for _, one in found if isinstance(one, BadImage)]
    read = [one['alertId'] for _, one in found if not isinstance(one, BadImage)]
    assert said[-1:] == ['changed'] and read[0] == 0


def write_fits(path, seed, side=600):
    fits.PrimaryHDU(pixels_of_sky(seed, side), header_of(side)).writeto(path)


def pixels_of_sky(seed, side):
    return np.random.default_rng(seed).normal(100 + 50 * seed, 3, (side, side)).astype('f4')


def header_of(side):
    return cards(CRPIX1=side / 2, CRPIX2=side / 2, RADESYS='ICRS', FILTER='r', EXPTIME=30.0)


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('how', ['open', 'header cache'])
def test_an_image_that_becomes_another(tmp_path, change, how):
    path, other = made(tmp_path, 'fits', write_fits, change)
    image = open_image(path)
    if how == 'header cache':
        image = open_indexed(path, image_index(image))
    with image:
        first, _ = image.read(0, 5, 0, 600)
        change(path, other)
        said = ''
        try:
            rest, _ = image.read(5, 600, 0, 600)
            image.refuse_overwritten()
        except BadImage as problem:
            said = problem.reason
        whole = said or np.array_equal(np.vstack([first, rest]), pixels_of_sky(0, 600))
    assert whole and (said == 'changed') == (change in (overwritten, cut, grown))


def test_a_build_from_an_image_that_becomes_another(tmp_path):
    path, other = made(tmp_path, 'fits', write_fits, overwritten)
    image, places = (
        open_image(path),
        pd.DataFrame(
            dict(
                ra=[33.0], dec=[-5.0], image_uri=[str(path)], image_hdu=[None], image_extver=[None]
            )
        ),
    )
    plain = image.world_to_pixel

    def world_to_pixel(*where):
        overwritten(path, other)
        return plain(*where)

    image.world_to_pixel = world_to_pixel
    found = extract_patches(places, 8, open=lambda *a: image)
    assert found.ledger['reason'].tolist() == ['changed']


@pytest.mark.parametrize('change', [overwritten, cut])
def test_an_image_that_becomes_another_while_it_is_taken_in(archive, tmp_path, monkeypatch, change):
    path, other = made(tmp_path, 'fits', write_fits, change)
    plain = rows.detect_sources

    def detect_sources(image, **how):
        change(path, other)
        return plain(image, **how)

    monkeypatch.setattr(rows, 'detect_sources', detect_sources)
    report = archive.add_fits(path, show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['changed'])
