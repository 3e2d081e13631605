#!/usr/bin/env bash
# The image of the Dockerfile, built by buildah and run without a daemon, as root on Debian.
#
#   container.sh install                     apt-get what is missing
#   container.sh build                       the image; prints what buildah knows of it, as JSON
#   container.sh mount                       a container's file system; prints where
#   container.sh run ROOT USER DATA RUNS COMMAND ...
#                                            as docker run --read-only --tmpfs=/tmp --user=USER, with its two volumes:
#                                            COMMAND is process 1 of a process name space, in /job
#   container.sh remove                      the containers; image and layers stay for the next build
#   container.sh clean                       the image too, the layers and what was downloaded
#
# Everything is in the folder BASE, 12 GB that make the next build quick. Where no registry answers, the base image
# is made of Debian's packages under the real one's name, so that the Dockerfile is built as it is.
set -euo pipefail
BASE=${BASE:-/var/tmp/training-job-container}
IMAGE=localhost/training-job
export TMPDIR=$BASE/tmp # the cache mounts of the Dockerfile go below it
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build_tool() { buildah --root="$BASE/storage" --runroot="$BASE/running" "$@"; }

install() {
  local program missing=""
  for program in buildah mmdebstrap; do
    command -v $program >/dev/null || missing+=" $program"
  done
  [[ -n $missing ]] || return 0
  apt-get update -qq
  # shellcheck disable=SC2086 # one word each
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

base() {
  local name=$1 container authorities=/etc/ssl/certs/ca-certificates.crt
  if [[ -n $(build_tool images -q "$name" 2>/dev/null) ]] || timeout 60 buildah --root="$BASE/storage" \
    --runroot="$BASE/running" pull -q "$name" >/dev/null 2>&1; then
    return
  fi
  echo "no registry answers: $name is made of Debian's packages" >&2
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$TMPDIR/base.tar"
  container=$(build_tool from scratch)
  build_tool add -q "$container" "$TMPDIR/base.tar" / >/dev/null
  # Whom this machine trusts (a proxy, perhaps), the build trusts: in this base, never in the Dockerfile.
  build_tool add -q "$container" $authorities $authorities >/dev/null
  build_tool config --env=SSL_CERT_FILE=$authorities --env=PIP_CERT=$authorities \
    --env=PATH=/usr/local/bin:/usr/bin:/bin "$container"
  build_tool commit -q --rm "$container" "$name" >/dev/null
  rm "$TMPDIR/base.tar"
}

build() {
  mkdir -p "$TMPDIR"
  base "$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)"
  build_tool build --isolation=chroot --network=host --pull-never --layers --tag=$IMAGE --file=Dockerfile \
    --build-arg=COMMIT="$(git describe --always --dirty --abbrev=40 --exclude='*')" . >&2
  build_tool inspect --type=image $IMAGE
}

inside() {
  local root=$1 user=$2 data=$3 runs=$4
  shift 4
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount --bind "$data" "$root/job/data"
  mount --bind "$runs" "$root/job/runs"
  mount -t tmpfs tmpfs "$root/tmp"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o size=64m shm "$root/dev/shm" # what docker gives
  touch "$root/etc/hosts"
  mount --bind /etc/hosts "$root/etc/hosts" # docker writes one
  mount -o remount,bind,ro "$root/job/data"
  mount -o remount,bind,ro "$root"
  exec chroot --userspec="$user" --groups= "$root" env --chdir=/job "$@"
}

case ${1:-} in
  install) install ;;
  build) build ;;
  remove) build_tool rm --all >/dev/null ;;
  mount) build_tool mount "$(build_tool from --pull-never $IMAGE)" ;;
  run) exec unshare --mount --pid --fork --kill-child "$(realpath "tests/helpers/container.sh")" inside "${@:2}" ;;
  inside) inside "${@:2}" ;;
  clean)
    build_tool rm --all >/dev/null
    build_tool rmi --all --force >/dev/null
    rm -rf "$BASE"
    ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
