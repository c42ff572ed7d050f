// Plays footage in a page of a test and reads the number in the pictures (bench/camsim/pattern.py, "Reading") from a canvas.
const GRID = { columns: 16, rows: 4, wide: 20, high: 24, left: 2, top: 1 };
const PATIENCE_MS = 100_000;
const canvas = document.createElement("canvas");

function crc16(bytes) {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}

/** The number in the picture that `video` shows, null if there is none to be trusted. */
function numberOf(video) {
  const [width, height] = [video.videoWidth, video.videoHeight];
  if (!width) return null;
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const cells = Array.from({ length: GRID.rows }, (_, row) => Array.from({ length: GRID.columns }, (__, column) => mean(row, column)));
  function mean(row, column) {
    const [y0, y1] = [1, 3].map((part) => Math.floor((height * (4 * (GRID.top + row) + part)) / (4 * GRID.high)));
    const [x0, x1] = [1, 3].map((part) => Math.floor((width * (4 * (GRID.left + column) + part)) / (4 * GRID.wide)));
    let sum = 0;
    for (let y = y0; y < y1; y += 1) for (let x = x0; x < x1; x += 1) sum += data[4 * (y * width + x) + 1];
    return sum / ((y1 - y0) * (x1 - x0));
  }
  const average = (parity) => cells[0].filter((_, n) => n % 2 === parity).reduce((a, b) => a + b) / 8;
  const threshold = (average(0) + average(1)) / 2;
  const bytes = cells.slice(1).flatMap((row) => [0, 8].map((at) => row.slice(at, at + 8).reduce((byte, cell) => byte * 2 + (cell > threshold), 0)));
  const [a, b, c, d, high, low] = bytes;
  if (average(0) - average(1) < 60 || crc16([a, b, c, d]) !== high * 256 + low) return null;
  return ((a * 256 + b) * 256 + c) * 256 + d;
}

/** Resolves at the event; rejects when the video fails or patience ends. */
function heard(target, name, video) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} at ${video.currentTime}, ready ${video.readyState}`)), PATIENCE_MS);
    target.addEventListener(name, () => { clearTimeout(timer); resolve(); }, { once: true });
    video.addEventListener("error", () => reject(new Error(`${video.error?.code}: ${video.error?.message}`)), { once: true });
  });
}

/** The number that is on screen after a seek to `time`, while paused. */
async function numberAt(video, time) {
  const shown = new Promise((resolve) => { video.requestVideoFrameCallback(resolve); });
  const done = heard(video, "seeked", video);
  video.currentTime = time;
  await done;
  await Promise.race([shown, new Promise((resolve) => { setTimeout(resolve, 3000); })]); // no new picture where the one before stands
  return numberOf(video);
}

/** Plays from where it stands until `end` (media time) is reached: [media time, number] of the pictures that the screen got. */
async function played(video, end) {
  const seen = [];
  const look = (_, picture) => {
    seen.push([picture.mediaTime, numberOf(video)]);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const failed = heard(video, "ended", video);
  await video.play();
  while (!video.ended && video.currentTime < end) await Promise.race([failed, heard(video, "timeupdate", video)]);
  video.pause();
  return seen;
}

function fresh() {
  document.body.replaceChildren();
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  return video;
}

/** By address: a clip, or a playlist where the browser plays them itself. */
async function bySource(address) {
  const video = fresh();
  const ready = heard(video, "loadeddata", video);
  video.src = address;
  await ready;
  return video;
}

/** By Media Source Extensions: what `address` sends is appended as it comes, until its end or `bytes` of it. */
async function byMediaSource(address, codecs, bytes = Infinity) {
  const video = fresh();
  const source = new MediaSource();
  const opened = heard(source, "sourceopen", video);
  video.src = URL.createObjectURL(source);
  await opened;
  const buffer = source.addSourceBuffer(`video/mp4; codecs="${codecs}"`);
  const answer = await fetch(address);
  video.startMs = Date.parse(answer.headers.get("Watchroom-Start"));
  const reader = answer.body.getReader();
  for (let got = 0; got < bytes;) {
    const { value, done } = await reader.read();
    if (done) break;
    got += value.length;
    const updated = heard(buffer, "updateend", video);
    buffer.appendBuffer(value);
    await updated;
  }
  await reader.cancel();
  source.endOfStream();
  return video;
}

/** By hls.js; whatever it complains of is in `video.errors`. That it passes an EXT-X-GAP, or gives up a load to seek, it tells as errors too. */
async function byHlsJs(address) {
  const video = fresh();
  const hls = new Hls();
  video.errors = [];
  hls.on(Hls.Events.ERROR, (_, what) => {
    if (![Hls.ErrorDetails.FRAG_GAP, Hls.ErrorDetails.INTERNAL_ABORTED].includes(what.details)) video.errors.push(`${what.type} ${what.details} ${what.error?.message ?? ""}`);
  });
  const ready = heard(video, "loadeddata", video);
  hls.attachMedia(video);
  hls.loadSource(address);
  await ready;
  video.hls = hls;
  return video;
}

/** Plays what is live for so many seconds: [UTC in s, number] of the pictures that the screen got. */
async function live(video, seconds) {
  const seen = [];
  const look = () => {
    seen.push([Date.now() / 1000, numberOf(video)]);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  await video.play();
  await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
  video.pause();
  return seen;
}
