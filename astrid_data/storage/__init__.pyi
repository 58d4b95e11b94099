# The door of this package: read by editors and, at run time, by __init__.py
from .resolve import (
    open_store as open_store,
    resolve_uri as resolve_uri,
)
from .keys import Store as Store
from .folder import FolderStore as FolderStore
from .bucket import S3Store as S3Store
from .cache import DiskCache as DiskCache
from .service import (
    StoreDenied as StoreDenied,
    StoreUnreachable as StoreUnreachable,
)
from .trees import (
    push_tree as push_tree,
    pull_tree as pull_tree,
)
