"""The server's configuration: defaults, a TOML file, environment, command line, each over the one before.

Every limit of the running server has its name here. `docs/config.md` is generated from this module.
"""

import os
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from server.errors import ConfigError

__all__ = ["ENVIRONMENT_PREFIX", "ServerConfig", "load_config"]

ENVIRONMENT_PREFIX = "HITREG_"
CONFIG_BYTES_MAX = 1 << 20


def _check_networks(text: str) -> str:
    """Refuses a list that holds something other than networks."""
    for part in text.split(","):
        try:
            ip_network(part.strip() or "0.0.0.0/0")
        except ValueError as error:
            raise ValueError(f"{error}; write networks such as 10.0.0.0/8, separated by commas") from error
    return text


class ServerConfig(BaseModel):
    """All settings of one zone server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    game: str = Field(default="arena", description="game: an installed game's name, or package.module:function")
    map: str = Field(
        default="arena", description="map: a name such as arena, or the path of a .bsp, .pk3#name, .glb, .obj, .png"
    )
    tick_hz: int = Field(default=60, ge=20, le=128, description="simulation ticks per second")
    snapshot_hz: int = Field(
        default=30, ge=1, le=128, description="snapshots per second and client, at most tick_hz (and lowered to it)"
    )
    seed: int = Field(default=1, ge=0, lt=1 << 63, description="seed of every random stream")
    zone: int = Field(default=0, ge=0, le=4095, description="number of this zone, part of every entity id")
    threads: int = Field(default=1, ge=1, le=64, description="threads that kernels may use; results never depend on it")

    host: str = Field(default="127.0.0.1", description="address to bind the game socket to")
    port: int = Field(default=0, ge=0, le=65535, description="UDP port of the game socket; 0: any free one")
    public_address: str = Field(
        default="", description="HOST:PORT that clients are told, where that differs from the socket's"
    )
    socket_buffer_bytes: int = Field(
        default=4 << 20,
        ge=1 << 16,
        le=1 << 28,
        description="asked of the system for datagrams that wait, each way; more than fit are dropped, and counted",
    )
    clients_max: int = Field(default=1000, ge=1, le=10_000, description="clients at once; more are denied")
    relevant_max: int = Field(
        default=64, ge=1, le=128, description="entities a client is told of at once, the nearest first"
    )
    visibility: Literal["auto", "off", "on", "strict"] = Field(
        default="auto",
        description="whether clients are told of players behind walls; off: of all in range; on: of nobody whom they "
        "could not see soon; strict: in doubt of nobody either; auto: on, if the map has been baked",
    )
    killcam_s: float = Field(
        default=3.0,
        ge=0.0,
        le=30.0,
        description="seconds that the dead see through their killer's eyes, if they do not live again before; 0: none",
    )
    turn_max_deg_per_s: float = Field(
        default=7200.0,
        ge=0.0,
        le=1e6,
        description="fastest turn of a view; one that turns faster lags behind, and is counted; 0: any",
    )
    max_rewind_ms: int = Field(
        default=200,
        ge=0,
        le=1000,
        description="how far in the past shots are judged at most, so that they hit what their player saw; 0: in the "
        "present",
    )
    snapshot_bytes_max: int = Field(default=1150, ge=768, le=1190, description="bytes of one snapshot")
    token_seconds: int = Field(default=3600, ge=10, le=86_400, description="how long a connect token can be used")
    client_timeout_s: int = Field(default=10, ge=1, le=3600, description="silence after which a client is gone")
    resume_s: int = Field(
        default=30,
        ge=0,
        le=3600,
        description="seconds that the player of a lost client stays for it to come back; 0: it leaves at once",
    )
    connects_per_s: int = Field(
        default=480,
        ge=1,
        le=100_000,
        description="newcomers that are let in a second, spread over ticks; more of them repeat until it is their turn",
    )
    client_kbps_max: int = Field(
        default=10_000, ge=32, le=1_000_000, description="most that is sent to one client, kbit/s"
    )
    total_kbps_max: int = Field(
        default=1_000_000,
        ge=32,
        le=100_000_000,
        description="most that is sent to all clients together, kbit/s, shared fairly; the fastest give way first",
    )
    address_connections_max: int = Field(
        default=10, ge=0, le=10_000, description="clients from one IPv4 address or IPv6 /64 at once; 0: any number"
    )
    address_connects_per_s: int = Field(
        default=5, ge=0, le=10_000, description="new clients from one address a second; 0: any number"
    )
    address_exempt: Annotated[str, AfterValidator(_check_networks)] = Field(
        default="127.0.0.0/8, ::1/128",
        description="networks, separated by commas, that the limits per address do not apply to",
    )
    record_dir: str = Field(
        default="~/.local/state/hitreg/recordings",
        description="directory that matches are recorded into; empty: none is recorded",
    )
    record_keyframe_s: float = Field(
        default=10.0,
        ge=1.0,
        le=600.0,
        description="seconds from one key frame of a recording to the next: what a replay simulates at most to get to "
        "a moment",
    )
    record_max_minutes: float = Field(
        default=60.0, ge=0.1, le=1440.0, description="length of one recording; a longer match goes on in another"
    )
    record_keep_gb: float = Field(
        default=20.0,
        ge=0.0,
        le=1e6,
        description="what all recordings may take together [GB]; the oldest make room; 0: any",
    )
    record_keep_days: float = Field(
        default=30.0, ge=0.0, le=1e5, description="days after which a recording is removed; 0: never"
    )
    private_key_file: str = Field(
        default="",
        description="file with the 32-byte key, in hex, that tokens are made with; empty: a new key each start",
    )

    overrun_catch_up_max: int = Field(
        default=4,
        ge=0,
        le=64,
        description="ticks made without a pause after an overrun; beyond it time is given up, and counted",
    )
    feed: str = Field(default="main", pattern=r"^[a-z0-9_-]{1,64}$", description="name of the live feed for pages")
    feed_hz: int = Field(default=20, ge=0, le=60, description="live frames per second; 0: no feed")
    edge_host: str = Field(default="127.0.0.1", description="address of the web page")
    edge_port: int = Field(default=8090, ge=0, le=65535, description="TCP port of the web page; 0: any free one")

    def exempt_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of `address_exempt`."""
        return tuple(ip_network(part.strip()) for part in self.address_exempt.split(",") if part.strip())


def _plain(error: ValidationError, source: str) -> ConfigError:
    """The first problem, as one line with field, value and remedy."""
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"]) or "settings"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(ServerConfig.model_fields))
        return ConfigError(f"{source}: there is no setting {name!r}; settings are {known}")
    return ConfigError(f"{source}: {name} = {problem['input']!r}: {problem['msg'].lower()}; correct it or leave it out")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {CONFIG_BYTES_MAX} bytes; is this the configuration?")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def load_config(
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServerConfig:
    """The configuration from all its sources.

    Args:
        file: A TOML file of settings, or None.
        overrides: From the command line; None values count as not given.
        environment: Variables `HITREG_<SETTING>`; the process's own unless given.

    Raises:
        ConfigError: A setting is unknown or out of range; the message names its source, the value and the remedy.
    """
    merged: dict[str, Any] = {}
    variables = os.environ if environment is None else environment
    known = {name.upper(): name for name in ServerConfig.model_fields}
    from_environment = {
        known[name.removeprefix(ENVIRONMENT_PREFIX)]: value
        for name, value in variables.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name.removeprefix(ENVIRONMENT_PREFIX) in known
    }
    sources: list[tuple[str, dict[str, Any]]] = []
    if file is not None:
        sources.append((str(file), _read(file)))
    sources.append(("environment", from_environment))
    sources.append(("command line", {name: value for name, value in (overrides or {}).items() if value is not None}))
    config = ServerConfig()
    for name, settings in sources:
        merged |= settings
        try:
            config = ServerConfig.model_validate(merged)
        except ValidationError as error:
            raise _plain(error, name) from error
    if config.snapshot_hz > config.tick_hz and "snapshot_hz" not in merged:
        config = config.model_copy(update={"snapshot_hz": config.tick_hz})
    if config.snapshot_hz > config.tick_hz:
        raise ConfigError(
            f"snapshot_hz = {config.snapshot_hz} is above tick_hz = {config.tick_hz}; lower it, or raise the tick rate"
        )
    return config
