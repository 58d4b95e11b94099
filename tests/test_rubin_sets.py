"Rubin's alerts with stamps of fourteen sizes become one set of triplets, with their flags as facts"

import io

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits

import astrid_data as ad
from astrid_data.images.sanity import unpacked_stamp

SIDE = 29
ROLES = dict(template='Template', science='Science', difference='Difference')


@pytest.fixture(scope='module')
def rubin(shared_data, tmp_path_factory):
    "The alerts as a table, and their set; which is called real is made up, by turns"
    table = pd.read_parquet(shared_data / 'alerts' / 'lsst_dev.parquet')
    by_turns = np.where(np.arange(len(table)) % 2, 'real', 'bogus')
    table = table.assign(label_proxy=by_turns, label_basis='turns, for a test')
    archive = ad.open_archive(tmp_path_factory.mktemp('rubin'))
    report = archive.add_alerts(table, show=False)
    assert report.added == 44 and report.surveys == {'lsst': 44}
    params = ad.TrainingDataCollectionParams(
        survey_ids=['lsst'],
        confidence_threshold=0,
        channels=tuple(ROLES),
        negatives={'rejected': 10},
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    dataset = plan.build('rubin', patch_size=SIDE, progress=False, probe=False, allow_empty=True)
    return table.set_index('diaSourceId'), dataset


def middle_of(stamp, x, y):
    with fits.open(io.BytesIO(unpacked_stamp(stamp))) as planes:
        pixels = planes[0].data
    half = SIDE // 2
    return pixels[y - half : y + half + 1, x - half : x + half + 1]


def test_patches_are_the_pixels_of_the_stamps(rubin):
    table, dataset = rubin
    assert len(dataset) == 44
    sides, batch = (
        set(),
        ad.PatchDataset(dataset, 'all', normalise=None).read(np.arange(len(dataset))),
    )
    names = dataset.samples['observation_key']
    for i, name in enumerate(names):
        row, sample = table.loc[int(name)], dataset.samples.iloc[i]
        x, y = (int(np.floor(sample[f'pixel_{axis}'] + 0.5)) for axis in 'xy')
        for k, role in enumerate(ROLES.values()):
            wanted = middle_of(row[f'cutout{role}'], x, y)
            sides.add(wanted.shape)
            if wanted.shape == (SIDE, SIDE) and np.isfinite(wanted).all():
                assert np.array_equal(batch['image'][i, k].numpy(), wanted.astype('f4')), name
    assert (SIDE, SIDE) in sides


def test_flags_and_reliability_are_facts(rubin):
    from sqlalchemy import select

    from astrid_data.registry.tables import Detection, DetectionIndex

    table, dataset = rubin
    archive = dataset.archive
    with archive.session() as s:
        rows = s.execute(
            select(DetectionIndex, Detection).join(
                Detection, Detection.id == DetectionIndex.detection_id
            )
        ).all()
        assert len(rows) == 44
        for index, detection in rows:
            facts, name = index.facts, int(index.facts['lineage'].split()[0])
            assert {'isDipole', 'glint_trail', 'pixelFlags', 'pixelFlags_streak'} <= {*facts}
            assert float(detection.confidence_score) == pytest.approx(
                table.loc[name, 'reliability'], abs=1e-4
            )


def test_a_network_learns_on_them(rubin):
    train, *_ = ad.RealDataLoader(rubin[1]).loaders(batch_size=16)
    history = ad.fit(ad.SmallCNN(channels=3, seed=0), train, None, epochs=1, show=False)
    assert all(bool(torch.isfinite(p).all()) for p in history.learnt[0].parameters())
