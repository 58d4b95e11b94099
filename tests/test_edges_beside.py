"Planes in files of their own: whoever changes one has changed the image"

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from awkward import header, sky

import astrid_data as ad
from astrid_data.core import AstridError, BadImage
from astrid_data.images.image import open_image
from astrid_data.ingest.archive import open_archive
from astrid_data.registry.tables import Image

pytestmark = pytest.mark.filterwarnings('ignore')


def write_mask(path, bad_from=None):
    mask = np.zeros(sky(3).shape, 'u1')
    mask[:, bad_from:] = bad_from is not None
    fits.PrimaryHDU(mask).writeto(path, overwrite=True)


@pytest.fixture
def field(tmp_path):
    "An image with a mask in a file of its own, taken in"
    cards = header(FILTER='r', TELESCOP='T', **{'DATE-OBS': '2020-01-01T00:00:00'})
    fits.PrimaryHDU(sky(3), cards).writeto(tmp_path / 'a.fits')
    write_mask(tmp_path / 'a_mask.fits')
    archive = open_archive(tmp_path / 'archive')
    report = archive.add_fits(tmp_path, survey='s', show=False)
    assert (report.added, report.helpers) == (1, 1)
    return archive, tmp_path / 'a.fits', tmp_path / 'a_mask.fits'


def again(archive, path, **kw):
    return archive.add_fits(path.parent, survey='s', show=False, **kw)


def facts_of(archive):
    with archive.session() as session:
        return session.query(Image).one().facts


def forget_hashes(archive):
    "As an archive that was made before planes had hashes"
    with archive.session() as session:
        row = session.query(Image).one()
        row.facts = {name: row.facts[name] for name in row.facts if name != 'beside_sha256'}


def test_the_hash_of_a_plane_is_kept_only_where_there_is_one(field, tmp_path):
    archive, _, _ = field
    assert set(facts_of(archive)['beside_sha256']) == {'dq'}
    alone = open_archive(tmp_path / 'alone')
    alone.add_fits(tmp_path / 'a.fits', survey='s', show=False)
    assert 'beside_sha256' not in facts_of(alone)


def test_another_mask_is_said_when_it_is_taken_in_again(field):
    archive, path, mask = field
    assert again(archive, path).skipped == 1
    write_mask(mask, 30)
    report = again(archive, path, always_hash=True)
    assert list(report.ledger.reason) == ['changed'] and report.skipped == 0
    before = facts_of(archive)['beside_sha256']
    anew = again(archive, path, changed='anew')
    assert len(anew.ledger) == 0 and facts_of(archive)['beside_sha256'] != before
    assert again(archive, path, always_hash=True).skipped == 1


def test_an_image_is_not_opened_with_another_mask(field):
    archive, path, mask = field
    uri = path.resolve().as_uri()
    archive.open(uri, dq=mask).close()
    write_mask(mask, 30)
    with pytest.raises(BadImage, match='dq plane') as problem:
        archive.open(uri, dq=mask)
    assert problem.value.reason == 'changed'
    archive.open(uri, dq=mask, changed='open').close()
    assert list(archive.detect(show=False, nsigma=7).ledger.reason) == ['changed']


def test_an_archive_of_before_opens_as_it_did(field):
    archive, path, mask = field
    forget_hashes(archive)
    write_mask(mask, 30)
    archive.open(path.resolve().as_uri(), dq=mask).close()
    assert again(archive, path, always_hash=True).skipped == 1


def plan_of(archive, path):
    with open_image(path) as image:
        ra, dec = image.pixel_to_world(np.array([24.0, 60.0, 40.0]), np.array([30.0, 50.0, 60.0]))
    archive.add_catalogue(pd.DataFrame(dict(ra=ra, dec=dec)), 'c', valid=True)
    params = ad.TrainingDataCollectionParams(
        confidence_threshold=0, negatives={}, quality_score_threshold=None
    )
    return ad.TrainingDataCollector(archive).plan(params, progress=False)


def test_nothing_is_cut_with_another_mask_and_a_rebuild_names_it(field):
    archive, path, mask = field
    plan = plan_of(archive, path)
    built = plan.build('v', patch_size=16, progress=False, probe=False)
    same = built.rebuild(progress=False)
    assert same.same and not len(same.files)
    write_mask(mask, 50)
    with pytest.raises(AstridError, match='changed'):  # All samples are lost
        plan.build('w', patch_size=16, progress=False, probe=False)
    changed = built.rebuild(progress=False)
    assert not changed.same and list(changed.files.uri) == [mask.resolve().as_uri()]
