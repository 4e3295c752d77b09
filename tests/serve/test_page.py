import base64

import pytest
from report.test_in_browser import luminance
from serve.conftest import Brightness, picture
from serve.digits import STROKES, WEIGHTS
from serve.drawing import answers, draw, draw_with_a_finger, wait_for_answers
from serve.local import running

from lightning_cnn.predict.model import open_model

pytest_plugins = ["browser"]


@pytest.fixture(scope="module")
def address():
    with running({"digits": open_model(WEIGHTS), "brightness": Brightness()}) as address:
        yield address


@pytest.fixture
def opened(address, visit):
    """Open the page."""

    def open_page(path: str = "", **options):
        seen = visit(f"{address}/{path}", **options)
        seen.page.set_default_timeout(60_000)
        seen.page.wait_for_selector("body[data-ready]")
        return seen

    return open_page


def transfer(page, kind: str, target: str, content: bytes) -> None:
    """Paste or drop a file."""
    page.evaluate(
        """([kind, target, content]) => {
          const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "a.png", { type: "image/png" }));
          const options = { bubbles: true, cancelable: true };
          const event = kind === "paste"
            ? new ClipboardEvent(kind, { ...options, clipboardData: data })
            : new DragEvent(kind, { ...options, dataTransfer: data });
          document.querySelector(target).dispatchEvent(event);
        }""",
        [kind, target, base64.b64encode(content).decode()],
    )


def test_every_digit_that_is_drawn_is_recognised(opened, address):
    seen = opened()
    page = seen.page

    for digit in STROKES:
        draw(page, digit)
        page.wait_for_function("() => [...document.querySelectorAll('.card img')].every(image => !image.hidden)")
        wait_for_answers(page, digit, "light")
        page.get_by_role("button", name="Clear").click()
        wait_for_answers(page, "–", "–")

    assert seen.errors == []
    assert all(request.startswith((f"{address}/", "data:image/png;base64,")) for request in seen.requests)


def test_a_digit_is_drawn_with_a_finger_on_a_phone(opened):
    seen = opened(width=390, height=844, has_touch=True, is_mobile=True)

    draw_with_a_finger(seen.page, "7")

    wait_for_answers(seen.page, "7", "light")
    assert seen.overflow() <= 0
    assert seen.page.evaluate("scrollY") == 0  # drawing does not scroll
    assert seen.errors == []


def test_probabilities_change_while_a_stroke_is_drawn(opened):
    page = opened().page
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.48 * box["width"], box["y"] + 0.8 * box["height"], steps=10)

    wait_for_answers(page, "1", "light")  # the pen is still down
    shares = page.locator(".card").first.locator(".shares div")
    assert shares.count() == 10
    assert shares.nth(1).get_attribute("class") == "best"
    assert (
        float(page.locator(".card").first.locator("i").nth(1).evaluate("bar => bar.style.getPropertyValue('--share')"))
        > 0.5
    )


def test_undo_and_clear_by_keyboard(opened):
    page = opened().page
    draw(page, "4")  # two strokes
    wait_for_answers(page, "4", "light")

    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelector('.answer strong').textContent !== '4'")
    page.keyboard.press("Control+z")
    wait_for_answers(page, "–", "–")
    draw(page, "4")
    wait_for_answers(page, "4", "light")
    page.keyboard.press("Delete")
    wait_for_answers(page, "–", "–")
    page.keyboard.press("Control+z")  # what was cleared
    wait_for_answers(page, "4", "light")


def test_a_digit_is_drawn_by_keyboard(opened):
    page = opened().page
    pad = page.get_by_role("application", name="Drawing area")
    pad.focus()
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")

    wait_for_answers(page, "1", "light")
    page.wait_for_function("() => document.querySelector('[role=status]').textContent.startsWith('digits: 1, ')")


def test_the_controls_are_reached_in_their_order(opened):
    page = opened().page
    draw(page, "1")
    wait_for_answers(page, "1", "light")
    page.locator("a").first.focus()
    names = ["Skip to the predictions"]
    for _ in range(5):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))

    assert names == [
        *("Skip to the predictions", "Drawing area", "Undo", "Clear", "Choose a picture", "Use it from a program"),
    ]
    assert page.locator(".card img").first.get_attribute("alt") == "What the network sees"


@pytest.mark.parametrize("way", ["choose", "paste", "drop"])
def test_a_picture_takes_the_place_of_the_drawing(opened, way):
    page = opened().page
    draw(page, "1")
    wait_for_answers(page, "1", "light")
    content = picture(0)

    if way == "choose":
        page.get_by_label("Choose a picture").set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": content}
        )
    else:
        transfer(page, way, "#pad" if way == "drop" else "body", content)

    wait_for_answers(page, "–", "dark")  # there is no digit in it
    page.locator(".card").first.get_by_text("blank: all its pixels are alike").wait_for()
    assert page.get_by_alt_text("Your picture").is_visible()
    draw(page, "7")
    wait_for_answers(page, "7", "light")
    assert not page.get_by_alt_text("Your picture").is_visible()


def test_a_doubt_is_shown(opened):
    page = opened().page

    transfer(page, "paste", "body", picture(128))

    wait_for_answers(page, "–", "grey")
    assert page.locator(".card").last.locator(".unclear").inner_text() == "Unclear: low confidence"


def test_the_answer_is_for_the_newest_image(opened):
    page = opened().page
    for digit in ("1", "2", "3", "7"):
        draw(page, digit)
        page.keyboard.press("Delete")
    draw(page, "7")

    wait_for_answers(page, "7", "light")
    page.wait_for_function("() => document.querySelector('[role=status]').textContent.startsWith('digits: 7, ')")
    assert answers(page) == ["7", "light"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_is_readable(opened, scheme, width):
    seen = opened(width=width, color_scheme=scheme)
    draw(seen.page, "7")
    wait_for_answers(seen.page, "7", "light")

    assert seen.overflow() <= 0
    colors = seen.page.evaluate(
        "['--ink', '--quiet', '--accent', '--paper', '--page', '--notice', '--on-accent', '--edge', '--bar-best']"
        ".map(name => { const probe = document.body.appendChild(document.createElement('i'));"
        " probe.style.color = `var(${name})`; return getComputedStyle(probe).color.match(/\\d+/g).map(Number) })"
    )
    ink, quiet, accent, paper, ground, notice, on_accent, edge, bar = map(luminance, colors)
    texts = [(ink, paper), (ink, ground), (quiet, paper), (quiet, ground), (accent, paper), (ink, notice)]
    for front, back in [*texts, (accent, ground), (on_accent, accent)]:
        assert (max(front, back) + 0.05) / (min(front, back) + 0.05) >= 4.5  # WCAG 2.2, 1.4.3
    for front, back in ((edge, paper), (bar, ground)):
        assert (max(front, back) + 0.05) / (min(front, back) + 0.05) >= 3  # 1.4.11


def test_a_key_is_asked_for_once(visit):
    with running({"brightness": Brightness()}, key="s3cret") as address:
        page = visit(address).page
        page.get_by_label("This server asks for a key").fill("wrong")
        page.get_by_role("button", name="Open").click()
        page.get_by_label("This server asks for a key").fill("s3cret")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("body[data-ready]")
        draw(page, "1")
        wait_for_answers(page, "light")
        page.reload()
        page.wait_for_selector("body[data-ready]")


def test_a_server_that_has_ended_is_named(visit):
    with running({"brightness": Brightness()}) as address:
        page = visit(address).page
        page.wait_for_selector("body[data-ready]")
    draw(page, "1")

    page.wait_for_function(
        "() => document.querySelector('.unclear').textContent.startsWith('The server does not answer.')"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_description_works_offline(opened, address, width):
    seen = opened("docs", width=width)

    headings = seen.page.locator("h2").all_inner_texts()
    assert headings == ["Try it", "POST /predict", "GET /info", "GET /health", "GET /metrics"]
    assert f"curl -F images=@digit.png -F top_k=3 {address}/predict" in seen.page.locator("#curl").inner_text()
    assert seen.overflow() <= 0
    assert seen.errors == []
    assert all(request.startswith(f"{address}/") for request in seen.requests)


def test_a_server_without_the_page_leads_to_its_description(serve):
    response = serve().get("/", follow_redirects=False)

    assert (response.status_code, response.headers["location"]) == (307, "docs")
    assert "Draw a digit" in serve(page=True).get("/").text
