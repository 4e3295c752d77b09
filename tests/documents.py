"""PDF and TIFF files made by hand, for what no program writes."""

import struct

#: Types of TIFF's tags, and their forms in `struct`.
SHORT, LONG = 3, 4
_FORMS = {SHORT: "H", LONG: "I"}


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """Return a PDF of these objects, numbered from 1; the first one is the catalogue."""
    content = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    return content + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
        % (count, table, count, trailer, len(content))
    )


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """Return a stream for `pdf`."""
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(data), data)


def page(
    drawing: bytes, box: bytes = b"0 0 72 72", resources: bytes = b"", *more: bytes, entries: bytes = b""
) -> bytes:
    """Return a PDF of one page; further objects are numbered from 5."""
    return pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 4 0 R/Resources<<%s>>%s>>" % (box, resources, entries),
        stream(drawing),
        *more,
    )


def pages(count: int, box: bytes = b"0 0 72 72") -> bytes:
    """Return a PDF of as many pages with a black square on each."""
    kids = b" ".join(b"%d 0 R" % number for number in range(4, 4 + count))
    one = b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 3 0 R>>" % box
    tree = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count)
    return pdf(b"<</Type/Catalog/Pages 2 0 R>>", tree, stream(b"20 20 30 40 re f"), *[one] * count)


def forms(depth: int, width: int) -> bytes:
    """Return a PDF with a form that draws a form several times, that draws a form several times, and so on."""
    entries = b"/Type/XObject/Subtype/Form/BBox[0 0 72 72]/Resources<</XObject<</F %d 0 R>>>>"
    inner = [stream(b"/F Do " * width, entries % (6 + level)) for level in range(depth)]
    last = stream(b"0 0 1 1 re f", b"/Type/XObject/Subtype/Form/BBox[0 0 72 72]")
    return page(b"/F Do", b"0 0 72 72", b"/XObject<</F 5 0 R>>", *inner, last)


def tiling() -> bytes:
    """Return a PDF with a pattern of billions of tiles."""
    entries = (
        b"/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 .01 .01]/XStep .001/YStep .001/Resources<<>>"
    )
    pattern = stream(b"0 0 .01 .01 re f", entries)
    return page(b"/Pattern cs /P scn 0 0 200 200 re f", b"0 0 200 200", b"/Pattern<</P 5 0 R>>", pattern)


#: The tags of a TIFF directory: number, type and values. A number in place of the values is that of the values that
#: the tag claims to have, somewhere in the file.
Tags = dict[int, tuple[int, tuple[int, ...] | int]]


def grey(width: int = 20, height: int = 30, *, pixels: bytes | None = None, **more: object) -> tuple[Tags, bytes]:
    """Return the tags and the strip of an image in grey; `T254=(LONG, (1,))` adds or replaces a tag."""
    data = bytes(range(256)) * (width * height // 256 + 1) if pixels is None else pixels
    tags: Tags = {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (8,)),
        259: (SHORT, (1,)),
        262: (SHORT, (1,)),
        277: (SHORT, (1,)),
        278: (LONG, (height,)),
    }
    tags |= {int(name[1:]): value for name, value in more.items()}  # type: ignore[misc]
    return tags, data[: width * height] if pixels is None else data


def tiff(*images: tuple[Tags, bytes], order: str = "<", big: bool = False, last: int = 0) -> bytes:
    """Return a TIFF, or BigTIFF, of these images; the last one leads to the image of that number, or ends the file."""
    mark = {"<": b"II", ">": b"MM"}[order]
    pointer, size = ("Q", 8) if big else ("I", 4)
    start = struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8)))
    content = mark + start
    places: list[int] = []
    for number, (tags, data) in enumerate(images):
        places.append(len(content))
        entries = dict(tags)
        entries.setdefault(273, (LONG, (0,)))
        entries.setdefault(279, (LONG, (len(data),)))
        after = len(content) + (8 if big else 2) + len(entries) * (20 if big else 12) + size
        rest = b""
        rows = b""
        for tag, (kind, values) in sorted(entries.items()):
            count = values if isinstance(values, int) else len(values)
            body = b"" if isinstance(values, int) else struct.pack(f"{order}{count}{_FORMS[kind]}", *values)
            if tag == 273 and values == (0,):
                body = struct.pack(order + "I", after)
            if isinstance(values, int) or len(body) > size:
                place = after + len(data) + len(rest) if body else 8
                rest += body
                body = struct.pack(order + pointer, place)
            rows += struct.pack(f"{order}HH{pointer}", tag, kind, count) + body.ljust(size, b"\0")
        end = number == len(images) - 1
        following = (places[last - 1] if last else 0) if end else after + len(data) + len(rest)
        content += struct.pack(order + ("Q" if big else "H"), len(entries)) + rows
        content += struct.pack(order + pointer, following) + data + rest
    return content
