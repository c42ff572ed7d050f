// One WebSocket for every tile of the page: messages out are JSON, messages in are a head (u32 tile, u8 kind, 3 zero bytes) and a payload.

import { get, socketUrl } from "./api.js";

export const KIND = { INIT: 1, FRAGMENT: 2, STATE: 3, EVENT: 4 };
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

export class Connection {
  #socket = null;
  #tiles = new Map(); // number -> { receiver, wish, owed: bytes consumed and not acknowledged yet }
  #wait = FIRST_WAIT_MS;
  #onchange;

  constructor(onchange) {
    this.#onchange = onchange;
    this.#open();
  }

  /** Show `wish` ({camera, track, start, speed, play, width, height, credit}) through `receiver.message(kind, bytes)`; comes back by itself after a cut. */
  subscribe(number, wish, receiver) {
    this.#tiles.set(number, { receiver, wish, owed: 0 });
    this.#send({ op: "subscribe", tile: number, ...wish });
  }

  unsubscribe(number) {
    if (this.#tiles.delete(number)) this.#send({ op: "unsubscribe", tile: number });
  }

  /** `bytes` of a tile have been consumed; the server is told at each quarter of the credit. */
  acknowledge(number, bytes) {
    const tile = this.#tiles.get(number);
    if (!tile) return;
    tile.owed += bytes;
    if (tile.owed * 4 < tile.wish.credit) return;
    this.#send({ op: "ack", tile: number, bytes: tile.owed });
    tile.owed = 0;
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #open() {
    const socket = new WebSocket(socketUrl());
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => this.#opened());
    socket.addEventListener("message", (event) => this.#message(event.data));
    socket.addEventListener("close", () => this.#closed());
    this.#socket = socket;
  }

  #opened() {
    this.#wait = FIRST_WAIT_MS;
    this.#onchange(true);
    for (const [number, tile] of this.#tiles) {
      tile.owed = 0;
      this.#send({ op: "subscribe", tile: number, ...tile.wish });
    }
  }

  #message(data) {
    if (typeof data === "string") return;
    const head = new DataView(data);
    const tile = this.#tiles.get(head.getUint32(0));
    tile?.receiver.message(head.getUint8(4), new Uint8Array(data, 8));
  }

  #closed() {
    this.#onchange(false);
    for (const { receiver } of this.#tiles.values()) receiver.lost();
    const wait = this.#wait * (0.5 + Math.random());
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
    setTimeout(() => get("/cameras?limit=1").catch(() => null).finally(() => this.#open()), wait);
  }
}
