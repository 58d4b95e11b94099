"Images in a bucket, read in parts: the pixels of the whole file, whoever uploaded it and whatever the service answers."

import hashlib
import io
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal
from sqlalchemy import select
from test_kill import FORK
from test_storage import settings_of
from test_store_faults import answer, before, without_pauses

import astrid_data as ad
from astrid_data.images.image import open_image
from astrid_data.images.opener import ImageOpener, ImageStoreUnreachable, OnTheWay, header_indexes
from astrid_data.patches.extract import extract_patches
from astrid_data.registry.tables import Image
from astrid_data.storage.bucket import S3Store

SIDE = 16
SHAPE = 2000, 400


def cards(k, **more):
    return fits.Header(
        dict(
            CTYPE1='RA---TAN',
            CTYPE2='DEC--TAN',
            CRVAL1=20.0 + k,
            CRVAL2=3.0,
            CRPIX1=200.5,
            CRPIX2=1000.5,
            CDELT1=-1 / 3600,
            CDELT2=1 / 3600,
            TELESCOP='Pretend',
            FILTER='r',
            EXPTIME=30.0,
        )
        | {'MJD-AVG': 59000.25 + k}
        | more
    )


def planes(k):
    "Pixels, flags and weights of an image"
    rng = np.random.default_rng(k)
    sky = rng.normal(100, 5, SHAPE).astype('f4')
    flags = (rng.random(SHAPE) < 0.02).astype('i2') * 4
    return sky, flags, rng.uniform(0.5, 1, SHAPE).astype('f4') * (rng.random(SHAPE) > 0.01)


def tiles(data, head=None, tile=(1, 400), codec='RICE_1', **kw):
    return fits.CompImageHDU(data, head, compression_type=codec, tile_shape=tile, **kw)


KINDS = {
    'plain': lambda k: [fits.PrimaryHDU(planes(k)[0], cards(k))],
    'whole numbers': lambda k: [
        fits.PrimaryHDU(planes(k)[0].astype('i2'), cards(k, BSCALE=0.5, BZERO=7.0))
    ],
    'with planes': lambda k: [
        fits.PrimaryHDU(),
        fits.ImageHDU(planes(k)[0], cards(k), name='SCI'),
        fits.ImageHDU(planes(k)[1], name='DQ'),
        fits.ImageHDU(planes(k)[2].astype('f4'), name='WHT'),
    ],
    'rice': lambda k: [fits.PrimaryHDU(), tiles(planes(k)[0], cards(k), name='SCI')],
    'rice with planes': lambda k: [
        fits.PrimaryHDU(),
        tiles(planes(k)[0], cards(k), (7, 60), name='SCI'),
        tiles(planes(k)[1], name='DQ', tile=(30, 50)),
        tiles(planes(k)[2].astype('f4'), name='WHT', codec='GZIP_2'),
    ],
    'lossless': lambda k: [
        fits.PrimaryHDU(),
        tiles(planes(k)[0], cards(k), name='SCI', codec='GZIP_1', quantize_level=0),
    ],
    'smooth tiles that do not compress': lambda k: [
        fits.PrimaryHDU(),
        tiles(planes(k)[0] * np.float32(1e-30), cards(k), name='SCI', tile=(3, 400)),
    ],
}


def raw(kind, k):
    f = io.BytesIO()
    fits.HDUList(KINDS[kind](k)).writeto(f)
    return f.getvalue()


class Bucket:
    "Images of one kind, as somebody uploads them; the archive that took them in; what is asked since"

    def __init__(self, s3, tmp_path, name, kind, n=2):
        self.s3, self.prefix = s3, hashlib.sha256(name.encode()).hexdigest()[:16]
        self.tmp_path = tmp_path
        self.raw = {self.key(k): raw(kind, k) for k in range(n)}
        for key, data in self.raw.items():
            s3.client().put_object(Bucket='test', Key=key, Body=data)
        self.uris = [f's3://test/{key}' for key in self.raw]
        self.archive = self.open('first')
        report = self.archive.add_fits(self.uris, survey='toy', detect=False, show=False)
        assert report.added == n, report
        self.samples = pd.concat([self.rows(k) for k in range(n)], ignore_index=True)

    def key(self, k):
        return f'{self.prefix}/raw/{k}.fits'

    def open(self, home):
        "The archive on a machine that has nothing in its cache"
        where = dict(storage=f's3://test/{self.prefix}/store', home=self.tmp_path / home)
        database = f'sqlite:///{self.tmp_path / "r.db"}'
        return ad.open_archive(database, settings=settings_of(self.s3), **where)

    def rows(self, k):
        "Samples on an image: two near each other, at an edge, off, and nowhere"
        with self.archive.session() as session:
            found = session.execute(
                select(Image.hdu_name, Image.hdu_ver).where(Image.uri == self.uris[k])
            ).one()
        with open_image(self.raw[self.key(k)], *found) as image:
            x, y = np.array([100.0, 105, 399, 30, 50]), np.array([60.0, 70, 1500, 1999, 2300])
            ra, dec = image.pixel_to_world(x, y)
        names = dict(image_uri=self.uris[k], image_hdu=found[0], image_extver=found[1])
        more = dict(image_wcs_state='celestial', **names)
        return pd.DataFrame(
            dict(sample_key=[f'{k}{i}' for i in range(6)], ra=[*ra, np.nan], dec=[*dec, 0], **more)
        )

    def opener(self, home='second', **kw):
        archive = self.open(home)
        opener = ImageOpener(archive.store, **kw)
        opener.learn(header_indexes(archive, self.samples, ('image',)))
        self.asked = []
        self.client = opener._place_of(self.uris[0], None)[0].client
        for operation in ('GetObject', 'HeadObject', 'ListObjectsV2'):
            before(SimpleNamespace(client=self.client), operation, self.note)
        return opener

    def note(self, request, event_name, **kw):
        asked = request.headers.get('Range', b'').decode().removeprefix('bytes=')
        bound = bool(request.headers.get('If-Match'))
        self.asked.append((event_name.rpartition('.')[2], asked, bound))

    def cut(self, opener, expected=True, samples=None):
        t = self.samples if samples is None else samples
        if expected:
            for uri, some in t.groupby('image_uri', sort=False):
                where = some['ra'].to_numpy(), some['dec'].to_numpy(), SIDE
                hdu, version = some['image_hdu'].iloc[0], int(some['image_extver'].iloc[0])
                opener.expect(uri, hdu, version, *where)
        return extract_patches(t, SIDE, open=opener, min_valid_fraction=0)

    def from_files(self):
        "The same from local files"
        paths = {}
        for uri, (key, data) in zip(self.uris, self.raw.items()):
            paths[uri] = self.tmp_path / key.replace('/', '-')
            paths[uri].write_bytes(data)
        t = self.samples.assign(image_uri=self.samples['image_uri'].map(lambda u: str(paths[u])))
        return extract_patches(t, SIDE, min_valid_fraction=0)


@pytest.fixture
def bucket(s3, tmp_path, request):
    def made(kind='plain', **kw):
        return Bucket(s3, tmp_path, request.node.nodeid, kind, **kw)

    return made


def same(got, whole):
    assert_array_equal(got.data, whole.data)
    assert_array_equal(got.valid, whole.valid)
    assert got.kept.tolist() == whole.kept.tolist() and got.kept.sum() >= 4
    pd.testing.assert_frame_equal(got.info, whole.info)
    assert got.ledger['reason'].tolist() == whole.ledger['reason'].tolist()


def read_whole(there):
    "Was a file fetched whole?"
    return any(span.startswith('0-') and not bound for _, span, bound in there.asked)


# Pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('expected', [True, False], ids=['expected', 'not expected'])
@pytest.mark.parametrize('kind', KINDS)
def test_parts_of_a_file_give_the_pixels_of_the_whole(bucket, kind, expected):
    there = bucket(kind)
    same(there.cut(there.opener(), expected), there.from_files())
    assert {name for name, *_ in there.asked} == {'GetObject'}  # No HEAD
    assert all(bound for *_, bound in there.asked)
    read = sum(int(b) - int(a) + 1 for a, b in (span.split('-') for _, span, _ in there.asked))
    assert read < 0.6 * sum(map(len, there.raw.values()))


def test_rows_are_few(bucket):
    there = bucket('plain')
    opener = there.opener()
    assert there.cut(opener).kept.sum() == 8
    n_bytes = [int(b) - int(a) + 1 for a, b in (span.split('-') for _, span, _ in there.asked)]
    rows = 3 * SIDE + 10  # Of each image
    assert sum(n_bytes) < 2 * (rows * 400 * 4 + 3 * 2 * 32768) and len(n_bytes) <= 6


@pytest.mark.parametrize('most_bytes', [1, 300_000, 10**9])
def test_memory_is_bounded_and_too_little_of_it_does_no_harm(bucket, most_bytes, monkeypatch):
    there = bucket('plain', n=4)
    opener = there.opener()
    opener.coming = OnTheWay(most_bytes)
    used, begin = [], OnTheWay._begin

    def noted(self, wanted):
        begin(self, wanted)
        used.append(self.used)

    monkeypatch.setattr(OnTheWay, '_begin', noted)
    same(there.cut(opener), there.from_files())
    largest = max(wanted.far.memory for wanted in opener.coming._wanted)
    assert len(used) == 4 and max(used) <= max(most_bytes, 2 * largest)
    opener.coming.stop()


def test_an_image_that_is_asked_for_again_is_not_fetched_again(bucket):
    there = bucket('plain')
    opener = there.opener()
    first = there.cut(opener)
    n = len(there.asked)
    for some in (there.samples.iloc[:3], there.samples.iloc[3:6]):
        there.cut(opener, expected=False, samples=some)
    assert len(there.asked) == n and len(first.kept) == 12
    other = there.samples.iloc[:1].assign(dec=there.samples['dec'][0] + 300 / 3600)
    moved = there.cut(opener, expected=False, samples=other)  # Rows that did not come
    assert len(there.asked) > n and moved.kept.all() and np.isfinite(moved.data).all()
    assert (moved.data[0, 0] != 0).all()


# What may go wrong -----------------------------------------------------------------------------


def test_an_object_that_was_replaced_is_noticed(bucket):
    there = bucket('rice')
    opener = there.opener()
    there.s3.client().put_object(Bucket='test', Key=there.key(0), Body=raw('rice', 9))
    got = there.cut(opener)
    assert set(got.ledger['reason'][got.ledger['uri'] == there.uris[0]]) == {'changed'}
    assert got.kept.tolist()[6:] == [True] * 4 + [False] * 2


def test_an_object_that_is_gone_costs_its_own_samples(bucket):
    there = bucket('plain')
    opener = there.opener()
    there.s3.client().delete_object(Bucket='test', Key=there.key(0))
    got = there.cut(opener)
    assert set(got.ledger['reason'][got.ledger['uri'] == there.uris[0]]) == {'missing_file'}
    assert got.kept.sum() == 4


@pytest.mark.parametrize('kind', ['plain', 'rice with planes'])
def test_a_service_that_sends_no_parts_is_read_whole(bucket, kind):
    there = bucket(kind)
    opener = there.opener()

    def without(params, **kw):
        params['headers'].pop('Range', None)

    there.client.meta.events.register('before-call.s3.GetObject', without)
    same(there.cut(opener), there.from_files())


@pytest.mark.parametrize('status', [412, 416])
def test_a_service_that_refuses_a_part_is_read_whole(bucket, status):
    there = bucket('plain')
    opener = there.opener()

    def refuse(request, **kw):
        return answer(status, 'No') if request.headers.get('If-Match') else None

    before(SimpleNamespace(client=there.client), 'GetObject', refuse)
    left = 40

    def asked_enough(params, **kw):  # The whole file is asked for with its mark as well
        nonlocal left
        left -= 1
        if left < 0 or params['headers'].get('Range', '').startswith('bytes=0-4194303'):
            params['headers'].pop('If-Match', None)

    there.client.meta.events.register('before-call.s3.GetObject', asked_enough)
    same(there.cut(opener), there.from_files())


def test_a_busy_service_is_asked_again(bucket, monkeypatch):
    monkeypatch.setattr('botocore.endpoint.time', SimpleNamespace(sleep=lambda s: None))
    there = bucket('plain')
    opener = there.opener()
    refused = [1] * 3

    def slow_down(**kw):
        return refused and (refused.pop(), answer(503, 'SlowDown'))[1] or None

    before(SimpleNamespace(client=there.client), 'GetObject', slow_down)
    same(there.cut(opener), there.from_files())
    assert not refused
    refused += [1] * 999
    again = there.opener('third')
    before(SimpleNamespace(client=there.client), 'GetObject', slow_down)
    with pytest.raises(ImageStoreUnreachable, match='SlowDown'):
        there.cut(again)
    lost = there.opener('fourth', unreachable='ledger')
    before(SimpleNamespace(client=there.client), 'GetObject', slow_down)
    assert set(there.cut(lost).ledger['reason']) == {'unreachable'}


def test_a_short_body_is_read_again(bucket, monkeypatch):
    from botocore.response import StreamingBody

    without_pauses(monkeypatch)
    there = bucket('plain')
    real, cut_off = StreamingBody.readinto, [1] * 3

    def readinto(self, out):
        if cut_off:
            return cut_off.pop() - 1
        return real(self, out)

    opener = there.opener()
    monkeypatch.setattr(StreamingBody, 'readinto', readinto)
    same(there.cut(opener), there.from_files())
    assert not cut_off


@pytest.mark.parametrize('kind', ['plain', 'rice'])
def test_a_bit_that_flips_on_the_way_is_found(bucket, monkeypatch, kind):
    there = bucket(kind)
    opener = there.opener()
    real, flips = S3Store.read_into, [1]

    def read_into(self, key, start, out, etag=None):
        real(self, key, start, out, etag)
        if flips:
            flips.pop()
            out[len(out) // 2] ^= 1

    monkeypatch.setattr(S3Store, 'read_into', read_into)
    same(there.cut(opener), there.from_files())
    assert (
        not flips and read_whole(there) is False and any('0-4194303' in a[1] for a in there.asked)
    )


def test_a_cached_file_is_used(bucket):
    there = bucket('plain')
    opener = there.opener('first')  # Where it was taken in
    same(there.cut(opener), there.from_files())
    assert {name for name, *_ in there.asked} <= {'HeadObject'}


# A build ---------------------------------------------------------------------------------------


def build(there, home, name):
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0.0, negatives={'rejected': 9.0}, quality_score_threshold=None
    )
    plan = ad.TrainingDataCollector(there.open(home)).plan(params, progress=False)
    return plan.build(name, patch_size=SIDE, progress=False, probe=False)


def die_in_the_middle(there, home):
    "Vanish at the third part of an image"
    real, left = S3Store.read_into, [3]

    def read_into(self, *args):
        left[0] -= 1
        if left[0] <= 0:
            os._exit(9)
        real(self, *args)

    S3Store.read_into = read_into
    build(there, home, 'parts')


@pytest.mark.parametrize('kind', ['plain', 'rice'])
def test_a_build_that_is_killed_leaves_nothing_and_then_gives_the_same(bucket, kind):
    there = bucket(kind, n=3)
    rng = np.random.default_rng(5)
    places = pd.DataFrame(
        dict(
            ra=20.0 + np.arange(30) % 3 + rng.uniform(-0.03, 0.03, 30),
            dec=3 + rng.uniform(-0.06, 0.06, 30),
            label='star',
            good=np.arange(30) < 15,
        )
    )
    there.archive.add_catalogue(places, 'truth', class_name='label', is_real='good')
    process = FORK.Process(target=die_in_the_middle, args=(there, 'second'))
    process.start()
    process.join()
    assert process.exitcode == 9
    cached = [path for path in there.tmp_path.glob('second/cache/**/*') if path.is_file()]
    assert not [path for path in cached if not path.name.startswith('.lock')]
    assert not list(there.tmp_path.glob('second/datasets/parts/v*'))
    parts = build(there, 'second', 'parts')
    whole = build(there, 'first', 'whole')  # Where the files are cached since they were taken in
    assert len(parts) > 20 and parts.content_hash == whole.content_hash
    assert not [path for path in there.tmp_path.glob('second/cache/*/*') if path.suffix == '.fits']
