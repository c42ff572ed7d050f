// States and causes in words, for people.

import { clockTime, duration, parse } from "./times.js";

const CAUSES = {
  offline: "camera unreachable", refused: "address not allowed", auth: "wrong user or password", bad_sdp: "camera describes no usable stream",
  unsupported: "codec not supported", stall: "camera went silent", loss: "packets lost", no_keyframe: "waiting for a key frame",
  sender_restart: "camera restarted its stream", timestamp_jump: "camera's clock jumped", clock_step: "server clock was set",
  overload: "recorder overloaded", disk: "disk failed", crash: "recorder restarted", stopped: "recorder was stopped", operator: "switched off",
};

const CODECS = { jpeg: "Motion JPEG", hvc1: "H.265", hev1: "H.265", avc1: "H.264" };
const MUTED = { "g711-muted": "G.711", "l16-muted": "L16", "g726-muted": "G.726" };

export const cause = (word) => CAUSES[word] || word || "";

/** What stands over a tile that shows no moving picture; "" when it does. */
export function stateWords(state) {
  const since = state.since ? ` since ${clockTime(parse(state.since))}` : "";
  const why = state.cause ? `: ${cause(state.cause)}` : "";
  switch (state.state) {
    case "live": case "playback": return "";
    case "offline": return `offline${since}${why}`;
    case "gap": return `no footage${why}`;
    case "ended": return "end of footage";
    case "unsupported": return `${CODECS[state.codec] || state.codec || state.codecs || "this codec"}: this browser cannot show it; the clip can be downloaded`;
    case "disconnected": return "connection to the server lost; trying again";
    case "broken": return `the picture stopped${why}`;
    default: return state.state || "";
  }
}

/** How old the picture is that stands there, e.g. "last picture 14:02:11, 3 min ago"; "" when there is none. */
export function lastWords(lastMs, nowMs) {
  return lastMs ? `last picture ${clockTime(lastMs)}, ${duration(nowMs - lastMs)} ago` : "";
}

export function audioWords(audio) {
  if (audio in MUTED) return `${MUTED[audio]} sound is recorded; browsers cannot play it, so it is muted here`;
  return audio === "aac" || audio === "opus" ? "" : "no sound";
}
