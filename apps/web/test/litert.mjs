// LiteRT.js where it is special: a browser without relaxed SIMD, and WebGPU, which is taken only if it is right and faster.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./browser.mjs";

// SwiftShader computes Vulkan, and so WebGPU, on the processor: every number is real, and it is never faster.
const WEBGPU = ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-vulkan=swiftshader"];

/** Copy the runtimes, with a worker whose browser refuses relaxed SIMD, as some do: 0xfd is the prefix of SIMD. */
export function withoutRelaxedSimd(from, to) {
  cpSync(from, to, { recursive: true });
  const path = join(to, "worker-litert.js");
  const refuse = `{ const real = WebAssembly.instantiate;
    WebAssembly.instantiate = (code, ...more) => (code.length < 100 && code.includes(0xfd) ? Promise.reject(new Error("no relaxed SIMD")) : real(code, ...more)); }\n`;
  writeFileSync(path, refuse + readFileSync(path, "utf8"));
}

export async function testLiteRt(check, server) {
  const old = await inWorker(server, [], { threads: 2, assets: "/old/" });
  check("LiteRT without relaxed SIMD: one thread, every golden case", old.threads === 1 && all(old) && /compat/.test(old.loaded), said(old));
  const none = await inWorker(server, [], { webgpu: true });
  check("WebGPU is asked for where there is none", none.tried === "WebGPU is not used: this browser has no WebGPU" && all(none), said(none));
  const slow = await inWorker(server, WEBGPU, { webgpu: true });
  check("WebGPU passes the golden cases, and is not taken where it is slower", /not used: [\d.]+ ms for an answer, [\d.]+ ms without/.test(slow.tried) && slow.runtime === "LiteRT.js", said(slow));
}

const all = ({ golden }) => golden.total > 0 && golden.passed === golden.total;
const said = ({ golden, threads, tried, loaded }) => `${golden.passed} of ${golden.total} golden cases, ${threads} threads, ${loaded}${tried ? `, ${tried}` : ""}`;

async function inWorker(server, flags, options) {
  const browser = await launch(...flags);
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}/page/`);
    await page.waitForFunction(() => "edgevlTest" in globalThis);
    const before = server.requests.length;
    const found = await page.evaluate((given) => globalThis.edgevlTest.inWorker("/litert/", given), options);
    const loaded = server.requests.slice(before).filter((path) => path.endsWith(".wasm")).map((path) => path.split("/").pop()).join(" ");
    return { ...found, loaded };
  } finally {
    await browser.close();
  }
}
