"One row of a table in its own process: `python -m benchmarks.row MODULE TABLE ROW FOLDER`"

import ctypes
import signal
from importlib import import_module

from benchmarks.harness import serve
from benchmarks.words import Words

WHEN_PARENT_DIES = 1  # PR_SET_PDEATHSIG of Linux


def main(words=None):
    asked = Words('benchmarks.row', __doc__)
    for name in ('module', 'table', 'row', 'folder'):
        asked.add_argument(name)
    asked = asked.parse_args(words)
    # Rows wait stopped, and would do so for ever if the harness were killed
    ctypes.CDLL(None).prctl(WHEN_PARENT_DIES, signal.SIGKILL)
    table = import_module(f'benchmarks.{asked.module}').TABLES[asked.table]
    serve(table.rows[asked.row].start, asked.folder)


if __name__ == '__main__':
    main()
