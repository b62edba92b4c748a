"""What fuzzing starts from, one folder per target, beside the files of `tests.fuzz.targets.seeds`.

``inputs.txt`` has inputs that reach code which the others do not, one a line in base64: ``python -m tests.fuzz keep``
writes it anew from what runs under libFuzzer left in ``build/fuzz/corpus``. ``words.dict`` is a dictionary of
libFuzzer, of texts that the reader compares with: ``python -m tests.fuzz.dictionaries`` writes it. Networks in C start
from ``built.txt``, which ``python -m tests.fuzz.networks`` writes, and their finds go to ``finds.txt``.
"""

from __future__ import annotations

import base64
import functools
import heapq
import re
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

FOLDER = Path(__file__).parent / "corpora"


def words_path(target: str) -> Path:
    return FOLDER / target / "words.dict"


@functools.cache
def inputs(target: str, name: str = "inputs.txt") -> list[bytes]:
    """The inputs that were kept of a target."""
    path = FOLDER / target / name
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [base64.b64decode(line + "=" * (-len(line) % 4)) for line in lines]


def write_inputs(target: str, found: Iterable[bytes], name: str = "inputs.txt") -> None:
    """Keep these inputs of a target."""
    path = FOLDER / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(base64.b64encode(data).decode().rstrip("=") + "\n" for data in found))


@functools.cache
def words(target: str) -> list[bytes]:
    """The words of a target's dictionary."""
    path = words_path(target)
    lines = re.findall(r'^"(.*)"$', path.read_text(), re.MULTILINE) if path.exists() else []
    return [unescaped(line) for line in lines]


def write_words(target: str, found: Iterable[bytes]) -> None:
    """Make these a target's dictionary."""
    path = words_path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'"{_escaped(word)}"\n' for word in dict.fromkeys(found)))


def _escaped(word: bytes) -> str:
    return "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\x{c:02x}" for c in word)


def unescaped(line: str) -> bytes:
    """The word that a line of a dictionary stands for."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), line.encode())


def fewest(features: Sequence[set[int]], sizes: Sequence[int], reached: Set[int], most: int) -> list[int]:
    """The places of inputs that together reach most beside what is reached without them, by size.

    The largest gain for its size comes first, until `most` bytes are taken.

    Parameters
    ----------
    features : sequence of set of int
        What each input reaches.
    sizes : sequence of int
        In bytes.
    reached : set of int
    most : int
    """
    chosen: list[int] = []
    reached, left = set(reached), most

    def entry(place: int) -> tuple[float, int]:
        return -len(features[place] - reached) / (sizes[place] + 40), place

    # gains only fall, so an entry that is still the first with its gain of now is the best
    waiting = [entry(place) for place in range(len(features))]
    heapq.heapify(waiting)
    while waiting:
        place = heapq.heappop(waiting)[1]
        now = entry(place)
        if not now[0] or sizes[place] > left:
            continue
        if waiting and now > waiting[0]:
            heapq.heappush(waiting, now)
            continue
        chosen.append(place)
        reached |= features[place]
        left -= sizes[place]
    return sorted(chosen, key=lambda place: (sizes[place], place))
