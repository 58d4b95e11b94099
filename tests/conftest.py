"What tests share: real databases, a real S3 service, and data that lies beside the repository."

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from servers import NoServer, postgres_server, s3_server

os.environ.setdefault('MLFLOW_DISABLE_TELEMETRY', 'true')
os.environ.setdefault('ASTRID_DATA_QUIET', '1')  # No progress bars
signal.signal(signal.SIGTERM, signal.default_int_handler)  # So that fixtures clean up
numbers = itertools.count()
hypothesis.settings.register_profile('untimed', deadline=None)  # A busy machine is no failure
hypothesis.settings.load_profile('untimed')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    "Passwords that hypothesis invents, words of our own code among them, hide nothing in later tests"
    from astrid_data import core

    before = dict(core._marks)
    try:
        return (yield)
    finally:
        if hasattr(getattr(item, 'obj', None), 'hypothesis'):
            core._marks.clear()
            core._marks.update(before)


@pytest.fixture(scope='session')
def migrated_file(tmp_path_factory):
    "A SQLite file whose tables were made by the migrations"
    from astrid_data.registry.tables import connect

    path = tmp_path_factory.mktemp('tables') / 'registry.db'
    connect(f'sqlite:///{path}').close()
    return path


@pytest.fixture(scope='session')
def new_tables(migrated_file):
    "The statements that fill a new SQLite file as all migrations together do"
    with closing(sqlite3.connect(migrated_file)) as c:
        made = [sql for (sql,) in c.execute('SELECT sql FROM sqlite_master WHERE sql IS NOT NULL')]
        (version,) = c.execute('SELECT version_num FROM ad_alembic_version').fetchone()
    return [*made, f"INSERT INTO ad_alembic_version VALUES ('{version}')"]


@pytest.fixture(autouse=True)
def tables_at_once(request, monkeypatch):
    "New SQLite files get their tables in a quarter of the time; the tests of migrations make them"
    from astrid_data.registry import tables

    if request.module.__name__ in ('test_registry', 'test_kills_all'):
        return
    migrate, statements = tables._migrate, request.getfixturevalue('new_tables')

    def make(engine):
        if engine.dialect.name == 'sqlite':
            with tables._one_at_a_time, engine.begin() as c:
                c.exec_driver_sql('BEGIN IMMEDIATE')
                if not c.exec_driver_sql('SELECT count(*) FROM sqlite_master').scalar():
                    for statement in statements:
                        c.exec_driver_sql(statement)
                    return
        migrate(engine)

    monkeypatch.setattr(tables, '_migrate', make)


@pytest.fixture(scope='session')
def sample_home(tmp_path_factory):
    "The home of an archive that has the sample, of which others take copies"
    from astrid_data.ingest.archive import open_archive

    home = tmp_path_factory.mktemp('sample')
    archive = open_archive(home)
    archive.add_sample(show=False)
    archive.registry.close()
    return home


@contextmanager
def served(server, name):
    "A running server, or a skip that says why there is none"
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server())
        except NoServer as e:
            pytest.skip(f'{name}: {e}')
        yield running


@pytest.fixture(scope='session')
def postgres():
    "A PostgreSQL server for the session"
    with served(postgres_server, 'PostgreSQL') as server:
        yield server


@pytest.fixture
def pg_url(postgres):
    "URL of a PostgreSQL database that is empty, and nobody else's"
    name = f'test_{next(numbers)}'
    with postgres.connect() as c:
        c.execute(f'CREATE DATABASE {name} TEMPLATE template0')
    yield postgres.url(name)
    with postgres.connect() as c:
        c.execute(f'DROP DATABASE {name} WITH (FORCE)')


@pytest.fixture(params=['sqlite', 'postgresql'])
def registry_url(request, tmp_path_factory):
    "URL of an empty database: once a SQLite file, once PostgreSQL"
    if request.param == 'postgresql':
        return request.getfixturevalue('pg_url')
    return f'sqlite:///{tmp_path_factory.mktemp("registry") / "registry.db"}'


@pytest.fixture(scope='session')
def s3():
    "A real S3 server (`endpoint`, `key`, `secret`, `client()`) with the bucket `test`"
    with served(s3_server, 'S3') as server:
        yield server


@pytest.fixture(scope='session')
def with_mount():
    "Run a command where something of its own is mounted: `with_mount(mount, *command)`"

    def run(mount, *command):
        shell = ['unshare', '-m', 'sh', '-c', f'{mount} && exec "$@"', 'sh']
        if not shutil.which('unshare') or subprocess.run([*shell, 'true']).returncode:
            pytest.skip('nothing can be mounted here: that takes unshare and its rights')
        command = list(map(str, command))
        return subprocess.run([*shell, *command], capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope='session')
def shared_data():
    "The folder of real survey data that may lie beside the repository"
    path = Path(__file__).parents[1].parent / 'shared' / 'data'
    if not path.is_dir():
        pytest.skip('the shared survey data (../shared/data) are not on this machine')
    return path
