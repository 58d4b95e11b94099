"Light curves that know when each of their epochs became known."

import gzip
import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import select, text

import astrid_data as ad
from astrid_data.core import Conflict, mjd_from_utc
from astrid_data.datasets.light_curves import curve_of_sample
from astrid_data.ingest.epochs import utc_days
from astrid_data.registry.tables import (
    SCHEMA,
    Detection,
    DetectionIndex,
    EpochRow,
    Observation,
    Registry,
    Survey,
    schema_version,
)


def stamp(seed):
    "A gzipped stamp of noise"
    out = io.BytesIO()
    fits.PrimaryHDU(np.random.default_rng(seed).normal(100, 5, (63, 63)).astype('f4')).writeto(out)
    return gzip.compress(out.getvalue(), mtime=0)


STAMPS = {f'cutout{role}': stamp(k) for k, role in enumerate(('Template', 'Science', 'Difference'))}


def packet(candid, jd, past=(), name='ZTF24aaa', **more):
    "A packet as ZTF sends it"
    candidate = dict(jd=jd, fid=1, ra=10.0, dec=20.0, drb=0.9, magpsf=18.0, sigmapsf=0.05)
    candidate |= dict(isdiffpos='t', diffmaglim=20.5) | more
    return dict(
        objectId=name, candid=candid, candidate=candidate, prv_candidates=list(past), **STAMPS
    )


def seen(candid, jd, **more):
    return dict(candid=candid, jd=jd, fid=1, magpsf=18.5, sigmapsf=0.1, isdiffpos='t') | more


def unseen(jd, pid, **more):
    return dict(candid=None, jd=jd, fid=2, pid=pid, magpsf=None, diffmaglim=20.0) | more


def open_at(folder, url):
    return ad.open_archive(url, storage=str(folder / 'store'), home=folder)


def epochs(archive):
    "The table of epochs, in order"
    names = [c.name for c in EpochRow.__table__.columns if c.name != 'survey_id']
    with archive.session() as s:
        rows = s.execute(select(*(getattr(EpochRow, n) for n in names))).all()
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values(['object_id', 'epoch_key'], ignore_index=True)


def night(k, past):
    return packet(1000 + k, 2460400.5 + k, past)


HISTORY = [seen(1, 2460390.5), unseen(2460395.5, 7), unseen(2460395.5, 8)]


def test_the_past_of_an_alert_is_kept_once(registry_url, tmp_path):
    archive = open_at(tmp_path, registry_url)
    again = [*HISTORY, seen(1000, 2460400.5)]
    reports = [archive.add_alerts(p) for p in ([night(0, HISTORY)], [night(3, again)])]
    assert [r.epochs for r in reports] == [4, 1]
    assert archive.add_alerts([night(0, HISTORY), night(3, again)]).epochs == 0
    table = epochs(archive)
    assert table['kind'].value_counts().to_dict() == dict(detection=3, limit=2)
    known = dict(zip(table['epoch_key'], table['known_mjd']))
    assert known['detection:1'] == 60400.0  # From its first packet on, not from its own night on
    assert known['detection:1003'] == 60403.0


def test_the_numbers_of_the_earliest_packet_stay_in_any_order(registry_url, tmp_path):
    packets = [night(k, [seen(1, 2460390.5, magpsf=18.5 + k)]) for k in (3, 4, 0, 2, 1)]
    archive = open_at(tmp_path, registry_url)
    for one in packets:
        archive.add_alerts([one])
    row = epochs(archive).set_index('epoch_key').loc['detection:1']
    assert (row['mag'], row['known_mjd'], row['packet']) == (18.5, 60400.0, '1000')


@pytest.mark.parametrize('together', [True, False])
def test_packets_of_one_moment_end_alike_in_any_order(registry_url, tmp_path, together):
    "They tell other numbers of one epoch; a forced one has the same date of issue"
    forced = dict(
        diaForcedSourceId=9, midpointMjdTai=60390.1, psfFluxErr=3.0, band='g',
        timeProcessedMjdTai=60395.0,
    )  # fmt: skip
    packets = [
        packet(
            1000 + k,
            2460400.5,
            [seen(1, 2460390.5, magpsf=18.5 + mag, isdiffpos=sign)],
        )
        | dict(prvDiaForcedSources=[dict(forced, psfFlux=100.0 + mag)])
        for k, (mag, sign) in enumerate([(0.2, 't'), (0.1, None), (0.1, 'f')])
    ]
    archive = open_at(tmp_path, registry_url)
    ends = []
    for order in itertools.permutations(packets):
        for batch in [list(order)] if together else [[one] for one in order]:
            archive.add_alerts(batch)
        ends.append(epochs(archive).astype(str).to_json())
        with archive.session() as s:
            s.query(EpochRow).delete()
    assert len(set(ends)) == 1 and '18.6' in ends[0] and '100.1' in ends[0]


def test_many_rows_go_the_fast_way_and_stay_the_same(registry_url, tmp_path):
    "More rows than PostgreSQL takes one by one"
    past = [unseen(2460300.5 + k / 7, k) for k in range(300)]
    late, early = night(9, past), night(0, past)
    archive = open_at(tmp_path, registry_url)
    assert [archive.add_alerts([p]).epochs for p in (late, early, late)] == [301, 301, 0]
    limits = epochs(archive).query("kind == 'limit'")
    assert len(limits) == 300 and set(limits['known_mjd']) == {60400.0}


def test_an_epoch_after_its_packet_is_refused_and_counted(registry_url, tmp_path):
    archive = open_at(tmp_path, registry_url)
    past = [*HISTORY, seen(2, 2460401.5), unseen(2460400.5 + 2e-3 / 86400, 9)]
    report = archive.add_alerts([night(0, past)])
    assert report.lost_epochs == dict(later_than_packet=2)
    assert 'detection:2' not in set(epochs(archive)['epoch_key'])
    assert 'later_than_packet' in repr(report)


def test_an_epoch_of_a_neighbour_stays_out_of_the_curve(registry_url, tmp_path):
    archive = open_at(tmp_path, registry_url)
    at = night(0, [])['candidate']
    here = dict(ra=at['ra'] + 1 / 3600, dec=at['dec'])
    past = [
        seen(1, 2460390.5, **here),
        seen(2, 2460391.5, objectId='ZTFneighbour', **here),
        seen(3, 2460392.5, ra=at['ra'], dec=at['dec'] + 45 / 3600),
        seen(4, 2460393.5, ra=at['ra'], dec=at['dec'] + 25 / 3600),
    ]
    report = archive.add_alerts([night(0, past)])
    assert report.lost_epochs == dict(other_object=1, other_place=1)
    kept = {f'detection:{k}' for k in (1, 4)}
    assert kept <= set(epochs(archive)['epoch_key']) and len(epochs(archive)) == 3


def test_one_broken_epoch_costs_itself_alone(tmp_path):
    archive = ad.open_archive(tmp_path)
    past = [seen(1, 2460390.5, magpsf='faint'), seen(2, None), *HISTORY[1:]]
    report = archive.add_alerts([night(0, past)])
    assert (report.added, report.epochs) == (1, 3)
    assert report.lost_epochs == dict(no_time=1, unreadable=1)


def test_a_registry_of_before_is_brought_up_and_filled(registry_url, tmp_path):
    archive = open_at(tmp_path, registry_url)
    archive.add_alerts([night(0, HISTORY)])
    before = epochs(archive)
    with archive.session() as s:
        s.execute(text('DROP TABLE ad_epochs'))
        s.execute(text("UPDATE ad_alembic_version SET version_num = '0004'"))
    if registry_url.startswith('sqlite'):
        with pytest.warns(UserWarning, match='were at version 0004'):
            open_at(tmp_path, registry_url)
    else:
        with pytest.raises(Conflict, match='upgrade'):
            open_at(tmp_path, registry_url)
    registry = Registry(registry_url).upgrade()
    with registry.session() as s:
        assert schema_version(s.connection()) == SCHEMA == '0005'
    archive = open_at(tmp_path, registry_url)
    assert len(epochs(archive)) == 0
    assert archive.add_alerts([night(0, HISTORY)]).epochs == 4
    pd.testing.assert_frame_equal(epochs(archive), before)


def test_alerts_and_their_epochs_come_together_or_not_at_all(registry_url, tmp_path, monkeypatch):
    from astrid_data.ingest import alerts as page

    archive = open_at(tmp_path, registry_url)
    write, packets = page.write_epochs, [night(k, HISTORY) for k in range(4)]

    def killed(*args):
        write(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(page, 'write_epochs', killed)
        with pytest.raises(KeyboardInterrupt):
            archive.add_alerts(packets, chunk=2)
    with archive.session() as s:
        assert s.scalars(select(Detection)).all() == [] and len(epochs(archive)) == 0
    assert archive.add_alerts(packets, chunk=2).epochs == 7
    whole = ad.open_archive(tmp_path / 'whole')
    whole.add_alerts(packets)
    pd.testing.assert_frame_equal(epochs(archive), epochs(whole))


def rubin(day, forced=(), before=(), source=5):
    "A packet as Rubin sends it, `day` in TAI"
    dia = dict(diaSourceId=source, diaObjectId=77, midpointMjdTai=day, ra=1.0, dec=2.0, band='r')
    dia |= dict(psfFlux=1000.0, psfFluxErr=50.0, reliability=0.9)
    return dict(
        diaSourceId=source, diaSource=dia, prvDiaSources=list(before),
        prvDiaForcedSources=list(forced), **STAMPS,
    )  # fmt: skip


def dia_forced(source, day, issued, flux=100.0):
    return dict(
        diaForcedSourceId=source, diaObjectId=77, midpointMjdTai=day, band='r', psfFlux=flux,
        psfFluxErr=20.0, timeProcessedMjdTai=issued,
    )  # fmt: skip


def test_forced_photometry_is_known_from_its_own_date_on(registry_url, tmp_path):
    archive = open_at(tmp_path, registry_url)
    forced = [dia_forced(1, 60000.0, 60010.0), dia_forced(2, 60001.0, 60200.0)]
    archive.add_alerts([rubin(60100.0, forced)])
    table = epochs(archive).set_index('epoch_key')
    days = utc_days([60010.0, 60200.0, 60100.0], ['tai'] * 3)
    found = table.loc[['forced:1', 'forced:2', 'detection:5'], 'known_mjd']
    assert np.allclose(found, days, rtol=0, atol=1e-8)
    assert set(table['mjd_scale']) == {'tai'} and set(table['mjd_meaning']) == {'mid'}
    assert table.loc['forced:1', ['mjd', 'flux']].tolist() == [60000.0, 100.0]


def test_ztf_counts_become_nanojansky(tmp_path):
    archive = ad.open_archive(tmp_path)
    one = night(0, []) | dict(
        fp_hists=[
            dict(jd=2460390.5, fid=1, pid=3, forcediffimflux=-250.0, forcediffimfluxunc=25.0, magzpsci=26.4),
            dict(jd=2460391.5, fid=1, pid=4, forcediffimflux=-99999.0, forcediffimfluxunc=-99999.0, magzpsci=26.4, diffmaglim=20.0),
        ]
    )  # fmt: skip
    assert archive.add_alerts([one]).epochs == 2
    row = epochs(archive).query("kind == 'forced'").iloc[0]
    assert row['flux'] == pytest.approx(-250 * 100) and row['flux_error'] == pytest.approx(2500)


def test_real_packets_of_all_brokers_are_one_table(registry_url, tmp_path, shared_data):
    alerts = shared_data / 'alerts'
    archive = open_at(tmp_path, registry_url)
    files = [*sorted((alerts / 'raw_avro').glob('*.avro')), alerts / 'lsst_dev.parquet']
    files.append(alerts / 'ztf_dev.parquet')
    reports = [archive.add_alerts(file) for file in files]
    assert sum(r.lost_epochs.total() for r in reports) == 0
    table = epochs(archive)
    counts = table.groupby(['field', 'kind']).size().to_dict()
    assert counts[('prv_candidates', 'limit')] == 103
    assert counts[('prv_candidates', 'detection')] == 121
    assert counts[('fp_hists', 'forced')] == 15
    assert set(table['mjd_scale']) == {'utc', 'tai'}
    observed = utc_days(table['mjd'], table['mjd_scale'])
    assert (observed <= table['known_mjd'] + 1e-3 / 86400).all()
    assert sum(archive.add_alerts(file).epochs for file in files) == 0


def sample_of(day, scale='utc', name='77', survey='lsst'):
    return pd.Series(dict(object_id=name, survey=survey, mjd=day, mjd_scale=scale))


@pytest.mark.parametrize('ms, n', [(-10, 0), (10, 1)])
@pytest.mark.parametrize('scale', ['utc', 'tai'])
def test_scales_are_compared_in_utc(tmp_path, scale, ms, n):
    "An epoch in TAI is 37 s older than the same number in UTC"
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([rubin(60100.0)])
    day = 60100.0 + ms / 86400e3 - (37 / 86400 if scale == 'utc' else 0)
    curve = curve_of_sample(archive, sample_of(day, scale))
    assert (len(curve), curve.later) == (n, 1 - n)


def test_what_was_planted_later_reaches_no_sample(registry_url, tmp_path):
    archive = open_at(tmp_path, registry_url)
    archive.add_alerts([night(0, HISTORY)])
    with archive.session() as s:
        own = s.scalars(select(EpochRow).where(EpochRow.epoch_key == 'detection:1')).one()
        row = {c.name: getattr(own, c.name) for c in EpochRow.__table__.columns}
        planted = dict(later_night=dict(mjd=60400.1), later_known=dict(known_mjd=60400.1))
        s.add_all(EpochRow(**row | dict(epoch_key=key) | more) for key, more in planted.items())
    curve = curve_of_sample(archive, sample_of(60400.0, name='ZTF24aaa', survey='ztf'))
    assert (len(curve), curve.later) == (4, 2)
    assert curve.table['known_mjd'].max() == curve.table['mjd_utc'].max() == 60400.0


def test_no_real_alert_sees_its_future(tmp_path, shared_data):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts(shared_data / 'alerts' / 'ztf_dev.parquet')
    for file in (shared_data / 'alerts' / 'raw_avro').glob('*ok*.avro'):
        archive.add_alerts(file)
    with archive.session() as s:
        rows = s.execute(
            select(DetectionIndex.object_id, Survey.name, Observation.observation_time)
            .join(Detection, Detection.id == DetectionIndex.detection_id)
            .join(Observation, Observation.id == Detection.observation_id)
            .join(Survey, Survey.id == Observation.survey_id)
        ).all()
    assert len(rows) > 340
    shown = later = 0
    for name, survey, time in rows:
        day = mjd_from_utc(time)
        curve = curve_of_sample(archive, sample_of(day, name=name, survey=survey))
        newest = np.maximum(curve.table['mjd_utc'], curve.table['known_mjd'])
        later += int((newest > day + 1e-3 / 86400).sum())
        shown += len(curve)
    assert later == 0 and shown >= len(rows)


ABSURD_EPOCHS = dict(
    too_long=[seen('x' * 110, 2460399.5)],
    huge_magnitude=[seen(1, 2460399.5, magpsf=10**400)],
    zero_point=[dict(jd=2460399.5, fid=1, forcediffimflux=5.0, magzpsci=-1e5)],
)


@pytest.mark.parametrize('past', ABSURD_EPOCHS.values(), ids=ABSURD_EPOCHS)
def test_an_absurd_epoch_is_counted_and_its_alert_stays(registry_url, tmp_path, past):
    archive = open_at(tmp_path, registry_url)
    report = archive.add_alerts([night(0, past), night(1, [])], show=False)
    assert (report.added, len(report.ledger), report.epochs) == (2, 0, 2)
    assert dict(report.lost_epochs) == dict(unreadable=1)


@pytest.mark.parametrize('issued', [1e12, -1e12, 1e300])
def test_an_absurd_date_of_issue_costs_its_own_epoch(registry_url, tmp_path, issued):
    forced = dict(diaForcedSourceId=9, midpointMjdTai=60390.1, psfFlux=100.0, band='g')
    bad = night(0, []) | dict(prvDiaForcedSources=[forced | dict(timeProcessedMjdTai=issued)])
    archive = open_at(tmp_path, registry_url)
    report = archive.add_alerts([bad, night(1, [])], show=False)
    assert (report.added, report.epochs, dict(report.lost_epochs)) == (2, 2, dict(no_time=1))


@pytest.mark.parametrize('sentinel', [-1, -999, -999.0, '-1', 'nan', 0])
def test_a_sentinel_is_no_name(tmp_path, sentinel):
    past = [unseen(2460390.5 + k, None, candid=sentinel) for k in range(5)]
    archive = open_at(tmp_path, None)
    assert archive.add_alerts([night(0, past)], show=False).epochs == 6


def test_a_flux_that_is_no_result_is_unknown(tmp_path):
    forced = dict(jd=2460390.5, fid=1, magzpsci=26.0)
    values = [(1e300, 1.0, -600.0), (0.0, 0.0, 26.0), (5.0, 0.0, 26.0)]
    names = 'forcediffimflux', 'forcediffimfluxunc', 'magzpsci'
    past = [forced | dict(zip(names, v)) | dict(pid=k) for k, v in enumerate(values)]
    archive = open_at(tmp_path, None)
    archive.add_alerts([night(0, []) | dict(fp_hists=past)], show=False)
    stored = epochs(archive).query('kind == "forced"')
    assert len(stored) == 1 and stored.flux_error.isna().all()


@pytest.mark.parametrize('name', ['a\ud800b', 'a\0b'], ids=['surrogate', 'nul'])
def test_a_text_that_no_registry_holds_costs_at_most_its_packet(registry_url, tmp_path, name):
    archive = open_at(tmp_path, registry_url)
    past = [seen(name, 2460399.5)]
    report = archive.add_alerts([night(k, past if k == 1 else []) for k in range(3)], show=False)
    assert report.added >= 2 and report.added + len(report.ledger) == 3
    assert set(epochs(archive).packet) >= {'1000', '1002'}


@pytest.mark.parametrize('mag, error', [(99.0, 0.1), (-99.0, 0.1), (99.99, -1.0)])
def test_what_stands_for_no_magnitude_is_no_magnitude(tmp_path, mag, error):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts(
        [packet(3, 2460400.5, [seen(1, 2460399.5, magpsf=mag), seen(2, 2460398.5, sigmapsf=error)])]
    )
    table = epochs(archive)
    assert table['mag'].dropna().between(-30, 50).all()
    assert not (table['mag_error'] <= 0).any()


KEPT_AS = dict(
    text=json.dumps,
    bytes=lambda past: json.dumps(past).encode(),
    texts=lambda past: [json.dumps(one) for one in past],
    printed=repr,
    one_record=lambda past: past[0],
)


@pytest.mark.parametrize('keep', KEPT_AS.values(), ids=KEPT_AS)
def test_a_history_is_opened_however_it_is_kept(tmp_path, keep):
    archive = ad.open_archive(tmp_path)
    report = archive.add_alerts([night(0, []) | dict(prv_candidates=keep(HISTORY[:1]))])
    assert (report.epochs, report.lost_epochs.total()) == (2, 0)
    assert 'detection:1' in set(epochs(archive)['epoch_key'])


@pytest.mark.parametrize('lost', ['[{"jd": 24', 'see the other table', b'Obj\x01', ['[{"jd": 24']])
def test_a_history_that_cannot_be_opened_is_counted(tmp_path, lost):
    archive = ad.open_archive(tmp_path)
    report = archive.add_alerts([night(0, HISTORY) | dict(forced_photometry=lost)])
    assert (report.added, report.epochs) == (1, 4)
    assert report.lost_epochs == dict(unreadable=1)


@pytest.mark.parametrize('nothing', [None, np.nan, '', 'null', [], '[]', 7])
def test_a_history_that_says_nothing_is_none(tmp_path, nothing):
    archive = ad.open_archive(tmp_path)
    report = archive.add_alerts([night(0, HISTORY) | dict(forced_photometry=nothing)])
    assert (report.epochs, report.lost_epochs.total()) == (4, 0)


def test_a_flux_of_minus_999_is_a_flux_where_it_has_an_error(tmp_path):
    pairs = [(-999.0, 20.0), (-999, 20.0), (-999.0, -999.0), (-50.0, -1.0)]
    forced = [dia_forced(k, 60000.0 + k, 60010.0, flux) for k, (flux, _) in enumerate(pairs, 1)]
    forced = [one | dict(psfFluxErr=error) for one, (_, error) in zip(forced, pairs)]
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([rubin(60100.0, forced)])
    found = epochs(archive).query("kind == 'forced'").set_index('epoch_key')
    assert found['flux'].to_dict() == {'forced:1': -999.0, 'forced:2': -999.0, 'forced:4': -50.0}
    assert found['flux_error'].fillna(0).tolist() == [20.0, 20.0, 0.0]


@pytest.mark.parametrize('gap', [-999.0, -999, -9999.0, -99999.0, -99.0, 99.0, 9999.0])
def test_a_sentinel_without_an_error_is_no_flux(tmp_path, gap):
    rubins = [dia_forced(k, 60000.0 + k, 60010.0, gap) for k in range(4)]
    del rubins[0]['psfFluxErr']
    for one, error in zip(rubins[1:], [None, np.nan, -999.0]):
        one['psfFluxErr'] = error
    counts = dict(fid=1, forcediffimflux=gap, magzpsci=25.0)
    counted = [counts | dict(jd=2460391.5 + k, pid=k) for k in range(3)]
    for one, error in zip(counted[1:], [np.nan, -999.0]):
        one['forcediffimfluxunc'] = error
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([rubin(60100.0, rubins)])
    archive.add_alerts([night(0, HISTORY) | dict(fp_hists=counted)])
    found = epochs(archive)
    assert len(found) == 5 and 'forced' not in set(found['kind'])


def test_a_flux_that_is_no_sentinel_needs_no_error(tmp_path):
    one = dia_forced(1, 60001.0, 60010.0, -50.0)
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([rubin(60100.0, [one | dict(psfFluxErr=None)])])
    assert epochs(archive).query("kind == 'forced'")['flux'].tolist() == [-50.0]


@pytest.mark.parametrize('survey', [None, np.nan, 'nobody'])
def test_a_sample_without_survey_has_no_epochs(tmp_path, survey):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([night(0, HISTORY)])
    curve = curve_of_sample(archive, sample_of(60400.0, name='ZTF24aaa', survey=survey))
    assert (len(curve), curve.later) == (0, 0)


def test_a_sample_without_a_scale_counts_in_utc(tmp_path):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([night(0, HISTORY)])
    sample = sample_of(60400.0, name='ZTF24aaa', survey='ztf').drop('mjd_scale')
    assert len(curve_of_sample(archive, sample)) == 4


def texts_of(ax):
    return [one.get_text() for one in ax.texts]


@pytest.mark.parametrize(
    'until, said', [('2001-01-01', '2001-01-01 00:00:00 UTC'), (59000.5, '2020-05-31')]
)
def test_a_picture_of_nothing_says_so(tmp_path, until, said):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([night(0, HISTORY)])
    figure = archive.light_curve('ZTF24aaa', until=until).plot()
    (words,) = texts_of(figure.axes[0])
    assert words.startswith('no epochs known at ') and said in words
    assert len(figure.axes[0].get_xticks()) == 0


def test_a_picture_has_plain_days_its_moment_and_nothing_over_its_points(tmp_path):
    archive = ad.open_archive(tmp_path)
    archive.add_alerts([packet(1000 + k, 2460400.5 + k / 200) for k in range(3)])
    figure = archive.light_curve('ZTF24aaa', until='2024-04-02T12:00:00').plot()
    figure.canvas.draw()
    (ax,) = figure.axes
    labels = [float(one.get_text()) for one in ax.get_xticklabels()]
    assert ax.xaxis.get_offset_text().get_text() == '' and min(labels) > 60_000
    assert '2024-04-02 12:00:00 UTC' in ax.get_title()
    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())
