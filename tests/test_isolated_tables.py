"Alerts and tables that end the process that reads them: with `isolate=True` they cost a row of the ledger, in Python, the shell and the server"

import io
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time

import fastavro
import fuzz_sets
import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from killing import registry_state
from test_ingest import packet

import astrid_data as ad
from astrid_data.cli import main
from astrid_data.core import BadInput
from astrid_data.images import isolation
from astrid_data.images.sanity import unpacked_stamp

DEADLY = 'ends-its-reader'
#: What Python runs as it begins: libraries that die of the word above, as a C library does of what it does not foresee
FRAGILE = f"""
import os
import fastavro, h5py, pyarrow.parquet as parquet
from astropy.io import fits

def fragile(module, name):
    plain = getattr(module, name)

    def call(source, *args, **kw):
        start = source.tell() if hasattr(source, 'seek') else 0
        data = open(source, 'rb').read() if isinstance(source, (str, os.PathLike)) else source.read()
        if b'{DEADLY}' in data:
            os.abort()
        if hasattr(source, 'seek'):
            source.seek(start)
        return plain(source, *args, **kw)

    setattr(module, name, call)

fragile(fastavro, 'schemaless_reader')
fragile(parquet, 'read_table')
fragile(parquet, 'ParquetFile')
fragile(h5py, 'File')
fragile(fits, 'open')
plain = fits.Header.fromstring
fits.Header.fromstring = lambda data: os.abort() if '{DEADLY}' in str(data) else plain(data)
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    "Workers begin with fragile libraries; this process does not"
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(textwrap.dedent(FRAGILE))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'site'), prepend=os.pathsep)
    isolation._close_all()
    yield
    isolation._close_all()


def flat(k):
    "A packet as a row of a table"
    nested = packet(k)
    stamps = {name: one.pop('stampData') for name, one in nested.items() if 'cutout' in name}
    return nested.pop('candidate') | nested | stamps


def with_comment(stamp, words):
    "A stamp with a comment in its header"
    out = io.BytesIO()
    with fits.open(io.BytesIO(unpacked_stamp(stamp))) as hdus:
        hdus[0].header.update(CRVAL1=10.0, COMMENT=words)
        hdus.writeto(out)
    return out.getvalue()


def write_avro(path, packets):
    kinds = {int: 'long', float: 'double', str: 'string', bytes: 'bytes'}
    fields = [dict(name=name, type=kinds[type(value)]) for name, value in packets[0].items()]
    with open(path, 'wb') as file:
        fastavro.writer(file, dict(type='record', name='alert', fields=fields), packets)


def write_parquet(path, packets):
    pd.DataFrame(packets).to_parquet(path)


@pytest.mark.parametrize('ending, write', [('avro', write_avro), ('parquet', write_parquet)])
def test_a_file_of_alerts_that_ends_its_reader_costs_itself(fragile, tmp_path, ending, write):
    night = tmp_path / 'night'
    night.mkdir()
    for k, word in enumerate(('fine', DEADLY, 'fine')):
        write(night / f'{k}.{ending}', [flat(k) | dict(note=word)])
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_alerts(night, isolate=True, show=False)
    assert report.added == 2 and report.ledger.reason.tolist() == ['crashed'], report.ledger
    assert report.ledger.uri[0].endswith(f'1.{ending}')
    assert archive.add_alerts(night, show=False).added == 1  # Nobody asked: it is read here
    assert not isolation.is_isolating()


def test_a_stamp_that_ends_its_reader_costs_its_alert(fragile, tmp_path):
    deadly = flat(1)
    deadly['cutoutScience'] = with_comment(deadly['cutoutScience'], DEADLY)
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_alerts([packet(0), deadly, packet(2)], isolate=True, show=False)
    assert report.added == 2 and report.ledger.reason.tolist() == ['crashed'], report.ledger


SIDE = 15
HOW = dict(channels=['template', 'science', 'difference'], show=False)


def triplets(n=2, seed=0):
    "Stamps and where they are"
    pixels = np.random.default_rng(seed).normal(100, 9, (n, 3, SIDE, SIDE)).astype('f4')
    return dict(images=pixels, ra=np.arange(n) + 10.0 * seed, dec=np.zeros(n))


def write_hdf5(path, word, **arrays):
    with h5py.File(path, 'w') as file:
        file.attrs['comment'] = word
        for name, array in arrays.items():
            file[name] = array


def test_a_set_of_stamps_that_ends_its_reader_costs_itself(fragile, tmp_path, capsys):
    sets = tmp_path / 'sets'
    sets.mkdir()
    for k, word in enumerate(('fine', DEADLY, 'fine')):
        write_hdf5(sets / f'{k}.h5', word, **triplets(seed=k))
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_stamps(sets, 'mailed', isolate=True, **HOW)
    assert (report.added, report.ledger.reason.tolist()) == (4, ['crashed']), report.ledger
    assert report.ledger.uri.tolist() == ['1.h5']
    words = ['ingest', 'stamps', sets / '1.h5', '--survey', 'mailed', '--isolate']
    assert main([*map(str, words), '--home', str(tmp_path / 'home')]) not in (0, None)
    assert 'the process that read it died' in capsys.readouterr().err
    assert archive.add_stamps(sets / '1.h5', 'mailed', **HOW).added == 2  # It is read here


class Deadly:
    "What ends the process that it is sent to"

    def __reduce__(self):
        return os.abort, ()


def test_a_stamp_that_ends_its_reader_costs_itself(tmp_path):
    archive = ad.open_archive(tmp_path / 'home')
    how = dict(ra=1.0, dec=2.0)
    some = [dict(id=str(k), science=one[1], **how) for k, one in enumerate(triplets(3)['images'])]
    some[1]['note'] = Deadly()
    report = archive.add_stamps(some, 'memory', isolate=True, show=False)
    assert (report.added, report.ledger.reason.tolist()) == (2, ['crashed']), report.ledger


def test_what_comes_from_apart_is_what_is_read_here(tmp_path):
    both, sets = [], tmp_path / 'sets'
    sets.mkdir()
    write_hdf5(sets / 'x.h5', 'fine', **triplets(), label=[b'real', b'bogus'])
    for isolate in (False, True):
        archive = ad.open_archive(tmp_path / f'home{isolate}')
        report = archive.add_stamps(sets, 'mailed', is_real='label', isolate=isolate, **HOW)
        assert report.added == 2 and not len(report.ledger), report.ledger
        both.append((registry_state(archive), report.notes, report.missing.to_csv()))
    assert both[0] == both[1]


#: In a process without other children, since the largest of all is what the system remembers
ADD_AND_WEIGH = """
import json, resource, sys
import astrid_data as ad
from astrid_data.images import isolation

path, home, how = sys.argv[1:]
report = ad.open_archive(home).add_stamps(path, 'mailed', isolate=True, **json.loads(how))
isolation._close_all()
most_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([report.added, report.ledger.reason.tolist(), most_kb]))
"""


@pytest.mark.parametrize('number, stamps', [(1301, 0), (5293, 3)])
def test_what_hung_the_library_or_took_all_memory_costs_itself(
    tmp_path, monkeypatch, number, stamps
):
    "Of the fuzzing of HDF5: a heap without end hung for ever, a cell that says 2.1 GB took them"
    path = tmp_path / 'x.h5'
    monkeypatch.setattr(fuzz_sets, '_take_in', lambda rng, made, *a, **k: shutil.copy(made, path))
    (tmp_path / 'made').mkdir()
    fuzz_sets.hdf5(random.Random(f'13/{number}'), tmp_path / 'made')
    monkeypatch.setenv('ASTRID_MAX_SECONDS', '10')
    told = subprocess.run(
        [sys.executable, '-c', ADD_AND_WEIGH, path, tmp_path / 'home', json.dumps(HOW)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    added, reasons, most_kb = json.loads(told.stdout.splitlines()[-1])
    assert (added, reasons) == (stamps, ['unreadable']), told.stderr
    assert 20_000 < most_kb < 1_000_000


class Endless:
    "What its reader never ends with"

    def __reduce__(self):
        return time.sleep, (600,)


def test_a_stamp_that_never_ends_costs_itself(tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_MAX_SECONDS', '10')
    archive = ad.open_archive(tmp_path / 'home')
    how = dict(ra=1.0, dec=2.0)
    some = [dict(id=str(k), science=one[1], **how) for k, one in enumerate(triplets(3)['images'])]
    some[1]['note'] = Endless()
    report = archive.add_stamps(some, 'memory', isolate=True, show=False)
    assert (report.added, report.ledger.reason.tolist()) == (2, ['too_slow']), report.ledger


def test_a_catalogue_that_ends_its_reader_is_an_error_of_its_own(fragile, tmp_path, capsys):
    path = tmp_path / 'truth.parquet'
    pd.DataFrame(dict(ra=[1.0], dec=[2.0], name=[DEADLY])).to_parquet(path)
    archive = ad.open_archive(tmp_path / 'home')
    with pytest.raises(BadInput, match='truth.parquet: the process that read it died'):
        archive.add_catalogue(path, 'truth', isolate=True)
    words = ['ingest', 'catalogue', path, 'truth', '--isolate', '--home', tmp_path / 'home']
    assert main(list(map(str, words))) not in (0, None)
    assert 'the process that read it died' in capsys.readouterr().err
    other = tmp_path / 'other.parquet'
    pd.DataFrame(dict(ra=[1.0], dec=[2.0])).to_parquet(other)
    assert archive.add_catalogue(other, 'truth', isolate=True).rows == 0  # No image holds it


def test_a_folder_of_scripts_does_not_replace_what_a_worker_needs(tmp_path):
    "A script beside a file re.py ran, and its worker did not start"
    (tmp_path / 're.py').write_text('')
    write_hdf5(tmp_path / 'x.h5', 'fine', **triplets(), label=[b'real', b'bogus'])
    script = tmp_path / 'script.py'
    lines = (
        'import re, sys',
        f'sys.path.insert(0, {str(tmp_path)!r})',
        ADD_AND_WEIGH,
    )
    script.write_text('\n'.join(lines))
    words = [sys.executable, '-P', script, tmp_path / 'x.h5', tmp_path / 'home', json.dumps(HOW)]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout.splitlines()[-1])[:2] == [2, []]
