"""`python -m benchmarks [--quick] [TABLE ...]`: measure the tables named, or all of them, print them, and keep them in benchmarks/results.

With `--quick` each is small, two turns long, and not kept: whether everything runs, and roughly where it stands.
"""

import importlib
import os
import pkgutil
import tempfile
from pathlib import Path

import benchmarks
from benchmarks.words import Words


def tables():
    "Name of each table -> its module, and the table"
    known = {}
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name not in ('harness', 'row', 'words', '__main__'):
            found = importlib.import_module(f'benchmarks.{module.name}')
            known |= {name: (module.name, t) for name, t in getattr(found, 'TABLES', {}).items()}
    return known


def main(words=None):
    asked = Words('benchmarks', __doc__)
    asked.add_argument('tables', nargs='*', metavar='TABLE', help='all, where none is named')
    asked.add_argument('--quick', action='store_true', help='small, and not kept')
    given = asked.parse_args(words)
    if given.quick:
        os.environ['BENCH_QUICK'] = '1'  # Rows are processes of their own, and shall know it too
    known = tables()
    if odd := [name for name in given.tables if name not in known]:
        asked.error(f'no table {", ".join(odd)}; there are: {", ".join(sorted(known))}')
    from benchmarks.harness import keep, measure, show  # It asks for BENCH_QUICK

    for name in given.tables or sorted(known):
        with tempfile.TemporaryDirectory() as folder:
            result = measure(known[name][0], name, known[name][1], Path(folder))
        keep(result)
        print(*show(result), sep='\n', flush=True)


if __name__ == '__main__':
    main()
