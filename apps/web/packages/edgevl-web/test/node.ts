// The suite on this disk, for tests in Node.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { EdgeVLError } from "../src/errors.js";
import type { FileSource } from "../src/files.js";
import type { Suite } from "./replay.js";
// @ts-expect-error a script without types
import { suiteFolder } from "../../../test/suite.mjs";

export const folder = (suiteFolder as () => string)();
export const suite = JSON.parse(readFileSync(join(folder, "conformance.json"), "utf8")) as Suite;
export const read = (path: string): Promise<Uint8Array> => Promise.resolve(new Uint8Array(readFileSync(join(folder, path))));

/** A folder on the disk as the source of a bundle. */
export class FolderSource implements FileSource {
  constructor(private readonly path: string) {}

  read(path: string): Promise<Uint8Array> {
    try {
      return Promise.resolve(new Uint8Array(readFileSync(join(this.path, path))));
    } catch (error) {
      return Promise.reject(new EdgeVLError("bundle", `${path} is missing`, { cause: error }));
    }
  }

  list(): string[] {
    const found: string[] = [];
    const walk = (at: string): void => {
      for (const name of readdirSync(at)) {
        const path = join(at, name);
        if (statSync(path).isDirectory()) walk(path);
        else found.push(relative(this.path, path).replaceAll("\\", "/"));
      }
    };
    walk(this.path);
    return found;
  }
}

export const source = (path: string): FileSource => new FolderSource(join(folder, path));
