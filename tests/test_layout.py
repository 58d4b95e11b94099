"The shape of the project: what a page may import, what the package loads, what its names are."

import ast
import json
import pkgutil
import re
import subprocess
import sys
from datetime import date
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


ANY = '*'  # In a path: a name that is computed


def modules_of(path):
    "Modules that a path such as 'patches.extract', 'patches.cut_patches' or 'patches' leads to"
    parts = path.split('.')
    if parts[0] == ANY:
        return set(place)
    for n in range(len(parts), 0, -1):
        if '.'.join(parts[:n]) in place:
            return {'.'.join(parts[:n])}
    for n in range(len(parts) - 1, -1, -1):
        through = door_names('/'.join(parts[:n])).get(parts[n])
        if through:
            return modules_of(f'{through}.{parts[n]}')
    return {m for m in place if m.startswith(f'{parts[0]}.')}  # A bare package is all its pages


def start_of(module, node):
    "Where `from … import` looks, as a path from the top"
    above = ['astrid_data', *module.split('.')][: -node.level] if node.level else []
    return '.'.join([*above, *filter(None, [node.module])])


def names_bound(module, tree):
    "What each name that an import binds stands for, as a path from the top"
    bound = {'astrid_data': 'astrid_data', 'ad': 'astrid_data'}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            bound |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            start = start_of(module, node)
            bound |= {a.asname or a.name: f'{start}.{a.name}' for a in node.names}
    return {name: path for name, path in bound.items() if path.split('.')[0] == 'astrid_data'}


def dotted(node):
    "`a.b.c` as text; '' for anything else"
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return owner and f'{owner}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else ''


def path_of(node, bound):
    "The path that `a.b.c` stands for; '' where `a` is not ours"
    first, _, rest = dotted(node).partition('.')
    return '.'.join(filter(None, [bound[first], rest])) if first in bound else ''


def path_of_call(module, node, bound):
    "The path that `import_module('..a.b', …)` or `getattr(package, name)` leads to, or ''"
    function = dotted(node.func).split('.')[-1]
    if function == 'getattr':
        owner = path_of(node.args[0], bound)
        name = getattr(node.args[1], 'value', ANY)
        return owner and f'{owner}.{name if isinstance(name, str) else ANY}'
    name = getattr(node.args[0], 'value', None) if node.args else None
    if function != 'import_module' or not isinstance(name, str) or not name.startswith('.'):
        return ''
    inside = name.lstrip('.')
    up = len(name) - len(inside)
    return '.'.join([*['astrid_data', *module.split('.')][:-up], inside])


def paths_reached(module, tree):
    "Every path into our package in the code of a module, whatever the way"
    bound = names_bound(module, tree)
    yield from bound.values()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.Attribute):
            yield path_of(node, bound)
        elif isinstance(node, ast.Call):
            yield path_of_call(module, node, bound)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r'astrid_data(\.\w+)+', node.value):
                yield node.value


def modules_reached(module, tree):
    "Modules of ours that some code, standing in `module`, reaches"
    inside = [
        p.partition('.')[2] for p in paths_reached(module, tree) if p.startswith('astrid_data.')
    ]
    return {m for path in inside for m in modules_of(path)}


def reached(module):
    "Modules of ours that a module reaches, whatever the way"
    return modules_reached(module, ast.parse(code_of(module)))


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
        'from astrid_data import datasets; datasets.build_dataset()',
        'import astrid_data as x; x.build_dataset()',
        'import astrid_data.datasets as d; d.build',
        'from .. import datasets',
        "import_module('..datasets.build', __package__)",
        "import astrid_data as x; getattr(x, 'build_' + kind)",
        "getattr(ad, 'build_dataset')",
    ],
)
def test_no_way_to_a_later_page_is_hidden(line):
    assert 'datasets.build' in modules_reached('quality.x', ast.parse(line))


@pytest.mark.parametrize(
    'line,module',
    [
        ('import astrid_data as x; x.sky.match_sky', 'sky'),
        ('import astrid_data.images as x; x.wcs.read_wcs', 'images.wcs'),
        ('from ..images import wcs as x; getattr(x, name)', 'images.wcs'),
        ("import_module('.flags', __package__)", 'quality.flags'),
    ],
)
def test_a_way_to_one_page_is_seen_as_such(line, module):
    reached = modules_reached('quality.x', ast.parse(line))
    assert module in reached
    assert 'datasets.build' not in reached


COMPUTES_IMPORTS = {'core', 'doors'}


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


def is_class(node):
    "Whether `node` is the name of a class, as names go"
    return dotted(node).split('.')[-1][:1].isupper()


def names_assigned(tree):
    "`Class.name = value` and `setattr(Class, name, value)`, wherever they stand"
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = [part for t in node.targets for part in getattr(t, 'elts', [t])]
            attributes = [t for t in targets if isinstance(t, ast.Attribute)]
            yield from (dotted(t) for t in attributes if is_class(t.value))
        elif isinstance(node, ast.Call) and dotted(node.func) == 'setattr':
            if is_class(node.args[0]):
                yield ast.unparse(node)


def methods_set_from_outside(tree):
    "Attributes set on a class from without, and `@patch` on the class of another page"
    yield from names_assigned(tree)
    classes = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    for node in tree.body:
        for decorator in getattr(node, 'decorator_list', []):
            if dotted(getattr(decorator, 'func', decorator)) == 'patch':
                owner = node.args.args[0].annotation
                owners = {dotted(o) for o in getattr(owner, 'elts', [owner])}
                if not owners <= classes:
                    yield f'{owners - classes}.{node.name}'


# Pages that still set methods from outside; the test says when one does so no longer
SETS_METHODS = set()


@pytest.mark.parametrize('module', sorted(place))
def test_a_method_is_where_its_class_is(module):
    found = list(methods_set_from_outside(ast.parse(code_of(module))))
    if module in SETS_METHODS:
        assert found, f'{module} sets none any more: take it out of SETS_METHODS'
    else:
        assert not found


@pytest.mark.parametrize(
    'code',
    [
        'class A: ...\nA.f = g',
        'class A: ...\nA.f, A.h = g, g',
        "class A: ...\nsetattr(A, 'f', g)",
        'for name in names:\n    setattr(page.A, name, g)',
        '@patch\ndef f(self: A): ...',
    ],
)
def test_a_method_set_from_outside_is_seen(code):
    assert list(methods_set_from_outside(ast.parse(code)))


LINK = re.compile(r'\]\(([^)#\s:]*\.ipynb)?(?:#([^)\s]+))?\)')


def prose_of(page):
    cells = json.loads(page.read_text())['cells']
    return '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')


def anchors_of(page):
    "The headings of a page as the docs site names them"
    headings = re.findall(r'^#+ +(.*)$', prose_of(page), re.M)
    return {
        re.sub(r'[^\w -]', '', heading).strip().lower().replace(' ', '-') for heading in headings
    }


@pytest.mark.parametrize('page', sorted((root / 'nbs').glob('**/[!_.]*.ipynb')), ids=place_of)
def test_links_from_page_to_page_lead_somewhere(page):
    for link, anchor in LINK.findall(prose_of(page)):
        target = page.parent / link if link else page
        assert target.is_file(), f'{page.name} links {link}'
        assert not anchor or anchor in anchors_of(target), f'{page.name} links {link}#{anchor}'


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


NAME = re.compile(r'[A-Za-z_]\w*')


def offered_by(module):
    "The functions and constants in a module's `__all__`; its types are what its functions give"
    assigned = (n for n in ast.parse(code_of(module)).body if isinstance(n, ast.Assign))
    names = [name.value for n in assigned if is_all(n) for name in n.value.elts]
    return [name for name in names if name.isupper() or name.islower()]


def is_all(node):
    return getattr(node.targets[0], 'id', None) == '__all__'


def names_in_use():
    "By name, the places that speak of it: modules, pages outside of their exports, tests, tools, docs"
    texts = {module: code_of(module) for module in place}
    for page in pages + sorted((root / 'nbs').glob('tutorials/*.ipynb')):
        cells = [cell for cell in source(page) if not cell.startswith('#| export')]
        texts[page] = '\n'.join(cells)
    beside = 'tests/*.py tools/*.py benchmarks/*.py docs/**/*.py docs/**/*.md astrid_data/**/__init__.py*'
    for path in (path for pattern in beside.split() for path in root.glob(pattern)):
        texts[path] = path.read_text()
    used = {}
    for where, text in texts.items():
        for name in set(NAME.findall(text)):
            used.setdefault(name, set()).add(where)
    return used


def test_a_module_offers_only_what_somebody_uses():
    "What nobody but its own page's exports uses begins with an underscore, or is `#| exporti`"
    used = names_in_use()
    idle = {m: [n for n in offered_by(m) if not used.get(n, set()) - {m}] for m in place}
    assert not {module: names for module, names in idle.items() if names}


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


MACHINE_PATH = re.compile(r'/(root|home|tmp|Users|work)/')
DATE = re.compile(r'\b20\d\d-\d\d-\d\d\b')
STOPWATCH = re.compile(r'Wall time:|CPU times:|\d\d:\d\d<\d\d:\d\d|\b\d+(\.\d+)?(it/s|s/it)\b')
NEWEST_SAMPLE = '2026-01-31'  # No observation on the pages is later, so a later date is the run's


def output_texts(cell):
    "Text of whatever a cell shows, pictures apart"
    for output in cell.get('outputs', []):
        shown = {'text': output.get('text', ''), **output.get('data', {})}
        for kind, text in shown.items():
            if not kind.startswith('image/'):
                text = ''.join(text) if isinstance(text, list) else str(text)
                yield re.sub(r'base64,[A-Za-z0-9+/=]+', '', text)


def traces_of_a_run(text):
    "Machine paths, dates of the run and measured times in the output of a cell"
    today = date.today().isoformat()
    dates = [d for d in DATE.findall(text) if NEWEST_SAMPLE < d <= today]
    found = [m[0] for pattern in (MACHINE_PATH, STOPWATCH) for m in pattern.finditer(text)]
    return dates + found


@pytest.mark.parametrize('page', sorted((root / 'nbs').glob('**/*.ipynb')), ids=place_of)
def test_no_page_holds_a_machine_path_or_a_clock(page):
    for cell in json.loads(page.read_text())['cells']:
        code = ''.join(cell['source'])
        assert not MACHINE_PATH.search(code), code
        for text in output_texts(cell):
            assert not traces_of_a_run(text), f'{traces_of_a_run(text)} in {text[:200]}'


@pytest.mark.parametrize('mime', ['text/plain', 'text/html'])
@pytest.mark.parametrize(
    'text',
    ['read /tmp/a.fits', f'made {date.today()} 07:30', 'Wall time: 3 ms', '9/9 [00:03<00:00]'],
)
def test_traces_of_a_run_are_seen(mime, text):
    cell = dict(outputs=[dict(data={mime: [text]})])
    assert [found for shown in output_texts(cell) for found in traces_of_a_run(shown)]


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


def reads_of_json(code):
    "Calls of Python's reader of JSON on other than what this package wrote itself"
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if not (isinstance(node, ast.Call) and dotted(node.func) in ('json.load', 'json.loads')):
            continue
        writer = getattr(node.args[0], 'func', None)  # Where it is read as soon as written
        name = getattr(writer, 'attr', None) or getattr(writer, 'id', None)
        line = lines[node.lineno - 1]
        if name not in ('canonical_json', 'to_json') and not line.endswith('# Stored by us'):
            yield line.strip()


@pytest.mark.parametrize('module', sorted(set(place) - {'core'}))
def test_json_of_others_is_read_by_the_one_reader(module):
    found = list(reads_of_json(code_of(module)))
    assert not found, f'{module} reads JSON that others may have changed; parse_json does: {found}'


@pytest.mark.parametrize(
    'line, seen',
    [
        ('json.loads(path.read_text())', True),
        ('json.loads(text)', True),
        ('json.load(file)', True),
        ('json.loads(canonical_json(o))', False),
        ('json.loads(audit(rows).to_json())', False),
        ('json.loads(column)  # Stored by us', False),
    ],
)
def test_a_bare_reader_is_seen(line, seen):
    assert bool(list(reads_of_json(line))) == seen
