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

import numpy as np
import pytest
from astropy.io import fits

import astrid_data as ad
from astrid_data.core import (
    AstridError,
    BadInput,
    Secret,
    Settings,
    guarded,
    hide_known,
    is_secret_parameter,
    load_settings,
)
from astrid_data.ingest.archive import IngestReport
from astrid_data.redaction import hide_secrets
from astrid_data.registry.tables import Registry, connect
from astrid_data.storage.addresses import without_signature
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


@pytest.fixture
def served_files(tmp_path, monkeypatch):
    "A folder whose files an https address finds, as if a bucket had sent them"
    from astrid_data.ingest import fits as ingest

    plain = ingest.resolve_uri
    folder = tmp_path / 'served'
    folder.mkdir()

    def found(uri, *rest):
        name = uri.partition('?')[0].rpartition('/')[2]
        return folder / name if '://b.example' in uri else plain(uri, *rest)

    monkeypatch.setattr(ingest, 'resolve_uri', found)
    return folder


def write_image(folder, name, seed=1):
    from fuzz_files import _bytes_of, _header, _sky

    path = folder / name
    path.write_bytes(_bytes_of(fits.PrimaryHDU(_sky(seed), _header())))
    return path


def write_plane(folder, name, of, role):
    "A mask or a weight after which all pixels are good"
    values = np.full(fits.getdata(of).shape, role == 'weight', 'i2')
    fits.PrimaryHDU(values).writeto(folder / name)
    return folder / name


SIGNATURE = f'X-Amz-Credential={TOKEN}&X-Amz-Signature={KEY}'


def test_a_signed_address_is_kept_without_its_signature(tmp_path, served_files):
    write_image(served_files, 'one.fits')
    archive = ad.open_archive(tmp_path / 'home')
    address = f'https://b.example/one.fits?hdu=0&{SIGNATURE}'
    log = StringIO()
    ad.log_to(log)
    try:
        report = archive.add_fits(address, show=False)
        again = archive.add_fits(address.replace('hdu=0&', 'hdu=0&X-Amz-Date=9&'), show=False)
    finally:
        ad.stop_logging()
    assert report.added == 1 and again.skipped == 1
    assert 'without their signatures' in ' '.join(report.notes)
    tables = (tmp_path / 'home' / 'registry.db').read_bytes()
    tables += b''.join(one.read_bytes() for one in (tmp_path / 'home').glob('registry.db-*'))
    assert b'one.fits?hdu=0' in tables
    assert not shows(tables, report, report.images.to_string(), log.getvalue())


@pytest.mark.parametrize('copy', [False, True])
@pytest.mark.parametrize('role', ['dq', 'weight'])
def test_signed_planes_are_counted_with_their_images(tmp_path, served_files, copy, role):
    "Two new images, one of them signed with a plane; one plane alone; one file that is lost"
    size = 0
    for k, name in enumerate(('one.fits', 'two.fits', 'three.fits')):
        image = write_image(served_files, name, seed=k + 1)
        size += image.stat().st_size * (name == 'one.fits')
        if name != 'three.fits':
            plane = write_plane(served_files, f'{name[:-5]}_plane.fits', image, role)
            size += plane.stat().st_size
    (served_files / 'lost.fits').write_bytes(b'SIMPLE')
    signed = {'one', 'one_plane', 'two_plane', 'lost'}

    def address(name):
        return f'https://b.example/{name}.fits' + f'?{SIGNATURE}' * (name in signed)

    def plane(image):
        stem = image.partition('?')[0].rpartition('/')[2].removesuffix('.fits')
        return address(f'{stem}_plane') if stem in ('one', 'two') else None

    images = [address(name) for name in ('one', 'two', 'three', 'lost')]
    archive = ad.open_archive(tmp_path / 'home')
    options = dict(copy=copy, show=False, detect=False, **{role: plane})
    report = archive.add_fits(images, **options)
    assert (report.added, len(report.ledger)) == (3, 1)
    (note,) = report.notes
    assert f'1 image and 2 planes ({size / 1e6:.1f} MB)' in note
    assert ('were copied' in note, 'without their signatures' in note) == (copy, not copy)
    assert not shows(report, report.ledger.to_string())
    assert archive.add_fits(images, **options).notes == []


FILE = 'https://b.example/m13.fits'
SIGNED = dict(  # As each service writes them, in its own order
    s3_v4='X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Feu%2Fs3%2Faws4_request'
    '&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host'
    '&X-Amz-Security-Token=abc&X-Amz-Signature=0123',
    s3_v2='AWSAccessKeyId=AKIA&Signature=x%2By%3D&Expires=1767225600&x-amz-security-token=abc',
    google_v4='X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me&X-Goog-Date=20260101T000000Z'
    '&X-Goog-Expires=900&X-Goog-SignedHeaders=host&X-Goog-Signature=0123',
    google_v2='GoogleAccessId=me%40sky&Expires=1767225600&Signature=x%2By%3D',
    cloudfront='Expires=1767225600&Signature=abc~&Key-Pair-Id=K2JCJMDEHXQW5F',
    cloudfront_policy='Policy=eyJ&Signature=abc~&Key-Pair-Id=K2JCJMDEHXQW5F',
    azure='sv=2022-11-02&ss=b&srt=o&st=2026-01-01&se=2026-02-01&sr=b&sp=r&sip=10.0.0.1&spr=https'
    '&sig=x%2By0123456%3D',
    azure_user='skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=2022&sv=2022&se=5&sr=b&sp=r&sig=x%2By0123456%3D',
)


@pytest.mark.parametrize('query', SIGNED.values(), ids=SIGNED)
@pytest.mark.parametrize('scheme', ['https', 'http', 'HTTPS'])
@pytest.mark.parametrize('between', '&;')
def test_a_signature_goes_with_all_that_is_beside_it(query, scheme, between):
    file = scheme + FILE.removeprefix('https')
    query = query.replace('&', between)
    encoded = query.replace('-', '%2D').replace('sig', '%73%69g').replace('Sig', 'S%69g')
    for spelt in (query, query.swapcase(), encoded):
        assert without_signature(f'{file}?{spelt}') == file
        kept = f'{file}?hdu=1{between}part=a%2Fb'
        assert without_signature(f'{kept}{between}{spelt}') == kept
        assert without_signature(f'{file}?{spelt}{between}hdu=1{between}part=a%2Fb') == kept


@pytest.mark.parametrize(
    'query',
    [
        'RA=250.42&DEC=36.46&SR=0.1',
        'RA=250.42;DEC=36.46;SR=0.1;SE=2;SP=r;ST=3;SV=1',
        'Expires=5&Policy=open&Key-Pair-Id=7',
        'X-Amz-Date=20260101&x-amz-expires=9&AWSAccessKeyId=x',
        'X-Goog-Date=20260101&GoogleAccessId=x',
        'desig=2011+AB&design=b&monkey=1',
    ],
)
def test_what_may_stand_beside_a_signature_stays_without_one(query):
    assert without_signature(f'{FILE}?{query}') == f'{FILE}?{query}'
    assert without_signature(f'{FILE}?{query}&token={TOKEN}') == f'{FILE}?{query}'


def test_each_kind_of_signature_takes_its_own_along():
    assert without_signature(f'{FILE}?SR=0.1&X-Amz-Signature=1&Expires=2') == (
        f'{FILE}?SR=0.1&Expires=2'
    )
    assert without_signature(f'{FILE}?X-Goog-Signature=1&X-Amz-Date=2') == f'{FILE}?X-Amz-Date=2'
    assert without_signature(f'{FILE}?sig=01234567&sr=b&Expires=2') == f'{FILE}?Expires=2'
    assert without_signature(f'{FILE}?Signature=1&Expires=2&SR=3') == f'{FILE}?SR=3'
    assert without_signature(f'{FILE}?token=a;b&hdu=1') == f'{FILE}?hdu=1'
    for kept in ('m13.fits?sig=1', 's3://b/a?token=1', f'{FILE}?', f'{FILE}?a=1;b;c&;d=2'):
        assert without_signature(kept) == kept


@pytest.mark.parametrize('name', ['sig', 'auth', 'session', 'n_sig', 'SIG', 's%69g'])
@pytest.mark.parametrize('value', ['5.2', '3', 'night%202', '', '0123456', '[1,2,30]'])
def test_short_values_of_words_with_other_senses_stay_in_addresses_too(name, value):
    address = f'{FILE}?{name}={value}&sr=b&hdu=1'
    assert without_signature(address) == hide_known(address) == hide_secrets(address) == address
    assert guarded(address) == address
    assert without_signature(f'{address}&token=1') == address
    longer = f'{FILE}?{name}={value}01234567&hdu=1'
    assert without_signature(longer) == f'{FILE}?hdu=1'
    assert hide_known(longer) == hide_secrets(longer) == f'{FILE}?{name}=***&hdu=1'


def test_short_values_show_in_quotes_and_lists():
    for text in ("session='night 2'", 'sig=[5.2, 3.1, 4.4]', '{"auth": "no"}', "sig: 'x'"):
        assert hide_secrets(text) == text
    for text in ("session='night-2-0123'", 'sig=[5.2, 0.12345678]', "auth='token=x'", 'auth=pwd=x'):
        assert '***' in hide_secrets(text)
    assert hide_secrets(dict(session=['night 2'], sig='a b c d e f')) == dict(
        session=['night 2'], sig='a b c d e f'
    )


NAMES = (
    'token access_token accessToken secret client-secret password db_password PGPASSWORD passwd '
    'pwd signature X-Amz-Signature sig auth oauth jwt hmac api-key apikey api_key X-Amz-Credential '
    'authorization access-key accesskey session sessionid s%69g'
)


@pytest.mark.parametrize('name', NAMES.split())
def test_logs_and_addresses_go_by_one_list(name):
    value = 'a-long-enough-value'
    address = f'{FILE}?hdu=1&{name}={value}&part=2'
    assert is_secret_parameter(name) and is_secret_parameter(name.upper().replace('S%69G', 'SIG'))
    assert without_signature(address) == f'{FILE}?hdu=1&part=2'
    assert hide_known(f'no answer from {address}').endswith(f'?hdu=1&{name}=***&part=2')
    assert value not in hide_secrets(f'no answer from {address}')
    assert hide_secrets({name: value}) == {name: '***'}
    if '%' not in name:
        assert value not in hide_secrets(f'{name}: {value}')
        assert value not in hide_secrets(f"{name}='{value}'")


def test_what_only_sounds_like_a_secret_is_readable():
    facts = dict(
        sig=5.2, n_sig='3', session='night 2', tokenizer='words', max_tokens=3, desig='M13'
    )
    assert hide_secrets(facts) == facts
    for text in ('sig=5.2', 'session: two images', 'desig=2011-AB-of-1993', 'auth=None, SR=0.1'):
        assert hide_secrets(text) == hide_known(text) == text


def test_a_desktop_is_no_secret_of_the_environment(monkeypatch):
    from astrid_data.redaction import known_secrets

    monkeypatch.setenv('DESKTOP_SESSION', 'gnome-of-this-test')
    monkeypatch.setenv('SOME_SERVICE_SESSION', 'session-of-this-test')
    assert 'gnome-of-this-test' not in known_secrets()
    assert 'session-of-this-test' in known_secrets()
