"""`python -m benchmarks.gpu`: what a GPU gets from the loaders, how busy training keeps it, and what that costs; kept in benchmarks/results/gpu.json.

Nothing is downloaded: pixels are pretend sky, and the largest network is made here from torch alone. A machine without a network
needs the wheels of `astrid_data[all]` and of a torch that is built for its CUDA. The defaults are meant for nine minutes, by
arithmetic: it has been tried on a processor only.

    python -m benchmarks.gpu --device cpu --samples 512 --seconds 1     # tries the script itself where there is no GPU; keeps nothing
"""

import tempfile
import threading
import time
from pathlib import Path

from benchmarks.harness import keep, machine
from benchmarks.words import Words, whole_number

SIDE, CHANNELS = 64, 3
BATCHES = 64, 256, 1024, 4096


def make_version(folder, n):
    "A version of pretend triplets, all in train"
    import numpy as np
    import pandas as pd

    from astrid_data.datasets.dataset import write_dataset

    names = 'template', 'science', 'difference'
    table = pd.DataFrame(dict(label=np.arange(n) % 2, origin='synthetic', split='train'))
    table['sample_key'] = [f'{i:032x}' for i in range(n)]
    for name in names:
        table = table.assign(**{f'{name}_background': 0.0, f'{name}_noise': 1.0})
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((n, CHANNELS, SIDE, SIDE), 'f4')
    pixels[table['label'] == 1, :, SIDE // 2, SIDE // 2] += 5
    maps = np.zeros((n, SIDE, SIDE), 'u1')
    return write_dataset(folder / 'v1', table, pixels, channels=names, targets=maps, name='pretend')


def wait_for(device):
    "Until the device has done what it was asked to do"
    import torch

    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def rate_of(step, device, seconds):
    "What `step()` counts, per second; it is called once before"
    step()
    wait_for(device)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += step()
        wait_for(device)
    return done / (time.perf_counter() - began)


def memory_speed(device, seconds):
    "Bytes per second that the device reads and writes when it copies its own memory"
    import torch

    source = torch.ones(2**28 if device.type == 'cuda' else 2**24, device=device)
    there = torch.empty_like(source)

    def copy():
        there.copy_(source)
        return 2 * source.numel() * source.element_size()

    return rate_of(copy, device, seconds)


def epoch_of(loader, device):
    "A call that goes through one epoch, and ends with every batch on the device"
    from astrid_data.training.predict import to_device

    def epoch():
        return sum(len(to_device(batch, device)['label']) for batch in loader)

    return epoch


def feed_rates(dataset, device, seconds):
    "Samples per second of each loader, in batches of 1,024"
    from astrid_data.loading.loader import RealDataLoader

    ways = {
        'held there': dict(mode='device', device=str(device), resident=True),
        'held there in 16 bits': dict(mode='device', device=str(device), resident=True, half=True),
        'sent batch by batch': dict(mode='device', device=str(device), resident=False),
        'ordinary loader': dict(pin_memory=device.type == 'cuda'),
    }
    work = {'raw': dict(normalise=None, augment=False), 'asinh, D4': dict(augment=True)}
    rates = {}
    for name, options in ways.items():
        for what, more in work.items():
            if what == 'raw' and options.get('half'):
                continue  # Pixels as stored are not squeezed
            train, *_ = RealDataLoader(dataset).loaders(1024, valid=False, **more, **options)
            rates[f'{name}, {what}'] = rate_of(epoch_of(train, device), device, seconds)
            del train
    return rates


def large_network():
    "A residual network with the layers of ResNet-50, for patches: 23.5 million weights"
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inside, width, stride):
            super().__init__()
            self.way = nn.Sequential(
                *(nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
                nn.Conv2d(width, width, 3, stride, 1, bias=False),
                *(nn.BatchNorm2d(width), nn.ReLU()),
                *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
            )
            same = stride == 1 and inside == 4 * width
            short = nn.Conv2d(inside, 4 * width, 1, stride, bias=False)
            self.short = nn.Identity() if same else nn.Sequential(short, nn.BatchNorm2d(4 * width))

        def forward(self, x):
            return (self.way(x) + self.short(x)).relu()

    parts = [nn.Conv2d(CHANNELS, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inside = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for i in range(blocks):
            width = 64 * 2**stage
            parts.append(Block(inside, width, 2 if i == 0 and stage else 1))
            inside = 4 * width
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1), nn.Flatten(0)
    return nn.Sequential(*parts, *head)


def train_for(model, loader, device, seconds):
    "Train so long: samples, seconds, and the share of them that waited for data"
    import torch

    from astrid_data.tracking.data_wait import DataWait
    from astrid_data.training.models import logits, loss_of
    from astrid_data.training.predict import to_device

    sgd = torch.optim.SGD(model.parameters(), 1e-4)
    waits, done, began = DataWait(), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for batch in waits(loader):
            batch = to_device(batch, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
                out = logits(model, batch['image'])
            sgd.zero_grad()
            loss_of(out.float(), batch).backward()
            sgd.step()
            wait_for(device)
            done += len(batch['label'])
            if time.perf_counter() - began >= seconds:
                break
    return dict(
        samples_per_s=done / (time.perf_counter() - began),
        wait_share=waits.share,
        steady_wait_share=waits.steady_share,
        samples=done,
    )


def training_row(make, loader, device, seconds):
    "One network at one batch size, watched; the reason where it cannot be had"
    import torch

    from astrid_data.tracking.monitor import EnergyMonitor

    try:
        model = make().to(device).train()
        train_for(model, loader, device, min(2, seconds))  # Kernels are chosen and compiled
        with EnergyMonitor(0.2) as monitor:
            row = train_for(model, loader, device, seconds)
    except torch.OutOfMemoryError:
        return dict(reason='the device has not enough memory')
    report = monitor.last
    joules = report.gpu_joules
    per_sample = None if joules is None else joules / max(row['samples'], 1)
    return row | dict(gpu_percent=report.gpu_percent, gpu_joules_per_sample=per_sample)


def training_rows(dataset, device, seconds, batches):
    "Every network with its pixels on the device at each batch size, and once with the ordinary loader"
    from astrid_data.loading.loader import RealDataLoader
    from astrid_data.training.models import SmallCNN, SmallUNet

    networks = dict(
        SmallCNN=lambda: SmallCNN(channels=CHANNELS),
        SmallUNet=lambda: SmallUNet(channels=CHANNELS),
        ResNet50=large_network,
    )
    ways = dict(device=dict(mode='device', device=str(device)), ordinary={})
    rows = {}
    for name, make in networks.items():
        for way, options in ways.items():
            for size in batches if way == 'device' else (batches[-1],):
                train, *_ = RealDataLoader(dataset).loaders(
                    size, target=name == 'SmallUNet', valid=False, **options
                )
                rows[f'{name}, {size}, {way}'] = training_row(make, train, device, seconds)
    return rows


def energies(device, seconds):
    "The joules of one burning stretch: NVML's counter, power integrated, codecarbon"
    import pynvml
    import torch
    from codecarbon import OfflineEmissionsTracker

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
    readings, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.05):
            watts = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
            readings.append((time.perf_counter(), watts))

    tracker = OfflineEmissionsTracker(
        country_iso_code='USA', measure_power_secs=1, save_to_file=False, log_level='error'
    )
    watcher, side = threading.Thread(target=watch), torch.ones(4096, 4096, device=device)
    tracker.start()
    before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    watcher.start()
    rate_of(lambda: len(side @ side), device, seconds)
    stop.set()
    watcher.join()
    counter = (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1000
    tracker.stop()
    pairs = list(zip(readings, readings[1:]))
    integrated = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
    codecarbon = tracker.final_emissions_data.gpu_energy * 3.6e6
    return dict(counter_j=counter, integrated_j=integrated, codecarbon_j=codecarbon)


def measure(device, samples, seconds, batches):
    "All figures, as a dict"
    import torch

    with tempfile.TemporaryDirectory() as folder:
        dataset = make_version(Path(folder), samples)
        on_gpu = device.type == 'cuda'
        speed = memory_speed(device, seconds)
        feeds = feed_rates(dataset, device, seconds)
        sample_bytes = 4 * CHANNELS * SIDE**2
        return dict(
            table='gpu',
            about='loaders and training on one device; samples per second unless a name says else',
            machine=machine(),
            device=torch.cuda.get_device_name(device) if on_gpu else 'processor',
            torch=torch.__version__,
            samples=samples,
            memory_bytes_per_s=speed,
            feed=feeds,
            feed_share_of_memory={k: 2 * v * sample_bytes / speed for k, v in feeds.items()},
            training=training_rows(dataset, device, seconds, batches),
            energy=energies(device, 4 * seconds) if on_gpu else None,
        )


def main(words=None):
    parser = Words('benchmarks.gpu', __doc__)
    parser.add_argument('--device', default='cuda', help='as torch names it')
    parser.add_argument('--samples', type=whole_number, default=50_000, help='of the largest set')
    parser.add_argument('--seconds', type=float, default=6, help='of each figure')
    given = parser.parse_args(words)
    import torch

    device = torch.device(given.device)
    if device.type == 'cuda' and not torch.cuda.is_available():
        parser.error('torch finds no GPU here; --device cpu tries the script without one')
    batches = [size for size in BATCHES if size <= given.samples]
    result = measure(device, given.samples, given.seconds, batches)
    for name, figure in result.items():
        for row in figure.items() if isinstance(figure, dict) else [(figure,)]:
            print(f'{name:22}', *row)
    if device.type == 'cuda':
        keep(result)


if __name__ == '__main__':
    main()
