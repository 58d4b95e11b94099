"Work that two must not do at once: the second hears what the first does, and the dead hold nobody up"

import multiprocessing
import os
import re
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


def killed_above_a_child(open_again, pipe):
    "Have the turn, and a child that sleeps through the end of this process"
    with one_turn(open_again(), 'sky'):
        if not os.fork():
            pipe.send(os.getpid())
            signal.pause()
        signal.pause()


@pytest.fixture
def orphan(home):
    "The number of a child that sleeps; its parent had the turn and was killed"
    ours, theirs = FORK.Pipe()
    parent = FORK.Process(target=killed_above_a_child, args=(home, theirs))
    parent.start()
    number = ours.recv()
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    yield number
    os.kill(number, signal.SIGKILL)


def test_a_child_that_is_left_behind_does_not_keep_the_turn(home, orphan):
    archive, pause = home(), threading.Event()
    for _ in range(400):  # PostgreSQL hears of it a moment later
        try:
            with one_turn(archive, 'sky'):
                return
        except AtWork:
            pause.wait(0.05)
    pytest.fail(f'child {orphan} of the process that was killed has the turn still')


@pytest.mark.parametrize('registry_url', ['postgresql'], indirect=True)
def test_a_child_that_ends_leaves_the_turn_to_its_parent(home):
    other, turn = home(), one_turn(home(), 'sky')
    with turn as say:
        child = os.fork()
        if not child:
            turn.__exit__(None, None, None)  # As where an error leaves the block
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        say('trains')
        with pytest.raises(AtWork, match='trains since'), one_turn(other, 'sky'):
            pass


def test_of_long_names_since_when_and_who_is_told(home, monkeypatch):
    "PostgreSQL keeps 63 letters"
    monkeypatch.setattr(
        'astrid_data.automation.turns.gethostname', lambda: 'train-7d9f8c6b5d-x2x4z'
    )
    with one_turn(home(), 'sky') as say:
        say('trains on ' + 'a-survey-of-the-whole-sky-' * 4 + '@v12')
        with pytest.raises(AtWork) as refused:
            one_turn(home(), 'sky').__enter__()
    words = str(refused.value)
    assert words.startswith('trains on a-survey-of-')
    who = rf'since \d\d:\d\d UTC \(process {os.getpid()} on train-7d9f8c6b5d-x2x4z\)$'
    assert re.search(who, words), words
