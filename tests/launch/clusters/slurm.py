"""A real Slurm on one machine, for as long as one command runs: accounting, a controller and several nodes.

As root on Debian or Ubuntu, without systemd, and nothing of it outside of a temporary folder:

    apt-get install --no-install-recommends slurm-wlm slurmdbd munge mariadb-server
    python tests/launch/clusters/slurm.py bash    # any command; SLURM_CONF names the cluster in its environment
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from alignzoo.system.environment import restore_environment

PROGRAMS = ("munged", "mariadb-install-db", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "setpriv")
PATIENCE = 60  #: seconds for what takes a few
HOST = "127.0.0.1"

#: Without accounting nobody can ask what became of a job that is gone, and who waits for it waits for ever.
ACCOUNTING = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost={host}
StoragePort={sql}
StorageUser=root
StoragePass=none
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""

#: KillWait: the seconds between the signal that asks a job to end and the one that ends it.
CLUSTER = """
ClusterName=one
SlurmctldHost={hostname}({host})
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePass={folder}/munge.socket
AccountingStoragePort={dbd}
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
KillWait=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PartitionName=all Nodes=ALL Default=YES State=UP
"""

NODE = "NodeName={name} NodeHostname={hostname} NodeAddr={host} Port={port} CPUs={cpus}\n"


def missing() -> str:
    """Return why no cluster can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "Slurm needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextlib.contextmanager
def slurm(folder: Path, nodes: int = 2, cpus: int = 2) -> Iterator[None]:
    """Run a cluster of ``nodes`` with ``cpus`` each, in ``folder``; inside, Slurm's commands find it by SLURM_CONF.

    Raises:
        TimeoutError: one of its programs does not answer; the logs in ``folder`` say why.
    """
    names = [f"node{number}" for number in range(1, nodes + 1)]
    _configure(folder, names, cpus)
    with restore_environment(SLURM_CONF=str(folder / "slurm.conf")), contextlib.ExitStack() as stack:
        _start_accounting(stack, folder)
        _start(stack, folder, "slurmctld", "-D")
        for name in names:
            _start(stack, folder, "slurmd", "-D", "-N", name)
        stack.callback(_end_jobs)  # before the programs end: a node leaves its jobs running
        _wait("the nodes", lambda: said("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * nodes)
        yield


def said(*command: str) -> str:
    """Return what a command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout


def _configure(folder: Path, names: list[str], cpus: int) -> None:
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    sql, dbd, ctld, *ports = _free_ports(3 + len(names))
    known = {"folder": folder, "hostname": socket.gethostname().partition(".")[0], "host": HOST}
    known |= {"sql": sql, "dbd": dbd, "ctld": ctld, "cpus": cpus}
    nodes = [NODE.format(name=name, port=port, **known) for name, port in zip(names, ports, strict=True)]
    (folder / "slurm.conf").write_text("".join(nodes) + CLUSTER.format(**known))
    (folder / "slurmdbd.conf").write_text(ACCOUNTING.format(**known))
    (folder / "slurmdbd.conf").chmod(0o600)  # slurmdbd insists on it
    (folder / "sql.port").write_text(str(sql))


def _free_ports(count: int) -> list[int]:
    """Return ports that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _start_accounting(stack: contextlib.ExitStack, folder: Path) -> None:
    """Start munge, by which Slurm's programs know each other, a database, and Slurm's accounting upon it."""
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    _start(stack, folder, "munged", "-F", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in files.items()))
    port, data = int((folder / "sql.port").read_text()), f"--datadir={folder}/sql"
    make = ["mariadb-install-db", "--no-defaults", data, "--user=root", "--auth-root-authentication-method=normal"]
    subprocess.run([*make, "--skip-test-db"], check=True, capture_output=True, timeout=PATIENCE)
    own = (f"--socket={folder}/sql.socket", f"--port={port}", f"--bind-address={HOST}", f"--pid-file={folder}/sql.pid")
    _start(stack, folder, "mariadbd", "--no-defaults", data, "--user=root", "--skip-grant-tables", *own)
    _wait("mariadbd", lambda: _answers(port))
    _start(stack, folder, "slurmdbd", "-D")
    _wait("slurmdbd", _knows_the_cluster)


def _knows_the_cluster() -> bool:
    said("sacctmgr", "-i", "add", "cluster", "one")
    return "one" in said("sacctmgr", "-n", "show", "cluster", "format=cluster").split()


def _start(stack: contextlib.ExitStack, folder: Path, *command: str) -> None:
    """Start a program that ends with ``stack``, and with this process, however that ends."""
    with (folder / f"{command[0]}.out").open("a") as output:
        bound = ["setpriv", "--pdeathsig=TERM", *command]
        process = subprocess.Popen(bound, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_jobs() -> None:
    subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], capture_output=True, timeout=PATIENCE)
    subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=PATIENCE)
    _wait("the jobs' end", lambda: not said("squeue", "-h"))


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex((HOST, port)) == 0


def _wait(what: str, there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.5)


if __name__ == "__main__":
    if missing():
        sys.exit(f"slurm.py: {missing()}")
    with tempfile.TemporaryDirectory(prefix="slurm") as scratch, slurm(Path(scratch)):
        sys.exit(subprocess.run(sys.argv[1:]).returncode)
