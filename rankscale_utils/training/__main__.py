"""One run as a command: `python -m rankscale_utils.training STUDY RUN`, also under torchrun."""

import sys

from .run import main

sys.exit(main(*sys.argv[1:]))
