"""Points of known structure, and texts that embed differently."""

import numpy as np

N = 60
WORDS = ("river", "stone", "light", "music", "paper", "cloud")
LINES = [f"{WORDS[i % 6]} {'and ' * (i % 5)}{WORDS[i // 10]} {i}" for i in range(N)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def with_singular_values(n, d, values, seed=0):
    """Rows off the origin whose centred matrix has exactly these singular values."""
    left = normal(n, len(values), seed=seed)
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(normal(d, len(values), seed=seed + 1))[0]
    return left * values @ right.T + normal(d, seed=seed + 2)


def cloud(n, d, seed=0):
    """Points around an offset, with axes of different lengths."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.geomspace(0.3, 3, d) + rng.normal(size=d)


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(d, d)))[0]


def unit(x):
    return x / np.linalg.norm(x)
