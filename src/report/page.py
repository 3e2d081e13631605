"""The page of a run, or of several side by side: a template filled with one JSON object."""

import base64
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from src import gallery
from src.data import dataset as data
from src.data import kinds
from src.data.dataset import TestSet
from src.data.splits import Spec, Split
from src.errors import Damaged, JobFailed, UserError
from src.files import write_text
from src.models import Model, compiling
from src.predict import picture
from src.report import facts, text
from src.report.facts import Facts
from src.run import archive, layout, trained
from src.run.layout import newest_first
from src.schema import Config

NAME, COMPARED = layout.REPORT, "compare.html"
TEMPLATE = Path(__file__).with_name("report.html")
PARTS = ("report.css", "report_page.js", "report_curves.js", "report_pictures.js", "report_text.js", "report_draw.js")
ROWS = 800  # points of each curve of all runs together: what keeps the page under 300 kB
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


def at_the_end(
    path: Path, settings: Config, model: Model, module: nn.Module, dataset: TestSet, stopped: bool = False
) -> None:
    """Write the report of a run that has just finished or `stopped`, from what is in memory. Raises OSError.

    A run that was stopped has no time: what takes a look at the whole test set is left out, and the page says so.
    """
    module, checkpoint = _best(path, module)
    test = None if stopped else dataset.test
    missing = f"The run was stopped; `python -m src.report {path}` draws them." if stopped else ""
    with compiling.uncompiled(module):  # the few samples here have other shapes
        write(path / NAME, [one(path, settings, Sources(model, module, dataset.spec, test, checkpoint, missing))])


def of_failed(path: Path, settings: Config) -> None:
    """Write the report of a run that has just failed, from its files: the model may be what fails. Raises OSError."""
    missing = f"The run failed; `python -m src.report {path}` draws them, where it has a checkpoint."
    write(path / NAME, [one(path, settings, Sources(missing=missing))])


def _best(path: Path, module: nn.Module) -> tuple[nn.Module, str]:
    """The module with the weights that every command uses, best.pt's or else the newest, and the checkpoint's name.

    `module` has the newest ones.
    """
    folder = path / layout.CHECKPOINTS
    best, newest = folder / layout.BEST, newest_first(folder)[0]
    if not best.exists():
        return module, newest.name
    if not best.samefile(newest):
        try:
            weights = archive.read(best)["model"]
        except Damaged:
            return module, newest.name
        module = copy.deepcopy(module)
        module.load_state_dict(weights)
    return module, layout.BEST


def one(path: Path, settings: Config, sources: Sources) -> Facts:
    """The content of the page of one run."""
    content = facts.of(path, settings, ROWS)
    pictures, why, unfit = _pictures(sources, draws=settings.data.name != "folder")
    content["why"] |= {name: facts.plain(reason) for name, reason in why.items()}
    content["unfit"] |= unfit
    if content["text"]:
        content["text"] |= _continuations(sources)
    else:
        content["unfit"]["text"] = text.UNFIT
    content |= {"checkpoint": sources.checkpoint} | pictures
    names = class_names(sources.spec, shown_classes(content)) if sources.spec else {}
    return content | {"classes": facts.plain(names)}


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


def write(file: Path, runs: list[Facts]) -> None:
    """Fill the template. Raises OSError."""
    content = {"made": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "runs": runs}
    page = TEMPLATE.read_text(encoding="utf-8")
    for part in PARTS:
        page = page.replace(f"/* {part} */", TEMPLATE.with_name(part).read_text(encoding="utf-8"), 1)
    # No "<" is left, so that no name or note can end the script it stands in.
    filling = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    write_text(file, page.replace("null /* facts */", filling, 1))


def _pictures(sources: Sources, draws: bool = True) -> tuple[Facts, dict[str, str], dict[str, str]]:
    """(weights to draw with, templates and the most wrong samples; why one is missing; why one does not fit).

    `draws`: the data may be what a drawing is prepared as, which a folder of pictures is not.
    """
    content: Facts = {"weights": None, "templates": None, "wrong": None}
    model, module, spec = sources.model, sources.module, sources.spec
    if model is None or module is None or spec is None:
        return content, dict.fromkeys(("draw", "templates", "wrong"), sources.missing), {}
    why, unfit = {}, {}
    if fit := gallery.linear(model, module, spec):
        content["templates"] = _images(gallery.grey(gallery.templates(fit, spec)[:MOST_TEMPLATES]))
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
    return _images(images) | {"rows": [[row.index, row.truth, row.guess, round(row.probability, 6)] for row in rows]}


def _continuations(sources: Sources) -> Facts:
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


def _images(images: Tensor) -> Facts:
    """(n, height, width) or (n, channels, height, width) uint8, thinned, with their channels last."""
    if images.dim() not in (3, 4) or (images.dim() == 4 and images.shape[1] not in (1, 3)):
        return {"shape": [0, 0, 0, 0], "bytes": ""}
    images = images[:, None] if images.dim() == 3 else images
    stride = -(-max(images.shape[2:]) // SIDE)
    images = images[:, :, ::stride, ::stride].movedim(1, -1)
    return {"shape": list(images.shape), "bytes": _base64(images)}


def _base64(tensor: Tensor) -> str:
    return base64.b64encode(tensor.contiguous().numpy().tobytes()).decode()


def sources_of(path: Path, settings: Config) -> Sources:
    """The weights of best.pt, or else the newest, and the test set, as far as they are here.

    The model's code is the run's copy: the file that it was trained with may have been edited since.
    """
    try:
        run = trained.load(path, model_file=layout.model_copy(path))
    except (UserError, JobFailed) as error:
        return Sources(missing=str(error))
    loaded = Sources(run.model, run.module, run.spec, checkpoint=run.checkpoint.name)
    try:
        return replace(loaded, test=_test(path, settings, run.spec))
    except (UserError, JobFailed) as error:
        return replace(loaded, missing=str(error))


def _test(path: Path, settings: Config, spec: Spec) -> Split:
    """The test set of the run; a report fetches nothing. Raises UserError."""
    folder = kinds.folder(settings.data)
    if kinds.missing(settings.data, kinds.kind_of(settings.data).TEST):
        raise UserError(f"{settings.data.name} is not in {folder}, from here: no pictures of what it gets wrong")
    dataset = data.load_test(settings.data, spec, print)
    recorded = layout.read_provenance(path).get("data", {}).get("sha256", dataset.checksums)
    if any(recorded.get(name) != digest for name, digest in dataset.checksums.items()):
        raise UserError(f"{folder} holds other data than the run was trained on: no pictures of what it gets wrong")
    return dataset.test


def report(paths: list[Path], file: Path | None, note: Callable[[str], None] = lambda _: None) -> Path:
    """Write the page of one run or several; returns where it is. `note` gets a line on the weights of the pictures.

    Raises UserError.
    """
    settings = [layout.load_settings(path) for path in paths]
    if len(paths) == 1:
        file = file or paths[0] / NAME
        sources = sources_of(paths[0], settings[0])
        note(f"weights of {sources.checkpoint}" if sources.checkpoint else f"without pictures: {sources.missing}")
        runs = [one(paths[0], settings[0], sources)]
    else:
        file = file or paths[0].parent / COMPARED
        rows = max(ROWS // len(paths), 12)
        runs = [
            facts.of(path, chosen, rows) | {"life": [], "confusion": [], "pairs": None}  # on the page of one run alone
            for path, chosen in zip(paths, settings, strict=True)
        ]
    try:
        write(file, runs)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})", fix="name another with --file") from None
    return file
