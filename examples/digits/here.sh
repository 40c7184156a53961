# The demo's place: an engine of this machine's own. Read by demo.sh.

manifests=.

prepare() {
    headrace down --purge >>"$log" 2>&1
}

bring_up() {
    run headrace up --own-cpu 3 --own-memory 4Gi
    if headrace get pool cloud -o json | grep -q '"mode": "materialise"'; then
        note "This machine lets an ordinary user mount nothing (headrace doctor prints the cure), so data is copied instead."
        outputs=outputs-local.yaml
    fi
}

where_you_are() {
    note "cloud is, here, a second local node without the CSI driver: as on a serverless provider, only a sidecar reaches data."
    note "While Headrace is up, kubectl works too: headrace up prints the kubeconfig's place, here $HEADRACE_HOME/kubeconfig"
    note "Try next, after . .venv/bin/activate:"
    note "  headrace up && headrace run -w 2 -- python -c 'import os; print(os.environ[\"HEADRACE_RANK\"])'"
    note "  headrace datasets connect YOUR-CLAIM --profile juicefs"
    note "  headrace doctor"
    run headrace down
}

take_down() {
    headrace down >>"$log" 2>&1 || true
}
