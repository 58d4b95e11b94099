"""Headers and packets of surveys as they come: whose words they are, which band and which site; bits that a table or the
header names; frames of a lamp by their names; what a packet has and the registry does not keep is said."""

import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from awkward import header, sky
from test_boundaries_leaks import flat_row

import astrid_data as ad
from astrid_data.images.cards import Cards, band_of, mission_of
from astrid_data.images.image import open_image
from astrid_data.images.sites import site_longitude, site_of_name
from astrid_data.images.times import time_of
from astrid_data.ingest.alerts import flat_alert
from astrid_data.registry.tables import DetectionIndex

pytestmark = pytest.mark.filterwarnings('ignore')


def cards_of(values, **comments):
    made = fits.Header()
    for name, value in values.items():
        made[name] = (value, comments.get(name.replace('-', '_'), ''))
    return Cards(made)


@pytest.mark.parametrize(
    'values, mission, band',
    [
        (dict(TELESCOP='2MASS', FILTER='J'), '2mass', 'J'),
        (dict(ORIGIN='2MASS', FILTER='k'), '2mass', 'K'),
        (dict(UNWTILE='0000p000', BAND=1), 'wise', 'W1'),
        (dict(UNW_VER='neo7', BAND=2), 'wise', 'W2'),
        (dict(TELESCOP='NEOWISE', BAND=1), 'wise', 'W1'),
        (dict(SURVEY='POSSI-E', PLATEID='A', BANDPASS=8), 'dss', 'E'),
        (dict(SURVEY='POSSI-O', PLATEID='A', BANDPASS=7), 'dss', 'O'),
        (dict(SURVEY='POSSII-J', PLATEID='A'), 'dss', 'J'),
        (dict(SURVEY='POSSII-F', PLATEID='A', BANDPASS=35, FILTER='RG610'), 'dss', 'R'),
        (dict(SURVEY='POSSII-N', PLATEID='A', BANDPASS=37), 'dss', 'N'),
        (dict(SURVEY='SERC-I', PLATEID='A', BANDPASS=38), 'dss', 'N'),
        (dict(SURVEY='SERC-ER', PLATEID='A'), 'dss', 'R'),
        (dict(SURVEY='SERC-EJ', PLATEID='A'), 'dss', 'J'),
        (dict(SURVEY='AAO-SES', PLATEID='A'), 'dss', 'R'),
        (dict(PLATEID='A', FILTER='T'), 'dss', ''),
        (dict(PLATEID='A', FILTER=True), 'dss', ''),
        (dict(FILTER='T'), '', ''),
        (dict(FILTER='NOFILT'), '', ''),
        (dict(FILTER='no_filt'), '', ''),
        (dict(FILTER='T1'), '', 'T1'),
        ({'HIERARCH FPA.INSTRUMENT': 'GPC1', 'HIERARCH FPA.FILTER': 'i.00000'}, 'ps1', 'i'),
        (dict(INSTRUME='MUSE'), 'muse', ''),
    ],
    ids=str,
)
def test_surveys_are_known_by_their_cards(values, mission, band):
    cards = cards_of(values)
    assert mission_of(cards) == mission and band_of(cards, mission) == band


@pytest.mark.parametrize(
    'values, longitude',
    [
        (dict(LONGITUD='70:48:23.49 West'), -70.81),
        (dict(LONGITUD='W 70 48 23'), -70.81),
        (dict(SITELONG='E149 03 58'), 149.07),
        (dict(SITELONG='149:03:58 E'), 149.07),
        (dict(OBSLON=-17.88), -17.88),
        (dict(SITELON=20.81), 20.81),
        (dict(GEOLONG=20.81), 20.81),
        (dict(LON=20.81, LAT=-32.3), 20.81),
        (dict(LBTLONG=-109.88), -109.88),
        ({'HIERARCH OBS LON': 20.81}, 20.81),
        ({'HIERARCH TEL LONGITUDE': 20.81}, 20.81),
        ({'HIERARCH TELESCOPE.LONGITUDE': 20.81}, 20.81),
        ({'OBSGEO-X': -5464.4, 'OBSGEO-Y': -2493.0, 'OBSGEO-Z': 2150.6}, -155.48),
        (dict(TELESCOP='ATLAS-HKO'), -156.26),
        (dict(TELESCOP='ATLAS-CHL'), -70.77),
        (dict(OBSERVAT='ATLAS-STH'), 20.81),
        (dict(TELESCOP='ASAS-SN Brutus'), -156.26),
        (dict(TELESCOP='ASAS-SN Payne-Gaposchkin'), 20.81),
        (dict(TELESCOP='1m0-05', SITE='LCOGT node at CTIO'), -70.81),
        (dict(TELESCOP='1m0-10', SITE='LCOGT node at SAAO'), 20.81),
        (dict(TELESCOP='INT', INSTRUME='WFC'), -17.88),
        (dict(TELESCOP='NOT'), -17.88),
        (dict(TELESCOP='JKT'), -17.88),
        (dict(TELESCOP='MPI-2.2'), -70.73),
        (dict(TELESCOP='UH 2.2m'), -155.47),
        (dict(TELESCOP='KMTNET 1.6m #3', OBSERVAT='SSO'), 149.07),
        (dict(OBSERVAT='New Mexico Skies'), -105.53),
        (dict(TELESCOP='Rozhen 2m'), 24.74),
        (dict(OBSERVAT='Maidanak'), 66.9),
        (dict(OBSERVAT='Nanshan, XAO'), 87.18),
        (dict(TELESCOP='WFST'), 93.9),
        (dict(ORIGIN='2MASS', TELNAME='CTIO'), -70.81),
    ],
    ids=str,
)
def test_sites_by_their_cards(values, longitude):
    assert abs(site_longitude(cards_of(values), 58000.2) - longitude) < 0.01


def test_a_comment_may_count_to_the_west():
    assert site_longitude(cards_of(dict(LONGITUD=155.47), LONGITUD='West longitude')) == -155.47
    for comment in ('east is positive, west negative', 'deg, East', 'West is -'):
        found = site_longitude(cards_of(dict(LONGITUD=149.07), LONGITUD=comment))
        assert abs(found - 149.07) < 1e-9


@pytest.mark.parametrize('name', ['not available', 'int64', 'integral field', 'css styles', 'note'])
def test_everyday_words_name_no_site(name):
    assert site_of_name(name) is None


@pytest.mark.parametrize('card', ['LONPOLE', 'LONGSTRN', 'GLON', 'ELONG', 'CRVAL1', 'GALLON'])
def test_other_longitudes_are_no_site(card):
    assert site_longitude(cards_of({card: 20.81})) is None


def masked_file(path, flags, mission, **mask_cards):
    "An image of a mission with its mask in the next HDU"
    mask = fits.ImageHDU(flags, name='MASK' if mission[0] != 'INSTRUME' else 'DQ')
    mask.header.update(mask_cards)
    image = fits.ImageHDU(sky(1), header(), name='SCI' if mission[0] == 'INSTRUME' else 'IMAGE')
    first = fits.PrimaryHDU()
    first.header[mission[0]] = mission[1]
    fits.HDUList([first, image, mask]).writeto(path)
    return path


@pytest.mark.parametrize(
    'mission, bits, cards',
    [
        (
            ('HIERARCH FPA.TELESCOPE', 'PS1'),
            {8: True, 64: True, 8192: True, 32: False, 256: False},
            {},
        ),
        (('INSTRUME', 'MUSE'), {128: True, 8192: True, 1 << 30: True, 32: False, 256: False}, {}),
        (
            ('ORIGIN', 'somebody'),
            {2: True, 4: False},
            dict(
                MSKNAM00='BLANK',
                MSKVAL00=2,
                MSKNAM01='CR',
                MSKVAL01=4,
                MSKNAM02='MASK.VALUE',
                MSKVAL02=7,
            ),
        ),
    ],
    ids=['ps1', 'muse', 'pairs of cards'],
)
def test_bits_that_are_named(tmp_path, mission, bits, cards):
    flags = np.zeros(sky(1).shape, 'i4')
    for column, bit in enumerate(bits):
        flags[:, 3 * column] = bit
    with open_image(masked_file(tmp_path / 'a.fits', flags, mission, **cards)) as image:
        assert 'dq' not in image.missing, image.missing
        bad = ~image.read_all()[1] if image.read_all()[1].mean() > 0.5 else image.read_all()[1]
    assert [bool(bad[:, 3 * n].all()) for n in range(len(bits))] == list(bits.values())


@pytest.mark.parametrize('instrument', ['NICMOS', 'VIS'])
def test_bits_that_no_table_names_are_said(tmp_path, instrument):
    flags = np.full(sky(1).shape, 4, 'i4')
    with open_image(masked_file(tmp_path / 'a.fits', flags, ('INSTRUME', instrument))) as image:
        assert 'have no names here: not used' in image.missing['dq']


@pytest.mark.parametrize(
    'name, is_frame',
    [
        *(
            (name, True)
            for name in 'dark_x bias_x flat-r skyflat flatfield_g flat0001 bias_0001'.split()
        ),
        *((name, False) for name in 'dark_matter_field darkcloud1 m31_flat biased'.split()),
    ],
)
def test_frames_of_a_lamp_by_their_names(tmp_path, name, is_frame):
    path = tmp_path / f'{name}.fits'
    fits.PrimaryHDU(sky(1), header()).writeto(path)
    mask = np.zeros(sky(1).shape, 'u1')
    mask[:4] = 1
    fits.PrimaryHDU(mask).writeto(tmp_path / f'{name}_mask.fits')
    report = ad.open_archive(tmp_path / 'home').add_fits(
        tmp_path / f'{name}.fits', detect=False, show=False
    )
    assert report.added == (not is_frame)
    if is_frame:
        assert list(report.ledger.reason) == ['calibration']
        assert 'is a calibration frame' in report.ledger.detail[0]
    both = ad.open_archive(tmp_path / 'both').add_fits(
        sorted(tmp_path.glob('*.fits')), detect=False, show=False
    )
    assert both.added == (not is_frame)


def test_universal_time_by_the_turning_earth_keeps_its_name():
    found = time_of(cards_of({'DATE-OBS': '2010-03-13T01:00:00', 'TIMESYS': 'UT1'}))
    assert found['mjd_scale'] == 'ut1' and 'within 0.9 s' in found['note']
    assert (
        time_of(cards_of({'DATE-OBS': '2010-03-13T01:00:00', 'TIMESYS': 'UTC'}))['mjd_scale']
        == 'utc'
    )


@pytest.mark.parametrize(
    'written, is_known',
    [
        ('2016-08-23T19:47:51', False),
        ('2018-08-04', True),
        ('2018-08-03T20:00:00', True),
        ('2019-01-01', True),
        ('23/08/16', True),
        ('', True),
    ],
)
def test_no_image_is_older_than_its_file(written, is_known):
    found = time_of(cards_of({'DATE-OBS': '2018-08-04T09:23:31', 'DATE': written}))
    assert (found['mjd'] is not None) == is_known
    assert is_known or 'days after the file was written' in found['missing']


def test_flags_of_packets_are_kept_and_the_rest_is_named(shared_data, tmp_path):
    path = shared_data / 'alerts' / 'lsst_dev.parquet'
    archive = ad.open_archive(tmp_path)
    report = archive.add_alerts(path, show=False)
    table = pd.read_parquet(path).set_index(pd.read_parquet(path).diaSourceId.astype(str))
    with archive.session() as session:
        stored = [row.facts for row in session.query(DetectionIndex)]
    assert len(stored) == report.added == len(table)
    for facts in stored:
        packet = table.loc[facts['lineage'].split()[0]]
        for name in ('pixelFlags_cr', 'pixelFlags_edge', 'pixelFlags_streak', 'is_sso'):
            assert facts[name] == packet[name]
    assert any('not kept' in note and 'extendedness' in note for note in report.notes)
    again = archive.add_alerts(path, show=False)
    assert (again.added, again.skipped, len(again.ledger)) == (0, len(table), 0)
    changed = pd.read_parquet(path).head(1)
    changed['pixelFlags_cr'] = ~changed['pixelFlags_cr']
    other = archive.add_alerts(changed, show=False)
    assert (
        list(other.ledger.reason) == ['other_values'] and 'pixelFlags_cr' in other.ledger.detail[0]
    )


def test_blanks_around_names_are_said(tmp_path):
    archive = ad.open_archive(tmp_path / 'home')
    fits.PrimaryHDU(sky(1), header()).writeto(tmp_path / 'a.fits')
    archive.add_fits(tmp_path / 'a.fits', detect=False, show=False)
    rows = pd.DataFrame([dict(ra=10.0, dec=20.0, name=name) for name in ('A', 'A ')])
    report = archive.add_catalogue(rows, name='c', object_id='name')
    assert any('blanks before or behind' in note for note in report.notes)
    plain = archive.add_catalogue(rows.assign(name=['A', 'B']), name='d', object_id='name')
    assert not any('blanks' in note for note in plain.notes)


PAST = [dict(candid=f'9{n}', jd=2459000.5) for n in range(3)]
PACKED = {
    'series of records': pd.Series(PAST),
    'records by number': {str(n): one for n, one in enumerate(PAST)},
    'records by name': {one['candid']: one for one in PAST},
    'lists in a list': [PAST],
    'a list for each': [[one] for one in PAST],
    'lists by band': dict(g=PAST[:1], r=PAST[1:]),
    'a list in a record': dict(detections=PAST),
    'text in memory': memoryview(json.dumps(PAST).encode()),
    'bytes that change': bytearray(json.dumps(PAST).encode()),
}


@pytest.mark.parametrize('packed', PACKED)
def test_the_past_is_found_in_any_container(packed):
    packet = flat_row(0) | dict(prv_candidates=PACKED[packed])
    assert flat_alert(packet)['lineage'].split() == ['90', '91', '92']


def test_alerts_of_neighbours_are_no_past():
    packet = flat_row(0) | dict(crossmatches=dict(near=PAST))
    assert 'lineage' not in flat_alert(packet)
