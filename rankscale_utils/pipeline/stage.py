"""One stage of a study: `python -m rankscale_utils.pipeline.stage [OPTION …] -- STUDY STAGE LOG COMMAND …`.

Runs the command on free GPUs, its output going to the log. Says where people watch that the stage is done, or leaves
one sentence with the reason where `pipeline.batch` looks for it.

In a job of Slurm, what says that its end is near (see `machine.warning`) reaches the command too. Where the command has
then kept what it needs and ended, the job is sent back to the queue, and the same command goes on there.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

from rankscale_utils.machine.device import leased
from rankscale_utils.machine.files import unwritable
from rankscale_utils.machine.progress import say
from rankscale_utils.machine.warning import warned
from rankscale_utils.study import paths

from .written import forget, note

TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
REASON = re.compile(r"^(rankscale: |[\w.]*(Error|Exception|Interrupt|Full|Broken|Died|Diverged|StopIteration)\b)")
NEVER_REASONS = re.compile(
    r"^(papermill\.|subprocess\.|nbclient\.(?!exceptions\.DeadKernelError: its)|[\w.]*PapermillExecutionError"
    r"|RuleException|WorkflowError:?$|RuntimeError: Kernel died|Error occurred while starting)"
)
SENTENCE = re.compile(r"^(rankscale: |rankscale_utils\.errors\.\w+: |nbclient\.exceptions\.DeadKernelError: )")
DEAD_KERNEL = 138  # papermill's status where its kernel has gone, which no signal ended
SECONDS_TO_END = 300.0  # in which Slurm ends a job that goes back to the queue
OWN_GROUP = Path("/proc/self/cgroup")
MEMORY_EVENTS = "/sys/fs/cgroup{group}/memory.events"
MORE_OF_A_JOB = "raise memory_factor in cluster.yaml"


def reason(log: str) -> str:
    """Return the line of a log that says best why its command failed: the last exception's, or else the last line."""
    lines = [line.strip() for line in TERMINAL_COLOURS.sub("", log).splitlines() if line.strip(" \t-~^=+|")]
    lines = [f"{line} {after}" if line.endswith(":") else line for line, after in pairwise([*lines, ""])]
    told = [line for line in lines if REASON.match(line) and not NEVER_REASONS.match(line)]
    return SENTENCE.sub("", (told or lines or ["it said nothing"])[-1]).removesuffix(".")


def ended_by(status: int) -> str | None:
    """Return the signal that ended a command, in words, from its exit status as Python or a shell has it."""
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number not in set(signal.Signals):
        return None
    name = signal.Signals(number).name
    why = f", most likely for want of memory{': ' + MORE_OF_A_JOB if 'SLURM_JOB_ID' in os.environ else ''}"
    return f"it was killed ({name}{why if number == signal.SIGKILL else ''})"


def failure(log: Path, status: int, kills_before: int) -> str:
    """Return one sentence that says why a command ended with this status."""
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if lost := unwritable(log.parent):  # which cuts the log, so that it tells nothing
        return lost
    if kills_before < out_of_memory_kills():
        more = MORE_OF_A_JOB if "SLURM_JOB_ID" in os.environ else "give it more, or lower training.micro_batch"
        why = f"memory ran out and the system killed it: {more}"
    elif status != DEAD_KERNEL and (by := ended_by(status)) is not None:
        why = by
    else:
        why = reason(said)
    return f"{why} (the log is {log})"


def _runs(job: str) -> bool:
    """Say whether Slurm lets a job of it run, which it does until the grace of a preemption is over."""
    asked = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "RUNNING"


def out_of_memory_kills() -> int:
    """Return how many processes of this control group were killed for want of memory; 0 where it is untold."""
    try:
        [group] = re.findall(r"^0::(/.*?)/?$", OWN_GROUP.read_text(encoding="utf-8"), re.MULTILINE)
        told = Path(MEMORY_EVENTS.format(group=group)).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return 0
    return sum(int(count) for count in re.findall(r"^oom_kill (\d+)$", told, re.MULTILINE))


def main(arguments: list[str]) -> int:
    """Run a stage's command and return its exit status."""
    parser = argparse.ArgumentParser(prog="rankscale_utils.pipeline.stage")
    parser.add_argument("study", help="its name")
    parser.add_argument("stage", help="its name, as people see it")
    parser.add_argument("log", type=Path)
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that the command needs")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="files that the command leaves")
    parser.add_argument("--beside", nargs="*", default=[], help="patterns of further ones, beside the first of them")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    kills = out_of_memory_kills()
    study = paths.study_folder(given.study)
    forget(study, given.stage)
    for file in (given.log, *given.results):
        file.parent.mkdir(parents=True, exist_ok=True)
    stage, job = f"{given.study}: {given.stage.strip()}", os.environ.get("SLURM_JOB_ID", "")
    with ExitStack() as meanwhile:
        came = meanwhile.enter_context(warned()) if job else set
        log = meanwhile.enter_context(open(given.log, "wb"))
        environment, held = meanwhile.enter_context(leased(given.gpus))
        streams = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        status = subprocess.call(given.command, env=environment, pass_fds=held, **streams)
        if status and came():
            if _runs(job):  # which a job does not that was cancelled or whose time is over
                say(f"{stage} goes back to the queue, as the end of its job is near")
                subprocess.run(["scontrol", "requeue", job], check=False)
            time.sleep(SECONDS_TO_END)
    if status == 0:
        note(study, given.stage, given.results, given.beside)
        say(f"{stage} done")
        return 0
    if came():  # of Slurm, which knows why
        return status if status > 0 else 128 - status
    sentence = f"{stage} failed: {failure(given.log, status, kills)}"
    with (
        suppress(OSError),
        open(paths.failures_file(study), "a", encoding="utf-8") as failures,
    ):  # no room is told later
        failures.write(f"{sentence}\n")
    print(sentence, file=sys.stderr)
    return status if status > 0 else 128 - status  # as a shell has it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
