"""The facts of a report, read from the run's files."""

from typing import Any

from src.report import facts
from src.run.results import Description


def test_marks_and_life_of_every_kind() -> None:
    def event(name: str, **more: Any) -> dict[str, Any]:
        return {"time": "2026-01-01T00:00:00+0000", "event": name, "world_size": 4, **more}

    events = [event("start", step=0), event("checkpoint", step=5, milliseconds=2.5)]
    events += [event("resume", step=5, world_size_before=4), event("stop", step=8, reason="SIGTERM")]
    events += [event("resume", step=8, world_size_before=4), event("failed", reason="boom")]
    events += [event("resume", step=8, world_size_before=2), event("stop", step=9, reason="STOP")]
    assert [(mark["step"], mark["kind"], mark["text"]) for mark in facts.marks(events)] == [
        (5, "resumed", "killed; went on at step 5 on 4 ranks"),
        (8, "resumed", "stopped (SIGTERM); went on at step 8 on 4 ranks"),
        (8, "resized", "failed (boom); went on at step 8 on 4 ranks instead of 2"),
        (9, "stopped", "stopped (STOP)"),
    ]
    many = facts.life([event("checkpoint", step=step, milliseconds=2) for step in range(50)])
    assert [row["text"] for row in many] == ["50 checkpoints, the last in 2 ms"]
    long = facts.life(events[3:5] * 300)
    assert len(long) == facts.LIFE + 1
    assert long[facts.LIFE // 2]["text"] == "... 400 more ..."


def test_wall_time_leaves_out_the_time_between_attempts() -> None:
    times = [("start", "10:00:00"), ("stop", "10:00:30"), ("resume", "12:00:00"), ("checkpoint", "12:00:05")]
    events = [{"event": name, "time": f"2026-01-01T{time}+0000"} for name, time in times]
    assert facts.wall_seconds(events) == 35
    assert facts.wall_seconds(events, "2026-01-01T12:01:00+00:00") == 90


SHARES = {"hits": ["right", "tokens"]}


def test_the_result_is_a_fraction_only_where_it_divides_whole_numbers() -> None:
    line = {"kind": "test", "epoch": 2, "hits": 0.75, "loss": 1.25, "tokens": 808}
    found = facts._result(Description(["hits", "loss"], SHARES), line)
    assert (found["value"], found["of"], found["text"], found["others"]) == ("606", "/808", "75.00 %", "loss 1.25")
    found = facts._result(Description(["loss", "hits"], SHARES), line)
    assert (found["value"], found["of"], found["text"], found["others"]) == ("1.25", "", "", "hits 75.00 %")
    found = facts._result(Description(["loss"], {}), {"kind": "test", "epoch": 1, "loss": float("nan")})
    assert (found["value"], found["of"]) == ("not finite", "")


def test_the_best_is_named_where_the_last_is_worse() -> None:
    lines = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}, {"epoch": 3, "loss": 0.75}]
    described = Description(["loss"], {}, "loss", higher_is_better=False)
    assert facts._best(described, lines) == {"epoch": 2, "text": "loss 0.5", "is_last": False}
    assert (facts._best(described, lines[:2]) or {})["is_last"]
    assert facts._best(Description(["loss"], {}), lines) is None


def test_the_averaged_weights_are_beside_the_raw_ones() -> None:
    lines: list[dict[str, Any]] = [
        {"kind": "test", "epoch": 1, "loss": 1.0, "average_loss": 0.5},
        {"kind": "test", "epoch": 2, "loss": 0.75, "average_loss": 0.9},
    ]
    described = Description(["loss"], {}, "loss", higher_is_better=False)
    assert facts._result(described, lines[1])["averaged"] == "loss 0.9"
    expected = {"epoch": 1, "text": "loss 0.5 by the averaged weights", "is_last": False}
    assert facts._best(described, lines) == expected
    assert facts._best(described, lines[1:]) == {"epoch": 2, "text": "loss 0.75", "is_last": True}
    assert (facts._best(described, lines[:1]) or {})["is_last"]
    assert facts._result(described, {"kind": "test", "epoch": 1, "loss": 1.0})["averaged"] == ""


def test_texts_of_any_length_fit_the_page() -> None:
    reason = "x" * (facts.LONGEST_EVENT - 15) + " https://user:hunter2@mirror.invalid/" + "y" * 400
    event = {"time": "2026-01-01T00:00:00+0000", "event": "failed", "world_size": 1, "reason": reason}
    (row,) = facts.life([event])
    assert len(row["text"]) < facts.LONGEST_EVENT + 20
    assert "hunt" not in row["text"]
    assert len(facts.plain({"notes": ["z" * 100_000]})["notes"][0]) == facts.LONGEST + 3
    resized = [event | {"event": "resume", "world_size": 1 + at % 2} for at in range(1000)]
    assert facts._worlds(resized) == [*[1, 2] * 5, "...", *[1, 2] * 5]
