"""operation_executor.md, case 2 (S0-111): three contracts, one of which cannot be read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents.tools_of_cases import (
    ClassfireTool,
    ImageTool,
    LegalReports,
    OfficeTool,
    ResearchTool,
    offer,
)

if TYPE_CHECKING:
    from pathlib import Path

    import aiecs_ray
    from aiecs_ray import OperationExecutor, TaskStepResult
    from tests.documents.conftest import Make

TOOLS: dict[str, type] = {
    "office_tool": OfficeTool,
    "image_tool": ImageTool,
    "classfire_tool": ClassfireTool,
    "research_tool": ResearchTool,
    "report_tool": LegalReports,
}
LEASE = """This lease of 2024-01-15 is between   Nordhaus GmbH and Tenant Ltd.
The rent for the premises is 2,000 EUR.\fEither party may terminate it with notice of 90 days.
The liability of the tenant is limited to 10,000 EUR.
"""
SUPPLY = """Mill Inc will deliver goods worth 50,000 EUR.
Its liability is unlimited, and late goods carry a penalty of 1,000 EUR.
"""

OPERATIONS: list[dict[str, Any]] = [
    {"operation": "office_tool.read_document", "params": {"file_path": "contract.pdf"}},
    {"operation": "image_tool.ocr_text", "params": {"image": "$result[0].scanned_pages"}},
    {"operation": "classfire_tool.extract_entities", "params": {"text": "$result[1]"}},
    {"operation": "classfire_tool.find_contract_terms", "params": {"text": "$result[1]"}},
    {"operation": "research_tool.search_legal_precedents", "params": {"terms": "$result[3]"}},
    {
        "operation": "classfire_tool.assess_risk_level",
        "params": {"entities": "$result[2]", "terms": "$result[3]", "precedents": "$result[4]"},
    },
    {"operation": "classfire_tool.classify_contract_type", "params": {"text": "$result[1]"}},
    {
        "operation": "report_tool.generate_legal_analysis",
        "params": {
            "contract_text": "$result[1]",
            "entities": "$result[2]",
            "terms": "$result[3]",
            "risk_assessment": "$result[5]",
            "contract_type": "$result[6]",
        },
    },
]


async def analyse(executor: OperationExecutor, contract_files: list[str]) -> list[list[TaskStepResult]]:
    all_results = []

    for contract_file in contract_files:
        contract_ops = [{**op, "params": {**op["params"], "file_path": contract_file}} for op in OPERATIONS]

        result = await executor.execute_operations_sequence(
            contract_ops,
            user_id="lawyer_001",
            task_id=f"contract_analysis_{contract_file}",
            stop_on_failure=False,
        )
        all_results.append(result)
    return all_results


@pytest.fixture
def contract_files(tmp_path: Path) -> list[str]:
    (tmp_path / "contract_001.pdf").write_text(LEASE, encoding="utf-8")
    (tmp_path / "contract_003.pdf").write_text(SUPPLY, encoding="utf-8")
    return [str(tmp_path / f"contract_00{n}.pdf") for n in (1, 2, 3)]


@pytest.fixture
def lawyer(make: Make, local: aiecs_ray.Runtime) -> OperationExecutor:
    offer(local, **TOOLS)
    return make()


async def test_a_contract_is_read_understood_and_assessed(lawyer: OperationExecutor, contract_files: list[str]) -> None:
    (steps,) = await analyse(lawyer, contract_files[:1])

    assert [step.error_message for step in steps] == [None] * 8
    assert steps[2].result == {
        "parties": ["Nordhaus GmbH", "Tenant Ltd"],
        "dates": ["2024-01-15"],
        "amounts": ["2,000 EUR", "10,000 EUR"],
    }
    assert steps[3].result == {"termination": "90", "liability": "limited to 10,000 EUR"}
    assert steps[4].result == ["Case 12/2019"]
    assert steps[7].result == ("lease between Nordhaus GmbH and Tenant Ltd: termination, liability; risk low; 39 words")


async def test_one_contract_that_fails_harms_no_other(lawyer: OperationExecutor, contract_files: list[str]) -> None:
    lease, missing, supply = await analyse(lawyer, contract_files)

    assert all(step.completed for step in (*lease, *supply))
    assert supply[7].result == "supply between Mill Inc: liability, penalty; risk high; 21 words"
    assert "No such file" in str(missing[0].error_message)
    assert [step.status for step in missing] == ["failed", *["cancelled"] * 7]
    assert {step.error_code for step in missing[1:]} == {"E007"}
    assert missing[1].message == "Skipped: step 0 (office_tool.read_document) failed"


async def test_the_file_path_that_only_the_first_step_takes_is_left_out_of_the_others(
    lawyer: OperationExecutor, contract_files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    await analyse(lawyer, contract_files)

    left_out = [record.getMessage() for record in caplog.records if "'file_path'" in record.getMessage()]
    assert len(left_out) == len(set(left_out)) == 7


@pytest.mark.ray
async def test_the_contracts_are_assessed_on_ray(on_ray: OperationExecutor, contract_files: list[str]) -> None:
    offer(on_ray.runtime, **TOOLS)

    lease, missing, supply = await analyse(on_ray, contract_files)

    assert [steps[7].completed for steps in (lease, missing, supply)] == [True, False, True]
    assert supply[5].result == {"level": "high", "reasons": ["dates", "liability"], "precedents": 3}
