"The wheel is built from what git knows of, in a copy."

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
from check_wheel import copy_tracked


def test_only_tracked_files_are_copied_as_they_are_now(tmp_path):
    checkout, to = tmp_path / 'checkout', tmp_path / 'to'
    (checkout / 'lib').mkdir(parents=True)
    for name in ('lib/a.py', 'é b.txt', 'gone.txt'):
        (checkout / name).write_text('before')
    for words in (['init', '-q'], ['add', '.']):
        subprocess.run(['git', *words], cwd=checkout, check=True)
    (checkout / 'lib' / 'a.py').write_text('now')
    (checkout / 'gone.txt').unlink()
    (checkout / 'build').mkdir()
    (checkout / 'build' / 'left.py').write_text('of another build')
    copy_tracked(checkout, to)
    there = {p.relative_to(to).as_posix(): p.read_text() for p in to.rglob('*') if p.is_file()}
    assert there == {'lib/a.py': 'now', 'é b.txt': 'before'}
