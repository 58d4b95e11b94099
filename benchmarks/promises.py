"""`python -m benchmarks.promises`: does nature give back what a report promises?

The ZTF alerts that lie beside the repository are dealt by nights, five times. Half of the nights make a version, with a network that is
trained, chosen and judged inside it: that is the promise. The alerts of the other nights, of objects that were not seen either, are what
nature gives. Kept in benchmarks/results/promises.json.
"""

import sys
import tempfile

from benchmarks.harness import keep, machine, moment
from benchmarks.real_bogus import planned, shared
from benchmarks.words import Words

SURVEY_PRIOR = 0.1
WAYS = {'5 epochs': 5, 'as long as it takes': None}

MEANING = """
What the numbers mean
  promised   the 95 % interval of the AUC-PR on the version's own test split, by objects
  drawn      the interval as it was made before: by drawing objects again, and nothing else
  got        the AUC-PR on alerts of other objects and other nights, weighted to the same share of real
  inside     how many of the five promises held. Objects are dealt by chance inside the version, nights are not: an interval by objects promises
             nothing about other nights, so that fewer than five may hold although the interval is right about objects.
  The labels are proxies given by rules, not human truth."""


def dealt(alerts, seed):
    "Alerts of half of the nights, and those of the others that are of other objects"
    import numpy as np

    night = np.floor(alerts['jd'] - 0.2).to_numpy()  # Noon at the site
    nights = np.random.default_rng(seed).permutation(np.unique(night))
    inside = np.isin(night, nights[: len(nights) // 2])
    seen = set(alerts['objectId'][inside])
    return alerts[inside], alerts[~inside & ~alerts['objectId'].isin(seen)]


def got_at(scores, prior):
    "AUC-PR where the share of real is another one"
    from astrid_data.evaluation.intervals import prior_weights
    from astrid_data.evaluation.scores import average_precision

    weight = prior_weights(scores['label'], prior)
    return average_precision(scores['label'], scores['score'], weight)


def one_deal(alerts, seed):
    "A dict a way to train: promised and got at both priors"
    import numpy as np
    import pyarrow as pa

    import astrid_data as ad
    from astrid_data.evaluation.intervals import bootstrap, prior_weights
    from astrid_data.evaluation.scores import average_precision, fpr_at_fnr
    from astrid_data.loading.batches import PatchLoader
    from astrid_data.training.predict import predict

    own, others = dealt(alerts, seed)
    how = dict(patch_size=63, progress=False, probe=False, splits_from=None)
    dataset = planned(tempfile.mkdtemp(), pa.Table.from_pandas(own)).build('own', seed=seed, **how)
    held = planned(tempfile.mkdtemp(), pa.Table.from_pandas(others)).build('held', seed=seed, **how)
    rows = ad.PatchDataset(held, np.arange(len(held)))
    nature = PatchLoader(rows, batch_size=64)
    for way, epochs in WAYS.items():
        train, val, test = ad.RealDataLoader(dataset).loaders(batch_size=32, seed=seed)
        model = ad.SmallCNN(channels=3, seed=seed)
        history = ad.fit(model, train, val, epochs=epochs, seed=seed, show=False)
        promise = ad.evaluate(model, test, choose_on=val, survey_prior=SURVEY_PRIOR)
        scores = predict(model, nature)
        weight = prior_weights(promise.scores['label'], SURVEY_PRIOR)

        def at_prior(label, score, times, weight=weight):
            return average_precision(label, score, times * weight)

        yield dict(
            way=way,
            seed=seed,
            epochs=len(history),
            converged=history.converged,
            n_train=len(train.dataset),
            n_test=promise.n,
            n_got=len(scores),
            prior=promise.prior,
            seen=promise.auc_pr,
            promised=promise.auc_pr_interval,
            drawn=bootstrap(promise.scores, average_precision),
            got=got_at(scores, promise.prior),
            seen_at_prior=promise.auc_pr_at_prior,
            promised_at_prior=promise.auc_pr_at_prior_interval,
            drawn_at_prior=bootstrap(promise.scores, at_prior),
            got_at_prior=got_at(scores, SURVEY_PRIOR),
            fpr_promised=promise.fpr_at_fnr_interval,
            fpr_drawn=bootstrap(promise.scores, lambda *of: fpr_at_fnr(*of)[0]),
            fpr_got=fpr_at_fnr(scores['label'], scores['score'])[0],
        )


def inside(rows, promised, got):
    known = [r for r in rows if r[promised]]
    return sum(r[promised][0] <= r[got] <= r[promised][1] for r in known)


def main(words=None):
    Words('benchmarks.promises', __doc__).parse_args(words)
    import pandas as pd
    import torch

    if not shared.is_file():
        sys.exit(f'the ZTF alerts ({shared.name}) do not lie beside this repository')
    torch.set_num_threads(1)
    alerts = pd.read_parquet(shared)
    rows = []
    for seed in range(5):
        for row in one_deal(alerts, seed):
            rows.append(row)
            print(row, flush=True)
    held = {}
    for way in WAYS:
        own = [r for r in rows if r['way'] == way]
        held[way] = dict(
            mean_got=sum(r['got'] for r in own) / len(own),
            mean_got_at_prior=sum(r['got_at_prior'] for r in own) / len(own),
            inside=inside(own, 'promised', 'got'),
            drawn=inside(own, 'drawn', 'got'),
            drawn_at_prior=inside(own, 'drawn_at_prior', 'got_at_prior'),
            drawn_fpr=inside(own, 'fpr_drawn', 'fpr_got'),
            inside_at_prior=inside(own, 'promised_at_prior', 'got_at_prior'),
            inside_fpr=inside(own, 'fpr_promised', 'fpr_got'),
        )
    print(held, MEANING, sep='\n')
    about = 'promised on test, got on other objects and nights, five deals of nights'
    keep(
        dict(
            table='promises',
            unit='AUC-PR',
            about=about,
            machine=machine(),
            **moment(),
            survey_prior=SURVEY_PRIOR,
            deals=rows,
            held=held,
        )
    )


if __name__ == '__main__':
    main()
