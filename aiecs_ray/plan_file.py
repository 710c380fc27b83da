"""Plans in files: YAML or JSON, checked before anything starts; what is wrong is named by file, line and step."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiecs_ray.errors import AiecsError, PlanFileError
from aiecs_ray.operation import parse_operations
from aiecs_ray.quoting import did_you_mean, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

Place = tuple[str | int, ...]
MAX_BYTES = 64 * 2**20
"""A larger plan file is refused."""
MAX_PLACES = 5_000_000
_INPUT = re.compile(r"\$input\.([A-Za-z_][A-Za-z0-9_]{0,127})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
Seconds = Annotated[float, Field(gt=0, le=315_360_000, allow_inf_nan=False)]


class OperationEntry(BaseModel):
    """One operation of a plan."""

    model_config = ConfigDict(extra="forbid")

    operation: str = Field(description='"tool_name.operation_name"')
    params: dict[str, Any] = Field(default_factory=dict, description='$result[0].x, $result["id"].x and $input.name')
    id: str | None = Field(None, description="a name for references: letters, digits, _ - .")
    depends_on: list[int | str] | int | str = Field(
        default_factory=list, description="steps that must have ended well before, by index or id"
    )
    timeout: Seconds | None = Field(None, description="seconds for each attempt")
    deadline: Seconds | None = Field(None, description="seconds for all attempts together")
    retry: int | str | dict[str, Any] | None = Field(None, description="attempts, the name of a profile, or its fields")
    cache: Literal["on", "off", "refresh", "only"] | bool | None = None
    priority: int = Field(0, ge=-10, le=10)


class PlanContext(BaseModel):
    """Whose work it is; in a context, results are cached."""

    model_config = ConfigDict(extra="forbid")

    user_id: str | None = None
    task_id: str | None = None


class PlanDocument(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", title="aiecs-ray plan")

    operations: list[OperationEntry]
    mode: Literal["sequence", "parallel", "batch"] = "sequence"
    context: PlanContext = Field(default_factory=PlanContext)
    tools: list[str] = Field(default_factory=list, description='what to import: "package.module" or "module:Class"')
    inputs: dict[str, Any] = Field(
        default_factory=dict, description="names and defaults of what $input.name stands for; null must be given"
    )
    keep: Literal["all", "last"] | list[int | str] = "all"
    deadline: Seconds | None = Field(None, description="seconds for the whole run")
    stop_on_failure: bool = False


class PlanFile:
    """A plan as its file has it.

    Args:
        name: of the file, for messages.
        content: what is in it.
        lines: the line on which each place of the content stands, from 1 on.
    """

    def __init__(self, name: str, content: Mapping[str, Any], lines: Mapping[Place, int]) -> None:
        self.name = name
        self._lines = lines
        self._content = content
        self.document = self._checked(content)

    def operations(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the operations with every ``$input.name`` replaced: by what is given, or its default.

        Raises:
            PlanFileError: an input is unknown or missing.
        """
        declared = self.document.inputs
        for name in given:
            if name not in declared:
                text = f"the plan has no input {shorten(name)!r}; it has {', '.join(declared) or 'none'}"
                raise PlanFileError(self.name, self._line(("inputs",)), None, text)
        values = {**declared, **given}
        operations = []
        for index, operation in enumerate(self._content["operations"]):
            params = operation.get("params") or {}
            filled = self._fill(params, values, ("operations", index, "params"))
            operations.append({**operation, "params": filled})
        return operations

    def check(self, operations: list[dict[str, Any]]) -> None:
        """Check the operations, without knowing their tools.

        Raises:
            PlanFileError: one is wrong.
        """
        try:
            parse_operations(operations)
        except AiecsError as error:
            raise self.located(error) from error

    def located(self, error: AiecsError) -> PlanFileError:
        """Return an error of one operation as one of this file."""
        place: Place = ("operations",) if error.index is None else ("operations", error.index)
        return PlanFileError(self.name, self._line(place), error.index, str(error))

    def _fill(self, value: Any, values: Mapping[str, Any], place: Place) -> Any:
        if isinstance(value, dict):
            return {name: self._fill(part, values, (*place, name)) for name, part in value.items()}
        if isinstance(value, list):
            return [self._fill(part, values, (*place, index)) for index, part in enumerate(value)]
        if not isinstance(value, str):
            return value
        if value.startswith("$$input."):
            return value[1:]
        if not value.startswith("$input"):
            return value
        match = _INPUT.fullmatch(value)
        if match is None:
            raise self._wrong(place, f"{shorten(value)!r} is no input; write $input.name, or $$input... for the text")
        if match[1] not in values:
            raise self._wrong(
                place, f"$input.{match[1]} is not among the inputs: {', '.join(values) or 'there are none'}"
            )
        if values[match[1]] is None:
            raise self._wrong(place, f"the input {match[1]!r} has no default: give it with --param {match[1]}=...")
        return values[match[1]]

    def _checked(self, content: Any) -> PlanDocument:
        if not isinstance(content, dict):
            raise PlanFileError(self.name, 1, None, f"a plan is a mapping with 'operations', not {shorten(content)}")
        try:
            document = PlanDocument.model_validate(content, strict=False)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            known = PlanDocument.model_fields if len(first["loc"]) == 1 else OperationEntry.model_fields
            raise self._wrong(tuple(first["loc"]), _explained(first, tuple(known))) from None
        for name in document.inputs:
            if _NAME.fullmatch(name) is None:
                raise self._wrong(("inputs", name), f"{shorten(name)!r} is no name of an input")
        return document

    def _wrong(self, place: Place, problem: str) -> PlanFileError:
        step = place[1] if len(place) > 1 and place[0] == "operations" and isinstance(place[1], int) else None
        return PlanFileError(self.name, self._line(place), step, problem)

    def _line(self, place: Place) -> int | None:
        while place not in self._lines and place:
            place = place[:-1]
        return self._lines.get(place)


def load_plan(path: str | Path) -> PlanFile:
    """Return the plan in a file: JSON if its name ends in ``.json``, else YAML.

    Raises:
        PlanFileError: the file cannot be read, or is no plan; the message says where and why.
    """
    name = str(path)
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise PlanFileError(name, None, None, f"it is larger than {MAX_BYTES} bytes")
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise PlanFileError(name, None, None, f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlanFileError(name, None, None, f"it is no UTF-8: {error.reason}") from error
    return parse_plan(text, name)


def parse_plan(text: str, name: str = "plan.yaml") -> PlanFile:
    """Return the plan that a text holds.

    >>> plan = parse_plan("{inputs: {word: tea}, operations: [{operation: text.upper, params: {text: $input.word}}]}")
    >>> plan.operations({})[0]["params"]
    {'text': 'tea'}
    """
    lines: dict[Place, int] = {}
    try:
        if name.endswith(".json"):
            content = json.loads(text)
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None:
            _number(node, (), lines, name)
        if not name.endswith(".json"):
            content = yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise PlanFileError(name, error.lineno, None, f"it is no JSON: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise PlanFileError(name, line, None, f"it is no YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanFileError(name, None, None, f"it cannot be read: {shorten(str(error), 200)}") from error
    return PlanFile(name, content, lines)


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **PlanDocument.model_json_schema()}


def _number(node: yaml.Node, place: Place, lines: dict[Place, int], name: str) -> None:
    lines[place] = node.start_mark.line + 1
    if len(lines) > MAX_PLACES:
        # Few aliases can stand for more than any memory holds.
        raise ValueError(f"it has more than {MAX_PLACES} values")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise PlanFileError(
                    name, key.start_mark.line + 1, None, f"{shorten(str(key.value))!r} stands there twice"
                )
            seen.add(key.value)
            _number(value, (*place, key.value), lines, name)
            lines[*place, key.value] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _number(value, (*place, index), lines, name)


def _explained(error: Mapping[str, Any], known: tuple[str, ...]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        near = [one for one in known if one.startswith(name[:3])][:1]
        return f"there is no {shorten(name)!r}{did_you_mean(near)}; there are {', '.join(known)}"
    return f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}"
