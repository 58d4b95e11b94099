"JSON that others wrote or changed, at every door where it comes in: our errors, in words."

import json

import numpy as np
import pytest

import astrid_data as ad
from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.concurrency import Journal
from astrid_data.core import BadInput, Conflict, parse_json
from astrid_data.datasets.exports import read_npz
from astrid_data.datasets.seal import check_signature, read_manifest, sign_folder
from astrid_data.ingest.tables import read_table
from astrid_data.quality.report import DataQualityReport
from astrid_data.simulate.synthetic import synthetic_archive
from astrid_data.splits.audit import LeakageAudit

BROKEN = {
    'NaN': '{"snr": NaN}',
    'infinite': '{"snr": -Infinity}',
    'beyond a float': '{"snr": 1e999}',
    'a name twice': '{"snr": 1, "snr": 2}',
    'deep lists': '[' * 100_000,
    'deep dicts': '{"a":' * 100_000,
    'deep and closed': '{"a": ' + '[' * 900 + ']' * 900 + '}',
    'half a character': '{"sn_name": "\\ud800"}',
    'NUL': '{"sn_name": "\\u0000"}',
    'cut': '{"snr": ',
    'empty': '',
    'digits': '{"snr": ' + '9' * 5000 + '}',
    'a number': '5',
    'a list': '[1]',
    'null': 'null',
    'text': '"snr"',
}
every = pytest.mark.parametrize('text', BROKEN.values(), ids=BROKEN)


@pytest.mark.parametrize(
    'reader',
    [TrainingDataCollectionParams.from_json, LeakageAudit.from_json, DataQualityReport.from_json],
    ids=lambda reader: reader.__self__.__name__,
)
@every
def test_texts_are_refused_in_words(reader, text):
    with pytest.raises(BadInput):
        reader(text)


@every
def test_metadata_of_stamps_is_refused_in_words(text, tmp_path):
    path = tmp_path / 'some.npz'
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 1, 63, 63)).astype('f4')
    np.savez(path, images=images, labels=[0, 1], metadata=np.array(['{}', text]))
    with pytest.raises(BadInput, match=r'some.npz: the metadata of image 1 (is not|holds no)'):
        read_npz(path, tmp_path / 'made', origin='survey')
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('name', sorted(set(BROKEN) - {'a number', 'a list', 'null', 'text'}))
def test_a_journal_that_was_changed_is_refused_in_words(name, tmp_path):
    path = tmp_path / 'journal.jsonl'
    path.write_text(f'{BROKEN[name]}\n')
    with pytest.raises(BadInput, match='journal.jsonl is not JSON'):
        Journal(path)


@pytest.fixture(scope='module')
def version(tmp_path_factory):
    "The folder of a small version, and its archive"
    archive = synthetic_archive(tmp_path_factory.mktemp('json'), n_observations=2, n_sources=10)
    plan = ad.TrainingDataCollector(archive).plan(validation_status='any', progress=False)
    return plan.build('small', patch_size=16, probe=False, progress=False)


@pytest.mark.parametrize('name', ['manifest.json', 'seal.json', 'signature.json'])
@every
def test_files_of_a_version_are_refused_in_words(version, name, text):
    key = 'a-key-of-enough-letters'
    sign_folder(version.folder, key)
    path = version.folder / name
    before = path.read_bytes()
    path.chmod(0o644)
    try:
        path.write_text(text)
        with pytest.raises(Conflict):
            check_signature(version.folder, key)
            read_manifest(path)
    finally:
        path.write_bytes(before)


def test_a_name_that_stands_twice_is_no_manifest(version, tmp_path):
    text = (version.folder / 'manifest.json').read_text()
    twice = text.replace('{', '{"name": "another",', 1)
    path = tmp_path / 'manifest.json'
    path.write_text(twice)
    assert json.loads(twice)['name'] == 'small'  # What Python's reader would have taken
    with pytest.raises(Conflict, match='not the manifest of a version'):
        read_manifest(path)


def test_tables_that_python_wrote_may_have_nan(tmp_path):
    path = tmp_path / 'stars.json'
    path.write_text('[{"ra": 1.5, "mag": NaN}, {"ra": 2.5, "mag": 20.1}]')
    assert read_table(path)['mag'].isna().tolist() == [True, False]
    path.write_text('{"ra": 1.5, "mag": 1}\n{"ra": 2.5, "mag": 1, "mag": 2}\n')
    assert read_table(path)['ra'].isna().tolist() == [False, True]


def test_what_is_good_is_read_as_python_reads_it():
    rng = np.random.default_rng(3)
    for _ in range(200):
        value = {
            f'k{i}': [float(x), int(x * 1e9), None, True, 'é"\\[{']
            for i, x in enumerate(rng.normal(size=rng.integers(5)))
        }
        for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
            assert parse_json(text, 'x') == value == parse_json(text.encode('utf-16'), 'x')
