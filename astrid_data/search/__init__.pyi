# The door of this package: read by editors and, at run time, by __init__.py
from .labelling import (
    label_queue as label_queue,
    verdicts_of as verdicts_of,
    labels_now as labels_now,
    agreement as agreement,
    late_corrections as late_corrections,
    recheck as recheck,
)
