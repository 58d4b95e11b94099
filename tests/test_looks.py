"Stretch, limits, colours and bands mixed into one picture, as pixels"

from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread
from test_widgets import loose

import astrid_data as ad
from astrid_data.core import BadInput
from astrid_data.display import COLOUR_MAPS, LIMITS, STRETCHES, Look, colour_png, patch_png
from astrid_data.widgets.gallery import Gallery, GalleryPanel

SKY, NOISE = 100.0, 5.0


def pixels(png):
    "A picture as numbers from 0 to 255, its first row at the bottom as in a patch"
    return np.round(imread(BytesIO(png))[::-1, :, :3] * 255).astype(int)


def star(height, side=32, seed=0):
    "A source in the middle of noise"
    y, x = np.indices((side, side)) - side // 2
    noise = np.random.default_rng(seed).normal(SKY, NOISE, (side, side))
    return noise + height * np.exp(-(x**2 + y**2) / 6)


@pytest.mark.parametrize('stretch', STRETCHES)
@pytest.mark.parametrize('limits', LIMITS)
def test_brighter_is_never_darker_and_both_ends_are_reached(stretch, limits):
    ramp = SKY + NOISE * np.linspace(-2, 30, 1024).reshape(32, 32)
    shown = pixels(patch_png(ramp, SKY, NOISE, Look(stretch, limits)))[..., 0].ravel()
    assert (np.diff(shown) >= 0).all() and shown[0] == 0 and shown[-1] == 255


def test_the_whole_range_shows_what_the_usual_look_cuts():
    patch = star(100)
    patch[2, 2] = 1e6
    usual, whole = (pixels(patch_png(patch, SKY, NOISE, Look(limits=k))) for k in ('noise', 'all'))
    assert usual[16, 16, 0] > 200 and whole[16, 16, 0] < 50
    assert usual[2, 2, 0] == whole[2, 2, 0] == 255


@pytest.mark.parametrize('colours', COLOUR_MAPS)
@pytest.mark.parametrize('limits', LIMITS)
def test_invalid_pixels_are_blue_under_every_look(colours, limits):
    patch = star(100)
    patch[:3] = np.nan
    shown = pixels(patch_png(patch, SKY, NOISE, Look('log', limits, colours)))
    assert (shown[:3] == (0x3B, 0x6E, 0xA5)).all()
    assert not (shown[3:] == (0x3B, 0x6E, 0xA5)).all(axis=-1).any()


@pytest.mark.parametrize('limits', LIMITS)
@pytest.mark.parametrize('value', [np.nan, 7.0])
def test_a_patch_that_is_one_value_can_be_drawn(limits, value):
    assert pixels(patch_png(np.full((8, 8), value), SKY, np.nan, Look('linear', limits))).shape


def test_colours_are_those_of_the_bands():
    bands = np.stack([star(400), star(10, seed=1), star(0, seed=2)])
    red, green, blue = pixels(colour_png(bands, [SKY] * 3, [NOISE] * 3))[16, 16]
    assert red > 200 and green < red / 4 and blue < red / 4
    bands[1, 5, 6] = np.nan
    shown = pixels(colour_png(bands, [SKY] * 3, [NOISE] * 3))
    assert not shown[5, 6].any() and shown[6, 5].all()


def test_a_bright_core_is_not_flat():
    core = pixels(colour_png(np.stack([star(4000)] * 3), [SKY] * 3, [NOISE] * 3))[16, 14:19, 0]
    assert core[2] > core[1] > core[0]


def test_three_channels_without_a_valid_pixel_are_black():
    assert not pixels(colour_png(np.full((3, 8, 8), np.nan), [SKY] * 3, [NOISE] * 3)).any()


def test_a_gallery_mixes_the_channels_that_are_named(tmp_path):
    dataset = loose(tmp_path, n=6, channels=('g', 'r', 'i'))
    plain = ad.browse(dataset, page_size=6)
    mixed = ad.browse(dataset, page_size=6, look=dict(rgb=('i', 'r', 'g')))
    assert (plain.html().count('<img'), mixed.html().count('<img')) == (18, 6)
    assert len(mixed.static().axes) == 6


@pytest.mark.parametrize(
    'look, words',
    [
        (dict(rgb=('z', 'r', 'g')), "no channel 'z'; it has g, r, i"),
        (dict(rgb=('r', 'g')), 'three channels, not 2'),
        (dict(stretch='cubic'), 'choose from asinh, linear, sqrt, log'),
        (dict(gamma=2), 'some of stretch, limits, colours, rgb'),
        ('log', 'pass a dict'),
    ],
)
def test_a_look_that_cannot_be_is_refused_at_once(tmp_path, look, words):
    dataset = loose(tmp_path, n=6, channels=('g', 'r', 'i'))
    with pytest.raises(BadInput, match=words):
        ad.browse(dataset, look=look)


def test_a_menu_changes_the_pictures_and_nothing_else(tmp_path):
    gallery = Gallery(loose(tmp_path), page_size=6, label='real')
    panel = GalleryPanel(gallery)
    panel.connect()
    panel.turn(2)
    panel.draw()
    rows, before = list(gallery.page_rows), panel.tiles[0].picture.value
    panel.looks['colours'].value = 'inverted'
    assert list(gallery.page_rows) == rows and gallery.page == 2
    assert panel.tiles[0].picture.value != before
    assert 'rgb' not in panel.looks  # One channel: nothing to mix


def dated(dataset, days):
    "A map of a dataset whose samples have these days"
    coverage = ad.show_coverage(dataset, colour='mjd', field=0)
    coverage.points['mjd'] = days
    return coverage.static()


def test_a_map_by_date_has_one_scale_and_says_what_is_unknown(tmp_path):
    dataset = loose(tmp_path, n=50, mjd=59000.0)
    days = 59000.5 + np.arange(50.0)
    days[:10] = np.nan
    axes, bar = dated(dataset, days).axes
    assert [text.get_text() for text in bar.get_yticklabels()] == ['2020-06-10', '2020-07-19']
    assert axes.get_legend().get_texts()[0].get_text() == 'unknown (10)'
    assert len(axes.collections[0].get_offsets()) == 40


def test_few_numbers_are_kinds_and_no_scale(tmp_path):
    days = np.repeat([59000.0, 59001.0], 25)
    (axes,) = dated(loose(tmp_path, n=50, mjd=59000.0), days).axes
    assert [line.get_label() for line in axes.lines][:2] == ['59000.0 (25)', '59001.0 (25)']


def test_a_colour_that_is_no_column_is_refused(tmp_path):
    with pytest.raises(BadInput, match="colour='hue' is no column of the samples: choose from"):
        ad.show_coverage(loose(tmp_path), colour='hue')
