# The door of this package: read by editors and, at run time, by __init__.py
from .augment import (
    Augment as Augment,
    all_views as all_views,
    d4 as d4,
    undo_d4 as undo_d4,
)
from .normalise import Normaliser as Normaliser
from .loader import (
    RealDataLoader as RealDataLoader,
    PairLoader as PairLoader,
    DataModule as DataModule,
    create_real_data_loaders as create_real_data_loaders,
)
from .patch_dataset import PatchDataset as PatchDataset
from .classes import (
    ClassList as ClassList,
    class_list as class_list,
)
from .batches import PatchLoader as PatchLoader
from .device import DeviceLoader as DeviceLoader
