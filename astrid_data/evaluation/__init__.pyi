# The door of this package: read by editors and, at run time, by __init__.py
from .report import (
    OperatingPoints as OperatingPoints,
    operating_points as operating_points,
    calibration as calibration,
    scores_at_prior as scores_at_prior,
)
from .scores import (
    average_precision as average_precision,
    auc_roc as auc_roc,
)
from .intervals import (
    area_interval as area_interval,
    fnr_interval as fnr_interval,
    fpr_interval as fpr_interval,
    share_interval as share_interval,
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
from .class_report import (
    ClassReport as ClassReport,
    class_points as class_points,
    class_thresholds as class_thresholds,
    confusion as confusion,
    plot_confusion as plot_confusion,
)
