"""`python -m benchmarks.joules`: are joules those that nature spent? Kept in benchmarks/results/joules.json.

First a pretend counter, of which the truth is known: it comes round once or twice between two readings, stops, or is not read for a while. What is reported must be the truth, or unknown.
Then this machine, ten seconds each: a process that sleeps, one that works, and one whose child works. A machine without a readable counter gets the estimate, at an assumed 200 W.
"""

import subprocess
import sys
import time

from benchmarks.harness import keep, machine, moment
from benchmarks.words import Words

SECONDS = 10.0
WATTS, WRAP, TOP_WATTS = 140.0, 1000.0, 200.0  # Of the pretend counter
# Seconds between readings, when it stops, when it is not read (s)
COUNTERS = {
    'read in time': (2.0, None, None),
    'comes round once': (5.0, None, None),
    'may come round twice': (10.0, None, None),
    'comes round twice': (15.0, None, None),
    'a short hole': (2.0, None, (9.0, 13.0)),
    'a hole in which it may come round': (2.0, None, (9.0, 21.0)),
    'stops': (2.0, 20.0, None),
}


def pretend(every_s, stops, hole, n=12):
    "The report of a counter that is read every so many seconds, and the joules that were spent"
    from astrid_data.tracking.meters import Meter, Reading
    from astrid_data.tracking.monitor import EnergyMonitor

    now = [0.0]

    class Pretend(Meter):
        name, kind, how = 'package-0', 'cpu', ('counter', 'power')
        wrap, top_watts = WRAP, TOP_WATTS

        def read(self):
            if hole and hole[0] <= now[0] < hole[1]:
                return Reading()
            return Reading(joules=WATTS * min(now[0], stops or now[0]) % WRAP)

        def close(self):
            pass

    with EnergyMonitor(None, meters=[Pretend()], clock=lambda: now[0]) as monitor:
        for i in range(1, n + 1):
            now[0] = i * every_s
            monitor.sample()
    return monitor.last, WATTS * n * every_s


def differences(every_s, stops, hole, n=12):
    "What taking differences of the counter would have said (J)"
    times = [i * every_s for i in range(n + 1)]
    shown = [
        WATTS * min(t, stops or t) % WRAP for t in times if not (hole and hole[0] <= t < hole[1])
    ]
    return sum((later - earlier) % WRAP for earlier, later in zip(shown, shown[1:]))


def counters():
    "One row for each pretend counter"
    for name, case in COUNTERS.items():
        report, spent = pretend(*case)
        yield dict(
            counter=name,
            read_every_s=case[0],
            spent_j=spent,
            differences_j=differences(*case),
            reported_j=report.cpu_joules,
            reason=report.reasons.get('cpu'),
        )


def _work(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def _child_works(seconds):
    code = (
        f'import time\nuntil = time.monotonic() + {seconds}\nwhile time.monotonic() < until: pass'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


PROCESSES = dict(slept=time.sleep, worked=_work)
PROCESSES['waited for a child that worked'] = _child_works


def bills():
    "One row for each process on this machine"
    from astrid_data.tracking.monitor import EnergyMonitor

    for name, function in PROCESSES.items():
        with EnergyMonitor(0.1, cpu_watts=200.0, gpus=[]) as monitor:
            function(SECONDS)
        report = monitor.last
        yield dict(
            process=name,
            process_cpu_s=report.process_cpu_s,
            cpu_percent=report.cpu_percent,
            cpu_joules=report.cpu_joules,
            memory_joules=report.memory_joules,
            total_joules=report.total_joules,
            method=report.method.get('cpu'),
            whose=report.whose.get('cpu'),
        )


def main(words=None):
    Words('benchmarks.joules', __doc__).parse_args(words)
    about = 'a pretend counter against the truth, and three processes on this machine'
    result = dict(table='joules', about=about, machine=machine(), **moment(), unit='J')
    result['counters'] = list(counters())
    result['processes'] = list(bills())
    for row in result['counters'] + result['processes']:
        print(row)
    keep(result)


if __name__ == '__main__':
    main()
