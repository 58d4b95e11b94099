"Targets of `fuzzing`: trained models of others, what archives answer, packs, downloads and what is typed in a shell."

import contextlib
import io
import json
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from fuzzing import ODD, Wrong, mutate_bytes, mutate_text, mutate_value

TARGETS = tuple(
    f'fuzz_models:{name}' for name in 'folders onnx cards found packs downloads shell'.split()
)
RAW = np.random.default_rng(0).normal(100, 10, (2, 1, 32, 32)).astype('f4')


# ---------------------------------------------------------------- models


@cache
def _model():
    "A classifier, its folder's files by name, and its file of ONNX"
    import torch

    from astrid_data.inference.classifier import classifier_of
    from astrid_data.loading.loader import RealDataLoader
    from astrid_data.training.models import SmallCNN, pretend_dataset

    torch.set_num_threads(1)
    torch.manual_seed(0)
    home = Path(mkdtemp(prefix='fuzz-'))
    train, val, _ = RealDataLoader(pretend_dataset(home / 'pretend')).loaders(batch_size=64)
    classifier = classifier_of(SmallCNN(1, width=4), train, val)
    files = {path.name: path.read_bytes() for path in classifier.save(home / 'kept').iterdir()}
    try:
        whole = classifier.to_onnx(home / 'a.onnx').read_bytes()
    except ImportError:
        whole = None
    return classifier, files, whole


def _use(model):
    "All that is done with a trained model"
    repr(model), model.version, model.threshold
    model.card()
    score = model.answer(RAW)['score']
    model.probability_at(score, 0.1)
    return score


def _changed_json(data, rng):
    "JSON as somebody may leave it"
    if rng.random() < 0.3:
        return mutate_bytes(data, rng)[0]
    if rng.random() < 0.3:
        return mutate_text(data.decode(), rng).encode('utf-8', 'surrogatepass')
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutate_value(value, rng)
    return json.dumps(value).encode('utf-8', 'surrogatepass')


def folders(rng, folder):
    "A folder of a classifier with one file changed: found, or the same model"
    from astrid_data.inference.load import load_classifier

    classifier, files, _ = _model()
    kept = folder / 'kept'
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    name = rng.choice([name for name in files if name != 'model_card.md'] + ['classifier.json'] * 2)
    change = _changed_json if name == 'classifier.json' else lambda *a: mutate_bytes(*a)[0]
    after = change(files[name], rng)
    for one, data in files.items():
        (kept / one).write_bytes(after if one == name else data)
    found = load_classifier(kept)
    same = np.array_equal(_use(found), classifier.answer(RAW)['score'], equal_nan=True)
    if found.version != classifier.version or not same:
        raise Wrong(f'a changed {name} was accepted')
    return 'same'


def _with_facts(whole, facts):
    "A file with other facts and the seal of the old ones, as an editor of properties leaves it"
    import onnx

    graph = onnx.load_from_string(whole)
    kept = {p.key: p.value for p in graph.metadata_props}
    onnx.helper.set_model_props(graph, kept | dict(astrid_data=facts))
    return graph.SerializeToString()


def _sealed_again(content):
    "As an enemy leaves a file who knows how seals are made; without a place for one as it is"
    from astrid_data.inference.onnx_files import seal_of, seal_onnx

    return seal_onnx(content) if seal_of(content) else content


def onnx(rng, folder):
    "A file of ONNX, changed in its bytes or in what it says of itself, with the old seal or a new one"
    from astrid_data.inference.load import load_classifier

    classifier, _, whole = _model()
    if whole is None:
        return 'no onnx here'
    if rng.random() < 0.5:
        made = mutate_bytes(whole, rng)[0]
    else:
        facts = json.dumps(classifier.facts | dict(version='0' * 16)).encode()
        made = _with_facts(whole, _changed_json(facts, rng).decode('utf-8', 'replace'))
    made_anew = rng.random() < 0.5
    path = folder / 'a.onnx'
    path.write_bytes(_sealed_again(made) if made_anew else made)
    _use(load_classifier(path))
    if not made_anew and made != whole:
        raise Wrong('a changed file of ONNX was accepted under its old seal')
    return 'sealed anew' if made_anew else 'same'


def cards(rng, folder):
    "The card of a model whose facts hold what they like"
    from astrid_data.core import parse_json
    from astrid_data.inference.classifier import Classifier, check_facts

    classifier, *_ = _model()
    facts = classifier.facts | dict(version='0' * 16)
    mark = '<script>alert(1)</script>|`'
    for _ in range(rng.choice((1, 2, 3))):
        facts = mutate_value(facts, rng)
    if isinstance(facts, dict) and isinstance(facts.get('input'), dict):
        facts['input'] = facts['input'] | dict(dataset=mark)
    facts = check_facts(parse_json(json.dumps(facts).encode(), 'a'), 'a')
    model = Classifier(classifier.model, facts, classifier.reference)
    text = model.card()
    if '<script' in text:
        raise Wrong('a name came into the card as HTML')
    return 'accepted'


# ---------------------------------------------------------------- archives


@cache
def _archive():
    import astrid_data as ad

    return ad.open_archive(mkdtemp(prefix='fuzz-'))


def _found_rows(rng):
    row = dict(survey='hst', obs_id='hst_1', instrument='ACS', band='F814W', ra=150.0, dec=2.0)
    row |= dict(mjd_start=58000.0, exposure_s=30.0, product='a_drz.fits', size_bytes=5760.0)
    rows = [row | dict(uri=f'mast:HST/product/{k}.fits', asked=0) for k in range(3)]
    request = 'skyview:DSS?ra=150.1&dec=2.2&fov_deg=0.1&pixels=50'
    return [*rows, row | dict(uri=request, asked=0, size_bytes=None)]


def found(rng, folder):
    "A table of files as a broken archive may answer, and what it then sends"
    import pandas as pd
    from fuzz_files import fits_seeds

    from astrid_data.core import AstridError
    from astrid_data.ingest import fetch
    from astrid_data.ingest.found import found_table

    rows = _found_rows(rng)
    for _ in range(rng.choice((0, 1, 2, 4))):
        rows = mutate_value(rows, rng)
    if rng.random() < 0.7:
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        table = found_table(rows)
    else:
        try:
            table = pd.DataFrame(rows)
        except (ValueError, TypeError, AttributeError, OverflowError):
            return 'no table'

    def download(address, f, *how):
        if not address.startswith('https://'):
            raise Wrong(f'{address!r} is fetched')
        data = rng.choice(fits_seeds())
        f.write(data if rng.random() < 0.5 else mutate_bytes(data, rng)[0])

    plain, fetch.download = fetch.download, download
    archive = _archive()
    try:
        report = fetch.add_found(archive, table, show=False, detect=False)
    except AstridError:
        return 'refused'
    finally:
        fetch.download = plain
        shutil.rmtree(archive.home / 'store' / 'observations', ignore_errors=True)
        shutil.rmtree(archive.home / 'store' / 'references', ignore_errors=True)
    return 'accepted' if report.added + report.skipped else 'refused'


@cache
def _packed():
    "A store with a pack, and where its files are"
    from astrid_data.storage.folder import FolderStore
    from astrid_data.storage.packs import Pack, put_pack

    store, pack = FolderStore(mkdtemp(prefix='fuzz-')), Pack()
    for k in range(5):
        pack.add(f'stamp {k}', bytes([k]) * (300 * k + 1))
    return store, list(put_pack(store, pack).items())


def packs(rng, folder):
    "The address of a file in a pack, or the pack itself, changed"
    import hashlib

    from astrid_data.storage.packs import packed_part, stored_bytes
    from astrid_data.storage.resolve import resolve_uri

    store, files = _packed()
    sha256, address = rng.choice(files)
    if rng.random() < 0.5:
        made = mutate_text(address, rng)
        data, part = stored_bytes(store, made), packed_part(made)
        if part and len(data) != part[2] - part[1]:
            raise Wrong(f'{made} gave {len(data)} bytes')
        return 'same' if made == address else 'another part'
    path = store._path(address.rpartition('/')[0])
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(mutate_bytes(before, rng)[0])
    try:
        data = resolve_uri(address, store, sha256).read_bytes()
    finally:
        path.write_bytes(before)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Wrong('another file came out of a pack')
    return 'same'


# ---------------------------------------------------------------- downloads


_BODY = bytes(range(256)) * 40


def _honest(rng, asked):
    "What a good machine answers, and how much of it comes"
    size = len(_BODY)
    start = int(asked['Range'][6:-1]) if asked.get('If-range') == '"now"' else 0
    if start >= size:
        return _bytes_of(416, {'Content-Range': f'bytes */{size}'}, b'')
    headers = {'ETag': '"now"', 'Content-Length': size - start}
    if start:
        headers['Content-Range'] = f'bytes {start}-{size - 1}/{size}'
    body = _BODY[start:]
    answer = _bytes_of(206 if start else 200, headers, body)
    return answer[: len(answer) - rng.randrange(len(body))] if rng.random() < 0.4 else answer


def _bytes_of(status, headers, body):
    lines = [f'HTTP/1.1 {status} X', *(f'{name}: {value}' for name, value in headers.items())]
    return '\r\n'.join([*lines, 'Connection: close', '', '']).encode('latin-1', 'replace') + body


def _open_with(answers):
    "What takes the place of `web._https_handler`: every connection gets the next answer"
    from http.client import HTTPConnection
    from urllib.request import HTTPSHandler

    class Socket(io.BytesIO):
        def makefile(self, *how, **more):
            return io.BytesIO(self.getvalue())

        def sendall(self, data):
            pass

        def settimeout(self, seconds):
            pass

        def setsockopt(self, *how):
            pass

    class Connection(HTTPConnection):
        def __init__(self, host, **how):
            how.pop('context', None)
            how.pop('check_hostname', None)
            super().__init__(host, **how)

        def connect(self):
            self.sock = None

        def request(self, method, url, body=None, headers=None, **how):
            self.asked = headers or {}
            super().request(method, url, body, self.asked, **how)

        def send(self, data):
            self.sock = Socket(answers(self.asked))

    class Handler(HTTPSHandler):
        def https_open(self, request):
            return self.do_open(Connection, request)

    return Handler()


def downloads(rng, folder):
    "A download that goes on from any state, of a good machine or of one that says what it likes"
    from astrid_data.storage import service, web
    from astrid_data.storage.addresses import Reach

    part, mark = folder / 'part', folder / 'etag'
    part.write_bytes(rng.choice((b'', _BODY[:99], _BODY, _BODY + b'x')))
    mark.write_text('"now"')
    kind = rng.random()
    if kind < 0.4:  # Of another state, or nothing that can be used
        part.write_bytes(mutate_bytes(_BODY, rng)[0])
        mark.write_bytes(rng.choice((b'', b'"old"', mutate_bytes(b'"other"', rng)[0])))
        if mark.read_bytes() == b'"now"':
            return 'the same'
    odd = kind > 0.7

    def answers(asked):
        data = _honest(rng, asked)
        return _odd_answer(data, rng) if odd else data

    plain = web._https_handler, service._pause
    web._https_handler, service._pause = lambda reach: _open_with(answers), lambda seconds: None
    try:
        with part.open('r+b') as f:
            web.download('https://sky.example/a.fits', f, Reach(), mark, 10**7)
    finally:
        web._https_handler, service._pause = plain
        mark.unlink(missing_ok=True)
    if not odd and part.read_bytes() != _BODY:
        raise Wrong(f'{part.stat().st_size} bytes came that are not the file')
    return 'accepted'


_LINES = """Location: https://sky.example/b
Location: https://[::1
Location: ///
Transfer-Encoding: chunked
Content-Length: 10
Content-Length: -5
Content-Range: bytes 0-9/10
Content-Encoding: gzip
ETag: W/"x"
Connection: keep-alive
Set-Cookie: a""".split('\n')


def _odd_answer(data, rng):
    "An answer with lines that are broken, added or lost"
    head, _, body = data.partition(b'\r\n\r\n')
    lines = head.split(b'\r\n')
    if rng.random() < 0.5:
        lines[0] = b'HTTP/1.1 %d X' % rng.choice((200, 206, 301, 302, 308, 404, 416, 500, 100, 204))
    for _ in range(rng.choice((0, 1, 2))):
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_LINES).encode())
    head = b'\r\n'.join(lines)
    return (
        mutate_bytes(head, rng)[0] + b'\r\n\r\n' + body
        if rng.random() < 0.6
        else head + b'\r\n\r\n' + body
    )


# ---------------------------------------------------------------- a shell


_COMMANDS = """list
datasets --json
show x@v1
show x --json
quality x@v1
audit x
verify x@v1
diff x@v1 x@v2
ingest fits {folder}/x.fits --survey a
ingest alerts {folder}/x.avro --json
ingest catalog {folder}/x.csv --name a
collect --confidence 0.7 --json
export x@v1 {folder}/out
report x@v1
score {folder}/model
score {folder}/a.onnx {folder}/x.avro --prior 0.1 --chunk 5
label 00000000-0000-0000-0000-000000000001 real
key me
jobs --json""".split('\n')


def shell(rng, folder):
    "A command that somebody typed"
    from astrid_data import cli

    words = rng.choice(_COMMANDS).format(folder=folder).split()
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        place = rng.randrange(len(words) + 1)
        odd = rng.choice(
            (rng.choice(ODD), f'--{rng.choice(ODD)[:20]}', '--help', '-1', '--json', '@', '%')
        )
        words[place : place + rng.randrange(2)] = [odd.replace('\x00', '?')]
    words = [word for word in words if word not in ('serve', 'demo')] or ['list']
    said = io.StringIO()
    home = str(_archive().home)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        kept = dict(os.environ)
        os.environ |= dict(ASTRID_DATA_HOME=home, COLUMNS='80')
        try:
            code = cli.main(words)
        except SystemExit as end:
            code = end.code
        finally:
            os.environ.clear()
            os.environ.update(kept)
    if 'Traceback' in said.getvalue() or code not in cli.EXIT_CODES:
        raise Wrong(f'{words} ended with {code}: {said.getvalue()[-300:]}')
    return 'accepted' if code == 0 else 'refused'


os.environ.setdefault('ASTRID_DATA_QUIET', '1')
