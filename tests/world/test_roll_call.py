"""The list that ranks enter themselves in."""

from torch.distributed import HashStore  # type: ignore[attr-defined]

from src.world import roll_call


def test_who_has_entered_and_who_is_missing() -> None:
    store = HashStore()
    assert roll_call.entered(store, "here") == {}
    assert roll_call.missing(store, "here", 4) == [1, 2, 3]
    roll_call.enter(store, "here", 3)
    roll_call.enter(store, "here", 1, "a")
    roll_call.enter(store, "here", 1, "b")
    assert roll_call.entered(store, "here") == {3: "-", 1: "b"}, "the last word of each"
    assert roll_call.missing(store, "here", 4) == [2]
