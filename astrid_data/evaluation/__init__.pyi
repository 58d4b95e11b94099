# The door of this package: read by editors and, at run time, by __init__.py
from .scores import (
    OperatingPoints as OperatingPoints,
    operating_points as operating_points,
    average_precision as average_precision,
    auc_roc as auc_roc,
    calibration as calibration,
    bootstrap as bootstrap,
    paired_bootstrap as paired_bootstrap,
)
from .breakdown import (
    purity as purity,
    completeness as completeness,
    plot_breakdown as plot_breakdown,
    worst as worst,
    plot_worst as plot_worst,
)
