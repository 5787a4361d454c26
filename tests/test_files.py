"""Writing: whole or not at all, with the user's permissions, and one sentence when it cannot be."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.disks import no_file_larger_than

from mlx_headpose import InputError, files
from mlx_headpose.export.mlxfn import export_mlxfn
from mlx_headpose.files import (
    atomic_folder,
    atomic_path,
    messages_apart,
    remove_temporaries,
    require_apart,
    require_writable,
    visible,
    write_json,
)
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.readers.torch_writer import write_torch_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "notes.txt"
    with atomic_path(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (path.parent, ".txt")
        assert temporary.name.startswith(".mlx-headpose-")
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["notes.txt"]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_what_the_user_set(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode


def test_json_is_indented_and_ends_its_line(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"ä": [1]}
    assert text.endswith("}\n")
    assert '\n  "' in text


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_sentence(tmp_path, code):
    with (
        pytest.raises(InputError, match=r"a\.txt: the disk is full; free some space"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
def test_a_place_that_takes_no_files_is_one_sentence(tmp_path, code):
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written \(.+\); choose another folder"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.ENAMETOOLONG])
def test_any_other_error_of_the_system_is_one_sentence(tmp_path, code):
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written \(.+\); name another file"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_a_reader_of_a_pipe_that_has_gone_stays_what_it_is(tmp_path):
    with pytest.raises(BrokenPipeError), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "n." + "t" * 253, "ü" * 127])
def test_names_may_be_as_long_as_the_disk_allows(tmp_path, name):
    require_writable(tmp_path / name)
    write_json(tmp_path / name, 1)
    assert names(tmp_path) == [name]
    write_package(tmp_path / "folder" / name, "first")
    assert names(tmp_path / "folder") == [name]


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    path = tmp_path / ("n" * 256)
    checks = [
        require_writable,
        lambda p: write_json(p, 1),
        lambda p: write_package(p, "first"),
        lambda p: messages_apart([p]).__enter__(),
        lambda p: require_apart([], [p]),
    ]
    for check in checks:
        with pytest.raises(InputError, match=r"n: cannot be written \(.+\); name another file"):
            check(path)
    assert names(tmp_path) == []


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    for check in (lambda p: write_json(p, 1), require_writable):
        with pytest.raises(InputError, match="folder: is a folder; name a file"):
            check(tmp_path / "folder")


def test_of_a_link_the_target_is_replaced(tmp_path):
    for name in ("there.json", "not there yet.json"):
        target, link = tmp_path / "elsewhere" / name, tmp_path / f"link to {name}"
        target.parent.mkdir(exist_ok=True)
        link.symlink_to(Path("elsewhere") / name)
        if name == "there.json":
            target.write_text("old")
        write_json(link, 1)
        assert link.is_symlink()
        assert target.read_text() == "1\n"
    assert len(names(target.parent)) == 2


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match="links to itself"):
        write_json(tmp_path / "a", 1)


def test_pipes_and_devices_are_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    require_writable(pipe)
    write_json(pipe, [1, 2])
    assert json.loads(os.read(reader, 100)) == [1, 2]
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(os.devnull)
    for device in (os.devnull, link):
        write_json(device, 1)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert names(tmp_path) == ["link", "pipe"]


def test_a_file_that_is_a_mount_is_written_to(tmp_path, monkeypatch):
    path = tmp_path / "mounted.json"
    path.write_text("a longer old text")
    before = path.stat().st_ino

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", busy)
    write_json(path, 1)
    assert (path.read_text(), path.stat().st_ino) == ("1\n", before)
    assert names(tmp_path) == ["mounted.json"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_the_standard_output_is_written_to_where_the_shell_sent_it(tmp_path, name):
    if name.startswith("/") and not Path(name).parent.exists():
        pytest.skip(f"no {name} here")
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "import sys; from mlx_headpose.files import is_stdout, write_json\n"
        "print('before'); assert is_stdout(sys.argv[1])\n"
        "write_json(sys.argv[1], 1); print('after')"
    )
    out = tmp_path / "out.txt"
    with out.open("w") as file:
        inode = out.stat().st_ino
        subprocess.run(
            [sys.executable, "-c", program, name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdout=file,
            check=True,
        )
    assert out.read_text() == "before\n1\nafter\n"
    assert out.stat().st_ino == inode
    assert names(tmp_path) == ["link", "out.txt"]


def test_two_names_of_the_standard_output_are_one():
    with pytest.raises(InputError, match="two results"):
        require_apart([], ["-", "/dev/stdout"])


def test_messages_make_way_for_results(capsys):
    with messages_apart(["a.json", None]):
        print("usual")
    with messages_apart([None, "-"]):
        print("aside")
    assert capsys.readouterr() == ("usual\n", "aside\n")


def test_require_writable_leaves_nothing(tmp_path):
    require_writable(tmp_path / "later.mp4")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        require_writable(tmp_path / "file" / "later.mp4")


def test_a_function_does_not_fit_on_the_disk(tmp_path):
    network = build(config_from_dict({"model_type": "hopenet", "arch": "squeezenet1_1"}))
    mx.eval(network.parameters())
    with no_file_larger_than(100_000), pytest.raises(InputError, match=r"net\.mlxfn: the disk is"):
        export_mlxfn(network, tmp_path / "net.mlxfn", batch_sizes=(1,))
    assert names(tmp_path) == []


def test_a_checkpoint_does_not_fit_on_the_disk(tmp_path):
    with (
        no_file_larger_than(100_000),
        pytest.raises(InputError, match="the disk is full"),
        atomic_path(tmp_path / "net.pth") as temporary,
    ):
        write_torch_file(temporary, {"weight": np.zeros(100_000, np.float32)})
    assert names(tmp_path) == []


def test_what_a_killed_process_left_can_be_removed(tmp_path):
    mine = (".lock", ".hidden.json", "a.part.json")
    for name in mine:
        (tmp_path / name).write_text("")
    writer = atomic_path(tmp_path / "a.json")
    writer.__enter__()
    assert len(names(tmp_path)) == 4
    remove_temporaries(tmp_path)
    assert names(tmp_path) == sorted(mine)
    remove_temporaries(tmp_path / "not there")


def test_hidden_files_are_not_those_of_a_folder(tmp_path):
    for name in ("b.json", "a.json", "._a.json", "c.txt"):
        (tmp_path / name).write_text("")
    with atomic_path(tmp_path / "d.json"):
        assert visible(tmp_path, "*.json") == [tmp_path / "a.json", tmp_path / "b.json"]
    assert visible(tmp_path / "not there", "*") == []


def write_package(path: Path, text: str) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "data").mkdir(parents=True)
        (temporary / "data" / "text").write_text(text)


@pytest.fixture(params=["in one step", "by two renames"])
def package(request, tmp_path, monkeypatch):
    """A folder that was written twice, each time in a way that replaces folders."""
    if request.param == "by two renames":
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    path = tmp_path / "new" / "net.mlpackage"
    write_package(path, "first")
    write_package(path, "second")
    return path


def test_a_folder_replaces_the_one_before_it(package):
    assert (package / "data" / "text").read_text() == "second"
    assert names(package.parent) == ["net.mlpackage"]
    assert package.stat().st_mode & 0o777 == 0o777 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder_and_nothing_else(package, error):
    def write() -> None:
        with atomic_folder(package) as temporary:
            temporary.mkdir()
            raise error

    with pytest.raises(type(error)):
        write()
    assert (package / "data" / "text").read_text() == "second"
    assert names(package.parent) == ["net.mlpackage"]


def test_a_folder_comes_back_where_the_new_one_cannot_take_its_place(package, monkeypatch):
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == package.name and target == package:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(InputError, match=r"net\.mlpackage: cannot be written"):
        write_package(package, "third")
    assert (package / "data" / "text").read_text() == "second"
    assert names(package.parent) == ["net.mlpackage"]


# Ends the process right after the call that moves the old folder.
CRASH = """
import os, sys
from pathlib import Path
from mlx_headpose import files

def last(*given):
    call(*given)
    os._exit(9)

if sys.argv[2] == "in one step":
    call, files._exchanged = files._exchanged, last
else:
    call, files._exchanged, Path.rename = Path.rename, lambda *_: False, last
with files.atomic_folder(sys.argv[1]) as temporary:
    temporary.mkdir()
    (temporary / "text").write_text("third")
"""


@pytest.mark.parametrize("way", ["in one step", "by two renames"])
def test_a_crash_between_loses_no_folder(tmp_path, way):
    path = tmp_path / "net.mlpackage"
    write_package(path, "second")
    done = subprocess.run([sys.executable, "-c", CRASH, path, way], check=False)
    assert done.returncode == 9
    if way == "in one step":
        assert (path / "text").is_file() or (path / "data").is_dir()
        return
    assert not path.exists()
    (beside,) = tmp_path.iterdir()
    assert (beside / "before" / "data" / "text").read_text() == "second"
    assert (beside / "net.mlpackage" / "text").read_text() == "third"


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "net.mlpackage").write_text("mine")
    with pytest.raises(InputError, match=r"net\.mlpackage: is no folder"):
        write_package(tmp_path / "net.mlpackage", "first")
    assert (tmp_path / "net.mlpackage").read_text() == "mine"
    assert names(tmp_path) == ["net.mlpackage"]
