"""What training loses: the share of a loop's time that it waits for data, and what watching its energy costs.

Would the loader starve an H100? Divide the rate of `astrid_data` in the table feed_256_w0_norm_d4 by the rate at which the device trains:
about 85,000 samples/s of 1×64×64 for a real network (an estimate from published ResNet-50 rates, by the number of operations), a few 100,000
for a toy. Below 1 it waits. That assumes one reading process, a warm page cache and copies that overlap the work; none of it was measured on a GPU.
"""
from benchmarks.harness import Row, Table


def prepare(folder, n=2048, s=63, c=3):
    "A version of pretend triplets, all in train"
    import numpy as np, pandas as pd
    from astrid_data.datasets import write_dataset
    rng = np.random.default_rng(0)
    t = pd.DataFrame(dict(sample_key=[f'{i:032x}' for i in range(n)], label=np.arange(n) % 2, origin='synthetic', split='train', group_id=[f'{i}' for i in range(n)],
                          **{f'{k}_{what}': v for k in ('template', 'science', 'difference') for what, v in (('background', 0.), ('noise', 1.))}))
    write_dataset(folder/'v1', t, rng.normal(size=(n, c, s, s)).astype('f4'), channels=('template', 'science', 'difference'), targets=np.zeros((n, s, s), 'u1'), name='pretend')


def trainer(model, samples, watched=False):
    "A call that trains on so many samples, and says on stderr what part of the time it waited"
    def start(folder):
        import sys, torch
        from astrid_data.datasets import Dataset
        from astrid_data.energy import DataWait, EnergyMonitor
        from astrid_data.loader import PatchDataset, PatchLoader
        from astrid_data import training
        net, d = getattr(training, model)(channels=3), PatchDataset(Dataset(folder/'v1'), range(samples), augment=True, target=model == 'SmallUNet')
        loader, sgd = PatchLoader(d, 64, shuffle=True), torch.optim.SGD(net.parameters(), 1e-4)
        def loop():
            waits = DataWait()
            for b in waits(loader): sgd.zero_grad(); training.loss_of(training.logits(net, b['image']), b).backward(); sgd.step()
            print(f'waited for data: {waits.share:.2%}', file=sys.stderr, flush=True)
            return samples
        def watched_loop():
            with EnergyMonitor(0.5) as m: n = loop()
            print(f'cost of watching: {m.last.overhead_share:.2%}', file=sys.stderr, flush=True)
            return n
        return watched_loop if watched else loop
    return start


TABLES = {
    'train_wait': Table(reference='cnn', unit='samples/s', prepare=prepare, repeats=3, about='training on CPU; the share of waiting is printed by python -m benchmarks.train',
                        rows={'cnn': Row(trainer('SmallCNN', 1024)), 'unet': Row(trainer('SmallUNet', 256))}),
    'energy_overhead': Table(reference='unwatched', unit='samples/s', prepare=prepare, about='training of a small CNN with and without the energy monitor, sampling twice a second',
                             rows={'unwatched': Row(trainer('SmallCNN', 2048)), 'astrid_data': Row(trainer('SmallCNN', 2048, watched=True))}),
}

if __name__ == '__main__':
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as d:
        prepare(Path(d))
        for name, run in (('cnn', trainer('SmallCNN', 1024, True)), ('unet', trainer('SmallUNet', 256, True))):
            print(name)
            run(Path(d))()
