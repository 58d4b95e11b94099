"Intervals hold what nature gives, or say that they cannot"

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, norm

from astrid_data.core import BadInput
from astrid_data.evaluation.breakdown import breakdown
from astrid_data.evaluation.intervals import (
    _area_ends,
    _ranked,
    _together,
    _weigh,
    area_difference,
    area_interval,
    area_intervals,
    bootstrap,
    deciding_objects,
    effective_objects,
    fnr_interval,
    fpr_interval,
    prior_weights,
    share_interval,
)
from astrid_data.evaluation.repeat import repeat
from astrid_data.evaluation.report import operating_points, scores_at_prior
from astrid_data.evaluation.scores import average_precision


def sample(rng, n, apart, prior=0.5, per_object=1):
    "Scores of `n` objects; the samples of one object are copies of each other"
    label = (rng.random(n) < prior).astype(int)
    score = rng.normal(0, 1, n) + apart * label
    table = pd.DataFrame(dict(label=label, score=score, group=np.arange(n)))
    return table.loc[np.repeat(table.index, per_object)].reset_index(drop=True)


def share_held(interval, truth, n, apart, repeats, **how):
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(repeats):
        low, high = interval(sample(rng, n, apart, **how))
        held += low <= truth <= high
    return held / repeats


def true_rate(apart, rate=0.01):
    "Of two normal distributions: what passes where the share `rate` of the upper one lies below"
    return norm.sf(norm.ppf(rate) + apart)


@pytest.mark.parametrize('per_object', [1, 5])
@pytest.mark.parametrize('n', [42, 300, 1000])
@pytest.mark.parametrize('interval', [fpr_interval, fnr_interval])
def test_rates_at_a_tail_hold(interval, n, per_object):
    held = share_held(interval, true_rate(2.5), n, 2.5, 300, per_object=per_object)
    assert held >= 0.93


@pytest.mark.parametrize('apart', [1, 4])
@pytest.mark.parametrize('n', [42, 300])
def test_the_area_holds_also_near_1(n, apart):
    big = sample(np.random.default_rng(0), 400_000, apart)
    truth = average_precision(big['label'], big['score'])

    def interval(scores):
        return area_interval(scores, n_boot=50)

    assert share_held(interval, truth, n, apart, 60) >= 0.93


def test_the_area_at_another_prior_holds():
    big = sample(np.random.default_rng(0), 400_000, 2.5)
    truth = average_precision(big['label'], big['score'], prior_weights(big['label'], 0.1))

    def interval(scores):
        return area_interval(scores, 0.1, n_boot=50)

    assert share_held(interval, truth, 100, 2.5, 60) >= 0.93


def heavy_sample(rng, n):
    "Scores with outliers, of which a few bogus lie above most of the real"
    label = (rng.random(n) < 0.5).astype(int)
    score = rng.standard_t(3, n) + 4 * label
    return pd.DataFrame(dict(label=label, score=score, group=np.arange(n)))


def test_the_area_of_scores_with_outliers_holds():
    big = heavy_sample(np.random.default_rng(0), 400_000)
    truth = average_precision(big['label'], big['score'], prior_weights(big['label'], 0.02))
    rng = np.random.default_rng(1)
    ends = [area_interval(heavy_sample(rng, 1000), 0.02, n_boot=0) for _ in range(200)]
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93
    assert np.median([high - low for low, high in ends]) < 0.45  # Not by saying nothing


def with_odd_bogus(rng, n, share, large=False):
    "One to twenty alike samples an object; a few bogus objects look more real than anything real"
    size = rng.choice(np.arange(1, 21), n, p=SIZE_CHANCE) if large else np.ones(n, int)
    label = (rng.random(n) < 0.5).astype(int)
    odd = rng.random(n) < share * (size / 3.5 if large else 1)
    score = rng.normal(0, 1, n) + 2.5 * label + 6 * (odd & (label == 0))
    table = pd.DataFrame(dict(label=label, score=score, group=np.arange(n)))
    return table.loc[np.repeat(table.index, size)].reset_index(drop=True)


SIZE_CHANCE = np.arange(1, 21) ** -1.5 / (np.arange(1, 21) ** -1.5).sum()


@pytest.mark.parametrize('share, large', [(0.01, False), (0.03, True)])
def test_bogus_that_a_sample_may_not_have_are_in_the_interval(share, large):
    "They decide the area at 2 % real; an interval by drawing objects again held in 86 of 100"
    big = with_odd_bogus(np.random.default_rng(0), 300_000, share, large)
    truth = average_precision(big['label'], big['score'], prior_weights(big['label'], 0.02))
    rng = np.random.default_rng(1)
    samples = [with_odd_bogus(rng, 300, share, large) for _ in range(200)]
    ends = [area_interval(table, 0.02, 100) for table in samples]
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93
    assert np.median([high - low for low, high in ends]) < 0.6  # Not by saying nothing


def test_the_area_of_a_share_is_the_exact_interval_of_a_share():
    "Real ones above or below all bogus: the area is their share, but for the prior"
    for found in (0, 7, 30):
        score = np.r_[np.full(found, 9.0), np.full(30 - found, -9.0), np.zeros(5)]
        label = np.r_[np.ones(30, int), np.zeros(5, int)]
        table = pd.DataFrame(dict(label=label, score=score, group=np.arange(len(score))))
        ends = area_intervals(table, [1e-12], 4000)[0]  # What is below all bogus counts for nothing
        exact = share_interval(found / 30, 30)[1]
        assert ends[1] == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize('at, passing', [(0, 0.4), (-5, 0)])
def test_a_rate_takes_two_steps_and_counts_what_is_at_the_threshold(at, passing):
    "All real have one score, so that there is one threshold; of 50 bogus 20 are at `at`"
    score = np.r_[np.zeros(100), np.full(20, float(at)), np.full(30, -5.0)]
    table = pd.DataFrame(dict(label=[1] * 100 + [0] * 50, score=score, group=np.arange(150)))
    assert fpr_interval(table, fnr=0.5)[1] == pytest.approx(two_step(passing, 50)[1])


def test_a_rate_counts_objects_of_the_other_class_and_what_is_above_all_thresholds():
    "Fifty bogus objects with three samples each: five above the one threshold, 20 at it"
    score = np.r_[np.zeros(100), np.repeat([1.0, 0.0, -5.0], [15, 60, 75])]
    table = pd.DataFrame(dict(label=[1] * 100 + [0] * 150, score=score))
    table['group'] = np.r_[np.arange(100), 100 + np.arange(150) // 3]
    ends = fpr_interval(table, fnr=0.5)
    assert ends == pytest.approx((two_step(5 / 50, 50)[0], two_step(25 / 50, 50)[1]))


def test_both_rates_are_one_question_asked_of_either_class():
    "Few objects of one class and many of the other, each with its own number of samples"
    rng = np.random.default_rng(0)
    table = sample(rng, 400, 2, prior=0.2)
    table = table.loc[np.repeat(table.index, np.where(table['label'] == 1, 4, 1))]
    turned = table.assign(label=1 - table['label'], score=-table['score'])
    for rate in (0.01, 0.1):
        assert fnr_interval(table, rate) == pytest.approx(fpr_interval(turned, rate))
    assert fnr_interval(table, 0.1) != pytest.approx(fpr_interval(table, 0.1))


def two_step(share, n):
    "Clopper and Pearson at the confidence of one of two steps"
    found = share * n
    low = beta.ppf(0.0125, found, n - found + 1) if found else 0
    return low, beta.ppf(0.9875, found + 1, n - found) if found < n else 1


def test_thresholds_without_a_real_one_change_nothing():
    "Of a curve only the points where a real one is found count"
    table = sample(np.random.default_rng(2), 60, 1).assign(group=np.arange(60))
    weights = _weigh(_ranked(table), 5, np.random.default_rng(0))
    found = np.sort(table['score'][table['label'] == 1])[::-1]
    assert weights.real.shape == (5, len(found))
    assert (np.diff(weights.real, axis=1) > 0).all()
    assert weights.n_real == pytest.approx(weights.real[:, -1:])


def drawn_by_hand(table, ranked, n, seed):
    "The weights of each sample in each draw, and of one unseen real and bogus: what `_weigh` draws"
    rng = np.random.default_rng(seed)
    times = rng.standard_exponential((n, table['group'].nunique()))
    unseen = rng.standard_exponential((2, n, 1)) * ranked.unseen
    return times[:, table['group']], unseen[:, :, 0]


def area_by_hand(table, times, unseen, prior, real_at, bogus_at):
    "The area with the two unseen samples among the others, at a share of real"
    label = np.r_[table['label'], 1, 0]
    score = np.r_[table['score'], real_at, bogus_at]
    weight = np.r_[times, unseen]
    counted = np.r_[np.ones(len(table), bool), real_at > 0, bogus_at > 0]  # What is last is not
    n_real, n_bogus = weight[label == 1], weight[label == 0]
    odds = n_real[counted[label == 1]].sum() / n_bogus[counted[label == 0]].sum()
    if prior is not None:
        odds = prior / (1 - prior)
    more = odds * n_bogus.sum() / n_real.sum()
    return average_precision(label, score, weight * np.where(label == 1, more, 1))


@pytest.mark.parametrize('prior', [None, 0.02, 0.5])
def test_what_was_not_seen_counts_as_samples_beyond_all_others(prior):
    "The ends are the areas of tables in which a real and a bogus one stand above or below all"
    table = sample(np.random.default_rng(3), 30, 1.5, prior=0.3)
    table = table.loc[np.repeat(table.index, 1 + 3 * (table['label'] == 1))].reset_index(drop=True)
    table['score'] = table['score'].round(1)
    ranked = _ranked(table)
    least, greatest = _area_ends(_weigh(ranked, 5, np.random.default_rng(1)), prior)
    times, unseen = drawn_by_hand(table, ranked, 5, seed=1)
    for draw in range(5):
        given = (table, times[draw], unseen[:, draw], prior)
        assert least[draw] == pytest.approx(area_by_hand(*given, real_at=-99, bogus_at=99))
        assert greatest[draw] == pytest.approx(area_by_hand(*given, real_at=99, bogus_at=-99))


@pytest.mark.parametrize('seed', [0, 3])
def test_an_interval_is_what_all_but_a_twentieth_of_the_draws_lie_in(seed):
    table = sample(np.random.default_rng(4), 60, 1.5)
    draws = _area_ends(_weigh(_ranked(table), 200, np.random.default_rng(seed)), 0.1)
    low, high = np.quantile(draws[0], 0.025), np.quantile(draws[1], 0.975)
    assert area_interval(table, 0.1, 200, seed) == pytest.approx((low, high))
    assert area_intervals(table, [None, 0.1], 200, seed)[1] == pytest.approx((low, high))


def test_fewer_draws_than_a_hundred_are_a_hundred_and_many_are_made_in_parts(monkeypatch):
    table = sample(np.random.default_rng(0), 50, 2)
    sizes = []

    def weigh(ranked, n, rng):
        sizes.append(n)
        return _weigh(ranked, n, rng)

    monkeypatch.setattr('astrid_data.evaluation.intervals._weigh', weigh)
    monkeypatch.setattr('astrid_data.evaluation.intervals._AT_ONCE', 50 * 30)
    area_interval(table, n_boot=2)
    assert sizes == [30, 30, 30, 10]


def test_equal_scores_and_parts_of_draws_change_nothing(monkeypatch):
    table = sample(np.random.default_rng(0), 80, 2)
    table['score'] = table['score'].round()
    once = area_interval(table, 0.1)
    for shuffled in (table[::-1], table.sample(frac=1, random_state=1)):
        assert area_interval(shuffled, 0.1) == pytest.approx(once, abs=1e-9)
    monkeypatch.setattr('astrid_data.evaluation.intervals._AT_ONCE', 80 * 7)
    assert area_interval(table, 0.1) == pytest.approx(once, abs=0.02)
    assert area_interval(table, 0.1, n_boot=2) == area_interval(table, 0.1, n_boot=100)


@pytest.mark.parametrize('prior', [None, 0.001, 0.02])
def test_areas_are_between_0_and_1_and_hold_what_was_seen(prior):
    "Sums of weights round: an area of 1 + 2e-16 is none"
    rng = np.random.default_rng(0)
    for n in (6, 30, 300):
        for apart in (0, 2, 30):
            table = sample(rng, n, apart, per_object=3)
            weight = prior_weights(table['label'], prior)
            seen = average_precision(table['label'], table['score'], weight)
            low, high = area_interval(table, prior, 100)
            assert 0 <= low <= seen <= high <= 1


@pytest.mark.parametrize('n_real', [7, 20, 41])
def test_the_area_of_a_perfect_order_is_1_whatever_the_weights(n_real):
    "Sums of weights round: without a limit a few of a hundred are 1 + 2e-16"
    rng, label = np.random.default_rng(0), np.ones(n_real, int)
    areas = [average_precision(label, np.arange(n_real), rng.random(n_real)) for _ in range(2000)]
    assert max(areas) == 1 and min(areas) > 1 - 1e-12


def test_an_interval_holds_what_was_seen_and_ends_at_1(monkeypatch):
    table, page = sample(np.random.default_rng(5), 60, 1.5), 'astrid_data.evaluation.intervals.'
    for seen in (0.0, 1.0):
        monkeypatch.setattr(page + '_seen_area', lambda *of, seen=seen: seen)
        low, high = area_interval(table, 0.1, 100)
        assert low <= seen <= high
    above = np.full(100, np.nextafter(1, 2))
    monkeypatch.setattr(page + '_area_ends', lambda *of: (above, above))
    assert area_interval(table, 0.1, 100) == (1, 1)


def test_what_has_one_class_has_no_area_at_any_prior():
    table = sample(np.random.default_rng(5), 60, 1.5)
    for label in (0, 1):
        assert area_intervals(table[table['label'] == label], [None, 0.1]) == [None, None]
    assert (prior_weights([1, 1], 0.1) == 1).all() and (prior_weights([0, 0], 0.1) == 1).all()


def test_a_bootstrap_has_the_central_draws_and_needs_two_objects():
    table = sample(np.random.default_rng(5), 40, 1.5)
    assert bootstrap(table.assign(group=0), average_precision) is None
    times = np.random.default_rng(2).multinomial(40, np.full(40, 1 / 40), 300)[:, 0]
    ends = bootstrap(table, lambda label, score, weight: weight[0], n=300, seed=2)
    assert ends == tuple(np.quantile(times, (0.025, 0.975)))


def test_models_that_move_together_have_the_correlation_of_their_draws(monkeypatch):
    rng = np.random.default_rng(6)
    one, noise = rng.normal(size=(2, 200))
    half = one + noise
    assert _together(one, half) == pytest.approx(np.corrcoef(one, half)[0, 1])
    assert _together(one, -half) == 0  # To be unlike is no reason for a narrower interval
    assert _together(np.array([1, 2, np.nan]), np.array([1, 2, 3.0])) == 0  # Two draws tell nothing
    table = sample(rng, 40, 1.5)
    page = 'astrid_data.evaluation.intervals.'
    monkeypatch.setattr(page + 'paired_bootstrap', lambda *of: (0.0, (-0.9, 0.8)))
    assert area_difference(table, table, n_boot=20)[1] == (-0.9, 0.8)


def test_few_objects_that_decide_are_counted():
    rng = np.random.default_rng(0)
    tables = sample(rng, 1000, 2.5), heavy_sample(rng, 1000)
    usual, heavy = (deciding_objects(table) for table in tables)
    assert heavy < 10 < 40 < usual
    assert deciding_objects(tables[0], 0.02) < 10
    five_alike = tables[0].loc[np.repeat(tables[0].index, 5)]
    assert deciding_objects(five_alike) == pytest.approx(usual)
    one_mistake = pd.DataFrame(dict(label=[1, 0, 1, 1], score=[4.0, 3, 2, 1], group=range(4)))
    assert 1 <= deciding_objects(one_mistake) < 4


def test_what_one_object_decides_ends_at_the_band():
    "One bogus in front of 300 real: the lower end is not 0"
    label = np.r_[0, np.ones(300, int), np.zeros(299, int)]
    table = pd.DataFrame(dict(label=label, score=np.arange(600, 0, -1.0), group=np.arange(600)))
    low, high = area_interval(table, None, n_boot=0)
    seen = average_precision(table['label'], table['score'])
    assert 0.85 < low < seen < high and deciding_objects(table) < 1.2


def test_a_share_is_that_of_clopper_and_pearson():
    assert share_interval(0, 0) == (0, 1)  # Of nothing, nothing is known
    for found, n in ((0, 5), (3, 5), (5, 5), (17, 400)):
        low, high = share_interval(found / n, n)
        assert low == pytest.approx(beta.ppf(0.025, found, n - found + 1) if found else 0)
        assert high == pytest.approx(beta.ppf(0.975, found + 1, n - found) if found < n else 1)


def test_copies_tell_nothing_new():
    rng = np.random.default_rng(1)
    once = sample(rng, 200, 2)
    often = once.loc[np.repeat(once.index, 7)]
    for interval in (fpr_interval, fnr_interval):
        assert interval(often) == pytest.approx(interval(once))
    assert area_interval(often) == pytest.approx(area_interval(once), abs=0.01)
    assert effective_objects(often['group']) == pytest.approx(200)


def test_few_objects_say_that_it_cannot_be_told():
    few = operating_points(sample(np.random.default_rng(2), 42, 5), n_boot=50)
    assert few.fpr_at_fnr == 0 and few.fpr_at_fnr_interval == (0, 1)
    assert 'cannot be told' in repr(few)
    low, high = few.auc_pr_interval
    assert few.auc_pr == high == 1 and low < 0.9


def test_what_has_one_class_or_one_object_has_no_false_certainty():
    alone = pd.DataFrame(dict(label=[1, 1], score=[0.2, 0.9], group=[0, 1]))
    assert fpr_interval(alone) is fnr_interval(alone) is area_interval(alone) is None
    one = pd.DataFrame(dict(label=[1, 0] * 9, score=[0.9, 0.1] * 9, group=0))
    assert fpr_interval(one) == (0, 1)
    low, high = area_interval(one)
    assert low < 0.1 and high == 1
    level = pd.DataFrame(dict(label=[1, 0] * 50, score=0.5, group=np.arange(100)))
    low, high = fpr_interval(level)
    assert low < 1 == high


def test_the_prior_is_said_and_another_can_be_asked_about():
    table = sample(np.random.default_rng(3), 400, 2)
    report = operating_points(table, n_boot=50, survey_prior=0.05)
    words = repr(report).splitlines()
    assert words[2].split()[:2] == ['prior', f'{report.prior:.3f}']
    assert report.auc_pr_at_prior < report.auc_pr
    low, high = report.auc_pr_at_prior_interval
    assert low < report.auc_pr_at_prior < high
    assert report.metrics()['test_auc_pr_at_prior'] == report.auc_pr_at_prior
    with pytest.raises(BadInput, match='above 0 and below 1'):
        operating_points(table, survey_prior=1.5)


def test_scores_at_another_prior_are_probabilities_there():
    rng = np.random.default_rng(4)
    table = sample(rng, 400_000, 2, prior=0.05)
    learnt = 1 / (1 + np.exp(-(2 * table['score'] - 2)))  # Of two equal classes, 2 apart
    corrected = scores_at_prior(learnt, trained=0.5, prior=0.05)
    for low, high in ((0.02, 0.1), (0.1, 0.4), (0.4, 0.9)):
        inside = (corrected > low) & (corrected < high)
        assert corrected[inside].mean() == pytest.approx(table['label'][inside].mean(), abs=0.01)
    with pytest.raises(BadInput):
        scores_at_prior([0.5], trained=0, prior=0.1)


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_no_scores(wrong):
    "They had an AUC-PR of 0.5 and an FPR of 1.0 with an interval from 0.00 to 0.36"
    table = sample(np.random.default_rng(6), 20, 2)
    table.loc[3, 'score'] = wrong
    with pytest.raises(BadInput, match='1 of 20 scores are no finite numbers'):
        operating_points(table)


@pytest.mark.parametrize('per_object', [1, 5])
def test_the_rates_of_a_chosen_threshold_hold(per_object):
    rng, held = np.random.default_rng(7), []
    for _ in range(200):
        report = operating_points(
            sample(rng, 60, 2.5, per_object=per_object), n_boot=0, threshold=1
        )
        for name, truth in (('fnr', norm.sf(1.5)), ('fpr', norm.sf(1))):
            held.append(report.chosen[f'{name}_low'] <= truth <= report.chosen[f'{name}_high'])
    assert np.mean(held) >= 0.93
    assert 'FNR there' in repr(report) and 'chosen_fpr_high' in str(report.metrics())


def test_a_part_without_a_mistake_is_not_certain():
    table = sample(np.random.default_rng(5), 40, 9).assign(band='r')
    part = breakdown(table, 'band', threshold=4.5).iloc[0]
    assert part['purity'] == part['completeness'] == 1
    assert 0.7 < part['purity_low'] < 0.95 and part['purity_high'] == 1


@pytest.mark.parametrize('n, apart', [(42, 2.5), (100, 1)])
def test_a_difference_of_two_areas_holds(n, apart):
    "The bootstrap alone held the truth in 84 to 94 of 100 such samples"

    def two(rng, n):
        better = sample(rng, n, apart)
        blur = 0.5 * rng.normal(0, 1, n)
        return better.assign(score=better['score'] + blur), better

    worse, better = two(np.random.default_rng(0), 300_000)
    truth = average_precision(better['label'], better['score'])
    truth -= average_precision(worse['label'], worse['score'])
    rng = np.random.default_rng(n)
    ends = [area_difference(*two(rng, n), n_boot=40)[1] for _ in range(60)]
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.93


def test_two_perfect_models_are_not_certain_to_be_equal():
    perfect = sample(np.random.default_rng(0), 30, 30)
    low, high = area_difference(perfect, perfect.assign(score=2 * perfect['score']))[1]
    assert low < -0.05 and high > 0.05


@pytest.mark.parametrize('wrong', [1.5, 0, 10, float('nan'), True, 'few', '200%'])
def test_what_is_no_share_is_refused(wrong):
    table = sample(np.random.default_rng(3), 100, 2)
    for given in (table, table[table['label'] == 1]):
        with pytest.raises(BadInput, match="as 0.01 or '1%'"):
            operating_points(given, n_boot=2, survey_prior=wrong)
    same = operating_points(table, n_boot=2, survey_prior='5 %')
    assert same.survey_prior == 0.05 and 'asked about: 0.05' in repr(same).splitlines()[2]


def test_the_spread_of_seeds_stands_beside_the_interval_of_objects():
    def once(seed):
        return operating_points(sample(np.random.default_rng(seed), 80, 2), n_boot=5)

    report = repeat(once, seeds=5)
    areas = [once(seed).auc_pr for seed in range(5)]
    spread = report.over_seeds['auc_pr']
    half = 3.746947 * np.std(areas, ddof=1) * np.sqrt(1.2)  # Student's t of 98 %
    assert spread['mean'] == pytest.approx(np.mean(areas)) and spread['n'] == 5
    assert spread['low'] == pytest.approx(np.mean(areas) - half)
    assert report.auc_pr == areas[0] and '5 draws' in repr(report) and once(0).over_seeds is None


@pytest.mark.parametrize('label', [[1, 1, 1], [0, 0, 0]])
def test_of_one_class_no_area_is_said(label):
    "All real would be 1.0, which any order reaches"
    report = operating_points(
        pd.DataFrame(dict(label=label, score=[0.9, 0.5, 0.1], group=[1, 2, 3]))
    )
    assert report.auc_pr is None and report.auc_roc is None and report.auc_pr_interval is None


@pytest.mark.parametrize(
    'label, group, words',
    [
        ([1, 0, np.nan], [1, 2, 3], '1 of 3 labels'),
        ([1, 0, 2], [1, 2, 3], '1 of 3 labels'),
        ([1, 0, 1], [1, np.nan, None], '2 of 3 samples have no group'),
    ],
)
def test_labels_and_objects_that_nobody_knows_are_refused(label, group, words):
    with pytest.raises(BadInput, match=words):
        operating_points(pd.DataFrame(dict(label=label, score=[0.9, 0.5, 0.1], group=group)))


def test_scores_that_are_no_chances_have_no_calibration():
    table = pd.DataFrame(dict(label=[1, 0, 1, 0], score=[5.0, -3, 2, 1], group=[1, 2, 3, 4]))
    report = operating_points(table)
    assert (report.brier, report.calibration_error, report.auc_pr) == (None, None, 1.0)
    assert 'no calibration' in report.note
