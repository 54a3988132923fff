"""Passages, prompts and their scramblings for the experiments of ``entropy_lens.py``; everything from a seed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

BOOKS = "\n\n\n"
"""What stands between two books of the held-out text."""

TASKS: dict[str, tuple[str, str]] = {
    "continuation": ("{story}\n\nAfter that,", "{story} The next day"),
    "counting": (
        "{story}\n\nHow many words are there in this story? There are",
        "{story}\n\nLet us count the words that were read. Their number is",
    ),
    "semantic": (
        "{story}\n\nWhat is this story about? It is about",
        "{story}\n\nWho is spoken of in these lines? They speak of",
    ),
}
"""Two templates for each task, as a model that only continues texts can be asked."""

ORDERS = ("base", "reversed words", "shuffled words", "shuffled sentences")

FORMATS: dict[str, tuple[str, str]] = {
    "verse": (
        "A song of {topic}.\n\nWhen evening falls upon the hill,\nAnd all the little birds are still,\n",
        "Lines on {topic}\n\nO {topic}, thou art fair to see,\nAnd sweet the song thou hast for me,\n",
    ),
    "letter": (
        "My dear Mother,\n\nI write to tell you of {topic}. ",
        "DEAR SIR,--Your letter about {topic} came this morning, and I beg to say that ",
    ),
    "dialogue": (
        '"What do you know of {topic}?" asked the boy.\n\n"I know a great deal," said the old man.\n\n"',
        '"Tell us about {topic}!" cried Alice.\n\n"Not to-night," said her uncle, laughing.\n\n"Oh, but ',
    ),
}
"""Two openings for each format; what follows is the model's."""

TOPICS = (
    "the sea", "the moon", "a lost dog", "the winter", "an old house", "the garden", "the king", "a white horse",
    "the forest", "the river", "a brave soldier", "the school", "the first snow", "a little bird", "the storm",
    "the mill", "the fairies", "a long journey", "the spring", "the church bells", "a broken toy", "the mountains",
    "the harvest", "the stars", "a kind neighbor", "the market", "the castle", "a sick child", "the fire",
    "the old clock", "the island", "a new friend", "the wolf", "the railway", "the apple tree", "Christmas",
    "the fisherman", "a secret", "the wind", "the lamp",
)


@dataclass(frozen=True)
class Prompt:
    """A prompt with what it is to be told apart by, and what it must not be split by."""

    text: str
    label: str
    group: str
    """The story or the topic: never in train and test at once."""
    wording: int
    """Number of the template inside its label."""
    order: str = "base"


def passages(text: str, n: int, *, seed: int, low: int = 300, high: int = 600) -> list[tuple[int, str]]:
    """About ``n`` passages of ``low`` to ``high`` characters with the number of their book, as many from each book."""
    books = [b for b in text.split(BOOKS) if b.strip()]
    rng = np.random.default_rng(seed)
    found: list[tuple[int, str]] = []
    for book, content in enumerate(books):
        runs: list[str] = []
        run = ""
        for paragraph in (" ".join(p.split()) for p in content.split("\n\n")):
            run = f"{run}\n\n{paragraph}" if run else paragraph
            if len(run) >= low:
                if len(run) <= high:
                    runs.append(run)
                run = ""
        want = min(len(runs), -(-n // len(books)))
        found += [(book, runs[i]) for i in np.sort(rng.permutation(len(runs))[:want])]
    keep = np.sort(rng.permutation(len(found))[:n])
    return [found[i] for i in keep]


def scrambled(story: str, order: str, seed: Any) -> str:
    """A story in another order; the same seed gives the same order."""
    if order == "base":
        return story
    rng = np.random.default_rng(seed)
    if order == "shuffled sentences":
        sentences = re.split(r"(?<=[.!?])\s+", story)
        return " ".join(sentences[i] for i in rng.permutation(len(sentences)))
    words = story.split()
    return " ".join(words[::-1] if order == "reversed words" else (words[i] for i in rng.permutation(len(words))))


def task_prompts(stories: list[str], *, seed: int, overwritten: bool = False) -> list[Prompt]:
    """Each story in each order with each template.

    With ``overwritten`` the story is replaced by its scrambled version as the loops go on, as the published code does:
    only the very first prompt of a story then has the true order.
    """
    found = []
    for number, original in enumerate(stories):
        story = original
        for task, templates in TASKS.items():
            for wording, template in enumerate(templates):
                for place, order in enumerate(ORDERS):
                    if not overwritten:
                        story = original
                    story = scrambled(story, order, [seed, number, place])
                    found.append(Prompt(template.format(story=story), task, f"story {number}", wording, order))
    return found


def format_prompts(topics: int) -> list[Prompt]:
    """Each topic in each format with each opening."""
    return [
        Prompt(opening.format(topic=topic), name, topic, wording)
        for topic in TOPICS[:topics] for name, openings in FORMATS.items() for wording, opening in enumerate(openings)
    ]
