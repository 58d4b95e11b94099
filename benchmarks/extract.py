"Cutting patches: from positions on the sky to arrays in memory, and on to shards with a manifest"

from pathlib import Path

from benchmarks.harness import Row, Table, sized

SIDE, TILES = 4096, sized(20, 3)


def make_tiles(folder, per, kind='plain', tiles=TILES):
    "Images of sky, positions on them, and what ingest would have written down about each"
    import json

    import numpy as np
    import pandas as pd
    from astropy.io import fits
    from astropy.wcs import WCS

    from astrid_data.images.header_cache import image_index
    from astrid_data.images.image import open_image

    rng, rows, marks = np.random.default_rng(1), [], {}
    side, each = (1024, 4) if kind == 'mef' else (SIDE, 1)
    for t in range(tiles):
        path, hdus = folder / f't{t:03d}.fits', [fits.PrimaryHDU()]
        for e in range(each):
            h = fits.Header(
                dict(
                    CTYPE1='RA---TAN',
                    CTYPE2='DEC--TAN',
                    CRVAL1=(17.0 * t + e) % 360,
                    CRVAL2=-60 + 120 * t / tiles,
                    CRPIX1=side / 2 + 0.5,
                    CRPIX2=side / 2 + 0.5,
                    CD1_1=-0.2 / 3600,
                    CD1_2=0.0,
                    CD2_1=0.0,
                    CD2_2=0.2 / 3600,
                    TELESCOP='Pretend',
                    RADESYS='ICRS',
                    SYNTHET=True,
                )
            )
            a = rng.standard_normal((side, side), dtype='f4') * 5 + 100
            hdus.append(
                fits.CompImageHDU(a, h, name='SCI', compression_type='RICE_1', tile_shape=(1, side))
                if kind == 'rice'
                else fits.ImageHDU(a, h, name='SCI', ver=e + 1)
            )
            sky = WCS(h).all_pix2world(rng.uniform(70, side - 70, (per // each, 2)), 0)
            rows.append(
                pd.DataFrame(
                    dict(
                        image_uri=str(path),
                        image_hdu='SCI',
                        image_extver=e + 1,
                        image_wcs_state='celestial',
                        ra=sky[:, 0],
                        dec=sky[:, 1],
                        observation_key=f't{t:03d}-{e}',
                    )
                )
            )
        if kind == 'plain':
            hdus = [fits.PrimaryHDU(hdus[1].data, hdus[1].header)]
            hdus[0].header['EXTNAME'] = 'SCI'
            hdus[0].header['EXTVER'] = 1
        fits.HDUList(hdus).writeto(path)
        for e in range(each):
            with open_image(path, 'SCI', e + 1) as image:
                image.sha256
                marks[f'{path}|SCI|{e + 1}'] = image_index(image)
    s = pd.concat(rows, ignore_index=True)
    (
        s['sample_key'],
        s['survey'],
        s['class_name'],
        s['label'],
        s['origin'],
        s['split'],
        s['band'],
    ) = [f's{i:07d}' for i in range(len(s))], 'pretend', 'star', 1, 'synthetic', 'train', 'r'
    s.to_csv(folder / 'samples.csv', index=False)
    (folder / 'marks.json').write_text(json.dumps(marks))


def samples_of(folder):
    import pandas as pd

    s = pd.read_csv(folder / 'samples.csv', dtype=dict(image_hdu=str))
    return s, [(u, int(v), g) for (u, v), g in s.groupby(['image_uri', 'image_extver'], sort=False)]


def known(folder):
    import json

    return {
        (u, h, int(v)): m
        for k, m in json.loads((folder / 'marks.json').read_text()).items()
        for u, h, v in (k.split('|'),)
    }


def touched(n, size):
    import numpy as np

    return np.zeros((n, 1, size, size), 'f4'), np.zeros((n, 1, size, size), bool)


def ours(size, compiled, executor='ThreadPoolExecutor'):
    "`extract_patches` with what ingest wrote down; compiled also takes one thread a core, or one process"

    def start(folder):
        import concurrent.futures
        import os

        from astrid_data.images.header_cache import HeaderCache
        from astrid_data.patches.extract import extract_patches
        from astrid_data.patches.gather import compiled_loop

        if compiled and compiled_loop() is None:
            raise SystemExit("numba is not installed: pip install 'astrid_data[fast]'")
        (s, _), marks, pool = (
            samples_of(folder),
            known(folder),
            getattr(concurrent.futures, executor)(len(os.sched_getaffinity(0)))
            if compiled
            else None,
        )
        data, valid = touched(len(s), size)

        def once():
            got = extract_patches(
                s,
                size,
                open=HeaderCache(marks),
                data_out=data,
                valid_out=valid,
                compiled=compiled,
                executor=pool,
            )
            return int(got.kept.sum())

        return once

    return start


def plain_numpy(size):
    "One vectorised WCS call a tile, slices of a memory map; no validity, no edges, no ledger"

    def start(folder):
        import numpy as np
        from astropy.io import fits
        from astropy.wcs import WCS

        s, groups = samples_of(folder)
        out, _ = touched(len(s), size)

        def once():
            k = 0
            for path, ver, g in groups:
                with fits.open(path, memmap=True) as f:
                    hdu = f['SCI', ver]
                    a, xy = (
                        np.asarray(hdu.data),
                        WCS(hdu.header).all_world2pix(np.column_stack([g['ra'], g['dec']]), 0),
                    )
                    for x, y in (np.floor(xy + 0.5).astype(int) - size // 2).tolist():
                        out[k, 0] = a[y : y + size, x : x + size]
                        k += 1
            return k

        return once

    return start


def memory_copy(size):
    def start(folder):
        import numpy as np

        n = len(samples_of(folder)[0])
        (a, _), (b, _) = touched(n, size), touched(n, size)

        def once():
            np.copyto(b, a)
            return n

        return once

    return start


def one_by_one(size, cut):
    "A peer's cutter, given pixel positions from one WCS call a tile"

    def start(folder):
        import numpy as np
        from astropy.io import fits
        from astropy.wcs import WCS

        s, groups = samples_of(folder)
        out, _ = touched(len(s), size)

        def once():
            k = 0
            for path, ver, g in groups:
                with fits.open(path, memmap=True) as f:
                    hdu = f['SCI', ver]
                    a, w = np.asarray(hdu.data), WCS(hdu.header)
                    for x, y in w.all_world2pix(np.column_stack([g['ra'], g['dec']]), 0).tolist():
                        out[k, 0] = cut(a, x, y, size, w)
                        k += 1
            return k

        return once

    return start


def _cutout2d(a, x, y, size, w):
    from astropy.nddata import Cutout2D

    return Cutout2D(a, (x, y), size, wcs=w).data


def _photutils(a, x, y, size, w):
    from photutils.utils import CutoutImage

    return CutoutImage(a, (y, x), (size, size)).data


def astrocut(size, most=40):
    "astrocut, on so few of the samples that it ends"

    def start(folder):
        from astrocut import FITSCutout
        from astropy.coordinates import SkyCoord

        s = samples_of(folder)[0]
        rows = s.iloc[:: max(1, len(s) // most)][:most]

        def once():
            for r in rows.itertuples():
                FITSCutout(
                    [r.image_uri], SkyCoord(r.ra, r.dec, unit='deg'), size, extension=0
                ).fits_cutouts
            return len(rows)

        return once

    return start


def cutana_direct(size):
    "Cutana's vectorised extractor, called directly"

    def start(folder):
        from astropy.io import fits
        from astropy.wcs import WCS
        from cutana.cutout_extraction import extract_cutouts_batch_vectorized

        groups = samples_of(folder)[1]
        batches = [
            (
                path,
                ver,
                [
                    dict(SourceID=k, RA=r, Dec=d, diameter_pixel=size)
                    for k, r, d in zip(g['sample_key'], g['ra'], g['dec'])
                ],
            )
            for path, ver, g in groups
        ]

        def once():
            n = 0
            for path, ver, batch in batches:
                with fits.open(path, memmap=True) as f:
                    hdu = f['SCI', ver]
                    n += len(
                        extract_cutouts_batch_vectorized(
                            batch, {'SCI': hdu}, {'SCI': WCS(hdu.header)}, ['SCI']
                        )[0]
                    )
            return n

        return once

    return start


def cutana_zarr(size):
    "Cutana's own run, written to zarr"

    def start(folder):
        import shutil

        import cutana

        s = samples_of(folder)[0].rename(columns=dict(sample_key='SourceID', ra='RA', dec='Dec'))
        s['diameter_pixel'], s['fits_file_paths'] = size, [f"['{p}']" for p in s['image_uri']]
        s[['SourceID', 'RA', 'Dec', 'diameter_pixel', 'fits_file_paths']].to_csv(
            folder / 'cutana.csv', index=False
        )

        def once():
            shutil.rmtree(folder / 'cutana', ignore_errors=True)
            c = cutana.get_default_config()
            c.source_catalogue, c.output_dir, c.output_format, c.target_resolution = (
                str(folder / 'cutana.csv'),
                str(folder / 'cutana'),
                'zarr',
                size,
            )
            (
                c.normalisation_method,
                c.apply_flux_conversion,
                c.skip_fits_check,
                c.console_log_level,
            ) = 'none', False, True, 'ERROR'
            c.fits_extensions, c.selected_extensions, c.channel_weights = (
                ['PRIMARY'],
                [dict(name='PRIMARY', ext='PrimaryHDU')],
                {'PRIMARY': [1.0]},
            )
            result = cutana.Orchestrator(c).run()
            if result.get('status') != 'completed':
                raise SystemExit(f'Cutana: {result.get("status")} {result.get("error", "")}')
            return len(s)

        return once

    return start


def version(size, **options):
    "Shards, checksums, hash and manifest, as a build makes them"

    def start(folder):
        import shutil
        import tempfile

        import pandas as pd

        from astrid_data.datasets.dataset import finish_version
        from astrid_data.datasets.staging import CutSettings, write_patches
        from astrid_data.images.opener import ImageOpener

        s, marks = samples_of(folder)[0], known(folder)

        def once():
            work = Path(tempfile.mkdtemp(dir=folder))
            opener = ImageOpener(None)
            opener.images.known.update(marks)
            settings = CutSettings(size, **options)
            kept, lost, shards = write_patches(s, work, opener, settings, progress=False)
            ledger = (
                lost.assign(n=1)
                if len(lost)
                else pd.DataFrame(columns=['sample_key', 'uri', 'reason', 'detail', 'n'])
            )
            m = finish_version(
                work / 'version',
                kept.assign(group_id=kept['sample_key'], kind='positive'),
                ledger,
                shards,
                {},
                dict(patch_size=size, channels=['image']),
                name='bench',
                version=1,
                patch_size=size,
                channels=['image'],
                id='bench',
            )
            shutil.rmtree(work)
            return m['n_samples']

        return once

    return start


def table(size, per, kind='plain', tiles=TILES, about='', peers=True):
    rows = dict(
        astrid_data=Row(ours(size, True)),
        astrid_data_numpy=Row(ours(size, False)),
        plain_numpy=Row(plain_numpy(size)),
        memory_copy=Row(memory_copy(size)),
    )
    rows |= dict(
        astropy_cutout2d=Row(one_by_one(size, _cutout2d), peer=True),
        photutils=Row(one_by_one(size, _photutils), peer=True),
        cutana=Row(cutana_direct(size), peer=True),
    )
    if kind == 'rice':
        rows |= dict(
            astrid_data=Row(ours(size, True, 'ProcessPoolExecutor')),
            astrid_data_threads=Row(ours(size, True)),
        )
    if peers and kind == 'plain':
        rows['astrocut'] = Row(astrocut(size), peer=True)
    return Table(
        'plain_numpy',
        'patches/s',
        rows,
        lambda folder: make_tiles(folder, per, kind, tiles),
        about=about,
    )


_FROM_TILES = (
    'from 20 tiles of 4096 x 4096, into memory touched before; astrid_data with validity, '
    'edges and ledger, the others without'
)
TABLES = dict(
    extract_64_warm=table(
        64,
        1000,
        about='20,000 patches of 64 x 64 ' + _FROM_TILES,
    ),
    extract_32=table(32, 1000, about='20,000 patches of 32 x 32 ' + _FROM_TILES),
    extract_128=table(128, 1000, about='20,000 patches of 128 x 128 ' + _FROM_TILES),
    extract_mef=table(
        64, 1000, 'mef', about='20 files of 4 extensions of 1024 x 1024, 250 patches each'
    ),
    extract_rice=table(
        64,
        200,
        'rice',
        tiles=5,
        about='5 tiles of 4096 x 4096, RICE compressed in rows, 200 patches each; astrid_data with one process a core, made beforehand, as decompression holds the lock of Python (its memory here is that of the process which asks)',
    ),
    extract_sparse=table(64, 5, about='5 patches a tile of 20'),
    extract_version_64=Table(
        'cutana_zarr',
        'patches/s',
        dict(
            astrid_data=Row(version(64, measure=False, target_maps=False)),
            astrid_data_with_quality=Row(version(64, target_maps=False)),
            cutana_zarr=Row(cutana_zarr(64), peer=True),
        ),
        lambda folder: make_tiles(folder, sized(5000, 1000)),
        about='100,000 patches into shards with checksums, content hash and manifest',
        fresh_mb=4096,
    ),
)


def grown(tiles):
    return {
        f'{name}_{tiles}': Row(f(tiles))
        for name, f in dict(astrid_data=_ours_first, plain_numpy=_plain_first).items()
    }


def _first(start, tiles):
    "A row on the first so many tiles"

    def begin(folder):
        import shutil
        import tempfile

        import pandas as pd

        part = Path(tempfile.mkdtemp(dir=folder))
        s = pd.read_csv(folder / 'samples.csv')
        s[s['image_uri'].isin(s['image_uri'].unique()[:tiles])].to_csv(
            part / 'samples.csv', index=False
        )
        shutil.copy(folder / 'marks.json', part)
        return start(part)

    return begin


def _ours_first(tiles):
    return _first(version(64, measure=False, target_maps=False), tiles)


def _plain_first(tiles):
    return _first(plain_numpy(64), tiles)


TABLES['extract_growth'] = Table(
    'plain_numpy',
    'patches/s',
    dict(astrid_data=Row(_ours_first(20)), plain_numpy=Row(_plain_first(20)))
    | grown(5)
    | grown(10),
    lambda folder: make_tiles(folder, 1000),
    about='1,000 patches a tile of 5, 10 and all 20 tiles: astrid_data into shards on the disk, plain numpy into memory',
    fresh_mb=1024,
)
