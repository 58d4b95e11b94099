"""A tutorial as a script: prose as comments, results printed, pictures kept as files beside it.

    python tools/script.py nbs/tutorials/own_images.ipynb > own_images.py

The work stands below `if __name__ == '__main__'`, without which no process that it starts could read it on macOS and Windows.
"""

import ast
import re
import sys
from pathlib import Path

import nbformat

_HEAD = '''"""{title}

{subtitle}
Made from the tutorial of the same name: python {name}.py
"""

{imports}

def show(thing, pictures=[]):
    "Print what a notebook would show; a picture becomes a file"
    if hasattr(getattr(thing, 'figure', thing), 'savefig'):
        pictures.append(f'{name}-{{len(pictures) + 1}}.png')
        getattr(thing, 'figure', thing).savefig(pictures[-1])
        thing = pictures[-1]
    print(thing)


if __name__ == '__main__':
'''


def printed(source):
    "Code whose last line, where a notebook would show its value, is given to `show`"
    last = ast.parse(source).body[-1] if source.strip() else None
    if not isinstance(last, ast.Expr) or is_done(last.value):
        return source
    lines = [line.encode() for line in source.split('\n')]  # Offsets of the tree count bytes
    first, end = last.lineno - 1, last.end_lineno - 1
    lines[end] = lines[end][: last.end_col_offset] + b'))' + lines[end][last.end_col_offset :]
    lines[first] = lines[first][: last.col_offset] + b'show((' + lines[first][last.col_offset :]
    return b'\n'.join(lines).decode()


def is_done(value):
    "Whether an expression is a call for what it does: it prints or tests, or belongs to the setting"
    done = 'print', 'test_', 'warnings.', 'torch.set_', 'tmp.cleanup', 'assert'
    return isinstance(value, ast.Call) and ast.unparse(value.func).startswith(done)


def parts_of(notebook):
    "Title, subtitle, imports and the rest, each cell as lines of Python"
    title, subtitle, imports, rest = '', '', [], []
    for cell in notebook.cells:
        text = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
        if cell.cell_type == 'markdown' and text.startswith('# ') and not title:
            title, _, subtitle = (part.strip('#> \n') for part in text.partition('\n'))
        elif cell.cell_type == 'markdown':
            rest.append('\n'.join(f'# {line}'.rstrip() for line in text.split('\n')))
        elif text and all(
            isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(text).body
        ):
            imports.append(text)
        elif text:
            rest.append(printed(text))
    return title, subtitle, imports, rest


def as_script(path):
    "The script of a notebook"
    path = Path(path)
    title, subtitle, imports, rest = parts_of(nbformat.read(path, 4))
    words = dict(title=title, subtitle=f'{subtitle}\n' if subtitle else '', name=path.stem)
    head = _HEAD.format(imports='\n'.join([*imports, '']), **words)
    lines = '\n\n'.join(rest).split('\n')
    return head + '\n'.join(f'    {line}'.rstrip() for line in lines) + '\n'


if __name__ == '__main__':
    sys.stdout.write(as_script(sys.argv[1]))
