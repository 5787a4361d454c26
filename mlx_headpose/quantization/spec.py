"""What a checkpoint's config says of its quantisation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError

SCHEMES = ("int8", "mlx8", "mlx4")


@dataclass(frozen=True)
class Quantization:
    """How a network differs from the one that its config builds.

    Attributes:
        scheme: "int8" (weights and inputs), "mlx8" or "mlx4" (MLX's quantised weights).
        layers: names of the layers that are quantised.
        folded: name of each batch norm that is gone, and of the convolution that it is in now.
    """

    scheme: str
    layers: tuple[str, ...]
    folded: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Quantization:
        """Read what `to_dict` wrote.

        Raises:
            InputError: it is malformed.
        """
        try:
            folded = tuple((norm, conv) for norm, conv in values["folded"])
            spec = cls(values["scheme"], tuple(values["layers"]), folded)
            names = [*spec.layers, *(name for pair in folded for name in pair)]
            if spec.scheme not in SCHEMES or not all(isinstance(name, str) for name in names):
                raise ValueError("an unknown scheme, or names that are no text")
            return spec
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"its quantization is malformed ({error!r})") from None
