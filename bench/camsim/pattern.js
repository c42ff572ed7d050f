// Reads the number in a simulated picture (bench/camsim/pattern.py, "Reading") from what a <video> shows: a classic script, for pages of tests and benchmarks.
const PATTERN = { columns: 16, rows: 4, wide: 20, high: 24, left: 2, top: 1, contrast: 60 };
const CELL = 8; // pixels of a cell on the canvas, whatever the picture's size: drawing and reading take no part in what is measured
const canvas = new OffscreenCanvas(PATTERN.columns * CELL, PATTERN.rows * CELL);
const context = canvas.getContext("2d", { willReadFrequently: true });

function crc16(bytes) {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}

/** Mean of the middle half of a cell. */
function mean(data, row, column) {
  let sum = 0;
  for (let y = row * CELL + CELL / 4; y < row * CELL + (3 * CELL) / 4; y += 1) {
    for (let x = column * CELL + CELL / 4; x < column * CELL + (3 * CELL) / 4; x += 1) sum += data[4 * (y * canvas.width + x) + 1];
  }
  return sum / (CELL / 2) ** 2;
}

/** The number in the picture that `video` shows, null if there is none to be trusted. */
function numberOf(video) {
  const [width, height] = [video.videoWidth, video.videoHeight];
  if (!width) return null;
  const { columns, rows, wide, high, left, top, contrast } = PATTERN;
  const band = [(width * left) / wide, (height * top) / high, (width * columns) / wide, (height * rows) / high];
  context.drawImage(video, ...band, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const cells = Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (__, column) => mean(data, row, column)));
  const average = (parity) => cells[0].filter((_, n) => n % 2 === parity).reduce((a, b) => a + b) / 8;
  const threshold = (average(0) + average(1)) / 2;
  const bytes = cells.slice(1).flatMap((row) => [0, 8].map((at) => row.slice(at, at + 8).reduce((byte, cell) => byte * 2 + (cell > threshold), 0)));
  const [a, b, c, d, upper, lower] = bytes;
  if (average(0) - average(1) < contrast || crc16([a, b, c, d]) !== upper * 256 + lower) return null;
  return ((a * 256 + b) * 256 + c) * 256 + d;
}
