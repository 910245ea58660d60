// The page: its parts are made here, given to each other through `app`, and started.
import { createClient } from "./api/client.js";
import { followEvents } from "./api/events.js";
import { NAMES, applied } from "./api/feedback.js";
import { createVideos, urls } from "./api/videos.js";
import { createDraft } from "./actions/draft.js";
import { createLive } from "./actions/live.js";
import { createRuns } from "./actions/runs.js";
import { createTimeline } from "./actions/timeline.js";
import { followCost } from "./composer/cost.js";
import { mountComposer } from "./composer/view.js";
import { size } from "./core/format.js";
import { initialState } from "./core/state.js";
import { createStore } from "./core/store.js";
import { createThumbs } from "./core/thumbs.js";
import { preferred, speak } from "./core/words.js";
import { confirm } from "./dialogs/dialog.js";
import { compareDialog } from "./dialogs/compare.js";
import { modelsDialog } from "./dialogs/models.js";
import { exportDialog, extendDialog, keysDialog } from "./dialogs/small.js";
import { mountLibrary } from "./library/view.js";
import { mountQueue } from "./library/queue.js";
import { createPreviews } from "./player/previews.js";
import { mountStage } from "./player/view.js";
import { mountBar } from "./shell/bar.js";
import { startDrops } from "./shell/drops.js";
import { startKeys } from "./shell/keys.js";
import { createPage } from "./shell/page.js";
import { createSync } from "./shell/sync.js";
import { mountTimeline } from "./timeline/view.js";

const element = (id) => document.getElementById(id);

async function start() {
  await speak(preferred(localStorage.getItem("longtake.language"), navigator.languages));
  const store = createStore(initialState());
  const app = { store, urls, size };
  const client = createClient(undefined, (alive) => app.alive?.(alive));
  app.videos = createVideos(client);
  app.thumbs = createThumbs(urls);
  app.previews = createPreviews(app);
  app.draft = createDraft(app);
  app.live = createLive(app);
  app.runs = createRuns(app);
  app.timeline = createTimeline(app);
  app.make = app.runs.make;
  app.dialogs = {
    keys: () => keysDialog(app),
    models: () => modelsDialog(app),
    extend: (id) => extendDialog(app, id),
    exportRange: () => exportDialog(app),
    compare: (ids) => compareDialog(app, ids),
    confirm,
  };
  Object.assign(app, createPage(app), createSync(app));
  app.startTheme();
  app.draft.restore();

  mountBar(element("bar"), element("banner"), app);
  mountStage(element("stage"), app);
  mountComposer(element("composer"), app);
  mountTimeline(element("timeline"), app);
  mountLibrary(element("library"), app);
  mountQueue(element("queue"), app);
  startKeys(app);
  startDrops(app);
  followCost(app);
  await app.refresh().catch(() => {});
  app.openFromAddress();
  followEvents("/v1/events", NAMES, { onEvent: (name, data) => app.onEvent(name, data, applied), onAlive: app.alive });
}

start();
