"The shape of the project: what a page may import, what the package loads, what its names are."

import ast
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
pages = sorted((root / 'nbs').glob('[0-9]*.ipynb')) + sorted(
    (root / 'nbs').glob('[0-9]*/[0-9]*.ipynb')
)
heavy = 'torch mlflow fastapi ipywidgets boto3 photutils matplotlib codecarbon pandas sqlalchemy astropy'.split()


def source(page):
    return [
        ''.join(c['source'])
        for c in json.loads(page.read_text())['cells']
        if c['cell_type'] == 'code'
    ]


def module_of(page):
    "The module that a page exports, as 'package.module'; None where it exports none"
    found = re.search(r'^#\|\s*default_exp\s+(\S+)', '\n'.join(source(page)), re.M)
    return found and found[1]


def place_of(page):
    "Where a page stands in the reading order"
    return page.relative_to(root / 'nbs').as_posix()


place = {module_of(page): place_of(page) for page in pages if module_of(page)}


def imports(module, code):
    "Our modules that the code of `module` imports, wherever in it"
    package = module.split('.')[:-1]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for a in node.names:
                yield a.name.removeprefix('astrid_data.')
        if not isinstance(node, ast.ImportFrom):
            continue
        name = (node.module or '').removeprefix('astrid_data').lstrip('.')
        if node.level:
            name = '.'.join([*package[: len(package) + 1 - node.level], *name.split('.')]).strip(
                '.'
            )
        yield name
        yield from (f'{name}.{a.name}'.strip('.') for a in node.names)


@pytest.mark.parametrize('page', pages, ids=place_of)
def test_a_page_imports_only_what_comes_before(page):
    module = module_of(page)
    if module is None:
        pytest.skip('exports nothing')
    code = (root / 'astrid_data' / f'{module.replace(".", "/")}.py').read_text()
    late = {m for m in imports(module, code) if place.get(m, '') >= place_of(page)}
    assert not late, f'{page.name} imports {late}, which come later'


@pytest.mark.parametrize('page', pages, ids=lambda p: p.stem)
def test_a_page_begins_with_title_and_subtitle(page):
    first = json.loads(page.read_text())['cells'][0]
    assert first['cell_type'] == 'markdown' and re.match(r'# .+\n\n> .+', ''.join(first['source']))


def test_importing_the_package_loads_nothing_heavy():
    code = f'import sys, astrid_data; print(*sorted(set({heavy!r}) & set(sys.modules)))'
    out = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert out == []


def doors():
    "The package and those in it that have a door"
    import astrid_data

    inside = (getattr(astrid_data, name) for name in astrid_data.__all__)
    return [astrid_data, *(m for m in inside if hasattr(m, '__path__'))]


def test_every_name_at_a_door_exists():
    gone = [f'{d.__name__}.{n}' for d in doors() for n in d.__all__ if not hasattr(d, n)]
    assert not gone
    for door in doors():
        with pytest.raises(AttributeError):
            _ = door.no_such_name


def test_no_name_at_a_door_is_also_a_page_of_its_package():
    "`astrid_data.training.fit` can be one thing only"
    for door in doors()[1:]:
        modules = {m.name for m in pkgutil.iter_modules(door.__path__)}
        assert not modules & set(door.__all__), door.__name__


def test_few_names_are_at_the_top():
    import astrid_data

    packages = {m.name for m in pkgutil.iter_modules(astrid_data.__path__)}
    assert len(set(astrid_data.__all__) - packages) <= 45


def test_names_that_left_the_top_are_still_found_with_a_warning():
    import astrid_data

    for name, place in astrid_data._new_places.items():
        with pytest.warns(DeprecationWarning, match=f'astrid_data.{place} now'):
            getattr(astrid_data, name)


def test_the_package_is_imported_fast():
    "Best of five, in a process of its own"
    code = (
        'import time; t = time.perf_counter(); import astrid_data; print(time.perf_counter() - t)'
    )
    run = [sys.executable, '-c', code]
    took = [float(subprocess.run(run, capture_output=True, text=True).stdout) for _ in range(5)]
    assert min(took) < 0.3


def test_no_page_holds_a_machine_path_or_a_clock():
    for page in (root / 'nbs').glob('**/*.ipynb'):
        for c in json.loads(page.read_text())['cells']:
            for o in c.get('outputs', []):
                text = json.dumps(o.get('text', '')) + json.dumps(
                    o.get('data', {}).get('text/plain', '')
                )
                assert not re.search(r'/(root|home|tmp|Users|work)/', text), (
                    f'{page.name}: {text[:200]}'
                )


@pytest.mark.parametrize(
    'page', sorted((root / 'nbs').glob('**/[!_.]*.ipynb')), ids=lambda p: p.stem
)
def test_imports_stand_apart(page):
    "The docs run cells that import, so these may do nothing else"
    for code in source(page):
        if re.match(r'#\|\s*(export|hide|default_exp)', code):
            continue
        try:
            body = ast.parse(code).body
        except SyntaxError:
            continue  # Top-level await and magics
        imported = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert len(imported) in (0, len(body)), (
            f'{page.name} mixes imports with other code:\n{code}'
        )
