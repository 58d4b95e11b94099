"The shape of the project: what a page may import, what the package loads, what its names are."

import ast
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from astrid_data import core

root = Path(__file__).parents[1]
lib = root / 'astrid_data'
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


def code_of(module):
    return (lib / f'{module.replace(".", "/")}.py').read_text()


def door_names(package):
    "What the door of a package ('' for the top) shows: by name, the module that has it"
    stub = lib / package / '__init__.pyi'
    if not stub.exists():
        return {}
    imports = [n for n in ast.parse(stub.read_text()).body if isinstance(n, ast.ImportFrom)]
    shown = {a.name: n.module for n in imports if n.module for a in n.names}
    return {name: f'{package}.{module}'.strip('.') for name, module in shown.items()}


def modules_of(path):
    "Modules that a path such as 'patches.extract', 'patches.cut_patches' or 'fit' leads to"
    parts = path.split('.')
    for n in range(len(parts), 0, -1):
        if '.'.join(parts[:n]) in place:
            return {'.'.join(parts[:n])}
    for n in range(len(parts) - 1, -1, -1):
        through = door_names('/'.join(parts[:n])).get(parts[n])
        if through:
            return modules_of(through) or modules_of(f'{through}.{parts[n]}')
    return set()


def paths_imported(module, node):
    "Paths that an import statement names"
    if isinstance(node, ast.Import):
        return [a.name for a in node.names if a.name.split('.')[0] == 'astrid_data']
    above = ['astrid_data', *module.split('.')][: -node.level] if node.level else []
    start = '.'.join([*above, *filter(None, [node.module])])
    return [f'{start}.{a.name}' for a in node.names if start.split('.')[0] == 'astrid_data']


def dotted(node):
    "`a.b.c` as text; '' for anything else"
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return owner and f'{owner}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else ''


def paths_reached(module, tree):
    "Every path into our package in the code of a module, whatever the way"
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from paths_imported(module, node)
        elif isinstance(node, ast.Attribute):
            if re.match(r'(astrid_data|ad)\.', dotted(node)):
                yield 'astrid_data.' + dotted(node).split('.', 1)[1]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r'astrid_data(\.\w+)+', node.value):
                yield node.value
        elif isinstance(node, ast.Call) and dotted(node.func).split('.')[-1] == 'import_module':
            name = node.args[0]
            if isinstance(name, ast.Constant) and name.value.startswith('.'):
                yield '.'.join(['astrid_data', *module.split('.')[:-1], name.value.lstrip('.')])


def reached(module):
    "Modules of ours that a module reaches, whatever the way"
    paths = paths_reached(module, ast.parse(code_of(module)))
    return {m for p in paths for m in modules_of(p.removeprefix('astrid_data').lstrip('.'))}


@pytest.mark.parametrize('page', pages, ids=place_of)
def test_a_page_reaches_only_what_comes_before(page):
    module = module_of(page)
    if module is None:
        pytest.skip('exports nothing')
    late = {m for m in reached(module) if place[m] > place_of(page)}
    assert not late, f'{page.name} reaches {late}, which come later'


@pytest.mark.parametrize(
    'line',
    [
        'from ..datasets.build import build_dataset',
        'def f(): from astrid_data.datasets import build_dataset',
        'def f(): from astrid_data import build_dataset',
        'import astrid_data as ad; f = lambda: ad.build_dataset()',
        'import astrid_data; astrid_data.datasets.build',
        "import_module('astrid_data.datasets.build')",
        "__import__('astrid_data.datasets.build')",
        "sys.modules['astrid_data.datasets.build']",
    ],
)
def test_no_way_to_a_later_page_is_hidden(line):
    paths = [p.removeprefix('astrid_data.') for p in paths_reached('quality.x', ast.parse(line))]
    assert 'datasets.build' in {m for p in paths for m in modules_of(p)}


COMPUTES_IMPORTS = {'core', 'doors', 'datasets.dataset'}  # The last is still to be rewritten


@pytest.mark.parametrize('module', sorted(set(place) - COMPUTES_IMPORTS))
def test_no_page_imports_what_it_computes(module):
    "Only `core.later` and the doors do"
    for node in ast.walk(ast.parse(code_of(module))):
        if isinstance(node, ast.Call) and dotted(node.func).split('.')[-1] in (
            'import_module',
            '__import__',
        ):
            assert isinstance(node.args[0], ast.Constant), ast.unparse(node)


@pytest.mark.parametrize('method,target', sorted(core.LATER_METHODS.items()))
def test_a_later_method_is_written_on_a_later_page(method, target):
    "The only way down: few methods, all in one table"
    owner, name = method.split('.')
    module, function = target.split(':')
    defined = [m for m in place if re.search(rf'^class {owner}\b', code_of(m), re.M)]
    assert [place[m] < place[module] for m in defined] == [True]
    assert re.search(rf'^    {name} = later\(', code_of(defined[0]), re.M)
    assert re.search(rf'^def {function}\(', code_of(module), re.M)


def methods_set_from_outside(module):
    "`Class.name = function` at the top of a module, and `@patch` on the class of another page"
    tree = ast.parse(code_of(module))
    classes = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            for part in getattr(target, 'elts', [target]):
                if isinstance(part, ast.Attribute) and dotted(part)[:1].isupper():
                    yield dotted(part)
        for decorator in getattr(node, 'decorator_list', []):
            if dotted(getattr(decorator, 'func', decorator)) == 'patch':
                owner = node.args.args[0].annotation
                owners = {dotted(o) for o in getattr(owner, 'elts', [owner])}
                if not owners <= classes:
                    yield f'{owners - classes}.{node.name}'


# Pages that are still to be rewritten; a page that is leaves this list
SETS_METHODS = {
    'quality.report',
    'registry.tables',
    'widgets.gallery',
}


@pytest.mark.parametrize('module', sorted(set(place) - SETS_METHODS))
def test_a_method_is_where_its_class_is(module):
    assert not list(methods_set_from_outside(module))


@pytest.mark.parametrize('page', pages, ids=place_of)
def test_folders_mirror_packages(page):
    folder = page.parent.name.partition('_')[2] if page.parent.name != 'nbs' else ''
    module = module_of(page)
    assert module is None or module.rpartition('.')[0] == folder


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
