// The page: every camera live in a grid over one WebSocket; one camera opened by a click or by #camera-id.

import { list } from "./api.js";
import { Connection } from "./connection.js";
import { Detail } from "./detail.js";
import { Tile } from "./tile.js";
import { clockTime } from "./times.js";

const REFRESH_MS = 3000;
const grid = document.querySelector("#grid");
const stage = document.querySelector("#detail");
const summary = document.querySelector("#summary");
const tiles = new Map();
let connected = false;
let detail = null;
let nextTile = 1;

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
    tile = new Tile(connection, nextTile++, camera, open);
    tiles.set(camera.id, tile);
    grid.append(tile.node);
    if (!detail) tile.start();
  }
  tile.node.hidden = !visible(camera);
}

function remove(id, tile) {
  tile.stop();
  tile.node.remove();
  tiles.delete(id);
}

function open(camera) {
  location.hash = camera.id;
}

function route() {
  const camera = tiles.get(location.hash.slice(1))?.camera;
  detail?.close();
  const was = detail;
  detail = null;
  grid.hidden = Boolean(camera);
  stage.hidden = !camera;
  if (camera) {
    if (!was) for (const tile of tiles.values()) tile.stop();
    detail = new Detail(stage, connection, camera, () => { location.hash = ""; });
  } else if (was) for (const tile of tiles.values()) tile.start();
}

document.querySelector("#find").addEventListener("input", () => { for (const tile of tiles.values()) tile.node.hidden = !visible(tile.camera); });
addEventListener("hashchange", route);
addEventListener("keydown", (event) => { if (event.key === "Escape" && detail) location.hash = ""; });
setInterval(refresh, REFRESH_MS);
setInterval(() => { document.querySelector("#clock").textContent = clockTime(Date.now()); }, 500);
refresh().then(route);
