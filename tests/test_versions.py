"Versions over time: found, compared, deleted with a tombstone, grown without moving a sample, and with a test that counts who looks."

import json
import multiprocessing
import os
import uuid

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import func, select
from test_datasets import plan_of, toy, write_images

import astrid_data as ad
from astrid_data.core import BadInput, Conflict, NotFound, canonical_json, stable_uuid, utc_from_mjd
from astrid_data.datasets import catalog, publish
from astrid_data.datasets.dataset import Dataset
from astrid_data.registry.tables import (
    QualityRow,
    SampleRow,
    SplitOpening,
    TrainingDataset,
    TrainingSample,
    VersionHead,
    VersionRow,
    bulk_insert,
    to_json,
)

quick = dict(progress=False, probe=False)
pytestmark = pytest.mark.filterwarnings('ignore:.*asked for is')


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    return toy(tmp_path_factory.mktemp('versions'))


# The locked test


def test_every_look_at_the_test_labels_is_counted(registry_url, tmp_path):
    archive = toy(tmp_path, registry_url)
    ds = plan_of(archive).build('locked', patch_size=16, **quick)
    assert len(ds.test_openings) == 0
    labels = ds.open_test('final score', who='ada')
    np.testing.assert_array_equal(labels, ds.samples['label'][ds.samples['split'] == 'test'])
    ad.open_dataset(archive, 'locked').open_test()
    seen = ad.open_dataset(archive, 'locked@v1').test_openings
    assert (
        seen['who'].tolist()[0] == 'ada'
        and seen['purpose'].fillna('').tolist() == ['final score', '']
        and seen['created_at'].is_monotonic_increasing
        and seen['created_at'].dt.tz is not None
    )
    with archive.session() as s:
        assert {str(o.dataset_id) for o in s.scalars(select(SplitOpening))} == {ds.id}
    alone = Dataset(ds.folder)
    alone.open_test('from the folder')
    assert len(alone.test_openings) == 1 and len(ds.test_openings) == 3 and ds.verify() is ds
    record = ds.folder / 'openings.jsonl'
    record.unlink()
    record.symlink_to(tmp_path / 'nowhere' / 'x')  # As good as a disk that is full, also for root
    with pytest.raises(Conflict, match='can not be written'):
        alone.open_test()
    record.unlink()
    record.mkdir()
    with pytest.raises(NotFound, match='is no file; restore it'):
        alone.open_test()


def test_a_version_whose_audit_failed_is_not_handed_out(archive, tmp_path):
    ds = plan_of(archive).build('gated', patch_size=16, **quick)
    assert ds.check_leaks() == ds.audit.verdict != 'fail'
    ds.manifest['audit'] |= dict(verdict='fail', reasons=['3 objects are in more than one split'])
    with pytest.raises(Conflict, match='gated@v1 leaks.*3 objects'):
        ds.check_leaks()
    with pytest.warns(UserWarning, match='3 objects'):
        assert ds.check_leaks(allow=True) == 'fail'


# Into the registry


def plain_row(row, i, manifest):
    "The row of `training_samples` of one sample, made the plain way: the oracle of the columns"
    half, side = manifest['patch_size'] // 2, manifest['patch_size']
    shard_rows = manifest['shards'][0]['rows']
    home = f'datasets/{manifest["name"]}/v{manifest["version"]}'
    place = f'{i // shard_rows:05d}.npy#{i % shard_rows}'
    labels = dict(
        anomaly_type=row['class_name'],
        confidence=row['label_confidence'],
        validated=row['n_label_events'] > 0,
        is_anomaly=row['label'] == 1,
        pixel_coords=[row['x0'] + half + row['offset_x'], row['y0'] + half + row['offset_y']],
        source=row['label_source'],
    )
    mjd = None if pd.isna(row['mjd']) else utc_from_mjd(row['mjd']).isoformat()
    same = ('survey', 'ra', 'dec', 'kind', 'origin', 'split', 'sample_key')
    metadata = {k: row[k] for k in same} | dict(
        filter_band=row['band'],
        exposure_time=row['exposure_s'],
        observation_time=mjd,
        patch_size=[side, side],
        detection_type=row['class_name'],
        channels=manifest['channels'],
    )
    ids = {
        name: None if pd.isna(row[name]) else uuid.UUID(str(row[name]))
        for name in ('observation_id', 'detection_id')
    }
    return dict(
        id=stable_uuid('sample', manifest['id'], row['sample_key']),
        dataset_id=uuid.UUID(manifest['id']),
        **ids,
        image_path=f'{home}/patches-{place}',
        mask_path=f'{home}/targets-{place}',
        labels=json.loads(canonical_json(labels)),
        metadata_=json.loads(canonical_json(metadata)),
    )


def awkward_samples(ds):
    "Samples of a version with all kinds of cells"
    table = ds.samples.copy().astype(dict(class_name=object, band=object, ra=float))
    words = ['"quoted" 100 %s', 'grün\n\t\\', None, float('nan'), 'true', '1']
    table['class_name'] = [words[i % len(words)] for i in range(len(table))]
    numbers = [-0.0, 1e-300, 0.1 + 0.2, 359.99999999999994, np.nan, 5.0]
    for k, name in enumerate(('ra', 'mjd', 'exposure_s', 'label_confidence', 'offset_x')):
        table[name] = [numbers[(i + k) % len(numbers)] for i in range(len(table))]
    table['mjd'] = table['mjd'].abs() % 60000
    table.loc[::2, 'detection_id'] = None
    return table


def test_rows_made_by_columns_are_those_made_one_by_one(archive):
    ds = plan_of(archive).build('columns', patch_size=16, **quick)
    for table in (ds.samples, awkward_samples(ds), ds.samples[:0]):
        rows = [plain_row(r, i, ds.manifest) for i, r in enumerate(table.to_dict('records'))]
        parts = [(3, table[3:]), (0, table[:3])]
        for first, part in parts:
            made = publish.sample_columns(part, ds.manifest, first)
            for name, values in made.items():
                wanted = [row[name] for row in rows[first : first + len(part)]]
                if name in ('labels', 'metadata_'):
                    wanted = [to_json(one) for one in wanted]
                if name == 'id' or name.endswith('_id'):
                    wanted = [one if one is None else one.hex for one in wanted]
                assert values == wanted, name


OF_VERSIONS = (SampleRow, TrainingSample, QualityRow, VersionHead, VersionRow, TrainingDataset)


def stored_rows(archive):
    "All that the registry holds of versions, by table"
    with archive.session() as s:
        return {
            table: sorted(
                repr([getattr(row, a.key) for a in table.__mapper__.column_attrs])
                for row in s.scalars(select(table))
            )
            for table in OF_VERSIONS
        }


def without_times(rows):
    "The same rows without the moments at which they were written"
    return {
        table: [row.split('datetime.datetime')[0] for row in some] for table, some in rows.items()
    }


def test_a_version_of_many_chunks_is_stored_as_that_of_one(registry_url, tmp_path, monkeypatch):
    archive = toy(tmp_path, registry_url)
    ds = plan_of(archive).build('chunks', patch_size=16, **quick)
    whole = stored_rows(archive)
    plain = [plain_row(r, i, ds.manifest) for i, r in enumerate(ds.samples.to_dict('records'))]
    with archive.session() as s:
        for row in plain:
            stored = s.get(TrainingSample, row['id'])
            assert {name: getattr(stored, name) for name in row} == row
        for table in OF_VERSIONS:
            s.query(table).delete()
    monkeypatch.setattr(publish, '_ROWS_AT_ONCE', 7)
    publish.register_version(archive, ds.folder)
    assert len(ds) > 7 and without_times(stored_rows(archive)) == without_times(whole)


def _register_and_die(url, home, folder, at):
    "Register a version, a few rows at a time, and die as by SIGKILL at the `at`-th insert"
    publish._ROWS_AT_ONCE, insert, calls = 7, publish.insert_columns, []

    def counted(*args):
        calls.append(1)
        if len(calls) == at:
            os._exit(9)
        return insert(*args)

    publish.insert_columns = counted
    publish.register_version(ad.open_archive(url, home=home), folder)


def test_a_kill_between_chunks_leaves_nothing_of_the_version(registry_url, tmp_path):
    archive = toy(tmp_path, registry_url)
    ds = plan_of(archive).build('killed', patch_size=16, **quick)
    with archive.session() as s:
        for table in OF_VERSIONS:
            s.query(table).delete()
    archive.registry.close()
    for at in (2, 5):
        context = multiprocessing.get_context('fork')
        args = (registry_url, tmp_path, ds.folder, at)
        process = context.Process(target=_register_and_die, args=args)
        process.start()
        process.join(60)
        assert process.exitcode == 9
        with archive.session() as s:
            counts = [s.scalar(select(func.count()).select_from(t)) for t in OF_VERSIONS]
        assert counts == [0] * 6
        archive.registry.close()
    publish.register_version(archive, ds.folder)
    assert len(stored_rows(archive)[TrainingSample]) == len(ds)


# Listing and opening


def bare_version(archive, name, version, state='frozen', with_head=True, **manifest):
    "A version in the registry alone"
    id = stable_uuid('bare', name, version)
    counts = dict(train=version, val=1, test=1, buffer=0)
    manifest = dict(
        n_samples=version + 2,
        splits=counts,
        class_counts={},
        created_at=f'2026-01-0{1 + version % 9}T00:00:00+00:00',
        audit=dict(verdict='pass') if version % 2 else None,
    ) | (manifest | dict(deleted=dict(by='ada', reason='old')) if state == 'deleted' else manifest)
    row = dict(
        content_hash='0' * 64, plan_hash='0' * 64, origin='survey', uri='', manifest=manifest
    )
    dataset = dict(collection_params={}, anomaly_ratio=0.5, quality_score=0.0, created_by='ada')
    with archive.session() as s:
        bulk_insert(s, TrainingDataset, [dict(dataset, id=id, name=name)])
        named = dict(dataset_id=id, name=name, version=version, state=state)
        bulk_insert(s, VersionRow, [row | named])
        if with_head:
            bulk_insert(s, VersionHead, [dict(catalog.version_head(manifest), dataset_id=id)])
    return str(id)


@pytest.fixture
def many(registry_url, tmp_path):
    "An archive with versions in its registry alone"
    archive = ad.open_archive(registry_url, home=tmp_path)
    for version in range(1, 12):
        bare_version(archive, 'sky', version, 'deleted' if version in (3, 11) else 'frozen')
    for name in ('sky.2', 'SKY', 'a-b', str(stable_uuid('bare', 'sky', 2)), 'gone'):
        bare_version(archive, name, 1, 'deleted' if name == 'gone' else 'frozen')
    return archive


def listed_plainly(archive):
    "What a list shows, from all manifests: the oracle"
    rows = [row for row in catalog.version_rows(archive) if row['state'] == 'frozen']
    shown = [
        dict(
            address=catalog.address_of(row),
            samples=row['manifest']['n_samples'],
            quality=row['manifest'].get('quality_score'),
            audit=(row['manifest']['audit'] or {}).get('verdict'),
            created_at=row['manifest']['created_at'],
            id=row['dataset_id'],
            order=(row['manifest']['created_at'], row['name'], row['version']),
            **row['manifest']['splits'],
        )
        for row in rows
    ]
    shown.sort(key=lambda row: row.pop('order'), reverse=True)
    return shown


def shown_now(table):
    "The same of a table that people see"
    names = 'address samples quality audit created_at id train val test buffer'.split()
    table = table[names].astype(object)
    return table.where(table.notna(), None).to_dict('records')


def test_a_list_and_a_search_are_what_the_manifests_say(many):
    bare_version(many, 'headless', 4, with_head=False, quality_score=0.75)
    bare_version(many, 'scored', 5, quality_score=0.5)
    plain = listed_plainly(many)
    assert len(plain) == 15
    assert shown_now(ad.list_datasets(many)) == plain
    assert shown_now(ad.datasets.search_datasets(many)) == plain


def without_manifests(archive):
    with archive.session() as s:
        s.query(VersionRow).update(dict(manifest=None))


def test_lists_and_searches_read_no_manifest_of_a_version_with_a_head(many):
    bare_version(many, 'scored', 5, quality_score=0.5)
    without_manifests(many)
    search = ad.datasets.search_datasets
    assert len(ad.list_datasets(many)) == len(search(many, content_hash='00')) == 14
    assert search(many, min_quality=0.4)['address'].tolist() == ['scored@v5']
    assert len(search(many, origin='survey')) == 14 and search(many, origin='mixed').empty


def test_a_search_looks_into_manifests_with_and_without_heads(many):
    said = dict(description='Rainy stars', class_counts=dict(nova=2), survey_counts={'a"b': 3})
    addresses = {bare_version(many, f'head-{h}', 1, with_head=h, **said): h for h in (True, False)}
    search = ad.datasets.search_datasets
    for asked in (('NOVA rainy',), ('',)):
        found = search(many, *asked, survey='A"B')
        assert set(found['id']) == set(addresses)
    assert search(many, 'nova snow').empty and search(many, survey='a').empty
    grave = search(many, 'gone', deleted=True)
    assert grave[['deleted_by', 'deleted_reason']].values.tolist() == [['ada', 'old']]


def test_a_version_whose_manifest_says_little_is_listed_as_unknown(many):
    bare_version(many, 'headless', 4, with_head=False)
    for said in (None, dict(name='of somebody else')):
        with many.session() as s:
            s.query(VersionRow).filter_by(name='headless').update(dict(manifest=said))
        for listed in (ad.list_datasets(many), ad.datasets.search_datasets(many)):
            assert len(listed) == 14
            row = listed.set_index('address').loc['headless@v4']
            assert row[['samples', 'train', 'quality', 'audit', 'created_at']].isna().all()


def test_a_wrong_address_among_many_is_answered_with_the_closest(many):
    for version in range(20, 60):
        bare_version(many, 'galaxies', version)
    with pytest.raises(NotFound) as caught:
        ad.open_dataset(many, 'galxies@v33')
    assert 'galaxies@v33' in str(caught.value) and '53 versions' in str(caught.value)
    assert 'sky' not in str(caught.value) and len(str(caught.value)) < 250
    with pytest.raises(NotFound, match='53 versions, see list_datasets'):
        ad.open_dataset(many, 'zzzzzzzzzzzzzzzz')


def called_in_full(row):
    return row['dataset_id'], catalog.address_of(row), f'{row["name"]}@{row["version"]}'


def plainly_found(rows, text):
    "What an address leads to, found by looking at all rows: the oracle"
    for row in rows:
        if row['state'] == 'deleted' and text in called_in_full(row):
            return 'deleted', row['dataset_id']
    name, _, number = text.partition('@')
    found = [
        row
        for row in rows
        if row['state'] == 'frozen'
        and (
            row['dataset_id'] == text
            or (
                row['name'] == name
                and number in ('', 'latest', f'v{row["version"]}', str(row['version']))
            )
        )
    ]
    newest = max(found, key=lambda row: row['version'], default=None)
    return 'frozen', newest and newest['dataset_id']


def test_an_address_leads_where_looking_at_all_rows_leads(many):
    rows = catalog.version_rows(many)
    names = sorted({row['name'] for row in rows}) + [
        '',
        'sk',
        'sky%',
        'a',
        'nobody',
        '\ud800',
        'a\0',
    ]
    ends = ['', '@', '@latest', '@v2', '@2', '@v02', '@vv2', '@11', '@v3', '@v1', '@v1.5', '@ 2']
    ends += ['@b', '@99999999999999999999', '@-1', '@v', '@٢', '@latest@v2']
    texts = [name + end for name in names for end in ends]
    texts += [row['dataset_id'] for row in rows] + [rows[0]['dataset_id'].upper()]
    for text in texts:
        state, wanted = plainly_found(rows, text)
        if text.endswith('@'):
            with pytest.raises(BadInput, match='no version behind its @'):
                catalog._find_version(many, text)
            continue
        try:
            got = catalog._find_version(many, text)['dataset_id']
        except NotFound as e:
            assert ('was deleted on' in str(e)) == (state == 'deleted'), text
            assert wanted is None or state == 'deleted', text
        else:
            assert (state, wanted) == ('frozen', got), text
        exact = [r for r in rows if text in called_in_full(r)]
        assert {r['dataset_id'] for r in catalog.rows_at(many, text)} == {
            r['dataset_id'] for r in exact
        }


def test_opening_by_name_reads_one_manifest(many, monkeypatch):
    read = []
    real = catalog.version_rows
    monkeypatch.setattr(catalog, 'version_rows', lambda *a: read.append(real(*a)) or read[-1])
    assert catalog._find_version(many, 'sky')['version'] == 10
    assert sum(map(len, read)) == 1
    assert catalog.rows_at(many, 'sky') == [] and len(catalog.rows_at(many, 'sky@v3')) == 1
    assert sum(map(len, read)) == 2


def as_before_heads(archive):
    "Bring a registry back to where versions had no heads"
    with archive.registry.engine.begin() as c:
        for table in ('ad_version_heads', 'ad_files'):
            c.exec_driver_sql(f'DROP TABLE {table}')
        for name in ('uri', 'sha256'):
            c.exec_driver_sql(f'DROP INDEX ix_ad_images_{name}')
        c.exec_driver_sql("UPDATE ad_alembic_version SET version_num = '0002'")


def test_registries_whose_manifests_say_little_are_upgraded(many):
    as_before_heads(many)
    with many.session() as s:
        s.query(VersionRow).update(dict(manifest=dict(name='of somebody else')))
    many.registry.upgrade()
    with many.session() as s:
        assert s.scalar(select(func.count()).select_from(VersionHead)) == 0


def test_registries_of_before_get_the_heads_of_their_versions(many):
    before = ad.list_datasets(many)
    as_before_heads(many)
    many.registry.upgrade()
    with many.session() as s:
        assert s.scalar(select(func.count()).select_from(VersionHead)) == 16
        s.query(VersionRow).update(dict(manifest=None))
    pd.testing.assert_frame_equal(ad.list_datasets(many), before)


# Searching and deleting


def test_searching_goes_by_words_survey_hash_quality_and_origin(archive):
    a = plan_of(archive).build('alpha', patch_size=16, description='Stars for a rainy day', **quick)
    b = plan_of(archive, negatives={}).build(
        'beta', patch_size=16, description='Stars alone', **quick
    )

    def find(*args, **kw):
        return set(ad.datasets.search_datasets(archive, *args, **kw)['address']) & {
            'alpha@v1',
            'beta@v1',
        }

    assert find('stars') == find(survey='TOY') == find(origin='survey') == {'alpha@v1', 'beta@v1'}
    assert find('rainy STARS') == find(content_hash=a.content_hash[:10].upper()) == {'alpha@v1'}
    assert find('rainy', survey='ztf') == find(origin='synthetic') == find(min_quality=1.1) == set()
    assert find(min_quality=a.manifest['quality_score']) >= {'alpha@v1'} and b.manifest[
        'survey_counts'
    ] == {'toy': len(b)}


def test_a_deleted_version_leaves_a_tombstone(registry_url, tmp_path):
    archive = toy(tmp_path, registry_url)
    one = plan_of(archive).build('short', patch_size=16, **quick)
    two = plan_of(archive, negatives={}).build('short', patch_size=16, **quick)
    keys = two.samples['sample_key'].tolist()
    for address in ('short', 'short@latest', 'short@v7', ''):
        with pytest.raises(NotFound, match='say exactly which'):
            ad.delete_dataset(archive, address, 'because')
    with pytest.raises(BadInput, match='why is short@v2'):
        ad.delete_dataset(archive, 'short@v2', ' ')
    ad.delete_dataset(archive, 'short@v2', 'wrong labels', by='ada')
    ad.delete_dataset(archive, two.id, 'another reason')  # Again: what was said first stays
    assert not two.folder.exists() and one.folder.exists()
    for address in ('short@v2', 'short@2', two.id):
        with pytest.raises(
            NotFound,
            match=f'short@v2 .sha256 {two.content_hash[:12]}. was deleted on 20.* by ada: wrong labels',
        ):
            ad.open_dataset(archive, address)
    assert ad.open_dataset(archive, 'short').version == 1 and ad.list_datasets(archive)[
        'address'
    ].tolist() == ['short@v1']
    grave = ad.datasets.search_datasets(archive, 'short', deleted=True)
    assert grave['deleted_reason'].tolist() == ['wrong labels', None] or grave[
        'deleted_reason'
    ].isna().tolist() == [False, True]
    with archive.session() as s:
        assert (
            s.scalar(select(VersionRow.content_hash).where(VersionRow.version == 2))
            == two.content_hash
        )
        assert sorted(s.scalars(select(TrainingDataset.status))) == ['active', 'deleted']
    again = plan_of(archive, negatives={}).build('short', patch_size=16, **quick)
    assert again.address == 'short@v3'  # Its number is not given to another
    assert catalog.earlier_splits(archive, 'short@v2')['sample_key'].tolist() == keys


def test_a_version_deleted_from_a_bucket_is_gone_there_too(s3, tmp_path, monkeypatch):
    for k, v in dict(
        AWS_ACCESS_KEY_ID=s3.key, AWS_SECRET_ACCESS_KEY=s3.secret, AWS_ENDPOINT_URL_S3=s3.endpoint
    ).items():
        monkeypatch.setenv(k, v)
    archive = ad.open_archive(
        f'sqlite:///{tmp_path / "r.db"}', storage='s3://test/graves', home=tmp_path / 'a'
    )
    archive.add_fits(write_images(tmp_path / 'fits', n=2), survey='toy', show=False)
    ds = plan_of(archive, negatives={}, validation_status='any').build(
        'gone', patch_size=16, **quick
    )
    assert list(archive.store.list('datasets/gone/v1/'))
    ad.delete_dataset(archive, ds.address, 'too large')
    assert not list(archive.store.list('datasets/gone/v1/')) and not ds.folder.exists()


# Growing


def test_what_grows_moves_no_old_sample(tmp_path):
    images = write_images(tmp_path / 'fits', n=11)
    archive = toy(tmp_path, images=images[:10])
    one = plan_of(archive, negatives={}).build('grow', patch_size=16, **quick)
    archive.add_fits(images[10:], survey='toy', apply_rules=True, show=False)
    two = plan_of(archive, negatives={}, validation_status='any').build(
        'grow', patch_size=16, **quick
    )
    was, now = (d.samples.set_index('sample_key')['split'] for d in (one, two))
    assert len(two) > len(one) and (now[was.index] == was).all()
    assert two.manifest['split']['previous'] == dict(
        address='grow@v1', content_hash=one.content_hash
    ) and two.manifest['split']['report']['kept_from_before'] == len(one)
    two.open_test('a look')
    page = two.report(tmp_path / 'r.html').read_text()
    assert (
        '<td>splits handed on from</td><td>grow@v1</td>' in page
        and '<td>looks at the test labels</td><td>1</td>' in page
    )
    assert (
        'of grow@v1 that are still here stayed' in (two.folder / 'datasheet.md').read_text()
        and two.rebuild(progress=False).same
    )
    assert (
        plan_of(archive, negatives={}, validation_status='any')
        .build('grow', patch_size=16, **quick)
        .id
        == two.id
    )
    ad.delete_dataset(archive, 'grow@v1', 'to see whether its splits outlive it')
    assert two.rebuild(progress=False).same


def test_the_second_version_has_one_hash_on_either_database(pg_url, tmp_path):
    images, hashes = write_images(tmp_path / 'fits', n=6), {}
    for where, url in (('lite', f'sqlite:///{tmp_path / "r.db"}'), ('pg', pg_url)):
        archive = toy(tmp_path / where, url, images=images[:5], order=1 if where == 'lite' else -1)
        plan_of(archive).build('grow', patch_size=16, **quick)
        archive.add_fits(images[5:], survey='toy', apply_rules=True, show=False)
        two = plan_of(archive, validation_status='any').build('grow', patch_size=16, **quick)
        hashes[where] = (
            two.content_hash,
            two.manifest['split']['previous'],
            two.samples['split'].tolist(),
        )
    assert hashes['lite'] == hashes['pg']


def test_splits_come_from_where_one_says(archive):
    one = plan_of(archive).build('from-a', patch_size=16, **quick)
    other = plan_of(archive).build('from-b', patch_size=16, seed=5, **quick)

    def both(d):
        return d.samples.set_index('sample_key')['split']

    assert (both(one) != both(other)).any()
    taken = plan_of(archive).build(
        'from-b', patch_size=16, seed=5, splits_from='from-a@v1', **quick
    )
    assert (
        taken.version == 2
        and (both(taken) == both(one)).all()
        and taken.manifest['split']['previous']['content_hash'] == one.content_hash
    )
    fresh = plan_of(archive).build('from-a', patch_size=16, splits_from=None, **quick)
    assert 'previous' not in fresh.manifest['split'] and fresh.content_hash == one.content_hash
    assert (
        'previous' not in plan_of(archive).build('from-a', patch_size=12, **quick).manifest['split']
    )  # Larger or smaller patches reach elsewhere
    with pytest.raises(NotFound, match='no version .nowhere@v1'):
        plan_of(archive).build('from-c', patch_size=16, splits_from='nowhere@v1', **quick)


def test_a_version_that_leaks_hands_nothing_on(archive):
    plan = plan_of(archive)
    how = dict(
        patch_size=64, min_valid_fraction=0.1, split_by=dict(by='group', buffer=False), **quick
    )
    with pytest.warns(UserWarning, match='share sky'):
        leaky = plan.build('leaky', **how)
    assert (
        leaky.audit.verdict == 'fail'
        and 'previous' not in plan_of(archive, negatives={}).build('leaky', **how).manifest['split']
    )


def test_a_leak_stops_who_does_not_want_it_also_where_the_version_is_there(archive):
    plan = plan_of(archive)
    split_by = dict(by='group', buffer=False)
    how = dict(patch_size=64, min_valid_fraction=0.1, split_by=split_by, **quick)
    assert plan.build('leaks', **how).audit.verdict == 'fail'
    with pytest.raises(Conflict, match='leaks@v1 is frozen already, but .*share sky'):
        plan.build('leaks', gate='error', **how)


def test_splits_that_somebody_else_made_are_taken_and_audited_all_the_same(archive):
    one = plan_of(archive).build('ours', patch_size=16, **quick)
    table = one.samples[['sample_key']].assign(
        split=['training' if i % 3 else 'test' for i in range(len(one))]
    )
    theirs = plan_of(archive).build('theirs', patch_size=16, split_by=table, **quick)
    assert (
        theirs.samples['split'] == np.where(np.arange(len(one)) % 3, 'train', 'test')
    ).all() and theirs.audit.overlapping_test > 0
    assert (
        theirs.manifest['split']['by'] == 'imported'
        and len(theirs.manifest['split']['sha256']) == 64
        and theirs.rebuild(progress=False).same
    )
    assert (
        plan_of(archive)
        .build('theirs', patch_size=16, split_by=table.sample(frac=1, random_state=0), **quick)
        .id
        == theirs.id
    )
    with pytest.raises(BadInput, match='two columns'):
        plan_of(archive).build('theirs', patch_size=16, split_by=one.samples, **quick)


# Lineage


def test_an_alert_under_a_new_name_follows_its_history(shared_data, registry_url, tmp_path):
    import fastavro

    with open(next((shared_data / 'alerts' / 'raw_avro').glob('*1105522281015015000*')), 'rb') as f:
        packet = next(fastavro.reader(f))
    before = [c['candid'] for c in packet['prv_candidates'] if c.get('candid')]

    def stamps_of(file):
        with open(next((shared_data / 'alerts' / 'raw_avro').glob(f'{file}*')), 'rb') as f:
            alert = next(fastavro.reader(f))
        return {name: alert[name] for name in alert if name.startswith('cutout')}

    # Half a minute of arc away, under another name and with stamps of its own
    def later(k, name, history, stamps):
        c = packet['candidate'] | dict(
            candid=k,
            ra=packet['candidate']['ra'] + 0.01 * (k % 7 + 1),
            jd=packet['candidate']['jd'] + k % 11 + 1,
        )
        history = [dict(candid=h) for h in history]
        return packet | stamps | dict(candid=k, objectId=name, candidate=c, prv_candidates=history)

    archive = ad.open_archive(registry_url, storage=str(tmp_path / 'store'), home=tmp_path)
    archive.add_alerts(
        [
            packet,
            later(1, 'ZTF99new', [before[0], None], stamps_of('pipeline__ok_4p01')),
            later(2, 'ZTF99other', [], stamps_of('fink-broker__ok_3p3')),
        ],
        show=False,
    )
    params = ad.TrainingDataCollectionParams(
        survey_ids=['ztf'],
        confidence_threshold=0,
        channels=('science',),
        negatives={},
        validation_status='any',
        quality_score_threshold=None,
    )
    with archive.session() as s:
        from astrid_data.registry.tables import Detection, add_validation_event

        for d in s.scalars(select(Detection.id)):
            add_validation_event(s, d, 'tester', True, label='nova')
    ds = (
        ad.TrainingDataCollector(archive)
        .plan(params, progress=False)
        .build('lines', patch_size=63, min_valid_fraction=0, allow_empty=True, **quick)
    )
    t = ds.samples.set_index('object_id')
    assert (
        str(before[0]) in t['lineage']['ZTF99new']
        and t['group_id']['ZTF99new']
        == t['group_id'][packet['objectId']]
        != t['group_id']['ZTF99other']
    )
    splits = {t['split']['ZTF99new'], t['split'][packet['objectId']]}
    assert len(splits - {'buffer'}) == 1  # ZTF99other lies beside them


def test_lineage_names_every_file_parent_run_and_labeller(registry_url, tmp_path):
    from astrid_data.registry.tables import TrainingRun

    archive = toy(tmp_path, registry_url)
    plan_of(archive, negatives={}).build('line', patch_size=16, created_by='ada', **quick)
    two = plan_of(archive).build('line', patch_size=16, created_by='ada', **quick)
    with archive.session() as s:
        s.add(
            TrainingRun(
                dataset_id=uuid.UUID(two.id),
                training_params={},
                performance_metrics=dict(auc=0.9),
                status='completed',
            )
        )
    two.open_test('a score')
    g = json.loads(json.dumps(two.lineage(), allow_nan=False))

    def kinds(k):
        return [e for e in g['entity'].values() if e['prov:type'] == k]

    assert {e['ad:sha256'] for e in kinds('ad:Image')} == set(two.samples['image_sha256']) and len(
        kinds('ad:Image')
    ) == 4
    assert {e['ad:address'] for e in kinds('ad:Version')} == {'line@v2', 'line@v1'} and len(
        g['wasDerivedFrom']
    ) == 1
    me = next(e for e in kinds('ad:Version') if e['ad:address'] == 'line@v2')
    assert (
        me['ad:contentHash'] == two.content_hash
        and me['ad:testOpenings'] == 1
        and me['ad:lost'] == two.manifest['dropped']
    )
    assert [
        a['ad:metrics'] for a in g['activity'].values() if a['prov:type'] == 'ad:TrainingRun'
    ] == [dict(auc=0.9)] and g['activity']['ad:build']['ad:parameters'] == two.manifest['params']
    assert {'ad:person/ada', f'ad:astrid_data/{two.manifest["code_version"]}'} <= set(g['agent'])
    assert sum(
        a['ad:samples'] for a in g['agent'].values() if a['prov:type'] == 'ad:Labeller'
    ) == len(two)
    assert pd.Timestamp(g['entity']['ad:labels']['ad:asOf']) <= pd.Timestamp(
        two.manifest['created_at']
    ) + pd.Timedelta('1s')
    nodes = {*g['entity'], *g['activity'], *g['agent']}
    assert all(
        v in nodes
        for rel in set(g) - {'prefix', 'entity', 'activity', 'agent'}
        for r in g[rel].values()
        for v in r.values()
    )
    assert (
        Dataset(two.folder).lineage()['entity'].keys() == g['entity'].keys()
    )  # A folder on its own knows its past


# Differences


def test_distributions_are_compared_as_scipy_does(archive):
    from scipy.stats import ks_2samp

    from astrid_data.datasets.diff import moved_columns

    rng = np.random.default_rng(0)
    a, b = (
        pd.DataFrame(
            dict(
                mjd=rng.normal(m, 1, n),
                snr=rng.integers(0, 5, n).astype(float),
                mag=1.0,
                survey=rng.choice(['x', 'y'], n, p=[p, 1 - p]),
            )
        )
        for m, n, p in ((0, 300, 0.5), (0.4, 170, 0.9))
    )
    b.loc[3:9, 'mjd'] = np.nan
    moved, q = moved_columns(a, b)
    got = moved.set_index('column')['distance']
    for c in ('mjd', 'snr'):
        assert abs(got[c] - ks_2samp(a[c], b[c].dropna()).statistic) < 1e-12
    assert (
        abs(got['survey'] - abs((a['survey'] == 'x').mean() - (b['survey'] == 'x').mean())) < 1e-12
    )
    assert (
        'mag' not in got
        and moved['distance'].is_monotonic_decreasing
        and q['mjd'][0][10] == np.median(a['mjd'])
        and moved_columns(a, a)[0].empty
    )


def test_a_difference_shows_itself(archive):
    one = plan_of(archive).build('seen', patch_size=16, **quick)
    two = plan_of(archive, negatives={}).build('seen', patch_size=16, **quick)
    d = two.diff(one)
    assert 'class_name' in d.moved['column'].tolist() or 'kind' in d.moved['column'].tolist()
    page = d._repr_html_()
    for word in (
        'seen@v1',
        'Samples by split and class',
        'Distributions that moved',
        'Removed',
        'data:image/png',
    ):
        assert word in page
    assert len(d.plot().axes) == 2 and 'data:image' not in one.diff(one)._repr_html_()
    r = one.rebuild(progress=False)
    r.diff.same = False  # As if something had moved: both have one address
    assert 'data:image/png' in r.diff._repr_html_()
