"Stamps that others cut: bit-equal from every container, each loss told, nothing doubled, and usable to the end"

import io
import json
import signal
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from dying import die, run_forked
from sqlalchemy import func, select
from stamping import SIDE, cards, kept, npy_bytes, write_tar

from astrid_data.collect.collector import TrainingDataCollector
from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.core import BadInput
from astrid_data.images.image import open_image
from astrid_data.ingest.archive import UNKNOWN_TIME, open_archive
from astrid_data.registry.tables import Detection, DetectionIndex, Image, Observation
from astrid_data.storage.packs import stored_bytes

CHANNELS = ['template', 'science', 'difference']
N = 4


def stamps(n=N, channels=3, kind='f4', seed=0):
    "Made-up pixels (n, channels, y, x)"
    return np.random.default_rng(seed).normal(100, 9, (n, channels, SIDE, SIDE)).astype(kind)


def places(n=N, ids=True):
    "Columns of a table"
    table = dict(ra=10.0 + np.arange(n), dec=np.zeros(n), mjd=59000.0 + np.arange(n))
    return (dict(source_id=np.arange(n) + 2**60) if ids else {}) | table


def stored(archive):
    "Name of the stamp and channel -> the pixels as they lie in the archive"
    return {key: array for key, (array, _) in kept(archive).items()}


def assert_same(archive, pixels, names=None, channels=CHANNELS):
    "Each stamp of `pixels` (n, channels, y, x) is in the archive, bit for bit and in its type"
    found = stored(archive)
    assert len(found) == pixels.shape[0] * pixels.shape[1]
    names = names or [str(2**60 + i) for i in range(len(pixels))]
    for name, some in zip(names, pixels):
        for channel, one in zip(channels, some):
            mine = found[name, channel]
            assert mine.dtype.newbyteorder('=') == one.dtype.newbyteorder('=')
            assert np.array_equal(mine, one, equal_nan=one.dtype.kind == 'f')


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


@pytest.mark.parametrize('kind', ['f4', 'f8', 'i2', 'u2', 'i4', 'u1', '>f4', 'f2'])
@pytest.mark.parametrize('last', [True, False])
def test_npz(archive, tmp_path, kind, last):
    pixels = stamps(kind=kind)
    pixels[0, 0, 0, 0] = np.nan if pixels.dtype.kind == 'f' else 0
    array = np.moveaxis(pixels, 1, -1) if last else pixels
    np.savez(tmp_path / 'a.npz', triplets=array, **places())
    with pytest.raises(BadInput):
        archive.add_stamps(tmp_path / 'a.npz', 'a', mask='yes')
    report = archive.add_stamps(tmp_path / 'a.npz', 'a', channels=CHANNELS, show=False)
    assert (report.added, report.lost) == (N, [])
    assert_same(archive, pixels.astype('f4') if kind == 'f2' else pixels)


def test_npz_with_a_channel_an_array_and_a_table(archive, tmp_path):
    pixels = stamps()
    names = ('reference', 'science', 'diff')
    arrays = {name: pixels[:, k] for k, name in enumerate(names)}
    np.savez(tmp_path / 'a.npz', **arrays)
    pd.DataFrame(places()).to_csv(tmp_path / 'a.csv', index=False)
    assert archive.add_stamps(tmp_path / 'a.npz', 'a', show=False).added == N
    assert_same(archive, pixels)


def test_npy_and_a_table(archive, tmp_path):
    pixels = stamps(channels=1)
    np.save(tmp_path / 'a.npy', pixels[:, 0])
    report = archive.add_stamps(tmp_path / 'a.npy', 'a', table=pd.DataFrame(places()), show=False)
    assert (report.added, report.lost) == (N, [])
    assert_same(archive, pixels, channels=['image'])


def test_folder_of_xscan(archive, tmp_path):
    pixels, folder = stamps(), tmp_path / 'prepared'
    folder.mkdir()
    for k, name in enumerate(('template', 'search', 'difference')):
        np.save(folder / f'{name}.npy', pixels[:, k])
    np.save(folder / 'labels.npy', np.array([1, 0, 1, 0]))
    np.save(folder / 'split.npy', np.array([0, 0, 1, 2]))
    rows = pd.DataFrame(places()).rename(columns=dict(source_id='candidate_id')).to_dict('records')
    (folder / 'metadata.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    report = archive.add_stamps(folder, 'des', is_real='labels', show=False)
    assert (report.added, sum(report.verdicts.values())) == (N, N)
    assert_same(archive, pixels)


def test_fits_with_a_stamp_an_extension(archive, tmp_path):
    pixels = stamps(channels=1)
    hdus = [fits.PrimaryHDU()]
    for i, one in enumerate(pixels[:, 0]):
        hdus.append(fits.ImageHDU(one, name=f'S{i}'))
        hdus[-1].header.update(RA=10.0 + i, DEC=1.0, FILTER='g', MJD_OBS=59000.5)
        hdus[-1].header['MJD-OBS'] = 59000.5
    fits.HDUList(hdus).writeto(tmp_path / 'a.fits')
    report = archive.add_stamps(tmp_path / 'a.fits', 'a', show=False)
    assert (report.added, report.lost) == (N, [])
    assert_same(archive, pixels, [f'S{i}' for i in range(N)], ['image'])
    assert set(archive.observations()['band']) == {'g'}


def test_fits_with_planes_and_a_wcs(archive, tmp_path):
    pixels = stamps(n=1, channels=2)
    mask = np.zeros((SIDE, SIDE), 'u1')
    mask[3, 4] = 1
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.ImageHDU(pixels[0, k], cards(), name=CHANNELS[k]) for k in (0, 1)]
    hdus += [fits.ImageHDU(mask, name='SCIENCE_BPM'), fits.ImageHDU(mask + 2.0, name='SCIENCE_ERR')]
    fits.HDUList(hdus).writeto(tmp_path / 'obj1.fits')
    report = archive.add_stamps(tmp_path / 'obj1.fits', 'a', show=False)
    assert (report.added, report.lost) == (1, [])
    assert_same(archive, pixels, ['obj1'])
    row = archive.observations().iloc[0]
    assert abs(row.ra - 33) < 1e-9 and abs(row.dec + 5) < 1e-9
    with archive.session() as s:
        image = s.scalars(select(Image).where(Image.role == 'science')).one()
        assert abs(image.facts['stamp_scale_arcsec'] - 0.36) < 1e-9
        assert 'wcs' not in image.facts['missing'] and 'mjd' in image.facts['missing']
        uri = image.uri
    with open_image(stored_bytes(archive.store, uri)) as opened:
        _, bad = opened.read_all()
        assert set(opened.planes) == {'image', 'dq'} and np.argwhere(bad).tolist() == [[3, 4]]
    with fits.open(io.BytesIO(stored_bytes(archive.store, uri))) as file:
        assert np.array_equal(file['ERR'].data, mask + 2.0)


def mmu_rows(pixels, masks):
    "Rows as the Multimodal Universe writes them"
    bands = ['hsc-g', 'hsc-r', 'hsc-i']
    for i, some in enumerate(pixels):
        image = [
            dict(
                band=band,
                flux=one.tolist(),
                ivar=(one * 0 + 1).tolist(),
                mask=masks[i].tolist(),
                scale=0.168,
            )
            for band, one in zip(bands, some)
        ]
        yield dict(image=image, object_id=f'o{i}', ra=10.0 + i, dec=1.0, z_spec=0.1)


def test_parquet_of_the_multimodal_universe(archive, tmp_path):
    pixels, masks = stamps(), np.ones((N, SIDE, SIDE), bool)
    array = pa.list_(pa.list_(pa.float32()))
    part = dict(
        band=pa.string(),
        flux=array,
        ivar=array,
        mask=pa.list_(pa.list_(pa.bool_())),
        scale=pa.float32(),
    )
    schema = dict(
        image=pa.list_(pa.struct(part)), object_id=pa.string(), ra=pa.float64(), dec=pa.float64()
    )
    schema = pa.schema(schema | dict(z_spec=pa.float32()))
    rows = list(mmu_rows(pixels, masks))
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / 'a.parquet')
    report = archive.add_stamps(tmp_path / 'a.parquet', 'hsc', show=False)
    assert (report.added, report.lost) == (N, [])
    names = {name for name, _ in stored(archive)}
    assert all(name.startswith('o') for name in names)
    order = sorted(names)
    assert_same(archive, pixels, order, ['hsc-g', 'hsc-r', 'hsc-i'])
    assert any("say mask='bad' or 'good'" in note for note in report.notes)
    with archive.session() as s:
        assert abs(s.scalars(select(Observation.pixel_scale)).first() - 0.168) < 1e-6


def test_parquet_of_arrays_and_pictures(archive, tmp_path):
    pixels = stamps(channels=1)[:, 0].astype('f8')
    rows = [dict(image=one.tolist(), ra=1.0 * i, dec=0.0) for i, one in enumerate(pixels)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / 'a.parquet')
    assert archive.add_stamps(tmp_path / 'a.parquet', 'a', show=False).added == N
    assert_same_pixels = {one.tobytes() for one in pixels}
    assert {one.astype('f8').tobytes() for one in stored(archive).values()} == assert_same_pixels
    png = dict(image=dict(bytes=b'\x89PNG' + bytes(99), path=None), ra=1.0, dec=1.0)
    pq.write_table(pa.Table.from_pylist([png]), tmp_path / 'b.parquet')
    report = archive.add_stamps(tmp_path / 'b.parquet', 'a', show=False)
    assert report.ledger['reason'].tolist() == ['picture']


@pytest.mark.parametrize('mode', ['w', 'w:gz'])
def test_webdataset(archive, tmp_path, mode):
    pixels = stamps()
    members = []
    for i, some in enumerate(pixels):
        files = {'json': json.dumps(dict(ra=10.0 + i, dec=1.0)).encode(), 'cls': b'1'}
        files |= {f'{channel}.npy': npy_bytes(one) for channel, one in zip(CHANNELS, some)}
        if i == 2:
            files['science.npy'] = files['science.npy'][:200]
        members += [(f'train/s{i}.{ending}', data) for ending, data in files.items()]
    write_tar(tmp_path / 'a.tar', members, mode)
    report = archive.add_stamps(tmp_path / 'a.tar', 'a', is_real='label', show=False)
    assert (report.added, report.ledger['uri'].tolist()) == (N - 1, ['a.tar:train/s2'])
    assert_same(archive, pixels[[0, 1, 3]], ['train/s0', 'train/s1', 'train/s3'])


def test_hdf5(archive, tmp_path):
    h5py = pytest.importorskip('h5py')
    pixels = stamps()
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['image_triplet'] = np.moveaxis(pixels, 1, -1)
        for name, values in places().items():
            file[name] = values
    report = archive.add_stamps(tmp_path / 'a.h5', 'a', channels=CHANNELS, show=False)
    assert (report.added, report.lost) == (N, [])
    assert_same(archive, pixels)


def test_hdf5_with_a_group_an_object(archive, tmp_path):
    h5py = pytest.importorskip('h5py')
    pixels = stamps()
    with h5py.File(tmp_path / 'a.hdf5', 'w') as file:
        for i, some in enumerate(pixels):
            group = file.create_group(f'obj{i}')
            group.attrs.update(ra=10.0 + i, dec=1.0)
            for channel, one in zip(CHANNELS, some):
                group[channel] = one
    assert archive.add_stamps(tmp_path / 'a.hdf5', 'a', show=False).added == N
    assert_same(archive, pixels, [f'obj{i}' for i in range(N)])


def test_zarr_of_cutana(archive, tmp_path):
    zarr = pytest.importorskip('zarr')
    pixels, folder = stamps(channels=2), tmp_path / 'out' / 'batch_cutout_process_000_ab12'
    folder.mkdir(parents=True)
    group = zarr.open_group(str(folder / 'images.zarr'), mode='w')
    images = np.ascontiguousarray(np.moveaxis(pixels, 1, -1))
    group.create_array('images', data=images)
    table = pd.DataFrame(
        dict(source_id=[f'T_{i}' for i in range(N)], ra=10.0 + np.arange(N), dec=0.5)
    )
    table['pixel_scale_arcsec_per_pixel'] = 0.1
    table['rescaled_offset_x'] = [0.0, 0.4, 1.2, -1.2]
    table['rescaled_offset_y'] = 0.0
    table.to_parquet(folder / 'images_metadata.parquet')
    report = archive.add_stamps(tmp_path / 'out', 'euclid', channels=['vis', 'nir-y'], show=False)
    assert (report.added, report.lost) == (N, [])
    assert_same(archive, pixels, [f'T_{i}' for i in range(N)], ['vis', 'nir-y'])
    with archive.session() as s:
        xs = s.scalars(select(Detection.pixel_x).order_by(Detection.ra)).all()
    assert xs == [7, 7, 8, 6]


def test_a_missing_library_is_named(archive, tmp_path, monkeypatch):
    (tmp_path / 'a.h5').write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(99))
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ImportError, match=r"pip install 'astrid_data\[stamps\]'"):
        archive.add_stamps(tmp_path / 'a.h5', 'a', show=False)


def test_bad_stamps_cost_themselves(archive):
    good = stamps(n=1)[0, 0]
    bad = dict(
        constant=dict(image=np.ones((5, 5))),
        all_nan=dict(image=np.full((5, 5), np.nan)),
        no_image=dict(flux_column=1.0),
        not_an_image=dict(image=np.zeros((5, 5), complex)),
        unnamed_channels=dict(image=stamps(n=1)[0]),
        no_position=dict(image=good, id='lost'),
        bad_position=dict(image=good, ra=10, dec=100),
        bad_id=dict(image=good, ra=1, dec=1, id=True),
        inexact_id=dict(image=good, ra=1, dec=1, candid=1.2345678901234567e18),
        two_pictures=dict(image=good, data=good, ra=1, dec=1),
        uneven_stamps=dict(science=good, template=good[1:], ra=1, dec=1),
        bad_verdict=dict(image=good, ra=1, dec=1, truth='maybe so'),
    )
    records = [dict(ra=1.0, dec=1.0, truth=1) | one for one in bad.values()]
    for row, reason in zip(records, bad):
        if reason == 'no_position':
            del row['ra']
    report = archive.add_stamps(
        [*records, dict(image=good, ra=5.0, dec=5.0, truth=1)], 'a', is_real='truth', show=False
    )
    assert report.ledger['reason'].tolist() == [*bad]
    assert report.added == 1


def test_copies_and_names_are_told(archive):
    one, other = stamps(n=2)[:, 0]
    rows = [
        dict(image=one, id='a', object_id='sn1', ra=10.0, dec=0.0),
        dict(image=one, id='b', object_id='sn2', ra=11.0, dec=0.0),
        dict(image=other, id='a', object_id='sn3', ra=12.0, dec=0.0),
        dict(image=other, id='c', object_id='sn4', ra=10.0, dec=0.0001),
    ]
    report = archive.add_stamps(rows, 'a', show=False)
    assert report.ledger['reason'].tolist() == ['same_pixels', 'same_id_other_pixels']
    assert report.added == 2 and any('within 1 arcsec' in note for note in report.notes)
    again = archive.add_stamps(rows, 'a', show=False)
    assert (again.added, again.skipped, len(again.ledger)) == (0, 2, 2)


def test_what_is_missing_is_kept(archive):
    row = dict(image=stamps(n=1)[0, 0], ra=10.0, dec=0.0, jd=np.float32(2459000.7))
    report = archive.add_stamps([row], 'a', show=False)
    facts = set(report.missing['fact'])
    assert facts == {'time', 'WCS', 'id', 'name of the object', 'band', 'pixel scale'}
    with archive.session() as s:
        image, seen = s.scalars(select(Image)).one(), s.scalars(select(Observation)).one()
        assert 'lost the hour' in image.facts['missing']['mjd'] and image.mjd is None
        assert seen.observation_time == UNKNOWN_TIME and seen.pixel_scale is None
    assert archive.observations()['observation_time'].tolist() == [None]


def test_tai_times_become_utc(archive):
    row = dict(image=stamps(n=1)[0, 0], ra=10.0, dec=0.0, midpointMjdTai=59000.5, id=1)
    archive.add_stamps([row], 'a', show=False)
    with archive.session() as s:
        mjd = s.scalars(select(Image.mjd)).one()
    assert abs((59000.5 - mjd) * 86400 - 37) < 1e-4


def test_labels_of_others_are_events_only_where_asked(archive):
    row = dict(image=stamps(n=1)[0, 0], ra=10.0, dec=0.0, label=1, drb=0.9)
    assert not archive.add_stamps([row], 'a', show=False).verdicts
    with archive.session() as s:
        facts = s.scalars(select(DetectionIndex.facts)).one()
    assert facts['drb'] == 0.9 and facts['record'] == dict(label=1)


def test_a_mask_needs_its_meaning(archive):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2, 3] = True
    row = dict(image=stamps(n=1)[0, 0], mask=mask, ra=10.0, dec=0.0)
    for survey, meaning, bad in (('a', None, 0), ('b', 'bad', 1), ('c', 'good', SIDE**2 - 1)):
        report = archive.add_stamps([row], survey, mask=meaning, show=False)
        assert any('not used' in note for note in report.notes) == (meaning is None)
        with archive.session() as s:
            query = select(Image.uri).join(Observation, Observation.id == Image.observation_id)
            uri = s.scalars(query.order_by(Image.created_at.desc())).first()
        with fits.open(io.BytesIO(stored_bytes(archive.store, uri))) as file:
            assert (file['MASK'].data.sum() if len(file) > 1 else 0) == bad


def test_a_set_is_built_split_and_loaded(archive):
    "Plan, build, splits and loader work on stamps as on those of alerts"
    n = 40
    pixels = stamps(n=n)
    arrays = dict(images=pixels, ra=np.repeat(10.0 + np.arange(n // 2), 2), dec=np.zeros(n))
    arrays |= dict(object_id=np.repeat(np.arange(n // 2), 2), label=np.repeat([0, 1] * (n // 4), 2))
    report = archive.add_stamps(arrays, 'mailed', channels=CHANNELS, is_real='label', show=False)
    assert report.added == n
    params = TrainingDataCollectionParams(survey_ids=['mailed'], channels=CHANNELS)
    plan = TrainingDataCollector(archive).plan(params)
    assert len(plan.samples) == n, plan.ledger
    dataset = plan.build('mailed', patch_size=SIDE)
    assert len(dataset) == n
    rows = dataset.samples
    assert rows.groupby('object_id')['split'].nunique().max() == 1
    by_bytes = {one.tobytes() for one in pixels}
    data = np.asarray(dataset.patches(slice(None)))
    assert data.shape == (n, len(CHANNELS), SIDE, SIDE)
    assert {np.ascontiguousarray(one, 'f4').tobytes() for one in data} == by_bytes


def add_or_die(home, dies_at, said):
    "Take 60 stamps in, and die before one; counts of those added, skipped and lost are written"
    images = np.random.default_rng(0).normal(size=(60, 15, 15)).astype('f4')

    def given():
        for i, image in enumerate(images):
            if i == dies_at:
                die()
            yield dict(image=image, id=i, ra=1.0 * i, dec=0.0)

    report = open_archive(home).add_stamps(given(), 'a', show=False, chunk=10)
    said.write_text(f'{report.added} {report.skipped} {len(report.lost)}')


def test_killed_and_run_again_loses_nothing(tmp_path):
    def run(at):
        return run_forked(add_or_die, tmp_path / 'home', at, tmp_path / 'said')

    for at in (25, 45):
        assert run(at) == -signal.SIGKILL
    assert run(-1) == 0
    assert (tmp_path / 'said').read_text() == '20 40 0'
    archive = open_archive(tmp_path / 'home')
    with archive.session() as s:
        counts = [
            s.scalar(select(func.count()).select_from(t)) for t in (Observation, Image, Detection)
        ]
    assert counts == [60, 60, 60]
    assert archive.add_stamps([], 'a', show=False).notes[0].startswith('nothing was given')


def test_both_databases(registry_url, tmp_path):
    archive = open_archive(registry_url, storage=str(tmp_path / 'store'), home=tmp_path / 'home')
    rows = [dict(image=one, id=i, ra=1.0 * i, dec=0.0) for i, one in enumerate(stamps()[:, 0])]
    assert archive.add_stamps(rows, 'a', show=False).added == N
    again = archive.add_stamps(rows, 'a', show=False)
    assert (again.added, again.skipped) == (0, N)


def test_real_triplets_of_btsbot(archive, shared_data):
    "The files that go round: an array of triplets and a table of candidates"
    folder = shared_data / 'alerts'
    pixels = np.load(folder / 'btsbot_usage_triplets.npz')['triplets']
    table = pd.read_csv(folder / 'btsbot_usage_candidates.csv')
    how = dict(table=table, channels=['science', 'template', 'difference'], is_real='label')
    lost = archive.add_stamps(dict(images=pixels), 'btsbot', show=False, **how).ledger
    assert set(lost['reason']) == {'inexact_id'} and len(lost) == 39, 'their candid is 2.46644e+18'
    report = archive.add_stamps(
        dict(images=pixels), 'btsbot', columns=dict(id=None), show=False, **how
    )
    assert (report.added, report.lost) == (39, []), report
    assert 'name of the object' not in set(report.missing['fact'])
    found = {one.tobytes() for one in (x.astype('f4') for x in stored(archive).values())}
    wanted = {np.ascontiguousarray(one[..., k]).tobytes() for one in pixels for k in range(3)}
    assert found <= wanted
