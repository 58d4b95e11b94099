"""Every sample from real folders, with all their masks, weights and noise maps beside, is cut from a science plane:
its pixels are those of that HDU as astropy alone reads it. Where the files are missing the tests are skipped."""

import gzip
import io
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

import astrid_data as ad

pytestmark = pytest.mark.filterwarnings('ignore')
SIDE = 16
# Folder -> which files are science, by what their observatories write into the names; and how many images
FOLDERS = {
    'ground/decam_tc4': (r'_ooi_', 5),
    'ground/decam_transient': (r'DEC-OBS', 6),
    'hst': (r'^(?!.*_rms)', 38),  # One of 36 has three bands
    'jwst': (r'_nircam_|_niriss_', 4),  # Two are the direct images beside the beams of a grism
}
NO_SKY = {'ERR', 'DQ', 'WHT', 'RMS', 'SEG', 'CONTAM', 'VAR_POISSON', 'VAR_RNOISE', 'UNCERT', 'PSF'}


def positions(archive):
    "Three places on every image, of which every other is an artefact"
    steps = [(-1, True), (0, False), (1, True)]
    return pd.DataFrame(
        dict(ra=seen.ra + step * seen.radius_deg / 4, dec=seen.dec, ok=is_real)
        for seen in archive.observations().itertuples()
        for step, is_real in steps
    )


def built(archive, **question):
    params = ad.TrainingDataCollectionParams(
        max_samples=400, confidence_threshold=0, date_range=None, **question
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    return plan.build('science', patch_size=SIDE, progress=False, probe=False)


def path_of(sample):
    "Where the image of a sample lies"
    return Path(unquote(urlsplit(sample.image_uri).path))


def cut(sample):
    "The patch of a sample by astropy alone, NaN where the image ends"
    with fits.open(path_of(sample)) as file:
        name = sample.image_hdu
        hdu = file[int(name) if name.isdigit() else (name, sample.image_extver)]
        assert hdu.name not in NO_SKY
        pixels = np.pad(hdu.data.astype('f4'), SIDE, constant_values=np.nan)
    y, x = sample.y0 + SIDE, sample.x0 + SIDE
    return pixels[y : y + SIDE, x : x + SIDE]


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_sample_of_a_folder_is_cut_from_a_science_plane(shared_data, tmp_path, folder):
    science, n_images = FOLDERS[folder]
    archive = ad.open_archive(tmp_path)
    archive.add_fits(shared_data / folder, show=False, detect=False)
    assert len(archive.observations()) == n_images
    archive.add_catalogue(positions(archive), 'grid', is_real='ok')
    dataset = built(archive, negatives=dict(rejected=1.0, random_sky=1.0))
    patches, valid = dataset.patches()[:], dataset.valid()[:]
    assert len(dataset) and dataset.samples['image_uri'].nunique() >= n_images // 2
    for row, sample in enumerate(dataset.samples.itertuples()):
        assert re.search(science, path_of(sample).name)
        sees = valid[row, 0].astype(bool)
        assert sees.any()
        np.testing.assert_array_equal(patches[row, 0][sees], cut(sample)[sees])


def test_every_channel_of_an_alert_is_its_own_stamp(shared_data, tmp_path):
    path = shared_data / 'alerts' / 'ztf_dev.parquet'
    archive = ad.open_archive(tmp_path)
    archive.add_alerts(path, show=False)
    channels = ('template', 'science', 'difference')
    dataset = built(archive, survey_ids=['ztf'], channels=channels, negatives=dict(rejected=10))
    rows = pd.read_parquet(path).set_index('candid')
    patches, valid = dataset.patches()[:], dataset.valid()[:]
    assert len(dataset) > 200
    for row, sample in enumerate(dataset.samples.itertuples()):
        for k, channel in enumerate(channels):
            packed = rows.loc[int(sample.observation_key), f'cutout{channel.title()}']
            with fits.open(io.BytesIO(gzip.decompress(packed)), ignore_missing_simple=True) as file:
                stamp = file[0].data.astype('f4')
            sees = valid[row, k].astype(bool)
            y, x = sample.y0, sample.x0
            there = stamp[max(y, 0) : y + SIDE, max(x, 0) : x + SIDE]
            if there.shape == sees.shape:
                np.testing.assert_array_equal(patches[row, k][sees], there[sees])
