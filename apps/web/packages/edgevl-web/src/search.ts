import { dot } from "./decodings.js";

export interface Hit<Id> {
  id: Id;
  /** The product of the embeddings, −1 to 1. */
  score: number;
}

/** Embeddings of pictures in one array, so that a thousand are looked through in well under a millisecond. */
export class SearchIndex<Id = string> {
  readonly ids: Id[] = [];
  private rows = new Float32Array(0);

  constructor(readonly width: number) {}

  get size(): number {
    return this.ids.length;
  }

  /** Add an embedding of length 1. */
  add(id: Id, embedding: Float32Array): void {
    if (embedding.length !== this.width) throw new RangeError(`an embedding of this index has ${this.width} numbers, this one ${embedding.length}`);
    const needed = (this.size + 1) * this.width;
    if (needed > this.rows.length) {
      const grown = new Float32Array(Math.max(needed, 2 * this.rows.length));
      grown.set(this.rows);
      this.rows = grown;
    }
    this.rows.set(embedding, this.size * this.width);
    this.ids.push(id);
  }

  /** Return the `top` best, best first; of equal ones those that were added first. */
  find(embedding: Float32Array, top = 10): Hit<Id>[] {
    const scores = this.ids.map((_, n) => dot(this.rows.subarray(n * this.width, (n + 1) * this.width), embedding));
    const order = scores.map((_, n) => n).sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
    return order.slice(0, top).map((n) => ({ id: this.ids[n] as Id, score: scores[n] as number }));
  }
}
