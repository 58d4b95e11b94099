"What two images confirm of each other: only what another exposure saw with another pixel of a detector."

import itertools
import signal
import time
import uuid
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from dying import die, run_forked
from sqlalchemy import select

from astrid_data.images.exposures import Exposure, exposure_doubt, other_camera
from astrid_data.ingest import fits as ingest
from astrid_data.ingest import labels
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.labels import judge_again
from astrid_data.registry.tables import (
    Detection,
    DetectionStatus,
    Image,
    ModelRun,
    ValidationEvent,
)
from astrid_data.registry.verdicts import counted_verdicts
from astrid_data.sky import sky_separation_arcsec

RULE = 'rule:same-sky-position-other-band'
SIDE = 260
SCALE = 0.2
HOUR = 1 / 24


@dataclass
class Shot:
    "One exposure of a pretend camera"

    band: str = 'g'
    hours: float = 3.0  # When it began
    shift: tuple = (0.0, 0.0)  # How far the telescope moved (pixel)
    roll: float = 0.0  # How far the camera is turned (deg)
    seed: int = 1  # Of noise and cosmic rays
    height: float = 2500.0  # Of a star above the sky, of noise 3
    cards: dict = field(default_factory=dict)
    name: str = 'e1'

    def header(self):
        turn = np.radians(self.roll)
        matrix = (
            SCALE / 3600 * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        )
        header = fits.Header()
        header.update(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CUNIT1='deg', CUNIT2='deg')
        header.update(CRVAL1=150.0, CRVAL2=2.0, RADESYS='ICRS')
        header.update(CRPIX1=SIDE / 2 + self.shift[0], CRPIX2=SIDE / 2 + self.shift[1])
        header.update(CD1_1=matrix[0, 0], CD1_2=matrix[0, 1])
        header.update(CD2_1=matrix[1, 0], CD2_2=matrix[1, 1])
        header.update(TELESCOP='T1', INSTRUME='CAM', FILTER=self.band, EXPTIME=600.0)
        header['DATE-OBS'] = f'2024-05-01T{int(self.hours):02d}:{int(self.hours % 1 * 60):02d}:00'
        header['EXPNUM'] = f'{100000 + self.seed}'
        for key, value in self.cards.items():
            header.remove(key, ignore_missing=True)
            if value is not None:
                header[key] = value
        return header

    def image(self):
        rng = np.random.default_rng(self.seed)
        pixels = rng.normal(100, 3, (SIDE, SIDE))
        y, x = np.indices(pixels.shape)
        wcs = WCS(self.header())
        for star_x, star_y in zip(*wcs.world_to_pixel_values(*STARS)):
            pixels += self.height * np.exp(-((x - star_x) ** 2 + (y - star_y) ** 2) / 2 / 1.1**2)
        for hot_x, hot_y in HOT:
            pixels[hot_y, hot_x] += 900
        return pixels.astype('f4')


def _grid(seed, n, margin):
    rng = np.random.default_rng(seed)
    cells = [(x, y) for x in range(4) for y in range(4)]
    chosen = rng.permutation(16)[:n]
    side = (SIDE - 2 * margin) / 4
    return [
        margin + side * np.array(cells[cell]) + rng.uniform(0.25, 0.4, 2) * side for cell in chosen
    ]


STAR_PLACES = np.array(_grid(5, 7, 40))
STARS = WCS(Shot().header()).pixel_to_world_values(*STAR_PLACES.T)
HOT = [(int(x) + 22, int(y) + 19) for x, y in _grid(6, 8, 35)]


def write(folder, shot, change=None):
    "The file of a shot; `change` gets pixels and header, and gives others"
    pixels, header = shot.image(), shot.header()
    if change:
        pixels, header = change(pixels, header)
    path = folder / f'{shot.name}.fits'
    fits.PrimaryHDU(pixels.astype('f4'), header).writeto(path)
    return path


def confirmed(archive):
    "Detections that the rule confirms, with their labels settled as a data set settles them"
    d = archive.detections()
    with archive.session() as s:
        names = 'detection_id validator_id is_valid label confidence_level created_at'.split()
        rows = s.execute(select(*(getattr(ValidationEvent, n) for n in names))).all()
    events = pd.DataFrame(rows, columns=names)
    events['detection_id'] = events.detection_id.astype(str)
    events = events[events.validator_id == RULE]
    said = counted_verdicts(events, d.detection_id.astype(str))
    return d.iloc[said[said.vote > 0].det.unique()]


def near(places, d, wcs_header):
    "How many of some pixel positions of an image have a confirmed detection"
    ra, dec = WCS(wcs_header).pixel_to_world_values(*np.array(places, float).T)
    return n_near(ra, dec, d)


def n_near(ra, dec, d):
    "How many of some positions have a confirmed detection"
    apart = (sky_separation_arcsec(r, q, d.ra.values, d.dec.values) for r, q in zip(ra, dec))
    return sum((one < 0.3).any() for one in apart)


def outcome(archive, shot):
    "Stars and hot pixels of a shot that are confirmed"
    d = confirmed(archive)
    return n_near(*STARS, d), near(HOT, d, shot.header())


@pytest.fixture
def local(tmp_path):
    return open_archive(tmp_path / 'home')


def add(archive, folder, *shots, change=None, **kw):
    change = change or {}
    paths = [write(folder, shot, change.get(n)) for n, shot in enumerate(shots)]
    return archive.add_fits(paths, show=False, **kw)


# Another pixel of the detector

second = dict(band='r', hours=4.0, seed=2, name='e2')


def test_a_dithered_pair_confirms_its_stars_and_no_hot_pixel(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 0.0))
    report = add(local, tmp_path, *shots)
    assert outcome(local, shots[0]) == (7, 0)
    assert report.verdicts[RULE] == 14 and not report.doubts


def test_an_undithered_pair_confirms_nothing(local, tmp_path):
    shots = Shot(), Shot(**second)
    report = add(local, tmp_path, *shots)
    assert outcome(local, shots[0]) == (0, 0)
    assert RULE not in report.verdicts


def test_three_filters_of_one_pointing_confirm_nothing(local, tmp_path):
    shots = [Shot(), Shot(**second), Shot(band='i', hours=5.0, seed=3, name='e3')]
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0]) == (0, 0)


def cut(x0, y0, nx, ny, cards=True):
    "A change that cuts out a part; with LTV cards, or silently as some tools do"

    def change(pixels, header):
        header['CRPIX1'] -= x0
        header['CRPIX2'] -= y0
        if cards:
            header['LTV1'], header['LTV2'] = float(-x0), float(-y0)
        return pixels[y0 : y0 + ny, x0 : x0 + nx], header

    return change


def section(x0, y0, nx, ny, flip=False):
    "A change that reads out a section, as CCDSEC says"

    def change(pixels, header):
        part, header = cut(x0, y0, nx, ny, cards=False)(pixels, header)
        header['CCDSEC'] = f'[{x0 + 1}:{x0 + nx},{y0 + 1}:{y0 + ny}]'
        if flip:
            header['CCDSEC'] = f'[{x0 + nx}:{x0 + 1},{y0 + 1}:{y0 + ny}]'
            header['CRPIX1'] = nx + 1 - header['CRPIX1']
            header['CD1_1'] *= -1
            header['CD2_1'] *= -1
            part = part[:, ::-1]
        return part, header

    return change


def binned(pixels, header):
    "A change that adds up 2 x 2 pixels, as CCDSUM says"
    half = pixels.reshape(SIDE // 2, 2, SIDE // 2, 2).sum((1, 3))
    for axis in (1, 2):
        header[f'CRPIX{axis}'] = (header[f'CRPIX{axis}'] - 0.5) / 2 + 0.5
        for row in (1, 2):
            header[f'CD{row}_{axis}'] *= 2
    header['CCDSUM'] = '2 2'
    return half, header


def mirrored(pixels, header):
    "A change that mirrors the image and its WCS"
    pixels, header = section(0, 0, SIDE, SIDE, flip=True)(pixels, header)
    del header['CCDSEC']
    return pixels, header


whole = cut(0, 0, SIDE, SIDE)
undithered = {
    'cut, LTV says where': (whole, cut(20, 13, 200, 220)),
    'both cut, LTV says where': (cut(5, 0, 220, 220), cut(20, 13, 220, 220)),
    'both cut alike in size, silently': (
        cut(5, 0, 220, 220, cards=False),
        cut(20, 13, 220, 220, cards=False),
    ),
    'cut silently': (None, cut(20, 13, 200, 220, cards=False)),
    'sections': (section(0, 0, SIDE, SIDE), section(30, 20, 200, 210)),
    'one section read backwards': (section(0, 0, SIDE, SIDE), section(30, 20, 200, 210, True)),
    'mirrored silently': (None, mirrored),
    'binned': (None, binned),
}


@pytest.mark.parametrize('how', undithered)
def test_an_undithered_pair_is_known_however_it_was_cut(local, tmp_path, how):
    shots = Shot(), Shot(**second)
    add(local, tmp_path, *shots, change=dict(enumerate(undithered[how])))
    assert outcome(local, shots[0]) == (0, 0)


@pytest.mark.parametrize('how', ['cut, LTV says where', 'sections', 'binned'])
def test_a_dithered_pair_confirms_however_it_was_cut(local, tmp_path, how):
    shots = Shot(), Shot(**second, shift=(9.3, 6.6))
    add(local, tmp_path, *shots, change=dict(enumerate(undithered[how])))
    stars, hot = outcome(local, shots[0])
    assert stars >= 6 and hot == 0


def test_a_camera_that_turned_confirms_what_turned_with_the_sky(local, tmp_path):
    shots = Shot(), Shot(**second, roll=37.0)
    add(local, tmp_path, *shots)
    stars, hot = outcome(local, shots[0])
    assert stars >= 5 and hot == 0


def test_two_cameras_cannot_share_a_pixel(local, tmp_path):
    shots = Shot(), Shot(**second, cards=dict(TELESCOP='T2', INSTRUME='OTHER'))
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0])[0] == 7


def test_two_chips_of_one_camera_cannot_share_a_pixel(local, tmp_path):
    shots = Shot(cards=dict(CCDNUM=3)), Shot(**second, cards=dict(CCDNUM=31))
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0])[0] == 7


def test_who_does_not_name_the_camera_confirms_no_pixel_that_may_be_the_same(local, tmp_path):
    nameless = dict(TELESCOP=None, INSTRUME=None)
    shots = Shot(cards=nameless), Shot(**second, cards=nameless)
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0]) == (0, 0)


def with_column(seed, y0):
    "A change that adds a bad column, bright here and there"

    def change(pixels, header):
        rng = np.random.default_rng(seed)
        pixels[y0:, 130] += 120 + 80 * rng.random(SIDE - y0)
        return pixels, header

    return change


@pytest.mark.parametrize('shift', [(0.0, 0.0), (0.0, 9.4)])
def test_a_bad_column_confirms_nothing_along_itself(local, tmp_path, shift):
    shots = Shot(), Shot(**second, shift=shift)
    add(local, tmp_path, *shots, change={0: with_column(1, 40), 1: with_column(2, 40)})
    d = confirmed(local)
    on_column = [x for x in d.pixel_x if abs(x - 130) < 2]
    assert not on_column and (len(d) > 8) == any(shift)


def with_trail(angle):
    "A change that adds the trail of a satellite"

    def change(pixels, header):
        y, x = np.indices(pixels.shape)
        across = (x - 120) * np.sin(angle) - (y - 70) * np.cos(angle)
        return pixels + 200 * np.exp(-(across**2) / 2 / 1.2**2), header

    return change


def test_trails_that_cross_confirm_nothing(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 3.1))
    add(local, tmp_path, *shots, change={0: with_trail(0.4), 1: with_trail(2.2)})
    ra, dec = WCS(shots[0].header()).pixel_to_world_values(120, 70)
    d = confirmed(local)
    away = [sky_separation_arcsec(r, q, *STARS).min() for r, q in zip(d.ra, d.dec)]
    assert max(away) < 0.4


# Another exposure

same = dict(hours=3.0, shift=(7.3, 4.1), seed=1, name='copy')
copies = {
    'one name, other survey': dict(same, band='g'),
    'one name in other signs, other product': dict(
        same, band='g', cards=dict(EXPNUM=None, ROOTNAME='100001_flc.fits')
    ),
    'only the time': dict(same, band='g', cards=dict(EXPNUM=None)),
    'a time that overlaps': dict(same, band='g', hours=3.1, cards=dict(EXPNUM=None)),
    'another spelling of the band': dict(same, band='V', cards=dict(EXPNUM=None)),
    'only the day': dict(same, band='g', cards={'EXPNUM': None, 'DATE-OBS': '2024-05-01'}),
    'nothing': dict(same, band='g', cards={'EXPNUM': None, 'DATE-OBS': None}),
    'a stack that lists it': dict(
        same, band='g', cards={'IMCMB001': '100001.fits', 'EXPNUM': None, 'DATE-OBS': '2024-05-09'}
    ),
    'a stack that may hold it': dict(
        same, band='g', cards={'NCOMBINE': 5, 'EXPNUM': None, 'DATE-OBS': '2024-05-09T01:00:00'}
    ),
    'a picture of several bands': dict(
        same, band='VR', cards={'NCOMBINE': 5, 'EXPNUM': None, 'DATE-OBS': None}
    ),
}


@pytest.mark.parametrize('how', copies)
def test_one_exposure_taken_in_twice_confirms_nothing(local, tmp_path, how):
    shots = Shot(cards=dict(ROOTNAME='100001')), Shot(**copies[how])
    add(local, tmp_path, shots[0], survey='one')
    report = add(local, tmp_path, shots[1], survey='two')
    assert RULE not in report.verdicts and len(report.doubts) == 1
    assert 'confirm nothing' in repr(report)


@pytest.mark.parametrize(
    'first, other',
    [
        (dict(instrument='GPC1'), dict(instrument='Gigapixel Camera 1')),
        (dict(telescope='PS1'), dict(telescope='Pan-STARRS1')),
    ],
)
def test_a_shared_name_outranks_the_spelling_of_the_camera(first, other):
    pair = [Exposure(names=['o5500g0123o'], **camera) for camera in (first, other)]
    assert exposure_doubt(*pair, False) == 'the same exposure'


@pytest.mark.parametrize('chips', [('1', '01'), ('1', '1.0'), ('n4', 'N4')])
def test_one_chip_in_two_spellings_is_one(chips):
    pair = [Exposure(instrument='CAM', chip=dict(CCDNUM=chip)) for chip in chips]
    assert not other_camera(*pair)
    assert other_camera(pair[0], Exposure(instrument='CAM', chip=dict(CCDNUM='2')))


def test_names_that_repeat_every_night_are_no_exposure(local, tmp_path):
    shots = Shot(cards=dict(EXPNUM=12)), Shot(**second, shift=(7.3, 4.1), cards=dict(EXPNUM=12))
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0])[0] == 7


def test_one_observation_of_two_exposures_confirms(local, tmp_path):
    cards = dict(OBS_ID='visit-000123')
    shots = Shot(cards=cards), Shot(**second, shift=(7.3, 4.1), cards=cards)
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0])[0] == 7


@pytest.mark.parametrize('dithered', [None, True])
def test_stacks_on_one_grid_confirm_where_they_are_known_to_be_dithered(local, tmp_path, dithered):
    shots = [
        Shot(band=band, cards={'FILENAME': f'm_{band}_1_drz.fits', 'NCOMBINE': 4, 'EXPNUM': None})
        for band in 'gr'
    ]
    shots[1].seed, shots[1].name = 2, 'e2'
    report = add(local, tmp_path, *shots, facts=dithered and dict(dithered=True))
    assert outcome(local, shots[0])[0] == (7 if dithered else 0)
    assert bool(report.doubts) != bool(dithered)


@pytest.mark.parametrize('count, n_confirmed', [('NCOMBINE', 7), ('NEXP', 0), ('NUM_EXP', 0)])
def test_a_count_of_a_series_makes_no_pair_dithered(local, tmp_path, count, n_confirmed):
    cards = {count: 2, 'NJITTER': 5}
    shots = Shot(cards=cards), Shot(**second, cards=cards)
    add(local, tmp_path, *shots)
    assert outcome(local, shots[0])[0] == n_confirmed


# Nothing depends on what was done when


def tables(archive):
    "What the archive says of its detections, without the time at which it was written"
    columns = (getattr(ValidationEvent, name) for name in ('id', 'detection_id', 'label', 'notes'))
    with archive.session() as s:
        events = s.execute(select(*columns)).all()
        found = s.execute(select(Detection.id, Detection.status, Detection.is_validated)).all()
        left = s.scalars(select(ModelRun.id).where(ModelRun.completed_at.is_(None))).all()
    assert not left
    return sorted(map(str, events)), sorted(map(str, found))


def many(folder):
    "Files of two fields, in bands and with dithers"
    shots = [
        Shot(name='a'),
        Shot(**second, shift=(7.3, 4.1)),
        Shot(band='i', hours=5.0, seed=3, name='c', shift=(-6.2, 9.7)),
        Shot(band='g', hours=6.0, seed=4, name='d', shift=(12.4, -8.8)),
    ]
    return [write(folder, shot) for shot in shots]


@pytest.fixture(scope='module')
def several(tmp_path_factory):
    "Files of two fields, and what an archive says that took them in with one call"
    folder = tmp_path_factory.mktemp('several')
    files = many(folder)
    archive = open_archive(folder / 'whole')
    archive.add_fits(files, show=False)
    return files, tables(archive)


ONE_EACH = [slice(n, n + 1) for n in range(4)]
WAYS = dict(one_each=ONE_EACH, backwards=ONE_EACH[::-1], halves=[slice(2, 4), slice(0, 2)])


@pytest.mark.parametrize('calls', WAYS.values(), ids=WAYS)
def test_any_order_in_any_number_of_calls_gives_the_same_events(tmp_path, several, calls):
    files, whole = several
    archive = open_archive(tmp_path)
    for call in calls:
        archive.add_fits(files[call], show=False)
    assert whole[0] and tables(archive) == whole


def test_a_second_search_is_compared_for_itself(tmp_path, several):
    files, _ = several
    ends = []
    for n, calls in enumerate(([files], [files[:2], files[2:]])):
        archive = open_archive(tmp_path / f'home{n}')
        for call in calls:
            archive.add_fits(call, show=False)
            archive.detect(nsigma=8.0, show=False)
        ends.append(tables(archive))
    assert ends[0] == ends[1]


def killed_in(moment, home, files):
    "Take files in, and die before the n-th call of a function"
    where, n = moment.split(':')
    module = ingest if hasattr(ingest, where) else labels
    real, calls = getattr(module, where), itertools.count(1)

    def deadly(*args, **kw):
        if next(calls) == int(n):
            die()
        return real(*args, **kw)

    setattr(module, where, deadly)
    open_archive(home).add_fits(files, show=False)


MOMENTS = [
    '_register_image:3',  # Two images are in
    'confirm_across:1',  # All are in, nothing is compared
    'pair_events:2',
    '_write_confirmations:2',
    '_mark_compared:1',
    '_mark_compared:3',
]


@pytest.mark.parametrize('moment', MOMENTS)
def test_a_killed_call_loses_no_verdict(tmp_path, several, moment):
    files, whole = several
    assert run_forked(killed_in, moment, tmp_path / 'broken', files) == -signal.SIGKILL
    broken = open_archive(tmp_path / 'broken')
    broken.add_fits(files, show=False)
    assert tables(broken) == whole


def test_a_call_with_other_files_makes_up_for_one_that_was_killed(tmp_path, several, monkeypatch):
    files, whole = several
    broken = open_archive(tmp_path / 'broken')
    with monkeypatch.context() as m:
        m.setattr('astrid_data.ingest.fits.confirm_across', lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            broken.add_fits(files[:3], show=False)
    broken.add_fits(files[3], show=False)
    assert tables(broken) == whole


def test_both_databases_agree(registry_url, several, tmp_path):
    files, whole = several
    there = open_archive(registry_url, str(tmp_path / 'store'), tmp_path / 'there')
    there.add_fits(files[::-1], show=False)
    assert tables(there) == whole


def test_one_image_that_cannot_be_compared_does_not_stop_the_others(tmp_path, several, monkeypatch):
    files, whole = several
    archive = open_archive(tmp_path / 'home')
    real, calls = labels._events_around, itertools.count()

    def sometimes(*args):
        if next(calls) == 1:
            raise ValueError('as a test')
        return real(*args)

    with monkeypatch.context() as m:
        m.setattr(labels, '_events_around', sometimes)
        report = archive.add_fits(files, show=False)
    assert list(report.ledger.reason) == ['unexpected'] and report.verdicts[RULE]
    archive.add_fits(files, show=False)
    assert tables(archive) == whole


# People, and archives of earlier releases


def test_a_person_is_not_overruled(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 4.1))
    add(local, tmp_path, shots[0])
    d = local.detections()
    places = sky_separation_arcsec(STARS[0][0], STARS[1][0], d.ra.values, d.dec.values)
    star = d.detection_id.iloc[int(np.argmin(places))]
    with local.session() as s:
        s.get(Detection, uuid.UUID(star)).status = DetectionStatus.REJECTED
    add(local, tmp_path, shots[1])
    assert local.detections().set_index('detection_id').status[star] == 'rejected'
    assert len(confirmed(local)) == 12


def test_an_old_verdict_is_withdrawn_where_todays_rule_would_not_give_it(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 4.1)), Shot(band='i', hours=4.0, seed=2, name='u')
    add(local, tmp_path, *shots[:2])
    good = confirmed(local)
    with local.session() as s:
        hot = s.scalars(select(Detection).where(Detection.status == DetectionStatus.PENDING)).all()[
            :4
        ]
        for one in hot:
            one.status, one.is_validated = DetectionStatus.CONFIRMED, True
            event = dict(validator_id=RULE, is_valid=True, label='source')
            s.add(ValidationEvent(detection_id=one.id, **event))
        ids = [one.id for one in hot]
        for image in s.scalars(select(Image)):  # As an earlier release has left them
            image.facts = {k: v for k, v in image.facts.items() if k != 'exposure'}
    assert len(confirmed(local)) == len(good) + len(ids)
    report = judge_again(local)
    assert report.verdicts[f'{RULE} (withdrawn)'] == len(ids)
    assert set(confirmed(local).detection_id) == set(good.detection_id)
    status = local.detections().set_index('detection_id').status
    assert {status[str(one)] for one in ids} == {'pending'}
    assert judge_again(local).verdicts == {}


def test_what_was_withdrawn_can_be_confirmed_again(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 4.1))
    add(local, tmp_path, *shots)
    kept = {}
    with local.session() as s:
        for image in s.scalars(select(Image)):
            kept[image.id] = image.facts
            image.facts = dict(image.facts, exposure={})
    assert judge_again(local).verdicts == {f'{RULE} (withdrawn)': 14}
    assert not len(confirmed(local))
    with local.session() as s:
        for image in s.scalars(select(Image)):
            image.facts = kept[image.id]
    time.sleep(0.01)
    assert judge_again(local).verdicts == {RULE: 14}
    assert len(confirmed(local)) == 14
    assert set(local.detections().status) >= {'confirmed'}


def test_a_file_that_has_gone_confirms_nothing(local, tmp_path):
    shots = Shot(), Shot(**second, shift=(7.3, 4.1))
    add(local, tmp_path, shots[0])
    with local.session() as s:
        for image in s.scalars(select(Image)):
            image.facts = {k: v for k, v in image.facts.items() if k != 'exposure'}
    (tmp_path / 'e1.fits').unlink()
    report = add(local, tmp_path, shots[1])
    assert RULE not in report.verdicts and len(report.doubts) == 1


def turned(pixels, header):
    "The same exposure, turned by half a turn and referred to another place"
    header['CRPIX1'], header['CRPIX2'] = SIDE + 1 - header['CRPIX1'], SIDE + 1 - header['CRPIX2']
    for card in ('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'):
        header[card] = -header[card]
    ra, dec = WCS(header).pixel_to_world_values(80, 90)
    header.update(CRVAL1=float(ra), CRVAL2=float(dec), CRPIX1=81.0, CRPIX2=91.0)
    return pixels[::-1, ::-1].copy(), header


DISGUISES = {
    'another instrument': (dict(INSTRUME='ACS'), dict(INSTRUME='WFC', **{'DATE-OBS': None})),
    'another telescope': (dict(TELESCOP='VLT-UT1'), dict(TELESCOP='ESO-VLT-U1')),
    'another band': (dict(FILTER='F814W'), dict(FILTER='I', **{'DATE-OBS': None})),
    'a prime': (dict(FILTER='g'), dict(FILTER='gp', **{'DATE-OBS': None})),
    'local time': ({}, {'DATE-OBS': '2024-04-30T22:00:00'}),
    'another chip': (dict(CCDNUM='1'), dict(CCDNUM='S1', **{'DATE-OBS': None})),
}


@pytest.mark.parametrize('change', [None, turned])
@pytest.mark.parametrize('disguise', DISGUISES)
@pytest.mark.parametrize('surveys', [('s', 's'), ('one', 'two')])
def test_a_copy_in_disguise_confirms_nothing(local, tmp_path, disguise, change, surveys):
    own, other = DISGUISES[disguise]
    first = Shot(cards=own, name='a')
    second = Shot(cards=dict(EXPNUM=None, **other), name='b')
    for path, survey in zip((write(tmp_path, first), write(tmp_path, second, change)), surveys):
        local.add_fits(path, survey=survey, show=False)
    assert outcome(local, first) == (0, 0)


@pytest.mark.parametrize('apart', [dict(INSTRUME='WFC'), dict(CCDNUM='S1'), dict(FILTER='gp')])
def test_without_a_time_names_alone_do_not_tell_exposures_apart(local, tmp_path, apart):
    "Other noise, so other pixels; but nothing certain says that it is another exposure"
    first = Shot(cards={'DATE-OBS': None, 'EXPNUM': None, 'CCDNUM': '1'}, name='a')
    second = Shot(
        cards={'DATE-OBS': None, 'EXPNUM': None, 'CCDNUM': '1', **apart}, seed=2, name='b'
    )
    for path in (write(tmp_path, first), write(tmp_path, second)):
        local.add_fits(path, survey='s' if 'FILTER' in apart else path.stem, show=False)
    assert outcome(local, first) == (0, 0)
