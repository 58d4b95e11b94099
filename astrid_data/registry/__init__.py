"Surveys, observations, images, detections, labels, data sets and runs, as a database keeps them"

from astrid_data.doors import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__)
