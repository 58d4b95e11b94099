"Spellings of secrets that others use, and prose in which nothing is one"

import json
from base64 import b64encode
from pathlib import Path

import pytest

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
]


@pytest.mark.parametrize('text', OTHER_TEXT)
def test_what_only_looks_like_a_secret_stays(text):
    assert hide_secrets(text) == text


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


@pytest.mark.parametrize('unit', [*UNITS, '-----BEGIN PRIVATE KEY-----', '-u ', 'login ', 'Basic '])
def test_no_pattern_looks_back_over_a_long_text(unit):
    text = unit * (200_000 // len(unit))  # Looked back over, it would take minutes
    assert len(hide_secrets(text)) <= len(text)
