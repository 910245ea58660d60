// What is done with videos: make, open, stop, resume, delete, make again, extend.
import { randomSeed, requestOf, isReady } from "../composer/form.js";
import { isMaking, modelOf, openVideo } from "../core/state.js";
import { failed, toast } from "../core/toasts.js";
import { t } from "../core/words.js";

const UNDO = 10; // seconds in which a deleted video can be brought back

export function createRuns(app) {
  const { store, videos } = app;

  const known = (video) => store.set((state) => ({ videos: { ...state.videos, [video.id]: video }, listed: state.listed.includes(video.id) ? state.listed : [video.id, ...state.listed] }));
  const attempt = async (work) => {
    try {
      return await work();
    } catch (error) {
      failed(error);
      return null;
    }
  };

  const actions = {
    known,

    /** Send the form. The first of the new videos opens. */
    async make() {
      const { form, draft } = store.get();
      if (!isReady(draft)) return;
      const made = await attempt(() => videos.create(requestOf(form, draft, modelOf(store.get()))));
      if (!made) return;
      known(made);
      if (!form.lockSeed) app.draft.setForm({ seed: randomSeed() });
      await app.refresh();
      if (form.variations > 1) app.show("library");
      else if (isMaking(openVideo(store.get()))) toast(t("making"), { kind: "good" });
      else actions.open(made.id);
    },

    /** Open a video in the viewer; null: the draft. */
    open(id) {
      const video = id ? store.get().videos[id] : null;
      store.set({ open: video ? id : null, view: "create", scene: 0, live: null, marks: { from: null, to: null, loop: false } });
      history.replaceState(null, "", video ? `#${id}` : "#");
      app.showVideo();
      app.live.load();
    },

    stop: (id) => attempt(async () => known(await videos.stop(id))),
    resume: (id) => attempt(async () => known(await videos.resume(id))),
    moveTo: (id, place) => attempt(async () => {
      await videos.moveTo(id, place);
      await app.refresh();
    }),

    /** Delete at once, with ten seconds to undo; one that is being made asks first. */
    async remove(id) {
      const video = store.get().videos[id];
      if (isMaking(video) && !(await app.dialogs.confirm(t("deleteRunning"), t("deleteIt")))) return;
      const done = await attempt(() => videos.remove(id).then(() => true));
      if (!done) return;
      actions.forget(id);
      const undo = () => attempt(async () => known(await videos.restore(id)));
      toast(t("deleted"), { more: video.prompt, seconds: UNDO, action: { label: t("restore"), run: undo } });
    },

    forget(id) {
      if (store.get().open === id) actions.open(null);
      store.set((state) => {
        const { [id]: gone, ...rest } = state.videos;
        return { videos: rest, listed: state.listed.filter((one) => one !== id), chosen: state.chosen.filter((one) => one !== id) };
      });
    },

    star: (id) => attempt(async () => known(await videos.star(id, !store.get().videos[id].starred))),

    /** Put the settings of a video into the form. */
    useSettings: (id) => attempt(async () => {
      const { form, script } = await videos.settings(id, store.get().form);
      app.draft.replace(form, script);
      app.showVideo();
      toast(t("settingsRestored", { name: store.get().videos[id]?.prompt ?? id }), { kind: "good" });
    }),

    /** Make the same again with another seed. */
    again: (id) => attempt(async () => {
      const { form, script } = await videos.settings(id, store.get().form);
      const made = await videos.create(requestOf({ ...form, seed: randomSeed(), variations: 1 }, script, modelOf(store.get(), form.model)));
      known(made);
      toast(t("making"), { kind: "good", action: { label: t("open"), run: () => actions.open(made.id) } });
    }),

    extend: (id, prompt, seconds) => attempt(async () => {
      const made = await videos.extend(id, prompt, seconds);
      known(made);
      actions.open(made.id);
    }),

    choose(id) {
      store.set((state) => ({ chosen: state.chosen.includes(id) ? state.chosen.filter((one) => one !== id) : [...state.chosen, id].slice(-2) }));
    },
  };
  return actions;
}
