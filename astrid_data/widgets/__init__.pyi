# The door of this package: read by editors and, at run time, by __init__.py
from .gallery import (
    browse as browse,
    Gallery as Gallery,
)
from .coverage import (
    show_coverage as show_coverage,
    Coverage as Coverage,
)
from .runs import (
    show_run as show_run,
    RunView as RunView,
)
from .differences import (
    show_diff as show_diff,
    Differences as Differences,
)
from .planner import (
    show_plan as show_plan,
    Planner as Planner,
)
