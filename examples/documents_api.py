"""The asynchronous executor of the design documents: python examples/documents_api.py [inprocess]."""

import asyncio
import sys

import aiecs_ray
from aiecs_ray import OperationExecutor, TaskStepResult


class PriceTool:
    """Adds up prices."""

    def total(self, prices: list[float]) -> float:
        """Return the sum."""
        return sum(prices)

    def with_tax(self, net: float, rate: float = 0.2) -> float:
        """Return the price with tax, rounded to cents."""
        return round(net * (1 + rate), 2)


async def main(address: str | None = None) -> list[TaskStepResult]:
    """Run a sequence for one user and task; a second run of it is answered from the cache."""
    with aiecs_ray.connect(address) as rt:
        rt.register(PriceTool)
        executor = OperationExecutor(runtime=rt, config={"rate_limit_requests_per_second": 10})
        operations = [
            {"operation": "price_tool.total", "params": {"prices": [9.5, 20.0]}},
            {"operation": "price_tool.with_tax", "params": {"net": "$result[0]"}},
        ]
        results = await executor.execute_operations_sequence(operations, user_id="ann", task_id="invoice-7")
        await executor.execute_operations_sequence(operations, user_id="ann", task_id="invoice-7")
        for result in results:
            print(f"{result.step}: {result.result}")
        print(f"answered from the cache: {executor.get_stats()['cache']['hits']}")
    return results


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
