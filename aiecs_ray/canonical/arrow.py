"""pyarrow arrays, batches and tables, taken apart by value.

Where an array starts in its buffers, how a column is cut into chunks, and the bytes under a null are no part of the
value: only the valid values are read, beside a byte for each place that says whether it is null.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from aiecs_ray.canonical.parts import Parts, Raw, UnencodableError, mro_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_BITS = 8


def arrow_parts(value: Any, kind: type, pa: Any) -> Parts | None:
    """Return the parts of an ``Array``, ``ChunkedArray``, ``RecordBatch`` or ``Table``, or None."""
    if vars(pa.lib).get(type.__dict__["__name__"].__get__(kind)) is not kind:
        return None
    if kind in (pa.Table, pa.RecordBatch):
        columns = [_chunks(column, pa) for column in value.columns]
        items: list[tuple[str, object]] = [("", value.num_rows), ("", _schema(value.schema))]
        for field, chunks in zip(value.schema, columns, strict=True):
            items.append((f"[{field.name!r}]", _column(field.type, chunks, pa)))
        return Parts(kind.__name__, items)
    if kind is pa.ChunkedArray or pa.Array in mro_of(kind):
        name = "ChunkedArray" if kind is pa.ChunkedArray else "Array"
        return Parts(name, [("", str(value.type)), ("", _column(value.type, _chunks(value, pa), pa))])
    return None


def _chunks(column: Any, pa: Any) -> list[Any]:
    if type(column) is not pa.ChunkedArray:
        return [column]
    return list(column.unify_dictionaries().chunks)


def _schema(schema: Any) -> tuple[object, ...]:
    fields = tuple((field.name, str(field.type), field.nullable, field.metadata) for field in schema)
    return (fields, schema.metadata)


def _column(kind: Any, chunks: Sequence[Any], pa: Any) -> object:
    """Return the content of an array that is cut into ``chunks``: how many, which are null, and the values."""
    length = sum(map(len, chunks))
    nulls = None
    if any(chunk.null_count for chunk in chunks):
        nulls = Raw([_fixed(chunk.is_null().cast(pa.uint8()), 1) for chunk in chunks])
    valid = [chunk.drop_null() if chunk.null_count else chunk for chunk in chunks]
    return (length, nulls, *_values(kind, valid, pa))


def _values(kind: Any, chunks: Sequence[Any], pa: Any) -> tuple[object, ...]:
    is_a = pa.types
    if is_a.is_null(kind):
        return ()
    if is_a.is_boolean(kind):
        return (Raw([_fixed(chunk.cast(pa.uint8()), 1) for chunk in chunks]),)
    if is_a.is_primitive(kind) or is_a.is_decimal(kind) or is_a.is_fixed_size_binary(kind):
        return (Raw([_fixed(chunk, kind.bit_width // _BITS) for chunk in chunks]),)
    if is_a.is_string(kind) or is_a.is_binary(kind):
        return _texts(chunks, "i")
    if is_a.is_large_string(kind) or is_a.is_large_binary(kind):
        return _texts(chunks, "q")
    return _nested(kind, chunks, pa)


def _nested(kind: Any, chunks: Sequence[Any], pa: Any) -> tuple[object, ...]:
    is_a = pa.types
    if is_a.is_dictionary(kind):
        words = [chunk.dictionary for chunk in chunks[:1]]
        if not all(chunk.dictionary.equals(words[0]) for chunk in chunks):
            raise UnencodableError(kind, "its chunks have different dictionaries")
        indices = [chunk.indices for chunk in chunks]
        return (_column(kind.index_type, indices, pa), _column(kind.value_type, words, pa))
    if is_a.is_struct(kind):
        names = tuple((field.name, field.nullable, str(field.type), field.metadata) for field in kind)
        columns = list(zip(*(chunk.flatten() for chunk in chunks), strict=True)) or [()] * len(names)
        return (names, *(_column(field.type, column, pa) for field, column in zip(kind, columns, strict=True)))
    if is_a.is_list(kind) or is_a.is_large_list(kind) or is_a.is_fixed_size_list(kind):
        lengths = [chunk.value_lengths().cast(pa.int64()) for chunk in chunks]
        field = (kind.value_field.name, kind.value_field.nullable, kind.value_field.metadata)
        items = [chunk.flatten() for chunk in chunks]
        return (field, _column(pa.int64(), lengths, pa), _column(kind.value_type, items, pa))
    raise UnencodableError(kind, f"arrow type {kind} has no exact encoding")


def _fixed(array: Any, width: int) -> memoryview | bytes:
    """Return the bytes of an array whose values are ``width`` bytes wide and not null."""
    memory = array.buffers()[1]
    if memory is None or not len(array):
        return b""
    return memoryview(memory)[array.offset * width : (array.offset + len(array)) * width]


def _texts(chunks: Sequence[Any], offset_format: Literal["i", "q"]) -> tuple[object, ...]:
    """Return the lengths and the bytes of arrays of strings that are not null."""
    lengths = array("q")
    texts: list[memoryview] = []
    for chunk in chunks:
        if not len(chunk):
            continue
        _, offsets, content = chunk.buffers()
        ends = memoryview(offsets).cast(offset_format)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        lengths.extend(end - start for start, end in pairwise(ends))
        if content is not None:
            texts.append(memoryview(content)[ends[0] : ends[-1]])
    return (Raw([memoryview(lengths).cast("B")]), Raw(texts))
