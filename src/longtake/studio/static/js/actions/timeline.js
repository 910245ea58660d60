// What the timeline does to a script: to the draft at once, to a running video by edits that the server decides.
import { download } from "../core/dom.js";
import { clock } from "../core/format.js";
import { openVideo, shownScript } from "../core/state.js";
import { announce, failed, toast } from "../core/toasts.js";
import { t } from "../core/words.js";
import { toLines, toToml } from "../timeline/files.js";
import { scriptOf } from "../composer/form.js";
import { change, duplicate, insertAfter, remove, reorder, scene, sceneAt, split } from "../timeline/script.js";

export function createTimeline(app) {
  const { store } = app;
  const script = () => shownScript(store.get());
  const view = () => app.timelineView;
  const playFrame = () => Math.round(app.player.time * script().fps);

  const actions = {
    /** Use a changed script. border: the one that was moved, which snaps back if the change is refused. */
    apply(next, { border = null, kind = "" } = {}) {
      if (!next || next === script()) return true;
      if (!store.get().open) {
        app.draft.setScript(next, kind);
        return true;
      }
      return app.live.change(next, { onRefused: (at) => snapBack(border, at) });
    },

    select(i, focus = false) {
      store.set({ scene: i });
      if (focus) requestAnimationFrame(() => setTimeout(() => view().root.querySelector(`[data-scene="${i}"]`)?.focus(), 70));
    },

    /** Edit the prompt of a scene in its block; null ends it. */
    edit(i) {
      view().editing = i;
      view().seen = undefined;
      view().draw();
      const find = () => view().root.querySelector(i === null ? `[data-scene="${store.get().scene}"]` : ".in-place textarea");
      requestAnimationFrame(() => setTimeout(() => {
        find()?.focus();
        if (i !== null) find()?.select();
      }, 70));
    },

    /** seen: the text that the user began to edit; another page may have changed it meanwhile. */
    async setPrompt(i, prompt, seen) {
      if (store.get().open && seen !== undefined && prompt !== seen) await app.live.load();
      const before = script().scenes[i]?.prompt;
      if (prompt.trim() && before !== undefined && before !== prompt) {
        actions.apply(change(script(), i, { prompt }));
        if (seen !== undefined && before !== seen) offerTheirs(i, before, prompt);
      }
    },
    setCut: (i, cut) => actions.apply(change(script(), i, { cut })),
    split() {
      const at = store.get().open ? Math.max(playFrame(), 1) : playFrame() || half();
      const next = split(script(), at);
      if (next === script()) return;
      if (store.get().open) app.live.hold(next); // a split alone changes no frame: it is sent with what is done to its halves
      else actions.apply(next);
      actions.select(sceneAt(next, at), true);
    },
    insert() {
      const i = store.get().scene;
      const next = insertAfter(script(), i, scene(store.get().open ? script().scenes[i].prompt : "", 5 * script().fps));
      if (actions.apply(next)) {
        actions.select(i + 1);
        actions.edit(i + 1);
      }
    },
    duplicate(i) {
      if (actions.apply(duplicate(script(), i))) actions.select(i + 1, true);
    },
    remove(i) {
      const live = !!store.get().open;
      if (script().scenes.length > 1 && actions.apply(remove(script(), i, live))) actions.select(Math.max(0, i - 1), true);
    },
    move(from, to) {
      const target = Math.max(0, Math.min(script().scenes.length - 1, to));
      if (target === from || !actions.apply(reorder(script(), from, target))) return;
      actions.select(target, true);
      announce(t("moved", { n: from + 1, to: target + 1, of: script().scenes.length }));
    },

    undo: () => (store.get().open ? app.live.undo() : app.draft.undo()),
    redo: () => (store.get().open ? app.live.redo() : app.draft.redo()),

    async importFile(file) {
      if (!file) return;
      try {
        const { scenes } = await app.videos.readScript(file.name, await file.text());
        const { draft, form } = store.get();
        app.draft.replace(form, scriptOf(scenes, draft.fps, scenes.reduce((sum, one) => sum + Math.round((one.seconds ?? 5) * draft.fps), 0)));
      } catch (error) {
        failed(error);
      }
    },
    exportFile(kind) {
      const text = kind === "toml" ? toToml(script()) : toLines(script());
      const name = openVideo(store.get())?.id ?? "script";
      download(new Blob([text], { type: "text/plain" }), `${name}.${kind}`);
    },
  };

  /** Half of the selected scene: where a draft is split while the play head stands at 0. */
  function half() {
    const { scenes } = script();
    const i = store.get().scene;
    return scenes.slice(0, i).reduce((sum, one) => sum + one.frames, 0) + Math.round(scenes[i].frames / 2);
  }

  /** The last text wins; the one that it replaced is shown and can be taken back. */
  function offerTheirs(i, theirs, mine) {
    const run = () => actions.apply(change(script(), i, { prompt: theirs }));
    const more = `${t("theirs", { text: theirs })} · ${t("mine", { text: mine })}`;
    toast(t("editedElsewhere"), { kind: "bad", more, seconds: 20, action: { label: t("keepTheirs"), run } });
  }

  function snapBack(border, earliest) {
    view().refusedAt = border;
    view().draw();
    setTimeout(() => {
      view().refusedAt = null;
      view().draw();
    }, 1600);
    toast(t("refused", { time: clock(earliest / script().fps) }), { kind: "bad", seconds: 6, same: "refused" });
  }
  return actions;
}
