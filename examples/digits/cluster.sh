# The demo's place: the Kubernetes cluster of $cluster, a kubeconfig. Read by demo.sh.
#
# No image of ours is in any registry, so nothing of Headrace runs on the cluster's own nodes: the controllers and two
# nodes run on this machine, and their pods in this machine's root. What is the cluster's is the API server, the
# scheduler, the volumes' binding, garbage collection and RBAC.

space=headrace-demo
home=headrace-demo-system
mark=headrace.io/demo
manifests="$work/cluster"
export KUBECONFIG="$cluster" HEADRACE_NAMESPACE=$space
installing="--no-workloads --no-nodes --namespace $home --project $space"
is_ours=''

prepare() {
    step "0. What will be done with your cluster"
    server=$(headrace get namespace default -o json >>"$log" 2>&1 && python -c '
import sys
from pathlib import Path
from headrace.cluster.remote.connection import read_cluster
print(read_cluster(Path(sys.argv[1])).server)' "$cluster") || stop_with "The cluster of $cluster does not answer"
    note "Cluster $server, by $cluster:"
    note "  made: the namespaces $space and $home; Headrace's and Fluid's kinds; its roles and policies; two pools,"
    note "    a queue, a profile, two volumes; the nodes $space-own and $space-cloud, both on this machine, tainted $mark"
    note "  not touched: your nodes, your namespaces, your workloads. No image is pulled, nothing of ours runs on your nodes"
    note "  at the end, and on Ctrl-C, all of it is taken away again. A cluster that has Headrace or Fluid is left alone"
    if headrace get namespace $home -o json 2>>"$log" | grep -q "\"$mark\""; then
        # Taking away means all objects of Headrace's kinds, and those may be somebody's by now.
        headrace get namespace headrace-system >>"$log" 2>&1 &&
            stop_with "An earlier demo was cut off, and this cluster has the namespace headrace-system since. Take away what is the demo's alone: headrace install --uninstall --namespace $home"
        note "An earlier demo was cut off. What it left is taken away first."
        is_ours=yes
        take_down
    fi
    mkdir -p "$manifests"
    # shellcheck disable=SC2086
    headrace install --dry-run $installing >"$manifests/install.txt" 2>&1 || {
        cat "$manifests/install.txt" >&2
        stop_with "Headrace cannot be installed there"
    }
    there=$(grep ' (dry run)$' "$manifests/install.txt" | grep -v ' created (dry run)$\| changed (dry run).$' | head -n 3 | cut -d' ' -f1)
    [ -z "$there" ] || stop_with "This cluster has Headrace or Fluid already (among others: $(echo "$there" | tr '\n' ' ')), and the demo leaves both alone"
}

bring_up() {
    is_ours=yes
    note "From here on, in a shell of yours: export KUBECONFIG=$cluster HEADRACE_NAMESPACE=$space"
    printf 'apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, annotations: {%s: "made by make demo"}}\n' $home $mark |
        headrace apply -f - >>"$log"
    printf '%s$ headrace install %s%s\n' "$bold" "$installing" "$plain"
    # shellcheck disable=SC2086
    headrace install $installing >>"$log" 2>&1 || { tail -n 3 "$log" >&2; stop_with "headrace install failed"; }
    tail -n 1 "$log"
    in_background control headrace control --namespace $home --ledger "sqlite:///$manifests/ledger.db"
    await control 'API server reaches' 120
    run headrace apply -f pools.yaml
    in_background own headrace node --pool own --name $space-own --cpu 3 --memory 4Gi --persistent-volumes \
        --taint $mark=:NoSchedule --home "$manifests/own"
    in_background cloud headrace node --pool cloud --name $space-cloud --cpu 16 --memory 64Gi \
        --taint $mark=:NoSchedule --home "$manifests/cloud"
    await own 'Ready' 120
    await cloud 'Ready' 120
    # Volumes have no namespace, so here their names say whose they are.
    for file in storage.yaml claim.yaml outputs.yaml; do
        sed "s/namespace: default/namespace: $space/; s/volumeName: /volumeName: $space-/
             /^kind: PersistentVolume\$/,/^spec:/ s/name: \([a-z]*\)}/name: $space-\1}/" $file >"$manifests/$file"
    done
}

in_background() { # a name for its output, and the command
    name=$1
    shift
    printf '%s$ %s &%s\n' "$bold" "$*" "$plain"
    "$@" >"$manifests/$name.txt" 2>&1 &
    eval "${name}_pid=$!"
}

await() { # what in_background started, what it must say, and in how many seconds
    eval "pid=\$${1}_pid"
    tries=$(($3 * 5))
    until grep -q "$2" "$manifests/$1.txt"; do
        kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ] || { cat "$manifests/$1.txt" >&2; stop_with "What was started as $1 does not work here"; }
        tries=$((tries - 1))
        sleep 0.2
    done
    tail -n 1 "$manifests/$1.txt"
}

end() { # what in_background started, if it did
    [ -z "$1" ] || { kill "$1" 2>/dev/null && wait "$1" 2>/dev/null; } || true
}

where_you_are() {
    note "Both pools' nodes were this machine's, and the cluster was yours: its API server, its scheduler, its rules."
    note "Headrace inside a cluster, with its own nodes: docs/install.md. More nodes of this kind: headrace node --help"
}

take_down() {
    [ -n "$is_ours" ] || return 0
    printf 'taking everything away '
    # Who runs here lets go what it holds; where nobody does, the uninstallation takes its finalizers off.
    [ -n "${control_pid:-}" ] && waiting='--timeout 60s' || waiting=--no-wait
    # shellcheck disable=SC2086
    headrace delete namespace $space --ignore-not-found $waiting >>"$log" 2>&1 || true
    headrace delete pv $space-digits $space-outputs --ignore-not-found >>"$log" 2>&1 || true
    for node in own cloud; do
        printf '.'
        leaving="--leave --name $space-$node --home $manifests/$node"
        # shellcheck disable=SC2086
        headrace node $leaving --timeout 30s >>"$log" 2>&1 || headrace node $leaving --force >>"$log" 2>&1 || true
        eval "end \"\${${node}_pid:-}\""
    done
    end "${control_pid:-}"
    printf '.'
    if headrace install --uninstall --purge --namespace $home >>"$log" 2>&1 &&
        headrace delete namespace $space $home --ignore-not-found --timeout 60s >>"$log" 2>&1; then
        rm -rf "$manifests"
        is_ours=''
        printf ' done: the cluster is as it was\n'
    else
        printf '\nNot everything could be taken away; see %s, and repeat: make demo KUBECONFIG=%s\n' "$log" "$cluster" >&2
    fi
}
