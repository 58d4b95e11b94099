# The door of this package: read by editors and, at run time, by __init__.py.
from .promoted import (
    list_candidates as list_candidates,
    promoted_model as promoted_model,
)
from .watching import (
    watch as watch,
    Watched as Watched,
)
from .next_model import (
    retrain as retrain,
    Retraining as Retraining,
)
