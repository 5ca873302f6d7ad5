"""LangGraph's checkpoints in a statecore store: each thread an agent, each super-step an event."""

from statecore.integrations.langgraph.saver import StatecoreSaver

__all__ = ["StatecoreSaver"]
