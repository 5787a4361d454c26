"""Fuzz every reader of untrusted files with format-aware damage (Linux: it needs /proc).

    python -m bench.robustness.fuzz --shared ../shared --seconds 300 --out fuzz

A child process reads one damaged file after another. The only right answers are a result and an
`InputError`, within 5 seconds of processor time and 2 GB of resident memory. Everything else is a
finding: another exception, a signal, a hang, too much memory, a name that leads out of the folder,
or code that ran. Each finding's first file is kept under `--out`, named by reader and cause.

A damaged file whose outcome was not seen before (what was raised, and on which line) becomes a seed
itself, so that damage adds up along new paths.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing as mp
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.robustness import fuzz_checkpoints, fuzz_datasets
from bench.robustness.fuzz_base import Escaped, Reader
from bench.robustness.fuzz_mutations import mutate
from mlx_headpose.errors import InputError

READERS = fuzz_datasets.READERS | fuzz_checkpoints.READERS
CPU_SECONDS = 5.0
# Where the machine is shared, waiting is not the reader's fault.
HANG_CPU_SECONDS = 15.0
HANG_SECONDS = 400.0
MEMORY_MB = 2048
KILL_MB = 2600
MOST_SEEDS = 400
# What no reader may call while it reads an untrusted file.
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen",
    "socket.connect", "pty.spawn", "ctypes.dlopen",
}  # fmt: skip


def memory_mb(pid: int | str, field: str) -> float:
    """A field of /proc/PID/status in MB; 0 where the process has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"{field}:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Raises where a reader does what reading never needs."""

    def __init__(self, folder: Path):
        self.folder = str(folder.resolve())
        self.on = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in FORBIDDEN:
            raise Escaped(f"{event} was called")
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            inside = path.startswith(self.folder) or "__pycache__" in path
            if (writes and not inside) or path == "/etc/passwd":
                raise Escaped(f"opened {path}")


def outcome_of(reader: Reader, path: Path, watch: Watch | None = None) -> tuple[str, str]:
    """("ok" | "refused" | "finding", what happened and where)."""
    try:
        try:
            if watch:
                watch.on = True
            reader.read(path)
        finally:
            if watch:
                watch.on = False
    except InputError as error:
        # Where a reader caught something else, that is the place.
        last = traceback.extract_tb((error.__context__ or error).__traceback__)[-1]
        if len(str(error).splitlines()) != 1:
            return "finding", f"message of several lines at {Path(last.filename).name}"
        return "refused", f"{Path(last.filename).name}:{last.lineno}"
    except (Exception, Escaped) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "headpose" in f.filename or "/convert/" in f.filename]
        place = (ours or frames)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return "finding", f"{type(error).__name__} at {where}: {str(error)[:100]}"
    return "ok", ""


def serve(name: str, path: Path, pipe: Connection) -> None:
    """The child: read the file again and again as told, and say what came of it."""
    reader = READERS[name]
    warnings.simplefilter("ignore")
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)  # readers may chatter
    os.dup2(sink, 2)
    watch = Watch(path.parent)
    for warm in sorted(path.parent.glob("seed*"))[:3]:
        outcome_of(reader, warm)  # lazy imports happen here, not while being watched
    sys.addaudithook(watch)
    while pipe.recv():
        Path("/proc/self/clear_refs").write_text("5")  # begin a new peak
        start = time.process_time()
        answer = outcome_of(reader, path, watch)
        seconds = time.process_time() - start
        peak = memory_mb("self", "VmHWM")
        if answer[0] != "finding" and seconds > CPU_SECONDS:
            answer = "finding", f"took over {CPU_SECONDS:.0f} s, then {answer[0]} {answer[1]}"
        if answer[0] != "finding" and peak > MEMORY_MB:
            answer = "finding", f"took over {MEMORY_MB} MB, then {answer[0]} {answer[1]}"
        pipe.send((*answer, seconds, peak))


class Child:
    """A process that reads; it is replaced when it dies."""

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path
        self.process: Any = None
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.pipe, other = mp.Pipe()
        self.process = mp.get_context("spawn").Process(
            target=serve, args=(self.name, self.path, other), daemon=True
        )
        self.process.start()
        other.close()

    def stop(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()

    def ask(self) -> tuple[str, str, float, float]:
        """Have the file read; a child that dies or must be stopped is a finding."""
        self.pipe.send(True)
        begin, used = time.monotonic(), cpu_seconds(self.process.pid)
        while not self.pipe.poll(0.05):
            if not self.process.is_alive():
                break
            problem = ""
            if memory_mb(self.process.pid, "VmRSS") > KILL_MB:
                problem = f"stopped at over {KILL_MB} MB"
            elif cpu_seconds(self.process.pid) - used > HANG_CPU_SECONDS:
                problem = f"no answer in {HANG_CPU_SECONDS:.0f} s of processor time"
            elif time.monotonic() - begin > HANG_SECONDS:
                problem = f"waits: no answer in {HANG_SECONDS:.0f} s"
            if problem:
                self.stop()
                self.start()
                return "finding", problem, 0.0, 0.0
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            self.start()
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return "finding", f"the process died ({cause})", 0.0, 0.0


def fuzz(name: str, shared: Path, seconds: float, out: Path, seed: int) -> dict[str, Any]:
    """Fuzz one reader; returns the record."""
    reader = READERS[name]
    rng = np.random.default_rng(seed)
    warnings.simplefilter("ignore")  # the archives that are written here are meant to be odd
    os.environ["XDG_CACHE_HOME"] = str(out.resolve() / name / "cache")
    work = out / name
    work.mkdir(parents=True, exist_ok=True)
    files = reader.seeds(shared, work / "made")
    seeds = [path.read_bytes() for path in files]
    path = work / f"case{reader.suffix}"
    for number, content in enumerate(seeds[:3]):
        (work / f"seed{number}{reader.suffix}").write_bytes(content)
    child = Child(name, path)
    counts: Counter[str] = Counter()
    findings: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    slowest = largest = 0.0
    originals = len(seeds)
    for content in seeds:  # what is whole must be read
        path.write_bytes(content)
        kind, what, *_ = child.ask()
        if kind != "ok":
            print(f"{name}: a whole file is {kind}: {what}", file=sys.stderr)
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        kind = reader.kinds[int(rng.integers(0, len(reader.kinds)))]
        pool = seeds[:originals] if rng.random() < 0.5 else seeds
        content = mutate(kind, pool, rng)
        path.write_bytes(content)
        answer, what, taken, peak = child.ask()
        counts[answer] += 1
        slowest, largest = max(slowest, taken), max(largest, peak)
        # Of one cause, one finding: the message's own words do not count.
        key = f"{answer} {' '.join(what.split()[:3])}"
        if answer == "finding":
            label = hashlib.sha256(key.encode()).hexdigest()[:8]
            if label not in findings:
                findings[label] = {"what": what, "count": 0, "seconds": taken, "mb": peak}
                (work / f"finding-{label}{reader.suffix}").write_bytes(content)
                print(f"{name}: {label}: {what}", flush=True)
            findings[label]["count"] += 1
        elif key not in seen and len(content) < 1 << 20 and len(seeds) < MOST_SEEDS:
            seen.add(key)
            seeds.append(content)
    child.stop()
    record = {
        "reader": name,
        "seconds": round(time.monotonic() - begin),
        "files": sum(counts.values()),
        **{k: counts[k] for k in ("ok", "refused", "finding")},
        "paths": len(seen),
        "slowest_cpu_s": round(slowest, 2),
        "largest_mb": round(largest),
        "findings": findings,
    }
    (work / "record.json").write_text(json.dumps(record, indent=2))
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of seeds")
    parser.add_argument("--seconds", type=float, default=300, help="for each reader")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.readers:
        record = fuzz(name, options.shared, options.seconds, options.out, options.seed)
        print(json.dumps({k: v for k, v in record.items() if k != "findings"}), flush=True)


if __name__ == "__main__":
    main()
