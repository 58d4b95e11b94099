"""Maps of the whole sky, beyond a hemisphere, at the poles and across RA 0: centre, extent, sources, catalogues and patches."""

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from sqlalchemy import select

import astrid_data as ad
from astrid_data.registry.tables import Observation, ObservationIndex

pytestmark = pytest.mark.filterwarnings('ignore')

# Projection, CRVAL, degrees a pixel, (ny, nx), and frame; the maps lie around CRVAL
MAPS = {
    'CAR of all the sky': ('CAR', (0, 0), 1, (180, 360), 'RA'),
    'CAR around 180': ('CAR', (180, 0), 1, (180, 360), 'RA'),
    'CAR beyond a hemisphere': ('CAR', (0, 0), 1, (60, 250), 'RA'),
    'AIT': ('AIT', (0, 0), 1, (165, 330), 'RA'),
    'AIT in galactic coordinates': ('AIT', (0, 0), 1, (165, 330), 'GLON'),
    'MOL': ('MOL', (120, 0), 1, (165, 330), 'RA'),
    'HPX': ('HPX', (0, 0), 1, (180, 360), 'RA'),
    'ZEA of a hemisphere': ('ZEA', (50, 90), 1, (180, 180), 'RA'),
    'ARC of all the sky': ('ARC', (50, 20), 2, (180, 180), 'RA'),
    'STG around the south': ('STG', (50, -90), 1, (250, 250), 'RA'),
    'SIN, a disk': ('SIN', (50, 20), 1, (130, 130), 'RA'),
    'TAN at the north pole': ('TAN', (10, 90), 0.01, (121, 121), 'RA'),
    'TAN beside the pole': ('TAN', (10, 89.8), 0.01, (121, 121), 'RA'),
    'TAN at the south pole': ('TAN', (200, -90), 0.01, (121, 121), 'RA'),
    'TAN across 0': ('TAN', (0, 10), 0.01, (121, 121), 'RA'),
    'TAN just before 360': ('TAN', (359.999, -60), 0.01, (121, 121), 'RA'),
    'CAR across 0': ('CAR', (0, 0), 0.01, (121, 121), 'RA'),
}
SMALL = [name for name, (_, _, scale, *_) in MAPS.items() if scale < 0.1]


def card_of(name):
    projection, (lon, lat), scale, (ny, nx), frame = MAPS[name]
    ends = ('GLON', 'GLAT') if frame == 'GLON' else ('RA', 'DEC')
    names = [f'{end:-<5}{projection}' for end in ends]
    header = fits.Header(dict(CTYPE1=names[0], CTYPE2=names[1], CRVAL1=lon, CRVAL2=lat))
    header.update(CRPIX1=(nx + 1) / 2, CRPIX2=(ny + 1) / 2, CDELT1=-scale, CDELT2=scale)
    header.update({'CUNIT1': 'deg', 'CUNIT2': 'deg', 'FILTER': 'r', 'EXPTIME': 60.0})
    header.update({'TELESCOP': 'X', 'DATE-OBS': '2020-01-01T00:00:00'})
    return header


def world(header, x, y):
    "RA and Dec by astropy alone"
    place = WCS(header).pixel_to_world(x, y).icrs
    return place.ra.deg, place.dec.deg


def made(name, path):
    "A map with stars on and off the sky; the pixels of those on it, and their places"
    header, (ny, nx) = card_of(name), MAPS[name][3]
    rng = np.random.default_rng(7)
    x, y = np.meshgrid(np.linspace(14, nx - 15, 6).round(), np.linspace(14, ny - 15, 5).round())
    x, y = x.ravel(), y.ravel()
    pixels = rng.normal(100, 3, (ny, nx))
    rows, columns = np.indices(pixels.shape)
    for one, other in zip(x, y):
        pixels += 900 * np.exp(-((columns - one) ** 2 + (rows - other) ** 2) / 3)
    fits.PrimaryHDU(pixels.astype('f4'), header).writeto(path)
    ra, dec = world(header, x, y)
    on_sky = np.isfinite(ra)
    return header, pd.DataFrame(dict(x=x, y=y, ra=ra, dec=dec))[on_sky].reset_index(drop=True)


@pytest.fixture(params=MAPS)
def taken_in(request, tmp_path):
    header, stars = made(request.param, tmp_path / 'map.fits')
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_fits(tmp_path / 'map.fits', show=False)
    assert report.added == 1 and report.ledger.empty, report.ledger.to_dict('records')
    return request.param, archive, header, stars


def test_the_circle_holds_the_map_and_not_much_more(taken_in):
    name, archive, header, _ = taken_in
    ny, nx = MAPS[name][3]
    with archive.session() as session:
        row = session.scalar(select(Observation))
        index = session.scalar(select(ObservationIndex))
        centre = SkyCoord(row.ra, row.dec, unit='deg')
        radius, footprint = index.radius_deg, index.footprint
    assert 0 <= centre.ra.deg < 360
    middle = SkyCoord(*world(header, (nx - 1) / 2, (ny - 1) / 2), unit='deg')
    assert centre.separation(middle).deg < 2 * MAPS[name][2]
    x, y = np.meshgrid(np.arange(nx), np.arange(ny))
    ra, dec = world(header, x.ravel(), y.ravel())
    on_sky = np.isfinite(ra)
    distance = centre.separation(SkyCoord(ra[on_sky], dec[on_sky], unit='deg')).deg
    assert distance.max() <= radius + 1e-6 and radius <= min(180, 1.2 * distance.max()) + 0.01
    assert (footprint is not None) == (name in SMALL)


def test_sources_have_the_places_of_the_sky_and_none_lies_off_it(taken_in):
    _, archive, _, stars = taken_in
    found = archive.detections()
    assert np.isfinite(found[['ra', 'dec']]).all(axis=None)
    bright = found.nlargest(len(stars), 'snr')
    gap = np.hypot(
        bright.pixel_x.to_numpy()[:, None] - stars.x.to_numpy(),
        bright.pixel_y.to_numpy()[:, None] - stars.y.to_numpy(),
    )
    assert gap.min(0).max() < 1
    places = SkyCoord(bright.ra, bright.dec, unit='deg')
    apart = places[gap.argmin(0)].separation(SkyCoord(stars.ra, stars.dec, unit='deg'))
    assert (apart.deg < 4).all()


def test_a_catalogue_finds_its_stars_and_patches_show_them(taken_in):
    name, archive, _, stars = taken_in
    table = stars[['ra', 'dec']].assign(id=[f's{k}' for k in range(len(stars))])
    report = archive.add_catalogue(table, 'stars', object_id='id', is_real=True)
    assert report.rows == len(stars) and report.ledger.empty
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0.0, quality_score_threshold=None, negatives={'random_sky': 0.3}
    )
    plan = ad.TrainingDataCollector(archive).plan(params, progress=False)
    version = plan.build('maps', patch_size=9, progress=False, probe=False)
    samples = version.samples
    ours = samples[samples['object_id'].astype(str).str.startswith('s', na=False)]
    assert len(ours) == len(stars)
    peak = version.patches()[:][ours.index].reshape(len(ours), -1)
    assert (peak.argmax(1) == 40).all()  # The star is in the middle


@pytest.mark.parametrize('cards', [{}, dict(CRPIX1=1.0, CRPIX2=1.0), dict(CRPIX1=0.0, CRPIX2=0.0)])
def test_default_values_are_still_no_position(tmp_path, cards):
    header = card_of('TAN across 0')
    header.update(dict(CRVAL2=0.0, CDELT1=1.0, CDELT2=1.0) | cards)
    path = tmp_path / 'a.fits'
    fits.PrimaryHDU(np.random.default_rng(0).normal(9, 1, (60, 60)), header).writeto(path)
    report = ad.open_archive(tmp_path / 'home').add_fits(path, show=False)
    assert list(report.ledger.reason) == ['bad_wcs']


def test_an_image_wholly_off_the_sky_is_refused(tmp_path):
    header = card_of('SIN, a disk')
    header.update(CRPIX1=2000.0, CRPIX2=2000.0)
    pixels = np.random.default_rng(0).normal(9, 1, (60, 60))
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / 'a.fits')
    report = ad.open_archive(tmp_path / 'home').add_fits(tmp_path / 'a.fits', show=False)
    assert list(report.ledger.reason) == ['bad_wcs']


def test_the_part_on_the_sky_tells_the_centre_where_the_middle_is_off_it(tmp_path):
    header = card_of('SIN, a disk')
    header.update(CRPIX1=5.0, CRPIX2=5.0)  # A quarter of the disk, and a corner off it
    header.update(CDELT1=-3.0, CDELT2=3.0)
    pixels = np.random.default_rng(0).normal(9, 1, (60, 60))
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / 'a.fits')
    archive = ad.open_archive(tmp_path / 'home')
    archive.add_fits(tmp_path / 'a.fits', show=False)
    row = archive.observations().iloc[0]
    centre = SkyCoord(row.ra, row.dec, unit='deg')
    assert centre.separation(SkyCoord(50, 20, unit='deg')) < 60 * u.deg
