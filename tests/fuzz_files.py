"What `fuzzing` tries with files of others: FITS, stamps, packets, Parquet, catalogues and `.env` files."

import atexit
import base64
import bz2
import gzip
import io
import json
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from fuzzing import HUGE, ODD, Wrong, mutate_bytes, mutate_text, mutate_value, nested, truncate

SIDE = 32
SHARED = Path(__file__).parents[1].parent / 'shared' / 'data'
TARGETS = tuple(
    f'fuzz_files:{name}'
    for name in 'fits cards stamps packets avro alert_tables parquet catalogues settings'.split()
)


# ---------------------------------------------------------------- FITS


def _sky(seed=0, kind='f4'):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 3, (SIDE, SIDE))
    pixels[10:13, 10:13] += 300
    return pixels.astype(kind)


def _header(**cards):
    from astropy.io import fits

    header = fits.Header()
    header.update(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=150.0, CRVAL2=2.0, CUNIT1='deg')
    header.update(CRPIX1=SIDE / 2, CRPIX2=SIDE / 2, CD1_1=-1e-4, CD1_2=0.0, CD2_1=0.0, CD2_2=1e-4)
    header.update(CUNIT2='deg', RADESYS='ICRS', FILTER='r', TELESCOP='T', EXPTIME=30.0)
    header['DATE-OBS'] = '2020-01-01T00:00:00'
    header.update(cards)
    return header


def _bytes_of(*hdus):
    from astropy.io import fits

    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        fits.HDUList(list(hdus)).writeto(out, output_verify='ignore')
    return out.getvalue()


def _wcs_headers():
    sip = dict(CTYPE1='RA---TAN-SIP', CTYPE2='DEC--TAN-SIP', A_ORDER=2, B_ORDER=2, A_2_0=1e-6)
    yield _header(**sip, B_0_2=1e-6, AP_ORDER=1, BP_ORDER=1, AP_1_0=1e-8)
    yield _header(CTYPE1='RA---TPV', CTYPE2='DEC--TPV', PV1_0=0.0, PV1_1=1.0, PV2_1=1.0)
    yield _header(CTYPE1='RA---ZPN', CTYPE2='DEC--ZPN', PV2_1=1.0, PV2_3=0.1, LONPOLE=180.0)
    yield _header(
        CTYPE1='RA---TNX', CTYPE2='DEC--TNX', WAT1_001='wtype=tnx axtype=ra lngcor = "3. 4. 4. 2."'
    )
    plate = dict(PLTRAH=10, PLTRAM=0, PLTRAS=0.0, PLTDECSN='+', PLTDECD=2, PLTDECM=0, PLTDECS=0.0)
    plate |= {f'AMDX{i}': 67.2 if i == 1 else 0.0 for i in range(1, 21)}
    plate |= {f'AMDY{i}': 67.2 if i == 1 else 0.0 for i in range(1, 21)}
    plate |= dict(XPIXELSZ=25.28, YPIXELSZ=25.28, PPO3=177000.0, PPO6=177000.0, CNPIX1=1, CNPIX2=1)
    yield _header(**plate, PLTLABEL='E1', PLATEID='1')
    yield _header(MJDREF=50000.0, TELAPSE=3.0, **{'MJD-OBS': 58000.0, 'DATE-AVG': '2020-01-01'})


@cache
def fits_seeds():
    "FITS files as bytes, small ones of many kinds"
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return _plain_seeds(fits) + _packed_seeds(fits) + _shared_seeds(fits)


def _plain_seeds(fits):
    seeds = [_bytes_of(fits.PrimaryHDU(_sky(1), _header()))]
    for kind in ('u1', 'i2', 'u2', 'f8', '>i4'):
        seeds.append(_bytes_of(fits.PrimaryHDU(_sky(2, kind), _header())))
    seeds += [_bytes_of(fits.PrimaryHDU(_sky(3), header)) for header in _wcs_headers()]
    sci = fits.ImageHDU(_sky(4), _header(), name='SCI')
    dq = fits.ImageHDU(np.zeros((SIDE, SIDE), 'i2'), name='DQ')
    err = fits.ImageHDU(np.ones((SIDE, SIDE), 'f4'), name='ERR')
    hst = fits.PrimaryHDU(None, fits.Header(dict(TELESCOP='HST', INSTRUME='ACS', FILTER1='F814W')))
    seeds.append(_bytes_of(hst, sci, err, dq))
    lookup = _header(CPDIS1='LOOKUP', **{'DP1.EXTVER': 1, 'DP1.NAXES': 2})
    table = fits.ImageHDU(np.zeros((4, 4), 'f4'), name='WCSDVARR')
    seeds.append(
        _bytes_of(fits.PrimaryHDU(None), fits.ImageHDU(_sky(5), lookup, name='SCI'), table)
    )
    columns = fits.BinTableHDU.from_columns([fits.Column('a', 'PE()', array=[[1.0], [2.0, 3.0]])])
    seeds.append(_bytes_of(fits.PrimaryHDU(_sky(6), _header()), columns))
    seeds.append(_bytes_of(fits.PrimaryHDU(np.stack([_sky(7)] * 3), _header())))
    return seeds


def _packed_seeds(fits):
    seeds = []
    for method in ('RICE_1', 'GZIP_1', 'GZIP_2', 'HCOMPRESS_1', 'PLIO_1', 'NOCOMPRESS'):
        kind = 'i2' if method == 'PLIO_1' else 'f4'
        for tile in ((1, SIDE), (16, 16)):
            if method == 'HCOMPRESS_1' and tile[0] < 4:
                continue
            packed = fits.CompImageHDU(
                _sky(8, kind), _header(), name='SCI', compression_type=method, tile_shape=tile
            )
            seeds.append(_bytes_of(fits.PrimaryHDU(), packed))
    seeds += [gzip.compress(seeds[0]), gzip.compress(_plain_seeds(fits)[0])]
    seeds += [bz2.compress(_plain_seeds(fits)[0])]
    return seeds


def _shared_seeds(fits):
    "The headers of real files around a few pixels"
    seeds = []
    for path in sorted(SHARED.glob('*/**/*.fit*')):
        if path.stat().st_size > 5e6:
            continue
        try:
            with fits.open(path) as hdus:
                hdu = next(h for h in hdus if h.is_image and len(h.shape) == 2 and h.size)
                small = fits.ImageHDU(hdu.data[:SIDE, :SIDE].copy(), hdu.header)
                seeds.append(_bytes_of(fits.PrimaryHDU(None, hdus[0].header), small))
        except Exception:  # noqa: BLE001 (broken on purpose)
            continue
    return seeds


_KEYS = (
    'SIMPLE XTENSION BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 NAXIS99 PCOUNT GCOUNT TFIELDS THEAP EXTEND '
    'GROUPS BSCALE BZERO BLANK EXTNAME EXTVER ZIMAGE ZBITPIX ZNAXIS ZNAXIS1 ZNAXIS2 ZTILE1 ZTILE2 '
    'ZCMPTYPE ZNAME1 ZVAL1 ZNAME2 ZVAL2 ZQUANTIZ ZDITHER0 ZBLANK ZSCALE ZZERO ZSIMPLE ZPCOUNT '
    'TFORM1 TFORM2 TTYPE1 TTYPE2 TDIM1 TNULL1 TSCAL1 TZERO1 WCSAXES CTYPE1 CTYPE2 CRPIX1 CRVAL1 '
    'CRVAL2 CDELT1 CROTA2 CD1_1 CD2_2 CD99_99 PC1_1 PC9_9 PV1_1 PV2_3 PV1_99 PV1_999 PV99_1 PS1_0 '
    'A_ORDER B_ORDER AP_ORDER BP_ORDER A_DMAX A_2_0 A_9_9 A_99_99 AMDX1 AMDX19 AMDY3 AMDX99 '
    'CPDIS1 CPDIS2 CQDIS1 DP1 DP1.NAXES DP1.EXTVER DQ1 D2IMDIS1 D2IM1.EXTVER D2IMEXT CPERR1 '
    'LONPOLE LATPOLE EQUINOX RADESYS CUNIT1 CUNIT2 WCSNAME VELREF RESTFRQ MJD-OBS DATE-OBS MJDREF '
    'OBSGEO-X TIMESYS TREFPOS DATE-END EXPTIME BUNIT FILTER TELESCOP INSTRUME WAT1_001 WAT2_001 '
    'PPO3 PLTRAH PLTRAM PLTRAS PLTDECSN PLTDECD XPIXELSZ CNPIX1 CNAME1 CRDER1 CSYER1 CZPHS1 CPERI1 '
    'CTYPE1A CRVAL1A PV1_1Z LBOUND1 SIMPLE BSOFTEN BOFFSET MAGZERO GAIN SATURATE END CONTINUE'
).split()


def _odd_cell(rng):
    "The value of a card, as text"
    value = rng.choice(ODD)[:68]
    if rng.random() < 0.3:
        words = 'RA---TAN DEC--TAN-SIP RA---XYZ GLON-HPX FREQ STOKES WAVE-TAB RA---TAB RICE_1 1PB(9) LOOKUP'
        value = repr(rng.choice(words.split()))
    if rng.random() < 0.3:
        value = repr(
            rng.choice((-1, 0, 1, 2, 3, 7, 16, 99, 1000, 10**6, 2**31, 1e-300, 1e300, -1e9))
        )
    if rng.random() < 0.1:
        value = f"'{value}'"
    return value


def _card(key, value):
    text = f'{key:8}= {value:>20}' if len(key) <= 8 else f'HIERARCH {key} = {value}'
    return text.encode('utf-8', 'surrogateescape' if '\ud800' not in text else 'replace')[
        :80
    ].ljust(80)


def mutate_cards(data, rng):
    "FITS bytes with cards changed, added, exchanged or lost"
    out = bytearray(data)
    heads = [i for i in range(0, min(len(data), 400_000), 80) if b'=' == data[i + 8 : i + 9]]
    heads = heads or [0]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.choice(heads)
        key = bytes(out[at : at + 8]).decode('ascii', 'replace').strip()
        kind = rng.randrange(6)
        if kind <= 1:
            out[at : at + 80] = _card(key, _odd_cell(rng))
        elif kind <= 3:
            out[at : at + 80] = _card(rng.choice(_KEYS), _odd_cell(rng))
        elif kind == 4:
            other = rng.choice(heads)
            one, two = bytes(out[at : at + 80]), bytes(out[other : other + 80])
            out[at : at + 80], out[other : other + 80] = two, one
        else:
            out[at : at + 80] = rng.choice((b' ' * 80, b'END'.ljust(80), b'COMMENT'.ljust(80)))
    return bytes(out)


def _read_image(data):
    "All that is done with an image at ingest, without an archive"
    from astrid_data.images.image import content_of_image, open_image
    from astrid_data.ingest.rows import covering_circle

    with open_image(data) as image:
        pixels, bad = image.read_all()
        content_of_image(image)
        repr(image), image.sha256
        if image.wcs is not None:
            corners = image.footprint()
            if np.isfinite(corners).all():
                covering_circle(image)
            image.world_to_pixel(150.0, 2.0)
        return pixels, bad


@cache
def _pixels_of(number):
    from astrid_data.core import AstridError

    try:
        return _read_image(fits_seeds()[number])
    except AstridError:
        return None


def _repacked(data, rng):
    "The same file packed, or with a harmless addition, and what was done"
    plain = data
    if data[:2] == b'\x1f\x8b':
        plain = gzip.decompress(data)
    elif data[:2] == b'BZ':
        plain = bz2.decompress(data)
    packer = rng.choice((lambda d: d, gzip.compress, bz2.compress))
    return packer(plain)


def fits(rng, folder):
    "Bytes of a FITS file, changed"
    number = rng.randrange(len(fits_seeds()))
    data = fits_seeds()[number]
    how = rng.randrange(10)
    if how == 0:
        made = _repacked(data, rng)
        return _same_pixels(number, made)
    if how == 1:
        return _truncated(data, rng, number)
    made, _ = mutate_bytes(data, rng, fits_seeds())
    if how == 2:
        made, _ = mutate_bytes(made or b'x', rng)
    if how == 3 and made:
        made = rng.choice((gzip.compress, bz2.compress))(made)
    if how == 4:  # As a file, mapped
        path = folder / 'x.fits'
        path.write_bytes(made)
        made = path
    _read_image(made)
    return 'accepted'


def _same_pixels(number, made):
    "Pixels of a file that was packed otherwise are the same"
    expected = _pixels_of(number)
    if expected is None:
        return 'seed without an image'
    found = _read_image(made)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(expected, found)):
        raise Wrong('pixels changed with the packing')
    return 'same'


def _truncated(data, rng, number):
    "A truncated file is refused, unless what is lost is filling, or whole HDUs behind"
    from astropy.io import fits as io_fits

    packed = data[:2] in (b'\x1f\x8b', b'BZ')
    made = truncate(data, rng)
    _read_image(made)
    if packed:
        raise Wrong(f'a packed file cut at {len(made)} of {len(data)} bytes was accepted')
    with io_fits.open(io.BytesIO(data), ignore_missing_simple=True) as hdus:
        ends = [hdu.fileinfo()['datLoc'] + hdu.fileinfo()['datSpan'] for hdu in hdus]
        last = hdus[-1]
        end = last.fileinfo()['datLoc'] + last.size
    if len(made) < end and len(made) not in ends:
        raise Wrong(f'a file cut at {len(made)} of {len(data)} bytes was accepted')
    return 'cut between HDUs'


def cards(rng, folder):
    "Cards of a FITS file, changed"
    data = fits_seeds()[rng.randrange(len(fits_seeds()))]
    if data[:2] in (b'\x1f\x8b', b'BZ'):
        data = fits_seeds()[0]
    made = mutate_cards(data, rng)
    if rng.random() < 0.2:
        made, _ = mutate_bytes(made, rng)
    _read_image(made)
    return 'accepted'


# ---------------------------------------------------------------- alerts


@cache
def stamp_seeds():
    "Stamps as packets have them"
    from astropy.io import fits

    plain = _bytes_of(fits.PrimaryHDU(_sky(9)))
    placed = _bytes_of(fits.PrimaryHDU(_sky(9), _header()))
    bare = _header()
    del bare['CTYPE1'], bare['CTYPE2']
    seeds = [plain, placed, _bytes_of(fits.PrimaryHDU(_sky(9), bare))]
    seeds += [_bytes_of(fits.PrimaryHDU(_sky(9), header)) for header in _wcs_headers()]
    return seeds + [gzip.compress(seed) for seed in seeds] + _shared_stamps()


def _shared_stamps():
    path = SHARED / 'alerts' / 'ztf_dev.parquet'
    if not path.is_file():
        return []
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).slice(0, 3).to_pylist()
    return [v for row in rows for k, v in row.items() if 'utout' in k and isinstance(v, bytes)]


def _bomb(rng):
    "A stamp that says or unpacks to far more than it is"
    side = rng.choice((2000, 10_000, 30_000))
    head = _header_of(side) + bytes(rng.choice((0, 10**6, 50 * 10**6)))
    return gzip.compress(head, 1)


def _header_of(side):
    lines = ['SIMPLE  =                    T', 'BITPIX  =                  -32']
    lines += [
        'NAXIS   =                    2',
        f'NAXIS1  = {side:20}',
        f'NAXIS2  = {side:20}',
        'END',
    ]
    return ''.join(line.ljust(80) for line in lines).ljust(2880).encode()


def _changed_stamp(rng):
    seed = rng.choice(stamp_seeds())
    how = rng.randrange(20)
    if how == 0:
        return _bomb(rng)
    if how <= 8:
        plain = gzip.decompress(seed) if seed[:2] == b'\x1f\x8b' else seed
        made = mutate_cards(plain, rng)
        return gzip.compress(made, 1) if how % 2 else made
    made, _ = mutate_bytes(seed, rng, stamp_seeds())
    return made


def stamps(rng, folder):
    "A stamp, changed, alone and as an image"
    from astrid_data.images.image import open_image
    from astrid_data.ingest.stamps import stamp_geometry, stamp_wcs

    if rng.random() < 0.1:
        return _truncated_stamp(rng)
    made = _changed_stamp(rng)
    good = rng.choice(stamp_seeds())
    stamp_wcs(made)
    roles = dict(template=made, science=good if rng.random() < 0.3 else made, difference=made)
    stamp_geometry(roles, 150.0, 2.0, (100.0, 100.0), rng.choice(('ztf', 'lsst', 'none')))
    with open_image(made) as image:
        image.read_all()
    return 'accepted'


def _truncated_stamp(rng):
    from astrid_data.ingest.stamps import stamp_shape

    seed = rng.choice(stamp_seeds())
    made = truncate(seed, rng)
    stamp_shape(made)
    if seed[:2] == b'\x1f\x8b':
        raise Wrong(f'a packed stamp cut at {len(made)} of {len(seed)} bytes was accepted')
    if len(made) < 2880 + SIDE * SIDE * 4:
        raise Wrong(f'a stamp cut at {len(made)} of {len(seed)} bytes was accepted')
    return 'only filling cut'


def _packet(stamp_text=False):
    stamp = stamp_seeds()[1]
    stamp = base64.b64encode(stamp).decode() if stamp_text else stamp
    candidate = dict(jd=2458000.5, fid=1, pid=1, diffmaglim=20.0, magpsf=18.0, sigmapsf=0.1)
    candidate |= dict(ra=150.0, dec=2.0, isdiffpos='t', rb=0.9, drb=0.9, xpos=100.0, ypos=200.0)
    candidate |= dict(candid=1234567890123456789, programid=1, field=1, rcid=2, exptime=30.0)
    history = [dict(candid=1234567890123456788, jd=2458000.0, ra=150.0, dec=2.0, magpsf=18.1)]
    return dict(
        schemavsn='3.3',
        objectId='ZTF18aaaaaaa',
        candid=1234567890123456789,
        candidate=candidate,
        prv_candidates=history,
        cutoutScience=dict(fileName='a', stampData=stamp),
        cutoutTemplate=dict(fileName='b', stampData=stamp),
        cutoutDifference=dict(fileName='c', stampData=stamp),
    )


def _rubin_packet():
    stamp = stamp_seeds()[2]
    source = dict(diaSourceId=45, visit=1, detector=2, midpointMjdTai=60000.1, ra=150.0, dec=2.0)
    source |= dict(psfFlux=1000.0, psfFluxErr=10.0, band='r', snr=10.0, reliability=0.5, x=1, y=2)
    earlier = dict(source, diaSourceId=44)
    stamps = dict(cutoutScience=stamp, cutoutTemplate=stamp, cutoutDifference=stamp)
    return dict(diaSourceId=45, diaSource=source, prvDiaSources=[earlier], **stamps) | dict(
        diaObject=dict(diaObjectId=7), diaObjectId=7
    )


@cache
def packet_seeds():
    "Packets of several schemas, nested and flat"
    packets = [_packet(), _packet(stamp_text=True), _rubin_packet()]
    flat = dict(packets[0]['candidate'], objectId='ZTF18aaaaaaa', prv_candidates=json.dumps([{}]))
    flat |= {f'cutout{role}': stamp_seeds()[1] for role in ('Science', 'Template', 'Difference')}
    return [*packets, flat]


def packets(rng, folder):
    "A packet as a dict, changed"
    from astrid_data.ingest.alerts import _read_packet, read_alerts

    made = rng.choice(packet_seeds())
    for _ in range(rng.choice((1, 1, 2, 4))):
        made = mutate_value(made, rng)
    if rng.random() < 0.05 and isinstance(made, dict):
        text = '[' * rng.choice((10, 5000, 200_000))
        made[rng.choice(('prv_candidates', 'candidate', 'x'))] = rng.choice((text, nested(900)))
    if rng.random() < 0.2 and isinstance(made, dict):
        made['cutoutScience'] = _changed_stamp(rng)
    for _, packet in read_alerts([made] if rng.random() < 0.8 else made):
        _read_packet(packet, rng.choice((None, 'lsst')))
    return 'accepted'


@cache
def avro_seeds():
    "AVRO files as bytes"
    import fastavro

    number = {'name': 'x', 'type': ['null', 'double']}
    fields = [
        dict(number, name=name) for name in ('jd', 'ra', 'dec', 'magpsf', 'rb', 'xpos', 'ypos')
    ]
    candidate = dict(type='record', name='candidate', fields=fields)
    schema = dict(type='record', name='alert', fields=[dict(name='objectId', type='string')])
    schema['fields'] += [dict(name='candid', type='long'), dict(name='candidate', type=candidate)]
    for role in ('Science', 'Template', 'Difference'):
        schema['fields'].append(dict(name=f'cutout{role}', type='bytes'))
    stamp = stamp_seeds()[1]
    numbers = dict(jd=2458000.5, ra=150.0, dec=2.0, magpsf=18.0, rb=0.5, xpos=10.0, ypos=10.0)
    packets = [dict(objectId='ZTF1', candid=i, candidate=numbers) for i in range(1, 4)]
    for packet in packets:
        packet |= {f'cutout{role}': stamp for role in ('Science', 'Template', 'Difference')}
    seeds = []
    for codec in ('null', 'deflate', 'bzip2', 'xz'):
        out = io.BytesIO()
        fastavro.writer(out, schema, packets, codec=codec)
        seeds.append(out.getvalue())
    shared = sorted((SHARED / 'alerts').glob('*/*.avro'))
    return seeds + [path.read_bytes() for path in shared if path.stat().st_size < 100_000]


def _avro_bomb(rng):
    "An AVRO file whose block or schema is far larger than the file"
    import fastavro

    kind = rng.randrange(3)
    if kind == 0:
        schema = 'int'
        for _ in range(rng.choice((100, 2000, 20_000))):
            schema = dict(type='array', items=schema)
        try:
            text = json.dumps(schema)
        except RecursionError:
            text = '{"type":"array","items":' * 20_000
        body = b'Obj\x01\x02\x16avro.schema' + _avro_long(len(text)) + text.encode()
        return body + b'\x00' + b's' * 16
    out = io.BytesIO()
    record = dict(type='record', name='a', fields=[dict(name='x', type='bytes')])
    value = bytes(20 * 10**6 if kind == 1 else 150 * 10**6)
    fastavro.writer(out, record, [dict(x=value)], codec='deflate', codec_compression_level=1)
    return out.getvalue()


def _avro_long(value):
    value, out = value * 2, bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def avro(rng, folder):
    "An AVRO file, changed"
    seed = rng.choice(avro_seeds())
    made, _ = mutate_bytes(seed, rng, avro_seeds())
    if rng.random() < 0.02:
        made = _avro_bomb(rng)
    elif rng.random() < 0.3:
        head = seed.find(b'avro.schema')
        text = seed[: head + 800].decode('latin-1')
        made = mutate_text(text, rng).encode('utf-8', 'replace') + seed[head + 800 :]
    return _read_alert_file(folder / f'x{rng.choice((".avro", ".avro", ".bin"))}', made)


def _read_alert_file(path, made):
    "Read an alert file and count what is refused and taken"
    from astrid_data.core import AstridError
    from astrid_data.ingest.alerts import _read_packet, read_alerts

    path.write_bytes(made)
    taken = 0
    try:
        for _, packet in read_alerts(path):
            try:
                _read_packet(packet, None)
                taken += 1
            except AstridError:
                continue
    finally:
        path.unlink()
    return 'accepted' if taken else 'refused'


# ---------------------------------------------------------------- tables


def _parquet_bytes(table, **how):
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, **how)
    return out.getvalue()


def _catalogue_columns(n=12):
    rng = np.random.default_rng(3)
    return dict(
        ra=(150 + rng.normal(0, 0.01, n)).round(6).tolist(),
        dec=(2 + rng.normal(0, 0.01, n)).round(6).tolist(),
        name=[f'object {i}' for i in range(n)],
        mag=rng.uniform(15, 20, n).round(3).tolist(),
        is_real=rng.choice(['real', 'bogus'], n).tolist(),
        mjd=(58000 + rng.uniform(0, 10, n)).round(4).tolist(),
    )


@cache
def parquet_seeds():
    "Parquet files of catalogues as bytes"
    import pyarrow as pa
    from astropy.table import Table

    table = pa.table(_catalogue_columns())
    odd = table.append_column('lists', pa.array([[1, 2]] * 12))
    odd = odd.append_column('records', pa.array([dict(a=1)] * 12))
    odd = odd.append_column('when', pa.array([10**17] * 12, pa.timestamp('ns')))
    odd = odd.append_column('sort', pa.array(['a', 'b', None] * 4).dictionary_encode())
    odd = odd.append_column('money', pa.array([1] * 12, pa.decimal128(20, 2)))
    seeds = [_parquet_bytes(table, compression=how) for how in ('none', 'snappy', 'zstd', 'gzip')]
    seeds += [_parquet_bytes(odd), _parquet_bytes(odd, data_page_version='2.0', version='1.0')]
    seeds += [_parquet_bytes(table, row_group_size=3, use_dictionary=False)]
    units = Table(_catalogue_columns())
    units['ra'].unit = units['dec'].unit = 'deg'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'x.parquet'
        units.write(path, format='parquet')
        seeds.append(path.read_bytes())
    return seeds


@cache
def alert_table_seeds():
    "Parquet files of alerts as bytes"
    import pyarrow as pa

    stamp = stamp_seeds()[1]
    rows = dict(candid=[1, 2], objectId=['ZTF1', 'ZTF2'], jd=[2458000.5] * 2, ra=[150.0] * 2)
    rows |= dict(dec=[2.0] * 2, magpsf=[18.0] * 2, fid=[1, 2], rb=[0.5, None])
    rows |= {f'cutout{role}': [stamp] * 2 for role in ('Science', 'Template', 'Difference')}
    rows['prv_candidates'] = [[dict(candid=5)], []]
    return [_parquet_bytes(pa.table(rows), compression=how) for how in ('none', 'snappy')]


def alert_tables(rng, folder):
    "A Parquet file of alerts, changed"
    made, _ = mutate_bytes(rng.choice(alert_table_seeds()), rng, alert_table_seeds())
    return _read_alert_file(folder / 'x.parquet', made)


def _odd_parquet(rng):
    "A Parquet file of types that no catalogue has"
    import pyarrow as pa

    n = rng.choice((0, 1, 5))
    makers = (
        lambda: pa.array([nested(rng.choice((1, 20)), list)] * n),
        lambda: pa.array([nested(rng.choice((1, 20)), dict)] * n),
        lambda: pa.array([rng.choice(ODD).encode('utf-8', 'replace')] * n, pa.binary()),
        lambda: pa.array([b'\xff\xfe'] * n, pa.binary()),
        lambda: pa.array([2**63 - 1] * n, pa.timestamp(rng.choice(('ms', 'us', 'ns')))),
        lambda: pa.array([10**9] * n, pa.date32()),
        lambda: pa.array([2**62] * n, pa.duration('s')),
        lambda: pa.array([float(rng.choice((1e308, 'nan', 'inf', 5e-324)))] * n),
        lambda: pa.array([rng.choice((2**63 - 1, -(2**63)))] * n),
        lambda: pa.array([2**64 - 1] * n, pa.uint64()),
        lambda: pa.array([True, None, False, None, True][:n]),
        lambda: pa.array(['150.1', '2h', '-', 'nan', '10:00:00'][:n]),
        lambda: pa.nulls(n),
        lambda: pa.array([], pa.float64()) if not n else pa.array([None] * n, pa.float32()),
        lambda: pa.array([[('a', 1)]] * n, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array([1] * n, pa.decimal256(60, 2)),
        lambda: pa.array([12345] * n, pa.time64('ns')),
        lambda: pa.array([1.5] * n, pa.float16()),
    )
    names = ['ra', 'dec', 'name', 'mag', 'is_real', 'mjd']
    names[rng.randrange(6)] = rng.choice((rng.choice(ODD)[:50].replace('\ud800', '?'), 'ra', ''))
    columns = [rng.choice(makers)() for _ in names]
    return _parquet_bytes(pa.Table.from_arrays(columns, names))


_CATALOGUE_ARGUMENTS = dict(ra='ra', dec='dec', object_id='name', mag='mag', is_real='is_real')


@cache
def _archive_folder():
    "The folder of an archive with one image, made before processes part"
    from astropy.io import fits

    from astrid_data.ingest.archive import open_archive

    home = Path(tempfile.mkdtemp(prefix='fuzz-'))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / 'one.fits').write_bytes(_bytes_of(fits.PrimaryHDU(_sky(1), _header())))
    archive = open_archive(str(home / 'archive'))
    archive.add_fits(home / 'one.fits', show=False)
    return home / 'archive'


@cache
def _archive_of(process):
    "The archive, opened in this process"
    from astrid_data.ingest.archive import open_archive

    return open_archive(str(_archive_folder()))


def _archive():
    return _archive_of(os.getpid())


def _take_in(rng, table, made):
    "Take a catalogue in, with a few of its columns named"
    from astrid_data.ingest.tables import read_table

    _archive_folder()
    read_table(table)
    named = {
        k: v for k, v in _CATALOGUE_ARGUMENTS.items() if k in ('ra', 'dec') or rng.random() < 0.5
    }
    if rng.random() < 0.3:
        named |= dict(when='mjd', days=1)
    if rng.random() < 0.5:
        _archive().add_catalogue(table, 'fuzz', **named)
    return 'accepted'


def parquet(rng, folder):
    "A Parquet file of a catalogue, changed"
    made = rng.choice(parquet_seeds())
    if rng.random() < 0.2:
        made = _odd_parquet(rng)
    else:
        made, _ = mutate_bytes(made, rng, parquet_seeds())
    path = folder / rng.choice(('x.parquet', 'x.pq', 'x'))
    path.write_bytes(made)
    return _take_in(rng, path, made)


@cache
def catalogue_seeds():
    "Catalogues in text and other formats: name of the file and bytes"
    from astropy.table import Table

    table = Table(_catalogue_columns())
    united = table.copy()
    united['ra'].unit = united['dec'].unit = 'deg'
    seeds = []
    formats = dict(csv='ascii.csv', tsv='ascii.tab', ecsv='ascii.ecsv', xml='votable', fits='fits')
    for ending, how in formats.items():
        out = io.BytesIO() if how in ('votable', 'fits') else io.StringIO()
        (united if how != 'ascii.csv' else table).write(out, format=how)
        data = out.getvalue()
        seeds.append((f'x.{ending}', data if isinstance(data, bytes) else data.encode()))
    out = io.BytesIO()
    united.write(out, format='votable', tabledata_format='binary')
    seeds.append(('x.vot', out.getvalue()))
    out = io.StringIO()
    table.write(out, format='ascii.commented_header')
    seeds.append(('x.txt', out.getvalue().encode()))
    records = [dict(zip(_catalogue_columns(), row)) for row in zip(*_catalogue_columns().values())]
    seeds.append(('x.json', json.dumps(records).encode()))
    seeds.append(('x.json', json.dumps(_catalogue_columns()).encode()))
    seeds.append(('x.jsonl', '\n'.join(map(json.dumps, records)).encode()))
    seeds += [(f'{name}.gz', gzip.compress(data)) for name, data in seeds[:5]]
    seeds += [('x.csv.bz2', bz2.compress(seeds[0][1]))]
    return seeds


def _text_bomb(rng):
    packed = gzip.compress(b'ra,dec\n' + b'1,1\n' * rng.choice((10**6, 3 * 10**7)), 1)
    entities = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    for one, two in zip('abcdefghi', 'bcdefghij'):
        entities += f'<!ENTITY {two} "{f"&{one};" * 10}">'.encode()
    entities += b']><VOTABLE><RESOURCE><DESCRIPTION>&j;</DESCRIPTION></RESOURCE></VOTABLE>'
    deep = b'[' * 200_000, b'{"a":' * 100_000, b'<VOTABLE>' + b'<RESOURCE>' * 50_000
    wide = b','.join(b'c%d' % i for i in range(50_000)) + b'\n' + b',' * 49_999
    kinds = (('x.csv.gz', packed), ('x.xml', entities), ('x.csv', wide))
    return rng.choice(
        (*kinds, *((f'x.{ending}', data) for ending, data in zip(('json', 'json', 'xml'), deep)))
    )


def catalogues(rng, folder):
    "A catalogue in a file, changed"
    name, seed = rng.choice(catalogue_seeds())
    made, _ = mutate_bytes(seed, rng, [data for _, data in catalogue_seeds()])
    how = rng.random()
    packed = name.endswith(('.gz', '.bz2', '.fits', '.vot'))
    if how < 0.5 and not packed:
        text = seed.decode()
        for _ in range(rng.choice((1, 1, 3))):
            text = mutate_text(text or 'x', rng)
        made = text.encode('utf-8', 'surrogatepass')
    elif how < 0.7 and name.endswith('.fits'):
        made = mutate_cards(seed, rng)
    elif how > 0.995:
        name, made = _text_bomb(rng)
    elif how > 0.9 and packed:
        return _truncated_table(rng, folder, name, seed)
    path = folder / name
    path.write_bytes(made)
    try:
        return _take_in(rng, path, made)
    finally:
        path.unlink()


def _truncated_table(rng, folder, name, seed):
    "A packed or binary table that ends early is refused"
    from astrid_data.ingest.tables import read_table

    made = truncate(seed, rng)
    path = folder / name
    path.write_bytes(made)
    found = read_table(path)
    path.write_bytes(seed)
    if name == 'x.fits' and len(made) > len(seed) - 2880 and found.equals(read_table(path)):
        return 'only filling cut'
    raise Wrong(f'{name} cut at {len(made)} of {len(seed)} bytes was accepted, {len(found)} rows')


# ---------------------------------------------------------------- settings

_ENV = """# settings
ASTRID_DATABASE_URL=postgresql://user:pass@localhost:5432/db
ASTRID_STORAGE_URL="s3://bucket/prefix"
export AWS_ACCESS_KEY_ID='AKIA'
AWS_SECRET_ACCESS_KEY=secret # comment
AWS_ENDPOINT_URL=http://localhost:9000
CLOUDFLARE_R2_BUCKET_NAME=b
SUPABASE_HOST=h
SUPABASE_PROJECT_REF=r
SUPABASE_PASSWORD=p@ss
ASTRID_CACHE_BYTES=20 GB
MLFLOW_TRACKING_URI=${AWS_ENDPOINT_URL}/x
NESTED=${NESTED}${A:-b}
"""


def settings(rng, folder):
    "A `.env` file, changed"
    from astrid_data.core import load_settings

    encoding = rng.choice(('utf-8', 'utf-8', 'utf-16', 'latin-1', 'utf-8-sig', 'utf-32'))
    text = _ENV
    for _ in range(rng.choice((1, 1, 3, 10))):
        text = mutate_text(text or 'x', rng)
    if rng.random() < 0.3:
        text = _ENV.replace(
            '20 GB', rng.choice((*ODD, '1e400 GB', '9' * 400, '1.2.3', '٣ GB', 'GB'))
        )
    made = text.encode(encoding, 'replace')
    if rng.random() < 0.4:
        made, _ = mutate_bytes(made, rng)
    path = folder / '.env'
    path.write_bytes(made)
    repr(load_settings({}, path))
    for name in ('ASTRID_CACHE_BYTES', 'ASTRID_DATABASE_URL', 'SUPABASE_PASSWORD'):
        load_settings({name: rng.choice(HUGE)}, None)
    return 'accepted'


os.environ.setdefault('ASTRID_DATA_QUIET', '1')
