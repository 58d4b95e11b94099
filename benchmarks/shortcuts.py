"""`python -m benchmarks.shortcuts`: shortcuts planted at known strength, and what the probe says of them. Kept in benchmarks/results/shortcuts.json.

A set has sixty files of twenty nights, 64 CCD quadrants and positions on detector and sky. One fact at a time is made to tell the label: real and bogus samples
are drawn from one pool with opposite leanings towards it, so that the fact alone has the AUC that is asked for. All others tell nothing, except by what they share with it
(seeing and airmass are those of a file). Named is a warning whose first cause is the planted fact; misnamed, one with another; missed, none.
Facts that the probe cannot tell apart are named together; `named_alone` counts where there was one name only.
"""

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from benchmarks.harness import keep, machine, moment
from benchmarks.words import Words, whole_number

FILES, NIGHTS = 60, 20
SIZES = (300, 1000, 100)
STRENGTHS = (0.5, 0.55, 0.65, 0.7, 0.8, 0.9)


def pool(rng, n=20_000):
    "Facts of many samples; what a file has all its samples share"
    file = rng.integers(0, FILES, n)
    night = rng.integers(0, NIGHTS, FILES)[file]

    def of_file():
        return rng.normal(size=FILES)[file]

    return pd.DataFrame(
        dict(
            image_uri=[f'{k}.fits' for k in file],
            mjd=60000 + 17 * night + rng.uniform(0.1, 0.4, FILES)[file],
            airmass=of_file(),
            fwhm=of_file(),
            diffmaglim=of_file(),
            image_background=of_file() + rng.normal(0, 0.1, n),
            image_noise=rng.normal(5, 1, n),
            rcid=rng.integers(0, 64, n),
            xpos=rng.uniform(0, 3072, n),
            ypos=rng.uniform(0, 3080, n),
            ra=rng.uniform(0, 360, n),
            dec=rng.uniform(-30, 80, n),
            band=rng.choice(['g', 'r'], n),
        )
    )


# Column -> what it is, and which samples are likelier real
PLANTS = dict(
    rcid=('CCD', lambda t, rng: rng.permutation(np.arange(64) % 2)[t['rcid']]),
    fwhm=('seeing', lambda t, rng: t['fwhm']),
    airmass=('airmass', lambda t, rng: t['airmass']),
    xpos=('detector x', lambda t, rng: abs(t['xpos'] - 1536) > 768),
    ra=('RA', lambda t, rng: t['ra']),
    mjd=('one middle month', lambda t, rng: abs(t['mjd'] - 60160) < 35),
    image_uri=(
        'sixty files',
        lambda t, rng: rng.normal(size=FILES)[pd.factorize(t['image_uri'])[0]],
    ),
)


def leaning(lean, push):
    "Chance of each sample to be drawn by one label"
    weight = np.exp(push * (lean - lean.mean()) / lean.std())
    return weight / weight.sum()


def auc_of(lean, push):
    "Chance that a real sample leans more than a bogus one"
    real = pd.Series(leaning(lean, push)).groupby(lean).sum().to_numpy()
    bogus = pd.Series(leaning(lean, -push)).groupby(lean).sum().to_numpy()
    return float(real @ (np.cumsum(bogus) - bogus / 2))


def planted(column, auc, n, seed):
    "A set in which one fact alone has this AUC"
    rng = np.random.default_rng([seed, n, round(100 * auc), list(PLANTS).index(column)])
    facts = pool(rng)
    lean = np.asarray(PLANTS[column][1](facts, rng), 'f8')
    push = brentq(lambda push: auc_of(lean, push) - auc, -1e-9, 30) if auc > 0.5 else 0.0
    real = rng.choice(len(facts), n // 2, replace=False, p=leaning(lean, push))
    bogus = rng.choice(len(facts), n - n // 2, replace=False, p=leaning(lean, -push))
    rows = rng.permutation(np.concatenate([real, bogus]))
    return facts.iloc[rows].assign(label=np.isin(rows, real).astype(int)).reset_index(drop=True)


def told(column, auc, n, seed):
    "What the probe makes of one set: 'named', 'misnamed' or 'missed', and what it would see"
    from astrid_data.quality.shortcuts import check_shortcuts, probe_shortcuts

    samples = planted(column, auc, n, seed)
    probe = probe_shortcuts(samples)
    if not check_shortcuts(samples, probe):
        return 'missed', probe
    first = probe['causes'][0]['names'] if probe['causes'] else []
    return ('named' if column in first else 'misnamed'), probe


def count(n, auc, column, seeds):
    "One row of the table"
    answers, alone, instead = [], 0, []
    for seed in range(seeds):
        answer, probe = told(column, auc, n, seed)
        answers.append(answer)
        first = probe['causes'][0]['names'] if probe['causes'] else ['no single one']
        alone += answer == 'named' and len(first) == 1
        if answer == 'misnamed':
            instead.append(first[0])
    counts = {answer: answers.count(answer) for answer in ('named', 'missed', 'misnamed')}
    stated = dict(sees=probe['sees'], sees_names=probe['sees_names'])
    where = dict(fact=PLANTS[column][0], column=column, n=n, auc=auc)
    return where | counts | dict(named_alone=alone, instead=instead) | stated


def main(words=None):
    asked = Words('benchmarks.shortcuts', __doc__)
    asked.add_argument(
        'seeds',
        nargs='?',
        type=whole_number,
        default=10,
        help='seeds; fewer than the default are not kept',
    )
    seeds = asked.parse_args(words).seeds
    about = 'planted shortcuts by fact, samples and strength; 0.5 is a clean set'
    result = dict(table='shortcuts', about=about, machine=machine(), **moment(), seeds=seeds)
    result['rows'] = []
    for n in SIZES:
        for column in PLANTS:
            rows = [count(n, auc, column, seeds) for auc in STRENGTHS]
            result['rows'] += rows
            print(n, column, [(r['auc'], r['named'], r['missed'], r['misnamed']) for r in rows])
        if seeds >= 10:
            keep(result)


if __name__ == '__main__':
    main()
