import { refused } from "./errors.js";

const MAX_BYTES = 16 * 2 ** 20;
const MAX_DEPTH = 32;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A number as the file spells it: 1.0 is not an integer, and a schema must be able to tell. */
const spelledAsFraction = new WeakMap<object, Set<string | number>>();

/** Say if the entry `key` of a parsed object or array was written with a fraction or an exponent. */
export const isFraction = (owner: object, key: string | number): boolean => spelledAsFraction.get(owner)?.has(key) ?? false;

/**
 * Parse the JSON of a bundle: UTF-8 without a byte order mark, at most 16 MiB and 32 levels, no key twice, no number
 * beyond a double, no half of a surrogate pair. Throws `EdgeVLError` with `name` in it.
 */
export function parseJson(data: Uint8Array, name: string): Json {
  if (data.length > MAX_BYTES) throw refused(`${name} has more than 16 MiB`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw refused(`${name} is not UTF-8`);
  }
  try {
    return new Parser(text).whole();
  } catch (error) {
    throw refused(`${name} is not valid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

class Parser {
  private at = 0;
  constructor(private readonly text: string) {}

  whole(): Json {
    const value = this.value(0);
    this.blank();
    if (this.at < this.text.length) throw new Error(`something stands behind the end, at ${this.at}`);
    return value;
  }

  private blank(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at++;
  }

  private value(depth: number): Json {
    if (depth > MAX_DEPTH) throw new Error(`more than ${MAX_DEPTH} levels`);
    this.blank();
    const c = this.text[this.at];
    if (c === "{") return this.object(depth);
    if (c === "[") return this.array(depth);
    if (c === '"') return this.string();
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number().value;
  }

  private number(): { value: number; fraction: boolean } {
    const pattern = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw new Error(`no value at ${this.at}`);
    this.at += found[0].length;
    const value = Number(found[0]);
    if (!Number.isFinite(value)) throw new Error("a number is beyond a double");
    return { value, fraction: found[1] !== undefined || found[2] !== undefined };
  }

  /** Parse an entry of `owner` and note how its number is spelled. */
  private entry(owner: object, key: string | number, depth: number): Json {
    this.blank();
    if (!/[-0-9]/.test(this.text[this.at] ?? "")) return this.value(depth);
    const { value, fraction } = this.number();
    if (fraction) {
      const keys = spelledAsFraction.get(owner) ?? new Set();
      spelledAsFraction.set(owner, keys.add(key));
    }
    return value;
  }

  private object(depth: number): Json {
    const found: { [key: string]: Json } = Object.create(null) as { [key: string]: Json };
    this.at++;
    this.blank();
    if (this.text[this.at] === "}") {
      this.at++;
      return found;
    }
    for (;;) {
      this.blank();
      if (this.text[this.at] !== '"') throw new Error(`no key at ${this.at}`);
      const key = this.string();
      if (key in found) throw new Error(`the key ${JSON.stringify(key)} is there twice`);
      this.blank();
      if (this.text[this.at++] !== ":") throw new Error(`no colon at ${this.at - 1}`);
      found[key] = this.entry(found, key, depth + 1);
      this.blank();
      const next = this.text[this.at++];
      if (next === "}") return found;
      if (next !== ",") throw new Error(`no comma at ${this.at - 1}`);
    }
  }

  private array(depth: number): Json {
    const found: Json[] = [];
    this.at++;
    this.blank();
    if (this.text[this.at] === "]") {
      this.at++;
      return found;
    }
    for (;;) {
      found.push(this.entry(found, found.length, depth + 1));
      this.blank();
      const next = this.text[this.at++];
      if (next === "]") return found;
      if (next !== ",") throw new Error(`no comma at ${this.at - 1}`);
    }
  }

  private string(): string {
    // eslint-disable-next-line no-control-regex -- JSON forbids them inside of texts
    const pattern = /"((?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"/y;
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw new Error(`no whole text at ${this.at}`);
    this.at += found[0].length;
    const value = JSON.parse(found[0]) as string;
    if (/\p{Cs}/u.test(value)) throw new Error("a text holds half of a surrogate pair");
    return value;
  }
}
