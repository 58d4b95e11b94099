"One is not counted as many: no message leaves the reader to choose between 'sample' and 'samples'"

import ast
import re
from pathlib import Path

import astrid_data

PACKAGE = Path(astrid_data.__file__).parent
OPEN = re.compile(r'[a-z]\((s|es|ies)\)(?!\?)')  # Not in an expression


def texts_of(tree):
    "Texts in the code, without docstrings"
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    said = {id(node.body[0].value) for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def plurals_by_hand(tree):
    "Lines in which an s is multiplied by whether there are several, which `counted` does"
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            if isinstance(node.left, ast.Constant) and node.left.value in ('s', 'es'):
                yield node.lineno
        elif isinstance(node, ast.IfExp):
            ends = [getattr(one, 'value', None) for one in (node.body, node.orelse)]
            if sorted(map(str, ends)) in (['', 's'], ['', 'es']):
                yield node.lineno


def found_in(path):
    tree = ast.parse(path.read_text())
    texts = (line for line, text in texts_of(tree) if OPEN.search(text))
    return [f'{path.relative_to(PACKAGE)}:{line}' for line in (*texts, *plurals_by_hand(tree))]


def test_words_follow_their_number():
    assert not [place for path in sorted(PACKAGE.rglob('*.py')) for place in found_in(path)]
    templates = [*(PACKAGE / 'templates').glob('*.*')]
    assert templates and not [one.name for one in templates if OPEN.search(one.read_text())]


def test_the_check_sees_both_kinds():
    tree = ast.parse(
        "a = f'{n} sample(s)'\nb = 's' * (n != 1)\nc = 's' if n else ''\nd = 'time (s)'"
    )
    assert [line for line, text in texts_of(tree) if OPEN.search(text)] == [1]
    assert [*plurals_by_hand(tree)] == [2, 3]
