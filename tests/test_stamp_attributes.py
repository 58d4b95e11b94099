"Attributes of a tree of arrays: units, bands, and what of them is no text"

import h5py
import numpy as np
import pytest
from sqlalchemy import select
from stamping import pixels, reasons

from astrid_data.ingest.archive import open_archive
from astrid_data.registry import Image


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


@pytest.fixture
def take(archive, tmp_path):
    "Function that takes in three stamps whose file, or an array of it, has these attributes"

    def taken(node, attributes):
        with h5py.File(tmp_path / 's.h5', 'w') as file:
            file['images'] = np.stack([pixels(i) for i in range(3)])
            file['ra'], file['dec'] = np.array([0.1, 0.2, 0.3]), np.zeros(3)
            for key, one in attributes.items():
                kind = h5py.string_dtype() if isinstance(one, bytes) else None
                file[node].attrs.create(key, one, dtype=kind)
        return archive.add_stamps(tmp_path / 's.h5', 'a', show=False)

    return taken


@pytest.mark.parametrize('unit', ['nJy', ['nJy']])
def test_the_unit_of_pixels_is_kept(archive, take, unit):
    assert take('images', dict(unit=unit)).added == 3
    with archive.session() as s:
        assert [*s.scalars(select(Image.unit))] == ['nJy'] * 3


@pytest.mark.parametrize('node, key', [('ra', 'unit'), ('/', 'ra_unit')])
def test_a_list_of_one_unit_is_that_unit(archive, take, node, key):
    assert take(node, {key: ['rad']}).added == 3
    found = sorted(archive.detections()['ra'])
    assert np.allclose(found, np.degrees([0.1, 0.2, 0.3]))


@pytest.mark.parametrize('unit', [57.0, ['rad', 'deg']])
@pytest.mark.parametrize('node, key', [('ra', 'unit'), ('/', 'ra_unit')])
def test_what_is_no_unit_is_refused(take, node, key, unit):
    assert {*reasons(take(node, {key: unit})).values()} == {'bad_unit'}


@pytest.mark.parametrize('attributes', [dict(bands=['g', 'r', 'i']), dict(camera='x')])
def test_an_attribute_that_is_not_used_is_told_of_all_stamps(take, attributes):
    (note,) = take('/', attributes).notes
    assert [*attributes][0] in note and '(3 of 3 stamps)' in note


def test_a_bad_byte_in_an_attribute_costs_the_attribute(archive, take):
    report = take('/', dict(band=b'g\xff', exptime=30.0))
    (note,) = report.notes
    assert report.added == 3 and 'the attribute band of s.h5' in note
    seen = archive.observations()
    assert {*seen['band']} == {'unknown'} and {*seen['exposure_s']} == {30.0}
