"""`python -m mlx_headpose.synthetic.scenes`: render the sprites that scenes are made of."""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ..._version import __version__
from ...errors import InputError
from .people import make_people
from .rendering import Drawn, render_sprites

SPLITS = {"train": 0, "val": 1}


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m mlx_headpose.synthetic.scenes",
        description="Render sprites to a folder. The same command goes on where it stopped.",
    )
    parser.add_argument("kind", choices=("people", "things"))
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--split", choices=tuple(SPLITS), default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mesh", type=Path, help="head model, for people")
    parser.add_argument("--environments", type=Path, help="panoramas, for light")
    parser.add_argument("--textures", type=Path, help="texture swatches, for things")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    try:
        args = parser.parse_args(arguments)
        if min(args.count, args.workers or 1) < 1 or args.seed < 0:
            raise InputError("--count and --workers must be 1 or more, and --seed 0 or more")
        seed = (args.seed, SPLITS[args.split])
        settings = {"kind": args.kind, "seed": list(seed), "version": __version__}
        if args.kind == "people":
            if args.mesh is None:
                raise InputError("people need a head model; give its file as --mesh")
            settings["mesh"] = hashlib.sha256(args.mesh.read_bytes()).hexdigest()
            settings["light"] = args.environments is not None
            make: Callable[..., Drawn] = make_people
            source = args.mesh
        else:
            if args.textures is None:
                raise InputError("things need textures; give their folder as --textures")
            from .things import make_things

            make, source = make_things, args.textures
        given = (source, args.environments, seed, args.count)
        new = render_sprites(make, given, args.count, args.out, settings, args.workers)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("Stopped. The same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"{args.count} sprites in {args.out}, {new} of them new")


if __name__ == "__main__":
    main()
