"""The model file, one ``.safetensors`` with the weights as tensors and everything else as JSON. No code."""

from lamina.core.registry import register_keras_serializable as register_keras_serializable
from lamina.saving.model_file import load_model as load_model
from lamina.saving.model_file import load_weights as load_weights
from lamina.saving.model_file import read_description as read_description
from lamina.saving.model_file import save_model as save_model
from lamina.saving.model_file import save_weights as save_weights
