"""Damage to values: well-formed JSON and safetensors files that hold what they must not."""

from __future__ import annotations

import json
import math
import struct
import warnings
from random import Random
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torture.damage_to_bytes import FOREIGN

RAW = "raw-json-"  # starts a string that stands for JSON which no tree can say
RAW_JSON: dict[str, str] = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep object": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "digits": "9" * 5_000,
    "exponent": "1e999999999",
    "minus zero": "-0.0",
    "no value": "",
    "half surrogate": '"\\ud83d"',
    "zero byte": '"\\u0000"',
    "comment": "/* */ 1",
}


def _absurd_value(value: Any, rng: Random) -> Any:
    """What may stand in place of a value of a JSON tree."""
    numbers = (
        math.nan, math.inf, -math.inf, -1, 0, 1, 2, 0.5, -0.5, 1e308, -1e308, 5e-324, 1e5,
        10**6, 2**31, 2**53, 2**63, 10**400, -(10**400), 1e-9, True, False,
    )  # fmt: skip
    words = ("", "x", "\ud800", "\x1b[31m", "line\nline", "\u202e", "x" * 5_000, "1", "NaN", "<b>")
    lists = ([], {}, [[]], [None], [0], [0] * 3, {"x": 1}, ["x"], [1.5])
    huge = (
        [0] * 100_000,
        list(range(30_000)),
        ["x" * 9] * 10_000,
        {str(i): i for i in range(9_999)},
    )
    nearby = (_next_to(value, rng),) * 3
    choice = rng.random()
    if choice < 0.02:
        return rng.choice(huge)
    if choice < 0.08:
        return RAW + rng.choice(list(RAW_JSON))
    return rng.choice((rng.choice(numbers), rng.choice(words), rng.choice(lists), None, *nearby))


def _next_to(value: Any, rng: Random) -> Any:
    """A value of the same type, but another one: what only a check of meaning can find."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 1000))
    if isinstance(value, float):
        return value * rng.choice((-1, 2, 1e6))
    if isinstance(value, str):
        return rng.choice((value + "x", value[1:], value.upper(), value * 2, f" {value}\n"))
    if isinstance(value, list):
        return rng.choice((value[1:], value[:-1], value + value, value[::-1], value + value[:1]))
    if isinstance(value, dict):
        kept = list(value.items())
        rng.shuffle(kept)
        return dict(kept[1:])
    return 0


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    spots: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            spots.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return spots


def _spot(tree: Any, rng: Random) -> tuple[Any, Any]:
    """One of them, half of the time near the root: deep ones are the most."""
    spots = _spots(tree)
    return rng.choice(spots[: rng.choice((len(tree), 40, len(spots)))])


def mutate(tree: Any, rng: Random) -> Any:
    """The tree with one to three values changed, dropped or added; it is changed in place."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        if not isinstance(tree, dict | list) or not tree:
            return _absurd_value(tree, rng)
        container, key = _spot(tree, rng)
        how = rng.random()
        if how < 0.7:
            container[key] = _absurd_value(container[key], rng)
        elif how < 0.8:
            del container[key]
        elif how < 0.9:
            other, place = _spot(tree, rng)
            if other is not container:
                container[key] = json.loads(json.dumps(other[place]))
        elif isinstance(container, dict):
            container[rng.choice(("x", "", "format", f"{key} ", f"{RAW}twice {key}"))] = container[
                key
            ]
        else:
            container.insert(key, container[key])
    return tree


def json_text(tree: Any) -> str:
    """A tree of `mutate` as JSON, what no tree can say put in."""
    text = json.dumps(tree)
    if RAW in text:
        for name, raw in RAW_JSON.items():
            text = text.replace(f'"{RAW}{name}"', raw)
        text = text.replace(f"{RAW}twice ", "")  # a key that is there two times
    return text


def json_damage(good: bytes, rng: Random) -> bytes:
    """A JSON file, or one of the lines of a JSON-lines file, with other values."""
    try:
        return json_text(mutate(json.loads(good), rng)).encode()
    except ValueError:
        lines = good.splitlines()
        i = rng.randrange(len(lines))
        lines[i] = json_text(mutate(json.loads(lines[i]), rng)).encode()
        return b"\n".join(lines) + b"\n"


def unpacked(good: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file."""
    (length,) = struct.unpack("<Q", good[:8])
    metadata = json.loads(good[8 : 8 + length]).get("__metadata__", {})
    return load_tensors(good), metadata


NUMBERS = (math.nan, math.inf, -math.inf, -1, 0, 1e30, 3)


def another_array(array: np.ndarray, rng: Random) -> np.ndarray:
    """An array of another type, shape or content."""
    dtypes = (np.float16, np.float64, np.float32, np.int64, np.int8, np.uint8, bool)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = rng.randrange(10)
        if how <= 1:
            return array.astype(rng.choice(dtypes))
        if how == 2:
            return np.ascontiguousarray(array.T)
        if how == 3:
            return array.reshape(-1)[:1].reshape(rng.choice(((), (1,), (1, 1), (1,) * 8)))
        if how == 4:
            return array[rng.choice((slice(1, None), slice(0, 0), slice(0, 1), slice(None, -1)))]
        if how == 5:
            return array[..., : rng.choice((0, 1, -1))] if array.ndim else array[None]
        if how == 6:
            return np.concatenate([array, array]) if array.ndim else array
        if how == 7:
            return array.reshape(rng.choice(((-1,), (1, *array.shape), (*array.shape, 1))))
        return _with_other_numbers(array, rng)


def _with_other_numbers(array: np.ndarray, rng: Random) -> np.ndarray:
    """The array with one number, or a few, replaced."""
    numbers = (-1, 0, 1, 3, 100) if array.dtype.kind in "iu" else NUMBERS
    changed = np.array(array)
    flat = changed.reshape(-1)
    if flat.size:
        first = rng.randrange(flat.size)
        # As the type holds it: an unsigned -1 is its largest.
        flat[first :: rng.choice((1, 7, flat.size))] = np.array(rng.choice(numbers)).astype(
            array.dtype
        )
    return changed


def tensor_damage(good: bytes, rng: Random) -> bytes:
    """A valid container with other tensors, other metadata, or both."""
    arrays, metadata = unpacked(good)
    how = rng.random()
    if how < 0.5 and arrays:
        _change_an_array(arrays, rng)
    elif metadata:
        _change_metadata(metadata, rng)
    if how > 0.95:
        _change_an_array(arrays, rng)
    return save_tensors(arrays, metadata)


def _change_an_array(arrays: dict[str, np.ndarray], rng: Random) -> None:
    name = rng.choice(sorted(arrays))
    how = rng.randrange(8)
    if how == 0:
        del arrays[name]
    elif how == 1:
        arrays[rng.choice((f"{name}x", "", "x", "__class__", "n_tokens", name[:-1]))] = arrays.pop(
            name
        )
    elif how == 2:
        arrays[rng.choice(("x", f"{name}.0", "pattern.99", "pattern.x"))] = arrays[name]
    elif how == 3:
        other = rng.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    else:
        arrays[name] = another_array(arrays[name], rng)


def _change_metadata(metadata: dict[str, str], rng: Random) -> None:
    key = rng.choice(sorted(metadata))
    how = rng.randrange(12)
    if how == 0:
        del metadata[key]
    elif how == 1:
        metadata[f"{key}x"] = metadata.pop(key)
    elif how == 2:
        metadata[key] = rng.choice(list(FOREIGN.values())).decode("latin-1")
    elif is_json(metadata[key].encode()):
        metadata[key] = json_damage(metadata[key].encode(), rng).decode()
    else:
        metadata[key] = f"{metadata[key]}x"


def header_damage(good: bytes, rng: Random) -> bytes:
    """A container whose own header lies: other types, shapes, offsets, names, lengths."""
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])
    if rng.random() < 0.3:
        _retype(header, rng)
    else:
        header = mutate(header, rng)
    text = json_text(header).encode()
    said = rng.choice((len(text), len(text), len(text) - 1, len(text) + 1, 0, 2**63, 100_000_001))
    return struct.pack("<Q", said) + text + good[8 + length :]


def _retype(header: dict[str, Any], rng: Random) -> None:
    """Say of a tensor that its bytes are of another type, in a shape that fits."""
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    bits, kinds = rng.choice(
        ((8, ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3")), (16, ("BF16", "F16", "I16", "U16")),
         (32, ("I32", "U32", "F32")), (64, ("F64", "I64", "U64", "C64")))
    )  # fmt: skip
    begin, end = entry["data_offsets"]
    entry["dtype"] = rng.choice(kinds)
    if (end - begin) * 8 % bits == 0:
        entry["shape"] = [(end - begin) * 8 // bits]


def is_safetensors(good: bytes) -> bool:
    """Whether these bytes are such a container."""
    try:
        load_tensors(good)
    except (SafetensorError, ValueError):
        return False
    return True


def is_json(good: bytes) -> bool:
    """Whether these bytes are JSON, or lines of JSON."""
    try:
        for line in good.splitlines()[:1] if b"\n{" in good.strip() else (good,):
            json.loads(line)
    except ValueError:
        return False
    return True
