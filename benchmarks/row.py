"One row of a table in its own process: `python -m benchmarks.row MODULE TABLE ROW FOLDER`"

import sys
from importlib import import_module

from benchmarks.harness import serve

module, table, name, folder = sys.argv[1:]
serve(import_module(f'benchmarks.{module}').TABLES[table].rows[name].start, folder)
