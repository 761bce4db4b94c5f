import { EdgeVLError } from "./errors.js";
import { orientationOf } from "./exif.js";
import { checkSize, type Raw } from "./raster.js";

const CHANNELS: { [color: number]: number } = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS: { [color: number]: number[] } = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]] as const;

const damaged = (why: string): EdgeVLError => new EdgeVLError("picture", `the picture is damaged: ${why}`);

export const isPng = (data: Uint8Array): boolean => [137, 80, 78, 71, 13, 10, 26, 10].every((byte, n) => data[n] === byte);

interface Header {
  width: number;
  height: number;
  depth: number;
  color: number;
  interlaced: boolean;
}

interface Chunks {
  header: Header;
  palette: Uint8Array | null;
  transparent: Uint8Array | null;
  pixels: Uint8Array[];
  exif: Uint8Array | null;
}

/**
 * Decode a PNG of any color type and depth, as docs/bundle.md says. Browsers would convert colors, drop the low bits of
 * 16 and multiply colors by alpha, so this one does not ask them. Throws `EdgeVLError`.
 */
export async function decodePng(data: Uint8Array): Promise<Raw> {
  const chunks = read(data);
  const { header } = chunks;
  checkSize(header.width, header.height);
  const samples = unpacked(await inflated(chunks.pixels, expectedBytes(header)), header);
  const raw = converted(samples, chunks);
  return { ...raw, width: header.width, height: header.height, orientation: chunks.exif ? orientationOf(chunks.exif) : 1 };
}

// ---- chunks
function read(data: Uint8Array): Chunks {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const found: Partial<Chunks> & { pixels: Uint8Array[] } = { pixels: [] };
  let done = false;
  for (let at = 8; at + 8 <= data.length; ) {
    const size = view.getUint32(at);
    const kind = String.fromCharCode(...data.subarray(at + 4, at + 8));
    if (at + 12 + size > data.length) {
      if (["IHDR", "PLTE", "tRNS", "IDAT"].includes(kind)) throw damaged(`${kind} is cut`);
      break;
    }
    const content = data.subarray(at + 8, at + 8 + size);
    if (["IHDR", "PLTE", "tRNS", "IDAT"].includes(kind) && view.getUint32(at + 8 + size) !== crc(data.subarray(at + 4, at + 8 + size))) {
      throw damaged(`the checksum of ${kind} is wrong`);
    }
    if (kind === "IDAT" && !done) found.pixels.push(content);
    else if (found.pixels.length) done = true;
    if (kind === "IHDR") found.header ??= header(content);
    if (kind === "PLTE" && !found.pixels.length) found.palette = content;
    if (kind === "tRNS" && !found.pixels.length) found.transparent = content;
    if (kind === "eXIf") found.exif ??= content;
    if (kind === "IEND") break;
    at += 12 + size;
  }
  if (!found.header || !found.pixels.length) throw damaged("it holds no pixels");
  return { palette: null, transparent: null, exif: null, ...found, header: found.header };
}

function header(content: Uint8Array): Header {
  if (content.length !== 13) throw damaged("its header is cut");
  const view = new DataView(content.buffer, content.byteOffset, 13);
  const [depth, color, compression, filter, interlace] = [8, 9, 10, 11, 12].map((at) => view.getUint8(at)) as [number, number, number, number, number];
  if (!DEPTHS[color]?.includes(depth) || compression || filter || interlace > 1) throw damaged("its header says what no PNG is");
  return { width: view.getUint32(0), height: view.getUint32(4), depth, color, interlaced: interlace === 1 };
}

let table: Uint32Array | undefined;

function crc(data: Uint8Array): number {
  table ??= Uint32Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  let sum = 0xffffffff;
  for (const byte of data) sum = (table[(sum ^ byte) & 255] as number) ^ (sum >>> 8);
  return ~sum >>> 0;
}

// ---- pixels
interface Pass {
  width: number;
  height: number;
  row: number;
  place: readonly [number, number, number, number];
}

function passes(header: Header): Pass[] {
  const bits = header.depth * (CHANNELS[header.color] as number);
  const places = header.interlaced ? ADAM7 : ([[0, 0, 1, 1]] as const);
  return places.map((place) => {
    const [x, y, dx, dy] = place;
    const width = Math.max(0, Math.ceil((header.width - x) / dx));
    const height = Math.max(0, Math.ceil((header.height - y) / dy));
    return { width, height, row: Math.ceil((width * bits) / 8), place };
  }).filter((pass) => pass.width && pass.height);
}

const expectedBytes = (header: Header): number => passes(header).reduce((sum, pass) => sum + pass.height * (pass.row + 1), 0);

async function inflated(pieces: Uint8Array[], wanted: number): Promise<Uint8Array> {
  const out = new Uint8Array(wanted);
  const stream = new Blob(pieces as BlobPart[]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  let filled = 0;
  try {
    while (filled < wanted) {
      const { done, value } = await reader.read();
      if (done) break;
      const part = value.subarray(0, wanted - filled);
      out.set(part, filled);
      filled += part.length;
    }
  } catch {
    if (filled < wanted) throw damaged("its pixels cannot be unpacked");
  } finally {
    reader.cancel().catch(() => undefined);
  }
  if (filled < wanted) throw damaged("it holds too few pixels");
  return out;
}

/** Undo filters and interlacing: samples of the file's own depth, [H, W, C], in 16 bits if it has so many. */
function unpacked(data: Uint8Array, header: Header): Unpacked {
  const channels = CHANNELS[header.color] as number;
  const distance = Math.max((header.depth * channels) >> 3, 1);
  const count = header.width * header.height * channels;
  const out = header.depth === 16 ? new Uint16Array(count) : new Uint8Array(count);
  const rowsAsTheyAre = header.depth === 8 && !header.interlaced;
  let at = 0;
  for (const pass of passes(header)) {
    let above = new Uint8Array(pass.row);
    const [x0, y0, dx, dy] = pass.place;
    for (let y = 0; y < pass.height; y++) {
      const line = data.subarray(at + 1, at + 1 + pass.row);
      unfilter(line, above, data[at] as number, distance);
      const to = ((y0 + y * dy) * header.width + x0) * channels;
      if (rowsAsTheyAre) out.set(line, to);
      else for (let n = 0; n < pass.width * channels; n++) {
        const pixel = Math.floor(n / channels);
        out[to + pixel * dx * channels + (n % channels)] = sample(line, n, header.depth);
      }
      above = line as Uint8Array<ArrayBuffer>;
      at += pass.row + 1;
    }
  }
  return out;
}

function sample(line: Uint8Array, n: number, depth: number): number {
  if (depth === 8) return line[n] as number;
  if (depth === 16) return ((line[2 * n] as number) << 8) | (line[2 * n + 1] as number);
  const bit = n * depth;
  return ((line[bit >> 3] as number) >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
}

function unfilter(line: Uint8Array, above: Uint8Array, kind: number, distance: number): void {
  if (kind > 4) throw damaged("a row has a filter that is not known");
  const start = Math.min(distance, line.length); // nothing lies to the left of what comes before
  const at = (values: Uint8Array, x: number) => values[x] as number;
  if (kind === 1) for (let x = start; x < line.length; x++) line[x] = at(line, x) + at(line, x - distance);
  if (kind === 2) for (let x = 0; x < line.length; x++) line[x] = at(line, x) + at(above, x);
  if (kind === 3) {
    for (let x = 0; x < start; x++) line[x] = at(line, x) + (at(above, x) >> 1);
    for (let x = start; x < line.length; x++) line[x] = at(line, x) + ((at(line, x - distance) + at(above, x)) >> 1);
  }
  if (kind === 4) {
    for (let x = 0; x < start; x++) line[x] = at(line, x) + at(above, x);
    for (let x = start; x < line.length; x++) line[x] = at(line, x) + paeth(at(line, x - distance), at(above, x), at(above, x - distance));
  }
}

function paeth(left: number, up: number, corner: number): number {
  const estimate = left + up - corner;
  const a = Math.abs(estimate - left);
  const b = Math.abs(estimate - up);
  const c = Math.abs(estimate - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

// ---- colors
type Samples = Pick<Raw, "channels" | "data">;
type Unpacked = Uint8Array | Uint16Array;

function converted(samples: Unpacked, { header, palette, transparent }: Chunks): Samples {
  const { color, depth } = header;
  if (color === 3) return lookedUp(samples, palette, transparent);
  const key = transparent && color !== 4 && color !== 6 ? keyOf(transparent, color, depth) : null;
  if (color === 0) return key ? withKey(samples, 1, key, depth) : gray(samples, depth);
  if (color === 4) return grayWithAlpha(samples, depth);
  if (color === 2 && key) return withKey(samples, 3, key, depth);
  return { channels: color === 6 ? 4 : 3, data: samples };
}

/** Spread a gray of n bits to 8; the integer nearest to v · 255 / (2^n − 1). */
function spread(v: number, depth: number): number {
  const most = 2 ** depth - 1;
  return depth === 16 ? Math.floor((v + 128) / 257) : Math.floor((2 * v * 255 + most) / (2 * most));
}

const gray = (samples: Unpacked, depth: number): Samples =>
  ({ channels: 1, data: depth >= 8 ? samples : Uint8Array.from(samples, (v) => spread(v, depth)) });

function keyOf(content: Uint8Array, color: number, depth: number): number[] | null {
  const count = color === 0 ? 1 : 3;
  if (content.length < 2 * count) return null;
  const mask = 2 ** depth - 1;
  return Array.from({ length: count }, (_, n) => (((content[2 * n] as number) << 8) | (content[2 * n + 1] as number)) & mask);
}

/** RGBA of 8 bits, with alpha 0 where samples are the transparent gray or color. */
function withKey(samples: Unpacked, channels: 1 | 3, key: number[], depth: number): Samples {
  const out = new Uint8Array((samples.length / channels) * 4);
  for (let from = 0, to = 0; from < samples.length; from += channels, to += 4) {
    let same = true;
    for (let c = 0; c < 3; c++) {
      const value = samples[from + (channels === 1 ? 0 : c)] as number;
      same &&= value === key[channels === 1 ? 0 : c];
      out[to + c] = channels === 1 ? spread(value, depth) : depth === 16 ? value >> 8 : value;
    }
    out[to + 3] = same ? 0 : 255;
  }
  return { channels: 4, data: out };
}

function grayWithAlpha(samples: Unpacked, depth: number): Samples {
  const eight = (v: number) => (depth === 16 ? v >> 8 : v);
  const out = new Uint8Array(samples.length * 2);
  for (let from = 0, to = 0; from < samples.length; from += 2, to += 4) {
    out[to] = out[to + 1] = out[to + 2] = eight(samples[from] as number);
    out[to + 3] = eight(samples[from + 1] as number);
  }
  return { channels: 4, data: out };
}

function lookedUp(samples: Unpacked, palette: Uint8Array | null, transparent: Uint8Array | null): Samples {
  if (!palette) throw damaged("its palette is missing");
  const channels = transparent ? 4 : 3;
  const out = new Uint8Array(samples.length * channels);
  samples.forEach((index, n) => {
    for (let c = 0; c < 3; c++) out[n * channels + c] = palette[3 * index + c] ?? 0;
    if (transparent) out[n * channels + 3] = transparent[index] ?? 255;
  });
  return { channels, data: out };
}
