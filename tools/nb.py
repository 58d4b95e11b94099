"""Notebooks as text, one page at a time.

    python tools/nb.py open nbs/01_sky.ipynb   # writes .nbedit/01_sky.py (py:percent), to be edited
    python tools/nb.py save nbs/01_sky.ipynb   # puts it back (same cell ids and outputs), exports and cleans that page
    python tools/nb.py run  nbs/01_sky.ipynb   # executes it in a real kernel and stores its outputs, reproducibly
    python tools/nb.py run                     # every page, in order

Outputs are reproducible: a widget leaves its static twin, cells under `#| network` and `#| slow` keep what they had.
"""

import base64
import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import nbformat
from fastcore.nbio import dict2nb, write_nb
from filelock import FileLock
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.export import nb_export

root = Path(__file__).resolve().parents[1]
edit = root / '.nbedit'


@contextmanager
def lock():
    "One writer of the package at a time"
    edit.mkdir(exist_ok=True)
    with FileLock(edit / '.lock'):
        yield


def text_of(nb):
    return edit / Path(nb).with_suffix('.py').name


def jupytext(*args):
    subprocess.run([sys.executable, '-m', 'jupytext', '-q', *map(str, args)], check=True)


def write_clean(nb, path):
    "Write notebook `nb` (a dict) to `path` as nbdev's own cleaner leaves it"
    clean_nb(nb, False, [], [], bool(get_config().get('clean_ids', False)))
    nb['metadata'] = {
        'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}
    }
    write_nb(dict2nb(nb), path)


def save(path):
    src, new = text_of(path), not path.exists()
    jupytext(
        *(['--set-kernel', 'python3'] if new else ['--update']), '--to', 'ipynb', src, '-o', path
    )
    nb = json.loads(path.read_text())
    write_clean(nb, path)
    if any('default_exp' in ''.join(c['source']) for c in nb['cells']):
        with lock():
            nb_export(path, lib_path=get_config().lib_path)


def static_twins(nb):
    "A live widget means nothing without its kernel, and its state is large: what is stored is the picture that comes with it"
    nb.metadata.pop('widgets', None)
    for c in nb.cells:
        for o in c.get('outputs', []):
            if len(o.get('data', {})) > 1:
                o.data.pop('application/vnd.jupyter.widget-view+json', None)
    return nb


def small_pictures(cell):
    "Figures in 128 colours: the same to the eye, and a third of the size"
    for output in cell.get('outputs', []):
        data = output.get('data', {})
        if 'image/png' in data:
            data['image/png'] = base64.b64encode(quantised(data['image/png'])).decode()


def quantised(png):
    "A base64 PNG with at most 128 colours; what has fewer already is left as it is"
    from PIL import Image

    raw = base64.b64decode(png)
    picture = Image.open(BytesIO(raw))
    if picture.mode == 'P':
        return raw
    small = BytesIO()
    colours = picture.convert('RGBA').convert('RGB').quantize(128, dither=Image.Dither.NONE)
    colours.save(small, 'PNG', optimize=True)
    return min(raw, small.getvalue(), key=len)


def merged_streams(cell):
    "Neighbouring pieces of one stream as one output: where a kernel breaks them is chance"
    out = []
    for o in cell.get('outputs', []):
        if out and o.output_type == 'stream' == out[-1].output_type and o.name == out[-1].name:
            out[-1].text += o.text
        else:
            out.append(o)
    return out


def without_places(cell):
    "Warnings without the file of the cell that caused them, which is another in every run"
    for o in cell.get('outputs', []):
        if o.output_type == 'stream' and o.name == 'stderr':
            o.text = re.sub(r'\S*ipykernel_\d+/\d+\.py:\d+: ', '', o.text)


def page_environment():
    "What a page's kernel sees: quiet, and without a server or a database that somebody else set"
    others = ('MLFLOW_', 'ASTRID_', 'DATABASE_URL', 'CLOUDFLARE_', 'SUPABASE_')
    env = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return env | dict(IN_TEST='1', ASTRID_DATA_QUIET='1', MLFLOW_DISABLE_TELEMETRY='true')


def execute(path, timeout=600, manager=AsyncKernelManager):
    "The notebook at `path` with the outputs of a fresh run, and its cells that must not run left as they were"
    skip = set(str(get_config().get('tst_flags', '')).split())
    nb = nbformat.read(path, 4)
    for c in nb.cells:
        if c.cell_type != 'code':
            continue
        flags = set(re.findall(r'^#\|\s*([\w-]+)', c.source, re.M))
        if flags & skip or re.search(r'^#\|\s*eval:\s*false', c.source, re.M):
            c.metadata['tags'] = ['skip-execution']
    NotebookClient(
        nb,
        timeout=timeout,
        kernel_name='python3',
        kernel_manager_class=manager,
        resources={'metadata': {'path': str(path.parent)}},
        skip_cells_with_tag='skip-execution',
    ).execute(env=page_environment())
    return nb


def run(path):
    nb = execute(path)
    for c in nb.cells:
        if c.cell_type == 'code':
            c.outputs = merged_streams(c)
            without_places(c)
            small_pictures(c)
    write_clean(json.loads(nbformat.writes(static_twins(nb))), path)


if __name__ == '__main__':
    verb, *names = sys.argv[1:] or ['help']
    paths = [Path(n).resolve() for n in names] or sorted((root / 'nbs').glob('**/[!_.]*.ipynb'))
    if verb not in ('open', 'save', 'run'):
        sys.exit(__doc__)
    for p in paths:
        t = time.time()
        if verb == 'open':
            edit.mkdir(exist_ok=True)
            jupytext('--to', 'py:percent', p, '-o', text_of(p))
            print(text_of(p).relative_to(root))
        elif verb == 'save':
            save(p)
        else:
            try:
                run(p)
                print(
                    f'{p.name}: {time.time() - t:.1f} s, {p.stat().st_size // 1024} KB', flush=True
                )
            except CellExecutionError as e:
                sys.exit(f'{p.name}: ' + re.sub(r'\x1b\[[0-9;]*m', '', str(e)))
