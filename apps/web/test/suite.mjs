// The conformance suite on this disk: where EDGEVL_CONFORMANCE says, or made by `edgevl`. Run by itself, as `npm test`
// does first, it makes the suite anew.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export function suiteFolder(fresh = false) {
  const given = process.env.EDGEVL_CONFORMANCE;
  if (given) return given;
  const made = join(tmpdir(), "edgevl-conformance");
  if (fresh || !existsSync(join(made, "conformance.json"))) execFileSync("edgevl", ["app", "conformance", "--out", made, "--force"], { stdio: "inherit" });
  return made;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(suiteFolder(true));
