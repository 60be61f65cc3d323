"""The training script in several processes: one loss curve however the batch is cut, and a dead process does
no harm."""

import logging
import os
import signal
import socket
import sys
import time

import pytest
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.elastic.multiprocessing import api
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

import training_script_causal_decoder as script
from tests.helpers.midi_files import beat, midi_bytes, note, small_corpus
from tests.helpers.training_runs import arguments, end_of, fork, lines
from utils.training.distributed import Processes, device_of

pytestmark = pytest.mark.usefixtures("plain_runs")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    files = {}
    for number in range(4):
        busy = beat(bars=5 + number)
        for tick in range(0, (5 + number) * 1920, 240 + 120 * number):
            busy += note(tick, 51 - number, 40 + tick % 50, 60)
        files[f"busy{number}"] = midi_bytes(busy)
    return small_corpus(tmp_path_factory.mktemp("corpus"), **files)


def run_of(folder, corpus, *sets):
    """Arguments of a run without dropout, the one random number that depends on how the batch is cut."""
    folder.mkdir()
    shared = ["Training.learning_rate=2e-3", "Training.plain_steps=6"]
    shared += ["Training.validate_every=10", "Training.checkpoint_every=10"]
    shared += ["Data.validation_batch_size=1"]  # so that each process validates on something
    shared += [
        f"Data.augmentation.{name}=0"
        for name in ("voice_drop", "voice_mix", "bar_shuffle", "rhythm_loudness")
    ]
    return arguments(folder, corpus, *shared, *sets, steps=12, dropout=0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, corpus, plain_runs):
    """One process with batches of eight."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    assert script.main(run_of(folder, corpus)) == 0
    return folder


def assert_same_curves(folder, other):
    ours, theirs = lines(folder), lines(other)
    assert [(line["step"], line["kind"]) for line in ours] == [
        (line["step"], line["kind"]) for line in theirs
    ]
    for a, b in zip(ours, theirs):
        assert a == pytest.approx(b, abs=1e-4), a["step"]


def test_the_curve_falls_and_every_term_of_the_loss_takes_part(alone):
    """So that the comparisons below say something."""
    curve = [line for line in lines(alone) if line["kind"] == "train"]
    onset = [line["onset"] for line in curve]  # of small batches, each of other tasks and with other controls
    assert sum(onset[-4:]) < sum(onset[:4]) - 1
    assert curve[-1]["kl_weight"] > 0 and curve[-1]["kl_per_bar"] > 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_two_machines_of_one_process_each_give_the_same_curve(tmp_path, corpus, alone):
    """Each with a disk of its own; only the first one's holds the run. They are started as torchrun starts
    them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = [tmp_path / "first", tmp_path / "second"]
    started = []
    for rank, folder in enumerate(machines):
        # in the folder that each is started in
        words = run_of(folder, corpus, "Training.run_dir=run", "Data.cache_dir=cache")
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}

        def run(words=words, place=place):
            os.environ.update(place, LOCAL_RANK="0")
            return script.main(words)

        started.append(fork(folder, run))
    for child, folder in zip(started, machines):
        returned, said = end_of(child, folder)
        assert returned == 0, said
    assert "float32 on cpu in 2 processes" in (machines[0] / "said").read_text()
    assert_same_curves(machines[0], alone)
    assert (machines[1] / "cache").exists() and not (machines[1] / "run").exists()


class Counted(script.DistributedDataParallel):
    """Says "shared" whenever all gradients were shared."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        assert not self.will_sync_module_buffers(), "constants"
        self.register_comm_hook(None, self.share)

    @staticmethod
    def share(_, bucket):
        if bucket.is_last() and os.environ["RANK"] == "0":
            print("shared", flush=True)
        return allreduce_hook(None, bucket)


class Dying(script.EMA):
    """The second process dies once, after step 10 was saved."""

    def update(self, model, step):
        super().update(model, step)
        place = [os.environ[name] for name in ("RANK", "TORCHELASTIC_RESTART_COUNT")]
        if step == 11 and place == ["1", "0"]:
            os.kill(os.getpid(), signal.SIGKILL)
        elif step == 11 and place == ["0", "0"]:
            time.sleep(3)  # the launcher sees the death before this process misses the other


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_dead_process_is_reported_and_torchrun_resumes_the_same_curve(tmp_path, corpus, alone, monkeypatch):
    """Two processes that take their share in two pieces each. What torchrun starts them with starts copies of
    this process, which need no seconds to import all."""
    monkeypatch.setattr(script, "DistributedDataParallel", Counted)
    monkeypatch.setattr(script, "EMA", Dying)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    flags = [*place, "--nproc-per-node", "2", "--max-restarts", "1", "a.py"]
    config, *_ = config_from_args(parse_args(flags))
    config.start_method = "fork"
    folder = tmp_path / "pieces"
    words = run_of(folder, corpus, "Training.accumulation_steps=2")

    def launch():
        api.logger.addHandler(logging.StreamHandler(sys.stdout))
        return max(elastic_launch(config, script.main)(words).values())

    returned, said = end_of(fork(tmp_path / "launcher", launch), tmp_path / "launcher")
    assert returned == 0, said
    assert "exitcode: -9" in said and "local_rank: 1" in said
    assert "steps 0 to 12" in said and "steps 10 to 12" in said
    assert 11 + 2 <= said.count("shared") <= 12 + 2, "once a step, not once a piece"
    assert_same_curves(folder, alone)


def test_a_process_on_its_own_gets_back_what_it_gives():
    alone = Processes()
    assert alone.main and alone.any(True) and not alone.any(False)
    assert alone.from_main("what it was") == "what it was" and alone.in_turn(lambda: 3) == 3


def test_restarts_that_would_hang_are_refused(monkeypatch, capsys):
    told = {"LOCAL_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": "2"}
    for name, value in (told | {"TORCHELASTIC_MAX_RESTARTS": "1"}).items():
        monkeypatch.setenv(name, value)
    assert script.main([]) == 2
    assert "it needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in capsys.readouterr().err


def test_processes_do_not_share_a_gpu():
    with pytest.raises(
        ValueError, match="Training.device: 'cuda:1'; with 2 processes it must be auto, cuda or cpu"
    ):
        device_of(Processes(0, 0, 2), "cuda:1")
