import { refused } from "./errors.js";
import type { TextProcessing } from "./manifest.js";
import { isFraction, type Json } from "./strict_json.js";

export interface JsonObject { [key: string]: Json }

export const asObject = (value: Json | undefined): JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};

/** Equal as JSON, whatever the order of keys. */
export function sameJson(a: Json | undefined, b: Json): boolean {
  if (Array.isArray(b)) return Array.isArray(a) && a.length === b.length && b.every((each, n) => sameJson(a[n], each));
  if (typeof b !== "object" || b === null) return a === b;
  const keys = Object.keys(b);
  const own = asObject(a);
  return Object.keys(own).length === keys.length && keys.every((key) => sameJson(own[key], b[key] as Json));
}

/** Hold settings against those that are declared: each a value, several values, or anything (undefined: not there). */
export function checkSettings(found: JsonObject, wanted: { [key: string]: (Json | undefined)[] | "anything" }, file: string): void {
  for (const key of new Set([...Object.keys(found), ...Object.keys(wanted)])) {
    const allowed = Object.hasOwn(wanted, key) ? wanted[key] : [];
    if (allowed === "anything") continue;
    const fits = allowed?.some((value) => (value === undefined ? !(key in found) : key in found && sameJson(found[key], value)));
    if (!fits) throw refused(`${file}: the setting ${key} is not one that apps know`);
  }
}

/** Return piece → id, if the ids are 0 to `vocab_size` − 1, each once. Throws `EdgeVLError`. */
export function vocabularyOf(model: JsonObject, spec: TextProcessing): Map<string, number> {
  const vocab = asObject(model.vocab);
  const pieces = new Map(Object.entries(vocab)) as Map<string, number>;
  const ids = new Set(pieces.values());
  const whole = [...pieces].every(([piece, id]) => Number.isInteger(id) && id >= 0 && id < spec.vocab_size && !isFraction(vocab, piece));
  if (!whole || ids.size !== pieces.size || pieces.size !== spec.vocab_size) {
    throw refused(`${spec.file}: the ids must be the numbers from 0 to ${spec.vocab_size - 1}, each once`);
  }
  return pieces;
}

/** Throw unless special tokens have the ids that the manifest says. */
export function checkIds(pieces: Map<string, number>, spec: TextProcessing, wanted: [string, number | null][]): void {
  for (const [piece, id] of wanted) {
    if (id === null || pieces.get(piece) !== id) throw refused(`${spec.file}: ${piece} is not the token that the manifest says`);
  }
}
