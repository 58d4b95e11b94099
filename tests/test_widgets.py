"Widgets without a browser: what they read, write, show and say (tools/widget_check.py drives them in a real one)."

import base64
import html
import shutil
import threading
import time
import warnings
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import astrid_data as ad
from astrid_data.core import BadInput, NotFound
from astrid_data.datasets.dataset import write_dataset
from astrid_data.display import ORIGIN_WORDS
from astrid_data.sky import plane_offsets, sky_separation_arcsec
from astrid_data.tracking.meters import Reading
from astrid_data.widgets.close_look import close_look_html
from astrid_data.widgets.fields import group_fields
from astrid_data.widgets.gallery import ALL, GalleryPanel
from astrid_data.widgets.rows import choose_rows
from astrid_data.widgets.runs import in_steps
from astrid_data.widgets.verdicts import read_verdicts, write_verdict

PNG = b'\x89PNG'


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    return ad.synthetic_archive(tmp_path_factory.mktemp('widgets'), n_observations=4, n_sources=15)


@pytest.fixture(scope='module')
def built(archive):
    params = ad.TrainingDataCollectionParams(confidence_threshold=None)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return (
            ad.TrainingDataCollector(archive)
            .plan(params)
            .build('set', patch_size=24, progress=False)
        )


def loose(folder, n=50, s=16, channels=('image',), **columns):
    "A version from arrays, in no archive"
    rng = np.random.default_rng(0)
    d = rng.normal(100, 5, (n, len(channels), s, s)).astype('f4')
    d[::5, :, :, :4] = np.nan
    t = pd.DataFrame(
        dict(
            sample_key=[f'{i:032x}' for i in range(n)],
            label=(np.arange(n) % 2).astype('i1'),
            split=np.where(np.arange(n) % 4, 'train', 'test'),
            origin='survey',
            class_name=np.where(np.arange(n) % 2, 'source', 'sky'),
            ra=150 + rng.uniform(0, 0.01, n),
            dec=rng.uniform(0, 0.01, n),
            observation_id='o',
            observation_key='o',
            snr=np.where(np.arange(n) % 7, rng.uniform(3, 90, n), np.nan),
            quality_flags=(np.arange(n) % 3 == 0).astype('u4'),
        )
    )
    return write_dataset(folder, t.assign(**columns), d, channels=channels)


def texts(box):
    return ' '.join(
        str(getattr(x, 'value', '')) + str(getattr(x, 'description', '')) for x in walk(box)
    )


def walk(box):
    yield box
    for x in getattr(box, 'children', ()):
        yield from walk(x)


def named(box, text):
    return [x for x in walk(box) if getattr(x, 'description', None) == text]


# Which rows


def test_filters_are_what_pandas_says(tmp_path):
    d = loose(tmp_path / 'd')
    s = d.samples
    assert (choose_rows(s) == np.arange(50)).all()
    assert list(choose_rows(s, split='test', label='real')) == list(
        np.flatnonzero((s['split'] == 'test') & (s['label'] == 1))
    )
    assert list(choose_rows(s, flag='invalid', class_name='sky')) == list(
        np.flatnonzero((s['quality_flags'] == 1) & (s['class_name'] == 'sky'))
    )
    assert list(choose_rows(s, flag='none')) == list(np.flatnonzero(s['quality_flags'] == 0))
    for order, up in (('faintest', True), ('brightest', False)):
        rows = choose_rows(s, order=order)
        assert (
            list(rows)
            == list(s.sort_values('snr', ascending=up, kind='stable', na_position='last').index)
            and np.isnan(s['snr'].iloc[rows[-8:]]).all()
        )


def test_a_split_has_one_colour_in_every_field_and_every_survey_its_mark():
    from types import SimpleNamespace

    import matplotlib.pyplot as plt

    from astrid_data.widgets.coverage import field_panel, sky_panel

    o = pd.DataFrame(
        dict(
            field=[0, 1, 1],
            survey=['des', 'des', 'ps1'],
            ra=[10.0, 20.0, 20.0],
            dec=0.0,
            footprint=None,
        )
    )
    c = SimpleNamespace(
        observations=o,
        points=pd.DataFrame(
            dict(field=[0, 0, 1], split=['train', 'test', 'test'], ra=[10.0, 10.0, 20.0], dec=0.0)
        ),
        colour='split',
        n_fields=2,
        moc=None,
    )
    fig, axs = plt.subplots(1, 2)
    for ax, f in zip(axs, (0, 1)):
        field_panel(ax, c, f)
    one, other = (
        {
            line.get_label().split()[0]: (line.get_color(), line.get_marker())
            for line in ax.lines
            if '(' in line.get_label()
        }
        for ax in axs
    )
    assert one['test'] == other['test'] != one['train'] and 'train' not in other
    sky_panel(sky := fig.add_subplot(projection='mollweide'), c)
    assert [t.get_text() for t in sky.get_legend().get_texts()] == ['des (2)', 'ps1 (1)']
    plt.close(fig)


def test_unknown_filters_are_named(tmp_path):
    d = loose(tmp_path / 'd')
    with pytest.raises(NotFound, match='there are: test, train'):
        ad.browse(d, split='validation')
    with pytest.raises(BadInput, match='there are: none, invalid'):
        ad.browse(d, flag='ugly')
    with pytest.raises(BadInput, match='there are: whole first, stored'):
        ad.browse(d, order='random')
    with pytest.raises(BadInput, match='1 to 200'):
        ad.browse(d, page_size=5000)


# Bounded


def test_only_the_page_is_read_and_turning_makes_nothing_new(tmp_path, monkeypatch):
    d, read = loose(tmp_path / 'd'), []
    patches = d.patches
    monkeypatch.setattr(
        d,
        'patches',
        lambda rows=None: (read.append(None if rows is None else len(rows)), patches(rows))[1],
    )
    g = ad.browse(d, page_size=8)
    w, before = g.widget, len(list(walk(g.widget)))
    pictures = texts(w)
    for _ in range(6):
        named(w, 'next ▶')[0].click()
    assert g.page == 6 and named(w, 'next ▶')[0].disabled and len(g.page_rows) == 2
    assert (
        None not in read
        and max(read) <= 8
        and len(list(walk(w))) == before
        and texts(w) != pictures
    )
    tiles = [x for x in walk(w) if x.layout.display == 'none']
    assert len(tiles) == 6 + 1  # Places that the last page leaves empty, and the close look


def test_filters_start_at_their_first_page_and_may_find_nothing(tmp_path):
    g = ad.browse(loose(tmp_path / 'd', class_name='source'), page_size=8)
    w = g.widget
    named(w, 'next ▶')[0].click()
    named(w, 'label')[0].value = 0
    assert (g.page, len(g.rows)) == (0, 25) and 'samples 1 to 8 of 25' in texts(w)
    named(w, 'flag')[0].value = 'none'
    named(w, 'split')[0].value = 'test'
    assert list(g.rows) == list(choose_rows(g.dataset.samples, label=0, flag='none', split='test'))
    for k in ('label', 'flag', 'split'):
        named(w, k)[0].value = ALL
    assert len(g.rows) == 50


def test_a_page_typed_in(tmp_path):
    g = ad.browse(loose(tmp_path / 'd'), page_size=10)
    page = named(g.widget, 'page')[0]
    page.value = 4
    assert g.page == 3 and 'samples 31 to 40 of 50' in texts(g.widget)
    page.value = 99
    assert g.page == 4


# Labels


def events(archive, model):
    from sqlalchemy import select

    from astrid_data.registry import tables as registry

    with archive.session() as s:
        return [
            (
                e.labeller if model == 'LabelEvent' else e.validator_id,
                e.is_real if model == 'LabelEvent' else e.is_valid,
            )
            for e in s.scalars(select(getattr(registry, model)))
            if 'rule' not in (getattr(e, 'validator_id', '') or '')
        ]


def test_buttons_write_where_they_should(built, archive):
    frozen = built.samples.copy()
    found, sky = (
        choose_rows(built.samples, **k)[0] for k in (dict(label='real'), dict(class_name='sky'))
    )
    before = len(events(archive, 'ValidationEvent')), len(events(archive, 'LabelEvent'))
    g = ad.browse(built, page_size=6, label='real', labeller='ana')
    row = g.page_rows[1]
    named(g.widget, 'bogus')[1].click()
    assert 'validation_events' in texts(g.widget) and [
        b.button_style for b in named(g.widget, 'bogus')
    ][:3] == ['', 'primary', '']
    named(g.widget, 'unsure')[1].click()  # Unsure is no validation
    assert [b.button_style for b in named(g.widget, 'unsure')][1] == 'primary' and named(
        g.widget, 'bogus'
    )[1].button_style == ''
    assert write_verdict(built, sky, 'real', 'ana', note='a faint one?') == 'ad_label_events'
    assert (
        len(events(archive, 'ValidationEvent')) == before[0] + 2
        and len(events(archive, 'LabelEvent')) == before[1] + 1
    )
    assert list(read_verdicts(built, [row]).query('labeller == "ana"')['verdict']) == [
        'bogus',
        'unsure',
    ]
    pd.testing.assert_frame_equal(built.samples, frozen)


def test_a_second_labeller_does_not_see_the_first(built):
    a = ad.browse(built, page_size=4, label='real', labeller='first')
    named(a.widget, 'real')[0].click()
    b = ad.browse(built, page_size=4, label='real', labeller='second')
    assert not any(x.button_style for x in named(b.widget, 'real'))
    named(b.widget, 'labeller')[0].value = 'first'
    assert [x.button_style for x in named(b.widget, 'real')] == ['primary', '', '', '']


def test_blind_labelling_shows_nothing_that_tells_the_label(built, archive):
    "Neither label, class, source nor what others said; not in the tiles, the menus, the picture, nor the line after a press"
    rows = np.r_[
        choose_rows(built.samples, label='real')[:2],
        choose_rows(built.samples, class_name='sky')[:2],
    ]
    write_verdict(built, rows[0], 'bogus', 'loud')
    open_, blind = (ad.browse(built, rows=rows, labeller='quiet', blind=b) for b in (False, True))
    telling = {
        *built.samples['class_name'].iloc[rows],
        *built.samples['label_source'].iloc[rows],
        'loud',
        '● real',
        '○ sky',
        'label 1',
        'label 0',
    } - {''}

    def said(g):
        return (
            html.unescape(
                ' '.join(
                    [texts(g.widget), g.html(), *(ax.get_title('left') for ax in g.static().axes)]
                )
            )
            .replace(ORIGIN_WORDS['synthetic'], '')
            .replace('synthetic-skyview', '')
        )

    assert 'loud: bogus' in said(open_) and all(k in said(open_) for k in telling)
    assert (
        not [k for k in telling if k in said(blind)]
        and not named(blind.widget, 'label')
        and not named(blind.widget, 'class')
    )
    named(blind.widget, 'bogus')[2].click()  # Drawn sky; the table it goes to would tell
    assert 'is bogus (written;' in texts(blind.widget) and blind.said() == {rows[2]: 'quiet: bogus'}
    for k in (dict(label='real'), dict(class_name='sky')):
        with pytest.raises(BadInput, match='would tell'):
            ad.browse(built, blind=True, **k)


def test_a_blind_verdict_names_no_class(built, archive):
    from sqlalchemy import select

    from astrid_data.registry.tables import ValidationEvent as V

    row = choose_rows(built.samples, label='real')[2]
    for who, blind in (('seeing', False), ('unseeing', True)):
        ad.browse(built, labeller=who, blind=blind).label(row, 'real')
    with archive.session() as s:
        said = {
            e.validator_id: (e.label, 'blind' in e.tags)
            for e in s.scalars(select(V).where(V.validator_id.in_(['seeing', 'unseeing'])))
        }
    assert said == {
        'seeing': (built.samples['class_name'].iloc[row], False),
        'unseeing': (None, True),
    }


def test_rows_are_shown_in_their_order_and_filtered(tmp_path):
    d = loose(tmp_path / 'd')
    assert list(ad.browse(d, rows=[7, 3, 12]).page_rows) == [7, 3, 12]
    assert list(ad.browse(d, rows=pd.Series([7, 3, 12]), label='real').rows) == [7, 3]
    assert list(ad.browse(d, rows=[7, 3, 12], order='brightest').rows) == sorted(
        [7, 3, 12], key=lambda r: np.nan_to_num(-d.samples['snr'][r], nan=1)
    )
    assert len(ad.browse(d, rows=[]).rows) == 0
    for bad in ([50], [-1], [1.5], ['a'], [[1]]):
        with pytest.raises(BadInput, match='row'):
            ad.browse(d, rows=bad)


def test_what_is_no_dataset_is_said(built):
    with pytest.raises(BadInput, match=r"browse\(open_dataset\(archive, 'set'\)\)"):
        ad.browse('set')
    with pytest.raises(BadInput, match='plan.build'):
        ad.browse(ad.TrainingDataCollectionParams())
    with pytest.raises(BadInput, match=r'show_coverage\(open_dataset'):
        ad.show_coverage('set')


def test_without_a_name_nothing_is_written(built, archive):
    before = len(events(archive, 'ValidationEvent')), len(events(archive, 'LabelEvent'))
    g = ad.browse(built, page_size=4)
    for b in named(g.widget, 'real'):
        b.click()
    assert (
        'who says so' in texts(g.widget)
        and (len(events(archive, 'ValidationEvent')), len(events(archive, 'LabelEvent'))) == before
    )
    with pytest.raises(BadInput, match="labeller='ana'"):
        g.label(g.page_rows[0], 'real')


def test_a_folder_alone_says_at_once_that_it_keeps_no_verdicts(tmp_path, built):
    assert 'open_dataset' in texts(
        ad.browse(loose(tmp_path / 'd')).widget
    ) and 'open_dataset' not in texts(ad.browse(built).widget)


@pytest.mark.parametrize('side', [16, 33])
def test_the_ticks_stand_around_the_position_and_leave_the_source_free(tmp_path, side):
    "A bright pixel where the sample is: the middle of the ticks in HTML and in the picture, which never come nearer than an eighth of the side"
    import re

    d = loose(tmp_path / 'd', n=1, s=side, offset_x=0.3, offset_y=-0.4)
    x, y = side // 2 + 0.3 + 0.5, side - (side // 2 - 0.4) - 0.5  # From the upper left corner
    path = re.search(r'<path d="([^"]+)"', ad.browse(d).html())[1]
    ends = np.array([list(map(float, k)) for k in re.findall(r'[ML]([\d.]+) ([\d.]+)', path)])
    assert (
        ends.mean(0) == pytest.approx([x, y], abs=0.01)
        and (abs(ends - [x, y]).sum(1) > side / 8).all()
        and len(ends) == 8
    )
    drawn = np.concatenate([line.get_xydata() for line in ad.browse(d).static().axes[0].lines])
    assert drawn.mean(0) + 0.5 == pytest.approx([x, y], abs=0.01)


def test_a_verdict_reaches_the_next_collection_and_can_be_taken_back(built, archive):
    "The frozen set keeps its labels; the detection is bogus until the person is unsure, and then has no label by them"
    import uuid

    from astrid_data.registry.tables import Detection

    row = choose_rows(built.samples, label='real')[-1]
    write_verdict(built, row, 'bogus', 'ben', label='cosmic ray')
    detection = uuid.UUID(built.samples['detection_id'].iloc[row])
    with archive.session() as s:
        assert (
            s.get(Detection, detection).status.value == 'rejected'
            and s.get(Detection, detection).human_label == 'cosmic ray'
        )
    params = ad.TrainingDataCollectionParams(confidence_threshold=None)

    def collected():
        return (
            ad.TrainingDataCollector(archive)
            .plan(params, progress=False)
            .samples.set_index('detection_id')['label']
            .get(str(detection))
        )

    assert built.samples['label'].iloc[row] == 1 and collected() in (0, None)
    write_verdict(built, row, 'unsure', 'ben')
    with archive.session() as s:
        assert s.get(Detection, detection).human_label == 'unsure'
    assert collected() == 1  # What the catalogue said stands alone again


def test_what_cannot_be_written_is_said_in_the_widget(tmp_path, built):
    g = ad.browse(loose(tmp_path / 'd'), page_size=4, labeller='ana')
    named(g.widget, 'real')[0].click()
    assert 'open_dataset' in texts(g.widget)
    g = ad.browse(built, page_size=4, labeller='ana')
    named(g.widget, 'labeller')[0].value = ''
    named(g.widget, 'real')[0].click()
    assert 'who says so' in texts(g.widget)
    with pytest.raises(BadInput, match='real, bogus, unsure'):
        write_verdict(built, 0, 'perhaps', 'ana')


def test_verdicts_on_both_databases(registry_url, tmp_path):
    "The same SQL everywhere, ids as this library writes them"
    hdus, _ = ad.simulate.synthetic_image(shape=(160, 160), n_stars=5, n_cosmic=3)
    hdus.writeto(tmp_path / 'a.fits')
    archive = ad.open_archive(database=registry_url, home=tmp_path / 'home')
    archive.add_fits(tmp_path / 'a.fits', survey='pretend', origin='synthetic', show=False)
    t = archive.detections()
    key = next(k for k in ('id', 'detection_id') if k in t)
    d = loose(
        tmp_path / 'd', n=4, detection_id=[str(t[key].iloc[0]), None, str(t[key].iloc[1]), None]
    )
    d.archive = archive
    d.manifest['id'] = built_id(archive)
    assert [
        write_verdict(d, i, v, 'ana') for i, v in enumerate(('real', 'unsure', 'unsure', 'bogus'))
    ] == ['validation_events'] + ['ad_label_events'] * 3
    said = (
        read_verdicts(d, range(4)).query('labeller == "ana"').set_index('row')['verdict'].to_dict()
    )
    assert said == {0: 'real', 1: 'unsure', 2: 'unsure', 3: 'bogus'}
    c = ad.show_coverage(archive)
    assert (
        c.n_fields == 1
        and c.total == len(t)
        and c.origin == 'synthetic'
        and len(c.observations['footprint'].iloc[0]) == 4
    )


def built_id(archive):
    import uuid

    from astrid_data.registry.tables import TrainingDataset

    with archive.session() as s:
        row = TrainingDataset(
            id=uuid.uuid4(),
            name='x',
            collection_params={},
            total_samples=4,
            anomaly_ratio=0.5,
            quality_score=1,
            created_by='me',
            status='active',
        )
        s.add(row)
        return str(row.id)


# Shown everywhere


def bundles(built, archive):
    report = ad.tracking.EnergyReport(
        2.0,
        series=pd.DataFrame(dict(t_s=[0.0, 1, 2])),
        reasons=dict(gpu='no driver', data_wait_share='no loop'),
    )
    return dict(
        browse=ad.browse(built, page_size=4),
        coverage=ad.show_coverage(archive),
        run=ad.show_run(report),
    )


@pytest.mark.parametrize('which', ['browse', 'coverage', 'run'])
def test_every_view_is_a_widget_and_a_picture(which, built, archive, monkeypatch):
    v = bundles(built, archive)[which]
    b = v._repr_mimebundle_()
    assert (
        base64.b64decode(b['image/png'])[:4] == PNG
        and b['text/plain'] == repr(v)
        and b['application/vnd.jupyter.widget-view+json']['model_id'] == v.widget.model_id
    )
    assert v.static()._repr_png_()[:4] == PNG and '<img' in v.html()
    monkeypatch.setattr('importlib.util.find_spec', lambda name, *a: None)
    assert set(v._repr_mimebundle_()) == {'text/plain', 'image/png'}


def test_a_notebook_without_widget_state_shows_the_picture(built, archive):
    "What nbconvert makes of a stored notebook when nothing runs"
    import nbformat
    from nbconvert import HTMLExporter

    views = bundles(built, archive)
    cells = [
        nbformat.v4.new_code_cell(
            k, outputs=[nbformat.v4.new_output('execute_result', v._repr_mimebundle_())]
        )
        for k, v in views.items()
    ]
    page, _ = HTMLExporter(template_name='basic').from_notebook_node(
        nbformat.v4.new_notebook(cells=cells)
    )
    assert page.count('src="data:image/png;base64,') == 3


def test_synthetic_data_are_marked_and_real_ones_are_not(built, archive, tmp_path):
    real, mixed = (
        loose(tmp_path / 'r'),
        loose(tmp_path / 'm', origin=np.where(np.arange(50) % 2, 'survey', 'synthetic')),
    )

    def hatched(fig):
        return sum(
            bool(getattr(p, 'get_hatch', lambda: None)()) for ax in fig.axes for p in ax.patches
        )

    a, b, c = (ad.browse(d, page_size=4) for d in (built, mixed, real))
    assert [hatched(g.static()) for g in (a, b, c)] == [16, 8, 0]
    assert [g.html().count('repeating-linear-gradient') for g in (a, b, c)] == [
        5,
        3,
        0,
    ]  # Tiles and the banner
    assert ['SYNTHETIC' in texts(g.widget) for g in (a, b, c)] == [True, True, False] and [
        'SYNTHETIC' in repr(g) for g in (a, b, c)
    ] == [True, True, False]
    assert 'SYNTHETIC' in repr(ad.show_coverage(built)) and 'SYNTHETIC' not in repr(
        ad.show_coverage(real)
    )


def test_triplets_stand_side_by_side(tmp_path):
    d = loose(tmp_path / 'd', n=5, channels=('template', 'science', 'difference'))
    assert (
        ad.browse(d).html().count('<img') == 15
        and sum(len(ax.images) for ax in ad.browse(d).static().axes) == 15
    )


def test_text_from_data_is_escaped(tmp_path):
    d = loose(tmp_path / 'd', n=3, class_name='<script>alert(1)</script>')
    assert '<script>' not in ad.browse(d).html() and '<script>' not in texts(ad.browse(d).widget)


def test_patches_without_noise_or_pixels_are_shown(tmp_path):
    d = loose(
        tmp_path / 'd', n=3, image_background=[np.nan, 100, 100], image_noise=[np.nan, 0, 5.0]
    )
    assert ad.browse(d).html().count('<img') == 3


# Coverage


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0, 359.99), st.floats(-90, 90), st.floats(0.001, 20)),
        min_size=1,
        max_size=15,
    )
)
def test_fields_are_chains_of_overlapping_circles(rows):
    ra, dec, r = map(np.array, zip(*rows))
    near = sky_separation_arcsec(ra[:, None], dec[:, None], ra, dec) / 3600
    sure = abs(near - r[:, None] - r) > 1e-6
    if not sure.all():
        return
    touch, field = near < r[:, None] + r, group_fields(ra, dec, r)
    for _ in rows:
        touch = (touch.astype(int) @ touch) > 0
    assert (touch == (field[:, None] == field)).all() and np.bincount(field)[0] == np.bincount(
        field
    ).max()


@settings(max_examples=30)
@given(st.floats(0, 360), st.floats(-90, 90), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_offsets_are_those_of_a_tan_wcs(ra, dec, east, north):
    from astropy.wcs import WCS

    w = WCS(naxis=2)
    w.wcs.ctype, w.wcs.crval, w.wcs.crpix, w.wcs.cdelt = (
        ['RA---TAN', 'DEC--TAN'],
        [ra, dec],
        [1, 1],
        [-1 / 60, 1 / 60],
    )
    a, d = w.all_pix2world(-60 * east, 60 * north, 0)
    x, y = plane_offsets(float(a), float(d), (ra, dec))
    assert x == pytest.approx(60 * east, abs=1e-6) and y == pytest.approx(60 * north, abs=1e-6)


def test_the_other_side_of_the_sky_is_not_drawn_on_this_one():
    assert np.isnan(plane_offsets([180.0], [0.0], (0, 0))[0]).all()


def test_a_large_archive_is_drawn_in_part_and_says_so(archive):
    c = ad.show_coverage(archive, most=10)
    assert len(c.points) == 10 < c.total and '10 of' in c.static()._suptitle.get_text()
    with pytest.raises(BadInput, match='fields 0 to 1'):
        ad.show_coverage(archive, field=7)


def test_coverage_menus(archive, built):
    c = ad.show_coverage(built)
    view = next(x for x in walk(c.widget) if type(x).__name__ == 'Image')
    first = view.value
    named(c.widget, 'field')[0].value = 1
    assert c.field == 1 and view.value != first
    named(c.widget, 'colour by')[0].value = 'class_name'
    assert c.colour == 'class_name'
    named(c.widget, 'field')[0].value = -1
    assert c.field is None


def test_coverage_of_a_folder_alone(tmp_path):
    c = ad.show_coverage(loose(tmp_path / 'd'))
    assert c.n_fields == 1 and (c.points['field'] == 0).all() and c.static()._repr_png_()[:4] == PNG


# Runs


def words(fig):
    return ' '.join(
        [t.get_text() for ax in fig.axes for t in ax.texts]
        + [ax.get_title(loc) for ax in fig.axes for loc in ('left', 'center', 'right')]
    )


def test_what_is_unknown_is_said_and_never_zero():
    r = ad.tracking.EnergyReport(
        3.0,
        series=pd.DataFrame(dict(t_s=[0.0, 1, 2, 3])),
        reasons=dict(
            gpu='no NVIDIA driver here',
            total_wh='nothing is metered',
            data_wait_share='no loop went through wait()',
        ),
    )
    fig = ad.show_run(r).static()
    said = words(fig)
    assert (
        said.count('no GPU: no NVIDIA driver') >= 1
        and 'nothing is metered' in said
        and 'no loop' in said
    )
    assert (
        not any(ax.lines for ax in fig.axes)
        and '0 J' not in repr(ad.show_run(r))
        and 'unknown' in repr(ad.show_run(r))
    )


def test_steps_keep_the_energy_and_show_no_false_peaks():
    t = np.sort(np.r_[np.arange(0, 600, 0.5), np.arange(0, 600, 7.0) + 1e-4])
    joules = np.floor((t * 50 - 0.003) / 25) * 25  # A counter that moves in lumps
    s = pd.DataFrame(dict(t_s=t, gpu_watts=np.r_[np.nan, np.diff(joules) / np.diff(t)]))
    out = in_steps(s, ['gpu'])
    assert (
        len(out) <= 242
        and out['gpu_joules'].iloc[-1] == pytest.approx(joules[-1] - joules[0])
        and np.nanmax(s['gpu_watts']) > 1e4 > 80 > np.nanmax(out['gpu_watts'])
    )


def test_a_last_look_right_after_another_is_no_dip_to_zero():
    t = np.r_[np.arange(0, 2.1, 0.2), 2.0006]
    out = in_steps(
        pd.DataFrame(dict(t_s=t, cpu_watts=np.r_[np.nan, np.full(len(t) - 2, 8.0), 0.0])), ['cpu']
    )  # The estimate had not moved on
    assert (
        out['cpu_joules'].iloc[-1] == pytest.approx(16.0)
        and np.nanmin(out['cpu_watts']) > 7.9
        and out['t_s'].iloc[-1] == t[-1]
    )


class Steady:
    "A meter that draws 40 W"

    kind, name, how, wrap, failure = 'gpu', 'GPU 0 (FAKE)', 'energy counter', None, None

    def __init__(self):
        self.t0 = time.monotonic()

    def read(self):
        return Reading(
            joules=40 * (time.monotonic() - self.t0), watts=40.0, util=90.0, memory_mb=100.0
        )

    def close(self):
        pass


def test_a_live_view_follows_the_run_and_ends_with_it():
    import threading

    m = ad.EnergyMonitor(interval_s=0.05, meters=[Steady()]).start()
    v = ad.show_run(m, every_s=0.1)
    view = next(x for x in walk(v.widget) if type(x).__name__ == 'Image')
    seen, end = {view.value}, time.monotonic() + 30
    while len(seen) < 3 and time.monotonic() < end:
        time.sleep(0.1)
        seen.add(view.value)
    assert len(seen) >= 3 and '(running)' in repr(v)
    m.stop()
    while any(t.name == 'show_run' for t in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(t.name == 'show_run' for t in threading.enumerate()) and '(running)' not in repr(
        v
    )
    fig = v.static()
    assert any(ax.lines for ax in fig.axes) and 'no GPU' not in words(fig)


def test_only_runs_are_runs(built):
    for x in (built, None, 'run', 3):
        with pytest.raises(BadInput, match='EnergyMonitor or an EnergyReport'):
            ad.show_run(x)


def test_a_close_look_without_its_frame_shows_the_patch_and_says_why(tmp_path):
    archive = ad.open_archive(tmp_path / 'home')
    image = tmp_path / 'night.fits.gz'
    shutil.copy(files('astrid_data') / 'sample/47tuc_acs_hrc_f606w.fits.gz', image)
    archive.add_fits(image, survey='hst', show=False)
    plan = ad.TrainingDataCollector(archive).plan(ad.TrainingDataCollectionParams(max_samples=40))
    dataset = plan.build('close', patch_size=24, progress=False)
    assert 'not shown' not in close_look_html(dataset, 0)
    for stored in (image, *(tmp_path / 'home').rglob('*.fits.gz')):
        stored.unlink(missing_ok=True)
    html = close_look_html(dataset, 0)
    assert '<th scope="row"' in html and 'not shown: ' in html and '<img' in html


def test_a_blind_close_look_tells_no_label(built):
    told = str(close_look_html(built, 0, blind=True))
    sample = built.samples.iloc[0]
    for word in (sample['label_source'], '(positive)', '(rejected)', 'label from'):
        assert word not in told


def test_keys_judge_in_the_order_of_the_page(built):
    gallery = ad.browse(built, page_size=3, labeller='keys')
    panel = GalleryPanel(gallery)
    panel.draw()
    rows = [int(row) for row in gallery.rows[:4]]
    for key in 'rbur':
        panel.hear(key)
    said = read_verdicts(built, rows)
    said = said[said['labeller'] == 'keys'].drop_duplicates('row', keep='last')
    assert dict(zip(said['row'], said['verdict'])) == dict(
        zip(rows, ['real', 'bogus', 'unsure', 'real'])
    )
    assert (gallery.page, panel.selected) == (1, 1)
    for _ in rows:
        panel.undo()
    panel.undo()
    assert 'nothing was judged' in panel.message.value
    again = read_verdicts(built, rows)
    again = again[again['labeller'] == 'keys'].drop_duplicates('row', keep='last')
    assert set(again['verdict']) == {'unsure'}


def test_a_verdict_on_a_page_that_was_not_seen_is_not_written(built):
    gallery = ad.browse(built, page_size=3, labeller='early')
    panel = GalleryPanel(gallery)
    panel.draw()
    seen = [int(row) for row in gallery.page_rows]
    panel.turn(1)
    unseen = [int(row) for row in gallery.page_rows]
    for message in (dict(action='real', row=seen[0]), dict(key='r')):
        panel.answer(dict(message, seen=seen, labeller='early'))
        assert 'nothing was written' in panel.message.value
    half_drawn = [unseen[0], *seen[1:]]
    panel.select(1)
    panel.answer(dict(key='r', seen=half_drawn, labeller='early'))
    assert not len(read_verdicts(built, [*seen, *unseen]).query('labeller == "early"'))
    panel.answer(dict(action='real', row=unseen[1], seen=unseen, labeller='early'))
    said = read_verdicts(built, unseen).query('labeller == "early"')
    assert said['row'].tolist() == [unseen[1]]


@pytest.mark.parametrize('first', [0, 1, 2])
def test_keys_are_answered_in_the_order_in_which_they_were_pressed(built, first):
    gallery = ad.browse(built, page_size=4, labeller=f'fast{first}')
    panel = GalleryPanel(gallery)
    panel.draw()
    seen = [int(row) for row in gallery.page_rows]
    said = [
        dict(key=key, number=n, seen=seen, labeller=gallery.labeller)
        for n, key in enumerate(['r', 'ArrowRight', 'b'], 1)
    ]
    messages = [dict(view='v', said=said[: n + 1]) for n in range(3)]
    for message in [messages[first], *messages]:
        panel.catch_up(message)
    verdicts = read_verdicts(built, seen).query('labeller == @gallery.labeller')
    assert verdicts[['row', 'verdict']].to_numpy().tolist() == [
        [seen[0], 'real'],
        [seen[2], 'bogus'],
    ]
    panel.catch_up(dict(view='another', said=[dict(said[0], number=1)]))
    assert len(read_verdicts(built, seen).query('labeller == @gallery.labeller')) == 3


def test_the_name_on_the_screen_counts_where_its_message_is_late(built):
    gallery = ad.browse(built, page_size=3, labeller='anna')
    panel = GalleryPanel(gallery)
    panel.draw()
    rows = [int(row) for row in gallery.page_rows]
    press = dict(action='bogus', row=rows[0], seen=rows)
    panel.answer(dict(press, labeller='late name'))
    assert set(read_verdicts(built, rows)['labeller']) >= {'late name'}
    panel.guard(panel.answer)(dict(press, labeller=' '))
    assert 'who says so' in panel.message.value


def test_two_threads_answer_one_after_the_other(built):
    panel = GalleryPanel(ad.browse(built, page_size=3))
    inside, most = [], []

    def answer():
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()

    threads = [threading.Thread(target=panel.guard(answer)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_undo_takes_back_what_its_labeller_said(built):
    gallery = ad.browse(built, page_size=3, labeller='anna')
    panel = GalleryPanel(gallery)
    panel.draw()
    row = int(gallery.page_rows[0])
    panel.press(0, 'real')
    panel.press(0, 'bogus')
    panel.rename('ben')
    panel.undo()
    said = read_verdicts(built, [row])
    assert said[said['labeller'] == 'anna']['verdict'].iloc[-1] == 'real'
    assert 'ben' not in set(said['labeller'])
    assert 'real again' in panel.message.value
    panel.undo()
    assert 'unsure now' in panel.message.value


def test_a_turned_verdict_is_a_relabelled_sample_and_no_other(archive_with_verdict):
    show_diff = ad.widgets.show_diff

    old, new, turned = archive_with_verdict
    diff = new.diff(old)
    assert not set(turned) & set(diff.removed['detection_id'])
    assert not set(turned) & set(diff.added['detection_id'])
    view = show_diff(old, new)
    rows = view.changes.query('kind == "relabelled"')
    assert set(old.samples['detection_id'].iloc[rows['row_old']]) == set(turned)
    assert set(new.samples['detection_id'].iloc[rows['row_new']]) == set(turned)
    assert rows['words'].str.startswith('real → bogus').all()
    assert '2 relabelled' in repr(view) and view.html().count('<img') == 1
    assert repr(show_diff(new, new)).endswith(': none)')
    backwards = show_diff(new, old).changes.query('kind == "relabelled"')
    assert backwards['words'].str.startswith('bogus → real').all()


@pytest.fixture
def archive_with_verdict(tmp_path):
    archive = ad.synthetic_archive(tmp_path / 'turned', n_observations=2, n_sources=30)
    params = ad.TrainingDataCollectionParams(confidence_threshold=0.5, negatives={'rejected': 9})
    collector = ad.TrainingDataCollector(archive)

    def build():
        return collector.plan(params).build('turned', patch_size=16, progress=False, probe=False)

    old = build()
    rows = np.flatnonzero(old.samples['label'] == 1)[:2]
    for row in rows:
        write_verdict(old, int(row), 'bogus', 'ana')
    return old, build(), old.samples['detection_id'].iloc[rows].tolist()


@pytest.mark.parametrize('order', ['label', '-label', 'faintest', 'score', '-split'])
def test_a_blind_gallery_has_no_order_that_tells_the_label(built, order):
    with pytest.raises(BadInput, match='no order'):
        ad.browse(built, blind=True, order=order)


@pytest.mark.parametrize(
    'program',
    ["@pd.io.common.os.system('true')", "snr.to_csv('x')", '__import__("os")', 'snr.__class__', ''],
)
def test_a_question_is_no_program(built, program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if program:
        with pytest.raises(BadInput, match='where='):
            ad.browse(built, where=program)
    else:
        assert len(ad.browse(built, where=program).rows) == len(built)
    assert not list(tmp_path.iterdir())
