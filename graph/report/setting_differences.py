"""Differences of two sets of settings, for a message."""

from collections.abc import Mapping
from typing import Any

# Maximum number of characters of two values shown side by side.
LONGEST_DIFFERENCE = 100


def settings_by_name(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a study by name, those of the roles as `context.NAME`."""
    plain = {name: value for name, value in settings.items() if name != "context"}
    return plain | {f"context.{name}": value for name, value in settings["context"].items()}


def setting_differences(first: Mapping[str, Any], second: Mapping[str, Any], joined: str) -> list[str]:
    """Describe the differences of the settings that both sets have, long values by name only.

    Args:
        first: Settings by name.
        second: The other settings by name.
        joined: Text between the two values of a setting.

    Examples:
        >>> setting_differences({"train": 40, "test": 5}, {"train": 10, "test": 5}, " and ")
        ['train: 40 and 10']
    """
    both = [name for name in second if name in first]
    differing = [(name, repr(first[name]), repr(second[name])) for name in both if first[name] != second[name]]
    return [
        f"{name}: {one}{joined}{other}" if len(one + other) <= LONGEST_DIFFERENCE else name
        for name, one, other in differing
    ]
