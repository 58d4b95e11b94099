"""`python -m benchmarks [--quick] [TABLE ...]`: measure the tables named, or all of them, print them, and keep them in benchmarks/results.

With `--quick` each is small, two turns long, and not kept: whether everything runs, and roughly where it stands.
"""

import importlib
import os
import pkgutil
import sys
import tempfile
from pathlib import Path

import benchmarks

if '--quick' in sys.argv:
    sys.argv.remove('--quick')
    os.environ['BENCH_QUICK'] = '1'  # Rows are processes of their own, and shall know it too

from benchmarks.harness import keep, measure, show  # noqa: E402

known = {}
for m in pkgutil.iter_modules(benchmarks.__path__):
    if m.name in ('harness', 'row', '__main__'):
        continue
    known |= {
        name: (m.name, t)
        for name, t in getattr(
            importlib.import_module(f'benchmarks.{m.name}'), 'TABLES', {}
        ).items()
    }
asked = sys.argv[1:] or sorted(known)
if odd := [a for a in asked if a not in known]:
    sys.exit(f'no table {", ".join(odd)}; there are: {", ".join(sorted(known))}')
for name in asked:
    with tempfile.TemporaryDirectory() as folder:
        result = measure(known[name][0], name, known[name][1], Path(folder))
    keep(result)
    print(*show(result), sep='\n', flush=True)
