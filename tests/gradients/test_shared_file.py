"""A file that all ranks map, without a name."""

import sys
from pathlib import Path

import pytest

from src.gradients import shared_file
from src.world.world import World
from tests.helpers.ranks import in_world


def test_the_shared_memory_file_never_has_a_name(tmp_path: Path) -> None:
    """A rank killed at any time leaves no file in /dev/shm."""

    def work(world: World) -> list[str]:
        opened: list[str] = []

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and str(arguments[0]).startswith(str(shared_file.FOLDER)):
                opened.append(str(arguments[0]))

        sys.addaudithook(hook)
        shared_file.share(world, 5000)
        return opened

    assert in_world(2, work, tmp_path).values == [["/dev/shm"], []]


def test_all_ranks_see_the_same_bytes_and_all_learn_of_a_lack_of_room(tmp_path: Path) -> None:
    def work(world: World) -> bytes:
        memory = shared_file.share(world, shared_file.pages(5000))
        memory[world.rank] = 65 + world.rank
        world.all_gather(None)
        with pytest.raises(shared_file.Unavailable, match=r"/dev/shm has no room to spare for 1 MB"):
            shared_file.share(world, 5000, most=1e-12)
        return memory[:3]

    assert in_world(3, work, tmp_path).values == [b"ABC"] * 3
