# The door of this package: read by editors and, at run time, by __init__.py
from .store import (
    open_store as open_store,
    resolve_uri as resolve_uri,
    Store as Store,
    FolderStore as FolderStore,
    S3Store as S3Store,
    DiskCache as DiskCache,
    StoreDenied as StoreDenied,
    StoreUnreachable as StoreUnreachable,
    push_tree as push_tree,
    pull_tree as pull_tree,
)
