"""When something was: leap seconds, times since a moment, clocks in cards of their own, and spellings of dates."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.time import Time

from astrid_data.core import BadInput, mjd_from_utc, seconds_of_day, utc_from_mjd
from astrid_data.images.cards import Cards
from astrid_data.images.headers import read_header_facts
from astrid_data.images.times import end_card, read_date, time_of
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.values import read_times, read_times_of
from astrid_data.registry.tables import Image, Observation

pytestmark = pytest.mark.filterwarnings('ignore')


def time_by(*commented, **values):
    header = fits.Header()
    header.update({key.replace('__', '-'): value for key, value in values.items()})
    for card in commented:
        header.append(card)
    return time_of(Cards(header))


def iso(mjd):
    return Time(mjd, format='mjd', scale='utc').isot


# Leap seconds


LEAP = '2016-12-31T23:59:60.500', '2017-01-01 00:00:00.500000+00:00'


@pytest.mark.parametrize(
    'cards, as_iso, stored',
    [
        (dict(DATE__OBS='2016-12-31T23:59:60.5'), *LEAP),
        (dict(DATE__OBS='2016-12-31T18:59:60.5-05:00'), *LEAP),
        (dict(DATE__OBS='2017-01-01T08:59:60.5+09:00'), *LEAP),
        (dict(DATE__OBS='2016-12-31', UT='23:59:60.5'), *LEAP),
        (dict(DATE__OBS='2017-01-01T00:00:36.5', TIMESYS='TAI'), *LEAP),
        (
            dict(DATE__OBS='2016-12-31T12:00:00'),
            '2016-12-31T12:00:00.000',
            '2016-12-31 12:00:00+00:00',
        ),
        (
            dict(DATE__OBS='2016-12-31T22:00:00-05:00'),
            '2017-01-01T03:00:00.000',
            '2017-01-01 03:00:00+00:00',
        ),
        (
            dict(DATE__OBS='2015-06-30', UT=23.5),
            '2015-06-30T23:30:00.000',
            '2015-06-30 23:30:00+00:00',
        ),
    ],
)
def test_days_with_a_leap_second_are_kept_to_the_millisecond(cards, as_iso, stored):
    mjd = time_by(**cards)['mjd']
    assert iso(mjd) == as_iso
    assert abs((utc_from_mjd(mjd) - pd.Timestamp(stored)).total_seconds()) < 1e-4


@pytest.mark.parametrize(
    'text', ['2016-12-30T23:59:60.5', '2016-12-31T18:59:60.5', '2017-01-01T23:59:60']
)
def test_there_is_no_60th_second_elsewhere(text):
    assert time_by(DATE__OBS=text)['mjd'] is None


def test_what_is_stored_of_a_leap_second_is_that_moment(tmp_path):
    from awkward import header, sky

    path = tmp_path / 'leap.fits'
    fits.PrimaryHDU(sky(1), header(**{'DATE-OBS': LEAP[0]})).writeto(path)
    archive = open_archive(tmp_path / 'home')
    archive.add_fits(path, show=False, detect=False)
    with archive.session() as session:
        assert iso(session.query(Image).one().mjd) == LEAP[0]
        stored = session.query(Observation).one().observation_time
    assert abs((stored - pd.Timestamp(LEAP[1])).total_seconds()) < 1e-4


def test_days_and_datetimes_go_both_ways():
    long_days = [day for day in range(41317, 60000) if seconds_of_day(day) != 86400]
    assert len(long_days) == 27
    rng = np.random.default_rng(0)
    for day in [*long_days, *rng.integers(41317, 60000, 50)]:
        when = pd.Timestamp(utc_from_mjd(float(day))) + pd.Timedelta(seconds=rng.uniform(0, 86399))
        mjd = mjd_from_utc(when.to_pydatetime())
        assert abs(mjd - Time(when.to_pydatetime()).mjd) * 86400 < 1e-5
        assert abs((utc_from_mjd(mjd) - when).total_seconds()) < 1e-5


def test_catalogues_count_leap_days_alike():
    texts = ['2016-12-31T12:00:00', '2016-12-31T23:59:60.5', '2016-12-30T12:00:00', '']
    mjd, is_odd = read_times(pd.Series(texts, dtype=object))
    assert [iso(one) for one in mjd[:3]] == [
        '2016-12-31T12:00:00.000',
        '2016-12-31T23:59:60.500',
        '2016-12-30T12:00:00.000',
    ]
    assert np.isnan(mjd[3]) and not is_odd.any()
    stamps, _ = read_times(pd.Series(pd.to_datetime(texts[:1])))
    assert stamps[0] == mjd[0]


# Times since a moment


@pytest.mark.parametrize(
    'cards, as_iso, meaning',
    [
        # Fermi: 1e8 s after 2001-01-01T00:00:00 UTC, which was 64.184 s later in TT
        (
            dict(
                TSTART=1e8, MJDREFI=51910, MJDREFF=7.428703703703703e-4, TIMESYS='TT', TIMEUNIT='s'
            ),
            '2004-03-03T09:46:40.000',
            'start',
        ),
        # Chandra: MJDREF is in TT; no unit means seconds
        (dict(TSTART=1e8, MJDREF=50814.0, TIMESYS='TT'), '2001-03-03T09:45:35.816', 'start'),
        (dict(TSTART='1e8', MJDREF='50814', TIMESYS='TT'), '2001-03-03T09:45:35.816', 'start'),
        (dict(TSTART=10.5, JDREF=2450814.5, TIMEUNIT='d'), '1998-01-11T12:00:00.000', 'start'),
        (dict(TSTART=36.0, DATEREF='1998-01-01', TIMEUNIT='h'), '1998-01-02T12:00:00.000', 'start'),
        (dict(TSTART=0.0, MJDREF=50814.0, TIMEZERO=43200.0), '1998-01-01T12:00:00.000', 'start'),
        (
            dict(TSTART=0.0, MJDREF=50814.0, TIMEZERI=43200, TIMEZERF=0.25),
            '1998-01-01T12:00:00.250',
            'start',
        ),
        (dict(TSTOP=43200.0, MJDREF=50814.0), '1998-01-01T12:00:00.000', 'end'),
    ],
)
def test_times_since_a_moment(cards, as_iso, meaning):
    found = time_by(**cards)
    assert (iso(found['mjd']), found['mjd_meaning']) == (as_iso, meaning)


@pytest.mark.parametrize(
    'cards, why',
    [
        (dict(TSTART=1e8, TIMESYS='TT'), 'no card names'),
        (dict(TSTART=1e8, MJDREF=50814.0, TIMESYS='LOCAL'), 'LOCAL'),
        (dict(TSTART=1e8, MJDREF=50814.0, TIMEUNIT='furlong'), 'furlong'),
        (dict(JD__OBS=57000.25), 'not a Julian date'),
        (dict(DATE__OBS='05/11/03'), 'century'),
    ],
)
def test_what_gives_no_time_says_why(cards, why):
    found = time_by(**cards)
    assert found['mjd'] is None and why in found['missing']


@pytest.mark.parametrize(
    'cards',
    [
        dict(TSTART=1325.29, BJDREFI=2457000, BJDREFF=0.0, TIMEUNIT='d', TIMESYS='TDB'),
        dict(TSTART=1325.29, JDREF=2457000, TIMEREF='SOLARSYSTEM', TIMEUNIT='d', TIMESYS='TDB'),
        dict(BJD=2458325.29, TIMESYS='TDB'),
        dict(HJD=2458325.29),
        dict(BMJD__OBS=58324.79),
    ],
)
def test_times_at_the_suns_centre_give_the_day(cards):
    found = time_by(**cards)
    assert iso(found['mjd'])[:10] == '2018-07-25' and found['mjd_meaning'] is None
    assert '8.3 minutes' in found['note']


def test_the_clock_of_the_observatory_is_taken_before_that_of_the_sun():
    found = time_by(BJD=2458325.29, DATE__OBS='2018-07-25T18:50:00')
    assert iso(found['mjd']) == '2018-07-25T18:50:00.000' and found['mjd_meaning'] == 'start'


def test_ends_are_ends():
    def end(**values):
        header = fits.Header({k.replace('__', '-'): v for k, v in values.items()})
        return end_card(Cards(header))

    assert end(TSTART=0.0, TSTOP=43200.0, MJDREF=50814.0) == 50814.5
    assert end(DATE__END='1998-01-01', UT__END='12:00:00', UT='03:00:00') == 50814.5
    assert end(DATE__END='1998-01-01', UT='03:00:00') is None
    long = time_by(EXPSTART=53125.25, EXPEND=53800.25)
    assert (long['mjd'], long['mjd_meaning']) == (53125.25, 'start')


# Clocks


CLOCKS = {
    '2016-01-02T05:30:00.000': [
        dict(UT=5.5),
        dict(UT='5.5'),
        dict(UT_OBS='05:30:00'),
        dict(TIMEOBS='05h30m00s'),
        dict(TIME_OBS='5:30'),
        dict(UTC='05 30 00'),
        dict(TIME__BEG=5.5),
        dict(TIME='05:30:00'),
        dict(UTSTART=5.5, EXPTIME=300.0, TIME=300.0),
    ],
    '2016-01-01T22:30:00.000': [dict(UT=-1.5), dict(UT='-01:30:00'), dict(UT='-1:30')],
    '2016-01-03T01:30:00.000': [dict(UT='25:30:00'), dict(UT='25:30')],
    '2016-01-03T00:00:00.000': [dict(UT='24:00:00')],
}


@pytest.mark.parametrize('as_iso, cards', [(k, c) for k, some in CLOCKS.items() for c in some])
@pytest.mark.parametrize('date', ['DATE-OBS', 'DATEOBS', 'DATE_OBS', 'UT-DATE', 'OBS-DATE'])
def test_a_clock_beside_a_date(as_iso, cards, date):
    found = time_by(**cards, **{date: '2016-01-02'})
    assert (iso(found['mjd']), found['mjd_meaning']) == (as_iso, 'start')


@pytest.mark.parametrize(
    'value, comment, as_iso',
    [
        (43200.0, '[s] 12:00:00.000 UTC at start (sec)', '2016-01-02T12:00:00.000'),
        (20.0, 'seconds of the day', '2016-01-02T00:00:20.000'),
        (20.0, '[hours] at start', '2016-01-02T20:00:00.000'),
        (25.5, '[h] at start', '2016-01-03T01:30:00.000'),
        (20.0, 'universal time', '2016-01-02T20:00:00.000'),
    ],
)
def test_the_unit_of_a_clock_is_in_its_comment(value, comment, as_iso):
    found = time_by(('UTC', value, comment), DATE__OBS='2016-01-02')
    assert (iso(found['mjd']), found['mjd_meaning']) == (as_iso, 'start')


NO_CLOCK = [
    ('UT', 12.5, '[min] at start', 'in min'),
    ('UT', 12.5, '[deg] hour angle', 'in deg'),
    ('UT', 0.5, '[d] of the night', 'in d'),
    ('UT', 12.5, 'minutes of the second hour', 'in minutes'),
    ('UT', 0.5, 'day fraction', 'in day'),
    ('UT', 12.5, '[s] or [h]', 'in h or s'),
    ('UT', 12.5, 'start of exposure, seconds', 'in hours or seconds'),
    ('UT', 43200.0, '', 'has no unit'),
    ('TIME-OBS', 12.5, '', 'how long'),
    ('TIMEOBS', 12.5, 'time of the observation', 'how long'),
    ('OBSTIME', 12.5, '', 'how long'),
    ('OBS_TIME', 12.5, '[s] on target', 'how long'),
    ('TIME', 12.5, '', 'how long'),
    ('TIME', 12.5, '[s]', 'how long'),
    ('UT', 50.0, '[h]', 'no time of day'),
    ('UT', 2e5, '[s]', 'no time of day'),
]


@pytest.mark.parametrize('card, value, comment, why', NO_CLOCK)
def test_a_number_that_is_no_clock_leaves_the_day_and_says_why(card, value, comment, why):
    found = time_by((card, value, comment), DATE__OBS='2016-01-02')
    assert (found['mjd'], found['mjd_meaning']) == (57389.0, None)
    assert f'gives the day only: {card} {value:g}' in found['note'] and why in found['note']


@pytest.mark.parametrize(
    'card, value, comment, as_iso',
    [
        ('TIME-OBS', 12.5, '[s] since midnight', '2016-01-02T00:00:12.500'),
        ('TIME-OBS', 12.5, 'hours since midnight', '2016-01-02T12:30:00.000'),
        ('OBSTIME', 12.5, '[h]', '2016-01-02T12:30:00.000'),
        ('UT', 12.5, '[UTC] start of the second exposure', '2016-01-02T12:30:00.000'),
        ('UT', 12.5, 'start of the second minute of day 3', '2016-01-02T12:30:00.000'),
        ('UT', 12.5, 'UT (sec)', '2016-01-02T00:00:12.500'),
        ('UT', 12.5, 'H:M:S of the start(s)', '2016-01-02T12:30:00.000'),
        ('UT', '12.5', 'Hours', '2016-01-02T12:30:00.000'),
    ],
)
def test_the_unit_is_in_brackets_or_the_first_word(card, value, comment, as_iso):
    found = time_by((card, value, comment), DATE__OBS='2016-01-02')
    assert iso(found['mjd']) == as_iso and found['note'] is None


@pytest.mark.parametrize('card', ['UT', 'UTSTART', 'TIME-OBS', 'OBSTIME', 'TIME', 'TIME-BEG'])
@pytest.mark.parametrize('comment', ['', '[s]', '[h]', 'hours'])
def test_a_logical_is_no_clock(card, comment):
    found = time_by((card, True, comment), DATE__OBS='2016-01-02')
    assert (found['mjd'], found['mjd_meaning']) == (57389.0, None)


def test_a_logical_is_no_number_anywhere():
    assert time_by(MJD__OBS=True)['mjd'] is None
    assert time_by(MJD__OBS=53125.25, EXPTIME=True)['mjd'] == 53125.25
    assert time_by(TSTART=True, MJDREF=50814.0)['mjd'] is None


def test_the_unit_is_that_of_the_card_whose_number_was_taken():
    blank, seconds = fits.Header(), fits.Header([('DATE-OBS', '2016-01-02')])
    blank['UT'] = ('', '[h]')
    seconds['UT'] = (43200.0, '[s]')
    assert iso(time_of(Cards(blank, seconds))['mjd']) == '2016-01-02T12:00:00.000'


@pytest.mark.parametrize(
    'value', [30.0, 43200.0, 123456.0, 'noon', '25.5', '48:00:00', '-25:00:00']
)
def test_a_clock_that_nobody_can_read_leaves_the_day(value):
    found = time_by(DATE__OBS='2016-01-02', UT=value)
    assert (found['mjd'], found['mjd_meaning']) == (57389.0, None)
    assert 'gives the day only' in found['note']


@pytest.mark.parametrize('value', ['25:61:00', '12:61:00', '12:00:61', '12:00:60'])
def test_a_clock_that_is_none_is_never_midnight(value):
    found = time_by(DATE__OBS='2024-01-10', TIME__OBS=value)
    assert (found['mjd'], found['mjd_meaning']) == (60319.0, None)
    assert 'gives the day only' in found['note'] and value in found['note']


@pytest.mark.parametrize('clock', ['24:00:01', '24:30:00', '25:00:00', '47:59:59'])
@pytest.mark.parametrize('between', ['T', ' '])
def test_hours_behind_a_date_end_with_its_day(clock, between):
    found = time_by(DATE__OBS=f'2024-01-10{between}{clock}')
    assert found['mjd'] is None and 'no time of day' in found['missing']
    found = time_by(DATE__OBS=f'2024-01-10{between}24:00:00')
    assert (iso(found['mjd']), found['mjd_meaning']) == ('2024-01-11T00:00:00.000', 'start')


def test_clocks_go_with_the_date_of_their_moment():
    found = time_by(DATE__AVG='2016-01-02', UTMIDDLE='05:30:00', UT='05:00:00')
    assert (iso(found['mjd']), found['mjd_meaning']) == ('2016-01-02T05:30:00.000', 'mid')
    found = time_by(DATE__AVG='2016-01-02', UT='05:00:00')
    assert (iso(found['mjd']), found['mjd_meaning']) == ('2016-01-02T05:00:00.000', 'start')
    found = time_by(DATE__OBS='2016-01-02', TIME__OBS='05:00:00', TIMESYS='TAI')
    assert iso(found['mjd']) == '2016-01-02T04:59:24.000'
    found = time_by(DATE__OBS='2016-01-02', UT=5.0, TIMESYS='TAI')
    assert iso(found['mjd']) == '2016-01-02T05:00:00.000'


# Days that have a clock of their own scale, and years


@pytest.mark.parametrize('system', ['TAI', 'TT', 'TDB', 'GPS'])
def test_a_day_is_the_same_day_in_every_scale(system):
    for cards in (dict(MJD__OBS=53125.0), dict(JD=2453125.5), dict(DATE__OBS='2004-04-30')):
        found = time_by(TIMESYS=system, **cards)
        assert (found['mjd'], found['mjd_meaning']) == (53125.0, None)
        assert found['note'].endswith('gives the day only')


@pytest.mark.parametrize(
    'cards, is_centred',
    [
        (dict(BJD=2458325.5), False),
        (dict(BJD=2458325.5001), True),
        (dict(BJD=2458325.5 + 6.9e-4), True),  # 60 s of TDB, near the midnight of UTC
        (dict(TSTART=86400.0, MJDREF=50814.0, TIMEREF='SOLARSYSTEM'), False),
        (dict(TSTART=86400.5, MJDREF=50814.0, TIMEREF='SOLARSYSTEM'), True),
    ],
)
def test_what_counts_at_the_suns_centre_is_told_by_the_number_itself(cards, is_centred):
    found = time_by(TIMESYS='TDB', **cards)
    assert ('Solar System' in found['note']) is is_centred
    assert is_centred or found['mjd'] % 1 == 0


YEARS = [
    '0000-01-01',
    '0000-12-31T23:59:59',
    '0000-100',
    '0001-01-01T00:00:00+05:00',
    '9999-12-31T23:00:00-05:00',
    '9999-12-31T24:00:00',
]


@pytest.mark.parametrize('text', YEARS)
def test_years_beyond_the_calendar_are_refused(text):
    found = time_by(DATE__OBS=text)
    assert found['mjd'] is None and 'years 1 to 9999' in found['missing']
    with pytest.raises(ValueError, match='years 1 to 9999'):
        read_date(text)
    assert end_card(Cards(fits.Header({'DATE-END': text}))) is None
    assert time_by(TSTART=1.0, DATEREF=text)['mjd'] is None


def test_the_first_moment_may_lie_before_it_in_utc():
    found = time_by(DATE__OBS='0001-01-01T00:00:00', TIMESYS='TT')
    assert found['mjd'] is None and 'years 1 to 9999' in found['missing']
    assert time_by(DATE__OBS='9999-366')['mjd'] is None


def test_another_card_stands_in_for_a_year_that_is_none():
    found = time_by(DATE__OBS='0000-00-00T00:00:00', MJD__OBS=52948.25)
    assert found['mjd'] == 52948.25 and '0000-00-00' in found['note']


def test_files_of_impossible_years_are_taken_in_without_a_time(tmp_path):
    from awkward import header, sky

    for k, text in enumerate(YEARS):
        made = header(**{'DATE-OBS': text, 'DATE-END': text})
        fits.PrimaryHDU(sky(k), made).writeto(tmp_path / f'{k}.fits')
    archive = open_archive(tmp_path / 'home')
    report = archive.add_fits(str(tmp_path / '*.fits'), show=False, detect=False)
    with archive.session() as session:
        assert session.query(Image).count() == len(report.images) == len(YEARS)
        assert all(image.mjd is None for image in session.query(Image))


# Spellings


@pytest.mark.parametrize(
    'text',
    [
        '2016-02-05T03:04:05',
        '20160205T030405',
        '2016-02-05_03:04:05',
        '2016:02:05:03:04:05',
        '2016.02.05 03:04:05',
        '5-Feb-2016 03:04:05',
        '05 February 2016 03h04m05s',
        'Feb 5, 2016 03:04:05',
        '2016-Feb-05T03:04:05',
        '2016-036T03:04:05',
        '2016-02-05T03:04:05,000',
    ],
)
def test_a_date_in_any_spelling(text):
    assert iso(time_by(DATE__OBS=text)['mjd']) == '2016-02-05T03:04:05.000'


@pytest.mark.parametrize(
    'text',
    [
        '05/02/2016',
        '05/02/16',
        '2016-367',
        '5-Fex-2016',
        '2016-02-30',
        '20160205T306090',
        '5-M-2016',
    ],
)
def test_what_is_no_date_is_none(text):
    with pytest.raises(ValueError):
        read_date(text)


def test_another_card_tells_the_century():
    found = time_by(DATE__OBS='05/11/03', MJD__OBS=52948.25)
    assert found['mjd'] == 52948.25 and 'century' in found['note']
    assert time_by(DATE__OBS='05/11/93')['mjd'] == 49296


@pytest.mark.parametrize(
    'cards, mjd, meaning',
    [
        (dict(MJD__OBS=2453125.75), 53125.25, 'start'),
        (dict(MJDOBS=53125.25), 53125.25, 'start'),
        (dict(MJD_BEG=53125.25, MJD__AVG=53125.3, MJD__END=53125.35), 53125.25, 'start'),
        (dict(MJD__AVG=53125.25, MJD__END=53125.35), 53125.25, 'mid'),
        (dict(MJD__END=53125.25), 53125.25, 'end'),
        (dict(EXPEND=53125.25), 53125.25, 'end'),
        (dict(EXPMID=53125.25, EXPEND=53125.35), 53125.25, 'mid'),
        (dict(DATE__END='2004-04-30T06:00:00'), 53125.25, 'end'),
        (dict(JD=2453125.75), 53125.25, 'start'),
        (dict(DATE='2004-04-30T06:00:00'), None, None),  # When the file was written
    ],
)
def test_cards_mean_what_their_names_say(cards, mjd, meaning):
    found = time_by(**cards)
    assert (found['mjd'], found['mjd_meaning']) == (mjd, meaning)


def read(**cards):
    "Facts of a header with these cards; '__' stands for a hyphen"
    made = fits.Header()
    made.update({name.replace('__', '-'): value for name, value in cards.items()})
    return read_header_facts(made)


NOON = dict(DATE__OBS='2021-09-12T12:00:00')
NOON_MJD = 59469.5
AS_COMMENTED = [
    (dict(JD=(2459470.0, 'Julian date at mid-exposure')), NOON_MJD, 'mid'),
    (dict(DATE__OBS=('2021-09-12T12:00:00', 'Middle of exposure')), NOON_MJD, 'mid'),
    (dict(MJD__OBS=(59469.5 + 1e-9, 'midpoint of the exposure')), NOON_MJD, 'mid'),
    (dict(DATE__OBS=('2021-09-12T12:00:00', 'UTC at end of exposure')), NOON_MJD, 'end'),
    (dict(DATE__OBS=('2021-09-12T12:00:00', 'start, not the middle')), NOON_MJD, 'start'),
    (dict(DATE__OBS='2021-09-12', UT=('12:00:00', 'hours after midnight')), NOON_MJD, 'start'),
    (dict(DATE__OBS='2021-09-12', UT=('12:00:00', 'UT at mid exposure')), NOON_MJD, 'mid'),
    (dict(DATE__BEG=('2021-09-12T12:00:00', 'mid')), NOON_MJD, 'start'),
    (dict(DATE__OBS=('2021-09-12T12:00:37', '[TAI] start')), NOON_MJD, 'start'),
    (dict(MJD__OBS=(59469.5 + 69.184 / 86400, 'MJD (TT)')), NOON_MJD, 'start'),
]


@pytest.mark.parametrize('cards, mjd, meaning', AS_COMMENTED)
def test_a_comment_says_which_moment_and_which_clock(cards, mjd, meaning):
    found = read(**cards)
    assert found['mjd'] == pytest.approx(mjd, abs=2e-8)
    assert found['mjd_meaning'] == meaning


def test_the_card_of_the_scale_outranks_a_comment():
    cards = dict(DATE__OBS=('2021-09-12T12:00:37', 'start (UTC)'), TIMESYS='TAI')
    assert read(**cards)['mjd'] == pytest.approx(NOON_MJD, abs=1e-8)


@pytest.mark.parametrize(
    'cards, mjd',
    [
        (dict(DATE__OBS=('2021-09-12T12:00:00', 'local time of the start')), None),
        (dict(DATE__OBS='2021-09-12', TIME__OBS=('12:00:00', 'local time')), 59469.0),
        (dict(MJD=(59469.7, 'local date')), 59469.0),
    ],
)
def test_local_time_is_no_time_and_leaves_the_day_at_most(cards, mjd):
    found = read(**cards)
    assert (found['mjd'], found['mjd_meaning']) == (mjd, None)


@pytest.mark.parametrize(
    'cards, mjd',
    [
        (dict(MJD__OBS=59469.25, EXPTIME=30.0), 59469.0),
        (dict(MJD__OBS=59469.25), 59469.0),
        (dict(MJD__OBS=59470.25, EXPTIME=30.0), None),
        (dict(MJD__OBS=59469.5 + 60 / 86400, EXPTIME=30.0), 59469.5 + 60 / 86400),
        (dict(MJD__OBS=59469.51, EXPTIME=3000.0), 59469.51),
        (dict(MJD__AVG=59469.6, EXPTIME=30.0), 59469.5),
    ],
)
def test_two_cards_of_one_moment_agree_or_leave_the_day(cards, mjd):
    found = read(**NOON, **cards)
    assert found['mjd'] == (mjd if mjd is None else pytest.approx(mjd))
    if mjd in (None, 59469.0):
        said = found['missing'].get('mjd') or found['notes']['mjd']
        assert found['mjd_meaning'] is None and 'MJD-OBS' in said and 'DATE-OBS' in said


@pytest.mark.parametrize(
    'cards',
    [
        {'UTC-OBS': '2021-09-12T12:00:00'},
        dict(SHUTOPEN='2021-09-12T12:00:00'),
        dict(START_TIME='2021-09-12T12:00:00'),
        dict(DATE__OBS='12/09/2021', **{'UTC-OBS': '2021-09-12T12:00:00'}),
        dict(DATE__OBS='13/09/2021', UT='-12:00:00'),
        dict(DATE__OBS='9/13/2021', UT='-12:00:00'),
        dict(DATE__OBS='2021-09-12T', UT='12:00:00'),
        dict(DATE__OBS='2021-09-12', **{'UT-STR': '12:00:00', 'UT': '12:05:00'}),
        dict(DATE__OBS='2021-09-12T12:00:00', TIMESYS='UTC approximate'),
    ],
)
def test_a_time_in_other_places_and_orders(cards):
    assert read(**cards)['mjd'] == pytest.approx(NOON_MJD, abs=1e-8)


@pytest.mark.parametrize(
    'text', ['1858-11-17T00:00:00', '1900-01-01T00:00:00', '1980-01-06T00:00:00', '1970-01-01']
)
def test_the_zero_of_a_clock_is_no_time(text):
    found = read(DATE__OBS=text)
    assert found['mjd'] is None and 'placeholder' in found['missing']['mjd']


def test_a_day_of_another_year_is_a_day():
    assert read(DATE__OBS='1980-01-06')['mjd'] == 44244.0


@pytest.mark.parametrize('day', ['2024 03 01.25', '2024-03-01.25', '20240301.25', 20240301.25])
def test_a_day_with_its_fraction_is_read_in_tables_as_in_cards(day):
    "As the Minor Planet Center, telegrams and archives write it"
    mjd, is_odd = read_times_of(pd.Series([day]), None, 't')
    assert mjd.tolist() == [60370.25] and not is_odd.any()
    assert read_date(str(day)).mjd == 60370.25


@pytest.mark.parametrize('number', [10370.75, 5173.25, 3370.75, 2024.16])
def test_days_from_an_unsaid_zero_are_asked(number):
    "HJD-2450000, Gaia's days and TESS's under a plain name; called MJD, the first of them is one"
    with pytest.raises(BadInput, match='a year or days from any zero.*time_scale='):
        read_times_of(pd.Series([number] * 3), None, 't')
    mjd, _ = read_times_of(pd.Series([10370.75]), None, 'mjd')
    assert mjd.tolist() == [10370.75]
