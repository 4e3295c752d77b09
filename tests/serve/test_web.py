import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from serve.conftest import Brightness, base64_of
from serve.digits import STROKES, WEIGHTS
from serve.drawing import draw, draw_with_a_finger, wait_for_answers

from lightning_cnn.data import sources
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.pillow_images import opaque
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError
from lightning_cnn.predict.framing import frame
from lightning_cnn.predict.model import open_model
from lightning_cnn.serve import web

pytest_plugins = ["browser"]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and an npm that cannot fetch anything."""
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", str(tmp_path / "cache"))
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho npm error network >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site of a real classifier of digits; the runtime is fetched once per user."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here: install Node.js")
    from lightning_cnn.export.onnx import to_onnx
    from lightning_cnn.export.writing import Source

    folder = tmp_path_factory.mktemp("static")
    (folder / "digits.onnx").write_bytes(to_onnx(Source.read(WEIGHTS, None).classifier))
    model = open_model(WEIGHTS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", str(Path.home() / ".cache" / "lightning_cnn"))
        try:
            web.build_site(folder / "digits.onnx", folder / "site", model, "digits", "# Card")
        except web.SiteError as error:
            pytest.skip(f"npm cannot fetch the runtime: {error}")
    return folder / "site"


@contextmanager
def hosted(handler) -> Iterator[str]:
    """Serve what a handler does and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def host(site) -> Iterator[str]:
    """A static host of the site."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with hosted(partial(Handler, directory=str(site))) as address:
        yield address


@pytest.fixture
def opened(host, visit):
    def open_page(**options):
        seen = visit(host, **options)
        seen.page.wait_for_selector("body[data-ready]", timeout=120_000)
        seen.page.set_default_timeout(60_000)
        return seen

    return open_page


def test_digits_are_recognised_without_a_server(opened, host):
    seen = opened()
    seen.page.context.set_offline(True)

    for digit in ("4", "7"):  # with a server all of them, in test_page.py
        draw(seen.page, digit)
        wait_for_answers(seen.page, digit)
        seen.page.keyboard.press("Delete")
        wait_for_answers(seen.page, "–")

    assert seen.errors == []
    assert all(request.startswith((host, "data:image/png")) for request in seen.requests)


def test_digits_are_recognised_on_a_phone(opened):
    seen = opened(width=390, height=844, has_touch=True, is_mobile=True)

    draw_with_a_finger(seen.page, "7")

    wait_for_answers(seen.page, "7")
    assert seen.overflow() <= 0


def drawn(digit: str, width: int, scale: float, left: float, top: float) -> Image.Image:
    """The strokes of a digit, of some thickness, size and place, with soft edges."""
    image = Image.new("L", (1120, 1120), 255)
    for stroke in STROKES[digit]:
        points = [(1120 * (left + scale * x), 1120 * (top + scale * y)) for x, y in stroke]
        ImageDraw.Draw(image).line(points, 0, 4 * width, "curve")
        for x, y in (points[0], points[-1]):
            ImageDraw.Draw(image).circle((x, y), 2 * width, 0)
    return image.resize((280, 280), Image.Resampling.BOX)


@pytest.fixture(scope="module")
def framed(browser, page):
    """Return the input of the network as the page computes it."""
    files = {f"/{file.name}": file.read_bytes() for file in page.glob("*.js")}

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *arguments):
            pass

    with hosted(Handler) as address, browser.new_page() as opened:
        opened.goto(address)

        def run(image: Image.Image, framing: dict) -> np.ndarray:
            pixels = opened.evaluate(
                """async ([text, width, height, framing]) => {
                  const { frame } = await import("/framing.js");
                  const data = Uint8ClampedArray.from(atob(text), (character) => character.charCodeAt(0));
                  return [...frame({ data, width, height }, framing).pixels];
                }""",
                [base64_of(image.convert("RGBA").tobytes()), *image.size, framing],
            )
            return np.array(pixels)

        yield run


def with_tones(drawing: Image.Image, ground: int, ink: int) -> Image.Image:
    """A drawing in black on white, in other tones."""
    return drawing.point([round(ink + (ground - ink) * level / 255) for level in range(256)])


def cut_out(drawing: Image.Image, ink: int) -> Image.Image:
    """The strokes of a drawing in black on white, on a transparent ground."""
    image = Image.new("LA", drawing.size, (ink, 0))
    image.putalpha(ImageOps.invert(drawing))
    return image


def difference(framed, image: Image.Image) -> int:
    """The largest difference between the inputs of the network that the page and `predict` make of a picture."""
    here = framed(image, {"side": 20, "by_mass": True}).reshape(28, 28)
    return int(np.abs(here - frame(opaque(image, None), Framing()).pixels.astype(int)).max())


@pytest.mark.parametrize("digit", STROKES)
def test_drawings_are_framed_as_in_python(framed, digit):
    place = 0.1 + 0.05 * int(digit)
    for width, scale, left, top in ((20, 1, 0, 0), (20, 0.4, place, 0.3), (34, 0.7, 0.1, 0.25)):
        image = drawn(digit, width, scale, left, top)
        assert difference(framed, image) <= 1, (width, scale)


@pytest.mark.parametrize(("digit", "width"), [("1", 2), ("4", 5), ("8", 9), ("1", 34)])
def test_strokes_of_any_thickness_and_tone_are_framed_as_in_python(framed, digit, width):
    drawing = drawn(digit, width, 1, 0, 0)
    small = drawn(digit, width, 0.5, 0.05 * int(digit), 0.5)

    for ground, ink in ((255, 0), (0, 255), (0, 140), (100, 0), (200, 255), (255, 120)):
        assert difference(framed, with_tones(drawing, ground, ink)) <= 1, (ground, ink)
    for ink in (0, 255):
        assert difference(framed, cut_out(drawing, ink)) <= 1, ink
        assert difference(framed, with_tones(small, 255 - ink, ink)) <= 1, ink


@pytest.mark.parametrize("size", [(28, 28), (50, 60), (144, 143), (300, 200), (700, 900)])
def test_pictures_of_any_size_are_framed_as_in_python(framed, size):
    for digit in ("1", "4", "8"):
        image = drawn(digit, 10, 0.8, 0.1, 0.1).resize(size, Image.Resampling.BICUBIC)
        for picture in (image, ImageOps.invert(image)):
            assert difference(framed, picture) <= 1, digit


@pytest.mark.parametrize("beside", ["lines", "ring", "specks", "nothing"])
def test_what_is_beside_a_digit_is_left_out_as_in_python(framed, beside):
    for digit in ("4", "5", "7"):
        image = drawn(digit, 10, 1.4, -0.2, -0.2) if beside == "nothing" else drawn(digit, 10, 0.5, 0.25, 0.25)
        draw = ImageDraw.Draw(image)
        if beside == "lines":
            for y in range(15, 280, 40):
                draw.line((0, y, 280, y + 8), 120, 2)
        elif beside == "ring":
            draw.ellipse((40, 40, 240, 240), outline=0, width=5)
        elif beside == "specks":
            draw.ellipse((0, 10, 6, 16), 0)
            draw.ellipse((250, 250, 259, 259), 0)
        for picture in (image, ImageOps.invert(image)):
            assert difference(framed, picture) <= 1, digit


def in_colour(garment: Image.Image) -> Image.Image:
    backdrop = (200, 220, 240)
    coloured = Image.new("RGB", garment.size, backdrop)
    inked = ImageOps.colorize(ImageOps.invert(garment), (80, 20, 20), (250, 120, 120))
    coloured.paste(inked, mask=garment.point(lambda level: 255 * (level > 8)))
    return ImageOps.expand(coloured, 25, backdrop)


def with_a_shadow(garment: Image.Image) -> Image.Image:
    garment = ImageOps.expand(garment, 40, 0)
    mask = garment.point(lambda level: 255 * (level > 8))
    ground = mask.point(lambda level: 255 - level // 4).filter(ImageFilter.GaussianBlur(9))
    ground.paste(ImageOps.invert(garment), mask=mask)
    return ground


def without_ground(garment: Image.Image) -> Image.Image:
    cut = ImageOps.invert(garment).convert("LA")
    cut.putalpha(garment.point(lambda level: 255 * (level > 8)))
    return ImageOps.expand(cut, 20, (0, 0))


#: Pictures of a garment, which is given as in the training images, on backdrops that are even.
BACKDROPS = {
    "white": lambda garment: ImageOps.expand(ImageOps.invert(garment), 30, 255),
    "black": lambda garment: ImageOps.expand(garment, 30, 0),
    "grey": lambda garment: ImageOps.expand(garment.point(lambda level: (255 - level) * 200 // 255), 30, 200),
    "hardly any": lambda garment: ImageOps.expand(ImageOps.invert(garment), 1, 255),
    "large": lambda garment: ImageOps.expand(ImageOps.invert(garment.resize((300, 300))), (4, 4, 200, 300), 255),
    "small": lambda garment: ImageOps.expand(ImageOps.invert(garment.resize((50, 50))), (4, 4, 150, 200), 255),
    "colour": in_colour,
    "shadow": with_a_shadow,
    "none": without_ground,
}


@pytest.mark.parametrize("backdrop", BACKDROPS)
def test_clothes_on_an_even_backdrop_are_framed_as_in_python(framed, backdrop):
    garments = sources.load_sample(FASHION_MNIST).test_images[:6]

    for garment in garments:
        picture = BACKDROPS[backdrop](Image.fromarray(garment).resize((168, 168), Image.Resampling.BICUBIC))
        here = framed(picture, {"side": 28, "by_mass": False}).reshape(28, 28)
        there = frame(opaque(picture, "white"), Framing(side=28, by_mass=False)).pixels
        assert np.abs(here - there.astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_resized_as_in_python(framed, mode, channels):
    rng = np.random.default_rng(0)

    for height, width in ((60, 45), (31, 90), (20, 20), (32, 40)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        framing = {"size": [32, 40], "mode": mode, "channels": channels}
        here = framed(image, framing).reshape(channels, 32, 40)
        there = Resize((32, 40), mode, channels)(image)
        assert np.abs(here - there.astype(int)).max() <= 1, (height, width)


def test_a_digit_that_is_framed_already_is_kept(framed):
    image = Image.fromarray(frame(drawn("5", 20, 1, 0, 0), Framing()).pixels)

    here = framed(image, {"side": 20, "by_mass": True}).reshape(28, 28)

    assert (here == np.asarray(image)).all()


def test_the_site_has_all_it_needs_and_nothing_of_a_server(site):
    names = {"index.html", "model.onnx", "model.onnx.md", "page", "runtime", "site.json"}
    assert {path.name for path in site.iterdir()} == names
    assert not {path.name for path in (site / "page").iterdir()} & {"docs.html", "docs.js", "local.js"}
    (model,) = json.loads((site / "site.json").read_text())["models"]
    assert model["framing"] == {"side": 20, "by_mass": True}
    assert model["image_shape"] == [1, 28, 28]
    assert "MIT License" in (site / "runtime" / "NOTICE.txt").read_text()


def test_a_site_is_replaced_only_if_asked_to(tmp_path, cache):
    (tmp_path / "site").mkdir()

    with pytest.raises(UserError, match="exists; add --overwrite to replace it") as raised:
        web.build_site(tmp_path / "a.onnx", tmp_path / "site", Brightness(), "a", "# Card")
    assert raised.value.exit_status == 2


def test_a_failure_of_npm_is_one_line_and_leaves_nothing(tmp_path, cache, monkeypatch):
    with pytest.raises(web.SiteError, match=r"npm cannot fetch .* \(npm error network\); check"):
        web.build_site(tmp_path / "a.onnx", tmp_path / "site", Brightness(), "a", "# Card")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(web.SiteError, match="npm, which fetches onnxruntime-web, is not installed"):
        web.build_site(tmp_path / "a.onnx", tmp_path / "site", Brightness(), "a", "# Card")

    assert not cache.exists() and not (tmp_path / "site").exists()


def test_another_package_than_the_published_one_is_refused(cache, monkeypatch):
    def run(command, cwd, **options):
        Path(cwd, "onnxruntime-web-1.30.0.tgz").write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(web.subprocess, "run", run)

    with pytest.raises(web.SiteError, match="is not the one that was published"):
        web.fetch_runtime()
    assert not cache.exists()


def test_a_damaged_copy_in_the_cache_is_fetched_again(cache):
    cache.mkdir()
    (cache / "onnxruntime-web-1.30.0.tgz").write_bytes(b"damaged")

    with pytest.raises(web.SiteError, match="npm error network"):
        web.fetch_runtime()
