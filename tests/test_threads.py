"""Networks and threads: made in one, used in another; at exit, after forks, without streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from support.commands import ROOT

from mlx_headpose.detection.yunet import MODEL_TYPE, FaceDetector, YuNet
from mlx_headpose.methods import METHODS, build, config_from_dict
from mlx_headpose.quantization import quantize_int8, quantize_weights
from mlx_headpose.weights import from_pretrained, save_pretrained, save_tensors, tensors_of

SMALL: dict[str, dict[str, Any]] = {
    "hopenet": {"arch": "squeezenet1_1"},
    "tokenhpe": {"width": 96, "depth": 2, "backbone_heads": 2},
}
FORMS = ("float32", "float16", "int8", "weights8")


@pytest.fixture(scope="module", params=METHODS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A method's network in every form that files have."""
    folder = tmp_path_factory.mktemp(request.param)
    config = {"model_type": request.param, **SMALL.get(request.param, {})}
    mx.random.seed(0)
    if config_from_dict(config).inputs.landmarks == 0:
        config["preprocessing"] = {"size": 64}
    paths = []
    for form in FORMS:
        model = build(config_from_dict(config))
        model.eval()
        if form == "int8":
            model = quantize_int8(model, model.config.inputs.example(2))
        if form == "weights8":
            model = quantize_weights(model, 8, model.config.inputs.example(2))
        paths.append(folder / f"{form}.safetensors")
        save_pretrained(model, paths[-1], half=form == "float16")
    return paths


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def use(model: Any) -> np.ndarray:
    outputs = model(model.config.inputs.example(2))
    confidence = model.confidence(outputs)
    if confidence is not None:
        np.array(confidence)
    return np.array(model.decode(outputs))


def test_networks_work_in_threads_other_than_the_one_that_loaded_them(files: list[Path]) -> None:
    for path in files:
        model = from_pretrained(path)
        wanted = use(model)
        for found in (
            elsewhere(use, model),
            use(elsewhere(from_pretrained, path)),
            elsewhere(use, elsewhere(from_pretrained, path)),
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-3, err_msg=path.name)


def test_detectors_work_in_other_threads(tmp_path: Path) -> None:
    mx.random.seed(0)
    path = tmp_path / "yunet.safetensors"
    save_tensors(path, tensors_of(YuNet()), {"model_type": MODEL_TYPE})
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    detector = FaceDetector.from_pretrained(path)
    (wanted,) = detector([image], 0.1)
    for found in (
        elsewhere(detector, [image], 0.1),
        elsewhere(FaceDetector.from_pretrained, path)([image], 0.1),
    ):
        np.testing.assert_allclose(found[0].boxes, wanted.boxes, atol=1e-3)


def python(program: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    config = {"model_type": "hopenet", "preprocessing": {"size": 64}, **SMALL["hopenet"]}
    mx.random.seed(0)
    save_pretrained(build(config_from_dict(config)), path, half=True)
    return path


HEADS = """
import os, sys, numpy as np
from concurrent.futures import ThreadPoolExecutor
from mlx_headpose import HeadPoseEstimator, InputError
estimator = HeadPoseEstimator.from_pretrained(sys.argv[1])
def heads(_=0):
    return estimator(np.zeros((60, 60, 3), np.uint8), boxes=[(5, 5, 50, 50)])
"""


@pytest.mark.parametrize("trial", range(4))  # half of the processes aborted
def test_a_pool_of_threads_ends_cleanly(network: Path, trial: int) -> None:
    use_pool = "with ThreadPoolExecutor(4) as pool: print(len(list(pool.map(heads, range(8)))))"
    ran = python(HEADS + use_pool, network)
    assert (ran.returncode, ran.stdout) == (0, "8\n"), ran.stderr


@pytest.mark.parametrize("trial", range(4))
def test_an_estimator_may_be_made_in_a_thread_that_ends(network: Path, trial: int) -> None:
    program = """
import sys, threading, numpy as np
from mlx_headpose import HeadPoseEstimator
def work():
    estimator = HeadPoseEstimator.from_pretrained(sys.argv[1], "bundled")
    print(len(estimator(np.zeros((60, 60, 3), np.uint8))))
for _ in range(2):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
    ran = python(program, network)
    assert (ran.returncode, ran.stdout) == (0, "0\n0\n"), ran.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_refuses_instead_of_hanging(network: Path) -> None:
    fork = """
heads()
if os.fork() == 0:
    try:
        heads()
    except InputError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    ran = python("import warnings; warnings.simplefilter('ignore')\n" + HEADS + fork, network)
    assert "get_context('spawn')" in ran.stdout, ran.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_before_anything_is_loaded_works(network: Path) -> None:
    fork = "import os\nif os.fork():\n    os.wait()\n    os._exit(0)\n"
    ran = python("import mlx_headpose\n" + fork + HEADS + "print(len(heads()))", network)
    assert ran.stdout == "1\n", ran.stderr


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_daemons_closed_streams_are_no_files(network: Path, tmp_path: Path, closed: str) -> None:
    program = HEADS + "open(sys.argv[2], 'w').write(str(len(heads()))); print('text')"
    result = tmp_path / "result"
    shell = f'exec "$0" -c "$1" "$2" "$3" {closed}'
    ran = subprocess.run(
        ["bash", "-c", shell, sys.executable, program, network, result],
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert (ran.returncode, result.read_text()) == (0, "1")
