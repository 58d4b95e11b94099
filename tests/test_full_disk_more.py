"A real small disk that fills up under what is written beside data sets: reports, models, answers"

import sys

BEGIN = """
import io, shutil, sys, tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
import astrid_data as ad
from astrid_data.core import Conflict, DiskFull
from astrid_data.simulate.synthetic import synthetic_archive

disk = Path(sys.argv[1])
ballast, home = disk / 'ballast', disk / 'home'
archive = synthetic_archive(home, 8)
version = ad.TrainingDataCollector(archive).plan(progress=False).build(
    'sky', patch_size=32, progress=False, probe=False
)
(disk / 'tmp').mkdir()
tempfile.tempdir = str(disk / 'tmp')

def files():
    hidden = ('.lock', '.tmp-last-sweep', 'registry.db', 'ballast')
    return {p: p.read_bytes() for p in disk.rglob('*') if p.is_file() and not p.name.startswith(hidden)}

def fill(left):
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - left))

def full(act, left=0):
    "What comes of a call on a full disk, after a look that nothing is half there; then it is done"
    before = files()
    fill(left)
    try:
        said = act()
    except DiskFull as problem:
        said = str(problem)
    assert 'make room' in str(said), said
    assert files() == before, [p for p in files() if files()[p] != before.get(p)]
    ballast.unlink()
    return act()
"""

WRITTEN = """
from astrid_data.cli import main
from astrid_data.verbs import write_scores
from astrid_data.widgets.gallery import GalleryPanel
from astrid_data.widgets.verdicts import read_verdicts

def command(*words):
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = main([*map(str, words), '--home', str(home)])
    return code if code in (0, 4) else said.getvalue()

assert full(lambda: command('watch', 'sky', '--prometheus', disk / 'sky.prom')) == 4
assert (disk / 'sky.prom').read_text().endswith('\\n')
assert full(lambda: command('report', 'sky', '--to', disk / 'sky.html')) == 0
id = version.samples['detection_id'].dropna().iloc[0]
assert full(lambda: command('label', id, 'real', '--by', 'ann')) == 0
table = version.samples[['sample_key', 'label']].assign(reason='')
for left in (0, 20_000):
    assert full(lambda: write_scores([table] * 40, disk / 'scores.csv'), left) == (40 * len(table), {})
    (disk / 'scores.csv').unlink()

panel = GalleryPanel(ad.browse(version, labeller='ben'))
panel.hear('r')
row = panel.written[0][0]
full(panel.undo)  # What could not be taken back can be taken back after
said = read_verdicts(version, [row]).query('labeller == "ben"')
assert panel.written == [] and said['verdict'].iloc[-1] == 'unsure', said

copy = ad.Dataset(shutil.copytree(version.folder, disk / 'copy'))
fill(0)
try:
    copy.open_test('a look')
    raise SystemExit('a look was not noted')
except Conflict as problem:
    assert 'No space left' in str(problem), problem
ballast.unlink()
assert not len(copy.test_openings)
(copy.folder / 'openings.jsonl').write_text('{"created_at":"2026-')  # Its writer was killed
copy.open_test('a look')
assert copy.test_openings['purpose'].tolist() == ['a look']
"""

MODELS = """
from copy import deepcopy
import torch
from astrid_data.inference.classifier import Classifier, classifier_of
from astrid_data.tracking.saved_model import save_model

train, val, _ = ad.RealDataLoader(version).loaders(batch_size=16, allow_leaks=True)
older = classifier_of(ad.SmallCNN(1, width=8), train, val)
newer = Classifier(deepcopy(older.model), older.facts, older.reference)
with torch.no_grad():
    next(newer.model.parameters()).add_(1)
older.save(disk / 'model')
for left in (0, 20_000):
    full(lambda: newer.save(disk / 'model'), left)
    assert ad.load_classifier(disk / 'model').version == newer.version
    older.save(disk / 'model')
full(lambda: newer.save(disk / 'first'))
for left in (0, 40_000):
    full(lambda: save_model(older.model, train, disk / f'tracked-{left}'), left)

with ad.track(version, archive=archive, monitor=False, run_name='full') as run:
    fill(0)
    import warnings
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert run.log_model(older.model, train) is None
    assert any('is not kept' in str(one.message) for one in said), [str(one.message) for one in said]
    ballast.unlink()
"""

SERVED = """
from fastapi.testclient import TestClient

key = ad.api.create_api_key(archive, 'us', ['read:data', 'manage:operations', 'manage:keys'])
with TestClient(ad.create_app(archive), raise_server_exceptions=False) as client:
    client.headers['X-API-Key'] = key

    def answer(method, path, **how):
        came = client.request(method, path, **how)
        if came.status_code == 507:
            assert came.json()['error']['error_code'] == 'disk_full'
            return came.text
        assert came.status_code < 300, came.text
        return came

    export = f'/training/datasets/{version.id}/export?kind='
    for kind in ('parquet', 'webdataset', 'npz'):
        for left in (0, 20_000, 200_000):
            full(lambda: answer('GET', export + kind), left)
    full(lambda: answer('GET', export + 'parquet&purpose=paper'))
    assert version.test_openings['purpose'].str.startswith('paper').all()
    full(lambda: answer('POST', '/keys', json=dict(name='x', permissions=['read:data'])))
    asked = dict(name='more', survey_ids=['synthetic-skyview'], confidence_threshold=0)
    full(lambda: answer('POST', '/training/datasets/collect', json=asked | dict(patch_size=32)))
    fill(0)
    assert answer('POST', f'/training/datasets/{version.id}/load').json()['data']  # Reading goes on
"""


def on_a_small_disk(with_mount, folder, code):
    mount = f'mount -t tmpfs -o size=100m none {folder}'
    command = [sys.executable, '-W', 'ignore', '-c', BEGIN + code, folder]
    ended = with_mount(mount, *command)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_what_commands_and_people_write_is_whole_or_not_there(with_mount, tmp_path):
    on_a_small_disk(with_mount, tmp_path, WRITTEN)


def test_a_model_is_kept_whole_or_the_older_one_stays(with_mount, tmp_path):
    on_a_small_disk(with_mount, tmp_path, MODELS)


def test_a_server_on_a_full_disk_says_so_and_reads_on(with_mount, tmp_path):
    on_a_small_disk(with_mount, tmp_path, SERVED)
