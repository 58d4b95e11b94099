"HDF5 of others: no other file is read, no link is followed for ever, no claim is believed"

import numpy as np
import pytest
from stamping import SIDE, kept, pixels, reasons

from astrid_data.core import BadImage
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.stamp_files import read_stamps

h5py = pytest.importorskip('h5py')
HERE = dict(ra=1.0, dec=2.0)


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


def stamp(file, name, **more):
    "A group of one object in an open file"
    group = file.create_group(name)
    group.attrs.update(HERE | more)
    return group


def external_link(file, folder):
    stamp(file, 'odd')['image'] = h5py.ExternalLink(str(folder / 'other.h5'), '/top')


def external_group(file, folder):
    file['odd'] = h5py.ExternalLink(str(folder / 'other.h5'), '/group')


def link_through_another_file(file, folder):
    file['way'] = h5py.ExternalLink(str(folder / 'other.h5'), '/')
    file['odd'] = h5py.SoftLink('/way/group')


def raw_storage(file, folder):
    raw = [(str(folder / 'secret.bin'), 0, 4 * SIDE**2)]
    stamp(file, 'odd').create_dataset('image', (SIDE, SIDE), 'f4', external=raw)


def raw_set(file, folder):
    raw = [(str(folder / 'secret.bin'), 0, 4 * SIDE**2)]
    file.create_dataset('images', (1, SIDE, SIDE), 'f4', external=raw)
    file['ra'], file['dec'] = [1.0], [2.0]


def virtual(file, folder):
    layout = h5py.VirtualLayout((SIDE, SIDE), 'f4')
    layout[:] = h5py.VirtualSource(str(folder / 'other.h5'), 'top', (SIDE, SIDE))
    stamp(file, 'odd').create_virtual_dataset('image', layout)


POINTING = [external_link, external_group, link_through_another_file, raw_storage, raw_set, virtual]


@pytest.mark.parametrize('points', POINTING)
def test_no_other_file_becomes_pixels(archive, tmp_path, points):
    (tmp_path / 'secret.bin').write_bytes(pixels(9).tobytes())
    with h5py.File(tmp_path / 'other.h5', 'w') as file:
        stamp(file, 'group')['image'] = pixels(9)
        file['top'] = pixels(9)
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        stamp(file, 'good')['image'] = pixels(1)
        points(file, tmp_path)
    report = archive.add_stamps(tmp_path / 'a.h5', 'a', show=False)
    assert report.added == 1 and 'other_file' in set(report.ledger['reason'])
    ((array, _),) = kept(archive).values()
    assert np.array_equal(array, pixels(1))


def to_root(file):
    file['good/self'] = h5py.SoftLink('/')


def hard(file):
    file['good/self'] = file


def nowhere(file):
    file['x'] = h5py.SoftLink('/nowhere')


def deep(file):
    group = file
    for _ in range(200):
        group = group.create_group('g')
    group['image'] = pixels(2)


LOOPS = dict(to_root='link_loop', hard='link_loop', nowhere='broken_link', deep='too_deep')


@pytest.mark.parametrize('loop', [to_root, hard, nowhere, deep])
def test_links_that_lead_nowhere_or_back_cost_themselves(archive, tmp_path, loop):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        stamp(file, 'good')['image'] = pixels(1)
        loop(file)
    report = archive.add_stamps(tmp_path / 'a.h5', 'a', show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (1, [LOOPS[loop.__name__]])


def huge_set(file):
    file.create_dataset('images', (10**9, 63, 63), 'f4', chunks=(1, 63, 63))


def huge_picture(file):
    group = stamp(file, 'odd')
    group.create_dataset('image', (10**6, 10**5), 'f4', chunks=(100, 100))


def huge_column(file):
    file.create_dataset('x', (10**12,), 'f4', chunks=(1000,))


def bomb(file):
    packed = dict(chunks=(500, 256, 256), compression='gzip')
    file.create_dataset('images', (8000, 256, 256), 'f4', **packed)[0] = pixels(1)[0, 0]


def large_stamp(file):
    group = stamp(file, 'odd')
    group.create_dataset('image', (9000, 9000), 'f4', chunks=(900, 900))


HUGE = [huge_set, huge_picture, huge_column, bomb, large_stamp]


@pytest.mark.parametrize('claim', HUGE)
def test_what_a_file_claims_is_looked_at_before_it_is_read(archive, tmp_path, claim):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        stamp(file, 'good')['image'] = pixels(1)
        claim(file)
    report = archive.add_stamps(tmp_path / 'a.h5', 'a', show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (1, ['too_large'])


def test_the_limits_are_those_of_the_environment(archive, tmp_path, monkeypatch):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file.create_dataset('images', data=np.zeros((400, 63, 63), 'f4'), compression='gzip')
    assert not isinstance(next(read_stamps(tmp_path / 'a.h5'))[1], BadImage)
    monkeypatch.setenv('ASTRID_MAX_UNPACKED_BYTES', '1000000')
    ((uri, problem),) = read_stamps(tmp_path / 'a.h5')
    assert isinstance(problem, BadImage) and problem.reason == 'too_large', uri


def test_damage_costs_one_group(archive, tmp_path):
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        stamp(file, 'good')['image'] = pixels(1)
        checked = dict(chunks=(SIDE, SIDE), fletcher32=True)
        odd = stamp(file, 'odd').create_dataset('image', data=pixels(2), **checked)
        at = odd.id.get_chunk_info(0).byte_offset
    data = bytearray((tmp_path / 'a.h5').read_bytes())
    data[at] ^= 255
    (tmp_path / 'a.h5').write_bytes(data)
    report = archive.add_stamps(tmp_path / 'a.h5', 'a', show=False)
    assert (report.added, reasons(report)) == (1, dict(odd='unreadable'))


@pytest.mark.parametrize('packed', [dict(), dict(compression='gzip', chunks=(7, SIDE, SIDE))])
def test_blocks_are_the_rows(archive, tmp_path, packed):
    images = np.stack([pixels(k) for k in range(20)])
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file.create_dataset('images', data=images, **packed)
        file['ra'], file['dec'], file['id'] = np.arange(20.0), np.zeros(20), np.arange(20)
    assert archive.add_stamps(tmp_path / 'a.h5', 'a', show=False).added == 20
    found = kept(archive)
    assert all(np.array_equal(found[str(k), 'image'][0], images[k]) for k in range(20))
