import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.dictionaries import (
    DICTIONARIES_MAX,
    DICTIONARY_BYTES_MAX,
    Dictionary,
    PayloadClass,
    agreed,
    load_dictionaries,
    read_dictionary,
)
from net.errors import NetError
from tests.net.dictionaries import small_dictionary


def write(directory: Path, name: str, dictionary: Dictionary) -> Path:
    path = directory / name
    path.write_bytes(dictionary.to_bytes())
    return path


def test_a_file_holds_all_that_is_known_of_a_dictionary(tmp_path: Path) -> None:
    dictionary = Dictionary(
        PayloadClass.SNAPSHOT, small_dictionary().content, revision=7, trained_count=10, trained_bytes=2**33,
        tested_count=3, tested_bytes=4, tested_compressed=5,
    )  # fmt: skip
    found = read_dictionary(write(tmp_path, "a.hrdict", dictionary))
    assert found == dictionary
    assert (found.id, found.short) == (dictionary.id, dictionary.id & 0xFFFF)


def test_the_id_names_content_class_and_revision() -> None:
    first = small_dictionary()
    others = [
        replace(first, revision=2),
        replace(first, kind=PayloadClass.BULK),
        replace(first, content=first.content + b"\0"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 4


def test_every_flipped_bit_of_a_file_is_found() -> None:
    data = bytearray(small_dictionary().to_bytes())
    for at in [*range(90), len(data) - 1]:
        data[at] ^= 1 << at % 8
        with pytest.raises(NetError, match=r"^x\.hrdict: \w+ "):
            Dictionary.from_bytes(bytes(data), source="x.hrdict")
        data[at] ^= 1 << at % 8
    assert Dictionary.from_bytes(bytes(data), source="x.hrdict") == small_dictionary()


@pytest.mark.parametrize(("at", "value"), [(8, 9), (9, 1)], ids=["class", "zero"])
def test_a_whole_file_of_a_later_version_is_refused(at: int, value: int) -> None:
    data = bytearray(small_dictionary().to_bytes())
    data[at] = value
    data[50:66] = hashlib.blake2b(data[:50] + data[66:], digest_size=16).digest()
    with pytest.raises(NetError, match=r"^x: class = .: unknown here"):
        Dictionary.from_bytes(bytes(data), source="x")


@pytest.mark.parametrize("cut", [0, 7, 40, 69, -1])
def test_a_file_that_is_cut_short_is_told(cut: int) -> None:
    with pytest.raises(NetError, match=r"^x: (magic|size) = .*; train one with `hitreg dictionary train`$"):
        Dictionary.from_bytes(small_dictionary().to_bytes()[:cut], source="x")


def test_what_no_file_can_hold_is_refused() -> None:
    content = small_dictionary().content
    with pytest.raises(NetError, match=r"content begins with 00000000, not as a Zstandard dictionary"):
        Dictionary(PayloadClass.MESSAGE, bytes(100))
    with pytest.raises(NetError, match=r"allowed are 8 to 131,072"):
        Dictionary(PayloadClass.MESSAGE, content + bytes(DICTIONARY_BYTES_MAX))
    with pytest.raises(NetError, match="does not fit"):
        Dictionary(PayloadClass.MESSAGE, content, revision=-1)


def test_a_directory_is_loaded_by_id_and_copies_count_once(tmp_path: Path) -> None:
    made = [small_dictionary(seed=seed) for seed in (1, 2, 3)]
    for number, dictionary in enumerate([*made, made[0]]):
        write(tmp_path, f"{number}.hrdict", dictionary)
    (tmp_path / "notes.txt").write_text("not a dictionary")
    found = load_dictionaries(tmp_path)
    assert [one.id for one in found] == sorted(one.id for one in made)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="no such directory; make it"):
        load_dictionaries(tmp_path / "absent")
    for number in range(DICTIONARIES_MAX + 1):
        (tmp_path / f"{number}.hrdict").touch()
    with pytest.raises(NetError, match="33 dictionaries, at most 32: remove the oldest"):
        load_dictionaries(tmp_path)


def test_two_that_share_their_short_id_are_named(tmp_path: Path) -> None:
    seen: dict[int, Dictionary] = {}
    for revision in range(4000):
        one = replace(small_dictionary(), revision=revision)
        if one.short in seen:
            break
        seen[one.short] = one
    else:
        raise AssertionError("no two of 4,000 share 16 bits, which is as good as impossible")
    write(tmp_path, "a.hrdict", one)
    write(tmp_path, "b.hrdict", seen[one.short])
    write(tmp_path, "c.hrdict", small_dictionary(seed=2))
    with pytest.raises(NetError, match=r"a\.hrdict, b\.hrdict share the short id 0x[0-9a-f]{4}: .*--revision"):
        load_dictionaries(tmp_path)


def test_files_that_cannot_be_read_or_are_huge_are_told(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="No such file or directory; train one"):
        read_dictionary(tmp_path / "absent.hrdict")
    huge = tmp_path / "huge.hrdict"
    with huge.open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(NetError, match="2,147,483,648 bytes: too large"):
        read_dictionary(huge)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8), st.lists(st.integers(-5, 2**70), max_size=8))
def test_both_sides_agree_on_the_same_whatever_the_order(own: list[int], peer: list[int]) -> None:
    peer += own[::2]
    ours, theirs = agreed(own, peer), agreed(peer[::-1], own[::-1])
    assert ours == theirs == tuple(sorted(ours))
    assert set(ours) == {one for one in own if one in peer}
