"""`python -m benchmarks.real_bogus`: real or bogus on the ZTF alerts that lie beside the repository, in three ways, over five seeds; kept in benchmarks/results.

Each seed deals the objects anew, trains a new network, and judges it on its own test split. The naive way is the one that published
scores of 1.000 rest on: every alert turned eight ways *first*, then images dealt out one by one.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.harness import keep, machine, moment
from benchmarks.words import Words

shared = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'alerts' / 'ztf_dev.parquet'
EPOCHS = 16

MEANING = """
What the numbers mean
  AUC-PR is the mean share of truly real among the found, over all depths of finding. A coin has the prior, the share of real samples, not 0.
  cnn        a SmallCNN of template, science and difference, on objects it has never seen. This is the number to quote.
  logistic   a logistic regression on six numbers a stamp and channel, same splits. What the network adds is the difference to this.
  naive      the same network and as many steps, but each alert was turned eight ways before the images were dealt out: most of what it is
             judged on it has seen in training, turned. It measures memory; the difference to cnn is not skill.
  shortcut   AUC-ROC, ± its standard error, of a probe that is given date, sky level, noise, band and field, and never the source, over all alerts.
             A set without shortcuts has 0.5. It does not say that the network uses them; it says that a score on this set alone cannot tell whether it does.
  A difference smaller than its own ± has not been shown: 289 alerts are too few to rank two good ways.
  ±          95 % of the mean over seeds (Student's t). The seeds share one pool of alerts, so it says how much the draw of the split and the
             start of the network matter, not how another survey would do.
  The labels are proxies (catalogues of variables, known asteroids, agreement of other scores), not human truth: where other classifiers
  agreed, a score here partly measures agreement with them."""


def planned(home, alerts=shared):
    "The question, asked of a fresh archive of some alerts"
    import astrid_data as ad

    archive = ad.open_archive(home)
    archive.add_alerts(alerts, show=False)
    params = ad.TrainingDataCollectionParams(
        survey_ids=['ztf'],
        confidence_threshold=0,
        channels=('template', 'science', 'difference'),
        negatives={'rejected': 10},
    )
    return ad.TrainingDataCollector(archive).plan(params, progress=False)


def network(train, val, seed, epochs):
    import astrid_data as ad

    model = ad.SmallCNN(channels=3, seed=seed)
    ad.fit(model, train, val, epochs=epochs, seed=seed, show=False)
    return model


def naive(dataset, seed, epochs):
    "AUC-PR of images dealt out one by one, after turning"
    import numpy as np
    import torch

    import astrid_data as ad
    from astrid_data.loading.augment import d4

    b = ad.PatchDataset(dataset, 'all').read(np.arange(len(dataset)))
    turned = [
        dict(image=d4(x, k), label=y, index=i)
        for x, y, i in zip(b['image'], b['label'], b['index'])
        for k in range(8)
    ]
    order = np.random.default_rng(seed).permutation(len(turned))
    cut = np.cumsum([int(0.7 * len(turned)), int(0.15 * len(turned))])
    batches = [
        [
            {k: torch.stack([turned[j][k] for j in part[i : i + 32]]) for k in turned[0]}
            for i in range(0, len(part), 32)
        ]
        for part in np.split(order, cut)
    ]
    model = network(batches[0], batches[1], seed, max(1, epochs // 8))
    return ad.evaluate(model, batches[2], n_boot=1).auc_pr


def compare(plan, seeds=range(5), epochs=EPOCHS):
    "One dict a seed: prior, and AUC-PR of the three ways, the first two with their intervals by objects"
    import astrid_data as ad
    from astrid_data.training.baseline import evaluate_baseline

    for seed in seeds:
        dataset = plan.build(
            'ztf-real-bogus',
            patch_size=63,
            progress=False,
            probe=False,
            seed=seed,
            splits_from=None,
        )
        train, val, test = ad.RealDataLoader(dataset).loaders(batch_size=32, seed=seed)
        cnn, plain = (
            ad.evaluate(network(train, val, seed, epochs), test, choose_on=val),
            evaluate_baseline(train, test),
        )
        yield dict(
            seed=seed,
            n=cnn.n,
            objects=cnn.n_objects,
            prior=cnn.prior,
            cnn=cnn.auc_pr,
            cnn_interval=cnn.auc_pr_interval,
            fpr=cnn.fpr_at_fnr,
            logistic=plain.auc_pr,
            logistic_interval=plain.auc_pr_interval,
            naive=naive(dataset, seed, epochs),
        )


def shortcut(plan):
    "How well date, sky and camera alone tell the label, and the month that most alerts are from"
    import pandas as pd

    from astrid_data.quality.shortcuts import probe_shortcuts

    dataset = plan.build(
        'ztf-real-bogus', patch_size=63, progress=False, probe=False, seed=0, splits_from=None
    )
    s = dataset.samples
    months, probe = (
        (pd.Timestamp('1858-11-17') + pd.to_timedelta(s['mjd'], 'D')).dt.strftime('%Y-%m'),
        probe_shortcuts(s, dataset.valid()),
    )
    month, n = months.value_counts().index[0], len(s)
    by = {
        name: int(((months == month) & (s['label'] == k)).sum())
        for name, k in (('real', 1), ('bogus', 0))
    }
    return dict(probe, n=n, real=int(s['label'].sum()), month=dict(month=month, **by))


def mean_and_error(values):
    "Mean, and half the width of its 95 % interval"
    import numpy as np
    from scipy.stats import t

    return float(np.mean(values)), float(
        t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    )


def main(words=None):
    Words('benchmarks.real_bogus', __doc__).parse_args(words)
    if not shared.is_file():
        sys.exit(
            f'the ZTF alerts ({shared.parent.name}/{shared.name}) do not lie beside this repository: nothing was measured'
        )
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        rows, plan = [], planned(home)
        told = shortcut(plan)
        for r in compare(plan):
            rows.append(r)
            print(
                f'seed {r["seed"]}: {r["n"]} test samples of {r["objects"]} objects, prior {r["prior"]:.3f}: cnn {r["cnn"]:.3f} ({r["cnn_interval"][0]:.3f} to {r["cnn_interval"][1]:.3f} by objects), '
                f'logistic {r["logistic"]:.3f} ({r["logistic_interval"][0]:.3f} to {r["logistic_interval"][1]:.3f}), naive {r["naive"]:.3f}',
                flush=True,
            )
    of = dict(
        {k: [r[k] for r in rows] for k in ('cnn', 'logistic', 'naive', 'prior')},
        cnn_above_logistic=[r['cnn'] - r['logistic'] for r in rows],
        naive_above_cnn=[r['naive'] - r['cnn'] for r in rows],
    )
    means = {k: dict(zip(('mean', 'error'), mean_and_error(v))) for k, v in of.items()}
    for k, m in means.items():
        print(f'{k.replace("_", " "):20}{m["mean"]:.3f} ± {m["error"]:.3f}')
    month = told['month']
    print(
        f'{"shortcut":20}{told["auc"]:.3f} ± {told["error"]:.3f}; of {told["real"]} real alerts {month["real"]}, and of {told["n"] - told["real"]} bogus {month["bogus"]}, are from {month["month"]}',
        MEANING,
        sep='\n',
    )
    keep(
        dict(
            table='real_bogus',
            unit='AUC-PR on test',
            about='real or bogus on ZTF alerts, by seeds; means with half of their 95 % intervals',
            machine=machine(),
            **moment(),
            epochs=EPOCHS,
            seeds=rows,
            means=means,
            shortcut=told,
        )
    )


if __name__ == '__main__':
    main()
