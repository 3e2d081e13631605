"""The rows of the curves: which columns, and which rows are kept."""

from src.report import curves


def test_thinning_keeps_ends_and_extremes() -> None:
    rows = [[step, (step * 37 % 101) / 101] for step in range(5000)]
    rows[1234][1], rows[4321][1] = 9.0, -9.0
    kept = curves.thin(rows, 100, 1)
    assert len(kept) <= 100
    assert {0, 1234, 4321, 4999} <= {row[0] for row in kept}
    assert curves.thin(rows[:100], 100, 1) == rows[:100]


def test_a_spike_of_any_chosen_column_is_kept() -> None:
    rows = [[step, (step * 37 % 101) / 101, (step * 53 % 103) / 103] for step in range(5000)]
    rows[1234][1], rows[2222][2] = 9.0, 9.0
    kept = curves.thin(rows, 100, 1, 2)
    assert len(kept) <= 100
    assert {0, 1234, 2222, 4999} <= {row[0] for row in kept}


def test_wide_tables_are_thinned_to_fewer_rows() -> None:
    lines = [{"step": step, "epoch": step, **{f"m{number}": 1.0 for number in range(10)}} for step in range(1000)]
    narrow = curves.table(lines, ("step", "epoch", "m0"), 120, ["m0"])
    wide = curves.table(lines, ("step", "epoch", *(f"m{number}" for number in range(10))), 120, ["m0"])
    assert len(wide["rows"]) <= 40 < len(narrow["rows"]) <= 120
    assert curves.table(lines[:2], ("step", "gone"), 120, [])["rows"] == [[0, None], [1, None]]


def test_gradient_norm_and_averages_are_columns_where_they_are() -> None:
    train = [{"step": 1, "loss": 1.0, "grad_norm": 3.0}]
    test = [{"step": 1, "loss": 1.0, "average_loss": 2.0, "hits": 3, "average_hits": 4}]
    found = curves.of(train, test, ["loss", "hits"], 100)
    assert found["train"]["columns"] == ["step", "loss", "lr", "samples_per_second", "grad_norm"]
    assert found["test"]["columns"] == ["step", "epoch", "loss", "hits", "average_loss", "average_hits"]
    assert "grad_norm" not in curves.of([{"step": 1}], [], [], 100)["train"]["columns"]
    named = ["loss", "average_loss"]  # a model's own metric is no average of ours
    assert curves.averages(named, test) == []
