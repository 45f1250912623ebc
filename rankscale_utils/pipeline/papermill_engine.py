"""Papermill's engine `rankscale`: a notebook and its kernel speak through a folder of their own, not through TCP ports.

Jupyter looks for free ports before the kernel opens them; of kernels that start at once, two may be promised the same
one, and the later one dies (https://github.com/nteract/papermill/issues/511).
"""

from typing import Any

import nbformat
from papermill.engines import NBClientEngine, NotebookExecutionManager
from traitlets.config import Config

from rankscale_utils.machine.sockets import socket_folder


class SocketEngine(NBClientEngine):
    """Papermill's own engine, with kernels at Unix sockets."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, **kwargs: Any
    ) -> nbformat.NotebookNode:
        """Execute the notebook and return it."""
        with socket_folder() as folder:
            sockets = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
            return super().execute_managed_notebook(nb_man, kernel_name, config=sockets, **kwargs)
