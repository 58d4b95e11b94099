"Right ascension 0 is 0 wherever it is stored, and never 360"

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from awkward import header, sky

from astrid_data.ingest.archive import open_archive
from astrid_data.ingest.catalogue_places import _SWAPPED, _other_readings
from astrid_data.ingest.matching import track_position
from astrid_data.ingest.stamp_records import record_place
from astrid_data.ingest.when import _moved
from astrid_data.sky import as_ra
from astrid_data.sky_regions import as_polygon

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.mark.parametrize('angle', [-1e-15, 0.0, 360.0, 720.0, -360.0, np.nextafter(0, -1)])
def test_an_angle_next_to_zero_is_zero(angle):
    assert as_ra(angle) == 0
    assert as_polygon([(angle, 0), (1, 0), (1, 1)])[0][0] == 0


def test_rounding_comes_before_the_turn():
    assert as_ra([359.9999999999, 359.9], 9).tolist() == [0, 359.9]


def test_an_image_and_its_detections_at_zero(tmp_path):
    ny, nx = sky(3).shape
    place = dict(CRVAL1=0.0, CRVAL2=2.0, CRPIX1=nx / 2 + 0.5, CRPIX2=ny / 2 + 0.5)
    fits.PrimaryHDU(sky(3), header(**place)).writeto(tmp_path / 'a.fits')
    archive = open_archive(tmp_path / 'archive')
    archive.add_fits(tmp_path / 'a.fits', survey='s', show=False)
    ra = archive.observations().ra.to_numpy()
    assert len(ra) == 1 and (0 <= ra[0] < 360) and min(ra[0], 360 - ra[0]) < 1e-6
    found = archive.detections().ra.to_numpy()
    assert ((found >= 0) & (found < 360)).all()


JUST_BELOW = -1e-15  # (deg); its remainder of 360 is 360


def of_a_record():
    return record_place({'ra': JUST_BELOW, 'dec': 2.0}, {'ra': 'ra', 'dec': 'dec'})[0]


def of_a_track():
    return track_position([0, 1], [JUST_BELOW] * 2, [2.0, 2.0], [0.5], 2)[0][0]


def of_a_motion():
    return _moved(np.zeros(1), np.zeros(1), np.array([[-1e-10, 0.0]]))[0][0]


def of_interchanged_coordinates():
    return _other_readings(np.array([2.0]), np.array([JUST_BELOW]))[_SWAPPED][0][0]


@pytest.mark.parametrize(
    'place', [of_a_record, of_a_track, of_a_motion, of_interchanged_coordinates]
)
def test_a_place_just_below_zero_is_zero(place):
    assert 0 <= place() < 1e-12


def test_a_stamp_just_below_zero_is_stored_at_zero(tmp_path):
    archive = open_archive(tmp_path / 'archive')
    rows = pd.DataFrame(dict(ra=[JUST_BELOW], dec=[2.0], mjd=[60000.0], name=['a']))
    archive.add_stamps(sky(3)[None, :21, :21], table=rows, survey='s', show=False)
    for table in (archive.observations(), archive.detections()):
        assert len(table) and (table.ra < 360).all() and (table.ra >= 0).all()
