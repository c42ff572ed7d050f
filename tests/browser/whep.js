// Watches a camera by WHEP in a page of a test; needs bench/camsim/pattern.js and tests/media/player.js before it.

/** A <video> that shows the camera, with the connection (`pc`), where the session is, and ms from the call to the first picture. `port`: of a
 * way to the server, instead of the one that it tells. */
async function byWhep(camera, sound = true, port = null) {
  const begun = performance.now();
  const pc = new RTCPeerConnection();
  pc.addTransceiver("video", { direction: "recvonly" });
  if (sound) pc.addTransceiver("audio", { direction: "recvonly" });
  const video = fresh();
  const stream = new MediaStream();
  pc.ontrack = ({ track }) => { stream.addTrack(track); video.srcObject = stream; };
  const shown = new Promise((resolve) => { video.requestVideoFrameCallback(resolve); });
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(`/api/v1/cameras/${camera}/whep`, {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp,
  });
  const text = await answer.text();
  if (answer.status !== 201) throw new Error(`${answer.status}: ${text}`);
  const sdp = port ? text.replace(/^(a=candidate:\S+ 1 udp \d+ \S+) \d+/gm, `$1 ${port}`) : text;
  await pc.setRemoteDescription({ type: "answer", sdp });
  await video.play();
  await shown;
  return Object.assign(video, { pc, session: answer.headers.get("Location"), firstMs: performance.now() - begun });
}

/** What the browser counts of a kind of media that it receives. */
async function inbound(pc, kind) {
  let found = null;
  (await pc.getStats()).forEach((one) => { if (one.type === "inbound-rtp" && one.kind === kind) found = one; });
  return found;
}
