"Files of others, broken on purpose: our errors only, no crash, no hang, no gigabyte, nothing accepted that was cut."

import cProfile
import gzip
import os
import subprocess
import sys
from pathlib import Path

import fuzz_files
import fuzz_tables
import numpy as np
import pytest
from astropy.io import fits
from fuzzing import fuzz

from astrid_data.core import BadImage, BadInput, Limits, current_limits, load_settings, reading
from astrid_data.images.image import open_image
from astrid_data.images.wcs import read_wcs
from astrid_data.images.wcs_cards import header_for_wcs
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.stamps import stamp_shape


def test_no_input_is_too_odd():
    n = int(os.environ.get('ASTRID_FUZZ_INPUTS', 450))
    found = fuzz(fuzz_files.TARGETS, n, budget=25 if n == 450 else None)
    assert not found.bad, str(found)


def test_no_table_and_no_limit_is_too_odd():
    n = int(os.environ.get('ASTRID_FUZZ_INPUTS', 240))
    found = fuzz(fuzz_tables.TARGETS, n, budget=25 if n == 240 else None)
    assert not found.bad, str(found)


PROBLEMS = [
    KeyError('NAXIS'),
    RecursionError(),
    MemoryError(),
    OverflowError('too large'),
    UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd'),
    EOFError(),
    AssertionError(),
    StopIteration(),
]


@pytest.mark.parametrize('problem', PROBLEMS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize('kind', [BadImage, BadInput])
def test_what_parsers_throw_is_ours(problem, kind):
    with pytest.raises(kind, match='m13.fits') as caught, reading('m13.fits', kind=kind):
        raise problem
    assert caught.value.__cause__ is problem


@pytest.mark.parametrize('problem', [KeyboardInterrupt(), SystemExit(), OSError(28, 'full')])
def test_what_is_no_fault_of_the_bytes_passes(problem):
    with pytest.raises(type(problem)) as caught, reading('m13.fits'):
        raise problem
    assert caught.value is problem


def _file(**cards):
    header = fuzz_files._header(**cards)
    return fuzz_files._bytes_of(fits.PrimaryHDU(fuzz_files._sky(), header))


def _with_card(name, value):
    "A file whose first card `name` says something else"
    data = _file()
    start = data.index(name.ljust(8).encode() + b'=')
    return data[:start] + f'{name:8}= {value:>20}'.ljust(80).encode() + data[start + 80 :]


@pytest.mark.parametrize('name', ['NAXIS', 'NAXIS1', 'NAXIS2', 'BITPIX'])
@pytest.mark.parametrize('value', ['9999999999999999', '-1', '1E30', '99999999999999999999'])
def test_sizes_that_no_file_has_are_refused_before_astropy(name, value):
    with pytest.raises(BadImage, match=name):
        open_image(_with_card(name, value))


@pytest.mark.parametrize(
    'cards',
    [
        dict(AMDX19=float(10**20)),
        dict(AMDX19=1.0),
        dict(PLTRAH=1),
        dict(XPIXELSZ='RA---XYZ'),
        dict(PPO3=1.0, AMDX1='x'),
    ],
)
def test_half_a_plate_solution_is_left_out(cards):
    wcs, reason, _ = read_wcs(fuzz_files._header(**cards))
    assert reason is None
    np.testing.assert_allclose(wcs.wcs.crval, [150.0, 2.0])


@pytest.mark.parametrize(
    'cards',
    [
        dict(A_ORDER=10**6),
        dict(WCSAXES=10**9),
        dict(CD99_99=1.0),
        dict(CRVAL1=10**30),
        dict(PV99_1=1),
    ],
)
def test_absurd_cards_of_a_wcs_are_refused(cards):
    header = fuzz_files._header(**cards)
    with pytest.raises(BadImage, match=next(iter(cards))):
        header_for_wcs(header)
    assert read_wcs(header)[1] == 'bad_wcs'


@pytest.mark.parametrize('record', ['NAXES: 2', 'EXTVER: 1'])
def test_records_of_a_distortion_that_stand_twice_are_refused(record):
    "wcslib wrote behind what it had asked for, and the process was aborted"
    header = fuzz_files._header()
    for name in ('DP1', 'DP1', 'DP2'):
        header.append(fits.Card(name, record))
    with pytest.raises(BadImage, match='DP1.* stands twice'):
        header_for_wcs(header)
    assert read_wcs(header)[1] == 'bad_wcs'


def test_numbers_that_are_no_wcs_may_be_as_they_like():
    assert read_wcs(fuzz_files._header(QID=30002000000000008375))[1] is None


def test_bombs_are_refused_and_limits_can_be_set(monkeypatch):
    stamp = gzip.compress(fuzz_files._header_of(3000) + bytes(40 * 10**6), 1)
    with pytest.raises(BadImage, match='ASTRID_MAX_STAMP_BYTES'):
        stamp_shape(stamp)
    monkeypatch.setenv('ASTRID_MAX_FREE_BYTES', '100 MB')
    with pytest.raises(BadImage, match='ASTRID_MAX_RATIO'):
        open_image(gzip.compress(fuzz_files._header_of(20_000) + bytes(160 * 10**6), 1))
    monkeypatch.setenv('ASTRID_MAX_STAMP_BYTES', '1 GB')
    assert current_limits().stamp_bytes == 10**9
    assert stamp_shape(stamp) == (3000, 3000)
    assert load_settings({}, None).limits == Limits()


def test_a_mask_of_zeros_is_no_bomb():
    packed = gzip.compress(fuzz_files._header_of(4000) + bytes(4 * 4000**2))
    assert open_image(packed).shape == (4000, 4000)


def test_one_bad_file_stops_nothing(tmp_path):
    files = dict(absurd=_with_card('NAXIS', '9999999999'), good=_file(), cut=_file()[:4000])
    files['odd'] = gzip.compress(_file())[:-20]
    for name, data in files.items():
        (tmp_path / f'{name}.fits').write_bytes(data)
    report = open_archive(str(tmp_path / 'archive')).add_fits(tmp_path, show=False)
    assert report.added == 1
    assert len(report.ledger) == 3
    for name in ('absurd', 'cut', 'odd'):
        row = report.ledger[report.ledger.uri.str.contains(name)].iloc[0]
        assert row.reason in ('bad_header', 'truncated')
        assert f'{name}.fits' in row.detail


def test_settings_that_cannot_be_read_say_so():
    for text in ('1e400', '9' * 400, 'much'):
        with pytest.raises(BadInput, match='is not a size'):
            load_settings(dict(ASTRID_CACHE_BYTES=text), None)


def _plate_header(**more):
    "Cards of a plate solution as whole as they must be, and more"
    words = 'PLTRAH PLTRAM PLTRAS PLTDECD PLTDECM PLTDECS XPIXELSZ YPIXELSZ CNPIX1 CNPIX2'
    cards = dict.fromkeys(words.split(), 5) | dict(PLTDECSN='+', XPIXELSZ=25.3, YPIXELSZ=25.3)
    cards |= dict(PPO3=177500.0, PPO6=177500.0, AMDX1=67.2, AMDY1=67.2)
    return fits.Header(list((cards | more).items()))


@pytest.mark.parametrize('name', ['AMDX14', 'AMDY14', 'AMDX15', 'AMDY20', 'AMDX21'])
def test_terms_of_a_plate_that_the_c_library_has_no_room_for(name):
    whole = header_for_wcs(_plate_header(AMDX13=1.0))
    assert 'AMDX13' in whole and 'PLTRAH' in whole
    assert 'PLTRAH' not in header_for_wcs(_plate_header(**{name: 16}))
    assert 'PLTRAH' in header_for_wcs(_plate_header(AMDX20=0.0))


def _calls_to_take_in(path, n):
    "Calls of functions that a catalogue of so many like rows takes, most cells of them empty"
    path.write_text('ra,dec,name,mag,snr\n' + '1,1,,,\n' * n)
    profile = cProfile.Profile()
    columns = dict(object_id='name', mag='mag', snr='snr')
    report = profile.runcall(fuzz_files._archive().add_catalogue, path, 'long', **columns)
    assert len(report.ledger) == n
    return sum(entry.callcount for entry in profile.getstats())


def test_a_row_without_values_takes_few_calls(tmp_path):
    "A million of them packed into 19 kB took 13.6 s: pandas was asked for each empty cell"
    path = tmp_path / 'long.csv'
    _calls_to_take_in(path, 10)  # What is loaded at first use
    few, many = (_calls_to_take_in(path, n) for n in (500, 2500))
    assert many - few < 40 * 2000, (many - few) / 2000


def test_the_fuzzer_names_its_targets():
    tool = Path(__file__).parents[1] / 'tools' / 'fuzz.py'
    command = [sys.executable, tool, '1', '--targets', 'fits,catalogs']
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert 'no target catalogs; known are fuzz_files:fits' in ended.stderr
