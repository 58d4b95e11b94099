"Alerts and tables that end the process that reads them: with `isolate=True` they cost a row of the ledger, in Python, the shell and the server"

import io
import textwrap

import fastavro
import pandas as pd
import pytest
from astropy.io import fits
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
import fastavro, pyarrow.parquet as parquet
from astropy.io import fits

def fragile(module, name):
    plain = getattr(module, name)

    def call(source, *args, **kw):
        data = open(source, 'rb').read() if isinstance(source, (str, os.PathLike)) else source.read()
        if b'{DEADLY}' in data:
            os.abort()
        if hasattr(source, 'seek'):
            source.seek(0)
        return plain(source, *args, **kw)

    setattr(module, name, call)

fragile(fastavro, 'reader')
fragile(parquet, 'read_table')
fragile(parquet, 'ParquetFile')
fragile(fits, 'open')
plain = fits.Header.fromstring
fits.Header.fromstring = lambda data: os.abort() if '{DEADLY}' in str(data) else plain(data)
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    "Workers begin with fragile libraries; this process does not"
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(textwrap.dedent(FRAGILE))
    monkeypatch.syspath_prepend(str(tmp_path / 'site'))
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
