"""A real Slurm of one machine, from Debian's packages, with pretend GPUs; it listens and writes nowhere but privately.

By hand: `python -m tests.cluster.slurm [accounting] COMMAND …` runs a command with such a cluster.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
OF_ACCOUNTING = ("slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server")
REPOSITORY = Path(__file__).resolve().parents[2]
NODES = ("node1", "node2")
SAVED = 6.0  # seconds after which the controller has saved that a job runs
CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket,cred_expire=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool.%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
SlurmdTimeout=10
MinJobAge=86400
MaxArraySize=1000
OverTimeLimit=0
NodeName=DEFAULT CPUs=1 RealMemory={memory} Gres=gpu:1 State=UNKNOWN
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={home}/munge.socket
"""
SLURMDBD = """
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=root
LogFile={home}/slurmdbd.log
PidFile={home}/slurmdbd.pid
"""
PARTITIONS = """
PartitionName=low Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=15
PartitionName=high Nodes=node[1-2] MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing(accounting: bool = False) -> str:
    """Say why a cluster cannot be started here, or nothing where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "starting Slurm's daemons takes root on Linux"
    wanted = ["slurmctld", "slurmd", "sbatch", "munged", *(["slurmdbd", "mariadbd"] if accounting else [])]
    if lacking := [name for name in wanted if not shutil.which(name)]:
        packages = PACKAGES + OF_ACCOUNTING if accounting else PACKAGES
        return f"no {', '.join(lacking)}: apt-get install --no-install-recommends {' '.join(packages)}"
    if not find_spec("snakemake_executor_plugin_slurm"):
        return "no snakemake-executor-plugin-slurm in this environment"
    return ""


@contextmanager
def running(accounting: bool = False) -> Iterator[dict[str, str]]:
    """Run a cluster while the block runs; yield the variables by which Slurm's commands find it."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, ExitStack() as daemons:
        home = Path(folder)
        home.chmod(0o755)
        daemons.callback(_kill, home, {})  # what a killed job left, which a node with control groups ends by itself
        environment = _environment(home, _configured(home))
        munge = [f"--{name}={home}/munge.{end}" for name, end in
                 {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}.items()]  # fmt: skip
        daemons.enter_context(_daemon(["munged", "-F", "--force", f"--key-file={home}/munge.key", *munge]))
        _until(lambda: (home / "munge.socket").exists(), "munged")
        if accounting:
            _account(home, environment, daemons)
        daemons.enter_context(_daemon(["slurmctld", "-D"], environment))
        for node in NODES:
            daemons.enter_context(_daemon(["slurmd", "-D", "-N", node], environment | _of(node)))
        daemons.callback(_end_jobs, environment)
        idle = ["sinfo", "--noheader", "--Node", "--partition=low", "--states=idle"]
        _until(lambda: len(_said(idle, environment).splitlines()) == len(NODES), "slurmd")
        yield environment


def _account(home: Path, environment: dict[str, str], daemons: ExitStack) -> None:
    """Run a database and slurmdbd, and let the controller write there."""
    port, database, folder = _free_port(), _free_port(), f"--datadir={home}/database"
    made = ["mariadb-install-db", "--no-defaults", folder, "--auth-root-authentication-method=normal", "--user=root"]
    subprocess.run(made, check=True, capture_output=True)
    only_here = ["--bind-address=127.0.0.1", f"--port={database}", f"--socket={home}/database.socket"]
    daemons.enter_context(_daemon(["mariadbd", "--no-defaults", folder, "--user=root", *only_here]))
    (home / "slurmdbd.conf").write_text(SLURMDBD.format(home=home, port=port, database=database))
    (home / "slurmdbd.conf").chmod(0o600)
    _until(lambda: _listens(database), "mariadbd")
    daemons.enter_context(_daemon(["slurmdbd", "-D"], environment))
    with open(home / "slurm.conf", "a", encoding="utf-8") as conf:
        conf.write(ACCOUNTING.format(home=home, port=port))
    _until(lambda: "Adding" in _said(["sacctmgr", "--immediate", "add", "cluster", "lab"], environment), "slurmdbd")


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return not tried.connect_ex(("127.0.0.1", port))


def _configured(home: Path) -> Path:
    """Write what the daemons read into a folder; return slurm.conf."""
    (home / "munge.key").write_bytes(secrets.token_bytes(128))
    (home / "munge.key").chmod(0o600)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (home / name).mkdir()
    devices = {node: home / f"gpu.{node}" for node in NODES}
    for device in devices.values():
        os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))  # Slurm wants character devices
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 8 // 10 >> 20
    conf = CONF.format(home=home, host=socket.gethostname(), memory=memory, controller=_free_port())
    here = f"NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1"
    nodes = (f"NodeName={node} {here} Port={_free_port()}\n" for node in NODES)
    (home / "slurm.conf").write_text(conf + "".join(nodes) + PARTITIONS)
    devices = (f"NodeName={node} Name=gpu File={device}\n" for node, device in devices.items())
    (home / "gres.conf").write_text("".join(devices))
    return home / "slurm.conf"


def _environment(home: Path, conf: Path) -> dict[str, str]:
    """Return the variables by which Slurm's commands find it, also where Snakemake has taken Slurm's own away."""
    for tool in ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo", "sacct"):
        command = home / "bin" / tool
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {shutil.which(tool)} "$@"\n')
        command.chmod(0o755)
    return {"SLURM_CONF": str(conf), "PATH": f"{home}/bin{os.pathsep}{os.environ['PATH']}"}


def _free_port() -> int:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        return port.getsockname()[1]


@contextmanager
def _daemon(command: list[str], environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | (environment or {}), start_new_session=True, **streams)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _of(node: str) -> dict[str, str]:
    """Return the variable that tells a node's processes from another's; Slurm's own, which its jobs have too."""
    return {"SLURMD_NODENAME": node}


def saved(environment: dict[str, str]) -> None:
    """Wait until the controller has saved what it last started, which it does within five seconds.

    One that is killed before starts it a second time, which the node refuses, and holds the job.
    """
    started = ["squeue", "--noheader", "--states=RUNNING", "--format=%S"]

    def newest() -> float:
        times = (datetime.fromisoformat(line).timestamp() for line in _said(started, environment).split())
        return max(times, default=0.0)

    _until(lambda: time.time() > newest() + SAVED, "a while without a new job")


@contextmanager
def without_controller(environment: dict[str, str]) -> Iterator[None]:
    """Kill the controller, and start it again when the block is over."""
    os.kill(int((_home(environment) / "slurmctld.pid").read_text()), signal.SIGKILL)
    yield
    subprocess.run(["slurmctld"], env=os.environ | environment, check=True, capture_output=True)


@contextmanager
def without_node(environment: dict[str, str], node: str) -> Iterator[None]:
    """Kill whatever runs on a node, Slurm's own first, and start it again when the block is over."""
    _kill(_home(environment), _of(node))
    yield
    subprocess.run(["slurmd", "-N", node], env=os.environ | environment | _of(node), check=True, capture_output=True)


def _home(environment: dict[str, str]) -> Path:
    return Path(environment["SLURM_CONF"]).parent


def _kill(home: Path, variables: dict[str, str]) -> None:
    """Kill a cluster's processes that have these variables, the oldest first."""
    wanted = {f"SLURM_CONF={home}/slurm.conf", *(f"{name}={value}" for name, value in variables.items())}
    for process in sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with suppress(OSError):  # it may have ended meanwhile
            environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            if wanted <= set(map(os.fsdecode, environment)):
                os.kill(process, signal.SIGKILL)


def _end_jobs(environment: dict[str, str]) -> None:
    """Cancel what still runs, so that no job outlives its cluster."""
    _said(["scancel", "--full", "--signal=KILL", "--state=RUNNING", "--partition=low,high"], environment)
    _said(["scancel", "--partition=low,high"], environment)
    with suppress(AssertionError):
        _until(lambda: not _said(["squeue", "--noheader"], environment), "the end of all jobs")


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False).stdout


def _until(true, what: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"{what} has not come within {seconds:.0f} s"
        time.sleep(0.1)


@contextmanager
def guarded(accounting: bool = False) -> Iterator[dict[str, str]]:
    """Run a cluster in a process of its own, which ends it when this one ends, however that is."""
    command = [sys.executable, "-m", "tests.cluster.slurm", *(["accounting"] if accounting else [])]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, **streams) as guard:
        yield json.loads(guard.stdout.readline())
        guard.stdin.close()


def _guard(accounting: bool) -> None:
    """Say where a cluster is, and run it until nobody listens any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with running(accounting) as environment:
        print(json.dumps(environment), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    wanted = sys.argv[1:2] == ["accounting"]
    if reason := missing(wanted):
        sys.exit(reason)
    if not (command := sys.argv[1 + wanted :]):
        sys.exit(_guard(wanted))
    with running(wanted) as found:
        sys.exit(subprocess.call(command, env=os.environ | found))
