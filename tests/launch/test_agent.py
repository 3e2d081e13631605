"""What torchrun is given for a job whose hosts may join and leave."""

import argparse
import os

import pytest
from torch.distributed.elastic.rendezvous.utils import _parse_rendezvous_config

from launch import agent
from src.run.layout import ELASTIC


@pytest.mark.parametrize(
    ("given", "seconds"), [("", "5"), ("is_host=1", "5"), ("is_host=0,last_call_timeout=60", "60")]
)
def test_more_hosts_are_waited_for_only_shortly(given: str, seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ELASTIC, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"):
        monkeypatch.setenv(name, "")
    options = argparse.Namespace(rdzv_conf=given)
    agent._make_elastic(options)
    parsed = _parse_rendezvous_config(options.rdzv_conf)
    assert parsed["last_call_timeout"] == seconds
    assert parsed.get("is_host", "") in given
    assert (os.environ[ELASTIC], os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"]) == ("1", "1")
