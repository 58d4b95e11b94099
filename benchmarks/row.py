"One row of a table in its own process: `python -m benchmarks.row MODULE TABLE ROW FOLDER`"

import ctypes
import signal
import sys
from importlib import import_module

from benchmarks.harness import serve

WHEN_PARENT_DIES = 1  # PR_SET_PDEATHSIG of Linux
module, table, name, folder = sys.argv[1:]
# Rows wait stopped, and would do so for ever if the harness were killed
ctypes.CDLL(None).prctl(WHEN_PARENT_DIES, signal.SIGKILL)
serve(import_module(f'benchmarks.{module}').TABLES[table].rows[name].start, folder)
