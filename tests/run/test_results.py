"""What a run measured, read back without the model's file."""

from pathlib import Path

from src.evaluation.metrics import Metrics
from src.run import results, tables
from src.run.results import Description


def test_metrics_are_read_back_as_they_were_described(tmp_path: Path) -> None:
    divisions = {"hits": ("right", "tokens"), "nats": ("nats", "tokens"), "mean": ("nats", "count")}
    metrics = Metrics(3, {"right": 4, "tokens": 5, "nats": 2.5}, divisions, "nats", higher_is_better=False)
    tables.write(tmp_path, 7, {results.DESCRIPTION: metrics.description}, print)
    described = results.describe(tmp_path, {})
    divisors = {"hits": "tokens", "nats": "tokens", "mean": "count"}
    assert described == Description(["hits", "nats", "mean"], {"hits": ["right", "tokens"]}, "nats", False, divisors)
    line = metrics.as_dict()
    assert [described.text(name, line) for name in described.names] == ["80.00 %", "0.5", "0.8333"]


def test_without_a_description_a_line_describes_itself(tmp_path: Path) -> None:
    line = {"kind": "test", "step": 3, "right": 4, "hits": 0.5, "nats": 2.25}
    assert results.describe(tmp_path, line) == Description(["hits", "nats"], {})
    tables.write(tmp_path, 7, {results.DESCRIPTION: {"of": "another program"}}, print)
    assert results.describe(tmp_path, line).names == ["hits", "nats"]


def test_the_best_is_the_highest_or_the_lowest_that_is_finite() -> None:
    lines = [{"m": 1.0}, {"m": float("nan")}, {"m": 3.0}, {"m": 0.5}, {"m": 3.0}, {}]
    assert Description(["m"], {}, "m", True).best_of(lines) is lines[2]
    assert Description(["m"], {}, "m", False).best_of(lines) is lines[3]
    assert Description(["m"], {}, "m", False).best_of([{}]) is None
    assert Description(["m"], {}).text("m", lines[1]) == "not finite"


def test_the_averaged_weights_are_read_by_the_names_of_the_metrics() -> None:
    assert results.averaged({"kind": "test", "loss": 2.0, "average_loss": 1.0}) == {"loss": 1.0}
    assert results.averaged({"kind": "test", "loss": 2.0}) == {}


def test_a_confusion_matrix_is_square() -> None:
    assert results.square([[1, 2], [3, 4]]) == [[1, 2], [3, 4]]
    for other in (None, 3, [1, 2], [[1, 2]], [[1, 2], [3]], [[1.5]], {"a": [1]}):
        assert results.square(other) == []
