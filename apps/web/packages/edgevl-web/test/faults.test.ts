import { afterEach, expect, it, vi } from "vitest";
import { read, source, suite } from "./node.js";
import type { Case } from "./replay.js";

type Kind = Case["kind"];
type Any = (...given: never[]) => unknown;

/** A fault in one function: its module, its name (with the class), the kind of case that must find it, what stands there. */
const FAULTS: [string, string, string, Kind, (right: Any) => Any][] = [
  ["no orientation", "raster", "upright", "pixels", (right) => ((raw: object) => right({ ...raw, orientation: 1 } as never))],
  ["another kernel", "resize", "toTensor", "pixels", (right) => ((picture: never, spec: object) => right(picture, { ...spec, kernel: "triangle" } as never))],
  ["another geometry", "resize", "toTensor", "pixels", (right) => ((picture: never, spec: object) => right(picture, { ...spec, geometry: "squash" } as never))],
  ["the browser's lower case", "sets", "lower", "ids", () => ((text: string) => text.toLowerCase())],
  ["no mask", "texts", "TextCodec.mask", "answer", () => function (this: { spec: { length: number } }) {
    return new Int32Array(this.spec.length).fill(1);
  }],
  ["no token of the step before", "runner", "Runner.step", "answer", (right) => function (this: unknown, name: never, query: never, loop: object) {
    return right.call(this, name, query, { ...loop, token: 0 } as never);
  }],
  ["labels in another order", "decodings", "evaluate", "answer", (right) => (async (...given: never[]) => {
    const found = (await right(...given)) as { result: unknown[] };
    return { ...found, result: found.result.toReversed() };
  })],
  ["digests not compared", "files", "sha256", "refuse", () => undefined as never],
  ["no rules", "rules", "checkManifest", "refuse", () => ((values: unknown) => values)],
  ["plain JSON", "strict_json", "parseJson", "refuse", () => ((data: Uint8Array) => JSON.parse(new TextDecoder().decode(data)) as unknown)],
];

afterEach(() => {
  vi.doUnmock("../src/files.js");
  vi.resetModules();
});

for (const [name, file, target, kind, change] of FAULTS) {
  it(`finds a planted fault: ${name}`, { timeout: 120_000 }, async () => {
    vi.resetModules();
    await plant(file, target, change);
    const { replay } = await import("./replay.js");
    const { onnxRuntime } = await import("../src/runtimes/onnx.js");
    const { problems } = await replay({ suite, read, source, runtime: onnxRuntime({ assets: "", threads: 1 }), platform: false, only: [kind] });
    vi.doUnmock(`../src/${file}.js`);
    expect(problems.length).toBeGreaterThan(0);
  });
}

async function plant(file: string, target: string, change: (right: Any) => Any): Promise<void> {
  const path = `../src/${file}.js`;
  const [first, method] = target.split(".") as [string, string | undefined];
  if (method) {
    const { prototype } = ((await import(path)) as Record<string, { prototype: Record<string, Any> }>)[first] as { prototype: Record<string, Any> };
    prototype[method] = change(prototype[method] as Any);
    return;
  }
  vi.doMock(path, async (original) => {
    const real = await original<Record<string, Any>>();
    return first === "sha256" ? { ...real, CheckedFiles: Unchecked } : { ...real, [first]: change(real[first] as Any) };
  });
}

/** Reads files and compares nothing. */
class Unchecked {
  constructor(private readonly source: { read(path: string): Promise<Uint8Array> }) {}
  read(path: string): Promise<Uint8Array> {
    return this.source.read(path);
  }
}
