"The picture of a run: what it learns, when it ends, and its words above what is not sky"

import warnings

import pytest
import torch
from test_widgets import archive, built  # noqa: F401 (fixtures)

import astrid_data as ad
from astrid_data.display import mark_synthetic, new_figure
from astrid_data.training.models import SmallCNN
from astrid_data.widgets.runs import RunView


class Place:
    "Where a notebook shows something"

    def __init__(self):
        self.bundles = []

    def update(self, bundle, raw):
        assert raw
        self.bundles.append(bundle)


@pytest.fixture
def shown(monkeypatch):
    place = Place()

    def display(bundle, **_):
        place.update(bundle, raw=True)
        return place

    monkeypatch.setattr('IPython.display.display', display)
    return place


def train(built, epochs=2):  # noqa: F811
    train, val, _ = ad.RealDataLoader(built).loaders(batch_size=16)
    return SmallCNN(), train, val, epochs


def test_the_notebook_keeps_the_end_and_what_was_learnt(built, shown):  # noqa: F811
    model, loader, val, epochs = train(built)
    with ad.track(built) as run:
        view = RunView(run, every_s=60)
        view._ipython_display_()
        assert '(running)' in shown.bundles[-1]['text/plain']
        ad.fit(model, loader, val, epochs=epochs, run=run, show=False)
    assert len(shown.bundles) == 2 and '(running)' not in shown.bundles[-1]['text/plain']
    losses = [len(line.get_xdata()) for line in view.static().axes[0].lines]
    assert losses == [epochs, epochs] and list(run.curves.index) == [1, 2]


def test_a_picture_that_fails_stops_no_training(built, shown, monkeypatch):  # noqa: F811
    model, loader, val, _ = train(built)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        with ad.track(built) as run:
            view = RunView(run, every_s=60)
            view._ipython_display_()
            monkeypatch.setattr(shown, 'update', lambda *_, **__: 1 / 0)
            ad.fit(model, loader, val, epochs=1, run=run, show=False)
    assert run.status == 'completed'
    assert any('is not drawn' in str(one.message) for one in heard)


def test_a_run_that_logs_no_epochs_has_no_panels_for_them(built):  # noqa: F811
    with ad.track(built) as run:
        run.log_metrics(dict(rows=3))
    assert run.curves.empty and len(RunView(run).static().axes) == 4


def test_the_title_stands_below_the_words_and_above_the_picture():
    figure = new_figure((4, 2))
    axes = figure.subplots()
    figure.suptitle('a title')
    mark_synthetic(figure, 'synthetic')
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    title, words = sorted(boxes, key=lambda box: box.y0)
    assert axes.get_window_extent().y1 <= title.y0 and title.y1 <= words.y0


def test_curves_are_numbers_whatever_was_logged(built):  # noqa: F811
    with ad.track(built) as run:
        loss = torch.tensor(2.0, requires_grad=True)
        run.log_metrics(dict(train_loss=loss * 3, val_loss=None, step=7.0), step=1)
        run.log_metrics(dict(train_loss=float('nan')), step=2)
    assert run.curves.dtypes.eq('f8').all() and list(run.curves.columns) == ['train_loss', 'step']
    assert run.curves['train_loss'].to_list()[:1] == [6.0] and run.curves['train_loss'].isna()[2]
    assert len(RunView(run).static().axes) == 6


def test_each_call_of_a_watched_function_has_its_own_end():
    monitor = ad.EnergyMonitor()
    heard = []
    monitor.at_end.append(lambda: heard.append('first'))
    twin = monitor._copy()
    with twin:
        pass
    assert heard == [] and twin.at_end == []
    with monitor:
        pass
    with monitor:
        pass
    assert heard == ['first']
