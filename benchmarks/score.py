"""`python -m benchmarks.score`: alerts from AVRO to scores, by part, and the same alerts scored in every way.

A network is trained on ZTF alerts that lie beside the repository, and scores alerts of objects that it has not seen. For the rate, real packets are repeated
under other ids until there are 10,000, written as one AVRO file, and read by as many processes as there are processors, each its share of the packets' files.
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.harness import keep, machine, moment
from benchmarks.real_bogus import network, planned, shared
from benchmarks.words import Words

PACKETS = 10_000
RAW = shared.parent / 'raw_avro'
SIDE = 63


def trained(home, epochs=8):
    "Classifier, and the plan it was trained on; its test objects are new to it"
    import astrid_data as ad

    plan = planned(home)
    dataset = plan.build('ztf', patch_size=SIDE, progress=False, probe=False)
    train, val, test = ad.RealDataLoader(dataset).loaders(batch_size=32)
    model = network(train, val, 0, epochs)
    points = ad.evaluate(model, test, choose_on=val)
    return ad.inference.classifier_of(model, train, val, points), dataset


def alerts_of(dataset, split):
    "The packets of the objects of one split"
    import pandas as pd

    table = pd.read_parquet(shared)
    objects = set(dataset.samples.iloc[dataset.split_rows(split)]['object_id'])
    return table[table['objectId'].isin(objects)].reset_index(drop=True)


def every_way(home):
    "Largest difference of each way from scoring in Python"
    import numpy as np
    import pandas as pd

    import astrid_data as ad
    from astrid_data import cli

    classifier, dataset = trained(home / 'archive')
    alerts = alerts_of(dataset, 'test')
    direct = classifier.score(alerts, prior=0.1)
    folder = classifier.save(home / 'kept')
    onnx = ad.load_classifier(classifier.to_onnx(home / 'ztf.onnx')).score(alerts, prior=0.1)
    alerts.to_parquet(home / 'night.parquet')
    line = ['score', str(folder), str(home / 'night.parquet'), '--prior', '0.1']
    cli.main([*line, '--to', str(home / 'scores.csv')])
    command = pd.read_csv(home / 'scores.csv')
    other = ad.open_archive(home / 'other')
    other.add_alerts(alerts, show=False)
    run = other.score(classifier, prior=0.1, show=False)
    registry = ad.inference.read_scores(other, run)
    numbers = ('score', 'probability', 'distance')
    apart = {'alerts': len(alerts), 'objects': int(alerts['objectId'].nunique())}
    for name, found in (('onnx', onnx), ('command', command)):
        apart[name] = max(float(np.nanmax(np.abs(found[n] - direct[n]))) for n in numbers)
    ordered = [np.sort(registry[n].dropna()) - np.sort(direct[n].dropna()) for n in numbers]
    apart['registry'] = max(float(np.abs(gap).max()) for gap in ordered)
    apart['without a score'] = int((direct['reason'] != '').sum())
    return classifier, apart


def write_packets(home, n=PACKETS, files=8):
    "Files of AVRO with real packets, each under a new id"
    import fastavro

    path = next(path for path in sorted(RAW.glob('*ok_3p3*')) if 'Pitt' in path.name)
    with open(path, 'rb') as file:
        reader = fastavro.reader(file)
        schema, packet = reader.writer_schema, next(reader)
    written = []
    for k in range(files):
        rows = []
        for i in range(k * n // files, (k + 1) * n // files):
            candidate = packet['candidate'] | dict(candid=10**15 + i)
            rows.append(packet | dict(candid=10**15 + i, candidate=candidate))
        target = home / f'night-{k}.avro'
        with open(target, 'wb') as out:
            fastavro.writer(out, schema, rows)
        written.append(target)
    return written


def by_part(classifier, file):
    "Seconds of processor time for each part, of the alerts of one file"
    from astrid_data.inference import pieces, score
    from astrid_data.ingest.alert_files import read_alerts

    seconds = {}

    def timed(name, start):
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - start

    start = time.process_time()
    packets = list(read_alerts(file))
    timed('reading AVRO', start)
    start = time.process_time()
    roles = tuple(classifier.input['channels'])
    for _, packet in packets:
        pieces._read_alert(packet, None, roles)
    timed('names, unpacking, geometry', start)
    start = time.process_time()
    whole = list(pieces.pieces_of(classifier, [packet for _, packet in packets]))
    timed('pixels, levels, flags', start)
    seconds['pixels, levels, flags'] -= seconds['names, unpacking, geometry']  # Done again in it
    start = time.process_time()
    for piece in whole:
        score._table_of(classifier, piece, 0.1, classifier.version)
    timed('network, distance, table', start)
    return {name: 1000 * s / len(packets) for name, s in seconds.items()}


def score_file(folder, file):
    "How many alerts of a file have a score"
    import torch

    import astrid_data as ad

    torch.set_num_threads(1)
    classifier = ad.load_classifier(folder)
    return sum(int((t['reason'] == '').sum()) for t in ad.inference.score_pieces(classifier, file))


def score_file_timed(folder, file):
    "The same, with the processor time that it took"
    start = time.process_time()
    return score_file(folder, file), time.process_time() - start


def rate(folder, files, workers=2):
    "Alerts scored, seconds, and processor seconds, of all files by some processes that have started already"
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(score_file, [folder] * workers, files[:1] * workers))
        start = time.perf_counter()
        found = list(pool.map(score_file_timed, [folder] * len(files), files))
        scored, processor = map(sum, zip(*found))
        return scored, time.perf_counter() - start, processor


def measure():
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        classifier, apart = every_way(home)
        files = write_packets(home)
        parts = by_part(classifier, files[0])
        start = time.process_time()
        alone = score_file(home / 'kept', files[0])
        cpu_ms = 1000 * (time.process_time() - start) / alone
        scored, seconds, processor = rate(home / 'kept', files)
    return dict(
        table='score',
        **moment(),
        machine=machine(),
        same=apart,
        ms_per_alert=parts,
        cpu_ms_per_alert=cpu_ms,
        packets=scored,
        seconds=seconds,
        processor_seconds=processor,
        idle_share=1 - processor / (2 * seconds),
        per_second=scored / seconds,
    )


def main(words=None):
    Words('benchmarks.score', __doc__).parse_args(words)
    if not shared.exists():
        sys.exit('the ZTF alerts do not lie beside the repository')
    found = measure()
    print(json.dumps(found, indent=1, default=str))
    keep(found)


if __name__ == '__main__':
    main()
