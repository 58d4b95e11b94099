"""`python -m benchmarks.splits [registries small_cases cost] [--million]`: a thousand small registries that are hard to split, and how near ours come to the best.

Each registry is drawn anew: few groups, a giant, groups of one class, a rare class, nights or surveys held together, a field where
patches share sky, samples without a position, and a second version of each that has grown. Looked for are leaks, empty splits that
nobody refused, fractions that are far from those asked for, and old samples that moved. Three hundred more are asked for extreme shares,
such as 98, 1 and 1 %. On small ones every assignment is tried, by
code that knows nothing of the library's. Whoever names some of the parts keeps the others of the same commit. Then large ones, in processor seconds and memory, each in a process of its own; a million rows
only with `--million`. All but these take under five minutes on two cores. Kept in benchmarks/results/splits.json.
"""

import itertools
import json
import logging
import multiprocessing
import resource
import time

import numpy as np
import pandas as pd

from benchmarks.words import Words, one_of

SPLITS = ('train', 'val', 'test')
FRACTIONS = [
    (0.7, 0.15, 0.15),
    (0.8, 0.2, 0.0),
    (0.6, 0.2, 0.2),
    (0.5, 0.25, 0.25),
    (0.8, 0.0, 0.2),
]
EXTREMES = [
    (0.98, 0.01, 0.01),
    (0.01, 0.01, 0.98),
    (0.01, 0.98, 0.01),
    (0.99, 0.01, 0.0),
    (0.998, 0.001, 0.001),
    (0.34, 0.33, 0.33),
]
N_REGISTRIES, N_EXTREME = 1000, 300
KINDS = ('few', 'giant', 'pure', 'rare', 'nights', 'held', 'field', 'lost', 'singles')

MEANING = """
What the numbers mean
  refused       registries that cannot fill every split that has a share, and say so
  needless      refusals although there were enough groups and nothing was lost to the buffer
  silent        empty splits with a share that nobody refused, before and after growth
  leaks         objects in two splits, and pairs of patches of two splits that share sky, before and after growth
  moved         old samples that are elsewhere after growth
  lacking       splits without a label that as many groups have as there are splits, one of them no larger than the split is to be
  passed        registries with samples of unknown position whose audit passes
  off           largest difference of a split's share of the kept samples from the one asked for: median, and that of 95 % of registries
  split_s       processor seconds of `split_samples`; audit_s of `audit_splits` on its splits, audit_leaky_s on splits by chance; peak_mb of the process
  optimal       small cases in which no other assignment is better; behind: what is lost to the best in the others (chi-square of the shares)"""


def group_sizes(kind, rng):
    "Samples of each group"
    if kind == 'giant':
        return np.append(int(rng.integers(60, 300)), rng.integers(1, 4, int(rng.integers(3, 30))))
    if kind in ('rare', 'singles'):
        return np.ones(int(rng.integers(3, 400)), int)
    if kind == 'field':
        return np.ones(int(rng.integers(3, 80)), int)
    return rng.integers(1, int(rng.integers(2, 60)), int(rng.integers(1, 12)))


def labels_of(kind, group, rng):
    "1 for real and 0 for bogus"
    n_groups = group.max() + 1
    if kind in ('pure', 'few', 'giant'):
        return rng.integers(0, 2, n_groups)[group]
    if kind == 'rare':
        rare = rng.permutation(n_groups)[: int(rng.integers(1, 13))]
        return np.isin(group, rare).astype(int)
    return rng.integers(0, 2, len(group))


def registry(seed):
    "Samples of a small registry, and how they are to be split"
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    sizes = group_sizes(kind, rng)
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group)
    wide = 0.05 if kind == 'field' else 60.0
    ra, dec = rng.uniform(0, wide, (2, len(sizes)))
    samples = pd.DataFrame(
        dict(
            sample_key=[f'{k:06x}' for k in rng.permutation(n)],
            ra=ra[group] + rng.normal(0, 2e-6, n),
            dec=dec[group] + rng.normal(0, 2e-6, n),
            object_id=[f'o{k}' for k in group],
            label=labels_of(kind, group, rng),
            survey='ztf',
            half_width_arcsec=15.0,
            pixel_scale_arcsec=0.5,
            pixel_pa_deg=0.0,
            mjd=59000.3 + rng.integers(0, 6, len(sizes))[group],
            month=0,
        )
    )
    samples['month'] = np.floor(samples['mjd']).astype(int) % 3
    fractions = EXTREMES if N_REGISTRIES <= seed < 2 * N_REGISTRIES else FRACTIONS
    how = dict(fractions=fractions[rng.integers(len(fractions))], seed=int(rng.integers(1000)))
    if kind == 'nights':
        how['by'] = 'night'
    if kind == 'held':
        month = int(samples['month'][rng.integers(n)])
        how['hold'] = dict(test=dict(month=month))
    if kind == 'lost':
        none = rng.random(n) < rng.choice([0.1, 1.0])
        samples.loc[none, ['ra', 'dec']] = np.nan
    return samples, group, how


def leaks(samples, split, half=15.0 / 3600):
    "Objects in two splits, and pairs of patches of two splits that share sky"
    used = np.isin(split, SPLITS)
    table = pd.DataFrame(dict(name=samples['object_id'], split=split))[used]
    shared = int((table.groupby('name')['split'].nunique() > 1).sum())
    names, ra, dec = split[used], samples['ra'].to_numpy()[used], samples['dec'].to_numpy()[used]
    beside = np.abs(ra[:, None] - ra) * np.cos(np.radians(dec)) < 2 * half
    above = np.abs(dec[:, None] - dec) < 2 * half
    return shared + int((beside & above & (names[:, None] != names)).sum())


def wanted_of(how):
    "Splits that were asked to have samples"
    held = how.get('hold', {})
    return [k for k, share in zip(SPLITS, how['fractions']) if share > 0 or k in held]


def how_far(split, how):
    "Largest difference of a share of the kept samples from the one asked for, held ones apart"
    free = [k for k, name in enumerate(SPLITS) if name not in how.get('hold', {})]
    counts = np.array([(split == SPLITS[k]).sum() for k in free])
    asked = np.take(how['fractions'], free)
    return float(np.abs(counts / counts.sum() - asked / asked.sum()).max())


def one_registry(seed):
    "What came of one registry: a dict"
    from astrid_data.splits.assign import split_samples
    from astrid_data.splits.audit import audit_splits
    from astrid_data.splits.report import EmptySplit

    samples, group, how = registry(seed)
    kind = KINDS[seed % len(KINDS)]
    row = dict(seed=seed, kind=kind, n=len(samples), groups=int(group.max() + 1), refused=False)
    try:
        split = split_samples(samples, **how).split
    except EmptySplit as error:
        independent = error.details['independent']
        given = len(how.get('hold', {}))
        needless = independent + given >= len(wanted_of(how)) and not error.details['buffer']
        return row | dict(refused=True, needless=bool(needless))
    silent = [name for name in wanted_of(how) if name not in set(split)]
    audit = audit_splits(samples.assign(split=split))
    passed_unknown = bool(samples['ra'].isna().any()) and audit.verdict == 'pass'
    row |= dict(leaks=leaks(samples, split), silent=len(silent), verdict=audit.verdict)
    row |= dict(off=how_far(split, how), passed_unknown=passed_unknown)
    row |= dict(missing=int(lacking(samples, split, group, how)))
    return row | growth(samples, split, how, seed)


def lacking(samples, split, group, how):
    "Splits without a label that they could hold, and that as many groups have as there are splits"
    filled = [name for name in wanted_of(how) if name not in how.get('hold', {})]
    if 'by' in how or 'hold' in how:
        return 0
    missing = 0
    for label in (0, 1):
        with_label = np.unique(group[samples['label'] == label])
        if len(with_label) < len(filled):
            continue
        smallest = np.bincount(group)[with_label].min()
        asked = dict(zip(SPLITS, np.array(how['fractions']) * len(samples)))
        here = set(split[samples['label'] == label])
        missing += sum(name not in here and smallest <= asked[name] for name in filled)
    return missing


def growth(samples, split, how, seed):
    "A third as many samples more: old ones that moved, and leaks"
    from astrid_data.splits.assign import split_samples
    from astrid_data.splits.report import EmptySplit

    more, _, _ = registry(seed + 9 * 10_000)  # Of the same kind
    more = more.head(max(1, len(samples) // 3))
    more = more.assign(sample_key=[f'new{k}' for k in range(len(more))])
    near = np.random.default_rng(seed).random(len(more)) < 0.3  # At the places of old ones
    places = samples[['ra', 'dec', 'object_id']].sample(len(more), replace=True, random_state=seed)
    renamed = more['object_id'].where(near, 'n' + more['object_id'])
    more = more.assign(object_id=renamed)
    more.loc[near, ['ra', 'dec', 'object_id']] = places[near].to_numpy()
    more[['ra', 'dec']] = more[['ra', 'dec']].astype('f8')
    both = pd.concat([more, samples], ignore_index=True)
    how = {name: value for name, value in how.items() if name != 'hold'}
    previous = samples.assign(split=split)
    try:
        grown = split_samples(both, previous=previous, **how).split
    except EmptySplit:
        return dict(grown_refused=True)
    moved = int((grown[len(more) :] != split).sum())
    silent = [name for name in wanted_of(how) if name not in set(grown)]
    return dict(moved=moved, grown_silent=len(silent), grown_leaks=leaks(both, grown))


def small_case(seed):
    "Up to eight groups of two classes far apart: counts of each class, shape (groups, 2), and shares"
    rng = np.random.default_rng([seed, 8])
    counts = rng.integers(0, int(rng.integers(2, 40)), (int(rng.integers(3, 9)), 2))
    if rng.random() < 0.5:  # Pure groups
        counts[np.arange(len(counts)), rng.integers(0, 2, len(counts))] = 0
    counts[counts.sum(1) == 0, 0] = 1
    return counts, FRACTIONS[rng.integers(len(FRACTIONS))]


def as_samples(counts):
    "Samples of groups that are far apart"
    groups = np.arange(len(counts)).repeat(counts.sum(1))
    label = np.concatenate([[0] * a + [1] * b for a, b in counts])
    keys = [f'{k:05x}' for k in range(len(label))]
    columns = dict(sample_key=keys, ra=groups * 20.0, dec=0.0, label=label, half_width_arcsec=15.0)
    return pd.DataFrame(columns | dict(object_id=[f'o{k}' for k in groups])), groups


def costs(ways, counts, fractions):
    "Empty splits, classes lacking and chi-square of the shares, of each assignment, shape (m, 3)"
    fractions = np.asarray(fractions)
    wanted = np.flatnonzero(fractions)
    is_in = ways[:, None, :] == np.arange(3)[:, None]
    have = is_in @ counts  # (m, 3, 2)
    requested = fractions[:, None] * counts.sum(0)
    sizes = requested.sum(1)
    empty = (have.sum(2) == 0)[:, wanted].sum(1)
    smallest = [counts.sum(1)[counts[:, c] > 0].min(initial=10**9) for c in (0, 1)]
    fits = np.array(smallest) <= sizes[:, None]
    enough = (counts > 0).sum(0) >= len(wanted)
    gone = (have == 0) & fits
    lacks = (gone & (requested >= 1)).sum((1, 2)) + (gone & enough)[:, wanted].sum((1, 2))
    of_size = ((have.sum(2) - sizes)[:, wanted] ** 2 / sizes[wanted]).sum(1) / sizes.sum()
    root = np.sqrt(counts.sum(0))
    weight = 0.1 * root / root.sum() / np.maximum(counts.sum(0), 1)
    known = np.maximum(requested, 1e-9)[wanted]
    of_class = ((have - requested)[:, wanted] ** 2 / known).sum(1) @ weight
    return np.stack([empty, lacks, of_size + of_class], axis=1)


def gap(seed):
    "How far our assignment of a small case is from the best of all: a dict"
    from astrid_data.splits.assign import split_samples

    counts, fractions = small_case(seed)
    samples, groups = as_samples(counts)
    split = split_samples(samples, fractions=fractions, seed=seed, allow_empty=True).split
    own = np.array([SPLITS.index(split[groups == k][0]) for k in range(len(counts))])
    ways = np.array(list(itertools.product(np.flatnonzero(fractions), repeat=len(counts))))
    every = costs(ways, counts, fractions)
    best = every[np.lexsort(every.T[::-1])[0]]
    ours = costs(own[None], counts, fractions)[0]
    off = [
        np.abs(np.bincount(way, counts.sum(1), 3) / counts.sum() - fractions).max()
        for way in (own, ways[np.lexsort(every.T[::-1])[0]])
    ]
    return dict(
        groups=len(counts),
        splits=int(np.count_nonzero(fractions)),
        empty=int(ours[0] - best[0]),
        lacking=int(ours[1] - best[1]),
        distance=float(ours[2] - best[2]),
        best_distance=float(best[2]),
        off=float(off[0] - off[1]),
    )


def summed(rows):
    "A table of registries: one row per kind, and one of all"
    table = pd.DataFrame(rows)
    table['refused'] = table['refused'].astype(int)
    table['all'] = 'all'
    parts = []
    for by in ('kind', 'all'):
        for name, part in table.groupby(by, sort=False):
            kept = part[part['refused'] == 0]
            parts.append(
                dict(
                    kind=name,
                    registries=len(part),
                    refused=int(part['refused'].sum()),
                    needless=int(part.get('needless', pd.Series(dtype=float)).fillna(0).sum()),
                    silent=int(kept[['silent', 'grown_silent']].sum().sum()),
                    leaks=int(kept[['leaks', 'grown_leaks']].sum().sum()),
                    moved=int(kept['moved'].sum()),
                    lacking=int((kept['missing'] > 0).sum()),
                    passed_unknown=int(kept['passed_unknown'].sum()),
                    off_median=float(kept['off'].median()),
                    off_95=float(kept['off'].quantile(0.95)),
                )
            )
    return parts


def behind(rows):
    "How far small cases are from the best assignment, by the number of splits"
    table = pd.DataFrame(rows)
    table['optimal'] = (table[['empty', 'lacking']] == 0).all(axis=1) & (table['distance'] < 1e-6)
    parts = []
    for n, part in table.groupby('splits'):
        behind = part['distance'][~part['optimal']]
        parts.append(
            dict(
                splits=int(n),
                cases=len(part),
                optimal=float(part['optimal'].mean()),
                more_empty=int((part['empty'] > 0).sum()),
                more_lacking=int((part['lacking'] > 0).sum()),
                behind_median=float(behind.median()) if len(behind) else 0.0,
                behind_largest=float(part['distance'].max()),
                off_more_95=float(part['off'].quantile(0.95)),
            )
        )
    return parts


def sky_of(n, seed=0):
    "Four alerts each of objects all over the sky"
    rng = np.random.default_rng(seed)
    place = np.arange(n) // 4
    ra, sine = rng.uniform(0, 360, n // 4 + 1), rng.uniform(-0.9, 0.9, n // 4 + 1)
    return pd.DataFrame(
        dict(
            sample_key=[f'{k:08x}' for k in range(n)],
            ra=(ra[place] + rng.normal(0, 1e-5, n)) % 360,
            dec=np.degrees(np.arcsin(sine))[place],
            object_id=[f'o{k}' for k in place],
            label=(place % 7 == 0).astype(int),
            survey='ztf',
            half_width_arcsec=31.8,
            pixel_pa_deg=0.0,
        )
    )


def one_place(n, clumps=1, others=2000):
    "Many alerts of one star, or of two whose stamps meet at their edges; and others all over the sky"
    rng = np.random.default_rng(0)
    samples = sky_of(n + others)
    star = np.arange(n) % clumps
    samples.loc[: n - 1, 'ra'] = 150 + (star * 80 + rng.normal(0, 0.1, n)) / 3600
    samples.loc[: n - 1, 'dec'] = rng.normal(0, 0.1, n) / 3600
    samples.loc[: n - 1, 'object_id'] = [f'star {k}' for k in star]
    return samples


SCENES = {
    'all over the sky': sky_of,
    'at one place': one_place,
    'at two places': lambda n: one_place(n, clumps=2),
}


def peak_mb():
    "Most memory that this process ever had, libraries too"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cost(scene, n):
    "Processor seconds of splitting and auditing so many rows, and the most memory; once"
    from astrid_data.splits.assign import split_samples
    from astrid_data.splits.audit import audit_splits

    quiet()
    split_samples(sky_of(400), patch_size=63)  # Imports are no part of it
    samples = SCENES[scene](n)
    row = dict(scene=scene, n=n, before_mb=round(peak_mb()))
    start = time.process_time()
    split = split_samples(samples, patch_size=63).split
    row['split_s'] = round(time.process_time() - start, 2)
    samples = samples.assign(split=split)
    start = time.process_time()
    audit = audit_splits(samples, patch_size=63)
    row['audit_s'] = round(time.process_time() - start, 2)
    mixed = np.random.default_rng(1).choice(SPLITS, len(samples), p=[0.7, 0.15, 0.15])
    if scene != 'all over the sky':
        start = time.process_time()
        audit_splits(samples.assign(split=mixed.astype(object)), patch_size=63)
        row['audit_leaky_s'] = round(time.process_time() - start, 2)
    return row | dict(verdict=audit.verdict, peak_mb=round(peak_mb()))


def costs_of_many(sizes):
    "Each case in a fresh process, one after the other"
    crowds = [(scene, n) for scene in list(SCENES)[1:] for n in (5_000, 20_000)]
    cases = [('all over the sky', n) for n in sizes] + crowds
    with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(cost, cases, chunksize=1)


def quiet():
    "Warnings of a thousand registries are not read"
    logging.disable(logging.WARNING)


def registries():
    "Ordinary and extreme shares"
    with multiprocessing.get_context('spawn').Pool(2, initializer=quiet) as pool:
        rows = pool.map(one_registry, range(N_REGISTRIES + N_EXTREME), chunksize=50)
    return dict(registries=summed(rows[:N_REGISTRIES]), extreme=summed(rows[N_REGISTRIES:]))


def small_cases():
    "Against every assignment"
    with multiprocessing.get_context('spawn').Pool(2, initializer=quiet) as pool:
        return dict(small_cases=behind(pool.map(gap, range(300), chunksize=50)))


def main(words=None):
    from benchmarks.harness import keep, machine, moment, results

    asked = Words('benchmarks.splits', __doc__)
    known = ['registries', 'small_cases', 'cost']
    asked.add_argument(
        'names', nargs='*', type=one_of(*known), metavar='part', help=', '.join(known)
    )
    asked.add_argument('--million', action='store_true', help='the cost of a million samples, too')
    asked = asked.parse_args(words)
    names = asked.names
    sizes = [10_000, 40_000, 100_000, 400_000] + [1_000_000] * asked.million
    parts = dict(
        registries=registries,
        small_cases=small_cases,
        cost=lambda: dict(cost=costs_of_many(sizes)),
    )
    about = 'a thousand small registries, small cases against every assignment, and the cost'
    result = dict(table='splits', about=about, machine=machine(), **moment())
    file = results / 'splits.json'
    kept = json.loads(file.read_text()) if file.exists() else {}
    if names and all(kept.get(k) == result[k] for k in ('commit', 'machine')):
        result = kept | result
    for name in names or parts:
        result |= parts[name]()
        keep(result)
    for part in ('registries', 'extreme', 'small_cases', 'cost'):
        print(pd.DataFrame(result.get(part, [])).to_string(index=False))
    print(MEANING)


if __name__ == '__main__':
    main()
