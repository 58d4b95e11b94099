"A second way from a file and a place on the sky to pixels: astropy's decoding, its full WCS and `Cutout2D`, with nothing of this library"

import io
import warnings

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D, NoOverlapError
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

GAP = 3.4e38  # Floats this large stand for "nothing here"


def as_fits(*hdus):
    "The bytes of a file"
    f = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(f, output_verify='silentfix')
    return f.getvalue()


def physical(stored, header):
    "Numbers as the FITS standard means them, in float64; then what PS1 does on top"
    v = np.asarray(stored).astype('f8') * header.get('BSCALE', 1) + header.get('BZERO', 0)
    if header['BITPIX'] > 0 and 'BLANK' in header:
        v[np.asarray(stored) == header['BLANK']] = np.nan
    if 'BSOFTEN' in header:  # asinh magnitudes of sky brightness, a = 2.5 log10(e)
        a = 1.0857362047581296
        v = header['BOFFSET'] + header['BSOFTEN'] * (np.exp(v / a) - np.exp(-v / a))
    with np.errstate(over='ignore'):
        out = v.astype('f4')
    out[~(np.abs(out) < GAP)] = np.nan
    return out


class Oracle:
    "One image of a file"

    def __init__(self, source, hdu=0, plane=None, bad=None, zeros_are_blank=False, fills=()):
        with (
            warnings.catch_warnings(),
            fits.open(
                io.BytesIO(source) if isinstance(source, bytes) else source,
                do_not_scale_image_data=True,
            ) as f,
        ):
            warnings.simplefilter('ignore')
            h = f[hdu].header
            stored = np.array(f[hdu].data)
            self.pixels = physical(stored.reshape(-1, *stored.shape[-2:])[plane or 0], h)
            self.wcs = WCS(h, fobj=f, naxis=2)
        if bad is not None:
            self.pixels[bad] = np.nan
        if zeros_are_blank:
            self.pixels[self.pixels == 0] = np.nan
        self.pixels[np.isin(self.pixels, list(fills))] = np.nan
        self.shape = self.pixels.shape

    def sky(self, x, y):
        "RA and Dec (deg, ICRS) of pixels"
        c = self.wcs.pixel_to_world(x, y).icrs
        return c.ra.deg, c.dec.deg

    def place(self, ra, dec):
        "Pixels of positions"
        return self.wcs.world_to_pixel(SkyCoord(ra, dec, unit='deg'))

    @property
    def scale(self):
        return proj_plane_pixel_area(self.wcs.celestial) ** 0.5 * 3600

    def square(self, x, y, size):
        "The square around a pixel position, NaN where there is no image: the pixel of the position is number size//2"
        at = [np.floor(v + 0.5) - (0 if size % 2 else 0.5) for v in (x, y)]
        try:
            return Cutout2D(
                self.pixels, at, size, mode='partial', fill_value=np.nan, copy=True
            ).data
        except NoOverlapError:
            return np.full((size, size), np.nan, 'f4')

    def around(self, ra, dec, size):
        "The square around a place on the sky, of odd size, which `Cutout2D` centres itself; where declination comes first it exchanges x and y, so there we place it"
        if self.wcs.wcs.lng != 0:
            return self.square(*self.place(ra, dec), size)
        try:
            return Cutout2D(
                self.pixels,
                SkyCoord(ra, dec, unit='deg'),
                size,
                wcs=self.wcs,
                mode='partial',
                fill_value=np.nan,
                copy=True,
            ).data
        except NoOverlapError:
            return np.full((size, size), np.nan, 'f4')


def arcsec(ra, dec, ra2, dec2):
    return SkyCoord(ra, dec, unit='deg').separation(SkyCoord(ra2, dec2, unit='deg')).arcsec


def centroid(a, near=3):
    "Centre (x, y) of a Gaussian star in an array: its logarithm is a paraboloid, also where half the star is missing"
    v, u = np.unravel_index(np.nanargmax(a), a.shape)
    y, x = np.mgrid[max(v - near, 0) : v + near + 1, max(u - near, 0) : u + near + 1][
        :, : a.shape[0], : a.shape[1]
    ]
    keep = (y < a.shape[0]) & (x < a.shape[1])
    y, x = y[keep], x[keep]
    z = a[y, x].astype('f8')
    ok = z > 0.05 * np.nanmax(a)
    x, y, z = x[ok], y[ok], z[ok]
    c = np.linalg.lstsq(
        np.column_stack([x * x + y * y, x, y, np.ones(len(x))]), np.log(z), rcond=None
    )[0]
    return -c[1] / (2 * c[0]), -c[2] / (2 * c[0])
