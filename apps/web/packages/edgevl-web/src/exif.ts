/** Return the EXIF orientation of a block of EXIF, 1 to 8; 1 where it cannot be read. */
export function orientationOf(block: Uint8Array): number {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  try {
    const order = view.getUint16(0);
    if (order !== 0x4949 && order !== 0x4d4d) return 1;
    const little = order === 0x4949;
    if (view.getUint16(2, little) !== 42) return 1;
    const place = view.getUint32(4, little);
    const count = view.getUint16(place, little);
    for (let n = 0; n < count; n++) {
      const entry = place + 2 + 12 * n;
      if (view.getUint16(entry, little) !== 274) continue;
      const value = number(view, entry, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

/** The value of a BYTE, SHORT or LONG; 0 of anything else. */
function number(view: DataView, entry: number, little: boolean): number {
  if (view.getUint32(entry + 4, little) !== 1) return 0;
  const type = view.getUint16(entry + 2, little);
  if (type === 3) return view.getUint16(entry + 8, little);
  return type === 1 ? view.getUint8(entry + 8) : type === 4 ? view.getUint32(entry + 8, little) : 0;
}

const starts = (data: Uint8Array, at: number, text: string): boolean => Array.from(text).every((c, i) => data[at + i] === c.charCodeAt(0));

/** The EXIF orientation of a JPEG: of its first APP1 segment that begins with `Exif`. */
export function orientationOfJpeg(data: Uint8Array): number {
  for (let at = 2; at + 4 <= data.length; ) {
    if (data[at] !== 0xff) return 1;
    const marker = data[at + 1] as number;
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return 1;
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += 2;
      continue;
    }
    const size = ((data[at + 2] as number) << 8) | (data[at + 3] as number);
    if (marker === 0xe1 && starts(data, at + 4, "Exif\0\0")) return orientationOf(data.subarray(at + 10, at + 2 + size));
    at += 2 + size;
  }
  return 1;
}

/** The EXIF orientation of a WebP: of its chunk EXIF. */
export function orientationOfWebp(data: Uint8Array): number {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 12; at + 8 <= data.length; ) {
    const size = view.getUint32(at + 4, true);
    if (starts(data, at, "EXIF")) {
      const begin = starts(data, at + 8, "Exif\0\0") ? 14 : 8;
      return orientationOf(data.subarray(at + begin, at + 8 + size));
    }
    at += 8 + size + (size % 2);
  }
  return 1;
}
