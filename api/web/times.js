// Times: the server speaks RFC 3339 in UTC; the page shows the viewer's local time. Milliseconds since the epoch inside.

export const iso = (ms) => new Date(ms).toISOString();

export const parse = (text) => Date.parse(text);

/** Local wall time, e.g. "14:02:07", with the date when it is not today. */
export function clockTime(ms, withDate = false) {
  const d = new Date(ms);
  const time = d.toLocaleTimeString(undefined, { hour12: false });
  const today = new Date().toDateString() === d.toDateString();
  return withDate || !today ? `${d.toLocaleDateString()} ${time}` : time;
}

/** "3 s", "4 min", "2 h 10 min" */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  const m = Math.round(s / 60);
  return m < 90 ? `${m} min` : `${Math.floor(m / 60)} h ${m % 60} min`;
}
