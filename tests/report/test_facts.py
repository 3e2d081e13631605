"""The facts of a report, read from the run's files."""

from typing import Any

from src.report import facts


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


def test_thinning_keeps_ends_and_extremes() -> None:
    rows = [[step, (step * 37 % 101) / 101] for step in range(5000)]
    rows[1234][1], rows[4321][1] = 9.0, -9.0
    kept = facts.thin(rows, 100, 1)
    assert len(kept) <= 100
    assert {0, 1234, 4321, 4999} <= {row[0] for row in kept}
    assert facts.thin(rows[:100], 100, 1) == rows[:100]
