"Where a logged model finds its class: those logged by version 0.1 name this module."

from .tracking.saved_model import RawModel as RawModel
