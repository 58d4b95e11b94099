# The door of this package: read by editors and, at run time, by __init__.py
from .align import (
    on_grid as on_grid,
    at_scale as at_scale,
    registration_error as registration_error,
    Registration as Registration,
)
from .extract import (
    cut_patches as cut_patches,
    extract_patches as extract_patches,
    Patches as Patches,
    Extracted as Extracted,
    patch_wcs as patch_wcs,
)
from .target_maps import target_map as target_map
from .on_files import (
    cutouts as cutouts,
    PatchSet as PatchSet,
)
