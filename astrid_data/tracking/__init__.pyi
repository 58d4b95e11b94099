# The door of this package: read by editors and, at run time, by __init__.py
from .meters import find_meters as find_meters
from .energy import (
    EnergyReport as EnergyReport,
    grid_factor as grid_factor,
)
from .monitor import EnergyMonitor as EnergyMonitor
from .saved_model import (
    RawModel as RawModel,
    save_model as save_model,
)
from .artifacts import samples_figure as samples_figure
from .run import (
    track as track,
    Run as Run,
)
from .past_runs import dataset_runs as dataset_runs
from .unsent import replay as replay
