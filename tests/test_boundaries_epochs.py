"""Augmentation differs from epoch to epoch in a plain DataLoader too, in workers that stay as in those that
are made anew, whether somebody states the epoch or not; and a training repeats under its seed."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from test_datasets import plan_of, toy
from torch.utils.data import DataLoader, WeightedRandomSampler

from astrid_data.loading.augment import Augment
from astrid_data.loading.patch_dataset import PatchDataset, collate

pytestmark = pytest.mark.filterwarnings('ignore:.*asked for is')
WORKERS = {
    'none': {},
    'fork': dict(num_workers=2, multiprocessing_context='fork'),
    'spawn': dict(num_workers=2, multiprocessing_context='spawn'),
    'fork that stay': dict(num_workers=2, multiprocessing_context='fork', persistent_workers=True),
    'spawn that stay': dict(
        num_workers=2, multiprocessing_context='spawn', persistent_workers=True
    ),
}


@pytest.fixture(scope='module')
def ds(tmp_path_factory):
    archive = toy(tmp_path_factory.mktemp('epochs'))
    return plan_of(archive).build('epochs', patch_size=16, progress=False, probe=False)


def epochs(data, n=3, state=None, **kw):
    "The images of some epochs"
    loader = DataLoader(data, batch_size=16, collate_fn=collate, **kw)
    images = []
    for epoch in range(n):
        if state is not None:
            data.set_epoch(state[epoch])
        images.append(torch.cat([batch['image'] for batch in loader]))
    return images


def turned(ds, seed=3, **kw):
    return PatchDataset(ds, 'train', augment=Augment(noise=0.1), seed=seed, **kw)


def all_differ(images):
    return not any(torch.equal(a, b) for a, b in itertools.combinations(images, 2))


@pytest.fixture(scope='module')
def expected(ds):
    "Three epochs, read here, each stated"
    return epochs(turned(ds), state=[0, 1, 2])


@pytest.mark.parametrize('how', WORKERS)
@pytest.mark.parametrize('stated', [True, False], ids=['stated', 'counted'])
def test_every_epoch_is_augmented_anew_and_alike_however_it_is_read(ds, expected, how, stated):
    n = 2 if how == 'spawn' else 3  # Spawned anew in each, and slow to start
    images = epochs(turned(ds), n, state=[0, 1, 2] if stated else None, **WORKERS[how])
    assert all_differ(expected)
    for image, same in zip(images, expected[:n], strict=True):
        assert torch.equal(image, same)


@pytest.mark.parametrize('how', ['none', 'fork that stay'])
def test_a_training_goes_on_where_it_stopped(ds, expected, how):
    data = turned(ds)
    data.count_from(1)
    images = epochs(data, n=2, **WORKERS[how])
    assert torch.equal(images[0], expected[1]) and torch.equal(images[1], expected[2])
    assert data.epoch == 3
    data = turned(ds)
    again = epochs(data, n=1, state=[2], **WORKERS[how])
    assert torch.equal(again[0], expected[2]) and data.epoch == 2


def test_a_stated_epoch_repeats_and_another_seed_does_not(ds, expected):
    images = epochs(turned(ds), state=[1, 1, 0])
    for image, k in zip(images, (1, 1, 0), strict=True):
        assert torch.equal(image, expected[k])
    other = epochs(turned(ds, seed=4), state=[0, 1, 2])
    assert all_differ([*other, *expected])


def test_rows_drawn_with_replacement_repeat_under_a_stated_epoch(ds):
    def read(**kw):
        data = turned(ds)
        chance = torch.Generator().manual_seed(1)
        sampler = WeightedRandomSampler([1.0] * len(data), 60, generator=chance)
        return epochs(data, state=[0, 1, 2], sampler=sampler, **kw)

    here, there = read(), read(**WORKERS['fork that stay'])
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_an_epoch_that_breaks_off_costs_nothing_but_its_rows(ds):
    data = turned(ds)
    next(iter(DataLoader(data, batch_size=16, collate_fn=collate)))
    assert data._count.numbers[1:].tolist() == [1] * 16 + [0] * (len(data) - 16)
    first = torch.cat([b['image'] for b in DataLoader(data, batch_size=16, collate_fn=collate)])
    fresh = epochs(turned(ds), n=2)
    assert torch.equal(first[:16], fresh[1][:16]) and torch.equal(first[16:], fresh[0][16:])


def test_copies_count_for_themselves(ds, expected):
    data = turned(ds)
    twins = pickle.loads(pickle.dumps(data)), copy.deepcopy(data)
    data.set_epoch(9)
    for twin in twins:
        assert twin.epoch == 0
        assert torch.equal(epochs(twin, n=1, **WORKERS['fork'])[0], expected[0])


def test_what_is_not_augmented_stays_as_it_is(ds):
    for split in ('train', 'val', 'test'):
        data = PatchDataset(ds, split)
        one, two = epochs(data, n=2, **WORKERS['fork that stay'])
        assert torch.equal(one, two)
        data.set_epoch(4)
        assert data.epoch == 4 and len(data._count.numbers) == 1


def test_items_alone_count_as_well(ds):
    data = turned(ds)
    first, second = data[5]['image'], data[5]['image']
    assert not torch.equal(first, second)
    data.count_from(0)
    assert torch.equal(data[5]['image'], first)
    draws = data._next_draws(np.array([5, 6]), data.rows[[5, 6]])
    assert set(draws) == {'k', 'noise', 'seed'}
