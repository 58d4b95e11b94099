"""`python -m benchmarks.coverage`: how often the intervals of a report contain the truth, on samples whose truth is known.

Classifiers of sixteen kinds: poor to nearly perfect, wrong labels, outliers, scores that are rounded or saturated, a few bogus that look more real than
anything real, a few real that look like the worst bogus. 42 to 1,000 objects; one sample an object, or one to twenty that look alike; as many
real as bogus, and one in ten. Of each, the area at its own share of real and at five others, and the rates at 1 %.

Each cell is first tried with 200 samples. Where an interval holds in less than 95 %, the cell is done again with new samples, four times as many; what is kept is that. There are
100 draws an interval (200 the second time), a fifth of the default. Kept in benchmarks/results/coverage.json after each cell; what is there of the same commit and as many samples is not done again.
"""

import json
import sys
import time
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.harness import keep, machine, moment, results

OBJECTS = (42, 100, 300, 1000)
WANTED = 0.93
ASKED = (0.001, 0.01, 0.02, 0.1, 0.5)  # Shares of real that a survey might have
UNTOLD = 0.9  # An area that may lie in nine tenths of all that is possible is not known
UNCLEAR = 0.95  # With 200 samples the error is 0.015
FEW_DRAWS, DRAWS = 100, 200


def normal(rng, n):
    return rng.normal(0, 1, n)


def heavy(rng, n):
    return rng.standard_t(3, n)


USUAL = dict(
    apart=2.5,  # Distance of the classes, in standard deviations
    wrong=0,  # Share of wrong labels
    scatter=normal,
    step=0,  # Scores are rounded to multiples of it
    saturated=False,  # Scores between 0 and 1 with two digits, most of them 0 or 1
    bogus=(0, 0),  # Share of the bogus that look more real, and by how much
    real=(0, 0),  # Share of the real that look like bogus, and by how much
    large=False,  # The odd bogus are mostly objects of many samples
)
KINDS = {
    'poor': dict(apart=1),
    'good': {},
    'nearly perfect': dict(apart=4),
    '5 % mislabelled': dict(wrong=0.05),
    'heavy tails': dict(apart=4, scatter=heavy),
    'rounded': dict(step=1),
    'saturated': dict(apart=4, saturated=True),
    '1 % of real lost': dict(real=(0.01, 5)),
    '5 % of real lost': dict(real=(0.05, 5)),
}
for percent, up in product((0.3, 1, 3), (4, 6)):
    KINDS[f'{percent} % of bogus at +{up}'] = dict(bogus=(percent / 100, up))
KINDS['3 % of bogus at +6, large objects'] = dict(bogus=(0.03, 6), large=True)
SIZES = ('1', '1 to 20')


def sizes_of(rng, n, sizes):
    "Samples of each object; of 1 to 20, a quarter of the samples are in objects of more than 12"
    if sizes == '1':
        return np.ones(n, int)
    possible = np.arange(1, 21)
    chance = possible**-1.5
    return rng.choice(possible, n, p=chance / chance.sum())


def sample_of(rng, n, kind, sizes, prior):
    "Scores of objects whose truth is known; samples of one object are alike"
    how = USUAL | KINDS[kind]
    size = sizes_of(rng, n, sizes)
    real = rng.random(n) < prior
    looks_real = real ^ (rng.random(n) < how['wrong'])
    share, up = how['bogus']
    odd = rng.random(n) < share * (size / 3.5 if how['large'] else 1)
    lost, down = how['real']
    centre = how['apart'] * looks_real + up * (odd & ~real)
    centre = centre - down * (real & (rng.random(n) < lost))
    alike = 0.0 if sizes == '1' else 0.8
    group = np.repeat(np.arange(n), size)
    score = np.sqrt(alike) * how['scatter'](rng, n)[group] + centre[group]
    score += np.sqrt(1 - alike) * how['scatter'](rng, len(group))
    if how['step']:
        score = how['step'] * np.round(score / how['step'])
    if how['saturated']:
        score = np.round(1 / (1 + np.exp(-4 * (score - 2))), 2)
    return pd.DataFrame(dict(label=real[group].astype(int), score=score, group=group))


def truth_of(kind, sizes, priors):
    "What half a million objects say: the area at each share of real, and the rates"
    from astrid_data.evaluation.intervals import prior_weights
    from astrid_data.evaluation.scores import average_precision, fnr_at_fpr, fpr_at_fnr

    n = 500_000 if sizes == '1' else 300_000
    scores = sample_of(np.random.default_rng(0), n, kind, sizes, 0.5)
    label, score = scores['label'].to_numpy(), scores['score'].to_numpy()
    truth = {p: average_precision(label, score, prior_weights(label, p)) for p in priors}
    return truth | dict(fpr=fpr_at_fnr(label, score)[0], fnr=fnr_at_fpr(label, score)[0])


def intervals(scores, n_boot):
    from astrid_data.evaluation.intervals import area_intervals, fnr_interval, fpr_interval

    priors = (None, *ASKED)
    ends = dict(zip(priors, area_intervals(scores, priors, n_boot)))
    return ends | dict(fpr=fpr_interval(scores), fnr=fnr_interval(scores))


def words_of(measure):
    "How a measure is called in the results"
    if measure is None:
        return 'area'
    return measure if isinstance(measure, str) else f'area at {measure}'


def coverage(kind, sizes, prior, n_objects, truth, n_samples, n_boot, again=0):
    "A row: per measure how often its interval has the truth, its median width, and how often it says nothing"
    from astrid_data.evaluation.intervals import deciding_objects

    where = [n_objects, SIZES.index(sizes), round(100 * prior), list(KINDS).index(kind), again]
    rng = np.random.default_rng(where)
    ends, decide = [], []
    while len(ends) < n_samples:
        scores = sample_of(rng, n_objects, kind, sizes, prior)
        if scores['label'].nunique() < 2:
            continue  # No test set
        ends.append(intervals(scores, n_boot))
        decide.append([deciding_objects(scores, p) for p in (None, 0.02)])
    row = dict(kind=kind, sizes=sizes, prior=prior, n_objects=n_objects)
    row |= dict(
        samples=n_samples, n_boot=n_boot, decide=np.median(decide, axis=0).round(1).tolist()
    )
    for measure in ends[0]:
        low, high = np.array([e[measure] for e in ends]).T
        true = truth[prior if measure is None else measure]
        untold = high == 1 if isinstance(measure, str) else high - low >= UNTOLD
        held = np.mean((low <= true) & (true <= high))
        numbers = dict(held=held, width=np.median(high - low), untold=np.mean(untold), truth=true)
        row[words_of(measure)] = {name: round(float(x), 4) for name, x in numbers.items()}
    return row


MEASURES = [words_of(measure) for measure in (None, *ASKED, 'fpr', 'fnr')]


def least_held(row):
    return min(row[name]['held'] for name in MEASURES)


def begun(start):
    "What was kept of the same measurement, if it was stopped"
    path = results / f'{start["table"]}.json'
    kept = json.loads(path.read_text()) if path.exists() else {}
    commits = [x.get('commit', '').removesuffix('-dirty') for x in (kept, start)]  # Rows are edits
    same = commits[0] == commits[1] and kept['samples'] == start['samples']
    return kept if same else start


def cells():
    "All that is tried, as rows without numbers; what tells most comes first"
    for prior, n_objects in product((0.5, 0.1), (300, 42, 100, 1000)):
        for kind, sizes in product(KINDS, SIZES):
            if sizes != '1' or not KINDS[kind].get('large'):
                yield dict(kind=kind, sizes=sizes, prior=prior, n_objects=n_objects)


@lru_cache
def truths(kind, sizes):
    return truth_of(kind, sizes, {0.1, 0.5, *ASKED})


def fill(result, k, where, n_samples, again):
    "Do one cell and keep it as row `k`"
    began = time.process_time()
    n_boot = DRAWS if again else FEW_DRAWS
    truth = truths(where['kind'], where['sizes'])
    row = coverage(**where, truth=truth, n_samples=n_samples, n_boot=n_boot, again=again)
    result['rows'][k : k + 1] = [row]
    result['processor_s'] += round(time.process_time() - began)
    held = {name: min(row[name]['held'] for row in result['rows']) for name in MEASURES}
    keep(result | dict(least=held))
    print(list(row.values())[:5], [row[name]['held'] for name in MEASURES], flush=True)


def main(n_samples):
    about = (
        'held: share of samples whose 95 % interval contains the truth; width: its median; untold: share of intervals of a '
        'rate that end at 1, and of an area that are wider than 0.9; decide: objects that decide the area at its own prior and at 0.02 (median)'
    )
    start = dict(table='coverage', about=about, machine=machine(), **moment())
    start |= dict(samples=n_samples, wanted=WANTED, asked_priors=ASKED, rows=[], processor_s=0)
    result = begun(start)
    wanted = list(cells())
    for k in range(len(result['rows']), len(wanted)):
        fill(result, k, wanted[k], n_samples, again=0)
    for k in np.argsort([least_held(row) for row in result['rows']]):
        row = result['rows'][k]
        if row['samples'] == n_samples and least_held(row) < UNCLEAR:
            fill(result, k, wanted[k], 4 * n_samples, again=1)
    print({name: min(row[name]['held'] for row in result['rows']) for name in MEASURES})


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
