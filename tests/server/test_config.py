"""Settings: sources in order, and errors that name source, field, value and remedy."""

from pathlib import Path

import pytest

from server.config import ServerConfig, load_config
from server.errors import ConfigError


def test_each_source_overrides_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("tick_hz = 30\nsnapshot_hz = 10\nseed = 4\n")
    config = load_config(file, {"seed": 9, "port": None}, {"HITREG_SNAPSHOT_HZ": "15", "HITREG_CACHE_DIR": "/x"})
    assert (config.tick_hz, config.snapshot_hz, config.seed, config.port) == (30, 15, 9, 0)
    assert load_config(None, None, {}) == ServerConfig()
    assert load_config(None, {"tick_hz": 20}, {}).snapshot_hz == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tick_hz = 19", r"server\.toml: tick_hz = 19: .*greater than or equal to 20"),
        ("tik_hz = 60", r"server\.toml: there is no setting 'tik_hz'; settings are .*tick_hz"),
        ("port = 'high'", r"server\.toml: port = 'high'"),
        ("tick_hz = ", r"server\.toml: not TOML"),
        ("snapshot_hz = 128", r"snapshot_hz = 128 is above tick_hz = 60"),
        ("feed = 'no/slash'", r"server\.toml: feed = 'no/slash'"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file, None, {})
    assert "\n" not in str(caught.value)


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.toml", None, {})
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (1 << 20 | 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(big, None, {})


def test_environment_and_command_line_are_named_as_sources() -> None:
    with pytest.raises(ConfigError, match="environment: tick_hz = 'fast'"):
        load_config(None, None, {"HITREG_TICK_HZ": "fast"})
    with pytest.raises(ConfigError, match="command line: clients_max = 0"):
        load_config(None, {"clients_max": 0}, {})
