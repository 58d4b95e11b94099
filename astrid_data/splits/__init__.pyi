# The door of this package: read by editors and, at run time, by __init__.py
from .groups import group_detections as group_detections
from .assign import (
    split_samples as split_samples,
    import_splits as import_splits,
)
from .report import (
    SplitResult as SplitResult,
    EmptySplit as EmptySplit,
)
from .audit import (
    audit_splits as audit_splits,
    LeakageAudit as LeakageAudit,
    plot_audit as plot_audit,
)
