"""Papermill's engine `rankscale`: a notebook and its kernel speak through a folder of their own, not through TCP ports.

Jupyter looks for free ports before the kernel opens them; of kernels that start at once, two may be promised the same
one, and the later one dies (https://github.com/nteract/papermill/issues/511).

One port on the loopback interface remains, which ipykernel opens whatever the transport (`IOPubThread._setup_pipe_in`):
there a kernel takes what processes that it forks print. It is bound as it is chosen, so that no two kernels get the
same one, and what does not begin with 16 random bytes, which only these processes know, is thrown away.
"""

import os
import signal
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, NotebookExecutionManager
from traitlets.config import Config

from rankscale_utils.machine.sockets import socket_folder

from .stage import ended_by


class WatchedKernel(AsyncKernelManager):
    """A kernel that leaves word of what ended it: `end`, of the one kernel that this process starts."""

    end = "it has gone"

    async def _async_is_alive(self) -> bool:
        alive = await super()._async_is_alive()
        if not alive and self.has_kernel:
            WatchedKernel.end = ended_by(await self.provisioner.poll()) or self.end
        return alive


class SocketEngine(NBClientEngine):
    """Papermill's own engine, with kernels at Unix sockets."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, **kwargs: Any
    ) -> nbformat.NotebookNode:
        """Execute the notebook and return it; one that ends early loses the cells that were not run."""
        with socket_folder() as folder:
            if "SLURM_JOB_ID" in os.environ:  # whose processes are all told at once: the kernel's answer is waited for
                signal.signal(signal.SIGTERM, lambda *_: None)
            sockets = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
            kwargs |= {"config": sockets, "kernel_manager_class": WatchedKernel}
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            except DeadKernelError as error:
                raise DeadKernelError(f"its kernel died: {WatchedKernel.end}") from error
        for place, cell in enumerate(nb_man.nb.cells):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return _ended(nb_man.nb, place, output)
        return nb_man.nb


def _ended(nb: nbformat.NotebookNode, place: int, error: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Let a notebook whose page ends early do so with the cell at that place, which shows the reason, not an error."""
    from rankscale_utils.report import tables  # here, as they take longer to import than a notebook does to begin
    from rankscale_utils.report.nothing import PageEnds

    if error.ename != PageEnds.__name__:
        return nb
    reason = error.evalue
    del nb.cells[place + 1 :]
    shown = nbformat.v4.new_output(
        "display_data", data={"text/html": tables.finding(reason).data, "text/plain": reason}
    )
    cell = nb.cells[place]
    cell.outputs = [*(output for output in cell.outputs if output.output_type != "error"), shown]
    cell.metadata.papermill["exception"] = nb.metadata.papermill["exception"] = False
    cell.metadata.papermill["status"] = "completed"
    return nb
