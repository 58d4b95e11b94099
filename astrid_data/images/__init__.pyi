# The door of this package: read by editors and, at run time, by __init__.py
from .headers import read_header_facts as read_header_facts
from .wcs import (
    read_wcs as read_wcs,
    pixel_to_sky as pixel_to_sky,
    sky_to_pixel as sky_to_pixel,
)
from .image import (
    open_image as open_image,
    SkyImage as SkyImage,
)
from .hdus import list_images as list_images
from .planes import Plane as Plane
from .flags import DQ_FLAGS as DQ_FLAGS
from .sources import (
    detect_sources as detect_sources,
    same_sky as same_sky,
)
