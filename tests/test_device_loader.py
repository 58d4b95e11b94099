"""Batches made where the model is are those of the ordinary loader."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.datasets.dataset import write_dataset
from astrid_data.loading import device
from astrid_data.loading.augment import Augment
from astrid_data.loading.device import DeviceLoader
from astrid_data.loading.model_input import as_trained, describe_input

pytestmark = pytest.mark.filterwarnings('ignore')


def version(folder, splits=(40, 10, 10), side=32):
    "A version of pretend sky in two bands, some of it without pixels"
    rng = np.random.default_rng(0)
    n = sum(splits)
    rows = pd.DataFrame(dict(label=np.arange(n) % 2, origin='synthetic'))
    rows['sample_key'] = [f'{i:032x}' for i in range(n)]
    rows['split'] = np.repeat(['train', 'val', 'test'], splits)
    for band in ('g', 'r'):
        rows[f'{band}_background'] = rng.uniform(90, 110, n)
        rows[f'{band}_noise'] = rng.uniform(4, 6, n)
    pixels = rng.normal(100, 5, (n, 2, side, side)).astype('f4')
    pixels[::7, :, :, :12] = np.nan
    maps = (np.nan_to_num(pixels[:, 0]) > 105).astype('u1')
    options = dict(channels=['g', 'r'], targets=maps, name='pretend', shard_rows=25)
    return write_dataset(folder / 'v1', rows, pixels, **options)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return version(tmp_path_factory.mktemp('device'))


CASES = {
    'as stored': dict(normalise=None),
    'an odd crop': dict(crop=21, target=True),
    'shifted': dict(crop=21, augment=Augment(shift=3)),
    'everything': dict(crop=20, augment=Augment(noise=1, blur=1.0, drop=0.5, shift=2)),
    'noise as stored': dict(normalise=None, augment=Augment(noise=1)),
    'validity as a channel': dict(valid='channel', augment=Augment(shift=2, drop=0.5), crop=20),
    'no validity': dict(valid=False),
    'columns': dict(columns=['g_noise']),
} | {name: dict(normalise=name) for name in ad.loading.Normaliser.methods}


@pytest.mark.parametrize('resident', [True, False])
@pytest.mark.parametrize('case', CASES)
def test_batches_are_those_of_the_ordinary_loader(dataset, case, resident):
    options = dict(batch_size=16, seed=3) | CASES[case]
    there = dict(mode='device', device='cpu', resident=resident)
    pairs = zip(
        ad.RealDataLoader(dataset).loaders(**options, **there),
        ad.RealDataLoader(dataset).loaders(**options),
    )
    for loader, usual in pairs:
        for _ in range(2):
            for batch, wanted in zip(loader, usual, strict=True):
                assert batch.keys() == wanted.keys() and batch['origin'] == wanted['origin']
                for key in batch.keys() - {'origin'}:
                    torch.testing.assert_close(
                        batch[key], wanted[key], rtol=1e-6, atol=1e-6, equal_nan=True
                    )


def test_a_training_on_either_is_the_same(dataset):
    def trained(**how):
        train, val, test = ad.RealDataLoader(dataset).loaders(16, seed=1, **how)
        model = ad.SmallCNN(channels=2, seed=0)
        history = ad.fit(model, train, val, epochs=2, show=False, device='cpu')
        return [*history.epochs['train_loss'], ad.evaluate(model, test).auc_pr]

    usual = trained()
    for resident in (True, False):
        found = trained(mode='device', device='cpu', resident=resident)
        assert found == pytest.approx(usual, abs=1e-5)


@pytest.mark.parametrize('resident', [True, False])
def test_an_empty_split_has_no_batches(tmp_path, resident):
    dataset = version(tmp_path, splits=(50, 10, 0))
    there = dict(mode='device', device='cpu', resident=resident, prefetch=0)
    loaders = ad.RealDataLoader(dataset).loaders(16, **there)
    assert [len(list(loader)) for loader in loaders] == [4, 1, 0]


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(device='cpu'), "say mode='device' too"),
        (dict(half=True), "say mode='device' too"),
        (dict(mode='device', device='cdua'), 'cdua'),
        (dict(mode='device', device='cpu', resident='x'), 'resident='),
        (dict(mode='device', device='cpu', half='x'), 'half='),
        (dict(mode='device', device='cpu', pin_memory=True), 'pin_memory'),
        (dict(mode='device', device='cpu', workers=2), 'workers'),
        (dict(mode='device', device='meta'), "say 'cuda' or 'cpu'"),
        (dict(mode='device', device='cdua'), "say 'cuda', 'cuda:1'"),
        *(
            (dict(mode='device', device='cpu', half=True, **unfit), '16 bits.*say half=False')
            for unfit in (
                *(dict(normalise=name) for name in ('l2', 'sigma', 'linear', 'none', None)),
                dict(augment=Augment(noise=1)),
                dict(augment=Augment(blur=1.5)),
                dict(normalise='log', augment=Augment(noise=1)),
            )
        ),
        (dict(mode='devise'), "mode='devise': say auto, mapped, ram, stream or device"),
        (dict(mode=None), 'mode=None: say auto'),
        (dict(mode='Device'), "mode='Device': say"),
    ],
)
def test_what_makes_no_sense_is_refused(dataset, options, words):
    with pytest.raises(BadInput, match=words):
        ad.RealDataLoader(dataset).loaders(16, **options)


def test_a_misspelt_mode_is_refused_before_anything_is_read(dataset, monkeypatch):
    for method in ('check_leaks', 'split_rows', 'patches', 'samples'):
        monkeypatch.setattr(type(dataset), method, property(lambda self: pytest.fail('read')))
    with pytest.raises(BadInput, match="mode='devise'"):
        ad.RealDataLoader(dataset).loaders(mode='devise')
    with pytest.raises(BadInput, match="mode='device': say auto, mapped, ram or stream"):
        ad.loading.PatchDataset(dataset, 'train', mode='device')


def test_help_names_the_device(capsys):
    help(ad.RealDataLoader.loaders)
    assert "mode='device'" in capsys.readouterr().out


@pytest.mark.parametrize('normalise', ['asinh', 'log', 'zscale'])
def test_sixteen_bits_are_close(dataset, normalise):
    there = dict(mode='device', device='cpu', half=True, normalise=normalise)
    train, *_ = ad.RealDataLoader(dataset).loaders(16, **there)
    usual, *_ = ad.RealDataLoader(dataset).loaders(16, normalise=normalise)
    for batch, wanted in zip(train, usual, strict=True):
        assert batch['image'].dtype == torch.float32
        torch.testing.assert_close(batch['image'], wanted['image'], rtol=2e-3, atol=2e-3)
    assert train._held[1]['image'].dtype == torch.float16


@pytest.mark.parametrize('options', [{}, dict(crop=20), dict(valid='channel'), dict(threads=1)])
def test_sixteen_bits_are_the_same_held_and_sent(dataset, options):
    augment = Augment(shift=2 if 'crop' in options else 0, drop=0.3)
    there = dict(mode='device', device='cpu', half=True, augment=augment, **options)
    held, sent = (
        ad.RealDataLoader(dataset).loaders(16, resident=resident, **there)[0]
        for resident in (True, False)
    )
    for _ in range(2):
        for batch, same in zip(held, sent, strict=True):
            assert batch.keys() == same.keys()
            for key in ('image', 'valid', 'index'):
                assert key not in batch or torch.equal(batch[key], same[key])


def test_a_device_is_not_asked_ahead(dataset):
    train, *_ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu', seed=2)
    train.begin_ahead()
    assert train.begun is None and len(list(train)) == 3


# What is held, and for how long


@pytest.mark.parametrize('half', [False, True])
def test_pixels_are_held_where_they_take_half_of_the_free_memory(dataset, half, monkeypatch):
    train, *_ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu', half=half)
    per_pixel = (2 if half else 4) + 1  # And whether it is valid
    needed = 40 * 2 * 32 * 32 * per_pixel
    brought = []
    bring = device._bring
    monkeypatch.setattr(device, '_bring', lambda *args: brought.append(args) or bring(*args))
    for free, fits in ((2 * needed - 1, False), (2 * needed, True)):
        train, *_ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu', half=half)
        monkeypatch.setattr(device, '_free_bytes', lambda where, free=free: free)
        assert train.is_resident == fits
        assert ('held there' in repr(train), 'batch by batch' in repr(train)) == (fits, not fits)
        assert len(list(train)) == 3 and len(brought) == fits
    monkeypatch.setattr(device, '_free_bytes', lambda where: 0)
    assert train.is_resident  # They are there already
    assert len(list(train)) == 3 and len(brought) == 1


def free_after(loaders, total):
    "Memory that is left, as a device would say it"
    held = [tensor for loader in loaders for tensor in (loader._held[1] or {}).values()]
    return total - sum(tensor.nbytes for tensor in held)


@pytest.mark.parametrize('room', [0.9, 1.0, 1.2, 1.5, 1.9, 2.0])
def test_the_splits_of_a_version_together_take_half_of_the_memory(dataset, room, monkeypatch):
    loaders = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu')
    needed = [len(loader.dataset) * 2 * 32 * 32 * 5 for loader in loaders]
    total = 2 * room * needed[0]
    monkeypatch.setattr(device, '_free_bytes', lambda where: free_after(loaders, total))
    for loader in loaders:
        list(loader)
    taken, left = [], total / 2
    for bytes_of_split in needed:
        taken.append(bytes_of_split <= left)
        left -= bytes_of_split if taken[-1] else 0
    assert [loader.is_resident for loader in loaders] == taken
    assert free_after(loaders, total) >= total / 2
    assert copy.copy(loaders[0])._room is None


def test_who_asks_decides_whether_pixels_are_held(dataset, monkeypatch):
    monkeypatch.setattr(device, '_free_bytes', lambda where: pytest.fail('asked'))
    for resident in (True, False):
        there = dict(mode='device', device='cpu', resident=resident)
        train, *_ = ad.RealDataLoader(dataset).loaders(16, **there)
        next(iter(train))
        assert train.is_resident == resident == (train._held[1] is not None)


def test_old_pixels_are_let_go_before_others_are_brought(dataset, monkeypatch):
    train, val, _ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu')
    list(train)
    old = weakref.ref(train._held[1]['image'])
    alive = []
    bring = device._bring

    def watched(*args):
        gc.collect()
        alive.append(old())
        return bring(*args)

    monkeypatch.setattr(device, '_bring', watched)
    list(train)
    assert alive == [] and old() is not None  # The same pixels are not brought twice
    other = ad.loading.PatchDataset(dataset, 'train', normalise='log')
    train.dataset, train.shuffle = other, False
    batch = next(iter(train))
    assert alive == [None] and train._held[0] is other
    torch.testing.assert_close(batch['image'], other.read(batch['index'].numpy())['image'])


def test_a_pickle_has_none_of_the_pixels(dataset):
    train, *_ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu', seed=4)
    before = pickle.dumps(train)
    wanted = [batch['image'] for batch in train]
    train.set_epoch(0)
    assert train._held[1]['image'].nbytes > len(before)
    for copied in (pickle.loads(pickle.dumps(train)), copy.copy(train), copy.deepcopy(train)):
        assert copied._held == (None, None) and copied.is_resident
        found = [batch['image'] for batch in copied]
        assert all(map(torch.equal, found, wanted))
    assert len(pickle.dumps(train)) == len(before)
    assert train._held[1] is not None


def test_what_the_table_knows_is_asked_for_without_pixels(dataset, monkeypatch):
    data = ad.loading.PatchDataset(dataset, 'train', columns=['g_noise'])
    whole = data.read([5, 2, 5])
    monkeypatch.setattr(type(data), '_pixel_reader', lambda self: pytest.fail('read'))
    known = data.facts(np.array([5, 2, 5]))
    assert known.keys() == {'label', 'index', 'origin', 'columns'}
    for key, values in known.items():
        assert values == whole[key] if key == 'origin' else torch.equal(values, whole[key])


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_without_a_gpu_nothing_stands_in_for_it(dataset):
    with pytest.raises(BadInput, match='needs a GPU'):
        ad.RealDataLoader(dataset).loaders(16, mode='device')


def test_numbers_of_another_model_are_not_squeezed_into_16_bits(dataset):
    train, *_ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu', half=True)
    next(iter(train))
    other, *_ = ad.RealDataLoader(dataset).loaders(16, normalise='l2')
    shown = as_trained(train, describe_input(other))
    assert isinstance(shown, DeviceLoader)
    with pytest.raises(BadInput, match='16 bits'):
        next(iter(shown))


def test_another_normalisation_brings_the_pixels_anew(dataset):
    train, *_ = ad.RealDataLoader(dataset).loaders(16, mode='device', device='cpu')
    usual, *_ = ad.RealDataLoader(dataset).loaders(16, normalise='log')
    next(iter(train))
    train.set_epoch(0)
    shown = as_trained(train, describe_input(usual))
    assert torch.allclose(next(iter(shown))['image'], next(iter(usual))['image'], atol=1e-6)
