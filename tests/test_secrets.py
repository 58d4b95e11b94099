"No secret shows: in reprs, pickles, logs, errors, and in what a run leaves behind"

import copy
import dataclasses
import json
import logging
import multiprocessing
import pickle
import subprocess
import sys
from io import StringIO
from multiprocessing.reduction import ForkingPickler

import pytest
from astropy.io import fits

import astrid_data as ad
from astrid_data.core import AstridError, BadInput, Secret, Settings, load_settings
from astrid_data.ingest.archive import IngestReport
from astrid_data.registry.tables import Registry, connect
from astrid_data.tracking.uploader import mlflow_client

PASSWORD = 'correct-horse-battery'
KEY = 'staple/key+of-the-bucket'
TOKEN = 'a-session-token-of-ours'
SERVER = f'http://ann:{PASSWORD}@127.0.0.1:9'
ENV = dict(
    ASTRID_DATABASE_URL=f'postgresql://ann:{PASSWORD}@127.0.0.1:9/sky',
    ASTRID_STORAGE_URL=f's3://ann:{PASSWORD}@bucket',
    AWS_ACCESS_KEY_ID='id-of-a-key',
    AWS_SECRET_ACCESS_KEY=KEY,
    AWS_SESSION_TOKEN=TOKEN,
    AWS_ENDPOINT_URL=f'http://ann:{PASSWORD}@127.0.0.1:9',
    MLFLOW_TRACKING_URI=SERVER,
)


def shows(*texts):
    "Which secrets stand in texts or bytes"
    whole = '\n'.join(t.decode('latin-1') if isinstance(t, bytes) else str(t) for t in texts)
    return [secret for secret in (PASSWORD, KEY, TOKEN) if secret in whole]


def every_form(thing):
    "All that Python makes of a thing without being asked for a secret"
    yield from (repr(thing), str(thing), f'{thing}', f'{thing!r:>30}', [thing], {1: thing})
    yield pickle.dumps(thing)
    yield repr(copy.deepcopy(thing))
    yield json.dumps(thing, default=repr)
    yield repr(getattr(thing, '__dict__', ''))
    if dataclasses.is_dataclass(thing):
        yield repr(dataclasses.asdict(thing))
        yield json.dumps(dataclasses.asdict(thing), default=str)
        yield pickle.dumps(dataclasses.asdict(thing))


def test_no_setting_shows_its_secret():
    settings = load_settings(ENV, dotenv=None)
    assert not shows(*every_form(settings), *every_form(settings.s3_secret))
    assert settings.s3_secret.reveal() == KEY and settings.s3_token.reveal() == TOKEN
    assert settings.mlflow_uri.reveal() == SERVER
    with pytest.raises(TypeError):
        vars(settings.s3_secret)
    settings.mlflow_uri = SERVER.replace('ann', 'eve')
    assert not shows(*every_form(settings))


def test_a_server_without_a_password_can_be_read():
    assert load_settings(dict(MLFLOW_TRACKING_URI='http://host:5000'), None).mlflow_uri == (
        'http://host:5000'
    )
    assert Settings(s3_secret=KEY).s3_secret == Secret(KEY)


def test_an_archive_shows_no_password(tmp_path):
    settings = Settings(mlflow_uri=SERVER)
    archive = ad.open_archive(tmp_path / 'home', settings=settings)
    assert not shows(repr(archive), vars(archive), repr(archive.mlflow_uri))
    archive.mlflow_uri = SERVER
    assert not shows(vars(archive)) and archive.mlflow_uri.reveal() == SERVER


def test_a_registry_shows_no_password_and_its_errors_none():
    url = ENV['ASTRID_DATABASE_URL'] + f'?sslpassword={KEY.replace("/", "").replace("+", "")}'
    registry = Registry(url)
    engine = registry.engine
    shown = [repr(vars(registry)), tuple(engine.url), str(engine.url), pickle.dumps(engine.url)]
    assert not shows(*shown, json.dumps(list(engine.url), default=str))
    assert KEY.replace('/', '').replace('+', '') not in repr(shown)
    with pytest.raises(AstridError) as error:
        connect(url)
    assert not shows(error.getrepr(style='short', showlocals=False), repr(error.value))


def test_errors_are_made_without_secrets():
    Secret(KEY)
    assert not shows(repr(BadInput(f'{SERVER} said {KEY}')), BadInput(f'{KEY}').args)
    report = IngestReport()
    report.lose(f'https://ann:{PASSWORD}@host/a.fits', 'denied', f'{KEY} is wrong')
    assert not shows(report.ledger.to_string())


def test_a_tracking_server_that_is_away_says_no_password():
    client = mlflow_client(Secret(SERVER))
    with pytest.raises(Exception) as error:
        client.get_experiment_by_name('sky')
    chain, one = [], error.value
    while one is not None:
        chain += [repr(one), str(one), repr(vars(one))]
        one = one.__cause__ or one.__context__
    assert not shows(*chain)


def test_logs_of_other_libraries_hold_no_secret():
    Secret(KEY), Secret(TOKEN), Secret(SERVER)
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    for name in ('botocore.auth', 'urllib3.connectionpool', 'sqlalchemy.engine', 'mlflow.store'):
        log = logging.getLogger(name)
        level, log.level = log.level, logging.DEBUG
        log.addHandler(handler)
        try:
            raise OSError(f'{SERVER} with {KEY}')
        except OSError:
            log.debug('x-amz-security-token:%s at %s', TOKEN, SERVER, exc_info=True)
        log.removeHandler(handler)
        log.level = level
    assert stream.getvalue().count('***') >= 8 and not shows(stream.getvalue())


def test_workers_get_the_secret_through_their_pipe_only():
    secret = Secret(KEY)
    assert pickle.loads(ForkingPickler.dumps(secret)) == secret  # A pipe
    context = multiprocessing.get_context('spawn')
    with context.Pool(1) as pool:
        assert pool.apply(Secret.reveal, (secret,)) == KEY


def test_a_pickle_that_came_elsewhere_asks_the_settings_there(tmp_path):
    (tmp_path / 'a.pickle').write_bytes(pickle.dumps(Secret(KEY, 's3_secret')))
    code = 'import pickle,sys; print(pickle.load(open("a.pickle","rb")).reveal())'
    call = [sys.executable, '-c', code]
    known = dict(PATH='', PYTHONPATH=':'.join(sys.path))
    ran = subprocess.run(call, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert 'never written into a pickle' in ran.stderr
    known['AWS_SECRET_ACCESS_KEY'] = 'of-that-place'
    ran = subprocess.run(call, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert ran.stdout.strip() == 'of-that-place'


def test_a_signed_address_is_kept_without_its_signature(tmp_path, monkeypatch):
    from fuzz_files import _bytes_of, _header, _sky

    from astrid_data.ingest import fits as ingest

    path = tmp_path / 'one.fits'
    path.write_bytes(_bytes_of(fits.PrimaryHDU(_sky(1), _header())))
    plain = ingest.resolve_uri
    monkeypatch.setattr(
        ingest, 'resolve_uri', lambda uri, *rest: path if '://b' in uri else plain(uri, *rest)
    )
    archive = ad.open_archive(tmp_path / 'home')
    address = f'https://b.example/one.fits?hdu=0&X-Amz-Credential={TOKEN}&X-Amz-Signature={KEY}'
    log = StringIO()
    ad.log_to(log)
    try:
        report = archive.add_fits(address, show=False)
        again = archive.add_fits(address.replace('hdu=0&', 'hdu=0&Expires=9&'), show=False)
    finally:
        ad.stop_logging()
    assert report.added == 1 and again.skipped == 1
    assert 'without their signatures' in ' '.join(report.notes)
    tables = (tmp_path / 'home' / 'registry.db').read_bytes()
    tables += b''.join(one.read_bytes() for one in (tmp_path / 'home').glob('registry.db-*'))
    assert b'one.fits?hdu=0' in tables
    assert not shows(tables, report, report.images.to_string(), log.getvalue())
