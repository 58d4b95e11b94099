"Every notebook is a test: `pytest nbs` runs each page in a kernel of its own, and a failing cell fails the page."

import atexit
import functools
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

tools = Path(__file__).parents[1] / 'tools'
sys.path.insert(0, str(tools))


def pytest_collect_file(file_path, parent):
    if file_path.suffix == '.ipynb' and not file_path.name.startswith(('_', '.')):
        return Page.from_parent(parent, path=file_path)


@functools.cache
def warm_manager():
    "What starts kernels that have the large libraries already: see tools/warm.py"
    from jupyter_client import AsyncKernelManager
    from nb import page_environment

    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    warm, address = str(tools / 'warm.py'), f'{folder.name}/kernels'
    command = [sys.executable, warm, 'serve', address]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, env=page_environment())
    while not Path(address).exists():
        if server.poll() is not None:
            raise RuntimeError(f'{warm} ended with {server.returncode} before it served a kernel')
        time.sleep(0.05)

    class WarmKernels(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments=None):
            cold = super().format_kernel_cmd(extra_arguments)
            arguments = cold[cold.index('ipykernel_launcher') + 1 :]
            return [sys.executable, '-S', '-E', warm, 'launch', address, *arguments]

    return WarmKernels


class Page(pytest.File):
    def collect(self):
        yield Run.from_parent(self, name=self.path.stem)


class Run(pytest.Item):
    def runtest(self):
        from nb import execute

        execute(self.path, manager=warm_manager())

    def repr_failure(self, excinfo):
        return re.sub(r'\x1b\[[0-9;]*m', '', str(excinfo.value))

    def reportinfo(self):
        return self.path, None, f'page {self.path.name}'
