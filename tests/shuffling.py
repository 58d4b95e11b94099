"A database that returns rows in another order each time, wherever a question leaves the order open"

import random
import re
from contextlib import contextmanager

from sqlalchemy import event

_SET = re.compile(r' (UNION|INTERSECT|EXCEPT)\b')


def _top_level(statement, word):
    "Where a keyword stands outside of all brackets, or -1"
    depth = 0
    for k, letter in enumerate(statement):
        depth += (letter == '(') - (letter == ')')
        if not depth and statement.startswith(word, k):
            return k
    return -1


def rearranged(statement, chance):
    "The same question; rows without an order, or that tie in it, come by `chance`"
    if not statement.lstrip().startswith('SELECT') or ' FOR UPDATE' in statement:
        return statement
    flat = statement.replace('\n', ' ')
    ordered, limit = (_top_level(flat, f' {word} ') for word in ('ORDER BY', 'LIMIT'))
    if limit < 0 and ordered < 0:
        return f'SELECT * FROM ({flat}) AS rows_in_any_order ORDER BY {chance}'
    if _SET.search(flat) or ('DISTINCT' in flat and chance == 'random()'):
        return statement  # No other order may stand there
    limit = len(flat) if limit < 0 else limit
    before = flat[:limit]
    return f'{before}{"," if ordered >= 0 else " ORDER BY"} {chance} {flat[limit:]}'


@contextmanager
def shuffled_rows(archive, seed):
    "While it lasts, the database returns rows in another order each time"
    engine = archive.registry.engine
    lite = engine.dialect.name == 'sqlite'
    chance = 'chance()' if lite else 'random()'
    draw = random.Random(seed).random
    seen = []

    def rearrange(connection, cursor, statement, parameters, context, many):
        if lite:
            connection.connection.driver_connection.create_function('chance', 0, draw)
        seen.append(statement)
        return rearranged(statement, chance), parameters

    event.listen(engine, 'before_cursor_execute', rearrange, retval=True)
    try:
        yield seen
    finally:
        event.remove(engine, 'before_cursor_execute', rearrange)
