// What the suite holds no case of, checked by hand: each function returns what is wrong. Faults are planted under it, too.
import { Bundle } from "../src/bundle.js";
import { decodePicture } from "../src/decode.js";
import { best, decoded } from "../src/decodings.js";
import { EdgeVLError } from "../src/errors.js";
import type { Decoding, Manifest, TextProcessing } from "../src/manifest.js";
import { Model } from "../src/model.js";
import { Runner } from "../src/runner.js";
import type { Session } from "../src/runtime.js";
import { TextCodec } from "../src/texts.js";
import type { Options } from "./replay.js";

const same = (what: string, own: unknown, wanted: unknown): string => (JSON.stringify(own) === JSON.stringify(wanted) ? "" : `${what}: ${JSON.stringify(own)}`);

/** Return what is wrong, of everything here. */
export async function beyond(options: Options): Promise<string[]> {
  const found = [await checksum(options), await ranks(options), await words(options), await texts(), await stop(options), ...numbers()];
  return found.filter(Boolean);
}

async function checksum({ suite, read }: Options): Promise<string> {
  const data = (await read(suite.pictures.photo?.file ?? "")).slice();
  const at = Array.from(data.keys()).find((n) => String.fromCharCode(...data.subarray(n, n + 4)) === "IDAT") ?? 0;
  const size = new DataView(data.buffer).getUint32(at - 4);
  data[at + 4 + size] = (data[at + 4 + size] ?? 0) ^ 1;
  return decodePicture(data).then(() => "a wrong checksum is taken", (error: unknown) => (error instanceof EdgeVLError ? "" : "another error"));
}

interface File { model: { merges: unknown[]; vocab: { [piece: string]: number } } }

async function tokenizer({ suite, source }: Options): Promise<{ spec: TextProcessing; file: File }> {
  const bundle = await Bundle.open(source(suite.bundles.bytes?.path ?? ""), { keep: false });
  const spec = Object.values(bundle.manifest.text_processing)[0] as TextProcessing;
  return { spec, file: JSON.parse(new TextDecoder().decode(await bundle.files.read(spec.file))) as File };
}

/** Pairs are joined by their rank, and not from the left: "y z" stands before "x y". */
async function ranks(options: Options): Promise<string> {
  const { spec, file } = await tokenizer(options);
  const { vocab } = file.model;
  const count = Object.keys(vocab).length;
  Object.assign(vocab, { yz: count, xy: count + 1 });
  file.model.merges = [["y", "z"], ["x", "y"]];
  const codec = new TextCodec({ ...spec, vocab_size: count + 2 }, file as never);
  return same("ranks", [...codec.encode("xyzx")].slice(1, 4), [vocab.x, count, vocab["x</w>"]]);
}

async function words(options: Options): Promise<string> {
  const { spec, file } = await tokenizer(options);
  const codec = new TextCodec(spec, file as never);
  return same("words of bytes", codec.decode([...codec.encode("é ü")]), "é ü");
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

/** A sequence ends at the stop token: here the one that the model gives second, by a manifest that says so. */
async function stop({ suite, source, runtime }: Options): Promise<string> {
  const bundle = await Bundle.open(source(suite.bundles["generate-prefix"]?.path ?? ""), { keep: false });
  const decoding = bundle.manifest.decoding as Decoding & { kind: "generate" };
  const model = await Model.open(bundle, runtime);
  const golden = JSON.parse(new TextDecoder().decode(await bundle.files.read(bundle.manifest.golden))) as { cases: { pictures: string[]; texts: string[] }[] };
  const first = golden.cases[0];
  const pictures = await Promise.all((first?.pictures ?? []).map(async (path) => model.picture(await bundle.files.read(path))));
  decoding.stop = -1;
  const whole = (await model.evaluate(pictures, first?.texts ?? [])).result as number[];
  const end = whole.findIndex((token, n) => n > 0 && !whole.slice(0, n).includes(token));
  decoding.stop = whole[end] as number;
  model.runner.calls.set(decoding.program, 0);
  const { result, words: said } = await model.evaluate(pictures, first?.texts ?? []);
  const wanted = [whole.slice(0, end + 1), end + 1, bundle.texts.get(decoding.text ?? "main")?.decode(whole.slice(0, end))];
  model.close();
  return end < 1 ? "no sequence to stop" : same("an early stop", [result, model.runner.calls.get(decoding.program), said], wanted);
}

function numbers(): string[] {
  const context = { labels: [], texts: new Map() };
  const rank = { kind: "rank", picture: "p", text: "t", scale: 2, bias: -2, activation: "sigmoid" } as unknown as Decoding;
  const one = [Float64Array.of(1)];
  const box = { kind: "box", output: "o", format: "center" } as Decoding;
  return [
    same("of equal scores", best([1, 2, 2]), 1),
    same("bias", decoded(rank, context, { p: one, t: one }).shares?.map((each) => [...each]), [[0.5]]),
    same("a box beyond", decoded(box, context, { o: [Float64Array.of(0.5, 1, 1.5, 0.5)] }).result, [[0, 0.75, 1, 1]]),
  ];
}
