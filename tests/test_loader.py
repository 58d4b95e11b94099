"The loader against simple versions of itself, in worker processes, and when things go wrong."

import functools
import pickle
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from copying import copy_registry
from sqlalchemy import select
from torch.utils.data import DataLoader

import astrid_data as ad
from astrid_data.core import AstridError, BadInput, Conflict, Secret, Settings
from astrid_data.datasets.dataset import Dataset, StreamedDataset, write_dataset
from astrid_data.loading.augment import Augment, augment_d4, d4, draw
from astrid_data.loading.batches import PatchLoader
from astrid_data.loading.loader import (
    DataModule,
    RealDataLoader,
    SeedPairs,
    create_real_data_loaders,
)
from astrid_data.loading.normalise import Normaliser
from astrid_data.loading.order import epoch_order, share
from astrid_data.loading.patch_dataset import PatchDataset, collate
from astrid_data.registry.tables import Detection, add_validation_event
from astrid_data.splits.audit import audit_splits
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.resolve import resolve_uri
from astrid_data.storage.service import StoreUnreachable
from astrid_data.storage.trees import push_tree


def made(folder, n=90, s=12, channels=('image',), shard_rows=32, seed=0, **columns):
    rng = np.random.default_rng(seed)
    C = len(channels)
    data = rng.normal(100, 5, (n, C, s, s)).astype('f4')
    data[::5, :, :3] = np.nan
    label = (np.arange(n) % 3 == 0).astype(int)
    target = (rng.random((n, s, s)) > 0.8).astype('u1') * label[:, None, None].astype('u1')
    rows = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=label,
            origin='survey',
            split=np.resize(['train'] * 4 + ['val', 'test'], n),
            **{f'{c}_background': rng.normal(100, 1, n) for c in channels},
            **{f'{c}_noise': rng.uniform(4, 6, n) for c in channels},
        )
        | columns
    )
    return write_dataset(
        folder, rows, data, targets=target, channels=channels, name='made', shard_rows=shard_rows
    )


@pytest.fixture(scope='module')
def ds(tmp_path_factory):
    return made(tmp_path_factory.mktemp('set') / 'v1')


def by_hand(ds, i, channel='image', c=0):
    "The documented transform, one pixel array at a time, in float64"
    p, r = ds.manifest['normalisation']['params'], ds.samples.iloc[i]
    z = (ds.patches()[i][c].astype('f8') - r[f'{channel}_background']) / (
        p['a'] * r[f'{channel}_noise']
    )
    return np.nan_to_num(np.arcsinh(z) / p['scale'][c])


def test_every_tensor_is_the_documented_transform_of_its_own_patch(ds):
    for batch in PatchLoader(PatchDataset(ds, 'val', target=True), batch_size=7):
        for image, valid, target, label, i in zip(
            *(batch[k] for k in ('image', 'valid', 'target', 'label', 'index'))
        ):
            np.testing.assert_allclose(image[0], by_hand(ds, int(i)), atol=2e-5)
            np.testing.assert_array_equal(valid, ds.valid()[int(i)])
            np.testing.assert_array_equal(target, ds.targets()[int(i)])
            assert label == ds.samples['label'][int(i)]
            assert (image[0][~valid[0]] == 0).all()


def test_without_normalisation_pixels_come_as_stored(ds):
    x = PatchDataset(ds, [3, 40, 80, 5], normalise=None).read([80, 3, 40])['image'].numpy()
    np.testing.assert_array_equal(x, ds.patches([80, 3, 40]))
    assert torch.isnan(PatchDataset(ds, 'all', normalise=None)[0]['image']).any()


def test_augmented_tensors_are_symmetries_of_the_plain_ones_image_mask_and_target_alike(ds):
    plain, seen = PatchDataset(ds, 'train', target=True), set()
    for batch in PatchLoader(
        PatchDataset(ds, 'train', augment=True, target=True), batch_size=16, shuffle=True, seed=3
    ):
        was = plain.read(batch['index'].numpy())
        for j in range(len(batch['index'])):
            ks = [
                k
                for k in range(8)
                if all(
                    torch.equal(batch[key][j], d4(was[key][j], k))
                    for key in ('image', 'valid', 'target')
                )
            ]
            assert ks
            seen.update(ks[:1])
    assert seen == set(range(8))


def test_d4_of_a_batch_is_d4_of_each():
    x, k = (
        torch.arange(20 * 2 * 3 * 3.0).reshape(20, 2, 3, 3),
        np.array([0, 1, 1, 4, 4, 4, 7, 0, 2, 3, 5, 6, 6, 6, 1, 0, 0, 4, 2, 2]),
    )
    got, _, _ = augment_d4(x.clone(), None, None, k)
    for i in range(20):
        assert torch.equal(got[i], d4(x[i], int(k[i])))


def test_same_seed_same_batches_other_epoch_other_order(ds):
    def run(epoch, **kw):
        loader = PatchLoader(
            PatchDataset(ds, 'train', augment=True), batch_size=8, shuffle=True, seed=4, **kw
        )
        loader.set_epoch(epoch)
        return [(b['index'].tolist(), b['image'].clone()) for b in loader]

    a, b, c = run(0), run(0, prefetch=0), run(1)
    assert [i for i, _ in a] == [i for i, _ in b] != [i for i, _ in c]
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(a, b))
    for other in (run(0, threads=3, prefetch=5), run(0, prefetch=7)):
        assert all(torch.equal(x, y) for (_, x), (_, y) in zip(a, other))
    assert sorted(sum((i for i, _ in a), [])) == ds.split_rows('train').tolist()


def test_kept_batches_are_not_overwritten_and_dropped_ones_are_used_again(ds):
    loader = PatchLoader(PatchDataset(ds, 'train'), batch_size=8, shuffle=True)
    batches = list(loader)
    plain = PatchDataset(ds, 'train')
    for b in batches:
        assert torch.equal(b['image'], plain.read(b['index'].numpy())['image'])
    loader = PatchLoader(PatchDataset(ds, 'train'), batch_size=4, shuffle=True, prefetch=2)
    for _ in range(3):
        for _b in loader:
            pass
    assert len(loader.pool.sets) <= 5
    view = next(iter(loader))['image'][1, 0]  # only a view is kept
    was = view.clone()
    for _b in loader:
        pass
    assert torch.equal(view, was)


def test_a_numpy_view_of_a_batch_keeps_it(ds):
    loader = PatchLoader(PatchDataset(ds, 'train'), batch_size=4, shuffle=True)
    kept = [b['image'].numpy() for b in loader]
    plain = PatchDataset(ds, 'train')
    loader.set_epoch(0)
    for x, rows in zip(kept, [b['index'].numpy() for b in loader]):
        np.testing.assert_array_equal(x, plain.read(rows)['image'])


def test_stopping_early_leaves_no_thread_and_errors_come_out(ds):
    before = threading.active_count()
    for _b in PatchLoader(PatchDataset(ds, 'train'), batch_size=2, shuffle=True, prefetch=4):
        break
    time.sleep(0.1)
    assert threading.active_count() <= before
    d, read = PatchDataset(ds, 'train'), PatchDataset.read
    with pytest.raises(IndexError, match='rows 0 to 89'):
        d.read([0, 90])
    d.read = lambda rows, *a: read(d, rows, *a) if 6 not in rows else 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(PatchLoader(d, batch_size=1))
    assert threading.active_count() <= before


def shuffled(ds, **options):
    data = PatchDataset(ds, 'train', augment=True, target=True)
    return PatchLoader(data, **dict(batch_size=7, shuffle=True, seed=3) | options)


def assert_same_batches(one, other):
    one, other = list(one), list(other)
    assert len(one) == len(other) > 0
    for batch, expected in zip(one, other):
        for key in ('image', 'valid', 'target', 'label', 'index'):
            assert torch.equal(batch[key], expected[key])


@pytest.mark.parametrize('options', [{}, dict(threads=1), dict(prefetch=0), dict(batch_size=500)])
def test_batches_that_were_begun_ahead_are_those_of_the_epoch(ds, options):
    ahead, plain = shuffled(ds, **options), shuffled(ds, **options)
    for _ in range(3):
        ahead.begin_ahead()
        assert (ahead.epoch, ahead.position) == (plain.epoch, plain.position)
        assert_same_batches(ahead, plain)
    state = ahead.state_dict() | dict(position=1 if len(ahead) > 1 else 0)
    for loader in (ahead, plain):
        loader.load_state_dict(state)
    ahead.begin_ahead()
    assert_same_batches(ahead, plain)
    assert not [t for t in threading.enumerate() if t.name.startswith('PatchLoader')]


def test_what_was_begun_is_not_given_to_who_wants_something_else(ds):
    loader, plain = shuffled(ds), shuffled(ds)
    loader.begin_ahead()
    assert pickle.loads(pickle.dumps(loader)).begun is None
    for one in (loader, plain):
        one.set_epoch(4)
    assert_same_batches(loader, plain)
    loader.begin_ahead()
    loader.seed = plain.seed = 8
    assert_same_batches(loader, plain)
    loader.begin_ahead()
    loader.dataset = PatchDataset(ds, 'train', augment=True, target=True, normalise='log')
    plain.dataset = loader.dataset
    assert_same_batches(loader, plain)
    loader.begin_ahead()
    loader.begin_ahead()  # The first ones are thrown away
    assert_same_batches(loader, plain)
    assert not [t for t in threading.enumerate() if t.name.startswith('PatchLoader')]


def test_an_error_in_what_was_begun_comes_out_where_the_batch_is_wanted(ds, monkeypatch):
    loader = shuffled(ds)

    def broken(*args):
        raise OSError('the disk is gone')

    with monkeypatch.context() as m:
        m.setattr(loader.dataset, 'read', broken)
        loader.begin_ahead()
        loader.begun.first.exception()
    with pytest.raises(OSError, match='the disk is gone'):
        next(iter(loader))
    assert len(list(loader)) == len(loader)


@pytest.mark.parametrize('start', ['fork', 'spawn', 'forkserver'])
def test_worker_processes_however_started_give_the_same(ds, start):
    data = PatchDataset(ds, 'train', augment=True, target=True, seed=2)
    here = [b for b in DataLoader(data, batch_size=16)]
    data.count_from(0)
    there = [
        b
        for b in DataLoader(
            data, batch_size=16, num_workers=2, multiprocessing_context=start, collate_fn=collate
        )
    ]
    assert len(here) == len(there)
    for a, b in zip(here, there):
        assert (
            torch.equal(a['image'], b['image'])
            and torch.equal(a['target'], b['target'])
            and a['index'].tolist() == b['index'].tolist()
            and a['origin'] == b['origin']
        )


def test_what_travels_to_a_worker_is_small_and_opens_nothing(ds):
    data = PatchDataset(ds, 'train')
    data[0]
    assert len(pickle.dumps(data)) < 50_000
    again = pickle.loads(pickle.dumps(data))
    assert '_reader' not in again.__dict__ and torch.equal(again[5]['image'], data[5]['image'])


def test_several_shards_any_order_repeats(ds):
    rows = np.array([89, 0, 31, 32, 33, 64, 63, 0, 89])
    assert len(ds.shards()) == 3
    np.testing.assert_array_equal(
        PatchDataset(ds, rows, normalise=None).read(rows)['image'].numpy(), ds.patches(rows)
    )


def test_a_version_that_is_to_be_in_memory_is_copied_there_once(ds):
    data = PatchDataset(ds, 'all', mode='ram', ram_bytes=1)
    for _ in range(3):
        data.read(np.arange(len(ds)))
    assert data.store.mode == 'ram' and len(data.store.starts) > 3
    assert data.store.cache.misses == 2 * (len(data.store.starts) - 1)  # Patches and valid


def test_three_channels_keep_their_own_levels(tmp_path):
    d = made(tmp_path / 'v', channels=('template', 'science', 'difference'), n=20)
    x = PatchDataset(d, 'all')[7]['image']
    for c, ch in enumerate(d.channels):
        np.testing.assert_allclose(x[c], by_hand(d, 7, ch, c), atol=2e-5)
    image, mask = SeedPairs(d, 'all')[7]
    assert image.shape == mask.shape == (1, 12, 12) and torch.equal(image[0], x[1])


def test_a_patch_without_sky_takes_the_levels_of_train(tmp_path):
    np.random.default_rng(0)
    b, n = np.full(40, 100.0), np.full(40, 5.0)
    b[1], n[1], n[2] = np.nan, np.nan, 0.0
    d = made(tmp_path / 'v', n=40, image_background=b, image_noise=n)
    p = d.manifest['normalisation']['params']
    assert (p['background'], p['noise']) == ([100.0], [5.0])
    x = PatchDataset(d, 'all')
    for i in (1, 2):
        np.testing.assert_allclose(
            x[i]['image'][0],
            np.nan_to_num(np.arcsinh((d.patches()[i][0] - 100) / 5) / p['scale'][0]),
            atol=2e-5,
        )


def test_normalisation_is_fitted_on_train_alone(tmp_path):
    a = made(tmp_path / 'a')
    rows, data = a.samples.copy(), np.array(a.patches())
    test = rows['split'] == 'test'
    data[test] *= 50
    rows.loc[test, ['image_background', 'image_noise']] *= [7, 9]
    b = write_dataset(tmp_path / 'b', rows, data, name='b')
    assert b.manifest['normalisation'] == a.manifest['normalisation']
    with pytest.raises(BadInput, match='train alone'):
        Normaliser.fit(PatchDataset(a, 'test'))
    n = Normaliser.fit(PatchDataset(a, 'train'), a=3.0)
    assert n.fitted_on['rows'] == len(a.split_rows('train'))
    assert Normaliser.from_dict(n.to_dict()).to_dict() == n.to_dict()
    with pytest.raises(BadInput, match='asinh, sigma, linear'):
        Normaliser('zscore')


def test_every_fitted_method_is_stored_with_the_version(tmp_path, monkeypatch):
    d = made(tmp_path / 'v')
    anew = {k: Normaliser.fit(PatchDataset(d, 'train'), k) for k in Normaliser.methods}
    monkeypatch.setattr(type(d), 'patches', lambda *_: 1 / 0)  # What is stored needs no pixel
    for name, n in anew.items():
        assert Normaliser.of(d, name) == n
    assert Normaliser.of(d, 'linear').params['scale'] != Normaliser.of(d).params['scale'] and len(
        set(map(str, anew.values()))
    ) == len(anew)


def test_absurd_pixels_stay_finite(tmp_path):
    d = made(tmp_path / 'v', n=8)
    x = torch.tensor([[[[1e38, -1e38], [np.inf, np.nan]]]], dtype=torch.float32)
    y = Normaliser.of(d).apply(
        x, torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    )
    assert (
        torch.isfinite(y).all()
        and y[0, 0, 0, 0] > 40 > 0 > -40 > y[0, 0, 0, 1]
        and y[0, 0, 1, 1] == 0
    )


def test_balance_in_train_only_and_evaluation_keeps_the_skys_own_proportions(ds):
    train, val, test = RealDataLoader(ds).loaders(batch_size=10, balanced=True)

    def share(loader):
        return torch.cat([b['label'] for b in loader]).mean().item()

    assert (
        abs(share(train) - 0.5) < 0.02
        and abs(share(val) - ds.samples.loc[ds.split_rows('val'), 'label'].mean()) < 1e-6
    )
    assert [b['index'].tolist() for b in val] == [b['index'].tolist() for b in val]
    for split in ('val', 'test'):
        with pytest.raises(BadInput):
            PatchLoader(PatchDataset(ds, split), balanced=True)
        with pytest.raises(BadInput):
            PatchDataset(ds, split, augment=True)


def test_balanced_order_uses_every_member_of_the_rare_class():
    labels = np.array([1] * 7 + [0] * 93)
    order = epoch_order(labels, True, True, 0, 0)
    assert len(order) == 100 and set(range(7)) <= set(order.tolist()) and labels[order].sum() == 50


def test_no_place_goes_to_two_machines_and_a_sample_only_where_it_is_drawn_twice():
    labels = np.array([1] * 7 + [0] * 93)
    for balanced in (False, True):
        order = epoch_order(labels, True, balanced, 0, 0)
        parts = [share(order, rank, 3) for rank in range(3)]
        assert len(np.unique(np.concatenate(parts))) == 99
        twice = set(order[parts[0]]) & set(order[parts[1]])
        assert (labels[list(twice)] == 1).all() and bool(twice) == balanced


def test_last_batch_kept_or_dropped(ds):
    n = len(ds.split_rows('train'))
    assert [len(b['index']) for b in PatchLoader(PatchDataset(ds, 'train'), 16)] == [16] * (
        n // 16
    ) + [n % 16]
    full = PatchLoader(PatchDataset(ds, 'train'), 16, drop_last=True)
    assert [len(b['index']) for b in full] == [16] * (n // 16) == [16] * len(full)


def test_a_failed_audit_gives_no_loaders_unless_told(tmp_path):
    d = made(tmp_path / 'v', n=12, object_id='one')
    d.manifest['audit'] = audit_splits(d.samples).__dict__
    with pytest.raises(Conflict, match='leaks between its splits'):
        RealDataLoader(d).loaders()
    with pytest.warns(UserWarning, match='1 objects'):
        train = RealDataLoader(d).loaders(allow_leaks=True)[0]
    assert 'LEAKS' in repr(train)


def test_synthetic_shows_everywhere(tmp_path):
    d = made(tmp_path / 'v', n=12, origin='synthetic')
    loaders = RealDataLoader(d).loaders(batch_size=4)
    pairs = create_real_data_loaders(
        *(SeedPairs(d, s) for s in ('train', 'val', 'test')), num_workers=0
    )
    for thing in (d, PatchDataset(d, 'all'), RealDataLoader(d), *loaders, *pairs):
        assert 'synthetic' in repr(thing).lower()
    assert next(iter(loaders[0]))['origin'] == ['synthetic'] * 4


def test_seed_pairs_from_a_torch_dataloader(ds):
    train, val, test = create_real_data_loaders(
        *(SeedPairs(ds, s) for s in ('train', 'val', 'test')), batch_size=2, num_workers=2
    )
    image, mask = next(iter(val))
    assert (
        image.shape == mask.shape == (2, 1, 12, 12) and image.dtype == mask.dtype == torch.float32
    )
    i = ds.split_rows('val')[:2]
    np.testing.assert_allclose(image[:, 0], np.stack([by_hand(ds, k) for k in i]), atol=2e-5)
    np.testing.assert_array_equal(mask[:, 0], ds.targets(i))
    assert len(train.dataset) + len(val.dataset) + len(test.dataset) == len(ds)


def test_waiting_is_counted(ds):
    loader = PatchLoader(PatchDataset(ds, 'train'), 8)
    for _b in loader:
        pass
    assert loader.wait_s > 0 and loader.batches == len(loader)


def test_the_draw_is_even_and_depends_on_everything():
    k = draw(0, 0, np.arange(16000))
    assert (abs(np.bincount(k, minlength=8) - 2000) < 200).all()
    assert (draw(0, 1, np.arange(100)) != k[:100]).any() and (
        draw(1, 0, np.arange(100)) != k[:100]
    ).any()


def test_only_columns_known_at_the_observation_reach_a_model(tmp_path):
    d = made(
        tmp_path / 'v', n=20, mjd=60000.123456789 + np.arange(20), score=0.9, peak_mag_later=3.0
    )
    b = next(iter(PatchLoader(PatchDataset(d, 'all', columns=['mjd', 'image_noise']), 20)))
    np.testing.assert_array_equal(b['columns'], d.samples[['mjd', 'image_noise']])
    assert b['columns'].dtype == torch.float64 and 'columns' not in PatchDataset(d, 'all')[0]
    for c in ('label', 'score', 'peak_mag_later'):  # Unknown columns count as late
        with pytest.raises(BadInput, match=f'{c} .label-derived'):
            PatchDataset(d, 'all', columns=['mjd', c])
        assert PatchDataset(d, 'all', columns=[c], label_derived=True)[0]['columns'].shape == (1,)
    with pytest.raises(BadInput, match='not a column of numbers'):
        PatchDataset(d, 'all', columns=['survey'])


def test_an_empty_split_is_an_empty_loader(tmp_path):
    d = made(tmp_path / 'v', n=4)
    assert (
        list(PatchLoader(PatchDataset(d, 'test'), 4)) == []
        and len(PatchLoader(PatchDataset(d, 'test'), 4)) == 0
    )
    with pytest.raises(BadInput, match='train, val, test, buffer'):
        PatchDataset(d, 'validation')


@pytest.mark.parametrize('start', ['fork', 'spawn', 'forkserver'])
def test_the_loaders_own_workers_give_what_its_threads_give(ds, start):
    def run(**kw):
        loader = PatchLoader(
            PatchDataset(ds, 'train', augment=Augment(noise=1.0, drop=0.2), target=True),
            batch_size=16,
            shuffle=True,
            balanced=True,
            seed=6,
            **kw,
        )
        loader.set_epoch(2)
        return [{k: b[k].clone() for k in ('index', 'image', 'valid', 'target')} for b in loader]

    for a, b in zip(run(), run(workers=2, start=start), strict=True):
        for k in a:
            assert torch.equal(a[k], b[k]), k


def test_options_reach_pixels_and_batches_and_wrong_ones_are_named(ds):
    train, val, test = RealDataLoader(ds).loaders(
        batch_size=8,
        crop=8,
        augment=Augment(shift=1),
        valid='channel',
        columns=['image_noise'],
        mode='mapped',
        threads=1,
        drop_last=True,
    )
    a, b = next(iter(train)), next(iter(val))
    assert (
        a['image'].shape == (8, 2, 8, 8)
        and b['columns'].shape == (8, 1)
        and train.threads == 1
        and train.dataset.store.mode == 'mapped'
        and test.drop_last
    )
    assert train.dataset.augment == Augment(shift=1) and val.dataset.augment is None
    for kw, words in (
        (dict(batch_size='x'), "a batch of 'x'"),
        (dict(batch_size=0), 'a batch of 0'),
        (dict(workers=-1), 'workers=-1'),
        (dict(augment='d4'), 'not .d4.'),
        (dict(colour=1), 'no option colour; there are allow_leaks'),
        (dict(normalise='zscore'), 'asinh, sigma, linear'),
        (dict(mode='disk'), 'auto, mapped, ram, stream'),
    ):
        with pytest.raises(BadInput, match=words):
            next(iter(RealDataLoader(ds).loaders(**kw)[0]))


def test_each_test_loader_is_one_recorded_look(tmp_path):
    d = made(tmp_path / 'v', n=24)
    train, val, test = RealDataLoader(d).loaders(purpose='the paper')
    for loader in (train, val):
        list(loader)
    assert len(d.test_openings) == 0
    list(test), list(test)
    list(PatchLoader(PatchDataset(d, 'test')))
    assert d.test_openings['purpose'].tolist() == ['the paper', 'batches of the test split']


def test_a_changed_byte_is_not_trained_on(tmp_path):
    d = made(tmp_path / 'v')
    list(PatchLoader(PatchDataset(d, 'train')))
    for name in ('patches', 'valid', 'targets'):
        path = d.folder / f'{name}-00001.npy'
        good = path.read_bytes()
        path.write_bytes(good[:300] + bytes([good[300] ^ 1]) + good[301:])
        data = PatchDataset(Dataset(d.folder), 'train', target=True)
        with pytest.raises(Conflict, match=f'{name}-00001.npy is not what was frozen.*Restore'):
            next(iter(PatchLoader(data)))
        with pytest.raises(Conflict, match=name):
            next(iter(DataLoader(data, batch_size=4, num_workers=1, collate_fn=collate)))
        next(iter(PatchLoader(PatchDataset(Dataset(d.folder, verify=False), 'train', target=True))))
        path.write_bytes(good)
    next(iter(PatchLoader(PatchDataset(Dataset(d.folder), 'train', target=True))))


def test_a_shard_is_summed_once_a_process(tmp_path, monkeypatch):
    from astrid_data.datasets import seal

    d, seen, real = made(tmp_path / 'v'), [], seal.sha256_file
    monkeypatch.setattr(seal, 'sha256_file', lambda p: seen.append(p.suffix) or real(p))
    for _ in range(3):
        Dataset(d.folder).patches()
    assert seen == ['.npy'] * 3  # The small files were summed when it was made
    pickle.loads(pickle.dumps(Dataset(d.folder))).patches()
    assert len(seen) == 3


@pytest.fixture
def bucket(s3, tmp_path, request, monkeypatch):
    "A version in a bucket, and how to open it anew with a cache of so many bytes"
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path / 'home'))  # Looks at test are kept there
    d, prefix = (
        made(tmp_path / 'v1', n=200, shard_rows=32),
        f'datasets/{abs(hash(request.node.nodeid))}/v1',
    )
    settings = Settings(
        s3_endpoint=s3.endpoint, s3_key_id=Secret(s3.key), s3_secret=Secret(s3.secret)
    )

    def opened(cache='cache', n=10**9):
        return StreamedDataset(
            S3Store('test', 'open', settings, DiskCache(tmp_path / cache, n)), prefix
        )

    push_tree(d.folder, S3Store('test', 'open', settings, DiskCache(tmp_path / 'up')), prefix)
    return d, opened


def test_a_streamed_version_is_fetched_once_and_then_read_from_disk(bucket):
    d, opened = bucket
    there = opened()
    loader = PatchLoader(PatchDataset(there, 'train', valid=False, mode='stream'), 16, shuffle=True)
    first = list(loader)
    assert (there.store.cache.misses, there.content_hash) == (
        7,
        d.content_hash,
    ) and 'shards: 7 fetched' in repr(loader)
    second = list(loader)
    assert there.store.cache.misses == 7
    here = PatchDataset(d, 'train', valid=False)
    for b in first + second:
        assert torch.equal(b['image'], here.read(b['index'].numpy())['image'])
    for epoch in (first, second):
        assert (
            sorted(torch.cat([b['index'] for b in epoch]).tolist())
            == d.split_rows('train').tolist()
        )
    again = PatchLoader(
        PatchDataset(opened(), 'train', valid=False, mode='stream'), 16, shuffle=True
    )
    assert [b['index'].tolist() for b in again] == [b['index'].tolist() for b in first]
    assert again.dataset.dataset.store.cache.misses == 0


def test_streaming_workers_agree_and_small_caches_suffice(bucket):
    d, opened = bucket

    def run(**kw):
        return [
            (b['index'].tolist(), b['image'].clone())
            for b in PatchLoader(
                PatchDataset(opened('c', 40_000), 'train', mode='stream', augment=True),
                16,
                shuffle=True,
                seed=1,
                **kw,
            )
        ]

    for (i, x), (j, y) in zip(run(), run(workers=2, start='spawn'), strict=True):
        assert i == j and torch.equal(x, y)
    assert opened('c', 40_000).store.cache.used() <= 40_000  # Two of seven shards of pixels


def test_how_a_version_elsewhere_is_held(bucket):
    d, opened = bucket
    modes = {
        m: PatchDataset(opened(), 'all', mode=m, **kw).store.mode
        for m, kw in (('auto', {}), ('mapped', {}), ('ram', {}), ('stream', {}))
    }
    assert modes == dict(auto='ram', mapped='mapped', ram='ram', stream='stream')
    assert PatchDataset(opened(), 'all', ram_bytes=1000).store.mode == 'stream'
    for m in modes:
        assert torch.equal(
            PatchDataset(opened(), 'val', mode=m).read([5, 190])['image'],
            PatchDataset(d, 'all').read([5, 190])['image'],
        )
    state = PatchLoader(PatchDataset(opened(), 'train', mode='stream')).state_dict()
    with pytest.raises(Conflict, match='streamed was True'):
        PatchLoader(PatchDataset(d, 'train')).load_state_dict(state)


def test_a_damaged_shard_in_the_bucket_is_refused(bucket, s3):
    d, opened = bucket
    there, client = opened(), s3.client()
    key = there.store._at(f'{there.prefix}/patches-00002.npy')['Key']
    body = bytearray((d.folder / 'patches-00002.npy').read_bytes())
    body[500] ^= 1
    client.put_object(Bucket='test', Key=key, Body=bytes(body))
    with pytest.raises(AstridError, match='patches-00002.npy is damaged'):
        list(PatchLoader(PatchDataset(there, 'train', mode='stream')))


def test_a_streamed_version_verifies_what_it_streams(bucket, s3, monkeypatch):
    d, opened = bucket
    there, n_shards = opened(), len(d.manifest['shards'])
    assert there.verify() is there and there.store.cache.misses == n_shards
    assert opened().verify().store.cache.misses == 0  # All of it is in the cache
    small = opened('small', 40_000)
    assert small.verify() is small and small.store.cache.used() <= 40_000
    assert pickle.loads(pickle.dumps(there)).verify().content_hash == d.content_hash

    def in_bucket(file):
        return dict(Bucket='test', Key=there.store._at(f'{there.prefix}/{file}')['Key'])

    body = bytearray((d.folder / 'patches-00002.npy').read_bytes())
    body[500] ^= 1
    s3.client().put_object(**in_bucket('patches-00002.npy'), Body=bytes(body))
    with pytest.raises(Conflict, match=r'made@v1: patches-00002.npy is not what was frozen'):
        opened('damaged').verify()
    s3.client().delete_object(**in_bucket('valid-00001.npy'))
    with pytest.raises(Conflict, match=r'patches-00002.npy, valid-00001.npy are not'):
        opened('damaged').verify()

    def silent(*a):
        raise StoreUnreachable('no answer')

    monkeypatch.setattr(S3Store, 'local_path', silent)
    with pytest.raises(StoreUnreachable):  # Nobody knows whether the shards are as they were
        opened('damaged').verify()


def test_a_module_for_trainers_goes_on_in_mid_epoch(ds):
    whole = [b['index'].tolist() for b in DataModule(ds, batch_size=8, seed=3).train_dataloader()]
    module = DataModule(ds, batch_size=8, seed=3)
    module.prepare_data()
    module.setup('fit')
    for i, _b in enumerate(module.train_dataloader()):
        if i == 2:
            state = module.state_dict()
            break
    again = DataModule(ds, batch_size=8, seed=3)
    again.load_state_dict(state)
    assert [b['index'].tolist() for b in again.train_dataloader()] == whole[3:]
    assert (
        len(again.val_dataloader().dataset) == len(ds.split_rows('val'))
        and again.test_dataloader() is again.predict_dataloader()
    )


# The pixel test: what a model gets, against the FITS file read by astropy alone


@functools.lru_cache(4)
def _file_image(path, hdu, size):
    "WCS of an image as astropy reads it, and its pixels with a rim of `size` NaN"
    with fits.open(path) as f:
        wcs = WCS(f[hdu].header, fobj=f).celestial
        return wcs, np.pad(f[hdu].data.astype('f8'), size, constant_values=np.nan)


def _file_pixels(path, hdu, ra, dec, size):
    "The square around a position: astropy, all distortion, and arithmetic. Also its lower corner"
    wcs, pixels = _file_image(path, hdu, size)
    x, y = wcs.world_to_pixel(SkyCoord(ra, dec, unit='deg', frame='icrs'))
    x0, y0 = int(np.floor(x + 0.5)) - size // 2, int(np.floor(y + 0.5)) - size // 2
    return pixels[y0 + size : y0 + 2 * size, x0 + size : x0 + 2 * size], (x0, y0)


def _check_pixels(ds, path_of, hdu_of, least_edges):
    "Every tensor of `ds` is asinh((x - b)/(a σ))/s of exactly the file's pixels, and 0 where there are none"
    p, edges, inside = ds.manifest['normalisation']['params'], 0, 0
    batches = {
        int(i): (x, v)
        for b in PatchLoader(PatchDataset(ds, 'all'), 32)
        for i, x, v in zip(b['index'], b['image'], b['valid'])
    }
    for i, r in ds.samples.iterrows():
        want, corner = _file_pixels(path_of(r), hdu_of(r), r['ra'], r['dec'], ds.patch_size)
        x, v = (t[0].numpy() for t in batches[i])
        assert corner == (r['x0'], r['y0'])
        assert not v[np.isnan(want)].any() and (x[~v] == 0).all()
        z = np.arcsinh((want - r['image_background']) / (p['a'] * r['image_noise'])) / p['scale'][0]
        np.testing.assert_allclose(x[v], z[v], atol=3e-5)
        on_image = ~np.isnan(want)
        edges, inside = edges + (not on_image.all()), inside + on_image.all()
        if (
            on_image.all()
            and r['image_wcs_state'] == 'celestial'
            and ds.samples['image_hdu'][i] != 'SCI'
        ):
            assert v.all()
    assert inside and edges >= least_edges


def test_pixels_of_the_sample_with_lookup_table_sip_and_quality_planes(tmp_path, sample_home):
    copy_registry(sample_home, tmp_path)
    archive = ad.open_archive(str(tmp_path))
    params = ad.TrainingDataCollectionParams(
        survey_ids=['hst'], confidence_threshold=0.5, max_samples=600
    )
    ds = (
        ad.TrainingDataCollector(archive)
        .plan(params, progress=False)
        .build('pixels', patch_size=24, progress=False, probe=False)
    )

    def path(r):
        return resolve_uri(r['image_uri'], archive.store)

    def hdu(r):
        return (
            int(r['image_hdu'])
            if r['image_hdu'].isdigit()
            else (r['image_hdu'], int(r['image_extver']))
        )

    _check_pixels(ds, path, hdu, least_edges=5)


@pytest.mark.parametrize('kind', ['uint16', 'sip', 'lookup'])
def test_pixels_of_awkward_files(tmp_path, kind):
    "Big-endian unsigned integers with BZERO, SIP, and a distortion lookup table: interior and edge"
    rng, side = np.random.default_rng(1), 140
    y, x = np.mgrid[:side, :side]
    sky = rng.normal(1000, 8, (side, side))
    stars = np.array(
        [
            (2.3, 70.4),
            (137.6, 20.5),
            (60.49, 1.2),
            (40.5, 50.5),
            (90.2, 99.7),
            (70.1, 30.9),
            (30.8, 110.3),
            (110.4, 60.6),
        ]
    )
    for a, b in stars:
        sky += 4000 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 6)
    h = fits.Header()
    h['CTYPE1'], h['CTYPE2'], h['CRVAL1'], h['CRVAL2'] = 'RA---TAN', 'DEC--TAN', 210.0, -30.0
    h['CRPIX1'] = h['CRPIX2'] = 70.0
    h['CD1_1'], h['CD1_2'], h['CD2_1'], h['CD2_2'] = -2.2e-4, 3e-5, 3e-5, 2.2e-4
    h['MJD-AVG'], h['EXPTIME'], h['FILTER'] = 58000.5, 60.0, 'r'
    hdus = fits.HDUList([fits.PrimaryHDU()])
    if kind == 'uint16':
        hdus[0] = fits.PrimaryHDU(sky.round().astype('u2'), h)
    elif kind == 'sip':
        h['CTYPE1'], h['CTYPE2'] = 'RA---TAN-SIP', 'DEC--TAN-SIP'
        h['A_ORDER'], h['B_ORDER'], h['A_2_0'], h['B_0_2'], h['A_1_1'] = 2, 2, 3e-4, -2e-4, 1e-4
        hdus[0] = fits.PrimaryHDU(sky.astype('>f4'), h)
    else:  # Distortion paper lookup table, up to 3 pixels
        table = (np.linspace(0, 3, 8)[:, None] * np.linspace(0, 1, 8)).astype('f4')
        for axis in '12':
            h[f'CPDIS{axis}'] = 'LOOKUP'
            for k, v in {'EXTVER': int(axis), 'NAXES': 2, 'AXIS.1': 1, 'AXIS.2': 2}.items():
                h.append((f'DP{axis}', f'{k}: {float(v)}'))
        hdus[0] = fits.PrimaryHDU(sky.astype('>f4'), h)
        for axis in (1, 2):
            d = fits.ImageHDU(table * axis / 2, name='WCSDVARR', ver=axis)
            d.header.update(
                CRPIX1=1.0, CRPIX2=1.0, CRVAL1=1.0, CRVAL2=1.0, CDELT1=side / 8, CDELT2=side / 8
            )
            hdus.append(d)
    path = tmp_path / f'{kind}.fits'
    hdus.writeto(path)
    archive = ad.open_archive(str(tmp_path / 'home'))
    report = archive.add_fits(path, survey='toy', apply_rules=False, show=False)
    assert not len(report.ledger) and report.detections >= 7
    with archive.session() as s:
        for d in s.scalars(select(Detection.id)).all():
            add_validation_event(s, d, 'tester', True, label='star')
    plan = ad.TrainingDataCollector(archive).plan(
        ad.TrainingDataCollectionParams(confidence_threshold=0.0, negatives={'random_sky': 2.0}),
        progress=False,
    )
    ds = plan.build(kind, patch_size=21, progress=False, probe=False, min_valid_fraction=0.3)
    _check_pixels(ds, lambda r: path, lambda r: 0, least_edges=2)
    peaks = ds.patches()[:][ds.samples['label'] == 1][:, 0, 9:12, 9:12]
    assert (np.nanmax(peaks, axis=(1, 2)) > 2500).all()  # The star is where the position says


@pytest.mark.parametrize(
    'more',
    [
        dict(),
        dict(valid='channel', target=True),
        dict(crop=9, augment=Augment(shift=2)),
        dict(augment=Augment(noise=0.3, blur=0.8, drop=0.4)),
    ],
    ids=['plain', 'channel', 'crop', 'worse'],
)
def test_compiled_and_numpy_give_the_same_batches(tmp_path, monkeypatch, more):
    "Every symmetry, shift, NaN, infinity, two channels, validity and target"
    from astrid_data.loading import kernels, reader

    if not kernels.compiled():
        pytest.skip('numba is not installed')
    rng, n, s = np.random.default_rng(3), 90, 15
    px = (rng.normal(size=(n, 2, s, s)) * 100).astype('f4')
    px[rng.random(px.shape) < 0.02], px[0, 0, 0], px[1, 1, 3] = np.nan, 1e20, -3e38
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            origin='synthetic',
            split='train',
            **{f'{c}_{k}': rng.uniform(1, 5, n) for c in 'ab' for k in ('background', 'noise')},
        )
    )
    d = write_dataset(
        tmp_path / 'v1',
        t,
        px,
        channels=('a', 'b'),
        targets=rng.integers(0, 2, (n, s, s)).astype('u1'),
        name='both',
    )

    def batches():
        return list(
            PatchLoader(
                PatchDataset(d, 'train', **(dict(augment=True) | more)), 32, shuffle=True, seed=5
            )
        )

    fast = batches()
    monkeypatch.setattr(reader, 'compiled', lambda: False)
    for a, b in zip(fast, batches(), strict=True):
        assert a['index'].equal(b['index'])
        for k in a.keys() & {'valid', 'target'}:
            assert a[k].equal(b[k])
        torch.testing.assert_close(a['image'], b['image'], rtol=2e-6, atol=2e-6)


def test_small_batches_of_many_shards_are_the_pixels_as_stored(tmp_path, monkeypatch):
    "Patches that nobody turns, scattered over shards, by the compiled loop and without it"
    from astrid_data.loading import kernels, reader

    if not kernels.compiled():
        pytest.skip('numba is not installed')
    rng, n, s = np.random.default_rng(4), 90, 9
    px = rng.normal(size=(n, 1, s, s)).astype('f4')
    px[rng.random(px.shape) < 0.05] = np.nan
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            origin='synthetic',
            split='train',
            image_background=0.0,
            image_noise=1.0,
        )
    )
    d = write_dataset(
        tmp_path / 'v1',
        t,
        px,
        targets=rng.integers(0, 2, (n, s, s)).astype('u1'),
        name='scattered',
        shard_rows=20,
    )
    taken, take = [], reader.take_rows
    monkeypatch.setattr(reader, 'take_rows', lambda *a: (taken.append(len(a[1])), take(*a)))
    for _ in range(2):
        for b in PatchLoader(
            PatchDataset(d, 'train', normalise=None, target=True, mode='mapped'),
            6,
            shuffle=True,
            seed=5,
        ):
            rows = b['index'].numpy()
            for k, want in dict(image=px, valid=np.isfinite(px), target=d.targets()[:]).items():
                np.testing.assert_array_equal(b[k].numpy(), want[rows])
        assert sum(taken) == 3 * n  # Nothing more the second time
        monkeypatch.setattr(reader, 'compiled', lambda: False)
    monkeypatch.undo()
    for b in PatchLoader(
        PatchDataset(d, 'train', normalise=None, valid='channel', mode='mapped'),
        6,
        shuffle=True,
        seed=5,
    ):  # Images and validity lie side by side
        np.testing.assert_array_equal(b['image'][:, :1].numpy(), px[b['index'].numpy()])
