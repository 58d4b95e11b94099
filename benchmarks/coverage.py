"""`python -m benchmarks.coverage`: how often the intervals of a report contain the truth, on samples whose truth is known.

Classifiers of six kinds, one of them with heavy tails and one whose scores are rounded so that most are equal; 42 to 1,000 objects; one sample an object
or about four that look alike; as many real as bogus, and one in ten. The areas are first taken without drawing objects again, which is quick and can only
make an interval narrower: what is held so is held. Where that is less than 95 %, all is done again with 200 draws (`n_boot`). Kept in benchmarks/results/coverage.json after each cell; what is there of the same commit and as many samples is not done again.
"""

import json
import sys
import time
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.harness import keep, machine, moment, results

OBJECTS = (42, 100, 300, 1000)
WANTED = 0.93
ASKED = 0.02  # Share of real that a survey might have


def normal(rng, n):
    return rng.normal(0, 1, n)


def heavy(rng, n):
    return rng.standard_t(3, n)


# Distance of the classes, share of wrong labels, what the scores scatter by, width of a step
KINDS = {
    'poor': (1, 0, normal, 0),
    'good': (2.5, 0, normal, 0),
    'nearly perfect': (4, 0, normal, 0),
    '5 % mislabelled': (2.5, 0.05, normal, 0),
    'heavy tails': (4, 0, heavy, 0),
    'rounded': (2.5, 0, normal, 1),
}


def sample_of(rng, n, kind, per_object, prior):
    "Scores of objects whose truth is known; samples of one object are alike"
    apart, wrong, scatter, step = KINDS[kind]
    real = rng.random(n) < prior
    looks_real = real ^ (rng.random(n) < wrong)
    size = np.ones(n, int) if per_object == 1 else rng.geometric(1 / per_object, n)
    alike = 0.0 if per_object == 1 else 0.8
    group = np.repeat(np.arange(n), size)
    score = np.sqrt(alike) * scatter(rng, n)[group]
    score += np.sqrt(1 - alike) * scatter(rng, len(group)) + apart * looks_real[group]
    if step:
        score = step * np.round(score / step)
    return pd.DataFrame(dict(label=real[group].astype(int), score=score, group=group))


def truth_of(kind, per_object, prior):
    "What half a million objects say"
    from astrid_data.evaluation.intervals import prior_weights
    from astrid_data.evaluation.scores import average_precision, fnr_at_fpr, fpr_at_fnr

    scores = sample_of(np.random.default_rng(0), 500_000, kind, per_object, prior)
    label, score = scores['label'].to_numpy(), scores['score'].to_numpy()
    return dict(
        area=average_precision(label, score),
        area_at_prior=average_precision(label, score, prior_weights(label, ASKED)),
        fpr=fpr_at_fnr(label, score)[0],
        fnr=fnr_at_fpr(label, score)[0],
    )


def intervals(scores, n_boot):
    from astrid_data.evaluation.intervals import area_interval, fnr_interval, fpr_interval

    return dict(
        area=area_interval(scores, None, n_boot),
        area_at_prior=area_interval(scores, ASKED, n_boot),
        fpr=fpr_interval(scores),
        fnr=fnr_interval(scores),
    )


def deciding(scores):
    from astrid_data.evaluation.intervals import deciding_objects

    priors = dict(area=None, area_at_prior=ASKED)
    return {f'decide_{name}': deciding_objects(scores, prior) for name, prior in priors.items()}


def coverage(kind, per_object, prior, n_objects, n_samples, n_boot=0):
    "A row: per measure the share of samples whose interval has the truth, and its median width"
    truth = truth_of(kind, per_object, prior)
    rng = np.random.default_rng(
        [n_objects, per_object, round(100 * prior), list(KINDS).index(kind)]
    )
    held, width, untold, decide = [], [], [], []
    while len(held) < n_samples:
        scores = sample_of(rng, n_objects, kind, per_object, prior)
        if scores['label'].nunique() < 2:
            continue  # No test set
        ends = intervals(scores, n_boot)
        held.append({name: ends[name][0] <= truth[name] <= ends[name][1] for name in truth})
        width.append({name: high - low for name, (low, high) in ends.items()})
        decide.append(deciding(scores))
        untold.append({f'untold_{name}': ends[name][1] == 1 for name in ('fpr', 'fnr')})
    where = dict(kind=kind, per_object=per_object, prior=prior, n_objects=n_objects, n_boot=n_boot)
    shares = {name: round(x, 4) for name, x in pd.DataFrame(held).mean().items()}
    widths = {f'width_{name}': round(x, 4) for name, x in pd.DataFrame(width).median().items()}
    shares |= {name: round(x, 4) for name, x in pd.DataFrame(untold).mean().items()}
    decided_by = {name: round(x, 1) for name, x in pd.DataFrame(decide).median().items()}
    return where | shares | widths | decided_by


def begun(start):
    "What was kept of the same measurement, if it was stopped"
    path = results / f'{start["table"]}.json'
    kept = json.loads(path.read_text()) if path.exists() else {}
    commits = [x.get('commit', '').removesuffix('-dirty') for x in (kept, start)]  # Rows are edits
    same = commits[0] == commits[1] and kept['samples'] == start['samples']
    return kept if same else start


def cell(*where, n_samples):
    "A row; drawn again where that may help"
    row = coverage(*where, n_samples)
    if min(row['area'], row['area_at_prior']) < 0.95:
        row = coverage(*where, n_samples, n_boot=200)
    return row


def main(n_samples):
    about = (
        'share of samples whose 95 % interval contains the truth; untold: with an upper end of 1; '
        'decide: objects that decide an area (median)'
    )
    start = dict(table='coverage', about=about, machine=machine(), **moment())
    start |= dict(samples=n_samples, wanted=WANTED, asked_prior=ASKED, rows=[], processor_s=0)
    result = begun(start)
    cells = list(product(KINDS, (1, 4), (0.5, 0.1), OBJECTS))
    for where in cells[len(result['rows']) :]:
        began = time.process_time()
        row = cell(*where, n_samples=n_samples)
        result['rows'].append(row)
        result['processor_s'] += round(time.process_time() - began)
        keep(result)
        print(list(row.values())[:9], flush=True)
    names = ('area', 'area_at_prior', 'fpr', 'fnr')
    result['least'] = {name: min(row[name] for row in result['rows']) for name in names}
    print(result['least'])
    keep(result)


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
