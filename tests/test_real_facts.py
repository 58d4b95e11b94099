"""What all the real files beside the project are taken for: role, survey, band, time, unit, zero point and planes,
as their headers say them. The files are not part of the repository; where they are missing the tests are skipped."""

import numpy as np
import pytest
from sqlalchemy import select

import astrid_data as ad
from astrid_data.registry.tables import Image, Observation, Survey

pytestmark = pytest.mark.filterwarnings('ignore')
FOLDERS = ('hst', 'jwst', 'skyview', 'ground', 'traps')
LOST = {  # Name -> reason, of all that is no observation and no plane of one
    'cosmos_hsc_grizy_a.fits': 'ambiguous_hdu',
    'FinalDifference.fits.gz': 'helper_file',
    'kids_r_G278109_segim.fits.gz': 'helper_file',
    'ccd_raw_no_wcs_a8280271.fits.gz': 'no_wcs',
    'jwst_star_dummy_wcs.fits': 'bad_wcs',
    'sdss_stale_wcs_r.fits.gz': 'bad_wcs',
    'truncated_header_m51hst.fits.gz': 'truncated',
}
# Beginning of a name: survey, band, MJD (UTC), what that means, unit, AB zero point; as read in the headers
FACTS = {
    'hst/47tuc_acs_hrc': ('hst', 'F606W', 52377.86137, 'start', 'ELECTRONS', 30.421),
    'hst/47tuc_acs_dist': ('hst', 'F606W', None, None, 'ELECTRONS', None),  # By PHOTMODE
    'hst/cosmos_acs_f814w_100610': ('hst', 'F814W', 53125.44718, 'start', 'electron/s', 25.936),
    'hst/cosmos_acs_f814w_a': ('unknown', 'unknown', 53077, None, None, None),
    'hst/goodss': ('unknown', 'unknown', 55816.76554, 'start', None, None),
    'hst/n5419': ('hst', 'F555W', 50655.5696, 'start', None, None),
    'hst/xdf_hudf_wfc3ir_f105w': ('hst', 'F105W', None, None, 'ELECTRONS/S', None),
    'jwst/a2744_nircam_f200w_epoch1': ('jwst', 'F200W', None, None, 'MJy/sr', 28.029),
    'skyview/2mass_k': ('2mass', 'K', None, None, None, 19.976),
    'skyview/dss_acen': ('dss', 'J', 42848.73472, 'start', None, None),
    'skyview/dss_hd': ('dss', 'E', None, None, None, None),  # T09:60:00
    'skyview/rosat': ('rosat', '0.1-2.4 keV', None, None, 'cts/s/pixel', None),
    'skyview/sdss_g': ('sdss', 'g', 51814.11821, 'start', 'nanomaggy', 22.5),
    'skyview/wise': ('wise', 'W3', None, None, 'DN', None),
    'ground/cfht': ('cfht', 'g', 53582.41332, 'start', None, None),
    'ground/decam_tc4/tc4_c4d_170329': ('decam', 'g', 57841.1939, 'start', None, 30.036),
    'ground/decam_transient/DEC-OBS04a': ('decam', 'i', 58334.39134, 'start', None, None),
    'ground/decam_transient/DEC-OBS18a': ('decam', 'i', None, None, None, None),  # Later than DATE
    'ground/sdss_r_ic': ('sdss', 'r', 52789.14944, 'start', 'DNs', None),
    'ground/snhost_des_g': ('des', 'g', 56545.3782, 'start', 'electrons', 30.0),
    'ground/snhost_ps1_r': ('ps1', 'r', 56028.94764, 'start', None, 32.143),  # TAI, 34 s earlier
    'ground/spitzer': ('spitzer', 'I1', 54280.1358, 'start', 'MJy/sr', 20.034),
    'ground/ukidss': ('ukidss', 'K', 54384.55006, 'start', None, None),  # MAGZPT needs the gain
    'ground/vista_h': ('vista', 'H', 55139.19443, 'start', None, None),  # By the exposure's name
    'traps/tnx': ('unknown', 'z', 53944.08984, 'start', None, None),
}
PLANES = {  # Beginning of a name -> which planes say what is bad
    'ground/decam_tc4/': 'decam+weight',
    'ground/kids_r_G278109_fitim': 'nonzero',
    'ground/pysersic': 'weight',
    'ground/sdss_r_n3073': 'nonzero',
    'ground/snhost_des': 'weight',
    'hst/47tuc_acs_hrc': 'hst/acs',
    'hst/xdf': 'error',
}


@pytest.fixture(scope='module')
def taken(shared_data, tmp_path_factory):
    "The report, and a dict for each image: its name, its row and its observation"
    archive = ad.open_archive(tmp_path_factory.mktemp('real'))
    report = archive.add_fits([shared_data / f for f in FOLDERS], show=False, detect=False)
    query = select(Image, Observation, Survey.name).join(
        Observation, Observation.id == Image.observation_id
    )
    with archive.session() as session:
        rows = session.execute(query.join(Survey, Survey.id == Observation.survey_id)).all()
        session.expunge_all()
    start = shared_data.resolve().as_uri() + '/'
    return report, [
        (image.uri.removeprefix(start), image, seen, survey) for image, seen, survey in rows
    ]


def of(taken, beginning):
    found = [one for one in taken[1] if one[0].startswith(beginning)]
    assert found, beginning
    return found


def test_all_files_are_images_planes_of_them_or_in_the_ledger(taken, shared_data):
    report, images = taken
    lost = {uri.rpartition('/')[2].partition('[')[0] for uri in report.ledger['uri']}
    reasons = dict(
        zip(
            (u.rpartition('/')[2].partition('[')[0] for u in report.ledger['uri']),
            report.ledger['reason'],
        )
    )
    assert reasons == LOST and len(report.ledger) == len(LOST)
    files = [p for folder in FOLDERS for p in (shared_data / folder).rglob('*') if '.fit' in p.name]
    names = {name.rpartition('/')[2] for name, *_ in images}
    assert len(files) == len(names) + report.helpers + len(lost)


def test_no_mask_weight_or_error_is_taken_for_sky(taken):
    words = ('_ood_', '_oow_', '_rms', '_segim', '_mskim', '_mask')
    assert not [name for name, *_ in taken[1] if any(word in name for word in words)]
    decam = [image for _, image, _, _ in of(taken, 'ground/decam_tc4/')]
    assert len(decam) == 5 and all(set(one.facts['beside']) == {'dq', 'weight'} for one in decam)


@pytest.mark.parametrize('beginning', PLANES)
def test_the_planes_beside_an_image_are_used(taken, beginning):
    assert {image.dq_policy for _, image, *_ in of(taken, beginning)} == {PLANES[beginning]}


@pytest.mark.parametrize('beginning', FACTS)
def test_facts_are_those_of_the_header(taken, beginning):
    for _, image, seen, survey in of(taken, beginning):
        *words, mjd, meaning, unit, zero_point = FACTS[beginning]
        assert [survey, seen.filter_band] == words
        assert (image.unit, image.mjd_meaning) == (unit, meaning)
        for number, right, limit in ((image.mjd, mjd, 1e-5), (image.zero_point, zero_point, 1e-3)):
            assert number is right or abs(number - right) < limit, number
        assert image.mjd is None or image.mjd_scale == 'utc'


def test_what_is_not_known_has_a_reason(taken):
    for name, image, *_ in taken[1]:
        for fact in ('mjd', 'unit', 'zero_point'):
            known = getattr(image, fact) is not None and np.size(getattr(image, fact))
            assert known or image.facts['missing'][fact], f'{name}: {fact}'
