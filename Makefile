# Two commands need nothing but Python >= 3.11 and make: `make demo` and `make test`.
.POSIX:
.PHONY: demo test test-kubernetes lint bench bench-kubernetes clean

VENV = .venv
BIN = $(VENV)/bin
WORKERS = 2

# On this machine; `make demo KUBECONFIG=FILE` on the cluster of FILE. A KUBECONFIG of the environment is make's variable
# too, and perhaps a cluster that people work with: only what stands on the command line, and so in MAKEFLAGS, is meant.
demo: $(VENV)/.demo
	@case " $$MAKEFLAGS" in *" KUBECONFIG="*) set -- --kubeconfig "$(KUBECONFIG)";; esac; \
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/digits/demo.sh "$$@"

# Each file's tests run in one process, in order; WORKERS=0 runs all of them in pytest's own.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -q --numprocesses $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# On the cluster of KUBECONFIG, else on one made for the run (Go; root for a node).
test-kubernetes: $(VENV)/.dev
	$(BIN)/python -m pytest -q --kubernetes tests/contract tests/kubernetes $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python bench/startup.py

# On the cluster of KUBECONFIG, else on one made for the run; the embedded engine beside. Wants a quiet machine.
bench-kubernetes: $(VENV)/.dev
	$(BIN)/python -m bench.kubernetes $(BENCH_ARGS)

$(VENV)/.demo: pyproject.toml tools/venv.sh
	@sh tools/venv.sh $(VENV) demo

$(VENV)/.dev: pyproject.toml tools/venv.sh
	@sh tools/venv.sh $(VENV) dev

clean:
	rm -rf $(VENV) .demo
