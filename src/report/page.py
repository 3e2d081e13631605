"""The page of a run, or of several side by side: a template filled with one JSON object."""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from src import follow
from src.data import dataset as data
from src.data import kinds
from src.data.dataset import TestSet
from src.data.splits import Spec, Split
from src.errors import Damaged, JobFailed, UserError
from src.files import write_text
from src.models import Model, compiling
from src.report import facts, pictures, standing, text
from src.report.facts import Facts
from src.report.pictures import Sources
from src.run import archive, layout, trained
from src.run.layout import newest_first
from src.schema import Config

NAME, COMPARED = layout.REPORT, "compare.html"
TEMPLATE = Path(__file__).with_name("report.html")
PARTS = ("report.css", "report_page.js", "report_curves.js", "report_pictures.js", "report_text.js", "report_draw.js")
ROWS = 800  # points of each curve of all runs together: what keeps the page under 300 kB


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


def of_killed(path: Path) -> str:
    """Write the report of a run whose process is gone without a word, from its files; returns how the run goes on.

    For who outlives rank 0. '' and no page for a run that ended otherwise. Raises UserError, and OSError.
    """
    if (stands := standing.of(path))["state"] != follow.KILLED:
        return ""
    missing = f"The run was killed; `python -m src.report {path}` draws them, where it has a checkpoint."
    write(path / NAME, [one(path, layout.load_settings(path), Sources(missing=missing))])
    return str(stands["goes_on"])


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
    shown, why, unfit = pictures.of(sources, draws=settings.data.name != "folder")
    content["why"] |= {name: facts.plain(reason) for name, reason in why.items()}
    content["unfit"] |= unfit
    if content["text"]:
        content["text"] |= pictures.continuations(sources)
    else:
        content["unfit"]["text"] = text.UNFIT
    content |= {"checkpoint": sources.checkpoint} | shown
    names = pictures.class_names(sources.spec, pictures.shown_classes(content)) if sources.spec else {}
    return content | {"classes": facts.plain(names)}


def write(file: Path, runs: list[Facts], reload_seconds: float = 0.0) -> None:
    """Fill the template; a browser loads it again after so many seconds, if any. Raises OSError."""
    content = {"made": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "runs": runs}
    page = TEMPLATE.read_text(encoding="utf-8")
    for part in PARTS:
        page = page.replace(f"/* {part} */", TEMPLATE.with_name(part).read_text(encoding="utf-8"), 1)
    if reload_seconds:
        page = page.replace("<title>", f'<meta http-equiv="refresh" content="{reload_seconds:.0f}">\n<title>', 1)
    # No "<" is left, so that no name or note can end the script it stands in.
    filling = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    write_text(file, page.replace("null /* facts */", filling, 1))


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
    write_for_user(file, runs)
    return file


def write_for_user(file: Path, runs: list[Facts], reload_seconds: float = 0.0) -> None:
    """As `write`. Raises UserError."""
    try:
        write(file, runs, reload_seconds)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})", fix="name another with --file") from None
