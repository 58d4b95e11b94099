"The collector against slow and obvious oracles, on SQLite and on PostgreSQL."

import math
import uuid
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from astrid_data import draws
from astrid_data.collect import candidates, plan
from astrid_data.collect import collector as C
from astrid_data.collect import queries as A
from astrid_data.collect.negatives import KnownSky, draw_free, step_from
from astrid_data.collect.params import collection_fields, regions
from astrid_data.core import BadInput, NotFound
from astrid_data.draws import key_numbers
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    Image,
    LabelEvent,
    Model,
    ModelRun,
    Observation,
    Survey,
    TrainingDataset,
    ValidationEvent,
    bulk_insert,
    connect,
)
from astrid_data.registry.verdicts import BOGUS_WORDS, LEVELS, UNSURE_WORDS, effective_labels
from astrid_data.sky import healpix_index, sky_separation_arcsec, unit_vectors
from astrid_data.sky_regions import (
    as_moc,
    as_polygon,
    bounding_box,
    fewer_ranges,
    in_box,
    in_cone,
    in_moc,
    in_polygon,
    moc_cap,
)
from astrid_data.storage.resolve import open_store

utc = UTC
quick = settings(max_examples=40, suppress_health_check=list(HealthCheck))


# ---- labels


def slow_label(d, events, as_of):
    "The rules of the labels page, read aloud"
    newest = {}
    for e in events:
        if e['detection_id'] != d['detection_id'] or (as_of and e['created_at'] > as_of):
            continue
        words = ' '.join((e['label'] or '').lower().replace('_', ' ').split())
        vote = (
            0 if words in UNSURE_WORDS else 1 if e['is_valid'] and words not in BOGUS_WORDS else -1
        )
        order = (e['created_at'], -vote, LEVELS.get(e['confidence_level'], 0), words)
        if e['validator_id'] not in newest or order >= newest[e['validator_id']][0]:
            newest[e['validator_id']] = (
                order,
                vote,
                LEVELS.get(e['confidence_level'], 0)
                + 5 * (not e['validator_id'].startswith('rule:')),
                words,
            )
    votes = [(v, lv, w) for _, v, lv, w in newest.values() if v]
    if votes:
        for level in range(9, -1, -1):  # People first
            total = sum(v for v, lv, _ in votes if lv == level)
            if total:
                return int(total > 0), len(votes), len({v for v, *_ in votes}) == 2
        return -1, len(votes), True
    human = (d['human_label'] or '').lower()
    status, validated = d['status'], d['is_validated']
    if as_of and d['updated_at'] > as_of:
        human, status, validated = '', '', False
    if status == 'REJECTED':
        label = 0
    elif human:
        label = 0 if human in BOGUS_WORDS else -1 if human in UNSURE_WORDS else 1
    elif d['detection_type'] == 'ARTIFACT':
        label = 0
    else:
        label = 1 if validated or status in ('VALIDATED', 'CONFIRMED') else -1
    return label, 0, False


days = st.integers(1, 6).map(lambda k: datetime(2024, 3, k, tzinfo=utc))
detection = st.fixed_dictionaries(
    dict(
        status=st.sampled_from('PENDING VALIDATING VALIDATED REJECTED CONFIRMED ARCHIVED'.split()),
        is_validated=st.booleans(),
        human_label=st.sampled_from([None, None, 'SN Ia', 'artifact', 'unsure']),
        detection_type=st.sampled_from('SUPERNOVA VARIABLE UNKNOWN ARTIFACT'.split()),
        updated_at=days,
    )
)
event = st.fixed_dictionaries(
    dict(
        detection_id=st.sampled_from('0123'),
        validator_id=st.sampled_from(['ann', 'bob', 'rule:x']),
        is_valid=st.booleans(),
        label=st.sampled_from([None, 'source', 'Cosmic_Ray', 'unsure']),
        confidence_level=st.sampled_from([None, *LEVELS]),
        created_at=days,
    )
)


@quick
@given(st.lists(detection, min_size=4, max_size=4), st.lists(event, max_size=12), st.none() | days)
def test_labels_follow_the_order_of_truth(detections, events, as_of):
    detections = [
        dict(d, detection_id=str(i), confidence_score=0.5) for i, d in enumerate(detections)
    ]
    frame = pd.DataFrame(
        events,
        columns='detection_id validator_id is_valid label confidence_level created_at'.split(),
    )
    got = effective_labels(pd.DataFrame(detections), frame, as_of)
    want = [slow_label(d, events, as_of) for d in detections]
    assert list(zip(got.label, got.n_events, got.disagreement)) == want
    assert set(got.class_name[got.label == 0]).isdisjoint({'SN Ia', 'supernova'})


def test_a_score_is_never_a_label():
    d = pd.DataFrame(
        [
            dict(
                detection_id=str(i),
                status='PENDING',
                is_validated=False,
                human_label=None,
                detection_type='SUPERNOVA',
                confidence_score=0.99,
            )
            for i in range(3)
        ]
    )
    none = pd.DataFrame(
        columns='detection_id validator_id is_valid label confidence_level created_at'.split()
    )
    assert list(effective_labels(d, none).label) == [-1] * 3


# ---- plain parts


@quick
@given(
    st.floats(0, 360, exclude_max=True),
    st.floats(-90, 90),
    st.floats(1e-6, 20),
    st.integers(0, 10**6),
)
def test_the_bounding_box_holds_the_cone(ra, dec, radius, seed):
    rng = np.random.default_rng(seed)
    a, d = step_from(
        np.full(200, ra),
        np.full(200, dec),
        rng.uniform(0, 2 * np.pi, 200),
        radius * 3600 * np.sqrt(rng.uniform(0, 1, 200)),
    )
    inside = in_cone(a, d, (ra, dec, radius))
    assert in_box(a[inside], d[inside], bounding_box((ra, dec, radius))).all()
    sep = sky_separation_arcsec(ra, dec, a, d) / 3600
    clear = np.abs(sep - radius) > 1e-9
    assert (inside == (sep <= radius))[clear].all()


@quick
@given(st.integers(0, 10**6), st.floats(1, 4000))
def test_known_sky_agrees_with_all_pairs(seed, radius):
    rng = np.random.default_rng(seed)

    def near(n):
        return (
            (rng.normal(0, 1, n)) % 360,
            np.clip(rng.choice([0, 89.9, -90]) + rng.normal(0, 1, n), -90, 90),
        )

    s, q = near(60), near(80)
    d = np.array([sky_separation_arcsec(a, b, *s).min() for a, b in zip(*q)])
    free = KnownSky(unit_vectors(*s)).free(*q, radius)
    clear = np.abs(d - radius) > 1e-6
    assert (free == (d > radius))[clear].all()


@quick
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 120), st.integers(0, 99)
)
def test_strata_give_their_share(sizes, n, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    keys = draws.sample_keys(
        *[['x'] * len(strata)] * 3,
        np.arange(len(strata)),
        np.zeros(len(strata)),
        [''] * len(strata),
    )
    taken = draws.pick_stratified(strata, draws.ranks(keys, seed), n)
    assert taken.sum() == min(n, sum(sizes))
    got = np.bincount(strata[taken], minlength=len(sizes))
    assert (np.abs(got - np.array(sizes) * min(n / max(sum(sizes), 1), 1)) < 1).all()
    if n:  # One more sample takes nothing away, as long as shares only grow
        more = draws.pick_stratified(strata, draws.ranks(keys, seed), n + 1)
        grown = np.bincount(strata[more], minlength=len(sizes)) >= got
        assert not (taken & ~more)[grown[strata]].any()


@quick
@given(
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([0, 0.5, 1, 3, None]),
    st.sampled_from([0, 0.3, 2]),
    st.none() | st.integers(1, 60),
)
def test_counts_fit_the_limit(positives, rejected, r, s, limit):
    negatives = {k: v for k, v in dict(rejected=r, random_sky=s).items() if v != 0}
    want = draws.counts_for(positives, rejected, negatives, limit)
    total = want['positive'] + min(want.get('rejected', 0), rejected) + want.get('random_sky', 0)
    assert want['positive'] <= positives and (limit is None or total <= limit)
    if limit is None:
        assert want['positive'] == positives
    elif want['positive'] < positives and want['positive'] > 1:  # One more would not have fitted
        p = want['positive'] + 1
        rr = rejected / positives if r is None else r
        assert p + min(math.floor(rr * p + 0.5), rejected) + math.floor(s * p + 0.5) > limit


def test_draws_do_not_depend_on_other_places():
    def accept(place, u, v):
        return pd.DataFrame(dict(u=u, v=v, ok=u < 0.2))

    keys = key_numbers('abc', 5)
    both = draw_free(np.array([4, 9, 2]), keys, accept)
    alone = draw_free(np.array([9]), keys[1:2], accept)
    assert both[both.place == 1].u.tolist() == alone.u.tolist() and len(alone) == 9


# ---- parameters

moments = st.datetimes(
    datetime(1990, 1, 1),
    datetime(2030, 1, 1),
    timezones=st.sampled_from([utc, timezone(timedelta(hours=-7))]),
)


@quick
@given(
    st.none()
    | st.tuples(moments, st.none())
    | moments.map(lambda t: (t, t + timedelta(seconds=1))),
    st.none() | moments,
    st.floats(0, 1),
    st.sampled_from([None, {'rejected': None, 'offset': 0.5}]),
)
def test_parameters_survive_json(date_range, as_of, threshold, negatives):
    p = C.TrainingDataCollectionParams(
        survey_ids=['hst'],
        date_range=date_range,
        as_of=as_of,
        confidence_threshold=threshold,
        negatives=negatives,
        cone=(1, 2, 3),
        channels=('science', 'difference'),
    )
    assert C.TrainingDataCollectionParams.from_json(p.to_json()) == p


@pytest.mark.parametrize(
    'bad',
    [
        dict(date_range=('2024-01-02', '2024-01-01')),
        dict(date_range=('2024-01-01', '2024-01-01')),
        dict(date_range='2024-01-01'),
        dict(date_range=('soon', None)),
        dict(confidence_threshold=70),
        dict(max_samples=0),
        dict(validation_status='ok'),
        dict(survey_ids=[]),
        dict(negatives={'sky': 1}),
        dict(negatives={'offset': -1}),
        dict(negatives={'random_sky': None}),
        dict(cone=(0, 100, 1)),
        dict(cone=(0, 0, 0)),
        dict(box=(0, 1, 5, 5)),
        dict(channels=()),
        dict(channels=('image', 'image')),
        dict(exclusion_arcsec=-1),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(bad):
    with pytest.raises(BadInput):
        C.TrainingDataCollectionParams(**bad)


# ---- archives


def cell_of(ra, dec):
    "What ingest writes; a position that is none has no cell that anything asks for"
    placed = math.isfinite(ra + dec) and abs(dec) <= 90
    return int(healpix_index(ra, dec)) if placed else -1


def frame_wcs(ra, dec):
    w = WCS(naxis=2)
    w.wcs.ctype, w.wcs.crval, w.wcs.crpix, w.wcs.cdelt = (
        ['RA---TAN', 'DEC--TAN'],
        [ra, dec],
        [60.5, 45.5],
        [-1 / 3600, 1 / 3600],
    )
    return w


class Sky:
    "A small archive whose every row is known"

    def __init__(self, url, folder, ids=uuid.uuid4):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.registry, self.store, self.ids = (
            folder,
            connect(url),
            open_store(str(folder)),
            ids,
        )
        self.surveys, self.obs, self.dets = {}, {}, []
        model, self.run = uuid.uuid4(), uuid.uuid4()
        self.put(Model, id=model, name=str(model), version='1', model_type='CLASSIFIER')
        self.put(ModelRun, id=self.run, model_id=model)

    def put(self, table, **kw):
        with self.registry.session() as s:
            s.add(table(**kw))

    def survey(self, name):
        if name not in self.surveys:
            self.surveys[name] = self.ids()
            self.put(Survey, id=self.surveys[name], name=name)
        return self.surveys[name]

    def observation(
        self,
        key,
        survey='hst',
        ra=10.0,
        dec=20.0,
        band='F606W',
        time=datetime(2024, 1, 1, tzinfo=utc),
        roles=('image',),
        state='celestial',
        file=True,
        **kw,
    ):
        id, w = self.ids(), frame_wcs(ra, dec)
        if file:
            data = np.random.default_rng(len(self.obs)).normal(0, 1, (90, 120)).astype('f4')
            data[:, :30] = np.nan
            fits.PrimaryHDU(data, w.to_header()).writeto(self.folder / f'{key}.fits')
        self.put(
            Observation,
            id=id,
            survey_id=self.survey(survey),
            observation_id=key,
            ra=ra % 360,
            dec=dec,
            observation_time=time,
            filter_band=band,
            exposure_time=30.0,
            fits_url=f'{key}.fits',
            pixel_scale=1.0,
            **kw,
        )
        for r in roles:
            self.put(
                Image,
                id=self.ids(),
                observation_id=id,
                role=r,
                uri=f'{key}.fits',
                hdu_name='0',
                hdu_ver=1,
                size_bytes=1000,
                wcs_state=state,
                origin='survey',
                mjd=60310.25,
                mjd_scale='utc',
                mjd_meaning='mid',
            )
        self.obs[key] = SimpleNamespace(
            id=id,
            key=key,
            survey=survey,
            band=band,
            time=time,
            wcs=w,
            seeing=kw.get('seeing'),
            airmass=kw.get('airmass'),
        )
        return self.obs[key]

    def detections(self, o, rows):
        new = []
        for r in rows:
            d = dict(
                id=self.ids(),
                model_run_id=self.run,
                observation_id=o.id,
                pixel_x=31,
                pixel_y=31,
                confidence_score=0.9,
                detection_type='UNKNOWN',
                model_version='1',
                status='CONFIRMED',
                is_validated=True,
                human_label=None,
                validation_confidence=None,
                created_at=datetime(2024, 5, 1, tzinfo=utc),
                updated_at=datetime(2024, 5, 1, tzinfo=utc),
            )
            d |= {k: v for k, v in r.items() if k not in ('object_id', 'x', 'y')}
            if 'ra' not in d:
                d['ra'], d['dec'] = (lambda a: (float(a[0] % 360), float(a[1])))(
                    o.wcs.wcs_pix2world([[r['x'], r['y']]], 0)[0]
                )
            new.append(d)
            self.dets.append(dict(d, object_id=r.get('object_id'), obs=o))
        with self.registry.session() as s:
            bulk_insert(s, Detection, new)
            bulk_insert(
                s,
                DetectionIndex,
                [
                    dict(
                        detection_id=d['id'],
                        healpix=cell_of(d['ra'], d['dec']),
                        object_id=r['object_id'],
                        mag=None,
                        snr=None,
                    )
                    for d, r in zip(new, rows)
                    if r.get('object_id')
                ],
            )
        return [d['id'] for d in new]

    def event(self, detection_id, valid, **kw):
        self.put(
            ValidationEvent,
            id=self.ids(),
            detection_id=detection_id,
            is_valid=valid,
            validator_id=kw.pop('validator_id', 'ann'),
            **kw,
        )

    def plan(self, **kw):
        return C.TrainingDataCollector(self).plan(progress=False, **kw)


@pytest.fixture
def sky(registry_url, tmp_path):
    return Sky(registry_url, tmp_path / 'store')


def grid(n, status=('CONFIRMED', 'REJECTED'), seed=0, **kw):
    rng = np.random.default_rng(seed)
    return [
        dict(
            x=rng.uniform(32, 118),
            y=rng.uniform(1, 88),
            status=status[i % len(status)],
            is_validated=status[i % len(status)] != 'PENDING',
            **kw,
        )
        for i in range(n)
    ]


def check_sums(p):
    assert p.requested == len(p.samples) + int(p.ledger['n'].sum())
    f = p.filters
    assert (
        f['left'].to_numpy()[:-1] - f['removed'].to_numpy()[1:] == f['left'].to_numpy()[1:]
    ).all() and (f['removed'] >= 0).all()
    drawn = (
        p.samples['kind'].isin(['random_sky', 'offset']).sum()
        + (p.ledger['reason'] == 'labelled_real').sum()
    )
    assert f['left'].iloc[-1] + drawn == p.requested
    assert (
        p.samples['sample_key'].is_unique
        and p.samples['sample_key'].str.fullmatch('[0-9a-f]{32}').all()
    )
    assert ((p.samples['label'] == 1) == (p.samples['kind'] == 'positive')).all()


# ---- filters, against a loop over rows


@pytest.fixture(scope='module')
def wide(request, tmp_path_factory):
    "Detections at RA 0, at a pole and elsewhere, in three surveys; made once a database"
    return {}


def wide_sky(wide, url, folder):
    if url in wide:
        return wide[url]
    wide[url] = s = Sky(url, folder)
    rng = np.random.default_rng(1)
    for k, (survey, ra, dec, band) in enumerate(
        [
            ('hst', 0, 0, 'F606W'),
            ('hst', 359.99, 0, 'i'),
            ('jwst', 120, 89.99, 'I'),
            ('ztf', 50, -89.999, 'g'),
            ('ztf', 200, 45, 'i'),
        ]
    ):
        o = s.observation(
            f'w{k}',
            survey,
            ra,
            dec,
            band,
            datetime(2024, 1 + k, 1, tzinfo=utc),
            file=False,
            seeing=[None, 1.0, 0.99, 2.0, 1.0][k],
            airmass=[1.5, None, 1.5, 1.6, 1.0][k],
            status=['ingested', 'preprocessed', 'differenced', 'failed', 'ingested'][k],
        )
        for status in 'PENDING VALIDATING VALIDATED REJECTED CONFIRMED ARCHIVED'.split():
            s.detections(
                o,
                [
                    dict(
                        x=rng.uniform(0, 119),
                        y=rng.uniform(0, 89),
                        status=status,
                        is_validated=status in ('VALIDATED', 'REJECTED', 'CONFIRMED'),
                        confidence_score=float(rng.choice([0.5, 0.7, 0.9])),
                        detection_type=str(rng.choice(['SUPERNOVA', 'ARTIFACT', 'UNKNOWN'])),
                        object_id=rng.choice([None, 'a', 'b']),
                        created_at=datetime(2024, 5, 1 + j, tzinfo=utc),
                        updated_at=datetime(2024, 5, 3 + j, tzinfo=utc),
                    )
                    for j in range(6)
                ],
            )
    for d in s.dets[::7]:
        s.event(d['id'], True, label='Nova', created_at=datetime(2024, 5, 2, tzinfo=utc))
    s.spoken = {d['id'] for d in s.dets[::7]}
    return s


def slow_in_polygon(ra, dec, corners):
    "How often the corners wind around a position, by the angles at which it sees them; for polygons smaller than a hemisphere"
    p, c = unit_vectors(ra, dec), unit_vectors(*np.array(corners).T)
    if p @ c.mean(0) < 0:
        return False
    a, b = np.cross(p, c), np.cross(p, np.roll(c, -1, 0))
    return abs(np.arctan2(np.cross(a, b) @ p, (a * b).sum(1)).sum()) > np.pi


def passes(d, p, spoken):
    o = d['obs']
    if p.survey_ids and o.survey not in [x.lower() for x in p.survey_ids]:
        return False
    if p.date_range and not (
        (p.date_range[0] is None or o.time >= p.date_range[0])
        and (p.date_range[1] is None or o.time < p.date_range[1])
    ):
        return False
    if p.bands and o.band not in p.bands:
        return False
    for limit, value in ((p.max_seeing, o.seeing), (p.max_airmass, o.airmass)):
        if limit is not None and (value is None or value > limit):
            return False
    if p.min_exposure is not None and 30 < p.min_exposure:
        return False
    if p.confidence_threshold is not None and d['confidence_score'] < p.confidence_threshold:
        return False
    if p.object_ids and d['object_id'] not in p.object_ids:
        return False
    if p.cone and sky_separation_arcsec(p.cone[0], p.cone[1], d['ra'], d['dec']) > p.cone[2] * 3600:
        return False
    if p.box:
        a0, a1, d0, d1 = p.box
        if not (
            (a0 <= d['ra'] <= a1 if a0 <= a1 else d['ra'] >= a0 or d['ra'] <= a1)
            and d0 <= d['dec'] <= d1
        ):
            return False
    if p.polygon and not slow_in_polygon(d['ra'], d['dec'], p.polygon):
        return False
    if p.moc and not any(
        int(healpix_index(d['ra'], d['dec'], int(k))) in cells for k, cells in p.moc.items()
    ):
        return False
    names = [p.validation_status] if isinstance(p.validation_status, str) else p.validation_status
    verdict = (
        d['status'] in ('VALIDATED', 'CONFIRMED', 'REJECTED')
        or d['is_validated']
        or d['id'] in spoken
    )
    return any(
        n == 'any'
        or (verdict if n == 'validated' else d['status'].lower() == n.removesuffix('_only'))
        for n in names
    )


MOC = {
    12: [int(healpix_index(0, 0, 12)), int(healpix_index(120, 89.99, 12))],
    14: [int(healpix_index(50, -89.999, 14))],
}
times = st.sampled_from(
    [
        None,
        *(datetime(2024, m, 1, 2, tzinfo=timezone(timedelta(hours=2))) for m in (1, 2, 4)),
        datetime(2024, 3, 1, 0, 0, 1, tzinfo=utc),
    ]
)
question = st.fixed_dictionaries(
    dict(
        survey_ids=st.sampled_from([None, None, ['HST'], ['jwst', 'Ztf']]),
        date_range=st.tuples(times, times).filter(lambda r: not (r[0] and r[1]) or r[0] < r[1]),
        confidence_threshold=st.sampled_from([None, 0.5, 0.7, 0.71]),
        bands=st.sampled_from([None, None, ['i'], ['g', 'F606W']]),
        object_ids=st.sampled_from([None, None, ['a'], ['a', 'zz']]),
        cone=st.sampled_from(
            [None, None, (0, 0, 0.02), (359.995, 0, 0.01), (300, 89.999, 0.01), (0, -90, 0.01)]
        ),
        box=st.sampled_from([None, None, (359.99, 0.01, -1, 1), (0, 360, 89.99, 90)]),
        max_seeing=st.sampled_from([None, None, 1.0, 0.99]),
        max_airmass=st.sampled_from([None, 1.5]),
        min_exposure=st.sampled_from([None, 30, 30.1]),
        polygon=st.sampled_from(
            [
                None,
                None,
                [(359.985, -0.01), (0.01, -0.01), (0, 0.02), (359.99, 0)],
                [(0, 89.98), (90, 89.99), (180, 89.98), (270, 89.995)],
            ]
        ),
        moc=st.sampled_from([None, None, MOC]),
        validation_status=st.sampled_from(
            ['validated', 'any', 'pending', 'validated_only', ['confirmed', 'rejected'], 'archived']
        ),
    )
)


@settings(quick, max_examples=60)
@given(q=question)
def test_filters_pick_the_rows_that_a_loop_picks(q, registry_url, wide, tmp_path_factory):
    s = wide_sky(wide, registry_url, tmp_path_factory.mktemp('wide') / 'store')
    p = C.TrainingDataCollectionParams(**q)
    with s.registry.session() as session:
        t, funnel, _ = C.find_candidates(session, p)
    want = {str(d['id']) for d in s.dets if passes(d, p, s.spoken)}
    assert {str(uuid.UUID(i)) for i in t['detection_id']} == want
    assert funnel['left'].iloc[0] == len(s.dets) and funnel['left'].iloc[-1] == len(want)
    f = C.TrainingDataCollectionParams(confidence_threshold=None, validation_status='any')
    for name, k in (
        ('confidence', 'confidence_threshold'),
        ('date', 'date_range'),
        ('object', 'object_ids'),
    ):  # Alone, each removes what it should
        if (row := funnel[funnel['filter'] == name]).empty or funnel['filter'].iloc[1] != name:
            continue
        alone = sum(
            not passes(d, C.TrainingDataCollectionParams(**{**f.to_dict(), k: q[k]}), s.spoken)
            for d in s.dets
        )
        assert row['removed'].iloc[0] == alone


FROM = 'SELECT d.id FROM detections d JOIN observations o ON o.id = d.observation_id JOIN surveys s ON s.id = o.survey_id LEFT JOIN ad_detection_index x ON x.detection_id = d.id WHERE '
SPOKEN = 'EXISTS (SELECT 1 FROM validation_events e WHERE e.detection_id = d.id{})'
VERDICT = "CAST(d.status AS TEXT) IN ('VALIDATED', 'CONFIRMED', 'REJECTED') OR d.is_validated"
DISTANCE = '2*asin(sqrt(pow(sin(radians(d.dec - {1})/2), 2) + cos(radians(d.dec))*cos(radians({1}))*pow(sin(radians(d.ra - {0})/2), 2))) <= radians({2})'  # Haversine
EAST = timezone(timedelta(hours=5))


def on(month, day=1, second=0):
    return datetime(2024, month, day, 0, 0, second, tzinfo=utc)


BY_HAND = dict(  # Question, condition, and the times in it
    survey_in_any_case=(dict(survey_ids=['HST', 'Ztf']), "lower(s.name) IN ('hst', 'ztf')"),
    start_is_inside=(dict(date_range=(on(2), None)), 'o.observation_time >= :a', on(2)),
    end_is_outside=(dict(date_range=(None, on(4))), 'o.observation_time < :a', on(4)),
    another_zone=(
        dict(date_range=(on(2).astimezone(EAST), on(4, second=1).astimezone(EAST))),
        'o.observation_time >= :a AND o.observation_time < :b',
        on(2),
        on(4, second=1),
    ),
    no_zone_is_utc=(
        dict(date_range=('2024-02-01', '2024-04-01T00:00:01')),
        'o.observation_time >= :a AND o.observation_time < :b',
        on(2),
        on(4, second=1),
    ),
    since=(dict(since=on(4)), 'o.observation_time >= :a', on(4)),
    score_on_the_edge=(dict(confidence_threshold=0.7), 'd.confidence_score >= 0.7'),
    score_above_it=(dict(confidence_threshold=0.7001), 'd.confidence_score >= 0.7001'),
    validated=(dict(validation_status='validated'), f'({VERDICT} OR {SPOKEN.format("")})'),
    **{
        k: (
            dict(validation_status=k),
            f"CAST(d.status AS TEXT) = '{k.removesuffix('_only').upper()}'",
        )
        for k in ('validated_only', 'pending', 'validating', 'confirmed', 'rejected', 'archived')
    },
    two_statuses=(
        dict(validation_status=['pending', 'archived']),
        "CAST(d.status AS TEXT) IN ('PENDING', 'ARCHIVED')",
    ),
    exact_band=(dict(bands=['i']), "o.filter_band = 'i'"),
    other_case=(dict(bands=['f606w', 'G']), "o.filter_band IN ('F606W', 'g')"),
    seeing_or_unknown=(dict(max_seeing=1.0), 'o.seeing IS NOT NULL AND o.seeing <= 1'),
    airmass_or_unknown=(dict(max_airmass=1.5), 'o.airmass IS NOT NULL AND o.airmass <= 1.5'),
    exposure_on_the_edge=(dict(min_exposure=30), 'o.exposure_time >= 30'),
    exposure_above=(dict(min_exposure=30.001), 'o.exposure_time >= 30.001'),
    status_of_observation=(
        dict(observation_status=['Preprocessed', 'failed']),
        "o.status IN ('preprocessed', 'failed')",
    ),
    objects_or_none=(dict(object_ids=['a', 'zz']), "x.object_id IN ('a', 'zz')"),
    cone_at_ra_0=(dict(cone=(0, 0, 0.011)), DISTANCE.format(0, 0, 0.011)),
    cone_beside_ra_0=(dict(cone=(359.995, 0, 0.01)), DISTANCE.format(359.995, 0, 0.01)),
    cone_over_the_pole=(dict(cone=(300, 89.999, 0.015)), DISTANCE.format(300, 89.999, 0.015)),
    south_pole=(dict(cone=(0, -90, 0.01)), 'd.dec <= -89.99'),
    box_across_ra_0=(
        dict(box=(359.985, 0.01, -0.01, 1)),
        '(d.ra >= 359.985 OR d.ra <= 0.01) AND d.dec BETWEEN -0.01 AND 1',
    ),
    box_at_the_pole=(
        dict(box=(0, 180, 89.985, 90)),
        '(d.ra BETWEEN 0 AND 180 OR d.ra = 360) AND d.dec >= 89.985',
    ),
    as_of=(dict(as_of=on(5, 4), validation_status='any'), 'd.created_at <= :a', on(5, 4)),
    as_of_status=(
        dict(as_of=on(5, 6), validation_status='validated'),
        f'd.created_at <= :a AND (d.updated_at <= :a AND ({VERDICT}) OR {SPOKEN.format(" AND e.created_at <= :a")})',
        on(5, 6),
    ),
    as_of_before_all_words=(
        dict(as_of=on(5, 5), validation_status='pending'),
        "d.created_at <= :a AND d.updated_at <= :a AND CAST(d.status AS TEXT) = 'PENDING'",
        on(5, 5),
    ),
    many_at_once=(
        dict(
            survey_ids=['HST', 'Ztf'],
            date_range=(on(2).astimezone(EAST), on(5).astimezone(EAST)),
            max_seeing=2,
            box=(359.9, 210, -89.9995, 46),
            confidence_threshold=0.7,
            validation_status='validated',
        ),
        f"lower(s.name) IN ('hst', 'ztf') AND o.observation_time >= :a AND o.observation_time < :b AND d.confidence_score >= 0.7 AND ({VERDICT} OR {SPOKEN.format('')}) AND o.seeing <= 2 "
        'AND (d.ra >= 359.9 OR d.ra <= 210) AND d.dec BETWEEN -89.9995 AND 46',
        on(2),
        on(5),
    ),
)


@pytest.mark.parametrize('case', BY_HAND)
def test_each_filter_picks_the_rows_of_sql_written_by_hand(
    case, registry_url, wide, tmp_path_factory
):
    "Bounds that rows sit on, values that are unknown, other zones, RA 0 and the poles; nothing else is filtered"
    from sqlalchemy import text

    s, (q, where, *moments) = (
        wide_sky(wide, registry_url, tmp_path_factory.mktemp('wide') / 'store'),
        BY_HAND[case],
    )
    lite = s.registry.dialect == 'sqlite'
    values = {k: f'{t:%Y-%m-%d %H:%M:%S.%f}' if lite else t for k, t in zip('ab', moments)}
    with s.registry.session() as session:
        want = {
            str(uuid.UUID(str(i)))
            for (i,) in session.execute(
                text(FROM + where.replace('%', '%%') if not lite else FROM + where), values
            )
        }
        t, funnel, _ = C.find_candidates(
            session,
            C.TrainingDataCollectionParams(
                **dict(confidence_threshold=None, validation_status='any') | q
            ),
        )
    assert {str(uuid.UUID(i)) for i in t['detection_id']} == want and len(t) == len(want)
    assert case in ('score_above_it', 'exposure_above') or 0 < len(want)
    assert len(want) < len(s.dets) or case in ('exposure_on_the_edge',)
    assert (
        funnel['left'].iloc[0] == len(s.dets)
        and funnel['left'].iloc[-1] == len(want)
        and funnel['removed'].sum() == len(s.dets) - len(want)
    )


@quick
@given(
    st.floats(0, 360, exclude_max=True),
    st.floats(-90, 90),
    st.integers(3, 7),
    st.floats(0.01, 60),
    st.integers(0, 10**6),
)
def test_polygons_are_what_their_corners_wind_around(ra, dec, k, radius, seed):
    rng = np.random.default_rng(seed)
    turn = np.sort(rng.uniform(0, 2 * np.pi, k))
    corners = np.stack(
        step_from(np.full(k, ra), np.full(k, dec), turn, radius * 3600 * rng.uniform(0.3, 1, k)), 1
    )  # Star-shaped where the middle is inside, else anything
    try:
        corners = as_polygon(corners)
    except BadInput:
        return
    a, d = step_from(
        np.full(60, ra),
        np.full(60, dec),
        rng.uniform(0, 2 * np.pi, 60),
        min(radius * 1.5, 170) * 3600 * rng.uniform(0, 1, 60),
    )
    assert in_polygon(a, d, corners).tolist() == [slow_in_polygon(*x, corners) for x in zip(a, d)]
    assert in_polygon(*np.array(corners).T, corners).all() and as_polygon(corners) == corners


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.floats(0, 1, exclude_max=True)), min_size=1, max_size=30
    ),
    st.integers(0, 10**6),
)
def test_a_moc_is_the_union_of_its_cells(cells, seed):
    moc = {}
    for o, u in cells:
        moc.setdefault(o, []).append(int(u * 12 * 4**o))
    rng, stored = np.random.default_rng(seed), as_moc(moc)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    want = np.any([np.isin(healpix_index(ra, dec, o), c) for o, c in moc.items()], axis=0)
    assert in_moc(ra, dec, stored).tolist() == want.tolist() and as_moc(stored) == stored
    assert in_cone(ra[want], dec[want], moc_cap(stored)).all()
    finest = max(moc)  # However it is written down
    assert (
        as_moc(
            {
                finest: [
                    k
                    for o, c in moc.items()
                    for j in set(c)
                    for k in range(j * 4 ** (finest - o), (j + 1) * 4 ** (finest - o))
                ]
            }
        )
        == stored
    )


def test_a_box_holds_ra_0_by_either_name():
    assert in_box([0, 360, 359.9, 0.1], [0] * 4, (350, 360, -1, 1)).tolist() == [
        True,
        True,
        True,
        False,
    ]
    assert in_box([0, 360, 359.9, 0.1], [0] * 4, (0, 1, -1, 1)).tolist() == [
        True,
        True,
        False,
        True,
    ]


def test_rows_at_ra_360_are_found_in_both_boxes(sky):
    sky.detections(
        sky.observation('o', ra=0),
        [dict(ra=r, dec=20.0, object_id=None) for r in (0.0, 360.0, 0.001)],
    )
    with sky.registry.session() as s:
        found = [
            len(C.find_candidates(s, C.TrainingDataCollectionParams(box=b))[0])
            for b in (
                (350, 360, 19, 21),
                (0, 1, 19, 21),
                (0, 360, 19, 21),
                (359, 1, 19, 21),
                (1, 350, 19, 21),
            )
        ]
    assert found == [2, 3, 3, 3, 0]


def test_a_plan_sees_one_moment(sky, monkeypatch):
    o = sky.observation('o')
    sky.detections(o, grid(12))
    quiet, read = sky.plan(), candidates.read_detections

    def while_others_write(*args):
        if len(sky.dets) == 12:
            sky.detections(o, grid(7, seed=3))
        return read(*args)

    monkeypatch.setattr(candidates, 'read_detections', while_others_write)
    p = sky.plan()
    check_sums(p)
    assert p.plan_hash == quiet.plan_hash and sky.plan().plan_hash != p.plan_hash


# ---- plans


def test_a_plan_adds_up_and_draws_sky_away_from_everything(sky):
    for k, (ra, dec) in enumerate([(0.0, 10), (100, 89.995)]):  # Across RA 0 and around the pole
        o = sky.observation(f'o{k}', ra=ra, dec=dec)
        sky.detections(o, grid(24, ('CONFIRMED', 'REJECTED', 'PENDING'), seed=k))
        other = sky.observation(
            f'other{k}', survey='ztf', ra=ra, dec=dec
        )  # Known sources of another survey, that the filters leave out
        sky.detections(other, grid(12, ('PENDING',), seed=10 + k, confidence_score=0.1))
    p = sky.plan(
        survey_ids=['HST'],
        exclusion_arcsec=6,
        negatives={'rejected': 0.5, 'offset': 1, 'random_sky': 2},
    )
    check_sums(p)
    assert (
        p.samples['kind'].value_counts().to_dict()
        == {'random_sky': 32, 'positive': 16, 'offset': 16, 'rejected': 8}
        and not p.shortfall
    )
    drawn = p.samples[p.samples['exclusion_arcsec'].notna()]
    every = np.array([(d['ra'], d['dec']) for d in sky.dets]).T
    for r in drawn.itertuples():
        assert sky_separation_arcsec(r.ra, r.dec, *every).min() > 6
        x, y = sky.obs[r.observation_key].wcs.wcs_world2pix([[r.ra, r.dec]], 0)[0]
        assert 29.5 <= x < 119.5 and -0.5 <= y < 89.5  # Columns before 30 hold no data
    pos = p.samples[p.samples['label'] == 1]
    assert (
        set(drawn['observation_key']) == set(pos['observation_key'])
        and (drawn['label'] == 0).all()
        and (drawn['class_name'] == 'sky').all()
    )
    for r in drawn[drawn['kind'] == 'offset'].itertuples():
        assert 6 <= sky_separation_arcsec(r.ra, r.dec, pos['ra'], pos['dec']).min() <= 18.001
    known = drawn.groupby('observation_key')['kind'].value_counts().unstack()
    assert known.loc['o0'].equals(known.loc['o1'])


def test_the_same_question_gives_the_same_plan_anywhere(sky, tmp_path):
    def fill(s, keys):
        for k in keys:
            s.detections(
                s.observation(f'o{k}', ra=10.0 * k), grid(9, ('CONFIRMED', 'REJECTED'), seed=k)
            )

    fill(sky, [0, 1, 2])
    p = sky.plan()
    assert p.plan_hash == sky.plan().plan_hash
    for pool in (ThreadPoolExecutor(2), ProcessPoolExecutor(1)):
        with pool:
            assert sky.plan(executor=pool).plan_hash == p.plan_hash
    elsewhere = Sky(f'sqlite:///{tmp_path}/elsewhere.db', tmp_path / 'store2')
    fill(elsewhere, [2, 0, 1])  # Other ids, other order
    assert elsewhere.plan().plan_hash == p.plan_hash
    assert sky.plan(seed=1).plan_hash != p.plan_hash
    fill(elsewhere, [3])
    more = elsewhere.plan()
    assert set(p.samples['sample_key']) < set(
        more.samples['sample_key']
    )  # What was drawn stays where it was


def test_footprints_instead_of_pixels(sky, monkeypatch):
    from astrid_data.registry.tables import ObservationIndex

    for k in range(3):
        o = sky.observation(f'o{k}', ra=120.0 * k, dec=[0, 89.99, -45][k], file=False)
        if k < 2:
            sky.put(
                ObservationIndex,
                observation_id=o.id,
                healpix=0,
                footprint=o.wcs.calc_footprint(axes=(120, 90), center=False).tolist(),
            )
        sky.detections(o, grid(20, seed=k))
    p = sky.plan(check_pixels=False, exclusion_arcsec=5, negatives={'random_sky': 1, 'offset': 1})
    check_sums(p)
    assert p.shortfall['random_sky'] == dict(asked=30, got=20, reason='images: no_footprint (1)')
    every = np.array([(d['ra'], d['dec']) for d in sky.dets]).T
    for r in p.samples[p.samples['label'] == 0].itertuples():
        x, y = sky.obs[r.observation_key].wcs.wcs_world2pix([[r.ra, r.dec]], 0)[0]
        assert (
            -0.6 <= x <= 119.6
            and -0.6 <= y <= 89.6
            and sky_separation_arcsec(r.ra, r.dec, *every).min() > 5
        )
    monkeypatch.setattr(
        C, 'draw_sky', partial(C.draw_sky, at_once=1)
    )  # The same where fewer images are drawn in together
    q = sky.plan(check_pixels=False, exclusion_arcsec=5, negatives={'random_sky': 1, 'offset': 1})
    pd.testing.assert_frame_equal(q.samples, p.samples)
    assert q.shortfall == p.shortfall


def test_the_limit_takes_shares(sky):
    for k, survey in enumerate(['hst', 'hst', 'ztf']):
        sky.detections(
            sky.observation(f'o{k}', survey, ra=5.0 * k),
            grid(60, ('CONFIRMED', 'CONFIRMED', 'REJECTED'), seed=k),
        )
    p = sky.plan(max_samples=90, negatives={'rejected': 0.5, 'random_sky': 0.5})
    check_sums(p)
    assert p.samples['kind'].value_counts().to_dict() == {
        'positive': 44,
        'rejected': 22,
        'random_sky': 22,
    }  # 45 would need 91
    assert len(sky.plan(max_samples=91, negatives={'rejected': 0.5, 'random_sky': 0.5})) == 91
    by = p.samples[p.samples.kind == 'positive']['survey'].value_counts()
    assert abs(by['hst'] - 2 * by['ztf']) <= 2
    smaller = sky.plan(max_samples=60, negatives={'rejected': 0.5, 'random_sky': 0.5})

    def keep(q):
        return set(q.samples[q.samples.kind == 'positive']['sample_key'])

    assert keep(smaller) < keep(p)


def test_every_loss_has_its_reason(sky):
    good = sky.observation('good')
    ids = sky.detections(
        good,
        [
            *grid(4),
            dict(x=50, y=50, status='ARCHIVED', is_validated=False),
            dict(x=60, y=60),
            dict(x=60, y=60, status='REJECTED'),
            dict(x=70, y=70),
            dict(x=70, y=70, confidence_score=0.95),
            dict(x=80, y=80),
        ],
    )
    sky.event(ids[-1], True, validator_id='ann')
    sky.event(ids[-1], False, validator_id='bob')
    two = sky.observation('two', roles=('science', 'template'))
    sky.detections(two, grid(2))
    double = sky.observation('double')
    sky.put(
        Image,
        id=uuid.uuid4(),
        observation_id=double.id,
        role='image',
        uri='double.fits',
        hdu_name='1',
        hdu_ver=1,
        wcs_state='celestial',
        origin='survey',
    )
    sky.detections(double, grid(3))
    p = sky.plan(validation_status='any')
    check_sums(p)
    assert p.ledger.groupby('reason')['n'].sum().to_dict() == dict(
        label_unknown=1,
        label_tied=1,
        conflicting_labels=2,
        duplicate=1,
        no_image=2,
        ambiguous_image=3,
    )
    assert (
        p.ledger.set_index('reason')
        .loc['ambiguous_image', 'detail']
        .iloc[0]
        .startswith('image: 2 images')
    )
    assert p.ledger[p.ledger.reason == 'duplicate']['score'].tolist() == [
        0.9
    ]  # The better one stays
    assert (
        set(p.samples['observation_key']) == {'good'}
        and 'science, template' in p.ledger[p.ledger.reason == 'no_image']['detail'].iloc[0]
    )
    t = sky.plan(channels=('template', 'science'), validation_status='any', negatives={})
    assert set(t.samples['observation_key']) == {'two'} and {'template_uri', 'science_hdu'} <= set(
        t.samples
    )


def test_stamps_have_positions_by_pixel_and_no_sky(sky):
    for k in range(4):
        sky.detections(
            sky.observation(
                f'c{k}',
                'ztf',
                ra=k,
                roles=('template', 'science', 'difference'),
                state='stamp',
                file=False,
            ),
            [dict(x=60, y=40, status=['CONFIRMED', 'REJECTED'][k % 2], object_id=f'o{k // 2}')],
        )
    p = sky.plan(channels=('template', 'science', 'difference'))
    check_sums(p)
    assert p.samples['pixel_x'].tolist() == [31.0] * 4 and sorted(p.samples['object_id']) == [
        'o0',
        'o0',
        'o1',
        'o1',
    ]
    assert 'stamps' in p.shortfall['random_sky']['reason'] and p.shortfall['random_sky']['got'] == 0
    assert (
        sky.plan(channels=('template', 'science', 'difference'), check_pixels=False).shortfall
        == p.shortfall
    )
    assert p.samples['mjd_meaning'].eq('mid').all() and p.samples['mjd'].eq(60310.25).all()


def test_a_deployment_without_image_rows_serves_its_files(sky):
    sky.detections(sky.observation('old', roles=()), grid(6))
    p = sky.plan()
    assert p.samples['image_uri'].eq('old.fits').all() and p.samples['kind'].nunique() == 3
    assert (
        p.samples['mjd'].eq(60310.0).all()
        and p.samples['mjd_meaning'].isna().all()
        and p.price['unknown_sizes'] == 1
    )


def test_a_broken_image_costs_no_other(sky):
    for k in range(3):
        sky.detections(sky.observation(f'o{k}', ra=3.0 * k), grid(10, seed=k))
    (sky.folder / 'o0.fits').write_bytes(b'no image')
    (sky.folder / 'o1.fits').unlink()
    p = sky.plan()
    check_sums(p)
    s = p.shortfall['random_sky']
    assert (
        (s['asked'], s['got']) == (15, 5)
        and 'missing_file (1)' in s['reason']
        and s['reason'].count('images:') == 2
    )


def test_no_room_is_reported(sky):
    sky.detections(sky.observation('o'), grid(10))
    p = sky.plan(exclusion_arcsec=500)
    assert p.shortfall['random_sky'] == dict(
        asked=5, got=0, reason='too little free valid sky in the images'
    )


def test_as_of_pins_labels_and_rows(sky):
    o, late = sky.observation('o'), datetime(2024, 6, 1, tzinfo=utc)
    ids = sky.detections(o, grid(12, ('CONFIRMED', 'REJECTED', 'PENDING')))
    before = sky.plan(as_of='2024-05-15')
    sky.event(ids[0], False, created_at=late)
    sky.event(ids[2], True, created_at=late)
    with sky.registry.session() as s:
        s.get(Detection, ids[1]).status = 'CONFIRMED'
        s.get(Detection, ids[1]).updated_at = late
    sky.detections(o, [dict(r, created_at=late, updated_at=late) for r in grid(8, seed=5)])
    again = sky.plan(as_of='2024-05-15')
    lost = sky.plan(as_of=None)

    def key(p):
        return set(zip(p.samples['detection_id'], p.samples['label']))

    assert set(again.samples['sample_key']) <= set(before.samples['sample_key']) and not set(
        lost.samples['sample_key']
    ) <= set(before.samples['sample_key'])
    assert set(before.samples.query('kind == "random_sky"')['sample_key']) == set(
        again.samples.query('kind == "random_sky"')['sample_key']
    )
    gone = {
        k for k in key(before) - key(again)
    }  # The row whose status was overwritten keeps no past; nothing else may move
    assert (
        {i for i, _ in gone if i} <= {str(ids[1])}
        and (str(ids[0]), 1) in key(again)
        and (str(ids[0]), 0) in key(lost)
        and (str(ids[2]), 1) in key(lost)
    )


def test_people_can_find_a_source_in_drawn_sky(sky):
    sky.detections(sky.observation('o'), grid(10))
    key = sky.plan().samples.query('kind == "random_sky"')['sample_key'].iloc[0]
    sky.put(LabelEvent, id=uuid.uuid4(), sample_key=key, labeller='ann', is_real=None)
    assert key in set(sky.plan().samples['sample_key'])
    sky.put(
        LabelEvent,
        id=uuid.uuid4(),
        sample_key=key,
        labeller='bob',
        is_real=True,
        label='faint star',
    )
    p = sky.plan()
    check_sums(p)
    assert p.ledger['reason'].tolist() == ['labelled_real'] and p.ledger['sample_key'].tolist() == [
        key
    ]


def test_classes_are_effective_and_unknown_names_help(sky):
    ids = sky.detections(sky.observation('o'), grid(6, detection_type='SUPERNOVA'))
    sky.event(ids[0], True, label='Variable')
    assert sky.plan(anomaly_types=['VARIABLE']).samples.query('label == 1')[
        'detection_id'
    ].tolist() == [str(ids[0])]
    with pytest.raises(NotFound, match='kilonova among 2 supernova, 1 variable'):
        sky.plan(anomaly_types=['kilonova'])
    with pytest.raises(NotFound, match='hst'):
        sky.plan(survey_ids=['hubble'])
    with pytest.raises(NotFound, match='F606W'):
        sky.plan(bands=['F606'])
    with pytest.raises(NotFound, match=r'date .* left 0.*observed from 2024-01-01'):
        sky.plan(date_range=('2030-01-01', None))
    assert len(sky.plan(date_range=('2024-01-01T00:00:00', '2024-01-01T00:00:01'))) and len(
        sky.plan(date_range=(datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), None))
    )
    with pytest.raises(NotFound):
        sky.plan(date_range=(None, '2024-01-01'))


def test_an_empty_registry_says_so(sky):
    with pytest.raises(NotFound, match='no observation at all'):
        sky.plan()


def test_parameters_survive_the_database(sky):
    p = C.TrainingDataCollectionParams(
        date_range=(datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5))), None),
        as_of=datetime(2025, 1, 1),
        negatives={'rejected': None},
    )
    id = uuid.uuid4()
    sky.put(
        TrainingDataset,
        id=id,
        name='x',
        collection_params=__import__('json').loads(p.to_json()),
        created_by='test',
        anomaly_ratio=0.5,
        quality_score=0.5,
    )
    with sky.registry.session() as s:
        assert (
            C.TrainingDataCollectionParams.from_json(s.get(TrainingDataset, id).collection_params)
            == p
        )


def test_reading_by_id_and_reading_all_agree(sky):
    for k in range(2):
        sky.detections(sky.observation(f'o{k}'), grid(9, seed=k, object_id=f'x{k}'))
    with sky.registry.session() as s:
        t = A.read_detections(s, [], C.TrainingDataCollectionParams())[::2].reset_index(drop=True)
        x = A.DetectionIndex
        scan, one_by_one = (
            A.read_by_id(
                s,
                A.select(A.text(x.detection_id), x.object_id),
                x.detection_id,
                t['detection_id'],
                few=few,
            )
            for few in (5, 5000)
        )
        indexed = A.add_index(s, t)
        many = A.fetch(s, A.select(A.text(Detection.id)), chunk=4)
    names = dict(zip(scan['detection_id'], scan['object_id']))
    assert (
        len(scan['detection_id']) == 18
        and len(one_by_one['detection_id']) == len(t) == 9
        and len(set(many['id'])) == 18
    )
    assert all(names[k] == v for k, v in zip(one_by_one['detection_id'], one_by_one['object_id']))
    assert list(indexed['object_id']) == [names[k] for k in t['detection_id']]


def test_uneven_losses_are_said(sky):
    bad = sky.observation('bad', roles=())
    sky.detections(bad, [dict(r, status='REJECTED') for r in grid(40)])
    with sky.registry.session() as s:
        s.get(Observation, bad.id).fits_url = ''
    sky.detections(sky.observation('good'), grid(60))
    p = sky.plan()
    assert (
        'warning   losses differ between classes' in repr(p)
        and '40% of label 0' in repr(p)
        and '40% of label 0' in p._repr_html_()
    )
    assert p.plot().axes
    assert not [
        line for line in repr(p).splitlines() if 'warning' in line and 'bands' in line
    ]  # All are in one band


def test_losses_by_class_band_and_magnitude_are_counted_and_compared(sky):
    "Half of the faint ones have no image; they are in a band of their own"
    ids = sky.detections(
        sky.observation('bright', band='r'), grid(40, ('CONFIRMED', 'REJECTED'))
    ) + sky.detections(sky.observation('seen', band='z'), grid(40, seed=1))
    ids += sky.detections(
        sky.observation('unseen', band='z', roles=(), file=False), grid(40, seed=2)
    )
    with sky.registry.session() as s:
        s.scalar(C.select(Observation).where(Observation.observation_id == 'unseen')).fits_url = ''
        bulk_insert(
            s,
            DetectionIndex,
            [
                dict(
                    detection_id=i,
                    healpix=0,
                    object_id=None,
                    mag=18.5 if k < 40 else 22.25,
                    snr=None,
                )
                for k, i in enumerate(ids)
            ],
        )
    p = sky.plan(negatives={'rejected': None})
    check_sums(p)

    def rates(by):
        return {
            k: (a, b, r)
            for k, a, b, r in p.loss_rates(by)[[by, 'kept', 'lost', 'rate']].values.tolist()
        }

    assert rates('band') == {'r': (40, 0, 0), 'z': (40, 40, 0.5)} and rates('mag') == {
        18: (40, 0, 0),
        22: (40, 40, 0.5),
    }
    assert rates('label') == {0: (40, 20, 1 / 3), 1: (40, 20, 1 / 3)}
    said = [line.split(None, 1)[1] for line in repr(p).splitlines() if line.startswith('  warning')]
    assert said == [
        'losses differ between bands: 0% of band r, 50% of band z',
        'losses differ between magnitudes: 0% of magnitude 18, 50% of magnitude 22',
    ]
    one = pd.DataFrame(dict(band=list('abcdefghij') * 200))  # Of ten, the one that differs is named
    assert (
        plan.uneven_losses(one, pd.DataFrame(dict(band=['c'] * 60, n=1)), 'band')
        == 'losses differ between bands: 23% of band c, 3% of all'
    )
    assert plan.uneven_losses(one, one[:0].assign(n=0), 'band') == ''


def test_no_observation_holds_one_class_only_where_that_can_be(sky):
    for k in range(5):
        sky.detections(
            sky.observation(f'o{k}', ra=3.0 * k),
            grid(2 + 6 * k, ('CONFIRMED',) if k % 2 else ('CONFIRMED', 'REJECTED'), seed=k),
        )
    sky.detections(sky.observation('bogus', ra=100.0), grid(30, ('REJECTED',), seed=9))

    def classes(p):
        return p.samples.groupby('observation_key')['label'].nunique()

    p = sky.plan(
        negatives={'random_sky': 1}
    )  # Where sky is drawn, it is drawn where the positives are
    assert (
        (classes(p) == 2).all()
        and 'one class' not in repr(p)
        and plan.one_class_only(p.samples) == (0, 0)
    )
    p = sky.plan(
        negatives={'rejected': 0.4}
    )  # As many as there are beside positives, which come first
    assert plan.one_class_only(p.samples)[1] == 0 and 'bogus' not in set(
        p.samples['observation_key']
    )
    p = sky.plan(
        negatives={'rejected': None, 'random_sky': 0.02}
    )  # More is asked for than images with positives have
    alone = classes(p)[lambda n: n == 1]
    real, none = plan.one_class_only(p.samples)
    assert none == 1 and 'bogus' in alone.index and real + none == len(alone) > 1
    assert (
        f'one class {real + none} observations: {real} without a negative, 1 without a positive'
        in ' '.join(repr(p).split())
    )


def test_a_plan_says_how_many_requests_it_needs(sky):
    for k in range(3):
        sky.detections(sky.observation(f'o{k}', ra=3.0 * k), grid(6, seed=k))
    p = sky.plan()
    assert (
        p.price['requests'] == p.price['images'] == 3
        and p.price['bytes'] == 3000
        and '3 images in 3 requests, 3 kB' in repr(p)
    )


def test_the_hardest_negatives_of_a_plan(sky):
    import astrid_data

    sky.detections(sky.observation('o'), grid(30))
    p = sky.plan()
    score = p.samples['ra'].rank() / len(p.samples)  # Some model's opinion
    hard = astrid_data.hardest_negatives(p, dict(zip(p.samples['sample_key'], score)), 7)
    want = p.samples.assign(s=score)[p.samples['label'] == 0].nlargest(7, 's')
    assert (
        hard['sample_key'].tolist() == want['sample_key'].tolist()
        and (hard['label'] == 0).all()
        and hard['model_score'].is_monotonic_decreasing
    )
    assert (
        astrid_data.hardest_negatives(p, score.to_numpy(), 7)['sample_key'].tolist()
        == hard['sample_key'].tolist()
    )
    by_detection = p.samples[p.samples['detection_id'].notna()]
    assert set(
        astrid_data.hardest_negatives(p, dict(zip(by_detection['detection_id'], range(99))), 99)[
            'kind'
        ]
    ) == {'rejected'}  # Drawn sky has no detection, so no score
    with pytest.raises(BadInput, match='sample_key'):
        astrid_data.hardest_negatives(p, {'nobody': 1.0})


def test_a_widened_question_says_so(sky):
    sky.detections(sky.observation('o'), grid(8, confidence_score=0.6))
    p = C.TrainingDataCollectionParams(confidence_threshold=0.9)
    with pytest.raises(NotFound):
        C.TrainingDataCollector(sky).plan(p, progress=False)
    wide = C.TrainingDataCollector(sky).plan(p.widen(confidence_threshold=0.5), progress=False)
    assert len(wide) and 'from confidence_threshold 0.9' in repr(wide)
    assert p.widen(since='2024-01-01').date_range[0] == datetime(2024, 1, 1, tzinfo=utc)


@pytest.mark.parametrize('check', [True, False])
def test_drawn_positions_keep_apart(sky, check):
    from astrid_data.registry.tables import ObservationIndex

    o = sky.observation('o')
    sky.put(
        ObservationIndex,
        observation_id=o.id,
        healpix=0,
        footprint=o.wcs.calc_footprint(axes=(120, 90), center=False).tolist(),
    )
    sky.detections(o, grid(20, ('CONFIRMED',)))
    s = sky.plan(
        check_pixels=check, exclusion_arcsec=3, negatives={'random_sky': 3, 'offset': 2}
    ).samples.query('label == 0')
    d = [
        sky_separation_arcsec(a, b, s.ra.drop(i), s.dec.drop(i)).min()
        for i, a, b in zip(s.index, s.ra, s.dec)
    ]
    assert len(s) > 80 and min(d) > 3


# ---- the index of cells, against a plain scan


@pytest.fixture(scope='module')
def scattered():
    "Positions everywhere, most of them at RA 0 and the poles"
    rng = np.random.default_rng(4)
    ra = np.concatenate([rng.normal(0, 2, 3000) % 360, rng.uniform(0, 360, 4000), [0, 360, 0, 90]])
    dec = np.concatenate(
        [
            rng.normal(0, 2, 3000),
            np.degrees(np.arcsin(rng.uniform(-1, 1, 2000))),
            90 - np.abs(rng.normal(0, 1, 1000)),
            -90 + np.abs(rng.normal(0, 1, 1000)),
            [0, 0, 90, -90],
        ]
    )
    return ra, dec, healpix_index(ra, dec)


def in_ranges(cells, ranges):
    k = np.searchsorted(ranges[:, 0], cells, 'right') - 1
    return (k >= 0) & (cells < ranges[np.maximum(k, 0), 1])


@quick
@given(
    st.floats(0, 360, exclude_max=True),
    st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, -89.9, 0, 89.9, 90])),
    st.floats(0.0005, 40),
    st.integers(0, 10**6),
)
def test_cells_cover_their_region(scattered, ra, dec, radius, seed):
    "Whatever is in a region is in a cell of its cover, however few ranges are left"
    a, d, cells = scattered
    rng = np.random.default_rng(seed)
    turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
    n = len(turns)
    around = step_from(np.full(n, ra), np.full(n, dec), turns, np.full(n, radius * 3600))
    corners = np.column_stack(around)
    west, width = rng.uniform(0, 360), rng.uniform(0.001, 359)
    south = rng.uniform(-90, 89.9)
    box = (west, (west + width) % 360, south, min(90.0, south + radius))
    asked = [dict(cone=(ra, dec, radius)), dict(box=box)]
    try:
        asked.append(dict(polygon=as_polygon(corners)))
    except BadInput:
        pass
    order = int(rng.integers(3, 17))
    asked.append(dict(moc={order: np.unique(healpix_index(a[:50], d[:50], order)).tolist()}))
    for one in asked:
        (region,) = regions(C.TrainingDataCollectionParams(**one))
        ranges = region.cells()
        inside = region.contains(a, d)
        assert in_ranges(cells[inside], ranges).all(), one
        few = fewer_ranges(ranges, 7)
        assert len(few) <= 7 and in_ranges(cells[inside], few).all(), one


@pytest.mark.parametrize('missing', [0, 40])
def test_the_index_finds_what_a_scan_finds(sky, scattered, missing):
    "Cone, box, polygon and MOC, at RA 0 and the poles; detections that have no cell are found too"
    o = sky.observation('o', file=False)
    a, d, cells = scattered
    sky.detections(o, [dict(ra=float(x), dec=float(y), object_id='a') for x, y in zip(a, d)])
    questions = [
        dict(cone=(0, 0, 0.3)),
        dict(cone=(200, 89.9, 0.4)),
        dict(cone=(10, -89.95, 0.5)),
        dict(box=(359.8, 0.3, -0.4, 0.4)),
        dict(box=(0, 360, 89.7, 90)),
        dict(polygon=[(359.5, -0.5), (0, -0.2), (0.5, -0.5), (0, 0.5)]),
        dict(polygon=[(0, 89.6), (120, 89.6), (240, 89.6)]),
        dict(moc={9: [int(healpix_index(0.01, 0.01, 9))], 16: [int(healpix_index(0, 0, 16))]}),
        dict(cone=(0, 0, 180)),
    ]
    with sky.registry.session() as session:
        if missing:
            gone = session.scalars(C.select(DetectionIndex.detection_id).limit(missing)).all()
            session.execute(delete(DetectionIndex).where(DetectionIndex.detection_id.in_(gone)))
        used = 0
        for one in questions:
            p = C.TrainingDataCollectionParams(**one)
            (region,) = regions(p)
            by_cells = 'healpix' in str(A.sky_condition(session, region))
            found, _ = A.cut_regions(
                A.read_detections(session, [], p), A.funnel_counts(session, []), p
            )
            inside = region.contains(a, d)
            assert len(found) == inside.sum() > 0, one
            assert np.allclose(sorted(found['ra']), sorted(a[inside]), atol=1e-12)
            used += by_cells
    assert used == len(questions) - 1  # All the sky is read by a scan


def test_every_field_of_a_collection_is_told():
    from dataclasses import fields

    names = [field.name for field in fields(C.TrainingDataCollectionParams)]
    known = collection_fields()
    assert [field.name for field in known] == names
    assert all(field.text for field in known)
    assert C.TrainingDataCollectionParams(**{f.name: f.default for f in known}) == (
        C.TrainingDataCollectionParams()
    )


def test_a_crowded_image_gives_what_it_has_in_bounded_memory():
    "Far more random sky than there is room for: no list of all close pairs, and an end"
    import tracemalloc

    from astrid_data.collect.negatives import KnownSky, SkyJob, draw_in_footprints

    half = 0.01  # An image of 72 arcsec, room for about 600 positions
    corners = np.array(
        [[[10 - half, -half], [10 + half, -half], [10 + half, half], [10 - half, half]]]
    )
    job = SkyJob(
        0,
        ('x', 'SCI', 1),
        20_000,
        12345,
        around=np.zeros((0, 2)),
        n_around=np.zeros(0, int),
        keys_around=np.zeros(0, 'u8'),
        known=None,
        exclusion_arcsec=2.0,
        find_sources=False,
    )
    tracemalloc.start()
    sky, _ = draw_in_footprints([job], corners, np.array([0.2]), KnownSky(np.zeros((0, 3))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    away = sky_separation_arcsec(
        sky['ra'].to_numpy()[:, None], sky['dec'].to_numpy()[:, None], sky['ra'], sky['dec']
    )
    assert 600 < len(sky) < 1200
    assert away[~np.eye(len(sky), dtype=bool)].min() > 2.0
    assert peak < 100e6
