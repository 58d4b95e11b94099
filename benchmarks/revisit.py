"""`python -m benchmarks.revisit [FILES [VERSIONS]]`: what is there already. Adding a folder of files again, listing many versions, opening one by name.

The files (300) are small images of pretend sky; the versions (10,000) are rows of the registry beside one that was built. Kept in benchmarks/results.
"""

import json
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import keep, machine, moment
from benchmarks.words import Words, whole_number

FILES, VERSIONS = 300, 10_000


def timed(work):
    "Seconds of processor and of the clock that something took"
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return dict(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu)


def write_files(folder, n):
    "Small images, each with a place of its own"
    import astropy.io.fits as fits
    import numpy as np

    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(n):
        header = fits.Header(dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRPIX1=16.0, CRPIX2=16.0))
        header.update(CRVAL1=k * 0.1, CRVAL2=10.0, CDELT1=-1e-4, CDELT2=1e-4, FILTER='r')
        header.update({'DATE-OBS': '2024-01-01T00:00:00', 'EXPTIME': 30.0, 'TELESCOP': 'pretend'})
        pixels = rng.normal(100, 5, (32, 32)).astype('f4')
        fits.PrimaryHDU(pixels, header).writeto(folder / f'{k:05d}.fits')


def folder_again(home, n):
    "Adding a folder, and adding it again"
    import astrid_data as ad

    write_files(home / 'files', n)
    archive = ad.open_archive(str(home / 'files-archive'))
    reports = []

    def add():
        where = str(home / 'files' / '*.fits')
        reports.append(archive.add_fits(where, detect=False, show=False, survey='pretend'))

    found = dict(first=timed(add), again=timed(add))
    found['n_first'], found['n_again'] = (len(report.images) for report in reports)
    return dict(files=n, files_again_per_s=n / found['again']['seconds'], **found)


def rows_like(manifest, number):
    "Rows of a version like one, under another name: of the data set, the version and its head"
    own, name, now = uuid.uuid4(), f'set-{number:05d}', datetime.now(UTC)
    facts = dict(total_samples=9, anomaly_ratio=0.5, created_by='nobody', status='active')
    known = dict(quality_score=0.9, created_at=now)
    same = {k: manifest[k] for k in ('content_hash', 'plan_hash', 'origin')}
    place = dict(name=name, version=1, state='frozen', uri=f'datasets/{name}/v1', frozen_at=now)
    said = dict(manifest, name=name, id=str(own))
    head = dict(n_samples=9, splits={}, quality_score=0.9, audit='pass')
    return (
        dict(facts, id=own, name=name, collection_params={}, **known),
        dict(place, dataset_id=own, manifest=said, **same),
        dict(head, dataset_id=own, created_at=now.isoformat()),
    )


def many_versions(home, n):
    "Listing, and opening by name, beside so many others"
    import astrid_data as ad
    from astrid_data.registry.tables import TrainingDataset, VersionHead, VersionRow, bulk_insert

    archive = ad.synthetic_archive(home / 'versions-archive', n_observations=1, n_sources=30)
    plan = ad.TrainingDataCollector(archive).plan(confidence_threshold=None, progress=False)
    built = plan.build('mine', patch_size=16, progress=False, allow_empty=True, gate='warn')
    manifest = built.manifest
    tables = zip(*(rows_like(manifest, number) for number in range(n)))
    with archive.session() as session:
        for table, rows in zip((TrainingDataset, VersionRow, VersionHead), tables):
            bulk_insert(session, table, list(rows))
    ad.list_datasets(archive), ad.open_dataset(archive, 'mine')  # Imports, and the first connection
    listing = timed(lambda: ad.list_datasets(archive))
    opening = timed(lambda: [ad.open_dataset(archive, 'mine') for _ in range(10)])
    opening = {name: value / 10 for name, value in opening.items()}
    return dict(versions=len(ad.list_datasets(archive)), listing=listing, opening=opening)


def main(words=None):
    asked = Words('benchmarks.revisit', __doc__)
    asked.add_argument('files', nargs='?', type=whole_number, default=FILES)
    asked.add_argument('versions', nargs='?', type=whole_number, default=VERSIONS)
    asked = asked.parse_args(words)
    files, versions = asked.files, asked.versions
    with tempfile.TemporaryDirectory() as name:
        result = dict(
            table='revisit',
            about='a folder added again; many versions listed, one opened by name',
            machine=machine(),
            **moment(),
            folder=folder_again(Path(name), files),
            catalogue=many_versions(Path(name), versions),
        )
    print(json.dumps(result, indent=1))
    if (files, versions) == (FILES, VERSIONS):
        keep(result)


if __name__ == '__main__':
    main()
