"""What an address may lead to: a server opens its own store, the public web and what it was allowed, and nobody is led
from https to a weaker scheme or to machines that are not public. Real servers with TLS answer."""

import http.server
import os
import pickle
import socket
import threading
from dataclasses import replace
from io import BytesIO

import pytest
from conftest import served
from servers import https_server
from test_storage import settings_of

import astrid_data as ad
from astrid_data.core import AstridError, BadInput, NotFound
from astrid_data.storage import web
from astrid_data.storage.addresses import NotAllowed, Reach, is_public, reach_of, read_reach
from astrid_data.storage.cache import DiskCache
from astrid_data.storage.folder import FolderStore
from astrid_data.storage.resolve import (
    open_store,
    remote_object,
    resolve_uri,
    server_store,
    uri_mark,
)
from astrid_data.storage.service import StoreDenied

# Machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'address',
    '127.0.0.1 127.8.9.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 192.0.2.1 224.0.0.1 '
    '255.255.255.255 240.0.0.1 ::1 :: ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 '
    '64:ff9b::127.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1:: 2002:a9fe:a9fe:: fe80::1 fe80::1%lo fec0::1 '
    'fd00::1 ff02::1 2001:db8::1 2001:0:1:1:1:1:80ff:fffe'.split(),
)
def test_an_address_that_is_not_public_is_known_in_every_spelling(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    'address',
    ['8.8.8.8', '130.167.1.1', '2606:2800:220:1::1', '::ffff:8.8.8.8', '64:ff9b::808:808'],
)
def test_a_public_address_is_public(address):
    assert is_public(address)


class Web:
    "A server with TLS; what it answers is set by path"

    def __init__(self):
        self.asked, self.answers = [], {}

    def handler(web):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.asked.append(self.path)
                to = web.answers.get(self.path.partition('?')[0])
                if to is not None:
                    self.send_response(to[0])
                    self.send_header('Location', to[1])
                    self.send_header('Content-Length', '0')
                    return self.end_headers()
                self.send_response(200)
                self.send_header('Content-Length', '6')
                self.end_headers()
                self.wfile.write(b'secret')

            def log_message(self, *args):
                pass

        return Handler


@pytest.fixture
def here(tmp_path_factory, monkeypatch):
    "A server on loopback that is vouched for"
    web = Web()
    with served(
        lambda: https_server(web.handler(), tmp_path_factory.mktemp('tls')), 'https'
    ) as found:
        web.url, certificate = found
        web.port = int(web.url.rpartition(':')[2])
        monkeypatch.setenv('SSL_CERT_FILE', str(certificate))
        monkeypatch.setattr('astrid_data.storage.service._pause', lambda s: None)
        for name in ('https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'):
            monkeypatch.delenv(name, raising=False)
        yield web


@pytest.fixture
def plain():
    "A server without TLS"
    web = Web()
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), web.handler())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web.url = f'http://127.0.0.1:{server.server_port}'
    yield web
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path):
    "A person's store with a cache beside it"
    store = FolderStore(tmp_path / 'store')
    store.cache = DiskCache(tmp_path / 'cache')
    return store


SPELLINGS = '127.0.0.1 localhost LOCALHOST 127.1 2130706433 0x7f000001 0177.0.0.1 [::ffff:127.0.0.1] [::ffff:7f00:1]'.split()


@pytest.mark.parametrize('host', SPELLINGS)
def test_a_server_is_not_led_to_itself(here, store, host):
    with pytest.raises(StoreDenied, match='not public'):
        resolve_uri(f'https://{host}:{here.port}/a.fits', server_store(store))
    with pytest.raises(NotAllowed):
        resolve_uri(f'https://{host}:{here.port}/a.fits', store, local=False)
    assert here.asked == [] and not list((store.cache.root).rglob('*fits*'))


@pytest.mark.parametrize(
    'allowed',
    ['https://127.0.0.1', 'https://127.0.0.0/8', 'https://127.0.0.1:{port}', 'https://localhost'],
)
def test_what_is_allowed_is_reached(here, store, allowed):
    host = 'localhost' if 'localhost' in allowed else '127.0.0.1'
    twin = server_store(store, [allowed.format(port=here.port)])
    assert resolve_uri(f'https://{host}:{here.port}/a.fits', twin).read_bytes() == b'secret'
    with pytest.raises(NotAllowed):
        resolve_uri(
            f'https://{host}:{here.port}/b.fits', server_store(store, ['https://127.0.0.1:1'])
        )


def test_a_person_may_name_a_private_machine(here, store):
    assert resolve_uri(f'{here.url}/a.fits', store).read_bytes() == b'secret'


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    'where',
    ['plain', 'file:///etc/passwd', 'ftp://127.0.0.1/a', 'data:,x', 'gopher://127.0.0.1', 'HTTP'],
)
def test_nobody_is_led_to_a_weaker_scheme(here, plain, store, status, where):
    to = {'plain': plain.url + '/a', 'HTTP': plain.url.upper() + '/a'}.get(where, where)
    here.answers['/a.fits'] = (status, to)
    with pytest.raises(StoreDenied):
        resolve_uri(f'{here.url}/a.fits', store)
    assert plain.asked == [] and here.asked == ['/a.fits']


def test_an_https_address_may_lead_on_to_another(here, store):
    for status, name in ((301, 'a'), (302, 'b'), (307, 'c')):
        here.answers[f'/{name}.fits'] = (status, f'{here.url}/there')
        assert resolve_uri(f'{here.url}/{name}.fits', store).read_bytes() == b'secret'
    here.answers['/relative.fits'] = (302, '/there')
    assert resolve_uri(f'{here.url}/relative.fits', store).read_bytes() == b'secret'
    here.answers['/round.fits'] = (302, '/round.fits')
    with pytest.raises(AstridError):
        resolve_uri(f'{here.url}/round.fits', store)


@pytest.mark.parametrize(
    'host',
    [
        '127.0.0.2',
        '2130706434',
        '[::1]',
        '[::ffff:127.0.0.2]',
        '169.254.169.254',
        '10.0.0.1',
        '0.0.0.0',
    ],
)
def test_nobody_is_led_on_to_a_private_machine(here, store, host):
    here.answers['/a.fits'] = (302, f'https://{host}:{here.port}/there')
    with pytest.raises(NotAllowed, match='not public'):
        resolve_uri(f'{here.url}/a.fits', store)  # Even who may name this one
    assert here.asked == ['/a.fits']


def test_a_name_is_looked_up_once(here, store, monkeypatch):
    "A name that is public when it is checked and private when it is connected to"
    asked, real = [], socket.getaddrinfo

    def changing(host, port, *args, **kwargs):
        if host != 'rebind.example':
            return real(host, port, *args, **kwargs)
        asked.append(host)
        address = '93.184.216.34' if len(asked) == 1 else '127.0.0.1'
        return real(address, port, *args, **kwargs)

    connected, connect = [], socket.socket.connect

    def note(self, place):
        connected.append(place[0])
        if not is_public(place[0]):
            return connect(self, place)
        raise OSError('no public network in a test')

    monkeypatch.setattr(socket, 'getaddrinfo', changing)
    monkeypatch.setattr(socket.socket, 'connect', note)
    with pytest.raises((AstridError, OSError)):
        web._Body(BytesIO()).more(f'https://rebind.example:{here.port}/a', Reach(anywhere=False))
    assert asked == ['rebind.example'] and connected == ['93.184.216.34']
    with pytest.raises(NotAllowed):  # The second time it is private
        web._Body(BytesIO()).more(f'https://rebind.example:{here.port}/a', Reach(anywhere=False))
    assert connected == ['93.184.216.34'] and here.asked == []


def test_of_many_addresses_only_the_public_ones_are_tried(monkeypatch):
    tried, real = [], socket.getaddrinfo

    def several(host, port, *args, **kwargs):
        return [
            found
            for one in ('127.0.0.1', '93.184.216.34', '10.0.0.1')
            for found in real(one, port, *args, **kwargs)
        ]

    def note(self, place):
        tried.append(place[0])
        raise OSError('no network')

    monkeypatch.setattr(socket, 'getaddrinfo', several)
    monkeypatch.setattr(socket.socket, 'connect', note)
    with pytest.raises(OSError, match='no network'):
        web._connect(Reach(anywhere=False), ('mixed.example', 443), 5)
    assert tried == ['93.184.216.34']


def test_a_proxy_does_not_hide_a_private_machine(here, store, plain, monkeypatch):
    monkeypatch.setenv('https_proxy', plain.url)
    for host in ('127.0.0.2', 'localhost', '2130706433'):
        with pytest.raises(NotAllowed):
            resolve_uri(f'https://{host}:{here.port}/a.fits', server_store(store))
    assert plain.asked == []


@pytest.mark.parametrize(
    'entry', ['sky', 'http://a', 'https://me@sky', 'https://', 'ftp://a', 's3://']
)
def test_what_cannot_be_allowed_is_said(entry):
    with pytest.raises(BadInput):
        read_reach([entry])


# Files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path):
    "A store with a file, and a secret beside it, to which many ways lead"
    store = FolderStore(tmp_path / 'store')
    store.put('in.txt', b'in')
    (tmp_path / 'secret.txt').write_bytes(b'secret')
    (tmp_path / 'store-secret').mkdir()
    (tmp_path / 'store-secret' / 'b.txt').write_bytes(b'secret')
    (store.root / 'link.txt').symlink_to(tmp_path / 'secret.txt')
    (store.root / 'inner.txt').symlink_to(store.root / 'in.txt')
    (store.root / 'out').symlink_to(tmp_path)
    os.mkfifo(store.root / 'pipe')
    return store


WAYS_OUT = """{top}/secret.txt
file://{top}/secret.txt
file:{top}/secret.txt
FILE://localhost{top}/secret.txt
file://{top}/store/%2e%2e/secret.txt
{top}/store/../secret.txt
{top}/store/link.txt
file://{top}/store/link.txt
{top}/store/out/secret.txt
{top}/store-secret/b.txt
{top}/./store/.././secret.txt
//{top}/secret.txt
/proc/self/root{top}/secret.txt
/etc/passwd
file:///etc/passwd
file:///etc/./passwd
/dev/stdin
link.txt
out/secret.txt
../secret.txt
secret.txt
~/x
./in.txt
{top}/store/pipe
package://../secret.txt""".split('\n')


@pytest.mark.parametrize('way', WAYS_OUT)
def test_no_way_leads_out_of_the_store(house, way, monkeypatch):
    top = house.root.parent
    monkeypatch.chdir(top)
    uri = way.format(top=top)
    for verb in (
        lambda: resolve_uri(uri, server_store(house)),
        lambda: resolve_uri(uri, house, local=False),
        lambda: uri_mark(uri, server_store(house)),
    ):
        with pytest.raises((BadInput, NotFound)):
            verb()


def test_what_lies_within_is_opened(house):
    top, twin = house.root.parent, server_store(house)
    for uri in (
        'in.txt',
        house.uri('in.txt'),
        f'{house.root}/in.txt',
        f'{house.root}/inner.txt',
        f'{top}/store/out/store/in.txt',
    ):
        assert resolve_uri(uri, twin).read_bytes() == b'in'
    assert (
        resolve_uri(f'{house.root}/inner.txt', twin).name == 'in.txt'
    )  # Not the link, which may change
    wide = server_store(house, [str(top / 'store-secret')])
    assert resolve_uri(f'{top}/store-secret/b.txt', wide).read_bytes() == b'secret'
    with pytest.raises(NotAllowed):
        resolve_uri(f'{top}/secret.txt', wide)


def test_what_is_allowed_goes_to_other_processes(house):
    twin = pickle.loads(pickle.dumps(server_store(house, ['/sky'])))
    assert reach_of(twin) == reach_of(server_store(house, ['/sky']))
    with pytest.raises(NotAllowed):
        resolve_uri('/etc/passwd', twin)


def test_other_buckets_are_closed_to_a_server(s3, tmp_path):
    settings = settings_of(s3)
    store = open_store('s3://test/inside', settings, tmp_path)
    client = s3.client()
    if 'other' not in {b['Name'] for b in client.list_buckets()['Buckets']}:
        client.create_bucket(Bucket='other')
    client.put_object(Bucket='other', Key='a/x.fits', Body=b'secret')
    client.put_object(Bucket='test', Key='inside/observations/x.fits', Body=b'own')
    twin = pickle.loads(pickle.dumps(server_store(store)))
    assert resolve_uri('s3://test/inside/observations/x.fits', twin).read_bytes() == b'own'
    assert resolve_uri('s3://other/a/x.fits', store).read_bytes() == b'secret'
    for verb in (resolve_uri, remote_object, uri_mark):
        with pytest.raises(NotAllowed, match='outside of the store'):
            verb('s3://other/a/x.fits', twin)
        verb('s3://other/a/x.fits', server_store(store, ['s3://other/a']))
        with pytest.raises(NotAllowed):
            verb('s3://other/a/x.fits', server_store(store, ['s3://other/b', 's3://other/a/x']))


def test_a_server_stays_under_the_prefix_of_its_store(s3, tmp_path):
    store = open_store('s3://test/inside', settings_of(s3), tmp_path)
    client = s3.client()
    for key in ('beside/x.fits', 'inside2/x.fits', 'x.fits'):
        client.put_object(Bucket='test', Key=key, Body=b'secret')
    client.put_object(Bucket='test', Key='inside/x.fits', Body=b'own')
    store.client.put_object(Bucket='test', Key='beside-file', Body=b'alone')
    twin = pickle.loads(pickle.dumps(server_store(store)))
    assert resolve_uri('x.fits', twin).read_bytes() == b'own'
    assert resolve_uri('s3://test/inside/x.fits', twin).read_bytes() == b'own'
    assert resolve_uri('s3://test/beside/x.fits', store).read_bytes() == b'secret'  # A person's
    ways = ['beside/x.fits', 'inside2/x.fits', 'x.fits', 'inside/../beside/x.fits']
    for way in ways:
        for verb in (resolve_uri, remote_object, uri_mark):
            with pytest.raises(BadInput):
                verb(f's3://test/{way}', twin)
    for way in ('../beside/x.fits', '/test/beside/x.fits', 'inside/x.fits'):
        with pytest.raises((BadInput, NotFound)):
            resolve_uri(way, twin)
    with pytest.raises(NotAllowed, match='ASTRID_ALLOWED=s3://test/beside$'):
        resolve_uri('s3://test/beside/x.fits', twin)
    for verb in (resolve_uri, remote_object, uri_mark):  # Not an object of the store
        with pytest.raises(NotAllowed):
            verb('s3://test/inside', twin)
    alone = server_store(store, ['s3://test/beside-file'])  # Allowed by its own name
    assert resolve_uri('s3://test/beside-file', alone).read_bytes() == b'alone'
    wide = server_store(store, ['s3://test/beside'])
    assert resolve_uri('s3://test/beside/x.fits', wide).read_bytes() == b'secret'


def test_the_bucket_of_the_deployment_is_open_beside_a_store_elsewhere(s3, tmp_path):
    settings = replace(settings_of(s3), s3_bucket='test')
    s3.client().put_object(Bucket='test', Key='observations/x.fits', Body=b'own')
    twin = server_store(open_store('s3://elsewhere/ours', settings, tmp_path))
    assert resolve_uri('s3://test/observations/x.fits', twin).read_bytes() == b'own'
    with pytest.raises(NotAllowed):
        resolve_uri('s3://elsewhere/x.fits', twin)


def test_settings_allow_for_all(tmp_path):
    settings = ad.core.load_settings(
        dict(ASTRID_ALLOWED='/sky , s3://b/c,https://archive.lab\n'), None
    )
    store = open_store(str(tmp_path), settings)
    assert reach_of(store).anywhere and not reach_of(server_store(store)).anywhere
    reach = reach_of(server_store(store, ['/more']))
    assert (
        reach.allows_file('/sky/a')
        and reach.allows_file('/more/a')
        and reach.allows_object('b', 'c/d')
    )
    assert reach.allows_machine('archive.lab', 443, '10.0.0.1') and not reach.allows_file(
        '/etc/passwd'
    )
