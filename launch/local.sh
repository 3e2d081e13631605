#!/usr/bin/env bash
# One machine: launch/local.sh [ranks] [key=value ...]
# The number of ranks is by default that of `python -m launch.job ranks`: GPUs, else processors, at most 8.
# The same command resumes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONSAFEPATH # with it `python -m` finds nothing in this folder
python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" >/dev/null; then
  echo "error: PYTHON=$python: not found; run make setup, or name a Python with the packages of requirements.lock" >&2
  exit 2
fi
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
  ranks=$((10#$1))
  shift
  if ((ranks < 1)); then
    echo "error: $ranks ranks: must be at least 1" >&2
    exit 2
  fi
else
  ranks=$("$python" -m launch.job ranks)
fi
if [[ -n ${!PET_@} ]]; then # torchrun takes its options' defaults from them: an earlier job's number of hosts, say
  echo "warning: ${!PET_@}: not used by launch/local.sh" >&2
  unset "${!PET_@}"
fi
exec "$python" -m launch.torchrun --standalone --nproc-per-node="$ranks" -m src.train "$@"
