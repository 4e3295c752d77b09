"""TIFF, AVIF, HEIC and PDF files that mean harm, for `predict`: circles, bombs, programs and millions of pages."""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from documents import LONG, SHORT, forms, grey, page, pages, pdf, stream, tiff, tiling
from hostile.common import Case
from hostile.images import READ, REFUSED, Content, case, encoded, picture, replaced
from PIL import Image

_SIDE = 7_000
_DRAW = b"72 0 0 72 0 0 cm /I Do"
_BOX = b"0 0 72 72"
_PICTURE = b"/XObject<</I 5 0 R>>"


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each file."""
    checkpoint = str(run / "checkpoints/best.ckpt")
    for content in (*_odd_tiffs(), *_tiffs(), *_containers(), *_pdfs(), *_drawings(), *_pictures()):
        yield case(checkpoint, *content)
    large = grey(T256=(LONG, (60_000,)), T257=(LONG, (60_000,)))
    yield case(checkpoint, "TIFF of two pages that are too large", lambda: tiff(large, large), REFUSED, errors=2)


def _odd_tiffs() -> Iterator[Content]:
    """Yield TIFF files of one image with tags that make no sense."""
    tiles = {"T322": (LONG, (60_000,)), "T323": (LONG, (60_000,)), "T324": (LONG, (8,)), "T325": (LONG, (9,))}
    odd = {
        "two values for a side": {"T256": (LONG, (20, 20))},
        "no rows in a strip": {"T278": (LONG, (0,))},
        "4 billion rows in a strip": {"T278": (LONG, (2**32 - 1,))},
        "a strip elsewhere": {"T273": (LONG, (2**32 - 1,))},
        "a strip on its header": {"T273": (LONG, (1,)), "T279": (LONG, (2**32 - 1,))},
        "50 million strips": {"T273": (LONG, 50_000_000)},
        "a million strips of a row": {"T273": (LONG, 1_000_000), "T278": (LONG, (1,))},
        "enormous tiles": tiles,
        "enormous compressed tiles": {**tiles, "T259": (SHORT, (5,))},
        "4 billion bits": {"T258": (LONG, (2**32 - 1,))},
        "60,000 samples": {"T277": (SHORT, (60_000,)), "T258": (SHORT, (8,) * 60_000)},
        "50 million bits of samples": {"T258": (SHORT, 50_000_000)},
        "4 billion pixels": {"T256": (LONG, (65_000,)), "T257": (LONG, (65_000,))},
        "a line": {"T256": (LONG, (2**31,)), "T257": (LONG, (1,))},
        "no size": {"T256": (LONG, (0,)), "T257": (LONG, (0,))},
        "five colours": {"T277": (SHORT, (5,)), "T258": (SHORT, (16,) * 5)},
        "Lab": {"pixels": bytes(1_800), "T258": (SHORT, (8, 8, 8)), "T277": (SHORT, (3,)), "T262": (SHORT, (8,))},
        "a short palette": {"T262": (SHORT, (3,)), "T320": (SHORT, (1, 2, 3))},
        "NaN": {"pixels": struct.pack("<f", float("nan")) * 600, "T258": (SHORT, (32,)), "T339": (SHORT, (3,))},
        "EXIF in a circle": {"T34665": (LONG, (8,)), "T34853": (LONG, (8,)), "T40965": (LONG, (8,))},
        "copies in a circle": {"T330": (LONG, (8, 8, 8))},
        "an orientation of 60,000": {"T274": (SHORT, (60_000,))},
    }
    for compression in (2, 3, 4, 5, 6, 7, 8, 32773, 32809, 32946, 34676, 34925, 50000, 50001, 65_000):
        odd[f"noise compressed by {compression}"] = {
            "pixels": Random(1).randbytes(600), "T259": (SHORT, (compression,))
        }  # fmt: skip
    for what, tags in odd.items():
        yield f"TIFF of {what}", lambda tags=tags: tiff(grey(**tags)), READ  # type: ignore[misc]


def _tiffs() -> Iterator[Content]:
    sound, small = grey(), grey(1, 1)
    yield "TIFF in a circle of one", lambda: tiff(sound, last=1), REFUSED
    yield "TIFF in a circle of three", lambda: tiff(sound, sound, sound, last=2), REFUSED
    yield "TIFF of 1,001 pages", lambda: tiff(*[small] * 1_001), REFUSED
    yield "TIFF of 20,000 pages", lambda: tiff(*[small] * 20_000), REFUSED
    yield "TIFF of 20,000 small copies", lambda: tiff(*[grey(1, 1, T254=(LONG, (1,)))] * 20_000), REFUSED
    yield "TIFF of 49 megapixels, 16 bits", lambda: _deflated(2, T258=(SHORT, (16,))), REFUSED
    yield "TIFF of 49 megapixels of floats", lambda: _deflated(4, T258=(SHORT, (32,)), T339=(SHORT, (3,))), REFUSED
    yield "TIFF, big, of 2^60 tags", lambda: replaced(tiff(sound, big=True), 16, struct.pack("<Q", 2**60)), REFUSED
    yield "TIFF, big, at 2^63", lambda: replaced(tiff(sound, big=True), 8, struct.pack("<Q", 2**63)), REFUSED
    yield "TIFF of 59,600 tags of the whole file", _tags, REFUSED


def _deflated(size: int, **tags: object) -> bytes:
    sides = {"T256": (LONG, (_SIDE,)), "T257": (LONG, (_SIDE,)), "T278": (LONG, (_SIDE,)), "T259": (SHORT, (8,))}
    return tiff(grey(pixels=zlib.compress(bytes(size * _SIDE * _SIDE)), **sides, **tags))


def _tags() -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 7, 700_000, 8) for tag in range(400, 60_000))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 59_600) + entries + bytes(4)


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


def _nested(start: bytes) -> bytes:
    box = b""
    for _ in range(2_000):
        box = _box(b"meta", bytes(4) + box)
    return start + box


def _lying(kind: str) -> bytes:
    """Return an image of nine megapixels that claims to be small."""
    options = {"speed": 10} if kind == "AVIF" else {}
    content = encoded(Image.new("L", (3_000, 3_000), 99), kind, **options)
    return replaced(content, content.index(b"ispe") + 8, struct.pack(">II", 64, 64))


def _containers() -> Iterator[Content]:
    for kind, brand in (("AVIF", b"avif"), ("HEIC", b"heic")):
        start = _box(b"ftyp", brand + bytes(4) + brand + b"mif1")
        items = _box(b"iinf", bytes(4) + struct.pack(">H", 65_535) + bytes(100))
        sound = encoded(picture(), kind)
        for what, content in {
            "a brand alone": start,
            "a box without an end": start + struct.pack(">I", 0) + b"meta" + bytes(1_000),
            "a box of 2^63": start + struct.pack(">I4sQ", 1, b"meta", 2**63) + bytes(1_000),
            "65,535 items": start + _box(b"meta", bytes(4) + items),
        }.items():
            yield f"{kind} of {what}", partial(bytes, content), REFUSED
        yield f"{kind} of 2,000 boxes in each other", partial(_nested, start), REFUSED
        yield (
            f"{kind} of data elsewhere",
            partial(replaced, sound, sound.index(b"iloc") + 16, b"\x7f\xff\xff\xff"),
            READ,
        )
        yield f"{kind} of more than it claims", partial(_lying, kind), READ
    film = [Image.new("L", (40, 40), number) for number in range(200)]
    yield "AVIF of 201 frames", lambda: encoded(picture(), "AVIF", speed=10, save_all=True, append_images=film), READ


_CATALOGUE = b"<</Type/Catalog/Pages 2 0 R>>"
_ONE = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
_PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Contents 4 0 R>>"


def _pdfs() -> Iterator[Content]:
    """Yield PDF files whose structure is the harm."""
    for count in (1_000_000, 2**31, -1):
        tree = b"<</Type/Pages/Kids[3 0 R]/Count %d>>" % count
        yield f"PDF of {count:,} pages", partial(pdf, _CATALOGUE, tree, _PAGE), count < 0
    yield "PDF of 1,001 pages", partial(pages, 1_001), REFUSED
    yield "PDF of pages in a circle", lambda: pdf(_CATALOGUE, b"<</Type/Pages/Kids[2 0 R]/Count 1>>"), REFUSED
    tree = [b"<</Type/Pages/Kids[%d 0 R]/Count 1>>" % (number + 3) for number in range(3_000)]
    yield "PDF of a deep tree", lambda: pdf(_CATALOGUE, *tree, _PAGE), REFUSED
    for box in (
        b"0 0 1e30 1e30",
        b"0 0 14400 14400",
        b"-1e9 -1e9 1e9 1e9",
        b"0 0 0 0",
        b"0 0 14400 0.001",
        b"a b",
        b"",
    ):
        yield f"PDF of a page of {box.decode() or 'nothing'}", partial(pages, 1, box), READ
    yield "PDF of nested lists in an object", lambda: pdf(_CATALOGUE, b"[" * 100_000 + b"]" * 100_000), REFUSED
    secret = b"/Encrypt<</Filter/Standard/V 1/R 2/P -1/O(%s)/U(%s)>>/ID[(a)(a)]" % (b"o" * 32, b"u" * 32)
    yield "PDF with a password", lambda: pdf(_CATALOGUE, _ONE, _PAGE, trailer=secret), REFUSED
    length = b"<</Length 4 0 R>>stream\n0 0 9 9 re f\nendstream"
    yield "PDF of a length that is itself", lambda: pdf(_CATALOGUE, _ONE, _PAGE, length), READ
    yield "PDF of earlier tables in a circle", lambda: pages(1).replace(b"/Root 1 0 R", b"/Root 1 0 R/Prev 400"), READ
    yield "PDF of a long number", lambda: pdf(b"9" * 5_000_000), REFUSED
    yield "PDF of a missing catalogue", lambda: pages(1).replace(b"/Root 1 0 R", b"/Root 9 0 R"), READ
    for what, action in {
        "JavaScript": rb"/AA<</O<</S/JavaScript/JS(while\(true\){})>>>>",
        "programs": b"/AA<</O<</S/Launch/F(/bin/touch ../outside/pwned)>>>>",
        "addresses": b"/AA<</O<</S/URI/URI(http://127.0.0.1:9/)>>>>",
    }.items():
        yield f"PDF of {what}", partial(page, b"9 9 40 40 re f", entries=action), READ


def _squares() -> bytes:
    return stream(zlib.compress(b"0 0 1 1 re f\n" * 10_000_000), b"/Filter/FlateDecode")


def _twice() -> bytes:
    return zlib.compress(zlib.compress(bytes(300_000_000), 9), 9)


def _drawings() -> Iterator[Content]:
    """Yield PDF files whose drawing is the harm."""
    yield "PDF of forms in forms", lambda: forms(9, 9), REFUSED
    itself = stream(b"/F Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>")
    yield "PDF of a form in itself", lambda: page(b"/F Do", _BOX, b"/XObject<</F 5 0 R>>", itself), REFUSED
    yield "PDF of a billion tiles", tiling, REFUSED
    yield "PDF of 300,000 curves", lambda: page(b"0 0 m 9 200 200 9 72 5 c S\n" * 300_000), READ
    yield "PDF of short dashes", lambda: page(b"[.00001 .00001] 0 d .001 w 0 0 m 72 72 l S"), READ
    yield "PDF of a million states", lambda: page(b"q " * 1_000_000), REFUSED
    yield "PDF of nested lists", lambda: page(b"[" * 200_000 + b"]" * 200_000 + b" 0 d"), REFUSED
    yield "PDF of 10 million squares", lambda: pdf(_CATALOGUE, _ONE, _PAGE, _squares()), READ
    shading = b"/Shading<</S<</ShadingType 1/ColorSpace/DeviceRGB/Matrix[72 0 0 72 0 0]/Function 5 0 R>>>>"
    ranges = b"/FunctionType 4/Domain[0 1 0 1]/Range[0 1 0 1 0 1]"
    for what, program in {
        "a long program": b"{" + b"dup sin cos exch sin cos exch " * 3_000 + b"dup}",
        "a nested program": b"{" * 50_000 + b"}" * 50_000,
    }.items():
        yield f"PDF of {what}", partial(page, b"/S sh", _BOX, shading, stream(program, ranges)), READ
    font = b"<</Type/Font/Subtype/Type3/FontBBox[0 0 9 9]/FontMatrix[1 0 0 1 0 0]/FirstChar 97/LastChar 97/Widths[9]"
    font += b"/Encoding<</Differences[97/a]>>/CharProcs<</a 6 0 R>>/Resources<</Font<</T 5 0 R>>>>>>"
    text = b"BT /T 9 Tf (aaaaaaaaaa) Tj ET"
    glyph = stream(b"9 0 d0 " + text)
    yield "PDF of a letter of itself", lambda: page(text, _BOX, b"/Font<</T 5 0 R>>", font, glyph), READ


def _pictures() -> Iterator[Content]:
    """Yield PDF files with a picture that is the harm."""
    entries = b"/Type/XObject/Subtype/Image/Width %d/Height %d/BitsPerComponent %d/ColorSpace/DeviceGray%s"

    def drawn(side: int, bits: int, data: bytes, filters: bytes) -> bytes:
        return page(_DRAW, _BOX, _PICTURE, stream(data, entries % (side, side, bits, filters)))

    flate = b"/Filter/FlateDecode"
    yield "PDF of 3.6 billion bits", lambda: drawn(60_000, 1, zlib.compress(bytes(450_000_000)), flate), READ
    yield "PDF of 0.9 billion bytes", lambda: drawn(30_000, 8, zlib.compress(bytes(200_000_000)), flate), READ
    twice = b"/Filter[/FlateDecode/FlateDecode]"
    yield (
        "PDF packed twice",
        lambda: drawn(20_000, 8, zlib.compress(zlib.compress(bytes(300_000_000), 9), 9), twice),
        READ,
    )
    yield "PDF of another file", lambda: drawn(9, 8, b"", b"/F(/etc/passwd)"), READ
    for name in (b"JBIG2Decode", b"JPXDecode", b"DCTDecode", b"CCITTFaxDecode", b"LZWDecode", b"RunLengthDecode"):
        noise = Random(2).randbytes(5_000)
        yield f"PDF of noise in {name.decode()}", partial(drawn, 30_000, 1, noise, b"/Filter/" + name), READ
