"""The golden snapshots: written by the twin, read alike by the kernels and by the decoder for browsers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from net.replica import ReplicaGroup
from tests.net.snapshot_vectors import GOLDEN, TABLE, make_vectors

VECTORS: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
SCRIPT = Path(__file__).parents[2] / "server" / "edge" / "static" / "snapshot.js"
READ = """async ([source, vectors]) => {
  const { SnapshotDecoder } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const decoder = new SnapshotDecoder(vectors.schema);
  const hex = (bytes) => Array.from(bytes ?? [], (byte) => byte.toString(16).padStart(2, "0")).join("");
  const whole = (event) => ({ ...event, actor: String(event.actor), target: String(event.target) });
  return vectors.snapshots.map(({ payload }) => {
    const bytes = Uint8Array.from(payload.match(/../g) ?? [], (pair) => parseInt(pair, 16));
    const head = decoder.decode(bytes);
    return head && {
      tick: head.tick, input_tick: head.inputTick, lead_q4: head.leadQ4, owner: hex(head.owner), zone: hex(head.zone),
      events: head.events.map(whole),
      entities: decoder.entities().map(({ slot, id, level, tick, fields }) => [slot, String(id), level, tick, fields]),
    };
  });
}"""


def told(entry: dict[str, Any]) -> dict[str, Any] | None:
    """What a decoder should have, or None where the payload is to be refused."""
    return {name: value for name, value in entry.items() if name != "payload"} or None


def test_the_file_is_what_the_twin_writes() -> None:
    assert json.loads(json.dumps(make_vectors())) == VECTORS


def test_the_kernels_read_every_golden_snapshot() -> None:
    group = ReplicaGroup(1, TABLE, ring=64)
    for entry in VECTORS["snapshots"]:
        payload, expected = bytes.fromhex(entry["payload"]), told(entry)
        events = int(group.event_count[0])
        assert (group.receive_bytes(0, payload) == 0) == (expected is not None)
        if expected is None:
            continue
        assert [int(group.tick[0]), int(group.input_tick[0]), int(group.lead_q4[0])] == [
            expected["tick"], expected["input_tick"], expected["lead_q4"],
        ]  # fmt: skip
        assert group.owner[0, : group.owner_bytes[0]].tobytes().hex() == expected["owner"]
        zone = int(group.zone_offset[0]), int(group.zone_offset[0] + group.zone_length[0])
        assert payload[zone[0] : zone[1]].hex() == expected["zone"]
        assert int(group.event_count[0]) - events == len(expected["events"])
        slots = [slot for slot in range(128) if group.entity_id[0, slot]]
        assert [
            [slot, str(group.entity_id[0, slot]), int(group.level[0, slot]), int(group.state_tick[0, slot]),
             group.fields[0, slot].tolist()]
            for slot in slots
        ] == expected["entities"]  # fmt: skip


@pytest.mark.slow
def test_the_decoder_for_browsers_reads_every_golden_snapshot() -> None:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        read = browser.new_page().evaluate(READ, [SCRIPT.read_text(encoding="utf-8"), VECTORS])
        browser.close()
    assert len(read) == len(VECTORS["snapshots"])
    for found, entry in zip(read, VECTORS["snapshots"], strict=True):
        assert found == told(entry)
