"""The real sky that ships with the package: made anew from packages anyone can get.

    python tools/make_sample.py                  # fetches Debian's python-drizzle-testdata with apt-get
    python tools/make_sample.py --deb FILE.deb   # uses a copy that is already here

Writes astrid_data/sample/*.fits.gz with PROVENANCE.csv and PROVENANCE.md: where each file came from, what was done to it.
Every byte of pixels is as its package has it; one exposure is cropped, and its header is shifted to match.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tempfile
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

out = Path(__file__).resolve().parents[1] / 'astrid_data/sample'
deb_name, deb_version = 'python-drizzle-testdata', '1.13.4-1'
deb_sha256 = 'a54d820772e51d5e19467913f7a445a7de775386258cc997848f63f517c9bb78'
deb_path = 'usr/share/python-drizzle/test_data/input1.fits'
crop_x0, crop_y0, crop_size = (
    240,
    176,
    512,
)  # the 512 x 512 window with most cosmic rays clear of the coronagraphic finger

# our file, package, path inside it (and member of a zip), survey, what it shows
wheels = [
    (
        '47tuc_acs_wfc_f606w_lookup',
        'astropy',
        'wcs/tests/data/dist_lookup.fits.gz',
        '',
        'hst',
        '47 Tuc, ACS/WFC F606W, with SIP and lookup-table distortion',
    ),
    (
        'goodsn_acs_3band',
        'astroquery',
        'mast/tests/data/astrocut_189.49206_62.20615_100x100px_f.zip',
        'candels_gn_30mas_189.492060_62.206150_100.0pix-x-100.0pix_astrocut.fits',
        'hst',
        'CANDELS GOODS-N, ACS F606W, F814W and F850LP',
    ),
    (
        'm13_skyview',
        'astropy',
        'io/fits/hdu/compressed/tests/data/m13.fits',
        '',
        'skyview',
        'M13; the header names neither survey, band nor date',
    ),
    (
        'acen_dss',
        'astropy',
        'wcs/tests/data/dss.14.29.56-62.41.05.fits.gz',
        '',
        'dss',
        'near alpha Cen, UK Schmidt plate',
    ),
    (
        'crab_poss',
        'astroquery',
        'ipac/ned/tests/data/query_images.fits',
        '',
        'dss',
        'the Crab nebula, Palomar plate of 1951; plate-solution WCS',
    ),
    (
        'crab_ukidss_k',
        'astroquery',
        'ukidss/tests/data/image.fits',
        '',
        'ukidss',
        'the Crab nebula, WFCAM K',
    ),
    (
        'sa110_cfht_g',
        'astroquery',
        'cadc/tests/data/query_images.fits',
        '',
        'cfht',
        'standard field SA 110, MegaPrime g',
    ),
]
# what is known of a file beside its cards for telescope, instrument and band, and whence
told = {
    'goodsn_acs_3band': (
        dict(dithered=True),
        'Koekemoer et al. 2011 (ApJS 197, 36): each mosaic combines many dithered exposures',
    ),
    '47tuc_acs_wfc_f606w_lookup': (
        dict(survey='hst', mission='hst/acs', telescope='HST', instrument='ACS', band='F606W'),
        "its PHOTMODE card, 'ACS WFC1 F606W'",
    ),
}
data_licence = {
    'hst': 'NASA/ESA Hubble data, public (MAST)',
    'skyview': 'NASA SkyView, public',
    'dss': 'Digitized Sky Survey, (c) STScI/AURA, see its acknowledgement',
    'ukidss': 'UKIDSS (WFCAM Science Archive), world public',
    'cfht': 'CFHT (CADC), public',
}


def sha256(b):
    return hashlib.sha256(b).hexdigest()


def gz(b):
    return gzip.compress(b, 9, mtime=0)


def shift_header(hd, x0, y0):
    "Move the pixel origin of header `hd` by (x0, y0): every keyword that counts pixels from the corner"
    for axis, d in ((1, x0), (2, y0)):
        for key in (f'CRPIX{axis}', f'CRPIX{axis}O'):
            if key in hd:
                hd[key] = hd[key] - d
        if f'LTV{axis}' in hd:
            hd[f'LTV{axis}'] = hd[f'LTV{axis}'] - d


def crop(hdul, x0, y0, size, names=('SCI', 'ERR', 'DQ')):
    """The window of a multi-extension exposure, with WCS.

    SIP polynomials count from CRPIX, so they move with it. Lookup tables (WCSDVARR, D2IMARR) say in CRVAL at which
    image pixel they start, so that is shifted instead."""
    res = fits.HDUList([fits.PrimaryHDU(header=hdul[0].header)])
    for hdu in hdul[1:]:
        if hdu.name in names:
            new = fits.ImageHDU(
                np.ascontiguousarray(hdu.data[y0 : y0 + size, x0 : x0 + size]), hdu.header.copy()
            )
            shift_header(new.header, x0, y0)
        elif hdu.name in ('WCSDVARR', 'D2IMARR'):
            new = hdu.copy()
            for axis, d in ((1, x0), (2, y0)):
                new.header[f'CRVAL{axis}'] = new.header[f'CRVAL{axis}'] - d
        else:
            continue
        res.append(new)
    res[0].header['NEXTEND'] = len(res) - 1
    res[0].header['HISTORY'] = (
        f'Cropped by astrid_data: x {x0}..{x0 + size - 1}, y {y0}..{y0 + size - 1} (0-based) of the original.'
    )
    return res


def check_crop(full, part, x0, y0, size):
    "The same sky under the same pixel, distortion included"
    x, y = np.meshgrid(np.linspace(0, size - 1, 9), np.linspace(0, size - 1, 9))
    a = WCS(full['SCI'].header, full).all_pix2world(x.ravel() + x0, y.ravel() + y0, 0)
    b = WCS(part['SCI'].header, part).all_pix2world(x.ravel(), y.ravel(), 0)
    assert np.allclose(a, b, rtol=0, atol=1e-10), 'the crop does not point where the original does'
    for n in ('SCI', 'ERR', 'DQ'):
        assert (part[n].data == full[n].data[y0 : y0 + size, x0 : x0 + size]).all()


def fetch_deb(tmp):
    "Path of the Debian package, fetched with apt-get into `tmp`"
    subprocess.run(['apt-get', 'download', '-q', f'{deb_name}={deb_version}'], cwd=tmp, check=True)
    return next(Path(tmp).glob('*.deb'))


def hrc_crop(deb, tmp):
    "Bytes of the original exposure and of our crop"
    got = sha256(Path(deb).read_bytes())
    if got != deb_sha256:
        raise ValueError(f'{deb} is not {deb_name} {deb_version}: sha256 {got}')
    subprocess.run(['dpkg-deb', '-x', str(deb), str(tmp)], check=True)
    raw = (Path(tmp) / deb_path).read_bytes()
    with fits.open(io.BytesIO(raw)) as full:
        part = crop(full, crop_x0, crop_y0, crop_size)
        check_crop(full, part, crop_x0, crop_y0, crop_size)
        buf = io.BytesIO()
        part.writeto(buf)
    return raw, gz(buf.getvalue())


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument(
        '--deb', help=f'the file {deb_name}_{deb_version}_all.deb; fetched when not given'
    )
    deb = ap.parse_args().deb
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    rows = []

    def add(name, src, ours, package, ver, path, survey, about, done):
        f = out / f'{name}.fits.gz'
        f.write_bytes(ours)
        rows.append(
            dict(
                file=f.name,
                survey=survey,
                shows=about,
                package=package,
                version=ver,
                path=path,
                source_sha256=sha256(src),
                sha256=sha256(ours),
                bytes=len(ours),
                licence=f'package BSD-3-Clause; {data_licence[survey]}',
                done=done,
                told=json.dumps(told[name][0]) if name in told else '',
                told_by=told[name][1] if name in told else '',
            )
        )

    with tempfile.TemporaryDirectory() as tmp:
        src, ours = hrc_crop(deb or fetch_deb(tmp), tmp)
    add(
        '47tuc_acs_hrc_f606w',
        src,
        ours,
        f'Debian {deb_name}',
        deb_version,
        deb_path,
        'hst',
        '47 Tuc, ACS/HRC F606W, one 60 s exposure: SCI, ERR, DQ (cosmic rays flagged by drizzlepac), SIP distortion',
        f'cropped to x {crop_x0}..{crop_x0 + crop_size - 1}, y {crop_y0}..{crop_y0 + crop_size - 1}, CRPIX and LTV shifted; table WCSCORR left out; gzip',
    )
    for name, package, path, member, survey, about in wheels:
        src = raw = (Path(find_spec(package).origin).parent / path).read_bytes()
        if member:
            raw = zipfile.ZipFile(io.BytesIO(src)).read(member)
        same = path.endswith('.gz')
        done = 'unchanged' if same else ('taken out of the zip; ' if member else '') + 'gzip'
        add(
            name,
            src,
            raw if same else gz(raw),
            f'PyPI {package}',
            version(package),
            f'{package}/{path}' + (f' : {member}' if member else ''),
            survey,
            about,
            done,
        )
    with open(out / 'PROVENANCE.csv', 'w', newline='') as f:
        w = csv.DictWriter(f, rows[0], lineterminator='\n')
        w.writeheader()
        w.writerows(rows)
    (out / 'PROVENANCE.md').write_text(provenance_md(rows))
    total = sum(r['bytes'] for r in rows)
    assert total < 4e6, f'{total} bytes: the sample must stay under 4 MB'
    print(f'{len(rows)} files, {total / 1e6:.2f} MB')


def provenance_md(rows):
    "The provenance as a page"
    lines = [
        '# Where the sample comes from',
        '',
        'Real observations, taken by `tools/make_sample.py` from packages that anyone can get. Nothing was resampled or rescaled.',
        '',
        'sha256 of the source is of the file at the given path (for a zip: of the zip); sha256 of ours is of the file that lies here.',
        '',
    ]
    for r in rows:
        lines += (
            [
                f'## {r["file"]}',
                '',
                r['shows'][0].upper() + r['shows'][1:] + '.',
                '',
                '| | |',
                '|---|---|',
                f'| survey | {r["survey"]} |',
                f'| package | {r["package"]} {r["version"]} |',
                f'| path | `{r["path"]}` |',
                f'| sha256 of the source | `{r["source_sha256"]}` |',
                f'| sha256 of ours | `{r["sha256"]}` |',
                f'| bytes | {r["bytes"]} |',
                f'| licence | {r["licence"]} |',
                f'| what was done | {r["done"]} |',
            ]
            + (
                [f'| told beside the header | `{r["told"]}`, from {r["told_by"]} |']
                if r['told']
                else []
            )
            + ['']
        )
    lines += [
        'The Debian package and the wheels of astropy and astroquery are BSD-3-Clause. The Digitized Sky Surveys were produced at the Space '
        'Telescope Science Institute under U.S. Government grant NAG W-2166, from plates of the Oschin Schmidt Telescope on Palomar Mountain '
        'and the UK Schmidt Telescope.',
        '',
    ]
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
