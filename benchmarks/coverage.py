"""`python -m benchmarks.coverage`: how often the intervals of a report contain the truth, on samples whose truth is known.

Classifiers of sixteen kinds: poor to nearly perfect, wrong labels, outliers, scores that are rounded or saturated, a few bogus that look more real than
anything real, a few real that look like the worst bogus. 42 to 1,000 objects; one sample an object, or one to twenty that look alike; as many
real as bogus, and one in ten. Of each, the area at its own share of real and at five others, and the rates at 1 %.

Each cell is first tried with 200 samples. Where an interval holds in less than 95 %, the cell is done again with new samples, four times as many; what is kept is that. There are
100 draws an interval (200 the second time), a fifth of the default. Kept in benchmarks/results/coverage.json after each cell; a cell that is there with as many samples is not done again, and says of which commit it is.
"""

import json
import time
from functools import lru_cache, partial
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.harness import keep, machine, moment, results
from benchmarks.words import Words, whole_number

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


def objects_of(rng, n, how, sizes, prior):
    "A row an object: samples, whether it is real and looks it, and how far off it lies if it is odd"
    size = sizes_of(rng, n, sizes)
    real = rng.random(n) < prior
    looks_real = real ^ (rng.random(n) < how['wrong'])
    share, up = how['bogus']
    odd = rng.random(n) < share * (size / 3.5 if how['large'] else 1)
    lost, down = how['real']
    off = up * (odd & ~real) - down * (real & (rng.random(n) < lost))
    return pd.DataFrame(dict(size=size, real=real, looks_real=looks_real, off=off))


def alike_of(sizes):
    "Share of the noise that samples of one object have in common"
    return 0.0 if sizes == '1' else 0.8


def table_of(objects, group, how, noise, better=0.0):
    "Label, score and group of each sample, of a model that tells the classes `better` apart than usual"
    centre = (how['apart'] + better) * objects['looks_real'] + objects['off']
    score = centre.to_numpy()[group] + noise
    if how['step']:
        score = how['step'] * np.round(score / how['step'])
    if how['saturated']:
        score = np.round(1 / (1 + np.exp(-4 * (score - 2))), 2)
    label = objects['real'].to_numpy()[group].astype(int)
    return pd.DataFrame(dict(label=label, score=score, group=group))


def sample_of(rng, n, kind, sizes, prior):
    "Scores of objects whose truth is known; samples of one object are alike"
    how = USUAL | KINDS[kind]
    objects = objects_of(rng, n, how, sizes, prior)
    group = np.repeat(np.arange(n), objects['size'])
    alike = alike_of(sizes)
    noise = np.sqrt(alike) * how['scatter'](rng, n)[group]
    noise += np.sqrt(1 - alike) * how['scatter'](rng, len(group))
    return table_of(objects, group, how, noise)


@lru_cache
def truth_of(kind, sizes):
    "What half a million objects say: the area at each share of real, and the rates"
    from astrid_data.evaluation.intervals import prior_weights
    from astrid_data.evaluation.scores import average_precision, fnr_at_fpr, fpr_at_fnr

    n = 500_000 if sizes == '1' else 300_000
    scores = sample_of(np.random.default_rng(0), n, kind, sizes, 0.5)
    label, score = scores['label'].to_numpy(), scores['score'].to_numpy()
    priors = sorted({0.1, 0.5, *ASKED})
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


def coverage(kind, sizes, prior, n_objects, n_samples, again):
    "A row: per measure how often its interval has the truth, its median width, and how often it says nothing"
    from astrid_data.evaluation.intervals import deciding_objects

    where = [n_objects, SIZES.index(sizes), round(100 * prior), list(KINDS).index(kind), again]
    rng = np.random.default_rng(where)
    truth = truth_of(kind, sizes)
    n_boot = DRAWS if again else FEW_DRAWS
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


def least_held(rows, measures):
    "Of each row, in what share of the samples the worst of its measures has the truth"
    return np.array([min(row[name]['held'] for name in measures) for row in rows])


def unclear(rows, n_samples, measures):
    "Which rows are to be done again with more samples, the worst first"
    least = least_held(rows, measures)
    once = [row['samples'] == n_samples for row in rows]
    return [k for k in np.argsort(least) if once[k] and least[k] < UNCLEAR]


def begun(start):
    "The measurement with the rows that were kept of it, each with the commit that it is of"
    path = results / f'{start["table"]}.json'
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get('samples') != start['samples']:
        return start
    rows = [dict(commit=kept['commit']) | row for row in kept['rows']]
    return start | dict(rows=rows, processor_s=kept['processor_s'])


def cells():
    "All that is tried, as rows without numbers; what tells most comes first"
    for prior, n_objects in product((0.5, 0.1), (300, 42, 100, 1000)):
        for kind, sizes in product(KINDS, SIZES):
            if sizes != '1' or not KINDS[kind].get('large'):
                yield dict(kind=kind, sizes=sizes, prior=prior, n_objects=n_objects)


def cell_of(row):
    "What a row is about"
    return {part: row[part] for part in ('kind', 'sizes', 'prior', 'n_objects')}


def fill(result, k, row_of, measures):
    "Do one cell by `row_of` and keep it as row `k`"
    began = time.process_time()
    row = row_of()
    result['rows'][k : k + 1] = [row | dict(commit=result['commit'])]
    result['processor_s'] += round(time.process_time() - began)
    held = {name: min(row[name]['held'] for row in result['rows']) for name in measures}
    keep(result | dict(least=held))
    print(k, list(row.values())[:5], [row[name]['held'] for name in measures], flush=True)


def fill_all(start, row_of, measures, offered, grid=None):
    "Do each cell, then those again where an interval that is offered seems to hold too seldom"
    n_samples, grid = start['samples'], [*(grid or cells())]
    result = begun(start) | dict(cells=len(grid))
    rows = result['rows']
    done = [cell_of(row) for row in rows]
    for cell in grid:
        if cell not in done:
            row = partial(row_of, **cell, n_samples=n_samples, again=0)
            fill(result, len(rows), row, measures)
    for k in unclear(rows, n_samples, offered):
        row = partial(row_of, **cell_of(rows[k]), n_samples=4 * n_samples, again=1)
        fill(result, k, row, measures)
    print({name: min(row[name]['held'] for row in rows) for name in measures})


def main(words=None):
    asked = Words('benchmarks.coverage', __doc__)
    asked.add_argument(
        'n_samples', nargs='?', type=whole_number, default=200, help='samples of each kind'
    )
    n_samples = asked.parse_args(words).n_samples
    about = (
        'held: share of samples whose 95 % interval contains the truth; width: its median; untold: share of intervals of a '
        'rate that end at 1, and of an area that are wider than 0.9; decide: objects that decide the area at its own prior and at 0.02 (median)'
    )
    start = dict(table='coverage', about=about, machine=machine(), **moment())
    start |= dict(samples=n_samples, wanted=WANTED, asked_priors=ASKED, rows=[], processor_s=0)
    fill_all(start, coverage, MEASURES, MEASURES)


if __name__ == '__main__':
    main()
