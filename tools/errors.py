"""The errors that users meet, as a page of the docs: `python tools/errors.py`.

Read from the package itself: every text that is raised as one of its errors, so that a message which somebody pastes into the search is found.
"""

import ast
from pathlib import Path

root = Path(__file__).resolve().parents[1]
package = root / 'astrid_data'
_SIGNS = {
    '<': '&lt;',
    '>': '&gt;',
    '|': '\\|',
    '*': '\\*',
    '_': '\\_',
    '`': '\\`',
    '$': '\\$',
    '[': '\\[',
}


def text_of(node):
    "A text as it is written, `…` for what is filled in; None for what is no text"
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return ''.join(text_of(part) or '…' for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (text_of(node.left) or '…') + (text_of(node.right) or '…')
    return None


def error_names():
    "The library's own errors"
    from astrid_data import core

    own = vars(core).values()
    return {
        one.__name__ for one in own if isinstance(one, type) and issubclass(one, core.AstridError)
    }


def raised_in(path, kinds):
    "Pairs of error and message that a module raises"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        call = node.exc if isinstance(node, ast.Raise) else None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        texts = [text for arg in call.args if (text := text_of(arg))]
        if call.func.id in kinds and texts and len(texts[-1].strip('… ')) > 8:
            yield call.func.id, ': '.join(texts)


def by_module():
    "Module to what it raises, each message once"
    kinds = error_names()
    for path in sorted(package.rglob('*.py')):
        found = sorted(set(raised_in(path, kinds)), key=lambda pair: pair[1].lower())
        if found:
            yield path.relative_to(package).with_suffix('').as_posix(), found


def cell(text):
    "A text for a cell of a Markdown table"
    return ''.join(_SIGNS.get(sign, sign) for sign in ' '.join(text.split()))


def page():
    "The page as Markdown"
    lines = [
        '# Errors',
        '',
        'The messages that stand in the library, by the module that raises them; `…` stands for what is filled in. Some are put together from parts, and are not here. A message says what was wrong and what to do. What is lost from a',
        'collection or a build is no error: it is a row of the ledger (`dataset.ledger`, `report.ledger`), with a reason and a detail.',
        '',
        'All of them are an `AstridError`. `BadInput` (also a `ValueError`) is about what was passed, `NotFound` about what is not there, `BadImage` about a file.',
        '',
    ]
    for module, found in by_module():
        lines += [f'## {module.replace("/", " · ")}', '', '| error | message |', '|---|---|']
        lines += [f'| {kind} | {cell(text)} |' for kind, text in found]
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    print(page())
