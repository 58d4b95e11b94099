"""Real astronomical observations and validated detections, as versioned, quality-checked, leak-proof PyTorch training sets.

Importing this package opens nothing and loads nothing heavy: each public name below is fetched from its page when first used.
"""

__version__ = '0.1.0'

_pages = {
    'core': 'AstridError BadImage BadInput Conflict NotFound QualityError Settings load_settings SyntheticDataWarning default_home',
    'sky': 'sky_separation_arcsec match_sky',
    'registry.tables': 'Registry connect Survey Observation Detection ValidationEvent TrainingDataset TrainingSample TrainingRun',
    'storage.store': 'open_store resolve_uri',
    'images.image': 'open_image SkyImage DQ_FLAGS',
    'images.sources': 'detect_sources',
    'ingest.archive': 'Archive open_archive',
    'simulate.synthetic': 'synthetic_archive synthetic_image',
    'patches.align': 'on_grid at_scale registration_error',
    'quality.flags': 'FLAGS decode_flags',
    'registry.verdicts': 'effective_labels',
    'collect.negatives': 'hardest_negatives',
    'collect.link': 'link_bands link_triplets',
    'collect.params': 'TrainingDataCollectionParams',
    'collect.plan': 'SamplePlan',
    'collect.collector': 'TrainingDataCollector',
    'patches.extract': 'cut_patches extract_patches patch_wcs target_map',
    'quality.report': 'DataQualityReport check_quality',
    'quality.label_issues': 'label_doubts',
    'splits.assign': 'split_samples group_detections import_splits',
    'splits.audit': 'audit_splits LeakageAudit',
    'loading.augment': 'Augment all_views',
    'datasets.dataset': 'Dataset StreamedDataset',
    'datasets.exports': 'read_npz',
    'datasets.build': 'build_dataset open_dataset list_datasets search_datasets delete_dataset TrainingDatasetManager',
    'search.labelling': 'label_queue late_corrections agreement recheck',
    'loading.normalise': 'Normaliser',
    'loading.patch_dataset': 'PatchDataset',
    'loading.batches': 'PatchLoader',
    'loading.loader': 'RealDataLoader DataModule create_real_data_loaders',
    'tracking.energy': 'EnergyMonitor EnergyReport',
    'tracking.run': 'track replay dataset_runs',
    'training.baseline': 'evaluate_baseline',
    'training.models': 'SmallCNN SmallUNet',
    'training.predict': 'evaluate',
    'training.fit': 'fit',
    'training.astrid': 'RealDataConfig get_real_training_data load_real_training_data',
    'training.compare': 'compare_runs',
    'datasets.growth': 'should_retrain collect_since',
    'widgets.gallery': 'browse show_coverage show_run',
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


def __dir__():
    return sorted([*globals(), *__all__])
