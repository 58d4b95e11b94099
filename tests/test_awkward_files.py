"""A hundred awkward files beside three good ones, through every verb: nothing stops, every file is accounted
for, and the samples of the good ones are as if the others had never been there."""

from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from awkward import write_awkward
from fastapi.testclient import TestClient
from test_datasets import write_images

import astrid_data as ad
from astrid_data.keys import create_api_key

pytestmark = [
    pytest.mark.filterwarnings('ignore'),
    pytest.mark.filterwarnings('ignore::astrid_data.core.SyntheticDataWarning'),
]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('awkward')
    bad = write_awkward(folder / 'bad')
    good = write_images(folder / 'good', n=3, side=100)
    return bad, good


def archive_of(home):
    return ad.open_archive(f'sqlite:///{home}/r.db', storage=str(home / 'store'), home=home)


def catalogue(good):
    "Rows on the good fields, some twice, and some on the awkward ones"
    rng = np.random.default_rng(1)
    on_good = [
        (40 + k + d / 3600, 5 + e / 3600) for k in range(3) for d, e in rng.uniform(-30, 30, (8, 2))
    ]
    on_bad = [(150 + d / 3600, 2 + e / 3600) for d, e in rng.uniform(-20, 20, (6, 2))]
    table = pd.DataFrame(on_good + on_bad, columns=['ra', 'dec'])
    return table.assign(verdict=['real', 'bogus'] * (len(table) // 2))


def through_every_verb(archive, paths, good):
    "Reports of each verb, the plan and the version"
    reports = dict(add_fits=archive.add_fits(paths, survey='s', show=False))
    reports['again'] = archive.add_fits(paths, survey='s', show=False)
    reports['detect'] = archive.detect(show=False, nsigma=4.0)
    reports['catalogue'] = archive.add_catalogue(catalogue(good), is_real='verdict', name='people')
    params = dict(validation_status='any', confidence_threshold=None, quality_score_threshold=None)
    params |= dict(negatives=dict(rejected=1.0), max_samples=None)
    plan = ad.TrainingDataCollector(archive).plan(**params, progress=False)
    dataset = plan.build('all', patch_size=16, progress=False, probe=False)
    return reports, plan, dataset


@pytest.fixture(scope='module')
def outcome(files, tmp_path_factory):
    bad, good = files
    archive = archive_of(tmp_path_factory.mktemp('with'))
    paths = sorted(map(str, [*bad, *good]))
    return archive, paths, *through_every_verb(archive, paths, good)


def test_there_are_a_hundred(files):
    assert len(files[0]) >= 100 and len(set(files[0])) == len(files[0])


@pytest.mark.parametrize('verb', ['add_fits', 'again'])
def test_every_file_is_stored_known_or_in_the_ledger(outcome, verb):
    archive, paths, reports = outcome[:3]
    report = reports[verb]
    told = [*report.ledger['uri'], *archive.observations()['uri']]
    told = {unquote(uri.removeprefix('file://')).partition('.fits')[0] for uri in told}
    left = [p for p in paths if p.partition('.fits')[0] not in told]
    assert not left
    assert not report.ledger.duplicated(['uri', 'reason', 'detail']).any()
    assert (report.ledger['detail'].str.len() > 0).all()


def test_nothing_unexpected_went_wrong(outcome):
    "A reason of our own for each: none is an exception that slipped through"
    for report in outcome[2].values():
        slipped = report.ledger[report.ledger['reason'] == 'unexpected']
        assert not len(slipped), slipped[['uri', 'detail']].to_string()


def test_plans_and_versions_account_for_every_detection(outcome):
    archive, _, _, plan, dataset = outcome
    candidates = len(archive.detections())
    rejected = plan.filters['left'].iloc[0]
    assert rejected == candidates
    assert plan.requested == len(plan.samples) + plan.ledger['n'].sum()
    assert dataset.manifest['requested'] == len(dataset) + dataset.ledger['n'].sum()
    assert len(dataset.samples) + len(dataset.ledger) == plan.requested


def test_good_files_are_as_without_the_bad_ones(outcome, files, tmp_path):
    archive, _, _, _, dataset = outcome
    _, good = files
    _, _, alone = through_every_verb(archive_of(tmp_path), [*map(str, good)], good)
    keys = set(alone.samples['sample_key'])
    assert len(keys) > 10
    rows = dataset.samples[dataset.samples['sample_key'].isin(keys)]
    assert set(rows['sample_key']) == keys
    columns = ['sample_key', 'pixel_sha256', 'label', 'class_name', 'ra', 'dec', 'mjd']
    a, b = (t[columns].sort_values('sample_key', ignore_index=True) for t in (rows, alone.samples))
    pd.testing.assert_frame_equal(a, b)


def test_a_folder_of_them_gives_the_same(outcome, files, tmp_path):
    bad, good = files
    folders = [str(bad[0].parent), str(good[0].parent)]
    report = archive_of(tmp_path).add_fits(folders, survey='s', show=False, detect=False)
    lost = set(outcome[2]['add_fits'].ledger['reason'])
    assert report.added > 10 and set(report.ledger['reason']) <= lost | {'no_valid_pixel'}


# The verbs that came later


def _told(report):
    "Nothing of somebody else's in a ledger, and a sentence in each row"
    assert not (report.ledger['reason'] == 'unexpected').any(), report.ledger.to_string()
    assert (report.ledger['detail'].str.len() > 0).all()
    return len(report.ledger)


def test_each_of_them_is_a_stamp_or_in_the_ledger(files, tmp_path):
    archive = archive_of(tmp_path)
    report = archive.add_stamps([str(path) for path in files[0]], 'odd', show=False)
    assert report.added > 20
    assert report.added + _told(report) >= len(files[0])  # Some hold two
    assert len(archive.observations()) == len(archive.detections()) == report.added


def test_a_list_of_known_objects_is_matched_beside_them(outcome, files):
    archive, table = outcome[0], catalogue(files[1])
    report = archive.match_labels(table, 'list', is_real='verdict', show=False)
    assert report.rows + _told(report) == len(table)
    assert sum(report.verdicts.values()) > 10


def test_what_is_found_on_them_is_scored_or_in_the_ledger(outcome):
    archive, dataset = outcome[0], outcome[-1]
    train, val, _ = ad.RealDataLoader(dataset).loaders(batch_size=8)
    model = ad.SmallCNN(channels=1, width=4)
    run = archive.score(ad.fit(model, train, val, epochs=1, show=False).classifier(), show=False)
    assert run.scored + sum(run.unscored.values()) == len(archive.detections())
    assert run.scored > 10 and 'unexpected' not in run.unscored


def test_each_of_them_that_is_sent_to_a_server_is_answered(files, tmp_path):
    archive = archive_of(tmp_path)
    key = create_api_key(archive, 'me', ['manage:operations', 'read:data'])
    sent = [path for path in [*files[0], *files[1]] if path.is_file() and path.stat().st_size]
    stored = 0
    with TestClient(ad.create_app(archive), raise_server_exceptions=False) as client:
        client.headers['X-API-Key'] = key
        for path in sent:
            where = dict(name=path.name, survey='s', detect=False)
            ask = '/observations/ingest/upload'
            answer = client.post(ask, params=where, content=path.read_bytes())
            assert answer.status_code in (200, 422), answer.text
            data = answer.json()['data'] or dict(
                added=0, skipped=0, ledger=[answer.json()['error']]
            )
            assert data['added'] + data['skipped'] + len(data['ledger']) > 0, path
            assert 'unexpected' not in [row.get('reason') for row in data['ledger']], path
            stored += data['added']
    assert stored == len(archive.observations()) > 30


def test_a_folder_of_them_is_taken_for_stamps_like_its_list(files, tmp_path):
    archive = archive_of(tmp_path)
    folder = files[0][0].parent
    report = archive.add_stamps(str(folder), 'odd', show=False)
    _told(report)
    assert len(archive.observations()) == len(archive.detections()) == report.added > 20
    regular = [path for path in files[0] if path.is_file()]
    assert report.added + len(report.ledger) >= len(regular)


def test_each_place_is_cut_from_each_of_them_or_in_the_ledger(files):
    "By the folder and by the list: a patch for each place on each image that can be read"
    places = catalogue(files[1])[['ra', 'dec']]
    listed = [str(path) for path in [*files[0], *files[1]]]
    for images in (listed, sorted({str(path.parent) for path in [*files[0], *files[1]]})):
        cut = ad.cutouts(places, images, size=16)
        assert len(cut) == len(cut.table) > len(places)
        assert not (cut.lost['reason'] == 'unexpected').any(), cut.lost.to_string()
        assert (cut.lost['detail'].str.len() > 0).all()
        assert set(cut.table['row']) >= set(range(24))  # All that lie on the good ones


def test_a_table_of_places_on_them_is_scored_or_says_why(outcome, files):
    "One row for each place and file, in order, whatever the file is"
    train, val, _ = ad.RealDataLoader(outcome[-1]).loaders(batch_size=8)
    model = ad.fit(ad.SmallCNN(channels=1, width=4), train, val, epochs=1, show=False).classifier()
    paths = [str(path) for path in files[0]]
    table = pd.DataFrame(dict(ra=150.0, dec=2.0, image_uri=paths, survey='s'))
    good = pd.DataFrame(dict(ra=40.0, dec=5.0, image_uri=[str(files[1][0])], survey='s'))
    scored = model.score(pd.concat([table, good], ignore_index=True))
    assert len(scored) == len(paths) + 1
    has = scored['score'].notna()
    assert (has == (scored['reason'] == '')).all() and has.sum() > 10 and has.iloc[-1]
    assert not (scored['reason'] == 'unexpected').any()
    assert (scored.loc[~has, 'detail'].str.len() > 0).all(), scored.loc[
        scored['detail'].str.len().eq(0) & ~has, ['uri', 'reason']
    ].to_string()
