"Energy that nature agrees with: counters that come round or stop, gaps, whose joules, which device"

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from astrid_data.core import BadInput
from astrid_data.tracking.energy import EnergyReport, spans_without
from astrid_data.tracking.meters import (
    Meter,
    ProcessWork,
    Reading,
    _work_between,
    counter_steps,
    energy_of,
    power_steps,
)
from astrid_data.tracking.monitor import EnergyMonitor

# --- a counter that comes round, stops, or is set back


class FakeCounter(Meter):
    "A processor of constant power, whose counter of `wrap` joules is seen now and then"

    name, kind, how = 'package-0', 'cpu', ('fake counter', 'fake power')

    def __init__(self, clock, watts=140.0, wrap=1000.0, top_watts=200.0, stops=np.inf, holes=()):
        self.clock, self.watts, self.wrap, self.top_watts = clock, watts, wrap, top_watts
        self.stops, self.holes = stops, holes

    def read(self):
        now = self.clock()
        if any(start <= now < stop for start, stop in self.holes):
            return Reading()
        joules = self.watts * min(now, self.stops)
        return Reading(joules=joules % self.wrap if self.wrap else joules)

    def close(self):
        pass


def watched(every_s, n=12, **kw):
    "The report of a fake counter that is read by hand every so many seconds"
    now = [0.0]
    with EnergyMonitor(None, meters=[FakeCounter(lambda: now[0], **kw)], clock=lambda: now[0]) as m:
        for i in range(1, n + 1):
            now[0] = i * every_s
            m.sample()
    return m.last


@pytest.mark.parametrize('every_s', [0.5, 1, 4, 4.9, 5])
def test_a_counter_that_came_round_at_most_once_is_measured(every_s):
    report = watched(every_s)
    if every_s * 200 >= 1000 + 140 * every_s % 1000:
        pytest.skip('it may have come round twice')
    assert report.cpu_joules == pytest.approx(140 * 12 * every_s) and report.missing_s == 0


@pytest.mark.parametrize('every_s', [7.2, 10, 14.3, 15, 29, 60])
def test_a_counter_that_may_have_come_round_twice_is_unknown(every_s):
    report = watched(every_s)
    assert report.cpu_joules is None and report.total_wh is None
    assert 'more than once' in report.reasons['cpu']
    assert report.missing_s == pytest.approx(12 * every_s)
    assert report.series['cpu_watts'].isna().all()


@given(
    st.floats(1, 200),
    st.lists(st.floats(0.05, 40), min_size=1, max_size=30),
    st.floats(0, 1000),
)
@example(200.0, [11.0, 9.833785800823607], 0.0)  # At the top, and rounded
def test_what_is_measured_is_true_and_never_less(watts, waits, start):
    "Whatever the rhythm: each step has its true energy, or is unknown"
    t = np.cumsum([0, *waits])
    steps = counter_steps(
        (start + watts * t) % 1000, t, SimpleNamespace(wrap=1000, top_watts=200, may_rest=True)
    )
    known = np.isfinite(steps)
    assert steps[known] == pytest.approx(watts * np.diff(t)[known], abs=1e-6)
    assert known[np.diff(t) * 200 < 1000].all()


def test_a_wrap_whose_power_has_no_limit_is_unknown():
    meter = SimpleNamespace(wrap=1000)
    assert np.isnan(counter_steps([900, 990, 80], [0, 1, 2], meter)).all()


def test_a_hole_of_readings_costs_nothing_where_the_counter_went_on():
    report = watched(1.0, holes=[(3, 6)])
    assert report.cpu_joules == pytest.approx(140 * 12) and report.missing_s == 0


def test_a_long_hole_is_one_in_which_the_counter_may_have_come_round():
    report = watched(1.0, n=40, holes=[(3, 20)])
    assert report.cpu_joules is None and report.missing_s == pytest.approx(18)
    assert '18' in report.reasons['total_wh'] and '18' in report.reasons['cpu']
    assert spans_without(report.series, 'cpu_watts') == [(2, 20)]


def test_a_counter_that_stops_is_a_hole_and_no_device_of_0_w():
    report = watched(1.0, stops=5.0)
    assert report.cpu_joules is None and 'stood still' in report.reasons['cpu']
    assert report.series['cpu_watts'].dropna().min() > 0 and report.missing_s == pytest.approx(7)
    assert watched(1.0, watts=0.0).cpu_joules is None  # As on a virtual GPU


def test_a_counter_that_moves_in_lumps_keeps_all_and_shows_no_0_w():
    t = np.arange(0, 20, 0.1)
    lumps = np.floor(t / 0.5) * 50
    steps = counter_steps(lumps, t)
    assert steps.min() > 0 and steps.sum() == pytest.approx(lumps[-1])


@pytest.mark.parametrize('reading', [0.0, -1.0, np.nan, np.inf])
def test_power_that_no_device_draws_is_no_reading(reading):
    steps = power_steps([100, 100, *[reading] * 4, 100], np.arange(7.0))
    assert steps[0] == 100 and np.isnan(steps[1:]).all()


def test_a_sampling_thread_that_starved_leaves_a_gap_in_power():
    t = np.array([0, 0.5, 1, 1.5, 9, 9.5])
    steps = power_steps(np.full(6, 100.0), t, longest_s=1.5)
    assert np.isnan(steps).tolist() == [False, False, False, True, False]
    energy = energy_of(t, np.full(6, np.nan), np.full(6, 100.0), longest_s=1.5)
    assert energy.joules is None and energy.missing_s == 7.5 and '21%' in energy.reason


def test_what_is_filled_is_said_and_called_an_estimate():
    now = [0.0]
    meter = FakeCounter(lambda: now[0], wrap=None, stops=np.inf)
    with EnergyMonitor(None, meters=[meter], clock=lambda: now[0]) as m:
        for now[0] in np.arange(1, 401):
            m.sample()
        meter.stops = 399.0  # Set back by 140 J
        now[0] = 401.0
        m.sample()
    report = m.last
    assert report.missing_s == 1 and report.cpu_joules == pytest.approx(140 * 401)
    assert 'filled' in report.method['cpu'] and report.estimated == ['cpu']
    assert '1 of 401 s not measured' in repr(report) and report.metrics()['energy_missing_s'] == 1


def test_no_meter_leaves_marks_without_joules():
    now = [0.0]
    with EnergyMonitor(None, meters=[], clock=lambda: now[0]) as m:
        m.mark('epoch 1')
        now[0] = 9.0
    assert m.last.marks['joules'].isna().all() and m.last.missing_s is None


def test_a_hole_costs_only_the_epoch_it_is_in():
    now = [0.0]
    meter = FakeCounter(lambda: now[0], holes=[(12, 19)], top_watts=150)
    with EnergyMonitor(None, meters=[meter], clock=lambda: now[0]) as m:
        for now[0] in range(30):
            if now[0] % 10 == 0:
                m.mark(f'epoch {now[0] // 10}')
            m.sample()
    joules = m.last.marks['joules']
    assert joules[0] == pytest.approx(1400) and np.isnan(joules[1])
    assert joules[2] == pytest.approx(140 * 9)


# --- pictures: gaps are gaps


def test_a_gap_is_drawn_as_a_gap_everywhere():
    matplotlib = pytest.importorskip('matplotlib')
    matplotlib.use('Agg')
    from astrid_data.widgets.runs import run_figure

    report = watched(1.0, n=40, holes=[(10, 30)])
    for fig in (report.plot(), run_figure(report)):
        power = next(ax for ax in fig.axes if 'power' in ax.get_ylabel())
        drawn = power.lines[0].get_ydata().astype(float)
        assert np.isnan(drawn).sum() >= 15 and np.nanmin(drawn) == pytest.approx(140)
        assert power.patches  # The shade
    said = [text.get_text() for ax in fig.axes for text in ax.texts]
    said += [ax.get_xlabel() for ax in fig.axes]  # Under the curves
    words = ' '.join(said)
    assert '21 of 40 s' in words


def test_steps_of_a_long_run_keep_their_gaps():
    from astrid_data.widgets.runs import in_steps

    t = np.arange(0, 3600, 0.5)
    watts = np.full(len(t), 80.0)
    watts[(t > 1000) & (t < 1600)] = np.nan
    few = in_steps(pd.DataFrame(dict(t_s=t, gpu_watts=watts)), ['gpu'])
    gap = few['t_s'].between(1001, 1600)
    assert few.loc[gap, ['gpu_watts', 'gpu_joules']].isna().to_numpy().all()
    assert few['gpu_watts'].min() == pytest.approx(80)
    assert few['gpu_joules'].iloc[-1] == pytest.approx(np.nansum(watts[1:]) * 0.5)


# --- whose joules


def burn(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


BURN = 'import time\nwhile time.process_time() < {}: pass'


def burn_in_children(cpu_s):
    "In a child, and in a child of a child"
    nested = (
        f'import subprocess, sys\nsubprocess.run([sys.executable, "-c", {BURN.format(cpu_s)!r}])'
    )
    for code in (BURN.format(cpu_s), nested):
        subprocess.run([sys.executable, '-c', code], check=True)


def bill(function, seconds, **kw):
    with EnergyMonitor(0.1, cpu_watts=200.0, gpus=[], **kw) as m:
        function(seconds)
    return m.last


def test_asleep_and_burning_are_different_bills_whatever_others_do():
    "A neighbour burns all the while; it is not ours, since another process started it"
    neighbour = subprocess.Popen(
        [
            sys.executable,
            '-c',
            'import subprocess, sys\nsubprocess.Popen([sys.executable, "-c", '
            f'{BURN.format(6)!r}], start_new_session=True)',
        ]
    )
    neighbour.wait()  # Its child goes on, and belongs to nobody here
    asleep, burning = bill(time.sleep, 2.0), bill(burn, 2.0)
    if 'cpu' not in asleep.estimated:
        pytest.skip('this machine has a readable RAPL counter, of the whole package')
    cores = os.cpu_count()
    assert asleep.cpu_joules < 0.1 * 200 / cores * 2
    assert burning.cpu_joules == pytest.approx(200 / cores * burning.process_cpu_s, rel=0.1)
    assert burning.cpu_joules > 4 * asleep.cpu_joules
    assert burning.process_share > 2 * asleep.process_share
    assert 'its children' in burning.whose['cpu'] and 'its children' in repr(burning)


def test_children_are_billed_also_when_they_have_ended():
    report = bill(burn_in_children, 0.6)
    assert 1.1 <= report.process_cpu_s < 2.5


def test_a_child_that_lives_on_is_billed_once():
    work = ProcessWork()
    child = subprocess.Popen([sys.executable, '-c', BURN.format(0.5) + '\ntime.sleep(9)'])
    seen, until = [], time.monotonic() + 20
    while not seen or (seen[-1] < 0.45 and time.monotonic() < until):
        time.sleep(0.1)
        seen.append(work.seconds())
    child.kill()
    child.wait()
    time.sleep(0.2)
    seen.append(work.seconds())
    assert seen == sorted(seen) and 0.45 <= seen[-1] < 1.5


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=6), st.floats(0, 5))
def test_work_is_counted_once_however_children_end(children, own):
    "Each child works, is seen half-way, and ends: waited for (its time goes to us) or not"
    before = {'us': (0.0, 0.0)} | {i: (work / 2, 0.0) for i, (work, _) in enumerate(children)}
    gone = {'us': (own, sum(work for work, waited in children if waited))}
    seen = sum(work / 2 for work, _ in children)
    total = seen + _work_between(before, gone)
    true = own + sum(work for work, _ in children)
    assert total <= true + 1e-9
    if all(waited for _, waited in children):
        assert total == pytest.approx(true)
    assert total >= own + seen - 1e-9


def test_memory_is_told_apart_and_in_no_total():
    report = bill(time.sleep, 1.0)
    if 'memory' not in report.standing:
        pytest.skip('this machine meters its memory')
    counted = [getattr(report, f'{kind}_joules') for kind in report.in_total]
    assert report.memory_joules > 0 and 'memory' not in report.in_total
    if report.total_wh is not None:
        assert report.total_joules == pytest.approx(sum(counted))
        assert 'without memory' in repr(report)
    assert 'not in the total' in report.method['memory']


def test_an_idle_machine_of_other_meters_is_a_reason_and_no_negative_number():
    report = bill(time.sleep, 1.0, idle_w=90.0)
    if report.total_wh is None or 'cpu' not in report.estimated:
        pytest.skip('only where the processor is estimated')
    assert report.joules_above_idle is None
    assert 'not of the same meters' in report.reasons['joules_above_idle']
    assert 'joules_above_idle' not in report.metrics()


@pytest.mark.parametrize('name', ['interval_s', 'idle_s', 'idle_w', 'cpu_watts'])
@pytest.mark.parametrize('value', [-1, float('nan'), float('inf'), 'x', True, [1]])
def test_settings_that_make_no_sense_are_refused(name, value):
    with pytest.raises(BadInput, match=name):
        EnergyMonitor(**{name: value})


def test_metrics_say_nothing_of_what_is_unknown():
    assert EnergyReport(5).metrics() == {'training_duration_s': 5.0}


# --- which device


def devices():
    "Two unlike devices in many settings; runs in a process of its own, where nobody has imported pynvml yet"
    from fake_nvml import Clock, Gpu, fake_nvml

    bus = [Gpu(watts=30, name='T4'), Gpu(watts=300, name='H100')]  # CUDA's number 0 is the H100
    cuda = [1, 0]  # CUDA's number -> NVML's

    def torch_of(visible, allocated):
        def properties(i):
            return SimpleNamespace(uuid=f'fake-{visible[i]}')

        def stats(i):
            return {'allocated_bytes.all.allocated': allocated[i]}

        return SimpleNamespace(
            cuda=SimpleNamespace(
                is_initialized=lambda: True,
                is_available=lambda: True,
                device_count=lambda: len(visible),
                get_device_properties=properties,
                memory_stats=stats,
            )
        )

    def watch(spec=None, order=None, works_on=None, before=None, gpus=bus, error=None, **kw):
        for name, value in (('CUDA_VISIBLE_DEVICES', spec), ('CUDA_DEVICE_ORDER', order)):
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        visible = cuda if spec is None else [cuda[int(i)] for i in spec.split(',') if i.isdigit()]
        allocated = list(before or [0] * len(visible))
        sys.modules.pop('torch', None)
        if before is not None:
            sys.modules['torch'] = torch_of(visible, allocated)
        clock = Clock()
        with fake_nvml(gpus, clock) as nv:
            try:
                with EnergyMonitor(None, estimate=False, clock=clock, **kw) as m:
                    if works_on is not None:
                        allocated[works_on] += 1000
                        sys.modules['torch'] = torch_of(visible, allocated)
                    for _ in range(10):
                        clock.t += 1
                        m.sample()
            except BadInput as problem:
                return str(problem)
            finally:
                sys.modules.pop('torch', None)
            assert nv.open_handles == 0, 'NVML was not shut down'
        r = m.last
        return dict(
            parts=r.parts,
            why=r.reasons.get('gpu'),
            wh=r.total_wh,
            idle=r.idle_power_w,
            whose=r.whose,
        )

    alike = [Gpu(watts=30), Gpu(watts=300)]
    return dict(
        cuda0=watch(works_on=0),
        cuda1=watch(works_on=1),
        both_before=watch(works_on=0, before=[500, 500]),
        spec0=watch(spec='0', works_on=0),
        spec1=watch(spec='1', works_on=0),
        nobody_knows=watch(spec='0'),
        bus_order=watch(spec='0', order='PCI_BUS_ID'),
        by_uuid=watch(spec='GPU-FAKE-1'),
        alike=watch(spec='1', gpus=alike),
        visible=watch(gpus=bus, works_on=0, **{}),
        no_torch=watch(),
        sliced=watch(gpus=[Gpu(mig=True)]),
        sliced_elsewhere=watch(spec='GPU-FAKE-1', gpus=[Gpu(mig=True), Gpu(watts=300)]),
        **{
            f'named {named}': watch_named(watch, named)
            for named in ([0], ['GPU-FAKE-1'], [5], ['x'], [True], 'gpu', 3)
        },
    )


def watch_named(watch, named):
    "As if a caller had given `gpus`"
    import functools

    from astrid_data.tracking import monitor

    real = monitor.EnergyMonitor
    globals()['EnergyMonitor'] = functools.partial(real, gpus=named)
    try:
        return watch()
    finally:
        globals()['EnergyMonitor'] = real


@pytest.fixture(scope='module')
def seen():
    p = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout.splitlines()[-1])


T4, H100 = {'gpu0': 300.0}, {'gpu1': 3000.0}


@pytest.mark.parametrize(
    'how, parts',
    [
        ('cuda0', H100),
        ('cuda1', T4),
        ('both_before', H100),
        ('spec0', H100),
        ('spec1', T4),
        ('bus_order', T4),
        ('by_uuid', H100),
        ('alike', H100),
        ('no_torch', T4 | H100),
        ('sliced_elsewhere', H100),
        ('named [0]', T4),
        ("named ['GPU-FAKE-1']", H100),
    ],
)
def test_the_device_that_is_used_is_metered(seen, how, parts):
    assert seen[how]['parts'] == pytest.approx(parts) and seen[how]['why'] is None
    assert seen[how]['whose'] == {'gpu': 'the whole device'}


def test_of_unlike_devices_that_nobody_tells_apart_none_is_metered(seen):
    case = seen['nobody_knows']
    assert case['parts'] == {} and case['wh'] is None
    assert 'CUDA_DEVICE_ORDER=PCI_BUS_ID' in case['why'] and 'UUID' in case['why']


def test_a_sliced_device_is_unknown_also_where_nothing_says_so(seen):
    assert seen['sliced']['parts'] == {} and 'MIG' in seen['sliced']['why']


@pytest.mark.parametrize('named', [[5], ['x'], [True]])
def test_a_device_that_is_not_there_is_refused(seen, named):
    assert 'not one device of this machine' in seen[f'named {named}']


@pytest.mark.parametrize('named', ['gpu', 3])
def test_what_names_no_devices_is_refused(seen, named):
    assert 'a list of numbers or UUIDs' in seen[f'named {named}']


if __name__ == '__main__':
    print(json.dumps(devices()))


def test_a_forked_child_has_a_lock_of_its_own():
    "Forked while another thread holds the monitor"
    import os
    import signal
    import threading

    from astrid_data.tracking.monitor import EnergyMonitor

    monitor = EnergyMonitor(interval_s=None, meters=[])
    held, done = threading.Event(), threading.Event()

    def hold():
        with monitor.lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        with monitor.lock:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    done.set()
    thread.join()
    assert status == 0
