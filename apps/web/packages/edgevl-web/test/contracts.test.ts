import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
// @ts-expect-error a script without types
import { generated, target } from "../../../tools/code-points.mjs";
import { Bundle } from "../src/bundle.js";
import { EdgeVLError, plain } from "../src/errors.js";
import { FilesSource } from "../src/files.js";
import { goldenCases, replayGolden } from "../src/golden.js";
import { Model } from "../src/model.js";
import { upright } from "../src/raster.js";
import { boxOnPicture, toTensor } from "../src/resize.js";
import { onnxRuntime } from "../src/runtimes/onnx.js";
import { SearchIndex } from "../src/search.js";
import { parseJson } from "../src/strict_json.js";
import { TextCodec } from "../src/texts.js";
import { folder, source, suite } from "./node.js";

const runtime = onnxRuntime({ assets: "", threads: 1 });
const path = (name: string): string => (suite.bundles[name] as { path: string }).path;
const open = async (name: string): Promise<Model> => Model.open(await Bundle.open(source(path(name))), runtime);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

it("the sets of code points are those of docs/bundle.md", () => {
  expect(readFileSync(target as string, "utf8")).toBe((generated as () => string)());
});

describe("strict JSON", () => {
  it.each(['{"a": 1, "a": 2}', "[NaN]", "[1e999]", '["\\ud800"]', "[01]", "[1,]", '{"a"}', "[1] 2", "\ufeff[]", `${"[".repeat(40)}${"]".repeat(40)}`, '["\u0001"]', ""])(
    "refuses %j",
    (json) => expect(() => parseJson(text(json), "x.json")).toThrow(EdgeVLError),
  );

  it("reads what it takes as JSON.parse does", () => {
    const json = '{"a": [1, -2.5e3, true, null, "\\u00e9\\n\\ud83d\\ude97"], "__proto__": {"b": {}}}';
    expect(JSON.stringify(parseJson(text(json), "x"))).toBe(JSON.stringify(JSON.parse(json)));
  });
});

describe("a bundle of the suite", () => {
  it("replays its golden cases, of every decoding", { timeout: 120_000 }, async () => {
    for (const name of ["geometries", "words", "bytes", "asked", "classify-pair-split", "box", "rank-batch", "generate-prefix"]) {
      const model = await open(name);
      expect(await replayGolden(model), name).toMatchObject({ problems: [] });
      model.close();
    }
  });

  it("notices a golden case that does not fit", async () => {
    const model = await open("asked");
    const { cases } = await goldenCases(model);
    const files = Object.keys(model.bundle.manifest.files).concat("manifest.json");
    const changed = new Map(files.map((name) => [name, new Blob([readFileSync(join(folder, path("asked"), name))])]));
    const golden = JSON.parse(await (changed.get("golden.json") as Blob).text()) as { cases: { result: unknown[] }[] };
    (golden.cases[0] as { result: unknown[] }).result = [...(cases[0]?.result ?? [])].reverse();
    const data = new TextEncoder().encode(JSON.stringify(golden));
    changed.set("golden.json", new Blob([data]));
    await expect(Bundle.open(changed).then(async (bundle) => replayGolden(await Model.open(bundle, runtime)))).rejects.toThrow(/golden.json has changed/);
  });

  it("encodes a picture once, whatever is asked", async () => {
    const model = await open("classify-pair-split");
    const pictures = await Promise.all(["photo", "odd"].map(async (name) => model.picture(new Uint8Array(readFileSync(join(folder, `pictures/${name}.png`))))));
    for (const question of ["a tree", "the red car", "is there a dog?"]) await model.evaluate(pictures, [question]);
    expect(Object.fromEntries(model.runner.calls)).toEqual({ vision: 2, fusion: 3 });
  });

  it("answers at once, and together, alike", async () => {
    const model = await open("asked");
    const picture = await model.picture(new Uint8Array(readFileSync(join(folder, "pictures/odd.png"))));
    const texts = ["a tree", "the red car", "is there a dog?"];
    const together = await Promise.all(texts.map((each) => model.ask([picture], [each])));
    const model2 = await open("asked");
    expect(together.flat().map((each) => each.answer)).toEqual((await model2.ask([picture], texts)).map((each) => each.answer));
    expect(together[0]?.[0]?.scores.reduce((sum, each) => sum + each.share, 0)).toBeCloseTo(1, 6);
  });

  it("says what is wrong with a query", async () => {
    const model = await open("asked");
    await expect(model.ask([], ["a tree"])).rejects.toThrow("the model reads picture number 1, the query has 0");
    const picture = await model.picture(new Uint8Array(readFileSync(join(folder, "pictures/odd.png"))));
    await expect(model.ask([picture], ["  "])).rejects.toThrow("the text is empty");
    await expect(model.embed({ text: "a tree" })).rejects.toThrow("makes no embeddings");
    await expect(model.picture(text("hello"))).rejects.toThrow("the picture is no PNG");
  });

  it("is found in what a person picked, one folder down", async () => {
    const files = Object.keys((await Bundle.open(source(path("asked")))).manifest.files).concat("manifest.json");
    const picked = new Map(files.map((name) => [`some/asked.edgevl/${name}`, new Blob([readFileSync(join(folder, path("asked"), name))])]));
    await (await Bundle.open(picked)).checkFiles();
    picked.set("some/asked.edgevl/labels.json", new Blob(["[]"]));
    await expect(Bundle.open(picked)).rejects.toThrow("labels.json has changed or is damaged");
    expect(() => new FilesSource(new Map())).toThrow("choose the folder of a bundle");
  });
});

describe("search", () => {
  it("finds the nearest, and embeds through the prompts", async () => {
    const model = await open("rank");
    const a = await model.embed({ text: "the red car" });
    const label = await model.embedLabel("car");
    const length = label.reduce((sum, value) => sum + value * value, 0);
    expect(length).toBeCloseTo(1, 5);
    const index = new SearchIndex<string>(a.length);
    for (const each of ["a tree", "the red car", "a dog"]) index.add(each, await model.embed({ text: each }));
    expect(index.find(a, 2)[0]).toMatchObject({ id: "the red car" });
    expect(index.find(a, 2)).toHaveLength(2);
    expect(() => index.add("x", new Float32Array(3))).toThrow(RangeError);
  });
});

describe("pictures", () => {
  it("refuses sides and samples that no picture has", () => {
    expect(() => upright({ width: 0, height: 1, channels: 3, data: new Uint8Array(0) })).toThrow("no pixels");
    expect(() => upright({ width: 2, height: 1, channels: 3, data: new Uint8Array(5) })).toThrow("do not fit");
    expect(() => upright({ width: 1e6, height: 1e6, channels: 3, data: new Uint8Array(0) })).toThrow("at most");
  });

  it("finds a box of the model's square in the picture", () => {
    const about = (geometry: string, more = {}) => ({ size: 100, geometry, kernel: "cubic", ...more }) as Parameters<typeof toTensor>[1];
    const wide = { width: 400, height: 200 };
    expect(boxOnPicture([0, 0, 0.5, 1], wide, about("squash"))).toEqual([0, 0, 0.5, 1]);
    expect(boxOnPicture([0, 0, 1, 1], wide, about("shortest-edge"))).toEqual([0.25, 0, 0.75, 1]); // the middle of the picture
    expect(boxOnPicture([0, 0, 1, 1], wide, about("shortest-edge", { shortest_edge: 200 }))).toEqual([0.375, 0.25, 0.625, 0.75]);
    expect(boxOnPicture([0.25, 0.25, 1, 0.75], wide, about("letterbox"))).toEqual([0.25, 0, 1, 1]); // bars above and below
    expect(boxOnPicture([0, 0.5, 1, 1], { width: 200, height: 400 }, about("letterbox"))).toEqual([0, 0.5, 1, 1]);
  });

  it("leaves a picture of the right size as it is", () => {
    const data = Uint8Array.from({ length: 12 }, (_, n) => n * 20);
    const spec = { size: 2, geometry: "squash", kernel: "cubic" } as Parameters<typeof toTensor>[1];
    expect([...toTensor({ width: 2, height: 2, data }, spec)]).toEqual([...data]);
  });
});

it("text of others is made safe to show", () => {
  expect(plain("a\u001b[31m\u202eb")).toBe("a\\u{1b}[31m\\u{202e}b");
  expect(plain("x".repeat(200))).toHaveLength(80);
});

describe("a byte-level tokenizer that docs/bundle.md refuses", () => {
  interface File { model: { merges: unknown[]; vocab: { [piece: string]: number } } }
  const faults: [string, (file: File) => void][] = [
    ["a pair twice", ({ model }) => model.merges.push(model.merges[0])],
    ["a byte without a symbol", ({ model }) => {
      model.vocab.another = model.vocab["!"] ?? 0;
      delete model.vocab["!"];
    }],
  ];
  it.each(faults)("%s", async (_, change) => {
    const { manifest } = await Bundle.open(source(path("bytes")));
    const spec = Object.values(manifest.text_processing)[0] as ConstructorParameters<typeof TextCodec>[0];
    const file = JSON.parse(readFileSync(join(folder, path("bytes"), spec.file), "utf8")) as File;
    expect(() => new TextCodec(spec, file as never)).not.toThrow();
    change(file);
    expect(() => new TextCodec(spec, file as never)).toThrow(EdgeVLError);
  });
});
