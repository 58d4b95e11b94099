"Addresses of versions and archives as people spell them: right, or refused in words, and nothing is made of them"

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import astrid_data as ad
from astrid_data.core import AstridError
from astrid_data.datasets.dataset import write_dataset

LONG = ('x' * 5000, '/' + 'x' * 5000, 'a/' * 2500)
NO_PLACE = (
    *LONG,
    *('file:/no/such', 'file://host/x', 'file:///a%00b', '/a\0b', '\ud800/x', '~no-such-user/x'),
    *('C:\\data\\x', 'C:/data/x', '\\\\host\\share', 's3:/b/x', 'gs://b/x', 'https://a.org/x'),
    *('s3://', 's3:///x', 's3://b ucket/x', '  ', '/etc/passwd', '/dev/null'),
)


@pytest.fixture
def public(tmp_path, monkeypatch):
    "A store whose name has a blank, with one version, in the home of a user"
    folder = tmp_path / 'pub lic'
    table = pd.DataFrame(dict(sample_key=list('abcd'), label=[0, 1] * 2, split='train'))
    pixels = np.zeros((4, 1, 8, 8), 'f4')
    write_dataset(folder / 'datasets/four/v1', table.assign(origin='survey'), pixels, name='four')
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


def spelt(folder):
    "One place, as people write it"
    yield from (str(folder), f'{folder}/', f'{folder}//', '~/pub lic', './pub lic', f' {folder} ')
    yield from (f'file:{folder}', f'file://{folder}', f'file://localhost{folder}/')
    yield from (folder.as_uri(), f'{folder.as_uri()}/', f'FILE://{folder}')


def test_every_spelling_of_a_place_opens_its_version(public):
    own = public / 'datasets/four/v1'
    opened = [ad.open_dataset(text) for text in (*spelt(public), *spelt(own), own)]
    assert {one.address for one in opened} == {'four@v1'} and len(opened) > 20


def refusal(opens, text):
    "What is said of an address; anything but our own error fails"
    with pytest.raises(AstridError) as said:
        opens(text)
    words = str(said.value)
    assert len(words) < 500 and words.encode() and '\0' not in words, words
    return words


@pytest.mark.parametrize('text', NO_PLACE, ids=lambda text: ascii(text)[:20])
def test_what_is_no_place_is_refused_and_nothing_is_made(public, text):
    before = {path for path in public.parent.rglob('*') if not path.name.startswith('.')}
    refusal(ad.open_dataset, text)
    if not text.startswith('file:/no'):  # An archive begins in a folder that is not there
        refusal(ad.open_archive, text)
    after = {path for path in public.parent.rglob('*') if not path.name.startswith('.')}
    assert after == before


def test_a_percent_sign_in_a_path_is_one(public):
    assert 'there is no folder' in refusal(ad.open_dataset, str(public).replace(' ', '%20'))


def test_an_archive_opens_by_path_and_by_address(tmp_path):
    folder = tmp_path / 'a b'
    for text in (folder, str(folder), folder.as_uri(), f'file:{folder}', f'{folder}/'):
        assert Path(ad.open_archive(text).home) == folder


@pytest.mark.parametrize('name', ['run%20a', 'run?a', 'run#b', 'run a'])
def test_a_folder_of_any_name_holds_its_own_registry(tmp_path, name):
    archive = ad.open_archive(tmp_path / name)
    assert (archive.home / 'registry.db').is_file()
    assert archive.home.name == name and [*tmp_path.iterdir()] == [archive.home]


def test_a_version_is_no_archive(public):
    own = public / 'datasets/four/v1'
    before = sorted(own.iterdir())
    assert 'is a version' in refusal(ad.open_archive, str(own))
    assert sorted(own.iterdir()) == before


@pytest.mark.parametrize('spelling', ['S3://b/p', 's3://b/p/', 's3://b/p'])
def test_a_bucket_is_one_however_it_is_spelt(spelling, monkeypatch):
    from astrid_data.datasets import places

    asked = []
    monkeypatch.setattr(places, 'open_store', lambda address: asked.append(address) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ad.open_dataset(spelling)
    assert asked == ['s3://b']  # `p` may be a version itself
