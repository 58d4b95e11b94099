"""A hundred awkward FITS files, the same from every run: `python tests/awkward.py FOLDER` writes them.
Files as surveys, archives and accidents make them, beside none of which a good file may suffer."""

import gzip
import io
import lzma
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from astropy.io import fits

SIDE = 96
CARDS = dict(FILTER='r', TELESCOP='T')


def header(n=SIDE, m=None, **cards):
    "North up, half an arcsecond a pixel"
    m = m or n
    h = fits.Header()
    h.update(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=150.0, CRVAL2=2.0, CUNIT1='deg')
    h.update(CRPIX1=n / 2, CRPIX2=m / 2, CD1_1=-0.5 / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=0.5 / 3600)
    h.update(CUNIT2='deg', RADESYS='ICRS', **CARDS)
    h.update(cards)
    return h


def sky(seed, n=SIDE, m=None):
    "Noise with three stars"
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 3, (m or n, n))
    y, x = np.indices(data.shape)
    for _ in range(3):
        a, b = rng.uniform(0.2, 0.8, 2) * data.shape[::-1]
        data += 800 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4)
    return data.astype('f4')


def _write(path, hdus):
    hdus = hdus if isinstance(hdus, list) else [hdus]
    fits.HDUList(hdus).writeto(path, overwrite=True, output_verify='ignore')


def _primary(data, h=None):
    return fits.PrimaryHDU(data, header() if h is None else h)


def _shapes(put):
    "Pixels of odd numbers, shapes and values"
    for n, m in ((1, 1), (2, 96), (96, 1), (3, 3)):
        put(f'size {n}x{m}', _primary(np.ones((m, n), 'f4'), header(n, m)))
    put('one dimension', _primary(np.arange(50, dtype='f4')))
    put('three planes', _primary(np.stack([sky(k) for k in range(3)])))
    put('four dimensions', _primary(sky(1)[None, None]))
    put('no pixels', _primary(None))
    put('no pixels at all', [_primary(None), fits.ImageHDU(None, name='SCI')])
    values = dict(nan=np.nan, inf=np.inf, zero=0, seven=7, huge=3e38, tiny=1e-40)
    for name, value in values.items():
        put(f'all {name}', _primary(np.full((SIDE, SIDE), value, 'f4')))
    rng = np.random.default_rng(2)
    mostly = sky(3)
    mostly[rng.random(mostly.shape) < 0.97] = np.nan
    put('mostly nan', _primary(mostly))
    strip = np.full((SIDE, SIDE), np.nan, 'f4')
    strip[:, 40:46] = sky(4)[:, 40:46]
    put('strip', _primary(strip))
    spiky = sky(5)
    spiky[5, 5], spiky[6, 6], spiky[7, 7] = np.inf, -np.inf, 1e30
    put('spiky', _primary(spiky))
    for kind in ('u1', 'i2', 'i4', 'i8', 'u2', 'u4', 'u8', 'f8'):
        put(f'type {kind}', _primary(np.clip(sky(6), 0, 250).astype(kind)))


def _wcs(put):
    "Places that are none, or strange"
    odd = dict(
        crval_nan=dict(CRVAL1='NaN'),
        latitude_91=dict(CRVAL2=91.0),
        longitude_720=dict(CRVAL1=720.0),
        ctype_odd=dict(CTYPE1='RUBBISH', CTYPE2='MORE'),
        ctype_xyz=dict(CTYPE1='RA---XYZ', CTYPE2='DEC--XYZ'),
        ctype_twice=dict(CTYPE2='RA---TAN'),
        swapped=dict(CTYPE1='DEC--TAN', CTYPE2='RA---TAN', CRVAL1=2.0, CRVAL2=150.0),
        cd_zero=dict(CD1_1=0.0, CD2_2=0.0),
        cd_huge=dict(CD1_1=90.0, CD2_2=90.0),
        cunit=dict(CUNIT1='furlong', CUNIT2='furlong'),
        galactic=dict(CTYPE1='GLON-TAN', CTYPE2='GLAT-TAN', RADESYS=''),
        pixels=dict(CTYPE1='PIXEL', CTYPE2='PIXEL'),
        wave=dict(CTYPE1='WAVE', CTYPE2='LINEAR', CUNIT1='m', CUNIT2=''),
        sip_rubbish=dict(CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_ORDER=3, A_0_2=1e9),
        sip_orders=dict(CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_ORDER=99, B_ORDER=2),
        tpv_rubbish=dict(CTYPE1='RA---TPV', CTYPE2='DEC--TPV', PV1_1=1e12, PV2_77=3.0),
        equinox=dict(EQUINOX='J2000'),
        radesys=dict(RADESYS='MOON'),
        crpix_far=dict(CRPIX1=1e9),
        lonpole=dict(LONPOLE='north'),
    )
    for k, (name, cards) in enumerate(odd.items()):
        put(f'wcs {name}', _primary(sky(20 + k), header(**cards)))
    bare = fits.Header()
    bare.update(CARDS)
    put('wcs none', _primary(sky(45), bare))


def _cards(put):
    "Cards with values that mean nothing"
    odd = dict(
        date_year=('DATE-OBS', '20160-01-01T00:00:00'),
        date_word=('DATE-OBS', 'last night'),
        date_leap=('DATE-OBS', '2023-02-30T12:00:00'),
        date_second=('DATE-OBS', '2016-12-31T23:59:60.5'),
        mjd_huge=('MJD-OBS', 1e300),
        mjd_late=('MJD-OBS', 12345678.5),
        mjd_negative=('MJD-OBS', -5.0),
        mjd_word=('MJD-OBS', 'sixty thousand'),
        timesys=('TIMESYS', 'MARS'),
        exptime_word=('EXPTIME', '30 s'),
        exptime_negative=('EXPTIME', -30.0),
        exptime_bool=('EXPTIME', True),
        filter_number=('FILTER', 814),
        filter_long=('FILTER', 'x' * 65),
        telescope_number=('TELESCOP', 8.2),
        unit=('BUNIT', 'parsecs per fortnight'),
        unit_number=('BUNIT', 7),
        gain=('GAIN', 'high'),
        zero_point=('MAGZP', 'NaN'),
        name_long=('OBS_ID', 'y' * 65),
        name_number=('OBS_ID', 12),
        scale=('BSCALE', 0.0),
    )
    for k, (name, (card, value)) in enumerate(odd.items()):
        put(f'card {name}', _primary(sky(50 + k), header(**{card: value})))


def _planes(put):
    "Planes that do not fit, and files of tables alone"
    image = fits.ImageHDU(sky(80), header(), name='SCI')
    for name, plane in dict(
        small=np.zeros((5, 5), 'i2'),
        line=np.zeros(SIDE, 'i2'),
        cube=np.zeros((2, SIDE, SIDE), 'i2'),
        floats=np.full((SIDE, SIDE), np.nan, 'f4'),
        full=np.ones((SIDE, SIDE), 'i2'),
    ).items():
        put(f'mask {name}', [_primary(None), image, fits.ImageHDU(plane, name='DQ')])
    table = fits.BinTableHDU.from_columns([fits.Column('ra', 'D', array=[1.0, 2.0])])
    put('table alone', [_primary(None), table])
    put('table named sci', [_primary(None), fits.BinTableHDU(table.data, name='SCI')])
    put('names twice', [_primary(None), image, fits.ImageHDU(sky(81), header(), name='SCI')])


def _raw(put_bytes, folder):
    "Bytes that are no longer what they were"
    _write(folder / 'model.fits', _primary(sky(90)))
    whole = (folder / 'model.fits').read_bytes()
    (folder / 'model.fits').unlink()
    put_bytes('empty', b'')
    put_bytes('one byte', b'S')
    for n in (79, 80, 2879, 2880, 2881, len(whole) // 2, len(whole) - 1):
        put_bytes(f'cut at {n}', whole[:n])
    put_bytes('no end', whole[:2880].replace(b'END', b'   '))
    put_bytes('zeros', bytes(5760))
    put_bytes('web page', b'<!DOCTYPE html><html><h1>503 Service Unavailable</h1></html>')
    put_bytes('json', b'{"error": "token expired"}')
    put_bytes(
        'huge side',
        whole.replace(b'NAXIS1  =                   96', b'NAXIS1  =            999999999'),
    )
    put_bytes(
        'negative side',
        whole.replace(b'NAXIS1  =                   96', b'NAXIS1  =                  -96'),
    )
    put_bytes(
        'too many axes',
        whole.replace(b'NAXIS   =                    2', b'NAXIS   =                 1000'),
    )
    put_bytes(
        'bitpix 7',
        whole.replace(b'BITPIX  =                  -32', b'BITPIX  =                    7'),
    )
    put_bytes(
        'simple false',
        whole.replace(b'SIMPLE  =                    T', b'SIMPLE  =                    F'),
    )
    put_bytes('latin card', whole.replace(b"'T       '", b"'M\xfcller'"))
    put_bytes('nul card', whole.replace(b"'T       '", b"'\0\0\0\0'  "))
    put_bytes('lost continue', whole.replace(b'RADESYS =', b'CONTINUE '))
    put_bytes('cards twice', whole.replace(b'CRPIX2  =', b'CRPIX1  ='))
    put_bytes('tail', whole + b'rubbish' * 1000)
    packed = gzip.compress(whole, mtime=0)
    put_bytes('packed cut', packed[: len(packed) // 2], '.fits.gz')
    put_bytes('packed damaged', packed[:200] + bytes(100) + packed[300:], '.fits.gz')
    put_bytes('packed not', whole, '.fits.gz')
    put_bytes('packed twice', gzip.compress(packed, mtime=0), '.fits.gz')
    put_bytes('packed bomb', gzip.compress(bytes(40_000_000), mtime=0), '.fits.gz')
    put_bytes('packed lzw', b'\x1f\x9d\x90' + whole, '.fits.Z')
    put_bytes('packed zstd', b'(\xb5/\xfd' + whole, '.fits.zst')
    put_bytes('packed lz4', b'\x04"M\x18' + whole, '.fits.lz4')
    xz = lzma.compress(whole)
    put_bytes('packed xz cut', xz[: len(xz) // 2], '.fits.xz')
    for n in (0, 2):
        inside = io.BytesIO()
        with zipfile.ZipFile(inside, 'w') as zipped:
            for part in range(n):
                zipped.writestr(zipfile.ZipInfo(f'{part}.fits'), whole)
        put_bytes(f'zip of {n}', inside.getvalue(), '.fits.zip')


def _compressed(put_bytes, folder):
    "Damage in tiles and in the table of tiles"
    for k, kind in enumerate(('RICE_1', 'GZIP_1', 'HCOMPRESS_1')):
        path = folder / 'model.fits'
        data = np.clip(sky(95 + k), 0, 2000).astype('i4')
        _write(path, [_primary(None), fits.CompImageHDU(data, header(), compression_type=kind)])
        with fits.open(path, disable_image_compression=True) as hdul:
            at = hdul[1].fileinfo()['datLoc']
            heap = at + hdul[1].header['NAXIS1'] * hdul[1].header['NAXIS2']
        whole = bytearray(path.read_bytes())
        path.unlink()
        tile, table = bytearray(whole), bytearray(whole)
        tile[heap + 200 : heap + 400] = bytes(range(200))
        table[at + 16 : at + 32] = b'\x7f' * 16
        put_bytes(f'tile {kind}', bytes(tile))
        put_bytes(f'tiles {kind}', bytes(table))


def _not_files(folder):
    "What has the name of a file and is none"
    (folder / 'folder.fits').mkdir()
    (folder / 'loop.fits').symlink_to('loop.fits')
    (folder / 'nowhere.fits').symlink_to('gone.fits')
    os.mkfifo(folder / 'pipe.fits')
    return ['folder.fits', 'loop.fits', 'nowhere.fits', 'pipe.fits']


def write_awkward(folder):
    "All of them; their paths"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []

    def put(name, hdus):
        path = folder / f'{name.replace(" ", "_")}.fits'
        try:
            _write(path, hdus)
        except Exception as problem:
            raise RuntimeError(f'{name} cannot be written: {problem}') from problem
        paths.append(path)

    def put_bytes(name, data, ending='.fits'):
        path = folder / f'{name.replace(" ", "_")}{ending}'
        path.write_bytes(data)
        paths.append(path)

    for some in (_shapes, _wcs, _cards, _planes):
        some(put)
    for some in (_raw, _compressed):
        some(put_bytes, folder)
    paths += [folder / name for name in _not_files(folder)]
    return paths


if __name__ == '__main__':
    print(len(write_awkward(sys.argv[1])), 'files')
