"""A command in a network namespace of its own, whose loopback is a bad network: the kernel's, by tc and netem.

    hitreg netem bad-wifi -- sh -c 'hitreg serve --no-edge & hitreg bots --seconds 60'

The same profiles as `hitreg bots --network` (`net.simulator`), but with the kernel's queues, timers and sockets in
between, for everything that runs inside, in whatever language. Both directions go through the same loopback, so a round
trip takes twice the latency. Needs Linux with iproute2, and root or user namespaces; where the kernel was built without
netem, only a limited bandwidth (tbf) can be had, and a profile that is more than that is refused.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from net.simulator import NetworkProfile, profile_named
from tools.errors import ToolsError

__all__ = ["bandwidth_arguments", "has_netem", "netem", "netem_arguments", "run_in_namespace"]

PACKETS_MAX = 10_000  # that netem's queue holds
BURST_BYTES = 16_384


def _unshare() -> list[str]:
    """The beginning of a command line that gets a fresh network namespace."""
    for program in ("unshare", "ip", "tc"):
        if shutil.which(program) is None:
            raise ToolsError(f"netem: {program} is not installed; install util-linux and iproute2 (make system)")
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def netem_arguments(profile: NetworkProfile) -> list[str]:
    """The profile as tc-netem(8) wants it: `tc qdisc add dev lo root` and these."""
    words = ["netem", "limit", str(PACKETS_MAX), "delay", f"{profile.latency_ms + profile.jitter_ms:g}ms"]
    if profile.jitter_ms:
        words += [f"{profile.jitter_ms:g}ms", "distribution", "normal"]
    if profile.loss and profile.burst > 1.0:
        leave = 1.0 / profile.burst
        enter = leave * profile.loss / (1.0 - profile.loss)
        words += ["loss", "gemodel", f"{100 * enter:.4g}%", f"{100 * leave:.4g}%"]
    elif profile.loss:
        words += ["loss", f"{100 * profile.loss:.4g}%"]
    for name in ("duplicate", "corrupt"):
        if getattr(profile, name):
            words += [name, f"{100 * getattr(profile, name):.4g}%"]
    if profile.reorder:
        words += ["reorder", f"{100 * (1.0 - profile.reorder):.4g}%"]
    if profile.rate_kbps:
        words += ["rate", f"{profile.rate_kbps:g}kbit"]
    return words


def bandwidth_arguments(profile: NetworkProfile) -> list[str]:
    """The profile's bandwidth and queue alone, as tc-tbf(8) wants them."""
    return [
        "tbf", "rate", f"{profile.rate_kbps:g}kbit", "burst", str(BURST_BYTES), "latency",
        f"{max(1.0, profile.queue_ms):g}ms",
    ]  # fmt: skip


def has_netem() -> bool:
    """Whether this machine's kernel has netem."""
    script = "ip link set lo up && tc qdisc add dev lo root netem delay 1ms"
    return subprocess.run([*_unshare(), "sh", "-c", script], capture_output=True, check=False).returncode == 0


def run_in_namespace(
    qdisc: Sequence[str], command: Sequence[str], *, timeout_s: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a fresh network namespace with a queueing discipline on its loopback.

    Args:
        qdisc: Words behind `tc qdisc add dev lo root`; none: leave the loopback as it is.
        command: What to run; its standard output is returned.
        timeout_s: After which it is killed.

    Raises:
        ToolsError: A program is missing, or the kernel refuses the namespace or the discipline.
    """
    setup = "ip link set lo up" + (" && tc qdisc add dev lo root " + " ".join(qdisc) if qdisc else "")
    script = f'{{ {setup}; }} || exit 125; exec "$@"'
    done = subprocess.run(
        [*_unshare(), "sh", "-c", script, "sh", *command], stdout=subprocess.PIPE, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
    if done.returncode == 125:
        raise ToolsError(
            f"netem: this kernel refuses `tc qdisc … {qdisc[0] if qdisc else ''}` or the namespace; use a kernel with "
            "it, or hitreg bots --network"
        )
    return done


def netem(profile: str, command: Sequence[str]) -> int:
    """Run a command in a network namespace whose loopback is a bad network; its exit code.

    Raises:
        NetError: There is no such profile.
        ToolsError: This machine cannot do it.
    """
    network = profile_named(profile)
    only_rate = network == NetworkProfile(rate_kbps=network.rate_kbps, queue_ms=network.queue_ms)
    words = bandwidth_arguments(network) if only_rate and network.rate_kbps else netem_arguments(network)
    done = run_in_namespace(words if network != NetworkProfile() else [], command)
    sys.stdout.write(done.stdout)
    return done.returncode
