#!/usr/bin/python3
"""A camera made by somebody else: gst-rtsp-server on loopback. Runs under the system's Python, which has GStreamer's bindings.

    gst_server.py --video h264 --audio aac [--user admin --password secret]     prints "port N" when it serves rtsp://127.0.0.1:N/cam
    gst_server.py --seq 65500 --ts 4294900000 --loss 0.03 --metadata            numbers that wrap in a second, packets lost, ONVIF metadata

Debian: gir1.2-gst-rtsp-server-1.0 gir1.2-gst-plugins-base-1.0 python3-gi gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav
"""

import argparse
import re
import struct
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

SOURCE = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
VIDEO = {
    "h264": "x264enc speed-preset=ultrafast tune=zerolatency threads=1 bitrate=500 key-int-max={gop} option-string=slices={slices} "
            "! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1 aggregate-mode={aggregate}",
    "h264-b": "x264enc speed-preset=ultrafast threads=1 bitrate=500 key-int-max={gop} bframes=2 b-adapt=false rc-lookahead=2 "
              "sync-lookahead=0 ! video/x-h264,profile=main ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": "x265enc speed-preset=ultrafast tune=zerolatency bitrate=500 key-int-max={gop} "
            "option-string=pools=1:frame-threads=1:log-level=none ! h265parse config-interval=-1 "
            "! rtph265pay name=pay0 pt=96 config-interval=-1",
    "h265-ap": "x265enc speed-preset=ultrafast tune=zerolatency bitrate=500 key-int-max={gop} "
               "option-string=pools=1:frame-threads=1:log-level=none ! h265parse config-interval=-1 "
               "! rtph265pay name=pay0 pt=96 config-interval=-1 aggregate-mode=max",
    "mjpeg": "jpegenc quality=60 ! rtpjpegpay name=pay0 pt=26",
}
TONE = "audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample"
AUDIO = {
    "aac": "audio/x-raw,rate=16000,channels=1 ! avenc_aac bitrate=32000 ! aacparse ! rtpmp4gpay name=pay1 pt=97",
    "pcma": "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8",
    "latm": "audio/x-raw,rate=16000,channels=1 ! avenc_aac bitrate=32000 ! aacparse ! rtpmp4apay name=pay1 pt=97",
    "opus": "audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay name=pay1 pt=97",
    "g726": "audio/x-raw,rate=8000,channels=1 ! avenc_g726 bitrate=32000 ! rtpg726pay name=pay1 pt=97 force-aal2=false",
    "aal2-g726": "audio/x-raw,rate=8000,channels=1 ! avenc_g726 bitrate=32000 ! rtpg726pay name=pay1 pt=97 force-aal2=true",
    "l16": "audio/x-raw,rate=16000,channels=1 ! rtpL16pay name=pay1 pt=97",
    "pcmu": "audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0",
}


# Debian's plugins have no payloader for metadata: ready-made RTP packets go through.
METADATA = ('appsrc name=meta is-live=true format=time do-timestamp=true caps="application/x-rtp,media=application,'
            'encoding-name=VND.ONVIF.METADATA,clock-rate=90000,payload=107,ssrc=(uint)305419896" ! identity name=pay{}')
DOCUMENT = b'<?xml version="1.0" encoding="UTF-8"?><tt:MetadataStream>%s</tt:MetadataStream>'


def pipeline(arguments):
    """The launch line of the camera's media."""
    parts = [f"{SOURCE} ! {VIDEO[arguments.video]}".format(**vars(arguments))]
    if arguments.audio:
        parts.append(f"{TONE} ! {AUDIO[arguments.audio]}")
    parts = [sent(part, arguments) for part in parts]
    if arguments.metadata:
        parts.append(METADATA.format(len(parts)))
    return f"( {' '.join(parts)} )"


def sent(part, arguments):
    """With the first sequence number and timestamp, and behind the payloader packets dropped."""
    for option, value in (("seqnum-offset", arguments.seq), ("timestamp-offset", arguments.ts)):
        part += f" {option}={value}" if value >= 0 else ""
    if not (arguments.loss or arguments.dup or arguments.delay):
        return part
    name = re.search(r" name=(pay\d)", part)
    network = f"drop-probability={arguments.loss} duplicate-probability={arguments.dup}"
    if arguments.delay:
        network += f" delay-probability=0.1 min-delay=20 max-delay={arguments.delay} allow-reordering=true"
    return part.replace(name[0], "", 1) + f" ! netsim {network} ! identity name={name[1]}"


def ways(server, factory, arguments):
    """What SETUP may ask for, and the multicast group."""
    known = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP, "multicast": GstRtsp.RTSPLowerTrans.UDP_MCAST}
    mask = 0
    for name in arguments.transports.split(","):
        mask |= int(known[name])
    factory.set_protocols(GstRtsp.RTSPLowerTrans(mask))
    if arguments.group:
        pool = GstRtspServer.RTSPAddressPool()
        pool.add_range(arguments.group, arguments.group, 5000, 5019, 1)
        factory.set_address_pool(pool)
    server.set_address(arguments.address)


def speak(_, media):
    """Two documents a second, each in packets of 50 bytes with the marker on the last (ONVIF Streaming 5.2.1)."""
    source, state = media.get_element().get_by_name("meta"), {"seq": 1, "number": 0, "began": time.monotonic()}

    def push():
        stamp, document = int((time.monotonic() - state["began"]) * 90_000), DOCUMENT % b"%08d" % state["number"]
        state["number"] += 1
        good = True
        for at in range(0, len(document), 50):
            marker = 0x80 * (at + 50 >= len(document))
            head = struct.pack(">BBHII", 0x80, 107 | marker, state["seq"] & 0xFFFF, stamp & 0xFFFFFFFF, 305419896)
            state["seq"] += 1
            good = source.emit("push-buffer", Gst.Buffer.new_wrapped(head + document[at:at + 50])) == Gst.FlowReturn.OK and good
        return good

    push()      # the caps must be there before the SDP is written
    GLib.timeout_add(500, push)


def guard(server, factory, arguments):
    """Let only this user in, by Digest; show this certificate."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if arguments.user:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(arguments.user, arguments.password, token)
    else:
        auth.set_default_token(token)
    if arguments.cert:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(arguments.cert, arguments.key))
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
    parser.add_argument("--aggregate", choices=("none", "zero-latency", "max-stap"), default="none")
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--dup", type=float, default=0.0)
    parser.add_argument("--delay", type=int, default=0, help="a tenth of the packets is up to so many ms late")
    parser.add_argument("--transports", default="tcp,udp")
    parser.add_argument("--group", default="")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--metadata", action="store_true")
    for name, value in (("slices", 1), ("seq", -1), ("ts", -1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--cert", default="", help="with --key: the server speaks TLS and shows this certificate")
    parser.add_argument("--key", default="")
    for name, value in (("width", 640), ("height", 360), ("fps", 15), ("gop", 30)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline(arguments))
    factory.set_shared(True)
    ways(server, factory, arguments)
    if arguments.metadata:
        factory.connect("media-configure", speak)
    if arguments.user or arguments.cert:
        guard(server, factory, arguments)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    print("port", server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit())
    loop.run()


if __name__ == "__main__":
    main()
