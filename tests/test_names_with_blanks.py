"Names of stamps are names, whatever blanks they have"

import numpy as np
import pytest

import astrid_data as ad


@pytest.mark.parametrize('prefix', ['SN ', 'AT\u00a0', 'my\tset\n', 'x', 'a%20'])
def test_a_name_with_blanks_ties_nobody_together(tmp_path, prefix):
    "The words of a name stood as names of earlier alerts: all 'SN …' were one piece"
    rng = np.random.default_rng(0)
    archive = ad.open_archive(tmp_path)
    records = [
        dict(
            image=rng.normal(size=(24, 24)), id=f'{prefix}{k}', ra=3.0 * k, dec=0.0, mjd=59000.0 + k
        )
        for k in range(40)
    ]
    for k, record in enumerate(records):
        record['is_real'] = k % 2 == 0
    archive.add_stamps(records, 'made', is_real='is_real', show=False)
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=None, negatives={'rejected': 1}, quality_score_threshold=None
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    dataset = plan.build('names', patch_size=16, progress=False, probe=False)
    assert dataset.samples['group_id'].nunique() == len(dataset) == 40
