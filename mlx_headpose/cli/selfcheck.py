"""`mlx-headpose selfcheck`: whether this machine computes what it should, and how fast."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..files import is_stdout, messages_apart, require_writable, write_json
from .options import Parser

FORMAT = "mlx-headpose selfcheck 1"


def run(program: str, arguments: list[str]) -> None:
    """Run the command. It exits with 1 where something disagrees."""
    parser = Parser(
        program,
        "Compute every method, the bundled networks and every layer on this machine, compare with "
        "stored values, on a GPU also with the CPU beside it, and measure the speed.",
    )
    parser.add_argument(
        "--json", type=Path, help="file to write everything to, for an issue; - for the output"
    )
    options = parser.parse_args(arguments)
    if options.json is not None:
        require_writable(options.json)
    # Chips that multiply float32 in TF32 would hide what is to be seen; MLX reads it once.
    os.environ.setdefault("MLX_ENABLE_TF32", "0")
    with messages_apart([options.json]):
        report = check()
    if options.json is not None:
        write_json(options.json, report)
        if not is_stdout(options.json):
            print(f"wrote {options.json}")
    with messages_apart([options.json]):
        wrong = len(report["disagree"])
        print("everything agrees" if not wrong else f"{wrong} of the checks DISAGREE, see above")
    raise SystemExit(1 if wrong else 0)


def check() -> dict[str, Any]:
    """Check and measure everything, and print it; returns the report as JSON can hold it."""
    from ..selfcheck.check import Check, all_checks
    from ..selfcheck.machine import describe
    from ..selfcheck.speed import Speed, networks, speeds
    from ..selfcheck.values import read_stored

    start = time.monotonic()
    machine = describe()
    print("\n".join(f"{key}: {value}" for key, value in machine.items()))
    groups = all_checks(read_stored())
    measured = networks()
    checks: list[Check] = []
    rates: list[Speed] = []
    with tqdm(total=len(groups) + len(measured), unit="check", disable=None, leave=False) as bar:
        for name, group in groups.items():
            bar.set_postfix_str(name)
            checks += group()
            bar.update()
        for name, make in measured.items():
            bar.set_postfix_str(f"speed of {name}")
            rates += speeds(name, make())
            bar.update()
    print(summary(checks))
    print(f"\n{'network':18}{'':10}{'type':>9}{'batch':>7}{'images/s':>10}{'peak GB':>9}")
    for rate in rates:
        print(
            f"{rate.name:18}{rate.what:10}{rate.dtype:>9}{rate.batch:>7}"
            f"{rate.images_per_second:>10.1f}{rate.peak_gb:>9.2f}"
        )
    wrong = [one for one in checks if not one.agrees]
    for one in wrong:
        print(f"DISAGREES: {one}")
    return {
        "format": FORMAT,
        "machine": machine,
        "agrees": not wrong,
        "disagree": [str(one) for one in wrong],
        "seconds": round(time.monotonic() - start, 1),
        "speed": [asdict(rate) for rate in rates],
        "checks": [one.to_dict() for one in checks],
    }


def summary(checks: list[Any]) -> str:
    """The worst check of each quantity and type, as a table of text."""
    worst: dict[tuple[str, str, str], Any] = {}
    count: dict[tuple[str, str, str], int] = {}
    for one in checks:
        key = one.quantity, one.dtype, one.against
        count[key] = count.get(key, 0) + 1
        if key not in worst or _share(one) > _share(worst[key]):
            worst[key] = one
    lines = [f"\n{'checks':>6}  {'of':28}{'largest':>10}{'allowed':>10}  where"]
    for key, one in worst.items():
        unit = "°" if one.in_degrees else ""
        error = "none" if one.error is None else f"{one.error:.1e}{unit}"
        lines.append(
            f"{count[key]:>6}  {f'{one.quantity}, {one.dtype}':28}{error:>10}"
            f"{f'{one.tolerance:.1e}{unit}':>10}  {one.name}, against {one.against}"
        )
    return "\n".join(lines)


def _share(one: Any) -> float:
    return float("inf") if one.error is None else one.error / one.tolerance
