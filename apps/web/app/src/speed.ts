import { busy, el, fill, ms } from "./dom.js";
import { benchReport, percentile } from "./report.js";
import { typingFrames } from "./search.js";
import type { View } from "./view.js";

const QUERIES = 50;

/** Time the model in this browser, and offer the numbers as `edgevl bench` writes them. */
export const speedView: View = ({ model }) => {
  const result = el("div", { "aria-live": "polite" });
  const button = el("button", { type: "button", class: "primary", onclick: () => void busy(button, (text) => fill(result, el("p", { class: "error" }, text)), async () => {
    fill(result, el("p", {}, `Asking ${2 * QUERIES + 1} times …`));
    const begin = performance.now();
    const timing = await model.bench(QUERIES);
    const frames = model.manifest.decoding.kind === "rank" ? await typingFrames(model) : null;
    const report = benchReport(model, timing, (performance.now() - begin) / 1000);
    const file = URL.createObjectURL(new Blob([JSON.stringify(report, null, 1)], { type: "application/json" }));
    const row = (name: string, values: number[]): HTMLElement => el("tr", {}, el("th", { scope: "row" }, name),
      ...[0.5, 0.9, 0.99].map((share) => el("td", {}, ms(percentile(values, share)))));
    fill(result,
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Times" }, el("table", {},
        el("caption", {}, `${model.runtime}, ${model.threads} thread${model.threads > 1 ? "s" : ""}, ${QUERIES} queries`),
        el("thead", {}, el("tr", {}, ...["", "median", "90 %", "99 %"].map((name) => name ? el("th", { scope: "col" }, name) : el("td", {})))),
        el("tbody", {}, row("the model alone", timing.model), row("picture and words to answer", timing.pipeline),
          frames && row("between frames, while typing over 1 000 pictures", frames)))),
      el("p", { class: "times" }, `first answer ${ms(timing.first)}; opened in ${ms(model.loadTimes.bundle + model.loadTimes.programs)}`),
      el("a", { class: "button", href: file, download: `${model.manifest.name}-browser-bench.json` }, "Save as JSON of edgevl bench"));
  }) }, "Measure");
  return el("section", { "aria-label": "Speed" }, el("h1", {}, "How fast is it here?"), el("p", {}, "Close other tabs first: they take from the same cores."), button, result);
};
