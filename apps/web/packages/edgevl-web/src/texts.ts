import { ByteBpe } from "./byte_bpe.js";
import { EdgeVLError, refused } from "./errors.js";
import type { TextProcessing } from "./manifest.js";
import type { Json } from "./strict_json.js";
import { WordPiece } from "./wordpiece.js";

/** Splits texts into pieces and joins them again. */
export interface Pieces {
  /** Ids of the pieces of a text; no more than `most` are needed. */
  pieces(text: string, most: number): number[];
  /** The text of ids, without special tokens. */
  words(ids: number[]): string;
}

/** A text processing of a bundle: text to T token ids, and back. */
export class TextCodec {
  private readonly model: Pieces;

  /** Open a tokenizer from its parsed file. Throws `EdgeVLError` for one that is not what the manifest declares. */
  constructor(
    readonly spec: TextProcessing,
    file: Json,
  ) {
    if (spec.kind === "wordpiece") this.model = new WordPiece(spec, file);
    else if (spec.kind === "byte-bpe") this.model = new ByteBpe(spec, file);
    else throw refused(`the text processing "${spec.kind}" is not known`);
  }

  /** Return T ids: start, pieces, stop, padding. Throws `EdgeVLError` for a text without a piece, where refused. */
  encode(text: string): Int32Array {
    return this.tokens(text).ids;
  }

  /** Return T numbers: 1 for start, pieces and stop, 0 for the padding behind them, whatever its id. */
  mask(text: string): Int32Array {
    return this.tokens(text).mask;
  }

  private tokens(text: string): { ids: Int32Array; mask: Int32Array } {
    const { length, pad_id, start_id, stop_id } = this.spec;
    if (/\p{Cs}/u.test(text)) throw new EdgeVLError("text", "the text holds half of a surrogate pair");
    const room = length - (start_id === null ? 0 : 1) - (stop_id === null ? 0 : 1);
    const pieces = this.model.pieces(text, room);
    if (!pieces.length && (this.spec.empty ?? "refuse") === "refuse") throw new EdgeVLError("text", "the text is empty: ask something");
    const given = [...(start_id === null ? [] : [start_id]), ...pieces.slice(0, room), ...(stop_id === null ? [] : [stop_id])];
    const ids = new Int32Array(length).fill(pad_id).map((pad, n) => given[n] ?? pad);
    return { ids, mask: ids.map((_, n) => (n < given.length ? 1 : 0)) };
  }

  decode(ids: number[]): string {
    return this.model.words(ids);
  }
}
