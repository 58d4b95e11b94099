"What the names, units and cards of columns say of places and times: right, or asked, never silent"

import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, BarycentricMeanEcliptic, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from astrid_data.core import BadImage, BadInput
from astrid_data.ingest import column_names
from astrid_data.ingest.catalogue_columns import read_catalogue, read_times_and_motions
from astrid_data.ingest.catalogue_disputes import lose_contradictions
from astrid_data.ingest.column_names import place_name, time_name
from astrid_data.ingest.found import places_of
from astrid_data.ingest.stamp_records import NOTHING_SAID, StampWords, stamp_of
from astrid_data.ingest.stamp_rows import stamp_table
from astrid_data.ingest.tables import open_table
from astrid_data.ingest.when import read_windows, times_in
from astrid_data.ingest.where import read_places

PLACE = SkyCoord(150.0, 2.0, unit='deg')
NOTHING = dict(object_id=None, class_name=None, is_real=None, mag=None, snr=None, score=1.0)

# Places: names of both columns, astropy's frame, unit

B1900, B1875, J1975 = FK4(equinox='B1900'), FK4(equinox='B1875'), FK5(equinox='J1975')
OLD_ECLIPTIC = BarycentricMeanEcliptic(equinox=Time('B1950'))
PLACES = [
    ('ra', 'dec', 'icrs', 'deg'),
    ('RAJ2000', 'DEJ2000', 'icrs', 'deg'),
    ('_RA.icrs', '_DE.icrs', 'icrs', 'deg'),
    ('R.A. (J2000)', 'Dec. (J2000)', 'icrs', 'deg'),
    ('ALPHAPEAK_J2000', 'DELTAPEAK_J2000', 'icrs', 'deg'),
    ('target_ra', 'target_dec', 'icrs', 'deg'),
    ('ra_2', 'dec_2', 'icrs', 'deg'),
    ('RAB1950', 'DEB1950', 'fk4', 'deg'),
    ('RA(1950)', 'DEC(1950)', 'fk4', 'deg'),
    ('RA_1950', 'Dec_1950.0', 'fk4', 'deg'),
    ('RAfk4', 'DEfk4', 'fk4', 'deg'),
    ('RAB1900', 'DEB1900', B1900, 'deg'),
    ('RA_B1875', 'DEC_B1875', B1875, 'deg'),
    ('RAJ1975', 'DEJ1975', J1975, 'deg'),
    ('RA_RAD_FK5', 'DEC_RAD_FK5', 'fk5', 'rad'),
    ('GLON[deg]', 'GLAT[deg]', 'galactic', 'deg'),
    ('galactic_l', 'galactic_b', 'galactic', 'deg'),
    ('l', 'b', 'galactic', 'deg'),
    ('lII', 'bII', 'galactic', 'deg'),
    ('SGL', 'SGB', 'supergalactic', 'deg'),
    ('lambda', 'beta', 'barycentricmeanecliptic', 'deg'),
    ('ecl_lon', 'ecl_lat', 'barycentricmeanecliptic', 'deg'),
    ('ELON_J2000', 'ELAT_J2000', 'barycentricmeanecliptic', 'deg'),
    ('ELON1950', 'ELAT1950', OLD_ECLIPTIC, 'deg'),
    ('raRadians', 'decRadians', 'icrs', 'rad'),
    ('RA (rad)', 'Dec (rad)', 'icrs', 'rad'),
    ('RAhour', 'DEdeg', 'icrs', 'hourangle'),
    ('ra_mas', 'dec_mas', 'icrs', 'mas'),
    ('ra_arcsec', 'dec_arcsec', 'icrs', 'arcsec'),
    ('RAarcs', 'DEarcs', 'icrs', 'arcsec'),
    ('ra_milliarcsecond', 'dec_milliarcsecond', 'icrs', 'mas'),
    ('ra_uas', 'dec_uas', 'icrs', 'uas'),
    ('lgal', 'bgal', 'galactic', 'deg'),
    ('gall', 'galb', 'galactic', 'deg'),
    ('gl', 'gb', 'galactic', 'deg'),
    ('glongitude', 'glatitude', 'galactic', 'deg'),
    ('supergalactic_l', 'supergalactic_b', 'supergalactic', 'deg'),
    ('ecliptic_l', 'ecliptic_b', 'barycentricmeanecliptic', 'deg'),
    ('elongitude', 'elatitude', 'barycentricmeanecliptic', 'deg'),
    ('lam', 'bet', 'barycentricmeanecliptic', 'deg'),
]


def numbers_of(frame, unit):
    "The place as two numbers, by astropy"
    place = PLACE.transform_to(frame).spherical
    lat_unit = 'deg' if unit == 'hourangle' else unit
    return place.lon.to_value(unit), place.lat.to_value(lat_unit)


def arcsec_off(ra, dec):
    return SkyCoord(ra, dec, unit='deg').separation(PLACE).arcsec


def catalogue_of(table, ra, dec, **asked):
    source = open_table(table)
    source.frame = asked.pop('frame', None)
    return read_catalogue(source, 'list', ra, dec, **NOTHING | asked)


@pytest.mark.parametrize('ra, dec, frame, unit', PLACES)
def test_each_reader_reads_a_place_by_the_names_of_its_columns(ra, dec, frame, unit):
    cells = dict(zip((ra, dec), numbers_of(frame, unit)))
    row = catalogue_of(pd.DataFrame([cells]), ra, dec).rows.iloc[0]
    assert arcsec_off(row.ra, row.dec) < 1e-3
    words = StampWords(columns=dict(ra=ra, dec=dec))
    stamp = stamp_of('s', dict(science=np.eye(5), **cells), words)
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3
    told = stamp_table(pd.DataFrame([cells]), words).rows[0]
    stamp = stamp_of('s', dict(science=np.eye(5), **told), words)
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3


@pytest.mark.parametrize('cards', [dict(RADESYS='FK4'), dict(EQUINOX=1950.0)])
def test_each_reader_asks_the_cards_of_a_table(cards):
    lon, lat = numbers_of('fk4', 'deg')
    table = Table(dict(ra=[lon], dec=[lat]), meta=cards)
    places = places_of(table)
    assert arcsec_off(places.ra[0], places.dec[0]) < 1e-3
    told = stamp_table(table).rows[0]
    stamp = stamp_of('s', dict(science=np.eye(5), **told), NOTHING_SAID)
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3
    stamp = stamp_of('s', dict(science=np.eye(5), ra=lon, dec=lat, **cards), NOTHING_SAID)
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3


FK4_SAID = [dict(equinox='B1950'), dict(radesys='FK4'), dict(RADECSYS='FK4'), dict(frame='fk4')]
FK4_SAID += [dict(coord_frame='fk4', equinox=1950.0)]


@pytest.mark.parametrize('said', FK4_SAID)
def test_what_a_column_says_of_all_rows_counts(said):
    lon, lat = numbers_of('fk4', 'deg')
    rows = pd.DataFrame([dict(ra=lon, dec=lat, **said)] * 2)
    row = catalogue_of(rows.assign(ra=[lon, lon + 1]), 'ra', 'dec').rows.iloc[0]
    assert arcsec_off(row.ra, row.dec) < 1e-3
    stamp = stamp_of('s', dict(science=np.eye(5), **stamp_table(rows).rows[0]), NOTHING_SAID)
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3
    column = next(iter(said))
    other = 'B1900' if column == 'equinox' else 'galactic'
    rows.loc[1, [column, 'ra', 'dec']] = (
        other,
        *numbers_of(B1900 if other[0] == 'B' else other, 'deg'),
    )
    if len(said) == 1:
        found = catalogue_of(rows, 'ra', 'dec').rows
        assert np.max(arcsec_off(found.ra, found.dec)) < 1e-3
    assert catalogue_of(rows, 'ra', 'dec', frame='fk4').rows.ra[0] == pytest.approx(150.0)


def test_a_column_of_time_scales_counts():
    cells = dict(mjd=[MOMENT.tai.mjd] * 2, timesys=['TAI', 'TAI'])
    assert seconds_off(times_in(open_table(cells), 'mjd')[0][0]) < 1e-3
    cells = dict(mjd=[MOMENT.tai.mjd, MOMENT.mjd, MOMENT.mjd], timesys=['TAI', 'UTC', 'XYZ'])
    source = open_table(cells)
    mjd, is_odd = times_in(source, 'mjd')
    assert max(map(seconds_off, mjd[:2])) < 1e-3 and is_odd.tolist() == [False, False, True]
    assert any("'XYZ'" in note for note in source.notes)
    assert times_in(open_table(dict(mjd=[59000.3], time_scale=[12.5])), 'mjd')[0][0] == 59000.3


OLD_CARDS = [dict(EPOCH=1950.0), dict(COORDSYS='FK4'), dict(frame='fk4')]


@pytest.mark.parametrize('cards', OLD_CARDS)
def test_older_cards_of_systems_count(cards):
    lon, lat = numbers_of('fk4', 'deg')
    row = catalogue_of(Table(dict(ra=[lon], dec=[lat]), meta=cards), 'ra', 'dec').rows.iloc[0]
    assert arcsec_off(row.ra, row.dec) < 1e-3


@pytest.mark.parametrize('cards', [dict(EPOCH=1991.25), dict(EPOCH=2016.0), dict(FRAME=1950)])
def test_cards_that_name_no_system_change_nothing(cards):
    assert (
        catalogue_of(Table(dict(ra=[150.0], dec=[2.0]), meta=cards), 'ra', 'dec').rows.ra[0] == 150
    )


def test_the_icrs_has_no_equinox():
    table = Table(dict(ra=[150.0], dec=[2.0]), meta=dict(RADESYS='ICRS', EQUINOX=1950.0))
    with pytest.raises(BadInput, match='frame='):
        catalogue_of(table, 'ra', 'dec')


@pytest.mark.parametrize('ra, dec', [('DEC_J2000', 'RA_J2000'), ('beta', 'lambda'), ('b', 'l')])
def test_halves_that_are_interchanged_are_refused(ra, dec):
    with pytest.raises(BadInput, match='other coordinate'):
        catalogue_of({ra: [1.0], dec: [2.0]}, ra, dec)
    words = StampWords(columns=dict(ra=ra, dec=dec))
    with pytest.raises(BadImage, match='other coordinate'):
        stamp_of('s', {'science': np.eye(5), ra: 1.0, dec: 2.0}, words)


@pytest.mark.parametrize('dec', ['npd', 'colatitude', 'theta', 'colat'])
def test_an_angle_from_the_pole_is_asked(dec):
    with pytest.raises(BadInput, match='frame='):
        catalogue_of({'ra': [1.0], dec: [2.0]}, 'ra', dec)


@pytest.mark.parametrize('unit', ['rad', 'mas'])
def test_a_unit_that_name_and_column_both_say_counts_once(unit):
    names = f'ra_{unit}', f'dec_{unit}'
    table = Table(dict(zip(names, ([n] for n in numbers_of('icrs', unit)))))
    for name in names:
        table[name].unit = unit
    words = StampWords(columns=dict(zip(('ra', 'dec'), names)))
    record = dict(zip(names, (PLACE.ra.to(unit), PLACE.dec.to(unit))))
    for told in (stamp_table(table, words).rows[0], record):
        stamp = stamp_of('s', dict(science=np.eye(5), **told), words)
        assert arcsec_off(stamp.ra, stamp.dec) < 1e-3


ASKED = """RA_epoch_1950 RA_ep1950 RA_app RA_J2016 RAJ2015.5 RA_2016 RA50 RA_B50 ra_fk3 ra_9999 RA_B3000 lon longitude
 galactic_ra GLON1975 ra_rad_deg RA_ICRS_B1950 az ha LI ra_gon""".split()


@pytest.mark.parametrize('name', ASKED)
def test_what_looks_like_a_system_is_asked_and_can_be_answered(name):
    table = pd.DataFrame({name: [150.0], 'dec': [2.0]})
    with pytest.raises(BadInput, match='frame='):
        catalogue_of(table, name, 'dec')
    with pytest.raises(BadInput, match='frame='):
        catalogue_of(table, name, 'dec', frame='breakfast')
    said = place_name(name)
    unit = said.units[0] if said.units else ''
    if said.unit is None:
        row = catalogue_of(table, name, 'dec', frame=f'icrs {unit}').rows.iloc[0]
        assert arcsec_off(row.ra, row.dec) < 1e-6
    record = dict(science=np.eye(5), dec=2.0, **{name: 150.0})
    columns = dict(ra=name)
    with pytest.raises(BadImage, match='frame=') as refusal:
        stamp_of('s', record, StampWords(columns=columns))
    assert refusal.value.reason == 'bad_position'
    if said.unit is None:
        stamp = stamp_of('s', record, StampWords(columns=columns, frame=f'icrs {unit}'))
        assert arcsec_off(stamp.ra, stamp.dec) < 1e-6


BARE = [
    ('lon', 'lat', dict(EQUINOX=2000.0)),
    ('ec_lon', 'ec_lat', dict(RADESYS='ICRS')),
    ('heliographic_lon', 'heliographic_lat', dict(RADESYS='FK5')),
]


@pytest.mark.parametrize('ra, dec, cards', BARE)
def test_a_header_does_not_answer_for_a_longitude_that_it_may_not_mean(ra, dec, cards):
    table = Table({ra: [150.0], dec: [2.0]}, meta=cards)
    with pytest.raises(BadInput, match='any system'):
        catalogue_of(table, ra, dec)
    words = StampWords(columns=dict(ra=ra, dec=dec))
    with pytest.raises(BadImage, match='any system'):
        stamp_of('s', {'science': np.eye(5), ra: 150.0, dec: 2.0, **cards}, words)


def test_a_longitude_in_the_text_of_a_record_is_in_degrees():
    place = PLACE.galactic
    text = [part.to_string(sep=':', precision=6) for part in (place.l, place.b)]
    words = StampWords(columns=dict(ra='l', dec='b'))
    stamp = stamp_of('s', dict(science=np.eye(5), l=text[0], b=text[1]), words)
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-3


ANSWERS = [
    ('ra', 'dec', 'icrs hours', PLACE.ra.hourangle, PLACE.dec.deg, None),
    ('ra_rad_deg', 'dec_rad_deg', 'icrs rad', PLACE.ra.rad, PLACE.dec.rad, None),
    ('ra', 'dec', 'icrs J2016', PLACE.ra.deg, PLACE.dec.deg, 2016.0),
    ('ra_2016', 'dec_2016', 'icrs', PLACE.ra.deg, PLACE.dec.deg, 2016.0),
    ('RAJ1975', 'DEJ1975', 'fk5', *numbers_of(J1975, 'deg'), None),
]


@pytest.mark.parametrize('ra, dec, frame, lon, lat, epoch', ANSWERS)
def test_no_part_of_an_answer_is_dropped(ra, dec, frame, lon, lat, epoch):
    source = open_table({ra: [lon], dec: [lat]})
    source.frame = frame
    places = read_places(source, ra, dec)
    assert arcsec_off(places.ra[0], places.dec[0]) < 1e-3
    assert places.epoch == epoch
    if 'J2016' in frame:
        with pytest.raises(BadInput, match='epoch'):
            StampWords(frame=frame)
    else:
        words = StampWords(columns=dict(ra=ra, dec=dec), frame=frame)
        stamp = stamp_of('s', {'science': np.eye(5), ra: lon, dec: lat}, words)
        assert arcsec_off(stamp.ra, stamp.dec) < 1e-3


def test_an_answer_counts_before_names_and_tables():
    lon, lat = numbers_of(B1900, 'deg')
    table = Table(dict(RAJ2000=[lon], DEJ2000=[lat]), meta=dict(RADESYS='FK5'))
    row = catalogue_of(table, 'RAJ2000', 'DEJ2000', frame='fk4 B1900').rows.iloc[0]
    assert arcsec_off(row.ra, row.dec) < 1e-3


@pytest.mark.parametrize('equinox', [-1, 1e9, 1799.0, '3000'])
def test_an_equinox_of_nobodys_time_is_refused(equinox):
    with pytest.raises(BadInput, match='equinox'):
        catalogue_of(Table(dict(ra=[1.0], dec=[2.0]), meta=dict(EQUINOX=equinox)), 'ra', 'dec')


@pytest.mark.parametrize('nothing', [pd.NA, None, float('nan'), ''])
def test_no_equinox_is_none(nothing):
    table = Table(dict(ra=[150.0], dec=[2.0]), meta=dict(EQUINOX=nothing, RADESYS=nothing))
    assert catalogue_of(table, 'ra', 'dec').rows.ra[0] == 150.0


def test_two_equinoxes_of_one_place_are_refused():
    with pytest.raises(BadInput, match='B1900'):
        catalogue_of(dict(RAB1900=[1.0], DEB1950=[2.0]), 'RAB1900', 'DEB1950')


def test_the_epoch_in_a_name_is_that_of_the_motion():
    "Gaia's ra_epoch2000 stands beside ref_epoch, which is 2016"
    rows = dict(
        ra_epoch2000=[150.0], dec_epoch2000=[2.0], pmra=[1.0], pmdec=[1.0], ref_epoch=2016.0
    )
    catalogue = catalogue_of(pd.DataFrame(rows), 'ra_epoch2000', 'dec_epoch2000')
    read_times_and_motions(catalogue, None, None, None, None, None)
    assert catalogue.motion.mjd[0] == pytest.approx(51544.5)


def test_vizier_says_its_systems_in_comments(tmp_path):
    lon, lat = numbers_of('fk4', 'deg')
    text = '#Coosys\tB1950:\teq_FK4 B1950\n#Column\tra\t(F9.5)\tRight ascension\t[ucd=pos.eq.ra]\n'
    (tmp_path / 'a.tsv').write_text(f'{text}ra\tdec\ndeg\tdeg\n---\t---\n{lon}\t{lat}\n')
    row = catalogue_of(tmp_path / 'a.tsv', 'ra', 'dec').rows.iloc[0]
    assert arcsec_off(row.ra, row.dec) < 1e-3


def test_a_group_of_stc_says_the_system_of_its_fields(tmp_path):
    lon, lat = numbers_of('fk4', 'deg')
    kind = 'datatype="char" arraysize="*"'
    frame = 'stc:AstroCoordSystem.SpaceFrame.CoordRefFrame'
    (tmp_path / 'a.vot').write_text(f"""<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>
<GROUP utype="stc:CatalogEntryLocation">
<PARAM name="f" {kind} utype="{frame}" value="FK4"/>
<PARAM name="e" {kind} utype="{frame}.Equinox" value="B1950"/>
<FIELDref ref="c1"/><FIELDref ref="c2"/></GROUP>
<FIELD ID="c1" name="ra" datatype="double" unit="deg"/>
<FIELD ID="c2" name="dec" datatype="double" unit="deg"/>
<DATA><TABLEDATA><TR><TD>{lon}</TD><TD>{lat}</TD></TR></TABLEDATA></DATA>
</TABLE></RESOURCE></VOTABLE>""")
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        row = catalogue_of(tmp_path / 'a.vot', 'ra', 'dec').rows.iloc[0]
    assert arcsec_off(row.ra, row.dec) < 1e-3


# Times: name, scale and Julian date of the zero, by astropy

MOMENT = Time(59000.3, format='mjd', scale='utc')
TIMES = [
    ('mjd', 'utc', 2400000.5),
    ('jd', 'utc', 0.0),
    ('start', 'utc', 2400000.5),
    ('mjd_tdt', 'tt', 2400000.5),
    ('TTmjd', 'tt', 2400000.5),
    ('mjdTAI', 'tai', 2400000.5),
    ('MJD(TT)', 'tt', 2400000.5),
    ('midpointMjdTai', 'tai', 2400000.5),
    ('time [TDB, days]', 'tdb', 2400000.5),
    ('time_TCB', 'tcb', 2400000.5),
    ('JD_TDB', 'tdb', 0.0),
    ('HJD-2400000', 'utc', 2400000.0),
    ('HJD_2400000', 'utc', 2400000.0),
    ('JD(+2450000)', 'utc', 2450000.0),
    ('JD-2400000.5', 'utc', 2400000.5),
    ('MJD-50000', 'utc', 2450000.5),
    ('BJD - 2,457,000', 'utc', 2457000.0),
    ('BJD_TDB-2457000', 'tdb', 2457000.0),
    ('RJD', 'utc', 2400000.0),
    ('BTJD', 'tdb', 2457000.0),
    ('BKJD', 'tdb', 2454833.0),
]


def count_of(scale, zero):
    "The moment as days from a Julian date, by astropy"
    moment = getattr(MOMENT, scale)
    return (moment.jd1 - zero) + moment.jd2


def seconds_off(mjd):
    return abs(float(mjd) - MOMENT.mjd) * 86400


@pytest.mark.parametrize('name, scale, zero', TIMES)
def test_each_reader_reads_a_time_by_the_name_of_its_column(name, scale, zero):
    cells = {name: [count_of(scale, zero)]}
    assert seconds_off(read_windows(open_table(cells), name, 1).start[0]) < 1e-3
    rows = dict(ra=[1.0, 1.0], dec=[2.0, 2.0], **{name: cells[name] * 2})
    catalogue = catalogue_of(rows, 'ra', 'dec')
    assert seconds_off(lose_contradictions(catalogue, name)[0]) < 1e-3
    words = StampWords(columns=dict(mjd=name))
    record = dict(science=np.eye(5), ra=1.0, dec=2.0, **{name: cells[name][0]})
    assert seconds_off(stamp_of('s', record, words).mjd) < 1e-3


WRITTEN_OUT = [
    ('Julian Date', 0.0),
    ('JulianDate', 0.0),
    ('julian_day', 0.0),
    ('Barycentric Julian Date', 0.0),
    ('heliocentric_julian_date', 0.0),
    ('Modified Julian Date', 2400000.5),
    ('modified_jd', 2400000.5),
    ('modifiedJD', 2400000.5),
    ('Mod. JD', 2400000.5),
    ('reduced_julian_date', 2400000.0),
    ('Barycentric Julian Date - 2457000', 2457000.0),
    ('jdstarthist', 0.0),
    ('jdendhist', 0.0),
]


@pytest.mark.parametrize('name, zero', WRITTEN_OUT)
def test_a_count_that_is_written_out_is_that_count(name, zero):
    source = open_table({name: [count_of('utc', zero)]})
    assert seconds_off(times_in(source, name)[0][0]) < 1e-3
    record = dict(science=np.eye(5), ra=1.0, dec=2.0, **{name: count_of('utc', zero)})
    words = StampWords(columns=dict(mjd=name))
    assert seconds_off(stamp_of('s', record, words).mjd) < 1e-3
    if zero == 0:
        with pytest.raises(BadInput, match='half a day'):
            times_in(open_table({name: [59000.3]}), name)
        record[name] = 59000.3
        assert 'half a day' in stamp_of('s', record, words).missing['mjd']


ZONES = [
    ('Date (UTC+9)', 9.0),
    ('obs_time_utc-8', -8.0),
    ('dateUTC+05:30', 5.5),
    ('time [GMT −0330]', -3.5),
    ('date_obs +05:45', 5.75),
    ('mjd UTC+1', 1.0),
]


def in_zone(cells, hours):
    "The moment as a clock shows it that is so many hours ahead"
    shifted = MOMENT.mjd + hours / 24
    return cells(shifted) if cells is float else Time(shifted, format='mjd').iso


@pytest.mark.parametrize('name, hours', ZONES)
@pytest.mark.parametrize('cells', [str, float, pd.Timestamp])
def test_hours_ahead_of_utc_are_taken_off(name, hours, cells):
    cell = in_zone(cells, hours)
    cell = cells(cell) if cells is pd.Timestamp else cell
    source = open_table(pd.DataFrame({name: [cell]}))
    assert seconds_off(times_in(source, name)[0][0]) < 2e-3
    record = dict(science=np.eye(5), ra=1.0, dec=2.0, **{name: cell})
    if cells is not pd.Timestamp:
        words = StampWords(columns=dict(mjd=name))
        assert seconds_off(stamp_of('s', record, words).mjd) < 2e-3
    plain = open_table(pd.DataFrame(dict(local_time=[cell])))
    with pytest.raises(BadInput, match=r'UTC\+9'):
        times_in(plain, 'local_time')
    plain.time_scale = f'UTC{hours:+g}'
    assert seconds_off(times_in(plain, 'local_time')[0][0]) < 2e-3


CLOCKS = [
    'MJD-1',
    'Date (JST)',
    'time_est',
    'date_cet',
    'JST date',
    'start_utc8',
    'time_hst',
    'mjd_hst',
]
CLOCKS += [
    'obs_local',
    'date_tokyo',
    'time TAI-37',
    'time+9',
    'Date (-5)',
    'time_utc_9',
    'UTC+20 time',
]


@pytest.mark.parametrize('name', CLOCKS)
def test_what_may_be_a_clock_hours_from_ours_is_asked(name):
    for cell in ('2020-05-31 07:12:00', '2020-05-31', pd.Timestamp('2020-05-31 07:12'), 59000.3):
        source = open_table(pd.DataFrame({name: [cell]}))
        with pytest.raises(BadInput, match='time_scale='):
            times_in(source, name)
    source.time_scale = 'utc'
    assert times_in(source, name)[0][0] == 59000.3


@pytest.mark.parametrize('text', ['JST', 'utc 9', 'utc+20', 'TAI-37', 'mjd 9', 'Etc/GMT+9'])
def test_an_answer_that_is_not_understood_is_refused(text):
    source = open_table(dict(mjd=[59000.3]))
    source.time_scale = text
    with pytest.raises(BadInput, match=r'UTC\+9'):
        times_in(source, 'mjd')


@pytest.mark.parametrize('name', ['obs_local', 'Date (JST)', 'Date (UTC+9)', 'mjd_tai', 'TJD'])
def test_times_that_say_their_zone_need_no_name(name):
    aware = pd.to_datetime(['2020-05-31 16:12:00']).tz_localize('Asia/Tokyo')
    for cells in (aware, ['2020-05-31T16:12:00+09:00'], ['2020-05-31T07:12:00Z']):
        source = open_table(pd.DataFrame({name: cells}))
        assert seconds_off(times_in(source, name)[0][0]) < 1e-3
        assert source.notes == []


@pytest.mark.parametrize('name', ['obs_date_2020', 'night_2020', 'mjd2000', 'XJD', 'JD-245'])
def test_a_date_counts_from_nothing(name):
    for cell in ('2020-05-31 07:12:00', pd.Timestamp('2020-05-31 07:12:00')):
        source = open_table(pd.DataFrame({name: [cell]}))
        assert seconds_off(times_in(source, name)[0][0]) < 1e-3
    with pytest.raises(BadInput, match='time_scale='):
        times_in(open_table({name: [59000.3]}), name)


SECONDS = [
    ('taiBegin', 'tai', 2400000.5),
    ('TAI-BEG', 'tai', 2400000.5),
    ('gps_seconds', 'tai', 2444244.5 + 19 / 86400),
]


@pytest.mark.parametrize('name, scale, zero', SECONDS)
def test_seconds_of_sdss_and_of_gps_count_from_their_zero(name, scale, zero):
    source = open_table({name: [count_of(scale, zero) * 86400]})
    assert seconds_off(times_in(source, name)[0][0]) < 1e-3


@pytest.mark.parametrize('name, text', [('unix_time', MOMENT.unix), ('jyear', MOMENT.jyear)])
def test_seconds_of_unix_and_years_are_read(name, text):
    assert seconds_off(times_in(open_table({name: [text]}), name)[0][0]) < 1


QUESTIONS = 'TJD XJD mjd2000 time_2000 mjd_local lst JD-245 mjd_tai_utc mjd_jd JD+0.5'.split()


@pytest.mark.parametrize('name', QUESTIONS)
def test_what_looks_like_a_scale_or_a_zero_is_asked_and_can_be_answered(name):
    source = open_table({name: [count_of('tt', 2400000.5)]})
    with pytest.raises(BadInput, match='time_scale='):
        times_in(source, name)
    source.time_scale = 'MJD TT'
    assert seconds_off(times_in(source, name)[0][0]) < 1e-3
    record = dict(science=np.eye(5), ra=1.0, dec=2.0, **{name: 59000.3})
    stamp = stamp_of('s', record, StampWords(columns=dict(mjd=name)))
    assert stamp.mjd is None and 'time_scale=' in stamp.missing['mjd']
    assert stamp_of('s', record, StampWords(columns=dict(mjd=name), time_scale='MJD UTC')).mjd


@pytest.mark.parametrize('name', ['jd', 'HJD', 'bjd_tdb'])
def test_a_julian_date_that_is_too_small_is_asked(name):
    "It may count from JD 2400000 or be an MJD, half a day apart"
    with pytest.raises(BadInput, match='half a day'):
        times_in(open_table({name: [59000.8]}), name)


CARDS = [
    (dict(BJDREFI=2457000, BJDREFF=0.0, TIMEUNIT='d', TIMESYS='TDB'), 'tdb', 2457000.0, 1),
    (dict(BJDREFI=2454833, BJDREFF=0.5, TIMEUNIT='d'), 'tdb', 2454833.5, 1),
    (dict(MJDREFI=55197, MJDREFF=7.6601852e-4, TIMESYS='TT'), 'tt', 2455197.50076601852, 86400),
    (dict(MJDREF=50814.0, TIMESYS='TT', TIMEUNIT='s', TIMEZERO=100.0), 'tt', 0, 86400),
    (dict(JDREF=2450000.5, TIMEUNIT='d'), 'utc', 2450000.5, 1),
]


@pytest.mark.parametrize('cards, scale, zero, per_day', CARDS)
@pytest.mark.parametrize('in_file', [False, True])
def test_a_table_says_what_its_times_count_from(tmp_path, cards, scale, zero, per_day, in_file):
    zero = zero or 2400000.5 + 50814.0 + 100 / 86400
    table = Table(dict(TIME=[count_of(scale, zero) * per_day]), meta=cards)
    if in_file:
        table.write(tmp_path / 'a.fits')
    source = open_table(tmp_path / 'a.fits' if in_file else table)
    assert seconds_off(times_in(source, 'TIME')[0][0]) < 1e-2
    told = stamp_table(source_with_places(table), StampWords(columns=dict(mjd='TIME'))).rows[0]
    record = dict(science=np.eye(5), **told)
    assert seconds_off(stamp_of('s', record, StampWords(columns=dict(mjd='TIME'))).mjd) < 1e-2


def source_with_places(table):
    table = table.copy()
    table['ra'], table['dec'] = [150.0], [2.0]
    return table


def test_the_unit_of_tess_and_kepler_is_a_sentence(tmp_path):
    column = fits.Column('TIME', 'D', 'BJD - 2457000, days', array=[count_of('tdb', 2457000)])
    hdu = fits.BinTableHDU.from_columns([column], fits.Header(dict(TIMESYS='TDB')))
    hdu.writeto(tmp_path / 'a.fits')
    assert seconds_off(times_in(open_table(tmp_path / 'a.fits'), 'TIME')[0][0]) < 1e-3


def test_a_wcs_says_nothing_of_the_times_of_a_table():
    source = open_table(Table(dict(mjd=[59000.3], at=[59000.3]), meta=dict(MJDREF=0.0)))
    assert [times_in(source, name)[0][0] for name in ('mjd', 'at')] == [59000.3] * 2


def test_a_time_of_astropy_is_a_time_whatever_it_is_called():
    source = open_table(Table({'BJD-2457000': MOMENT.tdb.reshape(1)}))
    assert seconds_off(times_in(source, 'BJD-2457000')[0][0]) < 1e-3


@pytest.mark.parametrize('cards, when', [({}, 'local_time'), (dict(RADESYS='GAPPT'), None)])
def test_a_table_of_places_to_ask_for_is_told_what_can_be_done_there(cards, when):
    table = Table(dict(ra=[1.0], dec=[2.0], local_time=['2020-05-31 07:12']), meta=cards)
    with pytest.raises(BadInput, match='SkyCoord') as refusal:
        places_of(table, when, (1, 1) if when else None)
    assert 'frame=' not in str(refusal.value) and 'time_scale=' not in str(refusal.value)


# Nothing unknown is silent

PLACE_WORDS = column_names._PLACE_WORDS, column_names._PLACE_RUNS
TIME_WORDS = column_names._TIME_WORDS, column_names._TIME_RUNS


@pytest.mark.parametrize('words, runs', [PLACE_WORDS, TIME_WORDS])
def test_each_word_that_is_known_can_be_read(words, runs):
    assert [word for word in words if column_names._tokens(word, runs) != [word]] == []


WORDS = st.text('abcdefghijklmnopqrstuvwxyz', min_size=1, max_size=8)
NUMBERS = st.from_regex(r'[0-9]{3,6}(\.[0-9]{1,2})?', fullmatch=True)
ODD = st.one_of(WORDS, NUMBERS)
SIGNS = st.sampled_from('_ -([.+')


def says_something(said, head):
    "Whether a name that has more in it than `head` was read as more, or asked or told"
    bare = {name: value for name, value in vars(said).items() if name not in ('half', 'count')}
    return bare != {k: v for k, v in vars(head).items() if k not in ('half', 'count')}


HARMLESS_PLACES = column_names._BESIDE
HARMLESS_TIMES = column_names._OBSERVED


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from(['ra', 'dec', 'RA', 'Dec']), sign=SIGNS, odd=ODD, first=st.booleans())
def test_no_odd_word_beside_a_coordinate_is_silent(head, sign, odd, first):
    name = f'{odd}{sign}{head}' if first else f'{head}{sign}{odd}'
    known = column_names._words_of_run(odd, column_names._PLACE_RUNS)
    is_harmless = all(word in HARMLESS_PLACES or word in ('ra', 'dec', 'de') for word in known)
    is_2000 = odd in ('2000', '2000.0', '2000.00')
    equal = {'delta', 'decl', 'alpha', 'declination'} & {*known}
    assert (
        (odd.isalpha() and (is_harmless or equal))
        or is_2000
        or says_something(place_name(name), place_name(head))
    )


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from(['mjd', 'time', 'JD']), sign=SIGNS, odd=ODD, first=st.booleans())
def test_no_odd_word_beside_a_time_is_silent(head, sign, odd, first):
    name = f'{odd}{sign}{head}' if first else f'{head}{sign}{odd}'
    known = column_names._words_of_run(odd, column_names._TIME_RUNS)
    is_harmless = all(word in HARMLESS_TIMES or word in ('mjd', 'jd', 'd') for word in known)
    assert (odd.isalpha() and is_harmless) or says_something(time_name(name), time_name(head))


def test_an_odd_word_is_in_the_report_and_in_what_a_stamp_lacks():
    catalogue = catalogue_of(pd.DataFrame(dict(ra_foo=[150.0], dec=[2.0])), 'ra_foo', 'dec')
    assert any("'foo'" in note and 'frame=' in note for note in catalogue.notes)
    source = open_table(dict(foo_mjd=[59000.3]))
    read_windows(source, 'foo_mjd', 1)
    assert any("'foo'" in note and 'time_scale=' in note for note in source.notes)
    record = dict(science=np.eye(5), ra_foo=150.0, dec=2.0)
    stamp = stamp_of('s', record, StampWords(columns=dict(ra='ra_foo')))
    assert any("'foo'" in text for text in stamp.unused)


def test_degrees_of_a_quantity_in_a_record_are_not_read_as_its_name_says():
    record = dict(science=np.eye(5), ra_hours=10 * u.hourangle, dec=2 * u.deg)
    stamp = stamp_of('s', record, StampWords(columns=dict(ra='ra_hours')))
    assert arcsec_off(stamp.ra, stamp.dec) < 1e-6


def test_a_longitude_in_text_is_in_degrees():
    place = PLACE.galactic
    text = [part.to_string(sep=':', precision=6) for part in (place.l, place.b)]
    places = read_places(open_table(dict(l=[text[0]], b=[text[1]])), 'l', 'b')
    assert arcsec_off(places.ra[0], places.dec[0]) < 1e-3
