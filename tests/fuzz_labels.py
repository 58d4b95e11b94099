"Targets of `fuzzing`: messages of a stream, lists of known objects, votes, and what is to be scored."

import io
import os
from functools import cache
from tempfile import mkdtemp
from types import SimpleNamespace

import numpy as np
import pandas as pd
from fuzz_files import _bytes_of, _header, _packet, _rubin_packet, _sky
from fuzz_files import avro_seeds as avro_files
from fuzzing import ODD, Wrong, mutate_bytes, mutate_text, mutate_value, odd_value

TARGETS = tuple(f'fuzz_labels:{name}' for name in 'messages matches votes scores'.split())
NUMBER = 900


# ---------------------------------------------------------------- messages


@cache
def _schema_and_bodies():
    "The schema of alerts, and records written with it"
    import fastavro

    file = io.BytesIO(avro_files()[0])
    reader = fastavro.reader(file)
    bodies = []
    for packet in reader:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(reader.writer_schema), packet)
        bodies.append(out.getvalue())
    return reader.writer_schema, bodies


def _odd_schemas(rng, folder):
    "What may stand for schemas"
    import json

    schema, _ = _schema_and_bodies()
    odd = schema
    for _ in range(rng.choice((1, 2, 4))):
        odd = mutate_value(odd, rng)
    text = mutate_text(json.dumps(schema), rng)
    path = folder / 'schemas'
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    (path / f'v9_0.{rng.choice(("avsc", "json", "avro"))}').write_text(text, errors='replace')
    return rng.choice((None, {NUMBER: odd}, {NUMBER: text}, path, lambda number: odd, {}))


class _Message:
    "As a consumer of Kafka hands it over"

    def __init__(self, value, problem=None):
        self.value, self.error = lambda: value, lambda: problem


def messages(rng, folder):
    "A message of a stream; a body that was cut or has more behind it is no packet"
    from astrid_data.core import AstridError
    from astrid_data.ingest.alerts import _read_packet, read_alerts

    schema, bodies = _schema_and_bodies()
    whole = b'\0' + NUMBER.to_bytes(4, 'big') + rng.choice(bodies)
    schemas, kind, no_packet = {NUMBER: schema}, rng.random(), False
    made = whole
    if kind < 0.2:
        made, no_packet = whole[: rng.randrange(5, len(whole))], True
    elif kind < 0.3:
        made, no_packet = whole + bytes(rng.randrange(1, 99)), True
    elif kind < 0.7:
        made, _ = mutate_bytes(whole, rng, bodies)
    else:
        schemas = _odd_schemas(rng, folder)
    odd = rng.choice((made, made, made, odd_value(rng) if kind > 0.7 else made))
    one = rng.choice((odd, _Message(odd), ('topic', odd, 'key')) if kind > 0.7 else (odd,))
    taken = 0
    for _, packet in read_alerts([one], schemas):
        try:
            _read_packet(packet, rng.choice((None, 'ztf')))
            taken += 1
        except AstridError:
            continue
    if taken and no_packet:
        raise Wrong(f'{len(made)} bytes of {len(whole)} were taken for a packet')
    return 'accepted' if taken else 'refused'


# ---------------------------------------------------------------- lists and votes

N = 6
ASIDE = 'made5'  # Which no list names, and for which nobody votes


@cache
def _home():
    "A folder of an archive with stamps at some places, made before processes part"
    from astrid_data.ingest.archive import open_archive

    home = mkdtemp(prefix='fuzz-')
    rng = np.random.default_rng(0)
    rows = [
        dict(
            image=rng.normal(size=(7, 7)).astype('f4'),
            id=f'made{k}',
            object_id=f'o{k}',
            ra=10.0 + k,
            dec=0.0,
            mjd=59000.5,
        )
        for k in range(N)
    ]
    open_archive(home).add_stamps(rows, 'made', show=False)
    return home


@cache
def _archive_of(process):
    from astrid_data.ingest.archive import open_archive

    return open_archive(_home())


def _archive():
    _home()
    return _archive_of(os.getpid())


def _judged(archive, name):
    "Names of the stamps that have a verdict of a list"
    from sqlalchemy import select

    from astrid_data.registry.tables import Detection, Observation, ValidationEvent

    query = select(Observation.observation_id)
    query = query.join(Detection, Detection.observation_id == Observation.id)
    query = query.join(ValidationEvent, ValidationEvent.detection_id == Detection.id)
    with archive.session() as s:
        return {*s.scalars(query.where(ValidationEvent.validator_id == f'catalogue:{name}'))}


def _odd_columns(columns, rng):
    "Columns with some cells that nobody expects; a column may be lost, renamed or of another kind"
    made = {key: list(values) for key, values in columns.items()}
    for _ in range(rng.choice((1, 1, 2, 4))):
        key = rng.choice(list(made))
        kind = rng.randrange(6)
        if kind == 0 and len(made) > 1:
            del made[key]
        elif kind == 1:
            made[rng.choice(ODD).replace('\ud800', 'x')] = made.pop(key)  # pandas takes no half
        elif kind == 2:
            made[key] = [rng.choice((str(one), one, None)) for one in made[key]]
        else:
            values = made[key]
            values[rng.randrange(len(values))] = rng.choice((odd_value(rng), rng.choice(ODD)))
    return made


def _table_of(columns, rng, folder):
    "Columns as somebody may give them: a frame, records, or a file that was changed"
    made = _odd_columns(columns, rng) if rng.random() < 0.8 else columns
    kind = rng.random()
    if kind < 0.5:
        return pd.DataFrame({key: pd.Series(values, dtype=object) for key, values in made.items()})
    if kind < 0.6:
        return pd.DataFrame({key: pd.Series(values) for key, values in columns.items()}).iloc[:0]
    lines = [','.join(map(str, made)), *(','.join(map(str, row)) for row in zip(*made.values()))]
    text = '\n'.join(lines)
    if rng.random() < 0.6:
        text = mutate_text(text, rng)
    data = text.encode(rng.choice(('utf-8', 'utf-8', 'utf-16')), 'replace')
    path = folder / 'x.csv'
    path.write_bytes(mutate_bytes(data, rng)[0] if rng.random() < 0.4 else data)
    return path


def _some(rng, **words):
    "Some arguments, each one of its values"
    return {key: rng.choice(values) for key, values in words.items() if rng.random() < 0.3}


def matches(rng, folder):
    "A list of known objects; a stamp that it does not name gets no verdict"
    columns = dict(
        ra=[10.0, 11.0, 12.0, 13.0],
        dec=[0.0] * 4,
        name=['SN a', 'SN b', 'SN c', 'SN c'],
        kind=['SN Ia', 'VAR', 'AGN', 'bogus'],
        error=[0.3, 0.5, 1.0, 2.0],
        seen=[59000.0, 59000.4, 59001.0, 59000.6],
        good=[True, False, True, 'yes'],
    )
    archive, name = _archive(), f'm{os.getpid()}-{rng.randrange(10**9)}'
    how = _some(
        rng,
        object_id=('name', 'missing', 'kind'),
        class_name=('kind', 'error'),
        is_real=('good', True, False, 'kind'),
        error_arcsec=('error', 0.5, -1.0, float('nan'), 'kind'),
        detection_error_arcsec=(0.3, 0.0, float('inf')),
        when=('seen', ('seen', 'seen'), 'kind', 5),
        days=(3.0, (1, 5), -1.0, 'x'),
        track=('seen', 'kind'),
        longest_days=(1.0, 0.0, float('nan')),
        share=(0.5, 0.0, 2),
        confidence=(0.95, 0.5, 1.0),
        survey=('made', 'other', ''),
    )
    report = archive.match_labels(_table_of(columns, rng, folder), name, show=False, **how)
    judged = _judged(archive, name)
    if ASIDE in judged:
        raise Wrong(f'{ASIDE} got a verdict of a list that does not name it: {how}')
    if len(judged) > report.rows:
        raise Wrong(f'{len(judged)} verdicts of {report.rows} rows: {how}')
    return 'accepted' if judged else 'refused'


def votes(rng, folder):
    "A table of votes; what nobody voted on gets no verdict"
    rows = [(f'made{k}', who, k % 2) for k in range(N - 1) for who in 'abcd']
    columns = dict(zip(('detection_id', 'voter', 'vote'), map(list, zip(*rows))))
    archive, name = _archive(), f'v{os.getpid()}-{rng.randrange(10**9)}'
    how = _some(
        rng,
        detection=('voter', 'missing'),
        voter=('vote', 'detection_id'),
        vote=('vote', 'voter', 5),
        least_votes=(1, 4, 0, 10**30, 2.5),
        confidence=(0.6, 0.999, 1.0, float('nan')),
    )
    report = archive.add_votes(_table_of(columns, rng, folder), name, show=False, **how)
    judged = _judged(archive, name)
    if ASIDE in judged:
        raise Wrong(f'{ASIDE} got a verdict, and nobody voted on it: {how}')
    chance = [] if report.consensus is None else report.consensus.chance
    if not np.all((np.asarray(chance) >= 0) & (np.asarray(chance) <= 1)):
        raise Wrong(f'a chance that is none: {chance}')
    return 'accepted' if judged else 'refused'


# ---------------------------------------------------------------- scores

CHANNELS = ('template', 'science', 'difference')


def _answer(raw, levels=None):
    "What the pretended model says of patches"
    brightness = np.tanh(np.nan_to_num(raw).mean((1, 2, 3)))
    return dict(score=0.5 + brightness / 4, distance=np.abs(brightness))


@cache
def _model():
    "What looks like a model of three channels, or of one, and takes no time"
    facts = dict(unknown={}, typical=[0.0, 1.0])
    made = dict(facts=facts, version='0' * 16, threshold=0.5, classes=None, answer=_answer)
    made['probability_at'] = lambda score, prior: score
    return {
        n: SimpleNamespace(
            input=dict(patch_size=9, channels=CHANNELS[:n], surveys=['ztf'], cut={}), **made
        )
        for n in (1, 3)
    }


def _packets_to_score(rng):
    "Packets, some of them changed"
    packets = []
    for _ in range(rng.choice((1, 2, 4))):
        one = rng.choice((_packet, _rubin_packet))()
        for _ in range(rng.choice((0, 1, 2))):
            one = mutate_value(one, rng)
        packets.append(one)
    return packets


def _places_to_score(rng, folder, names):
    "A table of images and positions, changed"
    from astropy.io import fits

    path = folder / 'a.fits'
    if not path.exists():
        path.write_bytes(_bytes_of(fits.PrimaryHDU(_sky(1), _header())))
    where = [str(path), str(path), str(folder / 'none.fits'), '/dev/zero']
    columns = {f'{name}_uri': where for name in names}
    columns |= {f'{name}_hdu': [0, 1, 0, 0] for name in names}
    columns |= dict(ra=[150.0, 150.0, 2.0, 150.0], dec=[2.0, 2.001, 2.0, 2.0])
    columns |= dict(pixel_x=[3.0] * 4, pixel_y=[4.0] * 4) if rng.random() < 0.3 else {}
    made = _odd_columns(columns, rng)
    return pd.DataFrame({key: pd.Series(values, dtype=object) for key, values in made.items()})


def scores(rng, folder):
    "What is to be scored: every row has a score from 0 to 1, or a reason"
    from astrid_data.inference.score import score

    n = rng.choice((1, 3, 3))
    if rng.random() < 0.6:
        what = _packets_to_score(rng)
        least = len(what)
    else:
        what = _places_to_score(rng, folder, CHANNELS[:n])
        least = len(what)
    how = _some(
        rng,
        prior=(0.1, 0, 1.0, -1, 'x', float('nan')),
        survey=('ztf', 'lsst', 'other', 5),
        chunk=(1, 2, 256),
    )
    found = score(_model()[n], what, **how)
    if len(found) != least:
        raise Wrong(f'{len(found)} rows for {least} items')
    number = found['score'].astype(float)
    has_reason = found['reason'].astype(bool)
    if (number.isna() != has_reason).any() or ((number < 0) | (number > 1)).any():
        raise Wrong(f'{found[["score", "reason"]].to_dict("records")}')
    return 'refused' if has_reason.all() else 'accepted'
