"""What ps and top show of a fork."""

import os
from pathlib import Path

import pytest

from launch import title
from tests.helpers.ranks import fork


@pytest.mark.parametrize("words", [["python", "-u", "-m", "src.train", "a=ä"], ["x" * 100_000]])
def test_ps_and_top_show_the_words_and_the_name(words: list[str], tmp_path: Path) -> None:
    before = Path("/proc/self/cmdline").read_bytes()

    def work() -> tuple[bytes, str]:
        title.show(words, "python rank 3")
        return Path("/proc/self/cmdline").read_bytes(), Path("/proc/self/comm").read_text()

    ((command, name),) = fork(1, work, tmp_path).values
    expected = b"\0".join(map(os.fsencode, words))[: len(before) - 1]
    assert command.rstrip(b"\0") == expected
    assert name == "python-rank-3\n", "Slurm reads /proc/PID/stat by words"
    assert Path("/proc/self/cmdline").read_bytes() == before
