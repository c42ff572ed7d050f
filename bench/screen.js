// Watches a <video> in a page of a measurement: when each picture was there, and the number in it (bench/camsim/pattern.js stands before this).
const FIRST_MS = 20_000;
const clockMs = () => performance.timeOrigin + performance.now();

/** Resolves with the milliseconds from `begun` to the video's first picture. */
function firstPicture(video, begun) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no picture within ${FIRST_MS} ms`)), FIRST_MS);
    video.requestVideoFrameCallback(() => resolve(performance.now() - begun));
  });
}

/** [UTC in ms, number] of each picture that the page gets within so many seconds. */
async function watched(video, seconds) {
  const seen = [];
  let going = true;
  const look = () => {
    const at = clockMs();
    seen.push([at, numberOf(video)]);
    if (going) video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
  going = false;
  return seen;
}

function freshVideo() {
  window.ended?.();
  document.body.replaceChildren();
  const video = document.createElement("video");
  video.muted = true;
  video.id = "video";
  document.body.append(video);
  return video;
}

const WAYS = {
  /** The server's own page: a click on the camera's tile. */
  WebSocket: async (camera) => {
    location.hash = "";
    await new Promise((resolve) => { setTimeout(resolve, 1500); });
    const stage = document.querySelector("#detail");
    const opened = new Promise((resolve) => { new MutationObserver(() => resolve(stage.querySelector("video"))).observe(stage, { childList: true }); });
    const begun = performance.now();
    document.querySelector(`[data-camera="${camera}"]`).click();
    const video = await opened;
    return [video, await firstPicture(video, begun)];
  },
  "hls.js": async (camera) => {
    const video = freshVideo();
    const begun = performance.now();
    const hls = new Hls();
    window.ended = () => hls.destroy();
    hls.attachMedia(video);
    hls.loadSource(`/api/v1/cameras/${camera}/hls/live.m3u8?track=main`);
    video.play().catch(() => null);
    return [video, await firstPicture(video, begun)];
  },
  "native HLS": async (camera) => {
    const video = freshVideo();
    const begun = performance.now();
    window.ended = () => { video.removeAttribute("src"); video.load(); };
    video.src = `/api/v1/cameras/${camera}/hls/live.m3u8?track=main`;
    video.play().catch(() => null);
    return [video, await firstPicture(video, begun)];
  },
  WHEP: async (camera) => {
    const video = freshVideo();
    const begun = performance.now();
    const peer = new RTCPeerConnection();
    window.ended = () => peer.close();
    const { receiver } = peer.addTransceiver("video", { direction: "recvonly" });
    receiver.jitterBufferTarget = 0;
    peer.addEventListener("track", ({ track }) => { video.srcObject = new MediaStream([track]); video.play().catch(() => null); });
    await peer.setLocalDescription(await peer.createOffer());
    const answer = await fetch(`/api/v1/cameras/${camera}/whep`, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.localDescription.sdp });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}: ${await answer.text()}`);
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    return [video, await firstPicture(video, begun)];
  },
};

/** So many times from click to first picture, in ms; the last video goes on as `#video` or in the page's stage. */
async function clicks(way, camera, count) {
  const times = [];
  for (let n = 0; n < count; n += 1) {
    const [video, ms] = await WAYS[way](camera);
    times.push(ms);
    window.shownVideo = video;
    await new Promise((resolve) => { setTimeout(resolve, 700 + 190 * n); }); // elsewhere in the picture group each time
  }
  return times;
}
