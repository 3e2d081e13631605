"""The page of a run that failed: with its reason, and as far as it came."""

from pathlib import Path

from src.report import page as report
from src.run import jsonl
from src.run.layout import read_status
from tests.helpers import strangers
from tests.helpers.pages import LIMIT, Open, written
from tests.helpers.ranks import run_job

RAISES = """
calls = 0
_loss = loss

def loss(module, inputs, targets):
    global calls
    calls += module.training
    if calls > 30:
        raise RuntimeError("the sensor gave no sample")
    return _loss(module, inputs, targets)
"""


def test_a_failed_run_has_its_page(tmp_path: Path, show: Open) -> None:
    model = strangers.model_of("outputs", tmp_path)
    model.write_text(model.read_text() + RAISES)
    strangers.write_samples("outputs", tmp_path / "data")
    job = run_job(1, tmp_path, *strangers.settings_of("outputs", tmp_path), "train.epochs=3")
    assert job.codes == [1], job.output
    assert read_status(job.run)["state"] == "failed"
    assert (job.run / report.NAME).stat().st_size < LIMIT
    page = show(job.run / report.NAME)
    assert "the sensor gave no sample" in page.inner_text("#key-facts")
    assert "the sensor gave no sample" in page.inner_text("#life")
    lines = [line for line in jsonl.read(job.run / "metrics.jsonl") if line["kind"] == "train"]
    assert page.evaluate("RUN.curves.train.rows.map((row) => row[0])") == [line["step"] for line in lines]
    assert lines
    assert "The run failed; `python -m src.report" in page.inner_text("#wrong .missing")
    written(job.run)  # with the data, where there is a checkpoint
    assert "undefined" not in show(job.run / report.NAME).inner_text("body")
