"Features of light curves: the same as by hand from what a sample could know, and nothing later."

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_frozen_curves import NIGHTS, filled, freeze

import astrid_data as ad
from astrid_data.datasets.dataset import Dataset

light_curve = pytest.importorskip('light_curve')
ALERTS = Path(__file__).parents[2] / 'shared' / 'data' / 'alerts' / 'ztf_dev.parquet'


@pytest.fixture(scope='module')
def version(tmp_path_factory):
    return freeze(filled(tmp_path_factory.mktemp('features')))


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    if not ALERTS.exists():
        pytest.skip('the real alerts are not here')
    archive = ad.open_archive(tmp_path_factory.mktemp('real'))
    archive.add_alerts(ALERTS, show=False)
    return freeze(archive)


def by_hand(dataset, i, band):
    "Weighted mean, and half of the range, of the fluxes of one sample in a band"
    table = dataset.light_curve(i).table
    table = table[(table['band'] == band) & (table['kind'] != 'limit')]
    table = table[np.isfinite(table['flux']) & (table['flux_error'] > 0)]
    forced_first = table.assign(is_seen=table['kind'] != 'forced', at=table['mjd_utc'].round(5))
    table = forced_first.sort_values(['at', 'is_seen']).drop_duplicates('at')
    if not len(table):
        return 0, np.nan, np.nan
    weights = table['flux_error'] ** -2.0
    mean = (table['flux'] * weights).sum() / weights.sum()
    amplitude = (table['flux'].max() - table['flux'].min()) / 2 if len(table) > 1 else np.nan
    return len(table), mean, amplitude


def test_features_are_those_of_the_frozen_curves(version):
    table = version.curve_features()
    assert len(table) == NIGHTS and (table[['g_epochs', 'i_epochs']] > 0).all().all()
    for i in range(NIGHTS):
        for band in 'gri':
            n, mean, amplitude = by_hand(version, i, band)
            row = table.loc[i]
            assert row[f'{band}_epochs'] == n
            found = row[[f'{band}_weighted_mean', f'{band}_amplitude']].to_numpy('f8')
            np.testing.assert_allclose(found, [mean, amplitude])


def test_features_of_real_alerts(real):
    table = real.curve_features()
    bands = real.manifest['light_curves']['bands']
    assert len(table) == len(real) and len(bands) > 1
    counts = table[[f'{band}_epochs' for band in bands]].sum(axis=1)
    assert (counts[real.samples['light_curve_sha256'].isna()] == 0).all() and counts.max() > 3
    for i in np.flatnonzero(counts)[:: max(1, len(table) // 40)]:
        for band in bands:
            n, mean, amplitude = by_hand(real, i, band)
            row = table.loc[i]
            found = row[[f'{band}_weighted_mean', f'{band}_amplitude']].to_numpy('f8')
            assert row[f'{band}_epochs'] == n
            np.testing.assert_allclose(found, [mean, amplitude], rtol=1e-6)
    assert not np.isinf(table.to_numpy('f8')).any()


def test_what_is_not_known_is_nan(version):
    table = version.curve_features(light_curve.LinearFit())
    assert (table['i_epochs'] == 1).all() and table['i_linear_fit_slope'].isna().all()
    assert (table['r_epochs'] == 0).all() and table['r_linear_fit_slope'].isna().all()
    assert table['g_linear_fit_slope'].notna().all()


def test_a_copied_folder_has_the_same_features(version, tmp_path):
    shutil.copytree(version.folder, tmp_path / 'copy')
    pd.testing.assert_frame_equal(
        Dataset(tmp_path / 'copy').curve_features(), version.curve_features()
    )
