"""Many broken inputs, counted by what became of them: `python tools/fuzz.py 200000 --seed 1`.

Input `number` of a target can be tried again by itself: `python tests/fuzzing.py fuzz_files:fits --seed 1 --only 17`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from fuzz_files import TARGETS
from fuzzing import fuzz

parser = argparse.ArgumentParser()
parser.add_argument('n', type=int, help='inputs in all')
parser.add_argument('--seed', default='0')
parser.add_argument('--seconds', type=float, help='stop after so long')
parser.add_argument('--targets', default=','.join(TARGETS))

if __name__ == '__main__':
    args = parser.parse_args()
    found = fuzz(args.targets.split(','), args.n, args.seed, budget=args.seconds)
    print(found)
    sys.exit(bool(found.bad))
