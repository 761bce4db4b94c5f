import { EdgeVLError } from "./errors.js";
import { orientationOfJpeg, orientationOfWebp } from "./exif.js";
import { decodePng, isPng } from "./png.js";
import { checkSize, type Raw, type Rgb, upright } from "./raster.js";

/** What a picture may be given as: a file, its bytes, samples, or what a canvas or a video frame gives. */
export type PictureSource = Blob | Uint8Array | Raw | ImageData;

const MAX_BYTES = 256 * 2 ** 20;

/** Decode whatever was given to an upright RGB picture. Throws `EdgeVLError`. */
export async function decodePicture(source: PictureSource): Promise<Rgb> {
  if (isImageData(source)) return upright({ width: source.width, height: source.height, channels: 4, data: source.data });
  if (!(source instanceof Uint8Array) && !(source instanceof Blob)) return upright(source);
  const size = source instanceof Blob ? source.size : source.length;
  if (size > MAX_BYTES) throw new EdgeVLError("picture", "the picture's file has more than 256 MiB");
  const data = source instanceof Uint8Array ? source : new Uint8Array(await source.arrayBuffer());
  return upright(isPng(data) ? await decodePng(data) : await decodeByPlatform(data));
}

const isImageData = (source: PictureSource): source is ImageData => typeof ImageData !== "undefined" && source instanceof ImageData;

interface Format {
  type: string;
  orientation: (data: Uint8Array) => number;
}

const FORMATS: [RegExp, Format][] = [
  [/^\xff\xd8\xff/, { type: "image/jpeg", orientation: orientationOfJpeg }],
  [/^RIFF[^]{4}WEBP/, { type: "image/webp", orientation: orientationOfWebp }],
  [/^GIF8[79]a/, { type: "image/gif", orientation: () => 1 }],
  [/^BM/, { type: "image/bmp", orientation: () => 1 }],
];

async function decodeByPlatform(data: Uint8Array): Promise<Raw> {
  const begin = String.fromCharCode(...data.subarray(0, 16));
  const format = FORMATS.find(([pattern]) => pattern.test(begin))?.[1];
  if (!format) throw new EdgeVLError("picture", "the picture is no PNG, JPEG, WebP, GIF or BMP");
  try {
    return typeof ImageDecoder === "undefined" ? await byBitmap(data, format) : await byDecoder(data, format);
  } catch (error) {
    throw error instanceof EdgeVLError ? error : new EdgeVLError("picture", "the picture cannot be decoded: it is damaged", { cause: error });
  }
}

/** WebCodecs: neither turns the picture nor, told so, converts its colors; alpha is not multiplied. */
async function byDecoder(data: Uint8Array, { type, orientation }: Format): Promise<Raw> {
  const decoder = new ImageDecoder({ data: data as BufferSource, type, colorSpaceConversion: "none" });
  try {
    const { image } = await decoder.decode();
    const { codedWidth: width, codedHeight: height } = image;
    checkSize(width, height);
    const out = new Uint8Array(width * height * 4);
    await image.copyTo(out, { format: "RGBA", layout: [{ offset: 0, stride: 4 * width }] });
    image.close();
    return { width, height, channels: 4, data: out, orientation: orientation(data) };
  } finally {
    decoder.close();
  }
}

/** Without WebCodecs: the browser turns the picture by its EXIF; a translucent color may be off by a few levels. */
async function byBitmap(data: Uint8Array, { type }: Format): Promise<Raw> {
  const bitmap = await createImageBitmap(new Blob([data as BlobPart], { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  checkSize(width, height);
  const context = new OffscreenCanvas(width, height).getContext("2d");
  if (!context) throw new EdgeVLError("picture", "this browser draws no picture of this size");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}
