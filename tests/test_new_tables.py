"The tables that tests get at once are those that migrations make"

import sqlite3
from contextlib import closing

from astrid_data.registry import tables


def shape(path):
    "All that a new file holds"
    with closing(sqlite3.connect(path)) as c:
        made = c.execute('SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2')
        return made.fetchall(), [line for line in c.iterdump() if line.startswith('INSERT')]


def test_new_tables_are_as_migrations_make_them(tmp_path, migrated_file):
    tables.connect(f'sqlite:///{tmp_path}/quick.db').close()
    quick, slow = shape(tmp_path / 'quick.db'), shape(migrated_file)
    assert quick == slow and len(slow[0]) > 70 and slow[1]


def test_the_tables_here_are_made_at_once(tmp_path, monkeypatch):
    from alembic import command

    def refuse(*args):
        raise AssertionError('the migrations ran')

    monkeypatch.setattr(command, 'upgrade', refuse)
    tables.connect(f'sqlite:///{tmp_path}/quick.db').close()
