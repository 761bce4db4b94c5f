import { EdgeVLError } from "./errors.js";
import type { ImageProcessing } from "./manifest.js";
import { MAX_PIXELS, type Rgb } from "./raster.js";

interface Kernel { reach: number; weight: (x: number) => number }

const KERNELS: { [name in ImageProcessing["kernel"]]: Kernel } = {
  triangle: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  cubic: { reach: 2, weight: cubic },
};
const BITS = 22;
const GRAY = 114; // of the letterbox
const LONGEST = 200; // times the short side

function cubic(x: number): number {
  const a = Math.abs(x);
  if (a < 1) return (1.5 * a - 2.5) * a * a + 1;
  return a < 2 ? (((a - 5) * a + 8) * a - 4) * -0.5 : 0;
}

/** Return uint8 [S, S, 3] of an upright picture, as an image processing declares: docs/bundle.md, Geometry. */
export function toTensor(picture: Rgb, processing: ImageProcessing): Uint8Array {
  const { size, geometry, kernel } = processing;
  const [w, h] = sides(picture, processing);
  if (geometry === "squash") return resized(picture, w, h, kernel).data;
  return (geometry === "shortest-edge" ? cropped : boxed)(resized(picture, w, h, kernel), size);
}

/** The sides that a picture is resized to, before it is cut or boxed. */
function sides({ width, height }: { width: number; height: number }, { size, geometry, shortest_edge }: ImageProcessing): [number, number] {
  if (geometry === "squash") return [size, size];
  const long = Math.max(width, height);
  const short = Math.min(width, height);
  if (geometry === "shortest-edge") {
    if (long > LONGEST * short) throw new EdgeVLError("picture", `the picture is more than ${LONGEST} times as long as it is wide`);
    const edge = shortest_edge ?? size;
    const other = Math.floor((edge * long) / short);
    return width <= height ? [edge, other] : [other, edge];
  }
  const side = (n: number) => Math.max(1, Math.floor((2 * size * n + long) / (2 * long)));
  return [side(width), side(height)];
}

/**
 * A box of an answer, left, top, right, bottom as shares of the square that the model sees, as shares of the upright
 * picture: they differ where the square is a part of the picture, or has bars.
 */
export function boxOnPicture(box: readonly number[], picture: { width: number; height: number }, processing: ImageProcessing): number[] {
  const { size } = processing;
  return box.map((share, n) => {
    const side = sides(picture, processing)[n % 2] as number;
    return Math.min(1, Math.max(0, (share * size + Math.floor((side - size) / 2)) / side));
  });
}

function cropped(picture: Rgb, size: number): Uint8Array {
  const left = Math.floor((picture.width - size) / 2);
  const top = Math.floor((picture.height - size) / 2);
  const out = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    const from = ((top + y) * picture.width + left) * 3;
    out.set(picture.data.subarray(from, from + size * 3), y * size * 3);
  }
  return out;
}

function boxed(picture: Rgb, size: number): Uint8Array {
  const left = Math.floor((size - picture.width) / 2);
  const top = Math.floor((size - picture.height) / 2);
  const out = new Uint8Array(size * size * 3).fill(GRAY);
  for (let y = 0; y < picture.height; y++) {
    const row = picture.data.subarray(y * picture.width * 3, (y + 1) * picture.width * 3);
    out.set(row, ((top + y) * size + left) * 3);
  }
  return out;
}

function resized(picture: Rgb, width: number, height: number, kernel: ImageProcessing["kernel"]): Rgb {
  if (width * Math.max(picture.height, height) > MAX_PIXELS) throw new EdgeVLError("picture", "the picture is too high or too wide to be resized");
  return vertical(horizontal(picture, width, KERNELS[kernel]), height, KERNELS[kernel]);
}

/** For each sample of a line of `m` the first of `n` that it is made of, and their integer weights. */
function weights(n: number, m: number, { reach, weight }: Kernel): { first: number; k: Int32Array }[] {
  const scale = n / m;
  const widened = Math.max(scale, 1);
  const support = reach * widened;
  return Array.from({ length: m }, (_, out) => {
    const center = (out + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const last = Math.min(Math.trunc(center + support + 0.5), n);
    const w = Array.from({ length: last - first }, (_each, i) => weight((first + i - center + 0.5) * (1 / widened)));
    const total = w.reduce((sum, each) => sum + each, 0);
    const k = w.map((each) => {
      const share = each / total;
      return Math.trunc(share * 2 ** BITS + (share < 0 ? -0.5 : 0.5));
    });
    return { first, k: Int32Array.from(k) };
  });
}

const HALF = 2 ** (BITS - 1);
const clipped = (sum: number): number => Math.min(Math.max(sum >> BITS, 0), 255);

function horizontal(picture: Rgb, width: number, kernel: Kernel): Rgb {
  const { width: w, height, data } = picture;
  if (w === width) return picture;
  const out = new Uint8Array(width * height * 3);
  const columns = weights(w, width, kernel);
  for (let y = 0, to = 0; y < height; y++) {
    for (const { first, k } of columns) {
      let r = HALF;
      let g = HALF;
      let b = HALF;
      for (let i = 0, from = (y * w + first) * 3; i < k.length; i++, from += 3) {
        const each = k[i] as number;
        r += each * (data[from] as number);
        g += each * (data[from + 1] as number);
        b += each * (data[from + 2] as number);
      }
      out[to++] = clipped(r);
      out[to++] = clipped(g);
      out[to++] = clipped(b);
    }
  }
  return { width, height, data: out };
}

function vertical(picture: Rgb, height: number, kernel: Kernel): Rgb {
  const { width, height: h, data } = picture;
  if (h === height) return picture;
  const row = width * 3;
  const out = new Uint8Array(height * row);
  weights(h, height, kernel).forEach(({ first, k }, y) => {
    for (let x = 0; x < row; x++) {
      let sum = HALF;
      for (let i = 0, from = first * row + x; i < k.length; i++, from += row) sum += (k[i] as number) * (data[from] as number);
      out[y * row + x] = clipped(sum);
    }
  });
  return { width, height, data: out };
}
