"""Every colour of the style sheet can be read on what it stands on, light and dark (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re

import pytest

from api.console.assets import FOLDER

TEXT, SHAPE = 4.5, 3.0
LIGHT, DARK = 0, 1
GROUNDS = ("ground", "surface", "raised")
PAIRS = (
    *((text, ground, TEXT) for text in ("text", "quiet", "accent") for ground in GROUNDS),
    *((text, "surface", TEXT) for text in ("danger", "good", "warn")),
    ("on-accent", "accent", TEXT),
    ("on-danger", "danger", TEXT),
    ("accent", "calm-ground", TEXT),
    ("danger", "bad-ground", TEXT),
    *(("text", ground, TEXT) for ground in ("good-ground", "warn-ground", "bad-ground", "calm-ground")),
    *(("warn", ground, TEXT) for ground in ("warn-ground",)),
    *(("edge", ground, SHAPE) for ground in ("surface", "ground")),
    *(
        (f"is-{action}", "surface", SHAPE)
        for action in ("accept", "tag", "tarpit", "throttle", "tempfail", "discard", "reject")
    ),
)


def palette(theme: int) -> dict[str, str]:
    css = (FOLDER / "console.css").read_text(encoding="utf-8")
    return {
        name: pair[theme]
        for name, *pair in re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", css)
    }


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("colour", "ground", "least"), PAIRS)
def test_it_can_be_read(colour: str, ground: str, least: float, theme: int) -> None:
    colours = palette(theme)
    assert contrast(colours[colour], colours[ground]) >= least


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


def test_every_colour_stands_in_one_place() -> None:
    css = (FOLDER / "console.css").read_text(encoding="utf-8")
    _, _, rest = css.partition("\n}\n")
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rest) == []
