#!/usr/bin/env bash
# One machine: launch/local.sh [ranks] [key=value ...]
# Ranks are its GPUs, else the processors that this shell may use, at most 8. The same command resumes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" >/dev/null; then
  echo "error: PYTHON=$python: is not there; run make setup, or name a Python that has requirements.lock" >&2
  exit 2
fi
ranks=0
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
  ranks=$((10#$1))
  shift
  if ((ranks < 1)); then
    echo "error: $ranks ranks: must be at least 1" >&2
    exit 2
  fi
elif command -v nvidia-smi >/dev/null; then
  ranks=$({ nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)
fi
if ((ranks < 1)); then
  ranks=$(nproc)
  ranks=$((ranks < 8 ? ranks : 8))
fi
# A local address: without one torchrun looks the host's name up, which takes minutes where there is no DNS.
exec "$python" -m launch.torchrun --standalone --local-addr=127.0.0.1 --nproc-per-node="$ranks" -m src.train "$@"
