#!/usr/bin/env bash
# One host of several: HEAD=host:port NODES=2 NODE_RANK=0 JOB=id launch/node.sh [key=value ...]
# HEAD is the same on all hosts, and names the host with NODE_RANK 0. Slurm and an Indexed Job of Kubernetes set the
# node's rank themselves. NODES=1:4 lets hosts join and leave. The number of ranks is that of `python -m launch.job
# ranks`: GPUs, else RANKS_PER_NODE, else Slurm's CPUs, else processors, at most 8. PYTHON may be several words (a
# container's runtime). RDZV_CONF=key=value,... adds to torchrun's --rdzv-conf. BY_STATUS=1: the exit code follows
# status.json (launch.job verdict) instead of torchrun.
set -euo pipefail
trap '' USR1 USR2 # ignore warning signals until launch.torchrun handles them
if [[ -n ${!PET_@} ]]; then # torchrun takes its options' defaults from them
  echo "warning: ${!PET_@}: not used by launch/node.sh" >&2
  unset "${!PET_@}"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONSAFEPATH # with it `python -m` finds nothing in this folder
read -ra python <<<"${PYTHON:-.venv/bin/python}"

node=${NODE_RANK:-${JOB_COMPLETION_INDEX:-${SLURM_NODEID:-0}}}
ranks=$("${python[@]}" -m launch.job host "${HEAD:-}" "${NODES:-}" "${JOB:-}" "$node" "${MAX_RESTARTS:-3}")
options=(--nnodes="$NODES" --nproc-per-node="$ranks" --max-restarts="${MAX_RESTARTS:-3}")
# is_host: torchrun compares host names, which fails for a host with several names.
options+=(--rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id="$JOB")
options+=(--rdzv-conf="is_host=$((10#$node == 0))${RDZV_CONF:+,$RDZV_CONF}")
if [[ -n ${ADDRESS:-${SLURMD_NODENAME:-}} ]]; then
  options+=(--local-addr="${ADDRESS:-$SLURMD_NODENAME}")
fi
exec "${python[@]}" -m launch.torchrun ${BY_STATUS:+--by-status} "${options[@]}" -m src.train "$@"
