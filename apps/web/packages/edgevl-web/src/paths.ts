import { plain } from "./errors.js";

// eslint-disable-next-line no-control-regex
const FORBIDDEN = /[<>:"|?*\\\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
const DEVICE = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?$/i;

/** Throw unless a path can only name a file inside its folder, on every system. */
export function checkRelative(path: string): void {
  const parts = path.split("/");
  if (!path || Array.from(path).length > 255 || FORBIDDEN.test(path)) throw new Error(`${plain(path)} is not a plain relative path`);
  if (/^[/~]/.test(path) || parts.some((part) => ["", ".", ".."].includes(part))) throw new Error(`${plain(path)} leaves the bundle's folder`);
  if (parts.some((part) => /[. ]$/.test(part) || DEVICE.test(part))) throw new Error(`${plain(path)} names something else on Windows`);
}

/** Throw unless a name can only name something beside the bundle. */
export function checkFolderName(name: string): void {
  if (!name || /[/\\]/.test(name) || name.includes("\0") || name === "." || name === "..") throw new Error(`${plain(name)} is not the name of a model folder`);
}

/** The same for paths that a file system may not tell apart. Close to Unicode's full case folding: upper, then lower. */
export const folded = (path: string): string => path.normalize("NFC").toUpperCase().toLowerCase();
