import { refused } from "./errors.js";
import type { TextProcessing } from "./manifest.js";
import { codePoints, lower } from "./sets.js";
import type { Json } from "./strict_json.js";
import type { Pieces } from "./texts.js";
import { asObject, checkIds, checkSettings, vocabularyOf } from "./vocabulary.js";

const LONGEST = 100; // code points of a word
const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/** BERT's pieces: docs/bundle.md, wordpiece. */
export class WordPiece implements Pieces {
  private readonly vocabulary: Map<string, number>;
  private readonly names: string[] = [];
  private readonly special: Set<number>;

  constructor(spec: TextProcessing, file: Json) {
    const { model, ...rest } = asObject(file);
    const settings = asObject(model);
    checkSettings(rest, {
      version: ["1.0"], truncation: [null], padding: [null], added_tokens: [[]], post_processor: [null], decoder: [null],
      normalizer: [{ type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true }],
      pre_tokenizer: [{ type: "BertPreTokenizer" }],
    }, spec.file);
    checkSettings(settings, {
      type: ["WordPiece"], unk_token: ["[UNK]"], continuing_subword_prefix: ["##"], max_input_chars_per_word: [LONGEST], vocab: "anything",
    }, spec.file);
    this.vocabulary = vocabularyOf(settings, spec);
    if (SPECIAL.some((piece) => !this.vocabulary.has(piece)) || spec.pad_id !== 0) throw refused(`${spec.file}: a special token is missing`);
    if ((spec.empty ?? "refuse") !== "refuse") throw refused(`${spec.file}: wordpiece refuses an empty text`);
    checkIds(this.vocabulary, spec, [["[PAD]", spec.pad_id], ["[CLS]", spec.start_id], ["[SEP]", spec.stop_id]]);
    for (const [piece, id] of this.vocabulary) this.names[id] = piece;
    this.special = new Set([spec.pad_id, spec.start_id as number, spec.stop_id as number]);
  }

  pieces(text: string, most: number): number[] {
    const found: number[] = [];
    for (const word of splitWords(text)) {
      if (found.length >= most) break;
      found.push(...this.ofWord(word));
    }
    return found;
  }

  private ofWord(word: string[]): number[] {
    const unknown = [this.vocabulary.get("[UNK]") as number];
    if (word.length > LONGEST) return unknown;
    const found: number[] = [];
    for (let at = 0; at < word.length; ) {
      let end = word.length;
      let id: number | undefined;
      for (; end > at; end--) {
        id = this.vocabulary.get((at ? "##" : "") + word.slice(at, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return unknown;
      found.push(id);
      at = end;
    }
    return found;
  }

  words(ids: number[]): string {
    const pieces = ids.filter((id) => !this.special.has(id)).map((id) => this.names[id] ?? "");
    return pieces.join(" ").replaceAll(" ##", "");
  }
}

/** Words of a text, each as its code points: cleaned, without accents, in lower case, punctuation apart. */
function* splitWords(text: string): Generator<string[]> {
  const [removed, blank, cjk, marks, punctuation] = (["removed", "blank", "cjk", "marks", "punctuation"] as const).map(codePoints);
  let spaced = "";
  for (const c of text) {
    const point = c.codePointAt(0) as number;
    if (removed?.has(point)) continue;
    spaced += blank?.has(point) ? " " : cjk?.has(point) ? ` ${c} ` : c;
  }
  const plain = Array.from(spaced.normalize("NFD")).filter((c) => !marks?.has(c.codePointAt(0) as number)).join("");
  let word: string[] = [];
  for (const c of lower(plain)) {
    const apart = punctuation?.has(c.codePointAt(0) as number);
    if (c !== " " && !apart) {
      word.push(c);
      continue;
    }
    if (word.length) yield word;
    word = [];
    if (apart) yield [c];
  }
  if (word.length) yield word;
}
