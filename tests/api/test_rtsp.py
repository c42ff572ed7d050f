"""The RTSP server within the API process: where it may listen, what it says of itself, and that it never takes HTTP with it."""

import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest

from api.rtspout.server import check_reach
from recorder import preflight
from recorder.base.config import RtspOutConfig
from recorder.base.errors import ConfigError, Conflict
from tests.api.conftest import running


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def test_it_is_off_unless_it_is_wanted(api):
    assert api.served.rtsp_port == 0


async def test_it_tells_its_figures(start, site, catalogue, clock, supervisor):
    async with running(replace(site, rtsp_out=RtspOutConfig(port=free_port())), catalogue, clock, supervisor) as api:
        reader = socket.create_connection(("127.0.0.1", api.served.rtsp_port), timeout=10)
        reader.close()
        page = (await api.get("/metrics")).body.decode()
    assert "watchroom_rtsp_connections " in page
    assert 'watchroom_rtsp_viewers{transport="udp"} 0' in page


async def test_a_port_that_is_taken_costs_rtsp_alone(start, site, catalogue, clock, supervisor, caplog):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = RtspOutConfig(port=other.getsockname()[1])
        async with running(replace(site, rtsp_out=taken), catalogue, clock, supervisor) as api:
            assert api.served.rtsp_port == 0
            assert (await api.get("cameras")).status == 200
        with pytest.raises(Conflict, match=r"rtsp_out.port 127.0.0.1:\d+: is in use"):
            preflight.check_port(replace(site, server=replace(site.server, port=free_port()), rtsp_out=taken))
    assert "RTSP is not served: rtsp_out.port: cannot listen" in caplog.text


def test_off_loopback_it_takes_a_token_that_can_log_in():
    check_reach(RtspOutConfig(bind="0.0.0.0", port=8554), 1)
    check_reach(RtspOutConfig(bind="127.0.0.1", port=8554), 0)
    check_reach(RtspOutConfig(bind="0.0.0.0", port=0), 0)
    with pytest.raises(ConfigError, match=r"rtsp_out.bind: other machines can reach this server"):
        check_reach(RtspOutConfig(bind="0.0.0.0", port=8554), 0)


async def test_serve_refuses_to_start_where_nobody_could_log_in():
    from recorder.supervisor import Supervisor

    async def at_desk(call):
        return call()

    site = SimpleNamespace(server=SimpleNamespace(tls=None), rtsp_out=RtspOutConfig(bind="0.0.0.0", port=8554))
    mine = SimpleNamespace(_roster=SimpleNamespace(has_logins=lambda: False), _site=site, _at_desk=at_desk)
    with pytest.raises(ConfigError, match=r"rtsp_out.bind 0.0.0.0: others can reach it"):
        await Supervisor._refuse_open_door(mine)
