#!/usr/bin/env bash
# A real Slurm cluster on one machine, as root, from Debian's packages: no systemd, no cgroups, no database.
#
#   cluster.sh install    apt-get what is missing
#   cluster.sh up         a controller and two nodes, until the standard input ends; "ready" when all are idle
#
# The nodes are the hosts of tests/helpers/hosts.sh, and its other commands are here too: exec sbatch ..., kill node1, ...
set -euo pipefail
export BASE=${BASE:-${TMPDIR:-/tmp}/slurm-cluster}
export SLURM_CONF=$BASE/slurm.conf
HOSTS=2
CPUS=4
# shellcheck source=tests/helpers/hosts.sh
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../helpers/hosts.sh"

install() {
  local program missing=""
  for program in slurmctld slurmd sbatch munged ip; do
    command -v $program >/dev/null || missing+=" $program" # with several names it is content with one
  done
  [[ -n $missing ]] || return 0
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then # else the packages start their own services
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    # shellcheck disable=SC2064
    trap "rm $policy" EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client munge iproute2 >/dev/null
}

write_conf() {
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=controller($SUBNET.1)
SlurmctldPort=16817
# A requeued job starts again after cred_expire (120 s unless said).
AuthType=auth/munge
AuthInfo=socket=$BASE/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$BASE/state
SlurmdSpoolDir=$BASE/spool/%n
SlurmctldPidFile=$BASE/slurmctld.pid
SlurmdPidFile=$BASE/slurmd-%n.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# The nodes have more CPUs in the book than the machine has.
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
KillWait=${KILLWAIT:-30}
SlurmctldTimeout=30
SlurmdTimeout=10
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node1 NodeAddr=$SUBNET.11 Port=16818 CPUs=$CPUS RealMemory=1000
NodeName=node2 NodeAddr=$SUBNET.12 Port=16818 CPUs=$CPUS RealMemory=1000
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=node[1-2] MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
CONF
}

beside() {
  mkdir -p "$BASE"/{state,spool,munge}
  write_conf
  head -c 1024 /dev/urandom >"$BASE/munge/key"
  chmod 0400 "$BASE/munge/key"
  munged --force --key-file="$BASE/munge/key" --socket="$BASE/munge/socket" --pid-file="$BASE/munge/pid" \
    --log-file="$BASE/log/munged.log" --seed-file="$BASE/munge/seed" 2>>"$BASE/log/munged.out"
  slurmctld -D >"$BASE/log/slurmctld.out" 2>&1 </dev/null &
}

on_host() {
  mkdir -p "$BASE/spool/$1"
  slurmd -D -N "$1"
}

are_there() {
  local i
  for ((i = 0; i < 300; i++)); do
    if (($(sinfo -h -N -p main -o '%t' 2>/dev/null | grep -c '^idle$') == HOSTS)); then return; fi
    sleep 0.1
  done
  echo "the nodes did not become idle:" >&2
  tail -n 5 "$BASE"/log/* >&2
  exit 1
}

if [[ ${1:-} == install ]]; then install; else main "$@"; fi
