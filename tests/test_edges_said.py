"""What is odd in a delivery is said with the question that settles it: masks that take all away, exposures as text."""

import numpy as np
import pytest
from astropy.io import fits
from test_boundaries_confirm import SIDE, Shot

from astrid_data.images.headers import read_header_facts
from astrid_data.images.image import open_image
from astrid_data.ingest.archive import open_archive

pytestmark = pytest.mark.filterwarnings('ignore')


def delivered(folder, n_good):
    "An image and a mask beside it that leaves some rows"
    shot, mask = Shot(), np.ones((SIDE, SIDE), 'u1')
    mask[:n_good] = 0
    fits.PrimaryHDU(shot.image(), shot.header()).writeto(folder / 'e1.fits')
    fits.PrimaryHDU(mask, shot.header()).writeto(folder / 'e1_mask.fits')
    return sorted(folder.glob('*.fits'))


def test_a_mask_beside_an_image_that_leaves_nearly_nothing_is_asked_about(tmp_path):
    files = delivered(tmp_path, n_good=10)
    report = open_archive(tmp_path / 'home').add_fits(files, show=False)
    said = [note for note in report.notes if 'does it mark the good ones?' in note]
    assert len(said) == 1 and 'e1.fits' in said[0] and 'dq_policy=' in said[0]
    with open_image(files[0], dq=files[1]) as image:
        assert 'does it mark the good ones?' in image.notes['dq'] and image.bad[20:].all()
    with open_image(files[0], dq=files[1], dq_policy='nonzero') as image:
        assert 'dq' not in image.notes  # The caller has said so


def test_a_mask_that_leaves_most_is_not(tmp_path):
    files = delivered(tmp_path, n_good=SIDE - 30)
    report = open_archive(tmp_path / 'home').add_fits(files, show=False)
    assert not [note for note in report.notes if 'good ones' in note]


def exposure(value):
    facts = read_header_facts(fits.Header(dict(EXPTIME=value)))
    return facts['exposure_s'], facts['missing'].get('exposure_s')


@pytest.mark.parametrize(
    'text, seconds',
    [('600 sec', 600), ('60,5', 60.5), ('2 min', 120), ('1.5E2', 150), ('30 s.', 30)],
)
def test_an_exposure_may_be_a_text(text, seconds):
    assert exposure(text) == (seconds, None)


@pytest.mark.parametrize('value', ['1,200', '00:10:00', 'N/A', 0.0, -1.0])
def test_what_is_no_exposure_is_named(value):
    assert exposure(value) == (None, f'EXPTIME = {value!r} is no time above 0')
