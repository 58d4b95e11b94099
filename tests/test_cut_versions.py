"""A version whose files are cut or written over while it is open is refused in words; what was
mapped of a file that was deleted or replaced is still what was frozen."""

import os
import subprocess
import sys

import numpy as np
import pytest

from astrid_data.core import Conflict
from astrid_data.datasets.dataset import Dataset
from astrid_data.loading.loader import RealDataLoader
from astrid_data.loading.rows import Rows
from astrid_data.training.models import pretend_dataset

CUT = """
import os, sys
from astrid_data.core import Conflict
from astrid_data.datasets.dataset import Dataset
from astrid_data.loading.rows import Rows
import numpy as np
dataset = Dataset(sys.argv[1], verify=sys.argv[2] == 'True')
way = sys.argv[3]
rows = Rows(dataset, 'mapped')
out = np.empty((1, 1, 32, 32), 'f4')
read = dict(
    rows=lambda k: dataset.patches([k]),
    one=lambda k: dataset.patches()[k],
    slice=lambda k: np.asarray(dataset.patches(slice(k, k + 1))).sum(),
    shards=lambda k: dataset.shards()[0][2][k].sum(),
    loader=lambda k: rows.gather('patches', np.array([k]), out),
)[way]
read(0)
os.truncate(dataset.folder / 'patches-00000.npy', 4096)
try:
    read(399)
except Conflict as error:
    print(error)
"""


@pytest.fixture
def version(tmp_path):
    return pretend_dataset(tmp_path / 'v1', n=400)


def write_over(dataset):
    "Zeros in the place of pixels; the file keeps its length"
    with open(dataset.folder / 'patches-00000.npy', 'r+b') as file:
        file.seek(128)
        file.write(bytes(400_000))


@pytest.mark.parametrize('verify', [True, False])
@pytest.mark.parametrize('way', ['rows', 'one', 'slice', 'shards', 'loader'])
def test_a_version_that_is_cut_while_it_is_open_is_refused(version, way, verify):
    asked = [sys.executable, '-c', CUT, str(version.folder), str(verify), way]
    found = subprocess.run(asked, capture_output=True, text=True)
    assert found.returncode == 0, (found.returncode, found.stderr[-500:])
    assert 'patches-00000.npy was cut while it was open' in found.stdout


def test_a_version_that_is_written_over_while_it_is_open_is_refused(version):
    rows = Rows(version, 'mapped')
    version.patches([0])
    rows.part('patches', 0)
    write_over(version)
    with pytest.raises(Conflict, match='patches-00000.npy was changed while it was open'):
        version.patches([0])
    with pytest.raises(Conflict, match='open the version anew'):
        version.patches()[3:5]
    with pytest.raises(Conflict, match='was changed while it was open'):
        rows.part('patches', 0)
    version.valid([0])  # Another file


def test_who_asked_for_no_checks_reads_on(version):
    unchecked = Dataset(version.folder, verify=False)
    unchecked.patches([0])
    write_over(version)
    assert not unchecked.patches([0]).any()


@pytest.mark.parametrize('workers', [0, 2])
def test_loaders_refuse_it_in_the_midst_of_an_epoch(version, workers):
    how = dict(mode='mapped', workers=workers, prefetch=1)
    train, *_ = RealDataLoader(version).loaders(batch_size=2, **how)
    batches = iter(train)
    next(batches)
    write_over(version)
    with pytest.raises(Conflict, match='patches-00000.npy'):
        list(batches)


@pytest.mark.parametrize('how', ['deleted', 'replaced'])
def test_what_is_mapped_outlives_the_name_of_its_file(version, how):
    before = np.array(version.patches([399]))
    path = version.folder / 'patches-00000.npy'
    if how == 'replaced':
        other = path.with_name('other.npy')
        other.write_bytes(path.read_bytes()[:4096])
        os.replace(other, path)
    else:
        path.unlink()
    assert np.array_equal(version.patches([399]), before)
