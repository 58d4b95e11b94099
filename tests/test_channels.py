"Channels that are put together from several observations: bands on the real sample, and triplets around a planted event"

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import func, select

from astrid_data.collect.collector import TrainingDataCollector
from astrid_data.collect.link import (
    checked_windows,
    flux_scale,
    images_at,
    link_bands,
    link_triplets,
    linkable_images,
)
from astrid_data.core import BadInput, NotFound
from astrid_data.ingest.archive import open_archive
from astrid_data.registry.tables import Detection, Image, Observation, add_validation_event
from astrid_data.sky import sky_separation_arcsec

BANDS = ('F606W', 'F814W', 'F850LP')
WINDOWS = {'HST': ((-2000, -100), (0, 60))}


@pytest.fixture
def archive(tmp_path):
    return open_archive(tmp_path / 'archive')


def count(archive):
    with archive.session() as s:
        return s.scalar(select(func.count()).select_from(Image))


@pytest.mark.filterwarnings('ignore')
def test_three_real_bands_are_the_channels_of_one_sample(archive):
    archive.add_fits('package://sample/goodsn_acs_3band.fits.gz', show=False)
    with pytest.raises(NotFound, match='F850LP'):
        link_bands(archive, ['F999'])
    t = link_bands(archive, [b.lower() for b in BANDS])
    assert len(t) == 3 and all(
        set(t[b]) == {t.loc[t.band == b, 'observation_key'].item()} for b in BANDS
    )
    assert (
        count(archive) == 12 and link_bands(archive, list(BANDS)).equals(t) and count(archive) == 12
    )  # Once is enough
    plan = TrainingDataCollector(archive).plan(
        channels=BANDS,
        bands=['F814W'],
        confidence_threshold=0.5,
        negatives={'random_sky': 1},
        validation_status='any',
        progress=False,
    )
    assert len(plan) > 4 and set(plan.samples['band']) == {'F814W'} and plan.price['images'] == 1
    d = plan.build('bands', patch_size=16, min_valid_fraction=0.5, progress=False, probe=False)
    r, patches = d.samples.iloc[0], d.patches()
    assert patches.shape[1:] == (3, 16, 16)
    for k, b in enumerate(BANDS):  # Each channel is its own band, at the same place
        own = t.loc[t.band == b, 'observation_key'].item()
        with archive.session() as s:
            i = s.scalars(select(Image).where(Image.role == 'image')).all()
        row = next(
            x
            for x in i
            if x.hdu_name == r[f'{b}_hdu']
            and x.hdu_ver == r[f'{b}_extver']
            and x.facts['band'] == b
        )
        whole = archive.open(row.uri, row.hdu_name, row.hdu_ver).read_all()[0]
        y, x = (
            np.s_[max(r['y0'], 0) : min(r['y0'] + 16, whole.shape[0])],
            np.s_[max(r['x0'], 0) : min(r['x0'] + 16, whole.shape[1])],
        )
        np.testing.assert_array_equal(
            patches[
                0, k, y.start - r['y0'] : y.stop - r['y0'], x.start - r['x0'] : x.stop - r['x0']
            ],
            whole[y, x],
            err_msg=own,
        )


# A planted event ------------------------------------------------------------------------------------------------------

STARS = np.random.default_rng(3).uniform([8, 8, 50], [152, 152, 400], (40, 3))
NEW = (90.0, 70.0)


def write(
    folder,
    name,
    day,
    band='F606W',
    shift=0.0,
    new=0.0,
    zero_point=None,
    exposure=300.0,
    scale=1.0,
    **cards,
):
    "The same sky, on a grid that is `shift` pixels off"
    v, u = np.mgrid[:160, :160]
    sky = sum(
        f * np.exp(-((u - a - shift) ** 2 + (v - b - shift) ** 2) / (2 * 2.0**2))
        for a, b, f in [*STARS, (*NEW, new)]
    )
    h = fits.Header(
        dict(
            CTYPE1='RA---TAN',
            CTYPE2='DEC--TAN',
            CRVAL1=359.9999,
            CRVAL2=2.0,
            CRPIX1=80.5 + shift,
            CRPIX2=80.5 + shift,
            CD1_1=-1e-4,
            CD2_2=1e-4,
            TELESCOP='HST',
            INSTRUME='ACS',
            FILTER=band,
            EXPSTART=day,
            EXPTIME=exposure,
            BUNIT='electron/s',
        )
        | cards
    )
    fits.PrimaryHDU(
        (scale * sky + np.random.default_rng(int(day)).normal(0, 0.5, sky.shape)).astype('f4'), h
    ).writeto(folder / f'{name}.fits')
    return str(folder / f'{name}.fits')


def event(**kw):
    from astropy.wcs import WCS

    w = WCS(
        fits.Header(
            dict(
                CTYPE1='RA---TAN',
                CTYPE2='DEC--TAN',
                CRVAL1=359.9999,
                CRVAL2=2.0,
                CRPIX1=80.5,
                CRPIX2=80.5,
                CD1_1=-1e-4,
                CD2_2=1e-4,
            )
        )
    )
    ra, dec = w.wcs_pix2world([NEW], 0)[0]
    return pd.DataFrame([dict(ra=ra % 360, dec=dec, mjd=60000.0) | kw])


@pytest.mark.filterwarnings('ignore')
def test_a_planted_event_is_what_is_left(archive, tmp_path):
    files = [
        write(tmp_path, 'early', 58500.0, exposure=100.0),
        write(tmp_path, 'deep', 58600.0, exposure=900.0),
        write(tmp_path, 'too_near', 59990.0, exposure=9000.0, new=80.0),
        write(tmp_path, 'other_band', 58700.0, 'F814W', exposure=9000.0),
        write(tmp_path, 'after', 60020.0, shift=0.5, new=300.0),
        write(tmp_path, 'too_late', 60090.0, new=300.0),
    ]
    assert archive.add_fits(files, show=False).added == 6
    t = link_triplets(archive, event(), WINDOWS)
    assert t[['template', 'science', 'band', 'reason']].values.tolist() == [
        ['deep', 'after', 'F606W', '']
    ]
    n = count(archive)
    assert (
        link_triplets(archive, event(), WINDOWS)['reason'].tolist() == ['linked_before']
        and count(archive) == n == 6 + 3
    )
    e = event().iloc[0]
    with archive.session() as session:  # A person says that it is one
        found = session.scalars(
            select(Detection)
            .join(Observation, Observation.id == Detection.observation_id)
            .where(Observation.observation_id == 'after')
        ).all()
        new = min(found, key=lambda d: sky_separation_arcsec(d.ra, d.dec, e['ra'], e['dec']))
        assert sky_separation_arcsec(new.ra, new.dec, e['ra'], e['dec']) < 0.5
        add_validation_event(session, new.id, 'ann', True, label='SN Ia', confidence_level='HIGH')
    plan = TrainingDataCollector(archive).plan(
        channels=('template', 'science', 'difference'),
        confidence_threshold=0.5,
        quality_score_threshold=None,
        validation_status='any',
        negatives={'random_sky': 1},
        progress=False,
    )
    assert (
        set(plan.samples['observation_key']) == {'after'}
        and plan.ledger.query('reason == "no_image"')['n'].sum() > 0
    )  # All others are no triplets, and are told
    d = plan.build(
        'triplets', patch_size=15, align=True, min_valid_fraction=0.5, progress=False, probe=False
    )
    k = d.samples['class_name'].tolist().index('sn ia')
    p = d.patches()[k]
    assert (
        abs(p[0, 7, 7]) < 30 and p[1, 7, 7] > 250 and abs(p[2, 7, 7] - p[1, 7, 7] + p[0, 7, 7]) < 25
    )  # Resampled once more, so not to the last bit
    assert np.hypot(*(np.array(np.unravel_index(np.nanargmax(p[2]), (15, 15))) - 7)) <= 1
    with archive.session() as session:
        uri = session.scalar(select(Image.uri).where(Image.role == 'difference'))
    left, (v, u) = archive.open(uri).read_all()[0], np.mgrid[:160, :160]
    far = np.hypot(u - NEW[0] - 0.5, v - NEW[1] - 0.5) > 10
    assert (
        np.nanmax(np.abs(left[far])) < 0.12 * STARS[:, 2].max() and np.isfinite(left).mean() > 0.95
    )  # The old stars are gone, up to what half a pixel of resampling leaves
    assert d.samples['registration_error_pix'].dropna().lt(0.2).all()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    'cards, end, why',
    [
        (dict(exposure=8640.0), 58600.35, ''),
        (dict(EXPEND=60021.5), 60021.5, ''),
        (dict(exposure=None), None, 'no card gives the exposure time'),
    ],
)
def test_a_linked_template_says_when_it_ended(registry_url, tmp_path, cards, end, why):
    archive = open_archive(registry_url, tmp_path / 'store', tmp_path / 'home')
    archive.add_fits(
        [write(tmp_path, 'deep', 58600.25, **cards), write(tmp_path, 'after', 60020.25, new=300.0)],
        show=False,
    )
    t = link_triplets(archive, event(), WINDOWS).iloc[0]
    assert (t.template, t.end_unknown) == ('deep', why) and (
        np.isnan(t.template_end_mjd) if end is None else abs(t.template_end_mjd - end) < 1e-7
    )
    plan = TrainingDataCollector(archive).plan(
        channels=('template', 'science'),
        confidence_threshold=0.5,
        quality_score_threshold=None,
        validation_status='any',
        negatives={'random_sky': 1},
        progress=False,
    )
    s = plan.samples
    assert {'positive', 'random_sky'} == set(s['kind']) and (
        s['template_end_mjd'].isna().all()
        if end is None
        else np.allclose(s['template_end_mjd'], end, rtol=0, atol=1e-7)
    )
    d = plan.build(
        'ended', patch_size=15, align=True, min_valid_fraction=0.5, progress=False, probe=False
    )
    n = d.quality.flags.get('template_contaminated', 0)
    assert n == (d.samples['label'].sum() if end == 60021.5 else 0) and (
        'template_contaminated' in d.quality.unmeasured
    ) == (end is None)


@pytest.mark.parametrize(
    'change, why',
    [
        (dict(mjd=50000.0), 'no_science'),
        (dict(mjd=58510.0), 'no_template'),
        (dict(dec=5.0), 'no_image'),
    ],
)
def test_an_event_without_a_triplet_says_why(archive, tmp_path, change, why):
    archive.add_fits(
        [write(tmp_path, 'a', 58500.0), write(tmp_path, 'b', 58520.0)], detect=False, show=False
    )
    assert (
        link_triplets(archive, event(**change), WINDOWS)['reason'].tolist() == [why]
        and count(archive) == 2
    )
    assert (
        link_triplets(archive, event(**change), {'jwst': WINDOWS['HST']})['reason']
        .isin(['no_window', 'no_image'])
        .all()
    )


@pytest.mark.parametrize(
    'bad',
    [
        ((-10, 5), (0, 60)),
        ((-10, -20), (0, 60)),
        ((-10, -1), (-1, 60)),
        ((-10, -1), (5, 5)),
        (-10, 60),
        None,
    ],
)
def test_windows_that_mean_nothing_are_refused(bad):
    with pytest.raises(BadInput, match='hst'):
        checked_windows(dict(hst=bad))


def test_fluxes_have_a_common_scale_or_none():
    def image(zp, unit='electron/s'):
        return dict(zero_point=zp, unit=unit)

    assert (
        flux_scale(image(26.0), image(23.5)) == pytest.approx(10)
        and flux_scale(image(None), image(None)) == 1
    )
    assert (
        flux_scale(image(26.0), image(None))
        is flux_scale(image(None), image(None, 'MJy/sr'))
        is None
    )


def test_images_are_found_at_ra_0_and_none_beside(archive, tmp_path):
    archive.add_fits([write(tmp_path, 'a', 58500.0)], detect=False, show=False)
    with archive.session() as s:
        t = linkable_images(s)
    inside, beside = (
        [(359.9999, 2), (0.005, 2.005), (359.993, 1.993)],
        [(0.02, 2), (179.9999, -2), (359.98, 2), (0, 2.02)],
    )
    assert [len(k) for k in images_at(t, *np.array(inside + beside).T)] == [1] * 3 + [0] * 4


# One object in several bands --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings('ignore')
def test_an_object_found_in_every_band_is_one_sample_of_the_linked_bands(archive):
    archive.add_fits('package://sample/goodsn_acs_3band.fits.gz', show=False)
    question = dict(confidence_threshold=0.5, negatives={}, validation_status='any', progress=False)
    alone = TrainingDataCollector(archive).plan(**question)
    link_bands(archive, list(BANDS))
    plan = TrainingDataCollector(archive).plan(channels=BANDS, **question)
    sky = plan.samples[['ra', 'dec']].to_numpy()
    away = sky_separation_arcsec(sky[:, None, 0], sky[:, None, 1], sky[None, :, 0], sky[None, :, 1])
    across = plan.samples['band'].to_numpy()[:, None] != plan.samples['band'].to_numpy()[None]
    assert len(plan) and away[across].min(initial=9) > 0.5
    again = plan.ledger[plan.ledger['reason'] == 'duplicate']
    assert len(plan) + len(again) == len(alone)
    assert len(again) >= len(alone) / 3  # Most were found in all three bands


@pytest.mark.filterwarnings('ignore')
def test_one_channel_of_linked_bands_holds_an_object_once(archive):
    archive.add_fits('package://sample/goodsn_acs_3band.fits.gz', show=False)
    link_bands(archive, list(BANDS))
    question = dict(confidence_threshold=0.5, negatives={}, validation_status='any', progress=False)
    one = TrainingDataCollector(archive).plan(channels=('F814W',), **question)
    all_bands = TrainingDataCollector(archive).plan(channels=BANDS, **question)
    assert set(one.samples['detection_id']) == set(all_bands.samples['detection_id'])
