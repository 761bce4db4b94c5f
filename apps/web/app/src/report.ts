import type { LoadedModel, Timing } from "edgevl-web";

/** The number below which a share of the values lies, between neighbors linearly. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const next = sorted[Math.min(low + 1, sorted.length - 1)] ?? 0;
  return (sorted[low] ?? 0) + (next - (sorted[low] ?? 0)) * (place - low);
}

/** What `edgevl bench` writes, of this browser: `edgevl compare` and `edgevl report` read it. */
export function benchReport(model: LoadedModel, timing: Timing, seconds: number): unknown {
  const scopes = [["model", timing.model], ["pipeline", timing.pipeline]] as const;
  return {
    schema: "edgevl.bench/1.1",
    preset: "rapid",
    machine: {
      cpu: "as the browser does not tell", cores: navigator.hardwareConcurrency, memory_gb: (navigator as { deviceMemory?: number }).deviceMemory ?? 0,
      os: platform(), python: "none: a browser", versions: { browser: navigator.userAgent, runtime: model.runtime },
      load_before: null, others_cpu: null, governor: null,
    },
    results: scopes.map(([scope, samples]) => ({
      name: `${model.manifest.name} (${model.manifest.precision})`, artifact_sha256: artifactDigest(model), runtime: model.runtime, scope, threads: model.threads,
      n: samples.length, p50_ms: percentile(samples, 0.5), p90_ms: percentile(samples, 0.9), p99_ms: percentile(samples, 0.99),
      load_ms: model.loadTimes.programs, first_ms: scope === "pipeline" ? timing.first : null, peak_mb: null, stages: {},
      samples_ms: samples.map((value) => Math.max(value, 0.001)), valid: false,
      flags: [{ code: "few_queries", text: "a look in a browser: fewer queries than a benchmark needs", invalidates: true }],
      notes: [crossOriginIsolated ? "times to 5 µs" : "the page is not cross-origin isolated: times to 100 µs, one thread"],
    })),
    ratios: [],
    seconds,
  };
}

/** Of one artifact its digest; of several it would be that of a list, which only `edgevl` makes. */
function artifactDigest({ manifest }: LoadedModel): string | null {
  const [only, ...others] = manifest.programs;
  return only && !others.length ? (manifest.files[only.artifact]?.sha256 ?? null) : null;
}

function platform(): string {
  const data = (navigator as { userAgentData?: { platform?: string } }).userAgentData;
  return data?.platform ?? "as the browser does not tell";
}
