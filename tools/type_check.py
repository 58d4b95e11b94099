"""Exit 1 when pyright has something to say of README's session or of a tutorial, or when it does not see a misspelt name."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from stubs import root, write_stubs

settings = {
    'extraPaths': [str(root)],
    'pythonVersion': '3.11',
    'typeCheckingMode': 'basic',
    # Lessons show a value in their last line and say `from fastcore.test import *`
    'reportUnusedExpression': False,
    'reportWildcardImportFromLibrary': False,
}
misspelt = """import astrid_data as ad

archive = ad.open_archive()
dataset = ad.open_dataset(archive, 'first-look')
plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams())
{wrong}
"""
wrong = [
    'ad.open_archiv()',
    'ad.patches.cut_patch',
    'archive.add_fit',
    'dataset.qualty',
    'plan.bild',
    "plan.build('a').qualty",
    'ad.fit(epoch=3)',
]


def script_of(notebook):
    "The code cells of a notebook as one script"
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    sources = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    return '\n\n'.join(s for s in sources if not s.startswith('%'))


def pyright(folder):
    "What pyright reports of the scripts in a folder"
    (folder / 'pyrightconfig.json').write_text(json.dumps(settings))
    command = [sys.executable, '-m', 'pyright', '--outputjson', '--pythonpath', sys.executable]
    out = subprocess.run([*command, '-p', str(folder)], capture_output=True, text=True)
    try:
        return json.loads(out.stdout)['generalDiagnostics']
    except ValueError:
        raise SystemExit(f'pyright did not run: {out.stderr or out.stdout}') from None


def main():
    write_stubs(root / 'astrid_data')
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        pages = [
            root / 'nbs' / 'index.ipynb',
            *sorted((root / 'nbs' / 'tutorials').glob('*.ipynb')),
        ]
        for page in pages:
            (folder / f'{page.stem}.py').write_text(script_of(page))
        for i, line in enumerate(wrong):
            (folder / f'wrong_{i}.py').write_text(misspelt.format(wrong=line))
        reports = [r for r in pyright(folder) if r['severity'] == 'error']
    found = {Path(r['file']).stem for r in reports}
    bad = [
        f'{Path(r["file"]).stem}, line {r["range"]["start"]["line"] + 1}: {r["message"]}'
        for r in reports
        if not Path(r['file']).stem.startswith('wrong_')
    ]
    unseen = [line for i, line in enumerate(wrong) if f'wrong_{i}' not in found]
    bad += [f'pyright does not see that this is wrong: {line}' for line in unseen]
    return bad, len(pages)


if __name__ == '__main__':
    bad, n = main()
    print('\n'.join(bad) or f'pyright has nothing to say of {n} pages, and sees {len(wrong)} slips')
    sys.exit(bool(bad))
