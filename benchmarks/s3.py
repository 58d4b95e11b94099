"Patches of images in a bucket that answers after 30 ms, against reading the same images whole"

import atexit
import fcntl
import json
import os
import shutil
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from urllib.parse import urlsplit

from benchmarks.extract import make_tiles, samples_of
from benchmarks.harness import Row, Table

IMAGES, SIZE, LAG_S = 8, 64, 0.03
_PIPE_BYTES = 1 << 20


# A store far away: what is asked waits, what is answered goes through as it comes


def _ask_late(client, server):
    "Pass requests on, each of them late"
    with suppress(OSError):
        while data := client.recv(1 << 16):
            time.sleep(LAG_S)
            server.sendall(data)
    with suppress(OSError):
        server.shutdown(socket.SHUT_WR)


def _answer_at_once(server, client):
    "Pass answers on, inside the kernel"
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    with suppress(OSError):
        while n := os.splice(server.fileno(), into, _PIPE_BYTES):
            while n:
                n -= os.splice(out, client.fileno(), n)
    for end in (out, into):
        os.close(end)
    client.close()
    server.close()


def _connect(client, port):
    "One connection, which takes as long to open as an answer"
    time.sleep(LAG_S)
    server = socket.create_connection(('127.0.0.1', port))
    for one in (client, server):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_ask_late, args=(client, server), daemon=True).start()
    _answer_at_once(server, client)


@contextmanager
def far(endpoint):
    "The same server, 30 ms away"
    port = urlsplit(endpoint).port
    listener = socket.create_server(('127.0.0.1', 0), backlog=128)

    def serve():
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_connect, args=(client, port), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{listener.getsockname()[1]}'
    finally:
        listener.close()


# What lies there: files as anybody uploads them, without a word about them


@cache
def _server():
    "A server that ends with this process, near and far"
    from tests.servers import s3_server

    stack = ExitStack()
    atexit.register(stack.close)
    server = stack.enter_context(s3_server())
    return server, stack.enter_context(far(server.endpoint))


def prepare(per, kind):
    "A function of a folder: images and samples, and all that ingest would have written down"

    def prepared(folder):
        from astrid_data.images.far_rows import kept_blocks

        make_tiles(folder, per, kind, IMAGES)
        server, address = _server()
        client, known = server.client(), []
        for name, entry in json.loads((folder / 'marks.json').read_text()).items():
            path, hdu, version = name.split('|')
            key = f'{kind}-{per}/{path.rpartition("/")[2]}'
            with open(path, 'rb') as f:
                etag = client.put_object(Bucket='test', Key=key, Body=f)['ETag'].strip('"')
            entry |= kept_blocks(path, entry['size'])
            known.append((f's3://test/{key}', hdu, int(version), etag, entry, path))
            os.remove(path)
        access = dict(s3_endpoint=address, s3_key_id=server.key, s3_secret=server.secret)
        (folder / 's3.json').write_text(json.dumps(dict(access=access, known=known)))

    return prepared


def _store(folder):
    from astrid_data.core import Secret, Settings
    from astrid_data.storage.bucket import S3Store
    from astrid_data.storage.cache import DiskCache

    access = json.loads((folder / 's3.json').read_text())['access']
    settings = {k: v if k == 's3_endpoint' else Secret(v) for k, v in access.items()}
    return S3Store('test', '', Settings(**settings), DiskCache(folder / 'cache'))


def _counted(store):
    "Requests and bytes that a store's client was answered with, in a dict"
    counts = dict(requests=0, mb=0.0)

    def add(parsed, **kw):
        counts['requests'] += 1
        counts['mb'] += parsed.get('ContentLength', 0) / 1e6

    store.client.meta.events.register('after-call.s3.GetObject', add)
    store.client.meta.events.register('after-call.s3.HeadObject', lambda **kw: add({}))
    return counts


# The rows


def whole(at_once):
    "Every image by one GET, so many of them at once, and thrown away: nothing is cut"

    def start(folder):
        from concurrent.futures import ThreadPoolExecutor

        store, said = _store(folder), json.loads((folder / 's3.json').read_text())
        keys = [uri.removeprefix('s3://test/') for uri, *_ in said['known']]
        n = len(samples_of(folder)[0])

        def drain(key):
            for _ in store.client.get_object(Bucket='test', Key=key)['Body'].iter_chunks(1 << 20):
                pass

        def once():
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(drain, keys))
            return n

        return once

    return start


def downloads(folder):
    "Every image by boto3's own `download_file`, which reads parts at once; nothing is cut"
    store, said = _store(folder), json.loads((folder / 's3.json').read_text())
    keys = [uri.removeprefix('s3://test/') for uri, *_ in said['known']]
    n = len(samples_of(folder)[0])

    def once():
        for key in keys:
            store.client.download_file('test', key, str(folder / 'downloaded'))
        return n

    return once


def whole_and_cut(folder):
    "Every image by one GET into a file, and its patches cut from there: what a script does"
    from astrid_data.patches.extract import extract_patches

    store, said = _store(folder), json.loads((folder / 's3.json').read_text())
    samples = samples_of(folder)[0]
    by_image = dict(list(samples.groupby('image_uri', sort=False)))

    def once():
        kept = 0
        for uri, *_, path in said['known']:
            with open(path, 'wb') as f:
                answer = store.client.get_object(Bucket='test', Key=uri.removeprefix('s3://test/'))
                for part in answer['Body'].iter_chunks(1 << 20):
                    f.write(part)
            kept += extract_patches(by_image[path], SIZE, hash_files=False).kept.sum()
            os.remove(path)
        return int(kept)

    return once


def ours(folder):
    "The images cut as a build does, with an empty cache"
    from astrid_data.datasets import staging
    from astrid_data.images.opener import ImageOpener, KnownFile
    from astrid_data.storage.resolve import remote_object

    samples = samples_of(folder)[0]
    said = json.loads((folder / 's3.json').read_text())['known']
    samples['image_uri'] = samples['image_uri'].map({path: uri for uri, *_, path in said})
    indexes = {
        (uri, hdu, ver): entry | dict(files={KnownFile(entry['sha256'], etag)})
        for uri, hdu, ver, etag, entry, _ in said
    }
    settings = staging.CutSettings(SIZE, measure=False, target_maps=False)
    chunks = [samples.iloc[a:b] for a, b in staging.chunks_of(samples)]
    buffers, store = staging._two_buffers(settings), _store(folder)
    counts = _counted(remote_object('s3://test/x', store)[0])

    def once():
        shutil.rmtree(folder / 'cache', ignore_errors=True)
        opener = ImageOpener(store)
        counts.update(requests=0, mb=0.0)
        find = staging._far_ahead(lambda rows: indexes, opener, settings)
        kept = 0
        for work in staging._one_ahead((rows, find(rows)) for rows in chunks):
            for _, tables in staging._cut_parts(work, opener, settings, buffers):
                kept += sum(len(table) for table, _ in tables or ())
        opener.coming.stop()
        assert kept == len(samples)
        return kept, dict(counts)

    return once


def table(per, kind='plain'):
    packed = '' if kind == 'plain' else ', RICE'
    return Table(
        'whole_get',
        'patches/s',
        dict(
            whole_get=Row(whole(1)),
            whole_get_4=Row(whole(4)),
            download_file=Row(downloads),
            whole_get_and_cut=Row(whole_and_cut),
            astrid_data=Row(ours),
        ),
        prepare(per, kind),
        about=f'{per} patches of {SIZE}² on each of {IMAGES} images of 4096² float32{packed} in a '
        'bucket that answers after 30 ms; astrid_data and whole_get_and_cut cut them, the others throw '
        'the images away',
    )


TABLES = {f's3_{per}': table(per) for per in (5, 50, 1000)}
TABLES |= {f's3_rice_{per}': table(per, 'rice') for per in (5, 50, 1000)}
