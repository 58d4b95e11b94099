# The door of this package: read by editors and, at run time, by __init__.py.
from .classifier import (
    Classifier as Classifier,
    TrainedModel as TrainedModel,
    classifier_of as classifier_of,
)
from .score import score_pieces as score_pieces
from .archive_scores import read_scores as read_scores
from .onnx_files import OnnxClassifier as OnnxClassifier
from .load import load_classifier as load_classifier
