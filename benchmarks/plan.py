"Planning from a million detections in fifty thousand observations, against the bare SQL that fetches the same columns"

from benchmarks.harness import Row, Table, sized

N_OBSERVATIONS, EACH = sized(50_000, 1_000), 20
SELECTS = (
    'SELECT id, observation_id, ra, dec, pixel_x, pixel_y, confidence_score, detection_type, status, is_validated, human_label, validation_confidence FROM detections',
    'SELECT o.id, s.name, o.observation_id, o.observation_time, o.filter_band, o.exposure_time, o.pixel_scale, o.fits_file_path, o.fits_url '
    'FROM observations o JOIN surveys s ON s.id = o.survey_id',
)
QUESTION = dict(
    confidence_threshold=None,
    validation_status='any',
    max_samples=None,
    check_pixels=False,
    exclusion_arcsec=3,
    negatives={'rejected': 1.0, 'offset': 0.5, 'random_sky': 1.0},
)


def insert(connection, table, **columns):
    "Rows from columns"
    connection.executemany(
        f'INSERT INTO {table} ({", ".join(columns)}) VALUES ({", ".join("?" * len(columns))})',
        zip(*columns.values()),
    )


def fill(path):
    "Images of four by four arcminutes all over the sky, each with its detections"
    import json
    import random
    import sqlite3

    import numpy as np

    from astrid_data.sky import healpix_index

    rng, words, day = np.random.default_rng(7), random.Random(7), '2024-01-01 00:00:00.000000'

    def ids(n):
        return [f'{words.getrandbits(128):032x}' for _ in range(n)]

    m, n, c = N_OBSERVATIONS, N_OBSERVATIONS * EACH, sqlite3.connect(path, isolation_level=None)
    c.executescript('PRAGMA foreign_keys=OFF; PRAGMA synchronous=OFF; BEGIN')
    surveys, (model, run), obs, det = ids(3), ids(2), ids(m), ids(n)
    insert(
        c,
        'surveys',
        id=surveys,
        name=['hst', 'jwst', 'ztf'],
        is_active=[1] * 3,
        created_at=[day] * 3,
        updated_at=[day] * 3,
    )
    insert(
        c,
        'models',
        id=[model],
        name=['m'],
        version=['1'],
        model_type=['CLASSIFIER'],
        is_active=[1],
        created_at=[day],
        updated_at=[day],
    )
    insert(
        c,
        'model_runs',
        id=[run],
        model_id=[model],
        status=['COMPLETED'],
        created_at=[day],
        updated_at=[day],
    )
    dec, ra = np.degrees(np.arcsin(rng.uniform(-0.99, 0.99, m))), rng.uniform(0, 360, m)
    wide = (2 / 60) / np.cos(np.radians(dec))
    corner = [
        np.stack([(ra + i * wide) % 360, dec + j * 2 / 60], 1)
        for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    keys = [f'{k:06d}' for k in range(m)]
    insert(
        c,
        'observations',
        id=obs,
        survey_id=[surveys[k % 3] for k in range(m)],
        observation_id=keys,
        ra=ra.tolist(),
        dec=dec.tolist(),
        observation_time=[
            f'2024-{1 + k % 12:02d}-{1 + k % 28:02d} 03:00:00.000000' for k in range(m)
        ],
        filter_band=['gri'[k % 3] for k in range(m)],
        exposure_time=[30.0] * m,
        fits_url=[f'{k}.fits' for k in keys],
        pixel_scale=[0.25] * m,
        status=['ingested'] * m,
        created_at=[day] * m,
        updated_at=[day] * m,
    )
    insert(
        c,
        'ad_images',
        id=ids(m),
        observation_id=obs,
        role=['image'] * m,
        uri=[f'{k}.fits' for k in keys],
        hdu_name=['0'] * m,
        hdu_ver=[1] * m,
        size_bytes=[4_000_000] * m,
        wcs_state=['celestial'] * m,
        origin=['survey'] * m,
        created_at=[day] * m,
    )
    insert(
        c,
        'ad_observation_index',
        observation_id=obs,
        healpix=healpix_index(ra, dec).tolist(),
        footprint=[json.dumps(f.tolist()) for f in np.stack(corner, 1)],
    )
    of = np.repeat(np.arange(m), EACH)
    at_ra, at_dec = (
        (ra[of] + rng.uniform(-1, 1, n) * wide[of]) % 360,
        dec[of] + rng.uniform(-2 / 60, 2 / 60, n),
    )
    real = rng.random(n) < 0.5
    x, y = rng.integers(0, 960, (2, n)).tolist()
    insert(
        c,
        'detections',
        id=det,
        model_run_id=[run] * n,
        observation_id=[obs[k] for k in of],
        ra=at_ra.tolist(),
        dec=at_dec.tolist(),
        pixel_x=x,
        pixel_y=y,
        confidence_score=rng.uniform(0.5, 1, n).round(4).tolist(),
        detection_type=np.where(real, 'SUPERNOVA', 'UNKNOWN').tolist(),
        model_version=['1'] * n,
        status=np.where(real, 'CONFIRMED', 'REJECTED').tolist(),
        is_validated=[1] * n,
        created_at=[day] * n,
        updated_at=[day] * n,
    )
    insert(
        c,
        'ad_detection_index',
        detection_id=det,
        healpix=healpix_index(at_ra, at_dec).tolist(),
        object_id=[f'o{k // 2}' for k in range(n)],
        mag=rng.uniform(16, 23, n).tolist(),
    )
    said = range(0, n, 10)
    insert(
        c,
        'validation_events',
        id=ids(len(said)),
        detection_id=[det[k] for k in said],
        validator_id=['ann'] * len(said),
        is_valid=[int(real[k]) for k in said],
        confidence_level=['HIGH'] * len(said),
        created_at=[day] * len(said),
    )
    c.execute('COMMIT')
    c.close()


def prepare(folder):
    from astrid_data.registry.tables import connect

    connect(f'sqlite:///{folder}/registry.db').close()
    fill(folder / 'registry.db')


def archive_of(folder):
    from types import SimpleNamespace

    from astrid_data.registry.tables import connect

    return SimpleNamespace(registry=connect(f'sqlite:///{folder}/registry.db'), store=None)


def bare_sql(folder):
    import sqlite3

    c = sqlite3.connect(folder / 'registry.db')

    def once():
        n = 0
        for q in SELECTS:
            k, cursor = 0, c.execute(q)
            while rows := cursor.fetchmany(10_000):
                k += len(rows)
            n = n or k
        return n

    return once


def query(folder):
    from astrid_data.collect import queries as asking
    from astrid_data.collect.params import TrainingDataCollectionParams

    registry, p = archive_of(folder).registry, TrainingDataCollectionParams(**QUESTION)

    def once():
        with registry.session() as session:
            t = asking.read_detections(session, asking.registry_filters(session, p), p)
            asking.read_observations(session, t['observation_id'].unique())
        return len(t)

    return once


def plan(folder):
    from astrid_data.collect.collector import TrainingDataCollector

    collector = TrainingDataCollector(archive_of(folder))

    def once():
        p = collector.plan(progress=False, **QUESTION)
        return int(p.filters['left'].iloc[0])

    return once


TABLES = {
    'plan_1m': Table(
        reference='bare_sql',
        unit='detections/s',
        prepare=prepare,
        about='1,000,000 detections in 50,000 observations, SQLite: the query, and the whole plan with 1,250,000 negatives',
        rows={'bare_sql': Row(bare_sql), 'astrid_data': Row(query), 'astrid_data_plan': Row(plan)},
    )
}
