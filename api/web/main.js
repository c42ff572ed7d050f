// The page: every camera live in a grid over one WebSocket; one camera opened by a click or by #camera-id.

import { list } from "./api.js";
import { Connection } from "./connection.js";
import { Detail } from "./detail.js";
import { Tile } from "./tile.js";
import { clockTime } from "./times.js";

const REFRESH_MS = 3000;
const HIDDEN_MS = 5000; // a page that nobody sees for so long lets its tiles go
const AROUND = "25%"; // tiles so near to what can be seen are fed too
const grid = document.querySelector("#grid");
const stage = document.querySelector("#detail");
const summary = document.querySelector("#summary");
const tiles = new Map();
let connected = false;
let detail = null;
const seen = new Set(); // tiles that can be seen, or nearly
let asleep = false;
let sleep = 0;

const connection = new Connection((up) => {
  connected = up;
  summarise();
});

function summarise() {
  const recording = [...tiles.values()].filter((tile) => tile.camera.state === "recording").length;
  summary.textContent = connected ? `${recording} of ${tiles.size} cameras recording` : "connection to the server lost; trying again";
}

function visible(camera) {
  const wanted = document.querySelector("#find").value.trim().toLowerCase();
  return !wanted || [camera.id, camera.name, camera.site, camera.partner].some((text) => (text || "").toLowerCase().includes(wanted));
}

async function refresh() {
  try {
    const cameras = await list("/cameras");
    const present = new Set(cameras.map((camera) => camera.id));
    for (const camera of cameras) place(camera);
    for (const [id, tile] of tiles) if (!present.has(id)) remove(id, tile);
    summarise();
  } catch (error) {
    summary.textContent = error.message;
  }
}

function place(camera) {
  let tile = tiles.get(camera.id);
  if (tile) tile.update(camera);
  else {
    tile = new Tile(connection, camera, open);
    tiles.set(camera.id, tile);
    grid.append(tile.node);
    watch.observe(tile.node);
  }
  tile.node.hidden = !visible(camera);
}

function remove(id, tile) {
  watch.unobserve(tile.node);
  seen.delete(tile);
  tile.stop();
  tile.node.remove();
  tiles.delete(id);
}

/** Feed the tiles that somebody can see, and no others. */
function feed() {
  for (const tile of tiles.values()) if (!detail && !asleep && seen.has(tile)) tile.start(); else tile.stop();
}

const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = tiles.get(target.dataset.camera);
    if (tile && isIntersecting) seen.add(tile); else seen.delete(tile);
  }
  feed();
}, { rootMargin: AROUND });

function seenOrNot() {
  clearTimeout(sleep);
  if (document.hidden) sleep = setTimeout(() => { asleep = true; feed(); }, HIDDEN_MS);
  else {
    asleep = false;
    feed();
  }
}

function open(camera) {
  location.hash = camera.id;
}

function route() {
  const camera = tiles.get(location.hash.slice(1))?.camera;
  detail?.close();
  detail = null;
  grid.hidden = Boolean(camera);
  stage.hidden = !camera;
  if (camera) detail = new Detail(stage, connection, camera, () => { location.hash = ""; });
  feed();
}

document.querySelector("#find").addEventListener("input", () => { for (const tile of tiles.values()) tile.node.hidden = !visible(tile.camera); });
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", seenOrNot);
addEventListener("keydown", (event) => { if (event.key === "Escape" && detail) location.hash = ""; });
setInterval(refresh, REFRESH_MS);
setInterval(() => {
  const now = Date.now();
  document.querySelector("#clock").textContent = clockTime(now);
  for (const tile of tiles.values()) tile.tick(now);
}, 500);
refresh().then(route);
