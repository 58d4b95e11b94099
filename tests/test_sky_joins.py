"Images and rows that meet on the sky: found by cells and trees, compared with looking at all pairs."

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event

import astrid_data as ad
from astrid_data.core import stable_uuid
from astrid_data.ingest import catalogue_columns, catalogue_places, labels
from astrid_data.ingest.archive import IngestReport, ItemGuard
from astrid_data.ingest.tables import open_table
from astrid_data.registry.tables import (
    Image,
    Observation,
    ObservationIndex,
    get_or_create_survey,
    insert_columns,
)
from astrid_data.sky import healpix_index, sky_separation_arcsec


def circles(rng, n):
    "Centres and radii (deg): all over, at the poles, at the seam of right ascension, up to all sky"
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    near_pole = rng.random(n) < 0.3
    dec[near_pole] = rng.choice([-90, 90, -89.99, 89.95, 88.5], near_pole.sum())
    at_seam = rng.random(n) < 0.4
    ra[at_seam] = rng.choice([0, 359.99, 0.01, 1.5, 358.2], at_seam.sum())
    dec[at_seam & ~near_pole] = rng.uniform(-2, 2, (at_seam & ~near_pole).sum())
    radius = rng.choice(
        [0.01, 0.3, 1.9, 2.0, 2.1, 25, 180], n, p=[0.3, 0.3, 0.2, 0.05, 0.1, 0.03, 0.02]
    )
    return ra, dec, radius


def fill(archive, rng, n, radii=None):
    "Observations with one image each, in the registry alone"
    ra, dec, radius = circles(rng, n)
    radius = radius if radii is None else rng.choice(radii, n)
    ids = [stable_uuid('circle', int(rng.integers(2**60)), k) for k in range(n)]
    mjd = [None if k % 7 == 0 else float(59000 + rng.uniform(-9000, 3000)) for k in range(n)]
    with archive.session() as s:
        surveys = [get_or_create_survey(s, name).id for name in ('ps1', 'hst', 'skyview')]
        rows = dict(
            id=ids,
            survey_id=[surveys[k % 3] for k in rng.integers(0, 3, n)],
            observation_id=[str(k) for k in range(n)],
            ra=ra.tolist(),
            dec=dec.tolist(),
            observation_time=[datetime(2026, 1, 1, tzinfo=UTC)] * n,
            filter_band=rng.choice(['r', 'g', 'unknown'], n).tolist(),
            exposure_time=[1.0] * n,
            fits_url=['x'] * n,
            pixel_scale=rng.choice([1.0, 0.25], n).tolist(),
            image_width=[100] * n,
            image_height=[100] * n,
        )
        insert_columns(s, Observation, rows)
        index = dict(observation_id=ids, healpix=healpix_index(ra, dec).tolist())
        insert_columns(s, ObservationIndex, index | dict(radius_deg=radius.tolist()))
        images = dict(id=ids, observation_id=ids, role=['image'] * n, uri=['x'] * n)
        images |= dict(wcs_state=['celestial'] * n, mjd=mjd, nx=[100] * n, ny=[100] * n)
        insert_columns(s, Image, images)
    return pd.DataFrame(
        dict(id=[str(i) for i in ids], ra=ra, dec=dec, radius=radius, mjd=mjd)
    ).sort_values('id', ignore_index=True)


@pytest.mark.parametrize('seed', range(3))
def test_overlapping_images_are_those_that_looking_at_all_pairs_finds(registry_url, tmp_path, seed):
    archive = ad.open_archive(registry_url, home=tmp_path)
    sky = fill(archive, np.random.default_rng(seed), 60)
    found = 0
    with archive.session() as s:
        rows = {row.id: row for row in labels._placed(s).itertuples()}
        known = labels._wide_observations(s), labels._widest_deg(s)
        for one in sky.itertuples():
            apart = sky_separation_arcsec(one.ra, one.dec, sky.ra, sky.dec)
            meets = apart < 3600 * (sky.radius + one.radius)
            wanted = [
                i
                for i in sky.id[meets]
                if i != one.id and labels.can_confirm(rows[one.id], rows[i])
            ]
            for more in ((), known):
                own, others = labels.overlapping(s, one.id, *more)
                assert own.id == one.id and [other.id for other in others] == wanted
            found += len(wanted)
    assert found > 40


def test_overlapping_images_are_found_by_their_cells(tmp_path):
    archive = ad.open_archive(tmp_path)
    sky = fill(archive, np.random.default_rng(0), 30, radii=[0.05])
    asked = []
    event.listen(
        archive.registry.engine,
        'before_cursor_execute',
        lambda c, cursor, statement, parameters, *_: asked.append((statement, parameters)),
    )
    with archive.session() as s:
        known = labels._wide_observations(s), labels._widest_deg(s)
        asked.clear()
        for observation_id in sky.id:
            labels.overlapping(s, observation_id, *known)
        questions = [one for one in asked if 'healpix' in one[0]]
        assert questions
        for statement, parameters in questions:
            plan = s.connection().exec_driver_sql(f'EXPLAIN QUERY PLAN {statement}', parameters)
            steps = [row[3] for row in plan]
            assert any('ix_ad_observation_index_healpix' in step for step in steps)
            assert not [step for step in steps if step.startswith('SCAN')]


def catalogue_of(rng, sky, n):
    "A catalogue in the circles of images and elsewhere, of rows that move and that hold for a while"
    some = sky.iloc[rng.integers(0, len(sky), n)]
    shift = some.radius.to_numpy() * rng.uniform(0, 1.5, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    dec = np.clip(some.dec + shift * np.sin(angle), -90, 90)
    wide = np.maximum(np.cos(np.radians(dec)), 0.01)
    ra = (some.ra + shift * np.cos(angle) / wide) % 360
    start = 59000 + rng.uniform(-9000, 2000, n)
    table = pd.DataFrame(dict(ra=ra, dec=dec, start=start, end=start + rng.uniform(0, 4000, n)))
    table['pmra'], table['pmdec'] = rng.normal(0, 3000, (2, n))
    table.loc[::5, ['pmra', 'pmdec']] = np.nan
    table['epoch'] = rng.choice([51544.5, 55197.0, 59000.0, np.nan], n)
    table.loc[::3, 'epoch'] = rng.uniform(45000, 61000, len(table.loc[::3]))
    return table.reset_index(drop=True)


def read(table, moving, timed):
    "A catalogue that is ready to be placed"
    asked = dict(object_id=None, class_name=None, is_real=None, mag=None, snr=None, score=1.0)
    catalogue = catalogue_columns.read_catalogue(open_table(table), 'c', 'ra', 'dec', **asked)
    when = ('start', 'end') if timed else None
    motion = ('pmra', 'pmdec', 'epoch') if moving else (False, None, None)
    catalogue_columns.read_times_and_motions(catalogue, when, None, *motion)
    return catalogue


def plainly_near(catalogue, sky):
    "Which rows lie in the circle of which image at its time, found by looking at all pairs"
    rows, motion, windows = catalogue.rows, catalogue.motion, catalogue.windows
    kept = np.flatnonzero(catalogue.lost.kept)
    near, other, unknown = {}, np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for one in sky.itertuples():
        radius = 3600 * one.radius
        if motion is not None and one.mjd == one.mjd and motion.moves().any():
            years = np.abs(one.mjd - motion.mjd) / 365.25
            radius += np.nanmax(np.hypot(*motion.pm.T) * years) / 1000
        apart = sky_separation_arcsec(one.ra, one.dec, rows.ra[kept], rows.dec[kept])
        inside = kept[apart <= min(radius, 180 * 3600) * (1 + 1e-9)]
        if windows is not None and len(inside):
            if one.mjd != one.mjd:
                unknown[inside] = True
                continue
            exposure = catalogue_places._exposure_of(
                SimpleNamespace(facts={}, mjd=one.mjd, mjd_meaning=None)
            )
            holds = windows.overlap(inside, *exposure)
            other[inside[~holds]] = True
            inside = inside[holds]
        if len(inside):
            near[one.id] = inside.tolist()
    return near, other, unknown


@pytest.mark.parametrize(
    'moving, timed', [(False, False), (True, False), (False, True), (True, True)]
)
@pytest.mark.parametrize('seed', range(3))
def test_rows_come_to_the_images_that_looking_at_all_pairs_finds(
    tmp_path, monkeypatch, seed, moving, timed
):
    rng = np.random.default_rng(seed)
    archive = ad.open_archive(tmp_path)
    sky = fill(archive, rng, 50)
    catalogue = read(catalogue_of(rng, sky, 200), moving, timed)
    monkeypatch.setattr(catalogue_places, '_IMAGES_AT_ONCE', 7)
    placement = catalogue_places.Placement(archive, catalogue, ItemGuard(IngestReport()))
    near = []
    monkeypatch.setattr(
        placement, '_on_pixels', lambda image, rows: near.append((str(image.id), rows))
    )
    assert list(placement.images(None)) == []
    found = {i: placement.kept[rows].tolist() for i, rows in near}
    wanted, other, unknown = plainly_near(catalogue, sky)
    assert list(found.items()) == list(wanted.items()) and len(wanted) > 10
    np.testing.assert_array_equal(placement.at_other_times, other)
    np.testing.assert_array_equal(placement.at_unknown_times, unknown)


@pytest.mark.parametrize('seed', range(20))
def test_the_farthest_row_is_among_those_that_outrun_the_others(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 200)
    pm = rng.choice([0, 1, 5, 30], (n, 2)) * rng.choice([1, rng.normal()], (n, 1))
    epoch = rng.choice([51544.5, 57388.5, np.nan, rng.uniform(4e4, 6e4)], n)
    motion = catalogue_places.Motion(pm.astype(float), epoch, ('pmra', 'pmdec'))
    speed, began = catalogue_places._outrunning(motion)
    for mjd in (4e4, 51544.5, 55000.0, 57388.5, 61000.0, *rng.uniform(4e4, 7e4, 20)):
        far = np.hypot(*pm.T) * np.abs(mjd - epoch)
        wanted = np.nanmax(far[motion.moves()], initial=0)
        assert np.max(speed * np.abs(mjd - began), initial=0) == wanted
    assert len(speed) <= len(np.unique(epoch)) * 2
