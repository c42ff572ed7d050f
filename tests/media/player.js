// Plays footage in a page of a test; bench/camsim/pattern.js, which stands before it, reads the number in the pictures.
const PATIENCE_MS = 100_000;

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
