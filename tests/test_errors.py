"What is given wrongly is refused in words: an error of this package that names the thing and says what to do; what is not known is said to be unknown."

import shutil
import warnings
from collections import namedtuple
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from servers import NoServer, s3_server
from sqlalchemy import update
from test_kill import fields

import astrid_data as ad
from astrid_data.core import AstridError, BadInput, Conflict, NotFound
from astrid_data.ingest.archive import UNKNOWN_TIME
from astrid_data.quality.report import check_quality
from astrid_data.registry.tables import Observation
from astrid_data.splits.assign import import_splits, split_samples
from astrid_data.splits.audit import audit_splits
from astrid_data.storage.service import StoreUnreachable

P = ad.TrainingDataCollectionParams
at = SkyCoord(10 * u.deg, 20 * u.deg)


@pytest.mark.parametrize(
    'field, values, says',
    [
        (
            'cone',
            [(10.0, 20.0), ('10', '20', '1'), 'M13', 5, at, (1, 2, 3, 4), {'ra': 1}, (None, 1, 1)],
            'cone is (ra, dec, radius)',
        ),
        (
            'cone',
            [(at, 1), (at, 1 * u.m), (SkyCoord([1, 2] * u.deg, [3, 4] * u.deg), 1 * u.deg)],
            'cone is one SkyCoord and an angle',
        ),
        ('cone', [(10, 91, 1), (10, 0, 0), (np.nan, 0, 1)], 'dec must be within 90 deg'),
        (
            'box',
            [(1, 2, 3), '1,2,3,4', 3, ('a', 2, 3, 4)],
            'box is (ra from, ra to, dec from, dec to)',
        ),
        (
            'polygon',
            ['abc', [('a', 'b')] * 3, [(1, 2), (3, 4), (5,)], 7, [(1, 2), (3, 4)]],
            'polygon is a list of at least three corners',
        ),
        ('moc', [7, {'3': ['x']}], 'moc is a dict'),
        ('survey_ids', [5, [5], {'hst': 1}], 'survey_ids must be text'),
        ('bands', [1.5], 'bands must be text'),
        ('object_ids', [[7]], 'object_ids must be text'),
        ('anomaly_types', [[None]], 'anomaly_types must be text'),
        ('channels', [5, [3]], 'channels must be text'),
        ('channels', [(), None, ('image', 'image')], 'different roles of images'),
        ('bands', [[]], 'leave it None for all'),
        ('date_range', ['2020', 5, {'start': 1}, ('a', 'b', 'c')], 'date_range is a pair'),
        ('date_range', [(1, 2)], '1 is not a time'),
        (
            'confidence_threshold',
            ['0.7', 'high', [0.7], True, np.nan, 1.1],
            'must be a number from 0 to 1, or None for no filter',
        ),
        ('quality_score_threshold', ['x', 7], 'must be a number from 0 to 1'),
        ('max_samples', ['100', 1.5, np.inf, 0, True], 'must be a whole number of at least 1'),
        ('exclusion_arcsec', ['x', [1], -1], 'must be a number of at least 0'),
        ('max_seeing', ['good', np.inf], 'must be a number of at least 0'),
        ('seed', ['x', 1.5, None], 'must be a whole number'),
        ('validation_status', [5, [5]], 'validation_status must be text'),
        ('validation_status', ['nope', None], 'choose from validated'),
        ('negatives', [2, 'rejected', ['rejected']], 'negatives is a dict'),
        ('negatives', [{'sky': 1}, {1: 1}], 'choose from rejected'),
        ('negatives', [{'offset': 'x'}, {'offset': None}], 'must be a number'),
        ('find_sources', ['no', None], 'True or False'),
        ('widened', ['x'], 'a dict that widen() writes'),
    ],
)
def test_a_question_of_wrong_types_names_its_field(field, values, says):
    for v in values:
        with pytest.raises(BadInput) as e:
            P(**{field: v})
        assert says in str(e.value) and field in str(e.value) or 'is not a time' in says, (
            v,
            str(e.value),
        )


def test_right_types_are_left_as_they_are():
    p = P(
        cone=(at, 30 * u.arcmin),
        confidence_threshold=np.float32(0.5),
        max_samples=np.int64(7),
        survey_ids='hst',
        bands={'r', 'g'},
        channels='science',
        negatives={'rejected': None},
    )
    assert (
        p.cone == (10.0, 20.0, 0.5)
        and p.survey_ids == ['hst']
        and p.bands == ['g', 'r']
        and p.channels == ('science',)
    )
    assert P.from_json(p.to_json()).to_json() == p.to_json()


@pytest.mark.parametrize('text', ['{', '[1]', 5, '{"x": 1}'])
def test_stored_parameters_that_are_none(text):
    with pytest.raises(BadInput, match='parameters'):
        P.from_json(text)


# A small archive, and the objects that are handed about ---------------------------------------------------------------


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    home = tmp_path_factory.mktemp('errors')
    places = fields(home / 'fits', 6, 25, 60).assign(good=lambda t: np.arange(len(t)) % 3 > 0)
    a = ad.open_archive(home)
    a.add_fits(sorted((home / 'fits').glob('*.fits')), survey='toy', detect=False, show=False)
    a.add_catalogue(places, 'truth', class_name='label', is_real='good')
    return a


def plan_of(archive, negatives=None, **kw):
    if negatives is None:
        negatives = {'rejected': 1.0}
    return ad.TrainingDataCollector(archive).plan(
        P(confidence_threshold=0.0, quality_score_threshold=None, negatives=negatives, **kw),
        progress=False,
    )


def build(plan, name, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return plan.build(name, patch_size=9, progress=False, probe=False, **kw)


@pytest.fixture(scope='module')
def dataset(archive):
    return build(plan_of(archive), 'mine')


@pytest.mark.parametrize(
    'call, says',
    [
        (
            lambda a, d: ad.TrainingDataCollector('home'),
            "'home' is not an archive: open one with open_archive",
        ),
        (
            lambda a, d: ad.TrainingDataCollector(a).plan({'survey_ids': ['toy']}),
            'plan(survey_ids=',
        ),
        (lambda a, d: ad.TrainingDataCollector(a).plan(surveys=['toy']), 'there are survey_ids'),
        (lambda a, d: ad.open_dataset('mine'), "as open_dataset(archive, 'mine')"),
        (lambda a, d: ad.open_dataset('mine', a), 'it comes second, as open_dataset(archive'),
        (lambda a, d: ad.open_dataset(a), 'There are: mine@v1'),
        (lambda a, d: ad.open_dataset(a, 'yours'), 'there are: mine@v1'),
        (lambda a, d: ad.list_datasets('mine'), 'not an archive'),
        (lambda a, d: ad.build_dataset('plan', 'x'), "'plan' is not a plan"),
        (lambda a, d: ad.build_dataset(d, 'x'), 'Dataset object is not a plan'),
        (lambda a, d: d.diff('mine@v9'), 'there are: mine@v1'),
        (lambda a, d: d.diff(5), '5 is not a dataset: open one with open_dataset'),
        (lambda a, d: d.diff(None), 'None is not a dataset'),
        (
            lambda a, d: ad.RealDataLoader('mine'),
            "'mine' is not a dataset: open one with open_dataset",
        ),
        (
            lambda a, d: ad.RealDataLoader(d).loaders(batch_size='x', allow_leaks=True),
            "a batch of 'x' samples",
        ),
        (
            lambda a, d: ad.RealDataLoader(d).loaders(batch_size=1.5, allow_leaks=True),
            'a batch of 1.5',
        ),
        (lambda a, d: plan_of(a).build('x', patch_size='9'), "patch_size '9'"),
        (lambda a, d: plan_of(a).build('x', patch_size=9.5), 'patch_size 9.5'),
        (
            lambda a, d: plan_of(a).build('x', unreachable='skip'),
            "unreachable is 'error' or 'ledger'",
        ),
        (lambda a, d: ad.track('mine'), "'mine' is not a dataset: open one with open_dataset"),
        (
            lambda a, d: ad.track(d, archive='home'),
            "'home' is not an archive: open one with open_archive",
        ),
        (lambda a, d: ad.TrainingDatasetManager('home'), "'home' is not an archive"),
        (lambda a, d: a.add_fits(5), '5 is not a path, address or key of a FITS file'),
        (lambda a, d: a.add_fits(['x.fits', None]), 'None is not a path'),
        (lambda a, d: a.add_fits(None), 'None is not a path'),
        (lambda a, d: a.add_catalogue(5, 'x'), '5 is not a table: give a DataFrame'),
        (lambda a, d: a.add_catalogue(None, 'x'), 'None is not a table'),
        (lambda a, d: a.add_catalogue([1], 'x'), '[1] is not a table'),
        (
            lambda a, d: audit_splits('x'),
            "'x' is not a table: give a DataFrame, such as plan.samples",
        ),
        (lambda a, d: audit_splits(d), 'Dataset object is not a table'),
        (lambda a, d: audit_splits(plan_of(a).samples), 'no column split'),
        (
            lambda a, d: audit_splits(d.samples.drop(columns='sample_key')),
            "no column 'sample_key': add it, with a name of its own for each row",
        ),
        (
            lambda a, d: split_samples(d.samples.drop(columns='label')),
            "no column 'label': add it, with 1 for real and 0 for bogus",
        ),
        (
            lambda a, d: split_samples('x'),
            "'x' is not a table: give a DataFrame, such as plan.samples",
        ),
        (lambda a, d: split_samples(None), 'None is not a table'),
        (lambda a, d: import_splits('x', {}), "'x' is not a table"),
        (
            lambda a, d: check_quality('x'),
            "'x' is not a table: give a DataFrame, such as plan.samples",
        ),
        (lambda a, d: check_quality(d), 'Dataset object is not a table'),
        (
            lambda a, d: check_quality(d.samples[['ra', 'dec']]),
            'no column label; they have ra, dec',
        ),
    ],
)
def test_names_and_strangers_where_an_object_is_due(archive, dataset, call, says):
    with pytest.raises(AstridError) as e:
        call(archive, dataset)
    assert says in str(e.value)


def test_a_version_is_compared_with_an_address(dataset):
    assert dataset.diff('mine@v1').same


# What is unknown says so ----------------------------------------------------------------------------------------------


def test_nothing_found_names_channels_and_unknown_times(archive):
    with pytest.raises(NotFound) as e:
        plan_of(archive, channels=('science', 'template'))
    assert 'no_image (science: 0 images with this role, the observation has image)' in str(e.value)
    assert "Try: channels=('image',) takes" in str(e.value)
    with archive.session() as s:
        oid, when = s.query(Observation.id, Observation.observation_time).first()
        s.execute(
            update(Observation).where(Observation.id == oid).values(observation_time=UNKNOWN_TIME)
        )
    try:
        with pytest.raises(NotFound) as e:
            plan_of(archive, date_range=('1970-01-01', '1971-01-01'))
        assert (
            '1858' not in str(e.value)
            and '1 observations of unknown time' in str(e.value)
            and 'observed from 20' in str(e.value)
        )
        known = plan_of(archive, date_range=(None, datetime(2100, 1, 1, tzinfo=UTC)))
        assert str(oid) not in set(
            known.samples['observation_id']
        )  # An unknown time is before nothing
    finally:
        with archive.session() as s:
            s.execute(
                update(Observation).where(Observation.id == oid).values(observation_time=when)
            )


@pytest.mark.parametrize('proxies', ['real bogus', 'real real'])
def test_a_set_of_alerts_says_how_it_is_collected(tmp_path, proxies):
    "By its stamps; without a threshold where there are no scores; with bogus ones for two classes"
    from test_ingest import packet

    archive = ad.open_archive(tmp_path)
    rows = [packet(k) | dict(label_proxy=word) for k, word in enumerate(proxies.split())]
    for row in rows:
        row['candidate'] = row['candidate'] | dict(drb=None, rb=None)
    archive.add_alerts(rows, show=False)
    collector = ad.TrainingDataCollector(archive)

    def asked(**params):
        return collector.plan(P(**params), progress=False)

    with pytest.raises(NotFound, match='Try: confidence_threshold=None takes') as e:
        asked()
    assert 'channels=' not in str(e.value)
    stamps = ('template', 'science', 'difference')
    with pytest.raises(NotFound) as e:
        asked(confidence_threshold=None)
    assert f'Try: channels={stamps} takes' in str(e.value)
    assert 'confidence_threshold' not in str(e.value)
    plan = asked(confidence_threshold=None, channels=stamps)
    one_class = 'the whole set is of one class: no sample is negative; judge detections as bogus'
    assert len(plan.samples) == 2 and (one_class in repr(plan)) == (proxies == 'real real')


def test_one_class_and_empty_splits_warn_and_stay_written(archive):
    plan = plan_of(archive, negatives={})
    words = 'the whole set is of one class: no sample is negative; ask for some, such as negatives='
    assert words in repr(plan)
    with pytest.warns(UserWarning, match='other samples: one label only'):
        d = plan.build('positives', patch_size=9, progress=False, probe=False)
    assert 'one label only' in repr(d)
    with pytest.warns(UserWarning, match='the test split is empty'):
        d = plan_of(archive).build(
            'untested', patch_size=9, fractions=(0.8, 0.2, 0), progress=False, probe=False
        )
    assert 'warning: the test split is empty' in repr(ad.open_dataset(archive, 'untested'))
    assert not any(
        w in repr(ad.open_dataset(archive, 'mine')) for w in ('is empty', 'one label only')
    )  # Of both classes, in three splits


# Room and reach -------------------------------------------------------------------------------------------------------


def test_the_disk_is_looked_at_first(archive, monkeypatch):
    plan, free = plan_of(archive), namedtuple('usage', 'total used free')
    monkeypatch.setattr(
        shutil, 'disk_usage', lambda path: free(10**9, 0, plan.bytes_on_disk(300) - 1)
    )
    with pytest.raises(Conflict, match='patches of 300×300 take up to'):
        plan.build('large', patch_size=300, progress=False)
    assert not (archive.datasets_dir / 'large' / 'v1').exists()


def test_the_estimate_of_a_version_is_near_and_not_below(archive, dataset):
    took, said = (
        sum(p.stat().st_size for p in dataset.folder.iterdir()),
        plan_of(archive).bytes_on_disk(9),
    )
    pixels = len(dataset) * 9 * 9 * 6
    assert (
        pixels < took
        and pixels < said
        and f'{plan_of(archive).bytes_on_disk() / 1e6:.1f} MB on disk' in repr(plan_of(archive))
    )


def test_a_store_that_goes_away_stops_the_build_and_freezes_nothing(tmp_path, monkeypatch):
    "A real S3 server is stopped between the plan and the pixels; when it is there again the same call goes on and reaches the same hash"
    places = fields(tmp_path / 'fits', 4, 25, 60).assign(good=lambda t: np.arange(len(t)) % 2 == 0)
    files, kw = sorted((tmp_path / 'fits').glob('*.fits')), dict(storage='s3://test/store')
    monkeypatch.setenv('ASTRID_DATA_QUIET', '1')

    def reach(server, home):
        for k, v in dict(
            AWS_ACCESS_KEY_ID=server.key,
            AWS_SECRET_ACCESS_KEY=server.secret,
            AWS_ENDPOINT_URL_S3=server.endpoint,
        ).items():
            monkeypatch.setenv(k, v)
        return ad.open_archive(f'sqlite:///{tmp_path / "registry.db"}', home=tmp_path / home, **kw)

    def fill(server):
        for p in files:
            server.client().upload_file(str(p), 'test', f'images/{p.name}')

    try:
        with s3_server() as server:
            fill(server)
            owner = reach(server, 'owner')
            owner.add_fits(
                [f's3://test/images/{p.name}' for p in files],
                survey='toy',
                detect=False,
                show=False,
            )
            owner.add_catalogue(places, 'truth', class_name='label', is_real='good')
            late = reach(server, 'late')  # With a cache of its own, so that it must ask the server
            plan = plan_of(late)
            monkeypatch.setattr('astrid_data.datasets.staging.CHUNK_ROWS', 20)
            late.open(
                plan.samples['image_uri'].min()
            )  # The first image is here when the server goes
    except NoServer as e:
        pytest.skip(f'S3: {e}')
    late.store.fresh_s = 3600.0
    with pytest.raises(StoreUnreachable, match='nothing was frozen') as e:
        build(plan, 'far')
    assert 'unreachable=' in str(e.value) and 'the same call goes on' in str(e.value)
    assert not list((late.datasets_dir / 'far').glob('v*')) and not len(ad.list_datasets(late))
    kept = list((late.datasets_dir / 'far').glob('.building-*/kept-*.parquet'))
    with s3_server() as server:
        fill(server)
        again = reach(server, 'late')
        done = build(plan_of(again), 'far')
        whole = build(plan_of(reach(server, 'other')), 'whole')
    assert (
        'unreachable' not in done.manifest['dropped']
        and done.content_hash == whole.content_hash
        and len(done) == len(whole)
    )
    assert len(kept) == 1  # The image that was here was cut, and not cut again


@pytest.fixture
def silent(monkeypatch):
    "Addresses that do not answer, from the moment when they are put in"
    from astrid_data.storage import resolve, silence

    addresses, real = set(), resolve.resolve_uri

    def away(uri, *a, **kw):
        if uri in addresses:
            raise StoreUnreachable(f'{uri} did not answer')
        return real(uri, *a, **kw)

    for module in (resolve, silence):
        monkeypatch.setattr(module, 'resolve_uri', away)
    return addresses


def test_one_image_that_never_answers_is_lost_and_the_build_goes_on(archive, silent):
    plan = plan_of(archive)
    plan.shortfall = dict(random_sky=dict(asked=9, got=4, reason='images: unreachable (1)'))
    gone = plan.samples['image_uri'].iloc[0]
    silent.add(gone)
    d = build(plan, 'halved')
    on_it = plan.samples['image_uri'] == gone
    assert d.manifest['dropped']['unreachable'] == on_it.sum()
    assert gone not in set(d.samples['image_uri'])
    lost = d.ledger[d.ledger['reason'] == 'unreachable']
    assert set(lost['sample_key']) == set(plan.samples['sample_key'][on_it])
    assert lost['detail'].str.contains('did not answer').all()


def test_who_insists_gets_a_version_where_the_store_is_away(archive, silent):
    plan = plan_of(archive)
    uris = plan.samples['image_uri'].unique()
    held = build(plan, 'held')
    silent.update(uris)
    with pytest.raises(StoreUnreachable, match='nothing was frozen'):
        build(plan, 'insisted')
    silent.remove(uris[0])
    d = build(plan, 'insisted', unreachable='ledger')
    assert set(d.samples['image_uri']) == {uris[0]} and len(d) < len(held)


# Over HTTP and in the shell -------------------------------------------------------------------------------------------

GONE = '/training/datasets/00000000-0000-0000-0000-000000000001'


@pytest.mark.parametrize(
    'method, path, body, status, says',
    [
        ('get', '/training/datasets?limit=x', None, 422, 'limit: Input should be a valid integer'),
        ('get', '/training/datasets?offset=99999999999999999999999', None, 422, 'offset'),
        ('get', '/training/datasets?min_quality_score=nan', None, 422, 'min_quality_score'),
        ('get', '/training/datasets/5', None, 422, "'5' is neither an id nor a name"),
        ('get', GONE, None, 404, 'GET /training/datasets lists them'),
        ('post', GONE + '/load', None, 404, 'no dataset'),
        ('get', GONE + '/quality', None, 404, 'no training set'),
        ('get', '/nope', None, 404, 'Not Found'),
        ('post', '/training/datasets/collect', {}, 422, 'name: Field required'),
        ('post', '/training/datasets/collect', dict(name='../x'), 422, 'cannot name a dataset'),
        (
            'post',
            '/training/datasets/collect',
            dict(name='x', survey_ids=['nope']),
            404,
            'the registry knows toy',
        ),
        (
            'post',
            '/training/datasets/collect',
            dict(name='x', validation_status='nope'),
            422,
            'choose from validated',
        ),
        (
            'post',
            '/training/datasets/collect',
            dict(name='x', confidence_threshold='high'),
            422,
            'confidence_threshold',
        ),
        ('post', '/training/datasets/collect', dict(name='x', foo=1), 422, 'foo'),
        (
            'post',
            '/training/datasets/collect',
            dict(name='x', start='2021-01-01', end='2020-01-01'),
            422,
            'wrong way round',
        ),
        ('post', '/training/datasets/collect', dict(name='x', survey_ids=[]), 422, 'empty list'),
    ],
)
def test_wrong_requests_are_answered_in_words(archive, method, path, body, status, says):
    from fastapi.testclient import TestClient

    key = ad.api.create_api_key(archive, 'me', ['read:data', 'manage:operations'])
    client = TestClient(ad.create_app(archive), raise_server_exceptions=False)
    r = client.request(method, path, headers={'X-API-Key': key}, json=body)
    assert r.status_code == status and says in r.json()['error']['message'], r.text


@pytest.mark.parametrize(
    'argv, says',
    [
        (['datasets', '--home', __file__], 'is a file'),
        (['datasets', '--database', 'nosuch://x'], 'use SQLite or PostgreSQL'),
        (['datasets', '--storage', 'ftp://x'], 'a store is a folder'),
        (['report', 'nope'], 'there are'),
        (['report', 'mine', '--to', '/dev/null/y.html'], '/dev/null'),
        (['collect', '--start', 'yesterday'], 'is not a time'),
        (['collect', '--confidence', '7'], 'from 0 to 1'),
        (['collect', '--survey', 'nope'], 'the registry knows'),
        (['collect', '--survey'], 'empty list'),
        (['collect', '--max-samples', '0'], 'at least 1'),
        (['collect', '--quality-score-threshold', '7'], 'quality_score_threshold'),
        (['collect', '--start', '2021-01-01', '--end', '2020-01-01'], 'wrong way round'),
        (
            ['collect', '--confidence', '0', '--max-samples', '5', '--name', '../x'],
            'cannot name a dataset',
        ),
        (['ingest'], 'nothing to ingest'),
        (['ingest', 'no.fits'], 'missing_file'),
        (['key', 'me', 'root'], 'choose among'),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(archive, dataset, capsys, argv, says):
    from astrid_data.cli import main

    assert main([*argv, *([] if '--home' in argv else ['--home', str(archive.home)])]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith('astrid-data: ') and says in said and '\n' not in said, said


def test_the_command_freezes_what_scores_as_much_as_was_asked_for(archive, capsys):
    from astrid_data.cli import main

    def collect(name, *more):
        return main(
            [
                'collect',
                '--confidence',
                '0',
                '--patch-size',
                '9',
                '--name',
                name,
                '--home',
                str(archive.home),
                *more,
            ]
        )

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert (
            collect('strict', '--quality-score-threshold', '1') == 1
            and 'quality_score is' in capsys.readouterr().err
        )
        assert collect('mild', '--quality-score-threshold', '0.01') == 0
    assert ad.open_dataset(archive, 'mild').manifest['params']['collection'][
        'quality_score_threshold'
    ] == 0.01 and 'strict' not in set(ad.list_datasets(archive)['name'])


def test_the_report_speaks_plainly(dataset):
    from astrid_data.datasets.report import splits_section

    page = splits_section(dataset)
    assert (
        'objects in more than one split' in page
        and 'objects_shared' not in page
        and 'near_duplicates' not in page
    )
    near = dataset.manifest['audit']['nearest_train_arcsec']
    assert f'{near:.3g}' in page and repr(near) not in page


@pytest.mark.parametrize(
    'slip', ['postgres//bad:word', 'postgresql:/word', 'sqlite:/word', 'SQLite+pysqlite:word']
)
def test_a_misspelt_address_of_a_database_begins_no_archive(slip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match='with ://') as said:
        ad.open_archive(slip)
    assert 'word' not in str(said.value).replace('user:password', '')
    assert list(tmp_path.iterdir()) == []
    assert ad.open_archive('./sqlite:').home.name == 'sqlite:'  # A folder may be called so


@pytest.mark.parametrize(
    'words, meant',
    [
        ('colect', "'colect' is no command: is 'collect' meant?"),
        ('--debug dataset', "is 'datasets' meant?"),
        ('ingest alert x', "'alert' is no kind of ingest: is 'alerts' meant?"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_nearest(words, meant, tmp_path, capsys):
    from astrid_data.cli import main

    with pytest.raises(SystemExit, match='2'):
        main([*words.split(), '--home', str(tmp_path / 'home')])
    said = capsys.readouterr().err.strip()
    assert said.endswith(meant) and '\n' not in said
    assert not (tmp_path / 'home').exists()


def test_a_file_that_is_called_nearly_as_a_kind_is_a_file(tmp_path, monkeypatch, capsys):
    from astrid_data.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'alert').write_text('no image')
    main(['ingest', 'alert', '--home', str(tmp_path / 'home')])
    assert 'kind of ingest' not in capsys.readouterr().err
