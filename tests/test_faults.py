"The table of faults and outcomes shows only what a test shows."

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
from faults import FAULTS, page

rows = [row for of_one_kind in FAULTS.values() for row in of_one_kind]


def names_in(file):
    "Names of the tests in a file"
    path = Path(__file__).with_name(f'test_{file}.py')
    return {node.name for node in ast.parse(path.read_text()).body if hasattr(node, 'name')}


@pytest.mark.parametrize('fault, outcome, test', rows, ids=[test for *_, test in rows])
def test_a_test_shows_it(fault, outcome, test):
    file, _, function = test.partition(': ')
    assert f'test_{function}' in names_in(file)


def test_each_fault_and_each_test_has_one_row_of_three_cells():
    faults, tests = [fault for fault, *_ in rows], [test for *_, test in rows]
    assert len(set(faults)) == len(faults) and len(set(tests)) == len(tests)
    lines = [line for line in page().splitlines() if line.startswith('| ')]
    assert len(lines) == len(rows) + len(FAULTS)
    assert {line.count('|') for line in lines} == {4}
