"""The one loop: losses, learners, resumption, sweeps, annotated pairs."""
