"""README.md from nbs/index.ipynb, with its stored outputs. `--check` exits 1 when it is out of date.

The one picture of the session goes to nbs/images/session.png, which stands at the top of the page, and is not repeated.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parents[1]
note = '<!-- Made from nbs/index.ipynb by tools/readme.py: edit that notebook -->\n\n'
hidden = re.compile(r'^#\|\s*(hide|export|exporti|default_exp)\b', re.M)


def build():
    "README text, and its pictures by path"
    nb = nbformat.read(root / 'nbs' / 'index.ipynb', 4)
    nb.metadata['language_info'] = {'name': 'python'}
    nb.cells = [c for c in nb.cells if c.cell_type == 'markdown' or not hidden.search(c.source)]
    for c in nb.cells:
        c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
        for o in c.get(
            'outputs', []
        ):  # a README shows no live widget and no HTML: the picture or the text
            for kind in [
                k
                for k in o.get('data', {})
                if k not in ('text/plain', 'text/markdown', 'image/png')
            ]:
                o['data'].pop(kind)
            if 'image/png' in o.get('data', {}):
                o['data'].pop('text/plain', None)
    body, found = MarkdownExporter().from_notebook_node(
        nb, resources={'unique_key': 'readme', 'output_files_dir': 'images'}
    )
    (picture,) = found['outputs'].values()
    body = re.sub(r'!\[png\]\(.*?\)', '', body)
    body = from_the_root(re.sub(r'^ +$', '', body, flags=re.M))
    text = note + re.sub(r'\n{3,}', '\n\n', body).strip() + '\n'
    return {root / 'README.md': text.encode(), root / 'nbs/images/session.png': picture}


def from_the_root(text):
    "Links of the notebook, which lies in nbs/, as the README has them"
    return re.sub(r'(\]\()(?=[\w/]+\.(ipynb|png)\))', r'\1nbs/', text)


if __name__ == '__main__':
    files = build()
    stale = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data]
    if '--check' in sys.argv:
        print(
            '\n'.join(f'{p.relative_to(root)}: out of date, run make readme' for p in stale)
            or 'README is in step with nbs/index.ipynb'
        )
        sys.exit(bool(stale))
    for p in stale:
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(files[p])
