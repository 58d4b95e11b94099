"Names and notes of others are shown, never obeyed, wherever they leave the library"

import re

import pandas as pd
import pytest

from astrid_data.datasets.datasheet import datasheet
from astrid_data.safe_text import csv_text, file_name, markdown_text, read_csv, visible

NASTY = [
    '[x](javascript:alert(1))',
    '<script>alert(1)</script>',
    '| a | `b` |',
    '# heading\n\n- list\n1. one\n---\n===',
    '![img](http://evil/x.png)',
    'photo\u202egpj.exe',
    '\x1b[2J\x00\r\n',
    '&lt;b&gt; **bold** _it_ ~~gone~~ $x$',
    '```\nfence',
]


@pytest.mark.parametrize('name', NASTY)
def test_a_card_shows_a_name_as_it_is(name):
    samples = pd.DataFrame(dict(survey=[name], band=['r'], label_source=[name]))
    manifest = dict(
        **dict(name=name, version=1, description=name, n_samples=1, requested=1, patch_size=8),
        **dict(channels=[name], origin='survey', class_counts={name: 1}, dropped={name: 1}),
        **dict(splits=dict(train=1, val=0, test=0, buffer=0), content_hash='0', created_by=name),
        **dict(created_at='2026-01-01', params=dict(collection=dict(note=name)), shards=[]),
    )
    text = datasheet(manifest, samples)
    outside = re.sub(r'```json.*?\n```', '', text, flags=re.DOTALL)
    assert not re.search(r'(?<!\\)\]\(|<[a-z/]|\u202e|\x1b|\x00', outside)
    rows = [line for line in outside.split('\n') if line.startswith('|')]
    assert all(len(re.findall(r'(?<!\\)\|', row)) == 3 for row in rows)
    assert len([line for line in outside.split('\n') if line.startswith('#')]) == 1
    assert text.count('\n```') == 2


def test_everyday_names_stay_as_they_are():
    for name in ('SN 2011fe', 'hard_negative', 'first-look@v1', '12.5%', 'Größe', 'a (b), c'):
        assert markdown_text(name) == name == visible(name)


CELLS = [
    '=1+2',
    '+a',
    '-a',
    '@a',
    '\tx',
    '\rx',
    '\n=x',
    "'=x",
    "''=x",
    "'plain",
    'NA',
    'a"b,c',
    '＝1',
]


def test_cells_are_harmless_and_come_back():
    table = pd.DataFrame({'=name': CELLS, 'score': [-1.5] * len(CELLS)})
    text = csv_text(table)
    back = read_csv(text, text=('=name',))
    assert back['=name'].tolist() == CELLS and back['score'].tolist() == [-1.5] * len(CELLS)
    shown = pd.read_csv(pd.io.common.StringIO(text), keep_default_na=False)
    assert not any(re.match('[=+\\-@\t\r\n＝]', cell) for cell in shown["'=name"])
    assert ',-1.5\n' in text and "'-1.5" not in text


def test_numbers_that_are_text_stay_numbers():
    table = pd.DataFrame(dict(a=['-1.5', '+2e-3', '-inf', '-1-1']))
    assert csv_text(table).split('\n')[1:5] == ['-1.5', '+2e-3', '-inf', "'-1-1"]


@pytest.mark.parametrize(
    'name', ['../../x', 'a/b\\c', 'a"\r\nX: y', 'NUL', '.hidden', '', 'x' * 500]
)
def test_names_of_files_stay_in_their_folder(name):
    safe = file_name(name)
    assert re.fullmatch(r'[\w+][\w.+-]{0,99}', safe, re.ASCII) and safe.upper() != 'NUL'
