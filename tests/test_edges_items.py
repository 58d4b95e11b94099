"""One bad file costs itself alone, at whatever step it goes bad: each verb goes on with the others, and the
ledger says in one word and in a sentence what happened. Nothing of other bytes is searched, drawn in or cut."""

import ctypes
import gzip
import os
import shutil
import socket
import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from test_datasets import write_images

import astrid_data as ad
from astrid_data.core import AstridError
from astrid_data.datasets.diff import rebuild_version
from astrid_data.ingest.labels import overlapping

pytestmark = pytest.mark.filterwarnings('ignore')
PARAMS = dict(validation_status='any', confidence_threshold=None, quality_score_threshold=None)
PARAMS |= dict(max_samples=None, negatives=dict(random_sky=1.0, rejected=0.5))
QUIET = dict(progress=False, probe=False)


# The same image in other forms


def _packed(path):
    target = path.with_suffix('.fits.gz')
    target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()
    return target


def _tiled(path):
    target = path.with_suffix('.fits.fz')
    data, header = fits.getdata(path), fits.getheader(path)
    tiles = fits.CompImageHDU(data.astype('f4'), header, compression_type='RICE_1')
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(target, output_verify='ignore')
    path.unlink()
    return target


def _masked(path):
    "An image that stays as it is; its mask is what goes bad"
    mask = np.zeros(fits.getdata(path).shape, 'i2')
    mask[:40] = 1
    target = path.with_name(f'{path.stem}_mask.fits')
    fits.PrimaryHDU(mask, fits.getheader(path)).writeto(target)
    return target


FORMS = dict(plain=lambda path: path, packed=_packed, tiled=_tiled, masked=_masked)


# What happens to it


def _is_folder(path, whole, other):
    path.mkdir()


def _is_dangling(path, whole, other):
    path.symlink_to('nowhere.fits')


def _is_loop(path, whole, other):
    path.symlink_to(path.name)


def _is_pipe(path, whole, other):
    os.mkfifo(path)


def _is_socket(path, whole, other):
    here = os.getcwd()
    os.chdir(path.parent)  # The path of a socket has 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.bind(path.name)
    finally:
        os.chdir(here)


def _is_device(path, whole, other):
    path.symlink_to('/dev/zero')


def _is_gone(path, whole, other):
    pass


def _is_half(path, whole, other):
    path.write_bytes(whole[: len(whole) // 2])


def _is_empty(path, whole, other):
    path.write_bytes(b'')


def _is_a_page(path, whole, other):
    path.write_bytes(b'<!DOCTYPE html><html>503 Service Unavailable</html>')


def _is_another(path, whole, other):
    shutil.copyfile(other, path)


def _is_smaller(path, whole, other):
    with fits.open(other) as hdul:
        fits.PrimaryHDU(hdul[0].data[:60, :50].copy(), hdul[0].header).writeto(path)


def _has_no_place(path, whole, other):
    with fits.open(other) as hdul:
        header = hdul[0].header
        header.update(CDELT1=0.0, CDELT2=0.0)
        fits.PrimaryHDU(hdul[0].data.copy(), header).writeto(path)


def _is_damaged(path, whole, other):
    at = len(whole) * 2 // 3
    path.write_bytes(whole[:at] + bytes(range(256)) + whole[at + 256 :])


def _has_a_wrong_sum(path, whole, other):
    path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 255]) + whole[-7:])


def _is_denied(path, whole, other):
    path.write_bytes(whole)
    path.chmod(0)


NO_FILE = {'missing_file', 'no_fits_file'}
BROKEN = {'truncated', 'unreadable', 'changed'}
TRICKS = {
    'a folder': (_is_folder, NO_FILE),
    'a dangling link': (_is_dangling, NO_FILE),
    'a link to itself': (_is_loop, NO_FILE | {'bad_address'}),
    'a pipe': (_is_pipe, NO_FILE),
    'a socket': (_is_socket, NO_FILE),
    'a device': (_is_device, NO_FILE),
    'gone': (_is_gone, NO_FILE),
    'half': (_is_half, BROKEN),
    'empty': (_is_empty, BROKEN),
    'a web page': (_is_a_page, BROKEN),
    'another image': (_is_another, {'changed', 'no_image_hdu'}),
    'a smaller image': (_is_smaller, {'changed', 'no_image_hdu'}),
    'without a place': (_has_no_place, {'changed', 'bad_wcs', 'no_image_hdu'}),
    'damaged': (_is_damaged, BROKEN),
    'denied': (_is_denied, {'denied', 'unreadable'}),
}
CASES = [('plain', trick) for trick in TRICKS]
CASES += [('packed', trick) for trick in ('half', 'another image', 'damaged', 'a web page')]
CASES += [('tiled', trick) for trick in ('half', 'another image', 'damaged')]
CASES += [('masked', trick) for trick in ('a folder', 'gone', 'half', 'a web page', 'denied')]


def wanted_of(form, reasons):
    "The reasons of losses: of a file that is gone it is said whether it was a plane"
    return {'missing_plane'} if form == 'masked' and reasons is NO_FILE else reasons


@contextmanager
def as_others():
    "Meanwhile the permissions of files count also for root, in this thread and those that it starts"
    if sys.platform != 'linux' or os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, before = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(head, before):
        pytest.skip('what root may do cannot be asked here')
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, among the effective ones
    if libc.capset(head, fewer):
        pytest.skip('root cannot be told to keep to permissions here')
    try:
        yield
    finally:
        libc.capset(head, before)


class Field:
    "Three images, one of which can be made bad and good again, and an archive that holds them"

    def __init__(self, home, form):
        self.home = home
        self.images = write_images(home / 'sky', n=3, side=100)
        self.other = home / 'other.fits'
        write_images(home / 'more', n=4, side=100)[3].rename(self.other)
        self.target = FORMS[form](self.images[1])
        self.whole = self.target.read_bytes()
        self.paths = sorted(map(str, (home / 'sky').iterdir()))
        (home / 'first').mkdir()
        archive = self.open('first')
        report = archive.add_fits(self.paths, survey='s', show=False, detect=False)
        assert report.added == 3 and report.helpers == (form == 'masked')
        archive.registry.engine.dispose()
        self.n = 0

    def open(self, name):
        home = self.home / name
        storage = str(self.home / 'store')
        return ad.open_archive(f'sqlite:///{home}/r.db', storage=storage, home=home)

    def archive(self):
        "Another archive that holds the same"
        self.n += 1
        home = self.home / f'home{self.n}'
        home.mkdir()
        shutil.copy(self.home / 'first' / 'r.db', home)
        return self.open(home.name)

    @contextmanager
    def bad(self, trick):
        self._remove()
        try:
            trick(self.target, self.whole, self.other)
            with as_others():
                yield
        finally:
            self._remove()
            self.target.write_bytes(self.whole)

    def _remove(self):
        if self.target.is_dir() and not self.target.is_symlink():
            self.target.rmdir()
        else:
            self.target.unlink(missing_ok=True)

    def is_victim(self, uris):
        return uris.astype(str).str.contains('field1')


def people():
    "Rows on each field"
    places = np.random.default_rng(1).uniform(-30, 30, (3, 8, 2)) / 3600
    rows = [(40 + k + d, 5 + e) for k in range(3) for d, e in places[k]]
    table = pd.DataFrame(rows, columns=['ra', 'dec'])
    return table.assign(verdict=['real', 'bogus'] * (len(table) // 2))


def plan_of(archive):
    return ad.TrainingDataCollector(archive).plan(**PARAMS, progress=False)


@pytest.fixture(scope='module')
def fields(tmp_path_factory):
    return {form: Field(tmp_path_factory.mktemp(form), form) for form in FORMS}


def the_loss(field, ledger):
    "The reason of the bad one, which is the only one; said in a sentence"
    ledger = ledger[ledger['reason'] != 'no_image']  # Rows of a catalogue on it
    uris = ledger['uri'] if 'uri' in ledger else ledger['image_uri']
    assert len(ledger) and field.is_victim(uris).all(), ledger.to_string()
    assert (ledger['detail'].str.len() > 10).all()
    reasons = set(ledger['reason'])
    assert len(reasons) == 1, reasons
    return reasons.pop()


@pytest.mark.parametrize('form, trick', CASES)
def test_what_goes_bad_before_it_is_searched(fields, form, trick):
    field, (make_bad, reasons) = fields[form], TRICKS[trick]
    archive = field.archive()
    with field.bad(make_bad):
        report = archive.detect(show=False, nsigma=4.0)
        assert the_loss(field, report.ledger) in wanted_of(form, reasons)
        again = archive.add_fits(field.paths, survey='s', show=False, detect=False)
        assert not again.added and again.skipped == 2 + (not len(again.ledger))
        if len(again.ledger):
            assert the_loss(field, again.ledger) in reasons | {'bad_wcs'}
        else:
            assert form == 'masked'
        named = archive.add_catalogue(people(), is_real='verdict', name='people')
    found = archive.detections()
    assert found.groupby('observation_key').size().shape == (3 if form == 'masked' else 2,)
    if form != 'masked':  # A catalogue asks a mask nothing
        assert the_loss(field, named.ledger) in reasons
        assert not field.is_victim(found['observation_key']).any()


@pytest.fixture(scope='module')
def planned(fields):
    "For each form: an archive with rows of people, a plan, and the version that is built of it"
    known = {}

    def once(form):
        if form not in known:
            archive = fields[form].archive()
            archive.add_catalogue(people(), is_real='verdict', name='people')
            plan = plan_of(archive)
            known[form] = archive, plan, plan.build('whole', patch_size=16, **QUIET)
            assert len(known[form][2]) > 25
        return known[form]

    return once


LATER = ('a folder', 'a link to itself', 'half', 'another image', 'without a place', 'denied')


@pytest.mark.parametrize(
    'form, trick', [(form, trick) for form, trick in CASES if form != 'plain' or trick in LATER]
)
def test_what_goes_bad_before_and_after_a_plan(fields, planned, form, trick):
    field, (make_bad, reasons) = fields[form], TRICKS[trick]
    archive, plan, whole = planned(form)
    wanted = wanted_of(form, reasons)
    with field.bad(make_bad):
        beside = plan_of(archive)
        drawn = beside.samples[beside.samples['kind'] == 'random_sky']
        assert len(drawn) and not field.is_victim(drawn['image_uri']).any()
        assert any(reason in str(beside.shortfall) for reason in wanted), beside.shortfall
        dataset = plan.build(f'beside-{trick.replace(" ", "-")}', patch_size=16, **QUIET)
        assert len(rebuild_version(whole, progress=False).diff.removed)
        with archive.session() as session:
            for key in whole.samples['observation_id'].unique():
                overlapping(session, key)
        with pytest.raises(AstridError):
            row = np.flatnonzero(field.is_victim(whole.samples['image_uri']))[0]
            whole.show_source(int(row))
    cut = dataset.ledger[dataset.ledger['step'] == 'cut']
    cut = cut[cut['reason'] != 'too_little_valid']
    assert the_loss(field, cut) in wanted
    assert not field.is_victim(dataset.samples['image_uri']).any()
    good = whole.samples[~field.is_victim(whole.samples['image_uri'])]
    assert set(dataset.samples['sample_key']) == set(good['sample_key'])
    pixels = [d.samples.set_index('sample_key')['pixel_sha256'] for d in (dataset, whole)]
    assert (pixels[0] == pixels[1][pixels[0].index]).all()


@pytest.mark.parametrize('form', FORMS)
def test_a_version_is_rebuilt_to_its_hash(fields, planned, form):
    "Also where masks lie beside the images, in which no sky is drawn"
    archive, plan, whole = planned(form)
    assert rebuild_version(whole, progress=False).same
    again = plan_of(archive)
    assert again.plan_hash == plan.plan_hash
    if form == 'masked':
        on_masked = whole.samples[field_rows(fields[form], whole)]
        drawn = on_masked[on_masked['kind'] == 'random_sky']
        assert len(drawn) and (drawn['y0'] + 8 >= 40).all()


def field_rows(field, dataset):
    return field.is_victim(dataset.samples['image_uri'])


def test_names_that_are_no_text_stop_nothing(fields, tmp_path):
    "Bytes that are no UTF-8, a line break, and all the letters that a name may have"
    names = [b'm\xfc.fits', b'a\nb.fits', b'x' * 250 + b'.fits']
    names += [b'broken\xfe.fits', b'broken\nb.fits', b'broken' + b'y' * 244 + b'.fits']
    for k, name in enumerate(names):
        path = tmp_path / 'sky' / name.decode(errors='surrogateescape')
        path.parent.mkdir(exist_ok=True)
        image = fields['plain'].images[k % 3].read_bytes()
        path.write_bytes(image if k < 3 else image[:5000])
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_fits(str(tmp_path / 'sky'), survey='s', show=False, nsigma=4.0)
    assert report.added == 3 and list(report.ledger['reason']) == ['truncated'] * 3
    assert 'truncated' in repr(report)
    plan = ad.TrainingDataCollector(archive).plan(**PARAMS, progress=False)
    dataset = plan.build('names', patch_size=16, **QUIET)
    assert dataset.samples['image_uri'].nunique() == 3
    again = archive.add_fits(str(tmp_path / 'sky'), survey='s', show=False, detect=False)
    assert again.skipped == 3 and len(again.ledger) == 3
