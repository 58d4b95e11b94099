"Files as others write them: no plane becomes sky, no stamp is lost without a word, no name is of a field"

import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import select
from stamping import cards, kept, pixels, write_tar

from astrid_data.core import BadInput
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.stamp_files import read_stamps
from astrid_data.ingest.stamp_records import StampWords, stamp_of
from astrid_data.ingest.stamp_sets import add_stamps
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    Image,
    Observation,
    ValidationEvent,
)


def write(path, *images):
    "A FITS file of images, each as name, EXTVER and pixels"
    hdus = [fits.ImageHDU(one, cards(), name=name, ver=ver) for name, ver, one in images]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def roles(archive):
    "Name and role of what is stored -> its pixels and the names of its extensions"
    return {key: (array, [*beside]) for key, (array, beside) in kept(archive).items()}


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


@pytest.mark.parametrize('helpers', [['ERR', 'SEG', 'BKG'], ['SEG'], ['PSF', 'ODD']])
def test_helper_planes_of_a_file_are_no_sky(archive, tmp_path, helpers):
    write(tmp_path / 'a.fits', *((name, 1, pixels(k)) for k, name in enumerate(['SCI', *helpers])))
    report = archive.add_stamps(tmp_path / 'a.fits', 'a', show=False)
    assert (report.added, report.lost) == (1, [])
    ((key, (found, planes)),) = roles(archive).items()
    assert key == ('a', 'science') and np.array_equal(found, pixels(0))
    assert planes == [name for name in helpers if name == 'ERR']
    for name in set(helpers) - {'ERR'}:
        assert any(f'the image {name}:' in note for note in report.notes)


def test_a_psf_of_a_record_is_no_channel(archive):
    row = dict(science=pixels(), psf_image=pixels(1), bkg=pixels(2), ra=1.0, dec=1.0, id='a')
    report = archive.add_stamps([row], 'a', show=False)
    assert [*roles(archive)] == [('a', 'science')]
    assert sum('by its name no sky' in note for note in report.notes) == 2


def test_planes_in_files_beside_are_of_one_stamp(archive, tmp_path):
    for k in (1, 2):
        for i, word in enumerate(('sci', 'wht', 'seg', 'mask', 'psf')):
            name = tmp_path / 'set' / f'obj{k}_{word}.fits'
            name.parent.mkdir(exist_ok=True)
            fits.PrimaryHDU(pixels(10 * k + i), cards(CRVAL1=30.0 + k)).writeto(name)
    for survey, source in (('a', tmp_path / 'set'), ('b', tmp_path / 'set' / '*')):
        report = archive.add_stamps(source, survey, show=False)
        assert (report.added, report.lost) == (2, [])
    found = roles(archive)
    assert {*found} == {('obj1', 'science'), ('obj2', 'science')}
    assert found['obj1', 'science'][1] == ['WHT']
    lone = archive.add_stamps(tmp_path / 'set' / 'obj1_psf.fits', 'c', show=False)
    assert (lone.added, lone.ledger['reason'].tolist()) == (0, ['no_image'])


@pytest.mark.parametrize('vers', [(1, 2), (1, 1)])
def test_one_stamp_for_each_version(archive, tmp_path, vers):
    images = [('SCI', vers[0], pixels(1)), ('ERR', vers[0], pixels(2))]
    images += [('SCI', vers[1], pixels(3)), ('ERR', vers[1], pixels(4))]
    write(tmp_path / 'a.fits', *images)
    assert archive.add_stamps(tmp_path / 'a.fits', 'a', show=False).added == 2
    found = roles(archive)
    assert {*found} == {('a,1', 'science'), ('a,2', 'science')}
    assert np.array_equal(found['a,2', 'science'][0], pixels(3))
    assert all(planes == ['ERR'] for _, planes in found.values())


@pytest.mark.parametrize('target, ra', [(40.0, 33.0), (33.0001, 33.0001)])
@pytest.mark.parametrize('end', ['', '_TARG'])
def test_the_wcs_is_before_the_target(archive, tmp_path, target, ra, end):
    header = cards(TARGNAME='COSMOS', OBJECT='COSMOS', **{f'RA{end}': target, f'DEC{end}': -5.0})
    fits.PrimaryHDU(pixels(), header).writeto(tmp_path / 'a.fits')
    archive.add_stamps(tmp_path / 'a.fits', 'a', show=False)
    with archive.session() as s:
        assert s.scalars(select(DetectionIndex.object_id)).one() is None
        assert abs(s.scalars(select(Observation.ra)).one() - ra) < 1e-9


def test_the_target_is_no_place_without_a_wcs(archive, tmp_path):
    header = fits.Header(dict(RA_TARG=1.0, DEC_TARG=1.0))
    fits.PrimaryHDU(pixels(), header).writeto(tmp_path / 'a.fits')
    report = archive.add_stamps(tmp_path / 'a.fits', 'a', show=False)
    assert report.ledger['reason'].tolist() == ['no_position']


@pytest.mark.parametrize('source', ['*', ''])
def test_foreign_files_cost_themselves(archive, tmp_path, source):
    folder = tmp_path / 'set'
    folder.mkdir()
    (folder / 'a_notes.txt').write_text('read me')
    (folder / 'b_gone.fits').symlink_to(tmp_path / 'nowhere.fits')
    fits.PrimaryHDU(pixels(1), cards()).writeto(folder / 'c.fits')
    for ending in ('.fit.gz', '.fits.gz'):
        fits.PrimaryHDU(pixels(len(ending)), cards()).writeto(folder / f'd{len(ending)}{ending}')
    np.save(folder / 'e1.npy', pixels(2)[None])
    pd.DataFrame(dict(ra=[1.0], dec=[2.0])).to_csv(folder / 'e1.csv', index=False)
    out = io.BytesIO()
    np.savez(out, image=pixels(3), ra=1.0, dec=9.0)
    write_tar(folder / 'f.tgz', [('s.npz', out.getvalue())], 'w:gz')
    report = archive.add_stamps(folder / source if source else folder, 'a', show=False)
    lost = dict(zip(report.ledger['uri'].str.rsplit('/').str[-1], report.ledger['reason']))
    expected = {'a_notes.txt': 'unreadable', 'b_gone.fits': 'missing_file'}
    assert {name: lost.get(name) for name in expected} == expected
    assert report.added == 5, report.ledger
    assert {*lost} - {'e1.csv'} == {*expected}


def test_classes_are_words(archive):
    named = ['AGN', b'SN Ia', np.nan]
    rows = [dict(image=pixels(k), ra=1.0 * k, dec=1.0, c=one) for k, one in enumerate(named)]
    report = archive.add_stamps(rows, 'a', is_real=True, class_name='c', show=False)
    with archive.session() as s:
        labels = s.scalars(select(ValidationEvent.label)).all()
    assert report.added == 3 and sorted(labels) == ['AGN', 'SN Ia', 'source']
    alone = archive.add_stamps(rows, 'b', class_name='c', show=False)
    assert any('a class without a verdict' in note for note in alone.notes)
    slip = archive.add_stamps(rows, 'c', is_real=True, class_name='klass', show=False)
    assert {*slip.ledger['reason']} == {'bad_class'}


def test_a_copy_in_another_byte_order_is_one():
    made = [
        stamp_of('a', dict(image=pixels().astype(kind), ra=1.0, dec=1.0), StampWords())
        for kind in ('<f4', '>f4')
    ]
    assert made[0].digest == made[1].digest


def test_lists_and_cubes_are_named_as_unused():
    row = dict(
        image=pixels(), ra=1, dec=1, flux=[1.0], curve=np.ones(3), cube=np.ones((1, 2, 3, 4))
    )
    said = stamp_of('a', row, StampWords()).unused
    assert all(
        any(f'the field {name}:' in one for one in said) for name in ('flux', 'curve', 'cube')
    )


def test_many_stamps_at_one_place_are_counted(archive):
    n = 3000
    from astrid_data.ingest.stamp_sets import _object_notes, _places_of

    rng = np.random.default_rng(0)
    ra = np.r_[10 + rng.normal(0, 2e-5, n), 50.0, 50.0 + 0.9 / 3600, 70.0]
    dec = np.r_[rng.normal(0, 2e-5, n), 0.0, 0.0, 0.0]
    place = _places_of(ra, dec)
    assert len({*place[:n]}) == 1 and place[n] == place[n + 1] and len({*place}) == 3
    notes = _object_notes([(str(i), None, a, d) for i, (a, d) in enumerate(zip(ra, dec))])
    assert len(notes) == 1 and notes[0].startswith(f'{n + 2} stamps at 2 places')


def test_ids_stay_exact_and_short_floats_short(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [pixels(k).tolist() for k in range(2)]
    pq.write_table(pa.table(dict(image=images)), tmp_path / 'a.parquet')
    table = pd.DataFrame(dict(candid=[2**60 + 1, 2**60 + 3], ra=[1.0, 2.0], dec=[0.0, 0.0]))
    table['jd'] = np.float32(2459000.7)
    for source in (tmp_path / 'a.parquet', dict(images=np.array(images))):
        rows = [
            one.record() if hasattr(one, 'record') else one for _, one in read_stamps(source, table)
        ]
        assert [row['candid'] for row in rows] == [2**60 + 1, 2**60 + 3]
        assert stamp_of('a', rows[0], StampWords()).mjd is None


def test_groups_with_single_values(archive, tmp_path):
    h5py = pytest.importorskip('h5py')
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        for k in range(2):
            group = file.create_group(f'o{k}')
            group['image'], group['ra'], group['dec'] = pixels(k), 10.0 + k, 1.0
            group['band'] = 'g'
    report = archive.add_stamps(tmp_path / 'a.h5', 'a', show=False)
    assert (report.added, report.lost) == (2, [])
    assert {*archive.observations()['band']} == {'g'}


def test_points_in_names_of_files_are_kept(archive, tmp_path):
    for k in (1, 2):
        name = tmp_path / 'set' / f'ra150.{k}_dec2.0.fits'
        name.parent.mkdir(exist_ok=True)
        fits.PrimaryHDU(pixels(k), cards(CRVAL1=150 + k / 10)).writeto(name)
    assert archive.add_stamps(tmp_path / 'set', 'a', show=False).added == 2
    assert {name for name, _ in roles(archive)} == {'ra150.1_dec2.0', 'ra150.2_dec2.0'}


def test_a_column_of_labels_names_no_object():
    assert (
        stamp_of('a', dict(image=pixels(), ra=1, dec=1, target=1), StampWords()).object_id is None
    )


def test_each_parameter_has_its_own_words():
    from fastcore.docments import docments

    words = docments(add_stamps)
    assert words['is_real'].startswith('A verdict') and words['columns'].startswith('What files')


@pytest.mark.parametrize('how', [dict(time_scale='tai'), dict(columns=dict(mjd='t'))])
def test_dates_have_the_scale_that_is_said(archive, how):
    named = 't' if 'columns' in how else 'date'
    row = {'image': pixels(), 'ra': 1.0, 'dec': 1.0, named: '2020-05-31T06:00:00', 'id': 'a'}
    row |= {} if 'time_scale' in how else dict(TIMESYS='TAI')
    archive.add_stamps([row], 'a', show=False, **how)
    with archive.session() as s:
        mjd = s.scalars(select(Image.mjd)).one()
    assert abs((59000.25 - mjd) * 86400 - 37) < 1e-3
    report = archive.add_stamps(
        [row | dict(TIMESYS=None, id='b', image=pixels(1))],
        'b',
        show=False,
        columns=dict(mjd=named),
    )
    assert any('taken as UTC' in note for note in report.notes)


def test_a_slip_of_a_column_is_told_at_once(archive):
    row = dict(image=pixels(), ra=1.0, dec=1.0, mjd=59000.0)
    with pytest.raises(BadInput, match='mjdd'):
        archive.add_stamps([row], 'a', columns=dict(mjd='mjdd'), show=False)


def test_bands_may_be_numbers_of_the_survey(archive):
    row = dict(image=pixels(), ra=1.0, dec=1.0, fid=1)
    archive.add_stamps([row], 'ztf', show=False)
    assert archive.observations()['band'].tolist() == ['g']


def test_added_again_brings_the_verdict(archive):
    row = dict(image=pixels(), ra=1.0, dec=1.0, id='a')
    archive.add_stamps([row], 'a', show=False)
    report = archive.add_stamps([row | dict(mjd=59000.0)], 'a', is_real=False, show=False)
    assert (report.added, report.skipped, sum(report.verdicts.values())) == (0, 1, 1)
    assert report.notes == ['the time of 1 stamp that is there already, as a, is known now']
    with archive.session() as s:
        assert s.scalars(select(Detection.is_validated)).one()
        assert s.scalars(select(ValidationEvent.is_valid)).all() == [False]
    again = archive.add_stamps([row], 'a', is_real=True, show=False)
    assert (again.added, again.skipped, sum(again.verdicts.values())) == (0, 1, 1)
    once_more = archive.add_stamps([row], 'a', is_real=True, show=False)
    assert (once_more.verdicts, once_more.notes) == ({}, [])
    with archive.session() as s:
        events = select(ValidationEvent.is_valid).order_by(ValidationEvent.created_at)
        assert s.scalars(events).all() == [False, True]
        assert s.scalars(select(Detection.status)).one().value == 'confirmed'


def test_npz_stamps_of_a_tar(archive, tmp_path):
    "A WebDataset of three stamps, each a file of NPZ"
    members = []
    for k in range(3):
        out = io.BytesIO()
        np.savez(out, image=pixels(k), ra=1.0 + k, dec=9.0)
        members.append((f's{k}.npz', out.getvalue()))
    write_tar(tmp_path / 'set.tar', members)
    report = archive.add_stamps(tmp_path / 'set.tar', 'a', show=False)
    assert (report.added, report.lost) == (3, [])
    found = {array.astype('f4').tobytes() for array, _ in kept(archive).values()}
    assert found == {pixels(k).tobytes() for k in range(3)}


def test_an_npy_head_in_a_tar_that_says_too_much_costs_itself(archive, tmp_path):
    "Two gigabytes by its head, in each version of it, and no number behind"
    members = []
    for version in (1, 2, 3):
        head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (250000000,)}\n"
        size = len(head).to_bytes(2 if version == 1 else 4, 'little')
        members.append((f's{version}.npy', b'\x93NUMPY' + bytes([version, 0]) + size + head))
    write_tar(tmp_path / 'set.tar', members)
    report = archive.add_stamps(tmp_path / 'set.tar', 'a', show=False)
    assert report.ledger['reason'].tolist() == ['truncated'] * 3
    assert report.ledger['detail'].str.contains('says 2,000,000,000 bytes').all()
