"Tails of what comes in: filters, time scales, frames of positions, units in names, packed files"

import bz2
import datetime
import gzip
import importlib.util
import lzma
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time

from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.collect.queries import funnel_counts, match_bands, registry_filters
from astrid_data.core import BadInput
from astrid_data.images.cards import Cards, band_of, mission_of, why_no_band
from astrid_data.images.hdus import role_of
from astrid_data.images.headers import read_header_facts
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.catalogue_columns import read_catalogue, read_times_and_motions
from astrid_data.ingest.stamp_sets import _unused_notes
from astrid_data.ingest.tables import open_table
from astrid_data.ingest.when import read_windows
from astrid_data.sky_rows import observation_rows


def header_of(**cards):
    "A header; '__' in a name stands for a blank"
    header = fits.Header()
    for name, value in cards.items():
        name = name.replace('__', ' ')
        header[f'HIERARCH {name}' if ' ' in name else name] = value
    return header


# Filters


@pytest.mark.parametrize(
    'cards',
    [
        *(dict(FILTER=text) for text in ('DARK', 'dark', 'BLANK', 'Opaque', 'CLOSED', 'SHUTTER')),
        *(dict(FILTER=text) for text in ('solid plate 0.0 0.0', 'Dark slide', 'blocked', 'Dark 2')),
        dict(FILTER1='J', FILTER2='closed'),
        dict(FILTER1='open', FILTER2='blank'),
        dict(FILTER='DARK', FILTER1='U', FILTER2='V'),
        dict(FILTER='DARK', IMAGETYP='Light Frame'),
        dict(FILTER01='NONE', FILTER02='DARK'),
        dict(ESO__INS__FILT1__NAME='SUNBLIND'),
        dict(TELESCOP='HST', INSTRUME='NICMOS', FILTER='BLANK'),
        dict(TELESCOP='JWST', INSTRUME='MIRI', FILTER='OPAQUE'),
        dict(FILTER='dark|g'),
    ],
)
def test_behind_a_filter_that_lets_no_light_in_there_is_no_sky(cards):
    header = header_of(**cards)
    role, evidence = role_of(header)
    assert role == 'calibration' and ' is ' in evidence
    facts = read_header_facts(header)
    assert facts['band'] is None and 'no light' in facts['missing']['band']


@pytest.mark.parametrize(
    'text', ['Dark red', 'IR_BLOCK', 'Darkness', 'r', 'open', 'OG515', 'CLEAR']
)
def test_other_filters_are_of_the_sky(text):
    assert role_of(header_of(FILTER=text)) == ('image', '')


@pytest.mark.parametrize('pupil', ['FLAT', 'PINHOLES'])
def test_a_lamp_in_the_pupil_is_no_sky(pupil):
    cards = header_of(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F200W', PUPIL=pupil)
    assert role_of(cards) == ('calibration', f'PUPIL is {pupil}')
    assert read_header_facts(cards)['band'] is None


def test_a_unit_that_nobody_can_read_is_said_to_be_one():
    facts = read_header_facts(header_of(BUNIT='MJy/blah', MAGZPT=25.0))
    assert facts['missing']['zero_point'].startswith("the unit 'MJy/blah' cannot be read")
    assert 'MAGZPT = 25 may give it' in facts['missing']['zero_point']


@pytest.mark.parametrize(
    'band, cards',
    [
        ('F444W+F405N', dict(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F444W', PUPIL='F405N')),
        ('F322W2+F323N', dict(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F322W2', PUPIL='F323N')),
        ('F480M+NRM', dict(TELESCOP='JWST', INSTRUME='NIRISS', FILTER='F480M', PUPIL='NRM')),
        ('F212N+WLP8', dict(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F212N', PUPIL='WLP8')),
        (
            'F210M+MASKRND',
            dict(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER='F210M', PUPIL='MASKRND'),
        ),
        ('F606W+POL0V', dict(TELESCOP='HST', INSTRUME='ACS', FILTER1='F606W', FILTER2='POL0V')),
        ('r+GG455', dict(FILTER='SDSS-r', FILTER2='GG455')),
        ('V+GG495', dict(FILTER1='V', FILTER2='GG495', FILTER3='Open')),
        ('OG515_G0306+Halpha', dict(FILTER1='OG515_G0306', FILTER2='Ha_G0310')),
        ('r', dict(FILTER='rp', FILTER1='air', FILTER2='air', FILTER3='rp')),
        ('r', dict(FILTER='r', FILTER1='r.MP9602', FILTER2='clear')),
        ('J+H2', dict(FILT1='J', FILT2='H2')),
        ('V', dict(FILTER='V', FILTER1=3, FILTER2=5)),
        ('B', dict(ALFLTNM='Open', FAFLTNM='B_Bes 440_100', FBFLTNM='Open')),
        ('R+ND1', dict(ESO__INS__FILT1__NAME='R_SPECIAL R', ESO__INS__FILT2__NAME='ND1')),
        ('g+ND4', dict(FILTER='g; ND4')),
        ('V', dict(FILTER='Johnson, V')),
        ('', dict(FILTER1='V', FILTER2=4)),
    ],
)
def test_light_through_two_filters_is_named_after_both(band, cards):
    asked = Cards(header_of(**cards))
    assert band_of(asked, mission_of(asked)) == band
    if not band:
        assert "'4' is a number" in why_no_band(asked)


EMPTY_OR_PLACE = 'Home', 'Out', 'pos3', 'slot 2', '#4', '3', 'Open 2', 'dark', 'blank'


@pytest.mark.parametrize(
    'band, cards',
    [
        ('i', dict(FILTER1='i_G0302', FILTER2='open2-8')),  # Gemini's GMOS
        ('r', dict(FILTER1='open1-6', FILTER2='r_G0326')),
        ('z', dict(FILTER1='open1-6', FILTER2='open2-6&z_G0304')),
        ('K', dict(FILTER1='open', FILTER2='K_G0204', FILTER3='pupil38_G5207')),  # Its NIRI
        ('Ks', dict(FILTER='Ks', FILTER1='K_prime', FILTER2='cold8')),
        ('V', dict(FILTER='V', FILTER1='U', FILTER2='B', FILTER3='V', FILTER4='R')),
        ('r', dict(FILTER='r', FILTER1='g', FILTER2='r')),
        ('Halpha', dict(FILTER='Ha', FILTER1='R', FILTER2='V', FILTER3='Ha')),
        ('V+GG495', dict(FILTER='V', FILTER1='V', FILTER2='GG495', FILTER3=4)),
        ('I', dict(FILTER='Cousins I, KPNO #1005')),
        ('R', dict(FILTER='R, Cousins, #2')),
        ('V', dict(FILTER='V;3')),
        ('V', dict(FILTER1='V', FILTER2='Out')),
        ('V', dict(FILTER='V', FILTERS='U,B,V,DARK')),
        ('V', dict(FILTER='V', FILTER1='U', FILTER2='V', FILTER3='Dark')),
        ('V', dict(BAND='V', FILTER1='U', FILTER2='DARK')),
        *(('V', dict(FILTER='V', FILTER2=text)) for text in EMPTY_OR_PLACE),
        *(('V', dict(FILTER='V', FILTER1=text, FILTER2='V')) for text in EMPTY_OR_PLACE),
    ],
)
def test_a_card_that_sums_the_wheels_up_counts(band, cards):
    header = header_of(**cards)
    asked = Cards(header)
    assert band_of(asked, mission_of(asked)) == band
    assert role_of(header) == ('image', '')


@pytest.mark.parametrize(
    'reason, cards',
    [
        ('which of U, B, V, R', dict(FILTER1='U', FILTER2='B', FILTER3='V', FILTER4='R')),
        ('which of Red, Green', dict(FILTER1='Red', FILTER2='Green')),
        ('which of U, V', dict(FILTER1='U', FILTER2='V', FILTER3='Dark')),
        ('which of U, B, V', dict(FILTERS='U,B,V,DARK')),
        ('which of U, B, V', dict(FILTER='U,B,V,DARK')),
        ('FILTERS is V,DARK', dict(FILTERS='V,DARK')),
        ('FILTER2 is blank', dict(FILTER1='V', FILTER2='blank')),
        ('FILTER is BLANK', dict(FILTER='BLANK', FILTER2='V')),
        ("'Home' is a place", dict(FILTER1='V', FILTER2='Home')),
        ("'pos3' is a place", dict(FILTER='pos3')),
        ("'open1-6' says", dict(FILTER1='open1-6', FILTER2='open2-8')),
    ],
)
def test_filters_in_doubt_are_unknown_and_the_frame_is_of_the_sky(reason, cards):
    header = header_of(**cards)
    assert role_of(header) == ('image', '')
    facts = read_header_facts(header)
    assert facts['band'] is None and reason in facts['missing']['band']


BANDS_ASKED = {
    'F162M': ['F150W2+F162M', 'F162M'],  # The narrower of two names the band
    'f405n': ['F444W+F405N'],
    'F444W': ['F444W'],
    'F150W2+F162M': ['F150W2+F162M'],
    'r': ['r', 'r+GG455'],
    'GG455': ['r+GG455'],
}


@pytest.mark.parametrize('asked, bands', BANDS_ASKED.items())
def test_a_question_for_a_filter_finds_the_bands_that_it_names(tmp_path, asked, bands):
    known = sorted({band for found in BANDS_ASKED.values() for band in found})
    assert match_bands([asked], known) == (bands, [])


def test_a_plan_says_which_bands_of_several_filters_it_takes(tmp_path):
    archive = open_archive(tmp_path / 'a')
    for seed, wheels in enumerate([('F162M', 'CLEAR'), ('F150W2', 'F162M'), ('F150W2', 'CLEAR')]):
        image = sky_image(seed, 150.0 + seed)
        image.header.update(TELESCOP='JWST', INSTRUME='NIRCAM', FILTER=wheels[0], PUPIL=wheels[1])
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / f'{seed}.fits')
        archive.add_fits(tmp_path / f'{seed}.fits', survey='own')
    rows = pd.DataFrame(dict(ra=[150.0, 151.0, 152.0], dec=[2.0] * 3))
    archive.add_catalogue(rows, 'list')
    asked = TrainingDataCollectionParams(bands=['F162M'], validation_status='any')
    with archive.session() as session:
        funnel = funnel_counts(session, registry_filters(session, asked))
    step = funnel.set_index('filter').loc['band']
    assert step['asked'] == 'F162M, F150W2+F162M (of several filters)' and step['left'] == 2
    rows, _ = observation_rows(archive, band='f162m')
    assert sorted(row['band'] for row in rows) == ['F150W2+F162M', 'F162M']


def test_a_grism_that_shares_a_card_with_its_filter_makes_spectra():
    assert role_of(header_of(FILTER='GR150R;F115W'))[0] == 'spectrum'


# Zero points


@pytest.mark.parametrize('unit', ['MJy/sr', 'nJy/arcsec2', 'Jy/sr'])
def test_a_converted_surface_brightness_needs_the_area_that_it_was_converted_with(unit):
    step = 0.05 / 3600
    sky = dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CDELT1=-step, CDELT2=step, BUNIT=unit)
    hubble = dict(TELESCOP='HST', INSTRUME='ACS', PHOTFLAM=7e-20, PHOTPLAM=8045.0)
    bare = read_header_facts(header_of(**sky, **hubble))
    assert bare['zero_point'] is None and 'pixel area' in bare['missing']['zero_point']
    by_wcs = read_header_facts(header_of(**sky))['zero_point']
    by_card = read_header_facts(header_of(PIXAR_A2=0.05**2, **sky, **hubble))['zero_point']
    assert by_card == pytest.approx(by_wcs, abs=1e-6)


# Reports


def sky_image(seed, ra=150.0, n=64):
    "An image of noise with a place on the sky, its pixels 1 arcsec wide"
    step = 1 / 3600
    cards = dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=ra, CRVAL2=2.0)
    cards |= dict(CDELT1=-step, CDELT2=step, CRPIX1=n / 2, CRPIX2=n / 2, EXPTIME=60.0)
    cards['DATE-OBS'] = '2020-01-01T03:00:00'
    pixels = np.random.default_rng(seed).normal(10, 1, (n, n)).astype('f4')
    return fits.ImageHDU(pixels, fits.Header(cards), name=f'SCI{seed}')


def test_a_report_counts_images_and_not_placements(tmp_path):
    chips = [sky_image(1), sky_image(2, 150.5)]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / 'two.fits')
    archive = open_archive(tmp_path / 'a')
    archive.add_fits(tmp_path / 'two.fits', survey='own')
    at = np.array([-20, -10, 0, 10, 20]) / 3600
    rows = pd.DataFrame(dict(ra=[*(150 + at), *(150.5 + at)], dec=[2.0] * 10))
    note = next(n for n in archive.add_catalogue(rows, 'list').notes if 'placed on' in n)
    assert '10 rows placed on 2 images' in note and 'up to 1 each' in note


def test_notes_beyond_the_twentieth_are_counted():
    unused = {f'column {k:02d} is an array': 2 for k in range(23)}
    notes = _unused_notes(unused, 2)
    assert len(notes) == 21 and notes[-1].startswith('and 3 more')
    assert len(_unused_notes(dict(list(unused.items())[:20]), 2)) == 20


# Time scales

AHEAD_S = dict(tdb=69.184, tt=69.184, tai=37.0, utc=0.0, ut1=0.0)  # Of UTC, in 2020


@pytest.mark.parametrize(
    'card, scale',
    [
        *((f'MJD-{scale.upper()}', scale) for scale in ('tai', 'tt', 'tdb', 'utc')),
        *((f'JD-{scale.upper()}', scale) for scale in ('tai', 'tt', 'tdb')),
        ('MJD_TDB', 'tdb'),
        ('BJD_TDB', 'tdb'),
        ('HJD-UTC', 'utc'),
        ('BMJD_TDB', 'tdb'),
    ],
)
def test_a_card_says_its_time_scale_in_its_name(card, scale):
    value = 59000.3 + (2400000.5 if 'MJD' not in card else 0)
    facts = read_header_facts(header_of(**{card: value}))
    assert (59000.3 - facts['mjd']) * 86400 == pytest.approx(AHEAD_S[scale], abs=0.01)
    assert ('8.3 minutes' in facts['notes'].get('mjd', '')) == (card[0] in 'BH')


@pytest.mark.parametrize('card', ['BJD', 'HJD', 'BJD-OBS'])
def test_a_barycentric_time_without_a_scale_is_said_to_have_none(card):
    facts = read_header_facts(header_of(**{card: 2459000.8}))
    assert facts['mjd'] == pytest.approx(59000.3) and facts['mjd_meaning'] is None
    assert 'is unsaid' in facts['notes']['mjd']


def start_of(cells, name, **meta):
    "When the rows of a table hold, by one column"
    table = Table({name: cells}, meta=meta)
    source = open_table(table)
    return read_windows(source, when=name, days=1).start, source


@pytest.mark.parametrize(
    'name, scale',
    [
        ('start_tdb', 'tdb'),
        ('time_tai', 'tai'),
        ('mjd_tt', 'tt'),
        ('bjd_tdb', 'tdb'),
        ('BJDTDB', 'tdb'),
        ('midpointTai', 'tai'),
        ('start_utc', 'utc'),
        ('mjd', 'utc'),
        ('attempt', 'utc'),
    ],
)
def test_a_column_says_its_time_scale_in_its_name(name, scale):
    zero = 2400000.5 if name.lower().startswith('bjd') else 0.0
    start, source = start_of([59000.3 + zero, 59001.3 + zero], name)
    assert (59000.3 - start[0]) * 86400 == pytest.approx(AHEAD_S[scale], abs=0.01)
    assert any('8.3 minutes' in note for note in source.notes) == (zero > 0)


def test_a_table_says_its_time_scale_and_a_column_knows_better():
    assert (59000.3 - start_of([59000.3], 'mjd', TIMESYS='TAI')[0][0]) * 86400 == pytest.approx(
        37.0, abs=0.01
    )
    assert start_of([59000.3], 'mjd_utc', TIMESYS='TAI')[0][0] == 59000.3
    text = start_of(['2020-05-31T07:12:00Z', '2020-05-31T07:12:00'], 't_tai')[0]
    assert (text[0] - text[1]) * 86400 == pytest.approx(37.0, abs=0.01)
    with pytest.raises(BadInput, match='LOCAL'):
        start_of([59000.3], 'mjd', TIMESYS='LOCAL')


def test_a_time_of_astropy_is_converted_once():
    moment = Time(59000.3, format='mjd', scale='tdb')
    start, _ = start_of(Time([moment]), 'bjd_tdb')
    assert start[0] == pytest.approx(moment.utc.mjd, abs=1e-9)


# Systems of positions

PLACE = SkyCoord(150.0, 2.0, unit='deg')
NOTHING = dict(object_id=None, class_name=None, is_real=None, mag=None, snr=None, score=1.0)


def place_in(table, ra='ra', dec='dec'):
    "Where the first row of a table lies, and the notes"
    catalogue = read_catalogue(open_table(table), 'list', ra, dec, **NOTHING)
    row = catalogue.rows.iloc[0]
    found = SkyCoord(row.ra, row.dec, unit='deg')
    return found.separation(PLACE).arcsec, catalogue.notes


SYSTEMS = {
    'fk4': dict(RADESYS='FK4', EQUINOX=1950.0),
    'fk5': dict(RADESYS='FK5', EQUINOX=2000.0),
    'icrs': dict(RADESYS='ICRS'),
}


@pytest.mark.parametrize('frame', SYSTEMS)
@pytest.mark.parametrize('kind', ['astropy', 'fits'])
def test_positions_of_a_table_are_brought_to_icrs(tmp_path, frame, kind):
    place = PLACE.transform_to(frame)
    table = Table(dict(ra=[place.ra.deg], dec=[place.dec.deg]), meta=SYSTEMS[frame])
    if kind == 'fits':
        table.write(tmp_path / 'a.fits')
        table = tmp_path / 'a.fits'
    away, notes = place_in(table)
    assert away < 1e-3
    assert any('brought to ICRS' in note for note in notes) == (frame != 'icrs')


@pytest.mark.parametrize(
    'names, frame', [(('GLON', 'GLAT'), 'galactic'), (('RAB1950', 'DEB1950'), 'fk4')]
)
def test_names_of_columns_say_their_system(names, frame):
    place = PLACE.transform_to(frame).spherical
    lon, lat = place.lon.deg, place.lat.deg
    away, _ = place_in(pd.DataFrame({names[0]: [lon], names[1]: [lat]}), *names)
    assert away < 1e-3


@pytest.mark.parametrize(
    'coosys, frame',
    [
        ('system="eq_FK5" equinox="J2000"', 'fk5'),
        ('system="eq_FK4" equinox="B1950" epoch="B1950"', 'fk4'),
        ('system="ICRS"', 'icrs'),
        ('system="galactic"', 'galactic'),
    ],
)
def test_the_system_of_a_votable_is_honoured(tmp_path, coosys, frame):
    place = PLACE.transform_to(frame).spherical
    text = f"""<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<COOSYS ID="sys" {coosys}/><TABLE>
<FIELD name="ra" datatype="double" unit="deg" ref="sys"/>
<FIELD name="dec" datatype="double" unit="deg" ref="sys"/>
<DATA><TABLEDATA><TR><TD>{place.lon.deg}</TD><TD>{place.lat.deg}</TD></TR></TABLEDATA></DATA>
</TABLE></RESOURCE></VOTABLE>"""
    (tmp_path / 'a.vot').write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        away, _ = place_in(tmp_path / 'a.vot')
    assert away < 1e-3


def test_a_system_that_nobody_knows_is_refused():
    with pytest.raises(BadInput, match='GAPPT'):
        place_in(Table(dict(ra=[1.0], dec=[2.0]), meta=dict(RADESYS='GAPPT')))


# Units in names


@pytest.mark.parametrize('names', [('ra_rad', 'dec_rad'), ('ra_rad_j2000', 'dec_rad_j2000')])
def test_a_unit_in_a_name_counts_for_every_reader(names):
    place = dict(zip(names, ([PLACE.ra.to_value(u.rad)], [PLACE.dec.to_value(u.rad)])))
    assert place_in(pd.DataFrame(place), *names)[0] < 1e-3


@pytest.mark.parametrize(
    'names, unit',
    [
        (('raRad', 'decRad'), u.rad),
        (('ra_mas', 'dec_mas'), u.mas),
        (('ra_arcsec', 'dec_arcsec'), u.arcsec),
        (('RArad', 'DErad'), u.rad),
    ],
)
def test_small_units_and_joined_names_count(names, unit):
    place = dict(zip(names, ([PLACE.ra.to_value(unit)], [PLACE.dec.to_value(unit)])))
    assert place_in(pd.DataFrame(place), *names)[0] < 1e-3


def test_a_part_of_a_position_is_refused():
    "VizieR's RAh, RAm, RAs: whole hours were taken as degrees"
    parts = pd.DataFrame(dict(RAh=[10], RAm=[0], RAs=[0.0], DEd=[2], DEm=[0], DEs=[0.0]))
    with pytest.raises(BadInput, match='RAh is one part of a position'):
        place_in(parts, 'RAh', 'DEd')


# Packed files

PACKERS = dict(xz=lzma.compress, bz2=bz2.compress, gz=gzip.compress)


@pytest.mark.parametrize('packed', PACKERS)
@pytest.mark.parametrize('kind', ['csv', 'parquet', 'feather'])
def test_a_packed_table_is_read(tmp_path, packed, kind):
    rows = pd.DataFrame(dict(ra=[150.0], dec=[2.0]))
    plain = tmp_path / f'a.{kind}'
    getattr(rows, f'to_{kind}')(plain, **(dict(index=False) if kind == 'csv' else {}))
    path = tmp_path / f'a.{kind}.{packed}'
    path.write_bytes(PACKERS[packed](plain.read_bytes()))
    assert place_in(path)[0] < 1e-3


def test_a_packing_that_nothing_here_opens_is_refused_in_words(tmp_path):
    if importlib.util.find_spec('zstandard'):
        pytest.skip('zstandard is installed, which opens it')
    (tmp_path / 'a.csv.zst').write_bytes(b'\x28\xb5\x2f\xfd' + bytes(40))
    with pytest.raises(BadInput, match='unpack it first'):
        open_table(tmp_path / 'a.csv.zst')


# Names with brackets, days without a clock, parts of positions, equinoxes that nobody said


@pytest.mark.parametrize(
    'name, scale',
    [
        ('MJD (TT)', 'tt'),
        ('MJD(TT)', 'tt'),
        ('MJD[TAI]', 'tai'),
        ('time [TDB, days]', 'tdb'),
        ('time (BJD_TDB)', 'tdb'),
        ('attempt (MJD)', 'utc'),
    ],
)
def test_a_scale_in_brackets_counts(name, scale):
    start, source = start_of([59000.3 + (2400000.5 if 'BJD' in name else 0.0)], name)
    assert (59000.3 - start[0]) * 86400 == pytest.approx(AHEAD_S[scale], abs=0.01)
    assert any('8.3 minutes' in note for note in source.notes) == ('BJD' in name)


@pytest.mark.parametrize('day', ['2020-01-01', '2020/01/01', '2020-001', datetime.date(2020, 1, 1)])
def test_a_day_without_a_clock_is_that_day_in_each_scale(day):
    assert start_of(pd.Series([day], dtype=object), 'mjd', TIMESYS='TAI')[0][0] == 58849.0


@pytest.mark.parametrize('clock', ['2020-01-01T00:00:00', '58849.0', '58849', 58849.0])
def test_midnight_of_a_clock_is_converted(clock):
    start, _ = start_of(pd.Series([clock], dtype=object), 'mjd', TIMESYS='TAI')
    assert (58849.0 - start[0]) * 86400 == pytest.approx(37.0, abs=0.01)


@pytest.mark.parametrize(
    'names', [('RA (B1950)', 'Dec (B1950)'), ('RA [deg] (B1950.0)', 'DEC_1950')]
)
def test_a_system_in_brackets_counts(names):
    place = PLACE.transform_to('fk4').spherical
    away, _ = place_in(pd.DataFrame({names[0]: [place.lon.deg], names[1]: [place.lat.deg]}), *names)
    assert away < 1e-3


@pytest.mark.parametrize(
    'parts',
    [
        ('RA_h', 'RA_m', 'RA_s'),
        ('ra_h', 'ra_m'),
        ('rah', 'ram', 'ded'),
        ('RA_hours', 'RA_min', 'RA_sec'),
    ],
)
@pytest.mark.parametrize('unit', [None, u.hourangle])
def test_a_part_of_a_position_is_refused_in_any_spelling(parts, unit):
    table = Table({name: [10.0] for name in (*parts, 'dec')})
    table[parts[0]].unit = unit
    with pytest.raises(BadInput, match=f'{parts[0]} is one part of a position'):
        place_in(table, parts[0], 'dec')


@pytest.mark.parametrize(
    'names', [['RA_h'], ['ra_hours', 'ra_min', 'ra_max'], ['RA_h', 'dec_s'], ['RA_h', 'ra_rms']]
)
def test_hours_that_stand_alone_are_whole(names):
    table = pd.DataFrame({name: [10.0] for name in names} | dict(dec=[2.0]))
    assert place_in(table, names[0], 'dec')[0] < 1e-3


@pytest.mark.parametrize('equinox', [None, np.nan, 'nan', 2000.0])
def test_motions_of_an_fk5_without_an_equinox_count(equinox):
    table = pd.DataFrame(dict(ra=[150.0], dec=[2.0], pmra=[10.0], pmdec=[5.0]))
    table.attrs = dict(RADESYS='FK5') | ({} if equinox is None else dict(EQUINOX=equinox))
    catalogue = read_catalogue(open_table(table), 'list', 'ra', 'dec', **NOTHING)
    read_times_and_motions(catalogue, None, None, 'pmra', 'pmdec', 2000.0)
    assert catalogue.motion is not None
    found = SkyCoord(catalogue.rows.ra[0], catalogue.rows.dec[0], unit='deg')
    assert 0 < found.separation(PLACE).arcsec < 0.1


@pytest.mark.parametrize('meta', [dict(EQUINOX=np.nan), dict(EQUINOX='--'), dict(RADESYS=np.nan)])
def test_an_equinox_that_is_no_number_is_unsaid(meta):
    table = pd.DataFrame(dict(ra=[150.0], dec=[2.0]))
    table.attrs = meta
    away, notes = place_in(table)
    assert away == 0 and not any('ICRS' in note for note in notes)


@pytest.mark.parametrize(
    'word',
    'Flat-Field,FLATS,sky flats,DARKS,DarkFrame,dark-frame,biasframe,biases,zeroframe,zeros,'
    'evenillum,calibration,arcs,flat fields,master flats'.split(','),
)
def test_frames_of_nothing_are_no_sky_in_any_spelling(word):
    assert role_of(fits.Header(dict(IMAGETYP=word)))[0] == 'calibration'


@pytest.mark.parametrize('word', ['spectrum', 'SPECTRUM', 'spectra'])
def test_a_spectrum_by_imagetyp_is_no_image(word):
    assert role_of(fits.Header(dict(IMAGETYP=word)))[0] == 'spectrum'


@pytest.mark.parametrize('word', ['object', 'Light Frame', 'science', 'sky', 'OBJECT,SKY', 'light'])
def test_frames_of_sky_are_images(word):
    assert role_of(fits.Header(dict(IMAGETYP=word)))[0] == 'image'
