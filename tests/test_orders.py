"Every order that reaches a result is stated: rows that a database returns in any other order change nothing"

import ast
import itertools
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from fastapi.testclient import TestClient
from shuffling import shuffled_rows
from sqlalchemy import select, update
from stamping import pixels
from test_datasets import write_images
from test_light_curves import packet, seen

import astrid_data as ad
from astrid_data.collect.link import link_bands
from astrid_data.keys import create_api_key
from astrid_data.registry.tables import (
    Image,
    IngestJob,
    QualityRow,
    TrainingRun,
    ValidationEvent,
)

pytestmark = pytest.mark.filterwarnings('ignore')
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
CLOCK = r'\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)'
URIS = ['uri', 'image_uri', 'template_uri', 'science_uri', 'difference_uri']
PACKAGE = Path(ad.__file__).parent


# Every question that asks for an order asks for a whole one

#: No two rows of a table have the same of these
UNIQUE = {'id', 'row_index'}
#: Names of surveys, versions of one data set, runs of one detection, and a name for an id
ALSO = {'Survey.name', 'ByBytes(Survey.name)', 'VersionRow.version', 'row.model_run_id'}
ALSO |= {'id_column'}


def _calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == 'order_by':
                yield node


def _named(tree, name):
    "What a name that holds an order stands for"
    found = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return [value.elts[-1] for value in found if isinstance(value, ast.Tuple)]


def _last_keys(tree, call):
    last = call.args[-1]
    found = _named(tree, ast.unparse(last.value)) if isinstance(last, ast.Starred) else [last]
    for key in found:
        while isinstance(key, ast.Call) and isinstance(key.func, ast.Attribute):
            key = key.func.value  # .desc(), .nulls_last()
        yield key


def incomplete_orders(source):
    "Orders in a piece of code that don't end in something unique"
    tree = ast.parse(source)
    for call in _calls(tree):
        if '.distinct()' in ast.unparse(call.func):
            continue  # Of what is ordered by
        keys = [*_last_keys(tree, call)]
        whole = [
            ast.unparse(key) in ALSO or getattr(key, 'attr', getattr(key, 'id', '')) in UNIQUE
            for key in keys
        ]
        if not keys or not all(whole):
            yield f'{call.lineno}: {ast.unparse(call.args[-1])}'


def test_an_order_that_may_tie_is_seen():
    for order in ('Image.created_at', 'Image.mjd, Image.created_at.desc()', '*newest'):
        assert [*incomplete_orders(f'newest = a.id, a.at\nquery.order_by({order})')], order
    for order in ('Image.id', 'Image.mjd, Image.id.desc()', '*newest', 'ByBytes(Survey.name)'):
        assert not [*incomplete_orders(f'newest = a.at, a.id\nquery.order_by({order})')], order


def test_every_order_of_the_library_ends_in_something_unique():
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sorted(PACKAGE.rglob('*.py'))
        if (lines := [*incomplete_orders(path.read_text())])
    }
    assert found == {}


# A whole way, from files to answers, where everything ties


def add_images(archive, files):
    "Two files of one exposure of each field, in two bands"
    archive.add_fits(files, survey='toy', show=False)


def add_lists(archive):
    "A catalogue and what corrects it, a list to match, votes: all of one moment"
    found = archive.detections().sort_values(['ra', 'dec'], ignore_index=True)
    one = found[~found[['ra', 'dec']].round(3).duplicated()].reset_index(drop=True)
    rows = one.loc[::3, ['ra', 'dec']].assign(real=True, name='star', mag=18.0)
    archive.add_catalogue(rows, 'cat', is_real='real', class_name='name', mag='mag')
    of_one_moment(archive)
    rows = rows.assign(real=[k % 4 > 0 for k in range(len(rows))], mag=18.5)
    archive.add_catalogue(rows, 'cat', is_real='real', class_name='name', mag='mag')
    archive.match_labels(rows.assign(real=True), 'list', is_real='real')


def add_alerts(archive):
    "Alerts of one object at one time"
    packets = [packet(k, 2460000.5 + k // 2, past=[seen(90, 2459990.5)]) for k in range(4)]
    archive.add_alerts(packets, show=False)


def add_stamps(archive):
    records = [
        dict(image=pixels(k), id=str(k), ra=33.0, dec=1.0 + k // 2, label=k % 2, mjd=59000.0)
        for k in range(6)
    ]
    archive.add_stamps(records, 'made', show=False)


def of_one_moment(archive):
    "All that was written, and all that was seen, is of one moment"
    with archive.session() as session:
        for table in (Image, ValidationEvent, TrainingRun, QualityRow, IngestJob):
            name = 'started_at' if table is TrainingRun else 'created_at'
            session.execute(update(table).values({name: MOMENT}))


def told(archive):
    "What an archive lists, and what it is asked over HTTP"
    tables = [archive.observations(), archive.detections()]
    out = [table.to_json(date_format='iso', default_handler=str) for table in tables]
    key = create_api_key(archive, 'me', ['read:data'])
    with TestClient(ad.create_app(archive), headers={'X-API-Key': key}) as client:
        for address in ('/surveys', '/observations', '/detections', '/training/datasets'):
            answer = client.get(address, params=dict(limit=50) if address != '/surveys' else {})
            assert answer.status_code == 200, answer.text
            out.append(re.sub(CLOCK, 'then', answer.text))
    return out


def verdicts(archive):
    "Every event, without its clock"
    event = ValidationEvent
    names = [event.id, event.detection_id, event.validator_id, event.is_valid, event.label]
    with archive.session() as session:
        return sorted(map(str, session.execute(select(*names, event.notes))))


QUIET = dict(progress=False, probe=False)
QUESTION = dict(negatives=dict(rejected=1.0, random_sky=0.7, offset=0.5), max_samples=61)


def whole_way(home, files, seed=None):
    "Plan, hashes, verdicts and answers of an archive that is filled and asked"
    archive = ad.open_archive(f'sqlite:///{home / "r.db"}', storage=str(home / 's'), home=home)
    with nullcontext([]) if seed is None else shuffled_rows(archive, seed) as seen:
        for add in (lambda it: add_images(it, files), add_lists, add_alerts, add_stamps):
            add(archive)
            of_one_moment(archive)
        links = link_bands(archive, ['g', 'r']).to_json()
        of_one_moment(archive)
        params = dict(confidence_threshold=0.5, quality_score_threshold=None) | QUESTION
        plan = ad.TrainingDataCollector(archive).plan(
            ad.TrainingDataCollectionParams(**params), progress=False
        )
        version = plan.build('way', patch_size=16, **QUIET)
        answers = told(archive)
    assert seed is None or len(seen) > 50
    return dict(
        links=links,
        plan=plan.plan_hash,
        ledger=plan.ledger.to_json(),
        content=version.content_hash,
        samples=version.samples.drop(columns=URIS, errors='ignore').to_json(),
        verdicts=verdicts(archive),
        answers=answers,
    )


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "Three fields in two bands, two exposures of one time in each"
    folder = tmp_path_factory.mktemp('fields')
    made = write_images(folder / 'made', n=2, side=100)
    out = []
    for path, band, n in itertools.product(made, 'gr', range(2)):
        with fits.open(path) as file:
            file[0].header['FILTER'] = band
            file[0].data = file[0].data + np.float32(ord(band) + n)
            out.append(folder / f'{path.stem}-{band}-{n}.fits')
            file.writeto(out[-1])
    return out


@pytest.fixture(scope='module')
def plain(files, tmp_path_factory):
    return whole_way(tmp_path_factory.mktemp('plain'), files)


@pytest.mark.parametrize('seed', range(2))
def test_shuffled_rows_change_nothing_on_the_whole_way(files, plain, tmp_path, seed):
    again = whole_way(tmp_path, files, seed)
    assert [name for name in plain if plain[name] != again[name]] == []
    assert len(plain['verdicts']) > 50
