// Changes of the form and of the draft, kept over a reload of the tab, with undo.
import { emptyHistory, noted, redone, settled, undone } from "../timeline/history.js";
import { scene, withFps } from "../timeline/script.js";
import { emptyForm } from "../composer/form.js";
import { modelOf } from "../core/state.js";
import { t } from "../core/words.js";

const KEY = "longtake.draft";

export function createDraft(app) {
  const { store } = app;

  function keep() {
    const { form, draft } = store.get();
    sessionStorage.setItem(KEY, JSON.stringify({ form, draft }));
  }

  const actions = {
    /** Take the draft of this tab from before the reload, if there is one. */
    restore() {
      try {
        const { form, draft } = JSON.parse(sessionStorage.getItem(KEY) ?? "null") ?? {};
        if (!draft?.scenes?.length) return;
        const scenes = draft.scenes.map((one) => scene(one.prompt, one.frames, one.cut, one.lora));
        store.set({ form: { ...emptyForm(), ...form }, draft: { ...draft, scenes } });
      } catch {
        sessionStorage.removeItem(KEY);
      }
    },

    setForm(fields) {
      store.set((state) => ({ form: { ...state.form, ...fields } }));
      if (fields.model) actions.followModel();
    },

    /** Count in the frames of the chosen model. */
    followModel() {
      const state = store.get();
      const model = modelOf(state);
      const fps = Number(state.form.fps) || model?.fps;
      if (fps) store.set({ draft: withFps(state.draft, fps) });
    },

    /** Change the draft's script. kind: name of a run of small changes, such as typing, that undo takes back as one. */
    setScript(script, kind = "") {
      store.set((state) => (script === state.draft ? {} : { draft: script, history: noted(state.history, state.draft, kind) }));
    },

    settle: () => store.set((state) => ({ history: settled(state.history) })),
    undo: () => step(undone),
    redo: () => step(redone),

    /** Put other settings in place of form and draft. */
    replace(form, script) {
      store.set((state) => ({ form, draft: script, history: noted(state.history, state.draft), scene: 0, open: null, live: null, view: "create" }));
      actions.followModel();
    },

    reset() {
      const fps = store.get().draft.fps;
      store.set({ form: emptyForm(), draft: { fps, endless: false, scenes: [scene(t("example"), 5 * fps)] }, history: emptyHistory(), scene: 0 });
    },
  };

  function step(way) {
    const state = store.get();
    const found = way(state.history, state.draft);
    if (found) store.set({ draft: found.value, history: found.history, scene: Math.min(state.scene, found.value.scenes.length - 1) });
  }

  store.on(["form", "draft"], keep);
  return actions;
}
