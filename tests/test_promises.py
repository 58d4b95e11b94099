"A model is shown its own numbers, is trained until it has learnt, and says so where it has not"

import copy
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from dying import die, run_forked

from astrid_data.core import BadInput
from astrid_data.datasets.dataset import write_dataset
from astrid_data.loading.batches import PatchLoader
from astrid_data.loading.loader import RealDataLoader
from astrid_data.loading.model_input import known_input, normaliser_of
from astrid_data.loading.patch_dataset import PatchDataset, collate
from astrid_data.tracking.saved_model import _load_pyfunc, save_model
from astrid_data.training import stopping
from astrid_data.training.baseline import evaluate_baseline
from astrid_data.training.checkpoints import load_checkpoint, save_checkpoint
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN
from astrid_data.training.predict import evaluate, predict

torch.set_num_threads(1)


def version(
    folder, name, spread=1.0, splits=('train', 'train', 'val', 'test'), channels=('image',)
):
    "Blobs on noise; the noise of the headers is 1, whatever the spread"
    rng, n, side = np.random.default_rng(3), 160, 16
    label = np.arange(n) // len(splits) % 2
    y, x = np.mgrid[:side, :side] - side // 2
    blob = np.exp(-(x**2 + y**2) / 4)
    pixels = rng.normal(size=(n, len(channels), side, side)) + 2 * label[:, None, None, None] * blob
    table = pd.DataFrame(dict(label=label, origin='survey', split=np.resize(splits, n)))
    table['sample_key'] = [f'{i:032x}' for i in range(n)]
    table['group_id'] = [f'g{i}' for i in range(n)]
    levels = {f'{c}_{k}': v for c in channels for k, v in dict(background=0.0, noise=1.0).items()}
    pixels = (spread * pixels).astype('f4')
    how = dict(name=name, channels=list(channels))
    return write_dataset(folder / name, table.assign(**levels), pixels, **how)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    return tmp_path_factory.mktemp('versions')


@pytest.fixture(scope='module')
def old(home):
    return version(home, 'old')


@pytest.fixture(scope='module')
def other(home):
    return version(home, 'other', spread=4.0)


def loaders(dataset, **more):
    return RealDataLoader(dataset).loaders(batch_size=32, augment=False, **more)


@pytest.fixture(scope='module')
def model(old):
    net = SmallCNN()
    train, val, _ = loaders(old)
    fit(net, train, val, epochs=3, show=False)
    return net


def right_scores(model, other):
    "The other version's test split, normalised by hand with the numbers of the model"
    rows = other.split_rows('test')
    levels = np.zeros((len(rows), 1)), np.ones((len(rows), 1))
    image = normaliser_of(model)(other.patches(rows), *levels)
    with torch.no_grad():
        return copy.deepcopy(model).eval()(image).sigmoid().numpy()


def check(model, other, loader):
    scores = predict(model, loader).sort_values('index')['score'].to_numpy()
    np.testing.assert_allclose(scores, right_scores(model, other), atol=1e-5)


def plain_loader(data, **more):
    return torch.utils.data.DataLoader(data, 16, collate_fn=collate, **more)


def test_the_numbers_differ_or_nothing_is_tested(old, other):
    one, two = (d.manifest['normalisation']['params']['scale'][0] for d in (old, other))
    assert two > 1.5 * one


@pytest.mark.parametrize('wrap', ['own', 'torch', 'subset', 'joined', 'workers', 'method'])
def test_another_version_is_shown_with_the_numbers_of_the_model(model, other, wrap):
    data = PatchDataset(other, 'test')
    everything = range(len(data))
    loader = dict(
        own=lambda: PatchLoader(data, 16),
        torch=lambda: plain_loader(data),
        subset=lambda: plain_loader(torch.utils.data.Subset(data, list(everything))),
        joined=lambda: torch.utils.data.DataLoader(torch.utils.data.ConcatDataset([data]), 16),
        workers=lambda: plain_loader(data, num_workers=1, persistent_workers=True),
        method=lambda: loaders(other, normalise='zscale')[2],
    )[wrap]()
    before = next(iter(loader))['image'].clone()  # Workers that stay have begun
    check(model, other, loader)
    assert torch.equal(next(iter(loader))['image'], before)  # The loader stays as it was


@pytest.mark.parametrize('way', ['copy', 'checkpoint', 'fit checkpoint', 'saved', 'pickle', 'part'])
def test_the_numbers_travel_with_the_model(model, old, other, tmp_path, way):
    again = SmallCNN(seed=9)
    if way == 'copy':
        again = copy.deepcopy(model)
    elif way == 'checkpoint':
        load_checkpoint(save_checkpoint(tmp_path / 'c.pt', model), again)
    elif way == 'fit checkpoint':
        train, val, _ = loaders(old)
        fit(again, train, val, epochs=1, checkpoint=tmp_path / 'c.pt', show=False)
        again = SmallCNN()
        load_checkpoint(tmp_path / 'c.pt', again)
    elif way == 'saved':
        folder = save_model(model, loaders(old)[0], tmp_path / 'm')
        again = _load_pyfunc(next(p.parent for p in folder.rglob('input.json'))).model
    elif way == 'pickle':
        torch.save(model, tmp_path / 'm.pt')
        again = torch.load(tmp_path / 'm.pt', weights_only=False)
    else:  # What was inside a wrapper, and what is wrapped later
        wrapped = torch.nn.Sequential(torch.nn.Identity(), again)
        fit(wrapped, *loaders(old)[:2], epochs=1, show=False)
        assert known_input(torch.nn.Sequential(again)) == known_input(again)
    assert normaliser_of(again) == normaliser_of(model)
    check(again, other, loaders(other)[2])


def test_evaluate_gives_the_same_as_with_loaders_of_the_model(model, other):
    val, test = loaders(other)[1:]
    right = loaders(other, normalise=normaliser_of(model))
    got = evaluate(model, test, choose_on=val, n_boot=10, survey_prior=0.1)
    wanted = evaluate(model, right[2], choose_on=right[1], n_boot=10, survey_prior=0.1)
    assert got.metrics() == wanted.metrics() and got.chosen == wanted.chosen


def test_the_best_epoch_is_chosen_on_the_numbers_of_train(old, other):
    one, two = SmallCNN(), SmallCNN()
    train, val, _ = loaders(old)
    right = loaders(other, normalise=train.dataset.normaliser)[1]
    a = fit(one, loaders(old)[0], loaders(other)[1], epochs=2, show=False)
    b = fit(two, loaders(old)[0], right, epochs=2, show=False)
    assert a.epochs['val_loss'].tolist() == b.epochs['val_loss'].tolist()


def test_a_baseline_is_shown_the_numbers_of_train(old, other):
    train = loaders(old)[0]
    right = loaders(other, normalise=train.dataset.normaliser)[2]
    got, wanted = (evaluate_baseline(train, t, n_boot=10) for t in (loaders(other)[2], right))
    assert got.metrics() == pytest.approx(wanted.metrics())


def test_other_channels_are_refused(home):
    kinds = ('template', 'science')
    net = SmallCNN(channels=2)
    fit(net, *loaders(version(home, 'two', channels=kinds))[:2], epochs=1, show=False)
    turned = version(home, 'turned', channels=kinds[::-1])
    with pytest.raises(BadInput, match='same channels in the same order'):
        predict(net, loaders(turned)[2])


def test_numbers_fitted_on_nothing_are_refused(home, model):
    held = version(home, 'held', splits=('test',))
    data = PatchDataset(held, 'test')
    for run in (evaluate, predict):
        with pytest.raises(BadInput, match='held@v1 .*fitted on 0 rows.*normaliser_of'):
            run(SmallCNN(), PatchLoader(data, 32))
    with pytest.raises(BadInput, match='fitted on 0 rows'):
        fit(SmallCNN(), PatchLoader(PatchDataset(held, np.arange(40)), 16), epochs=1)
    predict(SmallCNN(), PatchLoader(PatchDataset(held, 'test', normalise=None), 32))
    check(model, held, PatchLoader(data, 32))


def test_what_is_not_known_is_said(model, old, other):
    batches = list(loaders(other)[2])
    with pytest.raises(BadInput, match='do not say how they were normalised'):
        predict(model, batches)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        predict(SmallCNN(), batches)  # Nothing is known of either
        predict(model, loaders(old)[2])
    with pytest.warns(UserWarning, match='trained with other numbers.*learns these anew'):
        fit(again := copy.deepcopy(model), *loaders(other)[:2], epochs=1, show=False)
    assert normaliser_of(again) != normaliser_of(model)
    load_checkpoint_of_nothing = SmallCNN()
    assert known_input(load_checkpoint_of_nothing) is None


def test_other_weights_have_other_numbers(model, tmp_path):
    path = save_checkpoint(tmp_path / 'w.pt', SmallCNN())
    again = copy.deepcopy(model)
    load_checkpoint(path, again)
    assert known_input(again) is None


def test_another_loader_is_not_saved_with_a_model(model, old, other, tmp_path):
    with pytest.raises(BadInput, match='other numbers than this model was trained with'):
        save_model(model, loaders(other)[0], tmp_path / 'm')


# --- as long as it takes


def test_without_a_number_of_epochs_it_trains_until_nothing_gets_better(old):
    net = SmallCNN()
    train, val, test = loaders(old)
    history = fit(net, train, val, show=False)
    steps = len(history) * len(train)
    assert history.converged is True and steps >= 200 and 'nor at a tenth' in history.stop_reason
    assert history.measure == 'val_loss'
    assert history.epochs['val_loss'].idxmin() == history.best_epoch
    assert predict(net, val)['loss'].mean() == pytest.approx(history.epochs['val_loss'].min())
    short = SmallCNN()
    assert fit(short, train, val, epochs=5, show=False).converged is None
    assert evaluate(net, test, n_boot=10).auc_pr > evaluate(short, test, n_boot=10).auc_pr


def test_a_ceiling_is_said(old, monkeypatch):
    monkeypatch.setattr('astrid_data.training.stopping._CEILING', (6, 1))
    with pytest.warns(UserWarning, match='has not converged: stopped at the ceiling'):
        history = fit(SmallCNN(), *loaders(old)[:2], show=False)
    assert history.converged is False and 'NOT CONVERGED' in repr(history)


def test_without_val_it_is_unknown(old):
    with pytest.warns(UserWarning, match='without val nobody can tell'):
        history = fit(SmallCNN(), loaders(old)[0], show=False)
    assert history.converged is None and len(history) == 67  # 200 steps of three an epoch


def test_val_of_one_label_does_not_end_a_training(old):
    train, val, _ = loaders(old)
    real = old.split_rows('val')[old.samples['label'].iloc[old.split_rows('val')] == 1]
    one_label = PatchLoader(PatchDataset(old, real), batch_size=8)
    with pytest.warns(UserWarning, match='with one label in val nobody can tell'):
        history = fit(SmallCNN(), train, one_label, show=False)
    assert history.converged is None and len(history) == 67


def test_labels_of_val_that_are_no_numbers_are_refused():
    def batches(labels):
        return [dict(image=torch.randn(len(labels), 1, 32, 32), label=torch.tensor(labels))]

    with pytest.raises(BadInput, match='batch 1 of val: 2 of 2 labels are no number'):
        train, val = batches([0.0, 1.0] * 2), batches([float('nan')] * 2)
        fit(SmallCNN(), train, val, epochs=1, show=False)


def test_an_easy_set_is_given_its_patience(old):
    history = fit(SmallCNN(), *loaders(old)[:2], patience=2, show=False)
    assert len(history) * 3 >= 200 and 'no better for 2 epochs' in history.stop_reason


class Deadly:
    "Batches of a loader; the process dies in the middle of an epoch"

    epoch = 0

    def __init__(self, loader, dies_in):
        self.loader, self.dataset, self.dies_in = loader, loader.dataset, dies_in

    def __len__(self):
        return len(self.loader)

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.loader.set_epoch(epoch)

    def __iter__(self):
        for k, batch in enumerate(self.loader):
            if self.epoch == self.dies_in and k == 1:
                die()
            yield batch


def train_or_die(dataset, folder, dies_in, seed):
    stopping._FLOOR, stopping._PATIENCE = (12, 3), (6, 2)
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Dropout(0.2), SmallCNN(seed=seed))
    train, val, _ = RealDataLoader(dataset).loaders(batch_size=32)
    deadly = Deadly(train, dies_in)
    h = fit(model, deadly, val, lr=0.03, checkpoint=folder / 'c.pt', resume=True)
    torch.save((model.state_dict(), known_input(model)['prior'], len(h)), folder / 'done')


def test_killed_before_and_after_the_second_chance_it_ends_the_same(tmp_path):
    dataset = version(tmp_path, 'v')

    def run(name, dies_in, seed=0):
        (tmp_path / name).mkdir(exist_ok=True)
        return run_forked(train_or_die, dataset, tmp_path / name, dies_in, seed)

    assert run('whole', -1) == 0
    weights, prior, epochs = torch.load(tmp_path / 'whole' / 'done', weights_only=True)
    assert prior == 0.5 and epochs > 5
    assert run('killed', 2) == run('killed', epochs - 1, seed=1) == -signal.SIGKILL
    assert run('killed', -1, seed=2) == 0
    again, *same = torch.load(tmp_path / 'killed' / 'done', weights_only=True)
    assert same == [prior, epochs] and all(torch.equal(weights[k], again[k]) for k in weights)


def test_scores_at_a_prior_on_request(model, old):
    test = loaders(old)[2]
    scores = predict(model, test, survey_prior=0.01)
    odds = scores['score'] / (1 - scores['score']) / 99  # It was trained on halves
    assert scores['score_at_prior'].to_numpy() == pytest.approx((odds / (1 + odds)).to_numpy())
    with pytest.raises(BadInput, match='which share of real'):
        predict(SmallCNN(), test, survey_prior=0.01)


def test_samples_of_another_version_that_taught_the_model_are_named(tmp_path):
    "The same question cut at another size has the same samples in other splits"
    import astrid_data as ad
    from astrid_data.simulate.synthetic import synthetic_archive

    archive = synthetic_archive(tmp_path / 'a')
    plan = ad.TrainingDataCollector(archive).plan(progress=False)
    one = plan.build('one', patch_size=32, progress=False, probe=False)
    two = plan.build('two', patch_size=48, progress=False, probe=False)
    train, val, test = ad.RealDataLoader(one).loaders(batch_size=32)
    model = ad.SmallCNN(channels=1)
    ad.fit(model, train, val, epochs=1, show=False)
    taught = set(one.samples['sample_key'].iloc[one.split_rows('train')])
    judged = two.samples['sample_key'].iloc[two.split_rows('test')]
    n = judged.isin(taught).sum()
    assert n > 0  # Else this test says nothing
    with pytest.warns(UserWarning, match=f'{n} of {len(judged)} samples are in train of one@v1'):
        report = ad.evaluate(model, ad.RealDataLoader(two).loaders(batch_size=32)[2], n_boot=20)
    assert report.leaks.startswith(f'{n} of {len(judged)} samples')
    assert ad.evaluate(model, test, n_boot=20).leaks == ''
    with pytest.warns(UserWarning, match='samples are in train of one@v1'):
        ad.evaluate(model, train, n_boot=20)


def relabelled(tmp_path, split, label):
    "A version in which all samples of a split have one label"
    pixels = version(tmp_path, 'first')
    table = pixels.samples.copy()
    table.loc[table['split'] == split, 'label'] = label
    patches = np.asarray(pixels.patches(np.arange(len(table))))
    return write_dataset(tmp_path / 'second', table, patches, name='second', channels=['image'])


@pytest.mark.parametrize('label', [0, 1])
def test_a_training_on_one_label_is_warned_of(tmp_path, label):
    train, val, test = loaders(relabelled(tmp_path, 'train', label))
    net = SmallCNN()
    with pytest.warns(UserWarning, match=f'all labels of train are {label}'):
        fit(net, train, val, epochs=1, show=False)
    with pytest.raises(BadInput, match=f'trained={label}.0: a share is above 0'):
        evaluate(net, test, n_boot=20, survey_prior=0.1)


def test_labels_that_are_none_are_refused(tmp_path):
    train, val, _ = loaders(relabelled(tmp_path, 'train', -1))
    with pytest.raises(BadInput, match='labels of train are .-1.*: 1 is real and 0 is bogus'):
        fit(SmallCNN(), train, val, epochs=1, show=False)


@pytest.mark.parametrize('name', ['lr', 'weight_decay'])
@pytest.mark.parametrize('wrong', [np.nan, np.inf, -1e-3, '0.1', None])
def test_rates_that_make_no_sense_are_refused_by_name(old, name, wrong):
    train, val, _ = loaders(old)
    with pytest.raises(BadInput, match=f'{name}='):
        fit(SmallCNN(), train, val, epochs=1, show=False, **{name: wrong})


def test_a_threshold_that_cannot_be_chosen_is_said(tmp_path, model):
    _, val, test = loaders(relabelled(tmp_path, 'val', 1))
    with pytest.warns(UserWarning, match='40 real and 0 bogus samples: no threshold is chosen'):
        report = evaluate(model, test, choose_on=val, n_boot=20)
    assert report.chosen is None
    nothing = version(tmp_path, 'no val', splits=('train', 'train', 'test', 'test'))
    _, val, test = loaders(nothing)
    with pytest.warns(UserWarning, match='0 real and 0 bogus samples: no threshold is chosen'):
        evaluate(model, test, choose_on=val, n_boot=20)


def test_a_model_that_gives_no_numbers_is_not_judged(old):
    class Lost(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, image):
            return image.mean((1, 2, 3)) * self.weight * float('nan')

    with pytest.raises(BadInput, match='40 of 40 scores are no finite numbers'):
        evaluate(Lost(), loaders(old)[2], n_boot=20)
