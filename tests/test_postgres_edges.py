"On PostgreSQL as on SQLite: one bad item stops nothing, and only another pixel of another exposure confirms"

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from awkward import write_awkward
from test_awkward_files import catalogue
from test_boundaries_confirm import Shot, add, outcome, second, write
from test_datasets import write_images

import astrid_data as ad

pytestmark = [
    pytest.mark.filterwarnings('ignore'),
    pytest.mark.filterwarnings('ignore::astrid_data.core.SyntheticDataWarning'),
]


@pytest.fixture
def both(pg_url, tmp_path):
    "An archive in SQLite and one in PostgreSQL"
    homes = {name: tmp_path / name for name in ('sqlite', 'postgresql')}
    urls = dict(sqlite=None, postgresql=pg_url)
    return [ad.open_archive(urls[name], str(home / 'store'), home) for name, home in homes.items()]


def ledger_of(report):
    return report.ledger.sort_values(['uri', 'reason'])[['uri', 'reason']].values.tolist()


def through(archive, paths, good):
    "Reports of each verb that writes, and a plan"
    reports = dict(add_fits=archive.add_fits(paths, survey='s', detect=False, show=False))
    reports['detect'] = archive.detect(show=False, nsigma=20.0)
    table = catalogue(good)
    reports['catalogue'] = archive.add_catalogue(table, is_real='verdict', name='people')
    params = dict(validation_status='any', confidence_threshold=None, quality_score_threshold=None)
    return reports, ad.TrainingDataCollector(archive).plan(**params, progress=False)


def test_awkward_files_cost_themselves_on_both(both, tmp_path):
    bad = write_awkward(tmp_path / 'bad')[::12]  # All of them on SQLite: test_awkward_files.py
    good = write_images(tmp_path / 'good', n=2, side=80)
    paths = sorted(map(str, [*bad, *good]))
    (here, plan), (there, other_plan) = (through(archive, paths, good) for archive in both)
    for verb, report in here.items():
        assert ledger_of(there[verb]) == ledger_of(report), verb
        assert 'unexpected' not in set(there[verb].ledger.reason)
    assert here['add_fits'].added == there['add_fits'].added > 2
    assert len(here['add_fits'].ledger) >= 3 and len(plan.samples) > 10
    assert other_plan.plan_hash == plan.plan_hash


LONG = 'x' * 67  # What a card has room for
NASTY = {  # Cards of one file each; the registry has less room for some of them
    'unit': dict(BUNIT=LONG),
    'filter': dict(FILTER=LONG),
    'telescope': dict(TELESCOP=LONG, INSTRUME=LONG, DETECTOR=LONG),
    'name': dict(EXPNAME=LONG, OBS_ID=LONG),
    'far time': {'MJD-OBS': 99_999.25},
    'long exposure': dict(EXPTIME=1e300),
    'short exposure': dict(EXPTIME=1e-300),
    'large zero point': dict(FLUXMAG0=1e300),
    'large saturation': dict(SATURATE=1e38),
    'quotes': dict(OBJECT="'; drop table observations; --", FILTER='r\'"'),
    'percent': dict(FILTER='%s %(a)s', OBS_ID='%%'),
    'backslash': dict(OBS_ID='a\\x00b', FILTER='\\'),
    'name of null': dict(OBS_ID='null', FILTER='null'),
}


def nasty_files(folder):
    folder.mkdir()
    step = 0.5 / 3600
    place = dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRPIX1=32.5, CRPIX2=32.5)
    place |= dict(CDELT1=-step, CDELT2=step, CRVAL2=2.0)
    rng = np.random.default_rng(3)
    paths = []
    for n, cards in enumerate(NASTY.values()):
        header = fits.Header(place | dict(CRVAL1=10.0 + n) | cards)
        pixels = rng.normal(100, 3, (64, 64)).astype('f4')
        paths.append(folder / f'{n:02d}.fits')
        fits.PrimaryHDU(pixels, header).writeto(paths[-1])
    return paths


def test_cards_of_any_length_are_stored_alike(both, tmp_path):
    paths = nasty_files(tmp_path / 'nasty')
    reports = [archive.add_fits(paths, 's', detect=False, show=False) for archive in both]
    for report in reports:
        assert ledger_of(report) == []
        assert report.added == len(NASTY)
    here, there = (archive.observations().drop(columns='observation_id') for archive in both)
    pd.testing.assert_frame_equal(here, there)


ROWS = [
    dict(object_id='plain'),
    dict(object_id='n' * 256),
    dict(object_id='nul\x00here'),
    dict(object_id='half \ud83d of a pair'),
    dict(object_id=str(10**40)),
    dict(class_name='c' * 60),
    dict(class_name='nul\x00'),
    dict(mag=1e300),
    dict(mag=float('inf')),
    dict(snr=-1e308),
    dict(score=1.5),
    dict(score='often'),
    dict(ra='1e400'),
    dict(dec=91.0),
    dict(object_id="'; drop table detections; --"),
]


def test_rows_that_no_database_likes_cost_themselves_on_both(both, tmp_path):
    paths = nasty_files(tmp_path / 'nasty')[:1]
    step = 1e-4
    filled = dict(ra=10.0, dec=2.0, object_id='a', class_name='star', mag=20.0, snr=9.0, score=0.5)
    rows = [filled | dict(ra=10.0 + n * step) | row for n, row in enumerate(ROWS)]
    table = [dict(row) for row in rows]  # pandas refuses half a pair of letters
    reports = []
    for archive in both:
        archive.add_fits(paths, 's', detect=False, show=False)
        names = dict(object_id='object_id', class_name='class_name', mag='mag', snr='snr')
        reports.append(archive.add_catalogue(table, 'people', is_real=True, score='score', **names))
    here, there = reports
    assert ledger_of(here) == ledger_of(there) and 0 < len(here.ledger) < len(ROWS)
    assert here.detections == there.detections == len(ROWS) - len(here.ledger)
    columns = ['ra', 'dec', 'mag', 'snr', 'score', 'object_id', 'class_name']
    tables = [archive.detections() for archive in both]
    kept = [column for column in columns if column in tables[0]]
    tables = [table[kept].sort_values(['ra'], ignore_index=True) for table in tables]
    pd.testing.assert_frame_equal(*tables)


@pytest.fixture
def there(pg_url, tmp_path):
    return ad.open_archive(pg_url, str(tmp_path / 'store'), tmp_path / 'home')


def test_another_pixel_of_another_exposure_confirms(there, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 0.0))
    add(there, tmp_path, *shots)
    assert outcome(there, shots[0]) == (7, 0)


def test_the_same_pixels_confirm_nothing(there, tmp_path):
    shots = Shot(), Shot(**second)
    report = add(there, tmp_path, *shots)
    assert outcome(there, shots[0]) == (0, 0) and report.detections > 10


def test_the_same_exposure_confirms_nothing(there, tmp_path):
    "Under another survey, resampled by half a pixel and called another band"
    first, other = Shot(), Shot(band='r', name='e2', shift=(7.3, 0.0))
    there.add_fits(write(tmp_path, first), 'one', show=False)
    there.add_fits(write(tmp_path, other), 'two', show=False)
    assert outcome(there, first) == (0, 0)


def test_a_bad_file_between_costs_no_confirmation(there, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 0.0))
    paths = [write(tmp_path, shot) for shot in shots]
    cut = tmp_path / 'cut.fits'
    cut.write_bytes(paths[0].read_bytes()[:40_000])
    report = there.add_fits([paths[0], cut, tmp_path / 'gone.fits', paths[1]], show=False)
    assert report.added == 2 and len(report.ledger) == 2
    assert outcome(there, shots[0]) == (7, 0)
