"""Settings come from flags and variables, and are refused in one line when they make no sense."""

from pathlib import Path

import pytest

from luminanet.errors import ConfigError
from serving.__main__ import read_settings
from serving.settings import Settings, available_cpus


def test_flags_win_over_variables_and_variables_over_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LUMINANET_PORT", "1234")
    monkeypatch.setenv("LUMINANET_MAX_BATCH", "5")
    monkeypatch.setenv("LUMINANET_REPRODUCIBLE", "1")
    settings = read_settings(["--max-batch", "6", "--artifacts=/somewhere"])
    assert settings.reproducible
    assert not read_settings(["--no-reproducible"]).reproducible
    assert (settings.port, settings.max_batch, settings.queue_limit) == (1234, 6, 128)
    assert settings.artifacts == Path("/somewhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "many"], r"--port \(LUMINANET_PORT\): .*integer"),
        (["--port", "70000"], "less than or equal to 65535"),
        (["--steps", "65"], r"--steps \(LUMINANET_STEPS\)"),
        (["--max-batch", "0"], r"--max-batch \(LUMINANET_MAX_BATCH\)"),
        (["--grace-seconds", "nan"], "finite"),
        (["--log-level", "loud"], "'critical', 'error'"),
        (["--default-max-tokens", "9", "--max-tokens-limit", "8"], "above max_tokens_limit 8"),
        (["--body-seconds", "0"], r"--body-seconds \(LUMINANET_BODY_SECONDS\)"),
        (["--colour", "red"], "unrecognized arguments: --colour"),
        (["artifacts"], "unrecognized arguments: artifacts"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(
    arguments: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_settings(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["LUMINANET_PORT", "LUMINANET_METRICS_PORT"])
def test_what_kubernetes_sets_for_a_service_of_our_name_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "tcp://10.96.0.12:8000")
    monkeypatch.setenv("LUMINANET_SERVICE_HOST", "10.96.0.12")
    monkeypatch.setenv("LUMINANET_PORT_8000_TCP_PORT", "8000")
    assert read_settings([]) == Settings(port=8000, metrics_port=None)
    assert read_settings(["--port=1234"]).port == 1234
    with pytest.raises(ConfigError, match=r"--port \(LUMINANET_PORT\): .*integer"):
        read_settings(["--port=tcp://10.96.0.12:8000"])


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("150000 100000", 2), ("50000 100000", 1), ("100000000 100000", 64), ("max 100000", 64)],
)
def test_threads_follow_the_quota_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert available_cpus(tmp_path / "cpu.max") == cpus
    assert available_cpus(tmp_path / "nowhere") == 64


def test_0_threads_means_all_that_are_granted() -> None:
    assert Settings(threads=0).compute_threads == available_cpus()
    assert Settings(threads=3).compute_threads == 3
