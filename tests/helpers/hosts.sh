#!/usr/bin/env bash
# Several hosts on one machine, as root: each has an address on a bridge, a name and processes of its own.
#
#   hosts.sh up                  HOSTS hosts, until the standard input ends; prints "ready" when they are there
#   hosts.sh exec COMMAND ...    run a command beside the hosts, at SUBNET.1
#   hosts.sh on NAME COMMAND ... run a command on a host
#   hosts.sh kill NAME           every process of a host dies at once
#   hosts.sh start NAME          ... and the host comes back
#   hosts.sh link NAME up|down   plug or cut a host's network link
#
# All lives in a network, process and mount namespace of its own, and each host in further ones: the machine outside
# is not changed, and whoever holds the other end of the standard input takes everything along, however it dies.
# They share the file system. BASE is a folder for their files. tests/slurm/cluster.sh makes a Slurm cluster of it.
set -euo pipefail
BASE=${BASE:?}
HOSTS=${HOSTS:-3}
FAMILY=${FAMILY:-4} # 6: the hosts have no IPv4
SUBNET=10.77.0
[[ $FAMILY == 4 ]] || SUBNET=fd77:
# The address of a number, alone and with the length of its network.
host_at() { if [[ $FAMILY == 4 ]]; then echo "$SUBNET.$1"; else echo "$SUBNET:$1"; fi; }
at() { if [[ $FAMILY == 4 ]]; then echo "$(host_at "$1")/24"; else echo "$(host_at "$1")/64 nodad"; fi; }
self=$(realpath "$0")

beside() { :; }               # what runs beside the hosts
on_host() { sleep infinity; } # what runs on each, with its name as argument
are_there() { :; }            # returns when the hosts can be used

up() {
  local i
  mkdir -p "$BASE/log"
  printf '127.0.0.1 localhost\n%s controller\n' "$(host_at 1)" >"$BASE/hosts"
  for ((i = 1; i <= HOSTS; i++)); do echo "$(host_at $((10 + i))) node$i"; done >>"$BASE/hosts"
  echo $$ >"$BASE/pid"
  exec unshare --net --pid --fork --kill-child --mount --mount-proc --uts --propagation private "$self" inside
}

# Process 1 of it all: adopts orphans, and takes all along when it ends.
inside() {
  hostname controller
  mount --bind "$BASE/hosts" /etc/hosts
  ip link set lo up
  ip link add bridge type bridge
  # shellcheck disable=SC2046
  ip addr add $(at 1) dev bridge
  ip link set bridge up
  beside
  local i
  for ((i = 1; i <= HOSTS; i++)); do start_host "node$i"; done
  are_there
  echo ready
  cat >/dev/null
}

start_host() {
  local name=$1 address pid
  address=$(at $((10 + ${1#node})))
  setsid unshare --net --uts --pid --fork --kill-child --mount --mount-proc --propagation private \
    "$self" host "$name" "$address" >"$BASE/log/$name.out" 2>&1 </dev/null &
  pid=$!
  echo $pid >"$BASE/$name.pid"
  # The namespace is there a moment after the process is.
  until [[ $(readlink "/proc/$pid/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.02; done
  ip link del "to-$name" 2>/dev/null || true
  # Its hardware address is its own for ever, or the others' caches would be wrong when it comes back.
  ip link add "to-$name" type veth peer name eth0 address "02:00:00:00:00:1${name#node}" netns "$pid"
  ip link set "to-$name" master bridge up
}

# Process 1 of a host.
host() {
  hostname "$1"
  until ip link set eth0 up 2>/dev/null; do sleep 0.02; done
  ip link set lo up
  # shellcheck disable=SC2086
  ip addr add $2 dev eth0
  [[ $FAMILY == 4 ]] || ip addr del 127.0.0.1/8 dev lo
  on_host "$1" &
  wait $!
}

kill_host() {
  kill -9 "$(<"$BASE/$1.pid")" # SIGKILL to the host's process 1 follows, and to all its processes
}

# The one child of an unshare is process 1 of its namespace.
enter() {
  local outer=$1 inner
  inner=$(<"/proc/$outer/task/$outer/children")
  nsenter --target "${inner%% *}" --net --uts --mount --pid --wdns="$PWD" "${@:2}"
}

within() { enter "$(<"$BASE/pid")" "$@"; }

main() {
  case ${1:-} in
    up | inside | host) "$@" ;;
    exec) within "${@:2}" ;;
    on) within "$self" inner-on "${@:2}" ;;
    inner-on) enter "$(<"$BASE/$2.pid")" "${@:3}" ;; # the numbers are those that processes inside see
    kill) within "$self" inner-kill "$2" ;;
    inner-kill) kill_host "$2" ;;
    start) within "$self" inner-start "$2" ;;
    inner-start) start_host "$2" ;;
    link) within ip link set "to-$2" "$3" ;;
    *)
      sed -n '2,/^set/{/^#/p}' "$self"
      exit 2
      ;;
  esac
}

if [[ $self == "$(realpath "${BASH_SOURCE[0]}")" ]]; then main "$@"; fi
