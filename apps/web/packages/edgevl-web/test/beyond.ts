// What the suite holds no case of, checked by hand: each function returns what is wrong. Faults are planted under it, too.
import { best, decoded } from "../src/decodings.js";
import type { Decoding, Manifest } from "../src/manifest.js";
import { Runner } from "../src/runner.js";
import type { Session } from "../src/runtime.js";
import type { TextCodec } from "../src/texts.js";

const same = (what: string, own: unknown, wanted: unknown): string => (JSON.stringify(own) === JSON.stringify(wanted) ? "" : `${what}: ${JSON.stringify(own)}`);

/** Return what is wrong, of everything here. */
export async function beyond(): Promise<string[]> {
  return [await texts(), ...numbers()].filter(Boolean);
}

/** A value that is asked for about another text of the query. */
async function texts(): Promise<string> {
  const row = (name: string, more: object) => ({ name, dtype: "float32", shape: [1, 1], layout: "NC", ...more });
  const manifest = {
    image_processing: {}, text_processing: {},
    programs: [
      { name: "one", inputs: [row("in", { from: { kind: "text" } })], outputs: [row("length", {})] },
      { name: "two", inputs: [row("value", { from: { kind: "value", name: "length", texts: [1] } })], outputs: [row("out", {})] },
    ],
  } as unknown as Manifest;
  const codec = { encode: (text: string) => [text.length], mask: () => [1] } as unknown as TextCodec;
  const give = (output: string): Session => ({ run: (feeds) => Promise.resolve(new Map([[output, Float32Array.from([...feeds.values()][0] as Float32Array)]])), close: () => undefined });
  const runner = new Runner(manifest, new Map([["main", codec]]), new Map([["one", give("length")], ["two", give("out")]]));
  return same("another text", [...(await runner.value("out", { pictures: [], texts: ["a", "four"] }))].map(Number), [4]);
}

function numbers(): string[] {
  const context = { labels: [], texts: new Map() };
  const box = { kind: "box", output: "o", format: "center" } as Decoding;
  return [
    same("of equal scores", best([1, 2, 2]), 1),
    same("a box beyond", decoded(box, context, { o: [Float64Array.of(0.5, 1, 1.5, 0.5)] }).result, [[0, 0.75, 1, 1]]),
  ];
}
