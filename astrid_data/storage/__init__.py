"Where bytes live: a folder, or S3 and R2, behind a cache"

from astrid_data.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)
