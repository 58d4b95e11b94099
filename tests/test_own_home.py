"What an archive keeps in its home is no delivery, in whatever folder the home lies"

import numpy as np
import pytest

import astrid_data as ad

SIDE = 24


@pytest.mark.parametrize('home', ['.', 'home', 'deep/er'])
def test_what_an_archive_keeps_does_not_come_in_again(tmp_path, home):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, SIDE, SIDE)).astype('f4')
    mjd = 59000.0 + np.arange(40)
    np.savez(tmp_path / 'mine.npz', image=images, ra=10.0 + mjd % 40, dec=mjd % 40, mjd=mjd)
    archive = ad.open_archive(home=tmp_path / home)
    first = archive.add_stamps(tmp_path, 'mine', is_real=True, show=False)
    assert first.added == 40 and first.ledger.empty
    stored = {path for path in (tmp_path / home).rglob('*') if path.is_file()}
    assert len(stored) > 2  # The registry and packs of stamps
    again = archive.add_stamps(tmp_path, 'mine', is_real=True, show=False)
    assert again.added == 0 and again.skipped == 40 and again.ledger.empty
