// Plays one stream of init segments and fragments in a <video> by Media Source Extensions, at the live edge or at a steady pace.

import { KIND } from "./connection.js";
import { LiveEdge } from "./edge.js";
import { beginsWithKey } from "./fragment.js";
import { Still } from "./still.js";

const KEEP_BEHIND_S = 8;
const KEEP_BEHIND_LIVE_S = 1;
const KEEP_AT_LEAST_S = 0.5;
const AHEAD_PAUSED_S = 20; // what comes while nobody looks is left with the server
const END_SLACK_S = 0.25; // this near to the end of a stretch counts as played
const LAST_S = 0.001; // a seek to so long before the end shows the last picture
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
  #queue = []; // bytes to append, and states that begin another stream
  #keys = []; // media times of access points in the buffer
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
    else this.#push(bytes);
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
    this.#queue.push(state);
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
    this.#video.requestVideoFrameCallback(() => { if (source === this.#source) this.#still.drop(); });
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
    for (const item of this.#queue) this.#consumed(item.byteLength || 0);
    this.#queue = [];
  }

  #push(bytes) {
    this.#queue.push(bytes);
    this.#next();
  }

  /** Do what is first in the queue: bytes to append, or the state that begins another stream, once this one has been played. */
  #next() {
    const first = this.#queue[0];
    if (first === undefined) {
      if (this.#resting) this.#rest();
    } else if (first instanceof Uint8Array) {
      this.#append();
    } else if (this.#live || this.#playedOut()) {
      this.#queue.shift();
      this.#restart(first);
    }
  }

  #playedOut() {
    const ranges = this.#buffer?.buffered;
    if (this.#fresh || !ranges || !ranges.length) return !this.#buffer?.updating;
    return !this.#buffer.updating && this.#video.currentTime > ranges.end(ranges.length - 1) - END_SLACK_S;
  }

  /** All that has come goes in at once, but that an access point begins an append of its own: so its place is known. */
  #append() {
    if (!this.#buffer || this.#buffer.updating || this.#source.readyState !== "open" || this.#held()) return;
    const key = beginsWithKey(this.#queue[0]);
    let count = 1;
    while (this.#queue[count] instanceof Uint8Array && !beginsWithKey(this.#queue[count])) count += 1;
    const bytes = joined(this.#queue.slice(0, count));
    const ranges = this.#buffer.buffered;
    try {
      this.#buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name === "QuotaExceededError" && this.#trim(KEEP_AT_LEAST_S)) return;
      this.#drop();
      this.#onstate({ state: "broken", cause: error.message });
      return;
    }
    if (key && ranges.length) this.#keys.push(ranges.end(ranges.length - 1));
    this.#queue.splice(0, count);
    this.#consumed(bytes.byteLength);
  }

  /** True while enough lies ahead of who has paused. */
  #held() {
    const ranges = this.#buffer.buffered;
    return this.#started && this.#video.paused && ranges.length > 0 && ranges.end(ranges.length - 1) - this.#video.currentTime > AHEAD_PAUSED_S;
  }

  #updated() {
    if (!this.#buffer) return;
    if (!this.#trim(this.#live ? KEEP_BEHIND_LIVE_S : KEEP_BEHIND_S)) this.#next();
    if (this.#buffer && !(this.#resting && this.#live)) this.#steer();
  }

  /** Remove what lies before the newest access point that is `keep` seconds old. A removal ends at the access point after where it is told to end,
   * so it is told a place well before that one: our notion of where it lies is not exact. */
  #trim(keep) {
    const ranges = this.#buffer.buffered;
    const last = this.#keys.findLastIndex((key) => key <= this.#video.currentTime - keep);
    if (last < 0 || !ranges.length || this.#buffer.updating) return false;
    const [before, key] = [this.#keys[last - 1] ?? ranges.start(0), this.#keys[last]];
    this.#keys = this.#keys.slice(last + 1);
    if (key <= ranges.start(0)) return false;
    this.#buffer.remove(0, (before + key) / 2);
    return true;
  }

  #steer() {
    const ranges = this.#buffer.buffered;
    if (!ranges.length) return;
    const video = this.#video;
    const end = ranges.end(ranges.length - 1);
    const held = ranges.start(this.#live ? ranges.length - 1 : 0);
    if (!this.#started) {
      this.#started = true;
      video.currentTime = this.#live ? Math.max(held, end - this.#edge.target) : held;
      video.playbackRate = this.#speed;
      video.play().catch((error) => { if (error.name !== "AbortError") this.#onstate({ state: "broken", cause: error.message }); });
    } else if (video.currentTime < held) {
      video.currentTime = held;
    } else if (this.#live && !video.paused) {
      this.#keepLive(video, held, end);
    }
  }

  #keepLive(video, held, end) {
    const { jump, rate } = this.#edge.steer(end - video.currentTime, performance.now());
    if (jump) video.currentTime = Math.max(held, end - this.#edge.target);
    else if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  #waiting() {
    if (this.#started && this.#live && !this.#video.seeking && !this.#resting) this.#edge.waited(performance.now());
    this.#next();
  }

  /** Show the last picture that has come. */
  #rest() {
    const ranges = this.#buffer?.buffered;
    if (!this.#live || !ranges?.length || this.#buffer.updating) return;
    const last = ranges.end(ranges.length - 1) - LAST_S;
    this.#started = true;
    if (!this.#video.paused) this.#video.pause();
    if (this.#video.currentTime < last) this.#video.currentTime = last;
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
