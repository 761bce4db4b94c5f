import { type Answer, boxOnPicture } from "edgevl-web";
import { takePhoto } from "./camera.js";
import { busy, el, fill, ms, percent } from "./dom.js";
import { picturesNeeded, readsTexts, type Shared, type View } from "./view.js";

/** Choose a picture, ask, read the answer. */
export const askView: View = (shared) => {
  const { model } = shared;
  const needed = Math.max(1, picturesNeeded(model));
  const ranks = model.manifest.decoding.kind === "rank";
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const answers = el("ol", { class: "answers", "aria-label": "Answers", "aria-live": "polite" });
  const tell = (text: string): void => {
    error.textContent = text;
    error.hidden = !text;
  };
  const slots = Array.from({ length: needed }, (_, n) => pictureSlot(shared, n, needed, tell));
  const question = el("input", { type: "text", id: "question", name: "question", autocomplete: "off", enterkeyhint: "send", maxlength: 500,
    placeholder: ranks ? "a red car, a green tree" : "what color is the car?" });
  const button = el("button", { type: "submit", class: "primary" }, readsTexts(model) ? "Ask" : "Look");
  const suggestions = el("div", { class: "chips" }, ...shared.examples.slice(0, 4).filter(({ text }) => text).map(({ picture, text }) =>
    el("button", { type: "button", class: "chip", onclick: () => {
      if (needed === 1) slots[0]?.set(picture); // the question is about this one
      question.value = text;
      form.requestSubmit();
    } }, text)));
  const form = el("form", { class: "question", onsubmit: (event: Event) => {
    event.preventDefault();
    void busy(button, tell, async () => {
      tell("");
      const pictures = slots.map((slot) => slot.picture());
      if (pictures.some((picture) => picture === null)) throw new Error(needed > 1 ? `Choose ${needed} pictures first.` : "Choose a picture first.");
      const text = question.value.trim();
      if (readsTexts(model) && !text) throw new Error(ranks ? "Name two things or more, with commas between." : "Type a question first.");
      const texts = !readsTexts(model) ? [] : ranks ? text.split(",").map((each) => each.trim()).filter(Boolean) : [text];
      const [answer] = await model.ask(pictures as Blob[], texts);
      if (answer) show(answers, text, answer, (box) => slots[0]?.mark(box));
    });
  } },
    readsTexts(model) && el("label", { for: "question" }, ranks ? "What may it be? With commas between" : "Your question"),
    el("div", { class: "row" }, readsTexts(model) && question, button),
    suggestions.childElementCount ? suggestions : null,
  );
  return el("section", { class: "ask", "aria-label": "Ask about a picture" },
    el("h1", {}, "Ask about a picture"),
    el("div", { class: "columns" }, el("div", { class: "slots" }, ...slots.map((slot) => slot.element)), el("div", {}, form, error, answers)));
};

function show(list: HTMLElement, question: string, answer: Answer, mark: (box: number[] | null) => void): void {
  mark(answer.box);
  const { decode, resize, model } = answer.times;
  const bars = answer.scores.map(({ label, share }) => {
    const bar = el("meter", { min: 0, max: 1, value: share.toFixed(4), "aria-label": `${label}: ${percent(share)}` });
    return el("li", {}, el("span", { class: "label" }, label), bar, el("span", { class: "number" }, percent(share)));
  });
  const card = el("li", { class: "card" },
    el("p", { class: "asked" }, question || "What is it?"),
    el("p", { class: "answer" }, answer.answer),
    bars.length ? el("ul", { class: "bars", "aria-label": "How sure" }, ...bars) : null,
    el("p", { class: "times" }, `decoded in ${ms(decode)}, resized in ${ms(resize)}, answered in ${ms(model)}`));
  list.prepend(card);
  card.scrollIntoView({ block: "nearest" }); // on a phone it lies below
  while (list.childElementCount > 20) list.lastElementChild?.remove();
}

interface Slot {
  element: HTMLElement;
  picture: () => Blob | null;
  set: (picture: Blob) => void;
  mark: (box: number[] | null) => void;
}

function pictureSlot(shared: Shared, number: number, count: number, tell: (text: string) => void): Slot {
  const preview = el("div", { class: "preview" });
  const name = count > 1 ? `picture ${number + 1}` : "picture";
  let address = "";
  const set = (blob: Blob | undefined): void => {
    if (!blob) return;
    if (!blob.type.startsWith("image/")) {
      tell("This file is no picture.");
      return;
    }
    tell("");
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(blob);
    shared.pictures[number] = blob;
    const frame = el("div", { class: "frame" }, el("img", { src: address, alt: `The ${name} that was chosen`, onload: (event: Event) => {
      const { naturalWidth, naturalHeight } = event.target as HTMLImageElement;
      frame.style.setProperty("--ratio", String(naturalWidth / naturalHeight));
    } }), el("div", { class: "box", hidden: true }));
    fill(preview, frame);
  };
  const choose = (label: string, capture: boolean): HTMLElement => {
    const input = el("input", { type: "file", accept: "image/*", capture: capture && "environment", class: "visually-hidden", onchange: () => set(input.files?.[0]) });
    return el("label", { class: "button" }, input, label);
  };
  // A phone opens its camera for `capture`; a computer would show its files, so there the page shows the camera itself.
  const hand = matchMedia("(pointer: coarse)").matches;
  const take = hand ? choose("Take a photo", true) : el("button", { type: "button", onclick: () => void takePhoto().then((photo) => photo && set(photo), (error: unknown) => tell(error instanceof Error ? error.message : String(error))) }, "Take a photo");
  const examples = shared.examples.slice(0, 4).map(({ picture }, n) => {
    const src = URL.createObjectURL(picture);
    return el("button", { type: "button", class: "thumb", "aria-label": `Example ${n + 1}`, onclick: () => set(picture) }, el("img", { src, alt: "" }));
  });
  const element = el("div", { class: "slot", ondragover: (event: DragEvent) => event.preventDefault(), ondrop: (event: DragEvent) => {
    event.preventDefault();
    event.stopPropagation();
    set(event.dataTransfer?.files[0]);
  } },
    preview,
    el("div", { class: "row pick" }, choose(`Choose a ${name}`, false), take),
    examples.length ? el("div", { class: "thumbs" }, ...examples) : null);
  fill(preview, el("p", { class: "hint" }, `Drop a ${name} here`));
  set(shared.pictures[number] ?? shared.examples[number]?.picture);
  const mark = (box: number[] | null): void => {
    const frame = preview.querySelector<HTMLElement>(".box");
    if (!frame) return;
    frame.hidden = !box;
    const image = preview.querySelector("img");
    const processing = Object.values(shared.model.manifest.image_processing)[0];
    if (!box || !image || !processing) return;
    const [left, top, right, bottom] = boxOnPicture(box, { width: image.naturalWidth, height: image.naturalHeight }, processing) as [number, number, number, number];
    frame.style.setProperty("inset", `${100 * top}% ${100 * (1 - right)}% ${100 * (1 - bottom)}% ${100 * left}%`);
  };
  return { element, set, picture: () => shared.pictures[number] ?? null, mark };
}
