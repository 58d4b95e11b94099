# The door of this package: read by editors and, at run time, by __init__.py
from .dataset import (
    Dataset as Dataset,
    StreamedDataset as StreamedDataset,
    write_dataset as write_dataset,
)
from .build import (
    build_dataset as build_dataset,
    TrainingDatasetManager as TrainingDatasetManager,
)
from .catalog import (
    open_dataset as open_dataset,
    list_datasets as list_datasets,
    search_datasets as search_datasets,
    delete_dataset as delete_dataset,
)
from .diff import (
    diff_versions as diff_versions,
    VersionDiff as VersionDiff,
    rebuild_version as rebuild_version,
    Rebuild as Rebuild,
)
from .source import show_source as show_source
from .report import write_report as write_report
from .exports import (
    to_parquet as to_parquet,
    to_webdataset as to_webdataset,
    to_npz as to_npz,
    read_npz as read_npz,
)
from .lineage import lineage_of as lineage_of
from .growth import (
    should_retrain as should_retrain,
    collect_since as collect_since,
    Advice as Advice,
)
