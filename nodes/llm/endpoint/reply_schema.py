"""Schema of a reply, in the form that OpenAI requires."""

from functools import lru_cache
from typing import Any

from pydantic import BaseModel


@lru_cache(maxsize=64)
def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the `response_format` for a schema; the result is cached, so do not change it.

    Lengths, patterns and ranges are left out: some servers refuse or misread them, and every reply is checked anyway.
    """
    whole = schema.model_json_schema()
    fields = {
        name: {key: value for key, value in field.items() if key in ("type", "items", "enum", "anyOf", "description")}
        for name, field in whole["properties"].items()
    }
    # All fields required and no others allowed: the strict form that OpenAI requires.
    bare = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": schema.__name__, "strict": True, "schema": bare}}
