"""Each night as a Prefect 3 flow, with retries: `python recipes/prefect_nightly.py` serves it on its schedule"""

import json
import subprocess

from prefect import flow, task


@task(retries=2, retry_delay_seconds=60)
def run(*words):
    "A command of `astrid-data`; its answer, also where it is bad (4)"
    done = subprocess.run(['astrid-data', *words, '--json'], capture_output=True, text=True)
    if done.returncode not in (0, 4):
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


@flow(name='nightly model')
def nightly(dataset: str = 'first-look'):
    "Retrain where labels ask for it, then watch"
    night = run('retrain', dataset)
    seen = run('watch', dataset)
    return dict(outcome=night['outcome'], alerts=seen['alerts'])


if __name__ == '__main__':
    nightly.serve(name='nightly', cron='17 3 * * *')
