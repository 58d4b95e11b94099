"Figures on dark pages, in any letters, and tutorials as scripts"

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import style

from astrid_data import display
from astrid_data.display import drawable, figure_png, new_figure
from astrid_data.evaluation.class_report import plot_confusion

root = Path(__file__).parents[1]
UNWRITTEN = '\U0010fffd'  # No font has it


def pixels(fig):
    "A figure as (y, x, 3), 0 to 255"
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(figure_png(fig))).convert('RGB'))


def words_of(fig):
    from matplotlib.text import Text

    return {text.get_text() for text in fig.findobj(Text)}


def confusion_of(*names):
    import pandas as pd

    return pd.DataFrame(np.eye(len(names), dtype=int), index=names, columns=names)


@pytest.mark.parametrize('name', [UNWRITTEN, f'$x_{UNWRITTEN}$', f'SN {UNWRITTEN}'])
def test_a_letter_that_no_font_has_is_written_as_its_escape(name):
    fig = new_figure((3, 2))
    ax = fig.subplots()
    ax.barh([name, 'AGN'], [1, 2], label=name)
    ax.set_title(name)
    ax.legend()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        figure_png(fig)
    written = [word for word in words_of(fig) if r'\U0010fffd' in word]
    assert written and not any(UNWRITTEN in word for word in words_of(fig))
    assert [one.get_text() for one in ax.get_yticklabels()] == [
        name.replace(UNWRITTEN, r'\U0010fffd'),
        'AGN',
    ]


def test_classes_of_any_script_are_drawn_without_a_warning():
    fig = plot_confusion(confusion_of('超新星', 'Überriese', 'звезда'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        figure_png(fig)
    words = ' '.join(words_of(fig))
    assert 'Überriese' in words and 'звезда' in words
    assert '超新星' in words or r'\u8d85\u65b0\u661f' in words


def test_an_installed_font_that_has_the_letter_is_taken(monkeypatch):
    monkeypatch.setattr(display, '_has_letter', lambda family, letter: family == 'Unifont')
    assert drawable('超', ['sans-serif']) == ('超', ['sans-serif', 'Unifont'])


def test_labels_of_usual_letters_keep_what_makes_them():
    fig = new_figure((3, 2))
    ax = fig.subplots()
    ax.plot([-1, 1], [1, 2])
    before = type(ax.xaxis.get_major_formatter())
    figure_png(fig)
    assert type(ax.xaxis.get_major_formatter()) is before


def test_a_figure_is_light_or_dark_as_the_style_says():
    assert pixels(new_figure((1, 1))).min() == 255
    with style.context('dark_background'):
        fig = new_figure((1, 1))
    assert pixels(fig).max() == 0


# ---- tutorials as scripts


def as_script(name):
    done = subprocess.run(
        [sys.executable, root / 'tools/script.py', root / f'nbs/tutorials/{name}.ipynb'],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize('path', sorted((root / 'nbs/tutorials').glob('*.ipynb')), ids=str)
def test_every_tutorial_is_a_script(path):
    sys.path.insert(0, str(root / 'tools'))
    try:
        from script import as_script as script_of
    finally:
        sys.path.pop(0)
    text = script_of(path)
    compile(text, path.stem, 'exec')
    assert '#|' not in text and "if __name__ == '__main__':" in text


def test_a_tutorial_runs_as_a_script_in_an_empty_folder(tmp_path):
    (tmp_path / 'own_images.py').write_text(as_script('own_images'), encoding='utf-8')
    done = subprocess.run(
        [sys.executable, 'own_images.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, 'PYTHONPATH': str(root)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'IngestReport' in done.stdout and 'Dataset' in done.stdout
    assert {file.suffix for file in tmp_path.iterdir()} <= {'.py', '.png'}
