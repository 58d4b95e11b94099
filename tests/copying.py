"Archives that are copied, as taking the same images in again takes seconds"

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_registry(home, to):
    "The SQLite registry of an archive as that of another home"
    Path(to).mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(Path(home) / 'registry.db')) as source,
        closing(sqlite3.connect(Path(to) / 'registry.db')) as target,
    ):
        source.backup(target)


def move_addresses(home, old, new):
    "Say of all that lies under one folder that it lies under another"
    with closing(sqlite3.connect(Path(home) / 'registry.db')) as c:
        tables = [
            name for (name,) in c.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for table in tables:
            columns = [row[1] for row in c.execute(f'PRAGMA table_info({table})')]
            for column in columns:
                c.execute(
                    f'UPDATE {table} SET {column} = replace({column}, ?, ?) '
                    f"WHERE typeof({column}) = 'text' AND instr({column}, ?)",
                    (str(old), str(new), str(old)),
                )
        c.commit()
