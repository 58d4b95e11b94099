"""What is new is found alike in whatever order a database returns its rows: advice and next versions are the same."""

import shutil
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from shuffling import shuffled_rows
from sqlalchemy import select
from test_boundaries_growth import QUIET, a_sky, add_detection, detections, tell
from test_boundaries_order import QUESTIONS, images, plan, tied  # noqa: F401

import astrid_data as ad
from astrid_data.collect.candidates import find_candidates
from astrid_data.core import NotFound
from astrid_data.datasets.growth import collect_since, new_labels, plan_again, should_retrain
from astrid_data.registry.tables import Detection, add_validation_event

pytestmark = pytest.mark.filterwarnings('ignore')
SOON = datetime.now(UTC) + timedelta(hours=1)


def _grown(home):
    "A version, and what was said after it: many verdicts of one moment, by several, and new detections"
    archive, first = a_sky(home)
    ids = detections(first)
    for detection in ids[:6]:
        tell(archive, detection, False, at=SOON)
    for detection in ids[3:9]:
        for who, real in (('ben', False), ('cleo', True), ('dana', False)):
            tell(archive, detection, real, who, at=SOON)
    for detection in ids[15:25]:  # Two words of one validator at one moment
        for real in (True, False) if detection < ids[20] else (False, True):
            tell(archive, detection, real, 'emma', at=SOON)
    for detection in detections(first, 'rejected')[:5]:
        tell(archive, detection, True, at=SOON)
    for k, like in enumerate(ids[9:15]):
        add_detection(archive, like, 60.0 + 9 * k, 70.0 + 5 * k, real=k % 2 == 0)
    return first


@pytest.fixture(scope='module')
def grown(tmp_path_factory):
    home = tmp_path_factory.mktemp('grown')
    _grown(home / 'home')
    return home


def opened(grown, tmp_path, name):
    "A copy of that archive, and its version"
    home = tmp_path / name
    shutil.copytree(grown / 'home', home)
    archive = ad.open_archive(home)
    return archive, ad.open_dataset(archive, 'watch@v1')


def content(version):
    facts = 'hash samples_hash ledger_hash parameters quality_score split_sizes'.split()
    manifest = {key: version.manifest.get(key) for key in facts}
    return manifest, version.content_hash, version.samples.to_json(), version.ledger.to_json()


@pytest.fixture(scope='module')
def expected(grown, tmp_path_factory):
    archive, first = opened(grown, tmp_path_factory.mktemp('expected'), 'plain')
    advice = should_retrain(first)
    labels = new_labels(first)
    later = collect_since(first, **QUIET)
    assert later.content_hash != first.content_hash and later.version == 2
    return advice, labels, plan_again(first), content(later)


@pytest.mark.parametrize('seed', range(3))
def test_the_next_version_has_one_hash(grown, expected, tmp_path, seed):
    archive, first = opened(grown, tmp_path, 'shuffled')
    with shuffled_rows(archive, seed) as seen:
        later = collect_since(first, **QUIET)
        assert content(later) == expected[3]
        with pytest.raises(NotFound, match='up to date'):
            collect_since(later, **QUIET)
    assert seen


@pytest.mark.parametrize('seed', range(3))
def test_the_advice_and_its_labels_are_the_same(grown, expected, tmp_path, seed):
    archive, first = opened(grown, tmp_path, 'shuffled')
    with shuffled_rows(archive, seed):
        advice, labels = should_retrain(first), new_labels(first)
    assert advice.retrain == expected[0].retrain
    pd.testing.assert_frame_equal(advice.signals, expected[0].signals)
    assert labels == expected[1]


def test_a_question_about_a_moment_is_answered_alike(grown, tmp_path):
    since = datetime.now(UTC) - timedelta(days=1)
    found = []
    for k, name in enumerate('abc'):
        archive, first = opened(grown, tmp_path, name)
        if not k:
            found.append(content(collect_since(first, since, **QUIET)))
            continue
        with shuffled_rows(archive, k):
            found.append(content(collect_since(first, since, **QUIET)))
    assert found[0] == found[1] == found[2]


def test_two_steps_of_growth_come_to_one_hash(grown, tmp_path):
    ends = []
    for k, name in enumerate('ab'):
        archive, first = opened(grown, tmp_path, name)
        second = collect_since(first, **QUIET)
        for detection in detections(second)[:4]:
            tell(archive, detection, False, 'emil', at=SOON + timedelta(hours=1))
        if not k:
            ends.append(content(collect_since(second, **QUIET)))
            continue
        with shuffled_rows(archive, k):
            ends.append(content(collect_since(second, **QUIET)))
    assert ends[0] == ends[1]


# Where the draw itself depends on an order: fields that tie, and a limit that cuts among them


def _next_of_tied(home, images, url=None, order=1, seed=None):  # noqa: F811
    "The next version of an archive full of ties, its rows shuffled where a seed is given"
    archive = tied(home, images, url, order)
    question = QUESTIONS['a limit that cuts ties']
    first = plan(archive, **question).build('tied', patch_size=16, **QUIET)
    with archive.session() as session:
        found = session.scalars(select(Detection).order_by(Detection.ra, Detection.dec)).all()
        for n, detection in enumerate(sorted(found, key=lambda one: (one.ra, one.dec, one.id))):
            if n % 5 == 0:
                event = add_validation_event(session, detection.id, 'vera', n % 2 == 0)
                event.created_at = SOON
    with nullcontext() if seed is None else shuffled_rows(archive, seed):
        later = collect_since(first, **QUIET)
    archive.registry.engine.dispose()
    samples = later.samples.drop(columns=[name for name in later.samples if name.endswith('_uri')])
    return first.content_hash, later.content_hash, later.manifest['plan_hash'], samples.to_json()


@pytest.fixture(scope='module')
def next_of_tied(images, tmp_path_factory):  # noqa: F811
    made = _next_of_tied(tmp_path_factory.mktemp('tied'), images)
    assert made[0] != made[1] and made[3].count('random_sky') > 5
    return made


@pytest.mark.parametrize('seed', [1, 2])
def test_growth_that_draws_sky_has_one_hash(next_of_tied, images, tmp_path, seed):  # noqa: F811
    assert _next_of_tied(tmp_path, images, seed=seed) == next_of_tied


def test_growth_has_that_hash_on_postgresql(next_of_tied, images, pg_url, tmp_path):  # noqa: F811
    assert _next_of_tied(tmp_path, images, pg_url, order=-1, seed=3) == next_of_tied


def test_observations_come_by_survey_and_key(images, tmp_path):  # noqa: F811
    "Not by their ids, which another registry may have given otherwise"
    archive = tied(tmp_path, images, order=-1)
    with archive.session() as session, shuffled_rows(archive, 1):
        _, _, found = find_candidates(session, ad.TrainingDataCollectionParams())
    names = list(zip(found['survey'], found['observation_key']))
    assert len(names) > 5 and names == sorted(names)
    assert found['observation_id'].tolist() != sorted(found['observation_id'])


def test_the_newest_of_a_chain_is_found_in_any_order(grown, tmp_path):
    archive, first = opened(grown, tmp_path, 'chain')
    newest = first
    for k in range(3):
        newest = collect_since(newest, **QUIET)
        for detection in detections(newest)[:2] if k < 2 else ():
            tell(archive, detection, False, 'emil', at=SOON + timedelta(hours=1 + k))
    assert newest.version == 4
    for seed in range(6):
        with shuffled_rows(archive, seed):
            assert collect_since(first, **QUIET).address == newest.address
