"""Real observations and validated detections as versioned, checked, leak-proof PyTorch training sets.

Importing this package opens nothing and loads nothing heavy: a name is fetched when it is first used.
The names at the top are listed in `__init__.pyi`; each package beside it has more: `ad.patches.cut_patches`.
"""

from .doors import open_door

__version__ = '0.1.0'

# Names that stood at the top and are at the door of a package now, some by a new name (old=new)
_moved = {
    'core': 'BadImage BadInput Conflict NotFound QualityError Settings load_settings default_home',
    'sky': 'sky_separation_arcsec match_sky',
    'registry': 'Registry connect Survey Observation Detection ValidationEvent TrainingDataset TrainingSample TrainingRun effective_labels',
    'storage': 'open_store resolve_uri',
    'images': 'open_image SkyImage DQ_FLAGS detect_sources',
    'simulate': 'synthetic_image',
    'patches': 'on_grid at_scale registration_error cut_patches extract_patches patch_wcs target_map',
    'quality': 'FLAGS decode_flags DataQualityReport find_label_issues label_doubts=find_label_issues',
    'collect': 'hardest_negatives link_bands link_triplets',
    'splits': 'find_groups=group_detections import_splits LeakageAudit',
    'loading': 'all_views',
    'datasets': 'StreamedDataset read_npz search_datasets collect_since',
    'search': 'late_corrections agreement recheck',
    'tracking': 'EnergyReport replay dataset_runs',
    'training': 'evaluate_baseline',
    'api': 'create_api_key',
}

_new_places = {
    name.split('=')[0]: f'{place}.{name.split("=")[-1]}'
    for place, names in _moved.items()
    for name in names.split()
}

__getattr__, __dir__, __all__ = open_door(__name__, __file__, _new_places)
