"""Commands and kernels: what `make` and the notebooks start."""
