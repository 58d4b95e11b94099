"The shade of a region is where the region is, also over poles and RA 0."

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy_healpix import lonlat_to_healpix, neighbours

from astrid_data.sky import plane_offsets
from astrid_data.sky_regions import in_moc
from astrid_data.widgets.coverage import _shade_field, _shade_sky


@pytest.mark.parametrize('centre', [(150.0, 2.0), (0.01, -60.0), (359.99, 89.95), (45.0, -89.99)])
@pytest.mark.parametrize('order', [4, 9, 12])
def test_the_shade_is_where_the_region_is(centre, order):
    cell = int(lonlat_to_healpix(*centre * u.deg, 2**order, order='nested'))
    beside = neighbours(cell, 2**order, order='nested')
    moc = {order: [cell, *beside[beside >= 0][::2].tolist()]}
    figure, ax = plt.subplots()
    half = 60 * 60 / 2**order
    ax.set(xlim=(half, -half), ylim=(-half, half))
    _shade_field(ax, moc, centre)
    (shade,) = ax.collections

    rng = np.random.default_rng(0)
    angle, distance = rng.uniform(0, 360, 2000), half * np.sqrt(rng.uniform(0, 1, 2000))
    there = SkyCoord(*centre, unit='deg').directional_offset_by(angle * u.deg, distance * u.arcmin)
    there = there.ra.deg, there.dec.deg
    points = np.stack(plane_offsets(*there, centre), axis=1)
    drawn = np.any([path.contains_points(points) for path in shade.get_paths()], axis=0)
    inside = in_moc(*there, moc)
    assert 0.05 < inside.mean() and (drawn != inside).mean() < 0.02
    plt.close(figure)


@pytest.mark.parametrize('place', [(10.0, 20.0), (181.0, -5.0), (300.0, 85.0), (0.0, -89.9)])
def test_a_small_region_is_seen_on_the_map_of_the_sky(place):
    cell = int(lonlat_to_healpix(*place * u.deg, 2**12, order='nested'))
    figure, ax = plt.subplots(subplot_kw=dict(projection='mollweide'))
    _shade_sky(ax, {12: [cell]})
    drawn = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    east = -np.radians((place[0] + 180) % 360 - 180)
    assert np.abs(drawn[:, 1] - np.radians(place[1])).min() < np.radians(1.5)
    away = np.abs((drawn[:, 0] - east + np.pi) % (2 * np.pi) - np.pi)
    assert (away * np.cos(np.radians(place[1]))).min() < np.radians(1.5)
    plt.close(figure)
