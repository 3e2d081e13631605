"""What an evaluation found, for people and for files."""

import math

from src.evaluation.metrics import Metrics


def metrics(**sums: int | float) -> Metrics:
    divisions = {"accuracy": ("correct", "count"), "loss": ("loss", "tokens")}
    return Metrics(3, {"correct": 1, "loss": 2.0, "tokens": 8} | sums, divisions, "accuracy", True)


def test_metrics_for_people_and_for_metrics_jsonl() -> None:
    assert str(metrics()) == "1/3 = 33.33 %  loss 0.2500"
    assert metrics().as_dict() == {"correct": 1, "tokens": 8, "count": 3, "accuracy": 1 / 3, "loss": 0.25}
    assert metrics().deciding == 1 / 3


DIVISIONS = {"answers": ("right", "answers"), "loss": ("loss", "count")}


def test_a_metric_whose_divisor_is_0_is_left_out() -> None:
    found = metrics(tokens=0)
    assert str(found) == "1/3 = 33.33 %"
    assert found.as_dict() == {"correct": 1, "tokens": 0, "count": 3, "accuracy": 1 / 3}
    assert found.description["names"] == ["accuracy"]
    first = Metrics(3, {"answers": 0, "right": 0, "loss": 1.5}, DIVISIONS, "answers", True)
    assert str(first) == "loss 0.5000", "the next one is shown in front"
    assert math.isnan(first.deciding), "and no weights are the best by what is not there"
