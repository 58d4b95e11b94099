"Exports lose nothing: pixels bit by bit, times to the last digit, ids as they were; and what comes back is honest about what is missing."

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_datasets import plan_of, toy

from astrid_data.core import BadInput, Conflict, NotFound
from astrid_data.datasets.dataset import Dataset
from astrid_data.datasets.exports import from_lists, read_npz

IDS = 'sample_key object_id observation_key'.split()


@pytest.fixture(scope='module')
def ds(tmp_path_factory):
    return plan_of(toy(tmp_path_factory.mktemp('exports'))).build(
        'out', patch_size=16, progress=False, probe=False
    )


def same_table(got, want):
    "Rows of an export against the version's own"
    got, want = (t.set_index('sample_key').sort_index() for t in (got, want))
    assert list(got.index) == list(want.index)
    for c in want:
        a, b = got[c], want[c]
        if b.dtype.kind == 'f':
            np.testing.assert_array_equal(a.to_numpy('f8', na_value=np.nan), b.to_numpy('f8')), c
        else:
            assert a.where(a.notna(), None).tolist() == b.where(b.notna(), None).tolist(), c
    assert (
        want['mjd'] - want['mjd'].astype('f4')
    ).abs().max() * 86400 > 1  # What float32 would have done
    assert want['ra'].dtype == want['mjd'].dtype == 'f8'


def out_rows(ds):
    return np.concatenate([ds.split_rows(s) for s in ('train', 'val', 'test')])


def test_parquet_holds_every_number(ds, tmp_path):
    out = ds.export(tmp_path / 'hf', rows_per_file=40)
    files = sorted((out / 'data').glob('*.parquet'))
    assert len([f for f in files if f.name.startswith('train')]) > 1
    parts = [pq.read_table(f) for f in files]
    got = pd.concat([t.drop(['image', 'target']).to_pandas() for t in parts])
    rows = out_rows(ds)
    same_table(got, ds.samples.iloc[rows])
    order = ds.samples.reset_index().set_index('sample_key')['index'][got['sample_key']].to_numpy()
    np.testing.assert_array_equal(
        np.concatenate([from_lists(t['image']) for t in parts]), ds.patches(order)
    )
    np.testing.assert_array_equal(
        np.concatenate([from_lists(t['target']) for t in parts]), ds.targets(order)
    )
    assert (
        str(parts[0].schema.field('mjd').type) == 'double'
        and json.loads(parts[0].schema.metadata[b'astrid_data'])['content_hash'] == ds.content_hash
    )
    assert 'path: data/test-*.parquet' in (out / 'README.md').read_text() and not list(
        (out / 'data').glob('buffer*')
    )


def in_python_with(module, script, *args):
    "Run a script in a Python that has the module: this one, or that of the peers which the benchmarks compare with"
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | dict(HF_HUB_OFFLINE='1')

    def run(python, *a):
        return subprocess.run([python, '-c', *map(str, a)], env=env, capture_output=True, text=True)

    for python in (sys.executable, str(Path(__file__).parents[1] / '.peers' / 'bin' / 'python')):
        if Path(python).exists() and run(python, f'import {module}').returncode == 0:
            done = run(python, script, *args)
            assert done.returncode == 0, done.stderr[-2000:]
            return
    pytest.skip(f'{module} is installed neither here nor in .peers')


def test_hugging_face_reads_it(ds, tmp_path):
    in_python_with(
        'datasets',
        """if True:
        import sys, numpy as np, datasets
        d = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2])
        np.savez(sys.argv[3], image=d['train'].with_format('numpy')['image'][:], mjd=d['test']['mjd'][:])""",
        ds.export(tmp_path / 'hf'),
        tmp_path / 'cache',
        tmp_path / 'got.npz',
    )
    got = np.load(tmp_path / 'got.npz')
    np.testing.assert_array_equal(got['image'], ds.patches(ds.split_rows('train')))
    assert got['mjd'].tolist() == ds.samples['mjd'][ds.split_rows('test')].tolist()


def test_tar_shards_hold_every_number(ds, tmp_path):
    out = ds.export(tmp_path / 'tars', 'webdataset', rows_per_file=30)
    rows, _n = {}, 0
    for f in sorted(out.glob('*.tar')):
        with tarfile.open(f) as tar:
            names = tar.getnames()
            assert [n.partition('.')[2] for n in names[:3]] == [
                'image.npy',
                'target.npy',
                'json',
            ] and len(names) % 3 == 0
            for name in names[::3]:
                i = int(name.split('.')[0])

                def read(kind):
                    return tar.extractfile(f'{i:09d}.{kind}').read()

                np.testing.assert_array_equal(
                    np.load(io.BytesIO(read('image.npy'))), ds.patches()[i]
                )
                np.testing.assert_array_equal(
                    np.load(io.BytesIO(read('target.npy'))), ds.targets()[i]
                )
                rows[i] = json.loads(read('json'))
                assert rows[i]['split'] == f.name.split('-')[0]
    assert sorted(rows) == sorted(out_rows(ds))
    same_table(pd.DataFrame(rows.values()), ds.samples.iloc[list(rows)])
    again = ds.export(tmp_path / 'again', 'webdataset', rows_per_file=30)
    assert all((again / p.name).read_bytes() == p.read_bytes() for p in out.iterdir())


def test_webdataset_reads_them(ds, tmp_path):
    in_python_with(
        'webdataset',
        """if True:
        import sys, numpy as np, webdataset as wds
        got = list(wds.WebDataset(sys.argv[1], shardshuffle=False).decode())
        np.savez(sys.argv[2], image=[s['image.npy'] for s in got], key=[s['json']['sample_key'] for s in got])""",
        ds.export(tmp_path / 'tars', 'webdataset') / 'train-00000.tar',
        tmp_path / 'got.npz',
    )
    got, rows = np.load(tmp_path / 'got.npz'), ds.split_rows('train')
    assert got['key'].tolist() == ds.samples['sample_key'][rows].tolist()
    np.testing.assert_array_equal(got['image'], ds.patches(rows))


def test_npz_there_and_back(ds, tmp_path):
    out = ds.export(tmp_path / 'npz', 'npz')
    with np.load(out / 'train_real.npz', allow_pickle=False) as z:
        assert (
            z['images'].dtype == 'f4'
            and z['images'].shape[1:] == (1, 16, 16)
            and (z['labels'] == 1).all()
        )
        said = [json.loads(m) for m in z['metadata']]
    assert set(said[0]) == set(
        'sn_name mission filter center_x center_y ref_date sci_date overlap sig_max row'.split()
    )
    r = ds.samples.set_index('sample_key').loc[said[0]['row']['sample_key']]
    assert (
        abs(
            (
                pd.Timestamp(said[0]['sci_date']) - pd.Timestamp('1858-11-17', tz='UTC')
            ).total_seconds()
            - r['mjd'] * 86400
        )
        < 1e-3
        and said[0]['ref_date'] is None
    )
    assert abs(said[0]['center_x'] - (r['x0'] + 8 + r['offset_x'])) < 1e-9
    back = read_npz(out, tmp_path / 'back')
    same_table(
        back.samples[[c for c in ds.samples if c in back.samples]], ds.samples.iloc[out_rows(ds)]
    )
    assert (
        set(ds.samples) - set(back.samples) == set()
        and back.origin == 'survey'
        and back.channels == ds.channels
        and back.audit.verdict == ds.audit.verdict
    )
    key = back.samples.reset_index().set_index('sample_key')['index']
    rows = out_rows(ds)
    np.testing.assert_array_equal(
        back.patches(key[ds.samples['sample_key'][rows]].to_numpy()), ds.patches(rows)
    )
    assert [s['sha256'] for s in back.manifest['sources']] and back.verify()


def stamps(path, n=6, c=3, **kw):
    rng = np.random.default_rng(len(str(path)))
    np.savez(
        path,
        **dict(images=rng.normal(size=(n, c, 63, 63)).astype('f4'), labels=np.arange(n) % 2) | kw,
    )
    return path


def test_foreign_stamps_say_what_is_missing(tmp_path):
    said = [
        json.dumps(
            dict(
                sn_name=f'sn{i // 2}',
                mission='HST',
                filter='F814W',
                center_x=1.0,
                center_y=2.0,
                ref_date='2001-01-01',
                sci_date='2003-05-06T07:08:09.010' if i else None,
                overlap=0.9,
                sig_max=7.0,
            )
        )
        for i in range(6)
    ]
    f = stamps(tmp_path / 'some.npz', metadata=np.array(said))
    with pytest.raises(BadInput, match="origin='survey' or origin='synthetic'"):
        read_npz(f, tmp_path / 'd')
    assert not (tmp_path / 'd').exists() and not list(tmp_path.glob('.*'))
    d = read_npz(f, tmp_path / 'd', origin='survey')
    t = d.samples
    assert (
        d.channels == ('template', 'science', 'difference')
        and set(t['survey']) == {'hst'}
        and d.manifest['split']['by'] == 'object'
        and d.audit.objects_shared == 0
    )
    assert t['not_said'].tolist() == ['dec mjd ra'] + ['dec ra'] * 5 and np.isnan(t['mjd'][0])
    assert abs(t['mjd'][1] - 52765.29732650463) * 86400 < 1e-3  # 2003-05-06T07:08:09.010
    assert (
        t.groupby('object_id')['split'].nunique().max() == 1
        and t['observation_key'][2] == 'some.npz[2]'
    )
    assert read_npz(f, tmp_path / 'e', origin='survey').content_hash == d.content_hash
    assert read_npz(f, tmp_path / 's', origin='synthetic').origin == 'synthetic'
    sheet = (d.folder / 'datasheet.md').read_text()
    assert (
        'By somebody else' in sheet
        and d.manifest['sources'][0]['sha256'][:12] in sheet
        and 'Nothing is resampled' not in sheet
    )
    assert (
        d.report(tmp_path / 'r.html').read_text().count('class="patch"') == 3 * 6
        and len(d.lineage()['used']) == 2
    )
    with pytest.raises(NotFound, match='came in as stamps'):
        d.show_source(0)
    with pytest.raises(NotFound, match='nothing to cut again'):
        d.rebuild()


@pytest.mark.parametrize(
    'kw, words',
    [
        (dict(labels=np.arange(6)), '0 or 1'),
        (dict(labels=np.zeros(5)), 'must be 6'),
        (dict(images=np.zeros((6, 63, 63, 3), 'f4')), 'second place'),
        (dict(images=np.zeros((6, 2, 5, 7), 'f4')), 'not .N, channels'),
        (dict(metadata=np.array([{}] * 6, object)), 'pickled'),
        (dict(metadata=np.array(['{}'] * 2)), '2 texts'),
    ],
)
def test_npz_that_is_wrong_says_how(tmp_path, kw, words):
    with pytest.raises(BadInput, match=words):
        read_npz(stamps(tmp_path / 'a.npz', **kw), tmp_path / 'd', origin='survey')
    assert not (tmp_path / 'd').exists()


def test_other_files_are_refused_by_name(tmp_path, shared_data):
    with pytest.raises(BadInput, match='no images and no labels, but triplets'):
        read_npz(
            shared_data / 'alerts' / 'btsbot_usage_triplets.npz', tmp_path / 'd', origin='survey'
        )
    (tmp_path / 'b.npz').write_bytes(b'rubbish')
    with pytest.raises(BadInput, match='b.npz is not'):
        read_npz(tmp_path / 'b.npz', tmp_path / 'd', origin='survey')
    with pytest.raises(NotFound, match='no NPZ'):
        read_npz(tmp_path / 'nothing', tmp_path / 'd')
    with pytest.raises(BadInput, match='differ in the shape'):
        read_npz(
            [stamps(tmp_path / 'x.npz'), stamps(tmp_path / 'y.npz', c=1)],
            tmp_path / 'd',
            origin='survey',
        )


def test_stamps_augmented_before_the_split_do_not_come_in_unnoticed(tmp_path):
    x = np.random.default_rng(0).normal(size=(10, 3, 63, 63)).astype('f4')
    stamps(tmp_path / 'train_real.npz', images=x, labels=np.ones(10))
    stamps(tmp_path / 'val_real.npz', images=np.rot90(x, axes=(-2, -1)), labels=np.ones(10))
    d = read_npz(sorted(tmp_path.glob('*.npz')), tmp_path / 'd', origin='survey')
    assert d.manifest['split']['by'] == 'file names' and d.audit.turned_stamps == 10
    with pytest.raises(Conflict, match='turned or mirrored'):
        d.check_leaks()


def test_exports_that_hold_the_test_are_openings(ds, tmp_path):
    before = len(ds.test_openings)
    ds.export(tmp_path / 'a', 'npz', splits=('train', 'val'))
    assert len(ds.test_openings) == before and not list((tmp_path / 'a').glob('test*'))
    ds.export(tmp_path / 'b', 'npz')
    assert ds.test_openings['purpose'].tolist()[before:] == ['export to NPZ']
    with pytest.raises(Conflict, match='new folder'):
        ds.export(tmp_path / 'b')
    with pytest.raises(BadInput, match='no export to'):
        ds.export(tmp_path / 'c', 'hdf5')


def test_an_export_that_fails_leaves_nothing(ds, tmp_path, monkeypatch):
    monkeypatch.setattr(
        'numpy.savez_compressed', lambda *a, **k: (_ for _ in ()).throw(OSError('disk full'))
    )
    with pytest.raises(OSError):
        ds.export(tmp_path / 'npz', 'npz')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', ['npz', 'parquet', 'webdataset'])
def test_a_file_that_cannot_be_read_is_not_one_that_cannot_be_written(
    ds, tmp_path, monkeypatch, kind
):
    def closed(path, **how):
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr('astrid_data.datasets.dataset.np.load', closed)
    with pytest.raises(PermissionError, match='Permission denied.*out.v1') as caught:
        Dataset(ds.folder).export(tmp_path / 'out', kind)
    assert 'written' not in str(caught.value)
    assert not list(tmp_path.iterdir())
