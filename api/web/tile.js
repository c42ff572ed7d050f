// One camera of the grid: picture, name, state in words. It is fed while somebody can see it, in the size that it has.

import { Player, PICTURES } from "./player.js";
import { parse } from "./times.js";
import { lastWords, stateWords } from "./words.js";

const CREDIT = 4 << 20;
const RESIZED = 1.25; // another size by so much asks for the track anew
const SETTLE_MS = 400;
const AGED = new Set(["offline", "disconnected", "broken"]); // states under which the last picture stays, greyed

let nextNumber = 1;

export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

export class Tile {
  #connection;
  #player;
  #number = 0; // of the stream; 0: none
  #wish = null;
  #state = {};
  #lastMs = 0;
  #timer = 0;

  constructor(connection, camera, onopen) {
    this.#connection = connection;
    this.camera = camera;
    this.video = element("video", { muted: true, playsInline: true, disableRemotePlayback: true });
    this.video.setAttribute("aria-hidden", "true");
    this.words = element("span", { className: "words", textContent: "waiting for the first picture" });
    this.dot = element("span", { className: "dot" });
    this.state = element("span", { className: "state" });
    const caption = element("span", { className: "caption" }, element("span", { className: "name" }, this.dot, camera.name || camera.id), this.state);
    this.node = element("button", { className: "tile", type: "button" }, this.video, this.words, caption);
    this.node.dataset.camera = camera.id;
    this.node.addEventListener("click", () => onopen(this.camera));
    this.#player = new Player(this.video, (state) => this.#show(state), (bytes) => connection.acknowledge(this.#number, bytes));
    new ResizeObserver(() => this.#resized()).observe(this.node);
    this.update(camera);
  }

  start() {
    if (!this.#number) this.#subscribe();
  }

  stop() {
    if (!this.#number) return;
    this.#connection.unsubscribe(this.#number);
    this.#number = 0;
    this.#player.close();
    this.words.textContent = "paused";
  }

  /** Ask for the camera in the tile's size. A number of its own for each stream: nothing of the one before can come late. */
  #subscribe() {
    if (this.#number) {
      this.#connection.unsubscribe(this.#number);
      this.#player.reset();
    }
    this.#number = nextNumber++;
    this.#wish = { camera: this.camera.id, track: "auto", play: PICTURES, credit: CREDIT, ...this.#size() };
    this.#connection.subscribe(this.#number, this.#wish, this.#player);
  }

  /** In pixels of the screen. */
  #size() {
    const [width, height] = [this.node.clientWidth, this.node.clientHeight].map((side) => Math.round(side * devicePixelRatio));
    return width && height ? { width, height } : { small: true };
  }

  #resized() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { if (this.#number && this.#another(this.#size())) this.#subscribe(); }, SETTLE_MS);
  }

  /** True if the tile's size is another one than was asked for, and there is a track to change to. */
  #another({ width }) {
    if (!width || !this.camera.tracks?.some((track) => track.name === "sub")) return false;
    const ratio = width / (this.#wish.width || 1);
    return ratio > RESIZED || ratio < 1 / RESIZED;
  }

  update(camera) {
    this.camera = camera;
    this.dot.className = `dot ${camera.state}`;
    const rate = camera.kbps ? `${(camera.kbps / 1000).toFixed(1)} Mbit/s` : "";
    this.state.textContent = camera.state === "recording" ? rate : camera.state;
    this.node.setAttribute("aria-label", `${camera.name || camera.id}, ${camera.state}`);
  }

  /** The age of a picture that stands goes on. */
  tick(nowMs) {
    if (AGED.has(this.#state.state) && this.#number) this.#say(nowMs);
  }

  #show(state) {
    if (state.event) return;
    this.#state = state;
    if (AGED.has(state.state)) this.#lastMs = state.last ? parse(state.last) : this.#player.wallMs || this.#lastMs;
    this.node.dataset.state = state.state;
    if (state.track) this.node.dataset.track = state.track;
    this.#say(Date.now());
  }

  #say(nowMs) {
    const last = AGED.has(this.#state.state) ? lastWords(this.#lastMs, nowMs) : "";
    const words = [stateWords(this.#state), last].filter(Boolean).join("\n");
    if (words !== this.words.textContent) this.words.textContent = words;
  }
}
