"""Each night as an Airflow DAG, with retries: put this file into the folder of DAGs"""

import json
from datetime import datetime, timedelta

from airflow.sdk import dag, task

BAD_ANSWER = 4  # Of `watch`: a number is outside of its limits


def run(*words):
    "A command of `astrid-data`; its answer, also where it is bad"
    import subprocess

    done = subprocess.run(['astrid-data', *words, '--json'], capture_output=True, text=True)
    if done.returncode not in (0, BAD_ANSWER):
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


@task(retries=2, retry_delay=timedelta(minutes=1))
def retrain(dataset):
    "A new version and a new model, where labels ask for them"
    return run('retrain', dataset)['outcome']


@task(retries=2, retry_delay=timedelta(minutes=1))
def watch(dataset, outcome):
    "Numbers against limits, after the night's model"
    return dict(outcome=outcome, alerts=run('watch', dataset)['alerts'])


@dag(schedule='17 3 * * *', start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1)
def nightly_model(dataset: str = 'first-look'):
    "Retrain where labels ask for it, then watch"
    watch(dataset, retrain(dataset))


nightly_model()
