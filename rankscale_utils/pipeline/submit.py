"""A stand-in for `sbatch` while a study's jobs are submitted, so that no job is started twice.

Where a job of the same study and stage waits or runs already, from an earlier start, it takes on the new start's name
and its number is printed. Otherwise sbatch is called, again while Slurm cannot answer or takes no more jobs; a refusal
becomes a sentence.
Only what starts quickly is imported.
"""

import os
import re
import subprocess
import sys
import time

PLAIN = "RANKSCALE_PLAIN_"  # what a variable is in a job, where that is something else
ALIVE = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING,REQUEUED,REQUEUE_HOLD,RESIZING,SIGNALING"
ENDING, TRIES = 2.0, 150  # seconds between two looks at a job that ends, and how often it is looked at
# What passes by itself: an overloaded or restarting controller, and limits on how many jobs may wait.
PASSING = re.compile(
    r"timed out|Unable to contact|Connection refused|Zero Bytes|temporar|Resource temporarily|MaxSubmit|"
    r"Slurm controller not responding|communication connection failure",
    re.IGNORECASE,
)
WAITS = (5, 10, 20, 40, 60, 60, 60, 120, 120, 120)  # seconds between the tries


def option(arguments: list[str], name: str) -> str:
    """Return the value of an option that stands as two arguments or as one with `=`."""
    for place, argument in enumerate(arguments):
        if argument == name:
            return arguments[place + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return ""


def alive(prefix: str, comment: str) -> str:
    """Return the number of the study's job of that comment that waits or runs, or nothing.

    One that is just ending is waited for: it may be on its way back to the queue.

    Raises:
        CalledProcessError: Slurm does not answer.
    """
    command = ["squeue", "--me", "--noheader", f"--states={ALIVE}", "--format=%i|%T|%j|%k"]
    for _ in range(TRIES):
        listed = _ran(command)
        listed.check_returncode()
        jobs = [line.split("|", 3) for line in listed.stdout.splitlines()]
        own = {state: number for number, state, name, said in jobs if name.startswith(prefix) and said == comment}
        ending = own.pop("COMPLETING", "")
        if own or not ending:
            break
        time.sleep(ENDING)
    return next(iter(own.values()), "")


def stage(comment: str) -> str:
    """Return a stage as people see it, from the comment that the plugin gives its job."""
    rule, _, run = comment.removeprefix("rule_").partition("_wildcards_")
    return f"{rule} {run}".strip()


def submit(arguments: list[str], script: str = "") -> int:
    """Adopt the job or submit it, with a script where its arguments have none; return the exit status."""
    prefix, comment = os.environ["RANKSCALE_JOBS"], option(arguments, "--comment")
    progress = os.path.join(os.environ["RANKSCALE_JOBS_PROGRESS"], f"{stage(comment).replace(' ', '.')}.log")
    os.makedirs(os.path.dirname(progress), exist_ok=True)
    plain = _plain() | {"RANKSCALE_PROGRESS": progress}
    for wait in (*WAITS, 0):
        try:
            if number := alive(prefix, comment):
                _ran(["scontrol", "update", f"JobId={number}", f"JobName={option(arguments, '--job-name')}"])
                print(number)
                return 0
            tried = _ran([os.environ["RANKSCALE_SBATCH"], *arguments], plain, script)
            tried.check_returncode()
        except subprocess.CalledProcessError as error:
            refused = error
        else:
            sys.stdout.write(tried.stdout)
            return 0
        if not PASSING.search(refused.stderr):
            break
        time.sleep(wait)
    sys.stderr.write(refused.stderr)
    told = [line.split("error: ", 1)[-1] for line in refused.stderr.splitlines() if line.strip()]
    with open(os.environ["RANKSCALE_FAILURES"], "a", encoding="utf-8") as failures:
        study = os.path.basename(os.path.dirname(failures.name))
        failures.write(f"{study}: {stage(comment)} was refused by sbatch: {'; '.join(told) or 'it said nothing'}\n")
    return refused.returncode


def _plain() -> dict[str, str]:
    """Return the environment without what runs on this machine alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PLAIN)}
    kept |= {name.removeprefix(PLAIN): value for name, value in os.environ.items() if name.startswith(PLAIN)}
    return {name: value for name, value in kept.items() if value}


def _ran(command: list[str], environment: dict[str, str] | None = None, given: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(submit(sys.argv[1:], sys.stdin.read()))
