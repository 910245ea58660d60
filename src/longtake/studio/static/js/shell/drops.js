// Files that are dropped or pasted anywhere: a video restores its settings, an image becomes the first frame, a script opens.
import { failed, toast } from "../core/toasts.js";
import { t } from "../core/words.js";
import { takeImage } from "../composer/images.js";

export function startDrops(app) {
  const veil = document.getElementById("drop");
  let inside = 0;
  const show = (on) => {
    if (on) {
      const line = document.createElement("p");
      line.textContent = t("dropFile");
      veil.replaceChildren(line);
    }
    veil.classList.toggle("shown", on);
  };
  app.dropEnded = () => {
    inside = 0;
    show(false);
  };
  const files = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    inside += 1;
    if (!event.target.closest?.(".drop")) show(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (files(event) && (inside -= 1) <= 0) app.dropEnded();
  });
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    app.dropEnded();
    take(app, event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    takeImage(app, file, app.store.get().form.first ? "last" : "first");
  });
}

async function take(app, file) {
  if (!file) return;
  if (file.type.startsWith("image/")) return takeImage(app, file, "first");
  if (/\.(toml|txt)$/.test(file.name)) return app.timeline.importFile(file);
  try {
    const { form, script } = await app.videos.inspect(file, app.store.get().form);
    app.draft.replace(form, script);
    toast(t("settingsRestored", { name: file.name }), { kind: "good" });
  } catch (error) {
    failed(error);
  }
}
