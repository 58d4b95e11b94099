"""Feeding: from a version on the disk to shuffled batches of tensors.

100,000 patches of 1×64×64 float32; `FEED_PATCHES=5000 python -m benchmarks feed_256_w0` is a trial. All rows read the same pixels, each in its own format,
written before anything is timed. Peers that would take minutes for an epoch are timed over a part of it, which goes on from turn to turn: what they did is counted.
"""

import atexit
import os
import tempfile
from functools import cache
from pathlib import Path

from benchmarks.harness import Row, Table, sized

N, SIDE = int(os.environ.get('FEED_PATCHES', sized(100_000, 5_000))), 64


@cache
def written():
    "A folder with the pixels and a version of them, the same for all tables of a run"
    import numpy as np
    import pandas as pd

    from astrid_data.datasets.dataset import write_dataset

    home = tempfile.TemporaryDirectory()
    atexit.register(home.cleanup)
    folder, rng = Path(home.name), np.random.default_rng(0)
    pixels = np.empty((N, 1, SIDE, SIDE), 'f4')
    for part in np.array_split(pixels, max(1, N // 4096)):
        rng.standard_normal(part.shape, 'f4', out=part)
    np.save(folder / 'pixels.npy', pixels)
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(N)],
            label=np.arange(N) % 2,
            origin='synthetic',
            split='train',
            image_background=0.0,
            image_noise=1.0,
        )
    )
    write_dataset(folder / 'v1', t, pixels, name='pretend')
    return folder


def prepare(folder):
    (folder / 'feed').symlink_to(written())


def here(start):
    "A row that reads what `prepare` linked"
    return lambda folder: start((folder / 'feed').resolve())


def memmap_gather(batch):
    "What a few lines of numpy do: copy the rows of each batch out of a mapped file"

    def start(folder):
        import numpy as np
        import torch

        pixels, rng = np.load(folder / 'pixels.npy', mmap_mode='r'), np.random.default_rng(0)

        def once():
            order = rng.permutation(len(pixels))
            return sum(
                len(torch.from_numpy(pixels[order[i : i + batch]]))
                for i in range(0, len(order), batch)
            )

        return once

    return here(start)


def ram_tensor(batch):
    "The most that memory gives: rows of a tensor that is held, on two threads"

    def start(folder):
        import numpy as np
        import torch

        torch.set_num_threads(2)
        pixels = torch.from_numpy(np.load(folder / 'pixels.npy'))

        def once():
            order = torch.randperm(len(pixels))
            return sum(len(pixels.index_select(0, rows)) for rows in order.split(batch))

        return once

    return here(start)


def numpy_norm_d4(batch):
    "The same few lines, with asinh and one of eight symmetries for each patch"

    def start(folder):
        import numpy as np
        import torch

        pixels, rng = np.load(folder / 'pixels.npy', mmap_mode='r'), np.random.default_rng(0)

        def turned(x, k):
            return np.rot90(x[..., ::-1] if k & 4 else x, k & 3, (-2, -1))

        def once():
            order, n = rng.permutation(len(pixels)), 0
            for i in range(0, len(order), batch):
                x = np.arcsinh(pixels[order[i : i + batch]])
                n += len(
                    torch.from_numpy(
                        np.stack([turned(p, k) for p, k in zip(x, rng.integers(0, 8, len(x)))])
                    )
                )
            return n

        return once

    return here(start)


def whole_epochs(loader):
    return lambda: sum(len(b['image']) for b in loader)


def ours(batch, workers=0, **kw):
    "The public loader, an epoch a turn"

    def start(folder):
        import astrid_data as ad

        return whole_epochs(
            ad.PatchLoader(
                ad.PatchDataset(
                    ad.Dataset(folder / 'v1'), 'train', **dict(normalise=None, valid=False) | kw
                ),
                batch,
                shuffle=True,
                workers=workers,
            )
        )

    return here(start)


def without_numba(start):
    "The same row where numba is not installed"

    def begin(folder):
        from astrid_data.loading import batches, reader

        batches.compiled = reader.compiled = lambda: False
        return start(folder)

    return begin


def some(loader, size_of, most):
    "The next batches of an epoch that goes on from turn to turn, until `most` samples are done"
    left = iter(())

    def once():
        nonlocal left
        n = 0
        while n < min(most, N):
            b = next(left, None)
            if b is None:
                left = iter(loader)
            else:
                n += size_of(b)
        return n

    return once


def by_batch(rows, n, take, batch, workers):
    "A DataLoader that asks for the rows of a whole batch at once"
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    class Taken(torch.utils.data.Dataset):
        def __getitem__(self, i):
            return take(rows, i)

    return DataLoader(
        Taken(),
        batch_size=None,
        sampler=BatchSampler(RandomSampler(range(n)), batch, False),
        num_workers=workers,
    )


def numpy_workers(batch, workers):
    "The bare gather, done by a DataLoader's worker processes"

    def start(folder):
        import numpy as np
        import torch

        loader = by_batch(
            np.load(folder / 'pixels.npy', mmap_mode='r'),
            N,
            lambda a, i: torch.from_numpy(a[i]),
            batch,
            workers,
        )
        return lambda: sum(len(b) for b in loader)

    return here(start)


# Peers, run by their own Python. Each writes its format when it is first asked, and into a name that says whether it came to its end


def once_written(folder, name, write):
    "The data in a peer's own format"
    import shutil

    import numpy as np

    path = folder / name
    if not path.exists():
        shutil.rmtree(part := folder / f'{name}.part', ignore_errors=True)
        write(np.load(folder / 'pixels.npy', mmap_mode='r'), part)
        part.rename(path)
    return path


def hf_datasets(batch, workers, most=N):
    def write(pixels, path):
        from datasets import Array3D, Dataset, Features

        features = Features(dict(image=Array3D((1, SIDE, SIDE), 'float32')))
        Dataset.from_generator(
            lambda: (dict(image=p) for p in pixels),
            features=features,
            cache_dir=str(path.with_suffix('.cache')),
        ).save_to_disk(path)

    def start(folder):
        from datasets import load_from_disk

        rows = load_from_disk(once_written(folder, 'hf', write)).with_format('torch')
        return some(
            by_batch(rows, len(rows), lambda d, i: d[i]['image'], batch, workers), len, most
        )

    return here(start)


def sharded_zarr(batch, workers, most=5120):
    def write(pixels, path):
        import zarr

        z = zarr.create_array(
            path,
            shape=pixels.shape,
            chunks=(1, 1, SIDE, SIDE),
            shards=(4096, 1, SIDE, SIDE),
            dtype='f4',
            compressors=None,
        )
        for i in range(0, len(pixels), 4096):
            z[i : i + 4096] = pixels[i : i + 4096]

    def start(folder):
        import torch
        import zarr

        z = zarr.open_array(once_written(folder, 'zarr', write), mode='r')
        return some(
            by_batch(z, z.shape[0], lambda z, i: torch.from_numpy(z.oindex[i]), batch, workers),
            len,
            most,
        )

    return here(start)


def webdataset(batch, workers, most=20480):
    def write(pixels, path):
        import webdataset as wds

        path.mkdir()
        with wds.ShardWriter(str(path / '%05d.tar'), maxcount=4096, verbose=0) as w:
            for i, p in enumerate(pixels):
                w.write({'__key__': f'{i:07d}', 'raw': p.tobytes()})

    def start(folder):
        import numpy as np
        import torch
        import webdataset as wds

        tars = sorted(map(str, once_written(folder, 'webdataset', write).glob('*.tar')))

        def pixels(s):
            return torch.from_numpy(np.frombuffer(bytearray(s['raw']), 'f4').reshape(1, SIDE, SIDE))

        d = (
            wds.WebDataset(tars, shardshuffle=len(tars), empty_check=False)
            .shuffle(1000)
            .map(pixels)
            .batched(batch, collation_fn=torch.stack)
        )
        return some(wds.WebLoader(d, batch_size=None, num_workers=workers), len, most)

    return here(start)


def mosaicml_streaming(batch, workers, most=20480):
    def write(pixels, path):
        from streaming import MDSWriter

        with MDSWriter(out=str(path), columns=dict(image=f'ndarray:float32:1,{SIDE},{SIDE}')) as w:
            for p in pixels:
                w.write(dict(image=p))

    def start(folder):
        from streaming import StreamingDataLoader, StreamingDataset

        d = StreamingDataset(
            local=str(once_written(folder, 'mds', write)), shuffle=True, batch_size=batch
        )
        return some(
            StreamingDataLoader(d, batch_size=batch, num_workers=workers),
            lambda b: len(b['image']),
            most,
        )

    return here(start)


def litdata(batch, workers, most=20480):
    def write(pixels, path):
        import torch
        from litdata.streaming.writer import BinaryWriter

        path.mkdir()
        w = BinaryWriter(str(path), chunk_bytes='64MB')
        for i, p in enumerate(pixels):
            w[i] = dict(image=torch.from_numpy(p.copy()))
        w.done()
        w.merge()

    def start(folder):
        from litdata import StreamingDataLoader, StreamingDataset

        d = StreamingDataset(str(once_written(folder, 'litdata', write)), shuffle=True)
        return some(
            StreamingDataLoader(d, batch_size=batch, num_workers=workers),
            lambda b: len(b['image']),
            most,
        )

    return here(start)


# From a bucket: the server runs in the process that prepares, the caches lie beside the pixels


@cache
def in_bucket():
    "The version, pushed to a real S3 server that ends with this process"
    import json
    from contextlib import ExitStack

    from astrid_data.storage.trees import push_tree
    from tests.servers import s3_server

    stack = ExitStack()
    atexit.register(stack.close)
    server, folder = stack.enter_context(s3_server()), written()
    (folder / 's3.json').write_text(
        json.dumps(dict(s3_endpoint=server.endpoint, s3_key_id=server.key, s3_secret=server.secret))
    )
    push_tree(folder / 'v1', _store(folder, 'pushed'), 'v1')


def prepare_s3(folder):
    prepare(folder)
    in_bucket()


def _store(folder, cached):
    import json

    from astrid_data.core import Secret, Settings
    from astrid_data.storage.bucket import S3Store
    from astrid_data.storage.cache import DiskCache

    said = json.loads((folder / 's3.json').read_text())
    return S3Store(
        'test',
        '',
        Settings(**{k: v if k == 's3_endpoint' else Secret(v) for k, v in said.items()}),
        DiskCache(folder / cached),
    )


def streamed(batch, first):
    "An epoch through the public loader: the first one with an empty cache, or one after that"

    def start(folder):
        import shutil

        import astrid_data as ad

        store = _store(folder, f'cache-{first}')

        def loader():
            return ad.PatchLoader(
                ad.PatchDataset(
                    ad.datasets.StreamedDataset(store, 'v1'),
                    'train',
                    normalise=None,
                    valid=False,
                    mode='stream',
                ),
                batch,
                shuffle=True,
            )

        def anew():
            shutil.rmtree(folder / f'cache-{first}', ignore_errors=True)
            return whole_epochs(loader())()

        return anew if first else whole_epochs(loader())

    return here(start)


def link(folder):
    "The same bytes, fetched two objects at a time and thrown away"
    from concurrent.futures import ThreadPoolExecutor

    folder = (folder / 'feed').resolve()
    store, keys = (
        _store(folder, 'link'),
        [f'v1/{p.name}' for p in (folder / 'v1').glob('patches-*.npy')],
    )

    def drain(key):
        for _ in store.client.get_object(**store._at(key))['Body'].iter_chunks(1 << 20):
            pass

    def once():
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(drain, keys))
        return N

    return once


PEERS = dict(
    litdata=litdata,
    mosaicml_streaming=mosaicml_streaming,
    webdataset=webdataset,
    sharded_zarr=sharded_zarr,
    hf_datasets=hf_datasets,
)


def table(about, batch, rows, workers=0, peers=True):
    theirs = {name: Row(f(batch, workers), peer=True) for name, f in PEERS.items()} if peers else {}
    return Table(
        'memmap_gather',
        'samples/s',
        dict(memmap_gather=Row(memmap_gather(batch)))
        | {k: Row(v) for k, v in rows.items()}
        | theirs,
        prepare,
        about=f'{N:,} patches of 1×{SIDE}×{SIDE} float32, {about}',
    )


TABLES = {
    'feed_256_w0': table('shuffled batches of 256', 256, dict(astrid_data=ours(256))),
    'feed_256_w2': table(
        'shuffled batches of 256, two worker processes; memmap_gather has none',
        256,
        dict(astrid_data=ours(256, 2), memmap_gather_workers=numpy_workers(256, 2)),
        2,
    ),
    'feed_32_w0': table('shuffled batches of 32', 32, dict(astrid_data=ours(32))),
    'feed_256_w0_norm_d4': table(
        'shuffled batches of 256, asinh and one of eight symmetries each; memmap_gather does neither',
        256,
        dict(
            astrid_data=ours(256, normalise='asinh', augment=True), numpy_norm_d4=numpy_norm_d4(256)
        ),
        peers=False,
    ),
    'feed_ram': Table(
        'ram_tensor',
        'samples/s',
        {
            'ram_tensor': Row(ram_tensor(256)),
            'memmap_gather': Row(memmap_gather(256)),
            'astrid_data': Row(ours(256)),
            'astrid_data_valid': Row(ours(256, valid=True)),
            'astrid_data_asinh_d4': Row(ours(256, normalise='asinh', augment=True)),
            'astrid_data_asinh_d4_numpy': Row(
                without_numba(ours(256, normalise='asinh', augment=True))
            ),
        },
        prepare,
        about=f'{N:,} patches of 1×{SIDE}×{SIDE} float32, shuffled batches of 256, against torch.index_select on a tensor in memory with two threads',
    ),
    'feed_s3': Table(
        'memmap_gather',
        'samples/s',
        {
            'memmap_gather': Row(memmap_gather(256)),
            'astrid_data': Row(streamed(256, False)),
            'astrid_data_first': Row(streamed(256, True)),
            'link': Row(link),
        },
        prepare_s3,
        about=f'{N:,} patches of 1×{SIDE}×{SIDE} float32 in a bucket on this machine, shuffled batches of 256: the first epoch, and those after it; link fetches the same bytes and throws them away',
    ),
}
