"Files that are there already: passed over unread when nothing changed, read when anything did."

import os
import shutil
import time

import numpy as np
import pytest
from astropy.io import fits
from test_datasets import write_images

import astrid_data as ad
from astrid_data.ingest import fits as page
from astrid_data.ingest import known_files
from astrid_data.registry.tables import FileRow, Image

HOUR_NS = 3_600_000_000_000


def aged(path, hours=1):
    "A file as if it had been written some hours ago"
    when = time.time_ns() - int(hours * HOUR_NS)
    os.utime(path, ns=(when, when))
    return path


def with_other_pixels(path):
    "Change a pixel of a file; its size stays"
    with fits.open(path, mode='update') as hdus:
        next(hdu for hdu in hdus if hdu.data is not None).data[0, 0] += 1
    return path


@pytest.fixture
def night(tmp_path):
    "An archive, and a folder of images that were written an hour ago"
    archive = ad.open_archive(tmp_path / 'archive')
    return archive, [aged(path) for path in write_images(tmp_path / 'fits')]


@pytest.fixture
def read(monkeypatch):
    "The names of the files that are read"
    names = []
    real = page._image_file

    def noted(archive, one, options):
        names.append(one.address.rpartition('/')[2])
        return real(archive, one, options)

    monkeypatch.setattr(page, '_image_file', noted)
    return names


def add(archive, paths, **kw):
    "Added, skipped and lost images"
    report = archive.add_fits(paths, survey='toy', **dict(detect=False, show=False) | kw)
    return report.added, report.skipped, report.ledger['reason'].tolist()


def test_files_that_did_not_change_are_not_read_again(registry_url, tmp_path, read):
    archive = ad.open_archive(registry_url, home=tmp_path / 'home')
    paths = [aged(path) for path in write_images(tmp_path / 'fits')]
    n = len(paths)
    assert add(archive, paths[1:]) == (n - 1, 0, []) and len(read) == n - 1
    read.clear()
    assert add(archive, paths[0].parent) == (1, n - 1, []) and read == [paths[0].name]
    read.clear()
    assert add(archive, paths) == add(archive, paths[0].parent) == (0, n, []) and read == []
    assert add(archive, paths, always_hash=True) == (0, n, []) and len(read) == n
    archive.always_hash = True
    assert add(archive, paths) == (0, n, []) and len(read) == 2 * n


def test_a_changed_file_of_the_same_size_is_noticed(night, read):
    archive, paths = night
    add(archive, paths)
    read.clear()
    size = paths[1].stat().st_size
    aged(with_other_pixels(paths[1]), hours=2)
    assert paths[1].stat().st_size == size
    assert add(archive, paths) == (0, len(paths) - 1, ['changed']) and read == [paths[1].name]
    assert add(archive, paths, changed='anew') == (0, len(paths), [])
    read.clear()
    assert add(archive, paths) == (0, len(paths), []) and read == []


def test_a_file_that_was_only_touched_is_read_once(night, read):
    archive, paths = night
    add(archive, paths)
    aged(paths[0], hours=3)
    read.clear()
    assert add(archive, paths) == (0, len(paths), []) and read == [paths[0].name]
    assert add(archive, paths) == (0, len(paths), []) and read == [paths[0].name]


def test_a_change_whose_time_was_set_back_is_noticed(night):
    archive, paths = night
    before = paths[0].stat().st_mtime_ns
    add(archive, paths)
    with_other_pixels(paths[0])
    os.utime(paths[0], ns=(before, before))
    assert add(archive, paths) == (0, len(paths) - 1, ['changed'])


@pytest.mark.parametrize('hours', [0, -1])
def test_a_file_of_this_moment_or_of_the_future_is_read_each_time(
    tmp_path, monkeypatch, read, hours
):
    archive = ad.open_archive(tmp_path / 'archive')
    path = aged(write_images(tmp_path / 'fits')[0], hours)
    monkeypatch.setattr(known_files, 'file_state', lambda status: 'as ever')  # A clock that stands
    add(archive, path)
    with_other_pixels(path)
    aged(path, hours)
    assert add(archive, path) == (0, 0, ['changed']) and len(read) == 2
    with archive.session() as s:
        assert s.query(FileRow).count() == 0


def test_what_is_written_while_a_file_is_read_is_not_missed(night, monkeypatch, read):
    archive, paths = night
    real = page._register_image

    def meanwhile(*args):
        sha256 = real(*args)
        aged(with_other_pixels(paths[0]), hours=2)
        return sha256

    with monkeypatch.context() as m:
        m.setattr(page, '_register_image', meanwhile)
        add(archive, paths[0])
    assert add(archive, paths[0]) == (0, 0, ['changed']) and len(read) == 2


def test_a_plane_beside_an_image_counts_with_it(night, read):
    archive, paths = night
    add(archive, paths[0])
    mask = paths[0].with_name(paths[0].name.replace('.fits', '_mask.fits'))
    shape = next(hdu.data.shape for hdu in fits.open(paths[0]) if hdu.data is not None)
    fits.PrimaryHDU(np.zeros(shape, 'u1')).writeto(mask)
    aged(mask)
    for n in (2, 2):
        assert add(archive, [paths[0], mask])[:2] == (0, 1) and len(read) == n
    aged(mask, hours=5)
    assert add(archive, [paths[0], mask])[:2] == (0, 1) and len(read) == 3


def test_what_was_asked_for_counts_too(night, read):
    archive, paths = night
    add(archive, paths[0])
    assert add(archive, paths[0], hdu=0)[2] == [] and len(read) == 2
    assert add(archive, paths[0], role='image')[:2] == (0, 1) and len(read) == 3


def test_a_lost_file_is_looked_at_again(night, tmp_path):
    archive, paths = night
    broken = tmp_path / 'fits' / 'cut.fits'
    broken.write_bytes(paths[0].read_bytes()[:4000])
    aged(broken)
    first = add(archive, [paths[0], broken])
    assert first[0] == 1 and len(first[2]) == 1
    assert add(archive, [paths[0], broken]) == (0, 1, first[2])
    broken.unlink()
    paths[0].unlink()
    assert add(archive, [paths[0], broken]) == (0, 0, ['missing_file'] * 2)


def test_a_file_whose_image_is_gone_from_the_registry_is_taken_in_again(night):
    archive, paths = night
    add(archive, paths[0])
    with archive.session() as s:
        s.query(Image).delete()
    assert add(archive, paths[0])[0] == 1


def test_copies_are_known_by_the_address_of_the_original(night, read):
    archive, paths = night
    assert add(archive, paths, copy=True)[0] == len(paths)
    read.clear()
    assert add(archive, paths, copy=True) == (0, len(paths), []) and read == []
    moved = aged(shutil.copy(paths[0], paths[0].with_name('moved.fits')))
    assert add(archive, moved) == (0, 1, []) and read == ['moved.fits']


def test_objects_of_a_bucket_are_known_by_their_etags(s3, tmp_path, read, monkeypatch):
    client, prefix = s3.client(), f'known-{tmp_path.name}'
    paths = write_images(tmp_path / 'fits')[:2]
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', s3.key)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', s3.secret)
    monkeypatch.setenv('AWS_ENDPOINT_URL_S3', s3.endpoint)
    keys = [f's3://test/{prefix}/{path.name}' for path in paths]
    for path in paths:
        client.upload_file(str(path), 'test', f'{prefix}/{path.name}')

    def again(**kw):
        archive = ad.open_archive(
            f'sqlite:///{tmp_path / "registry.db"}', f's3://test/{prefix}', home=tmp_path / 'home'
        )
        return add(archive, keys, **kw)

    assert again() == (2, 0, [])
    read.clear()
    assert again() == (0, 2, []) and read == []
    client.upload_file(str(with_other_pixels(paths[0])), 'test', f'{prefix}/{paths[0].name}')
    assert again() == (0, 1, ['changed']) and read == [paths[0].name]
    client.delete_object(Bucket='test', Key=f'{prefix}/{paths[1].name}')
    assert again() == (0, 0, ['changed', 'missing_file'])
