"What machines on the web answer when they are broken, away, or mean us no good: one of our errors, at once."

import http.server
import itertools
from io import BytesIO

import pytest
from servers import NoServer, https_server

from astrid_data.core import AstridError, BadImage, NotFound
from astrid_data.storage import web
from astrid_data.storage.addresses import Reach
from astrid_data.storage.service import StoreDenied, StoreUnreachable
from astrid_data.storage.web import download

BODY = bytes(range(256)) * 100


def said(status, *headers, body=b''):
    "An answer as bytes"
    return '\r\n'.join([f'HTTP/1.1 {status}', *headers, '', '']).encode('latin-1') + body


class Says(http.server.BaseHTTPRequestHandler):
    "Sends the bytes it was told, piece by piece, and closes"

    asked, pieces = [], ()

    def do_GET(self):
        self.asked.append(self.path)
        try:
            for piece in type(self).pieces:
                self.wfile.write(piece)
        except OSError:
            pass  # Nobody listens any more
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def machine(tmp_path, monkeypatch):
    "A machine of our own whose answer is set by the test"
    handler = type('Here', (Says,), dict(asked=[]))
    monkeypatch.setattr('astrid_data.storage.service._pause', lambda seconds: None)
    (tmp_path / 'tls').mkdir()
    try:
        with https_server(handler, tmp_path / 'tls') as (url, certificate):
            monkeypatch.setenv('SSL_CERT_FILE', str(certificate))
            handler.url = f'{url}/a.fits'
            yield handler
    except NoServer as why:
        pytest.skip(str(why))


def got(machine, *pieces, **how):
    machine.pieces = pieces
    f = BytesIO()
    download(machine.url, f, Reach(), **how)
    return f.getvalue()


STATUSES = {
    '404 Not Found': NotFound,
    '410 Gone': NotFound,
    '401 Unauthorized': StoreDenied,
    '403 Forbidden': StoreDenied,
    '304 Not Modified': StoreDenied,
    '416 Range Not Satisfiable': StoreUnreachable,
    '429 Too Many Requests': StoreUnreachable,
    '500 Internal Server Error': StoreUnreachable,
    '502 Bad Gateway': StoreUnreachable,
    '503 Service Unavailable': StoreUnreachable,
    '206 Partial Content': StoreUnreachable,  # Of what, it does not say
}


@pytest.mark.parametrize('status', STATUSES, ids=lambda status: status[:3])
def test_each_status_is_one_of_our_errors(machine, status):
    with pytest.raises(STATUSES[status]):
        got(machine, said(status, 'Content-Length: 4', body=b'nope'))
    passing = STATUSES[status] is StoreUnreachable
    assert len(machine.asked) == (4 if passing else 1)


BROKEN = {
    'a line of a megabyte': said('200 OK', 'X: ' + 'a' * 10**6),
    'ten thousand lines': said('200 OK', *['X: a'] * 10_000),
    'no number of bytes': said('200 OK', 'Content-Length: many', body=BODY),
    'fewer than none': said('200 OK', 'Content-Length: -1', body=BODY),
    'a length beyond numbers': said('200 OK', 'Content-Length: ' + '9' * 5000, body=BODY),
    'letters in another script': said('200 OK', 'Content-Length: \xb2', body=BODY),
    'no status': b'hello\r\n\r\n',
    'nothing': b'',
    'a status of another kind': said('9999 OK', body=BODY),
    'bytes': bytes(range(256)) * 10,
    'chunks of no size': said('200 OK', 'Transfer-Encoding: chunked', body=b'zz\r\n' + BODY),
    'a chunk of more than there is': said(
        '200 OK', 'Transfer-Encoding: chunked', body=b'7fffffffffff\r\n' + BODY
    ),
    'a cut chunk': said('200 OK', 'Transfer-Encoding: chunked', body=b'100\r\n' + BODY[:99]),
    'another part': said(
        '206 X', 'Content-Range: bytes 5-9/10', 'Content-Length: 5', body=b'12345'
    ),
    'goes in a circle': said('302 Found', 'Location: /a.fits'),
    'leads to no port': said('302 Found', 'Location: https://a.org:port/'),
    'leads to a port beyond all': said('302 Found', 'Location: https://localhost:99999999/'),
    'leads to an endless name': said('302 Found', f'Location: https://{"a" * 70}.org/'),
    'leads to no name': said('302 Found', 'Location: https:///a.fits'),
    'leads to half an address': said('302 Found', 'Location: https://[::1/'),
    'leads to a file': said('302 Found', 'Location: file:///etc/hostname'),
    'leads to weaker ground': said('302 Found', 'Location: http://127.0.0.1/'),
    'leads to other letters': said('302 Found', 'Location: https://localhost/\xff\xfe'),
    'leads to a secret': said('302 Found', 'Location: https://user:word-of-us@localhost/'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_answer_is_one_of_our_errors(machine, kind):
    with pytest.raises(AstridError) as caught:
        got(machine, BROKEN[kind])
    assert 'word-of-us' not in str(caught.value)
    assert len(machine.asked) < 50


def endless():
    "A body in chunks that has no end"
    yield said('200 OK', 'Transfer-Encoding: chunked')
    yield from itertools.repeat(b'10000\r\n' + bytes(65536) + b'\r\n')


def test_a_body_without_end_ends_at_the_limit(machine, monkeypatch, tmp_path):
    monkeypatch.setenv('ASTRID_MAX_FETCHED_BYTES', '3 MB')
    mark, part = tmp_path / 'etag', tmp_path / 'part'
    machine.pieces = endless()
    with part.open('w+b') as f, pytest.raises(BadImage, match='ASTRID_MAX_FETCHED_BYTES') as caught:
        download(machine.url, f, Reach(), mark)
    assert caught.value.reason == 'too_large'
    assert part.stat().st_size == 0 and len(machine.asked) == 1


@pytest.mark.parametrize('most, taken', [(len(BODY), True), (len(BODY) - 1, False)])
@pytest.mark.parametrize('told', [True, False])
def test_the_limit_is_of_the_whole_file(machine, most, taken, told):
    length = [f'Content-Length: {len(BODY)}'] if told else ['Transfer-Encoding: chunked']
    body = BODY if told else b'%x\r\n' % len(BODY) + BODY + b'\r\n0\r\n\r\n'
    pieces = said('200 OK', *length), body
    if taken:
        assert got(machine, *pieces, most_bytes=most) == BODY
    else:
        with pytest.raises(BadImage, match=f'{most:,} bytes'):
            got(machine, *pieces, most_bytes=most)


@pytest.mark.parametrize(
    'noted', [b'\xff\xfe', b'"a"\r\nHost: other', b'"a"\n', b'\0', b'x' * 10**5]
)
def test_what_was_noted_of_a_download_may_be_anything(machine, tmp_path, noted):
    mark, part = tmp_path / 'etag', tmp_path / 'part'
    mark.write_bytes(noted)
    part.write_bytes(b'half of another file')
    machine.pieces = [said('200 OK', f'Content-Length: {len(BODY)}', body=BODY)]
    with part.open('r+b') as f:
        download(machine.url, f, Reach(), mark)
    assert part.read_bytes() == BODY


def hops(*places):
    "Answers that lead from one place to the next"
    return {f'/{n}': said('302 Found', f'Location: {place}') for n, place in enumerate(places)}


PRIVATE = [
    'https://127.0.0.1/',
    'https://[::1]/',
    'https://[::ffff:127.0.0.1]/',
    'https://2130706433/',
    'https://0x7f.1/',
    'https://0177.0.0.1/',
    'https://user@127.0.0.1/',
    'https://169.254.169.254/latest/meta-data/',
    'https://0/',
]


@pytest.mark.parametrize('private', PRIVATE)
def test_several_hops_do_not_lead_to_a_private_machine(machine, monkeypatch, private):
    way = hops('/1', '/2', '/3', private)
    pieces = property(lambda self: [way[self.path]])
    monkeypatch.setattr(
        machine,
        'do_GET',
        lambda self: (self.asked.append(self.path), self.wfile.write(way[self.path])),
    )
    del pieces
    host, port = machine.url.split('/')[2].split(':')
    reach = Reach(anywhere=False, machines=((host, int(port)),))
    with pytest.raises(AstridError) as caught:
        download(machine.url.replace('/a.fits', '/0'), BytesIO(), reach)
    assert isinstance(caught.value, (StoreDenied, StoreUnreachable))
    assert machine.asked == ['/0', '/1', '/2', '/3'] * (len(machine.asked) // 4)


def test_a_name_that_becomes_private_is_refused(monkeypatch):
    "DNS says one thing to who asks first and another to who connects"
    places = {'public.example': ['93.184.216.34', '127.0.0.1'], 'private.example': ['10.0.0.1']}

    def look_up(host, port):
        return [(2, 1, 6, '', (address, port)) for address in places[host][-1:]]

    monkeypatch.setattr(web, '_places_of', look_up)
    for host in places:
        with pytest.raises(StoreDenied, match='is not public'):
            download(f'https://{host}/a.fits', BytesIO(), Reach(anywhere=False))
