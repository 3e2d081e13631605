#!/usr/bin/env bash
# A real Slurm cluster on one machine, as root, from Debian's packages: no systemd, no cgroups, no database.
#
#   cluster.sh install             apt-get what is missing
#   cluster.sh up                  controller and NODES nodes; returns when all are idle
#   cluster.sh exec COMMAND ...    run a command beside the controller (sbatch, squeue, ...)
#   cluster.sh kill-node NAME      every process of a node dies at once
#   cluster.sh start-node NAME     ... and the node comes back
#   cluster.sh link NAME up|down   plug or cut a node's network link
#   cluster.sh down                end everything
#
# The whole cluster lives in a network, process and mount namespace of its own, and each node in further ones: a
# node has its own address, host name and process table, and the machine outside is not changed. BASE is its folder.
set -euo pipefail
BASE=${BASE:-${TMPDIR:-/tmp}/slurm-cluster}
NODES=${NODES:-2}
CPUS=${CPUS:-4}
SUBNET=10.77.0
export SLURM_CONF=$BASE/slurm.conf
self=$(realpath "${BASH_SOURCE[0]}")

install() {
  local program missing=""
  for program in slurmctld slurmd sbatch munged ip; do
    command -v $program >/dev/null || missing+=" $program" # with several names it is content with one
  done
  [[ -n $missing ]] || return 0
  local policy=/usr/sbin/policy-rc.d made=""
  if [[ ! -e $policy ]]; then # else the packages start their own services
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    made=yes
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client munge iproute2 >/dev/null
  [[ -z $made ]] || rm $policy
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
SlurmdTimeout=20
ReturnToService=2
CONF
  local i
  for ((i = 1; i <= NODES; i++)); do
    echo "NodeName=node$i NodeAddr=$SUBNET.$((10 + i)) Port=16818 CPUs=$CPUS RealMemory=1000" >>"$SLURM_CONF"
  done
  echo "PartitionName=main Nodes=node[1-$NODES] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO" >>"$SLURM_CONF"
}

munge_up() {
  mkdir "$BASE/munge"
  head -c 1024 /dev/urandom >"$BASE/munge/key"
  chmod 0400 "$BASE/munge/key"
  munged --force --key-file="$BASE/munge/key" --socket="$BASE/munge/socket" --pid-file="$BASE/munge/pid" \
    --log-file="$BASE/log/munged.log" --seed-file="$BASE/munge/seed" 2>>"$BASE/log/munged.out"
}

# Runs as process 1 of the cluster: it adopts what its parents left, and takes all along when it ends.
inside() {
  hostname controller
  mount --bind "$BASE/hosts" /etc/hosts
  ip link set lo up
  ip link add cluster type bridge
  ip addr add "$SUBNET.1/24" dev cluster
  ip link set cluster up
  munge_up
  local i
  slurmctld -D >"$BASE/log/slurmctld.out" 2>&1 </dev/null &
  for ((i = 1; i <= NODES; i++)); do start_node "node$i"; done
  touch "$BASE/ready"
  while true; do wait || true; sleep 1; done
}

start_node() {
  local name=$1 number=${1#node} pid i
  mkdir -p "$BASE/spool/$name"
  # Process 1 of a node is a shell: it adopts orphans.
  # shellcheck disable=SC2016
  setsid unshare --net --uts --pid --fork --kill-child --mount --mount-proc --propagation private bash -c '
    hostname "$1"; until ip link set eth0 up 2>/dev/null; do sleep 0.05; done
    ip link set lo up; ip addr add "$2/24" dev eth0; slurmd -D -N "$1" & wait $!' \
    _ "$name" "$SUBNET.$((10 + number))" >"$BASE/log/slurmd-$name.out" 2>&1 </dev/null &
  pid=$!
  echo $pid >"$BASE/$name.pid"
  for ((i = 0; i < 100; i++)); do
    # The namespace is there a moment after the process is.
    if [[ $(readlink "/proc/$pid/ns/net") != "$(readlink /proc/self/ns/net)" ]]; then break; fi
    sleep 0.05
  done
  ip link del "to-$name" 2>/dev/null || true
  ip link add "to-$name" type veth peer name eth0 netns "$pid"
  ip link set "to-$name" master cluster up
}

up() {
  rm -rf "$BASE"
  mkdir -p "$BASE"/{state,spool,log}
  {
    printf '127.0.0.1 localhost\n%s.1 controller\n' "$SUBNET"
    local i
    for ((i = 1; i <= NODES; i++)); do echo "$SUBNET.$((10 + i)) node$i"; done
  } >"$BASE/hosts"
  write_conf
  setsid unshare --net --pid --fork --kill-child --mount --mount-proc --uts --propagation private \
    "$self" inside >"$BASE/log/cluster.out" 2>&1 </dev/null &
  echo $! >"$BASE/cluster.pid"
  for ((i = 0; i < 300; i++)); do
    if [[ -e $BASE/ready ]] && (($(within sinfo -h -N -o '%t' 2>/dev/null | grep -c '^idle$') == NODES)); then
      return
    fi
    sleep 0.1
  done
  echo "the nodes did not become idle:" >&2
  tail -n 5 "$BASE"/log/* >&2
  down
  exit 1
}

within() {
  nsenter --target "$(pgrep -P "$(<"$BASE/cluster.pid")" | head -n 1)" --net --uts --mount --pid --wdns="$PWD" "$@"
}

kill_node() {
  # Read inside the cluster: the number is the one that its processes see. SIGKILL to the node's process 1 follows.
  kill -9 "$(<"$BASE/$1.pid")"
}

down() {
  [[ -e $BASE/cluster.pid ]] || return 0
  kill -9 "$(<"$BASE/cluster.pid")" 2>/dev/null || true
  rm "$BASE/cluster.pid"
}

case ${1:-} in
  install | up | down | inside) "$1" ;;
  exec) within "${@:2}" ;;
  kill-node) within "$self" inner-kill "$2" ;;
  inner-kill) kill_node "$2" ;;
  start-node) within "$self" inner-start "$2" ;;
  inner-start) start_node "$2" ;;
  link) within ip link set "to-$2" "$3" ;;
  *)
    sed -n '2,14p' "$self"
    exit 2
    ;;
esac
