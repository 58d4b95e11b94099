"Names of files that no text in UTF-8 can spell, as old disks have them, and names too long"

import os

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from test_isolated_tables import flat
from test_packed_nights import avro

import astrid_data as ad
from astrid_data.core import BadInput

LATIN = os.fsdecode(b'\xe9toile')
PLACES = dict(ra=[10.0, 10.001], dec=[10.0, 10.001], name=['a', 'b'], is_real=[True, False])


@pytest.fixture
def folder(tmp_path):
    "A folder, if the system takes such names"
    try:
        (tmp_path / LATIN).touch()
    except OSError:
        pytest.skip('this system takes names in UTF-8 only')
    (tmp_path / LATIN).unlink()
    return tmp_path


def write_image(path):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ['RA---TAN', 'DEC--TAN'], [10, 10], [50, 50]
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    header = wcs.to_header()
    header['DATE-OBS'], header['FILTER'] = '2020-01-01T00:00:00', 'r'
    pixels = np.random.default_rng(0).normal(100, 1, (100, 100)).astype('f4')
    fits.PrimaryHDU(pixels, header).writeto(path)


def test_an_image_goes_the_whole_way(folder):
    write_image(folder / f'{LATIN}.fits')
    archive = ad.open_archive(folder / 'home')
    assert archive.add_fits(folder / f'{LATIN}.fits', survey='hst', show=False).added == 1
    archive.add_catalogue(pd.DataFrame(PLACES), 'known', is_real='is_real')
    collector = ad.TrainingDataCollector(archive)
    params = ad.TrainingDataCollectionParams(survey_ids=['hst'])
    dataset = collector.plan(params).build('old', patch_size=16, allow_empty=True)
    assert len(dataset) == 3 and dataset.verify()


def test_cutouts_of_it_are_refused_in_words(folder):
    "A table of patches names its images"
    write_image(folder / f'{LATIN}.fits')
    write_image(folder / 'plain.fits')
    patches = ad.cutouts([(10.0, 10.0)], folder, size=8)
    assert len(patches) == 1
    ((name, reason, detail),) = patches.lost.values.tolist()
    assert reason == 'bad_address' and name.endswith(r'\udce9toile.fits') and 'rename' in detail


@pytest.mark.parametrize('ending', ['csv', 'parquet', 'feather', 'fits', 'csv.gz', 'parquet.gz'])
def test_a_catalogue_is_read(folder, ending):
    write_image(folder / 'plain.fits')
    archive = ad.open_archive(folder / 'home')
    archive.add_fits(folder / 'plain.fits', survey='hst', show=False)
    plain, path = folder / f'table.{ending}', folder / f'{LATIN}.{ending}'
    write_table(plain, ending)
    os.rename(plain, path)
    report = archive.add_catalogue(path, 'known', is_real='is_real')
    assert report.detections == 2 and not report.lost


def write_table(path, ending):
    from astropy.table import Table

    table = pd.DataFrame(PLACES)
    if ending.startswith('csv'):
        table.to_csv(path, index=False)
    elif ending == 'fits':
        Table.from_pandas(table).write(path)
    elif ending == 'feather':
        table.to_feather(path)
    else:
        compress = path.with_suffix('') if ending.endswith('.gz') else path
        table.to_parquet(compress)
        if compress != path:
            import gzip

            path.write_bytes(gzip.compress(compress.read_bytes()))


def test_alerts_are_read(folder):
    (folder / f'{LATIN}.avro').write_bytes(avro(flat(0)))
    archive = ad.open_archive(folder / 'home')
    assert archive.add_alerts(folder / f'{LATIN}.avro', show=False).added == 1


@pytest.mark.parametrize('ending', ['npz', 'parquet'])
def test_stamps_are_read(folder, ending):
    path, images = folder / f'{LATIN}.{ending}', np.arange(98, dtype='f4').reshape(2, 7, 7)
    columns = dict(id=['a', 'b'], ra=[1.0, 2.0], dec=[0.0, 1.0])
    if ending == 'npz':
        np.savez(path, image=images, **columns)
    else:
        plain = folder / 'plain.parquet'
        pd.DataFrame(columns | dict(image=[one.tolist() for one in images])).to_parquet(plain)
        os.rename(plain, path)
    report = ad.open_archive(folder / 'home').add_stamps(path, 'mailed', show=False)
    assert report.added == 2, report.ledger


def test_an_archive_has_a_name_that_an_address_can_hold(folder):
    with pytest.raises(BadInput, match='is no UTF-8'):
        ad.open_archive(folder / LATIN)
    assert not (folder / LATIN).exists()


@pytest.mark.parametrize('name', ['a' * 300, 'b/' * 3000])
def test_schemas_under_a_name_that_is_too_long_are_none(tmp_path, name):
    archive = ad.open_archive(tmp_path)
    with pytest.raises(BadInput, match='neither an https address nor a folder'):
        archive.add_alerts([b'\0\0\0\0\5abc'], schemas=name, show=False)
