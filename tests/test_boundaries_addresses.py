"""The address of a file is that file and no other, whatever letters are in it: in a bucket, in a folder, on
the web, in the cache and on the way through `add_fits`, a catalogue and a build."""

import http.server
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from conftest import served
from servers import https_server
from test_datasets import write_images
from test_storage import settings_of

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.ingest.files import list_files
from astrid_data.storage import addresses, resolve
from astrid_data.storage.bucket import S3Store
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.folder import FolderStore
from astrid_data.storage.resolve import open_store, resolve_uri

# Each key beside those that a careless reader would take it for
KEYS = {
    'a#b.fits': ['a'],
    'a?b.fits': ['a'],
    'a?versionId=1': ['a'],
    'a#': ['a'],
    'a?': ['a'],
    'a%23b.fits': ['a#b.fits', 'a'],
    'a%2523b.fits': ['a%23b.fits'],
    'a%b.fits': ['ab.fits'],
    'a%': ['a'],
    'a b.fits': ['a+b.fits', 'a%20b.fits', 'ab.fits'],
    'a+b.fits': ['a b.fits', 'a%2Bb.fits'],
    ' a.fits': ['a.fits'],
    'a.fits ': ['a.fits'],
    'a;b.fits': ['a'],
    'a&b=c.fits': ['a'],
    'm51:a.fits': ['a.fits'],
    'a@b.fits': ['a'],
    'a~b.fits': ['a'],
    '~root/a.fits': ['a.fits'],
    "a'b,(c)!$*.fits": ['a'],
    'a[1].fits': ['a1.fits', 'a.fits'],
    'a.fits[1]': ['a.fits', 'a.fits1'],
    'A.FITS': ['a.fits'],
    'été.fits': [unicodedata.normalize('NFD', 'été.fits'), 'ete.fits'],
    unicodedata.normalize('NFD', 'été.fits'): ['été.fits'],
    '星.fits': ['?.fits', '_.fits'],
    'd#1/a.fits': ['d', 'd/a.fits'],
    'd?1/a.fits': ['d', 'd/a.fits'],
    '.../a.fits': ['a.fits'],
    'a..fits': ['a.fits'],
    'http:a.fits': ['a.fits'],
}
REFUSED = ['/a.fits', 'd//a.fits', 'd/../a.fits', '../a.fits', './a.fits', 'a.fits/', 'd\\a.fits']
REFUSED += ['C:\\a.fits', 'a\0.fits', '']


def content(key):
    return f'the bytes of {key!r}'.encode()


@pytest.fixture(scope='module')
def bucket(s3, tmp_path_factory):
    "A bucket with every key and its neighbours, put there by boto3 and not by us"
    store = S3Store('test', 'odd', settings_of(s3), DiskCache(tmp_path_factory.mktemp('cache')))
    for key in {
        *KEYS,
        *(other for others in KEYS.values() for other in others),
        'a.fits',
        'd/a.fits',
    }:
        if key == 'd':
            continue  # A file and a folder of one name: no server on disk has both
        store.client.put_object(Bucket='test', Key=f'odd/{key}', Body=content(key))
    return store


@pytest.mark.parametrize('key', KEYS)
def test_a_key_of_a_bucket_is_read_letter_by_letter(bucket, key):
    assert bucket.get(key) == content(key)
    for address in (key, f's3://test/odd/{key}', bucket.uri(key), f'S3://test/odd/{key}'):
        assert resolve_uri(address, bucket).read_bytes() == content(key)
    store, name = resolve.remote_object(f's3://test/odd/{key}', bucket)
    assert store.get(name) == content(key)
    assert resolve.remote_object(key, bucket) == (bucket, key)
    assert bucket.get_range(key, 4, 9) == content(key)[4:9]


@pytest.mark.parametrize('key', KEYS)
def test_a_key_that_is_not_there_is_not_another(bucket, key):
    for missing in (f'{key}#x', f'{key}?x', f'{key}%23', f'{key} ', f'{key}x'):
        with pytest.raises(NotFound):
            resolve_uri(f's3://test/odd/{missing}', bucket)
        with pytest.raises(NotFound):
            resolve_uri(missing, bucket, local=False)


@pytest.mark.parametrize('key', REFUSED)
def test_a_key_that_is_no_name_is_refused_everywhere(bucket, tmp_path, key):
    folder = FolderStore(tmp_path)
    for store in (bucket, folder):
        for verb in (store.get, store.head, store.local_path, store.uri):
            with pytest.raises(BadInput):
                verb(key)
    for address in (f's3://test/odd/{key}', f's3://test//{key}'):
        with pytest.raises(BadInput):
            resolve_uri(address, bucket)


@pytest.mark.parametrize('name', ['', 'a b', 'a?b', 'a#b', 'é', 'a@b'])
def test_a_bucket_of_a_strange_name_is_said_before_anybody_is_asked(bucket, name):
    with pytest.raises(BadInput, match='not a bucket'):
        resolve_uri(f's3://{name}/a.fits', bucket)
    with pytest.raises(BadInput, match='not a bucket'):
        open_store(f's3://{name}/prefix', bucket.settings)


def test_a_store_opens_at_its_whole_prefix(bucket, s3, tmp_path):
    store = open_store('s3://test/odd/d#1', settings_of(s3), tmp_path)
    assert store.get('a.fits') == content('d#1/a.fits')
    assert list(store.list()) == ['a.fits']
    assert list(open_store('s3://test/odd', settings_of(s3), tmp_path).list('a%')) == sorted(
        ['a%', 'a%20b.fits', 'a%23b.fits', 'a%2523b.fits', 'a%2Bb.fits', 'a%b.fits']
    )
    folder = open_store((tmp_path / 'a#b?c%23 d').as_uri())
    assert folder.root == tmp_path.resolve() / 'a#b?c%23 d' and folder.root.is_dir()


def test_no_two_addresses_share_a_file_of_the_cache(bucket):
    paths = {key: bucket.local_path(key) for key in KEYS}
    assert len({str(path).lower() for path in paths.values()}) == len(KEYS)
    assert all(str(path).isascii() for path in paths.values())


# Folders


@pytest.mark.parametrize('key', KEYS)
def test_a_file_is_read_under_every_name_it_has(tmp_path, key):
    store = FolderStore(tmp_path / 'store')
    decoys = {*KEYS[key], 'a', 'a.fits'} - {key}
    for name in decoys - {'d'}:  # A file and a folder of one name: no disk has both
        store.put(name, content(name))
    store.put(key, content(key))
    path = store.local_path(key)
    for address in (key, str(path), path.as_uri(), store.uri(key)):
        assert resolve_uri(address, store).read_bytes() == content(key)
    assert resolve_uri(path.as_uri().replace('file://', 'file://localhost'), store) == path


def test_file_addresses_name_no_other_machine(tmp_path):
    (tmp_path / 'a.fits').write_bytes(b'here')
    for address in (f'file://elsewhere{tmp_path}/a.fits', 'file://server/share/a.fits'):
        with pytest.raises(BadInput, match='names no machine'):
            resolve_uri(address, FolderStore(tmp_path))
    with pytest.raises(BadInput, match='names no machine'):
        open_store('file://elsewhere/tmp')


def test_names_no_disk_can_hold_are_refused(tmp_path):
    store = FolderStore(tmp_path)
    for address in ('x' * 5000, f'/{"y" * 5000}', 'file:///a%00b.fits', '/a\0b.fits'):
        with pytest.raises((BadInput, NotFound)):
            resolve_uri(address, store)
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    for address in ('loop', str(tmp_path / 'loop')):
        with pytest.raises((BadInput, NotFound)):
            resolve_uri(address, store)


def test_names_that_are_no_unicode_are_read(tmp_path):
    path = tmp_path / b'a\xff.fits'.decode(errors='surrogateescape')
    path.write_bytes(b'latin')
    assert resolve_uri(path.as_uri(), FolderStore(tmp_path / 's')).read_bytes() == b'latin'


def test_a_choice_of_hdu_behind_a_name_is_no_pattern(tmp_path):
    for name in ('a.fits', 'a.fits1', 'img1.fits', 'img2.fits'):
        (tmp_path / name).touch()
    chosen = f'{tmp_path}/a.fits[1]'
    assert list_files(chosen) == [chosen]
    with pytest.raises(NotFound, match='give hdu='):
        resolve_uri(chosen, FolderStore(tmp_path / 's'))
    assert [Path(p).name for p in list_files(f'{tmp_path}/img[12].fits')] == [
        'img1.fits',
        'img2.fits',
    ]
    (tmp_path / 'img[1].fits').touch()
    assert [Path(p).name for p in list_files(f'{tmp_path}/img[1].fits')] == ['img[1].fits']


# The web


@pytest.fixture
def web(monkeypatch, tmp_path_factory):
    "A server that answers with what it was asked"
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = self.path.encode()
            self.send_response(200)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    to_here = addresses.web_address
    with served(lambda: https_server(Handler, tmp_path_factory.mktemp('tls')), 'https') as here:
        url, certificate = here
        monkeypatch.setenv('SSL_CERT_FILE', str(certificate))
        monkeypatch.setattr(
            'astrid_data.storage.web.web_address',
            lambda address: to_here(address).replace('https://sky', url),
        )
        yield asked


def test_web_addresses_are_sent_whole(web, tmp_path):
    store = S3Store('b', '', None, DiskCache(tmp_path))
    for part, sent in {
        '/a b.fits': '/a%20b.fits',
        '/a%20b.fits': '/a%20b.fits',
        '/é.fits': '/%C3%A9.fits',
        '/a%23b.fits': '/a%23b.fits',
        '/a+b.fits': '/a+b.fits',
        '/a.fits?X-Amz-Credential=K%2F2026/x&X-Amz-Signature=ab12': None,
        '/a.fits?X-Amz-Credential=K%2F2026/x&X-Amz-Signature=ab13': None,
    }.items():
        path = resolve_uri(f'https://sky{part}', store)
        assert path.read_bytes().decode() == web[-1] == (sent or part)
        assert 'Amz' not in path.name and 'ab12' not in path.name
    assert len(web) == 7
    with pytest.raises(BadInput, match='%23'):
        resolve_uri('https://sky/a#b.fits', store)


# All verbs


def _field_under(names, folder):
    "Images of different pixels under awkward names"
    made = write_images(folder / 'made', n=len(names), side=100)
    for path, name in zip(made, names, strict=True):
        target = folder / 'sky' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return folder / 'sky'


NAMES = [
    'a#b.fits',
    'a.fits',
    'a?b.fits',
    'a%23b.fits',
    'A.fits',
    'a b.fits',
    'd#1/a.fits',
    'ü.fits',
    'u\u0308.fits',  # Looks like the one before, and is another
    'at12:30:00.fits',
    'e+f.fits',
    'e f.fits',
    'g%2Fh.fits',
    'g/h.fits',
    'i&j=k.fits',
    "l'm.fits",
]


def _samples(archive, place):
    archive.add_fits(place, survey='toy', show=False, apply_rules=False)
    seen = archive.detections()
    rows = seen.groupby('observation_key').head(4)[['ra', 'dec']].assign(verdict='real')
    rows['verdict'] = np.where(np.arange(len(rows)) % 2, 'real', 'bogus')
    report = archive.add_catalogue(pd.DataFrame(rows), is_real='verdict', name='people')
    plan = ad.TrainingDataCollector(archive).plan(
        validation_status='any',
        confidence_threshold=None,
        quality_score_threshold=None,
        progress=False,
    )
    dataset = plan.build('odd', patch_size=16, progress=False, probe=False)
    return report, plan, dataset


@pytest.mark.filterwarnings('ignore:.*asked for is')
@pytest.mark.parametrize('where', ['folder', 'copied', 'bucket'])
def test_every_verb_reads_the_file_that_is_meant(where, s3, tmp_path):
    folder = _field_under(NAMES, tmp_path)
    files = sorted(folder.rglob('*.fits'))
    expected = {fits.getheader(f)['CRVAL1']: fits.getdata(f) for f in files}
    storage, place = str(tmp_path / 'store'), [str(folder)]
    settings = settings_of(s3)
    if where == 'bucket':
        storage = 's3://test/ver b+s%2F&=ü'
        store = open_store(storage, settings, tmp_path / 'c')
        place = [f'{storage}/{f.relative_to(folder)}' for f in files]
        for f in files:
            store.put(f.relative_to(folder).as_posix(), f)
    url = f'sqlite:///{tmp_path}/r.db'
    archive = ad.open_archive(url, storage=storage, home=tmp_path / 'home', settings=settings)
    if where == 'copied':
        archive.add_fits(place, survey='toy', show=False, copy=True, apply_rules=False)
    report, plan, dataset = _samples(archive, place)
    table = archive.observations()
    assert len(table) == len(NAMES) == table['uri'].nunique()
    for row in table.itertuples():
        with archive.open(row.uri) as image:
            pixels = image.read_all()[0]
            nearest = min(expected, key=lambda ra: abs(ra - row.ra))
            np.testing.assert_array_equal(pixels, expected[nearest].astype('f4'))
    assert not len(report.ledger[report.ledger['reason'] == 'missing_file'])
    assert not len(dataset.ledger) or 'missing_file' not in set(dataset.ledger['reason'])
    assert dataset.samples['observation_key'].nunique() == len(NAMES)
    dataset.verify()
    if where == 'bucket':
        again = ad.open_archive(url, storage=storage, home=tmp_path / 'other', settings=settings)
        elsewhere = ad.open_dataset(again, 'odd')  # Fetched from the bucket
        assert elsewhere.content_hash == dataset.content_hash
        np.testing.assert_array_equal(elsewhere.patches([0]), dataset.patches([0]))
