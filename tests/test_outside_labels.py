"Labels of others against simulated truth: sure matches only, ambiguous ones told, votes by reliability"

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from astrid_data.collect.collector import TrainingDataCollector
from astrid_data.collect.params import TrainingDataCollectionParams
from astrid_data.core import BadInput
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.matching import match_confidence, track_position
from astrid_data.ingest.votes import dawid_skene
from astrid_data.registry.tables import (
    Detection,
    DetectionIndex,
    ValidationEvent,
    add_validation_event,
    columns,
)
from astrid_data.registry.verdicts import effective_labels

N = 60


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'home')


def add(archive, ra, dec, mjd=None, names=None, survey='made'):
    "Made-up stamps at some places"
    rng = np.random.default_rng(len(ra))
    rows = [
        dict(
            image=rng.normal(size=(7, 7)).astype('f4'),
            id=f'{survey}{k}',
            object_id=f'{survey}-o{k}' if names is None else names[k],
            ra=float(ra[k]) % 360,
            dec=float(dec[k]),
            mjd=59000.0 if mjd is None else float(mjd[k]),
        )
        for k in range(len(ra))
    ]
    report = archive.add_stamps(rows, survey, show=False)
    assert (report.added, report.lost) == (len(ra), [])


def labelled(archive):
    "Object -> its label from outside"
    query = select(DetectionIndex.object_id, ValidationEvent.label)
    query = query.join(ValidationEvent, ValidationEvent.detection_id == DetectionIndex.detection_id)
    with archive.session() as s:
        return dict(map(tuple, s.execute(query)))


@pytest.mark.parametrize('error', [13.0, 25.0, 50.0])
def test_wide_errors_give_no_confidence_above_one(archive, error):
    "Beyond 12 arcsec the ring in which strangers were counted had no area, or less"
    add(archive, [10.0], [0.0])
    listed = pd.DataFrame(dict(ra=[10.0], dec=[error / 3600]))
    report = archive.match_labels(listed, 'wide', error_arcsec=error, show=False)
    with archive.session() as s:
        notes = s.scalars(select(ValidationEvent.notes)).all()
    told = [float(note.rpartition(' ')[2]) for note in notes]
    assert all(0.95 <= one <= 1 for one in told)
    assert len(told) + len(report.lost) == 1


def test_strangers_of_wide_errors_are_seldom_sure(archive):
    "Ten detections strewn over the field of a place that is known to 20 arcsec"
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(-200, 200, (2, 10 * 30)) / 3600
    add(archive, ra + np.repeat(np.arange(30.0), 10), dec)
    listed = pd.DataFrame(dict(ra=np.arange(30.0), dec=0.0))
    report = archive.match_labels(listed, 'strewn', error_arcsec=20.0, show=False)
    assert sum(report.verdicts.values()) == 0


def test_an_error_is_in_the_unit_of_its_column(archive):
    from astropy import units as u
    from astropy.table import Table

    add(archive, [10.0, 20.0], [0.0, 0.0])
    off = 2.0 / 3600  # 1.9 sigma of the first, 6.3 of the second
    listed = Table(dict(ra=[10.0, 20.0] * u.deg, dec=[off, off] * u.deg))
    listed['mas'] = [1000.0, 100.0] * u.mas
    report = archive.match_labels(listed, 'units', error_arcsec='mas', show=False)
    assert report.verdicts == {'catalogue:units': 1}
    assert [row[1] for row in report.lost] == ['no_match']


def test_what_labels_nothing_has_its_row(archive):
    add(archive, [10.0, 20.0, 30.0], [0.0, 0.0, 0.0])
    listed = pd.DataFrame(dict(ra=[10.0, 20.0, 30.0], dec=0.0, error=[0.3, 90.0, 0.3]))
    listed['real'] = [True, True, None]
    asked = dict(error_arcsec='error', is_real='real', show=False)
    report = archive.match_labels(listed, 'rows', **asked)
    assert report.verdicts == {'catalogue:rows': 1}
    assert sorted(row[1] for row in report.lost) == ['large_error', 'no_verdict']


def test_simulated_truth_in_a_crowded_field(archive):
    "Of the labels given no more are wrong than their confidence says, and most of the sure are found"
    rng = np.random.default_rng(5)
    side = 120 / 3600
    ra, dec = rng.uniform(0, side, 400), rng.uniform(0, side, 400)
    add(archive, ra, dec)
    own = rng.choice(400, N, replace=False)
    off = rng.normal(0, 0.3 / 3600, (2, N))
    listed = pd.DataFrame(dict(ra=(ra[own] + off[0]) % 360, dec=dec[own] + off[1]))
    listed['type'] = [f'T{k}' for k in own]
    strangers = pd.DataFrame(dict(ra=rng.uniform(0, side, N), dec=rng.uniform(0, side, N)))
    strangers['type'] = 'stranger'
    table = pd.concat([listed, strangers], ignore_index=True)
    how = dict(class_name='type', error_arcsec=0.3, detection_error_arcsec=0.05, show=False)
    report = archive.match_labels(table, 'tns', confidence=0.9, **how)
    given = labelled(archive)
    right = sum(label == f'T{name.removeprefix("made-o")}' for name, label in given.items())
    assert right >= 0.6 * N and len(given) - right <= 0.1 * len(given), (right, len(given))
    assert sum(report.verdicts.values()) == len(given)
    assert len(given) + len(report.ledger) == len(table), 'each row labels something, or is told'
    assert set(report.ledger['reason']) == {'ambiguous', 'no_match'}
    assert archive.match_labels(table, 'tns', confidence=0.9, **how).skipped == len(given)


def test_time_and_track(archive):
    "A supernova is itself only while it shines, and an asteroid only where it is"
    add(
        archive,
        [10.0, 10.0, 0.1, 0.2],
        [0, 0, 0, 0],
        [59000, 59400, 59000.5, 59000.5],
        ['a', 'b', 'c', 'd'],
    )
    sn = pd.DataFrame(dict(ra=[10.0], dec=[0.0], peak=[59010.0], type=['SN']))
    how = dict(class_name='type', show=False)
    archive.match_labels(sn, 'tns', when='peak', days=(30, 100), **how)
    assert labelled(archive) == dict(a='SN')
    orbit = pd.DataFrame(dict(ra=[359.9, 0.3], dec=[0, 0], t=[59000.0, 59001.0], n=['Ceres'] * 2))
    orbit['type'] = 'asteroid'
    archive.match_labels(orbit, 'mpc', object_id='n', track='t', longest_days=2, **how)
    assert labelled(archive) == dict(a='SN', c='asteroid')
    with pytest.raises(BadInput, match='needs object_id'):
        archive.match_labels(orbit, 'mpc', track='t', **how)


def test_an_unknown_time_matches_no_window(archive):
    add(archive, [10.0], [0], [np.nan])
    sn = pd.DataFrame(dict(ra=[10.0], dec=[0.0], peak=[59010.0]))
    report = archive.match_labels(sn, 'tns', when='peak', days=100, show=False)
    assert report.ledger['reason'].tolist() == ['no_match'] and not labelled(archive)


def test_every_epoch_of_an_object_and_two_rows_on_one(archive):
    add(archive, [10.0, 10.0, 10.00001, 20.0], [0, 0, 0, 0], names=['a', 'a', 'a', 'b'])
    table = pd.DataFrame(
        dict(ra=[10.0, 20.0, 20.0], dec=[0.0, 1e-5, -1e-5], type=['SN', 'AGN', 'CV'])
    )
    report = archive.match_labels(table, 'x', class_name='type', show=False)
    assert sum(report.verdicts.values()) == 3 and labelled(archive) == dict(a='SN')
    assert report.ledger['uri'].tolist() == ['x[1]', 'x[2]']
    assert set(report.ledger['reason']) == {'ambiguous'}


def test_confidence_falls_with_distance_crowd_and_rivals():
    one = [match_confidence([r], [0.4], 1e-3)[0] for r in (0, 0.5, 1, 2, 3)]
    assert one == sorted(one, reverse=True)
    crowd = [match_confidence([0.3], [0.4], rho)[0] for rho in (1e-4, 1e-2, 1)]
    assert crowd == sorted(crowd, reverse=True)
    assert abs(match_confidence([0.3, 0.3], [0.4, 0.4], 1e-4).sum() - 1) < 0.01


def test_a_track_ends_where_it_ends():
    ra, _ = track_position([0, 1, 5], [10, 11, 15], [0, 0, 0], [-1, 0.5, 3, 6], 2)
    assert np.isnan(ra[[0, 2, 3]]).all() and abs(ra[1] - 10.5) < 1e-6


def ballots(seed, n=300, careful=8, guessing=8, each=5):
    "Items, voters, votes and truth; who guesses says real at random"
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    item = np.repeat(np.arange(n), each)
    voter = np.concatenate([rng.choice(careful + guessing, each, replace=False) for _ in range(n)])
    right = np.where(voter < careful, 0.92, 0.5)
    vote = np.where(rng.random(len(item)) < right, truth[item], ~truth[item]).astype(int)
    return item, voter, vote, truth


@pytest.mark.parametrize('seed', range(5))
def test_reliability_beats_the_majority_and_is_found(seed):
    item, voter, vote, truth = ballots(seed)
    found = dawid_skene(item, voter, vote)
    majority = (np.bincount(item, vote) / 5 > 0.5) != truth
    assert ((found.chance > 0.5) != truth).mean() <= majority.mean()
    right = found.voters.set_index('voter')[['sensitivity', 'specificity']].mean(axis=1)
    assert right.loc[:7].min() > right.loc[8:].max()
    sure = np.maximum(found.chance, 1 - found.chance) > 0.95
    assert ((found.chance > 0.5) != truth)[sure].mean() < 0.05


def test_votes_become_events_with_each_vote_kept(archive):
    add(archive, np.arange(6.0), np.zeros(6))
    rows = [dict(d=f'made{k}', u=u, v=k % 2) for k in range(4) for u in 'abcd']
    rows += [
        dict(d='made4', u='a', v=1),
        dict(d='made5', u='a', v='perhaps'),
        dict(d='none', u='a', v=1),
    ]
    rows += [dict(d='made0', u='a', v=0)]
    how = dict(detection='d', voter='u', vote='v', show=False)
    report = archive.add_votes(pd.DataFrame(rows), 'zoo', **how)
    assert sum(report.verdicts.values()) == 4
    assert sorted(report.ledger['reason']) == ['bad_vote', 'few_votes', 'no_detection']
    assert any('the last counts' in note for note in report.notes)
    with archive.session() as s:
        events = s.scalars(select(ValidationEvent)).all()
        assert all(
            {f'{u}={"real" if e.is_valid else "bogus"}' for u in 'abcd'} <= set(e.tags)
            for e in events
        )
        assert {e.validator_id for e in events} == {'catalogue:zoo'}
        ids = dict(s.execute(select(Detection.ra, Detection.id)).all())
    again = archive.add_votes(pd.DataFrame(rows), 'zoo', **how)
    assert (again.verdicts, again.skipped) == ({}, 4)
    by_id = pd.DataFrame([dict(d=str(ids[4.0]), u=u, v=1) for u in 'abcdef'])
    assert archive.add_votes(by_id, 'other', **how).skipped == 0


def test_split_votes_stay_undecided(archive):
    add(archive, [1.0], [0.0])
    rows = pd.DataFrame(dict(detection_id='made0', voter=[*'abcd'], vote=[1, 1, 0, 0]))
    report = archive.add_votes(rows, 'zoo', show=False)
    assert report.ledger['reason'].tolist() == ['undecided'] and not report.verdicts


def test_what_matches_without_a_label_is_told(archive):
    "No verdict, or a class that can't be held: neither is cut, nor lost without a word"
    add(archive, np.arange(4.0), np.zeros(4))
    table = pd.DataFrame(dict(ra=np.arange(4.0), dec=0.0))
    table['type'] = ['SN', 'x' * 51, 'x' * 50, 'AGN']
    table['ok'] = ['yes', 'yes', 'no', 'unsure']
    how = dict(class_name='type', is_real='ok', show=False)
    report = archive.match_labels(table, 'x', **how)
    lost = dict(zip(report.ledger['uri'], report.ledger['reason']))
    assert lost == {'x[1]': 'long_class', 'x[3]': 'no_verdict'}
    assert labelled(archive) == {'made-o0': 'SN', 'made-o2': 'x' * 50}
    assert not any('was cut' in note for note in report.notes)


def test_a_missing_column_is_told_with_those_there_are(archive):
    add(archive, [1.0], [0.0])
    table = pd.DataFrame(dict(ra=[1.0], dec=[0.0], type=['SN']))
    for how in (dict(error_arcsec='err'), dict(class_name='klass')):
        with pytest.raises(BadInput, match='ra, dec, type'):
            archive.match_labels(table, 'x', show=False, **how)


def test_bogus_is_one_class(archive):
    "Votes, a person's label and a person's verdict without one say the same in one word"
    add(archive, np.arange(4.0), np.zeros(4))
    votes = pd.DataFrame([dict(detection_id='made0', voter=u, vote=0) for u in 'abcd'])
    archive.add_votes(votes, 'zoo', show=False)
    with archive.session() as s:
        ids = dict(s.execute(select(Detection.ra, Detection.id)).all())
        for ra, label in ((1.0, 'bogus'), (2.0, None), (3.0, 'rejected')):
            add_validation_event(s, ids[ra], 'anna', False, label)
    with archive.session() as s:
        detections = pd.DataFrame(columns(s, select(*Detection.__table__.columns)))
        events = pd.DataFrame(columns(s, select(*ValidationEvent.__table__.columns)))
    found = effective_labels(detections, events)
    assert found['label'].tolist() == [0] * 4 and {*found['class_name']} == {'bogus'}


def labels_now(archive):
    "Effective label of each object by name"
    params = TrainingDataCollectionParams(
        confidence_threshold=None, validation_status='any', negatives={'rejected': 99}
    )
    plan = TrainingDataCollector(archive).plan(params, progress=False)
    return dict(zip(plan.samples['object_id'], plan.samples['label']))


def crowd(names, says, voters=5):
    "The same vote of some people on each of some detections"
    rows = [
        dict(detection_id=n, voter=f'v{k}', vote=v)
        for n, v in zip(names, says)
        for k in range(voters)
    ]
    return pd.DataFrame(rows)


def test_the_newest_votes_count_also_when_they_return_to_what_was(archive):
    add(archive, [10.0, 20.0], [0.0, 0.0])
    for says in (1, 0, 1, 0):
        report = archive.add_votes(crowd(['made0', 'made1'], [says, 1]), 'zoo', show=False)
        assert labels_now(archive) == {'made-o0': says, 'made-o1': 1}
    assert report.verdicts == {'catalogue:zoo': 1} and report.skipped == 1


def test_the_newest_match_counts_also_when_it_returns_to_what_was(archive):
    add(archive, [10.0, 20.0], [0.0, 0.0])
    for real in (True, False, True):
        listed = pd.DataFrame(dict(ra=[10.0, 20.0], dec=0.0, real=[real, True]))
        archive.match_labels(listed, 'tns', is_real='real', show=False)
        assert labels_now(archive) == {'made-o0': int(real), 'made-o1': 1}


def test_votes_that_are_undecided_now_take_their_verdict_back(archive):
    add(archive, [10.0, 20.0], [0.0, 0.0])
    archive.add_votes(crowd(['made0', 'made1'], [0, 1]), 'zoo', show=False)
    split = pd.concat(
        [crowd(['made0'], [0]), crowd(['made0'], [1]).assign(voter=lambda t: 'w' + t['voter'])]
    )
    report = archive.add_votes(split, 'zoo', show=False)
    assert [row[1] for row in report.lost] == ['undecided']
    assert report.notes == ['1 verdicts of this list are not sure any more: taken back']
    assert labels_now(archive) == {'made-o1': 1}


def test_one_detection_under_two_names_is_one(archive):
    "Its id, in any case, and its name; who votes under both is heard once, and last"
    add(archive, [10.0], [0.0])
    with archive.session() as s:
        detection_id = str(s.scalar(select(Detection.id)))
    votes = pd.concat([crowd([detection_id], [0]), crowd(['made0', detection_id.upper()], [1, 1])])
    report = archive.add_votes(votes, 'zoo', show=False)
    assert (report.rows, report.lost) == (1, [])
    assert report.notes == ['10 votes were given again by the same voter: the last counts']
    assert labels_now(archive) == {'made-o0': 1}


def test_a_match_that_is_not_sure_any_more_is_taken_back(archive):
    add(archive, [10.0], [0.0])
    listed = pd.DataFrame(dict(ra=[10.0], dec=0.0))
    archive.match_labels(listed, 'tns', show=False)
    assert labels_now(archive) == {'made-o0': 1}
    twice = pd.DataFrame(dict(ra=[10.0, 10.0], dec=[0.2 / 3600, -0.2 / 3600]))
    report = archive.match_labels(twice, 'tns', show=False)
    assert {row[1] for row in report.lost} == {'ambiguous'}
    assert report.notes == ['1 verdicts of this list are not sure any more: taken back']
