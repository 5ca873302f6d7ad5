"""LangGraph's checkpoints and its long-term memory in a statecore store."""

from statecore.integrations.langgraph.saver import StatecoreSaver
from statecore.integrations.langgraph.store import StatecoreStore

__all__ = ["StatecoreSaver", "StatecoreStore"]
