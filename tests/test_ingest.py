"Ingest: what comes in, what is lost and why, and that labels are right; on both databases."

import gzip
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import func, select

from astrid_data.core import BadImage, BadInput, NotFound, sha256_file
from astrid_data.images.image import open_image
from astrid_data.images.opener import ImageOpener
from astrid_data.images.sources import (
    RULES,
    Locus,
    Rule,
    _summits,
    detect_sources,
    error_plane,
    rule_verdicts,
    same_sky,
    split_blends,
    stellar_locus,
)
from astrid_data.ingest.alerts import STAMPS, flat_alert
from astrid_data.ingest.archive import UNKNOWN_TIME, Archive, IngestReport, open_archive
from astrid_data.ingest.files import list_files
from astrid_data.ingest.fits import sample_files
from astrid_data.ingest.stamps import stamp_centre, stamp_shape
from astrid_data.patches.extract import extract_patches
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    Image,
    ModelRun,
    Observation,
    ObservationIndex,
    Survey,
    ValidationEvent,
)
from astrid_data.simulate.synthetic import synthetic_archive, synthetic_image
from astrid_data.sky import sky_separation_arcsec
from astrid_data.storage.packs import packed_part, stored_bytes
from astrid_data.storage.resolve import resolve_uri


@pytest.fixture
def archive(registry_url, tmp_path):
    "An empty archive, once on SQLite and once on PostgreSQL"
    a = open_archive(registry_url, storage=tmp_path / 'store', home=tmp_path)
    yield a
    a.registry.engine.dispose()


@pytest.fixture
def local(tmp_path):
    return open_archive(tmp_path / 'archive')


def write(hdus, path):
    hdus.writeto(path)
    return path


def count(a, table):
    with a.session() as s:
        return s.scalar(select(func.count()).select_from(table))


# The sample


def test_sample_comes_in_once_with_labels_by_named_rules(archive):
    report = archive.add_sample()
    assert (report.added, report.skipped, len(report.ledger)) == (10, 0, 0)
    before = {
        t: count(archive, t)
        for t in (
            Survey,
            Observation,
            ObservationIndex,
            Image,
            ModelRun,
            Detection,
            DetectionIndex,
            ValidationEvent,
        )
    }
    assert (
        before[Observation] == before[ObservationIndex] == before[Image] == before[ModelRun] == 10
    )
    assert before[Detection] == before[DetectionIndex] == report.detections
    assert before[ValidationEvent] == sum(report.verdicts.values())
    again = archive.add_sample()
    assert (again.added, again.skipped, again.detections, again.verdicts) == (0, 10, 0, {})
    assert {t: count(archive, t) for t in before} == before
    with archive.session() as s:
        rows = s.execute(
            select(Detection, ValidationEvent).outerjoin(
                ValidationEvent, ValidationEvent.detection_id == Detection.id
            )
        ).all()
    said = {}
    for d, e in rows:
        assert d.human_label is None and 0 <= d.confidence_score <= 1
        if e is None:
            assert (d.status.value, d.is_validated, d.detection_type.value) == (
                'pending',
                False,
                'unknown',
            )
            continue
        assert (
            e.validator_id in {r.name for r in RULES}
            and 'S/N' in e.notes
            and e.confidence_level is not None
        )
        assert (d.status.value, d.detection_type.value) == (
            ('confirmed', 'unknown') if e.is_valid else ('rejected', 'artifact')
        ) and d.is_validated
        said.setdefault(d.id, set()).add(e.is_valid)
    assert all(len(v) == 1 for v in said.values())  # No detection is called both
    assert (
        sum(v == {True} for v in said.values()) > 1000
        and sum(v == {False} for v in said.values()) > 60
    )
    t = archive.observations()
    assert set(t.survey) == {'hst', 'skyview', 'dss', 'ukidss', 'cfht'}
    assert (
        t.observation_time.isna().sum() == 5 and t.exposure_s.isna().sum() == 5
    )  # What the headers do not say stays unknown
    with archive.session() as s:
        m13 = s.scalar(select(Observation).where(Observation.observation_id == 'm13_skyview'))
        assert m13.observation_time == UNKNOWN_TIME and m13.filter_band == 'unknown'
        assert (
            'mjd' in s.scalar(select(Image).where(Image.observation_id == m13.id)).facts['missing']
        )


def test_sample_files_are_what_provenance_says():
    t = sample_files()
    folder = resolve_uri('package://sample/PROVENANCE.csv').parent
    files = [p for p in folder.iterdir() if p.is_file()]  # `__pycache__` may be beside them
    assert {p.name for p in files} == {*t.file, 'PROVENANCE.csv', 'PROVENANCE.md', '__init__.py'}
    assert sum(p.stat().st_size for p in files) < 4e6
    for r in t.itertuples():
        assert (
            sha256_file(folder / r.file) == r.sha256
            and len(r.source_sha256) == 64
            and r.licence
            and r.done
        )


def test_sharp_artefacts_of_the_exposure_carry_the_pipelines_flag():
    path = resolve_uri('package://sample/47tuc_acs_hrc_f606w.fits.gz')
    image = open_image(path)
    sources = detect_sources(image, noise=error_plane(path, image))
    v = rule_verdicts(sources)
    sharp, stars = (
        sources.loc[v.source[v.rule == f'rule:{r}']] for r in ('sharper-than-psf', 'stellar-locus')
    )
    assert (
        sharp['cosmic ray'] == 2
    ).mean() > 0.95  # The flag was set from other exposures, and is not asked by that rule
    assert (
        (stars['cosmic ray'] == 0).all()
        and (stars.saturated == 0).all()
        and (stars.snr >= 12).all()
    )


# Labels where the truth is known


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_rules_make_no_wrong_label_on_a_known_sky(seed):
    hdus, truth = synthetic_image(
        seed, shape=(400, 400), n_stars=130, n_cosmic=40, fwhm_px=2.5, faintest=4000.0
    )
    raw = io.BytesIO()
    hdus.writeto(raw)
    image = open_image(raw.getvalue())
    sources = detect_sources(image, noise=error_plane(raw.getvalue(), image))
    v = rule_verdicts(sources).drop_duplicates('source')
    assert (v.is_valid.sum() > 60) and (~v.is_valid).sum() > 20
    at = sources.loc[v.source]
    d = np.hypot(at.x.values[:, None] - truth.x.values, at.y.values[:, None] - truth.y.values)
    near = d.argmin(1)
    assert (d.min(1) < 6).all()
    assert ((truth.kind.values[near] == 'star') == v.is_valid.values).all()
    stars = v.is_valid.values
    assert np.median(d.min(1)[stars]) < 0.15 and d.min(1)[stars].max() < 1


def test_few_stars_give_no_locus_and_no_verdict():
    hdus, _ = synthetic_image(0, n_stars=12, n_cosmic=10)
    raw = io.BytesIO()
    hdus.writeto(raw)
    sources = detect_sources(open_image(raw.getvalue()))
    assert stellar_locus(sources) is None and len(rule_verdicts(sources)) == 0


def test_hot_pixels_that_outnumber_the_stars_are_no_locus():
    hdus, _ = synthetic_image(0, shape=(400, 400), n_stars=25, n_cosmic=0, faintest=3000.0)
    rng = np.random.default_rng(0)
    hdus['SCI'].data[rng.integers(5, 395, 200), rng.integers(5, 395, 200)] += rng.uniform(
        400, 5000, 200
    ).astype('f4')
    raw = io.BytesIO()
    hdus.writeto(raw)
    sources = detect_sources(open_image(raw.getvalue()))
    assert (sources.sharpness > 0.9).sum() > 150 and len(rule_verdicts(sources)) == 0


def test_a_camera_with_more_hot_pixels_than_stars(shared_data):
    sources = detect_sources(open_image(shared_data / 'ground' / 'eyuma_r_aspencg16.fit.gz'))
    assert len(sources) > 300 and len(rule_verdicts(sources)) == 0


def test_rules_that_contradict_each_other_give_no_verdict():
    t = pd.DataFrame(
        dict(
            snr=[50.0],
            sharpness=[0.5],
            concentration=[0.8],
            lowest_neighbour=[0.4],
            contrast=[50.0],
            edge=[False],
        )
    )
    locus = Locus(100, 0.5, 0.02, 0.8, 0.02, 0.2)

    against = Rule('rule:contrary', False, 'x', 'LOW', 'always', lambda t, q: np.ones(len(t), bool))
    assert len(rule_verdicts(t, locus, RULES)) == 1
    assert len(rule_verdicts(t, locus, [*RULES, against])) == 0


@pytest.mark.parametrize(
    'changed',
    [
        dict(lowest_neighbour=0.15),
        dict(contrast=8.0),
        dict(snr=11.0),
        dict(edge=True),
        dict(saturated=1),
        dict(sharpness=0.6),
    ],
)
def test_an_artefact_needs_every_sign_of_one(changed):
    t = pd.DataFrame(
        [
            dict(
                snr=50.0,
                sharpness=0.9,
                concentration=0.5,
                lowest_neighbour=0.01,
                contrast=50.0,
                edge=False,
                saturated=0,
            )
        ]
    )
    locus = Locus(100, 0.5, 0.02, 0.8, 0.02, 0.2)
    assert list(rule_verdicts(t, locus).rule) == ['rule:sharper-than-psf']
    assert len(rule_verdicts(t.assign(**changed), locus)) == 0


@pytest.mark.parametrize(
    'changed',
    [
        dict(lowest_neighbour=0.15),
        dict(contrast=8.0),
        dict(snr=11.0),
        dict(edge=True),
        dict(concentration=0.9),
        dict(sharpness=0.56),
        {'cosmic ray': 1},
    ],
)
def test_a_star_needs_every_sign_of_one(changed):
    t = pd.DataFrame(
        [
            {
                'snr': 50.0,
                'sharpness': 0.51,
                'concentration': 0.8,
                'lowest_neighbour': 0.3,
                'contrast': 50.0,
                'edge': False,
                'saturated': 0,
                'cosmic ray': 0,
            }
        ]
    )
    locus = Locus(100, 0.5, 0.02, 0.8, 0.02, 0.2)
    assert list(rule_verdicts(t, locus).rule) == ['rule:stellar-locus']
    assert len(rule_verdicts(t.assign(**changed), locus)) == 0


# Pieces against the simple version

small = arrays(
    float, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 20).map(float)
)


@settings(max_examples=60)
@given(small)
def test_summits_are_those_of_walking_uphill(a):
    rank = (
        np.argsort(np.argsort(a, axis=None, kind='stable'), kind='stable')
        .reshape(a.shape)
        .astype(float)
    )
    got = _summits(rank, np.ones(a.shape, bool))
    for y in range(a.shape[0]):
        for x in range(a.shape[1]):
            at = (y, x)
            while True:
                ring = [
                    (i, j)
                    for i in range(max(at[0] - 1, 0), min(at[0] + 2, a.shape[0]))
                    for j in range(max(at[1] - 1, 0), min(at[1] + 2, a.shape[1]))
                ]
                up = max(ring, key=lambda q: rank[q])
                if up == at:
                    break
                at = up
            assert got[y, x] == at[0] * a.shape[1] + at[1]


@settings(max_examples=60)
@given(small, st.floats(0, 10), st.floats(0, 0.5))
def test_split_blends_shares_out_every_pixel_once(a, nsigma, contrast):
    segments = (a > 5).astype(int)
    labels, row, col = split_blends(a, np.ones_like(a), segments, nsigma, contrast)
    assert ((labels > 0) == (segments > 0)).all() and labels.max(initial=0) == len(row)
    for k, (r, c) in enumerate(zip(row, col), 1):
        assert labels[r, c] == k and a[r, c] == a[labels == k].max()


def test_split_blends_survives_a_plateau():
    a = np.full((30, 30), 65535.0)
    labels, row, col = split_blends(a, np.ones_like(a), a > 0)
    assert len(row) == 1 and (labels == 1).all()


@settings(max_examples=40)
@given(
    st.integers(0, 2**31),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from([(0.0, 0.0), (359.9999, 10.0), (123.0, 89.999), (10.0, -90.0)]),
)
def test_same_sky_is_mutual_nearest(seed, n, m, centre):
    rng = np.random.default_rng(seed)

    def some(n):
        r, t = rng.uniform(0, 4, n) / 3600, rng.uniform(0, 2 * np.pi, n)
        dec = np.clip(centre[1] + r * np.sin(t), -90, 90)
        return pd.DataFrame(
            dict(
                ra=(centre[0] + r * np.cos(t) / max(np.cos(np.radians(centre[1])), 1e-6)) % 360,
                dec=dec,
                snr=rng.uniform(3, 20, n),
            )
        )

    a, b = some(n), some(m)
    i, j, sep, _ = same_sky(a, b, 1.0, 1e6)
    want = set()
    for p in a.index[a.snr >= 5]:
        for q in b.index[b.snr >= 5]:

            def d(x, y):
                return sky_separation_arcsec(a.ra[x], a.dec[x], b.ra[y], b.dec[y])

            if (
                d(p, q) <= 1
                and d(p, q) == min(d(p, y) for y in b.index[b.snr >= 5])
                and d(p, q) == min(d(x, q) for x in a.index[a.snr >= 5])
            ):
                want.add((p, q))
    assert set(zip(i.tolist(), j.tolist())) == want


# Bad input costs itself and nothing else


def bad_files(folder):
    "Files by what is wrong with them"
    hdus, _ = synthetic_image(3, shape=(120, 120), n_stars=6, n_cosmic=3)
    good = write(hdus, folder / 'good.fits')
    whole = good.read_bytes()
    bare = fits.HDUList([fits.PrimaryHDU(np.ones((20, 20), 'f4'))])
    table = fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.BinTableHDU.from_columns([fits.Column('a', 'E', array=np.zeros(3))]),
        ]
    )
    nan = fits.HDUList([fits.PrimaryHDU(np.full((40, 40), np.nan, 'f4'), hdus['SCI'].header)])

    def raw(name, data):
        (folder / name).write_bytes(data)
        return folder / name

    return good, {
        'missing_file': folder / 'nowhere.fits',
        'truncated': raw('cut.fits', whole[: len(whole) // 2]),
        'truncated ': raw('cut.fits.gz', gzip.compress(whole)[:-500]),
        'truncated  ': raw('empty.fits', b''),
        'unreadable': raw('text.fits', b'no FITS at all\n' * 300),
        'no_wcs': write(bare, folder / 'bare.fits'),
        'no_image_hdu': write(table, folder / 'table.fits'),
        'all_bad': write(nan, folder / 'nan.fits'),
    }


def test_bad_files_end_in_the_ledger_and_cost_nothing_else(archive, tmp_path):
    good, bad = bad_files(tmp_path)
    paths = list(bad.values())
    report = archive.add_fits([*paths[:4], good, *paths[4:]])
    assert report.added == 1 and list(report.ledger.reason) == [k.strip() for k in bad]
    assert (
        all(Path(p).name.split('.')[0] in u for p, u in zip(paths, report.ledger.uri))
        and (report.ledger.detail != '').all()
    )
    assert count(archive, Observation) == 1 and count(archive, Detection) == report.detections > 0
    assert count(archive, Survey) == 1  # A lost image leaves no survey behind
    again = archive.add_fits([good, *paths])
    assert (again.added, again.skipped, len(again.ledger)) == (0, 1, len(bad))


def test_an_image_comes_in_whole_or_not_at_all(local, tmp_path, monkeypatch):
    good, _ = bad_files(tmp_path)

    def breaks(*args, **kw):
        raise BadImage('all_bad', 'as a test')

    with monkeypatch.context() as m:
        m.setattr('astrid_data.ingest.rows.detect_sources', breaks)
        assert list(local.add_fits(good).ledger.reason) == ['all_bad']
    assert [count(local, t) for t in (Survey, Observation, Image, ModelRun, Detection)] == [0] * 5
    assert local.add_fits(good).added == 1


def test_an_image_without_sources_is_an_observation(archive, tmp_path):
    hdus, _ = synthetic_image(0, shape=(60, 60), n_stars=0, n_cosmic=0)
    report = archive.add_fits(write(hdus, tmp_path / 'dark.fits'), nsigma=9.0)
    assert (report.added, report.detections, report.verdicts, len(report.ledger)) == (1, 0, {}, 0)
    assert archive.add_fits(tmp_path / 'dark.fits', nsigma=9.0).skipped == 1


def test_unknown_address_and_folder_and_pattern(local, tmp_path):
    good, _ = bad_files(tmp_path)
    assert list(local.add_fits(['ftp://x/y.fits', str(tmp_path / 'no*.fits')]).ledger.reason) == [
        'bad_address',
        'missing_file',
    ]
    assert list_files([str(tmp_path / 'goo*.fits'), str(good)]) == [str(good)]
    assert str(good) in list_files(tmp_path)


def test_two_exposures_of_one_name_are_two_observations(local, tmp_path):
    for k in (0, 1):
        write(
            synthetic_image(k, shape=(100, 100), n_stars=4, n_cosmic=2, name='same')[0],
            tmp_path / f'{k}.fits',
        )
    report = local.add_fits([tmp_path / '0.fits', tmp_path / '1.fits'])
    assert (
        report.added == 2
        and report.images.observation_key[0] == 'same'
        and report.images.observation_key[1].startswith('same~')
    )
    (tmp_path / 'copy.fits').write_bytes((tmp_path / '1.fits').read_bytes())
    again = local.add_fits([tmp_path / 'copy.fits', tmp_path / '0.fits'])
    assert (again.added, again.skipped) == (0, 2)


def test_a_copied_file_outlives_the_original(archive, tmp_path):
    good, _ = bad_files(tmp_path)
    pixels = open_image(good).read_all()[0]
    archive.add_fits(good, copy=True)
    good.unlink()
    with archive.session() as s:
        i, o = s.execute(
            select(Image, Observation).join(Observation, Observation.id == Image.observation_id)
        ).one()
    assert i.uri == o.fits_file_path == f'observations/{o.id}/good.fits'
    assert (archive.open(i.uri, i.hdu_name, i.hdu_ver, i.sha256).read_all()[0] == pixels).all()
    assert archive.detect(nsigma=8.0).detections > 0


def test_an_image_that_went_away_is_in_the_ledger_of_detect(local, tmp_path):
    good, _ = bad_files(tmp_path)
    local.add_fits(good, detect=False)
    good.unlink()
    assert list(local.detect().ledger.reason) == ['missing_file']


# The same place in another band


@pytest.mark.parametrize('ra,dec', [(150.0, 2.0), (0.0, 10.0), (40.0, 89.95)])
def test_sources_are_confirmed_across_bands_and_cosmic_rays_are_not(archive, tmp_path, ra, dec):
    _, truth = synthetic_image(7, n_stars=12, n_cosmic=0, ra=ra, dec=dec, faintest=3000.0)
    for k, band in enumerate(('g', 'r')):
        moved = dict(ra=ra, dec=dec + 0.0007 * k, mjd=60000.0 + k)  # A dither of ten pixels
        image, _ = synthetic_image(20 + k, n_cosmic=8, stars=truth, band=band, name=band, **moved)
        write(image, tmp_path / f'{band}.fits')
    first = archive.add_fits(tmp_path / 'g.fits', survey='one')
    assert first.verdicts == {}
    report = archive.add_fits(tmp_path / 'r.fits', survey='one')
    assert report.verdicts['rule:same-sky-position-other-band'] >= 20  # Both sides get it
    d = archive.detections()
    confirmed = d[d.status == 'confirmed']
    sep = sky_separation_arcsec(
        confirmed.ra.values[:, None],
        confirmed.dec.values[:, None],
        truth.ra.values,
        truth.dec.values,
    ).min(1)
    assert (sep < 1).all()


def test_the_same_band_of_one_survey_confirms_nothing(local, tmp_path):
    _, truth = synthetic_image(7, n_stars=12, n_cosmic=0, faintest=3000.0)
    for k in (0, 1):
        write(
            synthetic_image(20 + k, n_cosmic=8, stars=truth, name=f'e{k}')[0],
            tmp_path / f'{k}.fits',
        )
    assert local.add_fits([tmp_path / '0.fits', tmp_path / '1.fits'], survey='one').verdicts == {}


# Catalogues


def test_every_row_of_a_catalogue_is_a_detection_or_in_the_ledger(archive, tmp_path):
    hdus, truth = synthetic_image(5, n_stars=20, n_cosmic=10)
    archive.add_fits(write(hdus, tmp_path / 'a.fits'), detect=False)
    t = pd.concat(
        [truth, truth[:2].assign(dec=np.nan), truth[:3].assign(ra=10.0)], ignore_index=True
    ).assign(good=lambda t: t.kind == 'star')
    report = archive.add_catalogue(
        t, 'truth', class_name='kind', is_real='good', object_id='object_id', snr='snr'
    )
    assert report.detections == 30 and report.ledger.reason.value_counts().to_dict() == {
        'no_image': 3,
        'bad_position': 2,
    }
    d = archive.detections()
    assert d.status.value_counts().to_dict() == {'confirmed': 20, 'rejected': 10}
    assert (
        np.abs(
            d.sort_values(['ra', 'dec']).pixel_x.values
            - np.floor(truth.sort_values(['ra', 'dec']).x.values + 0.5)
        ).max()
        == 0
    )
    assert archive.add_catalogue(t, 'truth', class_name='kind', is_real='good').detections == 0
    with pytest.raises(BadInput, match='no column'):
        archive.add_catalogue(t, 'truth', ra='alpha')
    with pytest.raises(BadInput, match='between 0 and 1'):
        archive.add_catalogue(t, 'truth', score='snr')
    with pytest.raises(NotFound):
        archive.add_catalogue(tmp_path / 'no.csv', 'x')


# Alerts


def stamp(ny=63, nx=63, seed=0):
    out = io.BytesIO()
    fits.PrimaryHDU(np.random.default_rng(seed).normal(size=(ny, nx)).astype('>f4')).writeto(out)
    return gzip.compress(out.getvalue(), mtime=0)


def packet(k=0, **kw):
    p = dict(
        objectId=f'ZTF24a{k:06d}',
        candid=1000 + k,
        schemavsn='3.3',
        candidate=dict(
            jd=2460000.5 + k,
            ra=10.0 + k,
            dec=5.0,
            fid=1,
            drb=0.9,
            rb=0.8,
            magpsf=18.0,
            sigmapsf=0.1,
            xpos=500.0,
            ypos=500.0,
        ),
    )
    return {**p, **{c: dict(fileName='x', stampData=stamp(seed=k)) for c in STAMPS.values()}, **kw}


def test_alerts_come_in_once_and_broken_ones_cost_nothing_else(archive):
    broken = [
        packet(1, objectId=None),
        packet(2, cutoutScience=None),
        packet(3, cutoutTemplate=dict(stampData=stamp()[:300])),
        packet(4, cutoutDifference=dict(stampData=b'no')),
        packet(5, cutoutScience=dict(stampData=stamp(40, 63))),
        packet(6, candidate=dict(jd=2460000.5, ra=400.0, dec=0.0)),
        packet(7, candidate=dict(jd=1.0, ra=400.0, dec=0.0)),
        dict(alertId=7),
        packet(8, objectId='M31-V1'),
    ]
    report = archive.add_alerts([packet(0), *broken, packet(9)])
    assert report.added == 2 and sorted(report.ledger.reason) == sorted(
        [
            'no_object',
            'no_stamps',
            'truncated',
            'unreadable',
            'uneven_stamps',
            'bad_position',
            'unknown_schema',
            'unknown_schema',
            'unknown_stream',
        ]
    )
    again = archive.add_alerts([packet(0), packet(9), packet(9)])
    assert (again.added, again.skipped) == (0, 3)
    assert archive.add_alerts([packet(8, objectId='M31-V1')], survey='my camera').added == 1
    with archive.session() as s:
        for role, card in STAMPS.items():
            i = s.scalar(
                select(Image)
                .join(Observation)
                .where(Observation.observation_id == '1000', Image.role == role)
            )
            assert (
                stored_bytes(archive.store, i.uri) == packet(0)[card]['stampData']
                and i.wcs_state == 'stamp'
            )
            assert (i.mjd, i.mjd_meaning) == (
                (None, None) if role == 'template' else (60000.0, 'start')
            )
    assert count(archive, ValidationEvent) == 0  # No label in the packet, no verdict


def test_labels_of_alerts_are_proxies(local):
    rows = [
        {**packet(k), 'label_proxy': v, 'label_basis': 'scores_agree(x)'}
        for k, v in enumerate(['real', 'bogus', 'unsure'])
    ]
    local.add_alerts(rows)
    with local.session() as s:
        got = s.execute(
            select(
                DetectionIndex.object_id,
                Detection.status,
                Detection.detection_type,
                ValidationEvent.validator_id,
                ValidationEvent.is_valid,
            )
            .join(Detection, Detection.id == DetectionIndex.detection_id)
            .outerjoin(ValidationEvent, ValidationEvent.detection_id == Detection.id)
            .order_by(DetectionIndex.object_id)
        ).all()
    assert [(g[1].value, g[2].value, g[3], g[4]) for g in got] == [
        ('confirmed', 'unknown', 'proxy:scores_agree(x)', True),
        ('rejected', 'artifact', 'proxy:scores_agree(x)', False),
        ('pending', 'unknown', None, None),
    ]


def test_the_candidate_is_found_in_a_stamp_that_was_cut():
    full = np.arange(3080)
    for where in (1, 5, 14, 31, 32, 33, 1500, 3048, 3049, 3050, 3080):
        seen = full[max(where - 1 - 31, 0) : where - 1 + 32]  # 1-based on the detector
        assert seen[stamp_centre(len(seen), where)] == where - 1


def test_a_stamp_is_whole_or_an_error():
    plain = gzip.decompress(stamp(40, 63))
    assert stamp_shape(plain) == stamp_shape(stamp(40, 63)) == (40, 63)
    for cut in (plain[:5000], stamp()[:-40], plain[:1000]):
        with pytest.raises(BadImage):
            stamp_shape(cut)


def test_numbers_that_mean_missing_are_missing():
    p = flat_alert(
        packet(
            0,
            candidate=dict(
                jd=2460000.5,
                ra=1.0,
                dec=2.0,
                drb=-999.0,
                rb=float('nan'),
                ssnamenr='null',
                fid=np.int64(2),
            ),
        )
    )
    assert not {'drb', 'rb', 'ssnamenr'} & set(p) and type(p['fid']) is int


def test_real_alerts(archive, shared_data):
    path = shared_data / 'alerts' / 'ztf_dev.parquet'
    want = pd.read_parquet(
        path,
        columns=[
            'candid',
            'objectId',
            'jd',
            'label_proxy',
            'label_basis',
            'cutoutDifference',
            'shape',
            'fid',
        ],
    )
    report = archive.add_alerts(path)
    assert (report.added, len(report.ledger)) == (340, 0) and sum(report.verdicts.values()) == (
        want.label_proxy != 'unsure'
    ).sum() == 290
    assert all(v.startswith('proxy:') for v in report.verdicts)
    assert archive.add_alerts(path).skipped == 340
    with archive.session() as s:
        q = select(
            Observation.observation_id,
            Image,
            DetectionIndex.object_id,
            Detection.pixel_x,
            Detection.pixel_y,
            Observation.filter_band,
        ).join(Image, Image.observation_id == Observation.id)
        got = {
            r[0]: r
            for r in s.execute(
                q.join(Detection, Detection.observation_id == Observation.id)
                .join(DetectionIndex)
                .where(Image.role == 'difference')
            )
        }
    for w in want.itertuples():
        _, i, obj, x, y, band = got[str(w.candid)]
        assert (
            obj == w.objectId
            and stored_bytes(archive.store, i.uri) == w.cutoutDifference
            and abs(i.mjd - (w.jd - 2400000.5)) < 1e-9
            and band == {1: 'g', 2: 'r'}[w.fid]
        )
        assert (i.ny, i.nx) == stamp_shape(w.cutoutDifference) and (
            (x, y) == (31, 31) if '(63, 63), (63, 63)' in w.shape else True
        )
        assert 0 <= x < i.nx and 0 <= y < i.ny
    with archive.open(i.uri, i.hdu_name, i.hdu_ver, i.sha256) as image:
        assert image.shape == (i.ny, i.nx) and image.wcs_state == 'none'


def test_raw_packets_of_many_schemas(local, shared_data):
    pytest.importorskip('fastavro')
    folder = shared_data / 'alerts' / 'raw_avro'
    report = local.add_alerts(folder)
    n_files = len(list(folder.iterdir()))  # Two brokers have the same packet of WINTER
    assert report.added + len(report.ledger) + report.skipped == n_files
    assert (report.added, report.skipped) == (15, 1)
    assert set(local.observations()['survey']) == {
        *('ztf', 'lsst', 'winter', 'pgir', 'desirt', 'decat')
    }
    lost = dict(zip(report.ledger.uri.str.split('[').str[0], report.ledger.reason))
    reasons = {name.split('_')[0]: why for name, why in lost.items() if '__err_' in name}
    assert reasons == {
        'Ampel-ZTF': 'unreadable',
        'boom': 'no_schema',  # A message of a stream, read with `schemas=`
        'kowalski': 'unknown_stream',
        'ztf-avro-alert': 'unreadable',
    }
    assert set(lost.values()) == {*reasons.values(), 'no_stamps', 'no_object'}


def test_old_archives_with_a_file_for_each_stamp_open_and_build(local, shared_data):
    local.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)

    def cut():
        t = local.observations()
        rows = pd.DataFrame(dict(sample_key=t['uri'], ra=t['ra'], dec=t['dec'], image_uri=t['uri'],
            image_wcs_state='stamp', pixel_x=31.0, pixel_y=31.0))  # fmt: skip
        got = extract_patches(rows.sort_values('sample_key'), 63, open=ImageOpener(local.store))
        return sorted(got.info['image_sha256']), np.sort(got.data[:, 0, 30, 30])

    in_packs = cut()
    with local.session() as s:
        for image in s.scalars(select(Image)):
            assert packed_part(image.uri)
            image.uri = local.store.put_content(stored_bytes(local.store, image.uri))
            if image.role == 'science':
                seen = s.get(Observation, image.observation_id)
                seen.fits_file_path = seen.fits_url = image.uri
    assert len(list(local.store.list('cas/'))) > 1000
    assert not any(map(packed_part, local.observations()['uri']))
    alone = cut()
    assert alone[0] == in_packs[0] and np.array_equal(alone[1], in_packs[1], equal_nan=True)
    again = local.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)
    assert (again.added, again.skipped, len(again.ledger)) == (0, 340, 0)


def rows_of(archive):
    "What the registry knows of alerts, without the moments of writing"
    with archive.session() as s:
        images = s.execute(
            select(Image.id, Image.role, Image.sha256, Image.mjd, Image.ny, Image.nx, Image.facts)
        ).all()
        seen = s.execute(
            select(Detection.id, Detection.pixel_x, DetectionIndex.object_id, DetectionIndex.mag,
                DetectionIndex.facts).join(DetectionIndex)).all()  # fmt: skip
    return sorted(map(repr, [*images, *seen]))


def test_the_same_night_from_every_container_gives_the_same_registry(tmp_path):
    fastavro = pytest.importorskip('fastavro')
    night = [packet(k) for k in range(6)]
    cutout = dict(type='record', name='cutout', fields=[dict(name='stampData', type='bytes')])
    kinds = {float: 'double', int: 'long', str: 'string', bool: 'boolean', bytes: 'bytes'}
    candidate = [
        dict(name=n, type=['null', kinds[type(v)]]) for n, v in night[0]['candidate'].items()
    ]
    fields = [dict(name='objectId', type='string'), dict(name='candid', type='long'),
        dict(name='candidate', type=dict(type='record', name='candidate', fields=candidate)),
        dict(name='cutoutTemplate', type=cutout), dict(name='cutoutScience', type='cutout'),
        dict(name='cutoutDifference', type='cutout')]  # fmt: skip
    schema = fastavro.parse_schema(dict(type='record', name='alert', fields=fields))
    with open(tmp_path / 'night.avro', 'wb') as file:
        fastavro.writer(file, schema, night)
    pd.DataFrame(night).to_parquet(tmp_path / 'night.parquet')
    sources = dict(
        avro=tmp_path / 'night.avro',
        parquet=tmp_path / 'night.parquet',
        iterator=iter(night),
        table=pd.DataFrame(night),
    )
    found = {}
    for name, source in sources.items():
        archive = open_archive(tmp_path / name)
        assert archive.add_alerts(source, show=False).added == 6
        found[name] = rows_of(archive)
    assert len(found['avro']) == 24 and all(rows == found['avro'] for rows in found.values())


def test_one_night_is_a_handful_of_objects(local, shared_data):
    local.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)
    assert len(list(local.store.list())) == 1
    with local.open(local.observations()['uri'][0]) as image:
        assert image.shape[1] <= 63


def test_all_alerts_of_rubin_come_in_without_being_told(local, shared_data):
    report = local.add_alerts(shared_data / 'alerts' / 'lsst_dev.parquet', show=False)
    assert (report.added, len(report.ledger)) == (44, 0)
    assert set(local.observations()['survey']) == {'lsst'}
    seen = local.detections()
    assert set(seen['status']) == {'pending'}  # Reliability is a score and no label
    assert seen['score'].between(0, 1).all() and seen['mag'].notna().any()


# Real images beside the repository


def test_traps_come_in_rightly_or_not_at_all(local, shared_data):
    report = local.add_fits(shared_data / 'traps', detect=False)
    names = {Path(u.split('[')[0]).name: r for u, r in zip(report.ledger.uri, report.ledger.reason)}
    assert (
        names['truncated_header_m51hst.fits.gz'] in {'truncated', 'unreadable'}
        and names['ccd_raw_no_wcs_a8280271.fits.gz'] == 'no_wcs'
    )
    assert names['sdss_stale_wcs_r.fits.gz'] == names['jwst_star_dummy_wcs.fits'] == 'bad_wcs'
    assert not set(names) & {Path(u).name for u in report.images.uri}


# Synthetic sky


def test_a_synthetic_file_cannot_pass_for_sky(local, tmp_path):
    local.add_fits(
        write(synthetic_image(0, n_stars=3, n_cosmic=1)[0], tmp_path / 'x.fits'),
        origin='survey',
        survey='hst',
    )
    with local.session() as s:
        assert s.scalar(select(Image.origin)) == 'synthetic'


def test_synthetic_archive_is_marked_seeded_and_made_once(tmp_path):
    a, b = (
        synthetic_archive(tmp_path / n, n_observations=3, n_sources=10, survey='HST') for n in 'ab'
    )
    x, y = (z.detections().drop(columns='detection_id') for z in (a, b))
    pd.testing.assert_frame_equal(
        x.sort_values(['ra', 'dec'], ignore_index=True),
        y.sort_values(['ra', 'dec'], ignore_index=True),
    )
    with a.session() as s:
        assert set(s.scalars(select(Image.origin))) == {'synthetic'} and set(
            s.scalars(select(Survey.name))
        ) == {'synthetic-hst'}
        shas = set(s.scalars(select(Image.sha256)))
    with b.session() as s:
        assert set(s.scalars(select(Image.sha256))) == shas
    n = len(a.detections())
    assert (
        len(
            synthetic_archive(
                tmp_path / 'a', n_observations=3, n_sources=10, survey='HST'
            ).detections()
        )
        == n
        == 45
    )
    same = a.detections().dropna(subset='object_id').groupby('object_id').ra.agg(['size', np.ptp])
    assert same['size'].max() == 2 and same['ptp'].max() < 1e-6


# Opening


def test_a_folder_is_a_whole_archive_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_DATABASE_URL', 'postgresql://nobody:secret@127.0.0.1:1/none')
    monkeypatch.setenv('ASTRID_STORAGE_URL', 's3://elsewhere')
    a = open_archive(str(tmp_path / 'here'))
    assert (
        repr(a) == 'Archive(sqlite, folder: 0 surveys, 0 observations, 0 detections)'
        and a.datasets_dir == tmp_path / 'here' / 'datasets'
    )
    assert (tmp_path / 'here' / 'registry.db').is_file() and 'secret' not in repr(a) + repr(
        a.registry
    )
    assert isinstance(open_archive(tmp_path / 'here'), Archive)


def test_pretend_alerts_stay_marked(archive):
    archive.add_alerts([packet(0)], origin='synthetic', show=False)
    archive.add_alerts([packet(1)], show=False)
    with archive.session() as s:
        got = {
            (k, i.origin)
            for k, i in s.execute(
                select(Observation.observation_id, Image).join(
                    Image, Image.observation_id == Observation.id
                )
            )
        }
    assert got == {('1000', 'synthetic'), ('1001', 'survey')}


def test_a_report_counts_one_as_one():
    "It said 1 detections and 1 alerts of ztf"
    one = IngestReport(detections=1, corrected=1, epochs=1, surveys={'ztf': 1})
    assert not re.search(r'\b1 (detections|verdicts|epochs|alerts)\b', str(one))
    many = IngestReport(detections=1200, epochs=2, surveys={'ztf': 2})
    assert '1200 detections' in str(many) and '     2 alerts of ztf' in str(many)
