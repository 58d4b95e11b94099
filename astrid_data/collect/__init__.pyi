# The door of this package: read by editors and, at run time, by __init__.py
from .params import (
    TrainingDataCollectionParams as TrainingDataCollectionParams,
    STATUSES as STATUSES,
    NEGATIVES as NEGATIVES,
)
from .negatives import (
    KnownSky as KnownSky,
    hardest_negatives as hardest_negatives,
)
from .collector import TrainingDataCollector as TrainingDataCollector
from .plan import SamplePlan as SamplePlan
from .link import (
    link_bands as link_bands,
    link_triplets as link_triplets,
)
