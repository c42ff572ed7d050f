// What the page must know of what it appends (ISO 14496-12 8.8): which pictures a fragment brings, and whether they begin with an access point.

const VIDEO = 1; // the server's first track
const NON_SYNC = 0x10000; // sample_is_non_sync_sample (8.8.3.1)
const FIRST_FLAGS = 0x4; // trun: flags of the first sample alone
const [DURATION, SIZE, FLAGS, OFFSET] = [0x100, 0x200, 0x400, 0x800]; // trun: fields of each sample, in this order
const [DEFAULT_DURATION, DEFAULT_FLAGS] = [0x8, 0x20]; // tfhd

const code = (name) => [...name].reduce((word, letter) => word * 256 + letter.charCodeAt(0), 0);
const [MOOV, TRAK, MDIA, MDHD, MOOF, TRAF, TFHD, TFDT, TRUN] = ["moov", "trak", "mdia", "mdhd", "moof", "traf", "tfhd", "tfdt", "trun"].map(code);
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const bits = (present, ...fields) => fields.filter((bit) => present & bit).length;

/** [first byte, end] of each box of a type in `view` from `at` to `end`. */
function* boxes(view, wanted, at, end) {
  while (at + 8 <= end) {
    const size = view.getUint32(at);
    if (size < 8 || at + size > end) return;
    if (view.getUint32(at + 4) === wanted) yield [at + 8, at + size];
    at += size;
  }
}

function found(view, wanted, at, end) {
  return boxes(view, wanted, at, end).next().value;
}

/** Ticks in a second of the first track of an init segment (8.4.2), 0 where there is none. */
export function timescale(bytes) {
  const view = viewOf(bytes);
  let place = [0, bytes.byteLength];
  for (const name of [MOOV, TRAK, MDIA, MDHD]) {
    place = found(view, name, ...place);
    if (!place) return 0;
  }
  const [at, end] = place;
  const field = at + (view.getUint8(at) ? 20 : 12);
  return field + 4 <= end ? view.getUint32(field) : 0;
}

/** The pictures of a fragment: `{ key, first, newest }`, whether they begin with an access point, and when the first of them and the one that comes
 * last are shown, in ticks. null: there are none, or it is no fragment. */
export function pictures(bytes) {
  const view = viewOf(bytes);
  try {
    for (const moof of boxes(view, MOOF, 0, bytes.byteLength)) {
      for (const traf of boxes(view, TRAF, ...moof)) {
        const tfhd = found(view, TFHD, ...traf);
        if (tfhd && view.getUint32(tfhd[0] + 4) === VIDEO) return ofTrack(view, traf, defaults(view, tfhd[0]));
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a box that is shorter than it says
  }
  return null;
}

/** default_sample_duration and default_sample_flags of a tfhd (8.8.7). */
function defaults(view, at) {
  const present = view.getUint32(at);
  const duration = at + 8 + (present & 1 ? 8 : 0) + bits(present, 0x2) * 4;
  const flags = duration + bits(present, DEFAULT_DURATION, 0x10) * 4;
  return { duration: present & DEFAULT_DURATION ? view.getUint32(duration) : 0, flags: present & DEFAULT_FLAGS ? view.getUint32(flags) : NON_SYNC };
}

function ofTrack(view, traf, otherwise) {
  const [tfdt, trun] = [found(view, TFDT, ...traf), found(view, TRUN, ...traf)];
  if (!tfdt || !trun) return null;
  let decoded = view.getUint8(tfdt[0]) ? Number(view.getBigUint64(tfdt[0] + 4)) : view.getUint32(tfdt[0] + 4);
  const present = view.getUint32(trun[0]);
  const samples = view.getUint32(trun[0] + 4);
  let at = trun[0] + 8 + bits(present, 0x1) * 4;
  const only = present & FIRST_FLAGS ? view.getUint32(at) : null;
  at += bits(present, FIRST_FLAGS) * 4;
  const row = bits(present, DURATION, SIZE, FLAGS, OFFSET) * 4;
  if (!samples || at + samples * row > trun[1]) return null;
  const flags = only ?? (present & FLAGS ? view.getUint32(at + bits(present, DURATION, SIZE) * 4) : otherwise.flags);
  let [first, newest] = [null, -Infinity];
  for (let n = 0; n < samples; n += 1, at += row) {
    const shown = decoded + (present & OFFSET ? view.getInt32(at + row - 4) : 0);
    first ??= shown;
    newest = Math.max(newest, shown);
    decoded += present & DURATION ? view.getUint32(at) : otherwise.duration;
  }
  return { key: !(flags & NON_SYNC), first, newest };
}
