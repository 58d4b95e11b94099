"A trained model as one object, and the same scores whichever way new sky comes to it."

import io
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from sqlalchemy import select

from astrid_data import cli
from astrid_data.collect.collector import TrainingDataCollector
from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.core import BadInput, NotFound
from astrid_data.evaluation.report import scores_at_prior
from astrid_data.inference.archive_scores import read_scores
from astrid_data.inference.classifier import classifier_of, fit_calibration, read_classifier
from astrid_data.inference.features import answers_of, fit_reference
from astrid_data.inference.load import load_classifier
from astrid_data.inference.onnx_files import OnnxClassifier, WholeModel
from astrid_data.inference.score import score_pieces
from astrid_data.ingest.alerts import STAMPS
from astrid_data.ingest.archive import open_archive
from astrid_data.loading.loader import RealDataLoader
from astrid_data.loading.normalise import Normaliser
from astrid_data.quality.background import local_background
from astrid_data.registry.tables import (
    Detection,
    DetectionScore,
    Image,
    ModelRun,
    ValidationEvent,
)
from astrid_data.storage.packs import packed_part
from astrid_data.storage.service import StoreDenied, StoreUnreachable
from astrid_data.tracking.run import track
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN
from astrid_data.training.predict import evaluate, predict
from astrid_data.verbs import FAILED, LOST

torch.set_num_threads(1)
CHANNELS = ('template', 'science', 'difference')
SIDE = 21


def stamp(pixels):
    out = io.BytesIO()
    fits.PrimaryHDU(pixels.astype('>f4')).writeto(out)
    return out.getvalue()


def alert(k, **more):
    "An alert of pretend sky: of real ones a star got brighter, of bogus ones one pixel is hot"
    rng = np.random.default_rng(k)
    y, x = np.indices((63, 63)) - 31
    real = k // 2 % 2
    template, science = rng.normal(200, 10, (2, 63, 63))
    science += 400 * (np.exp(-(x**2 + y**2) / 4) if real else (x == 0) & (y == 0))
    stamps = dict(template=template, science=science, difference=science - template)
    place = dict(objectId=f'ZTF{k // 2:04d}', candid=5000 + k, ra=1.0 + k // 2 % 350, dec=10.0)
    facts = dict(jd=2459000.5 + k, fid=1 + k % 2, drb=0.9)
    label = dict(label_proxy='real' if real else 'bogus', label_basis='pretended')
    files = {STAMPS[role]: stamp(pixels) for role, pixels in stamps.items()}
    return place | facts | label | files | more


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "An archive of 240 alerts, a version of them, and the classifier that was trained on it"
    archive = open_archive(tmp_path_factory.mktemp('scoring'))
    archive.add_alerts([alert(k) for k in range(240)], show=False)
    params = TrainingDataCollectionParams(
        confidence_threshold=0,
        channels=CHANNELS,
        negatives={'rejected': 10},
        quality_score_threshold=None,
    )
    plan = TrainingDataCollector(archive).plan(params, progress=False)
    dataset = plan.build('alerts', patch_size=SIDE, progress=False, probe=False)
    train, val, test = RealDataLoader(dataset).loaders(batch_size=32)
    model = SmallCNN(3, width=4)
    history = fit(model, train, val, epochs=12, show=False)
    points = evaluate(model, test, choose_on=val)
    return archive, plan, dataset, history.classifier(points=points)


@pytest.fixture(scope='module')
def classifier(trained):
    return trained[3]


@pytest.fixture(scope='module')
def onnx_file(classifier, tmp_path_factory):
    pytest.importorskip('onnxruntime')
    return classifier.to_onnx(tmp_path_factory.mktemp('onnx') / 'alerts.onnx')


def new_alerts(n=30, first=1000):
    "Alerts of other objects, without a label"
    for k in range(first, first + n):
        one = alert(k)
        yield {name: value for name, value in one.items() if not name.startswith('label')}


def with_levels(dataset, rows):
    names = [[f'{c}_{level}' for c in CHANNELS] for level in ('background', 'noise')]
    return tuple(dataset.samples.iloc[rows][columns].to_numpy('f8') for columns in names)


def test_a_classifier_scores_raw_patches_as_the_loader_does(trained):
    _, _, dataset, classifier = trained
    test = RealDataLoader(dataset).loaders(batch_size=32)[2]
    rows = dataset.split_rows('test')
    expected = predict(classifier.model, test)['score']
    measured = classifier.answer(dataset.patches(rows))['score']
    given = classifier.answer(dataset.patches(rows), with_levels(dataset, rows))['score']
    assert np.abs(given - expected).max() < 1e-6
    assert np.abs(measured - expected).max() < 1e-6


def test_every_way_gives_the_same_scores(trained, onnx_file, tmp_path):
    archive, plan, dataset, classifier = trained
    packets = list(new_alerts())
    direct = classifier.score(packets, prior=0.1)
    assert set(direct['reason']) == {''} and len(direct) == 30
    through_onnx = load_classifier(onnx_file).score(packets, prior=0.1)
    frame = classifier.score(pd.DataFrame(packets), prior=0.1)
    pd.DataFrame(packets).to_parquet(tmp_path / 'night.parquet')
    kept = classifier.save(tmp_path / 'kept')
    line = ['score', str(kept), str(tmp_path / 'night.parquet'), '--prior', '0.1']
    assert cli.main([*line, '--to', str(tmp_path / 'scores.csv')]) == 0
    commanded = pd.read_csv(tmp_path / 'scores.csv')
    other = open_archive(tmp_path / 'other')
    other.add_alerts(packets, survey='ztf', show=False)
    run = other.score(classifier, prior=0.1, show=False)
    with other.session() as session:
        names = dict(session.execute(select(Detection.id, Detection.ra)).all())
    registry = read_scores(other, run)
    registry['ra'] = [names[__import__('uuid').UUID(one)] for one in registry['detection_id']]
    for name in ('score', 'probability', 'distance', 'as_far'):
        expected = direct[name].to_numpy()
        assert np.isfinite(expected).all()
        for found in (through_onnx, frame, commanded):
            assert np.abs(found[name].to_numpy() - expected).max() < 1e-5, name
        by_place = registry.groupby('ra')[name].apply(sorted).tolist()
        in_order = direct.groupby('ra')[name].apply(sorted).tolist()
        assert np.abs(np.array(by_place) - np.array(in_order)).max() < 1e-5, name


@pytest.fixture(scope='module')
def kept(classifier, tmp_path_factory):
    "The folder of the classifier"
    return str(classifier.save(tmp_path_factory.mktemp('kept') / 'model'))


def test_a_night_that_is_not_there_leaves_the_scores_of_before(kept, tmp_path, capsys):
    to = tmp_path / 'scores.csv'
    to.write_text('of yesterday')
    nights = [tmp_path / 'nothere' / '*.avro', tmp_path / 'nothere.avro']
    for night in [nights[:1], nights]:
        assert cli.main(['score', kept, *map(str, night), '--to', str(to)]) == FAILED
        assert f'no file fits {nights[0]}' in capsys.readouterr().err
    assert to.read_text() == 'of yesterday' and list(tmp_path.iterdir()) == [to]


def test_the_shell_counts_what_has_no_score_by_its_reason(kept, tmp_path, capsys):
    pd.DataFrame(list(new_alerts(2))).to_parquet(tmp_path / 'night.parquet')
    paths = [str(tmp_path / name) for name in ('night.parquet', 'a.avro', 'b.avro')]
    line = ['score', kept, *paths, '--to', str(tmp_path / 'scores.csv')]
    assert cli.main(line) == LOST
    said = capsys.readouterr().out
    assert '4 rows' in said and '2 of them without a score (missing_file 2)' in said
    assert cli.main([*line, '--json']) == LOST
    assert json.loads(capsys.readouterr().out)['unscored'] == dict(missing_file=2)


def test_scores_of_the_archive_are_written_where_a_file_is_named(kept, tmp_path, capsys):
    home, to = tmp_path / 'home', tmp_path / 'det.csv'
    open_archive(home).add_alerts(list(new_alerts(3)), survey='ztf', show=False)
    line = ['score', kept, '--home', str(home)]
    assert cli.main(line) == 0
    assert 'the registry keeps them as run' in capsys.readouterr().out and not to.exists()
    assert cli.main([*line, '--to', str(to)]) == 0
    assert f'3 rows in {to}' in capsys.readouterr().out
    written = pd.read_csv(to).set_index('detection_id')['score']
    registry = read_scores(open_archive(home)).set_index('detection_id')['score']
    assert len(written) == 3 and np.allclose(written, registry.loc[written.index])


def test_what_is_in_the_registry_scores_as_its_plan_and_its_version(trained):
    archive, plan, dataset, classifier = trained
    of_plan = classifier.score(plan).set_index('name')['score']
    of_version = classifier.score(dataset).set_index('name')['score']
    both = pd.concat([of_plan, of_version], axis=1, join='inner').to_numpy()
    assert len(both) == len(dataset) and np.abs(both[:, 0] - both[:, 1]).max() < 1e-6


def test_a_broken_packet_costs_itself_and_keeps_its_place(classifier):
    good = list(new_alerts(3))
    broken = dict(good[1], cutoutScience=good[1]['cutoutScience'][:3000])
    outside = dict(good[2], candid=9, cutoutTemplate=stamp(np.full((63, 63), np.nan)))
    table = classifier.score([good[0], broken, dict(candid=1), outside, good[2]])
    assert table['reason'].tolist() == ['', 'truncated', 'unknown_schema', 'too_little_valid', '']
    alone = classifier.score([good[0], good[2]])
    assert table['score'][[0, 4]].tolist() == pytest.approx(alone['score'].tolist(), abs=1e-6)
    lost = table[table['reason'] != '']
    assert (
        lost[['score', 'probability', 'distance']].isna().to_numpy().all()
        and (lost['detail'] != '').all()
    )


def test_a_night_is_read_as_it_is_scored(classifier):
    taken = []

    def stream():
        for packet in new_alerts(50):
            taken.append(packet['candid'])
            yield packet

    pieces = score_pieces(classifier, stream(), chunk=8)
    assert len(next(pieces)) == 8 and len(taken) == 8
    assert len(next(pieces)) == 8 and len(taken) == 16


@pytest.mark.parametrize('wrong', ['real-bogus', None, torch.nn.Linear(1, 1), 3])
def test_what_is_no_classifier_is_answered_with_how_to_get_one(trained, wrong):
    with pytest.raises(BadInput, match=r"give a classifier, as from load_classifier\('real-bogus'"):
        trained[0].score(wrong, show=False)


@pytest.mark.parametrize('given', ['sky/m13.fits', Path('m13.fits.gz'), ['m13.fit', 'm14.fit']])
def test_an_image_without_positions_is_answered_with_the_table(classifier, given):
    with pytest.raises(BadInput, match=r'is an image, and it needs positions.*uri=.m13\.fit.*ra='):
        classifier.score(given)


def test_nothing_to_score_is_an_empty_table_with_its_columns(classifier):
    empty = classifier.score([])
    full = classifier.score(list(new_alerts(1)))
    assert len(empty) == 0 and list(empty) == list(full)


def test_probabilities_follow_the_prior(classifier):
    scores = np.linspace(0.01, 0.99, 9)
    line = classifier.facts['calibration']
    at_home = classifier.probability_at(scores)
    assert (np.diff(at_home) > 0).all()
    for prior in (0.001, 0.5):
        expected = scores_at_prior(at_home, line['prior'], prior)
        assert classifier.probability_at(scores, prior) == pytest.approx(expected)


def test_calibration_mends_a_network_that_is_too_sure():
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.02, 0.98, 20000)
    truth = rng.random(20000) < chance
    logit = np.log(chance / (1 - chance))
    line = fit_calibration(1 / (1 + np.exp(-3 * logit - 1)), truth)
    assert line['slope'] == pytest.approx(1 / 3, abs=0.02)
    assert line['intercept'] == pytest.approx(-1 / 3, abs=0.05)


@pytest.mark.parametrize('use', ['predict', 'evaluate', 'fit', 'val of fit'])
def test_a_loader_with_other_numbers_is_refused(trained, use):
    _, _, dataset, classifier = trained
    loaders = RealDataLoader(dataset)
    other = loaders.loaders(batch_size=32, normalise='linear')
    own = loaders.loaders(batch_size=32, normalise=classifier.normaliser)
    again = classifier_of(SmallCNN(3, width=4), own[0])  # Weights that may be changed
    ways = {
        'predict': lambda some: predict(classifier, some[2]),
        'evaluate': lambda some: evaluate(classifier, some[2], n_boot=2),
        'fit': lambda some: fit(again, some[0], epochs=1, show=False),
        'val of fit': lambda some: fit(again, own[0], some[1], epochs=1, show=False),
    }
    with pytest.raises(BadInput, match='normalise=classifier.normaliser'):
        ways[use](other)
    ways[use](own)


def test_evaluate_takes_the_threshold_of_a_classifier(trained):
    _, _, dataset, classifier = trained
    _, val, test = RealDataLoader(dataset).loaders(batch_size=32)
    points = evaluate(classifier, test, n_boot=2)
    assert points.chosen['threshold'] == classifier.threshold
    assert evaluate(classifier.model, test, n_boot=2, choose_on=val).chosen == points.chosen


def test_a_folder_gives_the_same_object_back(classifier, tmp_path):
    again = read_classifier(classifier.save(tmp_path / 'kept'))
    raw = np.random.default_rng(0).normal(100, 5, (4, 3, SIDE, SIDE)).astype('f4')
    for name in ('score', 'distance'):
        assert again.answer(raw)[name].tolist() == classifier.answer(raw)[name].tolist()
    assert again.version == classifier.version and again.facts == classifier.facts


@pytest.mark.parametrize('what', ['threshold', 'weight', 'reference'])
def test_a_folder_that_was_changed_is_refused(classifier, tmp_path, what):
    folder = classifier.save(tmp_path / 'kept')
    if what == 'threshold':
        facts = json.loads((folder / 'classifier.json').read_text())
        (folder / 'classifier.json').write_text(json.dumps(facts | dict(threshold=0.123)))
    else:
        name = 'weights.pt' if what == 'weight' else 'reference.pt'
        tensors = torch.load(folder / name, weights_only=True)
        next(iter(tensors.values())).view(-1)[0] += 1e-3
        torch.save(tensors, folder / name)
    with pytest.raises(BadInput, match='was changed after it was saved'):
        read_classifier(folder)


class Harm:
    def __reduce__(self):
        return (open, ('harm-was-done', 'w'))


@pytest.mark.parametrize('name', ['weights.pt', 'reference.pt'])
def test_a_pickle_in_a_folder_is_never_run(classifier, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = classifier.save(tmp_path / 'kept')
    (folder / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(BadInput):
        load_classifier(folder)
    torch.save(Harm(), folder / name)
    with pytest.raises(BadInput):
        load_classifier(folder)
    assert not (tmp_path / 'harm-was-done').exists()


def test_a_classifier_that_is_cut_off_while_it_is_saved_is_the_one_before(
    classifier, tmp_path, monkeypatch
):
    folder = classifier.save(tmp_path / 'kept')
    monkeypatch.setattr('astrid_data.inference.classifier.write_atomic', None)
    with pytest.raises(TypeError):
        classifier.save(folder)
    assert read_classifier(folder).version == classifier.version


def test_a_run_gives_the_classifier_back(trained):
    _, _, dataset, classifier = trained
    with track(dataset, run_name='kept', monitor=False) as run:
        run.log_metrics(dict(a=1))
        classifier.keep(run)
    again = load_classifier(run)
    assert again.version == classifier.version
    uri = run.archive.mlflow_uri
    address = f'runs:/{run.id}/classifier'
    assert load_classifier(address, tracking_uri=uri).facts == classifier.facts


MLFLOW = {
    'RESOURCE_DOES_NOT_EXIST': NotFound,
    'PERMISSION_DENIED': StoreDenied,
    'INTERNAL_ERROR': StoreUnreachable,
    404: StoreUnreachable,  # Of a machine that is no MLflow
    401: StoreDenied,
    403: StoreDenied,
    500: StoreUnreachable,
    503: StoreUnreachable,
    None: StoreUnreachable,
}


@pytest.mark.parametrize('status', MLFLOW)
def test_that_mlflow_is_away_is_not_that_it_has_no_classifier(trained, status, monkeypatch):
    "Else a run whose classifier cannot be had now gives its older, barer model"
    import http.server
    import threading

    asked = []

    class Says(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if isinstance(status, int):
                self.send_error(status)
                return
            self.send_response(400)
            self.end_headers()
            self.wfile.write(json.dumps(dict(error_code=status, message='so it is')).encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Says)
    address = f'http://127.0.0.1:{server.server_port}'
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '0')
    run = SimpleNamespace(id='abc', record=None, archive=SimpleNamespace(mlflow_uri=address))
    with pytest.raises(MLFLOW[status]):
        load_classifier(run)
    assert len(asked) == (2 if MLFLOW[status] is NotFound else status is not None)
    if status is not None:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize('odd', ['nan', 'inf', 'masked'])
def test_a_graph_that_differs_on_odd_sky_is_not_written(classifier, tmp_path, monkeypatch, odd):
    pytest.importorskip('onnxruntime')
    plain = OnnxClassifier.answer

    def answer(self, raw, levels=None):
        found = plain(self, raw, levels)
        hit = dict(
            nan=np.isnan(raw).any((1, 2, 3)) & np.isfinite(raw).any((1, 2, 3)),
            inf=np.isinf(raw).any((1, 2, 3)),
            masked=np.isnan(levels[1]).any(1) if levels else np.zeros(len(raw), bool),
        )[odd]
        found['score'][hit] = np.nan
        return found

    monkeypatch.setattr(OnnxClassifier, 'answer', answer)
    with pytest.raises(BadInput, match='scores otherwise than torch, by up to'):
        classifier.to_onnx(tmp_path / 'a.onnx')


def test_levels_that_nobody_knows_are_the_same_to_a_file(classifier, onnx_file):
    raw = np.random.default_rng(5).normal(200, 10, (6, 3, SIDE, SIDE)).astype('f4')
    levels = np.full((2, 6, 3), 10.0)
    levels[0] += 190
    levels[:, 1], levels[0, 2], levels[1, 3, 1] = np.nan, np.nan, np.nan
    ours, theirs = (
        model.answer(raw, tuple(levels))['score']
        for model in (classifier, load_classifier(onnx_file))
    )
    assert np.abs(ours - theirs).max() < 1e-5


def test_a_model_that_fit_kept_is_read_and_says_what_it_lacks(trained):
    _, _, dataset, classifier = trained
    train, val, _ = RealDataLoader(dataset).loaders(batch_size=32)
    model = SmallCNN(3, width=4)
    with track(dataset, run_name='bare', monitor=False) as run:
        fit(model, train, val, epochs=1, run=run, show=False)
    bare = load_classifier(run)
    row = bare.score(list(new_alerts(1))).iloc[0]
    assert row['score'] == pytest.approx(
        classifier_of(model, train).score(new_alerts(1))['score'][0]
    )
    assert np.isnan(row['probability']) and row['called_real'] is None
    assert 'kept without a classifier' in row['unknown']


def rows_of(archive, table):
    with archive.session() as session:
        columns = table.__table__.c
        return sorted(map(str, session.execute(select(*columns))))


def test_a_scoring_that_is_cut_off_goes_on_and_touches_no_label(classifier, tmp_path, monkeypatch):
    archive = open_archive(tmp_path)
    archive.add_alerts([alert(k) for k in range(40)], show=False)
    archive.add_alerts(new_alerts(20), show=False)
    before = [rows_of(archive, table) for table in (Detection, ValidationEvent)]
    whole = score_pieces

    def cut_off(*args, **more):
        for k, table in enumerate(whole(*args, **more)):
            if k == 3:
                raise KeyboardInterrupt
            yield table

    place = 'astrid_data.inference.archive_scores.score_pieces'
    monkeypatch.setattr(place, cut_off)
    with pytest.raises(KeyboardInterrupt):
        archive.score(classifier, chunk=7, show=False)
    assert len(rows_of(archive, DetectionScore)) == 21
    monkeypatch.setattr(place, whole)
    run = archive.score(classifier, chunk=7, show=False)
    assert (run.scored, run.new) == (60, 39)
    again = archive.score(classifier, chunk=7, show=False)
    assert (again.id, again.scored, again.new) == (run.id, 60, 0)
    kept = read_scores(archive, run)
    assert kept['detection_id'].is_unique and len(kept) == 60
    assert [rows_of(archive, table) for table in (Detection, ValidationEvent)] == before
    with archive.session() as session:
        row = session.get(ModelRun, run.id)
        assert (row.status, row.total_predictions) == ('completed', 60)
        assert row.high_confidence_predictions == int(kept['called_real'].sum())
    archive.add_alerts(new_alerts(5, first=3000), show=False)
    assert archive.score(classifier, show=False).new == 5


def test_what_could_not_be_read_is_tried_again(classifier, tmp_path):
    archive = open_archive(tmp_path)
    archive.add_alerts(new_alerts(20), show=False)
    packs = [path for path in (tmp_path / 'store' / 'cas').rglob('*') if path.is_file()]
    for pack in packs:
        pack.rename(pack.with_suffix('.away'))
    away = archive.score(classifier, show=False)
    assert (away.scored, sum(away.unscored.values()), away.new) == (0, 20, 20)
    again = archive.score(classifier, show=False)
    assert (again.scored, again.new, again.unscored) == (0, 0, away.unscored)
    for pack in packs:
        pack.with_suffix('.away').rename(pack)
    back = archive.score(classifier, show=False)
    assert (back.id, back.scored, back.new, back.unscored) == (away.id, 20, 20, {})


def test_a_stamp_that_changed_is_not_scored(classifier, tmp_path):
    archive = open_archive(tmp_path)
    archive.add_alerts(new_alerts(3), show=False)
    with archive.session() as session:
        uri = session.scalars(select(Image.uri).where(Image.role == 'science')).first()
    key, start, stop = packed_part(uri)
    path = tmp_path / 'store' / key
    data = bytearray(path.read_bytes())
    data[(start + stop) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    run = archive.score(classifier, show=False)
    assert (run.scored, sum(run.unscored.values())) == (2, 1)


def test_scores_do_not_change_what_is_collected(trained):
    archive, plan, _, classifier = trained
    archive.score(classifier, show=False)
    again = TrainingDataCollector(archive).plan(plan.params, progress=False)
    assert again.plan_hash == plan.plan_hash


@pytest.mark.parametrize('method', [m for m in Normaliser.methods if m != 'none'])
def test_the_graph_normalises_as_the_loader_does(trained, method):
    dataset = trained[2]
    train, val, _ = RealDataLoader(dataset).loaders(batch_size=32, normalise=method)
    classifier = classifier_of(SmallCNN(3, width=4, seed=3), train, val)
    raw = dataset.patches(np.arange(40)).copy()
    raw[0, 0, :4] = np.nan
    raw[1, 1] = np.nan
    raw[2, :, :, 3:18] = np.nan
    border = np.pad(np.zeros((SIDE - 4, SIDE - 4), bool), 2, constant_values=True)
    raw[3][:, border] = np.nan  # Too little of the border is left: all pixels count
    expected = classifier.answer(raw)
    with torch.no_grad():
        levels = torch.full((40, 3, 2), torch.nan)
        found, certain, distance = WholeModel(classifier)(torch.from_numpy(raw), levels)
    assert np.abs(found.numpy() - expected['score']).max() < 1e-5
    assert np.allclose(distance.numpy(), expected['distance'], rtol=1e-4)


def test_the_file_alone_is_equal_to_torch(classifier, onnx_file):
    import onnxruntime

    rng = np.random.default_rng(2)
    raw = rng.normal(300, 20, (64, 3, SIDE, SIDE)).astype('f4') * rng.uniform(0.1, 9, (64, 1, 1, 1))
    raw = raw.astype('f4')
    raw[:9, 1, :, :7] = np.nan
    raw[5] = np.nan
    session = onnxruntime.InferenceSession(onnx_file.read_bytes())
    given = dict(patches=raw, levels=np.full((64, 3, 2), np.nan, 'f4'))
    alone = session.run(None, given)[0]
    expected = classifier.answer(raw, local_background(raw))
    assert np.abs(alone - expected['score']).max() < 1e-5
    assert np.abs(load_classifier(onnx_file).answer(raw)['score'] - expected['score']).max() < 1e-5


def test_distance_tells_another_kind_of_image(classifier):
    trail = np.where(abs(np.indices((63, 63))[0] - 31) < 4, 1e5, 100.0)
    packet = next(new_alerts(1))
    row = dict(packet, candid=77) | dict.fromkeys(STAMPS.values(), stamp(trail))
    table = classifier.score([packet, row])
    assert table['distance'][1] > 5 * table['distance'][0] and table['as_far'][1] == 0


def test_distance_is_that_of_mahalanobis():
    rng = np.random.default_rng(0)
    label = np.arange(4000) % 2
    mix = rng.normal(size=(3, 3))
    features = rng.normal(size=(4000, 3)) @ mix + label[:, None] * [5, 0, 0]
    reference = fit_reference(features, label)
    new = rng.normal(size=(50, 3)) @ mix
    precision = np.linalg.inv(mix.T @ mix)
    apart = [new - features[label == one].mean(0) for one in (0, 1)]
    expected = [np.sqrt(np.einsum('ij,jk,ik->i', a, precision, a) / 3) for a in apart]
    found = reference.distance(torch.tensor(new, dtype=torch.float32)).numpy()
    assert np.allclose(found, np.minimum(*expected), rtol=0.05)


def test_features_are_what_enters_the_last_layer():
    model = SmallCNN(3, width=4).eval()
    answer, features = answers_of(model, torch.randn(5, 3, SIDE, SIDE))
    assert torch.allclose(model.head(features).squeeze(1), answer)


def test_the_command_needs_no_torch_to_show_its_help():
    code = 'import sys; from astrid_data import cli; cli._parser([]); print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'False'


# --- what a score is of


def cut_stamps(one, side):
    "An alert whose stamps are smaller"
    for name in STAMPS.values():
        with fits.open(io.BytesIO(one[name])) as hdus:
            start = 31 - side // 2
            one[name] = stamp(hdus[0].data[start : start + side, start : start + side])
    return one


def test_a_stamp_that_is_too_small_is_said_to_be(classifier):
    "Not that its pixels are invalid: nothing is wrong with them"
    small, large = cut_stamps(alert(900), 13), cut_stamps(alert(902), 25)
    table = classifier.score([small, large], survey='mine')
    assert table['reason'].tolist() == ['small_stamp', '']
    assert '13 pixels a side, and this model takes 21' in table['detail'][0]


def test_another_survey_is_flagged(classifier, onnx_file):
    packets = [one for one, _ in zip(new_alerts(), range(2))]
    other = packets[1] | dict(objectId='WNTR21abcde')
    for model in (classifier, load_classifier(onnx_file)):
        flagged = ['other_survey' in words for words in model.score([packets[0], other])['flags']]
        assert flagged == [False, True]
        assert ['other_survey' in f for f in model.score(packets, survey='PanSTARRS')['flags']] == [
            True
        ] * 2


def test_an_alert_of_an_unknown_survey_is_flagged(classifier, onnx_file):
    packets = [one for one, _ in zip(new_alerts(), range(2))]
    broken = packets[0] | dict(cutoutScience=b'')
    strange = packets[1] | dict(objectId='FOO21abcde')
    for model in (classifier, load_classifier(onnx_file)):
        flags = model.score([packets[0], strange, broken])['flags']
        assert ['unknown_survey' in words for words in flags] == [False, True, False]
        assert not model.score([strange], survey='ztf')['flags'].str.contains('survey').any()


def test_a_survey_that_a_plan_or_a_version_names_is_no_other(trained):
    _, plan, dataset, classifier = trained
    for what in (plan, dataset):
        assert not classifier.score(what)['flags'].str.contains('other_survey').any()
    elsewhere = replace(plan, samples=plan.samples.assign(survey='decat'))
    assert classifier.score(elsewhere)['flags'].str.contains('other_survey').all()


def test_a_model_that_does_not_say_its_surveys_flags_none(classifier, tmp_path):
    folder = classifier.save(tmp_path / 'older')
    older = read_classifier(folder)
    del older.facts['input']['surveys']
    assert not older.score(list(new_alerts(2)))['flags'].str.contains('other_survey').any()


def test_a_call_is_of_the_score_and_the_same_at_any_prior(classifier):
    packets = list(new_alerts(30))
    tables = [classifier.score(packets, prior=prior) for prior in (None, 0.01, 0.5, 0.99)]
    called = [table['called_real'].tolist() for table in tables]
    assert called == [called[0]] * 4
    assert called[0] == (tables[0]['score'] >= classifier.threshold).tolist()
    assert (tables[1]['probability'] < tables[3]['probability']).all()


def test_messages_are_scored_by_their_schemas(classifier):
    fastavro = pytest.importorskip('fastavro')
    names = ('objectId', 'candid', 'ra', 'dec', 'jd', *STAMPS.values())
    kinds = ['string', 'long', 'double', 'double', 'double', 'bytes', 'bytes', 'bytes']
    fields = [dict(name=name, type=kind) for name, kind in zip(names, kinds)]
    schema = dict(type='record', name='alert', fields=fields)
    packets, messages = list(new_alerts(2)), []
    for one in packets:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, one)
        messages.append(b'\0\0\0\0\x07' + out.getvalue())
    expected = classifier.score(packets)
    found = classifier.score(messages, schemas={7: schema})
    assert found['score'].tolist() == expected['score'].tolist()
    assert classifier.score(messages)['reason'].tolist() == ['no_schema'] * 2
