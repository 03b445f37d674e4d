"""Names of chat models as people write them: which name of this project was probably meant."""

import re

# A setting names a model, never an address: addresses and keys come only from the environment of the process. Names
# are those that servers use, such as `/models/Qwen2.5-7B`, `qwen2.5-7b@q4_k_m` and `Llama 3 8B`. Two separators never
# follow each other, so no name holds `://` or `//`.
MODEL_NAME = r"^[a-z][a-z0-9_]{0,63}(:/?[A-Za-z0-9._@+~#=,()-](?:[ :/]?[A-Za-z0-9._@+~#=,()-]){0,254}/?)?$"
# Families of OpenAI, whose own names are in small letters; names of other models are kept as written.
_LOWER = ("gpt", "chatgpt", "o1", "o3", "o4")


def unknown_model(name: str) -> str:
    """Return the message for a name that is no name of a model, with the name that was probably meant.

    Examples:
        >>> unknown_model("openai/gpt-4o")
        "there is no model 'openai/gpt-4o': name it with its provider: openai:gpt-4o"
    """
    if "//" in name:
        return f"there is no model {name[:80]!r}: name the model alone; its address comes from OPENAI_BASE_URL"
    if meant := suggested_model(name):
        return f"there is no model {name[:80]!r}: name it with its provider: {meant}"
    known = "`rules`, `openai:NAME` for an OpenAI-compatible endpoint, or `PROVIDER:NAME`"
    return f"there is no model {name[:80]!r}: use {known}"


def suggested_model(name: str) -> str:
    """Return the name that was probably meant by a name of no known provider; empty if none can be guessed.

    Examples:
        >>> suggested_model("gpt-4"), suggested_model("GPT-4o"), suggested_model("OpenAI:gpt-4o")
        ('openai:gpt-4', 'openai:gpt-4o', 'openai:gpt-4o')
        >>> suggested_model("Rules"), suggested_model("azure:gpt-4o"), suggested_model("what is it")
        ('rules', '', '')
    """
    plain = name.strip()
    if plain.casefold() == "rules":
        meant = "rules"
    elif plain.casefold().startswith(("openai:", "openai/")):
        meant = f"openai:{_spelled(plain[len('openai:') :])}"
    elif ":" in plain or " " in plain or plain.casefold() == "openai":
        return ""
    else:
        meant = f"openai:{_spelled(plain)}"
    return meant if meant != name and re.fullmatch(MODEL_NAME, meant) else ""


def _spelled(model: str) -> str:
    lower = model.lower()
    return lower if lower.startswith(_LOWER) else model
