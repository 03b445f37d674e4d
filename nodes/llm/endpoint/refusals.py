"""Refusals of optional parameters: which parameter of a request a server does not take, by status and words."""

import re
from typing import Final

# Names of the options of a call; each can be left out, and the visit goes on.
SCHEMA: Final = "response_format"
TEMPERATURE: Final = "temperature"
STREAM_USAGE: Final = "stream_options"
LENGTH: Final = "max_completion_tokens"
OLD_LENGTH: Final = "max_tokens"
SYSTEM: Final = "system message"

NOT_IMPLEMENTED = 501
# Statuses with which servers refuse a part of a request, like 500 if they crash over a schema or a template.
REFUSING = {400, 404, 405, 415, 422, 500, NOT_IMPLEMENTED}
# Statuses with which a server may refuse a schema in words of its own; 500 says nothing of the kind.
VAGUE = {400, 404, 422, NOT_IMPLEMENTED}

# Words of servers and templates for each option.
WORDS: Final = {
    SCHEMA: re.compile(
        r"response_?format|json[ _]?schema|guided|grammar|json_validate_failed|structured[ _]?output|schema"
        r"|additionalProperties|output_(?:config|format)|tool_choice|tool use|not support tools"
        r"|`?format`? (?:is|not|param)|no endpoints found that can handle",
        re.IGNORECASE,
    ),
    TEMPERATURE: re.compile("temperature", re.IGNORECASE),
    STREAM_USAGE: re.compile("stream_?options|include_usage", re.IGNORECASE),
    LENGTH: re.compile("max_completion_tokens"),
    # Some packages of providers send the newer name for the older option.
    OLD_LENGTH: re.compile("max_(?:completion_|output_)?tokens|num_predict"),
    SYSTEM: re.compile(
        r"system[ _-]?(?:role|message|prompt|instruction)|developer instruction|roles must alternate"
        r"|only user and assistant roles|messages\W+0\W+role|role\W+system|'system'|must alternate",
        re.IGNORECASE,
    ),
}


def refused(status: int | None, text: str) -> frozenset[str]:
    """Return the options that a complaint names; empty if its status refuses nothing.

    A complaint may name an option by chance, for example if it repeats the request. So whoever leaves an option out
    remembers this only after the request without it has succeeded.

    Args:
        status: Status of the answer or inside its body; None if unknown.
        text: Whole body as text.
    """
    if status is not None and status not in REFUSING:
        return frozenset()
    return frozenset(option for option, words in WORDS.items() if words.search(text))
