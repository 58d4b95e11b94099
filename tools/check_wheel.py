"""Build sdist and wheel from a copy, install the wheel into an empty environment, and import every module with only what the package declares."""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

root = Path(__file__).resolve().parents[1]
probe = """
import importlib, pkgutil, sys
import astrid_data
heavy = {'torch', 'mlflow', 'fastapi', 'ipywidgets', 'boto3'} & set(sys.modules)
assert not heavy, f'import astrid_data loads {sorted(heavy)}'
extra = {'api': 'fastapi'}                       # pages that an extra completes, and what it brings
for m in pkgutil.walk_packages(astrid_data.__path__, 'astrid_data.'):
    name = m.name.removeprefix('astrid_data.')
    if name.startswith(('_', 'migrations', 'sample')): continue
    try: importlib.import_module(m.name)
    except ImportError as e:
        assert name in extra and 'astrid_data[api]' in str(e), f'{m.name}: {e}'
        print(f'{m.name} asks for its extra:', e)
doors = [astrid_data, *(m for n in astrid_data.__all__ if n != 'api' and hasattr(m := getattr(astrid_data, n), '__path__'))]
names = [(d, n) for d in doors for n in d.__all__ if n not in ('api', 'create_app')]
missing = [f'{d.__name__}.{n}' for d, n in names if not hasattr(d, n)]
assert not missing, f'names that no page has: {missing}'
from pathlib import Path
sample = Path(astrid_data.__file__).parent/'sample'
assert list(sample.glob('*.fits*')), 'the sample images are not in the wheel'
package = Path(astrid_data.__file__).parent
bare = [p.name for p in package.rglob('*.py') if not p.with_suffix('.pyi').exists() and p.name != '__init__.py' and 'migrations' not in p.parts and not p.name.startswith('_')]
assert (package/'py.typed').exists() and not bare, f'no stubs in the wheel for {bare}'
print(f'{len(names)} public names, {len(list(sample.iterdir()))} files of the sample')
"""


# As on a machine that has nothing of ours
alone = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}


def install(python, *what):
    "Install `what` without compiling it all: few modules are imported, and once"
    pip = [python, '-m', 'pip', '--disable-pip-version-check', '-q', 'install', '--no-compile']
    constraints = ['-c', root / 'constraints.txt']
    subprocess.run([*pip, *constraints, *what], check=True, env=alone)


def copy_tracked(
    checkout: Path,  # Of git; its files may be changed, as they are where somebody works
    to: Path,  # A folder that is made
):
    "Copy what git knows of, so that nothing that is made meanwhile gets in or is disturbed"
    listed = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=checkout, check=True, capture_output=True
    )
    for name in map(os.fsdecode, listed.stdout.split(b'\0')):
        if name and (checkout / name).is_file():  # One may have been removed
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, to / name)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        copy_tracked(root, tmp / 'checkout')
        subprocess.run(
            [sys.executable, '-m', 'build', '--outdir', tmp / 'dist', tmp / 'checkout'],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = (tmp / 'dist').glob('*.whl')
        venv.create(tmp / 'empty', with_pip=True)
        python = tmp / 'empty' / 'bin' / 'python'
        install(python, 'torch==2.13.0')
        install(python, wheel)
        subprocess.run([python, '-I', '-c', probe], check=True, cwd=tmp, env=alone)


if __name__ == '__main__':
    main()
