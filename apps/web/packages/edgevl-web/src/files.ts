import { EdgeVLError, plain, refused } from "./errors.js";
import type { FileEntry } from "./manifest.js";
import { checkRelative } from "./paths.js";

/** Where the files of a bundle are: a folder behind an address, files that were picked or dropped, or anything else. */
export interface FileSource {
  /** Return the bytes of a file. Throws `EdgeVLError` if there is none. */
  read(path: string): Promise<Uint8Array>;
  /** All paths, where the source can tell: then a file that the manifest does not name is found. */
  list?(): string[];
}

/** A bundle behind an address, such as `https://…/nano-litert-w8a8.edgevl/`. */
export class UrlSource implements FileSource {
  private readonly base: string;

  constructor(address: string | URL) {
    const url = new URL(address, typeof location === "undefined" ? undefined : location.href);
    this.base = url.href.replace(/\/*$/, "/");
  }

  async read(path: string): Promise<Uint8Array> {
    const url = this.base + path.split("/").map(encodeURIComponent).join("/");
    let answer: Response;
    try {
      answer = await fetch(url);
    } catch (error) {
      throw new EdgeVLError("network", `${plain(path)} cannot be loaded: no connection`, { cause: error });
    }
    if (!answer.ok) throw new EdgeVLError("network", `${plain(path)} cannot be loaded: the server says ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  }
}

/** Files that a person picked (`<input webkitdirectory>`) or dropped. The folder that holds manifest.json is the bundle. */
export class FilesSource implements FileSource {
  private readonly files = new Map<string, Blob>();

  /** `files`: with a path (`webkitRelativePath`, or what `droppedFiles` gives), or a map from paths. */
  constructor(files: Iterable<File> | ReadonlyMap<string, Blob>) {
    const all = files instanceof Map ? [...(files as ReadonlyMap<string, Blob>)] : Array.from(files as Iterable<File>, (file) => [file.webkitRelativePath || file.name, file] as const);
    const manifests = all.map(([path]) => path).filter((path) => path.split("/").pop() === "manifest.json");
    if (!manifests.length) throw refused("there is no manifest.json: choose the folder of a bundle");
    const shortest = manifests.reduce((a, b) => (b.length < a.length ? b : a));
    const folder = shortest.slice(0, -"manifest.json".length);
    for (const [path, file] of all) if (path.startsWith(folder)) this.files.set(path.slice(folder.length), file);
  }

  async read(path: string): Promise<Uint8Array> {
    const file = this.files.get(path);
    if (!file) throw refused(`${plain(path)} is missing`);
    return new Uint8Array(await file.arrayBuffer());
  }

  list(): string[] {
    return [...this.files.keys()];
  }
}

/** Every file below what was dropped, by its path. */
export async function droppedFiles(items: DataTransferItemList): Promise<Map<string, File>> {
  const found = new Map<string, File>();
  const entries = Array.from(items, (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  for (const entry of entries) await collect(entry, found);
  return found;
}

async function collect(entry: FileSystemEntry, found: Map<string, File>): Promise<void> {
  if (found.size > 10_000) throw refused("these are too many files for a bundle");
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.set(entry.fullPath.replace(/^\//, ""), file);
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return;
    for (const each of part) await collect(each, found);
  }
}

export async function sha256(data: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data as BufferSource));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const CACHE = "edgevl-files";

/** Reads files whose digests fit, and keeps them in the browser's cache by digest: an old file is never taken for a new one. */
export class CheckedFiles {
  constructor(
    private readonly source: FileSource,
    private readonly listed: { [path: string]: FileEntry },
    private readonly keep: boolean,
  ) {}

  async read(path: string): Promise<Uint8Array> {
    checkRelative(path);
    const entry = this.listed[path];
    if (!entry) throw refused(`${plain(path)} is not among the files of the manifest`);
    const cached = await this.cached(entry);
    if (cached) return cached;
    const data = await this.source.read(path);
    if (data.length !== entry.bytes || (await sha256(data)) !== entry.sha256) {
      throw refused(`${plain(path)} has changed or is damaged: its digest is not the one in the manifest. Copy the bundle again`);
    }
    await this.store(entry, data);
    return data;
  }

  private async cached({ sha256: digest, bytes }: FileEntry): Promise<Uint8Array | null> {
    if (!this.keep || typeof caches === "undefined") return null;
    try {
      const found = await (await caches.open(CACHE)).match(`/edgevl/${digest}`);
      const data = found && new Uint8Array(await found.arrayBuffer());
      return data?.length === bytes && (await sha256(data)) === digest ? data : null;
    } catch {
      return null; // a browser that keeps nothing, as in private windows
    }
  }

  private async store({ sha256: digest }: FileEntry, data: Uint8Array): Promise<void> {
    if (!this.keep || typeof caches === "undefined") return;
    try {
      await (await caches.open(CACHE)).put(`/edgevl/${digest}`, new Response(data as BodyInit));
    } catch {
      // no room, or not allowed: the next visit loads it again
    }
  }
}
