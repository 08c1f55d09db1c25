# One screen: `make serve` serves the shipped networks, `make test` passes the tests.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
PRESET ?= cifar10
MODELS = luminanet-cifar10 luminanet-tinystories gpt2-tinystories
BIN = .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What tokenizers needs to fetch from a hub, which a server never does: 40 MB.
UNUSED = huggingface_hub hf-xet fsspec filelock tqdm PyYAML httpx2 httpcore2 truststore

.PHONY: setup check test serve train freeze evaluate load container-check lock clean

setup: .venv/dev.stamp  ## everything for development, into .venv

serve: .venv/serve.stamp  ## set up what serving needs (no torch) and serve on $(HOST):$(PORT)
	$(BIN)/python -m serving --host $(HOST) --port $(PORT)

test: setup  ## set everything up and run the tests
	$(BIN)/python -m pytest

check: setup  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

train: setup  ## PRESET=cifar10, tinystories or gpt2; data from LUMINANET_DATA or the hub
	$(BIN)/python -m training.train --preset $(PRESET)

freeze: setup  ## freeze the shipped checkpoints again; the bytes stay the same
	for model in $(MODELS); do $(BIN)/python export/freeze.py pretrained/$$model/ckpt.pt || exit; done

evaluate: setup  ## accuracy and perplexity of the shipped artifacts, into benchmarks/quality.md
	$(BIN)/python -m benchmarks.evaluate pretrained

load: .venv/load.stamp  ## both models under load on a free port, into benchmarks/load/<date>/
	$(BIN)/python -m benchmarks.load

container-check: setup  ## do the steps of the Dockerfile in a clean folder, and start what they make
	LUMINANET_CONTAINER_CHECK=shipped $(BIN)/python -m pytest -n 0 -s tests/test_container.py

lock:  ## resolve the newest versions anew, into requirements/
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet -e '.[dev]'
	.venv-lock/bin/pip freeze --exclude-editable | sed -e 's/+cpu//' \
		-e '/^tensorrt_rtx/s/$$/; sys_platform == "linux" and platform_machine == "x86_64"/' \
		> requirements/dev.txt
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet -c requirements/dev.txt -e '.[cpu]'
	.venv-lock/bin/pip freeze --exclude-editable $(UNUSED:%=--exclude %) > requirements/serve.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/serve.stamp: requirements/serve.txt pyproject.toml | .venv/bin/python
	$(INSTALL) --no-deps -r requirements/serve.txt
	$(INSTALL) --no-deps -e .
	touch $@

.venv/load.stamp: .venv/serve.stamp requirements/dev.txt
	$(INSTALL) -c requirements/dev.txt -e '.[loadtest]'
	touch $@

.venv/dev.stamp: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(INSTALL) -r requirements/dev.txt
	$(INSTALL) --no-deps -e .
	touch $@ .venv/serve.stamp .venv/load.stamp
