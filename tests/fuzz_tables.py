"Targets of `fuzzing`: tables of Arrow and Feather, light curves that somebody edited, limits of a watch."

import io
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from fuzz_files import _catalogue_columns, _take_in
from fuzzing import ODD, Wrong, mutate_bytes, mutate_text, mutate_value

TARGETS = tuple(f'fuzz_tables:{name}' for name in 'arrow curves limits'.split())


# ---------------------------------------------------------------- Arrow


@cache
def arrow_seeds():
    "Feather files, and streams and files of Arrow, by the end of the name"
    import pyarrow as pa
    from pyarrow import feather

    table = pa.table(_catalogue_columns())
    coded = table.set_column(2, 'name', table['name'].dictionary_encode())
    seeds = []
    for how in ('uncompressed', 'lz4', 'zstd'):
        out = io.BytesIO()
        feather.write_feather(coded, out, compression=how)
        seeds.append(('feather', out.getvalue()))
    for ending, new in (('arrow', pa.ipc.new_file), ('arrows', pa.ipc.new_stream)):
        out = io.BytesIO()
        with new(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
        seeds.append((ending, out.getvalue()))
    return seeds


def arrow(rng, folder):
    "A catalogue in Arrow's own formats, changed"
    ending, seed = rng.choice(arrow_seeds())
    made, _ = mutate_bytes(seed, rng, [data for _, data in arrow_seeds()])
    path = folder / f'x.{rng.choice((ending, ending, "feather", "arrow"))}'
    path.write_bytes(made)
    try:
        return _take_in(rng, path, made)
    finally:
        path.unlink()


# ---------------------------------------------------------------- light curves


@cache
def _version():
    "A version with light curves, made before processes part"
    from test_frozen_curves import filled, freeze

    return freeze(filled(Path(mkdtemp(prefix='fuzz-'))))


def _edited_table(table, rng):
    "Light curves with a cell, a column or a type exchanged"
    name = rng.choice(list(table))
    kind = rng.randrange(5)
    if kind == 0:
        return table.drop(columns=name)
    if kind == 1:
        return table.assign(**{name: rng.choice((None, 'x', 1.5, 2**62, True, b'\xff'))})
    if kind == 2:
        return table.astype({name: str})
    if kind == 3:
        return table.rename(columns={name: rng.choice(('mjd', 'x', '')) or 'y'})
    table = table.astype({name: object})
    odd = rng.choice((None, 1e308, float('nan'), 2**53, -1, 'tai', '\x1f', 'é' * 99))
    table.loc[rng.randrange(len(table)), name] = odd
    return table.astype({name: str}) if rng.random() < 0.5 else table


def _edit(copy, rng):
    "Change the curves, or what the manifest says of them; whether the seal would show it"
    import pandas as pd
    from test_frozen_curves import CURVE_FILE

    path, manifest = copy / CURVE_FILE, json.loads((copy / 'manifest.json').read_text())
    kind = rng.randrange(3)
    if kind == 0:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng)[0])
    elif kind == 1:
        try:
            _edited_table(pd.read_parquet(path), rng).to_parquet(path, index=False)
        except (ValueError, TypeError, OverflowError):  # pyarrow cannot write such a column
            path.write_bytes(b'')
    else:
        manifest['light_curves'] = mutate_value(manifest['light_curves'], rng)
    return manifest


def curves(rng, folder):
    "A version whose light curves were edited, and perhaps sealed again"
    from test_frozen_curves import CURVE_FILE

    from astrid_data.core import sha256_file
    from astrid_data.datasets.dataset import Dataset
    from astrid_data.datasets.seal import write_seal

    version, copy = _version(), folder / 'copy'
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(version.folder, copy)
    before = [path.read_bytes() for path in (copy / CURVE_FILE, copy / 'manifest.json')]
    manifest = _edit(copy, rng)
    sealed = rng.random() < 0.7
    if sealed:
        manifest['light_curves_sha256'] = sha256_file(copy / CURVE_FILE)
    try:
        text = json.dumps(manifest, indent=1)
        text.encode()
    except UnicodeEncodeError:
        return 'no text'
    if manifest != json.loads(before[1]):
        (copy / 'manifest.json').write_text(text)
    if sealed:
        write_seal(copy, text)
        (copy / 'manifest.json').write_text(text)
    found = Dataset(copy).verify()
    read = [found.light_curve(i) for i in range(len(found))]
    if not sealed and before != [
        path.read_bytes() for path in (copy / CURVE_FILE, copy / 'manifest.json')
    ]:
        raise Wrong(f'edited light curves without a new seal were read, {len(read)} of them')
    for i, curve in enumerate(read):
        if (curve.table['mjd_utc'] > found.samples['mjd'].iloc[i] + 1e-6).any():
            raise Wrong(f'sample {i} sees the future')
    return 'accepted'


# ---------------------------------------------------------------- limits

_LIMITS = """# limits
days_since_ingest = { most = 7 }
[quality_score]
least = 0.7
[lost_share]
most = 0.5
least = 1e-3
"""


def limits(rng, folder):
    "The limits of a watch, as somebody may write them"
    from astrid_data.automation.watching import _says, read_limits

    text = _LIMITS
    for _ in range(rng.choice((1, 1, 3))):
        text = mutate_text(text or 'x', rng)
    if rng.random() < 0.3:
        text = _LIMITS.replace('0.7', rng.choice((*ODD, '1979-05-27', '[1]', '+inf', '0b1', '1_0')))
    made = text.encode(rng.choice(('utf-8', 'utf-8', 'utf-16', 'latin-1')), 'replace')
    if rng.random() < 0.4:
        made, _ = mutate_bytes(made, rng)
    path = folder / 'limits.toml'
    path.write_bytes(made)
    for limit in read_limits(path).values():
        if _says(1e300, dict(most=1) | limit) not in ('ok', 'alert'):
            raise Wrong(f'the limit {limit} can be told from no number')
    return 'accepted'
