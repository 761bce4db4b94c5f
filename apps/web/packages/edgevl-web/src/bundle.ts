import { refused } from "./errors.js";
import { CheckedFiles, FilesSource, type FileSource, UrlSource } from "./files.js";
import type { Manifest } from "./manifest.js";
import { checkManifest } from "./rules.js";
import { type Json, parseJson } from "./strict_json.js";
import { TextCodec } from "./texts.js";

/** An address, files that were picked or dropped, or a source of your own. */
export type BundleSource = string | URL | Iterable<File> | ReadonlyMap<string, Blob> | FileSource;

const MAX_MANIFEST = 16 * 2 ** 20;
const MAX_LABEL = 2000;

/** A bundle whose manifest keeps every rule, and whose every file that is read has the digest in it. */
export class Bundle {
  private constructor(
    readonly manifest: Manifest,
    readonly files: CheckedFiles,
    readonly labels: string[],
    readonly texts: ReadonlyMap<string, TextCodec>,
  ) {}

  /**
   * Read and check a bundle: its manifest, tokenizers and labels. Artifacts are read, and checked, when a runtime opens
   * them. Throws `EdgeVLError`.
   *
   * keep: hold files in the browser's cache, by digest.
   */
  static async open(from: BundleSource, { keep = true }: { keep?: boolean } = {}): Promise<Bundle> {
    const source = sourceOf(from);
    const data = await source.read("manifest.json");
    if (data.length > MAX_MANIFEST) throw refused("manifest.json has more than 16 MiB");
    const manifest = checkManifest(parseJson(data, "manifest.json"));
    checkList(source, manifest);
    const files = new CheckedFiles(source, manifest.files, keep);
    const json = async (path: string): Promise<Json> => parseJson(await files.read(path), path);
    const labels = manifest.labels ? labelsOf(await json(manifest.labels.file), manifest.labels) : [];
    const texts = new Map<string, TextCodec>();
    for (const [name, spec] of Object.entries(manifest.text_processing)) texts.set(name, new TextCodec(spec, await json(spec.file)));
    return new Bundle(manifest, files, labels, texts);
  }

  /** Read and check every file. Throws `EdgeVLError` for the first that is missing or not what the manifest says. */
  async checkFiles(): Promise<void> {
    for (const path of Object.keys(this.manifest.files)) await this.files.read(path);
  }
}

function sourceOf(from: BundleSource): FileSource {
  if (typeof from === "string" || from instanceof URL) return new UrlSource(from);
  if (from instanceof Map || Symbol.iterator in from) return new FilesSource(from as Iterable<File>);
  return from;
}

function checkList(source: FileSource, manifest: Manifest): void {
  const listed = new Set([...Object.keys(manifest.files), "manifest.json", "README.md"]);
  for (const path of source.list?.() ?? []) {
    const ignored = path.split("/").pop() === ".DS_Store" || /^\.(manifest\.json|README\.md)\.tmp-[0-9]+-[0-9a-f]+$/.test(path);
    if (!listed.has(path) && !ignored) throw refused("the bundle holds a file that the manifest does not name");
  }
}

function labelsOf(values: Json, spec: { file: string; count: number }): string[] {
  const whole = Array.isArray(values) && values.every((label) => typeof label === "string" && Array.from(label).length <= MAX_LABEL);
  if (!whole || values.length !== spec.count) throw refused(`${spec.file} does not hold ${spec.count} labels`);
  return values as string[];
}
