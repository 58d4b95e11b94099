"Every command, option by option: what is written shortly, emptily or oddly is refused in one line, and nothing is begun"

import argparse
import contextlib
from functools import cache

import numpy as np
import pytest
from test_shell import _parser_of

from astrid_data.cli import COMMANDS, _with_kind, main
from astrid_data.verbs import WRONG_USE

ODD_NUMBERS = (' 1', '1 ', '1_000', 'nan', '١', '0x10', '1,5', 'none-', 'ten')
ODD_WHOLE = ('1e3', '1.5', 'inf')


@cache
def verb_of(name):
    "The parser of a command"
    return _parser_of(*name.split())


def valued(name):
    "Options of a command that take a value, with their longest spelling"
    for action in verb_of(name)._actions:
        if action.option_strings and action.nargs != 0:
            yield action, max(action.option_strings, key=len)


def refused(name, capsys, *words):
    "What a command says of words that it refuses"
    with pytest.raises(SystemExit) as end:
        verb_of(name).parse_args(list(words))
    said = capsys.readouterr()
    assert end.value.code == WRONG_USE and said.out == '' and said.err.count('\n') == 1, said.err
    return said.err


def kind_of(action):
    return getattr(action.type, '__name__', '')


def words_for(action, word):
    "As many words as an option takes, the last of them odd"
    return ['1'] * (action.nargs - 1) + [word] if isinstance(action.nargs, int) else [word]


@pytest.mark.parametrize('name', COMMANDS)
def test_no_beginning_of_an_option_is_taken_for_it(name, capsys):
    known = {one for action in verb_of(name)._actions for one in action.option_strings}
    for option in sorted(known):
        if len(short := option[:-1]) > 3 and short not in known:
            said = refused(name, capsys, short)
            assert f'{short} is no option' in said and option in said


@pytest.mark.parametrize('name', COMMANDS)
def test_an_empty_value_is_none(name, capsys):
    for _, option in valued(name):
        for words in ([option, ''], [option, ' '], [f'{option}='], [f'{option}=\t\n']):
            assert f'the value of {option} is empty' in refused(name, capsys, *words)


@pytest.mark.parametrize('name', COMMANDS)
def test_numbers_are_written_plainly(name, capsys):
    for action, option in valued(name):
        if kind_of(action) not in ('number', 'whole number'):
            assert action.type not in (int, float), option
            continue
        odd = ODD_NUMBERS + (ODD_WHOLE if kind_of(action) == 'whole number' else ())
        for word in odd:
            assert option in refused(name, capsys, option, *words_for(action, word))


@pytest.mark.parametrize('name', COMMANDS)
def test_a_negative_number_is_a_value(name, capsys):
    "Whether it makes sense is said by who reads it; that it is missing would be wrong"
    words = {'number': ('-1', '-1e-3', '-.5', '-2.'), 'whole number': ('-1',)}
    for action, option in valued(name):
        for word in words.get(kind_of(action), ()):
            with contextlib.suppress(SystemExit):
                verb_of(name).parse_args([option, *words_for(action, word)])
            assert 'expected' not in capsys.readouterr().err, (option, word)


@pytest.mark.parametrize('name', COMMANDS)
def test_none_is_a_value_only_where_there_is_one(name, capsys):
    "`--score None` was the name of a field, which no stamp has"
    for action, option in valued(name):
        if kind_of(action) == 'text':
            try:
                assert action.type('None') is None
            except argparse.ArgumentTypeError:
                assert 'leave the option out' in refused(name, capsys, option, 'None')


def test_a_score_that_is_none_or_no_number_is_refused(capsys, tmp_path):
    words = ['ingest', 'stamps', str(tmp_path), 'made', '--home', str(tmp_path / 'new'), '--score']
    assert 'None is no value here' in refused('ingest stamps', capsys, 'x', '--score', 'None')
    assert 'CLASS=SHARE' in refused('score', capsys, 'm', '--prior', 'abc')
    for odd in ('nan', '1_000', 'inf', '-1', '7'):
        assert main([*words, odd]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert odd in said and ('a number from 0 to 1' in said or 'a plain number' in said)


def test_what_stands_behind_two_dashes_is_no_option(capsys, tmp_path):
    for words in (['ingest', '--', '-a.fits'], ['ingest', 'fits', '--', '-a.fits']):
        args = _with_kind(words)
        assert args[:2] == ['ingest', 'fits']
        assert main([*words[:-2], '--home', str(tmp_path), *words[-2:]]) == 1
        assert '-a.fits' in capsys.readouterr().err
    assert '-x' in refused('list', capsys, '-x')


WRONG_OPTIONS = (
    ('fits', '--role', 'zz'),
    ('fits', '--changed', 'zz'),
    ('alerts', '--schemas', 'zz'),
    ('stamps', '--column', 'a=b'),
    ('stamps', '--table', 'nowhere.csv'),
    ('stamps', '--frame', 'zz'),
    ('stamps', '--score', '7'),
)


@pytest.mark.parametrize('kind, option, word', WRONG_OPTIONS)
def test_a_wrong_option_begins_no_archive(kind, option, word, capsys, tmp_path):
    "Of a file that is there and could be taken in"
    np.savez(tmp_path / 'a.npz', images=np.ones((2, 1, 15, 15), 'f4'))
    what = ['made'] if kind == 'stamps' else []
    home = tmp_path / 'new'
    words = ['ingest', kind, str(tmp_path / 'a.npz'), *what, '--home', str(home), option, word]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert option in said or word in said
    assert 'a new archive begins' not in said and not home.exists()
