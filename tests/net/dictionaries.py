"""Dictionaries for tests, trained on made-up messages in a moment."""

import random
from functools import cache

import zstandard

from net.dictionaries import Dictionary, PayloadClass

__all__ = ["messages", "small_dictionary"]

WORDS = ("rocket", "attack the red base", "quad in ten seconds", "need armour", "defend", "well played", "on my way")


def messages(seed: int, count: int = 200) -> list[bytes]:
    """Short texts with much in common."""
    drawn = random.Random(seed)
    return [f"say {drawn.randrange(10**6)} {drawn.choice(WORDS)}, {drawn.choice(WORDS)}".encode() for _ in range(count)]


@cache
def small_dictionary(
    kind: PayloadClass = PayloadClass.MESSAGE, *, seed: int = 1, revision: int = 1, size: int = 1024
) -> Dictionary:
    """A dictionary of `messages`; another seed gives another one."""
    content = zstandard.train_dictionary(size, [*messages(seed, 600)], level=3).as_bytes()
    return Dictionary(kind, content, revision=revision, trained_count=600)
