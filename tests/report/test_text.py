"""Perplexity and bits per byte, and what a model of text continues."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src import gallery
from src.data.splits import Split
from src.report import page as report
from src.report import pictures, text
from src.run import layout, trained
from src.run.results import Description
from tests.helpers.once import made_once
from tests.helpers.pages import LIMIT, PHONE, Open, copy, written
from tests.helpers.ranks import good_job

NATS = Description(["loss"], {}, "loss", higher_is_better=False, divisors={"loss": "tokens"})


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the transformer, with averaged weights."""
    of_model = ("model.name=transformer", "model.width=16", "model.layers=1", "model.heads=2", "data.name=sums")
    settings = ("data.block=64", "run.name=sums", "train.max_steps=20", "optim.average=500", "optim.clip_norm=1")

    def train(folder: Path) -> None:
        good_job(1, folder, *of_model, f"data.root={folder / 'data'}", *settings, "log.every=2")

    return made_once(tmp_path_factory, "sums", train) / "runs" / "sums"


def test_perplexity_and_bits_per_byte_follow_from_the_loss() -> None:
    found = text.of(NATS, {"loss": math.log(2), "average_loss": math.log(4)})
    assert found["raw"] == {"perplexity": pytest.approx(2), "bits_per_byte": pytest.approx(1)}
    assert found["averaged"] == {"perplexity": pytest.approx(4), "bits_per_byte": pytest.approx(2)}
    assert text.of(NATS, {"loss": 1.0})["averaged"] is None
    assert text.of(NATS, None)["why"] == "Not evaluated yet."
    for loss in (math.nan, math.inf, 1e4):
        assert text.of(NATS, {"loss": loss})["why"] == "The loss is not finite."
    for divisors in ({}, {"loss": "count"}):
        assert text.of(dataclasses.replace(NATS, divisors=divisors), {"loss": 1.0})["why"] == text.NO_LOSS


class Next(nn.Module):
    """Continues a, b, c with d, e, f: the likeliest byte is the one after; one row of logits for each byte."""

    def __init__(self, classes: int = 256) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.classes = classes

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.dtype == torch.uint8
        return nn.functional.one_hot((tokens.long() + 1) % self.classes, self.classes).float()


def letters(count: int, block: int) -> Split:
    inputs = (97 + torch.arange(block) % 20).repeat(count, 1).to(torch.uint8)
    return Split(inputs, inputs)


def test_the_likeliest_bytes_continue_the_first_half() -> None:
    found = gallery.continuations(Next().train(), letters(7, 12))
    assert found == [gallery.Continuation(b"abcdef", b"ghijkl", b"ghijkl")] * 3
    assert len(gallery.continuations(Next(), letters(2, 12))) == 2
    (one, *_) = gallery.continuations(Next(), letters(3, 200))
    assert (len(one.begin), len(one.model), len(one.text)) == (100, 32, 32)
    assert one.model == bytes(range(one.begin[-1] + 1, one.begin[-1] + 33))


@pytest.mark.parametrize("module", [Next(100), nn.Linear(12, 2)], ids=["no bytes", "no text"])
def test_another_forward_continues_nothing(module: nn.Module) -> None:
    assert gallery.continuations(module, letters(3, 12)) == []
    assert gallery.continuations(Next(), letters(3, 1)) == []


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 900}, PHONE], ids=["desktop", "phone"])
def test_the_page_of_a_text(viewport: dict[str, int], sums: Path, show: Open) -> None:
    assert (sums / report.NAME).stat().st_size < LIMIT
    page = show(sums / report.NAME, viewport)
    loss, average = (layout.read_status(sums)[name] for name in ("loss", "average_loss"))
    header, shown = page.inner_text("#key-facts"), page.inner_text("#text")
    assert f"Perplexity\n{math.exp(loss):.4g}\n" in header
    assert f"Bits per byte\n{loss / math.log(2):.4g}\n" in header
    assert f"the averaged weights: perplexity {math.exp(average):.4g}" in shown
    rows = [row.locator("code").all_inner_texts() for row in page.locator(".continued tbody tr").all()]
    loaded = trained.load(sums)
    found = gallery.continuations(loaded.module, trained.test_of(loaded).test)
    assert [row[2] for row in rows] == [one.text.decode() for one in found]
    assert [row[1] for row in rows] == [pictures.readable(one.model) for one in found]
    assert len(rows) == 3
    titles = page.locator(".chart h3").all_inner_texts()
    assert "Gradient norm before clipping" in titles
    assert titles[0] == "Loss"
    assert page.locator(".chart >> nth=0").locator("path.curve").count() == 3
    assert page.locator(".chart >> nth=0").locator("path.dashed").count() == 1
    assert "test, averaged weights" in page.inner_text(".chart .legend >> nth=0")
    assert not [title for title in titles if title.startswith("Average")]
    assert "loss" in header.split("Averaged weights\n")[1].splitlines()[0]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_averages_are_compared_side_by_side(sums: Path, softmax: Path, tmp_path: Path, show: Open) -> None:
    page = show(report.report([softmax, sums], tmp_path / "both.html"))
    head = page.locator("#compare thead th").all_inner_texts()
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#compare tbody tr").all()]
    assert [bool(row[head.index("averaged weights") - 1]) for row in rows] == [False, True]
    assert "sums, averaged" in page.inner_text("#curves")


def test_without_the_text_one_line_says_so(sums: Path, tmp_path: Path, show: Open) -> None:
    run = copy(sums, tmp_path / "away")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace(str(layout.load_settings(run).data.root), str(tmp_path / "no")))
    written(run)
    page = show(run / report.NAME)
    assert "is not in" in page.inner_text("#text .missing")
    assert page.inner_text("#text .lead").startswith("The last step's weights after epoch")


def test_pictures_have_no_perplexity(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    assert page.locator("#text").count() == 0
    assert text.UNFIT in page.inner_text("#unfit")
