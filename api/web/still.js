// The last picture of a video, kept over it while the video has none: no tile is black between two streams.

const UNSEEN_PX = 480; // of a video that has no place on the page now

export class Still {
  #video;
  #canvas = null;

  constructor(video) {
    this.#video = video;
  }

  /** Keep what the video shows now; if it shows nothing, what was kept before stays. */
  keep() {
    const video = this.#video;
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !video.videoWidth) return;
    this.#canvas ||= this.#made();
    const scale = Math.min(1, ((video.clientWidth || UNSEEN_PX) * devicePixelRatio) / video.videoWidth);
    this.#canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
    this.#canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
    this.#canvas.getContext("2d").drawImage(video, 0, 0, this.#canvas.width, this.#canvas.height);
    this.#canvas.hidden = false;
  }

  /** The video shows a picture of its own again. */
  drop() {
    if (!this.#canvas) return;
    this.#canvas.hidden = true;
    this.#canvas.width = this.#canvas.height = 0; // its memory
  }

  #made() {
    const canvas = document.createElement("canvas");
    canvas.className = "still";
    canvas.setAttribute("aria-hidden", "true");
    this.#video.after(canvas);
    return canvas;
  }
}
