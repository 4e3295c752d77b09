"""``lightning-cnn data``: fetch a dataset, or verify the one that is there."""

import argparse
from pathlib import Path

from lightning_cnn.config.options import Parser, add_data_dir, one_of
from lightning_cnn.data.facts import FILES, DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.files import MissingError, RawFiles, Source, SourceError
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import (
    load,
    local_sources,
    raw_folder,
    read_verified,
    sample_source,
)

#: The datasets by the name that the command line gives them.
DATASETS: dict[str, DatasetFacts] = {facts.name: facts for facts in (MNIST, FASHION_MNIST)}


def main(argv: list[str]) -> int:
    """Run ``data`` with the arguments that follow it and return the exit status.

    Raises:
        UserError: If an argument is wrong, or the dataset cannot be had.
    """
    arguments = _parse(argv[1:])
    verb = {"fetch": _fetch, "verify": _verify}[one_of(("fetch", "verify"), arguments.verb, "verb")]
    facts = DATASETS[one_of(DATASETS, arguments.dataset, "dataset")]
    allow_sample = one_of(("true", "false"), arguments.allow_sample, "value of --allow_sample") == "true"
    return verb(facts, arguments.data_dir, allow_sample)


def _fetch(facts: DatasetFacts, data_dir: Path, allow_sample: bool) -> int:
    dataset = load(facts, data_dir, allow_sample)
    n_train, n_test = len(dataset.train_labels), len(dataset.test_labels)
    print(f"{facts.title}: {n_train:,} images to train, {n_test:,} to test, verified")
    for file, origin in dataset.origins.items():
        print(f"  {file:<24} from {origin}")
    if not dataset.is_sample:
        print(f"data folder: {raw_folder(facts, data_dir)}")
    return 0


def _verify(facts: DatasetFacts, data_dir: Path, allow_sample: bool) -> int:
    folder = raw_folder(facts, data_dir)
    print(f"{facts.title} in {folder}")
    if _verify_files(facts, local_sources(facts, folder), facts.sha256):
        print(f"{facts.title} is complete and sound")
        return 0
    print(f"{facts.title} is NOT complete: `lightning-cnn data fetch {facts.name} --data_dir {data_dir}` mends it")
    if not allow_sample:
        return 1
    print(f"the sample of {facts.title} that ships with this package")
    sound = _verify_files(facts, [sample_source(facts)], facts.sample_sha256)
    print(f"the sample is {'complete and sound' if sound else 'NOT sound: install this package again'}")
    return 0 if sound else 1


def _verify_files(facts: DatasetFacts, sources: list[Source], sha256: dict[str, str]) -> bool:
    """Print a line for every copy of every file, and return whether each file has a sound one."""
    # A list, so that every file is looked at, even after one that is missing.
    sound = [_verify_file(file, facts, sources, sha256) for file in FILES]
    return all(sound)


def _verify_file(file: str, facts: DatasetFacts, sources: list[Source], sha256: dict[str, str]) -> bool:
    lines = [line for source in sources if (line := _verdict(source, file, facts, sha256))]
    for line in lines or [f"missing  {file}"]:
        print(f"  {line}")
    return any(line.startswith("sound") for line in lines)


def _verdict(source: Source, file: str, facts: DatasetFacts, sha256: dict[str, str]) -> str:
    """Return what there is to say of a file in a source, or nothing if the source does not have it."""
    path = Path(source.where(file))
    kind = "raw" if isinstance(source, RawFiles) else "gz"
    try:
        read_verified(source, file, facts, sha256)
    except MissingError:
        return ""
    except SourceError as error:
        size = f", {path.stat().st_size:,} bytes" if path.is_file() else ""
        return f"WRONG    {path} ({kind}{size}): {error}"
    return f"sound    {path} ({kind}, {path.stat().st_size:,} bytes)"


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="lightning-cnn data",
        description="Fetch a dataset, or verify the one that is there. The exit status is 0 if it is sound, or else 1.",
        allow_abbrev=False,
    )
    parser.add_argument("verb", metavar="fetch|verify", help="fetch what is missing, or only look at what is there")
    parser.add_argument("dataset", metavar="|".join(DATASETS), help="the dataset")
    add_data_dir(parser)
    parser.add_argument(
        *("--allow_sample", "--data.allow_sample"),
        default="false",
        metavar="true|false",
        help="whether the small sample that ships with this package will do (default: %(default)s)",
    )
    return parser.parse(argv)
