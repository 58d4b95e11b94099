"Thousands of odd requests and changed manifests: no foreign exception, no bare 500, no wrong acceptance. ASTRID_FUZZ_INPUTS=… is long."

import os

import pytest
from fuzzing import fuzz

N = int(os.environ.get('ASTRID_FUZZ_INPUTS', 0))


@pytest.mark.parametrize(
    'target, few',
    [('fuzz_doors:bodies', 400), ('fuzz_doors:manifests', 120), ('fuzz_doors:verbs', 300)],
)
def test_nothing_odd_comes_through_a_door(target, few):
    found = fuzz([target], N or few, seed=1, budget=None if N else 25)
    print(f'\n{found}')
    assert not found.bad, str(found)
    assert found.counts['refused'] > 0
