"""Where keys come from, how they are kept, and what they make readable."""

from statecore.keys.elsewhere import KeyFromService, KeyInKeyring, KeyService
from statecore.keys.providers import (
    KeyFile,
    KeyInEnvironment,
    KeyProvider,
    Passphrase,
    default_provider,
    new_key,
    provider_of,
)
from statecore.keys.ring import DataKey, KeyRing
from statecore.keys.store import FileKeyStore, KeyStore, MemoryKeyStore, WrappedKey

__all__ = [
    "DataKey",
    "FileKeyStore",
    "KeyFile",
    "KeyFromService",
    "KeyInEnvironment",
    "KeyInKeyring",
    "KeyProvider",
    "KeyRing",
    "KeyService",
    "KeyStore",
    "MemoryKeyStore",
    "Passphrase",
    "WrappedKey",
    "default_provider",
    "new_key",
    "provider_of",
]
