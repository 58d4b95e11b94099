"Versions at an address of others: what a second publish may not replace, and what it says"

import shutil

import numpy as np
import pandas as pd
import pytest

import astrid_data
from astrid_data.core import BadInput, Conflict, NotFound
from astrid_data.datasets.catalog import open_dataset
from astrid_data.datasets.dataset import Dataset, write_dataset
from astrid_data.datasets.published import publish_copy

KEY, OTHER = 'a secret of sixteen letters', 'another secret, of others'


@pytest.fixture
def made(tmp_path):
    "Writes the same small version of the sky into a folder"
    pixels = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype('f4')
    table = pd.DataFrame(dict(sample_key=list('abcd'), label=[0, 1] * 2, split='train'))

    def write(folder, more=0):
        rows = table.assign(origin='survey')
        return write_dataset(tmp_path / folder, rows, pixels + more, name='four')

    return write


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_publish_that_is_refused_changes_nothing_here(made, tmp_path):
    publish_copy(made('first'), tmp_path / 'public')
    second = made('second', more=1)
    before = bytes_in(second.folder)
    with pytest.raises(Conflict, match='another four@'):
        publish_copy(second, tmp_path / 'public', KEY)
    assert bytes_in(second.folder) == before
    with pytest.raises(BadInput, match='at least 16'):
        publish_copy(second, tmp_path / 'elsewhere', 'short')
    assert not (tmp_path / 'elsewhere').exists()


def test_a_signature_is_not_replaced_there(made, tmp_path):
    first = made('first')
    twin = Dataset(shutil.copytree(first.folder, tmp_path / 'twin'))
    copy = publish_copy(first, tmp_path / 'public', KEY)
    before = bytes_in(twin.folder)
    with pytest.raises(Conflict, match='is of another key'):
        publish_copy(twin, tmp_path / 'public', OTHER)
    with pytest.raises(Conflict, match='signature.json .* is no part of it'):
        publish_copy(twin, tmp_path / 'public')
    assert bytes_in(twin.folder) == before
    Dataset(tmp_path / 'public' / copy.key).verify(KEY)
    assert publish_copy(twin, tmp_path / 'public', KEY) == copy


def test_a_signature_is_not_replaced_here(made, tmp_path):
    first = made('first')
    first.sign(KEY)
    with pytest.raises(Conflict, match='not signed with this key'):
        publish_copy(first, tmp_path / 'public', OTHER)
    first.verify(KEY)
    assert not (tmp_path / 'public').exists()


@pytest.mark.parametrize('address', ['four', 'four@latest', 'four@1', 'four@v1'])
def test_a_copy_is_opened_by_each_spelling(made, tmp_path, address):
    publish_copy(made('first'), tmp_path / 'public')
    assert open_dataset(tmp_path / 'public', address).address == 'four@v1'
    with pytest.raises(NotFound, match='which version'):
        open_dataset(tmp_path / 'public', 'four@01')


def test_a_signature_that_goes_along_is_said(made, tmp_path):
    first = made('first')
    first.sign(KEY)
    copy = publish_copy(first, tmp_path / 'public')
    assert copy.signed and 'signed' in str(copy)
    Dataset(tmp_path / 'public' / copy.key).verify(KEY)


def test_what_is_no_part_of_a_version_is_not_published_with_it(made, tmp_path):
    first = made('first')
    copy = publish_copy(first, tmp_path / 'public')
    there = tmp_path / 'public' / copy.key
    (there / '.DS_Store').write_text('of a file browser')
    assert publish_copy(first, tmp_path / 'public') == copy
    (there / 'patches-99.npy').write_text('of somebody else')
    with pytest.raises(Conflict, match='patches-99.npy .* is no part of it'):
        publish_copy(first, tmp_path / 'public')


def test_a_copy_that_lost_bytes_is_sent_again(made, tmp_path):
    first = made('first')
    copy = publish_copy(first, tmp_path / 'public')
    there = tmp_path / 'public' / copy.key
    (there / 'seal.json').write_text('{}')
    next(there.glob('patches-*.npy')).unlink()
    assert publish_copy(first, tmp_path / 'public') == copy


@pytest.mark.parametrize('address', ['', ' ', None, 5, object()])
def test_an_address_that_is_none_is_refused(made, address):
    "It went to the store of the settings"
    with pytest.raises(BadInput, match='give a folder'):
        publish_copy(made('first'), address)


@pytest.mark.parametrize('inside', ['', 'copies'])
def test_a_version_is_not_published_into_itself(made, inside):
    version = made('first')
    before = bytes_in(version.folder)
    with pytest.raises(BadInput, match='itself'):
        publish_copy(version, version.folder / inside)
    assert bytes_in(version.folder) == before


def test_the_line_that_is_printed_opens_the_copy(made, tmp_path):
    first = made('first')
    copy = publish_copy(first, tmp_path / 'public')
    assert str(copy).endswith(copy.line) and str(tmp_path / 'public') in copy.line
    opened = eval(copy.line, dict(astrid_data=astrid_data))
    assert (opened.content_hash, opened.archive) == (first.content_hash, None)
    assert open_dataset(tmp_path / 'public').address == first.address


def test_a_name_in_the_place_of_an_archive_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match=r"open_dataset\(archive, 'first'\)"):
        open_dataset('first')
    assert not any(tmp_path.iterdir())


def test_what_nobody_sealed_stays_here(made, tmp_path):
    first = made('first')
    first.open_test('to look', who='ann')
    (first.folder / 'notes.txt').write_text('mine')
    copy = publish_copy(first, tmp_path / 'public')
    there = {path.name for path in (tmp_path / 'public' / copy.key).iterdir()}
    assert copy.stayed == ('notes.txt', 'openings.jsonl') and not there & set(copy.stayed)
    assert 'notes.txt, openings.jsonl' in str(copy)


def test_readers_who_look_at_the_test_do_not_stop_the_publisher(made, tmp_path):
    first = made('first')
    copy = publish_copy(first, tmp_path / 'public')
    open_dataset(copy.address).open_test('to look', who='bob')
    assert publish_copy(first, tmp_path / 'public') == copy
    assert list(open_dataset(copy.address).test_openings['who']) == ['bob']


@pytest.fixture
def bucket(s3, tmp_path, monkeypatch):
    "An address in a bucket to which the environment leads, as it does for a reader"
    environment = dict(AWS_ENDPOINT_URL=s3.endpoint, AWS_ACCESS_KEY_ID=s3.key)
    environment |= dict(AWS_SECRET_ACCESS_KEY=s3.secret, ASTRID_DATA_HOME=str(tmp_path / 'home'))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f's3://test/{tmp_path.name}'


def test_a_copy_in_a_bucket_opens_by_its_address(made, bucket):
    first = made('first')
    copy = publish_copy(first, bucket)
    assert copy.address == f'{bucket}/{copy.key}'
    for place, name in [(copy.address, None), (bucket, None), (bucket, 'four@v1')]:
        assert open_dataset(place, name).content_hash == first.content_hash
    streamed = open_dataset(copy.address, stream=True)
    assert np.array_equal(streamed.patches([2, 3]), first.patches([2, 3]))
    with pytest.raises(NotFound, match='four@v1'):
        open_dataset(bucket, 'five')


def test_a_streamed_version_is_published_whole(made, bucket, tmp_path):
    first = made('first')
    streamed = open_dataset(publish_copy(first, bucket).address, stream=True)
    copy = publish_copy(streamed, tmp_path / 'public')
    assert open_dataset(copy.address).verify().content_hash == first.content_hash
