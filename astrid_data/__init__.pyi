# The names at the top: read by editors and, at run time, by __init__.py
from . import (
    api as api,
    automation as automation,
    collect as collect,
    core as core,
    datasets as datasets,
    evaluation as evaluation,
    images as images,
    inference as inference,
    ingest as ingest,
    loading as loading,
    patches as patches,
    quality as quality,
    registry as registry,
    search as search,
    simulate as simulate,
    splits as splits,
    storage as storage,
    tracking as tracking,
    training as training,
    widgets as widgets,
)
from .core import (
    AstridError as AstridError,
    SyntheticDataWarning as SyntheticDataWarning,
)
from .logs import (
    log_to as log_to,
    stop_logging as stop_logging,
)
from .ingest import (
    open_archive as open_archive,
    search_mast as search_mast,
    search_skyview as search_skyview,
    Archive as Archive,
)
from .simulate import synthetic_archive as synthetic_archive
from .patches import cutouts as cutouts
from .collect import (
    TrainingDataCollectionParams as TrainingDataCollectionParams,
    TrainingDataCollector as TrainingDataCollector,
    SamplePlan as SamplePlan,
)
from .quality import check_quality as check_quality
from .splits import (
    split_samples as split_samples,
    audit_splits as audit_splits,
)
from .datasets import (
    build_dataset as build_dataset,
    open_dataset as open_dataset,
    list_datasets as list_datasets,
    delete_dataset as delete_dataset,
    Dataset as Dataset,
    TrainingDatasetManager as TrainingDatasetManager,
    should_retrain as should_retrain,
)
from .loading import (
    RealDataLoader as RealDataLoader,
    PatchDataset as PatchDataset,
    PatchLoader as PatchLoader,
    Augment as Augment,
    Normaliser as Normaliser,
    create_real_data_loaders as create_real_data_loaders,
)
from .training import (
    SmallCNN as SmallCNN,
    SmallUNet as SmallUNet,
    evaluate as evaluate,
    compare_runs as compare_runs,
    RealDataConfig as RealDataConfig,
    get_real_training_data as get_real_training_data,
    load_real_training_data as load_real_training_data,
)
from .training.fit import fit as fit
from .inference import load_classifier as load_classifier
from .tracking import (
    track as track,
    EnergyMonitor as EnergyMonitor,
)
from .search import label_queue as label_queue
from .widgets import (
    browse as browse,
    show_coverage as show_coverage,
    show_run as show_run,
)
from .api import create_app as create_app

__version__: str
