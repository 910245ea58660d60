// What every view draws with: lit-html's templates, and a drawing that waits for the next frame of the screen.
import { html, nothing, render, svg } from "../../vendor/lit-html.js";

export { html, nothing, render, svg };

/**
 * Return a function that draws at most once in `wait` milliseconds, and never misses the last call.
 * @param {() => void} draw
 * @param {number} wait
 */
export function throttled(draw, wait = 0) {
  let timer = 0;
  let last = -Infinity;
  return () => {
    if (timer) return;
    const left = Math.max(0, wait - (performance.now() - last));
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      draw();
    }, left);
  };
}

/** Return the string of class names whose condition holds. */
export function classes(names) {
  return Object.keys(names).filter((name) => names[name]).join(" ");
}

/** Whether an element takes typed text, so that keys of the page must leave it alone. */
export function takesText(element) {
  return !!element && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
}

/** Give a file to the user under a name. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Set custom properties of CSS on an element; an attribute `style` would break the page's content policy. */
export function place(element, values) {
  for (const [name, value] of Object.entries(values)) element.style.setProperty(name, value);
}
