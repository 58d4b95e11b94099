"`python -m benchmarks.plot`: time and memory against the number of images, from the kept results of `extract_growth`"

import json

from benchmarks.harness import results
from benchmarks.words import Words


def growth(result):
    "Name of a way -> (images, seconds, private memory in MB) of each of its rows, fewest images first"
    out = {}
    for r in result['rows']:
        name, _, tiles = r['name'].rpartition('_')
        if not tiles.isdigit():
            name, tiles = r['name'], 20
        if r['rate']:
            out.setdefault(name, []).append(
                (int(tiles), int(tiles) * 1000 / r['rate'], r['peak_mb'])
            )
    return {k: sorted(v) for k, v in out.items()}


def draw(result):
    "Two panels: time in proportion to the work is a straight line through 0, flat memory a level one"
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8, 3), layout='constrained')
    left, right = fig.subplots(1, 2)
    for name, points in growth(result).items():
        tiles, seconds, mb = zip(*points)
        left.plot((0, *tiles), (0, *seconds), 'o-', label=name.replace('_', ' '))
        right.plot(tiles, mb, 'o-')
    left.set(
        xlabel='images of 4096 x 4096, 1,000 patches each',
        ylabel='time (s)',
        xlim=(0, None),
        ylim=(0, None),
    )
    right.set(xlabel='images', ylabel='private memory, peak (MB)', xlim=(0, None), ylim=(0, None))
    left.legend(frameon=False)
    return fig


def main(words=None):
    Words('benchmarks.plot', __doc__).parse_args(words)
    path = results / 'extract_growth.json'
    if not path.exists():
        raise SystemExit('no results of extract_growth yet: python -m benchmarks extract_growth')
    draw(json.loads(path.read_text())).savefig(path.with_suffix('.png'), dpi=100)


if __name__ == '__main__':
    main()
