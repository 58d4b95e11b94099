"Pipes, sockets and devices that never end, in the place of files: refused at once, nothing waits for them."

import os
import socket
import subprocess
import sys

KINDS = ('pipe', 'socket', 'zero', 'random', 'null', 'loop')

DOORS = """
import sys
from pathlib import Path
import astrid_data as ad
from astrid_data.core import AstridError, Settings, load_settings
from astrid_data.datasets.exports import read_npz
from astrid_data.images.image import open_image
from astrid_data.ingest.tables import read_table

folder = Path(sys.argv[1])
archive = ad.open_archive(folder / 'home')

def refused(door, *given, **how):
    try:
        door(*given, **how)
    except AstridError:
        return
    raise SystemExit(f'{door} took {given}')

for name in sys.argv[2:]:
    image = folder / f'{name}.fits'
    refused(open_image, image)
    for ending in ('csv', 'fits', 'parquet', 'json', 'xml'):
        refused(read_table, folder / f'{name}.{ending}')
        refused(archive.add_catalogue, folder / f'{name}.{ending}', 'stars')
    refused(read_npz, folder / f'{name}.npz', folder / 'made', origin='survey')
    refused(ad.open_archive, f'sqlite:///{folder}/{name}.db')
    assert load_settings({}, folder / f'{name}.env') == load_settings({}, None), name
    for ending in ('avro', 'parquet'):
        report = archive.add_alerts(folder / f'{name}.{ending}', show=False)
        assert report.ledger['reason'].tolist() == ['missing_file'], report.ledger
    report = archive.add_fits(image, show=False)
    assert report.ledger['reason'].tolist() == ['missing_file'], report.ledger
"""


def put(kind, path):
    "Something that is no file"
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'socket':
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(path))
    else:
        path.symlink_to(path if kind == 'loop' else f'/dev/{kind}'.replace('random', 'urandom'))


def run(code, *words):
    "What a process says, which is ended if it waits for a minute or more, or computes as long"
    command = [sys.executable, '-W', 'ignore', '-c', code, *map(str, words)]
    limited = ['bash', '-c', 'ulimit -t 120; exec "$@"', 'bash', *command]
    ended = subprocess.run(limited, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-1500:]


def test_what_is_no_file_is_refused_at_once(tmp_path):
    for kind in KINDS:
        for ending in 'fits csv parquet json xml npz db env avro'.split():
            put(kind, tmp_path / f'{kind}.{ending}')
    run(DOORS, tmp_path, *KINDS)


VERSION = """
import os, sys
from pathlib import Path
import astrid_data as ad
from astrid_data.core import Conflict, NotFound
from astrid_data.datasets.dataset import Dataset
from astrid_data.simulate.synthetic import synthetic_archive

archive = synthetic_archive(Path(sys.argv[1]), n_observations=2, n_sources=10)
plan = ad.TrainingDataCollector(archive).plan(validation_status='any', progress=False)
folder = plan.build('small', patch_size=16, probe=False, progress=False).folder
files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
assert len(files) > 6

def unchecked(path):
    "Whoever asks for no checks waits for no pipe either; what needs no such file is read"
    try:
        dataset = Dataset(folder, verify=False)
        dataset.samples, dataset.ledger, dataset.quality, dataset.test_openings
        dataset.patches([0]), dataset.valid([0]), dataset.targets([0])
    except (Conflict, NotFound) as problem:
        assert path.name in str(problem), problem

for path in files:
    path.parent.chmod(0o755)
    kept = path.rename(folder.parent / 'kept')
    for put in (os.mkfifo, lambda path: path.symlink_to('/dev/zero')):
        put(path)
        try:
            dataset = ad.open_dataset(archive, 'small')
            dataset.verify()
            dataset.patches([0])
        except (Conflict, NotFound) as problem:
            assert path.name in str(problem), problem
        else:
            raise SystemExit(f'{path.name} was not missed')
        unchecked(path)
        path.unlink()
    kept.rename(path)
assert ad.open_dataset(archive, 'small').verify()
"""


def test_a_version_with_a_pipe_in_it_is_refused_at_once(tmp_path):
    run(VERSION, tmp_path)
