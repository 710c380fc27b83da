"""aiecs-ray: tools as Ray actors, plans as data, results cached for the whole cluster."""

from aiecs_ray.connecting import connect
from aiecs_ray.context import Context
from aiecs_ray.engine import ContextExecutor, ExecutionEngine
from aiecs_ray.execution_utils import ExecutionUtils
from aiecs_ray.executor import OperationExecutor
from aiecs_ray.interfaces import ExecutionInterface, ICacheProvider, IOperationExecutor, IToolExecutor, IToolProvider
from aiecs_ray.model import ErrorCode, TaskStatus, TaskStepResult
from aiecs_ray.registry import Registry
from aiecs_ray.run import Run
from aiecs_ray.running import cancelled, progress
from aiecs_ray.runtime import Runtime
from aiecs_ray.tool import operation, tool
from aiecs_ray.tool_executor import ToolExecutor
from aiecs_ray.version import __version__ as __version__

__all__ = [
    "Context",
    "ContextExecutor",
    "ErrorCode",
    "ExecutionEngine",
    "ExecutionInterface",
    "ExecutionUtils",
    "ICacheProvider",
    "IOperationExecutor",
    "IToolExecutor",
    "IToolProvider",
    "OperationExecutor",
    "Registry",
    "Run",
    "Runtime",
    "TaskStatus",
    "TaskStepResult",
    "ToolExecutor",
    "cancelled",
    "connect",
    "operation",
    "progress",
    "tool",
]
