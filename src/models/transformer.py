"""A small transformer that predicts the byte that follows: causal attention, tied weights, rotary positions
(Su et al., RoFormer, 2021).
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.models import Data
from src.schema import key

# Where the text has no line such as 37+45=82, there are no answers, and the loss comes first.
METRICS = {"answer_accuracy": "right_answers / answers", "loss": "loss / tokens", "accuracy": "right_tokens / tokens"}
BEST = "min loss"
BYTES = 256
ANSWER = re.compile(rb"(?<=\n)\d+\+\d+=(\d+\r?\n)")  # of a line that begins in the block, its end included


@dataclass
class Settings:
    """The keys `model.*`."""

    width: int = key(64, "numbers in the state of a position", minimum=2)
    layers: int = key(2, "layers of attention, each with a layer of its own after it", minimum=1)
    heads: int = key(4, "heads of the attention; each has width / heads numbers, which must be even", minimum=1)
    dropout: float = key(0.0, "share of what a layer adds that is left out in training", minimum=0, below=1)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.mixed = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        """(n, length, width) -> the same shape."""
        joined = self.queries_keys_values(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = joined.transpose(1, 3).unbind(2)  # queries, keys and values, each (n, heads, length, width / heads)
        seen = functional.scaled_dot_product_attention(rotated(q, rotary), rotated(k, rotary), v, is_causal=True)
        x = x + self.dropout(self.mixed(seen.transpose(1, 2).flatten(2)))
        x = x + self.dropout(self.mlp(self.norms[1](x)))
        return x


class Transformer(nn.Module):
    """The logits of the byte that follows each byte; the table of the embedding is that of the output too."""

    def __init__(self, settings: Settings, length: int) -> None:
        super().__init__()
        width, heads = settings.width, settings.heads
        self.embedding = nn.Embedding(BYTES, width)
        nn.init.normal_(self.embedding.weight, std=0.2)  # no smaller than what the first layer adds
        self.layers = nn.ModuleList(Layer(width, heads, settings.dropout) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("rotary", rotary_table(length, width // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) bytes -> (n, length, 256) logits."""
        x = self.embedding(tokens.long())
        for layer in self.layers:
            x = layer(x, self.rotary)
        return functional.linear(self.norm(x), self.embedding.weight)


def rotary_table(length: int, size: int) -> Tensor:
    """Cosines and sines, (2, length, size / 2), of angles that grow from a radian a position to about one a block."""
    angles = torch.arange(length)[:, None] * float(length) ** -(torch.arange(0, size, 2) / size)
    return torch.stack([angles.cos(), angles.sin()])


def rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """(n, heads, length, size), each pair of numbers turned by its position's angle."""
    (one, other), (cosine, sine) = x.chunk(2, -1), rotary
    return torch.cat([one * cosine - other * sine, one * sine + other * cosine], -1).type_as(x)


def build(settings: Settings, data: Data) -> Transformer:
    """For blocks of bytes, each with the byte that follows. Raises ValueError for other data or an odd width."""
    if len(data.shape) != 1 or data.target_shape != data.shape or data.dtype != torch.uint8:
        kinds = f"inputs {data.shape} of {data.dtype}, targets {data.target_shape}"
        raise ValueError(f"needs bytes (length,), each with the byte that follows, as data.name=text has; not {kinds}")
    if settings.width % (2 * settings.heads):
        raise ValueError(f"model.width={settings.width}: must be a multiple of 2 x model.heads={settings.heads}")
    return Transformer(settings, data.shape[0])


def loss(module: Transformer, tokens: Tensor, following: Tensor) -> tuple[Tensor, int]:
    """(sum of the losses, number of bytes)."""
    logits, targets = module(tokens).flatten(0, 1), following.long().flatten()
    return functional.cross_entropy(logits, targets, reduction="sum"), len(targets)


def measure(module: Transformer, tokens: Tensor, following: Tensor) -> dict[str, Tensor | int]:
    """Sums over the bytes; of the lines a+b=c how many answers there are, and how many are right to the last byte.

    Each byte is predicted from the true ones before it, also within an answer (teacher forcing).
    """
    logits = module(tokens)
    losses = functional.cross_entropy(logits.flatten(0, 1), following.long().flatten(), reduction="sum")
    right = logits.argmax(-1) == following
    found = answers(torch.cat([tokens[:, :1], following], 1), right)
    counts = {"tokens": following.numel(), "answers": len(found), "right_answers": sum(found)}
    return {"loss": losses, "right_tokens": right.sum(), **counts}


def answers(text: Tensor, right: Tensor) -> list[bool]:
    """For each answer in text (n, length + 1) whether it is right; the byte at i + 1 is the target of position i."""
    rows = zip(text.cpu().numpy(), right.cpu().numpy(), strict=True)
    spans = ((row, *at.span(1)) for line, row in rows for at in ANSWER.finditer(line.tobytes()))
    return [bool(row[start - 1 : end - 1].all()) for row, start, end in spans]
