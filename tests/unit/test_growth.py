"""Growth of work: linear work passes, quadratic work is found."""

import re

from tests.growth import grows_with_its_input


def test_quadratic_work_is_found_and_linear_work_is_not() -> None:
    assert grows_with_its_input(lambda text: [sign for sign in text], "", "a", 80_000)
    assert grows_with_its_input(lambda text: [text.count(sign) for sign in text[:100]], "x", "ab", 80_000, "y")
    assert not grows_with_its_input(lambda text: [text.count("b") for _ in text], "", "a", 8_000)
    # A regular expression that starts anew at each place and reads on to the end.
    assert not grows_with_its_input(re.compile("a*b").search, "", "a", 8_000)
