"""`watchroom verify`: signs what a volume has sealed, or compares it with what was signed; may run beside a recording server."""

import argparse
from dataclasses import asdict
from pathlib import Path

from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError
from recorder.cli.exits import Exit
from recorder.cli.show import print_json
from storage import heads
from storage.store import TapeStore
from storage.verify import Proof, sign, verify
from storage.verify_bytes import utc
from storage.volume import Volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("volume", type=Path)
    parser.add_argument("--heads", type=Path, required=True, help="folder of the signed documents; not on the volume")
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--sign", type=Path, metavar="KEY", help="sign what is new, with this Ed25519 key (PEM)")
    key.add_argument("--public-key", type=Path, metavar="KEY", help="compare the volume with what the other half of this key signed (PEM)")
    parser.add_argument("--live-dir", type=Path, default=SiteConfig("", Path()).live_dir, help="where the workers' live files are")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Signs or verifies; 1 if anything was found."""
    for path in (args.heads, args.sign or args.public_key):
        if path.resolve().is_relative_to(args.volume.resolve()):
            raise ConfigError("lies on the volume", where=str(path), remedy="keep keys and heads where the recorder cannot write")
    volume = Volume.open(args.volume, on_root=True, lock=False)
    store = TapeStore([args.volume], args.live_dir)
    try:
        if args.sign:
            proof, signed = sign(store, volume, args.heads, heads.private_key(args.sign), SystemClock().wall_ns())
        else:
            proof, signed = verify(store, volume, args.heads, heads.public_key(args.public_key)), 0
    finally:
        store.close()
        volume.close()
    show(args, proof, signed)
    return Exit.OK if proof.clean else Exit.FINDINGS


def show(args: argparse.Namespace, proof: Proof, signed: int) -> None:
    """The findings, one a line, and a line that sums up."""
    if args.json:
        print_json(asdict(proof) | {"signed": signed, "clean": proof.clean})
        return
    for finding in proof.findings:
        print(f"{args.volume}: {finding.severity}: {finding.where}: {finding.what}; {finding.remedy}")
    done = f"{signed} new seals signed" if args.sign else f"{proof.chunks} chunks verified, {proof.retired} retired since they were signed, \
{proof.held} held rows proved, {proof.unsigned} chunks not signed yet"
    verdict = "clean" if proof.clean else "NOT CLEAN"
    newest = f", the newest of {utc(proof.signed_until_ns)}" if proof.documents else ""
    print(f"{args.volume}: {verdict}: {proof.documents} documents{newest}; {done}")
