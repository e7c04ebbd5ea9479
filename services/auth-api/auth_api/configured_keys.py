"""An operator's own signing keys: read from keyfiles and keytext, in their order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auth_api.oidc.keys import manual_keys
from shared_store.signing_keys import SigningAlg, SigningKey, UnreadableBlock, parse_pem


@dataclass(frozen=True, slots=True)
class ConfiguredKeys:
    """Keys by algorithm, the one that signs first; and what gave none, as pairs of setting and message."""

    by_alg: Mapping[SigningAlg, tuple[SigningKey, ...]]
    unreadable: tuple[tuple[str, str], ...]


def read_configured_keys(keyfiles: Sequence[str], keytext: str | None) -> ConfiguredKeys:
    """Read every key there is. Never raises: what can't be read is left out and told."""
    keys: list[SigningKey] = []
    unreadable: list[tuple[str, str]] = []
    for setting, found in _found(keyfiles, keytext):
        if isinstance(found, SigningKey):
            keys.append(found)
        else:
            unreadable.append((setting, found))
    return ConfiguredKeys(manual_keys(keys), tuple(unreadable))


def _found(keyfiles: Sequence[str], keytext: str | None) -> Iterator[tuple[str, SigningKey | str]]:
    """Give each setting's keys, and in place of one that can't be read why that is."""
    for name in keyfiles:
        try:
            text = Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            yield "keyfiles", f"names {name}, which can't be read and is left out: {error}"
            continue
        for block in parse_pem(text):
            yield "keyfiles", _or_reason(block, f"in {name}")
    for block in parse_pem(keytext or ""):
        yield "keytext", _or_reason(block, "in it")


def _or_reason(block: SigningKey | UnreadableBlock, where: str) -> SigningKey | str:
    if isinstance(block, UnreadableBlock):
        return f"gives no key for block {block.position} {where}, which is left out: {block.reason}"
    return block
