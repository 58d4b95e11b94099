"The shape of the project: what a page may import, what the package loads, what its names are."

import ast
import json
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


def number_and_module(page):
    m = re.search(r'^#\|\s*default_exp\s+(\S+)', '\n'.join(source(page)), re.M)
    return int(page.name.split('_')[0]), m and m[1]


number_of = {m: n for n, m in map(number_and_module, pages) if m}


def imports(code):
    "Our modules that `code` imports, wherever in it"
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            yield node.module.split('.')[0]
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('astrid_data.'):
            yield node.module.split('.')[1]
        elif isinstance(node, ast.ImportFrom) and (node.level or node.module == 'astrid_data'):
            yield from (a.name for a in node.names if a.name in number_of)
        elif isinstance(node, ast.Import):
            yield from (
                a.name.split('.')[1] for a in node.names if a.name.startswith('astrid_data.')
            )


@pytest.mark.parametrize('page', pages, ids=lambda p: p.stem)
def test_a_page_imports_only_smaller_numbers(page):
    number, module = number_and_module(page)
    if module is None:
        pytest.skip('exports nothing')
    used = set(imports((root / 'astrid_data' / f'{module}.py').read_text()))
    late = sorted(m for m in used if number_of.get(m, -1) >= number)
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


def test_every_public_name_is_where_the_package_says():
    import astrid_data

    gone = [n for n in astrid_data._page_of if not hasattr(astrid_data, n)]
    assert not gone
    with pytest.raises(AttributeError):
        astrid_data.no_such_name


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
