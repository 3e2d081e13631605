"""The page of a run, or of several side by side: a template filled with one JSON object."""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from src import gallery
from src.data import dataset as data
from src.data.dataset import DataSet, Spec, Split
from src.errors import JobFailed, UserError
from src.files import write_text
from src.models import Model
from src.predict import picture
from src.report import facts
from src.report.facts import Facts
from src.run import trained
from src.run.checkpoint import weights_sha256
from src.schema import Config
from src.world.world import World

NAME, COMPARED = "report.html", "compare.html"
TEMPLATE = Path(__file__).with_name("report.html")
PARTS = ("report.css", "report_page.js", "report_curves.js", "report_pictures.js", "report_draw.js")
ROWS = 800  # points of each curve of all runs together: what keeps the page under 300 kB
WRONG = 24
SIDE = 32  # pictures of larger sides are thinned


@dataclass(frozen=True)
class Shown:
    """What the pictures are made of; `missing` says why, where there is no module or no test set."""

    model: Model | None = None
    module: nn.Module | None = None
    spec: Spec | None = None
    test: Split | None = None
    source: str = ""
    missing: str = ""


def at_the_end(path: Path, settings: Config, model: Model, module: nn.Module, data: DataSet, step: int) -> None:
    """Write the report of a run that has just finished, from what is in memory. Raises OSError."""
    write(path / NAME, [one(path, settings, Shown(model, module, data.spec, data.test, f"step-{step:08d}.pt"))])


def one(path: Path, settings: Config, shown: Shown) -> Facts:
    """All that the page says of a run that is alone on it."""
    found = facts.of(path, settings, ROWS)
    if shown.module is not None and not found["weights_sha256"]:
        found["weights_sha256"] = weights_sha256(shown.module)
    return found | {"missing": facts.plain(shown.missing), "source": shown.source} | _pictures(settings, shown)


def write(file: Path, runs: list[Facts]) -> None:
    """Fill the template. Raises OSError."""
    made = {"made": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "runs": runs}
    page = TEMPLATE.read_text()
    for part in PARTS:
        page = page.replace(f"/* {part} */", TEMPLATE.with_name(part).read_text(), 1)
    # No "<" is left, so that no name or note can end the script it stands in.
    text = json.dumps(made, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    write_text(file, page.replace("null /* facts */", text, 1))


def _pictures(settings: Config, shown: Shown) -> Facts:
    """Weights, templates and the most wrong samples, as far as they are there."""
    model, module, spec = shown.model, shown.module, shown.spec
    if model is None or module is None or spec is None:
        return {"weights": None, "templates": None, "wrong": None}
    found: Facts = {"weights": None, "templates": None, "wrong": None}
    if linear := gallery.linear(module, spec):
        found["templates"] = _images(gallery.grey(gallery.templates(module, spec)))
        if spec.shape == (picture.SIDE, picture.SIDE):
            found["weights"] = {"weight": _base64(linear[0]), "bias": _base64(linear[1])}
    if shown.test is not None and gallery.are_pictures(spec) and gallery.classifies(model, module, spec):
        rows = gallery.most_wrong(model, module, shown.test.to(next(module.parameters()).device), WRONG)
        images = shown.test.inputs[[row.index for row in rows]].cpu()
        found["wrong"] = _images(images) | {
            "rows": [[row.index, row.truth, row.guess, round(row.probability, 6)] for row in rows]
        }
    return found


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


def shown(path: Path, settings: Config) -> Shown:
    """The newest weights and the test set, as far as they are here."""
    try:
        run = trained.load(path, best=False)
    except UserError as error:
        return Shown(missing=str(error))
    try:
        return Shown(run.model, run.module, run.spec, _test(path, settings), run.checkpoint.name)
    except (UserError, JobFailed) as error:
        return Shown(run.model, run.module, run.spec, None, run.checkpoint.name, str(error))


def _test(path: Path, settings: Config) -> Split:
    """The run's own test set; a report fetches nothing. Raises UserError."""
    folder = data.folder(settings.data)
    if not all((folder / name).exists() for name in data.FILES):
        raise UserError(f"{settings.data.name} is not in {folder}, from here: no pictures of what it gets wrong")
    found = data.load(settings.data, World(), print)
    recorded = facts.provenance(path).get("data", {}).get("sha256", found.checksums)
    if recorded != found.checksums:
        raise UserError(f"{folder} holds other data than the run was trained on: no pictures of what it gets wrong")
    return found.test


def report(paths: list[Path], file: Path | None) -> Path:
    """Write the page of one run or several; returns where it is. Raises UserError."""
    settings = [facts.settings_of(path) for path in paths]
    if len(paths) == 1:
        file = file or paths[0] / NAME
        runs = [one(paths[0], settings[0], shown(paths[0], settings[0]))]
    else:
        file = file or paths[0].parent / COMPARED
        rows = max(ROWS // len(paths), 12)
        runs = [
            facts.of(path, chosen, rows) | {"life": [], "confusion": []}  # not shown of several
            for path, chosen in zip(paths, settings, strict=True)
        ]
    try:
        write(file, runs)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})", fix="name another with --file") from None
    return file
