// A modal dialog: the browser's own, so that focus and Esc work as everywhere.
import { html, render } from "../core/dom.js";
import { icon } from "../core/icons.js";
import { t } from "../core/words.js";

let count = 0;

/**
 * Open a dialog and draw its body; `body(close, redraw)` returns a template. Returns a promise of what `close` is given.
 * @param {string} title
 * @param {{kind?: string, body: Function, foot?: Function, onClose?: Function}} parts
 */
export function openDialog(title, { kind = "", body, foot = null, onClose = () => {} }) {
  const dialog = document.createElement("dialog");
  dialog.className = kind;
  const name = `dialog-${(count += 1)}`;
  dialog.setAttribute("aria-labelledby", name);
  dialog.setAttribute("autofocus", ""); // the dialog itself, so that no button looks chosen
  document.getElementById("dialogs").append(dialog);
  let result = null;
  const close = (value = null) => {
    result = value;
    dialog.close();
  };
  const redraw = () => {
    render(html`
      <header><h2 id=${name}>${title}</h2><button class="tool only" aria-label=${t("close")} @click=${() => close()}>${icon("close", "small")}</button></header>
      <div class="body">${body(close, redraw, dialog)}</div>
      ${foot ? html`<footer>${foot(close)}</footer>` : ""}`, dialog);
  };
  redraw();
  dialog.showModal();
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  return new Promise((done) => dialog.addEventListener("close", () => {
    onClose();
    dialog.remove();
    done(result);
  }));
}

/** Ask a question that has one dangerous answer. */
export function confirm(question, answer) {
  return openDialog(question, {
    body: () => "",
    foot: (close) => html`<button @click=${() => close(false)}>${t("cancel")}</button><button class="danger" autofocus @click=${() => close(true)}>${answer}</button>`,
  });
}
