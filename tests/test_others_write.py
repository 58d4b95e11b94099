"Slow work comes before the transaction: another writer of SQLite need not wait for it"

import sqlite3

import pytest
from sqlalchemy import select
from test_datasets import write_images

import astrid_data as ad
import astrid_data.ingest.fits as ingest_fits
import astrid_data.ingest.rows as rows
from astrid_data.core import sha256_file
from astrid_data.registry.tables import Image, take_turn


@pytest.fixture
def night(tmp_path):
    "An archive, and images outside of it"
    return ad.open_archive(tmp_path / 'archive'), write_images(tmp_path / 'fits')


def write_as_another(archive):
    "Write as another process does that cannot wait; is it let?"
    another = sqlite3.connect(archive.registry.engine.url.database, timeout=0)
    try:
        another.execute('CREATE TABLE IF NOT EXISTS of_another (x)')
        another.execute('INSERT INTO of_another VALUES (1)')
        another.commit()
    except sqlite3.OperationalError:
        return False
    finally:
        another.close()
    return True


def interrupt(monkeypatch, place, name, work):
    "Do some work in the middle of slow work"
    real = getattr(place, name)

    def slow(*args, **kw):
        work()
        return real(*args, **kw)

    monkeypatch.setattr(place, name, slow)


def kept_files(archive):
    "Checksums of the images in an archive, by the keys of their files"
    with archive.session() as session:
        return dict(session.execute(select(Image.uri, Image.sha256)).all())


def test_the_lock_of_another_is_seen(night):
    archive, _ = night
    with archive.session() as session:
        take_turn(session, 'anything')
        assert not write_as_another(archive)
    assert write_as_another(archive)


def test_others_write_while_files_are_copied(night, monkeypatch):
    archive, paths = night
    let = []
    interrupt(monkeypatch, archive.store, 'put', lambda: let.append(write_as_another(archive)))
    report = archive.add_fits(paths, survey='toy', copy=True, show=False)
    assert report.added == len(paths) and let == [True] * len(paths)


def test_others_write_while_images_are_searched_again(night, monkeypatch):
    archive, paths = night
    archive.add_fits(paths, survey='toy', detect=False, show=False)
    let = []
    interrupt(monkeypatch, rows, 'search_image', lambda: let.append(write_as_another(archive)))
    report = archive.detect(nsigma=4.0)
    assert report.detections and let == [True] * len(paths)


def test_one_who_takes_the_name_meanwhile_keeps_his_file(tmp_path, monkeypatch):
    archive = ad.open_archive(tmp_path / 'archive')
    one = write_images(tmp_path / 'one')[0]
    other = write_images(tmp_path / 'other', seed=7)[0]
    assert one.name == other.name and sha256_file(one) != sha256_file(other)
    real, started = archive.store.put, []

    def put(key, path, **kw):
        "Between the choice of a name and the copy another is registered"
        if not started:
            started.append(key)
            assert archive.add_fits(other, survey='toy', copy=True, show=False).added == 1
        return real(key, path, **kw)

    monkeypatch.setattr(archive.store, 'put', put)
    assert archive.add_fits(one, survey='toy', copy=True, show=False).added == 1
    kept = kept_files(archive)
    assert set(kept.values()) == {sha256_file(one), sha256_file(other)}
    for uri, sha256 in kept.items():
        assert sha256_file(archive.store.local_path(uri)) == sha256


def test_a_copy_that_was_left_behind_is_replaced(night, tmp_path):
    archive, paths = night
    archive.add_fits(paths[0], survey='toy', copy=True, show=False)
    (key,) = kept_files(archive)
    archive.store.put(key, b'of somebody who was killed')
    fresh = ad.open_archive(tmp_path / 'fresh')
    fresh.store = archive.store
    assert fresh.add_fits(paths[0], survey='toy', copy=True, show=False).added == 1
    assert sha256_file(archive.store.local_path(key)) == sha256_file(paths[0])


STEPS = '_opened _registered_row _require_place _refuse_changed _registered_before _require_sky'
STEPS = (STEPS + ' _sources_on _write_image _filed').split()


@pytest.mark.parametrize('copy', [False, True], ids=['in place', 'copied'])
def test_who_takes_in_the_same_file_meanwhile_has_not_changed_it(night, monkeypatch, copy):
    "At whichever step another is faster: there already, and nothing lost"
    archive, [first, *_] = night
    for number, step in enumerate(STEPS):
        mine, other = (ad.open_archive(archive.home / str(number)) for _ in range(2))
        came = []

        def work():
            if not came:
                came.append(None)  # The other passes the same step
                came[0] = other.add_fits(first, show=False, copy=copy)

        with monkeypatch.context() as patched:
            interrupt(patched, ingest_fits, step, work)
            report = mine.add_fits(first, show=False, copy=copy)
        if step == '_registered_before' and copy:
            assert came == []  # Copies have addresses of their own
            continue
        told = report.added, report.skipped, report.ledger['reason'].tolist()
        assert told == (0, 1, []), step
        assert came[0].added == 1 and len(kept_files(mine)) == 1
