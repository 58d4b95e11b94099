"""A download that is cut goes on where it ended, and never joins two files"""

import http.server
from io import BytesIO

import pytest
from servers import NoServer, https_server

from astrid_data.storage.addresses import Reach
from astrid_data.storage.service import StoreUnreachable
from astrid_data.storage.web import download

BODY = bytes(range(256)) * 4096  # 1 MB


class Archive(http.server.BaseHTTPRequestHandler):
    "Serves a body whose connection breaks after some bytes, as often as `cuts` says"

    protocol_version = 'HTTP/1.1'
    body, cuts, validator, ranges, asked = BODY, [], ('ETag', '"one"'), True, []

    def do_GET(self):
        here = type(self)
        wanted = self.headers.get('Range')
        here.asked.append((wanted, self.headers.get('If-Range')))
        start = 0
        if wanted and here.ranges and self.headers.get('If-Range') == here.validator[1]:
            start = int(wanted.removeprefix('bytes=').rstrip('-'))
        if start >= len(here.body):
            self._say(416, 0, f'bytes */{len(here.body)}')
            return
        rest = here.body[start:]
        whole = f'bytes {start}-{len(here.body) - 1}/{len(here.body)}'
        self._say(206 if start else 200, len(rest), whole if start else None)
        cut = here.cuts.pop(0) if here.cuts else len(rest)
        self.wfile.write(rest[:cut])
        self.close_connection = cut < len(rest)

    def _say(self, status, length, content_range):
        self.send_response(status)
        self.send_header('Content-Length', str(length))
        if self.validator:
            self.send_header(*self.validator)
        if content_range:
            self.send_header('Content-Range', content_range)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def archive(tmp_path, monkeypatch):
    "An archive of its own for each test, over TLS that we trust"
    handler = type('Here', (Archive,), dict(cuts=[], asked=[]))
    (tmp_path / 'tls').mkdir()
    try:
        with https_server(handler, tmp_path / 'tls') as (url, certificate):
            monkeypatch.setenv('SSL_CERT_FILE', str(certificate))
            handler.url = f'{url}/a.fits'
            yield handler
    except NoServer as why:
        pytest.skip(str(why))


def got(archive, **how):
    f = BytesIO()
    download(archive.url, f, Reach(), **how)
    return f.getvalue()


def test_a_cut_body_is_continued(archive):
    archive.cuts = [1000, 70_000]
    assert got(archive) == BODY
    assert archive.asked == [
        (None, None),
        ('bytes=1000-', '"one"'),
        ('bytes=71000-', '"one"'),
    ]


@pytest.mark.parametrize('validator', [None, ('ETag', 'W/"one"')])
def test_without_a_strong_mark_it_begins_anew(archive, validator):
    archive.cuts, archive.validator = [1000], validator
    assert got(archive) == BODY
    assert archive.asked == [(None, None), (None, None)]


def test_a_date_is_mark_enough(archive):
    archive.cuts, archive.validator = [1000], ('Last-Modified', 'Sun, 01 Nov 2026 00:00:00 GMT')
    assert got(archive) == BODY
    assert archive.asked[1] == ('bytes=1000-', archive.validator[1])


def test_who_cannot_give_parts_is_asked_for_all(archive):
    archive.cuts, archive.ranges = [1000], False
    assert got(archive) == BODY


def test_a_file_that_changed_meanwhile_is_taken_whole(archive, tmp_path):
    part, mark = tmp_path / 'a.part', tmp_path / 'a.etag'
    part.write_bytes(BODY[:5000])
    mark.write_text('"one"')
    archive.body, archive.validator = BODY[::-1], ('ETag', '"two"')
    with part.open('r+b') as f:
        download(archive.url, f, Reach(), mark)
    assert part.read_bytes() == BODY[::-1]
    assert mark.read_text() == '"two"'


def test_a_killed_download_goes_on(archive, tmp_path):
    part, mark = tmp_path / 'a.part', tmp_path / 'a.etag'
    archive.cuts = [1000, 10, 10, 10]
    with pytest.raises(StoreUnreachable, match='4 times'), part.open('w+b') as f:
        download(archive.url, f, Reach(), mark)
    assert part.stat().st_size == 1030
    with part.open('r+b') as f:
        download(archive.url, f, Reach(), mark)
    assert part.read_bytes() == BODY
    assert archive.asked[-1] == ('bytes=1030-', '"one"')


def test_a_kill_after_the_last_byte_costs_nothing(archive, tmp_path):
    part, mark = tmp_path / 'a.part', tmp_path / 'a.etag'
    part.write_bytes(BODY)
    mark.write_text('"one"')
    with part.open('r+b') as f:
        download(archive.url, f, Reach(), mark)
    assert part.read_bytes() == BODY
    assert archive.asked == [(f'bytes={len(BODY)}-', '"one"')]


def test_more_than_there_is_begins_anew(archive, tmp_path):
    part, mark = tmp_path / 'a.part', tmp_path / 'a.etag'
    part.write_bytes(BODY + b'more')
    mark.write_text('"one"')
    with part.open('r+b') as f:
        download(archive.url, f, Reach(), mark)
    assert part.read_bytes() == BODY


def test_bytes_without_a_mark_are_not_trusted(archive, tmp_path):
    part = tmp_path / 'a.part'
    part.write_bytes(b'of somebody else')
    with part.open('r+b') as f:
        download(archive.url, f, Reach(), tmp_path / 'a.etag')
    assert part.read_bytes() == BODY
