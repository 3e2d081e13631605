"""Plans for the doctor's checks."""

from src import config
from src.doctor.findings import Plan


def planned(
    *arguments: str, ranks: int = 1, nodes: tuple[str, ...] = (), seconds: float = 300, checksums: bool = False
) -> Plan:
    """The plan of a job with these settings."""
    return Plan(config.parse(list(arguments)), list(arguments), ranks, list(nodes), seconds, checksums)
