import { busy, el, fill, ms } from "./dom.js";
import type { View } from "./view.js";

/** Replay the golden cases: does this browser compute what training computed? */
export const checkView: View = ({ model }) => {
  const result = el("div", { "aria-live": "polite" });
  const button = el("button", { type: "button", class: "primary", onclick: () => void busy(button, (text) => fill(result, el("p", { class: "error" }, text)), async () => {
    fill(result, el("p", {}, "Reading every file, replaying every case …"));
    const begin = performance.now();
    await model.checkFiles();
    const { total, passed, problems } = await model.replayGolden();
    const fine = passed === total;
    fill(result,
      el("p", { class: fine ? "fine" : "error" }, fine ? `All ${total} golden cases pass.` : `${total - passed} of ${total} golden cases fail.`),
      problems.length ? el("ul", {}, ...problems.map((problem) => el("li", {}, problem))) : null,
      el("p", { class: "times" }, `every file has its digest; ${ms(performance.now() - begin)}`));
  }) }, "Replay the golden cases");
  const { manifest } = model;
  const rows: [string, string][] = [
    ["Model", manifest.name], ["Target", `${manifest.target}, ${manifest.precision}`], ["Programs", manifest.programs.map((each) => each.name).join(", ")],
    ["Decoding", manifest.decoding.kind], ["Runtime", `${model.runtime}, ${model.threads} thread${model.threads > 1 ? "s" : ""}`],
    ["License of the weights", manifest.license], ["Opened in", `${ms(model.loadTimes.bundle)} bundle, ${ms(model.loadTimes.programs)} model`],
  ];
  return el("section", { "aria-label": "Check" }, el("h1", {}, "Does it compute what training computed?"),
    el("p", {}, "The bundle holds pictures and texts with the pixels, token ids and values that belong to them. They are computed here and compared."),
    button, result,
    el("h2", {}, "The bundle"), el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
};
