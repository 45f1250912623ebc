"""What `pipeline.graph` is to a study's jobs on Slurm, with the plugin's executor but for what they run and how
Slurm is asked.

A job runs its rule's own command: the plugin would start Snakemake twice for it, a third of a short job's time.

Jobs are asked about as soon as a stage has left its mark: the plugin asks ever more seldom while none ends, and would
see minutes later that a job of a minute is over. A Slurm that does not answer is asked until it does: the plugin would
forget the jobs that it asked about, and wait for ever. So it would for a job that Slurm has forgotten, or does not
queue again. One that waits for more than its turn, as one that is held does, is told of. Account and partition are
sbatch's to accept or refuse: the plugin asks an accounting that many clusters lack, and, of the default partition, a
controller that may be away.
"""

import asyncio
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import snakemake_executor_plugin_slurm as plugin
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake_executor_plugin_slurm.job_status_query import query_job_status_sacct, query_job_status_squeue
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from rankscale_utils.machine.progress import say

from .submit import stage

SOON = 2.0  # seconds that a job is given to end, once its stage has
LOOKS = 0.5  # seconds between two looks at the marks, and two questions that are not answered
LONGEST = 180.0  # seconds between two questions while no job ends; Slurm remembers jobs for 300 unless it is told less
SLOWER = 0.25  # of the seconds in which none has ended
OVER = {"BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"}
PASSING = {"NODE_FAIL", "PREEMPTED", "FORGOTTEN"}  # Slurm queues a job again, or does not know it yet
PASSES = 120.0  # seconds after which it does not
ITS_TURN = {"None", "Priority", "Resources", "BeginTime", "Cleaning", "Prolog"}  # what any job in a queue waits for
ADMINS = "JobHeldAdmin"  # who alone let it go on
UNTIL_THERE = 'for file; do until [ -e "$file" ]; do sleep 0.5; done; done'


class Executor(plugin.Executor):
    """Slurm's executor, whose jobs run and are asked about in its own way."""

    mark = ended = 0.0  # when a stage last left a mark; when a job, or a stage by that, was last seen to have ended
    asked: tuple[SubmittedJobInfo, ...] = ()  # about whom Slurm is being asked
    explained: frozenset[tuple[str, str]] = frozenset()  # which jobs wait for more than their turn, and for what

    def format_job_exec(self, job: JobExecutorInterface) -> str:
        """Return the rule's command as a step of its job, which waits for inputs that other nodes have just written.

        As Snakemake in the job would, old results are set aside, to be put back where it fails, and the marks that
        results are not whole are taken away at its end, which the command that submitted it may not see. Of what they
        are made is noted beforehand, as a later command makes them again where that has changed.
        """
        kept = self.workflow.persistence
        kept.started(job)
        made = {"rule": job.rule.name, "code": kept._code(job.rule), "params": kept._params(job)}
        made |= {"input": kept._input(job), "software_stack_hash": kept._software_stack_hash(job)}
        for result in job.output:
            kept._write_record(result, MetadataRecord(**made, record_format_version=RECORD_FORMAT_VERSION))
        for result in map(Path, job.output):
            if result.exists():
                kept.backup_output(result)
        marks = shlex.join(kept._record_path(kept._incomplete_path, result) for result in job.output)
        patience = self.workflow.execution_settings.latency_wait
        waits = f"timeout {patience} sh -c {shlex.quote(UNTIL_THERE)} - {shlex.join(job.input)} || true"
        step = f"srun --nodes=1 --ntasks=1 --cpus-per-task={job.resources.cpus_per_task} --cpu-bind=quiet"
        return f"{waits}\n{step} bash -c {shlex.quote(f'set -euo pipefail; {job.shellcmd}')} && rm -f {marks}"

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs that have ended, and yield those that have not."""
        self.asked = tuple(active_jobs)
        states = await self._states() if active_jobs else {}
        for job in active_jobs:
            state = states.get(job.external_jobid, "FORGOTTEN")
            if state == "COMPLETED":
                job.aux["slurm_logfile"].unlink(missing_ok=True)  # what the stage says stands elsewhere
                self.report_job_success(job)
            elif state in OVER or not self._passes(job, state):
                said = f"SLURM-job '{job.external_jobid}' failed: '{state}'. "
                self.report_job_error(job, msg=said)
            else:
                yield job
                continue
            self.ended = time.monotonic()
        if "PENDING" in states.values():
            await self._tell_what_waits()
        self.asked = ()

    def _passes(self, job: SubmittedJobInfo, state: str) -> bool:
        """Say whether a job that has not ended well may do so yet."""
        since = job.aux.pop("since", time.monotonic())
        if state in PASSING:
            job.aux["since"] = since
        return time.monotonic() - since < PASSES

    async def _states(self) -> dict[str, str]:
        """Return the state of every job, by its number, once Slurm answers."""
        query = query_job_status_sacct if self.get_status_command() == "sacct" else query_job_status_squeue
        while self.wait:
            async with self.status_rate_limiter:
                told = await _answer(shlex.split(query(self.run_uuid)))
            if told is not None:
                return {number: state.split()[0] for number, state, *_ in told}  # “CANCELLED by 1000”
            await asyncio.sleep(LOOKS)
        return {}

    async def _tell_what_waits(self) -> None:
        """Say once of a job that waits for more than its turn what it waits for, and how one that is held goes on."""
        asked = ["squeue", "--noheader", "--states=PENDING", f"--name={self.run_uuid}", "--format=%i|%r|%k"]
        jobs = defaultdict(list)
        for number, reason, comment in await _answer(asked) or []:
            if reason not in ITS_TURN and (number, reason) not in self.explained:
                self.explained |= {(number, reason)}
                jobs[reason].append((number, stage(comment)))
        study = Path(os.environ["RANKSCALE_FAILURES"]).parent.name
        for reason, [(number, first), *others] in jobs.items():
            wait = f"{first} and {len(others)} more wait" if others else f"{first} waits"
            numbers = ",".join([number, *(number for number, _ in others)])
            held = "held" in reason.lower() and reason != ADMINS
            release = f"; `scontrol release {numbers}` lets go on" if held else ""
            say(f"{study}: {wait} in Slurm's queue: {reason}{release}")

    async def sleep(self) -> None:
        """Wait until Slurm is to be asked again: not at all once the graph is over."""
        asked = time.monotonic()
        while self.wait and time.monotonic() - asked < self._seconds(asked):
            await asyncio.sleep(LOOKS)

    def _seconds(self, asked: float) -> float:
        """Return how long after the last question, at that time, the next one is due: soon, where a stage has ended."""
        now = time.monotonic()
        if (mark := _last_mark()) != self.mark:
            self.mark, self.ended = mark, now
        least = self.workflow.executor_settings.init_seconds_before_status_checks
        if self.ended > asked:
            return min(least, self.ended - asked + SOON)
        return min(max(least, SLOWER * (now - self.ended)), LONGEST)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel them, and those about whom Slurm is just being asked."""
        super().cancel_jobs([*active_jobs, *(job for job in self.asked if job not in active_jobs)])

    def get_account_arg(self, job: JobExecutorInterface) -> Iterator[str]:
        """Yield what sbatch is told of the account, which it may refuse itself."""
        yield f" --account={shlex.quote(str(account))}" if (account := job.resources.get("slurm_account")) else ""

    def get_partition_arg(self, job: JobExecutorInterface) -> str:
        """Return what sbatch is told of the partition: nothing where Slurm's own default is meant."""
        partition = job.resources.get("slurm_partition")
        return f" --partition={shlex.quote(str(partition))}" if partition else ""


async def _answer(command: list[str]) -> list[list[str]] | None:
    """Return the fields of every line that Slurm answers, or None where it does not."""
    streams = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(*command, **streams)
    said, _ = await process.communicate()
    return None if process.returncode else [line.split("|") for line in said.decode().splitlines() if "|" in line]


def _last_mark() -> float:
    """Return when a stage last noted what it wrote, or why it failed."""
    marks = [0.0]
    for name in ("RANKSCALE_NOTES", "RANKSCALE_FAILURES"):
        with suppress(OSError):  # of a study whose first stage has not ended
            marks.append(Path(os.environ[name]).stat().st_mtime)
    return max(marks)


if __name__ == "__main__":
    plugin.Executor = Executor  # before Snakemake looks for it
    from .graph import main

    main(sys.argv[1:])
