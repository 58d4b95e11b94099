"Spellings of secrets that others use, and prose in which nothing is one"

import itertools
import json
import resource
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from astropy.io import fits
from dying import run_forked

import astrid_data as ad
from astrid_data.redaction import hide_secrets

WORD = 's3cr3tABCdef0123456789xyzGHIJ'
BASIC = b64encode(f'ann:{WORD}'.encode()).decode()
LINE = f'{WORD}Ab0/Ab0/Ab0/'
PEM = f'-----BEGIN RSA PRIVATE KEY-----\n{LINE}\n{LINE}\n-----END RSA PRIVATE KEY-----\nafter'


def quoted(value, times):
    "A value as JSON, and that text as JSON again"
    for _ in range(times):
        value = json.dumps(value)
    return value


SPELLINGS = [
    f"('Authorization', 'Token {WORD}')",
    f"[('accept', '*/*'), (b'authorization', b'Bearer {WORD}')]",
    f'["X-Api-Key", "{WORD}"]',
    f'it sent Basic {BASIC}',
    f'https://hooks.slack.com/services/T00/B00/{WORD}',
    f'https://discord.com/api/webhooks/123456789012345678/{WORD}',
    f'https://x.webhook.office.com/webhookb2/a-b@c/IncomingWebhook/{WORD}/d',
    f'https://api.telegram.org/bot123456789:AA{WORD}/sendMessage',
    f'the token 123456789:AA{WORD} of a bot',
    PEM,
    PEM[:80],  # Cut off
    PEM.replace('\n', '\nProc-Type: 4,ENCRYPTED\n\n', 1)[:110],
    quoted(dict(private_key=PEM), 1),
    quoted(dict(private_key=PEM), 2),
    f'eyJhbGciOi.eyJ{WORD}.{WORD}',
    f'ghp_{WORD}0',
    f'github_pat_11AA_{WORD}',
    'AKIAS3CR3TABCDEFGHIJ',
    f'sk-proj-{WORD}',
    f'sk_live_{WORD}',
    f'xoxb-123-456-{WORD}',
    f'hf_{WORD}',
    f'glpat-{WORD}',
    f'https://b/x?X-Amz-Credential={WORD}%2F2026&X=1',
    f'https://a.blob/x?sv=1&sig={WORD}%3D&se=2',
    f'PGPASSWORD={WORD} psql',
    f'postgresql://ann:{WORD}%40%2F@h/d',
    quoted(dict(password=f'a"b {WORD}'), 1),
    quoted(dict(password=f'a"b {WORD}'), 2),
    quoted(dict(password=f'a"b {WORD}'), 3),
    f"password = '''{WORD}'''",
    f'token%3D{WORD}',
    f'mc --password {WORD}',
    f'mc --api-key {WORD}',
    f'mc --db-password "a {WORD}"',
    f'curl -u ann:{WORD} http://x',
    f'Cookie: session=abc; csrf={WORD}; b=2',
    f"{{'Cookie': 'id={WORD}'}}",
    f'machine h\n  login ann\n  password {WORD}',
    f'localhost:5432:sky:ann:{WORD}',
    f"CREATE ROLE ann PASSWORD '{WORD}'",
    f"ALTER USER a IDENTIFIED BY '{WORD}'",
    f'<password>{WORD}</password>',
    f'Authorization: Digest username="ann", response="{WORD}"',
    f'smtp_pass={WORD}',
    f'EMAIL_HOST_PASS: {WORD}',
    quoted(dict(db_pass=WORD), 2),
    f'AwsSecretKey: {WORD}',
    f'mysql -u root -p{WORD} sky',
    f"mariadb-dump -h h -uroot -p'{WORD}' sky",
    f"Command '['mysql', '-uroot', '-p{WORD}']' returned 1",
    f'mysql --password {WORD} sky',
    f'sshpass -p {WORD} ssh host',
    f'docker login -u ann -p {WORD} registry',
    f'redis-cli -h h -a {WORD} ping',
    f'curl -uann:{WORD} http://x',
    f'mc --pass {WORD}',
    f'user = ann\npass = {WORD}',
    quoted(dict(user='ann', **{'pass': WORD}), 1),
    f'password: |\n  {WORD}\nhost: h',
    f'db:\n  api_key: >-  # folded\n    {WORD}\n\n    and {WORD}\n  host: h',
    f'- secret: |2+\n      {WORD}',
    f'password = """\n{WORD}\n"""',
    f'key: |\n  {PEM}',
    f'Private-Lines: 1\n{LINE}\nPrivate-MAC: 01',
    f'machine h password {WORD}',
    f'machine h login ann account {WORD} password {WORD}',
    f'*:*:*:ann:{WORD}',
    f'10.0.0.1:5432:sky:ann:a\\:{WORD}',
    f"headers={{'Authorization': 'Basic {BASIC}'}}",
    f'    raise HTTPError("Proxy-Authorization: Basic {BASIC}")',
    f"cookies={{'key': '{WORD}'}}",
    f'<Cookie key={WORD} for host/>',
    f"(b'cookie', b'key={WORD}; a=b')",
    f'Set-Cookie: astrid_key={WORD}; HttpOnly',
    f'https://chat.googleapis.com/v1/spaces/A/messages?key={WORD}&token={WORD}',
    f'https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={WORD}',
    f'https://maker.ifttt.com/trigger/x/with/key/{WORD}',
    f'https://oapi.dingtalk.com/robot/send?access_token={WORD}',
    f'https://storage.googleapis.com/b/o?X-Goog-Credential=a&X-Goog-Signature={WORD}',
    f'DefaultEndpointsProtocol=https;AccountName=a;AccountKey={WORD}==;EndpointSuffix=x',
    f'SharedAccessSignature=sv=2020&sig={WORD}',
    f'eyJhbGciOiJSU0EtT0FFUCJ9..{WORD}.{WORD}.{WORD}',
    f'pass={WORD}',
    f'host: h\npass: {WORD}',
    f"{{'pass': '{WORD}'}}",
    f'call(host, pass={WORD})',
    {'pass': WORD},
    f'https://ntfy.sh/{WORD}',
    f'https://ntfy.sh/the-{WORD[:6]}-dome',
    f'https://ntfy.example.org/{WORD[:6]}?priority=high',
    f'https://hc-ping.com/{WORD}',
    f'https://healthchecks.example.org/ping/{WORD[:6]}-0123-4567/start',
    f'https://events.pagerduty.com/integration/{WORD}/enqueue',
    f'https://events.pagerduty.com/v2/enqueue?routing_key={WORD}',
    f'integration_key: {WORD}',
    f'https://mattermost.example.org/hooks/{WORD.lower()}',
    f'https://uptime.betterstack.com/api/v1/heartbeat/{WORD}',
    f'https://nosnch.in/{WORD[:16]}',
    f'https://push.statuspage.io/{WORD}',
    f'https://other.example.org/p/{WORD[:17]}K7xYzGHIJkLm/job',
    f'aUtHoRiZaTiOn: {WORD}',
    f'AUTHORIZATION={WORD}',
    f'PROXY-AUTHORIZATION: Basic {BASIC}',
    f'X-Authorization: ApiKey {WORD}',
    f'https://{WORD}@sentry.io/42',
    f'https://{WORD}:@api.stripe.com/v1',
    f'https://{WORD}:x-oauth-basic@github.com/a/b',
    f'redis://:{WORD}@h:6379/0',
    [('accept', '*/*'), ('Authorization', f'Token {WORD}')],
    {'headers': [[b'authorization', f'Bearer {WORD}']]},
]


@pytest.mark.parametrize('text', SPELLINGS, ids=range(len(SPELLINGS)))
def test_a_secret_is_hidden_in_any_spelling(text):
    hidden = str(hide_secrets(text))
    assert 's3cr3t' not in hidden.lower() and BASIC[8:30] not in hidden and '***' in hidden


def test_what_stands_around_a_secret_stays():
    assert hide_secrets(PEM).endswith('-----END RSA PRIVATE KEY-----\nafter')
    assert hide_secrets(f'mc --token {WORD} -v a.fits') == 'mc --token *** -v a.fits'
    assert hide_secrets([('accept', '*/*')]) == [['accept', '*/*']]
    assert hide_secrets(['token', 'band', 'mag']) == ['token', 'band', 'mag']


OTHER_TEXT = [
    'basic statistics of basic auditing',
    'see https://docs.example.org/webhooks/about-the-events-of-webhooks',
    "columns: ['token', 'band', 'mag']",
    'small_model_of_2026 and jw02736001001_02101_00001_nrcb1_cal.fits',
    'a' * 64 + ' is sha256_' + '0123abcd' * 8,
    '10:20:30.5 -01:02:03; 2001:0db8:85a3:0000:0000:8a2e:0370:7334',
    'docker run -u 1000:1000 --auth none --session night',
    'page.py:862: in a function',
    "['token', 'password'] and ('api_key', 'signature')",
    'obs_2459000Aa1234567890bcdefGH',
    'sdss_J103027p052455Field0001Aa',
    'wfc3/ibfe07_20240101T123456Cal0001aB.fits',
    '20240101:a-long-file-name-with-many-words-in-it-0001',
    '2459000:A-Long-Name-of-an-Observation-in-r_0001',
    'ztf_20200924464120_000734_zg_c14_o_q1_sciimg.fits.fz',
    'ghz_survey_of_the_night_20260105_field_0001',
    'astrid_data_sky_v2_patches_of_the_night_2026_01_05_r.zarr',
    'sk-2026-01-05-tile-0001-of-the-sky.fits',
    'LSSTComCam-difference_image_20241203_00321_R22_S11.fits',
    'low_pass=0.3, band_pass=F606W, n_pass: 12, compass=N',
    'all gates pass: 12 of 13; the second pass = jw02736001001',
    'mysql -P3306 -p sky; curl -s https://example.org/a.fits',
    "run --pass 2 and 'pass: fewer than ten'",
    'key: |\n  of the colours\nother: >\n  a note',
    'https://mast.stsci.edu/api/v0.1/Download/file?uri=mast:JWST/product/jw02736001001_02101.fits',
    'https://example.org/view?key=jw02736001001_02101_00001_nrcb1_cal',
    'CRVAL1: 10.68470833:41.26875:2000:ICRS:FK5',
    'm13@v3 sha256 f90f91d6247af90f91d6247af90f91d6247af90f91d6247af90f91d6247af90f',
    'first-look@v1 · 2857 patches of 64×64 (image)',
    '2026-01-05T03:04:05.678901+00:00 obs 0a1b2c3d-1111-2222-3333-0123456789ab',
    'pass=12, pass=passed, pass: true, bypass=hunter2, the first pass = hunter2',
    'https://zenodo.org/records/1234567/files/AbCdEfGh0123IjKlMnOp4567.fits',
    'https://github.com/a/b/commit/0123456789abcdef0123456789abcdef01234567',
    'https://example.org/alerts/ZTF24aaabbbccc0001 and https://ping.example.org/about',
    'https://lasair.lsst.ac.uk/objects/170055002004914266/notes-of-the-night',
    'https://portal.nersc.gov/cfs/Legacy_Survey_DR10_SouthRegion/a.fits',
    'https://archive.stsci.edu/hlsps/phat/HLSP_PHAT_Brick01_Fields_v2x',
    's3://b/ZTF-DR20-ReferenceImages-Field512/a.fits and s3://b/PanSTARRS1StackSkyCells2100',
    "CTYPE1  = 'RA---TAN-SIP'  / the coordinate type for the first axis",
]


@pytest.mark.parametrize('text', OTHER_TEXT)
def test_what_only_looks_like_a_secret_stays(text):
    assert hide_secrets(text) == text


def cards_of(paths):
    "Cards of FITS files as they are printed, each once"
    cards = {"SOFTAUTH= '2010-2012 IAP/CNRS/UPMC' / Maintainer of the software"}
    for path in paths:
        with suppress(OSError), fits.open(path, ignore_missing_end=True) as hdus:
            for hdu in hdus:
                cards |= set(repr(hdu.header).split('\n'))
    return sorted(cards)


def changed_in(lines):
    "Lines in which a secret was seen, alone and as values of JSON"
    text = '\n'.join(lines)
    hidden = hide_secrets(text).split('\n')
    pairs = json.dumps(dict(line.split('=', 1) for line in lines if '=' in line))
    assert hide_secrets(pairs) == pairs or hidden != lines
    return [(one, other) for one, other in zip(lines, hidden, strict=True) if one != other]


@pytest.mark.filterwarnings('ignore')
def test_the_headers_of_the_sample_stay_as_they_are():
    lines = cards_of(sorted(Path(ad.__file__).parent.glob('sample/*.fits*')))
    assert len(lines) > 500 and changed_in(lines) == []


@pytest.mark.filterwarnings('ignore')
def test_the_headers_of_others_stay_as_they_are(shared_data):
    lines = cards_of(sorted(Path(shared_data).rglob('*.fits*'))[:25])
    assert len(lines) > 1000 and changed_in(lines) == []


def test_two_names_are_no_pair_but_a_name_and_a_password_are():
    assert hide_secrets(['token', 'password']) == ['token', 'password']
    for password in ('mypassword', 'Password', 'secret_hunter', 'password_4_sky', 'a token'):
        assert hide_secrets(['token', password]) == ['token', '***']
        assert hide_secrets(f"('token', '{password}')") == "('token', '***')"


def test_the_pages_can_be_read_but_where_they_speak_of_secrets():
    root = Path(__file__).parents[1]
    pages = [path for path in root.glob('nbs/**/*.ipynb') if path.name != '06_redaction.ipynb']
    if not pages:
        pytest.skip('the pages are not here')
    changed, lines = [], 0
    for path in pages:
        for cell in json.loads(path.read_text())['cells']:
            text = ''.join(cell['source']) if cell['cell_type'] == 'markdown' else ''
            lines += text.count('\n') + 1
            changed += [
                one
                for one, other in zip(text.split('\n'), hide_secrets(text).split('\n'), strict=True)
                if one != other
            ]
    assert lines > 2000 and len(changed) <= 4, changed


UNITS = (
    'eyJ eyJ- sk- sk_a_ aB3_ a_ --a- hook/ ://hook/ a1234: a:1234:b: \\ \\" SG. xoxb-1 a.'.split()
)


MORE_UNITS = [
    '-----BEGIN PRIVATE KEY-----',
    *(
        '-u ',
        'login ',
        'Basic ',
        'mysql ',
        'mysql -',
        "mysql '-p",
        'curl -u',
        'redis-cli ',
        'user=a ',
    ),
    *(
        'machine a ',
        'login a account b ',
        '*:*:',
        'a:1234:*:',
        '1.1.1.1:',
        'docker login ',
        '--pass ',
    ),
    *(
        '<Cookie ',
        '<cookie a',
        "cookies={'",
        'cookie: a',
        'password: |\n',
        'password: |\n  a\n',
        ' \n',
    ),
    *(
        'password = """',
        "token: '''a",
        'private-lines: 1\nabcd\n',
        '://chat.',
        '://hook?key=',
        'eyJabcdefgh..',
    ),
    *('smtp_', 'db_pass', 'a.b-', '- ', '\t', 'Private-Lines: 1\n'),
]


@pytest.mark.parametrize('unit', [*UNITS, *MORE_UNITS])
def test_no_pattern_looks_back_over_a_long_text(unit):
    text = unit * (100_000 // len(unit))  # Looked back over, it would take minutes
    assert len(hide_secrets(text)) <= 2 * len(text)


NAMES = (
    'token secret password passwd passphrase pwd signature sig auth authorization jwt hmac '
    'credentials api_key access-key session session_id secret_word tokens'
).split()
BEFORE = [
    '"{}":"',
    "'{}': '",
    '\\"{}\\": \\"',
    '{}=',
    "('{}', '",
    '["{}","',
    '{}=[',
    '{}>',
    '--{} ',
]
RUNS = ['\\', '\\\\"', '"', "'", ',', ', ', '[', '(', '{', ' ', '\n', '\t', '=', ':', '*', 'a', '-']
CPU_SECONDS = 40  # A run that is cut in every way takes more; all of them take two to seven


def hide_long_runs(texts):
    "Hide secrets in texts, with limited time of this process, whatever others do"
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    for text in texts:
        assert len(hide_secrets(text)) <= len(text) + 3, text[:20]


def test_a_long_run_of_backslashes_ends_under_every_name():
    "Cut in every way they would take longer than there is time"
    beginnings = [opening.format(name) for name in NAMES for opening in BEFORE[:3]]
    texts = [before + '\\' * 20_000 for before in beginnings]
    assert run_forked(hide_long_runs, texts) == 0


@pytest.mark.parametrize(('name', 'odd'), [('token', 0), ('sig', 1)])
def test_any_long_run_ends(name, odd):
    "Each run after each opening, under one name or the other"
    ways = list(itertools.product(RUNS, BEFORE))[odd::2]
    texts = [before.format(name) + run * (10_000 // len(run)) for run, before in ways]
    assert run_forked(hide_long_runs, texts) == 0


@pytest.mark.parametrize('unit', ['sig=[a, ', 'auth=(b ', "sig='a' ", 'session: {c ', 'sig=[x] '])
def test_what_is_nested_deeply_is_read_without_depth(unit):
    text = unit * 20_000
    assert len(hide_secrets(text)) <= len(text)
    assert WORD not in hide_secrets(f'{text} password={WORD}')
