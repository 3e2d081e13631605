"""What training changes, and a checkpoint holds; and the hash of its weights."""

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.averages import Average
from src.gradients.step import StepResult
from src.optimizer import Optimizer
from src.run.progress import Progress

Weights = dict[str, Tensor]


def tensors_of(state: dict[str, Any]) -> Weights:
    """The tensors in a module's state dict, whose other values are what `get_extra_state` returns."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over the bytes of the state dict's tensors in order of their names (C order, little-endian)."""
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors_of(module.state_dict()).items()):
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def copied(value: Any) -> Any:
    """The value with each tensor in it, also in dicts, lists and tuples, as a copy on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return type(value)(map(copied, value)) if isinstance(value, list | tuple) else value


@dataclass
class TrainState:
    """What training changes, and a checkpoint holds."""

    module: nn.Module
    optimizer: Optimizer
    average: Average
    progress: Progress

    def update(self, result: StepResult, samples: int) -> None:
        """One step with so many samples: move the weights, take them into the average, count."""
        self.optimizer.step(self.progress.step, result)
        self.average.update(samples)
        self.progress.advance(result.loss, result.items, samples)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors on the CPU, which are copies, and numbers."""
        return {
            "model": copied(dict(self.module.state_dict())),
            "buffers": copied(self._not_in_state_dict()),
            "optimizer": copied(self.optimizer.torch.state_dict()),
            "average": self.average.state_dict(),
            "progress": self.progress.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what was saved."""
        self.module.load_state_dict(state["model"])
        saved = state.get("buffers", {})
        for name, buffer in self._not_in_state_dict().items():
            if name in saved:
                buffer.copy_(saved[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state.get("average", {}))
        self.progress.load_state_dict(state["progress"])

    def weights(self) -> dict[str, Any]:
        """Copies of what `load_best` loads."""
        state = self.module.state_dict()
        model = {name: tensor.detach().clone() for name, tensor in tensors_of(state).items()}
        return {
            "model": copy.deepcopy({name: state[name] for name in state.keys() - model.keys()}) | model,
            "average": self.average.state_dict(),
        }

    def load_best(self, state: dict[str, Any]) -> None:
        """The weights and averages of a checkpoint, and nothing else of it."""
        self.module.load_state_dict(state["model"])
        self.average.load_state_dict(state.get("average", {}))

    def load_weights(self, weights: Weights) -> None:
        """Begin with the weights of another training."""
        self.module.load_state_dict(weights)
        self.average.restart()

    def _not_in_state_dict(self) -> dict[str, Tensor]:
        """The buffers that torch calls not persistent: training may change them all the same."""
        saved = self.module.state_dict(keep_vars=True)
        return {name: buffer for name, buffer in self.module.named_buffers() if name not in saved}
