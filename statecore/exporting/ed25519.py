"""Verification of Ed25519 signatures in Python alone, as RFC 8032, 5.1, has it: slow, and enough.

It is put into the script that goes with an exported audit record, so it asks for Python 3.8 only.
A point is (x, y, z, t), with x/z and y/z on the curve and x*y = z*t. Nothing secret is handled.
"""

from functools import lru_cache
from hashlib import sha512
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Point = tuple[int, int, int, int]

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)


def decode_point(data: bytes) -> "Point | None":
    """Return the point that 32 bytes spell, or None (5.1.3)."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number % 2**255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x % 2 != sign else x
    return x, y, 1, x * y % P


def add(one: "Point", other: "Point") -> "Point":
    """Return the sum of two points (5.1.4)."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * D * t1 * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number: int, point: "Point") -> "Point":
    """Return a multiple of a point."""
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, point)
        point = add(point, point)
        number >>= 1
    return result


BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
BASE = BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P


@lru_cache(maxsize=16)  # a record has the same head in each of its proofs
def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether an Ed25519 signature holds (5.1.7)."""
    if len(key) != 32 or len(signature) != 64:
        return False
    public, point = decode_point(key), decode_point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if public is None or point is None or scalar >= ORDER:
        return False
    challenge = int.from_bytes(sha512(signature[:32] + key + message).digest(), "little") % ORDER
    x1, y1, z1, _ = multiply(scalar, BASE)
    x2, y2, z2, _ = add(point, multiply(challenge, public))
    return (x1 * z2 - x2 * z1) % P == 0 and (y1 * z2 - y2 * z1) % P == 0
