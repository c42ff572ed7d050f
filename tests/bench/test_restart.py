"""The figures of a killed worker: from moments to a line of the table."""

from bench.restart import row


def test_medians_and_the_worst_are_told() -> None:
    line = row(16, [(0.4, 0.5, 2.0), (0.5, 0.7, 1.0), (0.3, 0.6, 4.0)])
    assert line == "| 16 | 3 | 0.40 | 0.60 (0.70) | 2.00 (4.00) |"
