// What belongs to the page as a whole: the view, theme, language, the player's place in the video.
import { lengths, openVideo, shownScript } from "../core/state.js";
import { speak } from "../core/words.js";
import { toast } from "../core/toasts.js";
import { t } from "../core/words.js";
import { starts } from "../timeline/script.js";

const VIEWS = ["create", "library", "queue"];

export function createPage(app) {
  const { store } = app;
  const light = matchMedia("(prefers-color-scheme: light)");

  const page = {
    show(view) {
      store.set({ view });
      for (const name of VIEWS) document.getElementById(name).hidden = name !== view;
      if (view !== "create") history.replaceState(null, "", `#${view}`);
      else history.replaceState(null, "", store.get().open ? `#${store.get().open}` : "#");
    },

    /** The address names a view or a video, so that a reload shows the same. */
    openFromAddress() {
      const name = decodeURIComponent(location.hash.slice(1));
      if (VIEWS.includes(name)) return page.show(name);
      if (store.get().videos[name]) app.runs.open(name);
      return null;
    },

    startTheme() {
      const apply = () => {
        const chosen = localStorage.getItem("longtake.theme") ?? (light.matches ? "light" : "dark");
        document.documentElement.dataset.theme = chosen;
        app.timelineView?.draw();
      };
      light.addEventListener("change", apply);
      page.applyTheme = apply;
      store.set({ letters: localStorage.getItem("longtake.letters") !== "off" });
      apply();
    },
    toggleTheme() {
      localStorage.setItem("longtake.theme", document.documentElement.dataset.theme === "light" ? "dark" : "light");
      page.applyTheme();
    },
    async setLanguage(name) {
      localStorage.setItem("longtake.language", name);
      await speak(name);
      store.set({ words: name });
    },
    setLetters(on) {
      localStorage.setItem("longtake.letters", on ? "on" : "off");
      store.set({ letters: on });
    },
    async copy(text) {
      await navigator.clipboard.writeText(text);
      toast(t("copied"), { kind: "good" });
    },

    setMarks(fields) {
      const marks = { ...store.get().marks, ...fields };
      store.set({ marks });
      app.player.marks = marks;
    },
    /** Set the in point ("from") at the frame that is shown, or the out point ("to") behind it. */
    markHere(which) {
      const { fps, time } = app.player;
      const frame = Math.floor(time * fps + 1e-3);
      page.setMarks({ [which]: (which === "to" ? frame + 1 : frame) / fps });
    },
    toggleSnap() {
      app.timelineView.snap = !app.timelineView.snap;
      toast(`${t("snap")}: ${app.timelineView.snap ? "✓" : "–"}`, { same: "snap", seconds: 2 });
    },
    fullScreen() {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (openVideo(store.get())) document.getElementById("viewer").requestFullscreen?.();
    },

    /** Go to a share of the whole video, as far as it is made. */
    scrub(share) {
      const { made, whole } = lengths(store.get());
      app.player.seek(share * Math.max(whole ?? made, made));
    },

    /** Go to the scene border before or behind the play head. */
    toBorder(way) {
      const script = shownScript(store.get());
      if (!script || !store.get().open) return;
      const borders = [...starts(script).map((frame) => frame / script.fps), app.player.end];
      const now = app.player.time;
      const next = way > 0 ? borders.find((at) => at > now + 0.05) : borders.findLast((at) => at < now - 0.3);
      app.player.seek((next ?? (way > 0 ? app.player.end : 0)) + 0.5 / script.fps);
    },
  };
  return page;
}
