"Every notebook is a test: `pytest nbs` runs each page in a kernel of its own, and a failing cell fails the page."

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))


def pytest_collect_file(file_path, parent):
    if file_path.suffix == '.ipynb' and not file_path.name.startswith(('_', '.')):
        return Page.from_parent(parent, path=file_path)


class Page(pytest.File):
    def collect(self):
        yield Run.from_parent(self, name=self.path.stem)


class Run(pytest.Item):
    def runtest(self):
        from nb import execute

        execute(self.path)

    def repr_failure(self, excinfo):
        return re.sub(r'\x1b\[[0-9;]*m', '', str(excinfo.value))

    def reportinfo(self):
        return self.path, None, f'page {self.path.name}'
