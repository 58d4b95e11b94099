"Addresses and paths that nobody can use are said in words, and hold no password"

import os
import traceback
import uuid
from types import SimpleNamespace

import pytest
from sqlalchemy import select

import astrid_data as ad
from astrid_data.cli import main
from astrid_data.core import AstridError, BadInput, Conflict, Secret
from astrid_data.registry.tables import DatabaseAway, Survey, get_or_create_survey
from astrid_data.storage.service import StoreUnreachable
from astrid_data.tracking.dataset_run import records_folder
from astrid_data.tracking.journal import Record
from astrid_data.tracking.past_runs import run_file
from astrid_data.tracking.unsent import replay

PASSWORD = 'top-sky-37'
ADDRESSES = (f'odd://ann:{PASSWORD}@host/x', f'http://ann:{PASSWORD}@[::1')


@pytest.fixture(params=ADDRESSES, ids=['scheme', 'host'])
def tracked(request, tmp_path, monkeypatch):
    "An archive whose MLflow has an address that nobody can use"
    service = 'mlflow.tracking._tracking_service.utils._tracking_uri'
    monkeypatch.setattr(service, None)  # An earlier test may have set one
    monkeypatch.setenv('MLFLOW_TRACKING_URI', request.param)
    return SimpleNamespace(home=tmp_path, mlflow_uri=Secret(request.param))


def test_an_address_of_mlflow_that_cannot_be_is_said_without_its_password(tracked, capsys):
    with pytest.raises(StoreUnreachable, match='MLFLOW_TRACKING_URI') as failed:
        ad.load_classifier('runs:/abc/model', tracking_uri=tracked.mlflow_uri.reveal())
    assert PASSWORD not in ''.join(traceback.format_exception(failed.value))
    assert run_file(tracked, str(uuid.uuid4()), 'scores.csv', 'abc') is None
    record = Record(records_folder(tracked) / 'one')
    record.add('start', record='one', run_name='sky', experiment='e', tags={})
    record.add('end', status='FINISHED')
    assert 'away: MLflow cannot be reached' in replay(tracked)['outcome'].item()
    assert main(['score', 'runs:/abc/model', '--home', str(tracked.home)]) == 1
    said = capsys.readouterr()
    assert 'MLFLOW_TRACKING_URI' in said.err and PASSWORD not in said.err + said.out


PATHS = ('a' * 256, 'é' * 128, 'circle', 'circle/x', 'file/x')
USES = {
    'home': lambda path: ad.open_archive(home=path),
    'storage': lambda path: ad.open_archive(home='home', storage=path),
    'database': lambda path: ad.open_archive(f'sqlite:///{path}/registry.db', home='home'),
    'classifier': ad.load_classifier,
}


@pytest.mark.parametrize('path', PATHS, ids=lambda path: ascii(path)[:9])
@pytest.mark.parametrize('use', USES)
def test_a_path_that_cannot_be_is_said(use, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink('circle', 'circle')
    (tmp_path / 'file').touch()
    with pytest.raises(AstridError, match='cannot be a folder|no classifier at'):
        USES[use](path)


def test_a_store_in_the_place_of_a_file_is_said(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(BadInput, match='File exists'):
        ad.open_archive(home=tmp_path / 'home', storage=str(tmp_path / 'file'))


def delete(home, other):
    for file in home.glob('registry.db*'):
        file.unlink()


def replace(home, other):
    os.replace(other / 'registry.db', home / 'registry.db')


def move(home, other):
    os.rename(home, home.with_name('moved'))


@pytest.mark.parametrize('change', [delete, replace, move])
def test_a_registry_that_is_gone_while_it_is_open_takes_in_nothing(change, tmp_path):
    "Its file lives on without a name, and what is written to it is lost when the process ends"
    home, other = tmp_path / 'home', tmp_path / 'other'
    ad.open_archive(home=other).registry.close()
    archive = ad.open_archive(home=home)
    with archive.session() as session:
        get_or_create_survey(session, 'one')
    change(home, other)
    for _ in range(2):
        with pytest.raises(DatabaseAway, match='while the archive was open'):
            archive.observations()
    assert not (home / 'registry.db').exists() or change is replace
    archive.registry.close()  # Its connections; new ones begin no empty file
    with pytest.raises(DatabaseAway, match='while the archive was open'):
        archive.observations()
    assert not (home / 'registry.db').exists() or change is replace


def test_a_registry_that_goes_before_a_commit_is_no_success(tmp_path):
    archive = ad.open_archive(home=tmp_path / 'home')
    with pytest.raises(DatabaseAway, match='moved or deleted'), archive.session() as session:
        get_or_create_survey(session, 'one')
        move(tmp_path / 'home', None)
    os.rename(tmp_path / 'moved', tmp_path / 'home')  # It is put back
    with archive.session() as session:
        assert not session.scalars(select(Survey)).all()


@pytest.mark.parametrize('left', [b'', b'x'], ids=['cut', 'other'])
def test_a_registry_that_is_damaged_is_said(left, tmp_path):
    ad.open_archive(home=tmp_path).registry.close()
    path = tmp_path / 'registry.db'
    size = path.stat().st_size
    path.write_bytes(left * size or path.read_bytes()[: size // 2])
    with pytest.raises(Conflict, match='the registry is damaged'):
        ad.open_archive(home=tmp_path).observations()


@pytest.mark.parametrize('words', [['a' * 300], ['ingest', 'a' * 300]], ids=len)
def test_a_word_too_long_for_a_name_is_no_crash_of_the_command(words, tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path))
    try:
        assert main(words)
    except SystemExit as ended:
        assert ended.code == 2
