"""Real astronomical observations and validated detections, as versioned, quality-checked, leak-proof PyTorch training sets.

Importing this package opens nothing and loads nothing heavy: each public name below is fetched from its page when first used.
"""
__version__ = "0.1.0"

_pages = {
    'core': 'AstridError BadImage BadInput Conflict NotFound QualityError Settings load_settings SyntheticDataWarning default_home sky_separation_arcsec match_sky',
    'registry': 'Registry connect Survey Observation Detection ValidationEvent TrainingDataset TrainingSample TrainingRun',
    'storage': 'open_store resolve_uri',
    'images': 'open_image SkyImage DQ_FLAGS',
    'sources': 'detect_sources',
    'ingest': 'Archive open_archive',
    'synthetic': 'synthetic_archive synthetic_image',
    'align': 'on_grid at_scale registration_error',
    'flags': 'FLAGS decode_flags',
    'labels': 'effective_labels',
    'negatives': 'hardest_negatives',
    'channels': 'link_bands link_triplets',
    'collector': 'TrainingDataCollectionParams TrainingDataCollector SamplePlan',
    'patches': 'cut_patches extract_patches patch_wcs target_map',
    'quality': 'DataQualityReport check_quality',
    'doubts': 'label_doubts',
    'splits': 'split_samples find_groups import_splits',
    'audit': 'audit_splits LeakageAudit',
    'augment': 'Augment all_views',
    'frozen': 'Dataset StreamedDataset',
    'exports': 'read_npz',
    'datasets': 'build_dataset open_dataset list_datasets search_datasets delete_dataset TrainingDatasetManager',
    'labelling': 'label_queue late_corrections agreement recheck',
    'loader': 'RealDataLoader PatchDataset PatchLoader DataModule Normaliser create_real_data_loaders',
    'energy': 'EnergyMonitor EnergyReport',
    'tracking': 'track replay dataset_runs',
    'baseline': 'evaluate_baseline',
    'training': 'SmallCNN SmallUNet fit evaluate RealDataConfig get_real_training_data load_real_training_data',
    'compare': 'compare_runs',
    'retrain': 'should_retrain collect_since',
    'widgets': 'browse show_coverage show_run',
    'api': 'create_app create_api_key',
}
_page_of = {name: page for page, names in _pages.items() for name in names.split()}
__all__ = [*_page_of, '__version__']


def __getattr__(name):
    from importlib import import_module
    if name in _page_of:
        value = getattr(import_module(f'{__name__}.{_page_of[name]}'), name)
        globals()[name] = value
        return value
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__(): return sorted([*globals(), *__all__])
