"""What is done to runs of one process and of two, and how they must take it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import psutil
from processes import Started, lines

from alignzoo.runs.checkpoint import find_newest
from alignzoo.system.signals import EXIT_CODE

ANYWHERE = ("kill", "SIGTERM", "SIGUSR1", "corrupt", "full disk", "second start")

#: By the number of processes. "kill" is of the one that was started; "kill agent" is of one of two machines' launchers.
KINDS = {1: ANYWHERE, 2: (*ANYWHERE, "kill rank", "kill agent")}

ROOM = 1_500_000  #: bytes of one checkpoint of the tiny model, and some more
PATIENCE = 60  #: seconds in which the processes of a run that has ended are gone


class Faults:
    """Injects faults into one run after the other and counts those that met a run alive."""

    def __init__(
        self,
        words: tuple[str, ...],
        processes: int,
        output: Path | None,
        chance: random.Random,
        kinds: tuple[str, ...] | None = None,
        most: int = 3,
    ) -> None:
        """Take the words of a run, or of several that one command starts.

        Args:
            words: of the command.
            processes: of each run.
            output: a folder on another file system than the runs', if theirs may be filled.
            chance: decides which fault comes next, and when.
            kinds: of faults; those of :data:`KINDS` if None.
            most: the lines that a start logs at most until it is disturbed.
        """
        self.words, self.processes, self.output, self.chance, self.most = words, processes, output, chance, most
        self.kinds = [kind for kind in kinds or KINDS[processes] if output or kind != "full disk"]
        self.drawn: list[str] = []
        self.seen = Counter[str]()

    def disturb(self, folder: Path) -> None:
        """Start the run and do something to it; it may end before."""
        kind = self._draw()
        started = self.start(folder, machines=2 if kind == "kill agent" else 1)
        self._wait(started[0], at_once=kind != "kill agent")
        family = [process for one in started for process in _below(one)]
        met = all(one.process.is_alive() for one in started)
        match kind:
            case "kill" | "SIGTERM" | "SIGUSR1":
                self.send(started[0], kind)
            case "corrupt":
                self.send(started[0], "kill")
                met = self.corrupt(folder / "checkpoints")
            case "full disk":
                met = self.fill(folder, started[0])
            case "second start":
                met = self.start_again(folder, started[0])
            case "kill rank":
                met = self.kill_rank(started[0])
            case "kill agent":
                self.kill_agent(started)
        _, left = psutil.wait_procs(family, PATIENCE)
        assert not left, f"{kind} has left {left}"
        self.seen[kind] += met

    def _draw(self) -> str:
        """Return a kind; each comes once before one comes again."""
        self.drawn = self.drawn or self.chance.sample(self.kinds, len(self.kinds))
        return self.drawn.pop()

    def start(self, folder: Path, machines: int = 1) -> list[Started]:
        """Start the run, with its processes on one machine, or with one on each of two that are both this one."""
        output = (self.output or folder.parent) / "out"
        if machines == 1:
            return [Started(folder, *self.words, output=output)]
        place = ("strategy.processes=1", "strategy.nodes=2", f"strategy.rendezvous=localhost:{_free_port()}")
        words = (*(word for word in self.words if not word.startswith("strategy.")), *place)
        return [Started(folder, *words, output=output.with_suffix(f".{number}")) for number in range(2)]

    def _wait(self, started: Started, at_once: bool) -> None:
        """Wait until the run has come some way; ``at_once``: sometimes before it trains."""
        chance = self.chance
        if at_once and chance.random() < 0.2:
            time.sleep(chance.uniform(0, 2 if self.processes == 1 else 10))
        else:
            started.reaches(lines(started.folder) + chance.randint(1, self.most))
        time.sleep(chance.uniform(0, 0.2))

    def send(self, started: Started, kind: str) -> None:
        """Kill the process that was started, or ask it to stop."""
        number = signal.SIGKILL if kind == "kill" else signal.Signals[kind]
        started.kill(number)
        # Before Python has a handler, while it starts, a signal ends the process as signals do.
        expected = {0, -number} | ({EXIT_CODE} if kind != "kill" else set())
        assert started.ends() in expected, f"{kind}: {started.process.exitcode}\n{started.said}"

    def kill_rank(self, started: Started) -> bool:
        """Kill one of the processes that train; the one that started them must say so, and end the other."""
        workers = [process for process in _below(started) if "alignzoo.launch.worker" in process.cmdline()]
        if len(workers) < self.processes:
            self.send(started, "kill")
            return False
        self.chance.choice(workers).kill()
        code = started.ends()
        assert code == 0 or (code == 1 and "SIGKILL" in started.said), started.said
        assert "Traceback" not in started.said
        return code == 1

    def kill_agent(self, started: list[Started]) -> None:
        """Kill one machine's launcher; the other machine's must end by itself."""
        self.chance.choice(started).kill(signal.SIGKILL)
        codes = {one.ends() for one in started}
        assert codes <= {0, 1, -signal.SIGKILL}, "\n".join(one.said for one in started)
        assert all("Traceback" not in one.said for one in started), "\n".join(one.said for one in started)

    def fill(self, folder: Path, started: Started) -> bool:
        """Leave the run's file system at most the room of a checkpoint until the run has failed; then free it."""
        left = self.chance.choice((0, self.chance.randint(0, ROOM)))
        filler = folder.parent / "filler"
        try:
            with contextlib.suppress(OSError):  # the run has written meanwhile: no room is left at all
                filler.write_bytes(bytes(max(0, shutil.disk_usage(folder.parent).free - left)))
            code = started.ends()
        finally:
            filler.unlink()
        assert code in (0, 1), started.said
        assert code == 0 or str(folder) in started.said, started.said
        assert "Traceback" not in started.said, started.said
        return code == 1

    def start_again(self, folder: Path, started: Started) -> bool:
        """Start a second one, which must refuse the folder while the first runs; then kill the first."""
        if not (folder / ".lock").exists():
            self.send(started, "kill")
            return False
        second = Started(folder, *self.words, output=started.output.with_suffix(".second"))
        code = second.ends()
        refused = code == 1 and any(told in second.said for told in ("is in use by process", "was in use until"))
        assert code == 0 or refused, second.said
        self.send(started, "kill")
        return code == 1

    def corrupt(self, root: Path) -> bool:
        """Cut off, remove or change a file of the newest checkpoint; False if there is none."""
        found, _ = find_newest(root)
        if found is None:
            return False
        files = sorted(path for path in found.folder.rglob("*") if path.is_file() and path.stat().st_size)
        file, how = self.chance.choice(files), self.chance.choice(("cut", "remove", "change"))
        place = self.chance.randrange(file.stat().st_size)
        if how == "remove":
            file.unlink()
        elif how == "cut":
            os.truncate(file, place)
        else:
            content = bytearray(file.read_bytes())
            content[place] ^= 0x55
            file.write_bytes(content)
        after, skipped = find_newest(root)
        assert after is None or after.step < found.step, f"{how} {file.name} at {place} was not seen"
        # One that was damaged before may stand above it.
        assert any(line.startswith(f"{found.folder.name} is skipped: ") for line in skipped), skipped
        return True


def _below(started: Started) -> list[psutil.Process]:
    try:
        return psutil.Process(started.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
