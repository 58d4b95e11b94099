"""What is new is found alike in whatever order a database returns its rows: advice and next versions are the same."""

import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from test_boundaries_growth import QUIET, a_sky, add_detection, detections, tell
from test_boundaries_order import shuffled_rows

import astrid_data as ad
from astrid_data.core import NotFound
from astrid_data.datasets.growth import collect_since, new_labels, plan_again, should_retrain

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
