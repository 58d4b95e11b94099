"What no client library sends: header bombs, odd lengths, two requests in one. By socket, to the real server in a process of its own"

import re
import socket
import time

import pytest
from test_server_hard import LIST, Other, home, server  # noqa: F401 (fixtures)


def head(home, *lines, method='POST', path='/events'):  # noqa: F811
    "The head of a request with a good key, and more lines"
    key = f'X-API-Key: {home.maker}'.encode()
    first = f'{method} {path} HTTP/1.1\r\nHost: x\r\n'.encode()
    return first + b'\r\n'.join([key, *lines]) + b'\r\n\r\n'


def all_of(server, data, patience_s=40, cut=False):  # noqa: F811
    "What comes back until the server ends the connection; `data` may be parts, sent with pauses"
    came = b''
    with server.connect(timeout=patience_s) as client:
        try:
            for part in [data] if isinstance(data, bytes) else data:
                client.sendall(part)
            if cut:
                client.shutdown(socket.SHUT_WR)
        except OSError:  # It has heard enough
            pass
        try:
            while part := client.recv(65536):
                came += part
        except ConnectionError:
            pass
    return came


def statuses(came):
    return [int(one) for one in re.findall(rb'HTTP/1\.1 (\d{3}) ', came)]


SMUGGLED = b'GET /surveys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
JSON = b'Content-Type: application/json'
CHUNKED = b'Transfer-Encoding: chunked'


def slow_lines():
    "A header that never ends"
    yield b'POST /events HTTP/1.1\r\n'
    for k in range(80):
        time.sleep(0.1)
        yield b'X-%d: y\r\n' % k


#: Lines of the head, and the body; what is None in place of lines is sent as it is
BOMBS = {
    'forty thousand headers': (None, b'GET /surveys HTTP/1.1\r\n' + b'a:b\r\n' * 40_000 + b'\r\n'),
    'ten thousand headers': ([b'X-%d: y' % k for k in range(10_000)], b''),
    'a header of a megabyte': ([b'X-A: ' + b'y' * 2**20], b''),
    'a name of a megabyte': ([b'X' * 2**20 + b': y'], b''),
    'a path of a megabyte': (None, b'GET /' + b'a' * 2**20 + b' HTTP/1.1\r\nHost: x\r\n\r\n'),
    'a method of a megabyte': (None, b'G' * 2**20 + b' / HTTP/1.1\r\nHost: x\r\n\r\n'),
    'a cookie of a megabyte': ([b'Cookie: ' + b'a=b; ' * 200_000], b''),
    'four megabytes without a line': (None, b'\x16\x03\x01' * 2**20),
    'a chunk extension of a megabyte': ([JSON, CHUNKED], b'5;' + b'a' * 2**20 + b'\r\n12345\r\n0\r\n\r\n'),
    'a trailer of a megabyte': ([JSON, CHUNKED], b'0\r\nX: ' + b'a' * 2**20 + b'\r\n\r\n'),
}  # fmt: skip
ODD = {
    **{f'chunk size {size!r}': ([JSON, CHUNKED], size + b'\r\n12345\r\n0\r\n\r\n' + SMUGGLED)
       for size in (b'zz', b'-1', b'+5', b'0x5', b'f' * 40, b'', b' 5', b'5.0', b'5\x00', b'\xd9\xa5')},
    'a chunk longer than said': ([JSON, CHUNKED], b'2\r\n12345\r\n0\r\n\r\n' + SMUGGLED),
    'no line after a chunk': ([JSON, CHUNKED], b'5\r\n123450\r\n\r\n' + SMUGGLED),
    **{f'length {length!r}': ([JSON, b'Content-Length: ' + length], b'12345' + SMUGGLED)
       for length in (b'-1', b'+5', b'0x5', b'5.0', b'5 5', b'5, 6', b'9' * 5000, b'\xd9\xa5', b'5\x00', b'abc')},
    'two lengths': ([JSON, b'Content-Length: 5', b'Content-Length: 6'], b'12345' + SMUGGLED),
    'two lengths, one zero': ([JSON, b'Content-Length: 0', b'Content-Length: 60'], SMUGGLED),
    'a length and parts': ([JSON, b'Content-Length: 5', CHUNKED], b'0\r\n\r\n' + SMUGGLED),
    'parts and a length': ([JSON, CHUNKED, b'Content-Length: 70'], b'0\r\n\r\n' + SMUGGLED),
    'parts twice': ([JSON, CHUNKED, CHUNKED], b'0\r\n\r\n' + SMUGGLED),
    'parts, then as it is': ([JSON, b'Transfer-Encoding: chunked, identity'], b'0\r\n\r\n' + SMUGGLED),
    'parts of another kind': ([JSON, b'Transfer-Encoding: xchunked'], b'0\r\n\r\n' + SMUGGLED),
    'parts with a NUL': ([JSON, b'Transfer-Encoding: chunked\x00'], b'0\r\n\r\n' + SMUGGLED),
    'a blank before the colon': ([JSON, b'Transfer-Encoding : chunked', b'Content-Length: 5'], b'0\r\n\r\n' + SMUGGLED),
    'a NUL in a value': ([b'X-A: a\x00b'], SMUGGLED),
    'a NUL in a name': ([b'X-\x00A: b'], SMUGGLED),
    'a lone CR in a value': ([b'X-A: a\rContent-Length: 60'], SMUGGLED),
    'no colon': ([b'X-A'], SMUGGLED),
    'no name': ([b': a'], SMUGGLED),
    'two hosts': ([b'Host: y'], SMUGGLED),
    'no host': (None, b'GET /surveys HTTP/1.1\r\n\r\n' + SMUGGLED),
    'the version of 1991': (None, b'GET /surveys\r\n\r\n' + SMUGGLED),
    'a NUL in the path': (None, b'GET /surv\x00eys HTTP/1.1\r\nHost: x\r\n\r\n' + SMUGGLED),
    'a tunnel': (None, b'CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n'),
}  # fmt: skip


def sent(home, lines, body):  # noqa: F811
    return body if lines is None else head(home, *lines) + body


def test_a_header_bomb_is_refused_and_others_are_served(server, home):  # noqa: F811
    "Answers, memory and another client meanwhile, over all of them, three times"
    all_of(server, sent(home, *BOMBS['a header of a megabyte']))
    before, slowest = server.memory(), 0.0
    with Other(server, home.reader) as other:
        for _ in range(3):
            for name, (lines, body) in BOMBS.items():
                start = time.perf_counter()
                came = statuses(all_of(server, sent(home, lines, body)))
                slowest = max(slowest, time.perf_counter() - start)
                assert all(400 <= status < 500 for status in came) and len(came) <= 1, (name, came)
    grown = (server.memory('VmHWM') - before) / 2**20
    print(f'\n{3 * len(BOMBS)} bombs, slowest {slowest:.2f} s, memory +{grown:.1f} MiB at most')
    assert grown < 30 and other.statuses == {200}


def test_a_header_without_end_is_let_go(server, home):  # noqa: F811
    start = time.perf_counter()
    assert statuses(all_of(server, slow_lines())) in ([], [408])
    assert time.perf_counter() - start < 15  # It would go on for 8 s, and then wait for ever
    assert server.get(LIST, home.reader)[0] == 200


@pytest.mark.parametrize('name', ODD)
def test_what_can_be_read_in_two_ways_is_answered_once_and_ends(server, home, name):  # noqa: F811
    "Nothing that stands behind it is taken for a request: a proxy in front might count otherwise"
    came = all_of(server, sent(home, *ODD[name]))
    found = statuses(came)
    assert len(found) <= 1 and b'"name"' not in came, came
    assert all(400 <= one < 500 or one in (501, 505) for one in found), came


@pytest.mark.parametrize(
    'said',
    [
        b'GET /surveys HTTP/9.9\r\nHost: x\r\nConnection: close\r\n\r\n',
        b'PRI * HTTP/2.0\r\nConnection: close\r\n\r\nSM\r\n\r\n',
        b'POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{',
        b'GET /surveys HTTP/1.1\r\nHost: x',
    ],
)
def test_other_protocols_and_what_breaks_off_end_in_words_or_silence(server, home, said):  # noqa: F811
    found = statuses(all_of(server, said, cut=True))
    assert len(found) <= 1 and all(400 <= one < 500 or one == 505 for one in found)
    assert server.get(LIST, home.reader)[0] == 200


@pytest.mark.parametrize(
    'lines, body, status',
    [
        ([JSON, b'Content-Length: 2'], b'{}', 422),
        ([JSON, b'Content-Length: 2', b'Content-Length: 2'], b'{}', 422),  # The same twice
        ([JSON, CHUNKED], b'2\r\n{}\r\n0\r\n\r\n', 422),
        ([JSON, CHUNKED], b'2;a=b\r\n{}\r\n0\r\nX-After: y\r\n\r\n', 422),
        ([b'X-A: a\r\n b', JSON, b'Content-Length: 2'], b'{}', 422),  # Folded as once was allowed
    ],
)
def test_what_can_be_read_in_one_way_is_read(server, home, lines, body, status):  # noqa: F811
    came = all_of(server, sent(home, [*lines, b'Connection: close'], body) + SMUGGLED)
    assert statuses(came) == [status], came
