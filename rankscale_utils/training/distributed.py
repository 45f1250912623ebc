"""The processes that train one run: one alone, or as many as torchrun started, each with its share of every step."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from rankscale_utils.machine.lease import lease


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device's memory ran out."""
    signs = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory", "can't allocate memory")  # of plain RuntimeErrors
    plain = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return plain or isinstance(error, torch.OutOfMemoryError)


class Processes:
    """A process alone: everything is its own."""

    count, index, sharded = 1, 0, False

    def share(self, queries: int) -> slice:
        """Return which of a step's queries this process scores."""
        return slice(self.index * queries // self.count, (self.index + 1) * queries // self.count)

    def together(self, action: Callable[[], Any]) -> Any:
        """Run what every process runs; when memory runs out in one, it counts as run out in all."""
        return action()

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Return the scores of all processes, one after the other."""
        return own

    def own_part(self, gradient: torch.Tensor, _: int) -> torch.Tensor:
        """Return this process's part of the gradient with respect to all scores, as its backward pass needs it."""
        return gradient

    def add_up(self, model: nn.Module) -> None:
        """Let every process have the sum of all gradients."""

    def any(self, own: bool) -> bool:
        """Say whether something holds in any process."""
        return own

    def divide(self, model: nn.Module) -> None:
        """Divide the weights among the processes when they are sharded, before an optimiser knows them."""

    def weights(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the whole model's weights."""
        return {name: _whole(tensor) for name, tensor in model.state_dict().items()}

    def state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict, dict]:
        """Return whole copies of the weights and the optimiser's state, in the CPU's memory."""
        return _copied(model.state_dict()), _copied(optimizer.state_dict())

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: tuple[dict, dict]) -> None:
        """Give model and optimiser a state that `state` returned; the state stays as it is."""
        weights, optimizing = state
        own = model.state_dict()
        model.load_state_dict({name: _divided(tensor, own[name]) for name, tensor in weights.items()})
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments = {
            place: {name: _divided(tensor, parameters[place]) for name, tensor in kept.items()}
            for place, kept in optimizing["state"].items()
        }
        optimizer.load_state_dict(optimizing | {"state": moments})

    def first(self, action: Callable[[], Any]) -> Any:
        """Return what the action returns in the first process, the only one that runs it."""
        return action()


class Torchrun(Processes):
    """One of several processes that torchrun started, over accelerate; with `sharded`, weights are divided (FSDP2).

    Gradients are summed here instead of by DistributedDataParallel, whose backward pass would wait for ever for a
    process whose memory ran out.
    """

    def __init__(self, device: torch.device, sharded: bool) -> None:
        """Join the other processes."""
        from accelerate import Accelerator  # here, since it takes seconds to import

        self.accelerator = Accelerator(cpu=device.type == "cpu")
        self.count, self.index = self.accelerator.num_processes, self.accelerator.process_index
        self.device, self.sharded = self.accelerator.device, sharded

    def together(self, action: Callable[[], Any]) -> Any:
        """Run the action; raise torch.OutOfMemoryError in all processes when memory ran out in one."""
        result, failed = None, False
        try:
            result = action()
        except Exception as error:
            if self.sharded or not out_of_memory(error):  # sharded processes wait for each other within the action
                raise
            failed = True
        if self.any(failed):
            raise torch.OutOfMemoryError("in one of the processes")
        return result

    def any(self, own: bool) -> bool:
        """Say whether something holds in any process; all of them ask."""
        return bool(self.accelerator.reduce(torch.tensor(float(own), device=self.device)).item())

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Return the scores of all processes, whose shares may differ in size."""
        sizes = self.accelerator.gather(torch.tensor([len(own)], device=own.device)).tolist()
        padded = torch.zeros(max(sizes), *own.shape[1:], device=own.device)
        padded[: len(own)] = own
        parts = self.accelerator.gather(padded).view(self.count, *padded.shape)
        self.start = sum(sizes[: self.index])
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def own_part(self, gradient: torch.Tensor, length: int) -> torch.Tensor:
        """Return this process's part; FSDP averages gradients over processes, which its factor undoes."""
        return gradient[self.start : self.start + length] * (self.count if self.sharded else 1)

    def add_up(self, model: nn.Module) -> None:
        """Sum the gradients over the processes, which FSDP has done already."""
        if not self.sharded:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)

    def divide(self, model: nn.Module) -> None:
        """Divide the weights layer by layer, so that no process ever holds more than one layer whole."""
        if self.sharded:
            from torch.distributed.fsdp import fully_shard

            for layer in (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)):
                fully_shard(layer)
            fully_shard(model)

    def first(self, action: Callable[[], Any]) -> Any:
        """Run the action in the first process and send what it returns, or the error it raised, to the others."""
        said: list[Any] = [None, None]
        if self.index == 0:
            try:
                said[0] = action()
            except Exception as error:
                said[1] = error
        torch.distributed.broadcast_object_list(said, device=self.device)
        if said[1] is not None:
            raise said[1]
        return said[0]


def processes(device: torch.device, sharded: bool = False) -> Processes:
    """Return this process, with those that torchrun started beside it."""
    return Torchrun(device, sharded) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()


@contextmanager
def held_by_first(path: Path, together: Processes, timeout: float | None = None) -> Iterator[None]:
    """Let the first of the processes hold a lease while the block runs in all of them.

    Raises:
        Held: somebody else holds it for longer than the timeout.
    """
    with ExitStack() as held:
        together.first(lambda: held.enter_context(lease(path, timeout)))
        yield


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose parts lie in several processes, whole in every one of them."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _divided(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a copy of a whole tensor, or this process's part of it when `like` is divided and of its shape."""
    if not hasattr(like, "full_tensor") or tensor.shape != like.shape:
        return tensor.clone()
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _copied(value: Any) -> Any:
    """Copy tensors, in whatever dictionaries and lists they lie, to the CPU's memory."""
    if isinstance(value, torch.Tensor):
        return _whole(value.detach()).to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
