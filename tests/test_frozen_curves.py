"Light curves that are frozen with a version: what they hold, what is refused, what carries them."

import json
import shutil
import tarfile

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import delete
from test_light_curves import STAMPS, packet, seen, stamp, unseen

import astrid_data as ad
from astrid_data.core import AstridError, BadInput, Conflict, sha256_file
from astrid_data.datasets.curve_table import CURVE_FILE, freeze_curves
from astrid_data.datasets.dataset import Dataset, write_dataset
from astrid_data.datasets.report import _curves_figure, _epochs_per_sample, report_html
from astrid_data.datasets.seal import write_seal
from astrid_data.datasets.shards import content_hash
from astrid_data.loading.curves import CURVE_VALUES, band_code
from astrid_data.loading.patch_dataset import PatchDataset
from astrid_data.registry.tables import EpochRow

NIGHTS = 12
EPOCHS = 5  # Of each object, when it is frozen
MILLISECOND = 1e-3 / 86400  # Day


def night(k, past):
    "An alert of one of a dozen objects, one a night, every other one real"
    place = dict(ra=10.0 + k, dec=20.0 + k / 3)
    alert = packet(1000 + k, 2460400.5 + k, past, name=f'ZTF24{k:03d}', **place)
    own = {name: stamp(10 * k + j) for j, name in enumerate(STAMPS)}
    own['fp_hists'] = [forced(k)]
    return alert | own | dict(label_proxy='real' if k % 2 else 'bogus')


def forced(k):
    "A flux below 0 in another band"
    flux = dict(forcediffimflux=-20.0 - k, forcediffimfluxunc=4.0, magzpsci=26.4, diffmaglim=20.1)
    return flux | dict(jd=2460396.5 + k, fid=3, pid=k)


def past_of(k):
    "Three epochs before the alert, of which one is a limit"
    return [
        seen(k, 2460390.5 + k, isdiffpos='f'),
        seen(100 + k, 2460395.5 + k, magpsf=18.0 + k / 10),
        unseen(2460397.5 + k, k),
    ]


def filled(folder, past=past_of):
    archive = ad.open_archive(folder)
    archive.add_alerts([night(k, past(k)) for k in range(NIGHTS)], show=False)
    return archive


def freeze(archive, name='curves'):
    params = ad.TrainingDataCollectionParams(
        survey_ids=['ztf'],
        confidence_threshold=None,
        quality_score_threshold=None,
        negatives=dict(rejected=1),
        channels=('template', 'science', 'difference'),
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    return plan.build(name, patch_size=16, progress=False, probe=False, allow_empty=True)


@pytest.fixture(scope='module')
def version(tmp_path_factory):
    return freeze(filled(tmp_path_factory.mktemp('curves')))


def tampered(version, folder, change):
    "A copy whose curves were edited by hand, and sealed again as if nothing had been"
    copy = folder / 'copy'
    shutil.copytree(version.folder, copy)
    change(pd.read_parquet(copy / CURVE_FILE)).to_parquet(copy / CURVE_FILE, index=False)
    manifest = json.loads((copy / 'manifest.json').read_text())
    manifest['light_curves_sha256'] = sha256_file(copy / CURVE_FILE)
    text = json.dumps(manifest, indent=1)
    write_seal(copy, text)
    (copy / 'manifest.json').write_text(text)
    return Dataset(copy)


def test_a_version_holds_what_was_known_at_each_samples_time(version):
    facts = version.manifest['light_curves']
    assert facts == dict(format=1, epochs=EPOCHS * NIGHTS, samples=NIGHTS, bands=['g', 'i', 'r'])
    for i, sample in enumerate(version.samples.itertuples()):
        curve = version.light_curve(i)
        assert curve.source == f'the version {version.address}' and len(curve) == EPOCHS
        assert curve.table['mjd_utc'].max() == curve.table['known_mjd'].max() == sample.mjd


def test_a_copied_folder_needs_no_registry(version, tmp_path):
    shutil.copytree(version.folder, tmp_path / 'copy')
    copy = Dataset(tmp_path / 'copy').verify()
    for i in range(NIGHTS):
        assert copy.light_curve(i).table.equals(version.light_curve(i).table)


def test_later_epochs_change_no_version(tmp_path):
    archive = filled(tmp_path)
    before = freeze(archive)
    late = [seen(100 + k, 2460395.5 + k, magpsf=12.0) for k in range(NIGHTS)]
    archive.add_alerts(
        [
            packet(5000 + k, 2460500.5 + k, [late[k], unseen(2460401.5 + k, 99)], f'ZTF24{k:03d}')
            for k in range(NIGHTS)
        ],
        show=False,
    )
    again = before.rebuild(progress=False)
    assert again.same and again.content_hash == before.content_hash
    assert before.light_curve(3).later is None and len(before.light_curve(3)) == EPOCHS


def test_an_earlier_packet_changes_the_next_version_and_the_diff_says_it(tmp_path):
    archive = filled(tmp_path)
    before = freeze(archive)
    archive.add_alerts([packet(7, 2460399.5, [], 'ZTF24004', ra=14.0, dec=20 + 4 / 3)], show=False)
    again = before.rebuild(progress=False)
    assert not again.same
    assert again.diff.of('light curve')['sample_key'].tolist() == [
        before.samples.set_index('object_id')['sample_key']['ZTF24004']
    ]
    assert all(len(before.light_curve(i)) == EPOCHS for i in range(NIGHTS))


@pytest.mark.parametrize('column', ['mjd', 'known_mjd'])
@pytest.mark.parametrize('verify', [True, False])
def test_a_planted_later_epoch_is_refused(version, tmp_path, column, verify):
    def plant(table):
        last = table.iloc[[-1]]
        return pd.concat([table, last.assign(**{column: last[column] + 1})])

    folder = tampered(version, tmp_path, plant).folder
    planted = Dataset(folder, verify=verify)
    with pytest.raises(Conflict, match='1 epochs .* 1.00000 days after it.*see the future'):
        planted.light_curve(NIGHTS - 1)
    assert len(planted.light_curve(0)) == EPOCHS


@pytest.mark.parametrize(
    'change',
    [
        lambda table: table.assign(mag=table['mag'] - 1),
        lambda table: table.iloc[EPOCHS:],
        lambda table: table.assign(sample=table['sample'] ^ 1),
    ],
    ids=['other', 'gone', 'moved'],
)
def test_epochs_of_another_hash_are_refused(version, tmp_path, change):
    with pytest.raises(Conflict, match='sample 0|known after'):
        tampered(version, tmp_path, change).light_curve(0)


def test_an_edited_file_breaks_the_seal(version, tmp_path):
    shutil.copytree(version.folder, tmp_path / 'copy')
    with open(tmp_path / 'copy' / CURVE_FILE, 'ab') as file:
        file.write(b'!')
    with pytest.raises(Conflict, match='light_curves.parquet is not what was frozen'):
        Dataset(tmp_path / 'copy')


@pytest.mark.parametrize('left', [0, 100, None], ids=['empty', 'cut', 'gone'])
def test_a_broken_file_is_said_without_a_seal_too(version, tmp_path, left):
    shutil.copytree(version.folder, tmp_path / 'copy')
    path = tmp_path / 'copy' / CURVE_FILE
    whole = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(whole[:left])
    with pytest.raises(AstridError, match=CURVE_FILE):
        Dataset(tmp_path / 'copy', verify=False).light_curve(0)


@pytest.mark.parametrize('i', [1.5, '3', None, True, [1], slice(0, 2), np.array([1, 2]), -1, 999])
def test_what_is_no_row_has_no_curve(version, i):
    with pytest.raises(BadInput, match='has rows 0 to 11, not'):
        version.light_curve(i)


def test_a_version_without_epochs_is_as_ever(version, tmp_path):
    params = version.manifest['params']
    without = version.samples.drop(columns='light_curve_sha256')
    assert content_hash(without, params) != version.content_hash
    nothing = without.assign(object_id=None)
    samples, facts = freeze_curves(version.archive, nothing, tmp_path)
    assert facts == {} and list(samples) == list(nothing) and not list(tmp_path.iterdir())


def test_exports_carry_the_curves_or_say_so(version, tmp_path):
    curves = {
        row.sample_key: version.light_curve(i).table
        for i, row in enumerate(version.samples.itertuples())
    }
    files = version.export(tmp_path / 'hf').rglob('*.parquet')
    rows = pd.concat(pd.read_parquet(file) for file in files)
    for key, epochs in zip(rows['sample_key'], rows['light_curve']):
        assert [epoch['mjd'] for epoch in epochs] == curves.pop(key)['mjd'].tolist()
    assert not curves
    n = 0
    for path in version.export(tmp_path / 'tar', 'webdataset').glob('*.tar'):
        with tarfile.open(path) as tar:
            members = [m for m in tar.getmembers() if m.name.endswith('.json')]
            n += sum(len(json.load(tar.extractfile(m))['light_curve']) for m in members)
    assert n == EPOCHS * NIGHTS
    npz = next(version.export(tmp_path / 'npz', 'npz').glob('*.npz'))
    assert json.loads(str(np.load(npz)['about']))['left_out'] == ['light_curves']


MODES = dict(
    mapped=dict(mode='mapped'),
    ram=dict(mode='ram', threads=1, prefetch=0),
    fork=dict(workers=1, start='fork'),
    spawn=dict(workers=1, start='spawn'),
    device=dict(mode='device', device='cpu', resident=True),
    sent=dict(mode='device', device='cpu', resident=False),
)


def expected(curve, most):
    "What a batch holds of the last epochs of a light curve, column by column; NaN where unknown"
    last = curve.table.tail(most)
    mag, flux = last['mag'].to_numpy('f8'), last['flux'].to_numpy('f8')
    sign = np.where(last['is_positive'].isin([False]), -1, 1)
    made = sign * 10 ** ((31.4 - mag) / 2.5)
    made_error = abs(made) * last['mag_error'].to_numpy('f8') * np.log(10) / 2.5
    return dict(
        days=last['mjd_utc'] - curve.at,
        flux=np.where(np.isnan(flux), made, flux),
        flux_error=np.where(np.isnan(flux), made_error, last['flux_error']),
        mag=mag,
        mag_error=last['mag_error'],
        limit_mag=last['limit_mag'],
        band=last['band'].map(dict(g=2, r=3, i=4)),
        is_limit=last['kind'].map(dict(detection=0, limit=1, forced=0)),
        is_forced=last['kind'].map(dict(detection=0, limit=0, forced=1)),
    )


@pytest.mark.parametrize('how', MODES)
def test_batches_give_the_last_epochs_and_what_is_padding(version, how):
    most = EPOCHS - 1
    loaders = ad.RealDataLoader(version).loaders(batch_size=4, light_curve=most, **MODES[how])
    n = 0
    for batch in loaders[0]:
        values, valid = batch['light_curve'].numpy(), batch['light_curve_valid'].numpy()
        assert values.shape == valid.shape == (len(batch['index']), most, len(CURVE_VALUES))
        assert (values.dtype, valid.dtype) == (np.dtype('f4'), np.dtype(bool))
        for i, row, good in zip(batch['index'].tolist(), values, valid):
            columns = expected(version.light_curve(i), most)
            assert list(columns) == list(CURVE_VALUES)
            kinds = row[:, CURVE_VALUES.index('is_limit') :].T.tolist()
            assert kinds == [[0, 0, 1, 0], [0, 1, 0, 0]]
            for k, (name, column) in enumerate(columns.items()):
                wanted = np.asarray(column, 'f8')
                assert (good[:, k] == ~np.isnan(wanted)).all(), name
                assert np.allclose(row[:, k], np.nan_to_num(wanted), rtol=1e-5, atol=1e-5), name
            assert (row[:, 0] <= MILLISECOND).all()
            n += 1
    assert n == version.manifest['splits']['train'] > 0


def test_a_band_has_one_number_in_all_versions(version, tmp_path):
    def names(version):
        return version.manifest['light_curves']['bands']

    fewer = filled(tmp_path)
    with fewer.session() as session:
        session.execute(delete(EpochRow).where(EpochRow.band == 'g'))
        session.commit()
    fewer = freeze(fewer)
    assert (names(version), names(fewer)) == (['g', 'i', 'r'], ['i', 'r'])
    k = CURVE_VALUES.index('band')
    for frozen in version, fewer:
        batch = PatchDataset(frozen, 'all', light_curve=EPOCHS).read(np.arange(len(frozen)))
        for i, row in enumerate(batch['light_curve'][..., k].numpy()):
            bands = frozen.light_curve(i).table['band']
            assert row[: len(bands)].tolist() == bands.map(dict(g=2, r=3, i=4)).tolist()


def test_an_unknown_band_is_no_band():
    codes = [band_code(band) for band in ('unknown', '', None, np.nan)]
    assert np.isnan(codes).all()
    others = {band_code(band) for band in ('F606W', 'F814W', 'clear', 'g ')}
    assert len(others) == 4 and min(others) > 100 and max(others) < 2**24


def test_what_is_behind_the_last_epoch_is_padding(version):
    item = PatchDataset(version, [0], light_curve=EPOCHS + 2)[0]
    assert item['light_curve_valid'][:, 0].tolist() == [True] * EPOCHS + [False] * 2
    assert not item['light_curve_valid'][EPOCHS:].any() and not item['light_curve'][EPOCHS:].any()


def test_batches_without_curves_are_as_ever(version):
    plain = PatchDataset(version, [0, 1]).__getitems__([0, 1]).batch
    curves = PatchDataset(version, [0, 1], light_curve=2).__getitems__([0, 1]).batch
    assert curves.keys() - plain.keys() == {'light_curve', 'light_curve_valid'}
    assert (plain['image'] == curves['image']).all()


def test_a_version_without_curves_gives_padding_and_says_so(tmp_path, version):
    samples = version.samples.drop(columns='light_curve_sha256').iloc[:4]
    dataset = write_dataset(tmp_path / 'v', samples, np.array(version.patches()[:4])[:, :1])
    with pytest.warns(UserWarning, match='holds no light curves'):
        batch = PatchDataset(dataset, [0, 1], light_curve=5).read(np.array([0, 1]))
    assert batch['light_curve_valid'].shape[:2] == (2, 5)
    assert not batch['light_curve_valid'].any()


@pytest.mark.parametrize('wrong', [0, -1, 1.5, True, 'all', [3], (3,), {3: 3}, np.array([3])])
def test_a_number_of_epochs_is_a_number(version, wrong):
    with pytest.raises(BadInput, match='light_curve'):
        PatchDataset(version, [0], light_curve=wrong)


def test_no_batch_of_real_alerts_sees_the_future(tmp_path, shared_data):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)
    real = freeze(archive, 'ztf')
    assert len(real) > 280
    batch = PatchDataset(real, 'all', light_curve=64).read(np.arange(len(real)))
    is_epoch = batch['light_curve_valid'][..., 0]
    assert is_epoch.any(1).all()  # Each has at least itself
    later = int((batch['light_curve'][..., 0][is_epoch] > 2 * MILLISECOND).sum())
    table = pd.read_parquet(real.folder / CURVE_FILE)
    day = real.samples['mjd'].to_numpy()[table['sample']]
    newest = np.maximum(table['mjd'], table['known_mjd'])
    later += int((newest > day + MILLISECOND).sum())
    assert (later, len(table)) == (0, real.manifest['light_curves']['epochs'])


def test_a_drawn_curve_ends_at_its_sample(version):
    axes = version.show_source(0).axes[-1]
    assert axes.get_ylabel() == 'flux of the difference (nJy)' and not axes.yaxis_inverted()
    assert axes.get_xlabel() == 'days from the sample'
    days = [x for line in axes.lines for x in np.asarray(line.get_xdata(), 'f8')]
    assert len(days) > 4 and max(days) <= 1e-6
    assert f'<p>{EPOCHS * NIGHTS} epochs of 12 samples' in report_html(version)


def test_the_report_draws_the_longest_curves(tmp_path):
    version = freeze(filled(tmp_path, past=lambda k: past_of(k) if k in (4, 9) else []))
    lengths = _epochs_per_sample(version)
    assert sorted(lengths) == [EPOCHS - 3] * (NIGHTS - 2) + [EPOCHS] * 2
    drawn = [axes.get_title() for axes in _curves_figure(version, lengths, most=2).axes]
    assert sorted(title.split(',')[0] for title in drawn) == ['ZTF24004', 'ZTF24009']
    assert '(median 2 of each)' in report_html(version)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(format=99), 'have the format 99'),
        (dict(bands='gri'), 'no facts of light curves'),
        (dict(epochs='many'), 'no facts of light curves'),
        (None, 'no word of them'),
    ],
)
def test_what_a_manifest_says_of_curves_is_not_believed_blindly(version, changes, words):
    facts = version.manifest['light_curves']
    manifest = {name: value for name, value in version.manifest.items() if name != 'light_curves'}
    if changes is not None:
        manifest['light_curves'] = facts | changes
    other = copy_of(version)
    other.manifest = manifest
    with pytest.raises(Conflict, match=words):
        other.light_curve(0)


def copy_of(version):
    "The same version, whose manifest may be changed"
    from copy import copy

    return copy(version)


@pytest.mark.parametrize(
    'change',
    [
        lambda table: table.assign(mjd_scale='\x1fjunk'),
        lambda table: table.assign(mag='bright'),
        lambda table: table.drop(columns='known_mjd'),
        lambda table: table.assign(field=b'\xff'),
        lambda table: table.assign(sample=table['sample'].astype(str)),
    ],
)
def test_columns_that_were_written_otherwise_are_said(version, tmp_path, change):
    copy = tampered(version, tmp_path, change)
    with pytest.raises(Conflict, match=CURVE_FILE):
        [copy.light_curve(i) for i in range(NIGHTS)]


def test_curves_that_were_sealed_anew_are_not_those_of_the_registry(tmp_path):
    archive = filled(tmp_path / 'home')
    frozen = freeze(archive)
    late = tampered(frozen, tmp_path, lambda table: table.assign(known_mjd=table['mjd'] + 99))
    for name in ('manifest.json', CURVE_FILE, 'seal.json'):
        (frozen.folder / name).chmod(0o644)
        (frozen.folder / name).write_bytes((late.folder / name).read_bytes())
    alone = Dataset(frozen.folder).verify()  # Its own seal has nothing against it
    with pytest.raises(Conflict, match='seal.json is not what was frozen'):
        ad.open_dataset(ad.open_archive(tmp_path / 'home'), frozen.address)
    with pytest.raises(Conflict, match='A model would see the future'):
        alone.light_curve(0)
