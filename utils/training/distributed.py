"""The processes of a training run: one by itself, or as many as torchrun started, on one or more machines."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from utils.device import pick_device


@dataclass(frozen=True)
class Processes:
    """This process (rank, from 0; local_rank among those on its machine) among all (count) of them.

    Process 0 is the main one: it alone reads and writes the run folder and prints. The methods exchange small
    tensors and values on the CPU; gradients are DistributedDataParallel's business.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    def __str__(self):
        return f" in {self.count} processes" if self.count > 1 else ""

    @property
    def main(self):
        return self.rank == 0

    def sum(self, tensor):
        """The sum over the processes of a tensor on the CPU, on all of them."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag):
        """Whether the flag is set on any of them."""
        return flag if self.count == 1 else self.sum(torch.tensor(int(flag))).item() > 0

    def from_main(self, value):
        """The main process's value, on all of them; what the others pass is ignored."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def in_turn(self, work):
        """work() on every process: first on the main one, then on one of every other machine, then on the
        rest. So what it leaves on a disk is made once on each, whether the machines share the disk or not."""
        turn = 0 if self.main else 1 if self.local_rank == 0 else 2
        for now in range(3):
            if now == turn:
                result = work()
            self.sum(torch.zeros(1))  # waits for the others
        return result


ALONE = Processes()


def join_processes():
    """The Processes that torchrun started, this one among them, connected; by its environment variables.
    ValueError where a restart would hang."""
    if "LOCAL_RANK" not in os.environ:
        return ALONE
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun's own store outlives a restart, and with it the addresses of processes that are dead by
        # now; the number of the attempt tells old from new, but each machine counts for itself
        if int(os.environ["GROUP_WORLD_SIZE"]) > 1 and int(os.environ["TORCHELASTIC_MAX_RESTARTS"]) > 0:
            raise ValueError(
                "--max-restarts: with several machines it needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the "
                "environment of torchrun, or a restart would hang"
            )
        store, rank, count = next(dist.rendezvous("env://"))
        store = dist.PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    else:
        dist.init_process_group(backend)
    return Processes(dist.get_rank(), int(os.environ["LOCAL_RANK"]), dist.get_world_size())


def leave_processes():
    if dist.is_initialized():
        dist.destroy_process_group()


def restarted():
    """Whether torchrun started this process again, after one of its machine had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def device_of(processes, name):
    """The torch.device of Training.device `name`; with several processes each has a GPU of its own."""
    if processes.count == 1:
        return pick_device(name)
    if ":" in name or name == "mps":
        raise ValueError(
            f"Training.device: {name!r}; with {processes.count} processes it must be auto, cuda or cpu: "
            "each takes a GPU of its own"
        )
    if pick_device(name).type != "cuda":  # auto may have found mps
        return torch.device("cpu")
    if processes.local_rank >= torch.cuda.device_count():
        raise ValueError(f"--nproc-per-node: more than the {torch.cuda.device_count()} GPUs of this machine")
    device = torch.device("cuda", processes.local_rank)
    torch.cuda.set_device(device)
    return device
