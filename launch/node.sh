#!/usr/bin/env bash
# One host of several, by whatever started it: HEAD=host:port NODES=2 NODE_RANK=0 JOB=id launch/node.sh [key=value ...]
# HEAD is the same on all, and its host is NODE_RANK 0, which Slurm and an Indexed Job of Kubernetes tell themselves.
# NODES=1:4 lets hosts come and go. Ranks are this host's GPUs, else RANKS_PER_NODE, else the processors that it was
# given. PYTHON may be several words (a container's runtime). RDZV_CONF=key=value,... adds to torchrun's --rdzv-conf.
# BY_STATUS=1: exit codes of launch.job instead of torchrun's.
set -euo pipefail
trap '' USR1 USR2 # a warning before Python is there must not kill it
: "${HEAD:?}" "${NODES:?}" "${JOB:?}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
read -ra python <<<"${PYTHON:-.venv/bin/python}"

gpus=${SLURM_GPUS_ON_NODE:-0}
if ((gpus == 0)) && [[ -z ${SLURM_JOB_ID:-} ]] && command -v nvidia-smi >/dev/null; then
  gpus=$({ nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)
fi
ranks=$gpus
if ((ranks == 0)); then
  ranks=${RANKS_PER_NODE:-${SLURM_CPUS_ON_NODE:-$(nproc)}}
fi

options=(--nnodes="$NODES" --nproc-per-node="$ranks" --max-restarts="${MAX_RESTARTS:-3}")
# is_host: torchrun compares names to find out, and is wrong where a host has several.
options+=(--rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id="$JOB")
node=${NODE_RANK:-${JOB_COMPLETION_INDEX:-${SLURM_NODEID:-0}}}
options+=(--rdzv-conf="is_host=$((node == 0))${RDZV_CONF:+,$RDZV_CONF}")
if [[ -n ${ADDRESS:-${SLURMD_NODENAME:-}} ]]; then
  options+=(--local-addr="${ADDRESS:-$SLURMD_NODENAME}")
fi
exec "${python[@]}" -m launch.torchrun ${BY_STATUS:+--by-status} "${options[@]}" -m src.train "$@"
