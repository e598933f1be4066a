"""The size of an encoded picture by its header, before memory is taken for its pixels."""

from typing import Optional, Tuple

#: Pixels of the largest picture that is decoded. A file of a few kilobytes can claim a thousand
#: times as many, which would fill the memory; one of this size takes 250 MB as it is decoded.
MOST_PIXELS = 64 * 10**6

_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = {0x01} | set(range(0xD0, 0xDA))


def size(encoded: bytes) -> Optional[Tuple[int, int]]:
    """(width, height) that a JPEG, PNG or GIF claims to have; None if it is none that says so."""
    if encoded.startswith(b"\xff\xd8"):
        return _jpeg_size(encoded)
    if encoded.startswith(b"\x89PNG") and len(encoded) >= 24:
        return int.from_bytes(encoded[16:20], "big"), int.from_bytes(encoded[20:24], "big")
    if encoded.startswith(b"GIF8") and len(encoded) >= 10:
        return int.from_bytes(encoded[6:8], "little"), int.from_bytes(encoded[8:10], "little")
    return None


def _jpeg_size(encoded):
    """Walks the segments as decoders do, which skip what is no marker, up to the first scan."""
    position = 2
    while True:
        position = encoded.find(b"\xff", position) + 1
        if position == 0 or position + 7 >= len(encoded):
            return None
        marker = encoded[position]
        if marker in (0x00, 0xFF) or marker in _WITHOUT_LENGTH:
            continue
        if marker in _START_OF_FRAME:
            height, width = (encoded[position + start : position + start + 2] for start in (4, 6))
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        if marker == _START_OF_SCAN:
            return None
        position += 1 + int.from_bytes(encoded[position + 1 : position + 3], "big")


def check_size(encoded: bytes):
    """Raise `ValueError` if a picture claims more than `MOST_PIXELS`."""
    width, height = size(encoded) or (0, 0)
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"the image claims {width} x {height} pixels; at most {MOST_PIXELS // 10 ** 6} million"
            " are decoded"
        )
