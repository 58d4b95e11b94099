"Differences of ROC areas hold what nature gives, also where a sample has no mistake"

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from astrid_data.evaluation.roc_difference import _moves, roc_difference, roc_interval
from astrid_data.training.compare import paired_difference


def pair(rng, n, apart, blur=0.5, per_object=1):
    group = np.repeat(np.arange(n), per_object)
    label = (rng.random(n) < 0.5).astype(int)[group]
    better = pd.DataFrame(dict(label=label, group=group))
    better['score'] = (rng.normal(size=n) + apart * label[::per_object])[group]
    return better.assign(score=better['score'] + blur * rng.normal(size=n)[group]), better


@pytest.mark.parametrize('apart', [1, 2.5, 4])
@pytest.mark.parametrize('per_object', [1, 4])
def test_the_difference_holds(apart, per_object):
    worse, better = pair(np.random.default_rng(0), 200_000, apart)
    truth = roc_auc_score(better['label'], better['score'])
    truth -= roc_auc_score(worse['label'], worse['score'])
    rng = np.random.default_rng(1)
    ends = [roc_difference(*pair(rng, 42, apart, per_object=per_object))[1] for _ in range(120)]
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93


def test_placements_have_the_area_of_scikit_learn_with_ties():
    rng = np.random.default_rng(2)
    label, score = rng.integers(0, 2, 500), rng.integers(0, 9, 500)
    assert _moves(label, score, np.arange(500))[0] == pytest.approx(roc_auc_score(label, score))


def test_copies_tell_nothing_new():
    worse, better = pair(np.random.default_rng(3), 100, 2)
    often = [table.loc[np.repeat(table.index, 5)] for table in (worse, better)]
    assert roc_difference(*often)[1] == pytest.approx(roc_difference(worse, better)[1])


def test_perfect_models_are_not_certain_and_one_class_is_unknown():
    worse, better = pair(np.random.default_rng(4), 30, 40)
    low, high = roc_difference(worse, better)[1]
    assert low < -0.02 and high > 0.02
    assert roc_difference(*[t[t['label'] == 1] for t in (worse, better)])[1] is None
    reverse = better.assign(score=-better['score'])
    low, high = roc_interval(reverse)
    assert low == 0 < high < 0.2


def test_runs_are_compared_by_it():
    from astrid_data.evaluation.scores import auc_roc

    worse, better = (
        t.set_index(pd.Index([f'{i:032x}' for i in range(len(t))], name='sample_key'))
        for t in pair(np.random.default_rng(5), 60, 30)
    )
    found = paired_difference(worse, better, auc_roc)
    assert found['low'] < -0.01 and found['high'] > 0.01
