"Energy against truth: pretend meters whose joules are known, the real CPU, and no meter at all"

import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrid_data.core import BadInput, Conflict
from astrid_data.tracking.data_wait import DataWait, n_samples
from astrid_data.tracking.energy import EnergyReport, grid_factor, joules_per
from astrid_data.tracking.meters import (
    Reading,
    counter_steps,
    energy_of,
    power_steps,
    rapl_meters,
    visible_gpus,
)
from astrid_data.tracking.monitor import EnergyMonitor

energy_q, power_q = 'nvmlDeviceGetTotalEnergyConsumption', 'nvmlDeviceGetPowerUsage'
all_q = (energy_q, power_q, 'nvmlDeviceGetUtilizationRates', 'nvmlDeviceGetMemoryInfo')


def scenarios():
    "Ten seconds with pretend devices, in many ways; runs in a process of its own, where nobody has imported pynvml yet"
    from fake_nvml import Clock, Gpu, fake_nvml

    def watch(*devices, visible=None, **kw):
        os.environ.pop('CUDA_VISIBLE_DEVICES', None)
        if visible is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = visible
        clock = Clock()
        with fake_nvml(devices, clock) as nv:
            with EnergyMonitor(None, estimate=False, clock=clock, **kw) as m:
                for _ in range(10):
                    clock.t += 1
                    m.sample()
            assert nv.open_handles == 0, 'NVML was not shut down'
        r = m.last
        return dict(
            joules=r.gpu_joules,
            wh=r.total_wh,
            how=r.method.get('gpu'),
            why=r.reasons.get('gpu'),
            estimated=r.estimated,
            parts=r.parts,
            metrics=sorted(r.metrics()),
            mb=r.gpu_memory_peak_mb,
            percent=r.gpu_percent,
        )

    two = Gpu(watts=100), Gpu(watts=300)
    return dict(
        plain=watch(Gpu(watts=100)),
        no_counter=watch(Gpu(fails={energy_q: 0})),
        reset=watch(Gpu(reset=5.5)),
        lost=watch(Gpu(fails={q: 5.5 for q in all_q})),
        counter_lost=watch(Gpu(fails={energy_q: 5.5})),
        second=watch(*two, visible='1'),
        first=watch(*two, visible='GPU-FAKE-0'),
        both=watch(*two),
        none=watch(*two, visible=''),
        mig=watch(Gpu(), visible='MIG-GPU-FAKE-0/1/0'),
        by_hand=watch(*two, gpus=[0]),
        one_lost=watch(Gpu(), Gpu(fails={q: 5.5 for q in all_q})),
    )


@pytest.fixture(scope='module')
def fake():
    p = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout.splitlines()[-1])


def test_100_watts_for_10_seconds_is_one_kilojoule(fake):
    r = fake['plain']
    assert r['joules'] == pytest.approx(1000) and 'counter' in r['how'] and r['estimated'] == []
    assert (r['mb'], r['percent']) == (1000, 50)


def test_without_a_counter_power_is_integrated_and_called_an_estimate(fake):
    r = fake['no_counter']
    assert (
        r['joules'] == pytest.approx(1000)
        and 'integrated (estimate)' in r['how']
        and r['estimated'] == ['gpu']
    )


def test_a_counter_that_starts_again_is_bridged_by_power(fake):
    r = fake['reset']
    assert (
        r['joules'] == pytest.approx(1000)
        and '90% of the time' in r['how']
        and 'integrated (estimate)' in r['how']
    )


def test_a_counter_lost_midway_goes_on_with_power(fake):
    r = fake['counter_lost']
    assert (
        r['joules'] == pytest.approx(1000) and 'counter' in r['how'] and r['estimated'] == ['gpu']
    )


def test_a_device_lost_midway_is_unknown_not_smaller(fake):
    r = fake['lost']
    assert r['joules'] is None and r['wh'] is None
    assert '50%' in r['why'] and '500 J' in r['why'] and 'GPU is lost' in r['why']
    assert (
        'training_energy_wh' not in r['metrics']
        and 'energy_gpu_j' not in r['metrics']
        and 'training_duration_s' in r['metrics']
    )
    r = fake['one_lost']
    assert (
        r['joules'] is None
        and r['parts'] == {'gpu0': pytest.approx(1000), 'gpu1': None}
        and 'gpu1' in r['why']
        and 'gpu0' not in r['why']
    )


def test_only_visible_devices_are_counted(fake):
    assert fake['second']['parts'] == {'gpu1': pytest.approx(3000)}
    assert fake['first']['parts'] == {'gpu0': pytest.approx(1000)}
    assert fake['both']['joules'] == pytest.approx(4000)
    assert fake['none']['joules'] is None and 'none of 2 devices is visible' in fake['none']['why']
    assert fake['by_hand']['parts'] == {'gpu0': pytest.approx(1000)}


def test_a_mig_slice_is_unknown(fake):
    assert (
        fake['mig']['joules'] is None and fake['mig']['wh'] is None and 'MIG' in fake['mig']['why']
    )


def test_no_driver_is_a_reason_and_the_run_goes_on():
    pynvml = pytest.importorskip('pynvml')
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        pass
    else:
        pytest.skip('this machine has an NVIDIA driver')
    t = [0.0]
    with EnergyMonitor(None, estimate=False, clock=lambda: t[0]) as m:
        t[0] = 3
    assert (
        m.last.gpu_joules is None
        and 'no NVIDIA driver' in m.last.reasons['gpu']
        and m.last.duration_s == 3
    )


# --- arithmetic


@given(st.lists(st.floats(0.1, 500), min_size=2, max_size=40), st.data())
def test_counter_steps_add_up_whatever_is_missing(increments, data):
    true = np.concatenate([[0], np.cumsum(increments)])
    t = np.arange(len(true), dtype=float)
    seen = true.copy()
    for i in data.draw(st.sets(st.integers(1, len(true) - 2)) if len(true) > 2 else st.just(set())):
        seen[i] = np.nan
    assert counter_steps(seen, t).sum() == pytest.approx(true[-1], abs=1e-6)


@given(st.floats(100, 900), st.integers(1, 60), st.floats(0, 900))
def test_a_wrapping_counter_loses_nothing(watts, n, start):
    true = start + watts * np.arange(n + 1)
    package = SimpleNamespace(wrap=1000, top_watts=900)
    steps = counter_steps(np.mod(true, 1000), np.arange(n + 1.0), package)
    assert steps.sum() == pytest.approx(watts * n)


def test_power_is_the_trapezoid():
    t, w = np.array([0, 1, 3, 4.0]), np.array([50, 100, 300, 20.0])
    assert power_steps(w, t).sum() == pytest.approx(np.trapezoid(w, t))


def test_a_long_silence_is_not_bridged():
    t, none = np.arange(11.0), np.full(11, np.nan)
    w = np.full(11, 100.0)
    w[3:8] = np.nan
    e = energy_of(t, none, w)
    assert e.joules is None and '40%' in e.reason


def test_unknown_is_never_zero():
    e = energy_of(np.arange(5.0), np.full(5, np.nan), np.full(5, np.nan))
    assert e.joules is None and e.reason
    assert EnergyReport(5).metrics() == {'training_duration_s': 5.0}


@given(
    st.lists(st.sampled_from(['GPU-a1', 'GPU-a2', 'GPU-b1']), unique=True),
    st.lists(st.sampled_from(['0', '1', '2', '7', '-1', 'GPU-a', 'GPU-a1', 'GPU-b', ' 1 ', ''])),
)
def test_visible_gpus_are_devices_each_once(uuids, spec):
    ids = visible_gpus(uuids, ','.join(spec))
    assert len(set(ids)) == len(ids) and all(0 <= i < len(uuids) for i in ids)


# --- the monitor


class Constant:
    name, kind, wrap, how, failure = 'gpu0', 'gpu', None, ('counter', 'power'), None

    def __init__(self, clock, watts=100.0):
        self.clock, self.watts, self.closed = clock, watts, 0

    def read(self):
        return Reading(joules=self.watts * self.clock(), util=50.0)

    def close(self):
        self.closed += 1


def test_the_thread_samples_while_the_main_thread_computes():
    m = EnergyMonitor(0.02, meters=[Constant(time.monotonic)])
    with m:
        x, until = np.ones((300, 300)), time.monotonic() + 0.6
        while time.monotonic() < until:
            x @ x
    assert m.last.n_samples >= 8
    assert m.last.gpu_joules == pytest.approx(100 * m.last.duration_s, rel=0.02)
    assert not [t for t in threading.enumerate() if t.name == 'EnergyMonitor']
    assert m.meters[0].closed == 1


def test_meters_are_closed_and_the_thread_ends_when_the_block_fails():
    m = EnergyMonitor(0.02, meters=[Constant(time.monotonic)])
    with pytest.raises(ZeroDivisionError):
        with m:
            1 / 0
    assert not m.running and m.meters[0].closed == 1 and m.last.n_samples >= 2


def test_start_twice_is_refused_and_stop_twice_is_not():
    m = EnergyMonitor(None, meters=[]).start()
    with pytest.raises(Conflict):
        m.start()
    assert m.stop() is m.stop()


def test_report_before_start_says_what_to_do():
    with pytest.raises(Conflict, match='start'):
        EnergyMonitor(None).report()


def test_decorator_gives_a_report_for_each_call():
    @EnergyMonitor(None, meters=[])
    def double(x):
        return 2 * x

    assert double(4) == 8
    first = double.report
    assert double(5) == 10 and double.report is not first


def test_waiting_is_told_from_working_also_when_the_loop_breaks():
    t = [0.0]

    def loader():
        for i in range(5):
            t[0] += 1
            yield i

    w = DataWait(lambda: t[0])
    for i in w(loader()):
        t[0] += 3
        if i == 1:
            break
    assert (w.waited_s, w.loop_s) == (2, 8)


def test_an_error_of_the_loader_comes_through():
    def loader():
        yield 1
        raise OSError('disk')

    with pytest.raises(OSError, match='disk'):
        list(DataWait()(loader()))


def test_a_report_in_mid_run_shows_no_false_peak():
    t = [0.0]

    class Lumpy(Constant):
        def read(self):
            return Reading(
                joules=50 * round(2 * self.clock())
            )  # A lump of 50 J each half second: 100 W

    m = EnergyMonitor(None, meters=[Lumpy(lambda: t[0])], clock=lambda: t[0])
    with m:
        for t[0] in np.arange(1, 6.0):
            m.sample()
        t[0] = 5.26
        m.sample()
        t[0] = 6.0
        m.sample()
        t[0] = 7.0
        m.sample()
        t[0] = 7.251
        live = m.report()
    assert live.peak_power_w < 150 and m.last.peak_power_w < 150


def test_the_names_that_astrid_logs(fake):
    t = [0.0]
    with EnergyMonitor(
        None, meters=[Constant(lambda: t[0])], clock=lambda: t[0], grid_g_per_kwh=360.0
    ) as m:
        t[0] = 10.0
    assert {
        k: v for k, v in m.last.metrics().items() if k.startswith('training_')
    } == pytest.approx(
        dict(
            training_energy_wh=1000 / 3600,
            training_avg_power_w=100,
            training_peak_power_w=100,
            training_duration_s=10,
            training_carbon_footprint_kg=1000 / 3.6e6 * 0.360,
        )
    )


# --- the bill, shared out


def watched(idle_w=None, watts=100.0, n=4, correct=None, epochs=2, batch=None, step_s=3.0):
    "Epochs of steps of one second waiting and some of work, then ten seconds of scoring"
    t = [0.0]

    def loader():
        for _ in range(n):
            t[0] += 1
            yield np.zeros((8, 3)) if batch is None else batch

    with EnergyMonitor(
        None, meters=[Constant(lambda: t[0], watts)], clock=lambda: t[0], idle_w=idle_w
    ) as m:
        for e in range(epochs):
            m.mark(f'epoch {e + 1}')
            for _ in m.wait(loader()):
                t[0] += step_s
        m.mark('test')
        t[0] += 10
        m.correct = correct
    return m.last


def test_joules_of_a_run_an_epoch_a_sample_and_a_correct_detection():
    r = watched(idle_w=40.0, correct=6)
    assert (
        r.total_joules,
        r.joules_per_epoch,
        r.joules_per_sample,
        r.joules_per_correct,
    ) == pytest.approx((4200, 1600, 4200 / 64, 700))  # 2 epochs of 4 steps of 4 s, and 10 s
    assert (r.joules_above_idle, r.samples, r.epochs, r.correct) == (
        pytest.approx(60 * 42),
        64,
        2,
        6,
    ) and r.method['idle'] == 'as given'
    assert {
        k: r.metrics()[k]
        for k in (
            'joules_per_sample',
            'joules_per_epoch',
            'joules_per_correct_detection',
            'joules_above_idle',
            'idle_power_w',
            'samples_seen',
        )
    } == pytest.approx(
        dict(
            joules_per_sample=4200 / 64,
            joules_per_epoch=1600,
            joules_per_correct_detection=700,
            joules_above_idle=2520,
            idle_power_w=40,
            samples_seen=64,
        )
    )
    assert not {
        'joules_per_sample',
        'joules_per_epoch',
        'joules_per_correct',
        'idle_power_w',
    } & set(r.reasons) and '65.6 J' in repr(r)


@pytest.mark.parametrize(
    'kw, field, why',
    [
        (dict(correct=0), 'joules_per_correct', 'none was found'),
        (dict(), 'joules_per_correct', 'no test split'),
        (dict(epochs=0), 'joules_per_epoch', 'no epoch was marked'),
        (dict(batch=object()), 'joules_per_sample', 'countable'),
        (dict(n=0), 'joules_per_epoch', 'less than a second'),
        (dict(n=0), 'joules_per_sample', 'countable'),
    ],
)
def test_a_price_that_is_unknown_has_a_reason(kw, field, why):
    r = watched(**kw)
    assert (
        getattr(r, field) is None
        and why in r.reasons[field]
        and not [k for k in r.metrics() if k.startswith(field)]
    )


def test_no_idle_baseline_is_a_reason_and_no_zero():
    r = watched()
    assert (
        r.idle_power_w is None
        and r.joules_above_idle is None
        and 'idle_s' in r.reasons['idle_power_w']
        and 'joules_above_idle' not in r.metrics()
    )


def test_a_lost_meter_leaves_no_price():
    t = [0.0]

    class Dies(Constant):
        def read(self):
            return super().read() if self.clock() < 6 else Reading()

    with EnergyMonitor(None, meters=[Dies(lambda: t[0])], clock=lambda: t[0], idle_w=5.0) as m:
        for e in (1, 2):
            m.mark(f'epoch {e}')
            [t.__setitem__(0, t[0] + 5) or m.sample() for _ in m.wait([np.zeros((4, 1))])]
        m.correct = 3
    r = m.last
    assert [r.joules_per_epoch, r.joules_per_sample, r.joules_per_correct, r.joules_above_idle] == [
        None
    ] * 4
    assert (
        all(
            r.reasons[f'joules_per_{k}'] == 'the energy is unknown' or k == 'epoch'
            for k in ('sample', 'epoch', 'correct')
        )
        and r.marks['joules'].tolist()[0] == 500
        and np.isnan(r.marks['joules'][1])
    )


def test_the_idle_machine_is_measured_before_the_run():
    "A device of 40 W, of 100 W once the work begins"

    class Device(Constant):
        busy_from = np.inf

        def read(self):
            now = time.monotonic()
            self.read_at.append(now)
            return Reading(joules=40 * now + 60 * max(0, now - self.busy_from))

    d = Device(time.monotonic)
    d.read_at = []
    m = EnergyMonitor(0.05, meters=[d], idle_s=0.4)
    entered = time.monotonic()
    m.start()
    waited = time.monotonic() - entered
    begun = d.read_at[-1]
    d.busy_from = time.monotonic()
    time.sleep(0.5)
    r = m.stop()
    ended = d.read_at[-1]
    assert (
        waited >= 0.4
        and r.duration_s <= time.monotonic() - entered - 0.4
        and r.idle_power_w == pytest.approx(40, rel=0.2)  # Its clock is read beside the device's
        and 'before the run' in r.method['idle']
    )
    used = 40 * (ended - begun) + 60 * (ended - d.busy_from)
    assert r.total_joules == pytest.approx(used, rel=0.01)
    above = used - r.idle_power_w * r.duration_s
    assert r.joules_above_idle == pytest.approx(above, rel=0.05)
    with pytest.raises(BadInput, match='not both'):
        EnergyMonitor(idle_s=1, idle_w=3.0)


@given(st.one_of(st.none(), st.floats(0, 1e9)), st.one_of(st.none(), st.integers(0, 10**6)))
def test_joules_per_thing(joules, n):
    got = joules_per(joules, n)
    assert got is None if joules is None or not n else got * n == pytest.approx(joules)


def test_samples_of_batches():
    x = np.zeros((5, 2))
    assert [
        n_samples(b)
        for b in (dict(image=x), (x, x), [x], x, {}, (), 3, 'word', None, np.float64(3))
    ] == [5, 5, 5, 5] + [None] * 6


# --- waiting


def test_the_first_batch_is_told_from_the_rest():
    t = [0.0]

    def loader():
        for i in range(5):
            t[0] += 4 if i == 0 else 0.25
            yield np.zeros(3)

    w = DataWait(lambda: t[0])
    for _ in range(2):
        for _ in w(loader()):
            t[0] += 1
    assert (w.first_s, w.share, w.steady_share, w.samples) == (4, 10 / 20, 2 / 12, 30)
    assert list(w.waits) == [4, 0.25, 0.25, 0.25, 0.25] * 2 and list(w.works) == [1] * 10


def test_one_batch_has_no_steady_state():
    w = DataWait()
    assert (w.share, w.first_s, w.steady_share) == (None,) * 3
    for _ in w([1]):
        pass
    assert w.steady_share is None and w.first_s is not None and w.samples is None


def test_marks_share_out_the_energy():
    t = [0.0]
    m = EnergyMonitor(None, meters=[Constant(lambda: t[0])], clock=lambda: t[0])
    with m:
        m.mark('a')
        t[0] = 4
        m.mark('b')
        t[0] = 4.5
        m.mark('short')
        t[0] = 5
        m.mark('c')
        t[0] = 7
    marks = m.last.marks.set_index('name')
    assert marks['joules'][['a', 'c']].tolist() == pytest.approx([400, 200])
    assert np.isnan(marks['joules']['short'])  # Half a second is too short for any meter
    assert m.last.gpu_joules == pytest.approx(700)


def test_rapl_is_read_by_package_and_wraps(tmp_path):
    def zone(name, label, uj, top=1_000_000_000):
        (tmp_path / name).mkdir(exist_ok=True)
        for f, v in (('name', label), ('energy_uj', uj), ('max_energy_range_uj', top)):
            (tmp_path / name / f).write_text(f'{v}\n')

    zone('intel-rapl:0', 'package-0', 990_000_000)
    zone('intel-rapl:0:0', 'dram', 5_000_000)
    zone('intel-rapl:1', 'psys', 1)
    zone('intel-rapl:0:1', 'core', 1)
    meters, why = rapl_meters(tmp_path)
    assert why is None and sorted(m.kind for m in meters) == ['cpu', 'memory']
    t = [0.0]
    with EnergyMonitor(None, meters=meters, clock=lambda: t[0]) as m:
        t[0] = 1
        zone('intel-rapl:0', 'package-0', 20_000_000)
        zone('intel-rapl:0:0', 'dram', 7_000_000)
    assert (
        m.last.cpu_joules == pytest.approx(30)
        and m.last.memory_joules == pytest.approx(2)
        and m.last.total_joules == pytest.approx(32)
    )
    assert m.last.estimated == [] and 'RAPL' in m.last.method['cpu']


def test_a_rapl_zone_that_vanishes_is_a_reason(tmp_path):
    (tmp_path / 'intel-rapl:0').mkdir()
    for f, v in (('name', 'package-0'), ('energy_uj', '5'), ('max_energy_range_uj', '1000')):
        (tmp_path / 'intel-rapl:0' / f).write_text(v)
    t = [0.0]
    with EnergyMonitor(None, meters=rapl_meters(tmp_path)[0], clock=lambda: t[0]) as m:
        for t[0] in range(1, 5):
            m.sample()
        (tmp_path / 'intel-rapl:0' / 'energy_uj').unlink()
        for t[0] in range(5, 11):
            m.sample()
    assert m.last.cpu_joules is None and 'energy_uj' in m.last.reasons['cpu']


def test_the_real_machine_estimates_are_marked_and_cheap():
    with EnergyMonitor(0.5, country='FRA') as m:
        x, until = np.ones((400, 400)), time.monotonic() + 2.2
        while time.monotonic() < until:
            x @ x
    r = m.last
    for k in ('gpu', 'cpu', 'memory'):
        assert (getattr(r, f'{k}_joules') is None) == (k in r.reasons), k
    if 'cpu' in r.estimated:
        assert 'codecarbon' in r.method['cpu'] and 'W at most' in r.method['cpu']
    if r.total_wh is not None:
        assert r.co2_kg == pytest.approx(r.total_wh / 1e6 * grid_factor('FRA'))
    assert r.cpu_percent > 10 and r.memory_peak_mb > 10
    assert r.overhead_share < 0.01


def test_top_power_of_the_cpu_can_be_given():
    with EnergyMonitor(None, cpu_watts=200.0) as m:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        m.sample()
    if 'cpu' not in m.last.estimated:
        pytest.skip('this machine has a readable RAPL counter')
    assert (
        '200 W at most as given' in m.last.method['cpu']
        and 0 < m.last.cpu_joules <= 200 * m.last.duration_s * 1.05
    )


def test_co2_needs_a_place():
    assert grid_factor('DEU') > 100
    with pytest.raises(BadInput, match='three-letter'):
        EnergyMonitor(country='ZZZ')
    with EnergyMonitor(None, meters=[Constant(time.monotonic)]) as m:
        pass
    assert m.last.co2_kg is None and 'country' in m.last.reasons['co2_kg']


def test_shown_without_a_kernel():
    with EnergyMonitor(None, meters=[Constant(time.monotonic)]) as m:
        m.sample()
    assert '<table>' in m.last._repr_html_() and 'counter' in repr(m.last)
    import matplotlib

    matplotlib.use('Agg')
    assert m.last.plot().axes[0].lines


if __name__ == '__main__':
    print(json.dumps(scenarios()))
