"""Signing the heads of a site's volumes: what the process does that the supervisor starts for it once a day. Blocks on disks."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder.base.clock import Clock
from recorder.base.config import SiteConfig, VolumeConfig
from recorder.base.errors import WatchroomError
from recorder.preflight import check_signing
from recorder.signed import LastSigned, Signed, read_last, write_last
from storage.heads import Mark, private_key
from storage.proof import Proof
from storage.signing import sign
from storage.store import TapeStore
from storage.volume import Volume


def sign_site(site: SiteConfig, clock: Clock) -> list[Signed]:
    """Sign what is new on every volume. What keeps one from being signed keeps no other. Raises ConfigError, FormatError, OSError."""
    assert site.signing is not None
    check_signing(site)
    key, known = private_key(site.signing.key), read_last(site.signed_file)
    return [_sign_volume(site, number, volume, key, known, clock) for number, volume in enumerate(site.volumes)]


def _sign_volume(site: SiteConfig, number: int, config: VolumeConfig, key: Ed25519PrivateKey, known: dict[str, LastSigned],
                 clock: Clock) -> Signed:
    try:
        volume = Volume.open(config.path, uuid=config.uuid, on_root=config.on_root, lock=False)
        try:
            store = TapeStore([config.path], site.live_dir)
            try:
                return _signed(site, number, volume, store, key, known, clock.wall_ns())
            finally:
                store.close()
        finally:
            volume.close()
    except (WatchroomError, OSError) as error:
        return Signed(number, wrong=str(error))


def _signed(site: SiteConfig, number: int, volume: Volume, store: TapeStore, key: Ed25519PrivateKey, known: dict[str, LastSigned],
            now_ns: int) -> Signed:
    uuid = str(volume.uuid)
    folder = site.heads_dir / uuid
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    before = known.get(uuid)
    mark = Mark(before.sequence, before.digest) if before is not None else None
    proof, seals = sign(store, volume, folder, key, now_ns, mark, settled=True)
    if proof.newest is not None:
        known[uuid] = LastSigned(str(volume.path), proof.newest.sequence, proof.newest.digest, now_ns)
        write_last(site.signed_file, known)
    return Signed(number, seals, proof.documents, known[uuid].signed_ns if uuid in known else 0, _wrong(proof))


def _wrong(proof: Proof) -> str:
    """The first finding, and how many more there are."""
    if not proof.findings:
        return ""
    first, more = proof.findings[0], len(proof.findings) - 1
    return f"{first.where}: {first.what}; {first.remedy}" + (f" (and {more} more)" if more else "")
