"""Contract tests for plug-ins: subclass the contract of your kind."""

from graph.conformance.embeddings import EmbeddingContract
from graph.conformance.models import ModelContract
from graph.conformance.roles import RoleContract
from graph.conformance.sources import SourceContract
from graph.conformance.users import UserContract

__all__ = ["EmbeddingContract", "ModelContract", "RoleContract", "SourceContract", "UserContract"]
