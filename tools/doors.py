"""Bring the doors up to date after a page was split, moved or renamed.

    python tools/doors.py          # finds the page of every name in astrid_data/**/__init__.pyi again
    python tools/doors.py --check  # changes nothing; exit 1 where a door is out of date

Which names a door shows is decided by hand, in its `__init__.pyi`. A name that no page of the package
defines any more is listed: rename it there, or take it out.
"""

import ast
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
lib = root / 'astrid_data'


def shown(stub):
    "Names that a door shows and the module it takes each from; those of `from . import` apart"
    names, packages = {}, []
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if node.module:
                    names[alias.name] = node.module
                else:
                    packages.append(alias.name)
    return names, packages


def defined(path):
    "Names that a module defines at its top"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))


def pages_of(package):
    "The module of each name that is defined in a package; a deeper package is known by its door"
    found = {}
    for path in sorted(package.glob('*.py')):
        if not path.name.startswith('__'):
            found |= dict.fromkeys(defined(path), path.stem)
    for stub in sorted(package.glob('*/__init__.pyi')):
        for name in shown(stub)[0]:
            found.setdefault(name, stub.parent.name)
    return found


def import_lines(module, names):
    "An import that shows names to others, as ruff formats it"
    if len(names) == 1:
        return [f'from .{module} import {names[0]} as {names[0]}']
    inside = [f'    {name} as {name},' for name in names]
    return [f'from .{module} import (', *inside, ')']


def rewritten(stub):
    "A door as it should be, and the names that nothing defines"
    text = stub.read_text()
    names, packages = shown(stub)
    found = pages_of(stub.parent)
    lost = [name for name in names if name not in found and '.' not in names[name]]
    by_module = {'': packages} if packages else {}
    for name, module in names.items():
        place = module if '.' in module else found.get(name, module)
        by_module.setdefault(place, []).append(name)
    imports = [line for module, names in by_module.items() for line in import_lines(module, names)]
    comments = [line for line in text.splitlines() if line.startswith('#')]
    rest = [line for line in text.splitlines() if line.startswith('__version__')]
    text = '\n'.join([*comments, *imports, *(['', *rest] if rest else [])]) + '\n'
    return text, [f'{stub.relative_to(root)}: no page defines {name}' for name in lost]


def main(check):
    bad = []
    for stub in [*sorted(lib.glob('*/__init__.pyi')), lib / '__init__.pyi']:
        text, lost = rewritten(stub)
        bad += lost
        if text != stub.read_text():
            if check:
                bad.append(f'{stub.relative_to(root)}: out of date: run tools/doors.py')
            else:
                stub.write_text(text)
    return bad


if __name__ == '__main__':
    bad = main('--check' in sys.argv)
    print('\n'.join(bad) or 'every name at a door has its page')
    sys.exit(bool(bad))
