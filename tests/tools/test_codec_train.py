"""Training counts exactly the symbols that the encoder writes, and leaves no context without a code."""

import numpy as np
import pytest

from net.records import build_lengths, trained_counts
from net.records_kernels import ANGLE_A, CODES, NARROW, SELF, SINGLE, SYMBOLS, VELOCITY_X
from sim.arrays import I64
from tests.net.snapshot_vectors import TABLE
from tests.reference.records import RecordTwin
from tools import codec_train
from tools.codec_train import count_symbols, smoothed

KIND, FIRST_OTHER = 6, 9


def crowd(count: int, seed: int) -> tuple[I64, I64, I64, I64]:
    """Records whose states differ in motion and angles alone, for which bits follow from counts."""
    random = np.random.default_rng(seed)
    then = random.integers(-200, 200, (count, len(TABLE)))
    then[:, KIND:] = abs(then[:, KIND:]) % 2
    age, level = random.integers(1, 40, count), random.choice([0, 1, 2, SELF], count)
    now = then + np.where(random.random(then.shape) < 0.5, random.integers(-30, 30, then.shape), 0)
    now[:, KIND], now[:, FIRST_OTHER:] = then[:, KIND], then[:, FIRST_OTHER:]
    now[:, 7] %= 4096
    now[level == SELF, :6] = then[level == SELF, :6] = 0
    return age, level, now, then


def test_lengths_times_counts_are_the_bits_that_the_encoder_writes() -> None:
    records = crowd(300, 1)
    counts = count_symbols(TABLE, records)
    lengths = np.array(build_lengths(TABLE.parts))
    raw = np.maximum(np.arange(SYMBOLS) - 1, 0)
    numbers = slice(VELOCITY_X, NARROW)
    expected = (counts * lengths).sum() + (counts[numbers] * raw).sum()
    twin = RecordTwin(TABLE)
    written = sum(
        len(twin.delta(now.tolist(), then.tolist(), int(age), int(level)))
        for age, level, now, then in zip(*records, strict=True)
    )
    assert written == expected


def test_fields_that_change_alone_are_counted_by_class_and_together_apart() -> None:
    age, level, now, then = crowd(4, 2)
    now, level = then.copy(), np.full(4, 2)
    now[0, 9] ^= 1  # flags, narrow
    now[1, 13] ^= 1  # ammo, wide; health is narrow
    now[2, 9] ^= 1
    now[2, 10] ^= 1
    counts = count_symbols(TABLE, (age, level, now, then))
    assert counts[SINGLE].tolist() == [0, 0, 0.5, 0.5] + [0] * 11 + [1], "two fields are narrow, two are wide"


def test_no_context_is_left_without_a_code() -> None:
    model = smoothed(count_symbols(TABLE, crowd(50, 3)))
    assert model.shape == trained_counts().shape == (CODES, SYMBOLS)
    assert (model[:ANGLE_A].sum(1) > 0).all()
    assert (trained_counts().sum(1) > 0).all()


def test_a_short_run_writes_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    class Match:
        """As much of a match as training asks for."""

        def __init__(self, players: int, *, seed: int) -> None:
            self.players, self.seed = players, seed
            self.replication = type("Replication", (), {"table": TABLE})

    monkeypatch.setattr(codec_train, "MATCHES", ((1, 4, 0.1), (2, 4, 0.1)))
    monkeypatch.setattr(codec_train, "ScriptedMatch", Match)
    monkeypatch.setattr(codec_train, "observe", lambda match, ticks: [crowd(ticks, match.seed)])
    target = f"{tmp_path}/model.npz"
    codec_train.main([target])
    with np.load(target) as file:
        assert file["counts"].shape == (CODES, SYMBOLS)
        assert file["counts"].dtype == np.int32
