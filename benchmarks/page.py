"The page of the docs site that shows the tables kept in `results/`, the best row of each first."

import json

from benchmarks.harness import results
from benchmarks.words import Words

HEAD = """# Benchmarks

Measured by `make bench`, and kept in `benchmarks/results`. The rows of a table run in turn, each in a process of its
own, so that a slow moment of the machine meets all of them; the ratio is taken turn by turn against the reference.
Compare ratios, not absolute speeds: the tables come from machines that differ.
"""


def cells_of(row, reference):
    "One row of a table"
    if row['rate'] is None:
        return [row['name'], 'not measured', '', '', row['why']]
    known = 'name', 'rate', 'ratio', 'peak_mb'
    more = ', '.join(f'{name} {value:.3g}' for name, value in row.items() if name not in known)
    ratio = '' if row['ratio'] is None else f'{row["ratio"]:.3g}'
    name = f'{row["name"]} (reference)' if row['name'] == reference else row['name']
    return [name, f'{row["rate"]:,.0f}', ratio, f'{row["peak_mb"]:,.0f}', more]


def section(result):
    "One table as Markdown"
    lines = [
        f'## {result["table"]}',
        '',
        f'{result["about"]}. Median of {result["repeats"]} turns on {result["machine"]}; '
        f'{result["date"]}, {result["commit"]}.',
        '',
        f'| way | {result["unit"]} | ratio | memory of its own (MB) | more |',
        '| --- | ---: | ---: | ---: | --- |',
    ]
    rows = sorted(result['rows'], key=lambda row: -(row['rate'] or 0))
    for row in rows:
        lines.append(f'| {" | ".join(cells_of(row, result["reference"]))} |')
    return '\n'.join(lines) + '\n'


def page():
    "All tables whose rows are compared with a reference, by name"
    parts = [HEAD]
    for path in sorted(results.glob('*.json')):
        result = json.loads(path.read_text())
        if 'reference' in result:
            parts.append(section(result))
    return '\n'.join(parts)


def main(words=None):
    Words('benchmarks.page', __doc__).parse_args(words)
    print(page())


if __name__ == '__main__':
    main()
