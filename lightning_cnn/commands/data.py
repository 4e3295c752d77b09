"""``lightning-cnn data``: download a dataset, verify the local files, or remove decoded images."""

import shlex
from pathlib import Path

from lightning_cnn.config.options import Parser, add_data_dir, one_of
from lightning_cnn.data import store
from lightning_cnn.data.facts import FILES, DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.files import MissingError, RawFiles, Source, SourceError
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import load, local_sources, raw_folder, read_verified, sample_source
from lightning_cnn.errors import UserError

#: The options of each verb.
_OPTIONS = {"fetch": ("data_dir", "allow_sample", "mirrors"), "verify": ("data_dir", "allow_sample"), "clear": ()}
#: The datasets by their names on the command line.
DATASETS: dict[str, DatasetFacts] = {facts.name: facts for facts in (MNIST, FASHION_MNIST)}


def main(argv: list[str]) -> int:
    """Run ``data`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or the dataset is not available.
    """
    parser = build_parser()
    arguments = parser.parse(argv[1:])
    verb = one_of(_OPTIONS, arguments.verb, "verb")
    for name in _OPTIONS["fetch"]:
        if name not in _OPTIONS[verb] and getattr(arguments, name) != parser.get_default(name):
            raise UserError(f"data {verb} has no option --{name}; leave it out")
    if verb == "clear":
        return _clear(arguments.dataset)
    if arguments.dataset is None:
        raise UserError(f"data {verb} needs a dataset: {' or '.join(DATASETS)}")
    facts = DATASETS[one_of(DATASETS, arguments.dataset, "dataset")]
    if verb == "fetch":
        return _fetch(facts, arguments.data_dir, arguments.allow_sample, arguments.mirrors)
    return _verify(facts, arguments.data_dir, arguments.allow_sample)


def _clear(dataset: str | None) -> int:
    if dataset is not None:
        raise UserError(f"data clear removes the decoded images of all folders; leave out {dataset!r}")
    print(f"{store.clear() / 1e6:,.1f} MB of decoded images removed from {store.folder()}")
    return 0


def _fetch(facts: DatasetFacts, data_dir: Path, allow_sample: bool, mirrors: str | None) -> int:
    dataset = load(facts, data_dir, allow_sample, mirrors)
    n_train, n_test = len(dataset.train_labels), len(dataset.test_labels)
    print(f"{facts.title}: {n_train:,} training and {n_test:,} test images, verified")
    for file, origin in dataset.origins.items():
        print(f"  {file:<24} from {origin}")
    if not dataset.is_sample:
        print(f"data folder: {raw_folder(facts, data_dir)}")
    return 0


def _verify(facts: DatasetFacts, data_dir: Path, allow_sample: bool) -> int:
    folder = raw_folder(facts, data_dir)
    print(f"{facts.title} in {folder}")
    if _verify_files(facts, local_sources(facts, data_dir), facts.sha256):
        print(f"{facts.title} is complete and valid")
        return 0
    print(
        f"{facts.title} is NOT complete: repair it with "
        f"`lightning-cnn data fetch {facts.name} --data_dir {shlex.quote(str(data_dir))}`"
    )
    if not allow_sample:
        return 1
    print(f"the sample of {facts.title} that ships with this package")
    valid = _verify_files(facts, [sample_source(facts)], facts.sample_sha256)
    print(f"the sample is {'complete and valid' if valid else 'NOT valid: reinstall this package'}")
    return 0 if valid else 1


def _verify_files(facts: DatasetFacts, sources: list[Source], sha256: dict[str, str]) -> bool:
    """Print a line for every copy of every file, and return whether each file has a valid one."""
    valid = True
    for file in FILES:
        lines = [line for source in sources if (line := _verdict(source, file, facts, sha256))]
        for line in lines or [f"missing  {file}"]:
            print(f"  {line}")
        valid &= any(line.startswith("valid") for line in lines)
    return valid


def _verdict(source: Source, file: str, facts: DatasetFacts, sha256: dict[str, str]) -> str:
    """Return the line about a file of a source, or nothing if the source does not have it."""
    path = Path(source.where(file))
    kind = "raw" if isinstance(source, RawFiles) else "gz"
    try:
        read_verified(source, file, facts, sha256)
    except MissingError:
        return ""
    except SourceError as error:
        size = f", {path.stat().st_size:,} bytes" if path.is_file() else ""
        return f"INVALID  {path} ({kind}{size}): {error}"
    return f"valid    {path} ({kind}, {path.stat().st_size:,} bytes)"


def build_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        prog="lightning-cnn data",
        description="Download a dataset, or verify the local files: the exit status is 0 if they are valid, or else 1. "
        "Or remove the decoded images of all folders, which are decoded again when they are needed.",
    )
    parser.add_argument(
        "verb",
        metavar="fetch|verify|clear",
        help="download missing files, only verify the local ones, or remove decoded images",
    )
    parser.add_argument("dataset", nargs="?", metavar="|".join(DATASETS), help="the dataset to fetch or verify")
    add_data_dir(parser)
    parser.add_argument(
        *("--mirrors", "--data.mirrors"),
        metavar="URL[,URL]",
        help="web folders with the gzipped files, or with a copy of the data folder, to ask before the official ones "
        "(default: $LIGHTNING_CNN_MIRRORS)",
    )
    parser.add_switch(
        *("--allow_sample", "--data.allow_sample"),
        help="whether to accept the small sample that ships with this package",
    )
    return parser
