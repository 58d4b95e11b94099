"The page of the docs site that shows the tables kept in `results/`, best first."

import json
import subprocess

from benchmarks.harness import results, root

HEAD = """# Benchmarks

Measured by `make bench`, and kept in `benchmarks/results`. The rows of a table run in turn, each in a process of its
own, so that a slow moment of the machine meets all of them; the ratio is taken turn by turn against the reference.
Compare ratios, not absolute speeds: the tables come from machines that differ.
"""


def stored_by(path):
    "Date and commit that brought a result, for those that do not say it themselves"
    asked = ['git', 'log', '-1', '--format=%as %h', '--', str(path)]
    told = subprocess.run(asked, cwd=root, capture_output=True, text=True).stdout.split()
    return dict(zip(('date', 'commit'), told))


def cells_of(row, reference):
    "One row of a table"
    if row['rate'] is None:
        return [row['name'], 'not measured', '', '', row['why']]
    known = 'name', 'rate', 'ratio', 'peak_mb'
    more = ', '.join(f'{name} {value:.3g}' for name, value in row.items() if name not in known)
    ratio = '' if row['ratio'] is None else f'{row["ratio"]:.3g}'
    name = f'{row["name"]} (reference)' if row['name'] == reference else row['name']
    return [name, f'{row["rate"]:,.0f}', ratio, f'{row["peak_mb"]:,.0f}', more]


def section(result, stored):
    "One table as Markdown"
    when = ' '.join(filter(None, (stored.get('date'), stored.get('commit'))))
    lines = [
        f'## {result["table"]}',
        '',
        f'{result["about"]}. Median of {result["repeats"]} turns on {result["machine"]}; '
        f'{when or "date unknown"}.',
        '',
        f'| way | {result["unit"]} | ratio | memory of its own (MB) | more |',
        '| --- | ---: | ---: | ---: | --- |',
    ]
    rows = sorted(result['rows'], key=lambda row: -(row['rate'] or 0))
    for row in rows:
        lines.append(f'| {" | ".join(cells_of(row, result["reference"]))} |')
    return '\n'.join(lines) + '\n'


def page():
    "All tables of rates, by name"
    parts = [HEAD]
    for path in sorted(results.glob('*.json')):
        result = json.loads(path.read_text())
        if 'reference' in result:
            stored = result if 'date' in result else stored_by(path)
            parts.append(section(result, stored))
    return '\n'.join(parts)


if __name__ == '__main__':
    print(page())
