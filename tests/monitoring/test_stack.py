"""compose.yaml and what it mounts: valid, hardened, pinned, and of one mind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.settings import Settings
from tests.monitoring.configuration import GRAFANA, PROMETHEUS, ROOT, Object, read_json, read_yaml

COMPOSE = ROOT / "compose.yaml"
SERVICES: dict[str, Object] = read_yaml(COMPOSE)["services"]
NAMES = sorted(SERVICES)


def schema_check(path: Path) -> subprocess.CompletedProcess[str]:
    """By the JSON schema of the Compose specification, which check-jsonschema ships."""
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [str(program), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_fits_the_schema_of_compose_files() -> None:
    done = schema_check(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_does_not_fit_the_schema_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text("utf-8").replace("read_only: true", "read_only: [1]"))
    assert schema_check(wrong).returncode == 1


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose here")
def test_compose_itself_reads_it(tmp_path: Path) -> None:
    command = ["docker-compose", "-f", str(COMPOSE), "--profile", "load", "config", "--quiet"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_container_may_do_only_what_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert not service.get("privileged")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_built_here_or_of_one_version(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service:
        assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", service["image"])
    elif service["build"] != ".":
        installed = re.findall(r"pip install .*", service["build"]["dockerfile_inline"])
        assert all("==" in word for word in installed[0].split()[2:] if word[0] != "-")


def test_what_is_mounted_is_there_and_read_only() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source, _, how = mount.partition(":")
            if source.startswith("."):
                assert how.endswith(":ro"), mount
                # the load generator's folder comes with it
                assert (ROOT / source).is_dir() or name == "load", mount


def test_load_is_made_only_when_asked_for() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"load"}
    assert SERVICES["load"]["profiles"] == ["load"]
    assert any(word.startswith("--run-time=") for word in SERVICES["load"]["command"])


def test_the_settings_of_the_service_exist() -> None:
    known = {f"LUMINANET_{name.upper()}" for name in Settings.model_fields}
    environment = SERVICES["service"]["environment"]
    assert set(environment) <= known
    Settings(shadow=environment["LUMINANET_SHADOW"])


def test_the_parts_find_each_other() -> None:
    config = read_yaml(PROMETHEUS / "prometheus.yml")
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    (source,) = read_yaml(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    (provider,) = read_yaml(GRAFANA / "provisioning/dashboards/luminanet.yml")["providers"]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(provider["options"]["path"])
    assert read_json(GRAFANA / "dashboards" / Path(home).name)["uid"] == "luminanet-advantage"
