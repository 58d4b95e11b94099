"""The command line: what it makes of words, what it says, and the number it ends with"""

import argparse
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from copying import copy_registry
from sqlalchemy import select

import astrid_data as ad
from astrid_data import cli, verbs
from astrid_data.cli import COMMANDS, main
from astrid_data.quality.gates import Gate
from astrid_data.registry.tables import ValidationEvent
from astrid_data.verbs import DONE, LOST, NOT_GOOD, WRONG_USE


@pytest.fixture(scope='module')
def home(tmp_path_factory, sample_home):
    "An archive with the sample, and two versions of a small set"
    home = tmp_path_factory.mktemp('shell')
    copy_registry(sample_home, home)
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


def test_a_loss_is_said_once(tmp_path, capsys):
    words = ['ingest', 'package://sample/crab_poss.fits.gz', 'no_such.fits', '--no-detect']
    assert main([*words, '--home', str(tmp_path)]) == LOST
    assert capsys.readouterr().out.count('no_such.fits (missing_file)') == 1


@pytest.mark.parametrize('outcome', ['warn', 'fail'])
def test_a_gate_that_warns_is_said_and_is_no_failure(outcome, sh, monkeypatch):
    gate = Gate('shortcut_auc', 0.6, 0.94, outcome)
    report = SimpleNamespace(gates=[gate], to_dict=dict)
    monkeypatch.setattr(verbs, '_dataset', lambda args: SimpleNamespace(quality=report))
    code, out, _ = sh('quality', 'small')
    said = 'warned, which is no failure: shortcut_auc 0.94 (asked 0.6)' in out
    assert (code, said) == ((DONE, True) if outcome == 'warn' else (NOT_GOOD, False))
    assert 'not where one only warns' in ' '.join(sh('quality', '--help')[1].split())


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
    for word in ('perhaps', 'unsure'):
        code, _, err = sh('label', one, word)
        assert code == 1 and f"verdict '{word}' is not a verdict" in err, err
    assert sh('label', 'no-id', 'real')[0] == 1


@pytest.fixture
def stamps(tmp_path, capsys):
    "Run a command on an archive with three stamps; its number, its output and its complaints"
    home, rng = tmp_path / 'stamps', np.random.default_rng(1)
    images, names = rng.normal(size=(3, 7, 7)).astype('f4'), np.array(['a', 'b', 'c'])
    at = dict(ra=np.array([1.0, 2, 3]), dec=np.zeros(3), sure=np.array([0.1, 0.2, 0.3]))
    np.savez(tmp_path / 'set.npz', images=images, id=names, **at)

    def run(*words):
        capsys.readouterr()
        try:
            code = main([*words, '--home', str(home)])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    words = '--survey made --is-real false --score sure'
    assert run('ingest', 'stamps', str(tmp_path / 'set.npz'), *words.split())[0] == DONE
    archive = ad.open_archive(home)
    assert archive.detections()['status'].tolist() == ['rejected'] * 3
    assert sorted(archive.detections()['score']) == [0.1, 0.2, 0.3]
    return run


def test_stamps_may_be_named_as_a_catalogue_is(stamps, tmp_path):
    file = str(tmp_path / 'set.npz')
    code, out, _ = stamps('ingest', 'stamps', file, 'other', '--json')
    assert code == DONE and json.loads(out)['added'] + json.loads(out)['skipped'] == 3
    code, _, err = stamps('ingest', 'stamps', file)
    assert code == WRONG_USE and 'give --survey NAME, or the name as the last word' in err
    code, _, err = stamps('ingest', 'stamps', file, 'nothere.npz')
    assert code == WRONG_USE and 'the name as the last word' in err


def test_a_list_of_known_objects_labels(stamps, tmp_path):
    rows = dict(name=['SN 1', 'SN 2'], ra=[1.0, 9.0], dec=[0.0, 0.0], type=['SN Ia', 'SN II'])
    pd.DataFrame(rows | dict(err=[0.4, 0.4])).to_csv(tmp_path / 'tns.csv', index=False)
    words = '--object-id name --class-name type --error-arcsec err --is-real true --json'
    code, out, _ = stamps('ingest', 'labels', str(tmp_path / 'tns.csv'), 'tns', *words.split())
    said = json.loads(out)
    assert code == LOST and said['verdicts'] == {'catalogue:tns': 1}
    assert [row['reason'] for row in said['ledger']] == ['no_match']
    again = stamps('ingest', 'labels', str(tmp_path / 'tns.csv'), 'tns', *words.split())
    assert json.loads(again[1])['verdicts'] == {}


def test_labels_hold_for_some_days(stamps, tmp_path):
    "The stamps say no time, so that no row with a time is theirs"
    rows = dict(name=['SN 1'], ra=[1.0], dec=[0.0], err=[0.4], seen=['2020-01-01T00:00:00'])
    pd.DataFrame(rows).to_csv(tmp_path / 'tns.csv', index=False)
    how = '--error-arcsec err --object-id name --is-real true --json'.split()

    def labels(*words):
        return stamps('ingest', 'labels', str(tmp_path / 'tns.csv'), 'tns', *words, *how)

    for days in (['1'], ['1', '2.5']):
        code, out, _ = labels('--when', 'seen', '--days', *days)
        assert code == LOST and json.loads(out)['verdicts'] == {}
    code, _, err = labels('--when', 'seen', '--days', 'one')
    assert code == WRONG_USE and "--days: invalid number value: 'one'" in err
    for days in ([], ['1', '2', '3']):
        code, _, err = labels('--when', 'seen', '--days', *days)
        assert code == 1 and 'give days after, or (before, after)' in err
    code, _, err = labels('--when', 'seen')
    assert code == 1 and 'say --days' in err


def test_votes_of_many_decide(stamps, tmp_path):
    votes = [dict(detection_id=one, voter=f'v{k}', vote='real') for one in 'ab' for k in range(5)]
    pd.DataFrame([*votes, votes[0] | dict(detection_id='nobody')]).to_csv(
        tmp_path / 'votes.csv', index=False
    )
    code, out, _ = stamps('ingest', 'votes', str(tmp_path / 'votes.csv'), 'zoo', '--json')
    said = json.loads(out)
    assert code == LOST and said['verdicts'] == {'catalogue:zoo': 2}
    assert [row['votes'] for row in said['voters']] == [2] * 5
    assert [row['reason'] for row in said['ledger']] == ['no_detection']


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


@pytest.mark.parametrize('option', ['--home', '--database'])
def test_a_new_archive_is_said_to_begin(tmp_path, capsys, monkeypatch, option):
    "In a terminal and in a log, to people and to programs, wherever its name was misspelt"
    monkeypatch.setenv('ASTRID_DATA_HOME', str(tmp_path / 'usual'))
    place = tmp_path / ('new' if option == '--home' else 'new.db')
    named = str(place) if option == '--home' else f'sqlite:///{place}'
    assert main(['list', option, named]) == 1 and not place.exists()
    assert str(place) in capsys.readouterr().err
    words = ['ingest', 'package://sample/crab_poss.fits.gz', '--no-detect', '--json']
    for told in (str(place), None):
        assert main([*words, option, named]) == DONE
        said = capsys.readouterr()
        assert said.err.count(f'a new archive begins at {place}') == (told is not None)
        assert json.loads(said.out)['new_archive'] == told
    assert main(['list', option, named]) == DONE


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


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ('collect --surveys hst', '--surveys is no option, the nearest is --survey'),
        ('export small --knid npz', '--knid is no option, the nearest is --kind'),  # No folder
        ('collect --patch_size 32', '--patch_size is no option, the nearest is --patch-size'),
        ('--jsno list', '--jsno stands before the command: write it behind'),
        ('--database sqlite:// list', '--database stands before the command: write it behind'),
    ],
)
def test_a_slip_in_an_option_names_the_nearest(words, said, sh):
    code, out, err = sh(*words.split())
    assert (code, out) == (WRONG_USE, '') and said in err and err.count('\n') == 1


def test_an_option_may_hold_its_value(sh):
    code, _, err = sh('collect', '--max-samples=20', '--survey=skyview')
    assert code == DONE, err


def test_what_looks_like_an_option_may_be_a_value(sh, home):
    archive = ad.open_archive(home)
    one = str(archive.detections()['detection_id'].iloc[1])
    code, _, err = sh('label', one, 'bogus', '--by', 'bob', '--note=--knid is no kind')
    assert code == DONE, err
    with archive.session() as s:
        notes = s.scalars(select(ValidationEvent.notes)).all()
    assert '--knid is no kind' in notes
    assert sh('list', '--', '--knid')[0] == WRONG_USE  # No option, and a word too many


def test_a_plan_says_who_waits_for_a_verdict(tmp_path, capsys):
    home = ['--home', str(tmp_path)]
    assert main(['ingest', 'sample', *home]) == DONE
    plan = ad.TrainingDataCollector(ad.open_archive(tmp_path)).plan()
    table = plan.filters.set_index('filter')
    capsys.readouterr()
    assert main(['collect', *home]) == DONE
    waiting = table.loc['status', 'removed']
    assert f'{waiting:,} without a verdict' in capsys.readouterr().out and waiting > 0


def test_one_is_not_counted_as_many(sh):
    _, out, _ = sh('collect', '--survey', 'skyview', '--max-samples', '5', '--negatives')
    assert 'from      1 observation:' in out and '1 image in 1 request,' in out


def test_a_published_set_is_read_back_and_signed(sh, home, tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_SIGNING_KEY', 'a secret of sixteen letters')
    code, out, err = sh('publish', 'small@v1', str(tmp_path / 'public'), '--json')
    made = json.loads(out)
    assert (code, made['signed']) == (DONE, True), err
    copy = ad.Dataset(tmp_path / 'public' / made['key']).verify('a secret of sixteen letters')
    assert copy.content_hash == made['content_hash']
    assert {'datasheet.md', 'seal.json', 'signature.json'} <= {
        f.name for f in copy.folder.iterdir()
    }
    (copy.folder / 'manifest.json').write_text('{}')
    code, _, err = sh('publish', 'small@v1', str(tmp_path / 'public'))
    assert code == 1 and 'another small@v1 is at' in err


def test_an_empty_key_is_none_and_a_key_asks_for_its_signature(sh, tmp_path, monkeypatch):
    monkeypatch.setenv('ASTRID_SIGNING_KEY', '')
    code, out, err = sh('publish', 'small@v2', str(tmp_path / 'public'), '--json')
    assert code == DONE and json.loads(out)['signed'] is False, err
    assert sh('verify', 'small@v2')[0] == DONE
    monkeypatch.setenv('ASTRID_SIGNING_KEY', 'a secret of sixteen letters')
    code, out, _ = sh('verify', 'small@v2')
    assert code == NOT_GOOD and 'is not signed' in out
    assert sh('publish', 'small@v2', str(tmp_path / 'signed'))[0] == DONE
    code, out, _ = sh('verify', 'small@v2')
    assert code == DONE and 'signature is of this key' in out
    monkeypatch.setenv('ASTRID_SIGNING_KEY', 'another secret, of others')
    code, out, _ = sh('verify', 'small@v2')
    assert code == NOT_GOOD and 'not signed with this key' in out


def test_a_published_set_is_named_by_its_address(sh, tmp_path, capsys):
    _, out, err = sh('publish', 'small@v2', str(tmp_path / 'public'), '--json')
    made = json.loads(out)
    assert made['shell'] == f'astrid-data show {made["address"]}', err
    assert main(['verify', made['address'], '--home', str(tmp_path / 'none')]) == DONE
    assert 'small@v2: every byte' in capsys.readouterr().out
    assert not (tmp_path / 'none').exists()


WRONG = {
    'ingest stamps set.npz --survey made --column zz=yy': '--column',
    'ingest stamps set.npz --survey made --mask odd': '--mask',
    'ingest stamps set.npz --survey made --score no_field': '--score',
    'ingest stamps set.npz --survey made --origin moon': '--origin',
    'ingest labels tns.csv tns --share 3': '--confidence lies',
    'ingest labels tns.csv tns --track t': '--object-id',
    'ingest catalogue tns.csv foo --when ra': 'say --days before after',
}


@pytest.mark.parametrize('words', WRONG)
def test_what_is_wrong_is_said_in_options(words, stamps, tmp_path):
    "A shell was told label=, days= and isolate=True"
    rows = dict(name=['SN 1'], ra=[1.0], dec=[0.0])
    pd.DataFrame(rows).to_csv(tmp_path / 'tns.csv', index=False)
    there = [str(tmp_path / word) if '.' in word else word for word in words.split()]
    code, out, err = stamps(*there)
    assert code in (1, LOST) and WRONG[words] in out + err
    assert not re.search(r'(?<![\w/?])[a-z_]+=(?!\w*yy)', out + err)


def _parser_of(*words):
    top = cli._parser(words)
    for word in words:
        subparsers = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
        top = subparsers.choices[word]
    return top


def _said_by(*words):
    return _parser_of(*words).get_default('said')


@pytest.mark.parametrize('name', COMMANDS)
def test_no_option_is_said_as_python_writes_it(name):
    "Whatever message names an argument of a command, it is spelt as the command has it"
    top = _parser_of(*name.split())
    said = top.get_default('said')
    for action in top._actions:
        for value in ('', 'True', "'x'", "['x', 'y']"):
            told = said(f'{action.dest}={value} is wrong')
            assert f'{action.dest}=' not in told
            assert not action.option_strings or action.option_strings[-1] in told
        assert 'None' not in (action.help or '')


SAID = {
    "missing_file: 'survey=hst/none.fits' is neither": None,
    "'survey=2020-01-01.fits' and 'survey=1.fits'": None,
    'score=-1: a score is a share': 'score=-1: a score is a share',
    "say plan.build('x y', survey_ids=['hst', 'jwst'])": "say astrid-data build 'x y' --survey hst jwst",
    'say plan.build("a", allow_empty=True, min_valid_fraction=.5)': (
        'say astrid-data build a --allow-empty --min-valid-fraction 0.5'
    ),
    'add_fits(…, changed="anew") then': 'astrid-data ingest fits … --changed anew then',
    'add_fits("a, (b).fits", detect=False, …)': (
        "astrid-data ingest fits 'a, (b).fits' --no-detect …"
    ),
    "add_catalogue(table, 'foo', when='t', days=(1, 2))": (
        'astrid-data ingest catalogue table foo --when t --days 1 2'
    ),
    "open_dataset(archive, 'a@v1')": 'astrid-data show a@v1',
    "open_dataset(archive, 'a@v1', stream=True)": None,
    'add_fits(a, no_such=1)': None,
}


@pytest.mark.parametrize('text', SAID)
def test_calls_and_values_are_said_as_they_are_typed(text):
    assert _said_by('list')(text) == (SAID[text] or text)


def test_a_lost_name_is_told_how_to_do_without(tmp_path, capsys):
    images = np.random.default_rng(0).normal(size=(2, 21, 21)).astype('f4')
    at = dict(ra=[10.0, 10.1], dec=[0.0, 0.0], id=[2.0**60, 2.0**61])
    np.savez(tmp_path / 'set.npz', images=images, **at)
    words = ['ingest', 'stamps', str(tmp_path / 'set.npz'), '--survey', 'made']
    code = main([*words, '--home', str(tmp_path / 'one')])
    said = capsys.readouterr()
    assert code != DONE and 'do without it: --column id=none' in said.out + said.err
    code = main([*words, '--home', str(tmp_path / 'two'), '--column', 'id=none'])
    said = capsys.readouterr()
    assert code == DONE and 'floating point' not in said.out + said.err, said


def test_a_negative_number_is_said_behind_its_option():
    said = _said_by('ingest', 'stamps')
    assert said('score=-1: no share') == '--score -1: no share'
    named = "'survey=hst/none.fits' is neither"
    assert said(named) == named


def test_a_moment_of_a_catalogue_takes_days(sh, home, tmp_path):
    table = pd.DataFrame(dict(ra=[1.0], dec=[0.0], t=[58000.0], e=[58001.0]))
    table.to_csv(tmp_path / 'd.csv', index=False)
    words = ['ingest', 'catalogue', str(tmp_path / 'd.csv'), 'foo', '--json']
    for how in ('--when t --days 1 2', '--when t e', '--when t --days 3'):
        code, out, err = sh(*words, *how.split())
        assert 'days' not in err and json.loads(out or '{"ledger": [0]}')['ledger'], err


def test_a_name_with_an_option_is_told_how_to_stand(sh):
    code, _, err = sh('build', '--name', 'x')
    assert code == WRONG_USE and 'astrid-data build NAME' in err


@pytest.mark.parametrize(
    'words',
    [
        'fits package://sample/crab_poss.fits.gz --no-detect',
        'alerts night.avro --survey ztf',
        'stamps set.npz --survey mine',
    ],
)
def test_right_options_begin_an_archive(tmp_path, words):
    "Whatever comes of the file that is named, the options were tried and taken"
    main(['ingest', *words.split(), '--home', str(tmp_path / 'new')])
    assert (tmp_path / 'new' / 'registry.db').exists()


def test_an_interrupt_is_a_line(sh, monkeypatch):
    def interrupted(args):
        "Somebody presses Ctrl-C"
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, 'list', (interrupted, *COMMANDS['list'][1:]))
    code, out, err = sh('list')
    assert (code, out) == (130, '')
    assert err.strip().count('\n') == 0 and 'interrupted' in err
    with pytest.raises(KeyboardInterrupt):
        sh('list', '--debug')
