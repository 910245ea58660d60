// The script of the open video: loaded from the server, edited in place, decided by the run.
import { clock } from "../core/format.js";
import { failed, toast } from "../core/toasts.js";
import { isActive, openVideo } from "../core/state.js";
import { t } from "../core/words.js";
import { editsBetween } from "../timeline/edits.js";
import { emptyHistory, noted, redone, undone } from "../timeline/history.js";
import { joined } from "../timeline/script.js";

export function createLive(app) {
  const { store } = app;
  let loading = 0;
  let sending = Promise.resolve();
  let underway = 0; // edits that the server has not answered yet

  const set = (fields) => store.set((state) => (state.live ? { live: { ...state.live, ...fields } } : {}));

  const actions = {
    /** Fetch the script of the open video and show it, unless another video is open by then. */
    async load() {
      const id = store.get().open;
      const mine = (loading += 1);
      if (!id) return;
      try {
        const found = await app.videos.script(store.get().videos[id]);
        if (mine !== loading || store.get().open !== id) return;
        const before = store.get().live?.id === id ? store.get().live : null;
        const script = joined(found.script);
        const open = found.pending || underway;
        const own = before && (before.held || open); // what the user changed, and the run has not decided yet
        store.set({ live: {
          id, earliest: found.earliest, pending: found.pending, held: !!before?.held, history: before?.history ?? emptyHistory(),
          script: own ? before.script : script, base: before && open ? before.base : script, windows: before?.windows ?? [],
        } });
        if (!before?.windows.length) actions.loadWindows(id); // there are none before the run has begun
      } catch (error) {
        if (error.status !== 404) failed(error);
      }
    },

    /** The windows of the plan, which an edit changes. */
    async loadWindows(id) {
      const windows = await app.videos.windows(id).catch(() => []);
      if (store.get().live?.id === id) set({ windows });
    },

    /** The first frame that can still change has moved on. */
    reached(id, earliest) {
      const { live } = store.get();
      if (live?.id === id && earliest > live.earliest) set({ earliest });
    },

    /** Show a script that changes no frame yet (a scene that was split), until it is sent with the next change. */
    hold: (script) => set({ script, held: true }),

    /** Ask for a changed script. False if it is refused here already; what the server refuses comes back later. */
    change(next, { onRefused = () => {}, history = null } = {}) {
      const { live } = store.get();
      const video = openVideo(store.get());
      if (!isActive(video) && !video.stopped) {
        toast(t("refused", { time: clock(live.earliest / next.fps) }), { kind: "bad", same: "refused" });
        return false;
      }
      const { edits, refused } = editsBetween(live.base, next, live.earliest);
      if (refused) {
        if (refused.reason === "begun") onRefused(live.earliest);
        else toast(t("refusedShorter"), { kind: "bad", same: "refused" });
        return false;
      }
      set({ script: next, base: joined(next), held: false, history: history ?? noted(live.history, live.script) });
      sending = sending.then(() => send(live.id, edits, live, onRefused));
      return true;
    },

    undo: () => step(undone),
    redo: () => step(redone),
  };

  async function send(id, edits, before, onRefused) {
    underway += 1;
    try {
      await app.videos.edit(id, edits, before.script.fps);
      underway -= 1;
    } catch (error) {
      underway -= 1;
      const { live } = store.get();
      if (live?.id === id) set({ script: before.script, base: before.base, history: before.history, held: false });
      if (error.code === "too_late") {
        await actions.load();
        const earliest = store.get().live?.earliest ?? 0;
        offerLater(id, edits, earliest, before.script.fps);
        onRefused(earliest);
      } else failed(error);
    }
    await actions.load();
    actions.loadWindows(id);
  }

  /** A text that came too late is kept: it can be applied from the first time that can still change. */
  function offerLater(id, edits, earliest, fps) {
    const text = edits.find((one) => one.op === "replace");
    if (!text) return;
    const run = () => app.videos.edit(id, [{ ...text, at: earliest }], fps).then(actions.load, failed);
    toast(t("tooLate"), { kind: "bad", more: text.prompt, seconds: 20, same: "refused", action: { label: t("applyFrom", { time: clock(earliest / fps, 1) }), run } });
  }

  function step(way) {
    const { live } = store.get();
    const found = live && way(live.history, live.script);
    if (found) actions.change(found.value, { history: found.history });
  }
  return actions;
}
