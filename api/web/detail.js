// One camera at full size: live or from any moment, its timeline, the clip to take away.

import { clipUrl } from "./api.js";
import { element } from "./tile.js";
import { Player, PLAYABLE } from "./player.js";
import { Timeline } from "./timeline.js";
import { clockTime, iso, parse } from "./times.js";
import { audioWords, lastWords, stateWords } from "./words.js";

const FIRST_TILE = 100_000;
const CREDIT = 16 << 20;
const SPEEDS = [0.5, 1, 2, 4, 8];
const CLIP_MS = 30_000;

export class Detail {
  #connection;
  #camera;
  #player;
  #timeline;
  #frame;
  #wish = null;
  #speed = 1;
  #tile = FIRST_TILE;
  #at = null; // ms where playback was asked to start; null: live
  #state = {};
  #lastMs = 0;

  constructor(root, connection, camera, onclose) {
    this.#connection = connection;
    this.#camera = camera;
    this.video = element("video", { muted: true, playsInline: true });
    this.words = element("div", { className: "words" });
    this.words.setAttribute("role", "status");
    this.time = element("output", { className: "grow" });
    this.note = element("p", { className: "note" });
    this.canvas = element("canvas", { className: "timeline", tabIndex: 0 });
    this.canvas.setAttribute("role", "slider");
    this.canvas.setAttribute("aria-label", "Timeline: click or Enter plays from there; plus and minus zoom; arrows move");
    root.replaceChildren(this.#bar(onclose), element("div", { className: "stage" }, this.video, this.words), this.canvas, this.note);
    this.#player = new Player(this.video, (state) => this.#show(state), (bytes) => connection.acknowledge(this.#tile, bytes));
    this.#timeline = new Timeline(this.canvas, camera, { onseek: (ms) => this.play(ms), onhover: (text) => { this.note.textContent = text; } });
    this.play(null);
    this.#tick();
  }

  /** Play from `ms`, or live when it is null. */
  play(ms) {
    this.#at = ms;
    this.liveButton.setAttribute("aria-pressed", String(ms === null));
    this.#player.speed = ms === null ? 1 : this.#speed;
    this.#wish = { camera: this.#camera.id, track: "auto", play: PLAYABLE, credit: CREDIT, start: ms === null ? null : iso(ms), speed: ms === null ? 1 : this.#speed };
    this.#connection.unsubscribe(this.#tile); // a number of its own for each stream: nothing of the old one can come late
    this.#player.reset();
    this.#connection.subscribe(++this.#tile, this.#wish, this.#player);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#connection.unsubscribe(this.#tile);
    this.#player.close();
    this.#timeline.close();
  }

  #bar(onclose) {
    const back = element("button", { type: "button", textContent: "All cameras", onclick: onclose });
    this.liveButton = element("button", { type: "button", textContent: "Live", onclick: () => this.play(null) });
    const sound = element("button", { type: "button", textContent: "Sound" });
    sound.setAttribute("aria-pressed", "false");
    sound.onclick = () => {
      this.video.muted = !this.video.muted;
      sound.setAttribute("aria-pressed", String(!this.video.muted));
    };
    const pause = element("button", { type: "button", textContent: "Pause", onclick: () => (this.video.paused ? this.video.play() : this.video.pause()) });
    this.video.addEventListener("pause", () => { pause.textContent = "Play"; });
    this.video.addEventListener("play", () => { pause.textContent = "Pause"; });
    const speed = element("select", { onchange: (event) => { this.#speed = Number(event.target.value); if (this.#at !== null) this.play(this.#player.wallMs || this.#at); } },
      ...SPEEDS.map((s) => element("option", { value: s, textContent: `${s}x`, selected: s === 1 })));
    speed.setAttribute("aria-label", "Speed");
    this.clip = element("a", { textContent: "Clip of 30 s", className: "clip", download: "" });
    const name = element("h2", { textContent: this.#camera.name || this.#camera.id });
    return element("div", { className: "bar" }, back, name, this.time, this.liveButton, pause, speed, sound, this.clip);
  }

  #show(state) {
    if (state.event) return;
    const wall = this.#player.wallMs;
    if (state.state === "disconnected" && this.#at !== null && !Number.isNaN(wall)) this.#wish.start = iso(wall); // go on there
    this.#state = state;
    if (state.state === "offline") this.#lastMs = state.last ? parse(state.last) : wall || this.#lastMs;
    this.#say();
    this.video.dataset.state = state.state;
    if (state.track) this.video.dataset.track = state.track;
    if (state.audio) this.note.textContent = audioWords(state.audio);
  }

  #say() {
    const last = this.#state.state === "offline" ? lastWords(this.#lastMs, Date.now()) : "";
    const words = [stateWords(this.#state), last].filter(Boolean).join("\n");
    if (words !== this.words.textContent) this.words.textContent = words;
  }

  /** The clip around what is shown; where nothing can be shown, of what has just been recorded, or around where playback was asked for. */
  #clip(wall) {
    const now = Date.now();
    const middle = wall || (this.#at ?? now - CLIP_MS / 2);
    this.clip.href = clipUrl(this.#camera.id, middle - CLIP_MS / 2, Math.min(middle + CLIP_MS / 2, now));
  }

  #tick() {
    const wall = this.#player.wallMs;
    this.#clip(wall);
    if (this.#state.state === "offline") this.#say();
    if (!Number.isNaN(wall)) {
      this.time.textContent = clockTime(wall, true);
      this.time.dataset.ms = wall;
      this.#timeline.cursor = wall;
      this.#timeline.draw();
    }
    this.#frame = requestAnimationFrame(() => this.#tick());
  }
}
