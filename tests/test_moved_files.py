"Files that lie elsewhere now, and surveys that were forgotten: adding them again puts both right."

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import select
from test_datasets import plan_of, toy, write_images
from test_known_files import aged

import astrid_data as ad
from astrid_data.core import NotFound
from astrid_data.registry.tables import Image
from astrid_data.storage.resolve import is_gone, uri_mark


def add(archive, paths, **kw):
    "Take images in without looking for sources"
    return archive.add_fits(paths, **dict(detect=False, show=False) | kw)


def moved_to(folder, *paths):
    "The new places of files"
    folder.mkdir(exist_ok=True)
    return [shutil.move(path, folder / path.name) for path in paths]


@pytest.fixture
def archive(registry_url, tmp_path):
    return ad.open_archive(registry_url, home=tmp_path / 'home')


@pytest.fixture
def image(tmp_path):
    "An image that was written an hour ago, so that it is remembered"
    return aged(write_images(tmp_path / 'a')[0])


def rows_of(archive):
    with archive.session() as s:
        return s.scalars(select(Image).order_by(Image.uri)).all()


def test_the_new_address_of_a_moved_image_is_written(archive, image, tmp_path):
    add(archive, image, survey='toy')
    [there] = moved_to(tmp_path / 'b', image)
    report = add(archive, tmp_path / 'b')
    assert (report.added, report.skipped) == (0, 1)
    assert report.moved == {image.as_uri(): there.as_uri()}
    assert '0 added, 1 there already, 1 moved' in repr(report)
    assert f'{image.as_uri()} was moved: it is known as {there.as_uri()} now' in repr(report)
    assert list(archive.observations().uri) == [there.as_uri()]
    [row] = rows_of(archive)
    assert (row.uri, row.etag) == (there.as_uri(), uri_mark(there.as_uri(), archive.store))
    assert row.facts['index']['mtime_ns'] == there.stat().st_mtime_ns
    again = add(archive, tmp_path / 'b')
    assert (again.skipped, again.moved, again.notes) == (1, {}, [])


def test_a_moved_image_can_be_cut_again(tmp_path):
    archive = toy(tmp_path)
    how = dict(patch_size=16, progress=False, probe=False)
    shutil.move(tmp_path / 'fits', tmp_path / 'b')
    with pytest.raises(NotFound, match=r'missing_file.*moved\? archive.add_fits\(folder\) notes'):
        plan_of(archive).build('toy', **how)
    report = add(archive, tmp_path / 'b')
    assert (report.added, report.skipped, len(report.moved)) == (0, 4, 4)
    assert 'and so with 3 more' in repr(report)
    dataset = plan_of(archive).build('toy', **how)
    assert len(dataset) and dataset.samples['image_uri'].str.contains('/b/').all()


def test_a_copy_changes_nothing_until_the_first_one_is_gone(archive, image, tmp_path):
    add(archive, image)
    (tmp_path / 'b').mkdir()
    copy = aged(shutil.copy(image, tmp_path / 'b' / image.name))
    for _ in range(2):
        assert add(archive, copy).moved == {}
        assert rows_of(archive)[0].uri == image.as_uri()
    os.unlink(image)
    assert add(archive, copy).moved == {image.as_uri(): copy.as_uri()}
    shutil.move(copy, image)
    assert add(archive, image).moved == {copy.as_uri(): image.as_uri()}


def test_other_bytes_at_the_new_place_are_another_image(archive, image, tmp_path):
    add(archive, image)
    [there] = moved_to(tmp_path / 'b', image)
    with fits.open(there, mode='update') as hdus:
        next(hdu for hdu in hdus if hdu.data is not None).data[0, 0] += 1
    report = add(archive, there)
    assert (report.added, report.moved) == (1, {})
    assert {row.uri for row in rows_of(archive)} == {image.as_uri(), there.as_uri()}


def test_an_address_that_cannot_be_asked_is_not_gone(archive, image, tmp_path):
    add(archive, image)
    for uri in ('s3://bucket/a.fits', 'https://sky.example/a.fits', 'observations/x/a.fits'):
        with archive.session() as s:
            s.scalars(select(Image)).one().uri = uri
        assert add(archive, image, always_hash=True).moved == {}
        assert rows_of(archive)[0].uri == uri


@pytest.mark.parametrize('trouble', [PermissionError, TimeoutError, OSError])
def test_a_folder_that_does_not_answer_may_have_its_files_still(tmp_path, monkeypatch, trouble):
    gone = (tmp_path / 'gone.fits').as_uri()
    assert is_gone(gone)

    def refuse(path, **how):
        raise trouble(path)

    with monkeypatch.context() as m:
        m.setattr(Path, 'stat', refuse)
        assert not is_gone(gone)


def test_planes_beside_an_image_move_as_well(archive, image, tmp_path):
    with fits.open(image) as hdus:
        shape = next(hdu.data.shape for hdu in hdus if hdu.data is not None)
    beside = dict(dq=np.zeros(shape, 'u1'), weight=np.ones(shape, 'f4'))
    planes = {role: tmp_path / 'a' / f'{role}_of_it.fits' for role in beside}
    for role, path in planes.items():
        fits.PrimaryHDU(beside[role]).writeto(path)
        aged(path)
    add(archive, image, **planes)
    assert rows_of(archive)[0].facts['beside'] == {r: p.as_uri() for r, p in planes.items()}
    there, *others = moved_to(tmp_path / 'b', image, *planes.values())
    report = add(archive, there, **dict(zip(planes, others)))
    assert '1 there already, 3 moved' in repr(report)
    [row] = rows_of(archive)
    assert row.facts['beside'] == {r: p.as_uri() for r, p in zip(planes, others)}
    with archive.open(row.uri, row.hdu_name, row.hdu_ver):
        pass
    [dq] = moved_to(tmp_path / 'c', others[0])  # The mask alone
    report = add(archive, there, dq=dq, weight=others[1])
    assert report.moved == {others[0].as_uri(): dq.as_uri()}


@pytest.mark.parametrize('how', [dict(survey='hst'), dict(facts=dict(survey='hst'))])
def test_a_forgotten_survey_is_learned(archive, image, how):
    add(archive, image)
    before = archive.observations()
    assert list(before.survey) == ['unknown']
    report = add(archive, image, **how)
    assert '1 with another survey than before' in repr(report)
    now = archive.observations()
    assert list(now.survey) == ['hst']
    assert list(now.observation_id) == list(before.observation_id)
    assert list(now.observation_key) == list(before.observation_key)
    for again in (how, {}):
        assert not add(archive, image, **again).changed
        assert list(archive.observations().survey) == ['hst']


def test_a_known_survey_is_changed_by_facts_only(archive, image):
    add(archive, image, survey='hst')
    for _ in range(2):
        report = add(archive, image, survey='JWST')
        assert not report.changed and list(archive.observations().survey) == ['hst']
        assert "facts=dict(survey='jwst') changes it" in repr(report)
    report = add(archive, image, facts=dict(survey='jwst'))
    assert report.changed == dict(survey=1) and not report.notes
    assert list(archive.observations().survey) == ['jwst']


@pytest.mark.parametrize('order', [('told', 'learned'), ('learned', 'told')])
def test_names_stay_apart_when_a_survey_is_learned(archive, tmp_path, order):
    for path, name in zip(write_images(tmp_path / 'a'), order):
        (tmp_path / name).mkdir()
        shutil.move(aged(path), tmp_path / name / 'same.fits')
        if name == 'learned':
            add(archive, tmp_path / name)
        assert list(add(archive, tmp_path / name, survey='hst').ledger.reason) == []
    found = archive.observations()
    assert list(found.survey) == ['hst', 'hst'] and found.observation_key.is_unique
    assert 'same' in set(found.observation_key)
