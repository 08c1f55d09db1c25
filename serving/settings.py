"""Every knob of the server: flags of `python -m serving`, or LUMINANET_* variables."""

import math
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from luminanet import machine
from luminanet.artifact.manifest import Served

SERVICE = re.compile(r"(tcp|udp|sctp)://")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@,]+")
ROOT = re.compile(r"(/[\w.~-]+)+", re.ASCII)


class _Environment(EnvSettingsSource):
    """LUMINANET_* variables, but not those that Kubernetes sets for a Service named luminanet or
    luminanet-*: its NAME_PORT is tcp://ADDRESS:PORT, and has the name of a setting by accident."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        value, key, is_complex = super().get_field_value(field, field_name)
        if isinstance(value, str) and SERVICE.match(value):
            value = None
        return value, key, is_complex


class Settings(BaseSettings):
    """Serve frozen artifacts over HTTP. Flags win over environment variables."""

    model_config = SettingsConfigDict(
        env_prefix="LUMINANET_",
        frozen=True,
        cli_prog_name="python -m serving",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
        cli_exit_on_error=False,
        cli_show_env_vars=True,
    )

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one"
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port of the loopback that answers /metrics alone, which is then not on the "
        "main port; 0 takes a free one",
    )
    artifacts: Path = Field(
        default=Path("pretrained"),
        description="folder with artifacts: DIR/, DIR/*/ or DIR/*/artifact/ with a manifest.json",
    )
    precision: Served = Field(
        default="fp32",
        description="fp32, or int8 where the artifacts have it (`freeze.py --precision int8`)",
    )
    steps: int = Field(
        default=4,
        ge=1,
        le=64,
        description="tokens that one call of a text model draws, and that a stream sends together, "
        "after its first; a GPT-2 needs a graph for it (`freeze.py --decode`)",
    )
    reproducible: bool = Field(
        default=False,
        description="same seed, same text at any batch size with int8 too, as with fp32: one graph "
        "for all batch sizes, which is slower for large ones",
    )
    shadow: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of LuminaNet's texts that are computed again, when nobody waits, by it "
        "and by the GPT-2, to measure its advantage",
    )
    memory_file: Path | None = Field(
        default=None,
        description="what `python -m serving.measure` wrote, to be told under /metrics; by default "
        "the memory.json beside the folder with artifacts, if it is there",
    )
    max_batch: int = Field(
        default=32, ge=1, le=1024, description="sequences (or images) computed together, per model"
    )
    queue_limit: int = Field(
        default=128,
        ge=1,
        le=1_000_000,
        description="requests that may wait per model, beside those that a free place awaits; "
        "more get a 429",
    )
    queue_seconds: float = Field(
        default=0.1,
        ge=0,
        allow_inf_nan=False,
        description="how long a request may have to wait for a place, by the pace of the last "
        "ones, when more than a quarter of max_batch wait; else it gets a 429; 0: any",
    )
    default_max_tokens: int = Field(
        default=128, ge=1, description="max_tokens of a request that names none"
    )
    max_tokens_limit: int = Field(
        default=4096, ge=1, description="largest max_tokens a request may ask"
    )
    max_body_bytes: int = Field(
        default=8 << 20,
        ge=1024,
        description="largest body of a request, in bytes; one of text may have what the models' "
        "contexts can use, if that is less",
    )
    max_header_bytes: int = Field(
        default=64 << 10,
        ge=1024,
        description="largest line and headers of a request together, in bytes; more get a 431",
    )
    header_seconds: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="how long a request's headers may take to come; then 408",
    )
    body_seconds: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="how long a request's body may stall; then 408",
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        le=86_400,
        description="how long a connection stays open between two requests; more than the proxy "
        "in front keeps it",
    )
    max_image_pixels: int = Field(
        default=16_000_000,
        ge=1024,
        description="largest image, in pixels, checked before it is decoded",
    )
    queue_pixels: int = Field(
        default=256_000_000,
        ge=1024,
        description="pixels of all images that may wait to be decoded; more get a 429, but one "
        "alone never does",
    )
    deadline_seconds: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="how long a request may take from the end of its headers; then it is ended "
        "within one call of the network and gets a 504; 0: as long as it needs",
    )
    heartbeat_seconds: float = Field(
        default=15.0,
        ge=0,
        allow_inf_nan=False,
        description="after so long without a word a stream sends a comment, so that proxies keep "
        "it open; 0: never",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="threads per model, of which one of small pictures takes fewer; 0: as many "
        "CPUs as the container grants",
    )
    grace_seconds: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="after SIGTERM, how long running requests may take to end by themselves",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="file with a SHA-256 of an API key a line (`python -m serving.keys`); then all "
        "but /health needs `Authorization: Bearer KEY`",
    )
    admin_key_file: Path | None = Field(
        default=None,
        description="file as api_keys_file, with who may POST /admin/reload; without it there is "
        "no such path",
    )
    rate_limit: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="requests a second that each API key may send, and as many at once; more get a "
        "429; 0: any",
    )
    cors_origins: str = Field(
        default="",
        description="origins whose pages may call from browsers, as https://example.org, separated "
        "by commas; * for any; none by default",
    )
    root_path: str = Field(
        default="",
        description="path below which a proxy shows the server, as /luminanet",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="log lines for people, or one JSON object a line"
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        default="info", description="least severe log lines shown; debug also logs every request"
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="after")
    def _defaults_fit_limits(self) -> Self:
        if self.default_max_tokens > self.max_tokens_limit:
            raise ValueError(
                f"default_max_tokens is {self.default_max_tokens}, above max_tokens_limit "
                f"{self.max_tokens_limit}: lower it or raise the limit"
            )
        return self

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        for origin in _parts(value):
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin: write scheme://host or scheme://host:port"
                )
        return value

    @field_validator("root_path")
    @classmethod
    def _root_is_a_path(cls, value: str) -> str:
        if value and not ROOT.fullmatch(value):
            raise ValueError(f"{value!r} is no prefix: it begins with / and does not end so")
        return value

    @model_validator(mode="after")
    def _limits_need_keys(self) -> Self:
        if self.rate_limit and self.api_keys_file is None:
            raise ValueError("rate_limit counts by API key: set api_keys_file, or rate_limit to 0")
        return self

    @property
    def origins(self) -> list[str]:
        return _parts(self.cors_origins)

    @property
    def measured_memory(self) -> Path:
        return self.memory_file or beside(self.artifacts)

    @property
    def compute_threads(self) -> int:
        return self.threads or available_cpus()


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def beside(artifacts: Path) -> Path:
    """Where the memory of artifacts is told when nothing else is said."""
    return artifacts.parent / "memory.json"


def available_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may use: its affinity, capped by the container's quota (cgroup v2)."""
    cpus = machine.cores()
    try:
        granted_us, period_us = map(float, quota.read_text().split())
    except (OSError, ValueError):  # no cgroup v2, or "max 100000": no quota
        return cpus
    return max(1, min(cpus, math.ceil(granted_us / period_us)))
