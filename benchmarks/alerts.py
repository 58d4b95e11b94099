"""`python -m benchmarks.alerts [N]`: alerts from a table into a registry and a store, by part, beside bare writing of the same bytes.

N alerts (4,000) are made up: noise of their own in each of three stamps of 63 x 63 pixels, packed by gzip, and a history of twenty epochs, two
thirds of them non-detections. They come
in as Parquet and as AVRO, into SQLite and a folder; then triplets are cut from them. Rates are of processor seconds of one
core, which another program on the machine does not change; wall seconds stand beside them. Kept in benchmarks/results/alerts.json.
"""

import gzip
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from benchmarks.harness import machine, moment
from benchmarks.words import Words, whole_number

STAMPS = ('cutoutTemplate', 'cutoutScience', 'cutoutDifference')


def stamp(rng):
    "A gzipped stamp of noise; it says nothing about the sky"
    out = io.BytesIO()
    fits.PrimaryHDU(rng.normal(100, 5, (63, 63)).astype('f4')).writeto(out)
    return gzip.compress(out.getvalue(), 6, mtime=0)


def history(k):
    "What an alert says of the past of its object"
    for i in range(20):
        seen = i % 3 == 0
        yield dict(
            candid=5 * 10**17 + 20 * k + i if seen else None,
            jd=2460300.5 + i + k / 1e7,
            fid=1 + i % 2,
            pid=10**15 + 20 * k + i,
            magpsf=18.5 + i / 10 if seen else None,
            sigmapsf=0.1 if seen else None,
            isdiffpos='t' if seen else None,
            diffmaglim=20.5,
        )


def made_up(n, seed=0):
    "Alerts as ZTF would send them"
    rng = np.random.default_rng(seed)
    for k in range(n):
        yield dict(
            objectId=f'ZTF24{k:08d}',
            candid=10**18 + k,
            candidate=dict(
                jd=2460400.5 + k / n,
                fid=1 + k % 2,
                ra=float(rng.uniform(0, 360)),
                dec=float(rng.uniform(-30, 80)),
                drb=float(rng.uniform()),
                magpsf=18.0 + k % 3,
                sigmapsf=0.05,
                xpos=500.0,
                ypos=500.0,
                field=k % 100,
                rcid=k % 64,
                programid=1,
            ),
            prv_candidates=list(history(k)),
            **{name: dict(fileName='a.fits.gz', stampData=stamp(rng)) for name in STAMPS},
        )


def schema():
    "The AVRO schema of these alerts"
    kinds = dict(candid='long', fid='int', field='int', rcid='int', programid='int', pid='long')
    kinds |= dict(isdiffpos='string')

    def record(name, *names):
        fields = [dict(name=one, type=kinds.get(one, 'double')) for one in names]
        return dict(type='record', name=name, fields=fields)

    names = 'jd fid ra dec drb magpsf sigmapsf xpos ypos field rcid programid'
    cutout = [dict(name='fileName', type='string'), dict(name='stampData', type='bytes')]
    cutout = dict(type='record', name='cutout', fields=cutout)
    stamps = [dict(name=STAMPS[0], type=cutout), *(dict(name=s, type='cutout') for s in STAMPS[1:])]
    earlier = record('earlier', *'candid jd fid pid magpsf sigmapsf isdiffpos diffmaglim'.split())
    for one in earlier['fields']:
        one['type'] = ['null', one['type']]
    earlier = dict(type='array', items=earlier)
    fields = [
        dict(name='objectId', type='string'),
        dict(name='candid', type='long'),
        dict(name='candidate', type=record('candidate', *names.split())),
        dict(name='prv_candidates', type=earlier),
    ]
    return dict(type='record', name='alert', fields=fields + stamps)


def timed(rows, part, n, function):
    "Run something and note what it cost for each of `n`"
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    rows.append(
        dict(part=part, n=n, cpu_per_s=round(n / cpu), wall_per_s=round(n / wall),
             peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    )  # fmt: skip
    print(rows[-1], flush=True)
    return result


def write_bare(folder, packets):
    "The same bytes in one file, and nothing else"
    with open(folder / 'bare', 'wb') as file:
        for packet in packets:
            for name in STAMPS:
                file.write(packet[name]['stampData'])


def cut(archive, n):
    "Triplets of all alerts"
    from sqlalchemy import select

    from astrid_data.images.opener import ImageOpener
    from astrid_data.patches.extract import extract_patches
    from astrid_data.registry.tables import Image

    with archive.session() as s:
        found = s.execute(select(Image.observation_id, Image.role, Image.uri)).all()
    table = pd.DataFrame(found, columns=['observation', 'role', 'uri'])
    table = table.pivot(index='observation', columns='role', values='uri')
    roles = ('template', 'science', 'difference')
    table = table.rename(columns={role: f'{role}_uri' for role in roles}).reset_index()
    table = table.sort_values('science_uri', ignore_index=True)
    for role in roles:
        table[f'{role}_wcs_state'] = 'stamp'
    table = table.assign(ra=1.0, dec=1.0, pixel_x=31.0, pixel_y=31.0)
    opener, kept = ImageOpener(archive.store), 0
    for start in range(0, n, 176):  # As a build does
        part = table[start : start + 176]
        kept += extract_patches(part, 63, roles, open=opener).kept.sum()
    assert kept == n


def main(words=None):
    asked = Words('benchmarks.alerts', __doc__)
    asked.add_argument('n', nargs='?', type=whole_number, default=4000, help='alerts')
    n = asked.parse_args(words).n
    import fastavro

    import astrid_data as ad

    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        packets = list(made_up(n))
        timed(rows, 'bare writing of the stamps', n, lambda: write_bare(folder, packets))
        fastavro_file = folder / 'night.avro'
        with open(fastavro_file, 'wb') as file:
            fastavro.writer(file, fastavro.parse_schema(schema()), packets)
        flat = [{**p, **{s: p[s]['stampData'] for s in STAMPS}} for p in packets]
        pd.DataFrame(flat).to_parquet(folder / 'night.parquet', row_group_size=500)
        packets.clear(), flat.clear()

        def read():
            with open(fastavro_file, 'rb') as file:
                return sum(1 for _ in fastavro.reader(file))

        timed(rows, 'reading the AVRO file alone', n, read)
        warm = ad.open_archive(folder / 'warm')
        warm.add_alerts(list(made_up(50, 1)), show=False)
        cut(warm, 50)
        for kind in ('avro', 'parquet'):
            archive = ad.open_archive(folder / kind)
            report = timed(
                rows, f'add_alerts, {kind}, SQLite and folder', n,
                lambda a=archive, k=kind: a.add_alerts(folder / f'night.{k}', show=False),
            )  # fmt: skip
            assert report.added == n
        timed(rows, 'the same again: all known', n, lambda: archive.add_alerts(
            folder / 'night.parquet', show=False))  # fmt: skip
        timed(rows, 'triplets of 63 x 63 cut', n, lambda: cut(archive, n))
        objects = len(list(archive.store.list()))
    result = dict(table='alerts', **moment(), machine=machine(), objects=objects, rows=rows)
    path = Path(__file__).parent / 'results' / 'alerts.json'
    path.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
