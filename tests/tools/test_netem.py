"""A match in a network namespace of its own, through the kernel's own bad network."""

import json
import sys

import pytest
from typer.testing import CliRunner

from net.simulator import PROFILES, NetworkProfile
from tools.cli import app
from tools.errors import ToolsError
from tools.netem import bandwidth_arguments, has_netem, netem_arguments, run_in_namespace

FEED = "namespace"
MATCH = f"""
{sys.executable} -m tools.cli serve --no-edge --feed {FEED} --seconds 120 >/dev/null & server=$!
tries=0
until [ -e "$XDG_RUNTIME_DIR/hitreg-$(id -u)-{FEED}.json" ] || [ $tries -gt 400 ]; do
  sleep 0.25; tries=$((tries+1))
done
{sys.executable} -m tools.cli bots --feed {FEED} --count 6 --seconds 8 --json $NETWORK
kill $server; wait $server
"""


def test_profiles_become_words_of_netem() -> None:
    assert " ".join(netem_arguments(PROFILES["bad-wifi"])) == (
        "netem limit 10000 delay 48ms 18ms distribution normal loss gemodel 1.754% 33.33% duplicate 1% reorder 98% "
        "rate 6000kbit"
    )
    assert " ".join(netem_arguments(NetworkProfile(latency_ms=5, loss=0.01))) == "netem limit 10000 delay 5ms loss 1%"
    assert " ".join(bandwidth_arguments(PROFILES["congested"])) == "tbf rate 400kbit burst 16384 latency 400ms"


def test_a_match_is_played_through_the_kernels_bad_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Through netem where the kernel has it; otherwise a narrow link by tbf, and the rest of the profile by our own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    whole = has_netem()
    qdisc = netem_arguments(PROFILES["bad-wifi"]) if whole else bandwidth_arguments(NetworkProfile(rate_kbps=2_000))
    monkeypatch.setenv("NETWORK", "" if whole else "--network bad-wifi")
    done = run_in_namespace(qdisc, ["sh", "-c", MATCH], timeout_s=240)
    played = json.loads(done.stdout)
    assert played["connected"] == played["welcomed"] == 6
    assert played["snapshots_per_s"] > 10
    assert 50 < played["rtt_ms"] < 500
    assert 0.005 < played["loss"] < 0.25
    for reason in ("malformed", "snapshots_malformed", "snapshots_bad_baseline", "endpoint_malformed", "kicked"):
        assert played[reason] == 0, reason


def test_a_namespace_has_a_loopback_of_its_own() -> None:
    done = run_in_namespace([], ["sh", "-c", "ip -o link show | wc -l"], timeout_s=20)
    assert done.stdout.strip() == "1"


def test_what_cannot_be_had_is_one_line() -> None:
    with pytest.raises(ToolsError, match="nonsense"):
        run_in_namespace(["nonsense"], ["true"])
    wrong = CliRunner().invoke(app, ["netem", "dial-up", "--", "true"])
    assert wrong.exit_code != 0
