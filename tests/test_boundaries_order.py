"""The order in which a database returns rows decides nothing: shuffled rows, another database and another
locale give the same plan, the same ledger and the same version."""

import itertools
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shuffling import shuffled_rows
from sqlalchemy import func, select
from test_datasets import toy, write_images

import astrid_data as ad
from astrid_data.collect.link import link_bands, linkable_images
from astrid_data.core import canonical_json
from astrid_data.registry.tables import (
    Candidate,
    ConfidenceLevel,
    Detection,
    DetectionIndex,
    DetectionStatus,
    Image,
    Observation,
    Survey,
    ValidationEvent,
    columns,
    find_surveys,
    get_or_create_survey,
    stable_uuid,
)
from astrid_data.registry.verdicts import effective_labels
from astrid_data.search.labelling import labels_now

pytestmark = pytest.mark.filterwarnings('ignore:.*asked for is')
QUESTIONS = {
    'same field, with random sky': dict(negatives=dict(rejected=1.0, random_sky=0.7)),
    'offsets that come near each other': dict(negatives=dict(offset=2.0, random_sky=0.3)),
    'sources are looked for': dict(negatives=dict(random_sky=0.5, offset=0.5), find_sources=True),
    'a limit that cuts ties': dict(negatives=dict(random_sky=0.37), max_samples=61),
    'balanced shares': dict(negatives=dict(rejected=0.5), max_samples=25),
    'without opening images': dict(
        negatives=dict(random_sky=0.41, offset=0.7), check_pixels=False, max_samples=101
    ),
    'all there is, with losses': dict(validation_status='any', negatives=dict(random_sky=0.2)),
}
UNKNOWN = dict(status=DetectionStatus.PENDING, is_validated=False, human_label=None)
NAMES = ['acs_b', 'ACS_c', 'acs-a', 'Acs a', 'ács', 'acs_10', 'acs_9']


# An archive full of ties


def _copy(row, **changed):
    "Another row of the same table"
    names = [column.key for column in type(row).__mapper__.column_attrs]
    return type(row)(**{name: getattr(row, name) for name in names} | changed)


def _events_of_one_moment(twin, verdict):
    "One validator who says a thing at two levels at once, and another"
    levels = [ConfidenceLevel.EXPERT, ConfidenceLevel.LOW, None]
    voters = [('rule:a', True), ('rule:a', True), ('rule:b', verdict)]
    for n, (level, (who, is_valid)) in enumerate(zip(levels, voters, strict=True)):
        words = dict(id=stable_uuid('e', twin, n), detection_id=twin, label='star')
        words |= dict(validator_id=who, is_valid=is_valid, confidence_level=level)
        yield ValidationEvent(**words, created_at=datetime(2026, 3, 1, tzinfo=UTC))


def _add_ties(session):
    "Rows at one place, events of one moment, detections that nobody judged"
    found = session.scalars(select(Detection).order_by(Detection.id)).all()
    for k, row in enumerate(found[::9]):
        for name in ('twin', 'triplet'):
            twin = stable_uuid(name, row.id)
            session.add(_copy(row, id=twin, **UNKNOWN))
            session.flush()
            session.add(DetectionIndex(detection_id=twin, healpix=k, object_id=f'{name} {k % 3}'))
            session.add_all(_events_of_one_moment(twin, k % 2 == 0))
    for row in found[4::11]:
        session.add(_copy(row, id=stable_uuid('nobody', row.id), ra=row.ra + 1e-4, **UNKNOWN))


def _add_second_image(session):
    "The last observation has two images that could be meant"
    image = max(session.scalars(select(Image)), key=lambda image: image.uri)
    session.add(_copy(image, id=stable_uuid('second', image.id), uri=image.uri + '#2'))


def tied(home, images, url=None, order=1):
    "Equal fields under names that a dictionary and bytes order differently"
    archive = toy(home, url, order=order, images=images)
    with archive.session() as session:
        _add_ties(session)
        _add_second_image(session)
    return archive


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ties')
    made = write_images(folder / 'made', n=len(NAMES), side=120)
    out = []
    for path, name in zip(made, NAMES, strict=True):
        out.append(path.rename(folder / f'{name}.fits'))
    return out


@pytest.fixture(scope='module')
def lite(images, tmp_path_factory):
    return tied(tmp_path_factory.mktemp('lite'), images)


numbers = itertools.count()


@pytest.fixture(scope='module', params=['C.UTF-8', 'a dictionary'])
def pg(request, postgres, images, tmp_path_factory):
    "The same archive in PostgreSQL, filled backwards; once where text is ordered as in a dictionary"
    name = f'order_{next(numbers)}'
    locale = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" if 'dictionary' in request.param else ''
    with postgres.connect() as c:
        c.execute(f'CREATE DATABASE {name} TEMPLATE template0 {locale}')
    archive = tied(tmp_path_factory.mktemp('pg'), images, postgres.url(name), order=-1)
    if locale:
        with archive.session() as s:
            keys = s.scalars(
                select(Observation.observation_id).order_by(Observation.observation_id)
            )
            assert list(keys) != sorted(archive.observations()['observation_key'])
    yield archive
    archive.registry.engine.dispose()
    with postgres.connect() as c:
        c.execute(f'DROP DATABASE {name} WITH (FORCE)')


def plan(archive, **question):
    params = dict(confidence_threshold=0.5, quality_score_threshold=None) | question
    params = ad.TrainingDataCollectionParams(**params)
    return ad.TrainingDataCollector(archive).plan(params, progress=False)


def all_of(plan):
    "Everything that a plan says, as text"
    parts = [plan.plan_hash, str(plan).rpartition('to read')[0], plan.shortfall, list(plan.sizes)]
    tables = [table.to_json(double_precision=12) for table in (plan.samples, plan.ledger)]
    return [*map(str, parts), *tables, plan.filters.to_json()]


@pytest.fixture(scope='module')
def expected(lite):
    "What each question is answered where rows come as SQLite has them"
    return {name: all_of(plan(lite, **question)) for name, question in QUESTIONS.items()}


# Plans


@pytest.mark.parametrize('name', QUESTIONS)
@pytest.mark.parametrize('seed', [1, 2])
def test_a_plan_is_the_same_when_rows_come_shuffled(lite, expected, name, seed):
    with shuffled_rows(lite, seed) as seen:
        again = all_of(plan(lite, **QUESTIONS[name]))
    assert len(seen) > 5
    assert again == expected[name]


@pytest.mark.parametrize('name', QUESTIONS)
def test_a_plan_is_the_same_on_postgresql(pg, expected, name):
    assert all_of(plan(pg, **QUESTIONS[name])) == expected[name]
    with shuffled_rows(pg, 0):
        assert all_of(plan(pg, **QUESTIONS[name])) == expected[name]


def test_the_ties_are_there(lite):
    "Without ties these tests would show nothing"
    lost = plan(lite, **QUESTIONS['all there is, with losses']).ledger
    assert {'label_unknown', 'ambiguous_image'} <= set(lost['reason'])
    assert lost['uri'].nunique() > 3
    assert set(lost['reason']) & {'duplicate', 'conflicting_labels'}
    share = plan(lite, **QUESTIONS['a limit that cuts ties']).samples
    of_kind = share[share['kind'] == 'random_sky'].groupby('observation_key').size()
    assert of_kind.nunique() > 1  # Some image gave one more than others of its size


def test_shuffling_shuffles(lite):
    query = select(Detection.id)
    with lite.session() as s:
        plain = columns(s, query)['id'].tolist()
    with shuffled_rows(lite, 1), lite.session() as s:
        one, two = (columns(s, query)['id'].tolist() for _ in 'ab')
    assert one != plain != two != one
    assert sorted(one) == sorted(plain) == sorted(two)


# Versions, and what archives list


def version(archive, name='random-sky', **kw):
    question = QUESTIONS['a limit that cuts ties']
    dataset = plan(archive, **question).build(
        name, patch_size=16, progress=False, probe=False, **kw
    )
    samples = dataset.samples.drop(columns=[c for c in dataset.samples if c.endswith('_uri')])
    facts = ('content_hash', 'plan_hash', 'split', 'audit', 'normalisation', 'quality_score')
    manifest = {key: dataset.manifest[key] for key in facts}
    return samples.to_json(), dataset.ledger.to_json(), canonical_json(manifest)


def test_a_version_has_one_hash_whatever_the_order(lite, pg):
    expected = version(lite)
    assert version(pg) == expected
    with shuffled_rows(lite, 4):
        assert version(lite, 'shuffled') == expected


def test_an_archive_lists_the_same_rows_in_the_same_order(lite, pg):
    def listed(archive):
        with archive.session() as s:
            keys = linkable_images(s)['key'].tolist()
            surveys = [survey.name for survey in find_surveys(s, ['toy'])]
        tables = [archive.observations(), archive.detections()]
        return (
            [table.to_json(date_format='iso', default_handler=str) for table in tables],
            keys,
            surveys,
        )

    expected = listed(lite)
    assert listed(pg) == expected
    for archive in (lite, pg):
        with shuffled_rows(archive, 5):
            assert listed(archive) == expected
    for keys in (lite.observations()['observation_key'].tolist(), expected[1]):
        assert keys == sorted(keys)  # Not by ids, which another registry may have given otherwise


def test_names_that_differ_in_case_give_the_same_survey_everywhere(registry_url, tmp_path):
    archive = ad.open_archive(registry_url, storage=str(tmp_path / 's'), home=tmp_path)
    with archive.session() as s:
        s.add_all([Survey(name=name) for name in ('ztf', 'ZTF', 'Ztf')])
    with archive.session() as s:
        assert get_or_create_survey(s, 'zTF').name == 'ZTF'
        assert [survey.name for survey in find_surveys(s, ['ZTF'])] == ['ZTF', 'Ztf', 'ztf']


# Events of one moment


def test_events_of_one_moment_count_alike_in_any_order():
    "A validator who said two things at once: the more careful reading counts, not the last row"
    detections = pd.DataFrame(dict(id=['a'], status=[None], is_validated=False, human_label=None))
    detections = detections.assign(detection_type='unknown')
    words = ['LOW', 'EXPERT', None, 'HIGH']
    events = pd.DataFrame(
        dict(
            detection_id='a',
            is_valid=[True, True, False, False],
            label=['star', 'star', 'ghost', 'ghost'],
            confidence_level=words,
            validator_id=['rule:a', 'rule:a', 'rule:b', 'rule:b'],
            created_at='2026-01-01T00:00:00',
        )
    )
    label = effective_labels(detections, events)
    for rows in itertools.permutations(range(4)):
        again = effective_labels(detections, events.iloc[list(rows)])
        pd.testing.assert_frame_equal(again, label)
    assert label['label'].tolist() == [1]  # An expert against a high level


def test_labels_of_today_do_not_depend_on_the_order(lite):
    dataset = plan(lite).build('labels', patch_size=16, progress=False, probe=False)
    expected = labels_now(dataset)
    for seed in range(3):
        with shuffled_rows(lite, seed):
            pd.testing.assert_frame_equal(labels_now(dataset), expected)


# What is written: confirmations and links


def two_bands(home, images, order):
    "The same fields in two bands and of two surveys, taken in in some order"
    archive = ad.open_archive(f'sqlite:///{home / "r.db"}', storage=str(home / 's'), home=home)
    archive.add_fits(images[::order], facts=_facts_of, show=False)
    return archive


def _facts_of(uri):
    stem = Path(uri).stem
    return dict(survey='one' if '-1-' in stem else 'two', band=stem.rpartition('-')[2])


@pytest.fixture(scope='module')
def in_bands(tmp_path_factory):
    from astropy.io import fits

    folder = tmp_path_factory.mktemp('bands')
    field = write_images(folder / 'made', n=1, side=100)[0]
    paths = []
    for survey, band, day in itertools.product((1, 2), 'gr', (0, 1)):
        with fits.open(field) as hdul:
            hdul[0].header['MJD-AVG'] += day
            hdul[0].data = hdul[0].data + np.float32(survey + ord(band) + day)
            path = folder / f'f{day}-{survey}-{band}.fits'
            hdul.writeto(path)
        paths.append(path)
    return paths


def test_links_and_confirmations_are_the_same_in_any_order(in_bands, tmp_path):
    told = []
    for seed in range(3):
        archive = two_bands(tmp_path / str(seed), in_bands, 1)
        with shuffled_rows(archive, seed):
            report = link_bands(archive, ['g', 'r'])
        with archive.session() as s:
            events = select(ValidationEvent.id, ValidationEvent.notes).order_by(ValidationEvent.id)
            links = select(Image.id, Image.uri, Image.role).order_by(Image.id)
            told.append([report.to_json(), s.execute(events).all(), s.execute(links).all()])
            assert s.scalar(select(func.count()).select_from(Candidate)) is not None
    assert told[0] == told[1] == told[2]
