"Images in ASDF, as Roman sends them, through the same door as FITS"

import sys

import numpy as np
import pytest
from astropy import coordinates as coord
from astropy import units as u
from astropy.modeling import models
from astropy.time import Time

import astrid_data as ad
from astrid_data.core import BadImage
from astrid_data.images.asdf_files import asdf_as_fits
from astrid_data.images.image import open_image

asdf = pytest.importorskip('asdf', reason='the extra asdf is not installed')
gwcs = pytest.importorskip('gwcs', reason='the extra asdf is not installed')

N = 200
DEAD = 1 << 10
DO_NOT_USE = 1


def pointing():
    "0.11 arcsec pixels on a tangent plane"
    chain = models.Shift(-N / 2) & models.Shift(-N / 2)
    chain |= models.Scale(-0.11 / 3600) & models.Scale(0.11 / 3600)
    chain |= models.Pix2Sky_TAN() | models.RotateNative2Celestial(269.5, -29.0, 180)
    frames = gwcs.coordinate_frames
    detector = frames.Frame2D(name='detector', unit=(u.pix, u.pix))
    sky = frames.CelestialFrame(reference_frame=coord.ICRS(), name='world')
    return gwcs.WCS([(detector, chain), (sky, None)])


def pretend(path, **meta):
    "A pretend image of Roman with nine sources, one pixel not to be used, and one dead one"
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:N, :N]
    data = rng.normal(1, 0.05, (N, N))
    for row in (40, 100, 160):
        for column in (40, 100, 160):
            data += 20 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 5)
    dq = np.zeros((N, N), 'u4')
    dq[7, 9], dq[8, 9] = DO_NOT_USE, DEAD
    facts = dict(
        telescope='ROMAN',
        instrument=dict(name='WFI', detector='WFI01', optical_element='F158'),
        exposure=dict(start_time=Time('2027-03-01T05:00:00'), exposure_time=139.8),
        wcs=pointing(),
    )
    tree = dict(meta=facts | meta, data=data.astype('f4'), dq=dq, err=np.full((N, N), 0.05, 'f2'))
    asdf.AsdfFile(dict(roman=tree)).write_to(path)
    return tree


def test_an_asdf_file_is_the_image_that_its_fits_is(tmp_path):
    "Pixels, validity, place and facts are those of the tree and of the same image in FITS"
    tree = pretend(tmp_path / 'a.asdf')
    (tmp_path / 'a.fits').write_bytes(asdf_as_fits((tmp_path / 'a.asdf').read_bytes(), 'a'))
    with open_image(tmp_path / 'a.asdf') as one, open_image(tmp_path / 'a.fits') as other:
        (pixels, valid), (same, same_valid) = ((i.read_all()[:2]) for i in (one, other))
        assert np.array_equal(pixels, same, equal_nan=True)
        assert np.array_equal(valid, same_valid)
        good = np.isfinite(pixels)
        assert not good[7, 9] and good.sum() == N * N - 1  # A dead pixel is a flag, as for JWST
        assert np.array_equal(pixels[good], tree['data'][good])
        assert (one.facts['band'], one.facts['mission']) == ('F158', 'roman')
        place = one.wcs.all_pix2world([[12.0, 34.0]], 0)[0]
        assert np.allclose(place, pointing()(12.0, 34.0), atol=1e-8)


def test_a_folder_of_asdf_comes_in(tmp_path):
    "With sources, a time and a band; again, it is known"
    (tmp_path / 'in').mkdir()
    pretend(tmp_path / 'in' / 'r0000101001_01_wfi01_f158_cal.asdf')
    archive = ad.open_archive(tmp_path / 'home')
    report = archive.add_fits(tmp_path / 'in', origin='synthetic', show=False)
    assert (report.added, len(report.lost)) == (1, 0)
    assert report.detections >= 9
    row = archive.observations().iloc[0]
    assert row.survey == 'roman' and row.band == 'F158'
    assert str(row.observation_time).startswith('2027-03-01 05:00:00')
    assert archive.add_fits(tmp_path / 'in', origin='synthetic', show=False).skipped == 1


def test_a_ramp_and_a_cut_file_cost_themselves_alone(tmp_path):
    "Each is in the ledger with its reason, and the good one is there"
    pretend(tmp_path / 'good.asdf')
    whole = (tmp_path / 'good.asdf').read_bytes()
    (tmp_path / 'cut.asdf').write_bytes(whole[:-5000])
    ramp = dict(roman=dict(meta=dict(telescope='ROMAN'), data=np.zeros((3, 8, 8), 'u2')))
    asdf.AsdfFile(ramp).write_to(tmp_path / 'ramp_uncal.asdf')
    report = ad.open_archive(tmp_path / 'home').add_fits(
        [str(tmp_path / f'{name}.asdf') for name in ('cut', 'ramp_uncal', 'good')],
        origin='synthetic',
        show=False,
    )
    assert report.added == 1
    assert sorted(lost[1] for lost in report.lost) == ['no_image', 'truncated']


def test_without_the_library_it_says_what_to_do(tmp_path, monkeypatch):
    "The file is in the ledger with the extra's name"
    pretend(tmp_path / 'a.asdf')
    monkeypatch.setitem(sys.modules, 'asdf', None)
    report = ad.open_archive(tmp_path / 'home').add_fits(tmp_path / 'a.asdf', show=False)
    ((_, reason, words),) = [lost[:3] for lost in report.lost]
    assert reason == 'no_reader' and 'astrid_data[asdf]' in words


_REST = 'shape: [4, 4], byteorder: big'
_ELSEWHERE = {
    'an array with its type': f"!core/ndarray-1.1.0 {{source: '%s', datatype: float32, {_REST}}}",
    'an array without': f"!core/ndarray-1.1.0 {{source: '%s', {_REST}}}",
    'a full tag': "!<tag:stsci.edu:asdf/core/ndarray-1.0.0> {source: '%s', byteorder: big}",
    'a link': "{$ref: '%s#/secret'}",
}


@pytest.mark.parametrize('how', _ELSEWHERE)
def test_no_other_file_is_followed(tmp_path, how):
    "Numbers of a file that the sender can't read do not come out as the image"
    other = tmp_path / 'secret.asdf'
    asdf.AsdfFile(dict(secret=np.full((4, 4), 7.0, '>f4'))).write_to(other)
    data = _ELSEWHERE[how] % other.as_uri()
    text = (
        '#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n'
        f'--- !core/asdf-1.1.0\nmeta: {{telescope: JWST}}\ndata: {data}\n...\n'
    )
    with pytest.raises(BadImage, match='lies in another file'):
        asdf_as_fits(text.encode(), 'a.asdf')
