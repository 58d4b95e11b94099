"What a stern reader found: planes, units, marks, rows and times that lost their meaning"

import io
import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from sqlalchemy import select
from stamping import pixels

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.ingest.stamp_records import _is_bad
from astrid_data.registry.tables import Detection, Observation


def test_the_weight_of_an_asdf_file_of_jwst_is_used(tmp_path):
    asdf = pytest.importorskip('asdf')
    weight = np.ones((50, 50), 'f4')
    weight[:8, :8] = 0
    meta = dict(telescope='JWST', exposure=dict(exposure_time=120.0))
    path = tmp_path / 'a.asdf'
    data = np.random.default_rng(0).normal(1, 0.1, (50, 50)).astype('f4')
    asdf.AsdfFile(dict(data=data, wht=weight, meta=meta)).write_to(path)
    with ad.images.open_image(path) as image:
        assert 'weight' in image.planes
        assert image.read(0, 50, 0, 50)[1].sum() == 64


@pytest.mark.parametrize('meaning', ['bad', 'good'])
def test_a_mark_that_is_no_number_is_bad(meaning):
    is_bad = _is_bad('mask', np.array([[np.nan, 1, 0]]), meaning)
    assert is_bad.tolist() == [[True, meaning == 'bad', meaning == 'good']]


OWN = dict(label=[1, 1, 0], mjd=[60000.0, 60001.0, 60002.0], band=['g', 'g', 'r'])
OTHERS = [
    ('label', [0, 1, 0], 'conflicting_labels'),
    ('MJD', [61000, 60001, 60002], 'conflicting_times'),
]


@pytest.mark.parametrize('name, cells, reason', OTHERS)
def test_a_row_that_contradicts_its_stamp_is_lost(tmp_path, name, cells, reason):
    "Whatever the case of its name, a shuffled table is seen"
    place = dict(ra=[1.0, 2, 3], dec=[0.0, 1, 2])
    np.savez(tmp_path / 'set.npz', images=np.array([pixels(k) for k in range(3)]), **place, **OWN)
    table = pd.DataFrame({name: cells})
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_stamps(tmp_path / 'set.npz', 'mailed', table=table, show=False)
    assert report.added == 2 and report.ledger.reason.tolist() == [reason], report.ledger


@pytest.mark.parametrize('name', ['band', 'BAND', 'Band'])
def test_a_row_gives_a_better_band_in_any_case_of_its_name(tmp_path, name):
    place = dict(ra=[1.0, 2, 3], dec=[0.0, 1, 2])
    np.savez(tmp_path / 'set.npz', images=np.array([pixels(k) for k in range(3)]), **place, **OWN)
    archive = ad.open_archive(tmp_path / 'home')
    table = pd.DataFrame({name: ['r', 'r', 'r']})
    archive.add_stamps(tmp_path / 'set.npz', 'mailed', table=table, show=False)
    with archive.session() as session:
        assert set(session.scalars(select(Observation.filter_band))) == {'r'}


def test_a_row_that_says_the_same_is_taken(tmp_path):
    place = dict(ra=[1.0, 2, 3], dec=[0.0, 1, 2])
    np.savez(tmp_path / 'set.npz', images=np.array([pixels(k) for k in range(3)]), **place, **OWN)
    table = pd.DataFrame(
        dict(Label=['1', '1', '0'], MJD=['60000', '60001.0', '60002'], Band=['G', 'g', 'r'])
    )
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_stamps(tmp_path / 'set.npz', 'mailed', table=table, show=False)
    assert report.added == 3, report.ledger


@pytest.mark.parametrize('apart_s, n', [(0.02, 1), (0.17, 1), (0.99, 1), (1.2, 2)])
def test_epochs_within_a_second_are_one_exposure(apart_s, n):
    from astrid_data.datasets.curve_features import _measured
    from astrid_data.datasets.curve_table import CURVE_COLUMNS

    day = 60401.1234550 + np.arange(40)[:, None] * 1.0000001
    days = (day + np.array([-0.5, 0.5]) * apart_s / 86400).ravel()
    columns = dict.fromkeys(CURVE_COLUMNS, np.nan) | dict(sample=0, band='r', kind='detection')
    columns |= dict(mjd=days, mjd_utc=days, flux=100.0, flux_error=10.0, limit_mag=np.nan)
    assert len(_measured(pd.DataFrame(columns))) == 40 * n


def test_code_of_dates_runs_in_a_notebook():
    from astrid_data.widgets.planner import params_code

    dates = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, 12, tzinfo=UTC)
    params = ad.TrainingDataCollectionParams(date_range=dates)
    code = params_code(params)
    assert eval(code, dict(ad=ad)) == params and 'datetime' not in code


def test_a_class_without_words_is_refused():
    from astrid_data.loading.classes import _members

    with pytest.raises(BadInput, match="'rest' has no words"):
        _members(dict(SN=['SN'], rest=[]))


def test_a_folder_of_others_in_a_store_is_no_version(tmp_path):
    from astrid_data.datasets.places import _versions_in
    from astrid_data.storage.folder import FolderStore

    store = FolderStore(tmp_path)
    for name in ('v1', 'r2', 'v١', 'vv'):
        store.put(f'datasets/four/{name}/manifest.json', json.dumps({}).encode())
    assert list(_versions_in(store)) == ['four@v1']


@pytest.mark.parametrize('split, n', [('val', 2), ('buffer', 0), ('', 0)])
def test_copies_in_no_split_are_not_across_splits(split, n):
    from astrid_data.quality.duplicates import _kinds_of_copies

    samples = pd.DataFrame(dict(label=[1, 1], split=['train', split]))
    pairs = pd.DataFrame(dict(i=[0], j=[1], kind=['near'], correlation=[0.9]))
    assert 2 * len(_kinds_of_copies(samples, pairs)['across_splits']) == n


@pytest.mark.parametrize('threshold', [0.3, None])
def test_the_dot_stands_where_the_threshold_is(threshold):
    from astrid_data.evaluation.report import operating_points

    rng = np.random.default_rng(0)
    label = np.arange(400) % 2
    score = np.clip(0.4 * label + rng.uniform(0, 0.6, 400), 0, 1)
    scores = pd.DataFrame(dict(label=label, score=score, group=np.arange(400).astype(str)))
    report = operating_points(scores, threshold=threshold, n_boot=20)
    axis = report.plot().axes[1]
    dots = [line.get_xydata().tolist() for line in axis.lines if line.get_marker() == 'o']
    if threshold is None:
        assert not dots and axis.get_title() == 'errors'
    else:
        lost, passed = (score[label == 1] < 0.3).mean(), (score[label == 0] >= 0.3).mean()
        assert np.allclose(dots, [[[lost, passed]]])


def test_spellings_of_one_class_are_noted():
    from astrid_data.ingest.catalogue_columns import read_catalogue
    from astrid_data.ingest.tables import open_table

    rows = dict(ra=[1.0, 2, 3, 4], dec=[0.0] * 4, kind=['Ia', 'IA', 'ia', 'Ib'])
    asked = dict(object_id=None, is_real=None, mag=None, snr=None, score=1.0)
    table = open_table(pd.DataFrame(rows))
    catalogue = read_catalogue(table, 'list', 'ra', 'dec', class_name='kind', **asked)
    notes = [note for note in catalogue.notes if 'one class' in note]
    assert notes == ["kind: IA, Ia, ia are one class, 'ia'"]


@pytest.mark.parametrize(
    'said, added', [('{"ra": 50, "dec": 9}', 0), ('{"ra": 1, "band": "r"}', 1)]
)
def test_metadata_beside_columns_that_say_otherwise_is_told(tmp_path, said, added):
    columns = dict(ra=[1.0], dec=[0.0], metadata=[said])
    np.savez(tmp_path / 'set.npz', images=np.array([pixels(0)]), **columns)
    report = ad.open_archive(tmp_path / 'home').add_stamps(tmp_path / 'set.npz', 'x', show=False)
    assert report.added == added
    assert report.ledger.reason.tolist() == ['conflicting_metadata'] * (1 - added)


PLACE = SkyCoord(150.1, 2.0, unit='deg')
SYSTEMS = [
    ('icrs', {}),
    (FK4(equinox='B1950'), dict(RADESYS='FK4', EQUINOX=1950.0)),
    (FK4(equinox='B1950'), dict(EQUINOX=1950.0)),
    (FK5(equinox='J1975'), dict(RADESYS='FK5', EQUINOX=1975.0)),
]


def stored_place(tmp_path, *hdus):
    fits.HDUList([*hdus]).writeto(tmp_path / 'a.fits')
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_stamps(tmp_path / 'a.fits', 'x', show=False)
    assert report.added == 1, report.ledger
    with archive.session() as session:
        ra, dec = session.execute(select(Detection.ra, Detection.dec)).one()
    return SkyCoord(ra, dec, unit='deg')


@pytest.mark.parametrize('in_primary', [True, False])
@pytest.mark.parametrize('frame, cards', SYSTEMS)
def test_cards_of_a_stamp_keep_their_system(tmp_path, frame, cards, in_primary):
    there = PLACE.transform_to(frame).spherical
    header = fits.Header(dict(RA=there.lon.deg, DEC=there.lat.deg) | cards)
    hdus = [fits.PrimaryHDU(pixels(0), header)]
    if in_primary:
        hdus = [fits.PrimaryHDU(header=header), fits.ImageHDU(pixels(0), name='SCI')]
    assert stored_place(tmp_path, *hdus).separation(PLACE).arcsec < 0.01


WORLDS = [
    ('icrs', ('RA---TAN', 'DEC--TAN', {})),
    (FK4(equinox='B1950'), ('RA---TAN', 'DEC--TAN', dict(RADESYS='FK4', EQUINOX=1950.0))),
    ('galactic', ('GLON-TAN', 'GLAT-TAN', {})),
    (FK5(equinox='J2000'), ('DEC--TAN', 'RA---TAN', dict(RADESYS='FK5', EQUINOX=2000.0))),
]


@pytest.mark.parametrize('frame, world', WORLDS)
def test_an_object_lies_on_its_pixel_in_every_world(frame, world):
    "Whatever its system, and whichever axis comes first"
    from astrid_data.ingest.stamps import stamp_geometry

    first, second, cards = world
    wcs = WCS(naxis=2)
    there = PLACE.transform_to(frame).spherical
    wcs.wcs.ctype = first, second
    values = there.lon.deg, there.lat.deg
    wcs.wcs.crval = values[::-1] if first[:3] == 'DEC' else values
    wcs.wcs.crpix, wcs.wcs.cdelt = [11.0, 9.0], [-1e-4, 1e-4]
    header = wcs.to_header()
    header.update(cards)
    out = io.BytesIO()
    fits.PrimaryHDU(np.zeros((15, 15), 'f4'), header).writeto(out)
    found = stamp_geometry(dict(science=out.getvalue()), PLACE.ra.deg, PLACE.dec.deg, survey='')
    assert (found.pixel, found.scale_from) == ((10, 8), 'header')


@pytest.mark.parametrize('name', ['fp', 'glitch', 'is_satellite', 'falsePositive', 'trash'])
def test_a_column_of_what_is_not_real_is_refused(name):
    from astrid_data.registry.words import read_verdicts

    with pytest.raises(BadInput, match='says what is not real'):
        read_verdicts(pd.Series(['yes', 'no']), name)
