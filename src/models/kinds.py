"""What a model's file returned, in a few words for a message."""

from torch import Tensor


def kind_of(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
