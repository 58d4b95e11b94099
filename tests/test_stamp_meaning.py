"What comes in keeps its meaning: masks, units, names, classes, and what is known only the second time"

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.time import Time
from stamping import SIDE, cards, facts, fits_bytes, kept, npy_bytes, pixels, reasons, write_tar

from astrid_data.ingest.archive import open_archive

CHANNELS = ['template', 'science', 'difference']
BAD = np.zeros((SIDE, SIDE), bool)
BAD[3, 4] = True
HERE = dict(ra=1.0, dec=2.0)


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


def two(**more):
    "A set of two stamps in memory"
    return dict(images=np.stack([pixels(1), pixels(2)]), ra=[1.0, 9.0], dec=[0.0, 0.0]) | more


def masked(kind):
    return np.ma.array(pixels(1, kind), mask=BAD)


@pytest.mark.parametrize('kind', ['f4', '>f8', 'i2'])
@pytest.mark.parametrize('as_set', [True, False])
def test_a_mask_is_no_data(archive, kind, as_set):
    source = [dict(image=masked(kind), **HERE)]
    if as_set:
        images = np.ma.stack([masked(kind), np.ma.array(pixels(2, kind))])
        source = two(images=images)
    assert archive.add_stamps(source, 'a', show=False).lost == []
    ((array, beside),) = [one for one in kept(archive).values() if one[1]]
    assert np.argwhere(beside['MASK']).tolist() == [[3, 4]]
    is_float = array.dtype.kind == 'f'
    assert np.argwhere(np.isnan(array)).tolist() == ([[3, 4]] if is_float else [])
    wanted = pixels(1, kind)
    assert np.array_equal(array[~BAD], wanted[~BAD])


def test_masked_facts_are_unknown(archive):
    report = archive.add_stamps(two(ra=np.ma.array([1.0, 9.0], mask=[0, 1])), 'a', show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (1, ['no_position'])


def test_units_of_pixels_and_planes_are_kept(archive):
    row = dict(image=pixels(1) * u.Jy, image_err=pixels(2) * u.mJy, **HERE)
    archive.add_stamps([row], 'a', show=False)
    ((_, beside),) = kept(archive).values()
    assert np.allclose(beside['ERR'], pixels(2) / 1000, rtol=1e-6)
    odd = archive.add_stamps([row | dict(image_err=pixels(2) * u.s)], 'b', show=False)
    assert odd.ledger['reason'].tolist() == ['bad_unit']


def with_units():
    "The same two places, exposures and scales, as people write them"
    q = dict(ra=[1, 2] * u.hourangle, dec=[60, 30] * u.arcmin, exptime=[2, 3] * u.min)
    q |= dict(pixel_scale=[0.01, 0.01] * u.arcmin / u.pix)
    images = two()['images']
    rows = [{key: one[i] for key, one in q.items()} | dict(image=images[i]) for i in range(2)]
    written = Table(
        {key: one.value for key, one in q.items()}, units={k: v.unit for k, v in q.items()}
    )
    return dict(
        arrays=(dict(images=images) | q, None),
        records=(rows, None),
        qtable=(dict(images=images), QTable(q)),
        table=(dict(images=images), written),
        astropy=(QTable(q | dict(image=images)), None),
    )


@pytest.mark.parametrize('how', ['arrays', 'records', 'qtable', 'table', 'astropy'])
def test_units_of_facts_are_kept(archive, how):
    source, table = with_units()[how]
    report = archive.add_stamps(source, 'a', table=table, show=False)
    assert (report.added, report.lost) == (2, [])
    seen = sorted((row[0] for row in facts(archive).values()), key=lambda one: one.ra)
    found = [(one.ra, one.dec, one.exposure_time, one.pixel_scale) for one in seen]
    assert np.allclose(found, [(15, 1, 120, 0.6), (30, 0.5, 180, 0.6)])


def test_units_of_a_fits_table_are_kept(archive, tmp_path):
    table = fits.table_to_hdu(QTable(dict(ra=[0.1, 0.2] * u.rad, dec=[0.1, 0.1] * u.rad)))
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(pixels(k), name=f'S{k}') for k in (1, 2)), table]
    fits.HDUList(hdus).writeto(tmp_path / 'a.fits')
    assert archive.add_stamps(tmp_path / 'a.fits', 'a', show=False).added == 2
    assert np.allclose(sorted(row[0].ra for row in facts(archive).values()), np.degrees([0.1, 0.2]))


def test_a_wrong_unit_is_told(archive):
    row = dict(image=pixels(1), ra=1 * u.Jy, dec=1.0)
    report = archive.add_stamps([row], 'a', show=False)
    assert report.ledger['reason'].tolist() == ['bad_unit']


def test_units_of_other_facts_stand_beside(archive):
    row = dict(
        image=pixels(1), flux=2.0 * u.Jy, when=Time(59000.0, format='mjd', scale='tai'), **HERE
    )
    archive.add_stamps([row], 'a', columns=dict(mjd='when'), show=False)
    ((_, image, index),) = facts(archive).values()
    assert index.facts['record'] == dict(flux=2.0, flux_unit='Jy')
    assert abs((59000 - image.mjd) * 86400 - 37) < 1e-3


def square():
    "As many stamps as a stamp has rows"
    n = SIDE
    images = np.stack([pixels(k) for k in range(n)])
    return dict(images=images, ra=np.arange(n, dtype=float), dec=np.zeros(n))


def triplets():
    images = np.stack([np.stack([pixels(3 * i + k) for k in range(3)]) for i in range(2)])
    return two(images=images)


@pytest.mark.parametrize(
    'arrays, mask',
    [
        (two(), BAD),
        (two(), BAD[None]),
        (square(), BAD),
        (triplets(), BAD),
        (triplets(), np.stack([BAD] * 3)),
    ],
)
def test_one_mask_for_all_stamps(archive, arrays, mask):
    channels = CHANNELS if arrays['images'].ndim == 4 else ()
    how = dict(channels=channels, mask='bad', show=False)
    report = archive.add_stamps(arrays | dict(mask=mask), 'a', **how)
    assert (report.added, report.lost) == (len(arrays['ra']), [])
    planes = [beside['MASK'] for _, beside in kept(archive).values()]
    assert len(planes) == report.added * max(1, len(channels))
    assert all(np.argwhere(plane).tolist() == [[3, 4]] for plane in planes)


@pytest.mark.parametrize(
    'row, channels',
    [
        (dict(image=pixels(1)), ['g', 'r']),
        (dict(science=pixels(1), template=pixels(2)), ['g']),
        (dict(image=np.stack([pixels(1)] * 3)), ['g', 'r']),
    ],
)
def test_channels_that_fit_nothing_are_told(archive, row, channels):
    report = archive.add_stamps([row | HERE], 'a', channels=channels, show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['wrong_channels'])


def test_stamps_along_the_last_axis_are_told(archive):
    n = 20
    images = np.stack([pixels(k) for k in range(n)], axis=-1)
    arrays = dict(images=images, ra=np.arange(n), dec=np.zeros(n))
    report = archive.add_stamps(arrays, 'a', show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['uneven_columns'])


@pytest.mark.parametrize(
    'value', [-1, '-1', -1.0, '', ' ', 'nan', 'None', 'N/A', 'unknown', 0, '0']
)
def test_what_fills_a_column_names_no_object(archive, value):
    rows = [dict(image=pixels(k), ra=9.0 * k, dec=0.0, object_id=value, id=k) for k in (1, 2)]
    report = archive.add_stamps(rows, 'a', show=False)
    assert report.added == 2
    assert {row[2].object_id for row in facts(archive).values()} == {None}
    assert 'name of the object' in set(report.missing['fact'])


def test_zero_is_a_name_among_others(archive):
    rows = [dict(image=pixels(k), ra=9.0 * k, dec=0.0, object_id=k, id=k) for k in (0, 1)]
    archive.add_stamps(rows, 'a', show=False)
    assert {row[2].object_id for row in facts(archive).values()} == {'0', '1'}


def test_names_and_classes_are_never_cut(archive):
    row = dict(image=pixels(1), c='x' * 51, **HERE)
    report = archive.add_stamps([row], 'a', class_name='c', is_real=True, show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['long_class'])
    assert archive.add_stamps([row], 'b', class_name='c', show=False).added == 1, 'kept as a fact'
    long = archive.add_stamps([row | dict(id='y' * 201)], 'c', show=False)
    assert long.ledger['reason'].tolist() == ['bad_id']


KNOWN = dict(mjd=59000.0, band='g', pixel_scale=0.2, exptime=30.0, object_id='sn1')


def test_what_was_unknown_is_filled_in_and_said(archive):
    row = dict(image=pixels(1), id='a', **HERE)
    archive.add_stamps([row], 'a', show=False)
    report = archive.add_stamps([row | KNOWN], 'a', show=False)
    ((seen, image, index),) = facts(archive).values()
    assert (report.added, report.skipped) == (0, 1)
    assert (seen.filter_band, seen.pixel_scale, seen.exposure_time) == ('g', 0.2, 30.0)
    assert (image.mjd, image.mjd_scale, index.object_id) == (59000.0, 'utc', 'sn1')
    assert {*image.facts['missing']} == {'wcs', 'unit', 'zero_point'}
    assert image.facts['stamp_scale_arcsec'] == 0.2
    assert seen.observation_time.isoformat().startswith('2020-05-31')
    assert sum('known now' in note for note in report.notes) == 5
    assert not archive.add_stamps([row | KNOWN], 'a', show=False).notes


def test_what_is_known_stays_and_is_said(archive):
    row = dict(image=pixels(1), id='a', **HERE)
    archive.add_stamps([row | KNOWN], 'a', show=False)
    other = dict(mjd=59001.0, band='r', pixel_scale=0.3, exptime=31.0, object_id='sn2')
    report = archive.add_stamps([row | other], 'a', show=False)
    ((seen, image, index),) = facts(archive).values()
    assert (seen.filter_band, image.mjd, index.object_id) == ('g', 59000.0, 'sn1')
    assert sum('not taken' in note for note in report.notes) == 5
    assert not archive.add_stamps([row], 'a', show=False).notes


def test_another_place_of_a_stamp_that_is_there_is_said(archive):
    row = dict(image=pixels(1), id='a', ra=123.0, dec=45.0)
    archive.add_stamps([row], 'a', show=False)
    report = archive.add_stamps([row], 'a', frame='galactic', show=False)
    ((seen, _, _),) = facts(archive).values()
    assert (report.added, report.skipped, seen.ra) == (0, 1, 123.0)
    assert report.notes == ['another position of 1 stamp that is there already, as a: not taken']
    near = row | dict(ra=123.00001)
    assert not archive.add_stamps([near], 'a', show=False).notes


def test_the_same_for_a_template(archive):
    row = dict(template=pixels(1), science=pixels(2), id='a', **HERE)
    archive.add_stamps([row], 'a', show=False)
    archive.add_stamps([row | KNOWN], 'a', show=False)
    ((_, template, _),) = facts(archive).values()
    assert (template.role, template.mjd, template.facts['band']) == ('template', None, 'g')


def test_a_member_twice_in_a_tar_is_told(archive, tmp_path):
    where = b'{"ra": 1.0, "dec": 2.0}'
    members = [
        ('s0.json', where),
        ('s0.npy', npy_bytes(pixels(1))),
        ('s0.npy', npy_bytes(pixels(2))),
    ]
    members += [('s1.json', where), ('s1.npy', npy_bytes(pixels(3))), ('s1.npy/x.txt', b'1')]
    write_tar(tmp_path / 'a.tar', members)
    report = archive.add_stamps(tmp_path / 'a.tar', 'a', show=False)
    assert report.added == 1 and reasons(report)['a.tar:s0'] == 'member_twice'
    assert [*facts(archive)] == ['s1']


def test_planes_and_cards_of_fits_in_a_tar(archive, tmp_path):
    sky = cards(FILTER='g', **{'MJD-OBS': 59000.5})
    hdus = [fits.ImageHDU(pixels(1), sky, name='SCI'), fits.ImageHDU(pixels(2), name='ERR')]
    whole = fits_bytes(fits.PrimaryHDU(), *hdus, fits.ImageHDU(BAD.astype('u1'), name='BPM'))
    members = [('s0.fits', whole)]
    members += [
        ('s1.science.fits', whole),
        ('s1.template.fits', fits_bytes(fits.PrimaryHDU(pixels(5)))),
    ]
    members += [
        (f's2_{word}.fits', fits_bytes(fits.PrimaryHDU(pixels(k), sky)))
        for k, word in ((6, 'err'), (7, 'sci'))
    ]
    write_tar(tmp_path / 'a.tar', members)
    report = archive.add_stamps(tmp_path / 'a.tar', 'a', show=False)
    assert (report.added, report.lost) == (3, [])
    found = kept(archive)
    assert set(found['s0', 'science'][1]) == {'ERR', 'MASK'}
    assert set(found['s2', 'science'][1]) == {'ERR'}
    assert set(found['s1', 'science'][1]) == {'ERR', 'MASK'}
    assert np.array_equal(found['s1', 'template'][0], pixels(5))
    seen, image, _ = facts(archive)['s2']
    assert (seen.filter_band, image.mjd, round(seen.ra, 6)) == ('g', 59000.5, 33.0)


def test_fits_in_cells_of_parquet(archive, tmp_path):
    hdus = [fits.ImageHDU(pixels(1), cards(), name='SCI'), fits.ImageHDU(pixels(2), name='ERR')]
    whole = fits_bytes(fits.PrimaryHDU(), *hdus)
    pd.DataFrame(dict(id=['a'], science=[whole])).to_parquet(tmp_path / 'a.parquet')
    report = archive.add_stamps(tmp_path / 'a.parquet', 'a', show=False)
    assert (report.added, report.lost) == (1, [])
    ((key, (array, beside)),) = kept(archive).items()
    assert key == ('a', 'science') and np.array_equal(array, pixels(1)) and set(beside) == {'ERR'}


def test_several_marks_count_together(archive):
    other = np.zeros_like(BAD)
    other[0, 0] = True
    row = dict(image=masked('f4'), bad=other, valid=~np.roll(other, 1), **HERE)
    archive.add_stamps([row], 'a', show=False)
    ((_, beside),) = kept(archive).values()
    assert np.argwhere(beside['MASK']).tolist() == [[0, 0], [0, 1], [3, 4]]


def test_two_pictures_of_one_object_in_files_are_told(archive, tmp_path):
    for name in ('obj1.fits', 'obj1_image.fits'):
        fits.PrimaryHDU(pixels(len(name)), cards()).writeto(tmp_path / name)
    report = archive.add_stamps(tmp_path / '*.fits', 'a', show=False)
    assert (report.added, report.ledger['reason'].tolist()) == (0, ['two_pictures'])


@pytest.mark.parametrize('as_files', [False, True])
def test_a_stamp_is_as_old_as_its_science_image(archive, tmp_path, as_files):
    "The template comes first in the file, and was taken years before through another filter"
    cards = dict(
        TEMPLATE={'MJD-OBS': 55000.0, 'FILTER': 'g', 'EXPTIME': 3000.0},
        SCIENCE={'MJD-OBS': 60000.0, 'FILTER': 'r', 'EXPTIME': 30.0},
    )
    rng = np.random.default_rng(0)
    hdus = {
        name: fits.ImageHDU(rng.normal(size=(9, 9)), fits.Header({**said, 'TIMESYS': 'UTC'}), name)
        for name, said in cards.items()
    }
    if as_files:
        for name, word in dict(TEMPLATE='ref', SCIENCE='sci').items():
            one = fits.PrimaryHDU(hdus[name].data, hdus[name].header)
            (tmp_path / 'set').mkdir(exist_ok=True)
            one.writeto(tmp_path / f'set/o_{word}.fits')
        source = tmp_path / 'set'
    else:
        source = tmp_path / 'o.fits'
        fits.HDUList([fits.PrimaryHDU(), *hdus.values()]).writeto(source)
    table = dict(id=['o'], ra=[10.0], dec=[1.0])
    report = archive.add_stamps(source, 'made', table=table, show=False)
    assert (report.added, report.lost) == (1, [])
    seen = archive.observations().iloc[0]
    assert (seen['band'], seen['exposure_s']) == ('r', 30.0)
    assert f'{seen["observation_time"]:%Y-%m-%d}' == '2023-02-25'  # MJD 60000


def test_a_magnitude_of_99_is_none(archive):
    rows = [
        dict(image=np.eye(9) + k, id=str(k), ra=k, dec=0.0, mag=m)
        for k, m in enumerate((99.0, 21.5))
    ]
    archive.add_stamps(rows, 'made', show=False)
    assert archive.detections()['mag'].fillna(-1).tolist() == [-1, 21.5]


def test_blanks_around_a_survey_make_no_second_one(archive):
    row = dict(image=np.eye(9), id='a', ra=1.0, dec=0.0)
    archive.add_stamps([row], 'made', show=False)
    report = archive.add_stamps([row], ' made ', show=False)
    assert (report.added, report.skipped) == (0, 1)


@pytest.mark.parametrize('words', [['real', 'bogus'], [1, 0], [True, False], [b'yes', b'no']])
def test_a_column_of_verdicts_that_nobody_asked_for_is_said(archive, words):
    rows = [
        dict(image=np.eye(9) + k, id=str(k), ra=k, dec=0.0, label=w) for k, w in enumerate(words)
    ]
    report = archive.add_stamps(rows, 'made', show=False)
    assert not report.verdicts
    assert any("is_real='label' takes it" in note for note in report.notes)
    asked = archive.add_stamps(rows, 'made', is_real='label', show=False)
    assert sum(asked.verdicts.values()) == 2 and not any('takes it' in n for n in asked.notes)


def test_a_column_of_classes_is_no_verdict(archive):
    row = dict(image=np.eye(9), id='a', ra=1.0, dec=0.0, label='SN Ia')
    assert not any('verdict' in n for n in archive.add_stamps([row], 'made', show=False).notes)


ODD_NUMBERS = [
    *(dict(pixel_scale_arcsec=odd) for odd in (-1, 0, np.inf, np.nan, True, 'x')),
    *(dict(chunk=odd) for odd in (0, -1, 2.5, True, 'x', None)),
    dict(score=True),
]


@pytest.mark.parametrize('odd', ODD_NUMBERS, ids=str)
def test_numbers_that_are_none_are_refused(archive, odd):
    row = dict(image=pixels(1), id='a', **HERE)
    (name,) = odd
    with pytest.raises(ValueError, match=f'{name}='):
        archive.add_stamps([row], 'a', show=False, **odd)
