// One camera of the grid: picture, name, state in words.

import { Player, PLAYABLE } from "./player.js";
import { stateWords } from "./words.js";

const CREDIT = 4 << 20;

export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

export class Tile {
  #connection;
  #number;

  constructor(connection, number, camera, onopen) {
    this.#connection = connection;
    this.#number = number;
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
    this.player = new Player(this.video, (state) => this.#show(state), (bytes) => connection.acknowledge(number, bytes));
    this.update(camera);
  }

  start() {
    this.#connection.subscribe(this.#number, { camera: this.camera.id, track: "auto", small: true, play: PLAYABLE, credit: CREDIT }, this.player);
  }

  stop() {
    this.#connection.unsubscribe(this.#number);
    this.player.close();
    this.words.textContent = "paused";
  }

  update(camera) {
    this.camera = camera;
    this.dot.className = `dot ${camera.state}`;
    const rate = camera.kbps ? `${(camera.kbps / 1000).toFixed(1)} Mbit/s` : "";
    this.state.textContent = camera.state === "recording" ? rate : camera.state;
    this.node.setAttribute("aria-label", `${camera.name || camera.id}, ${camera.state}`);
  }

  #show(state) {
    if (state.event) return;
    this.words.textContent = stateWords(state);
    this.node.dataset.state = state.state;
    if (state.track) this.node.dataset.track = state.track;
  }
}
