"""Damage that knows the format: changed where a reader looks, and put back so that it looks there.

`mutate(kind, seeds, rng)` takes a file apart (archive members, compressed streams, chunks, JSON
trees, protobuf fields, pickle opcodes), damages one or more places, and joins it again with sizes
and checksums that hold, or that lie on purpose. One time in three the bytes are damaged blindly.
"""

from __future__ import annotations

import io
import json
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator

# Numbers at which readers go wrong: signs, overflows, huge sizes.
NUMBERS = (
    0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 10**6, 10**9, 2**31 - 1,
    2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30,
)  # fmt: skip
WORDS = (
    b"../../etc/passwd", b"/etc/passwd", b"\x00", b"nan", b"inf", b"-1", b"1e999", b"9" * 400,
    b"\xff\xfe", b"\xed\xa0\x80", b"{}", b"[]", b"null", b"__reduce__", b"cos\nsystem\n",
)  # fmt: skip


def havoc(data: bytes, rng: Rng, other: bytes = b"", most: int = 6) -> bytes:
    """Damage bytes blindly."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, most + 1))):
        size = len(out)
        at = int(rng.integers(0, size + 1))
        near_start = rng.random() < 0.4  # headers are where the damage counts
        if near_start:
            at = int(rng.integers(0, min(size, 256) + 1))
        choice = int(rng.integers(0, 9))
        if choice == 0 and at < size:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif choice == 1 and at < size:
            out[at] = int(rng.integers(0, 256))
        elif choice == 2:
            number = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
            width = int(rng.choice([1, 2, 4, 8]))
            order = "little" if rng.random() < 0.6 else "big"
            out[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)
        elif choice == 3:
            del out[at:]
        elif choice == 4:
            del out[at : at + int(rng.integers(1, 64))]
        elif choice == 5:
            out[at:at] = out[at : at + int(rng.integers(1, 64))]
        elif choice == 6:
            out[at:at] = WORDS[int(rng.integers(0, len(WORDS)))]
        elif choice == 7 and other:
            start = int(rng.integers(0, len(other)))
            out[at : at + 64] = other[start : start + int(rng.integers(1, 256))]
        else:
            out[at : at + 16] = bytes(len(out[at : at + 16]))
    return bytes(out)


def text(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage lines and words."""
    lines = data.split(b"\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(lines)))
        choice = int(rng.integers(0, 5))
        if choice == 0:
            lines.insert(at, WORDS[int(rng.integers(0, len(WORDS)))])
        elif choice == 1:
            words = lines[at].split(b" ")
            words[int(rng.integers(0, len(words)))] = WORDS[int(rng.integers(0, len(WORDS)))]
            lines[at] = b" ".join(words)
        elif choice == 2 and len(lines) > 1:
            del lines[at]
        elif choice == 3:
            lines[at] = str(NUMBERS[int(rng.integers(0, len(NUMBERS)))]).encode()
        else:
            lines[at] = havoc(lines[at], rng, other)
    return b"\n".join(lines)


def json_value(rng: Rng) -> Any:
    """A value that nobody expects."""
    deep: Any = []
    for _ in range(int(rng.integers(1, 40))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    return [
        NUMBERS[int(rng.integers(0, len(NUMBERS)))],
        10**400,
        float("nan"),
        float("inf"),
        -1e308,
        None,
        True,
        "",
        "../../etc/passwd",
        "\ud800",
        "x" * 1000,
        deep,
        [[1], [2, 3]],
        {},
    ][int(rng.integers(0, 14))]


def json_tree(value: Any, rng: Rng) -> Any:
    """Damage a JSON tree somewhere."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        key: Any = list(value)[int(rng.integers(0, len(value)))] if isinstance(value, dict) else 0
        if isinstance(value, list):
            key = int(rng.integers(0, len(value)))
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if rng.random() < 0.08:
            del copy[key]
        elif rng.random() < 0.08 and isinstance(copy, dict):
            copy[f"{key}!"] = copy.pop(key)
        elif rng.random() < 0.05 and isinstance(copy, list):
            copy *= 3
        else:
            copy[key] = json_tree(copy[key], rng)
        return copy
    return json_value(rng)


def json_file(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a JSON file's values, or its text."""
    try:
        value = json.loads(data)
    except ValueError:
        return havoc(data, rng, other)
    for _ in range(int(rng.integers(1, 4))):
        value = json_tree(value, rng)
    made = json.dumps(value).encode()
    if rng.random() < 0.02:
        made = b"[" * 100_000 + made
    return havoc(made, rng, other, 2) if rng.random() < 0.1 else made


def npy(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a `.npy` header's words, and keep its length right; or damage what follows."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        return havoc(data, rng, other)
    wide = data[6] > 1
    length = struct.unpack_from("<I" if wide else "<H", data, 8)[0]
    start = 12 if wide else 10
    header, rest = data[start : start + length], data[start + length :]
    if rng.random() < 0.3:
        return data[: start + length] + pickle_or_bytes(rest, rng, other)
    words = [b"|O", b"<f8", b"|V9", b"<U4", b"<c16", b"<f2", b">i8", b"<M8[s]", b"|b1", b"<f16"]
    replacements = [
        (b"'descr': ", b"'descr': '" + words[int(rng.integers(0, len(words)))] + b"', 'x': "),
        (b"(", b"(" + str(NUMBERS[int(rng.integers(0, len(NUMBERS)))]).encode() + b", "),
        (b"False", b"True"),
        (b"(", b"(-1, "),
        (b"'shape'", b"'shape': (" + b"1, " * 70 + b"), 'y'"),
    ]
    old, new = replacements[int(rng.integers(0, len(replacements)))]
    header = header.replace(old, new, 1) if rng.random() < 0.8 else havoc(header, rng, other)
    header = header[:60_000]
    return data[:8] + struct.pack("<I" if wide else "<H", len(header)) + header + rest


def pickle_or_bytes(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a pickle opcode by opcode, if it is one."""
    try:
        ops = [(op, arg, at) for op, arg, at in pickletools.genops(data)]
    except Exception:
        return havoc(data, rng, other)
    ends = [*(at for _, _, at in ops[1:]), len(data)]
    parts = [data[at:end] for (_, _, at), end in zip(ops, ends, strict=True)]
    bombs = [
        b"r\xff\xff\xff\x0f", b"\x8e" + struct.pack("<Q", 2**40), b"cos\nsystem\n",
        b"\x96" + struct.pack("<Q", 2**36), b"\x8a\xff" + b"\xff" * 255,
        b"cbuiltins\nbytearray\nI20000000000\n\x85R",
        b"ccollections\nOrderedDict\n)R", b"R", b"b", b"u", b"(", b"l", b"d", b"0", b"2", b".",
        b"I99999999999\n", b"M\xff\xff", b"N", b"\x88", b"K\x00",
        b"\x95" + struct.pack("<Q", 2**50),
        b"cbuiltins\neval\n", b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR",
    ]  # fmt: skip
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(parts)))
        choice = int(rng.integers(0, 6))
        if choice == 0 and len(parts) > 1:
            del parts[at]
        elif choice == 1:
            parts.insert(at, bombs[int(rng.integers(0, len(bombs)))])
        elif choice == 2:
            parts.insert(at, parts[int(rng.integers(0, len(parts)))])
        elif choice == 3:  # numbers: shapes, strides, offsets
            places = [i for i, part in enumerate(parts) if part[:1] in (b"K", b"M", b"J", b"\x8a")]
            if places:
                number = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
                raw = number.to_bytes(16, "little", signed=True)
                parts[places[int(rng.integers(0, len(places)))]] = b"\x8a\x10" + raw
        else:
            parts[at] = havoc(parts[at], rng, other, 1)
    return b"".join(parts)


def zipped(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a zip archive's members and write it anew, or its directory's sizes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return havoc(data, rng, other)
    if not members or rng.random() < 0.25:
        at = data.find(b"PK\x01\x02")  # the directory: sizes, offsets, methods
        return data[:at] + havoc(data[at:], rng, other, 3)
    at = int(rng.integers(0, len(members)))
    name, content = members[at]
    damage: Callable[..., bytes] = npy if content[:6] == b"\x93NUMPY" else pickle_or_bytes
    if rng.random() < 0.8:
        members[at] = name, damage(content, rng, other)
    elif rng.random() < 0.4:
        members.append((name, content))
    elif rng.random() < 0.5:
        del members[at]
    else:
        members[at] = havoc(name.encode(), rng).decode("latin1") or "x", content
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name.replace("\0", "0")), content, method)
    return out.getvalue()


def matlab(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a MATLAB 5 file inside its compressed elements."""
    out, at = [data[:128]], 128
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + 8 + size]
        at += 8 + size
        if kind == 15 and rng.random() < 0.5:
            try:
                plain = zlib.decompress(body)
            except zlib.error:
                return havoc(data, rng, other)
            if rng.random() < 0.001:
                plain += bytes(1 << 26)
            damaged = havoc(plain, rng, other, 3)
            if rng.random() < 0.5:
                out.append(damaged)  # an element that is not compressed
                continue
            body = zlib.compress(damaged)
        out.append(struct.pack("<II", kind, len(body)) + body)
    return b"".join(out)


def png(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a PNG's chunks and fix their checksums."""
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size
        chance = 0.5 if kind == b"IHDR" else 0.15
        if rng.random() < chance:
            if kind == b"IDAT" and rng.random() < 0.5:
                stream = zlib.decompressobj()
                plain = stream.decompress(body, 1 << 22)
                body = zlib.compress(havoc(plain, rng, other, 2))
            else:
                body = havoc(body, rng, other, 2)
        if rng.random() < 0.05:
            kind = [b"acTL", b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"zTXt"][int(rng.integers(0, 6))]
        for _ in range(2 if rng.random() < 0.05 else 1):
            out.append(struct.pack(">I", len(body)) + kind + body)
            out.append(struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(out)


def jpeg(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a JPEG's header segments and keep their lengths right."""
    out, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = struct.unpack_from(">H", data, at + 2)[0]
        marker, body = data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + size
        if rng.random() < 0.3:
            body = havoc(body, rng, other, 2)[:65000]
        if rng.random() < 0.05:
            marker = int(rng.choice([0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE1, 0xE2, 0xEE, 0xFE]))
        out.append(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body)
    rest = data[at:]
    return b"".join(out) + (havoc(rest, rng, other, 2) if rng.random() < 0.3 else rest)


def safetensors(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage the JSON header and keep its length right, or lie about it."""
    size = struct.unpack_from("<Q", data)[0] if len(data) > 8 else 0
    if not 2 <= size <= len(data) - 8:
        return havoc(data, rng, other)
    header, rest = data[8 : 8 + size], data[8 + size :]
    if rng.random() < 0.3:
        value = json.loads(header) if header.strip().startswith(b"{") else {}
        if isinstance(value, dict) and isinstance(value.get("__metadata__"), dict):
            inner = str(value["__metadata__"].get("config", "{}")).encode("utf-8", "replace")
            value["__metadata__"]["config"] = json_file(inner, rng).decode("utf-8", "replace")
            header = json.dumps(value).encode()
    else:
        header = json_file(header, rng, other)
    if rng.random() < 0.1:
        rest = rest[: int(rng.integers(0, len(rest) + 1))]
    length = len(header) if rng.random() < 0.95 else NUMBERS[int(rng.integers(0, 25))] % (1 << 64)
    return struct.pack("<Q", length) + header + rest


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def protobuf(data: bytes, rng: Rng, other: bytes = b"", depth: int = 0) -> bytes:
    """Damage one field of a protobuf message, at any depth, and fix the lengths around it."""
    fields: list[tuple[int, int, bytes]] = []  # (tag, wire type, content)
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128 or shift > 63:
                return value

    try:
        while at < len(data):
            tag = varint()
            wire = tag & 7
            if wire == 0:
                fields.append((tag, wire, _varint(varint())))
            elif wire in (1, 5):
                width = 8 if wire == 1 else 4
                fields.append((tag, wire, data[at : at + width]))
                at += width
            elif wire == 2:
                size = varint()
                if at + size > len(data):
                    raise IndexError
                fields.append((tag, wire, data[at : at + size]))
                at += size
            else:
                raise IndexError
    except IndexError:
        return havoc(data, rng, other, 2)
    if not fields or tag == 0:
        return havoc(data, rng, other, 2)
    index = int(rng.integers(0, len(fields)))
    tag, wire, content = fields[index]
    choice = rng.random()
    if wire == 2 and depth < 8 and choice < 0.8:
        content = protobuf(content, rng, other, depth + 1)
    elif wire == 0 and choice < 0.8:
        content = _varint(NUMBERS[int(rng.integers(0, len(NUMBERS)))] % (1 << 64))
    elif choice < 0.85:
        tag = tag & 7 | int(rng.integers(1, 30)) << 3
    elif choice < 0.9:
        fields.append(fields[index])
    elif choice < 0.95:
        fields.pop(index)
        index = -1
    else:
        content = havoc(content, rng, other, 2)
    if index >= 0:
        fields[index] = tag, wire, content
    out = bytearray()
    for tag, wire, content in fields:
        out += _varint(tag) + (_varint(len(content)) if wire == 2 else b"") + content
    return bytes(out)


def boxes(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage an MP4's header box rather than its pictures."""
    at = data.find(b"moov")
    if at < 0 or rng.random() < 0.3:
        return havoc(data, rng, other)
    return data[: at - 4] + havoc(data[at - 4 :], rng, other, 4)


def torch_file(data: bytes, rng: Rng, other: bytes = b"") -> bytes:
    """Damage a PyTorch file of either form."""
    if data[:2] == b"PK":
        return zipped(data, rng, other)
    file, parts = io.BytesIO(data), []
    for _ in range(5):  # magic number, protocol, system, content, keys
        start = file.tell()
        try:
            list(pickletools.genops(file))
        except Exception:
            return havoc(data, rng, other)
        parts.append(data[start : file.tell()])
    at = int(rng.choice([0, 1, 2, 3, 3, 3, 3, 4]))
    parts[at] = pickle_or_bytes(parts[at], rng, other)
    return b"".join(parts) + data[file.tell() :]


MUTATORS: dict[str, Callable[..., bytes]] = {
    "boxes": boxes, "havoc": havoc, "jpeg": jpeg, "json": json_file, "matlab": matlab, "npy": npy,
    "png": png, "protobuf": protobuf, "safetensors": safetensors, "text": text,
    "torch": torch_file, "zip": zipped,
}  # fmt: skip


def mutate(kind: str, seeds: list[bytes], rng: Rng) -> bytes:
    """A damaged file of a kind, made of one of the seeds (and at times of parts of another)."""
    data, other = (seeds[int(rng.integers(0, len(seeds)))] for _ in range(2))
    if rng.random() < 0.33:
        return havoc(data, rng, other)
    try:
        return MUTATORS[kind](data, rng, other)
    except Exception:
        return havoc(data, rng, other)  # it was damaged beyond what the damage understands
