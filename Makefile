# make demo: drums from a tapped rhythm, into output/.   make studio: a page to tap, hear and work on.
# make test: the tests.   make lint: format and names.
# All need Python 3.10 or later and install into .venv first; again only when requirements.txt changes.
PYTHON ?= python3
ARGS ?=
VENV := .venv/bin/python
INSTALLED := .venv/installed

# Idle OpenMP threads that spin take the cores away from threads that work.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo studio pictures lint test notebook preprocess train drummer clean

demo: $(INSTALLED)
	$(VENV) inference_bar_control.py --rhythm examples/clave_taps.mid --controls examples/controls.yaml --seed 1 --keep-tracks --wav --out output

# The pictures of the README.
SONG := play('examples/bass_line.mid', song='examples/song.yaml', seed=1)
pictures: demo
	cp output/clave_taps_1.png docs/images/demo.png
	$(VENV) -c "from inference_bar_control import play; $(SONG).plot('docs/images/song.png', overview=True)"

# A page in the browser, served on this machine alone. make studio ARGS="--port 9000 --no-browser"
studio: $(INSTALLED)
	$(VENV) studio.py $(ARGS)

lint: $(INSTALLED)
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .

test: $(INSTALLED)
	$(VENV) -m pytest $(ARGS)

# Runs the notebook and stores what its cells show.
notebook: $(INSTALLED)
	$(VENV) examples/run_notebook.py

# More arguments for these two: make train ARGS="--set Training.steps=500"
preprocess: $(INSTALLED)
	$(VENV) preprocessing.py $(ARGS)

train: $(INSTALLED)
	$(VENV) training_script_causal_decoder.py $(ARGS)

# The shipped checkpoint from the beginning, some hours: two teachers, then the drummer, which learns from both and
# starts from the weights of the second. A run that was stopped is resumed.
FIRST := --set Model.Decoder.condition_params.film=false --set Training.late_onset_weight=1
DRUMMER := --init-from runs/second/drummer.pt --set 'Training.teachers=[runs/first/drummer.pt,runs/second/drummer.pt]' \
	--set Training.steps=1600 --set Training.plain_steps=300 --set Training.warmup_steps=100 --set Training.learning_rate=5e-4 \
	--set Training.VAE_params.start_step=0 --set Training.VAE_params.cycle_steps=800 --set Training.late_onset_weight=1 \
	--set Training.validate_every=200
# $(1): the run's name; $(2): arguments for its first start
run = $(VENV) training_script_causal_decoder.py \
	$(if $(wildcard runs/$(1)/checkpoints/*.pt),--resume runs/$(1),--set Training.run_dir=runs/$(1) $(2)) $(ARGS)

drummer: $(INSTALLED)
	$(call run,first,$(FIRST))
	$(call run,second)
	$(call run,drummer,$(DRUMMER))

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --disable-pip-version-check -r requirements.txt
	@echo "One bar is played, so that numba compiles the decoder's steps for this machine"
	$(VENV) -c "from inference_bar_control import play; play(bars=1)"
	@touch $@

# Corpus, cache and training runs stay: data/ and runs/ are yours to delete.
clean:
	rm -rf .venv .pytest_cache .hypothesis output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
