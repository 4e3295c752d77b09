"""The locks, against the bounds of pyproject.toml."""

import tomllib

import pytest
from checkout import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What `scripts/test_oldest` installs; the documentation is built with new releases only.
TRIED = ("sweep", "pictures", "export", "serve", "dev")
BOUNDS = {
    requirement.name: requirement
    for text in [
        *PROJECT["dependencies"],
        *(line for extra in TRIED for line in PROJECT["optional-dependencies"][extra]),
    ]
    for requirement in [Requirement(text)]
}


def releases(lock: str) -> dict[str, list[Version]]:
    """The releases of each package: it may have several, for several versions of Python."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line[:1].isalnum():
            name, _, release = line.split()[0].partition("==")
            found.setdefault(name, []).append(Version(release))
    return found


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-oldest.lock"])
def test_a_lock_is_within_the_bounds(lock: str, name: str) -> None:
    locked = releases(lock)[name.lower()]

    assert all(release in BOUNDS[name].specifier for release in locked), (locked, BOUNDS[name])


@pytest.mark.parametrize("name", [name for name, bound in BOUNDS.items() if bound.specifier])
def test_the_oldest_lock_has_the_lower_bound(name: str) -> None:
    """`>=2.11` is 2.11.0; newer versions of Python may need a newer release."""
    (lower,) = [Version(bound.version) for bound in BOUNDS[name].specifier if bound.operator in (">=", "~=")]

    oldest = min(releases("requirements-oldest.lock")[name.lower()])

    assert oldest.release[: len(lower.release)] == lower.release, (oldest, lower)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-oldest.lock"])
def test_a_lock_names_no_index(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()
