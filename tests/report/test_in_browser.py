from pathlib import Path

import pytest
from runs import results_of, write_run

from lightning_cnn.cli import main

pytest_plugins = ["browser"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """Pages that are hard to lay out: long names, many classes, an empty run, and a comparison."""
    root = tmp_path_factory.mktemp("runs")
    letters = [
        (f"Buchstabe-{n}-mit-einem-langen-Namen", f"Buchstabe-{(n * 7) % 26}-mit-einem-langen-Namen", 0.5, n)
        for n in range(26)
    ]
    nothing = dict.fromkeys(("metrics", "data", "environment", "test", "predictions"))
    runs = {
        "whole": write_run(root / "fashion_mnist-shallow_cnn" / "version_0"),
        "letters": write_run(root / "letters-wide_mlp" / "version_0", test=results_of(letters), predictions=letters),
        "nothing": write_run(root / "mnist-cnn" / "version_0", **nothing, figures=()),
    }
    many = [write_run(root / "a-folder-with-a-rather-long-name" / f"version_{n}") for n in range(2)]
    argv = ["report", *map(str, [*runs.values(), *many]), "--output", str(root / "many.html")]
    assert main(argv) == 0
    return {**{name: run / "report.html" for name, run in runs.items()}, "comparison": root / "many.html"}


@pytest.mark.parametrize("name", ["whole", "letters", "nothing", "comparison"])
def test_a_browser_shows_the_page_without_a_network(written, visit, name):
    seen = visit(written[name], width=1280)

    assert seen.errors == []
    assert seen.requests[0] == written[name].as_uri()
    assert all(address.startswith("data:") for address in seen.requests[1:])
    assert seen.overflow() <= 0
    seen.page.set_viewport_size({"width": 375, "height": 900})
    assert seen.overflow() <= 0
    images = seen.page.evaluate("[...document.images].map(image => [image.alt.length, image.naturalWidth])")
    assert all(letters > 20 and pixels > 0 for letters, pixels in images)
    assert len(images) == {"whole": 6, "letters": 6, "nothing": 0, "comparison": 1}[name]


def test_a_narrow_screen_has_curves_below_each_other_and_is_told_what_to_scroll(written, visit):
    page = visit(written["whole"], width=390).page
    history = page.get_by_alt_text("Curves of loss and accuracy")
    hints = page.locator(".hint")

    assert history.evaluate("image => image.naturalHeight > image.naturalWidth && image.width <= 358")
    assert hints.count() > 0
    assert all(hint.is_visible() for hint in hints.all())

    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function(  # a function: an expression would be evaluated again, which the page's policy forbids
        "() => document.querySelector('picture img').currentSrc === document.querySelector('picture img').src"
    )
    assert history.evaluate("image => image.naturalWidth > image.naturalHeight")
    assert not any(hint.is_visible() for hint in hints.all())


@pytest.mark.parametrize("name", ["whole", "letters", "comparison"])
def test_nothing_is_cut_off_in_print(written, visit, name):
    seen = visit(written[name], width=794, height=1123)  # A4
    seen.page.emulate_media(media="print")

    cut = "element => element.scrollWidth > element.clientWidth && getComputedStyle(element).overflowX !== 'visible'"
    assert seen.page.evaluate(f"[...document.querySelectorAll('body *')].filter({cut}).length") == 0
    assert seen.page.evaluate("[...document.images].every(image => image.width <= innerWidth)")
    assert not seen.page.locator("nav").first.is_visible()
    assert seen.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_collapsed_settings_are_printed(written, visit):
    page = visit(written["whole"]).page
    collapsed = page.locator("details pre")

    assert collapsed.bounding_box() is None or not collapsed.is_visible()
    page.emulate_media(media="print")
    assert collapsed.bounding_box()["height"] > 100
    assert collapsed.is_visible()


def test_links_lead_to_the_parts_of_the_page_and_to_the_runs(written, visit):
    page = visit(written["comparison"]).page
    page.get_by_role("link", name="fashion_mnist-shallow_cnn/version_0").click()
    page.wait_for_url(written["whole"].as_uri())
    page.get_by_role("link", name="Mistakes").click()

    assert page.url.endswith("report.html#mistakes")
    assert page.get_by_role("heading", name="Mistakes").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(written, visit, scheme):
    page = visit(written["comparison"], color_scheme=scheme).page
    colors = page.evaluate(
        "['--ink', '--quiet', '--accent', '--paper', '--panel', '--notice', '--bar'].map(name => {"
        " const probe = document.body.appendChild(document.createElement('i'));"
        " probe.style.color = `var(${name})`;"
        " return getComputedStyle(probe).color.match(/\\d+/g).map(Number) })"
    )
    ink, quiet, accent, paper, panel, notice, bar = map(luminance, colors)

    for front, back in ((ink, paper), (quiet, paper), (accent, paper), (quiet, panel), (ink, notice), (ink, bar)):
        assert (max(front, back) + 0.05) / (min(front, back) + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


def luminance(color: list[int]) -> float:
    """Relative luminance as WCAG defines it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
