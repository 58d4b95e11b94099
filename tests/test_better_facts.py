"The same bytes once more: what is known better follows, what a caller told stays, and what confirms nothing is said"

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import select, update
from stamping import pixels
from test_datasets import write_images
from test_light_curves import packet

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.ingest.known_files import KnownFiles
from astrid_data.plain_words import columns_of
from astrid_data.registry.tables import (
    DetectionIndex,
    EpochRow,
    FileRow,
    Image,
    Observation,
    get_or_create_survey,
)

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def field(tmp_path):
    return write_images(tmp_path / 'fits', n=1, side=260)[0]


@pytest.fixture
def archive(tmp_path):
    return ad.open_archive(tmp_path / 'home')


def add(archive, path, **how):
    return archive.add_fits(path, **dict(survey='toy', show=False) | how)


def band(archive):
    return archive.observations()['band'].tolist()


def as_of_an_older_release(archive, **values):
    "Rows as a release wrote them that read less"
    with archive.session() as session:
        session.execute(update(Observation).values(**values))
        session.execute(update(FileRow).values(asked='{"hdu":null,"role":null}'))
        for image in session.scalars(select(Image)):
            image.facts = {k: v for k, v in image.facts.items() if k != 'told'}


@pytest.mark.parametrize('before', ['unknown', 'CLEAR+r'])
def test_a_band_that_is_read_better_now_follows(archive, field, before):
    add(archive, field)
    as_of_an_older_release(archive, filter_band=before)
    report = add(archive, field)
    assert (report.added, report.skipped, dict(report.changed)) == (0, 1, {'band': 1})
    assert band(archive) == ['r'] and 'with another band' in repr(report)
    assert not add(archive, field).changed


def test_what_a_caller_told_stays_until_a_caller_tells_otherwise(archive, field):
    add(archive, field, facts=dict(band='F606W'))
    assert not add(archive, field).changed and band(archive) == ['F606W']
    report = add(archive, field, facts=dict(band='g', mjd=59001.5))
    assert band(archive) == ['g'] and dict(report.changed) == dict(band=1, time=1)
    assert archive.observations()['observation_time'][0].hour == 12


def test_magnitudes_follow_a_zero_point(archive, field):
    add(archive, field)

    def mags():
        with archive.session() as session:
            return session.scalars(select(DetectionIndex.mag).order_by(DetectionIndex.snr)).all()

    assert set(mags()) == {None}
    assert add(archive, field, facts=dict(zero_point=25.0)).changed == {'zero point': 1}
    first = mags()
    add(archive, field, facts=dict(zero_point=26.0))
    assert np.allclose(np.array(mags()) - first, 1)
    fresh = ad.open_archive(archive.home / 'fresh')
    add(fresh, field, facts=dict(zero_point=26.0))
    with fresh.session() as session:
        own = session.scalars(select(DetectionIndex.mag).order_by(DetectionIndex.snr)).all()
    assert np.allclose(own, mags())


def test_a_file_is_read_again_by_another_release_and_searched_by_none(archive, field, monkeypatch):
    import os
    import time

    old = time.time() - 3600
    os.utime(field, (old, old))
    add(archive, field)
    reads = []
    count = KnownFiles.n_unchanged
    monkeypatch.setattr(KnownFiles, 'n_unchanged', lambda *a: reads.append(count(*a)) or reads[-1])
    add(archive, field)
    monkeypatch.setattr(ad, '__version__', '99.0')
    add(archive, field)
    add(archive, field)
    assert reads == [1, 0, 1]
    with archive.session() as session:
        assert session.scalar(select(FileRow.asked)).startswith('{"hdu":null,"role":null}')


def test_an_unknown_survey_and_band_are_in_the_table_of_what_is_missing(archive, field):
    with fits.open(field, mode='update') as file:
        del file[0].header['FILTER']
    report = archive.add_fits(field, show=False)
    why = dict(report.missing[['fact', 'why']].values.tolist())
    assert why['survey'] == 'no card names it: give survey=' and why['band'] == 'no card gives it'
    assert 'band of 1 image (no card gives it)' in repr(report)


def pair_of(field, tmp_path, dx):
    "A second exposure in another band, of the same pointing or of one moved by some pixels"
    with fits.open(field) as file:
        header, sky = file[0].header, file[0].data
        for name, value in dict(INSTRUME='cam', DETECTOR='1', TELESCOP='scope').items():
            header[name] = value
        file.writeto(tmp_path / 'a.fits')
        header['FILTER'], header['MJD-AVG'] = 'i', header['MJD-AVG'] + 1
        header['CRVAL1'] -= header['CDELT1'] * dx / np.cos(np.radians(5))
        noise = np.random.default_rng(1).normal(0, 5, sky.shape)
        fits.PrimaryHDU((np.roll(sky, dx, 1) + noise).astype('f4'), header).writeto(
            tmp_path / 'b.fits'
        )
    return [tmp_path / 'a.fits', tmp_path / 'b.fits']


def test_a_pair_that_was_not_dithered_is_said_to_confirm_nothing(archive, field, tmp_path):
    report = add(archive, pair_of(field, tmp_path, 0))
    assert 'pairs of images that confirm nothing: undithered' in repr(report)
    assert sum(report.doubts.values()) == 1


def test_a_pair_that_was_dithered_confirms_and_nothing_is_said(archive, field, tmp_path):
    report = add(archive, pair_of(field, tmp_path, 12))
    assert not report.doubts and sum(report.verdicts.values())


@pytest.mark.parametrize('column', [dict(id='stamp'), dict(file='npy')])
@pytest.mark.parametrize('where', ['inside', 'beside'])
def test_a_folder_of_numbered_stamps_with_a_table_is_read(archive, tmp_path, column, where):
    [(name, ending)] = column.items()
    folder = tmp_path / 'stamps'
    folder.mkdir()
    for k in range(3):
        np.save(folder / f'stamp_{k:04d}.npy', pixels(k))
    names = [f'stamp_{k:04d}' + ('.npy' if ending == 'npy' else '') for k in (2, 0, 1)]
    table = pd.DataFrame({name: names, 'ra': [30.0, 10.0, 20.0], 'dec': 0.0})
    table.to_csv((folder if where == 'inside' else tmp_path) / 'table.csv', index=False)
    beside = {} if where == 'inside' else dict(table=tmp_path / 'table.csv')
    report = archive.add_stamps(folder, 'made', show=False, **beside)
    assert (report.added, len(report.ledger)) == (3, 0)
    assert sorted(archive.detections()['ra'].round()) == [10, 20, 30]


def test_one_name_in_two_surveys_is_two_objects(archive):
    archive.add_alerts([packet(1, 2460400.5, name='77')], survey='ztf', show=False)
    with archive.session() as session:
        here = get_or_create_survey(session, 'other').id
        one = session.scalar(select(EpochRow))
        names = [column.key for column in EpochRow.__mapper__.column_attrs]
        row = {name: getattr(one, name) for name in names} | dict(survey_id=here, mag=12.0)
        session.add(EpochRow(**row))
    with pytest.raises(BadInput, match="2 surveys .* '77', .*survey='other' or survey='ztf'"):
        archive.light_curve('77')
    [row] = archive.detections().itertuples()
    for curve in (archive.light_curve(row.detection_id), archive.light_curve('77', survey='ztf')):
        assert curve.table['mag'].tolist() == [18.0]
    assert archive.light_curve('77', survey='other').table['mag'].tolist() == [12.0]


def test_in_a_shell_too_one_can_do_without_ids():
    assert columns_of(['id=', 'ra=RAJ2000']) == dict(id=None, ra='RAJ2000')


def test_a_pair_too_crowded_to_be_matched_is_said_to_confirm_nothing(archive, field, tmp_path):
    "Stars every few pixels: chance would match them"
    y, x = np.indices((200, 200)) % 8 - 4
    stars = (500 * np.exp(-(x**2 + y**2) / 2)).astype('f4')
    paths = pair_of(field, tmp_path, 12)
    for seed, path in enumerate(paths):
        with fits.open(path, mode='update') as file:
            noise = np.random.default_rng(seed).normal(100, 3, stars.shape).astype('f4')
            file[0].data = stars + noise
    report = add(archive, paths)
    assert not any('same-sky-position' in rule for rule in report.verdicts)
    assert 'pairs of images that confirm nothing: too crowded' in repr(report)
