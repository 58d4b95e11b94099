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

import nbformat
import yaml
from nbdev import processors
from nbdev.serve import proc_nbs

root = Path(__file__).resolve().parents[1]
dest = root / '_docs'
ini = ConfigParser(delimiters=['='])
ini.read(root / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
sections = {
    'The registry and the images': '0',
    'What comes in': '1',
    'From question to patches': '2',
    'Frozen sets and their loader': '3',
    'Training and its bill': '4',
    'What people see': '5',
    'From outside': '6',
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


def convert(path):
    "One processed notebook as MyST-NB reads it; returns its name on the site"
    nb, cells, stem = nbformat.read(path, 4), [], path.stem
    for c in nb.cells:
        if c.cell_type == 'raw' and c.source.startswith('---'):
            meta = yaml.safe_load(c.source.strip().strip('-')) or {}
            stem = Path(meta.get('output-file', path.name)).stem
            cells.append(
                nbformat.v4.new_markdown_cell(
                    f'# {meta.get("title", stem)}\n\n{meta.get("description", "")}'.strip()
                )
            )
        elif c.cell_type == 'code':
            found, source = options(c.source)
            if found.get('output') == 'asis':
                texts = [
                    o.get('data', {}).get('text/markdown') or o.get('text', '') for o in c.outputs
                ]
                cells += [
                    nbformat.v4.new_markdown_cell(api(t, stem, min(3, heading_level(cells) + 1)))
                    for t in texts
                ]
                continue
            tags = [hide[o] for o in found.items() if o in hide] + [
                bare[k] for k in found if k in bare
            ]
            c.source, c.metadata = (
                source,
                nbformat.from_dict({'tags': sorted(set(tags))} if tags else {}),
            )
            if source or c.outputs:
                cells.append(c)
        elif not c.source.startswith('<!-- WARNING'):
            cells.append(c)
    base = re.escape(cfg['doc_host'] + cfg['doc_baseurl'])
    for c in cells:  # a page is called by its name on the site, without its number
        if c.cell_type == 'markdown':
            c.source = re.sub(r'\]\(\d+_(\w+\.ipynb)\)', r'](\1)', c.source)
    for c in cells:  # links between pages stay on this site
        if c.cell_type == 'markdown':
            c.source = re.sub(
                rf'\((?:{base}/)?([\w/]+)\.html#([\w.]+)\)',
                lambda m: f'(#{slug(m[1])}-{slug(m[2])})',
                c.source,
            )
    nb.cells = cells
    nbformat.write(nb, dest / 'src' / f'{stem}.ipynb')
    return stem


def contents(names):
    "The table of contents: the pages by their stage, in reading order, then the tutorials"
    order = {}
    for p in sorted((root / 'nbs').glob('[0-9]*.ipynb')):
        order[p.stem.split('_', 1)[1]] = p.stem
    trees = [
        (
            title,
            [
                n
                for n in order
                if n in names and order[n].startswith(tens) and len(order[n].split('_')[0]) == 2
            ],
        )
        for title, tens in sections.items()
    ]
    trees.append(('Tutorials', [n for n in names if n not in order and n != 'index']))
    return '\n\n'.join(
        '```{toctree}\n:hidden:\n:caption: ' + title + '\n\n' + '\n'.join(pages) + '\n```'
        for title, pages in trees
        if pages
    )


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
    pages = {p: p.read_text(encoding='utf-8') for p in html.glob('*.html')}
    ids = {p: set(re.findall(r'\bid="([^"]+)"', t)) for p, t in pages.items()}
    for p, text in pages.items():
        for link in sorted(set(re.findall(r'(?:href|src)="([^"]+)"', text))):
            if re.match(r'[a-z]+:|//', link):
                continue
            name, _, anchor = unquote(link).partition('#')
            to = (html / name.split('?')[0]) if name else p
            if not to.exists() or (anchor and to in ids and anchor not in ids[to]):
                yield f'{p.name}: {link}'


def main():
    subprocess.run(
        [Path(sys.executable).with_name('nbdev-export')], cwd=root, check=True
    )  # makes the index of names, by which they are linked
    processors._do_eval = runs_for_docs
    proc_nbs(force=True, n_workers=0)
    shutil.rmtree(dest, ignore_errors=True)
    shutil.copytree(root / 'docs', dest / 'src')
    names = [convert(p) for p in sorted((root / '_proc').rglob('*.ipynb'))]
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
