"A tutorial as a script: what a cell would show is given to `show`, whatever stands around it"

import ast

import pytest

from tools.script import printed


@pytest.mark.parametrize(
    'cell, shown',
    [
        ('x', 'show((x))'),
        ('x;', 'show((x))'),
        ('fig, report', 'show((fig, report))'),
        ('x = 1; x', 'x = 1; show((x))'),
        ('f(1)  # why', 'show((f(1)))  # why'),
        ("é = 'é'; é  # é", "é = 'é'; show((é))  # é"),
        ('(\n    a\n    + b\n)  # sum', 'show(a + b)  # sum'),
        ('print(1)', 'print(1)'),
        ('x = 1', 'x = 1'),
        ('', ''),
    ],
)
def test_the_last_value_of_a_cell_is_shown(cell, shown):
    found = printed(cell)
    ast.parse(found)
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(shown))
    assert '#' not in cell or found.endswith(cell[cell.index('#') :])
