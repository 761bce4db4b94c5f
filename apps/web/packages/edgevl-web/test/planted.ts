// A copy of the library with a fault in it, beside it: text of one source file is replaced, and the copy replays the suite.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { read, source, suite } from "./node.js";
import type { Case, Options } from "./replay.js";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
let copies = 0;

/** Return the first problem of the cases of one kind, or all of `beyond`, in a copy where `right` stands as `wrong`. */
export async function problemsWithFault(file: string, right: string, wrong: string, kind: Case["kind"] | "beyond"): Promise<string[]> {
  const copy = here(`../../planted-${copies++}`);
  mkdirSync(copy, { recursive: true });
  try {
    cpSync(here("../src"), `${copy}/src`, { recursive: true });
    mkdirSync(`${copy}/test`);
    for (const name of ["replay", "beyond"]) cpSync(here(`./${name}.ts`), `${copy}/test/${name}.ts`);
    const path = `${copy}/src/${file}.ts`;
    const parts = readFileSync(path, "utf8").split(right);
    if (parts.length !== 2) throw new Error(`src/${file}.ts holds ${parts.length - 1} times: ${right}`);
    writeFileSync(path, parts.join(wrong));
    const { onnxRuntime } = (await import(`${copy}/src/runtimes/onnx.ts`)) as { onnxRuntime: (given: object) => Options["runtime"] };
    const options: Options = { suite, read, source, runtime: onnxRuntime({ assets: "", threads: 1 }), platform: false, first: true };
    if (kind === "beyond") return await ((await import(`${copy}/test/beyond.ts`)) as typeof import("./beyond.js")).beyond();
    return (await ((await import(`${copy}/test/replay.ts`)) as typeof import("./replay.js")).replay({ ...options, only: [kind] })).problems;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
