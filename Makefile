# make demo, make test: both set up what they need on a fresh machine that has Python 3.11+, venv and make.
# PYTHON is the interpreter to use: make test PYTHON=python3.13. VENV is where its environment is set up;
# an environment that another interpreter set up is replaced.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SYSTEM := $(VENV)/.system
COMPILED := $(VENV)/.compiled

# Two interpreters that print the same are the same one.
IDENTITY := import sys; print(sys.version, sys.base_prefix)

# The tests start hundreds of processes: each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

PYTEST = pytest -n $(WORKERS) --dist worksteal $(LEFT_OUT)
# `make check` checks them with all other types, in one run of mypy.
TYPES_OF_DOCS := tests/project/test_code_blocks.py::test_python_blocks_have_right_types
# tests/conftest.py computes it from the cores.
WORKERS ?= auto

# Nearly half of the CPU time of tests whose coverage is measured is the tracer's. `make test` measures it
# in CI only, where it is a gate.
define MEASURED
$(BIN)/coverage erase
$(BIN)/coverage run -m $(PYTEST)
$(BIN)/coverage combine -q
$(BIN)/coverage report --fail-under=95
endef

.PHONY: help demo test tests corpus interruptions coverage test-unit test-versions test-artefacts fuzz check lint types docs npm clients mcp model mutants mutation proof bench bench-full soak hostile clean FORCE

help:
	@echo "make demo        a live dashboard of this machine in the browser (pip needs the network)"
	@echo "make test        all checks and tests; as root, installs the programs they need with apt"
	@echo "make coverage    all tests, with coverage, which must be 95 %; in CI, make test includes it"
	@echo "make test-unit   only the quick tests: no browser, Redis, proxies, workers or other programs"
	@echo "make test-versions   the tests on other versions of Python, Quart and the other dependencies"
	@echo "make test-artefacts  builds the wheel and the sdist, and runs each extra alone"
	@echo "make check       only formatting, lint and types"
	@echo "make docs        the documentation site, docs/build/index.html"
	@echo "make npm         the client script as an npm package, npm/dist"
	@echo "make clients     the clients of other protocols that the tests use, from npm"
	@echo "make mcp         MCP's conformance suite on this server and on uvicorn (needs npm)"
	@echo "make bench       speed and memory, compared with minimal servers in C (needs a C compiler; Linux)"
	@echo "make bench-full  all scenarios, other servers, workers and a million streams (four hours)"
	@echo "make model       the rule of delivery in a million random steps"
	@echo "make corpus      all raw requests of tests/corpus, at once and byte by byte, to all hosts"
	@echo "make fuzz        coverage-guided fuzzing of all parsers, an hour each"
	@echo "make interruptions  scenarios on all hosts and logs, interrupted everywhere (two hours)"
	@echo "make mutants     seeded faults of the package, each of which a test must notice"
	@echo "make mutation    mutmut's faults of central files, noticed or explained"
	@echo "make proof       random shares of the fuzzing, the interruptions and the mutants, in 150 seconds"
	@echo "make soak        a million connections of every kind, and ten million deliveries: does anything grow?"
	@echo "make hostile     slow and hostile peers, full disks, bad networks (half an hour; more of it as root)"
	@echo "make clean       remove what make has set up"

demo: $(READY)
	$(BIN)/trio-sse demo $(if $(BIND),--bind $(BIND))

# Lint and types are checked beside the tests, and said at the end: two cores are not busy all the time.
test: $(SYSTEM)
	@$(MAKE) --no-print-directory check >$(VENV)/check.log 2>&1 & check=$$!; \
	$(MAKE) --no-print-directory tests LEFT_OUT="--deselect $(TYPES_OF_DOCS)"; status=$$?; \
	wait $$check || status=1; cat $(VENV)/check.log; exit $$status

tests: $(SYSTEM) $(COMPILED)
	$(if $(CI),$(MEASURED),$(BIN)/python -m $(PYTEST))

coverage: $(SYSTEM) $(COMPILED)
	$(MEASURED)

test-unit: $(READY)
	$(BIN)/python -m $(PYTEST) -q -m "not (integration or slow)" --hypothesis-profile quick

# Interpreters of several versions, and the lowest and newest versions of the dependencies; it takes an hour.
test-versions: $(SYSTEM)
	$(BIN)/python .ci/versions.py --only '$(ONLY)' --args "$(ARGS)"

# The wheel and the sdist, and each extra alone; it needs the package index.
test-artefacts: $(READY)
	TRIO_SSE_ARTEFACTS=1 $(BIN)/python -m pytest -q -n 2 --dist loadscope tests/project/test_artefacts.py

check: lint types

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/python -m tests.project.check_types

docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --jobs auto --quiet -c docs . docs/build

npm: $(READY)
	$(BIN)/python npm/build.py npm/dist

clients: $(READY)
	$(BIN)/python tests/adapters/clients/build.py

# MCP="--times 5 --suite stable" runs one of the suite's versions five times.
mcp: $(READY)
	$(BIN)/python -m tests.mcp $(MCP)

# A run has some 120 steps, and mostly waits; eight times as many are on the log in memory. The files of SQLite
# need no disk.
model: $(READY) $(SYSTEM)
	TMPDIR=$(firstword $(wildcard /dev/shm) /tmp) TRIO_SSE_MODEL_RUNS=$(or $(RUNS),108) \
		$(BIN)/python -m pytest -v --maxfail=1 -rP -n 8 --timeout=14400 tests/promises/test_delivery.py

# FUZZ="heads http2_frames" chooses targets, MINUTES=60 is for each; FUZZ_OPTIONS="--seed 1 --jobs 1 --keep".
fuzz: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' || { \
		echo "atheris cannot be installed: it may have no wheel for this Python and system."; exit 1; }
	$(BIN)/python -m tests.fuzz $(FUZZ) --minutes $(or $(MINUTES),60) $(FUZZ_OPTIONS)

corpus: $(READY)
	TRIO_SSE_CORPUS=1 $(BIN)/python -m pytest -q tests/corpus

# Each checkpoint of each scenario; then two random ones of each host, log and place, with other orders of tasks.
# INTERRUPTIONS="replay quart" takes those whose names have these words. A run that was stopped goes on, unless
# something was changed: .interruptions says what is done.
interruptions: $(SYSTEM)
	$(BIN)/python -m tests.interruptions --redis --jobs 4 --resume .interruptions $(INTERRUPTIONS)
	$(BIN)/python -m tests.interruptions --redis --jobs 4 --resume .interruptions --seeds 2 $(INTERRUPTIONS)

# MUTANTS="hub state" tries those of these packages or names, MUTANTS="--share 1/6" a random share.
mutants: $(SYSTEM)
	$(BIN)/python -m tests.mutants $(MUTANTS)

# Every operator, number and condition of a few central files; MUTATION="queue memory" chooses some of them.
mutation: $(SYSTEM)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutation]'
	$(BIN)/python -m tests.mutants.operators $(MUTATION)

# What CI runs beside the tests: shares of the longer runs, in SECONDS altogether.
proof: $(SYSTEM)
	$(BIN)/python -m tests.proof --seconds $(or $(SECONDS),150) $(if $(SEED),--seed $(SEED))

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-full: $(READY) $(SYSTEM)
	$(BIN)/python -m benchmarks --full
	$(BIN)/python -m benchmarks.kills --json benchmarks/results/kills.json
	$(BIN)/python -m benchmarks.run_kills --json benchmarks/results/run_kills.json
	$(BIN)/python -m benchmarks.scale --json benchmarks/results/scale.json
	$(BIN)/python -m benchmarks.scale --streams 1000000 --keepalive 300 --log-timeout 60 --keep-workers --json benchmarks/results/million.json
	$(MAKE) soak

# SOAK="--connects 100000 --minutes 10 --deliveries 0" is a smaller one.
soak: $(READY) $(SYSTEM)
	mkdir -p benchmarks/results
	$(BIN)/python -m benchmarks.soak $(SOAK) --json benchmarks/results/soak.json

# SCENARIOS="'slow heads' Redis" runs those whose names have one of these parts.
hostile: $(READY) $(SYSTEM)
	mkdir -p benchmarks/results
	$(BIN)/python -m benchmarks.hostile $(SCENARIOS) --json benchmarks/results/hostile.json

$(READY): pyproject.toml $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(VENV)/pyvenv.cfg: FORCE
	@wanted=$$($(PYTHON) -c '$(IDENTITY)') || exit 1; \
	test "$$($(BIN)/python -c '$(IDENTITY)' 2>/dev/null)" = "$$wanted" || { \
		echo "Setting up $(VENV) with Python $$wanted"; \
		$(PYTHON) -m venv --clear $(VENV); \
	}

# What the tests need of the system. Where it cannot be installed, the tests that need it say so and skip.
$(SYSTEM): $(READY)
	sh .ci/install-system-packages
	touch $@

# Pytest compiles the tests in its own way. Otherwise each of its workers would compile all of them.
$(COMPILED): $(READY)
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 || true
	touch $@

clean:
	rm -rf $(VENV) build .venv-* .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis benchmarks/build docs/build
