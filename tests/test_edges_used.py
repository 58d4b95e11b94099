"What was found beside an image is used, or the report and the image say that it is not and why"

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import select
from test_datasets import write_images

import astrid_data as ad
from astrid_data.registry.tables import Image

pytestmark = pytest.mark.filterwarnings('ignore')
SIDE = 100


def mask_of(value, rows=SIDE, kind='u1'):
    mask = np.zeros((SIDE, SIDE), kind)
    mask[:rows] = value
    return mask


def taken_in(tmp_path, mask, given=False, detect=True, **cards):
    "The report on an image with a mask beside it, and the row of the image (None where it is lost)"
    [path] = write_images(tmp_path / 'sky', n=1, side=SIDE)
    for name, value in cards.items():
        fits.setval(path, name, value=value)
    beside = path.with_name('field0_mask.fits')
    fits.PrimaryHDU(mask).writeto(beside)
    archive = ad.open_archive(tmp_path / 'home')
    dq = dict(dq=str(beside)) if given else {}
    report = archive.add_fits(str(path.parent), survey='s', show=False, detect=detect, **dq)
    with archive.session() as session:
        row = session.scalar(select(Image))
        facts = row and dict(row.facts, policy=row.dq_policy)
    return report, facts


@pytest.mark.parametrize(
    'mask, why',
    [
        (mask_of(255), 'have no names here'),
        (mask_of(255, rows=10), 'have no names here'),
        (mask_of(1), 'perhaps the good'),
        (np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) < 50, 0, mask_of(1)), 'perhaps the good'),
    ],
    ids=['all 255', 'some 255', 'all 1', 'nearly all 1'],
)
def test_a_mask_that_is_not_used_is_said_not_to_be(tmp_path, mask, why):
    report, facts = taken_in(tmp_path, mask)
    assert report.added == 1 and report.detections > 0
    assert len(report.notes) == 1
    assert 'field0_mask.fits' in report.notes[0] and why in report.notes[0]
    assert 'not used' in report.notes[0]
    assert 'not used' in facts['missing']['dq'] and why in facts['missing']['dq']
    assert facts['policy'] is None and facts['beside'] == {}
    assert 'not used' in repr(report)


@pytest.mark.parametrize('rows', [10, 98])
def test_a_mask_that_is_used_is_not_called_unused(tmp_path, rows):
    report, facts = taken_in(tmp_path, mask_of(1, rows), detect=False)
    assert not any('not used' in note for note in report.notes) and report.helpers == 1
    assert facts['policy'] == 'nonzero' and set(facts['beside']) == {'dq'}


def test_a_mask_that_takes_little_has_no_note(tmp_path):
    report, facts = taken_in(tmp_path, mask_of(1, rows=10))
    assert report.notes == [] and report.helpers == 1
    assert facts['policy'] == 'nonzero' and set(facts['beside']) == {'dq'}


DECAM = dict(INSTRUME='DECam', TELESCOP='CTIO 4.0-m telescope')


@pytest.mark.parametrize(
    'given, mask, cards',
    [(False, mask_of(6, kind='i4'), DECAM), (True, mask_of(1), {})],
    ids=['named bits', 'handed over'],
)
def test_a_mask_that_leaves_nothing_is_blamed(tmp_path, given, mask, cards):
    report, facts = taken_in(tmp_path, mask, given, **cards)
    assert facts is None and len(report.ledger) == 1
    detail = report.ledger.detail[0]
    assert 'field0_mask.fits' in detail and '100.0% of its pixels bad' in detail


@pytest.mark.parametrize('rows', [98, 100])
def test_a_mask_that_leaves_next_to_nothing_is_noted_without_a_search(tmp_path, rows):
    "98 of 100 rows are believed without a word"
    report, facts = taken_in(tmp_path, mask_of(6, rows, 'i4'), detect=False, **DECAM)
    assert report.added == 1 and facts['policy'] == 'decam'
    said = [note for note in report.notes if 'of its pixels bad' in note]
    assert len(said) == (rows == 100)


def test_an_error_map_without_errors_is_not_used(tmp_path):
    [path] = write_images(tmp_path / 'sky', n=1, side=SIDE)
    beside = path.with_name('field0_err.fits')
    fits.PrimaryHDU(np.zeros((SIDE, SIDE), 'f4'), fits.getheader(path)).writeto(beside)
    report = ad.open_archive(tmp_path / 'home').add_fits(
        str(path.parent), survey='s', show=False, detect=False
    )
    assert report.added == 1
    assert any('field0_err.fits' in note and 'not used' in note for note in report.notes), report
