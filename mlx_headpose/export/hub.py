"""A network as a repository of the Hugging Face hub: a folder with a model card, and its upload."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from .._version import __version__
from ..convert.published import PUBLISHED
from ..errors import InputError
from ..files import atomic_path
from ..methods import Estimator
from ..readers.checkpoint_file import SUFFIXES
from ..weights import (
    BUNDLED,
    fetch_from_hub,
    is_hub_id,
    refuse_revision,
    save_pretrained,
    tensors_of,
)
from .metadata import NO_LICENCE, SIGNS, known_licence, network_name, shares

PICTURE = BUNDLED.with_name("signs.png")
CARD = "README.md"
ABOUT = ["config.json", CARD]
# What `write_folder` leaves.
WRITTEN = (
    *("config.json", "preprocessor_config.json", "model.safetensors"),
    *(CARD, PICTURE.name),
)
MAX_CARD = 1 << 20
# Licences by the names that the hub has for them.
LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "BSD-3-Clause": "bsd-3-clause"}
IN_WORDS = "license_in_words"  # key of a card that has any other licence as we know it


@dataclass(frozen=True)
class Origin:
    """Where a network comes from.

    Attributes:
        path: file, or folder in the hub's form.
        name: what it is called in messages.
        base_model: the hub id of what it was made of; None where it is not from the hub.
        licence: licence of its weights.
        figure: figure that its publisher states.
    """

    path: Path
    name: str
    base_model: str | None = None
    licence: str = NO_LICENCE
    figure: str = ""


def find_origin(source: str | Path, revision: str | None = None) -> Origin:
    """The file or folder of a network on the hub or on this machine.

    Args:
        source: hub id, folder, or file.
        revision: branch, tag or commit on the hub.

    Raises:
        InputError: it cannot be fetched, holds several checkpoints, or a revision is given of what
            is not on the hub.
    """
    # A name that ends as a file's is a file, even if it is missing.
    if is_hub_id(source) and Path(source).suffix not in SUFFIXES:
        name = str(source)
        patterns = [f"*{suffix}" for suffix in SUFFIXES]
        folder = fetch_from_hub(name, [*patterns, *ABOUT], revision)
        return Origin(_checkpoint_in(folder, name), name, name, stated_licence(folder))
    refuse_revision(source, revision)
    path = Path(source)
    if path.is_dir():
        return Origin(_checkpoint_in(path, str(path)), str(path), licence=stated_licence(path))
    return Origin(path, str(path))


def origin_of(network: str | Path) -> Origin:
    """Where a network of ours comes from.

    Args:
        network: `.safetensors` file, folder in the hub's form, or hub id.

    Raises:
        InputError: it cannot be fetched.
    """
    if is_hub_id(network):
        name = str(network)
        folder = fetch_from_hub(name, ABOUT)
        return Origin(folder, name, name, stated_licence(folder))
    path = Path(network)
    licence = stated_licence(path) if path.is_dir() else known_licence(path)
    return Origin(path, network_name(path), licence=licence)


def in_hub_form(path: Path) -> bool:
    """Whether a path is a folder with a network of ours."""
    return (path / "config.json").is_file() and (path / "model.safetensors").is_file()


def _checkpoint_in(folder: Path, name: str) -> Path:
    """The folder itself if it is in the hub's form or holds the parts of one; else its one file."""
    if in_hub_form(folder):
        return folder
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(files) == 1:
        return files[0]
    if name == str(folder):
        return folder
    if not files:
        raise InputError(f"{name}: holds no checkpoint; see its files on the hub")
    names = ", ".join(path.name for path in files[:4])
    raise InputError(
        f"{name}: holds {len(files)} checkpoints ({names}); download one and give it as --weight"
    )


def stated_licence(folder: Path) -> str:
    """The licence that a folder's model card states."""
    card = folder / CARD
    if not card.is_file() or card.stat().st_size > MAX_CARD:
        return NO_LICENCE
    text = card.read_text(encoding="utf-8", errors="replace")
    header = re.match(r"---\r?\n(.*?)\r?\n---", text, re.S)
    if header is None:
        return NO_LICENCE
    whole = re.search(rf'^{IN_WORDS}:[ \t]*(".*")', header[1], re.M)
    if whole:
        with suppress(ValueError):
            return " ".join(json.loads(whole[1]).split())
    found = re.search(r"^license:[ \t]*([\w.-]+)", header[1], re.M)
    return found[1] if found else NO_LICENCE


def write_network(
    model: Estimator,
    output: Path,
    origin: Origin,
    dtype: mx.Dtype | None = None,
) -> None:
    """Write a network to a `.safetensors` file or, under any other name, as the hub has them.

    Args:
        model: the network.
        output: file or folder to write.
        origin: where the network comes from.
        dtype: 16-bit type to store it in; None stores float32.
    """
    if output.suffix == ".safetensors":
        save_pretrained(model, output, half=dtype is not None, dtype=dtype or mx.float16)
    else:
        write_folder(model, output, origin, dtype)


def write_folder(
    model: Estimator,
    folder: Path,
    origin: Origin,
    dtype: mx.Dtype | None = None,
    repository: str | None = None,
) -> None:
    """Write a network as the hub has them, with its card and the picture of signs.

    Args:
        model: the network.
        folder: folder to write to.
        origin: where the network comes from.
        dtype: 16-bit type to store it in; None stores float32.
        repository: the hub id under which it will be found.
    """
    save_pretrained(model, folder, half=dtype is not None, dtype=dtype or mx.float16)
    with atomic_path(folder / PICTURE.name) as temporary:
        shutil.copyfile(PICTURE, temporary)
    text = card(model, origin, folder, repository)
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")


def card(model: Estimator, origin: Origin, folder: Path, repository: str | None = None) -> str:
    """The model card of a folder whose weights are written, in Markdown with YAML before it."""
    config, licence = model.config, origin.licence
    name = repository or folder.name
    known = LICENCES.get(licence, licence if licence in LICENCES.values() else None)
    header = ["library_name: mlx", f"license: {known or 'other'}"]
    if known is None:
        # The hub takes an id for a name; what it leaves out is not to be lost on the way.
        header.append(f"license_name: {'unknown' if licence == NO_LICENCE else 'see-below'}")
        header.append(f"{IN_WORDS}: {json.dumps(licence)}")
    tags = ["mlx", "mlx-headpose", "head-pose-estimation", "computer-vision", config.model_type]
    header += ["tags:", *[f"- {tag}" for tag in tags]]
    if origin.base_model:
        header.append(f"base_model: {origin.base_model}")
    count = sum(value.size for value in tensors_of(model).values())
    size = (folder / "model.safetensors").stat().st_size / 1e6
    kept = "floats" if model.quantization is None else f"quantised: {model.quantization.scheme}"
    rows = {
        "method": config.model_type,
        "numbers": f"{count / 1e6:.2f} million, {kept}, {size:.1f} MB",
        "reads": str(config.inputs),
        "licence of the weights": licence,
    }
    if not config.inputs.landmarks:
        crop = config.preprocessing.crop
        for kind, margins in (("face", crop.face), ("head", crop.head)):
            sides = shares(margins)
            rows[f"margins around a detected {kind}"] = (
                "by a rule of their own, in config.json"
                if sides is None
                else ", ".join(f"{share:.3g}" for share in sides)
                + " of the box, at x_min, y_min, x_max, y_max"
            )
    if origin.figure:
        rows["figure that the publisher states"] = origin.figure
    if origin.base_model:
        rows["made of"] = f"[{origin.base_model}](https://huggingface.co/{origin.base_model})"
    table = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(
        [
            "---",
            *header,
            "---",
            "",
            f"# {name}",
            "",
            f"Head pose estimation on Apple's MLX: {SIGNS}. Written by mlx-headpose {__version__}.",
            "",
            f"![One head at −30°, 0° and +30° of yaw, pitch and roll]({PICTURE.name})",
            "",
            "```python",
            "from mlx_headpose import HeadPoseEstimator",
            "",
            f'estimator = HeadPoseEstimator.from_pretrained("{name}")',
            'for head in estimator("photo.jpg"):',
            "    print(head.box, head.yaw, head.pitch, head.roll, head.confidence)",
            "```",
            "",
            "| | |",
            "|---|---|",
            *table,
            "",
        ]
    )


def upload(folder: Path, repository: str) -> str:
    """Put a folder into a repository of the hub, which is made if need be.

    Args:
        folder: folder to upload.
        repository: `owner/name`.

    Returns:
        The address of the commit.

    Raises:
        InputError: huggingface_hub is not installed, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise InputError("uploading needs a package; run `pip install huggingface_hub`") from None
    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(WRITTEN),
            commit_message=f"Upload from mlx-headpose {__version__}",
        )
    except Exception as error:  # the hub client has no common base class of its errors
        reason = " ".join(str(error).split())
        raise InputError(f"{repository}: the hub refuses the upload ({reason})") from None
    return commit.commit_url


def published_origin(name: str, path: Path) -> Origin:
    """The origin of a published checkpoint that was downloaded by its name."""
    entry = PUBLISHED[name]
    return Origin(path, name, licence=entry.licence, figure=entry.figure)
