"""Counts, with `fizz` for what three divides and `buzz` for what five divides."""


def fizzbuzz(n):
    """The first `n` words."""
    for i in range(1, n + 1):
        yield ("fizz" * (i % 3 == 0) + "buzz" * (i % 5 == 0)) or str(i)
