"""Vectors of a LangGraph store: which texts of an item they stand for, how they lie, how near.

A vector is kept as its numbers in four bytes each (IEEE 754, little-endian), which is as exact as
embedding models are. Nearness is the cosine of the angle between two.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from operator import mul
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from langgraph.store.base import ensure_embeddings, get_text_at_path, tokenize_path

from statecore.errors import InputError
from statecore.integrations.langgraph.keys import Place

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langgraph.store.base import IndexConfig, PutOp

Vector: TypeAlias = Sequence[float]

_WHOLE: Final = "$"
_NUMBER_BYTES: Final = 4


class Embedder(Protocol):
    """Makes vectors of texts, in the way of one face."""

    def documents(self, texts: list[str]) -> Awaitable[list[Vector]]:
        """Return a vector of each text that is kept."""

    def query(self, text: str) -> Awaitable[Vector]:
        """Return the vector of a text that is looked for."""


class BlockingEmbedder:
    """Calls the plain methods of an embedding; none of its coroutines suspends."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    async def documents(self, texts: list[str]) -> list[Vector]:
        return list(self._embeddings.embed_documents(texts))

    async def query(self, text: str) -> Vector:
        vector: Vector = self._embeddings.embed_query(text)
        return vector


class AsyncEmbedder:
    """Awaits the coroutines of an embedding."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    async def documents(self, texts: list[str]) -> list[Vector]:
        return list(await self._embeddings.aembed_documents(texts))

    async def query(self, text: str) -> Vector:
        vector: Vector = await self._embeddings.aembed_query(text)
        return vector


class Index:
    """What of each item is embedded, and how."""

    def __init__(self, config: IndexConfig) -> None:
        dims = config.get("dims")
        if type(dims) is not int or dims < 1:
            raise InputError(f"the index needs dims, how many numbers a vector has, not {dims!r}")
        if config.get("embed") is None:
            raise InputError("the index needs embed, which makes vectors of texts")
        self._layout = struct.Struct(f"<{dims}f")
        self._fields = list(config.get("fields") or [_WHOLE])
        self.embeddings: Embeddings = ensure_embeddings(config["embed"])

    async def of_items(
        self, puts: Iterable[PutOp], embedder: Embedder
    ) -> dict[Place, dict[str, bytes]]:
        """Return the packed vectors of the items that are put, by what they stand for.

        Each text is embedded once, all in one call.

        Raises:
            InputError: the embedder returned something else than a vector for each text.
        """
        texts = {(op.namespace, op.key): self._texts(op) for op in puts}
        every = list(dict.fromkeys(text for some in texts.values() for text in some.values()))
        if not every:
            return {}
        vectors = await embedder.documents(every)
        if len(vectors) != len(every):
            raise InputError(f"{len(every)} texts were embedded as {len(vectors)} vectors")
        packed = dict(zip(every, map(self._pack, vectors), strict=True))
        return {
            place: {name: packed[text] for name, text in some.items()}
            for place, some in texts.items()
            if some
        }

    def _texts(self, op: PutOp) -> dict[str, str]:
        """Return the texts of an item to embed, by the field they come from."""
        if op.value is None or op.index is False:
            return {}
        texts: dict[str, str] = {}
        for field in self._fields if op.index is None else op.index:
            found = get_text_at_path(op.value, field if field == _WHOLE else tokenize_path(field))
            several = len(found) > 1
            texts |= {f"{field}.{at}" if several else field: text for at, text in enumerate(found)}
        return texts

    async def of_query(self, text: str, embedder: Embedder) -> bytes:
        """Return the packed vector of a text that is looked for."""
        return self._pack(await embedder.query(text))

    def _pack(self, vector: Vector) -> bytes:
        try:
            numbers = [float(number) for number in vector]
            packed = self._layout.pack(*numbers)
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            dims = self._layout.size // _NUMBER_BYTES
            raise InputError(f"the embedder did not return {dims} numbers") from error
        if not all(map(math.isfinite, numbers)):
            raise InputError("the embedder returned a vector with infinity or NaN in it")
        return packed


def best_scores(query: bytes, items: Sequence[Mapping[str, bytes]]) -> list[float | None]:
    """Return, for each item's vectors, how near the nearest of them is: from -1 to 1.

    ``None`` where it has none of the query's length: none at all, or of another model.
    """
    comparable = [[v for v in vectors.values() if len(v) == len(query)] for vectors in items]
    scores = iter(cosines(query, [vector for vectors in comparable for vector in vectors]))
    return [max((next(scores) for _ in vectors), default=None) for vectors in comparable]


def cosines(query: bytes, vectors: Sequence[bytes]) -> list[float]:
    """Return the cosine of the angle to each vector, all of one length; 0 where one has none."""
    if not vectors:
        return []
    np = _numpy()
    return _cosines(query, vectors) if np is None else _cosines_by_numpy(np, query, vectors)


@cache
def _numpy() -> Any:
    """Return numpy, where it is installed; it is loaded by the first search that needs it."""
    return import_module("numpy") if find_spec("numpy") else None


def _cosines(query: bytes, vectors: Sequence[bytes]) -> list[float]:
    layout = struct.Struct(f"<{len(query) // _NUMBER_BYTES}f")
    mine = layout.unpack(query)
    length = math.hypot(*mine)
    cosines = []
    for vector in vectors:
        theirs = layout.unpack(vector)
        both = length * math.hypot(*theirs)
        cosines.append(math.fsum(map(mul, mine, theirs)) / both if both else 0.0)
    return cosines


def _cosines_by_numpy(np: Any, query: bytes, vectors: Sequence[bytes]) -> list[float]:
    mine = np.frombuffer(query, "<f4").astype("f8")
    theirs = np.frombuffer(b"".join(vectors), "<f4").astype("f8").reshape(len(vectors), -1)
    both = np.linalg.norm(theirs, axis=1) * np.linalg.norm(mine)
    products = theirs @ mine
    cosines: list[float] = np.divide(
        products, both, out=np.zeros_like(products), where=both != 0
    ).tolist()
    return cosines
