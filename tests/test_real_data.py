"""Real observations beside the project: images of four telescopes, ZTF alerts as triplets, and files with something wrong.

The files are not part of the repository; where they are missing the tests are skipped, and say so.
"""

import numpy as np
import pytest

import astrid_data as ad

# What is wrong with each trap, in the words that a ledger may use for it; None where the file can be read rightly
TRAPS = {
    'ccd_raw_no_wcs_a8280271.fits.gz': {'no_wcs'},
    'truncated_header_m51hst.fits.gz': {'truncated'},
    'tnx_wcs_unsupported.fits.gz': None,
    'jwst_star_dummy_wcs.fits': {'bad_wcs'},
    'sdss_stale_wcs_r.fits.gz': {'bad_wcs'},
    'hst_wfpc2_m51_decra_swapped.fits.gz': None,
}
IMAGES = [
    'hst/xdf_hudf_wfc3ir_f160w_sci.fits',
    'hst/goodsn_acs_3band_mef.fits',
    'hst/47tuc_acs_hrc_f606w_j8bt06nyq_flt_crop512.fits.gz',
    'jwst/a2744_nircam_f200w_epoch1_jw01324.fits',
    'jwst/a2744_nircam_f200w_epoch2_jw02561.fits',
    'skyview/m13_skyview_2mass.fits',
    'skyview/dss_hd219829.fits',
    'ground/decam_tc4/tc4_c4d_180128_083845_ooi_r_ls9.N3.fits',
    'ground/decam_transient/DEC-OBS04a.fits.gz',
]


def test_images_of_four_telescopes_become_a_training_set(shared_data, tmp_path):
    archive = ad.open_archive(tmp_path)
    report = archive.add_fits([shared_data / f for f in IMAGES], show=False)
    seen = archive.observations()
    assert {'hst', 'jwst', 'decam'} <= set(seen['survey'])
    assert len(seen) + len(report.ledger) >= len(IMAGES)
    plan = ad.TrainingDataCollector(archive).plan(
        ad.TrainingDataCollectionParams(confidence_threshold=0.5, max_samples=600), progress=False
    )
    dataset = plan.build('telescopes', patch_size=32, progress=False)
    assert plan.requested == len(dataset) + len(dataset.ledger)
    assert (
        dataset.origin == 'survey'
        and dataset.audit.objects_shared == 0
        and dataset.audit.overlapping_test == 0
    )
    inside = np.isfinite(dataset.patches()[:]) == dataset.valid()[:]
    assert inside.all()


def test_each_trap_is_read_rightly_or_named_in_the_ledger(shared_data, tmp_path):
    archive = ad.open_archive(tmp_path)
    report = archive.add_fits(sorted((shared_data / 'traps').iterdir()), show=False)
    for name, reasons in TRAPS.items():
        rows = report.ledger[report.ledger['uri'].str.contains(name, regex=False)]
        if reasons is None:
            assert rows.empty, rows
        else:
            assert set(rows['reason']) & reasons, (
                f'{name}: {rows[["reason", "detail"]].to_dict("records")}'
            )
    bad = {n for n, r in TRAPS.items() if r}
    assert not [u for u in archive.observations()['uri'] if any(n in u for n in bad)]


@pytest.fixture(scope='module')
def triplets(shared_data, tmp_path_factory):
    archive = ad.open_archive(tmp_path_factory.mktemp('ztf'))
    report = archive.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet', show=False)
    params = ad.TrainingDataCollectionParams(
        survey_ids=['ztf'],
        confidence_threshold=0,
        channels=('template', 'science', 'difference'),
        negatives={'rejected': 10},
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    return (
        report,
        plan,
        plan.build('ztf-real-bogus', patch_size=63, progress=False, split_by='object'),
    )


def test_ztf_alerts_become_triplets_split_by_object(triplets):
    report, plan, dataset = triplets
    assert dataset.channels == ('template', 'science', 'difference') and dataset.patches().shape[
        1:
    ] == (3, 63, 63)
    assert plan.requested == len(dataset) + len(dataset.ledger)
    s = dataset.samples
    assert set(s['label']) == {0, 1} and s['label_source'].str.contains('proxy').all()
    assert (
        s[s['split'].isin(['train', 'val', 'test'])].groupby('object_id')['split'].nunique().max()
        == 1
    )
    assert dataset.audit.verdict != 'fail'


def test_the_audit_of_real_alerts_tells_ways_to_split_apart(triplets):
    "Of 289 alerts of 282 objects even a few siblings are found; half of the test comes from exposures that train has seen, unless they are held together"
    _, _, dataset = triplets
    t, pixels = dataset.samples, dataset.patches()
    one_by_one = [
        ad.audit_splits(
            t.assign(
                split=np.random.default_rng(k).choice(
                    ['train', 'val', 'test'], len(t), p=[0.7, 0.15, 0.15]
                )
            ),
            pixels,
        )
        for k in range(5)
    ]
    assert sum(a.verdict == 'fail' and a.objects_shared > 0 for a in one_by_one) >= 3
    assert (
        dataset.audit.verdict == 'pass'
        and dataset.audit.same_exposure_test > 10
        and dataset.audit.artefacts_of_seen_exposures > 0
    )
    apart = ad.audit_splits(t.assign(split=ad.split_samples(t, by='observation').split), pixels)
    assert (
        apart.verdict,
        apart.same_exposure_test,
        apart.artefacts_of_seen_exposures,
        apart.objects_shared,
        apart.turned_stamps,
    ) == ('pass', 0, 0, 0, 0)


def test_a_network_learns_real_from_bogus(triplets):
    _, _, dataset = triplets
    train, val, test = ad.RealDataLoader(dataset).loaders(batch_size=32)
    model = ad.SmallCNN(channels=3)
    ad.fit(model, train, val, epochs=8)
    points = ad.evaluate(model, test)
    low, high = points.auc_pr_interval
    print(points)
    assert points.n > 10 and low <= points.auc_pr <= high
    assert points.auc_pr > points.prior  # better than a coin, which has the share of real ones


@pytest.mark.slow
def test_the_naive_way_flatters_and_the_honest_has_an_interval(shared_data, tmp_path):
    "What `python -m benchmarks.real_bogus` does over five seeds, once"
    from benchmarks.real_bogus import compare, planned

    (row,) = compare(planned(tmp_path), seeds=[0], epochs=8)
    assert row['prior'] < row['cnn'] <= 1 and row['prior'] < row['logistic'] <= 1
    assert (
        row['cnn_interval'][0] < row['cnn'] < row['naive'] and row['naive'] > 0.97
    )  # Turned siblings on both sides: memory, not skill


def test_flipped_labels_of_alerts_stand_at_the_top_of_the_queue(triplets):
    from astrid_data.quality.label_issues import rank_label_issues

    _, _, dataset = triplets
    s, data, valid = dataset.samples, dataset.patches()[:], dataset.valid()[:]
    wrong = np.random.default_rng(0).permutation(len(s))[
        : len(s) // 20
    ]  # The proxies have their own errors, which no one knows
    label = np.where(np.isin(np.arange(len(s)), wrong), 1 - s['label'], s['label'])
    queue = rank_label_issues(s.assign(label=label), data, valid)
    assert np.isin(wrong, queue['row'][: len(s) // 10]).mean() > 0.6


def test_residuals_beside_stars_are_no_cosmic_rays(triplets):
    _, _, dataset = triplets
    on = ad.quality.decode_flags(dataset.samples['quality_flags'].to_numpy())
    assert 0 < on['cosmic_ray'].mean() < 0.1  # A quarter, when dark neighbours counted for nothing


def test_an_event_in_its_own_template_is_flagged(shared_data, tmp_path):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts(shared_data / 'alerts' / 'raw_avro', show=False)
    from astrid_data.registry.tables import Detection, add_validation_event

    with archive.session() as session:
        for d in session.query(Detection):
            add_validation_event(session, d.id, 'test', True)
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0,
        channels=('template', 'science', 'difference'),
        negatives={},
        quality_score_threshold=None,
    )
    dataset = (
        ad.TrainingDataCollector(archive)
        .plan(params, progress=False)
        .build('contaminated', patch_size=63, progress=False, probe=False)
    )
    on = ad.quality.decode_flags(dataset.samples['quality_flags'].to_numpy())[
        'template_contaminated'
    ].to_numpy()
    assert {'ZTF18abudxnw', 'ZTF17aaacxxf', 'PGIR19aacbvv'} == set(
        dataset.samples['object_id'][on]
    )  # All are known since before their template was finished
    assert dataset.quality.flags['template_contaminated'] == 3
