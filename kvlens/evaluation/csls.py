"""CSLS: cross-domain similarity local scaling, which takes from hubs what makes them hubs.

Conneau et al. 2018, "Word Translation Without Parallel Data" (arXiv:1710.04087), Section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

NEIGHBOURS = 10  # K, the paper's
QUERIES_AT_A_TIME = 256
DOCUMENTS_AT_A_TIME = 50_000

Means = Float[Tensor, "_"]
Similarity = Callable[[Any, Any], Any]
Found = tuple[list[list[float]], list[list[int]]]  # scores and rows of each query's documents


def nearness(cosines: Float[Tensor, "n others"]) -> Means:
    """The mean cosine of each row's vector with its 10 nearest neighbours on the other side.

    The paper's r; with fewer than 10 on the other side, of all.
    """
    k = min(NEIGHBOURS, cosines.shape[1])
    return cosines.topk(k, dim=1).values.mean(1)


class CSLSIndex:
    """What `mteb.models.SearchEncoderWrapper` ranks by: CSLS in place of the cosine.

    ``CSLS(q, d) = 2 cos(q, d) - r(q) - r(d)``: r(q) over the documents of the corpus, r(d) over all
    the queries that are asked. So a ranking depends on the other queries, too.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the documents."""
        self._documents = torch.zeros(0, 0)
        self._row_of: dict[str, int] = {}

    def add_documents(self, embeddings: Any, idxs: Sequence[str]) -> None:
        """Take the documents of a corpus.

        Args:
            embeddings: ``[n, d]``.
            idxs: Their ids.
        """
        self._documents = torch.as_tensor(embeddings)
        self._row_of = {name: row for row, name in enumerate(idxs)}

    def search(
        self,
        embeddings: Any,
        top_k: int,
        similarity_fn: Similarity,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> Found:
        """The documents of each query with the highest CSLS.

        Args:
            embeddings: ``[n_queries, d]``.
            top_k: How many.
            similarity_fn: The cosine.
            top_ranked: Query id -> ids of the documents that are ranked for it; None: all.
            query_idx_to_id: Row of a query -> its id.

        Returns:
            Scores and rows, the highest first: rows among all documents, or among those that
            are ranked for the query.
        """
        queries = torch.as_tensor(embeddings)
        near_queries = self._nearness_of_documents(queries, similarity_fn)
        found: Found = ([], [])
        for start in range(0, len(queries), QUERIES_AT_A_TIME):
            block = queries[start : start + QUERIES_AT_A_TIME]
            cosines = torch.as_tensor(similarity_fn(block, self._documents))
            scores = 2 * cosines - nearness(cosines)[:, None] - near_queries
            for i, row in enumerate(scores, start):
                if top_ranked is not None and query_idx_to_id is not None:
                    names = top_ranked.get(query_idx_to_id[i], ())
                    row = row[[self._row_of[name] for name in names]]
                best = row.topk(min(top_k, len(row)))
                found[0].append(best.values.tolist())
                found[1].append(best.indices.tolist())
        return found

    def _nearness_of_documents(
        self, queries: Float[Tensor, "n d"], similarity_fn: Similarity
    ) -> Means:
        blocks = self._documents.split(DOCUMENTS_AT_A_TIME)
        cosines = (torch.as_tensor(similarity_fn(block, queries)) for block in blocks)
        return torch.cat([nearness(each) for each in cosines])
