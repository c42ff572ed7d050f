"""Cameras made by somebody else, stopped, killed, and behind TLS."""

import os
import signal
from pathlib import Path

import pytest

from recorder.base.media import GapCause
from tests.session.certificates import Certificate, make
from tests.session.fake_camera import PASSWORD, USER
from tests.session.rig import Rig
from tests.worker.netns import CameraNetwork, camera_network
from tests.worker.servers import gst_camera, gst_process

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make(tmp_path_factory.mktemp("live"), "own")


def tls_options(certificate: Certificate) -> tuple[str, ...]:
    return ("--cert", str(certificate.cert), "--key", str(certificate.key))


@pytest.mark.parametrize(("video", "audio", "login"), [("h264", None, False), ("h265", "aac", False), ("h264", "pcma", True)])
async def test_gst_camera_behind_tls_is_recorded(own: Certificate, video: str, audio: str | None, login: bool) -> None:
    who = ("--user", USER, "--password", PASSWORD) if login else ()
    sound = ("--audio", audio) if audio else ()
    async with gst_camera("--video", video, *sound, *who, *tls_options(own)) as url, Rig() as rig:
        assert url.startswith("rtsps:")
        rig.record(url, tls_fingerprint=own.fingerprint)
        await rig.recorded(45)
        if audio:
            await rig.recorded(30, "audio")
        assert rig.tape().gaps == [] and not any(au["flags"] & 4 for au, _ in rig.tape().aus)
        assert rig.stream().failures == {}


async def test_gst_camera_vouched_for_by_a_ca_is_recorded_and_by_none_is_not(own: Certificate, tmp_path: Path) -> None:
    ca = make(tmp_path, "ca")
    signed = make(tmp_path, "signed", ca=ca)
    async with gst_camera(*tls_options(signed)) as url, Rig(tls_ca=ca.cert) as rig, Rig() as stranger:
        rig.record(url)
        await rig.recorded(30)
        stranger.record(url)
        error = await stranger.failed()
        assert error.cause == GapCause.REFUSED and "not to be trusted" in str(error)
        stranger.record(url, 2, tls_fingerprint=own.fingerprint)
        assert "not the pinned one" in str(await stranger.failed(2))


async def test_stopped_camera_is_a_stall_and_is_recorded_again_when_it_goes_on() -> None:
    async with gst_process() as (url, process), Rig() as rig:
        rig.record(url, stall_s=2.0)
        await rig.recorded(30)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert (await rig.failed()).cause == GapCause.STALL
            assert rig.tape().gaps == [GapCause.STALL]
        finally:
            os.kill(process.pid, signal.SIGCONT)
        await rig.until(lambda: any(au["session"] >= 2 for au, _ in rig.tape().aus))


async def test_killed_camera_is_offline_at_once_and_keeps_its_last_whole_picture() -> None:
    async with gst_process() as (url, process), Rig() as rig:
        rig.record(url, stall_s=60.0)
        await rig.recorded(30)
        process.kill()
        assert (await rig.failed()).cause == GapCause.OFFLINE
        assert rig.tape().gaps[0] == GapCause.OFFLINE
        assert not any(au["flags"] & 4 for au, _ in rig.tape().aus)


async def test_pulled_cable_is_a_stall_and_the_camera_is_back_when_it_is_plugged_in() -> None:
    with camera_network(78) as net:
        async with gst_camera(inside=net.inside, address=net.camera) as url, Rig(networks=(CameraNetwork(78).network,)) as rig:
            rig.record(url, stall_s=2.0)
            await rig.recorded(30)
            net.pull()
            assert (await rig.failed()).cause == GapCause.STALL
            assert rig.tape().gaps == [GapCause.STALL]
            net.plug()
            await rig.until(lambda: any(au["session"] >= 2 for au, _ in rig.tape().aus))
