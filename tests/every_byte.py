"""Change every byte of a version once, one at a time, and read it: `python tests/every_byte.py`.

The version is small and has every kind of file; a folder of your own can be named instead: it is
copied, and its copy is changed. `--most 40` changes so many bytes of each file, drawn by `--seed`.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

KEY = 'a key that only this test has'


def signed_version(folder):
    "A built version of every kind of file: light curves, a quality report, a ledger, a signature"
    from test_frozen_curves import filled, freeze

    version = freeze(filled(folder / 'home'))
    version.sign(KEY)
    return version.folder


def open_it(folder):
    "Open a version as a process does that has not seen it"
    from astrid_data.datasets.dataset import Dataset
    from astrid_data.datasets.seal import checked_files

    checked_files.clear()
    return Dataset(folder)


def read_it(dataset):
    "Read what a loader reads, and what a person looks at"
    for part in (dataset.patches(), dataset.valid(), dataset.targets()):
        part is None or part[:].sum()
    dataset.samples, dataset.ledger, dataset.quality, dataset.audit
    if 'light_curves' in dataset.manifest:
        dataset.light_curve(0)


STAGES = {  # In this order; a changed byte is found by the first that refuses
    'opening': open_it,
    'reading': read_it,
    'verify': lambda dataset: dataset.verify(),
    'signature': lambda dataset: dataset.verify(KEY),
}


def found_by(folder, signed=True):
    "Name of the stage that refuses a version in our words, and those; (None, '') where all is well"
    from astrid_data.core import Conflict, NotFound

    dataset = None
    for stage, function in STAGES.items():
        if stage == 'signature' and not signed:
            continue
        try:
            dataset = function(folder if dataset is None else dataset) or dataset
        except (Conflict, NotFound) as problem:
            return stage, str(problem)
        except Exception as problem:  # noqa: BLE001 (that is what is looked for)
            where = traceback.extract_tb(problem.__traceback__)[-1]
            words = f'{type(problem).__name__} at {where.filename}:{where.lineno}: {problem}'
            return f'foreign at {stage}', words
    return None, ''


@dataclass
class Changes:
    "What became of changed bytes"

    counts: Counter = field(default_factory=Counter)  # By file and stage
    faults: list = field(default_factory=list)  # (file, byte, bit, what)

    def add(self, name, place, bit, stage, words):
        self.counts[name, stage or 'not found'] += 1
        named = name in words or 'manifest.json' in words or stage == 'signature'
        if stage not in STAGES or not named:
            self.faults.append((name, place, bit, f'{stage}: {words:.200}'))

    def __str__(self):
        lines = [f'{n:8,} {name}: {stage}' for (name, stage), n in sorted(self.counts.items())]
        lines.append(f'{self.counts.total():8,} bytes, {len(self.faults)} faults')
        return '\n'.join([*lines, *map(str, self.faults[:40])])


def change_bytes(folder, most=None, seed=0, signed=True, show=False):
    "Flip one bit of each byte, or of so many bytes of each file, and read: `Changes`"
    found, rng = Changes(), random.Random(seed)
    before = found_by(folder, signed)
    assert before == (None, ''), before
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        whole = path.read_bytes()
        places = range(len(whole)) if most is None else rng.sample(range(len(whole)), most)
        with open(path, 'r+b', buffering=0) as file:
            for place in places:
                bit = rng.randrange(8)
                os.pwrite(file.fileno(), bytes([whole[place] ^ 1 << bit]), place)
                found.add(path.name, place, bit, *found_by(folder, signed))
                os.pwrite(file.fileno(), whole[place : place + 1], place)
        if show:
            print(f'{path.name}: {len(places):,} bytes, {time.process_time():.0f} s', flush=True)
    assert found_by(folder, signed) == (None, ''), 'it is not whole after'
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('folder', nargs='?', type=Path, help='of a version; none makes a small one')
    parser.add_argument('--most', type=int, help='bytes of each file')
    parser.add_argument('--seed', default='0')
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / 'version'
        shutil.copytree(args.folder or signed_version(Path(work)), copy)
        signed = (copy / 'signature.json').exists() and args.folder is None
        found = change_bytes(copy, args.most, args.seed, signed, show=True)
    print(found)
    return bool(found.faults)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
