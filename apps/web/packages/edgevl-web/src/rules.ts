import { refused } from "./errors.js";
import type { Decoding, InputSpec, Manifest, OutputSpec, Program } from "./manifest.js";
import { folded } from "./paths.js";
import { checkSchema } from "./schema.js";
import type { Json } from "./strict_json.js";

/** What the artifact of each target is called. */
const ENDINGS: { [target: string]: string } = {
  onnx: ".onnx", tensorrt: ".onnx", coreml: ".mlpackage", executorch: ".pte", litert: ".tflite", coreai: ".aimodel",
};
const DECODINGS: { [kind: string]: string } = { classify: "ClassifyFields", rank: "RankFields", generate: "GenerateFields", box: "BoxFields" };
const MIB = 2 ** 20;

/** Check a parsed manifest by every rule of docs/bundle.md that needs no file. Throws `EdgeVLError`. */
export function checkManifest(values: Json): Manifest {
  const version = (values as { schema_version?: unknown } | null)?.schema_version;
  if (version === 1) throw refused("the bundle is of schema 1: export it again with a newer EdgeVL");
  if (typeof version === "number" && version > 2) throw refused(`the bundle has schema version ${version}, this library reads 2`);
  checkSchema(values, "Manifest", "manifest.json");
  const manifest = values as unknown as Manifest;
  checkDecoding(manifest);
  for (const problem of problems(manifest)) throw refused(`manifest.json is not valid: ${problem}`);
  return manifest;
}

function checkDecoding(manifest: Manifest): void {
  const kind: unknown = manifest.decoding.kind;
  if (typeof kind !== "string" || !Object.hasOwn(DECODINGS, kind)) {
    throw refused(`the decoding is not one of ${Object.keys(DECODINGS).join(", ")}`);
  }
  checkSchema(manifest.decoding, DECODINGS[kind] as string, "manifest.json, decoding");
}

function* problems(manifest: Manifest): Generator<string> {
  yield* fileProblems(manifest);
  yield* programProblems(manifest);
  yield* decodingProblems(manifest);
}

// ---- files
function textFiles(manifest: Manifest): string[] {
  const tokenizers = Object.values(manifest.text_processing).map((each) => each.file);
  return [...tokenizers, ...(manifest.labels ? [manifest.labels.file] : []), manifest.golden];
}

function* fileProblems(manifest: Manifest): Generator<string> {
  const { files, target } = manifest;
  const artifacts = manifest.programs.map((program) => program.artifact);
  const inside = (path: string, folder: string) => `${path}/`.startsWith(`${folder}/`);
  const texts = textFiles(manifest);
  const ending = ENDINGS[target];
  if (!ending) {
    yield `the target ${target} is not known`;
    return;
  }
  for (const name of texts) if (!(name in files)) yield `"${name}" is not among the files`;
  for (const artifact of artifacts) {
    if (!Object.keys(files).some((path) => inside(path, artifact))) yield `the artifact "${artifact}" is not among the files`;
    if (artifacts.filter((other) => inside(other, artifact)).length > 1) yield `the artifact "${artifact}" is there twice, or holds another`;
    if (!artifact.endsWith(ending)) yield `${artifact} is not named ${ending}`;
  }
  for (const name of texts) if (!name.endsWith(".json")) yield `${name} is not named .json`;
  if ("manifest.json" in files) yield "manifest.json cannot hold its own digest";
  const paths = Object.keys(files);
  if (new Set(paths.map(folded)).size !== paths.length) yield "two files differ only in upper and lower case";
  for (const [name, entry] of Object.entries(files)) {
    const artifact = artifacts.some((each) => inside(name, each));
    const known = ["README.md", "domain.json", ...texts].includes(name) || name.endsWith(".png") || artifact;
    if (!known && !(target === "tensorrt" && name === "build_engine.py")) yield `${name} has no part in a bundle for ${target}`;
    const limit = name === "domain.json" ? MIB : ["README.md", ...texts].includes(name) ? 16 * MIB : 256 * MIB;
    if (!artifact && entry.bytes > limit) yield `${name} has more than ${limit / MIB} MiB`;
  }
}

// ---- programs
const source = (spec: InputSpec): string[] =>
  spec.from.kind === "value" ? [spec.from.name] : spec.from.kind === "state" && spec.from.start ? [spec.from.start] : [];
const sameRow = (a: OutputSpec, b: OutputSpec | undefined): boolean =>
  a.dtype === b?.dtype && a.shape.slice(1).join() === b.shape.slice(1).join();

function* programProblems(manifest: Manifest): Generator<string> {
  const { programs } = manifest;
  const outputs = programs.flatMap((program) => program.outputs);
  const given = new Map(outputs.map((spec) => [spec.name, spec]));
  if (new Set(programs.map((program) => program.name)).size !== programs.length) yield "two programs have one name";
  if (given.size !== outputs.length) yield "two programs give a value of the same name";
  if (!programs.some((program) => program.precision === manifest.precision)) yield `no program is of the precision ${manifest.precision}`;
  for (const processing of Object.values(manifest.image_processing)) {
    const edge = processing.shortest_edge;
    if (edge != null && processing.geometry !== "shortest-edge") yield `shortest_edge does not go with the geometry ${processing.geometry}`;
    if (edge != null && edge < processing.size) yield `shortest_edge ${edge} is below the size ${processing.size}`;
  }
  for (const program of programs) {
    yield* tensorProblems(program);
    for (const spec of program.inputs) {
      for (const name of source(spec)) {
        if (!sameRow(spec, given.get(name))) yield `${program.name}: ${spec.name} needs the value ${name}, which no program gives so`;
      }
      yield* inputProblems(program, spec, manifest);
    }
  }
  const cyclic = cycle(programs);
  if (cyclic.length) yield `${cyclic[0]} depends on itself`;
}

function cycle(programs: Program[]): string[] {
  const makers = new Map(programs.flatMap((program) => program.outputs.map((spec) => [spec.name, program.name] as const)));
  const needs = new Map(programs.map((program) => [program.name, new Set(program.inputs.flatMap(source).map((name) => makers.get(name)))]));
  for (;;) {
    const ready = [...needs].filter(([, others]) => ![...others].some((name) => name !== undefined && needs.has(name)));
    if (!ready.length) return [...needs.keys()];
    for (const [name] of ready) needs.delete(name);
  }
}

function* tensorProblems(program: Program): Generator<string> {
  const tensors = [...program.inputs, ...program.outputs];
  if (new Set(tensors.map((spec) => spec.name)).size !== tensors.length) yield `${program.name} has two tensors of one name`;
  if (new Set(tensors.map((spec) => spec.shape[0])).size !== 1) yield `the tensors of ${program.name} have different batches`;
  for (const spec of tensors) {
    if (spec.layout.length !== spec.shape.length) yield `${program.name}: the layout ${spec.layout} of ${spec.name} does not fit its shape`;
  }
  for (const spec of program.inputs) {
    if (spec.from.kind !== "state") continue;
    const from = spec.from;
    const other = program.outputs.find((each) => each.name === from.name);
    if (other?.dtype !== spec.dtype || other.shape.join() !== spec.shape.join()) {
      yield `${program.name}: the state ${spec.name} does not fit an output ${from.name}`;
    }
  }
}

function* inputProblems(program: Program, spec: InputSpec, manifest: Manifest): Generator<string> {
  const where = `${program.name}: ${spec.name}`;
  const from = spec.from;
  const [batch] = spec.shape;
  const fits = (dtypes: string[], shapes: number[][], layouts: string[], range: number[] | null) =>
    dtypes.includes(spec.dtype) && shapes.some((shape, n) => shape.join() === spec.shape.join() && layouts[n] === spec.layout) &&
    (range === null || spec.range?.join() === range.join());
  if ((spec.kind ?? "tensor") === "image" && from.kind !== "picture") yield `${where} is said to be a picture, but comes from a ${from.kind}`;
  if (from.kind === "picture") {
    const size = own(manifest.image_processing, from.processing)?.size;
    if (size === undefined) {
      yield `${where} names a processing that is not there`;
      return;
    }
    const image = (spec.kind ?? "tensor") === "image";
    const good = image ? fits(["float32"], [[batch as number, 3, size, size]], ["NCHW"], [0, 255]) : fits(["uint8"], [[batch as number, size, size, 3]], ["NHWC"], [0, 255]);
    if (!good) yield `${where} is not what a picture gives`;
  } else if (from.kind === "text") {
    const text = own(manifest.text_processing, from.processing);
    if (!text) {
      yield `${where} names a processing that is not there`;
      return;
    }
    const last = (from.part ?? "ids") === "ids" ? text.vocab_size - 1 : 1;
    if (!fits(["int32", "int64"], [[batch as number, text.length]], ["NT"], [0, last])) yield `${where} is not what a text gives`;
  } else if (from.kind === "token" || from.kind === "step") {
    const good = fits(["int32", "int64"], [[batch as number, 1], [batch as number]], ["NT", "N"], null) && (spec.range == null || spec.range[0] === 0);
    if (!good) yield `${where} is not what a ${from.kind} gives`;
  }
  const looped = manifest.decoding.kind === "generate" && manifest.decoding.program === program.name;
  if (["state", "token", "step"].includes(from.kind) && !looped) yield `${program.name} reads states, tokens or steps, which only the program of a loop may`;
}

function own<T>(record: { [name: string]: T }, name = "main"): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

// ---- decoding
function* decodingProblems(manifest: Manifest): Generator<string> {
  const outputs = new Map(manifest.programs.flatMap((program) => program.outputs.map((spec) => [spec.name, spec] as const)));
  const row = (name: string, width?: number): string => {
    const spec = outputs.get(name);
    if (!spec) return `the decoding reads the value ${name}, which no program gives`;
    const fits = spec.shape.length === 2 && spec.dtype.startsWith("float") && (width === undefined || spec.shape[1] === width);
    return fits ? "" : `the decoding cannot read ${name} as it is`;
  };
  const decoding: Decoding = manifest.decoding;
  const found: string[] = [];
  if (decoding.kind === "classify") found.push(manifest.labels ? row(decoding.output, manifest.labels.count) : "classify needs labels");
  if (decoding.kind === "box") found.push(row(decoding.output, 4));
  if (decoding.kind === "rank") {
    found.push(row(decoding.picture), row(decoding.text, outputs.get(decoding.picture)?.shape[1]));
    found.push(...(decoding.prompts ?? []).map((prompt) => (prompt.split("{}").length === 2 ? "" : "a prompt must hold {} once")));
  }
  if (decoding.kind === "generate") {
    const program = manifest.programs.find((each) => each.name === decoding.program);
    found.push(program?.outputs.some((spec) => spec.name === decoding.output) ? row(decoding.output) : "the program of the loop does not give its output");
    found.push(own(manifest.text_processing, decoding.text) ? "" : "the decoding names a text processing that is not there");
  }
  yield* found.filter(Boolean);
}
