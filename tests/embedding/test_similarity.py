"""Similarity: the cosine, whatever form vectors have."""

import numpy as np
import torch


def test_similarity_is_the_cosine(encoder):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 6)).astype(np.float32)
    b = rng.normal(size=(3, 6)).astype(np.float32)
    cosine = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    for left, right in (
        (a, b),
        (torch.from_numpy(a), b),
        (list(torch.from_numpy(a)), torch.from_numpy(b)),
    ):
        similarity = encoder.similarity(left, right)
        assert isinstance(similarity, torch.Tensor)
        np.testing.assert_allclose(similarity, cosine, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity(a[0], b), cosine[:1], atol=1e-6)
    np.testing.assert_allclose(
        encoder.similarity_pairwise(a[:3], b), np.diag(cosine[:3]), atol=1e-6
    )
    assert not encoder.similarity(np.zeros(6), b).isnan().any()
