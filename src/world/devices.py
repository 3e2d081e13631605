"""On what each rank computes."""

from collections import Counter
from collections.abc import Sequence

import torch

from src.errors import UserError
from src.world.hosts import Peer


def visible_gpus(wanted: str, named: bool) -> tuple[str, ...]:
    """The GPUs that this process sees, () with train.device=cpu; `named`: by what tells each from all others.

    Names initialize CUDA, and are needed only where ranks may see different GPUs (srun --gpus-per-task).
    """
    numbers = range(torch.cuda.device_count() if wanted != "cpu" else 0)
    if not named:
        return tuple(map(str, numbers))
    return tuple(str(getattr(torch.cuda.get_device_properties(number), "uuid", number)) for number in numbers)


def choose(wanted: str, rank: int, peers: Sequence[Peer]) -> tuple[torch.device, str]:
    """The device of a rank, and a note where it is not what one would expect: the same kind of device on all ranks.

    Raises UserError, on all ranks, if there are not enough GPUs for train.device=cuda.
    """
    numbers = _gpus(peers)
    if None not in numbers and wanted != "cpu":
        number = numbers[rank]
        assert number is not None
        torch.cuda.set_device(number)
        return torch.device("cuda", number), ""
    if not any(peer.gpus for peer in peers) and wanted != "cuda":
        return torch.device("cpu"), ""
    if wanted == "cpu":
        return torch.device("cpu"), ""
    lacking = peers[numbers.index(None)]
    here = lacking.identity == peers[rank].identity
    ranks = sum(peer.identity == lacking.identity for peer in peers)
    gpus = len({gpu for peer in peers if peer.identity == lacking.identity for gpu in peer.gpus})
    if wanted == "cuda":
        raise UserError(
            f"train.device=cuda: {ranks} ranks on {'this host' if here else lacking.name}, {gpus} GPUs",
            fix=f"start {gpus} ranks" if gpus else "use train.device=cpu",
        )
    where = "" if here else f"{lacking.name}: "
    return torch.device("cpu"), f"{where}{ranks} ranks but only {gpus} GPU(s): training on CPU"


def _gpus(peers: Sequence[Peer]) -> list[int | None]:
    """Which of the GPUs that it sees each rank takes, None if there is none for it alone.

    Ranks of a host that see the same GPUs take one each, in rank order; others must not see any of these.
    """
    hosts: dict[str, dict[tuple[str, ...], list[int]]] = {}
    for rank, peer in enumerate(peers):
        hosts.setdefault(peer.identity, {}).setdefault(peer.gpus, []).append(rank)
    taken: list[int | None] = [None] * len(peers)
    for groups in hosts.values():
        seen_by = Counter(gpu for gpus in groups for gpu in set(gpus))
        for gpus, ranks in groups.items():
            if len(ranks) <= len(gpus) and all(seen_by[gpu] == 1 for gpu in gpus):
                for number, rank in enumerate(ranks):
                    taken[rank] = number
    return taken
