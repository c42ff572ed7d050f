#!/usr/bin/python3
"""A camera made by somebody else: gst-rtsp-server on loopback. Runs under the system's Python, which has GStreamer's bindings.

    gst_server.py --video h264 --audio aac [--user admin --password secret]     prints "port N" when it serves rtsp://127.0.0.1:N/cam

Debian: gir1.2-gst-rtsp-server-1.0 gir1.2-gst-plugins-base-1.0 python3-gi gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav
"""

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

SOURCE = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
VIDEO = {
    "h264": "x264enc speed-preset=ultrafast tune=zerolatency threads=1 bitrate=500 key-int-max={gop} ! h264parse config-interval=-1 "
            "! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h264-b": "x264enc speed-preset=ultrafast threads=1 bitrate=500 key-int-max={gop} bframes=2 b-adapt=false rc-lookahead=2 "
              "sync-lookahead=0 ! video/x-h264,profile=main ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": "x265enc speed-preset=ultrafast tune=zerolatency bitrate=500 key-int-max={gop} "
            "option-string=pools=1:frame-threads=1:log-level=none ! h265parse config-interval=-1 "
            "! rtph265pay name=pay0 pt=96 config-interval=-1",
}
TONE = "audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample"
AUDIO = {
    "aac": "audio/x-raw,rate=16000,channels=1 ! avenc_aac bitrate=32000 ! aacparse ! rtpmp4gpay name=pay1 pt=97",
    "pcma": "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8",
    "pcmu": "audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0",
}


def pipeline(arguments):
    """The launch line of the camera's media."""
    parts = [f"{SOURCE} ! {VIDEO[arguments.video]}".format(**vars(arguments))]
    if arguments.audio:
        parts.append(f"{TONE} ! {AUDIO[arguments.audio]}")
    return f"( {' '.join(parts)} )"


def demand_login(server, factory, user, password):
    """Let only this user in, by Digest."""
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("viewer")
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", right, True)
    factory.set_permissions(permissions)


def main():
    """Serve until killed or until whoever started us closes our standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--video", choices=VIDEO, default="h264")
    parser.add_argument("--audio", choices=AUDIO)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    for name, value in (("width", 640), ("height", 360), ("fps", 15), ("gop", 30)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline(arguments))
    factory.set_shared(True)
    if arguments.user:
        demand_login(server, factory, arguments.user, arguments.password)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    print("port", server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit())
    loop.run()


if __name__ == "__main__":
    main()
