"""What a report shows of a model beside its numbers: pictures, samples of a text, the names of classes."""

import base64
from dataclasses import dataclass

from torch import Tensor, nn

from src import gallery
from src.data.splits import Spec, Split
from src.models import Model
from src.predict import picture
from src.report.facts import Facts

WRONG = 24
SIDE = 32  # pictures of larger sides are thinned
MOST_TEMPLATES = 40
DRAWN_CLASSES = 10
MOST_LETTERS = 200  # of the text before what the model continues
LONGEST_NAME = 40  # of a class, on the page


@dataclass(frozen=True)
class Sources:
    """What the pictures are made of: a model with the weights of `checkpoint`, and the test set.

    `missing` says why there is no module, or no test set.
    """

    model: Model | None = None
    module: nn.Module | None = None
    spec: Spec | None = None
    test: Split | None = None
    checkpoint: str = ""
    missing: str = ""


def of(sources: Sources, draws: bool = True) -> tuple[Facts, dict[str, str], dict[str, str]]:
    """(weights to draw with, templates and the most wrong samples; why one is missing; why one does not fit).

    `draws`: the data may be what a drawing is prepared as, which a folder of pictures is not.
    """
    content: Facts = {"weights": None, "templates": None, "wrong": None}
    model, module, spec = sources.model, sources.module, sources.spec
    if model is None or module is None or spec is None:
        return content, dict.fromkeys(("draw", "templates", "wrong"), sources.missing), {}
    why, unfit = {}, {}
    if fit := gallery.linear(model, module, spec):
        content["templates"] = packed(gallery.grey(gallery.templates(fit, spec)[:MOST_TEMPLATES]))
    else:
        unfit["templates"] = "Weight templates need a model of one linear layer on grey pictures."
    if fit and draws and picture.fits(spec.shape) and spec.classes == DRAWN_CLASSES:
        content["weights"] = {
            "weight": _base64(fit.weight),
            "bias": _base64(fit.bias),
            "divisor": fit.divisor,
            "activation": fit.activation,
        }
    else:
        unfit["draw"] = f"Drawing needs a model of one linear layer for {DRAWN_CLASSES} classes on 28 x 28 grey pixels."
    if not gallery.are_pictures(spec):
        kind = f"{spec.shape} of {str(spec.dtype).removeprefix('torch.')}"
        unfit["wrong"] = f"Pictures of what is wrong need pictures as inputs; these are {kind}."
    elif not gallery.classifies(model, module, spec):
        unfit["wrong"] = "Pictures of what is wrong need a model that gives a probability for each class."
    elif sources.test is None:
        why["wrong"] = sources.missing
    else:
        content["wrong"] = _wrong(model, module, sources.test)
    return content, why, unfit


def _wrong(model: Model, module: nn.Module, test: Split) -> Facts:
    """The most wrong samples: their pictures, and [index, truth, guess, probability] of each."""
    rows = gallery.most_wrong(model, module, test.to(next(module.parameters()).device), WRONG)
    images = test.inputs[[row.index for row in rows]].cpu()
    return packed(images) | {"rows": [[row.index, row.truth, row.guess, round(row.probability, 6)] for row in rows]}


def continuations(sources: Sources) -> Facts:
    """What the model continues: [begin, by the model, in the text] of each sample, or why there is none."""
    if sources.module is None or sources.spec is None or sources.test is None:
        return {"samples": [], "no_samples": sources.missing}
    found = gallery.continuations(sources.module, sources.test)
    rows = [[readable(part)[-MOST_LETTERS:] for part in (one.begin, one.model, one.text)] for one in found]
    length = sources.spec.shape[0]
    unfit = f"Continuing a text needs a forward from bytes (n, {length}) to logits (n, {length}, {gallery.BYTES})."
    return {"samples": rows, "no_samples": "" if rows else unfit}


def readable(part: bytes) -> str:
    """Bytes as text in UTF-8; what is none, or cannot be seen, is a replacement character."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in part.decode(errors="replace"))


def packed(images: Tensor) -> Facts:
    """(n, height, width) or (n, channels, height, width) uint8, thinned, with their channels last."""
    if images.dim() not in (3, 4) or (images.dim() == 4 and images.shape[1] not in (1, 3)):
        return {"shape": [0, 0, 0, 0], "bytes": ""}
    images = images[:, None] if images.dim() == 3 else images
    stride = -(-max(images.shape[2:]) // SIDE)
    images = images[:, :, ::stride, ::stride].movedim(1, -1)
    return {"shape": list(images.shape), "bytes": _base64(images)}


def _base64(tensor: Tensor) -> str:
    return base64.b64encode(tensor.contiguous().numpy().tobytes()).decode()


def shown_classes(content: Facts) -> set[int]:
    """The classes that the page names: of thousands, a few."""
    rows = [*(content["pairs"] or {"rows": []})["rows"]]
    rows += [row[1:] for row in (content["wrong"] or {"rows": []})["rows"]]
    templates = (content["templates"] or {"shape": [0]})["shape"][0]
    drawn = DRAWN_CLASSES if content["weights"] else 0
    first = range(max(len(content["confusion"]), templates, drawn))
    return {*first, *(label for row in rows for label in row[:2])}


def class_names(spec: Spec, labels: set[int]) -> dict[str, str]:
    """What each of these classes is called, cut to a length that a table can show; {} where they are numbers."""
    names = {str(label): spec.names[label] for label in sorted(labels) if label < len(spec.names)}
    return {label: name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..." for label, name in names.items()}
