"What is watched: numbers that are measured, limits that cannot be mistaken, messages that are signed"

import json
import threading
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import select, update

import astrid_data as ad
from astrid_data.automation.measures import measure_archive
from astrid_data.automation.watching import NotDelivered, read_limits, signature, watch
from astrid_data.cli import main
from astrid_data.core import BadInput, NotFound, hide_known
from astrid_data.registry.tables import (
    Detection,
    DetectionScore,
    IngestJob,
    Model,
    ModelRun,
    ModelType,
    Observation,
    RunStatus,
)

pytestmark = pytest.mark.filterwarnings('ignore')
NOW = datetime.now(UTC)
ROOMY = {'disk_free_gb': dict(least=0)}


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    home = tmp_path_factory.mktemp('watch')
    return ad.synthetic_archive(home, n_observations=4, n_sources=20)


@pytest.fixture(scope='module')
def quoted(archive):
    "A version whose name wants care in every format"
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 1})
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    return plan.build('plain', patch_size=16, progress=False, probe=False)


def by_name(archive, *args, **kw):
    return {measure.name: measure for measure in measure_archive(archive, *args, **kw)}


def test_an_empty_archive_is_unknown_and_no_alarm(registry_url, tmp_path):
    empty = ad.open_archive(registry_url, storage=str(tmp_path / 'store'), home=tmp_path)
    found = by_name(empty, 'nobody')
    unknown = {name for name, measure in found.items() if measure.value is None}
    assert unknown == set(found) - {'failed_jobs', 'disk_free_gb'}
    assert all(found[name].reason for name in unknown)
    seen = watch(empty, 'nobody', ROOMY)
    more = {'quality_score', 'lost_share', 'shortcut_auc'}  # Limits of a version that is not there
    assert not len(seen.alerts) and set(seen.unknown['name']) == unknown | more


def test_numbers_are_the_same_in_both_databases(registry_url, tmp_path):
    full = ad.open_archive(registry_url, storage=str(tmp_path / 'store'), home=tmp_path)
    full.add_sample(show=False)
    with full.session() as session:
        session.execute(update(Observation).values(created_at=NOW - timedelta(days=30)))
        first = session.scalar(select(Observation.id).order_by(Observation.id).limit(1))
        newer = update(Observation).where(Observation.id == first)
        session.execute(newer.values(created_at=NOW - timedelta(days=2)))
        for days in (0, 30):
            when = NOW - timedelta(days=days)
            session.add(IngestJob(kind='collect', params={}, status='failed', updated_at=when))
        n = len(full.observations())
    found = by_name(full, days=7, now=NOW + timedelta(seconds=1))
    assert found['days_since_ingest'].value == pytest.approx(2, abs=0.01)
    usual = (n - 1) / 23 * 7  # Per week, in the 23 days before this week
    assert found['observations_share'].value == pytest.approx(1 / usual, rel=0.01)
    assert found['failed_jobs'].value == 1
    assert by_name(full, days=7, now=NOW + timedelta(days=60))['observations_share'].value is None


@pytest.mark.parametrize('moved', [False, True])
def test_scores_that_moved_are_seen(archive, moved, tmp_path):
    home = tmp_path / 'scores'
    own = ad.synthetic_archive(home, n_observations=4, n_sources=20)
    with own.session() as session:
        ids = session.scalars(select(Detection.id).order_by(Detection.id)).all()
        session.execute(update(Detection).values(created_at=NOW - timedelta(days=20)))
        late = update(Detection).where(Detection.id.in_(ids[::2]))
        session.execute(late.values(created_at=NOW))
        names = dict(name='m', version='1', model_type=ModelType.CLASSIFIER)
        model, run = Model(id=uuid.uuid4(), **names), uuid.uuid4()
        session.add(model)
        session.flush()
        done = dict(status=RunStatus.COMPLETED, completed_at=NOW)
        session.add(ModelRun(id=run, model_id=model.id, **done))
        session.flush()
        for n, id in enumerate(ids):
            score = (n // 2) / len(ids) + (0.5 if moved and n % 2 == 0 else 0)
            told = dict(score=score, flags='', reason='', detail='')
            session.add(DetectionScore(model_run_id=run, detection_id=id, **told))
    drift = by_name(own, days=7, now=NOW + timedelta(seconds=1))['score_drift']
    assert (drift.value > 0.5) is moved and (moved or drift.value == 0)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('[days_since_ingset]\nmost = 3', "do you mean 'days_since_ingest'"),
        ('[everything]\nmost = 3', 'there are days_since_ingest'),
        ('[lost_share]\nmost = "3"', 'say most = number'),
        ('[lost_share]\nmost = nan', 'say most = number'),
        ('[lost_share]\nmost = true', 'say most = number'),
        ('[lost_share]\n', 'say most = number'),
        ('[lost_share]\nmust = 3', 'say most = number'),
        ('lost_share = 3', 'say most = number'),
        ('[lost_share\nmost = 3', 'limits.toml'),
        ('\x00', 'limits.toml'),
        ('[lost_share]\nmost = [3]', 'say most = number'),
        ('[lost_share.most]\nmost = 3', 'say most = number'),
    ],
)
def test_limits_that_cannot_be_are_refused(tmp_path, text, words):
    path = tmp_path / 'limits.toml'
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        read_limits(path)


def test_limits_that_are_not_there_or_no_text(tmp_path):
    (tmp_path / 'limits.toml').write_bytes(b'\xff\xfe\x00')
    for path in (tmp_path / 'limits.toml', tmp_path / 'none.toml', tmp_path):
        with pytest.raises(BadInput, match=path.name):
            read_limits(path)


def test_a_given_limit_counts_and_the_others_stay(tmp_path):
    path = tmp_path / 'limits.toml'
    path.write_text('[lost_off_image]\nmost = 0\n[quality_labels]\nleast = 0.5\n')
    limits = read_limits(str(path))
    assert limits == {'lost_off_image': dict(most=0), 'quality_labels': dict(least=0.5)}


def test_a_given_limit_is_never_silent(archive, quoted):
    given = {'quality_score': dict(least=0), 'quality_colour': dict(least=0)}
    for family in (None, 'plain'):
        says = watch(archive, family, given).table.set_index('name')['says']
        assert says['quality_colour'] == 'unknown'
        assert says['quality_score'] == ('ok' if family == 'plain' else 'unknown')
    assert 'quality_score' not in set(watch(archive).table['name'])


def test_prometheus_reads_it(archive, quoted):
    parser = pytest.importorskip('prometheus_client.parser')
    seen = watch(archive, 'plain', ROOMY | {'quality_score': dict(least=1.01)})
    seen.family = 'a "name"\\ of\ntwo lines'
    read = {
        family.name: family
        for family in parser.text_string_to_metric_families(seen.to_prometheus())
    }
    rows = seen.table[seen.table['says'] != 'unknown'].set_index('name')
    assert set(read) == {f'astrid_data_{name}' for name in (*rows.index, 'alert')}
    for name, row in rows.iterrows():
        sample = read[f'astrid_data_{name}'].samples[0]
        assert (sample.value, sample.labels['dataset']) == (row['value'], seen.family)
    alerts = {one.labels['name']: one.value for one in read['astrid_data_alert'].samples}
    assert [name for name, is_one in alerts.items() if is_one] == ['quality_score']
    assert set(alerts) == set(rows.query("says != 'no limit'").index)


@pytest.fixture
def receiver():
    "A server on this machine: what it got, and what it answers"
    got, answers = [], []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((dict(self.headers), self.rfile.read(int(self.headers['Content-Length']))))
            self.send_response(answers[0])
            if 300 <= answers[0] < 400:
                self.send_header('Location', 'http://127.0.0.1:1/')
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(('127.0.0.1', 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/hook', got, answers
    server.shutdown()
    server.server_close()


def test_a_message_is_signed_with_its_time(archive, receiver):
    url, got, answers = receiver
    answers.append(200)
    seen = watch(archive, limits=ROOMY)
    seen.send(url, 'hush-hush-42')
    headers, body = got[0]
    moment = int(headers['X-Astrid-Signature'].split(',')[0][2:])
    assert headers['X-Astrid-Signature'] == signature(body, 'hush-hush-42', moment)
    macs = {signature(body, 'hush-hush-42', moment + n).split(',')[1] for n in range(2)}
    assert len(macs) == 2
    assert json.loads(body)['measures'] == seen.to_dict()['measures']
    assert b'hush' not in body and 'hush' not in str(headers)


@pytest.mark.parametrize('status', [301, 302, 307, 401, 500])
def test_what_is_not_taken_is_said_and_no_redirect_is_followed(archive, receiver, status):
    url, got, answers = receiver
    answers.append(status)
    with pytest.raises(NotDelivered, match=f'answered {status}'):
        watch(archive, limits=ROOMY).send(url, 'hush')
    assert len(got) == 1


@pytest.mark.parametrize(
    'url',
    [
        'http://example.org/',
        'ftp://localhost/',
        'file:///etc/passwd',
        '',
        'localhost:80',
        'http://localhost@example.org/',
        'https://',
        'https://[',
    ],
)
def test_a_message_goes_nowhere_in_the_open(archive, url):
    with pytest.raises(BadInput, match='https'):
        watch(archive, limits=ROOMY).send(url, 'hush')


def test_a_receiver_that_drips_holds_nobody(archive):
    "Each letter comes in time, and the whole never"
    import socket

    with socket.create_server(('127.0.0.1', 0)) as server:
        done = threading.Event()

        def drip():
            client, _ = server.accept()
            with client:
                while not done.wait(0.02):
                    client.sendall(b'H')

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f'http://127.0.0.1:{server.getsockname()[1]}/'
        with pytest.raises(NotDelivered, match='did not answer within 0.2 seconds'):
            watch(archive, limits=ROOMY).send(url, 'hush', timeout_s=0.2)
        done.set()
        thread.join()


def test_a_misspelt_data_set_is_no_quiet_one(archive, quoted):
    with pytest.raises(NotFound, match="is 'plain' meant"):
        watch(archive, 'plian', ROOMY)


def test_a_set_whose_labels_are_told_by_the_way_is_an_alert(archive, quoted, monkeypatch):
    from astrid_data.automation import measures

    monkeypatch.setattr(measures, 'certain_auc', lambda probe: 0.9)
    seen = watch(archive, 'plain', ROOMY)
    assert seen.alerts['name'].tolist() == ['shortcut_auc']


def test_limits_that_are_not_there_show_how_to_write_some(tmp_path, archive, capsys):
    with pytest.raises(BadInput, match='least = 0.8') as caught:
        read_limits(tmp_path / 'none.toml')
    example = str(caught.value).partition('such as\n')[2]
    path = tmp_path / 'limits.toml'
    path.write_text(example)
    assert read_limits(path)['quality_score'] == dict(least=0.8)


def test_a_receiver_that_is_away_is_said_without_its_address(archive):
    with pytest.raises(NotDelivered, match='cannot be reached') as caught:
        watch(archive, limits=ROOMY).send('http://127.0.0.1:1/hook?token=geheim', 'hush')
    assert 'geheim' not in str(caught.value) and caught.value.__cause__ is None


def test_a_secret_with_half_a_character_is_refused_and_harms_nothing(archive):
    with pytest.raises(BadInput, match='half a character'):
        signature(b'{}', 'ab\ud800cdefgh', 1)
    hide_known('a log line')  # All secrets that are known are looked for in it
    assert signature(b'{}', 'ab\udcffcdefgh', 1)  # A byte of an environment that is not UTF-8


def test_a_clock_that_runs_ahead_does_not_hide_silence(tmp_path):
    own = ad.synthetic_archive(tmp_path, n_observations=4, n_sources=20)
    with own.session() as session:
        session.execute(update(Observation).values(created_at=NOW - timedelta(days=30)))
        first = session.scalar(select(Observation.id).limit(1))
        ahead = update(Observation).where(Observation.id == first)
        session.execute(ahead.values(created_at=NOW + timedelta(days=400)))
    seen = watch(own, limits=ROOMY)
    row = seen.table.set_index('name').loc['days_since_ingest']
    assert row['says'] == 'alert' and '1 of the future: check the clocks' in row['reason']


def test_the_shell_ends_with_what_was_seen(archive, quoted, tmp_path, capsys, monkeypatch):
    limits = tmp_path / 'limits.toml'
    limits.write_text('[disk_free_gb]\nleast = 0\n')
    words = ['watch', 'plain', '--home', str(archive.home), '--limits', str(limits)]
    assert main([*words, '--prometheus', str(tmp_path / 'astrid.prom')]) == 0
    assert 'name="quality_score"} 0' in (tmp_path / 'astrid.prom').read_text()
    assert main([*words[:1], 'plian', *words[2:]]) not in (0, 4)
    limits.write_text('[disk_free_gb]\nleast = 1e12\n')
    capsys.readouterr()
    assert main([*words, '--json']) == 4
    assert json.loads(capsys.readouterr().out)['alerts'] == ['disk_free_gb']
    monkeypatch.delenv('ASTRID_WEBHOOK_SECRET', raising=False)
    assert main([*words, '--webhook', 'https://example.org/']) not in (0, 4)
    assert 'ASTRID_WEBHOOK_SECRET' in capsys.readouterr().err
    assert main(['watch', '--limits', str(tmp_path / 'none.toml'), *words[2:4]]) not in (0, 4)
