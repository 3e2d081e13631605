"""report_pictures.js: counts, templates and the most wrong samples."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch

from src import gallery
from src.report import page as report
from src.report import pictures
from src.run import layout, tables, trained
from tests.helpers.pages import LIMIT, Open, chances, copy, expected, images_of, tile, written


def test_counts_templates_and_the_most_wrong(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    confusion = torch.tensor(tables.read(softmax, "confusion"))
    assert page.locator(".heat td").all_inner_texts() == [str(int(count)) for count in confusion.flatten()]
    recall = 100 * confusion.diag() / confusion.sum(1)
    precision = 100 * confusion.diag() / confusion.sum(0)
    cells = page.locator(".scores tbody td").all_inner_texts()
    assert [cell.strip() for cell in cells[1::4]] == [f"{value:.1f} %" for value in precision]
    assert [cell.strip() for cell in cells[2::4]] == [f"{value:.1f} %" for value in recall]
    assert page.locator(".templates canvas").count() == 10
    run, test = trained.load(softmax), images_of(softmax)
    wrong = gallery.most_wrong(run.model, run.module, test, pictures.WRONG)
    captions = page.locator(".wrongs figcaption").all_inner_texts()
    assert len(captions) == 24
    for row, caption in zip(wrong, captions, strict=True):
        assert caption.split("\n") == [
            f"is {row.truth}, guessed {row.guess}",
            pytest.approx(f"{100 * row.probability:.1f} %"),
        ]
    assert torch.equal(tile(page, ".wrongs canvas"), test.inputs[wrong[0].index].flatten())
    page.click(".wrongs button >> nth=3")
    assert torch.equal(tile(page, "canvas.seen"), test.inputs[wrong[3].index].flatten())
    assert torch.allclose(chances(page), expected(softmax, test.inputs[wrong[3].index])[0], atol=1e-5)


def test_templates_are_the_weights(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    script = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
    pixels = torch.tensor(page.eval_on_selector(".templates canvas >> nth=3", script)).view(784, 4)
    run = trained.load(softmax)
    weight = run.module.state_dict()["linear.weight"][3]
    clear = weight.abs() > 0.1 * weight.abs().max()
    assert torch.equal(pixels[clear, 0] > pixels[clear, 2], weight[clear] > 0)  # orange speaks for, blue against


def test_without_the_data_there_are_no_pictures_of_it(softmax: Path, small: str, tmp_path: Path, show: Open) -> None:
    settings = (softmax / "config.yaml").read_text()
    for root, said in ((tmp_path / "none", "is not in"), (tmp_path / "other", "other data than")):
        run = copy(softmax, tmp_path / f"run-{root.name}")
        (run / "config.yaml").write_text(re.sub(r"root: .*mnist.*", f"root: {root}", settings))
        if root.name == "other":
            shutil.copytree(Path(small) / "IDX", root / "IDX")
            text = (run / "config.yaml").read_text()
            (run / "config.yaml").write_text(text.replace("name: mnist", "name: idx"))
        written(run)
        page = show(run / report.NAME)
        assert said in page.inner_text("#wrong .missing")
        assert page.locator(".templates canvas").count() == 10
        assert page.is_visible(".pad")


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 70, 50), (1, 28, 28), (4, 5)])
def test_pictures_of_any_shape(shape: tuple[int, ...], softmax: Path, tmp_path: Path, show: Open) -> None:
    images = torch.arange(24 * torch.Size(shape).numel()).view(24, *shape).to(torch.uint8)
    found = report.one(softmax, layout.load_settings(softmax), pictures.Sources())
    found["wrong"] = pictures.packed(images) | {"rows": [[at, 1, 2, 0.5] for at in range(24)]}
    report.write(tmp_path / "page.html", [found])
    assert (tmp_path / "page.html").stat().st_size < LIMIT
    page = show(tmp_path / "page.html")
    script = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 1, 1).data)"
    corner = page.eval_on_selector(".wrongs canvas >> nth=1", script)
    first = images[1, :, 0, 0] if len(shape) == 3 else images[1, 0, 0][None]
    assert corner == [*(first.tolist() * 3)[:3], 255]


def test_classes_are_called_by_their_names(softmax: Path, tmp_path: Path, show: Open) -> None:
    names = ("zero", "one", "two", "three", "four", "five", "six", "<b>", "e" * 60, "nine")
    settings = layout.load_settings(softmax)
    sources = report.sources_of(softmax, settings)
    assert sources.spec is not None
    spec = dataclasses.replace(sources.spec, names=names)
    sources = dataclasses.replace(sources, spec=spec)
    report.write(tmp_path / "page.html", [report.one(softmax, settings, sources)])
    page = show(tmp_path / "page.html")
    shown = [*names[:8], "e" * 40 + "...", "nine"]
    assert page.locator(".heat thead th").all_inner_texts()[1:] == shown
    assert page.locator(".heat tbody th").all_inner_texts() == shown
    assert page.locator(".scores tbody tr > :first-child").all_inner_texts() == shown
    assert page.locator(".templates figcaption").all_inner_texts() == shown
    caption = page.locator(".wrongs figcaption").first.inner_text()
    _, truth, guess, _ = report.one(softmax, settings, sources)["wrong"]["rows"][0]
    assert caption.startswith(f"is {shown[truth]}, guessed {shown[guess]}\n")
    assert pictures.class_names(spec, {2, 8, 11}) == {"2": "two", "8": "e" * 40 + "..."}
