/* What is loaded on this server decides which parts of the page are shown. */

import { byId, tell } from "./dom.js";
import * as figures from "./figures.js";
import * as picture from "./picture.js";
import { ask, KeyError, remember } from "./server.js";
import * as text from "./text.js";

async function start() {
  const { models } = await (await ask("models")).json();
  const writing = models.filter((card) => card.task === "text-generation");
  byId("loaded").textContent = `Loaded: ${models.map((card) => card.name).join(", ")}.`;
  byId("to-topology").hidden = !models.some((card) => card.model === "luminanet");
  byId("text").hidden = !writing.length;
  byId("picture").hidden = writing.length === models.length;
  if (!byId("text").hidden) text.start(writing);
  if (!byId("picture").hidden) picture.start();
  await figures.start(models);
}

function failed(error) {
  tell(byId("problem"), error.message);
  byId("key").hidden = !(error instanceof KeyError);
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(new FormData(event.target).get("key"));
  tell(byId("problem"), "");
  byId("key").hidden = true;
  start().catch(failed);
});

start().catch(failed);
