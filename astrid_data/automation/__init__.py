"The loop closed: new labels become a version, a model, a comparison, and a decision with its reason"

from astrid_data.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)
