"""A module's buffers, such as BatchNorm's running statistics, which every share of a batch changes for itself.

Every share starts from the step's buffers. What comes out of a step is for floats the mean of what the shares
changed, weighted by their items, and for other types (a counter of batches) what the first share that has samples
made of them. A frozen parameter that a forward pass changes (the moving average of a student, say) is one of them.
Both travel as numbers that are added beside the gradients: floats as changes times items, the other
types as the values of their bytes, to which all but the first share add zeros. An element that no share changed
stays as it is, to the bit, whatever it is (a mask of -inf).
"""

from collections.abc import Collection, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import JobFailed

Place = tuple[dict[str, Any], str]  # a module's own dict of buffers or of parameters, and the name in it


class Buffers:
    """The buffers of a module, and the frozen parameters that are `updated` by name; how the shares agree on them.

    `length` is the number of floats that travel, `floats` how many of them are divided by the items.
    """

    def __init__(self, module: nn.Module, updated: Collection[str] = ()) -> None:
        places = [*_places(module), *(place_of(module, name) for name in updated)]
        buffers = [owner[name] for owner, name in places]
        is_float = [buffer is not None and buffer.is_floating_point() for buffer in buffers]
        self._float_places = [place for place, chosen in zip(places, is_float, strict=True) if chosen]
        self._other_places = [place for place, chosen in zip(places, is_float, strict=True) if not chosen]
        self._floats, self._others = _at(self._float_places), _at(self._other_places)
        self.floats = sum(buffer.numel() for buffer in self._floats)
        self._bytes = sum(buffer.numel() * buffer.element_size() for buffer in self._others)
        self.length = self.floats + self._bytes
        self.dtype = reduce(torch.promote_types, [buffer.dtype for buffer in self._floats], torch.float32)
        device = buffers[0].device if buffers and buffers[0] is not None else None
        self._before = torch.empty(self.floats, dtype=self.dtype, device=device)
        self._after = torch.empty_like(self._before)
        self._before_views, self._after_views = _views(self._before, self._floats), _views(self._after, self._floats)
        self._kept = [buffer.clone() for buffer in self._others]

    @torch.no_grad()
    def begin(self) -> None:
        """Remember the step's buffers."""
        if self._floats:
            torch._foreach_copy_(self._before_views, self._floats)
        if self._others:
            torch._foreach_copy_(self._kept, self._others)

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to the step's buffers, before each share's forward pass but the first."""
        self._put_back()
        if self._floats:
            torch._foreach_copy_(self._floats, self._before_views)
        if self._others:
            torch._foreach_copy_(self._others, self._kept)

    @torch.no_grad()
    def changes(self, items: float | Tensor, is_first: bool) -> Tensor:
        """(length,): what the forward pass of a share with so many items changed, as numbers to add.

        Changes no buffer, which a backward pass may still need. Raises JobFailed for a buffer of another shape.
        """
        if self._floats:
            torch._foreach_copy_(self._after_views, _now(self._float_places, self._floats))
        same = (self._after == self._before) | (self._after.isnan() & self._before.isnan())
        changed = torch.where(same, 0.0, (self._after - self._before) * items)
        if not self._others:
            return changed
        if not is_first:
            return torch.cat([changed, changed.new_zeros(self._bytes)])
        others = _now(self._other_places, self._others)
        numbers = [buffer.contiguous().view(-1).view(torch.uint8).to(changed.dtype) for buffer in others]
        return torch.cat([changed, *numbers])

    @torch.no_grad()
    def agree(self, total: Tensor) -> None:
        """Take the buffers that `total` (length,) means: its floats are divided by the items, its bytes are sums."""
        self._put_back()
        change, numbers = total[: self.floats], total[self.floats :].to(torch.uint8)
        if self._floats:
            agreed = torch.where(change == 0, self._before, self._before + change)
            torch._foreach_copy_(self._floats, _views(agreed, self._floats))
        sizes = [buffer.numel() * buffer.element_size() for buffer in self._others]
        for buffer, part in zip(self._others, torch.split(numbers, sizes) if sizes else (), strict=True):
            buffer.copy_(part.clone().view(buffer.dtype).view_as(buffer))

    def _put_back(self) -> None:
        """A forward pass may give a buffer a new tensor instead of changing it: the module gets the old one back."""
        for places, buffers in ((self._float_places, self._floats), (self._other_places, self._others)):
            for (owner, name), buffer in zip(places, buffers, strict=True):
                owner[name] = buffer


def _now(places: list[Place], buffers: list[Tensor]) -> list[Tensor]:
    """The tensors that are the buffers now."""
    tensors = []
    for (owner, name), buffer in zip(places, buffers, strict=True):
        current = owner[name]
        if current is None or current.shape != buffer.shape:
            was, found = tuple(buffer.shape), None if current is None else tuple(current.shape)
            raise JobFailed(
                f"the model's buffer {name} was {was} and became {found} in a step: a buffer that ranks share keeps "
                "its shape; what does not can be a plain attribute"
            )
        tensors.append(current)
    return tensors


def _places(module: nn.Module) -> Iterator[Place]:
    """Where each buffer is, one place for each tensor."""
    seen = set()
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in seen:
                seen.add(id(buffer))
                yield owner._buffers, name


def place_of(module: nn.Module, name: str) -> Place:
    """Where the parameter of that name is."""
    owner, _, last = name.rpartition(".")
    return module.get_submodule(owner)._parameters, last


def _at(places: list[Place]) -> list[Tensor]:
    return [buffer for owner, name in places if (buffer := owner[name]) is not None]


def _views(flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Parts of the flat tensor in the shapes of the tensors."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors]) if tensors else ()
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
