type Child = Node | string | null | undefined | false;
interface Attributes { [name: string]: string | number | boolean | null | undefined | ((event: never) => void) }

/** Make an element: `on…` are listeners, true is an attribute without a value, null and false are left out. */
export function el<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value as EventListener);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return made;
}

/** Replace what an element holds. */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
}

/** A share as a percentage that does not say 100 of 99.97. */
export const percent = (share: number): string => `${(Math.floor(1000 * share) / 10).toFixed(1)} %`;

/** Milliseconds for people. */
export const ms = (value: number): string => (value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(1)} s`);

/** Run a task of a button: the button says that it is busy, and errors go to `tell`. */
export async function busy(button: HTMLButtonElement, tell: (text: string) => void, work: () => Promise<void>): Promise<void> {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  } finally {
    button.removeAttribute("aria-busy");
  }
}
