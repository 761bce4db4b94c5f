import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

it("the examples of docs/web.md and of the README compile", { timeout: 120_000 }, () => {
  const pages = ["../../../../../docs/web.md", "../README.md"].map((path) => readFileSync(here(path), "utf8"));
  const examples = pages.flatMap((page) => Array.from(page.matchAll(/```ts\n([^]*?)```/g), ([, code]) => code ?? ""));
  expect(examples.length).toBeGreaterThanOrEqual(3);
  const folder = here("./examples");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  try {
    examples.forEach((code, n) => writeFileSync(`${folder}/example${n}.ts`, `${code}\nexport {};\n`));
    const options = { extends: "../../tsconfig.json", compilerOptions: { types: [], paths: { "edgevl-web": ["../../src/index.ts"] } }, include: ["*.ts"] };
    writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(options));
    const { status, stdout } = spawnSync(process.execPath, [here("../../../node_modules/typescript/bin/tsc"), "--noEmit", "-p", folder], { encoding: "utf8" });
    expect(stdout).toBe("");
    expect(status).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
