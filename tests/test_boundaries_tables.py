"Tables keep their meaning on the way in: verdicts, ids, units, times, and a ledger row for every row not stored."

import gzip
import json
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.wcs import WCS
from sqlalchemy import select

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.ingest.tables import read_table
from astrid_data.ingest.when import Motion
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    ValidationEvent,
    add_validation_event,
)
from astrid_data.registry.verdicts import WORD_COLUMNS, effective_labels
from astrid_data.registry.words import read_verdict, read_verdicts

pytestmark = pytest.mark.filterwarnings('ignore')
SPELLINGS = {
    'postgres': ('t', 'f'),
    'words': ('True', 'FALSE'),
    'forms': ('Yes', 'no'),
    'letters': ('Y', 'N'),
    'switch': ('on', 'OFF'),
    'classifier': ('Real', 'bogus'),
    'digits': ('1', '0'),
    'floats': ('1.0', '0.0'),
    'numbers': (1, 0),
    'float numbers': (1.0, 0.0),
    'signs': (1, -1),
    'sign texts': ('+1', '-1'),
    'bytes': (b'T', b'F'),
    'padded bytes': (b'true \0', b'false'),
    'blanks': (' t ', 'f\n'),
    'numpy': (np.True_, np.False_),
    'decimal': (Decimal(1), Decimal(0)),
}
TRUTH = np.arange(12) % 3 == 0


@pytest.mark.parametrize('spelling', SPELLINGS)
def test_a_verdict_keeps_its_meaning_in_every_spelling(spelling):
    yes, no = SPELLINGS[spelling]
    cells = [yes if real else no for real in TRUTH]
    verdicts, is_known = read_verdicts([*cells, None, '', np.nan, pd.NA, pd.NaT, 'NaN', r'\N'])
    assert verdicts[:12].tolist() == TRUTH.tolist() and is_known.all()
    assert verdicts[12:].tolist() == [None] * 7
    series = pd.Series(cells, dtype=object)
    assert read_verdicts(series)[0].tolist() == TRUTH.tolist()
    if no not in (-1, '-1'):
        assert (read_verdict(yes), read_verdict(no)) == (True, False)


@pytest.mark.parametrize('kind', ['boolean', 'bool', 'Int64', 'Float64', 'string', 'category'])
def test_verdicts_of_every_pandas_type(kind):
    cells = pd.Series(np.where(TRUTH, 1, 0))
    if kind in ('string', 'category'):
        cells = cells.map({1: 't', 0: 'f'})
    assert read_verdicts(cells.astype(kind))[0].tolist() == TRUTH.tolist()
    if kind not in ('bool', 'category'):
        with_gap = cells.astype(kind)
        with_gap[3] = pd.NA
        assert read_verdicts(with_gap)[0][3] is None


def test_what_is_no_verdict_is_refused_and_never_guessed():
    for scores in ([0.97, 0.03], ['0.5', '1', '0'], [1.0, 0.0, 0.2], np.float32([0, 1, 0.5])):
        with pytest.raises(BadInput, match='threshold'):
            read_verdicts(scores, 'score')
    for cells in (['SN', 'AGN'], [2, 3], ['ok', 'bad'], [-1, -1], [[1], [0]]):
        with pytest.raises(BadInput, match='no verdict that is known'):
            read_verdicts(cells, 'kind')
    verdicts, is_known = read_verdicts([1, 0, -1, 2, 'maybe', 't', [1], '?'])
    assert verdicts.tolist() == [True, False, None, None, None, True, None, None]
    assert is_known.tolist() == [True, True, False, False, False, True, False, True]
    for cell in ('', None, np.nan, 0.5, -1, 2, 'maybe', b'x', [True]):
        with pytest.raises(BadInput, match='not a verdict'):
            read_verdict(cell)


@pytest.mark.parametrize('cells', [[-1, 0, 1], ['-1', '0'], [0.0, -1.0, None, 1.0]])
def test_signs_with_a_zero_may_mean_two_things_and_are_asked(cells):
    "Bogus, unsure and real in one survey; unknown, bogus and real in another"
    with pytest.raises(BadInput, match='holds the numbers -1, 0.*: these are codes'):
        read_verdicts(cells, 'v')


@pytest.mark.parametrize('name', ['is_bogus', 'artifact', 'CosmicRay', 'bad_flag', 'isfake'])
@pytest.mark.parametrize('cells', [[1, 0], [True, False], ['t', 'f'], ['yes', 'no'], [1, -1]])
def test_a_name_that_says_no_turns_no_verdict_round(name, cells):
    with pytest.raises(BadInput, match=f'{name} by its name says what is not real'):
        read_verdicts(cells, name)
    assert read_verdicts(['real', 'bogus'], name)[0].tolist() == [True, False]
    assert read_verdicts(['yes', 'no'], f'not_{name}')[0].tolist() == [True, False]


@pytest.mark.parametrize('name', ['not_real', 'notReal', 'unreal', 'invalid', 'non_genuine'])
def test_a_denied_yes_is_a_no(name):
    with pytest.raises(BadInput, match=f'{name} by its name says what is not real'):
        read_verdicts([1, 0], name)


CODES = [
    [1, 3, 3, 1, 6, 6],
    [0, 1, 2, 3, 4, 5],
    [2, 1, 2],
    ['1', '2', ''],
    [255, 0, None],
    [1.0, -1.0, np.nan, 7.5],
    [1, 0, '?', 2],
]


@pytest.mark.parametrize('cells', CODES, ids=str)
def test_a_column_of_codes_is_refused_whole(cells):
    for column in (cells, np.array(cells, object), pd.Series(cells)):
        with pytest.raises(BadInput, match='type holds the numbers .*codes.*isin'):
            read_verdicts(column, 'type')


@pytest.mark.parametrize('gap', [-999, 99, '-9999', -99.0])
def test_nines_for_missing_make_no_codes(gap):
    verdicts, is_known = read_verdicts([1, 0, gap])
    assert verdicts.tolist() == [True, False, None] and is_known.tolist() == [True, True, False]


def test_events_that_went_through_a_file_mean_the_same():
    events = pd.DataFrame(
        dict(
            detection_id=list('abcd'),
            is_valid=['t', 'f', 'yes', ''],
            label=[None] * 4,
            confidence_level=[None] * 4,
            validator_id='ann',
            created_at='2024-03-01T00:00:00+00:00',
        )
    )
    rows = [('PENDING', 'f', None, 'UNKNOWN')] * 4 + [('PENDING', 't', None, 'UNKNOWN')]
    detections = pd.DataFrame(rows, columns=WORD_COLUMNS).assign(detection_id=list('abcde'))
    assert list(effective_labels(detections, events)['label']) == [1, 0, 1, -1, 1]


def test_label_events_take_the_same_words(tmp_path):
    from astrid_data.simulate.synthetic import synthetic_archive

    archive = synthetic_archive(tmp_path, n_observations=1, n_sources=4)
    with archive.session() as s:
        one = s.scalars(select(Detection.id)).first()
        for word in ('f', b'T', 'No', 1, np.False_):
            add_validation_event(s, one, 'ann', word)
        said = s.scalars(
            select(ValidationEvent.is_valid)
            .where(ValidationEvent.validator_id == 'ann')
            .order_by(ValidationEvent.created_at)
        ).all()
    assert said == [False, True, False, True, False]


# --- a table in every form

N = 12
IDS = [1237648720693755000 + i for i in range(N)]
MISSING_ID = 7


@pytest.fixture
def sky(tmp_path):
    "An archive with one image, and positions on it"
    archive = ad.open_archive(str(tmp_path / 'archive'))
    add_image(archive, tmp_path / 'sky.fits')
    return archive


def header(ra=150.0, dec=2.0, **cards):
    found = fits.Header(dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=ra, CRVAL2=dec))
    found.update(CRPIX1=100.5, CRPIX2=100.5, CDELT1=-0.5 / 3600, CDELT2=0.5 / 3600)
    found.update(TELESCOP='T', FILTER='r', **{k.replace('__', '-'): v for k, v in cards.items()})
    return found


def add_image(archive, path, **cards):
    pixels = np.random.default_rng(len(path.stem)).normal(100, 3, (200, 200)).astype('f4')
    fits.PrimaryHDU(pixels, header(**cards)).writeto(path)
    assert archive.add_fits(path, survey='s', detect=False, show=False).added == 1


def places(n=N):
    x = np.linspace(20, 180, n)
    return WCS(header()).wcs_pix2world(x, x, 0)


def events_of(archive):
    with archive.session() as s:
        query = select(ValidationEvent).order_by(ValidationEvent.created_at)
        return [(str(e.detection_id), e.is_valid, e.label) for e in s.scalars(query)]


def table(**more):
    ra, dec = places()
    ids = MaskedColumn(IDS, mask=np.arange(N) == MISSING_ID)
    return Table(dict(ra=ra * u.deg, dec=dec * u.deg, objid=ids, ok=TRUTH) | more)


def records():
    return [
        {k: None if np.ma.is_masked(row[k]) else row[k].item() for k in row.colnames}
        for row in table()
    ]


def as_text(separator):
    lines = [separator.join(['ra', 'dec', 'objid', 'ok'])]
    for row in records():
        cells = (repr(row['ra']), repr(row['dec']), str(row['objid'] or ''), 'ft'[row['ok']])
        lines.append(separator.join(cells))
    return '\n'.join(lines) + '\n'


def written(path, kind):
    path = path / f'table.{kind}'
    if kind in ('csv', 'tsv', 'txt', 'csv.gz'):
        text = as_text({'tsv': '\t', 'txt': ' | '}.get(kind, ','))
        path.write_bytes(gzip.compress(text.encode()) if kind == 'csv.gz' else text.encode())
    elif kind in ('jsonl', 'json'):
        rows = records()
        text = json.dumps(rows) if kind == 'json' else '\n'.join(map(json.dumps, rows))
        path.write_text(text)
    elif kind == 'parquet':
        frame = pd.DataFrame(records(), dtype=object)
        frame['objid'] = frame['objid'].astype('Int64')
        frame.astype(dict(ra=float, dec=float, ok=bool)).to_parquet(path)
    else:
        table().write(path, **(dict(format='votable') if kind == 'vot' else {}))
    return path


def in_memory(kind):
    if kind == 'records':
        return records()
    if kind == 'QTable':
        return QTable(table())
    if kind == 'Table':
        return table()
    frame = pd.DataFrame(records(), dtype=object)
    frame = frame.astype(dict(ra=float, dec=float, ok=bool))
    if kind == 'objects':
        return frame
    frame['objid'] = frame['objid'].astype('Int64')
    if kind == 'DataFrame':
        return frame
    if kind == 'arrow':
        return pyarrow.Table.from_pandas(frame)
    if kind == 'columns':
        return {name: list(frame[name]) for name in frame}
    return table().as_array() if kind == 'masked array' else Table(table()).filled(0).as_array()


FILES = 'csv tsv txt csv.gz ecsv fits vot parquet json jsonl'.split()
OBJECTS = 'records QTable Table objects DataFrame arrow columns'.split() + ['masked array', 'array']


@pytest.mark.parametrize('kind', FILES + OBJECTS)
def test_one_table_in_every_form(sky, tmp_path, kind):
    source = written(tmp_path, kind) if kind in FILES else in_memory(kind)
    report = sky.add_catalogue(source, 'sdss', object_id='objid', is_real='ok')
    assert (report.detections, report.rows, len(report.ledger)) == (N, N, 0), report
    ids = {str(one) for i, one in enumerate(IDS) if i != MISSING_ID}
    found = set(sky.detections().object_id.dropna())
    assert found == (ids | {'0'} if kind == 'array' else ids)  # A plain array cannot say missing
    real = sky.detections().set_index('object_id').status
    assert real[str(IDS[0])] == 'confirmed' and real[str(IDS[1])] == 'rejected'
    assert sum(is_valid for _, is_valid, _ in events_of(sky)) == TRUTH.sum()


BAD_ROWS = {
    'bad_position': dict(ra='north', dec='2'),
    'bad_verdict': dict(ok='perhaps'),
    'no_image': dict(ra='10.0', dec='-50.0'),
    'bad_id': dict(objid='x' * 300),
}


@pytest.mark.parametrize('kind', ['csv', 'tsv', 'jsonl', 'records', 'DataFrame', 'ecsv', 'vot'])
def test_each_row_is_stored_or_in_the_ledger(sky, tmp_path, kind):
    ra, dec = places()
    good = [dict(ra=f'{a!r}', dec=f'{d!r}', objid=f'{i:04d}', ok='tf'[i % 2])
            for i, (a, d) in enumerate(zip(ra.tolist(), dec.tolist()))]  # fmt: skip
    rows = good + [good[0] | dict(ra=f'{150 + i / 1e4}') | bad
                   for i, bad in enumerate(BAD_ROWS.values())]  # fmt: skip
    rows += [good[3], good[4] | dict(ok='f')]  # One says the same again, one the opposite
    frame = pd.DataFrame(rows)
    path = tmp_path / f'rows.{kind}'
    if kind in ('csv', 'tsv'):
        frame.to_csv(path, sep=',\t'[kind == 'tsv'], index=False)
    elif kind == 'jsonl':
        frame.to_json(path, orient='records', lines=True)
    elif kind in ('ecsv', 'vot'):
        Table.from_pandas(frame).write(path, **(dict(format='votable') if kind == 'vot' else {}))
    source = {'records': rows, 'DataFrame': frame}.get(kind, path)
    report = sky.add_catalogue(source, 'mixed', object_id='objid', is_real='ok')
    reasons = report.ledger.reason.value_counts().to_dict()
    assert reasons == dict.fromkeys(BAD_ROWS, 1) | {'duplicate': 1, 'contradiction': 2}
    assert report.rows == report.detections == N - 1
    assert report.rows + len(report.ledger) == len(rows)
    assert not sky.detections().object_id.isin(['0004']).any()
    again = sky.add_catalogue(source, 'mixed', object_id='objid', is_real='ok')
    assert (again.rows, again.detections, again.corrected) == (report.rows, 0, 0)
    assert again.ledger.equals(report.ledger)


def test_lines_that_do_not_fit_the_header_are_lost_alone(sky, tmp_path):
    (a, b), (c, d) = (x[:2] for x in places())
    path = tmp_path / 'ragged.csv'
    path.write_text(f'# by hand\nra,dec,id\n{a},{c},NA,\n1,2,3,4\n5,6\n\n{b},{d},"M 31, core"\n')
    report = sky.add_catalogue(path, 'ragged', object_id='id')
    assert report.ledger.reason.tolist() == ['bad_row'] * 2
    assert report.ledger.uri.tolist() == ['ragged[1]', 'ragged[2]']
    assert set(sky.detections().object_id) == {'NA', 'M 31, core'}
    lines = tmp_path / 'x.jsonl'
    lines.write_text(json.dumps(dict(ra=a, dec=c)) + '\n{"ra": 1\n')
    assert sky.add_catalogue(lines, 'json').ledger.reason.tolist() == ['bad_row']


def test_files_that_are_no_tables_are_named(sky, tmp_path):
    for name, start in (('a.fits', b'SIMPLE  = T'), ('b.parquet', b'PAR1xx'), ('c.csv', b''),
                        ('d.vot', b'<?xml version="1.0"?><VOTA'), ('e.ecsv', b'# %ECSV 1.0\n')):  # fmt: skip
        (tmp_path / name).write_bytes(start)
        with pytest.raises(BadInput, match=name):
            sky.add_catalogue(tmp_path / name, 'x')


# --- ids


def test_ids_that_lost_digits_are_refused(sky, tmp_path):
    ra, dec = places()
    right = pd.DataFrame(dict(ra=ra, objid=IDS)).drop(index=MISSING_ID)
    joined = pd.DataFrame(dict(ra=ra, dec=dec)).merge(right, how='left', on='ra')
    path = tmp_path / 'joined.csv'
    joined.to_csv(path, index=False)
    joined.to_parquet(tmp_path / 'joined.parquet')
    short = joined.assign(objid=np.arange(N, dtype='f4') + 2**24)
    excel = [dict(ra=a, dec=d, objid='1.23765E+18') for a, d in zip(ra, dec)]
    for source in (joined, path, tmp_path / 'joined.parquet', short, excel):
        with pytest.raises(BadInput, match='lost digits'):
            sky.add_catalogue(source, 'x', object_id='objid')
    small = joined.assign(objid=np.where(np.arange(N) == 3, np.nan, np.arange(N)))
    sky.add_catalogue(small, 'small', object_id='objid')
    assert set(sky.detections().object_id.dropna()) == {str(i) for i in range(N) if i != 3}


def test_names_that_look_like_nothing_are_names(sky, tmp_path):
    names = ['NA', 'None', 'null', 'nan', 'n/a', '0042', '42', '', '1e5', 'inf', 'TRUE', '-']
    ra, dec = places()
    path = tmp_path / 'names.csv'
    pd.DataFrame(dict(ra=ra, dec=dec, name=names)).to_csv(path, index=False)
    sky.add_catalogue(path, 'names', object_id='name')
    assert set(sky.detections().object_id.dropna()) == set(names) - {''}


# --- units


def spelt_positions():
    ra, dec = places()
    at = SkyCoord(ra, dec, unit='deg')
    hms, dms = (dict(precision=6), dict(precision=5, alwayssign=True))
    as_hours = at.ra.to_string('hour', sep=':', **hms)
    colons = dict(ra=as_hours, dec=at.dec.to_string(sep=':', **dms))
    blanks = dict(ra=at.ra.to_string('hour', sep=' ', **hms), dec=at.dec.to_string(sep=' ', **dms))
    letters = dict(ra=at.ra.to_string('hour', **hms), dec=at.dec.to_string(**dms))
    in_deg = dict(ra=at.ra.to_string('deg', precision=5), dec=at.dec.to_string(**dms))
    both = [f'{a} {d}' for a, d in zip(colons['ra'], colons['dec'])]
    return {
        'rad': Table(dict(ra=np.radians(ra) * u.rad, dec=np.radians(dec) * u.rad)),
        'hours': Table(dict(ra=ra / 15 * u.hourangle, dec=dec * u.deg)),
        'arcmin': Table(dict(ra=ra * 60 * u.arcmin, dec=dec * 60 * u.arcmin)),
        'quantities': dict(ra=np.radians(ra) * u.rad, dec=dec * u.deg.to(u.rad) * u.rad),
        'objects': [dict(ra=a * u.deg, dec=d * u.deg) for a, d in zip(ra, dec)],
        'angles': dict(ra=at.ra, dec=at.dec),
        'colons': pd.DataFrame(colons),
        'blanks': pd.DataFrame(blanks),
        'letters': pd.DataFrame(letters),
        'letters of degrees': pd.DataFrame(in_deg),
        'declared': Table(
            [
                Column(colons['ra'], 'ra', unit='"h:m:s"'),
                Column(colons['dec'], 'dec', unit='"d:m:s"'),
            ]
        ),
        'mixed': pd.DataFrame(dict(ra=[*colons['ra'][:6], *map(str, ra[6:])], dec=dec)),
        'both': pd.DataFrame(dict(ra=both)),
        'coordinates': Table(dict(at=at.galactic)),
    }


@pytest.mark.parametrize('spelling', spelt_positions())
def test_positions_keep_their_unit(sky, spelling):
    source = spelt_positions()[spelling]
    both = dict(dec='ra') if spelling == 'both' else {}
    report = sky.add_catalogue(source, 'c', **both)
    assert (report.detections, len(report.ledger)) == (N, 0), report
    ra, dec = places()
    found = sky.detections().sort_values('ra', ascending=False)
    assert np.abs(found.ra - ra).max() < 1e-7 and np.abs(found.dec - dec).max() < 1e-7


@pytest.mark.parametrize('kind', ['fits', 'ecsv', 'vot', 'parquet'])
@pytest.mark.parametrize('unit', ['rad', 'deg', 'arcsec'])
def test_files_keep_the_unit_of_positions(sky, tmp_path, kind, unit):
    ra, dec = places()
    source = Table({k: (x * u.deg).to(unit) for k, x in (('ra', ra), ('dec', dec))})
    path = tmp_path / f'units.{kind}'
    source.write(path, **(dict(format='votable') if kind == 'vot' else {}))
    assert sky.add_catalogue(path, 'c').detections == N


def test_units_that_contradict_each_other_are_refused(sky):
    ra, dec = places()
    for units in (
        ('rad', None),
        ('mag', 'deg'),
        ('deg', 'hourangle'),
        ('pix', 'pix'),
    ):
        frame = pd.DataFrame(dict(ra=ra, dec=dec))
        frame.attrs['units'] = {k: v for k, v in zip(('ra', 'dec'), units) if v}
        with pytest.raises(BadInput):
            sky.add_catalogue(frame, 'x')
    for called in (u.hourangle, u.rad):  # Degrees that are called so
        table = Table(dict(ra=ra * called, dec=dec * u.deg))
        report = sky.add_catalogue(table, str(called))
        assert report.ledger.reason.tolist() == ['bad_position'] * N
    odd = [dict(ra=a, dec=d) for a, d in ((-999, 2), (150, 99), (150, -99.99), ('25:00:00', 2),
           ('10:61:00', 2), (np.nan, 2), (150, None), ('', 2), (150.0, '2h'), (np.inf, 2))]  # fmt: skip
    report = sky.add_catalogue(odd, 'odd')
    assert report.ledger.reason.tolist() == ['bad_position'] * len(odd)
    assert not len(sky.detections())


def test_short_floats_are_said(sky):
    ra, dec = places()
    report = sky.add_catalogue(dict(ra=np.float32(ra), dec=np.float32(dec)), 'short')
    assert any('short floats' in note and 'arcsec' in note for note in report.notes)
    assert not any('short' in n for n in sky.add_catalogue(dict(ra=ra, dec=dec), 'long').notes)


def test_stand_ins_are_unknown(sky):
    ra, dec = places()
    cells = [21.5, 99, 99.99, -999, -9999, np.nan, None, '99.0', '>22', 999, np.float32(99.99), 20]
    frame = pd.DataFrame(dict(ra=ra, dec=dec, m=pd.Series(cells, dtype=object)))
    frame['p'] = [0.5, -999, *[1.0] * (N - 2)]
    report = sky.add_catalogue(frame, 'c', mag='m', snr='m', score='p')
    found = sky.detections().sort_values('ra', ascending=False)
    assert found.mag.dropna().tolist() == found.snr.dropna().tolist() == [21.5, 20]
    assert found.score.tolist() == [0.5, 0.0, *[1.0] * (N - 2)]
    assert sum('unknown' in note for note in report.notes) >= 3


@pytest.mark.parametrize('none', [-9.9999995e8, 1e20, 3.4e38, -999.0, 99.99, -np.inf])
@pytest.mark.parametrize('name', ['mag', 'snr'])
def test_what_no_source_can_have_is_unknown(sky, name, none):
    ra, dec = places(2)
    report = sky.add_catalogue(
        pd.DataFrame(dict(ra=ra, dec=dec, m=[none, 21.5])), 'c', **{name: 'm'}
    )
    assert sky.detections()[name].dropna().tolist() == [21.5]
    assert any('taken as unknown' in note for note in report.notes)


# --- what contradicts itself, and what is corrected


def test_the_newest_of_two_rows_counts_where_a_time_tells(sky):
    ra, dec = places()
    rows = [dict(ra=ra[0], dec=dec[0], ok='t', at='2024-01-01', id='a'),
            dict(ra=ra[0], dec=dec[0] + 1e-9, ok='f', at='2024-02-01', id='a'),
            dict(ra=ra[3], dec=dec[3], ok='t', at='2024-01-01', id='b'),
            dict(ra=ra[3] + 1e-4, dec=dec[3], ok='f', at='2023-01-01', id='b'),
            dict(ra=ra[6], dec=dec[6], ok='t', at='2024-01-01', id='c'),
            dict(ra=ra[6], dec=dec[6], ok='f', at='2024-01-01', id='d')]  # fmt: skip
    named = dict(object_id='id', is_real='ok')
    report = sky.add_catalogue(rows, 'silent', **named)
    assert (report.rows, set(report.ledger.reason)) == (0, {'contradiction'})
    report = sky.add_catalogue(rows, 'timed', verdict_time='at', **named)
    assert report.ledger.reason.tolist() == ['superseded', 'superseded', *['contradiction'] * 2]
    status = sky.detections().set_index('object_id').status
    assert status.to_dict() == {'a': 'rejected', 'b': 'confirmed'}


def test_rows_far_apart_or_of_one_mind_do_not_contradict(sky):
    ra, dec = places()
    rows = [dict(ra=ra[0], dec=dec[0], ok='t', id='1'), dict(ra=200.0, dec=0.0, ok='f', id='1'),
            dict(ra=ra[3], dec=dec[3], ok='', id='2'), dict(ra=ra[3], dec=dec[3], ok='t', id='2')]  # fmt: skip
    report = sky.add_catalogue(rows, 'x', object_id='id', is_real='ok')
    assert report.ledger.reason.value_counts().to_dict() == {'no_image': 1, 'duplicate': 1}
    assert set(sky.detections().status) == {'confirmed'}


def test_two_classes_of_one_place_and_a_class_against_its_verdict(sky):
    ra, dec = places()
    kinds = ['SN Ia', 'AGN', 'cosmic ray', 'unsure', 'SN Ia', 'SN Ia']
    rows = dict(ra=ra[[0, 0, 2, 3, 4, 4]], dec=dec[[0, 0, 2, 3, 4, 4]], kind=kinds)
    report = sky.add_catalogue(rows, 'x', class_name='kind', is_real=True)
    reasons = report.ledger.reason.tolist()
    assert reasons == ['contradiction'] * 3 + ['duplicate']
    assert {label for *_, label in events_of(sky)} == {'source', 'SN Ia'}


def test_a_corrected_catalogue_is_the_newest_word(sky, registry_url, tmp_path):
    archive = ad.open_archive(registry_url, storage=tmp_path / 's', home=tmp_path / 'h')
    add_image(archive, tmp_path / 'corrected.fits')
    ra, dec = places(8)
    ids = [f'o{i}' for i in range(8)]
    first = pd.DataFrame(dict(ra=ra, dec=dec, ok=[True] * 4 + [False] * 4, kind='SN', id=ids))
    named = dict(is_real='ok', class_name='kind', object_id='id')
    archive.add_catalogue(first, 'tns', **named)
    with archive.session() as s:
        of_five = s.scalars(
            select(DetectionIndex.detection_id).where(DetectionIndex.object_id == 'o5')
        )
        add_validation_event(s, of_five.one(), 'ann', False)
    second = first.astype(dict(ok=object))
    second.loc[[0, 7, 5], 'ok'] = [False, True, True]
    second.loc[1, 'ok'] = None
    second.loc[2, 'kind'] = 'AGN'
    second.loc[3, 'id'] = 'renamed'
    report = archive.add_catalogue(second, 'tns', **named)
    assert (report.detections, report.corrected, report.rows) == (0, 4, 8)
    assert dict(report.changed) == {'object id': 1, 'class': 1, 'class without a verdict': 1}
    now = archive.detections().set_index('object_id')
    assert now.status[['o0', 'o7', 'o5', 'o1']].tolist() == [
        'rejected',
        'confirmed',
        'rejected',
        'pending',
    ]
    assert 'renamed' in now.index and 'o3' not in now.index
    events = pd.DataFrame(events_of(archive), columns=['id', 'is_valid', 'label'])
    assert events.groupby('id').label.last()[str(now.detection_id['o2'])] == 'AGN'
    assert archive.add_catalogue(second, 'tns', **named).corrected == 0
    assert archive.add_catalogue(first, 'tns', **named).corrected == 4
    assert len(events_of(archive)) == 8 + 1 + 5 + 5


def test_a_class_alone_is_no_verdict_and_that_is_said(sky):
    ra, dec = places()
    report = sky.add_catalogue(dict(ra=ra, dec=dec, label=[0, 1] * 6), 'c', class_name='label')
    assert (report.detections, events_of(sky)) == (N, [])
    assert any('no verdict' in note for note in report.notes) and 'no verdict' in repr(report)
    with sky.session() as s:
        facts = s.scalars(select(DetectionIndex.facts)).all()
    assert sorted(one['class_name'] for one in facts) == ['0'] * 6 + ['1'] * 6


# --- times and motions


@pytest.fixture
def nights(tmp_path):
    archive = ad.open_archive(str(tmp_path / 'nights'))
    for i, mjd in enumerate((57000.2, 58500.3, 59000.1, 59010.2, 60500.4)):
        add_image(archive, tmp_path / f'n{i}.fits', MJD__OBS=mjd, EXPTIME=30.0)
    add_image(archive, tmp_path / 'timeless.fits')
    return archive


NOVA = dict(name='SN', ra=150.0, dec=2.0, found=59000.0, jd=2459000.5, day='2020-05-31')
WINDOWS = [
    dict(when='found', days=100),
    dict(when='found', days=(5, 100)),
    dict(when='jd', days=100),
    dict(when='day', days=100),
    dict(when=('found', 59100.0)),
    dict(when=('2020-05-31', '2020-09-08')),
]


@pytest.mark.parametrize('asked', WINDOWS)
def test_a_supernova_is_where_it_shines(nights, asked):
    report = nights.add_catalogue([NOVA], 'tns', is_real=True, **asked)
    assert (report.detections, report.rows, len(report.ledger)) == (2, 1, 0)
    assert any('do not say when' in note for note in report.notes)


def test_windows_of_rows(nights):
    rows = [dict(NOVA, ra=150 + i / 1e3, mjd_start=start, mjd_end=end) for i, (start, end) in enumerate(
        [('58990', 59100), ('', 58000), (60000, ''), ('', ''), (59100, 58990), ('soon', ''), (59500, 59600)]
    )]  # fmt: skip
    report = nights.add_catalogue(rows, 'tns', is_real=True)
    assert report.detections == 2 + 1 + 1
    assert report.ledger.reason.tolist() == ['bad_time'] * 3 + ['other_time']
    assert report.rows + len(report.ledger) == len(rows)
    flips = [
        dict(NOVA, mjd_start=57000, mjd_end=58000, ok='f'),
        dict(NOVA, mjd_start=58001, ok='t'),
    ]
    report = nights.add_catalogue(flips, 'flips', is_real='ok', object_id='name')
    assert (report.rows, len(report.ledger), report.detections) == (2, 0, 5)
    flips[1]['mjd_start'] = 57500
    report = nights.add_catalogue(flips, 'overlap', is_real='ok', object_id='name')
    assert report.ledger.reason.tolist() == ['contradiction'] * 2


def test_without_times_the_report_says_so(nights):
    report = nights.add_catalogue([NOVA], 'tns', is_real=True)
    assert report.detections == 6 and 'time was not used: 1 row placed on 6 images' in repr(report)
    for asked in (dict(when='found'), dict(when='never', days=3), dict(days=3)):
        with pytest.raises(BadInput, match='days=|neither a time'):
            nights.add_catalogue([NOVA], 'x', **asked)


MOTIONS = {
    'gaia': lambda pm: dict(pmra=pm[:, 0], pmdec=pm[:, 1], ref_epoch=np.full(len(pm), 2016.0)),
    'hipparcos': lambda pm: dict(pmRA=pm[:, 0], pmDE=pm[:, 1], Epoch=np.full(len(pm), 'J2016.0')),
    'degrees': lambda pm: dict(pmRA=pm[:, 0] * u.mas / u.yr, pmDE=(pm[:, 1] * u.mas / u.yr).to('deg/yr'),
                               epoch=np.full(len(pm), 57388.5)),
}  # fmt: skip


@pytest.mark.parametrize('names', MOTIONS)
def test_stars_lie_where_they_were(tmp_path, names):
    archive = ad.open_archive(str(tmp_path / 'a'))
    add_image(archive, tmp_path / 'old.fits', MJD__OBS=53187.0)
    rng = np.random.default_rng(40)
    pm = rng.normal(0, 300, (N, 2))
    ra, dec = places()
    true = SkyCoord(ra, dec, unit='deg')
    years = (57388.5 - 53187.0) / 365.25
    shift = np.radians(pm * years / 3.6e6)
    start = true.spherical_offsets_by(*np.degrees(shift).T * u.deg)
    rows = QTable(dict(ra=start.ra.deg, dec=start.dec.deg) | MOTIONS[names](pm))
    report = archive.add_catalogue(rows, 'gaia')
    found = archive.detections()
    nearest = SkyCoord(found.ra, found.dec, unit='deg').match_to_catalog_sky(true)[1]
    assert len(found) == N and nearest.arcsec.max() < 1e-3
    assert any('moved' in note for note in report.notes)
    assert archive.add_catalogue(rows, 'gaia').detections == 0
    still = archive.add_catalogue(rows, 'gaia', pmra=False)  # The newest word: no motion
    assert still.detections == 0
    assert np.hypot(*(archive.detections()[['ra', 'dec']].sort_values('ra').to_numpy()
                      - np.sort(np.c_[start.ra.deg, start.dec.deg], 0)).T).max() < 1  # fmt: skip


def test_a_motion_is_that_of_astropy():
    rng = np.random.default_rng(1)
    n = 200
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    pm = rng.normal(0, 2000, (n, 2))
    epoch = Time('J2016', scale='tdb')
    motion = Motion(pm, np.full(n, epoch.mjd), ('pmra', 'pmdec'))
    start = SkyCoord(ra * u.deg, dec * u.deg, distance=5 * u.pc, obstime=epoch,
                     pm_ra_cosdec=pm[:, 0] * u.mas / u.yr, pm_dec=pm[:, 1] * u.mas / u.yr)  # fmt: skip
    then = Time('J1990', scale='tdb')
    wanted = start.apply_space_motion(then)
    got = SkyCoord(*motion.place(np.arange(n), ra, dec, then.mjd), unit='deg')
    assert got.separation(SkyCoord(wanted.ra, wanted.dec)).mas.max() < 1


def test_a_motion_that_cannot_be_used_is_said(sky):
    ra, dec = places()
    moving = dict(ra=ra, dec=dec, pmra=np.full(N, 60.0), pmdec=np.zeros(N))
    report = sky.add_catalogue(moving, 'no epoch')
    assert any('ref_epoch=' in note for note in report.notes)
    report = sky.add_catalogue(moving, 'no time', ref_epoch=2016.0)  # The image has no time
    assert any('without a time' in note for note in report.notes)
    with pytest.raises(BadInput, match='neither an epoch'):
        sky.add_catalogue(moving, 'x', ref_epoch='then')
    with pytest.raises(BadInput, match='unit'):
        sky.add_catalogue(moving | dict(pmra=np.full(N, 1.0) * u.mag), 'x', ref_epoch=2016)


def test_no_row_of_a_text_table_vanishes(sky, tmp_path):
    ra, dec = places()
    lines = [f'o{i},{x},{y}' for i, (x, y) in enumerate(zip(ra, dec))]
    empty = tmp_path / 'empty.csv'
    empty.write_text('\n'.join(['name,ra,dec', *lines[:3], ',,', *lines[3:]]) + '\n')
    report = sky.add_catalogue(str(empty), 'c', object_id='name')
    assert (report.rows, len(report.ledger)) == (N, 1)
    unclosed = tmp_path / 'unclosed.csv'
    unclosed.write_text('\n'.join(['name,ra,dec', lines[0], '"' + lines[1], *lines[2:]]) + '\n')
    with pytest.raises(BadInput, match='not closed'):
        sky.add_catalogue(str(unclosed), 'd', object_id='name')
    spaced = tmp_path / 'spaced.csv'
    spaced.write_text('\n'.join(['name,ra,dec', f'"o0" ,{ra[0]},{dec[0]}', *lines[1:]]) + '\n')
    report = sky.add_catalogue(str(spaced), 'e', object_id='name')
    assert (report.rows, len(report.ledger)) == (N, 0)


def test_an_image_of_a_date_alone_may_be_of_the_whole_day(tmp_path):
    archive = ad.open_archive(str(tmp_path / 'a'))
    add_image(archive, tmp_path / 'day.fits', DATE__OBS='2020-05-31')
    inside = archive.add_catalogue([dict(NOVA, mjd_start=59000.4, mjd_end=59000.9)], 'a')
    after = archive.add_catalogue([dict(NOVA, mjd_start=59001.2, mjd_end=59002)], 'b')
    assert (inside.detections, after.detections) == (1, 0)
    assert after.ledger.reason.tolist() == ['other_time']


def test_rows_of_one_place_and_time_are_one(nights):
    rows = [
        dict(NOVA, name='a', mjd_start=58990, mjd_end=59005),
        dict(NOVA, name='b', mjd_start=58995, mjd_end=59007),
        dict(NOVA, name='c', mjd_start=59007, mjd_end=59020),  # Begins where the other ends
        dict(NOVA, name='d', mjd_start=60000, mjd_end=61000),
    ]
    report = nights.add_catalogue(rows, 'epochs', object_id='name')
    assert (report.rows, report.detections) == (3, 3)
    assert report.ledger.reason.tolist() == ['duplicate']
    assert not report.changed['object id']


def test_an_unknown_age_decides_nothing(sky):
    ra, dec = (cells[0] for cells in places())
    flips = [dict(ra=ra, dec=dec, ok='t', at=59000), dict(ra=ra, dec=dec, ok='f', at='last week')]
    report = sky.add_catalogue(flips, 'flips', is_real='ok', verdict_time='at')
    assert report.ledger.reason.tolist() == ['contradiction'] * 2
    assert any('verdict_time' in note for note in report.notes)
    words = [
        dict(ra=ra, dec=dec, ok='f', cls=None, at=59000),
        dict(ra=ra, dec=dec, ok='t', cls='SN Ia', at=59001),
        dict(ra=ra, dec=dec, ok='t', cls='sn ia', at=59001),
    ]
    report = sky.add_catalogue(words, 'w', is_real='ok', class_name='cls', verdict_time='at')
    assert sorted(report.ledger.reason) == ['duplicate', 'superseded'] and report.detections == 1


def test_half_a_motion_is_refused_where_it_was_asked_for(sky):
    ra, dec = places()
    with pytest.raises(BadInput, match='pmdec'):
        sky.add_catalogue(dict(ra=ra, dec=dec, mu_x=np.ones(N)), 'm', pmra='mu_x', ref_epoch=2016)


@pytest.mark.parametrize('kind', ['fits', 'votable'])
def test_of_several_tables_none_is_taken_in_silence(sky, tmp_path, kind):
    ra, dec = places()
    table = Table(dict(ra=ra, dec=dec))
    path = tmp_path / f'two.{kind}'
    if kind == 'fits':
        tables = [fits.BinTableHDU(table, name=name) for name in 'AB']
        fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    else:
        from astropy.io.votable import from_table
        from astropy.io.votable.tree import VOTableFile

        votable = VOTableFile()
        votable.resources.extend(from_table(table).resources + from_table(table).resources)
        votable.to_xml(str(path))
    with pytest.raises(BadInput, match='2 tables'):
        sky.add_catalogue(str(path), 'c')


def test_cells_that_do_not_fit_are_refused_or_missing(nights):
    when = Time([59000.0, 59001.0], format='mjd')
    when[1] = np.ma.masked
    source = Table(dict(ra=[150.0, 150.001], dec=[2.0, 2.0], found=when))
    report = nights.add_catalogue(source, 'masked', when='found', days=100)
    assert (report.rows, report.ledger.reason.tolist()) == (1, ['bad_time'])
    with pytest.raises(BadInput, match='not of one length'):
        nights.add_catalogue(dict(ra=[150.0, 150.1], dec=[2.0]), 'uneven')
    with pytest.raises(BadInput, match='quantities'):
        nights.add_catalogue([dict(ra=150 * u.deg, dec=2.0), dict(ra=150.0, dec=2.0)], 'mixed')


def test_an_object_with_a_list_is_one_row(nights, tmp_path):
    path = tmp_path / 'one.json'
    path.write_text(json.dumps(dict(ra=150.0, dec=2.0, flags=[1, 2])))
    report = nights.add_catalogue(str(path), 'one')
    assert (report.rows, len(report.ledger)) == (1, 0)


def test_a_corrected_class_or_score_arrives_without_a_verdict(sky):
    ra, dec = (cells[:3] for cells in places())
    first = dict(ra=ra, dec=dec, cls=['star', 'star', None], sure=[0.5, 0.9, 0.9])
    later = first | dict(cls=['star', 'galaxy', 'star'], sure=[0.8, 0.9, 0.9])
    for table in (first, later, later):
        sky.add_catalogue(table, 'c', class_name='cls', score='sure')
    with sky.session() as s:
        query = select(DetectionIndex.facts, Detection.confidence_score).join(
            Detection, Detection.id == DetectionIndex.detection_id
        )
        stored = sorted((facts['class_name'], score) for facts, score in s.execute(query))
    assert stored == [('galaxy', 0.9), ('star', 0.8), ('star', 0.9)]


def test_a_byte_of_nothing_shifts_no_row(sky, tmp_path):
    ra, dec = places()
    path = tmp_path / 'nul.csv'
    verdicts = ['t\0' if i == 3 else 'tf'[i % 2] for i in range(N)]
    lines = [f'{x},{y},i\0d{i},{ok}' for i, (x, y, ok) in enumerate(zip(ra, dec, verdicts))]
    path.write_text('\n'.join(['ra,dec,id,ok', *lines]) + '\n')
    report = sky.add_catalogue(str(path), 'c', object_id='id', is_real='ok')
    assert (report.rows, report.detections) == (N, N)
    found = sky.detections().set_index('object_id').status.to_dict()
    assert len(found) == N
    for i, ok in enumerate(verdicts):
        assert found[rf'i\x00d{i}'] == ('confirmed' if ok.strip('\0') == 't' else 'rejected')


@pytest.mark.parametrize('cell', [10**400, '1e400', -(10**400)])
def test_a_number_beyond_all_costs_its_row(sky, cell):
    ra, dec = (cells.tolist() for cells in places())
    rows = [dict(ra=cell, dec=2), *(dict(ra=x, dec=y) for x, y in zip(ra, dec))]
    report = sky.add_catalogue(rows, 'c')
    assert (report.rows, report.ledger.reason.tolist()) == (N, ['bad_position'])


def test_an_id_that_no_database_can_hold_is_written_out(sky):
    ra, dec = places()
    ids = ['\ud800', 'a\0b', *map(str, range(N - 2))]
    report = sky.add_catalogue(dict(ra=ra, dec=dec, id=ids), 'c', object_id='id')
    assert report.rows == N
    assert {r'\ud800', r'a\x00b'} < set(sky.detections().object_id)


def test_lost_rows_are_not_noted_again_and_a_verdict_is_explained(sky):
    ra, dec = places()
    table = dict(ra=ra, dec=dec, ok=['t', *['good'] * (N - 1)], cls=['SN'] * N)
    report = sky.add_catalogue(table, 'c', is_real='ok', class_name='cls')
    assert len(report.ledger) == N - 1
    assert not any('no verdict' in note for note in report.notes)
    assert 'real or bogus' in report.ledger.detail[0]


def test_a_header_of_tens_of_thousands_of_names_is_read_at_once(tmp_path):
    path = tmp_path / 'wide.csv'
    path.write_text(','.join(f'c{i}' for i in range(50_000)) + '\n' + ',' * 49_999)
    begun = time.process_time()
    table = read_table(path)
    assert table.shape == (1, 50_000) and set(table.dtypes) == {np.dtype(object)}
    with pytest.raises(BadInput) as error:
        ad.open_archive(tmp_path / 'home').add_catalogue(path, 'wide', ra='ra', dec='dec')
    assert 'and 49970 more' in str(error.value) and len(str(error.value)) < 1000
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    'card', ['NAXIS   =                    2', 'NAXIS   =                    0']
)
def test_a_table_with_an_absurd_number_of_axes_is_refused(tmp_path, card):
    path = tmp_path / 'mine.fits'
    Table(dict(ra=[1.0], dec=[2.0])).write(path)
    stored = path.read_bytes()
    assert card.encode() in stored
    path.write_bytes(stored.replace(card.encode(), b'NAXIS   =           9999999999'))
    with pytest.raises(ad.AstridError, match='NAXIS'):
        read_table(path)
