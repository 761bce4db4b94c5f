import { EdgeVLError } from "./errors.js";

/** Decoded samples, rows first, as a file or a camera holds them. `orientation` is EXIF's, still to be applied. */
export interface Raw {
  width: number;
  height: number;
  /** 1 gray, 3 RGB, 4 RGB and alpha that is not multiplied. */
  channels: 1 | 3 | 4;
  data: Uint8Array | Uint8ClampedArray | Uint16Array;
  orientation?: number;
}

/** An upright picture: RGB of 8 bits, rows first. */
export interface Rgb {
  width: number;
  height: number;
  data: Uint8Array;
}

export const MAX_PIXELS = 89_478_485;
const MAX_SIDE = 1_000_000;

/** Throw `EdgeVLError` for a picture that is too large, before memory is taken. */
export function checkSize(width: number, height: number): void {
  if (!(width >= 1 && height >= 1)) throw new EdgeVLError("picture", "the picture has no pixels");
  if (width * height > MAX_PIXELS || Math.max(width, height) > MAX_SIDE) {
    throw new EdgeVLError("picture", `the picture has ${width} × ${height} pixels, at most ${MAX_PIXELS} are read`);
  }
}

/** Make samples an upright RGB picture: 16 bits to 8, alpha on white, EXIF's orientation. docs/bundle.md, Colors. */
export function upright(raw: Raw): Rgb {
  checkSize(raw.width, raw.height);
  if (raw.data.length !== raw.width * raw.height * raw.channels) throw new EdgeVLError("picture", "the samples do not fit the picture's sides");
  return turned({ width: raw.width, height: raw.height, data: toRgb(raw) }, raw.orientation ?? 1);
}

function toRgb({ data, channels, width, height }: Raw): Uint8Array {
  const deep = data instanceof Uint16Array;
  if (channels === 3 && !deep) return new Uint8Array(data);
  const out = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < out.length; from += channels, to += 3) {
    if (channels === 1) {
      const gray = data[from] as number;
      out[to] = out[to + 1] = out[to + 2] = deep ? Math.floor((gray + 128) / 257) : gray;
      continue;
    }
    const alpha = channels === 4 ? (deep ? (data[from + 3] as number) >> 8 : (data[from + 3] as number)) : 255;
    for (let c = 0; c < 3; c++) {
      const value = deep ? (data[from + c] as number) >> 8 : (data[from + c] as number);
      out[to + c] = alpha === 255 ? value : Math.floor((value * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return out;
}

/** Turn a picture upright by the EXIF orientation 1 to 8; anything else turns nothing. */
export function turned(picture: Rgb, orientation: number): Rgb {
  if (!(orientation >= 2 && orientation <= 8)) return picture;
  const { width: w, height: h, data } = picture;
  const across = orientation > 4;
  const [width, height] = across ? [h, w] : [w, h];
  const mirrorX = [2, 3, 6, 7].includes(orientation);
  const mirrorY = [3, 4, 7, 8].includes(orientation);
  const out = new Uint8Array(data.length);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const u = mirrorX ? width - 1 - x : x;
      const v = mirrorY ? height - 1 - y : y;
      const from = 3 * (across ? u * w + v : v * w + u);
      out[to] = data[from] as number;
      out[to + 1] = data[from + 1] as number;
      out[to + 2] = data[from + 2] as number;
    }
  }
  return { width, height, data: out };
}
