"""Row 6: the graph of calls, Model, Sequential, the task's head, the summary."""

from lamina.models.model import Model as Model
from lamina.models.sequential import Sequential as Sequential
from lamina.saving import load_model as load_model
