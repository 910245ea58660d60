// Short messages at the foot of the page, and the one polite region that a screen reader follows.
import { t } from "./words.js";
import { html, nothing, render } from "./dom.js";
import { icon } from "./icons.js";

const ICONS = { good: "check", bad: "warning", plain: "info" };
let shown = [];
let count = 0;

function draw() {
  const close = (one) => () => dismiss(one.key);
  render(
    shown.map((one) => html`
      <div class="toast ${one.kind}" role=${one.kind === "bad" ? "alert" : nothing}>
        ${icon(ICONS[one.kind])}
        <div><p class="head">${one.text}</p>${one.more ? html`<p class="dim">${one.more}</p>` : nothing}</div>
        ${one.action ? html`<button @click=${() => { one.action.run(); dismiss(one.key); }}>${one.action.label}</button>` : nothing}
        <button class="tool only" aria-label=${t("close")} @click=${close(one)}>${icon("close", "small")}</button>
      </div>`),
    document.getElementById("toasts"),
  );
}

export function dismiss(key) {
  shown = shown.filter((one) => one.key !== key);
  draw();
}

/** Show a message for some seconds; one of the kind "bad" stays longer. Returns its key. */
export function toast(text, { kind = "plain", more = "", action = null, seconds = kind === "bad" ? 12 : 5, same = "" } = {}) {
  const key = same || `t${(count += 1)}`;
  shown = [...shown.filter((one) => one.key !== key), { key, text, kind, more, action }].slice(-3);
  draw();
  setTimeout(() => dismiss(key), seconds * 1000);
  if (kind !== "bad") announce(text);
  return key;
}

/** Show an error of a request in words. */
export function failed(error, more = "") {
  if (error.name === "AbortError") return;
  if (error.status === 0) toast(t("eUnreachable"), { kind: "bad", same: "unreachable" });
  else toast(error.message, { kind: "bad", more });
  if (error.status === undefined) console.error(error);
}

/** Say something to a screen reader. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
