// First and last image: by drop, paste or choice. The crop that the size makes of an image is shown.
import { html, nothing } from "../core/dom.js";
import { icon } from "../core/icons.js";
import { t } from "../core/words.js";
import { failed } from "../core/toasts.js";
import { askedSize, crop } from "./form.js";

const TYPES = "image/png,image/jpeg,image/webp";
const pictures = new Map(); // id of an upload -> ImageBitmap, to draw it again

export function imagesView(app, state, model) {
  if (!model || model.image === "no") return nothing;
  const slots = model.lastImage ? ["first", "last"] : ["first"];
  return html`
    <div class="field">
      <div class="drops">${slots.map((slot) => slotView(app, state, model, slot))}</div>
      ${cropNote(state, model)}
      ${model.image === "needed" && !state.form.first ? html`<p class="note warn">${icon("info")}${t("needsImage")}</p>` : nothing}
    </div>`;
}

function slotView(app, state, model, slot) {
  const image = state.form[slot];
  const name = t(slot === "first" ? "firstImage" : "lastImage");
  const choose = (event) => {
    takeImage(app, event.target.files[0], slot);
    event.target.value = "";
  };
  const drop = (event) => {
    event.preventDefault();
    event.stopPropagation();
    event.currentTarget.classList.remove("over");
    app.dropEnded();
    takeImage(app, event.dataTransfer.files[0], slot);
  };
  const over = (on) => (event) => {
    event.preventDefault();
    event.currentTarget.classList.toggle("over", on);
  };
  return html`
    <div class="drop ${image ? "filled" : ""}" @dragover=${over(true)} @dragleave=${over(false)} @drop=${drop}>
      ${image ? html`<canvas width="280" height="176" data-image=${image.id}></canvas><span class="name">${name}</span>` : html`<span>${icon("image")}<b>${name}</b>${t("dropImage")}</span>`}
      <input type="file" accept=${TYPES} aria-label=${name} @change=${choose}>
      ${image ? html`<button type="button" class="clear" aria-label=${t("removeImage", { name })} @click=${() => clear(app, slot)}>${icon("close", "small")}</button>` : nothing}
    </div>`;
}

function clear(app, slot) {
  const { form } = app.store.get();
  const size = slot === "first" && form.size.kind === "image" ? { kind: "own", width: null, height: null } : form.size;
  app.draft.setForm({ [slot]: null, size });
}

function cropNote(state, model) {
  const image = state.form.first;
  if (!image) return nothing;
  const [width, height] = askedSize(state.form, model) ?? (model.size ? [model.size[1], model.size[0]] : [image.width, image.height]);
  requestAnimationFrame(() => drawAll(state, width / height));
  const [, , wide, high] = crop(image, width / height);
  const whole = Math.abs(wide - image.width) < 2 && Math.abs(high - image.height) < 2;
  return whole ? nothing : html`<p class="note">${icon("info")}${t("cropped", { size: `${width}×${height}` })}</p>`;
}

/** Draw each image with the part dimmed that the video will not show. */
function drawAll(state, aspect) {
  for (const canvas of document.querySelectorAll("#composer canvas[data-image]")) {
    const image = [state.form.first, state.form.last].find((one) => one?.id === canvas.dataset.image);
    const picture = pictures.get(canvas.dataset.image);
    if (image && picture) drawImage(canvas, picture, aspect);
  }
}

function drawImage(canvas, picture, aspect) {
  const pen = canvas.getContext("2d");
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const [left, top] = [(canvas.width - width) / 2, (canvas.height - height) / 2];
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.globalAlpha = 0.3;
  pen.drawImage(picture, left, top, width, height);
  pen.globalAlpha = 1;
  const [x, y, w, h] = crop(picture, aspect);
  pen.drawImage(picture, x, y, w, h, left + x * scale, top + y * scale, w * scale, h * scale);
}

/** Upload an image and put it into a slot; the first image decides the aspect of the video. */
export async function takeImage(app, file, slot = "first") {
  if (!file) return;
  try {
    const picture = await createImageBitmap(file);
    const upload = await app.videos.upload(file);
    pictures.set(upload.id, picture);
    const image = { id: upload.id, name: file.name, width: picture.width, height: picture.height };
    const { form } = app.store.get();
    app.draft.setForm({ [slot]: image, ...(slot === "first" && form.size.kind !== "preset" ? { size: { kind: "image", width: null, height: null } } : {}) });
  } catch (error) {
    failed(error);
  }
}
