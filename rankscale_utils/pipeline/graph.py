"""What `python -m snakemake` is to a study, but for which results it takes for those of the settings as they are.

Snakemake puts the old results of a job that failed back and notes that they were made by its new settings. And of a job
that another one to be done leads to it asks nothing further, though a result that is `ancient` makes it do nothing.
"""

import sys
from collections.abc import Iterator
from typing import Any

from snakemake.cli import main
from snakemake.dag import DAG
from snakemake.jobs import Job

finish, follow = Job.postprocess, DAG.bfs


async def postprocess(job: Job, *arguments: Any, error: bool = False, **options: Any) -> None:
    """End a job as Snakemake does; mark what stands after one that failed as not whole, so that it is made again."""
    await finish(job, *arguments, error=error, **options)
    if error:
        job.dag.workflow.persistence.started(job)


def bfs(dag: DAG, direction: dict, *jobs: Job, **options: Any) -> Iterator[Job]:
    """Follow jobs as Snakemake does, but to none that depend on them: these are asked what they lack themselves."""
    return iter(()) if direction is dag.depending else follow(dag, direction, *jobs, **options)


Job.postprocess, DAG.bfs = postprocess, bfs

if __name__ == "__main__":
    main(sys.argv[1:])
