# The door of this package: read by editors and, at run time, by __init__.py
from .alert_files import read_alerts as read_alerts
from .archive import (
    open_archive as open_archive,
    Archive as Archive,
    IngestReport as IngestReport,
)
from .tables import read_table as read_table
from .mast import search_mast as search_mast
from .skyview import search_skyview as search_skyview
