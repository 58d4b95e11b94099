"Files of ONNX under their seal, pieces of files under their limit, and doors that take nothing silently"

import io
import json
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta

import fuzz_models
import numpy as np
import pytest

import astrid_data as ad
from astrid_data.core import BadImage, BadInput, Limits, load_settings
from astrid_data.images import sanity
from astrid_data.ingest import avro, stamp_arrays
from astrid_data.keys import create_api_key


@pytest.fixture(scope='module')
def whole():
    "The bytes of a file of ONNX"
    found = fuzz_models._model()[2]
    if found is None:
        pytest.skip('files of ONNX need onnxruntime')
    return found


@pytest.fixture(scope='module')
def read(whole, tmp_path_factory):
    "A function that reads bytes as a file of ONNX"
    path = tmp_path_factory.mktemp('onnx') / 'a.onnx'

    def read_bytes(content):
        path.write_bytes(content)
        return ad.load_classifier(path)

    return read_bytes


# ---------------------------------------------------------------- seals


def test_every_part_of_a_file_of_onnx_is_sealed(whole, read):
    "A byte at 300 places, one at a time: refused in words wherever it lies, the seal itself included"
    places = np.linspace(0, len(whole) - 1, 300).astype(int)
    seal = read(whole).seal.encode()
    places = [*places, whole.index(seal), whole.index(b'astrid_data_seal')]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(BadInput, match=r'a\.onnx (was changed after|has no seal)'):
            read(bytes(changed))


def test_weights_that_were_exchanged_are_refused(whole, read):
    "By whoever edits a file with the tools of ONNX"
    import onnx

    graph = onnx.load_from_string(whole)
    weights = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    with pytest.raises(BadInput, match='was changed after it was written'):
        read(graph.SerializeToString())


def test_facts_that_were_exchanged_are_refused_and_a_lost_seal_too(whole, read):
    import onnx

    graph = onnx.load_from_string(whole)
    facts = next(one.value for one in graph.metadata_props if one.key == 'astrid_data')
    for name in ('version', 'threshold'):
        other = facts.replace(f'"{name}":', f'"{name}": ', 1)
        with pytest.raises(BadInput, match='was changed after it was written'):
            read(fuzz_models._with_facts(whole, other))
    onnx.helper.set_model_props(graph, dict(astrid_data=facts))
    with pytest.raises(BadInput, match='has no seal'):
        read(graph.SerializeToString())


def test_the_same_classifier_gives_the_same_file_and_it_tells_no_folder(whole, tmp_path):
    again = fuzz_models._model()[0].to_onnx(tmp_path / 'b.onnx').read_bytes()
    assert again == whole
    assert b'onnx_files.py' not in whole and b'site-packages' not in whole


# ---------------------------------------------------------------- pieces


@pytest.fixture
def small_pieces(monkeypatch):
    "A limit of a thousand bytes for one piece"
    limits = Limits(piece_bytes=1000)
    for module in (sanity, avro, stamp_arrays):
        monkeypatch.setattr(module, 'current_limits', lambda: limits)


def test_the_limit_of_a_piece_is_set_by_its_variable():
    assert load_settings({'ASTRID_MAX_PIECE_BYTES': '5 MB'}, None).limits.piece_bytes == 5 * 10**6


@pytest.fixture
def taken(tmp_path):
    "A function that takes a file of stamps in and gives the rows of its ledger"
    archive = ad.open_archive(tmp_path / 'home')

    def take(path):
        report = archive.add_stamps([path], 'odd', show=False)
        assert not report.added
        return ' '.join(report.ledger['reason'] + ' ' + report.ledger['detail'])

    return take


IMAGES = np.random.default_rng(0).normal(size=(4, 21, 21)).astype('f4')


def test_a_large_chunk_of_hdf5_is_refused(small_pieces, taken, tmp_path):
    h5py = pytest.importorskip('h5py')
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file.create_dataset('images', data=IMAGES, chunks=IMAGES.shape, compression='gzip')
    assert 'a chunk: one piece of it has 7,056 bytes, more than 1,000' in taken(tmp_path / 'a.h5')


def test_a_large_chunk_of_zarr_is_refused(small_pieces, taken, tmp_path):
    zarr = pytest.importorskip('zarr')
    group = zarr.open_group(tmp_path / 'a.zarr', mode='w')
    group.create_array('images', data=IMAGES, chunks=IMAGES.shape)
    said = taken(tmp_path / 'a.zarr')
    assert 'a chunk: one piece of it has 7,056 bytes, more than 1,000' in said


def test_a_large_column_of_a_row_group_is_refused(small_pieces, taken, tmp_path):
    pa = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    table = pa.table({'image': [row.ravel().tolist() for row in IMAGES]})
    parquet.write_table(table, tmp_path / 'a.parquet')
    assert 'in row group 0: one piece of it has' in taken(tmp_path / 'a.parquet')
    archive = ad.open_archive(tmp_path / 'home')
    many = pa.table(dict(ra=np.ones(1000), dec=np.ones(1000)))
    parquet.write_table(many, tmp_path / 'b.parquet')
    with pytest.raises(BadInput, match='ra in row group 0: one piece of it has'):
        archive.add_catalogue(tmp_path / 'b.parquet', 'c')


def test_a_large_block_of_avro_is_refused(small_pieces):
    fastavro = pytest.importorskip('fastavro')
    schema = dict(type='record', name='a', fields=[dict(name='x', type='bytes')])
    for codec in ('null', 'deflate'):
        file = io.BytesIO()
        fastavro.writer(file, schema, [dict(x=bytes(2000))], codec=codec)
        file.seek(0)
        with pytest.raises(BadImage, match='a block: one piece of it has'):
            list(avro.read_avro(file))


def test_snappy_says_how_much_it_becomes():
    assert avro._snappy_bytes(b'\xac\x02') == 300 and avro._snappy_bytes(b'\x05hello') == 5


def test_a_member_of_npz_that_says_more_than_it_has_is_refused(taken, tmp_path):
    "Before numpy makes room for what it says"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, dict(descr='<f4', fortran_order=False, shape=(10**9, 1, 1))
    )
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as packed:
        packed.writestr('images.npy', head.getvalue() + bytes(100))
    assert 'images.npy says 4,000,000,000 bytes and has' in taken(tmp_path / 'a.npz')


def test_a_heap_of_hdf5_without_an_end_is_refused(taken, tmp_path):
    h5py = pytest.importorskip('h5py')
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file.create_dataset('images', data=IMAGES)
        file.create_dataset('id', data=['a', 'b', 'c', 'd'], dtype=h5py.string_dtype())
    content = bytearray(path.read_bytes())
    start = content.index(stamp_arrays._HEAP)
    at = start + 16
    for number, n_bytes in stamp_arrays._walk_heap(io.BytesIO(content), start):
        if number == 0:
            content[at : at + 16] = bytes(16)
            break
        at += 16 + -(-n_bytes // 8) * 8
    path.write_bytes(content)
    assert f'its heap at {start} has no end' in taken(path)


# ---------------------------------------------------------------- doors


@pytest.mark.parametrize('odd', [b'x', 5, True, 1.5, [], 'file:x', ''])
def test_what_is_no_place_of_an_archive_is_refused(odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match='give|write'):
        ad.open_archive(odd)
    assert not any(tmp_path.iterdir())


def test_an_archive_begins_in_no_other_one(tmp_path):
    ad.open_archive(tmp_path / 'sky')
    for inner in ('datasets', 'datasets/first', 'store/x'):
        with pytest.raises(BadInput, match='lies among the .* of an archive: open that one'):
            ad.open_archive(tmp_path / 'sky' / inner)
    assert not (tmp_path / 'sky' / 'datasets' / 'first').exists()
    ad.open_archive(tmp_path / 'sky' / 'mine')  # A folder that is not the archive's own


def test_nothing_behind_an_at_is_no_version(tmp_path):
    archive = ad.open_archive(tmp_path / 'sky')
    with pytest.raises(BadInput, match="'s@' has no version behind its @"):
        ad.open_dataset(archive, 's@')


def test_a_key_that_has_ended_is_not_made(tmp_path):
    archive = ad.open_archive(tmp_path / 'sky')
    over = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(BadInput, match='which is over'):
        create_api_key(archive, 'late', ['read:data'], expires_at=over)


def _may_be_several(parameter):
    schema = parameter['schema']
    return 'array' in [way.get('type') for way in (schema, *schema.get('anyOf', ()))]


def test_no_endpoint_takes_a_parameter_twice(tmp_path):
    "Of every endpoint with parameters in its address, each one that is no list"
    testclient = pytest.importorskip('fastapi.testclient')
    archive = ad.open_archive(tmp_path / 'sky')
    key = {'X-API-Key': create_api_key(archive, 'us', list(ad.keys.PERMISSIONS))}
    app, asked = ad.create_app(archive), 0
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        for path, ways in app.openapi()['paths'].items():
            for way, facts in ways.items():
                asked_once = [p for p in facts.get('parameters', ()) if not _may_be_several(p)]
                names = [p['name'] for p in asked_once if p['in'] == 'query']
                place = path.replace('{', '').replace('}', '')
                for name in names:
                    answer = client.request(way, f'{place}?{name}=1&{name}=2', headers=key)
                    said = answer.json()['error']['message']
                    assert answer.status_code == 422, (way, path, name, said)
                    assert f'{name} is given more than once' in said
                    asked += 1
    assert asked > 40


# ---------------------------------------------------------------- what remains


def test_a_file_that_was_sealed_anew_is_not_the_one_an_archive_knows(whole, read, tmp_path):
    from astrid_data.inference.archive_scores import _add_model
    from astrid_data.inference.onnx_files import seal_onnx

    facts = read(whole).facts | dict(rate=0.5)
    changed = fuzz_models._with_facts(whole, json.dumps(facts))
    first, other = read(whole), read(seal_onnx(changed))
    assert first.version == other.version and first.seal != other.seal
    archive = ad.open_archive(tmp_path / 'home')
    for _ in range(2):
        with archive.session() as session:
            _add_model(session, first)
    with pytest.raises(BadInput, match='score with that file'), archive.session() as session:
        _add_model(session, other)


CUT = """
import os, sys
import numpy as np
from astrid_data.datasets.shards import map_file, refuse_changed
mapped = refuse_changed(map_file(sys.argv[1]))
os.truncate(sys.argv[1], 200)
if sys.argv[2] == 'look':
    try:
        refuse_changed(mapped)
    except Exception as error:
        sys.exit(f'{type(error).__name__}: {error}')
mapped.sum()
"""


@pytest.mark.parametrize('when', ['look', 'between'])
def test_a_shard_that_is_cut_between_look_and_copy_ends_its_process(when, tmp_path):
    "The one fault of files that is not said in words: no file of a version is ever cut by this library"
    np.save(tmp_path / 'a.npy', np.ones((2000, 100), 'f4'))
    words = [sys.executable, '-c', CUT, str(tmp_path / 'a.npy'), when]
    ended = subprocess.run(words, capture_output=True, text=True)
    if when == 'look':
        assert ended.returncode == 1 and ended.stderr.startswith('Conflict: ')
    else:
        assert ended.returncode == -signal.SIGBUS
