// Where live playback sits behind the newest picture: as near as the pictures come evenly, back at once when it has fallen behind.

const LEAST_S = 0.03;
const FIRST_S = 0.06;
const MOST_S = 1;
const NEAR_S = 0.03; // this much off the target is left alone
const BEHIND_S = 0.5; // this much behind it: jump
const CALM_MS = 10_000; // so long without a late picture: closer again
const ONCE_MS = 1000; // pictures that are late together count once
const FASTER = 1.05;
const SLOWER = 0.95;

export class LiveEdge {
  #target = FIRST_S;
  #changedMs = -ONCE_MS;

  /** Seconds between what is shown and the newest picture, as aimed at now. */
  get target() {
    return this.#target;
  }

  /** A picture came after its time, or there was nothing to show: farther behind from now on. */
  waited(nowMs) {
    if (nowMs - this.#changedMs < ONCE_MS) return;
    this.#target = Math.min(MOST_S, this.#target * 1.4);
    this.#changedMs = nowMs;
  }

  /** What to do when a picture has come that is to be shown in `lag` seconds: `{ jump: true }`, or the rate to play at. */
  steer(lag, nowMs) {
    if (lag < 0) this.waited(nowMs);
    if (nowMs - this.#changedMs > CALM_MS) {
      this.#target = Math.max(LEAST_S, this.#target * 0.9);
      this.#changedMs = nowMs;
    }
    if (lag > this.#target + BEHIND_S) return { jump: true };
    if (lag > this.#target + NEAR_S) return { rate: FASTER };
    return { rate: lag < this.#target - NEAR_S ? SLOWER : 1 };
  }
}
