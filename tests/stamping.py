"Made-up stamps, files of them, and what an archive keeps of them"

import io
import tarfile

import numpy as np
from astropy.io import fits
from sqlalchemy import select

from astrid_data.registry.tables import Detection, DetectionIndex, Image, Observation
from astrid_data.storage.packs import stored_bytes

SIDE = 15


def pixels(seed=0, kind='f4'):
    "Made-up pixels of one stamp"
    return np.random.default_rng(seed).normal(100, 9, (SIDE, SIDE)).astype(kind)


def cards(**more):
    "A header with a WCS"
    wcs = dict(CTYPE1='RA---TAN', CTYPE2='DEC--TAN', CRVAL1=33.0, CRVAL2=-5.0, CRPIX1=8.0)
    return fits.Header(wcs | dict(CRPIX2=8.0, CDELT1=-1e-4, CDELT2=1e-4) | more)


def fits_bytes(*hdus):
    "A FITS file in memory"
    out = io.BytesIO()
    fits.HDUList([*hdus]).writeto(out)
    return out.getvalue()


def npy_bytes(array):
    "A NPY file in memory"
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def write_tar(path, members, mode='w'):
    "A tar of pairs of a name and bytes"
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def kept(archive):
    "Name and role of what is stored -> its pixels and its extensions by name"
    with archive.session() as s:
        query = select(Observation.observation_id, Image.role, Image.uri)
        rows = s.execute(query.join(Image, Image.observation_id == Observation.id)).all()
    found = {}
    for name, role, uri in rows:
        with fits.open(io.BytesIO(stored_bytes(archive.store, uri))) as file:
            beside = {hdu.name: np.array(hdu.data) for hdu in file[1:]}
            found[name, role] = np.array(file[0].data), beside
    return found


def facts(archive):
    "Name of each stamp -> its rows: observation, image of the last role, index"
    query = select(Observation, Image, DetectionIndex)
    query = query.join(Image, Image.observation_id == Observation.id)
    query = query.join(Detection, Detection.observation_id == Observation.id)
    query = query.join(DetectionIndex, DetectionIndex.detection_id == Detection.id)
    with archive.session() as s:
        rows = s.execute(query.order_by(Image.role)).all()
        s.expunge_all()
    return {row[0].observation_id: row for row in rows}


def places_of_pixels(archive):
    "Right ascension of each stamp by the bytes of its pixels"
    rows = facts(archive)
    return {
        array.astype('f4').tobytes(): rows[name][0].ra
        for (name, _), (array, _) in kept(archive).items()
    }


def reasons(report):
    "Reasons of the ledger by the last part of each address"
    return dict(zip(report.ledger['uri'].str.rsplit('/').str[-1], report.ledger['reason']))
