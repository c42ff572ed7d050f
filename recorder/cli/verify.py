"""`watchroom verify`: signs what a volume has sealed, or compares it with what was signed; may run beside a recording server.

With `[signing]` in the configuration the server signs, and `watchroom verify` finds volumes, heads and key by itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError
from recorder.cli.exits import Exit
from recorder.cli.show import line_of, print_json
from recorder.cli.site import add_config, site_of
from recorder.signed import read_last
from storage import heads
from storage.heads import Mark
from storage.proof import Proof
from storage.signing import sign
from storage.store import TapeStore
from storage.verify import verify
from storage.verify_bytes import utc
from storage.volume import Volume


@dataclass(frozen=True, slots=True)
class Task:
    """Where a volume's heads are, the key, and the document that is known to be the newest."""

    folder: Path
    public_key: Ed25519PublicKey
    mark: Mark | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_config(parser)
    parser.add_argument("volume", type=Path, nargs="*", help="default: the volumes of the configuration")
    parser.add_argument("--heads", type=Path, help="folder of the volume's signed documents, not on the volume; default: as [signing] says")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--sign", type=Path, metavar="KEY", help="sign what is new, with this Ed25519 key (PEM); for sites without [signing]")
    key.add_argument("--public-key", type=Path, metavar="KEY", help="the other half of the key that signed (PEM); default: that of [signing]")
    parser.add_argument("--newest", metavar="N:DIGEST", type=_mark, help="a document that must be there, as an earlier run has told it")
    parser.add_argument("--live-dir", type=Path, help="where the workers' live files are (default: the configuration's, else /dev/shm)")
    parser.add_argument("--json", action="store_true")


def _mark(text: str) -> Mark:
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and digest):
        raise argparse.ArgumentTypeError("is not written as NUMBER:DIGEST")
    return Mark(int(number), digest)


def run(args: argparse.Namespace) -> int:
    """Signs or verifies; 1 if anything was found."""
    if args.sign and not args.heads:
        raise ConfigError("is missing", where="--heads", remedy="name the folder of the volume's signed documents")
    for path in (path for path in (args.heads, args.sign, args.public_key) if path is not None):
        if any(path.resolve().is_relative_to(volume.resolve()) for volume in args.volume):
            raise ConfigError("lies on the volume", where=str(path), remedy="keep keys and heads where the recorder cannot write")
    by_hand = args.heads is not None
    site = None if by_hand and args.volume else site_of(args)
    live_dir = args.live_dir or (site or SiteConfig("", Path())).live_dir
    volumes = args.volume or [volume.path for volume in (site.volumes if site is not None else ())]
    if by_hand and len(volumes) != 1:
        raise ConfigError(f"is one folder for {len(volumes)} volumes", where=f"--heads {args.heads}", remedy="name one volume")
    found = [(volume, *_one(args, site, volume, live_dir)) for volume in volumes]
    show(args, found)
    return Exit.OK if all(proof.clean for _, proof, _ in found) else Exit.FINDINGS


def _one(args: argparse.Namespace, site: SiteConfig | None, path: Path, live_dir: Path) -> tuple[Proof, int]:
    volume = Volume.open(path, on_root=True, lock=False)
    store = TapeStore([path], live_dir)
    try:
        if args.sign:
            return sign(store, volume, args.heads, heads.private_key(args.sign), SystemClock().wall_ns(), args.newest, settled=True)
        task = _task(args, site, volume)
        return verify(store, volume, task.folder, task.public_key, args.newest or task.mark), 0
    finally:
        store.close()
        volume.close()


def _task(args: argparse.Namespace, site: SiteConfig | None, volume: Volume) -> Task:
    """What the options say; of what they leave out, what the configuration does."""
    public = heads.public_key(args.public_key) if args.public_key else None
    if args.heads is not None and public is not None:
        return Task(args.heads, public)
    if site is None or site.signing is None:
        raise ConfigError("there is no [signing] in the configuration", where="verify", remedy="name --heads and --public-key")
    last = read_last(site.signed_file).get(str(volume.uuid))
    mark = Mark(last.sequence, last.digest) if last is not None and args.heads is None else None
    return Task(args.heads or site.heads_dir / str(volume.uuid), public or heads.private_key(site.signing.key).public_key(), mark)


def show(args: argparse.Namespace, found: Sequence[tuple[Path, Proof, int]]) -> None:
    """The findings, one a line, and of each volume a line that sums up."""
    if args.json:
        print_json({str(path): asdict(proof) | {"signed": signed, "clean": proof.clean} for path, proof, signed in found})
        return
    for path, proof, signed in found:
        for finding in proof.findings:
            print(line_of(f"{path}: {finding.severity}: {finding.where}: {finding.what}; {finding.remedy}"))
        done = f"{signed} new seals signed" if args.sign else (
            f"{proof.chunks} chunks verified, {proof.retired} retired since they were signed, {proof.held} held rows proved, "
            f"{proof.unsigned} chunks not signed yet")
        newest = f", the newest {proof.newest.sequence}:{proof.newest.digest} of {utc(proof.signed_until_ns)}" if proof.newest else ""
        print(f"{path}: {'clean' if proof.clean else 'NOT CLEAN'}: {proof.documents} documents{newest}; {done}")
