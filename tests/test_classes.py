"""Classes can be learnt: the list is sealed, planted truth is found, shuffled labels are chance,
and whatever is for real and bogus alone says so"""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from astrid_data.core import BadInput
from astrid_data.datasets.dataset import write_dataset
from astrid_data.evaluation.class_report import class_points, confusion, plot_confusion
from astrid_data.evaluation.report import operating_points
from astrid_data.loading.classes import ClassList, class_list
from astrid_data.loading.loader import DataModule, RealDataLoader
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.training.baseline import evaluate_baseline
from astrid_data.training.checkpoints import load_checkpoint
from astrid_data.training.classes import class_names_of, classes_of
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN, SmallUNet, pretend_dataset
from astrid_data.training.predict import evaluate, predict

PER_OBJECT = 2
SIDE = 20


def shapes(number, rng):
    "Patches of a sky of 100: a narrow spot, a wide one, a line"
    n = len(number)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    narrow = np.exp(-(x**2 + y**2) / 2)
    wide = np.exp(-(x**2 + y**2) / 18)
    line = np.exp(-(y**2) / 0.5)
    planted = np.stack([narrow, wide, line])[number % 3]
    noise = rng.normal(100, 5, (n, 1, SIDE, SIDE))
    return (noise + 60 * planted[:, None]).astype('f4')


def version(folder, names, splits=(0.6, 0.2), seed=0, **columns):
    "A version whose sample i is of the class names[i]; None is no class"
    names = list(names)
    n = len(names)
    rng = np.random.default_rng(seed)
    known = sorted({name for name in names if name is not None}, key=str)
    number = np.array([known.index(name) if name is not None else 0 for name in names])
    part = (np.arange(n) // PER_OBJECT * PER_OBJECT) / n
    rows = dict(
        sample_key=[f'{i:032x}' for i in range(n)],
        label=1,
        class_name=np.array(names, object),
        group_id=[f'object {i // PER_OBJECT}' for i in range(n)],
        origin='synthetic',
        split=np.select([part < splits[0], part < sum(splits)], ['train', 'val'], 'test'),
    )
    return write_dataset(folder, pd.DataFrame(rows | columns), shapes(number, rng), name='planted')


def repeated(*names, objects=40):
    "Samples of some classes, one class after another, an object at a time"
    return [name for _ in range(objects) for name in names for _ in range(PER_OBJECT)]


def quietly(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return function(*args, **options)


def trained(dataset, classes=True, epochs=8, **options):
    "A model of the classes of a version, and its loaders"
    how = dict(batch_size=16, classes=classes, seed=0) | options
    loaders = quietly(RealDataLoader(dataset).loaders, **how)
    model = SmallCNN(width=4, classes=loaders[0].dataset.classes)
    history = quietly(fit, model, *loaders[:2], epochs=epochs, show=False, device='cpu')
    return model, loaders, history


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    return version(tmp_path_factory.mktemp('planted'), repeated('narrow', 'round', 'trail'))


@pytest.fixture(scope='module')
def learnt(planted):
    return trained(planted)


# ---- the list


def test_the_order_is_that_of_the_names_whatever_the_order_of_the_rows(tmp_path):
    names = repeated('b', 'B2', 'ä', 'a', objects=20)
    one = class_list(version(tmp_path / 'one', names))
    other = class_list(version(tmp_path / 'other', names[::-1]))
    assert one.names == other.names == ('B2', 'a', 'b', 'ä')
    assert class_list(version(tmp_path / 'third', names), ['b', 'a']).names == ('a', 'b')


def test_all_loaders_share_one_list_and_its_numbers(planted):
    loaders = RealDataLoader(planted).loaders(batch_size=16, classes=True)
    for loader in loaders:
        assert loader.dataset.classes is loaders[0].dataset.classes
        for batch in loader:
            names = planted.samples['class_name'].to_numpy()[batch['index']]
            assert [loader.dataset.classes.names[k] for k in batch['label']] == list(names)


def test_no_class_is_no_sample_and_is_counted(tmp_path):
    names = repeated('a', 'b', objects=20)
    for place, word in enumerate([None, 'unknown', 'Unsure', 'nan', '', float('nan')]):
        names[place] = word
    dataset = version(tmp_path, names)
    with pytest.warns(UserWarning, match='6 samples have no class and take no part'):
        train, val, test = RealDataLoader(dataset).loaders(classes=True)
    assert sum(len(loader.dataset) for loader in (train, val, test)) == len(names) - 6
    assert not {0, 1, 2, 3, 4, 5} & set(train.dataset.rows.tolist())


def test_a_small_class_is_left_out_and_said_or_taken_if_named(tmp_path):
    names = repeated('a', 'b', objects=20)
    names[:4] = ['rare'] * 4
    dataset = version(tmp_path, names)
    with pytest.warns(UserWarning, match=r"left out: 'rare' \(2 objects\)"):
        assert class_list(dataset).names == ('a', 'b')
    with pytest.warns(UserWarning, match=r"few objects: 'rare' \(2 objects\)"):
        assert class_list(dataset, ['a', 'rare']).names == ('a', 'rare')


def test_a_class_only_in_test_is_never_learnt(tmp_path):
    names = repeated('a', 'b', objects=20) + repeated('late', objects=12)
    dataset = version(tmp_path, names)
    assert set(dataset.samples['split'][dataset.samples['class_name'] == 'late']) <= {'val', 'test'}
    with pytest.warns(UserWarning, match=r"left out: 'late' \(none in train\)"):
        assert class_list(dataset).names == ('a', 'b')
    with pytest.raises(BadInput, match='no sample in train of late'):
        class_list(dataset, ['a', 'late'])


def test_a_class_that_val_or_test_lack_is_said(tmp_path):
    names = repeated('early', objects=12) + repeated('a', 'b', objects=20)
    with pytest.warns(
        UserWarning, match="no sample in val of 'early'; no sample in test of 'early'"
    ):
        listed = class_list(version(tmp_path, names))
    assert listed.counts.loc['early'].tolist() == [24, 0, 0, 12]


def test_one_class_is_refused(tmp_path):
    dataset = version(tmp_path, repeated('a', objects=20))
    with pytest.raises(BadInput, match='1 class to learn, and two at least are told apart'):
        RealDataLoader(dataset).loaders(classes=True)
    with pytest.raises(BadInput, match='at least two names are needed'):
        SmallCNN(classes=['a'])


@pytest.mark.parametrize('other', ['sn ia', 'SN  Ia', 'SN-Ia', ' SN Ia', 'SN_Ia', 'ＳＮ Ia'])
def test_names_that_only_look_different_are_refused_and_can_be_put_together(tmp_path, other):
    dataset = version(tmp_path, repeated('SN Ia', other, 'AGN', objects=15))
    with pytest.raises(BadInput, match='differ only in how they are written'):
        class_list(dataset)
    together = class_list(dataset, dict(SN=['SN Ia', other], AGN=['AGN']))
    assert together.names == ('AGN', 'SN')
    assert (together.numbers(dataset.samples) == 1).sum() == 2 * 15 * PER_OBJECT


ODD = [
    'index',
    'label',
    'p_x',
    'Überriese',
    '超新星',
    'a/b',
    '../up',
    'x$y_z$',
    '<b>&',
    'SN,"Ia"\n',
    '=1+1',
]


def test_odd_names_go_all_the_way(tmp_path):
    dataset = version(tmp_path / 'v', repeated(*ODD, objects=12))
    model, (_, _, test), _ = trained(dataset, epochs=1)
    assert class_names_of(model) == tuple(sorted(ODD))
    scores = predict(model, test)
    chances = scores[[f'p_{name}' for name in model.classes]].to_numpy()
    np.testing.assert_allclose(chances.sum(1), 1)
    report = evaluate(model, test, n_boot=100)
    from astrid_data.tracking.derived import check_names

    numbers = report.metrics()
    check_names(numbers, 'metric')
    assert len({key.split('/')[0] for key in numbers if '/auc_pr' in key}) == len(ODD)
    assert '<b>&' not in report._repr_html_()
    json.dumps(report.facts())
    report.plot().savefig(tmp_path / 'odd.png')


def test_forty_classes(tmp_path):
    names = [f'class {k:02}' for k in range(40)]
    dataset = version(tmp_path, repeated(*names, objects=12))
    model, (_, _, test), _ = trained(dataset, epochs=1)
    report = evaluate(model, test, n_boot=100)
    assert len(report.table) == 40
    assert report.plot().get_size_inches()[0] <= 7
    assert report.confusion.to_numpy().sum() == len(test.dataset)


@pytest.mark.parametrize('wrong', ['a', 5, [1, 2], [None, 'a'], ['a', ''], dict(a='x', b='x'), []])
def test_what_is_no_list_of_classes_is_refused(planted, wrong):
    with pytest.raises((BadInput, TypeError)):
        class_list(planted, wrong)


def test_a_class_of_both_labels_is_said(tmp_path):
    names = repeated('a', 'b', objects=20)
    dataset = version(tmp_path, names, label=np.arange(len(names)) % 2)
    with pytest.warns(UserWarning, match='real and bogus samples are in one class'):
        class_list(dataset)


# ---- what is learnt


def test_three_separable_classes_are_learnt(learnt):
    model, (_, _, test), history = learnt
    report = evaluate(model, test, n_boot=100)
    assert report.accuracy['accuracy'] > 0.9
    assert report.macro_auc_pr > 0.95
    assert report.accuracy['accuracy_low'] > report.baseline['accuracy']
    assert history.measure == 'val_auc_pr'


def test_shuffled_labels_stay_at_chance(tmp_path):
    names = np.random.default_rng(1).permutation(repeated('narrow', 'round', 'trail', objects=60))
    dataset = version(tmp_path, names, seed=2)
    rng = np.random.default_rng(3)
    shuffled = dataset.samples.assign(class_name=rng.permutation(dataset.samples['class_name']))
    dataset = write_dataset(tmp_path / 'shuffled', shuffled, dataset.patches()[:], name='shuffled')
    model, (_, _, test), _ = trained(dataset, epochs=4)
    report = evaluate(model, test)
    table = report.table
    assert (table['auc_roc_low'] < 0.5).all() and (table['auc_roc_high'] > 0.5).all()
    assert report.accuracy['accuracy_low'] < 1 / 3 < report.accuracy['accuracy_high']


def test_the_same_seed_gives_the_same_model(planted, learnt):
    again = trained(planted)[0]
    for one, other in zip(learnt[0].state_dict().values(), again.state_dict().values()):
        assert torch.equal(one, other)


def test_two_classes_are_as_good_as_real_and_bogus(tmp_path):
    dataset = pretend_dataset(tmp_path, n=600, patch_size=SIDE)
    areas = dict(classes=[], binary=[])
    for seed in range(3):
        for kind, options in dict(classes=dict(classes=True), binary={}).items():
            train, val, test = RealDataLoader(dataset).loaders(batch_size=32, seed=seed, **options)
            model = SmallCNN(width=4, seed=seed, classes=train.dataset.classes)
            quietly(fit, model, train, val, epochs=4, seed=seed, show=False, device='cpu')
            scores = predict(model, test)
            score = scores['p_real'] if kind == 'classes' else scores['score']
            points = operating_points(scores.assign(score=score), n_boot=100)
            areas[kind].append(points.auc_pr)
    spread = max(max(a) - min(a) for a in areas.values())
    assert abs(np.mean(areas['classes']) - np.mean(areas['binary'])) <= max(2 * spread, 0.02)


def test_what_is_said_of_two_classes_is_what_is_said_of_real_and_bogus(tmp_path):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    score = 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(0, 1, 200))))
    both = pd.DataFrame(dict(index=range(200), label=label, score=score, group=np.arange(200) // 3))
    as_classes = both.assign(p_bogus=1 - score, p_real=score)
    one, two = operating_points(both), class_points(as_classes, ('bogus', 'real')).points['real']
    for name in ('auc_pr', 'auc_pr_interval', 'auc_roc_interval', 'fnr_at_fpr_interval'):
        assert getattr(one, name) == getattr(two, name)


def test_balanced_train_shows_each_class_as_often(tmp_path):
    names = repeated('a', objects=40) + repeated('b', objects=10) + repeated('c', objects=10)
    order = np.random.default_rng(0).permutation(60)
    names = [names[PER_OBJECT * k] for k in order for _ in range(PER_OBJECT)]
    dataset = version(tmp_path, names)
    model, _, _ = trained(dataset, classes=['a', 'b', 'c'], epochs=1, balanced=True)
    shares = model.trained_input['priors']
    assert max(shares.values()) - min(shares.values()) < 0.05
    natural, _, _ = trained(dataset, classes=['a', 'b', 'c'], epochs=1)
    there = dataset.samples[dataset.samples['split'] == 'train']['class_name'].value_counts()
    for name, share in natural.trained_input['priors'].items():
        assert share == pytest.approx(there[name] / there.sum())


def test_the_device_way_gives_the_same_batches(planted):
    options = dict(batch_size=16, classes=True)
    plain = RealDataLoader(planted).loaders(**options)
    device = RealDataLoader(planted).loaders(mode='device', device='cpu', **options)
    for one, other in zip(plain, device):
        for wanted, batch in zip(one, other, strict=True):
            assert torch.equal(batch['label'], wanted['label'])
            assert torch.equal(batch['index'], wanted['index'])


def test_a_data_module_takes_classes(planted):
    module = DataModule(planted, batch_size=8, classes=True)
    assert next(iter(module.val_dataloader()))['label'].dtype == torch.int64


def test_a_module_of_ones_own_is_given_names(planted):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.classes = ['narrow', 'round', 'trail']
            self.last = nn.Linear(SIDE * SIDE, 3)

        def forward(self, x):
            return self.last(x.flatten(1))

    train, val, test = RealDataLoader(planted).loaders(batch_size=16, classes=True)
    model = Own()
    fit(model, train, val, epochs=1, show=False, device='cpu')
    assert evaluate(model, test, n_boot=100).classes == ('narrow', 'round', 'trail')
    assert classes_of(model).names == ('narrow', 'round', 'trail')


# ---- what a model keeps, and what is refused


def test_the_model_keeps_classes_priors_and_numbers(learnt, planted):
    model, (train, _, _), _ = learnt
    known = model.trained_input
    assert known['classes'] == dict(
        names=['narrow', 'round', 'trail'], words={k: k for k in ('narrow', 'round', 'trail')}
    )
    assert sum(known['priors'].values()) == pytest.approx(1)
    assert 'prior' not in known
    assert known['normaliser'] == train.dataset.normaliser.to_dict()


def test_another_version_is_read_with_the_classes_of_the_model(learnt, tmp_path):
    model = learnt[0]
    names = repeated('trail', 'narrow', 'comet', objects=12)
    other = version(tmp_path, names)
    with pytest.warns(UserWarning, match="other classes take no part: 'comet' \\(24\\)"):
        data = PatchDataset(other, 'train', classes=classes_of(model))
    assert data.classes.names == ('narrow', 'round', 'trail')
    assert set(data.labels.tolist()) == {0, 2}


def test_labels_that_mean_something_else_are_refused(learnt, planted):
    model, (train, val, test), _ = learnt
    plain = RealDataLoader(planted).loaders(batch_size=16)
    binary = SmallCNN(width=4)
    two = RealDataLoader(planted).loaders(batch_size=16, classes=['narrow', 'trail'])
    for wrong, loaders in ((model, plain), (binary, (train, val, test)), (model, two)):
        with pytest.raises(BadInput, match='classes='):
            predict(wrong, loaders[2])
        with pytest.raises(BadInput, match='classes='):
            evaluate(wrong, loaders[2])
        with pytest.raises(BadInput, match='classes='):
            fit(wrong, *loaders[:2], epochs=1, show=False, device='cpu')
    with pytest.raises(BadInput, match='classes='):
        fit(binary, plain[0], val, epochs=1, show=False, device='cpu')
    with pytest.raises(BadInput):
        fit(SmallUNet(width=4), train, val, epochs=1, show=False, device='cpu')


def test_what_is_for_real_and_bogus_says_what_there_is(learnt):
    model, (train, val, test), history = learnt
    with pytest.raises(BadInput, match='commonest class'):
        evaluate_baseline(train, test)
    with pytest.raises(BadInput, match='real and bogus'):
        predict(model, test, survey_prior=0.1)
    with pytest.raises(BadInput, match='real and bogus'):
        evaluate(model, test, survey_prior=0.1)


def test_a_checkpoint_goes_on_and_is_read_again(planted, tmp_path):
    path = tmp_path / 'model.pt'
    train, val, test = RealDataLoader(planted).loaders(batch_size=16, classes=True)
    how = dict(show=False, device='cpu', checkpoint=path)
    model = SmallCNN(width=4, classes=train.dataset.classes)
    fit(model, train, val, epochs=2, **how)
    again = SmallCNN(width=4, classes=train.dataset.classes)
    load_checkpoint(path, again)
    pd.testing.assert_frame_equal(predict(model, test), predict(again, test))
    renamed = SmallCNN(width=4, classes=['x', 'y', 'z'])
    load_checkpoint(path, renamed)
    other_names = ClassList(('x', 'y', 'z'), dict(narrow='x', round='y', trail='z'))
    read = quietly(RealDataLoader(planted).loaders, batch_size=16, classes=other_names)
    with pytest.raises(BadInput, match='in this order'):
        predict(renamed, read[2])


def test_labels_that_are_no_class_never_train(learnt):
    model, (train, _, _), _ = learnt
    batch = dict(image=torch.zeros(2, 1, SIDE, SIDE), label=torch.tensor([0, 3]))
    with pytest.raises(BadInput, match='whole numbers from 0 to 2'):
        fit(SmallCNN(width=4, classes=['a', 'b', 'c']), [batch], epochs=1, show=False, device='cpu')


def test_a_threshold_of_val_is_judged_on_test(learnt):
    model, (_, val, test), _ = learnt
    table = evaluate(model, test, rate=0.1, choose_on=val, n_boot=100).table
    assert (table['chosen_fpr_low'] <= table['chosen_fpr']).all()
    assert (table['chosen_fpr'] <= table['chosen_fpr_high']).all()
    with pytest.raises(BadInput, match='samples that are judged'):
        evaluate(model, test, choose_on=test)


def test_the_look_at_test_and_the_score_are_noted(planted, learnt):
    model, (_, _, test), _ = learnt
    before = len(planted.test_scores)
    report = evaluate(model, test, n_boot=100)
    assert len(planted.test_scores) == before + 1
    assert report.scored_before is not None
    assert 'OPTIMISTIC' in repr(evaluate(model, learnt[1][1], n_boot=100, prefix='val'))


def test_a_class_that_is_not_judged_is_unknown_and_not_zero():
    scores = pd.DataFrame(
        dict(label=[0, 0, 1, 1], group=list('abcd'), p_a=[0.9, 0.8, 0.1, 0.2], p_b=0.1, p_c=0.0)
    )
    report = class_points(scores, ('a', 'b', 'c'), n_boot=100)
    row = report.table.loc['c']
    assert pd.isna(row['auc_pr']) and pd.isna(row['called_rightly']) and pd.isna(row['found'])
    assert 'test_c/auc_pr' not in report.metrics()
    assert "no samples of 'c'" in repr(report)
    plot_confusion(confusion(scores, ('a', 'b', 'c')))


def test_a_list_survives_json():
    listed = ClassList(('a', 'b'), {'x': 'a', 'b': 'b'})
    again = ClassList.from_dict(json.loads(json.dumps(listed.to_dict())))
    assert (again.names, again.words) == (listed.names, listed.words)


def test_the_splitter_deals_each_class(tmp_path):
    from astrid_data.splits.assign import split_samples

    n = 300
    rng = np.random.default_rng(0)
    samples = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            object_id=[f'o{i // 2}' for i in range(n)],
            ra=rng.uniform(0, 360, n // 2).repeat(2),
            dec=rng.uniform(-60, 60, n // 2).repeat(2),
            label=1,
            class_name=np.repeat(['a'] * 120 + ['b'] * 20 + ['c'] * 10, 2),
            survey='s',
        )
    )
    split = split_samples(samples, patch_size=32, seed=3).split
    table = pd.crosstab(samples['class_name'], split)
    assert (table[['train', 'val', 'test']] > 0).all(axis=None)


# ---- what is kept of a run


class FakeRun:
    "Takes what a run takes, and keeps it"

    def __init__(self):
        self.metrics, self.texts, self.figures = {}, {}, {}

    def log_metrics(self, values, step=None):
        self.metrics |= values

    def log_text(self, text, name):
        self.texts[name] = text

    def log_figure(self, figure, name):
        self.figures[name] = figure


def test_a_run_gets_metrics_of_each_class_and_the_picture(learnt):
    run = FakeRun()
    report = evaluate(learnt[0], learnt[1][2], n_boot=100, run=run)
    for name in report.classes:
        assert run.metrics[f'test_{name}/auc_pr'] == report.points[name].auc_pr
    assert 'test_confusion.png' in run.figures
    assert json.loads(run.texts['test_classes.json'])['classes'] == list(report.classes)
    assert len(run.texts['test_scores.csv'].splitlines()) == report.n + 1


def test_a_saved_model_gives_the_same_probabilities(learnt, planted, tmp_path):
    pytest.importorskip('mlflow')
    from astrid_data.tracking.saved_model import load_weights, model_facts, save_model

    model, (train, _, test), _ = learnt
    folder = save_model(model, train, tmp_path / 'saved')
    assert model_facts(model, folder)['model_type'] == 'classifier'
    raw = load_weights(SmallCNN(width=4, classes=model.classes), folder)
    scores = predict(model, test)
    chances = raw.predict(planted.patches(scores['index'].to_numpy()))
    expected = scores[[f'p_{name}' for name in model.classes]].to_numpy()
    np.testing.assert_allclose(chances, expected, atol=1e-5)
    assert classes_of(raw.model).names == model.classes
    from astrid_data.inference.load import load_classifier

    assert load_classifier(folder).classes == model.classes


# ---- a classifier of classes


@pytest.fixture(scope='module')
def classifier(learnt):
    from astrid_data.inference.classifier import classifier_of

    model, (train, val, _), _ = learnt
    return classifier_of(model, train, val)


def test_a_classifier_of_classes_is_calibrated_and_says_what_predict_says(
    classifier, learnt, planted
):
    scores = predict(learnt[0], learnt[1][2])
    answer = classifier.answer(planted.patches(scores['index'].to_numpy()))
    expected = scores[[f'p_{name}' for name in classifier.classes]].to_numpy()
    np.testing.assert_allclose(answer['chances'], expected, atol=1e-5)
    np.testing.assert_allclose(answer['score'], expected.max(1), atol=1e-5)
    assert classifier.facts['calibration']['n_of'].keys() == set(classifier.classes)
    assert 'largest score is called' in classifier.facts['unknown']['threshold']
    assert 'classes narrow, round, trail' in repr(classifier)
    card = classifier.card()
    assert 'It tells apart narrow, round, trail' in card and 'a number for each class' in card


def test_new_sky_is_scored_by_class(classifier, planted):
    table = quietly(classifier.score, planted)
    columns = [f'p_{name}' for name in classifier.classes]
    np.testing.assert_allclose(table[columns].sum(axis=1), 1)
    right = table['called'].to_numpy() == planted.samples['class_name'].to_numpy()
    assert right.mean() > 0.9 and 'called_real' not in table
    own = [row[f'p_{row["called"]}'] for _, row in table.iterrows()]
    np.testing.assert_allclose(table['probability'], own)
    rare = quietly(classifier.score, planted, prior=dict(narrow=0.98, round=0.01, trail=0.01))
    assert (rare['p_trail'] <= table['p_trail']).all()
    with pytest.raises(BadInput, match=r'give a share of each class \(narrow, round, trail\)'):
        classifier.score(planted, prior=0.01)
    with pytest.raises(BadInput, match='ask chances_at'):
        classifier.probability_at([0.5])


def test_at_a_prior_the_most_probable_class_is_called(classifier, planted):
    from astrid_data.inference.score import scale_words

    mostly = dict(narrow=1 - 2e-9, round=1e-9, trail=1e-9)
    table = quietly(classifier.score, planted, prior=mostly)
    columns = [f'p_{name}' for name in classifier.classes]
    said = classifier.answer(planted.patches(np.arange(len(table))))['chances']
    top = table[columns].to_numpy().argmax(1)
    assert table['called'].tolist() == [classifier.classes[k] for k in top]
    np.testing.assert_allclose(table['score'], said[np.arange(len(top)), top], atol=1e-5)
    np.testing.assert_allclose(table['probability'], table[columns].max(axis=1))
    usual = quietly(classifier.score, planted)
    assert (table['called'] == 'narrow').sum() > (usual['called'] == 'narrow').sum()
    assert 'the class that is most probable' in scale_words(classifier, mostly)
    assert 'the class that has the largest score' in scale_words(classifier)


def test_a_shell_and_rest_take_shares_of_classes(classifier, tmp_path, capsys):
    from astrid_data.cli import main
    from astrid_data.web_models import ScoreBody

    raw, to = tmp_path / 'raw.parquet', tmp_path / 'x.csv'
    words = ['score', str(classifier.save(tmp_path / 'kept')), str(raw), '--to', str(to)]
    pd.DataFrame(dict(candid=[1, 2], cutoutScience=[b'', b''])).to_parquet(raw)
    each = 'share of each class (narrow, round, trail)'
    wrong = {'0.1': each, 'narrow=0.9,round=0.1': each, 'narrow=1,round=0,trail=0': 'add up to 1'}
    wrong['narrow=0.8,round=0.1,trail=0.1'] = 'this model takes image'  # So the prior is fine
    for prior, told in wrong.items():
        assert main([*words, '--prior', prior]) == 1
        assert told in capsys.readouterr().err
    assert ScoreBody(packets=[{}], prior=dict(narrow=0.9, round=0.1)).prior['round'] == 0.1


def test_a_folder_and_a_file_of_onnx_answer_the_same(classifier, planted, tmp_path):
    from astrid_data.inference.load import load_classifier

    raw = planted.patches(np.arange(30))
    ours = classifier.answer(raw)
    again = load_classifier(classifier.save(tmp_path / 'kept'))
    assert (again.version, again.classes) == (classifier.version, classifier.classes)
    np.testing.assert_allclose(again.answer(raw)['chances'], ours['chances'], atol=1e-6)
    pytest.importorskip('onnxruntime')
    file = load_classifier(classifier.to_onnx(tmp_path / 'kept.onnx'))
    theirs = file.answer(raw)
    np.testing.assert_allclose(theirs['chances'], ours['chances'], atol=1e-5)
    np.testing.assert_allclose(theirs['distance'], ours['distance'], rtol=1e-3, atol=1e-3)
    assert file.answer(raw[:0])['chances'].shape == (0, 3)
    unknown = np.full((len(raw), 1, 2), np.nan, 'f4')
    said, calibrated, _ = file.session.run(None, dict(patches=raw, levels=unknown))
    np.testing.assert_allclose(calibrated, classifier.chances_at(said), atol=1e-5)


def test_an_archive_keeps_no_classes_and_a_shell_shows_them(classifier, planted, tmp_path):
    from astrid_data.inference.archive_scores import score_archive
    from astrid_data.verbs import _keep_highest, _scale

    with pytest.raises(BadInput, match=r'archive.score is for real and bogus.*model.score\(plan\)'):
        score_archive(None, classifier)
    table, highest = quietly(classifier.score, planted), []
    assert len(list(_keep_highest([table], highest))) == 1
    assert list(highest[0]) == ['name', 'score', 'probability', 'called']
    assert _scale(classifier, None)['prior'] == classifier.facts['calibration']['priors']


@pytest.mark.parametrize('wrong', [dict(names=['a']), dict(names=['narrow', 'round']), [], 'x'])
def test_facts_of_other_classes_are_refused(classifier, wrong):
    from astrid_data.inference.classifier import check_facts

    facts = classifier.facts | dict(version='x')
    check_facts(facts, 'fine')
    with pytest.raises(BadInput, match='is no classifier'):
        check_facts(facts | dict(input=facts['input'] | dict(classes=wrong)), 'odd')


def test_mistakes_of_classes_are_broken_down(learnt, planted):
    report = evaluate(learnt[0], learnt[1][2], n_boot=100, by=('class_name', 'label'))
    assert (report.by['label'].groupby('class')['label'].nunique() > 1).all()
    table = report.by['class_name']
    part = table[(table['class'] == 'trail') & (table['class_name'] == 'trail')]
    found = report.confusion.loc['trail', 'trail'] / report.confusion.loc['trail'].sum()
    assert part['completeness'].item() == pytest.approx(found)
    assert set(table['class']) == set(report.classes)
    run = FakeRun()
    from astrid_data.tracking.run import log_report

    log_report(run, report)
    assert 'test_by_class_name.csv' in run.texts and 'test_by.png' in run.figures


# --- names that look alike, and those that cannot be kept


@pytest.mark.parametrize('names', [('a', 'a\u200b'), ('1', '1.0'), ('b', 'b\x01'), ('2', '２')])
def test_names_that_look_alike_are_refused(names, tmp_path):
    dataset = version(tmp_path / 'v', repeated(*names, objects=14))
    with pytest.raises(BadInput, match='differ only in how they are written'):
        class_list(dataset)


def test_a_name_that_nobody_sees_is_no_class(tmp_path):
    dataset = version(tmp_path / 'v', repeated('a', 'b', '\u200b', objects=14))
    assert quietly(class_list, dataset).names == ('a', 'b')


def test_no_class_at_all_is_said(tmp_path):
    dataset = version(tmp_path / 'v', repeated('a', 'b', objects=4))
    with pytest.raises(BadInput, match='has 0 classes to learn'):
        class_list(dataset)


@pytest.mark.parametrize('name', ['\x00', 'a\x00b'])
def test_a_name_that_no_manifest_holds_is_not_written(name, tmp_path):
    with pytest.raises(BadInput, match='class_name is no text that can be kept'):
        version(tmp_path / 'v', repeated(name, 'b'))
    assert not list(tmp_path.glob('v/*'))


# --- what is no list of classes


class OneLayer(nn.Module):
    "A linear network with a list `classes` of its own"

    def __init__(self, classes, n_logits=1):
        super().__init__()
        self.classes = classes
        self.layer = nn.Linear(SIDE * SIDE, n_logits)

    def forward(self, x):
        return self.layer(x.flatten(1))


def plain_batch(label):
    return dict(image=torch.rand(len(label), 1, SIDE, SIDE), label=torch.as_tensor(label))


@pytest.mark.parametrize('classes', [['bogus', 'real'], ('a',), pd.Index(['cat', 'dog'])])
def test_one_logit_is_of_real_and_bogus_whatever_names_are_there(classes, tmp_path):
    model, batches = OneLayer(classes), [plain_batch([0, 1] * 4)]
    quietly(fit, model, batches, epochs=1, show=False, device='cpu')
    assert class_names_of(model) is None
    loaders = RealDataLoader(pretend_dataset(tmp_path, 90, SIDE)).loaders(batch_size=16)
    model = OneLayer(classes)
    quietly(fit, model, *loaders[:2], epochs=1, show=False, device='cpu')
    report = quietly(evaluate, OneLayer(classes), loaders[2], n_boot=100)
    assert report.auc_roc is not None and 'score' in report.scores


def test_several_logits_are_of_classes_and_not_of_real_and_bogus(tmp_path):
    loaders = RealDataLoader(pretend_dataset(tmp_path, 90, SIDE)).loaders(batch_size=16)
    with pytest.raises(BadInput, match='tells classes apart'):
        fit(OneLayer(['bogus', 'real'], 2), loaders[0], epochs=1, show=False, device='cpu')


@pytest.mark.parametrize('container', [list, np.array, pd.Index, pd.Series])
def test_names_in_any_list_are_classes(container):
    model = OneLayer(container(['a', 'b', 'c']), 3)
    quietly(fit, model, [plain_batch([0, 1, 2])], epochs=1, show=False, device='cpu')
    assert class_names_of(model) == ('a', 'b', 'c')


def test_truth_values_are_no_numbers_of_classes():
    batches = [plain_batch([True, False])]
    model = SmallCNN(width=4, classes=['a', 'b', 'c'])
    with pytest.raises(BadInput, match='a class is a number'):
        fit(model, batches, epochs=1, show=False, device='cpu')
    with pytest.raises(BadInput, match='a class is a number'):
        evaluate(model, batches, n_boot=100)


def test_no_batch_at_all_is_a_report_that_knows_nothing():
    report = evaluate(SmallCNN(width=4, classes=['a', 'b']), [], n_boot=100)
    assert (report.n, report.macro_auc_pr, report.accuracy['accuracy']) == (0, None, None)
    assert report.baseline['class_name'] is None
    assert 'no samples of' in repr(report)
