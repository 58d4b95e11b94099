"A trained model with all it needs, and the scores it gives new sky"

from astrid_data.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)
