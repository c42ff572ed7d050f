// Calls to the server's JSON surface; a 401 asks for a token once and tries again.

const ROOT = "/api/v1";

/** A problem document (RFC 9457) as an error. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

async function request(path, options = {}) {
  const answer = await fetch(ROOT + path, { credentials: "same-origin", ...options });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  throw new Problem(answer.status, await answer.json().catch(() => ({})));
}

export async function get(path) {
  try {
    return await request(path);
  } catch (error) {
    if (error.status !== 401) throw error;
    await login();
    return request(path);
  }
}

/** Every item of a list that pages by cursor. */
export async function list(path) {
  const items = [];
  let cursor = "";
  do {
    const mark = path.includes("?") ? "&" : "?";
    const page = await get(cursor ? `${path}${mark}cursor=${encodeURIComponent(cursor)}` : path);
    items.push(...page.items);
    cursor = page.next || "";
  } while (cursor);
  return items;
}

let asking = null;

/** Ask for a token until the server takes one; it is kept in a cookie only the server can read. */
export function login() {
  asking ||= ask().finally(() => { asking = null; });
  return asking;
}

async function ask() {
  const dialog = document.querySelector("#login");
  const field = document.querySelector("#token");
  const complaint = document.querySelector("#login-error");
  for (;;) {
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
    const token = field.value.trim();
    field.value = "";
    try {
      await request("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
      return;
    } catch (error) {
      complaint.textContent = error.message;
    }
  }
}

export const socketUrl = () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${ROOT}/live`;

export const clipUrl = (camera, startMs, endMs) =>
  `${ROOT}/cameras/${camera}/clip.mp4?start=${encodeURIComponent(new Date(startMs).toISOString())}&end=${encodeURIComponent(new Date(endMs).toISOString())}`;
