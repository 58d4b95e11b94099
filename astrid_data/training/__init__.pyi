# The door of this package: read by editors and, at run time, by __init__.py. `fit` and `predict` are
# pages as well, so the functions of these names are taken from their pages.
from .astrid import (
    RealDataConfig as RealDataConfig,
    get_real_training_data as get_real_training_data,
    load_real_training_data as load_real_training_data,
)
from .models import (
    SmallCNN as SmallCNN,
    SmallUNet as SmallUNet,
)
from .predict import evaluate as evaluate
from .epochs import TrainingDiverged as TrainingDiverged
from .history import History as History
from .baseline import evaluate_baseline as evaluate_baseline
from .compare import (
    compare_runs as compare_runs,
    RunComparison as RunComparison,
)
from .classes import classes_of as classes_of
