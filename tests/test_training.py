"Models, loop, operating points, and the calls of AstrID's notebooks"

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from dying import die, run_forked
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from astrid_data.core import BadInput, Conflict, NotFound, SyntheticDataWarning
from astrid_data.datasets.dataset import write_dataset
from astrid_data.evaluation.breakdown import breakdown, completeness, purity, sky_density, worst
from astrid_data.evaluation.intervals import bootstrap, share_interval
from astrid_data.evaluation.report import calibration, operating_points
from astrid_data.evaluation.scores import auc_roc, average_precision, fnr_at_fpr, fpr_at_fnr
from astrid_data.ingest.archive import open_archive
from astrid_data.loading.loader import RealDataLoader
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.simulate.synthetic import synthetic_archive
from astrid_data.tracking.monitor import EnergyMonitor
from astrid_data.training.astrid import (
    RealDataConfig,
    get_real_training_data,
    load_real_training_data,
)
from astrid_data.training.baseline import evaluate_baseline, stamp_statistics
from astrid_data.training.checkpoints import load_checkpoint, read_checkpoint, save_checkpoint
from astrid_data.training.epochs import TrainingDiverged
from astrid_data.training.fit import fit
from astrid_data.training.models import SmallCNN, SmallUNet
from astrid_data.training.predict import evaluate, predict
from astrid_data.training.stopping import EarlyStopping

torch.set_num_threads(1)  # The models here are so small that threads would only wait for each other


def batches(n=96, s=16, size=24, seed=0, channels=1, easy=True):
    "Plain dict batches: a blob in the middle of the real ones"
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 2).astype('f4')
    y, x = np.mgrid[:s, :s] - s // 2
    blob = np.exp(-(x**2 + y**2) / 4)
    image = (
        rng.normal(size=(n, channels, s, s))
        + (4 if easy else 0) * label[:, None, None, None] * blob
    )
    target = (label[:, None, None] * (blob > 0.3)).astype('u1')
    return [
        dict(
            image=torch.tensor(image[i : i + size], dtype=torch.float32),
            label=torch.tensor(label[i : i + size]),
            target=torch.tensor(target[i : i + size]),
            index=torch.arange(i, min(i + size, n)),
        )
        for i in range(0, n, size)
    ]


# --- models


@pytest.mark.parametrize('s', [16, 21, 63, 64])
@pytest.mark.parametrize('channels', [1, 3])
def test_shapes(s, channels):
    x = torch.zeros(2, channels, s, s)
    assert SmallCNN(channels)(x).shape == (2,) and SmallUNet(channels)(x).shape == (2, 1, s, s)


def test_the_classifier_looks_at_the_middle():
    "Every patch has two stars; what matters is whether one of them is in the middle, where the detection in question is"
    n, s = 256, 64
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:s, :s] - s // 2

    def around():
        r, a = rng.uniform(10, 18, n), rng.uniform(0, 2 * np.pi, n)
        return np.stack([r * np.cos(a), r * np.sin(a)], 1)

    def star(at):
        return 5 * np.exp(-((x - at[:, 0, None, None]) ** 2 + (y - at[:, 1, None, None]) ** 2) / 4)

    label = np.arange(n) % 2
    image = torch.tensor(
        rng.normal(size=(n, 1, s, s))
        + (star(np.where(label[:, None], 0, around())) + star(around()))[:, None],
        dtype=torch.float32,
    )
    data = [
        dict(image=image[i : i + 32], label=torch.tensor(label[i : i + 32]))
        for i in range(0, n, 32)
    ]
    model = SmallCNN()
    fit(model, data[:6], None, epochs=6)
    assert evaluate(model, data[6:], n_boot=10).auc_pr > 0.97


def test_what_cannot_be_trained_on_is_said(tmp_path):
    with pytest.raises(BadInput, match='gives no batches: give a loader'):
        fit(SmallCNN(), object())
    for n in (0, 1.5):  # A whole number of at least 1
        with pytest.raises(BadInput, match='whole number'):
            fit(SmallCNN(), batches(), epochs=n)


def test_the_wrong_split_is_warned_of(tmp_path):
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(60)],
            label=np.arange(60) % 2,
            origin='synthetic',
            split=np.repeat(['train', 'val', 'test'], 20),
            image_background=0.0,
            image_noise=1.0,
        )
    )
    d = write_dataset(
        tmp_path / 'v1',
        t,
        np.random.default_rng(0).normal(size=(60, 1, 16, 16)).astype('f4'),
        name='splits',
    )
    train, val, test = RealDataLoader(d).loaders(batch_size=20, augment=False)
    with pytest.warns(UserWarning, match='training on test'):
        fit(SmallCNN(), test, val, epochs=1, show=False)
    with pytest.warns(UserWarning, match='chosen on test'):
        fit(SmallCNN(), train, test, epochs=1, show=False)
    with pytest.warns(UserWarning, match='trained on'):
        fit(SmallCNN(), train, train, epochs=1, show=False)
    rows = d.split_rows('train')
    some, others = (PatchDataset(d, rows[part]) for part in (slice(0, 15), slice(10, 20)))
    batches = [torch.utils.data.DataLoader(part, batch_size=5) for part in (some, others)]
    with pytest.warns(UserWarning, match='^5 of 10 samples of val are trained on'):
        fit(SmallCNN(), *batches, epochs=1, show=False)
    halves = torch.utils.data.random_split(others, [5, 5])
    apart = [torch.utils.data.DataLoader(half, batch_size=5) for half in halves]
    where = torch.utils.data.SubsetRandomSampler(range(10))
    ten = torch.utils.data.DataLoader(some, batch_size=5, sampler=where)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        fit(SmallCNN(), train, val, epochs=1, show=False)
        fit(SmallCNN(), *apart, epochs=1, show=False)
        fit(SmallCNN(), ten, batches[1], epochs=1, show=False)


# --- scores, against scikit-learn and against plain counting

scored = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=40
)


@given(scored)
def test_areas_are_those_of_scikit_learn_with_ties_and_weights(rows):
    label, score, weight = map(np.array, zip(*rows))
    assume(weight[label].sum() and weight[~label].sum())
    assert average_precision(label, score, weight) == pytest.approx(
        average_precision_score(label, score, sample_weight=weight)
    )
    assert auc_roc(label, score, weight) == pytest.approx(
        roc_auc_score(label, score, sample_weight=weight)
    )


@given(scored, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_operating_points_by_trying_every_threshold(rows, rate):
    label, score, _ = map(np.array, zip(*rows))
    assume(label.any() and not label.all())
    lost = {t: (score[label] < t).mean() for t in score}
    passed = {t: (score[~label] >= t).mean() for t in score}
    assert fpr_at_fnr(label, score, fnr=rate)[0] == pytest.approx(
        min(passed[t] for t in score if lost[t] <= rate)
    )
    assert fnr_at_fpr(label, score, fpr=rate)[0] == pytest.approx(
        min([lost[t] for t in score if passed[t] <= rate], default=1.0)
    )


@given(scored)
def test_a_weight_of_two_is_a_sample_twice(rows):
    label, score, weight = map(np.array, zip(*rows))
    twice = np.repeat(np.arange(len(label)), weight)
    a, b = average_precision(label, score, weight), average_precision(label[twice], score[twice])
    assert np.isnan(a) == np.isnan(b) and (np.isnan(a) or a == pytest.approx(b))


def test_the_interval_rests_on_objects():
    rng = np.random.default_rng(0)
    t = pd.DataFrame(dict(label=rng.integers(0, 2, 150), group=np.arange(150)))
    t['score'] = t['label'] + rng.normal(size=150)

    def width(t):
        return np.diff(bootstrap(t, average_precision))[0]

    ten = t.loc[np.repeat(t.index, 10)]
    assert width(ten) == pytest.approx(width(t), rel=0.15)
    assert width(ten.assign(group=np.arange(1500))) < width(t) / 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, truth, hits = np.random.default_rng(3), None, 0

    def draw(n):
        label = rng.integers(0, 2, n)
        return pd.DataFrame(dict(label=label, group=np.arange(n), score=label + rng.normal(size=n)))

    big = draw(200_000)
    truth = average_precision(big['label'], big['score'])
    for _ in range(60):
        low, high = bootstrap(draw(150), average_precision, n=100)
        hits += low <= truth <= high
    assert 50 <= hits <= 60


def test_one_class_has_no_curve():
    t = pd.DataFrame(dict(label=[0] * 5, score=np.linspace(0, 1, 5), group=list('abcde')))
    r = operating_points(t)
    assert (r.auc_pr, r.auc_pr_interval, r.fpr_at_fnr, r.auc_roc) == (None,) * 4
    assert 'no real samples' in r.note
    assert 'test_auc_pr' not in r.metrics()
    assert 'unknown' in repr(r)


def test_too_few_for_one_percent_is_said():
    t = pd.DataFrame(
        dict(
            label=[0, 1] * 40, score=np.random.default_rng(0).uniform(size=80), group=np.arange(80)
        )
    )
    assert 'only 40 real samples' in operating_points(t, n_boot=10).note


def test_calibration_against_plain_counting():
    rng = np.random.default_rng(0)
    t = pd.DataFrame(
        dict(
            score=rng.permutation(np.linspace(0, 1, 200)),
            label=rng.integers(0, 2, 200),
            group=np.arange(200),
        )
    )
    c, parts = calibration(t, 8), np.array_split(t.sort_values('score').index, 8)
    assert c['n'].tolist() == [25] * 8
    assert c['score'].tolist() == pytest.approx([t['score'][i].mean() for i in parts])
    assert c['real'].tolist() == pytest.approx([t['label'][i].mean() for i in parts])
    r = operating_points(t, n_boot=10)
    assert r.brier == pytest.approx(brier_score_loss(t['label'], t['score']))
    assert 'Brier' in repr(r)
    assert r.metrics()['test_brier'] == r.brier
    assert all(
        a == pytest.approx(b, abs=2e-3) for a, b in zip(share_interval(8 / 10, 10), (0.444, 0.975))
    )  # Clopper and Pearson 1934


def test_the_threshold_chosen_elsewhere_is_only_judged():
    t = pd.DataFrame(
        dict(
            label=[1, 1, 1, 1, 0, 0, 0, 0],
            score=[0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.2, 0.1],
            group=list('abcdefgh'),
        )
    )
    r = operating_points(t, n_boot=10, threshold=0.5)
    rates = {name: r.chosen[name] for name in ('threshold', 'fnr', 'fpr')}
    assert rates == dict(threshold=0.5, fnr=0.25, fpr=0.25)
    assert r.metrics()['test_chosen_fpr'] == 0.25
    assert 'another split' in repr(r)
    assert operating_points(t, n_boot=10).chosen is None


@given(scored, st.integers(0, 6))
def test_purity_and_completeness_by_counting(rows, threshold):
    label, score, weight = map(np.array, zip(*rows))
    called, real = np.repeat(score >= threshold, weight), np.repeat(label, weight)
    for got, a, b in ((purity, called & real, called), (completeness, called & real, real)):
        value = got(label.astype(int), score, weight, threshold)
        assert np.isnan(value) if not b.sum() else value == pytest.approx(a.sum() / b.sum())


def test_the_parts_are_all_there_and_what_is_unknown_is_a_part():
    t = pd.DataFrame(
        dict(
            label=[1, 0] * 30,
            score=np.linspace(0, 1, 60),
            mag=[np.nan] * 6 + list(np.linspace(15, 21, 54)),
            band=['g', 'r', None] * 20,
            group=np.arange(60) // 2,
        )
    )
    for column in ('mag', 'band'):
        b = breakdown(t, column, 0.5)
        assert b['n'].sum() == 60 and b['n_real'].sum() == 30 and b[column].iloc[-1] == 'unknown'
        assert (
            (b['completeness_low'] <= b['completeness'])
            & (b['completeness'] <= b['completeness_high'])
        ).all()
    assert breakdown(t, 'mag', 0.5)['n'].tolist() == [14, 13, 13, 14, 6]
    assert breakdown(t, 'band', 0.5)['n'].tolist() == [20] * 3


def test_density_across_ra_0_and_with_few():
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(-1, 1, 500), rng.uniform(-1, 1, 500)
    assert sky_density(ra % 360, dec, np.arange(500)) == pytest.approx(
        sky_density(ra + 180, dec, np.arange(500)), rel=1e-6
    )
    assert np.isnan(sky_density([1, 2, 3], [0, 0, 0], ['a', 'b', 'c'])).all()
    assert np.isnan(sky_density(np.append(ra, np.nan), np.append(dec, 0), np.arange(501))[-1])


def test_the_baseline_is_scikit_learns_regression_on_numbers_anybody_can_check():
    b = batches()
    x = b[0]['image'].numpy().astype('f8')
    t, c = stamp_statistics(x), 8
    assert t['top_0'][3] == x[3, 0, c - 3 : c + 4, c - 3 : c + 4].max() and t['sharp_0'][
        5
    ] == pytest.approx(x[5, 0, c, c] - x[5, 0, c - 1 : c + 2, c - 1 : c + 2].mean())
    assert (
        t['bright_share_0'][1] == (x[1, 0] > 3).mean()
        and t['above_ring_0'][1] > 0.5 > t['above_ring_0'][0]
    )
    assert (
        evaluate_baseline(b, batches(seed=1), n_boot=10).auc_pr > 0.98
        and evaluate_baseline(batches(easy=False), batches(seed=1, easy=False), n_boot=10).auc_pr
        < 0.75
    )


# --- the loop


def test_it_learns_and_says_how():
    model = SmallCNN()
    h = fit(model, batches(), batches(seed=1), epochs=4)
    assert h.epochs['val_auc_pr'].max() > 0.98 and list(h.epochs) == [
        'train_loss',
        'val_loss',
        'val_auc_pr',
        'seconds',
        'data_wait_share',
        'first_batch_s',
    ]
    assert (
        h.measure == 'val_auc_pr'
        and 0 <= h.data_wait_share < 1
        and 'best: epoch' in repr(h)
        and '<table' in h._repr_html_()
    )
    import matplotlib

    matplotlib.use('Agg')
    assert len(h.plot().axes[0].lines) == 4


class NotedBatches(list):
    "Batches that write down when they are asked for"

    def __init__(self, batches, name, seen):
        super().__init__(batches)
        self.name, self.seen = name, seen

    def __iter__(self):
        self.seen.append(self.name)
        return super().__iter__()

    def begin_ahead(self):
        self.seen.append(f'{self.name} ahead')


def test_the_next_epoch_is_begun_before_val_is_looked_at():
    seen = []
    fit(
        SmallCNN(),
        NotedBatches(batches(), 'train', seen),
        NotedBatches(batches(), 'val', seen),
        epochs=3,
    )
    ahead = [place for place, name in enumerate(seen) if name == 'train ahead']
    assert len(ahead) == 2
    for place in ahead:
        assert seen[place - 1 : place + 2] == ['train', 'train ahead', 'val']


def test_training_does_not_import_the_compiler():
    code = """
        import sys
        sys.path.insert(0, 'tests')
        from test_training import SmallCNN, batches, fit, torch
        before = 'torch._dynamo' in sys.modules
        fit(SmallCNN(), batches(), batches(seed=1), epochs=1, show=False)
        assert not before and 'torch._dynamo' not in sys.modules
        torch.optim.AdamW(SmallCNN().parameters())
        assert 'torch._dynamo' in sys.modules  # Or there is nothing to avoid any more
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(code)], check=True, timeout=300)


def test_a_map_is_learnt():
    model, test = SmallUNet(), batches(seed=1)
    fit(model, batches(), None, epochs=12)
    with torch.no_grad():
        found = model.eval()(test[0]['image'])[:, 0] > 0
    target = test[0]['target'].bool()
    assert 2 * (found & target).sum() / (found.sum() + target.sum()) > 0.7
    assert evaluate(model, test, n_boot=10).auc_pr > 0.95


def version(folder, n=80, s=16):
    "Noise with a blob in the middle of the real ones, in splits"
    rng, label = np.random.default_rng(0), np.arange(n) % 2
    y, x = np.mgrid[:s, :s] - s // 2
    data = rng.normal(size=(n, 1, s, s)) + 2 * label[:, None, None, None] * np.exp(
        -(x**2 + y**2) / 4
    )
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=label,
            origin='survey',
            group_id=[f'g{i // 8}' for i in range(n)],
            split=np.where(
                np.arange(n) < n // 2, 'train', np.where(np.arange(n) < 0.7 * n, 'val', 'test')
            ),
        )
    )
    return write_dataset(folder, t, data.astype('f4'), name='x')


@pytest.mark.parametrize('model', [SmallCNN, SmallUNet])
def test_weights_come_from_the_seed_and_leave_torch_alone(model):
    state = torch.get_rng_state()
    a, b, c = ([p.clone() for p in model(seed=k).parameters() if p.ndim == 4] for k in (1, 1, 2))
    assert (
        all(map(torch.equal, a, b))
        and not any(map(torch.equal, a, c))
        and torch.equal(torch.get_rng_state(), state)
    )


def test_two_runs_of_the_same_session_are_the_same(tmp_path):
    "Shuffled, turned, with dropout; whatever has been drawn before"
    d = version(tmp_path / 'v1')

    def session(seed=0):
        torch.rand(3)
        train, val, test = RealDataLoader(d).loaders(batch_size=16)
        model, state = torch.nn.Sequential(torch.nn.Dropout(0.1), SmallCNN()), torch.get_rng_state()
        h, points = (
            fit(model, train, val, epochs=3, seed=seed, show=False),
            evaluate(model, test, n_boot=20),
        )
        assert torch.equal(torch.get_rng_state(), state)
        return h.epochs[['train_loss', 'val_loss', 'val_auc_pr']], h.best_epoch, points.metrics()

    (a, best, points), (b, *again), (other, *_) = session(), session(), session(seed=1)
    assert a.equals(b) and [best, points] == again and not a.equals(other)


def test_a_plain_torch_loader_is_shuffled_by_the_seed():
    data = [{k: b[k][i] for k in ('image', 'label')} for b in batches() for i in range(24)]

    def once():
        return (
            fit(
                SmallCNN(),
                torch.utils.data.DataLoader(data, 24, shuffle=True),
                epochs=2,
                show=False,
            )
            .epochs['train_loss']
            .tolist()
        )

    torch.manual_seed(1)
    a = once()
    torch.manual_seed(2)
    assert once() == a


def test_epochs_are_counted_from_one(capsys, monkeypatch):
    monkeypatch.setenv('ASTRID_DATA_PROGRESS', '1')
    monkeypatch.delenv('ASTRID_DATA_QUIET', raising=False)
    monkeypatch.delenv('IN_TEST', raising=False)
    h = fit(SmallCNN(), batches(), batches(seed=1), epochs=3)
    assert (
        h.epochs.index.tolist() == [1, 2, 3]
        and h.epochs.index.name == 'epoch'
        and 1 <= h.best_epoch <= 3
    )
    assert (
        f'best: epoch {h.best_epoch} of 3 with val_auc_pr' in repr(h)
        and 'epoch 3 of 3' in capsys.readouterr().err
    )


class Answers(torch.nn.Module):
    "Answers in a shape of our choice"

    def __init__(self, shape):
        super().__init__()
        self.shape, self.w = shape, torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return (self.w * x.mean()).expand(len(x), *self.shape)


@pytest.mark.parametrize('shape', [(2,), (1, 1), (3, 16, 16), (1, 8, 8), (16,)])
def test_an_answer_of_the_wrong_shape_is_refused_with_the_right_one(shape):
    got = ', '.join(map(str, (24, *shape)))
    with pytest.raises(
        BadInput,
        match=rf'Answers answers 24 patches of 16 by 16 pixels with \({got}\); a classifier gives one logit per patch, \(24,\).*map one per pixel, \(24, 1, 16, 16\)',
    ):
        fit(Answers(shape), batches(), epochs=1, show=False)


@pytest.mark.parametrize('shape', [(), (1,), (1, 16, 16), (16, 16)])
def test_answers_of_a_right_shape(shape):
    fit(Answers(shape), batches(), epochs=1, show=False)


def test_the_best_epoch_is_kept():
    model, val = SmallCNN(), batches(seed=1, easy=False)  # Noise: the epochs differ by chance
    h = fit(model, batches(easy=False), val, epochs=6)
    t = predict(model, val)
    assert (
        average_precision(t['label'], t['score'])
        == h.epochs['val_auc_pr'].max()
        == h.epochs['val_auc_pr'][h.best_epoch]
    )


def test_of_equal_areas_the_smaller_loss_is_best():
    h = fit(SmallCNN(), batches(), batches(seed=1), epochs=4)
    best = h.epochs['val_auc_pr'] == h.epochs['val_auc_pr'].max()
    assert best.sum() > 1 and h.best_epoch == h.epochs['val_loss'][best].idxmin() != best.idxmax()


def test_patience():
    h = fit(SmallCNN(), batches(easy=False), batches(seed=1, easy=False), epochs=40, patience=2)
    assert len(h) == h.best_epoch + 2 < 40 and 'no better for 2' in h.stop_reason


@pytest.mark.parametrize('area', [{}, dict(val_auc_pr=0.5), dict(val_auc_pr=float('nan'))])
def test_a_loss_that_is_no_number_is_never_the_best(area):
    model, best = SmallCNN(), EarlyStopping(patience=2)
    for epoch, loss in enumerate((float('nan'), 0.1, float('nan'), 0.05, float('nan')), 1):
        best.see(epoch, dict(val_loss=loss, **area), model)
        assert best.epoch == (1, 2, 2, 4, 4)[epoch - 1]
    again = EarlyStopping(patience=2)
    again.restore(best.state(), best.weights)
    assert best.state()['stop_reason'] == again.stop_reason == 'all done'
    again.see(6, dict(val_loss=float('nan'), **area), model)
    assert (again.epoch, again.stop_reason) == (4, 'no better for 2 epochs')


def test_without_val_the_last_epoch_stays():
    model, train = SmallCNN(), batches()
    h = fit(model, train, epochs=3)
    assert h.measure == 'train_loss' and h.best_epoch == 3
    assert 'convergence not judged: you set the epochs' in repr(h)


def test_a_checkpoint_needs_no_trust(tmp_path):
    model, path = SmallCNN(), tmp_path / 'c.pt'
    save_checkpoint(
        path, model, epoch=3, normaliser=dict(method='asinh', params=dict(a=[1.0, 2.0]))
    )
    assert set(torch.load(path, weights_only=True)) == {'model', 'facts'}
    again = SmallCNN()
    assert load_checkpoint(path, again) == dict(
        epoch=3, normaliser=dict(method='asinh', params=dict(a=[1.0, 2.0]))
    )
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(model.eval()(x), again.eval()(x))
    with pytest.raises(NotFound):
        load_checkpoint(tmp_path / 'none.pt', again)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / 'c.pt', SmallCNN(), epoch=1)
    before = path.read_bytes()

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='no room for'):
        save_checkpoint(path, SmallCNN(), epoch=2)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['c.pt']


@contextmanager
def small_disk(folder, size):
    "A file system of so many bytes, for the block; or a skip"
    folder.mkdir()
    got = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder],
        capture_output=True,
        text=True,
    )
    if got.returncode:
        pytest.skip(f'no file system can be mounted here: {got.stderr.strip()}')
    try:
        yield folder
    finally:
        subprocess.run(['umount', folder], check=True)


def test_a_disk_that_fills_up_in_mid_training_costs_a_warning(tmp_path):
    train, val = batches(), batches(seed=1)

    def trained(**kw):
        model = SmallCNN()
        return model, fit(model, train, val, epochs=4, **kw)

    whole, _ = trained()
    with small_disk(tmp_path / 'disk', '1m') as disk:
        path, full = disk / 'c.pt', disk / 'others'

        class Filling(
            list
        ):  # Somebody fills the disk in the second epoch, and makes room in the fourth
            epoch = 0

            def set_epoch(self, epoch):
                self.epoch = epoch
                if epoch == 1:
                    with pytest.raises(OSError), open(full, 'wb', buffering=0) as f:
                        while True:
                            f.write(bytes(4096)) or f.write(bytes(1))
                if epoch == 3:
                    full.unlink()

        train = Filling(train)
        with pytest.warns(UserWarning, match='no room for') as said:
            model, h = trained(checkpoint=path)
        said = [str(w.message) for w in said if 'could not be written' in str(w.message)]
        assert len(said) == 2 and all(
            'c.pt holds the training up to epoch 1' in w and 'Training goes on' in w for w in said
        )
        assert len(h) == 4 and h.saved_epoch == 4 and os.listdir(disk) == ['c.pt']
        assert len(read_checkpoint(path)['state']['rows']) == 4
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), whole.state_dict().values())
    )  # Nothing was lost


class Deadly(list):
    "Batches that kill their process in the middle of an epoch"

    epoch = dies_in = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        for i, batch in enumerate(super().__iter__()):
            if self.epoch == self.dies_in and i == 2:
                die()
            yield batch


def train_or_die(path, dies_in, seed):
    torch.manual_seed(seed)
    train = Deadly(batches())
    train.dies_in = dies_in
    model = torch.nn.Sequential(torch.nn.Dropout(0.2), SmallCNN(seed=seed))
    fit(model, train, batches(seed=1, easy=False), epochs=5, checkpoint=path, resume=True)
    torch.save(model.state_dict(), f'{path}.done')


def test_killed_twice_in_mid_epoch_it_ends_as_if_nothing_had_happened(tmp_path):
    def run(name, dies_in, seed=0):
        return run_forked(train_or_die, tmp_path / name, dies_in, seed)

    assert run('whole.pt', -1) == 0
    assert (
        run('killed.pt', 1) == run('killed.pt', 3, seed=1) == -signal.SIGKILL
    )  # The second start has other weights: they are replaced
    assert run('killed.pt', -1, seed=2) == 0
    a, b = (torch.load(f'{tmp_path}/{n}.pt.done', weights_only=True) for n in ('whole', 'killed'))
    assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = (read_checkpoint(tmp_path / f'{n}.pt') for n in ('whole', 'killed'))

    def curve(c):
        return [(r['train_loss'], r['val_auc_pr']) for r in c['state']['rows']]

    assert (
        curve(a) == curve(b)
        and len(curve(a)) == 5
        and a['facts']['epoch'] == b['facts']['epoch']
        and torch.equal(a['state']['rng'], b['state']['rng'])
    )


def test_a_finished_training_is_not_done_again(tmp_path):
    first = fit(SmallCNN(), batches(), batches(seed=1), epochs=2, checkpoint=tmp_path / 'c.pt')
    again, model = None, SmallCNN()
    again = fit(
        model, batches(), batches(seed=1), epochs=2, checkpoint=tmp_path / 'c.pt', resume=True
    )
    assert again.epochs.equals(first.epochs) and again.best_epoch == first.best_epoch
    kept = read_checkpoint(tmp_path / 'c.pt')['model']
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('other', [dict(lr=1e-4), dict(epochs=9), dict(seed=3), dict(clip=None)])
def test_another_training_is_not_gone_on_with(tmp_path, other):
    fit(SmallCNN(), batches(), epochs=2, checkpoint=tmp_path / 'c.pt')
    with pytest.raises(Conflict, match=f'{next(iter(other))} was'):
        fit(
            SmallCNN(),
            batches(),
            **{**dict(epochs=2), **other},
            checkpoint=tmp_path / 'c.pt',
            resume=True,
        )


def test_weights_alone_cannot_be_gone_on_with(tmp_path):
    save_checkpoint(tmp_path / 'c.pt', SmallCNN())
    with pytest.raises(Conflict, match='weights alone'):
        fit(SmallCNN(), batches(), epochs=2, checkpoint=tmp_path / 'c.pt', resume=True)
    with pytest.raises(BadInput, match='checkpoint='):
        fit(SmallCNN(), batches(), epochs=2, resume=True)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path):
    class Spoiled(list):  # One pixel of the third epoch is NaN
        def set_epoch(self, epoch):
            if epoch == 2:
                self[1] = dict(self[1], image=self[1]['image'].clone())
                self[1]['image'][0, 0, 0, 0] = torch.nan

    model = SmallCNN()
    with pytest.raises(
        TrainingDiverged,
        match=r'epoch 3, step 2.*weights of epoch 2 again; c.pt holds the training up to epoch 2',
    ):
        fit(model, Spoiled(batches()), epochs=5, checkpoint=tmp_path / 'c.pt')
    kept = read_checkpoint(tmp_path / 'c.pt')
    assert all(
        torch.equal(v, kept['model'][k]) and torch.isfinite(v.float()).all()
        for k, v in model.state_dict().items()
    )


class Steep(torch.nn.Module):
    "A finite loss whose gradient is not"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return (
            x.mean((1, 2, 3)).abs().mul(self.w).add(self.w.clamp(min=0).sqrt())
        )  # d sqrt(w)/dw at 0


def test_a_gradient_that_is_no_number_does_not_reach_the_weights():
    model = Steep()
    with pytest.raises(TrainingDiverged, match='the gradient is (inf|nan) in epoch 1, step 1'):
        fit(model, batches(), epochs=1)
    assert model.w.item() == 0


def test_long_gradients_are_shortened():
    def step(clip, scale):  # How far one step of plain descent goes
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 1))
        torch.nn.init.zeros_(model[1].weight), torch.nn.init.zeros_(model[1].bias)
        from astrid_data.training.epochs import train_epoch

        sgd = torch.optim.SGD(model.parameters(), 1.0)
        train_epoch(
            model,
            [dict(batches()[0], image=scale * batches()[0]['image'])],
            sgd,
            torch.optim.lr_scheduler.ConstantLR(sgd, 1.0),
            clip=clip,
        )
        return torch.cat([p.flatten() for p in model.parameters()]).norm().item()

    assert (
        step(1.0, 1000) == pytest.approx(1, rel=1e-3)
        and step(0.1, 1000) == pytest.approx(0.1, rel=1e-3)
        and step(None, 1000) > 100
    )


def test_amp_uses_bfloat16_and_still_learns():
    seen = []

    class Looks(SmallCNN):
        def forward(self, x):
            f = self.features[0](x)
            seen.append(f.dtype)
            return super().forward(x)

    h = fit(Looks(), batches(), batches(seed=1), epochs=3, amp=True)
    assert torch.bfloat16 in seen and h.epochs['val_auc_pr'].max() > 0.95
    seen.clear()
    fit(Looks(), batches(), epochs=1)
    assert set(seen) == {torch.float32}  # Not on a CPU, unless asked


def test_nan_in_the_data_is_named():
    train = batches()
    train[1]['image'][5, 0, 3, 3] = torch.nan
    with pytest.raises(
        TrainingDiverged, match=r'1 of 24 images hold NaN or infinity \(rows \[29\]\)'
    ):
        fit(SmallCNN(), train, epochs=1)


def test_a_loss_that_blows_up_blames_the_learning_rate():
    class Explodes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return x.mean((1, 2, 3)) * self.w * torch.inf

    with pytest.raises(TrainingDiverged, match='learning rate was'):
        fit(Explodes(), batches(), epochs=1)


def test_a_map_without_targets_says_how_to_get_them():
    train = [{k: v for k, v in b.items() if k != 'target'} for b in batches()]
    with pytest.raises(BadInput, match='target=True'):
        fit(SmallUNet(), train, epochs=1)


def test_nothing_to_train_on():
    with pytest.raises(BadInput, match='nothing to train on'):
        fit(SmallCNN(), [], epochs=1)


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(batches())


@pytest.mark.parametrize(
    'endless', [iter([]), torch.utils.data.DataLoader(Endless(), batch_size=None)]
)
def test_batches_that_nobody_can_count_are_refused(endless):
    with pytest.raises(BadInput, match='train does not say how many batches'):
        fit(SmallCNN(), endless, epochs=1)
    with pytest.raises(BadInput, match='val does not say how many batches'):
        fit(SmallCNN(), batches(), endless, epochs=1)


def test_waiting_is_measured():
    class Slow(list):
        def __iter__(self):
            for b in super().__iter__():
                time.sleep(0.15)
                yield b

    h = fit(SmallCNN(), Slow(batches()), epochs=2)
    assert 0.3 < h.data_wait_share <= 1 and (h.epochs['first_batch_s'] > 0.14).all()

    class Late(list):  # Only the first batch of an epoch is
        def __iter__(self):
            time.sleep(0.5)
            yield from super().__iter__()

    h = fit(SmallCNN(), Late(batches()), epochs=2)
    assert h.steady_wait_share < 0.2 < h.data_wait_share and 'after the first batch' in repr(h)


class Noted:
    "A run that only takes notes"

    def __init__(self):
        self.metrics, self.params, self.texts, self.figures, self.monitor = (
            [],
            {},
            {},
            {},
            EnergyMonitor(None, meters=[]).start(),
        )

    def log_metrics(self, values, step=None):
        self.metrics.append((step, values))

    def log_params(self, values):
        self.params.update(values)

    def log_text(self, text, name):
        self.texts[name] = text

    def log_figure(self, figure, name):
        self.figures[name] = figure


def test_what_a_run_is_told():
    run = Noted()
    fit(SmallCNN(), batches(), batches(seed=1), epochs=2, run=run)
    evaluate(SmallCNN(), batches(seed=2), run=run, n_boot=10)
    assert [s for s, _ in run.metrics] == [1, 2, None, None] and {
        'train_loss',
        'val_auc_pr',
        'data_wait_share',
    } <= set(run.metrics[0][1])
    assert (
        run.params['model'] == 'SmallCNN'
        and run.params['epochs'] == 2
        and 'test_auc_pr' in run.metrics[-1][1]
    )
    assert (
        run.monitor.stop().marks['name'].tolist() == ['epoch 1', 'epoch 2', 'trained']
        and run.monitor.last.data_wait_share is not None
    )
    assert set(run.texts) == {'test_operating_points.json', 'test_scores.csv'}


def test_the_run_is_told_how_many_real_ones_were_found():
    run, model = Noted(), SmallCNN()
    fit(model, batches(), batches(seed=1), epochs=3, run=run)
    evaluate(model, batches(seed=3, easy=False), run=run, n_boot=10, prefix='val')
    assert run.monitor.correct is None  # That was not the test split
    points = evaluate(model, batches(seed=2), run=run, n_boot=10)
    t = points.scores
    assert (
        run.monitor.correct
        == points.n_found
        == (t['score'][t['label'] == 1] > t['score'][t['label'] == 0].max()).sum()
        > 20
    )  # Of 48 bogus none may pass
    assert run.monitor.stop().samples == 3 * 96 and run.monitor.last.correct == points.n_found


def test_a_training_leaves_torch_its_threads(monkeypatch):
    seen = []

    class Looks(list):
        def __iter__(self):
            seen.append(torch.get_num_threads())
            return super().__iter__()

    monkeypatch.setattr('astrid_data.training.fit.cpu_limit', lambda: 2)
    torch.set_num_threads(3)
    try:
        fit(SmallCNN(), Looks(batches()), epochs=1)
        assert torch.get_num_threads() == 3
        broken = Looks(batches())
        broken[0] = dict(broken[0], image=broken[0]['image'] * np.nan)
        with pytest.raises(TrainingDiverged):
            fit(SmallCNN(), broken, epochs=1)
        assert torch.get_num_threads() == 3
        assert seen.count(2) >= 2  # The others are looks before and after a training
    finally:
        torch.set_num_threads(1)


def test_with_our_loader_and_groups(tmp_path):
    d = version(tmp_path / 'v1')
    train, val, test = RealDataLoader(d).loaders(batch_size=16)
    h = fit(SmallCNN(), train, val, epochs=1, checkpoint=tmp_path / 'c.pt')
    r = evaluate(SmallCNN(), test, n_boot=20)
    assert (r.n, r.n_objects, r.origin, h.origin) == (24, 3, 'survey', 'survey')
    assert set(r.scores['index']) == set(d.split_rows('test'))


def test_the_report_by_magnitude_and_the_worst_are_logged(tmp_path):
    rng, n = np.random.default_rng(0), 120
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            origin='survey',
            group_id=[f'g{i // 2}' for i in range(n)],
            mag=rng.uniform(15, 20, n),
            band='r',
            ra=rng.uniform(0, 1, n),
            dec=rng.uniform(0, 1, n),
            split=np.where(np.arange(n) < 40, 'train', np.where(np.arange(n) < 70, 'val', 'test')),
        )
    )
    d = write_dataset(tmp_path / 'v1', t, rng.normal(size=(n, 1, 16, 16)).astype('f4'), name='x')
    _, val, test = RealDataLoader(d).loaders(batch_size=16)
    run = Noted()
    r = evaluate(SmallCNN(), test, n_boot=20, run=run, choose_on=val)
    assert set(r.by) == {'mag', 'band', 'density'} and all(
        b['n'].sum() == 50 for b in r.by.values()
    )
    assert (
        r.chosen
        and {'test_worst.png', 'test_by.png'} <= set(run.figures)
        and {'test_by_mag.csv', 'test_by_density.csv'} <= set(run.texts)
    )
    w = worst(r.scores, 4)
    real, bogus = (r.scores[r.scores['label'] == k] for k in (1, 0))
    assert (
        w['score'][:4].min() >= bogus['score'].nlargest(4).min()
        and w['score'][4:].max() <= real['score'].nsmallest(4).max()
    )


# --- AstrID's calls


@pytest.fixture(scope='module')
def pretend(tmp_path_factory):
    "A small archive with something in it"
    return synthetic_archive(tmp_path_factory.mktemp('pretend'), n_observations=2, n_sources=15)


@pytest.fixture(scope='module')
def empty(tmp_path_factory):
    return open_archive(str(tmp_path_factory.mktemp('empty')))


def pairs_are_right(train):
    image, mask = train[0]
    assert image.shape == mask.shape == (1, 64, 64) and image.dtype == mask.dtype == torch.float32
    assert torch.isfinite(image).all() and set(mask.unique().tolist()) <= {0.0, 1.0}


def test_pairs_of_a_named_dataset(pretend):
    with warnings.catch_warnings():
        warnings.simplefilter(
            'error', SyntheticDataWarning
        )  # It was asked for what is there: no fallback
        train, val, test = asyncio.run(
            load_real_training_data(
                RealDataConfig(max_samples=40, date_range_days=None),
                'mine',
                archive=pretend,
                show=False,
            )
        )
    pairs_are_right(train)
    assert (
        train.dataset.name == 'mine'
        and train.dataset.origin == 'synthetic'
        and 'synthetic' in repr(train)
    )
    again, *_ = asyncio.run(
        load_real_training_data(
            RealDataConfig(max_samples=40, date_range_days=None),
            'mine',
            archive=pretend,
            show=False,
        )
    )
    assert again.dataset.address == train.dataset.address  # The same question, no second version


def test_nothing_there_is_an_error_or_a_loud_warning(empty):
    with pytest.raises(NotFound):
        asyncio.run(load_real_training_data(archive=empty, fallback='error', show=False))
    with pytest.warns(SyntheticDataWarning) as said:
        train, val, test = asyncio.run(
            get_real_training_data(max_samples=60, batch_size=2, archive=empty, show=False)
        )
    text = next(str(w.message) for w in said if w.category is SyntheticDataWarning)
    for word in (
        'SYNTHETIC',
        'looked for',
        'no observation at all',
        'What to do',
        'add_fits',
        'fallback="error"',
    ):
        assert word in text
    image, mask = next(iter(train))
    assert image.shape == mask.shape == (2, 1, 64, 64) and 'origin: synthetic' in repr(train)
    assert train.dataset.dataset.manifest['origin'] == 'synthetic' and set(
        train.dataset.dataset.samples['origin']
    ) == {'synthetic'}
    assert len(empty.observations()) == 0  # The pretend sky is not among the real


def test_the_warning_comes_each_time():
    "By itself Python shows a warning once; a cell that is run again must say it again"
    code = """
import warnings
from astrid_data.training.astrid import SyntheticDataWarning
for _ in range(3): warnings.warn('pretend', SyntheticDataWarning)
"""
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert p.stderr.count('SyntheticDataWarning: pretend') == 3


def test_too_old_or_unknown_falls_back_and_says_why(pretend):
    for config, word in (
        (RealDataConfig(max_samples=40), 'date'),
        (
            RealDataConfig(survey_ids=['jwst'], max_samples=40, date_range_days=None),
            'synthetic-skyview',
        ),
    ):
        with pytest.warns(SyntheticDataWarning, match=word):
            asyncio.run(load_real_training_data(config, archive=pretend, show=False))
        with pytest.raises(NotFound, match=word):
            asyncio.run(
                load_real_training_data(config, archive=pretend, fallback='error', show=False)
            )


def test_a_database_that_is_away_falls_back(monkeypatch, tmp_path):
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('ASTRID_DATABASE_URL', 'postgresql+psycopg://u:hush@127.0.0.1:9/x')
    with pytest.raises(OSError, match='database'):
        asyncio.run(get_real_training_data(fallback='error', show=False))
    with pytest.warns(SyntheticDataWarning, match='database') as said:
        asyncio.run(get_real_training_data(max_samples=40, show=False))
    assert not any('hush' in str(w.message) for w in said)


@pytest.mark.parametrize(
    'call',
    [
        lambda a: load_real_training_data(RealDataConfig(date_range_days=0), archive=a),
        lambda a: load_real_training_data(archive=a, fallback='noise'),
        lambda a: load_real_training_data(RealDataConfig(confidence_threshold=7), archive=a),
    ],
)
def test_a_question_that_cannot_be_right_is_no_reason_to_pretend(empty, call):
    with pytest.raises(BadInput):
        asyncio.run(call(empty))


def test_the_window_is_kept_and_the_same_all_day(pretend):
    a, b = RealDataConfig().params(pretend), RealDataConfig().params(pretend)
    assert a.to_json() == b.to_json() and a.date_range[1] is None
    assert RealDataConfig(date_range_days=None).params(pretend).date_range is None


def test_a_narrower_question_is_said_and_a_named_one_is_kept(pretend):
    assert RealDataConfig().survey_ids == ['hst', 'jwst', 'skyview']
    with pytest.warns(UserWarning, match='this archive has none; asked instead: synthetic-skyview'):
        assert RealDataConfig().params(pretend).survey_ids is None
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert RealDataConfig(survey_ids=['jwst']).params(pretend).survey_ids == ['jwst']


def test_the_event_loop_goes_on_meanwhile(pretend):
    async def both():
        ticks, job = (
            0,
            asyncio.ensure_future(
                load_real_training_data(
                    RealDataConfig(max_samples=30, date_range_days=None),
                    'loop',
                    archive=pretend,
                    show=False,
                )
            ),
        )
        while not job.done():
            ticks += 1
            await asyncio.sleep(0.01)
        await job
        return ticks

    assert asyncio.run(both()) > 3


def test_an_empty_default_archive_is_given_the_sample(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path))
    for k in (
        'ASTRID_DATABASE_URL',
        'DATABASE_URL',
        'SUPABASE_HOST',
        'ASTRID_STORAGE_URL',
        'CLOUDFLARE_R2_BUCKET_NAME',
    ):
        monkeypatch.delenv(k, raising=False)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('error', SyntheticDataWarning)
        train, val, test = asyncio.run(
            get_real_training_data(max_samples=100, confidence_threshold=0.7, batch_size=2)
        )
    assert 'registering the sample' in capsys.readouterr().out
    image, mask = next(iter(train))
    assert (
        image.shape == (2, 1, 64, 64)
        and 'origin: survey' in repr(train)
        and train.dataset.dataset.origin == 'survey'
    )


def test_statistics_of_a_stamp_too_small_for_its_ring_are_refused():
    from astrid_data.training.baseline import stamp_statistics

    with pytest.raises(BadInput, match='at least 14 pixels'):
        stamp_statistics(np.zeros((2, 1, 12, 12)))
    with pytest.raises(BadInput, match='odd'):
        stamp_statistics(np.zeros((2, 1, 20, 20)), middle=6)
    assert stamp_statistics(np.ones((2, 1, 14, 14)))['above_ring_0'].eq(0).all()
