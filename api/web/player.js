// Plays one stream of init segments and fragments in a <video> by Media Source Extensions, at the live edge or at a steady pace.

import { KIND } from "./connection.js";
import { LiveEdge } from "./edge.js";
import { pictures, timescale } from "./fragment.js";
import { Still } from "./still.js";

const KEEP_BEHIND_S = 8;
const KEEP_BEHIND_LIVE_S = 1;
const KEEP_AT_LEAST_S = 0.5;
const AHEAD_PAUSED_S = 20; // what comes while nobody looks is left with the server
const END_SLACK_S = 0.25; // this near to the end of a stretch counts as played
const LAST_S = 0.001; // a seek to so long after a picture's time shows it
const decode = new TextDecoder();
const wallMs = (ns) => Number(BigInt(ns) / 1000n) / 1000;
const played = ([, codec]) => MediaSource.isTypeSupported(`video/mp4; codecs="${codec}"`);

/** Sample entry types that this browser plays, in the words of the subscribe message: of pictures, and of all. */
export const PICTURES = [["avc1", "avc1.64001f"], ["hvc1", "hvc1.1.6.L93.B0"]].filter(played).map(([name]) => name);
export const PLAYABLE = [...PICTURES, ...[["mp4a", "mp4a.40.2"], ["Opus", "opus"]].filter(played).map(([name]) => name)];

export class Player {
  #video;
  #still;
  #onstate;
  #consumed;
  #edge = new LiveEdge();
  #source = null;
  #buffer = null;
  #queue = []; // { bytes, pictures } to append, and { state } that begins another stream
  #hz = 0;
  #keys = []; // media times of access points in the buffer
  #newest = -Infinity; // media time of the newest picture in the buffer
  #live = true;
  #fresh = true;
  #resting = false; // no more will come for now: stay at the last picture
  #speed = 1;
  #started = false;

  /** `onstate(state)` gets each state message; `consumed(bytes)` is called when bytes have left the queue. */
  constructor(video, onstate, consumed) {
    this.#video = video;
    this.#still = new Still(video);
    this.#onstate = onstate;
    this.#consumed = consumed;
    this.wallAtZeroMs = NaN;
    for (const name of ["timeupdate", "pause", "play"]) video.addEventListener(name, () => this.#next());
    video.addEventListener("waiting", () => this.#waiting());
  }

  /** UTC in ms of the picture on screen, NaN when nothing plays. */
  get wallMs() {
    return this.#started ? this.wallAtZeroMs + this.#video.currentTime * 1000 : NaN;
  }

  set speed(value) {
    this.#speed = value;
    this.#video.playbackRate = value;
  }

  message(kind, bytes) {
    if (kind === KIND.STATE) this.#state(JSON.parse(decode.decode(bytes)));
    else if (kind === KIND.EVENT) this.#event(JSON.parse(decode.decode(bytes)));
    else this.#push(kind, bytes);
  }

  #event(event) {
    if (event.wall_ns) this.wallAtZeroMs = wallMs(event.wall_ns);
    if (event.error) this.#onstate({ state: "ended", cause: event.error });
    this.#onstate({ event });
  }

  lost() {
    this.#onstate({ state: "disconnected" });
  }

  /** Let go of the stream and its decoder; the last picture stays. */
  close() {
    this.#still.keep();
    this.reset();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  /** Forget everything at once: another stream will follow. The picture stays until the first one of that. */
  reset() {
    this.#drop();
    this.#fresh = true;
  }

  #state(state) {
    if (!state.codecs) {
      this.#rests(state.state === "offline");
      this.#onstate(state);
      return;
    }
    if (state.state !== "playback") this.#forget();
    this.#queue.push({ state });
    this.#next();
  }

  #rests(resting) {
    if (this.#resting && !resting) this.#video.play().catch(() => null); // it goes on where it stood
    this.#resting = resting;
    this.#next();
  }

  /** Begin the stream of `state`; what was buffered of the one before is gone, but for its last picture. */
  #restart(state) {
    this.#still.keep();
    this.#buffer = null;
    this.#keys = [];
    this.#newest = -Infinity;
    this.#started = false;
    this.#fresh = false;
    this.#resting = false;
    this.wallAtZeroMs = wallMs(state.wall_ns);
    this.#live = state.state !== "playback";
    const source = new MediaSource();
    this.#source = source;
    const url = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => this.#opened(source, state.codecs, url), { once: true });
    this.#video.src = url;
    this.#untilShown();
    this.#onstate(state);
  }

  #opened(source, codecs, url) {
    URL.revokeObjectURL(url);
    if (source !== this.#source) return;
    try {
      this.#buffer = source.addSourceBuffer(`video/mp4; codecs="${codecs}"`);
    } catch (error) {
      this.#onstate({ state: "unsupported", codecs, cause: error.message });
      return;
    }
    this.#buffer.addEventListener("updateend", () => this.#updated());
    this.#next();
  }

  #drop() {
    this.#forget();
    this.#buffer = null;
    this.#source = null;
    this.#started = false;
  }

  /** What waits in the queue will not be shown. */
  #forget() {
    for (const { bytes } of this.#queue) if (bytes) this.#consumed(bytes.byteLength);
    this.#queue = [];
  }

  #push(kind, bytes) {
    if (kind === KIND.INIT) this.#queue.push({ bytes, hz: timescale(bytes) });
    else this.#queue.push({ bytes, pictures: pictures(bytes) });
    this.#next();
  }

  /** Do what is first in the queue: bytes to append, or the state that begins another stream, once this one has been played. */
  #next() {
    const first = this.#queue[0];
    if (first === undefined) {
      if (this.#resting) this.#rest();
    } else if (first.bytes) {
      this.#append();
    } else if (this.#live || this.#playedOut()) {
      this.#queue.shift();
      this.#restart(first.state);
    }
  }

  #playedOut() {
    const ranges = this.#buffer?.buffered;
    if (this.#fresh || !ranges || !ranges.length) return !this.#buffer?.updating;
    return !this.#buffer.updating && this.#video.currentTime > ranges.end(ranges.length - 1) - END_SLACK_S;
  }

  /** All that has come goes in at once. */
  #append() {
    if (!this.#buffer || this.#buffer.updating || this.#source.readyState !== "open" || this.#held()) return;
    const stop = this.#queue.findIndex((item) => !item.bytes);
    const items = stop < 0 ? this.#queue : this.#queue.slice(0, stop);
    const bytes = joined(items.map((item) => item.bytes));
    try {
      this.#buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name === "QuotaExceededError" && this.#trim(KEEP_AT_LEAST_S)) return;
      this.#drop();
      this.#onstate({ state: "broken", cause: error.message });
      return;
    }
    for (const item of items) this.#note(item);
    this.#queue.splice(0, items.length);
    this.#consumed(bytes.byteLength);
  }

  /** Where access points and the newest picture lie; the buffer's end is no measure of it, since a picture's length is not known when it is new. */
  #note({ hz, pictures: brought }) {
    this.#hz = hz || this.#hz;
    if (!brought || !this.#hz) return;
    if (brought.key) this.#keys.push(brought.first / this.#hz);
    this.#newest = Math.max(this.#newest, brought.newest / this.#hz);
  }

  /** True while enough lies ahead of who has paused. */
  #held() {
    return this.#started && this.#video.paused && this.#newest - this.#video.currentTime > AHEAD_PAUSED_S;
  }

  #updated() {
    if (!this.#buffer) return;
    if (!this.#trim(this.#live ? KEEP_BEHIND_LIVE_S : KEEP_BEHIND_S)) this.#next();
    if (this.#buffer && !(this.#resting && this.#live)) this.#steer();
  }

  /** Remove what lies before the newest access point that is `keep` seconds old. A removal takes all up to the access point at or after where it is
   * told to end, so it is told a place well before that one. */
  #trim(keep) {
    const last = this.#keys.findLastIndex((key) => key <= this.#video.currentTime - keep);
    if (last < 1 || this.#buffer.updating) return false;
    const until = (this.#keys[last - 1] + this.#keys[last]) / 2;
    this.#keys = this.#keys.slice(last);
    this.#buffer.remove(0, until);
    return true;
  }

  #steer() {
    const ranges = this.#buffer.buffered;
    if (!ranges.length) return;
    const video = this.#video;
    const held = ranges.start(this.#live ? ranges.length - 1 : 0);
    if (!this.#started) {
      this.#started = true;
      video.currentTime = this.#live ? Math.max(held, this.#newest - this.#edge.target) : held;
      video.playbackRate = this.#speed;
      video.play().catch((error) => { if (error.name !== "AbortError") this.#onstate({ state: "broken", cause: error.message }); });
    } else if (video.currentTime < held) {
      this.#seek(held);
    } else if (this.#live && !video.paused) {
      this.#keepLive(video, held);
    }
  }

  #keepLive(video, held) {
    const { jump, rate } = this.#edge.steer(this.#newest - video.currentTime, performance.now());
    if (jump) this.#seek(Math.max(held, this.#newest - this.#edge.target));
    else if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  /** A video that seeks can lend no picture: should another stream begin meanwhile, this one is there. */
  #seek(seconds) {
    this.#still.keep();
    this.#untilShown();
    this.#video.currentTime = seconds;
  }

  #untilShown() {
    const source = this.#source;
    this.#video.requestVideoFrameCallback(() => { if (source === this.#source) this.#still.drop(); });
  }

  #waiting() {
    if (this.#started && this.#live && !this.#video.seeking && !this.#resting) this.#edge.waited(performance.now());
    this.#next();
  }

  /** Show the last picture that has come. */
  #rest() {
    if (!this.#live || !this.#buffer?.buffered.length || this.#buffer.updating) return;
    this.#started = true;
    if (!this.#video.paused) this.#video.pause();
    if (Math.abs(this.#video.currentTime - this.#newest) > 2 * LAST_S) this.#video.currentTime = this.#newest + LAST_S;
  }
}

function joined(parts) {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
