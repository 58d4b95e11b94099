"Callers that exist already: their words over HTTP, in a shell and in Python work as they are printed."

import asyncio
import inspect
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from copying import copy_registry

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.simulate.synthetic import synthetic_archive

COLLECT = '/training/datasets/collect'


@pytest.fixture(scope='module')
def pretend(tmp_path_factory):
    "A small archive whose only survey is synthetic-skyview"
    return synthetic_archive(tmp_path_factory.mktemp('pretend'), n_observations=2, n_sources=15)


@contextmanager
def served(archive):
    "The API of an archive on a port of its own"
    import uvicorn

    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(ad.create_app(archive), port=port, log_level='critical')
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f'http://127.0.0.1:{port}'
    server.should_exit = True
    thread.join()


@pytest.fixture(scope='module')
def curl(pretend):
    "Run the real curl against a real server; gives the status and the envelope"
    if not shutil.which('curl'):
        pytest.skip('there is no curl on this machine')
    key = ad.api.create_api_key(pretend, 'me', ['read:data', 'manage:operations'])

    def run(*arguments, path=COLLECT, key=key):
        command = ['curl', '-sS', '-w', '\n%{http_code}', '-X', 'POST', url + path]
        if key:
            command += ['-H', f'X-API-Key: {key}']
        out = subprocess.run([*command, *arguments], capture_output=True, check=True).stdout
        answer, _, status = out.decode().rpartition('\n')
        return int(status), json.loads(answer)

    with served(pretend) as url:
        yield run


# A body is JSON, whatever its content type says ----------------------------------------------------

ASKED = {'survey_ids': ['synthetic-skyview', 'jwst'], 'max_samples': 12, 'name': 'asked'}
BODY = json.dumps(ASKED)


@pytest.mark.parametrize(
    'header',
    [
        None,  # As the seed prints it: curl says application/x-www-form-urlencoded
        'Content-Type:',  # None at all
        'Content-Type: text/plain',
        'Content-Type: application/x-www-form-urlencoded; charset=UTF-8',
        'Content-Type: application/json',
        'Content-Type: application/json; charset=utf-8',
        'Content-Type: Application/JSON;charset="UTF-8"',
        'Content-Type: application/vnd.api+json',
        'Content-Type: text/json',
        'Content-Type: multipart/form-data',
        'Content-Type: no content type at all',
    ],
)
def test_a_body_that_is_json_is_taken_as_json(curl, header):
    status, answer = curl(*(['-H', header] if header else []), '-d', BODY)
    assert status == 200, answer
    assert answer['data']['name'] == 'asked' and answer['data']['total_samples'] > 0
    assert answer['meta']['unknown'] == {'survey_ids': ['jwst']}


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
def test_a_body_may_say_its_encoding_itself(curl, tmp_path, encoding):
    body = tmp_path / 'body.json'
    text = json.dumps({**ASKED, 'description': 'Überriese α'}, ensure_ascii=False)
    body.write_bytes(text.encode(encoding))
    status, answer = curl('--data-binary', f'@{body}')
    assert status == 200 and answer['data']['description'] == 'Überriese α'


def test_a_named_charset_is_listened_to(curl, tmp_path):
    body = tmp_path / 'body.json'
    text = json.dumps({**ASKED, 'description': 'Überriese'}, ensure_ascii=False)
    body.write_bytes(text.encode('latin-1'))
    header = 'Content-Type: application/json; charset=iso-8859-1'
    status, answer = curl('-H', header, '--data-binary', f'@{body}')
    assert status == 200 and answer['data']['description'] == 'Überriese'
    status, answer = curl('--data-binary', f'@{body}')  # Not UTF-8, and nothing says what it is
    assert status == 422 and 'cannot be read as JSON' in answer['error']['message']


@pytest.mark.parametrize(
    'body, says',
    [
        ('name=first-look&survey_ids=hst', 'cannot be read as JSON'),
        ('%7B%22name%22%3A%22x%22%7D', 'cannot be read as JSON'),
        ("{'name': 'x'}", 'cannot be read as JSON'),
        (BODY[:-1], 'cannot be read as JSON'),
        ('[' * 100_000, 'cannot be read as JSON'),
        ('{"name": "x", "description": "\\ud800"}', 'cannot be read as JSON'),
        ('{"name": "x", "description": "\\u0000"}', 'NUL'),
        (' ', 'cannot be read as JSON'),
        ('', 'body: Field required'),
        ('[1, 2]', 'body: Input should be a valid dictionary'),
        ('"name"', 'body: Input should be a valid dictionary'),
        ('null', 'body: '),
        ('{}', 'name: Field required'),
        ('{"name": "x", "max_samples": NaN}', 'NaN is no number of JSON'),
        ('{"name": "x", "survey_ids": [5]}', 'survey_ids.0'),
        ('{"name": "x", "survey_ids": []}', 'empty list'),
        ('{"name": "x", "validation_status": "vetted"}', 'choose from'),
        ('{"name": "x", "anomaly_types": []}', 'empty list'),
    ],
)
def test_what_is_wrong_with_a_body_is_said_in_the_envelope(curl, body, says):
    status, answer = curl('--data-binary', body)
    assert status == 422 and answer['status'] == 'error' and answer['data'] is None
    assert says in answer['error']['message'], answer


def test_who_has_no_key_hears_of_that_first(curl):
    for body in (BODY, 'name=x'):
        status, answer = curl('-d', body, key=None)
        assert (status, answer['error']['error_code']) == (401, 'unauthorized')


def test_an_endpoint_without_a_body_takes_any(curl):
    _, made = curl('-d', BODY)
    path = f'/training/datasets/{made["data"]["dataset_id"]}/load'
    for body in ('{}', 'x=1', ''):
        status, answer = curl('-d', body, path=path)
        assert status == 200 and answer['data']['ready_for_training']


def test_what_nobody_expected_leaves_in_the_envelope_too(pretend, monkeypatch):
    from fastapi.testclient import TestClient

    def fail(*args, **kwargs):
        raise RuntimeError('a secret')

    monkeypatch.setattr('astrid_data.api.build_dataset', fail)
    key = ad.api.create_api_key(pretend, 'me', ['manage:operations'])
    client = TestClient(ad.create_app(pretend), raise_server_exceptions=False)
    answer = client.post(COLLECT, content=BODY, headers={'X-API-Key': key})
    assert answer.status_code == 500 and answer.json()['status'] == 'error'
    assert 'secret' not in answer.text


# Names that are not there --------------------------------------------------------------------------


def quiet_plan(archive, **fields):
    "A plan, and what was warned of"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        plan = ad.TrainingDataCollector(archive).plan(progress=False, **fields)
    return plan, [str(w.message) for w in heard if 'asked without' in str(w.message)]


KNOWN = 'synthetic-skyview'


@pytest.mark.parametrize(
    'fields, unknown',
    [
        (dict(survey_ids=[KNOWN, 'jwst']), {'survey_ids': ['jwst']}),
        (dict(survey_ids=['JWST', 'Hubble', KNOWN.upper()]), {'survey_ids': ['JWST', 'Hubble']}),
        (dict(survey_ids=['jwst', 'jwst', KNOWN, KNOWN]), {'survey_ids': ['jwst']}),
        (dict(survey_ids=KNOWN), {}),
        (dict(survey_ids=[KNOWN, KNOWN.upper()]), {}),
        (dict(bands=['r', 'K']), {'bands': ['K']}),
        (dict(bands='R'), {}),
        (dict(anomaly_types=['Star', 'kilonova']), {'anomaly_types': ['kilonova']}),
        (
            dict(survey_ids=[KNOWN, 'jwst'], bands=['r', 'K']),
            {'survey_ids': ['jwst'], 'bands': ['K']},
        ),
    ],
)
def test_known_names_are_asked_and_the_others_are_named(pretend, caplog, fields, unknown):
    caplog.set_level(logging.WARNING, 'astrid_data')
    plan, heard = quiet_plan(pretend, **fields)
    assert plan.unknown == unknown and len(plan) > 0
    logged = [record for record in caplog.records if record.name.startswith('astrid_data.')]
    assert len(heard) == len(logged) == bool(unknown)
    for name in (name for names in unknown.values() for name in names):
        assert repr(name) in repr(plan) and repr(name) in heard[0]
        assert repr(name) in logged[0].getMessage()
    assert ('not here' in repr(plan)) == ('not here' in plan._repr_html_()) == bool(unknown)


def test_the_known_part_is_answered_as_if_asked_alone(pretend):
    alone, _ = quiet_plan(pretend, survey_ids=[KNOWN])
    partly, _ = quiet_plan(pretend, survey_ids=['jwst', KNOWN])
    assert alone.samples.equals(partly.samples) and alone.ledger.equals(partly.ledger)
    assert partly.params.survey_ids == ['jwst', KNOWN]  # The question stays as it was asked


@pytest.mark.parametrize(
    'fields, says',
    [
        (dict(survey_ids=['jwst', 'roman']), "no survey 'jwst', 'roman': the registry knows synth"),
        (dict(survey_ids='hubble'), "no survey 'hubble'"),
        (dict(bands=['K', 'H']), "no observation in band 'K', 'H'; there are: r"),
        (dict(anomaly_types=['kilonova']), 'no positive sample'),
        (dict(object_ids=['SN 1'], validation_status='any'), 'no positive sample'),
        (dict(observation_status=['odd']), 'no positive sample'),
    ],
)
def test_an_error_only_where_nothing_is_known(pretend, fields, says):
    with pytest.raises(NotFound, match=says):
        quiet_plan(pretend, **fields)


def test_the_version_says_what_was_not_there(pretend):
    plan, _ = quiet_plan(pretend, survey_ids=[KNOWN, 'jwst'], max_samples=12)
    dataset = plan.build('partly', probe=False, progress=False)
    assert dataset.manifest['unknown'] == {'survey_ids': ['jwst']}
    whole, _ = quiet_plan(pretend, survey_ids=[KNOWN], max_samples=12)
    assert 'unknown' not in whole.build('whole', probe=False, progress=False).manifest


def test_names_match_the_same_on_both_databases(registry_url, tmp_path):
    from astrid_data.collect.queries import unknown_names
    from astrid_data.registry import get_or_create_survey

    archive = ad.open_archive(registry_url, home=tmp_path)
    params = ad.TrainingDataCollectionParams(
        survey_ids=['jwst', 'Hst'], object_ids=[f'SN {n}' for n in range(6000)], bands='K'
    )
    with archive.session() as session:
        get_or_create_survey(session, 'hst')
        found = unknown_names(session, params)
    assert (found['survey_ids'], found['bands']) == (['jwst'], ['K'])
    assert len(found['object_ids']) == 6000


# In a shell ----------------------------------------------------------------------------------------


def command(capsys, *argv):
    "Run `astrid-data`; gives its status and what it printed"
    from astrid_data.cli import main

    status = main(list(argv))
    return status, capsys.readouterr()


@pytest.mark.filterwarnings('ignore:no survey')
def test_the_command_asks_what_is_known(pretend, capsys):
    home = ['--home', str(pretend.home)]
    status, said = command(capsys, 'collect', '--survey', 'jwst', KNOWN, *home)
    assert status == 0 and "no survey 'jwst': the rest was asked" in said.out
    status, said = command(capsys, 'collect', '--survey', KNOWN, '--survey', 'jwst', *home)
    assert status == 0 and "no survey 'jwst': the rest was asked" in said.out
    status, said = command(capsys, 'collect', '--survey', 'jwst', 'roman', *home)
    assert status == 1 and f"no survey 'jwst', 'roman': the registry knows {KNOWN}" in said.err


# The notebook functions ----------------------------------------------------------------------------


def test_named_surveys_that_are_there_are_loaded(pretend):
    config = ad.RealDataConfig([KNOWN, 'jwst'], max_samples=30, date_range_days=None)
    with pytest.warns(UserWarning, match="no survey 'jwst': asked without"):
        load = ad.load_real_training_data(config, archive=pretend, fallback='error', show=False)
        train, val, test = asyncio.run(load)
    assert len(train) and train.dataset.manifest['unknown'] == {'survey_ids': ['jwst']}


@pytest.mark.parametrize('name', ['HST', 'hst', 'Hst'])
def test_the_usual_surveys_are_found_in_any_case(tmp_path, name):
    from astrid_data.registry import Survey

    archive = ad.open_archive(tmp_path)
    with archive.session() as session:
        session.add(Survey(name=name))
    with pytest.warns(UserWarning, match='this archive has hst; asked instead: hst'):
        assert ad.RealDataConfig().params(archive).survey_ids == ['hst']


def test_one_name_is_a_list_of_one_and_what_is_no_name_is_refused():
    assert ad.RealDataConfig('hst').survey_ids == ['hst']
    for wrong in (5, [5], []):
        with pytest.raises(BadInput, match='survey_ids'):
            ad.RealDataConfig(wrong)


# What INTEROP.md promises: names, order and defaults of parameters ---------------------------------

EMPTY = inspect.Parameter.empty
SIGNATURES = {
    'RealDataConfig': dict(
        survey_ids=None,
        confidence_threshold=0.7,
        max_samples=1000,
        date_range_days=180,
        validation_status='validated',
        anomaly_types=None,
    ),
    'load_real_training_data': dict(config=None, dataset_name=None, created_by='training_pipeline'),
    'get_real_training_data': dict(max_samples=1000, confidence_threshold=0.7, batch_size=2),
    'create_real_data_loaders': dict(
        train=EMPTY, val=EMPTY, test=EMPTY, batch_size=2, num_workers=2
    ),
    'TrainingDataCollectionParams': dict(
        survey_ids=None,
        date_range=None,
        confidence_threshold=0.7,
        anomaly_types=None,
        quality_score_threshold=0.8,
        max_samples=10000,
        validation_status='validated',
    ),
}


@pytest.mark.parametrize('name', SIGNATURES)
def test_existing_calls_keep_their_parameters(name):
    parameters = inspect.signature(getattr(ad, name)).parameters.values()
    first = {p.name: p.default for p in list(parameters)[: len(SIGNATURES[name])]}
    assert list(first.items()) == list(SIGNATURES[name].items())


def test_a_quality_report_has_the_fields_that_callers_read():
    fields = (
        'total_samples anomaly_ratio image_quality_score label_consistency '
        'temporal_distribution survey_coverage quality_score issues'
    ).split()
    report = inspect.signature(ad.quality.DataQualityReport).parameters
    assert list(report)[:8] == fields


# Old import paths, from outside --------------------------------------------------------------------

OLD_NAMES = {
    'notebooks.training.utils.real_data_utils': (
        'RealDataConfig load_real_training_data get_real_training_data create_real_data_loaders'
    ),
    'src.domains.ml.training_data.services': (
        'TrainingDataCollector RealDataLoader TrainingDatasetManager DataQualityReport '
        'TrainingDataCollectionParams'
    ),
    'src.domains.ml.training_data.models': 'TrainingDataset TrainingSample TrainingRun',
    'src.domains.ml.training_data.api': 'create_app create_api_key',
    'src.domains.ml.training_data.mlflow_logging': 'log_dataset',
}


def _half_written(folder, names):
    "What another process may be about to rename among compiled code"
    kept = ('.pyc', '.nbi', '.nbc')
    return [
        name for name in names if Path(folder).name == '__pycache__' and not name.endswith(kept)
    ]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The package alone in a folder, as a wheel puts it, and its loops compiled as they are here"
    folder = tmp_path_factory.mktemp('site')
    package = Path(ad.__file__).parent
    shutil.copytree(package, folder / 'astrid_data', ignore=_half_written)
    return folder


@pytest.fixture
def outside(site, tmp_path):
    "Run Python in an empty folder, with nothing of the repository on its path"
    folder = tmp_path / 'elsewhere'
    folder.mkdir()

    def run(*arguments, home=tmp_path / 'home', check=True, **more):
        kept = {k: v for k, v in os.environ.items() if k in ('PATH', 'HOME', 'OMP_NUM_THREADS')}
        paths = dict(PYTHONPATH=str(site), ASTRID_DATA_HOME=str(home), ASTRID_DATA_QUIET='1')
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**kept, **paths, 'MLFLOW_DISABLE_TELEMETRY': 'true'},
            capture_output=True,
            text=True,
            check=check,
            **more,
        )

    run.folder = folder
    return run


def test_every_old_name_is_served_and_is_ours(outside):
    lines = ['import astrid_data.compat, sys', 'before = set(sys.modules)']
    lines += ["assert not {'torch', 'fastapi', 'sqlalchemy', 'mlflow', 'pandas'} & before"]
    for module, names in OLD_NAMES.items():
        lines += [f'from {module} import {", ".join(names.split())}']
        lines += [f'assert {n}.__module__.startswith("astrid_data.")' for n in names.split()]
        lines += [f'import {module}; assert sorted({module}.__all__) == {sorted(names.split())}']
        lines += [f'from {module} import *']
    outside('-c', '\n'.join(lines))


def test_without_the_line_nothing_is_served(outside):
    for module in OLD_NAMES:
        p = outside('-c', f'import astrid_data; import {module}', check=False)
        assert 'ModuleNotFoundError' in p.stderr


@pytest.mark.parametrize('with_init', [True, False])
def test_what_can_be_imported_already_wins(outside, with_init):
    real = outside.folder / 'src' / 'domains'
    real.mkdir(parents=True)
    (real / 'own.py').write_text('here = True')
    if with_init:
        for folder in (real, real.parent):
            (folder / '__init__.py').write_text('real = True')
    utils = outside.folder / 'notebooks' / 'training' / 'utils'
    utils.mkdir(parents=True)
    (utils / 'real_data_utils.py').write_text('get_real_training_data = "their own"')
    code = f"""
import astrid_data.compat
import src.domains
from src.domains.own import here
from src.domains.ml.training_data.models import TrainingSample
from notebooks.training.utils.real_data_utils import get_real_training_data
assert get_real_training_data == 'their own'
assert hasattr(src.domains, 'real') == {with_init}
astrid_data.compat.remove()
assert not hasattr(src.domains, 'ml')
from src.domains.own import here
try:
    import src.domains.ml
except ModuleNotFoundError:
    print('gone')
astrid_data.compat.install()
astrid_data.compat.install()
import src.domains.ml.training_data.services
"""
    assert outside('-c', code).stdout == 'gone\n'


def test_a_name_that_is_gone_says_what_to_do(outside):
    code = """
import astrid_data.compat
import src.domains.ml.training_data.api as api
assert not hasattr(api, 'no_such_name')
from src.domains.ml.training_data.api import router
"""
    p = outside('-c', code, check=False)
    assert 'ImportError: astrid_data has no router: serve create_app(archive)' in p.stderr


BASIC = """
from notebooks.training.utils.real_data_utils import get_real_training_data

train_loader, val_loader, test_loader = await get_real_training_data(
    max_samples=1000,
    confidence_threshold=0.7,
    batch_size=2
)
"""

ADVANCED = """
config = RealDataConfig(
    survey_ids=["hst", "jwst"],
    confidence_threshold=0.6,
    max_samples=5000,
    date_range_days=365
)

train_dataset, val_dataset, test_dataset = await load_real_training_data(
    config=config,
    dataset_name="production_training_v1"
)
"""

CURL = """
curl -X POST "/training/datasets/collect" \\
  -H "X-API-Key: $API_KEY" \\
  -d '{
    "survey_ids": ["hst", "jwst"],
    "start": "2024-01-01T00:00:00",
    "end": "2024-12-31T23:59:59",
    "confidence_threshold": 0.7,
    "max_samples": 1000,
    "name": "real_data_demo"
  }'
"""

# The seed uses these two without an import, as notebooks do that had one in a cell above
ADVANCED_NAMES = (
    'from notebooks.training.utils.real_data_utils import RealDataConfig, load_real_training_data'
)
CELL = """
from IPython.core.interactiveshell import InteractiveShell
result = InteractiveShell.instance().run_cell({code!r})
result.raise_error()
"""


def as_cell(*parts):
    "Code that runs some text as a notebook runs a cell"
    return CELL.format(code='\n'.join(parts))


def archive_of(when, home, sample_home):
    "The sample, with its images of HST taken at another time"
    from sqlalchemy import select, update

    from astrid_data.registry import Observation, Survey

    copy_registry(sample_home, home)
    archive = ad.open_archive(home)
    with archive.session() as session:
        hst = select(Survey.id).where(Survey.name == 'hst').scalar_subquery()
        own = update(Observation).where(Observation.survey_id == hst)
        session.execute(own.values(observation_time=when))
    return archive


def test_the_seeds_basic_example(outside):
    checks = """
images, masks = next(iter(train_loader))
assert images.shape == masks.shape == (2, 1, 64, 64), images.shape
assert 'origin: survey' in repr(train_loader), repr(train_loader)
assert len(val_loader) and len(test_loader)
"""
    p = outside('-W', 'ignore', '-c', as_cell('import astrid_data.compat', BASIC, checks))
    assert 'registering the sample' in p.stdout


def test_the_seeds_advanced_example(outside, tmp_path, sample_home):
    lately = datetime.now(UTC) - timedelta(days=30)
    home = tmp_path / 'lately'
    archive_of(lately, home, sample_home)
    checks = """
image, mask = train_dataset[0]
assert image.shape == mask.shape == (1, 64, 64)
assert train_dataset.dataset.origin == 'survey'
assert train_dataset.dataset.address == 'production_training_v1@v1'
assert train_dataset.dataset.manifest['unknown'] == {'survey_ids': ['jwst']}
"""
    cell = as_cell('import astrid_data.compat', ADVANCED_NAMES, ADVANCED, checks)
    p = outside('-c', cell, home=home)
    assert "no survey 'jwst': asked without" in p.stderr


def test_the_seeds_advanced_example_where_nothing_is_that_new(outside, tmp_path, sample_home):
    home = tmp_path / 'old'
    archive_of(datetime(2002, 1, 1, tzinfo=UTC), home, sample_home)
    checks = "assert train_dataset.dataset.origin == 'synthetic'"
    cell = as_cell('import astrid_data.compat', ADVANCED_NAMES, ADVANCED, checks)
    p = outside('-c', cell, home=home)
    assert 'SyntheticDataWarning' in p.stderr and 'surveys hst, jwst, the last 365 days' in p.stderr


def test_the_seeds_curl_as_printed(site, tmp_path, sample_home):
    archive = archive_of(datetime(2024, 6, 1, tzinfo=UTC), tmp_path / 'home', sample_home)
    key = ad.api.create_api_key(archive, 'pipeline', ['manage:operations'])
    with served(archive) as url:
        script = CURL.replace('"/training', f'"{url}/training')  # A path alone is no address
        p = subprocess.run(
            ['bash', '-c', script], env={**os.environ, 'API_KEY': key}, capture_output=True
        )
    answer = json.loads(p.stdout)
    assert answer['status'] == 'success', answer
    assert answer['data']['name'] == 'real_data_demo' and answer['data']['total_samples'] > 100
    assert set(answer['data']['quality_report']['survey_coverage']) == {'hst'}
    assert answer['meta']['unknown'] == {'survey_ids': ['jwst']}
