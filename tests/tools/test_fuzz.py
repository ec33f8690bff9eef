"""The flood of mangled datagrams runs clean, the same for the same seed, and notices what it is there to notice."""

from unittest.mock import patch

import numpy as np
import pytest
from typer.testing import CliRunner

from net.datagrams import DATAGRAM_BYTES, Datagrams
from net.packets import Drop
from tools.cli import app
from tools.errors import ToolsError
from tools.fuzz import fuzz
from tools.mangler import Mangler


def test_a_short_flood_holds_and_tells_what_became_of_it() -> None:
    report = fuzz(packets=200_000, seed=1)
    assert report.packets >= 200_000 and report.genuine > 0 and report.us_per_packet > 0
    expected = {
        "host replayed",
        "host not_authentic",
        "host token_expired",
        "host token_not_authentic",
        "host too_short",
    }
    expected |= {"host unknown_address", "host wrong_server", "host token_reused", "endpoint malformed", "inputs late"}
    assert expected <= set(report.counts)
    assert report.replies[0] > 0


def test_the_same_seed_mangles_the_same_way() -> None:
    first, second, other = (fuzz(packets=10_000, seed=seed).counts for seed in (5, 5, 6))
    assert first == second != other


def test_a_datagram_that_nobody_counts_is_noticed() -> None:
    fewer = [reason for reason in Drop if reason is not Drop.BAD_TYPE]
    with patch("tools.fuzz.ARRIVED", fewer), pytest.raises(ToolsError, match="accounted for"):
        fuzz(packets=10_000, seed=1)


def test_a_message_that_does_not_arrive_is_noticed() -> None:
    with patch("tools.fuzz.Endpoint.tell", return_value=True), pytest.raises(ToolsError, match="messages behind"):
        fuzz(packets=200_000, seed=1)


@pytest.mark.parametrize("options", [{"packets": 0}, {"packets": 5, "seconds_max": 0.0}])
def test_senseless_numbers_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ToolsError, match="must be positive"):
        fuzz(seed=1, **options)  # type: ignore[arg-type] # numbers of both kinds


def test_mangled_datagrams_are_within_an_arena_and_mostly_not_what_was_kept() -> None:
    mangler = Mangler(3, shelves=2)
    data = np.full((4, 100), 7, np.uint8)
    mangler.keep(data, np.full(4, 100, np.int32), np.ones((4, 3), np.uint64), shelf=1)
    batch = Datagrams(2000)
    mangler.bytes_of(2000, to=batch)
    assert batch.count == 2000
    assert int(batch.length.min()) >= 0 and int(batch.length.max()) <= DATAGRAM_BYTES
    same = sum(batch.datagram(row) == bytes([7]) * 100 for row in range(2000))
    assert 200 <= same < 1000, "some are left as they are, to be replayed"
    with pytest.raises(ToolsError, match="0 datagrams kept"):
        Mangler(3).bytes_of(1, to=batch)


def test_the_command_prints_what_became_of_them() -> None:
    result = CliRunner().invoke(app, ["fuzz", "--packets", "9000", "--seed", "2"])
    assert result.exit_code == 0, result.output
    assert "host replayed" in result.stdout and "µs each; seed 2" in result.stdout
