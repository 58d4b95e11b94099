"Scores, operating points, and where a model is right"

from astrid_data.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)
