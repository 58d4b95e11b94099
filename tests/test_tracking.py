"Tracking: what arrives in MLflow, and that nothing is lost when it is not there"
import json, os, signal, subprocess, sys, textwrap, time, uuid, warnings
from contextlib import contextmanager
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest

from servers import free_port
from astrid_data.core import BadInput, Conflict, NotFound
from astrid_data.datasets import write_dataset
from astrid_data.energy import EnergyMonitor
from astrid_data.ingest import open_archive
from astrid_data.meters import Reading
from astrid_data.records import Record, load_mlflow
from astrid_data.registry import TrainingDataset, TrainingRun
from astrid_data.tracking import data_source, dataset_of, dataset_runs, dataset_tags, log_dataset, mlflow_dataset, replay, track


def version(archive, origin='survey', name='small', n=20):
    "A small hand-made version, known to the archive"
    t = pd.DataFrame(dict(sample_key=[f'{i:032x}' for i in range(n)], label=np.arange(n) % 2, origin=origin, split=np.where(np.arange(n) < 12, 'train', np.where(np.arange(n) < 16, 'val', 'test'))))
    d = write_dataset(archive.datasets_dir/name/'v1', t, np.random.default_rng(0).normal(size=(n, 1, 8, 8)).astype('f4'), name=name)
    with archive.session() as s: s.add(TrainingDataset(id=uuid.UUID(d.id), name=name, collection_params={}, total_samples=n, anomaly_ratio=0.5, quality_score=1., created_by='test'))
    d.archive = archive
    return d


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    "One archive for all tests that need MLflow's embedded store, which takes seconds to make"
    return open_archive(str(tmp_path_factory.mktemp('archive')))

@pytest.fixture(scope='module')
def dataset(archive): return version(archive)

@pytest.fixture
def fresh(tmp_path): return open_archive(str(tmp_path/'fresh'))

def client(archive): return load_mlflow().MlflowClient(archive.mlflow_uri)

def row(archive, run):
    with archive.session() as s: return s.get(TrainingRun, run.row_id)

@contextmanager
def no_server(archive):
    "For the block, the archive's MLflow is an address where nobody listens"
    was, archive.mlflow_uri = archive.mlflow_uri, f'http://127.0.0.1:{free_port()}'
    try: yield
    finally: archive.mlflow_uri = was


def test_what_goes_in_comes_out(archive, dataset, tmp_path):
    (tmp_path/'note.txt').write_text('hello')
    with track(dataset, 'all', monitor=False, tags=dict(colour='blue')) as run:
        run.log_params(dict(lr=0.1, nested=dict(a=1)))
        for i in range(50): run.log_metrics(dict(loss=1/(i + 1), missing=None), step=i)
        run.log_artifact(tmp_path/'note.txt', 'notes/note.txt'); run.log_text('{}', 'x.json')
    c = client(archive)
    got = c.get_run(run.id)
    assert [(m.step, m.value) for m in c.get_metric_history(run.id, 'loss')] == [(i, 1/(i + 1)) for i in range(50)]
    assert 'missing' not in got.data.metrics and got.data.params == {'lr': '0.1', 'nested': "{'a': 1}"}
    assert got.info.status == 'FINISHED' and got.info.run_name == 'all'
    assert {k: got.data.tags[k] for k in ('dataset_id', 'dataset_name', 'dataset_version', 'data_source', 'stage', 'colour', 'content_hash')} == dict(
        dataset_id=dataset.id, dataset_name='small', dataset_version='v1', data_source='real', stage='training', colour='blue', content_hash=dataset.content_hash)
    d, = got.inputs.dataset_inputs
    assert d.dataset.digest == dataset.content_hash[:12] and d.dataset.name == 'small@v1' and json.loads(d.dataset.profile)['n_samples'] == 20
    assert {a.path for a in c.list_artifacts(run.id)} == {'data', 'notes', 'x.json'}
    r = row(archive, run)
    assert (r.status, r.mlflow_run_id, r.training_params['lr']) == ('completed', run.id, '0.1') and r.performance_metrics['loss'] == 1/50 and r.completed_at >= r.started_at


def test_on_both_databases(registry_url, tmp_path):
    d = version(open_archive(registry_url, home=tmp_path))
    with no_server(d.archive), pytest.warns(UserWarning, match='replay'):
        with track(d, monitor=False) as run: run.log_params(dict(lr=1)); run.log_metrics(dict(a=0.5))
    r = row(d.archive, run)
    assert (r.status, r.training_params, r.performance_metrics) == ('completed', dict(run_name='small@v1', lr='1'), dict(a=0.5)) and dataset_runs(d)['a'].tolist() == [0.5]


def test_a_version_the_archive_does_not_know(fresh, dataset):
    with pytest.raises(Conflict, match='not known'):
        with track(dataset, archive=fresh, monitor=False): pass


def test_row_runs_then_completes(archive, dataset):
    with track(dataset, monitor=False) as run:
        assert row(archive, run).status == 'running' and run.id
        run.log_metrics(dict(a=1))
        assert row(archive, run).mlflow_run_id == run.id                          # Known while it runs
    assert row(archive, run).status == 'completed'


@pytest.mark.parametrize('error, status', [(ValueError('bad batch'), 'FAILED'), (KeyboardInterrupt(), 'KILLED')])
def test_failures_are_told_and_go_on(archive, dataset, error, status):
    with pytest.raises(type(error)):
        with track(dataset, monitor=False) as run: raise error
    got = client(archive).get_run(run.id)
    assert got.info.status == status and type(error).__name__ in got.data.tags['error']
    assert row(archive, run).status == 'failed' and type(error).__name__ in row(archive, run).performance_metrics['error']


def test_energy_is_among_the_metrics_and_the_unknown_is_not(archive, dataset):
    class Meter:
        name, kind, wrap, how, failure = 'gpu0', 'gpu', None, ('pretend counter', 'pretend power'), None
        def __init__(self, known): self.t0, self.known = time.monotonic(), known
        def read(self): return Reading(joules=100*(time.monotonic() - self.t0)) if self.known else Reading()
        def close(self): pass
    for known in (True, False):
        with track(dataset, monitor=EnergyMonitor(0.05, meters=[Meter(known)], grid_g_per_kwh=100)) as run: time.sleep(0.12)
        got = client(archive).get_run(run.id)
        names = {'training_energy_wh', 'training_avg_power_w', 'training_peak_power_w', 'training_duration_s', 'training_carbon_footprint_kg'}
        assert names & set(got.data.metrics) == (names if known else {'training_duration_s'})
        if known: assert got.data.metrics['training_avg_power_w'] == pytest.approx(100, rel=0.05) and got.data.tags['energy_method_gpu'] == 'pretend counter'
        else: assert 'neither energy nor power' in got.data.tags['energy_unknown_gpu'] and run.energy.total_wh is None


@pytest.mark.parametrize('origin, source', [('survey', 'real'), ('synthetic', 'synthetic')])
def test_data_source_comes_from_the_samples(fresh, origin, source):
    d = version(fresh, origin)
    assert data_source(d) == source and dataset_tags(d)['origin'] == origin

def test_one_pretend_sample_is_enough_to_be_no_real_data(fresh): assert data_source(version(fresh, ['survey']*19 + ['synthetic'])) == 'synthetic'


def test_the_versions_own_run_is_written_once(archive, dataset):
    ids = {log_dataset(dataset) for _ in range(3)}
    c = client(archive)
    found = c.search_runs([c.get_experiment_by_name('astrid_data').experiment_id], "tags.stage = 'data_collection'")
    assert ids == {r.info.run_id for r in found} and len(ids) == 1
    got = found[0]
    assert got.info.run_name == f'training_data_{dataset.id}' and got.data.metrics['total_samples'] == 20 and got.data.metrics['anomaly_ratio'] == 0.5
    assert {'manifest.json', 'ledger.parquet'} <= {a.path for a in c.list_artifacts(got.info.run_id)}


def test_navigation_both_ways(archive, dataset):
    with track(dataset, monitor=False) as run: run.log_metrics(dict(auc=0.9))
    runs = dataset_runs(dataset)
    assert runs.iloc[-1]['mlflow_run_id'] == run.id and runs.iloc[-1]['auc'] == 0.9
    with pytest.raises(NotFound): dataset_of('nothing', archive)


def test_mlflow_itself_can_be_given_our_dataset(archive, dataset):
    d = mlflow_dataset(dataset)
    assert d.digest == dataset.content_hash[:12] and len(d.digest) <= 36
    assert json.loads(json.dumps(d.to_dict()))['source_type'] == 'astrid_data'


@pytest.mark.parametrize('what', [lambda r: r.log_metrics({'a|b': 1}), lambda r: r.log_params({'': 1}), lambda r: r.log_params(dict(lr=1)) or r.log_params(dict(lr=2)),
                                  lambda r: r.log_artifact(__file__, '../x'), lambda r: r.log_artifact(__file__, '/etc/x')])
def test_what_mlflow_would_refuse_is_refused_at_once(archive, dataset, what):
    with track(dataset, monitor=False) as run:
        with pytest.raises(BadInput): what(run)
    assert run.status == 'completed' and run.record.refused == []


def test_a_version_without_an_archive_says_what_to_do(archive, dataset):
    dataset.archive = None
    try:
        with pytest.raises(BadInput, match='archive='): track(dataset)
    finally: dataset.archive = archive


def test_no_telemetry_and_no_chatter():
    code = "from astrid_data.tracking import load_mlflow; import os, logging; load_mlflow(); print(os.environ['MLFLOW_DISABLE_TELEMETRY'], logging.getLogger('mlflow').level >= logging.WARNING)"
    env = {k: v for k, v in os.environ.items() if not k.startswith('MLFLOW')}
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=env)
    assert p.stdout.split() == ['true', 'True']


# --- the server is away

def test_training_goes_on_and_the_record_is_replayed(archive, dataset):
    with no_server(archive), pytest.warns(UserWarning, match='replay'):
        with track(dataset, 'alone', monitor=False, patience_s=30) as run:
            t = time.perf_counter()
            for i in range(100): run.log_metrics(dict(loss=float(i)), step=i)
            assert time.perf_counter() - t < 1                                     # Logging does not wait for anybody
            run.log_text('kept', 'kept.txt')
        assert run.id is None and row(archive, run).status == 'completed' and row(archive, run).mlflow_run_id is None
    out = replay(archive).set_index('record')['outcome']
    assert out[run.record_id] == 'sent'
    run_id = row(archive, run).mlflow_run_id
    assert len(client(archive).get_metric_history(run_id, 'loss')) == 100
    assert client(archive).get_run(run_id).info.status == 'FINISHED' and [a.path for a in client(archive).list_artifacts(run_id)] == ['data', 'kept.txt']
    assert run.record_id not in replay(archive)['record'].tolist()


def test_a_run_made_but_not_noted_is_found_again(archive, dataset):
    with track(dataset, monitor=False) as run: run.log_metrics(dict(a=1.), step=0)
    run.record.cursor.unlink()                                                     # As if killed before it was written
    out = replay(archive).set_index('record')
    assert out.loc[run.record_id, 'mlflow_run_id'] == run.id
    assert [m.value for m in client(archive).get_metric_history(run.id, 'a')] == [1.]


def test_killed_without_a_word(archive, dataset):
    code = f'''
        import os, signal, time
        from astrid_data.datasets import Dataset
        from astrid_data.ingest import open_archive
        from astrid_data.tracking import track
        with track(Dataset({str(dataset.folder)!r}), 'killed', archive=open_archive({str(archive.home)!r}), monitor=False) as run:
            run.log_params(dict(lr=3)); run.log_metrics(dict(loss=0.5), step=0)
            with open(run.record.path, 'a') as f: f.write('{{"kind": "metr')
            print(run.record_id, flush=True); time.sleep(60)
    '''
    p = subprocess.Popen([sys.executable, '-c', textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    record = p.stdout.readline().strip()
    assert replay(archive).set_index('record')['outcome'].get(record) == 'still running'
    p.send_signal(signal.SIGKILL); p.wait()
    assert replay(archive).set_index('record')['outcome'][record] == 'sent'
    runs = dataset_runs(dataset).set_index('id').loc[str(uuid.UUID(record))]
    assert runs['status'] == 'failed' and 'without a word' in runs['error'] and runs['loss'] == 0.5
    assert client(archive).get_run(runs['mlflow_run_id']).info.status == 'KILLED'


def test_what_the_server_refuses_does_not_block_the_rest(archive, dataset):
    with pytest.warns(UserWarning, match='refused'):
        with track(dataset, monitor=False) as run:
            run.record.add('params', values={'a/../b': '1'})                       # Past our own check
            run.log_metrics(dict(after=1.), step=0)
    assert client(archive).get_run(run.id).data.metrics['after'] == 1. and len(run.record.refused) == 1


def test_half_a_line_is_not_read(tmp_path):
    r = Record(tmp_path/'r')
    r.add('metrics', step=0, values=dict(a=1.))
    with open(r.path, 'a') as f: f.write('{"kind"')
    assert len(Record(tmp_path/'r').lines()) == 1


@contextmanager
def mlflow_server(folder, port):
    "A real MLflow server on loopback"
    log = open(folder/'server.log', 'a')
    p = subprocess.Popen([sys.executable, '-m', 'mlflow', 'server', '--host', '127.0.0.1', '--port', str(port), '--workers', '1', '--backend-store-uri', f'sqlite:///{folder}/server.db',
        '--artifacts-destination', str(folder/'artifacts')], stdout=log, stderr=log, start_new_session=True, env=dict(os.environ, MLFLOW_DISABLE_TELEMETRY='true'))
    try:
        for _ in range(600):
            try: urlopen(f'http://127.0.0.1:{port}/health', timeout=1); break
            except OSError: time.sleep(0.2)
            if p.poll() is not None: raise RuntimeError((folder/'server.log').read_text()[-2000:])
        yield p
    finally:
        if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)
        p.wait(); log.close()


@pytest.mark.slow
def test_a_real_server_killed_in_mid_run(fresh, tmp_path, capsys):
    d, port = version(fresh), free_port()
    fresh.mlflow_uri = f'http://127.0.0.1:{port}'
    with mlflow_server(tmp_path, port) as server:
        with pytest.warns(UserWarning, match='replay'):
            with track(d, 'cut off', monitor=False, patience_s=90) as run:
                for i in range(20): run.log_metrics(dict(loss=float(i)), step=i)
                assert run.id
                until = time.monotonic() + 30
                while run.record.sent < run.record.n and time.monotonic() < until: time.sleep(0.1)
                os.killpg(server.pid, signal.SIGKILL); server.wait()
                for i in range(20, 40): run.log_metrics(dict(loss=float(i)), step=i)
                run.log_text('late', 'late.txt')
        assert row(fresh, run).status == 'completed'
    assert replay(fresh)['outcome'].str.startswith('MLflow is away').all()
    with mlflow_server(tmp_path, port):
        assert replay(fresh)['outcome'].tolist() == ['sent']
        c = client(fresh)
        assert [m.value for m in c.get_metric_history(run.id, 'loss')] == [float(i) for i in range(40)]
        assert c.get_run(run.id).info.status == 'FINISHED' and [a.path for a in c.list_artifacts(run.id)] == ['data', 'late.txt']
        assert len(c.search_runs([c.get_experiment_by_name('astrid_data').experiment_id])) == 2       # This one, and the version's own
    assert capsys.readouterr().out == ''                                           # MLflow says nothing by itself
