// Keeps the page equal to the server: the first load, every event, and what to do when the server went and came back.
import { isMaking, lengths, openVideo } from "../core/state.js";
import { failed, toast } from "../core/toasts.js";
import { t } from "../core/words.js";

const RELOOK = ["state", "window_started", "window_done", "scene_changed"]; // after these the script may differ
const LOOK = 250; // milliseconds between two looks at what events changed for the player

export function createSync(app) {
  const { store } = app;
  let last = null; // id of the oldest video that was listed

  async function facts() {
    const asked = [app.videos.models(), app.videos.loras(), app.videos.studio()];
    const [models, loras, studio] = (await Promise.allSettled(asked)).map((one) => one.value);
    store.set({ models: models ?? [], loras: loras ?? [], ...(studio ?? {}) });
    app.draft.followModel();
  }

  const sync = {
    loadModels: () => app.videos.models().then((models) => store.set({ models }), failed),

    /** Load everything again: after the start, and after the server came back. */
    async refresh() {
      const page = await app.videos.list();
      last = page.last;
      const videos = Object.fromEntries(page.videos.map((one) => [one.id, one]));
      store.set((state) => ({ videos: page.more ? { ...state.videos, ...videos } : videos, listed: page.videos.map((one) => one.id), more: page.more, loaded: true }));
      if (!store.get().models.length) await facts();
      sync.follow();
    },

    async loadMore() {
      try {
        const page = await app.videos.list(last);
        last = page.last;
        const videos = Object.fromEntries(page.videos.map((one) => [one.id, one]));
        store.set((state) => ({ videos: { ...state.videos, ...videos }, listed: [...state.listed, ...page.videos.map((one) => one.id)], more: page.more }));
      } catch (error) {
        failed(error);
      }
    },

    alive(alive) {
      const { gone } = store.get();
      if (gone === !alive) return;
      store.set({ gone: !alive });
      if (!alive) return;
      toast(t("back"), { kind: "good" });
      sync.refresh().then(() => {
        app.live.load();
        if (app.player.feed) app.player.feed.resume();
      }, failed);
    },

    onEvent(name, data, applied) {
      if (name === "reset") sync.refresh().catch(failed);
      if (name === "state" && !data.video) return app.runs.forget(data.id);
      const before = openVideo(store.get());
      store.set((state) => applied(state, name, data, performance.now()));
      if (name === "step_done") app.previews.stepped(data.id);
      if (name === "model") sync.loadModels();
      if (data.id && data.id === store.get().open && (RELOOK.includes(name) || (name === "step_done" && data.step === 1))) relook();
      if (name === "state" || name === "segment_written") sync.follow(before);
      return null;
    },


    /** Show the open video in the player, from the stream while it is being made. */
    showVideo() {
      const video = openVideo(store.get());
      if (!video) return app.player.close();
      const running = isMaking(video) || video.status === "queued";
      const { fps, made, whole } = lengths(store.get());
      app.player.setLengths(made, whole);
      if (video.made > 0) {
        const at = running ? Math.max(0, made - 1) : 0;
        app.player.open({ id: video.id, fps, running, at: running ? at : 0, play: true });
      } else app.player.close();
      return null;
    },

    /** Tell the player what events changed: the first frames, more frames, the end. */
    follow(before = null) {
      const video = openVideo(store.get());
      if (!video) return;
      const { fps, made, whole } = lengths(store.get());
      app.player.setLengths(made, whole);
      app.player.marks = store.get().marks;
      if (app.player.id !== video.id && video.made > 0) app.player.open({ id: video.id, fps, running: isMaking(video), at: 0 });
      else if (before && before.id === video.id && isMaking(video) && !isMaking(before) && app.player.id) sync.showVideo();
      else app.player.running = isMaking(video);
    },
  };

  let timer = 0;
  function relook() {
    timer ||= setTimeout(() => {
      timer = 0;
      app.live.load();
    }, LOOK);
  }
  return sync;
}
