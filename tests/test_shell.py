"""The command line: what it makes of words, what it says, and the number it ends with"""

import json
import subprocess
import sys

import pytest

import astrid_data as ad
from astrid_data.cli import COMMANDS, main
from astrid_data.verbs import DONE, LOST, NOT_GOOD, WRONG_USE


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "An archive with the sample, and two versions of a small set"
    home = tmp_path_factory.mktemp('shell')
    ad.open_archive(home).add_sample(show=False)
    how = '--survey skyview --max-samples 60 --patch-size 24 --quality-score-threshold 0 --allow-empty'
    for seed in '01':
        words = ['collect', '--name', 'small', '--split-seed', seed, *how.split()]
        assert main([*words, '--home', str(home)]) == 0
    return home


@pytest.fixture
def sh(home, capsys):
    "Run a command on the archive; the number it ends with, its output and its complaints"

    def run(*words):
        capsys.readouterr()
        try:
            code = main([*words, '--home', str(home)])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_has_help_and_refuses_a_slip(name, sh):
    code, out, _ = sh(*name.split(), '--help')
    assert code == DONE and '--home' in out and '--json' in out
    code, _, err = sh(*name.split(), '--no-such-option')
    assert code == WRONG_USE and 'error:' in err.splitlines()[-1]


@pytest.mark.parametrize(
    'words',
    [
        'list',
        'datasets',
        'show small',
        'quality small@v1',
        'audit small@v1',
        'verify small@v1',
        'diff small@v1 small@v2',
        'collect --max-samples 20',
        'doctor',
    ],
)
def test_answers_are_json_where_asked(words, sh):
    code, out, _ = sh(*words.split(), '--json')
    assert code in (DONE, NOT_GOOD)
    json.loads(out, parse_constant=pytest.fail)  # No NaN


def test_what_is_shown_is_what_is_there(sh, home):
    dataset = ad.open_dataset(ad.open_archive(home), 'small@v2')
    shown = json.loads(sh('show', 'small', '--json')[1])
    assert shown['content_hash'] == dataset.content_hash
    assert shown['samples'] + sum(shown['dropped'].values()) == shown['requested']
    assert shown['splits'] == dataset.manifest['splits']


def test_a_typing_error_in_home_makes_nothing(tmp_path, capsys):
    for words in ('list', 'collect', 'show x', 'doctor', 'key me read:data'):
        assert main([*words.split(), '--home', str(tmp_path / 'tpyo')]) == 1
        assert 'there is no archive at' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_loss_is_no_success(tmp_path, capsys):
    words = ['ingest', 'package://sample/crab_poss.fits.gz', 'no_such.fits', '--no-detect']
    assert main([*words, '--home', str(tmp_path)]) == LOST
    said = capsys.readouterr().out
    assert 'lost: ' in said and 'no_such.fits (missing_file)' in said
    assert main(['ingest', 'no_such.fits', '--home', str(tmp_path)]) == 1


def test_old_ways_to_say_ingest_hold(tmp_path, capsys):
    words = ['ingest', 'package://sample/crab_poss.fits.gz', '--survey', 'poss', '--no-detect']
    assert main([*words, '--home', str(tmp_path)]) == 0
    assert set(ad.open_archive(tmp_path).observations()['survey']) == {'poss'}
    assert main(['ingest', '--home', str(tmp_path)]) == 1
    assert 'nothing to ingest' in capsys.readouterr().err


def test_none_is_a_value_where_it_may_be_one(sh):
    code, out, _ = sh('collect', '--confidence', 'none', '--max-samples', 'None', '--json')
    params = json.loads(out)['params']
    assert code == DONE and params['confidence_threshold'] is params['max_samples'] is None
    assert sh('collect', '--patch-size', 'none')[0] == WRONG_USE


def test_fields_reach_the_collection(sh):
    words = '--cone 6.03 -72.08 1 --negatives rejected=2 random_sky=0 --start 1990-01-01'
    params = json.loads(sh('collect', *words.split(), '--json')[1])['params']
    assert params['cone'] == [6.03, -72.08, 1.0]
    assert params['negatives'] == dict(rejected=2)  # 0 of a kind is none
    assert params['date_range'][0].startswith('1990-01-01')
    code, _, err = sh('collect', '--negatives', 'random_sky')
    assert code == WRONG_USE and 'random_sky=2' in err


def test_a_verdict_is_an_event(sh, home):
    archive = ad.open_archive(home)
    one = str(archive.detections()['detection_id'].iloc[0])
    code, out, _ = sh('label', one, 'bogus', '--by', 'ann', '--note', 'a spike', '--json')
    assert code == DONE and json.loads(out) == dict(detection=one, is_valid=False, by='ann')
    table = archive.detections().set_index('detection_id')
    assert table['status'].loc[one] == 'rejected'
    assert sh('label', one, 'perhaps')[0] == 1
    assert sh('label', 'no-id', 'real')[0] == 1


def test_an_export_is_written_once(sh, tmp_path):
    folder = str(tmp_path / 'out')
    assert sh('export', 'small@v1', folder, '--kind', 'npz')[0] == 0
    assert sh('export', 'small@v1', folder, '--kind', 'npz')[0] == 1


def test_skyview_shows_before_it_fetches(sh):
    code, out, _ = sh('ingest', 'skyview', '150.1 2.2', 'DSS2 Red', '2MASS-J')
    assert code == DONE and '2 files' in out and '--add fetches' in out


def test_a_reader_that_leaves_is_no_error(home):
    import subprocess
    import sys

    line = f'{sys.executable} -m astrid_data.cli list --home {home} | head -c 1'
    done = subprocess.run(
        ['bash', '-c', f'set -o pipefail; {line}'], capture_output=True, text=True
    )
    assert 'Traceback' not in done.stderr


def test_doctor_says_what_to_do(sh, home, monkeypatch):
    from astrid_data.storage.folder import FolderStore

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(FolderStore, 'put', full)
    code, out, _ = sh('doctor')
    (line,) = [line for line in out.splitlines() if ' store ' in line]
    assert code == NOT_GOOD and line.startswith('failed') and 'No space left' in line


def test_json_holds_nothing_that_a_terminal_obeys(capsys):
    from astrid_data.cli import _say_answer
    from astrid_data.verbs import Answer

    assert _say_answer(Answer('', {'name': 'a\u202e\x9b2J'}, LOST), True) == LOST
    said = capsys.readouterr().out
    assert said.isascii() and json.loads(said)['name'] == 'a\u202e\x9b2J'


def test_damage_is_found_and_no_failure(home, sh, tmp_path):
    import shutil

    copy = tmp_path / 'copy'
    shutil.copytree(home, copy)
    dataset = ad.open_dataset(ad.open_archive(copy), 'small@v1')
    shard = next(dataset.folder.glob('patches-*.npy'))
    shard.chmod(0o644)
    with shard.open('r+b') as f:
        f.seek(-1, 2)
        f.write(b'\x7f')
    assert main(['verify', 'small@v1', '--home', str(copy)]) == NOT_GOOD


@pytest.mark.parametrize('words', [['list', '--no-such'], ['watch', '--limits'], ['nonsense'], []])
def test_a_complaint_is_one_line(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr().err
    assert end.value.code == WRONG_USE and said.count('\n') == 1
    assert said.startswith('astrid-data') and said.rstrip().endswith('--help')


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as end:
        main(['--version'])
    assert end.value.code == DONE and capsys.readouterr().out == f'astrid-data {ad.__version__}\n'


def test_what_is_on_is_said_to_be_turned_off(sh):
    assert 'turn off (it is on): Look for sources?' in ' '.join(
        sh('ingest', 'fits', '--help')[1].split()
    )


def test_build_is_collect_with_a_name(sh, home):
    how = '--survey skyview --max-samples 60 --patch-size 24 --quality-score-threshold 0 --allow-empty'
    code, out, _ = sh('build', 'other', *how.split(), '--json')
    assert code == DONE and json.loads(out)['address'] == 'other@v1'


def test_a_new_archive_is_said_to_begin(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    words = ['ingest', 'package://sample/crab_poss.fits.gz', '--no-detect', '--home']
    for n_said in (1, 0):
        assert main([*words, str(tmp_path / 'new')]) == DONE
        assert capsys.readouterr().err.count('a new archive begins') == n_said


def test_keys_are_listed_and_ended(sh, home):
    sh('key', 'guest', 'read:data')
    (row,) = [one for one in json.loads(sh('keys', '--json')[1]) if one['name'] == 'guest']
    assert 'hash' not in row and row['is_active']
    assert sh('keys', '--end', row['id'])[1].startswith('ended')
    assert sh('keys', '--end', 'guest')[0] == WRONG_USE


def test_a_warning_is_a_line_without_code_and_without_secrets():
    script = (
        'import sys, warnings\n'
        'from astrid_data import cli\n'
        'parser = cli._parser\n'
        'def warn(argv):\n'
        "    warnings.warn('two of postgresql://ann:staple-horse@h/db', stacklevel=2)\n"
        '    return parser(argv)\n'
        'cli._parser = warn\n'
        "sys.argv = ['astrid-data', '--version']\n"
        'cli.main()\n'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stderr == '! two of postgresql://***@h/db\n'
