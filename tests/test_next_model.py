"A training each night: nothing new makes nothing, a kill loses nothing, and the model in use has a reason"

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import func, select

import astrid_data as ad
from astrid_data.automation import next_model
from astrid_data.automation.next_model import _compare, _decided, _version_of, retrain
from astrid_data.automation.promoted import (
    Decision,
    list_candidates,
    promoted_model,
    record_candidate,
)
from astrid_data.core import BadInput, Conflict, NotFound
from astrid_data.registry.tables import Base, Model, ModelType
from astrid_data.training.fit import fit

pytestmark = pytest.mark.filterwarnings('ignore')


def small(channels):
    return ad.SmallCNN(channels, width=4)


NIGHT = dict(network=small, fit=dict(epochs=1), track=dict(monitor=False), progress=False)


def grown(home, n_observations):
    return ad.synthetic_archive(home, n_observations=n_observations, n_sources=20)


def first_version(home, seed=0):
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 1})
    plan = ad.TrainingDataCollector(grown(home, 4)).plan(params, progress=False)
    return plan.build('sky', patch_size=16, progress=False, probe=False, seed=seed)


def learnt(dataset, seed=0):
    train, val, _ = ad.RealDataLoader(dataset).loaders()
    network = ad.SmallCNN(len(dataset.channels), width=4, seed=seed)
    return fit(network, train, val, epochs=1, show=False).classifier()


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return first_version(tmp_path_factory.mktemp('quiet'))


@pytest.fixture(scope='module')
def models(dataset):
    return [learnt(dataset, seed) for seed in range(3)]


@pytest.fixture
def growing(tmp_path):
    return first_version(tmp_path)


def rows(archive):
    "How many rows each table has"
    with archive.session() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
        }


def test_three_nights_without_news_make_nothing(growing):
    archive = growing.archive
    assert retrain(growing, **NIGHT).outcome == 'promoted'
    before = rows(archive), sorted(archive.store.list()), sorted(archive.datasets_dir.rglob('*'))
    for _ in range(3):
        assert retrain(growing, **NIGHT).outcome == 'not needed'
    assert before == (
        rows(archive),
        sorted(archive.store.list()),
        sorted(archive.datasets_dir.rglob('*')),
    )


def test_news_make_one_version_whose_splits_are_kept(growing, tmp_path):
    first = retrain(growing, **NIGHT)
    grown(tmp_path, 8)
    nights = [retrain(growing, **NIGHT) for _ in range(3)]
    assert nights[0].outcome in ('promoted', 'kept') and nights[0].decision.over == first.model
    assert {night.outcome for night in nights[1:]} <= {'not needed', 'tried before'}
    table = ad.list_datasets(growing.archive)
    assert sorted(table['address']) == ['sky@v1', 'sky@v2']
    newer = ad.open_dataset(growing.archive, 'sky@v2')
    splits = [one.samples.set_index('sample_key')['split'] for one in (growing, newer)]
    assert splits[1].loc[splits[0].index].tolist() == splits[0].tolist()
    assert len(list_candidates(growing.archive, 'sky')) == 2


def test_a_dry_run_makes_nothing(growing, tmp_path):
    before = rows(growing.archive)
    assert retrain(growing, dry_run=True, **NIGHT).outcome == 'would train'
    assert rows(growing.archive) == before
    retrain(growing, **NIGHT)
    grown(tmp_path, 8)
    before = rows(growing.archive)
    dry = retrain(growing, dry_run=True, **NIGHT)
    assert (dry.outcome, rows(growing.archive)) == ('would train', before)
    assert 'new labels' in dry.reason


def test_a_night_that_was_killed_is_done_by_the_next(growing, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(next_model, 'record_candidate', lambda *_: (_ for _ in ()).throw(KeyError))
        with pytest.raises(KeyError):
            retrain(growing, **NIGHT)
    assert promoted_model(growing.archive, 'sky') is None
    night = retrain(growing, **NIGHT)
    assert promoted_model(growing.archive, 'sky').version == night.model


def test_forced_it_trains_again_and_the_same_model_is_not_trained_twice(growing, monkeypatch):
    first = retrain(growing, **NIGHT)
    with monkeypatch.context() as at_work:
        at_work.setattr(next_model, 'learn', lambda *_, **__: pytest.fail('it trains'))
        same = retrain(growing, force=True, **NIGHT)
    assert (same.outcome, same.model) == ('kept', first.model)
    assert same.reason.startswith('same model: sky@v1')
    assert len(list_candidates(growing.archive, 'sky')) == 1
    again = retrain(growing, force=True, **NIGHT | dict(fit=dict(epochs=2)))
    assert again.decision.over == first.model and again.dataset == 'sky@v1'


def test_a_model_whose_recipe_is_unknown_is_judged_once_all_the_same(growing, monkeypatch):
    retrain(growing, **NIGHT)
    monkeypatch.setattr(next_model, '_recipe_of', lambda *_: None)
    with pytest.raises(Conflict, match='was judged before'):
        retrain(growing, force=True, **NIGHT)


@pytest.mark.parametrize('loaders', [dict(crop=99), dict(light_curve=5), dict(normalise='magic')])
@pytest.mark.parametrize('dry_run', [True, False])
def test_loaders_that_do_not_fit_are_found_before_a_version_is_made(growing, loaders, dry_run):
    retrain(growing, **NIGHT)
    grown(growing.archive.home, 8)
    before = rows(growing.archive)
    with pytest.raises(BadInput):
        retrain(growing, **NIGHT | dict(loaders=loaders, dry_run=dry_run))
    after = rows(growing.archive)
    kept = 'training_datasets', 'ad_dataset_versions', 'models'
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_a_first_model_has_a_score_and_may_be_too_poor(growing):
    poor = retrain(growing, least=1.0, **NIGHT)
    assert poor.outcome == 'kept' and 'at least 1 is asked for' in poor.reason
    assert promoted_model(growing.archive, 'sky') is None
    (known,) = list_candidates(growing.archive, 'sky')['score']
    assert known == poor.decision.score and f'{known:.3f}' in poor.reason
    fine = retrain(growing, least=known / 2, force=True, **NIGHT | dict(fit=dict(epochs=2)))
    assert fine.outcome == 'promoted' and fine.decision.score >= known / 2


def test_a_misspelt_family_says_which_there_are(dataset):
    for ask in (list_candidates, promoted_model):
        with pytest.raises(NotFound, match="is 'sky' meant"):
            ask(dataset.archive, 'skyy')
        with pytest.raises(NotFound, match='there are sky'):
            ask(dataset.archive, 'quite another')


def test_a_network_of_another_width_is_compared_as_well(growing):
    first = retrain(growing, **NIGHT)
    other = NIGHT | dict(network=lambda channels: ad.SmallCNN(channels, width=8))
    again = retrain(growing, force=True, **other)
    assert again.decision.over == first.model


def test_the_model_in_use_gets_the_pixels_that_it_was_trained_with(growing):
    first = retrain(growing, **NIGHT)
    other = NIGHT | dict(loaders=dict(crop=12, normalise='sigma', valid='channel'))
    again = retrain(growing, force=True, **other)
    assert again.decision.over == first.model and again.decision.objects


def test_files_that_are_gone_or_changed_are_said(growing):
    version, archive = retrain(growing, **NIGHT).model, growing.archive
    facts = archive.store.get(f'models/sky/{version}/classifier.json')
    archive.store.put(f'models/sky/{version}/classifier.json', facts.replace(b'0.', b'1.', 1))
    with pytest.raises(BadInput, match='changed after it was saved'):
        promoted_model(archive, 'sky')
    archive.store.delete(f'models/sky/{version}/classifier.json')
    with pytest.raises(NotFound, match='the store has no such files'):
        retrain(growing, **NIGHT)


def test_what_the_model_in_use_has_seen_is_not_compared(growing):
    other = first_version(growing.archive.home, seed=7)  # Another deal of the same samples
    assert other.address == 'sky@v2'
    one, two = learnt(growing), learnt(other)
    found = _compare(one, two, other, other, {}, 'auc_pr', 0.02)
    assert not found.promoted and 'which taught the model' in found.reason


def test_a_version_that_was_made_anew_is_not_that_of_the_model(growing):
    model = learnt(growing)
    assert _version_of(growing.archive, model).address == growing.address
    model.facts = model.facts | dict(input=model.input | dict(content_hash='0' * 64))
    with pytest.raises(BadInput, match='their hashes differ'):
        _version_of(growing.archive, model)


@pytest.mark.parametrize(
    ('low', 'high', 'may_lose', 'promoted', 'words'),
    [
        (-0.02, 0.1, 0.02, True, 'at most 0.02 is lost'),
        (-0.021, 0.1, 0.02, False, 'more than 0.02 may be lost'),
        (-0.2, -0.03, 0.02, False, 'it is worse'),
        (0.0, 0.1, 0, True, 'at most 0 is lost'),
        (-0.001, 0.1, 0, False, 'more than 0 may be lost'),
    ],
)
def test_the_interval_decides(low, high, may_lose, promoted, words):
    pair = dict(difference=(low + high) / 2, low=low, high=high, objects=9, reason='')
    found = _decided(pair, 'old', 'auc_pr', may_lose)
    assert found.promoted is promoted and words in found.reason


def test_a_better_model_is_promoted_and_a_worse_one_is_not(dataset, models, monkeypatch):
    "The scores are given here, so that nature does not decide"
    rng = np.random.default_rng(0)
    label = np.arange(400) % 2
    index = pd.Index([f's{n}' for n in range(400)], name='sample_key')
    noise = rng.normal(size=(2, 400))

    def table(strength, noise):
        score = 1 / (1 + np.exp(-(strength * (label - 0.5) + noise)))
        columns = dict(label=label, score=score, group=np.arange(400), index=np.arange(400))
        return pd.DataFrame(columns, index=index)

    good, bad = table(5, noise[0]), table(1, noise[1])
    monkeypatch.setattr(next_model, 'seen_in_training', lambda *_: '')
    for old, new, promoted in ((bad, good, True), (good, bad, False), (good, good, True)):
        answers = iter([old, new])
        monkeypatch.setattr(next_model, '_scores_by_key', lambda *_: next(answers))
        found = _compare(models[0], models[1], dataset, dataset, {}, 'auc_roc', 0.02)
        assert found.promoted is promoted and found.objects == 400


def test_models_in_both_databases_and_a_bucket(
    registry_url, s3, dataset, models, tmp_path, monkeypatch
):
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', s3.key)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', s3.secret)
    monkeypatch.setenv('AWS_ENDPOINT_URL_S3', s3.endpoint)
    where = f's3://test/{tmp_path.name}'
    archive = ad.open_archive(registry_url, storage=where, home=tmp_path)
    first, second, third = (model.version for model in models)
    record_candidate(archive, models[0], dataset, Decision(True, 'first'))
    record_candidate(archive, models[1], dataset, Decision(False, 'worse', over=first), 'a-run')
    with pytest.raises(Conflict, match='another model of'):
        record_candidate(archive, models[2], dataset, Decision(True, 'late', over=second))
    assert promoted_model(archive, 'sky').version == first
    record_candidate(archive, models[2], dataset, Decision(True, 'fine', over=first))
    assert promoted_model(archive, 'sky').version == third
    table = list_candidates(archive, 'sky').set_index('version')
    assert table['in_use'].to_dict() == {first: False, second: False, third: True}
    assert table.loc[second, 'reason'] == 'worse'
    with archive.session() as session:
        path = session.scalar(select(Model.model_path).where(Model.version == third))
    assert path.startswith('s3://') and path.endswith(third)


@pytest.mark.parametrize(
    'slip',
    [
        dict(fit=dict(epoch=1)),
        dict(fit=dict(run=None)),
        dict(fit=[1]),
        dict(advise=dict(x=1)),
        dict(advise=dict(newer=5)),
        dict(track=dict(archive=None)),
        dict(loaders='crop'),
        dict(network='SmallCNN'),
        dict(network=None),
        dict(may_lose=float('nan')),
        dict(may_lose='0.1'),
        dict(least=2),
        dict(least='0.5'),
        dict(metric=['auc_pr']),
    ],
)
def test_a_slip_is_refused_before_the_work(dataset, slip):
    before = rows(dataset.archive)
    with pytest.raises(BadInput):
        retrain(dataset, **NIGHT | slip)
    assert rows(dataset.archive) == before


@pytest.mark.parametrize('kept', [None, 5, 'decision', ['decision'], dict(decision='yes')])
def test_rows_of_others_are_no_candidates(dataset, models, registry_url, tmp_path, kept):
    archive = ad.open_archive(registry_url, storage=str(tmp_path / 'store'), home=tmp_path)
    with archive.session() as session:
        theirs = dict(name='sky', version='7', model_type=ModelType.CLASSIFIER, is_active=True)
        session.add(Model(**theirs, hyperparameters=kept, deployment_date=datetime.now(UTC)))
    assert promoted_model(archive, 'sky') is None and not len(list_candidates(archive, 'sky'))
    record_candidate(archive, models[0], dataset, Decision(True, 'first'))
    assert promoted_model(archive, 'sky').version == models[0].version


def test_a_model_that_nothing_tested_is_not_used(tmp_path):
    archive = grown(tmp_path, 4)
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 1})
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    how = dict(patch_size=16, progress=False, probe=False, allow_empty=True)
    untested = plan.build('sky', fractions=(0.8, 0.2, 0), **how)
    night = retrain(untested, **NIGHT)
    assert night.outcome == 'kept' and 'has not both labels' in night.reason
    assert promoted_model(archive, 'sky') is None


def test_the_shell_says_what_came_of_a_night(growing, capsys):
    words = ['retrain', 'sky', '--epochs', '1', '--home', str(growing.archive.home)]
    from astrid_data.cli import main

    assert main([*words, '--dry-run']) == 0
    assert capsys.readouterr().out.startswith('would train (sky@v1)')
    assert main(words) == 0
    assert capsys.readouterr().out.startswith('promoted (sky@v1)')
    assert main([*words, '--metric', 'f1']) != 0
