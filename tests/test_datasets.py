"Versions: the same wherever and however they are built, whole whatever happens, and true to the pixels of the files."

import atexit
import functools
import multiprocessing
import os
import re
import shutil
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from copying import copy_registry, move_addresses
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sqlalchemy import func, select

import astrid_data as ad
from astrid_data.concurrency import Journal
from astrid_data.core import BadInput, Conflict, NotFound, NothingLeft, QualityError
from astrid_data.datasets import build as datasets
from astrid_data.datasets import catalog, publish, source, staging
from astrid_data.datasets.dataset import Dataset, write_dataset
from astrid_data.datasets.diff import table_html
from astrid_data.datasets.report import _head_facts, _training_section, report_html, splits_section
from astrid_data.datasets.shards import ShardedArray, ShardWriter, content_hash
from astrid_data.images import header_cache
from astrid_data.images.opener import ImageOpener
from astrid_data.quality.gates import Gate
from astrid_data.quality.shortcuts import probe_shortcuts
from astrid_data.registry.tables import (
    Detection,
    QualityRow,
    SampleRow,
    TrainingDataset,
    TrainingSample,
    VersionRow,
    add_validation_event,
)

warnings.filterwarnings('ignore', message='.*asked for is')


def write_images(folder, n=4, side=150, seed=0):
    "Fields of stars, a degree apart; north up, one arcsecond a pixel"
    rng, folder = np.random.default_rng(seed), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:side, :side]
    for k in range(n):
        w = WCS(naxis=2)
        w.wcs.ctype, w.wcs.crval, w.wcs.crpix, w.wcs.cdelt = (
            ['RA---TAN', 'DEC--TAN'],
            [40 + k, 5],
            [side / 2, side / 2],
            [-1 / 3600, 1 / 3600],
        )
        sky = rng.normal(100, 5, (side, side))
        grid = np.linspace(8, side - 9, 6)
        for a, b in zip(*(g.ravel() + rng.uniform(-4, 4, 36) for g in np.meshgrid(grid, grid))):
            sky += 900 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 5)
        h = w.to_header()
        h['MJD-AVG'], h['EXPTIME'], h['FILTER'], h['BUNIT'] = 59000.123456789 + k, 30.0, 'r', 'adu'
        fits.PrimaryHDU(sky.astype('>f4'), h).writeto(folder / f'field{k}.fits', overwrite=True)
    return sorted(folder.glob('*.fits'))


@functools.cache
def _first_toy():
    "The home of a toy that the others are copies of"
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    home = Path(folder.name)
    toy(home, images=write_images(home / 'fits')).registry.close()
    return home


def toy(home, url=None, order=1, images=None):
    "An archive of these fields, with every third source rejected and the others confirmed"
    home = Path(home)
    if (url, order, images) == (None, 1, None):
        shutil.copytree(_first_toy() / 'fits', home / 'fits')
        copy_registry(_first_toy(), home)
        move_addresses(home, _first_toy(), home)
        return ad.open_archive(
            f'sqlite:///{home / "registry.db"}', storage=str(home / 'store'), home=home
        )
    archive = ad.open_archive(
        url or f'sqlite:///{home / "registry.db"}', storage=str(home / 'store'), home=home
    )
    archive.add_fits(
        (images or write_images(home / 'fits'))[::order],
        survey='toy',
        apply_rules=False,
        show=False,
    )
    with archive.session() as s:
        ids = s.execute(
            select(Detection.id, Detection.ra).order_by(Detection.ra, Detection.dec)
        ).all()
        for i, (d, _) in enumerate(ids):
            add_validation_event(
                s, d, 'tester', bool(i % 3), label='star' if i % 3 else 'cosmic ray'
            )
    return archive


def plan_of(archive, **kw):
    return ad.TrainingDataCollector(archive).plan(
        ad.TrainingDataCollectionParams(
            **dict(confidence_threshold=0.5, quality_score_threshold=None) | kw
        ),
        progress=False,
    )


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    archive = toy(tmp_path_factory.mktemp('toy'))
    return archive, plan_of(archive), plan_of(archive).build('first', patch_size=16, progress=False)


# Shards and hashes


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 7), st.integers(0, 5), st.randoms())
def test_shards_hold_what_was_appended_also_after_an_accident(
    tmp_path_factory, lengths, shard_rows, rubbish, random
):
    folder, x = (
        tmp_path_factory.mktemp('s'),
        np.arange(sum(lengths) * 6, dtype='f4').reshape(-1, 2, 3),
    )
    kinds, at = {'a': ('<f4', (2, 3)), 'b': ('u1', ())}, 0
    w = ShardWriter(folder, kinds, shard_rows)
    for n in lengths:
        w.append(a=x[at : at + n], b=np.arange(at, at + n) % 251)
        at += n
        if random.random() < 0.5:  # Died with rows that the journal does not know
            w.append(a=-np.ones((rubbish, 2, 3)), b=np.zeros(rubbish))
            w = ShardWriter(folder, kinds, shard_rows, start=at)
    files = w.close()
    a, b = ([np.load(folder / f['file']) for f in files if f['array'] == k] for k in 'ab')
    np.testing.assert_array_equal(np.concatenate(a), x)
    np.testing.assert_array_equal(np.concatenate(b), np.arange(at) % 251)
    s = ShardedArray(a)
    rows = [random.randrange(at) for _ in range(5)] if at else []
    np.testing.assert_array_equal(s[rows], x[rows])
    np.testing.assert_array_equal(s[1:at:2], x[1:at:2])
    assert s.shape == x.shape and len(s) == at


def test_sync_makes_all_rows_durable_that_are_not_yet(tmp_path, monkeypatch):
    w, durable = ShardWriter(tmp_path, {'a': ('u1', ()), 'b': ('u1', ())}, shard_rows=3), []
    monkeypatch.setattr(
        'astrid_data.datasets.shards.os.fsync',
        lambda fd: durable.append(Path(os.readlink(f'/proc/self/fd/{fd}')).stem[:7]),
    )
    for rows, files in (
        (5, 'a-00000 a-00001 b-00000 b-00001'),
        (2, 'a-00001 a-00002 b-00001 b-00002'),
    ):
        w.append(a=np.zeros(rows), b=np.zeros(rows))
        w.sync()
        assert sorted(durable) == files.split() and w.synced == w.n
        durable.clear()


@pytest.mark.parametrize('shard_rows', [0, -5, 2.5, float('nan'), True, '4', None])
def test_a_shard_has_at_least_one_row(tmp_path, shard_rows):
    with pytest.raises(BadInput, match='shard_rows .* whole number of rows'):
        ShardWriter(tmp_path / 'new', {'a': ('u1', ())}, shard_rows)
    assert not (tmp_path / 'new').exists()


def written(folder, labels=(1, 0, 1, -1), splits=('train', 'val', 'test', 'buffer'), **more):
    keys = [f'{i:032x}' for i in range(len(labels))]
    rows = pd.DataFrame(dict(sample_key=keys, label=labels, split=splits, origin='synthetic'))
    pixels = np.random.default_rng(0).normal(size=(len(labels), 1, 8, 8)).astype('f4')
    return write_dataset(folder, rows.assign(image_background=0.0, image_noise=1.0), pixels, **more)


def test_arrays_do_not_overwrite_a_version(tmp_path):
    one = written(tmp_path / 'v1')
    before = {path.name: path.read_bytes() for path in one.folder.iterdir()}
    with pytest.raises(Conflict, match='v1 holds unnamed@v1 already'):
        written(tmp_path / 'v1', labels=(0, 0, 1, 1))
    assert {path.name: path.read_bytes() for path in one.folder.iterdir()} == before
    (one.folder / 'manifest.json').unlink()  # What was never finished may be written again
    assert written(tmp_path / 'v1', labels=(0, 0, 1, 1)).verify().content_hash != one.content_hash


@pytest.mark.parametrize('wrong', ['dev', None, 'Train'])
def test_arrays_with_a_split_that_there_is_not_are_refused(tmp_path, wrong):
    with pytest.raises(BadInput, match='in the column split: there are train, val, test, buffer'):
        written(tmp_path / 'v1', splits=('train', 'val', wrong, 'test'))
    assert not (tmp_path / 'v1').exists()


def test_a_kind_that_nobody_told_goes_with_the_label(tmp_path):
    kinds = written(tmp_path / 'v1').samples['kind'].tolist()
    assert kinds == ['positive', 'rejected', 'positive', 'unknown']


def test_the_hash_sees_content_and_only_content(built):
    t, p = built[2].samples, built[2].manifest['params']
    h = built[2].content_hash
    assert h == content_hash(t, p) == content_hash(t.sample(frac=1, random_state=1), p)
    for c in ('image_uri', 'observation_id', 'detection_id', 'image_background', 'offset_x'):
        assert content_hash(t.assign(**{c: None}), p) == h
    for c in (
        'label',
        'split',
        'class_name',
        'x0',
        'pixel_sha256',
        'group_id',
        'ra',
        'quality_flags',
        'origin',
    ):
        changed, v = t.copy(), t.loc[5, c]
        changed.loc[5, c] = v + ' ' if isinstance(v, str) else v + 1
        assert content_hash(changed, p) != h, c
    assert content_hash(t, p | dict(patch_size=17)) != h and content_hash(t[1:], p) != h


# Building


def test_what_was_asked_for_is_kept_or_in_the_ledger_and_row_i_is_patch_i(built):
    archive, plan, ds = built
    m = ds.manifest
    assert (
        plan.requested
        == m['requested']
        == len(ds) + int(ds.ledger['n'].sum())
        == m['n_samples'] + sum(m['dropped'].values())
    )
    assert len(ds.patches()) == len(ds.valid()) == len(ds.targets()) == len(ds.samples) == len(ds)
    assert sum(m['splits'].values()) == len(ds) == sum(m['class_counts'].values())
    assert set(ds.samples['sample_key']) | set(ds.ledger['sample_key'].dropna()) >= set(
        plan.samples['sample_key']
    )
    np.testing.assert_array_equal(np.isnan(ds.patches()[:]), ~ds.valid()[:])
    assert (ds.targets()[ds.samples.index[ds.samples['label'] == 0]] == 0).all()


def test_every_patch_is_the_files_own_pixels(built):
    ds, s = built[2], 16
    for i in range(0, len(ds), 7):
        r = ds.samples.iloc[i]
        with fits.open(Path(r['image_uri'].removeprefix('file://'))) as f:
            a, (x, y) = f[0].data, WCS(f[0].header).all_world2pix([[r['ra'], r['dec']]], 0)[0]
        x0, y0 = int(np.floor(x + 0.5)) - s // 2, int(np.floor(y + 0.5)) - s // 2
        assert (x0, y0) == (r['x0'], r['y0'])
        want = np.pad(a.astype('f4'), s, constant_values=np.nan)[
            y0 + s : y0 + 2 * s, x0 + s : x0 + 2 * s
        ]
        np.testing.assert_array_equal(ds.patches()[i][0], want)


def test_the_same_plan_gives_the_same_version_and_another_question_the_next(built):
    archive, plan, ds = built
    with archive.session() as s:
        before = s.scalar(select(func.count()).select_from(TrainingSample))
    again = plan_of(archive).build('first', patch_size=16, progress=False, probe=False)
    assert (again.address, again.id, again.content_hash) == (ds.address, ds.id, ds.content_hash)
    with archive.session() as s:
        assert s.scalar(select(func.count()).select_from(TrainingSample)) == before
    two = plan.build('second', patch_size=16, seed=1, progress=False, probe=False)
    three = plan.build('second', patch_size=12, progress=False, probe=False)
    assert (two.address, three.address, three.manifest['parent']) == (
        'second@v1',
        'second@v2',
        'second@v1',
    )
    assert len({ds.content_hash, two.content_hash, three.content_hash}) == 3
    assert (
        ad.open_dataset(archive, 'second').version
        == ad.open_dataset(archive, 'second@latest').version
        == ad.open_dataset(archive, three.id).version
        == 2
    )
    assert ad.open_dataset(archive, 'second@v1').content_hash == two.content_hash
    assert set(ad.list_datasets(archive)['address']) >= {'first@v1', 'second@v1', 'second@v2'}


def test_the_same_hash_on_either_database_in_any_order_by_any_workers(
    built, registry_url, tmp_path
):
    archive = toy(tmp_path, registry_url, order=-1)
    ds = plan_of(archive).build(
        'other',
        patch_size=16,
        progress=False,
        probe=False,
        executor=(pool := ThreadPoolExecutor(3)),
        shard_rows=50,
    )
    pool.shutdown()
    assert len([s for s in ds.manifest['shards'] if s['array'] == 'patches']) > 1
    assert ds.content_hash == built[2].content_hash
    pd.testing.assert_frame_equal(
        ds.samples[['sample_key', 'pixel_sha256', 'split']],
        built[2].samples[['sample_key', 'pixel_sha256', 'split']],
    )


def test_processes_cut_the_same(built, tmp_path):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn')) as pool:
        ds = built[1].build(
            'by-processes', patch_size=16, progress=False, probe=False, executor=pool
        )
    assert ds.content_hash == built[2].content_hash


class SlowWriter(ShardWriter):
    "Keeps what it is given for a while before it writes it"

    def append(self, **rows):
        time.sleep(0.02)
        super().append(**rows)


def test_parts_of_a_chunk_are_its_rows_durable_before_they_are_written_down_and_open_an_image_once(
    built, tmp_path, monkeypatch
):
    rows, opened, made, finished = built[1].samples, [], [], []
    rows = rows.iloc[staging.image_order(rows)].reset_index(drop=True)

    def add(journal, **what):
        finished.append(
            made[-1].synced >= what['kept'] + sum(line['kept'] for line in journal.lines)
        )
        real_add(journal, **what)

    def open_image(*a, **k):
        opened.append(a)
        return real_open(*a, **k)

    def staged(name, part, executor=None):
        monkeypatch.setattr(staging, 'PART_BYTES', part * 4 * 16 * 16)
        opened.clear()
        kept, lost, shards = staging.write_patches(
            rows,
            tmp_path / name,
            ImageOpener(built[0].store),
            staging.CutSettings(16),
            progress=False,
            executor=executor,
            chunk_rows=30,
        )
        return (
            kept,
            lost,
            [s['sha256'] for s in shards],
            len(opened),
            len(Journal(tmp_path / name / 'journal.jsonl').lines),
        )

    real_add, real_open = Journal.add, header_cache.open_image
    monkeypatch.setattr(
        staging, 'ShardWriter', lambda *a, **k: made.append(SlowWriter(*a, **k)) or made[-1]
    )
    monkeypatch.setattr(Journal, 'add', add)
    monkeypatch.setattr(header_cache, 'open_image', open_image)
    monkeypatch.setattr(header_cache, 'open_indexed', lambda *a: None)  # Each opening is a true one
    whole = staged('whole', 1000)
    parts = staged('parts', 7)
    with ThreadPoolExecutor(2) as pool:
        threads = staged('threads', 7, pool)
    assert (
        all(finished) and len(whole[0]) > 7 * whole[4] > 7 and parts[2:] == threads[2:] == whole[2:]
    )
    place = ['pixel_scale_arcsec', 'pixel_pa_deg']  # Taken in the middle of what is cut together
    for a, b, but in ((parts, threads, []), (parts, whole, place)):
        pd.testing.assert_frame_equal(a[0].drop(columns=but), b[0].drop(columns=but))
        pd.testing.assert_frame_equal(a[1], b[1])


def test_the_registry_holds_rows_in_the_shapes_of_the_deployed_system(registry_url, tmp_path):
    archive = toy(tmp_path, registry_url)
    ds = plan_of(archive).build(
        'rows', patch_size=16, progress=False, probe=False, description='a test', created_by='me'
    )
    with archive.session() as s:
        d = s.scalar(select(TrainingDataset))
        assert (str(d.id), d.name, d.total_samples, d.created_by, d.status, d.description) == (
            ds.id,
            'rows',
            len(ds),
            'me',
            'active',
            'a test',
        )
        assert set(
            'survey_ids date_range confidence_threshold anomaly_types quality_score_threshold max_samples validation_status'.split()
        ) <= set(d.collection_params)
        assert (
            abs(d.anomaly_ratio - ds.samples['label'].mean()) < 1e-4
            and abs(d.quality_score - ds.quality.quality_score) < 1e-4
        )
        rows = s.execute(
            select(TrainingSample, SampleRow)
            .join(SampleRow, SampleRow.sample_id == TrainingSample.id)
            .order_by(SampleRow.row_index)
        ).all()
        assert len(rows) == len(ds) and s.scalar(select(func.count()).select_from(QualityRow)) == 1
        v = s.scalar(select(VersionRow))
        assert (v.content_hash, v.state, v.manifest['content_hash']) == (
            ds.content_hash,
            'frozen',
            ds.content_hash,
        )
        for (t, extra), (i, r) in zip(rows, ds.samples.iterrows()):
            assert set(t.labels) >= {
                'anomaly_type',
                'confidence',
                'validated',
                'is_anomaly',
                'pixel_coords',
            }
            assert set(t.metadata_) >= {
                'survey',
                'filter_band',
                'exposure_time',
                'ra',
                'dec',
                'observation_time',
                'patch_size',
                'detection_type',
            }
            assert (t.labels['is_anomaly'], t.metadata_['ra'], t.metadata_['patch_size']) == (
                bool(r['label']),
                r['ra'],
                [16, 16],
            )
            assert str(t.observation_id) == r['observation_id'] and (
                extra.row_index,
                extra.split,
                extra.sample_key,
            ) == (i, r['split'], r['sample_key'])
            shard, row = t.image_path.rsplit('/', 1)[1].split('#')
            np.testing.assert_array_equal(np.load(ds.folder / shard)[int(row)], ds.patches()[i])
            seconds = (
                pd.Timestamp(t.metadata_['observation_time']) - pd.Timestamp('1858-11-17', tz='UTC')
            ).total_seconds()
            assert abs(seconds - r['mjd'] * 86400) < 1e-3


def test_numbers_survive_the_table(built):
    t, p = built[2].samples, built[1].samples.set_index('sample_key')
    assert all(t[c].dtype == 'f8' for c in ('ra', 'dec', 'mjd', 'score', 'offset_x'))
    p = p.loc[t['sample_key']]
    for c in ('ra', 'dec', 'mjd', 'score'):
        np.testing.assert_array_equal(t[c], p[c])
    assert (t['mjd'] % 1 - 0.123456789).abs().max() * 86400 < 1e-3
    assert (t['half_width_arcsec'] - 8).abs().max() < 1e-3


# Accidents


def _build_and_die(home, url, at):
    "In a process of its own: build, and vanish at the `at`-th time something is made durable or put in its place"
    count = iter(range(at))

    def mortal(f):
        def g(*args, **kw):
            if next(count, None) is None:
                os._exit(9)
            return f(*args, **kw)

        return g

    os.fsync, os.rename, os.replace = mortal(os.fsync), mortal(os.rename), mortal(os.replace)
    staging.CHUNK_ROWS = 20
    plan_of(ad.open_archive(url, home=home)).build(
        'mortal', patch_size=16, progress=False, probe=False
    )
    os._exit(0)


def test_killed_at_any_moment_the_next_run_reaches_the_same_hash(built, tmp_path):
    images, context, codes = (
        write_images(tmp_path / 'fits'),
        multiprocessing.get_context('fork'),
        [],
    )
    archive = toy(tmp_path / 'home', images=images)
    url = f'sqlite:///{tmp_path / "home" / "registry.db"}'
    archive.registry.engine.dispose()
    for at in (1, 6, 12, 20, 28, 90):  # Each run goes on where the last one fell
        p = context.Process(target=_build_and_die, args=(tmp_path / 'home', url, at))
        p.start()
        p.join(120)
        codes.append(p.exitcode)
        assert p.exitcode in (0, 9)
        known = ad.list_datasets(archive)
        assert (len(known) == 1) == (p.exitcode == 0 or 0 in codes)
        if p.exitcode == 0:
            break
    ds = plan_of(archive).build('mortal', patch_size=16, progress=False, probe=False)
    assert codes.count(9) >= 4 and ds.version == 1 and ds.content_hash == built[2].content_hash
    assert [p.name for p in ds.folder.parent.iterdir() if p.name != '.lock'] == ['v1']
    ds.verify()


@pytest.mark.parametrize(
    'page, step', [(datasets, 'publish_version'), (publish, 'register_version')]
)
def test_a_version_that_was_renamed_but_not_registered_is_registered_by_the_next_run(
    tmp_path, monkeypatch, page, step
):
    archive = toy(tmp_path)
    with monkeypatch.context() as m:
        m.setattr(page, step, lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            plan_of(archive).build('late', patch_size=16, progress=False, probe=False)
    assert (
        len(ad.list_datasets(archive)) == 0
        and (archive.datasets_dir / 'late' / 'v1' / 'manifest.json').exists()
    )
    monkeypatch.setattr(
        staging, 'cut_chunk', lambda *a, **k: pytest.fail('nothing needs to be cut again')
    )
    assert (
        plan_of(archive).build('late', patch_size=16, progress=False, probe=False).address
        == 'late@v1'
    )
    assert [p.name for p in (archive.datasets_dir / 'late').iterdir() if p.name != '.lock'] == [
        'v1'
    ]
    assert len(ad.list_datasets(archive)) == 1


def test_two_builders_do_not_work_in_one_folder(built):
    archive, plan, _ = built
    with catalog.dataset_lock(archive.datasets_dir / 'busy'):
        with pytest.raises(Conflict, match='another process'):
            plan.build('busy', progress=False, probe=False)


def test_a_score_below_what_was_asked_stops_the_build_and_nothing_is_cut_twice(
    tmp_path, monkeypatch
):
    archive = toy(tmp_path)

    def ask(threshold):
        return plan_of(archive, quality_score_threshold=threshold)

    with pytest.raises(QualityError, match='quality_score is 0.*lowered most by') as e:
        ask(0.9999).build('gated', patch_size=16, progress=False, probe=False)
    assert e.value.report.weakest in str(e.value) and e.value.report.quality_score < 0.9999
    assert len(ad.list_datasets(archive)) == 0 and not list(
        (archive.datasets_dir / 'gated').glob('v*')
    )
    monkeypatch.setattr(staging, 'cut_chunk', lambda *a, **k: pytest.fail('cut again'))
    assert ask(0.5).build('gated', patch_size=16, progress=False, probe=False).verify().version == 1
    assert not list((archive.datasets_dir / 'gated').glob('.building-*'))


def test_other_gates_warn_and_stop_only_where_told(tmp_path):
    plan = plan_of(toy(tmp_path), quality_score_threshold=None, negatives={})
    with pytest.raises(Conflict, match='rarer_label is 0, asked for is 1e-09') as e:
        plan.build('gated', patch_size=16, gate='error', progress=False, probe=False)
    assert not isinstance(e.value, QualityError)
    with pytest.warns(UserWarning, match='rarer_label'):
        assert plan.build('gated', patch_size=16, progress=False, probe=False).version == 1


def test_a_build_warns_of_a_shortcut_and_says_it_again(tmp_path, monkeypatch):
    "It was in the report only, which nobody may open"
    rng = np.random.default_rng(0)
    label = np.arange(300) % 2
    table = pd.DataFrame(dict(label=label, airmass=label + rng.normal(1.5, 0.2, 300)))
    found = probe_shortcuts(table.assign(group_id=np.arange(300)))
    monkeypatch.setattr('astrid_data.quality.report.shortcuts_of', lambda *a, **k: found)
    plan, how = plan_of(toy(tmp_path)), dict(patch_size=16, progress=False)
    for _ in range(2):
        with pytest.warns(UserWarning, match='can be told without the source, AUC'):
            plan.build('easy', **how)
    assert ad.open_dataset(plan.archive, 'easy').shortcut['auc'] == found['auc']


def test_a_gate_is_asked_of_a_version_that_is_there_too(tmp_path):
    plan = plan_of(toy(tmp_path), negatives={})
    how = dict(patch_size=16, progress=False, probe=False)
    one = plan.build('gated', **how)
    with pytest.raises(Conflict, match='gated@v1 is frozen already, but .*rarer_label is 0'):
        plan.build('gated', gate='error', **how)
    assert plan.build('gated', **how).id == one.id


def test_the_same_recipe_is_the_same_version_whatever_came_between(tmp_path):
    archive = toy(tmp_path)
    plan, how = plan_of(archive), dict(progress=False, probe=False)
    sizes = (16, 12, 16, 12, 16)
    built = [plan.build('sizes', patch_size=size, **how) for size in sizes]
    assert [d.version for d in built] == [1, 2, 1, 2, 1]
    assert len({d.content_hash for d in built}) == 2
    ad.delete_dataset(archive, 'sizes@v1', 'only frozen ones are handed out')
    assert plan.build('sizes', patch_size=16, **how).version == 3


def test_a_build_looks_for_copies_once(tmp_path, monkeypatch):
    from astrid_data.quality import duplicates as copies

    looked, likely_copies = [], copies.likely_copies
    monkeypatch.setattr(
        copies, 'likely_copies', lambda *a, **k: looked.append(1) or likely_copies(*a, **k)
    )
    ds = plan_of(toy(tmp_path)).build('once', patch_size=16, progress=False, probe=False)
    assert (
        looked == [1]
        and ds.audit.near_duplicates is not None
        and ds.quality.components['unique'] is not None
    )


def test_lost_images_cost_their_own_samples_and_are_in_the_ledger(tmp_path):
    archive, images = toy(tmp_path), sorted((tmp_path / 'fits').glob('*.fits'))
    plan = plan_of(archive)
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:30000])
    ds = plan.build('holes', patch_size=16, progress=False, probe=False)
    lost = ds.ledger.groupby('reason')['n'].sum()
    assert {'missing_file', 'truncated'} <= set(lost.index) and plan.requested == len(
        ds
    ) + lost.sum()
    assert set(ds.samples['image_uri'].str[-11:]) == {'field2.fits', 'field3.fits'}
    assert (
        ds.ledger['uri'].str.contains('field0|field1').sum()
        == lost[['missing_file', 'truncated']].sum()
        and ds.ledger['label'].notna().all()
    )
    for p in images[2:]:
        p.unlink()
    with pytest.raises(NothingLeft, match='nothing is left.*missing_file') as refused:
        plan.build('void', patch_size=16, progress=False, probe=False)
    told = refused.value.details['ledger']
    assert sum(row['n'] for row in told) == plan.requested
    assert {row['reason'] for row in told} >= {'missing_file'}
    assert isinstance(refused.value, NotFound)  # As those expect who wrote for earlier releases


@pytest.mark.parametrize(
    'how, says',
    [
        (dict(split_by='objekt'), 'choose object, group'),
        (dict(split_by=5), 'by=5'),
        (dict(split_by='imported'), 'choose object'),
        (dict(split_by=dict(by='moon', hold={})), "by='moon'"),
        (dict(fractions=(0.7, 0.2)), 'three shares'),
        (dict(fractions='most'), 'three shares'),
        (dict(fractions=5), 'three shares'),
        (dict(fractions=(0.5, 0.5, 0.5)), 'add up to 1'),
        (dict(split_by=dict(hold={'exam': {'survey': 'toy'}})), 'choose train, val or test'),
        (dict(split_by=dict(hold={'test': {'survey': 'hst'}})), 'there are toy'),
        (dict(split_by=dict(hold={'test': {'surveys': 'toy'}})), "the column 'surveys'"),
        (dict(split_by=dict(hold='test')), 'hold is a dict'),
        (dict(split_by=dict(hold={'test': 'toy'})), 'hold is a dict'),
        (dict(split_by=dict(by='time', cuts=5)), 'two times'),
        (dict(split_by=dict(by='time', cuts=('a', 'b'))), 'two times'),
        (dict(split_by=dict(by='time', cuts=(59003, 59001))), 'two times'),
        (dict(split_by=dict(cuts=(59001, 59002))), "belong to by='time'"),
        (dict(split_by=dict(holds={})), 'a split has no holds'),
        (dict(split_by=dict(size=9)), 'a split has no size'),
        (dict(split_by=dict(radius_arcsec='x')), 'radius_arcsec must be a number'),
        (dict(split_by=dict(block_arcsec=-1)), 'block_arcsec must be a number'),
        (dict(split_by=pd.DataFrame(dict(sample_key=['none'], split=['train']))), 'is mentioned'),
        (dict(split_by=pd.DataFrame(dict(name=['none'], split=['train']))), "no column 'name'"),
        (dict(split_by=pd.DataFrame(dict(survey=['toy'], split=['quiz']))), 'are no splits'),
    ],
)
def test_a_split_that_cannot_be_is_refused_before_the_first_pixel(built, monkeypatch, how, says):
    archive, plan, _ = built
    monkeypatch.setattr(ImageOpener, '__call__', lambda *a: pytest.fail('an image was opened'))
    with pytest.raises(BadInput) as e:
        plan.build('typo', patch_size=15, progress=False, probe=False, **how)
    assert says in str(e.value) and not list((archive.datasets_dir / 'typo').glob('.building*'))


@pytest.mark.parametrize(
    'how, says',
    [
        (dict(min_valid_fraction=50), 'min_valid_fraction 50 .* from 0 to 1'),
        (dict(min_valid_fraction=-0.1), 'min_valid_fraction -0.1 .* from 0 to 1'),
        (dict(min_valid_fraction=float('nan')), 'min_valid_fraction nan .* from 0 to 1'),
        (dict(min_valid_fraction='half'), "min_valid_fraction 'half' .* from 0 to 1"),
        (dict(min_valid_fraction=None), 'min_valid_fraction None .* from 0 to 1'),
        (dict(shard_rows=-5), 'shard_rows -5 .* whole number of rows'),
        (dict(shard_rows=0), 'shard_rows 0 .* whole number of rows'),
        (dict(shard_rows='many'), "shard_rows 'many' .* whole number of rows"),
        (dict(pixel_scale_arcsec='fine'), "pixel_scale_arcsec 'fine' is not the side"),
        (dict(patch_size=[16]), 'patch_size .* whole number of pixels'),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_the_first_pixel(built, monkeypatch, how, says):
    archive, plan, _ = built
    monkeypatch.setattr(ImageOpener, '__call__', lambda *a: pytest.fail('an image was opened'))
    with pytest.raises(BadInput, match=says):
        plan.build('number', **dict(patch_size=15, progress=False, probe=False) | how)
    assert not (archive.datasets_dir / 'number').exists()


def test_what_an_earlier_version_forbids_is_said_before_the_first_pixel(built, monkeypatch):
    archive, plan, d = built
    monkeypatch.setattr(ImageOpener, '__call__', lambda *a: pytest.fail('an image was opened'))
    key = d.samples['sample_key'][d.samples['split'] == 'train'].iloc[0]
    with pytest.raises(BadInput, match='split anew'):
        plan.build(
            'held',
            patch_size=15,
            progress=False,
            probe=False,
            splits_from=d.address,
            split_by=dict(hold={'test': {'sample_key': key}}),
        )


def test_the_warning_of_a_build_names_the_line_that_asked(tmp_path):
    archive = toy(tmp_path)
    plan, how = plan_of(archive), dict(fractions=(0.8, 0.2, 0), progress=False, probe=False)
    ways = [
        lambda: plan.build('a', patch_size=15, **how),
        lambda: ad.build_dataset(plan, 'b', patch_size=15, **how),
        lambda: ad.TrainingDatasetManager(archive).create(plan.params, 'c', patch_size=15, **how),
    ]
    for way in ways:
        with pytest.warns(UserWarning, match='the test split is empty') as said:
            way()
        assert {w.filename for w in said if 'is empty' in str(w.message)} == {__file__}


def test_an_empty_plan_says_why(built):
    with pytest.raises(NotFound, match='no positive'):
        plan_of(built[0], date_range=('1990-01-01', '1991-01-01'))
    plan = plan_of(built[0])
    plan.samples = plan.samples[:0]
    with pytest.raises(NotFound, match='holds no samples'):
        plan.build('empty', progress=False, probe=False)


def test_two_homes_with_one_registry_do_not_take_each_others_names(tmp_path):
    archive, url = toy(tmp_path / 'a'), f'sqlite:///{tmp_path / "a" / "registry.db"}'
    other = ad.open_archive(url, storage=str(tmp_path / 'a' / 'store'), home=tmp_path / 'b')
    real = datasets.version_rows
    one = plan_of(archive).build('shared', patch_size=16, progress=False, probe=False)
    datasets.version_rows = lambda *a: []  # As if both had begun before either was registered
    try:
        with pytest.raises(Conflict, match='built elsewhere'):
            plan_of(other).build('shared', patch_size=12, progress=False, probe=False)
    finally:
        datasets.version_rows = real
    assert ad.list_datasets(archive)['id'].tolist() == [one.id]
    with archive.session() as s:
        assert s.scalar(select(func.count()).select_from(TrainingDataset)) == 1


def test_the_manager_is_the_same_functions(built):
    archive, plan, ds = built
    m = ad.TrainingDatasetManager(archive)
    assert (
        m.get('first@v1').id == ds.id
        and 'first@v1' in set(m.list()['address'])
        and str(len(m.list())) in repr(m)
    )
    assert m.create(plan.params, 'first', patch_size=16).id == ds.id


# Finding, comparing, rebuilding


def test_addresses_that_are_wrong_say_what_there_is(built):
    archive, plan, ds = built
    for address in ('firts', 'first@v9', 'first@v1.5', '6b9f8a2e-0000-0000-0000-000000000000'):
        with pytest.raises(NotFound, match='first@v1'):
            ad.open_dataset(archive, address)
    for name in ('', '../up', 'a/b', '.hidden', 'x' * 101, 'ä'):
        with pytest.raises(BadInput, match='cannot name a dataset'):
            plan.build(name)
    for kw in (
        dict(gate='maybe'),
        dict(patch_size=0),
        dict(split_by='colour'),
        dict(fractions=(0.5, 0.1, 0.1)),
    ):
        with pytest.raises(BadInput):
            plan.build('wrong', progress=False, probe=False, **kw)


def test_a_touched_file_is_named(built, tmp_path):
    import shutil

    folder = shutil.copytree(built[2].folder, tmp_path / 'copy')
    assert Dataset(folder).verify()
    with open(folder / 'valid-00000.npy', 'r+b') as f:
        f.seek(-1, 2)
        f.write(b'\x07')
    opened = Dataset(folder)
    with pytest.raises(Conflict, match='valid-00000.npy is not what was frozen'):
        opened.verify()
    (folder / 'samples.parquet').unlink()
    with pytest.raises(Conflict, match='valid-00000.npy, samples.parquet are not'):
        opened.verify()
    with pytest.raises(Conflict, match='samples.parquet is not what was frozen'):
        Dataset(folder)


def test_rebuilding_reaches_the_hash_and_names_the_one_sample_whose_pixel_changed(tmp_path):
    archive = toy(tmp_path)
    ds = plan_of(archive, negatives={}).build('again', patch_size=8, progress=False, probe=False)
    r = ds.rebuild(progress=False)
    assert r.same and r.content_hash == ds.content_hash and not len(r.files)
    row = ds.samples.iloc[17]
    path = Path(row['image_uri'].removeprefix('file://'))
    with fits.open(path, mode='update') as f:
        f[0].data[row['y0'] + 1, row['x0'] + 2] += 1
    r = ds.rebuild(progress=False)
    assert (
        not r.same
        and r.diff.of('pixels')['sample_key'].tolist() == [row['sample_key']]
        and set(r.diff.changed['what']) <= {'pixels', 'target map', 'flags'}
    )
    assert len(r.diff.added) == len(r.diff.removed) == 0 and r.files['uri'].tolist() == [
        row['image_uri']
    ]
    path.unlink()
    r = ds.rebuild(progress=False)
    gone = ds.samples[ds.samples['image_uri'] == row['image_uri']]
    assert set(r.diff.removed['sample_key']) == set(gone['sample_key']) and set(
        r.diff.removed['reason']
    ) == {'missing_file'}
    assert not list(archive.datasets_dir.glob('.rebuild*'))


def test_a_late_verdict_is_a_difference_between_versions(tmp_path):
    archive = toy(tmp_path)
    one = plan_of(archive, negatives={}).build('late', patch_size=16, progress=False, probe=False)
    was = one.samples[one.samples['label'] == 1].iloc[3]
    with archive.session() as s:
        add_validation_event(
            s, was['detection_id'], 'expert', False, label='ghost', confidence_level='EXPERT'
        )
    two = plan_of(archive, negatives={'rejected': 1.0}).build(
        'late', patch_size=16, progress=False, probe=False
    )
    d = two.diff(one)
    assert (
        two.version == 2
        and one.verify()
        and was['sample_key'] not in set(one.samples.query('label == 0')['sample_key'])
    )
    now = two.samples.query('detection_id == @was.detection_id').iloc[0]
    turned = d.of('label')
    assert turned['sample_key'].tolist() == [now['sample_key']]
    assert turned[['was', 'now']].to_numpy().tolist() == [['1', '0']]
    assert was['detection_id'] not in set(d.removed['detection_id'])
    assert 'collection.negatives.rejected' in d.settings
    assert one.diff(one).same and 'the same content' in repr(one.diff(one))


# Papers


def test_croissant_is_valid_without_a_network(built):
    mlc = pytest.importorskip('mlcroissant')
    ds = built[2]
    issues = mlc.Dataset(jsonld=str(ds.folder / 'croissant.json')).metadata.ctx.issues
    assert not issues.errors
    records = mlc.Dataset(jsonld=str(ds.folder / 'croissant.json')).records('samples')
    first = next(iter(records))
    assert first['samples/ra'] == pytest.approx(ds.samples['ra'][0])


def test_the_datasheet_says_what_the_manifest_says(built):
    text, m = (built[2].folder / 'datasheet.md').read_text(), built[2].manifest
    for word in (
        m['content_hash'],
        str(m['requested']),
        'All pixels are real sky',
        *m['class_counts'],
    ):
        assert word in text


def test_the_report_is_one_file_with_pictures_of_every_class(built, tmp_path):
    ds = built[2]
    text = ds.report(tmp_path).read_text()
    assert text.count('class="patch"') >= 3 * 6 and 'class="patch synthetic"' not in text
    assert all(
        f'<b class="label{r.label}">' in text and str(r.class_name) in text
        for r in ds.samples.itertuples()
    )
    assert 'src="http' not in text and 'href="http' not in text and ds.content_hash in text


def test_a_report_says_whose_labels_these_are(built, tmp_path):
    whose = 'event:proxy:colour_of_host_galaxies@2024'
    shown = table_html(pd.DataFrame(dict(label_source=[whose], sha256=['0f' * 32])))
    assert whose in shown and '<td>0f0f0f0f0f0f…</td>' in shown


def test_the_head_of_a_report_says_a_shortcut_that_warns(built, tmp_path, monkeypatch):
    ds = built[2]
    gate = Gate('shortcut_auc', 0.6, 0.94, 'warn')
    name, value = 'shortcut AUC (warn, asked 0.6)', '0.94'
    passed = SimpleNamespace(gates=[Gate('shortcut_auc', 0.6, 0.5, 'pass')])
    monkeypatch.setattr(type(ds), 'quality', passed)
    assert not [fact for fact in _head_facts(ds) if 'shortcut' in fact]
    quality = SimpleNamespace(gates=[gate, Gate('images', 0.9, 0.8, 'warn')])
    monkeypatch.setattr(type(ds), 'quality', quality)
    facts = _head_facts(ds)
    assert facts[name] == value and list(facts).index(name) == list(facts).index('quality') + 1


def test_marks_and_checksums_of_a_report_stay_in_their_places(built):
    page = report_html(built[2])
    marks = page.count('●</span>')
    assert page.count('<span style="white-space:nowrap"><span style="color:#') == marks > 0
    assert 'header{overflow-wrap:anywhere}' in page


def test_a_run_without_an_end_is_not_called_running(built, monkeypatch):
    ds, began = built[2], pd.Timestamp('2026-07-01 12:30', tz='UTC')
    runs = pd.DataFrame(dict(status=['running', 'completed'], started_at=[began, began]))
    monkeypatch.setattr(type(ds), 'runs', lambda self: runs)
    shown = _training_section(ds)
    assert 'began 2026-07-01 12:30 UTC, no end is known' in shown
    assert '<td>completed</td>' in shown and 'running' not in shown


def test_the_tables_of_splits_say_each_thing_once(built):
    page = splits_section(built[2])
    names = re.findall(r'<tr><td>([^<]+)</td><td>', page)
    assert 'those of them in train, val or test' in names and 'unknown extent' not in names
    heads = re.findall(r'<th></th><th>(\w+)</th>', page)
    assert heads == ['found', 'value']


def test_what_is_shown_for_a_sample_is_its_own_frame(built):
    ds = built[2]
    fig = ds.show_source(5)
    shown = fig.axes[1].images[0].get_array()
    title = fig.axes[0].get_title()
    assert shown.shape == (16, 16)
    assert ds.samples['image_uri'][5].rsplit('/', 1)[1] in title.replace('\n', '')
    with pytest.raises(BadInput, match='not 100000'):
        ds.show_source(100000)
    with pytest.raises(BadInput, match='open_dataset'):
        Dataset(ds.folder).show_source(0)


def test_a_long_title_of_a_frame_is_wrapped(built, monkeypatch):
    "An address has no spaces; all of it is there, and none of it is outside of the figure"
    ds = built[2]
    address = 'https://archive.example/' + 'a_folder_of_a_night/' * 12 + 'frame.fits [SCI,1]'
    known = source.provenance(ds, 5)
    monkeypatch.setattr(source, 'provenance', lambda *which: known | dict(image=address))
    figure = ds.show_source(5)
    title = figure.axes[0].title
    assert title.get_text().replace('\n', '').replace(' ', '') == address.replace(' ', '')
    FigureCanvasAgg(figure).draw()
    box = title.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    patch_title = figure.axes[1].title.get_window_extent()
    assert box.x1 < patch_title.x0


# Elsewhere


def test_a_version_goes_to_the_bucket_and_comes_back_from_it(s3, built, tmp_path, monkeypatch):
    for k, v in dict(
        AWS_ACCESS_KEY_ID=s3.key, AWS_SECRET_ACCESS_KEY=s3.secret, AWS_ENDPOINT_URL_S3=s3.endpoint
    ).items():
        monkeypatch.setenv(k, v)
    images = write_images(tmp_path / 'fits')
    here = ad.open_archive(
        f'sqlite:///{tmp_path / "r.db"}', storage='s3://test/here', home=tmp_path / 'a'
    )
    here.add_fits(images, survey='toy', apply_rules=False, copy=True, show=False)
    with here.session() as s:
        for i, (d, _, _) in enumerate(
            s.execute(
                select(Detection.id, Detection.ra, Detection.dec).order_by(
                    Detection.ra, Detection.dec
                )
            ).all()
        ):
            add_validation_event(
                s, d, 'tester', bool(i % 3), label='star' if i % 3 else 'cosmic ray'
            )
    ds = plan_of(here).build('cloud', patch_size=16, progress=False, probe=False)
    assert ds.content_hash == built[2].content_hash
    there = ad.open_archive(
        f'sqlite:///{tmp_path / "r.db"}', storage='s3://test/here', home=tmp_path / 'b'
    )
    again = ad.open_dataset(there, 'cloud')
    assert again.folder != ds.folder and again.content_hash == ds.content_hash
    np.testing.assert_array_equal(again.patches()[:], ds.patches()[:])
    assert (
        plan_of(there).build('cloud', patch_size=16, progress=False, probe=False).folder
        == again.folder
    )


def test_a_dataset_of_pretend_sky_says_so_everywhere(tmp_path):
    rng, n = np.random.default_rng(0), 12
    rows = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=np.arange(n) % 2,
            split='train',
            origin=['synthetic'] * 6 + ['survey'] * 6,
        )
    )
    for part, origin in ((rows[:6], 'synthetic'), (rows, 'mixed')):
        d = write_dataset(
            tmp_path / origin, part, rng.normal(size=(len(part), 1, 16, 16)).astype('f4')
        )
        assert (
            d.origin == origin
            and 'SYNTHETIC' in repr(d)
            and 'ynthetic' in (d.folder / 'datasheet.md').read_text()
        )
        assert d.report(tmp_path / 'r.html').read_text().count('class="patch synthetic"') == 6


def test_the_largest_float_is_a_gap_and_no_brightness(tmp_path):
    "ZTF fills templates with ±3.4e38 where it has not looked yet"
    images = write_images(tmp_path / 'fits')
    for path in images:
        with fits.open(path, mode='update') as f:
            f[0].data[:, 40:60], f[0].data[70:74] = -np.finfo('f4').max, np.finfo('f4').max
    archive = toy(tmp_path / 'home', images=images)
    with ad.images.open_image(images[0]) as image:
        pixels, bad = image.read_all()
    assert (
        bad[:, 40:60].all()
        and bad[70:74].all()
        and bad.mean() < 0.2
        and np.isnan(pixels[bad]).all()
    )
    ds = plan_of(archive).build('gaps', patch_size=16, progress=False, probe=False)
    assert np.nanmax(np.abs(ds.patches()[:])) < 1e5 and not ds.valid()[:].all()
    assert abs(ds.samples['image_background'] - 100).max() < 20


def small_version(folder):
    rows = dict(sample_key=['a', 'b'], label=[0, 1], split='train', origin='synthetic')
    return write_dataset(folder, pd.DataFrame(rows), np.ones((2, 1, 5, 5), 'f4'))


def test_odd_addresses_are_refused_in_words(tmp_path):
    small_version(tmp_path / 'v')
    for address in (7, b'four'):
        with pytest.raises(BadInput, match='address='):
            ad.open_dataset(tmp_path / 'v', address)
    with pytest.raises(BadInput, match='no archive'):
        ad.open_dataset(b'four')


def test_a_folder_that_was_copied_in_part_is_not_read(tmp_path):
    dataset = small_version(tmp_path / 'v')
    np.save(tmp_path / 'v' / 'extra.npy', np.zeros(1))
    with pytest.warns(UserWarning, match='extra.npy is no part of this version'):
        dataset.verify()
    for path in (tmp_path / 'v').glob('valid-*.npy'):
        path.unlink()
    with pytest.raises(Conflict, match='is not there: the folder is not whole'):
        Dataset(tmp_path / 'v').patches([0])
