"""One patch of every image in a folder on one page: name, band and size, to be looked at.

    python tools/contact_sheet.py FOLDER OUT.png [--size 64] [--columns 10] [--like hst/]

Each patch is cut around the brightest source of its image (smoothed, away from the edges); every band of a file with several.
Grey is the asinh of the background-subtracted pixels; red has no valid pixel. A file that can't be read has its reason instead.
"""

import argparse
from pathlib import Path
from textwrap import wrap

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

import astrid_data as ad
from astrid_data.core import BadImage
from astrid_data.images.hdus import list_images


def science_of(path):
    "How to ask for each science image of a file"
    for info in list_images(path):
        if not info.support:
            yield from (
                [info.index]
                if len(info.shape) == 2
                else (f'{info.index}[{k}]' for k in range(int(np.prod(info.shape[:-2]))))
            )


def brightest(image, margin=5):
    "Pixel position of the brightest place"
    pixels, bad = image.read_all()
    a = gaussian_filter(np.where(bad, np.nanmedian(pixels), pixels), 1.5)
    a[:margin] = a[-margin:] = a[:, :margin] = a[:, -margin:] = -np.inf
    y, x = np.unravel_index(np.argmax(a), a.shape)
    return x, y


def cards(folder, like, size):
    "(title, patch or None, reason) for every image"
    for path in sorted(
        p for p in folder.rglob('*.fit*') if str(p.relative_to(folder)).startswith(like)
    ):
        name = path.name.rsplit('.fit', 1)[0]
        try:
            for ask in science_of(path):
                with ad.images.open_image(path, ask) as image:
                    x, y = brightest(image)
                    p = ad.patches.cut_patches(image, [x], [y], size)
                    scale = (
                        f'{image.pixel_scale_arcsec:.2g}"'
                        if image.wcs is not None
                        else image.wcs_reason
                    )
                    yield (
                        f'{name}\n{ask if ask else ""} {image.band or "no band"} {scale}',
                        p.data[0],
                        '',
                    )
        except BadImage as e:
            yield name, None, e.reason


def stretch(a):
    "Grey values of a patch"
    level = np.nanmedian(a)
    noise = 1.4826 * np.nanmedian(np.abs(a - level)) or np.nanstd(a) or 1.0
    return np.arcsinh((a - level) / noise / 3)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('folder', type=Path)
    p.add_argument('out', type=Path)
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--columns', type=int, default=10)
    p.add_argument('--like', default='')
    args = p.parse_args()
    found = list(cards(args.folder, args.like, args.size))
    rows = -(-len(found) // args.columns)
    fig, axes = plt.subplots(
        rows, args.columns, figsize=(1.9 * args.columns, 2.2 * rows), squeeze=False
    )
    grey = plt.get_cmap('gray').with_extremes(bad='#b33')
    for ax in axes.flat:
        ax.axis('off')
    for ax, (title, patch, reason) in zip(axes.flat, found):
        if patch is None:
            ax.text(
                0.5,
                0.5,
                reason,
                ha='center',
                va='center',
                fontsize=9,
                color='#b33',
                transform=ax.transAxes,
            )
        else:
            ax.imshow(
                np.ma.masked_invalid(stretch(patch)),
                origin='lower',
                cmap=grey,
                interpolation='nearest',
            )
        head, *rest = title.split('\n')
        ax.set_title('\n'.join([*wrap(head, 26), *rest]), fontsize=6)
    fig.tight_layout()
    fig.savefig(args.out, dpi=80)
    print(f'{len(found)} images, {sum(p is None for _, p, _ in found)} unreadable: {args.out}')


if __name__ == '__main__':
    main()
