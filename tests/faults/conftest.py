"""How many random inputs are tried: the same few in CI, others for as long as `make fuzz` is given."""

import os

from hypothesis import HealthCheck, Phase, settings

FUZZ = "RANKSCALE_FUZZ"  # set while `make fuzz` runs
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", derandomize=True, max_examples=60, **COMMON)
settings.register_profile("fuzz", max_examples=200, phases=[Phase.generate], **COMMON)  # to shrink takes minutes
settings.load_profile("fuzz" if os.environ.get(FUZZ) else "ci")
