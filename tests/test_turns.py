"Work that two must not do at once: the second hears what the first does, and the dead hold nobody up"

import multiprocessing
import os
import signal
import threading

import pytest

import astrid_data as ad
from astrid_data.automation import next_model
from astrid_data.automation.next_model import retrain
from astrid_data.automation.promoted import list_candidates
from astrid_data.automation.turns import AtWork, one_turn
from astrid_data.core import DiskFull

pytestmark = pytest.mark.filterwarnings('ignore')
FORK = multiprocessing.get_context('fork')


@pytest.fixture
def home(registry_url, tmp_path):
    "A function that opens the same registry once more"
    storage = str(tmp_path / 'store')
    return lambda more='': ad.open_archive(registry_url + more, storage=storage, home=tmp_path)


def work(open_again, pipe):
    "Have the turn until the end of the process"
    with one_turn(open_again(), 'sky') as say:
        say('trains on sky@v2')
        pipe.send('at work')
        pipe.recv()


def test_a_process_that_dies_gives_its_turn_back(home):
    ours, theirs = FORK.Pipe()
    other = FORK.Process(target=work, args=(home, theirs))
    other.start()
    ours.recv()
    archive = home()
    with pytest.raises(AtWork, match=rf'trains on sky@v2 since .* \(process {other.pid} on'):
        one_turn(archive, 'sky').__enter__()
    with one_turn(archive, 'another sky'):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    freed = threading.Event()
    while not freed.is_set():  # PostgreSQL hears of it a moment later
        try:
            with one_turn(archive, 'sky'):
                freed.set()
        except AtWork:
            freed.wait(0.05)


def test_a_pool_of_one_connection_is_enough(home):
    archive = home('?pool_size=1')
    with one_turn(archive, 'sky'), archive.session() as session:
        assert session.connection() is not None


def test_words_that_cannot_be_left_cost_nothing(home, monkeypatch):
    def full(*_, **how):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as broken:
        broken.setattr('pathlib.Path.write_text', full)
        with one_turn(home(), 'sky') as say:
            say('trains')


def small(channels):
    return ad.SmallCNN(channels, width=4)


NIGHT = dict(network=small, fit=dict(epochs=1), track=dict(monitor=False), progress=False)


@pytest.fixture
def dataset(home, tmp_path, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr('astrid_data.simulate.synthetic.open_archive', lambda _: home())
        archive = ad.synthetic_archive(tmp_path, n_observations=4, n_sources=20)
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 1})
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    return plan.build('sky', patch_size=16, progress=False, probe=False)


def test_of_two_calls_at_once_one_makes_all(dataset, monkeypatch):
    "The second comes while the first trains"
    plain, beside = next_model.learn, []

    def learn(*args, **how):
        beside.append(retrain(dataset, **NIGHT))
        beside.append(retrain(dataset, force=True, **NIGHT))
        beside.append(retrain(dataset, dry_run=True, **NIGHT))
        return plain(*args, **how)

    monkeypatch.setattr(next_model, 'learn', learn)
    first = retrain(dataset, **NIGHT)
    assert first.outcome == 'promoted'
    assert [one.outcome for one in beside] == ['at work', 'at work', 'would train']
    assert 'trains on sky@v1 since' in beside[0].reason and str(os.getpid()) in beside[0].reason
    assert len(list_candidates(dataset.archive, 'sky')) == 1
    assert retrain(dataset, **NIGHT).outcome == 'not needed'


def test_a_call_that_fails_gives_its_turn_back(dataset, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(next_model, '_night', lambda *_: (_ for _ in ()).throw(DiskFull('full')))
        with pytest.raises(DiskFull):
            retrain(dataset, **NIGHT)
    assert retrain(dataset, **NIGHT).outcome == 'promoted'
