#!/usr/bin/python3
"""A client of ONVIF replay made by somebody else: GStreamer's rtspsrc in onvif-mode. Runs under the system's Python, which has its bindings.

    gst_replay.py ADDRESS --start NS --stop NS [--rate -1.0] [--frames intra/1000] [--paced] --raw FILE

It plays from the beginning, and seeks at once. Its jitter buffer goes by RTP timestamps alone: with others it drops the first picture over TCP.
Times are UTC in ns since 1970. Pictures since the seek go to FILE as grey bytes; a line of JSON each says the time and flags that it read
of their packets. Ends at the end that rtponvifparse or the server says, or when nothing has come for --quiet seconds.
"""

import argparse
import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

PRIME_NS = 2_208_988_800 * Gst.SECOND
DEPAY = {"h264": "rtph264depay ! h264parse ! avdec_h264", "h265": "rtph265depay ! h265parse ! avdec_h265", "jpeg": "rtpjpegdepay ! jpegdec"}


def seek_of(arguments):
    flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
    word, _, interval = arguments.frames.partition("/")
    if word == "intra":
        flags |= Gst.SeekFlags.TRICKMODE_KEY_UNITS
    elif word == "predicted":
        flags |= Gst.SeekFlags.TRICKMODE_FORWARD_PREDICTED
    event = Gst.Event.new_seek(arguments.rate, Gst.Format.TIME, flags, Gst.SeekType.SET, arguments.start + PRIME_NS, Gst.SeekType.SET,
                               arguments.stop + PRIME_NS)
    if interval:
        event.set_seek_trickmode_interval(int(interval) * Gst.MSECOND)
    return event


class Player:
    def __init__(self, arguments, raw):
        self.loop, self.raw, self.alive, self.arguments, self.sought = GLib.MainLoop(), raw, True, arguments, False
        self.pipeline = Gst.parse_launch(
            f"rtspsrc name=source ! queue max-size-buffers=0 max-size-time=0 max-size-bytes=0 ! rtponvifparse name=parse ! "
            f"{DEPAY[arguments.codec]} ! videoconvert ! video/x-raw,format=GRAY8 ! fakesink name=sink sync={str(arguments.paced).lower()} "
            "signal-handoffs=true")
        source = self.pipeline.get_by_name("source")
        for name, value in (("location", arguments.address), ("onvif-mode", True), ("onvif-rate-control", arguments.paced), ("tcp-timeout", 0),
                            ("buffer-mode", 0)):
            source.set_property(name, value)
        self.pipeline.get_by_name("sink").connect("handoff", self.shown)
        self.old, self.plays = frozenset(), []            # low bytes of the CSeq of PLAYs: before the seek, and of each AU
        kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST | Gst.PadProbeType.EVENT_FLUSH
        self.pipeline.get_by_name("parse").get_static_pad("src").add_probe(kinds, self.parsed)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.told)
        GLib.timeout_add(int(arguments.quiet * 1000), self.look)
        self.pipeline.set_state(Gst.State.PLAYING)

    def shown(self, _, buffer, __):
        self.alive = True
        done, found = buffer.map(Gst.MapFlags.READ)
        self.raw.write(bytes(found.data) if done else b"")
        buffer.unmap(found)

    def parsed(self, _, info):
        """What rtponvifparse has made of the header extension: times and flags of packets that have one."""
        if info.type & Gst.PadProbeType.EVENT_FLUSH:
            if info.get_event().type is Gst.EventType.FLUSH_STOP:
                self.raw.truncate(0)
                self.raw.seek(0)
                self.old = frozenset(self.plays)
                say({"sought": True})
            return Gst.PadProbeReturn.OK
        several = info.get_buffer_list() if info.type & Gst.PadProbeType.BUFFER_LIST else None
        for buffer in [info.get_buffer()] if several is None else [several.get(number) for number in range(several.length())]:
            data = buffer.extract_dup(0, 28)
            if data[0] & 0x10:
                self.plays.append(data[25])
                if not self.stale():
                    flags = buffer.get_flags()
                    say({"ns": buffer.pts - PRIME_NS, "jump": bool(flags & Gst.BufferFlags.DISCONT),
                         "clean": not flags & Gst.BufferFlags.DELTA_UNIT})
        return Gst.PadProbeReturn.DROP if self.stale() else Gst.PadProbeReturn.OK

    def stale(self):
        """True if the newest AU is of the PLAY before the seek: the extension has the CSeq to tell."""
        return bool(self.plays) and self.plays[-1] in self.old

    def told(self, _, message):
        if message.type is Gst.MessageType.STATE_CHANGED and message.src is self.pipeline and not self.sought:
            if message.parse_state_changed()[1] is Gst.State.PLAYING:
                self.sought = True
                self.pipeline.get_by_name("source").send_event(seek_of(self.arguments))
        elif message.type is Gst.MessageType.EOS:
            say({"eos": True})
            self.loop.quit()
        elif message.type is Gst.MessageType.ERROR:
            say({"error": message.parse_error()[0].message})
            self.loop.quit()

    def look(self):
        if not self.alive:
            self.loop.quit()
        self.alive = False
        return True


def say(what):
    sys.stdout.write(json.dumps(what) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--start", type=int, required=True)
    parser.add_argument("--stop", type=int, required=True)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--frames", default="all")
    parser.add_argument("--codec", default="h264", choices=DEPAY)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--quiet", type=float, default=3.0)
    parser.add_argument("--raw", required=True)
    Gst.init(None)
    arguments = parser.parse_args()
    with open(arguments.raw, "wb") as raw:
        player = Player(arguments, raw)
        player.loop.run()
        player.pipeline.set_state(Gst.State.NULL)


main()
