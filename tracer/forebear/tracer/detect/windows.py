"""Cutting documents into word windows, as byte ranges of their UTF-8.

Always true here: words are split at Unicode white space exactly as `str.split()` does; windows do not overlap, hold every word
once, and begin and end at a word; a cut never falls inside a character; the time is linear in the bytes. A "word" without an
end (an URL, a base64 blob, a sentence of a script that writes no spaces) is cut into several, so that no window is unbounded:
each byte weighs 1 and each character of such a script 16 more, and a word is cut once it weighs 64. That is every
64 bytes of Latin text and every fourth character of Chinese, Japanese, Thai, Lao, Khmer or Burmese, and keeps 100 words inside
the 512 tokens that a transformer reads.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from forebear.schemas.errors import UsageError
from forebear.tracer.detect.compiled import kernel
from forebear.tracer.detect.detector import Texts

__all__ = ["CUT", "SPLITS", "TextBytes", "WindowRule", "Windows", "cut_windows", "text_bytes"]

CUT = "words-64-16"
"""The rule by which long words are cut, as detectors' digests name it."""

SPLITS = ("words", "paragraphs")

_NOTHING = np.frombuffer(b"", np.uint8)
_WORD_WEIGHT = np.int64(64)
_UNSPACED_WEIGHT = np.int64(16)

_SPACES = np.zeros(256, np.int64)  # ASCII white space of str.split(): \t \n \v \f \r, FS GS RS US, space
_SPACES[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = 1


@dataclasses.dataclass(frozen=True)
class WindowRule:
    """How documents are cut.

    Args:
        words: The most words a window holds.
        split: "words", or "paragraphs": a blank line (or U+2029) ends a window too.

    Raises:
        UsageError: Fewer than one word, or another split.
    """

    words: int = 100
    split: str = "words"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UsageError(
                "unknown_split",
                expected=f"split to be one of {', '.join(SPLITS)}",
                found=repr(self.split),
                remedy='Set split = "words" or split = "paragraphs".',
            )
        if isinstance(self.words, bool) or not isinstance(self.words, int) or not 1 <= self.words <= 1_000_000:
            raise UsageError(
                "bad_window",
                expected="a window of 1 to 1000000 words",
                found=repr(self.words),
                remedy="Set window to a whole number of words; 100 is the default.",
            )


@dataclasses.dataclass(frozen=True)
class TextBytes:
    """The UTF-8 of a column of n texts: text i is `data[offsets[i]:offsets[i + 1]]`; a null text has no bytes."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows in document order, k of them: their document, and their byte range in the column's data."""

    document: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.document)


def text_bytes(texts: Texts) -> TextBytes:
    """The buffers of an Arrow column of texts, uncopied where it is one chunk.

    Raises:
        UsageError: The column holds something else than text.
    """
    if isinstance(texts, pa.ChunkedArray):
        wide = texts if pa.types.is_large_string(texts.type) else _wide(texts)
        texts = wide.chunk(0) if wide.num_chunks == 1 else pa.concat_arrays(wide.chunks or [pa.array([], wide.type)])
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        texts = _wide(texts)
    count = len(texts)
    kind = np.int32 if pa.types.is_string(texts.type) else np.int64
    _, ends, data = texts.buffers()
    if not count or ends is None or data is None:
        return TextBytes(_NOTHING, np.zeros(count + 1, np.int64))
    offsets = np.frombuffer(ends, kind)[texts.offset : texts.offset + count + 1].astype(np.int64)
    letters = np.frombuffer(data, np.uint8)
    letters.flags.writeable = False  # numba compiles apart for arrays that can be written
    return _without_nulls(texts, letters, offsets) if texts.null_count else TextBytes(letters, offsets)


def _wide(texts: Texts) -> Texts:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(is_kind(texts.type) for is_kind in kinds):
        raise UsageError(
            "not_text",
            expected="a column of texts (Arrow string, large_string or string_view)",
            found=str(texts.type),
            remedy="Name the text column with --text-field.",
        )
    return texts.cast(pa.large_string())


def _without_nulls(texts: pa.Array, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> TextBytes:
    """A null slot may own bytes (Arrow allows it); they are no text."""
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    if (np.diff(offsets)[~valid] == 0).all():
        return TextBytes(data, offsets)
    filled = texts.cast(pa.large_string()).fill_null("")
    return text_bytes(filled)


def cut_windows(texts: TextBytes, rule: WindowRule) -> Windows:
    """Cut every text of a column; a text without a word has no window."""
    paragraphs = rule.split == "paragraphs"
    size = int(texts.offsets[-1] - texts.offsets[0])
    room = len(texts) + size // rule.words // (8 if paragraphs else 1) + 1
    while True:
        document, start, stop = (np.empty(room, np.int64) for _ in range(3))
        found = int(_cut(texts.data, texts.offsets, rule.words, paragraphs, _SPACES, document, start, stop))
        if found <= room:
            return Windows(document[:found], start[:found], stop[:found])
        room = found


@kernel
def _cut(data, offsets, words, paragraphs, spaces, document, start, stop):  # type: ignore[no-untyped-def]
    """Fill `document`, `start` and `stop` as far as they reach; returns how many windows there are.

    Words are counted without a branch for each: on text a branch at every word's ends is mispredicted about once a word.
    """
    room = document.shape[0]
    found = np.int64(0)
    for n in range(offsets.shape[0] - 1):
        end = offsets[n + 1]
        i = word = closed = offsets[n]  # the byte at hand, where the word began, where the last word ended
        opened = np.int64(-1)  # where the window began
        line = np.int64(-1)  # where the last word had ended at the last line feed
        count = words  # full, so that the first word opens a window
        before = np.int64(1)  # whether white space precedes
        limit = _WORD_WEIGHT
        while i < end:
            byte = data[i]
            space = spaces[byte]
            width = 1
            heavy = False
            starts = True  # a character
            if byte >= 0x80:
                starts = byte >= 0xC0
                wide = _wide_space(data, i, end) if starts else 0
                if wide:
                    space = np.int64(1)
                    width = wide
                    if byte == 0xE2 and data[i + 2] == 0xA9:  # U+2029 PARAGRAPH SEPARATOR
                        count = words if paragraphs else count
                else:
                    heavy = starts and _unspaced(data, i, end)
            elif paragraphs and byte == 10:
                count = words if line == closed else count  # the second line feed since the last word
                line = closed
            begins = before & (space ^ 1)
            if i - word >= limit and starts and not space:
                begins = np.int64(1)
            count += begins
            word = i if begins else word
            limit = _WORD_WEIGHT if begins else limit
            if count > words:
                if opened >= 0:
                    if found < room:
                        document[found], start[found], stop[found] = n, opened, closed
                    found += 1
                opened = i
                count = 1
            if heavy:
                limit -= _UNSPACED_WEIGHT
            i += width
            closed = closed if space else i
            before = space
        if opened >= 0:
            if found < room:
                document[found], start[found], stop[found] = n, opened, closed
            found += 1
    return found


@kernel
def _wide_space(data, i, end):  # type: ignore[no-untyped-def]
    """Bytes of the non-ASCII white-space character at i, 0 where there is none.

    U+0085 U+00A0 U+1680 U+2000-200A U+2028 U+2029 U+202F U+205F U+3000: `str.isspace` beyond ASCII.
    """
    byte = data[i]
    if byte == 0xC2:
        return 2 if i + 1 < end and (data[i + 1] == 0x85 or data[i + 1] == 0xA0) else 0
    if i + 2 >= end or byte < 0xE1 or byte > 0xE3:
        return 0
    second, third = data[i + 1], data[i + 2]
    if byte == 0xE1:
        return 3 if second == 0x9A and third == 0x80 else 0
    if byte == 0xE3:
        return 3 if second == 0x80 and third == 0x80 else 0
    if second == 0x80:
        return 3 if 0x80 <= third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF else 0
    return 3 if second == 0x81 and third == 0x9F else 0


@kernel
def _unspaced(data, i, end):  # type: ignore[no-untyped-def]
    """Whether the character that begins at i is of a script that writes no spaces between words.

    By lead bytes: kana and Han (E3-E9, F0 A0-B3), Thai and Lao (E0 B8-BB), Burmese (E1 80-82), Khmer (E1 9E-9F).
    """
    byte = data[i]
    if 0xE3 <= byte <= 0xE9:
        return True
    if i + 1 >= end:
        return False
    second = data[i + 1]
    if byte == 0xE0:
        return 0xB8 <= second <= 0xBB
    if byte == 0xE1:
        return 0x80 <= second <= 0x82 or 0x9E <= second <= 0x9F
    return byte == 0xF0 and 0xA0 <= second <= 0xB3
