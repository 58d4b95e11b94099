"Drawn sky lies in the part of the sky that was asked for"

import hashlib
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import astrid_data as ad
from astrid_data.collect import collector
from astrid_data.collect.negatives import sky_part
from astrid_data.collect.params import TrainingDataCollectionParams as Params
from astrid_data.quality.shortcuts import check_shortcuts
from astrid_data.sky import healpix_index
from astrid_data.sky_regions import CellSampler, common_ranges

CENTRE = np.array([43.4, 60.4])  # Of the regions; the image reaches much farther
CORNERS = [(43.3, 60.35), (43.5, 60.35), (43.5, 60.45), (43.3, 60.45)]
CELLS = [int(healpix_index(*CENTRE, 10))]  # 3.4 arcmin wide
REGIONS = dict(
    cone=(*CENTRE.tolist(), 0.05),
    box=(43.3, 43.5, 60.35, 60.45),
    polygon=CORNERS,
    moc={10: CELLS},
)


def _image(path, n=1000, scale_deg=5 / 3600):
    "An image of 1.4 deg whose corner of the catalogue is a hundredth of it"
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = CENTRE + [0.8, 0.4]
    wcs.wcs.crpix = n / 2 + 0.5, n / 2 + 0.5
    wcs.wcs.cdelt = -scale_deg, scale_deg
    header = wcs.to_header()
    header['DATE-OBS'] = '2020-01-01T00:00:00'
    pixels = np.random.default_rng(1).normal(0, 1, (n, n)).astype('f4')
    fits.PrimaryHDU(pixels, header).writeto(path)


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    "One image, and a catalogue that covers a corner of it"
    folder = tmp_path_factory.mktemp('region')
    _image(folder / 'wide.fits')
    archive = ad.open_archive(folder / 'home')
    archive.add_fits(folder / 'wide.fits', show=False)
    across = np.linspace(-0.04, 0.04, 7)
    dec, ra = (axis.ravel() for axis in np.meshgrid(across, across * 2))
    table = pd.DataFrame(dict(ra=CENTRE[0] + ra, dec=CENTRE[1] + dec))
    table.to_csv(folder / 'stars.csv', index=False)
    archive.add_catalogue(folder / 'stars.csv', 'stars', ra='ra', dec='dec', is_real=True)
    return archive


def _plan(archive, executor=None, **asked):
    usual = dict(
        confidence_threshold=None,
        exclusion_arcsec=6.0,
        negatives={'random_sky': 1, 'offset': 1},
    )
    params = Params(**{**usual, **asked})
    with archive.session() as session:
        return collector.make_plan(session, params, archive, show=False, executor=executor)


@pytest.mark.parametrize('check_pixels', [True, False])
@pytest.mark.parametrize('name', REGIONS)
def test_sky_lies_in_the_region(archive, name, check_pixels):
    plan = _plan(archive, **{name: REGIONS[name]}, check_pixels=check_pixels)
    part = sky_part(plan.params)
    assert part.contains(plan.samples['ra'], plan.samples['dec']).all()
    count = plan.samples['kind'].value_counts()
    assert not plan.shortfall
    assert count['random_sky'] == count['offset'] == count['positive'] > 0


@pytest.mark.parametrize('check_pixels', [True, False])
def test_two_regions_hold_both(archive, check_pixels):
    both = dict(cone=REGIONS['cone'], box=(43.4, 43.5, 60.3, 60.5))
    plan = _plan(archive, **both, check_pixels=check_pixels)
    assert sky_part(plan.params).contains(plan.samples['ra'], plan.samples['dec']).all()
    assert not plan.shortfall


@pytest.mark.parametrize('check_pixels', [True, False])
def test_a_hair_of_an_image_is_found(archive, check_pixels):
    "A cone of 12 arcsec is 0.002 % of the image: draws from all of it would miss it"
    plan = _plan(archive, cone=(*CENTRE.tolist(), 12 / 3600), check_pixels=check_pixels)
    assert (plan.samples['kind'] == 'random_sky').sum() == 1
    assert not plan.shortfall


def test_sky_fills_the_region(archive):
    "Evenly: a quarter of the draws lie within half the radius"
    plan = _plan(archive, cone=REGIONS['cone'], negatives={'random_sky': 10})
    sky = plan.samples[plan.samples['kind'] == 'random_sky']
    half = (*CENTRE.tolist(), 0.025)
    within = sky_part(Params(cone=half)).contains(sky['ra'], sky['dec'])
    assert len(sky) > 250
    assert 0.15 < within.mean() < 0.35


@pytest.mark.parametrize('check_pixels', [True, False])
def test_no_free_sky_in_the_region_is_told(archive, check_pixels):
    cone = (*CENTRE.tolist(), 0.01)
    plan = _plan(archive, cone=cone, exclusion_arcsec=120, check_pixels=check_pixels)
    short = plan.shortfall['random_sky']
    assert short['got'] == 0
    assert short['reason'] == 'too little free valid sky in the images within the cone asked for'
    assert 'within the cone asked for' in str(plan)


def test_processes_draw_the_same(archive):
    "The part goes with the job into another process"
    asked = {name: REGIONS[name] for name in ('cone', 'polygon', 'moc')}
    here = _plan(archive, **asked).samples
    with ProcessPoolExecutor(1) as pool:
        there = _plan(archive, pool, **asked).samples
    pd.testing.assert_frame_equal(here, there)


def test_an_image_within_the_region_draws_as_without(archive):
    wide = _plan(archive, cone=(*CENTRE.tolist(), 5)).samples
    free = _plan(archive).samples
    assert wide['sample_key'].tolist() == free['sample_key'].tolist()


@pytest.mark.parametrize('check_pixels', [True, False])
def test_without_a_region_nothing_moved(archive, check_pixels):
    "The draws of versions that did not know of parts; a symmetric image gives both ways the same"
    samples = _plan(archive, check_pixels=check_pixels).samples
    text = '\n'.join(samples['sample_key'])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == 'ba292cbf27e7ee0e'


ranges = np.array([[0, 3], [5, 6], [9, 20]])


@pytest.mark.parametrize('other', [[[0, 30]], [[3, 5]], [[2, 10], [12, 13]], [[30, 40]]])
def test_common_ranges_are_common_cells(other):
    def cells(these):
        return {cell for first, end in these for cell in range(first, end)}

    both = common_ranges(ranges, np.array(other))
    assert cells(both.tolist()) == cells(ranges.tolist()) & cells(other)
    assert (both[:, 1] > both[:, 0]).all()


def test_cells_are_drawn_evenly():
    rng = np.random.default_rng(0)
    sampler = CellSampler([np.array([[7, 8]]), ranges])
    region = np.ones(15_000, int)
    cell = healpix_index(*sampler(region, rng.random(15_000), rng.random(15_000)), 14)
    count = np.bincount(cell, minlength=20)
    assert (count[ranges[0, 0] : 3] > 900).all() and count[[3, 4, 6, 7, 8]].sum() == 0
    assert count[9:20].min() > 900 and count.max() < 1100


@pytest.mark.parametrize(
    ('kind', 'cause', 'told'),
    [
        ('random_sky', 'dec', True),
        ('rejected', 'dec', False),
        ('random_sky', 'mjd', False),
    ],
)
def test_a_shortcut_by_position_says_what_to_do(kind, cause, told):
    causes = [dict(names=[cause], alone=1.0, cost=0.5)]
    probe = dict(auc=1.0, limit=0.6, error=0.01, causes=causes)
    samples = pd.DataFrame(dict(kind=['positive', kind]))
    message = check_shortcuts(samples, probe)[0].message
    assert ('cone=' in message and 'catalogue is smaller' in message) == told
