"""What a loader is told makes sense or is refused in our own words; who looks at the test split is noted
whichever door is taken; and a version that leaks leaves its mark."""

import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from test_datasets import plan_of, toy
from torch.utils.data import DataLoader

import astrid_data as ad
from astrid_data.core import BadInput, Conflict
from astrid_data.datasets.dataset import Dataset, write_dataset
from astrid_data.loading.loader import RealDataLoader, SeedPairs, create_real_data_loaders
from astrid_data.loading.order import check_count
from astrid_data.loading.patch_dataset import PatchDataset, collate
from astrid_data.training.models import SmallCNN, SmallUNet, pretend_dataset

BIG = 2**40  # A seed may be as large
NO_COUNT = [-1, 1.5, float('nan'), float('inf'), 'x', '2', True, np.bool_(1), [1], BIG, 2**70]


@pytest.fixture
def alone(tmp_path):
    "A version that belongs to no archive"
    return pretend_dataset(tmp_path / 'v1', n=60, patch_size=16)


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    return pretend_dataset(tmp_path_factory.mktemp('kept') / 'v1', n=60, patch_size=16)


@pytest.fixture(scope='module')
def leaky(tmp_path_factory):
    "One object in all splits"
    made = pretend_dataset(tmp_path_factory.mktemp('made') / 'v1', n=60, patch_size=16)
    rows = made.samples.assign(object_id='the same', group_id='one')
    folder = tmp_path_factory.mktemp('leaky') / 'v1'
    return write_dataset(folder, rows, made.patches()[:], name='leaky', audit=True)


# --- options


def wrong(name):
    "Values that an option refuses: those that are no count, and what it alone refuses"
    also = dict(batch_size=[0, None], threads=[0], window=[0, None], crop=[0, 17], prefetch=[None])
    no_count = [value for value in NO_COUNT if name != 'seed' or value is not BIG]
    return [(name, value) for value in [*no_count, *also.get(name, [])]]


COUNTS = ('batch_size', 'prefetch', 'workers', 'threads', 'window', 'crop', 'seed')


@pytest.mark.parametrize('name, value', [pair for name in COUNTS for pair in wrong(name)])
def test_numbers_that_make_no_sense_are_refused_by_name(kept, name, value):
    with pytest.raises(BadInput, match=name):
        RealDataLoader(kept).loaders(**{name: value})


@pytest.mark.parametrize('kind', [int, np.int8, np.uint16, np.int64])
def test_numpy_numbers_are_numbers(kept, kind):
    options = dict(batch_size=kind(7), prefetch=kind(2), threads=kind(1), window=kind(2))
    train, val, _ = RealDataLoader(kept).loaders(crop=kind(8), seed=kind(3), **options)
    plain, _, _ = RealDataLoader(kept).loaders(batch_size=7, crop=8, seed=3)
    for one, other in zip(train, plain, strict=True):
        assert torch.equal(one['image'], other['image'])


@pytest.mark.parametrize('batch_size', [60, 1000, 10**6, 2**31 - 1])
def test_a_batch_larger_than_the_split_is_the_split_and_takes_no_more_memory(kept, batch_size):
    train, _, _ = RealDataLoader(kept).loaders(batch_size=batch_size)
    (batch,) = train
    assert len(batch['label']) == 36
    assert all(len(t) <= 36 for buffers in train.pool.sets for t in buffers.values())


def test_what_does_not_fit_into_memory_is_refused(kept, monkeypatch):
    from types import SimpleNamespace

    from astrid_data.loading import batches

    monkeypatch.setattr(batches, 'virtual_memory', lambda: SimpleNamespace(total=10_000))
    with pytest.raises(BadInput, match='take smaller batches'):
        RealDataLoader(kept).loaders(batch_size=16)


@pytest.mark.parametrize(
    'options',
    [
        dict(start='thread'),
        dict(start=1),
        dict(valid='chanel'),
        dict(valid=2),
        dict(target='no'),
        dict(target=None),
        dict(columns='image_noise'),
        dict(label_derived='yes'),
        dict(mode='disk'),
        dict(normalise='zscore'),
        dict(ram_bytes=-1),
        dict(ram_bytes='64 MB'),
        dict(rank=0, world_size=0),
        dict(rank=2, world_size=2),
        dict(rank='0', world_size=2),
        dict(rank=0.0, world_size=2),
        dict(rank=1),
        dict(augment='flip'),
    ],
    ids=str,
)
def test_other_options_that_make_no_sense_are_refused(kept, options):
    with pytest.raises(BadInput):
        for _batch in RealDataLoader(kept).loaders(**options)[0]:
            break


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is here')
def test_page_locked_memory_needs_a_gpu(kept):
    with pytest.raises(BadInput, match='needs a GPU'):
        RealDataLoader(kept).loaders(pin_memory=True)


@pytest.mark.parametrize('value', NO_COUNT)
def test_epochs_are_whole_numbers(kept, value):
    train = RealDataLoader(kept).loaders(batch_size=8)[0]
    for say in (train.set_epoch, train.dataset.set_epoch, train.dataset.count_from):
        with pytest.raises(BadInput, match='epoch'):
            say(value)
    state = train.state_dict()
    for name in ('epoch', 'position'):
        with pytest.raises(BadInput, match=name):
            train.load_state_dict(state | {name: value})


@pytest.mark.parametrize('name', ['batch_size', 'num_workers'])
@pytest.mark.parametrize('value', [*NO_COUNT, None])
def test_pairs_refuse_them_too(kept, name, value):
    pairs = [SeedPairs(kept, split) for split in ('train', 'val', 'test')]
    with pytest.raises(BadInput, match=name):
        create_real_data_loaders(*pairs, **{name: value})


@pytest.mark.parametrize('value', [-1, 1.5, float('nan'), 'x', True, BIG, 0, None, 5000])
def test_a_patch_size_that_makes_no_sense_is_refused(tmp_path, value):
    plan = plan_of(toy(tmp_path))
    with pytest.raises(BadInput, match='patch_size'):
        plan.build('sizes', patch_size=value, progress=False, probe=False)


@pytest.mark.parametrize(
    'rows', [[True, False], [0.5], [np.nan], ['a'], [[1, 2]], 3, [None], np.ones(60, bool)], ids=str
)
def test_rows_that_are_no_row_numbers_are_refused(kept, rows):
    for read in (lambda: PatchDataset(kept, rows), lambda: PatchDataset(kept, 'train').read(rows)):
        with pytest.raises(BadInput, match='rows are whole numbers'):
            read()


@pytest.mark.parametrize('rows', [[-1], [60], [0, 99]])
def test_rows_that_are_not_there_are_refused(kept, rows):
    for read in (lambda: PatchDataset(kept, rows), lambda: PatchDataset(kept, 'train').read(rows)):
        with pytest.raises(IndexError, match='has rows 0 to 59'):
            read()


# --- models


@pytest.mark.parametrize('net', [SmallCNN, SmallUNet])
@pytest.mark.parametrize('name', ['channels', 'width', 'seed'])
@pytest.mark.parametrize('value', [*NO_COUNT, None])
def test_networks_refuse_what_makes_no_sense(net, name, value):
    if name == 'seed' and value is BIG:
        pytest.skip('a seed may be as large')
    with pytest.raises(BadInput, match=name):
        net(**{name: value})


@pytest.mark.parametrize('net', [SmallCNN, SmallUNet])
@pytest.mark.parametrize('name', ['channels', 'width'])
def test_networks_that_fit_into_no_memory_are_refused(net, name):
    with pytest.raises(BadInput, match='GB of weights'):
        net(**{name: 2**30 if name == 'channels' else 2**24})


@pytest.mark.parametrize('net', [SmallCNN, SmallUNet])
def test_patches_of_another_kind_are_refused_in_words(net):
    x = torch.zeros(2, 1, 16, 16)
    for patches, words in (
        (x.repeat(1, 3, 1, 1), r'channels=3'),
        (x[0], 'takes a float tensor'),
        (x.byte(), 'takes a float tensor'),
        (x.double(), 'its weights are torch.float32'),
        (x.numpy(), 'takes a float tensor'),
        (None, 'takes a float tensor'),
    ):
        with pytest.raises(BadInput, match=words):
            net()(patches)
    with torch.autocast('cpu', torch.bfloat16):
        net()(x.bfloat16())


@pytest.mark.parametrize('side', range(1, 40))
@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('net', [SmallCNN, SmallUNet])
def test_small_patches_work_or_are_refused_in_words(net, n, side):
    "Whatever torch would refuse, we refuse; whatever it takes, we take"
    x = torch.randn(n, 1, side, side)
    for model in (net(width=2), net(width=2).eval()):
        try:
            expected = torch.isfinite(model(x)).all()
        except BadInput as refused:
            assert 'at least 7' in str(refused) or 'drop_last' in str(refused)
            assert side < 15 and (side < 7 or (n == 1 and model.training))
        else:
            assert expected


def test_training_with_channels_that_do_not_fit_says_which_would(kept):
    train, val, _ = RealDataLoader(kept).loaders(batch_size=8)
    with pytest.raises(BadInput, match=r'make it as SmallCNN\(channels=1\)'):
        ad.fit(SmallCNN(channels=3), train, val, epochs=1, show=False)
    with_mask, _, _ = RealDataLoader(kept).loaders(batch_size=8, valid='channel')
    with pytest.raises(BadInput, match=r'make it as SmallCNN\(channels=2\)'):
        ad.fit(SmallCNN(), with_mask, epochs=1, show=False)


def test_whole_numbers_come_back_as_such():
    assert type(check_count('n', np.uint8(200))) is int
    assert check_count('n', 2**31 - 1) == 2**31 - 1


# --- who looks at the test split


def looks(dataset):
    return Dataset(dataset.folder).test_openings['purpose'].tolist()


def test_no_split_is_no_way_to_all_rows(kept):
    for make in (lambda: PatchDataset(kept), lambda: SeedPairs(kept)):
        with pytest.raises(BadInput, match="split='train'.*'all'"):
            make()
    with pytest.raises(BadInput, match='no split'):
        PatchDataset(kept, 'everything')


@pytest.mark.parametrize('split', ['all', 'test', [0, 59], np.arange(60)], ids=str)
@pytest.mark.parametrize('door', ['item', 'items', 'read', 'loader', 'torch', 'labels', 'pairs'])
def test_every_door_to_the_test_split_is_noted_once(alone, split, door):
    data = (SeedPairs if door == 'pairs' else PatchDataset)(alone, split)
    assert looks(alone) == []  # Nothing was read yet
    for _ in range(2):
        if door in ('item', 'pairs'):
            data[len(data) - 1]
        elif door == 'items':
            data.__getitems__(list(range(len(data))))
        elif door == 'read':
            data.read(data.rows)
        elif door == 'labels':
            data.labels
        elif door == 'torch':
            list(DataLoader(data, batch_size=8, collate_fn=collate))
        elif door == 'loader':
            list(ad.PatchLoader(data, 8)) if _ == 0 else list(DataLoader(data))
    (purpose,) = looks(alone)
    assert 'test' in purpose


@pytest.mark.parametrize('how', ['fork', 'spawn'])
def test_workers_note_it_once_together(alone, how):
    data = PatchDataset(alone, 'all')
    loader = DataLoader(
        data, batch_size=4, num_workers=2, multiprocessing_context=how, persistent_workers=True
    )
    assert sum(len(batch['label']) for _ in range(2) for batch in loader) == 120
    assert 1 <= len(looks(alone)) <= 2  # Two may begin at the same moment
    list(DataLoader(data))
    assert len(looks(alone)) <= 2


def test_a_worker_of_an_archived_version_writes_beside_it(tmp_path):
    archive = toy(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        version = plan_of(archive).build('looked', patch_size=16, progress=False, probe=False)
    data = PatchDataset(version, 'test')
    list(DataLoader(data, batch_size=4, num_workers=1, multiprocessing_context='fork'))
    assert len(version.test_openings) == 1
    list(ad.PatchLoader(PatchDataset(version, 'test'), 4, workers=1))
    assert len(version.test_openings) == 2


def test_train_and_val_open_nothing(alone):
    for split in ('train', 'val', [0, 1, 40]):
        list(DataLoader(PatchDataset(alone, split), batch_size=8))
    assert looks(alone) == []
    data = PatchDataset(alone, 'train')
    data.read([59])  # A row of test through the door of train
    assert len(looks(alone)) == 1


def test_a_copy_that_travels_notes_for_itself(alone):
    pickle.loads(pickle.dumps(PatchDataset(alone, 'all')))[59]
    assert len(looks(alone)) == 1


def test_what_measures_is_never_augmented(kept):
    for split in ('val', 'test', 'all'):
        with pytest.raises(BadInput, match='augment train only'):
            PatchDataset(kept, split, augment=True)


@pytest.mark.skipif(os.geteuid() == 0, reason='root writes everywhere')
def test_a_look_that_cannot_be_noted_is_no_look(alone):
    os.chmod(alone.folder, 0o555)
    try:
        with pytest.raises(Conflict, match='can not be written'):
            PatchDataset(alone, 'all')[59]
    finally:
        os.chmod(alone.folder, 0o755)


# --- a version that leaks


def insisted(leaky):
    with pytest.warns(UserWarning, match='leaks between its splits'):
        return RealDataLoader(leaky).loaders(batch_size=8, allow_leaks=True)


def test_a_leak_stays_with_every_way_to_read_the_version(leaky, kept):
    loaders = insisted(leaky)
    assert all(loader.leaky and 'LEAKS' in repr(loader) for loader in loaders)
    for data in (PatchDataset(leaky, 'train'), pickle.loads(pickle.dumps(loaders[0].dataset))):
        assert 'objects are in more than one split' in data.leaks
        assert ad.PatchLoader(data, 8).leaky
    assert PatchDataset(kept, 'train').leaks == ''


def test_scores_and_trainings_on_a_leaky_version_say_so(leaky, kept):
    train, val, _ = insisted(leaky)
    history = ad.fit(SmallCNN(width=2), train, val, epochs=1, show=False)
    assert 'objects are in more than one split' in history.leaks
    assert 'LEAKS' in repr(history) and 'LEAKS' in history._repr_html_()
    report = ad.evaluate(SmallCNN(width=2), val, n_boot=20)
    assert report.leaks == history.leaks
    assert 'LEAKS' in repr(report) and 'LEAKS' in report._repr_html_()
    plain = DataLoader(PatchDataset(leaky, 'val'), batch_size=8, collate_fn=collate)
    assert ad.evaluate(SmallCNN(width=2), plain, n_boot=20).leaks == history.leaks
    clean = ad.evaluate(SmallCNN(width=2), RealDataLoader(kept).loaders()[1], n_boot=20)
    assert clean.leaks == '' and 'LEAKS' not in repr(clean)


def test_runs_on_a_leaky_version_carry_a_tag(leaky, kept):
    from astrid_data.tracking.dataset_run import dataset_tags

    assert 'objects are in more than one split' in dataset_tags(leaky)['leaks']
    assert 'leaks' not in dataset_tags(kept)
