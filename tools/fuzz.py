"""Many broken inputs, counted by what became of them: `python tools/fuzz.py 200000 --seed 1`.

Input `number` of a target can be tried again by itself: `python tests/fuzzing.py fuzz_files:fits --seed 1 --only 17`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from fuzz_doors import TARGETS as DOORS
from fuzz_files import TARGETS as FILES
from fuzz_labels import TARGETS as LABELS
from fuzz_models import TARGETS as MODELS
from fuzz_sets import TARGETS as SETS
from fuzz_tables import TARGETS as TABLES
from fuzzing import fuzz

KNOWN = (*FILES, *DOORS, *LABELS, *MODELS, *SETS, *TABLES)
parser = argparse.ArgumentParser()
parser.add_argument('n', type=int, help='inputs in all')
parser.add_argument('--seed', default='0')
parser.add_argument('--seconds', type=float, help='stop after so long')
parser.add_argument('--targets', default=','.join(KNOWN), help='of them, with commas')


def chosen(
    text,  # Names with commas between them, such as 'fits,fuzz_doors:bodies'
):  # Such as ['fuzz_files:fits', 'fuzz_doors:bodies']; `ValueError` names what is unknown
    "Targets by their names, whose module may be left out"
    by_name = {name.partition(':')[2]: name for name in KNOWN} | {name: name for name in KNOWN}
    names = [name.strip() for name in text.split(',')]
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f'no target {", ".join(unknown)}; known are {" ".join(KNOWN)}')
    return [by_name[name] for name in names]


if __name__ == '__main__':
    args = parser.parse_args()
    try:
        targets = chosen(args.targets)
    except ValueError as problem:
        parser.error(str(problem))
    found = fuzz(targets, args.n, args.seed, budget=args.seconds)
    print(found)
    sys.exit(bool(found.bad))
