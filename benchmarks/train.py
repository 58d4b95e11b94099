"""What training loses: the share of a loop's time that it waits for data, and what watching its energy costs.

Each row tells beside its rate: `wait_share` of the whole loop, `first_batch_s` that it waited for the first batch, which nobody can have read ahead,
`steady_wait_share` of what comes after it; and, where the energy is watched, `overhead_share`, the processor time of the watching thread.
Whether the loader would starve a fast GPU is worked out in nbs/40_energy.ipynb from the tables feed_*.
"""

from benchmarks.harness import Row, Table, sized

MANY, FEW = sized((2048, 256), (512, 192))


def prepare(folder, n=MANY, s=63, c=3):
    "A version of pretend triplets, all in train"
    import numpy as np
    import pandas as pd

    from astrid_data.datasets.dataset import write_dataset

    rng = np.random.default_rng(0)
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            origin='synthetic',
            split='train',
            group_id=[f'{i}' for i in range(n)],
            **{
                f'{k}_{what}': v
                for k in ('template', 'science', 'difference')
                for what, v in (('background', 0.0), ('noise', 1.0))
            },
        )
    )
    write_dataset(
        folder / 'v1',
        t,
        rng.normal(size=(n, c, s, s)).astype('f4'),
        channels=('template', 'science', 'difference'),
        targets=np.zeros((n, s, s), 'u1'),
        name='pretend',
    )


def trainer(model, samples, watched=False):
    "A call that trains on so many samples, and says what part of the time it waited"

    def start(folder):
        import torch

        from astrid_data.datasets.build import Dataset
        from astrid_data.loading.batches import PatchLoader
        from astrid_data.loading.patch_dataset import PatchDataset
        from astrid_data.tracking.data_wait import DataWait
        from astrid_data.tracking.monitor import EnergyMonitor
        from astrid_data.training import models as training

        net, d = (
            getattr(training, model)(channels=3),
            PatchDataset(
                Dataset(folder / 'v1'), range(samples), augment=True, target=model == 'SmallUNet'
            ),
        )
        loader, sgd = PatchLoader(d, 64, shuffle=True), torch.optim.SGD(net.parameters(), 1e-4)

        def loop():
            waits = DataWait()
            for b in waits(loader):
                sgd.zero_grad()
                training.loss_of(training.logits(net, b['image']), b).backward()
                sgd.step()
            return samples, dict(
                wait_share=waits.share,
                steady_wait_share=waits.steady_share,
                first_batch_s=waits.first_s,
            )

        def watched_loop():
            with EnergyMonitor(0.5) as m:
                n, more = loop()
            return n, dict(more, overhead_share=m.last.overhead_share)

        return watched_loop if watched else loop

    return start


TABLES = {
    'train_wait': Table(
        reference='cnn',
        unit='samples/s',
        prepare=prepare,
        repeats=5,
        about='training on CPU, and the share of its time that waits for data',
        rows={'cnn': Row(trainer('SmallCNN', MANY)), 'unet': Row(trainer('SmallUNet', FEW))},
    ),
    'energy_overhead': Table(
        reference='unwatched',
        unit='samples/s',
        prepare=prepare,
        about='training of a small CNN with and without the energy monitor, sampling twice a second',
        rows={
            'unwatched': Row(trainer('SmallCNN', MANY)),
            'astrid_data': Row(trainer('SmallCNN', MANY, watched=True)),
        },
    ),
}
