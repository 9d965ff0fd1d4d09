# Everything a newcomer needs: `make test` from nothing (Python 3.11, venv and make are enough).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := $(VENV)/lock/bin/uv pip compile --quiet --generate-hashes --no-header --no-annotate --universal --python-version 3.11
INTEROP := tests/interop
PEER := $(INTEROP)/node_modules/.package-lock.json
PEERS := $(VENV)/peers/.installed
FUZZER := $(VENV)/.fuzzer
DEPTH ?= 20
IDLE ?= 0
SILENCE ?= 0
HOURS ?= 1
FIRST ?= 1
SEEDS ?= 2000
RESTORES ?= 500
WALKS ?= 10000
PLANS ?= 0 399
RUNS ?= 50000
LIES ?= 200

BUNDLE := dist/bundle
RUNNING := packaging/requirements.lock

.PHONY: env interop test lint types contracts check coverage promises attack fuzz crash bench-archive bench-client \
        bench-crypto bench-relay bench-store bench-transfer bench-pages bench-wipe sim-week demo soak sim sim-oncall \
        sim-archive format lock clean packages bundle sbom audit pictures

env: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The other implementation of MLS that the interoperation tests talk to. Without it they are skipped, saying so;
# where CI is set they fail instead.
interop: $(PEER)

$(PEER): $(INTEROP)/package-lock.json $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH"; cd $(INTEROP) && npm ci --ignore-scripts --no-audit --no-fund --silent \
	    && touch node_modules/.package-lock.json || echo "make: ts-mls could not be installed" >&2

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: env
	$(BIN)/mypy

contracts: env
	$(BIN)/lint-imports

# Three at a time also on two cores: the stories mostly wait. Who is done early takes over what waits for others.
# Stories start hundreds of processes: compiled once, whatever the shell says of that.
check: export PYTHONDONTWRITEBYTECODE =
check: env interop
	$(BIN)/python -m compileall -q crypto storage protocol server client client_cli archive demo tests
	$(BIN)/pytest -n 3 --dist worksteal

test: lint types contracts check

# Every branch of crypto/, by its own tests.
coverage: env interop
	$(BIN)/pytest -n auto --cov=crypto --cov-branch --cov-fail-under=100 tests/crypto tests/interop

# What the relay promises, DEPTH times as long: kills of the real process, races of Commits. With IDLE it also holds
# that many connections that say nothing (10000 need `ulimit -n` above 10500; minutes, mostly certificates), and with
# SILENCE the archive is away for so many seconds while people join and leave (3600: an hour; test_silent_recorder.py).
promises: env
	WARDLINE_DEPTH=$(DEPTH) WARDLINE_IDLE=$(IDLE) WARDLINE_SILENCE=$(SILENCE) $(BIN)/pytest -n 2 tests/scenarios tests/adversary

# Every parser of bytes from outside, led by coverage: RUNS inputs for each group of them, ends with a line in
# docs/evidence.jsonl. Then a device among frames that its relay makes up, LIES=200 seeds from FIRST=1, with a line too.
# Then the properties, random walks and mutated frames of the tests, DEPTH times as deep: with 20, a million frames
# against the session and fifty thousand through sockets.
fuzz: env $(FUZZER)
	$(BIN)/python -m tests.fuzzing --runs $(RUNS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.adversary.made_up --first $(FIRST) --seeds $(LIES)
	WARDLINE_DEPTH=$(DEPTH) $(BIN)/pytest -n auto tests/crypto tests/protocol tests/client/test_store_model.py \
	    tests/adversary/test_fuzz.py

# The stores killed at every write and sync, and the power of relay and archive cut 10,000 times; needs strace and
# an hour.
crash: env
	WARDLINE_CUTS=10000 WARDLINE_KILLS=100000 WARDLINE_FLIPS=0 $(BIN)/pytest \
	    tests/server/crash tests/server/test_damage.py tests/client/crash tests/archive/crash

# What the store alone reaches, without the relay around it.
bench-store: env
	$(BIN)/python -m bench.store

# What well-behaved devices wait while others attack the relay; fails where it is more than twice as long.
attack: env
	$(BIN)/python -m tests.adversary.load

# The archive: appending, auditing, from a message to its receipt, catching up, opening. QUICK=1 ends within a minute; fails where a
# wanted value is missed.
bench-archive: env
	$(BIN)/python -m bench.archive
	$(BIN)/python -m bench.recorder
	$(BIN)/python -m bench.catchup
	$(BIN)/python -m bench.opening

# Pages: 100,000 pending, 1,000 due in one second; STAT to a locked device with 5,000 connected. QUICK=1: a tenth.
bench-pages: env
	$(BIN)/python -m bench.pages

# A hospital's week on a virtual clock: whom its messages interrupt. QUICK=1 is one weekday, within a minute.
sim-week: env
	$(BIN)/python -m bench.sim_week

# Wardline's MLS beside two others, in one run: QUICK=1 ends within a minute. Fails where a wanted value is missed.
bench-crypto: env interop $(PEERS)
	$(BIN)/python -m bench.crypto

# The relay beside the message servers that are installed, in one run: QUICK=1 ends within a minute, WORKLOADS="W1 W3"
# measures those alone. Fails where a wanted value is missed.
bench-relay: env
	$(BIN)/python -m bench.relay

# A device with 100,000 messages: its store, its engine, and the program's start; fails where a wanted value is missed.
bench-client: env
	$(BIN)/python -m bench.client_store
	$(BIN)/python -m bench.client_engine
	$(BIN)/python -m bench.client_start
	$(BIN)/python -m bench.client_switch
	$(BIN)/python -m bench.asleep

# The README's pictures, drawn from a ward that stands still.
pictures: env
	$(BIN)/python -m tests.client_cli.pictures

# A large attachment through three breaks each way: a device's memory; fails where it grows by 64 MiB.
bench-transfer: env
	$(BIN)/python -m bench.transfer

# From a wipe order to its device's last frame, 5,000 others being connected; fails above two seconds. And to new epochs
# in 200 conversations; fails above ten.
bench-wipe: env
	$(BIN)/python -m bench.wipe
	$(BIN)/python -m bench.wipe epochs

$(PEERS): bench/peers.lock $(STAMP)
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers.lock
	touch $@

$(FUZZER): tests/fuzzing/requirements.lock $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzzing/requirements.lock
	touch $@

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One night on a ward, with real processes; ends with a table that is measured in this run, and fails where a claim is
# not so. DIALOGUES=file.csv for other words; KEEP=1 leaves everything running and says how to look in.
demo: env
	@$(BIN)/python -m demo $(if $(DIALOGUES),--dialogues $(DIALOGUES)) $(if $(KEEP),--keep)

# Hours of a hospital's traffic with real processes while things break: HOURS=1, SEED=n for one again. Each host is a
# network namespace, in a sandbox that vanishes: root, or a kernel that gives users namespaces; iproute2. Ends with a
# line in docs/evidence.jsonl.
soak: env
	$(BIN)/python -m soak --hours $(HOURS) $(if $(SEED),--seed $(SEED))

# Relay, archive and devices in one process on a clock of their own, by seed: SEEDS=2000 from FIRST=1. The same seed is
# the same run. Then RESTORES=500 in which disks are lost and copies restored, in whatever order. Each ends with a line in
# docs/evidence.jsonl. Then 10,000 random schedules, as below.
sim: env
	$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS)
	$(BIN)/python -m tests.simulation --restores --first $(FIRST) --seeds $(RESTORES)
	$(MAKE) sim-oncall
	$(MAKE) sim-archive

# Random schedules, 25 a seed, against an oracle that reads the clock every minute: who is shown, exported and paged.
# PLANS="0 399", the seeds, are 10,000 in 25 minutes; ends with a line in docs/evidence.jsonl.
sim-oncall: env
	$(BIN)/python -m bench.sim_oncall $(PLANS)

# Conversations with their archive over a relay that lies to each reader: WALKS=10000 from FIRST=1.
sim-archive: env
	$(BIN)/python -m tests.archive.walk $(FIRST) $(WALKS)

# Wheel and source distribution, into dist/.
packages: env
	$(BIN)/python -m build --no-isolation --outdir dist .

# Everything that an installation without network needs, in dist/wardline-bundle.tar.gz: carry it in, unpack it,
# `sh install.sh`. Made for machines of this kind (processor, Python); ADVISORIES=all.zip checks osv.dev's.
bundle: env audit
	rm -rf $(BUNDLE)
	mkdir -p $(BUNDLE)/wheels
	$(BIN)/pip download --quiet --require-hashes --only-binary :all: -r $(RUNNING) -d $(BUNDLE)/wheels
	$(BIN)/python -m build --no-isolation --wheel --outdir $(BUNDLE)/wheels . >/dev/null
	cp -R $(RUNNING) packaging/install.sh packaging/systemd README.md docs $(BUNDLE)/
	$(BIN)/python -m release.sbom >$(BUNDLE)/sbom.json
	cd $(BUNDLE) && sha256sum wheels/wardline-*.whl >wardline.sha256
	tar -C dist -czf dist/wardline-bundle.tar.gz bundle

# What the programs run with, CycloneDX.
sbom: env
	@$(BIN)/python -m release.sbom

# The lock files held against pyproject.toml, and with ADVISORIES=all.zip (osv.dev's, for PyPI) against those.
audit: env
	$(BIN)/python -m release.audit $(ADVISORIES)

# Written anew when a dependency changes; uv is needed here only, and never installs anything.
lock:
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	$(LOCK) --group dev --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --output-file $(RUNNING) pyproject.toml
	$(LOCK) --output-file bench/peers.lock bench/peers.in
	$(LOCK) --output-file tests/fuzzing/requirements.lock tests/fuzzing/requirements.in

clean:
	rm -rf $(VENV) $(INTEROP)/node_modules build dist *.egg-info \
	    .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
