"Labels of others against simulated truth: sure matches only, ambiguous ones told, votes by reliability"

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from astrid_data.core import BadInput
from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.matching import match_confidence, track_position
from astrid_data.ingest.votes import dawid_skene
from astrid_data.registry.tables import Detection, DetectionIndex, ValidationEvent

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
