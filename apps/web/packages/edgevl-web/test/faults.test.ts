import { describe, expect, it } from "vitest";
import { problemsWithFault } from "./planted.js";
import type { Case } from "./replay.js";

type Kind = Case["kind"] | "beyond";

/** A fault: what is wrong, the source file, the text that is right and the one that stands there instead. */
type Fault = [name: string, file: string, right: string, wrong: string];

/** Every stage of the library, by the kind of case that must find what is wrong in it. */
const STAGES: [string, Kind, Fault[]][] = [
  ["JSON", "refuse", [["a key twice", "strict_json", "if (key in found)", "if (!found)"]]],
  ["the schema", "refuse", [
    ["not checked", "schema", `check(value, DEFINITIONS[definition] as Schema, "", null);`, ""],
  ]],
  ["files", "refuse", [
    ["digests not compared", "files", "|| (await sha256(data)) !== entry.sha256", ""],
    ["sizes and digests not compared", "files", "data.length !== entry.bytes || (await sha256(data)) !== entry.sha256", "false"],
    ["files that the manifest does not name", "bundle", "if (!listed.has(path) && !ignored)", "if (!listed)"],
    ["labels of another number", "bundle", "!whole || values.length !== spec.count", "!whole"],
  ]],
  ["rules", "refuse", [
    ["of files", "rules", "yield* fileProblems(manifest);", ""],
    ["of programs", "rules", "yield* programProblems(manifest);", ""],
    ["of tensors", "rules", "yield* tensorProblems(program);", ""],
    ["of inputs", "rules", "yield* inputProblems(program, spec, manifest);", ""],
    ["of decodings", "rules", "yield* decodingProblems(manifest);", ""],
    ["a cycle", "rules", "if (cyclic.length) yield", "if (!programs) yield"],
    ["paths that leave the folder", "paths", `["", ".", ".."].includes(part)`, "!part"],
    ["tensors of the artifact", "runtimes/onnx", "if (!same) throw", "if (!program) throw"],
    ["types of the tensors in the artifact", "runtimes/onnx", "own.get(spec.name) === `${spec.dtype} ${spec.shape.join(\" \")}`", "own.has(spec.name)"],
  ]],
  ["tokenizer files", "refuse", [
    ["a pair twice", "byte_bpe", "|| this.ranks.has(key)", ""],
    ["a byte without a symbol", "byte_bpe", "if (SYMBOLS.some(", "if (![].some("],
    ["ids of another number", "vocabulary", "|| pieces.size !== spec.vocab_size", ""],
    ["other settings", "vocabulary", "if (!fits)", "if (!wanted)"],
  ]],
  ["PNG", "pixels", [
    ["Paeth's filter", "png", "a <= b && a <= c ? left : b <= c ? up : corner", "a <= b && a <= c ? left : up"],
    ["the average filter", "png", "(at(line, x - distance) + at(above, x)) >> 1", "(at(line, x - distance) + at(above, x) + 1) >> 1"],
    ["checksums", "png", "view.getUint32(at + 8 + size) !== crc(data.subarray(at + 4, at + 8 + size))", "!view"],
    ["interlacing", "png", "(y0 + y * dy) * header.width + x0", "(y0 + y * dy) * header.width"],
    ["depths below 8", "png", "8 - depth - (bit & 7)", "bit & 7"],
    ["transparent entries of a palette", "png", "transparent[index] ?? 255", "255"],
    ["a transparent gray or color", "png", "out[to + 3] = same ? 0 : 255;", "out[to + 3] = 255;"],
    ["EXIF of a PNG", "png", "orientation: chunks.exif ? orientationOf(chunks.exif) : 1", "orientation: 1"],
    ["EXIF of a big-endian camera", "exif", "const little = order === 0x4949;", "const little = true;"],
  ]],
  ["samples", "pixels", [
    ["no orientation", "raster", "if (!(orientation >= 2 && orientation <= 8)) return picture;", "if (picture) return picture;"],
    ["mirrored the other way", "raster", "[2, 3, 6, 7].includes", "[2, 3, 5, 8].includes"],
    ["alpha on black", "raster", "value * alpha + 255 * (255 - alpha) + 127", "value * alpha + 127"],
    ["16 bits of gray cut", "raster", "Math.floor((gray + 128) / 257)", "gray >> 8"],
    ["16 bits of color rounded", "raster", "deep ? (data[from + c] as number) >> 8", "deep ? Math.round((data[from + c] as number) / 257)"],
  ]],
  ["resizing", "pixels", [
    ["another kernel", "resize", "KERNELS[kernel]), height, KERNELS[kernel]", "KERNELS.triangle), height, KERNELS.triangle"],
    ["without antialiasing", "resize", "const widened = Math.max(scale, 1);", "const widened = 1;"],
    ["squashed instead of cut", "resize", `if (geometry === "squash") return [size, size];`, "if (size) return [size, size];"],
    ["cut at the edge", "resize", "const left = Math.floor((picture.width - size) / 2);", "const left = 0;"],
    ["another gray of the letterbox", "resize", "const GRAY = 114;", "const GRAY = 0;"],
    ["rounding of integers", "resize", "const HALF = 2 ** (BITS - 1);", "const HALF = 0;"],
    ["a panorama of any length", "resize", "if (long > LONGEST * short)", "if (!short)"],
  ]],
  ["tokens", "ids", [
    ["the browser's lower case", "sets", `Array.from(text, (c) => c.toLowerCase()).join("")`, "text.toLowerCase()"],
    ["the shortest piece first", "wordpiece", "let end = word.length;\n      let id", "let end = at + 1;\n      let id"],
    ["no composed form", "byte_bpe", `lower(part.normalize("NFC"))`, "lower(part)"],
    ["special tokens in a text", "byte_bpe", "if (!this.added.size) return [text];", "if (text) return [text];"],
    ["pairs from the left", "byte_bpe", "heap.push({ rank, at,", "heap.push({ rank: at, at,"],
    ["words of bytes", "byte_bpe", `new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes))`, "String.fromCharCode(...bytes)"],
    ["words of pieces", "wordpiece", `.replaceAll(" ##", "")`, ""],
    ["truncation", "texts", "pieces.slice(0, room)", "pieces.slice(1, room + 1)"],
    ["no end of the text", "texts", "...(stop_id === null ? [] : [stop_id])", ""],
    ["an empty text", "texts", `if (!pieces.length && (this.spec.empty ?? "refuse") === "refuse")`, "if (!pieces)"],
    ["half of a surrogate pair", "texts", "if (/\\p{Cs}/u.test(text))", "if (!text)"],
    ["the mask of padding", "texts", "n < given.length ? 1 : 0", "1"],
  ]],
  ["sources", "answer", [
    ["ids instead of a mask", "runner", "codec.encode(text) : codec.mask(text)", "codec.encode(text) : codec.encode(text)"],
    ["another picture of the query", "runner", "pictures ? pictures.map((n) => item(query.pictures, n, \"picture\")) : query.pictures", "query.pictures"],
    ["another picture of a program", "runner", "item(query.pictures, from.index, \"picture\").tensor", "item(query.pictures, 0, \"picture\").tensor"],
    ["one value for all pictures", "runner", "parts.push((await this.pixels(from, query)).key)", "parts.push(0)"],
    ["one value for all texts", "runner", `from.part ?? "ids", item(query.texts, from.index, "text")`, `from.part ?? "ids"`],
    ["every value anew", "runner", "if (found) {\n      this.memory.delete(key);", "if (found && !this) {\n      this.memory.delete(key);"],
    ["every row of a batch", "runner", "all.slice(0, all.length / (spec.shape[0] as number))", "all.slice()"],
  ]],
  ["steps", "answer", [
    ["no token of the step before", "runner", "fill(loop ? loop[from.kind] : 0)", `fill(loop && from.kind === "step" ? loop.step : 0)`],
    ["no number of the step", "runner", "fill(loop ? loop[from.kind] : 0)", `fill(loop && from.kind === "token" ? loop.token : 0)`],
    ["states of the step before", "runner", "if (state) return state;", ""],
    ["the start of a state", "runner", "return from.start ? this.value(from.start, query) :", "return"],
    ["no early stop", "decodings", "if (token === decoding.stop) break;", ""],
    ["the stop in the words", "decodings", "end < 0 ? result : result.slice(0, end)", "result.slice(0, end + 1)"],
  ]],
  ["decodings", "answer", [
    ["labels in another order", "decodings", "context.labels[best(each)] as string", "context.labels[each.length - 1 - best(each)] as string"],
    ["softmax for sigmoid", "decodings", `if (activation === "sigmoid") return`, "if (!activation) return"],
    ["no bias of a product", "decodings", "(decoding.bias ?? 0)", "0"],
    ["no scale of a product", "decodings", "decoding.scale * product", "product"],
    ["corners for a center", "decodings", `format === "corners" ? [a, b, c, d]`, "format ? [a, b, c, d]"],
    ["margins", "decodings", "if (n !== first && value > second) second = value;", "if (n > first && value > second) second = value;"],
  ]],
  ["what the suite holds no case of", "beyond", [
    ["another text of the query", "runner", "texts ? texts.map((n) => item(query.texts, n, \"text\")) : query.texts", "query.texts"],
    ["of equal scores the last", "decodings", "(scores[n] as number) > (scores[place] as number)", "(scores[n] as number) >= (scores[place] as number)"],
    ["a box beyond the picture", "decodings", "Math.min(Math.max(each, 0), 1)", "each"],
  ]],
];

describe.each(STAGES)("a planted fault is found: %s", (_, kind, faults) => {
  it.each(faults)("%s", { timeout: 120_000 }, async (_name, file, right, wrong) => {
    expect(await problemsWithFault(file, right, wrong, kind)).toHaveLength(1);
  });
});
