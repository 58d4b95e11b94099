"""The docs site, without Quarto: nbdev renders the API and links the names, MyST-NB and Sphinx make the pages.

`nbdev.serve.proc_nbs` runs `show_doc`, drops hidden cells and links `symbols`. What is left of Quarto in its result (the front matter,
`#|` options, `output: asis`) is turned here into what MyST-NB reads. Nothing is executed but exported cells: outputs are the stored ones.
"""

import ast
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import unquote

import errors
import faults
import nbformat
import script
import yaml
from nbdev import processors
from nbdev.serve import proc_nbs

from astrid_data import doors

root = Path(__file__).resolve().parents[1]
dest = root / '_docs'
ini = ConfigParser(delimiters=['='])
ini.read(root / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
# The folders of nbs/ in their order, and what the site calls them
sections = {
    '': 'Words and tools',
    'registry': 'Registry',
    'storage': 'Storage',
    'images': 'Images',
    'ingest': 'What comes in',
    'simulate': 'Pretend sky',
    'patches': 'Patches',
    'collect': 'From question to plan',
    'quality': 'Quality',
    'splits': 'Splits',
    'datasets': 'Versions',
    'loading': 'Loading',
    'evaluation': 'What a score says',
    'tracking': 'Tracking and energy',
    'training': 'Training',
    'inference': 'Scoring new sky',
    'search': 'What to label next',
    'widgets': 'Widgets',
    'automation': 'The loop closed',
}
hide = {
    ('echo', 'false'): 'remove-input',
    ('output', 'false'): 'remove-output',
    ('include', 'false'): 'remove-cell',
    ('code-fold', 'true'): 'hide-input',
    ('code-fold', 'show'): 'hide-input',
}
bare = {
    'hide_input': 'remove-input',
    'hide_output': 'remove-output',
    'collapse_input': 'hide-input',
    'collapse_output': 'hide-output',
}
option = re.compile(r'^#\|\s*([\w-]+)\s*:?\s*(.*?)\s*$')


def options(source):
    "The leading `#|` lines of a cell as a dict, and the rest of it"
    found, lines = {}, source.split('\n')
    while lines and (m := option.match(lines[0])):
        found[m[1]] = m[2]
        lines.pop(0)
    return found, '\n'.join(lines).strip('\n')


def runs_for_docs(cell, asked=processors._do_eval):
    "Whether nbdev may run a cell for its docs: exported ones and plain imports, but no lesson that imports inside a function of its own"
    if not asked(cell):
        return False
    exported = set(cell.directives_) & {'export', 'exports', 'exporti', 'exec_doc'}
    return bool(
        exported
        or 'show_doc' in cell.source
        or all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in cell.parsed_())
    )


def unnumbered(path):
    "A path without the numbers that order folders and pages: 35_patches/02_align is patches/align"
    return '/'.join(re.sub(r'^\d+_', '', part) for part in path.split('/'))


def slug(s):
    return re.sub(r'[^\w.-]+', '-', s.lower()).strip('-')


def heading_level(cells):
    "How deep the page is where the next cell goes"
    found = [
        len(m[1])
        for c in cells
        if c.cell_type == 'markdown'
        for m in re.finditer(r'^(#+) ', re.sub(r'```.*?```', '', c.source, flags=re.S), re.M)
    ]
    return found[-1] if found else 1


def api(md, stem, level):
    "What show_doc wrote, with a target of its own and a heading that fits the page"
    md = re.sub(r'\{target="_blank" style="[^"]*"\}', '{.source-link}', re.sub(r'^---\n+', '', md))
    m = re.search(r'^#+ (.+)$', md, re.M)
    if not m:
        return md
    name = m[1].strip()
    return f'({slug(stem)}-{slug(name)})=\n{"#" * level} {name.replace("_", chr(92) + "_")}\n\n{md[: m.start()].strip()}\n{md[m.end() :]}'


def api_cells(cell, name, level):
    "What show_doc wrote into a cell, as prose"
    texts = [o.get('data', {}).get('text/markdown') or o.get('text', '') for o in cell.outputs]
    return [nbformat.v4.new_markdown_cell(api(text, name, level)) for text in texts]


def code_cell(cell):
    "A code cell without its `#|` lines, which become tags; None where nothing is left"
    found, source = options(cell.source)
    tags = [hide[o] for o in found.items() if o in hide] + [bare[k] for k in found if k in bare]
    cell.source = source
    cell.metadata = nbformat.from_dict({'tags': sorted(set(tags))} if tags else {})
    return cell if source or cell.outputs else None


def front_matter(cell):
    "Title and subtitle"
    meta = yaml.safe_load(cell.source.strip().strip('-')) or {}
    text = f'# {meta.get("title", "")}\n\n{meta.get("description", "")}'
    return nbformat.v4.new_markdown_cell(text.strip())


def site_links(text):
    "Links between pages stay on this site, where a page is called by its name without numbers"
    base = re.escape(cfg['doc_host'] + cfg['doc_baseurl'])
    text = re.sub(
        r'\]\(([\w./]+\.ipynb)(#[\w-]+)?\)',
        lambda m: f']({unnumbered(m[1])}{m[2] or ""})',
        text,
    )
    return re.sub(
        rf'\((?:{base}/)?([\w/]+)\.html#([\w.]+)\)',
        lambda m: f'(#{slug(m[1])}-{slug(m[2])})',
        text,
    )


def convert(path):
    "One processed notebook as MyST-NB reads it; returns its name on the site"
    nb = nbformat.read(path, 4)
    name = unnumbered(path.relative_to(root / '_proc').with_suffix('').as_posix())
    cells = []
    for cell in nb.cells:
        if cell.cell_type == 'raw' and cell.source.startswith('---'):
            cells.append(front_matter(cell))
        elif cell.cell_type == 'code' and options(cell.source)[0].get('output') == 'asis':
            cells += api_cells(cell, name, min(3, heading_level(cells) + 1))
        elif cell.cell_type == 'code':
            cells += filter(None, [code_cell(cell)])
        elif not cell.source.startswith('<!-- WARNING'):
            cells.append(cell)
    for cell in cells:
        if cell.cell_type == 'markdown':
            cell.source = site_links(cell.source)
    nb.cells = cells
    target = dest / 'src' / f'{name}.ipynb'
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, target)
    return name


def offer_script(name):
    "Write a tutorial as a script beside its page, and link it below the title"
    path = dest / 'src' / 'scripts' / f'{name}.py'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script.as_script(root / 'nbs' / f'{name}.ipynb'), encoding='utf-8')
    page = dest / 'src' / f'{name}.ipynb'
    nb = nbformat.read(page, 4)
    there = f'<a href="{path.name}" download>Run it as a script</a>'
    words = f'{there}: `python {path.name}`, in an empty folder.'
    nb.cells.insert(1, nbformat.v4.new_markdown_cell(words))
    nbformat.write(nb, page)


def reading_order():
    "Names of the module pages on the site, by the order of their folders and numbers"
    pages = (root / 'nbs').glob('**/[0-9]*.ipynb')
    paths = sorted(p.relative_to(root / 'nbs').with_suffix('').as_posix() for p in pages)
    return [unnumbered(p) for p in paths]


_OUTSIDE = (
    'jobs keys views web_pages answers sky_rows deliveries scoring web_sky web_ingest web_stamps web_models web_manners api serve options verbs cli '
    'compat'
).split()


_TUTORIALS = 'real_bogus', 'classes', 'rubin_alerts', 'score_alerts', 'next_version'


def contents(names):
    "The table of contents: sections follow the folders, then what is called from outside, tutorials"
    order = [n for n in reading_order() if n in names]
    trees = []
    for folder, title in sections.items():
        inside = [n for n in order if n.rpartition('/')[0] == folder and n not in _OUTSIDE]
        trees.append((title, inside))
    outside = [n for n in order if n in _OUTSIDE]
    trees.append(('From outside', ['tutorials/commands', *outside]))
    trees = [
        ('Get started', ['guides/look_first', 'tutorials/own_images']),
        (
            'How to',
            [
                'guides/stamps_of_others',
                'guides/whose_labels',
                'guides/several_bands',
                'guides/keeps_meaning',
                'guides/publish_a_set',
                'guides/deployment',
            ],
        ),
        ('Tutorials', [f'tutorials/{name}' for name in _TUTORIALS]),
        ('When in doubt', ['errors', 'faults', 'glossary']),
        ('About', ['whats_new', 'benchmarks', 'contributing', 'cite']),
        *trees,
    ]
    lost = set(names) - {n for _, pages in trees for n in pages} - {'index'}
    if lost:
        sys.exit(f'pages that no section has: {sorted(lost)}')
    head = '```{toctree}\n:hidden:\n:caption: '
    return '\n\n'.join(f'{head}{t}\n\n' + '\n'.join(p) + '\n```' for t, p in trees if p)


def vendor():
    "MathJax from its npm package, so that the site asks no other site"
    at = dest / 'npm'
    at.mkdir()
    subprocess.run(
        ['npm', 'install', '--no-save', '--silent', '--prefix', str(at), 'mathjax@3'], check=True
    )
    shutil.copytree(
        at / 'node_modules' / 'mathjax' / 'es5', dest / 'src' / '_static' / 'vendor' / 'mathjax'
    )


def broken_links(html):
    "Links between the pages that lead nowhere, as 'page: link'"
    pages = {
        p: p.read_text(encoding='utf-8') for p in html.rglob('*.html') if '_static' not in p.parts
    }
    ids = {p: set(re.findall(r'\bid="([^"]+)"', t)) for p, t in pages.items()}
    for p, text in pages.items():
        prose = re.sub(r'<pre>.*?</pre>', '', text, flags=re.S)  # Code may speak of links
        for link in sorted(set(re.findall(r'(?:href|src)="([^"]+)"', prose))):
            if re.match(r'[a-z]+:|//', link):
                continue
            name, _, anchor = unquote(link).partition('#')
            to = (p.parent / name.split('?')[0]).resolve() if name else p
            if not to.exists() or (anchor and to in ids and anchor not in ids[to]):
                yield f'{p.name}: {link}'


def main():
    subprocess.run(
        [Path(sys.executable).with_name('nbdev-export')], cwd=root, check=True
    )  # makes the index of names, by which they are linked
    processors._do_eval = runs_for_docs
    doors.give_help = lambda thing: None  # show_doc makes a table of the same comments
    proc_nbs(force=True, n_workers=0)
    shutil.rmtree(dest, ignore_errors=True)
    shutil.copytree(root / 'docs', dest / 'src')
    names = [convert(p) for p in sorted((root / '_proc').rglob('*.ipynb'))]
    for name in _TUTORIALS + ('own_images', 'commands'):
        offer_script(f'tutorials/{name}')
    with open(dest / 'src' / 'benchmarks.md', 'w', encoding='utf-8') as benchmarks:
        module = [sys.executable, '-m', 'benchmarks.page']
        subprocess.run(module, cwd=root, stdout=benchmarks, check=True)
    (dest / 'src' / 'faults.md').write_text(faults.page(), encoding='utf-8')
    (dest / 'src' / 'errors.md').write_text(errors.page(), encoding='utf-8')
    for name in ('CHANGELOG.md', 'CONTRIBUTING.md', 'CITATION.cff'):
        shutil.copy(root / name, dest / 'src' / name)
    pictures = root / 'nbs' / 'images'
    shutil.copytree(pictures, dest / 'src' / 'images', dirs_exist_ok=True)
    vendor()
    index = nbformat.read(dest / 'src' / 'index.ipynb', 4)
    index.cells.append(nbformat.v4.new_markdown_cell(contents(names)))
    nbformat.write(index, dest / 'src' / 'index.ipynb')
    code = subprocess.call(
        [
            sys.executable,
            '-m',
            'sphinx',
            '-b',
            'html',
            '-W',
            '--keep-going',
            '-q',
            '-d',
            dest / 'doctrees',
            dest / 'src',
            dest / 'html',
            *sys.argv[1:],
        ]
    )
    for line in (lost := list(broken_links(dest / 'html'))):
        print('broken link', line)
    print(f'{len(names)} pages in _docs/html, open _docs/html/index.html')
    return code or bool(lost)


if __name__ == '__main__':
    sys.exit(main())
