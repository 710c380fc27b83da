"""A tool, a plan and a run: python examples/quickstart.py [inprocess]."""

import sys

import aiecs_ray
from aiecs_ray import operation, tool


@tool("text_tool")
class TextTool:
    """Counts words."""

    @operation
    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        return text.lower().split()

    @operation(cache=True)
    def count(self, words: list[str]) -> dict[str, int]:
        """Return how often each word occurs."""
        return {word: words.count(word) for word in sorted(set(words))}


PLAN = [
    {"id": "words", "operation": "text_tool.split", "params": {"text": "to be or not to be"}},
    {"operation": "text_tool.count", "params": {"words": '$result["words"]'}},
]


def main(address: str | None = None) -> dict[str, int]:
    """Run the plan and print each step as it ends."""
    with aiecs_ray.connect(address) as rt:
        run = rt.submit(PLAN)
        for index, result in run.stream():
            print(f"step {index}: {result.step} {result.status}")
        counts = run.value(1)
    print(counts)
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
