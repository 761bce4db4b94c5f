import { refused } from "./errors.js";
import type { TextProcessing } from "./manifest.js";
import { codePoints, lower } from "./sets.js";
import type { Json } from "./strict_json.js";
import type { Pieces } from "./texts.js";
import { asObject, checkIds, checkSettings, type JsonObject, sameJson, vocabularyOf } from "./vocabulary.js";

const START = "<|startoftext|>";
const STOP = "<|endoftext|>";
const END = "</w>"; // of a word
const CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
const WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;
const SPECIAL = String.raw`<\|startoftext\|>|<\|endoftext\|>|`;

/** The symbol of each byte. */
const SYMBOLS = ((): string[] => {
  const plain = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let other = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : 0x100 + other++));
})();

/** Byte-level byte-pair encoding as CLIP's: docs/bundle.md, byte-bpe. */
export class ByteBpe implements Pieces {
  private readonly vocabulary: Map<string, number>;
  private readonly ranks = new Map<string, number>();
  private readonly added: Map<string, number>;
  private readonly names: string[] = [];
  private readonly special: Set<number>;
  private readonly remembered = new Map<string, number[]>();

  constructor(spec: TextProcessing, file: Json) {
    const { model, pre_tokenizer, added_tokens, ...rest } = asObject(file);
    const settings = asObject(model);
    checkFormat(rest, settings, asObject(pre_tokenizer), spec.file);
    this.vocabulary = vocabularyOf(settings, spec);
    checkIds(this.vocabulary, spec, [[START, spec.start_id], [STOP, spec.stop_id]]);
    if (spec.pad_id !== spec.start_id && spec.pad_id !== spec.stop_id) throw refused(`${spec.file}: the padding is no special token`);
    if (spec.empty !== "allow") throw refused(`${spec.file}: byte-bpe takes an empty text`);
    for (const [piece, id] of this.vocabulary) this.names[id] = piece;
    this.special = new Set([spec.start_id as number, spec.stop_id as number]);
    this.added = addedOf(added_tokens, this.vocabulary, spec.file);
    if (SYMBOLS.some((symbol) => !this.vocabulary.has(symbol) || !this.vocabulary.has(symbol + END))) {
      throw refused(`${spec.file}: a symbol of a byte is missing`);
    }
    this.readMerges(settings.merges, spec.file);
  }

  /** Pairs of pieces that make a piece, each once; older files write a pair as one text. */
  private readMerges(merges: Json | undefined, file: string): void {
    if (!Array.isArray(merges)) throw refused(`${file}: model.merges must be a list of pairs`);
    merges.forEach((merge, rank) => {
      const pair = typeof merge === "string" ? merge.split(" ") : merge;
      const parts = Array.isArray(pair) && pair.length === 2 ? (pair as string[]) : [];
      const key = parts.join(" ");
      const known = parts.length === 2 && [...parts, parts.join("")].every((part) => this.vocabulary.has(part));
      if (!known || this.ranks.has(key)) throw refused(`${file}: a pair of model.merges is no pair of pieces, or is there twice`);
      this.ranks.set(key, rank);
    });
  }

  pieces(text: string, most: number): number[] {
    const found: number[] = [];
    for (const part of this.parts(text)) {
      if (found.length >= most) break;
      const id = this.added.get(part);
      if (id !== undefined) found.push(id);
      else {
        for (const word of splitWords(lower(part.normalize("NFC")))) {
          if (found.length >= most) break;
          for (const each of this.ofWord(word)) found.push(each);
        }
      }
    }
    return found;
  }

  /** A text cut at the special tokens that it holds. */
  private parts(text: string): string[] {
    if (!this.added.size) return [text];
    const pattern = [...this.added.keys()].map((name) => name.replaceAll("|", "\\|")).join("|");
    return text.split(new RegExp(`(${pattern})`));
  }

  private ofWord(word: string): number[] {
    const known = this.remembered.get(word);
    if (known) return known;
    const symbols = Array.from(new TextEncoder().encode(word), (byte) => SYMBOLS[byte] as string);
    symbols.push(`${symbols.pop() ?? ""}${END}`);
    const ids = merged(symbols, this.ranks).map((piece) => this.vocabulary.get(piece) ?? (this.vocabulary.get(STOP) as number));
    if (this.remembered.size > 10_000) this.remembered.clear();
    if (word.length < 100) this.remembered.set(word, ids);
    return ids;
  }

  words(ids: number[]): string {
    const text = ids.filter((id) => !this.special.has(id)).map((id) => this.names[id] ?? "").join("").replaceAll(END, "\0");
    const bytes = Array.from(text, (c) => (c === "\0" ? 32 : SYMBOLS.indexOf(c)));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes)).replace(/^ +| +$/g, "");
  }
}

/** Join pairs, the one of the lowest rank first, of equal ones the leftmost, in O(n log n). */
function merged(symbols: string[], ranks: Map<string, number>): string[] {
  const next = symbols.map((_, n) => n + 1);
  const before = symbols.map((_, n) => n - 1);
  const alive: (string | null)[] = [...symbols];
  const heap = new Heap();
  const offer = (at: number): void => {
    const right = next[at] as number;
    if (at < 0 || right >= alive.length) return;
    const rank = ranks.get(`${alive[at]} ${alive[right]}`);
    if (rank !== undefined) heap.push({ rank, at, left: alive[at] as string, right: alive[right] as string });
  };
  symbols.forEach((_, n) => offer(n));
  for (let pair = heap.pop(); pair; pair = heap.pop()) {
    const right = next[pair.at] as number;
    if (alive[pair.at] !== pair.left || right >= alive.length || alive[right] !== pair.right) continue;
    alive[pair.at] = pair.left + pair.right;
    alive[right] = null;
    const after = next[right] as number;
    next[pair.at] = after;
    if (after < alive.length) before[after] = pair.at;
    if ((before[pair.at] as number) >= 0) offer(before[pair.at] as number);
    offer(pair.at);
  }
  return alive.filter((each): each is string => each !== null);
}

interface Pair {
  rank: number;
  at: number;
  left: string;
  right: string;
}

/** The pair of the lowest rank, of equal ones the leftmost, first. */
class Heap {
  private readonly items: Pair[] = [];

  push(pair: Pair): void {
    let at = this.items.push(pair) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.less(at, parent)) return;
      this.swap(at, parent);
      at = parent;
    }
  }

  pop(): Pair | undefined {
    const first = this.items[0];
    const last = this.items.pop();
    if (!this.items.length || !last) return first;
    this.items[0] = last;
    for (let at = 0; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let least = left < this.items.length && this.less(left, at) ? left : at;
      if (right < this.items.length && this.less(right, least)) least = right;
      if (least === at) return first;
      this.swap(at, least);
      at = least;
    }
  }

  private less(a: number, b: number): boolean {
    const [one, two] = [this.items[a] as Pair, this.items[b] as Pair];
    return one.rank < two.rank || (one.rank === two.rank && one.at < two.at);
  }

  private swap(a: number, b: number): void {
    [this.items[a], this.items[b]] = [this.items[b] as Pair, this.items[a] as Pair];
  }
}

type Kind = "letter" | "number" | "space" | "other";

function kindOf(c: string): Kind {
  const point = c.codePointAt(0) as number;
  if (codePoints("letters").has(point)) return "letter";
  if (codePoints("numbers").has(point)) return "number";
  return codePoints("space").has(point) ? "space" : "other";
}

/** Contractions, runs of letters, single numbers, runs of anything else but white space. */
function* splitWords(text: string): Generator<string> {
  const points = Array.from(text);
  const kinds = points.map(kindOf);
  for (let at = 0; at < points.length; ) {
    const short = points[at] === "'" && CONTRACTIONS.find((each) => points.slice(at, at + each.length).join("") === each);
    if (short) {
      yield short;
      at += short.length;
      continue;
    }
    let end = at + 1;
    if (kinds[at] === "letter" || kinds[at] === "other") while (end < points.length && kinds[end] === kinds[at]) end++;
    if (kinds[at] !== "space") yield points.slice(at, end).join("");
    at = end;
  }
}

function checkFormat(rest: JsonObject, model: JsonObject, splits: JsonObject, file: string): void {
  const sequence = [{ type: "NFC" }, { type: "Replace", pattern: { Regex: "\\s+" }, content: " " }, { type: "Lowercase" }];
  checkSettings(rest, {
    version: ["1.0"], truncation: "anything", padding: "anything", post_processor: "anything", decoder: "anything",
    normalizer: [{ type: "Sequence", normalizers: sequence }],
  }, file);
  checkSettings(model, {
    type: ["BPE"], dropout: [null, undefined], unk_token: [STOP], continuing_subword_prefix: ["", null], end_of_word_suffix: [END],
    fuse_unk: [false], byte_fallback: [false, undefined], ignore_merges: [false, undefined], vocab: "anything", merges: "anything",
  }, file);
  const parts = Array.isArray(splits.pretokenizers) ? splits.pretokenizers : [];
  const split = (pattern: string): Json => ({ type: "Split", pattern: { Regex: pattern }, behavior: "Removed", invert: true });
  const level = asObject(parts[1]);
  const fits = splits.type === "Sequence" && parts.length === 2 && [WORDS, SPECIAL + WORDS].some((each) => sameJson(parts[0], split(each)));
  if (!fits || level.type !== "ByteLevel" || level.add_prefix_space !== false) throw refused(`${file}: the setting pre_tokenizer is not one that apps know`);
}

/** Special tokens that are taken out of a text before anything else. */
function addedOf(values: Json | undefined, vocabulary: Map<string, number>, file: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const value of Array.isArray(values) ? values : []) {
    const { content, id, special, single_word, lstrip, rstrip } = asObject(value);
    const plain = special === true && single_word === false && lstrip === false && rstrip === false;
    if ((content !== START && content !== STOP) || !plain || vocabulary.get(content) !== id) throw refused(`${file}: an added token is not one that apps know`);
    found.set(content, id as number);
  }
  return found;
}
