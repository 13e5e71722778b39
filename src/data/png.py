"""Plain PNGs: their size without decoding, their checksums, and their first rows alone."""

import zlib

from src.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
EIGHT_BIT_RGB = (8, 2, 0, 0, 0)  # bit depth, colour type, compression, filter, interlace
# May hold an orientation, which turns rows into columns.
ORIENTED = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a PNG that `first_rows` can cut: 8-bit RGB, rows in order, upright. None for all else.

    Checks every chunk's checksum, so that damage below the rows that are decoded is found too (.6 ms for 2.5 MB).

    Raises:
        UserError: truncated or damaged.
    """
    if not data.startswith(SIGNATURE) or tuple(data[24:29]) != EIGHT_BIT_RGB:
        return None
    view, start, kinds, kind = memoryview(data), len(SIGNATURE), set(), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        end = start + 8 + length
        if len(data) < end + 4:
            raise UserError("truncated")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise UserError(f"damaged: wrong checksum at byte {start}")
        kinds.add(kind)
        start = end + 4
    return None if kinds & ORIENTED else (int.from_bytes(data[20:24]), int.from_bytes(data[16:20]))


def first_rows(data: bytes, rows: int) -> bytes:
    """The same PNG, its header saying that it has so many rows: rows are stored from the top, a decoder stops there."""
    header = b"IHDR" + data[16:20] + rows.to_bytes(4) + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4) + data[33:]
