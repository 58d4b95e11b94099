"Resampling region by region equals reproject on the whole image; validity, scale and registration are what they say."

import io
import sys

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip('reproject', reason='the extra align is not installed')
from reproject import reproject_adaptive, reproject_interp

from astrid_data.core import BadImage, BadInput
from astrid_data.images.image import open_image
from astrid_data.patches import align
from astrid_data.patches.align import at_scale, on_grid, registration_error, same_grid
from astrid_data.patches.extract import extract_patches

SIP = dict(
    CTYPE1='RA---TAN-SIP',
    CTYPE2='DEC--TAN-SIP',
    A_ORDER=2,
    A_2_0=2e-5,
    A_1_1=-1e-5,
    B_ORDER=2,
    B_0_2=1.5e-5,
    B_1_1=2e-5,
)


def header(n, scale, turn=0, flip=1, ra=150.0, dec=2.0, **cards):
    c, s = scale / 3600 * np.cos(np.radians(turn)), scale / 3600 * np.sin(np.radians(turn))
    h = fits.Header(
        dict(
            CTYPE1='RA---TAN',
            CTYPE2='DEC--TAN',
            CRVAL1=ra,
            CRVAL2=dec,
            CRPIX1=n / 2 + 0.5,
            CRPIX2=n / 2 + 0.5,
            CD1_1=-flip * c,
            CD1_2=s,
            CD2_1=flip * s,
            CD2_2=c,
            RADESYS='ICRS',
            TELESCOP='Pretend',
        )
    )
    h.update(cards)
    return h


def image_of(a, h, **kw):
    f = io.BytesIO()
    fits.PrimaryHDU(np.asarray(a, 'f4'), h).writeto(f)
    return open_image(f.getvalue(), **kw)


def starfield(h, n, at, noise=1.0, sigma=1.6, seed=0):
    x, y = WCS(h).all_world2pix(*at, 0)
    yy, xx = np.mgrid[:n, :n]
    return (
        100
        + np.random.default_rng(seed).normal(0, noise, (n, n))
        + sum(400 * np.exp(-((xx - a) ** 2 + (yy - b) ** 2) / 2 / sigma**2) for a, b in zip(x, y))
    )


def sky_positions(n, seed=1, half=0.012, ra=150.0, dec=2.0):
    east, north = np.random.default_rng(seed).uniform(-half, half, (2, n))
    return ra + east / np.cos(np.radians(dec)), dec + north


@pytest.mark.parametrize('cards', [{}, SIP], ids=['plain', 'sip'])
@pytest.mark.parametrize(
    'scale, oracle',
    [
        (1.0, lambda *a, **k: reproject_interp(*a, **k)),
        (2.3, lambda *a, **k: reproject_adaptive(*a, kernel='hann', conserve_flux=False, **k)),
    ],
    ids=['as large', 'larger'],
)
def test_regions_equal_reproject_on_the_whole(scale, oracle, cards, monkeypatch):
    n, m = 220, int(200 / scale)
    a = np.random.default_rng(2).normal(50, 3, (n, n)).astype('f4')
    source, ref = (
        image_of(a, header(n, 1.0, **cards)),
        image_of(
            np.zeros((m, m)),
            header(m, scale, 25, **({k: v for k, v in cards.items()} if scale == 1 else {})),
        ),
    )
    whole = oracle((a.astype('f8'), source.wcs), ref.wcs, shape_out=(m, m), return_footprint=False)
    monkeypatch.setattr(align, 'block', 37)
    moved = on_grid(source, ref)
    px, bad = moved.read_all()
    inside = np.s_[m // 4 : -m // 4, m // 4 : -m // 4]
    assert not bad[inside].any() and np.isfinite(whole[inside]).all()
    assert_allclose(px[inside], whole[inside], rtol=1e-5)
    y = x = m // 2 - 11
    assert_allclose(
        on_grid(source, ref).read(y, y + 21, x, x + 17)[0], whole[y : y + 21, x : x + 17], rtol=1e-5
    )
    assert_array_equal(bad, np.isnan(px))


def test_a_region_reads_only_its_part_of_the_source():
    source, seen = image_of(np.ones((400, 400)), header(400, 1.0)), []
    read = type(source).read
    moved = on_grid(source, image_of(np.zeros((400, 400)), header(400, 1.0, 30)))
    source.read = lambda *box: seen.append(box) or read(source, *box)
    moved.read(200, 232, 180, 212)
    ((y0, y1, x0, x1),) = seen
    assert (y1 - y0) * (x1 - x0) < 60**2


@pytest.mark.parametrize('turn', [0, 30])
def test_bad_pixels_make_bad_those_that_they_touch_and_no_others(turn):
    n = 60
    a = np.full((n, n), 7.0)
    a[30, 25] = np.nan
    source, ref = (
        image_of(a, header(n, 1.0)),
        image_of(np.zeros((n, n)), header(n, 1.0, turn, CRPIX1=n / 2 + 0.9)),
    )
    px, bad = on_grid(source, ref).read_all()
    yy, xx = np.mgrid[:n, :n]
    u, v = source.world_to_pixel(*ref.pixel_to_world(xx, yy))
    touched = (abs(u - 25) < 0.999) & (abs(v - 30) < 0.999)
    outside = (u < -0.5) | (v < -0.5) | (u > n - 0.5) | (v > n - 0.5)
    sure = (
        ~((abs(abs(u - 25) - 1) < 0.002) | (abs(abs(v - 30) - 1) < 0.002))
        & (abs(u + 0.5) > 1e-3)
        & (abs(v + 0.5) > 1e-3)
    )
    assert touched.sum() >= 2
    assert_array_equal(bad[sure], (touched | outside)[sure])
    assert_allclose(px[~bad], 7, rtol=1e-6)


def test_a_contribution_of_nothing_changes_nothing():
    a = np.full((40, 40), 7.0)
    a[20, 15] = np.nan
    px, bad = _beside(a, 5e-5)
    assert not bad[20, 14] and bad[20, 15]
    assert_allclose(px[20, 14], 7, rtol=1e-6)


def _beside(a, shift):
    "Resampled `shift` pixels beside itself"
    source, n = image_of(a, header(40, 1.0)), 40
    w = WCS(header(n, 1.0, CRPIX1=n / 2 + 0.5 - shift))
    return align._resampled(source, w, (n, n)).read_all()


def test_an_average_of_many_pixels_is_bad_where_one_is():
    a = np.full((100, 100), 7.0)
    a[50, 50] = np.nan
    px, bad = at_scale(image_of(a, header(100, 1.0)), 3.0).read_all()
    middle = np.argwhere(bad[3:-3, 3:-3])
    assert len(middle) and np.ptp(middle, axis=0).max() <= 2
    assert_allclose(px[~bad], 7, rtol=1e-6)


@pytest.mark.parametrize(
    'turn, flip, dec, scale',
    [(0, 1, 2, 0.7), (30, 1, -40, 1.9), (200, -1, 89.9, 0.8), (-75, 1, 60, 1.3)],
)
def test_another_scale_is_exact_and_keeps_orientation_and_parity(turn, flip, dec, scale):
    n, h = 120, header(120, 1.0, turn, flip, dec=dec)
    image = image_of(starfield(h, n, ([150.0], [dec + 0.005]), noise=0), h)
    new = at_scale(image, scale)
    assert abs(new.pixel_scale_arcsec - scale) < 1e-9
    assert np.sign(np.linalg.det(new.wcs.wcs.cd)) == np.sign(np.linalg.det(image.wcs.wcs.cd))
    assert_allclose(new.wcs.wcs.cd / scale, image.wcs.wcs.cd, atol=2e-3 / 3600)
    corners = new.world_to_pixel(
        *image.pixel_to_world(np.array([-0.5, n - 0.5]), np.array([-0.5, n - 0.5]))
    )
    assert all(
        (-0.5 - 1e-6 <= c).all() and (c <= s - 0.5 + 1e-6).all()
        for c, s in zip(corners, new.shape[::-1])
    )
    assert new.shape[0] == pytest.approx(n / scale, abs=2)
    px, bad = new.read_all()
    y, x = (v[~bad] for v in np.mgrid[: new.shape[0], : new.shape[1]])
    light = px[~bad] - 100
    ra, dec_ = new.pixel_to_world(*((light * p).sum() / light.sum() for p in (x, y)))
    u, v = image.world_to_pixel(ra, dec_), image.world_to_pixel(150.0, dec + 0.005)
    assert np.hypot(u[0] - v[0], u[1] - v[1]) < 0.05
    total = (
        light.sum() * scale**2,
        (image.read_all()[0] - 100).sum(),
    )  # Surface brightness: times the ratio of areas
    assert total[0] == pytest.approx(total[1], rel=0.01)


def test_nothing_is_resampled_twice_and_nothing_without_need():
    h = header(80, 1.0)
    a, b, other = (
        image_of(np.ones((80, 80)), h),
        image_of(np.ones((60, 70)), header(80, 1.0, CRPIX1=30.5)),
        image_of(np.ones((80, 80)), header(80, 1.5)),
    )
    assert same_grid(a, b) and on_grid(b, a) is b
    assert not same_grid(a, image_of(np.ones((80, 80)), header(80, 1.0, CRPIX1=40.8)))
    assert on_grid(at_scale(a, 0.7), other).source is a
    no_wcs = image_of(np.ones((9, 9)), fits.Header())
    assert on_grid(no_wcs, a) is no_wcs and at_scale(no_wcs, 1.0) is no_wcs
    with pytest.raises(BadInput):
        at_scale(a, 0)
    moved = on_grid(other, a)
    with pytest.raises(BadInput):
        moved.read(0, 90, 0, 10)
    moved.close()
    with pytest.raises(BadInput):
        moved.read(0, 9, 0, 9)
    with pytest.raises(BadInput):
        other.read(0, 9, 0, 9)


def test_a_grid_that_one_plane_cannot_hold():
    h = fits.Header(
        dict(
            CTYPE1='RA---CAR',
            CTYPE2='DEC--CAR',
            CRVAL1=10.0,
            CRVAL2=0.0,
            CRPIX1=180.5,
            CRPIX2=90.5,
            CDELT1=-1.0,
            CDELT2=1.0,
            TELESCOP='Pretend',
        )
    )
    with pytest.raises(BadImage, match='unsupported_wcs'):
        at_scale(image_of(np.ones((180, 360)), h), 1800)


@pytest.mark.parametrize('dx, dy', [(0, 0), (0.6, -0.3), (-1.2, 0.9)])
def test_a_shift_that_was_put_in_is_measured(dx, dy):
    at, n = sky_positions(45), 160
    href, hoth = header(n, 0.6), header(130, 0.75, 10, CRPIX1=110.0, CRPIX2=65.0)
    ref = image_of(starfield(href, n, at), href)
    true = ref.pixel_to_world(*(p + d for p, d in zip(ref.world_to_pixel(*at), (dx, dy))))
    other = image_of(starfield(hoth, 130, true, seed=3), hoth)
    for o in (other, on_grid(other, ref)):
        r = registration_error(ref, o)
        assert r.reason is None and r.n > 10 and 0 < r.sigma_pix < 0.1
        assert abs(r.dx - dx) < max(5 * r.sigma_pix, 0.02) and abs(r.dy - dy) < max(
            5 * r.sigma_pix, 0.02
        )
        assert r.error_pix == pytest.approx(np.hypot(r.dx, r.dy))


def test_no_registration_without_a_measurement():
    at, h = sky_positions(45), header(160, 0.6)
    ref, few = image_of(starfield(h, 160, at), h), image_of(starfield(h, 160, sky_positions(2)), h)
    far = image_of(np.ones((50, 50)), header(50, 0.6, ra=160.0))
    for other, why in (
        (few, 'are needed'),
        (far, 'overlap'),
        (image_of(np.ones((9, 9)), fits.Header()), 'no WCS'),
        (image_of(np.full((160, 160), np.nan), h), 'are needed'),
    ):
        r = registration_error(ref, other)
        assert r.error_pix is None and why in r.reason
    by_chance = [
        registration_error(
            ref, image_of(starfield(h, 160, sky_positions(60, seed=s)), h), radius_pix=12
        )
        for s in range(5)
    ]
    assert max(r.n for r in by_chance) >= 10 and all(r.error_pix is None for r in by_chance)


def test_without_the_extra_it_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, 'reproject', None)
    with pytest.raises(ImportError, match=r'astrid_data\[align\]'):
        at_scale(image_of(np.ones((40, 40)), header(40, 1.0)), 0.5).read_all()


def test_patches_are_cut_from_it_as_from_any_image():
    n, h = 300, header(300, 1.0, 20)
    sky = starfield(h, n, sky_positions(30, half=0.03))
    ra, dec = sky_positions(400, seed=4, half=0.04)
    t = pd.DataFrame(
        dict(sample_key=[f'{i:03d}' for i in range(400)], ra=ra, dec=dec, image_uri='x')
    )

    def opener(*a):
        return at_scale(image_of(sky, h), 1.4)

    many, few = (
        extract_patches(t, 24, open=opener),
        extract_patches(t[:8], 24, open=opener),
    )  # All of it made once; patch by patch
    assert (
        few.kept.any()
        and not many.kept.all()
        and {'off_image', 'too_little_valid'} & set(many.ledger['reason'])
    )
    assert_allclose(many.data[:8], few.data, rtol=1e-6)
    assert_array_equal(many.valid[:8], few.valid)
    assert_allclose(many.info['pixel_scale_arcsec'][many.kept], 1.4, rtol=1e-5)


def test_channels_on_two_grids_are_laid_on_the_first():
    at, h, turned = sky_positions(40), header(160, 0.6), header(130, 0.75, 40)
    sky = dict(
        g=(starfield(h, 160, at), h),
        r=(starfield(turned, 130, at, seed=3), turned),
        empty=(np.random.default_rng(5).normal(100, 1, (130, 130)), turned),
    )

    def opener(uri, *a):
        return image_of(*sky[uri])

    t = pd.DataFrame(
        dict(
            sample_key=list('abcd'),
            ra=at[0][:4],
            dec=at[1][:4],
            g_uri='g',
            r_uri=['r', 'r', 'empty', 'g'],
        )
    )

    def inside(got):
        return (
            got.kept
            | got.ledger.set_index('sample_key')
            .reindex(t['sample_key'])['reason']
            .eq('too_little_valid')
            .to_numpy()
        )

    assert set(extract_patches(t, 17, ('g', 'r'), open=opener).ledger['reason']) == {'grids_differ'}
    got = extract_patches(t, 17, ('g', 'r'), open=opener, align=True, min_valid_fraction=0)
    assert inside(got).all()
    wanted = on_grid(image_of(*sky['r']), image_of(*sky['g'])).read_all()[0]
    x0, y0 = got.info[['x0', 'y0']].loc[0]
    whole = x0 >= 0 and y0 >= 0 and x0 + 17 <= 160 and y0 + 17 <= 160
    assert whole and got.info['r_x0'][0] == x0
    assert_allclose(got.data[0, 1], wanted[y0 : y0 + 17, x0 : x0 + 17], rtol=1e-5)
    assert_array_equal(got.data[3, 1], got.data[3, 0])
    errors, reasons = got.info['registration_error_pix'], got.info['registration_reason']
    assert (
        (errors[[0, 1, 3]] < 0.1).all()
        and np.isnan(errors[2])
        and 'are needed' in reasons[2]
        and reasons[[0, 1, 3]].isna().all()
    )
    assert (
        'registration_error_pix' not in extract_patches(t, 17, ('g',), open=opener, align=True).info
    )


def test_a_real_infrared_image_on_a_real_optical_one():
    from pathlib import Path

    folder = Path(__file__).parents[2] / 'shared/data/ground'
    if not (folder / 'vista_k_g202627.fits').exists():
        pytest.skip('needs ../shared/data/ground')
    vst, vista = (
        open_image(folder / 'vst_kids_r_g202627.fits.gz'),
        open_image(folder / 'vista_k_g202627.fits'),
    )
    whole = reproject_interp(
        (vista.read_all()[0].astype('f8'), vista.wcs),
        vst.wcs,
        shape_out=vst.shape,
        return_footprint=False,
    )
    px, bad = on_grid(vista, vst).read_all()
    assert bad.mean() < 0.05
    assert abs(px - whole)[~bad].max() < 1e-5 * np.nanstd(whole)
    r = registration_error(vst, vista)
    assert r.n > 20 and r.sigma_pix < 0.1 and r.error_pix < 0.5  # 0.22 ± 0.06 pixel of 0.2"


# Versions ------------------------------------------------------------------------------------------------------------


def add_templates(archive, folder, shift):
    "To each image of an archive a template on a coarser grid, turned by 15°, whose WCS is wrong by `shift` pixels of the image"
    import uuid

    from sqlalchemy import select

    from astrid_data.core import sha256_file
    from astrid_data.registry.tables import Image
    from astrid_data.storage.resolve import resolve_uri

    with archive.session() as s:
        for k, row in enumerate(s.scalars(select(Image)).all()):
            image = open_image(resolve_uri(row.uri, archive.store))
            scale, (ra, dec) = (
                image.pixel_scale_arcsec,
                image.pixel_to_world(np.array([159.5, 159.5 + shift]), np.array([159.5, 159.5])),
            )

            def h(i):
                return header(270, 1.2 * scale, 15, ra=ra[i], dec=dec[i])

            a = reproject_adaptive(
                (image.read_all()[0].astype('f8'), image.wcs),
                WCS(h(0)),
                shape_out=(270, 270),
                kernel='hann',
                return_footprint=False,
            )
            path = folder / f'template-{k}.fits'
            fits.PrimaryHDU(a.astype('f4'), h(1)).writeto(path)
            told = {c.key: getattr(row, c.key) for c in Image.__mapper__.column_attrs}
            s.add(
                Image(
                    **told
                    | dict(
                        id=uuid.uuid4(),
                        role='template',
                        uri=str(path),
                        hdu_name='PRIMARY',
                        hdu_ver=1,
                        sha256=sha256_file(path),
                        etag=None,
                        facts=None,
                    )
                )
            )


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    import astrid_data as ad

    archive, folder = (
        ad.synthetic_archive(tmp_path_factory.mktemp('archive'), n_observations=2, n_sources=40),
        tmp_path_factory.mktemp('templates'),
    )
    add_templates(archive, folder, shift=0.6)
    return archive


def plan_of(archive, channels):
    import astrid_data as ad

    return ad.TrainingDataCollector(archive).plan(
        ad.TrainingDataCollectionParams(
            confidence_threshold=0.5, channels=channels, negatives={'rejected': 1}
        )
    )


@pytest.mark.filterwarnings('ignore')
def test_a_version_with_aligned_channels(archive):
    from astrid_data.core import NotFound

    plan, how = (
        plan_of(archive, ('image', 'template')),
        dict(patch_size=24, progress=False, probe=False),
    )
    with pytest.raises(NotFound, match='grids_differ'):
        plan.build('apart', **how)
    d = plan.build('together', align=True, **how)
    assert (
        len(d) > 20
        and d.manifest['params']['align'] is True
        and not d.ledger['reason'].eq('grids_differ').any()
    )
    assert d.samples['registration_error_pix'].sub(0.6).abs().max() < 0.1
    r = d.samples.iloc[0]
    with open_image(r['template_uri']) as template, ad_open(archive, r['image_uri']) as image:
        whole = on_grid(template, image).read_all()[0]
    got, to = (
        d.patches()[0][1],
        np.s_[max(r['y0'], 0) : r['y0'] + 24, max(r['x0'], 0) : r['x0'] + 24],
    )
    assert_allclose(
        got[max(-r['y0'], 0) :, max(-r['x0'], 0) :][: whole[to].shape[0], : whole[to].shape[1]],
        whole[to],
        rtol=1e-5,
    )
    from astrid_data.quality.flags import decode_flags

    assert 'misregistered' in decode_flags(int(d.samples['quality_flags'].iloc[0]))
    d.show_source(0)


@pytest.mark.filterwarnings('ignore')
def test_a_version_of_one_angular_size(archive):
    from astrid_data.datasets.diff import rebuild_version

    plan, how = plan_of(archive, ('image',)), dict(patch_size=24, progress=False, probe=False)
    plain, d = plan.build('plain', **how), plan.build('scaled', pixel_scale_arcsec=0.7, **how)
    assert (
        'pixel_scale_arcsec' not in plain.manifest['params']
        and d.manifest['params']['pixel_scale_arcsec'] == 0.7
    )
    assert (
        plain.content_hash
        != d.content_hash
        == plan.build('again', pixel_scale_arcsec=0.7, **how).content_hash
    )
    assert (
        plan.build('scaled', pixel_scale_arcsec=0.7, **how).address == 'scaled@v1'
        and plan.build('scaled', pixel_scale_arcsec=0.8, **how).address == 'scaled@v2'
    )
    assert_allclose(d.samples['half_width_arcsec'], 0.7 * 12)
    assert (
        d.quality.components['positions'] == plain.quality.components['positions'] == 1
    )  # The detector's pixels are those of the image as observed
    assert_allclose(d.samples['pixel_scale_arcsec'], 0.7, rtol=1e-4)
    inside = d.samples['valid_fraction'].eq(1).to_numpy().nonzero()[0][0]
    r = d.samples.iloc[inside]
    with ad_open(archive, r['image_uri']) as image:
        wanted = at_scale(image, 0.7).read(r['y0'], r['y0'] + 24, r['x0'], r['x0'] + 24)[0]
    assert_allclose(d.patches()[inside][0], wanted, rtol=1e-5)
    assert rebuild_version(d, progress=False).same
    d.show_source(0)
    with pytest.raises(BadInput, match='pixel_scale_arcsec'):
        plan.build('wrong', pixel_scale_arcsec=-1, **how)


def ad_open(archive, uri):
    from astrid_data.storage.resolve import resolve_uri

    return open_image(resolve_uri(uri, archive.store))
