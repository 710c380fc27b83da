"""What a client knows of tools: its own registry's, and those that other clients registered with the coordinator."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from aiecs_ray import keys
from aiecs_ray.errors import InvalidToolError, OperationNotFoundError, ToolNotFoundError, UncacheableValueError
from aiecs_ray.messages import ToolSpec
from aiecs_ray.quoting import nearest
from aiecs_ray.shipping import ship

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.definition import OperationDef, ToolDef
    from aiecs_ray.registry import Registry


@dataclasses.dataclass(frozen=True, slots=True)
class OperationInfo:
    """What a client must know of an operation to request it; plain values."""

    name: str
    is_async: bool
    parameters: tuple[str, ...]
    names: frozenset[str]
    """The same, for look-ups."""
    required: frozenset[str]
    accepts_any: bool
    unknown_params: str
    options: Mapping[str, Any]
    doc: str = ""
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_NOT_OF_REPLICAS = ("rate", "burst", "max_concurrency", "breaker")
_NOT_OF_RESULTS = ("config", "excludes", "nsight", "rocprof-sys")
"""Parts of a runtime_env that say how it is made and looked at; all others say what a tool finds when it runs."""


class Catalog:
    """Finds the tool behind a name.

    Args:
        registry: the tools of this process.
        runtime_env: what is sent along with them.
        remote: asks the coordinator which tools there are; ``"tools"`` whole, ``"tool_keys"`` by name.
        upload: puts the local files of a runtime_env where replicas find them.
    """

    def __init__(
        self,
        registry: Registry,
        runtime_env: Mapping[str, Any] | None,
        remote: Callable[[Literal["tools", "tool_keys"]], Any],
        upload: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self.registry = registry
        self.runtime_env = dict(runtime_env or {})
        self._ask = remote
        self._upload = upload
        self._local: dict[str, tuple[ToolDef, ToolSpec, dict[str, OperationInfo]]] = {}
        self._remote: dict[str, tuple[ToolSpec, dict[str, OperationInfo]]] = {}

    def find(self, tool: str, operation: str) -> tuple[ToolSpec, OperationInfo]:
        """Return the tool and what is known of its operation.

        Raises:
            ToolNotFoundError: nobody registered a tool of that name.
            OperationNotFoundError: it has no such operation.
            InvalidToolError: the tool cannot be sent to its replicas.
        """
        spec, operations = self.tool(tool)
        info = operations.get(operation)
        if info is None:
            raise OperationNotFoundError(operation, tool, nearest(operation, operations))
        return spec, info

    def tool(self, name: str) -> tuple[ToolSpec, dict[str, OperationInfo]]:
        """Return a tool and its operations."""
        if self.registry.has(name):
            definition = self.registry.get(name)
            known = self._local.get(name)
            if known is None or known[0] is not definition:
                spec = to_spec(definition, self.runtime_env, self._upload)
                known = self._local[name] = (definition, spec, _infos(spec))
            return known[1], known[2]
        # Its owner may have changed it since, or taken it away: changed code never runs as the old.
        present = self._ask("tool_keys")
        if name in present and (name not in self._remote or self._remote[name][0].key != present[name]):
            self._remote = {spec.name: (spec, _infos(spec)) for spec in self._ask("tools")}
        if name not in present or name not in self._remote:
            raise ToolNotFoundError(name, "", nearest(name, (*self.registry.names(), *present)))
        return self._remote[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all tools, this process's and those of others, sorted."""
        return tuple(sorted({*self.registry.names(), *self._ask("tool_keys")}))

    def owns(self, tool: ToolSpec) -> bool:
        """Whether this process registered a tool, and did not only find it with the coordinator."""
        known = self._local.get(tool.name)
        return known is not None and known[1].key == tool.key


def to_spec(
    definition: ToolDef, runtime_env: Mapping[str, Any], upload: Callable[[dict[str, Any]], dict[str, Any]]
) -> ToolSpec:
    """Return what the coordinator needs of a tool.

    Raises:
        InvalidToolError: the class cannot be sent, or its options cannot be part of a key.
    """
    options = {field.name: getattr(definition.options, field.name) for field in dataclasses.fields(definition.options)}
    options = {name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    environment = _merged(runtime_env, definition.options.runtime_env or {})
    options["runtime_env"] = upload(environment) if environment else None
    source = ship(definition.cls, runtime_env=environment or None)
    # What it says of limits is enforced elsewhere: another one needs no other replicas.
    lasting = {name: value for name, value in options.items() if name not in _NOT_OF_REPLICAS}
    try:
        identity = keys.digest(lasting)
        config, found = _short(options["config"]), _short(_of_results(options["runtime_env"]))
    except UncacheableValueError as error:
        text = f"tool {definition.name!r}: its config and runtime_env must be plain values: {error}"
        raise InvalidToolError(text) from error
    place = source if isinstance(source, str) else definition.cls.__qualname__
    short = hashlib.sha256(identity + place.encode()).hexdigest()[:8]
    key = f"{definition.name}@{definition.version[:16]}-{short}"
    operations = tuple(_describe(operation) for operation in definition.operations.values())
    return ToolSpec(
        key,
        definition.name,
        source,
        definition.version,
        options,
        operations,
        definition.has_async,
        config=config,
        environment=found,
    )


def _short(value: Mapping[str, Any] | None) -> str:
    """Return what stands for a setting in cache keys: half a digest, and nothing for no setting."""
    return keys.digest(value).hex()[:32] if value else ""


def _of_results(environment: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (environment or {}).items() if name not in _NOT_OF_RESULTS}


def _merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**common, **own}
    if "env_vars" in common and "env_vars" in own:
        # As Ray merges them: variable by variable.
        merged["env_vars"] = {**common["env_vars"], **own["env_vars"]}
    return merged


def _describe(operation: OperationDef) -> dict[str, Any]:
    options = {field.name: getattr(operation.options, field.name) for field in dataclasses.fields(operation.options)}
    options["fingerprint"] = dict(options["fingerprint"])
    if callable(options["ttl"]):
        # It is the tool's own code, which runs in its replicas only.
        options["ttl"] = None
    return {
        "name": operation.name,
        "is_async": operation.is_async,
        "parameters": tuple(parameter.name for parameter in operation.parameters),
        "required": operation.required,
        "accepts_any": operation.accepts_any,
        "options": options,
        "doc": operation.doc,
        "schema": dict(operation.schema),
    }


def _infos(spec: ToolSpec) -> dict[str, OperationInfo]:
    unknown = str(spec.options.get("unknown_params", "drop"))
    return {
        entry["name"]: OperationInfo(
            name=entry["name"],
            is_async=entry["is_async"],
            parameters=tuple(entry["parameters"]),
            names=frozenset(entry["parameters"]),
            required=frozenset(entry["required"]),
            accepts_any=entry["accepts_any"],
            unknown_params=unknown,
            options=entry["options"],
            doc=entry["doc"],
            schema=entry["schema"],
        )
        for entry in spec.operations
    }
