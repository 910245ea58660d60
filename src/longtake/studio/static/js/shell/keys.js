// The keys of the page. None acts while text is typed, an input method composes, or a dialog is open.
import { takesText } from "../core/dom.js";

/** Start to listen. */
export function startKeys(app) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const control = event.ctrlKey || event.metaKey;
    const act = control ? withControl(app, event) : takesText(document.activeElement) ? null : plain(app, event);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function withControl(app, event) {
  if (event.key === "Enter") return () => app.make();
  if (takesText(document.activeElement)) return null;
  const key = event.key.toLowerCase();
  if (key === "z") return () => (event.shiftKey ? app.timeline.redo() : app.timeline.undo());
  if (key === "y") return () => app.timeline.redo();
  if (key === "k") return () => app.timeline.split();
  return null;
}

function plain(app, event) {
  const { player } = app;
  if (event.key === "?") return () => app.dialogs.keys();
  if (app.store.get().view !== "create") return null;
  const onControl = document.activeElement?.closest?.("button, a, summary, [role=slider], [role=option], input");
  const arrows = {
    ArrowLeft: () => (event.shiftKey ? player.seek(player.time - 1) : player.step(-1)),
    ArrowRight: () => (event.shiftKey ? player.seek(player.time + 1) : player.step(1)),
    ArrowUp: () => app.toBorder(-1),
    ArrowDown: () => app.toBorder(1),
    Home: () => player.seek(0),
    End: () => player.goLive(),
    " ": () => player.toggle(),
    Delete: () => app.timeline.remove(app.store.get().scene),
    Escape: () => document.activeElement?.blur(),
  };
  if (event.altKey && event.key.toLowerCase() === "x") return () => app.setMarks({ from: null, to: null });
  if (event.key in arrows) return onControl || event.altKey ? null : arrows[event.key];
  if (!app.store.get().letters || event.altKey) return null;
  return letter(app, event);
}

function letter(app, event) {
  const { player } = app;
  const marks = app.store.get().marks;
  const acts = {
    j: () => player.shuttle("j"),
    k: () => player.shuttle("k"),
    l: () => player.shuttle("l"),
    i: () => (event.shiftKey ? player.seek(marks.from ?? 0) : app.markHere("from")),
    o: () => (event.shiftKey ? player.seek(marks.to ?? player.end) : app.markHere("to")),
    b: () => app.timeline.split(),
    s: () => app.toggleSnap(),
    f: () => app.fullScreen(),
    "`": () => app.fullScreen(),
    n: () => app.runs.open(null),
    "=": () => app.timelineView.zoom(1),
    "+": () => app.timelineView.zoom(1),
    "-": () => app.timelineView.zoom(-1),
    "\\": () => app.timelineView.zoom(null),
  };
  return acts[event.key.toLowerCase()] ?? null;
}
