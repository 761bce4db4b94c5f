// The conformance suite on this disk: where EDGEVL_CONFORMANCE says, or made by `edgevl`. Run by itself, as `npm test`
// does first, it makes the suite anew.
import { execFileSync, spawnSync } from "node:child_process";
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

/** The embedded model for LiteRT: where EDGEVL_LITERT says, or exported once; null where edgevl cannot. */
export function liteRtBundle(fresh = false) {
  const made = process.env.EDGEVL_LITERT ?? join(tmpdir(), "edgevl-nano-litert-fp32.edgevl");
  if (existsSync(join(made, "manifest.json")) && (!fresh || process.env.EDGEVL_LITERT)) return made;
  const { status } = spawnSync("edgevl", ["export", "--target", "litert", "--out", made, "--force"], { stdio: ["ignore", "ignore", "inherit"] });
  if (status === 3) return null;
  if (status) throw new Error("edgevl export --target litert failed");
  return made;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(suiteFolder(true), liteRtBundle(true) ?? "");
