// The library: all videos of the folder. A thousand cards stay fast, since only a card whose video changed is drawn again.
import { html, nothing, render, throttled } from "../core/dom.js";
import { icon } from "../core/icons.js";
import { t } from "../core/words.js";
import { cardView } from "./card.js";
import { ORDERS, matching } from "./filter.js";

export function mountLibrary(root, app) {
  const query = { text: "", order: "newest", starred: false };
  const cards = new Map(); // id -> {element, video, chosen}
  const frame = document.createElement("div");
  frame.className = "grid";
  frame.setAttribute("role", "list");
  const redraw = throttled(() => draw(), 60);

  function draw() {
    const state = app.store.get();
    if (state.view !== "library") return;
    const found = matching(Object.values(state.videos), query);
    render(layout(app, state, query, found, frame, redraw), root);
    fill(app, state, cards, frame, found);
  }
  app.store.on(["view", "videos", "listed", "chosen", "words", "more"], redraw);
  root.addEventListener("keydown", (event) => arrows(event, frame, app));
}

function layout(app, state, query, found, frame, redraw) {
  const set = (name) => (event) => {
    query[name] = event.target.type === "checkbox" ? event.target.checked : event.target.value;
    redraw();
  };
  const starred = () => {
    query.starred = !query.starred;
    redraw();
  };
  return html`
    <div class="inner">
      <div class="page-head">
        <h1>${t("library")}</h1>
        <div class="search">${icon("search")}<input type="search" aria-label=${t("search")} placeholder=${t("search")} .value=${query.text} @input=${set("text")}></div>
        <select aria-label=${t("sortBy")} .value=${query.order} @change=${set("order")}>${Object.keys(ORDERS).map((name) => html`<option value=${name}>${t(name)}</option>`)}</select>
        <button aria-pressed=${query.starred} @click=${starred}>${icon("star", "small")}${t("onlyStarred")}</button>
        <span class="space"></span>
        <span class="count" role="status">${t("found", { n: found.length })}</span>
      </div>
      ${Object.keys(state.videos).length ? nothing : html`<div class="empty">${icon("film")}<h2>${t("libraryEmpty")}</h2><p>${t("libraryEmptyText")}</p><button class="primary" @click=${() => app.show("create")}>${t("newVideo")}</button></div>`}
      ${frame}
      ${state.more ? html`<button @click=${() => app.loadMore()}>${t("loadMore")}</button>` : nothing}
      ${selection(app, state)}
    </div>`;
}

function selection(app, state) {
  if (!state.chosen.length) return nothing;
  return html`
    <div class="select-bar" role="status">
      <span>${state.chosen.length} / 2 · ${t("compareTwo")}</span><span class="space"></span>
      <button class="plain" @click=${() => app.store.set({ chosen: [] })}>${t("cancel")}</button>
      <button class="primary" ?disabled=${state.chosen.length !== 2} @click=${() => app.dialogs.compare(state.chosen)}>${icon("compare", "small")}${t("compare")}</button>
    </div>`;
}

/** Bring the cards into order; draw those that are new or changed. */
function fill(app, state, cards, frame, found) {
  const wanted = new Set(found.map((video) => video.id));
  for (const [id, card] of cards) {
    if (wanted.has(id)) continue;
    card.element.remove();
    cards.delete(id);
  }
  let before = null;
  for (const video of found) {
    const chosen = state.chosen.includes(video.id);
    let card = cards.get(video.id);
    if (!card) {
      card = { element: document.createElement("article"), video: null, chosen: null, words: null };
      cards.set(video.id, card);
    }
    if (card.video !== video || card.chosen !== chosen || card.words !== state.words) {
      Object.assign(card, { video, chosen, words: state.words });
      cardView(app, card.element, video, chosen);
    }
    const place = before ? before.nextSibling : frame.firstChild;
    if (place !== card.element) frame.insertBefore(card.element, place);
    before = card.element;
  }
  const current = frame.querySelector('[tabindex="0"]');
  if (!current && frame.firstChild) frame.firstChild.tabIndex = 0;
}

/** Arrow keys walk over the cards, Enter opens, Delete deletes, S selects. */
function arrows(event, frame, app) {
  const card = event.target.closest?.(".card");
  if (!card || event.target !== card) return;
  const all = [...frame.children];
  const columns = Math.max(1, all.findIndex((one) => one.offsetTop > all[0].offsetTop));
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const go = by ? all[all.indexOf(card) + by] : { Home: all[0], End: all.at(-1) }[event.key];
  if (go) {
    event.preventDefault();
    card.tabIndex = -1;
    go.tabIndex = 0;
    go.focus();
  } else if (event.key === "Enter") app.runs.open(card.dataset.id);
  else if (event.key === "Delete") app.runs.remove(card.dataset.id);
  else if (event.key === " ") {
    event.preventDefault();
    app.runs.choose(card.dataset.id);
  }
}
