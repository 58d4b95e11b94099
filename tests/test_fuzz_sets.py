"Sets of stamps, messages, lists, votes and what is scored, changed on purpose: nothing foreign, nothing taken that was cut."

import os
import random
import shutil
import tarfile

import fuzz_labels
import fuzz_sets
import pytest
from fuzzing import fuzz

from astrid_data.ingest.archive import open_archive

N = int(os.environ.get('ASTRID_FUZZ_INPUTS', 0))


@pytest.mark.parametrize('targets', [fuzz_sets.TARGETS, fuzz_labels.TARGETS])
def test_no_set_and_no_list_is_too_odd(targets):
    found = fuzz(targets, N or 140, seed=2, budget=None if N else 15)
    assert not found.bad, str(found)
    assert found.counts['refused']


@pytest.mark.parametrize('isolate', [False, True])
def test_hdf5_whose_cells_are_of_absurd_size_costs_itself(archive, tmp_path, monkeypatch, isolate):
    "The library would ask for 2.8 GB for one cell of it, before it looks whether the file has so much"
    path = tmp_path / 'x.h5'
    monkeypatch.setattr(fuzz_sets, '_take_in', lambda rng, made, *a, **k: shutil.copy(made, path))
    (tmp_path / 'made').mkdir()
    fuzz_sets.hdf5(random.Random('ud/254'), tmp_path / 'made')
    report = archive.add_stamps(path, 'mailed', isolate=isolate, show=False)
    assert not report.added
    assert 'x.h5/id: a cell says it has 3,930,580,029 bytes' in ' '.join(report.ledger.detail)


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    return open_archive(tmp_path_factory.mktemp('sets'))


@pytest.mark.parametrize('mode', ['w', 'w:gz', 'w:xz', 'w:bz2'])
def test_a_tar_that_was_cut_or_changed_says_so(archive, tmp_path, mode):
    "Python takes a head that it cannot read for the end, and looks at no checksum of gzip in a stream"
    data, path, rng = (
        fuzz_sets._tar_of(fuzz_sets.webdataset_files(), mode),
        tmp_path / 'x.tar',
        random.Random(1),
    )
    places = [512, 2560, len(data) - 1] if mode == 'w' else rng.sample(range(40, len(data)), 12)
    for k, at in enumerate(places):
        path.write_bytes(data[:at])
        cut = archive.add_stamps(path, f'{mode}cut{k}', show=False)
        assert cut.added == fuzz_sets.N or len(cut.ledger), at
        if mode != 'w':  # What is not packed has no checksum of its pixels
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            added, lost, pictures = fuzz_sets._stored(path, None, {})
            assert fuzz_sets.KNOWN.issuperset(pictures), at
            assert added == fuzz_sets.N or lost, at


def test_a_head_that_is_damaged_is_not_the_end(archive, tmp_path):
    data, path = fuzz_sets._tar_of(fuzz_sets.webdataset_files(), 'w'), tmp_path / 'x.tar'
    at = data.index(b'train/T_1.json')
    path.write_bytes(data[:at] + b'X' + data[at + 1 :])
    report = archive.add_stamps(path, 'damaged head', show=False)
    assert report.added == 0 or report.ledger['reason'].tolist() == ['truncated']
    assert 'bad checksum' in report.ledger['detail'].iloc[-1]


def test_what_is_no_file_in_a_tar_has_its_row(archive, tmp_path):
    path = tmp_path / 'x.tar'
    path.write_bytes(fuzz_sets._tar_of(fuzz_sets.webdataset_files(), 'w'))
    with tarfile.open(path, 'a') as tar:
        for name, kind in (('pipe.npy', tarfile.FIFOTYPE), ('link.npy', tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, '/etc/passwd'
            tar.addfile(info)
    report = archive.add_stamps(path, 'pipes', show=False)
    assert report.added == fuzz_sets.N
    assert report.ledger['reason'].tolist() == ['not_a_file'] * 2
    night = archive.add_alerts(path, show=False)
    assert night.ledger['reason'].tolist()[-2:] == ['not_a_file'] * 2


def test_a_cut_chunk_costs_its_stamps(archive, tmp_path):
    "Blosc read on behind its end, and what lay there became pixels"
    pytest.importorskip('zarr')
    for name, data in fuzz_sets.zarr_seeds()[0].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data[:-300] if name.endswith('images/1.0.0.0') else data)
    how = dict(channels=fuzz_sets.CHANNELS)
    added, lost, pictures = fuzz_sets._stored(tmp_path / 'x.zarr', None, how)
    assert lost and added < fuzz_sets.N
    assert fuzz_sets.KNOWN.issuperset(pictures)
