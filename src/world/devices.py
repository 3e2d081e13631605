"""On what each rank computes."""

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
    numbers = [_gpu(each, peers) for each in range(len(peers))]
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


def _gpu(rank: int, peers: Sequence[Peer]) -> int | None:
    """Which of the GPUs that it sees a rank takes, None if there is none for it alone.

    Ranks of a host that see the same GPUs take one each, in rank order; others must not see any of these.
    """
    mine = peers[rank]
    here = [other for other, peer in enumerate(peers) if peer.identity == mine.identity]
    alike = [other for other in here if peers[other].gpus == mine.gpus]
    shared = any(set(peers[other].gpus) & set(mine.gpus) for other in here if other not in alike)
    return alike.index(rank) if not shared and len(alike) <= len(mine.gpus) else None
