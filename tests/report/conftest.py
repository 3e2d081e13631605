"""Runs to report, and a real Chromium, headless, with the network cut."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.once import made_once
from tests.helpers.pages import CHROMIUM, DESKTOP, FLAGS, Open
from tests.helpers.ranks import good_job


@pytest.fixture(scope="session")
def softmax(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cross-entropy: one epoch on one rank, one more on two."""
    fixed = (f"data.root={mnist}", "run.name=softmax", "model.loss=cross_entropy", "optim.lr=0.3")

    def train(folder: Path) -> None:
        good_job(1, folder, *fixed, "train.epochs=1")
        good_job(2, folder, *fixed, "train.epochs=2")

    return made_once(tmp_path_factory, "softmax", train) / "runs" / "softmax"


@pytest.fixture(scope="session")
def sigmoid(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default recipe."""
    settings = (f"data.root={mnist}", "run.name=s", "train.epochs=1")
    return made_once(tmp_path_factory, "sigmoid", lambda folder: good_job(1, folder, *settings)) / "runs" / "s"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests here."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"no {CHROMIUM}: `apt install chromium` brings it")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium: Any) -> Iterator[Open]:
    """show(file, viewport, **context): the page; the test fails if it logs an error or requests another file."""
    contexts, trouble, asked = [], [], []

    def open_page(file: Path, viewport: dict[str, int] = DESKTOP, **options: Any) -> Any:
        contexts.append(chromium.new_context(viewport=viewport, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
    assert [url for url in asked if not url.startswith("file://")] == []
    assert len(asked) == len(contexts)
