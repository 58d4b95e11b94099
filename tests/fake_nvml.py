"""A pretend NVML for tests: the names of nvidia-ml-py's `pynvml`, numbers from a script.

It measures nothing. Every device calls itself FAKE-GPU unless told otherwise, and its UUID is FAKE, so that no number made with it can be taken for a real one. Constants and
error classes are the real module's. Use it in a fresh process, before anything has imported `pynvml`:

    clock = Clock()
    with fake_nvml([Gpu(watts=100)], clock): ...
"""

import sys
import types
from contextlib import contextmanager
from types import SimpleNamespace


class Clock:
    "Seconds, which pass when told to"

    def __init__(self):
        self.t = 0.0

    def __call__(self):
        return self.t


class Gpu:
    "A device of constant power; `fails` maps a question to the time from which it fails, `reset` is when its counter starts again at 0"

    def __init__(
        self,
        watts=100.0,
        used_mb=1000,
        util=50,
        counter_start_j=7000.0,
        fails=(),
        reset=None,
        name='FAKE-GPU',
        mig=False,
    ):
        self.name, self.mig = name, mig
        self.watts, self.used_mb, self.util, self.counter_start_j, self.fails, self.reset = (
            watts,
            used_mb,
            util,
            counter_start_j,
            dict(fails),
            reset,
        )

    def millijoules(self, t):
        if self.reset is not None and t >= self.reset:
            return int(1000 * self.watts * (t - self.reset))
        return int(1000 * (self.counter_start_j + self.watts * t))


@contextmanager
def fake_nvml(gpus, clock):
    "Stand in for `pynvml` while the block runs"
    if 'pynvml' in sys.modules:
        raise RuntimeError('pynvml is loaded already, and someone may hold it: use a fresh process')
    import pynvml as real

    fake = types.ModuleType('pynvml')
    fake.__dict__.update({k: v for k, v in vars(real).items() if not k.startswith('__')})
    fake.open_handles = 0

    def init():
        fake.open_handles += 1

    def shutdown():
        fake.open_handles -= 1

    def handle(i):
        if not 0 <= i < len(gpus):
            raise real.NVMLError(real.NVML_ERROR_INVALID_ARGUMENT)
        return i

    def question(name, answer):
        def ask(h):
            if clock() >= gpus[h].fails.get(name, float('inf')):
                raise real.NVMLError(real.NVML_ERROR_GPU_IS_LOST)
            return answer(gpus[h], h)

        setattr(fake, name, ask)

    fake.nvmlInit, fake.nvmlShutdown = init, shutdown
    fake.nvmlDeviceGetCount, fake.nvmlDeviceGetHandleByIndex = lambda: len(gpus), handle
    question('nvmlDeviceGetName', lambda g, h: g.name)
    question('nvmlDeviceGetMigMode', lambda g, h: [int(g.mig)] * 2)
    question('nvmlDeviceGetUUID', lambda g, h: f'GPU-FAKE-{h}')
    question('nvmlDeviceGetTotalEnergyConsumption', lambda g, h: g.millijoules(clock()))
    question('nvmlDeviceGetPowerUsage', lambda g, h: int(1000 * g.watts))
    question('nvmlDeviceGetUtilizationRates', lambda g, h: SimpleNamespace(gpu=g.util, memory=0))
    question(
        'nvmlDeviceGetMemoryInfo',
        lambda g, h: SimpleNamespace(used=g.used_mb * 2**20, total=80_000 * 2**20, free=0),
    )
    sys.modules['pynvml'] = fake
    try:
        yield fake
    finally:
        del sys.modules['pynvml']
