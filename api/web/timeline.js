// The timeline of one camera: where there is footage, where there is none and why, where it is damaged; zoom by wheel, drag to move, click to play.

import { get } from "./api.js";
import { clockTime, duration, iso, parse } from "./times.js";
import { cause } from "./words.js";

const COLOURS = { span: "#57c785", gap: "#ff7b72", damage: "#d08bff", hold: "#6cc3ff", axis: "#a3b1c2", cursor: "#ffffff" };
const STEPS_S = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 86400, 604800];
const SHORTEST_MS = 10_000;
const LONGEST_MS = 31 * 86_400_000;
const REFRESH_MS = 2000;

export class Timeline {
  #canvas;
  #camera;
  #onseek;
  #onhover;
  #data = null;
  #drag = null;
  #asked = 0;
  #timer;

  constructor(canvas, camera, { onseek, onhover }) {
    this.#canvas = canvas;
    this.#camera = camera;
    this.#onseek = onseek;
    this.#onhover = onhover;
    this.end = Date.now() + 5000;
    this.start = this.end - 10 * 60_000;
    this.cursor = NaN;
    this.follow = true;
    canvas.addEventListener("wheel", (event) => this.#zoom(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#timer = setInterval(() => this.load(), REFRESH_MS);
    this.load();
  }

  close() {
    clearInterval(this.#timer);
  }

  async load() {
    if (this.follow) {
      const width = this.end - this.start;
      this.end = Date.now() + width * 0.02;
      this.start = this.end - width;
    }
    const mine = ++this.#asked;
    const query = `start=${encodeURIComponent(iso(this.start))}&end=${encodeURIComponent(iso(Math.min(this.end, Date.now())))}`;
    try {
      const data = await get(`/cameras/${this.#camera.id}/timeline?${query}`);
      if (mine === this.#asked) this.#data = data;
    } catch (error) {
      this.#onhover(`timeline: ${error.message}`);
    }
    this.draw();
  }

  draw() {
    const { canvas, width, height, pen } = this.#pen();
    pen.clearRect(0, 0, canvas.width, canvas.height);
    this.#axis(pen, width, height);
    const data = this.#data;
    if (data) {
      for (const span of data.spans) this.#band(pen, span, COLOURS.span, 8, 26);
      for (const gap of data.gaps) this.#band(pen, gap, COLOURS.gap, 14, 14);
      for (const part of data.damage || []) this.#band(pen, part, COLOURS.damage, 8, 6);
      for (const hold of data.holds || []) this.#band(pen, hold, COLOURS.hold, 36, 4);
    }
    const x = this.#x(this.cursor, width);
    pen.fillStyle = COLOURS.cursor;
    if (x >= 0 && x <= width) pen.fillRect(x - 1, 2, 2, 44);
  }

  #pen() {
    const canvas = this.#canvas;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return { canvas, width, height, pen };
  }

  #axis(pen, width, height) {
    const perPixel = (this.end - this.start) / Math.max(1, width);
    const step = (STEPS_S.find((s) => s * 1000 / perPixel > 90) || STEPS_S.at(-1)) * 1000;
    pen.fillStyle = COLOURS.axis;
    pen.font = "11px system-ui, sans-serif";
    for (let t = Math.ceil(this.start / step) * step; t < this.end; t += step) {
      const x = this.#x(t, width);
      pen.fillRect(x, 46, 1, 6);
      pen.fillText(clockTime(t, step >= 86_400_000), x + 3, height - 10);
    }
  }

  #band(pen, part, colour, y, h) {
    const width = this.#canvas.clientWidth;
    const from = Math.max(0, this.#x(parse(part.start), width));
    const to = Math.min(width, this.#x(part.end ? parse(part.end) : Date.now(), width));
    pen.fillStyle = colour;
    if (to >= from) pen.fillRect(from, y, Math.max(1, to - from), h);
  }

  #x(ms, width) {
    return (ms - this.start) / (this.end - this.start) * width;
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    return this.start + (event.clientX - box.left) / box.width * (this.end - this.start);
  }

  #zoom(event) {
    event.preventDefault();
    this.#scale(this.#at(event), event.deltaY > 0 ? 1.25 : 0.8);
  }

  #scale(around, factor) {
    const width = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, (this.end - this.start) * factor));
    const share = (around - this.start) / (this.end - this.start);
    this.follow = around >= Date.now() - width * 0.1 && this.follow;
    this.start = around - share * width;
    this.end = this.start + width;
    this.draw();
    this.load();
  }

  #down(event) {
    this.#drag = { x: event.clientX, start: this.start, end: this.end, moved: false };
    this.#canvas.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const at = this.#at(event);
    const drag = this.#drag;
    if (!drag) return this.#hover(at);
    const shift = event.clientX - drag.x;
    if (Math.abs(shift) < 4 && !drag.moved) return;
    drag.moved = true;
    this.follow = false;
    const ms = shift / this.#canvas.clientWidth * (drag.end - drag.start);
    this.start = drag.start - ms;
    this.end = drag.end - ms;
    this.draw();
  }

  #up(event) {
    const drag = this.#drag;
    this.#drag = null;
    if (drag?.moved) this.load();
    else if (drag) this.#onseek(this.#at(event));
  }

  #key(event) {
    const width = this.end - this.start;
    if (event.key === "+" || event.key === "=") this.#scale((this.start + this.end) / 2, 0.5);
    else if (event.key === "-") this.#scale((this.start + this.end) / 2, 2);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      this.follow = false;
      const step = width / 10 * (event.key === "ArrowLeft" ? -1 : 1);
      this.start += step;
      this.end += step;
      this.load();
    } else if (event.key === "Enter") this.#onseek(Number.isNaN(this.cursor) ? (this.start + this.end) / 2 : this.cursor);
    else return;
    event.preventDefault();
  }

  #hover(ms) {
    const gap = this.#data?.gaps.find((g) => parse(g.start) <= ms && ms < (g.end ? parse(g.end) : Infinity));
    const length = gap ? duration((gap.end ? parse(gap.end) : Date.now()) - parse(gap.start)) : "";
    this.#onhover(gap ? `${clockTime(ms)}: no footage for ${length}, ${cause(gap.cause)}` : clockTime(ms, true));
  }
}
