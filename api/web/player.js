// Plays one stream of init segments and fragments in a <video> by Media Source Extensions, close to the live edge or at a steady pace.

import { KIND } from "./connection.js";

const KEEP_BEHIND_S = 8;
const LIVE_LAG_S = 0.5; // where playback sits behind the newest picture
const LIVE_JUMP_S = 2.5; // farther behind than this: jump
const END_SLACK_S = 0.25; // this near to the end of a stretch counts as played
const decode = new TextDecoder();
const wallMs = (ns) => Number(BigInt(ns) / 1000n) / 1000;

/** Sample entry types that this browser plays, in the words of the subscribe message. */
export const PLAYABLE = [["avc1", "avc1.64001f"], ["hvc1", "hvc1.1.6.L93.B0"], ["mp4a", "mp4a.40.2"], ["Opus", "opus"]]
  .filter(([, codec]) => MediaSource.isTypeSupported(`video/mp4; codecs="${codec}"`)).map(([name]) => name);

export class Player {
  #video;
  #onstate;
  #consumed;
  #source = null;
  #buffer = null;
  #queue = [];
  #live = true;
  #fresh = true;
  #speed = 1;
  #started = false;

  /** `onstate(state)` gets each state message; `consumed(bytes)` is called when bytes have left the queue. */
  constructor(video, onstate, consumed) {
    this.#video = video;
    this.#onstate = onstate;
    this.#consumed = consumed;
    this.wallAtZeroMs = NaN;
    for (const name of ["timeupdate", "waiting", "pause"]) video.addEventListener(name, () => this.#next());
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

  close() {
    this.reset();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  /** Forget everything at once: another stream will follow. */
  reset() {
    this.#drop();
    this.#fresh = true;
  }

  #state(state) {
    if (!state.codecs) {
      this.#onstate(state);
      return;
    }
    this.#queue.push(state);
    this.#next();
  }

  /** Begin the stream of `state`; what was buffered of the one before is gone. */
  #restart(state) {
    this.#buffer = null;
    this.#started = false;
    this.#fresh = false;
    this.wallAtZeroMs = wallMs(state.wall_ns);
    this.#live = state.state === "live";
    const source = new MediaSource();
    this.#source = source;
    const url = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => this.#opened(source, state.codecs, url), { once: true });
    this.#video.src = url;
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
    for (const item of this.#queue) this.#consumed(item.byteLength || 0);
    this.#queue = [];
    this.#buffer = null;
    this.#source = null;
    this.#started = false;
  }

  #push(bytes) {
    this.#queue.push(bytes);
    this.#next();
  }

  /** Do what is first in the queue: bytes to append, or the state that begins another stream, once this one has been played. */
  #next() {
    const first = this.#queue[0];
    if (first === undefined) return;
    if (first instanceof Uint8Array) {
      this.#append(first);
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

  #append(bytes) {
    if (!this.#buffer || this.#buffer.updating || this.#source.readyState !== "open") return;
    try {
      this.#buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name === "QuotaExceededError" && this.#trim(1)) return;
      this.#drop();
      this.#onstate({ state: "broken", cause: error.message });
      return;
    }
    this.#queue.shift();
    this.#consumed(bytes.byteLength);
  }

  #updated() {
    if (!this.#buffer) return;
    if (!this.#trim(KEEP_BEHIND_S)) this.#next();
    this.#steer();
  }

  #trim(keep) {
    const ranges = this.#buffer.buffered;
    const until = this.#video.currentTime - keep;
    if (!ranges.length || until - ranges.start(0) < keep || this.#buffer.updating) return false;
    this.#buffer.remove(ranges.start(0), until);
    return true;
  }

  #steer() {
    const ranges = this.#buffer.buffered;
    if (!ranges.length) return;
    const video = this.#video;
    const end = ranges.end(ranges.length - 1);
    if (!this.#started) {
      this.#started = true;
      video.currentTime = this.#live ? Math.max(ranges.start(0), end - LIVE_LAG_S) : ranges.start(0);
      video.playbackRate = this.#speed;
      video.play().catch((error) => { if (error.name !== "AbortError") this.#onstate({ state: "broken", cause: error.message }); });
      return;
    }
    if (this.#live) this.#keepLive(video, ranges, end);
    else if (video.currentTime < ranges.start(0)) video.currentTime = ranges.start(0);
  }

  #keepLive(video, ranges, end) {
    const lag = end - video.currentTime;
    const held = ranges.start(ranges.length - 1);
    if (lag > LIVE_JUMP_S || video.currentTime < ranges.start(0)) video.currentTime = Math.max(held, end - LIVE_LAG_S);
    video.playbackRate = lag > 2 * LIVE_LAG_S ? 1.05 : 1;
  }
}
