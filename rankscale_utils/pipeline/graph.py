"""What `python -m snakemake` is to a study, but that what stands after a job that failed is not taken for its result.

Snakemake puts the old results of such a job back and notes that they were made by its new settings.
"""

import sys
from typing import Any

from snakemake.cli import main
from snakemake.jobs import Job

finish = Job.postprocess


async def postprocess(job: Job, *arguments: Any, error: bool = False, **options: Any) -> None:
    """End a job as Snakemake does; mark what stands after one that failed as not whole, so that it is made again."""
    await finish(job, *arguments, error=error, **options)
    if error:
        job.dag.workflow.persistence.started(job)


Job.postprocess = postprocess

if __name__ == "__main__":
    main(sys.argv[1:])
