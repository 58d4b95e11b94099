"Targets of `fuzzing`: sets of stamps that others cut, changed; none may come in with other pixels, or be lost unsaid."

import io
import json
import os
import shutil
import tarfile
import zipfile
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
from fuzz_files import _odd_cell, mutate_cards
from fuzzing import ODD, Wrong, mutate_bytes, mutate_text, odd_value
from stamping import SIDE, cards, fits_bytes, npy_bytes

FORMS = 'npz npy hdf5 zarr stamp_fits webdataset stamp_parquet'.split()
TARGETS = tuple(f'fuzz_sets:{name}' for name in FORMS)
CHANNELS = ['template', 'science', 'difference']
N = 3
PIXELS = np.random.default_rng(0).normal(100, 9, (N, 3, SIDE, SIDE)).astype('f4')
NAMES = [f'T_{i}' for i in range(N)]
KNOWN = {one.tobytes() for some in PIXELS for one in some}
numbers = count()


def places():
    "Columns of the table of all stamps"
    mjd = [59000.5 + i for i in range(N)]
    ra = [10.0 + i for i in range(N)]
    return dict(id=NAMES, ra=ra, dec=[1.0] * N, mjd=mjd, band=['g'] * N)


def csv_of_places():
    "The table as text"
    columns = places()
    lines = [','.join(map(str, row)) for row in zip(*columns.values())]
    return '\n'.join([','.join(columns), *lines]).encode()


# ---------------------------------------------------------------- what is taken in


@cache
def _home(process):
    "A folder of the archive of this process"
    return mkdtemp(prefix='fuzz-')


@cache
def _archive_of(process):
    from astrid_data.ingest.archive import open_archive

    return open_archive(_home(process))


def _picture(data):
    "Pixels of the first HDU of a file as bytes of float32"
    from astropy.io import fits

    with fits.open(io.BytesIO(data)) as file:
        return np.asarray(file[0].data).astype('f4').tobytes()


def _stored(path, table, how):
    "Take a set in; how many stamps came, how many rows say why others did not, and all pictures"
    from sqlalchemy import select

    from astrid_data.registry.tables import Image, Observation, Survey
    from astrid_data.storage.packs import stored_bytes

    archive, survey = _archive_of(os.getpid()), f's{os.getpid()}-{next(numbers)}'
    report = archive.add_stamps(path, survey, table, show=False, **how)
    query = select(Image.uri).join(Observation, Image.observation_id == Observation.id)
    query = query.join(Survey, Observation.survey_id == Survey.id).where(Survey.name == survey)
    with archive.session() as s:
        pictures = [_picture(stored_bytes(archive.store, uri)) for uri in s.scalars(query).all()]
    return report.added, len(report.lost) + report.skipped, pictures


def _read(path, table, how):
    "The same without an archive, which takes a tenth of the time"
    from astrid_data.ingest import stamp_sets
    from astrid_data.ingest.archive import IngestReport, ItemGuard
    from astrid_data.ingest.stamp_files import read_stamps
    from astrid_data.ingest.stamp_records import StampWords

    of_words = 'channels columns mask pixel_scale_arcsec time_scale'.split()
    words = StampWords(**{key: how[key] for key in of_words if key in how})
    asked = [how.get('is_real'), how.get('class_name'), how.get('score', 1.0)]
    asked, report, pictures = stamp_sets._Asked('a', words, *asked), IngestReport(), []
    guard = ItemGuard(report)
    for uri, record in stamp_sets._checked(read_stamps(path, table, words), words):
        with guard(uri):
            entry = stamp_sets._entry_of(uri, record, asked)
            report.added += 1
            pictures += map(_picture, entry.stamp.files.values())
    return report.added, len(report.lost), pictures


def _take_in(rng, path, whole, n=N, table=None, **how):
    "Take a set in; `whole`: no change of a pixel can go unseen, and no stamp be lost without a row"
    added, lost, pictures = (_stored if rng.random() < 0.15 else _read)(path, table, how)
    if added > n:
        raise Wrong(f'{added} stamps of {n}')
    if whole and not KNOWN.issuperset(pictures):
        raise Wrong(f'{added} stamps, one with other pixels')
    if whole and added < n and not lost:
        raise Wrong(f'{added} of {n} stamps, and no row says why')
    return 'accepted' if added else 'refused'


def _cut(data, rng):
    "The beginning of a file"
    return data[: rng.randrange(1, len(data))]


def _changed(data, rng, others=()):
    "A changed file, and whether it is only a part of it"
    if rng.random() < 0.3:
        return _cut(data, rng), True
    return mutate_bytes(data, rng, others)[0], False


def _some_words(rng):
    "What else may be said in the call"
    how = dict(channels=rng.choice((CHANNELS, CHANNELS, CHANNELS, ['a', 'b'], ['science'], [])))
    more = dict(
        is_real=rng.choice((True, 'label', 'band', None)),
        score=rng.choice((0.5, 'ra', 'score')),
        mask=rng.choice((None, 'bad', 'good')),
        class_name=rng.choice((None, 'band')),
        pixel_scale_arcsec=rng.choice((None, 0.1, -1.0, float('nan'))),
        time_scale=rng.choice((None, 'utc', 'tai')),
        columns=rng.choice(({}, dict(id='ra'), dict(mjd='id'), dict(scale='dec'))),
    )
    return how | {key: value for key, value in more.items() if rng.random() < 0.15}


# ---------------------------------------------------------------- NPZ, and NPY with a table


def _odd_array(rng):
    "An array that nobody expects"
    makers = (
        lambda: np.zeros((), 'f4'),
        lambda: np.zeros((0, 3, SIDE, SIDE), 'f4'),
        lambda: np.zeros((N, 3, 0, SIDE), 'f4'),
        lambda: np.full((N, 3, SIDE, SIDE), np.nan, 'f4'),
        lambda: np.zeros((N, 3, SIDE, SIDE), 'c16'),
        lambda: np.zeros((N, 3, SIDE, SIDE), 'U3'),
        lambda: np.zeros(N, [('a', 'f4', (SIDE, SIDE)), ('ra', 'f8')]),
        lambda: np.array([None, {}, b'x'], object),
        lambda: np.array(['2024-01-01', 'NaT', '1677-09-21T00:12:43.145'], 'M8[ns]'),
        lambda: np.array([rng.choice(ODD).replace('\ud800', '') for _ in range(N)]),
        lambda: np.array([1e308, -0.0, np.inf]),
        lambda: np.array([2**64 - 1, 0, 1], 'u8'),
        lambda: np.zeros((1,) * 30, 'u1'),
        lambda: np.zeros((N, 40, 40, 40), '>i2'),
    )
    return rng.choice(makers)()


def _npy_of_claims(rng):
    "A file of NPY whose header claims what it likes"
    shape = rng.choice(('(99999999999,)', '(-1, 15, 15)', f'({N}, 3, 15, 15', '()', '(1e9,)', 'a'))
    kind = rng.choice(("'<f4'", "'|O'", "'<f99'", "[('a', '<f4')]", "'|V2000000000'", '8'))
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"
    head = mutate_text(head, rng) if rng.random() < 0.3 else head
    head = head.encode('latin-1', 'replace')[:60_000]
    size = rng.choice((len(head), 0, 65535))
    return b'\x93NUMPY\x01\x00' + size.to_bytes(2, 'little') + head + PIXELS.tobytes()


def _members():
    "Arrays of the file of NPZ"
    return {'images': PIXELS} | {key: np.array(value) for key, value in places().items()}


def _zip_of(members, rng):
    "A zip of names and bytes, some of them stored in other ways"
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


def npz(rng, folder):
    "A file of NPZ, changed in its bytes or in its members"
    files = [(f'{name}.npy', npy_bytes(array)) for name, array in _members().items()]
    kind, whole = rng.random(), False
    if kind < 0.25:
        k = rng.randrange(len(files))
        odd = rng.choice((_npy_of_claims, lambda rng: npy_bytes(_odd_array(rng))))(rng)
        files[k] = rng.choice((files[k][0], '../x.npy', '/etc/x.npy', 'é.npy', '.npy')), odd
    elif kind < 0.35:
        files[1:] = [one for one in files[1:] if rng.random() < 0.7]
        rng.shuffle(files)
    elif kind < 0.37:
        files.append(('zeros.npy', npy_bytes(np.zeros(60_000_000, 'u1'))))
    made = _zip_of(files, rng)
    if kind >= 0.4:
        made, _ = _changed(made, rng)
        whole = True  # Each member has a checksum
    path = folder / 'x.npz'
    path.write_bytes(made)
    return _take_in(rng, path, whole, **(dict(channels=CHANNELS) if whole else _some_words(rng)))


def npy(rng, folder):
    "A file of NPY and a table, one of them changed"
    path, table, kind, whole = folder / 'x.npy', csv_of_places(), rng.random(), False
    made = npy_bytes(PIXELS)
    if kind < 0.25:
        made = npy_bytes(_odd_array(rng))
    elif kind < 0.5:
        made = _npy_of_claims(rng)
    elif kind < 0.75:
        made, whole = _changed(made, rng)
    else:
        table = mutate_text(table.decode(), rng).encode('utf-8', 'replace')
    path.write_bytes(made)
    other = folder / rng.choice(('x.csv', 'x.csv', 'meta.csv'))
    other.write_bytes(table)
    try:
        how = dict(channels=CHANNELS) if whole else _some_words(rng)
        return _take_in(rng, path, whole, table=rng.choice((other, other, None)), **how)
    finally:
        other.unlink()


# ---------------------------------------------------------------- HDF5 and zarr


@cache
def hdf5_seeds():
    "Files of HDF5: a set along one axis, packed with checksums, and a group for each object"
    import h5py

    seeds = []
    for how in ({}, dict(chunks=(1, 3, SIDE, SIDE), compression='gzip', fletcher32=True)):
        out = io.BytesIO()
        with h5py.File(out, 'w') as file:
            file.create_dataset('image_triplet', data=PIXELS, **how)
            for name, values in places().items():
                file[name] = values
        seeds.append(out.getvalue())
    out = io.BytesIO()
    with h5py.File(out, 'w') as file:
        for name, some in zip(NAMES, PIXELS):
            group = file.create_group(name)
            group.attrs.update(ra=10.0, dec=1.0)
            for channel, one in zip(CHANNELS, some):
                group[channel] = one
    return [*seeds, out.getvalue()]


def hdf5(rng, folder):
    "A file of HDF5, changed in its bytes or by what it holds"
    import h5py

    path = folder / rng.choice(('x.h5', 'x.hdf5', 'x'))
    made, cut = rng.choice(hdf5_seeds()), False
    if rng.random() < 0.75:
        made, cut = _changed(made, rng, hdf5_seeds())
        path.write_bytes(made)
    else:
        path.write_bytes(made)
        with h5py.File(path, 'r+') as file:
            _edit_hdf5(file, rng)
    try:
        return _take_in(rng, path, cut, **(dict(channels=CHANNELS) if cut else _some_words(rng)))
    finally:
        path.unlink()


def _edit_hdf5(file, rng):
    "Something odd in an open file"
    import h5py

    name = rng.choice(list(file))
    kind = rng.randrange(6)
    if kind == 0:
        del file[name]
    elif kind == 1:
        file['odd'] = rng.choice(
            (
                h5py.SoftLink('/'),
                h5py.SoftLink('/nowhere'),
                h5py.ExternalLink('/etc/passwd', '/'),
                h5py.ExternalLink('x', '/'),
                np.zeros((N, 3, SIDE, SIDE), 'c8'),
                h5py.Empty('f4'),
            )
        )
    elif kind == 2:
        file.create_dataset('images', (10**9, 63, 63), 'f4', chunks=(1, 63, 63))
    elif kind == 3:
        with suppress(TypeError, ValueError):
            array = _odd_array(rng)
            file['more'] = array.astype('S') if array.dtype.kind == 'U' else array
    elif kind == 4:
        with suppress(TypeError, ValueError, OverflowError, KeyError, RecursionError):
            file[name].attrs[rng.choice(('ra', 'dec', 'unit', 'mjd'))] = odd_value(rng)
    else:
        group = file
        for _ in range(rng.choice((3, 60))):
            group = group.create_group('g')
        group['image'] = PIXELS[0, 0]


@cache
def zarr_seeds():
    "Files of zarr stores by their name in the folder"
    import zarr

    seeds = []
    for version in (2, 3):
        with TemporaryDirectory() as home:
            group = zarr.open_group(f'{home}/x.zarr', mode='w', zarr_format=version)
            group.create_array('images', data=PIXELS, chunks=(1, 3, SIDE, SIDE))
            for name, values in places().items():
                if name not in ('id', 'band'):
                    group.create_array(name, data=np.array(values))
            files = [path for path in Path(home, 'x.zarr').rglob('*') if path.is_file()]
            seeds.append({str(one.relative_to(home)): one.read_bytes() for one in files})
    return seeds


def zarr(rng, folder):
    "A store of zarr with some of its files changed, cut or lost"
    files = dict(rng.choice(zarr_seeds()))
    whole = True
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice([*files, *(one for one in files if one.endswith(('json', 'ray')))])
        kind = rng.random()
        if kind < 0.15 and len(files) > 1:
            del files[name]
            whole = False  # A chunk that is not there is the fill value, by the format
        elif kind < 0.5 and name.endswith(('.json', '.zarray', '.zgroup', '.zattrs')):
            files[name] = mutate_text(files[name].decode('utf-8', 'replace') or ' ', rng).encode(
                'utf-8', 'replace'
            )
            whole = False
        elif kind < 0.7:
            files[name] = _cut(files[name], rng) if len(files[name]) > 1 else b''
        else:
            files[name], whole = mutate_bytes(files[name], rng)[0], False
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        how = dict(channels=CHANNELS) if whole else _some_words(rng)
        return _take_in(rng, folder / 'x.zarr', whole, **how)
    finally:
        shutil.rmtree(folder / 'x.zarr', ignore_errors=True)


# ---------------------------------------------------------------- FITS


@cache
def stamp_fits_seeds():
    "Files of FITS: a stamp an extension with a checksum each, and one of three channels"
    from astropy.io import fits

    many = [fits.PrimaryHDU()]
    for name, some in zip(NAMES, PIXELS):
        many.append(fits.ImageHDU(some[0], name=name))
        many[-1].header.update(RA=10.0, DEC=1.0, FILTER='g')
    table = fits.table_to_hdu(_astropy_table())
    cube = fits.PrimaryHDU(PIXELS.reshape(-1, SIDE, SIDE)[:N])
    one = [fits.PrimaryHDU()]
    one += [fits.ImageHDU(PIXELS[0, k], cards(), name=CHANNELS[k]) for k in range(N)]
    for hdus in (many, one, [cube, table]):
        for hdu in hdus:
            hdu.add_checksum()
    return [fits_bytes(*many), fits_bytes(cube, table), fits_bytes(*one)]


def _astropy_table():
    from astropy.table import Table

    return Table(places())


def stamp_fits(rng, folder):
    "A file of stamps as FITS, changed"
    number = rng.randrange(3)
    seed, cut = stamp_fits_seeds()[number], False
    if rng.random() < 0.3:
        made = mutate_cards(seed, rng)
        made = made[0] if isinstance(made, tuple) else made
    else:
        made, cut = _changed(seed, rng, stamp_fits_seeds())
    path = folder / 'T_0.fits'
    path.write_bytes(made)
    if not cut:
        return _take_in(rng, path, False, n=9, **_some_words(rng))
    how = dict(channels=['image']) if number == 1 else {}
    return _take_in(rng, path, True, n=1 if number == 2 else N, **how)


# ---------------------------------------------------------------- a tar


def _tar_of(files, mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@cache
def webdataset_files():
    "Members of a tar of stamps: pairs of a name and bytes"
    files = []
    for name, some in zip(NAMES, PIXELS):
        facts = json.dumps(dict(ra=10.0, dec=1.0, mjd=59000.5)).encode()
        files.append((f'train/{name}.json', facts))
        files += [(f'train/{name}.{c}.npy', npy_bytes(one)) for c, one in zip(CHANNELS, some)]
    return files


def _odd_member(rng, folder):
    "A member that is no plain file, or that has an odd name"
    info = tarfile.TarInfo(rng.choice(('train/T_1.json', '../x.npy', '/etc/x.npy', 'a' * 300)))
    kinds = (tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    info.type = rng.choice((*kinds, tarfile.GNUTYPE_SPARSE, tarfile.REGTYPE))
    info.linkname = rng.choice(('/etc/passwd', 'train/T_1.json', '../..', 'train/T_0.json'))
    return info


def webdataset(rng, folder):
    "A tar of stamps, changed in its bytes, or with a member that is odd"
    files, kind = list(webdataset_files()), rng.random()
    mode = rng.choice(('w', 'w:gz', 'w:xz', 'w:bz2'))
    path = folder / rng.choice(('x.tar', 'x.tar.gz', 'x.tgz'))
    if kind < 0.3:
        k = rng.randrange(len(files))
        odd = json.dumps({'ra': odd_value(rng), 'dec': 1.0, rng.choice(ODD): odd_value(rng)})
        makers = (_npy_of_claims, lambda rng: npy_bytes(_odd_array(rng)))
        makers += (lambda rng: odd.encode(), lambda rng: mutate_bytes(files[k][1], rng)[0])
        files[k] = files[k][0], rng.choice(makers)(rng)
        path.write_bytes(_tar_of(files, mode))
        return _take_in(rng, path, False, n=N + 1, **_some_words(rng))
    if kind < 0.45:
        with tarfile.open(path, 'w') as tar:
            tar.addfile(_odd_member(rng, folder))
            for name, data in files:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return _take_in(rng, path, False, n=N + 1)
    made, cut = _changed(_tar_of(files, mode), rng)
    path.write_bytes(made)
    whole = cut or mode != 'w'  # What is packed has a checksum
    return _take_in(rng, path, whole, n=N if whole else N + 1)


# ---------------------------------------------------------------- Parquet


@cache
def stamp_parquet_seeds():
    "Files of Parquet with a column for each channel, with checksums of pages and without"
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = places()
    for k, channel in enumerate(CHANNELS):
        columns[channel] = pa.array(PIXELS[:, k].tolist(), pa.list_(pa.list_(pa.float32())))
    seeds = []
    for how in ({}, dict(compression='zstd', write_page_checksum=True)):
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out, **how)
        seeds.append(out.getvalue())
    return seeds


def _odd_table(rng):
    "A table of stamps with a column that nobody expects"
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = places() | {c: PIXELS[:, k].tolist() for k, c in enumerate(CHANNELS)}
    name = rng.choice(list(columns))
    cell = rng.choice((_odd_cell, odd_value))
    values = [cell(rng) if rng.random() < 0.6 else one for one in columns[name]]
    if name in CHANNELS and rng.random() < 0.5:
        values = [[[1.0, 2.0], [3.0]], None, []]
    columns[name] = values
    out = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), out)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
        return stamp_parquet_seeds()[0]
    return out.getvalue()


def stamp_parquet(rng, folder):
    "A file of Parquet with stamps, changed"
    path, cut = folder / 'x.parquet', False
    if rng.random() < 0.35:
        made = _odd_table(rng)
    else:
        made, cut = _changed(rng.choice(stamp_parquet_seeds()), rng, stamp_parquet_seeds())
    path.write_bytes(made)
    return _take_in(rng, path, cut, **({} if cut else _some_words(rng)))
