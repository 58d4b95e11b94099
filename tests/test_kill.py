"""A build that is killed at any moment leaves the old state, and the next run goes on and reaches the same bytes; a store that fails costs the samples it held.

`ASTRID_DATA_SLOW=1 pytest tests/test_kill.py` kills 20,000 samples at ten moments as well, each in a home of its own; the quick test kills one build three times over.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from oracle import Oracle
from sqlalchemy import func, select

import astrid_data as ad
from astrid_data.datasets.dataset import Dataset
from astrid_data.datasets.staging import image_order
from astrid_data.registry.tables import SampleRow, TrainingDataset, TrainingSample, VersionRow

pytestmark = pytest.mark.filterwarnings('ignore')
FORK = multiprocessing.get_context('fork')


def fields(folder, n, per, side):
    "Noise with `per` places a field, a tenth of them good; each field a degree from the next"
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for k in range(n):
        w = WCS(naxis=2)
        w.wcs.ctype, w.wcs.crval, w.wcs.crpix, w.wcs.cdelt = (
            ['RA---TAN', 'DEC--TAN'],
            [10 + k, 5],
            [side / 2] * 2,
            [-1 / 3600, 1 / 3600],
        )
        h = w.to_header()
        h.update({'MJD-AVG': 59000.25 + k, 'EXPTIME': 30.0, 'FILTER': 'r', 'TELESCOP': 'Pretend'})
        fits.PrimaryHDU(rng.normal(100, 5, (side, side)).astype('f4'), h).writeto(
            folder / f'field{k:02d}.fits'
        )
        ra, dec = w.all_pix2world(*rng.uniform(0, side - 1, (2, per)), 0)
        rows.append(pd.DataFrame(dict(ra=ra, dec=dec, label='star', good=rng.random(per) < 0.1)))
    return pd.concat(rows, ignore_index=True)


def archive_at(home):
    return ad.open_archive(f'sqlite:///{home / "registry.db"}', home=home)


def plan_of(archive, most):
    return ad.TrainingDataCollector(archive).plan(
        ad.TrainingDataCollectionParams(
            confidence_threshold=0.0, max_samples=most, negatives={'rejected': 9.0}
        ),
        progress=False,
    )


def build(home, most):
    plan = plan_of(archive_at(home), most)
    yield len(plan.samples)
    yield plan.build('sky', patch_size=9, progress=False, probe=False)


def worker(home, most, log, started):
    "In a process of its own: plan, say so, build; `log` tells which images were opened"
    fd = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    sys.addaudithook(
        lambda event, args: (
            event == 'open'
            and str(args[0]).endswith('.fits')
            and os.write(fd, str(args[0]).encode() + b'\n')
        )
    )
    steps = build(home, most)
    next(steps)
    started.set()
    next(steps)
    os._exit(0)


def run(home, most, log, kill_after=None, least=0):
    "Seconds that a build took, or None if it was killed before its end; not before `least` images were opened"
    started = FORK.Event()
    p = FORK.Process(target=worker, args=(home, most, log, started))
    p.start()
    assert started.wait(300)
    begin = time.monotonic()
    p.join(kill_after or 600)
    while p.is_alive() and len(opened(log)) < least:
        p.join(0.01)
    if p.is_alive():
        os.kill(p.pid, signal.SIGKILL)
    p.join()
    assert p.exitcode in (0, -signal.SIGKILL)
    return None if p.exitcode else time.monotonic() - begin


def opened(log):
    return set(log.read_text().split()) if log.exists() else set()


def left_to_cut(home, most):
    "The images that a killed build's journal does not know as done: of the rows, in the order of cutting, behind those it counts"
    if (home / 'datasets' / 'sky' / 'v2').exists():
        return set()
    lines = [
        line
        for j in home.glob('datasets/sky/.building-*/journal.jsonl')
        for line in j.read_text().splitlines(keepends=True)
        if line.endswith('\n')
    ]
    rows = plan_of(archive := archive_at(home), most).samples
    archive.registry.engine.dispose()
    return set(
        rows['image_uri']
        .iloc[image_order(rows)[sum(json.loads(line)['of'] for line in lines) :]]
        .str.removeprefix('file://')
    )


def check_old_state(home, old):
    "Only the old version is known, whole; nothing of another in the database; a folder that has its final name is whole"
    archive = archive_at(home)
    assert ad.list_datasets(archive)['address'].tolist() == ['sky@v1']
    ds = ad.open_dataset(archive, 'sky')
    assert (ds.version, ds.content_hash) == (1, old.content_hash) and ds.verify()
    with archive.session() as s:
        counts = [
            s.scalar(select(func.count()).select_from(t))
            for t in (TrainingSample, SampleRow, TrainingDataset, VersionRow)
        ]
    assert counts == [len(old), len(old), 1, 1]
    for folder in archive.datasets_dir.glob('sky/v*'):
        Dataset(folder).verify()
    archive.registry.engine.dispose()


def check_reached(home, whole, old):
    "The version that an uninterrupted build makes, byte for byte, and nothing left over"
    archive = archive_at(home)
    assert sorted(ad.list_datasets(archive)['address']) == ['sky@v1', 'sky@v2']
    ds = ad.open_dataset(archive, 'sky@v2')
    assert (
        ds.verify()
        and ds.content_hash == whole.content_hash
        and ds.manifest['shards'] == whole.manifest['shards']
    )
    assert ad.open_dataset(archive, 'sky@v1').content_hash == old.content_hash
    assert sorted(p.name for p in ds.folder.parent.iterdir() if p.name != '.lock') == ['v1', 'v2']
    with archive.session() as s:
        assert s.scalar(select(func.count()).select_from(TrainingSample)) == len(old) + len(ds)
    archive.registry.engine.dispose()


slow = pytest.mark.skipif(
    not os.environ.get('ASTRID_DATA_SLOW'), reason='takes minutes: set ASTRID_DATA_SLOW=1'
)


@pytest.mark.parametrize(
    'images, per, kills, afresh', [(16, 150, 3, False), pytest.param(40, 500, 10, True, marks=slow)]
)
def test_killed_at_random_moments(tmp_path, images, per, kills, afresh):
    places, rng, most = (
        fields(tmp_path / 'fits', images, per, 40 + 3 * int(per**0.5)),
        np.random.default_rng(20260601),
        images * per,
    )
    origin = tmp_path / 'origin'
    archive = archive_at(origin)
    archive.add_fits(
        sorted((tmp_path / 'fits').glob('*.fits')), survey='toy', detect=False, show=False
    )
    archive.add_catalogue(places, 'truth', class_name='label', is_real='good')
    *_, old = build(origin, images * 2)
    archive.registry.engine.dispose()

    def home(k):
        return Path(shutil.copytree(origin, tmp_path / k))

    seconds = run(home('whole'), most, tmp_path / 'whole.log')
    whole, done, k, here = ad.open_dataset(archive_at(tmp_path / 'whole'), 'sky@v2'), 0, 0, None
    assert len(opened(tmp_path / 'whole.log')) == images and len(whole) > 0.95 * most
    while done < kills:
        k += 1
        assert k < 4 * kills, 'builds end before they are killed'
        if afresh or here is None:
            here = home(f'killed{k}')
        last, first, again = (
            afresh or done == kills - 1,
            tmp_path / f'{k}.log',
            tmp_path / f'{k}-again.log',
        )
        moment = (
            rng.uniform(0.02, 0.95 if afresh and done % 2 else 0.25) * seconds
        )  # While it cuts, and while it judges, freezes and registers
        if (
            run(here, most, first, moment, 0 if afresh or not last else images // 2) is not None
        ):  # The machine was faster than we thought
            seconds, here = 0.8 * seconds, None
            continue
        done += 1
        if len(ad.list_datasets(archive_at(here))) == 1:
            check_old_state(here, old)  # Else it had all been done
        print(
            f'killed after {moment:.1f} s of {seconds:.1f}, {len(opened(first))} of {images} images opened',
            end='; ' if last else '\n',
        )
        if not last:
            continue
        left = left_to_cut(here, most)
        run(here, most, again)
        print(f'the rerun opened {len(opened(again))}, the journal left {len(left)}')
        check_reached(here, whole, old)
        assert opened(again) == left  # What was cut is not cut again


# A bucket that goes wrong between the plan and the pixels ------------------------------------------------------------


def harm(s3, key, how):
    "Make an object missing, cut it short, or put something else in its place"
    c = s3.client()
    if how == 'gone':
        return c.delete_object(Bucket='test', Key=key)
    body = c.get_object(Bucket='test', Key=key)['Body'].read()
    c.put_object(
        Bucket='test',
        Key=key,
        Body={
            'cut': body[: len(body) // 2],
            'empty': b'',
            'a web page': b'<html>Service Unavailable</html>',
        }[how],
    )


HARMS = {
    'whole': None,
    'gone': 'missing_file',
    'cut': 'truncated',
    'empty': 'truncated',
    'a web page': 'unreadable',
    'forbidden': 'denied',
    'whole too': None,
}


def test_a_bucket_that_goes_wrong_costs_its_own_samples(s3, tmp_path, monkeypatch):
    "Missing, forbidden and broken objects: kept and lost add up, each loss has its true reason, and what is kept are the files' own pixels"

    def as_user(key, secret):
        return [
            monkeypatch.setenv(k, v)
            for k, v in dict(
                AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret, AWS_ENDPOINT_URL_S3=s3.endpoint
            ).items()
        ]

    places = fields(tmp_path / 'fits', len(HARMS), 25, 60).assign(
        good=lambda t: np.arange(len(t)) % 2 == 0
    )
    files = dict(zip(HARMS, sorted((tmp_path / 'fits').glob('*.fits'))))
    uris = {
        k: f's3://test/{"closed" if k == "forbidden" else "open"}/harm/{p.name}'
        for k, p in files.items()
    }
    for k, p in files.items():
        s3.client().upload_file(str(p), 'test', uris[k].removeprefix('s3://test/'))
    as_user(s3.key, s3.secret)
    owner = ad.open_archive(
        f'sqlite:///{tmp_path / "registry.db"}',
        storage='s3://test/open/store',
        home=tmp_path / 'owner',
    )
    assert not len(
        owner.add_fits(list(uris.values()), survey='toy', detect=False, show=False).ledger
    )
    owner.add_catalogue(places, 'truth', class_name='label', is_real='good')
    as_user(s3.guest_key, s3.guest_secret)
    guest = ad.open_archive(
        f'sqlite:///{tmp_path / "registry.db"}',
        storage='s3://test/open/store',
        home=tmp_path / 'guest',
    )  # With a cache of its own
    plan = ad.TrainingDataCollector(guest).plan(
        ad.TrainingDataCollectionParams(
            confidence_threshold=0.0, negatives={'rejected': 1.0}, quality_score_threshold=None
        ),
        progress=False,
    )  # Needs no pixels
    other = ad.open_archive(
        f'sqlite:///{tmp_path / "registry.db"}',
        storage='s3://test/open/store',
        home=tmp_path / 'other',
    )
    drawn = ad.TrainingDataCollector(other).plan(
        ad.TrainingDataCollectionParams(confidence_threshold=0.0, negatives={'random_sky': 1.0}),
        progress=False,
    )  # This one looks into every image
    assert set(drawn.samples.query("kind == 'random_sky'")['image_uri']) == set(uris.values()) - {
        uris['forbidden']
    }
    for how in HARMS:
        if how not in ('whole', 'whole too', 'forbidden'):
            harm(s3, uris[how].removeprefix('s3://test/'), how)
    ds = plan.build('harmed', patch_size=9, progress=False, probe=False)
    assert (
        plan.requested
        == len(ds) + int(ds.ledger['n'].sum())
        == ds.manifest['n_samples'] + sum(ds.manifest['dropped'].values())
    )
    asked, kept = plan.samples['image_uri'].value_counts(), ds.samples['image_uri'].value_counts()
    lost = ds.ledger[ds.ledger['uri'].isin(uris.values())]
    for how, reason in HARMS.items():
        here = lost[lost['uri'] == uris[how]]
        assert asked[uris[how]] == kept.get(uris[how], 0) + here['n'].sum() > 5, how
        if reason:
            assert set(here['reason']) == {reason} and uris[how] not in kept, (
                how,
                here[['reason', 'detail']].values[:1],
            )
        else:
            assert kept[uris[how]] > 10 and set(here['reason']) <= {'too_little_valid'}, how
    truth = {uris[k]: Oracle(files[k]) for k in ('whole', 'whole too')}
    for i, r in ds.samples.iterrows():
        np.testing.assert_array_equal(
            ds.patches()[i][0], truth[r['image_uri']].around(r['ra'], r['dec'], 9)
        )
