import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.address import Address, address_of, parse_address
from net.errors import AddressError


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_words_name_the_address(ip: object, port: int) -> None:
    address = Address(ip, port)  # type: ignore[arg-type]  # hypothesis says object for either version
    back = address_of(address.row())
    mapped = getattr(ip, "ipv4_mapped", None)
    assert back == (Address(mapped, port) if mapped else address)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_text_round_trips(ip: object, port: int) -> None:
    address = Address(ip, port)  # type: ignore[arg-type]  # hypothesis says object for either version
    assert parse_address(str(address)).words() == address.words()


def test_ipv4_and_its_mapped_form_are_one_peer() -> None:
    assert parse_address("[::ffff:10.1.2.3]:80") == parse_address("10.1.2.3:80")


def test_scope_distinguishes_link_local_peers() -> None:
    plain = parse_address("[fe80::1]:9")
    assert address_of(Address(plain.ip, 9, 7).row()) == Address(plain.ip, 9, 7) != plain


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3.4", "1.2.3.4:", ":80", "::1:80", "[::1]", "[1.2.3.4]:80", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:٣",
     "host:80", "[fe80::1%eth0]:80", "1.2.3:80", "[::1:80"],
)  # fmt: skip
def test_other_text_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(AddressError, match=r"write it as 203\.0\.113\.5:40000"):
        parse_address(text)
