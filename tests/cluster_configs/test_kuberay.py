"""``raycluster.yaml`` and ``rayjob.yaml`` are what KubeRay accepts, and safe to apply as they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "cluster-configs"

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
QUANTITY = {"cpu": re.compile(r"\d+m?"), "memory": re.compile(r"\d+(Mi|Gi)")}


def nodes(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the pod specs of a RayCluster spec: the head's, then the workers'."""
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.fixture(params=["cluster", "job"])
def spec(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The RayCluster spec of either manifest."""
    manifest = request.getfixturevalue(request.param)["spec"]
    return dict(manifest.get("rayClusterSpec", manifest))


@pytest.fixture(params=["cluster", "job"])
def pods(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Every pod spec of either manifest, the submitter's too."""
    manifest = request.getfixturevalue(request.param)["spec"]
    submitter = [manifest["submitterPodTemplate"]["spec"]] if "submitterPodTemplate" in manifest else []
    return [*submitter, *nodes(manifest.get("rayClusterSpec", manifest))]


@pytest.mark.parametrize(("fixture", "kind"), [("cluster", "RayCluster"), ("job", "RayJob")])
def test_a_manifest_says_what_it_is(request: pytest.FixtureRequest, fixture: str, kind: str) -> None:
    manifest = request.getfixturevalue(fixture)

    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    assert NAME.fullmatch(manifest["metadata"]["name"])
    assert len(manifest["metadata"]["name"]) <= 47


def test_every_ray_node_asks_for_a_token(spec: dict[str, Any]) -> None:
    assert spec["authOptions"] == {"mode": "token"}


def test_tools_run_on_workers_only(spec: dict[str, Any]) -> None:
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert all("num-cpus" not in group["rayStartParams"] for group in spec["workerGroupSpecs"])


def test_a_worker_group_is_between_its_bounds(spec: dict[str, Any]) -> None:
    for group in spec["workerGroupSpecs"]:
        assert NAME.fullmatch(group["groupName"])
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_head_opens_the_ports_that_clients_use(spec: dict[str, Any]) -> None:
    ports = {port["name"]: port["containerPort"] for port in nodes(spec)[0]["containers"][0]["ports"]}

    assert ports == {"gcs-server": 6379, "dashboard": 8265, "client": 10001}


def test_every_pod_runs_the_same_image(pods: list[dict[str, Any]]) -> None:
    images = {container["image"] for pod in pods for container in pod["containers"]}

    assert len(images) == 1


def test_every_container_has_resources_within_limits(pods: list[dict[str, Any]]) -> None:
    for container in (container for pod in pods for container in pod["containers"]):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert set(requests) == set(limits) == {"cpu", "memory"}
        assert all(QUANTITY[name].fullmatch(value) for sizes in (requests, limits) for name, value in sizes.items())
        # Ray takes the limit for what there is; memory beyond the request is what an eviction takes first.
        assert requests["memory"] == limits["memory"]


def test_no_pod_runs_as_root_or_can_become_it(pods: list[dict[str, Any]]) -> None:
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert all(not container["securityContext"]["allowPrivilegeEscalation"] for container in pod["containers"])
        assert all(container["securityContext"]["capabilities"] == {"drop": ["ALL"]} for container in pod["containers"])


def test_a_job_removes_its_cluster_and_cannot_run_for_ever(job: dict[str, Any]) -> None:
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 0
    assert job["spec"]["submissionMode"] == "K8sJobMode"


def test_the_submitter_gets_its_command_from_kuberay_and_is_not_restarted(job: dict[str, Any]) -> None:
    submitter = job["spec"]["submitterPodTemplate"]["spec"]

    assert submitter["restartPolicy"] == "Never"
    assert not {"command", "args"} & set(submitter["containers"][0])


def test_nodes_share_the_volume_that_the_job_works_in(job: dict[str, Any], spec: dict[str, Any]) -> None:
    claim = yaml.safe_load((FOLDER / "data.yaml").read_text(encoding="utf-8"))
    workdir = Path(shlex.split(job["spec"]["entrypoint"])[-1])

    volumes = [pod["volumes"] for pod in nodes(spec)]
    mounts = [pod["containers"][0]["volumeMounts"] for pod in nodes(spec)]

    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {volume[0]["persistentVolumeClaim"]["claimName"] for volume in volumes} == {claim["metadata"]["name"]}
    assert {mount[0]["name"] for mount in mounts} == {volume[0]["name"] for volume in volumes}
    assert all(workdir.is_relative_to(mount[0]["mountPath"]) for mount in mounts)
