"A whole run with secrets that are looked for afterwards in all that it said, wrote and started"

import json
import logging
import os
import pickle
import re
import threading
import traceback
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from servers import free_port
from sqlalchemy import text
from test_datasets import plan_of, write_images

import astrid_data as ad
from astrid_data import cli
from astrid_data.core import load_settings
from astrid_data.datasets.exports import export_version
from astrid_data.datasets.report import write_report
from astrid_data.inference.classifier import classifier_of
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN

PASSWORD = 'horse-staple-of-no-database'
TRACKING = 'battery-of-the-tracking-server'
WRONG = 'a-key-that-no-bucket-knows'
SIGNING = 'a-pen-that-only-we-have'
SIGNATURE = 'c0ffee1234567890' * 4


class Said(logging.Handler):
    "All records of all libraries, as text with their traceback, at every level"

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []
        self.setFormatter(logging.Formatter('%(name)s %(message)s %(args)s'))

    def emit(self, record):
        self.lines.append(self.format(record))


@contextmanager
def listening():
    "What is logged meanwhile by anyone"
    said, root = Said(), logging.getLogger()
    level = root.level
    root.addHandler(said)
    root.setLevel(logging.DEBUG)
    try:
        yield said.lines
    finally:
        root.removeHandler(said)
        root.setLevel(level)


def arguments_of_children():
    "The arguments of all processes that we and our children started"
    parents, words = {}, {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            state = (folder / 'stat').read_text().rpartition(')')[2].split()
            words[int(folder.name)] = (folder / 'cmdline').read_bytes()
            parents[int(folder.name)] = int(state[1])
        except OSError:
            continue  # It has ended
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return b'\n'.join(words[pid] for pid in sorted(ours) if pid in words)


@contextmanager
def watching_children():
    "Collects the arguments of children, again and again"
    seen, end = set(), threading.Event()

    def look():
        while not end.is_set():
            seen.add(arguments_of_children())
            end.wait(0.05)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


def told(call):
    "What a call that fails tells: words, traceback and what it comes from"
    with pytest.raises(Exception) as caught:  # Anybody's error may show a secret
        call()
    error, words = caught.value, []
    words.append(''.join(traceback.format_exception(error)))
    while error is not None:
        words += [repr(error), str(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return '\n'.join(words)


def every_form(thing):
    "What Python makes of a thing without being asked for a secret"
    forms = [repr(thing), str(thing), repr(getattr(thing, '__dict__', ''))]
    try:
        forms.append(pickle.dumps(thing).decode('latin-1'))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        forms.append(repr(error))
    return '\n'.join(forms)


def leaks(secrets, **texts):
    "Which secret stands where, by the name of the place"
    return sorted(
        (place, name)
        for place, words in texts.items()
        for name, secret in secrets.items()
        if secret in words
    )


@pytest.fixture
def world(postgres, pg_url, s3, tmp_path, monkeypatch):
    "Settings from the environment and from `.env`; the secrets in them, by name"
    plain = re.findall('[0-9A-Za-z]+', postgres.password)  # The rest is spelt differently in URLs
    own = max(plain, key=len)
    tracker = f'http://ann:{TRACKING}@127.0.0.1:{free_port()}'
    for name in list(os.environ):
        if name.startswith(('AWS_', 'ASTRID_', 'MLFLOW_TRACKING')):
            monkeypatch.delenv(name)
    monkeypatch.setenv('ASTRID_DATABASE_URL', pg_url)
    monkeypatch.setenv('MLFLOW_TRACKING_URI', tracker)
    work = tmp_path / 'work'
    work.mkdir()
    lines = dict(
        AWS_ENDPOINT_URL=s3.endpoint,
        AWS_ACCESS_KEY_ID=s3.key,
        AWS_SECRET_ACCESS_KEY=s3.secret,
        ASTRID_STORAGE_URL='s3://test/end-to-end',
    )
    (work / '.env').write_text(''.join(f'{name}={value}\n' for name, value in lines.items()))
    monkeypatch.chdir(work)
    assert len(own) > 8 and own in pg_url
    return dict(database=own, no_database=PASSWORD, tracking=TRACKING, bucket=s3.secret)


def go_the_main_way(tmp_path):
    "From files to a served set; what there is at the end"
    archive = ad.open_archive(home=tmp_path / 'home')
    archive.add_fits(write_images(tmp_path / 'fits'), survey='toy', copy=True, show=False)
    dataset = plan_of(archive).build('sky', patch_size=16, progress=False)
    train, val, _ = ad.RealDataLoader(dataset).loaders(batch_size=8)
    away = fit_tracked(archive, dataset, train, val)
    archive.mlflow_uri = f'sqlite:///{tmp_path / "home" / "mlflow.db"}'
    here = fit_tracked(archive, dataset, train, val)
    export_version(dataset, tmp_path / 'exported')
    write_report(dataset, tmp_path / 'report.html')
    copy = dataset.publish(tmp_path / 'published', key=SIGNING)
    run_notebook(tmp_path)
    things = dict(archive=archive, dataset=dataset, train=train, away=away, here=here)
    return things | dict(copy=copy)


CELL = """
import astrid_data as ad
archive = ad.open_archive(home={home!r})
print(archive, vars(archive), ad.list_datasets(archive).to_string())
dataset = ad.open_dataset(archive, 'sky@v1')
archive, dataset, dataset.quality
"""


def run_notebook(tmp_path):
    "A notebook that opens the archive and shows all, run and kept with its outputs"
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(CELL.format(home=str(tmp_path / 'home')))]
    NotebookClient(notebook, timeout=300, resources=dict(metadata=dict(path='.'))).execute()
    nbformat.write(notebook, tmp_path / 'look.ipynb')


def fit_tracked(archive, dataset, train, val):
    "A training whose run is tracked"
    with ad.track(dataset, archive=archive) as run:
        fit(SmallCNN(), train, val, epochs=1, run=run, show=False)
    return run


def served_answers(archive, dataset):
    "What a server answers to one who may read and to one with a wrong key; the right key"
    key = ad.api.create_api_key(archive, 'reader', ['read:data'])
    words = []
    with TestClient(ad.create_app(archive), raise_server_exceptions=False) as client:
        for used in (key, WRONG):
            for path in ('', f'/{dataset.id}', '/none'):
                answer = client.get(f'/training/datasets{path}', headers={'X-API-Key': used})
                words.append(answer.text + repr(answer.headers))
    return '\n'.join(words), key


def failures(tmp_path, archive, dataset, monkeypatch):
    "What each step tells when it fails for its secret's sake"
    words = [told(lambda: archive.store.get('no/such'))]
    words.append(told(lambda: ad.open_dataset(archive, 'none')))
    words.append(told(lambda: export_version(dataset, tmp_path / 'exported')))
    with monkeypatch.context() as m:
        m.setenv('AWS_SECRET_ACCESS_KEY', WRONG)
        m.setattr('astrid_data.storage.service._pause', lambda s: None)
        other = ad.open_archive(home=tmp_path / 'other')
        words.append(told(lambda: other.store.get('no/such')))
        (one,) = write_images(tmp_path / 'more', n=1, seed=5)
        report = other.add_fits(one, copy=True, survey='toy', show=False)
        words += [report.ledger.to_string(), every_form(report), every_form(other)]
        m.setenv('ASTRID_DATABASE_URL', f'postgresql://ann:{PASSWORD}@127.0.0.1:9/sky')
        words.append(told(lambda: ad.open_archive(home=tmp_path / 'third')))
    return '\n'.join(words)


def found_with(address):
    "A table of one file, as an archive gives it that puts a user into its addresses"
    from astrid_data.ingest.found import found_table

    return found_table([dict(survey='toy', obs_id='one', product='one.fits', uri=address)])


def ways_of_models(tmp_path, things, monkeypatch):
    "A trained model in all its forms, and MLflow that is away"
    classifier = classifier_of(SmallCNN(), things['train'])
    texts = [every_form(classifier), classifier.card()]
    classifier.save(tmp_path / 'kept')
    if find_spec('onnxruntime') and find_spec('onnxscript'):
        classifier.to_onnx(tmp_path / 'kept.onnx')
        texts.append(every_form(ad.load_classifier(tmp_path / 'kept.onnx').facts))
    away = os.environ['MLFLOW_TRACKING_URI']
    monkeypatch.setenv('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '0')
    for where in ('models:/sky/1', 'runs:/abc/classifier'):
        texts.append(told(lambda where=where: ad.load_classifier(where, tracking_uri=away)))
    run = things['here']
    texts.append(
        every_form(ad.load_classifier(f'runs:/{run.id}/model', None, run.archive.mlflow_uri))
    )
    return '\n'.join(texts)


def ways_of_addresses(archive, monkeypatch):
    "Files whose addresses hold a password or a signature, found or named"
    place = f'127.0.0.1:{free_port()}/one.fits'
    user, signed = f'https://ann:{PASSWORD}@{place}', f'https://{place}?X-Amz-Signature={SIGNATURE}'
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)
    texts = []
    for address in (user, signed):
        texts.append(reported(lambda one=address: archive.add_fits(one, 'toy', show=False)))
        texts.append(reported(lambda one=address: archive.add(found_with(one), show=False)))
    monkeypatch.setattr('astrid_data.ingest.mast.DOWNLOADS', f'{user}?uri=')
    texts.append(reported(lambda: archive.add(found_with('mast:HST/product/one.fits'), show=False)))
    return '\n'.join(texts)


def reported(call):
    "What an ingest says of a file whose machine is away: a report, or an error that stops it"
    try:
        report = call()
    except ConnectionError:
        return told(call)
    return report.ledger.to_string() + every_form(report)


def typed(capsys_of, home, *words):
    "What a command says, with all that it logs"
    cli.main([*words, '--home', str(home), '-v'])
    return ''.join(capsys_of.readouterr())


def files_below(folder):
    "The bytes of all files, as text"
    return {
        str(path.relative_to(folder)): path.read_bytes().decode('latin-1')
        for path in folder.rglob('*')
        if path.is_file() and path.name != '.env'
    }


def stored_rows(archive):
    "All rows of the registry, as text"
    with archive.session() as session:
        tables = session.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).all()
        return '\n'.join(
            repr(session.execute(text(f'SELECT * FROM "{table}"')).all()) for table in tables
        )


def stored_objects(s3):
    "All objects of the bucket, as text"
    client = s3.client()
    listed = client.list_objects_v2(Bucket='test', Prefix='end-to-end/').get('Contents', [])
    got = {o['Key']: client.get_object(Bucket='test', Key=o['Key']) for o in listed}
    return {
        key: answer['Body'].read().decode('latin-1') + json.dumps(answer['Metadata'])
        for key, answer in got.items()
    }


def test_no_secret_is_said_written_or_handed_to_a_process(world, s3, tmp_path, monkeypatch, capfd):
    ad.log_to(tmp_path / 'log.jsonl', level='DEBUG', json=True)
    try:
        with listening() as logs, watching_children() as children:
            things = go_the_main_way(tmp_path)
            archive, dataset = things['archive'], things['dataset']
            answers, key = served_answers(archive, dataset)
            models = ways_of_models(tmp_path, things, monkeypatch)
            with monkeypatch.context() as m:
                addresses = ways_of_addresses(archive, m)
            shell = [
                typed(capfd, tmp_path / 'home', *words)
                for words in (
                    ['list', '--json'],
                    ['doctor', '--json'],
                    ['show', 'sky@v1', '--json'],
                )
            ]
            errors = failures(tmp_path, archive, dataset, monkeypatch)
    finally:
        ad.stop_logging()
    secrets = world | dict(wrong=WRONG, api_key=key, signature=SIGNATURE)
    secrets |= dict(signing=SIGNING)
    shown = {name: every_form(thing) for name, thing in things.items()}
    shown |= dict(settings=every_form(load_settings()), errors=errors, answers=answers)
    shown |= dict(models=models, addresses=addresses, shell='\n'.join(shell))
    shown |= dict(logs='\n'.join(logs), processes=b'\n'.join(children).decode('latin-1'))
    shown |= dict(printed=''.join(capfd.readouterr()), rows=stored_rows(archive))
    files, objects = files_below(tmp_path), stored_objects(s3)
    assert 'sky@v1' in shown['shell'] and len(shown['addresses']) > 1000
    assert shown['logs'] and 'log.jsonl' in files and 'home/mlflow.db' in files
    assert any('manifest.json' in name for name in files) and objects
    assert 'sky@v1' in files['look.ipynb'] and any('published' in name for name in files)
    found = [leaks(secrets, **places) for places in (shown, files, objects)]
    assert found == [[], [], []]
