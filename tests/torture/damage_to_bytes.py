"""Damage to bytes: what disks, crashes and transfers do to any file, and files of another kind."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from random import Random

import numpy as np
from safetensors.numpy import save as save_tensors

TRAP = "a-pickle-has-run"  # what the hostile pickle makes

Damage = Callable[[bytes, Random], bytes]


def _place(good: bytes, rng: Random) -> int:
    """A place in the file, half of the time near its head, where formats keep what decides."""
    return rng.randrange(min(len(good), rng.choice((64, len(good)))) or 1)


def _stretch(good: bytes, rng: Random) -> slice:
    start = _place(good, rng)
    return slice(start, min(len(good), start + rng.choice((1, 2, 8, 64, 1024))))


def truncated(good: bytes, rng: Random) -> bytes:
    """An end that was never written."""
    return good[: rng.choice((_place(good, rng), len(good) - 1, len(good) // 2))]


def a_bit(good: bytes, rng: Random) -> bytes:
    """One to three bits that turned."""
    content = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 3))):
        content[_place(good, rng)] ^= 1 << rng.randrange(8)
    return bytes(content)


def some_bytes(good: bytes, rng: Random) -> bytes:
    """A stretch of zeros, of ones, or of noise, as a bad sector has it."""
    region = _stretch(good, rng)
    n = region.stop - region.start
    noise = rng.choice((b"\0" * n, b"\xff" * n, rng.randbytes(n)))
    return good[: region.start] + noise + good[region.stop :]


def swapped(good: bytes, rng: Random) -> bytes:
    """Two stretches that changed places."""
    first, second = sorted((_stretch(good, rng), _stretch(good, rng)), key=lambda s: s.start)
    middle = good[min(first.stop, second.start) : second.start]
    a, b = good[first.start : min(first.stop, second.start)], good[second]
    return good[: first.start] + b + middle + a + good[second.stop :]


def repeated(good: bytes, rng: Random) -> bytes:
    """A stretch, or the whole, twice."""
    region = rng.choice((_stretch(good, rng), slice(0, len(good))))
    return good[: region.stop] + good[region] + good[region.stop :]


def inserted(good: bytes, rng: Random) -> bytes:
    """Bytes that do not belong there: noise, a line end, a byte order mark."""
    place = _place(good, rng)
    stranger = rng.choice(
        (rng.randbytes(rng.randrange(1, 9)), b"\n", b"\r\n", b"\xef\xbb\xbf", b"\0")
    )
    return good[:place] + stranger + good[place:]


def deleted(good: bytes, rng: Random) -> bytes:
    """A stretch that is gone."""
    region = _stretch(good, rng)
    return good[: region.start] + good[region.stop :]


def absurd_numbers(good: bytes, rng: Random) -> bytes:
    """Lengths and offsets of a binary header that are far too large, or negative."""
    place = rng.choice((0, 0, _place(good, rng)))
    width, most = rng.choice((("<I", 2**32 - 1), ("<Q", 2**64 - 1), ("<q", 2**63 - 1)))
    number = struct.pack(
        width, rng.choice((most, most // 2, 0, 1, len(good), len(good) - 8, 2**27))
    )
    return good[:place] + number + good[place + len(number) :]


BYTES: tuple[Damage, ...] = (
    truncated, a_bit, some_bytes, swapped, repeated, inserted, deleted, absurd_numbers,
)  # fmt: skip


class _Trap:
    """Unpickled, it makes the folder `TRAP` in the working folder."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (TRAP,)


FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "a line end": b"\n",
    "a zip": b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18),
    "a pickle": pickle.dumps(_Trap()),
    "an array of objects": b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, "
    b"'shape': (1,), }          \n" + pickle.dumps([_Trap()]),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "a gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "a web page": b"<!DOCTYPE html><html><script>alert(1)</script></html>\n",
    "JSON null": b"null",
    "a JSON number": b"3",
    "a JSON list": b"[]",
    "a JSON object": b"{}",
    "deep JSON": b"[" * 100_000,
    "deep closed JSON": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a long number": b"1" * 100_000,
    "escape codes": b"\x1b[2J\x1b]0;title\x07\r\n" * 10,
    "UTF-16": "{}".encode("utf-16"),
    "lines": b"a,b\n1,2\n" * 100,
    "tensors": save_tensors({"x": np.zeros(3, np.float32)}),
}
