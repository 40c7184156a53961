#!/bin/sh
# The main job, end to end: a real storage system, two jobs of one file, one of them in the cloud pool. On this machine, or
# with --kubeconfig FILE on a cluster of yours.
# Only public commands; each is printed before it runs, so that you can type it yourself. State: $HEADRACE_DEMO.
set -eu
cluster=''
if [ "${1:-}" = --kubeconfig ] && [ "$#" = 2 ]; then
    [ -r "$2" ] || { printf 'There is no kubeconfig %s to read.\n' "$2" >&2; exit 1; }
    cluster=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
elif [ "$#" != 0 ]; then
    printf 'Usage: demo.sh [--kubeconfig FILE]\n' >&2
    exit 64
fi
cd "$(dirname "$0")"

work=${HEADRACE_DEMO:-$(cd ../.. && pwd)/.demo}
export HEADRACE_HOME="$work/headrace"
log="$work/demo.log"
outputs=outputs.yaml
mkdir -p "$work"
: >"$log"

if [ -t 1 ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m'); else bold='' dim='' plain=''; fi

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
run() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@"
}
quiet() { # progress on one line, output in the log
    printf '.'
    "$@" >>"$log" 2>&1 || { printf '\n%s failed; the end of %s:\n' "$1" "$log" >&2; tail -n 15 "$log" >&2; exit 1; }
}
stop_with() { printf '%s%s. Its log: %s%s\n' "$bold" "$*" "$log" "$plain" >&2; exit 1; }
command -v etcd >/dev/null && command -v juicefs >/dev/null && command -v rclone >/dev/null || {
    printf 'The demo needs juicefs, rclone and etcd. Run it as: make demo\n' >&2
    exit 1
}

. "./$([ -n "$cluster" ] && echo cluster.sh || echo here.sh)"

pids=''
cleanup() {
    code=$?
    trap '' INT TERM EXIT
    [ -n "${first:-}" ] && kill "$first" 2>/dev/null
    take_down
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    [ "$code" -eq 0 ] || [ "$code" -eq 130 ] || printf '\nThe demo stopped early. Its log: %s\n' "$log" >&2
    exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

prepare
step "1. Headrace, and a real storage system with a real data set"
printf 'starting a JuiceFS volume on loopback (etcd for names, an S3 server for blocks) '
mkdir -p "$work/storage/blocks/digits"
etcd --data-dir "$work/storage/etcd" --unsafe-no-fsync --log-level error \
    --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
    --listen-peer-urls http://127.0.0.1:23791 --initial-advertise-peer-urls http://127.0.0.1:23791 \
    --initial-cluster default=http://127.0.0.1:23791 >>"$log" 2>&1 &
pids="$pids $!"
rclone serve s3 "$work/storage/blocks" --addr 127.0.0.1:23792 --auth-key demo-key,demo-secret >>"$log" 2>&1 &
pids="$pids $!"
META=etcd://127.0.0.1:23790/digits
export META
quiet etcdctl --endpoints 127.0.0.1:23790 --dial-timeout 10s --command-timeout 10s endpoint health
if [ ! -e "$work/storage/filled" ]; then
    mkdir -p "$work/data"
    quiet tar xzf digits.tar.gz -C "$work/data"
    ACCESS_KEY=demo-key SECRET_KEY=demo-secret quiet juicefs format --storage s3 \
        --bucket http://127.0.0.1:23792/digits --trash-days 0 "$META" digits
    quiet juicefs sync --threads 50 "$work/data/digits/" jfs://META/digits/
    : >"$work/storage/filled"
fi
printf ' done: 1,797 PNG files and their labels\n'
bring_up

step "2. What the storage engineer applies once, and the one label that connects a claim to every pool"
run headrace apply -f "$manifests/storage.yaml" -f "$manifests/claim.yaml" -f "$manifests/$outputs"
run headrace label pvc digits fluid.io/runtime-profile=juicefs
run headrace datasets wait digits --timeout 60s
if [ "$outputs" = outputs.yaml ]; then
    run headrace label pvc outputs fluid.io/runtime-profile=juicefs
    run headrace datasets wait outputs --timeout 60s
fi
run headrace datasets list

step "3. The same job file twice: the own pool holds one of them"
note "The first runs on the own pool, through the organisation's CSI driver."
run headrace run -f job.yaml --name digits-1 --detach
run headrace wait trainjob/digits-1 --for phase=Running,Succeeded --timeout 60s
note "The second does not fit beside it. It is told what waiting and what bursting would cost, and goes to the cloud pool."
run headrace run -f job.yaml --name digits-2
run headrace logs -f digits-1 &
first=$!
wait "$first" || true
first=''
run headrace wait trainjob/digits-1 --for phase=Succeeded --timeout 60s

step "4. What really happened"
run headrace show digits-1
run headrace show digits-2
note "All files, read on own through CSI and in the cloud through the sidecar, have one SHA-256:"
printf '%s$ headrace logs JOB | grep -o 'sha256.*' | sort | uniq -c%s\n' "$bold" "$plain"
{ headrace logs digits-1; headrace logs digits-2; } | grep -o 'sha256 .*' | sort | uniq -c
note "Nobody in the cloud pool had a privilege: CapEff of the workers and of the storage clients."
printf '%s$ headrace logs digits-2 [-c fluid-fuse-0] | grep CapEff%s\n' "$bold" "$plain"
headrace logs digits-2 | grep CapEff
headrace logs digits-2 -c fluid-fuse-0 2>>"$log" | grep CapEff || true
note "Nobody changed a line of the claims, the volumes or the profile:"
run headrace apply --dry-run -f "$manifests/storage.yaml" -f "$manifests/claim.yaml" -f "$manifests/$outputs"
run headrace usage --by span
run headrace usage --replay

step "5. Where you are now"
where_you_are
