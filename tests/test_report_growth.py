"What a report costs does not grow with the square of what is lost"

import numpy as np
import pandas as pd
import pytest
from pandas.core.indexing import _LocIndexer

import astrid_data as ad
from astrid_data.ingest.archive import IngestReport


def no_alerts(n):
    return [dict(candid=10**18 + i, objectId='ZTF24aaaaaaa') for i in range(n)]


def lose_alerts(archive, n):
    return archive.add_alerts(no_alerts(n), survey='ztf', show=False)


def lose_files(archive, n):
    return archive.add_fits([f'no-{i}.fits' for i in range(n)], show=False)


def lose_rows(archive, n):
    places = pd.DataFrame(dict(ra=np.full(n, 400.0), dec=np.zeros(n)))
    return archive.add_catalogue(places, 'nowhere')


@pytest.mark.parametrize('lose', [lose_alerts, lose_files, lose_rows])
def test_no_table_is_made_for_each_loss(lose, tmp_path, monkeypatch):
    "A table that grows row by row is copied for each of them"
    worked = []

    def counted(work):
        def wrapped(*args, **kw):
            worked.append(work)
            return work(*args, **kw)

        return wrapped

    archive = ad.open_archive(tmp_path)
    for kind, name in ((pd.DataFrame, '__init__'), (_LocIndexer, '__setitem__')):
        monkeypatch.setattr(kind, name, counted(getattr(kind, name)))
    numbers = []
    for n in (20, 200):
        worked.clear()
        report = lose(archive, n)
        numbers.append(len(worked))
        assert len(report.lost) == n
    assert numbers[1] <= numbers[0] + 5, numbers


def test_a_report_shows_each_loss_once():
    report = IngestReport()
    assert list(report.ledger) == ['uri', 'reason', 'detail'] and not len(report.ledger)
    for i in range(3):
        report.lose(f'{i}.fits', 'no_wcs', 'why')
    assert report.ledger['uri'].tolist() == ['0.fits', '1.fits', '2.fits']
    assert report.ledger.equals(report.ledger) and '3 lost (no_wcs 3)' in repr(report)
