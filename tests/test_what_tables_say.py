"Cards of columns, rows of units, counts told by their size, rows with systems of their own"

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import FK5, BarycentricMeanEcliptic, Latitude, Longitude, SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time
from astropy.utils.masked import Masked

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.ingest.found import places_of
from astrid_data.ingest.stamp_records import StampWords, in_our_units, stamp_of
from astrid_data.ingest.stamp_rows import stamp_table
from astrid_data.ingest.tables import open_table
from astrid_data.ingest.when import times_in
from astrid_data.ingest.where import read_places
from astrid_data.patches.on_files import _read_positions

PLACE = SkyCoord(50.0, 2.0, unit='deg')
OLD, GALACTIC = PLACE.transform_to('fk4'), PLACE.galactic


def arcsec_off(ra, dec):
    return float(np.max(SkyCoord(ra, dec, unit='deg').separation(PLACE).arcsec))


def check_each_reader(table, ra='ra', dec='dec'):
    "The place by each way on which tables come in"
    places = read_places(open_table(table), ra, dec)
    assert arcsec_off(places.ra, places.dec) < 1e-3
    words = StampWords(columns=dict(ra=ra, dec=dec))
    for row in stamp_table(table, words).rows:
        stamp = stamp_of('s', dict(science=np.eye(5), **row), words)
        assert arcsec_off(stamp.ra, stamp.dec) < 1e-3
    if (ra, dec) == ('ra', 'dec'):
        found = places_of(table)
        assert arcsec_off(found.ra, found.dec) < 1e-3


# Cards

NUMBERED = [dict(RADE1='FK4', EQUI1=1950.0), dict(RADE1='FK4', RADE2='FK4'), dict(RADESYSA='FK4')]
NUMBERED += [dict(EQUI1=1950.0, EQUI2=1950.0), dict(comments=['RADE1 = FK4'])]


@pytest.mark.parametrize('cards', NUMBERED)
def test_numbered_cards_of_systems_count(cards):
    check_each_reader(Table(dict(ra=[OLD.ra.deg], dec=[OLD.dec.deg]), meta=cards))


def test_numbered_cards_that_differ_are_asked():
    table = Table(dict(ra=[1.0], dec=[2.0]), meta=dict(RADE1='FK4', RADE2='FK5'))
    with pytest.raises(BadInput, match='frame='):
        read_places(open_table(table), 'ra', 'dec')


def fits_table(path, cards, cells, names=('ra', 'dec'), units=(None, None)):
    triples = zip(names, cells, units)
    columns = [fits.Column(name, 'D', unit=unit, array=[cell]) for name, cell, unit in triples]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(cards)
    hdu.writeto(path)
    return path


ON_AXES = [
    (dict(TCTYP1='GLON-CAR', TCTYP2='GLAT-CAR'), (GALACTIC.l.deg, GALACTIC.b.deg)),
    (dict(TCTYP1='GLON', TCTYP2='GLAT'), (GALACTIC.l.deg, GALACTIC.b.deg)),
    (dict(TCTYP1='RA---TAN', TCTYP2='DEC--TAN', RADE1='FK4'), (OLD.ra.deg, OLD.dec.deg)),
    (dict(TCTYP1='RA', TCTYP2='DEC', EQUINOX=1950.0), (OLD.ra.deg, OLD.dec.deg)),
    (dict(RADE1='FK4', RADE2='FK4', EQUI1=1950.0, EQUI2=1950.0), (OLD.ra.deg, OLD.dec.deg)),
    (dict(TCUNI1='rad', TCUNI2='rad'), (PLACE.ra.rad, PLACE.dec.rad)),
    (dict(TCTYP1='RA---TAN', TCRVL1=0.0, TCRPX1=0.0, TCDLT1=1.0), (50.0, 2.0)),
]


@pytest.mark.parametrize('cards, cells', ON_AXES)
def test_cards_of_a_column_say_its_system_and_unit(tmp_path, cards, cells):
    check_each_reader(fits_table(tmp_path / 'a.fits', cards, cells))


@pytest.mark.parametrize('unit', ['h', 'hr', 'hour', 'hms', 'h:m:s', 'hourangle'])
def test_hours_of_a_column_are_hours(tmp_path, unit):
    units = unit, 'deg'
    check_each_reader(fits_table(tmp_path / 'a.fits', {}, (PLACE.ra.hourangle, 2.0), units=units))


ASKED_CARDS = [dict(TCTYP1='RA---TAN', TCRPX1=512.0, TCRVL1=50.0), dict(TCTYP1='HPLN-TAN')]
ASKED_CARDS += [dict(TCTYP1='GLON-CAR'), dict(RADE1='FK4', RADE2='GALACTIC')]


@pytest.mark.parametrize('cards', ASKED_CARDS)
def test_pixels_and_foreign_spheres_are_asked(tmp_path, cards):
    path = fits_table(tmp_path / 'a.fits', cards, (50.0, 2.0))
    source = open_table(path)
    with pytest.raises(BadInput, match='frame='):
        read_places(source, 'ra', 'dec')
    source.frame = 'icrs'
    assert read_places(source, 'ra', 'dec').ra[0] == 50.0


# Rows of units


HEADED = [
    ('ra,dec,mag\nh,deg,mag\n{h},2,17\n{h},2,18\n', 1),
    ('id,ra,dec\n,h,deg\nSN1,{h},2\n', 1),
    ('id,ra,dec\n-,(h),[deg]\nSN1,{h},2\n', 1),
    ('id,ra,dec\nchar,double,double\n,h,deg\n7,{h},2\n', 2),
    ('ra dec\nrad rad\n{rad_ra} {rad_dec}\n', 1),
    ('ra,dec,n\nhms,dms,\n03:20:00,+02:00:00,4\n', 1),
    ('ra\tdec\tmjd\nh\tdeg\td\n{h}\t2\t59000.3\n', 1),
    ('# IPAC\nra,dec\ndouble,double\ndeg,deg\n50,2\n', 2),
]


@pytest.mark.parametrize('text, n_units', HEADED)
def test_a_row_of_units_is_no_object(tmp_path, text, n_units):
    numbers = dict(h=PLACE.ra.hourangle, rad_ra=PLACE.ra.rad, rad_dec=PLACE.dec.rad)
    path = tmp_path / 'a.csv'
    path.write_text(text.format(**numbers))
    source = open_table(path)
    assert source.n_units == n_units and 'first row' in source.notes[0]
    check_each_reader(path)
    if text[0] == 'r' and '\t' not in text and ' ' not in text:
        check_each_reader(pd.read_csv(path))
        check_each_reader(pd.read_csv(path).to_dict('records'))


NO_HEADING = [
    'name,class\nA,B\nC,D\n',
    'ra,dec\n1,2\n3,4\n',
    'id,mag\nSN1,\nSN2,17\n',
    'id,mag\nx,m\nSN2,17\n',
    'ra,dec\nnone,none\n1,2\n',
    'ra,dec\nNaN,NaN\n1,2\n',
]


@pytest.mark.parametrize('text', NO_HEADING)
def test_a_first_row_that_may_be_an_object_stays(tmp_path, text):
    path = tmp_path / 'a.csv'
    path.write_text(text)
    source = open_table(path)
    assert len(source.columns) == text.count('\n') - 1
    assert (source.units, source.n_units) == ({}, 0)


ODD_CELLS = [
    'id,ra,dec,mag\n,h,deg,mag\n1,TBD,TBD,n/a\n2,{h},2,<21.3\n',
    'id,ra,dec,mag\n,h,deg,mag\n1,?,-,12.3:\n2,{h},2,12.3:\n',
    'id,ra,dec\nchar,double,double\n,h,deg\n1,unknown,see note\n2,{h},2\n',
    'id,ra,dec\n,h,deg\nvarchar(9),F10.5,F10.5\n1,TBD,2\n2,{h},2\n',
    ',id,ra,dec\n0,,h,deg\n1,a,TBD,2\n2,b,{h},2\n',
    'id,ra,dec,z\n,(hms),[dms],\n1,...,2,0.1?\n2,03:20:00,+02:00:00,\n',
    'id,ra,dec\n# seen in May\n,h,deg\n1,TBD,2\n2,{h},2\n',
    '# id ra dec\n# - h deg\n1 TBD 2\n2 {h} 2\n',
    '# seen in May\n# id ra dec\n# int float float\n# - h deg\n1 TBD 2\n2 {h} 2\n',
    'id,ra,dec\n,rad,rad\n1,n/a,n/a\n2,{rad_ra},{rad_dec}\n',
]


@pytest.mark.parametrize('text', ODD_CELLS)
def test_no_odd_cell_switches_a_row_of_units_off(tmp_path, text):
    numbers = dict(h=PLACE.ra.hourangle, rad_ra=PLACE.ra.rad, rad_dec=PLACE.dec.rad)
    path = tmp_path / 'a.csv'
    path.write_text(text.format(**numbers))
    source = open_table(path)
    places = read_places(source, 'ra', 'dec')
    assert len(places.ra) == 2 and not np.isfinite(places.ra[0])
    assert (places.ra[1], places.dec[1]) == pytest.approx((50, 2), abs=1e-9)


def test_a_table_of_nothing_but_units_is_empty(tmp_path):
    path = tmp_path / 'a.csv'
    path.write_text('ra,dec\nh,deg\n')
    source = open_table(path)
    assert len(source.columns) == 0 and source.units == dict(ra='h', dec='deg')


# Units of each half

BY_HALF = [
    (dict(ra_rad=PLACE.ra.rad, dec_deg=2.0), {}),
    (dict(ra_h=PLACE.ra.hourangle, dec_rad=PLACE.dec.rad), {}),
    (dict(ra_h=PLACE.ra.hourangle, dec=2.0), {}),
    (dict(rah=PLACE.ra.hourangle, dec=2.0), {}),
    (dict(RAh=PLACE.ra.hourangle, DEd=2.25 - 0.25), {}),
    (dict(raD=50.0, decD=2.0), {}),
    (dict(ra_mas=PLACE.ra.mas, dec_arcmin=120.0), {}),
    (dict(ra=PLACE.ra.hourangle, dec=PLACE.dec.rad), dict(ra='hourangle', dec='rad')),
]


@pytest.mark.parametrize('cells, units', BY_HALF)
def test_each_half_has_its_own_unit(cells, units):
    ra, dec = cells
    cells = {name: [one] for name, one in cells.items()}
    if dec == 'DEd':  # A whole degree may have its minutes elsewhere
        with pytest.raises(BadInput, match='one part'):
            read_places(open_table(cells), ra, dec)
        cells = {ra: cells[ra] * 2, dec: [2.0, 2.0000000001]}
    check_each_reader(Table(cells, units=units), ra, dec)


@pytest.mark.parametrize('names', [('ra_rad', 'dec'), ('ra', 'dec_arcsec'), ('rad', 'decd')])
def test_a_unit_beside_none_is_asked(names):
    with pytest.raises(BadInput):
        read_places(open_table(dict(zip(names, ([1.0], [1.0])))), *names)


@pytest.mark.parametrize(
    'names', [['RAh', 'RAm', 'DEd'], ['RAh', 'RAm', 'RAs', 'DEd'], ['RAh', 'DEd']]
)
def test_whole_hours_lack_their_minutes(names):
    table = {name: [3, 4] for name in names}
    with pytest.raises(BadInput, match='one part'):
        read_places(open_table(table), 'RAh', 'DEd')


# Times by their size

MOMENT = Time(59000.3, format='mjd', scale='utc')


def seconds_off(mjd):
    return abs(float(mjd) - MOMENT.mjd) * 86400


BY_SIZE = [
    ('gps_time', MOMENT.gps, ''),
    ('gps_seconds', MOMENT.gps, ''),
    ('TIME_GPS', MOMENT.gps, ''),
    ('timestamp', MOMENT.unix, 's since 1970'),
    ('timestamp', MOMENT.unix * 1e3, 'ms since 1970'),
    ('obs_timestamp', MOMENT.unix * 1e6, 'us since 1970'),
    ('timestamp', int(MOMENT.unix) * 10**9, 'ns since 1970'),
    ('timestamp_ms', MOMENT.unix * 1e3, 'ms since 1970'),
    ('epoch_ms', MOMENT.unix * 1e3, 'ms since 1970'),
    ('unix_time', MOMENT.unix * 1e3, 'ms since 1970'),
    ('mjd', MOMENT.jd, 'Julian dates'),
    ('mjd_tt', MOMENT.tt.jd, 'Julian dates'),
    ('jyear', MOMENT.jyear, ''),
    ('julian_epoch', MOMENT.jyear, ''),
    ('byear', MOMENT.byear, ''),
    ('besselian_year', MOMENT.byear, ''),
    ('decimal_year', MOMENT.decimalyear, ''),
    ('decyear', MOMENT.decimalyear, ''),
    ('obs_year', MOMENT.jyear, 'Julian years'),
    ('epoch', MOMENT.jyear, 'Julian years'),
]


@pytest.mark.parametrize('name, number, said', BY_SIZE)
def test_the_size_of_numbers_tells_their_count_and_is_said(name, number, said):
    source = open_table({name: [number, number, '']})
    mjd, is_odd = times_in(source, name)
    assert seconds_off(mjd[0]) < 1 and not is_odd.any()
    notes = ' '.join(source.notes)
    assert said in notes and bool(notes) == bool(said)
    record = dict(science=np.eye(5), ra=1.0, dec=2.0, **{name: number})
    stamp = stamp_of('s', record, StampWords(columns=dict(mjd=name)))
    assert seconds_off(stamp.mjd) < 1 and said in ' '.join(stamp.unused)


def test_the_digits_of_a_date_are_a_date():
    assert times_in(open_table(dict(night=[20200531, 20200601])), 'night')[0].tolist() == [
        59000,
        59001,
    ]
    assert times_in(open_table(dict(night=[20201331])), 'night')[1].all()


ASKED_SECONDS = [
    ('time', MOMENT.unix, 'unix seconds'),
    ('created_at', MOMENT.unix * 1e3, 'unix ms'),
]
ASKED_SECONDS += [('obs_start', MOMENT.gps, 'gps seconds'), ('timestamp_tai', MOMENT.unix, 'unix')]


@pytest.mark.parametrize('name, number, answer', ASKED_SECONDS)
def test_seconds_from_an_unknown_moment_are_asked(name, number, answer):
    source = open_table({name: [number, 59000.3]})
    source.columns = source.columns.iloc[:1]
    with pytest.raises(BadInput, match='time_scale='):
        times_in(source, name)
    source.time_scale = answer
    assert seconds_off(times_in(source, name)[0][0]) < 1


def test_one_huge_number_costs_its_own_row_alone():
    mjd, is_odd = times_in(open_table(dict(time=[59000.3, 59001.3, 1.6e9])), 'time')
    assert mjd[:2].tolist() == [59000.3, 59001.3] and is_odd.tolist() == [False, False, True]


# Numbers of more than one kind

OTHER_KINDS = [
    ('unixtime', [MOMENT.unix, MOMENT.unix * 1e3], [False, True]),
    ('unix_ms', [MOMENT.unix * 1e3, MOMENT.unix * 1e3, MOMENT.unix], [False, False, True]),
    ('timestamp', [MOMENT.unix, MOMENT.unix, 59000.3], [False, False, True]),
    ('timestamp_d', [MOMENT.unix], [True]),
    ('timestamp_ms', [MOMENT.unix], [True]),
    ('gps_time', [MOMENT.gps, MOMENT.gps, 59000.3], [False, False, True]),
    ('epoch', [MOMENT.jyear, MOMENT.jyear, 59000.3], [False, False, True]),
    ('time', [59000.3, 59000.3, 2459000.8], [False, False, True]),
    ('time', [2459000.8, 2459000.8, 59000.3], [False, False, True]),
]


@pytest.mark.parametrize('name, numbers, odd', OTHER_KINDS)
def test_rows_of_another_kind_than_the_column_are_odd(name, numbers, odd):
    mjd, is_odd = times_in(open_table({name: [*numbers, '']}), name)
    assert is_odd.tolist() == [*odd, False] and np.isnan(mjd[is_odd]).all()
    assert all(seconds_off(one) < 1 for one in mjd[~is_odd][:-1])


@pytest.mark.parametrize('name', ['time', 'TIME', 't', 'time_tdb', 'obs_start'])
@pytest.mark.parametrize('numbers', [[1983.63, 1984.2], [2020.41, 2020.43]])
def test_counts_that_look_like_years_are_asked(name, numbers):
    source = open_table({name: numbers})
    with pytest.raises(BadInput, match=f'{numbers[0]}.*time_scale='):
        times_in(source, name)
    source.time_scale = 'BTJD'
    assert abs(times_in(source, name)[0][0] - numbers[0] - 56999.5) < 0.001
    source.time_scale = 'jyear utc'
    assert abs(times_in(source, name)[0][0] - Time(numbers[0], format='jyear').mjd) < 0.001


def test_a_unit_that_is_said_is_not_read_as_another_by_size():
    for name, unit in (('unix_ms', None), ('unix_sec', None), ('unix', 'ms')):
        source = open_table({name: [MOMENT.unix * (1e3 if name == 'unix_sec' else 1)]})
        source.units.update({name: unit} if unit else {})
        with pytest.raises(BadInput, match='(?s)since 1970.*time_scale='):
            times_in(source, name)


def test_julian_dates_beside_mjd_are_read_by_row_and_said():
    source = open_table(dict(mjd=[58000.2, 2458000.7]))
    assert np.allclose(times_in(source, 'mjd')[0], 58000.2, atol=1e-6)
    assert '2458000.7' in source.notes[0] and '58000.2' in source.notes[0]
    assert '1258000' not in source.notes[0]


def test_digits_of_dates_are_said():
    source = open_table(dict(time=[20200531, 20200601]))
    assert times_in(source, 'time')[0].tolist() == [59000, 59001]
    assert 'digits' in source.notes[0] and '20200531' in source.notes[0]


# Scales of rows


@pytest.mark.parametrize('column', ['time_scale', 'timesys'])
def test_an_unknown_scale_costs_its_own_row(column):
    source = open_table({'mjd': [59000.0] * 4, column: ['TAI', 'UTC', 'XYZ', 'TAI']})
    mjd, is_odd = times_in(source, 'mjd')
    assert is_odd.tolist() == [False, False, True, False]
    assert np.allclose((59000.0 - mjd[[0, 1, 3]]) * 86400, [37, 0, 37], atol=0.01)
    assert "'XYZ'" in ' '.join(source.notes)


@pytest.mark.parametrize('column', ['time_scale', 'timesys'])
@pytest.mark.parametrize('scales', [['TAI', 'UTC', ''], ['TAI', 'TAI', '']])
def test_a_blank_scale_is_that_of_the_table(column, scales):
    source = open_table({'mjd': [59000.0] * 3, column: scales})
    mjd, is_odd = times_in(source, 'mjd')
    assert mjd[2] == 59000.0 and not is_odd.any()
    assert abs((59000.0 - mjd[0]) * 86400 - 37) < 0.01
    assert 'UTC' in ' '.join(source.notes) and "''" not in ' '.join(source.notes)


def test_a_column_without_any_known_scale_says_nothing_of_time():
    source = open_table(dict(mjd=[59000.0] * 2, time_scale=['fast', 'slow']))
    mjd, is_odd = times_in(source, 'mjd')
    assert mjd.tolist() == [59000.0] * 2 and not is_odd.any()


# One reader for catalogues and stamps


def test_stamps_find_what_says_itself_to_be_a_place_and_a_time():
    record = dict(science=np.eye(5), GLON=GALACTIC.l.deg, GLAT=GALACTIC.b.deg, mjd_tt=MOMENT.tt.mjd)
    stamp = stamp_of('s', record, StampWords())
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3 and seconds_off(stamp.mjd) < 1e-3
    rows = stamp_table(pd.DataFrame([{k: v for k, v in record.items() if k != 'science'}])).rows
    stamp = stamp_of('s', dict(science=np.eye(5), **rows[0]), StampWords())
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3 and seconds_off(stamp.mjd) < 1e-3
    other = dict(science=np.eye(5), host_ra=1.0, host_dec=2.0, jdstarthist=2459000.5)
    stamp = stamp_of('s', other, StampWords())
    assert (stamp.ra, stamp.mjd) == (None, None)


CARDS_OF_RECORDS = [dict(RADE1='FK4', EQUI1=1950.0), dict(COORDSYS='FK4'), dict(EPOCH=1950.0)]
CARDS_OF_RECORDS += [dict(equinox='B1950'), dict(radesys='FK4'), dict(coord_frame='fk4')]


@pytest.mark.parametrize('cards', CARDS_OF_RECORDS)
def test_a_record_says_its_system_as_a_table_does(cards):
    record = dict(science=np.eye(5), ra=OLD.ra.deg, dec=OLD.dec.deg, **cards)
    stamp = stamp_of('s', record, StampWords())
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3


# VOTables

SYSTEMS = [
    'ECLIPTIC',
    'SUPER_GALACTIC',
    'FK4_NO_E',
    'eq_FK4',
    'ecl_FK5',
    'ecl_FK4',
    'GALACTIC',
    'FK5',
]
FRAMES = dict(ECLIPTIC='barycentricmeanecliptic', SUPER_GALACTIC='supergalactic')
FRAMES |= dict(FK4_NO_E='fk4noeterms', eq_FK4='fk4', GALACTIC='galactic', FK5='fk5')
FRAMES |= dict(ecl_FK5='barycentricmeanecliptic')


def votable(path, cells, coosys):
    lon, lat = cells
    path.write_text(f"""<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>
<COOSYS ID="s" {coosys}/><TABLE>
<FIELD name="ra" datatype="double" unit="deg" ref="s"/>
<FIELD name="dec" datatype="double" unit="deg" ref="s"/>
<DATA><TABLEDATA><TR><TD>{lon!r}</TD><TD>{lat!r}</TD></TR></TABLEDATA></DATA>
</TABLE></RESOURCE></VOTABLE>""")
    return path


@pytest.mark.parametrize('system', SYSTEMS)
def test_systems_of_a_votable_are_read(tmp_path, system):
    if system == 'ecl_FK4':
        frame = BarycentricMeanEcliptic(equinox=Time('B1950'))
    else:
        frame = FRAMES[system]
    place = PLACE.transform_to(frame).spherical
    cells = float(place.lon.deg), float(place.lat.deg)
    check_each_reader(votable(tmp_path / 'a.vot', cells, f'system="{system}"'))


@pytest.mark.parametrize('system', ['geo_app', 'AZ_EL', 'GALACTIC_I', 'BODY', 'UNKNOWN', 'xy'])
def test_systems_that_astropy_does_not_read_are_asked_by_name(tmp_path, system):
    path = votable(tmp_path / 'a.vot', (50.0, 2.0), f'system="{system}"')
    with pytest.raises(BadInput, match=f'(?s){system}.*frame='):
        read_places(open_table(path), 'ra', 'dec')


# Rows of their own


def test_each_row_has_its_own_equinox():
    other = PLACE.transform_to(FK5(equinox='J1975'))
    rows = pd.DataFrame(
        dict(
            ra=[OLD.ra.deg, 50.0, other.ra.deg, 1.0, 1.0],
            dec=[OLD.dec.deg, 2.0, other.dec.deg, 1.0, 1.0],
            equinox=['B1950', '2000.0', 'J1975', '', 'B3000'],
        )
    )
    places = read_places(open_table(rows), 'ra', 'dec')
    assert arcsec_off(places.ra[:3], places.dec[:3]) < 0.1
    assert [*places.problems] == [4] and 'B3000' in places.problems[4]
    table = stamp_table(rows[:3])
    for row in table.rows:
        stamp = stamp_of('s', dict(science=np.eye(5), **row), StampWords())
        assert arcsec_off(stamp.ra, stamp.dec) < 0.1
    found = places_of(rows[:3])
    assert arcsec_off(found.ra, found.dec) < 0.1


def test_percentiles_side_by_side_are_no_equinoxes():
    names = [f'{half}_{n}' for half in ('ra', 'dec') for n in (16, 50, 84)]
    table = {name: [50.0 if name[0] == 'r' else 2.0] for name in names}
    places = read_places(open_table(table), 'ra_50', 'dec_50')
    assert (places.ra[0], places.frame) == (50.0, 'icrs') and 'percentiles' in places.notes[0]
    for ra, dec in (('ra_p50', 'dec_p50'), ('ra_q50', 'dec_q50')):
        assert read_places(open_table({ra: [50.0], dec: [2.0]}), ra, dec).ra[0] == 50.0
    for ra, dec in (('ra_50', 'dec_50'), ('l1', 'b1')):
        with pytest.raises(BadInput, match='frame='):
            read_places(open_table({ra: [50.0], dec: [2.0]}), ra, dec)


@pytest.mark.parametrize('text', ['150.1,2.2\n150.3,2.1\n', 'SN1 150.1 2.2\nSN2 150.3 2.1\n'])
def test_a_table_without_names_is_told_so(tmp_path, text):
    (tmp_path / 'a.csv').write_text(text)
    with pytest.raises(BadInput, match='150.1, 2.2 where names of columns are expected'):
        open_table(tmp_path / 'a.csv')


def test_spectra_may_have_numbers_for_names(tmp_path):
    (tmp_path / 'a.csv').write_text('ra,dec,400.5,401.5,402.5\n50,2,1,2,3\n')
    check_each_reader(tmp_path / 'a.csv')


# Columns of units

BESIDE = [
    (dict(ra=PLACE.ra.hourangle, dec=2.0, ra_unit='h', dec_unit='deg'), 50),
    (dict(ra=PLACE.ra.rad, dec=PLACE.dec.rad, unit='rad'), 50),
    (dict(ra=PLACE.ra.hourangle, dec=2.0, coord_unit='hourangle'), 50),
    (dict(ra='03:20:00', dec='+02:00:00', units='hms'), 50),
    (dict(ra=50.0, dec=2.0, unit='UT1', ra_unit=''), 50),
    (dict(ra=50.0, dec=2.0, mag=17.0, unit='mag'), 50),
]


@pytest.mark.parametrize('cells, ra', BESIDE)
@pytest.mark.parametrize('n', [1, 2])
def test_a_column_of_units_is_read_by_all(cells, ra, n):
    table = pd.DataFrame([cells] * n)
    check_each_reader(table)


def test_each_row_has_its_own_unit():
    ra, dec = [PLACE.ra.hourangle, 50.0, 3.0, 4.0], [2.0] * 4
    table = pd.DataFrame(dict(ra=ra, dec=dec, ra_unit=['h', 'deg', 'furlong', None]))
    places = read_places(open_table(table), 'ra', 'dec')
    assert places.ra[:2] == pytest.approx([50, 50], abs=1e-9) and np.isnan(places.ra[2:]).all()
    assert 'furlong' in places.problems[2] and 'no unit' in places.problems[3]


def test_a_quantity_of_several_units_is_unknown():
    table = pd.DataFrame(dict(ra=[1.0, 2], dec=[2.0, 3], mag=[17, 18], mag_unit=['mag', 'Jy']))
    source = open_table(table)
    assert source.columns['mag'].isna().all() and 'differ in their units' in source.notes[0]


@pytest.mark.parametrize('name', ['eqx', 'Coord_Equinox', 'EQUINOX'])
def test_columns_of_equinoxes_are_known_by_their_names(name):
    cells = {'ra': [OLD.ra.deg], 'dec': [OLD.dec.deg], name: ['B1950']}
    check_each_reader(pd.DataFrame(cells))


# Places that are no table

HOURS, DEGREES = PLACE.ra.hourangle * u.hourangle, 2.0 * u.deg
NO_TABLES = [
    np.array([[PLACE.ra.rad, PLACE.dec.rad]]) * u.rad,
    (HOURS, DEGREES),
    [(HOURS, DEGREES)],
    (PLACE.ra, PLACE.dec),
    (Column([HOURS.value], unit='hourangle'), Column([2.0], unit='deg')),
    [PLACE],
    PLACE.transform_to('fk4'),
    ('3h20m00s', '2d00m00s'),
    ['3:20:00 +2:00:00'],
    pd.Series(dict(ra=50.0, dec=2.0)),
]


@pytest.mark.parametrize('places', NO_TABLES, ids=range(len(NO_TABLES)))
def test_places_that_are_no_table_keep_their_unit(places):
    rows, lost = _read_positions(places, 'ra', 'dec')
    assert len(rows) == 1 and lost.empty
    assert arcsec_off(rows.ra, rows.dec) < 1e-3
    found = places_of(places)
    assert arcsec_off(found.ra, found.dec) < 1e-3


ROWS = np.array([[10.0, 20.0], [11.0, 21.0]])
PAIRS = [
    [*ROWS],
    ROWS,
    ROWS.tolist(),
    [*map(tuple, ROWS)],
    tuple(map(tuple, ROWS)),
    [*np.ma.array(ROWS)],
]
COLUMNS = [
    (*ROWS.T,),
    [pd.Series(one) for one in ROWS.T],
    [Longitude(ROWS[:, 0], 'deg'), Latitude(ROWS[:, 1], 'deg')],
    [ROWS[:, 0] / 15 * u.hourangle, ROWS[:, 1] * u.deg],
]


@pytest.mark.parametrize('places', PAIRS + COLUMNS, ids=range(len(PAIRS + COLUMNS)))
def test_two_places_are_pairs_or_two_columns(places):
    rows, lost = _read_positions(places, 'ra', 'dec')
    assert lost.empty and rows.to_numpy() == pytest.approx(ROWS)
    assert places_of(places)[['ra', 'dec']].to_numpy() == pytest.approx(ROWS)


UNCLEAR = [
    (*ROWS.tolist(),),
    (ROWS[0].tolist(), ROWS[1]),
    [*(ROWS * u.deg)],
    [row for _, row in pd.DataFrame(ROWS, columns=['ra', 'dec']).iterrows()],
    [np.arange(3.0), np.arange(3.0)],
]


@pytest.mark.parametrize('places', UNCLEAR, ids=range(len(UNCLEAR)))
@pytest.mark.parametrize('read', [places_of, lambda one: _read_positions(one, 'ra', 'dec')])
def test_what_may_be_places_or_columns_is_asked(places, read):
    with pytest.raises(BadInput, match='give a list of tuples'):
        read(places)


MASK = [[False, False], [True, False]]
MASKED = [
    np.ma.array([[50.0, 2.0], [50.0, 2.0]], mask=MASK),
    Masked(np.full((2, 2), [50.0, 2.0]) * u.deg, mask=MASK),
    (MaskedColumn([50.0, 50.0], mask=[False, True], unit='deg'), Column([2.0, 2.0], unit='deg')),
    [(50.0, 2.0), (np.ma.masked, 2.0)],
    ['3:20:00 +2:00:00', '2d00m00s'],
]


@pytest.mark.parametrize('places', MASKED, ids=range(len(MASKED)))
def test_a_masked_place_is_none(places):
    rows, lost = _read_positions(places, 'ra', 'dec')
    assert (rows.index.tolist(), lost.reason.tolist()) == ([0], ['bad_position'])


def test_places_may_be_of_another_system():
    pairs = [(GALACTIC.l.deg, GALACTIC.b.deg)]
    rows, _ = _read_positions(pairs, 'ra', 'dec', frame='galactic')
    found = places_of(pairs, frame='galactic')
    assert max(arcsec_off(one.ra, one.dec) for one in (rows, found)) < 1e-3


# What is called the unit of something and is none

NO_UNITS = [
    dict(name=['a', 'b'], unit_name=['UT1', 'UT4']),
    dict(name=['a', 'b'], unit_name=['deg', 'mag']),
    dict(type=['SN', 'AGN'], type_unit=['A', 'B']),
    dict(id=[1, 2], unit_id=['A', 'B']),
    dict(id=[1, 2], unit_id=['A', 'A']),
    dict(id=['1', '2'], unit_id=['B1', 'S1']),
    dict(id=['x1', 'x2'], id_unit=['mag', 'mag']),
    dict(image=['1', '2'], unit_image=['UT1', 'UT4']),
]


@pytest.mark.parametrize('cells', NO_UNITS, ids=range(len(NO_UNITS)))
def test_a_unit_that_is_no_unit_is_a_column_of_its_own(cells):
    source = open_table(pd.DataFrame(dict(ra=[1.0, 2], dec=[2.0, 3], **cells)))
    assert source.columns[[*cells]].to_dict('list') == cells
    assert (source.units, source.row_units, source.notes) == ({}, {}, [])


NUMBERS = [
    ('temp', 'mK'),
    ('exptime', 's'),
    ('exposure', 'hrs'),
    ('width', 'arcsec'),
    ('mag', 'magn'),
]


@pytest.mark.parametrize('name, unit', NUMBERS)
def test_a_unit_beside_numbers_is_theirs(name, unit):
    source = open_table(pd.DataFrame({name: [1.0, 2], f'{name}_unit': [unit, None]}))
    assert ([*source.columns], source.units) == ([name], {name: unit})


def test_a_record_keeps_what_is_called_a_unit():
    record = dict(object_id=5, object_id_unit='A', exptime=2.0, exptime_unit='min')
    out = in_our_units(record, StampWords())
    assert (out['object_id_unit'], 'exptime_unit' in out, out['exptime']) == ('A', False, 120)


@pytest.mark.parametrize('several', [False, True])
def test_a_system_is_not_said_twice(several):
    "A SkyCoord was brought to ICRS and then read as galactic once more"
    place = SkyCoord(l=10 * u.deg, b=20 * u.deg, frame='galactic')
    places = [place, place] if several else place
    with pytest.raises(BadInput, match='says its own system'):
        places_of(places, frame='galactic')
    assert places_of(places)['ra'].to_numpy() == pytest.approx(place.icrs.ra.deg)


def test_the_services_are_asked_where_galactic_numbers_lie():
    found = ad.search_skyview((10.0, 20.0), 'DSS', frame='galactic')
    sky = SkyCoord(l=10 * u.deg, b=20 * u.deg, frame='galactic').icrs
    assert found[['ra', 'dec']].to_numpy()[0] == pytest.approx((sky.ra.deg, sky.dec.deg))
