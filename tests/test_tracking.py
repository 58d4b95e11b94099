"Tracking: what arrives in MLflow, and that nothing is lost when it is not there"

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
import torch
from servers import free_port
from sqlalchemy import select

import astrid_data as ad
import astrid_data.tracking.registry_rows
import astrid_data.tracking.run
from astrid_data.core import BadInput, Conflict, NotFound
from astrid_data.datasets.dataset import write_dataset
from astrid_data.evaluation.intervals import bootstrap, paired_bootstrap
from astrid_data.evaluation.report import operating_points
from astrid_data.evaluation.scores import average_precision
from astrid_data.ingest.archive import open_archive
from astrid_data.loading.loader import PatchDataset, RealDataLoader
from astrid_data.quality.report import check_quality
from astrid_data.registry.tables import Model, TrainingDataset, TrainingRun
from astrid_data.tracking.artifacts import some_rows
from astrid_data.tracking.dataset_run import (
    code_tags,
    data_source,
    dataset_tags,
    log_dataset,
    mlflow_dataset,
)
from astrid_data.tracking.journal import Record
from astrid_data.tracking.meters import Reading
from astrid_data.tracking.monitor import EnergyMonitor
from astrid_data.tracking.past_runs import dataset_of, dataset_runs
from astrid_data.tracking.run import track
from astrid_data.tracking.saved_model import RawModel, input_of
from astrid_data.tracking.secrets import hide_secrets
from astrid_data.tracking.unsent import replay
from astrid_data.tracking.uploader import load_mlflow
from astrid_data.training.compare import compare_runs, paired_difference
from astrid_data.training.epochs import TrainingDiverged
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN, SmallUNet
from astrid_data.training.predict import evaluate


def version(archive, origin='survey', name='small', n=20):
    "A small hand-made version, known to the archive"
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            origin=origin,
            split=np.where(np.arange(n) < 12, 'train', np.where(np.arange(n) < 16, 'val', 'test')),
        )
    )
    d = write_dataset(
        archive.datasets_dir / name / 'v1',
        t,
        np.random.default_rng(0).normal(size=(n, 1, 8, 8)).astype('f4'),
        name=name,
    )
    with archive.session() as s:
        s.add(
            TrainingDataset(
                id=uuid.UUID(d.id),
                name=name,
                collection_params={},
                total_samples=n,
                anomaly_ratio=0.5,
                quality_score=1.0,
                created_by='test',
            )
        )
    d.archive = archive
    return d


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    "One archive for all tests that need MLflow's embedded store, which takes seconds to make"
    archive = open_archive(str(tmp_path_factory.mktemp('archive')))
    client(
        archive
    ).search_experiments()  # Makes the store, which may take longer than a run's patience on a busy machine
    return archive


@pytest.fixture(scope='module')
def dataset(archive):
    return version(archive)


@pytest.fixture
def fresh(tmp_path):
    return open_archive(str(tmp_path / 'fresh'))


def client(archive):
    return load_mlflow().MlflowClient(archive.mlflow_uri)


def row(archive, run):
    with archive.session() as s:
        return s.get(TrainingRun, run.row_id)


@contextmanager
def no_server(archive):
    "For the block, the archive's MLflow is an address where nobody listens"
    was, archive.mlflow_uri = archive.mlflow_uri, f'http://127.0.0.1:{free_port()}'
    try:
        yield
    finally:
        archive.mlflow_uri = was


def test_what_goes_in_comes_out(archive, dataset, tmp_path):
    (tmp_path / 'note.txt').write_text('hello')
    with track(dataset, 'all', monitor=False, tags=dict(colour='blue')) as run:
        run.log_params(dict(lr=0.1, nested=dict(a=1)))
        for i in range(50):
            run.log_metrics(dict(loss=1 / (i + 1), missing=None), step=i)
        run.log_artifact(tmp_path / 'note.txt', 'notes/note.txt')
        run.log_text('{}', 'x.json')
    c = client(archive)
    got = c.get_run(run.id)
    assert [(m.step, m.value) for m in c.get_metric_history(run.id, 'loss')] == [
        (i, 1 / (i + 1)) for i in range(50)
    ]
    assert 'missing' not in got.data.metrics and got.data.params == {
        'lr': '0.1',
        'nested': "{'a': 1}",
    }
    assert got.info.status == 'FINISHED' and got.info.run_name == 'all'
    assert {
        k: got.data.tags[k]
        for k in (
            'dataset_id',
            'dataset_name',
            'dataset_version',
            'data_source',
            'stage',
            'colour',
            'content_hash',
        )
    } == dict(
        dataset_id=dataset.id,
        dataset_name='small',
        dataset_version='v1',
        data_source='real',
        stage='training',
        colour='blue',
        content_hash=dataset.content_hash,
    )
    (d,) = got.inputs.dataset_inputs
    assert (
        d.dataset.digest == dataset.content_hash[:12]
        and d.dataset.name == 'small@v1'
        and json.loads(d.dataset.profile)['n_samples'] == 20
    )
    assert {a.path for a in c.list_artifacts(run.id)} == {'data', 'notes', 'x.json'}
    r = row(archive, run)
    assert (
        (r.status, r.mlflow_run_id, r.training_params['lr']) == ('completed', run.id, '0.1')
        and r.performance_metrics['loss'] == 1 / 50
        and r.completed_at >= r.started_at
    )


def test_on_both_databases(registry_url, tmp_path):
    d = version(open_archive(registry_url, home=tmp_path))
    with no_server(d.archive), pytest.warns(UserWarning, match='replay'):
        with track(d, monitor=False) as run:
            run.log_params(dict(lr=1))
            run.log_metrics(dict(a=0.5))
    r = row(d.archive, run)
    assert (r.status, r.training_params, r.performance_metrics) == (
        'completed',
        dict(run_name='small@v1', lr='1'),
        dict(a=0.5),
    ) and dataset_runs(d)['a'].tolist() == [0.5]


def test_a_version_the_archive_does_not_know(fresh, dataset):
    with pytest.raises(Conflict, match='not known'):
        with track(dataset, archive=fresh, monitor=False):
            pass


def test_row_runs_then_completes(archive, dataset):
    with track(dataset, monitor=False) as run:
        assert row(archive, run).status == 'running' and run.id
        run.log_metrics(dict(a=1))
        assert row(archive, run).mlflow_run_id == run.id  # Known while it runs
    assert row(archive, run).status == 'completed'


@pytest.mark.parametrize(
    'error, status', [(ValueError('bad batch'), 'FAILED'), (KeyboardInterrupt(), 'KILLED')]
)
def test_failures_are_told_and_go_on(archive, dataset, error, status):
    with pytest.raises(type(error)):
        with track(dataset, monitor=False) as run:
            raise error
    got = client(archive).get_run(run.id)
    assert got.info.status == status and type(error).__name__ in got.data.tags['error']
    assert (
        row(archive, run).status == 'failed'
        and type(error).__name__ in row(archive, run).performance_metrics['error']
    )


def test_energy_is_among_the_metrics_and_the_unknown_is_not(archive, dataset):
    class Meter:
        name, kind, wrap, how, failure = (
            'gpu0',
            'gpu',
            None,
            ('pretend counter', 'pretend power'),
            None,
        )

        def __init__(self, known):
            self.t0, self.known = time.monotonic(), known

        def read(self):
            return Reading(joules=100 * (time.monotonic() - self.t0)) if self.known else Reading()

        def close(self):
            pass

    for known in (True, False):
        with track(
            dataset, monitor=EnergyMonitor(0.05, meters=[Meter(known)], grid_g_per_kwh=100)
        ) as run:
            time.sleep(0.12)
        got = client(archive).get_run(run.id)
        names = {
            'training_energy_wh',
            'training_avg_power_w',
            'training_peak_power_w',
            'training_duration_s',
            'training_carbon_footprint_kg',
        }
        assert names & set(got.data.metrics) == (names if known else {'training_duration_s'})
        if known:
            assert (
                got.data.metrics['training_avg_power_w'] == pytest.approx(100, rel=0.05)
                and got.data.tags['energy_method_gpu'] == 'pretend counter'
            )
        else:
            assert (
                'neither energy nor power' in got.data.tags['energy_unknown_gpu']
                and run.energy.total_wh is None
            )


@pytest.mark.parametrize('origin, source', [('survey', 'real'), ('synthetic', 'synthetic')])
def test_data_source_comes_from_the_samples(fresh, origin, source):
    d = version(fresh, origin)
    assert data_source(d) == source and dataset_tags(d)['origin'] == origin


def test_one_pretend_sample_is_enough_to_be_no_real_data(fresh):
    assert data_source(version(fresh, ['survey'] * 19 + ['synthetic'])) == 'synthetic'


def test_the_versions_own_run_is_written_once(archive, dataset):
    ids = {log_dataset(dataset) for _ in range(3)}
    c = client(archive)
    experiment = c.get_experiment_by_name('astrid_data').experiment_id
    own = f"attributes.run_name = 'training_data_{dataset.id}'"  # Other tests share the archive
    found = c.search_runs([experiment], own)
    assert ids == {r.info.run_id for r in found} and len(ids) == 1
    got = found[0]
    assert (
        got.data.tags['stage'] == 'data_collection'
        and got.data.metrics['total_samples'] == 20
        and got.data.metrics['anomaly_ratio'] == 0.5
    )
    assert {'manifest.json', 'ledger.parquet'} <= {
        a.path for a in c.list_artifacts(got.info.run_id)
    }


def test_navigation_both_ways(archive, dataset):
    with track(dataset, monitor=False) as run:
        run.log_metrics(dict(auc=0.9))
    runs = dataset_runs(dataset)
    assert runs.iloc[-1]['mlflow_run_id'] == run.id and runs.iloc[-1]['auc'] == 0.9
    with pytest.raises(NotFound):
        dataset_of('nothing', archive)


def test_mlflow_itself_can_be_given_our_dataset(archive, dataset):
    d = mlflow_dataset(dataset)
    assert d.digest == dataset.content_hash[:12] and len(d.digest) <= 36
    assert json.loads(json.dumps(d.to_dict()))['source_type'] == 'astrid_data'


@pytest.mark.parametrize(
    'what',
    [
        lambda r: r.log_metrics({'a|b': 1}),
        lambda r: r.log_params({'': 1}),
        lambda r: r.log_params(dict(lr=1)) or r.log_params(dict(lr=2)),
        lambda r: r.log_artifact(__file__, '../x'),
        lambda r: r.log_artifact(__file__, '/etc/x'),
    ],
)
def test_what_mlflow_would_refuse_is_refused_at_once(archive, dataset, what):
    with track(dataset, monitor=False) as run:
        with pytest.raises(BadInput):
            what(run)
    assert run.status == 'completed' and run.record.refused == []


def test_a_version_without_an_archive_says_what_to_do(archive, dataset):
    dataset.archive = None
    try:
        with pytest.raises(BadInput, match='archive='):
            track(dataset)
    finally:
        dataset.archive = archive


def test_a_repository_without_commits_has_no_commit(tmp_path, monkeypatch):
    def git(*a):
        return subprocess.run(
            ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *a],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert code_tags() == dict(
        code_version=ad.__version__, git_commit_unknown='this is no repository'
    )
    git('init', '-q')
    assert code_tags() == dict(
        code_version=ad.__version__, git_commit_unknown='the repository has no commit'
    )
    (tmp_path / 'a').write_text('1')
    git('add', 'a')
    git('commit', '-qm', 'first')
    assert len(code_tags()['git_commit']) == 40
    (tmp_path / 'a').write_text('2')
    assert (
        code_tags()['git_commit'].endswith('+changes') and 'git_commit_unknown' not in code_tags()
    )
    monkeypatch.setenv('PATH', '')
    assert 'git did not answer' in code_tags()['git_commit_unknown']


def test_no_telemetry_and_no_chatter():
    code = "from astrid_data.tracking.uploader import load_mlflow; import os, logging; load_mlflow(); print(os.environ['MLFLOW_DISABLE_TELEMETRY'], logging.getLogger('mlflow').level >= logging.WARNING)"
    env = {k: v for k, v in os.environ.items() if not k.startswith('MLFLOW')}
    p = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=env
    )
    assert p.stdout.split() == ['true', 'True']


# --- the server is away


def test_training_goes_on_and_the_record_is_replayed(archive, dataset):
    with no_server(archive), pytest.warns(UserWarning, match='replay'):
        with track(dataset, 'alone', monitor=False, patience_s=30) as run:
            t = time.perf_counter()
            for i in range(100):
                run.log_metrics(dict(loss=float(i)), step=i)
            assert time.perf_counter() - t < 1  # Logging does not wait for anybody
            run.log_text('kept', 'kept.txt')
        assert (
            run.id is None
            and row(archive, run).status == 'completed'
            and row(archive, run).mlflow_run_id is None
        )
    out = replay(archive).set_index('record')['outcome']
    assert out[run.record_id] == 'sent'
    run_id = row(archive, run).mlflow_run_id
    assert len(client(archive).get_metric_history(run_id, 'loss')) == 100
    assert client(archive).get_run(run_id).info.status == 'FINISHED' and [
        a.path for a in client(archive).list_artifacts(run_id)
    ] == ['data', 'kept.txt']
    assert run.record_id not in replay(archive)['record'].tolist()


def test_a_run_made_but_not_noted_is_found_again(archive, dataset):
    with track(dataset, monitor=False) as run:
        run.log_metrics(dict(a=1.0), step=0)
    run.record.cursor.unlink()  # As if killed before it was written
    out = replay(archive).set_index('record')
    assert out.loc[run.record_id, 'mlflow_run_id'] == run.id
    assert [m.value for m in client(archive).get_metric_history(run.id, 'a')] == [1.0]


def test_killed_without_a_word(archive, dataset):
    code = f"""
        import os, signal, time
        from astrid_data.datasets.build import Dataset
        from astrid_data.ingest.archive import open_archive
        from astrid_data.tracking.run import track
        with track(Dataset({str(dataset.folder)!r}), 'killed', archive=open_archive({str(archive.home)!r}), monitor=False) as run:
            run.log_params(dict(lr=3)); run.log_metrics(dict(loss=0.5), step=0)
            with open(run.record.path, 'a') as f: f.write('{{"kind": "metr')
            print(run.record_id, flush=True); time.sleep(60)
    """
    p = subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    record = p.stdout.readline().strip()
    assert replay(archive).set_index('record')['outcome'].get(record) == 'still running'
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert replay(archive).set_index('record')['outcome'][record] == 'sent'
    runs = dataset_runs(dataset).set_index('id').loc[str(uuid.UUID(record))]
    assert runs['status'] == 'failed' and 'without a word' in runs['error'] and runs['loss'] == 0.5
    assert client(archive).get_run(runs['mlflow_run_id']).info.status == 'KILLED'


def test_what_the_server_refuses_does_not_block_the_rest(archive, dataset):
    with pytest.warns(UserWarning, match='refused'):
        with track(dataset, monitor=False) as run:
            run.record.add('params', values={'a/../b': '1'})  # Past our own check
            run.log_metrics(dict(after=1.0), step=0)
    assert (
        client(archive).get_run(run.id).data.metrics['after'] == 1.0
        and len(run.record.refused) == 1
    )


def test_half_a_line_is_not_read(tmp_path):
    r = Record(tmp_path / 'r')
    r.add('metrics', step=0, values=dict(a=1.0))
    with open(r.path, 'a') as f:
        f.write('{"kind"')
    assert len(Record(tmp_path / 'r').lines()) == 1


@contextmanager
def mlflow_server(folder, port):
    "A real MLflow server on loopback"
    log = open(folder / 'server.log', 'a')
    p = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'mlflow',
            'server',
            '--host',
            '127.0.0.1',
            '--port',
            str(port),
            '--workers',
            '1',
            '--backend-store-uri',
            f'sqlite:///{folder}/server.db',
            '--artifacts-destination',
            str(folder / 'artifacts'),
        ],
        stdout=log,
        stderr=log,
        start_new_session=True,
        env=dict(os.environ, MLFLOW_DISABLE_TELEMETRY='true'),
    )
    try:
        for _ in range(600):
            try:
                urlopen(f'http://127.0.0.1:{port}/health', timeout=1)
                break
            except OSError:
                time.sleep(0.2)
            if p.poll() is not None:
                raise RuntimeError((folder / 'server.log').read_text()[-2000:])
        yield p
    finally:
        if p.poll() is None:
            os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        log.close()


@pytest.mark.slow
def test_a_real_server_killed_in_mid_run(fresh, tmp_path, capsys):
    d, port = version(fresh), free_port()
    fresh.mlflow_uri = f'http://127.0.0.1:{port}'
    with mlflow_server(tmp_path, port) as server:
        with pytest.warns(UserWarning, match='replay'):
            with track(d, 'cut off', monitor=False, patience_s=90) as run:
                for i in range(20):
                    run.log_metrics(dict(loss=float(i)), step=i)
                assert run.id
                until = time.monotonic() + 30
                while run.record.sent < run.record.n and time.monotonic() < until:
                    time.sleep(0.1)
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
                for i in range(20, 40):
                    run.log_metrics(dict(loss=float(i)), step=i)
                run.log_text('late', 'late.txt')
        assert row(fresh, run).status == 'completed'
    assert replay(fresh)['outcome'].str.startswith('MLflow is away').all()
    with mlflow_server(tmp_path, port):
        assert replay(fresh)['outcome'].tolist() == ['sent']
        c = client(fresh)
        assert [m.value for m in c.get_metric_history(run.id, 'loss')] == [
            float(i) for i in range(40)
        ]
        assert c.get_run(run.id).info.status == 'FINISHED' and [
            a.path for a in c.list_artifacts(run.id)
        ] == ['data', 'late.txt']
        assert (
            len(c.search_runs([c.get_experiment_by_name('astrid_data').experiment_id])) == 2
        )  # This one, and the version's own
    assert capsys.readouterr().out == ''  # MLflow says nothing by itself


# --- what comes out of a training


def photo(archive, name='photo', n=120):
    "A version of pretend pixels with something to learn, positions, a quality report and an audit"
    rng, (y, x) = np.random.default_rng(1), np.mgrid[:16, :16] - 8
    label = np.arange(n) % 2
    data = rng.normal(100, 5, (n, 1, 16, 16)) + 60 * np.exp(
        -(x**2 + y**2) / 2 / np.where(label, 2.5, 0.5)[:, None, None, None] ** 2
    )
    data[:, 0, 0, :2] = np.nan
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=label,
            origin='synthetic',
            group_id=[f'g{i // 2}' for i in range(n)],
            mag=rng.uniform(15, 20, n),
            mjd=60000.0 + np.arange(n),
            band='r',
            survey='pretend',
            ra=rng.uniform(0, 360, n),
            dec=rng.uniform(-60, 60, n),
            split=np.where(np.arange(n) < 72, 'train', np.where(np.arange(n) < 96, 'val', 'test')),
        )
    )
    d = write_dataset(
        archive.datasets_dir / name / 'v1', t, data.astype('f4'), name=name, audit=True
    )
    (d.folder / 'quality.json').write_text(
        check_quality(d.samples, d.patches()[:], d.valid()[:], probe=False).to_json()
    )
    with archive.session() as s:
        s.add(
            TrainingDataset(
                id=uuid.UUID(d.id),
                name=name,
                collection_params={},
                total_samples=n,
                anomaly_ratio=0.5,
                quality_score=1.0,
                created_by='test',
            )
        )
    d.archive = archive
    return d


def everything(c, run_id, folder=None):
    "Paths of all artifacts of a run"
    return {
        p
        for a in c.list_artifacts(run_id, folder)
        for p in (everything(c, run_id, a.path) if a.is_dir else [a.path])
    }


@pytest.fixture(scope='module')
def trained(archive):
    "A version and a tracked training on it"
    d = photo(archive)
    train, val, test = RealDataLoader(d).loaders(batch_size=24)
    with track(d, 'cnn', monitor=False) as run:
        model = SmallCNN()
        fit(model, train, val, epochs=2, run=run, show=False)
        points = evaluate(model, test, n_boot=20, run=run)
    return d, run, model, points, test


def test_all_artifacts_scores_and_the_model_are_in_mlflow(archive, trained):
    d, run, _, points, _ = trained
    c = client(archive)
    got = everything(c, run.id)
    assert {
        f'data/{k}'
        for k in (
            'manifest.json',
            'quality.json',
            'quality.png',
            'coverage.png',
            'samples.png',
            'ledger.parquet',
            'datasheet.md',
            'audit.json',
        )
    } <= got
    assert {
        f'test_{k}'
        for k in (
            'operating_points.json',
            'operating_points.png',
            'scores.csv',
            'by_mag.csv',
            'by.png',
            'worst.png',
        )
    } <= got
    seen = c.get_run(run.id)
    assert (
        seen.data.tags['data_source'] == 'synthetic'
        and seen.data.tags['audit'] == d.audit.verdict
        and seen.data.tags['code_version'] == astrid_data.__version__
    )
    assert seen.data.metrics['test_auc_pr'] == pytest.approx(points.auc_pr) and row(
        archive, run
    ).performance_metrics['test_auc_pr'] == pytest.approx(points.auc_pr)
    path = c.download_artifacts(run.id, 'data/manifest.json')
    assert json.loads(open(path).read())['content_hash'] == d.content_hash
    assert everything(c, log_dataset(d)) >= {
        'manifest.json',
        'quality.png',
        'coverage.png',
        'samples.png',
        'audit.json',
        'ledger.parquet',
    }
    (model,) = c.search_logged_models([seen.info.experiment_id], f"source_run_id = '{run.id}'")
    assert (
        model.name == 'model'
        and str(model.status) in ('READY', 'LoggedModelStatus.READY')
        and [m.model_id for m in seen.outputs.model_outputs] == [model.model_id]
    )


def test_the_model_that_is_read_back_takes_raw_patches(archive, trained):
    d, run, model, points, test = trained
    mlflow = load_mlflow()
    mlflow.set_tracking_uri(archive.mlflow_uri)
    again = mlflow.pyfunc.load_model(f'runs:/{run.id}/model')
    rows = points.scores['index'].to_numpy()
    assert again.predict(d.patches(rows)) == pytest.approx(
        points.scores['score'].to_numpy(), abs=1e-5
    )
    assert not np.allclose(
        torch.sigmoid(model(torch.from_numpy(np.nan_to_num(d.patches(rows))))).detach(),
        points.scores['score'],
        atol=0.05,
    )  # Without its normalisation it is another model
    assert (
        again.metadata.get_input_schema().inputs[0].shape == (-1, 1, 16, 16)
        and again.metadata.metadata['content_hash'] == d.content_hash
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match='shape'):
        again.predict(d.patches(rows)[..., :12])


class Elsewhere(torch.nn.Module):
    "Weights on a device that is not the CPU; its answer is there too where it can be looked at"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(
            torch.zeros(3, device='cuda' if torch.cuda.is_available() else 'meta')
        )

    def forward(self, x):
        assert x.device == self.w.device
        return x.mean((1, 2, 3)) if x.is_cuda else torch.zeros(len(x))


def test_patches_go_to_where_the_model_is_and_maps_are_as_wide_as_the_crop(trained):
    d = trained[0]
    how = input_of(PatchDataset(d, 'train', crop=12))
    x = d.patches(d.split_rows('test')[:3])
    assert RawModel(Elsewhere(), how).predict(x).shape == (3,)
    for net, n in [(Elsewhere(), ()), (torch.nn.Conv2d(1, 1, 3, padding=1), (1, 12, 12))]:
        for some in (x, x[:0]):
            assert (
                RawModel(net, how).predict(some).shape == (len(some), *n)
                and RawModel(net, how).predict(some).dtype == np.float32
            )


def test_a_logged_model_has_its_row_which_replay_completes(registry_url, tmp_path):
    d = version(open_archive(registry_url, home=tmp_path))
    train, _, _ = RealDataLoader(d).loaders(batch_size=4, augment=False)

    def models():
        with d.archive.session() as s:
            return list(s.scalars(select(Model).order_by(Model.created_at)))

    with no_server(d.archive), pytest.warns(UserWarning, match='replay'):
        with track(d, 'cnn', monitor=False) as run:
            run.log_params(dict(lr=1))
            run.log_metrics(
                dict(
                    training_energy_wh=2.5,
                    training_duration_s=61.7,
                    test_prior=0.25,
                    test_chosen_fnr=0.2,
                    test_chosen_fpr=0.1,
                    loss=float('nan'),
                )
            )
            run.log_model(SmallUNet(), train)
            run.log_model(SmallCNN(), train)
    a, b = sorted(models(), key=lambda m: m.model_type.value)
    assert row(d.archive, run).model_id == a.id and (a.mlflow_run_id, a.model_path) == (None, None)
    assert (
        a.name,
        a.model_type.value,
        b.model_type.value,
        a.training_dataset,
        a.is_active,
        a.deployment_date,
    ) == ('cnn', 'classifier', 'segmentation', d.address, False, None) and a.version != b.version
    assert a.architecture == dict(
        module='SmallCNN',
        weights=sum(p.numel() for p in SmallCNN().parameters()),
        channels=['image'],
        input_shape=[1, 8, 8],
        output_shape=[],
    ) and b.architecture['output_shape'] == [1, 8, 8]
    assert (
        a.hyperparameters,
        a.training_metrics['training_energy_wh'],
        a.training_metrics['loss'],
    ) == (dict(lr='1'), 2.5, 'nan')
    assert (
        a.training_energy_wh,
        a.training_duration_seconds,
        a.training_avg_power_w,
        a.training_carbon_footprint_kg,
    ) == (2.5, 62, None, None)
    real, _bogus = 25, 75  # In 100 samples: 20 found, 7.5 passed
    assert [a.recall, a.precision, a.accuracy, a.f1_score] == pytest.approx(
        [0.8, 20 / 27.5, (20 + 67.5) / 100, 2 * 20 / (27.5 + real)]
    )
    replay(d.archive)
    again = sorted(models(), key=lambda m: m.model_type.value)
    assert [m.id for m in again] == [a.id, b.id] and again[0].created_at == a.created_at
    run_id = dataset_runs(d)['mlflow_run_id'].item()
    assert run_id and [(m.mlflow_run_id, m.model_path) for m in again] == [
        (run_id, f'runs:/{run_id}/model-2'),
        (run_id, f'runs:/{run_id}/model'),
    ]


def test_scores_of_a_model_without_a_chosen_threshold_are_unknown(archive, trained):
    with archive.session() as s:
        m = s.get(Model, row(archive, trained[1]).model_id)
    assert (m.precision, m.recall, m.f1_score, m.accuracy, m.training_energy_wh) == (
        None,
    ) * 5 and m.training_metrics['test_auc_pr'] == pytest.approx(trained[3].auc_pr)
    assert (
        m.model_path == f'runs:/{trained[1].id}/model' and m.hyperparameters['batch_size'] == '24'
    )


def test_at_most_ten_samples_of_both_labels(trained):
    d = trained[0]
    rows = some_rows(d)
    assert (
        len(rows) == 10 and d.samples['label'].to_numpy()[rows].sum() == 5 and len(set(rows)) == 10
    )
    lone = Namespace(samples=pd.DataFrame(dict(label=[1] + [0] * 30)))
    assert lone.samples['label'][some_rows(lone)].tolist() == [1] + [0] * 9


def test_a_server_without_logged_models_keeps_the_model_among_the_artifacts(
    archive, trained, monkeypatch
):
    d, _, model, _, test = trained
    mlflow = load_mlflow()

    def old(*a, **k):
        raise mlflow.exceptions.MlflowException(
            'no such endpoint', error_code=mlflow.protos.databricks_pb2.ENDPOINT_NOT_FOUND
        )

    monkeypatch.setattr(mlflow.MlflowClient, 'search_logged_models', old)
    with track(d, 'old', monitor=False) as run:
        run.log_model(model, test)
    monkeypatch.undo()
    assert 'model/MLmodel' in everything(client(archive), run.id)
    mlflow.set_tracking_uri(archive.mlflow_uri)
    assert len(mlflow.pyfunc.load_model(f'runs:/{run.id}/model').predict(d.patches([0, 1]))) == 2


def test_what_comes_after_the_end_is_sent_too(archive, trained):
    d, _, model, _, test = trained
    with track(d, 'late', monitor=False) as run:
        run.log_metrics(dict(loss=1.0))
    evaluate(model, test, n_boot=10, run=run)
    assert (
        'test_auc_pr' in client(archive).get_run(run.id).data.metrics
        and row(archive, run).status == 'completed'
    )
    assert (
        dataset_runs(d).set_index('run_name').loc['late', 'test_n'] == 24
        and run.record_id not in replay(archive)['record'].tolist()
    )
    with no_server(archive), pytest.warns(UserWarning, match='after the end'):
        run.log_metrics(dict(later=2.0))
    assert (
        replay(archive)['outcome'].tolist() == ['sent']
        and client(archive).get_run(run.id).data.metrics['later'] == 2.0
    )
    assert client(archive).get_run(run.id).info.status == 'FINISHED'


def test_a_run_that_has_not_begun_says_so(archive, dataset):
    with pytest.raises(Conflict, match='has not begun'):
        track(dataset, monitor=False).log_metrics(dict(a=1))


def test_status_goes_from_pending_to_failed_when_the_beginning_fails(archive, dataset, monkeypatch):
    seen = []
    update = astrid_data.tracking.run.update_run_row

    def noted(archive, row_id, *models, **values):
        if 'status' in values:
            seen.append(values['status'])
        return update(archive, row_id, *models, **values)

    monkeypatch.setattr(astrid_data.tracking.run, 'update_run_row', noted)
    monkeypatch.setattr(astrid_data.tracking.registry_rows, 'update_run_row', noted)

    class Broken:
        running = False

        def start(self):
            seen.append(row(archive, run).status)
            raise RuntimeError('no meter')

    run = track(dataset, 'broken', monitor=Broken())
    with pytest.raises(RuntimeError):
        with run:
            pass
    assert (
        seen == ['pending', 'failed']
        and 'no meter' in row(archive, run).performance_metrics['error']
    )
    seen.clear()
    with track(dataset, monitor=False):
        pass
    assert seen == ['running', 'completed']


def test_a_loss_that_is_no_number_ends_the_run_with_a_clear_message(archive, trained):
    d = trained[0]
    train, val, _ = RealDataLoader(d).loaders(batch_size=24, normalise=None)  # NaN pixels stay
    with pytest.raises(TrainingDiverged, match='images hold NaN'):
        with track(d, 'nan', monitor=False) as run:
            run.log_metrics(dict(loss=float('nan'), high=float('inf')))
            fit(SmallCNN(), train, val, epochs=1, run=run, show=False)
    got = client(archive).get_run(run.id)
    assert (
        got.info.status == 'FAILED'
        and 'images hold NaN' in got.data.tags['error']
        and np.isnan(got.data.metrics['loss'])
    )
    r = dataset_runs(d).set_index('run_name').loc['nan']
    assert (
        r['status'] == 'failed'
        and 'Normalise' in r['error']
        and np.isnan(r['loss'])
        and r['high'] == np.inf
    )


# --- a disk without room


@contextmanager
def little_room(nbytes):
    "Files of this process may not grow beyond `nbytes`, as if the disk were full"
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)


def test_a_record_on_a_full_disk_waits_in_memory(tmp_path):
    r = Record(tmp_path / 'r')
    r.add('start', n=0)
    size = r.path.stat().st_size
    with little_room(size + 10), pytest.warns(UserWarning, match='File too large') as said:
        for i in range(1, 4):
            r.add('metrics', step=i, values=dict(a=1.0))
        assert (
            r.path.stat().st_size == size and len(r.waiting) == 3
        )  # No part of a line stays behind
    assert len(said) == 1 and 'Training goes on' in str(said[0].message)
    assert [line.get('step') for line in r.lines()] == [None, 1, 2, 3] and len(
        Record(tmp_path / 'r').lines()
    ) == 1
    r.add('metrics', step=4, values=dict(a=1.0))  # There is room again
    assert [line.get('step') for line in Record(tmp_path / 'r').lines()] == [
        None,
        1,
        2,
        3,
        4,
    ] and r.flush()
    assert r.raw(size) == r.raw()[1:]


def test_training_goes_on_on_a_full_disk_and_says_so(archive, dataset, tmp_path):
    (tmp_path / 'big').write_bytes(bytes(100_000))
    with no_server(archive), pytest.warns(UserWarning) as said:
        with track(dataset, 'full', monitor=False) as run:
            run.log_metrics(dict(loss=1.0), step=0)
            with little_room(run.record.path.stat().st_size + 5):
                for i in range(1, 4):
                    run.log_metrics(dict(loss=1.0), step=i)
                run.log_artifact(tmp_path / 'big')
                run.log_text('x' * 9000, 'long.txt')
                assert not (run.record.folder / 'artifacts' / 'big').exists()
            run.log_metrics(dict(loss=1.0), step=4)
    said = '\n'.join(str(w.message) for w in said)
    assert (
        'cannot be written (File too large). Training goes on' in said
        and 'big of run' in said
        and 'long.txt of run' in said
    )
    assert replay(archive).set_index('record')['outcome'][run.record_id] == 'sent'
    run_id = row(archive, run).mlflow_run_id
    assert [m.step for m in client(archive).get_metric_history(run_id, 'loss')] == [0, 1, 2, 3, 4]


def test_a_line_that_nobody_can_read_costs_no_other(archive, dataset):
    with no_server(archive), pytest.warns(UserWarning):
        with track(dataset, 'odd', monitor=False) as run:
            with open(run.record.path, 'a') as f:
                f.write('\0\0{"kind": "met\n')
            run.record.n += 1
            run.log_metrics(dict(after=1.0))
    assert (
        replay(archive)['outcome'].tolist() == ['sent']
        and client(archive).get_run(row(archive, run).mlflow_run_id).data.metrics['after'] == 1.0
    )


def test_killed_in_training_and_gone_on_with(archive, trained, tmp_path):
    d = trained[0]
    code = f"""
        import os, signal, sys
        from astrid_data.datasets.build import Dataset
        from astrid_data.ingest.archive import open_archive
        from astrid_data.loading.loader import RealDataLoader
        from astrid_data.tracking.run import track
        from astrid_data.training.fit import fit
        from astrid_data.training.models import SmallCNN
        d = Dataset({str(d.folder)!r}, open_archive({str(archive.home)!r}))
        train, val, _ = RealDataLoader(d).loaders(batch_size=24)
        with track(d, sys.argv[1], monitor=False) as run:
            was = run.log_metrics
            def log_metrics(values, step=None):
                was(values, step)
                if step == 2 and sys.argv[1] == 'dies': os.kill(os.getpid(), signal.SIGKILL)
            run.log_metrics = log_metrics
            fit(SmallCNN(), train, val, epochs=3, run=run, checkpoint={str(tmp_path / 'c.pt')!r}, resume=True, show=False)
    """
    assert (
        subprocess.run([sys.executable, '-c', textwrap.dedent(code), 'dies']).returncode
        == -signal.SIGKILL
    )
    replay(archive)
    subprocess.run([sys.executable, '-c', textwrap.dedent(code), 'lives'], check=True)
    runs = dataset_runs(d).set_index('run_name')
    assert (runs.loc['dies', 'status'], runs.loc['lives', 'status']) == (
        'failed',
        'completed',
    ) and 'without a word' in runs.loc['dies', 'error']
    steps = {
        k: [
            m.step
            for m in client(archive).get_metric_history(runs.loc[k, 'mlflow_run_id'], 'train_loss')
        ]
        for k in ('dies', 'lives')
    }
    assert steps == dict(dies=[1, 2], lives=[1, 2, 3])  # The run that goes on has the whole curve


# --- secrets


@pytest.mark.parametrize(
    'text',
    [
        'http://ann:s3cr3t-word@mlflow.org/api',
        'postgresql://ann:s3cr3t-word@host/db',
        "{'password': 's3cr3t-word'}",
        'password=s3cr3t-word host=x',
        'https://b.org/x.fits?X-Amz-Signature=s3cr3t-word&part=2',
        'api_key: s3cr3t-word',
        '{"aws_secret_access_key": "s3cr3t-word"}',
        'postgresql://ann:p@s3cr3t-word@host/db',
    ],
)
def test_secrets_are_taken_out(text):
    assert 's3cr3t' not in hide_secrets(text) and '***' in hide_secrets(text)


@pytest.mark.parametrize(
    'text',
    [
        's3://bucket/key@v1',
        'small@v1',
        'max_tokens=3',
        'https://mlflow.org/api?part=2',
        'AUC-PR: 0.9',
    ],
)
def test_other_text_stays(text):
    assert hide_secrets(text) == text


def test_no_secret_gets_out(archive, dataset, monkeypatch, capsys):
    monkeypatch.setenv('CLOUDFLARE_R2_SECRET_ACCESS_KEY', 'plain-s3cr3t-word')
    was, archive.mlflow_uri = archive.mlflow_uri, f'http://ann:s3cr3t-word@127.0.0.1:{free_port()}'
    try:
        with pytest.warns(UserWarning) as said, pytest.raises(OSError):
            with track(
                dataset, 'secret', monitor=False, tags=dict(store='s3://ann:s3cr3t-word@host/b')
            ) as run:
                run.log_params(
                    dict(
                        db='postgresql://ann:s3cr3t-word@host/db',
                        api_token='s3cr3t-word',
                        note='my plain-s3cr3t-word',
                    )
                )
                raise OSError('no answer from http://ann:s3cr3t-word@host')
        out = replay(archive)
        print(run, *(w.message for w in said), out.to_string())
    finally:
        archive.mlflow_uri = was
    replay(archive)
    r, got = row(archive, run), client(archive).get_run(row(archive, run).mlflow_run_id)
    for text in (
        capsys.readouterr().out,
        run.record.path.read_text(),
        json.dumps([r.training_params, r.performance_metrics]),
        str(got.to_dictionary()),
    ):
        assert 's3cr3t' not in text
    assert got.data.params['api_token'] == '***' and got.data.tags['store'] == 's3://***@host/b'


# --- versions side by side


def planted(archive, d, name, status='completed', **told):
    with archive.session() as s:
        s.add(
            TrainingRun(
                id=uuid.uuid4(),
                dataset_id=uuid.UUID(d.id),
                status=status,
                training_params=dict(run_name=name),
                performance_metrics=told,
            )
        )


def scored(auc, half, wh=None, how=None):
    return dict(
        test_auc_pr=auc,
        test_auc_pr_low=auc - half,
        test_auc_pr_high=auc + half,
        **(dict(training_energy_wh=wh, energy_how=how) if how else {}),
    )


def test_runs_of_two_versions_side_by_side(fresh):
    a, b = photo(fresh, 'a'), photo(fresh, 'b', n=140)
    planted(fresh, a, 'first', **scored(0.8, 0.05, 0.5, 'measured'))
    planted(
        fresh, a, 'failed', 'failed', test_auc_pr=0.99, test_auc_pr_low=0.98, test_auc_pr_high=1.0
    )
    planted(fresh, b, 'second', **scored(0.84, 0.05, 2.0, 'cpu and memory estimated'))
    planted(fresh, b, 'unwatched', **scored(0.7, 0.05))
    planted(fresh, b, 'unscored')
    c = compare_runs(a, b)
    t = c.table.set_index('run')
    assert list(t.index) == ['first', 'second', 'unwatched', 'unscored'] and t[
        'joules'
    ].dropna().tolist() == [1800.0, 7200.0]
    assert t.loc['unwatched', 'energy'] == 'unknown: the run was not watched' and t[
        'hash'
    ].unique().tolist() == [a.content_hash[:12], b.content_hash[:12]]
    assert (
        'share 24 of 24 and 44 test samples' in c.notes[0]
        and 'overlap: no difference is shown' in c.notes[1]
    )
    assert {
        '1 of 4 completed runs have no test_auc_pr',
        'the energy of 2 of 4 runs is unknown',
        'the energy of 1 of 4 runs is estimated, at least in part: hollow in the picture',
    } <= set(c.notes)
    assert len(c.differences) == 1 and len(c.differences[0].added) == 20 and c.origin == 'synthetic'
    planted(fresh, b, 'clear', **scored(0.95, 0.02, 3.0, 'measured'))
    assert any('(0.950) have intervals that do not overlap' in n for n in compare_runs(a, b).notes)
    assert 'the same 24 test samples' in compare_runs(a, a).notes[0]
    hollow = [
        line.get_markerfacecolor()
        for ax in c.plot().axes
        for line in ax.lines
        if len(line.get_xdata()) and line.get_marker() == 'o'
    ]
    assert hollow.count('w') == 1 and len(hollow) == 3  # One estimated of three scored runs


def test_nothing_to_compare_says_what_there_is(fresh):
    a = photo(fresh, 'a')
    with pytest.raises(NotFound, match='there are: none'):
        compare_runs(a)
    planted(fresh, a, 'first', loss=1.0)
    with pytest.raises(NotFound, match='there are: loss'):
        compare_runs(a)
    with pytest.raises(BadInput):
        compare_runs()
    with pytest.raises(BadInput, match='takes what open_dataset'):
        compare_runs('a')


# --- the difference of two runs, on the same samples


def wide(archive, name='wide', n=900):
    "A version whose samples are nearly all in test, three of each object"
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=(np.arange(n) // 3) % 2,
            origin='synthetic',
            group_id=[f'g{i // 3}' for i in range(n)],
            split=np.where(np.arange(n) < 30, 'train', np.where(np.arange(n) < 60, 'val', 'test')),
        )
    )
    d = write_dataset(
        archive.datasets_dir / name / 'v1', t, np.zeros((n, 1, 8, 8), 'f4'), name=name
    )
    with archive.session() as s:
        s.add(
            TrainingDataset(
                id=uuid.UUID(d.id),
                name=name,
                collection_params={},
                total_samples=n,
                anomaly_ratio=0.5,
                quality_score=1.0,
                created_by='test',
            )
        )
    d.archive = archive
    return d


def scored_as(d, name, noise, rows=None, seed=0):
    "A run with scores: what everybody sees of each object, and noise of its own"
    rows = d.split_rows('test') if rows is None else rows
    label, common = d.samples['label'].to_numpy(), np.random.default_rng(7).normal(0, 1, len(d))
    score = 1 / (
        1 + np.exp(-(2 * label - 1 + common + np.random.default_rng(seed).normal(0, noise, len(d))))
    )
    t = pd.DataFrame(
        dict(
            index=rows,
            label=label[rows],
            score=score[rows],
            group=d.samples['group_id'].to_numpy()[rows],
        )
    )
    with track(d, name, monitor=False) as run:
        run.log_scores(operating_points(t, n_boot=100, origin='synthetic'))
    return t


def pair(c, *names):
    ids = {i for i, n in zip(c.table['id'], c.table['run']) if n in names}
    return next(p for p in c.pairs.itertuples() if {p.id, p.best_id} == ids)


def test_a_difference_is_shown_where_there_is_one_and_only_there(archive):
    d = wide(archive)
    good, equal, poor = (
        scored_as(d, 'good', 0.3, seed=1),
        scored_as(d, 'equal', 0.3, seed=2),
        scored_as(d, 'poor', 1.2, seed=3),
    )
    scored_as(d, 'half', 0.9, rows=d.split_rows('test')[::2], seed=4)
    planted(archive, d, 'no scores', **scored(0.5, 0.05))
    c = compare_runs(d)
    best = c.table.set_index('run')['score'].idxmax()
    assert best in ('good', 'equal')
    p = pair(c, best, 'poor')
    own = {'good': good, 'equal': equal}[best]
    assert (
        0 < p.low < p.difference < p.high
        and p.objects == 280
        and p.says.endswith('a difference is shown')
        and p.says in c.notes
    )
    assert (
        abs(
            p.difference
            - (
                average_precision(own['label'], own['score'])
                - average_precision(poor['label'], poor['score'])
            )
        )
        < 1e-9
    )
    p = pair(c, 'good', 'equal')
    assert p.low <= 0 <= p.high and p.says.endswith('no difference is shown')
    p = pair(c, best, 'half')
    assert (
        np.isnan(p.difference)
        and p.reason == 'they were scored on different samples, 420 of 420 and 840 are the same'
        and p.reason in p.says
    )
    assert pair(c, best, 'no scores').reason == 'no scores has no stored test_scores.csv'
    lean = 'the best was picked on the samples that it is compared on: its 2 differences lean in its favour'
    assert lean in c.notes and not any(
        'lean' in n for n in compare_runs(d, metric='test_brier').notes
    )  # There is no difference that could
    assert (
        compare_runs(d, metric='test_brier')
        .pairs['reason']
        .str.contains('for auc_pr and auc_roc of real and bogus only')
        .all()
    )


def test_the_same_objects_are_drawn_for_both():
    "Drawn apart, the noise that both share does not cancel"
    rng, n = np.random.default_rng(0), 600
    t = pd.DataFrame(dict(label=rng.integers(0, 2, n), group=np.arange(n) // 2))
    common = t['label'] + rng.normal(0, 1, n)
    a, b = (t.assign(score=common + rng.normal(0, 0.3, n)) for _ in 'ab')
    low, high = paired_bootstrap(a, b)[1]
    (a_low, a_high), (b_low, b_high) = (
        bootstrap(a, average_precision),
        bootstrap(b, average_precision, seed=1),
    )
    apart = np.hypot(a_high - a_low, b_high - b_low)
    assert high - low < 0.6 * apart
    assert abs(paired_bootstrap(a, b, n=2000, seed=5)[1][1] - high) < 0.2 * (high - low)


def test_samples_with_other_labels_or_unreadable_scores_are_not_compared():
    t = pd.DataFrame(
        dict(label=[0, 1] * 20, score=np.linspace(0, 1, 40), group=np.arange(40)),
        index=[f'{i:032x}' for i in range(40)],
    )
    assert (
        paired_difference(t, t.sample(frac=1, random_state=0))['difference'] == 0
    )  # The order does not matter
    other = t.assign(label=[1 - t['label'].iloc[0], *t['label'][1:]])
    assert (
        paired_difference(t, other)['difference'] is None
        and paired_difference(t, other)['reason'] == '1 of the 40 samples have another label'
    )
    assert paired_difference(t.assign(group=0), t.assign(group=0))['reason'].startswith(
        'too few objects'
    )


def test_scores_that_lie_on_another_machine_are_asked_of_mlflow(archive):
    d = wide(archive, 'away', 120)
    for name, noise in (('here', 0.3), ('there', 1.0)):
        scored_as(d, name, noise, seed=3)
    assert not any(
        'lean' in n for n in compare_runs(d).notes
    )  # Of two runs, none was picked out of many
    before = compare_runs(d).pairs
    for i in compare_runs(d).table['id']:
        (
            Path(archive.home) / 'tracking' / uuid.UUID(i).hex / 'artifacts' / 'test_scores.csv'
        ).unlink()
    pd.testing.assert_frame_equal(compare_runs(d).pairs, before)
    with no_server(archive):
        assert compare_runs(d).pairs['reason'].str.contains('no stored').all()


def test_models_logged_by_version_0_1_find_their_classes():
    import pickle

    from astrid_data.tracking.saved_model import RawModel
    from astrid_data.training.models import SmallCNN as CNN

    for module, name, now in (('models', 'RawModel', RawModel), ('training', 'SmallCNN', CNN)):
        by_reference = f'castrid_data.{module}\n{name}\n.'.encode()  # As pickle wrote it then
        assert pickle.loads(by_reference) is now
