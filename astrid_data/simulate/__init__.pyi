# The door of this package: read by editors and, at run time, by __init__.py
from .synthetic import (
    synthetic_archive as synthetic_archive,
    synthetic_image as synthetic_image,
    add_star as add_star,
    add_cosmic_ray as add_cosmic_ray,
    scatter_points as scatter_points,
)
