"""The widgets in a real JupyterLab, in a real browser: drawn, clicked, answered.

    python tools/widget_check.py [--shots DIR] [--dark] [--chromium /usr/bin/chromium] [--timeout 120]

Needs the extra `browser` (playwright), JupyterLab and a Chromium. Exit 0 when every step went well, 1 with the reason otherwise.
Works in a temporary folder; nothing of the tree or of the user's Jupyter is touched.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat

CELLS = [
    """import astrid_data as ad
archive = ad.open_archive('home')
archive.add_fits('package://sample/47tuc_acs_hrc_f606w.fits.gz', show=False)
dataset = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=200)).build('look', patch_size=48, progress=False)
archive.add_fits('package://sample/m13_skyview.fits.gz', show=False)""",
    "ad.browse(dataset, page_size=16, labeller='ana')",
    'ad.show_coverage(archive)',
    """monitor = ad.EnergyMonitor(interval_s=0.3).start()
ad.show_run(monitor, every_s=1)""",
    "ad.browse(dataset, rows=ad.label_queue(dataset, 'ben', n=8)['row'], page_size=8, labeller='ben', blind=True)",
    'dataset.quality',
    """later = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=260)).build('look', patch_size=48, progress=False, probe=False)
ad.widgets.show_diff(dataset, later)""",
    'ad.widgets.show_plan(archive)',
]
TURN_AND_PRESS = """box => {
    const tile = box.querySelector('.astrid-data-tile');
    const button = [...box.querySelectorAll('button')].find(b => b.textContent.startsWith('next'));
    const real = [...tile.querySelectorAll('button')].find(b => b.textContent.trim() == 'real');
    const row = tile.querySelector('[data-row]').dataset.row;
    button.click(); real.click();
    return row;
}"""
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def put(path, what):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what))


def start_lab(work, timeout, dark=False):
    "JupyterLab on `work/nbs`, with settings of its own; the process and its address"
    port, token = free_port(), 'local-check'
    put(
        work / 'cfg/labconfig/page_config.json',
        {'disabledExtensions': {'@jupyterlab/apputils-extension:announcements': True}},
    )
    put(
        work / 'set/@jupyterlab/notebook-extension/tracker.jupyterlab-settings',
        {'windowingMode': 'none'},
    )  # Every cell is in the page
    theme = 'JupyterLab Dark' if dark else 'JupyterLab Light'
    put(
        work / 'set/@jupyterlab/apputils-extension/themes.jupyterlab-settings',
        {'theme': theme},
    )
    folders = dict(
        JUPYTER_CONFIG_DIR='cfg',
        JUPYTER_DATA_DIR='data',
        JUPYTER_RUNTIME_DIR='run',
        JUPYTERLAB_SETTINGS_DIR='set',
        JUPYTERLAB_WORKSPACES_DIR='ws',
    )
    env = {**os.environ, **{k: str(work / v) for k, v in folders.items()}, 'ASTRID_DATA_QUIET': '1'}
    cmd = [
        Path(sys.executable).with_name('jupyter-lab'),
        '--no-browser',
        '--allow-root',
        '--ServerApp.ip=127.0.0.1',
        f'--port={port}',
        '--ServerApp.port_retries=0',
        f'--IdentityProvider.token={token}',
        f'--ServerApp.root_dir={work / "nbs"}',
        '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
        '--ServerApp.terminals_enabled=False',
        '--LabApp.expose_app_in_browser=True',
    ]
    proc = subprocess.Popen(
        list(map(str, cmd)),
        env=env,
        cwd=work,
        stdout=(work / 'server.log').open('w'),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    end = time.time() + timeout
    while time.time() < end and proc.poll() is None:
        try:
            urllib.request.urlopen(f'http://127.0.0.1:{port}/api?token={token}', timeout=2)
            return proc, f'http://127.0.0.1:{port}/lab/tree/check.ipynb?token={token}&reset'
        except OSError:
            time.sleep(0.1)
    raise RuntimeError('JupyterLab did not answer: ' + (work / 'server.log').read_text()[-500:])


def run_all(page):
    "Run every cell; JupyterLab drops the command without a word while the kernel is still connecting"
    page.locator('.jp-NotebookPanel .jp-Cell').first.wait_for()
    page.wait_for_function('() => window.jupyterapp?.shell?.currentWidget?.sessionContext')
    page.evaluate("""async () => { const p = window.jupyterapp.shell.currentWidget; await window.jupyterapp.restored;
        await p.context.ready; await p.sessionContext.ready; await p.sessionContext.session.kernel.info; }""")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


def steps(page, step):
    "What a person would do"
    cells = [page.locator('.jp-Cell').nth(k) for k in range(1, len(CELLS))]
    gallery, coverage, run, blind, quality, diff, plan = cells

    def says(cell, text):
        return cell.get_by_text(text).first.wait_for()

    def picture(cell):
        return cell.locator('img.widget-image').first.get_attribute('src')

    def changes(cell, old):
        page.wait_for_function(
            '([e, old]) => e.src !== old',
            arg=[cell.locator('img.widget-image').first.element_handle(), old],
        )

    says(gallery, 'samples 1 to 16 of')
    step('gallery drawn')
    assert gallery.locator('img[alt^="sample"]').count() == 16
    gallery.get_by_role('button', name='next ▶').click()
    says(gallery, 'samples 17 to 32 of')
    step('next page')
    gallery.locator('.widget-dropdown', has_text='class').locator('select').select_option('sky')
    says(gallery, 'samples 1 to 16 of')
    step('filtered')
    assert all(
        'sky' in t for t in gallery.locator('div[title]', has=page.locator('img')).all_inner_texts()
    )
    gallery.get_by_role('button', name='bogus').first.click()
    says(gallery, 'written to ad_label_events')
    step('drawn sky labelled')
    gallery.locator('.widget-dropdown', has_text='class').locator('select').select_option('source')
    gallery.locator('div[title]', has_text='source').nth(15).wait_for()
    gallery.get_by_role('button', name='real').first.click()
    says(gallery, 'written to validation_events')
    step('detection labelled')
    n_cells = page.locator('.jp-Cell').count()
    gallery.locator('img[alt^="sample"]').first.click()
    page.keyboard.press('ArrowRight')
    page.keyboard.press('b')
    says(gallery, 'is bogus (written')
    page.keyboard.press('z')
    says(gallery, 'taken back')
    assert page.locator('.jp-Cell').count() == n_cells, 'a key reached the notebook'
    step('judged by key and undone')
    for _ in range(6):  # Pressed before the next page is drawn: what was seen is judged, or nothing
        row = gallery.evaluate(TURN_AND_PRESS)
        said = gallery.get_by_text('press again').or_(gallery.get_by_text(f'sample {row} is real'))
        said.first.wait_for()
        gallery.get_by_text('samples 1 to 16').or_(
            gallery.get_by_text('samples 17 to')
        ).first.wait_for()
        gallery.get_by_role('button', name='◀ previous').click()
        says(gallery, 'samples 1 to 16 of')
    step('pressed while the page turns')
    page.keyboard.press('o')
    says(gallery, 'look there with')
    step('close look')
    page.keyboard.press('Escape')
    gallery.get_by_text('look there with').wait_for(state='detached')
    where = gallery.locator('.widget-text', has_text='where').locator('input')
    where.fill('snr > 20')
    page.keyboard.press('Enter')
    says(gallery, 'of 64 chosen')
    step('asked by an expression')
    gallery.locator('.widget-text', has_text='labeller').locator('input').fill(' ')
    page.keyboard.press('Enter')
    gallery.get_by_role('button', name='real').first.click()
    says(gallery, 'who says so')
    step('no name, no label')

    says(coverage, 'colour by')
    old = picture(coverage)
    coverage.locator('select').first.select_option(index=1)
    changes(coverage, old)
    step('one field')
    old = picture(run)
    changes(run, old)
    step('run drawn anew by itself')
    says(blind, 'samples 1 to 8 of 8')
    assert (
        not blind.get_by_text('● real').count()
        and not blind.get_by_text('○ bogus').count()
        and not blind.get_by_text('○ sky').count()
        and not blind.locator('.widget-dropdown', has_text='class').count()
    )
    blind.get_by_role('button', name='unsure').first.click()
    says(blind, 'ben: sample')
    blind.scroll_into_view_if_needed()
    step('blind labelled')
    quality.locator('img').first.wait_for()
    quality.scroll_into_view_if_needed()
    step('quality drawn')
    diff.locator('select').first.select_option(index=0)
    diff.locator('div[title] img').first.wait_for()
    diff.get_by_role('button', name='next ▶').click()
    diff.locator('button[disabled]', has_text='previous').wait_for(state='detached')
    diff.scroll_into_view_if_needed()
    step('differences paged')
    says(plan, 'TrainingDataCollectionParams()')
    confidence = plan.locator('.widget-inline-hbox', has_text='confidence from')
    confidence.locator('.noUi-handle').press('ArrowRight')
    says(plan, 'TrainingDataCollectionParams(confidence_threshold=0.75)')
    plan.locator('select[multiple]').select_option(index=0)
    says(plan, 'survey_ids=')
    plan.scroll_into_view_if_needed()
    step('plan moved')
    bad = page.locator(
        '[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type*="error"]'
    ).all_inner_texts()
    if bad:
        raise RuntimeError(f'something on stderr: {bad[0][:300]}')


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument('--shots', type=Path, help='folder for screenshots')
    a.add_argument('--dark', action='store_true', help="with JupyterLab's dark theme")
    a.add_argument('--chromium', default='/usr/bin/chromium')
    a.add_argument('--timeout', type=int, default=120, help='seconds that one step may take')
    o, begun = a.parse_args(), time.time()
    from playwright.sync_api import Error, sync_playwright

    with tempfile.TemporaryDirectory(prefix='widgetcheck-') as tmp, sync_playwright() as play:
        work, browser, proc = Path(tmp), None, None
        (work / 'nbs').mkdir()
        nbformat.write(
            nbformat.v4.new_notebook(
                cells=[nbformat.v4.new_code_cell(c) for c in CELLS],
                metadata={
                    'kernelspec': {
                        'name': 'python3',
                        'display_name': 'python3',
                        'language': 'python',
                    }
                },
            ),
            work / 'nbs/check.ipynb',
        )

        def shoot(name):
            if o.shots:
                o.shots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=o.shots / f'{name}.png')

        def step(name):
            print(f'{time.time() - begun:6.1f} s  {name}', flush=True)
            shoot(name.replace(' ', '-').replace(',', ''))

        try:
            proc, url = start_lab(work, o.timeout, o.dark)
            print(f'{time.time() - begun:6.1f} s  server up')
            browser = play.chromium.launch(executable_path=o.chromium, headless=True, args=FLAGS)
            page = browser.new_page(viewport={'width': 1400, 'height': 2000})
            page.set_default_timeout(o.timeout * 1000)
            page.goto(url, wait_until='domcontentloaded')
            run_all(page)
            steps(page, step)
            print('ok: galleries, coverage, run and quality answer in JupyterLab')
            return 0
        except (Error, RuntimeError, AssertionError) as e:
            print(f'FAILED: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ""}')
            if browser:
                shoot('failed')
            return 1
        finally:
            if browser:
                browser.close()
            if (
                proc and proc.poll() is None
            ):  # The group that this script started: the server and its kernels
                os.killpg(proc.pid, signal.SIGTERM)
                try:
                    proc.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(proc.pid, signal.SIGKILL)


if __name__ == '__main__':
    sys.exit(main())
