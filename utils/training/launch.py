"""Before a run: from the command line to a config, and all that can be wrong with it, reported together."""

from pathlib import Path

from utils.checkpoints import latest_checkpoint, load_checkpoint
from utils.config.errors import ConfigError
from utils.config.schema import load_config
from utils.device import pick_device


def run_config(config, overrides, resume=None, restarted=False):
    """The Config of a run, and whether it is resumed. resume: the run folder that --resume names. restarted:
    torchrun started this process again, so that the run is resumed where it has a checkpoint."""
    if resume is None:
        cfg = load_config(config, overrides)
        if not (restarted and latest_checkpoint(Path(cfg.Training.run_dir) / "checkpoints")):
            return cfg, False
        resume = cfg.Training.run_dir
    path = Path(resume) / "config.yaml"
    if not path.is_file():
        raise ValueError(f"--resume: {resume} is no run folder, it holds no config.yaml")
    return load_config(path, [*overrides, f"Training.run_dir={resume}"]), True


def check_run(cfg, n_processes=1, resume=False, init_from=None, midi_dir=None):
    """Raises ConfigError with all that speaks against this run, as far as is known before data is read."""
    training, problems = cfg.Training, []

    def attempt(prefix, work, *arguments):
        try:
            work(*arguments)
        except ValueError as error:
            problems.append(f"{prefix}{error}")

    last = latest_checkpoint(Path(training.run_dir) / "checkpoints")
    if resume and last is None:
        problems.append(
            f"--resume: {training.run_dir} holds no checkpoint to go on from; start it without --resume"
        )
    if last is not None and not resume:
        problems.append(
            f"Training.run_dir: {training.run_dir} holds a run already; --resume goes on with it, "
            "--set Training.run_dir=... starts another"
        )
    pieces = n_processes * training.accumulation_steps
    if cfg.Data.batch_size % pieces:
        problems.append(
            f"Data.batch_size: {cfg.Data.batch_size}; it must be a multiple of {pieces}, as it is cut among "
            f"{n_processes} processes x Training.accumulation_steps {training.accumulation_steps}"
        )
    if init_from is not None and resume:
        problems.append("--init-from: a run that is resumed has its own weights; leave one of the two out")
    elif init_from is not None:
        attempt("--init-from: ", load_checkpoint, init_from)
    for teacher in training.teachers:
        attempt("Training.teachers: ", load_checkpoint, teacher)
    if midi_dir is not None and not Path(midi_dir).exists():
        problems.append(f"--midi-dir: {midi_dir} does not exist")
    attempt("Training.", pick_device, training.device)
    if problems:
        raise ConfigError("this run", problems)


def check_corpus(cfg, cache):
    """Raises ValueError where the config was made for another corpus: batches would differ."""
    wanted = cfg.Data.normalize_factor
    if wanted not in (None, cache.normalize_factor):
        raise ValueError(
            f"Data.normalize_factor: the config has {wanted}, the corpus {cache.normalize_factor}: it is "
            "another corpus, or it has changed; --set Data.normalize_factor=null takes the corpus as it is"
        )
