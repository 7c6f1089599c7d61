"""How a call between services looks on the wire.

``POST /_tenfold/call/orders.place_order`` with the arguments by name as one map, in MessagePack (what our own services
speak) or JSON (for whoever else calls). The answer is the result in the same format, or a fault
(:mod:`tenfold.rpc.faults`) with the header ``Tenfold-Error``. Whoever reads ignores members that it does not know, and
fills in the defaults of those that are missing, so that two versions of a service understand each other.

Headers are those of :mod:`tenfold.client.outward` (time left, trace, priority, who retries, causal token, request id),
``Authorization: Tenfold <token>`` that proves which service calls, and ``Tenfold-Principal``: for whom it does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from tenfold.errors import BadRequest
from tenfold.http.adapters import encode_hook
from tenfold.rpc.kinds import known, names_of
from tenfold.rpc.signature import decode_hook
from tenfold.security.principal import Principal

PATH: Final = "/_tenfold/call/"
MSGPACK_TYPE: Final = "application/msgpack"
JSON_TYPE: Final = "application/json"
SCHEME: Final = "Tenfold"
"""Of the header ``Authorization``."""
CERTIFICATE: Final = "Tenfold-Certificate"
"""What a balancer that takes connections by TLS was shown by the caller; believed of a balancer only."""
PRINCIPAL: Final = "Tenfold-Principal"
PRINCIPAL_CHARS_MAX: Final = 8192


class Wire(NamedTuple):
    """A format."""

    name: str
    media_type: str
    encode: Callable[[Any], bytes]
    make_decoder: Callable[..., Any]

    def decoder(self, type_: Any) -> Callable[[bytes], Any]:
        """What reads a value of ``type_``."""
        decode: Callable[[bytes], Any] = self.make_decoder(type_, dec_hook=decode_hook).decode
        return decode


MSGPACK: Final = Wire(
    "MessagePack", MSGPACK_TYPE, msgspec.msgpack.Encoder(enc_hook=encode_hook).encode, msgspec.msgpack.Decoder
)
JSON: Final = Wire("JSON", JSON_TYPE, msgspec.json.Encoder(enc_hook=encode_hook).encode, msgspec.json.Decoder)
WIRES: Final[Mapping[str, Wire]] = {wire.media_type: wire for wire in (MSGPACK, JSON)}


class _Sent(msgspec.Struct, omit_defaults=True):
    kinds: list[str]
    """Its class and those it inherits from, the nearest first."""
    fields: dict[str, Any]


_decode_principal = msgspec.json.Decoder(_Sent).decode


def principal_text(principal: Any) -> str:
    """For whom a call is made, as the header has it; empty for nobody."""
    if not isinstance(principal, Principal):
        return ""
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(principal).items()
        if value is not None and value != frozenset()
    }
    sent = _Sent(names_of(type(principal), Principal), fields)
    return base64.urlsafe_b64encode(JSON.encode(sent)).decode()


def principal_of(text: str) -> Principal | None:
    """The principal of a header, as the nearest of its classes that this process knows. Raises BadRequest."""
    if not text:
        return None
    try:
        sent = _decode_principal(base64.b64decode(text[:PRINCIPAL_CHARS_MAX], b"-_", validate=True))
        found = known(sent.kinds, Principal)
        return msgspec.convert(sent.fields, found)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadRequest(f"The header {PRINCIPAL} names nobody that can be read: {error}.") from None
