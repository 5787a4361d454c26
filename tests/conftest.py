"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.hub import Hub, running_hub

# M5 and NVIDIA GPUs would multiply float32 in TF32, good to 1e-3; the tests compare closer.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

# On a GPU the bundled network would compute in float16, too.
os.environ.setdefault("MLX_HEADPOSE_FLOAT16", "0")

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip

# With this the package takes the paths of a GPU, whose operations the CPU computes.
PRETENDED = os.environ.get("MLX_HEADPOSE_TEST_DEVICE") == "gpu"
if PRETENDED:
    mx.default_device = lambda: mx.Device(mx.gpu)
    mx.disable_compile()  # for the CPU it would start a C++ compiler for each kernel

ROOT = Path(__file__).resolve().parent.parent
NO_SHARED = "needs the real data and golden outputs in ../shared, which is not here"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cpu: is about the operations that only CPUs get")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if mx.default_device() == mx.Device(mx.cpu):
        return
    for item in items:
        if item.get_closest_marker("cpu"):
            item.add_marker(pytest.mark.skip(reason="is about the CPU's own operations"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", ())
    count = sum(NO_SHARED in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests skipped: ../shared is not here")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden outputs beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(NO_SHARED)
    return folder


@pytest.fixture(scope="session")
def seeded(shared: Path) -> ModuleType:
    """../shared/checkpoints/seeded.py: reproducible checkpoints behind the golden outputs."""
    return _module_at(shared / "checkpoints" / "seeded.py")


@pytest.fixture(scope="session")
def torch_pyramid() -> ModuleType:
    """The pyramid network in PyTorch, under the published names."""
    pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    return _module_at(ROOT / "bench" / "reference" / "torch_pyramid.py")


@pytest.fixture
def untrusted(tmp_path: Path):
    """Writes an untrusted file."""

    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, by whose address huggingface_hub in a process of its own finds it."""
    pytest.importorskip("huggingface_hub", reason="talks to a hub by huggingface_hub")
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "secret")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(proxy, raising=False)
        yield hub


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, for tests of what is around it."""
    from mlx_headpose.methods import build, config_class
    from mlx_headpose.weights import save_pretrained

    mx.random.seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    model = build(config_class("hopenet")(arch="squeezenet1_1"))
    model.head.yaw.weight = model.head.yaw.weight * 1e6  # so that the picture matters
    save_pretrained(model, path)
    return path


@pytest.fixture
def predict(shared: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs predict.py in an empty folder, with that network and a detector given."""
    from mlx_headpose import cli
    from mlx_headpose.detection.yunet import ONNX_NAME

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> None:
        given = [str(argument) for argument in arguments]
        detector = str(shared / "weights" / ONNX_NAME)
        cli.main("predict", ["--snapshot", str(weights), "--detector", detector, *given])

    return run


@pytest.fixture
def photos(shared: Path) -> list[Path]:
    """Three photos; the second shows two people."""
    return [shared / "data" / "AFLW2000" / f"image000{n}.jpg" for n in ("02", "06", "13")]


def _module_at(path: Path) -> ModuleType:
    """A Python file outside the import path as a module, leaving no bytecode beside it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = bytecode
    return module


@pytest.fixture(autouse=True, scope="session")
def no_weights_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let nobody's own converted weights change what tests find."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patched.delenv("MLX_HEADPOSE_WEIGHTS", raising=False)
        yield
