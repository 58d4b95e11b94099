"What is logged of the data is what the data say: MLflow, and Python's logging"

import asyncio
import io
import json
import logging
import math
import os
import subprocess
import sys
import uuid
from io import StringIO

import numpy as np
import pandas as pd
import pytest

import astrid_data as ad
from astrid_data import cli
from astrid_data.collect.params import collection_fields
from astrid_data.core import BadInput
from astrid_data.logs import get_log, log_from, log_losses, tell
from astrid_data.redaction import hide_secrets
from astrid_data.registry.tables import TrainingRun
from astrid_data.tracking.dataset_run import log_dataset, tracking_place
from astrid_data.tracking.derived import collection_params, quality_metrics
from astrid_data.tracking.past_runs import dataset_runs
from astrid_data.tracking.run import track
from astrid_data.tracking.unsent import replay
from astrid_data.tracking.uploader import load_mlflow, mlflow_client

pytestmark = pytest.mark.filterwarnings('ignore:logs@v')
LONG = [f'object-{i:05d}' for i in range(900)]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    "A version of pretend sky whose question has a long field, in an archive with its MLflow store"
    archive = ad.synthetic_archive(tmp_path_factory.mktemp('logs'), n_observations=2, n_sources=20)
    mlflow_client(tracking_place(archive).uri).search_experiments()
    plan = ad.TrainingDataCollector(archive).plan(
        confidence_threshold=0.5,
        quality_score_threshold=None,
        negatives={'rejected': 1},
        progress=False,
    )
    return plan.build('logs', patch_size=16, progress=False, probe=False)


def store(dataset):
    return mlflow_client(tracking_place(dataset.archive).uri)


def files(client, run_id, folder=None):
    return {entry.path for entry in client.list_artifacts(run_id, folder)}


def read_json(client, run_id, name, tmp_path):
    return json.loads(
        (tmp_path / client.download_artifacts(run_id, name, str(tmp_path))).read_text()
    )


# --- MLflow: what follows from the data


def test_the_question_and_the_quality_are_on_the_collections_run(dataset, tmp_path):
    client, run_id = store(dataset), log_dataset(dataset)
    data = client.get_run(run_id).data
    asked = {name.removeprefix('collection.'): v for name, v in data.params.items()}
    assert {field.name for field in collection_fields()} <= set(asked) and len(asked) == 26
    assert asked['confidence_threshold'] == '0.5' and asked['max_seeing'] == 'None'
    assert json.loads(asked['negatives']) == {'rejected': 1}
    report = dataset.quality
    measured = {k: v for k, v in report.components.items() if v is not None}
    assert measured and len(report.issues)
    for name, value in measured.items():
        assert data.metrics[f'quality_component_{name}'] == pytest.approx(value)
    for issue in report.issues:
        assert data.metrics[f'quality_issue_{issue.code}'] == issue.n
    n_warnings = sum(issue.severity == 'warning' for issue in report.issues)
    assert data.metrics['quality_issues_warning'] == n_warnings
    assert {'quality.json', 'quality_issues.csv', 'collection_params.json'} <= files(client, run_id)
    whole = read_json(client, run_id, 'collection_params.json', tmp_path)
    assert whole == dataset.manifest['params']['collection']


def test_the_question_and_the_quality_are_on_training_runs(dataset, tmp_path):
    with track(dataset, monitor=False) as run:
        run.log_params(dict(seed=7, lr=0.1))
        run.log_metrics(dict(loss=0.5))
    client = store(dataset)
    data = client.get_run(run.id).data
    assert run.record.refused == []
    assert {k: v for k, v in data.params.items() if k.startswith('collection.')} == (
        collection_params(dataset)
    )
    assert (data.params['seed'], data.params['collection.seed']) == ('7', '0')
    expected = {k: v for k, v in quality_metrics(dataset).items() if v is not None}
    assert expected.items() <= data.metrics.items()
    in_folder = files(client, run.id, 'data')
    assert {f'data/{n}' for n in ('quality.json', 'quality_issues.csv')} <= in_folder
    assert 'data/collection_params.json' in in_folder
    with dataset.archive.session() as session:  # AstrID's table has what the run itself logged
        row = session.get(TrainingRun, run.row_id)
        assert row.training_params == dict(seed='7', lr='0.1', run_name=dataset.address)
        assert row.performance_metrics == dict(loss=0.5)
    assert 'quality_score' not in dataset_runs(dataset)


def test_a_long_question_is_cut_and_whole_beside(dataset, tmp_path, monkeypatch):
    collection = dataset.manifest['params']['collection']
    monkeypatch.setitem(collection, 'object_ids', LONG)
    whole = json.dumps(LONG, separators=(',', ':'))
    assert len(whole) > 6000
    with track(dataset, monitor=False) as run:
        run.log_params(dict(notes='x' * 7000, short='y' * 300))
    client = store(dataset)
    data = client.get_run(run.id).data
    assert data.params['collection.object_ids'] == whole[:6000]
    assert data.params['notes'] == 'x' * 6000 and data.params['short'] == 'y' * 300
    path = client.download_artifacts(run.id, 'params/notes.txt', str(tmp_path))
    assert open(path).read() == 'x' * 7000
    assert run.record.refused == []


def test_an_older_server_gets_what_it_can_hold(dataset, monkeypatch):
    import mlflow.utils.validation as validation
    from mlflow.store.tracking import sqlalchemy_store

    for module in (validation, sqlalchemy_store):
        for name in ('MAX_PARAM_VAL_LENGTH',):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 250)
    monkeypatch.setenv('MLFLOW_TRUNCATE_LONG_VALUES', 'false')
    with track(dataset, monitor=False) as run:
        run.log_params(dict(notes='x' * 300, lr=0.1))
    params = store(dataset).get_run(run.id).data.params
    assert params['notes'] == 'x' * 250 and params['lr'] == '0.1' and run.record.refused == []


def test_more_params_than_one_call_takes(dataset):
    with track(dataset, monitor=False) as run:
        run.log_params({f'p{i}': i for i in range(250)})
        run.set_tags({f't{i}': i for i in range(150)})
    data = store(dataset).get_run(run.id).data
    assert run.record.refused == [] and data.params['p249'] == '249' and data.tags['t149'] == '149'


SPELLINGS = [
    'data_source',
    'DATA_SOURCE',
    'Data-Source',
    'data source',
    'data.source',
    'DataSource',
    'mlflow.data_source',
    'astrid.data_source',
    'astrid_data_source',
    'x/data_source',
]


@pytest.mark.parametrize('name', SPELLINGS)
def test_no_spelling_of_a_derived_tag_overrides_it(dataset, name):
    n_before = len(dataset_runs(dataset))
    with pytest.raises(BadInput, match='follows from the version'):
        track(dataset, tags={name: 'real'}, monitor=False)
    assert len(dataset_runs(dataset)) == n_before  # Nothing has begun


@pytest.mark.parametrize(
    'name',
    'dataset_id dataset_name dataset_version content_hash plan_hash origin audit patch_size channels '
    'dataset_code_version code_version stage'.split(),
)
def test_every_derived_tag_is_refused_and_the_same_value_is_no_harm(dataset, name):
    run = track(dataset, monitor=False)
    with pytest.raises(BadInput, match=f'{name} follows from the version'):
        track(dataset, tags={name: 'something else'}, monitor=False)
    assert track(dataset, tags={name: run.derived[name]}, monitor=False).tags[name]


@pytest.mark.parametrize('name', ['mlflow.runName', 'astrid_record'])
def test_tags_that_make_the_run_are_refused(dataset, name):
    with pytest.raises(BadInput, match='set by the run itself'):
        track(dataset, tags={name: 'x'}, monitor=False)


@pytest.mark.parametrize('tags', ['data_source', [('a', 1)], {5: 'x'}, {'a//b': 1}, {'': 1}])
def test_tags_that_are_none_are_refused(dataset, tags):
    with pytest.raises(BadInput):
        track(dataset, tags=tags, monitor=False)


def test_other_tags_pass(dataset):
    tags = {
        'model.stage': 'x',
        'data_sources_read': 3,
        'mlflow.note.content': 'hello',
        'team': None,
    }
    run = track(dataset, tags=tags, monitor=False)
    assert run.tags['model.stage'] == 'x' and run.tags['data_source'] == 'synthetic'


def test_nothing_inside_an_open_run_overrides_either(dataset):
    with track(dataset, monitor=False) as run:
        for name in SPELLINGS:
            with pytest.raises(BadInput):
                run.set_tags({name: 'real'})
            with pytest.raises(BadInput):
                run.log_params({name: 'real'})
        with pytest.raises(BadInput):
            run.log_params({'collection.seed': 5})
        with pytest.raises(BadInput):
            run.log_params({'Collection.Seed': 5})
        with pytest.raises(BadInput):
            run.log_metrics(dict(quality_score=1.0))
        run.log_params(dict(patch_size=12, channels='three', stage=2))  # A model has these, too
        run.tags['data_source'] = 'real'  # Too late
    with pytest.raises(BadInput):
        run.set_tags(dict(data_source='real'))
    data = store(dataset).get_run(run.id).data
    assert data.tags['data_source'] == 'synthetic' and 'Data-Source' not in data.tags
    assert data.params['patch_size'] == '12' and data.params['collection.seed'] == '0'


def test_tags_set_before_the_beginning_are_put_right(dataset):
    run = track(dataset, monitor=False)
    run.tags['data_source'] = 'real'
    with run:
        pass
    assert store(dataset).get_run(run.id).data.tags['data_source'] == 'synthetic'


def test_what_mlflow_itself_was_told_is_put_right_and_said(dataset):
    client = store(dataset)
    with pytest.warns(UserWarning, match="data_source was 'real', is 'synthetic' again"):
        with track(dataset, monitor=False) as run:
            client.set_tag(run.id, 'data_source', 'real')
            client.set_tag(run.id, 'mine', 'kept')
    tags = client.get_run(run.id).data.tags
    assert (tags['data_source'], tags['mine']) == ('synthetic', 'kept')


def test_a_run_within_mlflows_own_and_one_within_another(dataset):
    mlflow = load_mlflow()
    mlflow.set_tracking_uri(tracking_place(dataset.archive).uri)
    mlflow.set_experiment('astrid_data')
    with mlflow.start_run() as outer:
        mlflow.set_tag('data_source', 'real')
        with track(dataset, 'a', monitor=False) as first:
            mlflow.set_tag('data_source', 'real')
            with track(dataset, 'b', monitor=False) as second:
                second.log_metrics(dict(loss=1))
    client = store(dataset)
    assert len({outer.info.run_id, first.id, second.id}) == 3
    for run in (first, second):
        assert client.get_run(run.id).data.tags['data_source'] == 'synthetic'
    assert 'loss' not in client.get_run(first.id).data.metrics


def test_numbers_that_are_none_and_no_numbers(dataset):
    with track(dataset, monitor=False) as run:
        run.log_metrics(
            dict(a=None, b=math.nan, c=math.inf, d=-math.inf, e=np.float32(2), f=pd.NA, g=True)
        )
        for value in ('many', [1, 2], {}, object(), 10**400):
            with pytest.raises(BadInput, match='is not a number'):
                run.log_metrics(dict(x=value))
        for name in ('a|b', 'a//b', '/a', '../a', '.', '', 5, 'x' * 251):
            with pytest.raises(BadInput, match='cannot name a metric'):
                run.log_metrics({name: 1})
        run.log_params(dict(none=None, blank=''))
    data = store(dataset).get_run(run.id).data
    assert set(data.metrics) & set('abcdefg') == set('bcdeg')
    assert math.isnan(data.metrics['b']) and data.metrics['c'] > 1e300 and data.metrics['g'] == 1
    assert data.params['none'] == 'None' and run.record.refused == []


def test_a_store_that_is_away_changes_nothing_of_this(dataset, monkeypatch):
    monkeypatch.setattr(dataset.archive, 'mlflow_uri', 'http://127.0.0.1:9')
    with pytest.raises(BadInput, match='follows from the version'):
        track(dataset, tags=dict(data_source='real'), monitor=False)
    with pytest.warns(UserWarning, match='replay'):
        with track(dataset, monitor=False, patience_s=1) as run:
            run.log_params(dict(lr=1))
    monkeypatch.undo()
    replay(dataset.archive)
    client = store(dataset)
    with dataset.archive.session() as session:
        run_id = session.get(TrainingRun, uuid.UUID(run.record_id)).mlflow_run_id
    data = client.get_run(run_id).data
    assert data.tags['data_source'] == 'synthetic'
    assert data.params['collection.confidence_threshold'] == '0.5'
    assert 'quality_score' in data.metrics


def test_a_later_version_names_the_one_before(dataset):
    from astrid_data.tracking.dataset_run import dataset_tags

    plan = ad.TrainingDataCollector(dataset.archive).plan(
        confidence_threshold=0.5,
        quality_score_threshold=None,
        negatives={'rejected': 1},
        max_samples=20,
        progress=False,
    )
    later = plan.build('logs', patch_size=16, progress=False, probe=False)
    tags = dataset_tags(later)
    assert tags['dataset_parent'] == dataset.address
    assert tags['dataset_parent_hash'] == dataset.content_hash
    with pytest.raises(BadInput, match='dataset_parent follows'):
        track(later, tags=dict(dataset_parent='x'), monitor=False)


# --- Python's logging


@pytest.fixture
def heard():
    "Lines of JSON that the library logs meanwhile"
    stream = io.StringIO()
    ad.log_to(stream, level='DEBUG', json=True)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    ad.stop_logging(stream)


def test_the_log_is_silent_until_somebody_listens(tmp_path):
    code = f"""
import logging, astrid_data as ad
archive = ad.synthetic_archive({str(tmp_path)!r}, n_observations=1, n_sources=10)
report = archive.add_fits([{str(tmp_path / 'none.fits')!r}], show=False)
assert len(report.ledger) == 1
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_the_environment_asks_for_json(tmp_path):
    code = f"""
import astrid_data as ad
archive = ad.synthetic_archive({str(tmp_path)!r}, n_observations=1, n_sources=10)
ad.open_archive(home={str(tmp_path)!r}); ad.log_to(json=True)
"""
    environment = {**os.environ, 'ASTRID_LOG': 'json'}
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0 and {'store', 'archive'} <= {line['event'] for line in lines}
    assert {'astrid_data.storage', 'astrid_data.ingest'} <= {line['logger'] for line in lines}


def test_losses_are_logged_with_their_reasons(dataset, heard, tmp_path):
    bad = tmp_path / 'bad.fits'
    bad.write_bytes(b'SIMPLE  =                    T' + b' ' * 50)
    report = dataset.archive.add_fits([bad, tmp_path / 'none.fits'], show=False)
    assert len(report.ledger) == 2
    lost = [line for line in heard() if line.get('event') == 'lost']
    assert [(line['uri'], line['reason']) for line in lost] == list(
        zip(report.ledger['uri'], report.ledger['reason'])
    )
    assert {line['logger'] for line in lost} == {'astrid_data.ingest'}
    assert {line['level'] for line in lost} == {'WARNING'}
    (whole,) = [line for line in heard() if line.get('event') == 'losses']
    assert whole['n'] == 2


def test_thousands_of_losses_are_no_flood(heard):
    ledger = pd.DataFrame(dict(uri=[f'{i}' for i in range(5000)], reason=['a', 'b'] * 2500, n=2))
    ledger.loc[0, 'reason'] = None
    log_losses(get_log('ingest'), 'add_fits', ledger)
    lines = heard()
    assert len(lines) == 1 + 20 + 20 + 2 + 1 and lines[-1]['n'] == 10_000
    counted = sum(2 if line['event'] == 'lost' else line['n'] for line in lines[:-1])
    assert counted == 10_000 and lines[-1]['reasons']['unknown'] == 2


def test_which_data_are_loaded_from_where_and_whether_they_are_real(dataset, heard):
    again = ad.open_dataset(dataset.archive, dataset.address)
    ad.PatchDataset(again, 'train')
    opened, loading = heard()
    assert (opened['logger'], loading['logger']) == ('astrid_data.datasets', 'astrid_data.loading')
    assert opened['place'] == 'folder' and opened['where'] == str(dataset.folder)
    for line in (opened, loading):
        assert (line['address'], line['source']) == (dataset.address, 'synthetic')
        assert line['content_hash'] == dataset.content_hash and 'synthetic' in line['message']
    assert loading['split'] == 'train'


@pytest.mark.filterwarnings('ignore')
def test_the_fallback_is_logged_with_its_reason(tmp_path, heard):
    archive = ad.open_archive(home=tmp_path / 'empty')
    config = ad.training.RealDataConfig(max_samples=20, confidence_threshold=0.5)
    asyncio.run(ad.training.load_real_training_data(config, archive=archive, show=False))
    fallback = [line for line in heard() if line.get('event') == 'fallback']
    assert [line['level'] for line in fallback] == ['WARNING'] and fallback[0]['reason']
    modes = [
        line for line in heard() if 'mode' in line and line['logger'] == 'astrid_data.training'
    ]
    assert [(line['mode'], line['source']) for line in modes] == [('synthetic', 'synthetic')]


def test_plans_builds_and_runs_are_logged(dataset, heard):
    plan = ad.TrainingDataCollector(dataset.archive).plan(
        confidence_threshold=0.5,
        quality_score_threshold=None,
        negatives={'rejected': 1},
        progress=False,
    )
    plan.build('logged', patch_size=48, progress=False, probe=False)
    plan.build('logged', patch_size=48, progress=False, probe=False)
    with track(dataset, monitor=False):
        pass
    rooms = {line['logger'].split('.')[1] for line in heard()}
    assert {'collect', 'datasets', 'tracking'} <= rooms
    events = [line.get('event') for line in heard()]
    assert {'planned', 'built', 'found', 'tracking', 'run'} <= set(events)


def test_no_secret_is_logged_and_exceptions_are_whole(heard, caplog, monkeypatch):
    monkeypatch.setenv('CLOUDFLARE_R2_SECRET_ACCESS_KEY', 'very-secret-value')
    log = get_log('storage')
    caplog.set_level('INFO', 'astrid_data')
    try:
        raise OSError('cannot reach postgresql://me:hush@db/x with very-secret-value')
    except OSError as error:
        tell(log, logging.INFO, 'at very-secret-value', exc_info=error, key='very-secret-value')
        kept = error
    (line,) = heard()
    assert 'hush' not in json.dumps(line) and 'very-secret' not in json.dumps(line)
    assert 'OSError: cannot reach' in line['exception'] and 'Traceback' in line['exception']
    (record,) = caplog.records
    assert record.exc_info[1] is kept and 'very-secret' not in record.getMessage()


def test_no_secret_is_written_of_things_that_are_not_text(heard):
    log = get_log('storage')
    why = ValueError('postgresql://me:hush@db/x')
    tell(log, logging.INFO, 'no answer', why=why, all=[why, {1: why}], when=log)
    (line,) = heard()
    assert 'hush' not in json.dumps(line) and '***@db/x' in line['why']


def test_a_programs_own_handler_writes_no_secret_of_a_traceback():
    stream = io.StringIO()
    own = logging.StreamHandler(stream)
    log = get_log('storage')
    log.addHandler(own)
    try:
        raise OSError('cannot reach postgresql://me:hush@db/x')
    except OSError as error:
        tell(log, logging.ERROR, 'no answer', exc_info=error)
    finally:
        log.removeHandler(own)
    assert 'Traceback' in stream.getvalue() and 'hush' not in stream.getvalue()


@pytest.mark.parametrize(
    'logged',
    [
        'Authorization: Bearer s3cr3t-word-of-it',
        "{'Authorization': 'Basic s3cr3t=='}",
        'token sent as Bearer s3cr3t-word-of-it',
        "{'tokens': 's3cr3t'}",
        "{'password': ['s3cr3t', 's3cr3t2']}",
        {'tokens': 's3cr3t'},
        {'password': ['s3cr3t']},
        {'login': {'db.password': 's3cr3t'}},
        {'passwd': ('s3cr3t',)},
        {'headers': {'Authorization': 'Bearer s3cr3t'}},
        {'secret': 53273},
    ],
)
def test_secrets_of_every_form_are_taken_out(logged):
    hidden = str(hide_secrets(logged))
    assert 's3cr3t' not in hidden and '53273' not in hidden and '***' in hidden


@pytest.mark.parametrize(
    'logged',
    [
        'basic statistics of the bearer: max_tokens = 30, tokenizer=words',
        {'max_tokens': 3, 'tokenizer': 'words', 'password': None, 'has_secret': True},
        [1, 2.5, None],
    ],
)
def test_what_is_not_a_secret_stays(logged):
    assert hide_secrets(logged) == logged


@pytest.mark.parametrize(
    'word', ['a' * 100_000, 'token' * 20_000, 'token ' * 20_000, '://' * 30_000]
)
def test_a_long_text_is_searched_in_one_pass(word):
    assert hide_secrets(word) == word  # A pattern that looks back would need minutes for it


def test_asked_twice_it_writes_once_and_a_place_can_change_its_form(tmp_path, capsys):
    path = tmp_path / 'new' / 'night.log'
    log = get_log('lesson')
    try:
        for _ in range(3):
            ad.log_to(path)
            ad.log_to(str(path))
            ad.log_to()
        tell(log, logging.INFO, 'once')
        ad.log_to(path, level='WARNING', json=True)
        tell(log, logging.INFO, 'not in the file')
        tell(log, logging.WARNING, 'a\nb')
    finally:
        ad.stop_logging()
    first, second = path.read_text().splitlines()
    assert (
        first.endswith('INFO astrid_data.lesson: once') and json.loads(second)['message'] == 'a\nb'
    )
    assert capsys.readouterr().err.count('once') == 1
    tell(log, logging.WARNING, 'no more')
    assert len(path.read_text().splitlines()) == 2


def test_a_programs_own_level_and_handlers_keep_what_they_had():
    top, own = logging.getLogger('astrid_data'), io.StringIO()
    handler = logging.StreamHandler(own)
    before = top.level
    top.addHandler(handler)
    top.setLevel('INFO')
    try:
        ad.log_to(io.StringIO(), level='ERROR')
        tell(get_log('lesson'), logging.INFO, 'still heard')
        ad.log_to(io.StringIO(), level='DEBUG')
        assert top.level == logging.DEBUG
        ad.stop_logging()
        assert top.level == logging.INFO and 'still heard' in own.getvalue()
    finally:
        top.removeHandler(handler)
        top.setLevel(before)


def test_what_is_no_place_and_no_level_is_refused(tmp_path):
    for target in (5, '', tmp_path):
        with pytest.raises(BadInput):
            ad.log_to(target)
    for level in ('loud', None, True, -1):
        with pytest.raises(BadInput):
            ad.log_to(tmp_path / 'x.log', level=level)
    with pytest.warns(UserWarning, match='is not known'):
        log_from('jsonn')
    ad.stop_logging()


@pytest.mark.parametrize(
    'text',
    [
        'postgresql://u:pa/ssw0rd@h/db',
        'postgresql://u:p@ss@w0rd@h/db',
        'password="correct ssw0rd staple"',
        "{'password': 'correct ssw0rd; staple'}",
    ],
)
def test_a_password_may_hold_any_letter(text):
    hidden = hide_secrets(text)
    assert 'ssw0rd' not in hidden and 'staple' not in hidden and '***' in hidden


def test_a_secret_that_begins_another_leaves_no_tail():
    assert hide_secrets('x abcdefghXYZ', known=['abcdefgh', 'abcdefghXYZ']) == 'x ***'
    assert hide_secrets('x abcdefghXYZ', known=['abcdefghXYZ', 'abcdefgh']) == 'x ***'


def test_an_address_without_a_password_stays():
    for address in ('http://localhost:8000/a/b', 's3://bucket/a@b.fits', 'see a@b.org: c'):
        assert hide_secrets(address) == address


@pytest.mark.parametrize(
    'text',
    [
        'secret_key=ssw0rd-long',
        'private_key: ssw0rd-long',
        'client_secret_value=ssw0rd-long',
        'DB_PASSWORD_PROD=ssw0rd-long',
        'passphrase=ssw0rd-long',
        'Authorization: Token ssw0rd-long',
        'Authorization: Digest ssw0rd-long',
        "{'password': b'ssw0rd-long'}",
        'mysql --password ssw0rd-long',
        'password => ssw0rd-long',
        'ghp_ssw0rd0123456789012345678901234567890',
    ],
)
def test_more_spellings_of_a_secret(text):
    assert 'ssw0rd' not in hide_secrets(text)


@pytest.mark.parametrize('letter', ['\x1b', '\x9b', '\u202e', '\x07'])
def test_no_terminal_obeys_a_name_of_others(letter, tmp_path, capsys):
    stream = StringIO()
    ad.log_to(stream)
    try:
        logging.getLogger('astrid_data.ingest').warning('%s', f'a{letter}[2J.fits is lost')
    finally:
        ad.stop_logging()
    assert letter not in stream.getvalue() and '[2J.fits' in stream.getvalue()
    ad.open_archive(tmp_path)
    assert cli.main(['report', f'no{letter}such', '--home', str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert letter not in error and 'such' in error
