"""Alerts: sources of any kind, files that are something else, bands, refused rows, and the same alert again."""

import bz2
import gzip
import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import func, select
from test_boundaries_leaks import BASE, flat_row, nested, stamp, write_avro

import astrid_data as ad
from astrid_data.registry.tables import Observation, RowRefused

pytest.importorskip('pyarrow')


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(str(tmp_path / 'archive'))


def stored(archive):
    with archive.session() as session:
        return session.scalar(select(func.count()).select_from(Observation))


def parquet(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(list(rows)).to_parquet(path)
    return path


# Labels


@pytest.mark.parametrize('word', ['Real!', 'REAL', '1', 1, 0.9])
def test_a_label_that_is_no_verdict_is_said(archive, word):
    rows = [flat_row(0, label_proxy=word), flat_row(1, label_proxy='real'), flat_row(2)]
    rows += [flat_row(3, label_proxy=missing) for missing in (None,)]
    report = archive.add_alerts(rows, show=False)
    said = [note for note in report.notes if 'is neither real nor bogus' in note]
    assert report.added == 4 and len(said) == 1 and said[0].startswith('1 alert:')
    assert sum(report.verdicts.values()) == 1


# Sources


def test_patterns_folders_and_files_stand_for_the_same(archive, tmp_path):
    night = tmp_path / 'night'
    for i in range(3):
        parquet(night / f'part{i}.parquet', flat_row(i))
    parquet(night / 'deep' / 'part3.PARQUET', flat_row(3))
    write_avro(night / 'part4.avro', [nested(4)])
    assert archive.add_alerts(str(night / '*.parquet'), show=False).added == 3
    assert archive.add_alerts(night / 'part?.avro', show=False).added == 1
    assert archive.add_alerts([str(night / '**' / '*.PARQUET')], show=False).added == 1
    report = archive.add_alerts(night, show=False)
    assert (report.added, report.skipped, len(report.ledger)) == (0, 5, 0)


def test_a_name_with_the_signs_of_a_pattern_is_a_name(archive, tmp_path):
    parquet(tmp_path / 'night[1].parquet', flat_row(0))
    parquet(tmp_path / 'night1.parquet', flat_row(1))
    report = archive.add_alerts(str(tmp_path / 'night[1].parquet'), show=False)
    assert report.added == 1 and report.ledger.empty
    assert archive.add_alerts(str(tmp_path / 'night[12].parquet'), show=False).added == 1


def test_what_stands_for_nothing_is_in_the_ledger(archive, tmp_path):
    (tmp_path / 'empty').mkdir()
    sources = [tmp_path / '*.avro', tmp_path / 'empty', tmp_path / 'nowhere.avro', 'a\0b.avro']
    report = archive.add_alerts([*map(str, sources)], show=False)
    reasons = ['missing_file', 'no_alert_file', 'missing_file']
    assert list(report.ledger.reason)[:3] == reasons and len(report.ledger) == 4


def _fits_bytes():
    out = io.BytesIO()
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(out)
    return out.getvalue()


def _npz_bytes():
    out = io.BytesIO()
    np.savez(out, a=np.zeros(3))
    return out.getvalue()


OTHERS = {
    'npz': (_npz_bytes(), 'ZIP'),
    'csv': (b'ra,dec\n1,2\n', 'begins with'),
    'json': (json.dumps(dict(candid=1)).encode(), 'JSON'),
    'json list': (b'\n [{"candid": 1}]', 'JSON'),
    'fits': (_fits_bytes(), 'FITS'),
    'empty': (b'', 'empty'),
    'gzip': (gzip.compress(b'ra,dec\n1,2\n'), 'begins with'),
    'bzip2': (bz2.compress(b'[1]'), 'JSON'),
    'hdf5': (b'\x89HDF\r\n\x1a\n', 'HDF5'),
    'web page': (b'<!DOCTYPE html><html>', 'web page'),
    'noise': (bytes(range(200, 256)), 'begins with'),
}


@pytest.mark.parametrize('ending', ['.avro', '.parquet', '', '.gz'])
def test_files_of_another_kind_are_named_and_cost_themselves(archive, tmp_path, ending):
    paths = []
    for name, (content, _) in OTHERS.items():
        paths.append(tmp_path / f'{name}{ending}')
        paths[-1].write_bytes(content)
    good = parquet(tmp_path / 'good.parquet', flat_row(0))
    report = archive.add_alerts([*paths, good], show=False)
    assert (report.added, list(report.ledger.reason)) == (1, ['unreadable'] * len(OTHERS))
    for (_, words), detail, path in zip(OTHERS.values(), report.ledger.detail, paths):
        assert words in detail and path.name in detail and 'AVRO or Parquet' in detail


def test_the_first_bytes_tell_the_kind_and_not_the_name(archive, tmp_path):
    parquet(tmp_path / 'a.parquet', flat_row(0)).rename(tmp_path / 'a.avro')
    write_avro(tmp_path / 'b', [nested(1)])
    report = archive.add_alerts([tmp_path / 'a.avro', tmp_path / 'b'], show=False)
    assert (report.added, len(report.ledger)) == (2, 0)


def test_folders_with_the_name_of_a_file_and_links_to_nowhere(archive, tmp_path):
    parquet(tmp_path / 'night.parquet' / 'part.parquet', flat_row(0))
    (tmp_path / 'lost.avro').symlink_to(tmp_path / 'gone.avro')
    report = archive.add_alerts(tmp_path, show=False)
    assert (report.added, report.skipped) == (1, 0)
    assert list(report.ledger.reason) == ['missing_file']


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may read all')
def test_a_file_that_may_not_be_read_costs_itself(archive, tmp_path):
    closed = parquet(tmp_path / 'closed.parquet', flat_row(0))
    closed.chmod(0)
    report = archive.add_alerts([closed, parquet(tmp_path / 'b.parquet', flat_row(1))], show=False)
    assert (report.added, len(report.ledger)) == (1, 1)


# Bands


@pytest.mark.parametrize('fid', ['2', 2, 2.0, '2.0', b'2', ' 2 ', np.int64(2)])
def test_the_number_of_a_band_in_any_dress(archive, fid):
    assert archive.add_alerts([flat_row(0, fid=fid)], show=False).added == 1
    assert list(archive.detections().band) == ['r']
    report = archive.add_alerts([flat_row(0, fid=2)], show=False)
    assert (report.skipped, len(report.ledger)) == (1, 0)


def test_the_number_of_a_band_as_a_column_of_text(archive, tmp_path):
    path = parquet(tmp_path / 'a.parquet', *[flat_row(i, fid=str(i + 1)) for i in range(3)])
    archive.add_alerts(path, show=False)
    assert sorted(archive.detections().band) == ['g', 'i', 'r']


# Alerts that the database refuses


def refuse(monkeypatch, is_bad):
    import astrid_data.ingest.alerts as page

    plain = page.bulk_insert

    def insert(session, table, rows):
        if table is Observation and any(is_bad(row) for row in rows):
            raise RowRefused('value out of range')
        return plain(session, table, rows)

    monkeypatch.setattr(page, 'bulk_insert', insert)


@pytest.mark.parametrize('chunk', [1, 2, 500])
def test_a_refused_alert_is_not_there_already(archive, monkeypatch, chunk):
    refuse(monkeypatch, lambda row: row['exposure_time'] > 1e4)
    bad, good = flat_row(0, exptime=1e5), flat_row(0)
    report = archive.add_alerts([flat_row(1), bad, good, good], show=False, chunk=chunk)
    assert (report.added, report.skipped, list(report.ledger.reason)) == (2, 1, ['refused_row'])
    assert stored(archive) == 2


@pytest.mark.parametrize('chunk', [1, 500])
def test_copies_of_a_refused_alert_are_refused_each(archive, monkeypatch, chunk):
    refuse(monkeypatch, lambda row: row['observation_id'] == str(BASE))
    report = archive.add_alerts([flat_row(0)] * 3 + [flat_row(1)], show=False, chunk=chunk)
    assert (report.added, report.skipped) == (1, 0)
    assert list(report.ledger.reason) == ['refused_row'] * 3
    assert stored(archive) == 1


# The same alert again


CHANGED = {
    'magpsf': dict(magpsf=17.5),
    'sigmapsf': dict(sigmapsf=0.3),
    'rb': dict(rb=0.1),  # Which the first did not have
    'drb': dict(drb=0.2),
    'drbversion': dict(drbversion='d6_m7'),
    'isdiffpos': dict(isdiffpos='f'),
    'position': dict(ra=150.0 + 1 / 3600),
    'jd': dict(jd=2458900.51),
    'fid': dict(fid=2),
    'pid': dict(pid=1160481234567890124),  # The last of 19 digits
    'visit': dict(visit='2020010100043'),
    'jdstarthist': dict(jdstarthist=2459000.5),  # 200 days, less than 1e-4 of the number
    'objectId': dict(objectId='ZTF20zzzzzzz'),
    'history': dict(prv_candidates=[dict(candid=BASE - 5)]),
    'cutoutScience': dict(cutoutScience=stamp(77)),
    'cutoutTemplate': dict(cutoutTemplate=stamp(77)),
    'label_proxy': dict(label_proxy='bogus', label_basis='made up'),
}
FIRST = dict(
    pid=1160481234567890123,
    visit='2020010100042',
    jdstarthist=2458800.5,
    isdiffpos='t',
    drbversion='d6_m6',
    prv_candidates=[dict(candid=BASE - 7)],
    label_proxy='real',
    label_basis='made up',
)


@pytest.mark.parametrize('name', CHANGED)
def test_each_field_that_differs_is_named_and_the_first_stays(archive, name):
    archive.add_alerts([flat_row(0, **FIRST)], show=False)
    before = archive.detections()
    for _ in range(2):
        report = archive.add_alerts([flat_row(0, **FIRST | CHANGED[name])], show=False)
        assert (report.added, report.skipped) == (0, 0)
        (row,) = report.ledger.itertuples()
        assert row.reason == 'other_values' and row.detail.startswith(f'{name} ')
        assert row.detail.count(' there, ') == 1 and row.detail.endswith('the first stays')
    pd.testing.assert_frame_equal(archive.detections(), before)


def test_many_fields_that_differ_are_all_named(archive):
    archive.add_alerts([flat_row(0, **FIRST)], show=False)
    other = {key: value for some in CHANGED.values() for key, value in some.items()}
    report = archive.add_alerts([flat_row(0, **other)], show=False)
    assert all(name in report.ledger.detail[0] for name in CHANGED)


SAME = {
    'equal': {},
    'as text': dict(magpsf='18.0', drb='0.9', fid='1', isdiffpos='true'),
    'truth as a number': dict(isdiffpos=1),
    'rounded': dict(magpsf=18.00002, ra=150.00004, jd=2458900.500001),
    'without some': dict(drb=None, prv_candidates=None, label_proxy=None, drbversion=None),
    'packed anew': dict(cutoutScience=gzip.compress(gzip.decompress(stamp(1)), 1, mtime=9)),
    'not packed': dict(cutoutScience=gzip.decompress(stamp(1))),
    'other cards': dict(cutoutScience=stamp(1, ORIGIN='a broker')),
    'unsure': dict(label_proxy='unsure'),
}


@pytest.mark.parametrize('how', SAME)
def test_what_is_equal_is_there_already(archive, how):
    archive.add_alerts([flat_row(0, **FIRST)], show=False)
    report = archive.add_alerts([flat_row(0, **FIRST | SAME[how])], show=False)
    assert (report.added, report.skipped, len(report.ledger)) == (0, 1, 0)


@pytest.mark.parametrize(
    'name, first, rounded, other',
    [
        ('magpsf', 18.0, 18.0017, 18.0019),  # 1e-4 of it
        ('jd', 2458900.5, 2458900.5 + 0.9 / 86400, 2458900.5 + 1.1 / 86400),
        ('dec', 30.0, 30 + 0.29 / 3600, 30 + 0.31 / 3600),
    ],
)
def test_rounding_ends_where_it_is_said_to_end(archive, name, first, rounded, other):
    archive.add_alerts([flat_row(0, **{name: first})], show=False)
    found = {}
    for value in (rounded, other):
        report = archive.add_alerts([flat_row(0, **{name: value})], show=False)
        found[value] = report.skipped, len(report.ledger)
    assert found == {rounded: (1, 0), other: (0, 1)}


def test_two_of_one_batch_are_compared_too(archive):
    pair = [flat_row(0), flat_row(0, magpsf=17.0), flat_row(0)]
    report = archive.add_alerts(pair, show=False)
    assert (report.added, report.skipped, len(report.ledger)) == (1, 1, 1)


def test_a_stamp_that_is_gone_from_the_store_costs_its_alert(archive, tmp_path):
    archive.add_alerts([flat_row(0), flat_row(1)], show=False)
    for file in (tmp_path / 'archive').rglob('cas/*/*'):
        file.unlink()
    changed = flat_row(0, cutoutScience=stamp(77))
    report = archive.add_alerts([changed, flat_row(1)], show=False)
    assert report.added + report.skipped + len(report.ledger) == 2 and len(report.ledger) == 1
