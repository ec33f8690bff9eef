"""One address may ask for so much and no more, and nobody can ask in its name."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.address import Address, parse_address
from net.connection import ClientState
from net.errors import NetError
from net.limits import EXEMPT, AddressLimits, Crowds
from tests.net.virtual import MS, SECOND, Wire, drops, give, request, token


def key(limits: AddressLimits, address: str) -> int:
    return limits.key(*parse_address(address).words()[:2])


def neighbours(client: int) -> Address:
    """Many clients behind one IPv4 address."""
    return parse_address(f"198.51.100.1:{50_000 + client}")


def test_an_address_is_a_whole_ipv4_address_or_an_ipv6_network_of_64_bits() -> None:
    limits = AddressLimits(table_max=10)
    assert key(limits, "198.51.100.1:1") == key(limits, "198.51.100.1:2")
    assert key(limits, "198.51.100.1:1") == key(limits, "[::ffff:198.51.100.1]:1")
    assert key(limits, "198.51.100.1:1") != key(limits, "198.51.100.2:1")
    assert key(limits, "[2001:db8:1:2::1]:1") == key(limits, "[2001:db8:1:2:ffff:ffff:ffff:ffff]:9")
    assert key(limits, "[2001:db8:1:2::1]:1") != key(limits, "[2001:db8:1:3::1]:1")


def test_exempt_networks_have_no_key() -> None:
    limits = AddressLimits(table_max=10, exempt=[ip_network("10.0.0.0/9"), ip_network("2001:db8::/33")])
    exempt = ["10.127.255.255:1", "[::ffff:10.0.0.1]:1", "[2001:db8:7fff::1]:1"]
    others = ["10.128.0.0:1", "9.255.255.255:1", "[2001:db8:8000::1]:1", "127.0.0.1:1", "[::10.0.0.1]:1"]
    assert [key(limits, address) for address in exempt] == [EXEMPT] * 3
    assert EXEMPT not in [key(limits, address) for address in others]
    assert key(AddressLimits(table_max=1), "127.9.9.9:1") == key(AddressLimits(table_max=1), "[::1]:1") == EXEMPT
    assert key(AddressLimits(table_max=1), "[::2]:1") != EXEMPT


@pytest.mark.parametrize("options", [{"connections_max": -1}, {"connects_per_s": -5}, {"connects_per_s": 10**12}])
def test_impossible_limits_are_refused(options: dict[str, Any]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(NetError, match=f"address_{name} is {value}; choose 1 or more, or 0 for no limit"):
        AddressLimits(table_max=1, **options)


def test_crowds_name_the_oldest_to_go() -> None:
    crowds = Crowds(2)
    for slot in (7, 5):
        assert crowds.crowded(1) == -1
        crowds.add(1, slot)
    assert crowds.crowded(1) == 7 and crowds.crowded(2) == -1
    crowds.remove(1, 7)
    assert crowds.crowded(1) == -1 and 1 in crowds
    crowds.remove(1, 5)
    assert 1 not in crowds
    anyone = Crowds(0)
    for slot in range(100):
        anyone.add(1, slot)
    assert anyone.crowded(1) == -1


STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["in", "out", "wait"]), st.integers(1, 900)), max_size=80)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(1, 4), st.integers(1, 3))
def test_any_history_gives_what_a_list_of_times_gives(steps: list[tuple[int, str, int]], most: int, rate: int) -> None:
    limits = AddressLimits(connections_max=most, connects_per_s=rate, table_max=100, exempt=())
    now, connected = 0, dict.fromkeys(range(4), 0)
    credit, seen = dict.fromkeys(range(4), rate * (SECOND // rate)), dict.fromkeys(range(4), 0)
    for where, what, wait in steps:
        now += wait * MS
        if what == "in":
            assert limits.has_room(where, now)
            limits.begin(where, 1, now)
            assert limits.is_full(where) == (connected[where] >= most)
            cost = SECOND // rate
            credit[where] = min(rate * cost, credit[where] + now - seen[where])
            seen[where] = now
            if connected[where] < most:
                assert limits.charge(where, now) == (credit[where] >= cost)
                if credit[where] >= cost:
                    credit[where] -= cost
                    limits.connect(where)
                    connected[where] += 1
            limits.end(where, 1, now)
        elif what == "out" and connected[where]:
            limits.disconnect(where, now)
            connected[where] -= 1
    limits.has_room(0, now + 2 * SECOND)
    assert len(limits) == sum(count > 0 for count in connected.values())


def test_eleventh_connection_of_an_address_is_denied() -> None:
    wire = Wire(12, place=neighbours)
    wire.connect(seconds=3)
    connected = (wire.group.state == ClientState.CONNECTED).sum()
    assert connected == 10
    assert (wire.group.state == ClientState.DENIED).sum() == 2
    assert drops(wire)["ADDRESS_FULL"] == 2
    leaving = int(wire.host.connected_clients()[0])
    wire.host.disconnect(leaving, wire.now_ns)
    wire.run(1.0)
    denied = int((wire.group.state == ClientState.DENIED).argmax())
    wire.group.connect(denied, token(77), wire.now_ns)
    wire.run(0.2)
    assert wire.group.state[denied] == ClientState.CONNECTED


def test_a_sixth_connection_within_a_second_waits_and_gets_in() -> None:
    wire = Wire(8, place=neighbours)
    wire.connect(seconds=0.15)
    assert (wire.group.state == ClientState.CONNECTED).sum() == 5
    assert drops(wire)["ADDRESS_RATE"] >= 3
    wire.run(0.3)
    assert (wire.group.state == ClientState.CONNECTED).sum() in {6, 7}
    wire.run(0.4)
    assert wire.all_connected()


def test_zero_means_no_limit_and_other_addresses_are_not_concerned() -> None:
    wire = Wire(30, place=neighbours, address_connections_max=0, address_connects_per_s=0)
    wire.connect(seconds=0.1)
    assert wire.all_connected()
    strangers = Wire(30)
    strangers.connect(seconds=0.1)
    assert strangers.all_connected()
    exempt = Wire(30, place=neighbours, exempt=[ip_network("198.51.100.0/24")])
    exempt.connect(seconds=0.1)
    assert exempt.all_connected()
    assert exempt.host.statistics()["addresses"] == 0


def test_requests_in_anothers_name_cost_that_one_nothing() -> None:
    wire = Wire(1, clients_max=100, place=neighbours, handshakes_max=200)
    for turn in range(200):
        give(wire, request(wire, 5_000 + turn), address=parse_address(f"198.51.100.1:{1_000 + turn}"))
    assert wire.host.statistics()["pending"] == 40
    assert drops(wire) == {"PENDING_DISPLACED": 160}
    wire.host.outgoing.clear()
    wire.host.tick(wire.now_ns)
    wire.connect(seconds=0.05)
    assert wire.all_connected(), "neither its connections nor its bucket were touched"


def test_one_client_id_has_few_handshakes_wherever_they_claim_to_be_from() -> None:
    wire = Wire(1, clients_max=100, handshakes_max=100)
    for turn in range(100):
        give(wire, request(wire, 9), address=parse_address(f"203.0.{turn}.1:4000"))
    assert wire.host.statistics()["pending"] == 4
    assert wire.host.statistics()["addresses"] == 4
    assert drops(wire) == {"PENDING_DISPLACED": 96}


def test_table_of_addresses_is_bounded_and_empties_itself() -> None:
    wire = Wire(1, clients_max=8, pending_max=400, handshakes_max=1000)
    for turn in range(1000):
        give(wire, request(wire, turn), address=parse_address(f"203.{turn // 250}.{turn % 250}.1:4000"))
        wire.host.outgoing.clear()
    assert wire.host.statistics()["addresses"] == wire.host.statistics()["pending"] == 400
    assert drops(wire) == {"PENDING_FULL": 600}
    wire.now_ns += 6 * SECOND
    wire.host.tick(wire.now_ns)
    assert wire.host.statistics()["addresses"] == 0


def test_full_table_refuses_new_addresses_and_counts_them() -> None:
    wire = Wire(2, clients_max=4)
    wire.host._limits = AddressLimits(table_max=1)
    wire.connect(seconds=0.2)
    assert (wire.group.state == ClientState.CONNECTED).sum() == 1
    assert drops(wire)["ADDRESS_TABLE_FULL"] >= 1
    wire.host.disconnect(int(wire.host.connected_clients()[0]), wire.now_ns)
    wire.run(1.5)
    assert (wire.group.state == ClientState.CONNECTED).sum() == 1, "the other one, once the first was forgotten"
    assert wire.host.statistics()["addresses"] == 1
