"""What changes an archive is killed and done again, and comes to the end of an undisturbed one.

These are a few kills. `make kills N=60` kills every verb at random moments, and `make kills N=aimed`
before every single change of a file, statement and commit.
"""

import json
import os
import time
from zlib import crc32

import numpy as np
import pytest
from astropy.io import fits
from killing import Case, Servers, load_all, web_of_files
from servers import NoServer

from astrid_data.core import _this_host, write_atomic
from astrid_data.datasets.staging import Staging

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Cases that were made already, by verb and place"
    load_all()
    return {}


@pytest.fixture(scope='module')
def web(tmp_path_factory):
    "A server of files over TLS"
    try:
        with web_of_files(tmp_path_factory.mktemp('tls')) as url:
            yield url
    except NoServer as problem:
        pytest.skip(str(problem))


@pytest.fixture
def case(made, tmp_path_factory, request, monkeypatch):
    "A function that makes a case, or gives one that was made"

    def give(name, where='sqlite'):
        servers = Servers()
        if where == 'postgresql':
            servers.postgres = request.getfixturevalue('postgres')
        if name == 'REST ingest':
            servers.web = request.getfixturevalue('web')
        if where == 's3':
            s3 = servers.s3 = request.getfixturevalue('s3')
            monkeypatch.setenv('AWS_ACCESS_KEY_ID', s3.key)
            monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', s3.secret)
            monkeypatch.setenv('AWS_ENDPOINT_URL_S3', s3.endpoint)
        if (name, where) not in made:
            folder = tmp_path_factory.getbasetemp() / 'kills'
            made[name, where] = Case(name, where, folder, servers, check_again=name == 'add_fits')
        return made[name, where]

    return give


def some_points(case, n, *kinds):
    "Points of a verb, drawn by its name"
    rng = np.random.default_rng(crc32(case.name.encode()))
    among = [k for k, what in enumerate(case.points, 1) if not kinds or what in kinds]
    return rng.choice(among, n, replace=False).tolist()


@pytest.mark.parametrize(
    'name, where',
    [
        ('add_fits', 'sqlite'),
        ('add_alerts', 'postgresql'),
        ('add_stamps', 'sqlite'),
        ('plan.build', 'sqlite'),
        ('publish', 's3'),
    ],
)
def test_killed_and_done_again(case, name, where):
    case = case(name, where)
    kill = some_points(case, 1, 'commit')
    rerun = some_points(case, 1) if name == 'add_fits' else []
    assert case.killed_at(*kill, *rerun) == []


@pytest.mark.parametrize('name', ['REST ingest', 'REST score'])
def test_a_server_that_is_killed_leaves_each_job_to_the_next(case, name):
    "Registry, store and the table of jobs are those of a server that nobody killed"
    case = case(name)
    jobs = list(map(json.loads, case.wanted['ad_ingest_jobs']))
    assert [job['status'] for job in jobs] == ['done'] * (3 if name == 'REST ingest' else 1)
    if name == 'REST ingest':  # Each took something in
        assert [job['result']['answer']['there'] for job in jobs] == [1, 1, 1]
    early, late = len(case.points) // 10, len(case.points) - 3
    for moment in (early, *some_points(case, 2, 'statement', 'os.mkdir', 'open', 'fsync'), late):
        assert case.killed_at(moment) == [], (moment, case.points[moment - 1])


@pytest.mark.parametrize('whom', ['us', 'worker', 'both'])
def test_who_reads_apart_is_killed_and_nobody_is_left_behind(case, whom):
    "The caller, the process that reads for it, or both; the same call again ends as undisturbed"
    case = case('add_stamps, isolated')
    for moment in some_points(case, 2, 'worker answers'):
        assert case.killed_at(moment, whom=whom) == [], moment


def test_two_at_once(case):
    assert case('add_fits').two_at_once() == []


def test_what_the_disk_had_not_got_when_the_power_went(case):
    case = case('plan.build')
    assert case.power_cut(None, database_too=True) == []  # All was done, and the log is lost


def test_workers_that_outlive_a_build_do_not_lock_it(case):
    case = case('plan.build')
    late = [k for k, what in enumerate(case.points, 1) if what == 'fsync'][5]
    assert case.with_verb('plan.build, workers').killed_at(late) == []


def test_the_harness_sees_what_is_lost(case, monkeypatch):
    case = case('add_fits')
    monkeypatch.setattr('astrid_data.ingest.fits.confirm_across', lambda *a: None)
    assert any('validation_events' in line for line in case.faults(case.fresh()))


def test_a_lock_file_that_is_left_locks_nothing(case):
    case = case('plan.build')
    place = case.fresh()
    lock = place.home / 'datasets' / 'sky' / '.lock'
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text('1')  # Of a process that is gone, or of another program
    assert case.faults(place) == []


def test_temporary_files_of_the_killed_are_not_frozen(tmp_path):
    version = tmp_path / 'version'
    version.mkdir()
    for name in ('.tmp-manifest.json-1-1', '.tmp-abc'):
        (version / name).touch()
    Staging(tmp_path, dict(patches=('<f4', (1, 3, 3))), 5)
    assert list(version.iterdir()) == []


def test_a_checkpoint_clears_what_a_killed_writer_left(tmp_path):
    path, host = tmp_path / 'fit.pt', _this_host()
    nobody = 999_999_999  # No process has that number
    dead, alive, far, old = (
        tmp_path / f'.tmp-fit.pt-{writer}-1'
        for writer in (f'{host}-{nobody}', f'{host}-{os.getpid()}', f'x-{nobody}', f'y-{nobody}')
    )
    other = tmp_path / f'.tmp-x.pt-{host}-{nobody}-1'
    for one in (dead, alive, far, old, other):
        one.touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    write_atomic(path, b'weights')
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {alive.name, far.name, other.name, 'fit.pt'}


def test_others_write_while_an_image_is_searched_for_sources(tmp_path, monkeypatch):
    "The turn to write is taken when all is found, not before"
    from fuzz_files import _bytes_of, _header, _sky

    import astrid_data as ad
    from astrid_data.ingest import rows
    from astrid_data.registry.tables import get_or_create_survey

    archive, other = ad.open_archive(tmp_path / 'home'), ad.open_archive(tmp_path / 'home')
    (tmp_path / 'one.fits').write_bytes(_bytes_of(fits.PrimaryHDU(_sky(1), _header())))
    plain, written = rows.detect_sources, []

    def detect_sources(image, **how):
        with other.session() as session:  # Waits for ever where the turn is taken
            written.append(get_or_create_survey(session, 'meanwhile').id)
        return plain(image, **how)

    monkeypatch.setattr(rows, 'detect_sources', detect_sources)
    report = archive.add_fits(tmp_path / 'one.fits', show=False)
    assert report.added == 1 and len(written) == 1 and not len(report.ledger)
