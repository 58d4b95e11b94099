# The door of this package: read by editors and, at run time, by __init__.py
from .flags import (
    FLAGS as FLAGS,
    decode_flags as decode_flags,
    flag_table as flag_table,
    measure_patches as measure_patches,
)
from .checks import Issue as Issue
from .duplicates import find_duplicates as find_duplicates
from .coverage import (
    coverage_moc as coverage_moc,
    plot_sky as plot_sky,
)
from .shortcuts import probe_shortcuts as probe_shortcuts
from .label_issues import (
    find_label_issues as find_label_issues,
    plot_label_issues as plot_label_issues,
)
from .report import (
    check_quality as check_quality,
    DataQualityReport as DataQualityReport,
    report_history as report_history,
)
