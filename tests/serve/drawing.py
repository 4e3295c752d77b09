"""Drawing on the page in a browser."""

from itertools import pairwise

from serve.digits import STROKES, Stroke


def points(page, stroke: Stroke) -> Stroke:
    """The points of a stroke, in pixels of the page."""
    box = page.locator("#pad").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def draw(page, digit: str) -> None:
    """Draw a digit with the mouse."""
    for stroke in STROKES[digit]:
        first, *rest = points(page, stroke)
        page.mouse.move(*first)
        page.mouse.down()
        for point in rest:
            page.mouse.move(*point)
        page.mouse.up()


def draw_with_a_finger(page, digit: str) -> None:
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *at: tuple[float, float]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]})

    for stroke in STROKES[digit]:
        first, *rest = points(page, stroke)
        touch("touchStart", first)
        for (x0, y0), (x1, y1) in pairwise([first, *rest]):
            touch("touchMove", ((x0 + x1) / 2, (y0 + y1) / 2))
            touch("touchMove", (x1, y1))
        touch("touchEnd")


def answers(page) -> list[str]:
    """The answer of each model."""
    return page.locator(".answer strong").all_inner_texts()


def wait_for_answers(page, *expected: str) -> None:
    """Wait until the models have these answers."""
    page.wait_for_function(
        "expected => JSON.stringify([...document.querySelectorAll('.answer strong')].map(e => e.textContent)) "
        "=== JSON.stringify(expected)",
        arg=list(expected),
    )
