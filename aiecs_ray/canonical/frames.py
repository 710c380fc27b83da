"""numpy arrays, pandas frames and pyarrow tables, taken apart: types, shape or labels, and content.

None of the three is imported: a value of theirs exists only where its library was imported already. A class counts as
theirs when the library itself offers it under its name, so neither a subclass nor a class that poses as one does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from aiecs_ray.canonical.arrow import arrow_parts
from aiecs_ray.canonical.parts import Parts, Raw, UnencodableError, class_name, module_of, mro_of

if TYPE_CHECKING:
    from collections.abc import Callable

_RAW_KINDS = frozenset("biufcSUVmM")
_OBJECT_KINDS = frozenset("OT")
_EXTENDED_MANTISSA = 63
_EXTENDED_BYTES = 10
_WIDEST_DOUBLE = 8


def frame_parts(value: Any, kind: type) -> Parts | None:
    """Return the parts of a value of numpy, pandas or pyarrow, or None where ``value`` is none of theirs."""
    package = module_of(kind).partition(".")[0]
    library: Any = sys.modules.get(package)
    reader = _LIBRARIES.get(package)
    if library is None or reader is None:
        return None
    try:
        return reader(value, kind, library)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise UnencodableError(
            value, f"{package} {library.__version__} does not show its content: {type(error).__name__}"
        ) from error


def _is_offered(kind: type, *spaces: Any) -> bool:
    return any(vars(space).get(type.__dict__["__name__"].__get__(kind)) is kind for space in spaces)


def _numpy_parts(value: Any, kind: type, np: Any) -> Parts | None:
    if kind is np.ndarray:
        return Parts("ndarray", [("", _dtype(value, value.dtype)), ("", value.shape), ("", _content(value, np))])
    if np.generic in mro_of(kind) and _is_offered(kind, np):
        return Parts("numpy scalar", [("", np.asarray(value))])
    return None


def _dtype(array: Any, dtype: Any) -> tuple[object, ...]:
    """Return all that tells two dtypes apart."""
    if dtype.kind not in _RAW_KINDS | _OBJECT_KINDS or (dtype.kind != "T" and module_of(dtype.type) != "numpy"):
        raise UnencodableError(array, f"its dtype {class_name(dtype.type)} is not one of numpy's own")
    metadata = None if dtype.metadata is None else dict(dtype.metadata)
    missing = ("na", dtype.na_object) if hasattr(dtype, "na_object") else ()
    fields = tuple((name, *dtype.fields[name][1:]) for name in dtype.names or ())
    return (dtype.str, dtype.itemsize, metadata, missing, dtype.isalignedstruct, fields)


def _content(array: Any, np: Any) -> object:
    dtype = array.dtype
    if dtype.names is not None:  # field by field: the bytes between fields are arbitrary
        return tuple(array[name] for name in dtype.names)
    if dtype.kind in _OBJECT_KINDS:
        return array.ravel().tolist()
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.nbytes == 0:
        return Raw(())
    memory = flat.view(np.uint8)
    width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    if dtype.kind in "fc" and width > _WIDEST_DOUBLE and np.finfo(np.longdouble).nmant == _EXTENDED_MANTISSA:
        memory = np.ascontiguousarray(memory.reshape(-1, width)[:, :_EXTENDED_BYTES]).reshape(-1)  # the rest is padding
    return Raw((memory.data,))


def _pandas_parts(value: Any, kind: type, pd: Any) -> Parts | None:
    if value is pd.NaT or value is pd.NA:
        return Parts("NaT" if value is pd.NaT else "NA", [])
    if not _is_offered(kind, pd, pd.arrays):
        return None
    name = kind.__name__
    reader = _READERS.get(name, _index if pd.Index in mro_of(kind) else None)
    return None if reader is None else Parts(name, reader(value))


def _frame(frame: Any) -> list[tuple[str, object]]:
    items = [(".columns", frame.columns), *_labels(frame)]
    for position, label in enumerate(frame.columns):
        step = f"[{label!r}]" if type(label) is str else f".iloc[:, {position}]"
        items.append((step, _data(frame.iloc[:, position].array)))
    return items


def _series(series: Any) -> list[tuple[str, object]]:
    return [(".name", series.name), *_labels(series), ("", _data(series.array))]


def _labels(value: Any) -> list[tuple[str, object]]:
    return [(".index", value.index), (".attrs", value.attrs), ("", value.flags.allows_duplicate_labels)]


def _data(array: Any) -> object:
    """Return a column's content: a numpy array where pandas only wraps one."""
    return array.to_numpy() if type(array).__name__ == "NumpyExtensionArray" else array


def _index(index: Any) -> list[tuple[str, object]]:
    return [(".name", index.name), (".freq", _offset(getattr(index, "freq", None))), ("", _data(index.array))]


def _range_index(index: Any) -> list[tuple[str, object]]:
    return [(".name", index.name), ("", (index.start, index.stop, index.step))]


def _multi_index(index: Any) -> list[tuple[str, object]]:
    """Levels that no row uses are part of the value: ``.levels`` shows them."""
    return [(".names", list(index.names)), (".levels", list(index.levels)), ("", list(index.codes))]


def _masked(array: Any) -> list[tuple[str, object]]:
    plain = array.to_numpy(dtype=array.dtype.numpy_dtype, na_value=0)  # what stands under the mask is arbitrary
    return [("", array.dtype.name), ("", array.isna()), ("", plain)]


def _strings(array: Any) -> list[tuple[str, object]]:
    storage = array.dtype.storage
    content = array.__arrow_array__() if storage == "pyarrow" else array.to_numpy(dtype=object)
    return [("", storage), ("", array.dtype.na_value), ("", content)]


def _offset(freq: Any) -> object:
    """Return a frequency as plain values; one of the user's own class is handed back, and has no encoding."""
    if freq is None or not _is_offered(type(freq), sys.modules["pandas"].offsets):
        return freq
    return (type(freq).__name__, freq.n, freq.normalize, freq.kwds)


_READERS: dict[str, Callable[[Any], list[tuple[str, object]]]] = {
    "DataFrame": _frame,
    "Series": _series,
    "RangeIndex": _range_index,
    "MultiIndex": _multi_index,
    "Timestamp": lambda value: [("", value.asm8), ("", value.tz), ("", value.fold)],
    "Timedelta": lambda value: [("", value.asm8)],
    "Period": lambda value: [("", value.ordinal), ("", _offset(value.freq))],
    "Interval": lambda value: [(".left", value.left), (".right", value.right), ("", value.closed)],
    "NumpyExtensionArray": lambda array: [("", array.to_numpy())],
    "Categorical": lambda array: [("", array.ordered), (".categories", array.categories), ("", array.codes)],
    "DatetimeArray": lambda array: [("", array.unit), ("", array.tz), ("", array.asi8)],
    "TimedeltaArray": lambda array: [("", array.unit), ("", array.asi8)],
    "PeriodArray": lambda array: [("", _offset(array.freq)), ("", array.asi8)],
    "IntervalArray": lambda array: [("", array.closed), (".left", array.left), (".right", array.right)],
    "IntegerArray": _masked,
    "FloatingArray": _masked,
    "BooleanArray": _masked,
    "StringArray": _strings,
    "ArrowStringArray": _strings,
    "ArrowExtensionArray": lambda array: [("", array.__arrow_array__())],
}

_LIBRARIES: dict[str, Callable[[Any, type, Any], Parts | None]] = {
    "numpy": _numpy_parts,
    "pandas": _pandas_parts,
    "pyarrow": arrow_parts,
}
