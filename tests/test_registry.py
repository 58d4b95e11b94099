"The registry on SQLite and on PostgreSQL, made by us and made by an older system."

import gc
import json
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Text, cast, event, func, inspect, or_, select, text
from sqlalchemy.exc import SQLAlchemyError

import astrid_data.registry.tables as R
from astrid_data.cli import main
from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.core import (
    BadInput,
    Conflict,
    NotFound,
    Secret,
    Settings,
    load_settings,
    stable_uuid,
)
from astrid_data.sky import healpix_index, sky_separation_arcsec
from astrid_data.sky_regions import cone_cells, in_cone

here = Path(__file__).parent
start = datetime(2024, 3, 1, tzinfo=UTC)


# ---- the schema ----

# As AstrID has it. V: text of that length, N: may be NULL; num: a number of our own width, time: with a zone
ASTRID = {
    'surveys': 'name V100, description text N, base_url V500 N, api_endpoint V500 N, is_active bool, created_at time, updated_at time',
    'observations': """survey_id uuid, observation_id V255, ra num, dec num, observation_time time, filter_band V50, exposure_time num, fits_url V1000, pixel_scale num N,
        image_width int N, image_height int N, airmass num N, seeing num N, status V50, fits_file_path V500 N, thumbnail_path V500 N, created_at time, updated_at time""",
    'models': """name V100, version V50, model_type model_type, architecture json N, hyperparameters json N, training_metrics json N, training_dataset V200 N, precision num N,
        recall num N, f1_score num N, accuracy num N, training_energy_wh num N, training_avg_power_w num N, training_peak_power_w num N, training_duration_seconds int N,
        training_carbon_footprint_kg num N, is_active bool, deployment_date time N, model_path V500 N, mlflow_run_id V100 N, created_at time, updated_at time""",
    'model_runs': """model_id uuid, observation_id uuid N, input_image_path V500 N, output_mask_path V500 N, confidence_map_path V500 N, inference_time_ms int N,
        memory_usage_mb int N, energy_consumed_wh num N, avg_power_draw_w num N, peak_power_draw_w num N, carbon_footprint_g num N, total_predictions int N,
        high_confidence_predictions int N, status model_run_status, started_at time N, completed_at time N, error_message text N, created_at time, updated_at time""",
    'detections': """model_run_id uuid, observation_id uuid, ra num, dec num, pixel_x int, pixel_y int, confidence_score num, detection_type detection_type, model_version V50,
        inference_time_ms int N, prediction_metadata json N, status detection_status, is_validated bool, validation_confidence num N, human_label V50 N, created_at time,
        updated_at time""",
    'validation_events': """detection_id uuid, validator_id V100, is_valid bool, label V50 N, confidence_level confidence_level N, notes text N, tags json N,
        image_quality image_quality N, detection_quality detection_quality N, created_at time""",
    'training_datasets': """name V255, description text N, collection_params json, total_samples int, anomaly_ratio num, quality_score num, created_at time, created_by V255,
        status V50""",
    'training_samples': """dataset_id uuid, observation_id uuid N, detection_id uuid N, image_path V500, mask_path V500 N, labels json, metadata json N, created_at time""",
    'training_runs': """dataset_id uuid, model_id uuid N, mlflow_run_id V255 N, training_params json, performance_metrics json N, status V50, started_at time, completed_at time N""",
    'api_keys': """name V255, description text N, key_hash V255, key_prefix V8, permissions json, scopes json N, expires_at time N, last_used_at time N, usage_count V20,
        created_by V255 N, is_active bool, created_at time, updated_at time""",
}
LABELS = {
    'model_type': 'UNET ANOMALY_DETECTOR CLASSIFIER SEGMENTATION',
    'model_run_status': 'PENDING RUNNING COMPLETED FAILED',
    'detection_type': 'SUPERNOVA VARIABLE TRANSIENT UNKNOWN ARTIFACT',
    'detection_status': 'PENDING VALIDATING VALIDATED REJECTED CONFIRMED ARCHIVED',
    'confidence_level': 'LOW MEDIUM HIGH EXPERT',
    'image_quality': 'EXCELLENT GOOD FAIR POOR',
    'detection_quality': 'EXCELLENT GOOD FAIR POOR',
    'candidate_status': 'PENDING PROCESSING DETECTED REJECTED DUPLICATE',
}
PG = {
    'character varying': 'V',
    'double precision': 'num',
    'numeric': 'num',
    'jsonb': 'json',
    'timestamp with time zone': 'time',
    'integer': 'int',
    'boolean': 'bool',
}


def pg_columns(connection, ours=False):
    "Table → columns as `ASTRID` writes them, without the id"
    q = text("""SELECT table_name, column_name, data_type, udt_name, character_maximum_length, is_nullable FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY table_name, ordinal_position""")
    out = {}
    for t, c, kind, udt, n, null in connection.execute(q):
        kind = udt if kind == 'USER-DEFINED' else PG.get(kind, kind) + (str(n) if n else '')
        if c != 'id':
            out.setdefault(t, []).append(f'{c} {kind}' + ' N' * (null == 'YES'))
    return {t: c for t, c in out.items() if t.startswith('ad_') == ours}


def pg_labels(connection):
    return {
        t: name
        for t, name in connection.execute(
            text(
                "SELECT typname, string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid GROUP BY typname"
            )
        )
    }


def test_the_tables_are_those_of_astrid(pg_url):
    with R.connect(pg_url).engine.connect() as c:
        got, labels = pg_columns(c), pg_labels(c)
    assert {t: got[t] for t in ASTRID} == {
        t: [' '.join(x.split()) for x in spec.split(',')] for t, spec in ASTRID.items()
    }
    assert {k: labels[k] for k in LABELS} == LABELS and labels['difference_run_status']
    assert set(got) == {*ASTRID, 'difference_runs', 'candidates'}


def test_the_hand_made_old_tables_are_as_written_down_here(old):
    with old.engine.connect() as c:
        got = pg_columns(c)
    assert {t: got[t] for t in got if t in ASTRID and t not in ('training_runs', 'api_keys')} == {
        t: [' '.join(x.split()) for x in s.split(',')]
        for t, s in ASTRID.items()
        if t not in ('training_runs', 'api_keys')
    }


def test_sqlite_keeps_choices_as_upper_case_text(tmp_path):
    reg = R.connect(f'sqlite:///{tmp_path / "a.db"}')
    fill(reg, 1)
    with sqlite3.connect(tmp_path / 'a.db') as c:
        assert c.execute(
            'SELECT status, detection_type, typeof(ra), typeof(id) FROM detections'
        ).fetchone() == ('PENDING', 'SUPERNOVA', 'real', 'text')


def test_every_key_and_check_has_a_name():
    for t in R.Base.metadata.tables.values():
        for c in t.constraints:
            assert c.name, (t.name, c)


# ---- making tables ----


def shape(connection):
    "All that can be seen of the tables, whoever made them"
    i, out = inspect(connection), {}
    for t in sorted(i.get_table_names()):
        if t.endswith('alembic_version'):
            continue
        out[t] = (
            sorted((c['name'], str(c['type']), c['nullable']) for c in i.get_columns(t)),
            i.get_pk_constraint(t),
            sorted(map(str, i.get_foreign_keys(t))),
            sorted(map(str, i.get_indexes(t))),
            sorted(map(str, i.get_unique_constraints(t))),
            sorted(map(str, i.get_check_constraints(t))),
        )
    return out


def test_migrations_make_what_the_classes_say(registry_url, request, tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with R.connect(registry_url).engine.connect() as c:
        assert (
            compare_metadata(
                MigrationContext.configure(
                    c, opts=dict(compare_type=True, version_table='ad_alembic_version')
                ),
                R.Base.metadata,
            )
            == []
        )
        migrated = shape(c)
    with R.Registry(registry_url).engine.begin() as c:
        R.Base.metadata.drop_all(c)
        R.Base.metadata.create_all(c)
        assert shape(c) == migrated


def test_the_newest_migration_is_the_one_the_library_knows():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option('script_location', 'astrid_data:migrations')
    assert ScriptDirectory.from_config(config).get_current_head() == R.SCHEMA


def test_a_second_opening_changes_nothing_and_needs_no_alembic(registry_url):
    R.connect(registry_url).close()
    code = f'import sys; from astrid_data.registry.tables import connect; connect({registry_url!r}); print("alembic" in sys.modules)'
    assert (
        subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == 'False'
    )


def aged(registry_url, version, drop=()):
    "A registry whose tables are at another version"
    reg = R.connect(registry_url)
    with reg.session() as s:
        for table in drop:
            s.execute(text(f'DROP TABLE {table}'))
        s.execute(text(f"UPDATE ad_alembic_version SET version_num = '{version}'"))
    return reg


def version_at(reg):
    with reg.engine.connect() as c:
        return R.schema_version(c)


@pytest.mark.parametrize('version', ['0000', '', 'abcd', '0005 ', '-1'])
def test_tables_of_no_version_are_refused_and_left_alone(registry_url, version):
    reg = aged(registry_url, version)
    for attempt in (R.connect, lambda url: R.Registry(url).upgrade()):
        with pytest.raises(Conflict, match='which is no version'):
            attempt(registry_url)
    assert version_at(reg) == version


def test_tables_of_two_versions_are_refused(registry_url):
    reg = R.connect(registry_url)
    with reg.session() as s:
        s.execute(text("INSERT INTO ad_alembic_version VALUES ('0004')"))
    with pytest.raises(Conflict, match="says '0004 and 0005'"):
        R.connect(registry_url)


def test_tables_of_a_newer_version_are_refused(registry_url):
    reg = aged(registry_url, '9999')
    with pytest.raises(Conflict, match='newer astrid_data'):
        R.connect(registry_url)
    assert version_at(reg) == '9999'


def test_older_tables_are_brought_up_where_they_are_ones_own(registry_url):
    reg = aged(registry_url, '0004', drop=['ad_epochs'])
    if reg.dialect == 'sqlite':
        with pytest.warns(UserWarning, match='were at version 0004'):
            R.connect(registry_url)
    else:
        with pytest.raises(Conflict, match='astrid-data upgrade'):
            R.connect(registry_url)
        assert version_at(reg) == '0004'
        assert main(['upgrade', '--database', registry_url]) == 0
    assert version_at(reg) == R.SCHEMA
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        R.connect(registry_url)


def test_older_tables_that_can_only_be_read_are_refused(tmp_path):
    url = f'sqlite:///{tmp_path}/registry.db'
    aged(url, '0004', drop=['ad_epochs']).close()
    with pytest.raises(Conflict, match='whoever may write to the file'):
        R.connect(f'sqlite:///file:{tmp_path}/registry.db?mode=ro&uri=true')


def test_tables_made_without_migrations_are_taken_over(registry_url):
    reg = R.Registry(registry_url)
    R.Base.metadata.create_all(reg.engine)
    reg.create()
    with reg.session() as s:
        assert R.schema_version(s.connection()) == R.SCHEMA


def test_many_processes_may_open_a_new_database_at_once(registry_url):
    code = 'import sys; from astrid_data.registry.tables import *; r = connect(sys.argv[1])\nwith r.session() as s: print(get_or_create_survey(s, "HST").id)'
    runs = [
        subprocess.Popen(
            [sys.executable, '-c', code, registry_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    said = [p.communicate(timeout=120) for p in runs]
    assert [p.returncode for p in runs] == [0] * 4, said[0][1]
    assert len({out for out, _ in said}) == 1


def test_many_threads_may_open_a_new_database_at_once(registry_url):
    wrong = []

    def go():
        try:
            R.connect(registry_url).close()
        except Exception as e:  # noqa: BLE001 - a thread hands over whatever went wrong
            wrong.append(e)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_who_comes_second_waits_for_who_makes_the_tables(registry_url):
    first, second = (
        R.Registry(registry_url),
        threading.Thread(target=lambda: R.connect(registry_url)),
    )
    with first.engine.connect() as c:
        c.exec_driver_sql(
            'BEGIN IMMEDIATE'
            if first.dialect == 'sqlite'
            else f'SELECT pg_advisory_xact_lock({R.LOCK})'
        )
        second.start()
        second.join(1)
        assert second.is_alive() and not inspect(first.engine).get_table_names()
    second.join(60)
    assert not second.is_alive() and 'ad_images' in inspect(first.engine).get_table_names()


def test_a_kill_in_the_middle_of_making_tables_leaves_none(registry_url, monkeypatch):
    from alembic import command

    def killed(*a, **kw):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(command, 'upgrade', killed)
        with pytest.raises(KeyboardInterrupt):
            R.connect(registry_url)
    reg = R.Registry(registry_url)
    with reg.engine.connect() as c:
        assert inspect(c).get_table_names() == []
    reg.create()


def test_importing_opens_no_engine():
    code = 'import gc, astrid_data.registry.tables, sqlalchemy; print(sum(isinstance(o, sqlalchemy.engine.Engine) for o in gc.get_objects()))'
    assert (
        subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == '0'
    )


# ---- a database that was there before ----


@pytest.fixture
def old(pg_url):
    "A registry on a database with the tables of an older system and none of ours; not yet created"
    reg = R.Registry(pg_url)
    with reg.engine.begin() as c:
        c.exec_driver_sql((here / 'old_astrid.sql').read_text())
    return reg


def test_old_tables_are_never_altered(old, pg_url):
    with old.engine.connect() as c:
        before = shape(c), pg_labels(c), c.scalar(text('SELECT version_num FROM alembic_version'))
    old.create()
    R.connect(pg_url)
    with old.engine.connect() as c:
        after = shape(c)
        assert (
            {t: after[t] for t in before[0]},
            c.scalar(text('SELECT version_num FROM alembic_version')),
        ) == (before[0], before[2])
        assert {t: name for t, name in pg_labels(c).items() if t in before[1]} == before[1]
        assert {t for t in after if t.startswith('ad_')} == {
            t for t in R.Base.metadata.tables if t.startswith('ad_')
        }


def test_decimals_become_floats(old):
    with old.create().session() as s:
        o, d = (
            s.scalars(select(R.Observation)).one(),
            s.scalars(select(R.Detection).order_by(R.Detection.id)).first(),
        )
        assert (
            (o.ra, o.seeing, o.airmass) == (5.6512345, 0.08, None)
            and type(o.ra) is float
            and type(d.confidence_score) is float
        )
        assert (
            o.observation_time == datetime(2024, 1, 1, tzinfo=UTC)
            and d.prediction_metadata == {'fwhm': 2.5}
            and d.detection_type == 'supernova'
        )
        assert s.scalars(select(R.Model)).one().model_type == 'anomaly_detector'
        t = R.columns(
            s,
            select(
                R.Detection.ra,
                R.Detection.confidence_score,
                func.avg(R.Detection.dec).over().label('mean'),
                R.Detection.prediction_metadata,
                R.Detection.id,
            ).order_by(R.Detection.id),
        )
    assert [t[k].dtype.kind for k in ('ra', 'confidence_score', 'mean')] == ['f'] * 3
    assert (
        t['ra'].tolist() == [5.6501, 5.6502, 5.6503, 5.6504, 5.6505]
        and t['prediction_metadata'][0] == {'fwhm': 2.5}
        and t['id'][0] == '00000000-0000-0000-0001-000000000001'
    )
    assert (t['confidence_score'] >= 0.7).all()


def test_a_threshold_on_a_decimal_keeps_what_is_equal(old):
    with old.create().session() as s:
        assert (
            s.scalar(
                select(func.count())
                .select_from(R.Detection)
                .where(R.Detection.confidence_score >= 0.7)
            )
            == 5
        )


def test_old_rows_are_found_on_the_sky_and_labelled(old):
    first = uuid.UUID('00000000-0000-0000-0001-000000000001')
    with old.create().session() as s:
        assert (
            R.find_surveys(s, ['hst'])[0].name == 'HST'
            and R.get_or_create_survey(s, 'hst').name == 'HST'
        )
        assert R.index_sky(s) == 6
        q = select(R.Detection.id, R.Detection.ra, R.Detection.dec).join(
            R.DetectionIndex, R.DetectionIndex.detection_id == R.Detection.id
        )
        t = R.columns(s, q.where(in_cells((5.6501, -72.07, 1e-5))))
        inside = in_cone(t['ra'], t['dec'], (5.6501, -72.07, 1e-5))
        assert t['id'][inside].tolist() == [str(first)]
        R.add_validation_event(s, first, 'vera', True, 'supernova', 'EXPERT', tags=['bright'])
    with old.session() as s:
        assert (
            s.get(R.Detection, first).status,
            s.scalars(select(R.ValidationEvent)).one().confidence_level,
        ) == ('confirmed', 'expert')
        row = s.execute(
            text(
                'SELECT status::text, human_label, tags FROM detections JOIN validation_events ON detection_id = detections.id'
            )
        ).one()
        assert row == ('CONFIRMED', 'supernova', ['bright'])


def test_training_tables_can_be_written_beside_old_ones(old):
    first, dataset = uuid.UUID('00000000-0000-0000-0001-000000000001'), uuid.uuid4()
    with old.create().session() as s:
        R.bulk_insert(
            s,
            R.TrainingDataset,
            [
                dict(
                    id=dataset,
                    name='x',
                    collection_params={'since': start, 'nan': np.nan},
                    total_samples=1,
                    anomaly_ratio=1 / 3,
                    quality_score=0.5,
                    created_by='me',
                )
            ],
        )
        R.bulk_insert(
            s,
            R.TrainingSample,
            [
                dict(
                    dataset_id=dataset,
                    detection_id=first,
                    image_path='p',
                    labels={'is_anomaly': True},
                    metadata_={'ra': 5.6},
                )
            ],
        )
    with old.session() as s:
        assert s.scalars(select(R.TrainingSample)).one().metadata_ == {'ra': 5.6}
        d = s.get(R.TrainingDataset, dataset)
        assert (
            d.collection_params == {'since': '2024-03-01T00:00:00+00:00', 'nan': None}
            and d.anomaly_ratio == 0.3333
        )


# ---- sessions ----


def fill(reg, n, seed=0):
    "A survey, an observation and `n` detections; returns the rows of the detections"
    rng = np.random.default_rng(seed)
    with reg.session() as s:
        hst = R.get_or_create_survey(s, 'hst')
        o = R.Observation(
            survey_id=hst.id,
            observation_id='o',
            ra=10.0,
            dec=0.0,
            observation_time=start,
            filter_band='g',
            exposure_time=30.0,
            fits_url='o.fits',
        )
        m = R.Model(name='m', version='1', model_type='unet')
        s.add_all([o, m])
        s.flush()
        run = R.ModelRun(model_id=m.id, observation_id=o.id)
        s.add(run)
        s.flush()
        rows = [
            dict(
                id=stable_uuid('d', i),
                model_run_id=run.id,
                observation_id=o.id,
                ra=float(a),
                dec=float(b),
                pixel_x=i,
                pixel_y=-i,
                confidence_score=float(c),
                detection_type='supernova',
                model_version='1',
                human_label=[None, 'nova'][i % 2],
                validation_confidence=[None, 0.25][i % 2],
                prediction_metadata=[None, {'i': i}][i % 2],
            )
            for i, (a, b, c) in enumerate(rng.uniform((0, -90, 0), (360, 90, 1), (n, 3)))
        ]
        R.bulk_insert(s, R.Detection, rows)
    return rows


@pytest.fixture
def reg(registry_url):
    r = R.connect(registry_url)
    yield r
    r.close()


def test_a_session_commits_or_rolls_back(reg):
    with reg.session() as s:
        s.add(R.Survey(name='kept'))
    with pytest.raises(ZeroDivisionError):
        with reg.session() as s:
            s.add(R.Survey(name='lost'))
            s.flush()
            1 / 0
    with reg.session() as s:
        assert s.scalars(select(R.Survey.name)).all() == ['kept']


def test_rows_can_be_used_after_their_session(reg):
    with reg.session() as s:
        row = R.get_or_create_survey(s, 'HST')
    assert row.name == 'hst' and row.created_at.tzinfo is UTC


def test_a_snapshot_does_not_see_later_writes(reg):
    def n(s):
        return s.scalar(select(func.count()).select_from(R.Survey))

    with reg.session(snapshot=True) as s:
        before = n(s)
        with reg.session() as other:
            other.add(R.Survey(name='new'))
        assert n(s) == before
    with reg.session() as s:
        assert n(s) == before + 1


def test_a_pool_of_one_is_enough_and_says_when_it_is_not(pg_url):
    reg = R.connect(f'{pg_url}?pool_size=1')
    fill(reg, 3)
    reg.engine.pool._timeout = 0.2
    with reg.session() as outer:
        outer.scalar(select(1))
        with pytest.raises(R.DatabaseAway, match='pool_size'):
            with reg.session() as s:
                s.scalar(select(1))
    with reg.engine.connect() as c:
        assert (
            c.scalar(
                text('SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()')
            )
            == 1
        )
    assert R.Registry(pg_url, pool_size=2).engine.pool.size() == 2


def test_writers_wait_for_each_other(registry_url):
    reg, wrong = R.connect(registry_url), []

    def go(k):
        try:
            for i in range(10):
                with reg.session() as s:
                    s.scalar(select(func.count()).select_from(R.Survey))
                    s.add(R.Survey(name=f'{k}-{i}'))
        except Exception as e:  # noqa: BLE001 - a thread hands over whatever went wrong
            wrong.append(e)

    threads = [threading.Thread(target=go, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    with reg.session() as s:
        assert wrong == [] and s.scalar(select(func.count()).select_from(R.Survey)) == 40


def test_memory_is_one_database():
    reg = R.connect('sqlite://')
    fill(reg, 2)
    with reg.session() as s:
        assert s.scalar(select(func.count()).select_from(R.Detection)) == 2


def test_foreign_keys_and_checks_hold(reg):
    with pytest.raises(R.RowRefused):
        with reg.session() as s:
            s.add(R.ValidationEvent(detection_id=uuid.uuid4(), validator_id='x', is_valid=True))
    fill(reg, 1)
    for wrong in (
        dict(ra=360.1),
        dict(dec=-90.1),
        dict(exposure_time=0.0),
        dict(seeing=0.0),
        dict(airmass=-1.0),
    ):
        with pytest.raises(Conflict):
            with reg.session() as s:
                o = s.scalars(select(R.Observation)).one()
                for k, v in wrong.items():
                    setattr(o, k, v)
    with pytest.raises(Conflict):
        with reg.session() as s:
            s.scalars(select(R.Detection)).one().confidence_score = 1.1


# ---- many rows ----


@pytest.mark.parametrize('n', [7, 250])  # PostgreSQL takes many rows through another door
def test_bulk_insert_stores_what_single_rows_store(reg, n):
    rows = fill(reg, n)
    with reg.session() as s:
        for r in rows:
            s.add(R.Detection(**r | dict(id=uuid.uuid5(r['id'], 'single'))))
    with reg.session() as s:
        many = {d.id: d for d in s.scalars(select(R.Detection))}
        for r in rows:
            a, b = many[r['id']], many[uuid.uuid5(r['id'], 'single')]
            for c in R.Detection.__mapper__.column_attrs.keys():
                if c not in ('id', 'created_at', 'updated_at'):
                    assert getattr(a, c) == getattr(b, c), c
            assert a.created_at <= b.created_at


@pytest.mark.parametrize('n, chunk', [(50, 7), (900, 300)])
def test_bulk_insert_twice_adds_nothing_and_changes_nothing(reg, n, chunk):
    rows = fill(reg, n)
    more = [r | dict(confidence_score=0.0) for r in rows] + [rows[0] | dict(id=uuid.uuid4())]
    with reg.session() as s:
        assert R.bulk_insert(s, R.Detection, more, chunk=chunk) == 1
        assert R.bulk_insert(s, R.Detection, []) == 0
        t = R.columns(s, select(R.Detection.id, R.Detection.confidence_score))
    score = dict(zip(t['id'], t['confidence_score']))
    assert len(score) == n + 1 and all(score[str(r['id'])] == r['confidence_score'] for r in rows)


@pytest.mark.parametrize('n', [1, 300])
def test_bulk_insert_passes_over_no_other_contradiction(reg, n):
    def add(rows):
        with reg.session() as s:
            R.bulk_insert(s, R.Model, rows)

    models = [dict(name='m', version=str(i), model_type='unet') for i in range(n)]
    add(models)
    with pytest.raises(R.RowRefused, match='(?i)unique'):
        add(models)
    with pytest.raises(R.RowRefused, match='(?i)null'):
        add([m | dict(name=None) for m in models])
    if reg.dialect == 'postgresql':
        with pytest.raises(R.RowRefused, match='too long'):
            add([m | dict(name='x' * 101) for m in models])
    with reg.session() as s:
        assert s.scalar(select(func.count()).select_from(R.Model)) == n
    add([m | dict(name='tab\tnew\nline\\N') for m in models])
    with reg.session() as s:
        assert s.scalar(select(func.count()).where(R.Model.name == 'tab\tnew\nline\\N')) == n


def test_bulk_insert_refuses_rows_of_different_shape(reg):
    with reg.session() as s:
        with pytest.raises(BadInput, match='base_url'):
            R.bulk_insert(s, R.Survey, [dict(name='a'), dict(name='b', base_url='x')])
        with pytest.raises(BadInput, match='base_url'):
            R.bulk_insert(s, R.Survey, [dict(name='a', base_url='x'), dict(name='b')])
        with pytest.raises(BadInput, match='colour'):
            R.bulk_insert(s, R.Survey, [dict(name='a', colour='red')])
        with pytest.raises(BadInput, match='perhaps'):
            R.bulk_insert(s, R.Model, [dict(name='m', version='2', model_type='perhaps')])


def test_numpy_and_nan_and_times_go_in(reg):
    rows = fill(reg, 1)
    new = rows[0] | dict(
        id=uuid.uuid4(),
        ra=np.float64(1.5),
        dec=np.float32(0.5),
        pixel_x=np.int64(3),
        is_validated=np.bool_(True),
        validation_confidence=np.nan,
        status=R.DetectionStatus.CONFIRMED,
        prediction_metadata={'t': start, 'n': np.arange(2), 'x': np.nan, 'y': np.float32(0.25)},
        created_at='2024-03-01T01:00:00+01:00',
    )
    with reg.session() as s:
        R.bulk_insert(s, R.Detection, [new])
    with reg.session() as s:
        d = s.get(R.Detection, new['id'])
        assert (
            d.ra,
            d.dec,
            d.pixel_x,
            d.is_validated,
            d.validation_confidence,
            d.status,
            d.created_at,
        ) == (1.5, 0.5, 3, True, None, 'confirmed', start)
        assert d.prediction_metadata == {
            't': '2024-03-01T00:00:00+00:00',
            'n': [0, 1],
            'x': None,
            'y': 0.25,
        }


def test_an_empty_json_cell_is_null_in_the_database(reg):
    fill(reg, 2)
    with reg.session() as s:
        assert s.scalar(select(func.count()).where(R.Detection.prediction_metadata.is_(None))) == 1
        assert (
            s.scalar(text('SELECT count(*) FROM detections WHERE prediction_metadata IS NULL')) == 1
        )
        s.add(
            R.ApiKey(name='k', key_hash='h', key_prefix='p', permissions=['read:data'], scopes=None)
        )
        s.flush()
        assert s.scalar(text('SELECT count(*) FROM api_keys WHERE scopes IS NULL')) == 1


# ---- columns ----


def test_columns_hold_what_single_rows_hold(reg):
    fill(reg, 23)
    D = R.Detection
    q = (
        select(
            D,
            R.Observation.observation_time,
            func.count().over().label('n'),
            cast(D.status, Text).label('raw'),
        )
        .join(R.Observation, R.Observation.id == D.observation_id)
        .order_by(D.id)
    )
    with reg.session() as s:
        t, rows = R.columns(s, q, chunk=5), s.execute(q).all()
        none = R.columns(s, q.where(D.pixel_x < -1))
    for i, (d, when, n, _raw) in enumerate(rows):
        for k, v in {c: getattr(d, c) for c in D.__mapper__.column_attrs.keys()}.items():
            got = t[k][i]
            if isinstance(v, uuid.UUID):
                v = str(v)
            if v is None and got is not None:
                assert np.isnan(got)
            else:
                assert got == v and (v is not None or got is None), (k, got, v)
        assert (t['observation_time'][i], t['n'][i], t['raw'][i]) == (when, n, 'PENDING')
    kinds = {k: v.dtype.kind for k, v in t.items()}
    assert {
        k: kinds[k]
        for k in (
            'ra',
            'pixel_x',
            'is_validated',
            'validation_confidence',
            'n',
            'id',
            'status',
            'inference_time_ms',
        )
    } == dict(
        ra='f',
        pixel_x='i',
        is_validated='b',
        validation_confidence='f',
        n='i',
        id='O',
        status='O',
        inference_time_ms='f',
    )
    assert (
        all(len(v) == 0 for v in none.values())
        and list(none) == list(t)
        and none['ra'].dtype == 'f8'
        and none['pixel_x'].dtype == 'i8'
    )
    assert all(type(v) is str for v in t['status']) and t['created_at'][0].tzinfo is UTC


@given(st.lists(st.uuids(), max_size=50))
def test_hyphens_go_where_they_belong(ids):
    assert R.dashed([i.hex for i in ids]) == [str(i) for i in ids]


def test_columns_take_at_most_twice_the_bare_query(tmp_path):
    reg = R.connect(f'sqlite:///{tmp_path / "a.db"}')
    rows = fill(reg, 30_000)
    D = R.Detection
    q = select(
        D.id,
        D.observation_id,
        D.ra,
        D.dec,
        D.pixel_x,
        D.pixel_y,
        D.confidence_score,
        D.status,
        D.detection_type,
        D.is_validated,
        D.human_label,
        R.Observation.filter_band,
        R.Observation.observation_time,
    ).join(R.Observation, R.Observation.id == D.observation_id)
    sql, bare, ours = str(q.compile(reg.engine)), [], []
    gc.collect()
    with sqlite3.connect(tmp_path / 'a.db') as c, reg.session() as s:
        for _ in range(5):
            t = time.process_time()
            n = len(c.execute(sql).fetchall())
            bare.append(time.process_time() - t)
            t = time.process_time()
            out = R.columns(s, q)
            ours.append(time.process_time() - t)
    assert n == len(out['ra']) == len(rows)
    assert np.median(ours) / np.median(bare) < 2


# ---- surveys and verdicts ----


def test_surveys_by_name_and_id(reg):
    with reg.session() as s:
        a, b = (
            R.get_or_create_survey(s, 'HST'),
            R.get_or_create_survey(s, 'SkyView', description='many surveys'),
        )
        assert R.get_or_create_survey(s, 'hst').id == a.id and (b.name, b.description) == (
            'skyview',
            'many surveys',
        )
        assert (
            [x.name for x in R.find_surveys(s, ['SKYVIEW', 'Hst'])] == ['hst', 'skyview']
            and R.find_surveys(s, [a.id]) == [a]
            and R.find_surveys(s, [str(b.id).upper()]) == [b]
        )
        with pytest.raises(
            NotFound, match="no survey 'hubble', 'webb': the registry knows hst, skyview"
        ):
            R.find_surveys(s, ['webb', 'hst', 'hubble'])
        s.add(R.Survey(name='HST'))
        s.flush()
        assert (
            len(R.find_surveys(s, ['hst'])) == 2
            and R.get_or_create_survey(s, 'HST').name == 'HST'
            and R.get_or_create_survey(s, 'hst').name == 'hst'
        )


def test_verdicts_pile_up_and_people_outrank_rules(reg):
    d = fill(reg, 1)[0]['id']

    def state(s):
        row = s.get(R.Detection, d)
        return row.status, row.is_validated, row.human_label

    with reg.session() as s:
        R.add_validation_event(s, d, 'rule:stellar-locus', True, 'source', 'low')
        assert state(s) == ('confirmed', True, None)
        R.add_validation_event(
            s, str(d), 'rule:flagged-in-dq', False, 'hot pixel', R.ConfidenceLevel.MEDIUM
        )
        assert state(s) == ('rejected', True, None)
        R.add_validation_event(s, d, 'vera', True)
        R.add_validation_event(s, d, 'proxy:match', False)
        assert state(s) == ('confirmed', True, None)
        R.add_validation_event(
            s, d, 'jocelyn', False, 'ghost', notes='a ghost', tags=['ghost'], created_at=start
        )
        assert state(s) == ('rejected', True, 'ghost')
        assert s.scalar(select(func.count()).select_from(R.ValidationEvent)) == 5
        with pytest.raises(NotFound):
            R.add_validation_event(s, uuid.uuid4(), 'vera', True)
        with pytest.raises(ValueError):
            R.add_validation_event(s, d, 'vera', True, confidence_level='certain')


def test_a_verdict_reads_only_what_it_needs_of_those_before(reg):
    d = fill(reg, 1)[0]['id']
    asked = []

    def note(conn, cursor, statement, *_):
        if statement.startswith('SELECT') and 'FROM validation_events' in statement:
            asked.append(statement)

    with reg.session() as s:
        bind = s.get_bind()
        event.listen(bind, 'before_cursor_execute', note)
        try:
            R.add_validation_event(s, d, 'vera', True)
            assert asked == []
            R.add_validation_event(s, d, 'rule:flagged', False)
        finally:
            event.remove(bind, 'before_cursor_execute', note)
        assert len(asked) == 1 and 'DISTINCT' in asked[0]
        assert s.get(R.Detection, d).status == 'confirmed'


# ---- the sky ----


def in_cells(cone):
    "A cone, for the database"
    ranges = cone_cells(cone)
    return or_(*(R.DetectionIndex.healpix.between(int(a), int(b) - 1) for a, b in ranges))


@settings(max_examples=60)
@given(
    st.floats(0, 360),
    st.floats(-90, 90),
    st.one_of(st.floats(0, 180), st.floats(0, 0.01), st.sampled_from([0, 90, 180])),
    st.sampled_from([-90, 90, None]),
    st.integers(3, 14),
)
def test_cells_cover_every_position_in_the_circle(ra, dec, radius, pole, order):
    dec, rng = dec if pole is None else pole, np.random.default_rng(7)
    ranges = cone_cells((ra, dec, radius), order=order)
    assert (
        (ranges[:, 0] < ranges[:, 1]).all()
        and (ranges[1:, 0] > ranges[:-1, 1]).all()
        and ranges[0, 0] >= 0
        and ranges[-1, 1] <= 12 * 4**order
    )
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    p = SkyCoord(ra, dec, unit='deg').directional_offset_by(
        rng.uniform(0, 360, 300) * u.deg, radius * np.sqrt(rng.uniform(0, 1, 300)) * u.deg
    )
    cells = healpix_index(p.ra.deg, p.dec.deg, order)
    k = np.searchsorted(ranges[:, 0], cells, 'right') - 1
    assert ((k >= 0) & (cells < ranges[k, 1])).all()


@pytest.mark.parametrize(
    'ra, dec, radius',
    [(0, 0, 5), (359.99, 40, 1), (120, 90, 3), (10, -89.9, 1), (77, 5, 0.05), (200, -30, 100)],
)
def test_the_database_finds_what_a_loop_finds(reg, ra, dec, radius):
    np.random.default_rng(1)
    rows = fill(reg, 3000, seed=5)
    with reg.session() as s:
        R.index_sky(s)
        q = select(R.Detection.id, R.Detection.ra, R.Detection.dec).join(
            R.DetectionIndex, R.DetectionIndex.detection_id == R.Detection.id
        )
        t = R.columns(s, q.where(in_cells((ra, dec, radius))))
    inside = in_cone(t['ra'], t['dec'], (ra, dec, radius))
    assert sorted(t['id'][inside]) == sorted(
        str(r['id'])
        for r in rows
        if sky_separation_arcsec(r['ra'], r['dec'], ra, dec) <= radius * 3600
    )
    assert len(inside) <= 1.6 * inside.sum() + 40


def test_a_circle_uses_the_index(tmp_path):
    reg = R.connect(f'sqlite:///{tmp_path / "a.db"}')
    q = select(R.DetectionIndex.detection_id).where(in_cells((10, 10, 3)))
    with reg.session() as s:
        plan = (
            s.connection()
            .exec_driver_sql(
                'EXPLAIN QUERY PLAN '
                + str(q.compile(reg.engine, compile_kwargs=dict(literal_binds=True)))
            )
            .all()
        )
    assert 'ix_ad_detection_index_healpix' in str(plan) and 'SCAN' not in str(plan)


def test_circles_that_cannot_be_are_refused():
    for bad in ((0, 91, 1), (0, 0, -1), (0, 0, 181), (0, float('nan'), 1), (0, 0, float('nan'))):
        with pytest.raises(BadInput):
            TrainingDataCollectionParams(cone=bad)


# ---- addresses and secrets ----


@pytest.mark.parametrize(
    'url',
    [
        'postgres://u:p@h/d',
        'postgresql://u:p@h/d',
        'postgresql+psycopg2://u:p@h/d',
        'postgresql+asyncpg://u:p@h/d?ssl=require',
        'postgresql+psycopg://u:p@h/d?pool_size=3',
    ],
)
def test_any_postgresql_address_is_taken(url):
    u, size = R.read_url(url)
    assert (u.drivername, u.host, u.database, 'pool_size' in u.query, 'ssl' in u.query) == (
        'postgresql+psycopg',
        'h',
        'd',
        False,
        False,
    )
    assert size == (3 if 'pool_size' in url else None) and u.query.get('sslmode') == (
        'require' if 'ssl=' in url else None
    )


@given(
    st.text(st.characters(codec='utf-8', exclude_characters='\0'), min_size=6, max_size=20).filter(
        lambda p: p.strip() == p
    )
)
@settings(max_examples=40)
def test_no_part_of_a_password_is_ever_said(password):
    for written in (quote(password, safe=''), password):
        try:
            said = repr(R.Registry(f'postgresql://me:{written}@127.0.0.1:9/sky'))
        except (BadInput, UnicodeError) as e:
            said = f'{e} {e!r}'
        assert said == 'Registry(postgresql)' or said.startswith(
            'the address of the database can not be read'
        )
    assert R.read_url(f'postgresql://me:{quote(password, safe="")}@h/sky')[0].password == password


def test_a_wrong_password_is_not_repeated(postgres):
    for wrong in ('hunter2hunter2', 'hun/ter@2:%'):
        with pytest.raises(R.DatabaseAway) as e:
            R.connect(postgres.url(password=wrong))
        assert wrong not in f'{e.value} {e.value!r}' and 'password authentication failed' in str(
            e.value
        )
        assert isinstance(e.value, ConnectionError)


def test_values_of_rows_are_not_said(reg):
    with pytest.raises(R.RowRefused) as e:
        with reg.session() as s:
            for _ in range(2):
                s.add(
                    R.ApiKey(name='k', key_hash='verysecrethash', key_prefix='p', permissions=None)
                )
    assert 'verysecrethash' not in ''.join(
        traceback.format_exception(e.value)
    ) and 'permissions' in str(e.value)


def test_other_errors_hide_the_values_of_a_question(reg):
    with pytest.raises(SQLAlchemyError) as e:
        with reg.engine.connect() as c:
            c.execute(text('SELECT 1 FROM nowhere WHERE x = :x'), dict(x='verysecrethash'))
    assert (
        'nowhere' in str(e.value)
        and 'verysecrethash' not in f'{e.value} {e.value!r} {e.value.__cause__}'
    )


@pytest.mark.parametrize(
    'url',
    [
        '',
        'nonsense',
        'postgresql://u:p@h:port/d',
        'mysql://u:hunter2@h/d',
        'postgresql://u:a@b@h/d',
        'sqlite:///a.db?pool_size=0',
        'postgresql://u:p@h/d?pool_size=many',
    ],
)
def test_bad_addresses_are_refused(url):
    with pytest.raises(BadInput) as e:
        R.Registry(url)
    assert 'hunter2' not in str(e.value)


def test_the_address_comes_from_the_settings(registry_url, tmp_path, monkeypatch):
    assert R.connect(settings=Settings(database_url=Secret(registry_url))).dialect in registry_url
    assert (
        R.connect(settings=load_settings(dict(DATABASE_URL=registry_url), dotenv=None)).dialect
        in registry_url
    )
    with pytest.raises(BadInput, match='ASTRID_DATABASE_URL'):
        R.connect(settings=Settings())


def test_tls_is_verified_against_the_given_certificate(postgres, pg_url, tmp_path):
    if postgres.ca is None:
        pytest.skip('no openssl to make a certificate with')

    def there(ca, host='127.0.0.1'):
        return Settings(database_url=Secret(pg_url.replace('127.0.0.1', host)), database_ca=str(ca))

    with R.connect(settings=there(postgres.ca)).session() as s:
        assert s.scalar(text('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'))
    subprocess.run(
        'openssl req -new -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=other -out other.crt -keyout other.key'.split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    with pytest.raises(R.DatabaseAway, match='certificate verify failed'):
        R.connect(settings=there(tmp_path / 'other.crt'))
    with pytest.raises(R.DatabaseAway, match='does not match host name'):
        R.connect(settings=there(postgres.ca, 'localhost'))
    with pytest.raises(BadInput, match='no certificate'):
        R.connect(settings=there(tmp_path / 'gone.crt'))


def test_a_missing_driver_names_the_extra():
    code = "import sys; sys.modules['psycopg'] = None\nfrom astrid_data.registry.tables import Registry\nRegistry('postgresql://h/d')"
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'astrid_data[postgres]' in r.stderr.splitlines()[-1]


def test_json_is_the_same_fast_or_slow():
    for o in ({'b': 1, 'a': [1.5, None, 'ü']}, {'t': start}, {'x': float('inf'), 1: 2}):
        assert json.loads(R.to_json(o)) == json.loads(R.canonical_json(o))
