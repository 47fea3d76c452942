"""The interface of detectors: digests over all that matters, scores on a grid."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.tracer.detect.detector import GRID, Detector, Findings, detector_digest, to_grid


class Shouting:
    """A user's own detector: the share of capitals."""

    name = "shouting"
    category = "style"
    version = "1"
    parameters = {"letters": "ascii"}  # noqa: RUF012 - as short as a user would write it
    digest = detector_digest(name, category, version=version, parameters=parameters)

    def score(self, texts):
        words = [text or "" for text in texts.to_pylist()]
        share = [sum(c.isupper() for c in word) / max(1, len(word)) for word in words]
        size = np.array([len(word.encode()) for word in words])
        return Findings(np.arange(len(words)), "shouting", to_grid(share), np.zeros(len(words), np.int64), size)


def test_a_class_of_twenty_lines_is_a_detector():
    detector = Shouting()
    assert isinstance(detector, Detector)
    found = detector.score(pa.array(["HEY", "hey", None, "HeYy"]))
    assert found.score.tolist() == [1024, 0, 0, 512]
    assert found.labels() == ["shouting"] * 4


DIFFERENCES = {
    "name": ("b", "c", "1", {"k": "v"}),
    "category": ("a", "d", "1", {"k": "v"}),
    "version": ("a", "c", "2", {"k": "v"}),
    "a parameter": ("a", "c", "1", {"k": "w"}),
    "another parameter": ("a", "c", "1", {"k": "v", "l": 1}),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_detectors_digest_changes_with_each_part(what):
    name, category, version, parameters = DIFFERENCES[what]
    first = detector_digest("a", "c", version="1", parameters={"k": "v"})
    assert first == detector_digest("a", "c", version="1", parameters={"k": "v"})
    assert first != detector_digest(name, category, version=version, parameters=parameters)


def test_a_float_in_the_parameters_is_refused():
    with pytest.raises(TypeError):
        detector_digest("a", "c", version="1", parameters={"k": 0.8})


@given(st.floats(0, 1))
def test_the_grid_is_nearest_with_halves_up(value):
    grid = int(to_grid(value))
    assert grid == int(value * GRID + 0.5)
    assert abs(grid / GRID - value) <= 0.5 / GRID


def test_the_grid_clips_and_refuses_nan():
    assert to_grid([-1.0, 1.00001]).tolist() == [0, GRID]
    with pytest.raises(ValueError, match="NaN"):
        to_grid([0.5, float("nan")])
