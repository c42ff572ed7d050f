// What the page must know of a fragment (ISO 14496-12 8.8): whether pictures can be decoded from it on.

const VIDEO = 1; // the server's first track
const NON_SYNC = 0x10000; // sample_is_non_sync_sample (8.8.3.1)

/** [type, first byte, end] of each box in `view` from `at` to `end`. */
function* boxes(view, at, end) {
  while (at + 8 <= end) {
    const size = view.getUint32(at);
    if (size < 8 || at + size > end) return;
    yield [view.getUint32(at + 4), at + 8, at + size];
    at += size;
  }
}

const [MOOF, TRAF, TFHD, TRUN] = ["moof", "traf", "tfhd", "trun"].map((name) => [...name].reduce((word, letter) => word * 256 + letter.charCodeAt(0), 0));

/** True if the fragment's first picture is an access point; false for any other, for sound, and for what is no fragment. */
export function beginsWithKey(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [type, at, end] of boxes(view, 0, bytes.byteLength)) {
    if (type !== MOOF) continue;
    for (const [inner, first, last] of boxes(view, at, end)) if (inner === TRAF && keyTrack(view, first, last)) return true;
  }
  return false;
}

function keyTrack(view, at, end) {
  let video = false;
  let flags = NON_SYNC;
  for (const [type, first] of boxes(view, at, end)) {
    if (type === TFHD) {
      video = view.getUint32(first + 4) === VIDEO;
      flags = defaultFlags(view, first, flags);
    } else if (type === TRUN) return video && !(firstFlags(view, first, flags) & NON_SYNC);
  }
  return false;
}

/** default_sample_flags of a tfhd (8.8.7), or `otherwise`. */
function defaultFlags(view, at, otherwise) {
  const present = view.getUint32(at);
  if (!(present & 0x20)) return otherwise;
  return view.getUint32(at + 8 + (present & 1 ? 8 : 0) + [0x2, 0x8, 0x10].filter((bit) => present & bit).length * 4);
}

/** Flags of the first sample of a trun (8.8.8). */
function firstFlags(view, at, otherwise) {
  const present = view.getUint32(at);
  const rows = at + 8 + (present & 0x1 ? 4 : 0);
  if (present & 0x4) return view.getUint32(rows);
  if (present & 0x400) return view.getUint32(rows + [0x100, 0x200].filter((bit) => present & bit).length * 4);
  return otherwise;
}
