/* Latency and advantage as the server measures them, read every few seconds while they are seen. */

import { byId, bytes, make, seconds, short } from "./dom.js";
import { all, mean, parse, sum, within } from "./metrics.js";
import { send } from "./server.js";

const EVERY_MS = 4000;
const TEXT = "text-generation";
const QUANTITIES = {
  time_to_first_token: "Time to first token",
  time_per_output_token: "Time per further token",
  request_duration: "Time of a whole request",
};

/** `cards`: all of /models. Where /metrics has a port of its own there is nothing to show. */
export async function start(cards) {
  if (!(await read(cards))) return;
  byId("figures").hidden = byId("to-metrics").hidden = false;
  setInterval(() => document.hidden || read(cards), EVERY_MS);
  document.addEventListener("visibilitychange", () => document.hidden || read(cards));
}

async function read(cards) {
  const answer = await send("metrics", { headers: { Accept: "text/plain" } }).catch(() => null);
  if (!answer?.ok) return false;
  const samples = parse(await answer.text());
  byId("by-model").replaceChildren(...cards.map((card) => row(card, samples)));
  states(cards, samples);
  advantage(samples);
  return true;
}

const FAMILIES = { luminanet: "LuminaNet", gpt2: "GPT-2" };

/** The default of a family by the family's name, others by their own. */
export const titled = ({ model, task }) => `${FAMILIES[model] ?? model}, ${task === TEXT ? "text" : "pictures"}`;

function row(card, samples) {
  const of = { model: card.model, task: card.task };
  const ms = (value) => (card.task === TEXT ? seconds(value) : "");
  const cells = [
    sum(samples, "requests_finished_total", of) || 0,
    sum(samples, "requests_running", of),
    sum(samples, "requests_waiting", of),
    ms(mean(samples, "time_to_first_token_seconds", of)),
    ms(mean(samples, "time_per_output_token_seconds", of)),
    ms(within(samples, "inter_token_latency_seconds", 0.95, of)),
    card.task === TEXT ? bytes(sum(samples, "sequence_state_bytes", of)) : "",
  ];
  const head = Object.assign(make("th", {}, titled(card)), { scope: "row" });
  return make("tr", {}, head, ...cells.map((cell) => make("td", {}, String(cell))));
}

function states(cards, samples) {
  for (const { model, task } of cards.filter((card) => card.task === TEXT && card.model in FAMILIES))
    byId(`state-${model}`).textContent = bytes(sum(samples, "sequence_state_bytes", { model, task }));
}

/** Medians with their 95 % intervals, as far as there are enough pairs to tell them. */
function advantage(samples) {
  const tiles = Object.entries(QUANTITIES).map(([quantity, title]) =>
    tile(`${title}, median`, samples, "advantage_ratio", { quantity, quantile: "0.5" }),
  );
  tiles.push(tile("Tokens per second", samples, "throughput_ratio", {}));
  const known = tiles.filter(Boolean);
  const pairs = sum(samples, "throughput_samples", {});
  byId("advantage").replaceChildren(...known);
  byId("no-advantage").hidden = known.length > 0;
  byId("pairs").textContent = known.length
    ? `Of ${pairs} requests that both networks computed; above 1 LuminaNet is faster. In brackets: 95 % intervals.`
    : "";
}

function tile(title, samples, name, labels) {
  const [value, low, high] = ["", "_low", "_high"].map((end) => all(samples, name + end, labels)[0]?.value);
  if (!Number.isFinite(value)) return null;
  return make(
    "div",
    { className: "tile" },
    make("span", { className: "quiet" }, title),
    make("strong", {}, `${short(value)} ×`),
    make("span", { className: "quiet" }, `(${short(low)} to ${short(high)})`),
  );
}
