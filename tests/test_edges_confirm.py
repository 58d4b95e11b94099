"""Pairs of exposures in which a tool, a fit or a spelling hides that the telescope did not move: hot pixels stay unconfirmed."""

import numpy as np
import pytest
from test_boundaries_confirm import (
    SIDE,
    Shot,
    add,
    cut,
    mirrored,
    outcome,
    second,
    turned,
)

from astrid_data.ingest.archive import open_archive

pytestmark = pytest.mark.filterwarnings('ignore')
UNKNOWN_PLACE = 'the place on the detector is unknown'


@pytest.fixture
def local(tmp_path):
    return open_archive(tmp_path / 'home')


def fitted(pixels, header):
    "A change that fits the position of the image for itself"
    header['CRVAL1'] += 0.02 / 3600
    header['CRVAL2'] -= 0.03 / 3600
    return pixels, header


def quarter(pixels, header):
    "A change that turns the image and its WCS by a quarter"
    x, y = header['CRPIX1'], header['CRPIX2']
    header['CRPIX1'], header['CRPIX2'] = y, pixels.shape[1] + 1 - x
    for row in (1, 2):
        first, other = header[f'CD{row}_1'], header[f'CD{row}_2']
        header[f'CD{row}_1'], header[f'CD{row}_2'] = other, -first
    return np.rot90(pixels).copy(), header


def in_steps(pixels, header):
    "A change that writes the scale as CDELT"
    header['CDELT1'], header['CDELT2'] = header['CD1_1'], header['CD2_2']
    for card in ('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'):
        del header[card]
    return pixels, header


def with_cards(**cards):
    "A change that adds cards of the camera"

    def change(pixels, header):
        header.update(cards)
        return pixels, header

    return change


def one_after_another(*changes):
    def change(pixels, header):
        for one in changes:
            pixels, header = one(pixels, header)
        return pixels, header

    return change


here = cut(5, 0, 220, 220, cards=False)
there = cut(20, 13, 220, 220, cards=False)
full = {'LTV1': 0.0, 'LTV2': 0.0}  # Of the whole detector; a tool that cuts may leave them
corner = dict(XORGSUBF=0, YORGSUBF=0)
HIDDEN = {
    'fitted': (None, fitted),
    'cut alike, fitted': (here, one_after_another(there, fitted)),
    'cut alike, steps': (
        one_after_another(here, in_steps),
        one_after_another(there, in_steps),
    ),
    'cut alike, LTV of before': (
        one_after_another(here, with_cards(**full)),
        one_after_another(there, fitted, with_cards(**full)),
    ),
    'cut, corner of before': (
        with_cards(**corner),
        one_after_another(cut(20, 13, 200, 210, cards=False), fitted, with_cards(**corner)),
    ),
    'three rows less': (None, one_after_another(cut(3, 3, 257, 257, cards=False), fitted)),
    'a quarter turn': (None, quarter),
    'a quarter turn, fitted': (None, one_after_another(quarter, fitted)),
    'half a turn, fitted': (None, turned),
    'mirrored, fitted': (None, one_after_another(mirrored, fitted)),
}


@pytest.mark.parametrize('how', HIDDEN)
def test_an_undithered_pair_is_known_behind_its_fit(local, tmp_path, how):
    shots = Shot(), Shot(**second)
    add(local, tmp_path, *shots, change=dict(enumerate(HIDDEN[how])))
    assert outcome(local, shots[0]) == (0, 0)


SPELLINGS = {
    'a telescope': (
        dict(TELESCOP='VLT-UT1', INSTRUME='FORS2'),
        dict(TELESCOP='ESO-VLT-U1', INSTRUME='FORS2'),
    ),
    'a telescope by its size': (
        dict(TELESCOP='CDK20', INSTRUME='Apogee ALTA U47'),
        dict(TELESCOP='0.5m', INSTRUME='Apogee ALTA U47'),
    ),
    'initials': (
        dict(TELESCOP='CTIO', INSTRUME='DECam'),
        dict(TELESCOP='Blanco 4m', INSTRUME='Dark Energy Camera'),
    ),
    'no camera': (
        dict(TELESCOP='Blanco', INSTRUME=None),
        dict(TELESCOP='CTIO 4.0-m telescope', INSTRUME=None),
    ),
    'a chip with its letters': (dict(CCDNUM='1'), dict(CCDNUM='S1')),
    'a chip with its camera': (dict(DETECTOR='WFC'), dict(DETECTOR='ACS/WFC')),
    'a chip in words': (dict(DETECTOR='1'), dict(DETECTOR='CCD 01')),
}


@pytest.mark.parametrize('what', SPELLINGS)
def test_one_camera_in_two_spellings_is_one(local, tmp_path, what):
    own, other = SPELLINGS[what]
    shots = Shot(cards=own), Shot(**second, cards=other)
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0]) == (0, 0)


@pytest.mark.parametrize(
    'change', [fitted, quarter, turned, with_cards(CCDNUM='S1'), with_cards(TELESCOP='T-1')]
)
def test_a_pair_that_moved_confirms_its_stars_all_the_same(local, tmp_path, change):
    shots = Shot(cards=dict(CCDNUM='1')), Shot(**second, shift=(9.3, 6.6))
    add(local, tmp_path, *shots, change={1: change})
    stars, hot = outcome(local, shots[0])
    assert stars >= 5 and hot == 0


def test_a_mounting_that_turns_at_the_meridian_confirms_what_it_moved(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(9.3, 6.6), roll=180.4)
    add(local, tmp_path, *shots, change={1: fitted})
    stars, hot = outcome(local, shots[0])
    assert stars >= 5 and hot == 0


def test_an_unknown_place_is_said(local, tmp_path):
    shots = Shot(), Shot(**second)
    report = add(local, tmp_path, *shots, change={0: here, 1: one_after_another(there, fitted)})
    assert dict(report.doubts) == {UNKNOWN_PLACE: 1}
    assert UNKNOWN_PLACE in repr(report)


def half(first, last, backwards=False):
    "A change that reads out the columns of one amplifier, with its overscan, as DETSEC and DATASEC say"

    def change(pixels, header):
        part = pixels[:, first:last]
        header['CRPIX1'] -= first
        header['DETSEC'] = f'[{first + 1}:{last},1:{SIDE}]'
        if backwards:
            part = part[:, ::-1]
            header['DETSEC'] = f'[{last}:{first + 1},1:{SIDE}]'
            header['CRPIX1'] = last - first + 1 - header['CRPIX1']
            header['CD1_1'] *= -1
            header['CD2_1'] *= -1
        overscan = np.random.default_rng(5).normal(100, 3, (SIDE, 24))
        header['CRPIX1'] += 24
        header['DATASEC'] = f'[25:{24 + last - first},1:{SIDE}]'
        return np.hstack([overscan, part]), header

    return change


all_of_it = with_cards(DETSEC=f'[1:{SIDE},1:{SIDE}]')
AMPLIFIERS = {
    'the chip and an amplifier': (all_of_it, half(100, 260)),
    'the chip and one read backwards': (all_of_it, half(100, 260, backwards=True)),
    'two that overlap': (half(0, 200), half(60, 260)),
}


@pytest.mark.parametrize('moved', [False, True])
@pytest.mark.parametrize('which', AMPLIFIERS)
def test_amplifiers_are_places_on_one_detector(local, tmp_path, which, moved):
    shots = Shot(), Shot(**second, shift=(9.3, 6.6) if moved else (0.0, 0.0))
    report = add(local, tmp_path, *shots, change=dict(enumerate(AMPLIFIERS[which])))
    stars, hot = outcome(local, shots[0])
    assert hot == 0 and (stars >= 4) == moved and bool(report.doubts) != moved  # Undithered is said
