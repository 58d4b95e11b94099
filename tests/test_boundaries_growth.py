"A nightly job: what is new makes a version once, and nothing new makes none"

import multiprocessing
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

import astrid_data as ad
from astrid_data.core import BadInput, Conflict, NotFound
from astrid_data.datasets import growth
from astrid_data.datasets.growth import as_of, collect_since, new_labels, should_retrain
from astrid_data.registry.tables import Detection, LabelEvent, ValidationEvent, add_validation_event

pytestmark = pytest.mark.filterwarnings('ignore')
QUIET = dict(progress=False, probe=False)


def night(dataset, **kwargs):
    "The address that a nightly job makes or finds; None where it says that all is up to date"
    try:
        return collect_since(dataset, **QUIET, **kwargs).address
    except NotFound as e:
        assert 'up to date' in str(e)
        return None


def n_versions(archive):
    return len(ad.TrainingDatasetManager(archive).list())


def a_sky(home, **more):
    "An archive of pretend sky, and a first version that lost some positives at the borders"
    archive = ad.synthetic_archive(home, n_observations=4, n_sources=30)
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0.5, quality_score_threshold=None, negatives={'rejected': 1}, **more
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    first = plan.build('watch', patch_size=48, min_valid_fraction=0.999, **QUIET)
    return archive, first


@pytest.fixture
def sky(tmp_path):
    return a_sky(tmp_path)


def lost_of(dataset):
    ledger = dataset.ledger
    return ledger[(ledger['step'] == 'cut') & (ledger['label'] == 1)]


def tell(archive, detection, real, who='vera', at=None, level='expert'):
    with archive.session() as session:
        event = add_validation_event(session, detection, who, real, confidence_level=level)
        if at is not None:
            event.created_at = at


def detections(dataset, kind='positive'):
    return dataset.samples[dataset.samples['kind'] == kind]['detection_id'].tolist()


def add_detection(archive, like, x, y, real=True):
    "One more detection beside another, with its verdict"
    with archive.session() as session:
        old = session.get(Detection, uuid.UUID(like))
        columns = {c.name: getattr(old, c.name) for c in Detection.__table__.columns}
        place = dict(pixel_x=x, pixel_y=y, ra=old.ra + 1e-4, dec=old.dec + 1e-4)
        new = Detection(**{**columns, **place, 'id': uuid.uuid4()})
        session.add(new)
        session.flush()
        add_validation_event(session, new.id, 'vera', real, confidence_level='expert')
        return str(new.id)


# --- nothing new


def test_three_nights_with_nothing_new_make_nothing(sky):
    archive, first = sky
    assert len(lost_of(first))  # The case that made a version each night
    assert lost_of(first)['detection_id'].notna().all()
    assert [night(first) for _ in range(3)] == [None] * 3
    advice = should_retrain(first)
    assert not advice.retrain and n_versions(archive) == 1
    assert '0 samples of the same question are new' in advice.signals['reason'][0]


def test_a_version_of_long_ago_knows_its_lost_by_their_keys(sky):
    archive, first = sky
    path = first.folder / 'ledger.parquet'
    of_cut = (first.ledger['step'] == 'cut').to_numpy()
    old = pd.read_parquet(path).drop(columns='step')
    unknown = ['kind', 'detection_id', 'observation_key', 'ra', 'dec', 'score']
    old.loc[of_cut, unknown] = None
    path.chmod(0o644)
    old.to_parquet(path)
    long_ago = ad.datasets.Dataset(first.folder, archive, verify=False)  # Without a seal
    assert [night(long_ago) for _ in range(3)] == [None] * 3
    assert not should_retrain(long_ago).retrain


def test_pretend_sky_and_drawn_negatives_are_not_new_either(tmp_path):
    archive, first = a_sky(tmp_path, max_samples=30)
    drawn = ad.TrainingDataCollector(archive).plan(
        confidence_threshold=0.5,
        quality_score_threshold=None,
        max_samples=25,
        negatives={'random_sky': 1, 'offset': 0.5},
        progress=False,
    )
    sky = drawn.build('sky', patch_size=24, **QUIET)
    assert [night(first), night(sky), night(sky)] == [None] * 3


def test_a_version_cut_at_another_scale_is_cut_at_it_again(sky):
    archive, first = sky
    scale = float(first.samples['pixel_scale_arcsec'].iloc[0]) * 2
    plan = growth.plan_again(first)
    coarse = plan.build('coarse', patch_size=24, pixel_scale_arcsec=scale, **QUIET)
    assert night(coarse) is None
    tell(archive, detections(coarse)[0], False)
    later = ad.datasets.open_dataset(archive, night(coarse))
    assert later.manifest['params']['pixel_scale_arcsec'] == scale


# --- verdicts


def test_a_changed_verdict_is_new_exactly_once(sky):
    archive, first = sky
    tell(archive, detections(first)[0], False)
    assert [night(first) for _ in range(3)] == ['watch@v2'] * 3
    second = ad.datasets.open_dataset(archive, 'watch@v2')
    assert [night(second) for _ in range(3)] == [None] * 3
    assert new_labels(first) == 1 and new_labels(second) == 0
    assert not should_retrain(second, more_labels=0, changed=0).retrain


def test_a_second_opinion_is_new_once_though_no_label_changes(sky):
    archive, first = sky
    tell(archive, detections(first)[0], True, who='caroline')
    assert [night(first), night(first)] == ['watch@v2'] * 2
    assert night(ad.datasets.open_dataset(archive, 'watch@v2')) is None


def test_a_label_that_changed_and_changed_back_is_nothing_new(sky):
    archive, first = sky
    one = detections(first)[0]
    tell(archive, one, True)
    second = ad.datasets.open_dataset(archive, night(first))
    tell(archive, one, False)
    tell(archive, one, True)
    assert night(second) is None and n_versions(archive) == 2


def test_a_label_that_swings_from_night_to_night_makes_a_version_each_time(sky):
    archive, dataset = sky
    one = detections(dataset)[0]
    seen = []
    for real in (False, True, False):
        tell(archive, one, real)
        dataset = ad.datasets.open_dataset(archive, night(dataset))
        rows = dataset.samples.set_index('detection_id')
        seen.append((dataset.version, int(rows.loc[one, 'label'])))
        assert night(dataset) is None
    assert seen == [(2, 0), (3, 1), (4, 0)]


def test_a_verdict_of_nobody_sure_takes_the_sample_out_once(sky):
    archive, first = sky
    one = detections(first)[0]
    with archive.session() as session:
        add_validation_event(session, one, 'vera', True, label='unsure', confidence_level='expert')
        session.query(ValidationEvent).filter(
            ValidationEvent.detection_id == uuid.UUID(one), ValidationEvent.validator_id != 'vera'
        ).delete()
        session.execute(
            update(Detection).where(Detection.id == uuid.UUID(one)).values(human_label='unsure')
        )
    second = ad.datasets.open_dataset(archive, night(first))
    assert one not in set(second.samples['detection_id'])
    assert night(second) is None
    tell(archive, one, True)  # Back from the plan's own ledger
    third = ad.datasets.open_dataset(archive, night(second))
    assert one in set(third.samples['detection_id']) and night(third) is None


def test_a_verdict_about_something_else_is_none_of_our_business(sky, tmp_path):
    archive, first = sky
    with archive.session() as session:
        survey_of = dict(session.query(Detection.id, Detection.confidence_score).all())
    asked = set(first.samples['detection_id']) | set(first.ledger['detection_id'].dropna())
    others = [str(d) for d in survey_of if str(d) not in asked]
    assert others
    for other in others[:5]:
        with archive.session() as session:
            session.execute(
                update(Detection)
                .where(Detection.id == uuid.UUID(other))
                .values(confidence_score=0.1)
            )
        tell(archive, other, True)
    assert night(first) is None and new_labels(first) == 0
    assert not should_retrain(first, more_labels=0).retrain


def test_a_verdict_written_into_the_columns_counts_as_one_in_an_event(sky):
    archive, first = sky
    with archive.session() as session:
        judged = {d for (d,) in session.query(ValidationEvent.detection_id)}
        silent = [d for d in detections(first) if uuid.UUID(d) not in judged]
        if not silent:
            pytest.skip('every detection of the pretend sky has an event')
        session.execute(
            update(Detection)
            .where(Detection.id == uuid.UUID(silent[0]))
            .values(human_label='artifact')
        )
    assert night(first) == 'watch@v2'
    assert night(ad.datasets.open_dataset(archive, 'watch@v2')) is None


def test_since_asks_for_what_was_said_after_a_moment(sky):
    archive, first = sky
    assert night(first, since='1990-01-01') is None  # All that is known already
    tell(archive, detections(first)[0], False)
    assert night(first, since=datetime.now(UTC) + timedelta(hours=1)) is None
    assert night(first, since=datetime.now(UTC) - timedelta(hours=1)) == 'watch@v2'


def test_a_verdict_on_drawn_sky_counts_once(tmp_path):
    archive, _ = a_sky(tmp_path)
    plan = ad.TrainingDataCollector(archive).plan(
        confidence_threshold=0.5,
        quality_score_threshold=None,
        max_samples=30,
        negatives={'random_sky': 1},
        progress=False,
    )
    first = plan.build('sky', patch_size=24, **QUIET)
    key = first.samples[first.samples['kind'] == 'random_sky']['sample_key'].iloc[0]
    with archive.session() as session:
        session.add(LabelEvent(sample_key=key, labeller='vera', is_real=False))
    assert new_labels(first) == 1
    second = ad.datasets.open_dataset(archive, night(first))
    assert (second.version, new_labels(second), night(second)) == (2, 0, None)


# --- detections


def test_a_night_with_only_lost_detections_is_remembered(sky):
    archive, first = sky
    one = lost_of(first)['detection_id'].iloc[0]
    with archive.session() as session:
        old = session.get(Detection, uuid.UUID(one))
        x, y = old.pixel_x, old.pixel_y
    new = add_detection(archive, one, x, y)
    second = ad.datasets.open_dataset(archive, night(first))
    assert new in set(lost_of(second)['detection_id'])
    assert [night(second) for _ in range(3)] == [None] * 3
    assert not should_retrain(second).retrain


def test_a_verdict_on_a_lost_one_makes_no_version_by_itself(tmp_path):
    archive, first = a_sky(tmp_path)
    one = lost_of(first)['detection_id'].iloc[0]
    tell(archive, one, True, who='caroline')
    assert night(first) is None


def test_a_new_detection_is_new_once(sky):
    archive, first = sky
    one = detections(first)[0]
    new = add_detection(archive, one, 60, 60)
    second = ad.datasets.open_dataset(archive, night(first))
    assert new in {*second.samples['detection_id'], *second.ledger['detection_id']}
    assert [night(second), night(second)] == [None, None]


def test_a_new_image_without_detections_is_nothing_new(sky, tmp_path_factory):
    from astropy.io import fits

    archive, first = sky
    folder = tmp_path_factory.mktemp('empty')
    header = fits.Header(
        dict(
            CTYPE1='RA---TAN',
            CTYPE2='DEC--TAN',
            CRVAL1=12.0,
            CRVAL2=-70.0,
            CRPIX1=32.5,
            CRPIX2=32.5,
            CD1_1=-1e-4,
            CD1_2=0.0,
            CD2_1=0.0,
            CD2_2=1e-4,
        )
    )
    header['DATE-OBS'], header['EXPTIME'], header['FILTER'] = '2024-01-01T00:00:00', 30.0, 'r'
    pixels = np.random.default_rng(0).normal(100, 5, (64, 64)).astype('f4')
    fits.PrimaryHDU(pixels, header).writeto(folder / 'empty.fits')
    report = archive.add_fits(folder / 'empty.fits', survey='synthetic-skyview')
    assert report.added == 1
    assert [night(first) for _ in range(3)] == [None] * 3


# --- jobs


def test_jobs_that_start_from_different_versions_agree(sky):
    archive, first = sky
    tell(archive, detections(first)[0], False)
    second = ad.datasets.open_dataset(archive, night(first))
    tell(archive, detections(first)[1], False)
    assert night(second) == 'watch@v3'
    assert [night(first) for _ in range(2)] == ['watch@v3'] * 2  # The other job, on the first
    assert n_versions(archive) == 3


def _job(home, queue):
    archive = ad.open_archive(home=home)
    try:
        queue.put(night(ad.datasets.open_dataset(archive, 'watch@v1')))
    except Conflict as e:
        queue.put(str(e))


def test_two_jobs_at_once_make_one_version(sky, tmp_path):
    archive, first = sky
    tell(archive, detections(first)[0], False)
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    jobs = [context.Process(target=_job, args=(archive.home, queue)) for _ in range(2)]
    for job in jobs:
        job.start()
    answers = [queue.get(timeout=120) for _ in jobs]
    for job in jobs:
        job.join()
    assert 'watch@v2' in answers
    assert all(a == 'watch@v2' or 'another process is building' in a for a in answers), answers
    assert n_versions(archive) == 2


@pytest.mark.parametrize('where', ['cut', 'publish'])
def test_a_killed_night_is_finished_by_the_next(sky, where, monkeypatch):
    from astrid_data.datasets import build

    archive, first = sky
    tell(archive, detections(first)[0], False)
    name = dict(cut='freeze_version', publish='publish_version')[where]

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build, name, die)
        with pytest.raises(KeyboardInterrupt):
            night(first)
    assert [night(first) for _ in range(2)] == ['watch@v2'] * 2
    assert night(ad.datasets.open_dataset(archive, 'watch@v2')) is None
    assert sorted(p.name for p in (archive.datasets_dir / 'watch').glob('v*')) == ['v1', 'v2']


@pytest.mark.parametrize('hours', [5, -5])
def test_verdicts_dated_by_a_wrong_clock_count_once(sky, hours):
    archive, first = sky
    at = datetime.now(UTC) + timedelta(hours=hours)
    tell(archive, detections(first)[0], False, at=at)
    second = ad.datasets.open_dataset(archive, night(first))
    assert second.version == 2
    assert [night(second) for _ in range(2)] == [None] * 2
    assert new_labels(second) == 0
    assert not should_retrain(second, more_labels=0, changed=0).retrain


def test_a_version_made_while_our_clock_was_ahead_still_sees_what_comes(sky, monkeypatch):
    archive, first = sky
    first.manifest['labels_as_of'] = str(as_of(first) + timedelta(days=400))
    tell(archive, detections(first)[0], False)
    assert night(first) == 'watch@v2'


def test_other_settings_are_another_question_asked_once(sky):
    archive, first = sky
    assert night(first, min_valid_fraction=0.999, description='no other setting') is None
    assert [night(first, patch_size=24) for _ in range(2)] == ['watch@v2'] * 2
    small = ad.datasets.open_dataset(archive, 'watch@v2')
    assert small.patch_size == 24 and night(small) is None and night(first) is None


def test_imported_splits_are_asked_for_and_stamps_cannot_be_asked_again(sky):
    archive, first = sky
    plan = growth.plan_again(first)
    table = pd.DataFrame(dict(sample_key=plan.samples['sample_key'], split='train'))
    given = plan.build('given', patch_size=24, split_by=table, **QUIET)
    with pytest.raises(BadInput, match='split_by='):
        collect_since(given, **QUIET)
    first.manifest['params'].pop('collection')
    with pytest.raises(BadInput, match='was not collected from an archive'):
        should_retrain(first)
