"""`python -m benchmarks.roc_coverage`: how often the intervals of an area under the ROC curve, and of the difference of two, contain the truth.

The kinds, sizes and shares of `benchmarks.coverage`, up to 300 objects where half are real and up to 100 where one in ten is: larger sets cost the most, so how often their intervals hold is known of some of them only. Two models score the same objects: the second one as good as the first with noise of its own, and one
that is better by 0.3 standard deviations with noise that is mostly shared. Of the first model the interval of its area, by weights drawn (`auc_roc_interval`,
which the report has) and by a formula (`roc_interval`, which the difference rests on); of each pair the interval of the difference (`roc_difference`).

Each cell is first tried with 200 samples. Where an interval holds in less than 95 %, the cell is done again with new samples, four times as many, and that is kept.
100 draws an interval (200 the second time). Kept in benchmarks/results/roc_coverage.json after each cell; a cell that is there with as many samples is not done again, and says of which commit it is.
"""

from functools import lru_cache

import numpy as np

from benchmarks.coverage import (
    DRAWS,
    FEW_DRAWS,
    KINDS,
    SIZES,
    USUAL,
    WANTED,
    alike_of,
    cells,
    fill_all,
    objects_of,
    table_of,
)
from benchmarks.harness import machine, moment
from benchmarks.words import Words, whole_number

PAIRS = {'alone': (0.0, 0.0), 'shared': (0.8, 0.3)}  # Share of the noise in common; how much better
OFFERED = ('area', *(f'difference, {name}' for name in PAIRS))
MEASURES = ('formula', *OFFERED)  # The formula alone is only for comparison
LARGEST = {0.5: 300, 0.1: 100}  # Share of real -> objects


def noise_of(rng, how, group, n, alike):
    own = how['scatter'](rng, len(group))
    return np.sqrt(alike) * how['scatter'](rng, n)[group] + np.sqrt(1 - alike) * own


def models_of(rng, n, kind, sizes, prior):
    "Scores of the first model, and of a second one of each pair, on the same objects"
    how = USUAL | KINDS[kind]
    objects = objects_of(rng, n, how, sizes, prior)
    group = np.repeat(np.arange(n), objects['size'])
    first, other = (noise_of(rng, how, group, n, alike_of(sizes)) for _ in range(2))
    tables = {}
    for name, (shared, better) in dict(first=(1.0, 0.0), **PAIRS).items():
        noise = np.sqrt(shared) * first + np.sqrt(1 - shared) * other
        tables[name] = table_of(objects, group, how, noise, better)
    return tables


@lru_cache
def truth_of(kind, sizes):
    "What 300,000 objects say: the area of each model"
    from astrid_data.evaluation.scores import auc_roc

    tables = models_of(np.random.default_rng(0), 300_000, kind, sizes, 0.5)
    return {name: auc_roc(table['label'], table['score']) for name, table in tables.items()}


def intervals(tables, n_boot):
    from astrid_data.evaluation.intervals import auc_roc_interval
    from astrid_data.evaluation.roc_difference import roc_difference, roc_interval

    first = tables['first']
    ends = dict(area=auc_roc_interval(first, n_boot), formula=roc_interval(first))
    return ends | {f'difference, {n}': roc_difference(first, tables[n])[1] for n in PAIRS}


def coverage(kind, sizes, prior, n_objects, n_samples, again):
    "A row: per measure how often its interval has the truth, and its median width"
    where = [n_objects, SIZES.index(sizes), round(100 * prior), list(KINDS).index(kind), again, 7]
    rng = np.random.default_rng(where)
    areas = truth_of(kind, sizes)
    truth = dict(area=areas['first'], formula=areas['first'])
    truth |= {f'difference, {name}': areas[name] - areas['first'] for name in PAIRS}
    ends = []
    while len(ends) < n_samples:
        tables = models_of(rng, n_objects, kind, sizes, prior)
        if tables['first']['label'].nunique() == 2:  # Else no test set
            ends.append(intervals(tables, DRAWS if again else FEW_DRAWS))
    row = dict(kind=kind, sizes=sizes, prior=prior, n_objects=n_objects, samples=n_samples)
    for measure in MEASURES:
        low, high = np.array([e[measure] for e in ends]).T
        held = np.mean((low <= truth[measure]) & (truth[measure] <= high))
        numbers = dict(held=held, width=np.median(high - low), truth=truth[measure])
        row[measure] = {name: round(float(x), 4) for name, x in numbers.items()}
    return row


def main(words=None):
    asked = Words('benchmarks.roc_coverage', __doc__)
    asked.add_argument(
        'n_samples', nargs='?', type=whole_number, default=200, help='samples of each kind'
    )
    n_samples = asked.parse_args(words).n_samples
    about = (
        'held: share of samples whose 95 % interval contains the truth; width: its median; area: of auc_roc_interval; '
        'formula: of roc_interval; difference: of roc_difference, with a model whose noise is its own (alone), and a better one (shared)'
    )
    start = dict(table='roc_coverage', about=about, machine=machine(), **moment())
    start |= dict(samples=n_samples, wanted=WANTED, rows=[], processor_s=0)
    grid = [cell for cell in cells() if cell['n_objects'] <= LARGEST[cell['prior']]]
    fill_all(start, coverage, MEASURES, OFFERED, grid)


if __name__ == '__main__':
    main()
